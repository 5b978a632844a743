#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pcap/dlt.h>

#include "agent/syn_parse.h"

/* Frames are put together from parts; what a part is stands beside it. */

static uint8_t frame[512];
static size_t len;

static void begin(void)
{
    len = 0;
}

static void put(const void *p, size_t n)
{
    assert_true(len + n <= sizeof frame);
    if (n > 0) /* nothing may be NULL, which memcpy() does not take */
        memcpy(frame + len, p, n);
    len += n;
}

#define PUT(...) put((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void ethernet(unsigned type)
{
    PUT(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, (uint8_t)(type >> 8), (uint8_t)type);
}

static void tag(unsigned vlan, unsigned type)
{
    PUT((uint8_t)(vlan >> 8), (uint8_t)vlan, (uint8_t)(type >> 8), (uint8_t)type);
}

/* `words` of IP options, all NOP. */
static void ipv4(unsigned words, unsigned fragment, unsigned protocol)
{
    PUT((uint8_t)(0x45 + words), 0, 0, 80, 0, 1, (uint8_t)(fragment >> 8), (uint8_t)fragment, 255,
        (uint8_t)protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7);
    for (unsigned i = 0; i < words; i++)
        PUT(1, 1, 1, 1);
}

static void ipv6_from(const uint8_t from[16], unsigned next)
{
    static const uint8_t to[16] = {0x20, 1, 0x0d, 0xb8, [15] = 2};
    PUT(0x60, 0, 0, 0, 0, 60, (uint8_t)next, 255);
    put(from, 16);
    put(to, 16);
}

static void ipv6(unsigned next)
{
    static const uint8_t from[16] = {0x20, 1, 0x0d, 0xb8, [15] = 1};
    ipv6_from(from, next);
}

static const uint8_t mss[] = {2, 4, 5, 0xb4};
static const uint8_t md5[] = {1, 1, 19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* From port 50000 to 179; the options' length is a multiple of 4. */
static void tcp(unsigned flags, const uint8_t *options, size_t n)
{
    PUT(0xc3, 0x50, 0, 179, 1, 2, 3, 4, 0, 0, 0, 0, (uint8_t)((5 + n / 4) << 4), (uint8_t)flags, 255, 255, 0,
        0, 0, 0);
    put(options, n);
}

static void signed_syn(void)
{
    uint8_t options[sizeof mss + sizeof md5];
    memcpy(options, mss, sizeof mss);
    memcpy(options + sizeof mss, md5, sizeof md5);
    tcp(2, options, sizeof options);
}

static struct syn syn;

static bool parse(enum syn_link link)
{
    return syn_parse(link, frame, len, 7, &syn);
}

static void expect(const char *device, const char *local)
{
    char text[ADDR_TEXT_MAX];
    assert_string_equal(addr_text(&syn.device, text), device);
    assert_string_equal(addr_text(&syn.local, text), local);
}

#define V4_DEVICE "192.0.2.1:50000"
#define V4_LOCAL  "198.51.100.7:179"
#define V6_DEVICE "[2001:db8::1]:50000"
#define V6_LOCAL  "[2001:db8::2]:179"

static void test_ipv4(void **state)
{
    (void)state;
    begin();
    ethernet(0x0800);
    ipv4(0, 0x4000, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_ETHERNET));
    expect(V4_DEVICE, V4_LOCAL);
    assert_true(syn.md5);
    assert_int_equal(syn.seq, 0x01020304);
    assert_int_equal(syn.device.scope, 0);

    begin();
    ethernet(0x0800);
    ipv4(10, 0, 6); /* the longest header */
    signed_syn();
    assert_true(parse(SYN_LINK_ETHERNET) && syn.md5);
}

static void test_ipv6(void **state)
{
    (void)state;
    begin();
    ethernet(0x86dd);
    ipv6(6);
    signed_syn();
    assert_true(parse(SYN_LINK_ETHERNET));
    expect(V6_DEVICE, V6_LOCAL);
    assert_true(syn.md5);
}

static void test_extension_headers(void **state)
{
    (void)state;
    begin();
    ethernet(0x86dd);
    ipv6(0);
    PUT(60, 0, 1, 4, 0, 0, 0, 0);                         /* hop-by-hop, 8 bytes */
    PUT(43, 1, 1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0); /* destination, 16 bytes */
    PUT(51, 0, 0, 0, 0, 0, 0, 0);                         /* routing */
    PUT(44, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
        12);                     /* authentication: (4 + 2) × 4 */
    PUT(6, 0, 0, 1, 0, 0, 0, 9); /* fragment: the first one */
    signed_syn();
    assert_true(parse(SYN_LINK_ETHERNET));
    expect(V6_DEVICE, V6_LOCAL);
    assert_true(syn.md5);

    begin();
    ethernet(0x86dd);
    ipv6(44);
    PUT(6, 0, 0, 8, 0, 0, 0, 9); /* a later fragment: what looks like TCP is its data */
    signed_syn();
    assert_false(parse(SYN_LINK_ETHERNET));

    begin();
    ethernet(0x86dd);
    ipv6(50); /* ESP: nothing to be seen behind it */
    PUT(6, 0, 0, 0, 0, 0, 0, 0);
    signed_syn();
    assert_false(parse(SYN_LINK_ETHERNET));

    begin();
    ethernet(0x86dd);
    ipv6(60);
    for (int i = 0; i < 20; i++)
        PUT(60, 0, 1, 4, 0, 0, 0, 0); /* without end */
    signed_syn();
    assert_false(parse(SYN_LINK_ETHERNET));
}

static void test_tags(void **state)
{
    (void)state;
    begin();
    ethernet(0x8100);
    tag(100, 0x0800);
    ipv4(0, 0, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_ETHERNET) && syn.md5);
    expect(V4_DEVICE, V4_LOCAL);

    begin();
    ethernet(0x88a8);
    tag(100, 0x8100);
    tag(200, 0x86dd);
    ipv6(6);
    signed_syn();
    assert_true(parse(SYN_LINK_ETHERNET) && syn.md5);
    expect(V6_DEVICE, V6_LOCAL);
}

static void test_cooked(void **state)
{
    (void)state;
    begin();
    PUT(0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x08, 0x00);
    ipv4(0, 0, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_SLL) && syn.md5);
    expect(V4_DEVICE, V4_LOCAL);

    begin();
    PUT(0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x81, 0x00);
    tag(5, 0x0800);
    ipv4(0, 0, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_SLL) && syn.md5);

    /* The type is the one behind the tag. */
    begin();
    PUT(0x86, 0xdd, 0, 0, 0, 0, 0, 42, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0);
    tag(0x6005, 0x86dd);
    ipv6(6);
    signed_syn();
    assert_true(parse(SYN_LINK_SLL2) && syn.md5);
    expect(V6_DEVICE, V6_LOCAL);
    begin();
    PUT(0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x08, 0x00);
    tag(0x4500, 0x0800);
    ipv4(0, 0, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_SLL) && syn.md5);
    expect(V4_DEVICE, V4_LOCAL);
}

/* The frame says which interface, and a link-local device is one there. */
static void test_link_local(void **state)
{
    static const uint8_t from[16] = {0xfe, 0x80, [15] = 1};
    (void)state;
    begin();
    PUT(0x86, 0xdd, 0, 0, 0, 0, 0, 42, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0);
    ipv6_from(from, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_SLL2) && syn.md5);
    assert_int_equal(syn.device.scope, 42);
    assert_int_equal(syn.local.scope, 0);

    begin();
    ethernet(0x86dd);
    ipv6_from(from, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_ETHERNET));
    assert_int_equal(syn.device.scope, 7);
}

static void test_no_header(void **state)
{
    (void)state;
    begin();
    ipv6(6);
    signed_syn();
    assert_true(parse(SYN_LINK_RAW) && syn.md5);
    expect(V6_DEVICE, V6_LOCAL);

    begin();
    PUT(2, 0, 0, 0);
    ipv4(0, 0, 6);
    signed_syn();
    assert_true(parse(SYN_LINK_NULL) && syn.md5);
}

static void ipv4_tcp(unsigned flags, const uint8_t *options, size_t n)
{
    begin();
    ethernet(0x0800);
    ipv4(0, 0, 6);
    tcp(flags, options, n);
}

static void test_options(void **state)
{
    static const uint8_t end_first[] = {0, 0, 0, 0,  19, 18, 1,  2,  3,  4,  5, 6,
                                        7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 0};
    static const uint8_t wrong_len[] = {19, 4, 0, 0};
    static const uint8_t inside[] = {254, 8, 19, 18, 19, 18, 1, 1};
    static const uint8_t zero_len[] = {2, 0, 1, 1};
    static const uint8_t too_long[] = {1, 1, 19, 18};
    (void)state;
    ipv4_tcp(2, NULL, 0);
    assert_true(parse(SYN_LINK_ETHERNET) && !syn.md5);
    ipv4_tcp(2, mss, sizeof mss);
    assert_true(parse(SYN_LINK_ETHERNET) && !syn.md5);
    ipv4_tcp(2, md5, sizeof md5);
    assert_true(parse(SYN_LINK_ETHERNET) && syn.md5);
    ipv4_tcp(2, end_first, sizeof end_first);
    assert_true(parse(SYN_LINK_ETHERNET) && !syn.md5);
    ipv4_tcp(2, wrong_len, sizeof wrong_len);
    assert_true(parse(SYN_LINK_ETHERNET) && !syn.md5);
    ipv4_tcp(2, inside, sizeof inside);
    assert_true(parse(SYN_LINK_ETHERNET) && !syn.md5);
    ipv4_tcp(2, zero_len, sizeof zero_len);
    assert_false(parse(SYN_LINK_ETHERNET));
    ipv4_tcp(2, too_long, sizeof too_long);
    assert_false(parse(SYN_LINK_ETHERNET));
}

static void test_others(void **state)
{
    (void)state;
    ipv4_tcp(0x12, md5, sizeof md5); /* SYN and ACK */
    assert_false(parse(SYN_LINK_ETHERNET));
    ipv4_tcp(0x10, md5, sizeof md5);
    assert_false(parse(SYN_LINK_ETHERNET));
    ipv4_tcp(0xc2, md5, sizeof md5); /* SYN with ECN */
    assert_true(parse(SYN_LINK_ETHERNET));

    begin();
    ethernet(0x0800);
    ipv4(0, 0, 17);
    signed_syn();
    assert_false(parse(SYN_LINK_ETHERNET));

    begin();
    ethernet(0x0800);
    ipv4(0, 5, 6); /* not the first fragment */
    signed_syn();
    assert_false(parse(SYN_LINK_ETHERNET));

    begin();
    ethernet(0x0806);
    ipv4(0, 0, 6);
    signed_syn();
    assert_false(parse(SYN_LINK_ETHERNET));

    begin();
    ethernet(0x86dd);
    ipv6_from((const uint8_t[16]){[10] = 0xff, 0xff, 192, 0, 2, 1}, 6); /* ::ffff:192.0.2.1 */
    signed_syn();
    assert_false(parse(SYN_LINK_ETHERNET));
}

/* Cut anywhere, it is no SYN, and nothing beyond the end is read (the copy is of the exact size). */
static void test_cut(void **state)
{
    (void)state;
    begin();
    ethernet(0x8100);
    tag(1, 0x86dd);
    ipv6(0);
    PUT(6, 0, 1, 4, 0, 0, 0, 0);
    signed_syn();
    for (size_t n = 0; n < len; n++) {
        uint8_t *copy = test_malloc(n ? n : 1);
        memcpy(copy, frame, n);
        assert_false(syn_parse(SYN_LINK_ETHERNET, copy, n, 0, &syn));
        test_free(copy);
    }
    assert_true(parse(SYN_LINK_ETHERNET));
}

static void test_link_types(void **state)
{
    enum syn_link link;
    (void)state;
    assert_true(syn_link_of(DLT_EN10MB, &link) && link == SYN_LINK_ETHERNET);
    assert_true(syn_link_of(DLT_LINUX_SLL, &link) && link == SYN_LINK_SLL);
    assert_true(syn_link_of(DLT_LINUX_SLL2, &link) && link == SYN_LINK_SLL2);
    assert_true(syn_link_of(DLT_RAW, &link) && link == SYN_LINK_RAW);
    assert_false(syn_link_of(DLT_IEEE802_11_RADIO, &link));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ipv4),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_extension_headers),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_cooked),
        cmocka_unit_test(test_link_local),
        cmocka_unit_test(test_no_header),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_link_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
