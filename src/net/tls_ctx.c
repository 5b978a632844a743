#include "net/tls_ctx.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "net/gcm.h"

/*
 * One recv() brings four full records of TLS 1.3 (RFC 8446 section 5.2: 5 bytes of header, the type's byte and a tag of 16 come
 * on top) and nothing of a fifth, which OpenSSL would have to move to its buffer's front and to complete with a
 * recv() of its own. It keeps 3 bytes in front of them so that the payload is aligned.
 */
#define RECORD_BYTES ((16u << 10) + 5 + 1 + 16)
#define READ_AHEAD   (4 * RECORD_BYTES + 3)

struct tls_ctx {
    SSL_CTX *ssl;
    bool server;
};

static const char *openssl_reason(void)
{
    /* The first error says what went wrong ("No such file"), those after it who was disappointed. */
    unsigned long code = ERR_peek_error();
    if (ERR_SYSTEM_ERROR(code))
        return strerror(ERR_GET_REASON(code));
    const char *reason = ERR_reason_error_string(code);
    return reason ? reason : "unknown reason";
}

static const unsigned char alpn_h2[] = "\x02h2";

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
                       unsigned int in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_len, alpn_h2, 3, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool use_certificate(SSL_CTX *ssl, const char *cert, const char *key, struct err *e)
{
    if (SSL_CTX_use_certificate_chain_file(ssl, cert) != 1)
        return err_set(e, "certificate %s: %s", cert, openssl_reason());
    if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1)
        return err_set(e, "private key %s: %s", key, openssl_reason());
    if (SSL_CTX_check_private_key(ssl) != 1)
        return err_set(e, "private key %s does not belong to certificate %s", key, cert);
    return true;
}

static struct tls_ctx *ctx_new(bool server)
{
    struct tls_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return NULL;
    ERR_clear_error();
    ctx->server = server;
    ctx->ssl = SSL_CTX_new_ex(NULL, gcm_properties(), server ? TLS_server_method() : TLS_client_method());
    if (!ctx->ssl) {
        free(ctx);
        return NULL;
    }
    SSL_CTX_set_min_proto_version(ctx->ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Our write queue may move while a record waits, and idle connections should not hold buffers of 64 KiB. */
    SSL_CTX_set_mode(ctx->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                   SSL_MODE_RELEASE_BUFFERS);
    /* Nobody resumes a TLS session: the tickets for it would cost each handshake, and memory for as long as a connection lasts. */
    SSL_CTX_set_session_cache_mode(ctx->ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx->ssl, 0);
    SSL_CTX_set_options(ctx->ssl, SSL_OP_NO_TICKET);
    SSL_CTX_set_read_ahead(ctx->ssl, 1);
    SSL_CTX_set_default_read_buffer_len(ctx->ssl, READ_AHEAD);
    return ctx;
}

struct tls_ctx *tls_client_ctx(const struct tls_client_config *config, struct err *e)
{
    struct tls_ctx *ctx = ctx_new(false);
    if (!ctx) {
        err_set(e, "TLS: %s", openssl_reason());
        return NULL;
    }
    SSL_CTX_set_verify(ctx->ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(ctx->ssl, alpn_h2, 3);
    if (config->ca_file) {
        if (SSL_CTX_load_verify_file(ctx->ssl, config->ca_file) != 1) {
            err_set(e, "CA file %s: %s", config->ca_file, openssl_reason());
            goto fail;
        }
    } else if (SSL_CTX_set_default_verify_paths(ctx->ssl) != 1) {
        err_set(e, "the system's trust store: %s", openssl_reason());
        goto fail;
    }
    if (config->cert_file && !use_certificate(ctx->ssl, config->cert_file, config->key_file, e))
        goto fail;
    return ctx;
fail:
    tls_ctx_free(ctx);
    return NULL;
}

bool tls_client_ctx_reload(struct tls_ctx *ctx, const struct tls_client_config *config, struct err *e)
{
    struct tls_ctx *fresh = tls_client_ctx(config, e);
    if (!fresh)
        return false;
    /* Connections hold on to the SSL_CTX that they were made with. */
    SSL_CTX *old = ctx->ssl;
    ctx->ssl = fresh->ssl;
    fresh->ssl = old;
    tls_ctx_free(fresh);
    return true;
}

struct tls_ctx *tls_server_ctx(const char *cert_file, const char *key_file, struct err *e)
{
    struct tls_ctx *ctx = ctx_new(true);
    if (!ctx) {
        err_set(e, "TLS: %s", openssl_reason());
        return NULL;
    }
    SSL_CTX_set_alpn_select_cb(ctx->ssl, choose_alpn, NULL);
    if (!use_certificate(ctx->ssl, cert_file, key_file, e)) {
        tls_ctx_free(ctx);
        return NULL;
    }
    return ctx;
}

void tls_ctx_free(struct tls_ctx *ctx)
{
    if (!ctx)
        return;
    SSL_CTX_free(ctx->ssl);
    free(ctx);
}

struct ssl_ctx_st *tls_ctx_ssl(struct tls_ctx *ctx)
{
    return ctx->ssl;
}

bool tls_ctx_is_server(const struct tls_ctx *ctx)
{
    return ctx->server;
}
