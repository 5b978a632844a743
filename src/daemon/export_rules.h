#ifndef KBGP_DAEMON_EXPORT_RULES_H
#define KBGP_DAEMON_EXPORT_RULES_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What becomes of an export's body (OTLP 1.x, "OTLP/HTTP Response", "Retryable Response Codes"):
 *
 *     2xx                         delivered, also where the answer says that a part was rejected
 *     429, 502, 503, 504,         tried again with backoff and jitter, not before the answer's Retry-After
 *     no answer
 *     another 5xx                 dropped; the next one is tried after a backoff
 *     anything else               dropped with all that waits, and nothing is sent for an hour
 *
 * Pure.
 */
enum export_reason {
    EXPORT_UNREACHABLE,  /* no connection, or it broke */
    EXPORT_TIMEOUT,      /* no answer in time */
    EXPORT_BUSY,         /* 429, 502, 503, 504 */
    EXPORT_REFUSED,      /* not accepted: every status that is none of the others */
    EXPORT_SERVER_ERROR, /* another 5xx */
    EXPORT_PARTIAL,      /* accepted, but for some records */
    EXPORT_REASONS,
    EXPORT_DELIVERED = EXPORT_REASONS, /* no failure */
};
const char *export_reason_name(enum export_reason reason);

/* Of an answer this much is looked at. */
#define EXPORT_ANSWER_MAX 4096

/* What a finished transfer means. `status` is the HTTP status of the answer, where `code` is CURLE_OK. */
enum export_reason export_judge(CURLcode code, long status);

/*
 * Looks at the body of a 2xx answer: how many of `records` were rejected. `message` gets what the receiver
 * says about it, or "". An answer that is not OTLP's means that all is well.
 */
uint32_t export_rejected(const char *body, size_t n, uint32_t records,
                         char message[static EXPORT_ANSWER_MAX]);

/*
 * Whether the account may be sent to a URL: by https, or to this very host. By http it would cross a network
 * in clear. `host` as libcurl's URL parser gives it (an IPv6 address in brackets). Through a web proxy
 * nothing is this host.
 */
bool export_may_send_account(const char *scheme, const char *host, bool through_proxy);

#endif
