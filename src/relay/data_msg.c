#include "relay/data_msg.h"

/* Field numbers and wire types of protobuf (https://protobuf.dev/programming-guides/encoding). */
enum { FIELD_ACTION = 1, FIELD_DATA = 2, FIELD_ACK = 15 };
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LEN = 2, WIRE_FIXED32 = 5 };

enum { AT_TAG, IN_TAG, IN_VARINT, IN_LENGTH, IN_DATA, IN_SKIP };

static size_t put_varint(uint8_t *p, uint64_t v)
{
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

size_t data_msg_header(uint8_t dst[static DATA_HEADER_MAX], uint32_t payload)
{
    dst[0] = FIELD_DATA << 3 | WIRE_LEN;
    return 1 + put_varint(dst + 1, payload);
}

size_t data_msg_action(uint8_t dst[static DATA_HEADER_MAX], enum data_action action)
{
    dst[0] = FIELD_ACTION << 3 | WIRE_VARINT;
    dst[1] = (uint8_t)action;
    return 2;
}

static enum data_event bad(struct data_decoder *d)
{
    d->bad = true;
    return DATA_BAD;
}

/* One more byte of a varint. 1: complete, 0: more to come, -1: longer than ten bytes. */
static int varint_byte(struct data_decoder *d, uint8_t b)
{
    if (d->shift == 0)
        d->number = 0;
    if (d->shift > 63 || (d->shift == 63 && b > 1))
        return -1;
    d->number |= (uint64_t)(b & 0x7f) << d->shift;
    if (b & 0x80) {
        d->shift = (uint8_t)(d->shift + 7);
        return 0;
    }
    d->shift = 0;
    return 1;
}

static bool begin_field(struct data_decoder *d)
{
    uint64_t field = d->number >> 3;
    if (field == 0 || field > 0x1fffffff)
        return false;
    d->field = (uint32_t)field;
    switch (d->number & 7) {
    case WIRE_VARINT:
        d->state = IN_VARINT;
        return true;
    case WIRE_LEN:
        d->state = IN_LENGTH;
        return true;
    case WIRE_FIXED64:
        d->left = 8;
        d->state = IN_SKIP;
        return true;
    case WIRE_FIXED32:
        d->left = 4;
        d->state = IN_SKIP;
        return true;
    default: /* groups are gone since proto3 */
        return false;
    }
}

static void end_varint(struct data_decoder *d)
{
    uint32_t action = (uint32_t)d->number; /* an enum is an int32: of more bits the low ones count */
    if (d->field == FIELD_ACTION)
        d->action = action == DATA_KILL || action == DATA_RESTART ? (uint8_t)action : DATA_CARRY_ON;
    else if (d->field == FIELD_ACK)
        d->ack = d->number;
    d->state = AT_TAG;
}

enum data_event data_decode(struct data_decoder *d, const uint8_t **p, const uint8_t *end,
                            const uint8_t **payload, size_t *n)
{
    if (d->bad)
        return DATA_BAD;
    while (*p < end) {
        if (d->state == IN_DATA || d->state == IN_SKIP) {
            size_t part = (size_t)(end - *p);
            if (part > d->left)
                part = (size_t)d->left;
            bool data = d->state == IN_DATA;
            *payload = *p;
            *n = part;
            *p += part;
            d->taken += (uint32_t)part;
            d->left -= part;
            if (d->left == 0)
                d->state = AT_TAG;
            if (data)
                return DATA_PAYLOAD;
            continue;
        }
        int done = varint_byte(d, *(*p)++);
        d->taken++;
        if (done < 0)
            return bad(d);
        if (d->state == AT_TAG)
            d->state = IN_TAG;
        if (done == 0)
            continue;
        if (d->state == IN_TAG) {
            if (!begin_field(d))
                return bad(d);
        } else if (d->state == IN_VARINT) {
            end_varint(d);
        } else {
            d->left = d->number;
            if (d->length > 0 && d->left > d->length - d->taken)
                return bad(d); /* before any of its bytes is handed on */
            d->state = d->left == 0 ? AT_TAG : d->field == FIELD_DATA ? IN_DATA : IN_SKIP;
        }
    }
    return DATA_MORE;
}

bool data_decode_end(const struct data_decoder *d)
{
    return !d->bad && d->state == AT_TAG;
}
