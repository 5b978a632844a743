#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

uint8_t *buf_reserve(struct buf *b, size_t n)
{
    if (b->data && b->cap - b->tail >= n)
        return b->data + b->tail;
    size_t len = buf_len(b);
    /* Moving the bytes to the front is cheap when most of the memory is already taken from. */
    if (b->data && b->head >= len && b->cap - len >= n) {
        if (len > 0)
            memmove(b->data, b->data + b->head, len);
    } else {
        size_t cap = b->cap ? b->cap : 256;
        /*
         * Room for half as much again, or a long queue that stays nearly full would be copied at every turn.
         */
        while (cap - len < n || cap - len < len / 2) {
            if (cap > SIZE_MAX / 2)
                return NULL;
            cap *= 2;
        }
        uint8_t *data = malloc(cap);
        if (!data)
            return NULL;
        if (len > 0)
            memcpy(data, b->data + b->head, len);
        free(b->data);
        b->data = data;
        b->cap = cap;
    }
    b->head = 0;
    b->tail = len;
    return b->data + len;
}

bool buf_append(struct buf *b, const void *p, size_t n)
{
    if (n == 0)
        return true;
    uint8_t *to = buf_reserve(b, n);
    if (!to)
        return false;
    memcpy(to, p, n);
    b->tail += n;
    return true;
}

void buf_take(struct buf *b, size_t n)
{
    b->head += n;
    if (b->head == b->tail)
        b->head = b->tail = 0;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}
