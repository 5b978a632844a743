#ifndef KBGP_GRPC_CONN_H
#define KBGP_GRPC_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/list.h"
#include "grpc/call.h"
#include "grpc/h2.h"
#include "net/loop.h"
#include "net/stream.h"

/*
 * HTTP/2 on a stream: reads, writes (one flush a turn of the loop), finds a dead peer by PING, drains. Owns its stream and
 * its calls.
 */

/* Silence after which a PING is sent, and how long its answer may take (docs/protocol.md, part 2). */
#define GRPC_PING_SILENCE_MS 20000
#define GRPC_PING_TIMEOUT_MS 10000
/* A released call (see call.h) that has not ended by then is cancelled. */
#define GRPC_RELEASE_MS 5000
/* How many calls one connection may have open at a server of ours. */
#define GRPC_SERVER_STREAMS 1024
/* The longest message taken. */
#define GRPC_MESSAGE_MAX (4u << 20)

/* Why a connection ended; also the label `reason` of kbgp_control_reconnects_total. */
enum grpc_conn_end {
    GRPC_END_CLOSED,       /* the other side closed */
    GRPC_END_RESET,        /* TCP or TLS broke */
    GRPC_END_PING_TIMEOUT, /* it did not answer */
    GRPC_END_PROTOCOL,     /* what came is not HTTP/2, or not by its rules */
    GRPC_END_GOAWAY,       /* drained after a GOAWAY */
    GRPC_END_LOCAL,        /* we closed */
};
const char *grpc_conn_end_name(enum grpc_conn_end end);

struct grpc_conn_ops {
    /* Client: the server's SETTINGS have come, calls may be opened. */
    void (*ready)(void *arg);
    /* Server: a call came in. Take it (grpc_call_accept) or end it (grpc_call_finish), now or later. */
    void (*call)(void *arg, struct grpc_call *call, const char *path, const struct kv *metadata);
    /* The other side takes no new calls (GOAWAY); those that are open go on. */
    void (*draining)(void *arg, uint32_t error, const char *debug);
    /* The connection is gone, and every call with it (they were told before). The last callback; the conn frees itself. */
    void (*closed)(void *arg, enum grpc_conn_end end, const struct err *why);
};

struct grpc_conn *grpc_conn_new(struct loop *loop, struct stream *stream, bool server, const char *authority,
                                const struct grpc_conn_ops *ops, void *arg);
/* Says GOAWAY and closes when the last call is over. */
void grpc_conn_drain(struct grpc_conn *c);
/* Closes at once. Calls are told; `closed` of the conn is not called. */
void grpc_conn_close(struct grpc_conn *c, const char *why);

/* How many more calls the other side takes now (client). */
uint32_t grpc_conn_room(const struct grpc_conn *c);
uint32_t grpc_conn_calls(const struct grpc_conn *c);
/* The connection has ended, and the news is on its way. */
bool grpc_conn_is_dead(const struct grpc_conn *c);
/* Smoothed round trip in nanoseconds, 0: not known. */
int64_t grpc_conn_rtt_ns(const struct grpc_conn *c);
/* See stream_tls_expiry(). */
int64_t grpc_conn_tls_expiry(const struct grpc_conn *c);
/* Longer silence before the next PING: the server complained of too many. */
void grpc_conn_set_ping_silence(struct grpc_conn *c, int64_t ms);

/* --- for call.c --- */
struct grpc_conn {
    struct loop *loop;
    struct stream *stream;
    struct h2 *h2;
    bool server;
    const char *scheme;
    char *authority;
    const struct grpc_conn_ops *ops;
    void *arg;
    struct loop_task flush, read, end;
    struct loop_pulse pulse;
    int64_t last_rx_ms, ping_at_ms, ping_silence_ms;
    int64_t fin_ms; /* when we shut our half; 0: not yet */
    bool ready, dead, draining;
    int64_t drain_ms; /* when we began to drain; 0: not yet */
    size_t offered;   /* bytes for which grpc_conn_offer() was called since the last flush */
    enum grpc_conn_end end_reason;
    char *why;            /* once it is dead */
    struct list calls;    /* but for: */
    struct list released; /* those that the user let go of and that may still end by themselves */
    uint32_t n_calls;     /* both */
    bool room_waited;     /* one of them waits for room: see grpc_call_room() */
};
/* Something waits to be sent: a flush at the end of this turn. */
void grpc_conn_wake(struct grpc_conn *c);
/* The same for n bytes; a turn's worth of them is sent now. Not in a callback of the engine. */
void grpc_conn_offer(struct grpc_conn *c, size_t n);

#endif
