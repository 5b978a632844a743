#include "target/target.h"

#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/limits.h"
#include "daemon/notify.h"

#define TICK_MS 1000

/* --- events --- */

static void on_tick(void *arg)
{
    struct target *t = arg;
    registry_tick(&t->registry);
    log_flush_held(false);
    notify_status("%u sessions, %u agents", t->registry.count, service_stats(t->service)->agents);
    if (!t->stopping)
        return;
    if (t->registry.count == 0)
        grpc_server_drain(t->server);
    if (t->registry.count == 0 && grpc_server_connections(t->server) == 0 &&
        list_empty(&t->registry.pool.lingering))
        loop_stop(t->loop);
}

static void on_watchdog(void *arg)
{
    (void)arg;
    notify_watchdog();
}

static void on_stop_deadline(void *arg)
{
    struct target *t = arg;
    if (t->registry.count > 0)
        log_warn("sessions did not end in time, cutting them", LOG_NUM("sessions", t->registry.count));
    loop_stop(t->loop);
}

static void on_stop(void *arg, int signum)
{
    struct target *t = arg;
    if (t->stopping) {
        loop_stop(t->loop); /* asked twice */
        return;
    }
    t->stopping = true;
    notify_stopping();
    log_info("stopping", LOG_STR("signal", strsignal(signum)), LOG_NUM("sessions", t->registry.count));
    registry_stop(&t->registry);
    loop_timer_start(t->stop_deadline, TARGET_STOP_MS, 0);
    loop_timer_start(t->tick, 0, 20);
}

static void on_reload(void *arg, int signum)
{
    struct target *t = arg;
    (void)signum;
    log_info("reloading");
    t->backend->ops->reload(t->backend);
}

/* --- start --- */

/* A new installation starts with an empty inventory; from then on the server only reads it. */
static bool open_inventory(struct target *t, struct err *e)
{
    t->inventory = inventory_open(t->config->db, false, e);
    if (!t->inventory)
        return false;
    inventory_close(t->inventory);
    t->inventory = inventory_open(t->config->db, true, e);
    return t->inventory != NULL;
}

static bool start(struct target *t, struct err *e)
{
    struct target_config *c = t->config;
    char text[ADDR_TEXT_MAX];
    limits_raise_descriptors();
    limits_forbid_core_file();
    t->loop = loop_new(e);
    if (!t->loop || !open_inventory(t, e))
        return false;
    if (!c->insecure) {
        t->tls = tls_server_ctx(c->tls_cert, c->tls_key, e);
        if (!t->tls)
            return false;
    }
    t->backend = c->backend == TARGET_BACKEND_TCP ? backend_tcp_new(t->loop, c, e)
                                                  : backend_collector_new(t->loop, c, e);
    if (!t->backend || !registry_init(&t->registry, t->loop, t->backend, c->max_sessions, e))
        return false;
    t->service = service_new(t->loop, t->inventory, &t->registry);
    t->server = grpc_server_new(t->loop, t->tls, &service_ops, t->service);
    if (!t->service || !t->server)
        return err_set(e, "out of memory");
    grpc_server_set_max_age(t->server, (int64_t)c->max_connection_age * 1000);
    t->api = api_new(t->loop, &c->metrics, target_routes, target_n_routes, t, e);
    if (!t->api) {
        err_prefix(e, "status pages (--metrics-addr, --metrics-port)");
        return false;
    }
    for (size_t i = 0; i < c->listen_count; i++) {
        if (c->listen_count > 1 && listener_pass_over(&c->listen[i]))
            continue;
        if (!grpc_server_listen(t->server, &c->listen[i], e))
            return false;
        log_info("listening for agents", LOG_STR("local-addr", addr_text(&c->listen[i], text)),
                 LOG_STR("tls", c->insecure ? "off" : "on"));
    }
    t->tick = loop_timer_new(t->loop, on_tick, t);
    loop_timer_start(t->tick, TICK_MS, TICK_MS);
    t->stop_deadline = loop_timer_new(t->loop, on_stop_deadline, t);
    int64_t watchdog = notify_watchdog_interval_ms();
    if (watchdog > 0) {
        t->watchdog = loop_timer_new(t->loop, on_watchdog, t);
        loop_timer_start(t->watchdog, watchdog, watchdog);
    }
    t->sigterm = loop_signal_new(t->loop, SIGTERM, on_stop, t);
    t->sigint = loop_signal_new(t->loop, SIGINT, on_stop, t);
    t->sighup = loop_signal_new(t->loop, SIGHUP, on_reload, t);
    return true;
}

/* --- end --- */

static void finish(struct target *t)
{
    api_free(t->api);
    if (t->registry.pool.arena)
        registry_free(&t->registry);
    service_free(t->service);
    grpc_server_free(t->server);
    if (t->backend)
        t->backend->ops->free(t->backend);
    inventory_close(t->inventory);
    loop_timer_free(t->tick);
    loop_timer_free(t->stop_deadline);
    loop_timer_free(t->watchdog);
    loop_signal_free(t->sigterm);
    loop_signal_free(t->sigint);
    loop_signal_free(t->sighup);
    loop_free(t->loop);
    tls_ctx_free(t->tls);
}

int target_run(struct target_config *config)
{
    struct target t = {.config = config};
    struct err e;
    signal(SIGPIPE, SIG_IGN);
    log_init("kbgp-target", config->human_logs, config->log_level);
    bool started = start(&t, &e);
    if (started) {
        log_info("kbgp-target started", LOG_STR("version", KBGP_VERSION));
        notify_ready();
        loop_run(t.loop);
        log_info("stopped");
    } else {
        log_error("kbgp-target cannot start", LOG_STR("error", e.text));
    }
    finish(&t);
    log_flush_held(true);
    return started ? 0 : 1;
}
