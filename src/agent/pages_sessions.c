#include "agent/pages.h"
#include "daemon/api_json.h"
#include "daemon/bgp_json.h"

/*
 * /admin/sessions and /admin/sessions/ADDRESS: the keys of the product's documentation with their types, in
 * its order; ours follow them.
 */

/* {"key": ["value", …], …}, keys in order of their first value. */
static json_t *pairs_json(const struct kv *kv)
{
    json_t *object = json_object();
    struct kv_pair pair;
    for (uint32_t pos = 0; kv_next(kv, &pos, &pair);) {
        json_t *list = json_object_get(object, pair.key);
        if (!list) {
            list = json_array();
            json_object_set_new(object, pair.key, list);
        }
        json_array_append_new(list, api_json_text(pair.val, pair.val_len));
    }
    return object;
}

static json_t *device_json(const struct device *d)
{
    char label[192];
    device_label(d, label);
    return api_json_text(label, strlen(label));
}

/* What both pages add: who it is, how it stands, what it has carried. */
static void add_ours(json_t *json, const struct device *d)
{
    const struct session *s = bridge_session(d->bridge);
    json_object_set_new(json, "Device", device_json(d));
    json_object_set_new(json, "State", json_string(device_phase_name(device_phase(d))));
    json_object_set_new(json, "BytesUp", json_integer((json_int_t)s->sent.bytes));
    json_object_set_new(json, "BytesDown", json_integer((json_int_t)s->received.bytes));
    json_object_set_new(json, "MessagesUp", json_integer((json_int_t)s->sent.messages));
    json_object_set_new(json, "MessagesDown", json_integer((json_int_t)s->received.messages));
}

void pages_sessions(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct agent *a = arg;
    json_t *list = json_array();
    LIST_FOREACH (node, &a->host.devices) {
        const struct device *d = LIST_ITEM(node, const struct device, node);
        char peer[ADDR_TEXT_MAX];
        if (!d->bridge)
            continue; /* not allowed yet */
        json_t *json = json_pack("{s:s, s:o, s:o, s:b}", "Peer", addr_text(&d->peer, peer), "Time",
                                 api_json_time(d->accepted_wall_ns), "DurationMs",
                                 api_json_since(d->accepted_ms), "Connected", d->connected);
        const struct bgp_watch *seen = &bridge_session(d->bridge)->seen;
        add_ours(json, d);
        json_object_set_new(json, "BGP", bgp_json_brief(seen, &seen->out));
        json_array_append_new(list, json);
    }
    json_int_t count = (json_int_t)json_array_size(list);
    api_respond_json(r, json_pack("{s:I, s:o}", "NumSessions", count, "Sessions", list), q->pretty);
}

/* "192.0.2.1", "192.0.2.1:42875", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:42875": the newest session
 * that fits. */
static const struct device *find_device(const struct agent *a, const char *text)
{
    struct addr want;
    if (!addr_parse(&want, text, 0))
        return NULL;
    const struct device *found = NULL;
    LIST_FOREACH (node, &a->host.devices) {
        const struct device *d = LIST_ITEM(node, const struct device, node);
        if (d->bridge && addr_same_ip(&d->peer, &want) && (want.port == 0 || want.port == d->peer.port))
            found = d;
    }
    return found;
}

void pages_session(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct device *d = find_device(arg, q->rest);
    char peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX];
    if (!d) {
        api_respond_error(r, 404, "no such session");
        return;
    }
    bool up = d->connected;
    const struct bgp_watch *seen = &bridge_session(d->bridge)->seen;
    json_t *json = json_pack("{s:s, s:o, s:o, s:s, s:o}", "Peer", addr_text(&d->peer, peer), "ConnectedSince",
                             api_json_time(up ? d->connected_wall_ns : 0), "ConnectedDurationMs",
                             api_json_since(up ? d->connected_ms : 0), "SessionID", d->session_id.text,
                             "ServerMetadata", pairs_json(&d->server_metadata));
    add_ours(json, d);
    json_object_set_new(json, "Local", json_string(addr_text(&d->local, local)));
    json_object_set_new(json, "Time", api_json_time(d->accepted_wall_ns));
    json_object_set_new(json, "DurationMs", api_json_since(d->accepted_ms));
    json_object_set_new(json, "Streams", json_integer(d->streams));
    json_object_set_new(json, "BGP", bgp_json(seen, &seen->out, &seen->in));
    api_respond_json(r, json, q->pretty);
}
