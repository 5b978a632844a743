#ifndef KBGP_BASE_ERR_H
#define KBGP_BASE_ERR_H

#include <stdarg.h>

/*
 * Why something failed, in words for an operator. Functions that can fail for a reason worth telling return
 * false (or NULL, or a negative number) and fill in one of these; the caller adds "with whom" and "what happens
 * next" and logs it, once.
 */
struct err {
    char text[512];
};

/* Writes a message; a longer one is cut. Returns false, so that a caller can `return err_set(e, …)`. */
__attribute__((format(printf, 2, 3))) _Bool err_set(struct err *e, const char *fmt, ...);

/* Puts a context in front of what stands there: "CONTEXT: text". Returns false. */
__attribute__((format(printf, 2, 3))) _Bool err_prefix(struct err *e, const char *fmt, ...);

#endif
