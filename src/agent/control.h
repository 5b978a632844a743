#ifndef KBGP_AGENT_CONTROL_H
#define KBGP_AGENT_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/list.h"
#include "daemon/metrics.h"
#include "grpc/channel.h"
#include "relay/answers.h"
#include "relay/meta.h"

/*
 * The agent's Control stream, kept up: a connection of its own, heartbeats, questions about devices and their answers, and
 * what the target pushes. Rules: docs/protocol.md, parts 1 and 2.
 */
struct control;

#define CONTROL_HEARTBEAT_MS      60000 /* between KEEPALIVEs */
#define CONTROL_HEARTBEAT_WAIT_MS 30000 /* an answer must come within */
#define CONTROL_LOOKUP_MS         10000 /* how long a device waits for its answer */
#define CONTROL_LOOKUPS_MAX       1024  /* devices that wait at once; more are refused */
#define CONTROL_WAITERS_MAX       4096  /* connections that wait at once */

enum control_verdict {
    CONTROL_ALLOW,
    CONTROL_BLOCK,       /* BLOCK_IP: log it */
    CONTROL_BLOCK_QUIET, /* BLOCK_IP that was logged before */
    CONTROL_NO_ANSWER,   /* none within CONTROL_LOOKUP_MS */
    CONTROL_FULL,        /* too many wait: not asked */
};

/* A connection that waits for an answer; lives in whoever asks. */
struct control_lookup {
    struct list node;
    struct control_group *group; /* NULL: not waiting */
    struct addr device, proxy;
    int64_t deadline_ms;
    /* The answer (NULL where there is none) is valid during the call. */
    void (*done)(void *arg, enum control_verdict verdict, const struct control_response *answer);
    void *arg;
};

struct control_ops {
    /* Every answer and every push, before it serves those that wait. True: that it denies the device is logged by this. */
    bool (*answer)(void *arg, const struct control_response *r, bool pushed);
    /* The target has rejected the credentials: looks whether there are others by now. True: there are. */
    bool (*rejected)(void *arg);
    /* The stream came up or went down, or a heartbeat was answered. */
    void (*changed)(void *arg);
};

/* Why the stream, once up, had to be opened again; also the label `reason` of kbgp_control_reconnects_total. */
enum control_reconnect {
    CONTROL_RECONNECT_CLOSED, /* the connection: closed, broken, no answer to a PING, not HTTP/2 any more */
    CONTROL_RECONNECT_RESET,
    CONTROL_RECONNECT_PING_TIMEOUT,
    CONTROL_RECONNECT_PROTOCOL,
    CONTROL_RECONNECT_GOAWAY,            /* the target is about to end the connection */
    CONTROL_RECONNECT_HEARTBEAT_TIMEOUT, /* no answer to a KEEPALIVE */
    CONTROL_RECONNECT_ENDED,             /* the target ended the call */
    CONTROL_RECONNECT_AUTH,              /* the same, with UNAUTHENTICATED */
    CONTROL_RECONNECTS
};
const char *control_reconnect_name(enum control_reconnect reason);

enum control_kind {
    CONTROL_TX_REQUEST,
    CONTROL_TX_KEEPALIVE,
    CONTROL_RX_ANSWER,
    CONTROL_RX_PUSH, /* not asked for: it has no port */
    CONTROL_RX_KEEPALIVE,
    CONTROL_RX_UNUSABLE,
    CONTROL_KINDS
};

struct control_stats {
    bool connected;
    int64_t since_wall_ns, since_ms; /* when it came up (or went down; 0: never up) */
    uint64_t messages_rx, messages_tx;
    uint64_t messages[CONTROL_KINDS]; /* the same by enum control_kind */
    int64_t heartbeat_tx_wall_ns, heartbeat_tx_ms;
    int64_t heartbeat_rx_wall_ns, heartbeat_rx_ms;
    int64_t heartbeat_rtt_ms; /* of the last answered one */
    bool heartbeat_waits;     /* the last one is not answered yet */
    uint64_t reconnects[CONTROL_RECONNECTS];
    struct metrics_histogram heartbeat_rtt;
    struct metrics_histogram lookup; /* from a question to its answer */
    bool rejected;                   /* the last attempt was answered UNAUTHENTICATED */
};

struct control *control_new(const struct grpc_channel_config *channel, const struct meta_agent *agent,
                            const struct control_ops *ops, void *arg);
void control_free(struct control *c);

/*
 * Asks about lk->device. True: answered from what is known, *verdict and *answer are set (valid until the next call here).
 * False: lk waits and `done` will be called, unless control_forget_lookup() comes first. When too many wait the verdict
 * is CONTROL_FULL at once.
 */
bool control_ask(struct control *c, struct control_lookup *lk, enum control_verdict *verdict,
                 const struct control_response **answer);
void control_forget_lookup(struct control *c, struct control_lookup *lk);
/* Whether connections of the device are denied by an answer that holds. */
bool control_blocked(struct control *c, const struct addr *device);
/* The same for a connection, which counts against the answer's ttl_counter: no lookup, no log line. */
bool control_refuses(struct control *c, const struct addr *device);
/* Drops what is known of a device: the next connection asks anew. */
void control_forget(struct control *c, const struct addr *device);

/* The credentials have changed: if the target had rejected the old ones, it is asked again soon. */
void control_credentials_changed(struct control *c);

const struct control_stats *control_stats(const struct control *c);
/* The stream's connection, to look at. */
const struct grpc_channel *control_channel(const struct control *c);
const struct answers *control_answers(const struct control *c);

#endif
