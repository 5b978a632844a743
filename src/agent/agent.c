#include "agent/agent.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/pages.h"
#include "agent/reload.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "bridge/tcp_end.h"
#include "daemon/limits.h"
#include "daemon/notify.h"
#include "net/web_proxy.h"

/* Address space for rings: 1 GiB, taken only as it fills. */
#define RING_BLOCKS (1u << 18)
#define TICK_MS     1000

/* --- events --- */

static void on_accepted(void *arg, int fd, const struct addr *peer, const struct addr *local)
{
    const struct agent_door *door = arg;
    struct device_host *h = &door->agent->host;
    device_accept(h, fd, peer, local, md5_accepted(h->md5, peer, door->listener));
}

static bool on_answer(void *arg, const struct control_response *r, bool pushed)
{
    struct agent *a = arg;
    (void)pushed;
    md5_answered(a->host.md5, r);
    return device_answered(&a->host, r);
}

static bool on_rejected(void *arg)
{
    return reload_rejected_token(arg);
}

static void on_control_changed(void *arg)
{
    agent_check_health(arg, false);
}

static const struct control_ops control_ops = {
    .answer = on_answer, .rejected = on_rejected, .changed = on_control_changed};

static void on_health_timer(void *arg)
{
    agent_check_health(arg, true);
}

/* The line of `systemctl status`; sent when it changes. */
static void tell_status(struct agent *a)
{
    const struct control_stats *s = control_stats(a->host.control);
    char text[sizeof a->status];
    snprintf(text, sizeof text, "%s%u session%s, %s %.100s", a->stopping ? "stopping, " : "", a->host.count,
             a->host.count == 1 ? "" : "s",
             s->connected  ? "connected to"
             : s->rejected ? "credentials rejected by"
                           : "not connected to",
             a->config->target);
    if (strcmp(text, a->status) == 0)
        return;
    strcpy(a->status, text);
    notify_status("%s", text);
}

static void on_tick(void *arg)
{
    struct agent *a = arg;
    device_tick(&a->host);
    arena_trim(a->host.pool.arena);
    reload_tick(a);
    log_flush_held(false);
    tell_status(a);
    if (a->stopping && a->host.count == 0 && list_empty(&a->host.pool.lingering) && export_drained(a->export))
        loop_stop(a->loop);
}

static void on_watchdog(void *arg)
{
    (void)arg;
    notify_watchdog();
}

static void on_stop_deadline(void *arg)
{
    struct agent *a = arg;
    if (a->host.count > 0)
        log_warn("sessions did not end in time, cutting them", LOG_NUM("sessions", a->host.count));
    loop_stop(a->loop);
}

static void on_stop(void *arg, int signum)
{
    struct agent *a = arg;
    if (a->stopping) {
        loop_stop(a->loop); /* asked twice */
        return;
    }
    a->stopping = true;
    notify_stopping();
    agent_check_health(a, false);
    tell_status(a);
    log_info("stopping", LOG_STR("signal", strsignal(signum)), LOG_NUM("sessions", a->host.count));
    md5_stop(a->host.md5);
    while (a->n_listeners > 0)
        listener_free(a->listeners[--a->n_listeners]);
    device_stop_all(&a->host);
    loop_timer_start(a->stop_deadline, AGENT_STOP_MS, 0);
    /* From now on look often: the last session's end is the program's end. */
    loop_timer_start(a->tick, 0, 20);
}

static void on_reload(void *arg, int signum)
{
    (void)signum;
    reload_all(arg);
}

/* --- start --- */

static void write_metrics(void *arg, struct metrics_writer *w)
{
    agent_metrics(arg, w);
}

static bool start_export(struct agent *a, struct err *e)
{
    const struct agent_config *c = a->config;
    struct export_config config = {
        .loop = a->loop,
        .curl = a->curl,
        .logs_url = c->log_export ? c->log_export_url : NULL,
        .metrics_url = c->metrics_export_url,
        .email = c->email,
        .token = c->token,
        .ca_file = c->ca_file,
        .resource = {.name = "kbgp", .version = KBGP_VERSION, .instance = a->instance.text},
        .metrics = write_metrics,
        .arg = a,
    };
    a->export = export_new(&config, e);
    return a->export != NULL;
}

static bool listen_all(struct agent *a, struct err *e)
{
    const struct agent_config *c = a->config;
    char text[ADDR_TEXT_MAX];
    for (size_t i = 0; i < c->n_listeners; i++) {
        if (c->n_listeners > 1 && listener_pass_over(&c->listeners[i]))
            continue;
        struct agent_door *door = &a->doors[a->n_listeners];
        struct listener *l = listener_new(a->loop, &c->listeners[i], on_accepted, door, e);
        if (!l)
            return false;
        *door = (struct agent_door){.agent = a, .listener = l};
        a->listeners[a->n_listeners++] = l;
        /* A router with GTSM wants TTL 255 of the SYN-ACK, too, which is the listener's. */
        tcp_end_bgp_options(listener_fd(l), listener_addr(l)->family);
        log_info("listening for BGP", LOG_STR("local-addr", addr_text(listener_addr(l), text)));
    }
    return true;
}

static bool start_md5(struct agent *a, struct err *e)
{
    const struct agent_config *c = a->config;
    if (!c->md5)
        return true;
    if (!md5_start(a->host.md5, a->listeners, a->n_listeners, c->md5_interface, e))
        return false;
    log_info("TCP-MD5 is on: watching for signed connection attempts",
             LOG_STR("interface", c->md5_interface));
    return true;
}

/* A variable that cannot be used is found now, not at the first attempt to connect. */
static bool choose_proxy(struct agent *a, struct err *e)
{
    const struct agent_config *c = a->config;
    struct web_proxy proxy;
    if (!web_proxy_for(c->insecure ? "http" : "https", c->target_host, c->target_port, &proxy, e))
        return false;
    if (proxy.name[0])
        log_info("connecting through a web proxy", LOG_STR("proxy", proxy.name),
                 LOG_STR("target", c->target));
    web_proxy_forget(&proxy);
    return true;
}

static bool start(struct agent *a, struct err *e)
{
    struct agent_config *c = a->config;
    a->instance = uuid_v4();
    a->started_ms = clock_mono_ms();
    limits_raise_descriptors();
    limits_forbid_core_file();
    a->loop = loop_new(e);
    if (!a->loop || !choose_proxy(a, e))
        return false;
    a->curl = curl_loop_new(a->loop, e);
    if (!a->curl)
        return false;
    /* With --insecure the trust is still needed where an https:// web proxy stands in between. */
    if (!c->insecure || c->ca_file) {
        struct tls_client_config tls = {
            .ca_file = c->ca_file, .cert_file = c->tls_cert, .key_file = c->tls_key};
        a->tls = tls_client_ctx(&tls, e);
        if (!a->tls)
            return false;
    }
    a->ping_silence_ms = GRPC_PING_SILENCE_MS;
    a->channel = (struct grpc_channel_config){
        .loop = a->loop,
        .target = {.host = c->target_host,
                   .port = c->target_port,
                   .tls = c->insecure ? NULL : a->tls,
                   .server_name = c->tls_server_name,
                   .proxy_tls = a->tls},
        .authority = c->target,
        .stats = &a->channel_stats,
        .ping_silence_ms = &a->ping_silence_ms,
    };
    struct device_host *h = &a->host;
    h->loop = a->loop;
    h->seed = random_u64();
    list_init(&h->devices);
    records_init(&h->records, random_u64());
    h->keep_records = c->metrics_per_device;
    health_init(&a->health, clock_mono_ms());
    h->meta = (struct meta_agent){.email = c->email,
                                  .token = c->token,
                                  .site_id = (uint32_t)c->site_id,
                                  .version = KBGP_VERSION,
                                  .instance = a->instance.text};
    bridge_pool_init(&h->pool, a->loop,
                     arena_new(DEVICE_SESSIONS_MAX, sizeof(struct session), RING_BLOCKS, e));
    if (!h->pool.arena)
        return false;
    a->api = api_new(a->loop, &c->metrics, agent_routes, agent_n_routes, a, e);
    if (!a->api) {
        err_prefix(e, "status pages (--metrics-addr, --metrics-port)");
        return false;
    }
    h->uplink = uplink_new(&a->channel, c->multi, &device_uplink_ops);
    h->control = control_new(&a->channel, &h->meta, &control_ops, a);
    h->md5 = md5_new(a->loop, h);
    if (!h->uplink || !h->control || !h->md5)
        return err_set(e, "out of memory");
    if (!start_export(a, e))
        return false;
    /* Routers come last, when everything that serves them is there. */
    if (!listen_all(a, e) || !start_md5(a, e))
        return false;
    a->tick = loop_timer_new(a->loop, on_tick, a);
    loop_timer_start(a->tick, TICK_MS, TICK_MS);
    a->stop_deadline = loop_timer_new(a->loop, on_stop_deadline, a);
    a->health_timer = loop_timer_new(a->loop, on_health_timer, a);
    loop_timer_start(a->health_timer, 0, HEALTH_PERIOD_MS);
    int64_t watchdog = notify_watchdog_interval_ms();
    if (watchdog > 0) {
        a->watchdog = loop_timer_new(a->loop, on_watchdog, a);
        loop_timer_start(a->watchdog, watchdog, watchdog);
    }
    a->sigterm = loop_signal_new(a->loop, SIGTERM, on_stop, a);
    a->sigint = loop_signal_new(a->loop, SIGINT, on_stop, a);
    a->sighup = loop_signal_new(a->loop, SIGHUP, on_reload, a);
    return true;
}

/* --- end --- */

static void finish(struct agent *a)
{
    export_free(a->export);
    if (a->host.md5)
        md5_stop(a->host.md5);
    while (a->n_listeners > 0)
        listener_free(a->listeners[--a->n_listeners]);
    if (a->host.control)
        device_free_all(&a->host);
    if (a->host.pool.arena)
        tcp_end_cut_lingering(&a->host.pool);
    md5_free(a->host.md5);
    control_free(a->host.control);
    uplink_free(a->host.uplink);
    api_free(a->api);
    loop_timer_free(a->tick);
    loop_timer_free(a->stop_deadline);
    loop_timer_free(a->health_timer);
    loop_timer_free(a->watchdog);
    loop_signal_free(a->sigterm);
    loop_signal_free(a->sigint);
    loop_signal_free(a->sighup);
    curl_loop_free(a->curl);
    loop_free(a->loop);
    arena_free(a->host.pool.arena);
    tls_ctx_free(a->tls);
}

int agent_run(struct agent_config *config)
{
    struct agent a = {.config = config};
    struct err e;
    signal(SIGPIPE, SIG_IGN);
    log_init("ktbgp-agent", config->human_logs, config->log_level);
    bool started = start(&a, &e);
    if (started) {
        log_info("kbgp started", LOG_STR("version", KBGP_VERSION), LOG_STR("instance", a.instance.text),
                 LOG_STR("target", config->target), LOG_NUM("multi", config->multi));
        notify_ready();
        loop_run(a.loop);
        log_flush_held(true);
        log_info("stopped");
    } else {
        log_error("kbgp cannot start", LOG_STR("error", e.text));
    }
    finish(&a);
    return started ? 0 : 1;
}
