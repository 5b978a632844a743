#include "relay/meta.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool add_caller(struct kv *out, const struct meta_agent *agent)
{
    return kv_add(out, "x-ch-auth-email", agent->email) && kv_add(out, META_TOKEN, agent->token) &&
           (agent->site_id == 0 || kv_addf(out, "sid", "%u", agent->site_id)) &&
           kv_add(out, "version", agent->version) && kv_add(out, "instance", agent->instance);
}

/* The most pairs of a call: so many header fields go through our HTTP/2 engine, with some room for those of gRPC. */
#define PAIRS_MAX 100

bool meta_control(struct kv *out, const struct meta_agent *agent)
{
    return add_caller(out, agent);
}

/* Keys that are ours or HTTP's: an answer of Control may not replace them. */
static bool reserved(const char *key)
{
    static const char *const names[] = {"x-ch-auth-email", META_TOKEN,         "sid",
                                        "version",         "instance",         "proto",
                                        "device-ip",       "device-port",      "proxy-ip",
                                        "proxy-port",      "session-id",       META_COUNTER_UP,
                                        META_COUNTER_DOWN, "kbgp-resume",      "te",
                                        "content-type",    "user-agent",       "host",
                                        "connection",      "keep-alive",       "transfer-encoding",
                                        "upgrade",         "proxy-connection", "content-length"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(key, names[i]) == 0)
            return true;
    return strncmp(key, "grpc-", 5) == 0 || key[0] == ':';
}

/* gRPC's rule for metadata: lower-case names of letters, digits, '_', '-', '.'; values of printable ASCII. */
static bool legal(const struct kv_pair *pair)
{
    if (pair->key_len == 0 || pair->val_len > 8192)
        return false;
    for (const char *c = pair->key; *c; c++)
        if (!(islower((unsigned char)*c) || isdigit((unsigned char)*c) || strchr("_-.", *c)))
            return false;
    for (size_t i = 0; i < pair->val_len; i++)
        if (pair->val[i] < 0x20 || pair->val[i] > 0x7e)
            return false;
    return pair->val_len == 0 || (pair->val[0] != ' ' && pair->val[pair->val_len - 1] != ' ');
}

bool meta_counters(struct kv *out, const struct session_counters *c)
{
    return kv_addf(out, META_COUNTER_UP, "%llu", (unsigned long long)c->up) &&
           kv_addf(out, META_COUNTER_DOWN, "%llu", (unsigned long long)c->down);
}

bool meta_data(struct kv *out, const struct meta_agent *agent, const struct session *s,
               const struct kv *extra, unsigned *left_out, char left_out_key[static 64])
{
    char device[ADDR_TEXT_MAX], proxy[ADDR_TEXT_MAX];
    struct session_counters counters = session_counters(s);
    bool ok = add_caller(out, agent) && kv_add(out, "proto", "BGP") &&
              kv_add(out, "device-ip", addr_ip_text(&s->device, device)) &&
              kv_addf(out, "device-port", "%u", s->device.port) &&
              kv_add(out, "proxy-ip", addr_ip_text(&s->proxy, proxy)) &&
              kv_addf(out, "proxy-port", "%u", s->proxy.port) && kv_add(out, "session-id", s->id.text) &&
              meta_counters(out, &counters);
    struct kv_pair pair;
    *left_out = 0;
    for (uint32_t pos = 0; ok && kv_next(extra, &pos, &pair);) {
        char key[64];
        size_t n = 0;
        for (; pair.key[n] && n < sizeof key - 1; n++)
            key[n] = (char)tolower((unsigned char)pair.key[n]);
        key[n] = 0;
        /* An upper-case key means the same header: HTTP/2 only knows lower case. */
        struct kv_pair lower = {.key = key, .val = pair.val, .key_len = n, .val_len = pair.val_len};
        if (pair.key_len >= sizeof key || reserved(key) || !legal(&lower) || out->count >= PAIRS_MAX) {
            (*left_out)++;
            snprintf(left_out_key, 64, "%s", key);
            continue;
        }
        ok = kv_add_n(out, key, n, pair.val, pair.val_len);
    }
    return ok;
}

/* A decimal number that is all there is. */
static bool number(const char *text, uint64_t max, uint64_t *out)
{
    if (!text || text[0] < '0' || text[0] > '9' || strlen(text) > 20)
        return false;
    uint64_t v = 0;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || v > (UINT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(*c - '0');
    }
    *out = v;
    return v <= max;
}

struct session_counters meta_read_counters(const struct kv *metadata)
{
    struct session_counters c = {0};
    c.has_up = number(kv_get(metadata, META_COUNTER_UP), UINT64_MAX, &c.up);
    c.has_down = number(kv_get(metadata, META_COUNTER_DOWN), UINT64_MAX, &c.down);
    return c;
}

static bool read_endpoint(const struct kv *md, const char *ip_key, const char *port_key, struct addr *out,
                          struct err *e)
{
    const char *ip = kv_get(md, ip_key), *port = kv_get(md, port_key);
    uint64_t n;
    if (!ip || !port)
        return err_set(e, "metadata %s is missing", ip ? port_key : ip_key);
    if (!addr_parse_ip(out, ip)) {
        /* A zone (fe80::1%eth0) means something on the agent's host only. */
        char bare[ADDR_TEXT_MAX];
        snprintf(bare, sizeof bare, "%.*s", (int)strcspn(ip, "%"), ip);
        if (!addr_parse_ip(out, bare))
            return err_set(e, "metadata %s: \"%.64s\" is no IP address", ip_key, ip);
    }
    out->scope = 0;
    if (!number(port, 65535, &n))
        return err_set(e, "metadata %s: \"%.32s\" is no port", port_key, port);
    out->port = (uint16_t)n;
    return true;
}

bool meta_read_session(const struct kv *md, struct meta_session *out, struct err *e)
{
    *out = (struct meta_session){0};
    const char *proto = kv_get(md, "proto");
    if (!proto || strcmp(proto, "BGP") != 0)
        return err_set(e, "metadata proto is %s, not BGP", proto ? "another" : "missing");
    const char *id = kv_get(md, "session-id");
    if (!id || !uuid_valid(id))
        return err_set(e, "metadata session-id is %s", id ? "no UUID" : "missing");
    for (int i = 0; i < 36; i++)
        out->id.text[i] = (char)tolower((unsigned char)id[i]);
    out->counters = meta_read_counters(md);
    if (!out->counters.has_up || !out->counters.has_down)
        return err_set(e, "metadata counter-up or counter-down is missing or no number");
    return read_endpoint(md, "device-ip", "device-port", &out->device, e) &&
           read_endpoint(md, "proxy-ip", "proxy-port", &out->proxy, e);
}

static const char *get_or_empty(const struct kv *md, const char *key)
{
    const char *v = kv_get(md, key);
    return v ? v : "";
}

bool meta_read_caller(const struct kv *md, struct meta_caller *out, struct err *e)
{
    *out = (struct meta_caller){.email = get_or_empty(md, "x-ch-auth-email"),
                                .token = get_or_empty(md, META_TOKEN),
                                .version = get_or_empty(md, "version"),
                                .instance = get_or_empty(md, "instance")};
    const char *sid = kv_get(md, "sid");
    uint64_t n = 0;
    if (sid && !number(sid, UINT32_MAX, &n))
        return err_set(e, "metadata sid: \"%.32s\" is no number", sid);
    out->site_id = (uint32_t)n;
    return true;
}

struct kv meta_redacted(const struct kv *md)
{
    struct kv out = {0};
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(md, &pos, &pair);)
        kv_add(&out, pair.key, strcmp(pair.key, META_TOKEN) == 0 ? "[redacted]" : pair.val);
    return out;
}
