#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

#include "daemon/metrics.h"

static struct buf out;
static struct metrics_writer w;

static int begin(void **state)
{
    (void)state;
    metrics_init(&w, &out);
    return 0;
}

static int end(void **state)
{
    (void)state;
    buf_free(&out);
    return 0;
}

static const char *written(void)
{
    assert_false(w.failed);
    assert_true(buf_append(&out, "", 1));
    return (const char *)buf_begin(&out);
}

static void families_and_samples(void **state)
{
    (void)state;
    metrics_family(&w, "a_total", METRICS_COUNTER, "Counts a.");
    metrics_int(&w, 0);
    metrics_family(&w, "b", METRICS_GAUGE, "Is b.");
    metrics_int(&w, INT64_MIN, {"direction", "up"});
    metrics_int(&w, INT64_MAX, {"direction", "down"}, {"k", ""});
    assert_string_equal(written(), "# HELP a_total Counts a.\n"
                                   "# TYPE a_total counter\n"
                                   "a_total 0\n"
                                   "# HELP b Is b.\n"
                                   "# TYPE b gauge\n"
                                   "b{direction=\"up\"} -9223372036854775808\n"
                                   "b{direction=\"down\",k=\"\"} 9223372036854775807\n");
}

static void label_values_are_escaped(void **state)
{
    (void)state;
    metrics_family(&w, "a", METRICS_GAUGE, "A.");
    metrics_int(&w, 1, {"device", "x\\y\"z\nM\xc3\xbcnchen\xff"});
    assert_non_null(strstr(written(), "a{device=\"x\\\\y\\\"z\\nM\xc3\xbcnchen\xef\xbf\xbd\"} 1\n"));
}

static void seconds_lose_nothing(void **state)
{
    (void)state;
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1, "0.000000001"},
        {12345000000, "12.345"},
        {3000000000, "3"},
        {10000000000, "10"},
        {-1500000000, "-1.5"},
        {1795557583110746998, "1795557583.110746998"},
        {INT64_MIN, "-9223372036.854775808"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[100];
        buf_take(&out, buf_len(&out));
        metrics_init(&w, &out);
        w.family = "t";
        metrics_seconds(&w, cases[i].ns);
        snprintf(expected, sizeof expected, "t %s\n", cases[i].text);
        assert_string_equal(written(), expected);
    }
}

static void histogram_is_cumulative(void **state)
{
    (void)state;
    static const int64_t bounds[] = {1000000, 500000000};
    struct metrics_histogram h = {.bounds_ns = bounds, .n_bounds = 2};
    metrics_observe(&h, 0);
    metrics_observe(&h, 1000000); /* a bound is within */
    metrics_observe(&h, 1000001);
    metrics_observe(&h, 2000000000);
    metrics_family(&w, "rtt_seconds", METRICS_HISTOGRAM, "RTT.");
    metrics_histogram(&w, &h, {"a", "b"});
    assert_string_equal(written(), "# HELP rtt_seconds RTT.\n"
                                   "# TYPE rtt_seconds histogram\n"
                                   "rtt_seconds_bucket{a=\"b\",le=\"0.001\"} 2\n"
                                   "rtt_seconds_bucket{a=\"b\",le=\"0.5\"} 3\n"
                                   "rtt_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\n"
                                   "rtt_seconds_sum{a=\"b\"} 2.002000001\n"
                                   "rtt_seconds_count{a=\"b\"} 4\n");
}

static void latency_bounds_rise(void **state)
{
    (void)state;
    struct metrics_histogram h;
    metrics_histogram_init_latency(&h);
    assert_in_range(h.n_bounds, 1, METRICS_BOUNDS_MAX);
    for (size_t i = 1; i < h.n_bounds; i++)
        assert_true(h.bounds_ns[i] > h.bounds_ns[i - 1]);
    metrics_family(&w, "a", METRICS_HISTOGRAM, "A.");
    metrics_histogram(&w, &h);
    assert_non_null(
        strstr(written(), "a_bucket{le=\"10\"} 0\na_bucket{le=\"+Inf\"} 0\na_sum 0\na_count 0\n"));
}

/* The value of a process_ family. */
static double value_of(const char *text, const char *name)
{
    char start[100];
    snprintf(start, sizeof start, "\n%s ", name);
    const char *p = strstr(text, start);
    if (!p)
        fail_msg("no %s", name);
    return p ? strtod(p + strlen(start), NULL) : 0;
}

static void process_families(void **state)
{
    (void)state;
    volatile unsigned x = 0;
    while (clock() < CLOCKS_PER_SEC / 20)
        x++; /* some CPU time to see, however busy the machine is */
    metrics_process(&w);
    const char *text = written();
    assert_true(value_of(text, "process_cpu_seconds_total") > 0);
    assert_true(value_of(text, "process_cpu_seconds_total") < 60);
    assert_true(value_of(text, "process_resident_memory_bytes") > 100000);
    assert_true(value_of(text, "process_virtual_memory_bytes") >
                value_of(text, "process_resident_memory_bytes"));
    assert_true(value_of(text, "process_threads") == 1);
    assert_true(value_of(text, "process_open_fds") >= 3);
    assert_true(value_of(text, "process_max_fds") >= value_of(text, "process_open_fds"));
    double age = (double)time(NULL) - value_of(text, "process_start_time_seconds");
    assert_true(age > -2 && age < 60);
}

static void start_time_does_not_waver(void **state)
{
    (void)state;
    metrics_process(&w);
    char *first = strdup(written());
    buf_take(&out, buf_len(&out));
    metrics_process(&w);
    const char *start = strstr(first, "\nprocess_start_time_seconds");
    assert_non_null(start);
    size_t n = strcspn(start + 1, "\n") + 2;
    const char *again = strstr(written(), "\nprocess_start_time_seconds");
    assert_non_null(again);
    assert_memory_equal(again, start, n);
    free(first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(families_and_samples, begin, end),
        cmocka_unit_test_setup_teardown(label_values_are_escaped, begin, end),
        cmocka_unit_test_setup_teardown(seconds_lose_nothing, begin, end),
        cmocka_unit_test_setup_teardown(histogram_is_cumulative, begin, end),
        cmocka_unit_test_setup_teardown(latency_bounds_rise, begin, end),
        cmocka_unit_test_setup_teardown(process_families, begin, end),
        cmocka_unit_test_setup_teardown(start_time_does_not_waver, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
