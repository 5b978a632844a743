#ifndef KBGP_TARGET_CLI_H
#define KBGP_TARGET_CLI_H

#include <stdbool.h>
#include <stdio.h>

/*
 * The commands that look after the inventory:
 *
 *     kbgp-target account|site|device ACTION [NAME] [OPTIONS]
 *
 * argv[1] is the noun. What is asked for goes to stdout, words for people to stderr. Returns the exit code: 0
 * fine, 1 failed (not found, exists already, database), 2 bad usage.
 */
int target_cli(int argc, char **argv);

/*
 * What the build installs beside the program, made from the option tables: see options_doc_write(). False
 * when `what` is nothing that it knows.
 */
bool target_cli_doc(const char *what, FILE *template, FILE *out);

#endif
