#ifndef KBGP_AGENT_DEVICE_H
#define KBGP_AGENT_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/control.h"
#include "agent/ending.h"
#include "agent/md5.h"
#include "agent/record.h"
#include "agent/uplink.h"
#include "base/addr.h"
#include "base/list.h"
#include "base/map.h"
#include "bridge/bridge.h"

/*
 * A router's connection, from accept() to its end:
 *
 *     ASKING   Control is asked about the device
 *     SEATING  it is allowed; a connection to the target comes up
 *     RELAYING its Data call is open
 *     RETRYING the call broke; the next one is tried after a while
 *
 * Joins the socket (bridge/tcp_end), the session (relay/session) and the Data call (grpc/call) through a
 * bridge.
 */
enum device_state { DEVICE_ASKING, DEVICE_SEATING, DEVICE_RELAYING, DEVICE_RETRYING };

/* What all devices of an agent share; owned by the agent. */
struct device_host {
    struct loop *loop;
    struct control *control;
    struct uplink *uplink;
    struct md5 *md5;
    struct bridge_pool pool;
    struct meta_agent meta;
    struct list devices; /* oldest first */
    struct map by_ip;    /* of connections that are allowed */
    struct records records;
    bool keep_records; /* for the per-device metrics */
    uint64_t seed;
    uint32_t count;
    bool stopping;
    struct {
        uint64_t accepted, refused_blocked, refused_timeout, refused_limit, refused_md5;
        uint64_t closed[ENDING_CAUSES]; /* sessions that were allowed */
        uint64_t streams_opened, streams_lost;
        uint64_t resumed, counters_differed;
    } stats;
};

struct device {
    struct list node;
    struct map_node by_ip;
    struct device_host *host;
    enum device_state state;
    int fd;          /* until a bridge takes it over; then -1 */
    uint64_t md5_id; /* of the TCP-MD5 key on the socket (struct keyring_entry); 0: none */
    struct addr peer, local;
    struct uuid session_id;
    bool connected : 1;     /* the server's metadata of the Data call that is open has come */
    bool denied_again : 1;  /* PERMISSION_DENIED on Data: Control is to be asked before the next try */
    bool waited : 1;        /* for an answer of the target */
    uint8_t quick_restarts; /* RESTARTs of calls that did not last long, since one did; up to the limit */
    int64_t accepted_wall_ns, accepted_ms;
    struct control_lookup *lookup; /* while ASKING, else NULL */
    struct uplink_seat seat;
    struct bridge *bridge; /* NULL while ASKING for the first time */
    struct record *record; /* of the device; NULL before it is allowed, or where none is kept */
    uint32_t streams;      /* Data calls so far */
    struct backoff backoff;
    const char *kill_reason;  /* why we killed the session: a constant; NULL: we did not */
    struct loop_timer *retry; /* NULL: never needed so far */
    /* Of the Data call that is open (or was last): */
    int64_t connected_wall_ns, connected_ms;
    struct kv server_metadata;
    /* From the answer of Control: */
    uint32_t company_id, device_id;
    char *name; /* NULL before the first */
    struct kv extra;
    int64_t eof_ms;  /* when it was first seen that the router has closed; 0: it has not */
    int64_t kill_ms; /* since when the session is to be killed; 0: it is not */
};

/* How a session stands, for people: the label `state` of kbgp_sessions. */
enum device_phase {
    DEVICE_WAITING,  /* no Data call yet: the device is being asked about, or the target cannot be reached */
    DEVICE_ACTIVE,   /* relaying */
    DEVICE_RESUMING, /* the Data call was lost, the next one is on its way */
    DEVICE_CLOSING,  /* one end has closed, the rest is being delivered */
    DEVICE_PHASES
};
enum device_phase device_phase(const struct device *d);
const char *device_phase_name(enum device_phase phase);

/* What the session has carried so far; `d` has a bridge. */
struct record_session device_carried(const struct device *d);

/* For the uplink of a device_host: devices sit on its connections. */
extern const struct uplink_ops device_uplink_ops;

/* The most sessions at once. */
#define DEVICE_SESSIONS_MAX 20000
/* A router that has gone while its last bytes cannot be delivered: they are kept that long. */
#define DEVICE_GIVE_UP_MS 90000
/* How long a KILL may wait for the target to take it. */
#define DEVICE_KILL_MS 5000

/* Takes over an accepted socket: asks, relays, or closes it. `md5_id` is what md5_accepted() said. */
void device_accept(struct device_host *host, int fd, const struct addr *peer, const struct addr *local,
                   uint64_t md5_id);
/* A device's TCP-MD5 key is another one now, or there is none any more: so it is on the sockets of its sessions. Each
 * returns how many there are. */
uint32_t device_rekey(struct device_host *host, const struct keyring_entry *entry);
uint32_t device_unkey(struct device_host *host, const struct addr *device);
/* Control pushed or answered: a block ends the sessions of that device. True: there were some, and the denial is logged. */
bool device_answered(struct device_host *host, const struct control_response *r);
/* About once a second: gives up on sessions that cannot end by themselves. */
void device_tick(struct device_host *host);
/* Ends all sessions in good order: what was read is delivered, then streams and TCP are closed. */
void device_stop_all(struct device_host *host);
/* Frees everything at once. */
void device_free_all(struct device_host *host);

/* "COMPANYID:DEVICENAME:DEVICEID-ipv4" (or -ipv6), as logs name a device. */
const char *device_label(const struct device *d, char out[static 192]);

#endif
