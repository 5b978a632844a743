#include "base/log_limit.h"

static void end_window(struct log_limit_slot *s, struct log_held *held)
{
    *held = (struct log_held){.level = s->level, .msg = s->msg, .count = s->held};
    *s = (struct log_limit_slot){0};
}

static bool is_over(const struct log_limit_slot *s, int64_t now_ms)
{
    return now_ms - s->since_ms >= LOG_LIMIT_WINDOW_MS;
}

bool log_limit_pass(struct log_limit *l, uint64_t kind, enum log_level level, const char *msg, int64_t now_ms,
                    struct log_held *held)
{
    *held = (struct log_held){0};
    struct log_limit_slot *own = NULL, *spare = &l->slots[0];
    for (struct log_limit_slot *s = l->slots; s < l->slots + LOG_LIMIT_SLOTS && !own; s++) {
        if (s->written != 0 && s->kind == kind)
            own = s;
        else if (spare->written != 0 && (s->written == 0 || s->since_ms < spare->since_ms))
            spare = s;
    }
    if (own && !is_over(own, now_ms)) {
        if (own->written < LOG_LIMIT_BURST) {
            own->written++;
            return true;
        }
        own->held++;
        return false;
    }
    struct log_limit_slot *s = own ? own : spare;
    end_window(s, held);
    *s = (struct log_limit_slot){.kind = kind, .since_ms = now_ms, .written = 1, .level = level, .msg = msg};
    return true;
}

bool log_limit_next_held(struct log_limit *l, int64_t now_ms, bool all, struct log_held *held)
{
    for (struct log_limit_slot *s = l->slots; s < l->slots + LOG_LIMIT_SLOTS; s++) {
        if (s->held > 0 && (all || is_over(s, now_ms))) {
            end_window(s, held);
            return true;
        }
    }
    return false;
}
