#include "daemon/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HELP_WIDTH  100
#define HELP_COLUMN 34 /* where the help texts begin */

/* Long enough for any flag's or variable's name with its dashes. */
#define NAME_MAX_LEN 64

static void *field_of(const struct option *opt, void *config)
{
    return (char *)config + opt->offset;
}

/* A flag or variable and its value, in the words of error messages. */
struct given {
    const struct option *opt;
    const char *name; /* "--multi" or "KBGP_MULTI" */
};

/* `NAME: "VALUE" COMPLAINT`; the value of a secret stays out. */
static bool refuse(const struct given *g, const char *value, const char *complaint, struct err *e)
{
    if (g->opt->secret)
        return err_set(e, "%s: the value %s", g->name, complaint);
    return err_set(e, "%s: \"%.100s\" %s", g->name, value, complaint);
}

static bool passes_check(const struct given *g, const char *value, struct err *e)
{
    struct err complaint;
    return !g->opt->check || g->opt->check(value, &complaint) || refuse(g, value, complaint.text, e);
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "t", "1"}, *const no[] = {"false", "f", "0"};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        bool is_yes = strcasecmp(text, yes[i]) == 0;
        if (is_yes || strcasecmp(text, no[i]) == 0) {
            *out = is_yes;
            return true;
        }
    }
    return false;
}

static bool set_int(const struct given *g, const char *value, int64_t *out, struct err *e)
{
    const struct option *opt = g->opt;
    bool any = opt->min == 0 && opt->max == 0;
    char *end;
    errno = 0;
    int64_t n = strtoll(value, &end, 10);
    bool number = (value[0] == '-' || (value[0] >= '0' && value[0] <= '9')) && *end == 0 && errno == 0;
    if (number && (any || (n >= opt->min && n <= opt->max))) {
        *out = n;
        return true;
    }
    struct err complaint;
    if (any)
        err_set(&complaint, "is not a number");
    else
        err_set(&complaint, "is not a number from %lld to %lld", (long long)opt->min, (long long)opt->max);
    return refuse(g, value, complaint.text, e);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/*
 * A copy of the n bytes without white space around them. Memory this early is there, or nothing can be done.
 */
static char *copy_trimmed(const char *s, size_t n)
{
    while (n > 0 && is_space(s[0])) {
        s++;
        n--;
    }
    while (n > 0 && is_space(s[n - 1]))
        n--;
    char *copy = strndup(s, n);
    if (!copy)
        abort();
    return copy;
}

static bool add_items(const struct given *g, const char *value, struct option_list *list, struct err *e)
{
    for (const char *at = value; *at;) {
        size_t n = strcspn(at, ",");
        char *item = copy_trimmed(at, n);
        at += at[n] == ',' ? n + 1 : n;
        if (item[0] == 0) { /* "a,,b" and a comma at the end are harmless */
            free(item);
            continue;
        }
        char **items = realloc(list->items, (list->count + 1) * sizeof *items);
        if (!items)
            abort();
        list->items = items;
        items[list->count++] = item;
        if (!passes_check(g, item, e))
            return false;
    }
    return true;
}

static void wipe_and_free(const struct option *opt, char *text)
{
    if (text && opt->secret)
        explicit_bzero(text, strlen(text));
    free(text);
}

/* Takes a value that is not empty. A list gets longer, anything else is replaced. */
static bool set_value(const struct given *g, const char *value, void *config, struct err *e)
{
    void *field = field_of(g->opt, config);
    switch (g->opt->kind) {
    case OPTION_BOOL:
        return parse_bool(value, field) || refuse(g, value, "is not true or false", e);
    case OPTION_INT:
        return set_int(g, value, field, e) && passes_check(g, value, e);
    case OPTION_STRING: {
        char **string = field;
        wipe_and_free(g->opt, *string);
        *string = strdup(value);
        if (!*string)
            abort();
        return passes_check(g, value, e);
    }
    case OPTION_LIST:
        return add_items(g, value, field, e);
    }
    return false;
}

static void clear_field(const struct option *opt, void *config)
{
    void *field = field_of(opt, config);
    switch (opt->kind) {
    case OPTION_BOOL:
        *(bool *)field = false;
        break;
    case OPTION_INT:
        *(int64_t *)field = 0;
        break;
    case OPTION_STRING:
        *(char **)field = NULL;
        break;
    case OPTION_LIST:
        *(struct option_list *)field = (struct option_list){0};
        break;
    }
}

/* Whether `arg` is the flag of `opt`: "--name", "--name=value", "-n". */
static bool is_flag(const struct option *opt, const char *arg)
{
    if (opt->letter && arg[0] == '-' && arg[1] == opt->letter && arg[2] == 0)
        return true;
    size_t n = strlen(opt->name);
    return arg[0] == '-' && arg[1] == '-' && strncmp(arg + 2, opt->name, n) == 0 &&
           (arg[2 + n] == 0 || arg[2 + n] == '=');
}

static const struct option *find_flag(const struct options *o, const char *arg)
{
    for (const struct option *opt = o->table; opt < o->table + o->count; opt++)
        if (is_flag(opt, arg))
            return opt;
    return NULL;
}

/* The flag without its value, which may be a secret even when the flag is misspelt. */
static bool unknown_flag(const struct options *o, const char *arg, struct err *e)
{
    int n = (int)strcspn(arg, "=");
    char with_dashes[NAME_MAX_LEN];
    snprintf(with_dashes, sizeof with_dashes, "-%.*s", n, arg);
    if (arg[1] != '-' && find_flag(o, with_dashes))
        return err_set(e, "unknown flag %.*s: write %s", n, arg, with_dashes);
    return err_set(e, "unknown flag %.*s (see --help)", n < 100 ? n : 100, arg);
}

static bool unexpected_word(const char *word, const struct option *before, struct err *e)
{
    if (before && before->secret) /* "--token= abc": the word is the secret */
        return err_set(e, "unexpected argument after --%s (not shown here; see --help)", before->name);
    return err_set(e, "unexpected argument \"%.100s\" (see --help)", word);
}

/* What a walk over argv needs to know. */
struct walk {
    const struct options *o;
    int argc, at;
    char **argv;
    void *config;
    bool *seen; /* for each row of the table: a flag gave a value */
    const struct option
        *before; /* the flag in front of the current argument, if it took no word as its value */
};

static bool take_flag(struct walk *w, const struct option *opt, char *arg, struct err *e)
{
    char *value = strchr(arg, '=');
    char name[NAME_MAX_LEN];
    snprintf(name, sizeof name, "%.*s", (int)(value ? value - arg : (ptrdiff_t)strlen(arg)), arg);
    struct given g = {.opt = opt, .name = name};
    w->before = opt;
    if (value) {
        value++;
    } else if (opt->kind == OPTION_BOOL) {
        *(bool *)field_of(opt, w->config) = true;
        w->seen[opt - w->o->table] = true;
        return true;
    } else {
        if (w->at + 1 >= w->argc)
            return err_set(e, "%s: a value must follow", name);
        value = w->argv[w->at + 1];
        const struct option *next = find_flag(w->o, value);
        if (next && value[1] == '-')
            return err_set(e, "%s: a value must follow, not the flag --%s", name, next->name);
        w->at++;
        w->before = NULL;
    }
    bool ok = true;
    if (value[0] != 0) {
        w->seen[opt - w->o->table] = true;
        ok = set_value(&g, value, w->config, e);
    } else if (opt->kind == OPTION_BOOL) {
        ok = refuse(&g, value, "is not true or false", e);
    }
    if (opt->secret)
        memset(value, '*', strlen(value));
    return ok;
}

static bool is_command(const struct options *o, const char *word)
{
    for (const char *const *c = o->commands; *c; c++)
        if (strcmp(*c, word) == 0)
            return true;
    return false;
}

static bool take_word(struct walk *w, const char *word, const char **words, size_t max_words, size_t *n_words,
                      struct err *e)
{
    bool unused;
    if (w->before && w->before->kind == OPTION_BOOL && parse_bool(word, &unused))
        return err_set(e, "unexpected argument \"%s\": write --%s=%s", word, w->before->name, word);
    if (*n_words == max_words || (w->o->commands && !is_command(w->o, word)))
        return unexpected_word(word, w->before, e);
    words[(*n_words)++] = word;
    return true;
}

/* A variable, or else the default, for a row that no flag gave. */
static bool take_variable(const struct option *opt, void *config, struct err *e)
{
    const char *text = opt->env ? getenv(opt->env) : NULL;
    char *value = text ? copy_trimmed(text, strlen(text)) : NULL;
    bool ok = true;
    if (value && value[0] != 0)
        ok = set_value(&(struct given){.opt = opt, .name = opt->env}, value, config, e);
    else if (opt->def)
        ok = set_value(&(struct given){.opt = opt, .name = opt->name}, opt->def, config, e);
    wipe_and_free(opt, value);
    return ok;
}

static enum options_result walk_arguments(struct walk *w, const char **words, size_t max_words,
                                          size_t *n_words, struct err *e)
{
    bool only_words = false;
    for (w->at = 1; w->at < w->argc; w->at++) {
        char *arg = w->argv[w->at];
        bool flag_like = !only_words && arg[0] == '-' && arg[1] != 0;
        const struct option *opt = flag_like ? find_flag(w->o, arg) : NULL;
        if (flag_like && strcmp(arg, "--") == 0) {
            only_words = true;
            w->before = NULL;
        } else if (flag_like && (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)) {
            return OPTIONS_HELP;
        } else if (opt) {
            if (!take_flag(w, opt, arg, e))
                return OPTIONS_ERROR;
        } else if (flag_like) {
            unknown_flag(w->o, arg, e);
            return OPTIONS_ERROR;
        } else {
            if (!take_word(w, arg, words, max_words, n_words, e))
                return OPTIONS_ERROR;
            w->before = NULL;
        }
    }
    return OPTIONS_OK;
}

enum options_result options_parse(const struct options *o, int argc, char **argv, void *config,
                                  const char **words, size_t max_words, size_t *n_words, struct err *e)
{
    size_t no_words = 0;
    if (!n_words)
        n_words = &no_words;
    *n_words = 0;
    for (size_t i = 0; i < o->count; i++)
        clear_field(&o->table[i], config);
    struct walk w = {
        .o = o, .argc = argc, .argv = argv, .config = config, .seen = calloc(o->count + 1, sizeof(bool))};
    if (!w.seen)
        abort();
    enum options_result result = walk_arguments(&w, words, max_words, n_words, e);
    for (size_t i = 0; result == OPTIONS_OK && i < o->count; i++)
        if (!w.seen[i] && !take_variable(&o->table[i], config, e))
            result = OPTIONS_ERROR;
    free(w.seen);
    return result;
}

void options_free(const struct options *o, void *config)
{
    for (const struct option *opt = o->table; opt < o->table + o->count; opt++) {
        void *field = field_of(opt, config);
        if (opt->kind == OPTION_STRING) {
            wipe_and_free(opt, *(char **)field);
        } else if (opt->kind == OPTION_LIST) {
            struct option_list *list = field;
            for (size_t i = 0; i < list->count; i++)
                wipe_and_free(opt, list->items[i]);
            free(list->items);
        } else {
            continue;
        }
        clear_field(opt, config);
    }
}

/* --- --help --- */

/* Writes words, breaking lines before HELP_WIDTH. `*column` is where the next character goes. */
static void put_words(FILE *out, int *column, const char *text)
{
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (*column > HELP_COLUMN && *column + 1 + n > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            *column = HELP_COLUMN;
        }
        *column += fprintf(out, "%s%.*s", *column > HELP_COLUMN ? " " : "", n, text);
        text += n;
        text += strspn(text, " ");
    }
}

static void put_row(FILE *out, char letter, const char *name, const char *value, const char *help,
                    const char *def, const char *env)
{
    int column = letter ? fprintf(out, "  -%c, --%s", letter, name) : fprintf(out, "      --%s", name);
    if (value)
        column += fprintf(out, " %s", value);
    if (column >= HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", HELP_COLUMN - column, "");
    column = HELP_COLUMN;
    put_words(out, &column, help);
    char extra[300];
    if (def) {
        snprintf(extra, sizeof extra, "(default %s)", def);
        put_words(out, &column, extra);
    }
    if (env) {
        snprintf(extra, sizeof extra, "($%s)", env);
        put_words(out, &column, extra);
    }
    fputc('\n', out);
}

void options_help(const struct options *o, FILE *out)
{
    fprintf(out, "%s\n\nOptions:\n", o->usage);
    put_row(out, 'h', "help", NULL, "Print this help and exit", NULL, NULL);
    for (const struct option *opt = o->table; opt < o->table + o->count; opt++)
        put_row(out, opt->letter, opt->name,
                opt->kind == OPTION_BOOL ? NULL
                : opt->value             ? opt->value
                                         : "VALUE",
                opt->help, opt->def, opt->env);
    if (o->footer)
        fprintf(out, "\n%s\n", o->footer);
}
