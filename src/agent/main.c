#include <stdio.h>

#include "agent/agent.h"
#include "agent/options.h"

int main(int argc, char **argv)
{
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
        if (config.version)
            printf("kbgp %s\n", KBGP_VERSION);
        else
            code = agent_run(&config);
        break;
    }
    agent_options_free(&config);
    return code;
}
