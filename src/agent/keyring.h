#ifndef KBGP_AGENT_KEYRING_H
#define KBGP_AGENT_KEYRING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/list.h"
#include "base/map.h"
#include "relay/control_msg.h"

/*
 * Which device has which TCP-MD5 key; each key is on every listening socket of the device's address family,
 * or the device is not here. Keys are wiped when they go. Bounded: a further device gets no key, and so
 * cannot connect.
 *
 * Whether a connection was signed cannot be asked of its socket. It was if the key was on the listener before
 * the connection came to be. What waited to be accepted while the key was installed may be older: `doubt_ns`
 * and the time at which nothing waited any more (listener_emptied_ns()) tell the two apart.
 */
#define KEYRING_MAX       16384
#define KEYRING_LABEL_MAX 192

/* How keys come onto sockets; another one in tests. */
struct keyring_kernel {
    /* As tcpmd5_set() and tcpmd5_remove(). */
    bool (*set)(int fd, const struct addr *peer, const uint8_t *key, size_t len, struct err *e);
    bool (*remove)(int fd, const struct addr *peer, struct err *e);
    /* Whether connections wait to be accepted. */
    bool (*waiting)(int fd);
    int64_t (*now_ns)(void);
};
extern const struct keyring_kernel keyring_linux;

struct keyring_entry {
    struct map_node by_ip;
    struct list node;
    struct addr device;
    uint64_t id; /* of this key of this device; never 0, never used again */
    uint8_t key[CONTROL_MD5_MAX];
    uint8_t len;
    int64_t doubt_ns; /* CLOCK_MONOTONIC; 0: no connection waited when the key was installed */
    char label[KEYRING_LABEL_MAX];
    /* The owner's notes: signed SYNs since the last connection that came of one, and what has been told. */
    uint32_t syns;
    int64_t syn_ms;
    bool told_wrong;
};

#define KEYRING_DOORS_MAX 64
struct keyring {
    struct map by_ip;
    struct list entries; /* the key that was changed longest ago first */
    uint64_t seed, last_id;
    const struct keyring_kernel *kernel;
    struct {
        int fd;
        uint8_t family;
    } doors[KEYRING_DOORS_MAX];
    size_t n_doors;
};

enum keyring_result {
    KEYRING_SAME,      /* the device had this key */
    KEYRING_INSTALLED, /* it had none */
    KEYRING_CHANGED,   /* it had another one */
    KEYRING_NO_MEMORY, /* it has none now: net.core.optmem_max, or our own memory */
    KEYRING_FAILED,    /* it has none now */
};

void keyring_init(struct keyring *k, uint64_t seed, const struct keyring_kernel *kernel);
/* Wipes all keys. The sockets keep theirs. */
void keyring_free(struct keyring *k);

/* A listening socket (borrowed), before the first key. */
void keyring_add_door(struct keyring *k, int fd, uint8_t family);
/* The listening sockets are about to be closed: no more keys go there. */
void keyring_close_doors(struct keyring *k);

/* Installs or changes a key of 1 to CONTROL_MD5_MAX bytes. With NO_MEMORY and FAILED the reason is in `e`. */
enum keyring_result keyring_put(struct keyring *k, const struct addr *device, const uint8_t *key, size_t len,
                                const char *label, struct err *e);
/* Takes a device's key off and wipes it; NULL is not allowed. False: a socket kept it, the reason is in `e`.
 */
bool keyring_drop(struct keyring *k, struct keyring_entry *entry, struct err *e);
/* NULL: the device has no key. Valid until the entry is dropped. */
struct keyring_entry *keyring_find(const struct keyring *k, const struct addr *device);

/* Whether a connection accepted now is signed, of a listener where nothing waited last at `emptied_ns` (0:
 * never). */
bool keyring_signed(const struct keyring_entry *entry, int64_t emptied_ns);

#endif
