#ifndef KBGP_NET_DIAL_H
#define KBGP_NET_DIAL_H

#include <stdint.h>

#include "base/err.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls_ctx.h"

/*
 * From a name to a stream that is ready to use: resolve (net/resolve), connect (all addresses of the name,
 * IPv6 and IPv4 raced: net/tcp_race), through a web proxy where the environment names one (net/web_proxy,
 * net/tunnel), TLS if asked. One deadline over all of it, one answer.
 *
 * Through a proxy it is the proxy's name that is resolved here and the proxy that is connected to; the
 * target's name is resolved by the proxy. What comes out of an http:// or SOCKS proxy is the plain socket, as
 * without a proxy; out of an https:// proxy comes a stream inside the TLS connection to the proxy.
 *
 * libcurl could do the first half, but its resolver thread is waited for when a transfer is given up: with a
 * DNS server that keeps silent the event loop stood still for 12 s and more.
 */
struct dial;

/*
 * Where it failed; also the label `stage` of kbgp_connection_failures_total. DIAL_PROXY: whatever fails on
 * the way to the proxy or because of its answer; the reason names the proxy as scheme://host:port and the
 * variable it comes from, never its user or password.
 */
enum dial_stage { DIAL_DNS, DIAL_TCP, DIAL_PROXY, DIAL_TLS };
const char *dial_stage_name(enum dial_stage stage);

struct dial_target {
    const char *host; /* DNS name or IP address (IPv6 without brackets) */
    uint16_t port;
    struct tls_ctx *tls;     /* NULL: plain */
    const char *server_name; /* to verify; NULL: host */
    /* Trust for an https:// proxy. NULL: that of `tls`, or the system's trust store where `tls` is NULL, too.
     */
    struct tls_ctx *proxy_tls;
};

/* How long all of it may take. */
#define DIAL_TIMEOUT_MS 15000

/*
 * Called once, from the loop: with a ready stream, which then belongs to the callee (it has no owner yet:
 * stream_set_owner()), or with NULL, the stage and the reason. The dial frees itself afterwards.
 */
typedef void dial_done(void *arg, struct stream *stream, enum dial_stage stage, const struct err *why);

/* The target's strings are copied, its contexts must outlive the dial. NULL with the reason in `e`. */
struct dial *dial_start(struct loop *loop, const struct dial_target *target, dial_done *done, void *arg,
                        struct err *e);
/* Gives up without calling back. */
void dial_cancel(struct dial *d);

#endif
