#include "unit.h"

#include "ktbgp.pb-c.h"
#include "relay/data_msg.h"
#include "rng.h"

/* The streaming codec, held against protobuf-c. */

typedef Kentik__Ktbgp__V202203beta2__DataRequest PbData;
#define PB(name) kentik__ktbgp__v202203beta2__data_request__##name

/* What a decoder makes of a message. */
struct read {
    bool complete, bad;
    uint8_t action;
    uint64_t ack;
    uint8_t *payload;
    size_t n;
};

static void feed(struct data_decoder *d, struct read *out, const uint8_t *p, size_t n)
{
    const uint8_t *end = p + n, *payload;
    size_t len;
    for (;;) {
        const uint8_t *before = p;
        switch (data_decode(d, &p, end, &payload, &len)) {
        case DATA_MORE:
            assert_ptr_equal(p, end);
            return;
        case DATA_BAD:
            out->bad = true;
            return;
        case DATA_PAYLOAD:
            assert_true(len > 0 && payload >= before && payload + len <= end);
            memcpy(out->payload + out->n, payload, len);
            out->n += len;
            break;
        }
    }
}

/* Decodes a message that is cut at two places (0 ≤ cut1 ≤ cut2 ≤ n). Frees nothing; `payload` is a buffer of
 * n bytes. */
static struct read decode(const uint8_t *msg, size_t n, size_t cut1, size_t cut2, uint8_t *payload)
{
    struct data_decoder d = {0};
    struct read out = {.payload = payload};
    feed(&d, &out, msg, cut1);
    feed(&d, &out, msg + cut1, cut2 - cut1);
    feed(&d, &out, msg + cut2, n - cut2);
    out.complete = data_decode_end(&d);
    out.action = d.action;
    out.ack = d.ack;
    return out;
}

/* --- messages of random make --- */

struct wire {
    uint8_t bytes[8192];
    size_t n;
};

static void put_varint(struct wire *w, uint64_t v)
{
    while (v >= 0x80) {
        w->bytes[w->n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    w->bytes[w->n++] = (uint8_t)v;
}

static void put_tag(struct wire *w, uint32_t field, unsigned type)
{
    put_varint(w, (uint64_t)field << 3 | type);
}

static void put_random(struct wire *w, struct rng *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w->bytes[w->n++] = (uint8_t)rng_u64(r);
}

static uint64_t random_number(struct rng *r)
{
    return rng_u64(r) >> rng_below(r, 64);
}

static void put_unknown(struct wire *w, struct rng *r)
{
    uint32_t field = 3 + rng_size(r, 0x1fffffff - 3);
    if (field == 15)
        field = 16;
    switch (rng_below(r, 4)) {
    case 0:
        put_tag(w, field, 0);
        put_varint(w, random_number(r));
        break;
    case 1:
        put_tag(w, field, 1);
        put_random(w, r, 8);
        break;
    case 2: {
        size_t n = rng_size(r, 200);
        put_tag(w, field, 2);
        put_varint(w, n);
        put_random(w, r, n);
        break;
    }
    default:
        put_tag(w, field, 5);
        put_random(w, r, 4);
        break;
    }
}

static void make_message(struct wire *w, struct rng *r)
{
    w->n = 0;
    for (uint32_t fields = rng_below(r, 9); fields > 0; fields--) {
        switch (rng_below(r, 5)) {
        case 0:
            put_tag(w, 1, 0);
            put_varint(w, rng_once_in(r, 4) ? random_number(r) : rng_below(r, 4));
            break;
        case 1:
            put_tag(w, 15, 0);
            put_varint(w, random_number(r));
            break;
        case 2:
            put_unknown(w, r);
            break;
        default: {
            size_t n = rng_size(r, 500);
            put_tag(w, 2, 2);
            put_varint(w, n);
            put_random(w, r, n);
            break;
        }
        }
    }
}

static void same_as_protobuf(const struct read *got, const PbData *want)
{
    assert_false(got->bad);
    assert_true(got->complete);
    int action = (int)want->action;
    assert_int_equal(got->action, action == 1 || action == 2 ? action : 0);
    assert_u64_equal(got->ack, want->ack);
    size_t at = 0;
    for (size_t i = 0; i < want->n_data; i++) {
        assert_true(at + want->data[i].len <= got->n);
        if (want->data[i].len > 0)
            assert_memory_equal(got->payload + at, want->data[i].data, want->data[i].len);
        at += want->data[i].len;
    }
    assert_int_equal(at, got->n);
}

static void random_messages_split_at_every_byte(void **state)
{
    (void)state;
    static struct wire w;
    static uint8_t payload[sizeof w.bytes];
    struct rng r = {4};
    size_t splits = 0;
    for (int round = 0; round < 10000; round++) {
        make_message(&w, &r);
        PbData *pb = PB(unpack)(NULL, w.n, w.bytes);
        assert_non_null(pb);
        for (size_t cut = 0; cut <= w.n; cut++, splits++) {
            struct read got = decode(w.bytes, w.n, cut, cut, payload);
            same_as_protobuf(&got, pb);
            got = decode(w.bytes, w.n, cut, cut + rng_below(&r, (uint32_t)(w.n - cut + 1)), payload);
            same_as_protobuf(&got, pb);
        }
        /* And byte by byte. */
        struct data_decoder d = {0};
        struct read got = {.payload = payload};
        for (size_t i = 0; i < w.n; i++)
            feed(&d, &got, w.bytes + i, 1);
        got.complete = data_decode_end(&d);
        got.action = d.action;
        got.ack = d.ack;
        same_as_protobuf(&got, pb);
        PB(free_unpacked)(pb, NULL);
    }
    assert_true(splits > 100000);
}

/* A message cut short is complete only where a field ends; protobuf-c is of the same mind. */
static void cut_short(void **state)
{
    (void)state;
    static struct wire w;
    static uint8_t payload[sizeof w.bytes];
    struct rng r = {5};
    unsigned incomplete = 0;
    for (int round = 0; round < 1000; round++) {
        make_message(&w, &r);
        for (size_t n = 0; n < w.n; n++) {
            PbData *pb = PB(unpack)(NULL, n, w.bytes);
            struct read got = decode(w.bytes, n, n / 2, n, payload);
            assert_false(got.bad);
            assert_int_equal(got.complete, pb != NULL);
            incomplete += !pb;
            if (pb) {
                same_as_protobuf(&got, pb);
                PB(free_unpacked)(pb, NULL);
            }
        }
    }
    assert_true(incomplete > 50000);
}

/*
 * Bytes changed at random: what both take, both read alike. We take a little more (a known field with another
 * wire type) and a little less (numbers that are too large, where protobuf-c drops bits).
 */
static void damaged_messages(void **state)
{
    (void)state;
    static struct wire w;
    static uint8_t payload[sizeof w.bytes];
    struct rng r = {6};
    unsigned taken = 0, refused = 0, stricter = 0;
    for (int round = 0; round < 100000; round++) {
        make_message(&w, &r);
        if (w.n == 0)
            continue;
        for (uint32_t i = 0; i <= rng_below(&r, 3); i++)
            w.bytes[rng_below(&r, (uint32_t)w.n)] = (uint8_t)rng_u64(&r);
        PbData *pb = PB(unpack)(NULL, w.n, w.bytes);
        struct read got = decode(w.bytes, w.n, rng_below(&r, (uint32_t)w.n), w.n, payload);
        if (pb && got.complete) {
            same_as_protobuf(&got, pb);
            taken++;
        }
        stricter += pb && !got.complete;
        if (pb)
            PB(free_unpacked)(pb, NULL);
        refused += got.bad || !got.complete;
        if (got.bad)
            assert_false(got.complete);
    }
    assert_true(taken > 10000);
    assert_true(refused > 10000);
    assert_true(stricter < 1000);
}

#define DECODE(literal, payload)                                                                             \
    decode((const uint8_t *)(literal), sizeof(literal) - 1, 1, sizeof(literal) - 1, payload)

static void what_is_no_protobuf(void **state)
{
    (void)state;
    uint8_t p[64];
    assert_true(DECODE("\x00\x01", p).bad);                                     /* field 0 */
    assert_true(DECODE("\x0b\x0c", p).bad);                                     /* a group */
    assert_true(DECODE("\x0e\x00", p).bad);                                     /* wire type 6 */
    assert_true(DECODE("\x0f\x00", p).bad);                                     /* wire type 7 */
    assert_true(DECODE("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", p).bad); /* more than 64 bits */
    assert_true(DECODE("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80", p).bad); /* more than ten bytes */
    assert_true(DECODE("\x80\x80\x80\x80\x10\x00", p).bad); /* field number above 2^29 - 1 */
    /* A length that no message has: never complete, and no payload beyond what came. */
    struct read got = DECODE("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01xyz", p);
    assert_false(got.bad);
    assert_false(got.complete);
    assert_int_equal(got.n, 3);
    /* Once bad, bad for good. */
    struct data_decoder d = {0};
    struct read out = {.payload = p};
    feed(&d, &out, (const uint8_t *)"\x0f", 1);
    assert_true(out.bad);
    out.bad = false;
    feed(&d, &out, (const uint8_t *)"\x08\x01", 2);
    assert_true(out.bad);
    assert_false(data_decode_end(&d));
}

/* A known field with another wire type is an unknown field, as protobuf's own parsers have it. */
static void known_numbers_with_other_types_are_skipped(void **state)
{
    (void)state;
    uint8_t p[64];
    struct read got = DECODE("\x10\x07\x0a\x01\x01\x7a\x02zz\x08\x01\x12\x02ok", p);
    assert_true(got.complete);
    assert_int_equal(got.action, DATA_KILL);
    assert_u64_equal(got.ack, 0);
    assert_int_equal(got.n, 2);
    assert_memory_equal(p, "ok", 2);
}

static void the_last_action_counts(void **state)
{
    (void)state;
    uint8_t p[64];
    assert_int_equal(DECODE("\x08\x01\x08\x02", p).action, DATA_RESTART);
    assert_int_equal(DECODE("\x08\x01\x08\x00", p).action, DATA_CARRY_ON);
    assert_int_equal(DECODE("\x08\x63", p).action, DATA_CARRY_ON); /* unknown */
    /* An enum is an int32: of a longer number the low 32 bits count, and negative ones take ten bytes. */
    assert_int_equal(DECODE("\x08\x81\x80\x80\x80\x10", p).action, DATA_KILL);
    assert_int_equal(DECODE("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", p).action, DATA_CARRY_ON);
}

/* --- writing --- */

static void headers_are_read_by_protobuf(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1,     2,       127,    128, 300, 16383, 16384, 65526, DATA_PAYLOAD_MAX,
                                     65536, 2097151, 2097152};
    uint8_t *msg = malloc((2u << 20) + 100);
    assert_non_null(msg);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t header = data_msg_header(msg, sizes[i]);
        assert_in_range(header, 2, DATA_HEADER_MAX);
        pattern_fill(7, 0, msg + header, sizes[i]);
        PbData *pb = PB(unpack)(NULL, header + sizes[i], msg);
        assert_non_null(pb);
        assert_int_equal(pb->n_data, 1);
        assert_int_equal(pb->data[0].len, sizes[i]);
        assert_u64_equal(pattern_check(7, 0, pb->data[0].data, sizes[i]), sizes[i]);
        assert_int_equal(pb->action, 0);
        assert_u64_equal(pb->ack, 0);
        PB(free_unpacked)(pb, NULL);
    }
    free(msg);
    uint8_t longest[DATA_HEADER_MAX];
    assert_int_equal(data_msg_header(longest, UINT32_MAX), DATA_HEADER_MAX);
}

static void actions_are_read_by_protobuf(void **state)
{
    (void)state;
    for (int action = DATA_KILL; action <= DATA_RESTART; action++) {
        uint8_t msg[DATA_HEADER_MAX];
        size_t n = data_msg_action(msg, (enum data_action)action);
        PbData *pb = PB(unpack)(NULL, n, msg);
        assert_non_null(pb);
        assert_int_equal(pb->action, action);
        assert_int_equal(pb->n_data, 0);
        PB(free_unpacked)(pb, NULL);
    }
}

/* A full message with gRPC's five bytes and four frame headers is four TLS records exactly, and the contract's 64 KiB are kept. */
static void the_largest_message_fills_whole_records(void **state)
{
    (void)state;
    uint8_t header[DATA_HEADER_MAX];
    assert_int_equal(4 * 9 + 5 + data_msg_header(header, DATA_PAYLOAD_MAX) + DATA_PAYLOAD_MAX, 4 * 16384);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_messages_split_at_every_byte),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(damaged_messages),
        cmocka_unit_test(what_is_no_protobuf),
        cmocka_unit_test(known_numbers_with_other_types_are_skipped),
        cmocka_unit_test(the_last_action_counts),
        cmocka_unit_test(headers_are_read_by_protobuf),
        cmocka_unit_test(actions_are_read_by_protobuf),
        cmocka_unit_test(the_largest_message_fills_whole_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
