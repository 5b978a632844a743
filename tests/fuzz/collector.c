/*
 * libFuzzer: a router that says anything. The input is a script: a byte below 128 is followed by that many
 * bytes of the stream, a byte from 128 on lets time pass; the first byte may set up an established session.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "target/collector.h"
#include "target/jsonl.h"

struct watch {
    struct buf out;
    unsigned closed;
};

static void sink(void *arg, const struct collector_event *event)
{
    struct watch *w = arg;
    if (w->closed > 0)
        abort(); /* close is the last event */
    w->closed += event->kind == COLLECTOR_CLOSE;
    if (!jsonl_append(&w->out, event, 0))
        abort();
    size_t n = buf_len(&w->out);
    const uint8_t *line = buf_begin(&w->out);
    if (n < 2 || line[n - 2] != '}' || memchr(line, '\n', n) != line + n - 1)
        abort();
    buf_take(&w->out, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    struct watch w = {0};
    struct collector_config config = {.router_id = {10, 0, 0, 1}, .sink = sink, .sink_arg = &w};
    struct collector_identity identity = {"d", "a", "s"};
    config.local_as = data[0] & 2 ? 4200000000u : 0;
    int64_t now = 0;
    struct collector_peer *p = collector_new(&config, &identity, now);
    if (data[0] & 1) {
        struct bgp_open open = {.asn = 65001,
                                .hold_time = 90,
                                .router_id = {1, 1, 1, 1},
                                .as4 = data[0] & 4,
                                .extended_message = data[0] & 8};
        uint8_t out[BGP_OPEN_MAX];
        collector_feed(p, out, bgp_open_encode(&open, out), now);
        bgp_keepalive_encode(out);
        collector_feed(p, out, BGP_HEADER_LEN, now);
        if (!collector_established(p))
            abort();
    }
    data++;
    n--;
    while (n > 0) {
        uint8_t op = *data++;
        n--;
        if (op < 128) {
            size_t take = op < n ? op : n;
            collector_feed(p, data, take, now);
            data += take;
            n -= take;
        } else {
            now += (op - 127) * 500;
            collector_tick(p, now);
            if (collector_deadline_ms(p) <= now)
                abort();
        }
        /* However much it was told, it keeps little to say. */
        if (buf_len(collector_output(p)) > 4096)
            abort();
    }
    collector_eof(p, NULL, now);
    if (!collector_finished(p) || w.closed != 1)
        abort();
    collector_free(p);
    buf_free(&w.out);
    return 0;
}
