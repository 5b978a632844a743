#ifndef KBGP_AGENT_AGENT_H
#define KBGP_AGENT_AGENT_H

#include "agent/control.h"
#include "agent/device.h"
#include "agent/health.h"
#include "agent/options.h"
#include "agent/uplink.h"
#include "base/err.h"
#include "daemon/api.h"
#include "daemon/export.h"
#include "net/listener.h"

/* A listener says with this from where a connection comes. */
struct agent_door {
    struct agent *agent;
    struct listener *listener; /* NULL in a slot that is not used */
};

/* The owner of all parts of `kbgp`: makes them in order, runs the loop, ends them in order. */
struct agent {
    struct agent_config *config;
    struct loop *loop;
    struct curl_loop *curl;
    struct tls_ctx *tls;
    struct uuid instance;
    struct grpc_channel_config channel;
    struct grpc_channel_stats channel_stats; /* of all connections to the target */
    int64_t ping_silence_ms;                 /* likewise: see grpc_channel_config */
    struct device_host host;
    struct listener *listeners[AGENT_LISTEN_MAX];
    struct agent_door doors[AGENT_LISTEN_MAX]; /* of the listeners, by the same index */
    size_t n_listeners;
    struct api *api;
    struct export *export; /* of logs and metrics */
    struct loop_timer *tick, *watchdog, *stop_deadline, *health_timer;
    struct health health;
    struct loop_signal *sigterm, *sigint, *sighup;
    int64_t started_ms;
    int64_t token_looked_ms; /* when the file of a rejected token was last looked at */
    bool token_unreadable;   /* and that was told */
    bool stopping;
    char status[160]; /* what the service manager was told last */
};

/* Sessions are ended in good order within this after SIGTERM; then the rest is cut. */
#define AGENT_STOP_MS 4500

/* Runs until a signal. Returns the exit code; a failure to start was logged. */
int agent_run(struct agent_config *config);

/* agent/pages_health.c: runs the checks now; `due`: as the timer wants it. */
void agent_check_health(struct agent *a, bool due);

/* agent/pages.c: the routes of the status pages; their handlers get the agent. */
extern const struct api_route agent_routes[];
extern const size_t agent_n_routes;

#endif
