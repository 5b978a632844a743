#ifndef KBGP_BRIDGE_TCP_END_H
#define KBGP_BRIDGE_TCP_END_H

#include "bridge/bridge.h"

/*
 * A TCP connection as the local end of a bridge: the router's at the agent, the BGP daemon's at the target. Reads straight
 * into the session's ring and writes straight out of it.
 */

/* After our FIN: how long the other side may take to close too, before the socket is closed anyway. */
#define TCP_END_LINGER_MS 5000

/* Takes over a connected non-blocking socket and gives it to the bridge. NULL with the reason in `e`; the socket is closed
 * then. */
struct bridge_local *tcp_end_new(struct bridge *b, int fd, struct err *e);

/* Reads what has come already. Without this the loop says when there is something to be read. */
void tcp_end_read_now(struct bridge_local *l);

/* Closes at once those that still wait for the other side to close (pool->lingering): the program ends. */
void tcp_end_cut_lingering(struct bridge_pool *pool);

/*
 * What BGP connections are sent with: TTL 255 (so that the other end's GTSM passes), DSCP CS6, TCP keepalive, no delay. For a
 * socket that listens, or that is about to connect: the handshake's packets need the TTL, too. `family`: 4 or 6.
 */
void tcp_end_bgp_options(int fd, uint8_t family);
/*
 * The same for a connection of a listener that has these options: the kernel hands them on, all but DSCP where
 * net.ipv4.tcp_reflect_tos is on.
 */
void tcp_end_bgp_accepted(int fd, uint8_t family);

#endif
