#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/log_format.h"
#include "daemon/otlp.h"

static const struct otlp_resource resource = {"kbgp", "1.2", "9ef12a66-47ff-45b5-b56b-23a76941c655"};
static struct buf out;
static struct otlp_logs logs;
static struct otlp_metrics metrics;
static struct metrics_writer w;

static int begin_logs(void **state)
{
    (void)state;
    otlp_logs_begin(&logs, &out, &resource);
    return 0;
}

static int begin_metrics(void **state)
{
    (void)state;
    otlp_metrics_begin(&metrics, &out, &resource, "kbgp", 1000, 2000);
    metrics_init_otlp(&w, &metrics);
    return 0;
}

static int end(void **state)
{
    (void)state;
    buf_free(&out);
    return 0;
}

/* Strict: no duplicate keys, valid UTF-8. */
static json_t *parse(const struct buf *b)
{
    json_error_t why;
    json_t *root = json_loadb((const char *)buf_begin(b), buf_len(b), JSON_REJECT_DUPLICATES, &why);
    if (!root)
        fail_msg("not JSON: %s at %d in %.*s", why.text, why.position, (int)buf_len(b), (char *)buf_begin(b));
    return root;
}

static json_t *written_logs(void)
{
    otlp_logs_end(&logs);
    assert_false(logs.out.failed);
    return parse(&out);
}

static json_t *written_metrics(void)
{
    otlp_metrics_end(&metrics);
    assert_false(metrics.out.failed);
    return parse(&out);
}

/* "a.0.b" of a document, or NULL. */
static json_t *at(json_t *root, const char *path)
{
    char text[256];
    char *save = NULL;
    snprintf(text, sizeof text, "%s", path);
    for (char *part = strtok_r(text, ".", &save); part; part = strtok_r(NULL, ".", &save))
        root = json_is_array(root) ? json_array_get(root, (size_t)atoi(part)) : json_object_get(root, part);
    return root;
}

/* The whole of a document's part, as text. */
#define assert_part(root, path, text) assert_part_at(root, path, text, __FILE__, __LINE__)
static void assert_part_at(json_t *root, const char *path, const char *text, const char *file, int line)
{
    json_t *part = at(root, path);
    json_t *want = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!want || !json_equal(part, want)) {
        char *is = part ? json_dumps(part, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("nothing");
        print_error("%s is %s\n   and not %s\n", path, is, text);
        free(is);
        _fail(file, line);
    }
    json_decref(want);
}

static void record(enum log_level level, int64_t ns, const char *msg, const struct log_field *fields)
{
    assert_true(otlp_logs_record(&logs, "kbgp", level, ns, msg, fields));
}

/* --- logs --- */

static void a_record_is_exactly_this(void **state)
{
    (void)state;
    record(LOG_LEVEL_WARN, 1700000000123456789, "told \"so\"",
           (const struct log_field[]){LOG_STR("peer-addr", "[2001:db8::1]:179"), LOG_NUM("ttl", INT64_MIN),
                                      LOG_STR("absent", NULL), LOG_END_FIELD});
    otlp_logs_end(&logs);
    assert_true(buf_append(&out, "", 1));
    assert_string_equal(
        (char *)buf_begin(&out),
        "{\"resourceLogs\":[{\"resource\":{\"attributes\":["
        "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"kbgp\"}},"
        "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"1.2\"}},"
        "{\"key\":\"service.instance.id\",\"value\":{\"stringValue\":\"9ef12a66-47ff-45b5-b56b-"
        "23a76941c655\"}}]},"
        "\"scopeLogs\":[{\"scope\":{\"name\":\"kbgp\"},\"logRecords\":["
        "{\"timeUnixNano\":\"1700000000123456789\",\"observedTimeUnixNano\":\"1700000000123456789\","
        "\"severityNumber\":13,\"severityText\":\"WARN\",\"body\":{\"stringValue\":\"told \\\"so\\\"\"},"
        "\"attributes\":[{\"key\":\"peer-addr\",\"value\":{\"stringValue\":\"[2001:db8::1]:179\"}},"
        "{\"key\":\"ttl\",\"value\":{\"intValue\":\"-9223372036854775808\"}}]}]}]}]}");
}

static void severities(void **state)
{
    (void)state;
    for (enum log_level l = LOG_LEVEL_DEBUG; l <= LOG_LEVEL_ERROR; l++)
        record(l, 1, "m", NULL);
    json_t *root = written_logs();
    static const char *const numbers[] = {"5", "9", "13", "17"};
    static const char *const texts[] = {"\"DEBUG\"", "\"INFO\"", "\"WARN\"", "\"ERROR\""};
    for (int i = 0; i < 4; i++) {
        char path[80];
        snprintf(path, sizeof path, "resourceLogs.0.scopeLogs.0.logRecords.%d.severityNumber", i);
        assert_part(root, path, numbers[i]);
        snprintf(path, sizeof path, "resourceLogs.0.scopeLogs.0.logRecords.%d.severityText", i);
        assert_part(root, path, texts[i]);
    }
    assert_part(root, "resourceLogs.0.scopeLogs.0.logRecords.0.attributes", "[]");
    json_decref(root);
}

static void pairs_are_lists_of_arrays(void **state)
{
    (void)state;
    struct kv kv = {0};
    kv_add(&kv, "a", "1");
    kv_add(&kv, "b", "2");
    kv_add(&kv, "a", "3");
    record(LOG_LEVEL_INFO, 1, "m",
           (const struct log_field[]){LOG_PAIRS("client-metadata", &kv), LOG_END_FIELD});
    json_t *root = written_logs();
    assert_part(root, "resourceLogs.0.scopeLogs.0.logRecords.0.attributes",
                "[{\"key\":\"client-metadata\",\"value\":{\"kvlistValue\":{\"values\":["
                "{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"1\"},{"
                "\"stringValue\":\"3\"}]}}},"
                "{\"key\":\"b\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"2\"}]}}}]}}}]");
    json_decref(root);
    kv_free(&kv);
}

static void the_scope_is_the_module(void **state)
{
    (void)state;
    record(LOG_LEVEL_INFO, 1, "first", NULL);
    record(LOG_LEVEL_INFO, 2, "second",
           (const struct log_field[]){LOG_STR("module", "proxy/client-data"), LOG_END_FIELD});
    record(LOG_LEVEL_INFO, 3, "third",
           (const struct log_field[]){LOG_STR("component", "proxy/client-data"), LOG_END_FIELD});
    record(LOG_LEVEL_INFO, 4, "fourth", NULL);
    assert_int_equal(logs.records, 4);
    json_t *root = written_logs();
    assert_int_equal(json_array_size(at(root, "resourceLogs.0.scopeLogs")), 3);
    assert_part(root, "resourceLogs.0.scopeLogs.0.scope.name", "\"kbgp\"");
    assert_part(root, "resourceLogs.0.scopeLogs.1.scope.name", "\"proxy/client-data\"");
    assert_part(root, "resourceLogs.0.scopeLogs.1.logRecords.0.body.stringValue", "\"second\"");
    assert_part(root, "resourceLogs.0.scopeLogs.1.logRecords.1.body.stringValue", "\"third\"");
    assert_part(root, "resourceLogs.0.scopeLogs.2.logRecords.0.body.stringValue", "\"fourth\"");
    json_decref(root);
}

static void any_bytes_make_valid_json(void **state)
{
    (void)state;
    char all[256];
    for (int i = 1; i < 256; i++)
        all[i - 1] = (char)i;
    all[255] = 0;
    record(LOG_LEVEL_INFO, 1, "m",
           (const struct log_field[]){LOG_STR("bytes", all), LOG_STR("text", "M\xc3\xbcn\xf0\x9f\x98\x80"),
                                      LOG_STR("torn", "x\xe2\x82"), LOG_STR("module", all), LOG_END_FIELD});
    json_t *root = written_logs();
    json_t *list = at(root, "resourceLogs.0.scopeLogs.0.logRecords.0.attributes");
    const char *bytes = json_string_value(at(list, "0.value.stringValue"));
    assert_memory_equal(bytes, all, 127); /* ASCII is kept as it is, control characters included */
    const char *rest = bytes + 127;
    for (int i = 128; i < 256; i++, rest += 3)
        assert_memory_equal(rest, "\xef\xbf\xbd", 3);
    assert_int_equal(*rest, 0);
    assert_part(list, "1.value.stringValue", "\"M\xc3\xbcn\xf0\x9f\x98\x80\"");
    assert_part(list, "2.value.stringValue", "\"x\xef\xbf\xbd\xef\xbf\xbd\"");
    json_decref(root);
}

static bool is_truncated(json_t *list)
{
    json_t *last = json_array_get(list, json_array_size(list) - 1);
    return strcmp(json_string_value(json_object_get(last, "key")), "truncated") == 0;
}

static void a_long_value_is_cut(void **state)
{
    (void)state;
    static char exact[LOG_VALUE_MAX + 1], longer[LOG_VALUE_MAX + 2];
    memset(exact, 'e', LOG_VALUE_MAX);
    memset(longer, 'l', LOG_VALUE_MAX - 1);
    strcpy(longer + LOG_VALUE_MAX - 1, "\xc3\xbc"); /* stands across the border */
    record(LOG_LEVEL_INFO, 1, "m", (const struct log_field[]){LOG_STR("k", exact), LOG_END_FIELD});
    record(LOG_LEVEL_INFO, 1, "m",
           (const struct log_field[]){LOG_STR("k", longer), LOG_NUM("n", 7), LOG_END_FIELD});
    json_t *root = written_logs();
    json_t *first = at(root, "resourceLogs.0.scopeLogs.0.logRecords.0.attributes");
    json_t *second = at(root, "resourceLogs.0.scopeLogs.0.logRecords.1.attributes");
    assert_int_equal(json_string_length(at(first, "0.value.stringValue")), LOG_VALUE_MAX);
    assert_false(is_truncated(first));
    assert_int_equal(json_string_length(at(second, "0.value.stringValue")), LOG_VALUE_MAX - 1);
    assert_part(second, "1.value.intValue", "\"7\"");
    assert_true(is_truncated(second));
    json_decref(root);
}

/* A field that blows the record up is left out, and the next one is not. */
static void a_huge_record_stays_within_its_limit(void **state)
{
    (void)state;
    struct kv kv = {0};
    static char control[LOG_VALUE_MAX + 1]; /* six bytes each in JSON */
    memset(control, 1, LOG_VALUE_MAX);
    for (int i = 0; i < 20; i++)
        kv_add(&kv, "k", control);
    record(LOG_LEVEL_INFO, 1, "m",
           (const struct log_field[]){LOG_STR("a", control), LOG_PAIRS("b", &kv), LOG_STR("c", control),
                                      LOG_STR("d", "kept"), LOG_END_FIELD});
    assert_true(buf_len(&out) < OTLP_RECORD_MAX + 512);
    record(LOG_LEVEL_INFO, 1, "next", NULL);
    json_t *root = written_logs();
    json_t *list = at(root, "resourceLogs.0.scopeLogs.0.logRecords.0.attributes");
    assert_int_equal(json_array_size(list), 3);
    assert_part(list, "0.key", "\"a\"");
    assert_part(list, "1.key", "\"d\"");
    assert_true(is_truncated(list));
    assert_part(root, "resourceLogs.0.scopeLogs.0.logRecords.1.body.stringValue", "\"next\"");
    json_decref(root);
    kv_free(&kv);
}

/* --- metrics --- */

static void counters_are_cumulative_sums(void **state)
{
    (void)state;
    metrics_family(&w, "kbgp_relayed_bytes_total", METRICS_COUNTER, "Bytes \"relayed\".");
    metrics_int(&w, 0, {"direction", "up"});
    metrics_int(&w, INT64_MAX, {"direction", "down"}, {"k", "\xff"});
    metrics_family(&w, "process_cpu_seconds_total", METRICS_COUNTER, "CPU.");
    metrics_seconds(&w, 1500000000);
    assert_int_equal(metrics.points, 3);
    otlp_metrics_end(&metrics);
    assert_true(buf_append(&out, "", 1));
    assert_string_equal(
        strstr((char *)buf_begin(&out), "\"scopeMetrics\""),
        "\"scopeMetrics\":[{\"scope\":{\"name\":\"kbgp\"},\"metrics\":["
        "{\"name\":\"kbgp_relayed_bytes_total\",\"description\":\"Bytes \\\"relayed\\\".\",\"unit\":\"By\","
        "\"sum\":{\"aggregationTemporality\":2,\"isMonotonic\":true,\"dataPoints\":["
        "{\"attributes\":[{\"key\":\"direction\",\"value\":{\"stringValue\":\"up\"}}],"
        "\"startTimeUnixNano\":\"1000\",\"timeUnixNano\":\"2000\",\"asInt\":\"0\"},"
        "{\"attributes\":[{\"key\":\"direction\",\"value\":{\"stringValue\":\"down\"}},"
        "{\"key\":\"k\",\"value\":{\"stringValue\":\"\xef\xbf\xbd\"}}],"
        "\"startTimeUnixNano\":\"1000\",\"timeUnixNano\":\"2000\",\"asInt\":\"9223372036854775807\"}]}},"
        "{\"name\":\"process_cpu_seconds_total\",\"description\":\"CPU.\",\"unit\":\"s\","
        "\"sum\":{\"aggregationTemporality\":2,\"isMonotonic\":true,\"dataPoints\":["
        "{\"attributes\":[],\"startTimeUnixNano\":\"1000\",\"timeUnixNano\":\"2000\",\"asDouble\":1.5}]}}]}]}"
        "]}");
}

static void gauges_have_no_start(void **state)
{
    (void)state;
    metrics_family(&w, "kbgp_sessions", METRICS_GAUGE, "Sessions.");
    metrics_int(&w, -1);
    json_t *root = written_metrics();
    assert_part(root, "resourceMetrics.0.scopeMetrics.0.metrics.0",
                "{\"name\":\"kbgp_sessions\",\"description\":\"Sessions.\",\"gauge\":{\"dataPoints\":["
                "{\"attributes\":[],\"timeUnixNano\":\"2000\",\"asInt\":\"-1\"}]}}");
    json_decref(root);
}

static void histograms_count_each_bucket_alone(void **state)
{
    (void)state;
    static const int64_t bounds[] = {1000000, 500000000};
    struct metrics_histogram h = {.bounds_ns = bounds, .n_bounds = 2};
    metrics_observe(&h, 1000000); /* an upper bound is part of its bucket */
    metrics_observe(&h, 2000000);
    metrics_observe(&h, 2000000);
    metrics_observe(&h, 4000000000);
    metrics_family(&w, "kbgp_heartbeat_rtt_seconds", METRICS_HISTOGRAM, "RTT.");
    metrics_histogram(&w, &h, {"a", "b"});
    json_t *root = written_metrics();
    assert_part(
        root, "resourceMetrics.0.scopeMetrics.0.metrics.0",
        "{\"name\":\"kbgp_heartbeat_rtt_seconds\",\"description\":\"RTT.\",\"unit\":\"s\","
        "\"histogram\":{\"aggregationTemporality\":2,\"dataPoints\":["
        "{\"attributes\":[{\"key\":\"a\",\"value\":{\"stringValue\":\"b\"}}],"
        "\"startTimeUnixNano\":\"1000\",\"timeUnixNano\":\"2000\",\"bucketCounts\":[\"1\",\"2\",\"1\"],"
        "\"explicitBounds\":[0.001,0.5],\"count\":\"4\",\"sum\":4.005}]}}");
    json_decref(root);
}

static void families_without_samples_leave_no_trace(void **state)
{
    (void)state;
    metrics_family(&w, "none", METRICS_GAUGE, "None.");
    metrics_family(&w, "one", METRICS_GAUGE, "One.");
    metrics_int(&w, 1);
    metrics_family(&w, "none_either", METRICS_COUNTER, "None.");
    json_t *root = written_metrics();
    assert_int_equal(json_array_size(at(root, "resourceMetrics.0.scopeMetrics.0.metrics")), 1);
    assert_part(root, "resourceMetrics.0.scopeMetrics.0.metrics.0.name", "\"one\"");
    json_decref(root);
}

static void nothing_makes_no_envelope(void **state)
{
    (void)state;
    metrics_family(&w, "none", METRICS_GAUGE, "None.");
    otlp_metrics_end(&metrics);
    assert_int_equal(metrics.points, 0);
    assert_int_equal(buf_len(&out), 0);
}

static void a_clock_set_back_makes_no_negative_interval(void **state)
{
    (void)state;
    otlp_metrics_begin(&metrics, &out, &resource, "kbgp", 5000, 2000);
    metrics_init_otlp(&w, &metrics);
    metrics_family(&w, "a_total", METRICS_COUNTER, "A.");
    metrics_int(&w, 1);
    json_t *root = written_metrics();
    assert_part(root, "resourceMetrics.0.scopeMetrics.0.metrics.0.sum.dataPoints.0.timeUnixNano", "\"5000\"");
    json_decref(root);
}

/* Bodies that a full one was split into: their points, added up, and what went wrong. */
struct pieces {
    uint32_t bodies, points, at_most;
    uint64_t sum;
    size_t longest;
};

static void look_at(struct pieces *p, struct buf *body)
{
    json_t *root = parse(body);
    json_t *list = at(root, "resourceMetrics.0.scopeMetrics.0.metrics"), *family, *point;
    size_t i, j;
    assert_part(root, "resourceMetrics.0.resource.attributes.0.value.stringValue", "\"kbgp\"");
    json_array_foreach(list, i, family)
    {
        assert_non_null(json_object_get(family, "name"));
        assert_true(json_array_size(at(family, "gauge.dataPoints")) > 0);
        json_array_foreach(at(family, "gauge.dataPoints"), j, point) p->sum +=
            strtoull(json_string_value(json_object_get(point, "asInt")), NULL, 10);
    }
    p->bodies++;
    p->longest = buf_len(body) > p->longest ? buf_len(body) : p->longest;
    json_decref(root);
    buf_free(body);
}

static bool take(void *arg, struct otlp_metrics *m)
{
    struct pieces *p = arg;
    p->points += m->points;
    look_at(p, m->out.buf);
    return p->bodies < p->at_most;
}

static void write_many(struct pieces *p, uint32_t families, uint32_t points)
{
    metrics.limit = 4096;
    metrics.full = take;
    metrics.arg = p;
    for (uint32_t f = 0; f < families; f++) {
        metrics_family(&w, "kbgp_many", METRICS_GAUGE, "Many.");
        for (uint32_t i = 0; i < points; i++)
            metrics_int(&w, 1, {"device", "router"});
    }
    otlp_metrics_end(&metrics);
    p->points += metrics.points;
    if (metrics.points > 0)
        look_at(p, &out);
}

static void a_full_body_is_followed_by_another(void **state)
{
    (void)state;
    struct pieces p = {.at_most = UINT32_MAX};
    write_many(&p, 10, 100);
    assert_int_equal(p.points, 1000);
    assert_int_equal(p.sum, 1000);
    assert_true(p.bodies > 10);
    assert_true(p.longest < 4096 + 512);
    assert_int_equal(metrics.skipped, 0);
}

static void what_is_too_much_is_counted(void **state)
{
    (void)state;
    struct pieces p = {.at_most = 3};
    write_many(&p, 10, 100);
    assert_int_equal(p.bodies, 3);
    assert_int_equal(p.sum, p.points);
    assert_int_equal(p.points + metrics.skipped, 1000);
    assert_true(metrics.skipped > 0);
}

static void process_metrics_can_be_exported(void **state)
{
    (void)state;
    metrics_process(&w);
    json_t *root = written_metrics();
    assert_true(json_array_size(at(root, "resourceMetrics.0.scopeMetrics.0.metrics")) >= 6);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_record_is_exactly_this, begin_logs, end),
        cmocka_unit_test_setup_teardown(severities, begin_logs, end),
        cmocka_unit_test_setup_teardown(pairs_are_lists_of_arrays, begin_logs, end),
        cmocka_unit_test_setup_teardown(the_scope_is_the_module, begin_logs, end),
        cmocka_unit_test_setup_teardown(any_bytes_make_valid_json, begin_logs, end),
        cmocka_unit_test_setup_teardown(a_long_value_is_cut, begin_logs, end),
        cmocka_unit_test_setup_teardown(a_huge_record_stays_within_its_limit, begin_logs, end),
        cmocka_unit_test_setup_teardown(counters_are_cumulative_sums, begin_metrics, end),
        cmocka_unit_test_setup_teardown(gauges_have_no_start, begin_metrics, end),
        cmocka_unit_test_setup_teardown(histograms_count_each_bucket_alone, begin_metrics, end),
        cmocka_unit_test_setup_teardown(families_without_samples_leave_no_trace, begin_metrics, end),
        cmocka_unit_test_setup_teardown(nothing_makes_no_envelope, begin_metrics, end),
        cmocka_unit_test_setup_teardown(a_clock_set_back_makes_no_negative_interval, begin_metrics, end),
        cmocka_unit_test_setup_teardown(a_full_body_is_followed_by_another, begin_metrics, end),
        cmocka_unit_test_setup_teardown(what_is_too_much_is_counted, begin_metrics, end),
        cmocka_unit_test_setup_teardown(process_metrics_can_be_exported, begin_metrics, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
