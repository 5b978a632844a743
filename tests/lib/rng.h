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
    uint32_t mask = (1u << rng_below(r, bits + 1)) - 1;
    uint32_t n = (uint32_t)rng_u64(r) & mask;
    return n < max ? n : max;
}

/*
 * Endless patterns of bytes, numbered: neighbours, and the same place of other patterns, differ. Each eight
 * bytes are one random number.
 */
static inline uint64_t pattern_word(uint64_t which, uint64_t word)
{
    struct rng r = {which * 0x100000001b3u + word};
    return rng_u64(&r);
}

/* Writes the n bytes that stand at `at`. */
static inline void pattern_fill(uint64_t which, uint64_t at, uint8_t *dst, uint64_t n)
{
    uint64_t word = 0;
    for (uint64_t i = 0; i < n; i++, at++) {
        if (i == 0 || at % 8 == 0)
            word = pattern_word(which, at / 8) >> (at % 8 * 8);
        dst[i] = (uint8_t)word;
        word >>= 8;
    }
}

/* The first of n bytes that is not the pattern's; n: none. */
static inline uint64_t pattern_check(uint64_t which, uint64_t at, const uint8_t *p, uint64_t n)
{
    uint64_t word = 0;
    for (uint64_t i = 0; i < n; i++, at++) {
        if (i == 0 || at % 8 == 0)
            word = pattern_word(which, at / 8) >> (at % 8 * 8);
        if (p[i] != (uint8_t)word)
            return i;
        word >>= 8;
    }
    return n;
}

#endif
