#ifndef KBGP_DAEMON_OPTIONS_H
#define KBGP_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/*
 * The engine behind an option table. A table row says everything about an option: name, variable, type,
 * default, range, help text, whether it is a secret. Parsing, checking and --help follow from it.
 *
 *   --name value   --name=value   -n value (where a letter is given)
 *   --bool   --bool=true   --bool=false      (a boolean takes no separate word)
 *
 * A flag beats its variable, which beats the default; of a flag given twice the last counts. An empty value
 * is unset, be it of a variable or of a flag (--region "$REGION"); white space around the value of a variable
 * is dropped
 * ("KBGP_TARGET= host" in an environment file is harmless). A list may be given by comma, by repetition, or
 * both.
 */
enum option_kind {
    OPTION_BOOL,   /* bool */
    OPTION_STRING, /* char *, owned by the config (options_free); NULL when unset without default */
    OPTION_INT,    /* int64_t, within min..max */
    OPTION_LIST,   /* struct option_list */
};

struct option_list {
    char **items;
    size_t count;
};

struct option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum option_kind kind;
    const char *env;   /* variable, or NULL */
    const char *def;   /* default as text, or NULL */
    const char *value; /* what the value is called in --help: "string", "HOST:PORT"; NULL for booleans */
    const char *help;
    bool secret;      /* overwritten in argv after parsing; its value never stands in an error message */
    int64_t min, max; /* OPTION_INT; both 0: any */
    size_t offset;    /* offsetof the field in the config struct */
    /*
     * More checks on a given value (flag or variable; of a list, on each item), or NULL. On failure the error
     * says what is accepted, as what follows the value: "is not an IP address".
     */
    bool (*check)(const char *value, struct err *e);
};

struct options {
    const char *program; /* "kbgp" */
    const char *usage;   /* first lines of --help */
    const char *footer;  /* last lines of --help, or NULL */
    /*
     * The only words that may stand among the arguments (commands), NULL at the end; NULL: any word, as many as
     * the caller takes.
     */
    const char *const *commands;
    const struct option *table;
    size_t count;
};

enum options_result {
    OPTIONS_OK,
    OPTIONS_HELP,  /* -h or --help was given */
    OPTIONS_ERROR, /* bad usage; the error names the flag or variable, the value and what is accepted */
};

/*
 * Fills all fields of the table in `config` (what they held before is not looked at). Words that are no
 * options go to `words` (at most max_words; more are an error; pass 0 to accept none; n_words may be NULL
 * then): argv pointers. After
 * "--" everything is a word. Secrets are overwritten in argv. Whatever the result, options_free() may and
 * must follow.
 */
enum options_result options_parse(const struct options *o, int argc, char **argv, void *config,
                                  const char **words, size_t max_words, size_t *n_words, struct err *e);

/* --help: usage, then the table with types, variables and defaults, wrapped to 100 columns. */
void options_help(const struct options *o, FILE *out);

/* Frees what OPTION_STRING and OPTION_LIST fields own, wiping secrets first, and empties them. */
void options_free(const struct options *o, void *config);

#endif
