#include "grpc/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/uuid.h"

#define LISTENERS_MAX 64

struct grpc_server {
    struct loop *loop;
    struct tls_ctx *tls;
    const struct grpc_server_ops *ops;
    void *arg;
    struct listener *listeners[LISTENERS_MAX];
    size_t n_listeners;
    struct list peers;
    uint32_t n_peers;
    bool draining;
    int64_t max_age_ms;
};

/* A connection of a client, from accept() on. */
struct peer {
    struct list node;
    struct grpc_server *server;
    struct addr addr;
    struct stream *stream;    /* during the handshake */
    struct grpc_conn *conn;   /* after it */
    struct loop_timer *timer; /* for the handshake, then for the connection's age */
    bool ready;
};

static void peer_free(struct peer *p)
{
    list_remove(&p->node);
    p->server->n_peers--;
    loop_timer_free(p->timer);
    stream_free(p->stream);
    free(p);
}

static void peer_failed(struct peer *p, const char *why)
{
    char text[ADDR_TEXT_MAX];
    log_info("connection failed before HTTP/2", LOG_STR("client", addr_text(&p->addr, text)),
             LOG_STR("error", why));
    peer_free(p);
}

static void on_ready(void *arg)
{
    /* The client's SETTINGS are here: it speaks HTTP/2. */
    struct peer *p = arg;
    int64_t age = p->server->max_age_ms;
    p->ready = true;
    loop_timer_stop(p->timer);
    if (age > 0) /* a tenth more or less, so that a thousand agents do not come back in the same second */
        loop_timer_start(p->timer, age - age / 10 + (int64_t)(random_u64() % (uint64_t)(age / 5 + 1)), 0);
}

static void on_call(void *arg, struct grpc_call *call, const char *path, const struct kv *metadata)
{
    struct peer *p = arg;
    /* Began before the client heard that we stop; a connection that only ends for its age takes such a call. */
    if (p->server->draining)
        grpc_call_finish(call, GRPC_UNAVAILABLE, "the server is draining");
    else
        p->server->ops->call(p->server->arg, call, path, metadata, &p->addr);
}

static void on_conn_closed(void *arg, enum grpc_conn_end end, const struct err *why)
{
    struct peer *p = arg;
    char text[ADDR_TEXT_MAX];
    if (end == GRPC_END_PROTOCOL)
        log_info("connection closed: the client does not keep to HTTP/2",
                 LOG_STR("client", addr_text(&p->addr, text)), LOG_STR("error", why->text));
    else
        log_debug("connection closed", LOG_STR("client", addr_text(&p->addr, text)),
                  LOG_STR("reason", grpc_conn_end_name(end)), LOG_STR("error", why->text));
    peer_free(p);
}

static const struct grpc_conn_ops conn_ops = {.ready = on_ready, .call = on_call, .closed = on_conn_closed};

static void on_stream_ready(void *arg)
{
    struct peer *p = arg;
    p->conn = grpc_conn_new(p->server->loop, p->stream, true, NULL, &conn_ops, p);
    if (!p->conn) {
        peer_failed(p, "out of memory");
        return;
    }
    p->stream = NULL;
}

static void on_stream_failed(void *arg, const struct err *why)
{
    peer_failed(arg, why->text);
}

static const struct stream_ops handshake_ops = {.ready = on_stream_ready, .failed = on_stream_failed};

static void on_timeout(void *arg)
{
    struct peer *p = arg;
    if (p->ready) {
        grpc_conn_drain(p->conn);
        return;
    }
    if (p->conn)
        grpc_conn_close(p->conn, "timeout");
    p->conn = NULL;
    peer_failed(p, "no HTTP/2 within 10 s");
}

static void on_accepted(void *arg, int fd, const struct addr *addr, const struct addr *local)
{
    struct grpc_server *s = arg;
    struct err e;
    (void)local;
    if (s->n_peers >= GRPC_SERVER_CONNECTIONS) {
        log_warn("too many connections, refusing", LOG_NUM("limit", GRPC_SERVER_CONNECTIONS));
        close(fd);
        return;
    }
    struct peer *p = calloc(1, sizeof *p);
    if (!p) {
        close(fd);
        return;
    }
    p->server = s;
    p->addr = *addr;
    list_append(&s->peers, &p->node);
    s->n_peers++;
    p->timer = loop_timer_new(s->loop, on_timeout, p);
    loop_timer_start(p->timer, GRPC_HANDSHAKE_TIMEOUT_MS, 0);
    p->stream = stream_new(s->loop, fd, s->tls, NULL, &handshake_ops, p, &e);
    if (!p->stream)
        peer_failed(p, e.text);
}

struct grpc_server *grpc_server_new(struct loop *loop, struct tls_ctx *tls, const struct grpc_server_ops *ops,
                                    void *arg)
{
    struct grpc_server *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->loop = loop;
    s->tls = tls;
    s->ops = ops;
    s->arg = arg;
    list_init(&s->peers);
    return s;
}

void grpc_server_set_max_age(struct grpc_server *s, int64_t ms)
{
    s->max_age_ms = ms;
}

bool grpc_server_listen(struct grpc_server *s, const struct addr *addr, struct err *e)
{
    if (s->n_listeners == LISTENERS_MAX)
        return err_set(e, "more than %d listen addresses", LISTENERS_MAX);
    struct listener *l = listener_new(s->loop, addr, on_accepted, s, e);
    if (!l)
        return false;
    s->listeners[s->n_listeners++] = l;
    return true;
}

static void stop_listening(struct grpc_server *s)
{
    while (s->n_listeners > 0)
        listener_free(s->listeners[--s->n_listeners]);
}

void grpc_server_drain(struct grpc_server *s)
{
    stop_listening(s);
    s->draining = true;
    LIST_FOREACH (node, &s->peers) {
        struct peer *p = LIST_ITEM(node, struct peer, node);
        if (p->conn)
            grpc_conn_drain(p->conn);
        else
            peer_free(p);
    }
}

uint32_t grpc_server_connections(const struct grpc_server *s)
{
    return s->n_peers;
}

void grpc_server_free(struct grpc_server *s)
{
    if (!s)
        return;
    stop_listening(s);
    while (!list_empty(&s->peers)) {
        struct peer *p = LIST_ITEM(s->peers.next, struct peer, node);
        if (p->conn)
            grpc_conn_close(p->conn, "the server stops");
        peer_free(p);
    }
    free(s);
}
