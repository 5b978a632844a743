#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_format.h"
#include "base/log_limit.h"
#include "base/uuid.h"

/* Room in front of the line for the priority that a journal takes off again: "<6>". */
#define PRIORITY_LEN 3

static struct {
    const char *service;
    bool human, journal;
    enum log_level level;
    uint64_t written[LOG_LEVEL_ERROR + 1];
    log_tap *tap;
    void *tap_arg;
    bool in_tap;
    uint64_t seed;
    struct log_limit limit;
} state = {.level = LOG_LEVEL_INFO};

static const char *const level_names[] = {[LOG_LEVEL_DEBUG] = "debug",
                                          [LOG_LEVEL_INFO] = "info",
                                          [LOG_LEVEL_WARN] = "warn",
                                          [LOG_LEVEL_ERROR] = "error"};

bool log_level_parse(const char *text, enum log_level *out)
{
    if (strcmp(text, "warning") == 0)
        text = "warn";
    for (int i = LOG_LEVEL_DEBUG; i <= LOG_LEVEL_ERROR; i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

/* systemd.exec(5): JOURNAL_STREAM names the device and inode of the stream that goes to the journal. */
static bool stderr_is_journal(void)
{
    const char *text = getenv("JOURNAL_STREAM");
    uintmax_t dev, ino;
    struct stat st;
    return text && sscanf(text, "%ju:%ju", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == dev && st.st_ino == ino;
}

void log_init(const char *service, bool human, enum log_level level)
{
    state.service = service;
    state.human = human;
    state.level = level;
    state.journal = stderr_is_journal();
}

void log_set_level(enum log_level level)
{
    state.level = level;
}

bool log_enabled(enum log_level level)
{
    return level >= state.level;
}

uint64_t log_count(enum log_level level)
{
    return state.written[level];
}

void log_set_tap(log_tap *tap, void *arg)
{
    state.tap = tap;
    state.tap_arg = arg;
}

/* FNV-1a, started from a secret: outsiders must not be able to choose a field that silences another line. */
static uint64_t hash_text(uint64_t h, const char *s)
{
    do {
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
        h ^= h >> 29;
    } while (*s++);
    return h;
}

/*
 * Level, message and all string fields. Numbers stay out: a line that repeats with a growing counter repeats.
 */
static uint64_t kind_of(enum log_level level, const char *msg, const struct log_field *fields)
{
    if (state.seed == 0)
        state.seed = random_u64() | 1;
    uint64_t h = hash_text(state.seed + (uint64_t)level, msg);
    for (const struct log_field *f = fields; f->kind != LOG_FIELD_END; f++)
        if (f->kind == LOG_FIELD_STRING && f->string)
            h = hash_text(hash_text(h, f->key), f->string);
    return h;
}

/*
 * One write a line, so that lines of two processes do not mix. A reader that does not take the line (a full
 * pipe that does not block) loses it: logging never fails and never waits in a loop.
 */
static void write_line(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDERR_FILENO, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        p += done;
        n -= (size_t)done;
    }
}

static void emit(enum log_level level, const char *msg, const struct log_field *fields)
{
    /* syslog priorities: debug 7, informational 6, warning 4, error 3 */
    static const char priority[] = {
        [LOG_LEVEL_DEBUG] = '7', [LOG_LEVEL_INFO] = '6', [LOG_LEVEL_WARN] = '4', [LOG_LEVEL_ERROR] = '3'};
    static char line[PRIORITY_LEN + LOG_LINE_MAX];
    struct log_record r = {
        .level = level, .wall_ns = clock_wall_ns(), .service = state.service, .msg = msg, .fields = fields};
    size_t n =
        state.human ? log_format_text(&r, line + PRIORITY_LEN) : log_format_json(&r, line + PRIORITY_LEN);
    if (state.journal) {
        memcpy(line, (const char[]){'<', priority[level], '>'}, PRIORITY_LEN);
        write_line(line, PRIORITY_LEN + n);
    } else {
        write_line(line + PRIORITY_LEN, n);
    }
    state.written[level]++;
    if (state.tap && !state.in_tap) {
        state.in_tap = true;
        state.tap(state.tap_arg, level, r.wall_ns, msg, fields);
        state.in_tap = false;
    }
}

static void tell_held(const struct log_held *held)
{
    if (held->count > 0)
        emit(held->level, "repeated messages held back",
             (const struct log_field[]){LOG_NUM("count", held->count), LOG_STR("of", held->msg),
                                        LOG_END_FIELD});
}

void log_flush_held(bool all)
{
    struct log_held held;
    while (log_limit_next_held(&state.limit, clock_mono_ms(), all, &held))
        tell_held(&held);
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields)
{
    if (!log_enabled(level))
        return;
    int err = errno; /* so that a log line between a call and the look at its errno is harmless */
    if (level > LOG_LEVEL_DEBUG) {
        struct log_held held;
        bool pass =
            log_limit_pass(&state.limit, kind_of(level, msg, fields), level, msg, clock_mono_ms(), &held);
        tell_held(&held);
        if (!pass) {
            errno = err;
            return;
        }
    }
    emit(level, msg, fields);
    log_flush_held(false);
    errno = err;
}
