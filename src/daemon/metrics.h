#ifndef KBGP_DAEMON_METRICS_H
#define KBGP_DAEMON_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/*
 * Writes metrics in the Prometheus text format 0.0.4:
 *
 *     metrics_family(&w, "kbgp_relayed_bytes_total", METRICS_COUNTER, "Bytes relayed.");
 *     metrics_int(&w, up, {"direction", "up"});
 *     metrics_int(&w, down, {"direction", "down"});
 *
 * The samples of a family follow its metrics_family() and no family comes twice: the format wants them
 * together.
 *
 * The same description also serves the export: a writer made by metrics_init_otlp() writes OTLP
 * (daemon/otlp), in which a counter is a cumulative sum and a family without samples does not appear.
 */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

/* Names are constants of the program; values may be anything (they are escaped, and made valid UTF-8). */
struct metrics_label {
    const char *name, *value;
};

struct otlp_metrics;

struct metrics_writer {
    struct buf *out;           /* borrowed */
    struct otlp_metrics *otlp; /* borrowed; NULL: Prometheus' format */
    const char *family;        /* borrowed */
    bool failed;               /* out of memory: what stands in `out` is not complete */
};

void metrics_init(struct metrics_writer *w, struct buf *out);
/* Writes through `otlp`, which was begun and is ended (and asked for failures) by the caller. */
void metrics_init_otlp(struct metrics_writer *w, struct otlp_metrics *otlp);

/* HELP and TYPE. Both texts are constants. */
void metrics_family(struct metrics_writer *w, const char *name, enum metrics_type type, const char *help);

/* A sample of the current family, with any number of labels {"name", value} (macros, so that none is fine
 * too). */
#define metrics_int(w, value, ...) metrics_write_int(w, value, METRICS_LABELS(__VA_ARGS__))
/* The same, of a time in nanoseconds, which is written in seconds without loss. */
#define metrics_seconds(w, ns, ...) metrics_write_seconds(w, ns, METRICS_LABELS(__VA_ARGS__))
#define METRICS_LABELS(...)         ((const struct metrics_label[]){__VA_ARGS__ __VA_OPT__(, ){NULL, NULL}})

/* What the macros call; `labels` ends with a NULL name. */
void metrics_write_int(struct metrics_writer *w, int64_t value, const struct metrics_label *labels);
void metrics_write_seconds(struct metrics_writer *w, int64_t ns, const struct metrics_label *labels);

/* Seconds with as many decimals as they need: 12.345, 0.5, 3. Also a JSON number. Returns `out`. */
#define METRICS_SECONDS_MAX 32
const char *metrics_seconds_text(int64_t ns, char out[static METRICS_SECONDS_MAX]);

/*
 * A histogram of times. Bounds are upper ones, in nanoseconds, rising; what is above the last counts as +Inf.
 */
#define METRICS_BOUNDS_MAX 16
struct metrics_histogram {
    const int64_t *bounds_ns; /* borrowed; at most METRICS_BOUNDS_MAX */
    size_t n_bounds;
    uint64_t counts[METRICS_BOUNDS_MAX + 1];
    int64_t sum_ns;
};

/* For answers over a network: 1 ms to 10 s in twelve steps. */
void metrics_histogram_init_latency(struct metrics_histogram *h);
void metrics_observe(struct metrics_histogram *h, int64_t ns);
/* _bucket, _sum and _count of the current family. */
#define metrics_histogram(w, h, ...) metrics_write_histogram(w, h, METRICS_LABELS(__VA_ARGS__))
void metrics_write_histogram(struct metrics_writer *w, const struct metrics_histogram *h,
                             const struct metrics_label *labels);

/* The standard process_* families of this process; one that cannot be read is left out. */
void metrics_process(struct metrics_writer *w);

#endif
