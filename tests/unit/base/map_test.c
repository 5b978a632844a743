#include "unit.h"

#include "base/map.h"
#include "rng.h"

struct item {
    uint32_t key;
    struct map_node node;
    int present;
};

static struct item *find(const struct map *m, uint64_t hash, uint32_t key)
{
    for (struct map_node *n = map_find(m, hash); n; n = map_find_next(n)) {
        struct item *it = MAP_ITEM(n, struct item, node);
        assert_true(n->hash == hash);
        if (it->key == key)
            return it;
    }
    return NULL;
}

static void an_empty_map_finds_nothing(void **state)
{
    (void)state;
    struct map m = {0};
    assert_null(map_find(&m, 0));
    assert_null(map_find(&m, UINT64_MAX));
    map_free(&m);
}

/* Random inserts and removals against an array that knows what must be there. Few hashes: members share them.
 */
static void any_order_of_calls(void **state)
{
    (void)state;
    enum { ITEMS = 3000 };
    struct item *items = calloc(ITEMS, sizeof *items);
    assert_non_null(items);
    struct map m = {0};
    struct rng r = {1};
    size_t present = 0;
    for (int round = 0; round < 60000; round++) {
        uint32_t k = rng_below(&r, ITEMS);
        uint64_t hash = k % 1000 * 0x100000001u; /* also hashes that differ above the bucket bits only */
        struct item *it = &items[k];
        it->key = k;
        assert_ptr_equal(find(&m, hash, k), it->present ? it : NULL);
        if (it->present) {
            map_remove(&m, &it->node);
            present--;
        } else {
            assert_true(map_insert(&m, &it->node, hash));
            present++;
        }
        it->present = !it->present;
        assert_int_equal(m.count, present);
    }
    for (uint32_t k = 0; k < ITEMS; k++)
        assert_ptr_equal(find(&m, k % 1000 * 0x100000001u, k), items[k].present ? &items[k] : NULL);
    map_free(&m);
    assert_int_equal(m.count, 0);
    free(items);
}

static void chains_stay_short(void **state)
{
    (void)state;
    enum { ITEMS = 5000 };
    struct item *items = calloc(ITEMS, sizeof *items);
    assert_non_null(items);
    struct map m = {0};
    for (uint32_t k = 0; k < ITEMS; k++)
        assert_true(map_insert(&m, &items[k].node, k));
    assert_true(m.n_buckets >= ITEMS);
    assert_int_equal(m.n_buckets & (m.n_buckets - 1), 0);
    map_free(&m);
    free(items);
}

/* Text that differs in one character, or only in the seed, lands elsewhere: all bits of the hash take part.
 */
static void text_hashes_spread(void **state)
{
    (void)state;
    enum { N = 4096 };
    unsigned *hits = calloc(N, sizeof *hits);
    assert_non_null(hits);
    char text[20];
    for (int i = 0; i < 4 * N; i++) {
        snprintf(text, sizeof text, "10.0.%d.%d", i / 256, i % 256);
        hits[map_hash_text(text, 77) % N]++;
    }
    for (int i = 0; i < N; i++)
        assert_in_range(hits[i], 0, 24); /* 4 are to be expected */
    free(hits);
    assert_true(map_hash_text("a", 1) != map_hash_text("a", 2));
    assert_true(map_hash_text("", 1) != map_hash_text("a", 1));
    assert_true(map_hash_text("ab", 1) == map_hash_text("ab", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_finds_nothing),
        cmocka_unit_test(any_order_of_calls),
        cmocka_unit_test(chains_stay_short),
        cmocka_unit_test(text_hashes_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
