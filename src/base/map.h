#ifndef KBGP_BASE_MAP_H
#define KBGP_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Intrusive hash map. A member embeds a struct map_node; the caller computes the hash (with a secret seed where
 * outsiders choose the keys) and compares keys itself:
 *
 *     for (struct map_node *n = map_find(m, hash); n; n = map_find_next(n))
 *         if (same(MAP_ITEM(n, struct thing, node), key)) …
 */
struct map_node {
    struct map_node *next;
    uint64_t hash;
};

struct map {
    struct map_node **buckets;
    size_t n_buckets; /* a power of two; 0: nothing was inserted yet */
    size_t count;
};

/* A zeroed map is empty. False without memory for the first buckets. */
bool map_insert(struct map *m, struct map_node *node, uint64_t hash);
/* `node` must be in the map. */
void map_remove(struct map *m, struct map_node *node);
/* The first (next) node with this hash, or NULL. */
struct map_node *map_find(const struct map *m, uint64_t hash);
struct map_node *map_find_next(const struct map_node *node);
/* Frees the buckets, not the members. */
void map_free(struct map *m);

/* Hash of a string. */
uint64_t map_hash_text(const char *text, uint64_t seed);

#define MAP_ITEM(p, T, m) ((T *)(void *)((char *)(p)-offsetof(T, m)))

#endif
