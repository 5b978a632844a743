/* libFuzzer: a line of text as an address; what is taken must be written so that it reads the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const struct addr *a)
{
    char text[ADDR_TEXT_MAX];
    struct addr back;
    struct sockaddr_storage ss;
    if (!addr_parse(&back, addr_text(a, text), 0) || !addr_same_ip(a, &back) || a->port != back.port)
        abort();
    if (!addr_parse_ip(&back, addr_ip_text(a, text)) || !addr_same_ip(a, &back))
        abort();
    addr_to_sockaddr(a, &ss);
    if (!addr_from_sockaddr(&back, (const struct sockaddr *)&ss) || !addr_same_ip(a, &back) ||
        a->port != back.port)
        abort();
    if (addr_ip_hash(a, 1) != addr_ip_hash(&back, 1))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n + 1);
    struct addr a;
    if (!text)
        abort();
    memcpy(text, data, n);
    text[n] = 0;
    if (addr_parse(&a, text, 443))
        check(&a);
    if (addr_parse_ip(&a, text))
        check(&a);
    free(text);
    return 0;
}
