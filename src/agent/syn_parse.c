#include "agent/syn_parse.h"

#include <net/ethernet.h>
#include <netinet/in.h>
#include <pcap/dlt.h>
#include <string.h>

#include "base/cursor.h"

#define ETHERTYPE_QINQ     0x88a8 /* IEEE 802.1ad */
#define ETHERTYPE_QINQ_OLD 0x9100 /* what equipment used before there was a standard */
#define TAGS_MAX           4
#define EXTENSIONS_MAX     8 /* extension headers of a packet; more than that is no router */
#define TCP_HEADER         20u
#define TCP_FLAG_SYN       0x02u
#define TCP_FLAG_ACK       0x10u
#define OPTION_END         0
#define OPTION_NOP         1
#define OPTION_MD5         19
#define OPTION_MD5_LEN     18

bool syn_link_of(int dlt, enum syn_link *out)
{
    switch (dlt) {
    case DLT_EN10MB:
        *out = SYN_LINK_ETHERNET;
        return true;
    case DLT_LINUX_SLL:
        *out = SYN_LINK_SLL;
        return true;
    case DLT_LINUX_SLL2:
        *out = SYN_LINK_SLL2;
        return true;
    case DLT_NULL:
    case DLT_LOOP:
        *out = SYN_LINK_NULL;
        return true;
    case DLT_RAW:
    case DLT_IPV4:
    case DLT_IPV6:
        *out = SYN_LINK_RAW;
        return true;
    default:
        return false;
    }
}

/* --- the link's header --- */

static uint16_t ethertype_of_version(const struct cursor *c)
{
    unsigned version = cursor_left(c) > 0 ? (unsigned)c->p[0] >> 4 : 0;
    return version == 4 ? ETHERTYPE_IP : version == 6 ? ETHERTYPE_IPV6 : 0;
}

/*
 * On a cooked header newer kernels (6.10) write the type of what is behind a VLAN tag, and leave the tag
 * there. Such a tag is known by the type that it repeats and the version behind it: as an IPv4 header these
 * bytes would say a length of 2048, as an IPv6 header one of more than 24,000, which no SYN has.
 */
static void skip_hidden_tag(struct cursor *c, uint16_t type)
{
    struct cursor ahead = *c;
    cursor_u16(&ahead);
    if (cursor_u16(&ahead) == type && type != 0 && ethertype_of_version(&ahead) == type)
        *c = ahead;
}

/* Steps over what stands in front of the IP header and returns the Ethernet type. */
static uint16_t read_link(struct cursor *c, enum syn_link link, uint32_t *ifindex)
{
    uint16_t type = 0;
    switch (link) {
    case SYN_LINK_ETHERNET:
        cursor_bytes(c, 12);
        type = cursor_u16(c);
        break;
    case SYN_LINK_SLL:
        cursor_bytes(c, 14);
        type = cursor_u16(c);
        break;
    case SYN_LINK_SLL2:
        type = cursor_u16(c);
        cursor_u16(c);
        *ifindex = cursor_u32(c);
        cursor_bytes(c, 12);
        break;
    case SYN_LINK_NULL:
        cursor_bytes(c, 4);
        return ethertype_of_version(c);
    case SYN_LINK_RAW:
        return ethertype_of_version(c);
    }
    for (int i = 0; i < TAGS_MAX; i++) {
        if (type != ETHERTYPE_VLAN && type != ETHERTYPE_QINQ && type != ETHERTYPE_QINQ_OLD)
            break;
        cursor_u16(c);
        type = cursor_u16(c);
    }
    if (link == SYN_LINK_SLL || link == SYN_LINK_SLL2)
        skip_hidden_tag(c, type);
    return type;
}

/* --- IP: afterwards the cursor stands on the TCP header. False: no TCP, or not its beginning --- */

static bool read_ipv4(struct cursor *c, struct syn *out)
{
    unsigned first = cursor_u8(c);
    size_t header = (first & 0xf) * 4u;
    cursor_bytes(c, 5);
    unsigned fragment = cursor_u16(c);
    cursor_u8(c);
    unsigned protocol = cursor_u8(c);
    cursor_u16(c);
    const uint8_t *from = cursor_bytes(c, 4), *to = cursor_bytes(c, 4);
    /* 0x1fff: the fragment's offset. A first fragment has the whole TCP header, or is dropped by the kernel.
     */
    if (c->bad || first >> 4 != 4 || header < 20 || protocol != IPPROTO_TCP || (fragment & 0x1fff) != 0)
        return false;
    cursor_bytes(c, header - 20);
    out->device.family = out->local.family = 4;
    memcpy(out->device.ip, from, 4);
    memcpy(out->local.ip, to, 4);
    return true;
}

/* RFC 8200, section 4; the authentication header (RFC 4302) counts in other units. */
static bool skip_extensions(struct cursor *c, unsigned next)
{
    for (int i = 0; i < EXTENSIONS_MAX && next != IPPROTO_TCP; i++) {
        unsigned type = next;
        if (type != IPPROTO_HOPOPTS && type != IPPROTO_ROUTING && type != IPPROTO_FRAGMENT &&
            type != IPPROTO_AH && type != IPPROTO_DSTOPTS && type != IPPROTO_MH && type != 139 /* HIP */ &&
            type != 140 /* Shim6 */)
            return false;
        next = cursor_u8(c);
        unsigned len = cursor_u8(c);
        if (type == IPPROTO_FRAGMENT) {
            if ((cursor_u16(c) & 0xfff8) != 0)
                return false; /* not the first fragment */
            cursor_u32(c);
        } else {
            cursor_bytes(c, type == IPPROTO_AH ? (len + 2u) * 4 - 2 : (len + 1u) * 8 - 2);
        }
    }
    return !c->bad && next == IPPROTO_TCP;
}

static bool set_ipv6(struct addr *a, const uint8_t *ip, uint32_t ifindex)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_scope_id = ifindex};
    memcpy(&in6.sin6_addr, ip, 16);
    /* An IPv4 address in an IPv6 packet is not what a connection can come from. */
    return addr_from_sockaddr(a, (const struct sockaddr *)&in6) && a->family == 6;
}

static bool read_ipv6(struct cursor *c, uint32_t ifindex, struct syn *out)
{
    uint32_t first = cursor_u32(c);
    cursor_u16(c);
    unsigned next = cursor_u8(c);
    cursor_u8(c);
    const uint8_t *from = cursor_bytes(c, 16), *to = cursor_bytes(c, 16);
    if (c->bad || first >> 28 != 6)
        return false;
    return set_ipv6(&out->device, from, ifindex) && set_ipv6(&out->local, to, ifindex) &&
           skip_extensions(c, next);
}

/* --- TCP --- */

/* Whether the MD5 option is there. False in *ok: the options are broken, as no TCP sends them. */
static bool find_md5(struct cursor *c, bool *ok)
{
    bool found = false;
    while (!c->bad && cursor_left(c) > 0) {
        unsigned kind = cursor_u8(c);
        if (kind == OPTION_END)
            break;
        if (kind == OPTION_NOP)
            continue;
        unsigned len = cursor_u8(c);
        if (len < 2 || !cursor_bytes(c, len - 2))
            c->bad = true;
        else
            found |= kind == OPTION_MD5 && len == OPTION_MD5_LEN;
    }
    *ok = !c->bad;
    return found;
}

static bool read_tcp(struct cursor *c, struct syn *out)
{
    out->device.port = cursor_u16(c);
    out->local.port = cursor_u16(c);
    out->seq = cursor_u32(c);
    cursor_u32(c);
    size_t header = ((size_t)cursor_u8(c) >> 4) * 4;
    unsigned flags = cursor_u8(c);
    cursor_bytes(c, 6);
    if (c->bad || header < TCP_HEADER || (flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) != TCP_FLAG_SYN)
        return false;
    struct cursor options = cursor_sub(c, header - TCP_HEADER);
    bool ok;
    out->md5 = find_md5(&options, &ok);
    return ok;
}

bool syn_parse(enum syn_link link, const uint8_t *frame, size_t n, uint32_t ifindex, struct syn *out)
{
    struct cursor c = cursor_on(frame, n);
    *out = (struct syn){0};
    switch (read_link(&c, link, &ifindex)) {
    case ETHERTYPE_IP:
        return read_ipv4(&c, out) && read_tcp(&c, out);
    case ETHERTYPE_IPV6:
        return read_ipv6(&c, ifindex, out) && read_tcp(&c, out);
    default:
        return false;
    }
}
