#include "base/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_v6(struct addr *a, const struct in6_addr *in6, uint32_t scope)
{
    if (IN6_IS_ADDR_V4MAPPED(in6)) {
        a->family = 4;
        memset(a->ip, 0, sizeof a->ip);
        memcpy(a->ip, in6->s6_addr + 12, 4);
        a->scope = 0;
        return;
    }
    a->family = 6;
    memcpy(a->ip, in6->s6_addr, 16);
    a->scope = IN6_IS_ADDR_LINKLOCAL(in6) ? scope : 0;
}

bool addr_from_sockaddr(struct addr *a, const struct sockaddr *sa)
{
    memset(a, 0, sizeof *a);
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sa, sizeof in);
        a->family = 4;
        a->port = ntohs(in.sin_port);
        memcpy(a->ip, &in.sin_addr, 4);
        return true;
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sa, sizeof in6);
        a->port = ntohs(in6.sin6_port);
        set_v6(a, &in6.sin6_addr, in6.sin6_scope_id);
        return true;
    }
    return false;
}

socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss)
{
    memset(ss, 0, sizeof *ss);
    if (a->family == 4) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&in.sin_addr, a->ip, 4);
        memcpy(ss, &in, sizeof in);
        return sizeof in;
    }
    struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(a->port), .sin6_scope_id = a->scope};
    memcpy(&in6.sin6_addr, a->ip, 16);
    memcpy(ss, &in6, sizeof in6);
    return sizeof in6;
}

/* The name of an interface of this host, or the number of any. */
static bool parse_zone(const char *text, uint32_t *scope)
{
    *scope = if_nametoindex(text);
    if (*scope != 0)
        return true;
    if (text[0] < '0' || text[0] > '9')
        return false; /* strtoul() would take a sign */
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end != 0 || n == 0 || n > UINT32_MAX)
        return false;
    *scope = (uint32_t)n;
    return true;
}

bool addr_parse_ip(struct addr *a, const char *text)
{
    char host[ADDR_TEXT_MAX];
    size_t n = strlen(text);
    bool bracketed = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    if (bracketed) {
        text++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof host)
        return false;
    memcpy(host, text, n);
    host[n] = 0;

    memset(a, 0, sizeof *a);
    if (!bracketed && inet_pton(AF_INET, host, a->ip) == 1) {
        a->family = 4;
        return true;
    }
    uint32_t scope = 0;
    char *zone = strchr(host, '%');
    if (zone) {
        *zone++ = 0;
        if (!parse_zone(zone, &scope))
            return false;
    }
    struct in6_addr in6;
    if (inet_pton(AF_INET6, host, &in6) != 1)
        return false;
    if (zone && !IN6_IS_ADDR_LINKLOCAL(&in6))
        return false;
    set_v6(a, &in6, scope);
    return true;
}

static bool parse_port(const char *text, uint16_t *port)
{
    if (text[0] < '0' || text[0] > '9')
        return false;
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end != 0 || n > 65535)
        return false;
    *port = (uint16_t)n;
    return true;
}

bool addr_parse(struct addr *a, const char *text, uint16_t default_port)
{
    if (addr_parse_ip(a, text)) {
        a->port = default_port;
        return true;
    }
    const char *colon = strrchr(text, ':');
    char host[ADDR_TEXT_MAX];
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (n == 0 || n >= sizeof host)
        return false;
    memcpy(host, text, n);
    host[n] = 0;
    /* An IPv6 address with a port needs its brackets: 2001:db8::1:179 would be a guess. */
    if (host[0] != '[' && strchr(host, ':'))
        return false;
    uint16_t port;
    if (!parse_port(colon + 1, &port) || !addr_parse_ip(a, host))
        return false;
    a->port = port;
    return true;
}

/* Returns the end. Each session's set-up writes some twenty of these: printf() would be a tenth of our own code's time. */
static char *put_number(char *p, unsigned n)
{
    char digits[10];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    while (count > 0)
        *p++ = digits[--count];
    return p;
}

static void put_v4(char *p, const uint8_t ip[static 4])
{
    for (int i = 0; i < 4; i++) {
        p = put_number(p, ip[i]);
        *p++ = '.';
    }
    p[-1] = 0;
}

const char *addr_ip_text(const struct addr *a, char out[static ADDR_TEXT_MAX])
{
    if (a->family == 0) {
        out[0] = 0;
        return out;
    }
    if (a->family == 4)
        put_v4(out, a->ip);
    else
        inet_ntop(AF_INET6, a->ip, out, ADDR_TEXT_MAX);
    if (a->scope != 0) {
        char name[IF_NAMESIZE];
        size_t n = strlen(out);
        if (if_indextoname(a->scope, name))
            snprintf(out + n, ADDR_TEXT_MAX - n, "%%%s", name);
        else
            snprintf(out + n, ADDR_TEXT_MAX - n, "%%%u", a->scope);
    }
    return out;
}

const char *addr_text(const struct addr *a, char out[static ADDR_TEXT_MAX])
{
    char ip[ADDR_TEXT_MAX], *p = out;
    size_t n = strnlen(addr_ip_text(a, ip), ADDR_TEXT_MAX - sizeof "[]:65535");
    if (a->family == 6)
        *p++ = '[';
    memcpy(p, ip, n);
    p += n;
    if (a->family == 6)
        *p++ = ']';
    *p++ = ':';
    *put_number(p, a->port) = 0;
    return out;
}

bool addr_same_ip(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && a->scope == b->scope && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    h ^= h >> 32;
    return h;
}

uint64_t addr_ip_hash(const struct addr *a, uint64_t seed)
{
    uint64_t w[2];
    memcpy(w, a->ip, sizeof w);
    uint64_t h = mix(seed ^ w[0]);
    h = mix(h ^ w[1]);
    return mix(h ^ a->scope);
}
