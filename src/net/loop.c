#include "net/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

#define LAG_PERIOD_MS 100
#define LAG_SLOTS     50 /* the lag that is told is the worst of the last 5 s */
/* The pulse beats every so many of these periods, and so costs no wake-up of its own. */
#define PULSE_PERIODS 10
/*
 * A timer has a handle of libuv's, which is five times its size, only while it runs: most stand still nearly always. So many
 * handles wait for the next timer that starts; libuv frees one in a turn of its own.
 */
#define SPARE_HANDLES 64
/* Ready descriptors taken at once; more come in the next turn, before anything that sleeps. */
#define BATCH 512

/*
 * Descriptors are waited for by an epoll of our own: libuv takes a descriptor out of its epoll and puts it in again for
 * every change, which is a third of the system calls of a short session, and a uv_poll_t is four times as large as what is needed.
 * libuv's own loop, with the timers and signals, is run when a timer is due or one of its descriptors is ready: its epoll
 * is a descriptor in ours.
 */
struct loop {
    uv_loop_t uv;
    uv_timer_t lag_timer;
    int epoll;
    bool stopping;
    bool uv_ready; /* libuv's loop must be run, whatever its timers say */
    struct list tasks;
    uv_timer_t *spare_handles; /* the `data` of one is the next one */
    unsigned n_spare_handles;
    struct epoll_event batch[BATCH];
    int batch_at, batch_n; /* batch[batch_at] is being told of */
    int64_t lag_due_ms;
    uint32_t lag[LAG_SLOTS];
    unsigned lag_at;
    struct list pulses;
    unsigned pulse_in; /* periods until the next beat */
};

struct loop_timer {
    struct loop *loop;
    void (*cb)(void *arg);
    void *arg;
    uv_timer_t *handle; /* its `data` is the timer; NULL: it does not run */
};

/* libuv hands memory of a handle back in a close callback. All our handles are the first member of what is freed. */
static void on_closed(uv_handle_t *h)
{
    free(h);
}

/* For walking a list whose members may go, and come, while each is seen to: all of `from`, which is empty then. */
static void take_all(struct list *from, struct list *to)
{
    list_init(to);
    while (!list_empty(from)) {
        struct list *node = from->next;
        list_remove(node);
        list_append(to, node);
    }
}

static void run_tasks(struct loop *loop)
{
    /* A task deferred by a running task waits for the next turn: one busy connection must not starve the rest. */
    struct list now;
    take_all(&loop->tasks, &now);
    while (!list_empty(&now)) {
        struct loop_task *t = LIST_ITEM(now.next, struct loop_task, node);
        list_remove(&t->node);
        t->run(t->arg);
    }
}

static void beat(struct loop *loop)
{
    struct list now;
    take_all(&loop->pulses, &now);
    while (!list_empty(&now)) {
        struct loop_pulse *p = LIST_ITEM(now.next, struct loop_pulse, node);
        list_remove(&p->node);
        list_append(&loop->pulses, &p->node); /* before the call, which may free it */
        p->beat(p->arg);
    }
}

static void on_lag_timer(uv_timer_t *h)
{
    struct loop *loop = h->data;
    int64_t now = (int64_t)(uv_hrtime() / 1000000);
    int64_t late = now - loop->lag_due_ms;
    loop->lag_at = (loop->lag_at + 1) % LAG_SLOTS;
    loop->lag[loop->lag_at] = late > 0 ? (uint32_t)late : 0;
    loop->lag_due_ms = now + LAG_PERIOD_MS;
    if (--loop->pulse_in == 0) {
        loop->pulse_in = PULSE_PERIODS;
        beat(loop);
    }
}

struct loop *loop_new(struct err *e)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop) {
        err_set(e, "out of memory");
        return NULL;
    }
    int rc = uv_loop_init(&loop->uv);
    if (rc < 0) {
        err_set(e, "event loop: %s", uv_strerror(rc));
        free(loop);
        return NULL;
    }
    list_init(&loop->tasks);
    list_init(&loop->pulses);
    loop->pulse_in = PULSE_PERIODS;
    /* What is told of libuv's epoll has no watch: NULL. */
    struct epoll_event ev = {.events = EPOLLIN};
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll < 0 || epoll_ctl(loop->epoll, EPOLL_CTL_ADD, uv_backend_fd(&loop->uv), &ev) != 0) {
        err_set(e, "event loop: epoll: %s", strerror(errno));
        if (loop->epoll >= 0)
            close(loop->epoll);
        uv_loop_close(&loop->uv);
        free(loop);
        return NULL;
    }
    uv_timer_init(&loop->uv, &loop->lag_timer);
    loop->lag_timer.data = loop;
    loop->lag_due_ms = (int64_t)(uv_hrtime() / 1000000) + LAG_PERIOD_MS;
    uv_timer_start(&loop->lag_timer, on_lag_timer, LAG_PERIOD_MS, LAG_PERIOD_MS);
    return loop;
}

/* Timers that are due, handles that were closed, signals. */
static void run_uv(struct loop *loop)
{
    uv_update_time(&loop->uv);
    if (!loop->uv_ready && uv_backend_timeout(&loop->uv) != 0)
        return;
    loop->uv_ready = false;
    uv_run(&loop->uv, UV_RUN_NOWAIT);
}

/* Tells the watches; the time stands still meanwhile, as loop_now_ms() promises. */
static void wait_and_tell(struct loop *loop);

void loop_run(struct loop *loop)
{
    loop->uv_ready = true; /* it may not wait yet for what was begun before */
    while (!loop->stopping) {
        run_uv(loop);
        run_tasks(loop);
        wait_and_tell(loop);
        run_tasks(loop);
    }
    loop->stopping = false; /* it may be run again */
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    uv_close((uv_handle_t *)&loop->lag_timer, NULL);
    while (loop->spare_handles) {
        uv_timer_t *h = loop->spare_handles;
        loop->spare_handles = h->data;
        uv_close((uv_handle_t *)h, on_closed);
    }
    /* Closing is finished in the loop: handles freed by their owners a moment ago wait here too. */
    while (uv_run(&loop->uv, UV_RUN_NOWAIT) != 0)
        ;
    uv_loop_close(&loop->uv);
    close(loop->epoll);
    free(loop);
}

int64_t loop_now_ms(const struct loop *loop)
{
    return (int64_t)uv_now(&loop->uv);
}

int64_t loop_lag_ms(const struct loop *loop)
{
    int64_t worst = (int64_t)(uv_hrtime() / 1000000) - loop->lag_due_ms;
    if (worst < 0)
        worst = 0;
    for (unsigned i = 0; i < LAG_SLOTS; i++)
        if (loop->lag[i] > worst)
            worst = loop->lag[i];
    return worst;
}

/* --- timers --- */

struct loop_timer *loop_timer_new(struct loop *loop, void (*cb)(void *arg), void *arg)
{
    struct loop_timer *t = calloc(1, sizeof *t);
    if (!t)
        abort(); /* a few bytes: nothing sensible can go on without */
    t->loop = loop;
    t->cb = cb;
    t->arg = arg;
    return t;
}

static uv_timer_t *take_handle(struct loop *loop)
{
    uv_timer_t *h = loop->spare_handles;
    if (h) {
        loop->spare_handles = h->data;
        loop->n_spare_handles--;
        return h;
    }
    h = malloc(sizeof *h);
    if (!h)
        abort();
    uv_timer_init(&loop->uv, h);
    return h;
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_t *h = t->handle;
    struct loop *loop = t->loop;
    if (!h)
        return;
    t->handle = NULL;
    uv_timer_stop(h);
    if (loop->n_spare_handles >= SPARE_HANDLES) {
        uv_close((uv_handle_t *)h, on_closed);
        return;
    }
    h->data = loop->spare_handles;
    loop->spare_handles = h;
    loop->n_spare_handles++;
}

static void on_timer(uv_timer_t *h)
{
    struct loop_timer *t = h->data;
    if (uv_timer_get_repeat(h) == 0)
        loop_timer_stop(t); /* before the call, which may start or free it */
    t->cb(t->arg);
}

void loop_timer_start(struct loop_timer *t, int64_t ms, int64_t repeat_ms)
{
    if (!t->handle) {
        t->handle = take_handle(t->loop);
        t->handle->data = t;
    }
    uv_timer_start(t->handle, on_timer, ms > 0 ? (uint64_t)ms : 0, (uint64_t)repeat_ms);
}

bool loop_timer_active(const struct loop_timer *t)
{
    return t->handle != NULL;
}

void loop_timer_free(struct loop_timer *t)
{
    if (!t)
        return;
    loop_timer_stop(t);
    free(t);
}

/* --- descriptors --- */

struct loop_watch {
    struct loop *loop;
    void (*cb)(void *arg, unsigned events);
    void *arg;
    int fd;
    unsigned events;
};

/*
 * Who waits for nothing stays registered, edge-triggered: errors, which epoll always tells, come once then and are
 * dropped, and waiting again finds out about them.
 */
static struct epoll_event interest(struct loop_watch *w)
{
    uint32_t events = (w->events & LOOP_READ ? EPOLLIN : 0u) | (w->events & LOOP_WRITE ? EPOLLOUT : 0u);
    return (struct epoll_event){.events = events ? events : EPOLLET, .data.ptr = w};
}

static void tell(struct loop_watch *w, uint32_t events)
{
    unsigned ev = 0;
    if (w->events == 0)
        return;
    if (events & EPOLLERR) {
        /*
         * The owner finds the errno with its next call, or with a later one where bytes lie in front of it (a NOTIFICATION,
         * then a reset): so it is told again until it ends the watch.
         */
        ev = LOOP_READ | LOOP_WRITE | LOOP_GONE;
    } else if (events == EPOLLHUP) {
        ev = w->events;
    } else {
        ev = (events & EPOLLIN ? LOOP_READ : 0u) | (events & EPOLLOUT ? LOOP_WRITE : 0u);
    }
    if (ev != 0)
        w->cb(w->arg, ev);
}

static void wait_and_tell(struct loop *loop)
{
    int timeout =
        list_empty(&loop->tasks) && !loop->uv_ready && !loop->stopping ? uv_backend_timeout(&loop->uv) : 0;
    int n = epoll_wait(loop->epoll, loop->batch, BATCH, timeout);
    uv_update_time(&loop->uv);
    loop->batch_n = n > 0 ? n : 0; /* < 0: a signal, which libuv's loop is about to hear of */
    for (loop->batch_at = 0; loop->batch_at < loop->batch_n; loop->batch_at++) {
        struct epoll_event *ev = &loop->batch[loop->batch_at];
        if (ev->data.ptr)
            tell(ev->data.ptr, ev->events);
        else if (ev->events != 0)
            loop->uv_ready = true;
    }
    loop->batch_n = 0;
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned events,
                                  void (*cb)(void *arg, unsigned events), void *arg, struct err *e)
{
    struct loop_watch *w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, "out of memory");
        return NULL;
    }
    w->loop = loop;
    w->cb = cb;
    w->arg = arg;
    w->fd = fd;
    w->events = events;
    struct epoll_event ev = interest(w);
    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
        err_set(e, "watching descriptor %d: %s", fd, strerror(errno));
        free(w);
        return NULL;
    }
    return w;
}

void loop_watch_set(struct loop_watch *w, unsigned events)
{
    if (w->events == events)
        return;
    w->events = events;
    struct epoll_event ev = interest(w);
    if (epoll_ctl(w->loop->epoll, EPOLL_CTL_MOD, w->fd, &ev) != 0)
        abort(); /* the descriptor was closed before its watch: whoever waits for it would wait for ever */
}

/* What this turn still had to tell of it is not told. */
static void forget(struct loop_watch *w)
{
    struct loop *loop = w->loop;
    for (int i = loop->batch_at + 1; i < loop->batch_n; i++)
        if (loop->batch[i].data.ptr == w)
            loop->batch[i] = (struct epoll_event){0};
    free(w);
}

int loop_watch_fd(const struct loop_watch *w)
{
    return w->fd;
}

void loop_watch_free(struct loop_watch *w)
{
    if (!w)
        return;
    struct epoll_event unused = {0};
    epoll_ctl(w->loop->epoll, EPOLL_CTL_DEL, w->fd, &unused);
    forget(w);
}

void loop_watch_close(struct loop_watch *w)
{
    if (!w)
        return;
    close(w->fd);
    forget(w);
}

/* --- tasks --- */

void loop_task_init(struct loop_task *t, struct loop *loop, void (*run)(void *arg), void *arg)
{
    list_init(&t->node);
    t->loop = loop;
    t->run = run;
    t->arg = arg;
}

void loop_task_defer(struct loop_task *t)
{
    if (!list_empty(&t->node))
        return;
    list_append(&t->loop->tasks, &t->node);
}

void loop_task_cancel(struct loop_task *t)
{
    list_remove(&t->node);
}

/* --- the pulse --- */

void loop_pulse_start(struct loop_pulse *p, struct loop *loop, void (*beat_cb)(void *arg), void *arg)
{
    list_init(&p->node);
    p->beat = beat_cb;
    p->arg = arg;
    list_append(&loop->pulses, &p->node);
}

void loop_pulse_stop(struct loop_pulse *p)
{
    list_remove(&p->node);
}

/* --- signals --- */

struct loop_signal {
    uv_signal_t uv;
    void (*cb)(void *arg, int signum);
    void *arg;
};

static void on_signal(uv_signal_t *h, int signum)
{
    struct loop_signal *s = h->data;
    s->cb(s->arg, signum);
}

struct loop_signal *loop_signal_new(struct loop *loop, int signum, void (*cb)(void *arg, int signum),
                                    void *arg)
{
    struct loop_signal *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    uv_signal_init(&loop->uv, &s->uv);
    s->uv.data = s;
    s->cb = cb;
    s->arg = arg;
    uv_signal_start(&s->uv, on_signal, signum);
    loop->uv_ready = true; /* libuv begins to wait for it in its next turn */
    return s;
}

void loop_signal_free(struct loop_signal *s)
{
    if (!s)
        return;
    uv_signal_stop(&s->uv);
    uv_close((uv_handle_t *)&s->uv, on_closed);
}
