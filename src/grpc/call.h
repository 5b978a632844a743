#ifndef KBGP_GRPC_CALL_H
#define KBGP_GRPC_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/kv.h"
#include "grpc/status.h"

/*
 * One bidirectional streaming call, on either side. Its connection owns it; a user holds a pointer until `closed` was
 * called or the user let go (grpc_call_cancel, grpc_call_release).
 *
 * Sending is by pulling: when the connection has room it asks for the length of the next message and then for its bytes,
 * which therefore go from where they lie straight into the buffer that is encrypted. Receiving is in pieces as they
 * come; each piece is paid for with grpc_call_consume() when it is done with, and not before: that is the backpressure.
 */
struct grpc_call;
struct grpc_conn;

/* Room for so much payload is always worth a read: a full message. */
#define GRPC_ROOM_FULL (64u << 10)

/* All callbacks come from the event loop; in each of them every function below may be called. */
struct grpc_call_ops {
    /* --- receiving --- */
    /* Client: the server's initial metadata (header fields without the pseudo-headers). */
    void (*metadata)(void *arg, const struct kv *metadata);
    /* A message of `len` bytes begins, goes on (any number of times), is complete. */
    void (*message_begin)(void *arg, uint32_t len);
    void (*message_bytes)(void *arg, const uint8_t *p, size_t n);
    void (*message_end)(void *arg);
    /*
     * What message_bytes told of is about to be overwritten: whoever looks at it no longer than this need not copy it. Comes
     * once after one or many of them, before the loop sees to anything else, unless `closed` comes or the user lets
     * go first. May be NULL.
     */
    void (*settle)(void *arg);
    /* Server: the client closed its half. */
    void (*half_closed)(void *arg);
    /* The call is over: the last callback. Server: OK when our status went out, else why the call broke. */
    void (*closed)(void *arg, const struct grpc_status *status);

    /* --- sending --- */
    /* Length of the next message, or -1: none now (grpc_call_wake() later). */
    int64_t (*next)(void *arg);
    /* The next n bytes of that message. */
    void (*write)(void *arg, uint8_t *dst, size_t n);
    /* After grpc_call_room() said 0: ask again. May be NULL. Nothing may be done in it to other calls. */
    void (*room)(void *arg);
};

/* There is a message to send. */
void grpc_call_wake(struct grpc_call *call);
/*
 * The same when n bytes have come for a message. As soon as one connection's calls together have enough for a full send, it is
 * made at once: the bytes are still in the CPU's cache, which they would not be after a turn in which all routers were
 * read. So not in a callback of a call: from a socket's event or a task of its own only.
 */
void grpc_call_offer(struct grpc_call *call, size_t n);
/*
 * How many bytes to gather for messages, beyond the `queued` ones that wait already: as many as the other side's window for the call
 * takes now, so that what cannot leave waits in the kernel of who sent it and not in our memory. 0 while these are less than
 * GRPC_ROOM_FULL and less than a quarter of the largest window it ever gave; the callback `room` tells when there is more. (The
 * sender's rule against the silly window syndrome, RFC 1122 section 4.2.3.4. Its override is here, too: when the wait lasts for one to
 * two seconds, perhaps because the other side returns no credit before it has got more than that, the rule ends for this
 * call, and the answer is SIZE_MAX.)
 */
size_t grpc_call_room(struct grpc_call *call, size_t queued);
/* n received bytes (as message_bytes counted them) are done with: the sender may send that much more. */
void grpc_call_consume(struct grpc_call *call, size_t n);

/* Client: no more messages after those that `next` still has. */
void grpc_call_half_close(struct grpc_call *call);
/* Ends the call at once (RST_STREAM, CANCEL). No callback comes any more. */
void grpc_call_cancel(struct grpc_call *call);
/*
 * Lets the call end by itself: what was written is sent, then END_STREAM (client), and what still comes in is dropped.
 * No callback comes any more. A call that does not end within 5 s is cancelled.
 */
void grpc_call_release(struct grpc_call *call);

/* Server: takes the call; initial metadata (may be NULL) goes out now. */
void grpc_call_accept(struct grpc_call *call, const struct kv *metadata, const struct grpc_call_ops *ops,
                      void *arg);
/* Server: status and message, after those messages that `next` still has. Without an accept it is a trailers-only answer. */
void grpc_call_finish(struct grpc_call *call, enum grpc_code code, const char *message);

struct grpc_conn *grpc_call_conn(const struct grpc_call *call);

/* --- for conn.c --- */

/* Client: opens the call. NULL when the connection takes none. */
struct grpc_call *grpc_call_open(struct grpc_conn *conn, const char *path, const struct kv *metadata,
                                 const struct grpc_call_ops *ops, void *arg);

#endif
