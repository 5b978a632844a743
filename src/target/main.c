#include <stdio.h>
#include <string.h>

#include "daemon/rights.h"
#include "target/cli.h"
#include "target/options.h"
#include "target/ready.h"
#include "target/target.h"

static const char usage[] =
    "usage: kbgp-target serve [OPTIONS]\n"
    "       kbgp-target ready [OPTIONS]\n"
    "       kbgp-target account|site|device ACTION …\n"
    "\n"
    "serve      take BGP sessions from agents (kbgp) and hand them to a collector or BGP daemon\n"
    "ready      ask the running server whether it is ready, for health checks\n"
    "account    who may connect agents: add, list, remove, token, enable, disable\n"
    "site       places whose devices have overlapping addresses: add, list, remove\n"
    "device     routers: add, list, remove, set, enable, disable\n"
    "\n"
    "Each has --help. --version prints the version.\n";

static int serve(int argc, char **argv)
{
    struct target_config config;
    struct err e;
    int code = 0;
    switch (target_options_load(argc, argv, &config, &e)) {
    case OPTIONS_HELP:
        target_options_help(stdout);
        break;
    case OPTIONS_ERROR:
        fprintf(stderr, "kbgp-target: %s\n", e.text);
        code = 2;
        break;
    case OPTIONS_OK:
        if (config.version)
            printf("kbgp-target %s\n", KBGP_VERSION);
        else
            code = target_run(&config);
        break;
    }
    target_options_free(&config);
    return code;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    /* For the build, not for people: no word of it stands in --help. */
    if (argc == 3 && strcmp(command, "--generate") == 0)
        return target_cli_doc(argv[2], stdin, stdout) && fflush(stdout) == 0 ? 0 : 2;
    rights_use_permitted();
    if (strcmp(command, "serve") == 0)
        return serve(argc - 1, argv + 1);
    if (strcmp(command, "ready") == 0)
        return target_ready(argc - 1, argv + 1);
    if (strcmp(command, "account") == 0 || strcmp(command, "site") == 0 || strcmp(command, "device") == 0)
        return target_cli(argc, argv);
    if (strcmp(command, "-h") == 0 || strcmp(command, "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (strcmp(command, "--version") == 0) {
        printf("kbgp-target %s\n", KBGP_VERSION);
        return 0;
    }
    if (command[0] == 0)
        fputs(usage, stderr);
    else
        fprintf(stderr,
                "kbgp-target: %s: not a command; serve, ready, account, site, device are (see --help)\n",
                command);
    return 2;
}
