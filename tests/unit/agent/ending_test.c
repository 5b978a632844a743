#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/ending.h"

static struct session s;
static struct ending e;

static int begin(void **state)
{
    (void)state;
    s = (struct session){.role = SESSION_AGENT};
    return 0;
}

static void open_both(int64_t ms)
{
    struct bgp_open o = {.asn = 65001, .hold_time = 9, .router_id = {10, 0, 0, 1}};
    uint8_t bytes[BGP_OPEN_MAX];
    size_t len = bgp_open_encode(&o, bytes);
    struct bgp_watch_time now = {.mono_ms = ms};
    bgp_watch_feed(&s.seen, &s.seen.out, bytes, len, &now);
    bgp_watch_feed(&s.seen, &s.seen.in, bytes, len, &now);
}

static void notify(struct bgp_watch_side *side, unsigned code, unsigned subcode, const char *text, int64_t ms)
{
    uint8_t data[BGP_SHUTDOWN_DATA_MAX], bytes[300];
    struct bgp_notification n = {.code = (uint8_t)code, .subcode = (uint8_t)subcode, .data = data};
    n.data_len = text ? bgp_shutdown_data(text, data) : 0;
    struct bgp_watch_time now = {.mono_ms = ms};
    bgp_watch_feed(&s.seen, side, bytes, bgp_notification_encode(&n, bytes, sizeof bytes), &now);
}

static void check(enum session_todo how, enum ending_by by, enum ending_cause cause, const char *reason)
{
    ending_of(&e, &s, how, false, NULL, 10000);
    assert_int_equal(e.by, by);
    assert_int_equal(e.cause, cause);
    assert_string_equal(e.reason, reason);
}

static void tcp_alone(void **state)
{
    (void)state;
    check(SESSION_CLOSE, ENDING_BY_TARGET, ENDING_TARGET_END, "the target closed the session");
    /* The router's FIN in answer to the target's end. */
    s.tcp_eof = true;
    check(SESSION_CLOSE, ENDING_BY_TARGET, ENDING_TARGET_END, "the target closed the session");
    s.end_sent = true;
    check(SESSION_CLOSE, ENDING_BY_ROUTER, ENDING_DEVICE_FIN, "the router closed the connection");
    s.tcp_broken = true;
    check(SESSION_CLOSE, ENDING_BY_ROUTER, ENDING_DEVICE_RESET, "the router reset the connection");
}

static void kills(void **state)
{
    (void)state;
    check(SESSION_ABORT, ENDING_BY_AGENT, ENDING_AGENT_KILL,
          "a message of the target was not usable, or memory for its bytes ran out");
    ending_of(&e, &s, SESSION_ABORT, false, "the target denied the device", 0);
    assert_string_equal(e.reason, "the target denied the device");
    s.kill_received = true;
    check(SESSION_ABORT, ENDING_BY_TARGET, ENDING_TARGET_KILL, "the target sent KILL");
}

static void stopping(void **state)
{
    (void)state;
    s.tcp_eof = s.end_sent = true;
    ending_of(&e, &s, SESSION_CLOSE, true, NULL, 0);
    assert_int_equal(e.by, ENDING_BY_AGENT);
    assert_int_equal(e.cause, ENDING_SHUTDOWN);
    assert_string_equal(e.reason, "the agent stops");
}

static void notification_of_the_router(void **state)
{
    (void)state;
    notify(&s.seen.out, 6, 2, "maintenance", 5000);
    /* The target has read it and ended the call before the router's FIN came. */
    check(SESSION_CLOSE, ENDING_BY_ROUTER, ENDING_DEVICE_FIN,
          "the router sent NOTIFICATION Cease/Administrative Shutdown: maintenance");
    s.tcp_eof = s.tcp_broken = true;
    check(SESSION_CLOSE, ENDING_BY_ROUTER, ENDING_DEVICE_RESET,
          "the router sent NOTIFICATION Cease/Administrative Shutdown: maintenance");
}

static void notification_of_the_target(void **state)
{
    (void)state;
    notify(&s.seen.in, 4, 0, NULL, 5000);
    s.tcp_eof = s.end_sent = true; /* the router closed as it should */
    check(SESSION_CLOSE, ENDING_BY_TARGET, ENDING_TARGET_END,
          "the target sent NOTIFICATION Hold Timer Expired");
}

static void the_first_notification_counts(void **state)
{
    (void)state;
    notify(&s.seen.in, 6, 7, NULL, 5001);
    notify(&s.seen.out, 6, 5, NULL, 5000);
    check(SESSION_CLOSE, ENDING_BY_ROUTER, ENDING_DEVICE_FIN,
          "the router sent NOTIFICATION Cease/Connection Rejected");
    notify(&s.seen.out, 6, 5, NULL, 5002);
    check(SESSION_CLOSE, ENDING_BY_TARGET, ENDING_TARGET_END,
          "the target sent NOTIFICATION Cease/Connection Collision Resolution");
}

static void silence_beyond_the_hold_time_is_told(void **state)
{
    (void)state;
    uint8_t keepalive[BGP_HEADER_LEN];
    open_both(500);
    bgp_keepalive_encode(keepalive);
    struct bgp_watch_time now = {.mono_ms = 8000};
    bgp_watch_feed(&s.seen, &s.seen.in, keepalive, sizeof keepalive, &now);
    s.tcp_eof = s.tcp_broken = true;
    check(SESSION_CLOSE, ENDING_BY_ROUTER, ENDING_DEVICE_RESET,
          "the router reset the connection, 9 s after the last BGP message of the router (hold time 9 s)");
    bgp_watch_feed(&s.seen, &s.seen.out, keepalive, sizeof keepalive, &now);
    check(SESSION_CLOSE, ENDING_BY_ROUTER, ENDING_DEVICE_RESET, "the router reset the connection");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(tcp_alone, begin),
        cmocka_unit_test_setup(kills, begin),
        cmocka_unit_test_setup(stopping, begin),
        cmocka_unit_test_setup(notification_of_the_router, begin),
        cmocka_unit_test_setup(notification_of_the_target, begin),
        cmocka_unit_test_setup(the_first_notification_counts, begin),
        cmocka_unit_test_setup(silence_beyond_the_hold_time_is_told, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
