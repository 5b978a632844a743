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
#include <unistd.h>

#include "base/addr.h"
#include "base/buf.h"

/* Above this an emptied queue gives its memory back. */
#define QUEUE_KEEP (16u << 10)
/*
 * How much the kernel keeps that it has not sent yet. Small, so that a KEEPALIVE does not wait behind a second of bulk
 * data; what is in flight on a long path does not count.
 */
#define NOTSENT_LOWAT (128 << 10)

struct stream {
    struct loop *loop;
    int fd;
    struct loop_watch *watch;
    SSL *ssl;
    bool ready, want_shutdown, shut, broken;
    struct buf queue; /* for the socket: plain bytes or ciphertext */
    const struct stream_ops *ops;
    void *arg;
    char *server_name;
    struct err why;
};

static bool broken(struct stream *s, const char *what, int errnum)
{
    s->broken = true;
    if (s->why.text[0] == 0)
        err_set(&s->why, "%s: %s", what, strerror(errnum));
    return false;
}

/* --- OpenSSL's transport: reads from the socket, writes into the queue --- */

static int bio_write(BIO *bio, const char *p, int n)
{
    struct stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return n >= 0 && buf_append(&s->queue, p, (size_t)n) ? n : -1;
}

static int bio_read(BIO *bio, char *p, int n)
{
    struct stream *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t got;
    do
        got = recv(s->fd, p, (size_t)n, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        BIO_set_retry_read(bio);
    else if (got < 0)
        broken(s, "receiving", errno);
    return (int)got;
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
        ssize_t n = send(s->fd, buf_begin(&s->queue), buf_len(&s->queue), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (n < 0) {
            broken(s, "sending", errno);
            break;
        }
        buf_take(&s->queue, (size_t)n);
    }
    if (buf_len(&s->queue) == 0) {
        if (s->queue.cap > QUEUE_KEEP)
            buf_free(&s->queue);
        if (s->want_shutdown && !s->shut) {
            s->shut = true;
            shutdown(s->fd, SHUT_WR);
        }
    }
    loop_watch_set(s->watch, LOOP_READ | (buf_len(&s->queue) > 0 && !s->broken ? LOOP_WRITE : 0));
}

/* --- handshake --- */

static void describe_certificate(struct stream *s, struct err *e)
{
    long verify = SSL_get_verify_result(s->ssl);
    X509 *cert = SSL_get0_peer_certificate(s->ssl);
    char issuer[200] = "unknown";
    if (cert) {
        BIO *mem = BIO_new(BIO_s_mem());
        if (mem && X509_NAME_print_ex(mem, X509_get_issuer_name(cert), 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
            int n = BIO_read(mem, issuer, sizeof issuer - 1);
            issuer[n > 0 ? n : 0] = 0;
        }
        BIO_free(mem);
    }
    if (verify == X509_V_ERR_HOSTNAME_MISMATCH || verify == X509_V_ERR_IP_ADDRESS_MISMATCH)
        err_set(e, "TLS: the certificate is for another name, not for %s (issuer: %s)", s->server_name, issuer);
    else
        err_set(e, "TLS: the certificate of %s is not trusted: %s (issuer: %s)", s->server_name,
                X509_verify_cert_error_string(verify), issuer);
}

static void handshake_error(struct stream *s, int ssl_error)
{
    unsigned long code = ERR_peek_last_error();
    if (s->why.text[0] != 0) {
        err_prefix(&s->why, "TLS handshake");
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        describe_certificate(s, &s->why);
    } else if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER) {
        err_set(&s->why, "TLS handshake: the other side does not speak TLS");
    } else if (ssl_error == SSL_ERROR_SYSCALL || code == 0 ||
               ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        err_set(&s->why, "TLS handshake: the other side closed the connection");
    } else {
        err_set(&s->why, "TLS handshake: %s", ERR_reason_error_string(code));
    }
    s->broken = true;
}

/* False: failed (and told). */
static bool handshake(struct stream *s)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(s->ssl);
    int ssl_error = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(s->ssl, rc);
    if (ssl_error != SSL_ERROR_NONE && ssl_error != SSL_ERROR_WANT_READ)
        handshake_error(s, ssl_error);
    /* Also when it failed: the alert tells the other side why. */
    struct err first = s->why;
    bool failed = s->broken;
    s->broken = false;
    send_queue(s);
    if (failed || s->broken) {
        s->broken = true;
        if (failed)
            s->why = first;
        loop_watch_set(s->watch, 0);
        s->ops->failed(s->arg, &s->why);
        return false;
    }
    if (ssl_error != SSL_ERROR_NONE)
        return true;
    const unsigned char *alpn;
    unsigned int alpn_len;
    SSL_get0_alpn_selected(s->ssl, &alpn, &alpn_len);
    if (alpn_len != 2 || memcmp(alpn, "h2", 2) != 0) {
        err_set(&s->why, "TLS: the other side does not offer HTTP/2 (ALPN h2)");
        loop_watch_set(s->watch, 0);
        s->ops->failed(s->arg, &s->why);
        return false;
    }
    s->ready = true;
    s->ops->ready(s->arg);
    return true;
}

static void on_socket(void *arg, unsigned events)
{
    struct stream *s = arg;
    if (!s->ready) {
        if (s->ssl) {
            handshake(s);
        } else {
            s->ready = true;
            loop_watch_set(s->watch, LOOP_READ);
            s->ops->ready(s->arg);
        }
        return;
    }
    unsigned told = events & LOOP_READ;
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

/* --- life --- */

struct stream *stream_new(struct loop *loop, int fd, struct tls_ctx *tls, const char *server_name,
                          const struct stream_ops *ops, void *arg, struct err *e)
{
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        close(fd);
        err_set(e, "out of memory");
        return NULL;
    }
    s->loop = loop;
    s->fd = fd;
    s->ops = ops;
    s->arg = arg;
    int on = 1, lowat = NOTSENT_LOWAT;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    s->watch = loop_watch_new(loop, fd, on_socket, s, e);
    if (!s->watch)
        goto fail;
    if (tls) {
        s->ssl = SSL_new(tls_ctx_ssl(tls));
        BIO *bio = BIO_new(bio_method());
        if (!s->ssl || !bio) {
            BIO_free(bio);
            err_set(e, "out of memory");
            goto fail;
        }
        BIO_set_data(bio, s);
        BIO_set_init(bio, 1);
        SSL_set_bio(s->ssl, bio, bio);
        if (tls_ctx_is_server(tls)) {
            SSL_set_accept_state(s->ssl);
            loop_watch_set(s->watch, LOOP_READ);
        } else {
            struct addr ip;
            s->server_name = strdup(server_name);
            SSL_set_connect_state(s->ssl);
            bool named;
            if (addr_parse_ip(&ip, server_name)) {
                named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(s->ssl), server_name) == 1;
            } else {
                SSL_set_hostflags(s->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
                named = SSL_set_tlsext_host_name(s->ssl, server_name) == 1 && SSL_set1_host(s->ssl, server_name) == 1;
            }
            if (!named) {
                err_set(e, "TLS: \"%s\" is no name of a server", server_name);
                goto fail;
            }
            loop_watch_set(s->watch, LOOP_READ | LOOP_WRITE);
        }
    } else {
        loop_watch_set(s->watch, LOOP_READ | LOOP_WRITE);
    }
    return s;
fail:
    stream_free(s);
    return NULL;
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

ssize_t stream_read(struct stream *s, uint8_t *dst, size_t cap)
{
    if (!s->ssl) {
        if (s->broken)
            return STREAM_BROKEN;
        for (;;) {
            ssize_t n = recv(s->fd, dst, cap, 0);
            if (n >= 0)
                return n;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return STREAM_AGAIN;
            if (errno != EINTR) {
                broken(s, "receiving", errno);
                return STREAM_BROKEN;
            }
        }
    }
    ERR_clear_error();
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
        if (s->why.text[0] == 0) {
            const char *reason = ERR_reason_error_string(ERR_peek_last_error());
            err_set(&s->why, "TLS: %s", reason ? reason : "the other side closed the connection");
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
            ssize_t sent = send(s->fd, p, n, MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR)
                continue;
            if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
                return broken(s, "sending", errno);
            if (sent < 0)
                break;
            p += sent;
            n -= (size_t)sent;
        }
        if (!buf_append(&s->queue, p, n))
            return broken(s, "sending", ENOMEM);
    } else {
        ERR_clear_error();
        while (n > 0) {
            size_t taken;
            if (SSL_write_ex(s->ssl, p, n, &taken) != 1) {
                /* Our BIO takes everything, so this is no matter of waiting. */
                const char *reason = ERR_reason_error_string(ERR_peek_last_error());
                s->broken = true;
                if (s->why.text[0] == 0)
                    err_set(&s->why, "TLS: %s", reason ? reason : "out of memory");
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
    return buf_len(&s->queue);
}

const struct err *stream_why(const struct stream *s)
{
    return &s->why;
}

void stream_shutdown(struct stream *s)
{
    if (s->want_shutdown || s->broken)
        return;
    if (s->ssl && s->ready) {
        ERR_clear_error();
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
    SSL_free(s->ssl);
    buf_free(&s->queue);
    free(s->server_name);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}
