#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/backoff.h"

/* The longest possible wait: the ceiling of one more than a random number below it. */
static int64_t longest(struct backoff *b)
{
    int64_t most = 0;
    struct backoff same = *b;
    for (uint64_t r = 0; r < 200000; r += 7) {
        struct backoff copy = same;
        int64_t wait = backoff_next(&copy, r);
        most = wait > most ? wait : most;
    }
    backoff_next(b, 0);
    return most;
}

static void doubles_up_to_the_maximum(void **state)
{
    (void)state;
    struct backoff b = {0};
    static const int64_t ceiling[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000};
    for (size_t i = 0; i < sizeof ceiling / sizeof ceiling[0]; i++)
        assert_in_range(longest(&b), ceiling[i] - 7, ceiling[i]);
    backoff_reset(&b);
    assert_in_range(longest(&b), 993, 1000);
}

static void the_maximum_may_be_another_one(void **state)
{
    (void)state;
    struct backoff b = {0};
    for (unsigned i = 0; i < 20; i++)
        assert_in_range(backoff_next_max(&b, 600000, i < 10 ? 0 : 599999), 100, 600000);
    assert_int_equal(backoff_next_max(&b, 600000, 599999), 599999);
    assert_int_equal(backoff_next(&b, 60000), 60000);
}

static void never_a_tight_loop(void **state)
{
    (void)state;
    struct backoff b = {0};
    for (int i = 0; i < 100; i++)
        assert_int_equal(backoff_next(&b, 0), BACKOFF_FIRST_MS / 10);
    assert_in_range(backoff_next(&b, UINT64_MAX), BACKOFF_FIRST_MS / 10, BACKOFF_MAX_MS);
}

static void many_failures_do_not_overflow(void **state)
{
    (void)state;
    struct backoff b = {0};
    b.failures = UINT32_MAX - 1;
    for (int i = 0; i < 4; i++)
        assert_in_range(backoff_next(&b, 59999), 100, 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_up_to_the_maximum),
        cmocka_unit_test(the_maximum_may_be_another_one),
        cmocka_unit_test(never_a_tight_loop),
        cmocka_unit_test(many_failures_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
