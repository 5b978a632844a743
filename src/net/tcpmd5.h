#ifndef KBGP_NET_TCPMD5_H
#define KBGP_NET_TCPMD5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

/*
 * TCP-MD5 keys (RFC 2385) on sockets: TCP_MD5SIG_EXT with a prefix of all 32 or 128 bits.
 *
 * A listening socket holds a key for each peer; an accepted socket inherits the one of its peer, which is
 * then not to be set again: some kernels refuse that with EINVAL. Keys of a socket come out of
 * net.core.optmem_max.
 */
#define TCPMD5_KEY_MAX 80

/*
 * Puts the key of `peer` (its port does not matter) onto a socket of the same address family, in place of the
 * one that stands there. `len` is 1 to TCPMD5_KEY_MAX. False with the reason in words for an operator, and
 * errno: ENOMEM where net.core.optmem_max is used up, ENOPROTOOPT where the kernel has no TCP-MD5.
 */
bool tcpmd5_set(int fd, const struct addr *peer, const uint8_t *key, size_t len, struct err *e);

/* Takes the key of `peer` off; that there was none is no failure. False with the reason and errno. */
bool tcpmd5_remove(int fd, const struct addr *peer, struct err *e);

/* Segments that the kernel dropped since boot, in this network namespace. */
struct tcpmd5_failures {
    uint64_t not_found;  /* unsigned, of a peer that has a key */
    uint64_t unexpected; /* signed, of a peer that has none */
    uint64_t failure;    /* signed with another key, or damaged */
};

/* Reads /proc/net/netstat. False: it cannot be read, or does not have them; `out` is zero then. */
bool tcpmd5_failures(struct tcpmd5_failures *out);

#endif
