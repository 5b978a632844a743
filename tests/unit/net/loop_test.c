#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/loop.h"

static struct loop *loop;

static void on_late(void *arg)
{
    (void)arg;
    fail_msg("the loop was not stopped");
}

/* Runs the loop until somebody stops it; a test that waits for what does not come fails. */
static void run(void)
{
    struct loop_timer *late = loop_timer_new(loop, on_late, NULL);
    loop_timer_start(late, 20000, 0);
    loop_run(loop);
    loop_timer_free(late);
}

static int begin(void **state)
{
    struct err e;
    (void)state;
    loop = loop_new(&e);
    return loop ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

/* One end of a socket pair, watched. */
struct side {
    struct loop_watch *watch;
    struct side *other;
    int fd, peer;
    unsigned events, told;
};

static void side_init(struct side *s, unsigned events, void (*cb)(void *arg, unsigned events))
{
    struct err e;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    *s = (struct side){.fd = fds[0], .peer = fds[1]};
    s->watch = loop_watch_new(loop, s->fd, events, cb, s, &e);
    assert_non_null(s->watch);
}

static void side_free(struct side *s)
{
    loop_watch_free(s->watch);
    close(s->fd);
    close(s->peer);
}

static void on_first(void *arg, unsigned events)
{
    struct side *s = arg;
    s->events = events;
    s->told++;
    loop_stop(loop);
}

static void readable_and_writable(void **state)
{
    (void)state;
    struct side s;
    side_init(&s, LOOP_READ, on_first);
    assert_int_equal(write(s.peer, "x", 1), 1);
    run();
    assert_int_equal(s.events, LOOP_READ);
    side_free(&s);
}

static void on_writable(void *arg, unsigned events)
{
    struct side *s = arg;
    assert_int_equal(events, LOOP_WRITE);
    s->told++;
    loop_watch_set(s->watch, 0);
    loop_stop(loop);
}

static void writable_only_when_asked_for(void **state)
{
    (void)state;
    struct side s;
    side_init(&s, 0, on_writable);
    assert_int_equal(write(s.peer, "x", 1), 1); /* nobody waits for it */
    loop_watch_set(s.watch, LOOP_WRITE);
    run();
    assert_int_equal(s.told, 1);
    side_free(&s);
}

static void on_dull(void *arg)
{
    struct side *s = arg;
    assert_int_equal(s->told, 0);
    loop_watch_set(s->watch, LOOP_READ);
}

/* The other side goes while nobody waits; whoever waits later hears of it, and as often as it takes. */
static void gone_while_nobody_waited(void **state)
{
    (void)state;
    struct side s;
    side_init(&s, 0, on_first);
    close(s.peer);
    s.peer = -1;
    struct loop_timer *t = loop_timer_new(loop, on_dull, &s);
    loop_timer_start(t, 20, 0);
    run();
    assert_true(s.events & LOOP_READ);
    loop_timer_free(t);
    side_free(&s);
}

/* Two are ready in the same turn, and the first one frees the second, which must not be told. */
static void on_either(void *arg, unsigned events)
{
    struct side *s = arg;
    (void)events;
    s->told++;
    loop_watch_close(s->other->watch);
    s->other->watch = NULL;
    s->other->fd = -1;
    loop_watch_set(s->watch, 0);
}

static void stop(void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static void freed_before_it_was_told(void **state)
{
    (void)state;
    struct side a, b;
    side_init(&a, LOOP_READ, on_either);
    side_init(&b, LOOP_READ, on_either);
    a.other = &b;
    b.other = &a;
    assert_int_equal(write(a.peer, "x", 1), 1);
    assert_int_equal(write(b.peer, "x", 1), 1);
    struct loop_timer *t = loop_timer_new(loop, stop, NULL);
    loop_timer_start(t, 50, 0);
    run();
    assert_int_equal(a.told + b.told, 1);
    loop_timer_free(t);
    side_free(&a);
    side_free(&b);
}

static void what_cannot_be_waited_for(void **state)
{
    (void)state;
    struct err e;
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_null(loop_watch_new(loop, fd, LOOP_WRITE, on_first, NULL, &e));
    assert_non_null(strstr(e.text, "watching descriptor"));
    close(fd);
}

struct chain {
    struct loop_task first, second;
    struct loop_timer *timer;
    char order[8];
    unsigned n;
};

static void on_first_task(void *arg)
{
    struct chain *c = arg;
    c->order[c->n++] = '1';
    loop_task_defer(&c->second);
    loop_task_defer(&c->second); /* changes nothing */
}

static void on_second_task(void *arg)
{
    struct chain *c = arg;
    c->order[c->n++] = '2';
    loop_stop(loop);
}

static void on_chain_timer(void *arg)
{
    struct chain *c = arg;
    c->order[c->n++] = 't';
    loop_task_defer(&c->first);
}

static void tasks_follow_timers_and_each_other(void **state)
{
    (void)state;
    struct chain c = {.n = 0};
    loop_task_init(&c.first, loop, on_first_task, &c);
    loop_task_init(&c.second, loop, on_second_task, &c);
    c.timer = loop_timer_new(loop, on_chain_timer, &c);
    loop_timer_start(c.timer, 1, 0);
    run();
    assert_string_equal(c.order, "t12");
    loop_timer_free(c.timer);
}

static unsigned ticks;
static void on_tick(void *arg)
{
    struct loop_timer **t = arg;
    assert_true(loop_timer_active(*t));
    if (++ticks == 3)
        loop_stop(loop);
}

/* Timers come and go in great number; a new one knows nothing of the one whose memory it has. */
static void timers_are_used_again(void **state)
{
    (void)state;
    struct loop_timer *many[300], *t;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 300; i++) {
            many[i] = loop_timer_new(loop, on_late, NULL);
            assert_false(loop_timer_active(many[i]));
            loop_timer_start(many[i], 0, 1);
        }
        for (unsigned i = 0; i < 300; i++)
            loop_timer_free(many[i]);
    }
    ticks = 0;
    t = loop_timer_new(loop, on_tick, &t);
    loop_timer_start(t, 1, 1);
    run();
    assert_int_equal(ticks, 3);
    loop_timer_free(t);
}

/* `kbgp check` runs it for a name, and once more for the connection. */
static void a_stopped_loop_runs_again(void **state)
{
    (void)state;
    struct loop_timer *t = loop_timer_new(loop, on_tick, &t);
    for (unsigned round = 1; round <= 3; round++) {
        ticks = 0;
        loop_timer_start(t, 1, 1);
        run();
        assert_int_equal(ticks, 3);
    }
    loop_timer_free(t);
}

#define PULSES 20

/* What the members of a pulse do with each other, and in which turn of the loop: `turns` is counted by a task behind the first of each beat. */
static struct {
    struct loop_pulse pulse[PULSES], late;
    unsigned beats[PULSES], late_beats, late_first_turn;
    unsigned turns;
    struct loop_task turn;
} pulses;

static void on_turn_over(void *arg)
{
    (void)arg;
    pulses.turns++;
    if (pulses.turns == 2)
        loop_stop(loop);
}

static void on_late_beat(void *arg)
{
    (void)arg;
    pulses.late_first_turn = pulses.late_beats++ == 0 ? pulses.turns : pulses.late_first_turn;
}

/* The 3rd takes itself out; the 5th the 1st, which was told before it, and the 8th, which was not; the 6th starts another one. */
static void on_beat(void *arg)
{
    struct loop_pulse *p = arg;
    unsigned i = (unsigned)(p - pulses.pulse);
    pulses.beats[i]++;
    loop_task_defer(&pulses.turn);
    if (i == 3) {
        loop_pulse_stop(p);
    } else if (i == 5) {
        loop_pulse_stop(&pulses.pulse[1]);
        loop_pulse_stop(&pulses.pulse[8]);
        loop_pulse_stop(&pulses.pulse[8]); /* changes nothing */
    } else if (i == 6 && pulses.beats[i] == 1) {
        loop_pulse_start(&pulses.late, loop, on_late_beat, NULL);
    }
}

static void a_pulse_tells_all_in_one_turn(void **state)
{
    (void)state;
    memset(&pulses, 0, sizeof pulses);
    loop_task_init(&pulses.turn, loop, on_turn_over, NULL);
    for (unsigned i = 0; i < PULSES; i++)
        loop_pulse_start(&pulses.pulse[i], loop, on_beat, &pulses.pulse[i]);
    int64_t began = loop_now_ms(loop);
    run();
    int64_t took = loop_now_ms(loop) - began;
    assert_in_range(took, 1000, 10000); /* two beats, the second one a second after the first */
    for (unsigned i = 0; i < PULSES; i++)
        assert_int_equal(pulses.beats[i], i == 8 ? 0 : i == 1 || i == 3 ? 1 : 2);
    /* One that was started by a beat is told from the next one on. */
    assert_int_equal(pulses.late_beats, 1);
    assert_int_equal(pulses.late_first_turn, 1);
    for (unsigned i = 0; i < PULSES; i++)
        loop_pulse_stop(&pulses.pulse[i]);
    loop_pulse_stop(&pulses.late);
}

/* The last member goes with its beat, memory and all; the pulse of nobody does nothing, and goes on for the next one. */
static void on_last_beat(void *arg)
{
    struct loop_pulse *p = arg;
    loop_pulse_stop(p);
    free(p);
    ticks++;
}

static void on_second_life(void *arg)
{
    (void)arg;
    loop_stop(loop);
}

static void start_again(void *arg)
{
    assert_int_equal(ticks, 1);
    loop_pulse_start(arg, loop, on_second_life, NULL);
}

static void a_pulse_of_nobody(void **state)
{
    (void)state;
    struct loop_pulse *mortal = malloc(sizeof *mortal), second;
    struct loop_timer *t = loop_timer_new(loop, start_again, &second);
    ticks = 0;
    loop_pulse_start(mortal, loop, on_last_beat, mortal);
    loop_timer_start(t, 1500, 0);
    run();
    assert_int_equal(ticks, 1);
    loop_pulse_stop(&second);
    loop_timer_free(t);
}

static void on_signal(void *arg, int signum)
{
    *(int *)arg = signum;
    loop_stop(loop);
}

static void send_signal(void *arg)
{
    (void)arg;
    kill(getpid(), SIGUSR1);
}

static void signals(void **state)
{
    (void)state;
    int got = 0;
    struct loop_signal *s = loop_signal_new(loop, SIGUSR1, on_signal, &got);
    struct loop_timer *t = loop_timer_new(loop, send_signal, NULL);
    loop_timer_start(t, 10, 0);
    run();
    assert_int_equal(got, SIGUSR1);
    loop_timer_free(t);
    loop_signal_free(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(readable_and_writable),
        TEST(writable_only_when_asked_for),
        TEST(gone_while_nobody_waited),
        TEST(freed_before_it_was_told),
        TEST(what_cannot_be_waited_for),
        TEST(tasks_follow_timers_and_each_other),
        TEST(timers_are_used_again),
        TEST(a_stopped_loop_runs_again),
        TEST(a_pulse_tells_all_in_one_turn),
        TEST(a_pulse_of_nobody),
        TEST(signals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
