#ifndef KBGP_NET_STREAM_H
#define KBGP_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "net/loop.h"
#include "net/tls_ctx.h"

/*
 * A connected byte stream: a TCP socket, or another stream (the tunnel through an https:// web proxy), with
 * TLS on it or without.
 *
 * Reading is by pulling: on_event(LOOP_READ), then stream_read() until it says "nothing now". Writing always
 * takes everything: what the socket does not take waits in a queue, and the owner writes no more until
 * on_event(LOOP_WRITE) says that the queue is empty. With TLS the queue holds ciphertext, so that several
 * records leave in one send().
 */
struct stream;

struct stream_ops {
    /* TLS is up (or, without TLS, the stream is ready to use). */
    void (*ready)(void *arg);
    /* LOOP_READ and LOOP_WRITE as above. */
    void (*event)(void *arg, unsigned events);
    /* The handshake failed. The owner frees the stream, in the callback or later. */
    void (*failed)(void *arg, const struct err *why);
};

/*
 * Takes over a connected, non-blocking socket. With `tls` a handshake follows: as a server, or as a client
 * that verifies the other side to be `server_name` (a DNS name or an IP address). NULL with the reason in
 * `e`; the socket is closed then.
 */
struct stream *stream_new(struct loop *loop, int fd, struct tls_ctx *tls, const char *server_name,
                          const struct stream_ops *ops, void *arg, struct err *e);
/*
 * The same for a connection to a web proxy: TLS without HTTP/2 (ALPN `http/1.1`, which nobody has to confirm)
 * and without our client certificate, which is for the target alone.
 */
struct stream *stream_new_to_proxy(struct loop *loop, int fd, struct tls_ctx *tls, const char *server_name,
                                   const struct stream_ops *ops, void *arg, struct err *e);
/*
 * A stream inside another, which is ready and has nothing queued: `lower` then belongs to it (also when this
 * fails: it is freed). With `tls` a handshake as a client follows.
 */
struct stream *stream_new_inside(struct loop *loop, struct stream *lower, struct tls_ctx *tls,
                                 const char *server_name, const struct stream_ops *ops, void *arg,
                                 struct err *e);
/* Takes the socket out of a stream without TLS that has nothing queued, and frees the stream. */
int stream_take_socket(struct stream *s);
/* Hands the stream to another owner. */
void stream_set_owner(struct stream *s, const struct stream_ops *ops, void *arg);

bool stream_is_tls(const struct stream *s);
/* When the first certificate of the chain that the other side was verified with expires, in seconds since
 * 1970. 0: no TLS. */
int64_t stream_tls_expiry(const struct stream *s);
/* > 0: bytes; 0: the other side has closed; STREAM_AGAIN: nothing now; STREAM_BROKEN: see stream_why(). */
ssize_t stream_read(struct stream *s, uint8_t *dst, size_t cap);
#define STREAM_AGAIN  (-1)
#define STREAM_BROKEN (-2)
/* False: the stream is broken, see stream_why(). */
bool stream_write(struct stream *s, const uint8_t *p, size_t n);
/* Bytes in the queue, those of the stream below included. */
size_t stream_queued(const struct stream *s);
const struct err *stream_why(const struct stream *s);

/* After the queue: TLS close_notify and FIN. Nothing may be written afterwards; reading goes on. */
void stream_shutdown(struct stream *s);
/* Closes the socket. What is queued is lost. Allowed in any callback. */
void stream_free(struct stream *s);

#endif
