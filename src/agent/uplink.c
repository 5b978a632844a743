#include "agent/uplink.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/uuid.h"

struct uplink {
    struct grpc_channel_config config;
    uint32_t multi;
    const struct uplink_ops *ops;
    /* Connections with seats left; and full ones, at which a session that comes need not look. */
    struct list links, full;
    /* For a target that ends connections as soon as they are up, or takes no call on them: new ones wait. */
    struct backoff backoff;
    int64_t not_before_ms;
};

struct uplink_link {
    struct list node;
    struct uplink *uplink;
    struct grpc_channel *channel;
    struct list seats;
    uint32_t n_seats;
    struct loop_timer *idle;
    struct loop_task reap;
    int64_t up_ms;       /* when it last came up */
    bool draining, over; /* over: drained and gone */
};

static void link_free(struct uplink_link *l)
{
    list_remove(&l->node);
    loop_timer_free(l->idle);
    loop_task_cancel(&l->reap);
    grpc_channel_free(l->channel);
    free(l);
}

static void on_reap(void *arg)
{
    struct uplink_link *l = arg;
    if (l->over && l->n_seats == 0)
        link_free(l);
}

static void on_idle(void *arg)
{
    struct uplink_link *l = arg;
    if (l->n_seats == 0)
        link_free(l);
}

/* --- the channel's events --- */

/* This connection was of no use, so the next one waits; `healthy`: it was. */
static void judge(struct uplink_link *l, bool healthy)
{
    struct uplink *u = l->uplink;
    if (healthy)
        backoff_reset(&u->backoff);
    else
        u->not_before_ms = loop_now_ms(u->config.loop) + backoff_next(&u->backoff, random_u64());
}

static void on_up(void *arg)
{
    struct uplink_link *l = arg;
    l->up_ms = loop_now_ms(l->uplink->config.loop);
    if (grpc_channel_room(l->channel) == 0)
        judge(l, false);
    LIST_FOREACH (node, &l->seats)
        l->uplink->ops->up(LIST_ITEM(node, struct uplink_seat, node));
}

static void on_draining(void *arg, const char *why)
{
    struct uplink_link *l = arg;
    l->draining = true;
    judge(l, loop_now_ms(l->uplink->config.loop) - l->up_ms >= GRPC_HEALTHY_MS);
    log_info("the target ends a connection, its sessions move to another",
             LOG_STR("target", l->uplink->config.authority), LOG_STR("reason", why),
             LOG_NUM("sessions", l->n_seats));
    LIST_FOREACH (node, &l->seats)
        l->uplink->ops->draining(LIST_ITEM(node, struct uplink_seat, node));
}

static void on_down(void *arg, const char *stage, const struct err *why, int64_t retry_ms)
{
    struct uplink_link *l = arg;
    struct uplink *u = l->uplink;
    if (retry_ms < 0) {
        l->over = true;
        loop_task_defer(&l->reap);
        return;
    }
    log_warn("no connection to the target", LOG_STR("target", u->config.authority),
             LOG_STR("channel", "data"), LOG_STR("stage", stage), LOG_STR("error", why->text),
             LOG_NUM("retry-ms", retry_ms), LOG_NUM("sessions", l->n_seats));
}

static const struct grpc_channel_ops channel_ops = {.up = on_up, .draining = on_draining, .down = on_down};

/* --- seats --- */

static struct uplink_link *link_new(struct uplink *u)
{
    struct uplink_link *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->uplink = u;
    list_init(&l->seats);
    l->idle = loop_timer_new(u->config.loop, on_idle, l);
    loop_task_init(&l->reap, u->config.loop, on_reap, l);
    list_append(&u->links, &l->node);
    struct grpc_channel_config config = u->config;
    config.first_dial_ms = u->not_before_ms - loop_now_ms(u->config.loop);
    l->channel = grpc_channel_new(&config, &channel_ops, l);
    if (!l->channel) {
        link_free(l);
        return NULL;
    }
    return l;
}

static void move(struct uplink_link *l, struct list *to)
{
    list_remove(&l->node);
    list_append(to, &l->node);
}

static bool has_room(const struct uplink_link *l)
{
    if (l->draining)
        return false;
    /* `room` counts calls that are open; those that sit here without a call yet need theirs too. */
    uint32_t room = grpc_channel_room(l->channel);
    return room == UINT32_MAX || l->n_seats < room + grpc_channel_calls(l->channel);
}

bool uplink_take(struct uplink *u, struct uplink_seat *seat)
{
    struct uplink_link *found = NULL;
    LIST_FOREACH (node, &u->links) {
        struct uplink_link *l = LIST_ITEM(node, struct uplink_link, node);
        if (has_room(l)) {
            found = l;
            break;
        }
    }
    if (!found)
        found = link_new(u);
    if (!found)
        return false;
    loop_timer_stop(found->idle);
    seat->link = found;
    list_append(&found->seats, &seat->node);
    if (++found->n_seats >= u->multi)
        move(found, &u->full);
    return uplink_is_up(seat);
}

void uplink_leave(struct uplink *u, struct uplink_seat *seat)
{
    struct uplink_link *l = seat->link;
    if (!l)
        return;
    list_remove(&seat->node);
    seat->link = NULL;
    if (l->n_seats-- >= u->multi)
        move(l, &u->links);
    if (l->n_seats > 0)
        return;
    if (l->over)
        loop_task_defer(&l->reap);
    else if (!l->draining)
        loop_timer_start(l->idle, UPLINK_IDLE_MS, 0);
}

bool uplink_is_up(const struct uplink_seat *seat)
{
    return seat->link && grpc_channel_state(seat->link->channel) == GRPC_CHANNEL_READY;
}

bool uplink_seat_good(const struct uplink_seat *seat)
{
    if (!seat->link || seat->link->draining)
        return false;
    return !uplink_is_up(seat) || grpc_channel_room(seat->link->channel) > 0;
}

struct grpc_call *uplink_call(struct uplink_seat *seat, const char *path, const struct kv *metadata,
                              const struct grpc_call_ops *ops, void *arg)
{
    return seat->link ? grpc_channel_call(seat->link->channel, path, metadata, ops, arg) : NULL;
}

static void add_stats(struct uplink_stats *s, const struct list *links)
{
    LIST_FOREACH (node, (struct list *)(uintptr_t)links) {
        const struct grpc_channel *ch = LIST_ITEM(node, struct uplink_link, node)->channel;
        int64_t rtt = grpc_channel_rtt_ns(ch), expiry = grpc_channel_tls_expiry(ch);
        s->connections[grpc_channel_state(ch)]++;
        if (rtt > s->rtt_ns)
            s->rtt_ns = rtt;
        if (expiry != 0 && (s->tls_expiry == 0 || expiry < s->tls_expiry))
            s->tls_expiry = expiry;
    }
}

struct uplink_stats uplink_stats(const struct uplink *u)
{
    struct uplink_stats s = {0};
    add_stats(&s, &u->links);
    add_stats(&s, &u->full);
    return s;
}

struct uplink *uplink_new(const struct grpc_channel_config *channel, uint32_t multi,
                          const struct uplink_ops *ops)
{
    struct uplink *u = calloc(1, sizeof *u);
    if (!u)
        return NULL;
    u->config = *channel;
    u->multi = multi;
    u->ops = ops;
    list_init(&u->links);
    list_init(&u->full);
    return u;
}

static void free_links(struct list *links)
{
    while (!list_empty(links))
        link_free(LIST_ITEM(links->next, struct uplink_link, node));
}

void uplink_free(struct uplink *u)
{
    if (!u)
        return;
    free_links(&u->links);
    free_links(&u->full);
    free(u);
}
