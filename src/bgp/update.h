#ifndef KBGP_BGP_UPDATE_H
#define KBGP_BGP_UPDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "bgp/message.h"

/*
 * The body of an UPDATE (RFC 4271 section 4.3, RFC 4760). Parsing checks everything and allocates nothing:
 * what it finds points into the message, and routes and AS path are walked afterwards, which cannot fail any
 * more.
 *
 * Errors are handled in the way of RFC 7606: a session ends only where the routes of a message cannot be
 * told.
 */

/* What the two speakers agreed on in their OPENs. */
struct bgp_update_mode {
    bool as4;           /* 4-octet AS numbers in AS_PATH (RFC 6793) */
    bool external;      /* an eBGP session: attributes of iBGP alone are ignored */
    bool add_path_ipv4; /* a path identifier before each prefix of this unicast family (RFC 7911) */
    bool add_path_ipv6;
};

/* What to do with the message, in ascending severity (RFC 7606 section 2). */
enum bgp_verdict {
    BGP_VERDICT_OK,
    BGP_VERDICT_DISCARD,  /* an attribute was malformed and is left out */
    BGP_VERDICT_WITHDRAW, /* the announced routes are to be taken as withdrawn */
    BGP_VERDICT_RESET,    /* the session must end with the NOTIFICATION in `fault` */
};

enum bgp_attribute {
    BGP_ATTR_ORIGIN = 1,
    BGP_ATTR_AS_PATH = 2,
    BGP_ATTR_NEXT_HOP = 3,
    BGP_ATTR_MED = 4,
    BGP_ATTR_LOCAL_PREF = 5,
    BGP_ATTR_ATOMIC_AGGREGATE = 6,
    BGP_ATTR_AGGREGATOR = 7,
    BGP_ATTR_COMMUNITIES = 8,
    BGP_ATTR_ORIGINATOR_ID = 9,
    BGP_ATTR_CLUSTER_LIST = 10,
    BGP_ATTR_MP_REACH = 14,
    BGP_ATTR_MP_UNREACH = 15,
    BGP_ATTR_EXT_COMMUNITIES = 16,
    BGP_ATTR_AS4_PATH = 17,
    BGP_ATTR_AS4_AGGREGATOR = 18,
    BGP_ATTR_LARGE_COMMUNITIES = 32,
};

enum bgp_origin { BGP_ORIGIN_IGP, BGP_ORIGIN_EGP, BGP_ORIGIN_INCOMPLETE };

/* One of the up to four places of an UPDATE where routes stand. */
struct bgp_routes {
    bool present; /* the field or attribute is there; it may still be empty */
    bool decoded; /* a family whose prefixes can be walked; else the bytes are opaque */
    bool add_path;
    uint16_t afi;
    uint8_t safi;
    const uint8_t *p;
    size_t len; /* bytes */
};

/* An AS_PATH or AS4_PATH, checked. */
struct bgp_as_path {
    const uint8_t *p;
    size_t len;
    bool as4;
};

struct bgp_update {
    enum bgp_verdict verdict;
    uint8_t bad_attribute; /* the attribute that caused it, 0: none or none in particular */
    const char *why;       /* in words (static text); NULL when the verdict is OK */
    struct bgp_fault fault;

    struct bgp_routes withdrawn, announced;       /* IPv4 unicast in the fields of RFC 4271 */
    struct bgp_routes mp_withdrawn, mp_announced; /* MP_UNREACH_NLRI, MP_REACH_NLRI */
    bool end_of_rib;                              /* RFC 4724 section 2: of this family */
    struct bgp_family end_of_rib_family;

    bool has_origin, has_as_path, has_next_hop, has_med, has_local_pref;
    uint8_t origin; /* enum bgp_origin */
    uint8_t next_hop[4];
    const uint8_t *mp_next_hop; /* 4 bytes, or 16, or 32 with the link-local one; opaque families: any */
    size_t mp_next_hop_len;
    uint32_t med, local_pref;
    struct bgp_as_path as_path, as4_path; /* as4_path has length 0 where it is not to be used */
    const uint8_t *communities;           /* 4 bytes each, RFC 1997 */
    size_t community_count;
    const uint8_t *large_communities; /* 12 bytes each, RFC 8092 */
    size_t large_community_count;
};

/*
 * Parses the body (what follows the header) of an UPDATE and returns u->verdict. With BGP_VERDICT_RESET
 * nothing in `u` but bad_attribute, why and fault counts.
 */
enum bgp_verdict bgp_update_parse(const uint8_t *body, size_t n, const struct bgp_update_mode *mode,
                                  struct bgp_update *u);

/* An IPv4 or IPv6 prefix; the bits of `ip` beyond `len` are zero. */
struct bgp_prefix {
    uint16_t afi;
    uint8_t len; /* bits */
    uint32_t path_id;
    uint8_t ip[16]; /* IPv4: the first four */
};

/* A walk over the prefixes of decoded routes; of others it is empty. */
struct bgp_prefix_walk {
    struct cursor c; /* bad: the last prefix was malformed, which parsed routes never are */
    uint16_t afi;
    bool add_path;
};

struct bgp_prefix_walk bgp_prefixes(const struct bgp_routes *routes);
bool bgp_prefix_next(struct bgp_prefix_walk *w, struct bgp_prefix *prefix);

/* "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255/128", without a NUL. */
#define BGP_IP_TEXT_MAX     48
#define BGP_PREFIX_TEXT_MAX (BGP_IP_TEXT_MAX + 4)

/* The text of an address as inet_ntop() writes it (RFC 5952), without a NUL; returns its length. */
size_t bgp_ip_text(uint16_t afi, const uint8_t *ip, char out[static BGP_IP_TEXT_MAX]);

/* "10.0.0.0/24", without a NUL; returns its length. */
size_t bgp_prefix_text(const struct bgp_prefix *prefix, char out[static BGP_PREFIX_TEXT_MAX]);

enum bgp_segment { BGP_AS_SET = 1, BGP_AS_SEQUENCE = 2, BGP_AS_CONFED_SEQUENCE = 3, BGP_AS_CONFED_SET = 4 };

/* One AS of a path. */
struct bgp_hop {
    uint32_t asn;
    uint8_t segment;  /* enum bgp_segment */
    bool first, last; /* of its segment */
};

/*
 * A walk over the AS path; where an old speaker sent an AS4_PATH, over the path put together from both (RFC
 * 6793 section 4.2.3). A long sequence may then come in two segments.
 */
struct bgp_path_walk {
    struct cursor c;
    struct bgp_as_path then; /* to go on with after c */
    bool as4;
    uint8_t segment;
    size_t left;  /* in this segment */
    size_t units; /* of c still to give out: an AS of a sequence or a whole set is one */
    bool first;
};

struct bgp_path_walk bgp_path(const struct bgp_update *u);
bool bgp_path_next(struct bgp_path_walk *w, struct bgp_hop *hop);

#endif
