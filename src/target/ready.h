#ifndef KBGP_TARGET_READY_H
#define KBGP_TARGET_READY_H

#include <stddef.h>

#include "daemon/options.h"

/*
 * `kbgp-target ready`: asks the running server's /hc, and prints "ok", or "not ready" and why. argv[0] is skipped. Returns
 * the exit code: 0 when it is ready, 1 when not (also: nobody answers within 5 seconds), 2 for wrong usage.
 */
int target_ready(int argc, char **argv);

extern const char target_ready_help[];
const struct option *target_ready_table(size_t *count);

#endif
