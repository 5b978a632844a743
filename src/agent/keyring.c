#include "agent/keyring.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "net/tcpmd5.h"

static bool waiting(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0; /* a failure is as good as not knowing */
}

const struct keyring_kernel keyring_linux = {
    .set = tcpmd5_set, .remove = tcpmd5_remove, .waiting = waiting, .now_ns = clock_mono_ns};

void keyring_init(struct keyring *k, uint64_t seed, const struct keyring_kernel *kernel)
{
    *k = (struct keyring){.seed = seed, .kernel = kernel};
    list_init(&k->entries);
}

static void entry_free(struct keyring *k, struct keyring_entry *entry)
{
    map_remove(&k->by_ip, &entry->by_ip);
    list_remove(&entry->node);
    explicit_bzero(entry, sizeof *entry);
    free(entry);
}

void keyring_free(struct keyring *k)
{
    while (!list_empty(&k->entries))
        entry_free(k, LIST_ITEM(k->entries.next, struct keyring_entry, node));
    map_free(&k->by_ip);
}

void keyring_add_door(struct keyring *k, int fd, uint8_t family)
{
    if (k->n_doors == KEYRING_DOORS_MAX)
        return;
    k->doors[k->n_doors].fd = fd;
    k->doors[k->n_doors].family = family;
    k->n_doors++;
}

void keyring_close_doors(struct keyring *k)
{
    k->n_doors = 0;
}

struct keyring_entry *keyring_find(const struct keyring *k, const struct addr *device)
{
    uint64_t hash = addr_ip_hash(device, k->seed);
    for (struct map_node *n = map_find(&k->by_ip, hash); n; n = map_find_next(n)) {
        struct keyring_entry *entry = MAP_ITEM(n, struct keyring_entry, by_ip);
        if (addr_same_ip(&entry->device, device))
            return entry;
    }
    return NULL;
}

/* Takes the device's key off all listeners; the first failure stays in `e`. */
static bool clear_doors(const struct keyring *k, const struct addr *device, struct err *e)
{
    bool ok = true;
    for (size_t i = 0; i < k->n_doors; i++)
        if (k->doors[i].family == device->family &&
            !k->kernel->remove(k->doors[i].fd, device, ok ? e : &(struct err){0}))
            ok = false;
    return ok;
}

bool keyring_drop(struct keyring *k, struct keyring_entry *entry, struct err *e)
{
    bool ok = clear_doors(k, &entry->device, e);
    entry_free(k, entry);
    return ok;
}

static struct keyring_entry *new_entry(struct keyring *k, const struct addr *device, struct err *e)
{
    if (k->by_ip.count >= KEYRING_MAX) {
        err_set(e, "there are keys of %d devices, more are not taken", KEYRING_MAX);
        return NULL;
    }
    struct keyring_entry *entry = calloc(1, sizeof *entry);
    if (!entry || !map_insert(&k->by_ip, &entry->by_ip, addr_ip_hash(device, k->seed))) {
        free(entry);
        err_set(e, "out of memory");
        return NULL;
    }
    entry->device = *device;
    list_init(&entry->node);
    return entry;
}

enum keyring_result keyring_put(struct keyring *k, const struct addr *device, const uint8_t *key, size_t len,
                                const char *label, struct err *e)
{
    struct keyring_entry *entry = keyring_find(k, device);
    bool changed = entry != NULL;
    if (len == 0 || len > sizeof entry->key) {
        err_set(e, "a key of %zu bytes", len);
        return KEYRING_FAILED;
    }
    if (entry && entry->len == len && memcmp(entry->key, key, len) == 0) {
        snprintf(entry->label, sizeof entry->label, "%s", label);
        return KEYRING_SAME;
    }
    if (!entry)
        entry = new_entry(k, device, e);
    if (!entry)
        return KEYRING_NO_MEMORY;
    bool some_wait = false;
    for (size_t i = 0; i < k->n_doors; i++) {
        if (k->doors[i].family != device->family)
            continue;
        if (!k->kernel->set(k->doors[i].fd, device, key, len, e)) {
            /* All or none: one that is left open for unsigned connections would be a trap. */
            enum keyring_result result = errno == ENOMEM ? KEYRING_NO_MEMORY : KEYRING_FAILED;
            clear_doors(k, device, &(struct err){0});
            entry_free(k, entry);
            return result;
        }
        some_wait |= k->kernel->waiting(k->doors[i].fd);
    }
    explicit_bzero(entry->key, sizeof entry->key);
    memcpy(entry->key, key, len);
    entry->len = (uint8_t)len;
    entry->id = ++k->last_id;
    entry->doubt_ns = some_wait ? k->kernel->now_ns() : 0;
    snprintf(entry->label, sizeof entry->label, "%s", label);
    entry->syns = 0;
    entry->told_wrong = false;
    list_remove(&entry->node);
    list_append(&k->entries, &entry->node);
    return changed ? KEYRING_CHANGED : KEYRING_INSTALLED;
}

bool keyring_signed(const struct keyring_entry *entry, int64_t emptied_ns)
{
    return entry->doubt_ns == 0 || emptied_ns > entry->doubt_ns;
}
