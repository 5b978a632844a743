#include "target/registry.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "bridge/tcp_end.h"

/* Address space for rings: 1 GiB, taken only as it fills. */
#define RING_BLOCKS (1u << 18)

struct names {
    char peer[ADDR_TEXT_MAX], agent[ADDR_TEXT_MAX];
};

static struct names names_of(const struct registry_session *s)
{
    struct names n;
    addr_text(&bridge_session(s->bridge)->device, n.peer);
    addr_text(&s->agent, n.agent);
    return n;
}

#define WHO(s, n)                                                                                            \
    LOG_STR("device", (s)->device), LOG_STR("peer-addr", (n).peer), LOG_STR("agent", (n).agent),             \
        LOG_STR("session-id", bridge_session((s)->bridge)->id.text)

bool registry_init(struct registry *r, struct loop *loop, struct backend *backend, uint32_t max,
                   struct err *e)
{
    *r = (struct registry){.loop = loop, .backend = backend, .max = max, .seed = random_u64()};
    list_init(&r->sessions);
    bridge_pool_init(&r->pool, loop, arena_new(max, sizeof(struct session), RING_BLOCKS, e));
    return r->pool.arena != NULL;
}

static void session_free(struct registry_session *s)
{
    struct registry *r = s->registry;
    map_remove(&r->by_id, &s->by_id);
    map_remove(&r->by_ip, &s->by_ip);
    list_remove(&s->node);
    r->count--;
    r->backend->ops->cancel(r->backend, s->bridge);
    bridge_free(s->bridge);
    free(s);
}

void registry_free(struct registry *r)
{
    while (!list_empty(&r->sessions))
        session_free(LIST_ITEM(r->sessions.next, struct registry_session, node));
    tcp_end_cut_lingering(&r->pool);
    map_free(&r->by_id);
    map_free(&r->by_ip);
    arena_free(r->pool.arena);
}

/* --- what the bridge tells --- */

static void on_call_lost(void *arg, const struct grpc_status *status)
{
    struct registry_session *s = arg;
    s->lost_ms = clock_mono_ms();
    if (status->code == GRPC_OK)
        return; /* a RESTART: the agent is about to open the next stream */
    struct names n = names_of(s);
    log_warn("Data stream lost, the session waits for its agent", WHO(s, n),
             LOG_STR("grpc-status", grpc_code_name(status->code)), LOG_STR("error", status->message),
             LOG_NUM("window-ms", REGISTRY_WINDOW_MS));
}

static void log_ended(const struct registry_session *s, const char *reason)
{
    const struct session *session = bridge_session(s->bridge);
    const struct bgp_watch *seen = &session->seen;
    struct names n = names_of(s);
    char up[BGP_WATCH_TEXT_MAX], down[BGP_WATCH_TEXT_MAX];
    log_info("session ended", WHO(s, n), LOG_STR("reason", reason),
             LOG_NUM("duration-ms", clock_mono_ms() - s->opened_ms),
             LOG_NUM("bytes-up", session->received.bytes), LOG_NUM("bytes-down", session->sent.bytes),
             LOG_NUM("messages-up", session->received.messages),
             LOG_NUM("messages-down", session->sent.messages), LOG_NUM("streams", s->streams),
             LOG_STR("notification-up", bgp_watch_notification_text(seen, &seen->in, up)),
             LOG_STR("notification-down", bgp_watch_notification_text(seen, &seen->out, down)));
}

static void on_over(void *arg, enum session_todo how)
{
    struct registry_session *s = arg;
    struct registry *r = s->registry;
    const struct session *session = bridge_session(s->bridge);
    const char *reason;
    if (how == SESSION_ABORT) {
        reason = session->kill_received ? "the agent sent KILL" : "killed";
        r->stats.killed++;
    } else if (r->stopping) {
        reason = "the target stops";
    } else if (s->ending_ms != 0 || session->tcp_shut) {
        reason = "the router closed the connection";
        r->stats.closed_device++;
    } else {
        reason = "the backend closed the session";
        r->stats.closed_backend++;
    }
    if (log_enabled(LOG_LEVEL_INFO))
        log_ended(s, reason);
    session_free(s);
}

static const struct bridge_ops bridge_ops = {.call_lost = on_call_lost, .over = on_over};

/* --- attaching --- */

static struct registry_session *find(struct registry *r, const struct uuid *id)
{
    uint64_t hash = map_hash_text(id->text, r->seed);
    for (struct map_node *node = map_find(&r->by_id, hash); node; node = map_find_next(node)) {
        struct registry_session *s = MAP_ITEM(node, struct registry_session, by_id);
        if (uuid_same(&bridge_session(s->bridge)->id, id))
            return s;
    }
    return NULL;
}

/* A router has one BGP session. Its older one, if it only waits for an agent, will not come back. */
static void replace_older(struct registry *r, const struct meta_session *meta,
                          const struct registry_caller *caller)
{
    uint64_t hash = addr_ip_hash(&meta->device, r->seed);
    struct map_node *next;
    for (struct map_node *node = map_find(&r->by_ip, hash); node; node = next) {
        next = map_find_next(node);
        struct registry_session *s = MAP_ITEM(node, struct registry_session, by_ip);
        if (s->company_id != caller->device->company_id || s->device_id != caller->device->id)
            continue;
        struct names n = names_of(s);
        if (s->lost_ms != 0) {
            log_info("the router has connected anew, ending its older session", WHO(s, n));
            session_free(s);
        } else if (s->ending_ms == 0) {
            r->stats.duplicate++;
            log_warn("the router has another session: one router on two agents, or two sessions of it",
                     WHO(s, n));
        }
    }
}

static struct registry_session *begin(struct registry *r, const struct meta_session *meta,
                                      const struct registry_caller *caller)
{
    struct registry_session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->registry = r;
    s->bridge = bridge_new(&r->pool, SESSION_TARGET, &meta->id, &meta->device, &meta->proxy, &bridge_ops, s);
    if (!s->bridge || !map_insert(&r->by_id, &s->by_id, map_hash_text(meta->id.text, r->seed))) {
        bridge_free(s->bridge);
        free(s);
        return NULL;
    }
    if (!map_insert(&r->by_ip, &s->by_ip, addr_ip_hash(&meta->device, r->seed))) {
        map_remove(&r->by_id, &s->by_id);
        bridge_free(s->bridge);
        free(s);
        return NULL;
    }
    list_append(&r->sessions, &s->node);
    r->count++;
    s->company_id = caller->device->company_id;
    s->device_id = caller->device->id;
    s->site_id = caller->device->site_id;
    s->agent_site = caller->agent_site;
    snprintf(s->device, sizeof s->device, "%s", caller->device->name);
    snprintf(s->instance, sizeof s->instance, "%s", caller->instance);
    s->opened_wall_ns = clock_wall_ns();
    s->opened_ms = clock_mono_ms();
    return s;
}

/* Answers the call with our counters and goes on, if the two ends agree. */
static bool accept_call(struct registry_session *s, struct grpc_call *call, const struct meta_session *meta,
                        const struct registry_caller *caller)
{
    struct session *session = bridge_session(s->bridge);
    struct session_counters mine = session_counters(session);
    struct kv metadata = {0};
    meta_counters(&metadata, &mine);
    bridge_accept(s->bridge, call, &metadata);
    kv_free(&metadata);
    s->agent = *caller->agent;
    s->lost_ms = 0;
    s->streams++;
    if (session_peer_counters(session, &meta->counters))
        return true;
    struct names n = names_of(s);
    s->registry->stats.mismatched++;
    log_warn("the agent counts other messages than we do: bytes were lost, killing the session", WHO(s, n),
             LOG_NUM("counter-up", mine.up), LOG_NUM("counter-down", mine.down),
             LOG_NUM("agent-counter-up", meta->counters.up),
             LOG_NUM("agent-counter-down", meta->counters.down));
    bridge_kick(s->bridge);
    return false;
}

void registry_attach(struct registry *r, struct grpc_call *call, const struct meta_session *meta,
                     const struct registry_caller *caller)
{
    struct registry_session *s = find(r, &meta->id);
    if (s && (s->company_id != caller->device->company_id || s->device_id != caller->device->id)) {
        grpc_call_finish(call, GRPC_PERMISSION_DENIED, "this session is another device's");
        return;
    }
    if (s) {
        r->stats.resumed++;
        struct names n = names_of(s);
        log_info("Data stream goes on", WHO(s, n), LOG_NUM("counter-up", meta->counters.up),
                 LOG_NUM("counter-down", meta->counters.down));
        accept_call(s, call, meta, caller);
        return;
    }
    if (r->stopping || r->count >= r->max) {
        r->stats.refused_limit += !r->stopping;
        if (!r->stopping)
            log_warn("too many sessions, refusing one", LOG_NUM("limit", r->max),
                     LOG_STR("device", caller->device->name));
        grpc_call_finish(call, GRPC_UNAVAILABLE,
                         r->stopping ? "the target stops" : "the target has no room for more sessions");
        return;
    }
    replace_older(r, meta, caller);
    s = begin(r, meta, caller);
    if (!s) {
        grpc_call_finish(call, GRPC_UNAVAILABLE, "the target is out of memory");
        return;
    }
    r->stats.opened++;
    if (!accept_call(s, call, meta, caller))
        return; /* an agent that goes on with a session we no longer know */
    if (log_enabled(LOG_LEVEL_INFO)) {
        struct names n = names_of(s);
        log_info("session opened", WHO(s, n), LOG_STR("instance", s->instance));
    }
    char address[ADDR_TEXT_MAX];
    struct backend_peer peer = {
        .device = s->device, .address = addr_ip_text(&meta->device, address), .session = meta->id.text};
    struct err e;
    if (!r->backend->ops->open(r->backend, s->bridge, &peer, &e)) {
        struct names n = names_of(s);
        log_error("no backend for the session, it ends", WHO(s, n), LOG_STR("error", e.text));
        bridge_broken(s->bridge);
    }
}

/* --- time and ends --- */

static void abort_session(struct registry_session *s)
{
    session_kill(bridge_session(s->bridge));
    bridge_kick(s->bridge);
}

void registry_tick(struct registry *r)
{
    int64_t now = clock_mono_ms();
    LIST_FOREACH (node, &r->sessions) {
        struct registry_session *s = LIST_ITEM(node, struct registry_session, node);
        struct names n;
        if (s->ending_ms == 0 && bridge_session(s->bridge)->peer_done)
            s->ending_ms = now;
        if (s->kill_ms == 0 && bridge_session(s->bridge)->kill_due)
            s->kill_ms = now;
        if (s->kill_ms != 0 && now - s->kill_ms > REGISTRY_KILL_MS) {
            /* The agent takes no more bytes, not even the KILL: the broken stream tells it as well. */
            n = names_of(s);
            log_warn("the KILL cannot be sent, cutting the session", WHO(s, n));
            r->stats.killed++;
            session_free(s);
            continue;
        }
        if (s->lost_ms != 0 && now - s->lost_ms > REGISTRY_WINDOW_MS) {
            n = names_of(s);
            log_warn("the agent did not come back, ending the session", WHO(s, n),
                     LOG_NUM("window-ms", REGISTRY_WINDOW_MS));
            r->stats.expired++;
            session_free(s);
        } else if (s->ending_ms != 0 && now - s->ending_ms > REGISTRY_FINISH_MS) {
            n = names_of(s);
            log_warn("the router has gone but the backend does not close, ending the session", WHO(s, n));
            s->ending_ms = now;
            abort_session(s);
        }
    }
    arena_trim(r->pool.arena);
}

void registry_review(struct registry *r, bool (*keep)(void *arg, const struct registry_session *s), void *arg)
{
    LIST_FOREACH (node, &r->sessions) {
        struct registry_session *s = LIST_ITEM(node, struct registry_session, node);
        if (keep(arg, s))
            continue;
        struct names n = names_of(s);
        log_info("the device may not connect any more, ending its session", WHO(s, n));
        abort_session(s);
    }
}

void registry_stop(struct registry *r)
{
    r->stopping = true;
    backend_collector_shutdown(r->backend, "kbgp-target stops");
    LIST_FOREACH (node, &r->sessions) {
        struct registry_session *s = LIST_ITEM(node, struct registry_session, node);
        if (!bridge_has_call(s->bridge))
            session_free(s);
        else
            bridge_eof(s->bridge);
    }
}
