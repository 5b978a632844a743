#ifndef KBGP_NET_TUNNEL_KINDS_H
#define KBGP_NET_TUNNEL_KINDS_H

#include "net/tunnel.h"

/* The two ways of net/tunnel; for tunnel*.c alone. */

struct http_answer {
    char line[512]; /* the line being read; what is longer is cut */
    size_t len;
    int status; /* 0: before the status line */
    char reason[64];
    char schemes[64]; /* of Proxy-Authenticate: "Negotiate, Basic" */
    bool basic;       /* one of them is Basic */
    char detail[160]; /* the proxy's own words about the cause */
};

enum socks_step { SOCKS_METHOD, SOCKS_AUTH, SOCKS_REPLY };

struct socks_answer {
    enum socks_step step;
    uint8_t bytes[4 + 1 + 255 + 2];
    size_t len, want;
};

struct tunnel {
    const struct web_proxy *proxy;
    char host[WEB_PROXY_HOST_MAX];
    uint16_t port;
    char where[WEB_PROXY_HOST_MAX + 12]; /* HOST:PORT, IPv6 in brackets */
    struct buf out;
    size_t fed;
    union {
        struct http_answer http;
        struct socks_answer socks;
    };
};

bool http_connect_begin(struct tunnel *t, struct err *e);
enum tunnel_state http_connect_feed(struct tunnel *t, uint8_t byte, struct err *e);
bool socks5_begin(struct tunnel *t, struct err *e);
enum tunnel_state socks5_feed(struct tunnel *t, uint8_t byte, struct err *e);

static inline bool tunnel_has_user(const struct tunnel *t)
{
    return t->proxy->user[0] != 0 || t->proxy->password[0] != 0;
}

#endif
