#include "daemon/export.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/export_sender.h"

/* The scope of log records that name no module, and of all metrics. */
#define SCOPE "kbgp"

struct export
{
    struct export_config config;
    struct export_sender *logs, *metrics; /* NULL: not exported */

    /* The body that log records are being added to; empty before the first. */
    struct buf body;
    struct otlp_logs records;
    struct loop_timer *logs_timer;

    struct loop_timer *metrics_timer;
    int64_t started_wall_ns;
    size_t snapshot; /* bytes of the metrics that are being written */

    int64_t drain_until_ms; /* 0: not yet */
};

/* --- logs --- */

static void send_logs(void *arg)
{
    struct export *x = arg;
    loop_timer_stop(x->logs_timer);
    if (x->records.records == 0)
        return;
    otlp_logs_end(&x->records);
    if (x->records.out.failed) {
        export_sender_lost(x->logs, x->records.records);
        buf_free(&x->body);
    } else {
        export_sender_push(x->logs, &x->body, x->records.records);
    }
    x->records = (struct otlp_logs){0};
}

static void on_log(void *arg, enum log_level level, int64_t wall_ns, const char *msg,
                   const struct log_field *fields)
{
    struct export *x = arg;
    if (export_sender_is_logging(x->logs) || (x->metrics && export_sender_is_logging(x->metrics)))
        return;
    if (export_sender_paused(x->logs)) {
        export_sender_lost(x->logs, 1);
        return;
    }
    if (x->records.records == 0) {
        buf_free(&x->body);
        otlp_logs_begin(&x->records, &x->body, &x->config.resource);
    }
    if (!otlp_logs_record(&x->records, SCOPE, level, wall_ns, msg, fields)) {
        export_sender_lost(x->logs, 1);
        return;
    }
    if (buf_len(&x->body) > EXPORT_BODY_MAX - OTLP_RECORD_MAX)
        send_logs(x); /* the next record might not fit */
    else if (x->records.records == 1)
        loop_timer_start(x->logs_timer, EXPORT_LOGS_MS, 0);
}

/* --- metrics --- */

static bool take_body(void *arg, struct otlp_metrics *m)
{
    struct export *x = arg;
    x->snapshot += buf_len(m->out.buf);
    export_sender_push(x->metrics, m->out.buf, m->points);
    /* One more body, and a bit for the point that fills it. */
    return x->snapshot + 2 * EXPORT_BODY_MAX <= EXPORT_METRICS_QUEUE_MAX;
}

static void send_metrics(void *arg)
{
    struct export *x = arg;
    struct buf body = {0};
    struct otlp_metrics m;
    struct metrics_writer w;
    if (export_sender_paused(x->metrics))
        return;
    export_sender_supersede(x->metrics);
    x->snapshot = 0;
    otlp_metrics_begin(&m, &body, &x->config.resource, SCOPE, x->started_wall_ns, clock_wall_ns());
    m.limit = EXPORT_BODY_MAX;
    m.full = take_body;
    m.arg = x;
    metrics_init_otlp(&w, &m);
    x->config.metrics(x->config.arg, &w);
    otlp_metrics_end(&m);
    if (m.out.failed)
        export_sender_lost(x->metrics, m.points);
    else if (m.points > 0)
        export_sender_push(x->metrics, &body, m.points);
    export_sender_lost(x->metrics, m.skipped);
    buf_free(&body);
}

/* --- life --- */

static struct export_sender *sender(const struct export_config *c, const char *signal, const char *url,
                                    size_t queue_max, struct err *e)
{
    struct export_sender_config sc = {.loop = c->loop,
                                      .curl = c->curl,
                                      .signal = signal,
                                      .url = url,
                                      .email = c->email,
                                      .token = c->token,
                                      .ca_file = c->ca_file,
                                      .queue_max = queue_max};
    return export_sender_new(&sc, e);
}

struct export *export_new(const struct export_config *config, struct err *e)
{
    bool logs = config->logs_url && config->logs_url[0];
    bool metrics = config->metrics_url && config->metrics_url[0];
    struct export *x = calloc(1, sizeof *x);
    if (!x) {
        err_set(e, "out of memory");
        return NULL;
    }
    x->config = *config;
    x->started_wall_ns = clock_wall_ns();
    x->logs_timer = loop_timer_new(config->loop, send_logs, x);
    x->metrics_timer = loop_timer_new(config->loop, send_metrics, x);
    if (!x->logs_timer || !x->metrics_timer) {
        err_set(e, "out of memory");
        goto fail;
    }
    if (logs && !(x->logs = sender(config, "logs", config->logs_url, EXPORT_LOGS_QUEUE_MAX, e)))
        goto fail;
    if (metrics &&
        !(x->metrics = sender(config, "metrics", config->metrics_url, EXPORT_METRICS_QUEUE_MAX, e)))
        goto fail;
    if (x->logs)
        log_set_tap(on_log, x);
    if (x->metrics)
        loop_timer_start(x->metrics_timer, EXPORT_METRICS_FIRST_MS, EXPORT_METRICS_MS);
    return x;
fail:
    export_free(x);
    return NULL;
}

void export_free(struct export *x)
{
    if (!x)
        return;
    if (x->logs)
        log_set_tap(NULL, NULL);
    loop_timer_free(x->logs_timer);
    loop_timer_free(x->metrics_timer);
    export_sender_free(x->logs);
    export_sender_free(x->metrics);
    buf_free(&x->body);
    free(x);
}

void export_wake(struct export *x)
{
    if (x && x->logs)
        export_sender_wake(x->logs);
    if (x && x->metrics)
        export_sender_wake(x->metrics);
}

bool export_drained(struct export *x)
{
    if (!x)
        return true;
    int64_t now = loop_now_ms(x->config.loop);
    if (x->drain_until_ms == 0) {
        x->drain_until_ms = now + EXPORT_DRAIN_MS;
        if (x->logs)
            send_logs(x);
        if (x->metrics) {
            loop_timer_stop(x->metrics_timer);
            send_metrics(x);
        }
    }
    return now >= x->drain_until_ms ||
           ((!x->logs || export_sender_idle(x->logs)) && (!x->metrics || export_sender_idle(x->metrics)));
}

/* --- its own metrics --- */

void export_metrics(const struct export *x, struct metrics_writer *w)
{
    const struct {
        const char *signal;
        const struct export_sender *sender;
    } all[] = {{"logs", x ? x->logs : NULL}, {"metrics", x ? x->metrics : NULL}};
    const size_t n = sizeof all / sizeof all[0];
    if (!x || (!x->logs && !x->metrics))
        return;
    metrics_family(w, "kbgp_export_records_total", METRICS_COUNTER,
                   "Log records and metric points that the receiver has accepted.");
    for (size_t i = 0; i < n; i++)
        if (all[i].sender)
            metrics_int(w, (int64_t)export_sender_stats(all[i].sender)->records, {"signal", all[i].signal});
    metrics_family(w, "kbgp_export_failures_total", METRICS_COUNTER, "Export requests that failed.");
    for (size_t i = 0; i < n; i++)
        for (enum export_reason r = 0; all[i].sender && r < EXPORT_REASONS; r++)
            metrics_int(w, (int64_t)export_sender_stats(all[i].sender)->failures[r],
                        {"signal", all[i].signal}, {"reason", export_reason_name(r)});
    metrics_family(w, "kbgp_export_dropped_total", METRICS_COUNTER,
                   "Log records and metric points that were not exported and will not be.");
    for (size_t i = 0; i < n; i++)
        if (all[i].sender)
            metrics_int(w, (int64_t)export_sender_stats(all[i].sender)->dropped, {"signal", all[i].signal});
}
