/* libFuzzer: a Data message, cut by its first byte, held against protobuf-c. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ktbgp.pb-c.h"
#include "relay/data_msg.h"

typedef Kentik__Ktbgp__V202203beta2__DataResponse PbData;
#define PB(name) kentik__ktbgp__v202203beta2__data_response__##name

/* All payload of the message, in order. */
static size_t decode(struct data_decoder *d, const uint8_t *msg, size_t n, size_t piece, uint8_t *out)
{
    size_t total = 0;
    for (size_t at = 0; at < n;) {
        size_t part = piece < n - at ? piece : n - at;
        const uint8_t *p = msg + at, *end = p + part, *payload;
        size_t len;
        enum data_event event;
        while ((event = data_decode(d, &p, end, &payload, &len)) == DATA_PAYLOAD) {
            if (len == 0 || payload < msg + at || payload + len > end)
                abort();
            memcpy(out + total, payload, len);
            total += len;
        }
        if (event == DATA_BAD)
            return total;
        if (p != end)
            abort();
        at += part;
    }
    return total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    size_t piece = data[0] % 50 + 1u;
    data++;
    n--;
    uint8_t *whole = malloc(n + 1), *torn = malloc(n + 1);
    if (!whole || !torn)
        abort();
    struct data_decoder d1 = {0}, d2 = {0};
    size_t n1 = decode(&d1, data, n, n + 1, whole), n2 = decode(&d2, data, n, piece, torn);
    if (n1 != n2 || memcmp(whole, torn, n1) != 0 || memcmp(&d1, &d2, sizeof d1) != 0)
        abort();

    PbData *pb = PB(unpack)(NULL, n, data);
    if (pb && data_decode_end(&d1)) {
        int action = (int)pb->action;
        if (d1.action != (action == 1 || action == 2 ? action : 0) || d1.ack != pb->ack)
            abort();
        size_t at = 0;
        for (size_t i = 0; i < pb->n_data; i++) {
            size_t len = pb->data[i].len;
            if (len > n1 - at || (len > 0 && memcmp(whole + at, pb->data[i].data, len) != 0))
                abort();
            at += len;
        }
        if (at != n1)
            abort();
    }
    if (pb)
        PB(free_unpacked)(pb, NULL);
    free(whole);
    free(torn);
    return 0;
}
