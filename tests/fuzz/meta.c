/* libFuzzer: metadata of a call (lines "key=value"), as a server reads it and as what Control wants added. */
#include <ctype.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "relay/meta.h"

static struct kv pairs(const uint8_t *data, size_t n)
{
    struct kv kv = {0};
    while (n > 0) {
        const uint8_t *eol = memchr(data, '\n', n);
        size_t line = eol ? (size_t)(eol - data) : n;
        const uint8_t *eq = memchr(data, '=', line);
        size_t key = eq ? (size_t)(eq - data) : line;
        kv_add_n(&kv, (const char *)data, key, (const char *)data + key + (eq != NULL),
                 line - key - (eq != NULL));
        line += eol != NULL;
        data += line;
        n -= line;
    }
    return kv;
}

static unsigned count(const struct kv *kv, const char *key)
{
    struct kv_pair pair;
    unsigned n = 0;
    for (uint32_t pos = 0; kv_next(kv, &pos, &pair);)
        n += strcmp(pair.key, key) == 0;
    return n;
}

static void as_server(const struct kv *md)
{
    struct meta_session m;
    struct meta_caller c;
    struct err e = {{0}};
    if (meta_read_session(md, &m, &e)) {
        char text[ADDR_TEXT_MAX];
        if (!uuid_valid(m.id.text) || m.device.family == 0 || m.proxy.family == 0 ||
            !addr_ip_text(&m.device, text)[0])
            abort();
    } else if (e.text[0] == 0) {
        abort();
    }
    if (!meta_read_caller(md, &c, &e) && e.text[0] == 0)
        abort();
    meta_read_counters(md);
    struct kv shown = meta_redacted(md);
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(&shown, &pos, &pair);)
        if (strcmp(pair.key, META_TOKEN) == 0 && strcmp(pair.val, "[redacted]") != 0)
            abort();
    kv_free(&shown);
}

static void as_agent(const struct kv *extra)
{
    static const struct meta_agent agent = {.email = "e",
                                            .token = "t",
                                            .site_id = 1,
                                            .version = "1",
                                            .instance = "64bae291-66ea-4910-a2a2-92eb99224a28"};
    struct uuid id = {"cbce1788-bb34-4c2c-8056-5b3224d4e893"};
    struct addr device = {.family = 4, .port = 1}, proxy = {.family = 6, .port = 179};
    struct session s;
    session_init(&s, SESSION_AGENT, &id, &device, &proxy);
    struct kv out = {0};
    unsigned left_out;
    char key[64];
    if (!meta_data(&out, &agent, &s, extra, &left_out, key))
        abort();
    if (out.count - 13 + left_out != extra->count)
        abort();
    static const char *const ours[] = {"x-ch-auth-email", META_TOKEN,   "sid",        "version",
                                       "instance",        "proto",      "device-ip",  "device-port",
                                       "proxy-ip",        "proxy-port", "session-id", META_COUNTER_UP,
                                       META_COUNTER_DOWN};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (count(&out, ours[i]) != 1)
            abort();
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(&out, &pos, &pair);) {
        if (strlen(pair.key) != pair.key_len || strlen(pair.val) != pair.val_len || pair.key[0] == ':')
            abort();
        for (const char *c = pair.key; *c; c++)
            if (isupper((unsigned char)*c) || *c <= ' ' || *c > '~')
                abort();
        for (const char *c = pair.val; *c; c++)
            if (*c < ' ' || *c > '~')
                abort();
    }
    /* What we send can be read. */
    struct meta_session m;
    struct err e;
    if (!meta_read_session(&out, &m, &e))
        abort();
    kv_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct kv kv = pairs(data, n);
    as_server(&kv);
    as_agent(&kv);
    kv_free(&kv);
    return 0;
}
