#include <string.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "daemon/api_json.h"
#include "daemon/metrics.h"

/* The status pages of the documentation, with its keys and types, and /metrics. */

/* After the start the first checks are given this long before they count as failed. */
#define INITIAL_MS 10000
/* A loop that hangs longer than this does not serve sessions. */
#define LAG_MAX_MS 5000

/* --- pieces --- */

static json_t *time_json(int64_t wall_ns)
{
    char text[TIME_TEXT_MAX];
    return wall_ns == 0 ? json_null() : json_string(clock_text(wall_ns, 9, text));
}

static json_t *since_json(int64_t then_ms)
{
    return then_ms == 0 ? json_null() : json_integer(clock_mono_ms() - then_ms);
}

/* {"key": ["value", …], …}, keys in order of their first value. */
static json_t *pairs_json(const struct kv *kv)
{
    json_t *object = json_object();
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(kv, &pos, &pair);) {
        json_t *list = json_object_get(object, pair.key);
        if (!list) {
            list = json_array();
            json_object_set_new(object, pair.key, list);
        }
        json_array_append_new(list, api_json_text(pair.val, pair.val_len));
    }
    return object;
}

/* --- /hc --- */

static const char *health(const struct agent *a)
{
    if (loop_lag_ms(a->loop) > LAG_MAX_MS)
        return "old_result";
    if (a->stopping)
        return "failing";
    if (control_stats(a->host.control)->connected)
        return "ok";
    return clock_mono_ms() - a->started_ms < INITIAL_MS ? "initializing" : "failing";
}

static void health_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const char *status = health(arg);
    if (strcmp(status, "ok") != 0)
        r->status = 503;
    api_respond_json(r, json_pack("{s:o, s:s}", "timestamp", time_json(clock_wall_ns()), "status", status), q->pretty);
}

/* --- /admin/status --- */

static void status_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct agent *a = arg;
    const struct agent_config *c = a->config;
    const struct control_stats *s = control_stats(a->host.control);
    json_t *listeners = json_array();
    for (size_t i = 0; i < a->n_listeners; i++) {
        char text[ADDR_TEXT_MAX];
        json_array_append_new(listeners, json_string(addr_text(listener_addr(a->listeners[i]), text)));
    }
    json_t *control = json_pack("{s:b, s:o, s:o, s:I}", "Connected", s->connected, "Since", time_json(s->since_wall_ns),
                                "DurationMs", since_json(s->since_ms), "MessagesRx", (json_int_t)s->messages_rx);
    json_t *heartbeats = json_pack("{s:o, s:o, s:I, s:o, s:o}", "LastTx", time_json(s->heartbeat_tx_wall_ns),
                                   "MsSinceLastTx", since_json(s->heartbeat_tx_ms), "LastTxRTTMs",
                                   (json_int_t)s->heartbeat_rtt_ms, "LastRx", time_json(s->heartbeat_rx_wall_ns),
                                   "MsSinceLastRx", since_json(s->heartbeat_rx_ms));
    uint32_t active = 0;
    LIST_FOREACH (node, (struct list *)(uintptr_t)&a->host.devices)
        active += LIST_ITEM(node, struct device, node)->bridge != NULL;
    api_respond_json(r,
                     json_pack("{s:s, s:o, s:o, s:I, s:{s:o, s:b, s:s, s:s, s:s, s:I}}", "InstanceID",
                               a->instance.text, "ControlStream", control, "Heartbeats", heartbeats, "ActiveSessions",
                               (json_int_t)active, "Config", "Listeners", listeners, "MD5Enabled", c->md5,
                               "MD5Interface", c->md5_interface, "ProxyTarget", c->target, "APIEmail", c->email,
                               "SiteID", (json_int_t)c->site_id),
                     q->pretty);
}

/* --- /admin/sessions --- */

static void sessions_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct agent *a = arg;
    json_t *list = json_array();
    LIST_FOREACH (node, (struct list *)(uintptr_t)&a->host.devices) {
        const struct device *d = LIST_ITEM(node, struct device, node);
        char peer[ADDR_TEXT_MAX];
        if (!d->bridge)
            continue; /* not allowed yet */
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:b}", "Peer", addr_text(&d->peer, peer), "Time",
                                              time_json(d->accepted_wall_ns), "DurationMs",
                                              since_json(d->accepted_ms), "Connected", d->connected));
    }
    json_int_t count = (json_int_t)json_array_size(list);
    api_respond_json(r, json_pack("{s:I, s:o}", "NumSessions", count, "Sessions", list), q->pretty);
}

/* "192.0.2.1", "192.0.2.1:42875", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:42875": the newest session that fits. */
static const struct device *find_device(const struct agent *a, const char *text)
{
    struct addr want;
    if (!addr_parse(&want, text, 0))
        return NULL;
    const struct device *found = NULL;
    LIST_FOREACH (node, (struct list *)(uintptr_t)&a->host.devices) {
        const struct device *d = LIST_ITEM(node, struct device, node);
        if (d->bridge && addr_same_ip(&d->peer, &want) && (want.port == 0 || want.port == d->peer.port))
            found = d;
    }
    return found;
}

static void session_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct device *d = find_device(arg, q->rest);
    char peer[ADDR_TEXT_MAX];
    if (!d) {
        api_respond_error(r, 404, "no such session");
        return;
    }
    bool up = d->connected;
    api_respond_json(r,
                     json_pack("{s:s, s:o, s:o, s:s, s:o}", "Peer", addr_text(&d->peer, peer), "ConnectedSince",
                               time_json(up ? d->connected_wall_ns : 0), "ConnectedDurationMs",
                               since_json(up ? d->connected_ms : 0), "SessionID", d->session_id.text,
                               "ServerMetadata", pairs_json(&d->server_metadata)),
                     q->pretty);
}

/* --- /metrics --- */

static void metrics_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct agent *a = arg;
    const struct device_host *h = &a->host;
    const struct control_stats *s = control_stats(h->control);
    struct uplink_stats u = uplink_stats(h->uplink);
    struct arena_usage mem = arena_usage(h->pool.arena);
    struct metrics_writer w;
    (void)q;
    r->content_type = METRICS_CONTENT_TYPE;
    metrics_init(&w, &r->body);
    metrics_family(&w, "kbgp_build_info", METRICS_GAUGE, "The program's version.");
    metrics_int(&w, 1, {"version", KBGP_VERSION});
    metrics_family(&w, "kbgp_control_connected", METRICS_GAUGE, "Whether the Control stream is up.");
    metrics_int(&w, s->connected);
    metrics_family(&w, "kbgp_control_messages_total", METRICS_COUNTER, "Messages on the Control stream.");
    metrics_int(&w, (int64_t)s->messages_rx, {"direction", "received"});
    metrics_int(&w, (int64_t)s->messages_tx, {"direction", "sent"});
    metrics_family(&w, "kbgp_connections", METRICS_GAUGE, "HTTP/2 connections that carry sessions.");
    metrics_int(&w, u.connections[GRPC_CHANNEL_CONNECTING], {"state", "connecting"});
    metrics_int(&w, u.connections[GRPC_CHANNEL_READY], {"state", "ready"});
    metrics_int(&w, u.connections[GRPC_CHANNEL_BACKOFF], {"state", "backoff"});
    metrics_int(&w, u.connections[GRPC_CHANNEL_DRAINING], {"state", "draining"});
    uint32_t states[4] = {0};
    LIST_FOREACH (node, (struct list *)(uintptr_t)&h->devices)
        states[LIST_ITEM(node, struct device, node)->state]++;
    metrics_family(&w, "kbgp_sessions", METRICS_GAUGE, "Routers' connections.");
    metrics_int(&w, states[DEVICE_ASKING], {"state", "waiting"});
    metrics_int(&w, states[DEVICE_SEATING], {"state", "connecting"});
    metrics_int(&w, states[DEVICE_RELAYING], {"state", "active"});
    metrics_int(&w, states[DEVICE_RETRYING], {"state", "retrying"});
    metrics_family(&w, "kbgp_sessions_accepted_total", METRICS_COUNTER, "Connections accepted from routers.");
    metrics_int(&w, (int64_t)h->stats.accepted);
    metrics_family(&w, "kbgp_sessions_refused_total", METRICS_COUNTER, "Connections closed before they were relayed.");
    metrics_int(&w, (int64_t)h->stats.refused_blocked, {"reason", "blocked"});
    metrics_int(&w, (int64_t)h->stats.refused_timeout, {"reason", "control_timeout"});
    metrics_int(&w, (int64_t)h->stats.refused_limit, {"reason", "limit"});
    metrics_family(&w, "kbgp_sessions_closed_total", METRICS_COUNTER, "Sessions that ended.");
    metrics_int(&w, (int64_t)h->stats.closed_device, {"cause", "device"});
    metrics_int(&w, (int64_t)h->stats.closed_target, {"cause", "target_end"});
    metrics_int(&w, (int64_t)h->stats.killed_by_target, {"cause", "target_kill"});
    metrics_int(&w, (int64_t)h->stats.killed_by_us, {"cause", "killed"});
    metrics_int(&w, (int64_t)h->stats.gave_up, {"cause", "undeliverable"});
    metrics_family(&w, "kbgp_relayed_bytes_total", METRICS_COUNTER, "Bytes of BGP sessions.");
    metrics_int(&w, (int64_t)h->pool.bytes[0], {"direction", "up"});
    metrics_int(&w, (int64_t)h->pool.bytes[1], {"direction", "down"});
    metrics_family(&w, "kbgp_relayed_messages_total", METRICS_COUNTER, "DataRequests (up) and DataResponses (down).");
    metrics_int(&w, (int64_t)h->pool.messages[0], {"direction", "up"});
    metrics_int(&w, (int64_t)h->pool.messages[1], {"direction", "down"});
    metrics_family(&w, "kbgp_ring_bytes", METRICS_GAUGE, "Memory for bytes on their way.");
    metrics_int(&w, (int64_t)mem.blocks_used * ARENA_BLOCK, {"state", "used"});
    metrics_int(&w, (int64_t)mem.blocks_kept * ARENA_BLOCK, {"state", "kept"});
    metrics_family(&w, "kbgp_loop_lag_seconds", METRICS_GAUGE, "The worst delay of the event loop in the last seconds.");
    metrics_seconds(&w, loop_lag_ms(a->loop) * 1000000);
    metrics_process(&w);
    if (w.failed)
        r->status = 500;
}

const struct api_route agent_routes[] = {
    {.path = "/hc", .handle = health_page},
    {.path = "/admin/status", .handle = status_page},
    {.path = "/admin/sessions", .handle = sessions_page},
    {.path = "/admin/sessions/", .prefix = true, .handle = session_page},
    {.path = "/metrics", .handle = metrics_page},
};
const size_t agent_n_routes = sizeof agent_routes / sizeof *agent_routes;
