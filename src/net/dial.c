#include "net/dial.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A name that moves is followed soon: nothing here asks often enough for a longer memory to pay. */
#define DNS_CACHE_S 5L

struct dial {
    struct loop *loop;
    struct curl_loop *curl;
    struct curl_job job; /* .easy is NULL once TCP is up */
    struct loop_timer *deadline;
    struct stream *stream;
    struct tls_ctx *tls;
    char *host, *server_name;
    char curl_error[CURL_ERROR_SIZE];
    dial_done *done;
    void *arg;
};

const char *dial_stage_name(enum dial_stage stage)
{
    static const char *const names[] = {
        [DIAL_DNS] = "dns", [DIAL_TCP] = "tcp", [DIAL_PROXY] = "proxy", [DIAL_TLS] = "tls"};
    return names[stage];
}

static void end_tcp(struct dial *d)
{
    if (!d->job.easy)
        return;
    curl_loop_remove(d->curl, &d->job);
    curl_easy_cleanup(d->job.easy);
    d->job.easy = NULL;
}

static void dial_free(struct dial *d)
{
    end_tcp(d);
    stream_free(d->stream);
    loop_timer_free(d->deadline);
    free(d->host);
    free(d->server_name);
    free(d);
}

void dial_cancel(struct dial *d)
{
    if (d)
        dial_free(d);
}

static void answer(struct dial *d, struct stream *stream, enum dial_stage stage, const struct err *why)
{
    dial_done *done = d->done;
    void *arg = d->arg;
    struct err copy = {{0}};
    if (why)
        copy = *why;
    d->stream = NULL;
    dial_free(d);
    done(arg, stream, stage, why ? &copy : NULL);
}

static void on_stream_ready(void *arg)
{
    struct dial *d = arg;
    answer(d, d->stream, DIAL_TLS, NULL);
}

static void on_stream_failed(void *arg, const struct err *why)
{
    struct dial *d = arg;
    struct err copy = *why;
    stream_free(d->stream);
    answer(d, NULL, DIAL_TLS, &copy);
}

static const struct stream_ops handshake_ops = {.ready = on_stream_ready, .failed = on_stream_failed};

static void on_deadline(void *arg)
{
    struct dial *d = arg;
    struct err e;
    err_set(&e, "no answer within %d s", DIAL_TIMEOUT_MS / 1000);
    enum dial_stage stage = d->job.easy ? DIAL_TCP : DIAL_TLS;
    stream_free(d->stream);
    answer(d, NULL, stage, &e);
}

static void on_connected(void *arg, CURLcode code)
{
    struct dial *d = arg;
    struct err e;
    if (code != CURLE_OK) {
        enum dial_stage stage = code == CURLE_COULDNT_RESOLVE_HOST ? DIAL_DNS : DIAL_TCP;
        err_set(&e, "%s", d->curl_error[0] ? d->curl_error : curl_easy_strerror(code));
        answer(d, NULL, stage, &e);
        return;
    }
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(d->job.easy, CURLINFO_ACTIVESOCKET, &fd);
    /* libcurl closes its descriptor with the handle; the connection lives on in ours. */
    int own = fd == CURL_SOCKET_BAD ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    end_tcp(d);
    if (own < 0) {
        err_set(&e, "no descriptor left for the connection");
        answer(d, NULL, DIAL_TCP, &e);
        return;
    }
    d->stream = stream_new(d->loop, own, d->tls, d->server_name ? d->server_name : d->host, &handshake_ops, d, &e);
    if (!d->stream)
        answer(d, NULL, DIAL_TLS, &e);
}

struct dial *dial_start(struct loop *loop, struct curl_loop *curl, const struct dial_target *target, dial_done *done,
                        void *arg, struct err *e)
{
    struct dial *d = calloc(1, sizeof *d);
    char url[320];
    int n = snprintf(url, sizeof url, strchr(target->host, ':') ? "http://[%s]:%u/" : "http://%s:%u/", target->host,
                     target->port);
    if (!d || !(d->host = strdup(target->host)) ||
        (target->server_name && !(d->server_name = strdup(target->server_name))) ||
        !(d->job.easy = curl_easy_init()) || n < 0 || (size_t)n >= sizeof url) {
        err_set(e, "out of memory");
        goto fail;
    }
    d->loop = loop;
    d->curl = curl;
    d->tls = target->tls;
    d->done = done;
    d->arg = arg;
    d->job.done = on_connected;
    d->job.arg = d;
    CURL *easy = d->job.easy;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, d->curl_error);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)DIAL_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, DNS_CACHE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    if (!curl_loop_add(curl, &d->job, e)) {
        curl_easy_cleanup(d->job.easy);
        d->job.easy = NULL;
        goto fail;
    }
    d->deadline = loop_timer_new(loop, on_deadline, d);
    loop_timer_start(d->deadline, DIAL_TIMEOUT_MS, 0);
    return d;
fail:
    if (d) {
        if (d->job.easy)
            curl_easy_cleanup(d->job.easy);
        free(d->host);
        free(d->server_name);
        free(d);
    }
    return NULL;
}
