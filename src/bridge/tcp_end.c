#include "bridge/tcp_end.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* A read asks for this much first; it doubles while reads come back full and halves while they come back nearly empty. */
#define READ_FIRST 4096u
/* How soon to try again when all memory for rings is in use. */
#define MEMORY_WAIT_MS 100

struct tcp_end {
    struct bridge_local base;
    struct list lingering; /* in the pool's list, after the session's end */
    struct bridge *bridge; /* NULL: lingering */
    struct loop_watch *watch;
    bool blocked : 1; /* the socket took less than there was */
    bool held : 1;    /* not read, because the session or its stream takes nothing */
    bool starved : 1; /* no memory for what could be read: the timer runs */
    bool fin : 1;     /* the other side's was read */
    bool shut : 1;    /* ours is sent, or follows the last byte */
    uint32_t read_size;
    struct loop_timer *timer; /* lingering, or waiting for memory; NULL until needed */
};

static void end_free(struct tcp_end *t)
{
    list_remove(&t->lingering);
    loop_watch_close(t->watch);
    loop_timer_free(t->timer);
    free(t);
}

static void broken(struct tcp_end *t)
{
    loop_watch_set(t->watch, 0);
    bridge_broken(t->bridge);
}

static void on_timer(void *arg)
{
    struct tcp_end *t = arg;
    t->starved = false;
    if (t->bridge)
        bridge_kick(t->bridge);
    else
        end_free(t);
}

static void start_timer(struct tcp_end *t, struct loop *loop, int64_t ms)
{
    if (!t->timer)
        t->timer = loop_timer_new(loop, on_timer, t);
    loop_timer_start(t->timer, ms, 0);
}

/* --- reading --- */

/*
 * Whether more may be read from TCP. What comes on a stream cannot be refused, and a session that has no room for it is killed;
 * so an eighth of the memory is left for that.
 */
static bool memory_to_read(const struct arena *a)
{
    struct arena_usage u = arena_usage(a);
    return u.blocks_used < u.blocks_max - u.blocks_max / 8;
}

/* As recvmsg(). One piece, which is what a KEEPALIVE needs, has a cheaper call: a fortieth of what the whole way costs. */
static ssize_t receive(int fd, struct iovec *iov, int pieces)
{
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)pieces};
    ssize_t n;
    do
        n = pieces == 1 ? recv(fd, iov[0].iov_base, iov[0].iov_len, 0) : recvmsg(fd, &msg, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* How many bytes were read. What else there was (FIN, error, no memory) is seen to. */
static size_t read_once(struct tcp_end *t, size_t wants)
{
    struct session *s = bridge_session(t->bridge);
    struct arena *a = bridge_arena(t->bridge);
    struct iovec iov[RING_IOV];
    size_t ask = wants < t->read_size ? wants : t->read_size;
    int pieces = memory_to_read(a) ? ring_room(&s->out, a, ask, iov) : 0;
    if (pieces == 0) {
        t->starved = true;
        /* All memory for rings is in use: TCP waits. */
        loop_watch_set(t->watch, 0);
        start_timer(t, bridge_loop(t->bridge), MEMORY_WAIT_MS);
        return 0;
    }
    size_t room = 0;
    for (int i = 0; i < pieces; i++)
        room += iov[i].iov_len;
    ssize_t n = receive(loop_watch_fd(t->watch), iov, pieces);
    int errnum = errno;
    if (n > 0) {
        bridge_received(t->bridge, iov, (size_t)n);
        if ((size_t)n >= room && t->read_size < SESSION_OUT_MAX)
            t->read_size *= 2;
        else if ((size_t)n < t->read_size / 4 && t->read_size > READ_FIRST)
            t->read_size /= 2;
        return (size_t)n;
    }
    ring_filled(&s->out, a, 0);
    t->fin = n == 0;
    if (n == 0)
        bridge_eof(t->bridge);
    else if (errnum != EAGAIN && errnum != EWOULDBLOCK)
        broken(t);
    return 0;
}

/* --- writing --- */

/* Reset, or nothing can be written any more: the other side's last words (a NOTIFICATION) may wait to be read. */
static void broken_after_last_words(struct tcp_end *t)
{
    const struct session *s = bridge_session(t->bridge);
    size_t wants;
    while (!s->tcp_broken && (wants = session_tcp_wants(s)) > 0 && read_once(t, wants))
        ;
    broken(t);
}

/* How much TCP took, or -1 and errno. */
static ssize_t write_once(const struct tcp_end *t, const struct iovec *iov, int pieces)
{
    int fd = loop_watch_fd(t->watch);
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)pieces};
    ssize_t n;
    do
        n = pieces == 1 ? send(fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
                        : sendmsg(fd, &msg, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

static size_t take(struct bridge_local *l, const struct lent *lent)
{
    ssize_t n = write_once((struct tcp_end *)l, lent->piece, lent->pieces);
    /* Why not, deliver() finds out, to which all the rest comes. */
    return n > 0 ? (size_t)n : 0;
}

static void deliver(struct bridge_local *l, struct bridge *b)
{
    struct tcp_end *t = (struct tcp_end *)l;
    struct session *s = bridge_session(b);
    while (s->in.len > 0 && !t->blocked) {
        struct iovec iov[RING_IOV];
        int pieces = ring_front(&s->in, bridge_arena(b), s->in.len, iov);
        ssize_t n = write_once(t, iov, pieces);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            t->blocked = true;
        } else if (n < 0) {
            broken_after_last_words(t);
            return;
        } else {
            bridge_delivered(b, (size_t)n);
        }
    }
}

static void adjust(struct bridge_local *l, struct bridge *b)
{
    struct tcp_end *t = (struct tcp_end *)l;
    const struct session *s = bridge_session(b);
    unsigned events = 0;
    if (s->tcp_broken)
        return;
    /* Whether the stream takes more is asked when there is something to read, and here by who waits for it. */
    size_t wants = t->held ? bridge_wants(b) : session_tcp_wants(s);
    if (t->held && wants > 0 && !t->starved) {
        /* There are bytes, most likely: no need to hear of them first. */
        read_once(t, wants);
        wants = bridge_wants(b);
    }
    t->held = wants == 0;
    if (s->tcp_broken)
        return;
    if (t->blocked && s->in.len > 0)
        events |= LOOP_WRITE;
    if (wants > 0 && !t->starved)
        events |= LOOP_READ;
    loop_watch_set(t->watch, events);
}

/* --- ending --- */

static void shut(struct bridge_local *l)
{
    struct tcp_end *t = (struct tcp_end *)l;
    shutdown(loop_watch_fd(t->watch), SHUT_WR);
    t->shut = true;
}

static void close_end(struct bridge_local *l, bool abort)
{
    struct tcp_end *t = (struct tcp_end *)l;
    struct bridge_pool *pool = bridge_pool_of(t->bridge);
    t->bridge = NULL;
    /* With their FIN read there is nothing more to read, and closing sends ours behind the last byte. */
    if (abort || t->fin) {
        end_free(t);
        return;
    }
    list_append(&pool->lingering, &t->lingering);
    /* Closing a socket with bytes unread sends a reset, which can overtake what was just written (a NOTIFICATION). So: FIN,
     * then read and drop until the other side has closed. */
    if (!t->shut)
        shutdown(loop_watch_fd(t->watch), SHUT_WR);
    start_timer(t, pool->loop, TCP_END_LINGER_MS);
    loop_watch_set(t->watch, LOOP_READ);
}

static void drop_input(struct tcp_end *t)
{
    char dump[4096];
    for (int i = 0; i < 64; i++) {
        ssize_t n = recv(loop_watch_fd(t->watch), dump, sizeof dump, 0);
        if (n > 0 || (n < 0 && errno == EINTR))
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        end_free(t);
        return;
    }
}

/* --- events --- */

static void on_event(void *arg, unsigned events)
{
    struct tcp_end *t = arg;
    if (!t->bridge) {
        drop_input(t);
        return;
    }
    if (events & LOOP_WRITE)
        t->blocked = false;
    size_t wants = bridge_wants(t->bridge);
    t->held = wants == 0;
    if ((events & LOOP_READ) && wants > 0) {
        size_t n = read_once(t, wants);
        /* The loop calls again for more. Only who has read much of what was wanted may have to wait now. */
        if (n > 0 && n < wants / 2 && !(events & LOOP_WRITE))
            return;
        t->held = bridge_wants(t->bridge) == 0;
    } else if (events & LOOP_GONE) {
        broken_after_last_words(t);
    }
    bridge_kick(t->bridge);
}

static int end_fd(const struct bridge_local *l)
{
    return loop_watch_fd(((const struct tcp_end *)(const void *)l)->watch);
}

static const struct bridge_local_ops ops = {
    .take = take, .deliver = deliver, .adjust = adjust, .shut = shut, .close = close_end, .fd = end_fd};

struct bridge_local *tcp_end_new(struct bridge *b, int fd, struct err *e)
{
    struct tcp_end *t = calloc(1, sizeof *t);
    if (!t) {
        close(fd);
        err_set(e, "out of memory");
        return NULL;
    }
    t->base.ops = &ops;
    t->bridge = b;
    list_init(&t->lingering);
    t->read_size = READ_FIRST;
    t->watch = loop_watch_new(bridge_loop(b), fd, LOOP_READ, on_event, t, e);
    if (!t->watch) {
        close(fd);
        free(t);
        return NULL;
    }
    bridge_set_local(b, &t->base);
    return &t->base;
}

void tcp_end_read_now(struct bridge_local *l)
{
    struct tcp_end *t = (struct tcp_end *)l;
    size_t wants = bridge_wants(t->bridge);
    if (wants > 0)
        read_once(t, wants);
}

void tcp_end_cut_lingering(struct bridge_pool *pool)
{
    while (!list_empty(&pool->lingering))
        end_free(LIST_ITEM(pool->lingering.next, struct tcp_end, lingering));
}

static void set_dscp(int fd, uint8_t family)
{
    int cs6 = 0xc0;
    if (family == 6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &cs6, sizeof cs6);
    else
        setsockopt(fd, IPPROTO_IP, IP_TOS, &cs6, sizeof cs6);
}

void tcp_end_bgp_accepted(int fd, uint8_t family)
{
    set_dscp(fd, family);
}

void tcp_end_bgp_options(int fd, uint8_t family)
{
    int on = 1, ttl = 255, idle = 60, interval = 15, count = 4;
    if (family == 6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &ttl, sizeof ttl);
    else
        setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
    set_dscp(fd, family);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}
