#include "agent/ending.h"

#include <inttypes.h>
#include <stdio.h>

const char *ending_by_name(enum ending_by by)
{
    static const char *const names[] = {
        [ENDING_BY_ROUTER] = "router", [ENDING_BY_TARGET] = "target", [ENDING_BY_AGENT] = "agent"};
    return names[by];
}

const char *ending_cause_name(enum ending_cause cause)
{
    static const char *const names[ENDING_CAUSES] = {
        [ENDING_DEVICE_FIN] = "device_fin", [ENDING_DEVICE_RESET] = "device_reset",
        [ENDING_TARGET_END] = "target_end", [ENDING_TARGET_KILL] = "target_kill",
        [ENDING_AGENT_KILL] = "agent_kill", [ENDING_UNDELIVERABLE] = "undeliverable",
        [ENDING_SHUTDOWN] = "shutdown"};
    return names[cause];
}

static void set(struct ending *e, enum ending_by by, enum ending_cause cause, const char *reason)
{
    e->by = by;
    e->cause = cause;
    snprintf(e->reason, sizeof e->reason, "%s", reason);
}

/* The side that said NOTIFICATION first; NULL: neither did. */
static const struct bgp_watch_side *first_notification(const struct bgp_watch *w)
{
    int64_t out = w->out.notification.mono_ms, in = w->in.notification.mono_ms;
    if (out == 0 && in == 0)
        return NULL;
    return in == 0 || (out != 0 && out <= in) ? &w->out : &w->in;
}

/* A side that says nothing for its hold time is taken for dead by the other, even where no NOTIFICATION gets
 * through. */
static void add_silence(struct ending *e, const struct bgp_watch *w, int64_t now_ms)
{
    int hold_time = bgp_watch_hold_time(w);
    const struct bgp_watch_side *silent = w->out.message.mono_ms <= w->in.message.mono_ms ? &w->out : &w->in;
    int64_t ms = now_ms - silent->message.mono_ms;
    if (hold_time <= 0 || ms < hold_time * INT64_C(1000))
        return;
    size_t len = 0;
    while (e->reason[len])
        len++;
    snprintf(e->reason + len, sizeof e->reason - len,
             ", %" PRId64 " s after the last BGP message of the %s (hold time %d s)", ms / 1000,
             silent == &w->out ? "router" : "target", hold_time);
}

void ending_of(struct ending *e, const struct session *s, enum session_todo how, bool stopping,
               const char *kill_reason, int64_t now_ms)
{
    char text[BGP_WATCH_TEXT_MAX];
    if (how == SESSION_ABORT && s->kill_received) {
        /* Both ends see counters that disagree; whose KILL is first says nothing about why. */
        set(e, ENDING_BY_TARGET, ENDING_TARGET_KILL, kill_reason ? kill_reason : "the target sent KILL");
        return;
    }
    if (how == SESSION_ABORT) {
        set(e, ENDING_BY_AGENT, ENDING_AGENT_KILL,
            kill_reason ? kill_reason
                        : "a message of the target was not usable, or memory for its bytes ran out");
        return;
    }
    if (stopping) {
        set(e, ENDING_BY_AGENT, ENDING_SHUTDOWN, "the agent stops");
        return;
    }
    const struct bgp_watch_side *first = first_notification(&s->seen);
    if (first) {
        bool router = first == &s->seen.out;
        set(e, router ? ENDING_BY_ROUTER : ENDING_BY_TARGET,
            !router         ? ENDING_TARGET_END
            : s->tcp_broken ? ENDING_DEVICE_RESET
                            : ENDING_DEVICE_FIN,
            "");
        snprintf(e->reason, sizeof e->reason, "the %s sent NOTIFICATION %s", router ? "router" : "target",
                 bgp_watch_notification_text(&s->seen, first, text));
        return;
    }
    /* Our half of the call was closed because the router had gone; where it was not, the target was first. */
    if (s->tcp_broken)
        set(e, ENDING_BY_ROUTER, ENDING_DEVICE_RESET, "the router reset the connection");
    else if (s->tcp_eof && s->end_sent)
        set(e, ENDING_BY_ROUTER, ENDING_DEVICE_FIN, "the router closed the connection");
    else
        set(e, ENDING_BY_TARGET, ENDING_TARGET_END, "the target closed the session");
    add_silence(e, &s->seen, now_ms);
}
