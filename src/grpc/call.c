#include "grpc/call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "grpc/call_internal.h"
#include "grpc/conn.h"
#include "grpc/frame.h"
#include "grpc/h2.h"

/* --- who still looks at what was received --- */

/* Of one connection, as only one is read at a time. A call for which there is no place settles at once. */
#define UNSETTLED_MAX 64
static struct grpc_call *unsettled[UNSETTLED_MAX];
static uint8_t n_unsettled;

static void settles(struct grpc_call *call)
{
    if (!call->ops || !call->ops->settle || call->unsettled != 0)
        return;
    if (n_unsettled == UNSETTLED_MAX) {
        call->ops->settle(call->arg);
        return;
    }
    unsettled[n_unsettled++] = call;
    call->unsettled = n_unsettled;
}

void grpc_calls_settle(void)
{
    for (uint8_t i = 0; i < n_unsettled; i++) {
        struct grpc_call *call = unsettled[i];
        if (!call) /* freed meanwhile */
            continue;
        call->unsettled = 0;
        if (call->ops)
            call->ops->settle(call->arg);
    }
    n_unsettled = 0;
}

/* --- end of a call --- */

/* Tells the user, once, and lets go of it. */
static void tell_closed(struct grpc_call *call, enum grpc_code code, const char *message)
{
    const struct grpc_call_ops *ops = call->ops;
    void *arg = call->arg;
    call->ops = NULL;
    call->arg = NULL;
    if (!ops)
        return;
    struct grpc_status status = {.code = code};
    snprintf(status.message, sizeof status.message, "%s", message ? message : "");
    ops->closed(arg, &status);
}

/* We cannot go on with this call: the user hears why, the other side gets RST_STREAM (or, as a server, a status). */
static void fail(struct grpc_call *call, enum grpc_code code, const char *message)
{
    if (call->conn->server && !call->finished) {
        grpc_call_finish(call, code, message);
    } else {
        h2_stream_reset(&call->st, H2_CANCEL);
    }
    tell_closed(call, code, message);
    grpc_conn_wake(call->conn);
}

void grpc_call_free(struct grpc_call *call)
{
    if (call->unsettled != 0)
        unsettled[call->unsettled - 1] = NULL;
    h2_stream_forget(&call->st);
    list_remove(&call->node);
    call->conn->n_calls--;
    if (call->trailers)
        kv_free(call->trailers);
    free(call->trailers);
    free(call);
}

void grpc_call_lost(struct grpc_call *call, const char *why)
{
    tell_closed(call, GRPC_UNAVAILABLE, why);
    grpc_call_free(call);
}

static void on_closed(void *arg, uint32_t error)
{
    struct grpc_call *call = arg;
    struct grpc_conn *conn = call->conn;
    char text[128];
    if (conn->server && call->finished && error == H2_NO_ERROR) {
        tell_closed(call, GRPC_OK, "");
    } else if (error == H2_NO_ERROR) {
        tell_closed(call, GRPC_INTERNAL, "the stream ended without a status");
    } else {
        snprintf(text, sizeof text, "stream reset: %s", h2_error_name(error));
        tell_closed(call, grpc_code_of_reset(error), text);
    }
    grpc_call_free(call);
    grpc_conn_wake(conn);
}

/* --- receiving --- */

/* The call may end by itself now, and will be cancelled if it does not: END_STREAM needs no window, but waits for some. */
static void release(struct grpc_call *call)
{
    call->released_ms = loop_now_ms(call->conn->loop);
    list_remove(&call->node);
    list_append(&call->conn->released, &call->node);
    if (!call->conn->server)
        call->half_close = true;
    grpc_call_wake(call);
}

/*
 * The server is done with the call and nobody reads what we would send. END_STREAM says so; RST_STREAM only where a message
 * is cut off, because servers count resets and take a thousand calls that end together for an attack (CVE-2023-44487).
 */
static void end_our_half(struct grpc_call *call)
{
    if (call->st.local_end)
        return;
    if (call->tx_left > 0)
        h2_stream_reset(&call->st, H2_NO_ERROR);
    else
        release(call);
}

static void client_ended(struct grpc_call *call, const struct kv *trailers)
{
    const char *code = kv_get(trailers, "grpc-status");
    const char *message = kv_get(trailers, "grpc-message");
    char text[sizeof((struct grpc_status *)0)->message];
    grpc_message_decode(message ? message : "", text, sizeof text);
    if (grpc_deframer_inside(&call->deframer))
        tell_closed(call, GRPC_INTERNAL, "the stream ended inside a message");
    else if (!code)
        tell_closed(call, GRPC_INTERNAL, "the stream ended without grpc-status");
    else
        tell_closed(call, grpc_code_parse(code), text);
    end_our_half(call);
}

/* What a proxy or a web server says that is no gRPC: an HTML page with 503, say. */
static void not_grpc(struct grpc_call *call, const char *http_status, const char *content_type)
{
    char text[192];
    snprintf(text, sizeof text, "the answer is not gRPC: HTTP status %.3s, content-type %.100s",
             http_status ? http_status : "none", content_type ? content_type : "none");
    fail(call, grpc_code_of_http(http_status ? atoi(http_status) : 0), text);
}

static bool is_grpc(const char *content_type)
{
    static const char grpc[] = "application/grpc";
    return content_type && strncmp(content_type, grpc, sizeof grpc - 1) == 0 &&
           (content_type[sizeof grpc - 1] == 0 || strchr("+;", content_type[sizeof grpc - 1]) != NULL);
}

static void client_headers(struct grpc_call *call, struct kv *headers, bool trailers, bool end)
{
    if (!call->ops)
        return;
    if (trailers) {
        if (end)
            client_ended(call, headers);
        return;
    }
    const char *http_status = kv_get(headers, ":status");
    const char *content_type = kv_get(headers, "content-type");
    if (!http_status || strcmp(http_status, "200") != 0 || !is_grpc(content_type)) {
        not_grpc(call, http_status, content_type);
        return;
    }
    if (end) { /* trailers-only */
        client_ended(call, headers);
        return;
    }
    struct kv metadata = {0};
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(headers, &pos, &pair);)
        if (pair.key[0] != ':')
            kv_add_n(&metadata, pair.key, pair.key_len, pair.val, pair.val_len);
    call->ops->metadata(call->arg, &metadata);
    kv_free(&metadata);
}

static void respond_http(struct grpc_call *call, const char *status)
{
    struct kv headers = {0};
    kv_add(&headers, ":status", status);
    h2_respond(&call->st, &headers, true);
    kv_free(&headers);
    call->accepted = call->finished = true;
}

static void server_headers(struct grpc_call *call, struct kv *headers, bool trailers, bool end)
{
    struct grpc_conn *conn = call->conn;
    if (trailers) {
        if (end && call->ops)
            call->ops->half_closed(call->arg);
        return;
    }
    const char *method = kv_get(headers, ":method");
    const char *path = kv_get(headers, ":path");
    if (!method || strcmp(method, "POST") != 0) {
        respond_http(call, "405");
        return;
    }
    if (!is_grpc(kv_get(headers, "content-type"))) {
        respond_http(call, "415");
        return;
    }
    struct kv metadata = {0};
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(headers, &pos, &pair);)
        if (pair.key[0] != ':')
            kv_add_n(&metadata, pair.key, pair.key_len, pair.val, pair.val_len);
    if (conn->dead)
        grpc_call_finish(call, GRPC_UNAVAILABLE, "the connection has ended");
    else
        conn->ops->call(conn->arg, call, path ? path : "", &metadata);
    kv_free(&metadata);
    if (end && call->ops)
        call->ops->half_closed(call->arg);
}

static void on_headers(void *arg, struct kv *headers, bool trailers, bool end)
{
    struct grpc_call *call = arg;
    if (call->conn->server)
        server_headers(call, headers, trailers, end);
    else
        client_headers(call, headers, trailers, end);
    grpc_conn_wake(call->conn);
}

/* Our framing costs window too; it is done with as soon as it is read. */
static void consume(struct grpc_call *call, size_t n)
{
    h2_stream_consume(&call->st, n, clock_mono_ns());
}

static void on_data(void *arg, const uint8_t *p, size_t n)
{
    struct grpc_call *call = arg;
    const uint8_t *end = p + n, *piece;
    size_t overhead = n;
    uint32_t len;
    while (call->ops) {
        switch (grpc_deframe(&call->deframer, &p, end, &piece, &len)) {
        case GRPC_FRAME_MORE:
            consume(call, overhead);
            return;
        case GRPC_FRAME_BEGIN:
            if (len > GRPC_MESSAGE_MAX) {
                char text[96];
                snprintf(text, sizeof text, "a message of %u bytes: at most %u are taken", len,
                         GRPC_MESSAGE_MAX);
                fail(call, GRPC_RESOURCE_EXHAUSTED, text);
                break;
            }
            call->ops->message_begin(call->arg, len);
            break;
        case GRPC_FRAME_BYTES:
            overhead -= len;
            call->ops->message_bytes(call->arg, piece, len);
            settles(call);
            break;
        case GRPC_FRAME_END:
            call->ops->message_end(call->arg);
            break;
        case GRPC_FRAME_COMPRESSED:
            fail(call, GRPC_UNIMPLEMENTED, "a compressed message, though no compression was offered");
            break;
        }
    }
    /* Nobody is interested any more: let the sender run dry. */
    consume(call, overhead);
}

static void on_end(void *arg)
{
    struct grpc_call *call = arg;
    if (call->conn->server) {
        if (call->ops && grpc_deframer_inside(&call->deframer))
            fail(call, GRPC_INVALID_ARGUMENT, "the stream ended inside a message");
        else if (call->ops)
            call->ops->half_closed(call->arg);
    } else {
        /* A response that ends without trailers. */
        tell_closed(call, GRPC_INTERNAL, "the stream ended without grpc-status");
        if (!call->st.local_end)
            h2_stream_reset(&call->st, H2_CANCEL);
    }
    grpc_conn_wake(call->conn);
}

void grpc_call_consume(struct grpc_call *call, size_t n)
{
    consume(call, n);
    grpc_conn_wake(call->conn);
}

/* --- sending: how much to gather --- */

size_t grpc_call_room(struct grpc_call *call, size_t queued)
{
    if (call->room == ROOM_IGNORED)
        return SIZE_MAX;
    size_t most, room = h2_stream_room(&call->st, &most);
    size_t enough = most / 4 < GRPC_ROOM_FULL ? most / 4 : GRPC_ROOM_FULL;
    room = room > queued ? room - queued : 0;
    if (room > 0 && room >= enough) {
        call->room = ROOM_THERE;
        return room;
    }
    if (call->room == ROOM_THERE)
        call->room = ROOM_WAITED;
    call->conn->room_waited = true;
    return 0;
}

static void tell_room(struct grpc_call *call)
{
    if (call->ops && call->ops->room)
        call->ops->room(call->arg);
}

static void on_room(void *arg)
{
    struct grpc_call *call = arg;
    if (call->room == ROOM_WAITED || call->room == ROOM_LATE)
        tell_room(call);
}

void grpc_calls_beat(struct grpc_conn *conn)
{
    if (!conn->room_waited)
        return;
    conn->room_waited = false;
    LIST_FOREACH (node, &conn->calls) {
        struct grpc_call *call = LIST_ITEM(node, struct grpc_call, node);
        if (call->room == ROOM_LATE) {
            call->room = ROOM_IGNORED;
            tell_room(call);
        } else if (call->room == ROOM_WAITED) {
            call->room = ROOM_LATE;
            conn->room_waited = true;
        }
    }
}

/* --- sending --- */

static size_t on_ready(void *arg, size_t max)
{
    struct grpc_call *call = arg;
    if (call->tx_left == 0) {
        int64_t len = call->ops ? call->ops->next(call->arg) : -1;
        if (len < 0)
            return 0;
        grpc_prefix_write(call->tx_prefix, (uint32_t)len);
        call->tx_prefix_at = 0;
        call->tx_left = GRPC_PREFIX + (uint64_t)len;
    }
    return call->tx_left < max ? (size_t)call->tx_left : max;
}

static void on_write(void *arg, uint8_t *dst, size_t n)
{
    struct grpc_call *call = arg;
    call->tx_left -= n;
    while (n > 0 && call->tx_prefix_at < GRPC_PREFIX) {
        *dst++ = call->tx_prefix[call->tx_prefix_at++];
        n--;
    }
    if (n == 0)
        return;
    if (call->ops)
        call->ops->write(call->arg, dst, n);
    else
        memset(dst, 0, n); /* let go of inside a message: the stream is about to be reset */
}

static bool on_finished(void *arg, const struct kv **trailers)
{
    struct grpc_call *call = arg;
    if (!call->finished && !call->half_close)
        return false;
    if (call->conn->server)
        *trailers = call->trailers;
    return true;
}

static const struct h2_stream_ops stream_ops = {
    .headers = on_headers,
    .data = on_data,
    .end = on_end,
    .closed = on_closed,
    .ready = on_ready,
    .write = on_write,
    .finished = on_finished,
    .room = on_room,
};

void grpc_call_wake(struct grpc_call *call)
{
    h2_stream_wake(&call->st);
    grpc_conn_wake(call->conn);
}

void grpc_call_offer(struct grpc_call *call, size_t n)
{
    h2_stream_wake(&call->st);
    grpc_conn_offer(call->conn, n);
}

/* --- the two ways a call begins --- */

static struct grpc_call *call_new(struct grpc_conn *conn)
{
    struct grpc_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->conn = conn;
    call->st.ops = &stream_ops;
    call->st.arg = call;
    list_append(&conn->calls, &call->node);
    conn->n_calls++;
    return call;
}

struct grpc_call *grpc_call_open(struct grpc_conn *conn, const char *path, const struct kv *metadata,
                                 const struct grpc_call_ops *ops, void *arg)
{
    if (conn->dead || conn->draining)
        return NULL;
    struct grpc_call *call = call_new(conn);
    if (!call)
        return NULL;
    call->ops = ops;
    call->arg = arg;
    struct kv headers = {0};
    bool ok = kv_add(&headers, ":method", "POST") && kv_add(&headers, ":scheme", conn->scheme) &&
              kv_add(&headers, ":path", path) && kv_add(&headers, ":authority", conn->authority) &&
              kv_add(&headers, "te", "trailers") && kv_add(&headers, "content-type", "application/grpc") &&
              kv_add(&headers, "user-agent", GRPC_USER_AGENT) && kv_add_all(&headers, metadata) &&
              h2_open(conn->h2, &call->st, &headers);
    kv_free(&headers);
    if (!ok) {
        grpc_call_free(call);
        return NULL;
    }
    grpc_conn_wake(conn);
    return call;
}

struct h2_stream *grpc_call_incoming(struct grpc_conn *conn)
{
    struct grpc_call *call = call_new(conn);
    return call ? &call->st : NULL;
}

void grpc_call_accept(struct grpc_call *call, const struct kv *metadata, const struct grpc_call_ops *ops,
                      void *arg)
{
    call->ops = ops;
    call->arg = arg;
    call->accepted = true;
    struct kv headers = {0};
    kv_add(&headers, ":status", "200");
    kv_add(&headers, "content-type", "application/grpc");
    if (metadata)
        kv_add_all(&headers, metadata);
    h2_respond(&call->st, &headers, false);
    kv_free(&headers);
    grpc_conn_wake(call->conn);
}

/* --- the ways it ends --- */

void grpc_call_half_close(struct grpc_call *call)
{
    call->half_close = true;
    grpc_call_wake(call);
}

void grpc_call_finish(struct grpc_call *call, enum grpc_code code, const char *message)
{
    if (call->finished)
        return;
    call->finished = true;
    char number[12], text[3 * sizeof((struct grpc_status *)0)->message];
    snprintf(number, sizeof number, "%d", (int)code);
    grpc_message_encode(message ? message : "", text, sizeof text);
    call->trailers =
        calloc(1, sizeof *call->trailers); /* without memory for it the stream ends without a status */
    if (call->trailers)
        kv_add(call->trailers, "grpc-status", number);
    if (call->trailers && text[0])
        kv_add(call->trailers, "grpc-message", text);
    if (call->accepted) {
        grpc_call_wake(call);
        return;
    }
    struct kv headers = {0};
    kv_add(&headers, ":status", "200");
    kv_add(&headers, "content-type", "application/grpc");
    if (call->trailers)
        kv_add_all(&headers, call->trailers);
    call->accepted = true;
    h2_respond(&call->st, &headers, true);
    kv_free(&headers);
    grpc_conn_wake(call->conn);
}

void grpc_call_cancel(struct grpc_call *call)
{
    call->ops = NULL;
    call->arg = NULL;
    h2_stream_reset(&call->st, H2_CANCEL);
    grpc_conn_wake(call->conn);
}

void grpc_call_release(struct grpc_call *call)
{
    call->ops = NULL;
    call->arg = NULL;
    if (call->tx_left > 0) {
        grpc_call_cancel(call); /* inside a message: there is no orderly way left */
        return;
    }
    release(call);
}

struct grpc_conn *grpc_call_conn(const struct grpc_call *call)
{
    return call->conn;
}
