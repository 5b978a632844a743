#ifndef KBGP_BASE_LOG_LIMIT_H
#define KBGP_BASE_LOG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

/*
 * Holds back records that repeat: of one kind, LOG_LIMIT_BURST are written in LOG_LIMIT_WINDOW_MS; the rest
 * is counted, and told in one line when the window is over. What is one kind (level, message and all string
 * fields) is summed up by the caller in 64 bits. Memory is fixed: when all slots are taken, the window that
 * began first ends early. Pure: time comes in as an argument. A zeroed struct is ready.
 */
#define LOG_LIMIT_BURST     10
#define LOG_LIMIT_WINDOW_MS 10000
#define LOG_LIMIT_SLOTS     64

struct log_limit_slot {
    uint64_t kind;
    int64_t since_ms;
    uint32_t written, held; /* written == 0: the slot is free */
    enum log_level level;
    const char *msg;
};

struct log_limit {
    struct log_limit_slot slots[LOG_LIMIT_SLOTS];
};

/* What was held back of one kind. */
struct log_held {
    enum log_level level;
    const char *msg;
    uint32_t count;
};

/*
 * Whether a record may be written now. `msg` is kept: a constant. When a window had to end for this and
 * records were held back in it, held->count is not 0, and the caller tells that first.
 */
bool log_limit_pass(struct log_limit *l, uint64_t kind, enum log_level level, const char *msg, int64_t now_ms,
                    struct log_held *held);

/*
 * Ends one window that is over (or, with `all`, any) and held something back. False when there is none left.
 */
bool log_limit_next_held(struct log_limit *l, int64_t now_ms, bool all, struct log_held *held);

#endif
