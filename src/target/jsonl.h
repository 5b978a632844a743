#ifndef KBGP_TARGET_JSONL_H
#define KBGP_TARGET_JSONL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "target/collector.h"

/*
 * The collector's events as JSON lines, one object a line:
 *
 *     {"time":"…","event":"announce","device":"edge1","address":"192.0.2.1","session":"…","afi":1,"safi":1,
 *      "prefixes":["10.0.0.0/24"],"next_hop":"192.0.2.1","as_path":"65001 65002 {65003,65004}","origin":"igp"}
 *
 * Every line has time (RFC 3339, UTC), event, device, address and session. What else it has depends on the event:
 *
 *     open          asn, router_id, hold_time (the router's)
 *     established   hold_time (as negotiated)
 *     announce      afi, safi, prefixes, next_hop, as_path, origin; where present med, local_pref, communities,
 *                   large_communities
 *     withdraw      afi, safi, prefixes
 *     update        afi, safi, withdrawn, bytes: routes of a family that is not decoded
 *     end-of-rib    afi, safi
 *     malformed     attribute (0: none in particular), error, action: "discard" (of the attribute), "withdraw" (its
 *                   routes follow as a withdraw) or "reset"
 *     notification  direction ("received" or "sent"), code, subcode, name, text ("" when there is none)
 *     close         reason
 *
 * With add-path, path_ids stands beside prefixes. Confederation segments of an AS path are written "(65001 65002)" and
 * "[65001,65002]".
 */

/* Appends the line of an event that happened at wall_ns (clock_wall_ns()). False without memory: nothing is
 * appended. */
bool jsonl_append(struct buf *out, const struct collector_event *event, int64_t wall_ns);

#endif
