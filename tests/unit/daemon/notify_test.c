#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/notify.h"

/* The service manager's end. */
static int manager = -1;
static char path[64];

static int listen_on(const char *name)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t n = strlen(name);
    memcpy(un.sun_path, name, n);
    if (name[0] == '@')
        un.sun_path[0] = 0;
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(manager >= 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    assert_int_equal(bind(manager, (struct sockaddr *)&un, len), 0);
    return setenv("NOTIFY_SOCKET", name, 1);
}

static int clean(void **state)
{
    (void)state;
    if (manager >= 0)
        close(manager);
    manager = -1;
    if (path[0] == '/')
        unlink(path);
    path[0] = 0;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return 0;
}

/* The next datagram, or "" when there is none. */
static const char *received(void)
{
    static char text[1000];
    ssize_t n = recv(manager, text, sizeof text - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static void all_states(void)
{
    notify_ready();
    assert_string_equal(received(), "READY=1");
    notify_status("%d sessions,\ncontrol %s", 3, "up");
    assert_string_equal(received(), "STATUS=3 sessions, control up");
    notify_watchdog();
    assert_string_equal(received(), "WATCHDOG=1");
    notify_reloading();
    long long usec = -1, now = (long long)(clock_mono_ns() / 1000);
    assert_int_equal(sscanf(received(), "RELOADING=1\nMONOTONIC_USEC=%lld", &usec), 1);
    assert_in_range(usec, now - 10000000, now);
    notify_stopping();
    assert_string_equal(received(), "STOPPING=1");
    assert_string_equal(received(), "");
}

static void to_a_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/kbgp-notify-%d", (int)getpid());
    listen_on(path);
    all_states();
}

static void to_an_abstract_name(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "@kbgp-notify-%d", (int)getpid());
    listen_on(path);
    all_states();
}

static void long_status_is_cut(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "@kbgp-notify-%d", (int)getpid());
    listen_on(path);
    notify_status("%01000d", 7);
    const char *text = received();
    assert_int_equal(strlen(text), 399);
    assert_int_equal(strncmp(text, "STATUS=000", 10), 0);
}

static void nobody_listens(void **state)
{
    (void)state;
    notify_ready(); /* no variable */
    setenv("NOTIFY_SOCKET", "", 1);
    notify_ready();
    setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
    notify_ready();
    setenv("NOTIFY_SOCKET", "relative", 1);
    notify_ready();
    char longer[300];
    memset(longer, 'x', sizeof longer - 1);
    longer[0] = '/';
    longer[sizeof longer - 1] = 0;
    setenv("NOTIFY_SOCKET", longer, 1);
    notify_ready();
}

static void watchdog_interval(void **state)
{
    (void)state;
    assert_int_equal(notify_watchdog_interval_ms(), 0);
    setenv("WATCHDOG_USEC", "30000000", 1);
    assert_int_equal(notify_watchdog_interval_ms(), 15000);
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_PID", pid, 1);
    assert_int_equal(notify_watchdog_interval_ms(), 15000);
    setenv("WATCHDOG_PID", "1", 1); /* meant for another process */
    assert_int_equal(notify_watchdog_interval_ms(), 0);
    unsetenv("WATCHDOG_PID");
    setenv("WATCHDOG_USEC", "10", 1);
    assert_int_equal(notify_watchdog_interval_ms(), 1);
    setenv("WATCHDOG_USEC", "-5", 1);
    assert_int_equal(notify_watchdog_interval_ms(), 0);
    setenv("WATCHDOG_USEC", "soon", 1);
    assert_int_equal(notify_watchdog_interval_ms(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(to_a_path, clean, clean),
        cmocka_unit_test_setup_teardown(to_an_abstract_name, clean, clean),
        cmocka_unit_test_setup_teardown(long_status_is_cut, clean, clean),
        cmocka_unit_test_setup_teardown(nobody_listens, clean, clean),
        cmocka_unit_test_setup_teardown(watchdog_interval, clean, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
