#ifndef KBGP_TARGET_INVENTORY_ROW_H
#define KBGP_TARGET_INVENTORY_ROW_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "target/inventory.h"

/* Inside the inventory: rows become structs, checked as if a stranger had written them; hashes of tokens. */

#define INVENTORY_SALT_LEN 16
#define INVENTORY_HASH_LEN 32

/* What inventory_read_devices() reads: one row an address, those of a device together, and whether a device has too many. */
#define INVENTORY_DEVICE_COLUMNS                                                                             \
    "d.id, d.account_id, d.site_id, d.name, d.asn, d.enabled, d.md5_key, a.address"
/* With all their addresses, which are counted as they are read. A WHERE stands between the two. */
#define INVENTORY_SELECT_DEVICE                                                                              \
    "SELECT " INVENTORY_DEVICE_COLUMNS ", 0"                                                                 \
    " FROM device d LEFT JOIN device_address a ON a.device_id = d.id"
#define INVENTORY_ORDER_DEVICE " ORDER BY d.id, a.position"

/* Runs the statement to its end. False after a damaged device: it is left out, and `e` names the first. */
bool inventory_read_devices(struct inventory *inv, sqlite3_stmt *stmt, inventory_device_cb *cb, void *arg,
                            struct err *e);

/* SHA-256 over salt and token (of one much longer than ours: its beginning). False if OpenSSL fails. */
bool inventory_hash_token(const uint8_t salt[static INVENTORY_SALT_LEN], const char *token,
                          uint8_t out[static INVENTORY_HASH_LEN]);

/* False with words when there is none. */
bool inventory_site_by_id(struct inventory *inv, uint32_t id, struct inventory_site *out, struct err *e);

#endif
