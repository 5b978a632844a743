#include "target/service.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/uuid.h"
#include "relay/control_msg.h"
#include "relay/meta.h"

/* What a Control stream may hold that the agent does not read. */
#define TX_MAX (4u << 20)
/* A review waits while the agent has this much still to read, so that its answers are never pushed out. */
#define TX_REVIEW_MAX (TX_MAX / 2)
/* How many addresses are looked up for an agent in one turn of the loop: 2 to 4 ms. A change of one device among
 * 100,000 must not stop the sessions of the others. */
#define REVIEW_BATCH 64
/* Until the next batch. Not 0: libuv would run the timer again in the same turn. */
#define REVIEW_NEXT_MS 1
/* How long until a review goes on that waits for the agent to read, or for the database to work again. */
#define REVIEW_FULL_MS   50
#define REVIEW_FAILED_MS 1000

#define KEY_SALT_LEN 16
#define KEY_HASH_LEN 32

struct service {
    struct loop *loop;
    struct inventory *inventory;
    struct registry *registry;
    struct loop_timer *review;
    struct loop_task let_go; /* of the inventory that is held: at the end of the turn */
    bool holding;
    struct list streams;
    struct service_stats stats;
    char backend_pin[9]; /* the same for all: there is one of us */
    uint8_t key_salt[KEY_SALT_LEN];
};

/* The Control stream of an agent. */
struct control_stream {
    struct list node;
    struct service *service;
    struct grpc_call *call;
    struct addr peer;
    uint32_t company_id, site_id;
    char email[INVENTORY_EMAIL_MAX + 1], instance[64], version[64];
    int64_t since_wall_ns;
    struct buf tx; /* messages: a uint32_t length in front of each */
    struct buf rx;
    struct map told; /* what this agent was told, by address */
    struct list told_order;
    uint64_t seed;
    /* A review under way: first of what was told, then for keys that were not. */
    struct loop_timer *review;
    struct list *review_at; /* the next in `told_order`; its head: that part is over */
    struct inventory_md5_place md5_at;
    uint64_t keys_pushed; /* by this review */
    bool database_failed; /* the last step could not be done: said once */
};

/* An answer that an agent was given, to see later whether it still holds. */
struct told {
    struct map_node node;
    struct list order;
    struct addr address;
    bool blocked;
    uint32_t device_id;
    uint8_t key_hash[KEY_HASH_LEN]; /* of its MD5 key, salted; zeroes without one */
    char name[INVENTORY_NAME_MAX + 1];
};

/* --- the inventory --- */

/* All questions of a turn of the loop are asked in one go: many sessions that begin at once share the file's locks. */
static void hold_inventory(struct service *s)
{
    if (s->holding)
        return;
    s->holding = true;
    inventory_hold(s->inventory);
    loop_task_defer(&s->let_go);
}

static void let_inventory_go(void *arg)
{
    struct service *s = arg;
    loop_task_cancel(&s->let_go);
    if (s->holding)
        inventory_let_go(s->inventory);
    s->holding = false;
}

/* --- who calls --- */

static bool authenticate(struct service *s, struct grpc_call *call, const struct meta_caller *caller,
                         const struct addr *peer, uint32_t *company)
{
    struct err e = {{0}};
    char text[ADDR_TEXT_MAX];
    hold_inventory(s);
    enum inventory_auth auth =
        inventory_authenticate(s->inventory, caller->email, caller->token, company, &e);
    switch (auth) {
    case INVENTORY_AUTH_OK:
        return true;
    case INVENTORY_AUTH_UNKNOWN_EMAIL:
        s->stats.auth_unknown_email++;
        break;
    case INVENTORY_AUTH_BAD_TOKEN:
        s->stats.auth_bad_token++;
        break;
    case INVENTORY_AUTH_DISABLED:
        s->stats.auth_disabled++;
        break;
    case INVENTORY_AUTH_ERROR:
        s->stats.auth_error++;
        log_error("cannot check credentials, the agent is told to come back",
                  LOG_STR("agent", addr_text(peer, text)), LOG_STR("error", e.text));
        grpc_call_finish(call, GRPC_UNAVAILABLE, "the target cannot check credentials now");
        return false;
    }
    log_warn("credentials rejected", LOG_STR("agent", addr_text(peer, text)), LOG_STR("email", caller->email),
             LOG_STR("error", e.text));
    grpc_call_finish(call, GRPC_UNAUTHENTICATED, "unknown email or wrong token");
    return false;
}

/* --- Control: sending --- */

static void wipe(struct buf *b)
{
    if (buf_len(b) > 0)
        explicit_bzero(buf_begin(b), buf_len(b));
}

static void send_response(struct control_stream *cs, const struct control_response *r,
                          const struct addr *proxy)
{
    struct buf message = {0};
    if (buf_len(&cs->tx) < TX_MAX && control_response_encode(r, proxy, &message)) {
        uint32_t len = (uint32_t)buf_len(&message);
        buf_append(&cs->tx, &len, sizeof len);
        buf_append(&cs->tx, buf_begin(&message), len);
        grpc_call_wake(cs->call);
    }
    wipe(&message); /* it may have a key in it */
    buf_free(&message);
}

static int64_t on_next(void *arg)
{
    struct control_stream *cs = arg;
    uint32_t len;
    if (buf_len(&cs->tx) < sizeof len)
        return -1;
    memcpy(&len, buf_begin(&cs->tx), sizeof len);
    buf_take(&cs->tx, sizeof len);
    return len;
}

static void on_write(void *arg, uint8_t *dst, size_t n)
{
    struct control_stream *cs = arg;
    memcpy(dst, buf_begin(&cs->tx), n);
    explicit_bzero(buf_begin(&cs->tx), n);
    buf_take(&cs->tx, n);
}

/* --- Control: what is answered --- */

/* Fills `r` for an address; false when the database failed, and nothing can be said. */
static bool judge(struct control_stream *cs, const struct addr *device, struct control_response *r)
{
    struct inventory_device d;
    struct err e = {{0}};
    char text[ADDR_TEXT_MAX];
    *r = (struct control_response){.device = *device};
    hold_inventory(cs->service);
    switch (inventory_find_device(cs->service->inventory, cs->company_id, cs->site_id, device, &d, &e)) {
    case INVENTORY_FOUND:
        r->action = CONTROL_CARRY_ON;
        r->ttl_seconds = SERVICE_ALLOW_TTL_S;
        r->company_id = d.company_id;
        r->device_id = d.id;
        snprintf(r->device_name, sizeof r->device_name, "%s", d.name);
        memcpy(r->md5, d.md5_key, d.md5_key_len);
        r->md5_len = d.md5_key_len;
        explicit_bzero(d.md5_key, sizeof d.md5_key);
        kv_add(&r->metadata, "backend-pin", cs->service->backend_pin);
        return true;
    case INVENTORY_NONE:
    case INVENTORY_AMBIGUOUS:
        r->action = CONTROL_BLOCK_IP;
        r->ttl_seconds = SERVICE_BLOCK_TTL_S;
        return true;
    case INVENTORY_ERROR:
        log_error("cannot look a device up", LOG_STR("device_ip", addr_ip_text(device, text)),
                  LOG_STR("error", e.text));
        return false;
    }
    return false;
}

static struct told *find_told(struct control_stream *cs, const struct addr *address)
{
    for (struct map_node *n = map_find(&cs->told, addr_ip_hash(address, cs->seed)); n; n = map_find_next(n)) {
        struct told *t = MAP_ITEM(n, struct told, node);
        if (addr_same_ip(&t->address, address))
            return t;
    }
    return NULL;
}

/* What tells a changed key from the old one; the key itself is not kept. */
static void hash_key(const struct service *s, const struct control_response *r,
                     uint8_t out[static KEY_HASH_LEN])
{
    uint8_t input[KEY_SALT_LEN + CONTROL_MD5_MAX];
    memset(out, 0, KEY_HASH_LEN);
    if (r->md5_len == 0)
        return;
    memcpy(input, s->key_salt, KEY_SALT_LEN);
    memcpy(input + KEY_SALT_LEN, r->md5, r->md5_len);
    EVP_Digest(input, KEY_SALT_LEN + r->md5_len, out, NULL, EVP_sha256(), NULL);
    explicit_bzero(input, sizeof input);
}

static void fill_told(struct control_stream *cs, struct told *t, const struct control_response *r)
{
    t->blocked = r->action == CONTROL_BLOCK_IP;
    t->device_id = r->device_id;
    hash_key(cs->service, r, t->key_hash);
    snprintf(t->name, sizeof t->name, "%.*s", INVENTORY_NAME_MAX, r->device_name);
}

/* Whether the agent would hear something new. */
static bool differs(struct control_stream *cs, const struct told *t, const struct control_response *r)
{
    uint8_t hash[KEY_HASH_LEN];
    hash_key(cs->service, r, hash);
    return t->blocked != (r->action == CONTROL_BLOCK_IP) || t->device_id != r->device_id ||
           strcmp(t->name, r->device_name) != 0 || memcmp(t->key_hash, hash, sizeof hash) != 0;
}

/* False: this one will not hear of changes before its answer's time is over. */
static bool remember_told(struct control_stream *cs, const struct control_response *r)
{
    struct told *t = find_told(cs, &r->device);
    if (!t) {
        if (cs->told.count >= SERVICE_TOLD_MAX || !(t = calloc(1, sizeof *t)))
            return false;
        t->address = r->device;
        t->address.port = 0;
        if (!map_insert(&cs->told, &t->node, addr_ip_hash(&r->device, cs->seed))) {
            free(t);
            return false;
        }
        list_append(&cs->told_order, &t->order);
    }
    fill_told(cs, t, r);
    return true;
}

static void answer(struct control_stream *cs, const struct control_request *q)
{
    struct control_response r;
    struct service_stats *stats = &cs->service->stats;
    char ip[ADDR_TEXT_MAX], agent[ADDR_TEXT_MAX];
    if (q->action == CONTROL_KEEPALIVE) {
        r = (struct control_response){.action = CONTROL_KEEPALIVE};
        stats->answers_keepalive++;
        send_response(cs, &r, NULL);
        return;
    }
    if (!judge(cs, &q->device, &r))
        return;
    if (r.action == CONTROL_BLOCK_IP) {
        stats->answers_block++;
        log_info("unknown device, denied", LOG_STR("device_ip", addr_ip_text(&q->device, ip)),
                 LOG_STR("agent", addr_text(&cs->peer, agent)), LOG_STR("email", cs->email),
                 LOG_NUM("site", cs->site_id), LOG_NUM("ttl_seconds", r.ttl_seconds));
    } else {
        stats->answers_allow++;
    }
    send_response(cs, &r, &q->proxy);
    remember_told(cs, &r);
    control_response_clear(&r);
}

/* --- what is pushed --- */

/*
 * The agent's Control stream replicates what concerns it: after the stream has opened, every device with a key
 * (so that a router's first SYN finds its key in the agent's kernel), and after every change of the inventory
 * whatever differs from what the agent was told. A step takes one batch; then the loop has its turn.
 */

static void push(struct control_stream *cs, const struct control_response *r)
{
    cs->service->stats.pushes++;
    cs->keys_pushed += r->md5_len > 0;
    send_response(cs, r, NULL);
}

/* False when the database failed: this address must be looked at again. */
static bool review_told(struct control_stream *cs, struct told *t)
{
    struct control_response r;
    if (!judge(cs, &t->address, &r))
        return false;
    if (differs(cs, t, &r)) {
        push(cs, &r);
        fill_told(cs, t, &r);
    }
    control_response_clear(&r);
    return true;
}

static bool review_key(struct control_stream *cs, const struct addr *address)
{
    struct control_response r;
    if (find_told(cs, address))
        return true;
    if (!judge(cs, address, &r))
        return false;
    /* An address that is in several sites, when the agent has not said its own, is nobody's. One that cannot be
     * remembered would be pushed at every change: the agent asks when its router comes. */
    if (r.md5_len > 0 && remember_told(cs, &r))
        push(cs, &r);
    control_response_clear(&r);
    return true;
}

static bool review_told_batch(struct control_stream *cs)
{
    for (int i = 0; i < REVIEW_BATCH && cs->review_at != &cs->told_order; i++) {
        if (!review_told(cs, LIST_ITEM(cs->review_at, struct told, order)))
            return false;
        cs->review_at = cs->review_at->next;
    }
    return true;
}

/* *more: whether there may be more of them. */
static bool review_key_batch(struct control_stream *cs, bool *more)
{
    struct addr addresses[REVIEW_BATCH];
    struct inventory_md5_place place = cs->md5_at;
    struct err e = {{0}};
    size_t n;
    if (!inventory_next_md5_addresses(cs->service->inventory, cs->company_id, cs->site_id, &place, addresses,
                                      REVIEW_BATCH, &n, &e)) {
        if (!cs->database_failed)
            log_error("cannot look for MD5 keys to push, trying again", LOG_STR("error", e.text));
        return false;
    }
    for (size_t i = 0; i < n; i++)
        if (!review_key(cs, &addresses[i]))
            return false;
    *more = place.device_id != cs->md5_at.device_id || place.position != cs->md5_at.position;
    cs->md5_at = place;
    return true;
}

static void on_review_step(void *arg)
{
    struct control_stream *cs = arg;
    char text[ADDR_TEXT_MAX];
    bool more = true, ok = true;
    if (buf_len(&cs->tx) > TX_REVIEW_MAX) {
        loop_timer_start(cs->review, REVIEW_FULL_MS, 0);
        return;
    }
    if (cs->review_at != &cs->told_order)
        ok = review_told_batch(cs);
    else
        ok = review_key_batch(cs, &more);
    cs->database_failed = !ok;
    if (!ok || more) {
        loop_timer_start(cs->review, ok ? REVIEW_NEXT_MS : REVIEW_FAILED_MS, 0);
        return;
    }
    if (cs->keys_pushed > 0)
        log_info("MD5 keys pushed to the agent", LOG_STR("agent", addr_text(&cs->peer, text)),
                 LOG_STR("instance", cs->instance), LOG_NUM("site", cs->site_id),
                 LOG_NUM("addresses", cs->keys_pushed));
}

/* Also while one is under way: then all is looked at again. */
static void begin_review(struct control_stream *cs)
{
    cs->review_at = cs->told_order.next;
    cs->md5_at = (struct inventory_md5_place){0};
    cs->keys_pushed = 0;
    loop_timer_start(cs->review, 0, 0);
}

/* --- Control: receiving --- */

static void on_message_begin(void *arg, uint32_t len)
{
    struct control_stream *cs = arg;
    (void)len;
    buf_free(&cs->rx);
}

static void on_message_bytes(void *arg, const uint8_t *p, size_t n)
{
    struct control_stream *cs = arg;
    if (buf_len(&cs->rx) <= CONTROL_MESSAGE_MAX)
        buf_append(&cs->rx, p, n);
    grpc_call_consume(cs->call, n);
}

static void on_message_end(void *arg)
{
    struct control_stream *cs = arg;
    struct control_request q;
    struct err e;
    if (control_request_decode(buf_begin(&cs->rx), buf_len(&cs->rx), &q, &e)) {
        answer(cs, &q);
    } else {
        char text[ADDR_TEXT_MAX];
        log_warn("Control request is not usable, ending the stream",
                 LOG_STR("agent", addr_text(&cs->peer, text)), LOG_STR("error", e.text));
        grpc_call_finish(cs->call, GRPC_INVALID_ARGUMENT, e.text);
    }
    buf_free(&cs->rx);
}

static void on_half_closed(void *arg)
{
    struct control_stream *cs = arg;
    grpc_call_finish(cs->call, GRPC_OK, "");
}

static void control_stream_free(struct control_stream *cs)
{
    for (size_t i = 0; i < cs->told.n_buckets; i++)
        while (cs->told.buckets[i]) {
            struct told *t = MAP_ITEM(cs->told.buckets[i], struct told, node);
            map_remove(&cs->told, &t->node);
            free(t);
        }
    map_free(&cs->told);
    loop_timer_free(cs->review);
    list_remove(&cs->node);
    cs->service->stats.agents--;
    wipe(&cs->tx);
    buf_free(&cs->tx);
    buf_free(&cs->rx);
    free(cs);
}

static void on_closed(void *arg, const struct grpc_status *status)
{
    struct control_stream *cs = arg;
    char text[ADDR_TEXT_MAX];
    log_info("agent disconnected", LOG_STR("agent", addr_text(&cs->peer, text)), LOG_STR("email", cs->email),
             LOG_STR("instance", cs->instance), LOG_STR("reason", status->message));
    control_stream_free(cs);
}

static const struct grpc_call_ops control_ops = {
    .message_begin = on_message_begin,
    .message_bytes = on_message_bytes,
    .message_end = on_message_end,
    .half_closed = on_half_closed,
    .closed = on_closed,
    .next = on_next,
    .write = on_write,
};

static void control_call(struct service *s, struct grpc_call *call, const struct kv *metadata,
                         const struct addr *peer)
{
    struct meta_caller caller;
    struct err e;
    uint32_t company;
    char text[ADDR_TEXT_MAX];
    if (!meta_read_caller(metadata, &caller, &e)) {
        grpc_call_finish(call, GRPC_INVALID_ARGUMENT, e.text);
        return;
    }
    if (!authenticate(s, call, &caller, peer, &company))
        return;
    struct control_stream *cs = calloc(1, sizeof *cs);
    if (!cs) {
        grpc_call_finish(call, GRPC_UNAVAILABLE, "the target is out of memory");
        return;
    }
    cs->service = s;
    cs->call = call;
    cs->peer = *peer;
    cs->company_id = company;
    cs->site_id = caller.site_id;
    cs->seed = random_u64();
    cs->since_wall_ns = clock_wall_ns();
    snprintf(cs->email, sizeof cs->email, "%s", caller.email);
    snprintf(cs->instance, sizeof cs->instance, "%s", caller.instance);
    snprintf(cs->version, sizeof cs->version, "%s", caller.version);
    list_init(&cs->told_order);
    cs->review_at = &cs->told_order;
    cs->review = loop_timer_new(s->loop, on_review_step, cs);
    list_append(&s->streams, &cs->node);
    s->stats.agents++;
    log_info("agent connected", LOG_STR("agent", addr_text(peer, text)), LOG_STR("email", cs->email),
             LOG_STR("instance", cs->instance), LOG_STR("version", cs->version),
             LOG_NUM("site", cs->site_id));
    begin_review(cs);
    grpc_call_accept(call, NULL, &control_ops, cs);
}

/* --- Data --- */

static void data_call(struct service *s, struct grpc_call *call, const struct kv *metadata,
                      const struct addr *peer)
{
    struct meta_caller caller;
    struct meta_session session;
    struct inventory_device device;
    struct err e = {{0}};
    uint32_t company;
    char ip[ADDR_TEXT_MAX], agent[ADDR_TEXT_MAX];
    if (!meta_read_caller(metadata, &caller, &e) || !meta_read_session(metadata, &session, &e)) {
        grpc_call_finish(call, GRPC_INVALID_ARGUMENT, e.text);
        return;
    }
    if (!authenticate(s, call, &caller, peer, &company))
        return;
    switch (inventory_find_device(s->inventory, company, caller.site_id, &session.device, &device, &e)) {
    case INVENTORY_FOUND:
        break;
    case INVENTORY_ERROR:
        log_error("cannot look a device up", LOG_STR("device_ip", addr_ip_text(&session.device, ip)),
                  LOG_STR("error", e.text));
        grpc_call_finish(call, GRPC_UNAVAILABLE, "the target cannot look the device up now");
        return;
    default:
        log_info("Data call of an unknown device, denied",
                 LOG_STR("device_ip", addr_ip_text(&session.device, ip)),
                 LOG_STR("agent", addr_text(peer, agent)), LOG_STR("reason", e.text));
        grpc_call_finish(call, GRPC_PERMISSION_DENIED, "unknown device");
        return;
    }
    struct registry_caller who = {
        .device = &device, .agent_site = caller.site_id, .instance = caller.instance, .agent = peer};
    registry_attach(s->registry, call, &session, &who);
    explicit_bzero(device.md5_key, sizeof device.md5_key);
}

static void on_call(void *arg, struct grpc_call *call, const char *path, const struct kv *metadata,
                    const struct addr *peer)
{
    if (strcmp(path, META_PATH_CONTROL) == 0)
        control_call(arg, call, metadata, peer);
    else if (strcmp(path, META_PATH_DATA) == 0)
        data_call(arg, call, metadata, peer);
    else
        grpc_call_finish(call, GRPC_UNIMPLEMENTED, "unknown method");
}

const struct grpc_server_ops service_ops = {.call = on_call};

/* --- changes of the inventory --- */

static bool still_allowed(void *arg, const struct registry_session *rs)
{
    struct service *s = arg;
    struct inventory_device d;
    struct err e;
    enum inventory_found found = inventory_find_device(s->inventory, rs->company_id, rs->agent_site,
                                                       &bridge_session(rs->bridge)->device, &d, &e);
    if (found == INVENTORY_ERROR)
        return true; /* not the device's fault */
    bool same = found == INVENTORY_FOUND && d.id == rs->device_id;
    explicit_bzero(d.md5_key, sizeof d.md5_key);
    return same;
}

static void on_review(void *arg)
{
    struct service *s = arg;
    let_inventory_go(s); /* a change would not be seen through it */
    if (!inventory_changed(s->inventory))
        return;
    hold_inventory(s);
    LIST_FOREACH (node, &s->streams)
        begin_review(LIST_ITEM(node, struct control_stream, node));
    registry_review(s->registry, still_allowed, s);
}

/* --- life --- */

struct service *service_new(struct loop *loop, struct inventory *inventory, struct registry *registry)
{
    struct service *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->loop = loop;
    s->inventory = inventory;
    s->registry = registry;
    list_init(&s->streams);
    loop_task_init(&s->let_go, loop, let_inventory_go, s);
    snprintf(s->backend_pin, sizeof s->backend_pin, "%08x", (unsigned)(random_u64() & 0xffffffff));
    if (RAND_bytes(s->key_salt, sizeof s->key_salt) != 1) {
        free(s);
        return NULL;
    }
    s->review = loop_timer_new(loop, on_review, s);
    loop_timer_start(s->review, SERVICE_REVIEW_MS, SERVICE_REVIEW_MS);
    return s;
}

void service_free(struct service *s)
{
    if (!s)
        return;
    while (!list_empty(&s->streams)) {
        struct control_stream *cs = LIST_ITEM(s->streams.next, struct control_stream, node);
        grpc_call_cancel(cs->call);
        control_stream_free(cs);
    }
    loop_timer_free(s->review);
    let_inventory_go(s);
    free(s);
}

const struct service_stats *service_stats(const struct service *s)
{
    return &s->stats;
}

void service_each_agent(const struct service *s, void (*cb)(void *arg, const struct service_agent *agent),
                        void *arg)
{
    LIST_FOREACH (node, (struct list *)(uintptr_t)&s->streams) {
        const struct control_stream *cs = LIST_ITEM(node, struct control_stream, node);
        struct service_agent agent = {.instance = cs->instance,
                                      .version = cs->version,
                                      .email = cs->email,
                                      .company_id = cs->company_id,
                                      .site_id = cs->site_id,
                                      .address = &cs->peer,
                                      .since_wall_ns = cs->since_wall_ns};
        cb(arg, &agent);
    }
}
