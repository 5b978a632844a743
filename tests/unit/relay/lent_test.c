#include "unit.h"

#include "relay/lent.h"
#include "ring_fixture.h"
#include "rng.h"

/* The ring holds n bytes of the pattern, beginning with byte `at`. */
static void check_ring(struct fixture *f, uint64_t at, size_t n)
{
    static uint8_t bytes[BLOCKS * ARENA_BLOCK];
    assert_int_equal(f->r.len, n);
    ring_move_out(&f->r, f->a, bytes, n);
    assert_u64_equal(pattern_check(1, at, bytes, n), n);
}

/* Pieces of 1, 2, 3 … bytes with gaps between them; returns how many bytes. */
static size_t lend(struct lent *l, uint8_t *memory, int pieces)
{
    size_t at = 0;
    for (int i = 1; i <= pieces; i++) {
        uint8_t *p = memory + (size_t)i * 100;
        pattern_fill(1, at, p, (uint64_t)i);
        assert_true(lent_add(l, p, (size_t)i));
        at += (size_t)i;
    }
    assert_int_equal(l->len, at);
    assert_int_equal(l->pieces, pieces);
    return at;
}

static void what_is_left_is_kept(void **state)
{
    struct fixture *f = *state;
    static uint8_t memory[(LENT_PIECES + 1) * 100];
    size_t all = (size_t)LENT_PIECES * (LENT_PIECES + 1) / 2;
    for (size_t done = 0; done <= all; done++) {
        struct lent l = {0};
        assert_int_equal(lend(&l, memory, LENT_PIECES), all);
        assert_false(lent_add(&l, memory, 1));
        assert_int_equal(l.len, all);
        assert_true(lent_keep(&l, done, &f->r, f->a));
        assert_int_equal(l.len, 0);
        assert_int_equal(l.pieces, 0);
        check_ring(f, done, all - done);
    }
}

static void what_is_kept_lines_up(void **state)
{
    struct fixture *f = *state;
    static uint8_t memory[1000];
    uint8_t first[10];
    pattern_fill(1, 0, first, sizeof first);
    assert_true(ring_append(&f->r, f->a, first, sizeof first));
    struct lent l = {0};
    pattern_fill(1, sizeof first - 5, memory, sizeof memory);
    assert_true(lent_add(&l, memory, sizeof memory));
    assert_true(lent_keep(&l, 5, &f->r, f->a));
    check_ring(f, 0, sizeof first + sizeof memory - 5);
}

static void too_little_memory_is_told(void **state)
{
    struct fixture *f = *state;
    static uint8_t memory[(BLOCKS + 1) * ARENA_BLOCK];
    struct lent l = {0};
    assert_true(lent_add(&l, memory, ARENA_BLOCK));
    assert_true(lent_add(&l, memory + ARENA_BLOCK, sizeof memory - ARENA_BLOCK));
    assert_false(lent_keep(&l, 0, &f->r, f->a));
    assert_int_equal(l.pieces, 0);
    ring_clear(&f->r, f->a);
    assert_true(lent_add(&l, memory, sizeof memory));
    assert_true(lent_keep(&l, ARENA_BLOCK, &f->r, f->a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_left_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_kept_lines_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_little_memory_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
