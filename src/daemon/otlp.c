#include "daemon/otlp.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log_format.h"
#include "base/utf8.h"

/* Kept free in a record for the attribute that says that something is missing, and for closing brackets. */
#define TRUNCATED_MAX 128

/* --- JSON --- */

static void put(struct otlp_out *o, const char *p, size_t n)
{
    struct buf *b = o->buf;
    if (o->failed)
        return;
    if (b->cap - b->tail > n) { /* nearly always, and a large agent has a million of these a minute */
        memcpy(b->data + b->tail, p, n);
        buf_added(b, n);
    } else if (!buf_append(b, p, n)) {
        o->failed = true;
    }
}

static void put_text(struct otlp_out *o, const char *text)
{
    put(o, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void put_fmt(struct otlp_out *o, const char *fmt, ...)
{
    char text[256]; /* for numbers and constants: never cut */
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    put_text(o, text);
}

/* Takes back what was put after the buffer had this length. */
static void cut(struct otlp_out *o, size_t length)
{
    o->buf->tail = o->buf->head + length;
}

static void put_decimal(struct otlp_out *o, int64_t value)
{
    char text[24], *p = text + sizeof text;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        *--p = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (value < 0)
        *--p = '-';
    put(o, p, (size_t)(text + sizeof text - p));
}

/* A string in quotes, cut at a character's border after `max` bytes of text. False when it was cut. */
static bool put_string_n(struct otlp_out *o, const char *s, size_t n, size_t max)
{
    size_t at = 0, plain = 0; /* `plain`: where the bytes that need no escape, and are not put yet, begin */
    put(o, "\"", 1);
    while (at < n) {
        if (s[at] >= 0x20 && s[at] < 0x7f && s[at] != '"' && s[at] != '\\' && at < max) {
            at++;
            continue;
        }
        uint32_t cp;
        size_t used = utf8_decode(s + at, n - at, &cp);
        if (at + used > max)
            break;
        if (cp < 0x20 || cp == '"' || cp == '\\' || cp == UTF8_BAD) {
            put(o, s + plain, at - plain);
            plain = at + used;
            if (cp == UTF8_BAD)
                put_text(o, UTF8_BAD_TEXT);
            else if (cp < 0x20)
                put_fmt(o, "\\u%04x", (unsigned)cp);
            else
                put(o, (const char[]){'\\', (char)cp}, 2);
        }
        at += used;
    }
    put(o, s + plain, at - plain);
    put(o, "\"", 1);
    return at == n;
}

static bool put_string(struct otlp_out *o, const char *s)
{
    return put_string_n(o, s, strlen(s), LOG_VALUE_MAX);
}

static void put_string_attribute(struct otlp_out *o, const char *key, const char *value)
{
    put_text(o, "{\"key\":");
    put_string(o, key);
    put_text(o, ",\"value\":{\"stringValue\":");
    put_string(o, value);
    put_text(o, "}}");
}

/* `envelope` names the three nested lists, as in "Logs": resourceLogs, scopeLogs. The list of scopes is left
 * open. */
static void put_resource(struct otlp_out *o, const char *envelope, const struct otlp_resource *r)
{
    put_fmt(o, "{\"resource%s\":[{\"resource\":{\"attributes\":[", envelope);
    put_string_attribute(o, "service.name", r->name);
    put_text(o, ",");
    put_string_attribute(o, "service.version", r->version);
    put_text(o, ",");
    put_string_attribute(o, "service.instance.id", r->instance);
    put_fmt(o, "]},\"scope%s\":[", envelope);
}

/* --- logs --- */

void otlp_logs_begin(struct otlp_logs *l, struct buf *out, const struct otlp_resource *r)
{
    *l = (struct otlp_logs){.out = {.buf = out}};
    put_resource(&l->out, "Logs", r);
}

static bool same_key(const struct kv_pair *a, const struct kv_pair *b)
{
    return a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0;
}

static bool seen_before(const struct kv *kv, const struct kv_pair *pair)
{
    struct kv_pair other;
    for (uint32_t pos = 0; kv_next(kv, &pos, &other) && other.key != pair->key;)
        if (same_key(&other, pair))
            return true;
    return false;
}

static void put_string_value(struct otlp_out *o, const char *before, const struct kv_pair *pair, bool *whole)
{
    put_text(o, before);
    put_text(o, "{\"stringValue\":");
    *whole &= put_string_n(o, pair->val, pair->val_len, LOG_VALUE_MAX);
    put_text(o, "}");
}

/* A kvlist with an array of strings a key, as the log line has it: {"a":["1","2"]}. */
static bool put_pairs(struct otlp_out *o, const struct kv *kv)
{
    struct kv_pair pair, more;
    bool whole = true;
    const char *before = "";
    put_text(o, "{\"kvlistValue\":{\"values\":[");
    for (uint32_t pos = 0; kv_next(kv, &pos, &pair);) {
        if (seen_before(kv, &pair))
            continue;
        put_text(o, before);
        before = ",";
        put_text(o, "{\"key\":");
        put_string_n(o, pair.key, pair.key_len, LOG_VALUE_MAX);
        put_text(o, ",\"value\":{\"arrayValue\":{\"values\":[");
        put_string_value(o, "", &pair, &whole);
        for (uint32_t at = pos; kv_next(kv, &at, &more);)
            if (same_key(&more, &pair))
                put_string_value(o, ",", &more, &whole);
        put_text(o, "]}}}");
    }
    put_text(o, "]}}");
    return whole;
}

static bool absent(const struct log_field *f)
{
    return (f->kind == LOG_FIELD_STRING && !f->string) || (f->kind == LOG_FIELD_PAIRS && !f->pairs);
}

/* False when a part of the value was left out. */
static bool put_field(struct otlp_out *o, const char *before, const struct log_field *f)
{
    bool whole = true;
    put_text(o, before);
    put_text(o, "{\"key\":");
    put_string(o, f->key);
    put_text(o, ",\"value\":");
    if (f->kind == LOG_FIELD_NUMBER) {
        put_fmt(o, "{\"intValue\":\"%" PRId64 "\"}", f->number);
    } else if (f->kind == LOG_FIELD_PAIRS) {
        whole = put_pairs(o, f->pairs);
    } else {
        put_text(o, "{\"stringValue\":");
        whole = put_string(o, f->string);
        put_text(o, "}");
    }
    put_text(o, "}");
    return whole;
}

/* `start` is the length of the buffer in front of the record. */
static void put_fields(struct otlp_out *o, const struct log_field *fields, size_t start)
{
    const char *before = "";
    bool whole = true;
    put_text(o, ",\"attributes\":[");
    for (const struct log_field *f = fields; f && f->kind != LOG_FIELD_END; f++) {
        if (absent(f))
            continue;
        size_t length = buf_len(o->buf);
        bool complete = put_field(o, before, f);
        if (buf_len(o->buf) - start > OTLP_RECORD_MAX - TRUNCATED_MAX) {
            cut(o, length);
            whole = false;
            continue; /* the next one may fit */
        }
        whole = whole && complete;
        before = ",";
    }
    if (!whole) {
        put_text(o, before);
        put_text(o, "{\"key\":\"truncated\",\"value\":{\"boolValue\":true}}");
    }
    put_text(o, "]");
}

static const char *scope_of(const struct log_field *fields, const char *otherwise)
{
    for (const struct log_field *f = fields; f && f->kind != LOG_FIELD_END; f++)
        if (f->kind == LOG_FIELD_STRING && f->string &&
            (strcmp(f->key, "module") == 0 || strcmp(f->key, "component") == 0))
            return f->string;
    return otherwise;
}

bool otlp_logs_record(struct otlp_logs *l, const char *scope, enum log_level level, int64_t wall_ns,
                      const char *msg, const struct log_field *fields)
{
    /* logs.proto, SeverityNumber: the lowest of each range. */
    static const struct {
        int number;
        const char *text;
    } severity[] = {[LOG_LEVEL_DEBUG] = {5, "DEBUG"},
                    [LOG_LEVEL_INFO] = {9, "INFO"},
                    [LOG_LEVEL_WARN] = {13, "WARN"},
                    [LOG_LEVEL_ERROR] = {17, "ERROR"}};
    struct otlp_out *o = &l->out;
    char name[OTLP_SCOPE_MAX];
    snprintf(name, sizeof name, "%s", scope_of(fields, scope));
    if (o->failed)
        return false;
    size_t start = buf_len(o->buf);
    if (strcmp(l->scope, name) != 0 || l->records == 0) {
        put_text(o, l->records ? "]},{\"scope\":{\"name\":" : "{\"scope\":{\"name\":");
        put_string(o, name);
        put_text(o, "},\"logRecords\":[");
    } else {
        put_text(o, ",");
    }
    put_fmt(o,
            "{\"timeUnixNano\":\"%" PRId64 "\",\"observedTimeUnixNano\":\"%" PRId64
            "\",\"severityNumber\":%d,\"severityText\":\"%s\",\"body\":{\"stringValue\":",
            wall_ns, wall_ns, severity[level].number, severity[level].text);
    put_string(o, msg);
    put_text(o, "}");
    put_fields(o, fields, start);
    put_text(o, "}");
    if (o->failed) {
        cut(o, start);
        o->failed = false;
        return false;
    }
    memcpy(l->scope, name, sizeof name);
    l->records++;
    return true;
}

void otlp_logs_end(struct otlp_logs *l)
{
    put_text(&l->out, l->records ? "]}]}]}" : "]}]}");
}

/* --- metrics --- */

static bool has_suffix(const char *text, size_t n, const char *suffix)
{
    size_t len = strlen(suffix);
    return n >= len && memcmp(text + n - len, suffix, len) == 0;
}

/* UCUM, from the name: our names end in their base unit, or in that and _total. */
static const char *unit_of(const char *name)
{
    size_t n = strlen(name);
    if (has_suffix(name, n, "_total"))
        n -= strlen("_total");
    return has_suffix(name, n, "_seconds") ? "s" : has_suffix(name, n, "_bytes") ? "By" : NULL;
}

static void close_family(struct otlp_metrics *m)
{
    if (m->open)
        put_text(&m->out, "]}}");
    m->open = false;
}

static void end_body(struct otlp_metrics *m)
{
    close_family(m);
    if (m->begun)
        put_text(&m->out, "]}]}]}");
    m->begun = false;
}

void otlp_metrics_begin(struct otlp_metrics *m, struct buf *out, const struct otlp_resource *r,
                        const char *scope, int64_t start_ns, int64_t now_ns)
{
    /* A clock that was set back must not make an interval that ends before it begins. */
    *m = (struct otlp_metrics){.out = {.buf = out},
                               .resource = r,
                               .scope = scope,
                               .start_ns = start_ns,
                               .now_ns = now_ns < start_ns ? start_ns : now_ns};
    snprintf(m->times_text, sizeof m->times_text,
             ",\"startTimeUnixNano\":\"%" PRId64 "\",\"timeUnixNano\":\"%" PRId64 "\"", m->start_ns,
             m->now_ns);
    m->now_text = strchr(m->times_text + 1, ',');
}

void otlp_metrics_family(struct otlp_metrics *m, const char *name, enum metrics_type type, const char *help)
{
    close_family(m);
    m->name = name;
    m->type = type;
    m->help = help;
}

static void open_body(struct otlp_metrics *m)
{
    put_resource(&m->out, "Metrics", m->resource);
    put_text(&m->out, "{\"scope\":{\"name\":");
    put_string(&m->out, m->scope);
    put_text(&m->out, "},\"metrics\":[");
    m->begun = true;
    m->points = 0;
}

static void open_family(struct otlp_metrics *m)
{
    struct otlp_out *o = &m->out;
    const char *unit = unit_of(m->name);
    put_text(o, m->points ? ",{\"name\":" : "{\"name\":");
    put_string(o, m->name);
    put_text(o, ",\"description\":");
    put_string(o, m->help);
    if (unit)
        put_fmt(o, ",\"unit\":\"%s\"", unit);
    /* metrics.proto, AggregationTemporality: 2 is CUMULATIVE. */
    if (m->type == METRICS_COUNTER)
        put_text(o, ",\"sum\":{\"aggregationTemporality\":2,\"isMonotonic\":true,\"dataPoints\":[");
    else if (m->type == METRICS_HISTOGRAM)
        put_text(o, ",\"histogram\":{\"aggregationTemporality\":2,\"dataPoints\":[");
    else
        put_text(o, ",\"gauge\":{\"dataPoints\":[");
    m->open = true;
}

/* Up to the value. False: the point is left out. */
static bool begin_point(struct otlp_metrics *m, const struct metrics_label *labels)
{
    struct otlp_out *o = &m->out;
    const char *before = "";
    if (m->stopped) {
        m->skipped++;
        return false;
    }
    if (!m->begun)
        open_body(m);
    if (!m->open)
        open_family(m);
    else
        put_text(o, ",");
    put_text(o, "{\"attributes\":[");
    for (const struct metrics_label *l = labels; l->name; l++) {
        put_text(o, before);
        put_string_attribute(o, l->name, l->value);
        before = ",";
    }
    put_text(o, "]");
    put_text(o, m->type == METRICS_GAUGE ? m->now_text : m->times_text);
    return true;
}

static void end_point(struct otlp_metrics *m)
{
    put_text(&m->out, "}");
    m->points++;
    if (m->limit > 0 && buf_len(m->out.buf) >= m->limit && !m->out.failed) {
        end_body(m);
        m->stopped = !m->full(m->arg, m);
        m->points = 0;
    }
}

void otlp_metrics_int(struct otlp_metrics *m, int64_t value, const struct metrics_label *labels)
{
    if (!begin_point(m, labels))
        return;
    put_text(&m->out, ",\"asInt\":\"");
    put_decimal(&m->out, value);
    put_text(&m->out, "\"");
    end_point(m);
}

void otlp_metrics_seconds(struct otlp_metrics *m, int64_t ns, const struct metrics_label *labels)
{
    char text[METRICS_SECONDS_MAX];
    if (!begin_point(m, labels))
        return;
    put_fmt(&m->out, ",\"asDouble\":%s", metrics_seconds_text(ns, text));
    end_point(m);
}

void otlp_metrics_histogram(struct otlp_metrics *m, const struct metrics_histogram *h,
                            const struct metrics_label *labels)
{
    struct otlp_out *o = &m->out;
    char text[METRICS_SECONDS_MAX];
    uint64_t total = 0;
    if (!begin_point(m, labels))
        return;
    put_text(o, ",\"bucketCounts\":[");
    for (size_t i = 0; i <= h->n_bounds; i++) { /* each bucket alone, unlike in Prometheus' format */
        put_fmt(o, "%s\"%" PRIu64 "\"", i > 0 ? "," : "", h->counts[i]);
        total += h->counts[i];
    }
    put_text(o, "],\"explicitBounds\":[");
    for (size_t i = 0; i < h->n_bounds; i++)
        put_fmt(o, "%s%s", i > 0 ? "," : "", metrics_seconds_text(h->bounds_ns[i], text));
    put_fmt(o, "],\"count\":\"%" PRIu64 "\",\"sum\":%s", total, metrics_seconds_text(h->sum_ns, text));
    end_point(m);
}

void otlp_metrics_end(struct otlp_metrics *m)
{
    end_body(m);
}
