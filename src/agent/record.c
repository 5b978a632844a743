#include "agent/record.h"

#include <stdlib.h>
#include <string.h>

static const struct record_past no_past;

void records_init(struct records *rs, uint64_t seed)
{
    *rs = (struct records){.seed = seed};
    list_init(&rs->recent);
}

static void forget_past(struct record *r)
{
    if (r->past != &no_past)
        free((struct record_past *)(uintptr_t)r->past);
    r->past = &no_past;
}

/* For writing; NULL without memory. */
static struct record_past *past_of(struct record *r)
{
    if (r->past == &no_past) {
        struct record_past *p = calloc(1, sizeof *p);
        if (!p)
            return NULL;
        r->past = p;
    }
    return (struct record_past *)(uintptr_t)r->past;
}

static void record_free(struct records *rs, struct record *r)
{
    map_remove(&rs->by_ip, &r->by_ip);
    list_remove(&r->node);
    forget_past(r);
    free(r->name);
    free(r);
}

void records_free(struct records *rs)
{
    while (!list_empty(&rs->recent))
        record_free(rs, LIST_ITEM(rs->recent.next, struct record, node));
    map_free(&rs->by_ip);
    free(rs->looked);
    rs->looked = NULL;
}

static struct record *find(const struct records *rs, const struct addr *ip)
{
    for (struct map_node *n = map_find(&rs->by_ip, addr_ip_hash(ip, rs->seed)); n; n = map_find_next(n)) {
        struct record *r = MAP_ITEM(n, struct record, by_ip);
        if (addr_same_ip(&r->ip, ip))
            return r;
    }
    return NULL;
}

/* False: every record is in use. */
static bool make_room(struct records *rs)
{
    if (rs->by_ip.count < RECORDS_MAX)
        return true;
    LIST_FOREACH (node, &rs->recent) {
        struct record *r = LIST_ITEM(node, struct record, node);
        if (r->sessions == 0) {
            record_free(rs, r);
            return true;
        }
    }
    return false;
}

static struct record *add(struct records *rs, const struct addr *ip)
{
    struct record *r = make_room(rs) ? calloc(1, sizeof *r) : NULL;
    if (!r)
        return NULL;
    r->ip = *ip;
    r->ip.port = 0;
    r->past = &no_past;
    list_init(&r->node);
    if (!map_insert(&rs->by_ip, &r->by_ip, addr_ip_hash(ip, rs->seed))) {
        free(r);
        return NULL;
    }
    return r;
}

struct record *records_begin(struct records *rs, const struct addr *device,
                             const struct control_response *answer, int64_t wall_ns)
{
    struct record *r = find(rs, device);
    if (!r && !(r = add(rs, device)))
        return NULL;
    if (!r->name || r->device_id != answer->device_id || r->company_id != answer->company_id ||
        strcmp(r->name, answer->device_name) != 0) {
        char *name = strdup(answer->device_name);
        if (!name) {
            if (!r->name)
                record_free(rs, r);
            return NULL;
        }
        free(r->name);
        r->name = name;
        r->company_id = answer->company_id;
        r->device_id = answer->device_id;
        forget_past(r);
        r->received_wall_ns = r->notification_wall_ns[RECORD_UP] = r->notification_wall_ns[RECORD_DOWN] = 0;
        r->have_open = false;
    }
    r->sessions++;
    r->started_wall_ns = wall_ns;
    r->state = BGP_WATCH_CONNECT;
    list_remove(&r->node);
    list_append(&rs->recent, &r->node);
    return r;
}

static void add_counts(struct record_counts *to, const struct record_session *s)
{
    const struct bgp_watch_side *sides[2] = {&s->seen->out, &s->seen->in};
    for (unsigned d = RECORD_UP; d <= RECORD_DOWN; d++) {
        to->bytes[d] += s->bytes[d];
        for (unsigned i = 0; i < 6; i++)
            to->messages[d][i] += sides[d]->peek.messages[i];
    }
    to->established += s->seen->established.mono_ms != 0;
}

static void add_notification(struct record_past *r, bool down, const struct bgp_peek *side)
{
    if (!side->have_notification)
        return;
    struct record_notification *kind = r->notifications, *end = kind + r->n_notifications;
    while (kind < end && (kind->down != down || kind->code != side->code || kind->subcode != side->subcode) &&
           !(kind->others && kind->down == down))
        kind++;
    if (kind == end) {
        /* The last two places are for the others, of one direction each. */
        bool others = r->n_notifications >= RECORD_NOTIFICATIONS - 2;
        r->n_notifications++;
        *kind = (struct record_notification){.down = down, .others = others};
        if (!others) {
            kind->code = side->code;
            kind->subcode = side->subcode;
        }
    }
    kind->count++;
}

static void learn(struct record *r, const struct bgp_watch *seen)
{
    r->state = (uint8_t)bgp_watch_state(seen);
    if (seen->out.message.wall_ns != 0)
        r->received_wall_ns = seen->out.message.wall_ns;
    if (seen->out.notification.wall_ns != 0)
        r->notification_wall_ns[RECORD_UP] = seen->out.notification.wall_ns;
    if (seen->in.notification.wall_ns != 0)
        r->notification_wall_ns[RECORD_DOWN] = seen->in.notification.wall_ns;
    if (seen->out.peek.have_open) {
        r->have_open = true;
        r->asn = seen->out.peek.asn;
        r->hold_time = seen->out.peek.hold_time;
    }
}

void records_end(struct records *rs, struct record *r, const struct record_session *session)
{
    struct record_past *past = past_of(r);
    if (past) {
        add_counts(&past->counts, session);
        add_notification(past, false, &session->seen->out.peek);
        add_notification(past, true, &session->seen->in.peek);
    }
    learn(r, session->seen);
    if (--r->sessions == 0)
        r->state = BGP_WATCH_IDLE;
    list_remove(&r->node);
    list_append(&rs->recent, &r->node);
}

void records_look_begin(struct records *rs)
{
    records_look_end(rs);
    rs->looked = calloc(rs->by_ip.count, sizeof *rs->looked);
    rs->looked_max = rs->looked ? rs->by_ip.count : 0;
}

void record_look(struct records *rs, struct record *r, const struct record_session *session)
{
    if (!r->present && rs->n_looked < rs->looked_max)
        r->present = &rs->looked[rs->n_looked++];
    if (r->present)
        add_counts(r->present, session);
    learn(r, session->seen);
}

struct record_counts record_counts(const struct record *r)
{
    struct record_counts sum = r->past->counts;
    for (unsigned d = RECORD_UP; r->present && d <= RECORD_DOWN; d++) {
        sum.bytes[d] += r->present->bytes[d];
        for (unsigned i = 0; i < 6; i++)
            sum.messages[d][i] += r->present->messages[d][i];
    }
    sum.established += r->present ? r->present->established : 0;
    return sum;
}

void records_look_end(struct records *rs)
{
    if (!rs->looked)
        return;
    LIST_FOREACH (node, &rs->recent)
        LIST_ITEM(node, struct record, node)->present = NULL;
    free(rs->looked);
    rs->looked = NULL;
    rs->n_looked = rs->looked_max = 0;
}
