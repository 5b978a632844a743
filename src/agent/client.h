#ifndef KBGP_AGENT_CLIENT_H
#define KBGP_AGENT_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/addr.h"
#include "base/err.h"

/*
 * Asks the running agent for one of its status pages, as the commands status, sessions and check do. Blocks,
 * for CLIENT_TIMEOUT_MS at most; goes through no proxy and follows no redirect. Whoever listens on that port
 * may answer anything: what comes back is a JSON object of bounded size, and nothing more is promised.
 */
#define CLIENT_TIMEOUT_MS 2000
/* The sessions page of a full agent (20,000 sessions) fits. */
#define CLIENT_BODY_MAX (32u << 20)

/*
 * `metrics` is where the agent serves its pages (0.0.0.0 and [::] are asked on this host). The object belongs
 * to the caller (json_decref); *http_status may be NULL. NULL with the reason, which names the address:
 * nobody there, no answer, no JSON.
 */
json_t *client_get(const struct addr *metrics, const char *path, long *http_status, struct err *e);

/*
 * What /hc says: "ok" and the other words of the documentation. False with the reason when there is no such
 * answer.
 */
bool client_health(const struct addr *metrics, char word[static 32], struct err *e);

/* Text from a page, fit for a terminal: what is not printable ASCII becomes '?'. "" when `value` is no
 * string. */
const char *client_text(const json_t *value, char *out, size_t cap);

#endif
