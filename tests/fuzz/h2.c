/*
 * libFuzzer: an HTTP/2 engine that hears anything. The first byte chooses the side, and whether a good start
 * is made for it; then a script: a byte below 200 is followed by that many bytes from the other side, others
 * let the owner of the streams do something.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/h2.h"

enum { STREAMS = 8 };

struct world {
    struct h2 *h2;
    int64_t now;
    struct end {
        struct h2_stream st;
        struct world *world;
        bool used, closed, accepted;
        uint64_t unread, to_send;
        bool done;
        struct kv trailers;
    } ends[STREAMS];
};

static void on_headers(void *arg, struct kv *headers, bool trailers, bool end)
{
    struct end *e = arg;
    struct kv_pair pair;
    uint32_t n = 0;
    (void)trailers;
    (void)end;
    if (e->closed)
        abort();
    for (uint32_t pos = 0; kv_next(headers, &pos, &pair); n++)
        if (pair.key[pair.key_len] != 0 || pair.val[pair.val_len] != 0)
            abort();
    if (n != headers->count)
        abort();
}

static void on_data(void *arg, const uint8_t *p, size_t n)
{
    struct end *e = arg;
    volatile uint8_t last = p[n - 1];
    (void)last;
    if (e->closed)
        abort();
    e->unread += n;
    /* Backpressure: what is not consumed is bounded by the window. */
    if (e->unread > e->st.window)
        abort();
}

static void on_end(void *arg)
{
    struct end *e = arg;
    if (e->closed)
        abort();
}

static void on_closed(void *arg, uint32_t error)
{
    struct end *e = arg;
    (void)error;
    if (e->closed)
        abort();
    e->closed = true;
}

static size_t on_ready(void *arg, size_t max)
{
    struct end *e = arg;
    return e->to_send < max ? (size_t)e->to_send : max;
}

static void on_write(void *arg, uint8_t *dst, size_t n)
{
    struct end *e = arg;
    if (n > e->to_send)
        abort();
    memset(dst, 'x', n);
    e->to_send -= n;
}

static bool on_finished(void *arg, const struct kv **trailers)
{
    struct end *e = arg;
    if (e->done && e->trailers.count > 0)
        *trailers = &e->trailers;
    return e->done;
}

static const struct h2_stream_ops stream_ops = {.headers = on_headers,
                                                .data = on_data,
                                                .end = on_end,
                                                .closed = on_closed,
                                                .ready = on_ready,
                                                .write = on_write,
                                                .finished = on_finished};

static struct end *new_end(struct world *w)
{
    for (int i = 0; i < STREAMS; i++)
        if (!w->ends[i].used) {
            w->ends[i].used = true;
            w->ends[i].world = w;
            w->ends[i].st.ops = &stream_ops;
            w->ends[i].st.arg = &w->ends[i];
            return &w->ends[i];
        }
    return NULL;
}

static struct h2_stream *on_open(void *arg)
{
    struct end *e = new_end(arg);
    return e ? &e->st : NULL;
}

static void on_goaway(void *arg, int32_t last_id, uint32_t error, const char *debug)
{
    (void)arg;
    (void)last_id;
    (void)error;
    if (strlen(debug) > 127)
        abort();
}

static const struct h2_ops ops = {.open = on_open, .goaway = on_goaway};

static void open_call(struct world *w)
{
    struct end *e = new_end(w);
    struct kv headers = {0};
    if (!e)
        return;
    kv_add(&headers, ":method", "POST");
    kv_add(&headers, ":scheme", "http");
    kv_add(&headers, ":path", "/a/b");
    kv_add(&headers, ":authority", "target");
    if (!h2_open(w->h2, &e->st, &headers))
        e->closed = true;
    kv_free(&headers);
}

static void answer(struct end *e, bool end)
{
    struct kv headers = {0};
    if (!e->used || e->closed || e->accepted || e->st.id == 0)
        return;
    e->accepted = true;
    kv_add(&headers, ":status", "200");
    h2_respond(&e->st, &headers, end);
    kv_free(&headers);
}

static void drain(struct world *w)
{
    static uint8_t out[H2_DRAIN_MIN + 3000];
    for (int i = 0; i < 100; i++) {
        int64_t n = h2_drain(w->h2, out, sizeof out, w->now);
        if (n > (int64_t)sizeof out)
            abort();
        if (n <= 0)
            return;
    }
}

static void act(struct world *w, bool server, uint8_t op)
{
    struct end *e = &w->ends[op % STREAMS];
    switch ((op - 200) / STREAMS) {
    case 0:
        w->now += (op % STREAMS) * 30000000;
        drain(w);
        break;
    case 1:
        if (server)
            answer(e, false);
        else
            open_call(w);
        break;
    case 2:
        if (e->used && !e->closed) {
            e->to_send += 5000;
            h2_stream_wake(&e->st);
        }
        break;
    case 3:
        if (e->used && !e->closed) {
            e->done = true;
            if (op & 1)
                kv_add(&e->trailers, "grpc-status", "0");
            h2_stream_wake(&e->st);
        }
        break;
    case 4:
        if (e->used) {
            h2_stream_consume(&e->st, e->unread, w->now);
            e->unread = 0;
        }
        break;
    case 5:
        if (e->used)
            h2_stream_reset(&e->st, H2_CANCEL);
        break;
    default:
        if (op & 1)
            h2_ping(w->h2, w->now);
        else if (op & 2)
            h2_goaway(w->h2);
        else if (server)
            answer(e, true);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t settings[9] = {0, 0, 0, 4, 0, 0, 0, 0, 0};
    if (n < 1)
        return 0;
    bool server = data[0] & 1, good_start = data[0] & 2, ok = true;
    struct world w = {.now = 1000000000};
    struct err e = {{0}};
    w.h2 = h2_new(server, server ? 4 : 0, &ops, &w);
    if (!w.h2)
        abort();
    if (!server)
        open_call(&w);
    if (good_start && server)
        ok = h2_feed(w.h2, preface, sizeof preface - 1, w.now, &e);
    if (good_start)
        ok = ok && h2_feed(w.h2, settings, sizeof settings, w.now, &e);
    if (!ok)
        abort();
    data++;
    n--;
    while (n > 0 && ok) {
        uint8_t op = *data++;
        n--;
        if (op >= 200) {
            act(&w, server, op);
            continue;
        }
        size_t part = op < n ? op : n;
        ok = h2_feed(w.h2, data, part, w.now, &e);
        if (!ok && e.text[0] == 0)
            abort();
        data += part;
        n -= part;
    }
    drain(&w);
    for (int i = 0; i < STREAMS; i++) {
        if (w.ends[i].used)
            h2_stream_forget(&w.ends[i].st);
        kv_free(&w.ends[i].trailers);
    }
    h2_free(w.h2);
    return 0;
}
