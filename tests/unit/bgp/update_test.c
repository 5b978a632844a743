#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <stdio.h>

#include "bgp/update.h"

/* The body of an UPDATE, put together from its three fields. */
struct body {
    uint8_t bytes[8192];
    size_t n;
    struct bgp_update u;
};

#define B(literal) literal, sizeof literal - 1

static const struct bgp_update_mode as4 = {.as4 = true};
static const struct bgp_update_mode as2 = {0};

static enum bgp_verdict parse(struct body *b, const struct bgp_update_mode *mode, const char *withdrawn,
                              size_t wn, const char *attributes, size_t an, const char *nlri, size_t nn)
{
    uint8_t *p = put_u16(b->bytes, (uint16_t)wn);
    p = put_bytes(p, withdrawn, wn);
    p = put_u16(p, (uint16_t)an);
    p = put_bytes(p, attributes, an);
    p = put_bytes(p, nlri, nn);
    b->n = (size_t)(p - b->bytes);
    /* On the heap and exact, so that the address sanitizer sees a read beyond the end. */
    uint8_t *copy = malloc(b->n);
    memcpy(copy, b->bytes, b->n);
    struct bgp_update u;
    enum bgp_verdict verdict = bgp_update_parse(copy, b->n, mode, &u);
    assert_int_equal(verdict, u.verdict);
    assert_int_equal(u.why != NULL, verdict != BGP_VERDICT_OK);
    free(copy);
    assert_int_equal(bgp_update_parse(b->bytes, b->n, mode, &b->u), verdict);
    return verdict;
}

static void prefixes_are(const struct bgp_routes *r, const char *want)
{
    char all[1024] = "";
    struct bgp_prefix prefix;
    for (struct bgp_prefix_walk w = bgp_prefixes(r); bgp_prefix_next(&w, &prefix);) {
        char text[BGP_PREFIX_TEXT_MAX];
        size_t len = strlen(all), n = bgp_prefix_text(&prefix, text);
        snprintf(all + len, sizeof all - len, "%s%.*s", len ? " " : "", (int)n, text);
        if (r->add_path) {
            len = strlen(all);
            snprintf(all + len, sizeof all - len, "#%u", prefix.path_id);
        }
    }
    assert_string_equal(all, want);
}

static void path_is(const struct bgp_update *u, const char *want)
{
    static const char opens[] = "?{<([", closes[] = "?}>)]"; /* by segment type */
    char all[1024] = "";
    struct bgp_hop hop;
    for (struct bgp_path_walk w = bgp_path(u); bgp_path_next(&w, &hop);) {
        size_t len = strlen(all);
        snprintf(all + len, sizeof all - len, "%s%.1s%u%.1s", len ? " " : "",
                 hop.first ? &opens[hop.segment] : "", hop.asn, hop.last ? &closes[hop.segment] : "");
    }
    assert_string_equal(all, want);
}

#define ORIGIN   "\x40\x01\x01\x00"
#define PATH4    "\x40\x02\x06\x02\x01\x00\x00\xfd\xe9"
#define PATH2    "\x40\x02\x04\x02\x01\xfd\xe9"
#define NEXT_HOP "\x40\x03\x04\xc0\x00\x02\x01"
#define GOOD     ORIGIN PATH4 NEXT_HOP

static void plain(void **state)
{
    (void)state;
    struct body b;
    assert_int_equal(parse(&b, &as4, B("\x18\x0a\x01\x02\x00"),
                           B(GOOD "\x80\x04\x04\x00\x00\x00\x07"
                                  "\x40\x05\x04\x00\x00\x00\x64"
                                  "\xc0\x08\x08\xfd\xe8\x00\x01\xff\xff\xff\x01"
                                  "\xe0\x20\x0c\x00\x00\xfd\xe8\x00\x00\x00\x01\x00\x00\x00\x02"),
                           B("\x18\x0a\x00\x00\x11\x0a\x01\xff\x20\xc0\x00\x02\x01")),
                     BGP_VERDICT_OK);
    prefixes_are(&b.u.withdrawn, "10.1.2.0/24 0.0.0.0/0");
    prefixes_are(&b.u.announced, "10.0.0.0/24 10.1.128.0/17 192.0.2.1/32");
    path_is(&b.u, "<65001>");
    assert_int_equal(b.u.origin, BGP_ORIGIN_IGP);
    assert_memory_equal(b.u.next_hop, "\xc0\x00\x02\x01", 4);
    assert_true(b.u.has_med && b.u.med == 7);
    assert_true(b.u.has_local_pref && b.u.local_pref == 100);
    assert_int_equal(b.u.community_count, 2);
    assert_int_equal(b.u.large_community_count, 1);
    assert_false(b.u.mp_announced.present || b.u.mp_withdrawn.present || b.u.end_of_rib);
}

/* LOCAL_PREF from an eBGP neighbour is none, however it looks. */
static void external(void **state)
{
    (void)state;
    struct body b;
    struct bgp_update_mode mode = {.as4 = true, .external = true};
    assert_int_equal(parse(&b, &mode, B(""), B(GOOD "\x40\x05\x03\x00\x00\x64"), B("\x08\x0a")),
                     BGP_VERDICT_OK);
    assert_false(b.u.has_local_pref);
    assert_int_equal(parse(&b, &as4, B(""), B(GOOD "\x40\x05\x03\x00\x00\x64"), B("\x08\x0a")),
                     BGP_VERDICT_WITHDRAW);
}

static void multiprotocol(void **state)
{
    (void)state;
    struct body b;
#define GLOBAL "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define LOCAL  "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"
    assert_int_equal(parse(&b, &as4, B(""),
                           B("\x90\x0e\x00\x2b\x00\x02\x01\x20" GLOBAL LOCAL
                             "\x00\x20\x20\x01\x0d\xb8\x00" ORIGIN PATH4 "\x80\x0f\x05\x00\x02\x01\x07\xfe"),
                           B("")),
                     BGP_VERDICT_OK);
    prefixes_are(&b.u.mp_announced, "2001:db8::/32 ::/0");
    prefixes_are(&b.u.mp_withdrawn, "fe00::/7");
    assert_int_equal(b.u.mp_next_hop_len, 32);
    assert_memory_equal(b.u.mp_next_hop, GLOBAL, 16);

    /* IPv4 routes in the attribute, with an IPv6 next hop: RFC 8950 */
    assert_int_equal(parse(&b, &as4, B(""),
                           B("\x80\x0e\x18\x00\x01\x01\x10" GLOBAL "\x00\x10\x0a\x01" ORIGIN PATH4), B("")),
                     BGP_VERDICT_OK);
    prefixes_are(&b.u.mp_announced, "10.1.0.0/16");

    /* Another family, here VPNv4, is bytes. */
    assert_int_equal(
        parse(&b, &as4, B(""),
              B("\x80\x0e\x15\x00\x01\x80\x0c\0\0\0\0\0\0\0\0\x01\x02\x03\x04\x00\xff\xff\xff\xff" ORIGIN
                    PATH4),
              B("")),
        BGP_VERDICT_OK);
    assert_true(b.u.mp_announced.present);
    assert_false(b.u.mp_announced.decoded);
    assert_int_equal(b.u.mp_announced.safi, 128);
    assert_int_equal(b.u.mp_announced.len, 4);
    prefixes_are(&b.u.mp_announced, "");
}

static void add_path(void **state)
{
    (void)state;
    struct body b;
    struct bgp_update_mode mode = {.as4 = true, .add_path_ipv4 = true};
    assert_int_equal(
        parse(&b, &mode, B("\0\0\0\x09\x08\x0b"), B(GOOD), B("\0\0\0\x01\x08\x0a\0\0\0\x02\x08\x0a")),
        BGP_VERDICT_OK);
    prefixes_are(&b.u.announced, "10.0.0.0/8#1 10.0.0.0/8#2");
    prefixes_are(&b.u.withdrawn, "11.0.0.0/8#9");
    assert_int_equal(parse(&b, &mode, B(""), B(GOOD), B("\0\0\0")), BGP_VERDICT_RESET);
}

static void end_of_rib(void **state)
{
    (void)state;
    struct body b;
    assert_int_equal(parse(&b, &as4, B(""), B(""), B("")), BGP_VERDICT_OK);
    assert_true(b.u.end_of_rib);
    assert_int_equal(b.u.end_of_rib_family.afi, 1);
    assert_int_equal(b.u.end_of_rib_family.safi, 1);

    assert_int_equal(parse(&b, &as4, B(""), B("\x80\x0f\x03\x00\x02\x01"), B("")), BGP_VERDICT_OK);
    assert_true(b.u.end_of_rib);
    assert_int_equal(b.u.end_of_rib_family.afi, 2);

    assert_int_equal(parse(&b, &as4, B(""), B("\x90\x0f\x00\x03\x40\x04\x47"), B("")), BGP_VERDICT_OK);
    assert_true(b.u.end_of_rib);
    assert_int_equal(b.u.end_of_rib_family.afi, 0x4004);
    assert_int_equal(b.u.end_of_rib_family.safi, 71);

    assert_int_equal(parse(&b, &as4, B("\x00"), B("\x80\x0f\x03\x00\x02\x01"), B("")), BGP_VERDICT_OK);
    assert_false(b.u.end_of_rib);
    assert_int_equal(parse(&b, &as4, B(""), B("\x80\x0f\x04\x00\x02\x01\x00"), B("")), BGP_VERDICT_OK);
    assert_false(b.u.end_of_rib);
}

static void as_paths(void **state)
{
    (void)state;
    struct body b;
    /* iBGP: empty */
    assert_int_equal(parse(&b, &as4, B(""), B(ORIGIN "\x40\x02\x00" NEXT_HOP), B("\x08\x0a")),
                     BGP_VERDICT_OK);
    path_is(&b.u, "");
    /* all kinds of segment */
    assert_int_equal(
        parse(&b, &as2, B(""),
              B(ORIGIN
                "\x40\x02\x14\x03\x01\0\x01\x04\x01\0\x02\x02\x02\0\x03\0\x04\x01\x02\0\x05\0\x06" NEXT_HOP),
              B("\x08\x0a")),
        BGP_VERDICT_OK);
    path_is(&b.u, "(1) [2] <3 4> {5 6}");
    /* put together: AS_TRANS is replaced, what the old speakers added in front stays */
#define AS4PATH "\xc0\x11\x0a\x02\x02\x00\x01\x00\x00\x00\x00\x00\x07"
#define OLDPATH "\x40\x02\x08\x02\x03\x00\x09\x5b\xa0\x00\x07"
    assert_int_equal(parse(&b, &as2, B(""), B(ORIGIN OLDPATH NEXT_HOP AS4PATH), B("\x08\x0a")),
                     BGP_VERDICT_OK);
    path_is(&b.u, "<9> <65536 7>");
    /* equally long: all of it */
    assert_int_equal(parse(&b, &as2, B(""), B(ORIGIN "\x40\x02\x06\x02\x02\x5b\xa0\x00\x07" NEXT_HOP AS4PATH),
                           B("\x08\x0a")),
                     BGP_VERDICT_OK);
    path_is(&b.u, "<65536 7>");
    /* longer than the AS_PATH: ignored */
    assert_int_equal(parse(&b, &as2, B(""), B(ORIGIN PATH2 NEXT_HOP AS4PATH), B("\x08\x0a")), BGP_VERDICT_OK);
    path_is(&b.u, "<65001>");
    /* a set counts as one */
    assert_int_equal(
        parse(&b, &as2, B(""),
              B(ORIGIN "\x40\x02\x0e\x01\x02\0\x01\0\x02\x02\x03\0\x09\x5b\xa0\0\x07" NEXT_HOP AS4PATH),
              B("\x08\x0a")),
        BGP_VERDICT_OK);
    path_is(&b.u, "{1 2} <9> <65536 7>");
    /* an old speaker aggregated after a new one */
#define AGGREGATORS(as) "\xc0\x07\x06" as "\x01\x01\x01\x01\xc0\x12\x08\x00\x01\x00\x00\x01\x01\x01\x01"
    assert_int_equal(
        parse(&b, &as2, B(""), B(ORIGIN OLDPATH NEXT_HOP AS4PATH AGGREGATORS("\x00\x09")), B("\x08\x0a")),
        BGP_VERDICT_OK);
    path_is(&b.u, "<9 23456 7>");
    assert_int_equal(
        parse(&b, &as2, B(""), B(ORIGIN OLDPATH NEXT_HOP AS4PATH AGGREGATORS("\x5b\xa0")), B("\x08\x0a")),
        BGP_VERDICT_OK);
    path_is(&b.u, "<9> <65536 7>");
    /* new speakers have no business with it */
    assert_int_equal(parse(&b, &as4, B(""), B(GOOD AS4PATH), B("\x08\x0a")), BGP_VERDICT_OK);
    path_is(&b.u, "<65001>");
}

/* Each row: attributes of an UPDATE that announces 10.0.0.0/8, and what must come of it. */
static void attribute_errors(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        enum bgp_verdict verdict;
        int attribute;
    } rows[] = {
        {B(GOOD), BGP_VERDICT_OK, 0},
        {B(PATH4 NEXT_HOP), BGP_VERDICT_WITHDRAW, 1},
        {B(ORIGIN NEXT_HOP), BGP_VERDICT_WITHDRAW, 2},
        {B(ORIGIN PATH4), BGP_VERDICT_WITHDRAW, 3},
        {B("\x40\x01\x01\x03" PATH4 NEXT_HOP), BGP_VERDICT_WITHDRAW, 1},
        {B("\x40\x01\x02\x00\x00" PATH4 NEXT_HOP), BGP_VERDICT_WITHDRAW, 1},
        {B("\x40\x01\x00" PATH4 NEXT_HOP), BGP_VERDICT_WITHDRAW, 1},
        {B("\xc0\x01\x01\x00" PATH4 NEXT_HOP), BGP_VERDICT_WITHDRAW, 1},
        {B(ORIGIN PATH2 NEXT_HOP), BGP_VERDICT_WITHDRAW, 2},
        {B(ORIGIN "\x40\x02\x06\x07\x01\0\0\0\x01" NEXT_HOP), BGP_VERDICT_WITHDRAW, 2},
        {B(ORIGIN "\x40\x02\x02\x02\x00" NEXT_HOP), BGP_VERDICT_WITHDRAW, 2},
        {B(ORIGIN "\x40\x02\x01\x02" NEXT_HOP), BGP_VERDICT_WITHDRAW, 2},
        {B(ORIGIN PATH4 "\x40\x03\x03\x01\x02\x03"), BGP_VERDICT_WITHDRAW, 3},
        {B(GOOD "\x80\x04\x03\x01\x02\x03"), BGP_VERDICT_WITHDRAW, 4},
        {B(GOOD "\x40\x06\x01\x00"), BGP_VERDICT_DISCARD, 6},
        {B(GOOD "\x40\x06\x00"), BGP_VERDICT_OK, 0},
        {B(GOOD "\xc0\x07\x06\0\x01\x01\x01\x01\x01"), BGP_VERDICT_DISCARD, 7},
        {B(GOOD "\xc0\x07\x08\0\0\0\x01\x01\x01\x01\x01"), BGP_VERDICT_OK, 0},
        {B(GOOD "\xc0\x08\x00"), BGP_VERDICT_WITHDRAW, 8},
        {B(GOOD "\xc0\x08\x05\0\0\0\0\0"), BGP_VERDICT_WITHDRAW, 8},
        {B(GOOD "\x80\x08\x04\0\0\0\0"), BGP_VERDICT_WITHDRAW, 8},
        {B(GOOD "\xe0\x08\x04\0\0\0\0"), BGP_VERDICT_OK, 0}, /* Partial is fine */
        {B(GOOD "\x80\x09\x05\0\0\0\0\0"), BGP_VERDICT_WITHDRAW, 9},
        {B(GOOD "\x80\x0a\x00"), BGP_VERDICT_WITHDRAW, 10},
        {B(GOOD "\xc0\x10\x08\0\0\0\0\0\0\0\0"), BGP_VERDICT_OK, 0},
        {B(GOOD "\xc0\x10\x07\0\0\0\0\0\0\0"), BGP_VERDICT_WITHDRAW, 16},
        {B(GOOD "\xc0\x20\x0b\0\0\0\0\0\0\0\0\0\0\0"), BGP_VERDICT_WITHDRAW, 32},
        {B(GOOD "\xc0\x63\x02\0\0"), BGP_VERDICT_OK, 0},                         /* unknown, optional */
        {B(GOOD "\x40\x63\x02\0\0"), BGP_VERDICT_WITHDRAW, 99},                  /* unknown, well-known */
        {B(GOOD ORIGIN), BGP_VERDICT_DISCARD, 1},                                /* twice */
        {B(GOOD "\xc0\x63\x09\0\0"), BGP_VERDICT_WITHDRAW, 99},                  /* beyond the end */
        {B(GOOD "\xc0"), BGP_VERDICT_WITHDRAW, 0},                               /* not even a header */
        {B(GOOD "\xd0\x63\x00"), BGP_VERDICT_WITHDRAW, 99},                      /* half an extended length */
        {B(GOOD "\x80\x0e\x02\0\x02"), BGP_VERDICT_RESET, 14},                   /* too short */
        {B(GOOD "\x80\x0e\x05\0\x02\x01\x10\0"), BGP_VERDICT_RESET, 14},         /* next hop beyond the end */
        {B(GOOD "\x80\x0e\x09\0\x02\x01\x04\1\2\3\4\0"), BGP_VERDICT_RESET, 14}, /* IPv4 next hop */
        {B(GOOD "\x80\x0e\x0a\0\x01\x01\x04\1\2\3\4\0\x21"), BGP_VERDICT_RESET, 14}, /* /33 */
        {B(GOOD "\x80\x09\x04\0\0\0\0\x80\x0a\x08\0\0\0\0\0\0\0\0"), BGP_VERDICT_OK, 0},
        {B(GOOD "\x80\x0f\x02\0\x02"), BGP_VERDICT_RESET, 15},
        {B(GOOD "\x80\x0f\x04\0\x02\x01\x81"), BGP_VERDICT_RESET, 15}, /* /129 */
        {B(GOOD "\x80\x0f\x04\0\x02\x01\x08"), BGP_VERDICT_RESET, 15}, /* no byte follows */
        {B(GOOD "\x80\x0f\x03\0\x02\x01\x80\x0f\x03\0\x02\x01"), BGP_VERDICT_RESET, 15},
        {B(GOOD "\xc0\x0f\x03\0\x02\x01"), BGP_VERDICT_WITHDRAW, 15},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct body b;
        enum bgp_verdict verdict = parse(&b, &as4, B(""), rows[i].bytes, rows[i].n, B("\x08\x0a"));
        if (verdict != rows[i].verdict || b.u.bad_attribute != rows[i].attribute)
            print_error("row %zu: verdict %d, attribute %d\n", i, verdict, b.u.bad_attribute);
        assert_int_equal(verdict, rows[i].verdict);
        assert_int_equal(b.u.bad_attribute, rows[i].attribute);
        if (verdict != BGP_VERDICT_RESET)
            prefixes_are(&b.u.announced, "10.0.0.0/8");
        else
            assert_int_equal(b.u.fault.code, BGP_ERROR_UPDATE);
    }
    /* A malformed AS4_PATH of an old speaker is left out. */
    struct body b;
    assert_int_equal(
        parse(&b, &as2, B(""), B(ORIGIN PATH2 NEXT_HOP "\xc0\x11\x03\x02\x01\x00"), B("\x08\x0a")),
        BGP_VERDICT_DISCARD);
    path_is(&b.u, "<65001>");
}

static void framing_errors(void **state)
{
    (void)state;
    struct body b;
    assert_int_equal(parse(&b, &as4, B("\x21\1\2\3\4\5"), B(""), B("")), BGP_VERDICT_RESET);
    assert_int_equal(b.u.fault.subcode, 10);
    assert_int_equal(parse(&b, &as4, B("\x18\x0a"), B(""), B("")), BGP_VERDICT_RESET);
    assert_int_equal(parse(&b, &as4, B(""), B(GOOD), B("\x20\x0a")), BGP_VERDICT_RESET);
    assert_int_equal(b.u.fault.subcode, 10);

    struct bgp_update u;
    static const uint8_t long_withdrawn[] = {0, 9, 0, 0};
    static const uint8_t long_attributes[] = {0, 0, 0, 9};
    assert_int_equal(bgp_update_parse(long_withdrawn, 4, &as4, &u), BGP_VERDICT_RESET);
    assert_int_equal(u.fault.subcode, 1);
    assert_int_equal(bgp_update_parse(long_attributes, 4, &as4, &u), BGP_VERDICT_RESET);
    assert_int_equal(bgp_update_parse(long_attributes, 0, &as4, &u), BGP_VERDICT_RESET);
    assert_int_equal(bgp_update_parse(long_attributes, 3, &as4, &u), BGP_VERDICT_RESET);
}

static void no_attributes_needed(void **state)
{
    (void)state;
    struct body b;
    assert_int_equal(parse(&b, &as4, B("\x08\x0a"), B(""), B("")), BGP_VERDICT_OK);
    prefixes_are(&b.u.withdrawn, "10.0.0.0/8");
    assert_int_equal(parse(&b, &as4, B(""), B("\x80\x0f\x05\0\x02\x01\x08\x20"), B("")), BGP_VERDICT_OK);
}

static void texts(void **state)
{
    (void)state;
    srand(1);
    for (int i = 0; i < 200000; i++) {
        uint8_t ip[16];
        for (int j = 0; j < 16; j++) {
            int r = rand();
            ip[j] = r & 1 ? 0 : r & 2 ? 0xff : (uint8_t)(r >> 8);
        }
        if (i % 4 == 0)
            memset(ip, 0, (size_t)(rand() % 17));
        char want[INET6_ADDRSTRLEN], got[BGP_IP_TEXT_MAX];
        size_t n = bgp_ip_text(BGP_AFI_IPV6, ip, got);
        inet_ntop(AF_INET6, ip, want, sizeof want);
        assert_int_equal(n, strlen(want));
        assert_memory_equal(got, want, n);
        n = bgp_ip_text(BGP_AFI_IPV4, ip, got);
        inet_ntop(AF_INET, ip, want, sizeof want);
        assert_int_equal(n, strlen(want));
        assert_memory_equal(got, want, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain),
        cmocka_unit_test(external),
        cmocka_unit_test(multiprotocol),
        cmocka_unit_test(add_path),
        cmocka_unit_test(end_of_rib),
        cmocka_unit_test(as_paths),
        cmocka_unit_test(attribute_errors),
        cmocka_unit_test(framing_errors),
        cmocka_unit_test(no_attributes_needed),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
