#ifndef KBGP_GRPC_H2_H
#define KBGP_GRPC_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/kv.h"

/*
 * One HTTP/2 connection (RFC 9113) as an engine without I/O: bytes are fed in, bytes are drained out. The only file that
 * knows nghttp2.
 *
 * Callbacks come from h2_feed() and h2_drain(). In a callback everything here may be called except h2_feed(), h2_drain() and
 * h2_free().
 *
 * Receiving is paid for with credit: what a stream received counts against its window until h2_stream_consume(); the
 * connection's credit returns at once, so that a stalled stream does not stall the others. A stream's window starts
 * small and grows while its reader keeps up (dynamic right-sizing: a few times what the path holds at the rate at which
 * the reader reads, by the shortest round trip of late), within a budget that all connections of the process share. What a
 * window lets through and the line does not take waits in the kernel, and everything else on the connection waits behind it;
 * so windows are not simply large.
 */
struct h2;

/* Windows grow from here … */
#define H2_WINDOW_FIRST (64u << 10)
/* … for bulk data by up to this on any path, because a turn of the loop takes longer than a short path's round trip … */
#define H2_WINDOW_BULK (256u << 10)
/* … or this where the connection has no other stream: nobody waits behind what is on its way, and the programs take turns. */
#define H2_WINDOW_BULK_ALONE (1u << 20)
/* … to here: 100 ms at 1 Gbit/s with room to spare. */
#define H2_WINDOW_MAX (32u << 20)
/* How much all windows of a process may have grown by in sum. */
#define H2_WINDOW_BUDGET (256u << 20)
/* The most text of one header block, as SETTINGS_MAX_HEADER_LIST_SIZE counts it. */
#define H2_HEADERS_MAX (32u << 10)
/*
 * A DATA frame of ours with its header: 16 KiB, as much as one TLS record holds and one frame may hold by default (RFC 9113
 * section 4.2), so that frames, records and what is read at once on the other side end together.
 */
#define H2_FRAME_BYTES   (16u << 10)
#define H2_FRAME_PAYLOAD (H2_FRAME_BYTES - 9)
/* What h2_drain() needs room for at the least: a frame of 16 KiB with its header, as nghttp2 keeps it. */
#define H2_DRAIN_MIN (17u << 10)

struct h2_stream {
    struct h2 *h2;
    int32_t id; /* 0: the stream is gone */
    const struct h2_stream_ops *ops;
    void *arg;
    /* engine's own: */
    bool local_end; /* our END_STREAM is queued or sent */
    bool remote_end;
    bool headers_bad;
    uint32_t most_room;               /* the largest send window the other side has given */
    uint32_t window;                  /* receive window as advertised */
    uint32_t credit;                  /* consumed, and not given back yet */
    uint32_t round_bytes, last_bytes; /* consumed in this round trip and in the last one */
    int64_t round_start_ns, last_start_ns;
};

struct h2_stream_ops {
    /* A header block is complete: the first one (1xx are not reported), or trailers. `end`: END_STREAM stands on it. */
    void (*headers)(void *arg, struct kv *headers, bool trailers, bool end);
    void (*data)(void *arg, const uint8_t *p, size_t n);
    /* END_STREAM on a DATA frame. */
    void (*end)(void *arg);
    /* h2_stream_room() has grown, by WINDOW_UPDATE; that it has by a SETTINGS frame is not told. May be NULL. */
    void (*room)(void *arg);
    /* The stream is gone; `error` is the RST_STREAM code, 0 after a regular end. The last callback. */
    void (*closed)(void *arg, uint32_t error);
    /* How many bytes are ready to be sent, at most `max`; 0: none now (h2_stream_wake() later). */
    size_t (*ready)(void *arg, size_t max);
    /* Writes exactly n bytes, n ≤ what `ready` said. */
    void (*write)(void *arg, uint8_t *dst, size_t n);
    /* After `ready` said 0: whether nothing will ever follow. Then END_STREAM is sent, or the trailers, when there are. */
    bool (*finished)(void *arg, const struct kv **trailers);
};

struct h2_ops {
    /* Server: a request began. Returns its stream (zeroed but for ops and arg), or NULL to refuse it (REFUSED_STREAM). */
    struct h2_stream *(*open)(void *arg);
    /* The other side will take no streams above last_id. */
    void (*goaway)(void *arg, int32_t last_id, uint32_t error, const char *debug);
    void (*ping_ack)(void *arg, int64_t rtt_ns);
    /* The first SETTINGS of the other side has come: the connection is HTTP/2. */
    void (*ready)(void *arg);
};

/* `max_streams`: how many streams the other side may open at once (0 for a client). NULL without memory. */
struct h2 *h2_new(bool server, uint32_t max_streams, const struct h2_ops *ops, void *arg);
void h2_free(struct h2 *h);

/*
 * Bytes from the other side. False: the connection cannot go on; why is in `e` (drain once more: a GOAWAY may wait). Some
 * errors show only after the next h2_drain(), which says GOAWAY: then h2_done() is true, and h2_feed() false.
 */
bool h2_feed(struct h2 *h, const uint8_t *p, size_t n, int64_t now_ns, struct err *e);
/* Writes what waits to be sent into dst (cap ≥ H2_DRAIN_MIN). Returns how much; 0: nothing now; -1: fatal. */
int64_t h2_drain(struct h2 *h, uint8_t *dst, size_t cap, int64_t now_ns);
bool h2_wants_write(struct h2 *h);
/* Nothing more to send or to receive: both sides have said GOAWAY, or the like. */
bool h2_done(struct h2 *h);

/* Client: opens a stream (st: zeroed but for ops and arg, owned by the caller until closed). Keys starting with ':' first. */
bool h2_open(struct h2 *h, struct h2_stream *st, const struct kv *headers);
/* How many streams the other side takes at once. */
uint32_t h2_peer_max_streams(struct h2 *h);

/* Server: the response's header block. `end`: nothing else follows (a trailers-only answer). */
bool h2_respond(struct h2_stream *st, const struct kv *headers, bool end);
/* There is something to send on the stream (or to finish). */
void h2_stream_wake(struct h2_stream *st);
/*
 * How many bytes of data the other side takes on this stream now, and (*most) the most it ever took at once. What the connection as
 * a whole takes is not looked at.
 */
size_t h2_stream_room(struct h2_stream *st, size_t *most);
/* RST_STREAM. `closed` follows from h2_drain(). */
void h2_stream_reset(struct h2_stream *st, uint32_t error);
/* The stream's memory is about to go while the engine still knows it (or no longer does). `closed` will not be called. */
void h2_stream_forget(struct h2_stream *st);
/*
 * n bytes of the stream's data are done with: credit returns, and the window grows with rate and round trip. For that the first few
 * calls for a connection, and those for a window that is to grow, send a PING.
 */
void h2_stream_consume(struct h2_stream *st, size_t n, int64_t now_ns);

/* PING, unless one is under way or was answered less than 100 ms ago. */
void h2_ping(struct h2 *h, int64_t now_ns);
/* Smoothed round trip of PINGs, in nanoseconds; 0: not known yet. */
int64_t h2_rtt_ns(const struct h2 *h);
/*
 * GOAWAY with NO_ERROR: streams that are open go on, new ones are refused. A server says it twice (RFC 9113 section 6.8), so
 * that what the client began before it heard of it is not lost: first without a last stream, then, when a PING has been
 * there and back, with it.
 */
void h2_goaway(struct h2 *h);
/* Server: the second one is still to come. */
bool h2_goaway_due(const struct h2 *h);
/* Does not wait for it any longer. */
void h2_goaway_last(struct h2 *h);

/* The name of an HTTP/2 error code: "CANCEL", … */
const char *h2_error_name(uint32_t error);
enum {
    H2_NO_ERROR = 0,
    H2_INTERNAL_ERROR = 2,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_ENHANCE_YOUR_CALM = 11
};

#endif
