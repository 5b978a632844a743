#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/rights.h"

static bool get(struct __user_cap_data_struct sets[static 2])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, sets) == 0;
}

static bool set(const struct __user_cap_data_struct sets[static 2])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capset, &header, sets) == 0;
}

/* In a child: what is given away does not come back. Returns its exit code. */
static int in_child(int (*what)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(what());
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Permits itself CAP_NET_RAW at most, none of it effective: as after the start of a file with "cap_net_raw=p". */
static int uses_what_is_permitted_and_no_more(void)
{
    struct __user_cap_data_struct sets[2];
    if (!get(sets))
        return 1;
    uint32_t permitted = sets[0].permitted & 1U << CAP_NET_RAW;
    sets[0] = (struct __user_cap_data_struct){.permitted = permitted};
    sets[1] = (struct __user_cap_data_struct){0};
    if (!set(sets) || !get(sets) || sets[0].effective != 0)
        return 2;
    rights_use_permitted();
    if (!get(sets))
        return 3;
    return sets[0].effective == permitted && sets[0].permitted == permitted && sets[0].inheritable == 0 &&
                   sets[1].effective == 0 && sets[1].permitted == 0
               ? 0
               : 4;
}

/* Where the test has no rights (it is not run by root) both are empty sets. */
static void test_permitted_becomes_effective(void **state)
{
    (void)state;
    assert_int_equal(in_child(uses_what_is_permitted_and_no_more), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permitted_becomes_effective),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
