#ifndef KBGP_DAEMON_API_JSON_H
#define KBGP_DAEMON_API_JSON_H

#include <jansson.h>

#include "daemon/api.h"

/* JSON pages: they build a tree with jansson and hand it over here. */

/*
 * Puts `json` into the body, keys in the order of their insertion, with a newline at the end; `pretty` breaks
 * and indents lines by two. Takes the reference. NULL (building it failed) becomes status 500.
 */
void api_respond_json(struct api_response *response, json_t *json, bool pretty);

/* {"error":"…"} with that status. */
void api_respond_error(struct api_response *response, unsigned status, const char *text);

/*
 * A string of n bytes from outside: json_stringn() refuses what is not UTF-8, here it is replaced by U+FFFD.
 */
json_t *api_json_text(const char *s, size_t n);

#endif
