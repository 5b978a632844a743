#ifndef KBGP_DAEMON_ENV_FILE_H
#define KBGP_DAEMON_ENV_FILE_H

#include <stdbool.h>

#include "base/err.h"

/*
 * A file of variables, as systemd's EnvironmentFile= reads it, so that one file serves the service, a container and a shell:
 *
 *     # a comment
 *     KENTIK_API_EMAIL=noc@example.com
 *     HTTPS_PROXY= "http://192.0.2.1:3128"
 *
 * White space around a value is dropped, then one pair of quotes around it. Nothing is expanded.
 */
#define ENV_FILE_MAX (256u << 10)

/* Called for each variable in turn; the texts are valid during the call. */
typedef void env_file_pair(void *arg, const char *key, const char *value);

/* False with the reason, which names the file and the line but nothing that stands in it: it may be a secret. */
bool env_file_read(const char *path, env_file_pair *pair, void *arg, struct err *e);

/* The same on text in memory, which is changed. `path` is for the reason. Pure. */
bool env_file_parse(char *text, const char *path, env_file_pair *pair, void *arg, struct err *e);

#endif
