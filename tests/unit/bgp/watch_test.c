#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "bgp/watch.h"

static struct bgp_watch w;
static struct bgp_watch_time now;
static uint8_t open_out[BGP_OPEN_MAX], open_in[BGP_OPEN_MAX], keepalive[BGP_HEADER_LEN];
static size_t open_out_len, open_in_len;

static int begin(void **state)
{
    (void)state;
    struct bgp_open o = {.asn = 4200000001, .hold_time = 90, .router_id = {10, 0, 0, 1}, .as4 = true};
    w = (struct bgp_watch){0};
    open_out_len = bgp_open_encode(&o, open_out);
    o.asn = 65002;
    o.hold_time = 30;
    open_in_len = bgp_open_encode(&o, open_in);
    bgp_keepalive_encode(keepalive);
    return 0;
}

static void at(int64_t ms)
{
    now = (struct bgp_watch_time){.mono_ms = ms, .wall_ns = 1000000000 + ms * 1000000};
}

static void establish(void)
{
    at(100);
    bgp_watch_feed(&w, &w.out, open_out, open_out_len, &now);
    bgp_watch_feed(&w, &w.in, open_in, open_in_len, &now);
    bgp_watch_feed(&w, &w.in, keepalive, sizeof keepalive, &now);
    at(200);
    bgp_watch_feed(&w, &w.out, keepalive, sizeof keepalive, &now);
}

static void feed_notification(struct bgp_watch_side *side, unsigned code, unsigned subcode, const void *data,
                              size_t len)
{
    uint8_t bytes[300];
    struct bgp_notification n = {
        .code = (uint8_t)code, .subcode = (uint8_t)subcode, .data = data, .data_len = len};
    bgp_watch_feed(&w, side, bytes, bgp_notification_encode(&n, bytes, sizeof bytes), &now);
}

static void state_follows_the_messages(void **state)
{
    (void)state;
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_CONNECT);
    assert_int_equal(bgp_watch_hold_time(&w), -1);
    at(100);
    bgp_watch_feed(&w, &w.out, open_out, open_out_len, &now);
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_OPENSENT);
    assert_int_equal(bgp_watch_hold_time(&w), -1);
    bgp_watch_feed(&w, &w.in, open_in, open_in_len, &now);
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_OPENCONFIRM);
    assert_int_equal(bgp_watch_hold_time(&w), 30);
    at(200);
    bgp_watch_feed(&w, &w.in, keepalive, sizeof keepalive, &now);
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_OPENCONFIRM);
    assert_int_equal(w.established.mono_ms, 0);
    at(300);
    bgp_watch_feed(&w, &w.out, keepalive, sizeof keepalive, &now);
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_ESTABLISHED);
    assert_int_equal(w.established.mono_ms, 300);
    assert_int_equal(w.established.wall_ns, 1300000000);
    assert_int_equal(w.out.peek.asn, 4200000001);
    assert_int_equal(bgp_watch_messages(&w.out), 2);
    at(400);
    bgp_watch_feed(&w, &w.out, keepalive, sizeof keepalive, &now);
    assert_int_equal(w.established.mono_ms, 300);
    assert_int_equal(w.out.message.mono_ms, 400);
    assert_int_equal(w.in.message.mono_ms, 200);
}

static void a_message_counts_when_it_begins(void **state)
{
    (void)state;
    at(1);
    bgp_watch_feed(&w, &w.out, keepalive, 18, &now);
    assert_int_equal(w.out.message.mono_ms, 0);
    at(2);
    bgp_watch_feed(&w, &w.out, keepalive + 18, 1, &now);
    assert_int_equal(w.out.message.mono_ms, 2);
}

static void notification_ends_it_and_is_told(void **state)
{
    (void)state;
    char text[BGP_WATCH_TEXT_MAX];
    establish();
    assert_null(bgp_watch_notification_text(&w, &w.out, text));
    at(500);
    feed_notification(&w.out, 6, 2, "\x0bmaintenance", 12);
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_IDLE);
    assert_int_equal(w.out.notification.mono_ms, 500);
    assert_int_equal(w.in.notification.mono_ms, 0);
    assert_string_equal(bgp_watch_notification_text(&w, &w.out, text),
                        "Cease/Administrative Shutdown: maintenance");
    assert_null(bgp_watch_notification_text(&w, &w.in, text));
    assert_int_equal(w.established.mono_ms, 200);
}

static void notification_whose_codes_come_later(void **state)
{
    (void)state;
    uint8_t bytes[300];
    struct bgp_notification n = {.code = 4};
    size_t len = bgp_notification_encode(&n, bytes, sizeof bytes);
    establish();
    at(500);
    bgp_watch_feed(&w, &w.in, bytes, len - 1, &now);
    assert_int_equal(w.in.notification.mono_ms, 0);
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_ESTABLISHED);
    at(600);
    bgp_watch_feed(&w, &w.in, bytes + len - 1, 1, &now);
    assert_int_equal(w.in.notification.mono_ms, 600);
    /* A second one, whole in one piece. */
    at(700);
    bgp_watch_feed(&w, &w.in, bytes, len, &now);
    assert_int_equal(w.in.notification.mono_ms, 700);
}

static void names_of_notifications(void **state)
{
    (void)state;
    static const struct {
        unsigned code, subcode;
        const char *data;
        size_t len;
        const char *text;
    } cases[] = {
        {4, 0, "", 0, "Hold Timer Expired"},
        {6, 9, "\x06\x04\x03now", 6, "Cease/Hard Reset (Cease/Administrative Reset): now"},
        {6, 2, "", 0, "Cease/Administrative Shutdown"},
        {6, 4,
         "\x0a"
         "a: b\nc: d ",
         11, "Cease/Administrative Reset: a: b c: d "},
        {99, 7, "", 0, "code 99, subcode 7"},
    };
    char text[BGP_WATCH_TEXT_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(NULL);
        at(1);
        feed_notification(&w.out, cases[i].code, cases[i].subcode, cases[i].data, cases[i].len);
        assert_string_equal(bgp_watch_notification_text(&w, &w.out, text), cases[i].text);
    }
}

/* Both sides say one. Each has its codes; the text that is kept is the one that began first. */
static void text_of_the_first_notification(void **state)
{
    (void)state;
    char text[BGP_WATCH_TEXT_MAX];
    establish();
    feed_notification(&w.out, 6, 2, "\x0bmaintenance", 12);
    feed_notification(&w.in, 4, 0, "", 0); /* without a text: the router's stays */
    assert_string_equal(bgp_watch_notification_text(&w, &w.out, text),
                        "Cease/Administrative Shutdown: maintenance");
    assert_string_equal(bgp_watch_notification_text(&w, &w.in, text), "Hold Timer Expired");
    feed_notification(&w.in, 6, 4, "\x03two", 4);
    assert_string_equal(bgp_watch_notification_text(&w, &w.out, text),
                        "Cease/Administrative Shutdown: maintenance");
    assert_string_equal(bgp_watch_notification_text(&w, &w.in, text), "Cease/Administrative Reset");
    feed_notification(&w.out, 6, 2,
                      "\x05"
                      "three",
                      6);
    assert_string_equal(bgp_watch_notification_text(&w, &w.out, text),
                        "Cease/Administrative Shutdown: three");
    assert_string_equal(bgp_watch_notification_text(&w, &w.in, text), "Cease/Administrative Reset");
}

static void what_is_no_bgp_leaves_the_state_alone(void **state)
{
    (void)state;
    at(1);
    bgp_watch_feed(&w, &w.out, (const uint8_t *)"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, &now);
    assert_true(w.out.peek.unparsable);
    assert_int_equal(bgp_watch_state(&w), BGP_WATCH_CONNECT);
    assert_int_equal(w.out.message.mono_ms, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(state_follows_the_messages, begin),
        cmocka_unit_test_setup(a_message_counts_when_it_begins, begin),
        cmocka_unit_test_setup(notification_ends_it_and_is_told, begin),
        cmocka_unit_test_setup(notification_whose_codes_come_later, begin),
        cmocka_unit_test_setup(names_of_notifications, begin),
        cmocka_unit_test_setup(text_of_the_first_notification, begin),
        cmocka_unit_test_setup(what_is_no_bgp_leaves_the_state_alone, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
