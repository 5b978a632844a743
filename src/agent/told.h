#ifndef KBGP_AGENT_TOLD_H
#define KBGP_AGENT_TOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

/*
 * Remembers what was logged about which device, so that a router that tries again and again is told of once
 * in a while and not each time. Fixed memory: a device may be forgotten early in favour of another one. Pure:
 * time comes in.
 */
#define TOLD_SLOTS    4096
#define TOLD_AGAIN_MS (10 * 60 * 1000)
#define TOLD_FOREVER  INT64_MAX

struct told {
    uint64_t seed;
    struct {
        uint64_t what; /* device and kind in one; 0: free */
        int64_t until_ms;
    } slots[TOLD_SLOTS];
};

/* Whether it is time to tell of this kind (a small number) of the device; it counts as told then, for
 * `for_ms`. */
bool told_due(struct told *t, const struct addr *device, unsigned kind, int64_t for_ms, int64_t now_ms);
/* Things are different now: tell the next time. */
void told_forget(struct told *t, const struct addr *device, unsigned kind);

#endif
