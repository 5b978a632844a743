/* libFuzzer: gRPC's message prefix in a byte stream that is cut by its first byte; it must read as in one
 * piece. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/frame.h"

/* What was read, as text to compare. */
struct reading {
    struct grpc_deframer d;
    uint64_t begun, ended, bytes, sum;
    bool compressed;
};

static void feed(struct reading *r, const uint8_t *p, size_t n)
{
    const uint8_t *end = p + n, *piece;
    uint32_t len;
    while (!r->compressed) {
        switch (grpc_deframe(&r->d, &p, end, &piece, &len)) {
        case GRPC_FRAME_MORE:
            if (p != end)
                abort();
            return;
        case GRPC_FRAME_BEGIN:
            if (r->begun != r->ended)
                abort();
            r->begun++;
            r->sum = r->sum * 31 + len;
            break;
        case GRPC_FRAME_BYTES:
            if (r->begun != r->ended + 1 || len == 0 || piece + len > end)
                abort();
            r->bytes += len;
            for (uint32_t i = 0; i < len; i++)
                r->sum = r->sum * 31 + piece[i];
            break;
        case GRPC_FRAME_END:
            r->ended++;
            break;
        case GRPC_FRAME_COMPRESSED:
            r->compressed = true;
            break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    size_t piece = data[0] % 20 + 1u;
    data++;
    n--;
    struct reading whole = {0}, torn = {0};
    feed(&whole, data, n);
    for (size_t at = 0; at < n; at += piece)
        feed(&torn, data + at, piece < n - at ? piece : n - at);
    if (whole.begun != torn.begun || whole.ended != torn.ended || whole.bytes != torn.bytes ||
        whole.sum != torn.sum || whole.compressed != torn.compressed ||
        grpc_deframer_inside(&whole.d) != grpc_deframer_inside(&torn.d))
        abort();
    return 0;
}
