#ifndef KBGP_AGENT_HEALTH_H
#define KBGP_AGENT_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What /hc says, and nothing else decides: the checks, and the five words of the product's documentation.
 * Pure: facts and time come in as arguments (CLOCK_MONOTONIC, milliseconds).
 *
 * The checks run every HEALTH_PERIOD_MS and whenever Control has news. Each passes, fails, or waits for
 * something to answer: the KEEPALIVE under way is the question that the check of Control asks, so that no
 * probe of its own is needed. A run in which nothing waits is a result.
 *
 *   initializing  no result yet: the first may take HEALTH_INITIAL_MS
 *   ok            all checks of the last result passed
 *   failing       one or more failed
 *   timeout       a check has waited for longer than HEALTH_TIMEOUT_MS; until then the last result stands
 *   old_result    the checks have not run for HEALTH_OLD_MS: the event loop hangs, or did until just now
 */
#define HEALTH_PERIOD_MS  1000
#define HEALTH_INITIAL_MS 5000
#define HEALTH_TIMEOUT_MS 5000
#define HEALTH_OLD_MS     5000
/* A run that comes this much too late is a failed check of the event loop: keepalives of the sessions were
 * late, too. */
#define HEALTH_LATE_MS 2000

enum health_status {
    HEALTH_OK,
    HEALTH_INITIALIZING,
    HEALTH_TIMEOUT,
    HEALTH_OLD_RESULT,
    HEALTH_FAILING,
    HEALTH_STATUSES
};
/* "ok", "initializing", "timeout", "old_result", "failing". */
const char *health_status_name(enum health_status status);

enum health_check {
    HEALTH_CONTROL,
    HEALTH_LISTENERS,
    HEALTH_API,
    HEALTH_MEMORY,
    HEALTH_LOOP,
    HEALTH_CAPTURE, /* of signed SYNs: passes where MD5 support is off */
    HEALTH_CHECKS
};
/* "control" and so on. */
const char *health_check_name(enum health_check check);

enum health_result { HEALTH_WAITS, HEALTH_PASSED, HEALTH_FAILED };

/* What the checks look at. */
struct health_facts {
    bool stopping;
    bool connected;          /* the Control stream is up */
    bool rejected;           /* the target has rejected the credentials */
    int64_t changed_ms;      /* when it came up, or went down; 0: it was never up */
    int64_t heartbeat_tx_ms; /* the last KEEPALIVE; 0: none yet */
    int64_t heartbeat_rx_ms; /* the last answer; 0: none yet */
    bool heartbeat_waits;    /* the last one is not answered yet */
    unsigned listeners_open, listeners_wanted;
    bool api_open;       /* the socket of the status pages listens */
    bool memory_is_full; /* no memory for rings is left */
    bool capture_lost;   /* MD5 support is on, and the capture of signed SYNs does not run */
};

struct health {
    int64_t started_ms;
    int64_t run_ms; /* the last run; 0: none yet */
    int64_t due_ms; /* when the next periodic one should be; 0: none was yet */
    int64_t run_wall_ns;
    bool was_old;                 /* the loop has just hung for so long, and no run came in time since */
    bool have_result, all_passed; /* of the last run in which no check waited */
    enum health_result results[HEALTH_CHECKS];
    int64_t waits_since_ms[HEALTH_CHECKS]; /* 0: it does not wait */
    const char *details[HEALTH_CHECKS];    /* why it waits or has failed: a constant; "" for passed */
};

void health_init(struct health *h, int64_t now_ms);
/* Runs the checks. `due`: this is a periodic run (the first one is), whose lateness tells of the event loop.
 */
void health_run(struct health *h, const struct health_facts *facts, bool due, int64_t now_ms,
                int64_t wall_ns);
enum health_status health_status(const struct health *h, int64_t now_ms);

#endif
