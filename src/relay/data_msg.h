#ifndef KBGP_RELAY_DATA_MSG_H
#define KBGP_RELAY_DATA_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * DataRequest and DataResponse (proto/ktbgp.proto; the two have the same fields) as a streaming codec: a header is written
 * in front of bytes that stay where they are, and payload is handed on as it comes in, however the message is torn.
 */
enum data_action { DATA_CARRY_ON = 0, DATA_KILL = 1, DATA_RESTART = 2 };

/* --- writing --- */

/*
 * The most payload we put into one message. With its header (4 bytes), gRPC's prefix (5) and four HTTP/2 frame headers (9 each)
 * such a message fills four TLS records of 16 KiB exactly. The contract says at most 64 KiB.
 */
#define DATA_PAYLOAD_MAX (65536u - 4u - 5u - 4u * 9u)
/* The most payload we take in one message, streaming; a longer one is refused by the gRPC layer. */
#define DATA_MESSAGE_MAX (4u << 20)
/* The longest header. */
#define DATA_HEADER_MAX 6

/* Writes the header of a message that consists of `payload` bytes of data: tag and length. Returns its length. */
size_t data_msg_header(uint8_t dst[static DATA_HEADER_MAX], uint32_t payload);
/* Writes a whole message that consists of an action. Returns its length. */
size_t data_msg_action(uint8_t dst[static DATA_HEADER_MAX], enum data_action action);

/* --- reading --- */

/* Where a decoder stands between two bytes. Zeroed: at the start of a message. */
struct data_decoder {
    uint8_t state;
    uint8_t shift; /* of the varint being read */
    bool bad;
    uint8_t action; /* enum data_action; the last one met, as protobuf says */
    uint32_t field;
    uint64_t number; /* the varint being read */
    uint64_t left;   /* bytes of a length-delimited (or fixed) field still to come */
    uint64_t ack;    /* field 15, see docs/protocol.md part 3 */
    uint32_t
        length; /* of the message, when the caller knows it: then a field that is longer is found at its length */
    uint32_t taken; /* bytes of the message so far */
};

enum data_event {
    DATA_MORE,    /* everything given was taken in */
    DATA_PAYLOAD, /* *payload, *n: bytes of the TCP stream, within what was given */
    DATA_BAD,     /* not a protobuf message of this shape; the decoder stays bad */
};

/*
 * Takes bytes of one message from *p (up to `end`) and moves *p on. Call until it says DATA_MORE. Unknown fields are
 * skipped, as protobuf demands.
 */
enum data_event data_decode(struct data_decoder *d, const uint8_t **p, const uint8_t *end,
                            const uint8_t **payload, size_t *n);

/* The message is over: whether it was complete. The action is then in d->action (an unknown one counts as carry on). */
bool data_decode_end(const struct data_decoder *d);

#endif
