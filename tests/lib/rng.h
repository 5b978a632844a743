#ifndef KBGP_TESTS_LIB_RNG_H
#define KBGP_TESTS_LIB_RNG_H

#include <stdbool.h>
#include <stdint.h>

/* Random numbers that are the same at each run (splitmix64): a failing run is found again by its seed. */
struct rng {
    uint64_t state;
};

static inline uint64_t rng_u64(struct rng *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 … n - 1; n > 0. */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(rng_u64(r) % n);
}

/* True once in n times. */
static inline bool rng_once_in(struct rng *r, uint32_t n)
{
    return rng_below(r, n) == 0;
}

/* 0 … max, small numbers as often as large ones: sizes of pieces. */
static inline uint32_t rng_size(struct rng *r, uint32_t max)
{
    uint32_t bits = 0;
    while (bits < 31 && (max >> bits) > 0)
        bits++;
    uint32_t n = (uint32_t)(rng_u64(r) & ((1u << rng_below(r, bits + 1)) - 1));
    return n < max ? n : max;
}

/* The byte that stands at `at` of the pattern numbered `which`: neighbours, and the same place of other patterns, differ. */
static inline uint8_t pattern_byte(uint64_t which, uint64_t at)
{
    struct rng r = {which * 0x100000001b3u + at / 8};
    return (uint8_t)(rng_u64(&r) >> (at % 8 * 8));
}

static inline void pattern_fill(uint64_t which, uint64_t at, uint8_t *dst, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        dst[i] = pattern_byte(which, at + i);
}

/* The first of n bytes that is not the pattern's; n: none. */
static inline uint64_t pattern_check(uint64_t which, uint64_t at, const uint8_t *p, uint64_t n)
{
    uint64_t i = 0;
    while (i < n && p[i] == pattern_byte(which, at + i))
        i++;
    return i;
}

#endif
