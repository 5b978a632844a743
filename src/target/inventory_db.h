#ifndef KBGP_TARGET_INVENTORY_DB_H
#define KBGP_TARGET_INVENTORY_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "target/inventory.h"
#include "target/inventory_row.h"

/* Inside the inventory: the SQLite file, its schema, and statements that are prepared once and kept. */

#define DB_STATEMENTS_MAX 48

/* What an account's row has for authentication; all zeroes when there is none. */
struct inventory_login {
    uint32_t id;
    bool known, enabled, sound; /* sound: the row is no damaged one */
    uint8_t salt[INVENTORY_SALT_LEN], hash[INVENTORY_HASH_LEN];
};

struct inventory {
    sqlite3 *db;
    char *path;
    int64_t data_version; /* as of the last inventory_changed() */
    /* The account that was asked for last since inventory_hold(); not `known`: none. */
    struct inventory_login login;
    char login_email[INVENTORY_EMAIL_MAX + 1];
    struct db_statement {
        const char *sql; /* found again by its pointer */
        sqlite3_stmt *stmt;
    } statements[DB_STATEMENTS_MAX];
};

/*
 * The statement of a string literal, without bound values; the inventory owns it. NULL on failure. Run it
 * with sqlite3_step() and end with db_done(), or with db_run(), so that no read transaction stays open.
 */
sqlite3_stmt *db_prepare(struct inventory *inv, const char *sql, struct err *e);

/* Ends a statement. `rc` is what sqlite3_step() answered last: false with words unless SQLITE_DONE or _ROW.
 */
bool db_done(struct inventory *inv, sqlite3_stmt *stmt, int rc, struct err *e);

/* Runs a statement that returns no row. */
bool db_run(struct inventory *inv, sqlite3_stmt *stmt, struct err *e);

/* A statement that returns one number, with up to two parameters (the surplus is ignored). */
bool db_number(struct inventory *inv, const char *sql, int64_t p1, int64_t p2, int64_t *out, struct err *e);

/* A transaction that may write. db_end() commits if `ok`, else takes everything back; true after a commit. */
bool db_begin(struct inventory *inv, struct err *e);
bool db_end(struct inventory *inv, bool ok, struct err *e);

/* "PATH: what SQLite says". Returns false. */
bool db_fail(struct inventory *inv, struct err *e);

/* A column as an id or another number of 32 bits; NULL is 0. False when it is something else. */
bool db_column_u32(sqlite3_stmt *stmt, int column, uint32_t *out);
/* A column as text of at most size-1 bytes without NUL. False when it is something else. */
bool db_column_text(sqlite3_stmt *stmt, int column, char *out, size_t size);
/* 0 is bound as NULL. */
void db_bind_id(sqlite3_stmt *stmt, int parameter, uint32_t id);

#endif
