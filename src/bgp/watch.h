#ifndef KBGP_BGP_WATCH_H
#define KBGP_BGP_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "bgp/peek.h"

/*
 * Both directions of a relayed BGP session as they pass: in which state the two speakers must be, since when,
 * when each of them was last heard, and the last NOTIFICATION of each. For the operator's eyes only.
 *
 * Plain memory without pointers, like the two watchers inside; a zeroed struct is ready. It asks no clock:
 * whoever feeds it says what time it is.
 */

/* A point in time twice: to count from (CLOCK_MONOTONIC, milliseconds) and to show (nanoseconds since 1970).
 * All 0: never. */
struct bgp_watch_time {
    int64_t mono_ms, wall_ns;
};

struct bgp_watch_side {
    struct bgp_peek peek;
    struct bgp_watch_time message;      /* the last message began to pass */
    struct bgp_watch_time notification; /* the last NOTIFICATION passed */
};

struct bgp_watch {
    struct bgp_watch_side out, in;     /* as in relay/session: out of the TCP side, into it */
    struct bgp_watch_time established; /* never taken back: the end is told by the NOTIFICATION or by TCP */
    struct bgp_peek_data data; /* of the NOTIFICATION that had some: of the earlier one, if both had */
};

/* The states of RFC 4271 section 8.2.2, as far as they show from outside. */
enum bgp_watch_state {
    BGP_WATCH_IDLE,        /* a NOTIFICATION has passed: over */
    BGP_WATCH_CONNECT,     /* no OPEN yet */
    BGP_WATCH_OPENSENT,    /* one side's */
    BGP_WATCH_OPENCONFIRM, /* both sides' */
    BGP_WATCH_ESTABLISHED, /* and both were confirmed, by a KEEPALIVE or an UPDATE */
    BGP_WATCH_STATES
};

/* Takes the next n bytes of w->out or w->in (`side`), cut in any way. */
void bgp_watch_feed(struct bgp_watch *w, struct bgp_watch_side *side, const uint8_t *bytes, size_t n,
                    const struct bgp_watch_time *now);

enum bgp_watch_state bgp_watch_state(const struct bgp_watch *w);
/* "idle", "connect", "opensent", "openconfirm", "established": also the label `state` of metrics. */
const char *bgp_watch_state_name(enum bgp_watch_state state);

/* The hold time both agreed on, in seconds: the smaller one (RFC 4271 section 4.2). -1 until both OPENs have
 * passed. */
int bgp_watch_hold_time(const struct bgp_watch *w);

/* All messages of one direction. */
uint64_t bgp_watch_messages(const struct bgp_watch_side *side);

/* The last NOTIFICATION of w->out or w->in (`side`): see bgp_peek_notification(). False: there was none. */
bool bgp_watch_notification(const struct bgp_watch *w, const struct bgp_watch_side *side,
                            struct bgp_notification *n);

/* Long enough for names and the longest text that is kept. */
#define BGP_WATCH_TEXT_MAX (BGP_NAME_MAX + BGP_SHUTDOWN_TEXT_MAX)
/*
 * The same in words: "Cease/Administrative Shutdown: maintenance". The text behind the colon is
 * the other operator's (RFC 9003), fit for a log line. NULL: there was none.
 */
const char *bgp_watch_notification_text(const struct bgp_watch *w, const struct bgp_watch_side *side,
                                        char out[static BGP_WATCH_TEXT_MAX]);

#endif
