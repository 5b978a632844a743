#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/kv.h"

static void keeps_order_and_repeated_keys(void **state)
{
    (void)state;
    struct kv kv = {0};
    assert_true(kv_add(&kv, "b", "1"));
    assert_true(kv_add(&kv, "a", ""));
    assert_true(kv_addf(&kv, "b", "%d-%s", 2, "x"));
    assert_int_equal(kv.count, 3);
    assert_string_equal(kv_get(&kv, "b"), "1");
    assert_string_equal(kv_get(&kv, "a"), "");
    assert_null(kv_get(&kv, "c"));

    static const char *const expected[][2] = {{"b", "1"}, {"a", ""}, {"b", "2-x"}};
    struct kv_pair pair;
    size_t n = 0;
    for (uint32_t pos = 0; kv_next(&kv, &pos, &pair); n++) {
        assert_string_equal(pair.key, expected[n][0]);
        assert_string_equal(pair.val, expected[n][1]);
        assert_int_equal(pair.key_len, strlen(pair.key));
        assert_int_equal(pair.val_len, strlen(pair.val));
    }
    assert_int_equal(n, 3);
    kv_free(&kv);
    assert_int_equal(kv.count, 0);
}

static void takes_any_bytes(void **state)
{
    (void)state;
    struct kv kv = {0};
    assert_true(kv_add_n(&kv, "k-bin", 5, "a\0b", 3));
    assert_true(kv_add_n(&kv, "empty", 5, NULL, 0));
    struct kv_pair pair;
    uint32_t pos = 0;
    assert_true(kv_next(&kv, &pos, &pair));
    assert_int_equal(pair.val_len, 3);
    assert_memory_equal(pair.val, "a\0b", 4);
    assert_true(kv_next(&kv, &pos, &pair));
    assert_int_equal(pair.val_len, 0);
    assert_false(kv_next(&kv, &pos, &pair));
    kv_free(&kv);
}

static void refuses_what_is_too_long(void **state)
{
    (void)state;
    struct kv kv = {0};
    char *text = malloc(65537);
    assert_non_null(text);
    memset(text, 'x', 65537);
    assert_true(kv_add_n(&kv, "k", 1, text, 65535));
    assert_false(kv_add_n(&kv, "k", 1, text, 65536));
    assert_false(kv_add_n(&kv, text, 65536, "v", 1));
    assert_int_equal(kv.count, 1);
    text[256] = 0;
    assert_false(kv_addf(&kv, "k", "%s", text));
    text[255] = 0;
    assert_true(kv_addf(&kv, "k", "%s", text));
    assert_int_equal(kv.count, 2);
    free(text);
    kv_free(&kv);
}

static void grows_trims_and_goes_on(void **state)
{
    (void)state;
    struct kv kv = {0}, copy = {0};
    for (int i = 0; i < 1000; i++)
        assert_true(kv_addf(&kv, "key", "%d", i));
    assert_true(kv_add_all(&copy, &kv));
    kv_trim(&copy);
    assert_int_equal(copy.cap, copy.len);
    assert_true(kv_add(&copy, "key", "last"));
    assert_int_equal(copy.count, 1001);
    struct kv_pair pair;
    int i = 0;
    for (uint32_t pos = 0; kv_next(&copy, &pos, &pair); i++)
        if (i < 1000)
            assert_int_equal(atoi(pair.val), i);
    assert_string_equal(pair.val, "last");
    kv_free(&kv);
    kv_free(&copy);

    struct kv empty = {0};
    kv_trim(&empty);
    assert_null(empty.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_order_and_repeated_keys),
        cmocka_unit_test(takes_any_bytes),
        cmocka_unit_test(refuses_what_is_too_long),
        cmocka_unit_test(grows_trims_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
