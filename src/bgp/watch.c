#include "bgp/watch.h"

#include <stdio.h>
#include <string.h>

/* Which of the two watchers of w->data a side is. */
static uint8_t who(const struct bgp_watch *w, const struct bgp_watch_side *side)
{
    return side == &w->out ? 1 : 2;
}

void bgp_watch_feed(struct bgp_watch *w, struct bgp_watch_side *side, const uint8_t *bytes, size_t n,
                    const struct bgp_watch_time *now)
{
    bool had = side->peek.have_notification;
    uint64_t notifications = side->peek.messages[BGP_NOTIFICATION];
    if (bgp_peek_feed(&side->peek, &w->data, who(w, side), bytes, n) > 0)
        side->message = *now;
    /* It counts when its codes are there, which may be a read later than its header. */
    if (side->peek.have_notification && (!had || side->peek.messages[BGP_NOTIFICATION] != notifications))
        side->notification = *now;
    if (w->established.mono_ms == 0 && bgp_watch_state(w) == BGP_WATCH_ESTABLISHED)
        w->established = *now;
}

static bool confirmed(const struct bgp_watch_side *side)
{
    return side->peek.messages[BGP_KEEPALIVE] > 0 || side->peek.messages[BGP_UPDATE] > 0;
}

enum bgp_watch_state bgp_watch_state(const struct bgp_watch *w)
{
    if (w->out.notification.mono_ms != 0 || w->in.notification.mono_ms != 0)
        return BGP_WATCH_IDLE;
    bool out = w->out.peek.messages[BGP_OPEN] > 0, in = w->in.peek.messages[BGP_OPEN] > 0;
    if (!out && !in)
        return BGP_WATCH_CONNECT;
    if (!out || !in)
        return BGP_WATCH_OPENSENT;
    return confirmed(&w->out) && confirmed(&w->in) ? BGP_WATCH_ESTABLISHED : BGP_WATCH_OPENCONFIRM;
}

const char *bgp_watch_state_name(enum bgp_watch_state state)
{
    static const char *const names[BGP_WATCH_STATES] = {[BGP_WATCH_IDLE] = "idle",
                                                        [BGP_WATCH_CONNECT] = "connect",
                                                        [BGP_WATCH_OPENSENT] = "opensent",
                                                        [BGP_WATCH_OPENCONFIRM] = "openconfirm",
                                                        [BGP_WATCH_ESTABLISHED] = "established"};
    return names[state];
}

int bgp_watch_hold_time(const struct bgp_watch *w)
{
    if (!w->out.peek.have_open || !w->in.peek.have_open)
        return -1;
    uint16_t out = w->out.peek.hold_time, in = w->in.peek.hold_time;
    return out < in ? out : in;
}

uint64_t bgp_watch_messages(const struct bgp_watch_side *side)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof side->peek.messages / sizeof side->peek.messages[0]; i++)
        sum += side->peek.messages[i];
    return sum;
}

bool bgp_watch_notification(const struct bgp_watch *w, const struct bgp_watch_side *side,
                            struct bgp_notification *n)
{
    return bgp_peek_notification(&side->peek, &w->data, who(w, side), n);
}

const char *bgp_watch_notification_text(const struct bgp_watch *w, const struct bgp_watch_side *side,
                                        char out[static BGP_WATCH_TEXT_MAX])
{
    struct bgp_notification n;
    char name[BGP_NAME_MAX], text[BGP_SHUTDOWN_TEXT_MAX];
    if (!bgp_watch_notification(w, side, &n))
        return NULL;
    bgp_notification_name(&n, name);
    /* The colon is for the text: "Cease: Hard Reset" becomes "Cease/Hard Reset". */
    char *o = out;
    for (const char *p = name; *p; p++) {
        bool colon = p[0] == ':' && p[1] == ' ';
        *o++ = colon ? '/' : *p;
        p += colon;
    }
    *o = 0;
    if (bgp_shutdown_text(&n, text) > 0)
        snprintf(o, BGP_WATCH_TEXT_MAX - (size_t)(o - out), ": %s", text);
    return out;
}
