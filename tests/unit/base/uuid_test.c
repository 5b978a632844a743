#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/uuid.h"

static void version_4_and_valid(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct uuid u = uuid_v4();
        assert_int_equal(strlen(u.text), 36);
        assert_true(uuid_valid(u.text));
        assert_int_equal(u.text[14], '4');
        assert_non_null(strchr("89ab", u.text[19]));
    }
}

static void never_the_same(void **state)
{
    (void)state;
    struct uuid a = uuid_v4(), b = uuid_v4();
    assert_string_not_equal(a.text, b.text);
    assert_true(random_u64() != random_u64());
}

static void only_the_form_is_valid(void **state)
{
    (void)state;
    assert_true(uuid_valid("CBCE1788-bb34-4c2c-8056-5b3224d4e893"));
    static const char *const bad[] = {
        "",
        "cbce1788",
        "cbce1788-bb34-4c2c-8056-5b3224d4e89",
        "cbce1788-bb34-4c2c-8056-5b3224d4e8933",
        "cbce1788-bb34-4c2c-8056-5b3224d4e89g",
        "cbce1788bb34-4c2c-8056-5b3224d4e893-",
        "{bce1788-bb34-4c2c-8056-5b3224d4e89}",
        "cbce1788-bb34-4c2c-8056-5b3224d4e89\xe9",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (uuid_valid(bad[i]))
            fail_msg("\"%s\" was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_4_and_valid),
        cmocka_unit_test(never_the_same),
        cmocka_unit_test(only_the_form_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
