#include "grpc/channel.h"

#include <stdlib.h>

#include "base/uuid.h"

/* A server that counts PINGs is asked no more rarely than this: gRPC servers take one in five minutes by default. */
#define PING_SILENCE_MAX_MS 320000

struct grpc_channel {
    struct grpc_channel_config config;
    const struct grpc_channel_ops *ops;
    void *arg;
    enum grpc_channel_state state;
    struct dial *dial;
    struct grpc_conn *conn;
    struct loop_timer *timer; /* backoff, or the wait for SETTINGS */
    struct backoff backoff;
    int64_t ready_at_ms;
};

static void dial_again(struct grpc_channel *ch);

static void failed(struct grpc_channel *ch, const char *stage, const struct err *why)
{
    ch->state = GRPC_CHANNEL_BACKOFF;
    int64_t wait = backoff_next(&ch->backoff, random_u64());
    loop_timer_start(ch->timer, wait, 0);
    ch->ops->down(ch->arg, stage, why, wait);
}

/* An attempt failed: counted by its step. */
static void count_failure(struct grpc_channel *ch, unsigned failure)
{
    if (ch->config.stats)
        ch->config.stats->failures[failure]++;
}

const char *grpc_channel_failure_name(unsigned failure)
{
    if (failure == GRPC_FAILURE_HTTP2)
        return "http2";
    return failure == GRPC_FAILURE_AUTH ? "auth" : dial_stage_name((enum dial_stage)failure);
}

static void on_conn_ready(void *arg)
{
    struct grpc_channel *ch = arg;
    loop_timer_stop(ch->timer);
    ch->state = GRPC_CHANNEL_READY;
    ch->ready_at_ms = loop_now_ms(ch->config.loop);
    ch->ops->up(ch->arg);
}

static void on_conn_draining(void *arg, uint32_t error, const char *debug)
{
    struct grpc_channel *ch = arg;
    if (error == H2_ENHANCE_YOUR_CALM && ch->config.ping_silence_ms &&
        *ch->config.ping_silence_ms < PING_SILENCE_MAX_MS)
        *ch->config.ping_silence_ms *=
            2; /* "too_many_pings": from now on half as many, as gRPC's clients do */
    if (ch->state == GRPC_CHANNEL_DRAINING)
        return;
    /* Before SETTINGS there is no call to bring to an end: a failed attempt like others. */
    if (ch->state != GRPC_CHANNEL_READY)
        return;
    ch->state = GRPC_CHANNEL_DRAINING;
    ch->ops->draining(ch->arg, debug[0] ? debug : h2_error_name(error));
}

static void on_conn_closed(void *arg, enum grpc_conn_end end, const struct err *why)
{
    struct grpc_channel *ch = arg;
    ch->conn = NULL;
    loop_timer_stop(ch->timer);
    if (ch->state == GRPC_CHANNEL_DRAINING) {
        if (ch->config.stats)
            ch->config.stats->lost[GRPC_END_GOAWAY]++;
        ch->ops->down(ch->arg, grpc_conn_end_name(GRPC_END_GOAWAY), why, -1);
        return;
    }
    bool was_ready = ch->state == GRPC_CHANNEL_READY;
    if (!was_ready)
        count_failure(ch, GRPC_FAILURE_HTTP2);
    else if (ch->config.stats)
        ch->config.stats->lost[end]++;
    if (was_ready && loop_now_ms(ch->config.loop) - ch->ready_at_ms >= GRPC_HEALTHY_MS)
        backoff_reset(&ch->backoff);
    failed(ch, was_ready ? grpc_conn_end_name(end) : "http2", why);
}

static const struct grpc_conn_ops conn_ops = {
    .ready = on_conn_ready, .draining = on_conn_draining, .closed = on_conn_closed};

static void on_dialed(void *arg, struct stream *stream, enum dial_stage stage, const struct err *why)
{
    struct grpc_channel *ch = arg;
    ch->dial = NULL;
    if (!stream) {
        count_failure(ch, stage);
        failed(ch, dial_stage_name(stage), why);
        return;
    }
    ch->conn = grpc_conn_new(ch->config.loop, stream, false, ch->config.authority, &conn_ops, ch);
    if (!ch->conn) {
        struct err e;
        stream_free(stream);
        err_set(&e, "out of memory");
        failed(ch, "http2", &e);
        return;
    }
    if (ch->config.ping_silence_ms)
        grpc_conn_set_ping_silence(ch->conn, *ch->config.ping_silence_ms);
    loop_timer_start(ch->timer, GRPC_SETTINGS_TIMEOUT_MS, 0);
}

static void on_timer(void *arg)
{
    struct grpc_channel *ch = arg;
    if (ch->state == GRPC_CHANNEL_BACKOFF) {
        dial_again(ch);
        return;
    }
    struct err e;
    err_set(&e, "the server does not speak HTTP/2: no SETTINGS within %d s", GRPC_SETTINGS_TIMEOUT_MS / 1000);
    struct grpc_conn *conn = ch->conn;
    ch->conn = NULL;
    count_failure(ch, GRPC_FAILURE_HTTP2);
    grpc_conn_close(conn, e.text);
    failed(ch, "http2", &e);
}

static void dial_again(struct grpc_channel *ch)
{
    struct err e;
    ch->state = GRPC_CHANNEL_CONNECTING;
    if (ch->config.stats)
        ch->config.stats->attempts++;
    ch->dial = dial_start(ch->config.loop, &ch->config.target, on_dialed, ch, &e);
    if (!ch->dial) {
        count_failure(ch, DIAL_TCP);
        failed(ch, dial_stage_name(DIAL_TCP), &e);
    }
}

struct grpc_channel *grpc_channel_new(const struct grpc_channel_config *config,
                                      const struct grpc_channel_ops *ops, void *arg)
{
    struct grpc_channel *ch = calloc(1, sizeof *ch);
    if (!ch)
        return NULL;
    ch->config = *config;
    ch->ops = ops;
    ch->arg = arg;
    ch->timer = loop_timer_new(config->loop, on_timer, ch);
    if (config->first_dial_ms > 0) {
        ch->state = GRPC_CHANNEL_BACKOFF;
        loop_timer_start(ch->timer, config->first_dial_ms, 0);
    } else {
        dial_again(ch);
    }
    return ch;
}

void grpc_channel_free(struct grpc_channel *ch)
{
    if (!ch)
        return;
    dial_cancel(ch->dial);
    if (ch->conn)
        grpc_conn_close(ch->conn, "the connection was closed");
    loop_timer_free(ch->timer);
    free(ch);
}

struct grpc_call *grpc_channel_call(struct grpc_channel *ch, const char *path, const struct kv *metadata,
                                    const struct grpc_call_ops *ops, void *arg)
{
    if (ch->state != GRPC_CHANNEL_READY || grpc_conn_room(ch->conn) == 0)
        return NULL;
    return grpc_call_open(ch->conn, path, metadata, ops, arg);
}

enum grpc_channel_state grpc_channel_state(const struct grpc_channel *ch)
{
    /* A connection that is being torn down tells its calls first: to them it must not look ready any more. */
    if (ch->conn && grpc_conn_is_dead(ch->conn))
        return GRPC_CHANNEL_CONNECTING;
    return ch->state;
}

uint32_t grpc_channel_room(const struct grpc_channel *ch)
{
    switch (ch->state) {
    case GRPC_CHANNEL_READY:
        return grpc_conn_room(ch->conn);
    case GRPC_CHANNEL_DRAINING:
        return 0;
    default:
        return UINT32_MAX;
    }
}

uint32_t grpc_channel_calls(const struct grpc_channel *ch)
{
    return ch->conn ? grpc_conn_calls(ch->conn) : 0;
}

void grpc_channel_drain(struct grpc_channel *ch)
{
    if (ch->state != GRPC_CHANNEL_READY)
        return;
    ch->state = GRPC_CHANNEL_DRAINING;
    grpc_conn_drain(ch->conn);
}

int64_t grpc_channel_rtt_ns(const struct grpc_channel *ch)
{
    return ch->conn ? grpc_conn_rtt_ns(ch->conn) : 0;
}

int64_t grpc_channel_tls_expiry(const struct grpc_channel *ch)
{
    return ch->conn ? grpc_conn_tls_expiry(ch->conn) : 0;
}
