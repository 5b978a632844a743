#ifndef KBGP_DAEMON_OPTIONS_DOC_H
#define KBGP_DAEMON_OPTIONS_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "daemon/options.h"

/*
 * Writes from the option tables what the build installs beside a program: manual page, shell completion,
 * sample environment file. They are made from what --help is made from, so they cannot disagree with it.
 *
 * Nothing is opened or closed here. What could not be written shows in ferror() of the stream.
 */

/* A command of a program. */
struct doc_command {
    const char *name; /* its words, one or two: "check", "device add" */
    const char *word; /* what it is about ("NAME"), or NULL */
    const char *help; /* one sentence */
    const struct option *table;
    size_t count;
};

struct doc_program {
    const char *name, *version;
    /* The options of the program without a command; none (count 0) when it does nothing without. */
    const struct option *table;
    size_t count;
    const struct doc_command *commands;
    size_t command_count;
    const char
        *service; /* the command whose variables stand in the sample environment file; NULL: without one */
};

/*
 * One of
 *
 *   man    a manual page: the template (roff) with the parts that it asks for
 *   env    a sample environment file: the template with all variables, commented out
 *   bash   completion for bash
 *   zsh    completion for zsh
 *
 * `template` is read for man and env only. In it the line @OPTIONS@ stands for the options of the program (or
 * of its service), @COMMANDS@ for all commands with their options, @VARIABLES@ for all variables of the
 * service, and
 * @VERSION@, anywhere, for the version. False when `what` is none of these; nothing is written then.
 */
bool options_doc_write(const struct doc_program *p, const char *what, FILE *template, FILE *out);

#endif
