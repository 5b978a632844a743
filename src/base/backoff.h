#ifndef KBGP_BASE_BACKOFF_H
#define KBGP_BASE_BACKOFF_H

#include <stdint.h>

/*
 * Exponential backoff with full jitter: the n-th wait is random between 0 and min(max, first × 2ⁿ), but never below
 * a tenth of `first`, so that a peer that refuses at once is not asked in a tight loop. Zeroed it is ready.
 */
struct backoff {
    uint32_t failures; /* since the last success */
};

/* Those of the protocol: 1 s to 60 s. */
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS   60000

/*
 * Counts a failure and returns how long to wait, in milliseconds; max_ms, from BACKOFF_FIRST_MS on, in place of the
 * protocol's. `random` is any 64 random bits.
 */
static inline int64_t backoff_next_max(struct backoff *b, int64_t max_ms, uint64_t random)
{
    int64_t ceiling = BACKOFF_FIRST_MS;
    for (uint32_t i = 0; i < b->failures && ceiling < max_ms; i++)
        ceiling *= 2;
    if (ceiling > max_ms)
        ceiling = max_ms;
    b->failures++;
    int64_t wait = (int64_t)(random % (uint64_t)(ceiling + 1));
    return wait < BACKOFF_FIRST_MS / 10 ? BACKOFF_FIRST_MS / 10 : wait;
}

static inline int64_t backoff_next(struct backoff *b, uint64_t random)
{
    return backoff_next_max(b, BACKOFF_MAX_MS, random);
}

static inline void backoff_reset(struct backoff *b)
{
    b->failures = 0;
}

#endif
