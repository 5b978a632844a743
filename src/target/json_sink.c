#include "target/json_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "target/jsonl.h"

/* Held at most, plus what one UPDATE makes; then routers wait. */
#define FULL (4u << 20)
/* How soon to try a disk again that refused a write. */
#define RETRY_MS 1000

struct json_sink {
    struct loop *loop;
    char *path;
    int fd;
    bool failing; /* the last write failed, and that was logged */
    struct buf buf;
    struct loop_task write;
    struct loop_watch *watch; /* of a pipe; a file is always ready */
    struct loop_timer *retry;
    void (*room)(void *arg);
    void *room_arg;
    bool was_full;
};

static void write_lines(void *arg)
{
    struct json_sink *s = arg;
    while (buf_len(&s->buf) > 0) {
        ssize_t n = write(s->fd, buf_begin(&s->buf), buf_len(&s->buf));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && s->watch) {
            loop_watch_set(s->watch, LOOP_WRITE);
            break;
        }
        if (n < 0) {
            if (!s->failing)
                log_error("cannot write the collector's JSON, routers wait until it works again",
                          LOG_STR("file", s->path), LOG_STR("error", strerror(errno)));
            s->failing = true;
            loop_timer_start(s->retry, RETRY_MS, 0);
            break;
        }
        if (s->failing)
            log_info("the collector's JSON is written again", LOG_STR("file", s->path));
        s->failing = false;
        buf_take(&s->buf, (size_t)n);
    }
    if (buf_len(&s->buf) == 0) {
        if (s->watch)
            loop_watch_set(s->watch, 0);
        if (s->buf.cap > 64u << 10)
            buf_free(&s->buf);
    }
    if (s->was_full && !json_sink_full(s)) {
        s->was_full = false;
        if (s->room)
            s->room(s->room_arg);
    }
}

static void on_writable(void *arg, unsigned events)
{
    (void)events;
    write_lines(arg);
}

static int open_file(const char *path, struct err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0640);
    if (fd < 0)
        err_set(e, "--collector-json %s: %s", path, strerror(errno));
    return fd;
}

struct json_sink *json_sink_new(struct loop *loop, const char *path, struct err *e)
{
    struct json_sink *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        err_set(e, "out of memory");
        return NULL;
    }
    s->loop = loop;
    s->fd = strcmp(path, "-") == 0 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) : open_file(path, e);
    if (s->fd < 0) {
        if (strcmp(path, "-") == 0)
            err_set(e, "--collector-json -: stdout is closed");
        free(s->path);
        free(s);
        return NULL;
    }
    loop_task_init(&s->write, loop, write_lines, s);
    s->retry = loop_timer_new(loop, write_lines, s);
    struct stat st;
    struct err ignored;
    if (fstat(s->fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK);
        /* What cannot be watched (/dev/null) never makes anybody wait. */
        s->watch = loop_watch_new(loop, s->fd, 0, on_writable, s, &ignored);
    }
    return s;
}

void json_sink_free(struct json_sink *s)
{
    if (!s)
        return;
    write_lines(s);
    if (buf_len(&s->buf) > 0)
        log_warn("JSON lines are lost: they could not be written before the end", LOG_STR("file", s->path),
                 LOG_NUM("bytes", buf_len(&s->buf)));
    loop_task_cancel(&s->write);
    loop_watch_free(s->watch);
    loop_timer_free(s->retry);
    close(s->fd);
    buf_free(&s->buf);
    free(s->path);
    free(s);
}

void json_sink_event(void *sink, const struct collector_event *event)
{
    struct json_sink *s = sink;
    if (!jsonl_append(&s->buf, event, clock_wall_ns()))
        log_error("out of memory: a JSON line is lost", LOG_STR("file", s->path));
    if (json_sink_full(s))
        s->was_full = true;
    loop_task_defer(&s->write);
}

bool json_sink_full(const struct json_sink *s)
{
    return buf_len(&s->buf) >= FULL;
}

void json_sink_on_room(struct json_sink *s, void (*room)(void *arg), void *arg)
{
    s->room = room;
    s->room_arg = arg;
}

bool json_sink_reopen(struct json_sink *s, struct err *e)
{
    if (strcmp(s->path, "-") == 0 || s->watch)
        return true;
    int fd = open_file(s->path, e);
    if (fd < 0)
        return false;
    close(s->fd);
    s->fd = fd;
    return true;
}
