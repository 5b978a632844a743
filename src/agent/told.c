#include "agent/told.h"

static uint64_t what_of(const struct told *t, const struct addr *device, unsigned kind)
{
    uint64_t hash = addr_ip_hash(device, t->seed + kind);
    return hash ? hash : 1;
}

bool told_due(struct told *t, const struct addr *device, unsigned kind, int64_t for_ms, int64_t now_ms)
{
    uint64_t what = what_of(t, device, kind);
    size_t slot = what % TOLD_SLOTS;
    if (t->slots[slot].what == what && now_ms < t->slots[slot].until_ms)
        return false;
    t->slots[slot].what = what;
    t->slots[slot].until_ms = for_ms == TOLD_FOREVER ? TOLD_FOREVER : now_ms + for_ms;
    return true;
}

void told_forget(struct told *t, const struct addr *device, unsigned kind)
{
    uint64_t what = what_of(t, device, kind);
    size_t slot = what % TOLD_SLOTS;
    if (t->slots[slot].what == what)
        t->slots[slot].what = 0;
}
