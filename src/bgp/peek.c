#include "bgp/peek.h"

#include <string.h>

_Static_assert(sizeof(struct bgp_peek) <= 80, "it lies in every session twice");

/*
 * An OPEN is read byte by byte, so that no more than its last four bytes have to be kept, however long it is.
 * Each step collects a few bytes and then decides what comes next.
 */
enum step {
    STEP_VERSION,
    STEP_AS,
    STEP_HOLD_TIME,
    STEP_ROUTER_ID,
    STEP_PARAMS_LEN,
    STEP_PARAM_TYPE,
    STEP_EXTENDED_LEN, /* RFC 9072: the length of all parameters, again */
    STEP_PARAM_LEN,
    STEP_CAPABILITY, /* code and length */
    STEP_CAPABILITY_VALUE,
    STEP_PARAM_VALUE, /* of a parameter that holds no capabilities */
    STEP_REST,        /* nothing more to learn */
};

#define PARAM_CAPABILITIES 2
#define PARAM_EXTENDED     255
#define CAP_AS4            65

static void want(struct bgp_peek *p, enum step step, size_t bytes)
{
    p->step = (uint8_t)step;
    p->step_left = (uint8_t)bytes;
}

/* The next capability, or the next parameter where this one is used up. */
static void next_capability(struct bgp_peek *p)
{
    if (p->param_left >= 2)
        want(p, STEP_CAPABILITY, 2);
    else if (p->param_left == 0)
        want(p, STEP_PARAM_TYPE, 1);
    else
        want(p, STEP_REST, 0);
}

static void param_value(struct bgp_peek *p)
{
    if (p->capability == PARAM_CAPABILITIES)
        next_capability(p);
    else if (p->param_left == 0)
        want(p, STEP_PARAM_TYPE, 1);
    else
        want(p, STEP_PARAM_VALUE, 1);
}

/* A step has all its bytes; p->number holds the last four of them. */
static void step_done(struct bgp_peek *p)
{
    uint32_t v = p->number;
    switch ((enum step)p->step) {
    case STEP_VERSION:
        if (v != 4)
            p->unparsable = true;
        want(p, STEP_AS, 2);
        break;
    case STEP_AS:
        p->asn = v;
        want(p, STEP_HOLD_TIME, 2);
        break;
    case STEP_HOLD_TIME:
        p->hold_time = (uint16_t)v;
        want(p, STEP_ROUTER_ID, 4);
        break;
    case STEP_ROUTER_ID:
        put_u32(p->router_id, v);
        want(p, STEP_PARAMS_LEN, 1);
        break;
    case STEP_PARAMS_LEN:
        p->extended = false;
        want(p, v == 0 ? STEP_REST : STEP_PARAM_TYPE, 1);
        break;
    case STEP_PARAM_TYPE:
        if (v == PARAM_EXTENDED && !p->extended) {
            want(p, STEP_EXTENDED_LEN, 2);
            break;
        }
        p->capability = (uint8_t)v; /* for the moment the parameter's type */
        want(p, STEP_PARAM_LEN, p->extended ? 2 : 1);
        break;
    case STEP_EXTENDED_LEN:
        p->extended = true;
        want(p, STEP_PARAM_TYPE, 1);
        break;
    case STEP_PARAM_LEN:
        p->param_left = (uint16_t)v;
        param_value(p);
        break;
    case STEP_CAPABILITY:
        p->capability = (uint8_t)(v >> 8);
        p->capability_len = (uint8_t)v;
        p->param_left = (uint16_t)(p->param_left - 2);
        if (p->capability_len > p->param_left) {
            want(p, STEP_REST, 0);
        } else {
            p->param_left = (uint16_t)(p->param_left - p->capability_len);
            if (p->capability_len > 0)
                want(p, STEP_CAPABILITY_VALUE, p->capability_len);
            else
                next_capability(p);
        }
        break;
    case STEP_CAPABILITY_VALUE:
        if (p->capability == CAP_AS4 && p->capability_len == 4)
            p->asn = v;
        next_capability(p);
        break;
    case STEP_PARAM_VALUE:
        p->param_left--;
        param_value(p);
        break;
    case STEP_REST:
        break;
    }
}

static void open_bytes(struct bgp_peek *p, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n && p->step != STEP_REST && !p->unparsable; i++) {
        p->number = p->number << 8 | bytes[i];
        if (--p->step_left == 0) {
            step_done(p);
            p->number = 0;
        }
    }
}

/* A NOTIFICATION's steps: its code, its subcode, the first byte of its data, the others. */
enum { STEP_CODE, STEP_SUBCODE, STEP_FIRST_DATA, STEP_DATA };

static void notification_bytes(struct bgp_peek *p, struct bgp_peek_data *data, uint8_t who,
                               const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p->step == STEP_CODE) {
            p->code = bytes[i];
            p->step = STEP_SUBCODE;
            continue;
        }
        if (p->step == STEP_SUBCODE) {
            p->subcode = bytes[i];
            p->have_notification = true;
            p->step = STEP_FIRST_DATA;
            continue;
        }
        if (p->step == STEP_FIRST_DATA) {
            if (data->who == 0)
                *data = (struct bgp_peek_data){.who = who};
            p->step = STEP_DATA;
        }
        /* Not ours: the other side was first. */
        if (data->who != who || data->len >= BGP_PEEK_DATA_MAX)
            return;
        data->bytes[data->len++] = bytes[i];
    }
}

/* A header is complete. False: the stream is not BGP. */
static bool begin_message(struct bgp_peek *p, struct bgp_peek_data *data, uint8_t who,
                          const uint8_t header[static BGP_HEADER_LEN])
{
    struct bgp_header h;
    struct bgp_fault fault;
    /* The other side's OPEN is not known here, so long messages pass. A type that we do not know is none of
     * our business: after that marker, it is BGP. */
    if (!bgp_header_check(header, true, &h, &fault) && fault.subcode != BGP_HEADER_TYPE) {
        p->unparsable = true;
        return false;
    }
    p->type = h.type <= BGP_ROUTE_REFRESH ? h.type : 0;
    p->messages[p->type]++;
    p->body_left = (uint16_t)(h.len - BGP_HEADER_LEN);
    if (p->type == BGP_OPEN) {
        p->have_open = false;
        p->number = 0;
        want(p, STEP_VERSION, 1);
    } else if (p->type == BGP_NOTIFICATION) {
        p->have_notification = false;
        p->step = STEP_CODE;
        if (data->who == who)
            data->who = 0;
    }
    return true;
}

/* Takes what there is of a header; returns how many bytes that was. */
static size_t header_bytes(struct bgp_peek *p, struct bgp_peek_data *data, uint8_t who, const uint8_t *bytes,
                           size_t n, uint32_t *messages)
{
    if (p->header_len == 0 && n >= BGP_HEADER_LEN) {
        *messages += begin_message(p, data, who, bytes);
        return BGP_HEADER_LEN;
    }
    /* This memory may come from a process that was killed in the middle of anything. */
    if (p->header_len >= BGP_HEADER_LEN)
        p->header_len = 0;
    /* The marker is looked at as it comes and not kept. */
    size_t taken = 0;
    while (taken < n && p->header_len < BGP_HEADER_LEN) {
        uint8_t byte = bytes[taken++];
        if (p->header_len >= BGP_MARKER_LEN)
            p->header[p->header_len - BGP_MARKER_LEN] = byte;
        else if (byte != 0xff)
            p->unparsable = true;
        p->header_len++;
    }
    if (p->header_len == BGP_HEADER_LEN && !p->unparsable) {
        uint8_t header[BGP_HEADER_LEN];
        memset(header, 0xff, BGP_MARKER_LEN);
        memcpy(header + BGP_MARKER_LEN, p->header, sizeof p->header);
        p->header_len = 0;
        *messages += begin_message(p, data, who, header);
    }
    return taken;
}

/*
 * Steps over whole UPDATEs and KEEPALIVEs, which a stream consists of but for its first and last message, with as few
 * instructions as it takes: this is done for every message that passes. Stops at anything else. Returns how many bytes were passed.
 */
static size_t pass_whole(struct bgp_peek *p, const uint8_t *bytes, size_t n, uint32_t *messages)
{
    size_t at = 0;
    while (n - at >= BGP_HEADER_LEN) {
        const uint8_t *h = bytes + at;
        uint64_t marker[2];
        memcpy(marker, h, sizeof marker);
        size_t len = (size_t)(h[16] << 8 | h[17]);
        uint8_t type = h[18];
        bool plain =
            type == BGP_UPDATE ? len >= BGP_UPDATE_MIN : type == BGP_KEEPALIVE && len == BGP_HEADER_LEN;
        if ((marker[0] & marker[1]) != UINT64_MAX || !plain || len > n - at)
            break;
        p->type = type;
        p->messages[type]++;
        ++*messages;
        at += len;
    }
    return at;
}

uint32_t bgp_peek_feed(struct bgp_peek *p, struct bgp_peek_data *data, uint8_t who, const uint8_t *bytes,
                       size_t n)
{
    uint32_t messages = 0;
    while (n > 0 && !p->unparsable) {
        size_t take;
        if (p->body_left == 0) {
            take = p->header_len == 0 ? pass_whole(p, bytes, n, &messages) : 0;
            if (take == 0)
                take = header_bytes(p, data, who, bytes, n, &messages);
        } else {
            take = n < p->body_left ? n : p->body_left;
            if (p->type == BGP_OPEN)
                open_bytes(p, bytes, take);
            else if (p->type == BGP_NOTIFICATION)
                notification_bytes(p, data, who, bytes, take);
            p->body_left = (uint16_t)(p->body_left - take);
            if (p->body_left == 0 && p->type == BGP_OPEN && !p->unparsable)
                p->have_open = true;
        }
        bytes += take;
        n -= take;
    }
    return messages;
}

bool bgp_peek_notification(const struct bgp_peek *p, const struct bgp_peek_data *data, uint8_t who,
                           struct bgp_notification *n)
{
    if (!p->have_notification)
        return false;
    size_t len = data->who != who ? 0 : data->len < BGP_PEEK_DATA_MAX ? data->len : BGP_PEEK_DATA_MAX;
    bgp_notification_set(n, p->code, p->subcode, data->bytes, len);
    return true;
}
