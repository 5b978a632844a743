#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/health.h"

/* A false clock: the tests set the time and run the checks themselves. */
#define START 1000000

static struct health h;
static struct health_facts f;
static int64_t now;

static int begin(void **state)
{
    (void)state;
    now = START;
    health_init(&h, now);
    f = (struct health_facts){.listeners_open = 2, .listeners_wanted = 2, .api_open = true};
    return 0;
}

static void run(bool due)
{
    health_run(&h, &f, due, now, 42);
}

/* The timer's runs until `ms` have passed. */
static void pass(int64_t ms)
{
    for (int64_t end = now + ms; now < end;) {
        now += HEALTH_PERIOD_MS;
        run(true);
    }
}

static void connect_control(void)
{
    f.connected = true;
    f.changed_ms = now;
    f.heartbeat_tx_ms = now;
    f.heartbeat_waits = true;
    run(false);
}

static void answer_heartbeat(void)
{
    f.heartbeat_waits = false;
    f.heartbeat_rx_ms = now;
    run(false);
}

static void make_ok(void)
{
    run(true);
    connect_control();
    answer_heartbeat();
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void drop_control(void)
{
    f.connected = f.heartbeat_waits = false;
    f.changed_ms = now;
    run(false);
}

static void initializing_until_the_first_heartbeat(void **state)
{
    (void)state;
    assert_int_equal(health_status(&h, now), HEALTH_INITIALIZING);
    run(true);
    assert_int_equal(health_status(&h, now), HEALTH_INITIALIZING);
    pass(3000);
    assert_int_equal(health_status(&h, now), HEALTH_INITIALIZING);
    connect_control();
    assert_int_equal(health_status(&h, now), HEALTH_INITIALIZING);
    answer_heartbeat();
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void failing_when_the_target_cannot_be_reached(void **state)
{
    (void)state;
    run(true);
    pass(HEALTH_INITIAL_MS - HEALTH_PERIOD_MS);
    assert_int_equal(health_status(&h, now), HEALTH_INITIALIZING);
    pass(HEALTH_PERIOD_MS);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    assert_string_equal(h.details[HEALTH_CONTROL], "the Control stream is not connected");
    connect_control();
    assert_int_equal(health_status(&h, now), HEALTH_FAILING); /* the last result stands */
    answer_heartbeat();
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void timeout_when_the_checks_never_ran(void **state)
{
    (void)state;
    assert_int_equal(health_status(&h, START + HEALTH_INITIAL_MS), HEALTH_INITIALIZING);
    assert_int_equal(health_status(&h, START + HEALTH_INITIAL_MS + 1), HEALTH_TIMEOUT);
}

static void timeout_when_a_heartbeat_is_not_answered(void **state)
{
    (void)state;
    make_ok();
    pass(60000);
    f.heartbeat_waits = true;
    f.heartbeat_tx_ms = now;
    pass(HEALTH_TIMEOUT_MS);
    assert_int_equal(health_status(&h, now), HEALTH_OK); /* the last result stands */
    pass(HEALTH_PERIOD_MS);
    assert_int_equal(health_status(&h, now), HEALTH_TIMEOUT);
    answer_heartbeat();
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void the_first_heartbeat_may_time_out_too(void **state)
{
    (void)state;
    run(true);
    connect_control();
    pass(HEALTH_TIMEOUT_MS);
    assert_int_equal(health_status(&h, now), HEALTH_INITIALIZING);
    pass(HEALTH_PERIOD_MS);
    assert_int_equal(health_status(&h, now), HEALTH_TIMEOUT);
}

static void a_short_reconnect_is_waited_for(void **state)
{
    (void)state;
    make_ok();
    pass(20000);
    drop_control();
    assert_int_equal(health_status(&h, now), HEALTH_OK);
    pass(HEALTH_TIMEOUT_MS - HEALTH_PERIOD_MS);
    assert_int_equal(health_status(&h, now), HEALTH_OK);
    connect_control();
    answer_heartbeat();
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void a_long_one_is_not(void **state)
{
    (void)state;
    make_ok();
    drop_control();
    pass(HEALTH_TIMEOUT_MS);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
}

static void rejected_credentials_fail_at_once(void **state)
{
    (void)state;
    run(true);
    f.rejected = true;
    run(false);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    assert_string_equal(h.details[HEALTH_CONTROL], "the target rejected the credentials");
}

static void each_check_counts(void **state)
{
    (void)state;
    make_ok();
    f.listeners_open = 1;
    run(false);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    assert_int_equal(h.results[HEALTH_LISTENERS], HEALTH_FAILED);
    f.listeners_open = 2;
    f.api_open = false;
    run(false);
    assert_int_equal(h.results[HEALTH_API], HEALTH_FAILED);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    f.api_open = true;
    f.memory_is_full = true;
    run(false);
    assert_int_equal(h.results[HEALTH_MEMORY], HEALTH_FAILED);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    f.memory_is_full = false;
    f.capture_lost = true;
    run(false);
    assert_int_equal(h.results[HEALTH_CAPTURE], HEALTH_FAILED);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    f.capture_lost = false;
    f.stopping = true;
    run(false);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    f.stopping = false;
    run(false);
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void one_failed_check_needs_no_waiting(void **state)
{
    (void)state;
    f.listeners_open = 1;
    run(true);
    assert_int_equal(h.results[HEALTH_CONTROL], HEALTH_WAITS);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
}

static void old_result_when_the_loop_hangs(void **state)
{
    (void)state;
    make_ok();
    assert_int_equal(health_status(&h, now + HEALTH_OLD_MS), HEALTH_OK);
    assert_int_equal(health_status(&h, now + HEALTH_OLD_MS + 1), HEALTH_OLD_RESULT);
    /* Nothing else can be told then, not even a failure. */
    f.listeners_open = 0;
    run(false);
    assert_int_equal(health_status(&h, now + HEALTH_OLD_MS + 1), HEALTH_OLD_RESULT);
}

static void old_result_until_a_run_comes_in_time(void **state)
{
    (void)state;
    make_ok();
    now += HEALTH_OLD_MS + 1;
    run(true); /* the timer may be served before whoever asks */
    assert_int_equal(health_status(&h, now), HEALTH_OLD_RESULT);
    run(false);
    assert_int_equal(health_status(&h, now), HEALTH_OLD_RESULT);
    pass(HEALTH_PERIOD_MS);
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void a_late_run_fails_and_the_next_does_not(void **state)
{
    (void)state;
    make_ok();
    now += HEALTH_PERIOD_MS + HEALTH_LATE_MS;
    run(true);
    assert_int_equal(health_status(&h, now), HEALTH_OK);
    now += HEALTH_PERIOD_MS + HEALTH_LATE_MS - 1;
    run(false); /* news of Control: says nothing of the timer */
    now += 2;
    run(true);
    assert_int_equal(h.results[HEALTH_LOOP], HEALTH_FAILED);
    assert_int_equal(health_status(&h, now), HEALTH_FAILING);
    pass(HEALTH_PERIOD_MS);
    assert_int_equal(health_status(&h, now), HEALTH_OK);
}

static void names_are_those_of_the_documentation(void **state)
{
    (void)state;
    static const char *const names[] = {"ok", "initializing", "timeout", "old_result", "failing"};
    for (unsigned i = 0; i < HEALTH_STATUSES; i++)
        assert_string_equal(health_status_name(i), names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(initializing_until_the_first_heartbeat, begin),
        cmocka_unit_test_setup(failing_when_the_target_cannot_be_reached, begin),
        cmocka_unit_test_setup(timeout_when_the_checks_never_ran, begin),
        cmocka_unit_test_setup(timeout_when_a_heartbeat_is_not_answered, begin),
        cmocka_unit_test_setup(the_first_heartbeat_may_time_out_too, begin),
        cmocka_unit_test_setup(a_short_reconnect_is_waited_for, begin),
        cmocka_unit_test_setup(a_long_one_is_not, begin),
        cmocka_unit_test_setup(rejected_credentials_fail_at_once, begin),
        cmocka_unit_test_setup(each_check_counts, begin),
        cmocka_unit_test_setup(one_failed_check_needs_no_waiting, begin),
        cmocka_unit_test_setup(old_result_when_the_loop_hangs, begin),
        cmocka_unit_test_setup(old_result_until_a_run_comes_in_time, begin),
        cmocka_unit_test_setup(a_late_run_fails_and_the_next_does_not, begin),
        cmocka_unit_test_setup(names_are_those_of_the_documentation, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
