#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/web_proxy.h"

/* A pretended environment: "NAME=value" strings up to NULL. */
static const char *from_list(void *arg, const char *name)
{
    size_t n = strlen(name);
    for (const char *const *line = arg; *line; line++)
        if (strncmp(*line, name, n) == 0 && (*line)[n] == '=')
            return *line + n + 1;
    return NULL;
}

static bool choose(const char *const *env, const char *scheme, const char *host, uint16_t port,
                   struct web_proxy *p, struct err *e)
{
    return web_proxy_choose(from_list, (void *)(uintptr_t)env, scheme, host, port, p, e);
}

#define ENV(...) ((const char *const[]){__VA_ARGS__, NULL})

/* "NAME variable", "direct" or "error". */
static const char *outcome(const char *const *env, const char *scheme)
{
    static char text[400];
    struct web_proxy p;
    struct err e;
    if (!choose(env, scheme, "target.example.com", 443, &p, &e))
        return "error";
    if (p.kind == WEB_PROXY_NONE)
        return "direct";
    snprintf(text, sizeof text, "%s %s", p.name, p.variable);
    return text;
}

static void which_variable(void **state)
{
    (void)state;
    const char *const all[] = {"HTTPS_PROXY=http://a:1",
                               "https_proxy=http://b:2",
                               "HTTP_PROXY=http://c:3",
                               "http_proxy=http://d:4",
                               "ALL_PROXY=http://e:5",
                               "all_proxy=http://f:6",
                               NULL};
    assert_string_equal(outcome(all, "https"), "http://a:1 HTTPS_PROXY");
    assert_string_equal(outcome(all + 1, "https"), "http://b:2 https_proxy");
    assert_string_equal(outcome(all + 2, "https"), "http://e:5 ALL_PROXY"); /* never HTTP_PROXY */
    assert_string_equal(outcome(all + 5, "https"), "http://f:6 all_proxy");
    assert_string_equal(outcome(all, "http"), "http://c:3 HTTP_PROXY");
    assert_string_equal(outcome(all + 3, "http"), "http://d:4 http_proxy");
    assert_string_equal(outcome(all + 4, "http"), "http://e:5 ALL_PROXY");
    assert_string_equal(outcome(ENV("HTTPS_PROXY=http://a:1"), "http"), "direct");
    assert_string_equal(outcome(ENV("PATH=/"), "https"), "direct");
}

static void empty_is_unset(void **state)
{
    (void)state;
    assert_string_equal(outcome(ENV("HTTPS_PROXY=", "https_proxy= \t", "ALL_PROXY=a:1"), "https"),
                        "http://a:1 ALL_PROXY");
    assert_string_equal(outcome(ENV("HTTPS_PROXY=", "ALL_PROXY="), "https"), "direct");
    assert_string_equal(outcome(ENV("HTTPS_PROXY= http://user:pass@192.0.2.1:3128 "), "https"),
                        "http://192.0.2.1:3128 HTTPS_PROXY");
}

static void forms_of_a_proxy(void **state)
{
    (void)state;
    static const struct {
        const char *url, *name, *host, *user, *password;
        enum web_proxy_kind kind;
        uint16_t port;
    } cases[] = {
        {"http://p.example.com", "http://p.example.com:80", "p.example.com", "", "", WEB_PROXY_HTTP, 80},
        {"HTTP://p:3128/", "http://p:3128", "p", "", "", WEB_PROXY_HTTP, 3128},
        {"p:3128", "http://p:3128", "p", "", "", WEB_PROXY_HTTP, 3128},
        {"192.0.2.1", "http://192.0.2.1:80", "192.0.2.1", "", "", WEB_PROXY_HTTP, 80},
        {"https://p", "https://p:443", "p", "", "", WEB_PROXY_HTTPS, 443},
        {"socks5h://p", "socks5h://p:1080", "p", "", "", WEB_PROXY_SOCKS5, 1080},
        {"socks5://p:1", "socks5h://p:1", "p", "", "", WEB_PROXY_SOCKS5, 1},
        {"http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080", "2001:db8::1", "", "", WEB_PROXY_HTTP,
         8080},
        {"https://[::1]", "https://[::1]:443", "::1", "", "", WEB_PROXY_HTTPS, 443},
        {"http://u:p@h:65535", "http://h:65535", "h", "u", "p", WEB_PROXY_HTTP, 65535},
        {"u:p@h", "http://h:80", "h", "u", "p", WEB_PROXY_HTTP, 80},
        {"http://u@h", "http://h:80", "h", "u", "", WEB_PROXY_HTTP, 80},
        {"http://:p@h", "http://h:80", "h", "", "p", WEB_PROXY_HTTP, 80},
        {"http://a%40corp:p%3a%2F%25%20x@h", "http://h:80", "h", "a@corp", "p:/% x", WEB_PROXY_HTTP, 80},
        {"http://u:p:q@r@h", "http://h:80", "h", "u", "p:q@r", WEB_PROXY_HTTP, 80},
        {"http://u:p\xc3\xa4@h", "http://h:80", "h", "u", "p\xc3\xa4", WEB_PROXY_HTTP, 80},
        {"u:x://y@h", "http://h:80", "h", "u", "x://y", WEB_PROXY_HTTP, 80},
        {"socks5h://u:@[::1]:9", "socks5h://[::1]:9", "::1", "u", "", WEB_PROXY_SOCKS5, 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[200];
        struct web_proxy p;
        struct err e;
        snprintf(line, sizeof line, "HTTPS_PROXY=%s", cases[i].url);
        if (!choose(ENV(line), "https", "target.example.com", 443, &p, &e))
            fail_msg("%s: %s", cases[i].url, e.text);
        assert_string_equal(p.name, cases[i].name);
        assert_string_equal(p.host, cases[i].host);
        assert_string_equal(p.user, cases[i].user);
        assert_string_equal(p.password, cases[i].password);
        assert_int_equal(p.kind, cases[i].kind);
        assert_int_equal(p.port, cases[i].port);
    }
}

static void hostile_values(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "http://",
        "http://user:S3cret@",
        "ftp://user:S3cret@h",
        "socks4://user:S3cret@h",
        "://S3cret@h",
        "http://user:S3cret@h:0",
        "http://user:S3cret@h:65536",
        "http://user:S3cret@h:",
        "http://user:S3cret@h:99999999999999999999",
        "http://user:S3cret@h:+1",
        "http://user:S3cret@h/path",
        "http://user:S3cret@h?x",
        "http://user:S3cret/h",
        "http://user:S3cret#x@h/y@",
        "http://user:S3cret@2001:db8::1",
        "http://user:S3cret@[2001:db8::1",
        "http://user:S3cret@[2001:db8::1]x",
        "http://user:S3cret@[192.0.2.1]",
        "http://user:S3cret@[S3cret]",
        "http://user:S3cret@[]:1",
        "http://user:S3cret%@h",
        "http://user:S3cret%4@h",
        "http://user:S3cret%zz@h",
        "http://user:S3cret%00@h",
        "http://user:S3cret%0d%0aX:y@h",
        "http://us%3aer:S3cret@h",
        "http://user:S3 cret@h",
        "http://user:S3cret\n@h",
        "http://user:S3cret@h st",
        "http://user:S3cret@h\xc3\xb6st",
        "http://S3cret:h",
        "socks5h://:S3cret@h",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[200];
        struct web_proxy p;
        struct err e = {{0}};
        snprintf(line, sizeof line, "ALL_PROXY=%s", cases[i]);
        if (choose(ENV(line), "https", "target.example.com", 443, &p, &e))
            fail_msg("\"%s\" was taken as %s", cases[i], p.name);
        assert_non_null(strstr(e.text, "ALL_PROXY"));
        assert_null(strstr(e.text, "S3cret"));
        assert_int_equal(p.kind, WEB_PROXY_NONE);
    }
}

static void lengths_are_bounded(void **state)
{
    (void)state;
    char line[5000], part[4000];
    struct web_proxy p;
    struct err e;
    memset(part, 'x', sizeof part - 1);
    part[sizeof part - 1] = 0;
    static const struct {
        const char *form;
        int fits, too_long;
    } cases[] = {
        {"HTTPS_PROXY=http://%.*s@h", WEB_PROXY_SECRET_MAX - 1, WEB_PROXY_SECRET_MAX},
        {"HTTPS_PROXY=http://u:%.*s@h", WEB_PROXY_SECRET_MAX - 1, WEB_PROXY_SECRET_MAX},
        {"HTTPS_PROXY=socks5h://u:%.*s@h", 255, 256},
        {"HTTPS_PROXY=socks5h://%.*s:p@h", 255, 256},
        {"HTTPS_PROXY=%.*s", WEB_PROXY_HOST_MAX - 1, WEB_PROXY_HOST_MAX},
        {"HTTPS_PROXY=[%.*s]", 0, 3999},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(line, sizeof line, cases[i].form, cases[i].too_long, part);
        assert_false(choose(ENV(line), "https", "t", 443, &p, &e));
        if (cases[i].fits == 0)
            continue;
        snprintf(line, sizeof line, cases[i].form, cases[i].fits, part);
        assert_true(choose(ENV(line), "https", "t", 443, &p, &e));
    }
}

static void no_proxy_rules(void **state)
{
    (void)state;
    static const struct {
        const char *list, *host;
        uint16_t port;
        bool direct;
    } cases[] = {
        {"*", "anything.example", 443, true},
        {"example.com", "example.com", 443, true},
        {"example.com", "EXAMPLE.Com", 443, true},
        {"example.com", "example.com.", 443, true},
        {"example.com.", "example.com", 443, true},
        {"example.com", "a.b.example.com", 443, true},
        {"example.com", "notexample.com", 443, false},
        {"example.com", "example.com.evil.org", 443, false},
        {"example.com", "com", 443, false},
        {".example.com", "example.com", 443, true},
        {".example.com", "a.example.com", 443, true},
        {".example.com", "aexample.com", 443, false},
        {"*.example.com", "a.example.com", 443, true},
        {"*.example.com", "example.com", 443, true},
        {"ex*.com", "example.com", 443, false},
        {"a.example.com", "example.com", 443, false},
        {" x.org , example.com ", "example.com", 443, true},
        {"x.org example.com", "example.com", 443, true},
        {",,x.org,,", "example.com", 443, false},
        {".", "example.com", 443, false},
        {"example.com:443", "example.com", 443, true},
        {"example.com:444", "example.com", 443, false},
        {".example.com:443", "a.example.com", 443, true},
        {"192.0.2.1", "192.0.2.1", 443, true},
        {"192.0.2.1", "192.0.2.10", 443, false},
        {"192.0.2.1:443", "192.0.2.1", 443, true},
        {"192.0.2.1:444", "192.0.2.1", 443, false},
        {"2.1", "192.0.2.1", 443, false}, /* a suffix is for names */
        {"::ffff:192.0.2.1", "192.0.2.1", 443, true},
        {"2001:db8::1", "2001:DB8:0:0::1", 443, true},
        {"[2001:db8::1]", "2001:db8::1", 443, true},
        {"[2001:db8::1]:443", "2001:db8::1", 443, true},
        {"[2001:db8::1]:444", "2001:db8::1", 443, false},
        {"2001:db8::1", "2001:db8::2", 443, false},
        {"192.0.2.0/24", "192.0.2.255", 443, true},
        {"192.0.2.0/24", "192.0.3.0", 443, false},
        {"192.0.2.77/24", "192.0.2.1", 443, true}, /* host bits do not matter */
        {"192.0.2.0/23", "192.0.3.1", 443, true},
        {"192.0.2.1/32", "192.0.2.1", 443, true},
        {"192.0.2.1/32", "192.0.2.0", 443, false},
        {"192.0.2.0/31", "192.0.2.1", 443, true},
        {"0.0.0.0/0", "192.0.2.1", 443, true},
        {"0.0.0.0/0", "2001:db8::1", 443, false},
        {"0.0.0.0/0", "example.com", 443, false},
        {"::/0", "2001:db8::1", 443, true},
        {"::/0", "192.0.2.1", 443, false},
        {"2001:db8::/33", "2001:db8:7fff::1", 443, true},
        {"2001:db8::/33", "2001:db8:8000::1", 443, false},
        {"::ffff:192.0.2.0/120", "192.0.2.9", 443, true},
        {"::ffff:192.0.2.0/120", "192.0.3.9", 443, false},
        {"fd00::/8,10.0.0.0/8", "10.1.2.3", 443, true},
        {"other.example", "127.0.0.1", 443, false}, /* a list of one's own replaces the default */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[200];
        struct web_proxy p;
        struct err e;
        snprintf(line, sizeof line, "NO_PROXY=%s", cases[i].list);
        if (!choose(ENV("HTTPS_PROXY=p:1", line), "https", cases[i].host, cases[i].port, &p, &e))
            fail_msg("%s: %s", cases[i].list, e.text);
        if ((p.kind == WEB_PROXY_NONE) != cases[i].direct)
            fail_msg("NO_PROXY=%s, %s port %u: %s", cases[i].list, cases[i].host, cases[i].port,
                     cases[i].direct ? "went to the proxy" : "went directly");
        if (cases[i].direct) {
            assert_string_equal(p.host, "");
            assert_string_equal(p.user, "");
        }
    }
}

static void no_proxy_default(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool direct;
    } cases[] = {
        {"localhost", true},   {"LOCALHOST", true},  {"127.0.0.1", true}, {"127.9.9.9", true},
        {"::1", true},         {"128.0.0.1", false}, {"::2", false},      {"localhost.example", false},
        {"mylocalhost", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct web_proxy p;
        struct err e;
        assert_true(choose(ENV("ALL_PROXY=p:1"), "http", cases[i].host, 1, &p, &e));
        assert_int_equal(p.kind == WEB_PROXY_NONE, cases[i].direct);
        assert_true(
            choose(ENV("ALL_PROXY=p:1", "NO_PROXY= ", "no_proxy="), "http", cases[i].host, 1, &p, &e));
        assert_int_equal(p.kind == WEB_PROXY_NONE, cases[i].direct);
        assert_true(
            choose(ENV("ALL_PROXY=p:1", "NO_PROXY=", "no_proxy=x"), "http", cases[i].host, 1, &p, &e));
        assert_int_equal(p.kind, WEB_PROXY_HTTP);
        assert_true(
            choose(ENV("ALL_PROXY=p:1", "NO_PROXY=x", "no_proxy=*"), "http", cases[i].host, 1, &p, &e));
        assert_int_equal(p.kind, WEB_PROXY_HTTP);
    }
}

static void no_proxy_that_cannot_be_meant(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.0/8x",
        "10.0.0.0/8/8",
        "example.com/8",
        "/8",
        "fd00::/129",
        "::ffff:10.0.0.0/95",
        "a:b",
        "a:",
        "a:0",
        "a:65536",
        "2001:db8::1:x",
        "[2001:db8::1]:",
        "[::1]:x",
        "http://example.com",
        "*,10.0.0.0/33",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[100];
        struct web_proxy p;
        struct err e;
        snprintf(line, sizeof line, "no_proxy=%s", cases[i]);
        if (choose(ENV("HTTPS_PROXY=http://u:S3cret@p", line), "https", "t.example", 1, &p, &e))
            fail_msg("%s was taken", cases[i]);
        assert_non_null(strstr(e.text, "no_proxy"));
        assert_null(strstr(e.text, "S3cret"));
        assert_string_equal(p.password, "");
        /* Without a proxy nobody asks. */
        assert_true(choose(ENV("PATH=/", line), "https", "t.example", 1, &p, &e));
    }
}

static void forgetting(void **state)
{
    (void)state;
    struct web_proxy p;
    struct err e;
    assert_true(choose(ENV("HTTPS_PROXY=http://user:S3cret@p"), "https", "t", 1, &p, &e));
    web_proxy_forget(&p);
    assert_null(memmem(&p, sizeof p, "S3cret", 6));
    assert_null(memmem(&p, sizeof p, "user", 4));
    assert_string_equal(p.name, "http://p:80");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which_variable),      cmocka_unit_test(empty_is_unset),
        cmocka_unit_test(forms_of_a_proxy),    cmocka_unit_test(hostile_values),
        cmocka_unit_test(lengths_are_bounded), cmocka_unit_test(no_proxy_rules),
        cmocka_unit_test(no_proxy_default),    cmocka_unit_test(no_proxy_that_cannot_be_meant),
        cmocka_unit_test(forgetting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
