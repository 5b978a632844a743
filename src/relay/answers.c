#include "relay/answers.h"

#include <stdlib.h>
#include <string.h>

/* One that is kept is as long as its texts: most devices have a short name, no key and no metadata. */
struct answer {
    struct map_node node;
    struct list recent;
    int64_t expires_ms;
    struct addr device;
    uint32_t ttl_seconds, ttl_counter;
    uint32_t uses_left; /* meaningful when ttl_counter is not 0 */
    uint32_t company_id, device_id;
    uint32_t metadata_len, metadata_count;
    uint8_t action, name_len, md5_len;
    char texts[]; /* the name and its NUL, then the key, then the metadata as it lies in a kv */
};

_Static_assert(CONTROL_NAME_MAX <= UINT8_MAX, "name_len");

void answers_init(struct answers *a, uint64_t seed)
{
    *a = (struct answers){.seed = seed};
    list_init(&a->recent);
}

static char *key_of(struct answer *it)
{
    return it->texts + it->name_len + 1;
}

static char *metadata_of(struct answer *it)
{
    return key_of(it) + it->md5_len;
}

static size_t size_of(const struct answer *it)
{
    return offsetof(struct answer, texts) + it->name_len + 1u + it->md5_len + it->metadata_len;
}

static void answer_drop(struct answer *it)
{
    explicit_bzero(it, size_of(it));
    free(it);
}

static void answer_free(struct answers *a, struct answer *it)
{
    a->bytes -= size_of(it);
    map_remove(&a->by_ip, &it->node);
    list_remove(&it->recent);
    answer_drop(it);
}

static struct answer *answer_new(const struct control_response *r)
{
    size_t name_len = strlen(r->device_name);
    struct answer *it =
        calloc(1, offsetof(struct answer, texts) + name_len + 1 + r->md5_len + r->metadata.len);
    if (!it)
        return NULL;
    it->action = (uint8_t)r->action;
    it->device = r->device;
    it->ttl_seconds = r->ttl_seconds;
    it->ttl_counter = it->uses_left = r->ttl_counter;
    it->company_id = r->company_id;
    it->device_id = r->device_id;
    it->name_len = (uint8_t)name_len;
    it->md5_len = r->md5_len;
    it->metadata_len = r->metadata.len;
    it->metadata_count = r->metadata.count;
    memcpy(it->texts, r->device_name, name_len + 1);
    memcpy(key_of(it), r->md5, r->md5_len);
    if (r->metadata.len > 0)
        memcpy(metadata_of(it), r->metadata.data, r->metadata.len);
    return it;
}

static void serve(struct answers *a, struct answer *it)
{
    struct control_response *r = &a->served;
    explicit_bzero(r->md5, r->md5_len);
    *r = (struct control_response){
        .action = (enum control_action)it->action,
        .device = it->device,
        .ttl_seconds = it->ttl_seconds,
        .ttl_counter = it->ttl_counter,
        .metadata = {.data = metadata_of(it), .len = it->metadata_len, .count = it->metadata_count},
        .company_id = it->company_id,
        .device_id = it->device_id,
        .md5_len = it->md5_len};
    memcpy(r->device_name, it->texts, it->name_len + 1u);
    memcpy(r->md5, key_of(it), it->md5_len);
}

void answers_free(struct answers *a)
{
    while (!list_empty(&a->recent))
        answer_free(a, LIST_ITEM(a->recent.next, struct answer, recent));
    map_free(&a->by_ip);
    explicit_bzero(a->served.md5, sizeof a->served.md5);
}

static struct answer *find(struct answers *a, const struct addr *device, int64_t now_ms)
{
    uint64_t hash = addr_ip_hash(device, a->seed);
    for (struct map_node *n = map_find(&a->by_ip, hash); n; n = map_find_next(n)) {
        struct answer *it = MAP_ITEM(n, struct answer, node);
        if (!addr_same_ip(&it->device, device))
            continue;
        if (it->expires_ms > now_ms)
            return it;
        answer_free(a, it);
        return NULL;
    }
    return NULL;
}

void answers_put(struct answers *a, struct control_response *r, int64_t now_ms)
{
    answers_drop(a, &r->device);
    struct answer *it = r->ttl_seconds == 0 ? NULL : answer_new(r);
    control_response_clear(r);
    if (!it)
        return;
    it->expires_ms = now_ms + (int64_t)it->ttl_seconds * 1000;
    list_init(&it->recent);
    if (!map_insert(&a->by_ip, &it->node, addr_ip_hash(&it->device, a->seed))) {
        answer_drop(it);
        return;
    }
    list_append(&a->recent, &it->recent);
    a->bytes += size_of(it);
    while (a->by_ip.count > ANSWERS_MAX || a->bytes > ANSWERS_BYTES_MAX)
        answer_free(a, LIST_ITEM(a->recent.next, struct answer, recent));
}

const struct control_response *answers_use(struct answers *a, const struct addr *device, int64_t now_ms)
{
    struct answer *it = find(a, device, now_ms);
    if (it && it->ttl_counter != 0) {
        if (it->uses_left == 0) {
            answer_free(a, it);
            it = NULL;
        } else {
            it->uses_left--;
        }
    }
    if (!it) {
        a->misses++;
        return NULL;
    }
    a->hits++;
    list_remove(&it->recent);
    list_append(&a->recent, &it->recent);
    serve(a, it);
    return &a->served;
}

bool answers_blocked(struct answers *a, const struct addr *device, int64_t now_ms)
{
    const struct answer *it = find(a, device, now_ms);
    return it && it->action == CONTROL_BLOCK_IP && (it->ttl_counter == 0 || it->uses_left > 0);
}

bool answers_refuse(struct answers *a, const struct addr *device, int64_t now_ms)
{
    return answers_blocked(a, device, now_ms) && answers_use(a, device, now_ms) != NULL;
}

void answers_drop(struct answers *a, const struct addr *device)
{
    struct answer *it = find(a, device, INT64_MIN);
    if (it)
        answer_free(a, it);
}

void answers_count(const struct answers *a, int64_t now_ms, uint64_t *allow, uint64_t *block)
{
    *allow = *block = 0;
    for (const struct list *n = a->recent.next; n != &a->recent; n = n->next) {
        const struct answer *it =
            (const struct answer *)(const void *)((const char *)n - offsetof(struct answer, recent));
        if (it->expires_ms <= now_ms)
            continue;
        if (it->action == CONTROL_BLOCK_IP)
            (*block)++;
        else
            (*allow)++;
    }
}
