#include "base/clock.h"

#include <stdio.h>
#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_mono_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_mono_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    return read_ns(CLOCK_REALTIME);
}

const char *clock_text(int64_t wall_ns, int digits, char out[static TIME_TEXT_MAX])
{
    time_t sec = wall_ns / 1000000000;
    int64_t frac = wall_ns % 1000000000;
    struct tm tm;
    gmtime_r(&sec, &tm);
    size_t n = strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    if (digits == 3)
        snprintf(out + n, TIME_TEXT_MAX - n, ".%03dZ", (int)(frac / 1000000));
    else if (digits == 9)
        snprintf(out + n, TIME_TEXT_MAX - n, ".%09dZ", (int)frac);
    else
        snprintf(out + n, TIME_TEXT_MAX - n, "Z");
    return out;
}
