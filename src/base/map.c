#include "base/map.h"

#include <stdlib.h>

#define FIRST_BUCKETS 16

static void grow(struct map *m)
{
    size_t n = m->n_buckets * 2;
    struct map_node **buckets = calloc(n, sizeof *buckets);
    if (!buckets)
        return; /* longer chains do no harm */
    for (size_t i = 0; i < m->n_buckets; i++) {
        struct map_node *node = m->buckets[i];
        while (node) {
            struct map_node *next = node->next;
            struct map_node **b = &buckets[node->hash & (n - 1)];
            node->next = *b;
            *b = node;
            node = next;
        }
    }
    free(m->buckets);
    m->buckets = buckets;
    m->n_buckets = n;
}

bool map_insert(struct map *m, struct map_node *node, uint64_t hash)
{
    if (m->n_buckets == 0) {
        m->buckets = calloc(FIRST_BUCKETS, sizeof *m->buckets);
        if (!m->buckets)
            return false;
        m->n_buckets = FIRST_BUCKETS;
    } else if (m->count >= m->n_buckets) {
        grow(m);
    }
    node->hash = hash;
    struct map_node **b = &m->buckets[hash & (m->n_buckets - 1)];
    node->next = *b;
    *b = node;
    m->count++;
    return true;
}

void map_remove(struct map *m, struct map_node *node)
{
    struct map_node **p = &m->buckets[node->hash & (m->n_buckets - 1)];
    while (*p != node)
        p = &(*p)->next;
    *p = node->next;
    node->next = NULL;
    m->count--;
}

struct map_node *map_find(const struct map *m, uint64_t hash)
{
    if (m->n_buckets == 0)
        return NULL;
    struct map_node *node = m->buckets[hash & (m->n_buckets - 1)];
    while (node && node->hash != hash)
        node = node->next;
    return node;
}

struct map_node *map_find_next(const struct map_node *node)
{
    uint64_t hash = node->hash;
    struct map_node *next = node->next;
    while (next && next->hash != hash)
        next = next->next;
    return next;
}

void map_free(struct map *m)
{
    free(m->buckets);
    *m = (struct map){0};
}

uint64_t map_hash_text(const char *text, uint64_t seed)
{
    uint64_t h = seed ^ 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}
