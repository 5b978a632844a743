#include "relay/lent.h"

bool lent_add(struct lent *l, const void *p, size_t n)
{
    if (l->pieces == LENT_PIECES)
        return false;
    l->piece[l->pieces++] = (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = n};
    l->len += n;
    return true;
}

bool lent_keep(struct lent *l, size_t done, struct ring *r, struct arena *a)
{
    bool kept = true;
    for (int i = 0; i < l->pieces && kept; i++) {
        const struct iovec *v = &l->piece[i];
        size_t skip = done < v->iov_len ? done : v->iov_len;
        done -= skip;
        kept = ring_append(r, a, (const uint8_t *)v->iov_base + skip, v->iov_len - skip);
    }
    l->pieces = 0;
    l->len = 0;
    return kept;
}
