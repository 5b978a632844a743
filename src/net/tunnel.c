#include "net/tunnel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/tunnel_kinds.h"

/* The host comes from the configuration; that no line end slips into a request is checked here all the same.
 */
static bool is_sendable(const char *host)
{
    if (host[0] == 0)
        return false;
    for (const char *p = host; *p; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f || strchr("/@?#[]\"", *p))
            return false;
    return true;
}

struct tunnel *tunnel_new(const struct web_proxy *proxy, const char *host, uint16_t port, struct err *e)
{
    struct tunnel *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(e, "out of memory");
        return NULL;
    }
    t->proxy = proxy;
    t->port = port;
    if (strlen(host) >= sizeof t->host || !is_sendable(host)) {
        err_set(e, "the target's name is none that a proxy could be told");
        free(t);
        return NULL;
    }
    strcpy(t->host, host);
    snprintf(t->where, sizeof t->where, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
    if (!(proxy->kind == WEB_PROXY_SOCKS5 ? socks5_begin(t, e) : http_connect_begin(t, e))) {
        tunnel_free(t);
        return NULL;
    }
    return t;
}

void tunnel_free(struct tunnel *t)
{
    if (!t)
        return;
    if (t->out.data)
        explicit_bzero(t->out.data, t->out.cap);
    buf_free(&t->out);
    free(t);
}

struct buf *tunnel_out(struct tunnel *t)
{
    return &t->out;
}

enum tunnel_state tunnel_feed(struct tunnel *t, uint8_t byte, struct err *e)
{
    if (++t->fed > TUNNEL_ANSWER_MAX) {
        err_set(e, "sends an answer without end");
        return TUNNEL_REFUSED;
    }
    return t->proxy->kind == WEB_PROXY_SOCKS5 ? socks5_feed(t, byte, e) : http_connect_feed(t, byte, e);
}

bool tunnel_answered(const struct tunnel *t)
{
    return t->fed > 0;
}
