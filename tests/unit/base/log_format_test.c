#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/log_format.h"
#include "base/log_limit.h"
#include "base/utf8.h"

/* 2022-05-05T20:01:43.042Z */
#define WALL_NS INT64_C(1651780903042999999)

static char line[LOG_LINE_MAX + 1];

#define FIELDS(...) ((const struct log_field[]){__VA_ARGS__, LOG_END_FIELD})

static const char *json(const char *service, const char *msg, const struct log_field *fields)
{
    struct log_record r = {LOG_LEVEL_INFO, WALL_NS, service, msg, fields};
    line[log_format_json(&r, line)] = 0;
    return line;
}

static const char *text(const char *service, const char *msg, const struct log_field *fields)
{
    struct log_record r = {LOG_LEVEL_WARN, WALL_NS, service, msg, fields};
    line[log_format_text(&r, line)] = 0;
    return line;
}

static void json_record(void **state)
{
    (void)state;
    assert_string_equal(
        json(NULL, "started", NULL),
        "{\"time\":\"2022-05-05T20:01:43.042Z\",\"level\":\"info\",\"message\":\"started\"}\n");
    assert_string_equal(
        json("ktbgp-agent", "m",
             FIELDS(LOG_STR("peer-addr", "[::1]:7"), LOG_STR("none", NULL), LOG_PAIRS("no", NULL),
                    LOG_STR("sessid", "x"), LOG_NUM("ttl_seconds", -1200))),
        "{\"time\":\"2022-05-05T20:01:43.042Z\",\"level\":\"info\",\"message\":\"m\","
        "\"peer-addr\":\"[::1]:7\",\"service\":\"ktbgp-agent\",\"sessid\":\"x\","
        "\"ttl_seconds\":-1200}\n");
}

static void text_record(void **state)
{
    (void)state;
    assert_string_equal(text(NULL, "started", NULL), "2022-05-05T20:01:43Z WRN started\n");
    assert_string_equal(
        text("ktbgp-agent", "Deny-listed an INVALID / UNKNOWN device",
             FIELDS(LOG_STR("component", "proxy/client-data"), LOG_STR("device_ip", "::1"),
                    LOG_STR("sessid", "x"), LOG_NUM("ttl_counter", 0))),
        "2022-05-05T20:01:43Z WRN Deny-listed an INVALID / UNKNOWN device "
        "component=proxy/client-data device_ip=::1 service=ktbgp-agent sessid=x ttl_counter=0\n");
}

static void text_quotes_what_needs_it(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},
        {"https://a/b?c=d", "https://a/b?c=d"},
        {"M\xc3\xbcnchen", "M\xc3\xbcnchen"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a\"b", "\"a\\\"b\""},
        {"a\\b", "\"a\\\\b\""},
        {"a\nb\tc\rd", "\"a\\nb\\tc\\rd\""},
        {"\x1b[31m", "\"\\u001b[31m\""},
        {"\x7f", "\"\\u007f\""},
        {"\xc2\x9b"
         "31m",
         "\"\\u009b31m\""}, /* CSI in one character */
        {"a\xe2\x80\xae"
         "b",
         "\"a\\u202eb\""},               /* right-to-left override */
        {"\xe2\x80\xa8", "\"\\u2028\""}, /* line separator */
        {"a\xff", "\"a\xef\xbf\xbd\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[100];
        snprintf(expected, sizeof expected, "2022-05-05T20:01:43Z WRN m k=%s\n", cases[i].out);
        assert_string_equal(text(NULL, "m", FIELDS(LOG_STR("k", cases[i].in))), expected);
    }
}

static void pairs_are_an_object_of_arrays(void **state)
{
    (void)state;
    struct kv kv = {0};
    kv_add(&kv, "backend-pin", "42b0e9c9");
    kv_add(&kv, "counter-up", "0");
    static const char docs[] = "{\"backend-pin\":[\"42b0e9c9\"],\"counter-up\":[\"0\"]}";
    assert_non_null(
        strstr(text(NULL, "m", FIELDS(LOG_PAIRS("client-metadata", &kv), LOG_STR("z", "1"))), docs));
    assert_non_null(strstr(line, "]} z=1\n"));

    kv_add(&kv, "a\"", "x\ny");
    kv_add(&kv, "backend-pin", "second");
    kv_add(&kv, "counter-up", "1");
    kv_add(&kv, "backend-pin", "");
    assert_non_null(
        strstr(json(NULL, "m", FIELDS(LOG_PAIRS("p", &kv))),
               "\"p\":{\"backend-pin\":[\"42b0e9c9\",\"second\",\"\"],\"counter-up\":[\"0\",\"1\"],"
               "\"a\\\"\":[\"x\\ny\"]}}\n"));
    kv_free(&kv);
    assert_non_null(strstr(json(NULL, "m", FIELDS(LOG_PAIRS("p", &kv))), "\"p\":{}}\n"));
}

/* Parses as JSON, ends in a newline, fits; returns the object (the caller frees it). */
static json_t *checked(size_t n)
{
    assert_in_range(n, 1, LOG_LINE_MAX);
    assert_int_equal(line[n - 1], '\n');
    json_error_t error;
    json_t *o = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error);
    if (!o)
        fail_msg("%s: %.*s", error.text, (int)n, line);
    return o;
}

static void any_bytes_give_valid_json(void **state)
{
    (void)state;
    srand(2);
    for (int round = 0; round < 2000; round++) {
        char raw[200];
        size_t n = (size_t)rand() % (sizeof raw - 1);
        for (size_t i = 0; i < n; i++)
            raw[i] = (char)(rand() % 255 + 1);
        raw[n] = 0;
        struct kv kv = {0};
        kv_add(&kv, "k", raw);
        struct log_record r = {LOG_LEVEL_ERROR, WALL_NS, raw, raw,
                               FIELDS(LOG_STR("s", raw), LOG_PAIRS("p", &kv))};
        json_t *o = checked(log_format_json(&r, line));
        assert_null(json_object_get(o, "truncated"));
        assert_non_null(json_object_get(o, "p"));
        json_decref(o);
        n = log_format_text(&r, line);
        for (size_t i = 0; i + 1 < n; i++)
            assert_true((unsigned char)line[i] >= ' ');
        kv_free(&kv);
    }
}

static void long_lines_are_cut_and_stay_valid(void **state)
{
    (void)state;
    static char filler[LOG_LINE_MAX * 2];
    /* Every length around the limit, with characters of one, three and six bytes on the line. */
    static const char *const units[] = {"x", "\xe2\x82\xac", "\x01", "\""};
    for (size_t u = 0; u < 4; u++) {
        for (size_t bytes = 7900; bytes < 8300; bytes++) {
            size_t unit = strlen(units[u]);
            for (size_t i = 0; i < bytes; i++)
                filler[i] = units[u][i % unit];
            filler[bytes - bytes % unit] = 0;
            struct kv kv = {0};
            kv_add(&kv, "k", filler);
            kv_add(&kv, "l", filler);
            kv_add(&kv, "k", filler);
            struct log_record r = {LOG_LEVEL_INFO, WALL_NS, "s", "m",
                                   FIELDS(LOG_STR("a", filler), LOG_PAIRS("b", &kv), LOG_NUM("c", 1))};
            json_t *o = checked(log_format_json(&r, line));
            assert_true(json_is_true(json_object_get(o, "truncated")));
            json_decref(o);
            kv_free(&kv);
        }
    }
}

static void a_huge_field_does_not_hide_the_next(void **state)
{
    (void)state;
    char *huge = malloc(60001);
    assert_non_null(huge);
    memset(huge, 'x', 60000);
    huge[60000] = 0;
    struct log_record r = {LOG_LEVEL_INFO, WALL_NS, "svc", "m",
                           FIELDS(LOG_STR("client-metadata", huge), LOG_STR("peer-addr", "192.0.2.1:7"))};
    json_t *o = checked(log_format_json(&r, line));
    assert_string_equal(json_string_value(json_object_get(o, "peer-addr")), "192.0.2.1:7");
    assert_string_equal(json_string_value(json_object_get(o, "service")), "svc");
    assert_true(json_is_true(json_object_get(o, "truncated")));
    json_decref(o);
    line[log_format_text(&r, line)] = 0;
    assert_non_null(strstr(line, " peer-addr=192.0.2.1:7 service=svc truncated=true\n"));

    /* Also the message, and more fields than a line can hold. */
    struct log_field many[600];
    for (size_t i = 0; i < 599; i++)
        many[i] = LOG_STR("some-field-with-a-name", "some value with a text behind it");
    many[599] = LOG_END_FIELD;
    r.fields = many;
    r.msg = huge;
    size_t n = log_format_json(&r, line);
    assert_in_range(n, LOG_LINE_MAX - 200, LOG_LINE_MAX);
    o = json_loadb(line, n, 0, NULL);
    assert_non_null(o);
    json_decref(o);
    assert_in_range(log_format_text(&r, line), LOG_LINE_MAX - 200, LOG_LINE_MAX);
    free(huge);
}

static void utf8_is_strict(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t used;
        uint32_t cp;
    } cases[] = {
        {"A", 1, 'A'},
        {"\xc3\xa9", 2, 0xe9},
        {"\xe2\x82\xac", 3, 0x20ac},
        {"\xf0\x9f\x98\x80", 4, 0x1f600},
        {"\xf4\x8f\xbf\xbf", 4, 0x10ffff},
        {"\xf4\x90\x80\x80", 1, UTF8_BAD}, /* above the last */
        {"\xc0\xaf", 1, UTF8_BAD},         /* overlong */
        {"\xe0\x80\xaf", 1, UTF8_BAD},
        {"\xf0\x80\x80\xaf", 1, UTF8_BAD},
        {"\xed\xa0\x80", 1, UTF8_BAD}, /* surrogate */
        {"\x80", 1, UTF8_BAD},
        {"\xff", 1, UTF8_BAD},
        {"\xe2\x82", 1, UTF8_BAD}, /* ends early */
        {"\xe2\x28\xa1", 1, UTF8_BAD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t cp;
        assert_int_equal(utf8_decode(cases[i].in, strlen(cases[i].in), &cp), cases[i].used);
        assert_int_equal(cp, cases[i].cp);
    }
}

/* --- held back --- */

static void repeats_are_held_back_and_told(void **state)
{
    (void)state;
    struct log_limit limit = {0};
    struct log_held held;
    static const char msg[] = "again";
    for (int i = 0; i < LOG_LIMIT_BURST; i++)
        assert_true(log_limit_pass(&limit, 7, LOG_LEVEL_WARN, msg, 1000, &held));
    for (int i = 0; i < 3; i++)
        assert_false(log_limit_pass(&limit, 7, LOG_LEVEL_WARN, msg, 1000 + LOG_LIMIT_WINDOW_MS - 1, &held));
    assert_true(log_limit_pass(&limit, 8, LOG_LEVEL_WARN, msg, 1001, &held)); /* another kind */
    assert_int_equal(held.count, 0);

    assert_false(log_limit_next_held(&limit, 1000 + LOG_LIMIT_WINDOW_MS - 1, false, &held));
    assert_true(log_limit_next_held(&limit, 1000 + LOG_LIMIT_WINDOW_MS, false, &held));
    assert_int_equal(held.count, 3);
    assert_int_equal(held.level, LOG_LEVEL_WARN);
    assert_ptr_equal(held.msg, msg);
    assert_false(log_limit_next_held(&limit, 1000 + LOG_LIMIT_WINDOW_MS, true, &held));
}

static void the_next_record_of_the_kind_ends_the_window(void **state)
{
    (void)state;
    struct log_limit limit = {0};
    struct log_held held;
    for (int i = 0; i < LOG_LIMIT_BURST + 5; i++)
        log_limit_pass(&limit, 7, LOG_LEVEL_INFO, "m", 0, &held);
    assert_true(log_limit_pass(&limit, 7, LOG_LEVEL_INFO, "m", LOG_LIMIT_WINDOW_MS, &held));
    assert_int_equal(held.count, 5);
    /* and begins a new one */
    for (int i = 1; i < LOG_LIMIT_BURST; i++)
        assert_true(log_limit_pass(&limit, 7, LOG_LEVEL_INFO, "m", LOG_LIMIT_WINDOW_MS, &held));
    assert_false(log_limit_pass(&limit, 7, LOG_LEVEL_INFO, "m", LOG_LIMIT_WINDOW_MS, &held));
    assert_true(log_limit_next_held(&limit, LOG_LIMIT_WINDOW_MS, true, &held));
    assert_int_equal(held.count, 1);
}

static void memory_is_bounded_and_nothing_uncounted(void **state)
{
    (void)state;
    struct log_limit limit = {0};
    struct log_held held;
    uint64_t written = 0, told = 0, asked = 0;
    for (uint64_t kind = 1; kind <= 5 * LOG_LIMIT_SLOTS; kind++) {
        for (int i = 0; i < 2 * LOG_LIMIT_BURST; i++, asked++) {
            written += log_limit_pass(&limit, kind, LOG_LEVEL_INFO, "m", (int64_t)kind, &held);
            told += held.count;
        }
    }
    while (log_limit_next_held(&limit, 0, true, &held))
        told += held.count;
    assert_int_equal(written + told, asked);
    assert_int_equal(written, 5 * LOG_LIMIT_SLOTS * LOG_LIMIT_BURST);
}

/* --- the writer, with a file as stderr --- */

static char logged[200000];

/* What `run` writes to stderr. */
static const char *capture(void (*run)(void), bool as_journal)
{
    char path[] = "/tmp/kbgp-log-XXXXXX";
    int fd = mkstemp(path), saved = dup(STDERR_FILENO);
    assert_true(fd >= 0 && saved >= 0);
    unlink(path);
    dup2(fd, STDERR_FILENO);
    struct stat st;
    char stream[64];
    fstat(fd, &st);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino + !as_journal);
    setenv("JOURNAL_STREAM", stream, 1);
    run();
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t n = pread(fd, logged, sizeof logged - 1, 0);
    close(fd);
    assert_true(n >= 0);
    logged[n] = 0;
    return logged;
}

static void write_levels(void)
{
    log_init("svc", false, LOG_LEVEL_INFO);
    log_debug("not this");
    log_info("one");
    log_warn("two", LOG_STR("k", "v"));
    log_error("three");
    log_set_level(LOG_LEVEL_ERROR);
    log_warn("not this");
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("four");
}

static void writes_enabled_levels(void **state)
{
    (void)state;
    uint64_t before = log_count(LOG_LEVEL_WARN);
    const char *out = capture(write_levels, false);
    assert_null(strstr(out, "not this"));
    assert_int_equal(out[0], '{');
    assert_non_null(strstr(out, "\"level\":\"info\",\"message\":\"one\",\"service\":\"svc\"}\n{"));
    assert_non_null(
        strstr(out, "\"level\":\"warn\",\"message\":\"two\",\"k\":\"v\",\"service\":\"svc\"}\n{"));
    assert_non_null(strstr(out, "\"level\":\"error\",\"message\":\"three\""));
    assert_non_null(strstr(out, "\"level\":\"debug\",\"message\":\"four\""));
    assert_int_equal(log_count(LOG_LEVEL_WARN) - before, 1);
}

static void journal_gets_priorities(void **state)
{
    (void)state;
    const char *out = capture(write_levels, true);
    assert_int_equal(strncmp(out, "<6>{\"time\"", 10), 0);
    assert_non_null(strstr(out, "\n<4>{"));
    assert_non_null(strstr(out, "\n<3>{"));
    assert_non_null(strstr(out, "\n<7>{"));
}

static void write_flood(void)
{
    log_init(NULL, true, LOG_LEVEL_DEBUG);
    for (int i = 0; i < 100; i++) {
        log_warn("flood", LOG_STR("peer", "a"), LOG_NUM("n", i));
        log_debug("calm");
    }
    log_warn("flood", LOG_STR("peer", "b"));
    log_flush_held(true);
}

static unsigned count_of(const char *out, const char *what)
{
    unsigned n = 0;
    for (const char *p = out; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void flood_is_held_back(void **state)
{
    (void)state;
    const char *out = capture(write_flood, false);
    assert_int_equal(count_of(out, "WRN flood peer=a"), LOG_LIMIT_BURST);
    assert_int_equal(count_of(out, "WRN flood peer=b"), 1);
    assert_int_equal(count_of(out, "DBG calm"), 100);
    assert_int_equal(count_of(out, "WRN repeated messages held back count=90 of=flood\n"), 1);
}

static unsigned tapped;

static void tap(void *arg, enum log_level level, int64_t wall_ns, const char *msg,
                const struct log_field *fields)
{
    assert_ptr_equal(arg, &tapped);
    assert_int_equal(level, LOG_LEVEL_INFO);
    assert_true(wall_ns > WALL_NS);
    assert_string_equal(msg, "tapped");
    assert_string_equal(fields[0].string, "v");
    tapped++;
    log_info("from the tap");
}

static void write_tapped(void)
{
    log_init(NULL, true, LOG_LEVEL_INFO);
    log_set_tap(tap, &tapped);
    log_info("tapped", LOG_STR("k", "v"));
    log_set_tap(NULL, NULL);
    log_info("no more");
}

static void tap_sees_records_but_not_its_own(void **state)
{
    (void)state;
    const char *out = capture(write_tapped, false);
    assert_int_equal(tapped, 1);
    assert_int_equal(count_of(out, "from the tap"), 1);
}

static void level_names(void **state)
{
    (void)state;
    enum log_level level;
    assert_true(log_level_parse("warning", &level) && level == LOG_LEVEL_WARN);
    for (int i = LOG_LEVEL_DEBUG; i <= LOG_LEVEL_ERROR; i++)
        assert_true(log_level_parse(log_level_name((enum log_level)i), &level) && (int)level == i);
    assert_false(log_level_parse("INFO", &level));
    assert_false(log_level_parse("", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_record),
        cmocka_unit_test(text_record),
        cmocka_unit_test(text_quotes_what_needs_it),
        cmocka_unit_test(pairs_are_an_object_of_arrays),
        cmocka_unit_test(any_bytes_give_valid_json),
        cmocka_unit_test(long_lines_are_cut_and_stay_valid),
        cmocka_unit_test(a_huge_field_does_not_hide_the_next),
        cmocka_unit_test(utf8_is_strict),
        cmocka_unit_test(repeats_are_held_back_and_told),
        cmocka_unit_test(the_next_record_of_the_kind_ends_the_window),
        cmocka_unit_test(memory_is_bounded_and_nothing_uncounted),
        cmocka_unit_test(writes_enabled_levels),
        cmocka_unit_test(journal_gets_priorities),
        cmocka_unit_test(flood_is_held_back),
        cmocka_unit_test(tap_sees_records_but_not_its_own),
        cmocka_unit_test(level_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
