#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/addr.h"

#include <arpa/inet.h>
#include <net/if.h>

static const char *text_of(const char *in, uint16_t default_port)
{
    static char out[ADDR_TEXT_MAX];
    struct addr a;
    return addr_parse(&a, in, default_port) ? addr_text(&a, out) : "(refused)";
}

static void parses_addresses_with_and_without_port(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"192.0.2.1", "192.0.2.1:179"},
        {"192.0.2.1:1790", "192.0.2.1:1790"},
        {"192.0.2.1:0", "192.0.2.1:0"},
        {"192.0.2.1:65535", "192.0.2.1:65535"},
        {"2001:db8::1", "[2001:db8::1]:179"},
        {"[2001:DB8:0:0::1]", "[2001:db8::1]:179"},
        {"[2001:db8::1]:1790", "[2001:db8::1]:1790"},
        {"2001:db8::1:179", "[2001:db8::1:179]:179"}, /* an address: a port needs brackets */
        {"[::]:179", "[::]:179"},
        {"::ffff:192.0.2.1", "192.0.2.1:179"},
        {"[::ffff:192.0.2.1]:7", "192.0.2.1:7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(text_of(cases[i].in, 179), cases[i].out);
}

static void refuses_what_is_no_address(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        ":",
        ":179",
        "host",
        "host:179",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:+1",
        "192.0.2.1: 1",
        "192.0.2.1:1x",
        "192.0.2.1:99999999999999999999",
        "[192.0.2.1]",
        "[192.0.2.1]:179",
        "[]",
        "[]:179",
        "[::1",
        "::1]",
        "[::1]179",
        "2001:db8::1%lo",
        "fe80::1%",
        "fe80::1%-1",
        "fe80::1%1x",
        "fe80::1%0",
        "fe80::1%99999999999999999999",
        "192.0.2.1%lo",
        "1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111:1",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(text_of(cases[i], 179), "(refused)") != 0)
            fail_msg("\"%s\" was taken as %s", cases[i], text_of(cases[i], 179));
}

static void zone_is_an_interface(void **state)
{
    (void)state;
    unsigned lo = if_nametoindex("lo");
    if (lo == 0)
        skip();
    char by_number[32];
    snprintf(by_number, sizeof by_number, "[fe80::1%%%u]:7", lo);
    assert_string_equal(text_of("fe80::1%lo", 179), "[fe80::1%lo]:179");
    assert_string_equal(text_of(by_number, 179), "[fe80::1%lo]:7");
    /* An interface that went away, or that another host has. */
    assert_string_equal(text_of("fe80::1%4294967294", 179), "[fe80::1%4294967294]:179");
}

static void sockaddr_and_back(void **state)
{
    (void)state;
    static const char *const cases[] = {"192.0.2.1:179", "[2001:db8::1]:179", "[fe80::1%4294967294]:1"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct addr a, b;
        struct sockaddr_storage ss;
        char out[ADDR_TEXT_MAX];
        assert_true(addr_parse(&a, cases[i], 0));
        socklen_t len = addr_to_sockaddr(&a, &ss);
        assert_int_equal(len, a.family == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        assert_true(addr_from_sockaddr(&b, (struct sockaddr *)&ss));
        assert_memory_equal(&a, &b, sizeof a);
        assert_string_equal(addr_text(&b, out), cases[i]);
    }
}

static void writes_every_number(void **state)
{
    (void)state;
    for (unsigned n = 0; n <= 65535; n++) {
        struct addr v4 = {.family = 4,
                          .port = (uint16_t)n,
                          .ip = {(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n + 1), (uint8_t)~n}};
        struct addr v6 = {.family = 6, .port = (uint16_t)n, .ip = {[15] = 1}};
        char out[ADDR_TEXT_MAX], ip[INET_ADDRSTRLEN], expected[64];
        assert_non_null(inet_ntop(AF_INET, v4.ip, ip, sizeof ip));
        assert_string_equal(addr_ip_text(&v4, out), ip);
        snprintf(expected, sizeof expected, "%s:%u", ip, n);
        assert_string_equal(addr_text(&v4, out), expected);
        snprintf(expected, sizeof expected, "[::1]:%u", n);
        assert_string_equal(addr_text(&v6, out), expected);
    }
    struct addr none = {.port = 179};
    char out[ADDR_TEXT_MAX];
    assert_string_equal(addr_text(&none, out), ":179");
}

static void mapped_sockaddr_is_folded(void **state)
{
    (void)state;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(179), .sin6_scope_id = 3};
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.1", &in6.sin6_addr), 1);
    struct addr mapped, plain;
    assert_true(addr_from_sockaddr(&mapped, (struct sockaddr *)&in6));
    assert_true(addr_parse(&plain, "192.0.2.1:179", 0));
    assert_memory_equal(&mapped, &plain, sizeof plain);
    assert_int_equal(addr_ip_hash(&mapped, 1), addr_ip_hash(&plain, 1));

    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false(addr_from_sockaddr(&mapped, &local));
}

static void compares_without_port(void **state)
{
    (void)state;
    struct addr a, b, c;
    addr_parse(&a, "192.0.2.1:1", 0);
    addr_parse(&b, "192.0.2.1:2", 0);
    addr_parse(&c, "192.0.2.2:1", 0);
    assert_true(addr_same_ip(&a, &b));
    assert_false(addr_same_ip(&a, &c));
    assert_int_equal(addr_ip_hash(&a, 7), addr_ip_hash(&b, 7));
    assert_true(addr_ip_hash(&a, 7) != addr_ip_hash(&c, 7));
    assert_true(addr_ip_hash(&a, 7) != addr_ip_hash(&a, 8));

    struct addr none = {0};
    char out[ADDR_TEXT_MAX];
    assert_string_equal(addr_ip_text(&none, out), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_addresses_with_and_without_port),
        cmocka_unit_test(refuses_what_is_no_address),
        cmocka_unit_test(zone_is_an_interface),
        cmocka_unit_test(sockaddr_and_back),
        cmocka_unit_test(writes_every_number),
        cmocka_unit_test(mapped_sockaddr_is_folded),
        cmocka_unit_test(compares_without_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
