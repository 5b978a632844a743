#ifndef KBGP_BASE_UTF8_H
#define KBGP_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands in for a byte that is not part of valid UTF-8: U+FFFD REPLACEMENT CHARACTER. */
#define UTF8_BAD          0xfffdu
#define UTF8_BAD_TEXT     "\xef\xbf\xbd"
#define UTF8_BAD_TEXT_LEN 3

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
    /* The first byte narrows what the second may be: that is where overlong forms and surrogates would hide. */
    uint8_t low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    uint8_t high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

/*
 * Decodes the character at s, of which n > 0 bytes are there. Returns how many bytes it takes (1 to 4) and its code point
 * in *cp; a byte that starts no well-formed sequence counts as one character, UTF8_BAD.
 */
static inline size_t utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t len = utf8_len(p, n);
    if (len == 0) {
        *cp = UTF8_BAD;
        return 1;
    }
    *cp = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++)
        *cp = *cp << 6 | (p[i] & 0x3fu);
    return len;
}

/*
 * Whether a character must not reach a terminal or a log line as it is: control characters (C0, DEL, C1),
 * line and paragraph separators, and the marks that reverse the direction of text and so can make a line read
 * as another.
 */
static inline bool utf8_unsafe(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp <= 0x9f) || (cp >= 0x2028 && cp <= 0x202e) ||
           (cp >= 0x2066 && cp <= 0x2069);
}

#endif
