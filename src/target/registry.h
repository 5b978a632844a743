#ifndef KBGP_TARGET_REGISTRY_H
#define KBGP_TARGET_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/map.h"
#include "bridge/bridge.h"
#include "relay/meta.h"
#include "target/backend.h"
#include "target/inventory.h"

/*
 * The target's sessions, by their ids. A session outlives its Data call: when the call breaks, the backend's connection
 * stays, and the agent may come back with the same id and go on.
 */

/* How long a session waits for its agent to come back. */
#define REGISTRY_WINDOW_MS 90000
/* After the agent said that its router has closed: how long the backend may take to close too. */
#define REGISTRY_FINISH_MS 30000
/* How long a KILL may wait for the agent to take it. */
#define REGISTRY_KILL_MS 5000

struct registry_session {
    struct map_node by_id, by_ip;
    struct list node;
    struct registry *registry;
    struct bridge *bridge;
    uint32_t company_id, device_id, site_id;
    uint32_t agent_site; /* what the agent asked with: 0 any */
    char device[INVENTORY_NAME_MAX + 1];
    char instance[40]; /* the agent's */
    struct addr agent; /* the agent's address */
    int64_t opened_wall_ns, opened_ms;
    int64_t lost_ms;   /* since when it has no call; 0: it has one */
    int64_t ending_ms; /* since when its router is gone; 0: it is not */
    int64_t kill_ms;   /* since when it is to be killed; 0: it is not */
    uint32_t streams;  /* Data calls so far */
};

struct registry {
    struct loop *loop;
    struct bridge_pool pool;
    struct backend *backend;
    struct map by_id, by_ip;
    struct list sessions; /* oldest first */
    uint32_t count, max;
    uint64_t seed;
    bool stopping;
    struct {
        uint64_t opened, resumed, refused_limit, closed_device, closed_backend, killed, expired, mismatched,
            duplicate;
    } stats;
};

bool registry_init(struct registry *r, struct loop *loop, struct backend *backend, uint32_t max,
                   struct err *e);
void registry_free(struct registry *r);

/*
 * A Data call that was found to be allowed: goes on with the session of that id, or begins one. Answers the call in
 * every case.
 */
struct registry_caller {
    const struct inventory_device *device;
    uint32_t agent_site;
    const char *instance;
    const struct addr *agent;
};
void registry_attach(struct registry *r, struct grpc_call *call, const struct meta_session *meta,
                     const struct registry_caller *caller);

/* About once a second: ends what waited for too long. */
void registry_tick(struct registry *r);
/* Ends every session for which keep() says no (its device was removed, say). */
void registry_review(struct registry *r, bool (*keep)(void *arg, const struct registry_session *s),
                     void *arg);
/* Ends all sessions in good order: the collector says goodbye, what was read is delivered. */
void registry_stop(struct registry *r);

#endif
