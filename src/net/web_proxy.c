#include "net/web_proxy.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/addr.h"

/* What is never meant to leave the host; in force until somebody writes a list of his own. */
#define NO_PROXY_DEFAULT "localhost,127.0.0.0/8,::1"

/* A piece of somebody else's text. */
struct part {
    const char *p;
    size_t n;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct part trimmed(const char *text)
{
    struct part v = {text, strlen(text)};
    while (v.n > 0 && is_blank(v.p[0])) {
        v.p++;
        v.n--;
    }
    while (v.n > 0 && is_blank(v.p[v.n - 1]))
        v.n--;
    return v;
}

/* A variable under its upper- or lower-case name, whichever is set to something. */
static bool lookup(web_proxy_env *env, void *arg, const char *const names[2], struct part *value,
                   const char **name)
{
    for (int i = 0; i < 2; i++) {
        const char *text = env(arg, names[i]);
        if (!text)
            continue;
        *value = trimmed(text);
        *name = names[i];
        if (value->n > 0)
            return true;
    }
    return false;
}

static bool parse_port(struct part text, uint16_t *port)
{
    unsigned n = 0;
    if (text.n == 0 || text.n > 5)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        n = n * 10 + (unsigned)(text.p[i] - '0');
    }
    if (n == 0 || n > 65535)
        return false;
    *port = (uint16_t)n;
    return true;
}

static bool copy(char *dst, size_t cap, struct part text)
{
    if (text.n >= cap)
        return false;
    memcpy(dst, text.p, text.n);
    dst[text.n] = 0;
    return true;
}

/* --- the proxy's URL --- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* False with the reason: a bad %XX, too long, or a byte that has no place in a header line. */
static bool decode(char *dst, size_t cap, struct part text, const char **why)
{
    size_t at = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        if (c == '%') {
            int high = i + 2 < text.n ? hex(text.p[i + 1]) : -1,
                low = i + 2 < text.n ? hex(text.p[i + 2]) : -1;
            if (high < 0 || low < 0) {
                *why = "a % in user or password that is not followed by two hexadecimal digits; a % itself "
                       "is written %25";
                return false;
            }
            c = (unsigned char)(high * 16 + low);
            i += 2;
        }
        if (c < 0x20 || c == 0x7f) {
            *why = "a control character in user or password";
            return false;
        }
        if (at + 1 >= cap) {
            *why = "user or password is too long";
            return false;
        }
        dst[at++] = (char)c;
    }
    dst[at] = 0;
    return true;
}

static bool take_scheme(struct part *url, struct web_proxy *out, const char **why)
{
    static const struct {
        const char *prefix;
        enum web_proxy_kind kind;
        uint16_t port;
    } schemes[] = {
        {"http://", WEB_PROXY_HTTP, 80},
        {"https://", WEB_PROXY_HTTPS, 443},
        {"socks5h://", WEB_PROXY_SOCKS5, 1080},
        {"socks5://", WEB_PROXY_SOCKS5, 1080},
    };
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t n = strlen(schemes[i].prefix);
        if (url->n >= n && strncasecmp(url->p, schemes[i].prefix, n) == 0) {
            out->kind = schemes[i].kind;
            out->port = schemes[i].port;
            url->p += n;
            url->n -= n;
            return true;
        }
    }
    const char *slashes = memmem(url->p, url->n, "://", 3);
    /* Behind a colon or an @ they belong to a password. */
    if (slashes && !memchr(url->p, ':', (size_t)(slashes - url->p)) &&
        !memchr(url->p, '@', (size_t)(slashes - url->p))) {
        *why = "the scheme is none of http://, https://, socks5h:// and socks5://";
        return false;
    }
    out->kind = WEB_PROXY_HTTP;
    out->port = 80;
    return true;
}

static bool take_user(struct part *url, struct web_proxy *out, const char **why)
{
    /* The last @: the one that a password was not supposed to contain may stay. */
    const char *at = memrchr(url->p, '@', url->n);
    if (!at)
        return true;
    struct part user = {url->p, (size_t)(at - url->p)}, password = {"", 0};
    const char *colon = memchr(user.p, ':', user.n);
    if (colon) {
        password = (struct part){colon + 1, (size_t)(at - colon - 1)};
        user.n = (size_t)(colon - user.p);
    }
    url->n -= (size_t)(at + 1 - url->p);
    url->p = at + 1;
    if (!decode(out->user, sizeof out->user, user, why) ||
        !decode(out->password, sizeof out->password, password, why))
        return false;
    if (out->kind == WEB_PROXY_SOCKS5) {
        if (strlen(out->user) > 255 || strlen(out->password) > 255) {
            *why = "SOCKS5 takes at most 255 bytes of user and of password";
            return false;
        }
        if (out->user[0] == 0 && out->password[0] != 0) {
            *why = "a password without a user";
            return false;
        }
    } else if (strchr(out->user, ':')) {
        *why = "a colon in the user, which Basic authentication cannot express";
        return false;
    }
    return true;
}

static bool take_host(struct part url, struct web_proxy *out, const char **why)
{
    struct part host = url, port = {NULL, 0};
    if (url.n > 0 && url.p[0] == '[') {
        const char *end = memchr(url.p, ']', url.n);
        if (!end || (end + 1 < url.p + url.n && end[1] != ':')) {
            *why = "brackets that are not closed, or something else than a port after them";
            return false;
        }
        host = (struct part){url.p + 1, (size_t)(end - url.p - 1)};
        if (end + 1 < url.p + url.n)
            port = (struct part){end + 2, (size_t)(url.p + url.n - end - 2)};
        struct addr ip;
        if (!copy(out->host, sizeof out->host, host) || !strchr(out->host, ':') ||
            !addr_parse_ip(&ip, out->host)) {
            *why = "what stands in brackets is no IPv6 address";
            return false;
        }
    } else {
        const char *colon = memchr(url.p, ':', url.n);
        if (colon) {
            host.n = (size_t)(colon - url.p);
            port = (struct part){colon + 1, url.n - host.n - 1};
            if (memchr(port.p, ':', port.n)) {
                *why = "more than one colon after the host; IPv6 addresses are written in brackets";
                return false;
            }
        }
        for (size_t i = 0; i < host.n; i++) {
            unsigned char c = (unsigned char)host.p[i];
            if (!isalnum(c) && c != '.' && c != '-' && c != '_') {
                *why = "the host contains a character that has no place in a name; in a password it is "
                       "written as %XX";
                return false;
            }
        }
        if (host.n == 0 || !copy(out->host, sizeof out->host, host)) {
            *why = host.n == 0 ? "no host" : "the host is too long";
            return false;
        }
    }
    if (port.p && !parse_port(port, &out->port)) {
        *why = "the port is no number from 1 to 65535; special characters of a password are written as %XX";
        return false;
    }
    return true;
}

static bool parse_url(struct part url, struct web_proxy *out, const char **why)
{
    for (size_t i = 0; i < url.n; i++) {
        unsigned char c = (unsigned char)url.p[i];
        if (c <= 0x20 || c == 0x7f) {
            *why = "a space or control character inside; in a password it is written as %XX";
            return false;
        }
    }
    if (!take_scheme(&url, out, why))
        return false;
    if (url.n > 0 && url.p[url.n - 1] == '/')
        url.n--;
    if (!take_user(&url, out, why) || !take_host(url, out, why))
        return false;
    static const char *const words[] = {
        [WEB_PROXY_HTTP] = "http", [WEB_PROXY_HTTPS] = "https", [WEB_PROXY_SOCKS5] = "socks5h"};
    snprintf(out->name, sizeof out->name, strchr(out->host, ':') ? "%s://[%s]:%u" : "%s://%s:%u",
             words[out->kind], out->host, out->port);
    return true;
}

/* --- NO_PROXY --- */

struct destination {
    struct part host; /* without a final dot */
    struct addr ip;   /* family 0: a name */
    uint16_t port;
};

static bool same_network(const struct addr *a, const struct addr *b, unsigned bits)
{
    if (a->family != b->family)
        return false;
    if (memcmp(a->ip, b->ip, bits / 8) != 0)
        return false;
    unsigned rest = bits % 8;
    return rest == 0 || ((a->ip[bits / 8] ^ b->ip[bits / 8]) >> (8 - rest)) == 0;
}

static bool match_network(char *text, char *slash, const struct destination *to, bool *matches)
{
    struct addr net;
    *slash = 0;
    bool mapped = strchr(text, ':') != NULL;
    if (!addr_parse_ip(&net, text) || net.scope != 0)
        return false;
    const char *digits = slash + 1;
    size_t n = strspn(digits, "0123456789");
    unsigned long bits = strtoul(digits, NULL, 10);
    if (n == 0 || n > 3 || digits[n] != 0)
        return false;
    if (net.family == 4 && mapped) { /* ::ffff:192.0.2.0/120 was folded, its length is folded here */
        if (bits < 96)
            return false;
        bits -= 96;
    }
    if (bits > (net.family == 4 ? 32u : 128u))
        return false;
    *matches = same_network(&net, &to->ip, (unsigned)bits);
    return true;
}

static bool match_name(struct part name, const struct destination *to)
{
    if (name.n >= 2 && name.p[0] == '*' && name.p[1] == '.') {
        name.p++;
        name.n--;
    }
    if (name.n > 0 && name.p[0] == '.') {
        name.p++;
        name.n--;
    }
    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0 || to->ip.family != 0 || to->host.n < name.n)
        return false;
    size_t before = to->host.n - name.n;
    return strncasecmp(to->host.p + before, name.p, name.n) == 0 &&
           (before == 0 || to->host.p[before - 1] == '.');
}

/* False: the entry cannot be understood. */
static bool match_entry(struct part entry, const struct destination *to, bool *matches)
{
    char text[320];
    struct addr ip;
    *matches = false;
    if (!copy(text, sizeof text, entry))
        return true; /* longer than any name */
    if (strcmp(text, "*") == 0) {
        *matches = true;
        return true;
    }
    char *slash = strchr(text, '/');
    if (slash)
        return match_network(text, slash, to, matches);
    if (addr_parse_ip(&ip, text)) {
        *matches = addr_same_ip(&ip, &to->ip);
        return true;
    }
    char *colon = strrchr(text, ':');
    if (colon) {
        uint16_t port;
        *colon = 0;
        if (!parse_port((struct part){colon + 1, strlen(colon + 1)}, &port))
            return false;
        bool is_ip = addr_parse_ip(&ip, text);
        if (strchr(text, ':') && (!is_ip || text[0] != '['))
            return false;
        if (port != to->port)
            return true;
        if (is_ip) {
            *matches = addr_same_ip(&ip, &to->ip);
            return true;
        }
    }
    *matches = match_name((struct part){text, strlen(text)}, to);
    return true;
}

static bool excluded(struct part list, const char *variable, const struct destination *to, bool *yes,
                     struct err *e)
{
    *yes = false;
    const char *p = list.p, *end = list.p + list.n;
    while (p < end) {
        const char *start = p;
        while (p < end && *p != ',' && !is_blank(*p))
            p++;
        struct part entry = {start, (size_t)(p - start)};
        bool matches = false;
        if (entry.n > 0 && !match_entry(entry, to, &matches))
            return err_set(e, "%s: \"%.*s\" is no address, network (ADDRESS/BITS) or HOST:PORT", variable,
                           (int)(entry.n < 80 ? entry.n : 80), entry.p);
        if (matches)
            *yes = true; /* the rest is still checked: an error should not hide behind a match */
        p++;
    }
    return true;
}

/* --- the choice --- */

bool web_proxy_choose(web_proxy_env *env, void *arg, const char *scheme, const char *host, uint16_t port,
                      struct web_proxy *out, struct err *e)
{
    static const char *const https_names[2] = {"HTTPS_PROXY", "https_proxy"};
    static const char *const http_names[2] = {"HTTP_PROXY", "http_proxy"};
    static const char *const all_names[2] = {"ALL_PROXY", "all_proxy"};
    static const char *const no_names[2] = {"NO_PROXY", "no_proxy"};
    struct part url, list = {NO_PROXY_DEFAULT, sizeof NO_PROXY_DEFAULT - 1};
    const char *variable, *no_variable = "NO_PROXY";

    memset(out, 0, sizeof *out);
    if (!lookup(env, arg, strcmp(scheme, "https") == 0 ? https_names : http_names, &url, &variable) &&
        !lookup(env, arg, all_names, &url, &variable))
        return true;
    const char *why = NULL;
    if (!parse_url(url, out, &why)) {
        web_proxy_forget(out);
        memset(out, 0, sizeof *out);
        return err_set(
            e,
            "%s: %s (the form is http://USER:PASSWORD@HOST:PORT, also https:// and socks5h://, without "
            "USER:PASSWORD@ where none is needed)",
            variable, why);
    }
    out->variable = variable;

    struct destination to = {.host = {host, strlen(host)}, .port = port};
    if (!addr_parse_ip(&to.ip, host))
        memset(&to.ip, 0, sizeof to.ip);
    if (to.host.n > 0 && host[to.host.n - 1] == '.')
        to.host.n--;
    bool direct;
    lookup(env, arg, no_names, &list, &no_variable);
    if (list.n == 0) /* set, but to nothing */
        list = (struct part){NO_PROXY_DEFAULT, sizeof NO_PROXY_DEFAULT - 1};
    bool ok = excluded(list, no_variable, &to, &direct, e);
    if (!ok || direct) {
        web_proxy_forget(out);
        memset(out, 0, sizeof *out);
    }
    return ok;
}

static const char *process_env(void *arg, const char *name)
{
    (void)arg;
    return getenv(name);
}

bool web_proxy_for(const char *scheme, const char *host, uint16_t port, struct web_proxy *out, struct err *e)
{
    return web_proxy_choose(process_env, NULL, scheme, host, port, out, e);
}

void web_proxy_forget(struct web_proxy *p)
{
    explicit_bzero(p->user, sizeof p->user);
    explicit_bzero(p->password, sizeof p->password);
}
