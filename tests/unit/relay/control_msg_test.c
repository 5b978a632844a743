#include "unit.h"

#include "ktbgp.pb-c.h"
#include "relay/control_msg.h"
#include "rng.h"

typedef Kentik__Ktbgp__V202203beta2__ControlRequest PbRequest;
typedef Kentik__Ktbgp__V202203beta2__ControlResponse PbResponse;
typedef Kentik__Ktbgp__V202203beta2__KeyVal PbKeyVal;
#define PB(name) kentik__ktbgp__v202203beta2__##name

static struct addr address(const char *text)
{
    struct addr a;
    assert_true(addr_parse(&a, text, 0));
    return a;
}

static void assert_addr(const struct addr *a, const char *want)
{
    char text[ADDR_TEXT_MAX];
    assert_string_equal(addr_text(a, text), want);
}

/* --- requests --- */

static void a_request_on_the_wire(void **state)
{
    (void)state;
    struct control_request m = {.device = address("10.250.15.1:65411"), .proxy = address("10.250.12.10:179")};
    struct buf out = {0};
    assert_true(control_request_encode(&m, &out));
    PbRequest *pb = PB(control_request__unpack)(NULL, buf_len(&out), buf_begin(&out));
    assert_non_null(pb);
    assert_string_equal(pb->proto, "BGP");
    assert_string_equal(pb->device_ip, "10.250.15.1");
    assert_int_equal(pb->device_port, 65411);
    assert_string_equal(pb->proxy_ip, "10.250.12.10");
    assert_int_equal(pb->proxy_port, 179);
    assert_int_equal(pb->action, 0);
    PB(control_request__free_unpacked)(pb, NULL);

    struct control_request back;
    struct err e;
    assert_true(control_request_decode(buf_begin(&out), buf_len(&out), &back, &e));
    assert_addr(&back.device, "10.250.15.1:65411");
    assert_addr(&back.proxy, "10.250.12.10:179");
    buf_free(&out);
}

static void the_bytes_are_those_of_the_contract(void **state)
{
    (void)state;
    struct buf out = {0};
    struct control_request keepalive = {.action = CONTROL_KEEPALIVE};
    assert_true(control_request_encode(&keepalive, &out));
    assert_int_equal(buf_len(&out), 2);
    assert_memory_equal(buf_begin(&out), "\x40\x02", 2); /* field 8, varint 2 */
    buf_free(&out);
    struct control_request m = {.device = address("1.2.3.4:1"), .proxy = address("[2001:db8::1]:179")};
    assert_true(control_request_encode(&m, &out));
    static const char want[] = "\x0a\x03"
                               "BGP"
                               "\x12\x07"
                               "1.2.3.4"
                               "\x18\x01"
                               "\x22\x0b"
                               "2001:db8::1"
                               "\x28\xb3\x01";
    assert_int_equal(buf_len(&out), sizeof want - 1);
    assert_memory_equal(buf_begin(&out), want, sizeof want - 1);
    buf_free(&out);
}

static void a_keepalive_of_any_content(void **state)
{
    (void)state;
    struct control_request q;
    struct control_response r;
    struct err e;
    static const uint8_t odd[] = "\x0a\x01x\x12\x03odd\x18\xff\xff\x7f\x40\x02";
    assert_true(control_request_decode(odd, sizeof odd - 1, &q, &e));
    assert_int_equal(q.action, CONTROL_KEEPALIVE);
    assert_true(control_response_decode(odd, sizeof odd - 1, &r, &e));
    assert_int_equal(r.action, CONTROL_KEEPALIVE);
    control_response_clear(&r);
}

/* --- responses --- */

static void a_response_and_back(void **state)
{
    (void)state;
    struct control_response m = {.action = CONTROL_BLOCK_IP,
                                 .device = address("[2001:db8::2]:1234"),
                                 .ttl_seconds = 1200,
                                 .ttl_counter = UINT32_MAX,
                                 .company_id = 1289,
                                 .device_id = 127353,
                                 .device_name = "a6r_kx1_gobgpd",
                                 .md5 = "k\0y",
                                 .md5_len = 3};
    assert_true(kv_add(&m.metadata, "backend-pin", "42b0e9c9"));
    assert_true(kv_add(&m.metadata, "b", ""));
    assert_true(kv_add(&m.metadata, "backend-pin", "second"));
    struct addr proxy = address("[2001:db8::1]:179");
    struct buf out = {0};
    assert_true(control_response_encode(&m, &proxy, &out));

    PbResponse *pb = PB(control_response__unpack)(NULL, buf_len(&out), buf_begin(&out));
    assert_non_null(pb);
    assert_string_equal(pb->proto, "BGP");
    assert_string_equal(pb->device_ip, "2001:db8::2");
    assert_int_equal(pb->device_port, 1234);
    assert_string_equal(pb->proxy_ip, "2001:db8::1");
    assert_int_equal(pb->proxy_port, 179);
    assert_int_equal(pb->n_metadata, 3);
    assert_string_equal(pb->metadata[2]->key, "backend-pin");
    assert_string_equal(pb->metadata[2]->val[0], "second");
    PB(control_response__free_unpacked)(pb, NULL);

    struct control_response back;
    struct err e;
    assert_true(control_response_decode(buf_begin(&out), buf_len(&out), &back, &e));
    assert_int_equal(back.action, CONTROL_BLOCK_IP);
    assert_addr(&back.device, "[2001:db8::2]:1234");
    assert_int_equal(back.ttl_seconds, 1200);
    assert_true(back.ttl_counter == UINT32_MAX);
    assert_int_equal(back.company_id, 1289);
    assert_int_equal(back.device_id, 127353);
    assert_string_equal(back.device_name, "a6r_kx1_gobgpd");
    assert_int_equal(back.md5_len, 3);
    assert_memory_equal(back.md5, "k\0y", 3);
    assert_int_equal(back.metadata.count, 3);
    assert_string_equal(kv_get(&back.metadata, "backend-pin"), "42b0e9c9");
    control_response_clear(&back);
    static const uint8_t nothing[CONTROL_MD5_MAX];
    assert_memory_equal(back.md5, nothing, sizeof nothing);
    assert_null(back.metadata.data);
    control_response_clear(&m);
    buf_free(&out);
}

static void a_push_names_no_connection(void **state)
{
    (void)state;
    struct control_response m = {.device = address("192.0.2.7:0"), .ttl_seconds = 5};
    struct buf out = {0};
    assert_true(control_response_encode(&m, NULL, &out));
    PbResponse *pb = PB(control_response__unpack)(NULL, buf_len(&out), buf_begin(&out));
    assert_non_null(pb);
    assert_int_equal(pb->device_port, 0);
    assert_string_equal(pb->proxy_ip, "");
    assert_int_equal(pb->proxy_port, 0);
    PB(control_response__free_unpacked)(pb, NULL);
    buf_free(&out);
}

static void repeated_values_of_a_key_become_pairs(void **state)
{
    (void)state;
    PbResponse pb;
    PbKeyVal one, two;
    PB(control_response__init)(&pb);
    PB(key_val__init)(&one);
    PB(key_val__init)(&two);
    char *vals[] = {(char[]){"x"}, (char[]){"y"}};
    PbKeyVal *list[] = {&one, &two};
    one.key = (char[]){"k"};
    one.n_val = 2;
    one.val = vals;
    two.key = (char[]){"no-value"};
    pb.proto = (char[]){"BGP"};
    pb.device_ip = (char[]){"192.0.2.1"};
    pb.n_metadata = 2;
    pb.metadata = list;
    uint8_t wire[200];
    size_t n = PB(control_response__pack)(&pb, wire);
    struct control_response r;
    struct err e;
    assert_true(control_response_decode(wire, n, &r, &e));
    assert_int_equal(r.metadata.count, 2);
    struct kv_pair pair;
    uint32_t pos = 0;
    assert_true(kv_next(&r.metadata, &pos, &pair) && kv_next(&r.metadata, &pos, &pair));
    assert_string_equal(pair.key, "k");
    assert_string_equal(pair.val, "y");
    control_response_clear(&r);
}

/* --- what is refused, and what is not --- */

/* Encodes what the fields say, decodes it as both kinds, and wants the same complaint of both ("": none). */
static void judged(const char *proto, const char *ip, uint32_t port, const char *proxy_ip, int action,
                   const char *complaint)
{
    PbRequest pb;
    PB(control_request__init)(&pb);
    pb.proto = (char *)(uintptr_t)proto;
    pb.device_ip = (char *)(uintptr_t)ip;
    pb.device_port = port;
    pb.proxy_ip = (char *)(uintptr_t)proxy_ip;
    pb.action = (Kentik__Ktbgp__V202203beta2__ControlAction)action;
    uint8_t wire[1000];
    size_t n = PB(control_request__pack)(&pb, wire);
    struct control_request q;
    struct control_response r;
    struct err e = {{0}}, e2 = {{0}};
    bool ok = control_request_decode(wire, n, &q, &e);
    assert_int_equal(ok, complaint[0] == 0);
    if (!ok)
        assert_non_null(strstr(e.text, complaint));
    /* The fields have the same numbers in both; what the response says of the proxy is not looked at. */
    ok = control_response_decode(wire, n, &r, &e2);
    if (strncmp(complaint, "proxy_ip", 8) != 0) {
        assert_int_equal(ok, complaint[0] == 0);
        if (!ok)
            assert_string_equal(e.text, e2.text);
    }
    if (ok)
        control_response_clear(&r);
}

static void odd_values(void **state)
{
    (void)state;
    judged("BGP", "192.0.2.1", 65535, "10.0.0.1", 0, "");
    judged("BGP", "192.0.2.1", 0, "", 1, "");
    judged("BGP", "::ffff:192.0.2.1", 1, "::ffff:10.0.0.1", 0, "");
    judged("BGP", "fe80::1%eth-of-another-host", 1, "fe80::2%42", 0, "");
    judged("bgp", "192.0.2.1", 1, "", 0, "proto \"bgp\" is not BGP");
    judged("", "192.0.2.1", 1, "", 0, "proto \"\" is not BGP");
    judged("BGP", "", 1, "10.0.0.1", 0, "device_ip \"\" is no IP address");
    judged("BGP", "router.example", 1, "", 0, "device_ip \"router.example\" is no IP address");
    judged("BGP", "192.0.2.1", 65536, "", 0, "device_port 65536 is no port");
    judged("BGP", "192.0.2.1", 1, "nowhere", 0, "proxy_ip \"nowhere\" is no IP address");
    /* A complaint repeats only so much of what came. */
    char lengthy[500];
    memset(lengthy, 'x', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = 0;
    judged(lengthy, "192.0.2.1", 1, "", 0, "is not BGP");
    judged("BGP", lengthy, 1, "", 0, "is no IP address");
}

static void a_mapped_address_is_ipv4(void **state)
{
    (void)state;
    static const uint8_t wire[] = "\x0a\x03"
                                  "BGP\x12\x0e::ffff:1.2.3.4";
    struct control_response r;
    struct err e;
    assert_true(control_response_decode(wire, sizeof wire - 1, &r, &e));
    assert_addr(&r.device, "1.2.3.4:0");
    control_response_clear(&r);
}

static void unknown_actions_carry_on(void **state)
{
    (void)state;
    static const uint8_t wire[] = "\x0a\x03"
                                  "BGP\x12\x07"
                                  "1.2.3.4\x40\x63";
    struct control_response r;
    struct control_request q;
    struct err e;
    assert_true(control_response_decode(wire, sizeof wire - 1, &r, &e));
    assert_int_equal(r.action, CONTROL_CARRY_ON);
    control_response_clear(&r);
    assert_true(control_request_decode(wire, sizeof wire - 1, &q, &e));
    assert_int_equal(q.action, CONTROL_CARRY_ON);
}

static void keys_of_any_length(void **state)
{
    (void)state;
    for (size_t len = 78; len <= 82; len++) {
        PbResponse pb;
        PB(control_response__init)(&pb);
        pb.proto = (char[]){"BGP"};
        pb.device_ip = (char[]){"192.0.2.1"};
        uint8_t key[100];
        memset(key, 'k', sizeof key);
        pb.tcp_md5.data = key;
        pb.tcp_md5.len = len;
        uint8_t wire[200];
        size_t n = PB(control_response__pack)(&pb, wire);
        struct control_response r;
        struct err e = {{0}};
        bool ok = control_response_decode(wire, n, &r, &e);
        assert_int_equal(ok, len <= CONTROL_MD5_MAX);
        if (ok) {
            assert_int_equal(r.md5_len, len);
            control_response_clear(&r);
        } else {
            assert_non_null(strstr(e.text, "TCP-MD5"));
            assert_null(strstr(e.text, "kkk")); /* a secret is in no error text */
        }
    }
}

static void long_names_are_cut(void **state)
{
    (void)state;
    PbResponse pb;
    PB(control_response__init)(&pb);
    pb.proto = (char[]){"BGP"};
    pb.device_ip = (char[]){"192.0.2.1"};
    char name[1000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    pb.device_name = name;
    uint8_t wire[1200];
    size_t n = PB(control_response__pack)(&pb, wire);
    struct control_response r;
    struct err e;
    assert_true(control_response_decode(wire, n, &r, &e));
    assert_int_equal(strlen(r.device_name), CONTROL_NAME_MAX - 1);
    control_response_clear(&r);
}

static void too_long_or_garbage(void **state)
{
    (void)state;
    struct control_request q;
    struct control_response r;
    struct err e = {{0}};
    size_t n = CONTROL_MESSAGE_MAX + 1;
    uint8_t *zero = calloc(1, n);
    assert_non_null(zero);
    assert_false(control_request_decode(zero, n, &q, &e));
    assert_non_null(strstr(e.text, "ControlRequest of 262145 bytes"));
    assert_false(control_response_decode(zero, n, &r, &e));
    free(zero);
    /* An empty message names no protocol. */
    assert_false(control_request_decode(NULL, 0, &q, &e));
    assert_false(control_response_decode(NULL, 0, &r, &e));

    struct rng rng = {8};
    for (int round = 0; round < 100000; round++) {
        uint8_t bytes[60];
        size_t len = rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)rng_u64(&rng);
        control_request_decode(bytes, len, &q, &e);
        if (control_response_decode(bytes, len, &r, &e))
            control_response_clear(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_on_the_wire),
        cmocka_unit_test(the_bytes_are_those_of_the_contract),
        cmocka_unit_test(a_keepalive_of_any_content),
        cmocka_unit_test(a_response_and_back),
        cmocka_unit_test(a_push_names_no_connection),
        cmocka_unit_test(repeated_values_of_a_key_become_pairs),
        cmocka_unit_test(odd_values),
        cmocka_unit_test(a_mapped_address_is_ipv4),
        cmocka_unit_test(unknown_actions_carry_on),
        cmocka_unit_test(keys_of_any_length),
        cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(too_long_or_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
