#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "daemon/options_doc.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct option serve[] = {
    {.name = "ca-file", .kind = OPTION_STRING, .env = "T_CA", .value = "FILE", .help = "It's a \\ [file]"},
    {.name = "level",
     .kind = OPTION_STRING,
     .env = "T_LEVEL",
     .def = "info",
     .value = "LEVEL",
     .help = "Level."},
    {.name = "target",
     .kind = OPTION_STRING,
     .env = "T_TARGET",
     .value = "HOST[:PORT]",
     .help = ".a dot in front"},
    {.name = "list", .kind = OPTION_LIST, .env = "T_LIST", .def = "a,b", .value = "ITEM", .help = "A list"},
    {.name = "fast", .letter = 'f', .kind = OPTION_BOOL, .env = "T_FAST", .help = "Fast"},
    {.name = "number",
     .kind = OPTION_INT,
     .env = "T_NUMBER",
     .help = "A number without a default, whose text is so long "
             "that it takes two lines in the sample file, which breaks lines"},
    {.name = "no-variable", .kind = OPTION_BOOL, .help = "Only a flag"},
};
static const struct option add[] = {
    {.name = "address", .kind = OPTION_LIST, .value = "IP", .help = "An address"},
    {.name = "level", .kind = OPTION_STRING, .value = "LEVEL", .help = "Level."},
};
static const struct option list[] = {{.name = "json", .kind = OPTION_BOOL, .help = "JSON"}};

static const struct doc_command commands[] = {
    {"serve", NULL, "Serve.", serve, COUNT(serve)},
    {"device add", "NAME", "Add one.", add, COUNT(add)},
    {"device list", NULL, "List them.", list, COUNT(list)},
};

static const struct doc_program two_words = {.name = "test-program",
                                             .version = "1.2.3",
                                             .commands = commands,
                                             .command_count = COUNT(commands),
                                             .service = "serve"};

static const struct doc_command checks[] = {{"check", NULL, "Check.", serve, COUNT(serve)}};
static const struct doc_program one_word = {.name = "test",
                                            .version = "1.2.3",
                                            .table = serve,
                                            .count = COUNT(serve),
                                            .commands = checks,
                                            .command_count = 1};

/* The caller frees it. */
static char *written(const struct doc_program *p, const char *what, const char *template)
{
    char *text = NULL;
    size_t size;
    FILE *in = fmemopen((char *)template, strlen(template), "r");
    FILE *out = open_memstream(&text, &size);
    assert_non_null(in);
    assert_non_null(out);
    assert_true(options_doc_write(p, what, in, out));
    fclose(in);
    fclose(out);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" is in:\n%s", part, text);
}

static void manual_page_has_every_option(void **state)
{
    (void)state;
    char *text = written(&two_words, "man", "before @VERSION@.\n@OPTIONS@\nbetween\n@COMMANDS@\nafter");
    assert_has(text, "before 1.2.3.\n");
    assert_has(text,
               ".TP\n\\fB\\-\\-ca\\-file\\fR \\fIFILE\\fR\nIt's a \\e [file].\nVariable: \\fBT_CA\\fR.\n");
    assert_has(text, "\nLevel.\nDefault: info.\nVariable: \\fBT_LEVEL\\fR.\n"); /* one dot at the end */
    assert_has(text, "\n\\&.a dot in front.\n");
    assert_has(text, "\\fB\\-f\\fR, \\fB\\-\\-fast\\fR\nFast.\n");
    assert_has(text, "\\fB\\-\\-number\\fR \\fIVALUE\\fR\n");
    assert_has(text, "\nbetween\n");
    assert_has(
        text, ".TP\n\\fBdevice add\\fR \\fINAME\\fR\nAdd one.\n.RS\n.TP\n\\fB\\-\\-address\\fR \\fIIP\\fR\n");
    /* The options of the service stand in their own part, once. */
    assert_has(text, ".TP\n\\fBserve\\fR\nServe.\n.TP\n\\fBdevice add");
    assert_has(text, "\nafter\n");
    assert_lacks(text, "@");
    free(text);
}

static void commands_with_the_programs_options_do_not_repeat_them(void **state)
{
    (void)state;
    char *text = written(&one_word, "man", "@COMMANDS@");
    assert_string_equal(text, ".TP\n\\fBcheck\\fR\nCheck.\n");
    free(text);
}

static void sample_has_every_variable_and_nothing_active(void **state)
{
    (void)state;
    const struct doc_program *programs[] = {&two_words, &one_word};
    for (size_t i = 0; i < 2; i++) {
        char *text = written(programs[i], "env", "# head\n@VARIABLES@\n");
        assert_string_equal(
            text, "# head\n"
                  "# It's a \\ [file]\n#T_CA=\n\n"
                  "# Level.\n#T_LEVEL=info\n\n"
                  "# .a dot in front\n#T_TARGET=\n\n"
                  "# A list\n#T_LIST=a,b\n\n"
                  "# Fast\n#T_FAST=false\n\n"
                  "# A number without a default, whose text is so long that it takes two lines in the "
                  "sample file,\n# which breaks lines\n#T_NUMBER=\n");
        free(text);
    }
}

static void bash_knows_commands_options_and_values(void **state)
{
    (void)state;
    char *text = written(&two_words, "bash", " ");
    assert_has(text, "    '') words='serve device --help --version' ;;\n");
    assert_has(text,
               "    'serve' | 'serve '*) words='--help --ca-file --level --target --list --fast --number "
               "--no-variable' ;;\n");
    assert_has(text, "    'device') words='add list --help' ;;\n");
    assert_has(text, "    'device add') words='--help --address --level' ;;\n");
    assert_has(text, "    'device list') words='--help --json' ;;\n");
    assert_has(text, "    --ca-file)\n        compopt -o filenames");
    assert_has(text, "    --level)\n"); /* once, though two tables have it */
    assert_has(text, "    --target | --list | --number | --address)\n        return\n");
    assert_has(text, "\ncomplete -F _test_program test-program\n");
    free(text);
    text = written(&one_word, "bash", " ");
    assert_has(text, "    '') words='check --help --ca-file");
    free(text);
}

static void zsh_text_is_quoted(void **state)
{
    (void)state;
    char *text = written(&two_words, "zsh", " ");
    assert_has(text, "#compdef test-program\n");
    assert_has(text, "'--ca-file=[It'\\''s a \\\\ \\[file\\]]:FILE:_files'");
    assert_has(text, "'--target=[.a dot in front]:HOST[\\:PORT]:'");
    assert_has(text, "'*--list=[A list]:ITEM:'");
    assert_has(text, "'--fast[Fast]'");
    assert_has(text, "'--level=[Level.]:LEVEL:(debug info warn error)'");
    assert_has(text, "'device ')\n    list=(\n        'add:Add one.'\n        'list:List them.'\n    )\n");
    assert_has(text, "'1:NAME:'");
    free(text);
}

/* The completion offers what the programs accept. */
static void levels_are_levels(void **state)
{
    (void)state;
    char *text = written(&one_word, "bash", " ");
    const char *at = strstr(text, "compgen -W '");
    assert_non_null(at);
    char levels[100];
    assert_int_equal(sscanf(at + strlen("compgen -W '"), "%99[a-z ]'", levels), 1);
    int n = 0;
    for (char *word = strtok(levels, " "); word; word = strtok(NULL, " "), n++) {
        enum log_level level;
        assert_true(log_level_parse(word, &level));
    }
    assert_int_equal(n, 4);
    free(text);
}

static void unknown_kind_writes_nothing(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_false(options_doc_write(&one_word, "html", NULL, out));
    fclose(out);
    assert_int_equal(size, 0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(manual_page_has_every_option),
        cmocka_unit_test(commands_with_the_programs_options_do_not_repeat_them),
        cmocka_unit_test(sample_has_every_variable_and_nothing_active),
        cmocka_unit_test(bash_knows_commands_options_and_values),
        cmocka_unit_test(zsh_text_is_quoted),
        cmocka_unit_test(levels_are_levels),
        cmocka_unit_test(unknown_kind_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
