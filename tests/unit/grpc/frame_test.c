#include "unit.h"

#include "grpc/frame.h"
#include "rng.h"

/* Reads messages off torn bytes and checks that events come in order. */
struct reader {
    struct grpc_deframer d;
    bool inside;
    uint32_t announced, got;
    unsigned messages;
    uint64_t at;       /* in pattern 1: all payload is a piece of it */
    uint32_t lens[64]; /* of the last messages */
    bool compressed;
};

static void feed(struct reader *r, const uint8_t *p, size_t n)
{
    const uint8_t *end = p + n, *piece;
    uint32_t len;
    for (;;) {
        switch (grpc_deframe(&r->d, &p, end, &piece, &len)) {
        case GRPC_FRAME_MORE:
            assert_ptr_equal(p, end);
            assert_int_equal(grpc_deframer_inside(&r->d), r->inside || r->d.have > 0);
            return;
        case GRPC_FRAME_BEGIN:
            assert_false(r->inside);
            r->inside = true;
            r->announced = len;
            r->got = 0;
            break;
        case GRPC_FRAME_BYTES:
            assert_true(r->inside && len > 0);
            assert_u64_equal(pattern_check(1, r->at, piece, len), len);
            r->at += len;
            r->got += len;
            break;
        case GRPC_FRAME_END:
            assert_true(r->inside);
            assert_int_equal(r->got, r->announced);
            r->inside = false;
            r->lens[r->messages++ % 64] = r->announced;
            break;
        case GRPC_FRAME_COMPRESSED:
            r->compressed = true;
            return;
        }
    }
}

static void messages_torn_at_random(void **state)
{
    (void)state;
    enum { MESSAGES = 64 };
    struct rng rng = {10};
    for (int round = 0; round < 300; round++) {
        uint32_t lens[MESSAGES];
        size_t total = 0;
        for (int i = 0; i < MESSAGES; i++) {
            lens[i] = rng_size(&rng, 2000);
            total += GRPC_PREFIX + lens[i];
        }
        uint8_t *wire = malloc(total), *p = wire;
        assert_non_null(wire);
        uint64_t at = 0;
        for (int i = 0; i < MESSAGES; i++) {
            grpc_prefix_write(p, lens[i]);
            pattern_fill(1, at, p + GRPC_PREFIX, lens[i]);
            at += lens[i];
            p += GRPC_PREFIX + lens[i];
        }
        struct reader r = {0};
        for (size_t done = 0; done < total;) {
            size_t n = round == 0 ? 1 : rng_size(&rng, 4000);
            n = n < total - done ? n : total - done;
            feed(&r, wire + done, n);
            done += n;
        }
        assert_int_equal(r.messages, MESSAGES);
        assert_memory_equal(r.lens, lens, sizeof lens);
        assert_false(grpc_deframer_inside(&r.d));
        free(wire);
    }
}

static void an_empty_message_begins_and_ends(void **state)
{
    (void)state;
    struct reader r = {0};
    feed(&r, (const uint8_t *)"\0\0\0\0\0\0\0\0\0\0", 10);
    assert_int_equal(r.messages, 2);
    assert_false(grpc_deframer_inside(&r.d));
}

static void inside_is_from_the_first_byte_to_the_last(void **state)
{
    (void)state;
    struct reader r = {0};
    uint8_t wire[7];
    grpc_prefix_write(wire, 2);
    pattern_fill(1, 0, wire + GRPC_PREFIX, 2);
    assert_false(grpc_deframer_inside(&r.d));
    for (int i = 0; i < 6; i++) {
        feed(&r, wire + i, 1);
        assert_true(grpc_deframer_inside(&r.d));
    }
    feed(&r, wire + 6, 1);
    assert_false(grpc_deframer_inside(&r.d));
}

static void the_longest_length(void **state)
{
    (void)state;
    uint8_t prefix[GRPC_PREFIX];
    grpc_prefix_write(prefix, UINT32_MAX);
    assert_memory_equal(prefix, "\0\xff\xff\xff\xff", 5);
    struct reader r = {0};
    feed(&r, prefix, sizeof prefix);
    assert_true(r.announced == UINT32_MAX);
}

static void compressed_is_said(void **state)
{
    (void)state;
    for (unsigned flag = 1; flag < 256; flag++) {
        struct reader r = {0};
        uint8_t wire[6] = {(uint8_t)flag, 0, 0, 0, 1, 'x'};
        feed(&r, wire, 5);
        assert_true(r.compressed);
        r.compressed = false;
        feed(&r, wire + 5, 1); /* it does not go over to something else */
        assert_true(r.compressed);
        assert_int_equal(r.messages, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_torn_at_random),
        cmocka_unit_test(an_empty_message_begins_and_ends),
        cmocka_unit_test(inside_is_from_the_first_byte_to_the_last),
        cmocka_unit_test(the_longest_length),
        cmocka_unit_test(compressed_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
