#ifndef KBGP_AGENT_ENDING_H
#define KBGP_AGENT_ENDING_H

#include <stdbool.h>

#include "relay/session.h"

/* Who ended a session, and why, in the words of the log line "session ended". Pure. */

enum ending_by { ENDING_BY_ROUTER, ENDING_BY_TARGET, ENDING_BY_AGENT };

/* The label `cause` of kbgp_sessions_closed_total. */
enum ending_cause {
    ENDING_DEVICE_FIN,
    ENDING_DEVICE_RESET,
    ENDING_TARGET_END,
    ENDING_TARGET_KILL,
    ENDING_AGENT_KILL,    /* counters that disagree, unusable messages, a device that is denied now */
    ENDING_UNDELIVERABLE, /* the router had gone and its last bytes found no target in time */
    ENDING_SHUTDOWN,      /* the agent stops */
    ENDING_CAUSES
};

#define ENDING_REASON_MAX (BGP_WATCH_TEXT_MAX + 128)

struct ending {
    enum ending_by by;
    enum ending_cause cause;
    char reason[ENDING_REASON_MAX];
};

/*
 * `how` is SESSION_CLOSE or SESSION_ABORT. A NOTIFICATION tells more than TCP does: the first one that passed
 * names who ended the session and why, whoever closed first below. `kill_reason`: why we killed it, NULL
 * where the session itself did; `now_ms`: CLOCK_MONOTONIC.
 */
void ending_of(struct ending *e, const struct session *s, enum session_todo how, bool stopping,
               const char *kill_reason, int64_t now_ms);

/* "router", "target", "agent"; "device_fin" and so on. */
const char *ending_by_name(enum ending_by by);
const char *ending_cause_name(enum ending_cause cause);

#endif
