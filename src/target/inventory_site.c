#include <string.h>

#include "target/inventory.h"
#include "target/inventory_db.h"
#include "target/inventory_row.h"

/*
 * Sites, as the commands see and change them. What can go wrong is asked for first, inside the same
 * transaction, so that the operator reads names instead of constraints; the constraints of the schema stand
 * behind it.
 */

#define SELECT_SITE                                                                                          \
    "SELECT s.id, s.account_id, s.name, (SELECT count(*) FROM device WHERE site_id = s.id) FROM site s"

static bool read_site(struct inventory *inv, sqlite3_stmt *stmt, struct inventory_site *s, struct err *e)
{
    struct err ignored;
    memset(s, 0, sizeof *s);
    if (!db_column_u32(stmt, 0, &s->id) || s->id == 0 || !db_column_u32(stmt, 1, &s->company_id) ||
        !db_column_text(stmt, 2, s->name, sizeof s->name) || !inventory_check_site_name(s->name, &ignored) ||
        !db_column_u32(stmt, 3, &s->devices))
        return err_set(e, "%.300s: the row of site %lld is damaged", inv->path,
                       (long long)sqlite3_column_int64(stmt, 0));
    return true;
}

/* Either name or, where that is NULL, id. *found is false, without an error, when there is none. */
static bool find_site(struct inventory *inv, const char *name, uint32_t id, struct inventory_site *out,
                      bool *found, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, SELECT_SITE " WHERE s.name = ?1 OR s.id = ?2", e);
    if (!stmt)
        return false;
    if (name)
        sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
    else
        sqlite3_bind_int64(stmt, 2, id);
    int rc = sqlite3_step(stmt);
    *found = rc == SQLITE_ROW;
    bool ok = !*found || read_site(inv, stmt, out, e);
    return db_done(inv, stmt, rc, e) && ok;
}

bool inventory_site_by_id(struct inventory *inv, uint32_t id, struct inventory_site *out, struct err *e)
{
    bool found;
    if (!find_site(inv, NULL, id, out, &found, e))
        return false;
    return found || err_set(e, "there is no site %u", id);
}

bool inventory_get_site(struct inventory *inv, const char *name_or_id, struct inventory_site *out,
                        struct err *e)
{
    if (name_or_id[0] != 0 && name_or_id[strspn(name_or_id, "0123456789")] == 0) {
        uint64_t id = 0;
        for (const char *p = name_or_id; *p && id <= UINT32_MAX; p++)
            id = id * 10 + (uint64_t)(*p - '0');
        if (id == 0 || id > UINT32_MAX)
            return err_set(e, "there is no site %.60s: ids are 1 to 4294967295", name_or_id);
        return inventory_site_by_id(inv, (uint32_t)id, out, e);
    }
    bool found;
    if (!find_site(inv, name_or_id, 0, out, &found, e))
        return false;
    return found || err_set(e, "there is no site \"%.60s\"", name_or_id);
}

bool inventory_list_sites(struct inventory *inv, inventory_site_cb *cb, void *arg, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, SELECT_SITE " ORDER BY s.id", e);
    if (!stmt)
        return false;
    bool ok = true;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct inventory_site site;
        ok = read_site(inv, stmt, &site, e);
        if (!ok || !cb(arg, &site))
            break;
    }
    return db_done(inv, stmt, rc, e) && ok;
}

static bool insert_site(struct inventory *inv, uint32_t company_id, const char *name, uint32_t *id,
                        struct err *e)
{
    struct inventory_site old;
    bool exists;
    if (!find_site(inv, name, 0, &old, &exists, e))
        return false;
    if (!exists && *id != 0 && !find_site(inv, NULL, *id, &old, &exists, e))
        return false;
    if (exists)
        return err_set(e, "site %u (%s) exists already", old.id, old.name);
    int64_t highest;
    if (!db_number(inv, "SELECT seq FROM sqlite_sequence WHERE name = 'site' UNION ALL SELECT 0 LIMIT 1", 0,
                   0, &highest, e))
        return false;
    if (*id == 0 && highest >= UINT32_MAX)
        return err_set(e, "no automatic id is left, as site %u has been used: choose an id", UINT32_MAX);
    sqlite3_stmt *stmt = db_prepare(inv, "INSERT INTO site (id, account_id, name) VALUES (?1, ?2, ?3)", e);
    if (!stmt)
        return false;
    db_bind_id(stmt, 1, *id);
    sqlite3_bind_int64(stmt, 2, company_id);
    sqlite3_bind_text(stmt, 3, name, -1, SQLITE_STATIC);
    if (!db_run(inv, stmt, e))
        return false;
    *id = (uint32_t)sqlite3_last_insert_rowid(inv->db);
    return true;
}

bool inventory_add_site(struct inventory *inv, uint32_t company_id, const char *name, uint32_t *id,
                        struct err *e)
{
    if (!inventory_check_site_name(name, e) || !db_begin(inv, e))
        return false;
    return db_end(inv, insert_site(inv, company_id, name, id, e), e);
}

static bool delete_site(struct inventory *inv, uint32_t id, struct err *e)
{
    struct inventory_site site;
    if (!inventory_site_by_id(inv, id, &site, e))
        return false;
    if (site.devices > 0)
        return err_set(e, "site %u (%s) still has %u device%s: move or remove %s first", site.id, site.name,
                       site.devices, site.devices == 1 ? "" : "s", site.devices == 1 ? "it" : "them");
    sqlite3_stmt *stmt = db_prepare(inv, "DELETE FROM site WHERE id = ?1", e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, id);
    return db_run(inv, stmt, e);
}

bool inventory_remove_site(struct inventory *inv, uint32_t id, struct err *e)
{
    return db_begin(inv, e) && db_end(inv, delete_site(inv, id, e), e);
}
