#include "daemon/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "daemon/otlp.h"

#define NS_PER_S 1000000000

static void put(struct metrics_writer *w, const char *p, size_t n)
{
    if (!w->failed && !buf_append(w->out, p, n))
        w->failed = true;
}

static void put_text(struct metrics_writer *w, const char *text)
{
    put(w, text, strlen(text));
}

void metrics_init(struct metrics_writer *w, struct buf *out)
{
    *w = (struct metrics_writer){.out = out};
}

void metrics_init_otlp(struct metrics_writer *w, struct otlp_metrics *otlp)
{
    *w = (struct metrics_writer){.otlp = otlp};
}

void metrics_family(struct metrics_writer *w, const char *name, enum metrics_type type, const char *help)
{
    static const char *const types[] = {
        [METRICS_COUNTER] = "counter", [METRICS_GAUGE] = "gauge", [METRICS_HISTOGRAM] = "histogram"};
    if (w->otlp) {
        otlp_metrics_family(w->otlp, name, type, help);
        return;
    }
    w->family = name;
    put_text(w, "# HELP ");
    put_text(w, name);
    put_text(w, " ");
    put_text(w, help);
    put_text(w, "\n# TYPE ");
    put_text(w, name);
    put_text(w, " ");
    put_text(w, types[type]);
    put_text(w, "\n");
}

/* How many bytes at the start need no second look: nearly all of nearly every value. */
static size_t plain_len(const char *s)
{
    size_t n = 0;
    while (s[n] >= ' ' && s[n] < 0x7f && s[n] != '\\' && s[n] != '"')
        n++;
    return n;
}

/* Backslash, quote and newline are what the format escapes; everything else may stand, as long as it is
 * UTF-8. */
static void put_label_value(struct metrics_writer *w, const char *s)
{
    for (size_t n = strlen(s); n > 0;) {
        size_t plain = plain_len(s);
        put(w, s, plain);
        s += plain;
        n -= plain;
        if (n == 0)
            break;
        uint32_t cp;
        size_t used = utf8_decode(s, n, &cp);
        if (cp == '\\' || cp == '"')
            put(w, (const char[]){'\\', (char)cp}, 2);
        else if (cp == '\n')
            put(w, "\\n", 2);
        else if (cp == UTF8_BAD)
            put_text(w, UTF8_BAD_TEXT);
        else
            put(w, s, used);
        s += used;
        n -= used;
    }
}

/* name_suffix{a="1",le="0.5"} and a space; `le` is NULL but for buckets. */
static void put_series(struct metrics_writer *w, const char *suffix, const struct metrics_label *labels,
                       const char *le)
{
    const struct metrics_label bound[] = {{"le", le}, {NULL, NULL}};
    const char *before = "{";
    put_text(w, w->family);
    put_text(w, suffix);
    for (const struct metrics_label *set = labels; set; set = set == labels && le ? bound : NULL) {
        for (const struct metrics_label *l = set; l->name; l++) {
            put_text(w, before);
            put_text(w, l->name);
            put_text(w, "=\"");
            put_label_value(w, l->value);
            put_text(w, "\"");
            before = ",";
        }
    }
    put_text(w, before[0] == '{' ? " " : "} ");
}

const char *metrics_seconds_text(int64_t ns, char out[static METRICS_SECONDS_MAX])
{
    uint64_t abs = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    int n = snprintf(out, METRICS_SECONDS_MAX, "%s%" PRIu64 ".%09" PRIu64, ns < 0 ? "-" : "", abs / NS_PER_S,
                     abs % NS_PER_S);
    while (out[n - 1] == '0')
        n--;
    if (out[n - 1] == '.')
        n--;
    out[n] = 0;
    return out;
}

static void put_count(struct metrics_writer *w, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64 "\n", value);
    put_text(w, text);
}

void metrics_write_int(struct metrics_writer *w, int64_t value, const struct metrics_label *labels)
{
    if (w->otlp) {
        otlp_metrics_int(w->otlp, value, labels);
        return;
    }
    char text[24];
    put_series(w, "", labels, NULL);
    snprintf(text, sizeof text, "%" PRId64 "\n", value);
    put_text(w, text);
}

void metrics_write_seconds(struct metrics_writer *w, int64_t ns, const struct metrics_label *labels)
{
    if (w->otlp) {
        otlp_metrics_seconds(w->otlp, ns, labels);
        return;
    }
    char text[METRICS_SECONDS_MAX];
    put_series(w, "", labels, NULL);
    put_text(w, metrics_seconds_text(ns, text));
    put_text(w, "\n");
}

/* --- histograms --- */

void metrics_histogram_init_latency(struct metrics_histogram *h)
{
#define MS(n) ((n)*INT64_C(1000000))
    static const int64_t bounds[] = {MS(1),   MS(2),   MS(5),   MS(10),   MS(20),   MS(50),
                                     MS(100), MS(200), MS(500), MS(1000), MS(5000), MS(10000)};
#undef MS
    *h = (struct metrics_histogram){.bounds_ns = bounds, .n_bounds = sizeof bounds / sizeof bounds[0]};
}

void metrics_observe(struct metrics_histogram *h, int64_t ns)
{
    size_t i = 0;
    while (i < h->n_bounds && ns > h->bounds_ns[i])
        i++;
    h->counts[i]++;
    h->sum_ns += ns;
}

void metrics_write_histogram(struct metrics_writer *w, const struct metrics_histogram *h,
                             const struct metrics_label *labels)
{
    if (w->otlp) {
        otlp_metrics_histogram(w->otlp, h, labels);
        return;
    }
    char text[METRICS_SECONDS_MAX];
    uint64_t total = 0;
    for (size_t i = 0; i <= h->n_bounds; i++) {
        total += h->counts[i]; /* buckets are cumulative */
        put_series(w, "_bucket", labels,
                   i < h->n_bounds ? metrics_seconds_text(h->bounds_ns[i], text) : "+Inf");
        put_count(w, total);
    }
    put_series(w, "_sum", labels, NULL);
    put_text(w, metrics_seconds_text(h->sum_ns, text));
    put_text(w, "\n");
    put_series(w, "_count", labels, NULL);
    put_count(w, total);
}

/* --- this process --- */

struct process {
    uint64_t utime, stime; /* clock ticks */
    int64_t threads;
    uint64_t start; /* clock ticks after boot */
    uint64_t virtual_bytes;
    int64_t resident_pages;
};

/* proc(5): fields 14, 15, 20, 22, 23 and 24 of /proc/self/stat, counted after the name, which may hold
 * anything. */
static bool read_process(struct process *p)
{
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *at = strrchr(text, ')');
    return at &&
           sscanf(at,
                  ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
                  " %*d %*d %*d %*d %" SCNd64 " %*d %" SCNu64 " %" SCNu64 " %" SCNd64,
                  &p->utime, &p->stime, &p->threads, &p->start, &p->virtual_bytes, &p->resident_pages) == 6;
}

/* Linux 6.2 tells the number as the size of the directory; before, one has to count. -1: unknown. */
static int64_t open_descriptors(void)
{
    struct stat st;
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        return st.st_size;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return -1;
    int64_t n = -1; /* the descriptor of the directory itself */
    for (struct dirent *d; (d = readdir(dir));)
        if (d->d_name[0] != '.')
            n++;
    closedir(dir);
    return n;
}

static int64_t ticks_to_ns(uint64_t ticks)
{
    uint64_t hz = (uint64_t)sysconf(_SC_CLK_TCK);
    return (int64_t)(ticks / hz * NS_PER_S + ticks % hz * NS_PER_S / hz);
}

/*
 * When the process started, as wall time. Computed once a process: a clock that is being corrected would make
 * the value waver, and a start time that changes looks like a restart.
 */
static int64_t start_wall_ns(uint64_t start)
{
    static uint64_t of;
    static int64_t known;
    if (known == 0 || of != start) {
        struct timespec boot;
        clock_gettime(CLOCK_BOOTTIME, &boot);
        int64_t age = (int64_t)boot.tv_sec * NS_PER_S + boot.tv_nsec - ticks_to_ns(start);
        known = clock_wall_ns() - age;
        of = start;
    }
    return known;
}

void metrics_process(struct metrics_writer *w)
{
    struct process p;
    if (read_process(&p)) {
        metrics_family(w, "process_cpu_seconds_total", METRICS_COUNTER, "User and system CPU time spent.");
        metrics_seconds(w, ticks_to_ns(p.utime + p.stime));
        metrics_family(w, "process_resident_memory_bytes", METRICS_GAUGE, "Resident memory.");
        metrics_int(w, p.resident_pages * sysconf(_SC_PAGESIZE));
        metrics_family(w, "process_virtual_memory_bytes", METRICS_GAUGE, "Virtual memory.");
        metrics_int(w, (int64_t)p.virtual_bytes);
        metrics_family(w, "process_start_time_seconds", METRICS_GAUGE,
                       "When the process started, as Unix time.");
        metrics_seconds(w, start_wall_ns(p.start));
        metrics_family(w, "process_threads", METRICS_GAUGE, "Threads of the process.");
        metrics_int(w, p.threads);
    }
    int64_t fds = open_descriptors();
    if (fds >= 0) {
        metrics_family(w, "process_open_fds", METRICS_GAUGE, "Open file descriptors.");
        metrics_int(w, fds);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        metrics_family(w, "process_max_fds", METRICS_GAUGE, "The most file descriptors that may be open.");
        metrics_int(w, (int64_t)limit.rlim_cur);
    }
}
