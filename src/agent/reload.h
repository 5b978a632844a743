#ifndef KBGP_AGENT_RELOAD_H
#define KBGP_AGENT_RELOAD_H

#include <stdbool.h>

struct agent;

/*
 * What a running agent reads again: the token file, the CA file (or the system's trust store) and the client
 * certificate. Everything else comes from flags and variables, which do not change while a process lives.
 */

/* SIGHUP: reads all of it, tells the log and the service manager. What cannot be read stays as it was. */
void reload_all(struct agent *a);

/*
 * The target has rejected the token: reads its file. True: there is another one now. A file that cannot be
 * read is told once.
 */
bool reload_rejected_token(struct agent *a);

/* About once a second: while the token is rejected its file is looked at every few seconds. */
void reload_tick(struct agent *a);

#endif
