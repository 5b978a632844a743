#ifndef KBGP_TARGET_SERVICE_H
#define KBGP_TARGET_SERVICE_H

#include <stdint.h>

#include "grpc/server.h"
#include "target/inventory.h"
#include "target/registry.h"

/* The two methods of ProxyService: who may call, what is answered, what is pushed. Data calls go on to the registry. */
struct service;

/* How long an agent may use an answer without asking again. A change is pushed, so this is only a safety net. */
#define SERVICE_ALLOW_TTL_S 300
/* How long an unknown device is denied. */
#define SERVICE_BLOCK_TTL_S 1200
/* How often the inventory is looked at for changes. */
#define SERVICE_REVIEW_MS 500
/* Addresses that are remembered for each agent, to be told of changes. */
#define SERVICE_TOLD_MAX 65536

struct service_stats {
    uint32_t agents;
    uint64_t auth_unknown_email, auth_bad_token, auth_disabled, auth_error;
    uint64_t answers_allow, answers_block, answers_keepalive, pushes;
};

struct service *service_new(struct loop *loop, struct inventory *inventory, struct registry *registry);
void service_free(struct service *s);
/* For grpc_server_new(). */
extern const struct grpc_server_ops service_ops;
const struct service_stats *service_stats(const struct service *s);

/* An agent whose Control stream is up. */
struct service_agent {
    const char *instance, *version, *email;
    uint32_t company_id, site_id;
    const struct addr *address;
    int64_t since_wall_ns;
};
void service_each_agent(const struct service *s, void (*cb)(void *arg, const struct service_agent *agent),
                        void *arg);

#endif
