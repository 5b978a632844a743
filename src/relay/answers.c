#include "relay/answers.h"

#include <stdlib.h>

struct answer {
    struct map_node node;
    struct list recent;
    int64_t expires_ms;
    uint32_t uses_left; /* meaningful when r.ttl_counter is not 0 */
    struct control_response r;
};

void answers_init(struct answers *a, uint64_t seed)
{
    *a = (struct answers){.seed = seed};
    list_init(&a->recent);
}

static size_t size_of(const struct answer *it)
{
    return sizeof *it + it->r.metadata.cap;
}

static void answer_free(struct answers *a, struct answer *it)
{
    a->bytes -= size_of(it);
    map_remove(&a->by_ip, &it->node);
    list_remove(&it->recent);
    control_response_clear(&it->r);
    free(it);
}

void answers_free(struct answers *a)
{
    while (!list_empty(&a->recent))
        answer_free(a, LIST_ITEM(a->recent.next, struct answer, recent));
    map_free(&a->by_ip);
}

static struct answer *find(struct answers *a, const struct addr *device, int64_t now_ms)
{
    uint64_t hash = addr_ip_hash(device, a->seed);
    for (struct map_node *n = map_find(&a->by_ip, hash); n; n = map_find_next(n)) {
        struct answer *it = MAP_ITEM(n, struct answer, node);
        if (!addr_same_ip(&it->r.device, device))
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
    struct answer *it = r->ttl_seconds == 0 ? NULL : calloc(1, sizeof *it);
    if (!it) {
        control_response_clear(r);
        return;
    }
    it->expires_ms = now_ms + (int64_t)r->ttl_seconds * 1000;
    it->uses_left = r->ttl_counter;
    it->r = *r;
    *r = (struct control_response){0};
    kv_trim(&it->r.metadata);
    list_init(&it->recent);
    if (!map_insert(&a->by_ip, &it->node, addr_ip_hash(&it->r.device, a->seed))) {
        control_response_clear(&it->r);
        free(it);
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
    if (it && it->r.ttl_counter != 0) {
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
    return &it->r;
}

bool answers_blocked(struct answers *a, const struct addr *device, int64_t now_ms)
{
    const struct answer *it = find(a, device, now_ms);
    return it && it->r.action == CONTROL_BLOCK_IP && (it->r.ttl_counter == 0 || it->uses_left > 0);
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
        if (it->r.action == CONTROL_BLOCK_IP)
            (*block)++;
        else
            (*allow)++;
    }
}
