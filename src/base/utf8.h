#ifndef KBGP_BASE_UTF8_H
#define KBGP_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What stands in for a byte that is not part of valid UTF-8: U+FFFD REPLACEMENT CHARACTER. */
#define UTF8_BAD      0xfffdu
#define UTF8_BAD_TEXT "\xef\xbf\xbd"

/*
 * Decodes the character at s, of which n > 0 bytes are there. Returns how many bytes it takes (1 to 4) and
 * its code point in *cp; a byte that starts no well-formed sequence (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF) counts as one character, UTF8_BAD.
 */
static inline size_t utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *p = (const unsigned char *)s;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80             ? 1
                 : (p[0] & 0xe0) == 0xc0 ? 2
                 : (p[0] & 0xf0) == 0xe0 ? 3
                 : (p[0] & 0xf8) == 0xf0 ? 4
                                         : 0;
    if (len == 1) {
        *cp = p[0];
        return 1;
    }
    *cp = UTF8_BAD;
    if (len == 0 || len > n)
        return 1;
    uint32_t v = p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 1;
        v = v << 6 | (p[i] & 0x3fu);
    }
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 1;
    *cp = v;
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
