#ifndef KBGP_NET_TLS_CTX_H
#define KBGP_NET_TLS_CTX_H

#include <stdbool.h>

#include "base/err.h"

/*
 * What all TLS connections of one kind share: trust, certificates, versions, ALPN `h2`. TLS 1.2 is the oldest version, within
 * what the system's OpenSSL policy allows.
 */
struct tls_ctx;

struct tls_client_config {
    const char *ca_file;   /* PEM; NULL: the system's trust store (SSL_CERT_FILE and SSL_CERT_DIR work) */
    const char *cert_file; /* client certificate, PEM chain; NULL: none */
    const char *key_file;
};

struct tls_ctx *tls_client_ctx(const struct tls_client_config *config, struct err *e);
/*
 * Reads the files of a client's context again, for the connections to come; those that are open go on as they are. On
 * failure everything stays as it was.
 */
bool tls_client_ctx_reload(struct tls_ctx *ctx, const struct tls_client_config *config, struct err *e);
struct tls_ctx *tls_server_ctx(const char *cert_file, const char *key_file, struct err *e);
void tls_ctx_free(struct tls_ctx *ctx);

/* For net/ alone: the SSL_CTX. */
struct ssl_ctx_st *tls_ctx_ssl(struct tls_ctx *ctx);
bool tls_ctx_is_server(const struct tls_ctx *ctx);

#endif
