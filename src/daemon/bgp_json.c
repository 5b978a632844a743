#include "daemon/bgp_json.h"

#include <string.h>

#include "base/clock.h"
#include "daemon/api_json.h"

const char *const bgp_json_types[6] = {"other",        "open",      "update",
                                       "notification", "keepalive", "route_refresh"};

json_t *api_json_time(int64_t wall_ns)
{
    char text[TIME_TEXT_MAX];
    return wall_ns == 0 ? json_null() : json_string(clock_text(wall_ns, 9, text));
}

json_t *api_json_since(int64_t mono_ms)
{
    return mono_ms == 0 ? json_null() : json_integer(clock_mono_ms() - mono_ms);
}

static json_t *known(bool is_known, json_int_t value)
{
    return is_known ? json_integer(value) : json_null();
}

static json_t *router_id(const struct bgp_peek *p)
{
    return p->have_open ? json_sprintf("%u.%u.%u.%u", p->router_id[0], p->router_id[1], p->router_id[2],
                                       p->router_id[3])
                        : json_null();
}

static json_t *notification(const struct bgp_watch *w, const struct bgp_watch_side *side)
{
    struct bgp_notification n;
    char name[BGP_NAME_MAX], text[BGP_SHUTDOWN_TEXT_MAX];
    if (!bgp_watch_notification(w, side, &n))
        return json_null();
    bgp_shutdown_text(&n, text);
    return json_pack("{s:o, s:s, s:i, s:i, s:s}", "Time", api_json_time(side->notification.wall_ns), "Name",
                     bgp_notification_name(&n, name), "Code", n.code, "Subcode", n.subcode, "Text", text);
}

static json_t *side_json(const struct bgp_watch *w, const struct bgp_watch_side *side)
{
    const struct bgp_peek *p = &side->peek;
    json_t *messages = json_object();
    for (size_t i = 1; i <= 6; i++) /* "other" comes last */
        json_object_set_new(messages, bgp_json_types[i % 6], json_integer((json_int_t)p->messages[i % 6]));
    return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "ASN", known(p->have_open, p->asn),
                     "RouterID", router_id(p), "HoldTime", known(p->have_open, p->hold_time), "Readable",
                     !p->unparsable, "LastMessage", api_json_time(side->message.wall_ns),
                     "MsSinceLastMessage", api_json_since(side->message.mono_ms), "Messages", messages,
                     "LastNotification", notification(w, side));
}

json_t *bgp_json_brief(const struct bgp_watch *w, const struct bgp_watch_side *router)
{
    const struct bgp_peek *p = &router->peek;
    int hold_time = bgp_watch_hold_time(w);
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "State", bgp_watch_state_name(bgp_watch_state(w)),
                     "EstablishedSince", api_json_time(w->established.wall_ns), "EstablishedMs",
                     api_json_since(w->established.mono_ms), "ASN", known(p->have_open, p->asn), "RouterID",
                     router_id(p), "HoldTime", known(hold_time >= 0, hold_time));
}

json_t *bgp_json(const struct bgp_watch *w, const struct bgp_watch_side *router,
                 const struct bgp_watch_side *target)
{
    json_t *json = bgp_json_brief(w, router);
    json_object_set_new(json, "Router", side_json(w, router));
    json_object_set_new(json, "Target", side_json(w, target));
    return json;
}
