#include "agent/health.h"

const char *health_status_name(enum health_status status)
{
    static const char *const names[HEALTH_STATUSES] = {[HEALTH_OK] = "ok",
                                                       [HEALTH_INITIALIZING] = "initializing",
                                                       [HEALTH_TIMEOUT] = "timeout",
                                                       [HEALTH_OLD_RESULT] = "old_result",
                                                       [HEALTH_FAILING] = "failing"};
    return names[status];
}

const char *health_check_name(enum health_check check)
{
    static const char *const names[HEALTH_CHECKS] = {
        [HEALTH_CONTROL] = "control", [HEALTH_LISTENERS] = "listeners", [HEALTH_API] = "api",
        [HEALTH_MEMORY] = "memory",   [HEALTH_LOOP] = "loop",           [HEALTH_CAPTURE] = "capture"};
    return names[check];
}

void health_init(struct health *h, int64_t now_ms)
{
    *h = (struct health){.started_ms = now_ms};
    for (unsigned i = 0; i < HEALTH_CHECKS; i++)
        h->details[i] = "not looked at yet";
}

static bool any(const struct health *h, enum health_result result)
{
    for (unsigned i = 0; i < HEALTH_CHECKS; i++)
        if (h->results[i] == result)
            return true;
    return false;
}

static void set(struct health *h, enum health_check check, enum health_result result, const char *detail,
                int64_t since_ms)
{
    h->results[check] = result;
    h->details[check] = result == HEALTH_PASSED ? "" : detail;
    h->waits_since_ms[check] = result == HEALTH_WAITS ? since_ms : 0;
}

static void pass_if(struct health *h, enum health_check check, bool passed, const char *detail)
{
    set(h, check, passed ? HEALTH_PASSED : HEALTH_FAILED, detail, 0);
}

/*
 * A stream that is gone is opened again within a moment where the target only moves house (GOAWAY): that is
 * waited for, as an answer to a KEEPALIVE is. The sessions live through both.
 */
static void check_control(struct health *h, const struct health_facts *f, int64_t now_ms)
{
    int64_t down_since = f->changed_ms != 0 ? f->changed_ms : h->started_ms;
    int64_t patience = f->changed_ms != 0 ? HEALTH_TIMEOUT_MS : HEALTH_INITIAL_MS;
    if (f->rejected)
        set(h, HEALTH_CONTROL, HEALTH_FAILED, "the target rejected the credentials", 0);
    else if (!f->connected && now_ms - down_since < patience)
        set(h, HEALTH_CONTROL, HEALTH_WAITS, "connecting to the target", down_since);
    else if (!f->connected)
        set(h, HEALTH_CONTROL, HEALTH_FAILED, "the Control stream is not connected", 0);
    else if (f->heartbeat_waits)
        set(h, HEALTH_CONTROL, HEALTH_WAITS, "a KEEPALIVE of the Control stream is not answered yet",
            f->heartbeat_tx_ms);
    else
        pass_if(h, HEALTH_CONTROL, f->heartbeat_rx_ms != 0,
                "no KEEPALIVE was answered on the Control stream");
}

void health_run(struct health *h, const struct health_facts *f, bool due, int64_t now_ms, int64_t wall_ns)
{
    check_control(h, f, now_ms);
    pass_if(h, HEALTH_LISTENERS, !f->stopping && f->listeners_open == f->listeners_wanted,
            f->stopping ? "the agent stops" : "a listening socket for BGP is closed");
    pass_if(h, HEALTH_API, f->api_open, "the listening socket of the status pages is closed");
    pass_if(h, HEALTH_MEMORY, !f->memory_is_full, "all memory for bytes on their way is in use");
    pass_if(h, HEALTH_CAPTURE, !f->capture_lost,
            "signed SYNs (TCP-MD5) cannot be captured: the interface is down or gone");
    if (due) {
        bool late = h->due_ms != 0 && now_ms - h->due_ms > HEALTH_LATE_MS;
        pass_if(h, HEALTH_LOOP, !late, "the event loop was held up");
        h->due_ms = now_ms + HEALTH_PERIOD_MS;
        h->was_old = h->run_ms != 0 && now_ms - h->run_ms > HEALTH_OLD_MS;
    }
    h->run_ms = now_ms;
    h->run_wall_ns = wall_ns;
    /* Where a check has failed the others need not be waited for. */
    bool failed = any(h, HEALTH_FAILED);
    if (failed || !any(h, HEALTH_WAITS)) {
        h->have_result = true;
        h->all_passed = !failed;
    }
}

enum health_status health_status(const struct health *h, int64_t now_ms)
{
    if (h->was_old || (h->run_ms != 0 && now_ms - h->run_ms > HEALTH_OLD_MS))
        return HEALTH_OLD_RESULT;
    if (h->run_ms == 0)
        return now_ms - h->started_ms > HEALTH_INITIAL_MS ? HEALTH_TIMEOUT : HEALTH_INITIALIZING;
    for (unsigned i = 0; i < HEALTH_CHECKS && !any(h, HEALTH_FAILED); i++)
        if (h->results[i] == HEALTH_WAITS && now_ms - h->waits_since_ms[i] > HEALTH_TIMEOUT_MS)
            return HEALTH_TIMEOUT;
    if (!h->have_result)
        return HEALTH_INITIALIZING;
    return h->all_passed ? HEALTH_OK : HEALTH_FAILING;
}
