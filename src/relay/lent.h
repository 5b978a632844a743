#ifndef KBGP_RELAY_LENT_H
#define KBGP_RELAY_LENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "relay/ring.h"

/*
 * Payload of one session where its connection has read it: memory that is lent until the connection reads on. When nothing
 * waits in the in ring, TCP takes the bytes from here, without a copy; what it leaves is copied into the ring.
 * A zeroed struct is empty. Nothing is allocated.
 */

/* More pieces than these go by way of the ring. One turn of a connection brings about as many of 16 KiB. */
#define LENT_PIECES 64

struct lent {
    int pieces;
    size_t len; /* of all pieces */
    struct iovec piece[LENT_PIECES];
};

/* One more piece, behind the others. False: there are too many, nothing was done. */
bool lent_add(struct lent *l, const void *p, size_t n);

/*
 * The first `done` bytes (≤ len) are done with: appends a copy of the others to the ring and empties *l. False: the arena has
 * not enough blocks left, and bytes are lost.
 */
bool lent_keep(struct lent *l, size_t done, struct ring *r, struct arena *a);

#endif
