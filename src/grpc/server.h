#ifndef KBGP_GRPC_SERVER_H
#define KBGP_GRPC_SERVER_H

#include <stdint.h>

#include "base/addr.h"
#include "grpc/conn.h"
#include "net/listener.h"
#include "net/tls_ctx.h"

/* A gRPC server: listeners, TLS handshakes, connections; calls are handed to one function, which knows the methods. */
struct grpc_server;

/* Connections at once; more are refused with one log line. */
#define GRPC_SERVER_CONNECTIONS 10000
/* From accept() to the client's first HTTP/2 frame. */
#define GRPC_HANDSHAKE_TIMEOUT_MS 10000

struct grpc_server_ops {
    /* See grpc_conn_ops.call. `peer` is the client's address. */
    void (*call)(void *arg, struct grpc_call *call, const char *path, const struct kv *metadata,
                 const struct addr *peer);
};

/* `tls` NULL: h2c with prior knowledge. */
struct grpc_server *grpc_server_new(struct loop *loop, struct tls_ctx *tls, const struct grpc_server_ops *ops,
                                    void *arg);
/* Connections older than this are drained (GOAWAY), give or take a tenth; 0: never. For connections that come afterwards. */
void grpc_server_set_max_age(struct grpc_server *s, int64_t ms);
bool grpc_server_listen(struct grpc_server *s, const struct addr *addr, struct err *e);
/* Stops accepting, says GOAWAY on every connection. Those that end by themselves are gone; see grpc_server_connections(). */
void grpc_server_drain(struct grpc_server *s);
uint32_t grpc_server_connections(const struct grpc_server *s);
/* Closes everything at once. */
void grpc_server_free(struct grpc_server *s);

#endif
