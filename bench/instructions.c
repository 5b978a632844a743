/*
 * Both programs' hot path in one process, for counting its instructions (bench/instructions runs it under callgrind).
 *
 *     instructions CERT KEY
 *
 * The real thing but for three pieces: an agent's and a target's bridges, tcp_ends, calls and their connection over TLS in
 * the real event loop; AF_UNIX socket pairs instead of TCP, so that a byte is there as soon as it is written; a false clock,
 * so that timers and PINGs come at the same points of every run; and this file as the routers and the BGP daemons. Nothing
 * depends on the time that passes, so the counts do not either.
 *
 * Each case runs its unit of work FEW and then MANY times, and has callgrind write its counts after either. The difference,
 * divided by MANY - FEW, is one unit without what is only paid once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <valgrind/callgrind.h>

#include "base/addr.h"
#include "bridge/bridge.h"
#include "bridge/tcp_end.h"
#include "grpc/conn.h"
#include "net/loop.h"
#include "net/stream.h"
#include "net/tls_ctx.h"
#include "relay/meta.h"

#define SESSIONS 100u
#define BULK     65536u

/* --- the false clock: libuv and we ask this one --- */

static int64_t now_ns = 1000000000000;

int clock_gettime(clockid_t id, struct timespec *ts)
{
    (void)id;
    ts->tv_sec = now_ns / 1000000000;
    ts->tv_nsec = now_ns % 1000000000;
    return 0;
}

/* --- the chain --- */

static struct loop *loop;
static struct bridge_pool agent_pool, target_pool;
static struct grpc_conn *agent_conn, *target_conn;

struct end {
    int fd; /* the router's, or the daemon's */
    struct loop_watch *watch;
};
static struct end routers[SESSIONS], daemons[SESSIONS];
static unsigned n_up;

/* What the watched ends wait for; then the next unit of work follows. */
static size_t missing;
static void next_unit(void);

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "instructions: %s: %s\n", what, why);
    exit(1);
}

static void pair(int fds[2])
{
    int size = 212992; /* what Linux allows everybody, so the same everywhere: a bulk unit fits */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        fail("socketpair", strerror(errno));
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void on_bytes(void *arg, unsigned events)
{
    static uint8_t dump[BULK];
    struct end *e = arg;
    (void)events;
    ssize_t n = recv(e->fd, dump, sizeof dump, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        fail("an end", "closed");
    if ((size_t)n > missing)
        fail("an end", "more bytes than were sent");
    missing -= (size_t)n;
    if (missing == 0)
        next_unit();
}

static void on_metadata(void *arg, const struct kv *metadata)
{
    (void)arg;
    (void)metadata;
}

static void on_call_lost(void *arg, const struct grpc_status *status)
{
    (void)arg;
    fail("a call ended", status->message);
}

static void on_reopen(void *arg)
{
    (void)arg;
    fail("a call", "RESTART");
}

static void on_over(void *arg, enum session_todo how)
{
    (void)arg;
    fail("a session", how == SESSION_ABORT ? "was aborted" : "ended");
}

static const struct bridge_ops bridge_ops = {
    .metadata = on_metadata, .call_lost = on_call_lost, .reopen = on_reopen, .over = on_over};

/* A bridge with its local end; the other end of the socket pair is ours. */
static struct bridge *new_bridge(struct bridge_pool *pool, enum session_role role, struct end *mine)
{
    struct err e;
    struct addr device, proxy;
    struct uuid id = {{1}};
    int fds[2];
    if (!addr_parse(&device, "192.0.2.1:179", 0) || !addr_parse(&proxy, "192.0.2.2:179", 0))
        fail("addresses", "do not parse");
    pair(fds);
    mine->fd = fds[0];
    mine->watch = loop_watch_new(loop, fds[0], LOOP_READ, on_bytes, mine, &e);
    struct bridge *b = bridge_new(pool, role, &id, &device, &proxy, &bridge_ops, NULL);
    if (!mine->watch || !b || !tcp_end_new(b, fds[1], &e))
        fail("a session", e.text);
    return b;
}

static void on_agent_ready(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct bridge *b = new_bridge(&agent_pool, SESSION_AGENT, &routers[i]);
        struct kv metadata = {0};
        kv_add(&metadata, "session-id", "00000000-0000-4000-8000-000000000000");
        struct grpc_call *call = grpc_call_open(agent_conn, META_PATH_DATA, &metadata, &bridge_call_ops, b);
        kv_free(&metadata);
        if (!call)
            fail("a call", "not opened");
        bridge_attach(b, call);
    }
}

static void on_target_call(void *arg, struct grpc_call *call, const char *path, const struct kv *metadata)
{
    (void)arg;
    (void)path;
    (void)metadata;
    bridge_accept(new_bridge(&target_pool, SESSION_TARGET, &daemons[n_up]), call, NULL);
    if (++n_up == SESSIONS)
        next_unit();
}

static void on_closed(void *arg, enum grpc_conn_end end, const struct err *why)
{
    (void)arg;
    fail(grpc_conn_end_name(end), why->text);
}

static const struct grpc_conn_ops agent_ops = {.ready = on_agent_ready, .closed = on_closed};
static const struct grpc_conn_ops target_ops = {.call = on_target_call, .closed = on_closed};
static struct stream *agent_stream, *target_stream;

static void on_tls(void *arg)
{
    if (arg)
        target_conn = grpc_conn_new(loop, target_stream, true, NULL, &target_ops, NULL);
    else
        agent_conn = grpc_conn_new(loop, agent_stream, false, "localhost", &agent_ops, NULL);
}

static void on_tls_failed(void *arg, const struct err *why)
{
    (void)arg;
    fail("TLS", why->text);
}

static const struct stream_ops tls_ops = {.ready = on_tls, .failed = on_tls_failed};

static void connect_chain(const char *cert, const char *key)
{
    struct err e;
    const struct tls_client_config config = {.ca_file = cert};
    struct tls_ctx *client = tls_client_ctx(&config, &e);
    struct tls_ctx *server = client ? tls_server_ctx(cert, key, &e) : NULL;
    int fds[2];
    if (!server)
        fail("TLS", e.text);
    pair(fds);
    static char is_target;
    target_stream = stream_new(loop, fds[0], server, NULL, &tls_ops, &is_target, &e);
    agent_stream = stream_new(loop, fds[1], client, "localhost", &tls_ops, NULL, &e);
    if (!target_stream || !agent_stream)
        fail("TLS", e.text);
}

/* --- the work --- */

/* Each message begins with BGP's marker, RFC 4271 section 4.1. */
static uint8_t *begin_message(uint8_t *p, uint16_t length, uint8_t type)
{
    memset(p, 0xff, 16);
    p[16] = (uint8_t)(length >> 8);
    p[17] = (uint8_t)length;
    p[18] = type;
    return p + 19;
}

static uint8_t keepalive[19], open_message[29], updates[BULK];

static void make_messages(void)
{
    begin_message(keepalive, sizeof keepalive, 4);
    static const uint8_t open_body[] = {4, 0xfd, 0xe9, 0, 90, 192, 0, 2, 1, 0};
    memcpy(begin_message(open_message, sizeof open_message, 1), open_body, sizeof open_body);

    /* UPDATEs as a full table has them: a path of three ASes, a community, five prefixes; the last ones fill up exactly. */
    static const uint8_t attributes[] = {0, 0, 0,    35,   0x40, 1, 1,    0,    0x40, 2,    14,   2,   3,
                                         0, 0, 0xfd, 0xe9, 0,    0, 0x0d, 0x1c, 0,    0,    0,    174, 0x40,
                                         3, 4, 192,  0,    2,    1, 0xc0, 8,    4,    0xfd, 0xe9, 0,   100};
    size_t at = 0;
    for (unsigned route = 0; at < BULK;) {
        size_t left = BULK - at, length = 19 + sizeof attributes + 5 * 4;
        if (left < 2 * length)
            length = left;
        uint8_t *p = begin_message(updates + at, (uint16_t)length, 2), *end = updates + at + length;
        memcpy(p, attributes, sizeof attributes);
        for (p += sizeof attributes; p < end; route++) {
            size_t bytes = (size_t)(end - p) < 8 ? (size_t)(end - p) : 4; /* a /24, or what is left */
            if (bytes > 4)
                bytes = (size_t)(end - p) == 5 ? 5 : 4;
            p[0] = (uint8_t)(8 * (bytes - 1));
            for (size_t i = 1; i < bytes; i++)
                p[i] = (uint8_t)(route >> (8 * (i & 1)));
            p += bytes;
        }
        at += length;
    }
}

static void send_to(struct end *e, const void *p, size_t n)
{
    if (send(e->fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
        fail("sending", strerror(errno));
    missing += n;
}

/* One unit: so many sessions send the same bytes, which arrive at the other end. */
static const struct work {
    const char *name; /* NULL: not measured */
    struct end *from;
    unsigned sessions;
    const uint8_t *bytes;
    size_t len;
    unsigned few;
} all_work[] = {
    {NULL, routers, SESSIONS, open_message, sizeof open_message, 1},
    {NULL, daemons, SESSIONS, open_message, sizeof open_message, 1},
    {NULL, routers, SESSIONS, keepalive, sizeof keepalive, 1},
    {NULL, daemons, SESSIONS, keepalive, sizeof keepalive, 1},
    {"keepalive up", routers, 1, keepalive, sizeof keepalive, 200},
    {"keepalive down", daemons, 1, keepalive, sizeof keepalive, 200},
    {"100 keepalives up", routers, SESSIONS, keepalive, sizeof keepalive, 20},
    {"100 keepalives down", daemons, SESSIONS, keepalive, sizeof keepalive, 20},
    {"64 KiB up", routers, 1, updates, BULK, 40},
    {"64 KiB down", daemons, 1, updates, BULK, 40},
};

/* Each work has three phases: buffers and windows grow to their size, FEW units, MANY units. */
static const struct work *work = all_work;
static unsigned phase, units_done;

static unsigned units_of_phase(void)
{
    return phase == 2 ? 3 * work->few : work->few;
}

static void next_phase(void)
{
    if (phase > 0) {
        char label[64];
        snprintf(label, sizeof label, "%s %u", work->name, units_done);
        CALLGRIND_DUMP_STATS_AT(label);
    }
    units_done = 0;
    if (++phase > 2 || !work->name) {
        phase = 0;
        work++;
    }
    CALLGRIND_ZERO_STATS;
}

static void next_unit(void)
{
    if (units_done == units_of_phase())
        next_phase();
    if (work == all_work + sizeof all_work / sizeof *all_work) {
        loop_stop(loop);
        return;
    }
    units_done++;
    now_ns += 1000000;
    for (unsigned i = 0; i < work->sessions; i++)
        send_to(&work->from[i], work->bytes, work->len);
}

int main(int argc, char **argv)
{
    struct err e;
    if (argc != 3)
        fail("usage", "instructions CERT KEY");
    alarm(100); /* the real clock's: should the loop wait for something that cannot come */
    loop = loop_new(&e);
    struct arena *agent_arena = arena_new(SESSIONS + 1, sizeof(struct session), 4096, &e);
    struct arena *target_arena = arena_new(SESSIONS + 1, sizeof(struct session), 4096, &e);
    if (!loop || !agent_arena || !target_arena)
        fail("starting", e.text);
    bridge_pool_init(&agent_pool, loop, agent_arena);
    bridge_pool_init(&target_pool, loop, target_arena);
    make_messages();
    connect_chain(argv[1], argv[2]);
    loop_run(loop);
    if (work != all_work + sizeof all_work / sizeof *all_work)
        fail("the loop", "ended early");
    /* The process ends here: nothing of it is worth taking apart. */
    return 0;
}
