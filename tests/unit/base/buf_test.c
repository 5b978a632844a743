#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

static void append_and_take(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_int_equal(buf_len(&b), 0);
    assert_null(buf_begin(&b));
    assert_true(buf_append(&b, NULL, 0));
    assert_true(buf_append(&b, "hello", 5));
    buf_take(&b, 2);
    assert_int_equal(buf_len(&b), 3);
    assert_memory_equal(buf_begin(&b), "llo", 3);
    buf_take(&b, 3);
    assert_int_equal(buf_len(&b), 0);
    assert_int_equal(b.head, 0); /* starts again at the first byte */
    buf_free(&b);
    assert_null(b.data);
}

static void reserve_gives_room_in_place(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_true(buf_append(&b, "ab", 2));
    uint8_t *p = buf_reserve(&b, 1000);
    assert_non_null(p);
    assert_ptr_equal(p, buf_begin(&b) + 2);
    memset(p, 'x', 1000);
    buf_added(&b, 1000);
    assert_int_equal(buf_len(&b), 1002);
    assert_memory_equal(buf_begin(&b), "abxx", 4);
    buf_free(&b);

    assert_non_null(buf_reserve(&b, 0)); /* NULL means that there is no memory, nothing else */
    buf_free(&b);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_true(buf_append(&b, "ab", 2));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_null(buf_reserve(&b, SIZE_MAX / 2 + 2));
    assert_int_equal(buf_len(&b), 2);
    assert_memory_equal(buf_begin(&b), "ab", 2);
    buf_free(&b);
}

/* Random appends and takes against a sequence of counting bytes: none lost, doubled or moved. */
static void any_order_of_calls_keeps_the_bytes(void **state)
{
    (void)state;
    srand(1);
    struct buf b = {0};
    uint8_t in = 0, out = 0;
    for (int round = 0; round < 20000; round++) {
        uint8_t piece[700];
        size_t n = (size_t)rand() % sizeof piece;
        for (size_t i = 0; i < n; i++)
            piece[i] = in++;
        assert_true(buf_append(&b, piece, n));
        n = (size_t)rand() % (buf_len(&b) + 1);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(buf_begin(&b)[i], out++);
        buf_take(&b, n);
    }
    assert_true(b.cap < 1 << 20); /* what was taken makes room */
    buf_free(&b);
}

/* One byte in, one byte out, nearly full all the time: must not copy the whole queue at each turn. */
static void nearly_full_queue_moves_seldom(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 65535; i++)
        assert_true(buf_append(&b, "x", 1));
    unsigned moves = 0;
    for (int i = 0; i < 100000; i++) {
        buf_take(&b, 1);
        size_t head = b.head;
        assert_true(buf_append(&b, "x", 1));
        moves += b.head != head;
    }
    assert_in_range(moves, 0, 10);
    assert_true(b.cap <= 4 * 65536);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(append_and_take),
        cmocka_unit_test(reserve_gives_room_in_place),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(any_order_of_calls_keeps_the_bytes),
        cmocka_unit_test(nearly_full_queue_moves_seldom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
