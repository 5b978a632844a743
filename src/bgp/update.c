#include "bgp/update.h"

#include <arpa/inet.h>
#include <string.h>

#define FLAG_OPTIONAL   0x80
#define FLAG_TRANSITIVE 0x40
#define FLAG_EXTENDED   0x10

/* Keeps the most severe thing that happened; of equals, the first. */
static void judge(struct bgp_update *u, enum bgp_verdict verdict, uint8_t attribute, const char *why)
{
    if (verdict <= u->verdict)
        return;
    u->verdict = verdict;
    u->bad_attribute = attribute;
    u->why = why;
}

static enum bgp_verdict reset(struct bgp_update *u, uint8_t attribute, unsigned subcode, const char *why)
{
    judge(u, BGP_VERDICT_RESET, attribute, why);
    bgp_fault_set(&u->fault, BGP_ERROR_UPDATE, subcode);
    return u->verdict;
}

/* An attribute that is not there has no address either. */
static struct cursor walk_on(const uint8_t *p, size_t n)
{
    return p ? cursor_on(p, n) : (struct cursor){0};
}

/* --- routes --- */

struct bgp_prefix_walk bgp_prefixes(const struct bgp_routes *routes)
{
    return (struct bgp_prefix_walk){.c = walk_on(routes->p, routes->decoded ? routes->len : 0),
                                    .afi = routes->afi,
                                    .add_path = routes->add_path};
}

bool bgp_prefix_next(struct bgp_prefix_walk *w, struct bgp_prefix *prefix)
{
    if (cursor_left(&w->c) == 0)
        return false;
    prefix->afi = w->afi;
    prefix->path_id = w->add_path ? cursor_u32(&w->c) : 0;
    uint8_t bits = cursor_u8(&w->c);
    if (bits > (w->afi == BGP_AFI_IPV4 ? 32 : 128))
        w->c.bad = true;
    size_t bytes = (bits + 7u) / 8;
    const uint8_t *p = cursor_bytes(&w->c, bytes);
    if (!p)
        return false;
    prefix->len = bits;
    memset(prefix->ip, 0, sizeof prefix->ip);
    memcpy(prefix->ip, p, bytes);
    /* What stands beyond the length in the last byte is irrelevant (RFC 4271 section 4.3) and must not be
     * shown. */
    if (bits % 8 != 0)
        prefix->ip[bytes - 1] &= (uint8_t)(0xff << (8 - bits % 8));
    return true;
}

/* Tells what the bytes at p are; false when they should be prefixes and are not. */
static bool set_routes(struct bgp_routes *r, const struct bgp_update_mode *mode, uint16_t afi, uint8_t safi,
                       const uint8_t *p, size_t len)
{
    *r = (struct bgp_routes){.present = true, .afi = afi, .safi = safi, .p = p, .len = len};
    if (safi != BGP_SAFI_UNICAST || (afi != BGP_AFI_IPV4 && afi != BGP_AFI_IPV6))
        return true;
    r->decoded = true;
    r->add_path = afi == BGP_AFI_IPV4 ? mode->add_path_ipv4 : mode->add_path_ipv6;
    struct bgp_prefix_walk walk = bgp_prefixes(r);
    struct bgp_prefix prefix;
    while (bgp_prefix_next(&walk, &prefix))
        ;
    return !walk.c.bad;
}

/* RFC 4760 section 3; for IPv4 routes with an IPv6 next hop, RFC 8950. */
static bool good_next_hop_len(const struct bgp_routes *r, size_t len)
{
    if (!r->decoded)
        return true;
    return len == 16 || len == 32 || (len == 4 && r->afi == BGP_AFI_IPV4);
}

static void read_mp_reach(struct bgp_update *u, const struct bgp_update_mode *mode, struct cursor c)
{
    uint16_t afi = cursor_u16(&c);
    uint8_t safi = cursor_u8(&c);
    u->mp_next_hop_len = cursor_u8(&c);
    u->mp_next_hop = cursor_bytes(&c, u->mp_next_hop_len);
    cursor_u8(&c); /* reserved */
    if (c.bad) {
        reset(u, BGP_ATTR_MP_REACH, 9, "MP_REACH_NLRI too short");
        return;
    }
    if (!set_routes(&u->mp_announced, mode, afi, safi, c.p, cursor_left(&c)))
        reset(u, BGP_ATTR_MP_REACH, 9, "malformed prefix in MP_REACH_NLRI");
    else if (!good_next_hop_len(&u->mp_announced, u->mp_next_hop_len))
        /* RFC 7606 section 7.11: where the next hop ends, and the routes begin, cannot be trusted. */
        reset(u, BGP_ATTR_MP_REACH, 9, "bad next hop length in MP_REACH_NLRI");
}

static void read_mp_unreach(struct bgp_update *u, const struct bgp_update_mode *mode, struct cursor c)
{
    uint16_t afi = cursor_u16(&c);
    uint8_t safi = cursor_u8(&c);
    if (c.bad)
        reset(u, BGP_ATTR_MP_UNREACH, 9, "MP_UNREACH_NLRI too short");
    else if (!set_routes(&u->mp_withdrawn, mode, afi, safi, c.p, cursor_left(&c)))
        reset(u, BGP_ATTR_MP_UNREACH, 9, "malformed prefix in MP_UNREACH_NLRI");
}

/* --- attributes --- */

/*
 * What the specifications say about each attribute: its flags, its length and what follows from an error in
 * it. A length of `unit` 0 is checked by the reader; `many` allows any multiple of the unit but zero.
 */
struct rule {
    uint8_t code;
    uint8_t flags; /* what of OPTIONAL and TRANSITIVE must be set */
    uint8_t unit;
    bool many;
    bool internal_only; /* ignored on an eBGP session, RFC 7606 sections 7.5, 7.9 and 7.10 */
    enum bgp_verdict bad_length;
};

static const struct rule rules[] = {
    {BGP_ATTR_ORIGIN, FLAG_TRANSITIVE, 1, false, false, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_AS_PATH, FLAG_TRANSITIVE, 0, false, false, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_NEXT_HOP, FLAG_TRANSITIVE, 4, false, false, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_MED, FLAG_OPTIONAL, 4, false, false, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_LOCAL_PREF, FLAG_TRANSITIVE, 4, false, true, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_ATOMIC_AGGREGATE, FLAG_TRANSITIVE, 0, false, false, BGP_VERDICT_DISCARD},
    {BGP_ATTR_AGGREGATOR, FLAG_OPTIONAL | FLAG_TRANSITIVE, 0, false, false, BGP_VERDICT_DISCARD},
    {BGP_ATTR_COMMUNITIES, FLAG_OPTIONAL | FLAG_TRANSITIVE, 4, true, false, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_ORIGINATOR_ID, FLAG_OPTIONAL, 4, false, true, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_CLUSTER_LIST, FLAG_OPTIONAL, 4, true, true, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_MP_REACH, FLAG_OPTIONAL, 0, false, false, BGP_VERDICT_RESET},
    {BGP_ATTR_MP_UNREACH, FLAG_OPTIONAL, 0, false, false, BGP_VERDICT_RESET},
    {BGP_ATTR_EXT_COMMUNITIES, FLAG_OPTIONAL | FLAG_TRANSITIVE, 8, true, false, BGP_VERDICT_WITHDRAW},
    {BGP_ATTR_AS4_PATH, FLAG_OPTIONAL | FLAG_TRANSITIVE, 0, false, false, BGP_VERDICT_DISCARD},
    {BGP_ATTR_AS4_AGGREGATOR, FLAG_OPTIONAL | FLAG_TRANSITIVE, 8, false, false, BGP_VERDICT_DISCARD},
    {BGP_ATTR_LARGE_COMMUNITIES, FLAG_OPTIONAL | FLAG_TRANSITIVE, 12, true, false, BGP_VERDICT_WITHDRAW},
};

static const struct rule *rule_of(uint8_t code)
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (rules[i].code == code)
            return &rules[i];
    return NULL;
}

/* RFC 7606 section 7.2: known segment types, none empty, none beyond the end. */
static bool good_path(struct cursor c, size_t as_len)
{
    while (cursor_left(&c) > 0) {
        uint8_t type = cursor_u8(&c);
        uint8_t count = cursor_u8(&c);
        cursor_bytes(&c, count * as_len);
        if (c.bad || type < BGP_AS_SET || type > BGP_AS_CONFED_SET || count == 0)
            return false;
    }
    return true;
}

/* What one attribute tells about another: whether the AS4_PATH of an old speaker is to be used. */
struct old_speaker {
    bool aggregator_is_as_trans, has_aggregator, has_as4_aggregator;
};

static void read_aggregator(struct bgp_update *u, const struct bgp_update_mode *mode, struct cursor c,
                            struct old_speaker *old)
{
    if (cursor_left(&c) != (mode->as4 ? 8u : 6u)) {
        judge(u, BGP_VERDICT_DISCARD, BGP_ATTR_AGGREGATOR, "bad length");
        return;
    }
    old->has_aggregator = true;
    old->aggregator_is_as_trans = !mode->as4 && cursor_u16(&c) == BGP_AS_TRANS;
}

static void read_attribute(struct bgp_update *u, const struct bgp_update_mode *mode, uint8_t code,
                           struct cursor c, struct old_speaker *old)
{
    const uint8_t *p = c.p;
    size_t len = cursor_left(&c);
    switch ((enum bgp_attribute)code) {
    case BGP_ATTR_ORIGIN:
        u->origin = cursor_u8(&c);
        u->has_origin = u->origin <= BGP_ORIGIN_INCOMPLETE;
        if (!u->has_origin)
            judge(u, BGP_VERDICT_WITHDRAW, code, "unknown value");
        break;
    case BGP_ATTR_AS_PATH:
        if (good_path(c, mode->as4 ? 4 : 2)) {
            u->as_path = (struct bgp_as_path){p, len, mode->as4};
            u->has_as_path = true;
        } else {
            judge(u, BGP_VERDICT_WITHDRAW, code, "malformed AS_PATH");
        }
        break;
    case BGP_ATTR_AS4_PATH:
        if (mode->as4)
            break; /* not for new speakers: ignored (RFC 6793 section 6) */
        if (len >= 6 && good_path(c, 4))
            u->as4_path = (struct bgp_as_path){p, len, true};
        else
            judge(u, BGP_VERDICT_DISCARD, code, "malformed AS4_PATH");
        break;
    case BGP_ATTR_NEXT_HOP:
        memcpy(u->next_hop, p, 4);
        u->has_next_hop = true;
        break;
    case BGP_ATTR_MED:
        u->med = cursor_u32(&c);
        u->has_med = true;
        break;
    case BGP_ATTR_LOCAL_PREF:
        u->local_pref = cursor_u32(&c);
        u->has_local_pref = true;
        break;
    case BGP_ATTR_ATOMIC_AGGREGATE:
        if (len != 0)
            judge(u, BGP_VERDICT_DISCARD, code, "bad length");
        break;
    case BGP_ATTR_AGGREGATOR:
        read_aggregator(u, mode, c, old);
        break;
    case BGP_ATTR_AS4_AGGREGATOR:
        old->has_as4_aggregator = true;
        break;
    case BGP_ATTR_COMMUNITIES:
        u->communities = p;
        u->community_count = len / 4;
        break;
    case BGP_ATTR_LARGE_COMMUNITIES:
        u->large_communities = p;
        u->large_community_count = len / 12;
        break;
    case BGP_ATTR_MP_REACH:
        read_mp_reach(u, mode, c);
        break;
    case BGP_ATTR_MP_UNREACH:
        read_mp_unreach(u, mode, c);
        break;
    case BGP_ATTR_ORIGINATOR_ID:
    case BGP_ATTR_CLUSTER_LIST:
    case BGP_ATTR_EXT_COMMUNITIES:
        break;
    }
}

/* Flags and length, then the value. */
static void check_attribute(struct bgp_update *u, const struct bgp_update_mode *mode, uint8_t flags,
                            uint8_t code, struct cursor value, struct old_speaker *old)
{
    const struct rule *rule = rule_of(code);
    if (!rule) {
        if (!(flags & FLAG_OPTIONAL))
            judge(u, BGP_VERDICT_WITHDRAW, code, "unrecognized well-known attribute");
        return;
    }
    if (rule->internal_only && mode->external)
        return;
    /* RFC 7606 section 3 c. The routes are still read, so that they can be withdrawn. */
    if ((flags & (FLAG_OPTIONAL | FLAG_TRANSITIVE)) != rule->flags)
        judge(u, BGP_VERDICT_WITHDRAW, code, "attribute flags in conflict with the type");
    size_t len = cursor_left(&value);
    if (rule->unit != 0 && (rule->many ? len == 0 || len % rule->unit != 0 : len != rule->unit)) {
        judge(u, rule->bad_length, code, "bad length");
        return;
    }
    read_attribute(u, mode, code, value, old);
}

/* Returns how many attributes there are. */
static size_t read_attributes(struct bgp_update *u, const struct bgp_update_mode *mode, struct cursor c)
{
    uint32_t seen[256 / 32] = {0};
    struct old_speaker old = {0};
    size_t count = 0;

    while (cursor_left(&c) > 0 && u->verdict != BGP_VERDICT_RESET) {
        uint8_t flags = cursor_u8(&c);
        uint8_t code = cursor_u8(&c);
        size_t len = flags & FLAG_EXTENDED ? cursor_u16(&c) : cursor_u8(&c);
        struct cursor value = cursor_sub(&c, len);
        if (value.bad) {
            /* RFC 7606 section 4: what stood before it still counts. */
            judge(u, BGP_VERDICT_WITHDRAW, code, "attribute longer than what is left");
            break;
        }
        count++;
        uint32_t bit = (uint32_t)1 << code % 32;
        if (seen[code / 32] & bit) {
            /* RFC 7606 section 3 g */
            if (code == BGP_ATTR_MP_REACH || code == BGP_ATTR_MP_UNREACH)
                reset(u, code, 1, "attribute appears twice");
            else
                judge(u, BGP_VERDICT_DISCARD, code, "attribute appears twice");
            continue;
        }
        seen[code / 32] |= bit;
        check_attribute(u, mode, flags, code, value, &old);
    }
    if (old.has_aggregator && old.has_as4_aggregator && !old.aggregator_is_as_trans)
        u->as4_path = (struct bgp_as_path){0}; /* a later old speaker aggregated: RFC 6793 section 4.2.3 */
    return count;
}

/* RFC 7606 section 3 d */
static void check_mandatory(struct bgp_update *u)
{
    if (!u->announced.present && !u->mp_announced.present)
        return;
    const char *why = "mandatory attribute missing";
    if (!u->has_origin)
        judge(u, BGP_VERDICT_WITHDRAW, BGP_ATTR_ORIGIN, why);
    if (!u->has_as_path)
        judge(u, BGP_VERDICT_WITHDRAW, BGP_ATTR_AS_PATH, why);
    if (!u->has_next_hop && u->announced.present)
        judge(u, BGP_VERDICT_WITHDRAW, BGP_ATTR_NEXT_HOP, why);
}

enum bgp_verdict bgp_update_parse(const uint8_t *body, size_t n, const struct bgp_update_mode *mode,
                                  struct bgp_update *u)
{
    *u = (struct bgp_update){0};
    struct cursor c = cursor_on(body, n);
    struct cursor withdrawn = cursor_sub(&c, cursor_u16(&c));
    struct cursor attributes = cursor_sub(&c, cursor_u16(&c));
    if (c.bad)
        return reset(u, 0, 1, "field lengths beyond the end of the message");

    size_t len = cursor_left(&withdrawn);
    if (len > 0 && !set_routes(&u->withdrawn, mode, BGP_AFI_IPV4, BGP_SAFI_UNICAST, withdrawn.p, len))
        return reset(u, 0, 10, "malformed prefix in the withdrawn routes");
    len = cursor_left(&c);
    if (len > 0 && !set_routes(&u->announced, mode, BGP_AFI_IPV4, BGP_SAFI_UNICAST, c.p, len))
        return reset(u, 0, 10, "malformed prefix in the announced routes");

    size_t count = read_attributes(u, mode, attributes);
    if (u->verdict == BGP_VERDICT_RESET)
        return u->verdict;
    check_mandatory(u);

    if (n == 4) {
        u->end_of_rib = true;
        u->end_of_rib_family = (struct bgp_family){BGP_AFI_IPV4, BGP_SAFI_UNICAST};
    } else if (count == 1 && u->mp_withdrawn.present && u->mp_withdrawn.len == 0 && !u->withdrawn.present &&
               !u->announced.present) {
        u->end_of_rib = true;
        u->end_of_rib_family = (struct bgp_family){u->mp_withdrawn.afi, u->mp_withdrawn.safi};
    }
    return u->verdict;
}

/* --- AS path --- */

static size_t count_units(const struct bgp_as_path *path)
{
    struct cursor c = walk_on(path->p, path->len);
    size_t units = 0;
    while (cursor_left(&c) > 0) {
        uint8_t type = cursor_u8(&c);
        uint8_t count = cursor_u8(&c);
        cursor_bytes(&c, count * (path->as4 ? 4u : 2u));
        units += type == BGP_AS_SEQUENCE ? count : type == BGP_AS_SET ? 1 : 0;
    }
    return units;
}

struct bgp_path_walk bgp_path(const struct bgp_update *u)
{
    struct bgp_path_walk w = {
        .c = walk_on(u->as_path.p, u->as_path.len), .as4 = u->as_path.as4, .units = SIZE_MAX};
    if (u->as4_path.len > 0) {
        size_t units = count_units(&u->as_path);
        size_t units4 = count_units(&u->as4_path);
        if (units >= units4) {
            w.units = units - units4;
            w.then = u->as4_path;
        }
    }
    return w;
}

/* Steps to the next segment with something to give out. */
static bool next_segment(struct bgp_path_walk *w)
{
    for (;;) {
        if (cursor_left(&w->c) == 0) {
            if (w->then.len == 0)
                return false;
            w->c = cursor_on(w->then.p, w->then.len);
            w->as4 = w->then.as4;
            w->units = SIZE_MAX;
            w->then.len = 0;
        }
        w->segment = cursor_u8(&w->c);
        w->left = cursor_u8(&w->c);
        w->first = true;
        if (w->left == 0)
            return false; /* a checked path has none */
        bool counts = w->segment == BGP_AS_SEQUENCE || w->segment == BGP_AS_SET;
        if (!counts)
            return true;
        if (w->units == 0) {
            w->c.p = w->c.end;
            continue;
        }
        if (w->segment == BGP_AS_SET) {
            w->units--;
        } else {
            if (w->left > w->units)
                w->left = w->units;
            w->units -= w->left;
        }
        return true;
    }
}

bool bgp_path_next(struct bgp_path_walk *w, struct bgp_hop *hop)
{
    if (w->left == 0 && !next_segment(w))
        return false;
    hop->asn = w->as4 ? cursor_u32(&w->c) : cursor_u16(&w->c);
    hop->segment = w->segment;
    hop->first = w->first;
    w->first = false;
    hop->last = --w->left == 0;
    if (hop->last && w->units == 0)
        w->c.p = w->c.end; /* the rest of a sequence of which only a part counts */
    return !w->c.bad;
}

/* --- text --- */

static char *put_decimal(char *p, unsigned v)
{
    if (v >= 100)
        *p++ = (char)('0' + v / 100);
    if (v >= 10)
        *p++ = (char)('0' + v / 10 % 10);
    *p++ = (char)('0' + v % 10);
    return p;
}

static char *put_hex(char *p, unsigned v)
{
    static const char digits[] = "0123456789abcdef";
    if (v >= 0x1000)
        *p++ = digits[v >> 12];
    if (v >= 0x100)
        *p++ = digits[v >> 8 & 15];
    if (v >= 0x10)
        *p++ = digits[v >> 4 & 15];
    *p++ = digits[v & 15];
    return p;
}

static size_t ipv4_text(const uint8_t *ip, char *out)
{
    char *p = put_decimal(out, ip[0]);
    for (int i = 1; i < 4; i++) {
        *p++ = '.';
        p = put_decimal(p, ip[i]);
    }
    return (size_t)(p - out);
}

/* The longest run of zero groups, the first of equals, at least two (RFC 5952 section 4.2). Returns its
 * length. */
static int zero_run(const unsigned group[8], int *start)
{
    int best = 0;
    for (int i = 0; i < 8; i++) {
        int n = 0;
        while (i + n < 8 && group[i + n] == 0)
            n++;
        if (n > best) {
            best = n;
            *start = i;
        }
        i += n;
    }
    return best >= 2 ? best : 0;
}

size_t bgp_ip_text(uint16_t afi, const uint8_t *ip, char out[static BGP_IP_TEXT_MAX])
{
    if (afi == BGP_AFI_IPV4)
        return ipv4_text(ip, out);

    unsigned group[8];
    for (int i = 0; i < 8; i++)
        group[i] = (unsigned)(ip[2 * i] << 8 | ip[2 * i + 1]);
    int start = 8;
    int run = zero_run(group, &start);
    if (start == 0 && (run == 5 || run == 6)) {
        /* IPv4 inside IPv6 has rules of its own; inet_ntop knows them, and such addresses are rare. */
        inet_ntop(AF_INET6, ip, out, BGP_IP_TEXT_MAX);
        return strlen(out);
    }
    if (run == 0)
        start = 8;

    char *p = out;
    for (int i = 0; i < 8; i++) {
        if (i == start) {
            *p++ = ':';
            *p++ = ':';
            i += run - 1;
            continue;
        }
        if (i > 0 && p[-1] != ':')
            *p++ = ':';
        p = put_hex(p, group[i]);
    }
    return (size_t)(p - out);
}

size_t bgp_prefix_text(const struct bgp_prefix *prefix, char out[static BGP_PREFIX_TEXT_MAX])
{
    size_t n = bgp_ip_text(prefix->afi, prefix->ip, out);
    char *p = out + n;
    *p++ = '/';
    return (size_t)(put_decimal(p, prefix->len) - out);
}
