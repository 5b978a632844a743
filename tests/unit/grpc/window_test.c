/*
 * Windows on a line that has a rate: how much of it a stream gets, how soon, and how long everything else on the connection
 * waits behind the bytes that the windows let through. Two engines and a simulated line, in simulated time.
 */
#include "unit.h"

#include "h2_pair.h"

#define TICK_NS 250000
/* After this much silence, in which the round trip has been measured, bulk begins … */
#define SILENCE_NS 300000000
/* … or after this much, when the beginning was bad: an answer took so long. */
#define BREATH_NS 20000000
#define LATE_NS   40000000

/* One direction. Takes everything at once, as a TCP connection with a large window does. */
struct piece {
    int64_t sent_ns, due_ns;
    size_t len;
};
struct way {
    double bytes_per_ns;
    int64_t latency_ns, free_ns;
    struct buf bytes;
    struct piece pieces[1 << 16];
    unsigned first, end;
};

struct result {
    double share; /* of the line's rate, in the second half */
    int64_t
        full_ns; /* how long until nine tenths of the line were used for a round trip and 20 ms; 0: never */
    int64_t longest_ns; /* the longest wait for the line in the second half */
    uint32_t window;
};

static struct h2_pair pair;
static struct way up, down;

static void on_open(struct h2_end *e)
{
    e->rx_pattern = 1; /* as h2_pair_call() sends it */
}

static void put(struct way *w, const uint8_t *p, size_t n)
{
    int64_t start = w->free_ns > pair.now_ns ? w->free_ns : pair.now_ns;
    w->free_ns = start + (int64_t)((double)n / w->bytes_per_ns);
    if (!buf_append(&w->bytes, p, n))
        abort();
    w->pieces[w->end++ % (1 << 16)] = (struct piece){pair.now_ns, w->free_ns + w->latency_ns, n};
}

static void drain(int from, struct way *w)
{
    static uint8_t out[H2_DRAIN_MIN];
    int64_t n;
    while ((n = h2_drain(pair.side[from].h2, out, sizeof out, pair.now_ns)) > 0)
        put(w, out, (size_t)n);
    assert_true(n == 0);
}

/* What has arrived goes in. Returns the longest wait for the line. */
static int64_t arrive(struct way *w, int to)
{
    int64_t longest = 0;
    struct err e;
    for (; w->first != w->end; w->first++) {
        struct piece *p = &w->pieces[w->first % (1 << 16)];
        if (p->due_ns > pair.now_ns)
            break;
        int64_t waited = p->due_ns - p->sent_ns - w->latency_ns;
        longest = waited > longest ? waited : longest;
        assert_true(h2_feed(pair.side[to].h2, buf_begin(&w->bytes), p->len, pair.now_ns, &e));
        buf_take(&w->bytes, p->len);
    }
    return longest;
}

/*
 * One stream sends for `seconds` from the client to the server. The server does not get to run in the first `stall_ms` of every
 * 100 ms: other programs have the processor. With `beside` there is another stream on the connection, which says nothing.
 * `late`: the connection begins with so many times LATE_NS in which the client hears nothing, and the stream's few
 * small messages; then all is well, and the bulk comes.
 */
struct line {
    double rtt_ms, mbit, seconds;
    int stall_ms, late;
    bool beside;
};

static struct result run(const struct line *l)
{
    double rtt_ms = l->rtt_ms, mbit = l->mbit;
    struct result r = {0};
    memset(&up, 0, sizeof up);
    memset(&down, 0, sizeof down);
    up.latency_ns = down.latency_ns = (int64_t)(rtt_ms * 5e5);
    up.bytes_per_ns = down.bytes_per_ns = mbit / 8000;
    h2_pair_init(&pair, 1, 10);
    pair.on_open = on_open;
    int64_t begin = pair.now_ns, well = begin + l->late * LATE_NS,
            bulk = well + (l->late > 0 ? BREATH_NS : SILENCE_NS);
    int64_t end = well + (int64_t)(l->seconds * 1e9), half = (well + end) / 2;
    bool pouring = false;
    h2_ping(pair.side[SERVER].h2, pair.now_ns);
    struct h2_end *c = NULL, *silent = NULL;
    uint64_t at_half = 0, at_mark = 0;
    int64_t mark = begin, step = (int64_t)(rtt_ms * 1e6) + 20000000;
    for (; pair.now_ns < end; pair.now_ns += TICK_NS) {
        bool late_turn = pair.now_ns < well && (pair.now_ns - begin) % LATE_NS < TICK_NS;
        if (!c && (late_turn || pair.now_ns > bulk)) {
            c = h2_pair_call(&pair, 0, false);
            silent = l->beside ? h2_pair_call(&pair, 0, false) : NULL;
        }
        if (late_turn)
            h2_end_send(c, 19, false);
        if (!pouring && pair.now_ns > bulk) {
            pouring = true;
            h2_end_send(c, UINT64_MAX / 2, false);
        }
        if (pair.now_ns % 100000000 >= l->stall_ms * 1000000) {
            int64_t waited = arrive(&up, SERVER);
            if (pair.now_ns > half && waited > r.longest_ns)
                r.longest_ns = waited;
            drain(SERVER, &down);
        }
        if (late_turn || pair.now_ns >= well)
            arrive(&down, CLIENT);
        drain(CLIENT, &up);
        uint64_t got = pair.n_accepted ? pair.accepted[0]->rx_at : 0;
        if (pair.now_ns - mark >= step) {
            if (r.full_ns == 0 &&
                (double)(got - at_mark) > 0.9 * up.bytes_per_ns * (double)(pair.now_ns - mark))
                r.full_ns = pair.now_ns - bulk;
            mark = pair.now_ns;
            at_mark = got;
        }
        if (pair.now_ns <= half)
            at_half = got;
    }
    struct h2_end *s = pair.accepted[0];
    assert_u64_equal(s->rx_wrong, 0);
    r.share = (double)(s->rx_at - at_half) / (up.bytes_per_ns * (double)(end - half));
    r.window = s->st.window;
    h2_stream_forget(&c->st);
    h2_end_free(c);
    if (silent) {
        h2_stream_forget(&silent->st);
        h2_end_free(silent);
    }
    h2_pair_free(&pair);
    buf_free(&up.bytes);
    buf_free(&down.bytes);
    return r;
}

#define FULL 0.95

static struct result check(double rtt_ms, double mbit, double seconds, int stall_ms, double full_ms,
                           double wait_ms)
{
    struct result r =
        run(&(struct line){.rtt_ms = rtt_ms, .mbit = mbit, .seconds = seconds, .stall_ms = stall_ms});
    printf("%g ms, %g Mbit/s, stalls of %d ms: share %.3f, full after %.0f ms, longest wait %.1f ms, window "
           "%u KiB\n",
           rtt_ms, mbit, stall_ms, r.share, (double)r.full_ns / 1e6, (double)r.longest_ns / 1e6,
           r.window >> 10);
    assert_true(r.share > FULL);
    assert_true(r.full_ns > 0 && r.full_ns < (int64_t)(full_ms * 1e6));
    assert_true(r.longest_ns < (int64_t)(wait_ms * 1e6));
    return r;
}

/* The bounds are about one and a half times what the engine needs. */

static void a_line_is_filled_and_not_flooded(void **state)
{
    (void)state;
    check(0.1, 4000, 1, 0, 100, 5);
    check(1, 1000, 1, 0, 100, 16);
    check(10, 200, 2, 0, 150, 80);
    check(50, 100, 3, 0, 700, 350);
}

/* 12.5 MB are on their way then. */
static void a_long_and_fast_line_is_filled(void **state)
{
    (void)state;
    check(100, 1000, 4, 0, 2000, 260);
}

/* Few bytes a second are a small window: 512 KiB would be 200 ms. */
static void a_slow_line_is_not_flooded(void **state)
{
    (void)state;
    check(10, 20, 2, 0, 150, 100);
}

/* Bursts after a stall are no faster path: measured by them, windows went to 32 MiB and waits to 190 ms. */
static void a_busy_reader_does_not_flood_the_line(void **state)
{
    (void)state;
    struct result r = run(&(struct line){.rtt_ms = 1, .mbit = 1000, .seconds = 1, .stall_ms = 30});
    assert_true(r.longest_ns < 25000000);
    assert_true(r.window < 4u << 20);
    check(10, 200, 2, 30, 300, 170);
}

/* On a short path the programs' turns decide. Who is alone keeps nobody waiting. */
static void a_stream_with_others_beside_it_gets_less(void **state)
{
    (void)state;
    struct line l = {.rtt_ms = 0.1, .mbit = 1000, .seconds = 1};
    struct result alone = run(&l);
    l.beside = true;
    struct result beside = run(&l);
    assert_true(alone.window > H2_WINDOW_BULK_ALONE && beside.window > H2_WINDOW_BULK);
    assert_true(beside.window < alone.window - H2_WINDOW_BULK_ALONE / 2);
    assert_true(beside.share > FULL);
}

/*
 * Connections are made when all others are made, too, and the first answers are late. A window of 3 × rate × that let 10 MB
 * through, and no later look came back sooner than behind these.
 */
static void a_bad_beginning_is_forgotten(void **state)
{
    (void)state;
    struct line l = {.rtt_ms = 1, .mbit = 1000, .seconds = 1, .beside = true};
    for (l.late = 0; l.late <= 5; l.late++) {
        struct result r = run(&l);
        printf("%d late answers: share %.3f, longest wait %.1f ms, window %u KiB\n", l.late, r.share,
               (double)r.longest_ns / 1e6, r.window >> 10);
        assert_true(r.longest_ns < 16000000);
        assert_true(r.window < 2u << 20);
        assert_true(r.share > FULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_filled_and_not_flooded),
        cmocka_unit_test(a_long_and_fast_line_is_filled),
        cmocka_unit_test(a_slow_line_is_not_flooded),
        cmocka_unit_test(a_busy_reader_does_not_flood_the_line),
        cmocka_unit_test(a_stream_with_others_beside_it_gets_less),
        cmocka_unit_test(a_bad_beginning_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
