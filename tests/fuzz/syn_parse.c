/* libFuzzer: a captured frame after one byte that chooses the link type; cut shorter, it must not become
 * another SYN. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/syn_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct syn syn, cut;
    char text[ADDR_TEXT_MAX];
    if (n < 1)
        return 0;
    enum syn_link link = (enum syn_link)(data[0] % (SYN_LINK_RAW + 1));
    data++;
    n--;
    if (!syn_parse(link, data, n, 1, &syn))
        return 0;
    if (syn.device.family != syn.local.family || (syn.device.family != 4 && syn.device.family != 6))
        abort();
    addr_text(&syn.device, text);
    addr_text(&syn.local, text);
    /* What follows the TCP header is not looked at; what lacks a byte of it is no SYN. */
    while (n > 0 && syn_parse(link, data, --n, 1, &cut))
        if (cut.md5 != syn.md5 || cut.seq != syn.seq || !addr_same_ip(&cut.device, &syn.device))
            abort();
    return 0;
}
