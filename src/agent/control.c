#include "agent/control.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"

/* How often waiting connections are checked for having waited long enough. */
#define TICK_MS 250
/* After rejected credentials: asking more often would not make them right. */
#define REJECTED_RETRY_MS 60000
/* Questions that queue up while the stream is full; past this it is as good as dead. */
#define QUEUE_MAX (1u << 20)

/* The connections of one device that wait for the same answer. */
struct control_group {
    struct map_node by_ip;
    struct list node;
    struct addr device;
    struct list waiters;
    bool asked;       /* on this stream */
    int64_t asked_ns; /* when */
};

struct control {
    struct grpc_channel_config config;
    struct meta_agent agent;
    const struct control_ops *ops;
    void *arg;
    struct loop *loop;
    struct grpc_channel *channel;
    struct grpc_call *call;
    struct loop_timer *retry, *heartbeat, *heartbeat_wait, *tick;
    struct loop_task abandon;
    struct backoff backoff;
    struct buf tx; /* messages to send: a uint32_t length in front of each */
    struct buf rx; /* the message coming in */
    bool rx_too_long;
    struct answers answers;
    uint64_t seed;
    struct map groups_by_ip;
    struct list groups;
    uint32_t n_waiters;
    struct control_stats stats;
    int64_t heartbeat_tx_ns;
    bool lost; /* the stream was up and is gone: on_down() knows why */
};

static void open_call(struct control *c);

const char *control_reconnect_name(enum control_reconnect reason)
{
    static const char *const names[CONTROL_RECONNECTS] = {
        [CONTROL_RECONNECT_CLOSED] = "closed",
        [CONTROL_RECONNECT_RESET] = "reset",
        [CONTROL_RECONNECT_PING_TIMEOUT] = "ping_timeout",
        [CONTROL_RECONNECT_PROTOCOL] = "protocol",
        [CONTROL_RECONNECT_GOAWAY] = "goaway",
        [CONTROL_RECONNECT_HEARTBEAT_TIMEOUT] = "heartbeat_timeout",
        [CONTROL_RECONNECT_ENDED] = "ended",
        [CONTROL_RECONNECT_AUTH] = "auth",
    };
    return names[reason];
}

static void tell_changed(struct control *c)
{
    if (c->ops->changed)
        c->ops->changed(c->arg);
}

/* --- sending --- */

static void enqueue(struct control *c, const struct control_request *m)
{
    if (!c->call || buf_len(&c->tx) > QUEUE_MAX)
        return;
    struct buf message = {0};
    if (control_request_encode(m, &message)) {
        uint32_t len = (uint32_t)buf_len(&message);
        buf_append(&c->tx, &len, sizeof len);
        buf_append(&c->tx, buf_begin(&message), len);
        c->stats.messages_tx++;
        c->stats.messages[m->action == CONTROL_KEEPALIVE ? CONTROL_TX_KEEPALIVE : CONTROL_TX_REQUEST]++;
        grpc_call_wake(c->call);
    }
    buf_free(&message);
}

static int64_t on_next(void *arg)
{
    struct control *c = arg;
    uint32_t len;
    if (buf_len(&c->tx) < sizeof len)
        return -1;
    memcpy(&len, buf_begin(&c->tx), sizeof len);
    buf_take(&c->tx, sizeof len);
    return len;
}

static void on_write(void *arg, uint8_t *dst, size_t n)
{
    struct control *c = arg;
    memcpy(dst, buf_begin(&c->tx), n);
    buf_take(&c->tx, n);
}

static void ask_group(struct control *c, struct control_group *g)
{
    if (!c->call || g->asked || list_empty(&g->waiters))
        return;
    const struct control_lookup *first = LIST_ITEM(g->waiters.next, struct control_lookup, node);
    struct control_request m = {.action = CONTROL_CARRY_ON, .device = first->device, .proxy = first->proxy};
    g->asked = true;
    g->asked_ns = clock_mono_ns();
    enqueue(c, &m);
}

/* --- heartbeat --- */

static void on_heartbeat(void *arg)
{
    struct control *c = arg;
    struct control_request m = {.action = CONTROL_KEEPALIVE};
    enqueue(c, &m);
    c->stats.heartbeat_tx_wall_ns = clock_wall_ns();
    c->heartbeat_tx_ns = clock_mono_ns();
    c->stats.heartbeat_tx_ms = c->heartbeat_tx_ns / 1000000;
    c->stats.heartbeat_waits = true;
    loop_timer_start(c->heartbeat_wait, CONTROL_HEARTBEAT_WAIT_MS, 0);
}

/* --- up and down --- */

static void mark_up(struct control *c)
{
    if (c->stats.connected)
        return;
    c->stats.connected = true;
    c->stats.rejected = false;
    c->stats.since_wall_ns = clock_wall_ns();
    c->stats.since_ms = clock_mono_ms();
    log_info("Control stream is up", LOG_STR("target", c->config.authority));
    tell_changed(c);
}

/* A message may carry a device's key. */
static void drop_message(struct buf *message)
{
    if (message->data)
        explicit_bzero(message->data, message->cap);
    buf_free(message);
}

static void mark_down(struct control *c)
{
    c->call = NULL;
    buf_free(&c->tx);
    drop_message(&c->rx);
    loop_timer_stop(c->heartbeat);
    loop_timer_stop(c->heartbeat_wait);
    c->stats.heartbeat_waits = false;
    LIST_FOREACH (node, &c->groups)
        LIST_ITEM(node, struct control_group, node)->asked = false;
    if (!c->stats.connected)
        return;
    if (clock_mono_ms() - c->stats.since_ms >= GRPC_HEALTHY_MS)
        backoff_reset(&c->backoff);
    c->stats.connected = false;
    c->stats.since_wall_ns = clock_wall_ns();
    c->stats.since_ms = clock_mono_ms();
    tell_changed(c);
}

static void on_rejected(struct control *c, const struct grpc_status *status, bool connected)
{
    int64_t wait = REJECTED_RETRY_MS;
    bool told = c->stats.rejected;
    if (c->config.stats)
        c->config.stats->failures[GRPC_FAILURE_AUTH]++;
    c->stats.rejected = true;
    if (c->ops->rejected(c->arg)) {
        /* Others, that have not been tried. */
        backoff_reset(&c->backoff);
        wait = backoff_next(&c->backoff, random_u64());
        told = true;
        c->stats.rejected = false;
    }
    if (connected)
        loop_timer_start(c->retry, wait, 0);
    if (!told)
        log_error("the target rejected the credentials: check --email and --token",
                  LOG_STR("email", c->agent.email), LOG_STR("target", c->config.authority),
                  LOG_STR("grpc-message", status->message), LOG_NUM("retry-ms", wait));
}

static void on_closed(void *arg, const struct grpc_status *status)
{
    struct control *c = arg;
    bool was_up = c->stats.connected;
    mark_down(c);
    enum grpc_channel_state state = grpc_channel_state(c->channel);
    bool connected = state == GRPC_CHANNEL_READY || state == GRPC_CHANNEL_DRAINING;
    if (was_up && state == GRPC_CHANNEL_READY)
        c->stats.reconnects[status->code == GRPC_UNAUTHENTICATED ? CONTROL_RECONNECT_AUTH
                                                                 : CONTROL_RECONNECT_ENDED]++;
    else if (was_up && state == GRPC_CHANNEL_DRAINING)
        c->stats.reconnects[CONTROL_RECONNECT_GOAWAY]++;
    else
        c->lost = was_up;
    if (status->code == GRPC_UNAUTHENTICATED) {
        on_rejected(c, status, connected);
        return;
    }
    int64_t wait = 0;
    if (connected) {
        /* The call ended, not the connection: the wait is ours. */
        wait = backoff_next(&c->backoff, random_u64());
        loop_timer_start(c->retry, wait, 0);
    }
    /* A lost connection has its own line (on_down). */
    if (wait > 0)
        log_warn(was_up ? "Control stream ended" : "Control stream refused",
                 LOG_STR("target", c->config.authority), LOG_STR("grpc-status", grpc_code_name(status->code)),
                 LOG_STR("grpc-message", status->message), LOG_NUM("retry-ms", wait));
}

static void on_heartbeat_wait(void *arg)
{
    struct control *c = arg;
    log_warn("Control stream is dead: no answer to a KEEPALIVE, opening another",
             LOG_STR("target", c->config.authority), LOG_NUM("timeout-ms", CONTROL_HEARTBEAT_WAIT_MS));
    struct grpc_call *call = c->call;
    c->stats.reconnects[CONTROL_RECONNECT_HEARTBEAT_TIMEOUT] += c->stats.connected;
    mark_down(c);
    if (call)
        grpc_call_cancel(call);
    loop_timer_start(c->retry, backoff_next(&c->backoff, random_u64()), 0);
}

/* --- receiving --- */

/* `logged`: the denial, if it is one, has its line already. */
static void serve_group(struct control *c, struct control_group *g, const struct control_response *r,
                        bool logged)
{
    bool first = !logged;
    while (!list_empty(&g->waiters)) {
        struct control_lookup *lk = LIST_ITEM(g->waiters.next, struct control_lookup, node);
        list_remove(&lk->node);
        lk->group = NULL;
        c->n_waiters--;
        enum control_verdict verdict = CONTROL_ALLOW;
        if (r->action == CONTROL_BLOCK_IP)
            verdict = first ? CONTROL_BLOCK : CONTROL_BLOCK_QUIET;
        first = false;
        lk->done(lk->arg, verdict, r);
    }
    map_remove(&c->groups_by_ip, &g->by_ip);
    list_remove(&g->node);
    free(g);
}

static struct control_group *find_group(struct control *c, const struct addr *device)
{
    uint64_t hash = addr_ip_hash(device, c->seed);
    for (struct map_node *n = map_find(&c->groups_by_ip, hash); n; n = map_find_next(n)) {
        struct control_group *g = MAP_ITEM(n, struct control_group, by_ip);
        if (addr_same_ip(&g->device, device))
            return g;
    }
    return NULL;
}

static void on_message(struct control *c, const uint8_t *p, size_t n)
{
    struct control_response r;
    struct err e;
    c->stats.messages_rx++;
    mark_up(c);
    if (!control_response_decode(p, n, &r, &e)) {
        c->stats.messages[CONTROL_RX_UNUSABLE]++;
        log_warn("Control message is not usable, ignoring it", LOG_STR("target", c->config.authority),
                 LOG_STR("error", e.text));
        return;
    }
    if (r.action == CONTROL_KEEPALIVE) {
        c->stats.heartbeat_rx_wall_ns = clock_wall_ns();
        c->stats.heartbeat_rx_ms = clock_mono_ms();
        c->stats.messages[CONTROL_RX_KEEPALIVE]++;
        if (c->stats.heartbeat_waits) {
            int64_t rtt = clock_mono_ns() - c->heartbeat_tx_ns;
            c->stats.heartbeat_rtt_ms = rtt / 1000000;
            metrics_observe(&c->stats.heartbeat_rtt, rtt);
        }
        c->stats.heartbeat_waits = false;
        loop_timer_stop(c->heartbeat_wait);
        tell_changed(c);
        return;
    }
    struct control_group *g = find_group(c, &r.device);
    bool pushed = r.device.port == 0;
    c->stats.messages[pushed ? CONTROL_RX_PUSH : CONTROL_RX_ANSWER]++;
    if (!pushed && g && g->asked)
        metrics_observe(&c->stats.lookup, clock_mono_ns() - g->asked_ns);
    bool logged = c->ops->answer(c->arg, &r, pushed);
    /* Asking anew during the callbacks below must not meet the group that is being served. */
    if (g)
        serve_group(c, g, &r, logged);
    answers_put(&c->answers, &r, clock_mono_ms());
}

static void on_metadata(void *arg, const struct kv *metadata)
{
    (void)metadata;
    mark_up(arg);
}

static void on_message_begin(void *arg, uint32_t len)
{
    struct control *c = arg;
    drop_message(&c->rx);
    c->rx_too_long = len > CONTROL_MESSAGE_MAX;
    /* All of it at once: growing would leave copies of what came first, perhaps a key, in freed memory. */
    if (!c->rx_too_long)
        buf_reserve(&c->rx, len);
    c->stats.messages[CONTROL_RX_UNUSABLE] += c->rx_too_long;
    if (c->rx_too_long)
        log_warn("Control message is too long, ignoring it", LOG_STR("target", c->config.authority),
                 LOG_NUM("bytes", len), LOG_NUM("limit", CONTROL_MESSAGE_MAX));
}

static void on_message_bytes(void *arg, const uint8_t *p, size_t n)
{
    struct control *c = arg;
    if (!c->rx_too_long)
        buf_append(&c->rx, p, n);
    grpc_call_consume(c->call, n);
}

static void on_message_end(void *arg)
{
    struct control *c = arg;
    if (c->rx_too_long)
        return;
    struct buf message = c->rx;
    c->rx = (struct buf){0};
    on_message(c, buf_begin(&message), buf_len(&message));
    drop_message(&message);
}

static const struct grpc_call_ops call_ops = {
    .metadata = on_metadata,
    .message_begin = on_message_begin,
    .message_bytes = on_message_bytes,
    .message_end = on_message_end,
    .closed = on_closed,
    .next = on_next,
    .write = on_write,
};

/* --- the channel --- */

static void open_call(struct control *c)
{
    if (c->call || loop_timer_active(c->retry))
        return;
    struct kv metadata = {0};
    if (meta_control(&metadata, &c->agent))
        c->call = grpc_channel_call(c->channel, META_PATH_CONTROL, &metadata, &call_ops, c);
    kv_free(&metadata);
    if (!c->call) {
        /* Not connected: on_up() comes back here. Connected: the server takes no call now. */
        if (grpc_channel_state(c->channel) == GRPC_CHANNEL_READY) {
            int64_t wait = backoff_next(&c->backoff, random_u64());
            log_warn("the target takes no Control stream on this connection",
                     LOG_STR("target", c->config.authority), LOG_NUM("retry-ms", wait));
            loop_timer_start(c->retry, wait, 0);
        }
        return;
    }
    on_heartbeat(c);
    loop_timer_start(c->heartbeat, CONTROL_HEARTBEAT_MS, CONTROL_HEARTBEAT_MS);
    LIST_FOREACH (node, &c->groups)
        ask_group(c, LIST_ITEM(node, struct control_group, node));
}

static void on_up(void *arg)
{
    open_call(arg);
}

void control_credentials_changed(struct control *c)
{
    if (!c->stats.rejected)
        return;
    c->stats.rejected = false;
    backoff_reset(&c->backoff);
    if (loop_timer_active(c->retry))
        loop_timer_start(c->retry, backoff_next(&c->backoff, random_u64()), 0);
}

static const struct grpc_channel_ops channel_ops;

/* GOAWAY: the old connection is not waited for; asking again on a new one costs nothing. */
static void on_abandon(void *arg)
{
    struct control *c = arg;
    struct grpc_channel *old = c->channel;
    struct grpc_channel_config config = c->config;
    if (c->call)
        grpc_call_cancel(c->call);
    /* A target that ends each connection as soon as it is up is not asked in a tight loop. */
    if (!c->stats.connected || clock_mono_ms() - c->stats.since_ms < GRPC_HEALTHY_MS)
        config.first_dial_ms = backoff_next(&c->backoff, random_u64());
    c->stats.reconnects[CONTROL_RECONNECT_GOAWAY] += c->stats.connected;
    mark_down(c);
    loop_timer_stop(c->retry);
    c->channel = grpc_channel_new(&config, &channel_ops, c);
    grpc_channel_free(old);
}

static void on_draining(void *arg, const char *why)
{
    struct control *c = arg;
    log_info("the target ends the Control connection, opening another",
             LOG_STR("target", c->config.authority), LOG_STR("reason", why));
    loop_task_defer(&c->abandon);
}

static void on_down(void *arg, const char *stage, const struct err *why, int64_t retry_ms)
{
    struct control *c = arg;
    if (retry_ms < 0)
        return; /* a drained one: on_abandon() sees to it */
    loop_timer_stop(c->retry);
    for (unsigned i = 0; c->lost && i <= CONTROL_RECONNECT_PROTOCOL; i++)
        c->stats.reconnects[i] += strcmp(stage, control_reconnect_name(i)) == 0;
    c->lost = false;
    log_warn("no connection to the target", LOG_STR("target", c->config.authority),
             LOG_STR("channel", "control"), LOG_STR("stage", stage), LOG_STR("error", why->text),
             LOG_NUM("retry-ms", retry_ms));
}

static const struct grpc_channel_ops channel_ops = {.up = on_up, .draining = on_draining, .down = on_down};

static void on_retry(void *arg)
{
    open_call(arg);
}

/* --- lookups --- */

static void leave_group(struct control *c, struct control_lookup *lk)
{
    struct control_group *g = lk->group;
    list_remove(&lk->node);
    lk->group = NULL;
    c->n_waiters--;
    if (list_empty(&g->waiters)) {
        map_remove(&c->groups_by_ip, &g->by_ip);
        list_remove(&g->node);
        free(g);
    }
}

static void on_tick(void *arg)
{
    struct control *c = arg;
    int64_t now = loop_now_ms(c->loop);
    /* Waiters of a group came in order, so that the first is the next to give up. */
    LIST_FOREACH (node, &c->groups) {
        struct control_group *g = LIST_ITEM(node, struct control_group, node);
        for (;;) {
            struct control_lookup *lk = LIST_ITEM(g->waiters.next, struct control_lookup, node);
            bool last = lk->node.next == &g->waiters;
            if (lk->deadline_ms > now)
                break;
            leave_group(c, lk);
            lk->done(lk->arg, CONTROL_NO_ANSWER, NULL);
            if (last)
                break;
        }
    }
    if (list_empty(&c->groups))
        loop_timer_stop(c->tick);
}

bool control_ask(struct control *c, struct control_lookup *lk, enum control_verdict *verdict,
                 const struct control_response **answer)
{
    *answer = answers_use(&c->answers, &lk->device, clock_mono_ms());
    if (*answer) {
        *verdict = (*answer)->action == CONTROL_BLOCK_IP ? CONTROL_BLOCK_QUIET : CONTROL_ALLOW;
        return true;
    }
    *verdict = CONTROL_FULL;
    struct control_group *g = find_group(c, &lk->device);
    if (c->n_waiters >= CONTROL_WAITERS_MAX || (!g && c->groups_by_ip.count >= CONTROL_LOOKUPS_MAX))
        return true;
    if (!g) {
        g = calloc(1, sizeof *g);
        if (!g || !map_insert(&c->groups_by_ip, &g->by_ip, addr_ip_hash(&lk->device, c->seed))) {
            free(g);
            return true;
        }
        g->device = lk->device;
        list_init(&g->waiters);
        list_append(&c->groups, &g->node);
    }
    lk->group = g;
    lk->deadline_ms = loop_now_ms(c->loop) + CONTROL_LOOKUP_MS;
    list_append(&g->waiters, &lk->node);
    c->n_waiters++;
    ask_group(c, g);
    if (!loop_timer_active(c->tick))
        loop_timer_start(c->tick, TICK_MS, TICK_MS);
    return false;
}

void control_forget_lookup(struct control *c, struct control_lookup *lk)
{
    if (lk->group)
        leave_group(c, lk);
}

bool control_blocked(struct control *c, const struct addr *device)
{
    return answers_blocked(&c->answers, device, clock_mono_ms());
}

bool control_refuses(struct control *c, const struct addr *device)
{
    return answers_refuse(&c->answers, device, clock_mono_ms());
}

void control_forget(struct control *c, const struct addr *device)
{
    answers_drop(&c->answers, device);
}

const struct control_stats *control_stats(const struct control *c)
{
    return &c->stats;
}

const struct grpc_channel *control_channel(const struct control *c)
{
    return c->channel;
}

const struct answers *control_answers(const struct control *c)
{
    return &c->answers;
}

/* --- life --- */

struct control *control_new(const struct grpc_channel_config *channel, const struct meta_agent *agent,
                            const struct control_ops *ops, void *arg)
{
    struct control *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->config = *channel;
    c->agent = *agent;
    c->ops = ops;
    c->arg = arg;
    c->loop = channel->loop;
    c->seed = random_u64();
    list_init(&c->groups);
    metrics_histogram_init_latency(&c->stats.heartbeat_rtt);
    metrics_histogram_init_latency(&c->stats.lookup);
    answers_init(&c->answers, random_u64());
    c->retry = loop_timer_new(c->loop, on_retry, c);
    c->heartbeat = loop_timer_new(c->loop, on_heartbeat, c);
    c->heartbeat_wait = loop_timer_new(c->loop, on_heartbeat_wait, c);
    c->tick = loop_timer_new(c->loop, on_tick, c);
    loop_task_init(&c->abandon, c->loop, on_abandon, c);
    c->channel = grpc_channel_new(&c->config, &channel_ops, c);
    if (!c->channel) {
        control_free(c);
        return NULL;
    }
    return c;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    loop_task_cancel(&c->abandon);
    if (c->call)
        grpc_call_cancel(c->call);
    c->call = NULL;
    grpc_channel_free(c->channel);
    while (!list_empty(&c->groups)) {
        struct control_group *g = LIST_ITEM(c->groups.next, struct control_group, node);
        while (!list_empty(&g->waiters)) {
            struct control_lookup *lk = LIST_ITEM(g->waiters.next, struct control_lookup, node);
            list_remove(&lk->node);
            lk->group = NULL;
        }
        list_remove(&g->node);
        free(g);
    }
    map_free(&c->groups_by_ip);
    answers_free(&c->answers);
    loop_timer_free(c->retry);
    loop_timer_free(c->heartbeat);
    loop_timer_free(c->heartbeat_wait);
    loop_timer_free(c->tick);
    buf_free(&c->tx);
    drop_message(&c->rx);
    free(c);
}
