#include "base/kv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far more than any metadata, and little enough that doubling the capacity does not overflow. */
#define KV_LEN_MAX (1u << 30)

bool kv_add_n(struct kv *kv, const char *key, size_t key_len, const char *val, size_t val_len)
{
    if (key_len > UINT16_MAX || val_len > UINT16_MAX || kv->len > KV_LEN_MAX)
        return false;
    uint32_t need = (uint32_t)(4 + key_len + 1 + val_len + 1);
    if (kv->cap - kv->len < need) {
        uint32_t cap = kv->cap ? kv->cap * 2 : 256;
        while (cap - kv->len < need)
            cap *= 2;
        char *data = realloc(kv->data, cap);
        if (!data)
            return false;
        kv->data = data;
        kv->cap = cap;
    }
    uint16_t lens[2] = {(uint16_t)key_len, (uint16_t)val_len};
    char *p = kv->data + kv->len;
    memcpy(p, lens, 4);
    p += 4;
    memcpy(p, key, key_len);
    p[key_len] = 0;
    p += key_len + 1;
    if (val_len > 0)
        memcpy(p, val, val_len);
    p[val_len] = 0;
    kv->len += need;
    kv->count++;
    return true;
}

bool kv_add(struct kv *kv, const char *key, const char *val)
{
    return kv_add_n(kv, key, strlen(key), val, strlen(val));
}

bool kv_addf(struct kv *kv, const char *key, const char *fmt, ...)
{
    char val[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(val, sizeof val, fmt, ap);
    va_end(ap);
    return n >= 0 && (size_t)n < sizeof val && kv_add_n(kv, key, strlen(key), val, (size_t)n);
}

bool kv_next(const struct kv *kv, uint32_t *pos, struct kv_pair *out)
{
    if (*pos >= kv->len)
        return false;
    const char *p = kv->data + *pos;
    uint16_t lens[2];
    memcpy(lens, p, 4);
    out->key = p + 4;
    out->key_len = lens[0];
    out->val = out->key + lens[0] + 1;
    out->val_len = lens[1];
    *pos += 4u + lens[0] + 1u + lens[1] + 1u;
    return true;
}

const char *kv_get(const struct kv *kv, const char *key)
{
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(kv, &pos, &pair);)
        if (strcmp(pair.key, key) == 0)
            return pair.val;
    return NULL;
}

bool kv_add_all(struct kv *kv, const struct kv *from)
{
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(from, &pos, &pair);)
        if (!kv_add_n(kv, pair.key, pair.key_len, pair.val, pair.val_len))
            return false;
    return true;
}

void kv_trim(struct kv *kv)
{
    if (kv->len == 0) {
        kv_free(kv);
        return;
    }
    char *data = realloc(kv->data, kv->len);
    if (data) {
        kv->data = data;
        kv->cap = kv->len;
    }
}

void kv_free(struct kv *kv)
{
    free(kv->data);
    *kv = (struct kv){0};
}
