#include "base/uuid.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void random_bytes(void *out, uint32_t n)
{
    uint8_t *p = out;
    while (n > 0) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort(); /* the kernel has no randomness to give: nothing that follows could be trusted */
        p += got;
        n -= (uint32_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t v;
    random_bytes(&v, sizeof v);
    return v;
}

/* The kernel's bytes for sixteen UUIDs at a time: one is needed for each session. Only the thread of the loop asks, and nobody forks. */
static void uuid_bytes(uint8_t out[static 16])
{
    static uint8_t pool[16 * 16];
    static uint32_t left;
    if (left == 0) {
        random_bytes(pool, sizeof pool);
        left = sizeof pool;
    }
    left -= 16;
    memcpy(out, pool + left, 16);
    explicit_bzero(pool + left, 16);
}

struct uuid uuid_v4(void)
{
    uint8_t b[16];
    uuid_bytes(b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    struct uuid u;
    static const char hex[] = "0123456789abcdef";
    char *p = u.text;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[b[i] >> 4];
        *p++ = hex[b[i] & 15];
    }
    *p = 0;
    return u;
}

bool uuid_valid(const char *text)
{
    for (int i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return false;
    }
    return text[36] == 0;
}

bool uuid_same(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->text, b->text, sizeof a->text) == 0;
}
