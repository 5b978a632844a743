#include "grpc/frame.h"

/* `have` beyond the prefix: the message was announced with GRPC_FRAME_BEGIN. */
#define ANNOUNCED (GRPC_PREFIX + 1)

enum grpc_frame_event grpc_deframe(struct grpc_deframer *d, const uint8_t **in, const uint8_t *end,
                                   const uint8_t **p, uint32_t *n)
{
    while (d->have < GRPC_PREFIX) {
        if (*in == end)
            return GRPC_FRAME_MORE;
        d->prefix[d->have++] = *(*in)++;
    }
    if (d->have == GRPC_PREFIX) {
        if (d->prefix[0] != 0)
            return GRPC_FRAME_COMPRESSED;
        d->left = (uint32_t)d->prefix[1] << 24 | (uint32_t)d->prefix[2] << 16 | (uint32_t)d->prefix[3] << 8 |
                  d->prefix[4];
        d->have = ANNOUNCED;
        *n = d->left;
        return GRPC_FRAME_BEGIN;
    }
    if (d->left == 0) {
        d->have = 0;
        return GRPC_FRAME_END;
    }
    if (*in == end)
        return GRPC_FRAME_MORE;
    uint32_t part = (size_t)(end - *in) < d->left ? (uint32_t)(end - *in) : d->left;
    *p = *in;
    *n = part;
    *in += part;
    d->left -= part;
    return GRPC_FRAME_BYTES;
}
