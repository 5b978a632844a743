#include "target/backend.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/log.h"
#include "target/collector.h"
#include "target/json_sink.h"

struct backend_collector {
    struct backend base;
    struct loop *loop;
    struct collector_config config;
    struct json_sink *sink; /* NULL: nobody reads along */
    struct list ends;
};

/* The collector's side of one session: the local end of its bridge. */
struct collector_end {
    struct bridge_local base;
    struct list node;
    struct backend_collector *be;
    struct bridge *bridge;
    struct collector_peer *peer;
    struct loop_timer *timer;
    bool said_eof;
};

/* What the peer wants to say goes into the session's ring, as if it had come from a socket; then its timer is set. */
static void settle(struct collector_end *end)
{
    struct buf *out = collector_output(end->peer);
    size_t wants = session_tcp_wants(bridge_session(end->bridge));
    size_t n = buf_len(out) < wants ? buf_len(out) : wants;
    if (n > 0 && bridge_put(end->bridge, buf_begin(out), n))
        buf_take(out, n);
    if (!end->said_eof && collector_finished(end->peer) && buf_len(out) == 0) {
        end->said_eof = true;
        bridge_eof(end->bridge);
    }
    int64_t due = collector_deadline_ms(end->peer);
    if (due == INT64_MAX)
        loop_timer_stop(end->timer);
    else
        loop_timer_start(end->timer, due - clock_mono_ms(), 0);
}

static void on_timer(void *arg)
{
    struct collector_end *end = arg;
    collector_tick(end->peer, clock_mono_ms());
    settle(end);
}

static void deliver(struct bridge_local *l, struct bridge *b)
{
    struct collector_end *end = (struct collector_end *)l;
    struct session *s = bridge_session(b);
    while (s->in.len > 0 && !(end->be->sink && json_sink_full(end->be->sink))) {
        struct iovec iov[RING_IOV];
        int pieces = ring_front(&s->in, bridge_arena(b), s->in.len, iov);
        size_t n = 0;
        for (int i = 0; i < pieces; i++) {
            collector_feed(end->peer, iov[i].iov_base, iov[i].iov_len, clock_mono_ms());
            n += iov[i].iov_len;
        }
        bridge_delivered(b, n);
    }
    settle(end);
}

static void adjust(struct bridge_local *l, struct bridge *b)
{
    (void)b;
    settle((struct collector_end *)l);
}

static void shut(struct bridge_local *l)
{
    struct collector_end *end = (struct collector_end *)l;
    collector_eof(end->peer, NULL, clock_mono_ms());
    settle(end);
}

static void close_end(struct bridge_local *l, bool abort)
{
    struct collector_end *end = (struct collector_end *)l;
    if (!collector_finished(end->peer))
        collector_eof(end->peer, abort ? "the session was killed" : NULL, clock_mono_ms());
    list_remove(&end->node);
    loop_timer_free(end->timer);
    collector_free(end->peer);
    free(end);
}

static const struct bridge_local_ops end_ops = {
    .deliver = deliver, .adjust = adjust, .shut = shut, .close = close_end};

static void ignore_event(void *arg, const struct collector_event *event)
{
    (void)arg;
    (void)event;
}

static bool open_collector(struct backend *base, struct bridge *b, const struct backend_peer *peer,
                           struct err *e)
{
    struct backend_collector *be = (struct backend_collector *)base;
    struct collector_end *end = calloc(1, sizeof *end);
    struct collector_identity identity = {
        .device = peer->device, .address = peer->address, .session = peer->session};
    if (!end || !(end->peer = collector_new(&be->config, &identity, clock_mono_ms()))) {
        free(end);
        return err_set(e, "out of memory");
    }
    end->base.ops = &end_ops;
    end->be = be;
    end->bridge = b;
    end->timer = loop_timer_new(be->loop, on_timer, end);
    list_append(&be->ends, &end->node);
    bridge_set_local(b, &end->base);
    return true;
}

static void cancel_collector(struct backend *base, struct bridge *b)
{
    (void)base;
    (void)b;
}

static void reload_collector(struct backend *base)
{
    struct backend_collector *be = (struct backend_collector *)base;
    struct err e;
    if (be->sink && !json_sink_reopen(be->sink, &e))
        log_error("cannot open the collector's JSON file again, going on with the old one",
                  LOG_STR("error", e.text));
}

static void free_collector(struct backend *base)
{
    struct backend_collector *be = (struct backend_collector *)base;
    json_sink_free(be->sink);
    free(be);
}

static const struct backend_ops ops = {
    .open = open_collector, .cancel = cancel_collector, .reload = reload_collector, .free = free_collector};

void backend_collector_shutdown(struct backend *base, const char *text)
{
    if (base->ops != &ops)
        return;
    struct backend_collector *be = (struct backend_collector *)base;
    LIST_FOREACH (node, &be->ends) {
        struct collector_end *end = LIST_ITEM(node, struct collector_end, node);
        collector_shutdown(end->peer, clock_mono_ms(), text);
        settle(end);
    }
}

/* The sink has room again: every session that waited goes on. */
static void on_room(void *arg)
{
    struct backend_collector *be = arg;
    LIST_FOREACH (node, &be->ends)
        bridge_kick(LIST_ITEM(node, struct collector_end, node)->bridge);
}

struct backend *backend_collector_new(struct loop *loop, const struct target_config *config, struct err *e)
{
    struct backend_collector *be = calloc(1, sizeof *be);
    if (!be) {
        err_set(e, "out of memory");
        return NULL;
    }
    be->base.ops = &ops;
    be->loop = loop;
    list_init(&be->ends);
    be->config = (struct collector_config){.local_as = config->local_as, .hold_time = config->hold_time};
    put_u32(be->config.router_id, config->router_id);
    be->config.sink = ignore_event;
    if (config->collector_json) {
        be->sink = json_sink_new(loop, config->collector_json, e);
        if (!be->sink) {
            free(be);
            return NULL;
        }
        json_sink_on_room(be->sink, on_room, be);
        be->config.sink = json_sink_event;
        be->config.sink_arg = be->sink;
    }
    return &be->base;
}
