#ifndef KBGP_BGP_UTF8_H
#define KBGP_BGP_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * The length (1 to 4) of the well-formed UTF-8 sequence (RFC 3629: no overlong forms, no surrogates, nothing
 * above U+10FFFF) at p, or 0 when the n bytes do not start with one.
 */
static inline size_t utf8_len(const uint8_t *p, size_t n)
{
    if (n == 0)
        return 0;
    uint8_t a = p[0];
    if (a < 0x80)
        return 1;
    size_t len = a < 0xc2 ? 0 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : a < 0xf5 ? 4 : 0;
    if (len == 0 || n < len)
        return 0;
    /* The first byte narrows what the second may be: that is where overlong forms and surrogates would hide.
     */
    uint8_t low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    uint8_t high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/* What stands in for a byte that is not UTF-8: U+FFFD REPLACEMENT CHARACTER. */
#define UTF8_REPLACEMENT     "\xef\xbf\xbd"
#define UTF8_REPLACEMENT_LEN 3

#endif
