/*
 * libFuzzer: a byte stream, cut by its first byte; it must end in the same state as in one piece. Then its two halves, as the
 * two directions of a session, whose pieces come in turns: each must end as it would alone, but for data that the other took.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bgp/peek.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What is no part of the state. */
static void scrub(struct bgp_peek *p)
{
    /* What the pieces left in the header's buffer is scrap once a header is complete. */
    memset(p->header, 0, sizeof p->header);
    /* So is the place where it gave up. */
    if (p->unparsable)
        p->body_left = p->header_len = 0;
}

static bool same(const struct bgp_peek *a, const struct bgp_peek *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static bool same_data(const struct bgp_peek_data *a, const struct bgp_peek_data *b)
{
    return a->who == b->who && (a->who == 0 || (a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0));
}

static void both_directions(const uint8_t *data, size_t n, size_t piece)
{
    struct {
        const uint8_t *bytes;
        size_t n, at;
        struct bgp_peek peek, alone;
        struct bgp_peek_data alone_data;
    } side[2];
    struct bgp_peek_data shared;
    memset(side, 0, sizeof side);
    memset(&shared, 0, sizeof shared);
    for (unsigned i = 0; i < 2; i++) {
        side[i].bytes = data + i * (n / 2);
        side[i].n = i ? n - n / 2 : n / 2;
        bgp_peek_feed(&side[i].alone, &side[i].alone_data, (uint8_t)(i + 1), side[i].bytes, side[i].n);
    }
    for (unsigned i = 0; side[0].at < side[0].n || side[1].at < side[1].n; i = !i) {
        size_t left = side[i].n - side[i].at, part = piece < left ? piece : left;
        bgp_peek_feed(&side[i].peek, &shared, (uint8_t)(i + 1), side[i].bytes + side[i].at, part);
        side[i].at += part;
    }
    for (unsigned i = 0; i < 2; i++) {
        scrub(&side[i].peek);
        scrub(&side[i].alone);
        if (!same(&side[i].peek, &side[i].alone))
            abort();
        bool other_spoke = side[!i].alone.messages[BGP_NOTIFICATION] > 0;
        if ((shared.who == i + 1 || !other_spoke) && !same_data(&shared, &side[i].alone_data))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    size_t piece = data[0] % 40 + 1u;
    data++;
    n--;

    struct bgp_peek whole, torn;
    struct bgp_peek_data whole_data, torn_data;
    memset(&whole, 0, sizeof whole);
    memset(&torn, 0, sizeof torn);
    memset(&whole_data, 0, sizeof whole_data);
    memset(&torn_data, 0, sizeof torn_data);
    uint32_t messages = bgp_peek_feed(&whole, &whole_data, 1, data, n);
    for (size_t at = 0; at < n; at += piece)
        messages -= bgp_peek_feed(&torn, &torn_data, 1, data + at, piece < n - at ? piece : n - at);
    if (messages != 0)
        abort();
    scrub(&whole);
    scrub(&torn);
    if (!same(&whole, &torn) || !same_data(&whole_data, &torn_data))
        abort();
    both_directions(data, n, piece);

    struct bgp_notification notification;
    if (bgp_peek_notification(&whole, &whole_data, 1, &notification)) {
        char name[BGP_NAME_MAX], text[BGP_SHUTDOWN_TEXT_MAX];
        bgp_notification_name(&notification, name);
        if (bgp_shutdown_text(&notification, text) != strlen(text))
            abort();
    }

    /* The decoder and the watcher read the same out of an OPEN that is right. */
    struct bgp_header h;
    struct bgp_open open;
    struct bgp_fault fault;
    if (n >= BGP_HEADER_LEN && bgp_header_check(data, true, &h, &fault) && h.type == BGP_OPEN && n >= h.len &&
        bgp_open_decode(data + BGP_HEADER_LEN, h.len - (size_t)BGP_HEADER_LEN, &open, &fault)) {
        struct bgp_peek p = {0};
        struct bgp_peek_data d = {0};
        bgp_peek_feed(&p, &d, 1, data, h.len);
        if (!p.have_open || p.asn != open.asn || p.hold_time != open.hold_time ||
            memcmp(p.router_id, open.router_id, 4) != 0)
            abort();
    }
    return 0;
}
