/*
 * Two programs' middle in one process: sessions with their local ends at an agent's and a target's connection, which meet over a
 * socket pair; this file is the routers and the BGP daemons.
 */
#include "unit.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge/bridge.h"
#include "bridge/tcp_end.h"
#include "grpc/conn.h"
#include "net/stream.h"
#include "relay/meta.h"
#include "rng.h"

/* More than BRIDGE_LENT, so that some of what one turn brings has to go through the rings. */
enum { SESSIONS = 100, SLOW = 7, LUMP = 10 };

/* A router or a daemon. */
struct end {
    struct fixture *f;
    uint64_t pattern;       /* what it sends; the other side gets the same */
    uint64_t sent, to_send; /* bytes */
    uint64_t got;           /* from its peer, which is the end of the other side with the same index */
    uint64_t peer_pattern;
    int fd;
    struct loop_watch *watch;
    bool slow;    /* takes little at a time, and not always */
    bool stalled; /* takes nothing */
    bool closes_first, got_fin;
};

/* One direction of the line between the two connections: it brings bytes in lumps, so that much comes in one read. */
struct line {
    int from, to;
    uint8_t bytes[300000];
    size_t at, len;
};

/* One side's stream and where to put its connection. */
struct half {
    struct fixture *f;
    int side;
};

struct fixture {
    struct loop *loop;
    struct arena *arena[2];
    struct bridge_pool pool[2]; /* agent, target */
    struct half half[2];
    struct line line[2]; /* from the agent, from the target */
    struct stream *stream[2];
    struct grpc_conn *conn[2];
    struct bridge *bridge[2][SESSIONS];
    struct end end[2][SESSIONS];
    unsigned n_up, n_over, n_lost;
    struct rng r;
    struct loop_task drive;
    bool fin_behind;  /* ends close their half when everything is sent */
    unsigned kill_at; /* 0: never; else sessions are killed when so many turns are over */
    unsigned turns, last_sent;
    bool (*done)(const struct fixture *f);
};

enum { AGENT, TARGET };

static void pair(int fds[2], int size)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
}

/* --- the sessions' owner --- */

static void on_metadata(void *arg, const struct kv *metadata)
{
    (void)arg;
    (void)metadata;
}

static void on_call_lost(void *arg, const struct grpc_status *status)
{
    struct end *e = arg;
    (void)status;
    e->f->n_lost++;
}

static void on_reopen(void *arg)
{
    (void)arg;
    fail_msg("nobody asked for a RESTART");
}

static void on_over(void *arg, enum session_todo how)
{
    struct end *e = arg;
    (void)how;
    e->f->n_over++;
}

static const struct bridge_ops bridge_ops = {
    .metadata = on_metadata, .call_lost = on_call_lost, .reopen = on_reopen, .over = on_over};

/* --- routers and daemons --- */

static void on_readable(void *arg, unsigned events)
{
    static uint8_t bytes[100000];
    struct end *e = arg;
    struct rng *r = &e->f->r;
    (void)events;
    if (e->stalled) {
        loop_watch_set(e->watch, 0);
        return;
    }
    if (e->slow && !rng_once_in(r, 4))
        return;
    size_t n = e->slow ? 1 + rng_size(r, 5000) : sizeof bytes;
    ssize_t got = recv(e->fd, bytes, n, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        e->got_fin = true;
        loop_watch_set(e->watch, 0);
        return;
    }
    assert_u64_equal(pattern_check(e->peer_pattern, e->got, bytes, (uint64_t)got), (uint64_t)got);
    e->got += (uint64_t)got;
}

static void send_some(struct end *e)
{
    static uint8_t bytes[200000];
    struct rng *r = &e->f->r;
    /* A daemon's FIN ends the session for good, so it waits for its router's; then its last bytes and its FIN come together. */
    if (e->sent == e->to_send || (e->f->fin_behind && !e->closes_first && !e->got_fin))
        return;
    size_t n = 1 + rng_size(r, sizeof bytes - 1);
    n = n < e->to_send - e->sent ? n : (size_t)(e->to_send - e->sent);
    pattern_fill(e->pattern, e->sent, bytes, n);
    ssize_t sent = send(e->fd, bytes, n, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EPIPE || errno == ECONNRESET))
        return;
    assert_true(sent > 0);
    e->sent += (uint64_t)sent;
    e->f->last_sent = e->f->turns;
    if (e->sent == e->to_send && e->f->fin_behind)
        shutdown(e->fd, SHUT_WR);
}

/* What is there now, and no more than it takes now. */
static void carry(struct line *l)
{
    if (l->at == l->len) {
        ssize_t n = recv(l->from, l->bytes, sizeof l->bytes, 0);
        l->at = 0;
        l->len = n > 0 ? (size_t)n : 0;
    }
    ssize_t n = l->at < l->len ? send(l->to, l->bytes + l->at, l->len - l->at, MSG_NOSIGNAL) : 0;
    l->at += n > 0 ? (size_t)n : 0;
}

static void drive(void *arg)
{
    struct fixture *f = arg;
    f->turns++;
    for (int side = AGENT; side <= TARGET && f->turns % LUMP == 0; side++)
        for (int i = 0; i < 20; i++)
            carry(&f->line[side]);
    for (int side = AGENT; side <= TARGET && f->n_up == SESSIONS; side++)
        for (int i = 0; i < SESSIONS; i++)
            if (rng_once_in(&f->r, 3))
                send_some(&f->end[side][i]);
    if (f->turns == f->kill_at)
        for (int i = 0; i < SESSIONS; i++) {
            session_kill(bridge_session(f->bridge[i % 2][i]));
            bridge_kick(f->bridge[i % 2][i]);
        }
    if (f->n_up == SESSIONS && f->done(f))
        loop_stop(f->loop);
    else
        loop_task_defer(&f->drive);
}

/* --- the chain --- */

static void add_session(struct fixture *f, int side, unsigned i)
{
    struct err err;
    struct addr device, proxy;
    struct uuid id = {{1}};
    struct end *e = &f->end[side][i];
    int fds[2];
    assert_true(addr_parse(&device, "192.0.2.1:179", 0) && addr_parse(&proxy, "192.0.2.2:179", 0));
    pair(fds, 16384); /* small, so that TCP often takes a part */
    e->fd = fds[0];
    e->watch = loop_watch_new(f->loop, e->fd, LOOP_READ, on_readable, e, &err);
    assert_non_null(e->watch);
    struct bridge *b = bridge_new(&f->pool[side], side == AGENT ? SESSION_AGENT : SESSION_TARGET, &id,
                                  &device, &proxy, &bridge_ops, e);
    assert_non_null(b);
    assert_non_null(tcp_end_new(b, fds[1], &err));
    f->bridge[side][i] = b;
}

static void on_agent_ready(void *arg)
{
    struct fixture *f = arg;
    for (unsigned i = 0; i < SESSIONS; i++) {
        add_session(f, AGENT, i);
        struct kv metadata = {0};
        assert_true(kv_add(&metadata, "session-id", "00000000-0000-4000-8000-000000000000"));
        struct bridge *b = f->bridge[AGENT][i];
        struct grpc_call *call =
            grpc_call_open(f->conn[AGENT], META_PATH_DATA, &metadata, &bridge_call_ops, b);
        kv_free(&metadata);
        assert_non_null(call);
        bridge_attach(b, call);
    }
}

/* Calls arrive in the order in which they were opened. */
static void on_target_call(void *arg, struct grpc_call *call, const char *path, const struct kv *metadata)
{
    struct fixture *f = arg;
    (void)path;
    (void)metadata;
    add_session(f, TARGET, f->n_up);
    bridge_accept(f->bridge[TARGET][f->n_up], call, NULL);
    f->n_up++;
}

static void on_closed(void *arg, enum grpc_conn_end end, const struct err *why)
{
    (void)arg;
    fail_msg("%s: %s", grpc_conn_end_name(end), why->text);
}

static const struct grpc_conn_ops agent_ops = {.ready = on_agent_ready, .closed = on_closed};
static const struct grpc_conn_ops target_ops = {.call = on_target_call, .closed = on_closed};

static void on_stream_ready(void *arg)
{
    struct half *h = arg;
    struct fixture *f = h->f;
    f->conn[h->side] = grpc_conn_new(f->loop, f->stream[h->side], h->side == TARGET, "localhost",
                                     h->side == TARGET ? &target_ops : &agent_ops, f);
    assert_non_null(f->conn[h->side]);
}

static const struct stream_ops stream_ops = {.ready = on_stream_ready};

static int set_up(void **state)
{
    struct err e;
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->loop = loop_new(&e);
    assert_non_null(f->loop);
    f->r = (struct rng){1};
    loop_task_init(&f->drive, f->loop, drive, f);
    int fds[2][2];
    pair(fds[AGENT], 212992);
    pair(fds[TARGET], 212992);
    for (int side = AGENT; side <= TARGET; side++) {
        f->arena[side] = arena_new(SESSIONS, sizeof(struct session), 20000, &e);
        assert_non_null(f->arena[side]);
        bridge_pool_init(&f->pool[side], f->loop, f->arena[side]);
        for (unsigned i = 0; i < SESSIONS; i++)
            f->end[side][i] = (struct end){.f = f,
                                           .fd = -1,
                                           .pattern = 2 * i + (unsigned)side,
                                           .peer_pattern = 2 * i + (unsigned)!side,
                                           .slow = i % SLOW == 0,
                                           .closes_first = side == AGENT};
        f->line[side] = (struct line){.from = fds[side][1], .to = fds[!side][1]};
        f->half[side] = (struct half){.f = f, .side = side};
        f->stream[side] = stream_new(f->loop, fds[side][0], NULL, NULL, &stream_ops, &f->half[side], &e);
        assert_non_null(f->stream[side]);
    }
    loop_task_defer(&f->drive);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (int side = AGENT; side <= TARGET; side++) {
        for (int i = 0; i < SESSIONS; i++) {
            bridge_free(f->bridge[side][i]);
            loop_watch_close(f->end[side][i].watch);
        }
        tcp_end_cut_lingering(&f->pool[side]);
        grpc_conn_close(f->conn[side], "the test is over");
        assert_u64_equal(f->pool[side].lent_used, 0);
        assert_int_equal(arena_usage(f->arena[side]).blocks_used, 0);
        arena_free(f->arena[side]);
        close(f->line[side].from);
    }
    loop_task_cancel(&f->drive);
    loop_free(f->loop);
    free(f);
    return 0;
}

static void send_everywhere(struct fixture *f, uint64_t up, uint64_t down)
{
    for (int i = 0; i < SESSIONS; i++) {
        f->end[AGENT][i].to_send = up;
        f->end[TARGET][i].to_send = down;
    }
}

/* --- tests --- */

static bool all_arrived(const struct fixture *f)
{
    for (int side = AGENT; side <= TARGET; side++)
        for (int i = 0; i < SESSIONS; i++)
            if (f->end[side][i].got < f->end[!side][i].to_send)
                return false;
    return true;
}

/* Whatever way it takes, straight or through the ring, and however little an end takes at a time. */
static void every_byte_arrives_once_and_in_order(void **state)
{
    struct fixture *f = *state;
    f->done = all_arrived;
    send_everywhere(f, 300000, 200000);
    loop_run(f->loop);
    for (int i = 0; i < SESSIONS; i++) {
        assert_u64_equal(f->end[TARGET][i].got, 300000);
        assert_u64_equal(f->end[AGENT][i].got, 200000);
    }
    assert_u64_equal(f->pool[TARGET].bytes[1], 300000ull * SESSIONS);
    assert_u64_equal(f->pool[AGENT].bytes[1], 200000ull * SESSIONS);
    assert_int_equal(f->n_lost + f->n_over, 0);
}

static bool nothing_moves(const struct fixture *f)
{
    return f->last_sent > 0 && f->turns - f->last_sent > 20 * LUMP;
}

/* What the target does not take waits in the router's socket, and not in the agent. */
static void routers_wait_for_daemons_that_do_not_read(void **state)
{
    enum { SOME = 5 };
    struct fixture *f = *state;
    f->done = nothing_moves;
    for (int i = 0; i < SOME; i++) {
        f->end[AGENT][i].to_send = 1000000;
        f->end[TARGET][i].stalled = true;
    }
    loop_run(f->loop);
    for (int i = 0; i < SOME; i++) {
        assert_true(f->end[AGENT][i].sent < 1000000);
        assert_int_equal(bridge_session(f->bridge[AGENT][i])->out.len, 0);
    }
    assert_int_equal(f->pool[AGENT].paused[0], SOME);
    assert_int_equal(f->pool[TARGET].paused[1], SOME);
    for (int i = 0; i < SOME; i++) {
        f->end[TARGET][i].stalled = false;
        loop_watch_set(f->end[TARGET][i].watch, LOOP_READ);
    }
    f->done = all_arrived;
    loop_task_defer(&f->drive);
    loop_run(f->loop);
    for (int i = 0; i < SOME; i++)
        assert_u64_equal(f->end[TARGET][i].got, 1000000);
    assert_int_equal(f->pool[AGENT].paused[0], 0);
}

static bool all_over(const struct fixture *f)
{
    return f->n_over == 2 * SESSIONS;
}

static bool all_over_and_fin(const struct fixture *f)
{
    for (int side = AGENT; side <= TARGET; side++)
        for (int i = 0; i < SESSIONS; i++)
            if (!f->end[side][i].got_fin)
                return false;
    return all_over(f);
}

/* Beside bulk the end of a call comes in the same read as its last bytes. */
static void the_last_bytes_arrive_before_the_end(void **state)
{
    struct fixture *f = *state;
    f->done = all_over_and_fin;
    f->fin_behind = true;
    send_everywhere(f, 30000, 10000);
    for (int i = 0; i < SESSIONS; i += 4)
        f->end[TARGET][i].to_send = 1000000;
    loop_run(f->loop);
    for (int i = 0; i < SESSIONS; i++) {
        assert_u64_equal(f->end[TARGET][i].got, 30000);
        assert_u64_equal(f->end[AGENT][i].got, f->end[TARGET][i].to_send);
    }
    assert_int_equal(f->n_lost, 0);
}

/* What had arrived by then is in order; nothing is kept of what was under way. */
static void sessions_are_killed_in_full_flight(void **state)
{
    struct fixture *f = *state;
    f->done = all_over;
    f->kill_at = 300;
    send_everywhere(f, UINT64_MAX, UINT64_MAX);
    loop_run(f->loop);
    assert_true(f->end[TARGET][1].got > 0);
    assert_true(f->end[AGENT][1].got > 0);
}

int main(void)
{
    alarm(100); /* should the loop wait for something that cannot come */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_byte_arrives_once_and_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(routers_wait_for_daemons_that_do_not_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_bytes_arrive_before_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sessions_are_killed_in_full_flight, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
