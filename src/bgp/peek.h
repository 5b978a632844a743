#ifndef KBGP_BGP_PEEK_H
#define KBGP_BGP_PEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bgp/message.h"

/*
 * A passive watcher of one direction of a BGP byte stream, for the operator's eyes: what kinds of message
 * passed, what the OPEN said, how the last NOTIFICATION read. It looks at headers, at OPEN and NOTIFICATION;
 * of all else it only counts bytes until the next header. What is not BGP makes it give up for good, without
 * a word.
 *
 * A zeroed struct is ready for the first byte of a stream. It is plain memory of fixed size without pointers,
 * so that it can lie in a session that outlives the process; whatever it holds, feeding it touches nothing
 * outside.
 */

/* What is kept of a NOTIFICATION's data: two bytes of a hard reset, a length, 128 bytes of text (RFC 8203).
 */
#define BGP_PEEK_DATA_MAX 131

struct bgp_peek {
    uint64_t messages[6]; /* by enum bgp_type; [0]: of types unknown to us */

    uint32_t asn;         /* of the OPEN; 4-octet where the capability is there */
    uint8_t router_id[4]; /* network order */
    uint16_t hold_time;   /* seconds */
    bool have_open;       /* the three above are known */

    bool have_notification; /* the three below are known: those of the last one */
    uint8_t code, subcode;
    uint8_t data_len; /* of what is kept */
    uint8_t data[BGP_PEEK_DATA_MAX];

    bool unparsable; /* gave up */

    /* Where the stream stands. */
    uint8_t header_len; /* bytes of the header collected so far */
    uint8_t header[BGP_HEADER_LEN];
    uint8_t type;       /* of the message whose body passes */
    uint16_t body_left; /* bytes of it to come */
    /* Inside an OPEN. */
    uint8_t step;
    uint8_t step_left; /* bytes that the step still wants */
    bool extended;     /* two-octet parameter lengths, RFC 9072 */
    uint8_t capability;
    uint8_t capability_len;
    uint16_t param_left;
    uint32_t number; /* the last four bytes */
};

/*
 * Takes the next n bytes of the stream, cut in any way. Returns how many messages began in them (their
 * headers came to be complete). Costs nothing once `unparsable` is set.
 */
uint32_t bgp_peek_feed(struct bgp_peek *p, const uint8_t *bytes, size_t n);

/* The last NOTIFICATION as far as it was kept, for bgp_notification_name() and bgp_shutdown_text(); it points
 * into p. False: there was none. */
bool bgp_peek_notification(const struct bgp_peek *p, struct bgp_notification *n);

#endif
