#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "daemon/export.h"
#include "daemon/export_rules.h"
#include "daemon/export_sender.h"

/* --- rules --- */

static void what_an_answer_means(void **state)
{
    (void)state;
    static const struct {
        CURLcode code;
        long status;
        enum export_reason reason;
    } cases[] = {
        {CURLE_OK, 200, EXPORT_DELIVERED},
        {CURLE_OK, 202, EXPORT_DELIVERED},
        {CURLE_OK, 204, EXPORT_DELIVERED},
        {CURLE_OK, 299, EXPORT_DELIVERED},
        {CURLE_OK, 429, EXPORT_BUSY},
        {CURLE_OK, 502, EXPORT_BUSY},
        {CURLE_OK, 503, EXPORT_BUSY},
        {CURLE_OK, 504, EXPORT_BUSY},
        {CURLE_OK, 500, EXPORT_SERVER_ERROR},
        {CURLE_OK, 501, EXPORT_SERVER_ERROR},
        {CURLE_OK, 505, EXPORT_SERVER_ERROR},
        {CURLE_OK, 301, EXPORT_REFUSED},
        {CURLE_OK, 400, EXPORT_REFUSED},
        {CURLE_OK, 401, EXPORT_REFUSED},
        {CURLE_OK, 403, EXPORT_REFUSED},
        {CURLE_OK, 404, EXPORT_REFUSED},
        {CURLE_OK, 413, EXPORT_REFUSED},
        {CURLE_OK, 600, EXPORT_REFUSED},
        {CURLE_OK, 0, EXPORT_REFUSED},
        {CURLE_COULDNT_CONNECT, 0, EXPORT_UNREACHABLE},
        {CURLE_PEER_FAILED_VERIFICATION, 0, EXPORT_UNREACHABLE},
        /* An answer that was not read to its end is none. */
        {CURLE_RECV_ERROR, 200, EXPORT_UNREACHABLE},
        {CURLE_RECV_ERROR, 400, EXPORT_UNREACHABLE},
        {CURLE_OPERATION_TIMEDOUT, 200, EXPORT_TIMEOUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (export_judge(cases[i].code, cases[i].status) != cases[i].reason)
            fail_msg("code %d, status %ld", (int)cases[i].code, cases[i].status);
}

static void what_was_rejected(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        uint32_t rejected; /* of 10 */
        const char *message;
    } cases[] = {
        {"", 0, ""},
        {"{}", 0, ""},
        {"{\"partialSuccess\":{}}", 0, ""},
        {"{\"partialSuccess\":{\"rejectedLogRecords\":\"3\",\"errorMessage\":\"too old\"}}", 3, "too old"},
        {"{\"partialSuccess\":{\"rejectedDataPoints\":4}}", 4, ""},
        {"{\"partialSuccess\":{\"rejectedDataPoints\":\"0\",\"errorMessage\":\"careful\"}}", 0, "careful"},
        {"{\"partialSuccess\":{\"rejectedLogRecords\":\"99999999999999999999\"}}", 10, ""},
        {"{\"partialSuccess\":{\"rejectedLogRecords\":-1}}", 0, ""},
        {"{\"partialSuccess\":{\"rejectedLogRecords\":[]}}", 0, ""},
        {"{\"partialSuccess\":7}", 0, ""},
        {"[1]", 0, ""},
        {"<html>OK</html>", 0, ""},
        {"{\"partialSuccess\":{\"rejectedLogRecords\":\"3\"", 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[EXPORT_ANSWER_MAX] = "left over";
        uint32_t n = export_rejected(cases[i].body, strlen(cases[i].body), 10, message);
        if (n != cases[i].rejected || strcmp(message, cases[i].message) != 0)
            fail_msg("%s: %u \"%s\"", cases[i].body, n, message);
    }
}

static void who_gets_the_account(void **state)
{
    (void)state;
    static const struct {
        const char *scheme, *host;
        bool proxy, may;
    } cases[] = {
        {"https", "collector.example.net", false, true},
        {"https", "collector.example.net", true, true},
        {"http", "collector.example.net", false, false},
        {"http", "192.0.2.1", false, false},
        {"http", "128.0.0.1", false, false},
        {"http", "2001:db8::1", false, false},
        {"http", "::2", false, false},
        {"http", "localhost.example.net", false, false},
        {"http", "127.0.0.1.example.net", false, false},
        {"http", "localhost", false, true},
        {"http", "LocalHost", false, true},
        {"http", "127.0.0.1", false, true},
        {"http", "127.9.9.9", false, true},
        {"http", "::1", false, true},
        {"http", "::ffff:127.0.0.1", false, true},
        {"http", "127.0.0.1", true, false},
        {"http", "localhost", true, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (export_may_send_account(cases[i].scheme, cases[i].host, cases[i].proxy) != cases[i].may)
            fail_msg("%s://%s, proxy %d", cases[i].scheme, cases[i].host, cases[i].proxy);
}

/* --- the queue: the loop does not run, so nothing leaves --- */

static struct loop *loop;
static struct curl_loop *curl;

static int begin(void **state)
{
    struct err e;
    (void)state;
    loop = loop_new(&e);
    curl = curl_loop_new(loop, &e);
    return loop && curl ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    curl_loop_free(curl);
    loop_free(loop);
    return 0;
}

static struct export_sender *sender(const char *url, struct err *e)
{
    struct export_sender_config c = {
        .loop = loop, .curl = curl, .signal = "logs", .url = url, .queue_max = 1u << 20};
    return export_sender_new(&c, e);
}

/* A body of 128 KiB. */
static void push(struct export_sender *s, uint32_t records)
{
    static const char text[128 << 10];
    struct buf b = {0};
    assert_true(buf_append(&b, text, sizeof text));
    export_sender_push(s, &b, records);
    assert_null(b.data);
}

static void a_full_queue_drops_the_oldest_and_says_so_once(void **state)
{
    struct err e;
    (void)state;
    struct export_sender *s = sender("http://127.0.0.1:9/", &e);
    assert_non_null(s);
    uint64_t warnings = log_count(LOG_LEVEL_WARN);
    for (uint32_t i = 0; i < 8; i++)
        push(s, 1);
    assert_int_equal(export_sender_stats(s)->dropped, 0);
    assert_int_equal(log_count(LOG_LEVEL_WARN), warnings);
    push(s, 100);
    assert_int_equal(export_sender_stats(s)->dropped, 1);
    for (uint32_t i = 0; i < 8; i++)
        push(s, 1000);
    assert_int_equal(export_sender_stats(s)->dropped, 8 + 100);
    assert_int_equal(log_count(LOG_LEVEL_WARN), warnings + 1);
    assert_false(export_sender_idle(s));
    export_sender_supersede(s);
    assert_int_equal(export_sender_stats(s)->dropped, 8 + 100 + 8000);
    assert_true(export_sender_idle(s));
    export_sender_free(s);
}

static void a_url_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "collector",           "ftp://collector/",
                                      "http://", "https://host:99999/", "http://h:x/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = {""};
        struct export_sender *s = sender(bad[i], &e);
        if (s || !strstr(e.text, "logs"))
            fail_msg("%s: %s", bad[i], e.text);
    }
}

static void no_metrics(void *arg, struct metrics_writer *w)
{
    (void)arg;
    (void)w;
}

static void its_own_series_are_there_from_the_start(void **state)
{
    struct err e;
    struct buf out = {0};
    struct metrics_writer w;
    (void)state;
    struct export_config c = {.loop = loop,
                              .curl = curl,
                              .logs_url = "https://127.0.0.1/l",
                              .metrics_url = "",
                              .resource = {"kbgp", "1", "i"},
                              .metrics = no_metrics};
    struct export *x = export_new(&c, &e);
    assert_non_null(x);
    metrics_init(&w, &out);
    export_metrics(x, &w);
    assert_true(buf_append(&out, "", 1));
    const char *text = (const char *)buf_begin(&out);
    assert_non_null(strstr(text, "\nkbgp_export_records_total{signal=\"logs\"} 0\n"));
    assert_non_null(strstr(text, "\nkbgp_export_failures_total{signal=\"logs\",reason=\"unreachable\"} 0\n"));
    assert_non_null(strstr(text, "\nkbgp_export_failures_total{signal=\"logs\",reason=\"partial\"} 0\n"));
    assert_non_null(strstr(text, "\nkbgp_export_dropped_total{signal=\"logs\"} 0\n"));
    assert_null(strstr(text, "signal=\"metrics\"")); /* which are not exported */
    buf_free(&out);
    export_free(x);
}

static void without_an_export_all_is_quiet(void **state)
{
    struct buf out = {0};
    struct metrics_writer w;
    (void)state;
    metrics_init(&w, &out);
    export_metrics(NULL, &w);
    assert_int_equal(buf_len(&out), 0);
    assert_true(export_drained(NULL));
    export_wake(NULL);
    export_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_an_answer_means),
        cmocka_unit_test(what_was_rejected),
        cmocka_unit_test(who_gets_the_account),
        cmocka_unit_test_setup_teardown(a_full_queue_drops_the_oldest_and_says_so_once, begin, end),
        cmocka_unit_test_setup_teardown(a_url_that_is_none_is_refused, begin, end),
        cmocka_unit_test_setup_teardown(its_own_series_are_there_from_the_start, begin, end),
        cmocka_unit_test(without_an_export_all_is_quiet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
