#ifndef KBGP_BASE_LOG_H
#define KBGP_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/kv.h"

/*
 * Log records: a level, a message that is a constant sentence, and fields. Written to stderr, one line each,
 * as JSON (keys `time`, `level`, `message`, then the fields) or as text for people:
 *
 *     2022-05-05T20:01:43Z INF opening Data stream device=… local-addr=…
 *
 * Whatever comes from outside goes into a field, never into the message. A secret goes nowhere: there is no
 * field kind that could carry one, and call metadata is redacted before it is logged (relay/meta).
 */
enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

enum log_kind { LOG_FIELD_END, LOG_FIELD_STRING, LOG_FIELD_NUMBER, LOG_FIELD_PAIRS };

struct log_field {
    const char *key;
    enum log_kind kind;
    union {
        const char *string; /* any bytes up to the NUL; invalid UTF-8 and control characters are escaped */
        int64_t number;
        const struct kv *pairs; /* an object of arrays of strings, keys in order: {"a":["1","2"],"b":["3"]} */
    };
};

#define LOG_STR(k, v)   ((struct log_field){.key = (k), .kind = LOG_FIELD_STRING, .string = (v)})
#define LOG_NUM(k, v)   ((struct log_field){.key = (k), .kind = LOG_FIELD_NUMBER, .number = (int64_t)(v)})
#define LOG_PAIRS(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_PAIRS, .pairs = (v)})
#define LOG_END_FIELD   ((struct log_field){.kind = LOG_FIELD_END})

/*
 * log_info("message", LOG_STR("peer-addr", text), LOG_NUM("ttl_seconds", 1200)); a message alone is fine too.
 */
#define log_debug(msg, ...) log_at(LOG_LEVEL_DEBUG, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_info(msg, ...)  log_at(LOG_LEVEL_INFO, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_warn(msg, ...)  log_at(LOG_LEVEL_WARN, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_error(msg, ...) log_at(LOG_LEVEL_ERROR, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_at(level, msg, ...)                                                                              \
    log_write(level, msg, (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ) LOG_END_FIELD})

/*
 * `fields` ends with LOG_END_FIELD. A field whose string or pairs is NULL is left out. `msg` is a constant.
 * errno is kept.
 *
 * A line that repeats (same level, message and string fields) is written 10 times in 10 s at most; later one
 * line says how many were held back. Debug lines are never held back.
 */
void log_write(enum log_level level, const char *msg, const struct log_field *fields);

/* "debug", "info", "warn" ("warning"), "error". False for another word. */
bool log_level_parse(const char *text, enum log_level *out);
const char *log_level_name(enum log_level level);

/*
 * `service` goes into every record as the field `service` (NULL: none). `human` chooses text. Before the
 * first call records are JSON at level info.
 */
void log_init(const char *service, bool human, enum log_level level);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/*
 * Tells what was held back in windows that are over (`all`: in every window). log_write() does so in passing;
 * call it from a timer every few seconds for the quiet times, and with `all` before the program ends.
 */
void log_flush_held(bool all);

/* Records written so far at a level. */
uint64_t log_count(enum log_level level);

/*
 * A second reader of every record that is written (the export). Called with the message and the fields; it
 * copies what it keeps. Records written while it runs are not handed to it. NULL: none.
 */
typedef void log_tap(void *arg, enum log_level level, int64_t wall_ns, const char *msg,
                     const struct log_field *fields);
void log_set_tap(log_tap *tap, void *arg);

#endif
