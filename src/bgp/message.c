#include "bgp/message.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

enum capability {
    CAP_MULTIPROTOCOL = 1,
    CAP_ROUTE_REFRESH = 2,
    CAP_EXTENDED_MESSAGE = 6,
    CAP_GRACEFUL_RESTART = 64,
    CAP_AS4 = 65,
    CAP_ADD_PATH = 69,
    CAP_ENHANCED_REFRESH = 70,
    CAP_FQDN = 73,
};

#define PARAM_CAPABILITIES 2
#define PARAM_EXTENDED     255 /* RFC 9072: in place of the first parameter's type */

static const uint8_t marker[BGP_MARKER_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                               0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

bool bgp_fault_set(struct bgp_fault *f, unsigned code, unsigned subcode)
{
    *f = (struct bgp_fault){.code = (uint8_t)code, .subcode = (uint8_t)subcode};
    return false;
}

static uint8_t *put_header(uint8_t *p, size_t len, enum bgp_type type)
{
    p = put_bytes(p, marker, sizeof marker);
    p = put_u16(p, (uint16_t)len);
    return put_u8(p, (uint8_t)type);
}

static bool bad_length(struct bgp_fault *f, uint16_t len)
{
    bgp_fault_set(f, BGP_ERROR_HEADER, BGP_HEADER_LENGTH);
    put_u16(f->data, len);
    f->data_len = 2;
    return false;
}

bool bgp_header_check(const uint8_t bytes[static BGP_HEADER_LEN], bool extended, struct bgp_header *h,
                      struct bgp_fault *f)
{
    /* The least length of each type, RFC 4271 section 6.1; of an unknown type, the header's. */
    static const uint8_t least[] = {19, 29, BGP_UPDATE_MIN, 21, 19, 23};

    h->len = (uint16_t)(bytes[16] << 8 | bytes[17]);
    h->type = bytes[18];
    if (memcmp(bytes, marker, sizeof marker) != 0)
        return bgp_fault_set(f, BGP_ERROR_HEADER, BGP_HEADER_MARKER);

    bool known = h->type >= BGP_OPEN && h->type <= BGP_ROUTE_REFRESH;
    size_t most = extended && h->type != BGP_OPEN ? BGP_MAX_EXTENDED : BGP_MAX;
    if (h->type == BGP_KEEPALIVE)
        most = BGP_HEADER_LEN;
    if (h->len < least[known ? h->type : 0] || h->len > most)
        return bad_length(f, h->len);
    if (!known) {
        bgp_fault_set(f, BGP_ERROR_HEADER, BGP_HEADER_TYPE);
        f->data[0] = h->type;
        f->data_len = 1;
        return false;
    }
    return true;
}

/* --- OPEN --- */

struct bgp_capabilities bgp_capabilities(const struct bgp_open *o)
{
    return (struct bgp_capabilities){.params = cursor_on(o->params, o->params_len),
                                     .caps = cursor_on(o->params, 0),
                                     .extended = o->params_extended};
}

bool bgp_capabilities_next(struct bgp_capabilities *it, struct bgp_capability *cap)
{
    while (!it->malformed) {
        if (cursor_left(&it->caps) > 0) {
            cap->code = cursor_u8(&it->caps);
            cap->len = cursor_u8(&it->caps);
            cap->value = cursor_bytes(&it->caps, cap->len);
            it->malformed = it->caps.bad;
            return !it->malformed;
        }
        if (cursor_left(&it->params) == 0)
            return false;
        uint8_t type = cursor_u8(&it->params);
        size_t len = it->extended ? cursor_u16(&it->params) : cursor_u8(&it->params);
        struct cursor value = cursor_sub(&it->params, len);
        it->malformed = value.bad;
        if (type == PARAM_CAPABILITIES)
            it->caps = value;
        else
            it->unknown = true;
    }
    return false;
}

bool bgp_open_has_family(const struct bgp_open *o, uint16_t afi, uint8_t safi)
{
    for (size_t i = 0; i < o->family_count; i++)
        if (o->families[i].afi == afi && o->families[i].safi == safi)
            return true;
    return false;
}

static void read_fqdn(struct bgp_open *o, const struct bgp_capability *cap)
{
    struct cursor c = cursor_on(cap->value, cap->len);
    uint8_t len = cursor_u8(&c);
    const uint8_t *hostname = cursor_bytes(&c, len);
    if (hostname)
        o->hostname = (struct bgp_text){hostname, len};
    len = cursor_u8(&c);
    const uint8_t *domain = cursor_bytes(&c, len);
    if (domain)
        o->domain = (struct bgp_text){domain, len};
}

/* False when a capability that we rely on has the wrong length. */
static bool read_capability(struct bgp_open *o, const struct bgp_capability *cap)
{
    struct cursor c = cursor_on(cap->value, cap->len);
    switch (cap->code) {
    case CAP_MULTIPROTOCOL: {
        if (cap->len != 4)
            return false;
        uint16_t afi = cursor_u16(&c);
        cursor_u8(&c);
        uint8_t safi = cursor_u8(&c);
        if (o->family_count < BGP_FAMILIES_MAX && !bgp_open_has_family(o, afi, safi))
            o->families[o->family_count++] = (struct bgp_family){afi, safi};
        return true;
    }
    case CAP_AS4:
        if (cap->len != 4)
            return false;
        o->as4 = true;
        o->asn = cursor_u32(&c);
        return true;
    case CAP_ROUTE_REFRESH:
        o->route_refresh = true;
        return true;
    case CAP_ENHANCED_REFRESH:
        o->enhanced_refresh = true;
        return true;
    case CAP_EXTENDED_MESSAGE:
        o->extended_message = true;
        return true;
    case CAP_GRACEFUL_RESTART:
        o->graceful_restart = true;
        return true;
    case CAP_ADD_PATH:
        o->add_path = true;
        return true;
    case CAP_FQDN:
        read_fqdn(o, cap);
        return true;
    default:
        return true;
    }
}

/* Finds the optional parameters, in the old or the extended form (RFC 9072 section 2). */
static bool find_params(struct bgp_open *o, struct cursor *c)
{
    size_t len = cursor_u8(c);
    if (len > 0 && cursor_left(c) > 0 && c->p[0] == PARAM_EXTENDED) {
        cursor_u8(c);
        len = cursor_u16(c);
        o->params_extended = true;
    }
    o->params = c->p;
    o->params_len = len;
    return !c->bad && cursor_left(c) == len;
}

bool bgp_open_decode(const uint8_t *body, size_t n, struct bgp_open *o, struct bgp_fault *f)
{
    *o = (struct bgp_open){0};
    if (n < 10)
        return bad_length(f, (uint16_t)(n + BGP_HEADER_LEN));

    struct cursor c = cursor_on(body, n);
    if (cursor_u8(&c) != 4) {
        bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_VERSION);
        put_u16(f->data, 4); /* the version that we do speak */
        f->data_len = 2;
        return false;
    }
    o->asn = o->asn_2octet = cursor_u16(&c);
    o->hold_time = cursor_u16(&c);
    memcpy(o->router_id, cursor_bytes(&c, 4), 4);
    if (!find_params(o, &c))
        return bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_MALFORMED);

    struct bgp_capabilities it = bgp_capabilities(o);
    struct bgp_capability cap;
    while (bgp_capabilities_next(&it, &cap))
        if (!read_capability(o, &cap))
            return bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_MALFORMED);
    if (it.malformed)
        return bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_MALFORMED);
    if (it.unknown)
        return bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_PARAMETER);

    static const uint8_t no_id[4];
    if (o->asn == 0 || o->asn_2octet == 0)
        return bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_PEER_AS);
    if (o->hold_time == 1 || o->hold_time == 2)
        return bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_HOLD_TIME);
    if (memcmp(o->router_id, no_id, 4) == 0)
        return bgp_fault_set(f, BGP_ERROR_OPEN, BGP_OPEN_ROUTER_ID);
    return true;
}

static uint8_t *put_empty_capability(uint8_t *p, enum capability code)
{
    p = put_u8(p, (uint8_t)code);
    return put_u8(p, 0);
}

size_t bgp_open_encode(const struct bgp_open *o, uint8_t out[static BGP_OPEN_MAX])
{
    uint8_t *p = out + BGP_HEADER_LEN;
    p = put_u8(p, 4);
    p = put_u16(p, o->asn > 0xffff ? BGP_AS_TRANS : (uint16_t)o->asn);
    p = put_u16(p, o->hold_time);
    p = put_bytes(p, o->router_id, 4);

    uint8_t *params = p; /* length of all parameters, then type and length of the only one */
    uint8_t *caps = p = params + 3;
    for (size_t i = 0; i < o->family_count && i < BGP_FAMILIES_MAX; i++) {
        p = put_u8(p, CAP_MULTIPROTOCOL);
        p = put_u8(p, 4);
        p = put_u16(p, o->families[i].afi);
        p = put_u8(p, 0);
        p = put_u8(p, o->families[i].safi);
    }
    if (o->route_refresh)
        p = put_empty_capability(p, CAP_ROUTE_REFRESH);
    if (o->enhanced_refresh)
        p = put_empty_capability(p, CAP_ENHANCED_REFRESH);
    if (o->extended_message)
        p = put_empty_capability(p, CAP_EXTENDED_MESSAGE);
    if (o->as4) {
        p = put_u8(p, CAP_AS4);
        p = put_u8(p, 4);
        p = put_u32(p, o->asn);
    }
    size_t caps_len = (size_t)(p - caps);
    if (caps_len == 0) {
        params[0] = 0;
        p = params + 1;
    } else {
        params[0] = (uint8_t)(2 + caps_len);
        params[1] = PARAM_CAPABILITIES;
        params[2] = (uint8_t)caps_len;
    }
    size_t len = (size_t)(p - out);
    put_header(out, len, BGP_OPEN);
    return len;
}

/* --- NOTIFICATION --- */

static const char *const error_names[] = {
    [BGP_ERROR_HEADER] = "Message Header Error",
    [BGP_ERROR_OPEN] = "OPEN Message Error",
    [BGP_ERROR_UPDATE] = "UPDATE Message Error",
    [BGP_ERROR_HOLD_TIMER] = "Hold Timer Expired",
    [BGP_ERROR_FSM] = "Finite State Machine Error",
    [BGP_ERROR_CEASE] = "Cease",
    [BGP_ERROR_ROUTE_REFRESH] = "ROUTE-REFRESH Message Error",
    [BGP_ERROR_SEND_HOLD_TIMER] = "Send Hold Timer Expired",
};

#define SUBCODES 12

static const char *const error_subnames[][SUBCODES] = {
    [BGP_ERROR_HEADER] = {[1] = "Connection Not Synchronized", "Bad Message Length", "Bad Message Type"},
    [BGP_ERROR_OPEN] = {[1] = "Unsupported Version Number",
                        "Bad Peer AS",
                        "Bad BGP Identifier",
                        "Unsupported Optional Parameter",
                        "Authentication Failure",
                        "Unacceptable Hold Time",
                        "Unsupported Capability",
                        [11] = "Role Mismatch"},
    [BGP_ERROR_UPDATE] = {[1] = "Malformed Attribute List",
                          "Unrecognized Well-known Attribute",
                          "Missing Well-known Attribute",
                          "Attribute Flags Error",
                          "Attribute Length Error",
                          "Invalid ORIGIN Attribute",
                          "AS Routing Loop",
                          "Invalid NEXT_HOP Attribute",
                          "Optional Attribute Error",
                          "Invalid Network Field",
                          "Malformed AS_PATH"},
    [BGP_ERROR_FSM] = {[1] = "Unexpected Message in OpenSent State",
                       "Unexpected Message in OpenConfirm State",
                       "Unexpected Message in Established State"},
    [BGP_ERROR_CEASE] = {[1] = "Maximum Number of Prefixes Reached",
                         "Administrative Shutdown",
                         "Peer De-configured",
                         "Administrative Reset",
                         "Connection Rejected",
                         "Other Configuration Change",
                         "Connection Collision Resolution",
                         "Out of Resources",
                         "Hard Reset",
                         "BFD Down"},
    [BGP_ERROR_ROUTE_REFRESH] = {[1] = "Invalid Message Length"},
};

const char *bgp_error_name(unsigned code)
{
    return code < sizeof error_names / sizeof error_names[0] ? error_names[code] : NULL;
}

const char *bgp_error_subname(unsigned code, unsigned subcode)
{
    if (code >= sizeof error_subnames / sizeof error_subnames[0] || subcode >= SUBCODES)
        return NULL;
    return error_subnames[code][subcode];
}

static void name_of(unsigned code, unsigned subcode, char *out, size_t cap)
{
    const char *name = bgp_error_name(code);
    const char *subname = bgp_error_subname(code, subcode);
    if (!name)
        snprintf(out, cap, "code %u, subcode %u", code, subcode);
    else if (subname)
        snprintf(out, cap, "%s: %s", name, subname);
    else if (subcode == 0) /* "unspecific" */
        snprintf(out, cap, "%s", name);
    else
        snprintf(out, cap, "%s: subcode %u", name, subcode);
}

const char *bgp_notification_name(const struct bgp_notification *n, char out[static BGP_NAME_MAX])
{
    name_of(n->code, n->subcode, out, BGP_NAME_MAX);
    if (n->hard_reset) {
        char inner[BGP_NAME_MAX / 2];
        name_of(n->inner_code, n->inner_subcode, inner, sizeof inner);
        size_t len = strlen(out);
        snprintf(out + len, BGP_NAME_MAX - len, " (%s)", inner);
    }
    return out;
}

void bgp_notification_set(struct bgp_notification *n, uint8_t code, uint8_t subcode, const uint8_t *data,
                          size_t data_len)
{
    *n = (struct bgp_notification){.code = code, .subcode = subcode, .data = data, .data_len = data_len};
    if (code == BGP_ERROR_CEASE && subcode == BGP_CEASE_HARD_RESET && data_len >= 2) {
        n->hard_reset = true;
        n->inner_code = data[0];
        n->inner_subcode = data[1];
    }
}

bool bgp_notification_decode(const uint8_t *body, size_t len, struct bgp_notification *n)
{
    if (len < 2)
        return false;
    bgp_notification_set(n, body[0], body[1], body + 2, len - 2);
    return true;
}

/* C0, DEL and C1 (U+0080 to U+009F): they would move the cursor of whoever reads the log. */
static bool is_control(const uint8_t *p, size_t len)
{
    return (len == 1 && (p[0] < 0x20 || p[0] == 0x7f)) || (len == 2 && p[0] == 0xc2 && p[1] < 0xa0);
}

size_t bgp_shutdown_text(const struct bgp_notification *n, char out[static BGP_SHUTDOWN_TEXT_MAX])
{
    out[0] = 0;
    unsigned code = n->hard_reset ? n->inner_code : n->code;
    unsigned subcode = n->hard_reset ? n->inner_subcode : n->subcode;
    if (code != BGP_ERROR_CEASE || (subcode != BGP_CEASE_SHUTDOWN && subcode != BGP_CEASE_RESET))
        return 0;
    if (n->data_len == 0)
        return 0;

    struct cursor c = cursor_on(n->data, n->data_len);
    if (n->hard_reset)
        cursor_bytes(&c, 2);
    size_t len = cursor_u8(&c);
    bool cut = len > cursor_left(&c);
    if (cut)
        len = cursor_left(&c);
    const uint8_t *p = c.p, *end = p + len;

    char *o = out;
    while (p < end) {
        size_t seq = utf8_len(p, (size_t)(end - p));
        if (seq == 0) {
            if (cut && end - p < 4)
                break; /* the character that the cut went through */
            memcpy(o, UTF8_BAD_TEXT, UTF8_BAD_TEXT_LEN);
            o += UTF8_BAD_TEXT_LEN;
            p++;
        } else if (is_control(p, seq)) {
            *o++ = ' ';
            p += seq;
        } else {
            memcpy(o, p, seq);
            o += seq;
            p += seq;
        }
    }
    *o = 0;
    return (size_t)(o - out);
}

size_t bgp_shutdown_data(const char *text, uint8_t out[static BGP_SHUTDOWN_DATA_MAX])
{
    const uint8_t *p = (const uint8_t *)text;
    size_t len = strlen(text);
    if (len > BGP_SHUTDOWN_DATA_MAX - 1) {
        len = BGP_SHUTDOWN_DATA_MAX - 1;
        while (len > 0 && (p[len] & 0xc0) == 0x80)
            len--;
    }
    out[0] = (uint8_t)len;
    if (len > 0)
        memcpy(out + 1, text, len);
    return 1 + len;
}

size_t bgp_notification_encode(const struct bgp_notification *n, uint8_t *out, size_t cap)
{
    size_t most = BGP_MAX - BGP_HEADER_LEN - 2;
    size_t data_len = n->data_len < most ? n->data_len : most;
    size_t len = BGP_HEADER_LEN + 2 + data_len;
    if (cap < len)
        return 0;
    uint8_t *p = put_header(out, len, BGP_NOTIFICATION);
    p = put_u8(p, n->code);
    p = put_u8(p, n->subcode);
    if (data_len > 0)
        put_bytes(p, n->data, data_len);
    return len;
}

/* --- KEEPALIVE, ROUTE-REFRESH --- */

void bgp_keepalive_encode(uint8_t out[static BGP_HEADER_LEN])
{
    put_header(out, BGP_HEADER_LEN, BGP_KEEPALIVE);
}

bool bgp_route_refresh_decode(const uint8_t *body, size_t n, struct bgp_route_refresh *r)
{
    struct cursor c = cursor_on(body, n);
    r->family.afi = cursor_u16(&c);
    r->subtype = cursor_u8(&c);
    r->family.safi = cursor_u8(&c);
    return !c.bad;
}

void bgp_route_refresh_encode(const struct bgp_route_refresh *r, uint8_t out[static BGP_ROUTE_REFRESH_LEN])
{
    uint8_t *p = put_header(out, BGP_ROUTE_REFRESH_LEN, BGP_ROUTE_REFRESH);
    p = put_u16(p, r->family.afi);
    p = put_u8(p, r->subtype);
    put_u8(p, r->family.safi);
}
