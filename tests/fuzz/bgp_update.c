/* libFuzzer: an UPDATE's body after one byte that chooses what was negotiated. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "bgp/update.h"

static void walk(const struct bgp_routes *routes)
{
    struct bgp_prefix prefix;
    struct bgp_prefix_walk w = bgp_prefixes(routes);
    while (bgp_prefix_next(&w, &prefix)) {
        char text[BGP_PREFIX_TEXT_MAX];
        if (bgp_prefix_text(&prefix, text) > sizeof text)
            abort();
    }
    if (w.c.bad)
        abort(); /* parsed routes are good */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    struct bgp_update_mode mode = {.as4 = data[0] & 1,
                                   .external = data[0] & 2,
                                   .add_path_ipv4 = data[0] & 4,
                                   .add_path_ipv6 = data[0] & 8};
    struct bgp_update u;
    if (bgp_update_parse(data + 1, n - 1, &mode, &u) == BGP_VERDICT_RESET)
        return 0;
    walk(&u.withdrawn);
    walk(&u.announced);
    walk(&u.mp_withdrawn);
    walk(&u.mp_announced);

    struct bgp_hop hop;
    struct bgp_path_walk w = bgp_path(&u);
    bool open = false;
    while (bgp_path_next(&w, &hop)) {
        /* Segments begin and end in turn. */
        if (hop.first == open)
            abort();
        open = !hop.last;
    }
    if (open || w.c.bad)
        abort();

    volatile uint8_t last = 0;
    if (u.community_count > 0)
        last = u.communities[u.community_count * 4 - 1];
    if (u.large_community_count > 0)
        last = u.large_communities[u.large_community_count * 12 - 1];
    if (u.mp_announced.present && u.mp_next_hop_len > 0)
        last = u.mp_next_hop[u.mp_next_hop_len - 1];
    (void)last;
    return 0;
}
