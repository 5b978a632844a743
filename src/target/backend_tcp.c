#include "target/backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "bridge/tcp_end.h"
#include "net/tcp_connect.h"

struct backend_tcp {
    struct backend base;
    struct loop *loop;
    struct addr addrs[TCP_CONNECT_ADDRS_MAX];
    size_t n_addrs;
    struct list pending; /* connections that come up */
};

struct pending {
    struct list node;
    struct bridge *bridge;
    struct tcp_connect *connect;
    char device[64], session[40];
};

static void on_connected(void *arg, int fd, const struct err *why)
{
    struct pending *p = arg;
    struct bridge *b = p->bridge;
    struct err e;
    if (fd < 0) {
        log_error("cannot connect to the backend, the session ends", LOG_STR("device", p->device),
                  LOG_STR("session-id", p->session), LOG_STR("error", why->text));
        bridge_broken(b);
    } else {
        tcp_end_bgp_options(fd, 4);
        if (!tcp_end_new(b, fd, &e)) {
            log_error("cannot use the backend's connection, the session ends", LOG_STR("device", p->device),
                      LOG_STR("session-id", p->session), LOG_STR("error", e.text));
            bridge_broken(b);
        }
    }
    list_remove(&p->node);
    free(p);
}

static bool open_tcp(struct backend *base, struct bridge *b, const struct backend_peer *peer, struct err *e)
{
    struct backend_tcp *be = (struct backend_tcp *)base;
    struct pending *p = calloc(1, sizeof *p);
    if (p)
        p->connect = tcp_connect_start(be->loop, be->addrs, be->n_addrs, on_connected, p);
    if (!p || !p->connect) {
        free(p);
        return err_set(e, "out of memory");
    }
    p->bridge = b;
    snprintf(p->device, sizeof p->device, "%s", peer->device);
    snprintf(p->session, sizeof p->session, "%s", peer->session);
    list_append(&be->pending, &p->node);
    return true;
}

static void cancel_tcp(struct backend *base, struct bridge *b)
{
    struct backend_tcp *be = (struct backend_tcp *)base;
    LIST_FOREACH (node, &be->pending) {
        struct pending *p = LIST_ITEM(node, struct pending, node);
        if (p->bridge != b)
            continue;
        tcp_connect_cancel(p->connect);
        list_remove(&p->node);
        free(p);
        return;
    }
}

static void reload_tcp(struct backend *base)
{
    (void)base;
}

static void free_tcp(struct backend *base)
{
    free(base);
}

static const struct backend_ops ops = {
    .open = open_tcp, .cancel = cancel_tcp, .reload = reload_tcp, .free = free_tcp};

struct backend *backend_tcp_new(struct loop *loop, const struct target_config *config, struct err *e)
{
    struct backend_tcp *be = calloc(1, sizeof *be);
    if (!be) {
        err_set(e, "out of memory");
        return NULL;
    }
    be->base.ops = &ops;
    be->loop = loop;
    list_init(&be->pending);
    be->n_addrs = tcp_resolve(config->backend_host, config->backend_port, be->addrs, e);
    if (be->n_addrs == 0) {
        err_prefix(e, "--backend");
        free(be);
        return NULL;
    }
    return &be->base;
}
