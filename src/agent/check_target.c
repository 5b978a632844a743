#include <stdio.h>
#include <string.h>

#include "agent/check.h"
#include "base/uuid.h"
#include "grpc/call.h"
#include "grpc/channel.h"
#include "net/resolve.h"
#include "net/web_proxy.h"
#include "relay/control_msg.h"
#include "relay/meta.h"

/* How long the resolver, and the target's answer on Control, may take; net/dial.h has the same for
 * connecting. */
#define STEP_MS 15000

/* --- DNS --- */

struct lookup {
    struct loop *loop;
    struct resolve *resolve;
    bool done;
    char addresses[RESOLVE_ADDRS_MAX * ADDR_TEXT_MAX]; /* "" after a failure */
    struct err e;
};

static void on_resolved(void *arg, const struct addr *addrs, size_t n, const struct err *why)
{
    struct lookup *l = arg;
    char one[ADDR_TEXT_MAX];
    size_t len = 0;
    for (size_t i = 0; i < n && i < RESOLVE_ADDRS_MAX; i++)
        len += (size_t)snprintf(l->addresses + len, sizeof l->addresses - len, "%s%s", i ? ", " : "",
                                addr_ip_text(&addrs[i], one));
    if (why)
        l->e = *why;
    l->resolve = NULL;
    l->done = true;
    loop_stop(l->loop);
}

static void on_lookup_timer(void *arg)
{
    struct lookup *l = arg;
    loop_stop(l->loop);
}

static void look_up(struct lookup *l, const char *host)
{
    l->resolve = resolve_start(l->loop, host, 0, on_resolved, l, &l->e);
    l->done = !l->resolve;
    struct loop_timer *timer = loop_timer_new(l->loop, on_lookup_timer, l);
    loop_timer_start(timer, STEP_MS, 0);
    if (!l->done)
        loop_run(l->loop);
    resolve_cancel(l->resolve);
    loop_timer_free(timer);
}

/* Whether it is worth going on. */
static bool check_dns(struct check *c, const char *host, const char *flags)
{
    struct addr ip;
    struct lookup l = {.loop = c->loop};
    if (addr_parse_ip(&ip, host)) {
        check_line(c, CHECK_NONE, "DNS", "not needed for the address %s", host);
        return true;
    }
    look_up(&l, host);
    if (!l.done)
        check_line(c, CHECK_PROBLEM, "DNS",
                   "%s: the name servers do not answer within %d s: look at /etc/resolv.conf, and let this "
                   "host reach "
                   "them",
                   host, STEP_MS / 1000);
    else if (!l.addresses[0])
        check_line(c, CHECK_PROBLEM, "DNS",
                   "%s: check the name (%s) and the name servers in /etc/resolv.conf", l.e.text, flags);
    else
        check_line(c, CHECK_OK, "DNS", "%s is %s", host, l.addresses);
    return l.addresses[0] != 0;
}

/* --- the connection and one Control call --- */

/* What is reached one after the other. */
enum step { STEP_PROXY, STEP_TCP, STEP_TLS, STEP_HTTP2, STEP_CREDENTIALS };

static const char *const step_names[] = {[STEP_PROXY] = "web proxy",
                                         [STEP_TCP] = "TCP",
                                         [STEP_TLS] = "TLS",
                                         [STEP_HTTP2] = "HTTP/2",
                                         [STEP_CREDENTIALS] = "credentials"};

struct attempt {
    struct check *check;
    const struct web_proxy *proxy;
    struct tls_ctx *tls;
    struct grpc_channel *channel;
    struct grpc_call *call;
    struct loop_timer *timer;
    struct uuid instance;
    struct buf request; /* the KEEPALIVE, until it is sent */
    bool ended;
};

static void step_ok(struct attempt *a, enum step step)
{
    const struct agent_config *config = a->check->config;
    struct check *c = a->check;
    switch (step) {
    case STEP_PROXY:
        if (a->proxy->kind == WEB_PROXY_NONE)
            check_line(c, CHECK_NONE, "web proxy", "none for this target, connecting directly");
        else
            check_line(c, CHECK_OK, "web proxy", "%s (%s)", a->proxy->name, a->proxy->variable);
        break;
    case STEP_TCP:
        check_line(c, CHECK_OK, "TCP", "connected to %s%s", config->target,
                   a->proxy->kind == WEB_PROXY_NONE ? "" : " by the proxy");
        break;
    case STEP_TLS:
        if (config->insecure)
            check_line(c, CHECK_NONE, "TLS", "not used (--insecure)");
        else
            check_line(c, CHECK_OK, "TLS", "the certificate is for %s and trusted",
                       config->tls_server_name ? config->tls_server_name : config->target_host);
        break;
    case STEP_HTTP2:
        check_line(c, CHECK_OK, "HTTP/2", "the target speaks it");
        break;
    case STEP_CREDENTIALS:
        check_line(c, CHECK_OK, "credentials", "the target accepts the account %s", config->email);
        break;
    }
}

static void not_tried(struct check *c, enum step from)
{
    for (enum step s = from; s <= STEP_CREDENTIALS; s++)
        check_line(c, CHECK_NONE, step_names[s], "not tried");
}

/* The last step that was tried: what comes after it is not. */
static void ended_at(struct attempt *a, enum step step)
{
    not_tried(a->check, step + 1);
    a->ended = true;
    loop_stop(a->check->loop);
}

static void on_metadata(void *arg, const struct kv *metadata)
{
    (void)arg;
    (void)metadata; /* proves nothing: some servers send it before they look at the credentials */
}

static void on_message_begin(void *arg, uint32_t len)
{
    (void)len;
    struct attempt *a = arg;
    step_ok(a, STEP_CREDENTIALS);
    ended_at(a, STEP_CREDENTIALS);
}

static void on_message_bytes(void *arg, const uint8_t *p, size_t n)
{
    struct attempt *a = arg;
    (void)p;
    grpc_call_consume(a->call, n);
}

static void on_message_end(void *arg)
{
    (void)arg;
}

static void on_closed(void *arg, const struct grpc_status *status)
{
    struct attempt *a = arg;
    const struct agent_config *config = a->check->config;
    a->call = NULL;
    if (a->ended)
        return;
    const char *quoted = status->message[0] ? status->message : "it gives no reason";
    if (status->code == GRPC_UNAUTHENTICATED)
        check_line(a->check, CHECK_PROBLEM, "credentials",
                   "%s rejects the account %s (%s): check --email and the API token, and the region",
                   config->target, config->email, quoted);
    else
        check_line(
            a->check, CHECK_PROBLEM, "credentials",
            "%s answers the Control call with %s (%s): is it a kbgp target, and the right one (--target, "
            "--region)?",
            config->target, grpc_code_name(status->code), quoted);
    ended_at(a, STEP_CREDENTIALS);
}

static int64_t on_next(void *arg)
{
    struct attempt *a = arg;
    return buf_len(&a->request) > 0 ? (int64_t)buf_len(&a->request) : -1;
}

static void on_write(void *arg, uint8_t *dst, size_t n)
{
    struct attempt *a = arg;
    memcpy(dst, buf_begin(&a->request), n);
    buf_take(&a->request, n);
}

static const struct grpc_call_ops call_ops = {
    .metadata = on_metadata,
    .message_begin = on_message_begin,
    .message_bytes = on_message_bytes,
    .message_end = on_message_end,
    .closed = on_closed,
    .next = on_next,
    .write = on_write,
};

static void on_timer(void *arg)
{
    struct attempt *a = arg;
    if (a->ended)
        return;
    check_line(a->check, CHECK_PROBLEM, "credentials",
               "%s does not answer the Control call within %d s: is it a kbgp target (--target, --region)?",
               a->check->config->target, STEP_MS / 1000);
    ended_at(a, STEP_CREDENTIALS);
}

/* The call of the agent's Control stream, with a KEEPALIVE, which a target answers. */
static void on_up(void *arg)
{
    struct attempt *a = arg;
    const struct agent_config *config = a->check->config;
    for (enum step s = STEP_PROXY; s < STEP_CREDENTIALS; s++)
        step_ok(a, s);
    if (config->account_problem) {
        ended_at(a, STEP_HTTP2);
        return;
    }
    struct meta_agent agent = {.email = config->email,
                               .token = config->token,
                               .site_id = (uint32_t)config->site_id,
                               .version = KBGP_VERSION,
                               .instance = a->instance.text};
    struct control_request keepalive = {.action = CONTROL_KEEPALIVE};
    struct kv metadata = {0};
    if (meta_control(&metadata, &agent) && control_request_encode(&keepalive, &a->request))
        a->call = grpc_channel_call(a->channel, META_PATH_CONTROL, &metadata, &call_ops, a);
    kv_free(&metadata);
    if (!a->call) {
        check_line(a->check, CHECK_PROBLEM, "credentials", "%s takes no call", config->target);
        ended_at(a, STEP_CREDENTIALS);
        return;
    }
    grpc_call_wake(a->call);
    loop_timer_start(a->timer, STEP_MS, 0);
}

static void on_draining(void *arg, const char *why)
{
    (void)arg;
    (void)why; /* the call goes on, or is told */
}

/* What to do about it, by where it failed. */
static const char *advice(const struct agent_config *config, enum step step, const char *why)
{
    switch (step) {
    case STEP_PROXY:
        return "look at that variable and at NO_PROXY, and let the proxy connect to the target";
    case STEP_TCP:
        return "let this host reach that address and port (firewall, routing), or name a web proxy in "
               "HTTPS_PROXY";
    case STEP_TLS:
        if (strstr(why, "issuer:"))
            return "if the issuer is a device of your network that looks into TLS, exempt the target from "
                   "it, or trust "
                   "its CA with --ca-file; else look at this host's clock and CA certificates";
        return "is it the right port (--target), and does the target speak TLS (else --insecure)?";
    default:
        return config->insecure
                   ? "is it the right port (--target), and is the target without TLS (else no --insecure)?"
                   : "a middlebox or another server answers: is it the right target and port (--target)?";
    }
}

static enum step step_of(const char *stage, const char *why)
{
    if (strcmp(stage, dial_stage_name(DIAL_PROXY)) == 0)
        return STEP_PROXY;
    if (strcmp(stage, dial_stage_name(DIAL_DNS)) == 0 || strcmp(stage, dial_stage_name(DIAL_TCP)) == 0)
        return STEP_TCP;
    /* ALPN is the end of the TLS handshake and the beginning of HTTP/2. */
    if (strcmp(stage, dial_stage_name(DIAL_TLS)) == 0 && !strstr(why, "ALPN"))
        return STEP_TLS;
    return STEP_HTTP2;
}

static void on_down(void *arg, const char *stage, const struct err *why, int64_t retry_ms)
{
    struct attempt *a = arg;
    (void)retry_ms; /* there is no second attempt */
    if (a->ended)
        return;
    enum step step = step_of(stage, why->text);
    for (enum step s = STEP_PROXY; s < step; s++)
        step_ok(a, s);
    check_line(a->check, CHECK_PROBLEM, step_names[step], "%s: %s: %s", a->check->config->target, why->text,
               advice(a->check->config, step, why->text));
    ended_at(a, step);
}

static const struct grpc_channel_ops channel_ops = {.up = on_up, .draining = on_draining, .down = on_down};

static bool start(struct attempt *a, struct err *e)
{
    const struct agent_config *config = a->check->config;
    a->timer = loop_timer_new(a->check->loop, on_timer, a);
    struct grpc_channel_config channel = {
        .loop = a->check->loop,
        .target = {.host = config->target_host,
                   .port = config->target_port,
                   .tls = a->tls,
                   .server_name = config->tls_server_name},
        .authority = config->target,
    };
    a->channel = grpc_channel_new(&channel, &channel_ops, a);
    return a->channel || err_set(e, "out of memory");
}

static void check_connection(struct check *c, const struct web_proxy *proxy, struct tls_ctx *tls)
{
    struct attempt a = {.check = c, .proxy = proxy, .tls = tls, .instance = uuid_v4()};
    struct err e;
    if (start(&a, &e)) {
        loop_run(c->loop);
    } else {
        check_line(c, CHECK_PROBLEM, "TCP", "%s", e.text);
        not_tried(c, STEP_TLS);
    }
    if (a.call)
        grpc_call_cancel(a.call);
    grpc_channel_free(a.channel);
    loop_timer_free(a.timer);
    buf_free(&a.request);
}

void check_target(struct check *c)
{
    const struct agent_config *config = c->config;
    struct tls_client_config files = {
        .ca_file = config->ca_file, .cert_file = config->tls_cert, .key_file = config->tls_key};
    struct err e;
    struct tls_ctx *tls = config->insecure ? NULL : tls_client_ctx(&files, &e);
    if (!config->insecure && !tls)
        check_line(c, CHECK_PROBLEM, "certificates", "%s (--ca-file, --tls-cert, --tls-key)", e.text);
    struct web_proxy proxy = {0};
    bool usable = web_proxy_for(config->insecure ? "http" : "https", config->target_host, config->target_port,
                                &proxy, &e);
    if (!usable)
        check_line(c, CHECK_PROBLEM, "web proxy", "%s", e.text);
    bool named =
        usable && (proxy.kind == WEB_PROXY_NONE ? check_dns(c, config->target_host, "--target, --region")
                                                : check_dns(c, proxy.host, proxy.variable));
    if (named && (tls || config->insecure))
        check_connection(c, &proxy, tls);
    else
        not_tried(c, usable ? STEP_PROXY : STEP_TCP);
    web_proxy_forget(&proxy);
    tls_ctx_free(tls);
}
