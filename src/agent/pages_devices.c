#include <inttypes.h>
#include <stdio.h>

#include "agent/pages.h"
#include "daemon/bgp_json.h"

/*
 * The part of /metrics that speaks of each device: --metrics-per-device. About 30 series a device that has been there since
 * the start (agent/record.h).
 */

struct view {
    struct metrics_writer *w;
    const struct records *records;
    char site[24];
};

/* The labels that say which device: for use in the macros of daemon/metrics.h. */
struct who {
    const char *device, *address, *site;
    char text[ADDR_TEXT_MAX];
};
#define WHO(x) {"device", (x)->device}, {"address", (x)->address}, {"site", (x)->site}

static void who_is(struct who *x, const struct view *v, const struct record *r)
{
    x->device = r->name;
    x->address = addr_ip_text(&r->ip, x->text);
    x->site = v->site;
}

/* Runs the statement that follows for every record, with `r` and its labels `x`. */
#define EACH_RECORD(v, r, x)                                                                                     \
    LIST_FOREACH (node, &(v)->records->recent)                                                                    \
        for (const struct record *r = LIST_ITEM(node, const struct record, node), *once = (who_is(&x, v, r), r);   \
             once; once = NULL)

static const char *const directions[2] = {"up", "down"};

static void write_state(const struct view *v)
{
    struct metrics_writer *w = v->w;
    struct who x;
    metrics_family(w, "kbgp_device_up", METRICS_GAUGE, "Whether the device has a session.");
    EACH_RECORD (v, r, x)
        metrics_int(w, r->sessions > 0, WHO(&x));
    metrics_family(w, "kbgp_device_session_start_timestamp_seconds", METRICS_GAUGE, "When its newest session began.");
    EACH_RECORD (v, r, x)
        metrics_seconds(w, r->started_wall_ns, WHO(&x));
    metrics_family(w, "kbgp_device_received_timestamp_seconds", METRICS_GAUGE,
                   "Its last BGP message; 0: there was none yet.");
    EACH_RECORD (v, r, x)
        metrics_seconds(w, r->received_wall_ns, WHO(&x));
    metrics_family(w, "kbgp_device_relayed_bytes_total", METRICS_COUNTER, "Bytes of its sessions.");
    EACH_RECORD (v, r, x)
        for (unsigned d = 0; d < 2; d++)
            metrics_int(w, (int64_t)(r->ended.bytes[d] + r->present.bytes[d]), WHO(&x), {"direction", directions[d]});
}

static void write_bgp(const struct view *v)
{
    struct metrics_writer *w = v->w;
    struct who x;
    metrics_family(w, "kbgp_device_bgp_state", METRICS_GAUGE, "BGP state as seen in passing: 1 for the one that holds.");
    EACH_RECORD (v, r, x)
        for (unsigned s = 0; s < BGP_WATCH_STATES; s++)
            metrics_int(w, r->state == s, WHO(&x), {"state", bgp_watch_state_name(s)});
    metrics_family(w, "kbgp_device_bgp_asn", METRICS_GAUGE, "AS of its OPEN.");
    EACH_RECORD (v, r, x)
        if (r->have_open)
            metrics_int(w, r->asn, WHO(&x));
    metrics_family(w, "kbgp_device_bgp_hold_time_seconds", METRICS_GAUGE, "Hold time of its OPEN.");
    EACH_RECORD (v, r, x)
        if (r->have_open)
            metrics_int(w, r->hold_time, WHO(&x));
    metrics_family(w, "kbgp_device_bgp_messages_total", METRICS_COUNTER, "BGP messages that passed.");
    EACH_RECORD (v, r, x)
        for (unsigned d = 0; d < 2; d++)
            for (unsigned i = 0; i < 6; i++)
                metrics_int(w, (int64_t)(r->ended.messages[d][i] + r->present.messages[d][i]), WHO(&x),
                            {"direction", directions[d]}, {"message", bgp_json_types[i]});
    metrics_family(w, "kbgp_device_bgp_established_total", METRICS_COUNTER, "How often a session became Established.");
    EACH_RECORD (v, r, x)
        metrics_int(w, (int64_t)(r->ended.established + r->present.established), WHO(&x));
}

static void write_notifications(const struct view *v)
{
    struct metrics_writer *w = v->w;
    struct who x;
    metrics_family(w, "kbgp_device_bgp_notifications_total", METRICS_COUNTER,
                   "Sessions that ended with this NOTIFICATION of the device (up) or the target (down).");
    EACH_RECORD (v, r, x)
        for (unsigned i = 0; i < r->n_notifications; i++) {
            const struct record_notification *n = &r->notifications[i];
            char code[8] = "other", subcode[8] = "other";
            if (!n->others) {
                snprintf(code, sizeof code, "%u", n->code);
                snprintf(subcode, sizeof subcode, "%u", n->subcode);
            }
            metrics_int(w, (int64_t)n->count, WHO(&x), {"direction", directions[n->down]}, {"code", code},
                        {"subcode", subcode});
        }
    metrics_family(w, "kbgp_device_bgp_notification_timestamp_seconds", METRICS_GAUGE,
                   "The last NOTIFICATION; 0: there was none yet.");
    EACH_RECORD (v, r, x)
        for (unsigned d = 0; d < 2; d++)
            metrics_seconds(w, r->notification_wall_ns[d], WHO(&x), {"direction", directions[d]});
}

void agent_device_metrics(struct agent *a, struct metrics_writer *w)
{
    struct view v = {.w = w, .records = &a->host.records};
    snprintf(v.site, sizeof v.site, "%" PRId64, a->config->site_id);
    records_forget_present(&a->host.records);
    LIST_FOREACH (node, &a->host.devices) {
        const struct device *d = LIST_ITEM(node, const struct device, node);
        if (!d->record)
            continue;
        struct record_session carried = device_carried(d);
        record_look(d->record, &carried);
    }
    write_state(&v);
    write_bgp(&v);
    write_notifications(&v);
}
