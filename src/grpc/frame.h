#ifndef KBGP_GRPC_FRAME_H
#define KBGP_GRPC_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * gRPC's message prefix (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"): a byte that says whether the message is
 * compressed, and four of length. Messages and HTTP/2 frames know nothing of each other's bounds. Pure.
 */
#define GRPC_PREFIX 5

/* Writes the prefix of an uncompressed message. */
static inline void grpc_prefix_write(uint8_t dst[static GRPC_PREFIX], uint32_t len)
{
    dst[0] = 0;
    dst[1] = (uint8_t)(len >> 24);
    dst[2] = (uint8_t)(len >> 16);
    dst[3] = (uint8_t)(len >> 8);
    dst[4] = (uint8_t)len;
}

/* Takes messages apart, however the bytes are torn. Zeroed: at the start of a message. */
struct grpc_deframer {
    uint8_t prefix[GRPC_PREFIX];
    uint8_t have;  /* bytes of the prefix */
    uint32_t left; /* bytes of the message still to come */
};

enum grpc_frame_event {
    GRPC_FRAME_MORE,       /* everything given was taken in */
    GRPC_FRAME_BEGIN,      /* a message of *n bytes begins */
    GRPC_FRAME_BYTES,      /* *p, *n: bytes of it */
    GRPC_FRAME_END,        /* it is complete */
    GRPC_FRAME_COMPRESSED, /* it is compressed: we did not say that we can do that */
};

/*
 * Takes bytes from *in (up to `end`) and moves *in on; call until it says GRPC_FRAME_MORE. A message of any length is reported:
 * the limit is the caller's.
 */
enum grpc_frame_event grpc_deframe(struct grpc_deframer *d, const uint8_t **in, const uint8_t *end,
                                   const uint8_t **p, uint32_t *n);

/* Whether a message is begun and not complete. */
static inline bool grpc_deframer_inside(const struct grpc_deframer *d)
{
    return d->have > 0;
}

#endif
