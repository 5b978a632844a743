/* libFuzzer: a command line (its words end in a line feed), read by a table that has every kind of option. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "daemon/options.h"

struct config {
    bool flag, on;
    char *name, *secret;
    int64_t number, any;
    struct option_list list;
};

static bool check_address(const char *value, struct err *e)
{
    struct addr a;
    return addr_parse(&a, value, 179) || err_set(e, "is not an address");
}

#define FIELD(f) .offset = offsetof(struct config, f)
static const struct option table[] = {
    {.name = "flag", .letter = 'f', .kind = OPTION_BOOL, .help = "h", FIELD(flag)},
    {.name = "on", .kind = OPTION_BOOL, .def = "true", .help = "h", FIELD(on)},
    {.name = "name", .letter = 'n', .kind = OPTION_STRING, .def = "nobody", .help = "h", FIELD(name)},
    {.name = "secret", .kind = OPTION_STRING, .secret = true, .help = "h", FIELD(secret)},
    {.name = "number", .kind = OPTION_INT, .def = "10", .min = 1, .max = 1000, .help = "h", FIELD(number)},
    {.name = "any", .letter = 'a', .kind = OPTION_INT, .help = "h", FIELD(any)},
    {.name = "list", .kind = OPTION_LIST, .def = "::1", .check = check_address, .help = "h", FIELD(list)},
};
static const struct options options = {
    .program = "test", .usage = "Usage: test", .table = table, .count = sizeof table / sizeof *table};

enum { WORDS = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1), *argv[WORDS + 2] = {(char[]){"test"}};
    int argc = 1;
    if (!text)
        abort();
    memcpy(text, data, n);
    text[n] = 0;
    for (char *word = text; argc <= WORDS;) {
        char *eol = strchr(word, '\n');
        if (eol)
            *eol = 0;
        argv[argc++] = word;
        if (!eol)
            break;
        word = eol + 1;
    }
    struct config config;
    memset(&config, 0xee, sizeof config);
    const char *words[3];
    size_t n_words = 0;
    struct err e = {{0}};
    enum options_result result = options_parse(&options, argc, argv, &config, words, 3, &n_words, &e);
    if (result == OPTIONS_ERROR && e.text[0] == 0)
        abort();
    if (n_words > 3)
        abort();
    if (result == OPTIONS_OK) {
        if (config.number < 1 || config.number > 1000)
            abort();
        for (size_t i = 0; i < config.list.count; i++) {
            struct addr a;
            if (!addr_parse(&a, config.list.items[i], 179))
                abort();
        }
        /* The secret is gone from the command line, wherever it stood. */
        if (config.secret && strspn(config.secret, "*") != strlen(config.secret))
            for (int i = 1; i < argc; i++)
                if (strncmp(argv[i], "--secret=", 9) == 0 && strcmp(argv[i] + 9, config.secret) == 0)
                    abort();
    }
    options_free(&options, &config);
    if (config.name || config.secret || config.list.items)
        abort();
    free(text);
    return 0;
}
