#ifndef KBGP_AGENT_CONTROL_H
#define KBGP_AGENT_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/list.h"
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
};

/* A connection that waits for an answer; lives in whoever asks. */
struct control_lookup {
    struct list node;
    struct control_group *group; /* NULL: not waiting */
    struct addr device, proxy;
    int64_t deadline_ms;
    /* The answer (NULL with CONTROL_NO_ANSWER) is valid during the call. */
    void (*done)(void *arg, enum control_verdict verdict, const struct control_response *answer);
    void *arg;
};

struct control_ops {
    /* Every answer and every push, before it serves those that wait. */
    void (*answer)(void *arg, const struct control_response *r, bool pushed);
};

struct control_stats {
    bool connected;
    int64_t since_wall_ns, since_ms; /* when it came up (or went down; 0: never up) */
    uint64_t messages_rx, messages_tx;
    int64_t heartbeat_tx_wall_ns, heartbeat_tx_ms;
    int64_t heartbeat_rx_wall_ns, heartbeat_rx_ms;
    int64_t heartbeat_rtt_ms; /* of the last answered one */
    uint64_t reconnects;
    bool rejected; /* the last attempt was answered UNAUTHENTICATED */
};

struct control *control_new(const struct grpc_channel_config *channel, const struct meta_agent *agent,
                            const struct control_ops *ops, void *arg);
void control_free(struct control *c);

/*
 * Asks about lk->device. True: answered from what is known, *verdict and *answer are set (valid until the next call here).
 * False: lk waits and `done` will be called, unless control_forget_lookup() comes first. When too many wait the verdict
 * is CONTROL_NO_ANSWER at once.
 */
bool control_ask(struct control *c, struct control_lookup *lk, enum control_verdict *verdict,
                 const struct control_response **answer);
void control_forget_lookup(struct control *c, struct control_lookup *lk);
/* Whether connections of the device are denied by an answer that holds: no lookup, no log line. */
bool control_blocked(struct control *c, const struct addr *device);
/* Drops what is known of a device: the next connection asks anew. */
void control_forget(struct control *c, const struct addr *device);

const struct control_stats *control_stats(const struct control *c);
const struct answers *control_answers(const struct control *c);

#endif
