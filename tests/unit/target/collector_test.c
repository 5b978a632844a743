#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "target/collector.h"

/* A session with a scripted router and a false clock; events become short words in `log`. */
struct session {
    struct collector_peer *p;
    int64_t now;
    char log[4096];
};

static void note(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(struct session *s, const char *fmt, ...)
{
    size_t len = strlen(s->log);
    if (len > 0 && len + 1 < sizeof s->log)
        s->log[len++] = ' ';
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->log + len, sizeof s->log - len, fmt, ap);
    va_end(ap);
}

static void sink(void *arg, const struct collector_event *event)
{
    struct session *s = arg;
    assert_string_equal(event->peer->device, "edge1");
    assert_string_equal(event->peer->address, "192.0.2.1");
    assert_string_equal(event->peer->session, "s-1");
    unsigned prefixes = 0;
    if (event->routes) {
        struct bgp_prefix prefix;
        for (struct bgp_prefix_walk w = bgp_prefixes(event->routes); bgp_prefix_next(&w, &prefix);)
            prefixes++;
    }
    switch (event->kind) {
    case COLLECTOR_OPEN:
        note(s, "open(%u,%u)", event->open->asn, event->hold_time);
        break;
    case COLLECTOR_ESTABLISHED:
        note(s, "established(%u)", event->hold_time);
        break;
    case COLLECTOR_ANNOUNCE:
        note(s, "announce(%u/%u:%u,%zu)", event->family.afi, event->family.safi, prefixes,
             event->next_hop_len);
        break;
    case COLLECTOR_WITHDRAW:
        note(s, "withdraw(%u/%u:%u)", event->family.afi, event->family.safi, prefixes);
        break;
    case COLLECTOR_OPAQUE:
        note(s, "opaque(%u/%u,%zu)", event->family.afi, event->family.safi, event->routes->len);
        break;
    case COLLECTOR_END_OF_RIB:
        note(s, "eor(%u/%u)", event->family.afi, event->family.safi);
        break;
    case COLLECTOR_MALFORMED:
        note(s, "malformed(%u)", event->update->bad_attribute);
        break;
    case COLLECTOR_NOTIFICATION:
        note(s, "%s(%u/%u)", event->sent ? "sent" : "received", event->notification->code,
             event->notification->subcode);
        break;
    case COLLECTOR_CLOSE:
        note(s, "close");
        assert_non_null(event->reason);
        break;
    }
}

static struct collector_config config(struct session *s)
{
    return (struct collector_config){.router_id = {10, 9, 9, 9}, .sink = sink, .sink_arg = s};
}

static void start_with(struct session *s, const struct collector_config *c)
{
    static const struct collector_identity identity = {"edge1", "192.0.2.1", "s-1"};
    *s = (struct session){.now = 1000000};
    s->p = collector_new(c, &identity, s->now);
    assert_non_null(s->p);
}

static void start(struct session *s)
{
    struct collector_config c = config(s);
    start_with(s, &c);
}

static void end(struct session *s)
{
    collector_free(s->p);
}

static void feed(struct session *s, const void *bytes, size_t n)
{
    /* Exact memory, so that the address sanitizer sees a read beyond it. */
    uint8_t *copy = malloc(n ? n : 1);
    memcpy(copy, bytes, n);
    collector_feed(s->p, copy, n, s->now);
    free(copy);
}

static size_t message(uint8_t *out, unsigned type, const void *body, size_t n)
{
    memset(out, 0xff, 16);
    put_u16(out + 16, (uint16_t)(BGP_HEADER_LEN + n));
    out[18] = (uint8_t)type;
    if (n > 0)
        memcpy(out + BGP_HEADER_LEN, body, n);
    return BGP_HEADER_LEN + n;
}

static void say(struct session *s, unsigned type, const void *body, size_t n)
{
    uint8_t *out = malloc(BGP_HEADER_LEN + n);
    feed(s, out, message(out, type, body, n));
    free(out);
}

#define B(literal) literal, sizeof literal - 1

static const struct bgp_open router = {.asn = 65001,
                                       .hold_time = 180,
                                       .router_id = {192, 0, 2, 1},
                                       .as4 = true,
                                       .route_refresh = true,
                                       .family_count = 2,
                                       .families = {{1, 1}, {1, 128}}};

static void say_open(struct session *s, const struct bgp_open *o)
{
    uint8_t out[BGP_OPEN_MAX];
    feed(s, out, bgp_open_encode(o, out));
}

/* The next message to the router; 0: none. Its body is copied. */
static unsigned hear(struct session *s, uint8_t body[static BGP_MAX], size_t *n)
{
    struct buf *out = collector_output(s->p);
    if (buf_len(out) == 0)
        return 0;
    struct bgp_header h;
    struct bgp_fault f;
    assert_true(buf_len(out) >= BGP_HEADER_LEN);
    assert_true(bgp_header_check(buf_begin(out), false, &h, &f));
    assert_true(buf_len(out) >= h.len);
    *n = h.len - (size_t)BGP_HEADER_LEN;
    memcpy(body, buf_begin(out) + BGP_HEADER_LEN, *n);
    buf_take(out, h.len);
    return h.type;
}

static void hear_nothing(struct session *s)
{
    assert_int_equal(buf_len(collector_output(s->p)), 0);
}

static void hear_keepalive(struct session *s)
{
    uint8_t body[BGP_MAX];
    size_t n;
    assert_int_equal(hear(s, body, &n), BGP_KEEPALIVE);
}

/* The last message and the end of the session. */
static void hear_notification(struct session *s, unsigned code, unsigned subcode)
{
    uint8_t body[BGP_MAX];
    size_t n;
    assert_int_equal(hear(s, body, &n), BGP_NOTIFICATION);
    assert_int_equal(body[0], code);
    assert_int_equal(body[1], subcode);
    hear_nothing(s);
    assert_true(collector_finished(s->p));
    assert_false(collector_established(s->p));
    assert_true(collector_deadline_ms(s->p) == INT64_MAX);
    /* Nothing moves it any more. */
    size_t log = strlen(s->log);
    say_open(s, &router);
    collector_tick(s->p, s->now + 1000000000);
    collector_eof(s->p, NULL, s->now);
    collector_shutdown(s->p, s->now, "again");
    hear_nothing(s);
    assert_int_equal(strlen(s->log), log);
}

static struct bgp_open hear_open(struct session *s)
{
    static uint8_t body[BGP_MAX];
    size_t n;
    struct bgp_open o;
    struct bgp_fault f;
    assert_int_equal(hear(s, body, &n), BGP_OPEN);
    assert_true(bgp_open_decode(body, n, &o, &f));
    return o;
}

static void establish(struct session *s, const struct bgp_open *o)
{
    say_open(s, o);
    hear_open(s);
    hear_keepalive(s);
    say(s, BGP_KEEPALIVE, NULL, 0);
    hear_nothing(s);
    assert_true(collector_established(s->p));
}

static void advance(struct session *s, int64_t ms)
{
    s->now += ms;
    collector_tick(s->p, s->now);
}

#define GOOD "\x40\x01\x01\x00\x40\x02\x06\x02\x01\x00\x00\xfd\xe9\x40\x03\x04\xc0\x00\x02\x01"

static void whole_session(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    hear_nothing(&s);
    say_open(&s, &router);
    struct bgp_open ours = hear_open(&s);
    assert_int_equal(ours.asn, 65001); /* mirrored: iBGP */
    assert_true(ours.as4 && ours.route_refresh);
    assert_false(ours.extended_message || ours.graceful_restart || ours.add_path);
    assert_int_equal(ours.hold_time, COLLECTOR_HOLD_TIME);
    assert_memory_equal(ours.router_id, "\x0a\x09\x09\x09", 4);
    assert_int_equal(ours.family_count, 3);
    assert_true(bgp_open_has_family(&ours, 1, 1) && bgp_open_has_family(&ours, 2, 1));
    assert_true(bgp_open_has_family(&ours, 1, 128));
    hear_keepalive(&s);
    assert_false(collector_established(s.p));
    say(&s, BGP_KEEPALIVE, NULL, 0);
    assert_true(collector_established(s.p));

    say(&s, BGP_UPDATE, B("\0\0\0\x14" GOOD "\x18\x0a\0\0\x18\x0a\0\1"));
    say(&s, BGP_UPDATE, B("\0\4\x18\x0a\0\0\0\0"));
    say(&s, BGP_UPDATE, B("\0\0\0\0"));
    say(&s, BGP_UPDATE, B("\0\0\0\x06\x80\x0f\x03\0\1\x80"));
    say(&s, BGP_UPDATE, B("\0\0\0\x08\x80\x0f\x05\0\1\x80\1\1"));
    say(&s, BGP_ROUTE_REFRESH, B("\0\1\0\1"));
    say(&s, BGP_NOTIFICATION, B("\6\2\3bye"));
    hear_nothing(&s);
    assert_true(collector_finished(s.p));
    assert_string_equal(
        s.log, "open(65001,90) established(90) announce(1/1:2,4) withdraw(1/1:1) eor(1/1) eor(1/128) "
               "opaque(1/128,2) received(6/2) close");
    end(&s);
}

/* Byte by byte, in pieces, and in one: the same events. */
static void torn(void **state)
{
    (void)state;
    static uint8_t stream[70000];
    size_t n = bgp_open_encode(&router, stream);
    n += message(stream + n, BGP_KEEPALIVE, NULL, 0);
    n += message(stream + n, BGP_UPDATE, B("\0\0\0\x14" GOOD "\x18\x0a\0\0"));
    static uint8_t big[BGP_MAX - BGP_HEADER_LEN]; /* withdrawn default routes, each one byte */
    put_u16(big, sizeof big - 4);
    n += message(stream + n, BGP_UPDATE, big, sizeof big);
    n += message(stream + n, BGP_KEEPALIVE, NULL, 0);
    n += message(stream + n, BGP_NOTIFICATION, B("\4\0"));
    char want[4096] = "";
    for (size_t piece = n; piece > 0; piece = piece > 200 ? piece / 2 : piece - 1) {
        struct session s;
        start(&s);
        for (size_t at = 0; at < n; at += piece)
            feed(&s, stream + at, piece < n - at ? piece : n - at);
        if (!want[0])
            memcpy(want, s.log, sizeof want);
        assert_string_equal(s.log, want);
        end(&s);
    }
    assert_string_equal(
        want, "open(65001,90) established(90) announce(1/1:1,4) withdraw(1/1:4073) received(4/0) close");
}

static void timers(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    assert_int_equal(collector_deadline_ms(s.p), s.now + 240000);
    struct bgp_open o = router;
    o.hold_time = 30;
    establish(&s, &o);
    assert_int_equal(collector_deadline_ms(s.p), s.now + 10000);
    advance(&s, 9999);
    hear_nothing(&s);
    advance(&s, 1);
    hear_keepalive(&s);
    say(&s, BGP_KEEPALIVE, NULL, 0); /* the hold timer starts again */
    advance(&s, 10000);
    hear_keepalive(&s);
    advance(&s, 10000);
    hear_keepalive(&s);
    assert_int_equal(collector_deadline_ms(s.p), s.now + 10000);
    assert_false(collector_finished(s.p));
    advance(&s, 9999);
    hear_nothing(&s);
    advance(&s, 1);
    hear_notification(&s, 4, 0);
    assert_string_equal(s.log, "open(65001,30) established(30) sent(4/0) close");
    end(&s);
}

/* An UPDATE is as good as a KEEPALIVE. */
static void updates_keep_alive(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    struct bgp_open o = router;
    o.hold_time = 3;
    establish(&s, &o);
    for (int i = 0; i < 10; i++) {
        advance(&s, 2000);
        hear_keepalive(&s);
        say(&s, BGP_UPDATE, B("\0\0\0\0"));
    }
    assert_false(collector_finished(s.p));
    advance(&s, 3000);
    hear_notification(&s, 4, 0);
    end(&s);
}

static void no_hold_time(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    struct bgp_open o = router;
    o.hold_time = 0;
    establish(&s, &o);
    assert_true(collector_deadline_ms(s.p) == INT64_MAX);
    advance(&s, 1000000000);
    hear_nothing(&s);
    assert_true(collector_established(s.p));
    end(&s);
}

static void offered_hold_time(void **state)
{
    (void)state;
    static const struct {
        uint16_t configured, router, want;
    } rows[] = {{0, 180, 90}, {0, 30, 30}, {240, 180, 180}, {2, 180, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct session s;
        struct collector_config c = config(&s);
        c.hold_time = rows[i].configured;
        start_with(&s, &c);
        struct bgp_open o = router;
        o.hold_time = rows[i].router;
        establish(&s, &o);
        char want[64];
        snprintf(want, sizeof want, "open(65001,%u) established(%u)", rows[i].want, rows[i].want);
        assert_string_equal(s.log, want);
        end(&s);
    }
}

static void no_open(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    feed(&s, "\xff\xff\xff", 3); /* a beginning does not count */
    advance(&s, 239999);
    hear_nothing(&s);
    advance(&s, 1);
    hear_notification(&s, 4, 0);
    assert_string_equal(s.log, "sent(4/0) close");
    end(&s);
}

static void no_keepalive_after_open(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    say_open(&s, &router);
    hear_open(&s);
    hear_keepalive(&s);
    advance(&s, 90000);
    hear_notification(&s, 4, 0);
    end(&s);
}

/* A router that never reads does not make us keep more and more for it. */
static void output_is_bounded(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    struct bgp_open o = router;
    o.hold_time = 3;
    say_open(&s, &o);
    for (int i = 0; i < 10000; i++) {
        say(&s, BGP_KEEPALIVE, NULL, 0);
        advance(&s, 1000);
    }
    assert_false(collector_finished(s.p));
    assert_in_range(buf_len(collector_output(s.p)), 1024, 2048);
    end(&s);
}

/* The router's AS in all ways, and a local AS that does not fit in two bytes. */
static void autonomous_systems(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    struct bgp_open o = router;
    o.asn = 4200000000u;
    say_open(&s, &o);
    struct bgp_open ours = hear_open(&s);
    assert_int_equal(ours.asn, 4200000000u);
    assert_int_equal(ours.asn_2octet, BGP_AS_TRANS);
    end(&s);

    struct collector_config c = config(&s);
    c.local_as = 131072;
    start_with(&s, &c);
    say_open(&s, &router);
    ours = hear_open(&s);
    assert_int_equal(ours.asn, 131072);
    assert_int_equal(ours.asn_2octet, BGP_AS_TRANS);
    end(&s);

    /* Without the capability AS_PATH has two bytes an AS; an eBGP neighbour's LOCAL_PREF does not count. */
    start_with(&s, &c);
    o = router;
    o.as4 = false;
    establish(&s, &o);
    say(&s, BGP_UPDATE,
        B("\0\0\0\x19\x40\1\1\0\x40\2\4\2\1\xfd\xe9\x40\3\4\1\2\3\4\x40\5\4\0\0\0\1\x18\x0a\0\0"));
    assert_string_equal(s.log, "open(65001,90) established(90) announce(1/1:1,4)");
    end(&s);
}

static void capabilities(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    struct bgp_open o = router;
    o.extended_message = true;
    o.family_count = BGP_FAMILIES_MAX;
    for (uint16_t i = 0; i < BGP_FAMILIES_MAX; i++)
        o.families[i] = (struct bgp_family){25, (uint8_t)(i + 1)};
    say_open(&s, &o);
    struct bgp_open ours = hear_open(&s);
    assert_true(ours.extended_message);
    assert_int_equal(ours.family_count, BGP_FAMILIES_MAX);
    assert_true(bgp_open_has_family(&ours, 1, 1) && bgp_open_has_family(&ours, 2, 1));
    end(&s);

    /* A router without any gets none. */
    start(&s);
    o = (struct bgp_open){.asn = 65001, .hold_time = 90, .router_id = {1, 2, 3, 4}};
    say_open(&s, &o);
    ours = hear_open(&s);
    assert_int_equal(ours.params_len, 0);
    end(&s);

    /* Our router id must not be the router's. */
    start(&s);
    o = router;
    memcpy(o.router_id, "\x0a\x09\x09\x09", 4);
    say_open(&s, &o);
    ours = hear_open(&s);
    assert_memory_not_equal(ours.router_id, o.router_id, 4);
    end(&s);
}

static void extended_messages(void **state)
{
    (void)state;
    static uint8_t big[60000];
    put_u16(big, sizeof big - 4);
    struct session s;
    start(&s);
    establish(&s, &router);
    say(&s, BGP_UPDATE, big, sizeof big);
    hear_notification(&s, 1, 2);
    end(&s);

    start(&s);
    struct bgp_open o = router;
    o.extended_message = true;
    establish(&s, &o);
    say(&s, BGP_UPDATE, big, sizeof big);
    assert_string_equal(s.log, "open(65001,90) established(90) withdraw(1/1:59996)");
    end(&s);
}

static void bad_open(const char *body, size_t n, unsigned code, unsigned subcode)
{
    struct session s;
    start(&s);
    say(&s, BGP_OPEN, body, n);
    hear_notification(&s, code, subcode);
    char want[64];
    snprintf(want, sizeof want, "sent(%u/%u) close", code, subcode);
    assert_string_equal(s.log, want);
    end(&s);
}

static void bad_opens(void **state)
{
    (void)state;
    bad_open(B("\3\xfd\xe9\0\x5a\1\2\3\4\0"), 2, 1);
    bad_open(B("\4\0\0\0\x5a\1\2\3\4\0"), 2, 2);
    bad_open(B("\4\xfd\xe9\0\x5a\0\0\0\0\0"), 2, 3);
    bad_open(B("\4\xfd\xe9\0\x5a\1\2\3\4\2\1\0"), 2, 4);
    bad_open(B("\4\xfd\xe9\0\1\1\2\3\4\0"), 2, 6);
    bad_open(B("\4\xfd\xe9\0\2\1\2\3\4\0"), 2, 6);
    bad_open(B("\4\xfd\xe9\0\x5a\1\2\3\4\7"), 2, 0);
    bad_open(B("\4\xfd\xe9\0\x5a\1\2\3\4"), 1, 2);
}

static void bad_headers(void **state)
{
    (void)state;
    for (int established = 0; established < 2; established++) {
        static const struct {
            const char *header;
            size_t n;
            unsigned subcode;
        } rows[] = {
#define FF "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
            {B(FF "\xfe\0\x13\4"), 1}, {B("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 1},
            {B(FF "\xff\0\x12\4"), 2}, {B(FF "\xff\x10\x01\2"), 2},
            {B(FF "\xff\0\x14\4"), 2}, {B(FF "\xff\0\x13\x09"), 3},
            {B(FF "\xff\0\x13\0"), 3},
        };
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            struct session s;
            start(&s);
            if (established)
                establish(&s, &router);
            feed(&s, rows[i].header, rows[i].n);
            hear_notification(&s, 1, rows[i].subcode);
            end(&s);
        }
    }
}

static void unexpected_messages(void **state)
{
    (void)state;
    static const unsigned types[] = {BGP_UPDATE, BGP_KEEPALIVE, BGP_ROUTE_REFRESH};
    for (size_t i = 0; i < 3; i++) {
        struct session s;
        start(&s);
        say(&s, types[i], "\0\0\0\0", types[i] == BGP_KEEPALIVE ? 0 : 4);
        hear_notification(&s, 5, 1);
        end(&s);
        if (types[i] == BGP_KEEPALIVE)
            continue;
        start(&s);
        say_open(&s, &router);
        hear_open(&s);
        hear_keepalive(&s);
        say(&s, types[i], "\0\0\0\0", 4);
        hear_notification(&s, 5, 2);
        end(&s);
    }
    struct session s;
    start(&s);
    say_open(&s, &router);
    hear_open(&s);
    hear_keepalive(&s);
    say_open(&s, &router);
    hear_notification(&s, 5, 2);
    end(&s);
    start(&s);
    establish(&s, &router);
    say_open(&s, &router);
    hear_notification(&s, 5, 3);
    end(&s);
}

static void bad_updates(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    establish(&s, &router);
    s.log[0] = 0;
    /* ORIGIN 9: the routes count as withdrawn, the session stays. */
    say(&s, BGP_UPDATE, B("\0\0\0\x14\x40\1\1\x09\x40\2\6\2\1\0\0\xfd\xe9\x40\3\4\1\2\3\4\x18\x0a\0\0"));
    /* A wrong AGGREGATOR is left out. */
    say(&s, BGP_UPDATE, B("\0\0\0\x18" GOOD "\xc0\7\1\0\x18\x0a\0\0"));
    assert_string_equal(s.log, "malformed(1) withdraw(1/1:1) malformed(7) announce(1/1:1,4)");
    assert_false(collector_finished(s.p));
    /* Prefixes that cannot be told end it. */
    say(&s, BGP_UPDATE, B("\0\0\0\x14" GOOD "\x21\x0a\0\0"));
    hear_notification(&s, 3, 10);
    end(&s);

    start(&s);
    establish(&s, &router);
    say(&s, BGP_UPDATE, B("\0\0\xff\xff"));
    hear_notification(&s, 3, 1);
    end(&s);
}

static void closed_by_the_router(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    establish(&s, &router);
    collector_eof(s.p, NULL, s.now);
    collector_eof(s.p, NULL, s.now);
    assert_true(collector_finished(s.p));
    hear_nothing(&s);
    assert_string_equal(s.log, "open(65001,90) established(90) close");
    end(&s);

    start(&s);
    say(&s, BGP_NOTIFICATION, B("\6\5"));
    assert_string_equal(s.log, "received(6/5) close");
    hear_nothing(&s);
    end(&s);
}

static void shut_down(void **state)
{
    (void)state;
    struct session s;
    start(&s);
    establish(&s, &router);
    collector_shutdown(s.p, s.now, "maintenance");
    uint8_t body[BGP_MAX];
    size_t n;
    struct bgp_notification notification;
    char text[BGP_SHUTDOWN_TEXT_MAX];
    assert_int_equal(hear(&s, body, &n), BGP_NOTIFICATION);
    assert_true(bgp_notification_decode(body, n, &notification));
    assert_int_equal(notification.code, 6);
    assert_int_equal(notification.subcode, 2);
    bgp_shutdown_text(&notification, text);
    assert_string_equal(text, "maintenance");
    assert_string_equal(s.log, "open(65001,90) established(90) sent(6/2) close");
    end(&s);

    start(&s);
    collector_shutdown(s.p, s.now, NULL);
    assert_int_equal(hear(&s, body, &n), BGP_NOTIFICATION);
    assert_int_equal(n, 2);
    assert_true(collector_finished(s.p));
    end(&s);
    collector_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_session),
        cmocka_unit_test(torn),
        cmocka_unit_test(timers),
        cmocka_unit_test(updates_keep_alive),
        cmocka_unit_test(no_hold_time),
        cmocka_unit_test(offered_hold_time),
        cmocka_unit_test(no_open),
        cmocka_unit_test(no_keepalive_after_open),
        cmocka_unit_test(output_is_bounded),
        cmocka_unit_test(autonomous_systems),
        cmocka_unit_test(capabilities),
        cmocka_unit_test(extended_messages),
        cmocka_unit_test(bad_opens),
        cmocka_unit_test(bad_headers),
        cmocka_unit_test(unexpected_messages),
        cmocka_unit_test(bad_updates),
        cmocka_unit_test(closed_by_the_router),
        cmocka_unit_test(shut_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
