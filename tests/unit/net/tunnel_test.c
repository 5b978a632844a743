#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/tunnel.h"

static struct web_proxy a_proxy(enum web_proxy_kind kind, const char *user, const char *password)
{
    struct web_proxy p = {.kind = kind, .port = 1, .variable = "HTTPS_PROXY"};
    strcpy(p.host, "p");
    strcpy(p.name, kind == WEB_PROXY_SOCKS5 ? "socks5h://p:1" : "http://p:1");
    strcpy(p.user, user);
    strcpy(p.password, password);
    return p;
}

static void assert_sent(struct tunnel *t, const void *bytes, size_t n)
{
    struct buf *out = tunnel_out(t);
    assert_int_equal(buf_len(out), n);
    if (n > 0)
        assert_memory_equal(buf_begin(out), bytes, n);
    buf_take(out, n);
}

/* Feeds until the state changes; `fed` tells how many bytes that took. */
static enum tunnel_state feed(struct tunnel *t, const void *bytes, size_t n, size_t *fed, struct err *e)
{
    enum tunnel_state state = TUNNEL_MORE;
    for (*fed = 0; *fed < n && state == TUNNEL_MORE;)
        state = tunnel_feed(t, ((const uint8_t *)bytes)[(*fed)++], e);
    return state;
}

/* --- HTTP CONNECT --- */

static void connect_request(void **state)
{
    (void)state;
    struct err e;
    struct web_proxy p = a_proxy(WEB_PROXY_HTTP, "", "");
    struct tunnel *t = tunnel_new(&p, "target.example", 443, &e);
    static const char plain[] =
        "CONNECT target.example:443 HTTP/1.1\r\nHost: target.example:443\r\nUser-Agent: kbgp/" //
        KBGP_VERSION "\r\n\r\n";
    assert_sent(t, plain, sizeof plain - 1);
    assert_false(tunnel_answered(t));
    tunnel_free(t);

    p = a_proxy(WEB_PROXY_HTTPS, "Aladdin", "open sesame"); /* the example of RFC 7617 */
    t = tunnel_new(&p, "2001:db8::1", 8443, &e);
    static const char with_user[] =
        "CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\nUser-Agent: kbgp/" //
        KBGP_VERSION "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
    assert_sent(t, with_user, sizeof with_user - 1);
    tunnel_free(t);
    tunnel_free(NULL);
}

static void longest_user_and_password(void **state)
{
    (void)state;
    struct err e;
    struct web_proxy p = a_proxy(WEB_PROXY_HTTP, "", "");
    memset(p.user, 'u', sizeof p.user - 1);
    memset(p.password, 'p', sizeof p.password - 1);
    struct tunnel *t = tunnel_new(&p, "h", 1, &e);
    assert_non_null(t);
    assert_non_null(memmem(buf_begin(tunnel_out(t)), buf_len(tunnel_out(t)), "dXV1", 4));
    assert_non_null(memmem(buf_begin(tunnel_out(t)), buf_len(tunnel_out(t)), "cHA=\r\n\r\n", 8));
    tunnel_free(t);
}

static void hosts_that_cannot_be_sent(void **state)
{
    (void)state;
    static const char *const hosts[] = {"", "a b", "a\r\nX: y", "a/b", "u@h", "a\x7f", "\xc3\xa4", "[::1]"};
    struct web_proxy p = a_proxy(WEB_PROXY_HTTP, "", "");
    struct err e;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        assert_null(tunnel_new(&p, hosts[i], 1, &e));
    char name[WEB_PROXY_HOST_MAX + 1] = {0};
    memset(name, 'x', WEB_PROXY_HOST_MAX);
    assert_null(tunnel_new(&p, name, 1, &e));
}

/* The other side may speak at once: what follows the answer is not taken. */
static void opens_at_the_exact_byte(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200\r\n\r\n",
        "HTTP/1.1 200 OK\nProxy-Agent: x\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 299 Odd\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct web_proxy p = a_proxy(WEB_PROXY_HTTP, "", "");
        struct err e;
        char bytes[400];
        size_t fed;
        struct tunnel *t = tunnel_new(&p, "h", 1, &e);
        snprintf(bytes, sizeof bytes, "%sPRI", answers[i]);
        assert_int_equal(feed(t, bytes, strlen(bytes), &fed, &e), TUNNEL_OPEN);
        assert_int_equal(fed, strlen(answers[i]));
        assert_true(tunnel_answered(t));
        tunnel_free(t);
    }
}

static void http_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *user, *answer, *words[3];
    } cases[] = {
        {"",
         "HTTP/1.1 407 Auth Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
         {"wants a user and a password", "HTTPS_PROXY", "407 Auth Required"}},
        {"u",
         "HTTP/1.1 407 No\r\nproxy-authenticate:Basic\r\n\r\n",
         {"does not accept", "HTTPS_PROXY", "407 No"}},
        {"u",
         "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM abc\r\n\r\n",
         {"Negotiate, NTLM", "Basic", "407"}},
        {"u",
         "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic\r\n\r\n",
         {"does not accept", "407", "HTTPS_PROXY"}},
        {"u", "HTTP/1.1 401 Unauthorized\r\n\r\n", {"does not accept", "401 Unauthorized", "HTTPS_PROXY"}},
        {"", "HTTP/1.1 403 Filtered\r\n\r\n", {"does not allow CONNECT to h:1", "403 Filtered", "rules"}},
        {"", "HTTP/1.1 502 Bad Gateway\r\n\r\n", {"cannot reach h:1", "502 Bad Gateway", ""}},
        {"",
         "HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\n",
         {"cannot reach h:1", "503 Service Unavailable", "ERR_DNS_FAIL"}},
        {"", "HTTP/1.1 504\r\n\r\n", {"cannot reach h:1", "504)", ""}},
        {"", "HTTP/1.1 405 Method Not Allowed\r\n\r\n", {"does not do CONNECT", "405", ""}},
        {"", "HTTP/1.1 400 Bad\x1b[31m\r\n\r\n", {"answered CONNECT to h:1 with 400 Bad?[31m", "", ""}},
        {"", "HTTP/1.1 301 Moved\r\n\r\n", {"301 Moved", "", ""}},
        {"", "SSH-2.0-x\r\n", {"does not answer in HTTP", "", ""}},
        {"", "\x15\x03\x01", {"does not answer in HTTP", "", ""}},
        {"", "\n", {"status line", "", ""}},
        {"", "HTTP/1.1\r\n", {"status line", "", ""}},
        {"", "HTTP/1.1 20\r\n", {"status line", "", ""}},
        {"", "HTTP/1.1 2000 OK\r\n", {"status line", "", ""}},
        {"", "HTTP/1.1 000 OK\r\n", {"status line", "", ""}},
        {"", "HTTP/2 200\r\n", {"does not answer in HTTP", "", ""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct web_proxy p = a_proxy(WEB_PROXY_HTTP, cases[i].user, cases[i].user[0] ? "S3cret" : "");
        struct err e = {{0}};
        size_t fed;
        struct tunnel *t = tunnel_new(&p, "h", 1, &e);
        if (feed(t, cases[i].answer, strlen(cases[i].answer), &fed, &e) != TUNNEL_REFUSED)
            fail_msg("not refused: %s", cases[i].answer);
        for (int w = 0; w < 3; w++)
            if (cases[i].words[w] && !strstr(e.text, cases[i].words[w]))
                fail_msg("no \"%s\" in \"%s\"", cases[i].words[w], e.text);
        assert_null(strstr(e.text, "S3cret"));
        tunnel_free(t);
    }
}

static void answer_without_end(void **state)
{
    (void)state;
    struct web_proxy p = a_proxy(WEB_PROXY_HTTP, "", "");
    struct err e;
    size_t fed;
    struct tunnel *t = tunnel_new(&p, "h", 1, &e);
    assert_int_equal(feed(t, "HTTP/1.1 200 ", 13, &fed, &e), TUNNEL_MORE);
    enum tunnel_state s = TUNNEL_MORE;
    size_t n = 13;
    for (; s == TUNNEL_MORE && n < 10 * TUNNEL_ANSWER_MAX; n++)
        s = tunnel_feed(t, n % 700 ? 'x' : '\n', &e); /* header lines, some longer than we keep */
    assert_int_equal(s, TUNNEL_REFUSED);
    assert_int_equal(n, TUNNEL_ANSWER_MAX + 1);
    tunnel_free(t);
}

/* --- SOCKS5 --- */

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static void socks_without_user(void **state)
{
    (void)state;
    struct web_proxy p = a_proxy(WEB_PROXY_SOCKS5, "", "");
    struct err e;
    size_t fed;
    struct tunnel *t = tunnel_new(&p, "host", 443, &e);
    assert_sent(t, BYTES(5, 1, 0));
    assert_int_equal(feed(t, BYTES(5, 0), &fed, &e), TUNNEL_MORE);
    assert_sent(t, BYTES(5, 1, 0, 3, 4, 'h', 'o', 's', 't', 1, 187));
    assert_int_equal(feed(t, BYTES(5, 0, 0, 1, 10, 0, 0, 1, 0, 80, 'P', 'R', 'I'), &fed, &e), TUNNEL_OPEN);
    assert_int_equal(fed, 10);
    tunnel_free(t);
}

static void socks_with_user(void **state)
{
    (void)state;
    struct web_proxy p = a_proxy(WEB_PROXY_SOCKS5, "me", "pw");
    struct err e;
    size_t fed;
    struct tunnel *t = tunnel_new(&p, "192.0.2.1", 1, &e);
    assert_sent(t, BYTES(5, 2, 0, 2));
    assert_int_equal(feed(t, BYTES(5, 2), &fed, &e), TUNNEL_MORE);
    assert_sent(t, BYTES(1, 2, 'm', 'e', 2, 'p', 'w'));
    assert_int_equal(feed(t, BYTES(1, 0), &fed, &e), TUNNEL_MORE);
    assert_sent(t, BYTES(5, 1, 0, 1, 192, 0, 2, 1, 0, 1));
    assert_int_equal(feed(t, BYTES(5, 0, 0, 3, 2, 'x', 'y', 0, 1, 'P'), &fed, &e), TUNNEL_OPEN);
    assert_int_equal(fed, 9);
    tunnel_free(t);

    t = tunnel_new(&p, "2001:db8::1", 1, &e);
    assert_sent(t, BYTES(5, 2, 0, 2));
    assert_int_equal(feed(t, BYTES(5, 0), &fed, &e), TUNNEL_MORE); /* no password wanted after all */
    assert_sent(t, BYTES(5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1));
    assert_int_equal(
        feed(t, BYTES(5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'P'), &fed, &e),
        TUNNEL_OPEN);
    assert_int_equal(fed, 22);
    tunnel_free(t);
}

static void socks_longest_bound_name(void **state)
{
    (void)state;
    struct web_proxy p = a_proxy(WEB_PROXY_SOCKS5, "", "");
    struct err e;
    size_t fed;
    uint8_t reply[2 + 4 + 1 + 255 + 2] = {5, 0, 5, 0, 0, 3, 255};
    struct tunnel *t = tunnel_new(&p, "h", 1, &e);
    assert_int_equal(feed(t, reply, sizeof reply, &fed, &e), TUNNEL_OPEN);
    assert_int_equal(fed, sizeof reply);
    tunnel_free(t);
}

static void socks_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *user;
        uint8_t bytes[8];
        size_t n;
        const char *words;
    } cases[] = {
        {"", {5, 0xff}, 2, "wants a user and a password, and HTTPS_PROXY has none"},
        {"u", {5, 0xff}, 2, "takes neither"},
        {"", {5, 2}, 2, "did not offer"},
        {"u", {5, 1}, 2, "did not offer"},
        {"u", {5, 2, 1, 1}, 4, "does not accept the user and password in HTTPS_PROXY"},
        {"u", {5, 2, 5}, 3, "does not answer in SOCKS5"},
        {"", {'H', 'T'}, 1, "does not answer in SOCKS5"},
        {"", {4}, 1, "does not answer in SOCKS5"},
        {"", {5, 0, 5, 1, 0, 1}, 6, "cannot reach h:1: general failure"},
        {"", {5, 0, 5, 2, 0, 1}, 6, "does not allow a connection to h:1"},
        {"", {5, 0, 5, 4, 0, 1}, 6, "host unreachable"},
        {"", {5, 0, 5, 5, 0, 1}, 6, "connection refused (SOCKS reply 5)"},
        {"", {5, 0, 5, 8, 0, 1}, 6, "address type not supported"},
        {"", {5, 0, 5, 99, 0, 1}, 6, "SOCKS reply 99"},
        {"", {5, 0, 5, 0, 0, 2}, 6, "makes no sense"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct web_proxy p = a_proxy(WEB_PROXY_SOCKS5, cases[i].user, cases[i].user[0] ? "S3cret" : "");
        struct err e = {{0}};
        size_t fed;
        struct tunnel *t = tunnel_new(&p, "h", 1, &e);
        assert_int_equal(feed(t, cases[i].bytes, sizeof cases[i].bytes, &fed, &e), TUNNEL_REFUSED);
        assert_int_equal(fed, cases[i].n);
        if (!strstr(e.text, cases[i].words))
            fail_msg("no \"%s\" in \"%s\"", cases[i].words, e.text);
        assert_null(strstr(e.text, "S3cret"));
        tunnel_free(t);
    }
}

/* Whatever comes: no crash, and an end. */
static void noise(void **state)
{
    (void)state;
    uint32_t x = 12345;
    for (int round = 0; round < 20000; round++) {
        struct web_proxy p = a_proxy(round % 2 ? WEB_PROXY_SOCKS5 : WEB_PROXY_HTTP, round % 3 ? "u" : "", "");
        struct err e;
        struct tunnel *t = tunnel_new(&p, "h", 1, &e);
        enum tunnel_state s = TUNNEL_MORE;
        static const char *const starts[] = {"HTTP/1.1 407 x\r\n", "\x05\x00\x05", "HTTP/1.0 200",
                                             "\x05\x02"};
        for (const char *c = starts[(x >> 8) % 4]; *c && s == TUNNEL_MORE; c++)
            s = tunnel_feed(t, (uint8_t)*c, &e);
        for (int i = 0; s == TUNNEL_MORE && i < 20000; i++) {
            x = x * 1664525 + 1013904223;
            static const char words[] = "\r\n\n:Proxy-Authenticate: X-Squid-Error: , Basic 12345\x05\x01\x03";
            s = tunnel_feed(t, x >> 31 ? (uint8_t)(x >> 16) : (uint8_t)words[(x >> 8) % (sizeof words - 1)],
                            &e);
        }
        assert_int_not_equal(s, TUNNEL_MORE);
        tunnel_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect_request),
        cmocka_unit_test(longest_user_and_password),
        cmocka_unit_test(hosts_that_cannot_be_sent),
        cmocka_unit_test(opens_at_the_exact_byte),
        cmocka_unit_test(http_refusals),
        cmocka_unit_test(answer_without_end),
        cmocka_unit_test(socks_without_user),
        cmocka_unit_test(socks_with_user),
        cmocka_unit_test(socks_longest_bound_name),
        cmocka_unit_test(socks_refusals),
        cmocka_unit_test(noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
