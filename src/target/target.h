#ifndef KBGP_TARGET_TARGET_H
#define KBGP_TARGET_TARGET_H

#include "daemon/api.h"
#include "grpc/server.h"
#include "target/options.h"
#include "target/registry.h"
#include "target/service.h"

/* The owner of all parts of `kbgp-target serve`. */
struct target {
    struct target_config *config;
    struct loop *loop;
    struct tls_ctx *tls;
    struct inventory *inventory;
    struct backend *backend;
    struct registry registry;
    struct service *service;
    struct grpc_server *server;
    struct api *api;
    struct loop_timer *tick, *watchdog, *stop_deadline;
    struct loop_signal *sigterm, *sigint, *sighup;
    bool stopping;
};

/* Sessions are ended in good order within this after SIGTERM; then the rest is cut. */
#define TARGET_STOP_MS 4500

/* Runs until a signal. Returns the exit code; a failure to start was logged. */
int target_run(struct target_config *config);

/* target/pages.c */
extern const struct api_route target_routes[];
extern const size_t target_n_routes;

#endif
