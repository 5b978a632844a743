#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "bridge/tcp_end.h"
#include "net/resolve.h"
#include "net/tcp_race.h"
#include "net/tcpmd5.h"
#include "target/backend.h"
#include "target/inventory.h"
#include "target/md5_file.h"

/* How long a name and a connection may take together, before the session is given up. */
#define CONNECT_MS 10000

struct backend_tcp {
    struct backend base;
    struct loop *loop;
    char host[TARGET_BACKEND_HOST_MAX + 1];
    uint16_t port;
    struct addr ip;       /* what `host` is, unless it has to be looked up (a name, an interface): family 0 */
    const char *md5_path; /* the configuration's; NULL: without MD5 */
    struct md5_key md5;
    struct list pending; /* connections that come up */
};

/* A session whose connection to the BGP daemon comes up: first the name, then TCP. */
struct pending {
    struct list node;
    struct backend_tcp *be;
    struct bridge *bridge;
    struct resolve *resolve;
    struct tcp_race *race;
    struct loop_timer *deadline;
    char device[INVENTORY_NAME_MAX + 1], session[40];
};

static void pending_free(struct pending *p)
{
    list_remove(&p->node);
    resolve_cancel(p->resolve);
    tcp_race_cancel(p->race);
    loop_timer_free(p->deadline);
    free(p);
}

static void failed(struct pending *p, const char *why)
{
    struct bridge *b = p->bridge;
    char backend[TARGET_BACKEND_HOST_MAX + 16];
    snprintf(backend, sizeof backend, strchr(p->be->host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", p->be->host,
             p->be->port);
    log_error("cannot connect to the backend, the session ends", LOG_STR("backend", backend),
              LOG_STR("device", p->device), LOG_STR("session-id", p->session), LOG_STR("error", why));
    pending_free(p);
    bridge_broken(b);
}

static void on_connected(void *arg, int fd, const struct err *why)
{
    struct pending *p = arg;
    struct bridge *b = p->bridge;
    struct err e;
    p->race = NULL;
    if (fd < 0) {
        failed(p, why->text);
        return;
    }
    if (!tcp_end_new(b, fd, &e))
        failed(p, e.text);
    else
        pending_free(p);
}

static bool prepare(void *arg, int fd, const struct addr *to, struct err *e)
{
    const struct backend_tcp *be = ((struct pending *)arg)->be;
    tcp_end_bgp_options(fd, to->family);
    return be->md5.len == 0 || tcpmd5_set(fd, to, be->md5.bytes, be->md5.len, e);
}

static void on_resolved(void *arg, const struct addr *addrs, size_t n, const struct err *why)
{
    struct pending *p = arg;
    p->resolve = NULL;
    if (n > 0)
        p->race = tcp_race_start_prepared(p->be->loop, addrs, n, prepare, on_connected, p);
    if (!p->race)
        failed(p, n > 0 ? "out of memory" : why->text);
}

static void on_deadline(void *arg)
{
    struct pending *p = arg;
    struct err e;
    if (p->race)
        tcp_race_describe(p->race, &e);
    else
        err_set(&e, "the name is not resolved");
    err_prefix(&e, "no connection within %d s", CONNECT_MS / 1000);
    failed(p, e.text);
}

static bool open_tcp(struct backend *base, struct bridge *b, const struct backend_peer *peer, struct err *e)
{
    struct backend_tcp *be = (struct backend_tcp *)base;
    struct pending *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, "out of memory");
    p->be = be;
    p->bridge = b;
    snprintf(p->device, sizeof p->device, "%s", peer->device);
    snprintf(p->session, sizeof p->session, "%s", peer->session);
    list_append(&be->pending, &p->node);
    p->deadline = loop_timer_new(be->loop, on_deadline, p);
    if (be->ip.family == 0)
        p->resolve = resolve_start(be->loop, be->host, be->port, on_resolved, p, e);
    else if (!(p->race = tcp_race_start_prepared(be->loop, &be->ip, 1, prepare, on_connected, p)))
        err_set(e, "out of memory");
    if (!p->resolve && !p->race) {
        pending_free(p);
        return false;
    }
    loop_timer_start(p->deadline, CONNECT_MS, 0);
    return true;
}

static void cancel_tcp(struct backend *base, struct bridge *b)
{
    struct backend_tcp *be = (struct backend_tcp *)base;
    LIST_FOREACH (node, &be->pending) {
        struct pending *p = LIST_ITEM(node, struct pending, node);
        if (p->bridge == b) {
            pending_free(p);
            return;
        }
    }
}

static bool read_key(struct backend_tcp *be, struct md5_key *key, struct err *e)
{
    return (md5_file_check(be->md5_path, e) && md5_file_read(be->md5_path, key, e)) ||
           err_prefix(e, "--backend-md5-password-file");
}

/* New connections take the new key; the sessions that are up keep the one they began with. */
static void reload_tcp(struct backend *base)
{
    struct backend_tcp *be = (struct backend_tcp *)base;
    struct md5_key key;
    struct err e;
    if (!be->md5_path)
        return;
    if (read_key(be, &key, &e))
        be->md5 = key;
    else
        log_error("the backend's MD5 password stays as it was", LOG_STR("error", e.text));
    OPENSSL_cleanse(&key, sizeof key);
}

static void free_tcp(struct backend *base)
{
    struct backend_tcp *be = (struct backend_tcp *)base;
    OPENSSL_cleanse(&be->md5, sizeof be->md5);
    free(be);
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
    be->port = config->backend_port;
    snprintf(be->host, sizeof be->host, "%s", config->backend_host);
    struct addr ip;
    if (addr_parse_ip(&ip, be->host) && ip.scope == 0) {
        be->ip = ip;
        be->ip.port = be->port;
    }
    list_init(&be->pending);
    be->md5_path = config->backend_md5_file;
    if (be->md5_path && !read_key(be, &be->md5, e)) {
        free_tcp(&be->base);
        return NULL;
    }
    return &be->base;
}
