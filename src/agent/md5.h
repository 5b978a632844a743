#ifndef KBGP_AGENT_MD5_H
#define KBGP_AGENT_MD5_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/control.h"
#include "agent/keyring.h"
#include "net/listener.h"
#include "net/tcpmd5.h"

/*
 * TCP-MD5 (docs/protocol.md, part 2): keys that Control answers or pushes go onto the listeners
 * (agent/keyring) and onto the sessions that are up; a signed SYN of a device without a key (agent/synwatch)
 * makes the agent ask Control. With --enable-md5-support off nothing of this happens, and a device that
 * should have a key is let in with a warning.
 */
struct md5;
struct device_host;

/* Kernel failures to install a key, the label `reason` of kbgp_md5_key_failures_total. */
struct md5_stats {
    uint64_t keys; /* now installed */
    uint64_t syns; /* signed ones seen, retransmissions included */
    uint64_t asked, not_asked;
    uint64_t key_nomem, key_other;
    uint64_t capture_dropped;
    struct tcpmd5_failures kernel; /* since boot */
};

/* Off until md5_start(). NULL without memory. `host` is borrowed. */
struct md5 *md5_new(struct loop *loop, struct device_host *host);
/*
 * Opens the capture, and takes the listeners (borrowed until md5_stop()). False with the reason, in words for
 * an operator. `interface` is borrowed.
 */
bool md5_start(struct md5 *m, struct listener *const *listeners, size_t n, const char *interface,
               struct err *e);
/* The listeners are about to be closed. */
void md5_stop(struct md5 *m);
void md5_free(struct md5 *m);

/* Control answered or pushed this, and nobody has acted on it yet. */
void md5_answered(struct md5 *m, const struct control_response *r);
/* The target, or we, killed a session of the device: its key is forgotten. */
void md5_killed(struct md5 *m, const struct addr *device);

/* A connection of `device` is accepted from this listener. Returns the id of the key that it is signed with;
 * 0: unsigned. */
uint64_t md5_accepted(struct md5 *m, const struct addr *device, const struct listener *from);
/*
 * Whether a connection that `answer` allows may stay: it may not where the device has a key and the
 * connection is not signed. Puts a key that changed meanwhile onto its socket `fd`, and updates *id. The
 * refusal is logged.
 */
bool md5_admits(struct md5 *m, const struct addr *device, int fd, uint64_t *id,
                const struct control_response *answer);

/* Off, or the capture runs. */
bool md5_healthy(const struct md5 *m);
struct md5_stats md5_stats(const struct md5 *m);

#endif
