#ifndef KBGP_GRPC_STATUS_H
#define KBGP_GRPC_STATUS_H

#include <stdbool.h>
#include <stddef.h>

/* gRPC status codes (https://grpc.github.io/grpc/core/md_doc_statuscodes.html) and their text on the wire. Pure. */
enum grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_INVALID_ARGUMENT = 3,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_NOT_FOUND = 5,
    GRPC_ALREADY_EXISTS = 6,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_FAILED_PRECONDITION = 9,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
};

struct grpc_status {
    enum grpc_code code;
    char message[256]; /* decoded; a longer one is cut */
};

/* "UNAVAILABLE", …; "UNKNOWN" for a number that is none. */
const char *grpc_code_name(enum grpc_code code);

/* Reads the text of `grpc-status`; UNKNOWN for what is no number. */
enum grpc_code grpc_code_parse(const char *text);

/* What an HTTP status without a gRPC status means (the gRPC project's http-grpc-status-mapping). */
enum grpc_code grpc_code_of_http(int http_status);

/* What a stream reset with an HTTP/2 error code means (PROTOCOL-HTTP2.md, "Errors"). */
enum grpc_code grpc_code_of_reset(unsigned h2_error);

/* `grpc-message` is percent-encoded: everything outside 0x20–0x7E, and '%' itself. Cuts to `cap` (with NUL). */
void grpc_message_encode(const char *text, char *out, size_t cap);
void grpc_message_decode(const char *wire, char *out, size_t cap);

#endif
