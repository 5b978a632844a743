#include "agent/pages.h"
#include "base/clock.h"
#include "base/log.h"
#include "revision.h"

/*
 * /metrics. A family is a function or a few lines; every label value that can occur stands there from the
 * start, at 0, so that rate() sees the first event.
 */

#define NS_PER_MS 1000000

static const char *const directions[2] = {"up", "down"};

static void gauge(struct metrics_writer *w, const char *name, const char *help, int64_t value)
{
    metrics_family(w, name, METRICS_GAUGE, help);
    metrics_int(w, value);
}

static void counter(struct metrics_writer *w, const char *name, const char *help, uint64_t value)
{
    metrics_family(w, name, METRICS_COUNTER, help);
    metrics_int(w, (int64_t)value);
}

static void timestamp(struct metrics_writer *w, const char *name, const char *help, int64_t wall_ns)
{
    metrics_family(w, name, METRICS_GAUGE, help);
    metrics_seconds(w, wall_ns);
}

static void by_direction(struct metrics_writer *w, const char *name, const char *help,
                         const uint64_t values[static 2])
{
    metrics_family(w, name, METRICS_COUNTER, help);
    for (unsigned d = 0; d < 2; d++)
        metrics_int(w, (int64_t)values[d], {"direction", directions[d]});
}

static void write_health(const struct agent *a, struct metrics_writer *w)
{
    enum health_status status = health_status(&a->health, clock_mono_ms());
    metrics_family(w, "kbgp_build_info", METRICS_GAUGE, "The program's version.");
    metrics_int(w, 1, {"version", KBGP_VERSION}, {"revision", KBGP_REVISION});
    metrics_family(w, "kbgp_health_status", METRICS_GAUGE, "What /hc says: 1 for the status that holds.");
    for (unsigned i = 0; i < HEALTH_STATUSES; i++)
        metrics_int(w, i == status, {"kbgp_health_status", health_status_name(i)});
    bool listening = !a->stopping && a->n_listeners == a->config->n_listeners;
    gauge(w, "kbgp_ready", "Whether routers are served: listening, and the target has let Control in.",
          listening && control_stats(a->host.control)->connected);
}

static void write_control(const struct agent *a, struct metrics_writer *w)
{
    const struct control_stats *s = control_stats(a->host.control);
    static const struct {
        const char *direction, *kind;
    } kinds[CONTROL_KINDS] = {
        [CONTROL_TX_REQUEST] = {"sent", "request"},         [CONTROL_TX_KEEPALIVE] = {"sent", "keepalive"},
        [CONTROL_RX_ANSWER] = {"received", "answer"},       [CONTROL_RX_PUSH] = {"received", "push"},
        [CONTROL_RX_KEEPALIVE] = {"received", "keepalive"}, [CONTROL_RX_UNUSABLE] = {"received", "unusable"},
    };
    gauge(w, "kbgp_control_connected", "Whether the Control stream is up.", s->connected);
    timestamp(w, "kbgp_control_connected_timestamp_seconds",
              "Since when the Control stream is up; 0: it is not.", s->connected ? s->since_wall_ns : 0);
    metrics_family(w, "kbgp_control_messages_total", METRICS_COUNTER, "Messages on the Control stream.");
    for (unsigned i = 0; i < CONTROL_KINDS; i++)
        metrics_int(w, (int64_t)s->messages[i], {"direction", kinds[i].direction}, {"kind", kinds[i].kind});
    metrics_family(w, "kbgp_control_reconnects_total", METRICS_COUNTER,
                   "Why the Control stream had to be opened again.");
    for (unsigned i = 0; i < CONTROL_RECONNECTS; i++)
        metrics_int(w, (int64_t)s->reconnects[i], {"reason", control_reconnect_name(i)});
    metrics_family(w, "kbgp_control_lookup_seconds", METRICS_HISTOGRAM,
                   "From a question about a device to the target's answer.");
    metrics_histogram(w, &s->lookup);
    metrics_family(w, "kbgp_heartbeat_rtt_seconds", METRICS_HISTOGRAM,
                   "From a KEEPALIVE on Control to its answer.");
    metrics_histogram(w, &s->heartbeat_rtt);
    timestamp(w, "kbgp_heartbeat_received_timestamp_seconds",
              "The last KEEPALIVE of the target; 0: none yet.", s->heartbeat_rx_wall_ns);
}

static void write_cache(const struct agent *a, struct metrics_writer *w)
{
    const struct answers *answers = control_answers(a->host.control);
    uint64_t allow, block;
    answers_count(answers, clock_mono_ms(), &allow, &block);
    metrics_family(w, "kbgp_control_cache_entries", METRICS_GAUGE, "Answers about devices that are held.");
    metrics_int(w, (int64_t)allow, {"answer", "allow"});
    metrics_int(w, (int64_t)block, {"answer", "block"});
    counter(w, "kbgp_control_cache_hits_total", "Connections that an answer held was used for.",
            answers->hits);
    counter(w, "kbgp_control_cache_misses_total", "Connections that the target had to be asked about.",
            answers->misses);
}

static void write_connections(const struct agent *a, struct metrics_writer *w)
{
    static const char *const states[] = {[GRPC_CHANNEL_CONNECTING] = "connecting",
                                         [GRPC_CHANNEL_READY] = "ready",
                                         [GRPC_CHANNEL_BACKOFF] = "backoff",
                                         [GRPC_CHANNEL_DRAINING] = "draining"};
    const struct grpc_channel *control = control_channel(a->host.control);
    const struct grpc_channel_stats *s = &a->channel_stats;
    struct uplink_stats data = uplink_stats(a->host.uplink);
    data.connections[grpc_channel_state(control)]++;
    metrics_family(w, "kbgp_connections", METRICS_GAUGE,
                   "HTTP/2 connections to the target, Control's included.");
    for (unsigned i = 0; i < sizeof states / sizeof states[0]; i++)
        metrics_int(w, data.connections[i], {"state", states[i]});
    counter(w, "kbgp_connection_attempts_total", "Attempts to connect to the target.", s->attempts);
    metrics_family(w, "kbgp_connection_failures_total", METRICS_COUNTER,
                   "Attempts that failed, by the step that did.");
    for (unsigned i = 0; i < GRPC_FAILURES; i++)
        metrics_int(w, (int64_t)s->failures[i], {"stage", grpc_channel_failure_name(i)});
    metrics_family(w, "kbgp_connections_lost_total", METRICS_COUNTER, "Connections that were up and ended.");
    for (unsigned i = 0; i < GRPC_END_LOCAL; i++)
        metrics_int(w, (int64_t)s->lost[i], {"reason", grpc_conn_end_name(i)});

    int64_t rtt = grpc_channel_rtt_ns(control), expiry = grpc_channel_tls_expiry(control);
    metrics_family(w, "kbgp_connection_rtt_seconds", METRICS_GAUGE,
                   "Round trip to the target by HTTP/2 PING, smoothed; the longest of the data connections.");
    if (rtt != 0)
        metrics_seconds(w, rtt, {"channel", "control"});
    if (data.rtt_ns != 0)
        metrics_seconds(w, data.rtt_ns, {"channel", "data"});
    if (data.tls_expiry != 0 && (expiry == 0 || data.tls_expiry < expiry))
        expiry = data.tls_expiry;
    metrics_family(w, "kbgp_tls_peer_certificate_expiry_timestamp_seconds", METRICS_GAUGE,
                   "When the first certificate of the chains in use expires; nothing without TLS.");
    if (expiry != 0)
        metrics_int(w, expiry);
}

static void write_sessions(const struct agent *a, struct metrics_writer *w)
{
    const struct device_host *h = &a->host;
    uint32_t phases[DEVICE_PHASES] = {0};
    LIST_FOREACH (node, &h->devices)
        phases[device_phase(LIST_ITEM(node, const struct device, node))]++;
    metrics_family(w, "kbgp_sessions", METRICS_GAUGE, "Routers' connections.");
    for (unsigned i = 0; i < DEVICE_PHASES; i++)
        metrics_int(w, phases[i], {"state", device_phase_name(i)});
    counter(w, "kbgp_sessions_accepted_total", "Connections accepted from routers.", h->stats.accepted);
    metrics_family(w, "kbgp_sessions_refused_total", METRICS_COUNTER,
                   "Connections closed before they were relayed.");
    metrics_int(w, (int64_t)h->stats.refused_blocked, {"reason", "blocked"});
    metrics_int(w, (int64_t)h->stats.refused_timeout, {"reason", "control_timeout"});
    metrics_int(w, (int64_t)h->stats.refused_limit, {"reason", "limit"});
    metrics_int(w, (int64_t)h->stats.refused_md5, {"reason", "md5"});
    metrics_family(w, "kbgp_sessions_closed_total", METRICS_COUNTER, "Sessions that ended, by how.");
    for (unsigned i = 0; i < ENDING_CAUSES; i++)
        metrics_int(w, (int64_t)h->stats.closed[i], {"cause", ending_cause_name(i)});
    counter(w, "kbgp_data_streams_opened_total", "Data calls opened.", h->stats.streams_opened);
    counter(w, "kbgp_data_streams_lost_total", "Data calls that broke while their session went on.",
            h->stats.streams_lost);
    counter(w, "kbgp_session_resumes_total", "Sessions that went on over another Data call.",
            h->stats.resumed);
    metrics_family(w, "kbgp_session_resume_failures_total", METRICS_COUNTER,
                   "Sessions that could not go on.");
    metrics_int(w, (int64_t)h->stats.counters_differed, {"reason", "counters"});
    metrics_int(w, (int64_t)h->stats.closed[ENDING_UNDELIVERABLE], {"reason", "undeliverable"});
}

static void write_relay(const struct agent *a, struct metrics_writer *w)
{
    const struct bridge_pool *pool = &a->host.pool;
    struct arena_usage mem = arena_usage(pool->arena);
    by_direction(w, "kbgp_relayed_bytes_total", "Bytes of BGP sessions: up from the routers, down to them.",
                 pool->bytes);
    by_direction(w, "kbgp_relayed_messages_total", "DataRequests (up) and DataResponses (down).",
                 pool->messages);
    metrics_family(w, "kbgp_relay_paused_seconds_total", METRICS_COUNTER,
                   "How long sessions stood still because the next hop took nothing, all in sum.");
    for (unsigned d = 0; d < 2; d++)
        metrics_seconds(w, (int64_t)bridge_pool_paused_ms(pool, d) * NS_PER_MS, {"direction", directions[d]});
    metrics_family(w, "kbgp_ring_bytes", METRICS_GAUGE, "Memory for bytes on their way.");
    metrics_int(w, (int64_t)mem.blocks_used * ARENA_BLOCK, {"state", "used"});
    metrics_int(w, (int64_t)mem.blocks_kept * ARENA_BLOCK, {"state", "kept"});
    gauge(w, "kbgp_ring_limit_bytes", "The most of it there may be.", (int64_t)mem.blocks_max * ARENA_BLOCK);
}

static void write_md5(const struct agent *a, struct metrics_writer *w)
{
    if (!a->config->md5)
        return;
    struct md5_stats s = md5_stats(a->host.md5);
    gauge(w, "kbgp_md5_keys", "TCP-MD5 keys installed.", (int64_t)s.keys);
    metrics_family(w, "kbgp_md5_key_failures_total", METRICS_COUNTER,
                   "TCP-MD5 keys that could not be installed; nomem: net.core.optmem_max is used up.");
    metrics_int(w, (int64_t)s.key_nomem, {"reason", "nomem"});
    metrics_int(w, (int64_t)s.key_other, {"reason", "other"});
    counter(w, "kbgp_md5_syns_total", "Signed SYNs seen, those sent again included.", s.syns);
    metrics_family(w, "kbgp_md5_lookups_total", METRICS_COUNTER,
                   "Signed SYNs of devices without a key: asked about, or left alone in a flood.");
    metrics_int(w, (int64_t)s.asked, {"result", "asked"});
    metrics_int(w, (int64_t)s.not_asked, {"result", "limited"});
    counter(w, "kbgp_md5_capture_dropped_total", "SYNs that came faster than they could be looked at.",
            s.capture_dropped);
    metrics_family(
        w, "kbgp_md5_kernel_failures_total", METRICS_COUNTER,
        "Segments that the kernel dropped since boot: unsigned (not_found), signed where there is no key "
        "(unexpected), signed with another key (failure).");
    metrics_int(w, (int64_t)s.kernel.not_found, {"reason", "not_found"});
    metrics_int(w, (int64_t)s.kernel.unexpected, {"reason", "unexpected"});
    metrics_int(w, (int64_t)s.kernel.failure, {"reason", "failure"});
}

static void write_program(const struct agent *a, struct metrics_writer *w)
{
    metrics_family(w, "kbgp_loop_lag_seconds", METRICS_GAUGE,
                   "The worst delay of the event loop in the last 5 s.");
    metrics_seconds(w, loop_lag_ms(a->loop) * NS_PER_MS);
    metrics_family(w, "kbgp_log_messages_total", METRICS_COUNTER, "Log records written.");
    for (enum log_level level = LOG_LEVEL_DEBUG; level <= LOG_LEVEL_ERROR; level++)
        metrics_int(w, (int64_t)log_count(level), {"level", log_level_name(level)});
    export_metrics(a->export, w);
    metrics_process(w);
}

void agent_metrics(struct agent *a, struct metrics_writer *w)
{
    write_health(a, w);
    write_control(a, w);
    write_cache(a, w);
    write_connections(a, w);
    write_sessions(a, w);
    write_relay(a, w);
    write_md5(a, w);
    write_program(a, w);
    if (a->host.keep_records)
        agent_device_metrics(a, w);
}

void pages_metrics(void *arg, const struct api_request *q, struct api_response *r)
{
    struct metrics_writer w;
    (void)q;
    r->content_type = METRICS_CONTENT_TYPE;
    metrics_init(&w, &r->body);
    agent_metrics(arg, &w);
    if (w.failed)
        r->status = 500;
}
