#include "agent/md5.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/device.h"
#include "agent/options.h"
#include "agent/synwatch.h"
#include "agent/told.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"

/*
 * Questions to Control because of a SYN: so many wait at once (far fewer than CONTROL_LOOKUPS_MAX, so that
 * connections find room, too), and so many are asked a second. More is no set of routers but somebody who
 * makes addresses up; routers send their SYN again.
 */
#define ASKS_MAX        256
#define ASKS_PER_SECOND 200
#define ASKS_BURST      400
/* How often a flood is told of. */
#define FLOOD_AGAIN_MS 60000
/* How often the kernel's counters are looked at. */
#define LOOK_MS 2000
/* Signed SYNs without a connection: this many, and the last one this fresh, and the key may be a wrong one.
 */
#define WRONG_SYNS   2u
#define WRONG_SYN_MS (5 * LOOK_MS)
#define SAME_SYN_MS  300 /* a SYN seen on several interfaces is one attempt */
#define MODULE       LOG_STR("module", "proxy/md5")

enum told_kind {
    TOLD_OFF,
    TOLD_NO_KEY,
    TOLD_UNSIGNED,
    TOLD_NO_ANSWER,
    TOLD_NOT_INSTALLED,
    TOLD_KERNEL,
    TOLD_FLOOD
};

/* A question to Control. */
struct ask {
    struct list node;
    struct md5 *md5;
    struct control_lookup lookup;
};

struct md5 {
    struct loop *loop;
    struct device_host *host;
    bool on;
    struct keyring keys;
    struct synwatch *watch; /* NULL: off, or stopped */
    struct listener *const *listeners;
    size_t n_listeners;
    struct ask asks[ASKS_MAX];
    struct list idle_asks, busy_asks;
    int64_t tokens, tokens_ms; /* questions that may be asked, in thousandths, as of that time */
    struct told told;
    struct loop_timer *timer;
    struct tcpmd5_failures seen; /* the kernel's counters at the last look */
    struct md5_stats stats;
};

/* --- words --- */

static const char *label_of(const struct control_response *r, char out[static KEYRING_LABEL_MAX])
{
    snprintf(out, KEYRING_LABEL_MAX, "%u:%s:%u-%s", r->company_id, r->device_name, r->device_id,
             r->device.family == 6 ? "ipv6" : "ipv4");
    return out;
}

static bool due(struct md5 *m, const struct addr *device, enum told_kind kind)
{
    return told_due(&m->told, device, kind, kind == TOLD_OFF ? TOLD_FOREVER : TOLD_AGAIN_MS, clock_mono_ms());
}

/* The device's key has changed, or it has connected: what was told before need not hold any more. */
static void tell_anew(struct md5 *m, const struct addr *device)
{
    for (unsigned kind = TOLD_NO_KEY; kind < TOLD_KERNEL; kind++)
        told_forget(&m->told, device, kind);
}

/* --- keys --- */

static void count_failure(struct md5 *m, bool nomem)
{
    if (nomem)
        m->stats.key_nomem++;
    else
        m->stats.key_other++;
}

static void install(struct md5 *m, const struct control_response *r)
{
    char label[KEYRING_LABEL_MAX], ip[ADDR_TEXT_MAX];
    struct err e;
    addr_ip_text(&r->device, ip);
    label_of(r, label);
    enum keyring_result result = keyring_put(&m->keys, &r->device, r->md5, r->md5_len, label, &e);
    const struct keyring_entry *entry = keyring_find(&m->keys, &r->device);
    switch (result) {
    case KEYRING_SAME:
        return;
    case KEYRING_INSTALLED:
    case KEYRING_CHANGED: {
        uint32_t sessions = device_rekey(m->host, entry);
        tell_anew(m, &r->device);
        log_info(result == KEYRING_CHANGED ? "TCP-MD5 key changed" : "TCP-MD5 key installed", MODULE,
                 LOG_STR("device", label), LOG_STR("device_ip", ip), LOG_NUM("sessions", sessions));
        return;
    }
    case KEYRING_NO_MEMORY:
    case KEYRING_FAILED:
        count_failure(m, result == KEYRING_NO_MEMORY);
        if (due(m, &r->device, TOLD_NOT_INSTALLED))
            log_error("TCP-MD5 key cannot be installed, the device cannot connect", MODULE,
                      LOG_STR("device", label), LOG_STR("device_ip", ip), LOG_STR("error", e.text));
    }
}

/* `sessions` too: the router signs no more. Otherwise they are about to be ended, which has to be signed. */
static void remove_key(struct md5 *m, const struct addr *device, bool sessions, const char *why)
{
    struct keyring_entry *entry = keyring_find(&m->keys, device);
    if (!entry)
        return;
    char label[KEYRING_LABEL_MAX], ip[ADDR_TEXT_MAX];
    struct err e;
    memcpy(label, entry->label, sizeof label);
    addr_ip_text(device, ip);
    bool ok = keyring_drop(&m->keys, entry, &e);
    uint32_t n = sessions ? device_unkey(m->host, device) : 0;
    tell_anew(m, device);
    if (ok)
        log_info("TCP-MD5 key removed", MODULE, LOG_STR("device", label), LOG_STR("device_ip", ip),
                 LOG_STR("reason", why), LOG_NUM("sessions", n));
    else
        log_error("TCP-MD5 key cannot be removed from a listener, the device must go on signing", MODULE,
                  LOG_STR("device", label), LOG_STR("device_ip", ip), LOG_STR("reason", why),
                  LOG_STR("error", e.text));
}

void md5_answered(struct md5 *m, const struct control_response *r)
{
    if (!m->on)
        return;
    if (r->action == CONTROL_BLOCK_IP)
        remove_key(m, &r->device, false, "the target denied the device");
    else if (r->md5_len == 0)
        remove_key(m, &r->device, true, "the target has no key for the device any more");
    else
        install(m, r);
}

void md5_killed(struct md5 *m, const struct addr *device)
{
    if (m->on)
        remove_key(m, device, false, "a session of the device was killed");
}

/* --- connections --- */

uint64_t md5_accepted(struct md5 *m, const struct addr *peer, const struct listener *from)
{
    struct addr bare = *peer, *device = &bare;
    bare.scope = 0;
    struct keyring_entry *entry = m->on ? keyring_find(&m->keys, device) : NULL;
    if (!entry || !keyring_signed(entry, listener_emptied_ns(from)))
        return 0;
    entry->syns = 0;
    entry->told_wrong = false;
    tell_anew(m, device);
    return entry->id;
}

bool md5_admits(struct md5 *m, const struct addr *device, int fd, uint64_t *id,
                const struct control_response *answer)
{
    char label[KEYRING_LABEL_MAX], peer[ADDR_TEXT_MAX];
    struct err e;
    if (!m->on && answer->md5_len == 0)
        return true;
    label_of(answer, label);
    addr_text(device, peer);
    if (!m->on) {
        if (due(m, device, TOLD_OFF))
            log_warn("the device has a TCP-MD5 key, but --enable-md5-support is off: letting it in unsigned",
                     MODULE, LOG_STR("device", label), LOG_STR("peer-addr", peer));
        return true;
    }
    const struct keyring_entry *entry = keyring_find(&m->keys, device);
    if (answer->md5_len == 0 && !entry) {
        /* It had a key when it came. */
        if (*id != 0 && !tcpmd5_remove(fd, device, &e))
            log_warn("TCP-MD5 key cannot be removed from a connection", MODULE, LOG_STR("device", label),
                     LOG_STR("peer-addr", peer), LOG_STR("error", e.text));
        *id = 0;
        return true;
    }
    if (!entry || *id == 0) {
        log_warn(
            "a connection without TCP-MD5 from a device that has a key, refusing it", MODULE,
            LOG_STR("device", label), LOG_STR("peer-addr", peer),
            LOG_STR("reason", entry ? "it came before the key was installed" : "the key is not installed"));
        return false;
    }
    if (*id != entry->id && !tcpmd5_set(fd, device, entry->key, entry->len, &e)) {
        log_warn("TCP-MD5 key cannot be changed on a connection, refusing it", MODULE,
                 LOG_STR("device", label), LOG_STR("peer-addr", peer), LOG_STR("error", e.text));
        return false;
    }
    *id = entry->id;
    return true;
}

/* --- SYNs --- */

/* Whether a listener serves this address, and it is one of this host: a router sees SYNs that only pass
 * through, too. */
static bool is_ours(const struct md5 *m, const struct addr *local)
{
    const struct addr any = {.family = local->family};
    bool served = false;
    for (size_t i = 0; i < m->n_listeners && !served; i++) {
        const struct addr *a = listener_addr(m->listeners[i]);
        served = a->family == local->family && a->port == local->port &&
                 (addr_same_ip(a, local) || addr_same_ip(a, &any));
    }
    if (!served)
        return false;
    struct addr probe = *local;
    probe.port = 0;
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(&probe, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ours = fd < 0 || bind(fd, (struct sockaddr *)&ss, len) == 0 || errno != EADDRNOTAVAIL;
    if (fd >= 0)
        close(fd);
    return ours;
}

static bool take_token(struct md5 *m)
{
    int64_t now = loop_now_ms(m->loop), most = ASKS_BURST * 1000;
    m->tokens += (now - m->tokens_ms) * ASKS_PER_SECOND;
    m->tokens_ms = now;
    if (m->tokens > most)
        m->tokens = most;
    if (m->tokens < 1000)
        return false;
    m->tokens -= 1000;
    return true;
}

static void verdict(struct md5 *m, const struct control_lookup *lk, enum control_verdict v,
                    const struct control_response *r)
{
    char label[KEYRING_LABEL_MAX], peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX], ip[ADDR_TEXT_MAX];
    addr_text(&lk->device, peer);
    addr_text(&lk->proxy, local);
    addr_ip_text(&lk->device, ip);
    switch (v) {
    case CONTROL_ALLOW:
        /* A key was installed when the answer came. */
        if (r->md5_len == 0 && due(m, &lk->device, TOLD_NO_KEY))
            log_warn("a router signs its connection (TCP-MD5), but the target has no key for the device: it "
                     "cannot connect",
                     MODULE, LOG_STR("device", label_of(r, label)), LOG_STR("peer-addr", peer),
                     LOG_STR("local-addr", local));
        break;
    case CONTROL_BLOCK:
        /* In a flood the addresses are made up; it has its own line. */
        if (m->tokens < ASKS_BURST * 1000 / 2)
            break;
        log_info("Deny-listed an INVALID / UNKNOWN device", LOG_STR("component", "proxy/md5"),
                 LOG_STR("device_ip", ip), LOG_STR("local-addr", local), LOG_STR("peer-addr", peer),
                 LOG_NUM("ttl_counter", r->ttl_counter), LOG_NUM("ttl_seconds", r->ttl_seconds));
        break;
    case CONTROL_BLOCK_QUIET:
        break;
    case CONTROL_NO_ANSWER:
        if (due(m, &lk->device, TOLD_NO_ANSWER))
            log_warn("a router signs its connection (TCP-MD5), and the target did not say with which key: it "
                     "cannot connect yet",
                     MODULE, LOG_STR("peer-addr", peer), LOG_STR("local-addr", local),
                     LOG_NUM("timeout-ms", CONTROL_LOOKUP_MS));
        break;
    case CONTROL_FULL: /* connections and SYNs by the thousand: the router's next SYN asks again */
        m->stats.not_asked++;
        break;
    }
}

static void put_back(struct ask *ask)
{
    list_remove(&ask->node);
    list_append(&ask->md5->idle_asks, &ask->node);
}

static void on_answer(void *arg, enum control_verdict v, const struct control_response *r)
{
    struct ask *ask = arg;
    put_back(ask);
    verdict(ask->md5, &ask->lookup, v, r);
}

static bool is_asking(const struct md5 *m, const struct addr *device)
{
    for (const struct list *n = m->busy_asks.next; n != &m->busy_asks; n = n->next) {
        const struct ask *ask =
            (const struct ask *)(const void *)((const char *)n - offsetof(struct ask, node));
        if (addr_same_ip(&ask->lookup.device, device))
            return true;
    }
    return false;
}

/* A signed SYN of a device without a key. */
static void ask_control(struct md5 *m, const struct syn *syn)
{
    enum control_verdict v;
    const struct control_response *r;
    if (control_blocked(m->host->control, &syn->device) || is_asking(m, &syn->device) ||
        !is_ours(m, &syn->local))
        return;
    if (list_empty(&m->idle_asks) || !take_token(m)) {
        static const struct addr nobody;
        m->stats.not_asked++;
        if (told_due(&m->told, &nobody, TOLD_FLOOD, FLOOD_AGAIN_MS, clock_mono_ms()))
            log_warn("signed SYNs (TCP-MD5) from too many addresses without a key, not asking the target "
                     "about all",
                     MODULE, LOG_NUM("limit-per-second", ASKS_PER_SECOND), LOG_NUM("limit-waiting", ASKS_MAX),
                     LOG_NUM("not-asked", m->stats.not_asked));
        return;
    }
    m->stats.asked++;
    struct ask *ask = LIST_ITEM(m->idle_asks.next, struct ask, node);
    ask->lookup.device = syn->device;
    ask->lookup.proxy = syn->local;
    ask->lookup.proxy.scope = 0;
    if (control_ask(m->host->control, &ask->lookup, &v, &r)) {
        /* An answer that is held, with a key that did not fit onto the listeners when it came: perhaps it
         * does now. */
        if (v == CONTROL_ALLOW && r->md5_len > 0)
            install(m, r);
        else
            verdict(m, &ask->lookup, v, r);
        return;
    }
    list_remove(&ask->node);
    list_append(&m->busy_asks, &ask->node);
}

static void on_syn(void *arg, const struct syn *seen)
{
    struct md5 *m = arg;
    struct syn bare = *seen, *syn = &bare;
    bare.device.scope = 0; /* neither answers nor the kernel's keys know a zone */
    struct keyring_entry *entry = keyring_find(&m->keys, &syn->device);
    m->stats.syns += syn->md5;
    if (entry && syn->md5) {
        int64_t now = loop_now_ms(m->loop);
        if (entry->syns == 0 || now - entry->syn_ms >= SAME_SYN_MS)
            entry->syns++;
        entry->syn_ms = now;
    } else if (syn->md5) {
        ask_control(m, syn);
    } else if (entry && is_ours(m, &syn->local) && due(m, &syn->device, TOLD_UNSIGNED)) {
        char peer[ADDR_TEXT_MAX], local[ADDR_TEXT_MAX];
        log_warn("a connection without TCP-MD5 from a device that has a key, refusing it", MODULE,
                 LOG_STR("device", entry->label), LOG_STR("peer-addr", addr_text(&syn->device, peer)),
                 LOG_STR("local-addr", addr_text(&syn->local, local)),
                 LOG_STR("reason", "its SYN is not signed"));
    }
}

/* --- what the kernel counts --- */

/* A wrong key looks like a lost packet: told of devices that try in vain while the kernel counts wrong
 * signatures. */
static bool tell_wrong_keys(struct md5 *m)
{
    int64_t now = loop_now_ms(m->loop);
    bool told = false;
    LIST_FOREACH (node, &m->keys.entries) {
        struct keyring_entry *entry = LIST_ITEM(node, struct keyring_entry, node);
        if (entry->syns < WRONG_SYNS || now - entry->syn_ms > WRONG_SYN_MS)
            continue;
        told = true;
        if (entry->told_wrong)
            continue;
        entry->told_wrong = true;
        char ip[ADDR_TEXT_MAX];
        log_warn(
            "a router signs with a TCP-MD5 key that seems to differ from the target's: it cannot connect",
            MODULE, LOG_STR("device", entry->label), LOG_STR("device_ip", addr_ip_text(&entry->device, ip)),
            LOG_NUM("attempts", entry->syns));
    }
    return told;
}

static void on_timer(void *arg)
{
    struct md5 *m = arg;
    static const struct addr nobody;
    struct tcpmd5_failures f;
    if (list_empty(&m->keys.entries) || !tcpmd5_failures(&f))
        return;
    uint64_t failure = f.failure - m->seen.failure, not_found = f.not_found - m->seen.not_found;
    m->seen = f;
    if (failure > 0 && !tell_wrong_keys(m) && due(m, &nobody, TOLD_KERNEL))
        log_warn("the kernel dropped segments whose TCP-MD5 signature is wrong: a router's key differs from "
                 "the target's, or they were damaged",
                 MODULE, LOG_NUM("failures", failure), LOG_NUM("unsigned", not_found));
}

/* --- life --- */

struct md5 *md5_new(struct loop *loop, struct device_host *host)
{
    struct md5 *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->loop = loop;
    m->host = host;
    m->told.seed = random_u64();
    keyring_init(&m->keys, random_u64(), &keyring_linux);
    list_init(&m->idle_asks);
    list_init(&m->busy_asks);
    for (size_t i = 0; i < ASKS_MAX; i++) {
        struct ask *ask = &m->asks[i];
        ask->md5 = m;
        ask->lookup.done = on_answer;
        ask->lookup.arg = ask;
        list_init(&ask->lookup.node);
        list_append(&m->idle_asks, &ask->node);
    }
    return m;
}

bool md5_start(struct md5 *m, struct listener *const *listeners, size_t n, const char *interface,
               struct err *e)
{
    uint16_t ports[SYNWATCH_PORTS_MAX];
    size_t n_ports = 0;
    for (size_t i = 0; i < n; i++) {
        const struct addr *a = listener_addr(listeners[i]);
        bool known = false;
        for (size_t j = 0; j < n_ports; j++)
            known |= ports[j] == a->port;
        if (!known && n_ports < SYNWATCH_PORTS_MAX)
            ports[n_ports++] = a->port;
        keyring_add_door(&m->keys, listener_fd(listeners[i]), a->family);
    }
    m->watch = synwatch_new(m->loop, interface, ports, n_ports, on_syn, m, e);
    if (!m->watch)
        return err_prefix(e, "--enable-md5-support");
    m->listeners = listeners;
    m->n_listeners = n;
    m->on = true;
    m->tokens = ASKS_BURST * 1000;
    m->tokens_ms = loop_now_ms(m->loop);
    tcpmd5_failures(&m->seen);
    m->timer = loop_timer_new(m->loop, on_timer, m);
    loop_timer_start(m->timer, LOOK_MS, LOOK_MS);
    return true;
}

void md5_stop(struct md5 *m)
{
    m->stats.capture_dropped = md5_stats(m).capture_dropped;
    synwatch_free(m->watch);
    m->watch = NULL;
    m->n_listeners = 0;
    keyring_close_doors(&m->keys);
    while (!list_empty(&m->busy_asks)) {
        struct ask *ask = LIST_ITEM(m->busy_asks.next, struct ask, node);
        control_forget_lookup(m->host->control, &ask->lookup);
        put_back(ask);
    }
}

void md5_free(struct md5 *m)
{
    if (!m)
        return;
    md5_stop(m);
    loop_timer_free(m->timer);
    keyring_free(&m->keys);
    free(m);
}

bool md5_healthy(const struct md5 *m)
{
    return !m->on || (m->watch && synwatch_running(m->watch));
}

struct md5_stats md5_stats(const struct md5 *m)
{
    struct md5_stats s = m->stats;
    s.keys = m->keys.by_ip.count;
    if (m->watch)
        s.capture_dropped = synwatch_dropped(m->watch);
    if (m->on)
        tcpmd5_failures(&s.kernel);
    return s;
}
