#include "base/arena.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Free blocks that are kept for the next burst even when the last second did not need them: 256 KiB. */
#define KEEP_BLOCKS 64u

/* Lies at the start of the mapping. Only sizes and indexes, see the header file. */
struct arena_header {
    uint32_t slots, slot_size, blocks;
    uint32_t slots_used, slot_fresh, slot_free; /* fresh: indexes from here on were never used */
    uint32_t blocks_used, block_fresh;
    uint32_t warm;     /* free blocks backed by memory: the stack's height */
    uint32_t warm_low; /* lowest height since the last trim: so many blocks nobody needed */
    uint32_t cold;     /* free blocks given back to the kernel */
    uint64_t slots_at, slot_links_at, block_links_at, warm_at, cold_at, blocks_at, size;
};

/* The only part outside the mapping: where it is mapped. */
struct arena {
    uint8_t *base;
    struct arena_header *h;
};

static uint64_t page_up(uint64_t n)
{
    return (n + ARENA_BLOCK - 1) & ~(uint64_t)(ARENA_BLOCK - 1);
}

static uint32_t *u32s(const struct arena *a, uint64_t at)
{
    return (uint32_t *)(void *)(a->base + at);
}

struct arena *arena_new(uint32_t slots, uint32_t slot_size, uint32_t blocks, struct err *e)
{
    struct arena_header h = {.slots = slots + 1, .slot_size = (slot_size + 63u) & ~63u, .blocks = blocks + 1};
    h.slot_fresh = h.block_fresh = 1;
    h.slots_at = page_up(sizeof h);
    h.slot_links_at = h.slots_at + page_up((uint64_t)h.slots * h.slot_size);
    h.block_links_at = h.slot_links_at + page_up((uint64_t)h.slots * 4);
    h.warm_at = h.block_links_at + page_up((uint64_t)h.blocks * 4);
    h.cold_at = h.warm_at + page_up((uint64_t)h.blocks * 4);
    h.blocks_at = h.cold_at + page_up((uint64_t)h.blocks * 4);
    h.size = h.blocks_at + (uint64_t)h.blocks * ARENA_BLOCK;

    struct arena *a = malloc(sizeof *a);
    if (!a) {
        err_set(e, "out of memory");
        return NULL;
    }
    void *base =
        mmap(NULL, h.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        err_set(e, "reserving %llu MiB of address space for sessions: %s", (unsigned long long)(h.size >> 20),
                strerror(errno));
        free(a);
        return NULL;
    }
    a->base = base;
    a->h = base;
    *a->h = h;
    return a;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    munmap(a->base, a->h->size);
    free(a);
}

uint32_t arena_slot_get(struct arena *a)
{
    struct arena_header *h = a->h;
    uint32_t slot = h->slot_free;
    if (slot != ARENA_NONE)
        h->slot_free = u32s(a, h->slot_links_at)[slot];
    else if (h->slot_fresh < h->slots)
        slot = h->slot_fresh++;
    else
        return ARENA_NONE;
    h->slots_used++;
    memset(arena_slot(a, slot), 0, h->slot_size);
    return slot;
}

void arena_slot_put(struct arena *a, uint32_t slot)
{
    struct arena_header *h = a->h;
    u32s(a, h->slot_links_at)[slot] = h->slot_free;
    h->slot_free = slot;
    h->slots_used--;
}

void *arena_slot(const struct arena *a, uint32_t slot)
{
    return a->base + a->h->slots_at + (uint64_t)slot * a->h->slot_size;
}

uint32_t arena_block_get(struct arena *a)
{
    struct arena_header *h = a->h;
    uint32_t block;
    if (h->warm > 0) {
        block = u32s(a, h->warm_at)[--h->warm];
        if (h->warm < h->warm_low)
            h->warm_low = h->warm;
    } else {
        h->warm_low = 0;
        if (h->cold > 0)
            block = u32s(a, h->cold_at)[--h->cold];
        else if (h->block_fresh < h->blocks)
            block = h->block_fresh++;
        else
            return ARENA_NONE;
    }
    h->blocks_used++;
    u32s(a, h->block_links_at)[block] = ARENA_NONE;
    return block;
}

void arena_block_put(struct arena *a, uint32_t block)
{
    struct arena_header *h = a->h;
    u32s(a, h->warm_at)[h->warm++] = block;
    h->blocks_used--;
}

uint8_t *arena_block(const struct arena *a, uint32_t block)
{
    return a->base + a->h->blocks_at + (uint64_t)block * ARENA_BLOCK;
}

uint32_t arena_block_next(const struct arena *a, uint32_t block)
{
    return u32s(a, a->h->block_links_at)[block];
}

void arena_block_link(struct arena *a, uint32_t block, uint32_t next)
{
    u32s(a, a->h->block_links_at)[block] = next;
}

void arena_trim(struct arena *a)
{
    struct arena_header *h = a->h;
    uint32_t idle = h->warm_low > KEEP_BLOCKS ? h->warm_low - KEEP_BLOCKS : 0;
    if (idle > 0) {
        /* The bottom of the stack is what was used longest ago. */
        uint32_t *warm = u32s(a, h->warm_at), *cold = u32s(a, h->cold_at);
        for (uint32_t i = 0; i < idle; i++) {
            madvise(arena_block(a, warm[i]), ARENA_BLOCK, MADV_DONTNEED);
            cold[h->cold++] = warm[i];
        }
        h->warm -= idle;
        memmove(warm, warm + idle, (size_t)h->warm * sizeof *warm);
    }
    h->warm_low = h->warm;
}

struct arena_usage arena_usage(const struct arena *a)
{
    return (struct arena_usage){.slots_used = a->h->slots_used,
                                .blocks_used = a->h->blocks_used,
                                .blocks_kept = a->h->warm,
                                .blocks_max = a->h->blocks - 1};
}
