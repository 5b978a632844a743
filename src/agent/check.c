#include "agent/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/client.h"
#include "base/log.h"
#include "net/loop.h"

void check_line(struct check *c, enum check_verdict verdict, const char *name, const char *fmt, ...)
{
    static const char *const words[] = {[CHECK_OK] = "ok", [CHECK_PROBLEM] = "PROBLEM", [CHECK_NONE] = "-"};
    c->problems += verdict == CHECK_PROBLEM;
    if (c->config->quiet)
        return;
    va_list ap;
    char text[1200];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    /* The other side's words are among it. */
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    printf("%-20s %-8s %s\n", name, words[verdict], text);
    fflush(stdout); /* the next step may take seconds */
}

static void check_configuration(struct check *c)
{
    const struct agent_config *config = c->config;
    if (config->account_problem)
        check_line(
            c, CHECK_PROBLEM, "configuration",
            "%s (where the variables of the service stand in a file: --env-file /etc/default/kbgp.env)",
            config->account_problem);
    else
        check_line(c, CHECK_OK, "configuration", "account %s, token from %s, target %s%s", config->email,
                   config->token_path ? config->token_path : "a flag or variable", config->target,
                   config->insecure ? " in plain text: the token and all routes can be read on the way" : "");
}

int check_run(const struct agent_config *config)
{
    struct check c = {.config = config};
    struct err e;
    /* Whatever is worth knowing stands in the report. */
    log_init(NULL, true, LOG_LEVEL_ERROR);
    c.loop = loop_new(&e);
    if (!c.loop) {
        fprintf(stderr, "kbgp: %s\n", e.text);
        return 1;
    }
    check_configuration(&c);
    check_target(&c);
    check_local(&c);
    loop_free(c.loop);
    if (!config->quiet)
        printf(c.problems == 0   ? "\nAll is well.\n"
               : c.problems == 1 ? "\n1 problem.\n"
                                 : "\n%u problems.\n",
               c.problems);
    return c.problems == 0 ? 0 : 1;
}

int check_ready(const struct agent_config *config)
{
    char word[32];
    struct err e;
    bool answered = client_health(&config->metrics, word, &e);
    bool ok = answered && strcmp(word, "ok") == 0;
    if (config->quiet)
        return ok ? 0 : 1;
    if (answered)
        printf("%s%s\n", ok ? "" : "not ready: ", word);
    else
        printf("not ready: %s\n", e.text);
    return ok ? 0 : 1;
}
