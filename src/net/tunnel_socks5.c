#include <string.h>

#include "base/addr.h"
#include "net/tunnel_kinds.h"

#define VERSION         5
#define AUTH_VERSION    1
#define METHOD_NONE     0
#define METHOD_PASSWORD 2
#define CONNECT         1
#define ATYP_IPV4       1
#define ATYP_NAME       3
#define ATYP_IPV6       4

static bool put(struct tunnel *t, const void *bytes, size_t n)
{
    return buf_append(&t->out, bytes, n);
}

static bool put8(struct tunnel *t, size_t byte)
{
    uint8_t b = (uint8_t)byte;
    return put(t, &b, 1);
}

static void expect(struct tunnel *t, enum socks_step step, size_t want)
{
    t->socks.step = step;
    t->socks.len = 0;
    t->socks.want = want;
}

bool socks5_begin(struct tunnel *t, struct err *e)
{
    static const uint8_t plain[] = {VERSION, 1, METHOD_NONE};
    static const uint8_t both[] = {VERSION, 2, METHOD_NONE, METHOD_PASSWORD};
    expect(t, SOCKS_METHOD, 2);
    bool ok = tunnel_has_user(t) ? put(t, both, sizeof both) : put(t, plain, sizeof plain);
    return ok || err_set(e, "out of memory");
}

static enum tunnel_state refuse(struct err *e, const char *why)
{
    err_set(e, "%s", why);
    return TUNNEL_REFUSED;
}

static enum tunnel_state send_password(struct tunnel *t, struct err *e)
{
    size_t user = strlen(t->proxy->user),
           password = strlen(t->proxy->password); /* at most 255: net/web_proxy */
    expect(t, SOCKS_AUTH, 2);
    bool ok = put8(t, AUTH_VERSION) && put8(t, user) && put(t, t->proxy->user, user) && put8(t, password) &&
              put(t, t->proxy->password, password);
    return ok ? TUNNEL_MORE : refuse(e, "out of memory");
}

static enum tunnel_state send_request(struct tunnel *t, struct err *e)
{
    static const uint8_t head[] = {VERSION, CONNECT, 0};
    struct addr ip;
    expect(t, SOCKS_REPLY, 4);
    bool ok = put(t, head, sizeof head);
    if (addr_parse_ip(&ip, t->host))
        ok = ok && put8(t, ip.family == 4 ? ATYP_IPV4 : ATYP_IPV6) && put(t, ip.ip, ip.family == 4 ? 4 : 16);
    else
        ok = ok && put8(t, ATYP_NAME) && put8(t, strlen(t->host)) && put(t, t->host, strlen(t->host));
    ok = ok && put8(t, t->port >> 8) && put8(t, t->port & 0xff);
    return ok ? TUNNEL_MORE : refuse(e, "out of memory");
}

static enum tunnel_state on_method(struct tunnel *t, struct err *e)
{
    switch (t->socks.bytes[1]) {
    case METHOD_NONE:
        return send_request(t, e);
    case METHOD_PASSWORD:
        if (tunnel_has_user(t))
            return send_password(t, e);
        break;
    case 0xff:
        err_set(e,
                tunnel_has_user(t) ? "takes neither the user and password in %s nor none at all"
                                   : "wants a user and a password, and %s has none",
                t->proxy->variable);
        return TUNNEL_REFUSED;
    }
    err_set(e, "chose a way to sign in that we did not offer (method %u)", t->socks.bytes[1]);
    return TUNNEL_REFUSED;
}

static const char *reply_text(unsigned code)
{
    static const char *const texts[] = {
        [1] = "general failure",       [2] = "not allowed by its rules",   [3] = "network unreachable",
        [4] = "host unreachable",      [5] = "connection refused",         [6] = "TTL expired",
        [7] = "command not supported", [8] = "address type not supported",
    };
    return code >= 1 && code <= 8 ? texts[code] : "a reason that SOCKS5 does not know";
}

static enum tunnel_state on_reply(struct tunnel *t, struct err *e)
{
    struct socks_answer *a = &t->socks;
    if (a->bytes[1] != 0) {
        err_set(e,
                a->bytes[1] == 2 ? "does not allow a connection to %s: %s (SOCKS reply %u)"
                                 : "cannot reach %s: %s (SOCKS reply %u)",
                t->where, reply_text(a->bytes[1]), a->bytes[1]);
        return TUNNEL_REFUSED;
    }
    /* The address that the proxy bound follows; nobody needs it, but it has to be read. */
    switch (a->bytes[3]) {
    case ATYP_IPV4:
        a->want = 4 + 4 + 2;
        break;
    case ATYP_IPV6:
        a->want = 4 + 16 + 2;
        break;
    case ATYP_NAME:
        a->want = a->len < 5 ? 5 : 5u + a->bytes[4] + 2u;
        break;
    default:
        return refuse(e, "sends a SOCKS answer that makes no sense");
    }
    return a->len < a->want ? TUNNEL_MORE : TUNNEL_OPEN;
}

enum tunnel_state socks5_feed(struct tunnel *t, uint8_t byte, struct err *e)
{
    struct socks_answer *a = &t->socks;
    a->bytes[a->len++] = byte;
    if (a->len == 1 && byte != (a->step == SOCKS_AUTH ? AUTH_VERSION : VERSION))
        return refuse(e, "does not answer in SOCKS5; is it a proxy of another kind than socks5h://?");
    if (a->len < a->want)
        return TUNNEL_MORE;
    switch (a->step) {
    case SOCKS_METHOD:
        return on_method(t, e);
    case SOCKS_AUTH:
        if (a->bytes[1] == 0)
            return send_request(t, e);
        err_set(e, "does not accept the user and password in %s", t->proxy->variable);
        return TUNNEL_REFUSED;
    default:
        return on_reply(t, e);
    }
}
