#ifndef KBGP_AGENT_RECORD_H
#define KBGP_AGENT_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/list.h"
#include "base/map.h"
#include "bgp/watch.h"
#include "relay/control_msg.h"

/*
 * What is told of each device over all its sessions, for the per-device metrics: a device that is down has a
 * series that says so, and a counter goes on where the last session left it. A record comes with the first
 * session that the target allows and stays; bounded, the device that has been gone for longest makes room.
 * Pure.
 */

/* As many as there may be sessions, so that one with a session always has room. */
#define RECORDS_MAX 20000
/* Kinds of NOTIFICATION told apart for each device; what comes beyond is counted without its codes. */
#define RECORD_NOTIFICATIONS 8

enum record_direction { RECORD_UP, RECORD_DOWN };

struct record_notification {
    bool down;   /* the target's */
    bool others; /* the codes of those that found no place of their own are not known */
    uint8_t code, subcode;
    uint64_t count;
};

/* Counts of ended sessions, or of those that are there. */
struct record_counts {
    uint64_t bytes[2];
    uint64_t messages[2][6]; /* by enum bgp_type, [0] others */
    uint64_t established;
};

/* Of ended sessions. */
struct record_past {
    struct record_counts counts;
    struct record_notification notifications[RECORD_NOTIFICATIONS];
    unsigned n_notifications;
};

struct record {
    struct map_node by_ip;
    struct list node; /* in `recent` */
    struct addr ip;   /* without a port */
    char *name;
    uint32_t company_id, device_id;
    uint32_t sessions; /* there are now */

    const struct record_past
        *past; /* most devices have the one session that began when the agent did: then all zero */
    struct record_counts
        *present; /* between records_look_begin() and _end(), after record_look(); else NULL */

    /* Of the newest session, there or gone: */
    uint8_t state; /* enum bgp_watch_state */
    bool have_open;
    uint16_t hold_time; /* that the router offers */
    uint32_t asn;
    int64_t started_wall_ns;
    int64_t received_wall_ns; /* a BGP message of the router; 0: none yet */
    int64_t notification_wall_ns[2];
};

struct records {
    struct map by_ip;
    struct list recent; /* whose session began or ended longest ago first */
    uint64_t seed;
    struct record_counts *looked; /* what `present` points into */
    size_t n_looked, looked_max;
};

void records_init(struct records *rs, uint64_t seed);
void records_free(struct records *rs);

/*
 * A session of the device begins. A name or id other than before is another device: its counts begin at 0.
 * NULL: out of memory, or all records belong to devices with sessions.
 */
struct record *records_begin(struct records *rs, const struct addr *device,
                             const struct control_response *answer, int64_t wall_ns);

/* What a session has carried, and what was seen of it. */
struct record_session {
    uint64_t bytes[2];
    const struct bgp_watch *seen; /* `out` is the router */
};
/* The session has ended: it is added up (where there is memory for it). */
void records_end(struct records *rs, struct record *r, const struct record_session *session);

/*
 * Reading the records: records_look_begin(), then record_look() for every session, oldest first, then record_counts() as
 * often as needed, then records_look_end(). Without memory the sessions that are there do not count.
 */
void records_look_begin(struct records *rs);
void record_look(struct records *rs, struct record *r, const struct record_session *session);
/* All sessions: those that have ended, and those that were looked at. */
struct record_counts record_counts(const struct record *r);
void records_look_end(struct records *rs);

#endif
