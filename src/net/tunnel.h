#ifndef KBGP_NET_TUNNEL_H
#define KBGP_NET_TUNNEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/web_proxy.h"

/*
 * What is said to a web proxy to get a connection to a host: HTTP CONNECT (RFC 9110 section 9.3.6, Basic
 * authentication of RFC 7617) or SOCKS5 (RFC 1928, user and password of RFC 1929). No socket: bytes in, bytes
 * out. The host's name goes to the proxy as it is; the proxy resolves it.
 *
 * The proxy's bytes are fed one at a time, so that none behind its answer is taken: they are the other side's
 * already.
 */
struct tunnel;

enum tunnel_state {
    TUNNEL_MORE,    /* send what stands in tunnel_out(), read on */
    TUNNEL_OPEN,    /* from the next byte on it is the host that speaks */
    TUNNEL_REFUSED, /* over; the reason was told */
};

/* How much of an answer we listen to. */
#define TUNNEL_ANSWER_MAX (16u << 10)

/* `proxy` must outlive it. NULL with the reason in `e`: the host cannot be named to such a proxy, or no
 * memory. */
struct tunnel *tunnel_new(const struct web_proxy *proxy, const char *host, uint16_t port, struct err *e);
/* NULL is allowed. */
void tunnel_free(struct tunnel *t);

/* What is to be sent; the caller takes (buf_take) what it has sent. It may contain the password. */
struct buf *tunnel_out(struct tunnel *t);
/* The next byte of the proxy. After TUNNEL_OPEN or TUNNEL_REFUSED nothing more may be fed. */
enum tunnel_state tunnel_feed(struct tunnel *t, uint8_t byte, struct err *e);
/* Whether the proxy has said anything yet. */
bool tunnel_answered(const struct tunnel *t);

#endif
