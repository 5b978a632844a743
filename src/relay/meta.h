#ifndef KBGP_RELAY_META_H
#define KBGP_RELAY_META_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/kv.h"
#include "relay/session.h"

/* The metadata of the two calls: built, read, and made fit for a log. The keys are fixed (docs/protocol.md, part 1). Pure. */

#define META_PATH_CONTROL "/kentik.ktbgp.v202203beta2.ProxyService/Control"
#define META_PATH_DATA    "/kentik.ktbgp.v202203beta2.ProxyService/Data"

#define META_TOKEN        "x-ch-auth-api-token"
#define META_COUNTER_UP   "counter-up"
#define META_COUNTER_DOWN "counter-down"

/* Who calls: the same for every call of an agent. */
struct meta_agent {
    const char *email, *token;
    uint32_t site_id; /* 0: any, and then not sent */
    const char *version;
    const char *instance; /* UUID */
};

bool meta_control(struct kv *out, const struct meta_agent *agent);
/*
 * `extra`: the pairs of the ControlResponse. Those that are not legal as header fields, would replace one of ours or are
 * beyond the hundredth pair of the call are left out; their number is returned in *left_out and the key of the last one in left_out_key.
 */
bool meta_data(struct kv *out, const struct meta_agent *agent, const struct session *s,
               const struct kv *extra, unsigned *left_out, char left_out_key[static 64]);

/* What a server tells of itself at the start of a Data call. */
bool meta_counters(struct kv *out, const struct session_counters *c);
/* Reads counter-up and counter-down; one that is missing or no number is reported as not told. */
struct session_counters meta_read_counters(const struct kv *metadata);

/* A Data call as a server reads it. */
struct meta_session {
    struct uuid id;
    struct addr device, proxy; /* with ports */
    struct session_counters counters;
};
/* False, with the reason, when something is missing or is not what it should be. */
bool meta_read_session(const struct kv *metadata, struct meta_session *out, struct err *e);

struct meta_caller {
    const char *email, *token, *version, *instance; /* point into the metadata; "" where missing */
    uint32_t site_id;
};
bool meta_read_caller(const struct kv *metadata, struct meta_caller *out, struct err *e);

/* A copy for the log: the token is "[redacted]". The caller frees it. */
struct kv meta_redacted(const struct kv *metadata);

#endif
