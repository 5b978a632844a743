#ifndef KBGP_NET_CURL_LOOP_H
#define KBGP_NET_CURL_LOOP_H

#include <curl/curl.h>

#include "base/err.h"
#include "net/loop.h"

/* libcurl's transfers in our event loop. */
struct curl_loop;

struct curl_loop *curl_loop_new(struct loop *loop, struct err *e);
/* Transfers must have been removed before. */
void curl_loop_free(struct curl_loop *cl);

/*
 * Starts a transfer. `done` is called once, from the loop, unless curl_loop_remove() comes first; the handle is still
 * in the loop then and must be removed by the owner (in the callback or later). CURLOPT_PRIVATE is used by this module.
 */
struct curl_job {
    CURL *easy;
    void (*done)(void *arg, CURLcode code);
    void *arg;
};
bool curl_loop_add(struct curl_loop *cl, struct curl_job *job, struct err *e);
void curl_loop_remove(struct curl_loop *cl, struct curl_job *job);

#endif
