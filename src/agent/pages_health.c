#include "agent/pages.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "daemon/api_json.h"
#include "daemon/bgp_json.h"

/* /hc: health.c decides, here it gets its facts. */

static bool is_listening(int fd)
{
    int on = 0;
    socklen_t len = sizeof on;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

void agent_check_health(struct agent *a, bool due)
{
    if (!a->host.control)
        return;
    const struct control_stats *s = control_stats(a->host.control);
    struct arena_usage mem = arena_usage(a->host.pool.arena);
    struct health_facts facts = {.stopping = a->stopping,
                                 .connected = s->connected,
                                 .rejected = s->rejected,
                                 .changed_ms = s->since_ms,
                                 .heartbeat_tx_ms = s->heartbeat_tx_ms,
                                 .heartbeat_rx_ms = s->heartbeat_rx_ms,
                                 .heartbeat_waits = s->heartbeat_waits,
                                 .listeners_wanted = (unsigned)a->config->n_listeners,
                                 .api_open = is_listening(api_fd(a->api)),
                                 .memory_is_full = mem.blocks_used >= mem.blocks_max,
                                 .capture_lost = !a->stopping && !md5_healthy(a->host.md5)};
    for (size_t i = 0; i < a->n_listeners; i++)
        facts.listeners_open += is_listening(listener_fd(a->listeners[i]));
    health_run(&a->health, &facts, due, clock_mono_ms(), clock_wall_ns());
}

static json_t *checks_json(const struct health *h, bool md5)
{
    static const char *const words[] = {
        [HEALTH_WAITS] = "waiting: ", [HEALTH_PASSED] = "ok", [HEALTH_FAILED] = "failing: "};
    json_t *checks = json_object();
    for (unsigned i = 0; i < HEALTH_CHECKS; i++)
        if (i != HEALTH_CAPTURE || md5)
            json_object_set_new(checks, health_check_name(i),
                                json_sprintf("%s%s", words[h->results[i]], h->details[i]));
    return checks;
}

void pages_health(void *arg, const struct api_request *q, struct api_response *r)
{
    const struct agent *a = arg;
    enum health_status status = health_status(&a->health, clock_mono_ms());
    if (status != HEALTH_OK)
        r->status = 503;
    int64_t run = a->health.run_wall_ns != 0 ? a->health.run_wall_ns : clock_wall_ns();
    api_respond_json(r,
                     json_pack("{s:o, s:s, s:o}", "timestamp", api_json_time(run), "status",
                               health_status_name(status), "checks", checks_json(&a->health, a->config->md5)),
                     q->pretty);
}
