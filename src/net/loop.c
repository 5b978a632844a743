#include "net/loop.h"

#include <signal.h>
#include <stdlib.h>
#include <uv.h>

#define LAG_PERIOD_MS 100
#define LAG_SLOTS     50 /* the lag that is told is the worst of the last 5 s */

struct loop {
    uv_loop_t uv;
    uv_prepare_t prepare; /* runs the tasks that timers deferred, before the loop sleeps */
    uv_check_t check;     /* runs the tasks that descriptors deferred, right after them */
    uv_idle_t idle;       /* keeps the loop from sleeping while tasks wait for the next turn */
    uv_timer_t lag_timer;
    struct list tasks;
    int64_t lag_due_ms;
    uint32_t lag[LAG_SLOTS];
    unsigned lag_at;
};

static void on_idle(uv_idle_t *h)
{
    (void)h;
}

static void run_tasks(struct loop *loop)
{
    /* A task deferred by a running task waits for the next turn: one busy connection must not starve the rest. */
    struct list now;
    list_init(&now);
    while (!list_empty(&loop->tasks)) {
        struct list *node = loop->tasks.next;
        list_remove(node);
        list_append(&now, node);
    }
    while (!list_empty(&now)) {
        struct loop_task *t = LIST_ITEM(now.next, struct loop_task, node);
        list_remove(&t->node);
        t->run(t->arg);
    }
    if (list_empty(&loop->tasks))
        uv_idle_stop(&loop->idle);
    else
        uv_idle_start(&loop->idle, on_idle);
}

static void on_prepare(uv_prepare_t *h)
{
    run_tasks(h->data);
}

static void on_check(uv_check_t *h)
{
    run_tasks(h->data);
}

static void on_lag_timer(uv_timer_t *h)
{
    struct loop *loop = h->data;
    int64_t now = (int64_t)(uv_hrtime() / 1000000);
    int64_t late = now - loop->lag_due_ms;
    loop->lag_at = (loop->lag_at + 1) % LAG_SLOTS;
    loop->lag[loop->lag_at] = late > 0 ? (uint32_t)late : 0;
    loop->lag_due_ms = now + LAG_PERIOD_MS;
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
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_check_init(&loop->uv, &loop->check);
    uv_idle_init(&loop->uv, &loop->idle);
    uv_timer_init(&loop->uv, &loop->lag_timer);
    loop->prepare.data = loop->check.data = loop->idle.data = loop->lag_timer.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_check_start(&loop->check, on_check);
    loop->lag_due_ms = (int64_t)(uv_hrtime() / 1000000) + LAG_PERIOD_MS;
    uv_timer_start(&loop->lag_timer, on_lag_timer, LAG_PERIOD_MS, LAG_PERIOD_MS);
    return loop;
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop)
{
    uv_stop(&loop->uv);
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->lag_timer, NULL);
    /* Closing is finished in the loop: handles freed by their owners a moment ago wait here too. */
    while (uv_run(&loop->uv, UV_RUN_NOWAIT) != 0)
        ;
    uv_loop_close(&loop->uv);
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

/* libuv hands memory of a handle back in a close callback. All our handles are the first member of their struct. */
static void on_closed(uv_handle_t *h)
{
    free(h);
}

/* --- timers --- */

struct loop_timer {
    uv_timer_t uv;
    void (*cb)(void *arg);
    void *arg;
};

static void on_timer(uv_timer_t *h)
{
    struct loop_timer *t = h->data;
    t->cb(t->arg);
}

struct loop_timer *loop_timer_new(struct loop *loop, void (*cb)(void *arg), void *arg)
{
    struct loop_timer *t = calloc(1, sizeof *t);
    if (!t)
        abort(); /* a few hundred bytes: nothing sensible can go on without */
    uv_timer_init(&loop->uv, &t->uv);
    t->uv.data = t;
    t->cb = cb;
    t->arg = arg;
    return t;
}

void loop_timer_start(struct loop_timer *t, int64_t ms, int64_t repeat_ms)
{
    uv_timer_start(&t->uv, on_timer, ms > 0 ? (uint64_t)ms : 0, (uint64_t)repeat_ms);
}

void loop_timer_stop(struct loop_timer *t)
{
    uv_timer_stop(&t->uv);
}

bool loop_timer_active(const struct loop_timer *t)
{
    return uv_is_active((const uv_handle_t *)&t->uv) != 0;
}

void loop_timer_free(struct loop_timer *t)
{
    if (!t)
        return;
    uv_timer_stop(&t->uv);
    uv_close((uv_handle_t *)&t->uv, on_closed);
}

/* --- descriptors --- */

struct loop_watch {
    uv_poll_t uv;
    void (*cb)(void *arg, unsigned events);
    void *arg;
    unsigned events;
};

static void on_poll(uv_poll_t *h, int status, int events);

static int watch_events(const struct loop_watch *w)
{
    return (w->events & LOOP_READ ? UV_READABLE : 0) | (w->events & LOOP_WRITE ? UV_WRITABLE : 0);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
    struct loop_watch *w = h->data;
    unsigned ev = 0;
    if (status < 0) {
        /*
         * POLLERR, and libuv has stopped the watch. The owner finds the errno with its next call, or with a later one where
         * bytes lie in front of it (a NOTIFICATION, then a reset): so the watch goes on until the owner ends it.
         */
        ev = LOOP_READ | LOOP_WRITE | LOOP_GONE;
        uv_poll_start(h, watch_events(w), on_poll);
    } else {
        if (events & UV_READABLE)
            ev |= LOOP_READ;
        if (events & UV_WRITABLE)
            ev |= LOOP_WRITE;
        if (events & UV_DISCONNECT)
            ev |= LOOP_GONE;
    }
    w->cb(w->arg, ev);
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, void (*cb)(void *arg, unsigned events),
                                  void *arg, struct err *e)
{
    struct loop_watch *w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, "out of memory");
        return NULL;
    }
    int rc = uv_poll_init(&loop->uv, &w->uv, fd);
    if (rc < 0) {
        err_set(e, "watching descriptor %d: %s", fd, uv_strerror(rc));
        free(w);
        return NULL;
    }
    w->uv.data = w;
    w->cb = cb;
    w->arg = arg;
    return w;
}

void loop_watch_set(struct loop_watch *w, unsigned events)
{
    if (w->events == events)
        return;
    w->events = events;
    if (events == 0)
        uv_poll_stop(&w->uv);
    else
        uv_poll_start(&w->uv, watch_events(w), on_poll);
}

void loop_watch_free(struct loop_watch *w)
{
    if (!w)
        return;
    uv_poll_stop(&w->uv);
    uv_close((uv_handle_t *)&w->uv, on_closed);
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
    uv_idle_start(&t->loop->idle, on_idle);
}

void loop_task_cancel(struct loop_task *t)
{
    list_remove(&t->node);
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
    return s;
}

void loop_signal_free(struct loop_signal *s)
{
    if (!s)
        return;
    uv_signal_stop(&s->uv);
    uv_close((uv_handle_t *)&s->uv, on_closed);
}
