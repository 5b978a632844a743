#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "bgp/message.h"

static const uint8_t keepalive[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,    19,   4};

static void check_header(unsigned len, unsigned type, bool extended, int subcode)
{
    uint8_t bytes[19];
    memset(bytes, 0xff, 16);
    put_u16(bytes + 16, (uint16_t)len);
    bytes[18] = (uint8_t)type;
    struct bgp_header h;
    struct bgp_fault f;
    bool ok = bgp_header_check(bytes, extended, &h, &f);
    assert_int_equal(h.len, len);
    assert_int_equal(h.type, type);
    assert_int_equal(ok, subcode == 0);
    if (ok)
        return;
    assert_int_equal(f.code, BGP_ERROR_HEADER);
    assert_int_equal(f.subcode, subcode);
    if (subcode == BGP_HEADER_LENGTH) {
        assert_int_equal(f.data_len, 2);
        assert_int_equal(f.data[0] << 8 | f.data[1], len);
    } else {
        assert_int_equal(f.data_len, 1);
        assert_int_equal(f.data[0], type);
    }
}

static void header(void **state)
{
    (void)state;
    check_header(19, BGP_KEEPALIVE, false, 0);
    check_header(20, BGP_KEEPALIVE, false, BGP_HEADER_LENGTH);
    check_header(29, BGP_OPEN, false, 0);
    check_header(28, BGP_OPEN, false, BGP_HEADER_LENGTH);
    check_header(23, BGP_UPDATE, false, 0);
    check_header(22, BGP_UPDATE, false, BGP_HEADER_LENGTH);
    check_header(21, BGP_NOTIFICATION, false, 0);
    check_header(20, BGP_NOTIFICATION, false, BGP_HEADER_LENGTH);
    check_header(23, BGP_ROUTE_REFRESH, false, 0);
    check_header(22, BGP_ROUTE_REFRESH, false, BGP_HEADER_LENGTH);
    check_header(4096, BGP_UPDATE, false, 0);
    check_header(4097, BGP_UPDATE, false, BGP_HEADER_LENGTH);
    check_header(65535, BGP_UPDATE, true, 0);
    check_header(65535, BGP_NOTIFICATION, true, 0);
    check_header(4097, BGP_OPEN, true, BGP_HEADER_LENGTH);
    check_header(18, 77, false, BGP_HEADER_LENGTH);
    check_header(19, 77, false, BGP_HEADER_TYPE);
    check_header(19, 0, false, BGP_HEADER_TYPE);
    check_header(23, 6, true, BGP_HEADER_TYPE);

    for (int i = 0; i < 16; i++) {
        uint8_t bytes[19];
        memcpy(bytes, keepalive, sizeof bytes);
        bytes[i] = 0xfe;
        struct bgp_header h;
        struct bgp_fault f;
        assert_false(bgp_header_check(bytes, false, &h, &f));
        assert_int_equal(f.subcode, BGP_HEADER_MARKER);
        assert_int_equal(f.data_len, 0);
    }
}

static void keepalive_bytes(void **state)
{
    (void)state;
    uint8_t out[BGP_HEADER_LEN];
    bgp_keepalive_encode(out);
    assert_memory_equal(out, keepalive, sizeof keepalive);
}

/* As BIRD 2 sends it: one parameter with every capability. */
static const uint8_t bird_open[] = {
    4,  0x5b, 0xa0, 0,    240,  192, 0,  2,   1,   48, 2, 46,  /* AS_TRANS */
    1,  4,    0,    1,    0,    1,   1,  4,   0,   2,  0, 1,   /* families */
    2,  0,    6,    0,    64,   6,   0,  120, 0,   1,  1, 128, /* refresh, extended, graceful restart */
    65, 4,    0xfa, 0x56, 0xea, 0,   69, 4,   0,   1,  1, 3,   /* AS 4200000000, add-path */
    73, 4,    2,    'r',  '1',  0,   70, 0,   200, 0,
};

static void open_decode(void **state)
{
    (void)state;
    struct bgp_open o;
    struct bgp_fault f;
    assert_int_equal(sizeof bird_open, 10 + 48);
    assert_true(bgp_open_decode(bird_open, sizeof bird_open, &o, &f));
    assert_int_equal(o.asn, 4200000000u);
    assert_int_equal(o.asn_2octet, BGP_AS_TRANS);
    assert_int_equal(o.hold_time, 240);
    assert_memory_equal(o.router_id, "\xc0\x00\x02\x01", 4);
    assert_true(o.as4 && o.route_refresh && o.enhanced_refresh && o.extended_message);
    assert_true(o.graceful_restart && o.add_path);
    assert_int_equal(o.family_count, 2);
    assert_true(bgp_open_has_family(&o, 1, 1));
    assert_true(bgp_open_has_family(&o, 2, 1));
    assert_false(bgp_open_has_family(&o, 1, 2));
    assert_int_equal(o.hostname.len, 2);
    assert_memory_equal(o.hostname.p, "r1", 2);
    assert_int_equal(o.domain.len, 0);

    /* The walk shows the raw ones, too. */
    struct bgp_capabilities it = bgp_capabilities(&o);
    struct bgp_capability cap;
    static const uint8_t codes[] = {1, 1, 2, 6, 64, 65, 69, 73, 70, 200};
    for (size_t i = 0; i < sizeof codes; i++) {
        assert_true(bgp_capabilities_next(&it, &cap));
        assert_int_equal(cap.code, codes[i]);
    }
    assert_false(bgp_capabilities_next(&it, &cap));
    assert_false(it.malformed || it.unknown);
}

static void open_bare(void **state)
{
    (void)state;
    static const uint8_t body[] = {4, 0xfd, 0xe8, 0, 0, 10, 0, 0, 1, 0};
    struct bgp_open o;
    struct bgp_fault f;
    assert_true(bgp_open_decode(body, sizeof body, &o, &f));
    assert_int_equal(o.asn, 65000);
    assert_int_equal(o.hold_time, 0);
    assert_false(o.as4);
    assert_int_equal(o.family_count, 0);
}

/* RFC 9072, also when it was not necessary; two parameters, one capability in each. */
static void open_extended(void **state)
{
    (void)state;
    static const uint8_t body[] = {4, 0x5b, 0xa0, 0, 90, 10, 0, 0, 1, 255, 255, 0, 16, 2, 0,
                                   6, 65,   4,    0, 1,  0,  9, 2, 0, 4,   70,  2, 7,  7};
    struct bgp_open o;
    struct bgp_fault f;
    assert_true(bgp_open_decode(body, sizeof body, &o, &f));
    assert_int_equal(o.asn, 65545);
    assert_true(o.enhanced_refresh);
    /* The one-octet length is ignored once the form is known. */
    uint8_t other[sizeof body];
    memcpy(other, body, sizeof body);
    other[9] = 1;
    assert_true(bgp_open_decode(other, sizeof other, &o, &f));
    assert_int_equal(o.asn, 65545);
    other[12] = 15;
    assert_false(bgp_open_decode(other, sizeof other, &o, &f));
    assert_int_equal(f.subcode, BGP_OPEN_MALFORMED);
}

/* One byte of a good OPEN is changed. */
static void refused(size_t at, uint8_t value, size_t cut, int code, int subcode)
{
    uint8_t body[sizeof bird_open];
    memcpy(body, bird_open, sizeof body);
    body[at] = value;
    struct bgp_open o;
    struct bgp_fault f;
    assert_false(bgp_open_decode(body, sizeof body - cut, &o, &f));
    assert_int_equal(f.code, code);
    assert_int_equal(f.subcode, subcode);
}

static void open_errors(void **state)
{
    (void)state;
    refused(0, 3, 0, 2, BGP_OPEN_VERSION);
    struct bgp_open o;
    struct bgp_fault f;
    static const uint8_t v5[10] = {5};
    assert_false(bgp_open_decode(v5, sizeof v5, &o, &f));
    assert_int_equal(f.data_len, 2);
    assert_int_equal(f.data[1], 4);

    refused(10, 1, 0, 2, BGP_OPEN_PARAMETER);
    refused(4, 1, 0, 2, BGP_OPEN_HOLD_TIME); /* hold time 1 */
    refused(4, 2, 0, 2, BGP_OPEN_HOLD_TIME);
    refused(9, 47, 0, 2, BGP_OPEN_MALFORMED);
    refused(9, 49, 0, 2, BGP_OPEN_MALFORMED);
    refused(11, 47, 0, 2, BGP_OPEN_MALFORMED);
    refused(13, 3, 0, 2, BGP_OPEN_MALFORMED);  /* a family of three bytes */
    refused(37, 5, 0, 2, BGP_OPEN_MALFORMED);  /* AS of five bytes */
    refused(9, 48, 1, 2, BGP_OPEN_MALFORMED);  /* cut */
    refused(0, 4, sizeof bird_open - 9, 1, 2); /* not even the fixed part */

    static const uint8_t as0[] = {4, 0, 0, 0, 90, 10, 0, 0, 1, 0};
    assert_false(bgp_open_decode(as0, sizeof as0, &o, &f));
    assert_int_equal(f.subcode, BGP_OPEN_PEER_AS);
    static const uint8_t as4_0[] = {4, 0x5b, 0xa0, 0, 90, 10, 0, 0, 1, 8, 2, 6, 65, 4, 0, 0, 0, 0};
    assert_false(bgp_open_decode(as4_0, sizeof as4_0, &o, &f));
    assert_int_equal(f.subcode, BGP_OPEN_PEER_AS);
    static const uint8_t id0[] = {4, 0, 1, 0, 90, 0, 0, 0, 0, 0};
    assert_false(bgp_open_decode(id0, sizeof id0, &o, &f));
    assert_int_equal(f.subcode, BGP_OPEN_ROUTER_ID);

    /* Every cut of a good OPEN is refused, none is read beyond. */
    for (size_t n = 0; n < sizeof bird_open; n++)
        assert_false(bgp_open_decode(bird_open, n, &o, &f));
}

static void open_round_trip(void **state)
{
    (void)state;
    struct bgp_open a = {.asn = 4200000000u,
                         .hold_time = 90,
                         .router_id = {10, 0, 0, 1},
                         .as4 = true,
                         .route_refresh = true,
                         .enhanced_refresh = true,
                         .extended_message = true,
                         .family_count = BGP_FAMILIES_MAX};
    for (uint16_t i = 0; i < BGP_FAMILIES_MAX; i++)
        a.families[i] = (struct bgp_family){.afi = (uint16_t)(i * 1000 + 1), .safi = (uint8_t)(i + 1)};
    uint8_t out[BGP_OPEN_MAX];
    size_t len = bgp_open_encode(&a, out);
    struct bgp_header h;
    struct bgp_fault f;
    assert_true(bgp_header_check(out, false, &h, &f));
    assert_int_equal(h.len, len);
    assert_int_equal(h.type, BGP_OPEN);

    struct bgp_open b;
    assert_true(bgp_open_decode(out + BGP_HEADER_LEN, len - BGP_HEADER_LEN, &b, &f));
    assert_int_equal(b.asn, a.asn);
    assert_int_equal(b.asn_2octet, BGP_AS_TRANS);
    assert_int_equal(b.hold_time, 90);
    assert_true(b.as4 && b.route_refresh && b.enhanced_refresh && b.extended_message);
    assert_false(b.graceful_restart || b.add_path);
    assert_int_equal(b.family_count, BGP_FAMILIES_MAX);
    for (size_t i = 0; i < BGP_FAMILIES_MAX; i++)
        assert_true(bgp_open_has_family(&b, a.families[i].afi, a.families[i].safi));

    /* Nothing offered: no parameter at all. */
    struct bgp_open bare = {.asn = 65000, .hold_time = 3, .router_id = {1, 1, 1, 1}};
    assert_int_equal(bgp_open_encode(&bare, out), 29);
    assert_int_equal(out[28], 0);
}

static void families_are_bounded(void **state)
{
    (void)state;
    uint8_t body[10 + 252 + 2] = {4, 0, 1, 0, 90, 1, 1, 1, 1, 254, 2, 252};
    uint8_t *p = body + 12;
    for (uint16_t i = 0; i < 42; i++) {
        p = put_u16(p, 1 << 8 | 4);
        p = put_u16(p, i);
        p = put_u16(p, 1);
    }
    struct bgp_open o;
    struct bgp_fault f;
    assert_true(bgp_open_decode(body, sizeof body, &o, &f));
    assert_int_equal(o.family_count, BGP_FAMILIES_MAX);
}

static void expect_name(unsigned code, unsigned subcode, const char *data, size_t len, const char *want)
{
    struct bgp_notification n;
    char name[BGP_NAME_MAX];
    bgp_notification_set(&n, (uint8_t)code, (uint8_t)subcode, (const uint8_t *)data, len);
    assert_string_equal(bgp_notification_name(&n, name), want);
}

static void notification_names(void **state)
{
    (void)state;
    expect_name(1, 1, "", 0, "Message Header Error: Connection Not Synchronized");
    expect_name(2, 2, "", 0, "OPEN Message Error: Bad Peer AS");
    expect_name(2, 11, "", 0, "OPEN Message Error: Role Mismatch");
    expect_name(3, 11, "", 0, "UPDATE Message Error: Malformed AS_PATH");
    expect_name(4, 0, "", 0, "Hold Timer Expired");
    expect_name(5, 2, "", 0, "Finite State Machine Error: Unexpected Message in OpenConfirm State");
    expect_name(6, 1, "", 0, "Cease: Maximum Number of Prefixes Reached");
    expect_name(6, 2, "", 0, "Cease: Administrative Shutdown");
    expect_name(6, 10, "", 0, "Cease: BFD Down");
    expect_name(6, 77, "", 0, "Cease: subcode 77");
    expect_name(6, 11, "", 0, "Cease: subcode 11");
    expect_name(8, 0, "", 0, "Send Hold Timer Expired");
    expect_name(0, 0, "", 0, "code 0, subcode 0");
    expect_name(255, 255, "", 0, "code 255, subcode 255");
    expect_name(6, 9, "\x06\x02", 2, "Cease: Hard Reset (Cease: Administrative Shutdown)");
    expect_name(6, 9, "\x06", 1, "Cease: Hard Reset");
    expect_name(6, 9, "\x05\x03", 2,
                "Cease: Hard Reset (Finite State Machine Error: Unexpected Message in Established State)");
    /* Every pair has a name that fits. */
    for (unsigned c = 0; c < 256; c++)
        for (unsigned s = 0; s < 256; s++) {
            struct bgp_notification n;
            char name[BGP_NAME_MAX];
            uint8_t inner[] = {(uint8_t)c, (uint8_t)s};
            bgp_notification_set(&n, 6, 9, inner, 2);
            bgp_notification_name(&n, name);
            assert_true(name[strlen(name) - 1] == ')');
        }
}

static void expect_text(unsigned subcode, const char *data, size_t len, const char *want)
{
    uint8_t body[300] = {6, (uint8_t)subcode};
    memcpy(body + 2, data, len);
    struct bgp_notification n;
    char text[BGP_SHUTDOWN_TEXT_MAX];
    assert_true(bgp_notification_decode(body, 2 + len, &n));
    assert_int_equal(bgp_shutdown_text(&n, text), strlen(want));
    assert_string_equal(text, want);
}

static void shutdown_text(void **state)
{
    (void)state;
    expect_text(2, "\x05hello", 6, "hello");
    expect_text(4, "\x05hello", 6, "hello");
    expect_text(2, "\x05helloxyz", 9, "hello");
    expect_text(2, "", 0, "");
    expect_text(2, "\x00", 1, "");
    expect_text(3, "\x05hello", 6, "");
    expect_text(2, "\x09hello", 6, "hello"); /* cut */
    expect_text(2, "\x03\xc3\xbcx", 4, "\xc3\xbcx");
    expect_text(2,
                "\x04"
                "a\xff"
                "b\xc3",
                5, "a" UTF8_BAD_TEXT "b" UTF8_BAD_TEXT);
    expect_text(2,
                "\x09"
                "ab\xe2\x82",
                5, "ab"); /* cut inside a character */
    expect_text(2,
                "\x06"
                "a\nb\x1b[m",
                7, "a b [m");
    expect_text(2,
                "\x04"
                "a\xc2\x9b"
                "b",
                5, "a b");
    expect_text(9, "\x06\x02\x03now", 6, "now"); /* inside a hard reset */
    expect_text(9, "\x06\x03\x03now", 6, "");
    char worst[256];
    memset(worst, 0xff, sizeof worst);
    struct bgp_notification n;
    char text[BGP_SHUTDOWN_TEXT_MAX];
    bgp_notification_set(&n, 6, 2, (const uint8_t *)worst, sizeof worst);
    assert_int_equal(bgp_shutdown_text(&n, text), 3 * 255);
}

static void shutdown_encode(void **state)
{
    (void)state;
    uint8_t data[BGP_SHUTDOWN_DATA_MAX];
    assert_int_equal(bgp_shutdown_data("bye", data), 4);
    assert_memory_equal(data, "\3bye", 4);
    assert_int_equal(bgp_shutdown_data("", data), 1);
    assert_int_equal(data[0], 0);
    char text[300];
    memset(text, 'x', sizeof text - 1);
    text[299] = 0;
    assert_int_equal(bgp_shutdown_data(text, data), 129);
    /* A character that would be cut in two is left out. */
    memcpy(text + 127, "\xc3\xbc", 2);
    assert_int_equal(bgp_shutdown_data(text, data), 128);
    assert_int_equal(data[0], 127);
}

static void notification_round_trip(void **state)
{
    (void)state;
    struct bgp_notification a, b;
    bgp_notification_set(&a, 6, 2, (const uint8_t *)"\3bye", 4);
    uint8_t out[64];
    assert_int_equal(bgp_notification_encode(&a, out, 24), 0);
    size_t len = bgp_notification_encode(&a, out, sizeof out);
    assert_int_equal(len, 25);
    struct bgp_header h;
    struct bgp_fault f;
    assert_true(bgp_header_check(out, false, &h, &f));
    assert_int_equal(h.len, 25);
    assert_true(bgp_notification_decode(out + 19, len - 19, &b));
    assert_int_equal(b.code, 6);
    assert_int_equal(b.subcode, 2);
    assert_int_equal(b.data_len, 4);
    assert_false(bgp_notification_decode(out + 19, 1, &b));

    static uint8_t big[5000], message[BGP_MAX];
    bgp_notification_set(&a, 6, 2, big, sizeof big);
    assert_int_equal(bgp_notification_encode(&a, message, sizeof message), BGP_MAX);
}

static void route_refresh(void **state)
{
    (void)state;
    struct bgp_route_refresh a = {.family = {2, 1}, .subtype = 1}, b;
    uint8_t out[BGP_ROUTE_REFRESH_LEN];
    bgp_route_refresh_encode(&a, out);
    assert_int_equal(out[17], 23);
    assert_true(bgp_route_refresh_decode(out + 19, 4, &b));
    assert_int_equal(b.family.afi, 2);
    assert_int_equal(b.family.safi, 1);
    assert_int_equal(b.subtype, 1);
    assert_false(bgp_route_refresh_decode(out + 19, 3, &b));
}

static void utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n, want;
    } cases[] = {
        {"a", 1, 1},
        {"", 0, 0},
        {"\xc3\xbc", 2, 2},
        {"\xc3\xbc", 1, 0},
        {"\xc0\x80", 2, 0},
        {"\xc1\xbf", 2, 0},
        {"\xe0\x9f\xbf", 3, 0},
        {"\xe0\xa0\x80", 3, 3},
        {"\xed\xa0\x80", 3, 0},
        {"\xed\x9f\xbf", 3, 3},
        {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xf0\x90\x80\x80", 4, 4},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"\xf4\x90\x80\x80", 4, 0},
        {"\xf5\x80\x80\x80", 4, 0},
        {"\x80", 1, 0},
        {"\xe2\x82\x28", 3, 0},
        {"\xf0\x90\x80\x28", 4, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(utf8_len((const uint8_t *)cases[i].bytes, cases[i].n), cases[i].want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header),
        cmocka_unit_test(keepalive_bytes),
        cmocka_unit_test(open_decode),
        cmocka_unit_test(open_bare),
        cmocka_unit_test(open_extended),
        cmocka_unit_test(open_errors),
        cmocka_unit_test(open_round_trip),
        cmocka_unit_test(families_are_bounded),
        cmocka_unit_test(notification_names),
        cmocka_unit_test(shutdown_text),
        cmocka_unit_test(shutdown_encode),
        cmocka_unit_test(notification_round_trip),
        cmocka_unit_test(route_refresh),
        cmocka_unit_test(utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
