#ifndef KBGP_AGENT_UPLINK_H
#define KBGP_AGENT_UPLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "grpc/channel.h"

/*
 * The connections that carry Data calls. Sessions take seats: `multi` on one connection (fewer where the server takes
 * fewer streams), and when all are taken another connection is opened. One that nobody sits on closes after a while.
 */
struct uplink;
struct uplink_link;

/* A connection without sessions is closed after this. */
#define UPLINK_IDLE_MS 30000

/* A session's place on a connection; lives in the session's owner. */
struct uplink_seat {
    struct list node;
    struct uplink_link *link; /* NULL: no seat taken */
};

/* What those who sit are told; the same for all. */
struct uplink_ops {
    /* The connection is up: uplink_call() works. Called each time it comes up. */
    void (*up)(struct uplink_seat *seat);
    /* The connection takes no new calls: restart the session, and take another seat for the next call. */
    void (*draining)(struct uplink_seat *seat);
};

struct uplink_stats {
    uint32_t connections[4]; /* by enum grpc_channel_state */
    int64_t rtt_ns;          /* the longest round trip to the target of all of them, by PING; 0: not known */
    int64_t tls_expiry;      /* the earliest of grpc_channel_tls_expiry(); 0: none */
};

struct uplink *uplink_new(const struct grpc_channel_config *channel, uint32_t multi,
                          const struct uplink_ops *ops);
/* Seats must have been left before. */
void uplink_free(struct uplink *u);

/* Takes a seat. True: its connection is up already (`up` is not called now). */
bool uplink_take(struct uplink *u, struct uplink_seat *seat);
void uplink_leave(struct uplink *u, struct uplink_seat *seat);
/* Whether calls can be opened from this seat now. */
bool uplink_is_up(const struct uplink_seat *seat);
/* Whether the seat is worth keeping: its connection is up and takes another call, or comes up again. */
bool uplink_seat_good(const struct uplink_seat *seat);
/* Opens a call; NULL when the connection is not up or takes no more. */
struct grpc_call *uplink_call(struct uplink_seat *seat, const char *path, const struct kv *metadata,
                              const struct grpc_call_ops *ops, void *arg);
struct uplink_stats uplink_stats(const struct uplink *u);

#endif
