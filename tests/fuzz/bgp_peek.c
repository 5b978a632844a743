/* libFuzzer: a byte stream, cut by its first byte; it must end in the same state as in one piece. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bgp/peek.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    size_t piece = data[0] % 40 + 1u;
    data++;
    n--;

    struct bgp_peek whole, torn;
    memset(&whole, 0, sizeof whole);
    memset(&torn, 0, sizeof torn);
    uint32_t messages = bgp_peek_feed(&whole, data, n);
    for (size_t at = 0; at < n; at += piece)
        messages -= bgp_peek_feed(&torn, data + at, piece < n - at ? piece : n - at);
    if (messages != 0)
        abort();
    /* What the pieces left in the header's buffer is scrap once a header is complete. */
    memset(whole.header, 0, sizeof whole.header);
    memset(torn.header, 0, sizeof torn.header);
    /* So is the place where it gave up. */
    if (whole.unparsable)
        whole.body_left = torn.body_left = 0;
    if (memcmp(&whole, &torn, sizeof whole) != 0)
        abort();

    struct bgp_notification notification;
    if (bgp_peek_notification(&whole, &notification)) {
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
        bgp_peek_feed(&p, data, h.len);
        if (!p.have_open || p.asn != open.asn || p.hold_time != open.hold_time ||
            memcmp(p.router_id, open.router_id, 4) != 0)
            abort();
    }
    return 0;
}
