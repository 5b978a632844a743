#ifndef KBGP_NET_DIAL_H
#define KBGP_NET_DIAL_H

#include <stdint.h>

#include "base/err.h"
#include "net/curl_loop.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls_ctx.h"

/*
 * From a name to a stream that is ready to use: resolve, connect (all addresses of the name, IPv6 and IPv4 raced,
 * RFC 8305), TLS if asked. One deadline over all of it, one answer. libcurl does the first half.
 */
struct dial;

/* Where it failed; also the label `stage` of kbgp_connection_failures_total. */
enum dial_stage { DIAL_DNS, DIAL_TCP, DIAL_PROXY, DIAL_TLS };
const char *dial_stage_name(enum dial_stage stage);

struct dial_target {
    const char *host; /* DNS name or IP address (IPv6 without brackets) */
    uint16_t port;
    struct tls_ctx *tls;     /* NULL: plain */
    const char *server_name; /* to verify; NULL: host */
};

/* How long all of it may take. */
#define DIAL_TIMEOUT_MS 15000

/*
 * Called once, from the loop: with a ready stream, which then belongs to the callee (it has no owner yet: stream_set_owner()),
 * or with NULL, the stage and the reason. The dial frees itself afterwards.
 */
typedef void dial_done(void *arg, struct stream *stream, enum dial_stage stage, const struct err *why);

/* The target's strings are copied. NULL with the reason in `e`. */
struct dial *dial_start(struct loop *loop, struct curl_loop *curl, const struct dial_target *target, dial_done *done,
                        void *arg, struct err *e);
/* Gives up without calling back. */
void dial_cancel(struct dial *d);

#endif
