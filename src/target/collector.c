#include "target/collector.h"

#include <stdlib.h>
#include <string.h>

/* RFC 4271 section 8.2.2: the "large value" of the hold timer while the OPEN is awaited. */
#define OPEN_WAIT_MS 240000

/* More than this unsent means that the router does not read; another KEEPALIVE would tell it nothing. */
#define OUTPUT_ENOUGH 1024

/*
 * RFC 4271 section 8.2.2, the passive side. OpenSent is passed through at once: our OPEN answers the
 * router's, because it repeats the router's AS and address families.
 */
enum state { STATE_AWAIT_OPEN, STATE_OPEN_CONFIRM, STATE_ESTABLISHED, STATE_FINISHED };

struct collector_peer {
    struct collector_config config;
    struct collector_identity identity;
    enum state state;
    bool extended; /* messages beyond 4096 bytes, RFC 8654 */
    struct bgp_update_mode mode;
    uint16_t hold_time;    /* negotiated, seconds */
    int64_t hold_expires;  /* ms; INT64_MAX: never */
    int64_t keepalive_due; /* ms; INT64_MAX: never */
    struct buf in;         /* the beginning of a message that has not come whole */
    struct buf out;
    char names[]; /* what identity points at */
};

static void emit(struct collector_peer *p, struct collector_event *event)
{
    event->peer = &p->identity;
    if (p->config.sink)
        p->config.sink(p->config.sink_arg, event);
}

/* --- ending --- */

static void finish(struct collector_peer *p, const char *reason)
{
    if (p->state == STATE_FINISHED)
        return;
    p->state = STATE_FINISHED;
    p->hold_expires = p->keepalive_due = INT64_MAX;
    emit(p, &(struct collector_event){.kind = COLLECTOR_CLOSE, .reason = reason});
}

static void notify_and_finish(struct collector_peer *p, uint8_t code, uint8_t subcode, const uint8_t *data,
                              size_t data_len, const char *reason)
{
    struct bgp_notification n;
    bgp_notification_set(&n, code, subcode, data, data_len);
    uint8_t message[BGP_HEADER_LEN + 2 + BGP_SHUTDOWN_DATA_MAX];
    size_t len = bgp_notification_encode(&n, message, sizeof message);
    /* Without memory the router gets no reason, but the end all the same. */
    if (len > 0 && buf_append(&p->out, message, len))
        emit(p, &(struct collector_event){.kind = COLLECTOR_NOTIFICATION, .notification = &n, .sent = true});
    finish(p, reason);
}

static void refuse(struct collector_peer *p, const struct bgp_fault *f, const char *reason)
{
    notify_and_finish(p, f->code, f->subcode, f->data, f->data_len, reason);
}

static void out_of_memory(struct collector_peer *p)
{
    notify_and_finish(p, BGP_ERROR_CEASE, BGP_CEASE_RESOURCES, NULL, 0, "out of memory");
}

/* --- timers --- */

static void restart_hold_timer(struct collector_peer *p, int64_t now_ms)
{
    p->hold_expires = p->hold_time == 0 ? INT64_MAX : now_ms + (int64_t)p->hold_time * 1000;
}

static bool send_keepalive(struct collector_peer *p, int64_t now_ms)
{
    uint8_t message[BGP_HEADER_LEN];
    bgp_keepalive_encode(message);
    /* A third of the hold time, RFC 4271 section 4.4. */
    p->keepalive_due = p->hold_time == 0 ? INT64_MAX : now_ms + (int64_t)p->hold_time * 1000 / 3;
    return buf_append(&p->out, message, sizeof message);
}

/* --- messages --- */

static void add_family(struct bgp_open *o, uint16_t afi, uint8_t safi)
{
    if (o->family_count < BGP_FAMILIES_MAX && !bgp_open_has_family(o, afi, safi))
        o->families[o->family_count++] = (struct bgp_family){afi, safi};
}

static struct bgp_open answer_to(const struct collector_peer *p, const struct bgp_open *router)
{
    struct bgp_open o = {.asn = p->config.local_as ? p->config.local_as : router->asn,
                         .hold_time = p->config.hold_time};
    memcpy(o.router_id, p->config.router_id, 4);
    /* The router would refuse an internal peer with its own id (RFC 6286 section 2.2). */
    if (memcmp(o.router_id, router->router_id, 4) == 0)
        o.router_id[3] ^= o.router_id[3] == 1 ? 3 : 1; /* another, and never 0 */

    /* A router without capabilities may refuse an OPEN with some (RFC 5492 section 3). */
    if (router->params_len == 0)
        return o;
    add_family(&o, BGP_AFI_IPV4, BGP_SAFI_UNICAST);
    add_family(&o, BGP_AFI_IPV6, BGP_SAFI_UNICAST);
    for (size_t i = 0; i < router->family_count; i++)
        add_family(&o, router->families[i].afi, router->families[i].safi);
    o.as4 = true;
    o.route_refresh = true;
    o.extended_message = router->extended_message;
    return o;
}

static void on_open(struct collector_peer *p, const uint8_t *body, size_t n, int64_t now_ms)
{
    struct bgp_open router;
    struct bgp_fault fault;
    if (!bgp_open_decode(body, n, &router, &fault)) {
        refuse(p, &fault, "the router's OPEN is not acceptable");
        return;
    }
    struct bgp_open ours = answer_to(p, &router);
    p->hold_time = ours.hold_time < router.hold_time ? ours.hold_time : router.hold_time;
    p->extended = ours.extended_message;
    p->mode.as4 = router.as4;
    p->mode.external = ours.asn != router.asn;
    p->state = STATE_OPEN_CONFIRM;
    emit(p, &(struct collector_event){.kind = COLLECTOR_OPEN, .open = &router, .hold_time = p->hold_time});

    uint8_t message[BGP_OPEN_MAX];
    size_t len = bgp_open_encode(&ours, message);
    restart_hold_timer(p, now_ms);
    if (!buf_append(&p->out, message, len) || !send_keepalive(p, now_ms))
        out_of_memory(p);
}

static void emit_routes(struct collector_peer *p, const struct bgp_update *u, const struct bgp_routes *routes,
                        bool withdrawn, const uint8_t *next_hop, size_t next_hop_len)
{
    if (!routes->present || (routes->decoded && routes->len == 0))
        return;
    struct collector_event event = {
        .update = u, .routes = routes, .withdrawn = withdrawn, .family = {routes->afi, routes->safi}};
    if (!routes->decoded) {
        event.kind = COLLECTOR_OPAQUE;
    } else if (withdrawn || u->verdict == BGP_VERDICT_WITHDRAW) {
        event.kind = COLLECTOR_WITHDRAW;
    } else {
        event.kind = COLLECTOR_ANNOUNCE;
        event.next_hop = next_hop;
        event.next_hop_len = next_hop_len;
    }
    emit(p, &event);
}

static void on_update(struct collector_peer *p, const uint8_t *body, size_t n)
{
    struct bgp_update u;
    bgp_update_parse(body, n, &p->mode, &u);
    if (u.verdict != BGP_VERDICT_OK)
        emit(p, &(struct collector_event){.kind = COLLECTOR_MALFORMED, .update = &u});
    if (u.verdict == BGP_VERDICT_RESET) {
        refuse(p, &u.fault, u.why);
        return;
    }
    if (u.end_of_rib) {
        emit(p, &(struct collector_event){.kind = COLLECTOR_END_OF_RIB, .family = u.end_of_rib_family});
        return;
    }
    emit_routes(p, &u, &u.withdrawn, true, NULL, 0);
    emit_routes(p, &u, &u.mp_withdrawn, true, NULL, 0);
    emit_routes(p, &u, &u.announced, false, u.next_hop, sizeof u.next_hop);
    emit_routes(p, &u, &u.mp_announced, false, u.mp_next_hop, u.mp_next_hop_len);
}

static void on_notification(struct collector_peer *p, const uint8_t *body, size_t n)
{
    struct bgp_notification notification;
    if (bgp_notification_decode(body, n, &notification))
        emit(p, &(struct collector_event){.kind = COLLECTOR_NOTIFICATION, .notification = &notification});
    finish(p, "the router sent a NOTIFICATION");
}

/* A message that the state does not expect (RFC 4271 section 8.2.2, subcodes of RFC 6608). */
static void unexpected(struct collector_peer *p)
{
    static const uint8_t subcodes[] = {
        [STATE_AWAIT_OPEN] = 1, /* to the router we are in OpenSent */
        [STATE_OPEN_CONFIRM] = 2,
        [STATE_ESTABLISHED] = 3,
    };
    notify_and_finish(p, BGP_ERROR_FSM, subcodes[p->state], NULL, 0, "unexpected message");
}

static void on_message(struct collector_peer *p, uint8_t type, const uint8_t *body, size_t n, int64_t now_ms)
{
    if (type == BGP_NOTIFICATION) {
        on_notification(p, body, n);
        return;
    }
    if (p->state == STATE_AWAIT_OPEN) {
        if (type == BGP_OPEN)
            on_open(p, body, n, now_ms);
        else
            unexpected(p);
        return;
    }
    if (type == BGP_OPEN || (p->state == STATE_OPEN_CONFIRM && type != BGP_KEEPALIVE)) {
        unexpected(p);
        return;
    }
    restart_hold_timer(p, now_ms);
    if (p->state == STATE_OPEN_CONFIRM) {
        p->state = STATE_ESTABLISHED;
        emit(p, &(struct collector_event){.kind = COLLECTOR_ESTABLISHED, .hold_time = p->hold_time});
    } else if (type == BGP_UPDATE) {
        on_update(p, body, n);
    }
    /* A ROUTE-REFRESH asks for what we do not have: nothing. */
}

static bool check_header(struct collector_peer *p, const uint8_t *header, struct bgp_header *h)
{
    struct bgp_fault fault;
    if (bgp_header_check(header, p->extended, h, &fault))
        return true;
    refuse(p, &fault, "not a BGP message");
    return false;
}

/* --- the calls of the owner --- */

static char *copy_name(char **to, const char *text)
{
    size_t n = strlen(text) + 1;
    char *name = memcpy(*to, text, n);
    *to += n;
    return name;
}

struct collector_peer *collector_new(const struct collector_config *config,
                                     const struct collector_identity *identity, int64_t now_ms)
{
    size_t names = strlen(identity->device) + strlen(identity->address) + strlen(identity->session) + 3;
    struct collector_peer *p = calloc(1, sizeof *p + names);
    if (!p)
        return NULL;
    p->config = *config;
    if (p->config.hold_time == 0)
        p->config.hold_time = COLLECTOR_HOLD_TIME;
    else if (p->config.hold_time < 3)
        p->config.hold_time = 3;
    char *to = p->names;
    p->identity.device = copy_name(&to, identity->device);
    p->identity.address = copy_name(&to, identity->address);
    p->identity.session = copy_name(&to, identity->session);
    p->hold_expires = now_ms + OPEN_WAIT_MS;
    p->keepalive_due = INT64_MAX;
    return p;
}

void collector_free(struct collector_peer *p)
{
    if (!p)
        return;
    buf_free(&p->in);
    buf_free(&p->out);
    free(p);
}

/* Appends up to the `want`-th byte of the torn message to what is there of it; returns how many bytes it
 * took. */
static size_t collect(struct collector_peer *p, const uint8_t *bytes, size_t n, size_t want)
{
    size_t missing = want - buf_len(&p->in);
    size_t take = n < missing ? n : missing;
    uint8_t *to = buf_reserve(&p->in, missing);
    if (!to) {
        out_of_memory(p);
        return n;
    }
    memcpy(to, bytes, take);
    buf_added(&p->in, take);
    return take;
}

void collector_feed(struct collector_peer *p, const uint8_t *bytes, size_t n, int64_t now_ms)
{
    struct bgp_header h;
    while (n > 0 && p->state != STATE_FINISHED) {
        size_t take;
        if (buf_len(&p->in) == 0 && n >= BGP_HEADER_LEN) {
            if (!check_header(p, bytes, &h))
                return;
            if (n >= h.len) {
                on_message(p, h.type, bytes + BGP_HEADER_LEN, h.len - (size_t)BGP_HEADER_LEN, now_ms);
                bytes += h.len;
                n -= h.len;
                continue;
            }
        }
        /* A message in pieces: its header first, which tells how much more there is. */
        if (buf_len(&p->in) < BGP_HEADER_LEN) {
            take = collect(p, bytes, n, BGP_HEADER_LEN);
            bytes += take;
            n -= take;
            if (p->state == STATE_FINISHED || buf_len(&p->in) < BGP_HEADER_LEN)
                return;
        }
        if (!check_header(p, buf_begin(&p->in), &h))
            return;
        if (buf_len(&p->in) < h.len && n > 0) {
            take = collect(p, bytes, n, h.len);
            bytes += take;
            n -= take;
            if (p->state == STATE_FINISHED)
                return;
        }
        if (buf_len(&p->in) == h.len) {
            on_message(p, h.type, buf_begin(&p->in) + BGP_HEADER_LEN, h.len - (size_t)BGP_HEADER_LEN, now_ms);
            /* An idle session keeps no memory for what comes next. */
            buf_free(&p->in);
        }
    }
}

struct buf *collector_output(struct collector_peer *p)
{
    return &p->out;
}

void collector_eof(struct collector_peer *p, const char *reason, int64_t now_ms)
{
    (void)now_ms;
    if (!reason)
        reason = buf_len(&p->in) > 0 ? "the router closed the connection in the middle of a message"
                                     : "the router closed the connection";
    finish(p, reason);
}

int64_t collector_deadline_ms(const struct collector_peer *p)
{
    return p->hold_expires < p->keepalive_due ? p->hold_expires : p->keepalive_due;
}

void collector_tick(struct collector_peer *p, int64_t now_ms)
{
    if (now_ms >= p->hold_expires) {
        notify_and_finish(p, BGP_ERROR_HOLD_TIMER, 0, NULL, 0,
                          p->state == STATE_AWAIT_OPEN ? "the router sent no OPEN" : "hold timer expired");
        return;
    }
    if (now_ms < p->keepalive_due)
        return;
    if (buf_len(&p->out) < OUTPUT_ENOUGH) {
        if (!send_keepalive(p, now_ms))
            out_of_memory(p);
    } else {
        p->keepalive_due = now_ms + (int64_t)p->hold_time * 1000 / 3;
    }
}

void collector_shutdown(struct collector_peer *p, int64_t now_ms, const char *text)
{
    (void)now_ms;
    if (p->state == STATE_FINISHED)
        return;
    uint8_t data[BGP_SHUTDOWN_DATA_MAX];
    size_t len = bgp_shutdown_data(text ? text : "", data);
    notify_and_finish(p, BGP_ERROR_CEASE, BGP_CEASE_SHUTDOWN, data, text ? len : 0,
                      "administrative shutdown");
}

bool collector_finished(const struct collector_peer *p)
{
    return p->state == STATE_FINISHED;
}

bool collector_established(const struct collector_peer *p)
{
    return p->state == STATE_ESTABLISHED;
}
