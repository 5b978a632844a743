#ifndef KBGP_DAEMON_API_H
#define KBGP_DAEMON_API_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"

/*
 * The HTTP server of the status pages, in our event loop: health, status, metrics. Only GET and HEAD; a
 * request's body is thrown away. At most API_CONNECTIONS_MAX connections, each silent for API_IDLE_S and
 * alive for API_LIFE_MS at most; answers under way together hold about API_BODIES_MAX bytes: whoever connects
 * and reads slowly, or not at all, costs no more than that. libmicrohttpd stays inside.
 */
#define API_CONNECTIONS_MAX 64
#define API_IDLE_S          10
#define API_LIFE_MS         60000
#define API_BODIES_MAX      (16u << 20)

struct api_request {
    const char *path;   /* percent-decoded: "/admin/sessions/192.0.2.1" */
    const char *rest;   /* what follows the prefix of the route: "192.0.2.1"; "" on an exact path */
    const char *accept; /* the Accept header, or "" */
    bool pretty;        /* "?pretty", with or without a value */
};

/* Filled in by a handler. As it comes in: status 200, type JSON, empty body. */
struct api_response {
    unsigned status;
    const char *content_type; /* a constant */
    struct buf body;          /* goes to the server */
};

/* Fills in the response, now: there is no answering later. */
typedef void api_handler(void *arg, const struct api_request *request, struct api_response *response);

struct api_route {
    const char *path; /* "/hc", or with `prefix` "/admin/sessions/" */
    bool prefix;      /* also any longer path that begins so; the first row that fits counts */
    api_handler *handle;
};

struct api;

/*
 * Listens on `addr`. `routes` (not copied) are asked in order, their handlers called with `arg`. NULL with
 * the reason in words for an operator: in use, not permitted.
 */
struct api *api_new(struct loop *loop, const struct addr *addr, const struct api_route *routes,
                    size_t n_routes, void *arg, struct err *e);

/* The address listened on: with the port the kernel chose when 0 was asked for. */
const struct addr *api_addr(const struct api *api);

/* The listening socket, to look at. */
int api_fd(const struct api *api);

/* Closes all connections. NULL does nothing. Not from within a handler. */
void api_free(struct api *api);

#endif
