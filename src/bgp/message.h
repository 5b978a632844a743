#ifndef KBGP_BGP_MESSAGE_H
#define KBGP_BGP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

/*
 * BGP-4 messages on the wire (RFC 4271), all but UPDATE, which has its own file. Pure: bytes in, structs out,
 * and the other way round. Nothing here allocates; a decoded struct points into the bytes it was decoded
 * from.
 */

#define BGP_HEADER_LEN 19
#define BGP_MARKER_LEN 16 /* the header begins with so many bytes of ones */
/* The shortest UPDATE: two empty lists (RFC 4271 section 4.3). */
#define BGP_UPDATE_MIN   23
#define BGP_MAX          4096  /* longest message, RFC 4271 section 4.1 */
#define BGP_MAX_EXTENDED 65535 /* with the capability of RFC 8654 */
#define BGP_AS_TRANS     23456 /* stands in a 2-octet field for an AS that does not fit, RFC 6793 */

enum bgp_type {
    BGP_OPEN = 1,
    BGP_UPDATE = 2,
    BGP_NOTIFICATION = 3,
    BGP_KEEPALIVE = 4,
    BGP_ROUTE_REFRESH = 5, /* RFC 2918 */
};

/* NOTIFICATION codes (RFC 4271 section 4.5, RFC 7313, RFC 9687) and the subcodes that we send. */
enum bgp_error {
    BGP_ERROR_HEADER = 1,
    BGP_ERROR_OPEN = 2,
    BGP_ERROR_UPDATE = 3,
    BGP_ERROR_HOLD_TIMER = 4,
    BGP_ERROR_FSM = 5,
    BGP_ERROR_CEASE = 6,
    BGP_ERROR_ROUTE_REFRESH = 7,
    BGP_ERROR_SEND_HOLD_TIMER = 8,
};

enum bgp_header_error { BGP_HEADER_MARKER = 1, BGP_HEADER_LENGTH = 2, BGP_HEADER_TYPE = 3 };

enum bgp_open_error {
    BGP_OPEN_MALFORMED = 0,
    BGP_OPEN_VERSION = 1,
    BGP_OPEN_PEER_AS = 2,
    BGP_OPEN_ROUTER_ID = 3,
    BGP_OPEN_PARAMETER = 4,
    BGP_OPEN_HOLD_TIME = 6,
};

/* RFC 4486, RFC 8538 */
enum bgp_cease {
    BGP_CEASE_SHUTDOWN = 2,
    BGP_CEASE_RESET = 4,
    BGP_CEASE_RESOURCES = 8,
    BGP_CEASE_HARD_RESET = 9
};

/* Address families that are decoded further than their number. */
#define BGP_AFI_IPV4     1
#define BGP_AFI_IPV6     2
#define BGP_SAFI_UNICAST 1

/* Why a message is refused: what the NOTIFICATION about it carries. */
struct bgp_fault {
    uint8_t code, subcode;
    uint8_t data_len;
    uint8_t data[4];
};

/* Sets code and subcode without data. Returns false, so that a decoder can `return bgp_fault_set(f, …)`. */
bool bgp_fault_set(struct bgp_fault *f, unsigned code, unsigned subcode);

struct bgp_header {
    uint16_t len; /* of the whole message, header included */
    uint8_t type; /* enum bgp_type */
};

/*
 * Checks the 19 bytes of a header (RFC 4271 section 6.1): marker, length between 19 and 4096 (65535 with
 * `extended`, except for OPEN and KEEPALIVE, RFC 8654), type, and the least length of that type. False with
 * the fault 1/1, 1/2 or 1/3; `h` is filled in even then.
 */
bool bgp_header_check(const uint8_t bytes[static BGP_HEADER_LEN], bool extended, struct bgp_header *h,
                      struct bgp_fault *f);

/* --- OPEN --- */

#define BGP_FAMILIES_MAX 32

struct bgp_family {
    uint16_t afi;
    uint8_t safi;
};

/* A text field of a capability: bytes as they came, not checked, not NUL-terminated. */
struct bgp_text {
    const uint8_t *p;
    uint8_t len;
};

struct bgp_open {
    uint32_t asn;          /* the real one: of the 4-octet AS capability where there is one (RFC 6793) */
    uint16_t asn_2octet;   /* what stands in the fixed part */
    uint16_t hold_time;    /* seconds; 0: no keepalives */
    uint8_t router_id[4];  /* network order */
    uint8_t family_count;  /* multiprotocol capabilities (RFC 4760), each family once, at most the first 32 */
    bool as4;              /* 65, RFC 6793 */
    bool route_refresh;    /* 2, RFC 2918 */
    bool enhanced_refresh; /* 70, RFC 7313 */
    bool extended_message; /* 6, RFC 8654 */
    bool graceful_restart; /* 64, RFC 4724 */
    bool add_path;         /* 69, RFC 7911; which families: see the capability's value */
    struct bgp_family families[BGP_FAMILIES_MAX];
    struct bgp_text hostname, domain; /* 73, FQDN */
    /* The optional parameters as they came, for bgp_capabilities(). */
    const uint8_t *params;
    size_t params_len;
    bool params_extended; /* two-octet lengths, RFC 9072 */
};

/*
 * Decodes the body (what follows the header) of an OPEN. False with the fault of RFC 4271 section 6.2:
 * version other than 4, AS 0, hold time 1 or 2, router id 0, malformed or unknown optional parameters.
 * Capabilities that are not known are no error. Whether the AS is the expected one is the caller's business.
 */
bool bgp_open_decode(const uint8_t *body, size_t n, struct bgp_open *o, struct bgp_fault *f);

bool bgp_open_has_family(const struct bgp_open *o, uint16_t afi, uint8_t safi);

/* Room for the longest OPEN that bgp_open_encode() writes: 32 families and every other capability. */
#define BGP_OPEN_MAX (BGP_HEADER_LEN + 10 + 255)

/*
 * Writes a whole OPEN message; returns its length. Of the capabilities it writes families, as4,
 * route_refresh, enhanced_refresh and extended_message (one optional parameter, RFC 5492); none of them set:
 * no parameter at all. An AS above 65535 is AS_TRANS in the fixed part.
 */
size_t bgp_open_encode(const struct bgp_open *o, uint8_t out[static BGP_OPEN_MAX]);

/* One capability of an OPEN (RFC 5492), its value in place. */
struct bgp_capability {
    uint8_t code;
    uint8_t len;
    const uint8_t *value;
};

/* A walk over the capabilities of all optional parameters. */
struct bgp_capabilities {
    struct cursor params, caps;
    bool extended;
    bool malformed; /* a length does not fit: the walk ended there */
    bool unknown;   /* a parameter that holds no capabilities was passed over */
};

struct bgp_capabilities bgp_capabilities(const struct bgp_open *o);
bool bgp_capabilities_next(struct bgp_capabilities *it, struct bgp_capability *cap);

/* --- NOTIFICATION --- */

struct bgp_notification {
    uint8_t code, subcode;
    const uint8_t *data;
    size_t data_len;
    /* A Cease/Hard Reset wraps another notification (RFC 8538 section 3): that one, where hard_reset is set.
     */
    bool hard_reset;
    uint8_t inner_code, inner_subcode;
};

/* Fills in a struct from its parts (`data` is not copied) and looks into a hard reset. */
void bgp_notification_set(struct bgp_notification *n, uint8_t code, uint8_t subcode, const uint8_t *data,
                          size_t data_len);

/* Decodes the body of a NOTIFICATION; false when it is shorter than two bytes. */
bool bgp_notification_decode(const uint8_t *body, size_t len, struct bgp_notification *n);

/* Long enough for two code and two subcode names. */
#define BGP_NAME_MAX 160

/*
 * "Cease: Administrative Shutdown"; "Cease: Hard Reset (Cease: Administrative Reset)"; numbers where there is
 * no name. Returns out.
 */
const char *bgp_notification_name(const struct bgp_notification *n, char out[static BGP_NAME_MAX]);

/* The names of RFC 4271 section 4.5 and its successors; NULL: not assigned. */
const char *bgp_error_name(unsigned code);
const char *bgp_error_subname(unsigned code, unsigned subcode);

/* 255 bytes of text, each of which may have to be replaced by three, and a NUL. */
#define BGP_SHUTDOWN_TEXT_MAX 768

/*
 * The shutdown communication of an administrative shutdown or reset (RFC 8203, RFC 9003), also inside a hard
 * reset, as UTF-8 fit for a log line: what is not UTF-8 becomes U+FFFD, control characters become spaces. A
 * text that was cut (its length says more than there is) gives what there is. Returns its length; 0 and ""
 * when there is none.
 */
size_t bgp_shutdown_text(const struct bgp_notification *n, char out[static BGP_SHUTDOWN_TEXT_MAX]);

/* What a shutdown communication may be for receivers of RFC 8203 as well as of RFC 9003. */
#define BGP_SHUTDOWN_DATA_MAX 129

/* Writes the data of an administrative shutdown: length and text, cut to 128 bytes at a character. Returns
 * its length. */
size_t bgp_shutdown_data(const char *text, uint8_t out[static BGP_SHUTDOWN_DATA_MAX]);

/* Writes a whole NOTIFICATION message with at most BGP_MAX - 21 bytes of data into `out`; 0 when `cap` is too
 * small. */
size_t bgp_notification_encode(const struct bgp_notification *n, uint8_t *out, size_t cap);

/* --- KEEPALIVE, ROUTE-REFRESH --- */

/* Writes a KEEPALIVE message. */
void bgp_keepalive_encode(uint8_t out[static BGP_HEADER_LEN]);

struct bgp_route_refresh {
    struct bgp_family family;
    uint8_t subtype; /* 0: request, 1: begin, 2: end of refresh (RFC 7313) */
};

#define BGP_ROUTE_REFRESH_LEN (BGP_HEADER_LEN + 4)

/* Decodes the body; false when it is shorter than four bytes. Outbound route filters after it are passed
 * over. */
bool bgp_route_refresh_decode(const uint8_t *body, size_t n, struct bgp_route_refresh *r);

/* Writes a whole ROUTE-REFRESH message. */
void bgp_route_refresh_encode(const struct bgp_route_refresh *r, uint8_t out[static BGP_ROUTE_REFRESH_LEN]);

#endif
