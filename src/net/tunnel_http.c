#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "net/tunnel_kinds.h"

static bool put(struct tunnel *t, const char *text)
{
    return buf_append(&t->out, text, strlen(text));
}

bool http_connect_begin(struct tunnel *t, struct err *e)
{
    bool ok = put(t, "CONNECT ") && put(t, t->where) && put(t, " HTTP/1.1\r\nHost: ") && put(t, t->where) &&
              put(t, "\r\nUser-Agent: kbgp/" KBGP_VERSION "\r\n");
    if (ok && tunnel_has_user(t)) {
        char pair[2 * WEB_PROXY_SECRET_MAX + 1];
        unsigned char base64[(sizeof pair + 2) / 3 * 4 + 1];
        int n = snprintf(pair, sizeof pair, "%s:%s", t->proxy->user, t->proxy->password);
        EVP_EncodeBlock(base64, (unsigned char *)pair, n);
        ok = put(t, "Proxy-Authorization: Basic ") && put(t, (char *)base64) && put(t, "\r\n");
        explicit_bzero(pair, sizeof pair);
        explicit_bzero(base64, sizeof base64);
    }
    ok = ok && put(t, "\r\n");
    return ok || err_set(e, "out of memory");
}

/* --- the answer --- */

static void copy_words(char *dst, size_t cap, const char *text)
{
    text += strspn(text, " \t");
    snprintf(dst, cap, "%s", text);
    for (char *p = dst; *p; p++)
        if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            *p = '?';
    size_t n = strlen(dst);
    while (n > 0 && dst[n - 1] == ' ')
        dst[--n] = 0;
}

static const char *header_value(const char *line, const char *name)
{
    size_t n = strlen(name);
    return strncasecmp(line, name, n) == 0 && line[n] == ':' ? line + n + 1 : NULL;
}

static void status_line(struct http_answer *a)
{
    /* "HTTP/1.1 200 Connection established"; the prefix was checked byte by byte */
    const char *p = strchr(a->line, ' ');
    p = p ? p + strspn(p, " ") : "";
    if (strspn(p, "0123456789") == 3) {
        a->status = (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
        copy_words(a->reason, sizeof a->reason, p + 3);
    }
}

static void header_line(struct http_answer *a)
{
    const char *value = header_value(a->line, "Proxy-Authenticate");
    if (value) {
        char word[24], scheme[24];
        value += strspn(value, " \t");
        snprintf(word, sizeof word, "%.*s", (int)strcspn(value, " \t,"), value);
        copy_words(scheme, sizeof scheme, word);
        a->basic = a->basic || strcasestr(value, "basic") != NULL; /* or in a list */
        size_t n = strlen(a->schemes);
        snprintf(a->schemes + n, sizeof a->schemes - n, "%s%s", n ? ", " : "", scheme);
        return;
    }
    /* Squid's reason and the standard's (RFC 9209). */
    if ((value = header_value(a->line, "X-Squid-Error")) || (value = header_value(a->line, "Proxy-Status")))
        copy_words(a->detail, sizeof a->detail, value);
}

static enum tunnel_state refused(const struct tunnel *t, struct err *e)
{
    const struct http_answer *a = &t->http;
    char said[256];
    snprintf(said, sizeof said, "%d%s%s%s%s", a->status, a->reason[0] ? " " : "", a->reason,
             a->detail[0] ? "; " : "", a->detail);
    switch (a->status) {
    case 401: /* what tinyproxy says to a wrong password */
    case 407:
        if (a->schemes[0] && !a->basic)
            err_set(
                e, "wants a way to sign in that is not supported: it takes %s, we can Basic (it answered %s)",
                a->schemes, said);
        else if (tunnel_has_user(t))
            err_set(e, "does not accept the user and password in %s (it answered %s)", t->proxy->variable,
                    said);
        else
            err_set(e, "wants a user and a password, and %s has none (it answered %s)", t->proxy->variable,
                    said);
        break;
    case 403:
        err_set(e, "does not allow CONNECT to %s (it answered %s): its rules must permit this host and port",
                t->where, said);
        break;
    case 405:
    case 501:
        err_set(e, "does not do CONNECT (it answered %s)", said);
        break;
    case 500: /* what tinyproxy says about a name that it cannot resolve, or a host that refuses */
    case 502:
    case 503:
    case 504:
        err_set(e, "cannot reach %s (it answered %s)", t->where, said);
        break;
    default:
        err_set(e, "answered CONNECT to %s with %s", t->where, said);
    }
    return TUNNEL_REFUSED;
}

enum tunnel_state http_connect_feed(struct tunnel *t, uint8_t byte, struct err *e)
{
    struct http_answer *a = &t->http;
    if (byte != '\n') {
        if (a->len < sizeof a->line - 1)
            a->line[a->len++] = (char)byte;
        /* Something else than HTTP may never send a line end: say so at once. */
        static const char start[] = "HTTP/1.";
        if (a->status == 0 && a->len <= sizeof start - 1 && a->line[a->len - 1] != start[a->len - 1]) {
            err_set(e, "does not answer in HTTP; is it a proxy of another kind than %.*s?",
                    (int)strcspn(t->proxy->name, ":") + 3, t->proxy->name);
            return TUNNEL_REFUSED;
        }
        return TUNNEL_MORE;
    }
    if (a->len > 0 && a->line[a->len - 1] == '\r')
        a->len--;
    a->line[a->len] = 0;
    bool empty = a->len == 0;
    a->len = 0;
    if (a->status == 0) {
        status_line(a);
        if (a->status < 100) {
            err_set(e, "sends a status line that is not HTTP");
            return TUNNEL_REFUSED;
        }
        return TUNNEL_MORE;
    }
    if (!empty) {
        header_line(a);
        return TUNNEL_MORE;
    }
    if (a->status / 100 == 1) { /* an interim answer; the real one follows */
        memset(a, 0, sizeof *a);
        return TUNNEL_MORE;
    }
    /* A body announced with 2xx does not exist (RFC 9110 section 9.3.6). */
    return a->status / 100 == 2 ? TUNNEL_OPEN : refused(t, e);
}
