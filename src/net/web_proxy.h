#ifndef KBGP_NET_WEB_PROXY_H
#define KBGP_NET_WEB_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Which web proxy, if any, leads to a host: chosen from the environment, without a socket.
 *
 * Variables. For an https:// destination (the target with TLS) HTTPS_PROXY, then ALL_PROXY; for an http://
 * one (the target with --insecure) HTTP_PROXY, then ALL_PROXY. Each also in lower case, which counts where
 * the upper-case one is unset. Spaces around a value do not matter, and an empty value is as good as none.
 *
 * Value. [SCHEME://][USER:PASSWORD@]HOST[:PORT][/]
 *
 *     http:// or nothing      HTTP CONNECT, port 80 where none is given
 *     https://                HTTP CONNECT inside TLS to the proxy, port 443
 *     socks5h:// or socks5:// SOCKS5, port 1080; the names are resolved by the proxy with both
 *
 * Special characters of USER and PASSWORD are written as %XX, IPv6 addresses in brackets.
 *
 * NO_PROXY (or no_proxy) lists what is reached without a proxy, separated by commas or spaces. Where it is
 * not set it is "localhost,127.0.0.0/8,::1"; where it is set it holds as written. An entry is one of
 *
 *     *                       everything
 *     example.com             this host and all below it (not notexample.com); .example.com and *.example.com
 * mean the same 192.0.2.1, 2001:db8::1  this address, in whatever way it is spelled 192.0.2.0/24, fd00::/8
 * all addresses of the network
 *
 * and a name or address may be followed by :PORT (IPv6 in brackets then): it means that port only. Addresses
 * and networks match a destination that is given as an address; names are not resolved for this. Case and a
 * final dot do not matter.
 */
enum web_proxy_kind { WEB_PROXY_NONE, WEB_PROXY_HTTP, WEB_PROXY_HTTPS, WEB_PROXY_SOCKS5 };

#define WEB_PROXY_HOST_MAX   254
#define WEB_PROXY_SECRET_MAX 768

struct web_proxy {
    enum web_proxy_kind kind; /* WEB_PROXY_NONE: go directly, the rest is empty */
    uint16_t port;
    char host[WEB_PROXY_HOST_MAX]; /* DNS name or address, IPv6 without brackets */
    char user[WEB_PROXY_SECRET_MAX], password[WEB_PROXY_SECRET_MAX]; /* decoded; both empty: none given */
    char name[WEB_PROXY_HOST_MAX + 24]; /* "http://HOST:PORT", for people: no user, no password */
    const char *variable;               /* where it comes from: "HTTPS_PROXY" */
};

/*
 * The proxy for `scheme` ("https" or "http") to `host` (no brackets) and `port`, from the environment of this
 * process. False: a variable is not usable; `e` names it, and never shows what stands in it, for that may be
 * a password.
 */
bool web_proxy_for(const char *scheme, const char *host, uint16_t port, struct web_proxy *out, struct err *e);

/* The same with another source of variables: returns the value of `name`, or NULL. */
typedef const char *web_proxy_env(void *arg, const char *name);
bool web_proxy_choose(web_proxy_env *env, void *arg, const char *scheme, const char *host, uint16_t port,
                      struct web_proxy *out, struct err *e);

/* Overwrites user and password. */
void web_proxy_forget(struct web_proxy *p);

#endif
