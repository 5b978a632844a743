#ifndef KBGP_DAEMON_OTLP_H
#define KBGP_DAEMON_OTLP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"
#include "daemon/metrics.h"

/*
 * Writes OTLP 1.x in JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"): the body of an HTTP
 * request that carries log records or metrics. Keys in lowerCamelCase, 64-bit numbers as decimal strings,
 * enums as integers. Text that is not UTF-8 gets U+FFFD for each bad byte. Pure: times come in as arguments.
 */

/* What it is that reports: the attributes service.name, service.version and service.instance.id. Borrowed. */
struct otlp_resource {
    const char *name, *version, *instance;
};

/*
 * Whether a body that is appended to `out` is complete: a failure (out of memory) sticks, and what stands in
 * `out` must be thrown away then.
 */
struct otlp_out {
    struct buf *buf; /* borrowed */
    bool failed;
};

/* --- logs --- */

/* No record takes more than this; fields that do not fit are left out, and the attribute `truncated` says so.
 */
#define OTLP_RECORD_MAX (64u << 10)
#define OTLP_SCOPE_MAX  64

struct otlp_logs {
    struct otlp_out out;
    char scope[OTLP_SCOPE_MAX]; /* of the records being written; "" before the first */
    uint32_t records;
};

/* Begins a body in `out`. */
void otlp_logs_begin(struct otlp_logs *l, struct buf *out, const struct otlp_resource *r);
/*
 * Adds a record. The scope it stands in is named after its field `module` or `component`, else after `scope`.
 * False: out of memory, and the record is not there; the body is as it was.
 */
bool otlp_logs_record(struct otlp_logs *l, const char *scope, enum log_level level, int64_t wall_ns,
                      const char *msg, const struct log_field *fields);
/* Ends the body. One without records must not be sent. */
void otlp_logs_end(struct otlp_logs *l);

/* --- metrics: what metrics.c calls when its writer writes OTLP --- */

struct otlp_metrics {
    struct otlp_out out;
    const struct otlp_resource *resource; /* borrowed */
    const char *scope;                    /* constant */
    int64_t start_ns, now_ns;             /* wall time: since when counters count, and now */
    char times_text[96];                  /* both as they stand in a point of a counter */
    const char *now_text;                 /* and in one of a gauge: the end of times_text */
    uint32_t points;                      /* in the body that is being written */
    uint64_t skipped;                     /* points that were left out because `full` said so */

    /*
     * A body that has reached `limit` bytes is ended and `full` called, which takes the bytes out of the
     * buffer. True: go on with a new body; false: leave the rest out. Limit 0: one body whatever its size.
     */
    size_t limit;
    bool (*full)(void *arg, struct otlp_metrics *m);
    void *arg;

    /* The family being written. It is opened by its first point, so that one without points leaves no trace.
     */
    const char *name, *help;
    enum metrics_type type;
    bool open, begun, stopped;
};

/* Begins. Counters count since `start_ns`. `out` must be empty. */
void otlp_metrics_begin(struct otlp_metrics *m, struct buf *out, const struct otlp_resource *r,
                        const char *scope, int64_t start_ns, int64_t now_ns);
void otlp_metrics_family(struct otlp_metrics *m, const char *name, enum metrics_type type, const char *help);
void otlp_metrics_int(struct otlp_metrics *m, int64_t value, const struct metrics_label *labels);
void otlp_metrics_seconds(struct otlp_metrics *m, int64_t ns, const struct metrics_label *labels);
void otlp_metrics_histogram(struct otlp_metrics *m, const struct metrics_histogram *h,
                            const struct metrics_label *labels);
/* Ends the last body. With points == 0 it is empty and must not be sent. */
void otlp_metrics_end(struct otlp_metrics *m);

#endif
