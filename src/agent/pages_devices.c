#include <inttypes.h>
#include <stdio.h>

#include "agent/pages.h"
#include "daemon/bgp_json.h"

/*
 * The part of /metrics that speaks of each device: --metrics-per-device. About 30 series a device that has
 * been there since the start (agent/record.h).
 */

/* The labels that say which device. */
struct who {
    const char *device, *address, *site;
};
/* clang-format off */
#define WHO(x) {"device", (x)->device}, {"address", (x)->address}, {"site", (x)->site}
/* clang-format on */

static const char *const directions[2] = {"up", "down"};

static void write_up(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    metrics_int(w, r->sessions > 0, WHO(x));
}

static void write_start(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    metrics_seconds(w, r->started_wall_ns, WHO(x));
}

static void write_received(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    metrics_seconds(w, r->received_wall_ns, WHO(x));
}

static void write_bytes(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    struct record_counts counts = record_counts(r);
    for (unsigned d = 0; d < 2; d++)
        metrics_int(w, (int64_t)counts.bytes[d], WHO(x), {"direction", directions[d]});
}

static void write_state(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    for (unsigned s = 0; s < BGP_WATCH_STATES; s++)
        metrics_int(w, r->state == s, WHO(x), {"state", bgp_watch_state_name(s)});
}

static void write_asn(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    if (r->have_open)
        metrics_int(w, r->asn, WHO(x));
}

static void write_hold_time(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    if (r->have_open)
        metrics_int(w, r->hold_time, WHO(x));
}

static void write_messages(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    struct record_counts counts = record_counts(r);
    for (unsigned d = 0; d < 2; d++)
        for (unsigned i = 0; i < 6; i++)
            metrics_int(w, (int64_t)counts.messages[d][i], WHO(x), {"direction", directions[d]},
                        {"message", bgp_json_types[i]});
}

static void write_established(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    metrics_int(w, (int64_t)record_counts(r).established, WHO(x));
}

static void write_notifications(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    for (unsigned i = 0; i < r->past->n_notifications; i++) {
        const struct record_notification *n = &r->past->notifications[i];
        char code[8] = "other", subcode[8] = "other";
        if (!n->others) {
            snprintf(code, sizeof code, "%u", n->code);
            snprintf(subcode, sizeof subcode, "%u", n->subcode);
        }
        metrics_int(w, (int64_t)n->count, WHO(x), {"direction", directions[n->down]}, {"code", code},
                    {"subcode", subcode});
    }
}

static void write_notified(struct metrics_writer *w, const struct record *r, const struct who *x)
{
    for (unsigned d = 0; d < 2; d++)
        metrics_seconds(w, r->notification_wall_ns[d], WHO(x), {"direction", directions[d]});
}

static const struct {
    const char *name;
    enum metrics_type type;
    const char *help;
    void (*write)(struct metrics_writer *w, const struct record *r, const struct who *x);
} families[] = {
    {"kbgp_device_up", METRICS_GAUGE, "Whether the device has a session.", write_up},
    {"kbgp_device_session_start_timestamp_seconds", METRICS_GAUGE, "When its newest session began.",
     write_start},
    {"kbgp_device_received_timestamp_seconds", METRICS_GAUGE, "Its last BGP message; 0: there was none yet.",
     write_received},
    {"kbgp_device_relayed_bytes_total", METRICS_COUNTER, "Bytes of its sessions.", write_bytes},
    {"kbgp_device_bgp_state", METRICS_GAUGE, "BGP state as seen in passing: 1 for the one that holds.",
     write_state},
    {"kbgp_device_bgp_asn", METRICS_GAUGE, "AS of its OPEN.", write_asn},
    {"kbgp_device_bgp_hold_time_seconds", METRICS_GAUGE, "Hold time of its OPEN.", write_hold_time},
    {"kbgp_device_bgp_messages_total", METRICS_COUNTER, "BGP messages that passed.", write_messages},
    {"kbgp_device_bgp_established_total", METRICS_COUNTER, "How often a session became Established.",
     write_established},
    {"kbgp_device_bgp_notifications_total", METRICS_COUNTER,
     "Sessions that ended with this NOTIFICATION of the device (up) or the target (down).",
     write_notifications},
    {"kbgp_device_bgp_notification_timestamp_seconds", METRICS_GAUGE,
     "The last NOTIFICATION; 0: there was none yet.", write_notified},
};

void agent_device_metrics(struct agent *a, struct metrics_writer *w)
{
    char site[24], address[ADDR_TEXT_MAX];
    snprintf(site, sizeof site, "%" PRId64, a->config->site_id);
    records_look_begin(&a->host.records);
    LIST_FOREACH (node, &a->host.devices) {
        const struct device *d = LIST_ITEM(node, const struct device, node);
        if (!d->record)
            continue;
        struct record_session carried = device_carried(d);
        record_look(&a->host.records, d->record, &carried);
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        metrics_family(w, families[i].name, families[i].type, families[i].help);
        LIST_FOREACH (node, &a->host.records.recent) {
            const struct record *r = LIST_ITEM(node, const struct record, node);
            struct who x = {.device = r->name, .address = addr_ip_text(&r->ip, address), .site = site};
            families[i].write(w, r, &x);
        }
    }
    records_look_end(&a->host.records);
}
