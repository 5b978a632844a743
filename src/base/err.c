#include "base/err.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

bool err_set(struct err *e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    return false;
}

bool err_prefix(struct err *e, const char *fmt, ...)
{
    struct err old = *e;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->text);
    if (n + 2 < sizeof e->text) {
        memcpy(e->text + n, ": ", 2);
        n += 2;
        size_t part = strnlen(old.text, sizeof e->text - n - 1);
        memcpy(e->text + n, old.text, part);
        e->text[n + part] = 0;
    }
    return false;
}
