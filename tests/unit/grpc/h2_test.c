#include "unit.h"

#include "h2_pair.h"

static struct h2_pair p;

static int set_up(void **state)
{
    (void)state;
    h2_pair_init(&p, 11, 100);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    h2_pair_free(&p);
    return 0;
}

/* The usual stream of the server: each direction has a pattern of its own. */
static void on_open(struct h2_end *e)
{
    e->tx_pattern = 2;
    e->rx_pattern = 1;
}

static void assert_good(const struct h2_end *e, uint64_t received)
{
    assert_u64_equal(e->rx_wrong, 0);
    assert_u64_equal(e->rx_at, received);
}

/* A client's stream that has ended without error. */
static void closed_well(struct h2_end *e)
{
    assert_int_equal(e->n_closed, 1);
    assert_int_equal(e->error, H2_NO_ERROR);
    h2_end_free(e);
}

/* --- calls --- */

static void both_sides_come_up(void **state)
{
    (void)state;
    h2_pair_run(&p);
    assert_int_equal(p.side[CLIENT].n_ready, 1);
    assert_int_equal(p.side[SERVER].n_ready, 1);
    assert_int_equal(h2_peer_max_streams(p.side[CLIENT].h2), 100);
    assert_false(h2_done(p.side[CLIENT].h2));
    assert_false(h2_wants_write(p.side[CLIENT].h2));
}

static void a_call_with_bytes_both_ways_and_trailers(void **state)
{
    (void)state;
    struct rng r = {12};
    p.on_open = on_open;
    for (unsigned round = 0; round < 30; round++) {
        uint64_t up = rng_size(&r, 3000000), down = rng_size(&r, 3000000);
        struct h2_end *c = h2_pair_call(&p, up / 2, false);
        h2_pair_run(&p);
        assert_int_equal(p.n_accepted, round + 1);
        struct h2_end *s = p.accepted[round];
        assert_int_equal(s->n_headers, 1);
        assert_false(s->headers_end);
        assert_string_equal(kv_get(&s->headers, ":path"), "/a/b");
        assert_string_equal(kv_get(&s->headers, "key"), "value");
        assert_good(s, up / 2);
        assert_int_equal(s->n_ends, 0);

        h2_pair_answer(s, false);
        h2_end_send(s, down / 2, false);
        h2_pair_run(&p);
        assert_int_equal(c->n_headers, 1);
        assert_string_equal(kv_get(&c->headers, ":status"), "200");
        assert_string_equal(kv_get(&c->headers, "server-key"), "server-value");
        assert_good(c, down / 2);

        h2_end_send(c, up - up / 2, true);
        h2_pair_run(&p);
        assert_good(s, up);
        assert_int_equal(s->n_ends, 1);
        assert_int_equal(s->n_closed, 0);

        /* The server may go on after the client's END_STREAM. */
        kv_add(&s->tx_trailers, "grpc-status", "0");
        h2_end_send(s, down - down / 2, true);
        h2_pair_run(&p);
        assert_good(c, down);
        assert_int_equal(c->n_trailers, 1);
        assert_string_equal(kv_get(&c->trailers, "grpc-status"), "0");
        assert_int_equal(c->n_ends, 0); /* END_STREAM stood on the trailers */
        assert_int_equal(s->n_closed, 1);
        assert_int_equal(s->error, H2_NO_ERROR);
        closed_well(c);
    }
}

static void trailers_only(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 0, true);
    h2_pair_run(&p);
    h2_pair_answer(p.accepted[0], true);
    h2_pair_run(&p);
    assert_int_equal(c->n_headers, 1);
    assert_true(c->headers_end);
    assert_int_equal(c->n_trailers, 0);
    closed_well(c);
    assert_int_equal(p.accepted[0]->n_closed, 1);
}

/* The answer is complete and the client still sends: it is told to stop, and hears the answer first. */
static void an_answer_before_the_client_has_ended(void **state)
{
    (void)state;
    p.on_open = on_open;
    for (unsigned i = 0; i < 2; i++) {
        struct h2_end *c = h2_pair_call(&p, 10, false);
        h2_pair_run(&p);
        struct h2_end *s = p.accepted[i];
        if (i == 0) {
            h2_pair_answer(s, true);
        } else {
            h2_pair_answer(s, false);
            kv_add(&s->tx_trailers, "grpc-status", "14");
            h2_end_send(s, 100, true);
        }
        h2_pair_run(&p);
        assert_int_equal(c->n_headers, 1);
        assert_int_equal(c->n_trailers, i);
        assert_good(c, i * 100);
        assert_int_equal(s->n_closed, 1);
        closed_well(c);
    }
    /* The connection is none the worse. */
    struct h2_end *c = h2_pair_call(&p, 10, false);
    h2_pair_run(&p);
    assert_good(p.accepted[2], 10);
    h2_stream_forget(&c->st);
    h2_end_free(c);
}

static void an_empty_half(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 0, false);
    h2_pair_run(&p);
    struct h2_end *s = p.accepted[0];
    assert_int_equal(s->n_ends, 0);
    h2_end_send(c, 0, true);
    h2_pair_run(&p);
    assert_int_equal(s->n_ends, 1);
    assert_good(s, 0);
    h2_pair_answer(s, false);
    h2_end_send(s, 0, true); /* and no trailers: END_STREAM on an empty DATA frame */
    h2_pair_run(&p);
    assert_int_equal(c->n_ends, 1);
    assert_int_equal(c->n_trailers, 0);
    closed_well(c);
}

/* --- windows --- */

static void on_open_holding(struct h2_end *e)
{
    on_open(e);
    e->hold = true;
}

/* Backpressure up: streams whose reader holds back stop at their first window; another one goes on at full
 * speed. */
static void backpressure_upwards(void **state)
{
    (void)state;
    enum { STALLED = 90 };
    struct h2_end *stalled[STALLED];
    p.on_open = on_open_holding;
    for (int i = 0; i < STALLED; i++)
        stalled[i] = h2_pair_call(&p, 1000000, true);
    h2_pair_run(&p);
    assert_int_equal(p.n_accepted, STALLED);
    for (int i = 0; i < STALLED; i++) {
        assert_good(p.accepted[i], H2_WINDOW_FIRST);
        assert_u64_equal(stalled[i]->tx_at, H2_WINDOW_FIRST);
    }
    p.on_open = on_open;
    struct h2_end *free_one = h2_pair_call(&p, 80u << 20, true); /* more than the connection's window */
    h2_pair_run(&p);
    assert_good(p.accepted[STALLED], 80u << 20);
    assert_int_equal(p.accepted[STALLED]->n_ends, 1);
    /* Each byte of credit lets a byte come, or a little later several. */
    h2_stream_consume(&p.accepted[0]->st, H2_WINDOW_FIRST, p.now_ns);
    p.accepted[0]->held = 0;
    h2_pair_run(&p);
    assert_in_range(p.accepted[0]->rx_at, 2 * H2_WINDOW_FIRST, 3 * H2_WINDOW_FIRST);
    for (int i = 0; i < STALLED; i++)
        h2_end_release(p.accepted[i]);
    h2_pair_run(&p);
    for (unsigned i = 0; i < STALLED + 1; i++) {
        if (i < STALLED)
            assert_good(p.accepted[i], 1000000);
        h2_pair_answer(p.accepted[i], true);
    }
    h2_pair_run(&p);
    for (int i = 0; i < STALLED; i++)
        closed_well(stalled[i]);
    closed_well(free_one);
}

/* A sender gets to know of a quarter of the window, and is not bothered with less. */
static void credit_returns_by_quarters(void **state)
{
    (void)state;
    p.on_open = on_open_holding;
    struct h2_end *c = h2_pair_call(&p, 1000000, true);
    h2_pair_run(&p);
    struct h2_end *s = p.accepted[0];
    assert_good(s, H2_WINDOW_FIRST);
    h2_stream_consume(&s->st, H2_WINDOW_FIRST / 4 - 1, p.now_ns);
    h2_pair_run(&p);
    assert_u64_equal(c->tx_at, H2_WINDOW_FIRST);
    h2_stream_consume(&s->st, 1, p.now_ns);
    h2_pair_run(&p);
    assert_u64_equal(c->tx_at, H2_WINDOW_FIRST + H2_WINDOW_FIRST / 4);
    assert_good(s, H2_WINDOW_FIRST + H2_WINDOW_FIRST / 4);
    s->held -= H2_WINDOW_FIRST / 4; /* that was taken past h2_end */
    h2_end_release(s);
    h2_pair_run(&p);
    assert_good(s, 1000000);
    h2_pair_answer(s, true);
    h2_pair_run(&p);
    closed_well(c);
}

/* What the sender is told of it. */
static void room_on_a_stream(void **state)
{
    (void)state;
    size_t most;
    p.on_open = on_open_holding;
    struct h2_end *c = h2_pair_call(&p, 50000, false);
    assert_int_equal(h2_stream_room(&c->st, &most),
                     65535); /* by RFC 9113, before anything has gone to and fro */
    h2_pair_run(&p);
    assert_int_equal(h2_stream_room(&c->st, &most), H2_WINDOW_FIRST - 50000);
    assert_int_equal(most, 65535);
    h2_end_send(c, 50000, false);
    h2_pair_run(&p);
    assert_int_equal(h2_stream_room(&c->st, &most), 0);
    assert_int_equal(c->n_room, 0);
    struct h2_end *s = p.accepted[0];
    h2_stream_consume(&s->st, H2_WINDOW_FIRST, p.now_ns);
    s->held -= H2_WINDOW_FIRST;
    h2_pair_run(&p);
    assert_int_equal(c->n_room, 1);
    assert_int_equal(h2_stream_room(&c->st, &most), s->st.window - (100000 - H2_WINDOW_FIRST));
    assert_int_equal(most, 65535);
    h2_end_release(s);
    h2_pair_run(&p);
    assert_int_equal(h2_stream_room(&c->st, &most), s->st.window - s->st.credit);
    assert_int_equal(most, s->st.window - s->st.credit);
    h2_end_send(c, 0, true);
    h2_pair_run(&p);
    h2_pair_answer(s, true);
    h2_pair_run(&p);
    closed_well(c);
}

static void backpressure_downwards(void **state)
{
    (void)state;
    enum { STALLED = 90 };
    struct h2_end *c[STALLED + 1];
    p.on_open = on_open;
    for (int i = 0; i <= STALLED; i++) {
        c[i] = h2_pair_call(&p, 0, true);
        c[i]->hold = i < STALLED;
    }
    h2_pair_run(&p);
    for (int i = 0; i <= STALLED; i++) {
        h2_pair_answer(p.accepted[i], false);
        h2_end_send(p.accepted[i], i < STALLED ? 500000 : 80u << 20, true);
    }
    h2_pair_run(&p);
    for (int i = 0; i < STALLED; i++)
        assert_good(c[i], H2_WINDOW_FIRST);
    assert_good(c[STALLED], 80u << 20);
    closed_well(c[STALLED]);
    for (int i = 0; i < STALLED; i++)
        h2_end_release(c[i]);
    h2_pair_run(&p);
    for (int i = 0; i < STALLED; i++) {
        assert_good(c[i], 500000);
        closed_well(c[i]);
    }
}

/* A reader that keeps up gets a window that fits the path: the number of round trips does not grow with the
 * bytes. */
static void windows_grow(void **state)
{
    (void)state;
    p.on_open = on_open;
    p.latency_ns = 25000000; /* 50 ms there and back */
    h2_ping(p.side[SERVER].h2, p.now_ns);
    h2_pair_run(&p);
    assert_in_range(h2_rtt_ns(p.side[SERVER].h2), 25000000, 50000000);
    struct h2_end *c = h2_pair_call(&p, 200u << 20, true);
    unsigned trips = h2_pair_run(&p);
    struct h2_end *s = p.accepted[0];
    assert_good(s, 200u << 20);
    assert_in_range(s->st.window, 4u << 20, H2_WINDOW_MAX);
    assert_in_range(trips, 5, 400); /* a fixed window of 64 KiB would take 3,200 */
    h2_pair_answer(s, true);
    h2_pair_run(&p);
    closed_well(c);
}

/* What windows have grown by comes back when their streams end: it is no budget for the life of the process.
 */
static void the_budget_of_windows_is_given_back(void **state)
{
    (void)state;
    p.on_open = on_open;
    h2_ping(p.side[SERVER].h2, p.now_ns);
    h2_pair_run(&p);
    uint64_t grown = 0;
    for (unsigned i = 0; grown < 2ull * H2_WINDOW_BUDGET; i++) {
        struct h2_end *c = h2_pair_call(&p, 6u << 20, true);
        h2_pair_run(&p);
        struct h2_end *s = p.accepted[i];
        assert_true(s->st.window > 2 * H2_WINDOW_FIRST);
        grown += s->st.window - H2_WINDOW_FIRST;
        /* The ways a stream ends: in good order, reset by either side. */
        if (i % 3 == 0)
            h2_pair_answer(s, true);
        else
            h2_stream_reset(i % 3 == 1 ? &s->st : &c->st, H2_CANCEL);
        h2_pair_run(&p);
        assert_int_equal(s->n_closed, 1);
        assert_int_equal(c->n_closed, 1);
        h2_end_free(c);
    }
}

/* --- PING --- */

static void ping_measures_the_round_trip(void **state)
{
    (void)state;
    struct h2 *h = p.side[CLIENT].h2;
    h2_pair_run(&p);
    assert_true(h2_rtt_ns(h) == 0);
    h2_ping(h, p.now_ns);
    h2_ping(h, p.now_ns); /* one is under way */
    h2_pair_run(&p);
    assert_int_equal(p.side[CLIENT].n_pong, 1);
    assert_true(p.side[CLIENT].rtt_ns == 2 * p.latency_ns);
    assert_true(h2_rtt_ns(h) == 2 * p.latency_ns);
    h2_ping(h, p.now_ns); /* answered less than 100 ms ago */
    h2_pair_run(&p);
    assert_int_equal(p.side[CLIENT].n_pong, 1);
    p.now_ns += 100000000;
    p.latency_ns = 9000000;
    h2_ping(h, p.now_ns);
    h2_pair_run(&p);
    assert_int_equal(p.side[CLIENT].n_pong, 2);
    assert_true(h2_rtt_ns(h) == (7 * 2000000 + 18000000) / 8);
    assert_int_equal(p.side[SERVER].n_pong, 0);
}

/* A server of gRPC's ends a connection for too many PINGs: few are sent unasked, one at a time. */
static void the_first_messages_measure_the_round_trip(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 19, false);
    for (unsigned i = 1; i <= 10; i++) {
        h2_pair_run(&p);
        assert_int_equal(p.side[SERVER].n_pong, i < 3 ? i : 3);
        assert_int_equal(p.side[CLIENT].n_pong, 0);
        p.now_ns += 10000000;
        h2_end_send(c, 19, i == 10);
    }
    h2_pair_run(&p);
    h2_pair_answer(p.accepted[0], true);
    h2_pair_run(&p);
    closed_well(c);
}

/* --- ends --- */

static void resets_are_told_to_the_other_side(void **state)
{
    (void)state;
    p.on_open = on_open;
    for (int side = CLIENT; side <= SERVER; side++) {
        struct h2_end *c = h2_pair_call(&p, 100, false);
        h2_pair_run(&p);
        struct h2_end *s = p.accepted[side];
        assert_good(s, 100);
        h2_stream_reset(side == CLIENT ? &c->st : &s->st, H2_CANCEL);
        h2_pair_run(&p);
        assert_int_equal(c->n_closed, 1);
        assert_int_equal(s->n_closed, 1);
        assert_int_equal(c->error, H2_CANCEL);
        assert_int_equal(s->error, H2_CANCEL);
        assert_int_equal(c->st.id, 0);
        /* A stream that is gone takes every call and does nothing. */
        h2_stream_reset(&s->st, H2_CANCEL);
        h2_stream_wake(&s->st);
        h2_stream_consume(&s->st, 100, p.now_ns);
        h2_stream_forget(&s->st);
        h2_end_free(c);
    }
    h2_pair_run(&p);
    assert_false(p.side[CLIENT].fed_badly || p.side[SERVER].fed_badly);
}

static void a_reset_before_the_request_went_out(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 100, true);
    h2_stream_reset(&c->st, H2_CANCEL);
    h2_pair_run(&p);
    assert_int_equal(c->n_closed, 1);
    for (unsigned i = 0; i < p.n_accepted; i++)
        assert_int_equal(p.accepted[i]->n_closed, 1);
    h2_end_free(c);
}

/* The memory of a stream goes while the engine still knows it and has bytes of it to send. */
static void a_stream_that_is_forgotten(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 1000000, true);
    h2_pair_turn(&p);
    h2_stream_forget(&c->st);
    memset(c, 0xee, sizeof *c);
    free(c);
    struct h2_end *d = h2_pair_call(&p, 10, true); /* the connection goes on */
    h2_pair_run(&p);
    assert_int_equal(p.n_accepted, 2);
    assert_good(p.accepted[1], 10);
    assert_int_equal(p.accepted[1]->n_ends, 1);
    assert_int_equal(p.accepted[0]->n_ends, 0); /* it must not look complete */
    h2_pair_answer(p.accepted[1], true);
    h2_pair_run(&p);
    closed_well(d);
}

static void a_refused_stream(void **state)
{
    (void)state;
    p.on_open = on_open;
    p.refuse = 1;
    struct h2_end *c = h2_pair_call(&p, 1000000, true), *d = h2_pair_call(&p, 10, true);
    h2_pair_run(&p);
    assert_int_equal(c->n_closed, 1);
    assert_int_equal(c->error, H2_REFUSED_STREAM);
    assert_int_equal(c->n_headers, 0);
    assert_int_equal(p.n_accepted, 1);
    assert_good(p.accepted[0], 10);
    h2_end_free(c);
    h2_pair_answer(p.accepted[0], true);
    h2_pair_run(&p);
    closed_well(d);
}

static void max_concurrent_streams(void **state)
{
    (void)state;
    h2_pair_free(&p);
    h2_pair_init(&p, 13, 2);
    p.on_open = on_open;
    h2_pair_run(&p);
    assert_int_equal(h2_peer_max_streams(p.side[CLIENT].h2), 2);
    struct h2_end *c[5];
    for (int i = 0; i < 5; i++)
        c[i] = h2_pair_call(&p, 10, true);
    h2_pair_run(&p);
    assert_int_equal(p.n_accepted, 2);
    /* One that waits can be cancelled: it never reaches the server, and closes when its turn has come. */
    h2_stream_reset(&c[2]->st, H2_CANCEL);
    h2_pair_run(&p);
    /* The others follow as room is made. */
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(p.n_accepted, i + 2 < 4 ? i + 2 : 4);
        h2_pair_answer(p.accepted[i], true);
        h2_pair_run(&p);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_good(p.accepted[i], 10);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(c[i]->n_closed, 1);
        assert_int_equal(c[i]->error, i == 2 ? H2_CANCEL : H2_NO_ERROR);
        h2_end_free(c[i]);
    }
}

static void goaway_by_the_server(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 10, false);
    h2_pair_run(&p);
    h2_goaway(p.side[SERVER].h2);
    assert_true(h2_goaway_due(p.side[SERVER].h2));
    /* One is on its way when GOAWAY is: it is taken still. The client hears of the last stream then. */
    struct h2_end *late = h2_pair_call(&p, 10, false);
    h2_pair_run(&p);
    assert_false(h2_goaway_due(p.side[SERVER].h2));
    assert_int_equal(p.side[CLIENT].n_goaway, 2);
    assert_int_equal(p.side[CLIENT].goaway_error, 0);
    assert_int_equal(p.side[CLIENT].goaway_last, late->st.id);
    assert_int_equal(p.n_accepted, 2);
    assert_good(p.accepted[1], 10);
    h2_end_send(late, 5, true);
    h2_pair_run(&p);
    assert_good(p.accepted[1], 15);
    h2_pair_answer(p.accepted[1], true);
    h2_pair_run(&p);
    closed_well(late);
    /* A new one is closed too, be it at once or by the engine. */
    late = h2_pair_call(&p, 10, true);
    if (late) {
        h2_pair_run(&p);
        assert_int_equal(late->n_closed, 1);
        h2_end_free(late);
    }
    assert_int_equal(p.n_accepted, 2);
    /* The one that is open goes on to its end. */
    h2_end_send(c, 100000, true);
    h2_pair_run(&p);
    assert_good(p.accepted[0], 100010);
    assert_false(h2_done(p.side[CLIENT].h2));
    h2_pair_answer(p.accepted[0], true);
    h2_pair_run(&p);
    closed_well(c);
    assert_true(h2_done(p.side[CLIENT].h2));
    assert_true(h2_done(p.side[SERVER].h2));
    assert_false(p.side[CLIENT].fed_badly || p.side[SERVER].fed_badly);
}

/* A client that does not answer PINGs is not waited for. */
static void goaway_without_waiting(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 10, false);
    h2_pair_run(&p);
    h2_goaway(p.side[SERVER].h2);
    h2_goaway_last(p.side[SERVER].h2);
    struct h2_end *late = h2_pair_call(&p, 10, true);
    h2_pair_run(&p);
    assert_int_equal(p.side[CLIENT].n_goaway, 2);
    assert_int_equal(p.side[CLIENT].goaway_last, c->st.id);
    assert_int_equal(p.n_accepted, 1);
    assert_int_equal(late->n_closed, 1);
    assert_int_equal(late->error, H2_REFUSED_STREAM);
    h2_end_free(late);
    h2_pair_answer(p.accepted[0], true);
    h2_pair_run(&p);
    assert_int_equal(c->n_closed, 1);
    h2_end_free(c);
}

static void goaway_by_the_client(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *c = h2_pair_call(&p, 10, false);
    h2_pair_run(&p);
    h2_goaway(p.side[CLIENT].h2);
    h2_pair_run(&p);
    assert_int_equal(p.side[SERVER].n_goaway, 1);
    h2_end_send(c, 5, true);
    h2_pair_run(&p);
    assert_good(p.accepted[0], 15);
    h2_pair_answer(p.accepted[0], true);
    h2_pair_run(&p);
    closed_well(c);
    assert_true(h2_done(p.side[CLIENT].h2));
}

/* --- what a peer may not do --- */

static bool open_with(struct h2_end **end, const char *key, size_t val_len, unsigned count)
{
    struct h2_end *e = h2_end_new(&p, CLIENT);
    struct kv headers = {0};
    kv_add(&headers, ":method", "POST");
    kv_add(&headers, ":scheme", "http");
    kv_add(&headers, ":path", "/a/b");
    kv_add(&headers, ":authority", "target");
    char *val = malloc(val_len + 1);
    assert_non_null(val);
    memset(val, 'v', val_len);
    val[val_len] = 0;
    for (unsigned i = 0; i < count; i++)
        assert_true(kv_add(&headers, key, val));
    free(val);
    e->tx_done = true;
    bool ok = h2_open(p.side[CLIENT].h2, &e->st, &headers);
    kv_free(&headers);
    *end = e;
    return ok;
}

static void a_header_list_that_is_too_large(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *large, *just;
    assert_true(open_with(&large, "k", H2_HEADERS_MAX, 1));
    assert_true(open_with(&just, "k", H2_HEADERS_MAX - 1000, 1));
    h2_pair_run(&p);
    assert_int_equal(large->n_closed, 1);
    assert_int_equal(large->error, H2_ENHANCE_YOUR_CALM);
    assert_int_equal(p.accepted[0]->n_headers, 0);
    assert_int_equal(p.accepted[0]->n_closed, 1);
    assert_int_equal(p.accepted[1]->n_headers, 1);
    assert_int_equal(p.accepted[1]->n_ends + p.accepted[1]->headers_end, 1);
    h2_end_free(large);
    h2_stream_forget(&just->st);
    h2_end_free(just);
}

/* More pairs than an engine carries are refused; none is dropped without a word. */
static void more_headers_than_there_is_room_for(void **state)
{
    (void)state;
    p.on_open = on_open;
    struct h2_end *many, *just;
    assert_false(open_with(&many, "k", 1, 125));
    assert_true(open_with(&just, "k", 1, 124));
    h2_pair_run(&p);
    assert_int_equal(p.n_accepted, 1);
    assert_int_equal(p.accepted[0]->headers.count, 128);
    h2_end_free(many);
    h2_stream_forget(&just->st);
    h2_end_free(just);
}

static void a_flood_of_resets(void **state)
{
    (void)state;
    h2_pair_free(&p);
    h2_pair_init(&p, 14, 1000);
    p.on_open = on_open;
    unsigned n = 0;
    for (; n < 3000 && !p.side[SERVER].fed_badly; n++) {
        struct h2_end *c = h2_pair_call(&p, 0, false);
        h2_pair_drain(&p, CLIENT);
        h2_stream_reset(&c->st, H2_CANCEL);
        h2_pair_drain(&p, CLIENT);
        h2_pair_arrive(&p, CLIENT);
        p.now_ns += 10000;
        h2_end_free(c);
    }
    assert_true(p.side[SERVER].fed_badly);
    assert_non_null(strstr(p.side[SERVER].why.text, "resets streams faster"));
    assert_in_range(n, 900, 1100);
}

/* Resets at the pace of an agent that has trouble are no flood. */
static void resets_at_a_normal_pace(void **state)
{
    (void)state;
    h2_pair_free(&p);
    h2_pair_init(&p, 15, 1000);
    p.on_open = on_open;
    for (unsigned n = 0; n < 1900; n++) {
        struct h2_end *c = h2_pair_call(&p, 0, false);
        h2_pair_drain(&p, CLIENT);
        h2_stream_reset(&c->st, H2_CANCEL);
        h2_pair_drain(&p, CLIENT);
        h2_pair_arrive(&p, CLIENT);
        p.now_ns += 10000000; /* 100 a second */
        h2_end_free(c);
    }
    assert_false(p.side[SERVER].fed_badly);
    h2_pair_drain(&p, SERVER);
    h2_pair_arrive(&p, SERVER);
    assert_int_equal(p.side[CLIENT].n_goaway, 0); /* nghttp2 has a limit of its own */
}

static bool fed(int side, const char *bytes, size_t n, struct err *e)
{
    return h2_feed(p.side[side].h2, (const uint8_t *)bytes, n, p.now_ns, e);
}

static void what_is_no_http2(void **state)
{
    (void)state;
    static const char http1[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    static const char get[] = "GET / HTTP/1.1\r\nHost: target\r\n\r\n";
    static const char tls[] = "\x15\x03\x01\x00\x02\x02\x46";
    static const char ssh[] = "SSH-2.0-OpenSSH_9.2\r\n";
    const char *odd[] = {http1, get, tls, ssh};
    size_t lens[] = {sizeof http1 - 1, sizeof get - 1, sizeof tls - 1, sizeof ssh - 1};
    for (int i = 0; i < 4; i++)
        for (int side = CLIENT; side <= SERVER; side++) {
            h2_pair_free(&p);
            h2_pair_init(&p, 16, 10);
            struct err e = {{0}};
            bool ok = fed(side, odd[i], lens[i], &e);
            /* Some look like the beginning of a frame at first. */
            char more[20000];
            memset(more, '\n', sizeof more);
            ok = ok && fed(side, more, sizeof more, &e);
            h2_pair_drain(&p, side); /* a GOAWAY may wait */
            assert_true(!ok || h2_done(p.side[side].h2));
            ok = ok && fed(side, more, sizeof more, &e);
            assert_false(ok);
            assert_int_equal(strncmp(e.text, "HTTP/2: ", 8), 0);
            assert_true(strlen(e.text) > 8);
            assert_int_equal(p.side[side].n_ready, 0);
        }
}

/* After a good start, random bytes: whatever comes of it, no crash, and calls end. */
static void garbage_in_the_middle(void **state)
{
    (void)state;
    struct rng r = {17};
    unsigned refused = 0;
    for (int round = 0; round < 2000; round++) {
        h2_pair_free(&p);
        h2_pair_init(&p, 17, 10);
        p.on_open = on_open;
        struct h2_end *c = h2_pair_call(&p, 5000, false);
        h2_pair_run(&p);
        h2_pair_answer(p.accepted[0], false);
        h2_end_send(p.accepted[0], 3000, false);
        int from = round % 2;
        h2_pair_turn(&p);
        /* A real frame header more often than not, so that it is looked into. */
        uint8_t bytes[200];
        size_t n = 9 + rng_below(&r, sizeof bytes - 9);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)rng_u64(&r);
        bytes[0] = bytes[1] = 0;
        bytes[2] = (uint8_t)rng_below(&r, (uint32_t)n - 8);
        bytes[3] = (uint8_t)rng_below(&r, 11);
        bytes[5] = bytes[6] = bytes[7] = 0;
        bytes[8] = (uint8_t)rng_below(&r, 4);
        assert_true(buf_append(&p.side[from].wire, bytes, n));
        h2_pair_arrive(&p, from);
        h2_pair_drain(&p, !from);
        refused += p.side[!from].fed_badly || h2_done(p.side[!from].h2);
        h2_pair_arrive(&p, !from);
        h2_stream_forget(&c->st);
        h2_end_free(c);
    }
    assert_true(refused > 500);
}

/* An interim response is not reported, and what follows it is no trailers. */
static void interim_responses(void **state)
{
    (void)state;
    struct h2_end *c = h2_pair_call(&p, 0, true);
    h2_pair_run(&p);
    /* HEADERS, END_HEADERS, stream 1: literals without indexing with the name ":status" (RFC 7541, index 8).
     */
    static const char early[] = "\0\0\5\1\4\0\0\0\1\x08\3"
                                "103";
    static const char final[] = "\0\0\5\1\4\0\0\0\1\x08\3"
                                "200";
    struct err e;
    assert_true(fed(CLIENT, early, sizeof early - 1, &e));
    assert_true(fed(CLIENT, early, sizeof early - 1, &e));
    assert_int_equal(c->n_headers, 0);
    assert_true(fed(CLIENT, final, sizeof final - 1, &e));
    assert_int_equal(c->n_headers, 1);
    assert_int_equal(c->n_trailers, 0);
    assert_int_equal(c->headers.count, 1);
    h2_stream_forget(&c->st);
    h2_end_free(c);
}

static void names_of_errors(void **state)
{
    (void)state;
    assert_string_equal(h2_error_name(H2_NO_ERROR), "NO_ERROR");
    assert_string_equal(h2_error_name(H2_CANCEL), "CANCEL");
    assert_string_equal(h2_error_name(H2_REFUSED_STREAM), "REFUSED_STREAM");
    assert_string_equal(h2_error_name(H2_ENHANCE_YOUR_CALM), "ENHANCE_YOUR_CALM");
    assert_non_null(h2_error_name(0xffffffff));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(both_sides_come_up),
        TEST(a_call_with_bytes_both_ways_and_trailers),
        TEST(trailers_only),
        TEST(an_answer_before_the_client_has_ended),
        TEST(an_empty_half),
        TEST(backpressure_upwards),
        TEST(credit_returns_by_quarters),
        TEST(room_on_a_stream),
        TEST(backpressure_downwards),
        TEST(windows_grow),
        TEST(the_budget_of_windows_is_given_back),
        TEST(ping_measures_the_round_trip),
        TEST(the_first_messages_measure_the_round_trip),
        TEST(resets_are_told_to_the_other_side),
        TEST(a_reset_before_the_request_went_out),
        TEST(a_stream_that_is_forgotten),
        TEST(a_refused_stream),
        TEST(max_concurrent_streams),
        TEST(goaway_by_the_server),
        TEST(goaway_without_waiting),
        TEST(goaway_by_the_client),
        TEST(a_header_list_that_is_too_large),
        TEST(more_headers_than_there_is_room_for),
        TEST(a_flood_of_resets),
        TEST(resets_at_a_normal_pace),
        TEST(what_is_no_http2),
        TEST(garbage_in_the_middle),
        TEST(interim_responses),
        TEST(names_of_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
