#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agent/told.h"

static void test_told(void **state)
{
    (void)state;
    struct told *t = calloc(1, sizeof *t);
    struct addr one, two;
    assert_non_null(t);
    assert_true(addr_parse_ip(&one, "192.0.2.1") && addr_parse_ip(&two, "192.0.2.2"));
    t->seed = 7;
    assert_true(told_due(t, &one, 0, 1000, 5000));
    assert_false(told_due(t, &one, 0, 1000, 5999));
    assert_true(told_due(t, &one, 1, 1000, 5000)); /* another kind */
    assert_true(told_due(t, &two, 0, 1000, 5000)); /* another device */
    assert_true(told_due(t, &one, 0, 1000, 6000)); /* time has passed */
    told_forget(t, &one, 0);
    assert_true(told_due(t, &one, 0, TOLD_FOREVER, 6001));
    assert_false(told_due(t, &one, 0, TOLD_FOREVER, INT64_MAX - 1));
    assert_false(told_due(t, &one, 1, 1000, 5999)); /* forgetting one kind leaves the other */
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
