#ifndef KBGP_TARGET_CLI_H
#define KBGP_TARGET_CLI_H

/*
 * The commands that look after the inventory:
 *
 *     kbgp-target account|site|device ACTION [NAME] [OPTIONS]
 *
 * argv[1] is the noun. What is asked for goes to stdout, words for people to stderr. Returns the exit code: 0
 * fine, 1 failed (not found, exists already, database), 2 bad usage.
 */
int target_cli(int argc, char **argv);

#endif
