#ifndef KBGP_BASE_ADDR_H
#define KBGP_BASE_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/*
 * An IP address and a TCP port. An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is folded to IPv4 wherever one
 * comes in, so that a device has one name whichever socket it reached (docs/protocol.md, part 2).
 */
struct addr {
    uint8_t family; /* 4 or 6; 0: none */
    uint16_t port;
    uint32_t scope; /* interface index of a link-local IPv6 address, else 0 */
    uint8_t ip[16]; /* network order; an IPv4 address uses the first 4 bytes, the rest is zero */
};

/* Long enough for "[ffff:…:255.255.255.255%interface]:65535" and its NUL. */
#define ADDR_TEXT_MAX 80

bool addr_from_sockaddr(struct addr *a, const struct sockaddr *sa);

/* Returns the length of the sockaddr written. */
socklen_t addr_to_sockaddr(const struct addr *a, struct sockaddr_storage *ss);

/* An address without port: "192.0.2.1", "2001:db8::1", "fe80::1%eth0", brackets allowed around IPv6. */
bool addr_parse_ip(struct addr *a, const char *text);

/* "HOST:PORT", "[v6]:PORT", or an address alone, which gets default_port. Names are not resolved. */
bool addr_parse(struct addr *a, const char *text, uint16_t default_port);

/* The canonical text (inet_ntop, RFC 5952) without port; a scope is written as %interface. */
const char *addr_ip_text(const struct addr *a, char out[static ADDR_TEXT_MAX]);

/* "192.0.2.1:179" or "[2001:db8::1]:179". */
const char *addr_text(const struct addr *a, char out[static ADDR_TEXT_MAX]);

/* Same IP (and scope), whatever the port. */
bool addr_same_ip(const struct addr *a, const struct addr *b);

/*
 * A well-mixed hash of the IP without the port. `seed` is secret, so that outsiders cannot choose collisions.
 */
uint64_t addr_ip_hash(const struct addr *a, uint64_t seed);

#endif
