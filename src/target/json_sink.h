#ifndef KBGP_TARGET_JSON_SINK_H
#define KBGP_TARGET_JSON_SINK_H

#include <stdbool.h>

#include "base/err.h"
#include "net/loop.h"
#include "target/collector.h"

/*
 * Where the collector's JSON lines go: a file (appended to) or stdout. Lines are written once a turn of the loop. A reader that
 * is slower than the routers (a pipe), or a disk that is full, loses nothing: the sink says that it is full, and the routers
 * are read no further until it has room.
 */
struct json_sink;

/* `path` "-" is stdout. NULL with the reason in `e`. */
struct json_sink *json_sink_new(struct loop *loop, const char *path, struct err *e);
/* Writes what it still can without waiting. */
void json_sink_free(struct json_sink *s);

/* One event, as a line. Fits collector_sink. */
void json_sink_event(void *sink, const struct collector_event *event);

/* More is held than should be: take no more bytes from routers; `room` is called when there is room again. */
bool json_sink_full(const struct json_sink *s);
void json_sink_on_room(struct json_sink *s, void (*room)(void *arg), void *arg);
/* Opens the file again (after a rotation: SIGHUP). The old one stays when that fails. */
bool json_sink_reopen(struct json_sink *s, struct err *e);

#endif
