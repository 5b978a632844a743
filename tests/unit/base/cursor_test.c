#include "unit.h"

#include "base/cursor.h"

static void reads_straight_down(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0x01, 0x02, 0x03, 0x84, 0x05, 0x06, 0x07, 0xaa, 0xbb};
    struct cursor c = cursor_on(bytes, sizeof bytes);
    assert_int_equal(cursor_u8(&c), 0x01);
    assert_int_equal(cursor_u16(&c), 0x0203);
    assert_true(cursor_u32(&c) == 0x84050607u);
    assert_int_equal(cursor_left(&c), 2);
    assert_ptr_equal(cursor_bytes(&c, 2), bytes + 7);
    assert_non_null(cursor_bytes(&c, 0));
    assert_int_equal(cursor_left(&c), 0);
    assert_false(c.bad);
}

static void the_first_error_sticks(void **state)
{
    (void)state;
    const uint8_t bytes[] = {0xff, 0xff, 0xff};
    struct cursor c = cursor_on(bytes, sizeof bytes);
    assert_true(cursor_u32(&c) == 0);
    assert_true(c.bad);
    /* What would still fit is not given any more: it stands at the wrong place. */
    assert_int_equal(cursor_u8(&c), 0);
    assert_int_equal(cursor_u16(&c), 0);
    assert_null(cursor_bytes(&c, 0));
    assert_int_equal(cursor_left(&c), 0);
}

static void a_part_is_a_cursor_too(void **state)
{
    (void)state;
    const uint8_t bytes[] = {1, 2, 3, 4, 5};
    struct cursor c = cursor_on(bytes, sizeof bytes);
    struct cursor sub = cursor_sub(&c, 2);
    assert_int_equal(cursor_u8(&sub), 1);
    assert_int_equal(cursor_u16(&sub), 0); /* ends where the part ends */
    assert_true(sub.bad);
    assert_false(c.bad);
    assert_int_equal(cursor_u8(&c), 3);
    sub = cursor_sub(&c, 3);
    assert_true(sub.bad);
    assert_true(c.bad);
    assert_int_equal(cursor_left(&sub), 0);
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    uint8_t bytes[16];
    uint8_t *p = put_u8(bytes, 0xfe);
    p = put_u16(p, 0x8001);
    p = put_u32(p, 0xdeadbeef);
    p = put_bytes(p, "ab", 2);
    assert_int_equal(p - bytes, 9);
    struct cursor c = cursor_on(bytes, 9);
    assert_int_equal(cursor_u8(&c), 0xfe);
    assert_int_equal(cursor_u16(&c), 0x8001);
    assert_true(cursor_u32(&c) == 0xdeadbeef);
    assert_memory_equal(cursor_bytes(&c, 2), "ab", 2);
    assert_false(c.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_straight_down),
        cmocka_unit_test(the_first_error_sticks),
        cmocka_unit_test(a_part_is_a_cursor_too),
        cmocka_unit_test(writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
