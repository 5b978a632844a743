#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/options.h"

struct config {
    bool flag, on;
    char *name, *secret;
    int64_t number, any;
    struct option_list list;
};

static bool check_name(const char *value, struct err *e)
{
    return strcmp(value, "bad") != 0 || err_set(e, "is not good");
}

#define FIELD(f) .offset = offsetof(struct config, f)

static const struct option table[] = {
    {.name = "flag", .letter = 'f', .kind = OPTION_BOOL, .env = "T_FLAG", .help = "A flag", FIELD(flag)},
    {.name = "on", .kind = OPTION_BOOL, .def = "true", .help = "On by default", FIELD(on)},
    {.name = "name",
     .letter = 'n',
     .kind = OPTION_STRING,
     .env = "T_NAME",
     .def = "nobody",
     .value = "NAME",
     .help = "A name",
     .check = check_name,
     FIELD(name)},
    {.name = "secret",
     .kind = OPTION_STRING,
     .env = "T_SECRET",
     .secret = true,
     .check = check_name,
     .help = "A secret",
     FIELD(secret)},
    {.name = "number",
     .kind = OPTION_INT,
     .env = "T_NUMBER",
     .def = "10",
     .min = 1,
     .max = 1000,
     .value = "N",
     .help = "A number whose help text is so long that it has to be continued on a second line of the page",
     FIELD(number)},
    {.name = "any", .kind = OPTION_INT, .help = "Any number", FIELD(any)},
    {.name = "list",
     .kind = OPTION_LIST,
     .env = "T_LIST",
     .def = "a,b",
     .check = check_name,
     .help = "A list",
     FIELD(list)},
};

static const struct options options = {.program = "test",
                                       .usage = "Usage: test",
                                       .footer = "The end.",
                                       .table = table,
                                       .count = sizeof table / sizeof table[0]};

/* The last parse. */
static struct config config;
static struct err error;
static char memory[16][64];
static char *arguments[17];
static const char *words[2];
static size_t n_words;

static enum options_result parse_with(size_t max_words, int n, const char *const *args)
{
    options_free(&options, &config);
    memset(&config, 0xee, sizeof config); /* what was there is not looked at */
    strcpy(error.text, "");
    arguments[0] = memory[0];
    for (int i = 0; i < n; i++) {
        snprintf(memory[i + 1], sizeof memory[0], "%s", args[i]);
        arguments[i + 1] = memory[i + 1];
    }
    arguments[n + 1] = NULL;
    return options_parse(&options, n + 1, arguments, &config, words, max_words, &n_words, &error);
}

#define ARGS(...)                                                                                            \
    (int)(sizeof((const char *const[]){NULL, ##__VA_ARGS__}) / sizeof(char *)) - 1,                          \
        (const char *const[]){NULL, ##__VA_ARGS__} + 1
#define parse(...) parse_with(0, ARGS(__VA_ARGS__))
#define refused(complaint, ...)                                                                              \
    do {                                                                                                     \
        assert_int_equal(parse(__VA_ARGS__), OPTIONS_ERROR);                                                 \
        assert_string_equal(error.text, complaint);                                                          \
    } while (0)

static int clean(void **state)
{
    (void)state;
    static const char *const variables[] = {"T_FLAG", "T_NAME", "T_SECRET", "T_NUMBER", "T_LIST"};
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    options_free(&options, &config);
    return 0;
}

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(), OPTIONS_OK);
    assert_false(config.flag);
    assert_true(config.on);
    assert_string_equal(config.name, "nobody");
    assert_null(config.secret);
    assert_int_equal(config.number, 10);
    assert_int_equal(config.any, 0);
    assert_int_equal(config.list.count, 2);
    assert_string_equal(config.list.items[1], "b");
}

static void every_way_to_write_a_flag(void **state)
{
    (void)state;
    assert_int_equal(parse("--name", "x", "--number=7", "--flag", "--on=false", "--any", "-5"), OPTIONS_OK);
    assert_string_equal(config.name, "x");
    assert_int_equal(config.number, 7);
    assert_true(config.flag);
    assert_false(config.on);
    assert_int_equal(config.any, -5);

    assert_int_equal(parse("-f", "-n", "y", "--any=-9223372036854775808"), OPTIONS_OK);
    assert_true(config.flag);
    assert_string_equal(config.name, "y");
    assert_true(config.any == INT64_MIN);

    assert_int_equal(parse("--name=a=b", "--flag=TRUE", "--on=0"), OPTIONS_OK);
    assert_string_equal(config.name, "a=b");
    assert_true(config.flag);
    assert_false(config.on);

    assert_int_equal(parse("--name=1", "--name", "2", "--flag", "--flag=false"), OPTIONS_OK);
    assert_string_equal(config.name, "2"); /* the last counts */
    assert_false(config.flag);

    assert_int_equal(parse("--name", "-"), OPTIONS_OK);
    assert_string_equal(config.name, "-");
    assert_int_equal(parse("--name", "--strange"),
                     OPTIONS_OK); /* a value may look like a flag that is none */
    assert_string_equal(config.name, "--strange");
}

static void flag_beats_variable_beats_default(void **state)
{
    (void)state;
    setenv("T_NAME", "  env\t", 1);
    setenv("T_NUMBER", "20", 1);
    setenv("T_FLAG", "true", 1);
    setenv("T_LIST", "x, y", 1);
    assert_int_equal(parse(), OPTIONS_OK);
    assert_string_equal(config.name, "env");
    assert_int_equal(config.number, 20);
    assert_true(config.flag);
    assert_int_equal(config.list.count, 2);
    assert_string_equal(config.list.items[1], "y");

    setenv("T_NUMBER", "not looked at", 1);
    assert_int_equal(parse("--name", "flag", "--number", "30", "--flag=false", "--list", "z"), OPTIONS_OK);
    assert_string_equal(config.name, "flag");
    assert_int_equal(config.number, 30);
    assert_false(config.flag);
    assert_int_equal(config.list.count, 1);
}

static void empty_is_unset(void **state)
{
    (void)state;
    setenv("T_NAME", "", 1);
    setenv("T_NUMBER", "  ", 1);
    setenv("T_FLAG", "", 1);
    setenv("T_LIST", "", 1);
    assert_int_equal(parse(), OPTIONS_OK);
    assert_string_equal(config.name, "nobody");
    assert_int_equal(config.number, 10);
    assert_false(config.flag);
    assert_int_equal(config.list.count, 2);

    setenv("T_NAME", "env", 1);
    assert_int_equal(parse("--name", "", "--number="), OPTIONS_OK);
    assert_string_equal(config.name, "env");
    assert_int_equal(config.number, 10);
}

static void lists_by_comma_and_repetition(void **state)
{
    (void)state;
    assert_int_equal(parse("--list", "a, b ,,", "--list=c"), OPTIONS_OK);
    assert_int_equal(config.list.count, 3);
    assert_string_equal(config.list.items[0], "a");
    assert_string_equal(config.list.items[1], "b");
    assert_string_equal(config.list.items[2], "c");
    refused("--list: \"bad\" is not good", "--list", "a,bad,c");
}

static void errors_name_flag_value_and_what_is_accepted(void **state)
{
    (void)state;
    refused("--number: \"0\" is not a number from 1 to 1000", "--number", "0");
    refused("--number: \"1001\" is not a number from 1 to 1000", "--number=1001");
    refused("--number: \"7x\" is not a number from 1 to 1000", "--number", "7x");
    refused("--number: \" 7\" is not a number from 1 to 1000", "--number", " 7");
    refused("--number: \"99999999999999999999\" is not a number from 1 to 1000", "--number",
            "99999999999999999999");
    refused("--any: \"-\" is not a number", "--any", "-");
    refused("-n: \"bad\" is not good", "-n", "bad");
    refused("--flag: \"maybe\" is not true or false", "--flag=maybe");
    refused("--flag: \"\" is not true or false", "--flag=");
    refused("--name: a value must follow", "--name");
    refused("--name: a value must follow, not the flag --secret", "--name", "--secret=abc");
    refused("unknown flag --foo (see --help)", "--foo");
    refused("unknown flag --nam (see --help)", "--nam", "x");
    refused("unknown flag --names (see --help)", "--names=abc");
    refused("unknown flag -name: write --name", "-name", "x");
    refused("unknown flag -x (see --help)", "-x");
    refused("unexpected argument \"word\" (see --help)", "word");
    refused("unexpected argument \"true\": write --flag=true", "--flag", "true");
    refused("unexpected argument \"other\" (see --help)", "--flag", "other");

    setenv("T_NUMBER", "0", 1);
    refused("T_NUMBER: \"0\" is not a number from 1 to 1000");
    unsetenv("T_NUMBER");
    setenv("T_FLAG", "on", 1);
    refused("T_FLAG: \"on\" is not true or false");
}

static void secrets_stay_secret(void **state)
{
    (void)state;
    assert_int_equal(parse("--secret", "hunter2", "--secret=hunter3"), OPTIONS_OK);
    assert_string_equal(config.secret, "hunter3");
    assert_string_equal(arguments[2], "*******");
    assert_string_equal(arguments[3], "--secret=*******");

    refused("--secret: the value is not good", "--secret", "bad");
    assert_string_equal(arguments[2], "***");
    refused("unknown flag --secert (see --help)", "--secert=hunter2");
    refused("unexpected argument after --secret (not shown here; see --help)", "--secret=", "hunter2");
    setenv("T_SECRET", "bad", 1);
    refused("T_SECRET: the value is not good");
    assert_string_equal(getenv("T_SECRET"), "bad"); /* a program started again needs it */
}

static void words_go_where_they_are_accepted(void **state)
{
    (void)state;
    assert_int_equal(parse_with(2, ARGS("add", "--flag", "--", "--name")), OPTIONS_OK);
    assert_int_equal(n_words, 2);
    assert_string_equal(words[0], "add");
    assert_string_equal(words[1], "--name");
    assert_true(config.flag);
    assert_int_equal(parse_with(2, ARGS("a", "b", "c")), OPTIONS_ERROR);
    assert_string_equal(error.text, "unexpected argument \"c\" (see --help)");
    assert_int_equal(parse_with(2, ARGS("a", "--flag", "false")), OPTIONS_ERROR);
    assert_string_equal(error.text, "unexpected argument \"false\": write --flag=false");
}

static void help_is_asked_for(void **state)
{
    (void)state;
    assert_int_equal(parse("--name", "x", "--help", "--foo"), OPTIONS_HELP);
    assert_int_equal(parse("-h"), OPTIONS_HELP);
    assert_int_equal(parse("--name", "-h"), OPTIONS_OK); /* a value */
}

static void help_lists_everything(void **state)
{
    (void)state;
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    options_help(&options, out);
    fclose(out);
    assert_string_equal(
        text, "Usage: test\n"
              "\n"
              "Options:\n"
              "  -h, --help                      Print this help and exit\n"
              "  -f, --flag                      A flag ($T_FLAG)\n"
              "      --on                        On by default (default true)\n"
              "  -n, --name NAME                 A name (default nobody) ($T_NAME)\n"
              "      --secret VALUE              A secret ($T_SECRET)\n"
              "      --number N                  A number whose help text is so long that it has to be "
              "continued on\n"
              "                                  a second line of the page (default 10) ($T_NUMBER)\n"
              "      --any VALUE                 Any number\n"
              "      --list VALUE                A list (default a,b) ($T_LIST)\n"
              "\n"
              "The end.\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(defaults, clean),
        cmocka_unit_test_teardown(every_way_to_write_a_flag, clean),
        cmocka_unit_test_teardown(flag_beats_variable_beats_default, clean),
        cmocka_unit_test_teardown(empty_is_unset, clean),
        cmocka_unit_test_teardown(lists_by_comma_and_repetition, clean),
        cmocka_unit_test_teardown(errors_name_flag_value_and_what_is_accepted, clean),
        cmocka_unit_test_teardown(secrets_stay_secret, clean),
        cmocka_unit_test_teardown(words_go_where_they_are_accepted, clean),
        cmocka_unit_test_teardown(help_is_asked_for, clean),
        cmocka_unit_test(help_lists_everything),
    };
    return cmocka_run_group_tests(tests, clean, NULL);
}
