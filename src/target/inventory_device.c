#include <openssl/crypto.h>
#include <string.h>

#include "target/inventory.h"
#include "target/inventory_db.h"
#include "target/inventory_row.h"

/*
 * Devices, as the commands see and change them. What can go wrong is asked for first, inside the same
 * transaction, so that the operator reads names instead of constraints; the constraints of the schema stand
 * behind it.
 */

struct found_device {
    struct inventory_device *out;
    bool found;
};

static bool keep_device(void *arg, const struct inventory_device *device)
{
    struct found_device *f = arg;
    *f->out = *device;
    f->found = true;
    return true;
}

static bool find_device(struct inventory *inv, const char *name, struct inventory_device *out, bool *found,
                        struct err *e)
{
    sqlite3_stmt *stmt =
        db_prepare(inv, INVENTORY_SELECT_DEVICE " WHERE d.name = ?1" INVENTORY_ORDER_DEVICE, e);
    if (!stmt)
        return false;
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    struct found_device f = {.out = out};
    bool ok = inventory_read_devices(inv, stmt, keep_device, &f, e);
    *found = f.found;
    return ok;
}

bool inventory_get_device(struct inventory *inv, const char *name, struct inventory_device *out,
                          struct err *e)
{
    bool found;
    if (!find_device(inv, name, out, &found, e))
        return false;
    return found || err_set(e, "there is no device %.60s", name);
}

/* Whether the site exists and belongs to the device's account. */
static bool check_site(struct inventory *inv, const struct inventory_device *d, struct err *e)
{
    struct inventory_site site;
    if (d->site_id == 0)
        return true;
    if (!inventory_site_by_id(inv, d->site_id, &site, e))
        return false;
    return site.company_id == d->company_id ||
           err_set(e, "site %u (%s) belongs to another account than the device", site.id, site.name);
}

static bool insert_address(struct inventory *inv, const struct inventory_device *d, size_t i, struct err *e)
{
    char address[ADDR_TEXT_MAX];
    struct addr plain = d->addresses[i];
    plain.scope = 0;
    addr_ip_text(&plain, address);

    sqlite3_stmt *stmt = db_prepare(inv,
                                    "SELECT d.name FROM device_address a JOIN device d ON d.id = a.device_id"
                                    " WHERE a.account_id = ?1 AND a.address = ?2 AND a.site_id = ?3",
                                    e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, d->company_id);
    sqlite3_bind_text(stmt, 2, address, -1, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 3, d->site_id);
    int rc = sqlite3_step(stmt);
    char other[INVENTORY_NAME_MAX + 1] = "";
    bool taken = rc == SQLITE_ROW;
    if (taken)
        db_column_text(stmt, 0, other, sizeof other);
    if (!db_done(inv, stmt, rc, e))
        return false;
    if (taken && strcmp(other, d->name) == 0)
        return err_set(e, "address %s is given twice", address);
    if (taken && d->site_id != 0)
        return err_set(e, "address %s is device %s in site %u already", address, other, d->site_id);
    if (taken)
        return err_set(e, "address %s is device %s already (the same address needs different sites)", address,
                       other);

    stmt = db_prepare(inv,
                      "INSERT INTO device_address (device_id, position, account_id, site_id, address)"
                      " VALUES (?1, ?2, ?3, ?4, ?5)",
                      e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, d->id);
    sqlite3_bind_int64(stmt, 2, (int64_t)i);
    sqlite3_bind_int64(stmt, 3, d->company_id);
    sqlite3_bind_int64(stmt, 4, d->site_id);
    sqlite3_bind_text(stmt, 5, address, -1, SQLITE_STATIC);
    return db_run(inv, stmt, e);
}

static bool insert_addresses(struct inventory *inv, const struct inventory_device *d, struct err *e)
{
    if (d->address_count == 0 || d->address_count > INVENTORY_ADDRESSES_MAX)
        return err_set(e, "a device has 1 to %d addresses", INVENTORY_ADDRESSES_MAX);
    for (size_t i = 0; i < d->address_count; i++)
        if (!insert_address(inv, d, i, e))
            return false;
    return true;
}

/* As a blob without end, NULL for none. */
static void bind_key(sqlite3_stmt *stmt, int parameter, const struct inventory_device *d)
{
    if (d->md5_key_len > 0)
        sqlite3_bind_blob(stmt, parameter, d->md5_key, d->md5_key_len, SQLITE_STATIC);
    else
        sqlite3_bind_null(stmt, parameter);
}

static bool insert_device(struct inventory *inv, struct inventory_device *d, struct err *e)
{
    struct inventory_device old;
    bool exists;
    if (!find_device(inv, d->name, &old, &exists, e))
        return false;
    OPENSSL_cleanse(old.md5_key, sizeof old.md5_key);
    if (exists)
        return err_set(e, "device %s exists already", old.name);
    if (!check_site(inv, d, e))
        return false;
    sqlite3_stmt *stmt = db_prepare(inv,
                                    "INSERT INTO device (account_id, site_id, name, asn, enabled, md5_key) "
                                    "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                                    e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, d->company_id);
    db_bind_id(stmt, 2, d->site_id);
    sqlite3_bind_text(stmt, 3, d->name, -1, SQLITE_STATIC);
    db_bind_id(stmt, 4, d->asn);
    sqlite3_bind_int(stmt, 5, d->enabled);
    bind_key(stmt, 6, d);
    if (!db_run(inv, stmt, e))
        return false;
    d->id = (uint32_t)sqlite3_last_insert_rowid(inv->db);
    return insert_addresses(inv, d, e);
}

bool inventory_add_device(struct inventory *inv, struct inventory_device *device, struct err *e)
{
    if (!inventory_check_device_name(device->name, e) || !db_begin(inv, e))
        return false;
    return db_end(inv, insert_device(inv, device, e), e);
}

static bool update_device(struct inventory *inv, const struct inventory_device *d, struct err *e)
{
    if (!check_site(inv, d, e))
        return false;
    sqlite3_stmt *stmt = db_prepare(inv,
                                    "UPDATE device SET site_id = ?3, asn = ?4, enabled = ?5, md5_key = ?6 "
                                    "WHERE id = ?1 AND account_id = ?2",
                                    e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, d->id);
    sqlite3_bind_int64(stmt, 2, d->company_id);
    db_bind_id(stmt, 3, d->site_id);
    db_bind_id(stmt, 4, d->asn);
    sqlite3_bind_int(stmt, 5, d->enabled);
    bind_key(stmt, 6, d);
    if (!db_run(inv, stmt, e))
        return false;
    if (sqlite3_changes(inv->db) != 1)
        return err_set(e, "device %s has been removed meanwhile", d->name);
    stmt = db_prepare(inv, "DELETE FROM device_address WHERE device_id = ?1", e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, d->id);
    return db_run(inv, stmt, e) && insert_addresses(inv, d, e);
}

bool inventory_change_device(struct inventory *inv, const struct inventory_device *device, struct err *e)
{
    return db_begin(inv, e) && db_end(inv, update_device(inv, device, e), e);
}

bool inventory_remove_device(struct inventory *inv, const char *name, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, "DELETE FROM device WHERE name = ?1", e);
    if (!stmt)
        return false;
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    if (!db_run(inv, stmt, e))
        return false;
    return sqlite3_changes(inv->db) == 1 || err_set(e, "there is no device %.60s", name);
}
