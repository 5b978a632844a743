#ifndef KBGP_NET_LISTENER_H
#define KBGP_NET_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "net/loop.h"

/* A listening TCP socket. IPv6 sockets take IPv6 only, so that 0.0.0.0 and [::] stand beside each other. */
struct listener;

/* A connection came in: `fd` is non-blocking and belongs to the callee. */
typedef void listener_accepted(void *arg, int fd, const struct addr *peer, const struct addr *local);

/*
 * Binds and listens. The address need not exist on the host yet (a VIP of keepalived: IP_FREEBIND). NULL with the reason in
 * `e`, in words for an operator: in use, or which right is missing.
 */
struct listener *listener_new(struct loop *loop, const struct addr *addr, listener_accepted *accepted,
                              void *arg, struct err *e);
/*
 * Whether an address to listen on is to be passed over: [::] on a host without IPv6 (ipv6.disable=1), where the default pair
 * 0.0.0.0 and [::] should serve as well. Logs it.
 */
bool listener_pass_over(const struct addr *addr);
/* The address bound to: with the port the kernel chose when 0 was asked for. */
const struct addr *listener_addr(const struct listener *l);
int listener_fd(const struct listener *l);
/* When no connection waited to be accepted any more, last time (CLOCK_MONOTONIC, nanoseconds); 0: never yet. */
int64_t listener_emptied_ns(const struct listener *l);
void listener_free(struct listener *l);

#endif
