#ifndef KBGP_RELAY_RING_H
#define KBGP_RELAY_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/arena.h"

/*
 * The bytes of one direction of a session, on their way: a queue in a chain of arena blocks. Plain memory with indexes
 * only, so that it may live in the arena itself; a zeroed struct is an empty ring, and an empty ring holds no block.
 *
 *     first block            …             last block
 *     [ taken | bytes ][ bytes ][ bytes ][ bytes | room ]
 *             ^head                              ^tail
 */
struct ring {
    uint32_t first, last; /* blocks; ARENA_NONE: empty */
    uint32_t head,
        tail; /* offsets in the first and in the last block; head < ARENA_BLOCK, 0 < tail ≤ ARENA_BLOCK */
    uint32_t len; /* bytes held */
};

/* The most pieces of memory that one call deals with: 128 KiB that start in the middle of a block. */
#define RING_IOV 33

/*
 * Pieces of memory for up to `want` more bytes (at most RING_IOV pieces), to be filled by recv(). Returns how many pieces;
 * 0 when the arena has no block left. Must be followed by ring_filled(), which also returns what was not used.
 */
int ring_room(struct ring *r, struct arena *a, size_t want, struct iovec iov[static RING_IOV]);
void ring_filled(struct ring *r, struct arena *a, size_t n);

/* Appends a copy of n bytes, or nothing and false when the arena has not enough blocks left. */
bool ring_append(struct ring *r, struct arena *a, const void *p, size_t n);

/* The bytes at the front, at most `max` of them, in place. Returns how many pieces (0: the ring is empty). */
int ring_front(const struct ring *r, const struct arena *a, size_t max, struct iovec iov[static RING_IOV]);

/* Copies n bytes out of the front and takes them. n ≤ len. */
void ring_move_out(struct ring *r, struct arena *a, void *dst, size_t n);

/* Takes n bytes at the front. n ≤ len. Blocks that are done with go back to the arena. */
void ring_take(struct ring *r, struct arena *a, size_t n);

/* Takes everything. */
void ring_clear(struct ring *r, struct arena *a);

#endif
