#ifndef KBGP_NET_CURL_LOOP_H
#define KBGP_NET_CURL_LOOP_H

#include <curl/curl.h>

#include "base/err.h"
#include "net/loop.h"

/*
 * libcurl's transfers in our event loop. Names are resolved here (net/resolve) before libcurl sees the
 * transfer: its own resolver thread is waited for when a transfer ends, and the loop would stand still while
 * a DNS server keeps silent.
 */
struct curl_loop;
struct resolve;

struct curl_loop *curl_loop_new(struct loop *loop, struct err *e);
/* Transfers must have been removed before. */
void curl_loop_free(struct curl_loop *cl);

/* One transfer, owned by the caller; zeroed before the first use. */
struct curl_job {
    CURL *easy;
    void (*done)(void *arg, CURLcode code);
    void *arg;
    /* Whom libcurl will connect to: the proxy, or the host of the URL. Valid until `done`. NULL: libcurl
     * resolves, and may block the loop. */
    const char *host;
    uint16_t port;
    struct err why; /* for CURLE_COULDNT_RESOLVE_HOST: the resolver's reason */

    /* this module's */
    struct curl_loop *loop;
    struct resolve *resolve;
    struct curl_slist *addresses;
    bool running;
};

/*
 * Starts a transfer. `done` is called once, from the loop, unless curl_loop_remove() comes first; the handle
 * is still in the loop then and must be removed by the owner (in the callback or later). CURLOPT_PRIVATE and
 * CURLOPT_RESOLVE are used by this module. False with the reason in `e`: not started, nothing to remove.
 */
bool curl_loop_add(struct curl_loop *cl, struct curl_job *job, struct err *e);
void curl_loop_remove(struct curl_loop *cl, struct curl_job *job);

#endif
