#include "net/curl_loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/resolve.h"

struct curl_loop {
    struct loop *loop;
    CURLM *multi;
    struct loop_timer *timer;
};

/* A socket of libcurl's that we watch on its behalf. */
struct curl_socket {
    struct curl_loop *cl;
    curl_socket_t fd;
    struct loop_watch *watch;
};

static void tell_finished(struct curl_loop *cl)
{
    CURLMsg *msg;
    int left;
    while ((msg = curl_multi_info_read(cl->multi, &left))) {
        if (msg->msg != CURLMSG_DONE)
            continue;
        CURLcode code = msg->data.result;
        struct curl_job *job = NULL;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&job);
        job->done(job->arg, code);
    }
}

static void on_socket_event(void *arg, unsigned events)
{
    struct curl_socket *s = arg;
    struct curl_loop *cl = s->cl;
    int running;
    int flags = (events & LOOP_READ ? CURL_CSELECT_IN : 0) | (events & LOOP_WRITE ? CURL_CSELECT_OUT : 0);
    curl_multi_socket_action(cl->multi, s->fd, flags, &running);
    tell_finished(cl); /* s may be gone by now */
}

static void on_timer(void *arg)
{
    struct curl_loop *cl = arg;
    int running;
    curl_multi_socket_action(cl->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    tell_finished(cl);
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
    (void)multi;
    struct curl_loop *cl = arg;
    if (ms < 0)
        loop_timer_stop(cl->timer);
    else
        loop_timer_start(cl->timer, ms, 0);
    return 0;
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    (void)easy;
    struct curl_loop *cl = arg;
    struct curl_socket *s = socket_arg;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            loop_watch_free(s->watch);
            free(s);
        }
        return 0;
    }
    if (!s) {
        struct err e;
        s = calloc(1, sizeof *s);
        if (!s)
            return -1;
        s->cl = cl;
        s->fd = fd;
        s->watch = loop_watch_new(cl->loop, fd, 0, on_socket_event, s, &e);
        if (!s->watch) {
            free(s);
            return -1;
        }
        curl_multi_assign(cl->multi, fd, s);
    }
    loop_watch_set(s->watch, (what & CURL_POLL_IN ? LOOP_READ : 0) | (what & CURL_POLL_OUT ? LOOP_WRITE : 0));
    return 0;
}

struct curl_loop *curl_loop_new(struct loop *loop, struct err *e)
{
    static bool initialised;
    if (!initialised && curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        err_set(e, "libcurl does not start");
        return NULL;
    }
    initialised = true;
    struct curl_loop *cl = calloc(1, sizeof *cl);
    if (!cl || !(cl->multi = curl_multi_init())) {
        free(cl);
        err_set(e, "out of memory");
        return NULL;
    }
    cl->loop = loop;
    cl->timer = loop_timer_new(loop, on_timer, cl);
    curl_multi_setopt(cl->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(cl->multi, CURLMOPT_SOCKETDATA, cl);
    curl_multi_setopt(cl->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(cl->multi, CURLMOPT_TIMERDATA, cl);
    return cl;
}

void curl_loop_free(struct curl_loop *cl)
{
    if (!cl)
        return;
    curl_multi_cleanup(cl->multi);
    loop_timer_free(cl->timer);
    free(cl);
}

/* --- transfers --- */

static bool run(struct curl_job *job, struct err *e)
{
    CURLMcode rc = curl_multi_add_handle(job->loop->multi, job->easy);
    job->running = rc == CURLM_OK;
    return job->running || err_set(e, "libcurl: %s", curl_multi_strerror(rc));
}

/* "+HOST:PORT:ADDRESS,[ADDRESS]" for CURLOPT_RESOLVE. */
static bool note_addresses(struct curl_job *job, const struct addr *addrs, size_t n)
{
    char text[300 + RESOLVE_ADDRS_MAX * (ADDR_TEXT_MAX + 3)], ip[ADDR_TEXT_MAX];
    int at = snprintf(text, sizeof text, "+%.255s:%u", job->host, job->port);
    for (size_t i = 0; i < n; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, addrs[i].family == 6 ? "%c[%s]" : "%c%s",
                       i ? ',' : ':', addr_ip_text(&addrs[i], ip));
    job->addresses = curl_slist_append(NULL, text);
    return job->addresses && curl_easy_setopt(job->easy, CURLOPT_RESOLVE, job->addresses) == CURLE_OK;
}

static void on_resolved(void *arg, const struct addr *addrs, size_t n, const struct err *why)
{
    struct curl_job *job = arg;
    job->resolve = NULL;
    if (n == 0) {
        job->why = *why;
        job->done(job->arg, CURLE_COULDNT_RESOLVE_HOST);
    } else if (!note_addresses(job, addrs, n) || !run(job, &job->why)) {
        job->done(job->arg, CURLE_OUT_OF_MEMORY);
    }
}

bool curl_loop_add(struct curl_loop *cl, struct curl_job *job, struct err *e)
{
    struct addr ip;
    job->loop = cl;
    job->why.text[0] = 0;
    curl_easy_setopt(job->easy, CURLOPT_PRIVATE, job);
    if (!job->host || addr_parse_ip(&ip, job->host))
        return run(job, e);
    job->resolve = resolve_start(cl->loop, job->host, job->port, on_resolved, job, e);
    return job->resolve != NULL;
}

void curl_loop_remove(struct curl_loop *cl, struct curl_job *job)
{
    resolve_cancel(job->resolve);
    job->resolve = NULL;
    if (job->running)
        curl_multi_remove_handle(cl->multi, job->easy);
    job->running = false;
    if (job->addresses) {
        curl_easy_setopt(job->easy, CURLOPT_RESOLVE, NULL);
        curl_slist_free_all(job->addresses);
        job->addresses = NULL;
    }
}
