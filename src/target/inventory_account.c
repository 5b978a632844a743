#include <openssl/crypto.h>
#include <string.h>
#include <time.h>

#include "base/uuid.h"
#include "target/inventory.h"
#include "target/inventory_db.h"
#include "target/inventory_row.h"

/*
 * Accounts, as the commands see and change them. What can go wrong is asked for first, inside the same
 * transaction, so that the operator reads names instead of constraints; the constraints of the schema stand
 * behind it.
 */

#define SELECT_ACCOUNT                                                                                       \
    "SELECT a.id, a.email, a.enabled, a.created, (SELECT count(*) FROM device WHERE account_id = a.id)"      \
    " FROM account a"

static bool read_account(struct inventory *inv, sqlite3_stmt *stmt, struct inventory_account *a,
                         struct err *e)
{
    struct err ignored;
    memset(a, 0, sizeof *a);
    if (!db_column_u32(stmt, 0, &a->id) || a->id == 0 ||
        !db_column_text(stmt, 1, a->email, sizeof a->email) || !inventory_check_email(a->email, &ignored) ||
        !db_column_u32(stmt, 4, &a->devices))
        return err_set(e, "%.300s: the row of account %lld is damaged", inv->path,
                       (long long)sqlite3_column_int64(stmt, 0));
    a->enabled = sqlite3_column_int(stmt, 2) != 0;
    a->created = sqlite3_column_int64(stmt, 3);
    return true;
}

/* *found is false, without an error, when there is none. */
static bool find_account(struct inventory *inv, const char *email, struct inventory_account *out, bool *found,
                         struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, SELECT_ACCOUNT " WHERE a.email = ?1", e);
    if (!stmt)
        return false;
    sqlite3_bind_text(stmt, 1, email, -1, SQLITE_STATIC);
    int rc = sqlite3_step(stmt);
    *found = rc == SQLITE_ROW;
    bool ok = !*found || read_account(inv, stmt, out, e);
    return db_done(inv, stmt, rc, e) && ok;
}

bool inventory_get_account(struct inventory *inv, const char *email, struct inventory_account *out,
                           struct err *e)
{
    bool found;
    if (!find_account(inv, email, out, &found, e))
        return false;
    return found || err_set(e, "there is no account %.254s", email);
}

bool inventory_list_accounts(struct inventory *inv, inventory_account_cb *cb, void *arg, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, SELECT_ACCOUNT " ORDER BY a.id", e);
    if (!stmt)
        return false;
    bool ok = true;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct inventory_account account;
        ok = read_account(inv, stmt, &account, e);
        if (!ok || !cb(arg, &account))
            break;
    }
    return db_done(inv, stmt, rc, e) && ok;
}

struct secret {
    uint8_t salt[INVENTORY_SALT_LEN], hash[INVENTORY_HASH_LEN];
};

static bool make_token(char token[static INVENTORY_TOKEN_LEN + 1], struct secret *s, struct err *e)
{
    uint8_t bytes[INVENTORY_TOKEN_LEN / 2];
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        token[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        token[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    token[INVENTORY_TOKEN_LEN] = 0;
    OPENSSL_cleanse(bytes, sizeof bytes);
    random_bytes(s->salt, sizeof s->salt);
    return inventory_hash_token(s->salt, token, s->hash) ||
           err_set(e, "the token could not be hashed (SHA-256)");
}

static bool insert_account(struct inventory *inv, const char *email, const struct secret *s, uint32_t *id,
                           struct err *e)
{
    struct inventory_account old;
    bool exists;
    if (!find_account(inv, email, &old, &exists, e))
        return false;
    if (exists)
        return err_set(e, "account %s exists already (`account token` makes a new token)", old.email);
    sqlite3_stmt *stmt =
        db_prepare(inv, "INSERT INTO account (email, salt, token_hash, created) VALUES (?1, ?2, ?3, ?4)", e);
    if (!stmt)
        return false;
    sqlite3_bind_text(stmt, 1, email, -1, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 2, s->salt, sizeof s->salt, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 3, s->hash, sizeof s->hash, SQLITE_STATIC);
    sqlite3_bind_int64(stmt, 4, time(NULL));
    if (!db_run(inv, stmt, e))
        return false;
    *id = (uint32_t)sqlite3_last_insert_rowid(inv->db);
    return true;
}

bool inventory_add_account(struct inventory *inv, const char *email,
                           char token[static INVENTORY_TOKEN_LEN + 1], uint32_t *id, struct err *e)
{
    struct secret s;
    if (!inventory_check_email(email, e) || !make_token(token, &s, e) || !db_begin(inv, e))
        return false;
    return db_end(inv, insert_account(inv, email, &s, id, e), e);
}

bool inventory_renew_token(struct inventory *inv, const char *email,
                           char token[static INVENTORY_TOKEN_LEN + 1], struct err *e)
{
    struct secret s;
    sqlite3_stmt *stmt = db_prepare(inv, "UPDATE account SET salt = ?2, token_hash = ?3 WHERE email = ?1", e);
    if (!stmt || !make_token(token, &s, e))
        return false;
    sqlite3_bind_text(stmt, 1, email, -1, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 2, s.salt, sizeof s.salt, SQLITE_STATIC);
    sqlite3_bind_blob(stmt, 3, s.hash, sizeof s.hash, SQLITE_STATIC);
    if (!db_run(inv, stmt, e))
        return false;
    return sqlite3_changes(inv->db) == 1 || err_set(e, "there is no account %.254s", email);
}

bool inventory_enable_account(struct inventory *inv, const char *email, bool enabled, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, "UPDATE account SET enabled = ?2 WHERE email = ?1", e);
    if (!stmt)
        return false;
    sqlite3_bind_text(stmt, 1, email, -1, SQLITE_STATIC);
    sqlite3_bind_int(stmt, 2, enabled);
    if (!db_run(inv, stmt, e))
        return false;
    return sqlite3_changes(inv->db) == 1 || err_set(e, "there is no account %.254s", email);
}

static bool delete_account(struct inventory *inv, const char *email, struct err *e)
{
    struct inventory_account account;
    int64_t sites;
    if (!inventory_get_account(inv, email, &account, e) ||
        !db_number(inv, "SELECT count(*) FROM site WHERE account_id = ?1", account.id, 0, &sites, e))
        return false;
    if (account.devices > 0 || sites > 0)
        return err_set(e, "account %s still has devices (%u) or sites (%lld): remove them first",
                       account.email, account.devices, (long long)sites);
    sqlite3_stmt *stmt = db_prepare(inv, "DELETE FROM account WHERE id = ?1", e);
    if (!stmt)
        return false;
    sqlite3_bind_int64(stmt, 1, account.id);
    return db_run(inv, stmt, e);
}

bool inventory_remove_account(struct inventory *inv, const char *email, struct err *e)
{
    return db_begin(inv, e) && db_end(inv, delete_account(inv, email, e), e);
}
