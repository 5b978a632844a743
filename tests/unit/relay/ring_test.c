#include "unit.h"

#include "ring_fixture.h"
#include "rng.h"

static uint32_t blocks(const struct fixture *f)
{
    return arena_usage(f->a).blocks_used;
}

static void append(struct fixture *f, size_t n)
{
    uint8_t *bytes = malloc(n + 1);
    assert_non_null(bytes);
    pattern_fill(1, f->in, bytes, n);
    assert_true(ring_append(&f->r, f->a, bytes, n));
    f->in += n;
    free(bytes);
}

/* As recv() would: asks for room, fills some of it. */
static void receive(struct fixture *f, size_t want, size_t n)
{
    struct iovec iov[RING_IOV];
    int pieces = ring_room(&f->r, f->a, want, iov);
    size_t room = 0;
    for (int i = 0; i < pieces; i++) {
        size_t part = n > room ? n - room : 0;
        part = part < iov[i].iov_len ? part : iov[i].iov_len;
        pattern_fill(1, f->in + room, iov[i].iov_base, part);
        room += iov[i].iov_len;
    }
    if (pieces == 0)
        return;
    n = n < room ? n : room;
    ring_filled(&f->r, f->a, n);
    f->in += n;
}

static void check_front(struct fixture *f, size_t max)
{
    struct iovec iov[RING_IOV];
    int pieces = ring_front(&f->r, f->a, max, iov);
    size_t n = 0;
    for (int i = 0; i < pieces; i++) {
        assert_true(iov[i].iov_len > 0);
        assert_u64_equal(pattern_check(1, f->out + n, iov[i].iov_base, iov[i].iov_len), iov[i].iov_len);
        n += iov[i].iov_len;
    }
    size_t all = f->r.len < max ? f->r.len : max;
    /* All that was asked for, as far as so many pieces reach. */
    assert_true(n == all || (n < all && pieces == RING_IOV));
}

static void move_out(struct fixture *f, size_t n)
{
    uint8_t *bytes = malloc(n + 1);
    assert_non_null(bytes);
    ring_move_out(&f->r, f->a, bytes, n);
    assert_u64_equal(pattern_check(1, f->out, bytes, n), n);
    f->out += n;
    free(bytes);
}

static void an_empty_ring_holds_no_block(void **state)
{
    struct fixture *f = *state;
    struct iovec iov[RING_IOV];
    assert_int_equal(ring_front(&f->r, f->a, 1000, iov), 0);
    append(f, 0);
    assert_int_equal(blocks(f), 0);
    receive(f, 5000, 0); /* recv() said EAGAIN */
    assert_int_equal(blocks(f), 0);
    receive(f, 65536, 1); /* much room, one byte */
    assert_int_equal(blocks(f), 1);
    move_out(f, 1);
    assert_int_equal(blocks(f), 0);
    append(f, 3 * ARENA_BLOCK);
    assert_int_equal(blocks(f), 3);
    ring_clear(&f->r, f->a);
    assert_int_equal(blocks(f), 0);
    assert_int_equal(f->r.len, 0);
}

static void blocks_go_back_as_they_are_emptied(void **state)
{
    struct fixture *f = *state;
    append(f, 4 * ARENA_BLOCK);
    for (uint32_t left = 4; left > 0; left--) {
        assert_int_equal(blocks(f), left);
        move_out(f, ARENA_BLOCK - 1);
        assert_int_equal(blocks(f), left);
        move_out(f, 1);
    }
    assert_int_equal(blocks(f), 0);
}

/* Bytes that trickle in fill blocks: a ring of single bytes is no chain of blocks with one byte each. */
static void small_reads_share_a_block(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < ARENA_BLOCK; i++)
        receive(f, 65536, 1);
    assert_int_equal(blocks(f), 1);
    receive(f, 65536, 1);
    assert_int_equal(blocks(f), 2);
    move_out(f, ARENA_BLOCK + 1);
}

/* 128 KiB from the middle of a block can be asked for and looked at in one call. */
static void one_call_takes_128_kib(void **state)
{
    struct fixture *f = *state;
    append(f, 1000);
    struct iovec iov[RING_IOV];
    int pieces = ring_room(&f->r, f->a, 131072, iov);
    assert_int_equal(pieces, RING_IOV);
    size_t room = 0;
    for (int i = 0; i < pieces; i++)
        room += iov[i].iov_len;
    assert_int_equal(room, 131072);
    ring_filled(&f->r, f->a, 0);
    assert_int_equal(blocks(f), 1);
    receive(f, 131072, 131072);
    move_out(f, 1000);
    pieces = ring_front(&f->r, f->a, 131072, iov);
    room = 0;
    for (int i = 0; i < pieces; i++)
        room += iov[i].iov_len;
    assert_int_equal(room, 131072);
}

static void full_memory_is_told(void **state)
{
    struct fixture *f = *state;
    append(f, (size_t)BLOCKS * ARENA_BLOCK - 10);
    assert_int_equal(blocks(f), BLOCKS);
    struct iovec iov[RING_IOV];
    /* The rest of the last block, and no more. */
    assert_int_equal(ring_room(&f->r, f->a, 100, iov), 1);
    assert_int_equal(iov[0].iov_len, 10);
    ring_filled(&f->r, f->a, 0);
    receive(f, 100, 10);
    assert_int_equal(ring_room(&f->r, f->a, 100, iov), 0);
    assert_false(ring_append(&f->r, f->a, "x", 1));
    struct ring other = {0};
    assert_int_equal(ring_room(&other, f->a, 1, iov), 0);
    assert_false(ring_append(&other, f->a, "x", 1));
    assert_true(ring_append(&other, f->a, "", 0));
    /* It goes on when there is memory again. */
    move_out(f, ARENA_BLOCK);
    receive(f, 100, 100);
    check_front(f, SIZE_MAX);
    move_out(f, f->r.len);
}

/* What does not fit is not begun: a ring keeps what it had, an empty one stays empty, and no block is lost. */
static void an_append_that_does_not_fit_leaves_no_trace(void **state)
{
    struct fixture *f = *state;
    static const uint8_t big[3 * ARENA_BLOCK];
    append(f, (size_t)(BLOCKS - 2) * ARENA_BLOCK + 7);
    uint32_t used = blocks(f);
    assert_false(ring_append(&f->r, f->a, big, sizeof big));
    assert_int_equal(blocks(f), used);
    check_front(f, SIZE_MAX);
    struct ring other = {0};
    assert_false(ring_append(&other, f->a, big, sizeof big));
    assert_int_equal(blocks(f), used);
    assert_int_equal(other.len, 0);
    assert_int_equal(other.first, ARENA_NONE);
    append(f, 100);
    check_front(f, SIZE_MAX);
    move_out(f, f->r.len);
}

/* Any order of calls, three kinds of putting in, two of taking out: bytes stay what and where they are. */
static void any_order_of_calls(void **state)
{
    struct fixture *f = *state;
    struct rng r = {3};
    for (int round = 0; round < 30000; round++) {
        size_t space = (size_t)(BLOCKS - 20) * ARENA_BLOCK - f->r.len;
        size_t n = rng_size(&r, 40000);
        switch (rng_below(&r, 4)) {
        case 0:
            append(f, n < space ? n : space);
            break;
        case 1:
            receive(f, rng_size(&r, 70000), n < space ? n : space);
            break;
        case 2:
            move_out(f, n < f->r.len ? n : f->r.len);
            break;
        default:
            check_front(f, n);
            n = n < f->r.len ? n : f->r.len;
            ring_take(&f->r, f->a, n);
            f->out += n;
            break;
        }
        assert_u64_equal(f->r.len, f->in - f->out);
        /* Never more than one block begun at each end. */
        assert_true(blocks(f) <= (f->r.len + 2 * ARENA_BLOCK - 2) / ARENA_BLOCK);
        assert_int_equal(blocks(f) == 0, f->r.len == 0);
    }
    assert_true(f->in > 10000000);
    check_front(f, SIZE_MAX);
    move_out(f, f->r.len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_ring_holds_no_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blocks_go_back_as_they_are_emptied, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_reads_share_a_block, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_call_takes_128_kib, set_up, tear_down),
        cmocka_unit_test_setup_teardown(full_memory_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_append_that_does_not_fit_leaves_no_trace, set_up, tear_down),
        cmocka_unit_test_setup_teardown(any_order_of_calls, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
