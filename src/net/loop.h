#ifndef KBGP_NET_LOOP_H
#define KBGP_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

/*
 * The event loop: one a process, one thread. Timers and signals are libuv's, which stays inside net/. Nothing here may be called from another thread.
 *
 * A turn of the loop is: timers, descriptors that became ready, then the deferred tasks. Whatever a turn produced for a
 * connection is sent by its task, so that many small messages share one TLS record and one system call.
 */
struct loop;

struct loop *loop_new(struct err *e);
/* Runs until loop_stop(); may be called again then. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Everything made on the loop must have been freed by its owner before. */
void loop_free(struct loop *loop);

/* CLOCK_MONOTONIC in milliseconds as of this turn of the loop. */
int64_t loop_now_ms(const struct loop *loop);
/* How late the loop was with a 100 ms timer, in milliseconds: the worst of the last few seconds. */
int64_t loop_lag_ms(const struct loop *loop);

/* --- timers: owned by who makes them; loop_timer_free(NULL) does nothing --- */
struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *loop, void (*cb)(void *arg), void *arg);
/* (Re)starts: fires once after `ms`, then every `repeat_ms` (0: not again). */
void loop_timer_start(struct loop_timer *t, int64_t ms, int64_t repeat_ms);
void loop_timer_stop(struct loop_timer *t);
bool loop_timer_active(const struct loop_timer *t);
void loop_timer_free(struct loop_timer *t);

/* --- descriptors: level-triggered. The watch does not own the descriptor: free the watch first, then close it --- */
#define LOOP_READ  1u
#define LOOP_WRITE 2u
/* Error or hang-up. Reported as READ and WRITE too, so that the next call on the descriptor meets the errno. */
#define LOOP_GONE 4u

struct loop_watch;
/* `events`: see loop_watch_set(). NULL with the reason in `e`: without memory, or for what cannot be waited for (a file). */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned events,
                                  void (*cb)(void *arg, unsigned events), void *arg, struct err *e);
/* Which of LOOP_READ and LOOP_WRITE to wait for; 0: none. Cheap when nothing changes. */
void loop_watch_set(struct loop_watch *w, unsigned events);
int loop_watch_fd(const struct loop_watch *w);
void loop_watch_free(struct loop_watch *w);
/* The same, and closes the descriptor, which nobody else may hold: spares a system call. */
void loop_watch_close(struct loop_watch *w);

/* --- deferred tasks: run once, at the end of this turn (or of the next, when deferred by a running task) --- */
struct loop_task {
    struct list node;
    struct loop *loop;
    void (*run)(void *arg);
    void *arg;
};
void loop_task_init(struct loop_task *t, struct loop *loop, void (*run)(void *arg), void *arg);
/* Deferring a task that is already waiting changes nothing. */
void loop_task_defer(struct loop_task *t);
void loop_task_cancel(struct loop_task *t);

/*
 * --- the pulse: about once a second, for whoever has clocks to look at. All are called in one wake-up, however many there are,
 * where timers of their own would each wake the process ---
 */
struct loop_pulse {
    struct list node;
    void (*beat)(void *arg);
    void *arg;
};
/* The first call comes within a second, but not at once. It may stop (and free) this one and others, and start some. */
void loop_pulse_start(struct loop_pulse *p, struct loop *loop, void (*beat)(void *arg), void *arg);
/* `p` was started; stopping it again changes nothing. */
void loop_pulse_stop(struct loop_pulse *p);

/* --- signals --- */
struct loop_signal;
struct loop_signal *loop_signal_new(struct loop *loop, int signum, void (*cb)(void *arg, int signum),
                                    void *arg);
void loop_signal_free(struct loop_signal *s);

#endif
