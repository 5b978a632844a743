#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bgp/peek.h"

/* What most tests leave to this watcher alone. */
static struct bgp_peek_data data;

static uint32_t feed(struct bgp_peek *p, const uint8_t *bytes, size_t n)
{
    return bgp_peek_feed(p, &data, 1, bytes, n);
}

static bool notification(const struct bgp_peek *p, struct bgp_notification *n)
{
    return bgp_peek_notification(p, &data, 1, n);
}

/* A stream under construction. */
static uint8_t stream[1 << 18];
static size_t stream_len;

static void add(unsigned type, const void *body, size_t n)
{
    uint8_t *p = stream + stream_len;
    memset(p, 0xff, 16);
    p = put_u16(p + 16, (uint16_t)(BGP_HEADER_LEN + n));
    p = put_u8(p, (uint8_t)type);
    if (n > 0)
        p = put_bytes(p, body, n);
    stream_len = (size_t)(p - stream);
}

static void add_open(uint32_t asn)
{
    struct bgp_open o = {
        .asn = asn, .hold_time = 180, .router_id = {192, 0, 2, 9}, .as4 = true, .route_refresh = true};
    o.family_count = BGP_FAMILIES_MAX;
    for (uint16_t i = 0; i < BGP_FAMILIES_MAX; i++)
        o.families[i] = (struct bgp_family){i, 1};
    stream_len += bgp_open_encode(&o, stream + stream_len);
}

/* A whole session: OPEN, KEEPALIVE, a short and a long UPDATE, an unknown type, ROUTE-REFRESH, NOTIFICATION.
 */
static void whole_session(void)
{
    static uint8_t update[3000];
    stream_len = 0;
    add_open(4200000000u);
    add(BGP_KEEPALIVE, NULL, 0);
    add(BGP_UPDATE, update, 4);
    add(BGP_UPDATE, update, sizeof update);
    add(99, update, 7);
    add(BGP_ROUTE_REFRESH, "\0\1\0\1", 4);
    add(BGP_NOTIFICATION, "\6\2\6going!", 9);
}

static void check_session(const struct bgp_peek *p)
{
    assert_false(p->unparsable);
    assert_int_equal(p->messages[BGP_OPEN], 1);
    assert_int_equal(p->messages[BGP_UPDATE], 2);
    assert_int_equal(p->messages[BGP_NOTIFICATION], 1);
    assert_int_equal(p->messages[BGP_KEEPALIVE], 1);
    assert_int_equal(p->messages[BGP_ROUTE_REFRESH], 1);
    assert_int_equal(p->messages[0], 1);
    assert_true(p->have_open);
    assert_int_equal(p->asn, 4200000000u);
    assert_int_equal(p->hold_time, 180);
    assert_memory_equal(p->router_id, "\xc0\0\2\x09", 4);
    struct bgp_notification n;
    char text[BGP_SHUTDOWN_TEXT_MAX], name[BGP_NAME_MAX];
    assert_true(notification(p, &n));
    assert_string_equal(bgp_notification_name(&n, name), "Cease: Administrative Shutdown");
    bgp_shutdown_text(&n, text);
    assert_string_equal(text, "going!");
}

static void whole(void **state)
{
    (void)state;
    whole_session();
    struct bgp_peek p = {0};
    assert_int_equal(feed(&p, stream, stream_len), 7);
    check_session(&p);
}

static void split_everywhere(void **state)
{
    (void)state;
    whole_session();
    for (size_t at = 0; at <= stream_len; at++) {
        struct bgp_peek p = {0};
        uint32_t n = feed(&p, stream, at);
        n += feed(&p, stream + at, stream_len - at);
        assert_int_equal(n, 7);
        check_session(&p);
    }
    for (size_t piece = 1; piece < 64; piece++) {
        struct bgp_peek p = {0};
        for (size_t at = 0; at < stream_len; at += piece)
            feed(&p, stream + at, piece < stream_len - at ? piece : stream_len - at);
        check_session(&p);
    }
}

/* What is known before a message is complete. */
static void unfinished(void **state)
{
    (void)state;
    whole_session();
    struct bgp_peek p = {0};
    size_t open_len = (size_t)(stream[16] << 8 | stream[17]);
    feed(&p, stream, open_len - 1);
    assert_false(p.have_open);
    feed(&p, stream + open_len - 1, 1);
    assert_true(p.have_open);
    struct bgp_notification n;
    assert_false(notification(&p, &n));
}

/* The same facts as the decoder, from any OPEN that the decoder takes. */
static void opens(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        size_t n;
        uint32_t asn;
    } rows[] = {
#define B(literal) literal, sizeof literal - 1
        {B("\x04\xfd\xe8\x00\x5a\x01\x02\x03\x04\x00"), 65000},
        /* one capability a parameter */
        {B("\x04\x5b\xa0\x00\x5a\x01\x02\x03\x04\x10\x02\x06\x01\x04\0\1\0\1\x02\x06\x41\x04\0\1\0\x09"),
         65545},
        /* RFC 9072, two parameters */
        {B("\x04\x5b\xa0\x00\x5a\x01\x02\x03\x04\xff\xff\x00\x10\x02\x00\x06\x41\x04\0\1\0\x09\x02\0\x04\x46"
           "\x02\7\7"),
         65545},
        /* an empty parameter first; a capability of zero length before */
        {B("\x04\x5b\xa0\x00\x5a\x01\x02\x03\x04\x0c\x02\x00\x02\x08\x02\x00\x41\x04\0\1\0\x09"), 65545},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bgp_open o;
        struct bgp_fault f;
        assert_true(bgp_open_decode((const uint8_t *)rows[i].body, rows[i].n, &o, &f));
        assert_int_equal(o.asn, rows[i].asn);
        stream_len = 0;
        add(BGP_OPEN, rows[i].body, rows[i].n);
        struct bgp_peek p = {0};
        for (size_t at = 0; at < stream_len; at++)
            feed(&p, stream + at, 1);
        assert_true(p.have_open);
        assert_int_equal(p.asn, rows[i].asn);
        assert_int_equal(p.hold_time, 90);
    }
    /* An unknown parameter is passed over: it is the peer that refuses it. */
    stream_len = 0;
    add(BGP_OPEN, B("\x04\x5b\xa0\x00\x5a\x01\x02\x03\x04\x0d\x01\x03"
                    "abc"
                    "\x02\x06\x41\x04\0\1\0\x09"));
    struct bgp_peek p = {0};
    feed(&p, stream, stream_len);
    assert_int_equal(p.asn, 65545);
    /* A capability longer than its parameter is the end of what can be learned, not of the stream. */
    stream_len = 0;
    add(BGP_OPEN, B("\x04\x5b\xa0\x00\x5a\x01\x02\x03\x04\x08\x02\x06\x41\x05\0\1\0\x09"));
    add(BGP_KEEPALIVE, NULL, 0);
    p = (struct bgp_peek){0};
    assert_int_equal(feed(&p, stream, stream_len), 2);
    assert_int_equal(p.asn, BGP_AS_TRANS);
    assert_true(p.have_open);
}

static void last_notification(void **state)
{
    (void)state;
    stream_len = 0;
    uint8_t body[2 + 256] = {6, 2, 255};
    memset(body + 3, 'x', 255);
    add(BGP_NOTIFICATION, body, sizeof body);
    struct bgp_peek p = {0};
    struct bgp_notification n;
    char text[BGP_SHUTDOWN_TEXT_MAX], name[BGP_NAME_MAX];
    feed(&p, stream, stream_len);
    assert_true(notification(&p, &n));
    assert_int_equal(bgp_shutdown_text(&n, text), BGP_PEEK_DATA_MAX - 1);

    stream_len = 0;
    add(BGP_NOTIFICATION, "\6\x09\6\2\4over", 9);
    feed(&p, stream, stream_len);
    assert_true(notification(&p, &n));
    assert_string_equal(bgp_notification_name(&n, name),
                        "Cease: Hard Reset (Cease: Administrative Shutdown)");
    bgp_shutdown_text(&n, text);
    assert_string_equal(text, "over");
    assert_int_equal(p.messages[BGP_NOTIFICATION], 2);

    stream_len = 0;
    add(BGP_NOTIFICATION, "\4\0", 2);
    feed(&p, stream, stream_len);
    assert_true(notification(&p, &n));
    assert_string_equal(bgp_notification_name(&n, name), "Hold Timer Expired");
}

/* A NOTIFICATION with a text, whole; returns its length. */
static size_t shutdown_message(uint8_t out[static 64], const char *text)
{
    uint8_t bytes[BGP_SHUTDOWN_DATA_MAX];
    struct bgp_notification n = {.code = 6, .subcode = 2, .data = bytes};
    n.data_len = bgp_shutdown_data(text, bytes);
    return bgp_notification_encode(&n, out, 64);
}

/*
 * Two watchers share the memory for data, and their bytes come interleaved in every way. The text that began first is kept
 * whole, the other is not, and never is there a mixture.
 */
static void two_share_their_data(void **state)
{
    (void)state;
    uint8_t a[64], b[64];
    size_t a_len = shutdown_message(a, "from A"), b_len = shutdown_message(b, "and this is from B");
    const size_t first_data = BGP_HEADER_LEN + 2;
    for (size_t before = 0; before <= a_len; before++) {
        for (size_t middle = 0; middle <= b_len; middle++) {
            struct bgp_peek pa = {0}, pb = {0};
            struct bgp_peek_data shared = {0};
            struct bgp_notification na, nb;
            char ta[BGP_SHUTDOWN_TEXT_MAX], tb[BGP_SHUTDOWN_TEXT_MAX];
            bgp_peek_feed(&pa, &shared, 1, a, before);
            bgp_peek_feed(&pb, &shared, 2, b, middle);
            bgp_peek_feed(&pa, &shared, 1, a + before, a_len - before);
            bgp_peek_feed(&pb, &shared, 2, b + middle, b_len - middle);
            assert_true(bgp_peek_notification(&pa, &shared, 1, &na));
            assert_true(bgp_peek_notification(&pb, &shared, 2, &nb));
            assert_int_equal(na.code, 6);
            assert_int_equal(nb.subcode, 2);
            bgp_shutdown_text(&na, ta);
            bgp_shutdown_text(&nb, tb);
            bool b_is_first = before <= first_data && middle > first_data;
            assert_string_equal(ta, b_is_first ? "" : "from A");
            assert_string_equal(tb, b_is_first ? "and this is from B" : "");
        }
    }
}

/* Its next NOTIFICATION takes a watcher's own data away, and nobody else's. */
static void data_goes_with_the_next_one(void **state)
{
    (void)state;
    uint8_t a[64], bare[64];
    size_t a_len = shutdown_message(a, "from A"), bare_len = BGP_HEADER_LEN + 2;
    struct bgp_notification hold = {.code = 4}, n;
    assert_int_equal(bgp_notification_encode(&hold, bare, sizeof bare), bare_len);
    struct bgp_peek pa = {0}, pb = {0};
    struct bgp_peek_data shared = {0};
    bgp_peek_feed(&pa, &shared, 1, a, a_len);
    bgp_peek_feed(&pb, &shared, 2, bare, bare_len);
    assert_true(bgp_peek_notification(&pa, &shared, 1, &n));
    assert_int_equal(n.data_len, 7);
    bgp_peek_feed(&pa, &shared, 1, bare, BGP_HEADER_LEN);
    assert_false(bgp_peek_notification(&pa, &shared, 1, &n));
    bgp_peek_feed(&pa, &shared, 1, bare + BGP_HEADER_LEN, 2);
    assert_true(bgp_peek_notification(&pa, &shared, 1, &n));
    assert_int_equal(n.code, 4);
    assert_int_equal(n.data_len, 0);
}

static void long_messages(void **state)
{
    (void)state;
    static uint8_t body[BGP_MAX_EXTENDED - BGP_HEADER_LEN];
    stream_len = 0;
    add(BGP_UPDATE, body, sizeof body);
    add(BGP_KEEPALIVE, NULL, 0);
    struct bgp_peek p = {0};
    for (size_t at = 0; at < stream_len; at += 1000)
        feed(&p, stream + at, stream_len - at < 1000 ? stream_len - at : 1000);
    assert_false(p.unparsable);
    assert_int_equal(p.messages[BGP_UPDATE], 1);
    assert_int_equal(p.messages[BGP_KEEPALIVE], 1);
}

static void not_bgp(void **state)
{
    (void)state;
    static const char *const others[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                         "SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
                                         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct bgp_peek p = {0};
        feed(&p, (const uint8_t *)others[i], 20);
        assert_true(p.unparsable);
        /* and stays so, at no cost */
        whole_session();
        assert_int_equal(feed(&p, stream, stream_len), 0);
        assert_int_equal(p.messages[BGP_OPEN], 0);
    }
    /* What was counted before stays. */
    whole_session();
    memset(stream + stream_len, 0, 19);
    struct bgp_peek p = {0};
    feed(&p, stream, stream_len + 19);
    assert_true(p.unparsable);
    assert_int_equal(p.messages[BGP_UPDATE], 2);

    stream_len = 0;
    add(BGP_KEEPALIVE, "x", 1);
    p = (struct bgp_peek){0};
    feed(&p, stream, stream_len);
    assert_true(p.unparsable);
    stream_len = 0;
    add(BGP_OPEN, "\3\0\1\0\x5a\1\1\1\1\0", 10);
    p = (struct bgp_peek){0};
    feed(&p, stream, stream_len);
    assert_true(p.unparsable);
    assert_false(p.have_open);
}

static void garbage(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 3000; round++) {
        struct bgp_peek p = {0};
        size_t n = (size_t)(rand() % 500) + 19;
        uint8_t *bytes = malloc(n);
        for (size_t i = 0; i < n; i++)
            bytes[i] = rand() % 3 ? 0xff : (uint8_t)rand();
        for (size_t at = 0; at < n;) {
            size_t piece = (size_t)(rand() % 40) + 1;
            if (piece > n - at)
                piece = n - at;
            feed(&p, bytes + at, piece);
            at += piece;
        }
        free(bytes);
    }
    /* A good header before random bodies. */
    for (int round = 0; round < 3000; round++) {
        uint8_t body[300];
        for (size_t i = 0; i < sizeof body; i++)
            body[i] = (uint8_t)rand();
        body[0] = 4;
        stream_len = 0;
        add(round & 1 ? BGP_OPEN : BGP_NOTIFICATION, body, sizeof body - (size_t)(rand() % 200));
        add(BGP_KEEPALIVE, NULL, 0);
        struct bgp_peek p = {0};
        assert_int_equal(feed(&p, stream, stream_len), 2);
        assert_int_equal(p.messages[BGP_KEEPALIVE], 1);
    }
    /* Memory left by a process that was killed: anything may stand in it. */
    for (int round = 0; round < 3000; round++) {
        struct bgp_peek p;
        for (size_t i = 0; i < sizeof p; i++)
            ((uint8_t *)&p)[i] = (uint8_t)rand();
        for (size_t i = 0; i < sizeof data; i++)
            ((uint8_t *)&data)[i] = (uint8_t)rand();
        data.who = round & 3;
        whole_session();
        feed(&p, stream, stream_len);
        struct bgp_notification n;
        char text[BGP_SHUTDOWN_TEXT_MAX];
        if (notification(&p, &n)) {
            assert_true(n.data_len <= BGP_PEEK_DATA_MAX);
            bgp_shutdown_text(&n, text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(split_everywhere),
        cmocka_unit_test(unfinished),
        cmocka_unit_test(opens),
        cmocka_unit_test(last_notification),
        cmocka_unit_test(two_share_their_data),
        cmocka_unit_test(data_goes_with_the_next_one),
        cmocka_unit_test(long_messages),
        cmocka_unit_test(not_bgp),
        cmocka_unit_test(garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
