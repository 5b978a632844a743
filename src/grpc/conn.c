#include "grpc/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "grpc/call_internal.h"

/* How much leaves in one send: eight full TLS records, each with a DATA frame that fills it. */
#define SEND_BYTES (8 * H2_FRAME_BYTES)
/* So much payload is enough for it: frames and messages have headers. */
#define OFFER_BYTES (SEND_BYTES - SEND_BYTES / 64)
/*
 * What one turn reads from or writes to one connection at most; the rest waits for the next turn, so that one busy
 * connection does not hold up the others. That much, because what comes for one session in one turn goes to its socket in
 * one piece.
 */
#define TURN_BYTES (4 * SEND_BYTES)
/* Both are empty between turns and so can be shared. tx_buf: h2_drain() goes on while there is room for any frame. */
static uint8_t rx_buf[TURN_BYTES], tx_buf[SEND_BYTES - H2_FRAME_BYTES + H2_DRAIN_MIN];

/* After our FIN: how long the other side may take to close too. */
#define FIN_WAIT_MS 2000

const char *grpc_conn_end_name(enum grpc_conn_end end)
{
    static const char *const names[] = {[GRPC_END_CLOSED] = "closed",
                                        [GRPC_END_RESET] = "reset",
                                        [GRPC_END_PING_TIMEOUT] = "ping_timeout",
                                        [GRPC_END_PROTOCOL] = "protocol",
                                        [GRPC_END_GOAWAY] = "goaway",
                                        [GRPC_END_LOCAL] = "local"};
    return names[end];
}

/* --- the end --- */

static void lose_calls(struct grpc_conn *c, const char *why)
{
    while (!list_empty(&c->calls))
        grpc_call_lost(LIST_ITEM(c->calls.next, struct grpc_call, node), why);
    while (!list_empty(&c->released))
        grpc_call_free(LIST_ITEM(c->released.next, struct grpc_call, node));
}

static void conn_free(struct grpc_conn *c)
{
    loop_task_cancel(&c->flush);
    loop_task_cancel(&c->read);
    loop_task_cancel(&c->end);
    loop_pulse_stop(&c->pulse);
    h2_free(c->h2);
    stream_free(c->stream);
    free(c->authority);
    free(c->why);
    free(c);
}

/* Runs as a task of its own, because the reason is found deep inside the engine and the engine must be left first. */
static void on_end(void *arg)
{
    struct grpc_conn *c = arg;
    struct err why;
    err_set(&why, "%s", c->why ? c->why : "out of memory");
    lose_calls(c, why.text);
    const struct grpc_conn_ops *ops = c->ops;
    void *user = c->arg;
    enum grpc_conn_end end = c->end_reason;
    conn_free(c);
    ops->closed(user, end, &why);
}

static void conn_end(struct grpc_conn *c, enum grpc_conn_end end, const char *why)
{
    if (c->dead)
        return;
    c->dead = true;
    c->end_reason = end;
    c->why = strdup(why);
    loop_task_defer(&c->end);
}

void grpc_conn_close(struct grpc_conn *c, const char *why)
{
    c->dead = true;
    lose_calls(c, why);
    conn_free(c);
}

/* --- writing --- */

static void maybe_done(struct grpc_conn *c)
{
    if (c->dead || stream_queued(c->stream) > 0 || h2_wants_write(c->h2))
        return;
    if (c->drain_ms != 0 && c->n_calls == 0) {
        if (c->fin_ms != 0 || h2_goaway_due(c->h2))
            return;
        /* Our FIN, then wait for theirs: closing with bytes unread would reset TCP and could cost the last status. */
        c->fin_ms = loop_now_ms(c->loop);
        stream_shutdown(c->stream);
    } else if (c->draining && (c->n_calls == 0 || h2_done(c->h2))) {
        conn_end(c, GRPC_END_GOAWAY, "the other side ended the connection with GOAWAY");
    } else if (h2_done(c->h2)) {
        conn_end(c, GRPC_END_PROTOCOL, "HTTP/2 protocol error");
    }
}

static void on_flush(void *arg)
{
    struct grpc_conn *c = arg;
    if (c->dead)
        return;
    c->offered = 0;
    size_t budget = TURN_BYTES;
    while (stream_queued(c->stream) == 0 && budget >= SEND_BYTES) {
        int64_t n = h2_drain(c->h2, tx_buf, sizeof tx_buf, clock_mono_ns());
        if (n < 0) {
            conn_end(c, GRPC_END_PROTOCOL, "HTTP/2: out of memory");
            return;
        }
        if (n == 0)
            break;
        budget -= SEND_BYTES;
        if (!stream_write(c->stream, tx_buf, (size_t)n)) {
            conn_end(c, GRPC_END_RESET, stream_why(c->stream)->text);
            return;
        }
    }
    if (stream_queued(c->stream) == 0 && budget < SEND_BYTES)
        loop_task_defer(&c->flush);
    maybe_done(c);
}

void grpc_conn_wake(struct grpc_conn *c)
{
    if (!c->dead)
        loop_task_defer(&c->flush);
}

void grpc_conn_offer(struct grpc_conn *c, size_t n)
{
    c->offered += n;
    if (c->offered >= OFFER_BYTES && stream_queued(c->stream) == 0)
        on_flush(c);
    else
        grpc_conn_wake(c);
}

/* --- reading --- */

/* Fills rx_buf from as many TLS records as there are. Returns how much; *last: what the last read said. */
static size_t fill(struct grpc_conn *c, ssize_t *last)
{
    size_t n = 0;
    do {
        *last = stream_read(c->stream, rx_buf + n, sizeof rx_buf - n);
        n += *last > 0 ? (size_t)*last : 0;
    } while (*last > 0 && n < sizeof rx_buf);
    return n;
}

static void on_read(void *arg)
{
    struct grpc_conn *c = arg;
    if (c->dead)
        return;
    ssize_t n;
    size_t have = fill(c, &n);
    if (have > 0) {
        c->last_rx_ms = loop_now_ms(c->loop);
        c->ping_at_ms = 0;
        struct err e;
        bool sound = h2_feed(c->h2, rx_buf, have, clock_mono_ns(), &e);
        grpc_calls_settle();
        if (!sound) {
            on_flush(c); /* a GOAWAY that tells the other side why */
            conn_end(c, GRPC_END_PROTOCOL, e.text);
            return;
        }
        grpc_conn_wake(c);
    }
    if (c->dead)
        return;
    if (n > 0)
        loop_task_defer(&c->read);
    else if (n == 0)
        conn_end(c, c->draining ? GRPC_END_GOAWAY : GRPC_END_CLOSED, "the other side closed the connection");
    else if (n == STREAM_BROKEN)
        conn_end(c, GRPC_END_RESET, stream_why(c->stream)->text);
}

static void on_stream_event(void *arg, unsigned events)
{
    struct grpc_conn *c = arg;
    if (events & LOOP_WRITE)
        grpc_conn_wake(c);
    if (events & LOOP_READ)
        on_read(c);
}

static const struct stream_ops stream_ops = {.event = on_stream_event};

/* --- clocks --- */

static void on_beat(void *arg)
{
    struct grpc_conn *c = arg;
    if (c->dead)
        return;
    int64_t now = loop_now_ms(c->loop);
    LIST_FOREACH (node, &c->released) {
        struct grpc_call *call = LIST_ITEM(node, struct grpc_call, node);
        if (now - call->released_ms > GRPC_RELEASE_MS) {
            list_remove(&call->node);
            list_append(&c->calls, &call->node);
            h2_stream_reset(&call->st, H2_CANCEL);
            grpc_conn_wake(c);
        }
    }
    grpc_calls_beat(c);
    if (c->drain_ms != 0 && now - c->drain_ms > GRPC_PING_TIMEOUT_MS && h2_goaway_due(c->h2)) {
        h2_goaway_last(c->h2);
        grpc_conn_wake(c);
    }
    if (c->fin_ms != 0 && now - c->fin_ms > FIN_WAIT_MS) {
        conn_end(c, GRPC_END_LOCAL, "drained");
        return;
    }
    if (c->ping_at_ms != 0 && now - c->ping_at_ms > GRPC_PING_TIMEOUT_MS) {
        char text[96];
        snprintf(text, sizeof text, "no answer to a PING within %d s", GRPC_PING_TIMEOUT_MS / 1000);
        conn_end(c, GRPC_END_PING_TIMEOUT, text);
    } else if (c->ping_at_ms == 0 && now - c->last_rx_ms > c->ping_silence_ms) {
        c->ping_at_ms = now;
        h2_ping(c->h2, clock_mono_ns());
        grpc_conn_wake(c);
    }
}

/* --- the engine's events --- */

static struct h2_stream *on_open(void *arg)
{
    struct grpc_conn *c = arg;
    return c->dead ? NULL : grpc_call_incoming(c);
}

static void on_goaway(void *arg, int32_t last_id, uint32_t error, const char *debug)
{
    struct grpc_conn *c = arg;
    (void)last_id; /* nghttp2 closes the streams above it with REFUSED_STREAM */
    c->draining = true;
    if (c->ops->draining)
        c->ops->draining(c->arg, error, debug);
    grpc_conn_wake(c);
}

static void on_h2_ready(void *arg)
{
    struct grpc_conn *c = arg;
    c->ready = true;
    h2_ping(c->h2, clock_mono_ns());
    if (c->ops->ready)
        c->ops->ready(c->arg);
}

static const struct h2_ops h2_ops = {.open = on_open, .goaway = on_goaway, .ready = on_h2_ready};

/* --- the beginning --- */

struct grpc_conn *grpc_conn_new(struct loop *loop, struct stream *stream, bool server, const char *authority,
                                const struct grpc_conn_ops *ops, void *arg)
{
    struct grpc_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->h2 = h2_new(server, server ? GRPC_SERVER_STREAMS : 0, &h2_ops, c);
    c->authority = strdup(authority ? authority : "");
    if (!c->h2 || !c->authority) {
        h2_free(c->h2);
        free(c->authority);
        free(c);
        return NULL;
    }
    c->loop = loop;
    c->stream = stream;
    c->server = server;
    c->scheme = stream_is_tls(stream) ? "https" : "http";
    c->ops = ops;
    c->arg = arg;
    c->last_rx_ms = loop_now_ms(loop);
    c->ping_silence_ms = GRPC_PING_SILENCE_MS;
    list_init(&c->calls);
    list_init(&c->released);
    loop_task_init(&c->flush, loop, on_flush, c);
    loop_task_init(&c->read, loop, on_read, c);
    loop_task_init(&c->end, loop, on_end, c);
    loop_pulse_start(&c->pulse, loop, on_beat, c);
    stream_set_owner(stream, &stream_ops, c);
    /* The other side's first bytes may have come with the end of the TLS handshake. */
    loop_task_defer(&c->read);
    loop_task_defer(&c->flush);
    return c;
}

void grpc_conn_drain(struct grpc_conn *c)
{
    if (c->dead || c->drain_ms != 0)
        return;
    c->drain_ms = loop_now_ms(c->loop);
    h2_goaway(c->h2);
    grpc_conn_wake(c);
}

uint32_t grpc_conn_room(const struct grpc_conn *c)
{
    if (c->dead || c->draining || c->drain_ms != 0 || !c->ready)
        return 0;
    uint32_t max = h2_peer_max_streams(c->h2);
    return max > c->n_calls ? max - c->n_calls : 0;
}

uint32_t grpc_conn_calls(const struct grpc_conn *c)
{
    return c->n_calls;
}

bool grpc_conn_is_dead(const struct grpc_conn *c)
{
    return c->dead;
}

int64_t grpc_conn_rtt_ns(const struct grpc_conn *c)
{
    return h2_rtt_ns(c->h2);
}

int64_t grpc_conn_tls_expiry(const struct grpc_conn *c)
{
    return stream_tls_expiry(c->stream);
}

void grpc_conn_set_ping_silence(struct grpc_conn *c, int64_t ms)
{
    c->ping_silence_ms = ms;
}
