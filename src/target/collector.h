#ifndef KBGP_TARGET_COLLECTOR_H
#define KBGP_TARGET_COLLECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "bgp/message.h"
#include "bgp/update.h"

/*
 * A passive BGP speaker: the peer that a router finds at the other end of its session when no BGP daemon
 * stands behind the target. It keeps the session up, never announces anything, and tells a sink what the
 * router said.
 *
 * It is a state machine without I/O: bytes from the router and the time come in, bytes for the router and the
 * next deadline come out. `now_ms` is monotonic time. After any call the owner sends what is in
 * collector_output(), sets its timer to collector_deadline_ms(), and once collector_finished() and the output
 * is sent, closes the connection.
 */
struct collector_peer;

/* Who the router is, for those who read the events. */
struct collector_identity {
    const char *device;  /* its name in the inventory */
    const char *address; /* its IP address */
    const char *session; /* the session's id */
};

enum collector_event_kind {
    COLLECTOR_OPEN,         /* the router's OPEN was accepted: open, hold_time */
    COLLECTOR_ESTABLISHED,  /* hold_time */
    COLLECTOR_ANNOUNCE,     /* update, routes, next_hop */
    COLLECTOR_WITHDRAW,     /* update, routes */
    COLLECTOR_OPAQUE,       /* update, routes: of a family that is not decoded; withdrawn says which way */
    COLLECTOR_END_OF_RIB,   /* family */
    COLLECTOR_MALFORMED,    /* update: verdict, bad_attribute, why (RFC 7606); its routes, if any, follow as
                               events */
    COLLECTOR_NOTIFICATION, /* notification, sent */
    COLLECTOR_CLOSE,        /* reason; always the last event of a session, exactly once */
};

/* What a pointer points at is valid only while the sink runs. */
struct collector_event {
    enum collector_event_kind kind;
    const struct collector_identity *peer;
    const struct bgp_open *open;
    const struct bgp_update *update;
    const struct bgp_routes *routes;
    bool withdrawn;
    struct bgp_family family;
    const uint8_t *next_hop;
    size_t next_hop_len;
    uint16_t hold_time; /* seconds, as negotiated; 0: none */
    const struct bgp_notification *notification;
    bool sent; /* by us; else received */
    const char *reason;
};

/* Takes one event. It must not call back into the peer. */
typedef void collector_sink(void *arg, const struct collector_event *event);

#define COLLECTOR_HOLD_TIME 90

struct collector_config {
    uint32_t local_as;    /* 0: the router's own AS, so that it sees an iBGP peer */
    uint8_t router_id[4]; /* network order, not 0.0.0.0 */
    uint16_t hold_time;   /* offered, seconds; 0: COLLECTOR_HOLD_TIME; less than 3 counts as 3 */
    collector_sink *sink;
    void *sink_arg;
};

/*
 * A session whose TCP connection has just come up; the router has 240 seconds to send its OPEN (RFC 4271
 * section 8.2.2). Config and identity are copied. NULL without memory.
 */
struct collector_peer *collector_new(const struct collector_config *config,
                                     const struct collector_identity *identity, int64_t now_ms);

/* Emits nothing: a session that should be seen to end is ended first, by collector_eof() or
 * collector_shutdown(). */
void collector_free(struct collector_peer *p);

/*
 * Bytes from the router, cut in any way. Feed what has arrived before calling collector_tick() in the same
 * turn, so that a stall of our own is not held against the router. After the end of the session bytes are
 * ignored.
 */
void collector_feed(struct collector_peer *p, const uint8_t *bytes, size_t n, int64_t now_ms);

/* What is to be sent to the router; the caller takes from it (buf_take). It stays below a few KiB. */
struct buf *collector_output(struct collector_peer *p);

/* The connection is gone. `reason` for the close event; NULL: the router closed it. */
void collector_eof(struct collector_peer *p, const char *reason, int64_t now_ms);

/* When collector_tick() is due; INT64_MAX: never. */
int64_t collector_deadline_ms(const struct collector_peer *p);
void collector_tick(struct collector_peer *p, int64_t now_ms);

/* Ends the session with a Cease/Administrative Shutdown and this text (RFC 8203), cut to 128 bytes; NULL: no
 * text. */
void collector_shutdown(struct collector_peer *p, int64_t now_ms, const char *text);

/* Nothing more will come out of the peer but what is in its output. */
bool collector_finished(const struct collector_peer *p);

/* The session is in state Established. */
bool collector_established(const struct collector_peer *p);

#endif
