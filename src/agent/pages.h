#ifndef KBGP_AGENT_PAGES_H
#define KBGP_AGENT_PAGES_H

#include "agent/agent.h"
#include "daemon/metrics.h"

/* The handlers of the status pages, a file each: see the table of routes in pages.c. `arg` is the agent. */
api_handler pages_health, pages_status, pages_sessions, pages_session, pages_metrics;

/* All metrics of the agent, for whatever format the writer writes. */
void agent_metrics(struct agent *a, struct metrics_writer *w);
/* Those of each device: a part of it. */
void agent_device_metrics(struct agent *a, struct metrics_writer *w);

#endif
