#ifndef KBGP_NET_RESOLVE_H
#define KBGP_NET_RESOLVE_H

#include <stddef.h>

#include "base/addr.h"
#include "base/err.h"
#include "net/loop.h"

/*
 * The addresses of a name, by the system's resolver (getaddrinfo: /etc/hosts, DNS, whatever nsswitch says),
 * asked anew each time. It runs in a thread of its own that nobody waits for: giving up, or ending the
 * program, does not block while a DNS server keeps silent.
 */
struct resolve;

#define RESOLVE_ADDRS_MAX 16

/*
 * Called once, from the loop: with the addresses in the resolver's order of preference (RFC 6724), or with n
 * == 0 and the reason. They are valid during the call. The request frees itself before.
 */
typedef void resolve_done(void *arg, const struct addr *addrs, size_t n, const struct err *why);

/* An address in text (IPv6 without brackets) is answered as well. NULL with the reason in `e`. */
struct resolve *resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_done *done,
                              void *arg, struct err *e);
/* Gives up without calling back; NULL is allowed. */
void resolve_cancel(struct resolve *r);

#endif
