#ifndef KBGP_GRPC_CHANNEL_H
#define KBGP_GRPC_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"
#include "grpc/conn.h"
#include "net/dial.h"

/*
 * A client's connection that comes back: dials, and when that fails or the connection is lost, dials again with
 * backoff. After a GOAWAY it goes on with the calls it has and is over with the last of them; its owner opens another.
 */
struct grpc_channel;

enum grpc_channel_state {
    GRPC_CHANNEL_CONNECTING,
    GRPC_CHANNEL_READY,
    GRPC_CHANNEL_BACKOFF,
    GRPC_CHANNEL_DRAINING,
};

/* How long the server may take from the connection's start to its HTTP/2 SETTINGS. */
#define GRPC_SETTINGS_TIMEOUT_MS 10000
/* A connection that lasted this long makes earlier failures forgotten. */
#define GRPC_HEALTHY_MS 30000

struct grpc_channel_ops {
    /* Calls may be opened. */
    void (*up)(void *arg);
    /* No more calls may be opened; those that are open should come to an end. */
    void (*draining)(void *arg, const char *why);
    /*
     * An attempt failed or the connection was lost (its calls were told before). The next attempt is in retry_ms; -1: a
     * drained channel, there is none and the owner may free it, now or later. `stage`: dns, tcp, proxy, tls, http2 for an
     * attempt, otherwise grpc_conn_end_name().
     */
    void (*down)(void *arg, const char *stage, const struct err *why, int64_t retry_ms);
};

/* Attempts to connect that failed, by the step that did: those of dialing, then HTTP/2, then what the call was told. */
enum grpc_channel_failure {
    GRPC_FAILURE_HTTP2 = DIAL_TLS + 1,
    GRPC_FAILURE_AUTH, /* the server rejected the credentials; counted by who reads the status */
    GRPC_FAILURES
};
/* dns, tcp, proxy, tls, http2, auth. */
const char *grpc_channel_failure_name(unsigned failure);

/* Counted over all channels that are given the same one. */
struct grpc_channel_stats {
    uint64_t attempts;
    uint64_t failures[GRPC_FAILURES];  /* by enum dial_stage and enum grpc_channel_failure */
    uint64_t lost[GRPC_END_LOCAL + 1]; /* connections that were up, by enum grpc_conn_end */
};

struct grpc_channel_config {
    struct loop *loop;
    struct dial_target target;        /* strings must outlive the channel */
    const char *authority;            /* :authority of the calls */
    struct grpc_channel_stats *stats; /* borrowed; NULL: nobody counts */
    /* Borrowed, shared by all channels to one server: the silence before a PING. A server that counts PINGs (GOAWAY with
     * ENHANCE_YOUR_CALM) makes it longer for every connection that comes after. NULL: GRPC_PING_SILENCE_MS. */
    int64_t *ping_silence_ms;
    int64_t first_dial_ms; /* how long to wait before dialing for the first time */
};

/* Starts dialing at once, or after first_dial_ms. */
struct grpc_channel *grpc_channel_new(const struct grpc_channel_config *config,
                                      const struct grpc_channel_ops *ops, void *arg);
/* Closes the connection; calls are told. Allowed in every callback of the channel but not inside a callback of a call. */
void grpc_channel_free(struct grpc_channel *ch);

/* NULL when the channel is not ready or full. */
struct grpc_call *grpc_channel_call(struct grpc_channel *ch, const char *path, const struct kv *metadata,
                                    const struct grpc_call_ops *ops, void *arg);
enum grpc_channel_state grpc_channel_state(const struct grpc_channel *ch);
/* How many more calls the server takes on this connection; UINT32_MAX while that is not known. */
uint32_t grpc_channel_room(const struct grpc_channel *ch);
/* Calls open on it now. */
uint32_t grpc_channel_calls(const struct grpc_channel *ch);
/* Ends the connection in good order when its calls are over. */
void grpc_channel_drain(struct grpc_channel *ch);
int64_t grpc_channel_rtt_ns(const struct grpc_channel *ch);
/* See stream_tls_expiry(); 0 while there is no connection. */
int64_t grpc_channel_tls_expiry(const struct grpc_channel *ch);

#endif
