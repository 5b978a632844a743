#ifndef KBGP_DAEMON_EXPORT_SENDER_H
#define KBGP_DAEMON_EXPORT_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "daemon/export_rules.h"
#include "net/curl_loop.h"
#include "net/loop.h"

/*
 * One destination of the export: a bounded queue of bodies, sent in order by HTTP POST, one at a time, from
 * the event loop. What becomes of a body stands in daemon/export_rules. A failure is logged once, and so is
 * that it works again.
 */
struct export_sender;

/* A request has this long. */
#define EXPORT_REQUEST_MS 30000
/* After "not accepted". Also the most that a Retry-After is followed. */
#define EXPORT_PAUSE_MS 3600000

struct export_sender_config {
    struct loop *loop;
    struct curl_loop *curl;
    const char *signal;        /* "logs" or "metrics"; a constant */
    const char *url;           /* copied */
    const char *email, *token; /* the account, borrowed and read anew for each request; NULL: none */
    const char *ca_file;       /* copied; NULL: the system's trust store */
    size_t queue_max;          /* bytes of memory for bodies that wait */
};

/* NULL with the reason (a URL that is none, no memory). */
struct export_sender *export_sender_new(const struct export_sender_config *config, struct err *e);
/* Breaks off a request. NULL does nothing. */
void export_sender_free(struct export_sender *s);

/* Takes the body over (`body` is empty afterwards). When the queue is full the oldest that waits is dropped.
 */
void export_sender_push(struct export_sender *s, struct buf *body, uint32_t records);
/* Drops what waits, but for the body under way: something newer takes its place. */
void export_sender_supersede(struct export_sender *s);
/* Counts records that were lost before they came to be in a body. */
void export_sender_lost(struct export_sender *s, uint64_t records);

/* Nothing is sent for now: what is pushed would only be dropped. */
bool export_sender_paused(const struct export_sender *s);
/* Nothing is under way, and nothing is about to be. */
bool export_sender_idle(const struct export_sender *s);
/* The account may have changed: ends a pause. */
void export_sender_wake(struct export_sender *s);
/* The log record that is being written tells of this sender's own failure: exporting it could go on for ever.
 */
bool export_sender_is_logging(const struct export_sender *s);

struct export_stats {
    uint64_t records; /* delivered */
    uint64_t dropped; /* lost, for whatever reason */
    uint64_t failures[EXPORT_REASONS];
};
const struct export_stats *export_sender_stats(const struct export_sender *s);

#endif
