#ifndef KBGP_RELAY_ANSWERS_H
#define KBGP_RELAY_ANSWERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/list.h"
#include "base/map.h"
#include "relay/control_msg.h"

/*
 * What Control has said about devices, for as long as it may be used: a cache by device address with `ttl_seconds` and
 * `ttl_counter` (docs/protocol.md, part 2). Pure: time comes in as milliseconds. Bounded: the entry unused for longest goes.
 */
struct answers {
    struct map by_ip;
    struct list recent; /* used longest ago first */
    uint64_t seed;
    uint64_t hits, misses;
    size_t bytes;                   /* of all that is held */
    struct control_response served; /* what answers_use() returned last; its metadata belongs to the entry */
};

/* Far more devices than one agent has; and what they may take together. */
#define ANSWERS_MAX       65536
#define ANSWERS_BYTES_MAX (32u << 20)

void answers_init(struct answers *a, uint64_t seed);
void answers_free(struct answers *a);

/* Puts an answer (which is cleared) in place of what is known of that device; with ttl_seconds 0 only removes. */
void answers_put(struct answers *a, struct control_response *r, int64_t now_ms);

/* The answer for a connection of this device, counting one use; NULL: ask. Valid until the next call here. */
const struct control_response *answers_use(struct answers *a, const struct addr *device, int64_t now_ms);

/* Whether connections of this device are denied just now. Counts no use. */
bool answers_blocked(struct answers *a, const struct addr *device, int64_t now_ms);
/* The same for a connection that is refused for it: counts one use. */
bool answers_refuse(struct answers *a, const struct addr *device, int64_t now_ms);

void answers_drop(struct answers *a, const struct addr *device);

/* How many answers hold now that allow, and that block. */
void answers_count(const struct answers *a, int64_t now_ms, uint64_t *allow, uint64_t *block);

#endif
