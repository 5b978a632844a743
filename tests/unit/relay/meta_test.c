#include "unit.h"

#include "relay/meta.h"

static const struct meta_agent agent = {.email = "me@example.net",
                                        .token = "secret",
                                        .site_id = 42,
                                        .version = "1.2.3",
                                        .instance = "64bae291-66ea-4910-a2a2-92eb99224a28"};

/* The pairs as "key=value" lines. */
static const char *text(const struct kv *kv)
{
    static char out[8192];
    size_t n = 0;
    out[0] = 0;
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(kv, &pos, &pair);)
        n += (size_t)snprintf(out + n, sizeof out - n, "%s=%s\n", pair.key, pair.val);
    return out;
}

static struct session session(const char *device, const char *proxy)
{
    struct session s;
    struct uuid id = {"cbce1788-bb34-4c2c-8056-5b3224d4e893"};
    struct addr d, p;
    assert_true(addr_parse(&d, device, 0) && addr_parse(&p, proxy, 0));
    session_init(&s, SESSION_AGENT, &id, &d, &p);
    return s;
}

static void control(void **state)
{
    (void)state;
    struct kv kv = {0};
    assert_true(meta_control(&kv, &agent));
    assert_string_equal(text(&kv), "x-ch-auth-email=me@example.net\n"
                                   "x-ch-auth-api-token=secret\n"
                                   "sid=42\n"
                                   "version=1.2.3\n"
                                   "instance=64bae291-66ea-4910-a2a2-92eb99224a28\n");
    kv_free(&kv);
    struct meta_agent any = agent;
    any.site_id = 0; /* absent means any site */
    assert_true(meta_control(&kv, &any));
    assert_null(kv_get(&kv, "sid"));
    kv_free(&kv);
}

static void data(void **state)
{
    (void)state;
    struct session s = session("10.250.15.1:65411", "10.250.12.10:179");
    s.sent.messages = 5;
    s.received.messages = UINT64_C(18446744073709551615);
    struct kv kv = {0}, extra = {0};
    assert_true(kv_add(&extra, "backend-pin", "42b0e9c9"));
    assert_true(kv_add(&extra, "Backend-Pin", "again"));
    unsigned left_out;
    char key[64];
    assert_true(meta_data(&kv, &agent, &s, &extra, &left_out, key));
    assert_int_equal(left_out, 0);
    assert_string_equal(text(&kv), "x-ch-auth-email=me@example.net\n"
                                   "x-ch-auth-api-token=secret\n"
                                   "sid=42\n"
                                   "version=1.2.3\n"
                                   "instance=64bae291-66ea-4910-a2a2-92eb99224a28\n"
                                   "proto=BGP\n"
                                   "device-ip=10.250.15.1\n"
                                   "device-port=65411\n"
                                   "proxy-ip=10.250.12.10\n"
                                   "proxy-port=179\n"
                                   "session-id=cbce1788-bb34-4c2c-8056-5b3224d4e893\n"
                                   "counter-up=5\n"
                                   "counter-down=18446744073709551615\n"
                                   "backend-pin=42b0e9c9\n"
                                   "backend-pin=again\n");
    kv_free(&kv);
    kv_free(&extra);
}

static void pairs_that_are_left_out(void **state)
{
    (void)state;
    static const struct {
        const char *key, *val;
        bool ok;
    } cases[] = {
        {"backend-pin", "42b0e9c9", true},
        {"a_b.c-9", "", true},
        {"x", "with space ~!", true},
        {"X-Upper", "1", true},
        {"", "1", false},
        {"with space", "1", false},
        {"colon:", "1", false},
        {":path", "/elsewhere", false},
        {":status", "200", false},
        {"x", "new\nline", false},
        {"x", "tab\t", false},
        {"x", "\x7f", false},
        {"x", "\xc3\xa4", false},
        {"x", " led", false},
        {"x", "trailed ", false},
        {"Session-ID", "1", false},
        {"sid", "1", false},
        {"kbgp-resume", "1", false},
        {"x-ch-auth-api-token", "1", false},
        {"counter-up", "1", false},
        {"GRPC-timeout", "1S", false},
        {"grpc-anything", "1", false},
        {"te", "1", false},
        {"host", "1", false},
        {"connection", "close", false},
        {"transfer-encoding", "chunked", false},
        {"content-length", "0", false},
        {"\xc3\xa4", "1", false},
    };
    struct session s = session("192.0.2.1:1", "192.0.2.2:179");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kv kv = {0}, extra = {0};
        assert_true(kv_add(&extra, cases[i].key, cases[i].val));
        unsigned left_out;
        char key[64] = "untouched";
        assert_true(meta_data(&kv, &agent, &s, &extra, &left_out, key));
        assert_int_equal(kv.count, cases[i].ok ? 14 : 13);
        assert_int_equal(left_out, cases[i].ok ? 0 : 1);
        assert_int_equal(strcmp(key, "untouched") == 0, cases[i].ok);
        assert_string_equal(kv_get(&kv, "session-id"), s.id.text);
        kv_free(&kv);
        kv_free(&extra);
    }
}

static void keys_and_values_that_are_too_long(void **state)
{
    (void)state;
    struct session s = session("192.0.2.1:1", "192.0.2.2:179");
    char *lengthy = malloc(9001);
    assert_non_null(lengthy);
    memset(lengthy, 'x', 9000);
    lengthy[9000] = 0;
    struct kv kv = {0}, extra = {0};
    assert_true(kv_add(&extra, lengthy, "v"));
    assert_true(kv_add(&extra, "x", lengthy));
    lengthy[63] = 0;
    assert_true(kv_add(&extra, lengthy, "v")); /* 63 characters: the longest */
    unsigned left_out;
    char key[64];
    assert_true(meta_data(&kv, &agent, &s, &extra, &left_out, key));
    assert_int_equal(left_out, 2);
    assert_string_equal(key, "x");
    assert_string_equal(kv_get(&kv, lengthy), "v");
    kv_free(&kv);
    kv_free(&extra);
    free(lengthy);
}

static void more_pairs_than_a_call_carries(void **state)
{
    (void)state;
    struct session s = session("192.0.2.1:1", "192.0.2.2:179");
    struct kv kv = {0}, extra = {0};
    for (int i = 0; i < 200; i++)
        assert_true(kv_addf(&extra, "key", "%d", i));
    unsigned left_out;
    char key[64];
    assert_true(meta_data(&kv, &agent, &s, &extra, &left_out, key));
    assert_int_equal(kv.count, 100);
    assert_int_equal(left_out, 200 - (100 - 13));
    kv_free(&kv);
    kv_free(&extra);
}

static struct kv call_metadata(void)
{
    struct session s = session("[2001:db8::2]:1234", "[2001:db8::1]:179");
    s.sent.messages = 3;
    s.received.messages = 4;
    struct kv kv = {0}, none = {0};
    unsigned left_out;
    char key[64];
    assert_true(meta_data(&kv, &agent, &s, &none, &left_out, key));
    return kv;
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct kv kv = call_metadata();
    struct meta_session m;
    struct meta_caller c;
    struct err e;
    char addr[ADDR_TEXT_MAX];
    assert_true(meta_read_session(&kv, &m, &e));
    assert_string_equal(m.id.text, "cbce1788-bb34-4c2c-8056-5b3224d4e893");
    assert_string_equal(addr_text(&m.device, addr), "[2001:db8::2]:1234");
    assert_string_equal(addr_text(&m.proxy, addr), "[2001:db8::1]:179");
    assert_u64_equal(m.counters.up, 3);
    assert_u64_equal(m.counters.down, 4);
    assert_true(meta_read_caller(&kv, &c, &e));
    assert_string_equal(c.email, "me@example.net");
    assert_string_equal(c.token, "secret");
    assert_string_equal(c.version, "1.2.3");
    assert_string_equal(c.instance, agent.instance);
    assert_int_equal(c.site_id, 42);
    kv_free(&kv);
}

/* The metadata of a good call with one value changed (NULL: left out). */
static void with(const char *key, const char *val, const char *complaint)
{
    struct kv good = call_metadata(), kv = {0};
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(&good, &pos, &pair);)
        if (strcmp(pair.key, key) != 0)
            assert_true(kv_add(&kv, pair.key, pair.val));
    if (val)
        assert_true(kv_add(&kv, key, val));
    struct meta_session m;
    struct err e = {{0}};
    bool ok = meta_read_session(&kv, &m, &e);
    assert_int_equal(ok, complaint == NULL);
    if (complaint)
        assert_string_equal(e.text, complaint);
    kv_free(&good);
    kv_free(&kv);
}

static void calls_that_are_malformed(void **state)
{
    (void)state;
    with("proto", NULL, "metadata proto is missing, not BGP");
    with("proto", "BMP", "metadata proto is another, not BGP");
    with("session-id", NULL, "metadata session-id is missing");
    with("session-id", "cbce1788", "metadata session-id is no UUID");
    with("session-id", "CBCE1788-BB34-4C2C-8056-5B3224D4E893", NULL);
    with("device-ip", NULL, "metadata device-ip is missing");
    with("device-ip", "router", "metadata device-ip: \"router\" is no IP address");
    with("device-ip", "", "metadata device-ip: \"\" is no IP address");
    with("device-ip", "fe80::1%eth-of-the-agent", NULL);
    with("device-port", NULL, "metadata device-port is missing");
    with("device-port", "65535", NULL);
    with("device-port", "65536", "metadata device-port: \"65536\" is no port");
    with("device-port", "-1", "metadata device-port: \"-1\" is no port");
    with("device-port", "1x", "metadata device-port: \"1x\" is no port");
    with("device-port", " 1", "metadata device-port: \" 1\" is no port");
    with("proxy-ip", NULL, "metadata proxy-ip is missing");
    with("proxy-port", "", "metadata proxy-port: \"\" is no port");
    with("counter-up", NULL, "metadata counter-up or counter-down is missing or no number");
    with("counter-down", "many", "metadata counter-up or counter-down is missing or no number");
    with("counter-down", "99999999999999999999",
         "metadata counter-up or counter-down is missing or no number");
    with("counter-down", "000000000000000000001",
         "metadata counter-up or counter-down is missing or no number");
}

static void session_ids_of_either_case_are_one(void **state)
{
    (void)state;
    struct kv kv = {0};
    struct kv good = call_metadata();
    struct meta_session m;
    struct err e;
    assert_true(kv_add(&kv, "session-id", "CBCE1788-BB34-4C2C-8056-5B3224D4E893"));
    assert_true(kv_add_all(&kv, &good)); /* the first counts */
    assert_true(meta_read_session(&kv, &m, &e));
    assert_string_equal(m.id.text, "cbce1788-bb34-4c2c-8056-5b3224d4e893");
    kv_free(&kv);
    kv_free(&good);
}

static void callers_that_say_little(void **state)
{
    (void)state;
    struct kv kv = {0};
    struct meta_caller c;
    struct err e;
    assert_true(meta_read_caller(&kv, &c, &e));
    assert_string_equal(c.email, "");
    assert_string_equal(c.token, "");
    assert_int_equal(c.site_id, 0);
    assert_true(kv_add(&kv, "sid", "4294967295"));
    assert_true(meta_read_caller(&kv, &c, &e));
    assert_true(c.site_id == UINT32_MAX);
    kv_free(&kv);
    assert_true(kv_add(&kv, "sid", "4294967296"));
    assert_false(meta_read_caller(&kv, &c, &e));
    assert_string_equal(e.text, "metadata sid: \"4294967296\" is no number");
    kv_free(&kv);
}

/* A server that tells no counters does not check them. */
static void counters_of_a_server(void **state)
{
    (void)state;
    struct kv kv = {0};
    struct session_counters c = meta_read_counters(&kv);
    assert_false(c.has_up || c.has_down);
    c = (struct session_counters){.up = 7, .down = 18446744073709551609u};
    assert_true(meta_counters(&kv, &c));
    c = meta_read_counters(&kv);
    assert_true(c.has_up && c.has_down);
    assert_u64_equal(c.up, 7);
    assert_u64_equal(c.down, 18446744073709551609u);
    kv_free(&kv);
    assert_true(kv_add(&kv, "counter-up", "0x7"));
    assert_true(kv_add(&kv, "counter-down", "12"));
    c = meta_read_counters(&kv);
    assert_false(c.has_up);
    assert_true(c.has_down);
    kv_free(&kv);
}

static void the_token_is_in_no_log(void **state)
{
    (void)state;
    struct kv kv = call_metadata();
    assert_true(kv_add(&kv, META_TOKEN, "secret"));
    struct kv shown = meta_redacted(&kv);
    assert_int_equal(shown.count, kv.count);
    assert_null(strstr(text(&shown), "secret"));
    assert_non_null(strstr(text(&shown), "x-ch-auth-api-token=[redacted]\n"));
    assert_non_null(strstr(text(&shown), "device-port=1234\n"));
    kv_free(&shown);
    kv_free(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control),
        cmocka_unit_test(data),
        cmocka_unit_test(pairs_that_are_left_out),
        cmocka_unit_test(keys_and_values_that_are_too_long),
        cmocka_unit_test(more_pairs_than_a_call_carries),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(calls_that_are_malformed),
        cmocka_unit_test(session_ids_of_either_case_are_one),
        cmocka_unit_test(callers_that_say_little),
        cmocka_unit_test(counters_of_a_server),
        cmocka_unit_test(the_token_is_in_no_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
