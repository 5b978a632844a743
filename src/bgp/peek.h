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
 * outside, but for the data of NOTIFICATIONs (struct bgp_peek_data).
 */

/* What is kept of a NOTIFICATION's data: two bytes of a hard reset, a length, 128 bytes of text (RFC 8203).
 */
#define BGP_PEEK_DATA_MAX 131

/*
 * The data of a NOTIFICATION, in one place for those who watch the two directions of a session: hardly ever does each side
 * say one, and with data. Where it is so, what was said first is kept, which is why the session ends; of what the other side
 * answers, the codes. Zeroed it holds nothing.
 */
struct bgp_peek_data {
    uint8_t who; /* whose it is: see bgp_peek_feed(); 0: there is none */
    uint8_t len;
    uint8_t bytes[BGP_PEEK_DATA_MAX];
};

struct bgp_peek {
    uint64_t messages[6]; /* by enum bgp_type; [0]: of types unknown to us */

    uint32_t asn;         /* of the OPEN; 4-octet where the capability is there */
    uint8_t router_id[4]; /* network order */
    uint16_t hold_time;   /* seconds */

    bool have_open : 1;         /* the three above are known */
    bool have_notification : 1; /* the two below are known: those of the last one */
    bool unparsable : 1;        /* gave up */
    bool extended : 1;          /* inside an OPEN: two-octet parameter lengths, RFC 9072 */
    uint8_t code, subcode;

    /* Where the stream stands. */
    uint8_t header_len; /* bytes of the header that have passed */
    uint8_t header[BGP_HEADER_LEN - BGP_MARKER_LEN];
    uint8_t type;       /* of the message whose body passes */
    uint16_t body_left; /* bytes of it to come */
    uint8_t step;       /* inside an OPEN or a NOTIFICATION */
    /* Inside an OPEN. */
    uint8_t step_left; /* bytes that the step still wants */
    uint8_t capability;
    uint8_t capability_len;
    uint16_t param_left;
    uint32_t number; /* the last four bytes */
};

/*
 * Takes the next n bytes of the stream, cut in any way. Returns how many messages began in them (their
 * headers came to be complete). Costs nothing once `unparsable` is set. `who`, 1 to 255 and always the same, is this watcher
 * for those that share `data`.
 */
uint32_t bgp_peek_feed(struct bgp_peek *p, struct bgp_peek_data *data, uint8_t who, const uint8_t *bytes,
                       size_t n);

/* The last NOTIFICATION as far as it was kept, for bgp_notification_name() and bgp_shutdown_text(); it points
 * into `data`. False: there was none. */
bool bgp_peek_notification(const struct bgp_peek *p, const struct bgp_peek_data *data, uint8_t who,
                           struct bgp_notification *n);

#endif
