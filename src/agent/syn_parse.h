#ifndef KBGP_AGENT_SYN_PARSE_H
#define KBGP_AGENT_SYN_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

/*
 * A captured frame as a router's attempt to connect. Pure: bytes in, facts out; the bytes come from anybody
 * who can send to an interface, and may be cut anywhere.
 */
struct syn {
    struct addr device, local; /* with ports */
    uint32_t seq;
    bool md5; /* it carries the MD5 option (TCP option 19, RFC 2385) */
};

/*
 * What lies in front of the IP header: Ethernet, libpcap's two cooked headers, the BSD loopback header, or
 * nothing. VLAN tags (802.1Q, 802.1ad, also several) are stepped over. No other link types are known.
 */
enum syn_link { SYN_LINK_ETHERNET, SYN_LINK_SLL, SYN_LINK_SLL2, SYN_LINK_NULL, SYN_LINK_RAW };

/* The link type of a DLT_ number (pcap_datalink()). False: not one of ours. */
bool syn_link_of(int dlt, enum syn_link *out);

/* How much of a frame is needed at most: the link's header and tags, extension headers and TCP options in any
 * sane packet. */
#define SYN_SNAPLEN 512

/*
 * True: the frame is the SYN (without ACK) of a TCP connection and whole up to the end of its options. A
 * link-local device gets the scope of the interface (SLL2 names it in the frame; else `ifindex`, 0: not
 * known).
 */
bool syn_parse(enum syn_link link, const uint8_t *frame, size_t n, uint32_t ifindex, struct syn *out);

#endif
