#include "unit.h"

#include "relay/session.h"
#include "rng.h"

/*
 * The rules of docs/protocol.md, parts 1 and 2, on one session; the other end is played by the test. What
 * both roles have in common is tested for both.
 */
/* When things are seen in BGP: the tests of bgp/watch look at that. */
static const struct bgp_watch_time now = {.mono_ms = 1000, .wall_ns = 1000000000};

struct fixture {
    struct arena *a;
    uint32_t slot;
    struct session *s;         /* lies in it */
    uint64_t out_in, out_sent; /* pattern 1: bytes read from TCP, bytes seen in messages */
    uint64_t in_in, in_out;    /* pattern 2: bytes put into messages, bytes written to TCP */
};

static int set_up_arena(void **state, uint32_t blocks)
{
    struct err e;
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->a = arena_new(2, sizeof(struct session), blocks, &e);
    assert_non_null(f->a);
    *state = f;
    return 0;
}

static int set_up(void **state)
{
    return set_up_arena(state, 1000);
}

static int set_up_small(void **state)
{
    return set_up_arena(state, 4);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    session_release(f->s, f->a);
    assert_int_equal(arena_usage(f->a).blocks_used, 0);
    arena_free(f->a);
    free(f);
    return 0;
}

#define EACH_ROLE(role) for (enum session_role role = SESSION_AGENT; role <= SESSION_TARGET; role++)

/* A session whose first call is open. */
static struct session *begin(struct fixture *f, enum session_role role)
{
    struct uuid id = {"cbce1788-bb34-4c2c-8056-5b3224d4e893"};
    struct addr none = {0};
    if (f->s) {
        session_release(f->s, f->a);
        arena_slot_put(f->a, f->slot);
    }
    f->slot = arena_slot_get(f->a);
    f->s = arena_slot(f->a, f->slot);
    f->out_in = f->out_sent = f->in_in = f->in_out = 0;
    session_init(f->s, role, &id, &none, &none);
    assert_int_equal(session_todo(f->s), SESSION_NOTHING);
    session_stream_open(f->s);
    assert_int_equal(session_todo(f->s), SESSION_NOTHING);
    return f->s;
}

/* --- the TCP side --- */

static void tcp_read(struct fixture *f, size_t n)
{
    while (n > 0) {
        size_t part = session_tcp_wants(f->s);
        assert_true(part > 0);
        part = part < n ? part : n;
        struct iovec iov[RING_IOV];
        int pieces = ring_room(&f->s->out, f->a, part, iov);
        assert_true(pieces > 0);
        size_t at = 0;
        for (int i = 0; i < pieces && at < part; i++) {
            size_t here = part - at < iov[i].iov_len ? part - at : iov[i].iov_len;
            pattern_fill(1, f->out_in + at, iov[i].iov_base, here);
            at += here;
        }
        session_tcp_read(f->s, f->a, iov, part, &now);
        f->out_in += part;
        n -= part;
    }
}

static void tcp_write(struct fixture *f, size_t n)
{
    assert_true(n <= f->s->in.len);
    struct iovec iov[RING_IOV];
    while (n > 0) {
        int pieces = ring_front(&f->s->in, f->a, n, iov);
        assert_true(pieces > 0);
        assert_u64_equal(pattern_check(2, f->in_out, iov[0].iov_base, iov[0].iov_len), iov[0].iov_len);
        f->in_out += iov[0].iov_len;
        n -= iov[0].iov_len;
        session_tcp_wrote(f->s, f->a, iov[0].iov_len);
    }
}

/* --- the stream side --- */

/* Takes the next message, in pieces; returns its payload's length, or a negative number. */
enum { NO_MESSAGE = -1, KILL = -2, RESTART = -3 };

static int64_t say(struct fixture *f)
{
    int64_t len = session_message_next(f->s);
    if (len < 0)
        return NO_MESSAGE;
    static uint8_t msg[DATA_PAYLOAD_MAX + DATA_HEADER_MAX];
    assert_in_range(len, 1, sizeof msg);
    struct rng r = {(uint64_t)len};
    for (size_t at = 0; at < (size_t)len;) {
        size_t n = 1 + rng_size(&r, 5000);
        n = n < (size_t)len - at ? n : (size_t)len - at;
        session_message_write(f->s, f->a, msg + at, n);
        at += n;
    }
    struct data_decoder d = {0};
    const uint8_t *p = msg, *end = msg + len, *payload;
    size_t n, bytes = 0;
    enum data_event event;
    while ((event = data_decode(&d, &p, end, &payload, &n)) == DATA_PAYLOAD) {
        assert_u64_equal(pattern_check(1, f->out_sent, payload, n), n);
        f->out_sent += n;
        bytes += n;
    }
    assert_int_equal(event, DATA_MORE);
    assert_true(data_decode_end(&d));
    if (d.action == DATA_KILL)
        return KILL;
    if (d.action == DATA_RESTART)
        return RESTART;
    return (int64_t)bytes;
}

/* All messages that are ready; returns how many. */
static int say_all(struct fixture *f)
{
    int n = 0;
    while (say(f) >= 0)
        n++;
    return n;
}

/* A message of n bytes comes in, in pieces. Returns the credit that is due at once. */
static size_t receive(struct fixture *f, uint32_t n, enum data_action action)
{
    uint8_t *msg = malloc(n + 20), *p = msg;
    assert_non_null(msg);
    if (n > 0) {
        p += data_msg_header(p, n);
        pattern_fill(2, f->in_in, p, n);
        p += n;
        f->in_in += n;
    }
    if (action != DATA_CARRY_ON)
        p += data_msg_action(p, action);
    size_t len = (size_t)(p - msg), credit = 0;
    struct rng r = {n};
    session_message_begin(f->s, (uint32_t)len);
    for (size_t at = 0; at < len;) {
        size_t part = 1 + rng_size(&r, 5000);
        part = part < len - at ? part : len - at;
        size_t done = session_message_bytes(f->s, f->a, NULL, msg + at, part, &now);
        assert_true(done <= part);
        credit += done;
        at += part;
    }
    assert_true(session_message_end(f->s));
    free(msg);
    return credit;
}

static enum session_todo todo(struct fixture *f)
{
    return session_todo(f->s);
}

/* --- bytes --- */

static void bytes_read_become_messages(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        assert_int_equal(say(f), NO_MESSAGE);
        tcp_read(f, 19);
        assert_int_equal(say(f), 19);
        assert_int_equal(say(f), NO_MESSAGE);
        tcp_read(f, 100000);
        assert_int_equal(say(f), DATA_PAYLOAD_MAX); /* 64 KiB at most */
        tcp_read(f, 60000);
        assert_int_equal(say(f), DATA_PAYLOAD_MAX);
        assert_int_equal(say(f), 160000 - 2 * (int)DATA_PAYLOAD_MAX);
        assert_int_equal(say(f), NO_MESSAGE);
        assert_u64_equal(s->sent.messages, 4);
        assert_u64_equal(s->sent.bytes, 160019);
        assert_u64_equal(s->sent.actions, 0);
        assert_u64_equal(f->out_sent, 160019);
        assert_int_equal(todo(f), SESSION_NOTHING);
    }
}

static void messages_become_bytes_to_write(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        assert_int_equal(receive(f, 19, DATA_CARRY_ON), 2); /* framing is done with, payload is not */
        assert_int_equal(s->in.len, 19);
        receive(f, 300000, DATA_CARRY_ON); /* we take what is longer than 64 KiB */
        receive(f, 0, DATA_CARRY_ON);      /* an empty message counts too */
        assert_u64_equal(s->received.messages, 3);
        assert_u64_equal(s->received.bytes, 300019);
        assert_int_equal(todo(f), SESSION_NOTHING);
        tcp_write(f, 7);
        tcp_write(f, 300012);
        assert_int_equal(s->in.len, 0);
    }
}

/* "Empty rings give their memory back": a session at rest holds no block. */
static void at_rest_a_session_holds_no_memory(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        begin(f, role);
        for (int i = 0; i < 50; i++) {
            tcp_read(f, 5000);
            receive(f, 7000, DATA_CARRY_ON);
            assert_true(arena_usage(f->a).blocks_used > 0);
            say_all(f);
            tcp_write(f, 7000);
            assert_int_equal(arena_usage(f->a).blocks_used, 0);
        }
        tcp_read(f, 5000);
        receive(f, 7000, DATA_CARRY_ON);
        session_release(f->s, f->a);
        assert_int_equal(arena_usage(f->a).blocks_used, 0);
    }
}

static void a_full_out_ring_stops_reading(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        assert_int_equal(session_tcp_wants(s), SESSION_OUT_MAX);
        tcp_read(f, SESSION_OUT_MAX - 10);
        assert_int_equal(session_tcp_wants(s), 10);
        tcp_read(f, 10);
        assert_int_equal(session_tcp_wants(s), 0);
        assert_int_equal(say(f), DATA_PAYLOAD_MAX);
        assert_true(session_tcp_wants(s) > 0);
        /* Without a stream it is the same: reading stops when the ring is full. */
        session_stream_closed(s, false);
        tcp_read(f, DATA_PAYLOAD_MAX);
        assert_int_equal(session_tcp_wants(s), 0);
        session_tcp_eof(s);
        assert_int_equal(session_tcp_wants(s), 0);
    }
}

/* Not to the end of its last block either: two full messages are what is read, not two and a few bytes. */
static void a_read_brings_no_more_than_was_asked_for(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_AGENT);
    tcp_read(f, SESSION_OUT_MAX - 10);
    struct iovec iov[RING_IOV];
    int pieces = ring_room(&s->out, f->a, session_tcp_wants(s), iov);
    size_t room = 0;
    for (int i = 0; i < pieces; i++)
        room += iov[i].iov_len;
    assert_int_equal(room, 10);
    session_tcp_read(s, f->a, iov, room, &now);
    assert_int_equal(session_tcp_wants(s), 0);
}

/* The session lies in shared memory: it is plain, and goes on where another process maps it. */
static void a_session_is_plain_memory(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_AGENT);
    tcp_read(f, 70000);
    receive(f, 50000, DATA_CARRY_ON);
    int64_t len = session_message_next(s);
    uint8_t *msg = malloc((size_t)len);
    assert_non_null(msg);
    session_message_write(s, f->a, msg, 1000);
    /* In the middle of a message each way, it moves. */
    uint8_t half[100];
    size_t header = data_msg_header(half, 60);
    pattern_fill(2, 50000, half + header, 60);
    session_message_begin(s, (uint32_t)header + 60);
    session_message_bytes(s, f->a, NULL, half, 40, &now);
    uint32_t other = arena_slot_get(f->a);
    struct session *moved = arena_slot(f->a, other);
    memcpy(moved, s, sizeof *s);
    memset(s, 0xee, sizeof *s);
    f->s = moved;
    f->slot = other;
    session_message_bytes(moved, f->a, NULL, half + 40, header + 60 - 40, &now);
    assert_true(session_message_end(moved));
    session_message_write(moved, f->a, msg + 1000, (size_t)len - 1000);
    assert_u64_equal(pattern_check(1, 0, msg + 4, (size_t)len - 4), (uint64_t)len - 4);
    free(msg);
    f->out_sent = (uint64_t)len - 4;
    assert_int_equal(say(f), 70000 - (len - 4));
    tcp_write(f, 50060);
}

/* --- counters --- */

static void counters_count_messages_with_actions(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        tcp_read(f, 10);
        say_all(f);
        receive(f, 10, DATA_CARRY_ON);
        receive(f, 10, DATA_RESTART); /* data and an action in one message: one message */
        assert_int_equal(say(f), RESTART);
        struct session_counters c = session_counters(s);
        assert_true(c.has_up && c.has_down);
        assert_u64_equal(role == SESSION_AGENT ? c.up : c.down, 2);
        assert_u64_equal(role == SESSION_AGENT ? c.down : c.up, 2);
        assert_u64_equal(s->sent.actions, 1);
        assert_u64_equal(s->received.actions, 1);
    }
}

/* Whether a peer's counters are accepted by a session that sent 5 messages, 2 of them actions, and received
 * 7, 1 action. */
static bool agrees(struct fixture *f, enum session_role role, struct session_counters peer)
{
    struct session *s = begin(f, role);
    session_stream_closed(s, false);
    s->sent = (struct session_traffic){.messages = 5, .actions = 2};
    s->received = (struct session_traffic){.messages = 7, .actions = 1};
    session_stream_open(s);
    /* Messages that are on their way since the call began take no part. */
    tcp_read(f, 10);
    say_all(f);
    receive(f, 10, DATA_CARRY_ON);
    bool ok = session_peer_counters(s, &peer);
    /* The side that finds a disagreement sends KILL. */
    assert_int_equal(say(f), ok ? NO_MESSAGE : KILL);
    assert_int_equal(todo(f), ok ? SESSION_NOTHING : SESSION_ABORT);
    return ok;
}

static void counters_are_compared(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        uint64_t sent = 5, received = 7;
        for (uint64_t mine = 0; mine < 10; mine++)
            for (uint64_t theirs = 0; theirs < 10; theirs++) {
                /* `mine`: what the peer says of our direction. */
                struct session_counters c = {.has_up = true, .has_down = true};
                c.up = role == SESSION_AGENT ? mine : theirs;
                c.down = role == SESSION_AGENT ? theirs : mine;
                bool as_written = mine == sent && theirs == received;
                bool without_actions = mine == sent - 2 && theirs == received - 1;
                assert_int_equal(agrees(f, role, c), as_written || without_actions);
            }
    }
}

/* "Missing counter-* in a server's metadata means that it does not check." */
static void counters_that_are_not_told_are_not_compared(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        bool agent = role == SESSION_AGENT;
        uint64_t up = agent ? 5 : 7, down = agent ? 7 : 5;
        assert_true(agrees(f, role, (struct session_counters){0}));
        assert_true(agrees(f, role, (struct session_counters){.up = up, .has_up = true}));
        assert_true(agrees(f, role, (struct session_counters){.down = down, .has_down = true}));
        assert_false(agrees(f, role, (struct session_counters){.up = 99, .has_up = true}));
        assert_false(agrees(f, role, (struct session_counters){.down = 99, .has_down = true}));
    }
}

static void counters_go_on_over_streams(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        for (uint64_t i = 1; i <= 5; i++) {
            tcp_read(f, 10);
            say_all(f);
            receive(f, 10, DATA_CARRY_ON);
            session_stream_closed(s, false);
            struct session_counters c = session_counters(s);
            assert_u64_equal(c.up, i);
            assert_u64_equal(c.down, i);
            session_stream_open(s);
            assert_true(session_peer_counters(s, &c));
        }
    }
}

/* --- KILL --- */

static void a_kill_that_comes_aborts_at_once(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        tcp_read(f, 100000);
        receive(f, 10, DATA_KILL);
        assert_int_equal(todo(f), SESSION_ABORT);
        assert_int_equal(todo(f), SESSION_NOTHING); /* each is named once */
        assert_int_equal(session_tcp_wants(s), 0);
        /* What still comes in is dropped and paid for. */
        assert_int_equal(receive(f, 1000, DATA_CARRY_ON), 1003);
    }
}

static void our_kill_goes_out_before_the_abort(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        tcp_read(f, 100000);
        /* A message is under way: it is finished first. */
        int64_t len = session_message_next(s);
        uint8_t *msg = malloc((size_t)len);
        assert_non_null(msg);
        session_message_write(s, f->a, msg, 5000);
        session_kill(s);
        assert_int_equal(todo(f), SESSION_NOTHING);
        assert_int_equal(session_tcp_wants(s), 0);
        session_message_write(s, f->a, msg + 5000, (size_t)len - 5000);
        free(msg);
        assert_int_equal(todo(f), SESSION_NOTHING);
        /* Then KILL, and nothing after it. */
        assert_int_equal(session_message_next(s), 2);
        uint8_t kill[2];
        session_message_write(s, f->a, kill, 1);
        assert_int_equal(todo(f), SESSION_NOTHING);
        session_message_write(s, f->a, kill + 1, 1);
        assert_memory_equal(kill, "\x08\x01", 2);
        assert_int_equal(session_message_next(s), -1);
        assert_int_equal(todo(f), SESSION_ABORT);
        assert_int_equal(todo(f), SESSION_NOTHING);
    }
}

/* What comes while our KILL is on its way may be bytes behind a gap: nobody gets them, and their credit is given back. */
static void nothing_is_taken_once_a_kill_is_due(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        receive(f, 500, DATA_CARRY_ON);
        session_kill(s);
        assert_true(receive(f, 1000, DATA_CARRY_ON) >= 1000);
        assert_int_equal(s->in.len, 500);
    }
}

static void a_kill_without_a_stream_aborts_at_once(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        session_stream_closed(s, false);
        session_kill(s);
        assert_int_equal(todo(f), SESSION_ABORT);
        /* The same when the stream breaks before KILL could go out. */
        s = begin(f, role);
        session_kill(s);
        assert_int_equal(todo(f), SESSION_NOTHING);
        session_stream_closed(s, false);
        assert_int_equal(todo(f), SESSION_ABORT);
    }
}

/* Where no message can follow any more, KILL cannot be said, and waiting for it would be waiting for ever. */
static void a_kill_that_cannot_be_said_aborts_at_once(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        /* Our half is closed. */
        struct session *s = begin(f, role);
        session_tcp_eof(s);
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_END_STREAM : SESSION_FINISH_CALL);
        session_kill(s);
        assert_int_equal(say(f), NO_MESSAGE);
        assert_int_equal(todo(f), SESSION_ABORT);
        /* RESTART was our last message. */
        s = begin(f, role);
        session_restart(s);
        assert_int_equal(say(f), RESTART);
        session_kill(s);
        while (say(f) == KILL) /* saying it all the same would be fine */
            continue;
        enum session_todo next = todo(f);
        assert_int_equal(next, SESSION_ABORT);
    }
}

/* A message of n bytes comes in and is noted where it lies, from msg on. Returns what of it is done with. */
static size_t receive_lent(struct fixture *f, struct lent *lent, uint8_t *msg, uint32_t n)
{
    size_t header = data_msg_header(msg, n);
    pattern_fill(2, f->in_in, msg + header, n);
    f->in_in += n;
    session_message_begin(f->s, (uint32_t)header + n);
    size_t done = session_message_bytes(f->s, f->a, lent, msg, header + n, &now);
    assert_true(session_message_end(f->s));
    return done;
}

static void check_lent(struct fixture *f, const struct lent *lent, size_t n)
{
    for (int i = 0; n > 0; i++) {
        size_t part = lent->piece[i].iov_len < n ? lent->piece[i].iov_len : n;
        assert_u64_equal(pattern_check(2, f->in_out, lent->piece[i].iov_base, part), part);
        f->in_out += part;
        n -= part;
    }
}

static void bytes_are_lent_while_nothing_waits(void **state)
{
    struct fixture *f = *state;
    static uint8_t msg[4][9000];
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        struct lent lent = {0};
        /* The header is done with, the payload is not; nothing is copied. */
        assert_int_equal(receive_lent(f, &lent, msg[0], 100), 2);
        assert_int_equal(receive_lent(f, &lent, msg[1], 8000), 3);
        assert_int_equal(lent.pieces, 2);
        assert_int_equal(lent.len, 8100);
        assert_int_equal(s->in.len, 0);
        assert_u64_equal(s->received.bytes, 8100);
        /* TCP takes some: the rest waits in the ring, whatever becomes of the lent memory. */
        check_lent(f, &lent, 150);
        session_lent_back(s, f->a, &lent, 150);
        memset(msg, 0xee, sizeof msg);
        assert_int_equal(lent.pieces, 0);
        assert_int_equal(lent.len, 0);
        assert_int_equal(s->in.len, 7950);
        /* While bytes wait there, others line up behind them. */
        assert_int_equal(receive_lent(f, &lent, msg[2], 300), 3);
        assert_int_equal(lent.pieces, 0);
        assert_int_equal(s->in.len, 8250);
        session_lent_back(s, f->a, &lent, 0);
        tcp_write(f, 8250);
        /* All taken: nothing comes into the ring. */
        assert_int_equal(receive_lent(f, &lent, msg[3], 19), 2);
        check_lent(f, &lent, 19);
        session_lent_back(s, f->a, &lent, 19);
        assert_int_equal(s->in.len, 0);
        assert_int_equal(todo(f), SESSION_NOTHING);
    }
}

static void too_many_pieces_go_through_the_ring(void **state)
{
    struct fixture *f = *state;
    static uint8_t msg[LENT_PIECES + 3][40];
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        struct lent lent = {0};
        for (int i = 0; i < LENT_PIECES; i++)
            assert_int_equal(receive_lent(f, &lent, msg[i], 19), 2);
        assert_int_equal(s->in.len, 0);
        for (int i = LENT_PIECES; i < LENT_PIECES + 3; i++)
            assert_int_equal(receive_lent(f, &lent, msg[i], 19), 2);
        assert_int_equal(lent.len, 0);
        assert_int_equal(s->in.len, 19 * (LENT_PIECES + 3));
        session_lent_back(s, f->a, &lent, 0);
        tcp_write(f, 19 * (LENT_PIECES + 3));
    }
}

/* Nobody must get what follows a gap, and nobody waits for bytes that TCP cannot take. */
static void nothing_is_lent_for_a_broken_end(void **state)
{
    struct fixture *f = *state;
    static uint8_t msg[100];
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        struct lent lent = {0};
        session_tcp_broken(s, f->a);
        assert_int_equal(receive_lent(f, &lent, msg, 50), 52);
        assert_int_equal(lent.pieces, 0);
        s = begin(f, role);
        session_kill(s);
        assert_int_equal(receive_lent(f, &lent, msg, 50), 52);
        assert_int_equal(lent.pieces, 0);
    }
}

static void no_memory_for_what_was_lent_kills(void **state)
{
    struct fixture *f = *state;
    static uint8_t msg[5 * ARENA_BLOCK];
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        struct lent lent = {0};
        receive_lent(f, &lent, msg, sizeof msg - DATA_HEADER_MAX);
        session_lent_back(s, f->a, &lent, 10);
        assert_int_equal(say(f), KILL);
        assert_int_equal(todo(f), SESSION_ABORT);
        session_release(s, f->a);
        assert_int_equal(arena_usage(f->a).blocks_used, 0);
    }
}

static void garbage_kills(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        session_message_begin(s, 4);
        assert_int_equal(session_message_bytes(s, f->a, NULL, (const uint8_t *)"\x0f", 1, &now), SIZE_MAX);
        assert_int_equal(session_message_bytes(s, f->a, NULL, (const uint8_t *)"\x12\x01x", 3, &now),
                         SIZE_MAX);
        assert_false(session_message_end(s));
        assert_int_equal(say(f), KILL);
        assert_int_equal(todo(f), SESSION_ABORT);

        /* A field that claims more than its message has: known before one byte of it is let through. */
        s = begin(f, role);
        session_message_begin(s, 4);
        assert_int_equal(session_message_bytes(s, f->a, NULL, (const uint8_t *)"\x12\x03xx", 4, &now),
                         SIZE_MAX);
        assert_int_equal(s->in.len, 0);
        assert_true(s->malformed);
        assert_int_equal(say(f), KILL);
        assert_int_equal(todo(f), SESSION_ABORT);

        s = begin(f, role);
        session_message_begin(s, 4);
        assert_int_equal(session_message_bytes(s, f->a, NULL, (const uint8_t *)"\x12\x02x", 3, &now), 2);
        assert_false(session_message_end(s)); /* cut short */
        assert_u64_equal(s->received.messages, 0);
        assert_int_equal(say(f), KILL);
        assert_int_equal(todo(f), SESSION_ABORT);
    }
}

static void running_out_of_memory_kills(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        static uint8_t msg[5 * ARENA_BLOCK];
        size_t header = data_msg_header(msg, sizeof msg - DATA_HEADER_MAX);
        session_message_begin(s, (uint32_t)(header + sizeof msg - DATA_HEADER_MAX));
        assert_int_equal(session_message_bytes(s, f->a, NULL, msg, header, &now), header);
        assert_int_equal(
            session_message_bytes(s, f->a, NULL, msg + header, sizeof msg - DATA_HEADER_MAX, &now), SIZE_MAX);
        assert_int_equal(say(f), KILL);
        assert_int_equal(todo(f), SESSION_ABORT);
        session_release(s, f->a);
        assert_int_equal(arena_usage(f->a).blocks_used, 0);
    }
}

/* --- RESTART --- */

/* The agent starts: RESTART, END_STREAM; the target answers with RESTART and ends the call; the agent opens
 * the next. */
static void restart_by_the_agent_at_the_agent(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_AGENT);
    tcp_read(f, 10);
    session_restart(s);
    assert_int_equal(todo(f), SESSION_NOTHING);
    assert_int_equal(say(f), RESTART);    /* nothing new before it … */
    assert_int_equal(say(f), NO_MESSAGE); /* … nor after it */
    assert_int_equal(todo(f), SESSION_END_STREAM);
    receive(f, 20, DATA_CARRY_ON); /* the other side has not read it yet */
    receive(f, 0, DATA_RESTART);
    assert_int_equal(say(f), NO_MESSAGE); /* no second RESTART */
    assert_int_equal(todo(f), SESSION_NOTHING);
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_REOPEN);
    assert_int_equal(todo(f), SESSION_NOTHING);
    /* TCP is untouched: it is read and written between the streams. */
    tcp_write(f, 20);
    tcp_read(f, 30);
    session_stream_open(s);
    assert_int_equal(say(f), 40);
    assert_int_equal(todo(f), SESSION_NOTHING);
    assert_u64_equal(session_counters(s).up, 2);
    assert_u64_equal(session_counters(s).down, 2);
}

static void restart_by_the_agent_at_the_target(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_TARGET);
    tcp_read(f, 10);
    receive(f, 20, DATA_CARRY_ON);
    receive(f, 0, DATA_RESTART);
    assert_int_equal(todo(f), SESSION_NOTHING);
    assert_int_equal(say(f), RESTART);
    assert_int_equal(say(f), NO_MESSAGE);
    assert_int_equal(todo(f), SESSION_NOTHING); /* reads until the client's END_STREAM */
    session_stream_half_closed(s);
    assert_int_equal(todo(f), SESSION_FINISH_CALL);
    assert_int_equal(todo(f), SESSION_NOTHING); /* the half-close of a RESTART is no FIN */
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_NOTHING);
    assert_false(s->peer_done);
    session_stream_open(s);
    assert_int_equal(say(f), 10);
    receive(f, 5, DATA_CARRY_ON);
    tcp_write(f, 25);
}

/* "In a RESTART that the server starts it goes on reading until the client's RESTART and END_STREAM." */
static void restart_by_the_target_at_the_target(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_TARGET);
    session_restart(s);
    tcp_read(f, 10);
    assert_int_equal(say(f), RESTART);
    assert_int_equal(say(f), NO_MESSAGE);
    assert_int_equal(todo(f), SESSION_NOTHING);
    receive(f, 20, DATA_CARRY_ON);
    assert_int_equal(todo(f), SESSION_NOTHING);
    receive(f, 0, DATA_RESTART);
    assert_int_equal(todo(f), SESSION_NOTHING);
    assert_int_equal(say(f), NO_MESSAGE);
    session_stream_half_closed(s);
    assert_int_equal(todo(f), SESSION_FINISH_CALL);
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_NOTHING);
    tcp_write(f, 20);
    session_stream_open(s);
    assert_int_equal(say(f), 10);
}

/* "The client must not wait for the server's END_STREAM first." */
static void restart_by_the_target_at_the_agent(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_AGENT);
    tcp_read(f, 10);
    receive(f, 20, DATA_RESTART);
    assert_int_equal(say(f), RESTART);
    assert_int_equal(todo(f), SESSION_END_STREAM);
    assert_int_equal(todo(f), SESSION_NOTHING);
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_REOPEN);
    session_stream_open(s);
    assert_int_equal(say(f), 10);
    tcp_write(f, 20);
}

static void restart_by_both_at_once(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        session_restart(s);
        assert_int_equal(say(f), RESTART);
        if (role == SESSION_AGENT)
            assert_int_equal(todo(f), SESSION_END_STREAM);
        receive(f, 0, DATA_RESTART);
        assert_int_equal(say(f), NO_MESSAGE); /* one from each side is all there is */
        if (role == SESSION_TARGET) {
            session_stream_half_closed(s);
            assert_int_equal(todo(f), SESSION_FINISH_CALL);
        }
        session_stream_closed(s, true);
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_REOPEN : SESSION_NOTHING);
        assert_u64_equal(session_counters(s).up, 1);
        assert_u64_equal(session_counters(s).down, 1);
    }
}

static void a_restart_waits_for_the_message_under_way(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        tcp_read(f, 100);
        int64_t len = session_message_next(s);
        uint8_t msg[200];
        session_message_write(s, f->a, msg, 50);
        session_restart(s);
        receive(f, 0, DATA_RESTART);
        assert_int_equal(todo(f), SESSION_NOTHING);
        session_message_write(s, f->a, msg + 50, (size_t)len - 50);
        f->out_sent = 100;
        assert_int_equal(say(f), RESTART);
    }
}

static void a_restart_asked_for_twice_or_without_a_stream(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        session_restart(s);
        session_restart(s);
        assert_int_equal(say(f), RESTART);
        session_restart(s);
        assert_int_equal(say(f), NO_MESSAGE);
        session_stream_closed(s, false);
        session_restart(s);
        session_stream_open(s);
        assert_int_equal(say(f), NO_MESSAGE);
        /* The router has gone and our half is closed: there is nothing to restart. */
        session_tcp_eof(s);
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_END_STREAM : SESSION_FINISH_CALL);
        session_restart(s);
        assert_int_equal(say(f), NO_MESSAGE);
    }
}

/* The target's RESTART meets a client that has just half-closed and so cannot answer: the stream must end all
 * the same. */
static void restart_by_the_target_meets_a_half_close(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_TARGET);
    session_restart(s);
    assert_int_equal(say(f), RESTART);
    session_stream_half_closed(s); /* the device's FIN */
    assert_true(s->peer_done);
    bool finished = false, shut = false;
    for (enum session_todo t; (t = todo(f)) != SESSION_NOTHING;) {
        finished |= t == SESSION_FINISH_CALL;
        shut |= t == SESSION_SHUT_TCP;
    }
    assert_true(finished);
    assert_true(shut);
    /* The agent comes back for what the backend still has to say. */
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_NOTHING);
    tcp_read(f, 10);
    session_stream_open(s);
    session_stream_half_closed(s);
    assert_int_equal(say(f), 10);
    session_tcp_eof(s);
    assert_int_equal(todo(f), SESSION_FINISH_CALL);
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_CLOSE);

    /* The same moment at the agent. */
    s = begin(f, SESSION_AGENT);
    session_tcp_eof(s);
    assert_int_equal(todo(f), SESSION_END_STREAM);
    receive(f, 5, DATA_RESTART);
    assert_int_equal(say(f), NO_MESSAGE);
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_REOPEN);
    session_stream_open(s);
    assert_int_equal(todo(f), SESSION_END_STREAM);
    receive(f, 5, DATA_CARRY_ON);
    session_stream_closed(s, true);
    tcp_write(f, 10);
    assert_int_equal(todo(f), SESSION_CLOSE);
}

/* --- streams that break --- */

static void a_lost_stream_leaves_tcp_alone(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        receive(f, 20, DATA_CARRY_ON);
        session_stream_closed(s, false);
        assert_int_equal(s->stream, SESSION_STREAM_NONE);
        assert_int_equal(todo(f), SESSION_NOTHING);
        assert_int_equal(say(f), NO_MESSAGE);
        tcp_read(f, 10);
        tcp_write(f, 20);
        assert_int_equal(say(f), NO_MESSAGE);
        session_stream_closed(s, true); /* told twice: nothing follows */
        assert_int_equal(s->stream, SESSION_STREAM_NONE);
        session_stream_open(s);
        assert_int_equal(say(f), 10);
    }
}

/* A message that was half sent is lost with its stream: the counters tell it, and the session is killed, not
 * continued. */
static void a_message_cut_by_the_end_of_its_stream_is_noticed(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        tcp_read(f, 100);
        assert_true(session_message_next(s) > 0);
        uint8_t msg[50];
        session_message_write(s, f->a, msg, 50);
        session_stream_closed(s, false);
        session_stream_open(s);
        struct session_counters peer = {.has_up = true, .has_down = true}; /* it has no whole message */
        assert_false(session_peer_counters(s, &peer));
        assert_int_equal(say(f), KILL);
    }
}

/* A RESTART that came, and then the stream broke: no RESTART was completed, so the owner tries again with
 * backoff. */
static void a_restart_that_is_not_completed_is_no_reopen(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_AGENT);
    receive(f, 0, DATA_RESTART);
    session_stream_closed(s, false);
    assert_int_equal(s->stream, SESSION_STREAM_NONE);
    assert_int_equal(todo(f), SESSION_NOTHING);
    session_stream_open(s);
    tcp_read(f, 5);
    assert_int_equal(say(f), 5);
}

/* --- the orderly end --- */

/* Device FIN → END_STREAM after the last DataRequest; the rest from the backend is still delivered. */
static void the_device_ends_at_the_agent(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_AGENT);
    tcp_read(f, 70000);
    session_tcp_eof(s);
    assert_int_equal(session_tcp_wants(s), 0);
    assert_int_equal(todo(f), SESSION_NOTHING);
    assert_int_equal(say(f), DATA_PAYLOAD_MAX);
    assert_int_equal(todo(f), SESSION_NOTHING);
    /* Not while the last message is being written. */
    int64_t len = session_message_next(s);
    static uint8_t msg[70000];
    session_message_write(s, f->a, msg, (size_t)len - 1);
    assert_int_equal(todo(f), SESSION_NOTHING);
    session_message_write(s, f->a, msg, 1);
    assert_int_equal(todo(f), SESSION_END_STREAM);
    assert_int_equal(todo(f), SESSION_NOTHING);
    receive(f, 30, DATA_CARRY_ON);
    tcp_write(f, 10);
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_NOTHING); /* 20 bytes are not delivered yet */
    tcp_write(f, 20);
    assert_int_equal(todo(f), SESSION_CLOSE);
    assert_int_equal(todo(f), SESSION_NOTHING);
}

static void the_device_ends_at_the_target(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_TARGET);
    receive(f, 30, DATA_CARRY_ON);
    session_stream_half_closed(s);
    assert_int_equal(todo(f), SESSION_NOTHING); /* first the bytes, then the FIN */
    tcp_write(f, 30);
    assert_int_equal(todo(f), SESSION_SHUT_TCP);
    assert_int_equal(todo(f), SESSION_NOTHING);
    tcp_read(f, 10); /* the backend's answer to the NOTIFICATION, say */
    assert_int_equal(say(f), 10);
    session_tcp_eof(s);
    assert_int_equal(todo(f), SESSION_FINISH_CALL);
    assert_int_equal(todo(f), SESSION_NOTHING);
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_CLOSE);
}

static void the_backend_ends_at_the_target(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_TARGET);
    tcp_read(f, 30);
    session_tcp_eof(s);
    assert_int_equal(todo(f), SESSION_NOTHING);
    assert_int_equal(say(f), 30);
    assert_int_equal(todo(f), SESSION_FINISH_CALL);
    receive(f, 20, DATA_CARRY_ON); /* came in the meantime */
    session_stream_closed(s, true);
    assert_int_equal(todo(f), SESSION_NOTHING);
    tcp_write(f, 20); /* every byte read is delivered */
    assert_int_equal(todo(f), SESSION_CLOSE);
}

/* Status OK without RESTART is the end of the session. */
static void the_backend_ends_at_the_agent(void **state)
{
    struct fixture *f = *state;
    struct session *s = begin(f, SESSION_AGENT);
    receive(f, 21, DATA_CARRY_ON);
    session_stream_closed(s, true);
    assert_int_equal(s->stream, SESSION_STREAM_OVER);
    assert_int_equal(todo(f), SESSION_NOTHING);
    tcp_write(f, 21);
    assert_int_equal(todo(f), SESSION_CLOSE);
    assert_int_equal(todo(f), SESSION_NOTHING);
}

/* An end that waits between two streams: the FIN is told on the next one. */
static void an_end_without_a_stream_waits_for_one(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        session_stream_closed(s, false);
        tcp_read(f, 10);
        session_tcp_eof(s);
        assert_int_equal(todo(f), SESSION_NOTHING);
        session_stream_open(s);
        assert_int_equal(todo(f), SESSION_NOTHING);
        assert_int_equal(say(f), 10);
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_END_STREAM : SESSION_FINISH_CALL);
    }
}

static void an_end_and_a_restart_at_once(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        tcp_read(f, 10);
        session_tcp_eof(s);
        receive(f, 0, DATA_RESTART);
        assert_int_equal(todo(f), SESSION_NOTHING);
        assert_int_equal(say(f), RESTART);
        if (role == SESSION_TARGET)
            session_stream_half_closed(s);
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_END_STREAM : SESSION_FINISH_CALL);
        session_stream_closed(s, true);
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_REOPEN : SESSION_NOTHING);
        session_stream_open(s);
        assert_int_equal(say(f), 10); /* no byte was left behind */
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_END_STREAM : SESSION_FINISH_CALL);
        session_stream_closed(s, true);
        assert_int_equal(todo(f), SESSION_CLOSE);
    }
}

static void tcp_that_was_reset(void **state)
{
    struct fixture *f = *state;
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        tcp_read(f, 10);
        receive(f, 30, DATA_CARRY_ON);
        tcp_write(f, 10);
        assert_int_equal(session_tcp_broken(s, f->a), 20); /* their credit is due */
        assert_int_equal(session_tcp_wants(s), 0);
        assert_int_equal(s->in.len, 0);
        /* What was read before is still sent; what still comes is dropped and paid for at once. */
        assert_int_equal(todo(f), SESSION_NOTHING);
        assert_int_equal(say(f), 10);
        assert_int_equal(receive(f, 1000, DATA_CARRY_ON), 1003);
        assert_int_equal(s->in.len, 0);
        assert_u64_equal(s->received.messages, 2);
        assert_int_equal(todo(f), role == SESSION_AGENT ? SESSION_END_STREAM : SESSION_FINISH_CALL);
        session_stream_closed(s, true);
        assert_int_equal(todo(f), SESSION_CLOSE); /* no FIN on a connection that is gone */
        assert_int_equal(session_tcp_broken(s, f->a), 0);
    }
}

/* --- for the operator's eyes --- */

static void bgp_is_watched_both_ways(void **state)
{
    struct fixture *f = *state;
    static const uint8_t keepalive[19] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,    19,   4};
    EACH_ROLE(role)
    {
        struct session *s = begin(f, role);
        struct iovec iov[RING_IOV];
        assert_true(ring_room(&s->out, f->a, 19, iov) > 0);
        memcpy(iov[0].iov_base, keepalive, 19);
        session_tcp_read(s, f->a, iov, 19, &now);
        assert_u64_equal(s->seen.out.peek.messages[BGP_KEEPALIVE], 1);
        assert_u64_equal(s->seen.in.peek.messages[BGP_KEEPALIVE], 0);
        assert_int_equal(s->seen.out.message.mono_ms, now.mono_ms);
        assert_int_equal(s->seen.in.message.mono_ms, 0);
        uint8_t msg[40];
        size_t header = data_msg_header(msg, 19);
        memcpy(msg + header, keepalive, 19);
        session_message_begin(s, (uint32_t)header + 19);
        for (size_t i = 0; i < header + 19; i++)
            session_message_bytes(s, f->a, NULL, msg + i, 1, &now);
        assert_true(session_message_end(s));
        assert_u64_equal(s->seen.in.peek.messages[BGP_KEEPALIVE], 1);
        assert_false(s->seen.in.peek.unparsable);
        assert_int_equal(s->seen.in.message.mono_ms, now.mono_ms);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_read_become_messages),
        TEST(messages_become_bytes_to_write),
        TEST(bytes_are_lent_while_nothing_waits),
        TEST(too_many_pieces_go_through_the_ring),
        TEST(nothing_is_lent_for_a_broken_end),
        cmocka_unit_test_setup_teardown(no_memory_for_what_was_lent_kills, set_up_small, tear_down),
        TEST(at_rest_a_session_holds_no_memory),
        TEST(a_full_out_ring_stops_reading),
        TEST(a_read_brings_no_more_than_was_asked_for),
        TEST(a_session_is_plain_memory),
        TEST(counters_count_messages_with_actions),
        TEST(counters_are_compared),
        TEST(counters_that_are_not_told_are_not_compared),
        TEST(counters_go_on_over_streams),
        TEST(a_kill_that_comes_aborts_at_once),
        TEST(our_kill_goes_out_before_the_abort),
        TEST(nothing_is_taken_once_a_kill_is_due),
        TEST(a_kill_without_a_stream_aborts_at_once),
        TEST(a_kill_that_cannot_be_said_aborts_at_once),
        TEST(garbage_kills),
        cmocka_unit_test_setup_teardown(running_out_of_memory_kills, set_up_small, tear_down),
        TEST(restart_by_the_agent_at_the_agent),
        TEST(restart_by_the_agent_at_the_target),
        TEST(restart_by_the_target_at_the_target),
        TEST(restart_by_the_target_at_the_agent),
        TEST(restart_by_both_at_once),
        TEST(a_restart_waits_for_the_message_under_way),
        TEST(a_restart_asked_for_twice_or_without_a_stream),
        TEST(restart_by_the_target_meets_a_half_close),
        TEST(a_lost_stream_leaves_tcp_alone),
        TEST(a_message_cut_by_the_end_of_its_stream_is_noticed),
        TEST(a_restart_that_is_not_completed_is_no_reopen),
        TEST(the_device_ends_at_the_agent),
        TEST(the_device_ends_at_the_target),
        TEST(the_backend_ends_at_the_target),
        TEST(the_backend_ends_at_the_agent),
        TEST(an_end_without_a_stream_waits_for_one),
        TEST(an_end_and_a_restart_at_once),
        TEST(tcp_that_was_reset),
        TEST(bgp_is_watched_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
