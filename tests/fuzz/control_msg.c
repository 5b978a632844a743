/* libFuzzer: a Control message, as a request and as a response; what decodes must survive a way there and
 * back. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "relay/control_msg.h"

static bool same_addr(const struct addr *a, const struct addr *b)
{
    return a->port == b->port && addr_same_ip(a, b);
}

static void request(const uint8_t *data, size_t n)
{
    struct control_request m, back;
    struct err e;
    struct buf wire = {0};
    if (!control_request_decode(data, n, &m, &e)) {
        if (strlen(e.text) == 0)
            abort(); /* an error without words */
        return;
    }
    if (!control_request_encode(&m, &wire) ||
        !control_request_decode(buf_begin(&wire), buf_len(&wire), &back, &e))
        abort();
    if (back.action != m.action || !same_addr(&back.device, &m.device) || !same_addr(&back.proxy, &m.proxy))
        abort();
    buf_free(&wire);
}

static void response(const uint8_t *data, size_t n)
{
    struct control_response m, back;
    struct err e;
    struct buf wire = {0};
    if (!control_response_decode(data, n, &m, &e)) {
        if (strlen(e.text) == 0 || m.metadata.data || m.md5_len != 0)
            abort();
        return;
    }
    if (!control_response_encode(&m, NULL, &wire))
        abort();
    if (buf_len(&wire) <= CONTROL_MESSAGE_MAX) { /* repeated keys are written out and may make it longer */
        if (!control_response_decode(buf_begin(&wire), buf_len(&wire), &back, &e))
            abort();
        if (back.action != m.action || !same_addr(&back.device, &m.device) ||
            back.ttl_seconds != m.ttl_seconds || back.ttl_counter != m.ttl_counter ||
            back.company_id != m.company_id || back.device_id != m.device_id ||
            strcmp(back.device_name, m.device_name) != 0 || back.md5_len != m.md5_len ||
            memcmp(back.md5, m.md5, m.md5_len) != 0 || back.metadata.count != m.metadata.count ||
            back.metadata.len != m.metadata.len ||
            (m.metadata.len > 0 && memcmp(back.metadata.data, m.metadata.data, m.metadata.len) != 0))
            abort();
        control_response_clear(&back);
    }
    control_response_clear(&m);
    buf_free(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    request(data, n);
    response(data, n);
    return 0;
}
