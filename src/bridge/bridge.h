#ifndef KBGP_BRIDGE_BRIDGE_H
#define KBGP_BRIDGE_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "grpc/call.h"
#include "net/loop.h"
#include "relay/session.h"

/*
 * One session in motion: joins the session (which decides), its local end (a TCP connection, or the target's collector)
 * and its Data call. The same code at both ends of the chain.
 *
 *     local end ──bridge_received──▶ session.out ──pulled──▶ call
 *     local end ◀──────deliver────── session.in ◀──────────  call
 *
 * Bytes move when they come; what follows from them (writing what waits, ending things) is done by one task a turn of the
 * loop. What one turn of a connection brought for a session is one write: straight from where it was read when nothing waits in
 * the in ring (`take`), else through the ring (`deliver`).
 */
struct bridge;

/* The local end. A struct of its own kind starts with this. */
struct bridge_local {
    const struct bridge_local_ops *ops;
};

struct bridge_local_ops {
    /*
     * These bytes are next, and the in ring is empty: returns how many were taken. The others go into the ring. NULL: all go
     * through the ring.
     */
    size_t (*take)(struct bridge_local *l, const struct lent *lent);
    /* The in ring has bytes: take what can be taken (bridge_delivered). Called again by bridge_kick(). */
    void (*deliver)(struct bridge_local *l, struct bridge *b);
    /* bridge_wants() may have changed: start or stop reading. */
    void (*adjust)(struct bridge_local *l, struct bridge *b);
    /* Everything was delivered and nothing will follow: FIN. Reading goes on. */
    void (*shut)(struct bridge_local *l);
    /* The session is over. In good order (what was delivered must arrive), or abort. Frees the end; no bridge any more. */
    void (*close)(struct bridge_local *l, bool abort);
    /* The end's socket, to set options on; NULL: it has none. */
    int (*fd)(const struct bridge_local *l);
};

struct bridge_ops {
    /* Agent: the server's initial metadata. */
    void (*metadata)(void *arg, const struct kv *metadata);
    /* The call is over and the session is not: another call may be attached. */
    void (*call_lost)(void *arg, const struct grpc_status *status);
    /* Agent: a RESTART is complete: attach the next call at once. */
    void (*reopen)(void *arg);
    /* The session is over; the local end is closed and the call let go of. Free the bridge now or later. */
    void (*over)(void *arg, enum session_todo how);
};

/* At so many sessions in a turn of a connection bytes go straight to the local end; those of others go through their rings. */
#define BRIDGE_LENT 64

struct bridge_pool {
    struct loop *loop;
    struct arena *arena;
    /* Sessions whose local end has closed or that are being killed: somebody may have to give up on them. */
    uint32_t ending;
    struct lent lent[BRIDGE_LENT];
    uint64_t lent_used; /* a bit for each: it is a bridge's, until its call settles */
    struct list
        lingering; /* local ends whose session is over and whose other side has not closed yet: bridge/tcp_end */
    uint64_t bytes[2],
        messages[2]; /* relayed so far, all sessions; [0] out of the local ends, [1] into them */
    /* Backpressure: sessions that stand still now, by direction, and for how long sessions did: see bridge_pool_paused_ms(). */
    uint32_t paused[2];
    uint64_t paused_ms[2];
    int64_t paused_at_ms[2];
};

/* The arena stays the caller's. */
void bridge_pool_init(struct bridge_pool *pool, struct loop *loop, struct arena *arena);

/*
 * How long sessions have stood still because the next hop did not take their bytes, all of them in sum, up to now. [0]:
 * reading from the local end has stopped; [1]: the local end takes nothing.
 */
uint64_t bridge_pool_paused_ms(const struct bridge_pool *pool, unsigned direction);

/* NULL when the arena has no slot left. The bridge owns the session's slot. */
struct bridge *bridge_new(struct bridge_pool *pool, enum session_role role, const struct uuid *id,
                          const struct addr *device, const struct addr *proxy, const struct bridge_ops *ops,
                          void *arg);
/* Ends whatever is still there without further callbacks: cancels the call, aborts the local end. */
void bridge_free(struct bridge *b);

/* The local end now belongs to the bridge. */
void bridge_set_local(struct bridge *b, struct bridge_local *local);
/* The local end's socket, to set options on; -1: there is no end (any more), or it has no socket. */
int bridge_local_fd(const struct bridge *b);
/* The ops for a call of this bridge (arg: the bridge); then hand over the call. Server: use bridge_accept(). */
extern const struct grpc_call_ops bridge_call_ops;
void bridge_attach(struct bridge *b, struct grpc_call *call);
/* Server: grpc_call_accept() and attach in one. A call that is attached already is cancelled. */
void bridge_accept(struct bridge *b, struct grpc_call *call, const struct kv *metadata);
bool bridge_has_call(const struct bridge *b);
const struct grpc_call *bridge_call(const struct bridge *b);

struct session *bridge_session(const struct bridge *b);
struct arena *bridge_arena(const struct bridge *b);
struct loop *bridge_loop(const struct bridge *b);
struct bridge_pool *bridge_pool_of(const struct bridge *b);

/* Something was changed in the session (restart, kill, counters): see to what follows, this turn. */
void bridge_kick(struct bridge *b);

/* --- for the local end --- */
/*
 * Whether bytes should be read, and how many at most: session_tcp_wants(), and no more than the call's stream takes now (see
 * grpc_call_room()). After 0 the end's `adjust` is called when there may be more.
 */
size_t bridge_wants(struct bridge *b);
/* n bytes were received into ring_room(&session->out). */
void bridge_received(struct bridge *b, const struct iovec *iov, size_t n);
/* The same for bytes that lie elsewhere: copies them. False when memory for rings has run out. */
bool bridge_put(struct bridge *b, const void *p, size_t n);
/* No more bytes will come. */
void bridge_eof(struct bridge *b);
/* The local end broke: nothing more comes or goes. */
void bridge_broken(struct bridge *b);
/* n bytes of session->in were taken. */
void bridge_delivered(struct bridge *b, size_t n);

#endif
