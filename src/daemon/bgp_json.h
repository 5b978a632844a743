#ifndef KBGP_DAEMON_BGP_JSON_H
#define KBGP_DAEMON_BGP_JSON_H

#include <jansson.h>

#include "bgp/watch.h"

/* What was seen of a BGP session, as JSON for the status pages of both programs. Keys: docs/api.md. New
 * references. */

/* For lists: state, since when, and who the router is. `router` is one of the two sides of w. */
json_t *bgp_json_brief(const struct bgp_watch *w, const struct bgp_watch_side *router);

/* All of it: the brief keys, the hold time agreed on, and for "Router" and "Target" what each of them sent.
 */
json_t *bgp_json(const struct bgp_watch *w, const struct bgp_watch_side *router,
                 const struct bgp_watch_side *target);

/* Types of message as JSON keys and label values; by enum bgp_type, [0] "other". */
extern const char *const bgp_json_types[6];

/* A point in time as RFC 3339, and how long ago it was; null for never. */
json_t *api_json_time(int64_t wall_ns);
json_t *api_json_since(int64_t mono_ms);

#endif
