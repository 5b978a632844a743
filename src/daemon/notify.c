#include "daemon/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

static void send_state(const char *state, int flags)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof un.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(un.sun_path, path, n);
    if (path[0] == '@') /* an abstract name: no file, no NUL at its end */
        un.sun_path[0] = 0;
    /* A socket each time: this happens every few seconds, and a descriptor kept would have to survive
     * handovers. */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), flags | MSG_NOSIGNAL, (const struct sockaddr *)&un,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}

void notify_ready(void)
{
    send_state("READY=1", 0);
}

void notify_status(const char *fmt, ...)
{
    char text[400] = "STATUS=";
    size_t start = strlen(text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + start, sizeof text - start, fmt, ap);
    va_end(ap);
    /* A newline would begin another assignment. */
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    send_state(text, MSG_DONTWAIT);
}

void notify_reloading(void)
{
    char text[64];
    /* The service manager tells this reload from an earlier one by the time. */
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(clock_mono_ns() / 1000));
    send_state(text, 0);
}

void notify_stopping(void)
{
    send_state("STOPPING=1", MSG_DONTWAIT);
}

void notify_watchdog(void)
{
    send_state("WATCHDOG=1", MSG_DONTWAIT);
}

/* The number in a variable, or 0. */
static long long number_of(const char *variable)
{
    const char *text = getenv(variable);
    char *end;
    long long n = text ? strtoll(text, &end, 10) : 0;
    return text && *text && *end == 0 ? n : 0;
}

int64_t notify_watchdog_interval_ms(void)
{
    const char *pid = getenv("WATCHDOG_PID");
    long long usec = number_of("WATCHDOG_USEC");
    if (usec <= 0 || (pid && number_of("WATCHDOG_PID") != getpid()))
        return 0;
    int64_t ms = usec / 2 / 1000;
    return ms > 0 ? ms : 1;
}
