#ifndef KBGP_BASE_CLOCK_H
#define KBGP_BASE_CLOCK_H

#include <stdint.h>

/* Long enough for "2023-07-25T17:01:25.409183151Z" and its NUL. */
#define TIME_TEXT_MAX 36

/* CLOCK_MONOTONIC in milliseconds / nanoseconds: for how long something took. */
int64_t clock_mono_ms(void);
int64_t clock_mono_ns(void);

/* CLOCK_REALTIME in nanoseconds since 1970: for a point in time that is shown to people. */
int64_t clock_wall_ns(void);

/* RFC 3339 in UTC with nanoseconds; `digits` 0, 3 or 9 of the fraction. */
const char *clock_text(int64_t wall_ns, int digits, char out[static TIME_TEXT_MAX]);

#endif
