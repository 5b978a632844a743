#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/record.h"

static struct records rs;
static struct bgp_watch seen;
static struct control_response answer = {.company_id = 1, .device_id = 2, .device_name = "r1"};

static int begin(void **state)
{
    (void)state;
    records_init(&rs, 1);
    seen = (struct bgp_watch){0};
    return 0;
}

static int end(void **state)
{
    (void)state;
    records_free(&rs);
    return 0;
}

static struct addr device(unsigned n)
{
    struct addr a;
    char text[32];
    snprintf(text, sizeof text, "10.%u.%u.%u:1000", n >> 16 & 255, n >> 8 & 255, n & 255);
    assert_true(addr_parse(&a, text, 0));
    return a;
}

static void feed(struct bgp_watch_side *side, unsigned code, unsigned subcode)
{
    uint8_t bytes[64];
    struct bgp_notification n = {.code = (uint8_t)code, .subcode = (uint8_t)subcode};
    struct bgp_watch_time now = {.mono_ms = 5, .wall_ns = 500};
    bgp_watch_feed(&seen, side, bytes, bgp_notification_encode(&n, bytes, sizeof bytes), &now);
}

static struct record *session_with(struct addr a, unsigned code, unsigned subcode, bool down)
{
    seen = (struct bgp_watch){0};
    struct record *r = records_begin(&rs, &a, &answer, 100);
    feed(down ? &seen.in : &seen.out, code, subcode);
    struct record_session carried = {.bytes = {10, 20}, .seen = &seen};
    records_end(&rs, r, &carried);
    return r;
}

static void counts_go_on_over_sessions(void **state)
{
    (void)state;
    struct addr a = device(1);
    struct record *r = session_with(a, 6, 2, false);
    assert_int_equal(r->sessions, 0);
    assert_ptr_equal(session_with(a, 6, 2, false), r);
    session_with(a, 4, 0, true);
    assert_int_equal(r->past->counts.bytes[RECORD_UP], 30);
    assert_int_equal(r->past->counts.bytes[RECORD_DOWN], 60);
    assert_int_equal(r->past->counts.messages[RECORD_UP][BGP_NOTIFICATION], 2);
    assert_int_equal(r->past->counts.messages[RECORD_DOWN][BGP_NOTIFICATION], 1);
    assert_int_equal(r->past->n_notifications, 2);
    assert_int_equal(r->past->notifications[0].count, 2);
    assert_false(r->past->notifications[0].down);
    assert_true(r->past->notifications[1].down);
    assert_int_equal(r->past->notifications[1].code, 4);
    assert_int_equal(r->notification_wall_ns[RECORD_UP], 500);
    assert_int_equal(r->state, BGP_WATCH_IDLE);
}

static void sessions_that_are_there_are_not_added_up(void **state)
{
    (void)state;
    struct addr a = device(1);
    struct record *r = records_begin(&rs, &a, &answer, 100);
    struct record_session carried = {.bytes = {7, 8}, .seen = &seen};
    for (int i = 0; i < 2; i++) {
        records_look_begin(&rs);
        record_look(&rs, r, &carried);
        assert_int_equal(record_counts(r).bytes[RECORD_UP], 7);
        assert_int_equal(r->past->counts.bytes[RECORD_UP], 0);
        records_look_end(&rs);
        assert_int_equal(record_counts(r).bytes[RECORD_UP], 0);
    }
    records_end(&rs, r, &carried);
    records_look_begin(&rs);
    assert_int_equal(record_counts(r).bytes[RECORD_UP], 7);
    records_look_end(&rs);
    assert_int_equal(r->past->counts.bytes[RECORD_UP], 7);
}

static void another_device_at_the_address_begins_at_0(void **state)
{
    (void)state;
    struct addr a = device(1);
    struct record *r = session_with(a, 6, 2, false);
    struct control_response other = answer;
    other.device_id = 3;
    assert_ptr_equal(records_begin(&rs, &a, &other, 200), r);
    assert_int_equal(r->past->counts.bytes[RECORD_UP], 0);
    assert_int_equal(r->past->n_notifications, 0);
    assert_int_equal(r->sessions, 1);
}

static void kinds_of_notification_are_bounded(void **state)
{
    (void)state;
    struct addr a = device(1);
    struct record *r = NULL;
    for (unsigned i = 0; i < 600; i++)
        r = session_with(a, i % 256, i / 256, i % 2);
    assert_int_equal(r->past->n_notifications, RECORD_NOTIFICATIONS);
    uint64_t up = 0, down = 0;
    for (unsigned i = 0; i < RECORD_NOTIFICATIONS; i++) {
        *(r->past->notifications[i].down ? &down : &up) += r->past->notifications[i].count;
        assert_int_equal(r->past->notifications[i].others, i >= RECORD_NOTIFICATIONS - 2);
    }
    assert_int_equal(up, 300);
    assert_int_equal(down, 300);
}

static void the_device_gone_longest_makes_room(void **state)
{
    (void)state;
    struct addr first = device(0), second = device(1);
    struct record *stays = records_begin(&rs, &first, &answer, 1);
    for (unsigned i = 1; i < RECORDS_MAX; i++)
        session_with(device(i), 6, 2, false);
    session_with(second, 6, 2, false); /* the second one is now the newest */
    assert_int_equal(rs.by_ip.count, RECORDS_MAX);
    session_with(device(RECORDS_MAX), 6, 2, false);
    assert_int_equal(rs.by_ip.count, RECORDS_MAX);
    struct record *r = session_with(second, 6, 2, false);
    assert_int_equal(r->past->notifications[0].count, 3); /* was kept */
    r = session_with(device(2), 6, 2, false);
    assert_int_equal(r->past->notifications[0].count, 1); /* had to go */
    assert_int_equal(stays->sessions, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counts_go_on_over_sessions, begin, end),
        cmocka_unit_test_setup_teardown(sessions_that_are_there_are_not_added_up, begin, end),
        cmocka_unit_test_setup_teardown(another_device_at_the_address_begins_at_0, begin, end),
        cmocka_unit_test_setup_teardown(kinds_of_notification_are_bounded, begin, end),
        cmocka_unit_test_setup_teardown(the_device_gone_longest_makes_room, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
