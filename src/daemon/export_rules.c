#include "daemon/export_rules.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

const char *export_reason_name(enum export_reason reason)
{
    static const char *const names[] = {[EXPORT_UNREACHABLE] = "unreachable",
                                        [EXPORT_TIMEOUT] = "timeout",
                                        [EXPORT_BUSY] = "busy",
                                        [EXPORT_REFUSED] = "refused",
                                        [EXPORT_SERVER_ERROR] = "server_error",
                                        [EXPORT_PARTIAL] = "partial"};
    return names[reason];
}

enum export_reason export_judge(CURLcode code, long status)
{
    if (code == CURLE_OPERATION_TIMEDOUT)
        return EXPORT_TIMEOUT;
    if (code != CURLE_OK)
        return EXPORT_UNREACHABLE;
    if (status >= 200 && status < 300)
        return EXPORT_DELIVERED;
    if (status == 429 || status == 502 || status == 503 || status == 504)
        return EXPORT_BUSY;
    return status >= 500 && status < 600 ? EXPORT_SERVER_ERROR : EXPORT_REFUSED;
}

uint32_t export_rejected(const char *body, size_t n, uint32_t records, char message[static EXPORT_ANSWER_MAX])
{
    uint32_t rejected = 0;
    message[0] = 0;
    json_t *root = json_loadb(body, n, 0, NULL);
    const json_t *partial = json_object_get(root, "partialSuccess");
    const json_t *count = json_object_get(partial, "rejectedLogRecords");
    if (!count)
        count = json_object_get(partial, "rejectedDataPoints");
    /* A 64-bit number: OTLP writes it as a string and takes both. */
    long long v =
        json_is_string(count) ? strtoll(json_string_value(count), NULL, 10) : json_integer_value(count);
    if (v > 0)
        rejected = v < records ? (uint32_t)v : records;
    const char *text = json_string_value(json_object_get(partial, "errorMessage"));
    if (text)
        snprintf(message, EXPORT_ANSWER_MAX, "%s", text);
    json_decref(root);
    return rejected;
}

bool export_may_send_account(const char *scheme, const char *host, bool through_proxy)
{
    struct addr a;
    if (strcmp(scheme, "https") == 0)
        return true;
    if (through_proxy)
        return false;
    if (strcasecmp(host, "localhost") == 0)
        return true;
    static const uint8_t one[16] = {[15] = 1};
    return addr_parse_ip(&a, host) && (a.family == 4 ? a.ip[0] == 127 : memcmp(a.ip, one, sizeof one) == 0);
}
