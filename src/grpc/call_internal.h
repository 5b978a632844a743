#ifndef KBGP_GRPC_CALL_INTERNAL_H
#define KBGP_GRPC_CALL_INTERNAL_H

#include "base/list.h"
#include "grpc/call.h"
#include "grpc/frame.h"
#include "grpc/h2.h"

/* Whether the user waits until the other side takes more: see grpc_call_room(). */
enum grpc_room {
    ROOM_THERE,   /* no */
    ROOM_WAITED,  /* since the last beat of the connection */
    ROOM_LATE,    /* for longer */
    ROOM_IGNORED, /* no longer: it gathers what it likes */
};

/* What call.c and conn.c know of a call and nobody else does. */
struct grpc_call {
    struct list node; /* in the connection's `calls` or `released` */
    struct grpc_conn *conn;
    struct h2_stream st;
    const struct grpc_call_ops *ops; /* NULL: the user let go */
    void *arg;
    struct grpc_deframer deframer;
    uint8_t tx_prefix[GRPC_PREFIX], tx_prefix_at;
    bool accepted;   /* server: our header block is out */
    bool finished;   /* server: trailers are set */
    bool half_close; /* client: no message will follow */
    enum grpc_room room : 8;
    uint8_t unsettled;   /* its place among the calls that are to settle; 0: not one of them */
    uint64_t tx_left;    /* bytes of the message being sent, prefix included */
    int64_t released_ms; /* when the user let go: of one in `released` */
    struct kv *trailers; /* NULL until then */
};

#define GRPC_USER_AGENT "kbgp/" KBGP_VERSION

/* Server: the engine reports a new stream. */
struct h2_stream *grpc_call_incoming(struct grpc_conn *conn);
/* The connection is gone: tells the user and frees the call. */
void grpc_call_lost(struct grpc_call *call, const char *why);
void grpc_call_free(struct grpc_call *call);
/* A beat of the connection: ends the waits for room that have lasted since the last one. */
void grpc_calls_beat(struct grpc_conn *conn);
/* What was received is about to be overwritten: tells those who got some of it. */
void grpc_calls_settle(void);

#endif
