#include "daemon/options_doc.h"

#include <stdlib.h>
#include <string.h>

#define ENV_WIDTH 100

/* The options of the program itself, or of the command that is its service. */
static const struct option *own_table(const struct doc_program *p, size_t *count)
{
    for (size_t i = 0; p->service && i < p->command_count; i++) {
        if (strcmp(p->commands[i].name, p->service) == 0) {
            *count = p->commands[i].count;
            return p->commands[i].table;
        }
    }
    *count = p->count;
    return p->table;
}

/* NULL for a boolean. */
static const char *value_word(const struct option *opt)
{
    if (opt->kind == OPTION_BOOL)
        return NULL;
    return opt->value ? opt->value : "VALUE";
}

static bool takes_file(const struct option *opt)
{
    return opt->value && strcmp(opt->value, "FILE") == 0;
}

static bool takes_level(const struct option *opt)
{
    return opt->value && strcmp(opt->value, "LEVEL") == 0;
}

/* --- roff --- */

/* Text as it is: no character of it means anything to roff, also at the start of a line. */
static void roff(FILE *out, const char *text)
{
    if (text[0] == '.' || text[0] == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
    }
}

static void roff_option(FILE *out, const struct option *opt)
{
    fputs(".TP\n", out);
    if (opt->letter)
        fprintf(out, "\\fB\\-%c\\fR, ", opt->letter);
    fputs("\\fB\\-\\-", out);
    roff(out, opt->name);
    fputs("\\fR", out);
    if (value_word(opt)) {
        fputs(" \\fI", out);
        roff(out, value_word(opt));
        fputs("\\fR", out);
    }
    fputc('\n', out);
    size_t n = strlen(opt->help);
    roff(out, opt->help);
    fputs(n > 0 && opt->help[n - 1] == '.' ? "\n" : ".\n", out);
    if (opt->def) {
        fputs("Default: ", out);
        roff(out, opt->def);
        fputs(".\n", out);
    }
    if (opt->env)
        fprintf(out, "Variable: \\fB%s\\fR.\n", opt->env);
}

static void roff_options(FILE *out, const struct option *table, size_t count)
{
    for (size_t i = 0; i < count; i++)
        roff_option(out, &table[i]);
}

/* Commands that share the program's own options are a list; others each have a part with theirs. */
static void roff_commands(FILE *out, const struct doc_program *p)
{
    size_t own_count;
    const struct option *own = own_table(p, &own_count);
    for (const struct doc_command *c = p->commands; c < p->commands + p->command_count; c++) {
        fputs(".TP\n\\fB", out);
        roff(out, c->name);
        fputs("\\fR", out);
        if (c->word) {
            fputs(" \\fI", out);
            roff(out, c->word);
            fputs("\\fR", out);
        }
        fputc('\n', out);
        roff(out, c->help);
        fputc('\n', out);
        if (c->table != own && c->count > 0) {
            fputs(".RS\n", out);
            roff_options(out, c->table, c->count);
            fputs(".RE\n", out);
        }
    }
}

/* --- the sample environment file --- */

/* Words in lines that begin with "# ". */
static void comment(FILE *out, const char *text)
{
    int column = 0;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column > 0 && column + 1 + n > ENV_WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        column += fprintf(out, "%s%.*s", column > 0 ? " " : "# ", n, text);
        text += n;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static void env_variables(FILE *out, const struct option *table, size_t count)
{
    bool first = true;
    for (const struct option *opt = table; opt < table + count; opt++) {
        if (!opt->env)
            continue;
        if (!first)
            fputc('\n', out);
        first = false;
        comment(out, opt->help);
        fprintf(out, "#%s=%s\n", opt->env, opt->def ? opt->def : opt->kind == OPTION_BOOL ? "false" : "");
    }
}

/* --- the template --- */

static void write_part(const struct doc_program *p, const char *name, FILE *out)
{
    size_t count;
    const struct option *table = own_table(p, &count);
    if (strcmp(name, "@OPTIONS@") == 0)
        roff_options(out, table, count);
    else if (strcmp(name, "@COMMANDS@") == 0)
        roff_commands(out, p);
    else
        env_variables(out, table, count);
}

static bool is_part(const char *line)
{
    return strcmp(line, "@OPTIONS@") == 0 || strcmp(line, "@COMMANDS@") == 0 ||
           strcmp(line, "@VARIABLES@") == 0;
}

static void write_line(const struct doc_program *p, const char *line, FILE *out)
{
    static const char mark[] = "@VERSION@";
    const char *at;
    while ((at = strstr(line, mark)) != NULL) {
        fprintf(out, "%.*s%s", (int)(at - line), line, p->version);
        line = at + sizeof mark - 1;
    }
    fprintf(out, "%s\n", line);
}

static void fill(const struct doc_program *p, FILE *template, FILE *out)
{
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, template) >= 0) {
        line[strcspn(line, "\n")] = 0;
        if (is_part(line))
            write_part(p, line, out);
        else
            write_line(p, line, out);
    }
    free(line);
}

/* --- completion --- */

/* The first word of a command's name: "device" of "device add". */
static int first_word(const struct doc_command *c)
{
    return (int)strcspn(c->name, " ");
}

static bool same_first_word(const struct doc_command *a, const struct doc_command *b)
{
    return first_word(a) == first_word(b) && strncmp(a->name, b->name, (size_t)first_word(a)) == 0;
}

static bool is_first_of_its_word(const struct doc_program *p, const struct doc_command *c)
{
    return c == p->commands || !same_first_word(c - 1, c);
}

static bool has_second_word(const struct doc_command *c)
{
    return c->name[first_word(c)] != 0;
}

/* The words that may follow the program's name, by spaces. */
static void first_words(FILE *out, const struct doc_program *p)
{
    const char *space = "";
    for (const struct doc_command *c = p->commands; c < p->commands + p->command_count; c++) {
        if (is_first_of_its_word(p, c)) {
            fprintf(out, "%s%.*s", space, first_word(c), c->name);
            space = " ";
        }
    }
}

/* The words that may follow the first word of `c`. */
static void second_words(FILE *out, const struct doc_program *p, const struct doc_command *c)
{
    const char *space = "";
    for (; c < p->commands + p->command_count; c++) {
        fprintf(out, "%s%s", space, c->name + first_word(c) + 1);
        space = " ";
        if (c + 1 == p->commands + p->command_count || !same_first_word(c, c + 1))
            return;
    }
}

/* --- bash --- */

static void bash_options(FILE *out, const struct option *table, size_t count)
{
    fputs("--help", out);
    for (const struct option *opt = table; opt < table + count; opt++)
        fprintf(out, " --%s", opt->name);
}

/* A case of options that take such a value, once each, whichever commands they are of. */
static void bash_value_case(FILE *out, const struct doc_program *p, bool (*takes)(const struct option *opt),
                            const char *action)
{
    const char *bar = "    ";
    for (size_t t = 0; t <= p->command_count; t++) {
        const struct option *table = t == 0 ? p->table : p->commands[t - 1].table;
        size_t count = t == 0 ? p->count : p->commands[t - 1].count;
        for (size_t i = 0; i < count; i++) {
            if (!takes(&table[i]))
                continue;
            bool before = false; /* bash takes a second one for a slip, and so does shellcheck */
            for (size_t u = 0; u < t && !before; u++) {
                const struct option *other = u == 0 ? p->table : p->commands[u - 1].table;
                size_t n = u == 0 ? p->count : p->commands[u - 1].count;
                for (size_t k = 0; k < n && !before; k++)
                    before = takes(&other[k]) && strcmp(other[k].name, table[i].name) == 0;
            }
            if (before)
                continue;
            fprintf(out, "%s--%s", bar, table[i].name);
            bar = " | ";
        }
    }
    if (strcmp(bar, " | ") == 0)
        fprintf(out, ")\n%s        return\n        ;;\n", action);
}

static bool takes_anything_else(const struct option *opt)
{
    return opt->kind != OPTION_BOOL && !takes_file(opt) && !takes_level(opt);
}

/* A shell function's name for the program. */
static void function_name(FILE *out, const char *program)
{
    fputc('_', out);
    for (; *program; program++)
        fputc(*program == '-' ? '_' : *program, out);
}

static void write_bash(const struct doc_program *p, FILE *out)
{
    fprintf(out, "# bash completion for %s, made from its option tables. -*- shell-script -*-\n", p->name);
    function_name(out, p->name);
    fputs("() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' words i\n"
          "    # --name=value comes as three words\n"
          "    if [ \"$cur\" = '=' ]; then\n"
          "        cur=''\n"
          "    elif [ \"$prev\" = '=' ]; then\n"
          "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
          "    fi\n"
          "    COMPREPLY=()\n"
          "    case $prev in\n",
          out);
    bash_value_case(out, p, takes_file,
                    "        compopt -o filenames 2>/dev/null\n"
                    "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n");
    bash_value_case(out, p, takes_level,
                    "        mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- \"$cur\")\n");
    bash_value_case(out, p, takes_anything_else, "");
    fputs("    esac\n"
          "    for ((i = 1; i < COMP_CWORD && i < 3; i++)); do\n"
          "        case ${COMP_WORDS[i]} in\n"
          "        -*) break ;;\n"
          "        *) command+=${command:+ }${COMP_WORDS[i]} ;;\n"
          "        esac\n"
          "    done\n"
          "    case $command in\n"
          "    '') words='",
          out);
    first_words(out, p);
    fputc(' ', out);
    if (p->count > 0)
        bash_options(out, p->table, p->count);
    else
        fputs("--help --version", out);
    fputs("' ;;\n", out);
    for (const struct doc_command *c = p->commands; c < p->commands + p->command_count; c++) {
        if (has_second_word(c) && is_first_of_its_word(p, c)) {
            fprintf(out, "    '%.*s') words='", first_word(c), c->name);
            second_words(out, p, c);
            fputs(" --help' ;;\n", out);
        }
        fprintf(out, has_second_word(c) ? "    '%s') words='" : "    '%s' | '%s '*) words='", c->name,
                c->name);
        bash_options(out, c->table, c->count);
        fputs("' ;;\n", out);
    }
    fputs("    *) return ;;\n"
          "    esac\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "}\n"
          "complete -F ",
          out);
    function_name(out, p->name);
    fprintf(out, " %s\n", p->name);
}

/* --- zsh --- */

/* Inside '…': the quote itself, and what _arguments gives a meaning to. */
static void zsh_text(FILE *out, const char *text, const char *special)
{
    for (; *text; text++) {
        if (*text == '\'') {
            fputs("'\\''", out);
            continue;
        }
        if (strchr(special, *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void zsh_option(FILE *out, const struct option *opt)
{
    fprintf(out, " \\\n        '%s--%s%s[", opt->kind == OPTION_LIST ? "*" : "", opt->name,
            value_word(opt) ? "=" : "");
    zsh_text(out, opt->help, "[]\\");
    fputc(']', out);
    if (value_word(opt)) {
        fputc(':', out);
        zsh_text(out, value_word(opt), ":\\");
        fputs(takes_file(opt) ? ":_files" : takes_level(opt) ? ":(debug info warn error)" : ":", out);
    }
    fputc('\'', out);
}

static void zsh_options(FILE *out, const struct option *table, size_t count)
{
    fputs("    _arguments '(- *)'{-h,--help}'[Print this help and exit]'", out);
    for (size_t i = 0; i < count; i++)
        zsh_option(out, &table[i]);
}

/* The entry of a command in a _describe list. */
static void zsh_described(FILE *out, const char *word, int n, const char *help)
{
    fprintf(out, "        '%.*s:", n, word);
    zsh_text(out, help, "\\");
    fputs("'\n", out);
}

static void zsh_command(FILE *out, const struct doc_program *p, const struct doc_command *c)
{
    bool two = has_second_word(c);
    if (two && is_first_of_its_word(p, c)) {
        fprintf(out, "'%.*s ')\n    list=(\n", first_word(c), c->name);
        const struct doc_command *other = c;
        do {
            const char *verb = other->name + first_word(other) + 1;
            zsh_described(out, verb, (int)strlen(verb), other->help);
            other++;
        } while (other < p->commands + p->command_count && same_first_word(other, c));
        fputs("    )\n    _describe action list\n    ;;\n", out);
    }
    fprintf(out, two ? "'%s')\n" : "'%s '*)\n", c->name);
    /* _arguments sees the last word of the command as the program. */
    fprintf(out, "    shift %d words\n    ((CURRENT -= %d))\n", two ? 2 : 1, two ? 2 : 1);
    zsh_options(out, c->table, c->count);
    if (c->word) {
        fputs(" \\\n        '1:", out);
        zsh_text(out, c->word, ":\\");
        fputs(":'", out);
    }
    fputs("\n    ;;\n", out);
}

static void write_zsh(const struct doc_program *p, FILE *out)
{
    fprintf(out,
            "#compdef %s\n"
            "# Completion for zsh, made from the option tables of %s.\n"
            "local -a list\n"
            "local command=''\n"
            "# the words of a command that are complete\n"
            "((CURRENT > 2)) && [[ $words[2] != -* ]] && command=\"$words[2] \"\n"
            "[[ -n $command ]] && ((CURRENT > 3)) && [[ $words[3] != -* ]] && command+=$words[3]\n"
            "case $command in\n",
            p->name, p->name);
    for (const struct doc_command *c = p->commands; c < p->commands + p->command_count; c++)
        zsh_command(out, p, c);
    fputs("*)\n    list=(\n", out);
    for (const struct doc_command *c = p->commands; c < p->commands + p->command_count; c++)
        if (is_first_of_its_word(p, c))
            zsh_described(out, c->name, first_word(c), has_second_word(c) ? "see --help" : c->help);
    fputs("    )\n    [[ $words[CURRENT] != -* ]] && ((CURRENT == 2)) && _describe command list\n", out);
    zsh_options(out, p->table, p->count);
    fputs(p->count > 0 ? "\n" : " '(- *)--version[Print the version and exit]'\n", out);
    fputs("    ;;\nesac\n", out);
}

bool options_doc_write(const struct doc_program *p, const char *what, FILE *template, FILE *out)
{
    if (strcmp(what, "man") == 0 || strcmp(what, "env") == 0)
        fill(p, template, out);
    else if (strcmp(what, "bash") == 0)
        write_bash(p, out);
    else if (strcmp(what, "zsh") == 0)
        write_zsh(p, out);
    else
        return false;
    return true;
}
