#ifndef KBGP_BASE_ARENA_H
#define KBGP_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * One mapping of memory, handed out in pieces of two kinds:
 *
 *   slots   of one fixed size, for structs that live long (a session);
 *   blocks  of ARENA_BLOCK bytes, for bytes that pass through (a ring).
 *
 * References are indexes, never pointers, and what lies in a slot must hold to that as well: the mapping can then be
 * shared with another process, or mapped again at another address, and everything in it still means the same.
 *
 *   | header | slots … | links of slots | links of blocks | warm stack | cold stack | blocks … |
 *
 * Blocks come back to a stack, so that the one used last (still in the cache) is used next. Free blocks nobody
 * needed for a while go back to the kernel (arena_trim), so that memory follows what is really in flight.
 */
struct arena;

/* One page: the unit in which memory goes back to the kernel. */
#define ARENA_BLOCK 4096u
/* "No slot", "no block". Index 0 is never handed out, so that zeroed memory refers to nothing. */
#define ARENA_NONE 0u

/*
 * Reserves address space for `slots` slots of `slot_size` bytes and `blocks` blocks. Memory is taken only when a piece
 * is used. Returns NULL with the reason in `e`.
 */
struct arena *arena_new(uint32_t slots, uint32_t slot_size, uint32_t blocks, struct err *e);
void arena_free(struct arena *a);

/* A zeroed slot, or ARENA_NONE when all are in use. */
uint32_t arena_slot_get(struct arena *a);
void arena_slot_put(struct arena *a, uint32_t slot);
void *arena_slot(const struct arena *a, uint32_t slot);

/* A block (contents undefined), or ARENA_NONE when all are in use. */
uint32_t arena_block_get(struct arena *a);
void arena_block_put(struct arena *a, uint32_t block);
uint8_t *arena_block(const struct arena *a, uint32_t block);

/* The link of a block to the next one: a chain belongs to whoever holds its first block. */
uint32_t arena_block_next(const struct arena *a, uint32_t block);
void arena_block_link(struct arena *a, uint32_t block, uint32_t next);

/* Call about once a second: gives the kernel back those free blocks that were not needed since the last call. */
void arena_trim(struct arena *a);

struct arena_usage {
    uint32_t slots_used, blocks_used;
    uint32_t blocks_kept; /* free, but still backed by memory */
    uint32_t blocks_max;
};
struct arena_usage arena_usage(const struct arena *a);

#endif
