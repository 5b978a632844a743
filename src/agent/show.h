#ifndef KBGP_AGENT_SHOW_H
#define KBGP_AGENT_SHOW_H

#include "agent/options.h"

/*
 * The commands `status` and `sessions`: what the running agent says, as a table for people or, with --json,
 * as its page for programs. Each returns the exit code: 0, or 1 when there is no agent that answers.
 */
int show_status(const struct agent_config *config);
int show_sessions(const struct agent_config *config);

#endif
