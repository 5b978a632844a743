#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "target/jsonl.h"

static const struct collector_identity edge = {"edge1", "192.0.2.1", "5f8b"};

/* Reads the only line back, checks what every line has, and gives the rest of the object as sorted compact
 * JSON. */
static void line_is(struct buf *out, const char *event, const char *want)
{
    size_t n = buf_len(out);
    assert_true(n > 1);
    const char *line = (const char *)buf_begin(out);
    assert_ptr_equal(memchr(line, '\n', n), line + n - 1);
    json_error_t e;
    json_t *o = json_loadb(line, n, JSON_REJECT_DUPLICATES, &e);
    if (!o)
        fail_msg("%s in %.*s", e.text, (int)n, line);
    assert_string_equal(json_string_value(json_object_get(o, "time")), "2023-07-25T17:01:25.409Z");
    assert_string_equal(json_string_value(json_object_get(o, "event")), event);
    assert_string_equal(json_string_value(json_object_get(o, "device")), "edge1");
    assert_string_equal(json_string_value(json_object_get(o, "address")), "192.0.2.1");
    assert_string_equal(json_string_value(json_object_get(o, "session")), "5f8b");
    static const char *const common[] = {"time", "event", "device", "address", "session"};
    for (size_t i = 0; i < 5; i++)
        json_object_del(o, common[i]);
    char *rest = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(rest, want);
    free(rest);
    json_decref(o);
    buf_take(out, n);
}

static void encode(struct buf *out, struct collector_event event)
{
    event.peer = &edge;
    assert_true(jsonl_append(out, &event, 1690304485409183151));
}

#define B(literal) literal, sizeof literal - 1

static void parse(struct bgp_update *u, const char *body, size_t n, struct bgp_update_mode mode)
{
    bgp_update_parse((const uint8_t *)body, n, &mode, u);
}

static void simple(void **state)
{
    (void)state;
    struct buf out = {0};
    struct bgp_open open = {.asn = 4200000000u, .hold_time = 180, .router_id = {192, 0, 2, 255}};
    encode(&out, (struct collector_event){.kind = COLLECTOR_OPEN, .open = &open, .hold_time = 90});
    line_is(&out, "open", "{\"asn\":4200000000,\"hold_time\":180,\"router_id\":\"192.0.2.255\"}");
    encode(&out, (struct collector_event){.kind = COLLECTOR_ESTABLISHED, .hold_time = 90});
    line_is(&out, "established", "{\"hold_time\":90}");
    encode(&out, (struct collector_event){.kind = COLLECTOR_END_OF_RIB, .family = {2, 1}});
    line_is(&out, "end-of-rib", "{\"afi\":2,\"safi\":1}");
    encode(&out, (struct collector_event){.kind = COLLECTOR_CLOSE, .reason = "hold timer expired"});
    line_is(&out, "close", "{\"reason\":\"hold timer expired\"}");
    buf_free(&out);
}

static void notifications(void **state)
{
    (void)state;
    struct buf out = {0};
    struct bgp_notification n;
    bgp_notification_set(&n, 6, 2, (const uint8_t *)"\x07\"bye\\\xc3\xbc", 8);
    encode(&out, (struct collector_event){.kind = COLLECTOR_NOTIFICATION, .notification = &n});
    line_is(
        &out, "notification",
        "{\"code\":6,\"direction\":\"received\",\"name\":\"Cease: Administrative Shutdown\",\"subcode\":2,"
        "\"text\":\"\\\"bye\\\\\xc3\xbc\"}");
    bgp_notification_set(&n, 4, 0, NULL, 0);
    encode(&out, (struct collector_event){.kind = COLLECTOR_NOTIFICATION, .notification = &n, .sent = true});
    line_is(
        &out, "notification",
        "{\"code\":4,\"direction\":\"sent\",\"name\":\"Hold Timer Expired\",\"subcode\":0,\"text\":\"\"}");
    buf_free(&out);
}

static void announce(void **state)
{
    (void)state;
    struct buf out = {0};
    struct bgp_update u;
    parse(&u,
          B("\0\0\0\x46\x40\1\1\1"
            "\x40\2\x14\2\2\0\0\xfd\xe9\0\0\xfd\xea\1\2\0\0\xfd\xeb\0\0\xfd\xec"
            "\x40\3\4\xc0\0\2\1"
            "\x80\4\4\0\0\0\7"
            "\x40\5\4\xff\xff\xff\xff"
            "\xc0\x08\4\xfd\xe8\0\1"
            "\xc0\x20\x0c\xff\xff\xff\xff\0\0\0\1\0\0\0\2"
            "\x18\x0a\0\0\0\x20\xc0\0\2\1"),
          (struct bgp_update_mode){.as4 = true});
    assert_int_equal(u.verdict, BGP_VERDICT_OK);
    encode(&out, (struct collector_event){.kind = COLLECTOR_ANNOUNCE,
                                          .update = &u,
                                          .routes = &u.announced,
                                          .family = {1, 1},
                                          .next_hop = u.next_hop,
                                          .next_hop_len = 4});
    line_is(&out, "announce",
            "{\"afi\":1,\"as_path\":\"65001 65002 {65003,65004}\",\"communities\":[\"65000:1\"],"
            "\"large_communities\":[\"4294967295:1:2\"],\"local_pref\":4294967295,\"med\":7,"
            "\"next_hop\":\"192.0.2.1\",\"origin\":\"egp\","
            "\"prefixes\":[\"10.0.0.0/24\",\"0.0.0.0/0\",\"192.0.2.1/32\"],\"safi\":1}");
    buf_free(&out);
}

#define GLOBAL "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define LOCAL  "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"
#define NONE   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void next_hop(struct buf *out, const char *bytes, size_t n, const char *path, size_t path_len,
                     const char *want)
{
    /* IPv6 routes with this next hop and 2-octet path */
    uint8_t body[200] = {0, 0, 0, 0, 0x40, 1, 1, 2};
    uint8_t *p = body + 8;
    p = put_u8(p, 0x40);
    p = put_u8(p, 2);
    p = put_u8(p, (uint8_t)path_len);
    p = put_bytes(p, path, path_len);
    p = put_u8(p, 0x80);
    p = put_u8(p, 14);
    p = put_u8(p, (uint8_t)(5 + n + 5));
    p = put_bytes(p, "\0\2\1", 3);
    p = put_u8(p, (uint8_t)n);
    p = put_bytes(p, bytes, n);
    p = put_bytes(p, "\0\x20\x20\1\x0d\xb8", 6);
    put_u16(body + 2, (uint16_t)(p - body - 4));
    struct bgp_update u;
    parse(&u, (char *)body, (size_t)(p - body), (struct bgp_update_mode){0});
    assert_int_equal(u.verdict, BGP_VERDICT_OK);
    encode(out, (struct collector_event){.kind = COLLECTOR_ANNOUNCE,
                                         .update = &u,
                                         .routes = &u.mp_announced,
                                         .family = {2, 1},
                                         .next_hop = u.mp_next_hop,
                                         .next_hop_len = u.mp_next_hop_len});
    line_is(out, "announce", want);
}

static void announce_ipv6(void **state)
{
    (void)state;
    struct buf out = {0};
    next_hop(&out, B(GLOBAL), B(""),
             "{\"afi\":2,\"as_path\":\"\",\"next_hop\":\"2001:db8::1\",\"origin\":\"incomplete\","
             "\"prefixes\":[\"2001:db8::/32\"],\"safi\":1}");
    next_hop(&out, B(GLOBAL LOCAL), B("\2\1\0\1"),
             "{\"afi\":2,\"as_path\":\"1\",\"next_hop\":\"2001:db8::1\",\"origin\":\"incomplete\","
             "\"prefixes\":[\"2001:db8::/32\"],\"safi\":1}");
    next_hop(&out, B(NONE LOCAL), B("\3\2\0\1\0\2\4\2\0\3\0\4\2\2\0\5\0\6\2\1\0\7\1\1\0\x08"),
             "{\"afi\":2,\"as_path\":\"(1 2) [3,4] 5 6 7 {8}\",\"next_hop\":\"fe80::1\","
             "\"origin\":\"incomplete\",\"prefixes\":[\"2001:db8::/32\"],\"safi\":1}");
    buf_free(&out);
}

static void withdraw(void **state)
{
    (void)state;
    struct buf out = {0};
    struct bgp_update u;
    parse(&u, B("\0\2\x08\x0a\0\0"), (struct bgp_update_mode){0});
    encode(&out, (struct collector_event){
                     .kind = COLLECTOR_WITHDRAW, .update = &u, .routes = &u.withdrawn, .family = {1, 1}});
    line_is(&out, "withdraw", "{\"afi\":1,\"prefixes\":[\"10.0.0.0/8\"],\"safi\":1}");

    parse(&u, B("\0\x0c\0\0\0\1\x08\x0a\xff\xff\xff\xff\x08\x0a\0\0"),
          (struct bgp_update_mode){.add_path_ipv4 = true});
    encode(&out, (struct collector_event){
                     .kind = COLLECTOR_WITHDRAW, .update = &u, .routes = &u.withdrawn, .family = {1, 1}});
    line_is(
        &out, "withdraw",
        "{\"afi\":1,\"path_ids\":[1,4294967295],\"prefixes\":[\"10.0.0.0/8\",\"10.0.0.0/8\"],\"safi\":1}");
    buf_free(&out);
}

static void opaque_and_malformed(void **state)
{
    (void)state;
    struct buf out = {0};
    struct bgp_update u;
    parse(&u, B("\0\0\0\x08\x80\x0f\x05\x40\4\x47\1\2"), (struct bgp_update_mode){0});
    encode(&out, (struct collector_event){.kind = COLLECTOR_OPAQUE,
                                          .update = &u,
                                          .routes = &u.mp_withdrawn,
                                          .withdrawn = true,
                                          .family = {0x4004, 71}});
    line_is(&out, "update", "{\"afi\":16388,\"bytes\":2,\"safi\":71,\"withdrawn\":true}");
    encode(&out,
           (struct collector_event){
               .kind = COLLECTOR_OPAQUE, .update = &u, .routes = &u.mp_withdrawn, .family = {0x4004, 71}});
    line_is(&out, "update", "{\"afi\":16388,\"bytes\":2,\"safi\":71,\"withdrawn\":false}");
    parse(&u, B("\0\0\0\4\x40\1\1\x09"), (struct bgp_update_mode){0});
    encode(&out, (struct collector_event){.kind = COLLECTOR_MALFORMED, .update = &u});
    line_is(&out, "malformed", "{\"action\":\"withdraw\",\"attribute\":1,\"error\":\"unknown value\"}");
    buf_free(&out);
}

/* Names come from the inventory and may be anything. */
static void hostile_strings(void **state)
{
    (void)state;
    struct buf out = {0};
    char name[256];
    for (int i = 0; i < 255; i++)
        name[i] = (char)(i + 1);
    name[255] = 0;
    struct collector_identity odd = {name, "\xe2\x82", "\xf0\x9f\x98\x80 \xed\xa0\x80"};
    struct collector_event event = {.kind = COLLECTOR_CLOSE, .peer = &odd, .reason = ""};
    assert_true(jsonl_append(&out, &event, 0));
    size_t n = buf_len(&out);
    assert_ptr_equal(memchr(buf_begin(&out), '\n', n), buf_begin(&out) + n - 1);
    for (size_t i = 0; i + 1 < n; i++)
        assert_true(buf_begin(&out)[i] >= 0x20);
    json_error_t e;
    json_t *o = json_loadb((const char *)buf_begin(&out), n, 0, &e);
    assert_non_null(o);
    const char *device = json_string_value(json_object_get(o, "device"));
    for (int i = 1; i < 0x80; i++)
        assert_int_equal(device[i - 1], i);
    assert_memory_equal(device + 0x7f, "\xef\xbf\xbd\xef\xbf\xbd", 6);
    assert_string_equal(json_string_value(json_object_get(o, "address")), "\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(json_string_value(json_object_get(o, "session")),
                        "\xf0\x9f\x98\x80 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    json_decref(o);
    buf_free(&out);
}

static void many_lines(void **state)
{
    (void)state;
    struct buf out = {0};
    for (int i = 0; i < 1000; i++)
        encode(&out, (struct collector_event){.kind = COLLECTOR_CLOSE, .reason = "x"});
    size_t lines = 0;
    for (const uint8_t *p = buf_begin(&out); p < buf_begin(&out) + buf_len(&out); p++)
        lines += *p == '\n';
    assert_int_equal(lines, 1000);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simple),          cmocka_unit_test(notifications),
        cmocka_unit_test(announce),        cmocka_unit_test(announce_ipv6),
        cmocka_unit_test(withdraw),        cmocka_unit_test(opaque_and_malformed),
        cmocka_unit_test(hostile_strings), cmocka_unit_test(many_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
