#ifndef KBGP_RELAY_SESSION_H
#define KBGP_RELAY_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/uuid.h"
#include "bgp/watch.h"
#include "relay/data_msg.h"
#include "relay/lent.h"
#include "relay/ring.h"

/*
 * One relayed BGP session, at either end. It joins two sides:
 *
 *     TCP side                                           stream side
 *     (router, or the target's backend)                  (a Data call; one after the other, as connections come and go)
 *
 *     bytes read   ──▶  out ring  ──▶  DataRequest (agent) / DataResponse (target)
 *     bytes to write ◀── in ring  ◀──  DataResponse (agent) / DataRequest (target)
 *
 * The session decides; it does no I/O and has no clock. Events are told to it, and after each of them its owner does what
 * session_todo() says until it says SESSION_NOTHING. Rules: docs/protocol.md, parts 1 and 2.
 *
 * A session lives in an arena slot and is plain memory without pointers.
 */
enum session_role { SESSION_AGENT, SESSION_TARGET };

/* The stream side. */
enum session_stream {
    SESSION_STREAM_NONE, /* no call; the TCP side waits for the next one */
    SESSION_STREAM_OPEN, /* messages flow */
    SESSION_STREAM_OVER, /* ended for good: no call will follow */
};

/* What the owner has to do now. Each is named once and then counts as done. */
enum session_todo {
    SESSION_NOTHING,
    SESSION_SHUT_TCP,    /* all bytes for TCP are written: shutdown(SHUT_WR) */
    SESSION_END_STREAM,  /* agent: half-close the call after the messages written so far */
    SESSION_FINISH_CALL, /* target: end the call with status OK after the messages written so far */
    SESSION_REOPEN,      /* agent: RESTART is complete, open the next Data call at once */
    SESSION_CLOSE,       /* over in good order: close TCP (everything was delivered) and forget the session */
    SESSION_ABORT,       /* over by KILL or protocol error: drop TCP, cancel the call, forget the session */
};

struct session_traffic {
    uint64_t messages; /* as the contract counts them: with actions */
    uint64_t actions;  /* of these, how many carried an action: see session_peer_counters() */
    uint64_t bytes;    /* payload */
};

struct session_counts {
    uint64_t messages, actions;
};

struct session {
    struct uuid id;
    struct addr device; /* the router, as the agent sees it */
    struct addr proxy;  /* the agent's address of that connection */
    uint8_t role;
    uint8_t stream;

    bool tcp_eof : 1;    /* TCP side: its FIN was read, no more bytes will come */
    bool tcp_broken : 1; /* TCP side: reset; nothing can be written to it either */
    bool tcp_shut : 1;   /* TCP side: our FIN follows the last byte */

    bool peer_done : 1;  /* the other end has no more bytes for our TCP side */
    bool end_sent : 1;   /* stream: our half is closed */
    bool peer_ended : 1; /* stream: the other half is closed */
    bool restart_due : 1, restart_sent : 1, restart_received : 1;
    bool kill_due : 1, kill_sent : 1, kill_received : 1;
    bool malformed : 1; /* the other end sent what is no protobuf message: why we kill */
    bool over : 1;      /* CLOSE or ABORT was named */

    struct ring out, in;
    uint32_t tx_payload; /* payload bytes of the message being written that are still in the out ring */
    uint8_t tx_header[DATA_HEADER_MAX], tx_header_len, tx_header_at;
    struct session_traffic sent, received;              /* messages over the streams, all in sum */
    struct session_counts sent_before, received_before; /* what they were when the call that is open began */
    struct data_decoder decoder;

    struct bgp_watch seen; /* BGP as it passes, for the operator's eyes */
};

/*
 * The most bytes the out ring holds: then the TCP side is not read any more and TCP tells the sender. Two full messages are
 * one full send of the connection.
 */
#define SESSION_OUT_MAX (2 * DATA_PAYLOAD_MAX)

/*
 * A new call is opened only when the in ring holds no more than this: each call brings a window of its own, and a router that
 * does not read must not gather them.
 */
#define SESSION_REOPEN_MAX (64u << 10)

void session_init(struct session *s, enum session_role role, const struct uuid *id, const struct addr *device,
                  const struct addr *proxy);
/* Gives the rings' blocks back. */
void session_release(struct session *s, struct arena *a);

/* --- TCP side, events --- */

/* Whether bytes should be read from TCP, and how many at most. */
size_t session_tcp_wants(const struct session *s);
/* n bytes were read, `now`, into memory from ring_room(&s->out); see ring.h. */
void session_tcp_read(struct session *s, struct arena *a, const struct iovec *iov, size_t n,
                      const struct bgp_watch_time *now);
/* The same for bytes that lie elsewhere: copies them, all or (without memory for rings) none. */
bool session_tcp_put(struct session *s, struct arena *a, const void *p, size_t n,
                     const struct bgp_watch_time *now);
/* TCP gave its FIN. */
void session_tcp_eof(struct session *s);
/* TCP was reset: nothing can be read or written. Returns how many bytes meant for it are now dropped (window credit). */
size_t session_tcp_broken(struct session *s, struct arena *a);
/* n bytes of ring_front(&s->in) were written. */
void session_tcp_wrote(struct session *s, struct arena *a, size_t n);

/* --- stream side, events --- */

/* A call is open (agent: was started; target: was accepted). */
void session_stream_open(struct session *s);
/* The counters the other end told, in DataRequests and DataResponses; has_* is false for one it did not tell. */
struct session_counters {
    uint64_t up, down;
    bool has_up, has_down;
};
/*
 * Compares them with ours as they were when the call began (messages may be on their way since). False: the two ends disagree; a KILL is then due. A peer that leaves action messages out of its counters is
 * taken as it means it (part 2).
 */
bool session_peer_counters(struct session *s, const struct session_counters *peer);
/* What we tell: messages each way so far. */
struct session_counters session_counters(const struct session *s);

/*
 * A message of the other end: begin (with its length; 0: not known), bytes in any number of pieces, end.
 *
 * session_message_bytes() returns how many of the n bytes are already done with, so that their window credit may be returned: the
 * others follow with session_tcp_wrote() or session_lent_back(). It returns SIZE_MAX, and an ABORT is due, when the bytes are no
 * protobuf message or memory ran out. In `lent` payload may be noted instead of copied to the in ring (NULL: always
 * copied); it must come back with session_lent_back() before the session is asked or told anything but further messages.
 */
void session_message_begin(struct session *s, uint32_t len);
size_t session_message_bytes(struct session *s, struct arena *a, struct lent *lent, const uint8_t *p,
                             size_t n, const struct bgp_watch_time *now);
/*
 * TCP took the first n bytes of what was lent, which are done with now; the others go into the in ring. Without memory for
 * them an ABORT is due.
 */
void session_lent_back(struct session *s, struct arena *a, struct lent *lent, size_t n);
/* False: the message was cut short; an ABORT is due. */
bool session_message_end(struct session *s);

/* Target: the client closed its half. */
void session_stream_half_closed(struct session *s);
/* The call is gone. `ok`: it ended with status OK. */
void session_stream_closed(struct session *s, bool ok);

/* The next message to write: its length, or -1 for none now. Must be followed by session_message_write() of all of it. */
int64_t session_message_next(struct session *s);
/* The next n bytes of that message. */
void session_message_write(struct session *s, struct arena *a, uint8_t *dst, size_t n);

/* --- the owner's wishes --- */

/* End this call in good order and go on in a new one. */
void session_restart(struct session *s);
/* Tell the other end KILL and abort. */
void session_kill(struct session *s);

/* See enum session_todo. Call until it says SESSION_NOTHING. */
enum session_todo session_todo(struct session *s);

#endif
