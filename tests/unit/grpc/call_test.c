/*
 * How much a caller gathers for its messages (grpc_call_room): a client's connection, and behind a socket pair a server that
 * gives credit when it pleases.
 */
#include "unit.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "grpc/conn.h"
#include "net/stream.h"
#include "rng.h"

enum { PREFIX = 5, MESSAGE = 20000, PIECE = 10000 };

struct fixture {
    struct loop *loop;
    /* The client: gathers as much as it may, and sends that in messages. */
    struct stream *stream;
    struct grpc_conn *conn;
    struct grpc_call *call;
    struct loop_task gather;
    uint64_t to_gather, gathered, written;
    size_t queued;
    unsigned n_messages, n_room, n_ignored;
    bool waits;
    /* The server. */
    int fd;
    struct loop_watch *watch;
    struct h2 *h2;
    struct h2_stream st;
    uint64_t got, held; /* bytes of DATA; of these, without credit */
    bool (*gives)(struct fixture *f);
    /* The test. */
    bool (*done)(const struct fixture *f);
};

/* --- the client --- */

static void on_metadata(void *arg, const struct kv *metadata)
{
    (void)arg;
    (void)metadata;
}

static void on_closed(void *arg, const struct grpc_status *status)
{
    (void)arg;
    fail_msg("the call ended: %s", status->message);
}

static int64_t on_next(void *arg)
{
    struct fixture *f = arg;
    if (f->queued == 0)
        return -1;
    f->n_messages++;
    return f->queued < MESSAGE ? (int64_t)f->queued : MESSAGE;
}

static void on_write(void *arg, uint8_t *dst, size_t n)
{
    struct fixture *f = arg;
    memset(dst, 0, n);
    f->queued -= n;
    f->written += n;
    loop_task_defer(&f->gather);
}

static void on_room(void *arg)
{
    struct fixture *f = arg;
    f->n_room++;
    loop_task_defer(&f->gather);
}

static const struct grpc_call_ops call_ops = {
    .metadata = on_metadata, .closed = on_closed, .next = on_next, .write = on_write, .room = on_room};

static void gather(void *arg)
{
    struct fixture *f = arg;
    if (!f->call)
        return;
    if (f->done(f)) {
        loop_stop(f->loop);
        return;
    }
    uint64_t left = f->to_gather - f->gathered;
    size_t room = left > 0 ? grpc_call_room(f->call, f->queued) : 0;
    f->waits = left > 0 && room == 0;
    if (room == 0)
        return;
    if (room == SIZE_MAX) {
        f->n_ignored++;
        room = f->queued < MESSAGE ? MESSAGE - f->queued : 0; /* a buffer has an end */
        if (room == 0)
            return;
    }
    size_t n = room < PIECE ? room : PIECE;
    n = n < left ? n : (size_t)left;
    f->queued += n;
    f->gathered += n;
    grpc_call_offer(f->call, n);
    loop_task_defer(&f->gather);
}

static void on_ready(void *arg)
{
    struct fixture *f = arg;
    struct kv metadata = {0};
    f->call = grpc_call_open(f->conn, "/a/b", &metadata, &call_ops, f);
    assert_non_null(f->call);
    loop_task_defer(&f->gather);
}

static void on_conn_closed(void *arg, enum grpc_conn_end end, const struct err *why)
{
    (void)arg;
    fail_msg("%s: %s", grpc_conn_end_name(end), why->text);
}

static const struct grpc_conn_ops conn_ops = {.ready = on_ready, .closed = on_conn_closed};

static void on_stream_ready(void *arg)
{
    struct fixture *f = arg;
    f->conn = grpc_conn_new(f->loop, f->stream, false, "localhost", &conn_ops, f);
    assert_non_null(f->conn);
}

static const struct stream_ops stream_ops = {.ready = on_stream_ready};

/* --- the server --- */

static void server_headers(void *arg, struct kv *headers, bool trailers, bool end)
{
    (void)arg;
    (void)headers;
    (void)trailers;
    (void)end;
}

static void server_data(void *arg, const uint8_t *p, size_t n)
{
    struct fixture *f = arg;
    (void)p;
    f->got += n;
    f->held += n;
}

static void server_end(void *arg)
{
    (void)arg;
}

static void server_closed(void *arg, uint32_t error)
{
    (void)arg;
    fail_msg("the stream is gone: %s", h2_error_name(error));
}

static const struct h2_stream_ops server_stream_ops = {
    .headers = server_headers, .data = server_data, .end = server_end, .closed = server_closed};

static struct h2_stream *on_open(void *arg)
{
    struct fixture *f = arg;
    f->st = (struct h2_stream){.ops = &server_stream_ops, .arg = f};
    return &f->st;
}

static const struct h2_ops server_ops = {.open = on_open};

static void on_server(void *arg, unsigned events)
{
    static uint8_t bytes[100000];
    struct fixture *f = arg;
    (void)events;
    struct err e;
    ssize_t n = recv(f->fd, bytes, sizeof bytes, 0);
    if (n > 0)
        assert_true(h2_feed(f->h2, bytes, (size_t)n, clock_mono_ns(), &e));
    if (f->held > 0 && f->gives(f)) {
        h2_stream_consume(&f->st, f->held, clock_mono_ns());
        f->held = 0;
    }
    for (int64_t len; (len = h2_drain(f->h2, bytes, sizeof bytes, clock_mono_ns())) > 0;)
        assert_int_equal(send(f->fd, bytes, (size_t)len, MSG_NOSIGNAL), len);
    loop_task_defer(&f->gather);
}

/* --- both --- */

static int set_up(void **state)
{
    struct err e;
    int fds[2];
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->loop = loop_new(&e);
    assert_non_null(f->loop);
    loop_task_init(&f->gather, f->loop, gather, f);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    f->fd = fds[0];
    f->h2 = h2_new(true, 1, &server_ops, f);
    assert_non_null(f->h2);
    f->watch = loop_watch_new(f->loop, f->fd, LOOP_READ, on_server, f, &e);
    assert_non_null(f->watch);
    f->stream = stream_new(f->loop, fds[1], NULL, NULL, &stream_ops, f, &e);
    assert_non_null(f->stream);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    grpc_call_cancel(f->call);
    grpc_conn_close(f->conn, "the test is over");
    loop_task_cancel(&f->gather);
    loop_watch_close(f->watch);
    h2_stream_forget(&f->st);
    h2_free(f->h2);
    loop_free(f->loop);
    free(f);
    return 0;
}

/* --- tests --- */

/* Later than anybody whom we know of. */
static bool when_three_quarters_are_used(struct fixture *f)
{
    return f->held > f->st.window / 4 * 3;
}

static bool never(struct fixture *f)
{
    (void)f;
    return false;
}

/* When nothing more can come. */
static bool when_all_is_used(struct fixture *f)
{
    return f->held == f->st.window;
}

static bool all_arrived(const struct fixture *f)
{
    return f->got == f->to_gather + (uint64_t)f->n_messages * PREFIX && f->written == f->to_gather;
}

static bool waits(const struct fixture *f)
{
    return f->waits && f->got > 0 && f->got == f->gathered + (uint64_t)f->n_messages * PREFIX;
}

static void all_is_sent_to_who_reads(void **state)
{
    struct fixture *f = *state;
    f->gives = when_three_quarters_are_used;
    f->done = all_arrived;
    f->to_gather = 5000000;
    loop_run(f->loop);
    assert_true(f->n_room > 0);
    assert_int_equal(f->n_ignored, 0);
}

/* Everything that was gathered has left, and the rest stays where it is. */
static void who_does_not_read_is_not_gathered_for(void **state)
{
    struct fixture *f = *state;
    f->gives = never;
    f->done = waits;
    f->to_gather = 5000000;
    loop_run(f->loop);
    assert_int_equal(f->queued, 0);
    assert_in_range(f->got, H2_WINDOW_FIRST / 4 * 3, H2_WINDOW_FIRST);
    assert_int_equal(f->n_ignored, 0);
}

/* It waits for us as we for it: for two beats of the connection at most. */
static void who_returns_credit_last_of_all_gets_everything(void **state)
{
    struct fixture *f = *state;
    f->gives = when_all_is_used;
    f->done = all_arrived;
    f->to_gather = 20 * H2_WINDOW_FIRST;
    loop_run(f->loop);
    assert_true(f->n_ignored > 0);
}

int main(void)
{
    alarm(100); /* should the loop wait for something that cannot come */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_is_sent_to_who_reads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_does_not_read_is_not_gathered_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_returns_credit_last_of_all_gets_everything, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
