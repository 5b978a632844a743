#include <string.h>

#include "base/clock.h"
#include "daemon/api_json.h"
#include "daemon/bgp_json.h"
#include "daemon/metrics.h"
#include "revision.h"
#include "target/target.h"

/* The target's status pages: health, agents, sessions, metrics. */

static void health_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct target *t = arg;
    if (t->stopping)
        r->status = 503;
    api_respond_json(r,
                     json_pack("{s:o, s:s}", "timestamp", api_json_time(clock_wall_ns()), "status",
                               t->stopping ? "failing" : "ok"),
                     q->pretty);
}

static void add_agent(void *arg, const struct service_agent *a)
{
    char text[ADDR_TEXT_MAX];
    json_array_append_new(
        arg, json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:o}", "Address", addr_text(a->address, text),
                       "Instance", api_json_text(a->instance, strlen(a->instance)), "Version",
                       api_json_text(a->version, strlen(a->version)), "Email",
                       api_json_text(a->email, strlen(a->email)), "CompanyID", (json_int_t)a->company_id,
                       "SiteID", (json_int_t)a->site_id, "Since", api_json_time(a->since_wall_ns)));
}

static void agents_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct target *t = arg;
    json_t *list = json_array();
    service_each_agent(t->service, add_agent, list);
    json_int_t count = (json_int_t)json_array_size(list);
    api_respond_json(r, json_pack("{s:I, s:o}", "NumAgents", count, "Agents", list), q->pretty);
}

static void sessions_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct target *t = arg;
    json_t *list = json_array();
    LIST_FOREACH (node, (struct list *)(uintptr_t)&t->registry.sessions) {
        const struct registry_session *s = LIST_ITEM(node, struct registry_session, node);
        const struct session *session = bridge_session(s->bridge);
        char peer[ADDR_TEXT_MAX], agent[ADDR_TEXT_MAX];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s, s:o, s:I, s:b, s:I, s:I, s:I, s:o}",
                            "Device", s->device, "Peer", addr_text(&session->device, peer), "DeviceID",
                            (json_int_t)s->device_id, "CompanyID", (json_int_t)s->company_id, "SiteID",
                            (json_int_t)s->site_id, "SessionID", session->id.text, "Agent",
                            addr_text(&s->agent, agent), "Time", api_json_time(s->opened_wall_ns),
                            "DurationMs", (json_int_t)(clock_mono_ms() - s->opened_ms), "Connected",
                            bridge_has_call(s->bridge), "Streams", (json_int_t)s->streams, "BytesUp",
                            (json_int_t)session->received.bytes, "BytesDown", (json_int_t)session->sent.bytes,
                            "BGP", bgp_json(&session->seen, &session->seen.in, &session->seen.out)));
    }
    json_int_t count = (json_int_t)json_array_size(list);
    api_respond_json(r, json_pack("{s:I, s:o}", "NumSessions", count, "Sessions", list), q->pretty);
}

static void metrics_page(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct target *t = arg;
    const struct registry *reg = &t->registry;
    const struct service_stats *s = service_stats(t->service);
    struct arena_usage mem = arena_usage(reg->pool.arena);
    struct metrics_writer w;
    (void)q;
    r->content_type = METRICS_CONTENT_TYPE;
    metrics_init(&w, &r->body);
    metrics_family(&w, "kbgp_target_build_info", METRICS_GAUGE, "The program's version.");
    metrics_int(&w, 1, {"version", KBGP_VERSION}, {"revision", KBGP_REVISION});
    metrics_family(&w, "kbgp_target_agents", METRICS_GAUGE, "Agents whose Control stream is up.");
    metrics_int(&w, s->agents);
    metrics_family(&w, "kbgp_target_auth_failures_total", METRICS_COUNTER,
                   "Calls with credentials that were rejected.");
    metrics_int(&w, (int64_t)s->auth_unknown_email, {"reason", "unknown_email"});
    metrics_int(&w, (int64_t)s->auth_bad_token, {"reason", "bad_token"});
    metrics_int(&w, (int64_t)s->auth_disabled, {"reason", "disabled"});
    metrics_int(&w, (int64_t)s->auth_error, {"reason", "error"});
    metrics_family(&w, "kbgp_target_control_answers_total", METRICS_COUNTER, "Answers on Control streams.");
    metrics_int(&w, (int64_t)s->answers_allow, {"action", "carry_on"});
    metrics_int(&w, (int64_t)s->answers_block, {"action", "block"});
    metrics_int(&w, (int64_t)s->answers_keepalive, {"action", "keepalive"});
    metrics_family(&w, "kbgp_target_control_pushes_total", METRICS_COUNTER,
                   "Changes pushed on Control streams.");
    metrics_int(&w, (int64_t)s->pushes);
    uint32_t waiting = 0;
    LIST_FOREACH (node, (struct list *)(uintptr_t)&reg->sessions)
        waiting += LIST_ITEM(node, struct registry_session, node)->lost_ms != 0;
    metrics_family(&w, "kbgp_target_sessions", METRICS_GAUGE, "BGP sessions.");
    metrics_int(&w, reg->count - waiting, {"state", "active"});
    metrics_int(&w, waiting, {"state", "waiting"});
    metrics_family(&w, "kbgp_target_sessions_opened_total", METRICS_COUNTER, "Sessions begun.");
    metrics_int(&w, (int64_t)reg->stats.opened);
    metrics_family(&w, "kbgp_target_sessions_closed_total", METRICS_COUNTER, "Sessions ended.");
    metrics_int(&w, (int64_t)reg->stats.closed_device, {"cause", "device"});
    metrics_int(&w, (int64_t)reg->stats.closed_backend, {"cause", "backend"});
    metrics_int(&w, (int64_t)reg->stats.killed, {"cause", "killed"});
    metrics_int(&w, (int64_t)reg->stats.expired, {"cause", "expired"});
    metrics_family(&w, "kbgp_target_duplicate_sessions_total", METRICS_COUNTER,
                   "Sessions of a router that already had one.");
    metrics_int(&w, (int64_t)reg->stats.duplicate);
    metrics_family(&w, "kbgp_target_relayed_bytes_total", METRICS_COUNTER, "Bytes of BGP sessions.");
    metrics_int(&w, (int64_t)reg->pool.bytes[1], {"direction", "up"});
    metrics_int(&w, (int64_t)reg->pool.bytes[0], {"direction", "down"});
    metrics_family(&w, "kbgp_target_ring_bytes", METRICS_GAUGE, "Memory for bytes on their way.");
    metrics_int(&w, (int64_t)mem.blocks_used * ARENA_BLOCK, {"state", "used"});
    metrics_int(&w, (int64_t)mem.blocks_kept * ARENA_BLOCK, {"state", "kept"});
    metrics_process(&w);
    if (w.failed)
        r->status = 500;
}

const struct api_route target_routes[] = {
    {.path = "/hc", .handle = health_page},
    {.path = "/admin/agents", .handle = agents_page},
    {.path = "/admin/sessions", .handle = sessions_page},
    {.path = "/metrics", .handle = metrics_page},
};
const size_t target_n_routes = sizeof target_routes / sizeof *target_routes;
