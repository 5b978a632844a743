#include "bridge/bridge.h"

#include <stdlib.h>

#include "base/clock.h"

struct bridge {
    struct bridge_pool *pool;
    uint32_t slot;
    uint32_t stale; /* bytes at the front of session->in that came with an earlier call */
    struct session *s;
    struct bridge_local *local;
    struct grpc_call *call;
    struct loop_task task;
    const struct bridge_ops *ops;
    void *arg;
    bool paused[2]; /* by direction: counted in the pool */
    bool ending;    /* the same */
    bool held;      /* the stream takes no more: reading waits for room */
    uint8_t lent;   /* 1 + which of the pool's is ours; 0: none */
};

_Static_assert(BRIDGE_LENT <= 64, "a bit for each in lent_used");

enum { OUT, IN };

static void follow(void *arg);

struct bridge *bridge_new(struct bridge_pool *pool, enum session_role role, const struct uuid *id,
                          const struct addr *device, const struct addr *proxy, const struct bridge_ops *ops,
                          void *arg)
{
    uint32_t slot = arena_slot_get(pool->arena);
    struct bridge *b = slot == ARENA_NONE ? NULL : calloc(1, sizeof *b);
    if (!b) {
        if (slot != ARENA_NONE)
            arena_slot_put(pool->arena, slot);
        return NULL;
    }
    b->pool = pool;
    b->slot = slot;
    b->s = arena_slot(pool->arena, slot);
    session_init(b->s, role, id, device, proxy);
    b->ops = ops;
    b->arg = arg;
    loop_task_init(&b->task, pool->loop, follow, b);
    return b;
}

/* --- backpressure, counted --- */

uint64_t bridge_pool_paused_ms(const struct bridge_pool *pool, unsigned direction)
{
    uint64_t since = (uint64_t)(loop_now_ms(pool->loop) - pool->paused_at_ms[direction]);
    return pool->paused_ms[direction] + pool->paused[direction] * since;
}

static void set_paused(struct bridge *b, unsigned direction, bool paused)
{
    struct bridge_pool *p = b->pool;
    if (b->paused[direction] == paused)
        return;
    p->paused_ms[direction] = bridge_pool_paused_ms(p, direction);
    p->paused_at_ms[direction] = loop_now_ms(p->loop);
    p->paused[direction] += paused ? 1u : -1u;
    b->paused[direction] = paused;
}

static void note_paused(struct bridge *b)
{
    const struct session *s = b->s;
    set_paused(b, OUT, (s->out.len >= SESSION_OUT_MAX || b->held) && !s->tcp_eof);
    set_paused(b, IN, s->in.len > 0 && !s->tcp_broken && b->local);
}

static void note_ending(struct bridge *b)
{
    if (b->ending || (!b->s->tcp_eof && !b->s->kill_due))
        return;
    b->ending = true;
    b->pool->ending++;
}

/* --- bytes for the local end --- */

/* n bytes for the local end are done with: credit for those that this call brought. */
static void give_credit(struct bridge *b, size_t n)
{
    uint32_t stale = n < b->stale ? (uint32_t)n : b->stale;
    b->stale -= stale;
    if (b->call && n > stale)
        grpc_call_consume(b->call, n - stale);
}

/* Where to note bytes that are still where the connection has read them. NULL: they go through the ring. */
static struct lent *lent_of(struct bridge *b)
{
    struct bridge_pool *pool = b->pool;
    if (b->lent == 0) {
        if (~pool->lent_used == 0 || b->s->in.len > 0 || !b->local || !b->local->ops->take)
            return NULL;
        int free_one = __builtin_ctzll(~pool->lent_used);
        pool->lent_used |= UINT64_C(1) << free_one;
        b->lent = (uint8_t)(free_one + 1);
    }
    return &pool->lent[b->lent - 1];
}

static void put_lent(struct bridge *b)
{
    if (b->lent == 0)
        return;
    b->pool->lent[b->lent - 1].pieces = 0;
    b->pool->lent[b->lent - 1].len = 0;
    b->pool->lent_used &= ~(UINT64_C(1) << (b->lent - 1));
    b->lent = 0;
}

static void give_lent_back(struct bridge *b)
{
    if (b->lent == 0)
        return;
    struct lent *lent = &b->pool->lent[b->lent - 1];
    size_t taken = lent->len > 0 && b->local ? b->local->ops->take(b->local, lent) : 0;
    session_lent_back(b->s, b->pool->arena, lent, taken);
    give_credit(b, taken);
    put_lent(b);
}

/* --- life --- */

static void close_local(struct bridge *b, bool abort)
{
    struct bridge_local *local = b->local;
    b->local = NULL;
    if (local)
        local->ops->close(local, abort);
}

void bridge_free(struct bridge *b)
{
    if (!b)
        return;
    loop_task_cancel(&b->task);
    if (b->call)
        grpc_call_cancel(b->call);
    close_local(b, true);
    put_lent(b);
    set_paused(b, OUT, false);
    set_paused(b, IN, false);
    b->pool->ending -= b->ending;
    session_release(b->s, b->pool->arena);
    arena_slot_put(b->pool->arena, b->slot);
    free(b);
}

struct session *bridge_session(const struct bridge *b)
{
    return b->s;
}

struct arena *bridge_arena(const struct bridge *b)
{
    return b->pool->arena;
}

void bridge_pool_init(struct bridge_pool *pool, struct loop *loop, struct arena *arena)
{
    *pool = (struct bridge_pool){.loop = loop, .arena = arena};
    list_init(&pool->lingering);
}

struct bridge_pool *bridge_pool_of(const struct bridge *b)
{
    return b->pool;
}

struct loop *bridge_loop(const struct bridge *b)
{
    return b->pool->loop;
}

bool bridge_has_call(const struct bridge *b)
{
    return b->call != NULL;
}

const struct grpc_call *bridge_call(const struct bridge *b)
{
    return b->call;
}

void bridge_kick(struct bridge *b)
{
    loop_task_defer(&b->task);
}

int bridge_local_fd(const struct bridge *b)
{
    return b->local && b->local->ops->fd ? b->local->ops->fd(b->local) : -1;
}

void bridge_set_local(struct bridge *b, struct bridge_local *local)
{
    b->local = local;
    bridge_kick(b);
}

void bridge_attach(struct bridge *b, struct grpc_call *call)
{
    b->call = call;
    b->stale = b->s->in.len;
    session_stream_open(b->s);
    bridge_kick(b);
}

void bridge_accept(struct bridge *b, struct grpc_call *call, const struct kv *metadata)
{
    if (b->call) {
        grpc_call_cancel(b->call);
        b->call = NULL;
        give_lent_back(b);
        session_stream_closed(b->s, false);
    }
    grpc_call_accept(call, metadata, &bridge_call_ops, b);
    bridge_attach(b, call);
}

/* For what the session watches: one look at the clock for all the messages in these bytes. */
static struct bgp_watch_time time_seen(const struct bridge *b)
{
    return (struct bgp_watch_time){.mono_ms = loop_now_ms(b->pool->loop), .wall_ns = clock_wall_ns()};
}

/* --- what the call tells --- */

static void on_metadata(void *arg, const struct kv *metadata)
{
    struct bridge *b = arg;
    if (b->ops->metadata)
        b->ops->metadata(b->arg, metadata);
    bridge_kick(b);
}

static void on_message_begin(void *arg, uint32_t len)
{
    struct bridge *b = arg;
    session_message_begin(b->s, len);
}

static void on_message_bytes(void *arg, const uint8_t *p, size_t n)
{
    struct bridge *b = arg;
    struct bgp_watch_time now = time_seen(b);
    size_t done = session_message_bytes(b->s, b->pool->arena, lent_of(b), p, n, &now);
    if (done == SIZE_MAX)
        done = n; /* the session is being killed: its window does not matter any more */
    else
        b->pool->bytes[IN] += n - done;
    if (done > 0)
        grpc_call_consume(b->call, done);
    bridge_kick(b);
}

static void on_message_end(void *arg)
{
    struct bridge *b = arg;
    session_message_end(b->s);
    b->pool->messages[IN]++;
    bridge_kick(b);
}

static void on_settle(void *arg)
{
    give_lent_back(arg);
}

static void on_half_closed(void *arg)
{
    struct bridge *b = arg;
    session_stream_half_closed(b->s);
    bridge_kick(b);
}

static void on_closed(void *arg, const struct grpc_status *status)
{
    struct bridge *b = arg;
    b->call = NULL;
    give_lent_back(b);
    session_stream_closed(b->s, status->code == GRPC_OK);
    bool reopens = b->s->role == SESSION_AGENT && b->s->restart_received && status->code == GRPC_OK;
    bool aborting =
        b->s->kill_received || b->s->kill_due; /* that is what follows, and nothing else to tell */
    if (b->s->stream == SESSION_STREAM_NONE && !reopens && !aborting)
        b->ops->call_lost(b->arg, status);
    bridge_kick(b);
}

static int64_t on_next(void *arg)
{
    struct bridge *b = arg;
    int64_t n = session_message_next(b->s);
    if (n >= 0)
        b->pool->messages[OUT]++;
    return n;
}

static void on_write(void *arg, uint8_t *dst, size_t n)
{
    struct bridge *b = arg;
    session_message_write(b->s, b->pool->arena, dst, n);
    /* The ring has room again, or a last message went out. */
    bridge_kick(b);
}

static void on_room(void *arg)
{
    bridge_kick(arg);
}

const struct grpc_call_ops bridge_call_ops = {
    .metadata = on_metadata,
    .message_begin = on_message_begin,
    .message_bytes = on_message_bytes,
    .message_end = on_message_end,
    .settle = on_settle,
    .half_closed = on_half_closed,
    .closed = on_closed,
    .next = on_next,
    .write = on_write,
    .room = on_room,
};

/* --- the local end asks and tells --- */

size_t bridge_wants(struct bridge *b)
{
    const struct session *s = b->s;
    size_t wants = session_tcp_wants(s);
    size_t room = wants > 0 && b->call ? grpc_call_room(b->call, s->out.len) : SIZE_MAX;
    b->held = room == 0;
    return room < wants ? room : wants;
}

void bridge_received(struct bridge *b, const struct iovec *iov, size_t n)
{
    b->pool->bytes[OUT] += n;
    struct bgp_watch_time now = time_seen(b);
    session_tcp_read(b->s, b->pool->arena, iov, n, &now);
    if (b->call)
        grpc_call_offer(b->call, n);
}

bool bridge_put(struct bridge *b, const void *p, size_t n)
{
    struct bgp_watch_time now = time_seen(b);
    if (!session_tcp_put(b->s, b->pool->arena, p, n, &now))
        return false;
    b->pool->bytes[OUT] += n;
    if (b->call)
        grpc_call_wake(b->call);
    return true;
}

void bridge_eof(struct bridge *b)
{
    session_tcp_eof(b->s);
    bridge_kick(b);
}

void bridge_broken(struct bridge *b)
{
    give_credit(b, session_tcp_broken(b->s, b->pool->arena));
    bridge_kick(b);
}

void bridge_delivered(struct bridge *b, size_t n)
{
    session_tcp_wrote(b->s, b->pool->arena, n);
    give_credit(b, n);
}

/* --- what follows --- */

static void end(struct bridge *b, enum session_todo how)
{
    struct grpc_call *call = b->call;
    b->call = NULL;
    /* A KILL of ours must arrive, so the call is let go of, not reset. */
    if (call && b->s->role == SESSION_TARGET && b->s->malformed)
        grpc_call_finish(call, GRPC_INVALID_ARGUMENT, "a DataRequest that does not decode");
    else if (call && b->s->role == SESSION_TARGET)
        grpc_call_finish(call, GRPC_ABORTED, b->s->kill_received ? "the agent sent KILL" : "session killed");
    if (call)
        grpc_call_release(call);
    close_local(b, how == SESSION_ABORT);
    loop_task_cancel(&b->task);
    b->ops->over(b->arg, how);
}

static void follow(void *arg)
{
    struct bridge *b = arg;
    struct session *s = b->s;
    if (b->local && s->in.len > 0)
        b->local->ops->deliver(b->local, b);
    for (;;) {
        enum session_todo todo = session_todo(s);
        switch (todo) {
        case SESSION_NOTHING:
            if ((s->kill_due || s->restart_due) && b->call)
                grpc_call_wake(b->call);
            if (b->local)
                b->local->ops->adjust(b->local, b);
            note_paused(b);
            note_ending(b);
            return;
        case SESSION_SHUT_TCP:
            if (b->local)
                b->local->ops->shut(b->local);
            break;
        case SESSION_END_STREAM:
            grpc_call_half_close(b->call);
            break;
        case SESSION_FINISH_CALL:
            grpc_call_finish(b->call, GRPC_OK, "");
            break;
        case SESSION_REOPEN:
            b->ops->reopen(b->arg);
            break;
        case SESSION_CLOSE:
        case SESSION_ABORT:
            end(b, todo);
            return;
        }
    }
}
