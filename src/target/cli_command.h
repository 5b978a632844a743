#ifndef KBGP_TARGET_CLI_COMMAND_H
#define KBGP_TARGET_CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/options.h"
#include "target/inventory.h"

/* Inside the command line: one command being run. */

/* What the options of all commands are read into; each command's table uses some of the fields. */
struct cli_args {
    char *db;
    char *account;                /* email */
    char *site;                   /* id or name; "0": none */
    char *asn;                    /* a checked number; "0": not known */
    struct option_list addresses; /* checked */
    int64_t id;                   /* 0: automatic */
    bool json;
    char *md5_file; /* path */
    bool no_md5;    /* the key goes */
};

struct cli {
    struct cli_args args;
    const char *word; /* EMAIL or NAME, checked; NULL where the command takes none */
    struct inventory *inv;
};

/*
 * The commands. Each returns whether it did what was asked, with words in `e` if not. They are run with an
 * open inventory.
 */
typedef bool cli_run(struct cli *c, struct err *e);

cli_run cli_account_add, cli_account_list, cli_account_remove, cli_account_token, cli_account_enable,
    cli_account_disable;
cli_run cli_site_add, cli_site_list, cli_site_remove;
cli_run cli_device_add, cli_device_list, cli_device_remove, cli_device_set, cli_device_enable,
    cli_device_disable;

/* Checks of a word or an option's value, in the form that the option engine wants. */
bool cli_check_address(const char *value, struct err *e);
bool cli_check_asn(const char *value, struct err *e);
bool cli_check_site(const char *value, struct err *e);

#endif
