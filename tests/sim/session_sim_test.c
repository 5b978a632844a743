#include "unit.h"

#include "relay/session.h"
#include "rng.h"

/*
 * Two sessions, agent and target, on a simulated link that keeps order but tears bytes at random, between two
 * TCP connections that are read and written at random. Thousands of runs, each from a seed: bytes, RESTARTs
 * of either side, half-closes and ends at any moment, and in some runs streams that break.
 *
 * The link stands for a gRPC call: a client's half-close, a status by the server (after which what the client
 * sent no longer counts), or a break, which loses what is on its way. A window bounds what is under way
 * unread.
 */

enum { AGENT, TARGET };
enum { WINDOW = 70000, FLIGHT = 1 << 20 };

/* What travels: a piece of a message, or a mark. */
enum kind { BEGIN, BYTES, END, HALF_CLOSE, STATUS_OK };

struct event {
    enum kind kind;
    uint32_t n;
};

/* One direction of a call. Events and their bytes are queues that never wrap: a run is short. */
struct wire {
    struct event *events;
    size_t first, last, cap;
    uint8_t *bytes;
    size_t head, tail, bytes_cap;
    uint64_t credit; /* how many payload bytes more may be sent */
};

/* When bytes are seen in passing: nothing here asks. */
static const struct bgp_watch_time now;

struct side {
    struct session *s;
    uint32_t slot;
    struct wire out;                /* to the other side */
    uint64_t tcp_total;             /* how many bytes its TCP peer sends before FIN */
    uint64_t tcp_read, tcp_written; /* so far */
    bool tcp_fin;                   /* the TCP peer's FIN was told */
    uint64_t stale;         /* bytes in the in ring that came with an earlier call: no credit for this one */
    bool got_fin;           /* our FIN reached the TCP peer */
    bool waits_for_fin;     /* the TCP peer answers a FIN with a FIN (a BGP daemon) */
    enum session_todo over; /* CLOSE or ABORT, or NOTHING so far */
    int64_t writing;        /* bytes of the message under way */
};

struct run {
    struct arena *a;
    struct rng r;
    uint64_t seed;
    struct side side[2];
    bool open;          /* a call is there */
    bool client_closed; /* the client has half-closed it */
    bool server_done;   /* the server has sent its status */
    bool wants_call;    /* REOPEN, or a broken call that is tried again */
    unsigned restarts, breaks, calls;
    bool may_break;
};

/* What the whole test must have seen, so that it does not test nothing. */
static struct {
    unsigned long restarts, calls, breaks, kills, resumed, closes, bytes, lent, crossed;
} seen;

#define CHECK(run, cond)                                                                                     \
    do {                                                                                                     \
        if (!(cond))                                                                                         \
            fail_msg("seed %llu: %s", (unsigned long long)(run)->seed, #cond);                               \
    } while (0)

static void wire_put(struct wire *w, enum kind kind, const uint8_t *p, uint32_t n)
{
    if (w->last == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 64;
        w->events = realloc(w->events, w->cap * sizeof *w->events);
        assert_non_null(w->events);
    }
    w->events[w->last++] = (struct event){kind, n};
    if (w->bytes_cap - w->tail < n) {
        w->bytes_cap = 2 * w->bytes_cap + n;
        w->bytes = realloc(w->bytes, w->bytes_cap);
        assert_non_null(w->bytes);
    }
    if (n > 0)
        memcpy(w->bytes + w->tail, p, n);
    w->tail += n;
}

static void wire_clear(struct wire *w)
{
    w->first = w->last = 0;
    w->head = w->tail = 0;
    w->credit = WINDOW;
}

static void wire_free(struct wire *w)
{
    free(w->events);
    free(w->bytes);
}

/* --- TCP --- */

static void tcp_read(struct run *run, int i)
{
    struct side *d = &run->side[i];
    size_t wants = session_tcp_wants(d->s);
    if (wants == 0 || d->tcp_fin)
        return;
    uint64_t left = d->tcp_total - d->tcp_read;
    if (left == 0) {
        if (d->waits_for_fin && !d->got_fin)
            return;
        session_tcp_eof(d->s);
        d->tcp_fin = true;
        return;
    }
    size_t n = 1 + rng_size(&run->r, (uint32_t)wants - 1);
    n = n < left ? n : (size_t)left;
    struct iovec iov[RING_IOV];
    int pieces = ring_room(&d->s->out, run->a, n, iov);
    CHECK(run, pieces > 0);
    size_t at = 0;
    for (int k = 0; k < pieces && at < n; k++) {
        size_t part = n - at < iov[k].iov_len ? n - at : iov[k].iov_len;
        pattern_fill((uint64_t)i, d->tcp_read + at, iov[k].iov_base, part);
        at += part;
    }
    session_tcp_read(d->s, run->a, iov, at, &now);
    d->tcp_read += at;
    CHECK(run, d->s->out.len <= SESSION_OUT_MAX);
}

/* Every byte that arrives must be the next one of the other side's pattern. */
static void tcp_takes(struct run *run, int i, const void *p, size_t n)
{
    struct side *d = &run->side[i];
    CHECK(run, !d->got_fin);
    CHECK(run, pattern_check((uint64_t)!i, d->tcp_written, p, n) == n);
    d->tcp_written += n;
    uint64_t stale = n < d->stale ? n : d->stale;
    d->stale -= stale;
    run->side[!i].out.credit += n - stale;
    seen.bytes += n;
}

/* Some of what was lent goes to TCP at once. */
static void take_lent(struct run *run, int i, struct lent *lent)
{
    struct side *d = &run->side[i];
    CHECK(run, lent->len == 0 || d->s->in.len == 0);
    size_t taken = rng_once_in(&run->r, 8) ? rng_size(&run->r, (uint32_t)lent->len) : lent->len, left = taken;
    for (int k = 0; left > 0; k++) {
        size_t part = lent->piece[k].iov_len < left ? lent->piece[k].iov_len : left;
        tcp_takes(run, i, lent->piece[k].iov_base, part);
        left -= part;
    }
    seen.lent += taken;
    session_lent_back(d->s, run->a, lent, taken);
}

static void tcp_write(struct run *run, int i, bool all)
{
    struct side *d = &run->side[i];
    while (d->s->in.len > 0) {
        struct iovec iov[RING_IOV];
        size_t max = all ? d->s->in.len : 1 + rng_size(&run->r, d->s->in.len - 1);
        int pieces = ring_front(&d->s->in, run->a, max, iov);
        CHECK(run, pieces > 0);
        size_t n = iov[0].iov_len;
        tcp_takes(run, i, iov[0].iov_base, n);
        session_tcp_wrote(d->s, run->a, n);
        if (!all)
            return;
    }
}

/* --- the call --- */

static void call_open(struct run *run)
{
    struct session *agent = run->side[AGENT].s, *target = run->side[TARGET].s;
    run->wants_call = false;
    run->open = true;
    run->client_closed = run->server_done = false;
    run->calls++;
    seen.calls++;
    for (int i = AGENT; i <= TARGET; i++) {
        wire_clear(&run->side[i].out);
        run->side[i].writing = 0;
        run->side[i].stale = run->side[i].s->in.len;
    }
    /* As metadata goes: the agent's counters with the call, the target's in its answer. */
    struct session_counters up = session_counters(agent), down = session_counters(target);
    session_stream_open(agent);
    session_stream_open(target);
    bool agreed = session_peer_counters(target, &up);
    /* A lost RESTART looks to the one who sent it like a peer that does not count actions; the other one is
     * not fooled. */
    agreed = session_peer_counters(agent, &down) && agreed;
    bool lossless = up.up == down.up && up.down == down.down;
    CHECK(run, agreed == lossless);
    if (run->breaks == 0)
        CHECK(run, agreed);
    else if (agreed)
        seen.resumed++;
}

static void call_closed(struct run *run, bool ok)
{
    run->open = false;
    for (int i = AGENT; i <= TARGET; i++)
        if (!run->side[i].over)
            session_stream_closed(run->side[i].s, ok);
    /* What is on its way is lost with the call. */
    wire_clear(&run->side[AGENT].out);
    wire_clear(&run->side[TARGET].out);
    if (!run->side[AGENT].over && run->side[AGENT].s->stream == SESSION_STREAM_NONE && !ok)
        run->wants_call = true;
}

/* A piece of the next message leaves, as far as the window and the patience of the link go. */
static void call_send(struct run *run, int i)
{
    struct side *d = &run->side[i];
    if (!run->open || d->over || d->out.tail - d->out.head > FLIGHT)
        return;
    if (d->writing == 0) {
        if (d->out.credit == 0)
            return;
        int64_t len = session_message_next(d->s);
        if (len < 0)
            return;
        CHECK(run, len > 0 && len <= DATA_PAYLOAD_MAX + DATA_HEADER_MAX);
        CHECK(run, i == TARGET ? !run->server_done : !run->client_closed);
        d->writing = len;
        wire_put(&d->out, BEGIN, NULL, 0);
    }
    uint8_t bytes[70000];
    size_t n = 1 + rng_size(&run->r, (uint32_t)d->writing - 1);
    n = n < d->out.credit ? n : (size_t)d->out.credit;
    if (n == 0)
        return;
    session_message_write(d->s, run->a, bytes, n);
    wire_put(&d->out, BYTES, bytes, (uint32_t)n);
    d->out.credit -= n;
    d->writing -= (int64_t)n;
    if (d->writing == 0)
        wire_put(&d->out, END, NULL, 0);
}

/* One event, or a part of one, arrives at side i. */
static void call_receive(struct run *run, int i)
{
    struct side *d = &run->side[i];
    struct wire *w = &run->side[!i].out;
    if (!run->open || w->first == w->last)
        return;
    struct event *e = &w->events[w->first];
    if (d->over) {
        /* This end is gone; its half of the call is drained (or was reset: the same to the other side). */
        w->credit += e->n;
        w->head += e->n;
        w->first++;
        return;
    }
    switch (e->kind) {
    case BEGIN:
        session_message_begin(d->s, 0);
        break;
    case BYTES: {
        size_t n = 1 + rng_size(&run->r, e->n - 1);
        struct lent lent = {0}, *l = rng_once_in(&run->r, 2) ? &lent : NULL;
        size_t done = session_message_bytes(d->s, run->a, l, w->bytes + w->head, n, &now);
        CHECK(run, done <= n);
        w->credit += done;
        if (l)
            take_lent(run, i, l);
        w->head += n;
        e->n -= (uint32_t)n;
        /* Of one call no more than its window lies in memory. */
        CHECK(run, d->s->in.len <= d->stale + WINDOW);
        if (e->n > 0)
            return;
        break;
    }
    case END:
        CHECK(run, session_message_end(d->s));
        break;
    case HALF_CLOSE:
        session_stream_half_closed(d->s);
        break;
    case STATUS_OK:
        w->first++;
        call_closed(run, true);
        return;
    }
    w->first++;
}

/* --- what the sessions want done --- */

static void follow(struct run *run, int i)
{
    struct side *d = &run->side[i];
    if (d->over)
        return;
    for (;;) {
        enum session_todo todo = session_todo(d->s);
        switch (todo) {
        case SESSION_NOTHING:
            return;
        case SESSION_SHUT_TCP:
            CHECK(run, !d->got_fin && d->s->in.len == 0);
            d->got_fin = true;
            break;
        case SESSION_END_STREAM:
            CHECK(run, i == AGENT && run->open && !run->client_closed && d->writing == 0);
            run->client_closed = true;
            wire_put(&d->out, HALF_CLOSE, NULL, 0);
            break;
        case SESSION_FINISH_CALL:
            CHECK(run, i == TARGET && run->open && !run->server_done && d->writing == 0);
            run->server_done = true;
            wire_put(&d->out, STATUS_OK, NULL, 0);
            break;
        case SESSION_REOPEN:
            CHECK(run, i == AGENT && !run->open && !run->wants_call);
            run->wants_call = true;
            run->restarts++;
            seen.restarts++;
            break;
        case SESSION_CLOSE:
            CHECK(run, d->s->in.len == 0);
            d->got_fin = true;
            /* fall through */
        case SESSION_ABORT:
            d->over = todo;
            return;
        }
    }
}

/* --- a run --- */

static void begin(struct run *run, struct arena *a, uint64_t seed, bool may_break)
{
    *run = (struct run){.a = a, .seed = seed, .may_break = may_break, .r = {seed}};
    struct uuid id = {"cbce1788-bb34-4c2c-8056-5b3224d4e893"};
    struct addr none = {0};
    for (int i = AGENT; i <= TARGET; i++) {
        struct side *d = &run->side[i];
        d->slot = arena_slot_get(a);
        assert_int_not_equal(d->slot, ARENA_NONE);
        d->s = arena_slot(a, d->slot);
        session_init(d->s, i == AGENT ? SESSION_AGENT : SESSION_TARGET, &id, &none, &none);
        d->tcp_total = rng_size(&run->r, 400000);
    }
    /* Who ends first: the router, the backend, or both when they please. */
    uint32_t who = rng_below(&run->r, 3);
    run->side[AGENT].waits_for_fin = who == 1;
    run->side[TARGET].waits_for_fin = who == 0;
    run->wants_call = true;
}

static void end(struct run *run)
{
    for (int i = AGENT; i <= TARGET; i++) {
        struct side *d = &run->side[i];
        session_release(d->s, run->a);
        arena_slot_put(run->a, d->slot);
        wire_free(&d->out);
    }
    struct arena_usage usage = arena_usage(run->a);
    CHECK(run, usage.blocks_used == 0);
    CHECK(run, usage.slots_used == 0);
}

static void step(struct run *run)
{
    int i = (int)rng_below(&run->r, 2);
    struct side *d = &run->side[i];
    switch (rng_below(&run->r, 10)) {
    case 0:
    case 1:
        if (!d->over)
            tcp_read(run, i);
        break;
    case 2:
    case 3:
        if (!d->over)
            tcp_write(run, i, false);
        break;
    case 4:
    case 5:
    case 6:
        call_send(run, i);
        break;
    default:
        call_receive(run, i);
        break;
    }
    if (!d->over && rng_once_in(&run->r, 150)) {
        session_restart(d->s);
        seen.crossed += d->s->restart_due && run->side[!i].s->restart_sent;
    }
    if (run->may_break && run->open && rng_once_in(&run->r, 400)) {
        run->breaks++;
        seen.breaks++;
        call_closed(run, false);
    }
    follow(run, AGENT);
    follow(run, TARGET);
    if (run->wants_call && !run->open && !run->side[AGENT].over && !run->side[TARGET].over &&
        rng_once_in(&run->r, 5)) {
        call_open(run);
        follow(run, AGENT);
        follow(run, TARGET);
    }
    /* A session that was killed is gone; the other end's call is then over without a good status. */
    if (run->open && run->side[TARGET].over == SESSION_ABORT &&
        run->side[TARGET].out.first == run->side[TARGET].out.last)
        call_closed(run, false);
}

static bool finished(const struct run *run)
{
    const struct side *agent = &run->side[AGENT], *target = &run->side[TARGET];
    /* An end without a call whose other end is gone is alone: the target waits for its window to be over. */
    bool agent_alone = target->over && !run->open && agent->s->stream == SESSION_STREAM_NONE;
    bool target_alone = agent->over && !run->open && target->s->stream == SESSION_STREAM_NONE;
    return (agent->over || agent_alone) && (target->over || target_alone);
}

static struct arena *arena;

static void play(uint64_t seed, bool may_break, struct run *run)
{
    begin(run, arena, seed, may_break);
    for (unsigned steps = 0; !finished(run); steps++) {
        if (steps > 2000000)
            fail_msg("seed %llu: the sessions stand still: agent stream %u in %u out %u, target stream %u in "
                     "%u out %u",
                     (unsigned long long)seed, run->side[AGENT].s->stream, run->side[AGENT].s->in.len,
                     run->side[AGENT].s->out.len, run->side[TARGET].s->stream, run->side[TARGET].s->in.len,
                     run->side[TARGET].s->out.len);
        step(run);
    }
}

/* No stream breaks: both ends close in good order, and every byte that the protocol promises has arrived. */
static void restarts_lose_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4000; seed++) {
        struct run run;
        play(seed, false, &run);
        const struct side *agent = &run.side[AGENT], *target = &run.side[TARGET];
        CHECK(&run, agent->over == SESSION_CLOSE && target->over == SESSION_CLOSE);
        seen.closes++;
        /* Counters agree as far as the last call went: the target's end may come before the agent's last
         * messages. */
        CHECK(&run, agent->s->received.messages == target->s->sent.messages);
        CHECK(&run, agent->s->received.bytes == target->s->sent.bytes);
        CHECK(&run, agent->s->received.actions == target->s->sent.actions);
        /* Down everything arrives, whoever ended first. */
        CHECK(&run, agent->tcp_written == target->tcp_read);
        CHECK(&run, agent->tcp_written == target->tcp_total);
        /* Up everything arrives unless the backend had ended first, which ends the session (a server has no
         * half-close). */
        CHECK(&run, target->tcp_written == agent->tcp_read || !target->waits_for_fin);
        if (target->waits_for_fin) {
            CHECK(&run, target->tcp_written == agent->tcp_total);
            CHECK(&run, agent->s->sent.messages == target->s->received.messages);
            CHECK(&run, agent->s->sent.actions == target->s->received.actions);
        }
        CHECK(&run, target->tcp_written <= agent->tcp_read);
        end(&run);
    }
    assert_true(seen.restarts > 2000);
    assert_true(seen.crossed > 50);
    assert_true(seen.closes == 4000);
    assert_true(seen.bytes > 100000000);
    assert_true(seen.lent > 1000000);
}

/* Streams break: nothing lost goes unnoticed. Either not a byte was lost and the session goes on, or it ends
 * in KILL. */
static void a_loss_ends_in_kill(void **state)
{
    (void)state;
    for (uint64_t seed = 100001; seed <= 104000; seed++) {
        struct run run;
        play(seed, true, &run);
        const struct side *agent = &run.side[AGENT], *target = &run.side[TARGET];
        bool killed = agent->over == SESSION_ABORT || target->over == SESSION_ABORT;
        /* (That no byte was doubled or moved is checked at each write.) */
        CHECK(&run, !killed || run.breaks > 0);
        seen.kills += killed;
        if (agent->over == SESSION_CLOSE && target->over == SESSION_CLOSE && target->waits_for_fin)
            CHECK(&run, target->tcp_written == agent->tcp_total && agent->tcp_written == target->tcp_total);
        end(&run);
    }
    assert_true(seen.breaks > 1000);
    assert_true(seen.kills > 500);
    assert_true(seen.resumed > 100);
}

static int set_up(void **state)
{
    struct err e;
    (void)state;
    arena = arena_new(2, sizeof(struct session), 1000, &e);
    return arena ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restarts_lose_nothing),
        cmocka_unit_test(a_loss_ends_in_kill),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
