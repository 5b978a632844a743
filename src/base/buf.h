#ifndef KBGP_BASE_BUF_H
#define KBGP_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A byte queue in one piece of heap memory: bytes are appended at the end and taken from the front.
 *
 *     data            data+head              data+tail              data+cap
 *      | already taken | bytes in the queue    | room                  |
 *
 * A zeroed struct is an empty queue. The struct owns the memory; buf_free() gives it back and leaves an empty
 * one.
 */
struct buf {
    uint8_t *data;
    size_t head, tail, cap;
};

static inline size_t buf_len(const struct buf *b)
{
    return b->tail - b->head;
}

/* The first byte of the queue; NULL before anything was ever appended. */
static inline uint8_t *buf_begin(const struct buf *b)
{
    return b->data ? b->data + b->head : NULL;
}

/*
 * Room for at least n more bytes; returns where to write them (then call buf_added), or NULL without memory.
 */
uint8_t *buf_reserve(struct buf *b, size_t n);

static inline void buf_added(struct buf *b, size_t n)
{
    b->tail += n;
}

/* Appends a copy. False without memory (nothing is appended then). */
bool buf_append(struct buf *b, const void *p, size_t n);

/* Drops n bytes at the front; an emptied queue starts again at its first byte. */
void buf_take(struct buf *b, size_t n);

/* Gives the memory back. */
void buf_free(struct buf *b);

#endif
