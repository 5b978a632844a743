#include "target/cli.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "daemon/options_doc.h"
#include "target/cli_command.h"
#include "target/options.h"
#include "target/ready.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- options --- */

#define FIELD(f) .offset = offsetof(struct cli_args, f)

#define ROW_DB                                                                                               \
    {                                                                                                        \
        .name = "db", .kind = OPTION_STRING, .env = "KBGP_TARGET_DB", .def = "/var/lib/kbgp-target/kbgp.db", \
        .value = "FILE", .help = "The inventory.", FIELD(db)                                                 \
    }
#define ROW_JSON                                                                                             \
    {                                                                                                        \
        .name = "json", .kind = OPTION_BOOL, .help = "Print a JSON array.", FIELD(json)                      \
    }
#define ROW_ACCOUNT                                                                                          \
    {                                                                                                        \
        .name = "account", .kind = OPTION_STRING, .value = "EMAIL",                                          \
        .help = "Whose it is. Needed only where there are several accounts.",                                \
        .check = inventory_check_email, FIELD(account)                                                       \
    }
#define ROW_ADDRESS                                                                                          \
    {                                                                                                        \
        .name = "address", .kind = OPTION_LIST, .value = "IP",                                               \
        .help =                                                                                              \
            "An address that the device connects from, as the agent sees it. May be given several times.",   \
        .check = cli_check_address, FIELD(addresses)                                                         \
    }
#define ROW_SITE                                                                                             \
    {                                                                                                        \
        .name = "site", .kind = OPTION_STRING, .value = "ID",                                                \
        .help = "The site, by id or name: only agents with this site id, or without one, serve the device. " \
                "0: none.",                                                                                  \
        .check = cli_check_site, FIELD(site)                                                                 \
    }
#define ROW_ASN                                                                                              \
    {                                                                                                        \
        .name = "asn", .kind = OPTION_STRING, .value = "N", .help = "The device's AS number. 0: not known.", \
        .check = cli_check_asn, FIELD(asn)                                                                   \
    }

#define ROW_MD5                                                                                              \
    {                                                                                                        \
        .name = "md5-password-file", .kind = OPTION_STRING, .value = "FILE",                                 \
        .help = "The TCP-MD5 password of the router's BGP session, alone in a file: 1 to 80 printable "      \
                "ASCII characters, without space and \"?\".",                                                \
        FIELD(md5_file)                                                                                      \
    }
#define ROW_NO_MD5                                                                                           \
    {                                                                                                        \
        .name = "no-md5-password", .kind = OPTION_BOOL,                                                      \
        .help = "The device has no TCP-MD5 password any more.", FIELD(no_md5)                                \
    }

static const struct option only_db[] = {ROW_DB};
static const struct option list[] = {ROW_JSON, ROW_DB};
static const struct option site_add[] = {
    {.name = "id",
     .kind = OPTION_INT,
     .value = "N",
     .min = 1,
     .max = UINT32_MAX,
     .help = "The id that agents will use (--site-id). Chosen automatically if not given.",
     FIELD(id)},
    ROW_ACCOUNT,
    ROW_DB};
static const struct option device_add[] = {ROW_ADDRESS, ROW_SITE, ROW_ASN, ROW_MD5, ROW_ACCOUNT, ROW_DB};
static const struct option device_set[] = {ROW_ADDRESS, ROW_SITE, ROW_ASN, ROW_MD5, ROW_NO_MD5, ROW_DB};

/* --- commands --- */

struct command {
    const char *noun, *verb;
    const char *word; /* what it is about, or NULL */
    bool (*check_word)(const char *word, struct err *e);
    const char *help;
    const struct option *options;
    size_t option_count;
    cli_run *run;
    bool (*check_args)(const struct cli_args *args, struct err *e); /* of all together, or NULL */
};

static bool few_addresses(const struct cli_args *args, struct err *e)
{
    return args->addresses.count <= INVENTORY_ADDRESSES_MAX ||
           err_set(e, "--address: %zu addresses, a device has at most %d", args->addresses.count,
                   INVENTORY_ADDRESSES_MAX);
}

static bool needs_address(const struct cli_args *args, struct err *e)
{
    if (args->addresses.count == 0)
        return err_set(e, "--address is missing: the IP address that the device connects from");
    return few_addresses(args, e);
}

static bool needs_change(const struct cli_args *args, struct err *e)
{
    if (args->md5_file && args->no_md5)
        return err_set(e, "--md5-password-file and --no-md5-password exclude each other");
    if (args->addresses.count == 0 && !args->site && !args->asn && !args->md5_file && !args->no_md5)
        return err_set(e, "nothing to change: give --address, --site, --asn, --md5-password-file or "
                          "--no-md5-password");
    return few_addresses(args, e);
}

#define OPTIONS(table) .options = (table), .option_count = COUNT(table)
#define EMAIL          .word = "EMAIL", .check_word = inventory_check_email
#define DEVICE         .word = "NAME", .check_word = inventory_check_device_name

static const struct command commands[] = {
    {"account", "add", EMAIL, "Make an account. Its token is printed, once.", OPTIONS(only_db),
     cli_account_add},
    {"account", "list", .help = "List the accounts.", OPTIONS(list), .run = cli_account_list},
    {"account", "token", EMAIL, "Make a new token and print it. The old one is void at once.",
     OPTIONS(only_db), cli_account_token},
    {"account", "disable", EMAIL, "Refuse the account's agents from now on.", OPTIONS(only_db),
     cli_account_disable},
    {"account", "enable", EMAIL, "Admit the account's agents again.", OPTIONS(only_db), cli_account_enable},
    {"account", "remove", EMAIL, "Remove an account that has no sites and devices.", OPTIONS(only_db),
     cli_account_remove},
    {"site", "add", "NAME", inventory_check_site_name, "Make a site. Its id is printed.", OPTIONS(site_add),
     cli_site_add},
    {"site", "list", .help = "List the sites.", OPTIONS(list), .run = cli_site_list},
    {"site", "remove", "NAME|ID", cli_check_site, "Remove a site that has no devices.", OPTIONS(only_db),
     cli_site_remove},
    {"device", "add", DEVICE, "Add a device (a router), known by the addresses it connects from.",
     OPTIONS(device_add), cli_device_add, needs_address},
    {"device", "list", .help = "List the devices.", OPTIONS(list), .run = cli_device_list},
    {"device", "set", DEVICE, "Change a device. Addresses that are given replace those it had.",
     OPTIONS(device_set), cli_device_set, needs_change},
    {"device", "disable", DEVICE, "Treat the device as unknown from now on.", OPTIONS(only_db),
     cli_device_disable},
    {"device", "enable", DEVICE, "Undo `device disable`.", OPTIONS(only_db), cli_device_enable},
    {"device", "remove", DEVICE, "Remove a device.", OPTIONS(only_db), cli_device_remove},
};

static bool is_help(const char *arg)
{
    return strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0 || strcmp(arg, "help") == 0;
}

/* The actions of a noun. NULL: of all. */
static void list_commands(FILE *out, const char *noun)
{
    fprintf(out, "Usage: kbgp-target %s ACTION [OPTIONS]\n\n", noun ? noun : "account|site|device");
    for (const struct command *c = commands; c < commands + COUNT(commands); c++) {
        char synopsis[60];
        snprintf(synopsis, sizeof synopsis, "%s %s %s", c->noun, c->verb, c->word ? c->word : "");
        if (!noun || strcmp(c->noun, noun) == 0)
            fprintf(out, "  %-26s  %s\n", synopsis, c->help);
    }
    fprintf(out, "\nWith --help after an action: its options.\n");
}

static const struct command *find_command(const char *noun, const char *verb)
{
    for (const struct command *c = commands; c < commands + COUNT(commands); c++)
        if (strcmp(c->noun, noun) == 0 && strcmp(c->verb, verb) == 0)
            return c;
    return NULL;
}

static bool is_noun(const char *word)
{
    for (const struct command *c = commands; c < commands + COUNT(commands); c++)
        if (strcmp(c->noun, word) == 0)
            return true;
    return false;
}

static int complain(const struct command *c, const struct err *e, int code)
{
    fprintf(stderr, "kbgp-target %s %s: %s\n", c->noun, c->verb, e->text);
    return code;
}

static bool check_words(const struct command *c, size_t n_words, const char *word, struct err *e)
{
    if (!c->word)
        return true;
    if (n_words == 0)
        return err_set(e, "%s is missing (see --help)", c->word);
    struct err complaint;
    return c->check_word(word, &complaint) || err_set(e, "%s: \"%.100s\" %s", c->word, word, complaint.text);
}

/* After the arguments are found good. */
static int run(const struct command *c, struct cli *cli, bool reads_only)
{
    struct err e;
    cli->inv = inventory_open(cli->args.db, reads_only, &e);
    if (!cli->inv)
        return complain(c, &e, 1);
    bool ok = c->run(cli, &e);
    inventory_close(cli->inv);
    if (ok && (fflush(stdout) != 0 || ferror(stdout)))
        ok = err_set(&e, "the output could not be written");
    return ok ? 0 : complain(c, &e, 1);
}

int target_cli(int argc, char **argv)
{
    const char *noun = argc > 1 ? argv[1] : "", *verb = argc > 2 ? argv[2] : "";
    bool known_noun = is_noun(noun);
    if (is_help(noun) || (known_noun && is_help(verb))) {
        list_commands(stdout, known_noun ? noun : NULL);
        return 0;
    }
    const struct command *c = find_command(noun, verb);
    if (!c) {
        if (known_noun && verb[0])
            fprintf(stderr, "kbgp-target %s: unknown action \"%.60s\"\n\n", noun, verb);
        list_commands(stderr, known_noun ? noun : NULL);
        return 2;
    }

    char usage[200];
    snprintf(usage, sizeof usage, "Usage: kbgp-target %s %s %s%s[OPTIONS]\n\n%s", c->noun, c->verb,
             c->word ? c->word : "", c->word ? " " : "", c->help);
    struct options options = {
        .program = "kbgp-target", .usage = usage, .table = c->options, .count = c->option_count};
    struct cli cli = {0};
    struct err e;
    size_t n_words;
    int code = 2;
    switch (
        options_parse(&options, argc - 2, argv + 2, &cli.args, &cli.word, c->word ? 1 : 0, &n_words, &e)) {
    case OPTIONS_HELP:
        options_help(&options, stdout);
        code = 0;
        break;
    case OPTIONS_ERROR:
        complain(c, &e, 2);
        break;
    case OPTIONS_OK:
        if (check_words(c, n_words, cli.word, &e) && (!c->check_args || c->check_args(&cli.args, &e)))
            code = run(c, &cli, strcmp(c->verb, "list") == 0);
        else
            complain(c, &e, 2);
        break;
    }
    options_free(&options, &cli.args);
    return code;
}

bool target_cli_doc(const char *what, FILE *template, FILE *out)
{
    char names[COUNT(commands)][40];
    struct doc_command documented[COUNT(commands) + 2] = {
        {.name = "serve",
         .help = "Take BGP sessions from agents and hand them to a collector or BGP daemon."},
        {.name = "ready", .help = target_ready_help}};
    documented[0].table = target_options_table(&documented[0].count);
    documented[1].table = target_ready_table(&documented[1].count);
    for (size_t i = 0; i < COUNT(commands); i++) {
        const struct command *c = &commands[i];
        snprintf(names[i], sizeof names[i], "%s %s", c->noun, c->verb);
        documented[i + 2] = (struct doc_command){.name = names[i],
                                                 .word = c->word,
                                                 .help = c->help,
                                                 .table = c->options,
                                                 .count = c->option_count};
    }
    struct doc_program program = {
        .name = "kbgp-target",
        .version = KBGP_VERSION,
        .commands = documented,
        .command_count = COUNT(documented),
        .service = "serve",
    };
    return options_doc_write(&program, what, template, out);
}
