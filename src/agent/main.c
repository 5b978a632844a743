#include <stdio.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/check.h"
#include "agent/options.h"
#include "agent/show.h"
#include "daemon/rights.h"

static int run(struct agent_config *config)
{
    if (config->version) {
        printf("kbgp %s\n", KBGP_VERSION);
        return 0;
    }
    switch (config->command) {
    case AGENT_CHECK:
        return config->ready ? check_ready(config) : check_run(config);
    case AGENT_STATUS:
        return show_status(config);
    case AGENT_SESSIONS:
        return show_sessions(config);
    case AGENT_RUN:
        break;
    }
    return agent_run(config);
}

int main(int argc, char **argv)
{
    /* For the build, not for people: no word of it stands in --help. */
    if (argc == 3 && strcmp(argv[1], "--generate") == 0)
        return agent_options_doc(argv[2], stdin, stdout) && fflush(stdout) == 0 ? 0 : 2;
    rights_use_permitted();
    struct agent_config config;
    struct err e;
    int code = 0;
    switch (agent_options_load(argc, argv, &config, &e)) {
    case OPTIONS_HELP:
        agent_options_help(stdout);
        break;
    case OPTIONS_ERROR:
        fprintf(stderr, "kbgp: %s\n", e.text);
        code = 2;
        break;
    case OPTIONS_OK:
        code = run(&config);
        break;
    }
    agent_options_free(&config);
    return code;
}
