#include "relay/ring.h"

#include <string.h>

int ring_room(struct ring *r, struct arena *a, size_t want, struct iovec iov[static RING_IOV])
{
    int n = 0;
    uint32_t at = r->last;
    if (at != ARENA_NONE && r->tail < ARENA_BLOCK) {
        iov[n].iov_base = arena_block(a, at) + r->tail;
        iov[n].iov_len = want < ARENA_BLOCK - r->tail ? want : ARENA_BLOCK - r->tail;
        want -= iov[n].iov_len;
        n++;
    }
    while (want > 0 && n < RING_IOV) {
        uint32_t block = arena_block_get(a);
        if (block == ARENA_NONE)
            break;
        if (at == ARENA_NONE) {
            r->first = r->last = block;
            r->head = r->tail = 0;
        } else {
            arena_block_link(a, at, block);
        }
        at = block;
        iov[n].iov_base = arena_block(a, block);
        iov[n].iov_len = want < ARENA_BLOCK ? want : ARENA_BLOCK;
        want -= iov[n].iov_len;
        n++;
    }
    return n;
}

static void put_chain(struct arena *a, uint32_t block)
{
    while (block != ARENA_NONE) {
        uint32_t next = arena_block_next(a, block);
        arena_block_put(a, block);
        block = next;
    }
}

void ring_filled(struct ring *r, struct arena *a, size_t n)
{
    if (r->last == ARENA_NONE)
        return;
    r->len += (uint32_t)n;
    while (n > 0) {
        uint32_t room = ARENA_BLOCK - r->tail;
        if (n <= room) {
            r->tail += (uint32_t)n;
            break;
        }
        n -= room;
        r->last = arena_block_next(a, r->last);
        r->tail = 0;
    }
    /* Blocks behind the last byte go back, and so does the only one when nothing was filled into an empty ring. */
    put_chain(a, arena_block_next(a, r->last));
    arena_block_link(a, r->last, ARENA_NONE);
    if (r->len == 0)
        ring_clear(r, a);
}

/* Takes back what was appended since the ring was as `before`. */
static void undo_append(struct ring *r, struct arena *a, const struct ring *before)
{
    if (before->last == ARENA_NONE) {
        put_chain(a, r->first);
    } else {
        put_chain(a, arena_block_next(a, before->last));
        arena_block_link(a, before->last, ARENA_NONE);
    }
    *r = *before;
}

bool ring_append(struct ring *r, struct arena *a, const void *p, size_t n)
{
    const uint8_t *from = p;
    struct ring before = *r;
    while (n > 0) {
        struct iovec iov[RING_IOV];
        int pieces = ring_room(r, a, n, iov);
        if (pieces == 0) {
            undo_append(r, a, &before);
            return false;
        }
        size_t filled = 0;
        for (int i = 0; i < pieces && filled < n; i++) {
            size_t part = n - filled < iov[i].iov_len ? n - filled : iov[i].iov_len;
            memcpy(iov[i].iov_base, from + filled, part);
            filled += part;
        }
        ring_filled(r, a, filled);
        from += filled;
        n -= filled;
    }
    return true;
}

int ring_front(const struct ring *r, const struct arena *a, size_t max, struct iovec iov[static RING_IOV])
{
    size_t left = r->len < max ? r->len : max;
    uint32_t block = r->first, off = r->head;
    int n = 0;
    while (left > 0 && n < RING_IOV) {
        size_t part = ARENA_BLOCK - off < left ? ARENA_BLOCK - off : left;
        iov[n].iov_base = arena_block(a, block) + off;
        iov[n].iov_len = part;
        n++;
        left -= part;
        block = arena_block_next(a, block);
        off = 0;
    }
    return n;
}

void ring_move_out(struct ring *r, struct arena *a, void *dst, size_t n)
{
    uint8_t *to = dst;
    while (n > 0) {
        size_t part = ARENA_BLOCK - r->head < n ? ARENA_BLOCK - r->head : n;
        memcpy(to, arena_block(a, r->first) + r->head, part);
        ring_take(r, a, part);
        to += part;
        n -= part;
    }
}

void ring_take(struct ring *r, struct arena *a, size_t n)
{
    r->len -= (uint32_t)n;
    if (r->len == 0) {
        ring_clear(r, a);
        return;
    }
    while (n > 0) {
        uint32_t here = ARENA_BLOCK - r->head;
        if (n < here) {
            r->head += (uint32_t)n;
            break;
        }
        n -= here;
        uint32_t next = arena_block_next(a, r->first);
        arena_block_put(a, r->first);
        r->first = next;
        r->head = 0;
    }
}

void ring_clear(struct ring *r, struct arena *a)
{
    put_chain(a, r->first);
    *r = (struct ring){0};
}
