#ifndef KBGP_RELAY_CONTROL_MSG_H
#define KBGP_RELAY_CONTROL_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/kv.h"

/* ControlRequest and ControlResponse (proto/ktbgp.proto), encoded and decoded. protobuf-c stays inside. */

#define CONTROL_PROTO_BGP "BGP"

enum control_action { CONTROL_CARRY_ON = 0, CONTROL_BLOCK_IP = 1, CONTROL_KEEPALIVE = 2 };

/* Control messages are small; a longer one is refused before it is decoded. */
#define CONTROL_MESSAGE_MAX (256u << 10)
/* The longest TCP-MD5 key the kernel takes (TCP_MD5SIG_MAXKEYLEN). */
#define CONTROL_MD5_MAX  80
#define CONTROL_NAME_MAX 128

struct control_request {
    enum control_action action;
    struct addr device; /* with port */
    struct addr proxy;
};

struct control_response {
    enum control_action action;
    struct addr device; /* port 0: every connection from that address */
    uint32_t ttl_seconds, ttl_counter;
    struct kv metadata; /* owned: control_response_clear() */
    uint32_t company_id, device_id;
    char device_name[CONTROL_NAME_MAX]; /* a longer one is cut */
    uint8_t md5[CONTROL_MD5_MAX];
    uint8_t md5_len;
};

/* Appends the encoded message. False without memory. */
bool control_request_encode(const struct control_request *m, struct buf *out);
/* `proxy` is what the response repeats of the request; NULL for a push. */
bool control_response_encode(const struct control_response *m, const struct addr *proxy, struct buf *out);

/* False with the reason: not protobuf, another proto than BGP, an address that is none, a key that is too long. */
bool control_request_decode(const uint8_t *p, size_t n, struct control_request *out, struct err *e);
bool control_response_decode(const uint8_t *p, size_t n, struct control_response *out, struct err *e);

/* Frees the metadata and wipes the key. */
void control_response_clear(struct control_response *m);

#endif
