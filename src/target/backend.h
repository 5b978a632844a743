#ifndef KBGP_TARGET_BACKEND_H
#define KBGP_TARGET_BACKEND_H

#include <stdbool.h>

#include "base/err.h"
#include "bridge/bridge.h"
#include "target/options.h"

/* What stands behind the target: where a session's bytes go. */
struct backend;

/* Who a session belongs to; copied by those who keep it. */
struct backend_peer {
    const char *device;  /* name in the inventory */
    const char *address; /* the router's IP address */
    const char *session; /* session id */
};

struct backend_ops {
    /* Gives the bridge its local end, now or (a connection that must come up first) later; then it calls bridge_broken() when
     * that fails. The peer is valid during the call. False with the reason when there is none to be had. */
    bool (*open)(struct backend *be, struct bridge *b, const struct backend_peer *peer, struct err *e);
    /* The bridge goes while `open` has not given it its local end yet. */
    void (*cancel)(struct backend *be, struct bridge *b);
    /* SIGHUP. */
    void (*reload)(struct backend *be);
    void (*free)(struct backend *be);
};

struct backend {
    const struct backend_ops *ops;
};

/* tcp://HOST:PORT: a BGP daemon; a name is resolved anew for each session. */
struct backend *backend_tcp_new(struct loop *loop, const struct target_config *config, struct err *e);
/* Our own passive BGP speaker. */
struct backend *backend_collector_new(struct loop *loop, const struct target_config *config, struct err *e);
/* Ends the collector's sessions with a NOTIFICATION (Cease/Administrative Shutdown); for other backends nothing. */
void backend_collector_shutdown(struct backend *be, const char *text);

#endif
