#include "net/dial.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/resolve.h"
#include "net/tcp_race.h"
#include "net/tunnel.h"
#include "net/web_proxy.h"

struct dial {
    struct loop *loop;
    struct loop_timer *deadline;
    char *host, *server_name;
    uint16_t port;
    struct tls_ctx *tls, *proxy_tls,
        *own_tls; /* own_tls: made here, for a proxy that nobody gave a context for */
    struct web_proxy proxy;
    /* The step we are at is the one of these that is set; none: `refused` says why it does not even begin. */
    struct resolve *resolve;
    struct tcp_race *race;
    struct stream *to_proxy; /* until `tunnel` is set its TLS is coming up */
    struct tunnel *tunnel;
    struct stream *stream;
    struct err refused;
    dial_done *done;
    void *arg;
};

const char *dial_stage_name(enum dial_stage stage)
{
    static const char *const names[] = {
        [DIAL_DNS] = "dns", [DIAL_TCP] = "tcp", [DIAL_PROXY] = "proxy", [DIAL_TLS] = "tls"};
    return names[stage];
}

static bool has_proxy(const struct dial *d)
{
    return d->proxy.kind != WEB_PROXY_NONE;
}

static void dial_free(struct dial *d)
{
    resolve_cancel(d->resolve);
    tcp_race_cancel(d->race);
    tunnel_free(d->tunnel);
    stream_free(d->to_proxy);
    stream_free(d->stream);
    tls_ctx_free(d->own_tls);
    loop_timer_free(d->deadline);
    web_proxy_forget(&d->proxy);
    free(d->host);
    free(d->server_name);
    free(d);
}

void dial_cancel(struct dial *d)
{
    if (d)
        dial_free(d);
}

/* --- the answer --- */

static void succeed(struct dial *d)
{
    dial_done *done = d->done;
    void *arg = d->arg;
    struct stream *stream = d->stream;
    d->stream = NULL;
    dial_free(d);
    done(arg, stream, DIAL_TLS, NULL);
}

/* `stage` is that of a dial without a proxy. */
static void fail(struct dial *d, enum dial_stage stage, const struct err *why)
{
    dial_done *done = d->done;
    void *arg = d->arg;
    struct err e = *why;
    if (has_proxy(d) && stage == DIAL_TLS) {
        err_prefix(&e, "through proxy %s", d->proxy.name);
    } else if (has_proxy(d)) {
        /* A sentence about the proxy, "proxy http://192.0.2.1:3128 (HTTPS_PROXY) cannot reach …", or a cause.
         */
        struct err text;
        err_set(&text, "proxy %s (%s)%s %s", d->proxy.name, d->proxy.variable, stage == DIAL_PROXY ? "" : ":",
                e.text);
        e = text;
        stage = DIAL_PROXY;
    }
    dial_free(d);
    done(arg, NULL, stage, &e);
}

static void on_deadline(void *arg)
{
    struct dial *d = arg;
    struct err e, sofar;
    if (d->refused.text[0]) {
        dial_done *done = d->done;
        e = d->refused;
        arg = d->arg;
        dial_free(d);
        done(arg, NULL, DIAL_PROXY, &e);
        return;
    }
    int seconds = DIAL_TIMEOUT_MS / 1000;
    if (d->resolve) {
        err_set(&e, "the name %s is not resolved: no answer within %d s",
                has_proxy(d) ? d->proxy.host : d->host, seconds);
        fail(d, DIAL_DNS, &e);
    } else if (d->race) {
        tcp_race_describe(d->race, &sofar);
        err_set(&e, "no connection within %d s (%s)", seconds, sofar.text);
        fail(d, DIAL_TCP, &e);
    } else if (d->stream) {
        err_set(&e, "TLS: the handshake is not complete within %d s", seconds);
        fail(d, DIAL_TLS, &e);
    } else {
        err_set(&e,
                d->tunnel ? "has not opened the way to %s:%u within %d s"
                          : "does not complete the TLS handshake (for %s:%u) within %d s",
                d->host, d->port, seconds);
        fail(d, DIAL_PROXY, &e);
    }
}

/* --- the stream to the target --- */

static void on_stream_ready(void *arg)
{
    succeed(arg);
}

static void on_stream_failed(void *arg, const struct err *why)
{
    fail(arg, DIAL_TLS, why);
}

static const struct stream_ops target_ops = {.ready = on_stream_ready, .failed = on_stream_failed};

static const char *name_to_verify(const struct dial *d)
{
    return d->server_name ? d->server_name : d->host;
}

/* --- the proxy --- */

static void on_tunnel_open(struct dial *d)
{
    struct err e;
    struct stream *lower = d->to_proxy;
    d->to_proxy = NULL;
    tunnel_free(d->tunnel);
    d->tunnel = NULL;
    if (d->proxy.kind == WEB_PROXY_HTTPS)
        d->stream = stream_new_inside(d->loop, lower, d->tls, name_to_verify(d), &target_ops, d, &e);
    else
        d->stream =
            stream_new(d->loop, stream_take_socket(lower), d->tls, name_to_verify(d), &target_ops, d, &e);
    if (!d->stream)
        fail(d, DIAL_TLS, &e);
}

/* False: failed, and the dial is gone. */
static bool say(struct dial *d)
{
    struct buf *out = tunnel_out(d->tunnel);
    bool ok = buf_len(out) == 0 || stream_write(d->to_proxy, buf_begin(out), buf_len(out));
    if (ok) {
        buf_take(out, buf_len(out));
        return true;
    }
    struct err e = *stream_why(d->to_proxy);
    err_prefix(&e, "breaks the connection off");
    fail(d, DIAL_PROXY, &e);
    return false;
}

static void on_proxy_event(void *arg, unsigned events)
{
    struct dial *d = arg;
    struct err e;
    uint8_t byte;
    ssize_t n;
    if (!(events & LOOP_READ))
        return;
    while ((n = stream_read(d->to_proxy, &byte, 1)) == 1) {
        switch (tunnel_feed(d->tunnel, byte, &e)) {
        case TUNNEL_MORE:
            if (!say(d))
                return;
            break;
        case TUNNEL_OPEN:
            on_tunnel_open(d);
            return;
        case TUNNEL_REFUSED:
            fail(d, DIAL_PROXY, &e);
            return;
        }
    }
    if (n == STREAM_AGAIN)
        return;
    if (n == 0) {
        err_set(&e, "closes the connection %s",
                tunnel_answered(d->tunnel) ? "in the middle of its answer" : "without an answer");
    } else {
        e = *stream_why(d->to_proxy);
        err_prefix(&e, "breaks the connection off");
    }
    fail(d, DIAL_PROXY, &e);
}

static void on_proxy_ready(void *arg)
{
    struct dial *d = arg;
    struct err e;
    d->tunnel = tunnel_new(&d->proxy, d->host, d->port, &e);
    if (!d->tunnel) {
        err_prefix(&e, "cannot be asked");
        fail(d, DIAL_PROXY, &e);
        return;
    }
    say(d);
}

static void on_proxy_failed(void *arg, const struct err *why)
{
    fail(arg, DIAL_TCP, why); /* a cause, not a sentence; the stage becomes that of the proxy */
}

static const struct stream_ops proxy_ops = {
    .ready = on_proxy_ready, .event = on_proxy_event, .failed = on_proxy_failed};

static bool connect_proxy(struct dial *d, int fd, struct err *e)
{
    struct tls_ctx *tls = NULL;
    if (d->proxy.kind == WEB_PROXY_HTTPS) {
        struct tls_client_config system = {0};
        tls = d->proxy_tls ? d->proxy_tls : d->tls;
        if (!tls)
            tls = d->own_tls = tls_client_ctx(&system, e);
        if (!tls) {
            close(fd);
            return false;
        }
    }
    d->to_proxy = stream_new_to_proxy(d->loop, fd, tls, d->proxy.host, &proxy_ops, d, e);
    return d->to_proxy != NULL;
}

/* --- names and addresses --- */

static void on_connected(void *arg, int fd, const struct err *why)
{
    struct dial *d = arg;
    struct err e;
    d->race = NULL;
    if (fd < 0) {
        fail(d, DIAL_TCP, why);
        return;
    }
    if (has_proxy(d)) {
        if (!connect_proxy(d, fd, &e))
            fail(d, DIAL_TCP, &e);
        return;
    }
    d->stream = stream_new(d->loop, fd, d->tls, name_to_verify(d), &target_ops, d, &e);
    if (!d->stream)
        fail(d, DIAL_TLS, &e);
}

static void on_resolved(void *arg, const struct addr *addrs, size_t n, const struct err *why)
{
    struct dial *d = arg;
    struct err e;
    d->resolve = NULL;
    if (n == 0) {
        fail(d, DIAL_DNS, why);
        return;
    }
    d->race = tcp_race_start(d->loop, addrs, n, on_connected, d);
    if (!d->race) {
        err_set(&e, "out of memory");
        fail(d, DIAL_TCP, &e);
    }
}

struct dial *dial_start(struct loop *loop, const struct dial_target *target, dial_done *done, void *arg,
                        struct err *e)
{
    struct dial *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, "out of memory");
        return NULL;
    }
    d->loop = loop;
    d->host = strdup(target->host);
    d->server_name = target->server_name ? strdup(target->server_name) : NULL;
    d->port = target->port;
    d->tls = target->tls;
    d->proxy_tls = target->proxy_tls;
    d->done = done;
    d->arg = arg;
    d->deadline = loop_timer_new(loop, on_deadline, d);
    if (!d->host || (target->server_name && !d->server_name)) {
        err_set(e, "out of memory");
        dial_free(d);
        return NULL;
    }
    if (!web_proxy_for(d->tls ? "https" : "http", d->host, d->port, &d->proxy, &d->refused)) {
        loop_timer_start(d->deadline, 0, 0);
        return d;
    }
    bool proxied = has_proxy(d);
    d->resolve = resolve_start(loop, proxied ? d->proxy.host : d->host, proxied ? d->proxy.port : d->port,
                               on_resolved, d, e);
    if (!d->resolve) {
        dial_free(d);
        return NULL;
    }
    loop_timer_start(d->deadline, DIAL_TIMEOUT_MS, 0);
    return d;
}
