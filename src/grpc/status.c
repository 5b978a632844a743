#include "grpc/status.h"

#include <stdint.h>
#include <stdlib.h>

static const char *const names[] = {
    "OK",        "CANCELLED",       "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS",  "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",    "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
};

const char *grpc_code_name(enum grpc_code code)
{
    return (unsigned)code < sizeof names / sizeof *names ? names[code] : "UNKNOWN";
}

enum grpc_code grpc_code_parse(const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != 0 || n > GRPC_UNAUTHENTICATED)
        return GRPC_UNKNOWN;
    return (enum grpc_code)n;
}

enum grpc_code grpc_code_of_http(int http_status)
{
    switch (http_status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

enum grpc_code grpc_code_of_reset(unsigned h2_error)
{
    switch (h2_error) {
    case 7: /* REFUSED_STREAM */
        return GRPC_UNAVAILABLE;
    case 8: /* CANCEL */
        return GRPC_CANCELLED;
    case 11: /* ENHANCE_YOUR_CALM */
        return GRPC_RESOURCE_EXHAUSTED;
    case 12: /* INADEQUATE_SECURITY */
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

void grpc_message_encode(const char *text, char *out, size_t cap)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const uint8_t *p = (const uint8_t *)text; *p; p++) {
        bool plain = *p >= 0x20 && *p <= 0x7e && *p != '%';
        if (n + (plain ? 1 : 3) >= cap)
            break;
        if (plain) {
            out[n++] = (char)*p;
        } else {
            out[n++] = '%';
            out[n++] = hex[*p >> 4];
            out[n++] = hex[*p & 15];
        }
    }
    out[n] = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

void grpc_message_decode(const char *wire, char *out, size_t cap)
{
    size_t n = 0;
    while (*wire && n + 1 < cap) {
        int hi, lo;
        /* A broken escape is kept as it stands, as the specification asks. */
        if (*wire == '%' && (hi = hex_value(wire[1])) >= 0 && (lo = hex_value(wire[2])) >= 0) {
            out[n++] = (char)(hi << 4 | lo);
            wire += 3;
        } else {
            out[n++] = *wire++;
        }
    }
    out[n] = 0;
}
