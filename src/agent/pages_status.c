#include "agent/pages.h"
#include "daemon/api_json.h"
#include "daemon/bgp_json.h"

/* /admin/status: the keys of the product's documentation with their types, in its order; ours follow them. */

static json_t *listeners_json(const struct agent *a)
{
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_listeners; i++) {
        char text[ADDR_TEXT_MAX];
        json_array_append_new(list, json_string(addr_text(listener_addr(a->listeners[i]), text)));
    }
    return list;
}

static json_t *control_json(const struct control_stats *s)
{
    uint64_t reconnects = 0;
    for (unsigned i = 0; i < CONTROL_RECONNECTS; i++)
        reconnects += s->reconnects[i];
    return json_pack("{s:b, s:o, s:o, s:I, s:I, s:I, s:b}", "Connected", s->connected, "Since",
                     api_json_time(s->since_wall_ns), "DurationMs", api_json_since(s->since_ms), "MessagesRx",
                     (json_int_t)s->messages_rx, "MessagesTx", (json_int_t)s->messages_tx, "Reconnects",
                     (json_int_t)reconnects, "CredentialsRejected", s->rejected);
}

static json_t *heartbeats_json(const struct control_stats *s)
{
    return json_pack("{s:o, s:o, s:I, s:o, s:o}", "LastTx", api_json_time(s->heartbeat_tx_wall_ns),
                     "MsSinceLastTx", api_json_since(s->heartbeat_tx_ms), "LastTxRTTMs",
                     (json_int_t)s->heartbeat_rtt_ms, "LastRx", api_json_time(s->heartbeat_rx_wall_ns),
                     "MsSinceLastRx", api_json_since(s->heartbeat_rx_ms));
}

static json_t *config_json(const struct agent *a)
{
    const struct agent_config *c = a->config;
    return json_pack("{s:o, s:b, s:s, s:s, s:s, s:I}", "Listeners", listeners_json(a), "MD5Enabled", c->md5,
                     "MD5Interface", c->md5_interface, "ProxyTarget", c->target, "APIEmail", c->email,
                     "SiteID", (json_int_t)c->site_id);
}

void pages_status(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct agent *a = arg;
    const struct control_stats *s = control_stats(a->host.control);
    uint32_t active = 0;
    LIST_FOREACH (node, &a->host.devices)
        active += LIST_ITEM(node, const struct device, node)->bridge != NULL;
    api_respond_json(r,
                     json_pack("{s:s, s:o, s:o, s:I, s:o, s:s}", "InstanceID", a->instance.text,
                               "ControlStream", control_json(s), "Heartbeats", heartbeats_json(s),
                               "ActiveSessions", (json_int_t)active, "Config", config_json(a), "Version",
                               KBGP_VERSION),
                     q->pretty);
}
