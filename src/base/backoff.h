#ifndef KBGP_BASE_BACKOFF_H
#define KBGP_BASE_BACKOFF_H

#include <stdint.h>

/*
 * Exponential backoff with full jitter: the n-th wait is random between 0 and min(max, first × 2ⁿ), but never below
 * a tenth of `first`, so that a peer that refuses at once is not asked in a tight loop.
 */
struct backoff {
    int64_t first_ms, max_ms;
    uint32_t failures;
};

/* The defaults of the protocol: 1 s to 60 s. */
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS   60000

static inline void backoff_init(struct backoff *b)
{
    *b = (struct backoff){.first_ms = BACKOFF_FIRST_MS, .max_ms = BACKOFF_MAX_MS};
}

/* Counts a failure and returns how long to wait, in milliseconds. `random` is any 64 random bits. */
static inline int64_t backoff_next(struct backoff *b, uint64_t random)
{
    int64_t ceiling = b->first_ms;
    for (uint32_t i = 0; i < b->failures && ceiling < b->max_ms; i++)
        ceiling *= 2;
    if (ceiling > b->max_ms)
        ceiling = b->max_ms;
    b->failures++;
    int64_t wait = (int64_t)(random % (uint64_t)(ceiling + 1));
    int64_t least = b->first_ms / 10;
    return wait < least ? least : wait;
}

static inline void backoff_reset(struct backoff *b)
{
    b->failures = 0;
}

#endif
