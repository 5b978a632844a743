#ifndef KBGP_NET_TCP_CONNECT_H
#define KBGP_NET_TCP_CONNECT_H

#include <stddef.h>

#include "base/addr.h"
#include "base/err.h"
#include "net/loop.h"

/* Connecting to one of several addresses, tried in their order. */
struct tcp_connect;

/* How long one address may take. */
#define TCP_CONNECT_TIMEOUT_MS 5000
#define TCP_CONNECT_ADDRS_MAX  8

/*
 * Called once, from the loop: with a connected non-blocking socket that belongs to the callee, or with -1 and the reason (of
 * the last address). The attempt frees itself before.
 */
typedef void tcp_connect_done(void *arg, int fd, const struct err *why);

struct tcp_connect *tcp_connect_start(struct loop *loop, const struct addr *addrs, size_t n, tcp_connect_done *done,
                                      void *arg);
/* Gives up without calling back. */
void tcp_connect_cancel(struct tcp_connect *c);

/*
 * The addresses of a name (or an address in text), at most TCP_CONNECT_ADDRS_MAX. Asks the system's resolver and blocks: for
 * the start of a program only. Returns how many; 0 with the reason in `e`.
 */
size_t tcp_resolve(const char *host, uint16_t port, struct addr out[static TCP_CONNECT_ADDRS_MAX], struct err *e);

#endif
