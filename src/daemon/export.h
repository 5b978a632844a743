#ifndef KBGP_DAEMON_EXPORT_H
#define KBGP_DAEMON_EXPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/metrics.h"
#include "daemon/otlp.h"
#include "net/curl_loop.h"
#include "net/loop.h"

/*
 * Sends the program's log records and metrics to a collector, as OTLP in JSON over HTTP (daemon/otlp). Never
 * waits and never grows: bodies wait in bounded queues (daemon/export_sender), the oldest are dropped and
 * counted.
 *
 * Log records are taken from the log's tap as they are written and sent every EXPORT_LOGS_MS or
 * EXPORT_BODY_MAX bytes. What the export itself has to say about its failures is not exported. Metrics are
 * sent every EXPORT_METRICS_MS; of them only the newest are worth keeping.
 *
 * The account (X-CH-Auth-Email, X-CH-Auth-API-Token) goes to https:// URLs only. A http:// URL is for a
 * collector beside the program: unless its host is a loopback address, or when a web proxy would carry it,
 * the request has no account headers.
 */
#define EXPORT_BODY_MAX   (512u << 10)
#define EXPORT_LOGS_MS    5000
#define EXPORT_METRICS_MS 60000
/* The first metrics follow soon after the start, so that an operator need not wait to see that they arrive.
 */
#define EXPORT_METRICS_FIRST_MS 5000
/* Memory for what waits. The metrics of 5,000 devices, with their 30 series each, are 40 MB. */
#define EXPORT_LOGS_QUEUE_MAX    (4u << 20)
#define EXPORT_METRICS_QUEUE_MAX (48u << 20)
/* At the end there is this long for what is still to be sent. */
#define EXPORT_DRAIN_MS 1000

struct export;

/* All strings are borrowed and outlive the export. */
struct export_config {
    struct loop *loop;
    struct curl_loop *curl;
    const char *logs_url, *metrics_url; /* NULL or empty: these are not exported */
    const char *email, *token;          /* may change in place; NULL: none */
    const char *ca_file;                /* NULL: the system's trust store */
    struct otlp_resource resource;
    void (*metrics)(void *arg, struct metrics_writer *w); /* writes all families */
    void *arg;
};

/* Takes the log's tap, if logs are to be exported. NULL with the reason. */
struct export *export_new(const struct export_config *config, struct err *e);
/* Gives the tap back and breaks off what is under way. NULL does nothing. */
void export_free(struct export *x);

/* The account was read again: a pause after "not accepted" ends. NULL does nothing. */
void export_wake(struct export *x);

/*
 * To be asked again and again before the end. The first call sends what is there, and the last metrics. True
 * when all is sent, or cannot be, or EXPORT_DRAIN_MS are over; of NULL at once.
 */
bool export_drained(struct export *x);

/* The families kbgp_export_*. Of NULL none. */
void export_metrics(const struct export *x, struct metrics_writer *w);

#endif
