#include "net/tcp_race.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct runner {
    struct tcp_race *race;
    struct addr addr;
    int fd; /* -1: not started, or out */
    int errnum;
    struct err refused; /* by prepare(); empty: it was not */
    struct loop_watch *watch;
};

struct tcp_race {
    struct loop *loop;
    size_t n, started, running;
    struct loop_timer *timer;
    struct runner *winner; /* its connection was up at once; `won` tells */
    struct loop_task won;
    tcp_race_prepare *prepare;
    tcp_race_done *done;
    void *arg;
    struct runner runners[]; /* n of them */
};

static void drop(struct runner *run)
{
    loop_watch_free(run->watch);
    run->watch = NULL;
    if (run->fd >= 0)
        close(run->fd);
    run->fd = -1;
}

void tcp_race_cancel(struct tcp_race *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        drop(&r->runners[i]);
    loop_timer_free(r->timer);
    loop_task_cancel(&r->won);
    free(r);
}

void tcp_race_describe(const struct tcp_race *r, struct err *e)
{
    size_t at = 0;
    e->text[0] = 0;
    for (size_t i = 0; i < r->started && at < sizeof e->text; i++) {
        char text[ADDR_TEXT_MAX];
        const struct runner *run = &r->runners[i];
        at += (size_t)snprintf(e->text + at, sizeof e->text - at, "%s%s: %s", i ? "; " : "",
                               addr_text(&run->addr, text),
                               run->refused.text[0] ? run->refused.text
                               : run->errnum        ? strerror(run->errnum)
                                                    : "no answer");
    }
}

static void on_event(void *arg, unsigned events);

/*
 * Whether the connection is up, or under way (EINPROGRESS, EALREADY). One that stays within the host is up when connect()
 * returns, which says EINPROGRESS all the same; asking a second time spares the waiting for it.
 */
static bool connect_at_once(int fd, const struct sockaddr *to, socklen_t len)
{
    return connect(fd, to, len) == 0 || (errno == EINPROGRESS && connect(fd, to, len) == 0);
}

static bool start_one(struct tcp_race *r, struct runner *run)
{
    struct sockaddr_storage ss;
    struct err e;
    socklen_t len = addr_to_sockaddr(&run->addr, &ss);
    run->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (run->fd >= 0 && r->prepare && !r->prepare(r->arg, run->fd, &run->addr, &run->refused)) {
        drop(run);
        return false;
    }
    bool up = run->fd >= 0 && connect_at_once(run->fd, (struct sockaddr *)&ss, len);
    if (run->fd < 0 || (!up && errno != EINPROGRESS && errno != EALREADY)) {
        run->errnum = errno;
        drop(run);
        return false;
    }
    if (up) {
        r->winner = run;
        loop_task_defer(&r->won);
        r->running++;
        return true;
    }
    run->watch = loop_watch_new(r->loop, run->fd, LOOP_WRITE, on_event, run, &e);
    if (!run->watch) {
        run->errnum = ENOMEM;
        drop(run);
        return false;
    }
    r->running++;
    return true;
}

/* The next runner, if there is one. The end of a race is told from a task, or the timer when nobody can win it, so that it
 * never comes from inside tcp_race_start(). */
static void start_next(struct tcp_race *r)
{
    while (r->started < r->n)
        if (start_one(r, &r->runners[r->started++])) {
            if (r->started < r->n)
                loop_timer_start(r->timer, TCP_RACE_DELAY_MS, 0);
            return;
        }
    if (r->running == 0)
        loop_timer_start(r->timer, 0, 0);
}

static void win(struct runner *run)
{
    struct tcp_race *r = run->race;
    int fd = run->fd;
    run->fd = -1;
    tcp_race_done *done = r->done;
    void *done_arg = r->arg;
    /* The watch goes before the descriptor gets its next one. */
    tcp_race_cancel(r);
    done(done_arg, fd, NULL);
}

static void on_won(void *arg)
{
    win(((struct tcp_race *)arg)->winner);
}

static void on_event(void *arg, unsigned events)
{
    struct runner *run = arg;
    struct tcp_race *r = run->race;
    (void)events;
    int errnum = 0;
    socklen_t len = sizeof errnum;
    if (getsockopt(run->fd, SOL_SOCKET, SO_ERROR, &errnum, &len) != 0)
        errnum = errno;
    if (errnum != 0) {
        run->errnum = errnum;
        drop(run);
        r->running--;
        start_next(r);
        return;
    }
    win(run);
}

static void on_timer(void *arg)
{
    struct tcp_race *r = arg;
    if (r->started < r->n || r->running > 0) {
        start_next(r);
        return;
    }
    struct err why;
    tcp_race_describe(r, &why);
    tcp_race_done *done = r->done;
    void *done_arg = r->arg;
    tcp_race_cancel(r);
    done(done_arg, -1, &why);
}

/* The families by turns, beginning with that of the first address; the order within a family stays. */
static void line_up(struct tcp_race *r, const struct addr *addrs, size_t n)
{
    bool taken[TCP_RACE_ADDRS_MAX] = {false};
    uint8_t family = addrs[0].family;
    while (r->n < n) {
        size_t pick = n;
        for (size_t i = 0; i < n; i++) {
            if (taken[i])
                continue;
            if (pick == n)
                pick = i; /* also when the family has run out */
            if (addrs[i].family == family) {
                pick = i;
                break;
            }
        }
        taken[pick] = true;
        family = addrs[pick].family == 4 ? 6 : 4;
        r->runners[r->n++] = (struct runner){.race = r, .addr = addrs[pick], .fd = -1};
    }
}

struct tcp_race *tcp_race_start(struct loop *loop, const struct addr *addrs, size_t n, tcp_race_done *done,
                                void *arg)
{
    return tcp_race_start_prepared(loop, addrs, n, NULL, done, arg);
}

struct tcp_race *tcp_race_start_prepared(struct loop *loop, const struct addr *addrs, size_t n,
                                         tcp_race_prepare *prepare, tcp_race_done *done, void *arg)
{
    n = n < TCP_RACE_ADDRS_MAX ? n : TCP_RACE_ADDRS_MAX;
    struct tcp_race *r = calloc(1, sizeof *r + n * sizeof r->runners[0]);
    if (!r)
        return NULL;
    r->loop = loop;
    r->prepare = prepare;
    r->done = done;
    r->arg = arg;
    line_up(r, addrs, n);
    r->timer = loop_timer_new(loop, on_timer, r);
    loop_task_init(&r->won, loop, on_won, r);
    start_next(r);
    return r;
}
