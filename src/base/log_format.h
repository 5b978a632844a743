#ifndef KBGP_BASE_LOG_FORMAT_H
#define KBGP_BASE_LOG_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

/* The longest line, its newline included. */
#define LOG_LINE_MAX 16384
/* The longest text of one field, so that a huge one (metadata from outside) does not push the others off the
 * line. */
#define LOG_VALUE_MAX 8192

/* One record, ready to be written. Everything is borrowed. */
struct log_record {
    enum log_level level;
    int64_t wall_ns;     /* CLOCK_REALTIME */
    const char *service; /* NULL: none */
    const char *msg;
    const struct log_field *fields; /* ends with LOG_END_FIELD; NULL: none */
};

/*
 * Writes the record as one line ending in a newline and returns its length. No NUL is added. A record that
 * does not fit is cut: what is there stays well formed, and the field `truncated` (true) says that something
 * is missing.
 *
 * The field `service` goes where it belongs in alphabetical order, as the documented lines have it (they are
 * sorted).
 */
size_t log_format_json(const struct log_record *r, char out[static LOG_LINE_MAX]);
size_t log_format_text(const struct log_record *r, char out[static LOG_LINE_MAX]);

#endif
