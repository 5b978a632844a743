#ifndef KBGP_TESTS_RING_FIXTURE_H
#define KBGP_TESTS_RING_FIXTURE_H

#include "relay/ring.h"
#include "unit.h"

enum { BLOCKS = 100 };

/* A ring and the memory for it, with which a test begins and which must be empty at its end. */
struct fixture {
    struct arena *a;
    struct ring r;
    uint64_t in, out; /* bytes put in and taken out so far, of pattern 1 */
};

static int set_up(void **state)
{
    struct err e;
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->a = arena_new(1, 1, BLOCKS, &e);
    assert_non_null(f->a);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    ring_clear(&f->r, f->a);
    assert_int_equal(arena_usage(f->a).blocks_used, 0);
    arena_free(f->a);
    free(f);
    return 0;
}

#endif
