#include "agent/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "bridge/tcp_end.h"

/* After UNAUTHENTICATED on Data: Control will say what is wrong; asking faster does not help. */
#define REJECTED_RETRY_MS 60000
/* So many RESTARTs of calls younger than GRPC_HEALTHY_MS are followed without a wait. */
#define QUICK_RESTARTS_MAX 16

static void ask(struct device *d);
static void take_seat(struct device *d);
static void open_call(struct device *d);

/* --- logs: the fields that name a connection --- */

struct names {
    char peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX], label[192];
};

const char *device_label(const struct device *d, char out[static 192])
{
    snprintf(out, 192, "%u:%s:%u-%s", d->company_id, d->name ? d->name : "", d->device_id,
             d->peer.family == 6 ? "ipv6" : "ipv4");
    return out;
}

static struct names names_of(const struct device *d)
{
    struct names n;
    addr_text(&d->peer, n.peer);
    addr_text(&d->local, n.local);
    device_label(d, n.label);
    return n;
}

#define MODULE LOG_STR("module", "proxy/client-data")
#define WHO(d, n)                                                                                            \
    LOG_STR("device", (n).label), LOG_STR("local-addr", (n).local), MODULE, LOG_STR("peer-addr", (n).peer),  \
        LOG_STR("session-id", (d)->session_id.text)

/* --- how it stands --- */

enum device_phase device_phase(const struct device *d)
{
    const struct session *s = d->bridge ? bridge_session(d->bridge) : NULL;
    if (s && (s->tcp_eof || s->peer_done))
        return DEVICE_CLOSING;
    if (d->state == DEVICE_RELAYING)
        return DEVICE_ACTIVE;
    return d->streams == 0 ? DEVICE_WAITING : DEVICE_RESUMING;
}

const char *device_phase_name(enum device_phase phase)
{
    static const char *const names[DEVICE_PHASES] = {[DEVICE_WAITING] = "waiting",
                                                     [DEVICE_ACTIVE] = "active",
                                                     [DEVICE_RESUMING] = "resuming",
                                                     [DEVICE_CLOSING] = "closing"};
    return names[phase];
}

struct record_session device_carried(const struct device *d)
{
    const struct session *s = bridge_session(d->bridge);
    return (struct record_session){.bytes = {s->sent.bytes, s->received.bytes}, .seen = &s->seen};
}

/* --- life --- */

static void end_lookup(struct device *d)
{
    if (d->lookup)
        control_forget_lookup(d->host->control, d->lookup);
    free(d->lookup);
    d->lookup = NULL;
}

static void device_free(struct device *d)
{
    struct device_host *h = d->host;
    list_remove(&d->node);
    if (d->record) {
        struct record_session carried = device_carried(d);
        records_end(&h->records, d->record, &carried);
    }
    if (d->bridge)
        map_remove(&h->by_ip, &d->by_ip);
    h->count--;
    end_lookup(d);
    uplink_leave(h->uplink, &d->seat);
    bridge_free(d->bridge);
    if (d->fd >= 0)
        close(d->fd);
    loop_timer_free(d->retry);
    kv_free(&d->server_metadata);
    kv_free(&d->extra);
    free(d->name);
    free(d);
}

/* --- ASKING --- */

static void log_denied(const struct device *d, const struct control_response *r)
{
    char ip[ADDR_TEXT_MAX];
    struct names n = names_of(d);
    log_info("Deny-listed an INVALID / UNKNOWN device", LOG_STR("component", "proxy/client-data"),
             LOG_STR("device_ip", addr_ip_text(&d->peer, ip)), LOG_STR("local-addr", n.local),
             LOG_STR("peer-addr", n.peer), LOG_STR("sessid", d->session_id.text),
             LOG_NUM("ttl_counter", r->ttl_counter), LOG_NUM("ttl_seconds", r->ttl_seconds));
}

static void remember_answer(struct device *d, const struct control_response *r)
{
    d->company_id = r->company_id;
    d->device_id = r->device_id;
    free(d->name);
    d->name = strdup(r->device_name);
    kv_free(&d->extra);
    kv_add_all(&d->extra, &r->metadata);
    kv_trim(&d->extra);
}

static const struct bridge_ops bridge_ops;

/* The wire knows no zones. */
static struct addr wire_addr(const struct addr *a)
{
    struct addr bare = *a;
    bare.scope = 0;
    return bare;
}

/* Allowed: a session comes to be. False: it could not, and the device is gone. */
static bool begin_session(struct device *d, const struct control_response *r)
{
    struct device_host *h = d->host;
    struct err e;
    struct addr proxy = wire_addr(&d->local);
    d->bridge = bridge_new(&h->pool, SESSION_AGENT, &d->session_id, &d->peer, &proxy, &bridge_ops, d);
    if (!d->bridge || !map_insert(&h->by_ip, &d->by_ip, addr_ip_hash(&d->peer, h->seed))) {
        struct names n = names_of(d);
        log_warn("too many sessions, refusing a connection", LOG_STR("peer-addr", n.peer),
                 LOG_NUM("limit", DEVICE_SESSIONS_MAX));
        h->stats.refused_limit++;
        bridge_free(d->bridge);
        d->bridge = NULL;
        device_free(d);
        return false;
    }
    int fd = d->fd;
    d->fd = -1;
    tcp_end_bgp_accepted(fd, d->peer.family);
    struct bridge_local *end = tcp_end_new(d->bridge, fd, &e);
    if (!end) {
        log_error("cannot take a connection", LOG_STR("error", e.text));
        device_free(d);
        return false;
    }
    if (h->keep_records)
        d->record = records_begin(&h->records, &d->peer, r, d->accepted_wall_ns);
    /* A router speaks first, and while the target was asked its OPEN has come: it goes with the call's headers. */
    if (d->waited)
        tcp_end_read_now(end);
    return true;
}

static void take_seat(struct device *d)
{
    d->state = DEVICE_SEATING;
    if (!uplink_seat_good(&d->seat)) {
        uplink_leave(d->host->uplink, &d->seat);
        uplink_take(d->host->uplink, &d->seat);
    }
    if (uplink_is_up(&d->seat))
        open_call(d);
}

static void kill_session(struct device *d, const char *reason)
{
    d->kill_reason = reason;
    session_kill(bridge_session(d->bridge));
    bridge_kick(d->bridge);
}

static void verdict(struct device *d, enum control_verdict v, const struct control_response *r)
{
    struct device_host *h = d->host;
    struct names n;
    switch (v) {
    case CONTROL_ALLOW:
        if (!d->bridge && !md5_admits(h->md5, &d->peer, d->fd, &d->md5_id, r)) {
            h->stats.refused_md5++;
            break;
        }
        remember_answer(d, r);
        if (d->bridge || begin_session(d, r))
            take_seat(d);
        return;
    case CONTROL_BLOCK:
        log_denied(d, r);
        /* fall through */
    case CONTROL_BLOCK_QUIET:
        h->stats.refused_blocked++;
        break;
    case CONTROL_NO_ANSWER:
        n = names_of(d);
        log_warn("the target did not say whether the device is allowed, refusing the connection",
                 LOG_STR("peer-addr", n.peer), LOG_STR("local-addr", n.local),
                 LOG_STR("sessid", d->session_id.text), LOG_NUM("timeout-ms", CONTROL_LOOKUP_MS));
        h->stats.refused_timeout++;
        break;
    case CONTROL_FULL:
        /* Without the connection's address: so that a flood of them is a few lines and a count. */
        log_warn("too many connections wait for the target's answer, refusing more",
                 LOG_NUM("limit-devices", CONTROL_LOOKUPS_MAX),
                 LOG_NUM("limit-connections", CONTROL_WAITERS_MAX));
        h->stats.refused_limit++;
        break;
    }
    /* Asked about again after PERMISSION_DENIED: a session that has lived gets its line about the end. */
    if (d->bridge)
        kill_session(d, v == CONTROL_BLOCK || v == CONTROL_BLOCK_QUIET
                            ? "the target denied the device"
                            : "the target did not say whether the device is still allowed");
    else
        device_free(d);
}

static void on_answer(void *arg, enum control_verdict v, const struct control_response *r)
{
    struct device *d = arg;
    d->waited = true;
    end_lookup(d);
    verdict(d, v, r);
}

static void ask(struct device *d)
{
    enum control_verdict v = CONTROL_FULL;
    const struct control_response *r = NULL;
    d->state = DEVICE_ASKING;
    d->denied_again = false;
    d->lookup = calloc(1, sizeof *d->lookup);
    if (d->lookup) {
        list_init(&d->lookup->node);
        d->lookup->device = d->peer;
        d->lookup->proxy = wire_addr(&d->local);
        d->lookup->done = on_answer;
        d->lookup->arg = d;
        if (!control_ask(d->host->control, d->lookup, &v, &r))
            return;
    }
    end_lookup(d);
    verdict(d, v, r);
}

/* --- SEATING, RELAYING, RETRYING --- */

static void on_retry(void *arg)
{
    struct device *d = arg;
    if (d->denied_again)
        ask(d);
    else
        take_seat(d);
}

static void retry_later(struct device *d, int64_t ms)
{
    d->state = DEVICE_RETRYING;
    if (!d->retry)
        d->retry = loop_timer_new(d->host->loop, on_retry, d);
    loop_timer_start(d->retry, ms, 0);
}

static void log_opening(const struct device *d, const struct kv *metadata)
{
    if (!log_enabled(LOG_LEVEL_INFO))
        return;
    struct names n = names_of(d);
    struct kv shown = meta_redacted(metadata);
    log_info("opening Data stream", LOG_PAIRS("client-metadata", &shown), WHO(d, n));
    kv_free(&shown);
}

static void open_call(struct device *d)
{
    struct kv metadata = {0};
    unsigned left_out;
    char left_out_key[64];
    struct grpc_call *call = NULL;
    if (bridge_session(d->bridge)->in.len > SESSION_REOPEN_MAX) {
        retry_later(d, BACKOFF_FIRST_MS); /* the router has not taken yet what the last call brought */
        return;
    }
    kv_free(&d->server_metadata);
    d->connected = false;
    if (meta_data(&metadata, &d->host->meta, bridge_session(d->bridge), &d->extra, &left_out, left_out_key))
        call = uplink_call(&d->seat, META_PATH_DATA, &metadata, &bridge_call_ops, d->bridge);
    if (call) {
        log_opening(d, &metadata);
        if (left_out > 0) {
            struct names n = names_of(d);
            log_warn("metadata from the target is not fit for a call, left out", LOG_NUM("count", left_out),
                     LOG_STR("key", left_out_key), WHO(d, n));
        }
        d->state = DEVICE_RELAYING;
        d->streams++;
        d->host->stats.streams_opened++;
        bridge_attach(d->bridge, call);
    } else if (uplink_is_up(&d->seat) && !uplink_seat_good(&d->seat)) {
        take_seat(d); /* the server takes fewer calls on this connection than sit here */
    } else {
        retry_later(d, backoff_next(&d->backoff, random_u64()));
    }
    kv_free(&metadata);
}

static void on_seat_up(struct uplink_seat *seat)
{
    struct device *d = LIST_ITEM(seat, struct device, seat);
    if (d->state == DEVICE_SEATING)
        open_call(d);
}

static void on_seat_draining(struct uplink_seat *seat)
{
    struct device *d = LIST_ITEM(seat, struct device, seat);
    if (!bridge_has_call(d->bridge))
        return; /* the next call takes another seat anyway */
    session_restart(bridge_session(d->bridge));
    bridge_kick(d->bridge);
}

const struct uplink_ops device_uplink_ops = {.up = on_seat_up, .draining = on_seat_draining};

/* --- what the bridge tells --- */

static void on_metadata(void *arg, const struct kv *metadata)
{
    struct device *d = arg;
    d->connected = true;
    d->connected_wall_ns = clock_wall_ns();
    d->connected_ms = clock_mono_ms();
    kv_free(&d->server_metadata);
    kv_add_all(&d->server_metadata, metadata);
    kv_trim(&d->server_metadata);
    struct session *s = bridge_session(d->bridge);
    struct session_counters theirs = meta_read_counters(metadata);
    d->host->stats.resumed += d->streams > 1;
    if (!session_peer_counters(s, &theirs)) {
        d->kill_reason = "the target counts other messages than we do: bytes were lost";
        d->host->stats.counters_differed++;
        struct names n = names_of(d);
        log_warn("the target counts other messages than we do: bytes were lost, killing the session",
                 WHO(d, n), LOG_NUM("counter-up", s->sent_before.messages),
                 LOG_NUM("counter-down", s->received_before.messages),
                 LOG_NUM("target-counter-up", theirs.up), LOG_NUM("target-counter-down", theirs.down));
    }
}

static void on_call_lost(void *arg, const struct grpc_status *status)
{
    struct device *d = arg;
    struct names n = names_of(d);
    if (d->connected && clock_mono_ms() - d->connected_ms >= GRPC_HEALTHY_MS)
        backoff_reset(&d->backoff);
    d->connected = false;
    d->host->stats.streams_lost++;
    int64_t wait = 0;
    if (status->code == GRPC_PERMISSION_DENIED) {
        control_forget(d->host->control, &d->peer);
        d->denied_again = true;
        wait = backoff_next(&d->backoff, random_u64());
    } else if (status->code == GRPC_UNAUTHENTICATED) {
        wait = REJECTED_RETRY_MS;
    } else if (uplink_is_up(&d->seat) || !uplink_seat_good(&d->seat)) {
        wait = backoff_next(&d->backoff, random_u64());
    }
    log_warn("Data stream lost, the router's connection stays", WHO(d, n),
             LOG_STR("grpc-status", grpc_code_name(status->code)), LOG_STR("grpc-message", status->message),
             LOG_NUM("retry-ms", wait));
    if (wait > 0)
        retry_later(d, wait);
    else
        d->state = DEVICE_SEATING; /* goes on as soon as the connection is back */
}

static void on_reopen(void *arg)
{
    struct device *d = arg;
    /* A RESTART is answered at once; a target that does nothing else is not followed in a tight loop. */
    if (d->connected && clock_mono_ms() - d->connected_ms >= GRPC_HEALTHY_MS) {
        d->quick_restarts = 0;
        backoff_reset(&d->backoff);
    }
    if (d->quick_restarts < QUICK_RESTARTS_MAX) {
        d->quick_restarts++;
        take_seat(d);
    } else {
        retry_later(d, backoff_next(&d->backoff, random_u64()));
    }
}

/* What a direction says in the line about a session's end. */
struct side_fields {
    char text[BGP_WATCH_TEXT_MAX];
    const char *notification; /* NULL: none */
    int64_t silent_ms;        /* -1: it never said anything */
};

static void side_fields(struct side_fields *f, const struct bgp_watch *seen,
                        const struct bgp_watch_side *side, int64_t now)
{
    f->notification = bgp_watch_notification_text(seen, side, f->text);
    f->silent_ms = side->message.mono_ms == 0 ? -1 : now - side->message.mono_ms;
}

/* The one line about a session's end: who, why, how long, how much. Does not free it. */
static void log_ended(struct device *d, const struct ending *e)
{
    d->host->stats.closed[e->cause]++;
    if (!log_enabled(LOG_LEVEL_INFO))
        return;
    const struct session *s = bridge_session(d->bridge);
    const struct bgp_watch *seen = &s->seen;
    struct names n = names_of(d);
    struct side_fields up, down;
    int64_t now = clock_mono_ms();
    int64_t established = seen->established.mono_ms == 0 ? 0 : now - seen->established.mono_ms;
    side_fields(&up, seen, &seen->out, now);
    side_fields(&down, seen, &seen->in, now);
    log_info("session ended", WHO(d, n), LOG_STR("ended-by", ending_by_name(e->by)),
             LOG_STR("reason", e->reason), LOG_STR("cause", ending_cause_name(e->cause)),
             LOG_NUM("duration-ms", now - d->accepted_ms), LOG_NUM("established-ms", established),
             LOG_NUM("bytes-up", s->sent.bytes), LOG_NUM("bytes-down", s->received.bytes),
             LOG_NUM("messages-up", s->sent.messages), LOG_NUM("messages-down", s->received.messages),
             LOG_NUM("bgp-messages-up", bgp_watch_messages(&seen->out)),
             LOG_NUM("bgp-messages-down", bgp_watch_messages(&seen->in)),
             LOG_STR("notification-up", up.notification), LOG_STR("notification-down", down.notification),
             LOG_NUM("hold-time", bgp_watch_hold_time(seen)), LOG_NUM("silent-up-ms", up.silent_ms),
             LOG_NUM("silent-down-ms", down.silent_ms), LOG_NUM("streams", d->streams));
}

static void on_over(void *arg, enum session_todo how)
{
    struct device *d = arg;
    struct device_host *h = d->host;
    struct ending e;
    /* What is known of the device goes with a KILL; but a block, pushed just now perhaps, is why it was killed. */
    if (how == SESSION_ABORT && !control_blocked(h->control, &d->peer)) {
        control_forget(h->control, &d->peer);
        md5_killed(h->md5, &d->peer);
    }
    ending_of(&e, bridge_session(d->bridge), how, h->stopping, d->kill_reason, clock_mono_ms());
    log_ended(d, &e);
    device_free(d);
}

static const struct bridge_ops bridge_ops = {
    .metadata = on_metadata, .call_lost = on_call_lost, .reopen = on_reopen, .over = on_over};

/* --- from outside --- */

void device_accept(struct device_host *h, int fd, const struct addr *peer, const struct addr *local,
                   uint64_t md5_id)
{
    h->stats.accepted++;
    /* A denied device costs a look into a table and a close, nothing else. */
    struct addr bare = wire_addr(peer); /* so for answers, too; `local` says the interface */
    if (control_refuses(h->control, &bare)) {
        h->stats.refused_blocked++;
        close(fd);
        return;
    }
    struct device *d = h->stopping ? NULL : calloc(1, sizeof *d);
    if (!d) {
        close(fd);
        return;
    }
    d->host = h;
    d->fd = fd;
    d->md5_id = md5_id;
    d->peer = bare;
    d->local = *local;
    d->session_id = uuid_v4();
    d->accepted_wall_ns = clock_wall_ns();
    d->accepted_ms = clock_mono_ms();
    list_init(&d->seat.node);
    list_append(&h->devices, &d->node);
    h->count++;
    ask(d);
}

bool device_answered(struct device_host *h, const struct control_response *r)
{
    if (r->action != CONTROL_BLOCK_IP)
        return false;
    uint64_t hash = addr_ip_hash(&r->device, h->seed);
    bool logged = false;
    for (struct map_node *node = map_find(&h->by_ip, hash); node; node = map_find_next(node)) {
        struct device *d = MAP_ITEM(node, struct device, by_ip);
        if (!addr_same_ip(&d->peer, &r->device))
            continue;
        if (!logged)
            log_denied(d, r);
        logged = true;
        kill_session(d, "the target denied the device");
    }
    return logged;
}

/* A key that does not go onto one session's socket ends that session by itself: the router signs with another one. */
static void warn_key(const struct device *d, const struct err *e)
{
    struct names n = names_of(d);
    log_warn("TCP-MD5 key of a session cannot be changed, the session will end", WHO(d, n),
             LOG_STR("error", e->text));
}

uint32_t device_rekey(struct device_host *h, const struct keyring_entry *entry)
{
    uint32_t count = 0;
    struct err e;
    uint64_t hash = addr_ip_hash(&entry->device, h->seed);
    for (struct map_node *node = map_find(&h->by_ip, hash); node; node = map_find_next(node)) {
        struct device *d = MAP_ITEM(node, struct device, by_ip);
        int fd = addr_same_ip(&d->peer, &entry->device) ? bridge_local_fd(d->bridge) : -1;
        if (fd < 0)
            continue;
        if (!tcpmd5_set(fd, &d->peer, entry->key, entry->len, &e))
            warn_key(d, &e);
        d->md5_id = entry->id;
        count++;
    }
    return count;
}

uint32_t device_unkey(struct device_host *h, const struct addr *device)
{
    uint32_t count = 0;
    struct err e;
    uint64_t hash = addr_ip_hash(device, h->seed);
    for (struct map_node *node = map_find(&h->by_ip, hash); node; node = map_find_next(node)) {
        struct device *d = MAP_ITEM(node, struct device, by_ip);
        int fd = addr_same_ip(&d->peer, device) ? bridge_local_fd(d->bridge) : -1;
        if (fd < 0 || d->md5_id == 0)
            continue;
        if (!tcpmd5_remove(fd, &d->peer, &e))
            warn_key(d, &e);
        d->md5_id = 0;
        count++;
    }
    return count;
}

/* The target takes no more bytes, not even the KILL: the broken stream tells it as well. */
static void cut_killed(struct device *d)
{
    struct ending e = {.by = ENDING_BY_AGENT, .cause = ENDING_AGENT_KILL};
    snprintf(e.reason, sizeof e.reason, "the session was to be killed, and the target did not take the KILL");
    log_ended(d, &e);
    device_free(d);
}

void device_tick(struct device_host *h)
{
    int64_t now = clock_mono_ms();
    /* Looking at thousands of sessions for nothing costs what their keepalives do: they are not in the cache. */
    if (h->pool.ending == 0)
        return;
    LIST_FOREACH (node, &h->devices) {
        struct device *d = LIST_ITEM(node, struct device, node);
        if (!d->bridge)
            continue;
        if (d->kill_ms == 0 && bridge_session(d->bridge)->kill_due)
            d->kill_ms = now;
        if (d->kill_ms != 0 && now - d->kill_ms > DEVICE_KILL_MS) {
            cut_killed(d);
            continue;
        }
        if (!bridge_session(d->bridge)->tcp_eof)
            continue;
        if (d->eof_ms == 0)
            d->eof_ms = now;
        if (now - d->eof_ms < DEVICE_GIVE_UP_MS)
            continue;
        struct names n = names_of(d);
        log_warn("the router has gone and the target cannot be told, giving the session up", WHO(d, n),
                 LOG_NUM("bytes-lost", bridge_session(d->bridge)->out.len));
        struct ending e = {.by = ENDING_BY_ROUTER, .cause = ENDING_UNDELIVERABLE};
        snprintf(e.reason, sizeof e.reason,
                 "the router closed the connection, and the target could not be told within %d s",
                 DEVICE_GIVE_UP_MS / 1000);
        log_ended(d, &e);
        device_free(d);
    }
}

/* The agent stops and does not wait for this one. */
static void cut(struct device *d)
{
    struct ending e;
    if (d->bridge) {
        ending_of(&e, bridge_session(d->bridge), SESSION_CLOSE, true, NULL, clock_mono_ms());
        log_ended(d, &e);
    }
    device_free(d);
}

void device_stop_all(struct device_host *h)
{
    h->stopping = true;
    LIST_FOREACH (node, &h->devices) {
        struct device *d = LIST_ITEM(node, struct device, node);
        if (d->bridge && bridge_has_call(d->bridge))
            bridge_eof(d->bridge);
        else
            cut(d);
    }
}

void device_free_all(struct device_host *h)
{
    while (!list_empty(&h->devices))
        cut(LIST_ITEM(h->devices.next, struct device, node));
    map_free(&h->by_ip);
    records_free(&h->records);
}
