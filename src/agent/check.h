#ifndef KBGP_AGENT_CHECK_H
#define KBGP_AGENT_CHECK_H

#include <stdbool.h>

#include "agent/options.h"

/*
 * The command `check`: tries what the agent does, with the agent's own options, variables and code, and
 * prints a line for each thing that a new user gets wrong: ok, or what to do.
 */

/* Returns the exit code: 0 only when all is well. */
int check_run(const struct agent_config *config);

/*
 * `check --ready`: only asks the running agent, on --metrics-addr and --metrics-port; dials nothing else.
 * Returns the exit code: 0 when its status is "ok".
 */
int check_ready(const struct agent_config *config);

/* --- between check.c, check_target.c and check_local.c --- */

struct loop;

struct check {
    const struct agent_config *config;
    struct loop *loop;
    unsigned problems;
};

enum check_verdict {
    CHECK_OK,
    CHECK_PROBLEM, /* the text says what to do */
    CHECK_NONE,    /* not needed, or not to be tried since something before it failed */
};

/* One line of the report. */
__attribute__((format(printf, 4, 5))) void check_line(struct check *c, enum check_verdict verdict,
                                                      const char *name, const char *fmt, ...);

/* DNS, web proxy, TCP, TLS, HTTP/2 and credentials: one Control call as the agent makes it. */
void check_target(struct check *c);

/* The right to bind and to capture, and the kernel's TCP-MD5. */
void check_local(struct check *c);

#endif
