#include "daemon/export_sender.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/list.h"
#include "base/log.h"
#include "base/uuid.h"
#include "net/web_proxy.h"

#define URL_MAX 256

/* A body, ready to be sent. */
struct body {
    struct list node;
    struct buf bytes;
    uint32_t records;
};

struct export_sender {
    struct loop *loop;
    struct curl_loop *curl;
    const char *signal, *email, *token;
    char *url, *ca_file;
    char shown[URL_MAX];                 /* the URL for log lines: without a password or a query */
    char proxy[WEB_PROXY_HOST_MAX + 24]; /* the web proxy that leads there, for people; "": none */
    char host[WEB_PROXY_HOST_MAX];       /* whom we connect to: the proxy, or the URL's host */
    bool account;                        /* the account's headers go along */

    /* Oldest first; while a request is under way the first is being sent. */
    struct list queue;
    size_t queued, queue_max; /* bytes of memory */
    struct loop_task task;    /* sends what there is */

    struct curl_job job; /* .easy lives as long as the sender: a kept connection comes with it */
    struct curl_slist *headers;
    char curl_error[CURL_ERROR_SIZE];
    char answer[EXPORT_ANSWER_MAX];
    size_t answer_len;
    bool under_way;

    struct loop_timer *deadline; /* of the request */
    struct loop_timer *wait;     /* nothing is sent while it runs */
    struct backoff backoff;
    bool paused; /* `wait` is the long one */

    /* What has been told since it last worked. */
    bool failing, told_refused, told_full, told_partial;
    int64_t failing_since_ms;
    uint64_t dropped_before;
    bool logging;
    struct export_stats stats;
};

/* --- log lines --- */

/* What a receiver says, if there is anything and it does not play our token back to us. */
static const char *harmless(const struct export_sender *s, const char *text)
{
    return text[0] == 0 || (s->token && s->token[0] && strstr(text, s->token)) ? NULL : text;
}

/* The reason in words, and whatever the receiver has to say. */
static void describe(const struct export_sender *s, enum export_reason reason, CURLcode code, long status,
                     struct err *e)
{
    if (reason == EXPORT_TIMEOUT) {
        err_set(e, "no answer within %d s", EXPORT_REQUEST_MS / 1000);
        return;
    }
    if (reason == EXPORT_UNREACHABLE) {
        err_set(e, "%s",
                s->job.why.text[0] ? s->job.why.text
                : s->curl_error[0] ? s->curl_error
                                   : curl_easy_strerror(code));
        return;
    }
    /* google.rpc.Status, which is OTLP's answer to a failure. */
    json_t *root = json_loadb(s->answer, s->answer_len, 0, NULL);
    const char *said = json_string_value(json_object_get(root, "message"));
    if (said && harmless(s, said))
        err_set(e, "HTTP status %ld: %.200s", status, said);
    else
        err_set(e, "HTTP status %ld", status);
    json_decref(root);
}

static void tell_failure(struct export_sender *s, enum export_reason reason, const struct err *e)
{
    bool refused = reason == EXPORT_REFUSED;
    if (!s->failing) {
        s->failing = true;
        s->failing_since_ms = loop_now_ms(s->loop);
    } else if (!refused || s->told_refused) {
        return;
    }
    s->told_refused = s->told_refused || refused;
    s->logging = true;
    if (refused)
        log_warn("export not accepted, next try in an hour", LOG_STR("error", e->text),
                 LOG_STR("proxy", s->proxy[0] ? s->proxy : NULL), LOG_STR("signal", s->signal),
                 LOG_STR("url", s->shown));
    else
        log_warn("export failed, trying again", LOG_STR("error", e->text),
                 LOG_STR("proxy", s->proxy[0] ? s->proxy : NULL), LOG_STR("signal", s->signal),
                 LOG_STR("url", s->shown));
    s->logging = false;
}

static void tell_full(struct export_sender *s)
{
    if (s->told_full)
        return;
    s->told_full = true;
    s->logging = true;
    log_warn("export queue is full, dropping the oldest records", LOG_STR("signal", s->signal),
             LOG_STR("url", s->shown));
    s->logging = false;
}

static void tell_partial(struct export_sender *s, uint32_t rejected, const char *message)
{
    if (s->told_partial)
        return;
    s->told_partial = true;
    struct err e;
    const char *said = harmless(s, message);
    if (said) /* cut only now: half a token is a secret, too */
        err_set(&e, "%.200s", said);
    s->logging = true;
    log_warn("export accepted in part", LOG_STR("error", said ? e.text : NULL), LOG_NUM("rejected", rejected),
             LOG_STR("signal", s->signal), LOG_STR("url", s->shown));
    s->logging = false;
}

static void tell_success(struct export_sender *s)
{
    s->told_full = false;
    if (!s->failing)
        return;
    s->failing = s->told_refused = false;
    s->logging = true;
    log_info("export works again", LOG_NUM("dropped", s->stats.dropped - s->dropped_before),
             LOG_NUM("failed-for-s", (loop_now_ms(s->loop) - s->failing_since_ms) / 1000),
             LOG_STR("signal", s->signal), LOG_STR("url", s->shown));
    s->logging = false;
}

/* --- the queue --- */

static struct body *first(const struct export_sender *s)
{
    return list_empty(&s->queue) ? NULL : LIST_ITEM(s->queue.next, struct body, node);
}

static void forget(struct export_sender *s, struct body *b)
{
    list_remove(&b->node);
    s->queued -= b->bytes.cap;
    buf_free(&b->bytes);
    free(b);
}

static void drop(struct export_sender *s, struct body *b)
{
    s->stats.dropped += b->records;
    forget(s, b);
}

/* The oldest that is not being sent, or NULL. */
static struct body *oldest_waiting(const struct export_sender *s)
{
    struct body *b = first(s);
    if (!b || !s->under_way)
        return b;
    return b->node.next == &s->queue ? NULL : LIST_ITEM(b->node.next, struct body, node);
}

void export_sender_supersede(struct export_sender *s)
{
    for (struct body *b; (b = oldest_waiting(s));)
        drop(s, b);
}

void export_sender_lost(struct export_sender *s, uint64_t records)
{
    s->stats.dropped += records;
}

/* A buffer grows by doubling: what it has too much would take the place of other bodies. */
static void trim(struct buf *b)
{
    uint8_t *data = b->head == 0 && b->tail > 0 ? realloc(b->data, b->tail) : NULL;
    if (data) {
        b->data = data;
        b->cap = b->tail;
    }
}

void export_sender_push(struct export_sender *s, struct buf *body, uint32_t records)
{
    struct body *b = s->paused ? NULL : calloc(1, sizeof *b);
    if (!b) {
        s->stats.dropped += records;
        buf_free(body);
        return;
    }
    b->bytes = *body;
    b->records = records;
    *body = (struct buf){0};
    trim(&b->bytes);
    s->queued += b->bytes.cap;
    list_append(&s->queue, &b->node);
    for (struct body *old; s->queued > s->queue_max && (old = oldest_waiting(s)) && old != b;) {
        tell_full(s);
        drop(s, old);
    }
    /* Not now: this may be in the middle of anything that writes a log record. */
    loop_task_defer(&s->task);
}

/* --- a request --- */

static size_t on_answer(char *p, size_t size, size_t n, void *arg)
{
    struct export_sender *s = arg;
    size_t len = size * n, room = sizeof s->answer - s->answer_len;
    if (len < room)
        room = len;
    memcpy(s->answer + s->answer_len, p, room);
    s->answer_len += room;
    return len; /* a longer answer is read to its end, so that the connection can be kept; the deadline bounds
                   it */
}

static bool add_header(struct export_sender *s, const char *name, const char *value)
{
    char text[8192]; /* longer than the longest token that the options take */
    int n = snprintf(text, sizeof text, "%s: %s", name, value);
    struct curl_slist *list = n > 0 && (size_t)n < sizeof text ? curl_slist_append(s->headers, text) : NULL;
    explicit_bzero(text, sizeof text);
    if (list)
        s->headers = list;
    return list != NULL;
}

/* The token is one of them: nothing of it stays in memory that others get. */
static void free_headers(struct export_sender *s)
{
    for (struct curl_slist *h = s->headers; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(s->headers);
    s->headers = NULL;
}

static bool make_headers(struct export_sender *s)
{
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json");
    if (!list)
        return false;
    s->headers = list;
    /* Without this libcurl waits a second for "100 Continue" where the server does not know it. */
    list = curl_slist_append(s->headers, "Expect:");
    if (!list)
        return false;
    return !s->account || !s->email || !s->token ||
           (add_header(s, "X-CH-Auth-Email", s->email) && add_header(s, "X-CH-Auth-API-Token", s->token));
}

static void end_request(struct export_sender *s)
{
    curl_loop_remove(s->curl, &s->job);
    loop_timer_stop(s->deadline);
    curl_easy_setopt(s->job.easy, CURLOPT_HTTPHEADER, NULL);
    free_headers(s);
    s->under_way = false;
}

static void delivered(struct export_sender *s)
{
    struct body *b = first(s);
    char message[EXPORT_ANSWER_MAX];
    uint32_t rejected = export_rejected(s->answer, s->answer_len, b->records, message);
    s->stats.records += b->records - rejected;
    s->stats.dropped += rejected;
    if (rejected > 0 || message[0]) {
        s->stats.failures[EXPORT_PARTIAL]++;
        tell_partial(s, rejected, message);
    } else {
        s->told_partial = false;
    }
    forget(s, b);
    backoff_reset(&s->backoff);
    tell_success(s);
    s->dropped_before = s->stats.dropped;
    loop_task_defer(&s->task);
}

static void failed(struct export_sender *s, enum export_reason reason, const struct err *e,
                   int64_t retry_after_ms)
{
    s->stats.failures[reason]++;
    tell_failure(s, reason, e);
    if (reason == EXPORT_REFUSED) {
        s->paused = true;
        export_sender_supersede(s);
        loop_timer_start(s->wait, EXPORT_PAUSE_MS, 0);
        return;
    }
    if (reason == EXPORT_SERVER_ERROR)
        drop(s, first(s));
    int64_t wait = backoff_next(&s->backoff, random_u64());
    loop_timer_start(s->wait, retry_after_ms > wait ? retry_after_ms : wait, 0);
}

static void on_done(void *arg, CURLcode code)
{
    struct export_sender *s = arg;
    long status = 0;
    curl_off_t retry_after = 0;
    struct err e;
    curl_easy_getinfo(s->job.easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(s->job.easy, CURLINFO_RETRY_AFTER, &retry_after);
    enum export_reason reason = export_judge(code, status);
    end_request(s);
    if (reason == EXPORT_DELIVERED) {
        delivered(s);
        return;
    }
    describe(s, reason, code, status, &e);
    failed(s, reason, &e, retry_after > EXPORT_PAUSE_MS / 1000 ? EXPORT_PAUSE_MS : retry_after * 1000);
}

static void on_deadline(void *arg)
{
    struct export_sender *s = arg;
    struct err e;
    end_request(s);
    describe(s, EXPORT_TIMEOUT, CURLE_OPERATION_TIMEDOUT, 0, &e);
    failed(s, EXPORT_TIMEOUT, &e, 0);
}

static void send_first(void *arg)
{
    struct export_sender *s = arg;
    struct body *b = first(s);
    struct err e;
    if (!b || s->under_way || loop_timer_active(s->wait))
        return;
    s->answer_len = 0;
    s->curl_error[0] = 0;
    /* A kept HTTP/2 connection may have died unseen: what failed once takes a new one. */
    curl_easy_setopt(s->job.easy, CURLOPT_FRESH_CONNECT, s->failing ? 1L : 0L);
    if (!make_headers(s)) {
        free_headers(s);
        err_set(&e, "out of memory");
        failed(s, EXPORT_UNREACHABLE, &e, 0);
        return;
    }
    curl_easy_setopt(s->job.easy, CURLOPT_HTTPHEADER, s->headers);
    curl_easy_setopt(s->job.easy, CURLOPT_POSTFIELDS, (const char *)buf_begin(&b->bytes)); /* not copied */
    curl_easy_setopt(s->job.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)buf_len(&b->bytes));
    s->under_way = true;
    loop_timer_start(s->deadline, EXPORT_REQUEST_MS, 0);
    if (!curl_loop_add(s->curl, &s->job, &e)) {
        end_request(s);
        failed(s, EXPORT_UNREACHABLE, &e, 0);
    }
}

static void on_wait_over(void *arg)
{
    struct export_sender *s = arg;
    s->paused = false;
    send_first(s);
}

/* --- questions --- */

bool export_sender_paused(const struct export_sender *s)
{
    return s->paused;
}

bool export_sender_idle(const struct export_sender *s)
{
    return !s->under_way && (list_empty(&s->queue) || loop_timer_active(s->wait));
}

void export_sender_wake(struct export_sender *s)
{
    if (!s->paused)
        return;
    loop_timer_stop(s->wait);
    s->paused = false;
    s->told_refused = false; /* if it is refused again, that is news */
}

bool export_sender_is_logging(const struct export_sender *s)
{
    return s->logging;
}

const struct export_stats *export_sender_stats(const struct export_sender *s)
{
    return &s->stats;
}

/* --- life --- */

static void set_proxy(struct export_sender *s, const struct web_proxy *proxy)
{
    CURL *easy = s->job.easy;
    /* An empty text, too, keeps libcurl from looking at the environment, by rules that are not ours. */
    curl_easy_setopt(easy, CURLOPT_PROXY, proxy->name);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    if (proxy->user[0] || proxy->password[0]) {
        curl_easy_setopt(easy, CURLOPT_PROXYUSERNAME, proxy->user);
        curl_easy_setopt(easy, CURLOPT_PROXYPASSWORD, proxy->password);
        curl_easy_setopt(easy, CURLOPT_PROXYAUTH, CURLAUTH_BASIC);
    }
    /* The account is none of the proxy's business. */
    curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
}

/* `host` as libcurl has it: an IPv6 address in brackets, its zone left out. */
static bool find_way(struct export_sender *s, const char *scheme, const char *host, const char *port,
                     struct err *e)
{
    struct web_proxy proxy;
    bool brackets = host[0] == '[';
    snprintf(s->host, sizeof s->host, "%.*s", (int)strcspn(host + brackets, "]"), host + brackets);
    s->job.port = (uint16_t)atoi(port);
    if (!web_proxy_for(scheme, s->host, s->job.port, &proxy, e))
        return false;
    bool through = proxy.kind != WEB_PROXY_NONE;
    s->account = export_may_send_account(scheme, s->host, through);
    if (through) {
        strcpy(s->host, proxy.host);
        s->job.port = proxy.port;
    }
    s->job.host = s->host;
    snprintf(s->proxy, sizeof s->proxy, "%s", proxy.name);
    set_proxy(s, &proxy);
    web_proxy_forget(&proxy);
    return true;
}

/* Takes the URL apart: the way there, who may get the account, and what may be shown. */
static bool take_url(struct export_sender *s, const char *url, struct err *e)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL, *shown = NULL;
    bool good = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    if (good) {
        curl_url_set(u, CURLUPART_USER, NULL, 0);
        curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
        curl_url_set(u, CURLUPART_QUERY, NULL, 0);
        curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
        good = curl_url_get(u, CURLUPART_URL, &shown, 0) == CURLUE_OK;
    }
    if (good) {
        snprintf(s->shown, sizeof s->shown, "%s", shown);
        good = find_way(s, scheme, host, port, e);
    } else {
        err_set(e, "not a URL of http or https");
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(shown);
    curl_url_cleanup(u);
    return good || err_prefix(e, "export of %s", s->signal);
}

static void set_trust(const struct export_sender *s)
{
    CURL *easy = s->job.easy;
    /* libcurl, unlike OpenSSL and so unlike our gRPC connection, does not look at these by itself. */
    const char *file = s->ca_file ? s->ca_file : getenv("SSL_CERT_FILE");
    const char *dir = s->ca_file ? NULL : getenv("SSL_CERT_DIR");
    if (file && file[0]) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, file);
        curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, file);
    }
    if (s->ca_file || (dir && dir[0])) { /* a file that was given is trusted, and nothing else */
        curl_easy_setopt(easy, CURLOPT_CAPATH, s->ca_file ? NULL : dir);
        curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, s->ca_file ? NULL : dir);
    }
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

static void set_options(struct export_sender *s)
{
    CURL *easy = s->job.easy;
    curl_easy_setopt(easy, CURLOPT_URL, s->url);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "kbgp/" KBGP_VERSION);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, s->curl_error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, s);
    set_trust(s);
}

struct export_sender *export_sender_new(const struct export_sender_config *config, struct err *e)
{
    struct export_sender *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, "out of memory");
        return NULL;
    }
    s->loop = config->loop;
    s->curl = config->curl;
    s->signal = config->signal;
    s->email = config->email;
    s->token = config->token;
    s->queue_max = config->queue_max;
    list_init(&s->queue);
    loop_task_init(&s->task, s->loop, send_first, s);
    s->url = strdup(config->url);
    s->ca_file = config->ca_file ? strdup(config->ca_file) : NULL;
    s->deadline = loop_timer_new(s->loop, on_deadline, s);
    s->wait = loop_timer_new(s->loop, on_wait_over, s);
    s->job = (struct curl_job){.easy = curl_easy_init(), .done = on_done, .arg = s};
    if (!s->url || (config->ca_file && !s->ca_file) || !s->deadline || !s->wait || !s->job.easy) {
        err_set(e, "out of memory");
        export_sender_free(s);
        return NULL;
    }
    if (!take_url(s, config->url, e)) {
        export_sender_free(s);
        return NULL;
    }
    set_options(s);
    return s;
}

void export_sender_free(struct export_sender *s)
{
    if (!s)
        return;
    if (s->under_way)
        end_request(s);
    while (first(s))
        drop(s, first(s));
    loop_task_cancel(&s->task);
    loop_timer_free(s->deadline);
    loop_timer_free(s->wait);
    if (s->job.easy)
        curl_easy_cleanup(s->job.easy);
    free(s->url);
    free(s->ca_file);
    free(s);
}
