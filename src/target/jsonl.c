#include "target/jsonl.h"

#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

/*
 * Where text goes. A failed append sticks, so that the encoder writes straight down and asks once. An element
 * of known size is written in place: room() gives at least that many bytes, added() says how many were used.
 */
struct writer {
    struct buf *b;
    bool bad;
};

static char *room(struct writer *w, size_t n)
{
    if (w->bad)
        return NULL;
    struct buf *b = w->b;
    /* Nearly always there is room: a call for each of some ten bytes would be half of the cost. */
    uint8_t *p = b->cap - b->tail >= n ? b->data + b->tail : buf_reserve(b, n);
    w->bad = p == NULL;
    return (char *)p;
}

static void added(struct writer *w, const char *end)
{
    buf_added(w->b, (size_t)(end - (char *)(w->b->data + w->b->tail)));
}

static void put(struct writer *w, const char *text, size_t n)
{
    char *p = room(w, n);
    if (!p)
        return;
    memcpy(p, text, n);
    added(w, p + n);
}

#define PUT(w, literal) put(w, "" literal, sizeof literal - 1)

/* --- pieces --- */

#define NUMBER_MAX 10

static char *format_number(char *p, uint32_t v)
{
    char digits[NUMBER_MAX];
    int n = 0;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

static void put_number(struct writer *w, uint32_t v)
{
    char *p = room(w, NUMBER_MAX);
    if (p)
        added(w, format_number(p, v));
}

/* ASCII that stands for itself. */
static bool is_plain(uint8_t c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* A string without its quotes (RFC 8259 section 7). */
static void put_escaped(struct writer *w, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *s = (const uint8_t *)text, *end = s + strlen(text);
    while (s < end) {
        size_t plain = 0;
        while (s + plain < end && is_plain(s[plain]))
            plain++;
        if (plain > 0) {
            put(w, (const char *)s, plain);
            s += plain;
            continue;
        }
        /* The longest that one character becomes: \u001f */
        char *p = room(w, 6);
        if (!p)
            return;
        size_t len = utf8_len(s, (size_t)(end - s));
        if (len == 0) {
            memcpy(p, UTF8_BAD_TEXT, UTF8_BAD_TEXT_LEN);
            p += UTF8_BAD_TEXT_LEN;
            len = 1;
        } else if (*s == '"' || *s == '\\') {
            *p++ = '\\';
            *p++ = (char)*s;
        } else if (len == 1) { /* a control character */
            memcpy(p, "\\u00", 4);
            p[4] = hex[*s >> 4];
            p[5] = hex[*s & 15];
            p += 6;
        } else {
            memcpy(p, s, len);
            p += len;
        }
        added(w, p);
        s += len;
    }
}

/* `key` is a literal with its punctuation: ",\"name\":\"" */
static void put_string(struct writer *w, const char *key, const char *text)
{
    put(w, key, strlen(key));
    put_escaped(w, text);
    PUT(w, "\"");
}

static void put_family(struct writer *w, struct bgp_family family)
{
    PUT(w, ",\"afi\":");
    put_number(w, family.afi);
    PUT(w, ",\"safi\":");
    put_number(w, family.safi);
}

static void put_prefixes(struct writer *w, const struct bgp_routes *routes)
{
    struct bgp_prefix prefix;
    const char *before = ",\"prefixes\":[\"";
    for (struct bgp_prefix_walk walk = bgp_prefixes(routes); bgp_prefix_next(&walk, &prefix);) {
        put(w, before, strlen(before));
        char *p = room(w, BGP_PREFIX_TEXT_MAX);
        if (p)
            added(w, p + bgp_prefix_text(&prefix, p));
        before = "\",\"";
    }
    PUT(w, "\"]");
    if (!routes->add_path)
        return;
    before = ",\"path_ids\":[";
    for (struct bgp_prefix_walk walk = bgp_prefixes(routes); bgp_prefix_next(&walk, &prefix);) {
        put(w, before, strlen(before));
        put_number(w, prefix.path_id);
        before = ",";
    }
    PUT(w, "]");
}

static void put_next_hop(struct writer *w, const uint8_t *ip, size_t len)
{
    static const uint8_t none[16];
    uint16_t afi = len == 4 ? BGP_AFI_IPV4 : BGP_AFI_IPV6;
    /* Of a global and a link-local address the global one, unless it was left empty. */
    if (len == 32 && memcmp(ip, none, 16) == 0)
        ip += 16;
    PUT(w, ",\"next_hop\":\"");
    char *p = room(w, BGP_IP_TEXT_MAX);
    if (p)
        added(w, p + bgp_ip_text(afi, ip, p));
    PUT(w, "\"");
}

static void put_as_path(struct writer *w, const struct bgp_update *u)
{
    /* In front of, between and after the ASes of each type of segment. */
    static const char open[] = {
        [BGP_AS_SET] = '{', [BGP_AS_CONFED_SEQUENCE] = '(', [BGP_AS_CONFED_SET] = '['};
    static const char comma[] = {[BGP_AS_SET] = ',',
                                 [BGP_AS_SEQUENCE] = ' ',
                                 [BGP_AS_CONFED_SEQUENCE] = ' ',
                                 [BGP_AS_CONFED_SET] = ','};
    static const char close[] = {
        [BGP_AS_SET] = '}', [BGP_AS_CONFED_SEQUENCE] = ')', [BGP_AS_CONFED_SET] = ']'};

    PUT(w, ",\"as_path\":\"");
    struct bgp_hop hop;
    bool start = true;
    for (struct bgp_path_walk walk = bgp_path(u); bgp_path_next(&walk, &hop);) {
        char *p = room(w, NUMBER_MAX + 3);
        if (!p)
            return;
        if (hop.first) {
            if (!start)
                *p++ = ' ';
            if (hop.segment != BGP_AS_SEQUENCE)
                *p++ = open[hop.segment];
        } else {
            *p++ = comma[hop.segment];
        }
        p = format_number(p, hop.asn);
        if (hop.last && hop.segment != BGP_AS_SEQUENCE)
            *p++ = close[hop.segment];
        added(w, p);
        start = false;
    }
    PUT(w, "\"");
}

/* "65000:1" (RFC 1997) */
static void put_communities(struct writer *w, const uint8_t *bytes, size_t count)
{
    const char *before = ",\"communities\":[\"";
    struct cursor c = cursor_on(bytes, count * 4);
    for (size_t i = 0; i < count; i++) {
        put(w, before, strlen(before));
        put_number(w, cursor_u16(&c));
        PUT(w, ":");
        put_number(w, cursor_u16(&c));
        before = "\",\"";
    }
    PUT(w, "\"]");
}

/* "65000:1:2" (RFC 8092 section 5) */
static void put_large_communities(struct writer *w, const uint8_t *bytes, size_t count)
{
    const char *before = ",\"large_communities\":[\"";
    struct cursor c = cursor_on(bytes, count * 12);
    for (size_t i = 0; i < count; i++) {
        put(w, before, strlen(before));
        put_number(w, cursor_u32(&c));
        PUT(w, ":");
        put_number(w, cursor_u32(&c));
        PUT(w, ":");
        put_number(w, cursor_u32(&c));
        before = "\",\"";
    }
    PUT(w, "\"]");
}

/* --- events --- */

static const char *event_name(enum collector_event_kind kind)
{
    switch (kind) {
    case COLLECTOR_OPEN:
        return "open";
    case COLLECTOR_ESTABLISHED:
        return "established";
    case COLLECTOR_ANNOUNCE:
        return "announce";
    case COLLECTOR_WITHDRAW:
        return "withdraw";
    case COLLECTOR_OPAQUE:
        return "update";
    case COLLECTOR_END_OF_RIB:
        return "end-of-rib";
    case COLLECTOR_MALFORMED:
        return "malformed";
    case COLLECTOR_NOTIFICATION:
        return "notification";
    case COLLECTOR_CLOSE:
        return "close";
    }
    return "";
}

static void put_open(struct writer *w, const struct bgp_open *open)
{
    PUT(w, ",\"asn\":");
    put_number(w, open->asn);
    PUT(w, ",\"router_id\":\"");
    char *p = room(w, BGP_IP_TEXT_MAX);
    if (p)
        added(w, p + bgp_ip_text(BGP_AFI_IPV4, open->router_id, p));
    PUT(w, "\",\"hold_time\":");
    put_number(w, open->hold_time);
}

static void put_announce(struct writer *w, const struct collector_event *event)
{
    static const char *const origins[] = {"igp", "egp", "incomplete"};
    const struct bgp_update *u = event->update;
    put_family(w, event->family);
    put_prefixes(w, event->routes);
    put_next_hop(w, event->next_hop, event->next_hop_len);
    put_as_path(w, u);
    put_string(w, ",\"origin\":\"", origins[u->origin]);
    if (u->has_med) {
        PUT(w, ",\"med\":");
        put_number(w, u->med);
    }
    if (u->has_local_pref) {
        PUT(w, ",\"local_pref\":");
        put_number(w, u->local_pref);
    }
    if (u->community_count > 0)
        put_communities(w, u->communities, u->community_count);
    if (u->large_community_count > 0)
        put_large_communities(w, u->large_communities, u->large_community_count);
}

static void put_opaque(struct writer *w, const struct collector_event *event)
{
    put_family(w, event->family);
    if (event->withdrawn)
        PUT(w, ",\"withdrawn\":true,\"bytes\":");
    else
        PUT(w, ",\"withdrawn\":false,\"bytes\":");
    put_number(w, (uint32_t)event->routes->len);
}

static void put_malformed(struct writer *w, const struct bgp_update *u)
{
    PUT(w, ",\"attribute\":");
    put_number(w, u->bad_attribute);
    put_string(w, ",\"error\":\"", u->why);
    put_string(w, ",\"action\":\"",
               u->verdict == BGP_VERDICT_RESET      ? "reset"
               : u->verdict == BGP_VERDICT_WITHDRAW ? "withdraw"
                                                    : "discard");
}

static void put_notification(struct writer *w, const struct bgp_notification *n, bool sent)
{
    char name[BGP_NAME_MAX], text[BGP_SHUTDOWN_TEXT_MAX];
    put_string(w, ",\"direction\":\"", sent ? "sent" : "received");
    PUT(w, ",\"code\":");
    put_number(w, n->code);
    PUT(w, ",\"subcode\":");
    put_number(w, n->subcode);
    put_string(w, ",\"name\":\"", bgp_notification_name(n, name));
    bgp_shutdown_text(n, text);
    put_string(w, ",\"text\":\"", text);
}

bool jsonl_append(struct buf *out, const struct collector_event *event, int64_t wall_ns)
{
    struct writer w = {.b = out};
    size_t before = buf_len(out);
    char time[TIME_TEXT_MAX];

    put_string(&w, "{\"time\":\"", clock_text(wall_ns, 3, time));
    put_string(&w, ",\"event\":\"", event_name(event->kind));
    put_string(&w, ",\"device\":\"", event->peer->device);
    put_string(&w, ",\"address\":\"", event->peer->address);
    put_string(&w, ",\"session\":\"", event->peer->session);
    switch (event->kind) {
    case COLLECTOR_OPEN:
        put_open(&w, event->open);
        break;
    case COLLECTOR_ESTABLISHED:
        PUT(&w, ",\"hold_time\":");
        put_number(&w, event->hold_time);
        break;
    case COLLECTOR_ANNOUNCE:
        put_announce(&w, event);
        break;
    case COLLECTOR_WITHDRAW:
        put_family(&w, event->family);
        put_prefixes(&w, event->routes);
        break;
    case COLLECTOR_OPAQUE:
        put_opaque(&w, event);
        break;
    case COLLECTOR_END_OF_RIB:
        put_family(&w, event->family);
        break;
    case COLLECTOR_MALFORMED:
        put_malformed(&w, event->update);
        break;
    case COLLECTOR_NOTIFICATION:
        put_notification(&w, event->notification, event->sent);
        break;
    case COLLECTOR_CLOSE:
        put_string(&w, ",\"reason\":\"", event->reason);
        break;
    }
    PUT(&w, "}\n");
    if (w.bad)
        out->tail = out->head + before;
    return !w.bad;
}
