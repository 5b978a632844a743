#ifndef KBGP_BASE_KV_H
#define KBGP_BASE_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Ordered pairs of strings in which a key may stand more than once: the metadata of a call. All text lies in
 * one piece of memory (a session keeps its server's metadata for the status page, so small matters). A zeroed
 * struct is empty; it owns its memory.
 *
 * Packed form: for each pair  uint16 key length, uint16 value length, key, NUL, value, NUL.
 */
struct kv {
    char *data;
    uint32_t len, cap;
    uint32_t count;
};

/* One pair, pointing into the kv (valid until it changes). Key and value end in NUL. */
struct kv_pair {
    const char *key, *val;
    size_t key_len, val_len;
};

/*
 * Appends a pair (copied; it must not point into this kv). False without memory, or when key or value is
 * longer than 65,535 bytes; of kv_addf(), also when the value is longer than 255 bytes.
 */
bool kv_add(struct kv *kv, const char *key, const char *val);
bool kv_add_n(struct kv *kv, const char *key, size_t key_len, const char *val, size_t val_len);
__attribute__((format(printf, 3, 4))) bool kv_addf(struct kv *kv, const char *key, const char *fmt, ...);

/* Walks the pairs: start with *pos == 0; false at the end. */
bool kv_next(const struct kv *kv, uint32_t *pos, struct kv_pair *out);

/* The first value of a key, or NULL. */
const char *kv_get(const struct kv *kv, const char *key);

/* Appends all pairs of `from`, which is another kv. */
bool kv_add_all(struct kv *kv, const struct kv *from);

/* Gives back what was reserved beyond the length: for a kv that is kept and changes no more. */
void kv_trim(struct kv *kv);

void kv_free(struct kv *kv);

#endif
