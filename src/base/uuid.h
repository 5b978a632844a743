#ifndef KBGP_BASE_UUID_H
#define KBGP_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

/* A UUID as its 36 characters of text and a NUL: that is the only form anybody needs here. */
struct uuid {
    char text[37];
};

/* A random UUID, version 4 (RFC 9562 section 5.4). */
struct uuid uuid_v4(void);

/* Whether the text has the form of a UUID: 8-4-4-4-12 hexadecimal digits. */
bool uuid_valid(const char *text);

bool uuid_same(const struct uuid *a, const struct uuid *b);

/* Random bytes from the kernel. */
void random_bytes(void *out, uint32_t n);
uint64_t random_u64(void);

#endif
