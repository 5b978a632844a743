#ifndef KBGP_NET_TCP_RACE_H
#define KBGP_NET_TCP_RACE_H

#include <stddef.h>

#include "base/addr.h"
#include "base/err.h"
#include "net/loop.h"

/*
 * Connecting to a host with several addresses (RFC 8305, "happy eyeballs"): IPv6 and IPv4 by turns, the next
 * one started when the one before fails, or has not answered for TCP_RACE_DELAY_MS; all that were started
 * stay in the race and the first connection wins. There is no deadline here: the caller has one.
 */
struct tcp_race;

#define TCP_RACE_DELAY_MS  250
#define TCP_RACE_ADDRS_MAX 16

/*
 * Called once, from the loop: with a connected non-blocking socket that belongs to the callee, or with -1 and
 * what became of each address. The race frees itself before.
 */
typedef void tcp_race_done(void *arg, int fd, const struct err *why);

/*
 * Readies a fresh socket before it is connected to `to`. False with the reason: this address is given up, and
 * the reason stands for what became of it.
 */
typedef bool tcp_race_prepare(void *arg, int fd, const struct addr *to, struct err *e);

/* `addrs` in order of preference, 1 to TCP_RACE_ADDRS_MAX (more are not tried). NULL without memory. */
struct tcp_race *tcp_race_start(struct loop *loop, const struct addr *addrs, size_t n, tcp_race_done *done,
                                void *arg);
/* The same, each socket readied first; `prepare` may be NULL. It gets the `arg` of `done`. */
struct tcp_race *tcp_race_start_prepared(struct loop *loop, const struct addr *addrs, size_t n,
                                         tcp_race_prepare *prepare, tcp_race_done *done, void *arg);
/* Gives up without calling back; NULL is allowed. */
void tcp_race_cancel(struct tcp_race *r);
/* For a deadline's words: what became of each address so far. */
void tcp_race_describe(const struct tcp_race *r, struct err *e);

#endif
