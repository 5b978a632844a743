#include "unit.h"

#include <sys/mman.h>

#include "base/arena.h"
#include "rng.h"

static struct arena *make(uint32_t slots, uint32_t slot_size, uint32_t blocks)
{
    struct err e;
    struct arena *a = arena_new(slots, slot_size, blocks, &e);
    if (!a)
        fail_msg("%s", e.text);
    return a;
}

static void slots_are_zeroed_and_apart(void **state)
{
    (void)state;
    struct arena *a = make(5, 100, 1);
    uint32_t got[5];
    for (int i = 0; i < 5; i++) {
        got[i] = arena_slot_get(a);
        assert_int_not_equal(got[i], ARENA_NONE);
        uint8_t *p = arena_slot(a, got[i]);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (int k = 0; k < 100; k++)
            assert_int_equal(p[k], 0);
        memset(p, i + 1, 100);
    }
    assert_int_equal(arena_slot_get(a), ARENA_NONE);
    assert_int_equal(arena_usage(a).slots_used, 5);
    for (int i = 0; i < 5; i++) {
        const uint8_t *p = arena_slot(a, got[i]);
        for (int k = 0; k < 100; k++)
            assert_int_equal(p[k], i + 1);
    }
    /* One that comes back is zeroed again for its next user. */
    arena_slot_put(a, got[2]);
    arena_slot_put(a, got[0]);
    assert_int_equal(arena_usage(a).slots_used, 3);
    for (int i = 0; i < 2; i++) {
        uint32_t slot = arena_slot_get(a);
        assert_true(slot == got[0] || slot == got[2]);
        const uint8_t *p = arena_slot(a, slot);
        for (int k = 0; k < 100; k++)
            assert_int_equal(p[k], 0);
    }
    assert_int_equal(arena_slot_get(a), ARENA_NONE);
    arena_free(a);
}

static void the_last_block_used_is_the_next(void **state)
{
    (void)state;
    struct arena *a = make(1, 1, 10);
    uint32_t one = arena_block_get(a), two = arena_block_get(a);
    assert_int_not_equal(one, two);
    arena_block_put(a, one);
    arena_block_put(a, two);
    assert_int_equal(arena_block_get(a), two);
    assert_int_equal(arena_block_get(a), one);
    arena_free(a);
}

/* Random gets, puts and trims: no block is handed out twice, contents stay, the counts are right. */
static void any_order_of_calls_keeps_blocks_apart(void **state)
{
    (void)state;
    enum { BLOCKS = 700 };
    struct arena *a = make(1, 1, BLOCKS);
    uint32_t held[BLOCKS];
    uint32_t n = 0;
    struct rng r = {2};
    for (int round = 0; round < 40000; round++) {
        /* Tides: sometimes nearly all blocks are in use, sometimes nearly none. */
        bool want = rng_below(&r, 100) < (round / 4000 % 2 ? 30u : 70u);
        if (want) {
            uint32_t b = arena_block_get(a);
            assert_int_equal(b == ARENA_NONE, n == BLOCKS);
            if (b == ARENA_NONE)
                continue;
            assert_in_range(b, 1, BLOCKS);
            assert_int_equal(arena_block_next(a, b), ARENA_NONE);
            memcpy(arena_block(a, b), &b, sizeof b);
            memcpy(arena_block(a, b) + ARENA_BLOCK - sizeof b, &b, sizeof b);
            held[n++] = b;
        } else if (n > 0) {
            uint32_t i = rng_below(&r, n);
            assert_memory_equal(arena_block(a, held[i]), &held[i], sizeof held[i]);
            assert_memory_equal(arena_block(a, held[i]) + ARENA_BLOCK - sizeof held[i], &held[i],
                                sizeof held[i]);
            arena_block_put(a, held[i]);
            held[i] = held[--n];
        }
        if (rng_once_in(&r, 500))
            arena_trim(a);
        assert_int_equal(arena_usage(a).blocks_used, n);
        assert_true(arena_usage(a).blocks_kept <= BLOCKS - n);
    }
    for (uint32_t i = 0; i < n; i++)
        assert_memory_equal(arena_block(a, held[i]), &held[i], sizeof held[i]);
    assert_int_equal(arena_usage(a).blocks_max, BLOCKS);
    arena_free(a);
}

/* Whether the page is backed by memory, as the kernel says. */
static bool resident(const void *p)
{
    unsigned char vec;
    assert_int_equal(mincore((void *)(uintptr_t)p, ARENA_BLOCK, &vec), 0);
    return vec & 1;
}

static void trim_gives_memory_back(void **state)
{
    (void)state;
    enum { BLOCKS = 1000 };
    struct arena *a = make(1, 1, BLOCKS);
    static uint32_t held[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        held[i] = arena_block_get(a);
        memset(arena_block(a, held[i]), 1, ARENA_BLOCK);
    }
    for (int i = 0; i < BLOCKS; i++)
        arena_block_put(a, held[i]);
    assert_int_equal(arena_usage(a).blocks_kept, BLOCKS);
    arena_trim(a); /* they were in use since the last call: kept */
    assert_int_equal(arena_usage(a).blocks_kept, BLOCKS);
    arena_trim(a);
    assert_in_range(arena_usage(a).blocks_kept, 1, 64);
    unsigned kept = 0;
    for (int i = 0; i < BLOCKS; i++)
        kept += resident(arena_block(a, held[i]));
    assert_int_equal(kept, arena_usage(a).blocks_kept);
    /* All of them can be had again. */
    for (int i = 0; i < BLOCKS; i++)
        assert_int_not_equal(arena_block_get(a), ARENA_NONE);
    assert_int_equal(arena_block_get(a), ARENA_NONE);
    arena_free(a);
}

/* What a steady load uses is not given back and forth. */
static void trim_keeps_what_is_needed(void **state)
{
    (void)state;
    struct arena *a = make(1, 1, 500);
    static uint32_t held[400];
    for (int second = 0; second < 5; second++) {
        for (int i = 0; i < 400; i++)
            held[i] = arena_block_get(a);
        for (int i = 0; i < 400; i++)
            arena_block_put(a, held[i]);
        arena_trim(a);
        assert_int_equal(arena_usage(a).blocks_kept, 400);
    }
    arena_free(a);
}

static void nothing_is_taken_before_it_is_used(void **state)
{
    (void)state;
    struct arena *a = make(1000, 4096, 100000);
    assert_false(resident(arena_slot(a, 500)));
    assert_false(resident(arena_block(a, 50000)));
    arena_free(a);
}

static void too_much_is_refused_with_a_reason(void **state)
{
    (void)state;
    struct err e = {{0}};
    assert_null(arena_new(UINT32_MAX - 1, 1u << 30, UINT32_MAX - 1, &e));
    assert_non_null(strstr(e.text, "address space"));
    arena_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_zeroed_and_apart),
        cmocka_unit_test(the_last_block_used_is_the_next),
        cmocka_unit_test(any_order_of_calls_keeps_blocks_apart),
        cmocka_unit_test(trim_gives_memory_back),
        cmocka_unit_test(trim_keeps_what_is_needed),
        cmocka_unit_test(nothing_is_taken_before_it_is_used),
        cmocka_unit_test(too_much_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
