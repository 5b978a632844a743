#include "net/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/buf.h"

/* A queue that was larger than this gives its memory back when it is empty; else see `spare_queue`. */
#define QUEUE_KEEP (256u << 10)
/*
 * How much the kernel keeps that it has not sent yet. Small, so that a KEEPALIVE does not wait behind a
 * second of bulk data; what is in flight on a long path does not count.
 */
#define NOTSENT_LOWAT (128 << 10)

struct stream {
    struct loop *loop;
    int fd;
    struct loop_watch *watch;
    struct stream *lower;  /* instead of fd and watch */
    struct loop_task kick; /* a stream inside another begins with it, no socket would wake it */
    SSL *ssl;
    bool to_proxy;
    bool ready, want_shutdown, shut, broken;
    bool drained;     /* the socket gave less than it was asked for: there is no more until its next event */
    struct buf queue; /* for the socket or the stream below: plain bytes or ciphertext */
    const struct stream_ops *ops;
    void *arg;
    char *server_name;
    char *issuer;    /* of a certificate that is not trusted */
    struct err *why; /* NULL: nothing is wrong */
};

/*
 * Queues are empty nearly always, and filled and emptied one after the other: so one piece of memory goes round among all
 * of them, and a stream that has nothing to send holds none.
 */
static struct buf spare_queue;

static bool enqueue(struct stream *s, const void *p, size_t n)
{
    if (!s->queue.data && n > 0) {
        s->queue = spare_queue;
        spare_queue = (struct buf){0};
    }
    return buf_append(&s->queue, p, n);
}

static void queue_emptied(struct stream *s)
{
    if (!spare_queue.data && s->queue.cap <= QUEUE_KEEP) {
        spare_queue = s->queue;
        s->queue = (struct buf){0};
    } else {
        buf_free(&s->queue);
    }
}

/* Where to write why: half a kilobyte that a sound connection does not need. */
static struct err *why_of(struct stream *s)
{
    static struct err no_memory;
    if (!s->why)
        s->why = calloc(1, sizeof *s->why);
    return s->why ? s->why : &no_memory;
}

static bool broken(struct stream *s, const char *what, int errnum)
{
    s->broken = true;
    if (!s->why)
        err_set(why_of(s), "%s: %s", what, strerror(errnum));
    return false;
}

/* --- what carries the bytes: the socket or the stream below --- */

static void watch_set(struct stream *s, unsigned events)
{
    if (s->watch)
        loop_watch_set(s->watch, events);
}

static bool broken_below(struct stream *s)
{
    s->broken = true;
    if (!s->why)
        *why_of(s) = *stream_why(s->lower);
    return false;
}

/* As stream_read(). */
static ssize_t raw_recv(struct stream *s, void *p, size_t n)
{
    if (s->lower) {
        ssize_t got = stream_read(s->lower, p, n);
        if (got == STREAM_BROKEN)
            broken_below(s);
        return got;
    }
    if (s->drained)
        return STREAM_AGAIN;
    for (;;) {
        ssize_t got = recv(s->fd, p, n, 0);
        /* Level-triggered: a FIN behind these bytes brings an event of its own. */
        s->drained = got > 0 && (size_t)got < n;
        if (got >= 0)
            return got;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return STREAM_AGAIN;
        if (errno != EINTR) {
            broken(s, "receiving", errno);
            return STREAM_BROKEN;
        }
    }
}

/* How much was taken (the stream below takes everything and queues it); STREAM_AGAIN, STREAM_BROKEN. */
static ssize_t raw_send(struct stream *s, const uint8_t *p, size_t n)
{
    if (s->lower) {
        if (stream_write(s->lower, p, n))
            return (ssize_t)n;
        broken_below(s);
        return STREAM_BROKEN;
    }
    for (;;) {
        ssize_t sent = send(s->fd, p, n, MSG_NOSIGNAL);
        if (sent >= 0)
            return sent;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return STREAM_AGAIN;
        if (errno != EINTR) {
            broken(s, "sending", errno);
            return STREAM_BROKEN;
        }
    }
}

static void raw_shutdown(struct stream *s)
{
    if (s->lower)
        stream_shutdown(s->lower);
    else
        shutdown(s->fd, SHUT_WR);
}

/*
 * SSL_get_error() reads the thread's queue of errors, so nothing old may stand there before a call. It is empty nearly always,
 * and emptying it all the same costs more instructions than a small record takes in libssl itself.
 */
static void forget_errors(void)
{
    if (ERR_peek_error() != 0)
        ERR_clear_error();
}

/* --- OpenSSL's transport: reads from below, writes into the queue --- */

static int bio_write(BIO *bio, const char *p, int n)
{
    struct stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return n >= 0 && enqueue(s, p, (size_t)n) ? n : -1;
}

static int bio_read(BIO *bio, char *p, int n)
{
    struct stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t got = raw_recv(s, p, (size_t)n);
    if (got == STREAM_AGAIN)
        BIO_set_retry_read(bio);
    return got >= 0 ? (int)got : -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    /* Flushing is ours: once a turn of the loop, not once a record. */
    return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
    static BIO_METHOD *method;
    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kbgp stream");
        if (!method)
            abort();
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_ctrl(method, bio_ctrl);
    }
    return method;
}

/* --- the queue --- */

static void send_queue(struct stream *s)
{
    while (buf_len(&s->queue) > 0 && !s->broken) {
        ssize_t n = raw_send(s, buf_begin(&s->queue), buf_len(&s->queue));
        if (n < 0)
            break;
        buf_take(&s->queue, (size_t)n);
    }
    if (buf_len(&s->queue) == 0) {
        queue_emptied(s);
        if (s->want_shutdown && !s->shut) {
            s->shut = true;
            raw_shutdown(s);
        }
    }
    watch_set(s, LOOP_READ | (buf_len(&s->queue) > 0 && !s->broken ? LOOP_WRITE : 0));
}

/* --- handshake --- */

/*
 * The first thing that is wrong with a certificate. Its issuer is noted now: once the handshake has failed
 * OpenSSL does not hand out the certificate any more.
 */
static int on_verify(int ok, X509_STORE_CTX *store)
{
    struct stream *s =
        SSL_get_app_data(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    BIO *mem = ok || s->issuer || !cert ? NULL : BIO_new(BIO_s_mem());
    if (!mem)
        return ok;
    char text[200];
    if (X509_NAME_print_ex(mem, X509_get_issuer_name(cert), 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) >=
        0) {
        int n = BIO_read(mem, text, sizeof text - 1);
        text[n > 0 ? n : 0] = 0;
        s->issuer = strdup(text);
    }
    BIO_free(mem);
    return ok;
}

static void describe_certificate(struct stream *s, struct err *e)
{
    long verify = SSL_get_verify_result(s->ssl);
    const char *issuer = s->issuer ? s->issuer : "unknown";
    if (verify == X509_V_ERR_HOSTNAME_MISMATCH || verify == X509_V_ERR_IP_ADDRESS_MISMATCH)
        err_set(e, "TLS: the certificate is for another name, not for %s (issuer: %s)", s->server_name,
                issuer);
    else
        err_set(e, "TLS: the certificate of %s is not trusted: %s (issuer: %s)", s->server_name,
                X509_verify_cert_error_string(verify), issuer);
}

static void handshake_error(struct stream *s, int ssl_error)
{
    unsigned long code = ERR_peek_last_error();
    if (s->why) {
        err_prefix(why_of(s), "TLS handshake");
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        describe_certificate(s, why_of(s));
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER) {
        err_set(why_of(s), "TLS handshake: the other side does not speak TLS");
    } else if (ssl_error == SSL_ERROR_SYSCALL || code == 0 ||
               ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        err_set(why_of(s), "TLS handshake: the other side closed the connection");
    } else {
        err_set(why_of(s), "TLS handshake: %s", ERR_reason_error_string(code));
    }
    s->broken = true;
}

/* False: failed (and told). */
static bool handshake(struct stream *s)
{
    forget_errors();
    int rc = SSL_do_handshake(s->ssl);
    int ssl_error = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, rc);
    if (ssl_error != SSL_ERROR_NONE && ssl_error != SSL_ERROR_WANT_READ)
        handshake_error(s, ssl_error);
    /* Also when it failed: the alert tells the other side why. */
    bool failed = s->broken;
    struct err first = {{0}};
    if (failed)
        first = *why_of(s);
    s->broken = false;
    send_queue(s);
    if (failed || s->broken) {
        s->broken = true;
        if (failed)
            *why_of(s) = first;
        watch_set(s, 0);
        s->ops->failed(s->arg, why_of(s));
        return false;
    }
    if (ssl_error != SSL_ERROR_NONE)
        return true;
    const unsigned char *alpn;
    unsigned int alpn_len;
    SSL_get0_alpn_selected(s->ssl, &alpn, &alpn_len);
    if (!s->to_proxy && (alpn_len != 2 || memcmp(alpn, "h2", 2) != 0)) {
        err_set(why_of(s), "TLS: the other side does not offer HTTP/2 (ALPN h2)");
        watch_set(s, 0);
        s->ops->failed(s->arg, why_of(s));
        return false;
    }
    s->ready = true;
    s->ops->ready(s->arg);
    return true;
}

static void on_events(void *arg, unsigned events)
{
    struct stream *s = arg;
    s->drained = false;
    if (!s->ready && s->broken)
        return; /* told; the owner has not freed it yet */
    if (!s->ready) {
        if (s->ssl) {
            handshake(s);
        } else {
            s->ready = true;
            watch_set(s, LOOP_READ);
            s->ops->ready(s->arg);
        }
        return;
    }
    unsigned told = events & LOOP_READ;
    if (s->lower)
        told |= events & LOOP_WRITE; /* its queue is ours */
    if ((events & LOOP_WRITE) && buf_len(&s->queue) > 0) {
        send_queue(s);
        if (buf_len(&s->queue) == 0)
            told |= LOOP_WRITE;
    }
    if (s->broken)
        told |= LOOP_READ; /* the owner's next read meets the error */
    if (told)
        s->ops->event(s->arg, told);
}

static void on_kick(void *arg)
{
    on_events(arg, LOOP_READ | LOOP_WRITE);
}

/* --- life --- */

/* Our side of TLS, ready for the handshake. */
static bool start_tls(struct stream *s, struct tls_ctx *tls, const char *server_name, struct err *e)
{
    s->ssl = SSL_new(tls_ctx_ssl(tls));
    BIO *bio = BIO_new(bio_method());
    if (!s->ssl || !bio) {
        BIO_free(bio);
        return err_set(e, "out of memory");
    }
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio);
    if (tls_ctx_is_server(tls)) {
        SSL_set_accept_state(s->ssl);
        return true;
    }
    struct addr ip;
    s->server_name = strdup(server_name);
    SSL_set_connect_state(s->ssl);
    SSL_set_app_data(s->ssl, s);
    SSL_set_verify(s->ssl, SSL_get_verify_mode(s->ssl), on_verify);
    if (s->to_proxy) {
        static const unsigned char http1[] = "\x08http/1.1";
        SSL_set_alpn_protos(s->ssl, http1, sizeof http1 - 1);
        SSL_certs_clear(s->ssl);
    }
    bool named;
    if (addr_parse_ip(&ip, server_name)) {
        named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s->ssl), server_name) == 1;
    } else {
        SSL_set_hostflags(s->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        named = SSL_set_tlsext_host_name(s->ssl, server_name) == 1 && SSL_set1_host(s->ssl, server_name) == 1;
    }
    return (s->server_name && named) || err_set(e, "TLS: \"%s\" is no name of a server", server_name);
}

static struct stream *alloc_stream(struct loop *loop, const struct stream_ops *ops, void *arg, struct err *e)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, "out of memory");
        return NULL;
    }
    s->loop = loop;
    s->fd = -1;
    s->ops = ops;
    s->arg = arg;
    loop_task_init(&s->kick, loop, on_kick, s);
    return s;
}

static struct stream *on_socket(struct loop *loop, int fd, bool to_proxy, struct tls_ctx *tls,
                                const char *server_name, const struct stream_ops *ops, void *arg,
                                struct err *e)
{
    struct stream *s = alloc_stream(loop, ops, arg, e);
    if (!s) {
        close(fd);
        return NULL;
    }
    s->fd = fd;
    s->to_proxy = to_proxy;
    int on = 1, lowat = NOTSENT_LOWAT;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    s->watch = loop_watch_new(loop, fd, 0, on_events, s, e);
    if (!s->watch || (tls && !start_tls(s, tls, server_name, e))) {
        stream_free(s);
        return NULL;
    }
    /* Whoever speaks first is woken by a socket that can be written to. */
    watch_set(s, tls && tls_ctx_is_server(tls) ? LOOP_READ : LOOP_READ | LOOP_WRITE);
    return s;
}

struct stream *stream_new(struct loop *loop, int fd, struct tls_ctx *tls, const char *server_name,
                          const struct stream_ops *ops, void *arg, struct err *e)
{
    return on_socket(loop, fd, false, tls, server_name, ops, arg, e);
}

struct stream *stream_new_to_proxy(struct loop *loop, int fd, struct tls_ctx *tls, const char *server_name,
                                   const struct stream_ops *ops, void *arg, struct err *e)
{
    return on_socket(loop, fd, true, tls, server_name, ops, arg, e);
}

static const struct stream_ops inside_ops = {.event = on_events};

struct stream *stream_new_inside(struct loop *loop, struct stream *lower, struct tls_ctx *tls,
                                 const char *server_name, const struct stream_ops *ops, void *arg,
                                 struct err *e)
{
    struct stream *s = alloc_stream(loop, ops, arg, e);
    if (!s) {
        stream_free(lower);
        return NULL;
    }
    s->lower = lower;
    stream_set_owner(lower, &inside_ops, s);
    if (tls && !start_tls(s, tls, server_name, e)) {
        stream_free(s);
        return NULL;
    }
    loop_task_defer(&s->kick);
    return s;
}

int stream_take_socket(struct stream *s)
{
    int fd = s->fd;
    loop_watch_free(s->watch); /* before anybody else watches the descriptor */
    s->watch = NULL;
    s->fd = -1;
    stream_free(s);
    return fd;
}

void stream_set_owner(struct stream *s, const struct stream_ops *ops, void *arg)
{
    s->ops = ops;
    s->arg = arg;
}

bool stream_is_tls(const struct stream *s)
{
    return s->ssl != NULL;
}

int64_t stream_tls_expiry(const struct stream *s)
{
    STACK_OF(X509) *chain = s->ssl ? SSL_get0_verified_chain(s->ssl) : NULL;
    int64_t earliest = 0;
    for (int i = 0; chain && i < sk_X509_num(chain); i++) {
        struct tm tm;
        if (ASN1_TIME_to_tm(X509_get0_notAfter(sk_X509_value(chain, i)), &tm) != 1)
            continue;
        int64_t at = timegm(&tm);
        if (earliest == 0 || at < earliest)
            earliest = at;
    }
    return earliest;
}

ssize_t stream_read(struct stream *s, uint8_t *dst, size_t cap)
{
    if (!s->ssl)
        return s->broken ? STREAM_BROKEN : raw_recv(s, dst, cap);
    /* Nothing more to come in this turn, which OpenSSL would find out the long way, with each message once. */
    if (s->drained && !SSL_has_pending(s->ssl))
        return s->broken ? STREAM_BROKEN : STREAM_AGAIN;
    forget_errors();
    size_t n;
    if (SSL_read_ex(s->ssl, dst, cap, &n) == 1)
        return (ssize_t)n;
    switch (SSL_get_error(s->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        return s->broken ? STREAM_BROKEN : STREAM_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return 0; /* HTTP/2 frames its own end; a lost close_notify cannot truncate anything unnoticed */
        s->broken = true;
        if (!s->why) {
            const char *reason = ERR_reason_error_string(ERR_peek_last_error());
            err_set(why_of(s), "TLS: %s", reason ? reason : "the other side closed the connection");
        }
        return STREAM_BROKEN;
    }
}

bool stream_write(struct stream *s, const uint8_t *p, size_t n)
{
    if (s->broken)
        return false;
    if (!s->ssl) {
        while (n > 0 && buf_len(&s->queue) == 0) {
            ssize_t sent = raw_send(s, p, n);
            if (sent == STREAM_BROKEN)
                return false;
            if (sent == STREAM_AGAIN)
                break;
            p += sent;
            n -= (size_t)sent;
        }
        if (!enqueue(s, p, n))
            return broken(s, "sending", ENOMEM);
    } else {
        forget_errors();
        while (n > 0) {
            size_t taken;
            if (SSL_write_ex(s->ssl, p, n, &taken) != 1) {
                /* Our BIO takes everything, so this is no matter of waiting. */
                const char *reason = ERR_reason_error_string(ERR_peek_last_error());
                s->broken = true;
                if (!s->why)
                    err_set(why_of(s), "TLS: %s", reason ? reason : "out of memory");
                return false;
            }
            p += taken;
            n -= taken;
        }
    }
    if (buf_len(&s->queue) > 0)
        send_queue(s);
    return !s->broken;
}

size_t stream_queued(const struct stream *s)
{
    return buf_len(&s->queue) + (s->lower ? stream_queued(s->lower) : 0);
}

const struct err *stream_why(const struct stream *s)
{
    static const struct err none;
    return s->why ? s->why : &none;
}

void stream_shutdown(struct stream *s)
{
    if (s->want_shutdown || s->broken)
        return;
    if (s->ssl && s->ready) {
        forget_errors();
        SSL_shutdown(s->ssl);
    }
    s->want_shutdown = true;
    send_queue(s);
}

void stream_free(struct stream *s)
{
    if (!s)
        return;
    loop_watch_free(s->watch);
    loop_task_cancel(&s->kick);
    SSL_free(s->ssl);
    stream_free(s->lower);
    buf_free(&s->queue);
    free(s->server_name);
    free(s->issuer);
    free(s->why);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}
