#include "target/inventory.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "target/inventory_db.h"
#include "target/inventory_row.h"

/*
 * The server's questions. Each is one statement, so that it sees one state of the file.
 */

/* What is kept of an account to check a token. False with words when the database failed. */
static bool read_login(struct inventory *inv, const char *email, struct inventory_login *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    sqlite3_stmt *stmt =
        db_prepare(inv, "SELECT id, salt, token_hash, enabled FROM account WHERE email = ?1", e);
    if (!stmt)
        return false;
    size_t email_len = strnlen(email, INVENTORY_EMAIL_MAX + 1);
    if (email_len <= INVENTORY_EMAIL_MAX)
        sqlite3_bind_text(stmt, 1, email, (int)email_len, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        out->known = true;
        out->enabled = sqlite3_column_int(stmt, 3) != 0;
        out->sound = db_column_u32(stmt, 0, &out->id) && out->id != 0 &&
                     sqlite3_column_bytes(stmt, 1) == sizeof out->salt &&
                     sqlite3_column_bytes(stmt, 2) == sizeof out->hash;
        if (out->sound) {
            memcpy(out->salt, sqlite3_column_blob(stmt, 1), sizeof out->salt);
            memcpy(out->hash, sqlite3_column_blob(stmt, 2), sizeof out->hash);
        }
    }
    return db_done(inv, stmt, rc, e);
}

/* The same; many calls of one agent that come together read its account once. */
static bool find_login(struct inventory *inv, const char *email, struct inventory_login *out, struct err *e)
{
    bool held = !sqlite3_get_autocommit(inv->db); /* so nothing can have changed since the last time */
    if (held && inv->login.known && strcmp(inv->login_email, email) == 0) {
        *out = inv->login;
        return true;
    }
    if (!read_login(inv, email, out, e))
        return false;
    if (held && out->known) {
        inv->login = *out;
        snprintf(inv->login_email, sizeof inv->login_email, "%s", email);
    }
    return true;
}

enum inventory_auth inventory_authenticate(struct inventory *inv, const char *email, const char *token,
                                           uint32_t *company_id, struct err *e)
{
    uint8_t given[INVENTORY_HASH_LEN];
    struct inventory_login kept;
    *company_id = 0;
    if (!find_login(inv, email, &kept, e))
        return INVENTORY_AUTH_ERROR;

    /* An unknown email is compared too, with zeroes, so that the time does not tell which emails exist. */
    bool hashed = inventory_hash_token(kept.salt, token, given);
    bool equal = CRYPTO_memcmp(kept.hash, given, sizeof given) == 0;
    if (!kept.known) {
        err_set(e, "no account has this email");
        return INVENTORY_AUTH_UNKNOWN_EMAIL;
    }
    if (!kept.sound) {
        err_set(e, "the account's row in the inventory is damaged");
        return INVENTORY_AUTH_ERROR;
    }
    if (!hashed || !equal) {
        err_set(e, "wrong token");
        return INVENTORY_AUTH_BAD_TOKEN;
    }
    if (!kept.enabled) {
        err_set(e, "the account is disabled");
        return INVENTORY_AUTH_DISABLED;
    }
    *company_id = kept.id;
    return INVENTORY_AUTH_OK;
}

/* Words for an address that was not found where it was looked for. */
static enum inventory_found explain_none(struct inventory *inv, uint32_t company_id, uint32_t site_id,
                                         const char *address, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv,
                                    "SELECT d.name, d.enabled, a.site_id"
                                    " FROM device_address a JOIN device d ON d.id = a.device_id"
                                    " WHERE a.account_id = ?1 AND a.address = ?2"
                                    " ORDER BY a.site_id = ?3 DESC LIMIT 1",
                                    e);
    if (!stmt)
        return INVENTORY_ERROR;
    sqlite3_bind_int64(stmt, 1, company_id);
    sqlite3_bind_text(stmt, 2, address, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, site_id);
    int rc = sqlite3_step(stmt);
    char name[INVENTORY_NAME_MAX + 1];
    uint32_t its_site = 0;
    struct err ignored;
    bool row = rc == SQLITE_ROW && db_column_text(stmt, 0, name, sizeof name) &&
               inventory_check_device_name(name, &ignored) && db_column_u32(stmt, 2, &its_site);
    bool enabled = row && sqlite3_column_int(stmt, 1) != 0;
    if (!db_done(inv, stmt, rc, e))
        return INVENTORY_ERROR;

    if (!row)
        err_set(e, "no device has the address %s", address);
    else if (site_id != 0 && its_site == 0)
        err_set(e, "device %s has the address %s, but is in no site, and the agent is for site %u", name,
                address, site_id);
    else if (site_id != 0 && its_site != site_id)
        err_set(e, "device %s has the address %s, but in site %u, and the agent is for site %u", name,
                address, its_site, site_id);
    else if (!enabled)
        err_set(e, "device %s is disabled", name);
    else /* added between the two questions: it will be found the next time */
        err_set(e, "device %s has just been added", name);
    return INVENTORY_NONE;
}

struct search {
    struct inventory_device *out;
    uint32_t count;
    char second[INVENTORY_NAME_MAX + 1];
};

static bool keep_first(void *arg, const struct inventory_device *device)
{
    struct search *s = arg;
    if (s->count++ == 0) {
        *s->out = *device;
        return true;
    }
    memcpy(s->second, device->name, sizeof s->second);
    return false;
}

/* By the address, of which a site has one row; with INVENTORY_SELECT_DEVICE all the device's addresses would be read. */
#define SELECT_BY_ADDRESS                                                                                    \
    "SELECT " INVENTORY_DEVICE_COLUMNS ", EXISTS"                                                            \
    " (SELECT 1 FROM device_address m WHERE m.device_id = d.id AND m.position >= ?4)"                        \
    " FROM device_address a CROSS JOIN device d ON d.id = a.device_id"                                       \
    " WHERE d.enabled AND a.account_id = ?1 AND a.address = ?2"

enum inventory_found inventory_find_device(struct inventory *inv, uint32_t company_id, uint32_t site_id,
                                           const struct addr *address, struct inventory_device *out,
                                           struct err *e)
{
    struct addr plain = *address;
    plain.scope = 0;
    char text[ADDR_TEXT_MAX];
    addr_ip_text(&plain, text);

    sqlite3_stmt *stmt = site_id != 0 ? db_prepare(inv, SELECT_BY_ADDRESS " AND a.site_id = ?3", e)
                                      : db_prepare(inv, SELECT_BY_ADDRESS, e);
    if (!stmt)
        return INVENTORY_ERROR;
    sqlite3_bind_int64(stmt, 1, company_id);
    sqlite3_bind_text(stmt, 2, text, -1, SQLITE_STATIC);
    if (site_id != 0)
        sqlite3_bind_int64(stmt, 3, site_id);
    sqlite3_bind_int64(stmt, 4, INVENTORY_ADDRESSES_MAX);

    struct search s = {.out = out};
    if (!inventory_read_devices(inv, stmt, keep_first, &s, e))
        return INVENTORY_ERROR;
    if (s.count == 0)
        return explain_none(inv, company_id, site_id, text, e);
    if (s.count > 1) {
        err_set(
            e,
            "several devices have the address %s (%s, %s), in different sites: the agent must say its site",
            text, out->name, s.second);
        OPENSSL_cleanse(out, sizeof *out);
        return INVENTORY_AMBIGUOUS;
    }
    return INVENTORY_FOUND;
}

bool inventory_next_md5_addresses(struct inventory *inv, uint32_t company_id, uint32_t site_id,
                                  struct inventory_md5_place *place, struct addr *out, size_t max, size_t *n,
                                  struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv,
                                    "SELECT d.id, a.position, a.address"
                                    " FROM device d JOIN device_address a ON a.device_id = d.id"
                                    " WHERE d.account_id = ?1 AND (?2 = 0 OR d.site_id = ?2)"
                                    " AND d.enabled AND d.md5_key IS NOT NULL"
                                    " AND d.id >= ?3 AND (d.id > ?3 OR a.position > ?4)"
                                    " ORDER BY d.id, a.position LIMIT ?5",
                                    e);
    *n = 0;
    if (!stmt)
        return false;
    /* Positions count from 0, so the zeroed place, which no device has, is before the first. */
    sqlite3_bind_int64(stmt, 1, company_id);
    sqlite3_bind_int64(stmt, 2, site_id);
    sqlite3_bind_int64(stmt, 3, place->device_id);
    sqlite3_bind_int64(stmt, 4, place->position);
    sqlite3_bind_int64(stmt, 5, (int64_t)max);
    size_t rows = 0, good = 0;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && rows < max) {
        struct err ignored;
        char text[ADDR_TEXT_MAX];
        if (!db_column_u32(stmt, 0, &place->device_id) || !db_column_u32(stmt, 1, &place->position))
            break; /* the table's constraints exclude it: do not go round in circles */
        rows++;
        if (db_column_text(stmt, 2, text, sizeof text) && inventory_check_address(text, &out[good], &ignored))
            good++;
    }
    *n = good;
    return db_done(inv, stmt, rc, e);
}

bool inventory_list_devices(struct inventory *inv, uint32_t company_id, uint32_t site_id,
                            inventory_device_cb *cb, void *arg, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(
        inv,
        INVENTORY_SELECT_DEVICE
        " WHERE (?1 = 0 OR d.account_id = ?1) AND (?2 = 0 OR d.site_id = ?2)" INVENTORY_ORDER_DEVICE,
        e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, company_id);
    sqlite3_bind_int64(stmt, 2, site_id);
    return inventory_read_devices(inv, stmt, cb, arg, e);
}
