#ifndef KBGP_TESTS_LIB_H2_PAIR_H
#define KBGP_TESTS_LIB_H2_PAIR_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "grpc/h2.h"
#include "rng.h"

/* Two engines back to back, client and server, on a link that tears bytes at random, with a false clock. */

enum { CLIENT, SERVER };

/* A stream as one side sees it. What it sends is pattern `tx_pattern` from 0 to `tx_len`; what it receives is
 * counted. */
struct h2_end {
    struct h2_stream st;
    struct h2_pair *pair;
    int side;

    uint64_t tx_pattern, tx_at, tx_len;
    bool tx_done; /* nothing follows after tx_len */
    struct kv tx_trailers;

    uint64_t rx_pattern, rx_at;
    uint64_t rx_wrong; /* bytes that are not the pattern's */
    bool hold;         /* do not give credit */
    uint64_t held;     /* bytes without credit */
    struct kv headers, trailers;
    unsigned n_headers, n_trailers, n_ends, n_closed, n_room;
    bool headers_end; /* END_STREAM stood on the first block */
    uint32_t error;
};

struct h2_side {
    struct h2_pair *pair;
    struct h2 *h2;
    struct buf wire; /* drained, not yet arrived at the other side */
    unsigned n_ready, n_goaway, n_pong, n_refused;
    int32_t goaway_last;
    uint32_t goaway_error;
    char goaway_debug[128];
    int64_t rtt_ns;
    bool fed_badly; /* h2_feed() said no */
    struct err why;
};

struct h2_pair {
    struct h2_side side[2];
    struct h2_end *accepted[2000]; /* the server's streams, in the order of arrival; owned here */
    unsigned n_accepted;
    unsigned refuse;                   /* so many of the next streams are refused */
    void (*on_open)(struct h2_end *e); /* set up a new stream of the server; may be NULL */
    struct rng rng;
    int64_t now_ns, latency_ns; /* one way */
};

/* --- callbacks --- */

static void h2_end_headers(void *arg, struct kv *headers, bool trailers, bool end)
{
    struct h2_end *e = arg;
    if (trailers) {
        e->n_trailers++;
        kv_add_all(&e->trailers, headers);
    } else {
        e->n_headers++;
        kv_add_all(&e->headers, headers);
        e->headers_end = end;
    }
}

static void h2_end_data(void *arg, const uint8_t *p, size_t n)
{
    struct h2_end *e = arg;
    e->rx_wrong += n - pattern_check(e->rx_pattern, e->rx_at, p, n);
    e->rx_at += n;
    if (e->hold)
        e->held += n;
    else
        h2_stream_consume(&e->st, n, e->pair->now_ns);
}

static void h2_end_end(void *arg)
{
    struct h2_end *e = arg;
    e->n_ends++;
}

static void h2_end_closed(void *arg, uint32_t error)
{
    struct h2_end *e = arg;
    e->n_closed++;
    e->error = error;
}

static void h2_end_room(void *arg)
{
    struct h2_end *e = arg;
    e->n_room++;
}

static size_t h2_end_ready(void *arg, size_t max)
{
    struct h2_end *e = arg;
    uint64_t left = e->tx_len - e->tx_at;
    return left < max ? (size_t)left : max;
}

static void h2_end_write(void *arg, uint8_t *dst, size_t n)
{
    struct h2_end *e = arg;
    pattern_fill(e->tx_pattern, e->tx_at, dst, n);
    e->tx_at += n;
}

static bool h2_end_finished(void *arg, const struct kv **trailers)
{
    struct h2_end *e = arg;
    if (e->tx_done && e->tx_trailers.count > 0)
        *trailers = &e->tx_trailers;
    return e->tx_done;
}

static const struct h2_stream_ops h2_end_ops = {.headers = h2_end_headers,
                                                .data = h2_end_data,
                                                .end = h2_end_end,
                                                .closed = h2_end_closed,
                                                .room = h2_end_room,
                                                .ready = h2_end_ready,
                                                .write = h2_end_write,
                                                .finished = h2_end_finished};

static struct h2_end *h2_end_new(struct h2_pair *p, int side)
{
    struct h2_end *e = calloc(1, sizeof *e);
    if (!e)
        abort();
    e->pair = p;
    e->side = side;
    e->st.ops = &h2_end_ops;
    e->st.arg = e;
    return e;
}

static void h2_end_free(struct h2_end *e)
{
    kv_free(&e->headers);
    kv_free(&e->trailers);
    kv_free(&e->tx_trailers);
    free(e);
}

static struct h2_stream *h2_pair_open(void *arg)
{
    struct h2_side *s = arg;
    struct h2_pair *p = s->pair;
    if (p->refuse > 0 || p->n_accepted == sizeof p->accepted / sizeof *p->accepted) {
        p->refuse -= p->refuse > 0;
        s->n_refused++;
        return NULL;
    }
    struct h2_end *e = h2_end_new(p, SERVER);
    p->accepted[p->n_accepted++] = e;
    if (p->on_open)
        p->on_open(e);
    return &e->st;
}

static void h2_pair_goaway(void *arg, int32_t last_id, uint32_t error, const char *debug)
{
    struct h2_side *s = arg;
    s->n_goaway++;
    s->goaway_last = last_id;
    s->goaway_error = error;
    strncpy(s->goaway_debug, debug, sizeof s->goaway_debug - 1);
}

static void h2_pair_pong(void *arg, int64_t rtt_ns)
{
    struct h2_side *s = arg;
    s->n_pong++;
    s->rtt_ns = rtt_ns;
}

static void h2_pair_ready(void *arg)
{
    struct h2_side *s = arg;
    s->n_ready++;
}

static const struct h2_ops h2_pair_ops = {
    .open = h2_pair_open, .goaway = h2_pair_goaway, .ping_ack = h2_pair_pong, .ready = h2_pair_ready};

/* --- the link --- */

static void h2_pair_init(struct h2_pair *p, uint64_t seed, uint32_t max_streams)
{
    memset(p, 0, sizeof *p);
    p->rng.state = seed;
    p->now_ns = 1000000000;
    p->latency_ns = 1000000;
    for (int i = CLIENT; i <= SERVER; i++) {
        p->side[i].pair = p;
        p->side[i].h2 = h2_new(i == SERVER, i == SERVER ? max_streams : 0, &h2_pair_ops, &p->side[i]);
        if (!p->side[i].h2)
            abort();
    }
}

static void h2_pair_free(struct h2_pair *p)
{
    for (unsigned i = 0; i < p->n_accepted; i++) {
        h2_stream_forget(&p->accepted[i]->st);
        h2_end_free(p->accepted[i]);
    }
    for (int i = CLIENT; i <= SERVER; i++) {
        h2_free(p->side[i].h2);
        buf_free(&p->side[i].wire);
    }
}

/* Moves what one side has to say into its wire. */
static bool h2_pair_drain(struct h2_pair *p, int from)
{
    static uint8_t out[200000];
    struct h2_side *s = &p->side[from];
    bool moved = false;
    for (;;) {
        size_t cap = H2_DRAIN_MIN + rng_below(&p->rng, sizeof out - H2_DRAIN_MIN);
        int64_t n = h2_drain(s->h2, out, cap, p->now_ns);
        if (n <= 0)
            return moved;
        if ((size_t)n > cap || !buf_append(&s->wire, out, (size_t)n))
            abort();
        moved = true;
    }
}

/* Lets what lies in the wire arrive, in random pieces. */
static void h2_pair_arrive(struct h2_pair *p, int from)
{
    struct buf *wire = &p->side[from].wire;
    struct h2_side *to = &p->side[!from];
    while (buf_len(wire) > 0 && !to->fed_badly) {
        size_t n = 1 + rng_size(&p->rng, 40000);
        n = n < buf_len(wire) ? n : buf_len(wire);
        to->fed_badly = !h2_feed(to->h2, buf_begin(wire), n, p->now_ns, &to->why);
        buf_take(wire, n);
    }
    buf_take(wire, buf_len(wire));
}

/* One trip each way. False: neither side had anything to say. */
static bool h2_pair_turn(struct h2_pair *p)
{
    bool moved = h2_pair_drain(p, CLIENT);
    moved |= h2_pair_drain(p, SERVER);
    p->now_ns += p->latency_ns;
    h2_pair_arrive(p, CLIENT);
    h2_pair_arrive(p, SERVER);
    return moved;
}

/* Until all is quiet. Returns the trips it took. */
static inline unsigned h2_pair_run(struct h2_pair *p)
{
    unsigned trips = 0;
    while (h2_pair_turn(p))
        if (++trips == 100000)
            abort(); /* they never come to rest */
    return trips;
}

/* The client opens a stream; NULL: refused by the engine. Freed by the caller after it has closed. */
static struct h2_end *h2_pair_call(struct h2_pair *p, uint64_t tx_len, bool tx_done)
{
    struct h2_end *e = h2_end_new(p, CLIENT);
    struct kv headers = {0};
    e->tx_pattern = 1;
    e->rx_pattern = 2;
    e->tx_len = tx_len;
    e->tx_done = tx_done;
    kv_add(&headers, ":method", "POST");
    kv_add(&headers, ":scheme", "http");
    kv_add(&headers, ":path", "/a/b");
    kv_add(&headers, ":authority", "target");
    kv_add(&headers, "te", "trailers");
    kv_add(&headers, "key", "value");
    bool ok = h2_open(p->side[CLIENT].h2, &e->st, &headers);
    kv_free(&headers);
    if (ok)
        return e;
    h2_end_free(e);
    return NULL;
}

/* The server's header block. */
static inline void h2_pair_answer(struct h2_end *e, bool end)
{
    struct kv headers = {0};
    kv_add(&headers, ":status", "200");
    kv_add(&headers, "server-key", "server-value");
    if (!h2_respond(&e->st, &headers, end))
        abort();
    kv_free(&headers);
}

/* More to send, or the end of it. */
static inline void h2_end_send(struct h2_end *e, uint64_t n, bool done)
{
    e->tx_len += n;
    e->tx_done = done;
    h2_stream_wake(&e->st);
}

/* Gives the credit that was held back. */
static inline void h2_end_release(struct h2_end *e)
{
    e->hold = false;
    uint64_t n = e->held;
    e->held = 0;
    h2_stream_consume(&e->st, n, e->pair->now_ns);
}

#endif
