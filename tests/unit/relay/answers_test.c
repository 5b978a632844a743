#include "unit.h"

#include "relay/answers.h"

static struct answers a;

static int set_up(void **state)
{
    (void)state;
    answers_init(&a, 4711);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    answers_free(&a);
    return 0;
}

static struct addr device(uint32_t number)
{
    struct addr d = {.family = 4, .port = 30000};
    uint8_t ip[4] = {10, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number};
    memcpy(d.ip, ip, 4);
    return d;
}

static void put(uint32_t number, uint32_t id, enum control_action action, uint32_t seconds, uint32_t counter,
                int64_t now)
{
    struct control_response r = {.action = action,
                                 .device = device(number),
                                 .device_id = id,
                                 .ttl_seconds = seconds,
                                 .ttl_counter = counter};
    assert_true(kv_addf(&r.metadata, "backend-pin", "%u", id));
    answers_put(&a, &r, now);
    assert_null(r.metadata.data); /* cleared */
}

/* The device_id of the answer, or 0. */
static uint32_t use(uint32_t number, int64_t now)
{
    struct addr d = device(number);
    d.port = (uint16_t)(now + 1); /* the port does not matter */
    const struct control_response *r = answers_use(&a, &d, now);
    if (!r)
        return 0;
    const char *pin = kv_get(&r->metadata, "backend-pin");
    assert_non_null(pin);
    assert_int_equal(strtoul(pin, NULL, 10), r->device_id);
    return r->device_id;
}

static bool blocked(uint32_t number, int64_t now)
{
    struct addr d = device(number);
    return answers_blocked(&a, &d, now);
}

static void lives_for_ttl_seconds(void **state)
{
    (void)state;
    assert_int_equal(use(1, 0), 0);
    put(1, 7, CONTROL_CARRY_ON, 20, 0, 1000);
    assert_int_equal(use(2, 1000), 0);
    assert_int_equal(use(1, 1000), 7);
    assert_int_equal(use(1, 20999), 7);
    assert_int_equal(use(1, 21000), 0);
    assert_int_equal(use(1, 1000), 0); /* it is forgotten, not only old */
    assert_u64_equal(a.hits, 2);
    assert_u64_equal(a.misses, 4);
    put(1, 8, CONTROL_CARRY_ON, UINT32_MAX, 0, 1000);
    assert_int_equal(use(1, INT64_C(4294967295000)), 8);
}

static void ttl_counter_counts_returns(void **state)
{
    (void)state;
    put(1, 7, CONTROL_CARRY_ON, 20, 3, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(use(1, 1), 7);
    assert_int_equal(use(1, 1), 0);
    put(1, 8, CONTROL_CARRY_ON, 20, 0, 0); /* 0: no limit */
    for (int i = 0; i < 1000; i++)
        assert_int_equal(use(1, 1), 8);
}

static void ttl_0_is_not_kept_and_removes(void **state)
{
    (void)state;
    put(1, 7, CONTROL_CARRY_ON, 0, 0, 0);
    assert_int_equal(use(1, 0), 0);
    put(1, 8, CONTROL_CARRY_ON, 10, 0, 0);
    put(1, 9, CONTROL_CARRY_ON, 0, 0, 0);
    assert_int_equal(use(1, 0), 0);
}

static void a_new_answer_replaces(void **state)
{
    (void)state;
    put(1, 7, CONTROL_BLOCK_IP, 1200, 0, 0);
    assert_true(blocked(1, 1));
    put(1, 8, CONTROL_CARRY_ON, 10, 5, 1); /* a pushed unblock is in effect at once */
    assert_false(blocked(1, 1));
    assert_int_equal(use(1, 1), 8);
    put(1, 9, CONTROL_BLOCK_IP, 1200, 0, 2);
    assert_true(blocked(1, 2));
    uint64_t allow, block;
    answers_count(&a, 0, &allow, &block);
    assert_u64_equal(allow, 0);
    assert_u64_equal(block, 1);
}

static void blocking_has_an_end_and_counts_no_use(void **state)
{
    (void)state;
    put(1, 7, CONTROL_BLOCK_IP, 1200, 2, 0);
    for (int i = 0; i < 100; i++)
        assert_true(blocked(1, 1199999));
    assert_int_equal(use(1, 0), 7);
    assert_int_equal(use(1, 0), 7);
    assert_false(blocked(1, 0)); /* used up */
    put(1, 7, CONTROL_BLOCK_IP, 1200, 0, 0);
    assert_false(blocked(1, 1200000));
    assert_false(blocked(2, 0));
    put(3, 9, CONTROL_CARRY_ON, 1200, 0, 0);
    assert_false(blocked(3, 0));
}

static void a_refusal_counts_one_use(void **state)
{
    (void)state;
    struct addr d = device(1);
    put(1, 7, CONTROL_BLOCK_IP, 1200, 2, 0);
    assert_true(answers_refuse(&a, &d, 1));
    assert_true(answers_refuse(&a, &d, 1));
    assert_false(answers_refuse(&a, &d, 1)); /* ask again */
    put(1, 7, CONTROL_CARRY_ON, 1200, 1, 0);
    assert_false(answers_refuse(&a, &d, 1)); /* no refusal, and no use counted */
    assert_int_equal(use(1, 1), 7);
}

static void drop(void **state)
{
    (void)state;
    put(1, 7, CONTROL_CARRY_ON, 10, 0, 0);
    put(2, 8, CONTROL_CARRY_ON, 10, 0, 0);
    struct addr d = device(1);
    answers_drop(&a, &d);
    answers_drop(&a, &d);
    assert_int_equal(use(1, 0), 0);
    assert_int_equal(use(2, 0), 8);
}

static void ipv6_and_scope_are_told_apart(void **state)
{
    (void)state;
    struct addr one, two;
    assert_true(addr_parse_ip(&one, "2001:db8::1"));
    assert_true(addr_parse_ip(&two, "fe80::1"));
    struct control_response r = {.device = one, .device_id = 1, .ttl_seconds = 5};
    answers_put(&a, &r, 0);
    r = (struct control_response){.device = two, .device_id = 2, .ttl_seconds = 5};
    answers_put(&a, &r, 0);
    assert_int_equal(answers_use(&a, &one, 0)->device_id, 1);
    assert_int_equal(answers_use(&a, &two, 0)->device_id, 2);
    two.scope = 3;
    assert_null(answers_use(&a, &two, 0));
}

/* However many devices are asked about: so many answers and no more, and those in use are kept. */
static void bounded(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ANSWERS_MAX; i++)
        put(i, i + 1, CONTROL_BLOCK_IP, 1200, 0, 0);
    assert_int_equal(use(0, 0), 1); /* the oldest, used again */
    for (uint32_t i = ANSWERS_MAX; i < ANSWERS_MAX + 1000; i++)
        put(i, i + 1, CONTROL_CARRY_ON, 1200, 0, 0);
    uint64_t allow, block;
    answers_count(&a, 0, &allow, &block);
    assert_u64_equal(allow + block, ANSWERS_MAX);
    assert_u64_equal(allow, 1000);
    assert_int_equal(use(0, 0), 1);
    for (uint32_t i = 1; i <= 1000; i++)
        assert_int_equal(use(i, 0), 0);
    for (uint32_t i = 1001; i < ANSWERS_MAX + 1000; i++)
        assert_int_equal(use(i, 0), i + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lives_for_ttl_seconds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ttl_counter_counts_returns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ttl_0_is_not_kept_and_removes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_answer_replaces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(blocking_has_an_end_and_counts_no_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refusal_counts_one_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(drop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ipv6_and_scope_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bounded, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
