#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/env_file.h"

static char seen[4096];

static void note(void *arg, const char *key, const char *value)
{
    (void)arg;
    size_t n = strlen(seen);
    snprintf(seen + n, sizeof seen - n, "%s=<%s>;", key, value);
}

static bool parse(const char *text, struct err *e)
{
    static char copy[4096];
    snprintf(copy, sizeof copy, "%s", text);
    seen[0] = 0;
    return env_file_parse(copy, "f", note, NULL, e);
}

static void reads_what_systemd_reads(void **state)
{
    (void)state;
    struct err e;
    assert_true(
        parse("# comment\n\n; another\nA=1\n  B_2 =  two words  \nC=\"quoted # not a comment\"\nD='x'\r\nE=\n"
              "HTTPS_PROXY= http://u:p@192.0.2.1:3128\nF=a=b",
              &e));
    assert_string_equal(seen, "A=<1>;B_2=<two words>;C=<quoted # not a comment>;D=<x>;E=<>;"
                              "HTTPS_PROXY=<http://u:p@192.0.2.1:3128>;F=<a=b>;");
    assert_true(parse("", &e));
    assert_string_equal(seen, "");
    assert_true(parse("Q=\"one end\nR=\"\nS=\"\"", &e));
    assert_string_equal(seen, "Q=<\"one end>;R=<\">;S=<>;");
}

/* The line's number is told, and nothing of what stands in it. */
static void refuses_what_is_no_variable(void **state)
{
    (void)state;
    struct err e;
    assert_false(parse("A=1\nsecret-token\n", &e));
    assert_string_equal(e.text, "f, line 2: not of the form NAME=VALUE");
    assert_false(parse("\n\n9A=1", &e));
    assert_string_equal(e.text, "f, line 3: what stands before \"=\" is not the name of a variable");
    assert_false(parse("A B=secret-token", &e));
    assert_null(strstr(e.text, "secret"));
    assert_false(parse("=x", &e));
}

static void reads_files(void **state)
{
    (void)state;
    struct err e;
    char path[] = "/tmp/env_file_test.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    seen[0] = 0;
    assert_int_equal(write(fd, "A=1\nB=2", 7), 7);
    assert_true(env_file_read(path, note, NULL, &e));
    assert_string_equal(seen, "A=<1>;B=<2>;");
    assert_int_equal(write(fd, "\0", 1), 1);
    assert_false(env_file_read(path, note, NULL, &e));
    assert_non_null(strstr(e.text, "not a text file"));
    assert_int_equal(ftruncate(fd, ENV_FILE_MAX + 1), 0);
    assert_false(env_file_read(path, note, NULL, &e));
    assert_non_null(strstr(e.text, "longer than 256 KiB"));
    unlink(path);
    close(fd);
    assert_false(env_file_read(path, note, NULL, &e));
    assert_non_null(strstr(e.text, "No such file"));
    assert_false(env_file_read("/tmp", note, NULL, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_systemd_reads),
        cmocka_unit_test(refuses_what_is_no_variable),
        cmocka_unit_test(reads_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
