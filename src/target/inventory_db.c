#include "target/inventory_db.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEMA_VERSION 1
#define APPLICATION_ID 0x6b626770 /* "kbgp" */

/* A command may wait for another one. The server must not stand still; a reader in WAL mode hardly ever
 * waits. */
#define BUSY_MS_COMMAND 5000
#define BUSY_MS_SERVER  200

static const char schema[] =
    "CREATE TABLE account ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),"
    "  email TEXT NOT NULL COLLATE NOCASE UNIQUE CHECK (length(email) BETWEEN 3 AND 254),"
    "  salt BLOB NOT NULL CHECK (length(salt) = 16),"
    "  token_hash BLOB NOT NULL CHECK (length(token_hash) = 32)," /* SHA-256 of salt, token */
    "  enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),"
    "  created INTEGER NOT NULL"
    ");"
    "CREATE TABLE site ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),"
    "  account_id INTEGER NOT NULL REFERENCES account (id),"
    "  name TEXT NOT NULL COLLATE NOCASE UNIQUE CHECK (length(name) BETWEEN 1 AND 60),"
    "  UNIQUE (id, account_id)" /* so that a device's site can be held to the device's account */
    ");"
    "CREATE INDEX site_of_account ON site (account_id);"
    "CREATE TABLE device ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id BETWEEN 1 AND 4294967295),"
    "  account_id INTEGER NOT NULL REFERENCES account (id),"
    "  site_id INTEGER," /* NULL: without a site */
    "  name TEXT NOT NULL COLLATE NOCASE UNIQUE"
    "    CHECK (length(name) BETWEEN 1 AND 60 AND name NOT GLOB '*[^A-Za-z0-9_.-]*'),"
    "  asn INTEGER CHECK (asn BETWEEN 1 AND 4294967295),"
    "  enabled INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),"
    "  md5_key BLOB CHECK (length(md5_key) BETWEEN 1 AND 80),"
    "  FOREIGN KEY (site_id, account_id) REFERENCES site (id, account_id)"
    ");"
    "CREATE INDEX device_of_account ON device (account_id);"
    "CREATE INDEX device_of_site ON device (site_id, account_id);"
    /* Account and site are repeated here because the primary key says where an address must be unique. NULLs
     * would all differ from each other, so devices without a site have site 0. */
    "CREATE TABLE device_address ("
    "  device_id INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,"
    "  position INTEGER NOT NULL,"
    "  account_id INTEGER NOT NULL,"
    "  site_id INTEGER NOT NULL,"
    "  address TEXT NOT NULL CHECK (length(address) BETWEEN 2 AND 45)," /* canonical text */
    "  PRIMARY KEY (account_id, address, site_id)"
    ") WITHOUT ROWID;"
    "CREATE INDEX address_of_device ON device_address (device_id, position);";

bool db_fail(struct inventory *inv, struct err *e)
{
    return err_set(e, "%.300s: %s", inv->path, sqlite3_errmsg(inv->db));
}

sqlite3_stmt *db_prepare(struct inventory *inv, const char *sql, struct err *e)
{
    struct db_statement *s = inv->statements;
    const struct db_statement *end = s + DB_STATEMENTS_MAX;
    while (s < end && s->sql && s->sql != sql)
        s++;
    if (s == end) {
        err_set(e, "%.300s: too many kinds of statements", inv->path);
        return NULL;
    }
    if (!s->sql) {
        if (sqlite3_prepare_v3(inv->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->stmt, NULL) != SQLITE_OK) {
            db_fail(inv, e);
            return NULL;
        }
        s->sql = sql;
    }
    sqlite3_reset(s->stmt);
    sqlite3_clear_bindings(s->stmt);
    return s->stmt;
}

bool db_done(struct inventory *inv, sqlite3_stmt *stmt, int rc, struct err *e)
{
    bool ok = rc == SQLITE_DONE || rc == SQLITE_ROW;
    if (!ok)
        db_fail(inv, e);
    sqlite3_reset(stmt);
    /* Bound values may be a caller's stack, and among them are hashes. */
    sqlite3_clear_bindings(stmt);
    return ok;
}

bool db_run(struct inventory *inv, sqlite3_stmt *stmt, struct err *e)
{
    return db_done(inv, stmt, sqlite3_step(stmt), e);
}

bool db_number(struct inventory *inv, const char *sql, int64_t p1, int64_t p2, int64_t *out, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, sql, e);
    if (!stmt)
        return false;
    int parameters = sqlite3_bind_parameter_count(stmt);
    if (parameters >= 1)
        sqlite3_bind_int64(stmt, 1, p1);
    if (parameters >= 2)
        sqlite3_bind_int64(stmt, 2, p2);
    int rc = sqlite3_step(stmt);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
    return db_done(inv, stmt, rc, e);
}

bool db_begin(struct inventory *inv, struct err *e)
{
    sqlite3_stmt *stmt = db_prepare(inv, "BEGIN IMMEDIATE", e);
    return stmt && db_run(inv, stmt, e);
}

bool db_end(struct inventory *inv, bool ok, struct err *e)
{
    if (ok) {
        sqlite3_stmt *stmt = db_prepare(inv, "COMMIT", e);
        if (stmt && db_run(inv, stmt, e))
            return true;
    }
    /* Some errors have rolled back already; then this one says so, and there is nothing to add. */
    sqlite3_exec(inv->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

bool db_column_u32(sqlite3_stmt *stmt, int column, uint32_t *out)
{
    *out = 0;
    int type = sqlite3_column_type(stmt, column);
    if (type == SQLITE_NULL)
        return true;
    int64_t n = sqlite3_column_int64(stmt, column);
    if (type != SQLITE_INTEGER || n < 0 || n > UINT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

bool db_column_text(sqlite3_stmt *stmt, int column, char *out, size_t size)
{
    out[0] = 0;
    if (sqlite3_column_type(stmt, column) != SQLITE_TEXT)
        return false;
    const unsigned char *text = sqlite3_column_text(stmt, column);
    size_t n = (size_t)sqlite3_column_bytes(stmt, column);
    if (!text || n >= size || memchr(text, 0, n))
        return false;
    memcpy(out, text, n);
    out[n] = 0;
    return true;
}

void db_bind_id(sqlite3_stmt *stmt, int parameter, uint32_t id)
{
    if (id != 0)
        sqlite3_bind_int64(stmt, parameter, id);
    else
        sqlite3_bind_null(stmt, parameter);
}

/* --- opening --- */

/* Root makes the file, the server reads it as another user: the file belongs to whom the directory does. */
static void hand_to_owner(const char *path, int fd)
{
    if (geteuid() != 0)
        return;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    struct stat st;
    if (stat(dirname(dir), &st) == 0 && st.st_uid != 0 && fchown(fd, st.st_uid, st.st_gid) != 0)
        return; /* a file system without owners, perhaps; the server will say what it cannot read */
}

static bool make_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        hand_to_owner(path, fd);
        close(fd);
        return true;
    }
    if (errno == EEXIST)
        return true;
    if (errno == ENOENT)
        return err_set(e, "%.300s: its directory does not exist", path);
    return err_set(e, "%.300s: cannot be created: %s", path, strerror(errno));
}

static bool check_file(const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT)
            return err_set(e, "%.300s: no inventory there yet; `kbgp-target account add` makes one", path);
        return err_set(e, "%.300s: %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode))
        return err_set(e, "%.300s: not a file", path);
    return true;
}

/* Two that meet on a new file: SQLite answers "busy" here without asking its busy handler. */
static bool set_wal(struct inventory *inv, struct err *e)
{
    for (int waited = 0;; waited += 10) {
        int rc = sqlite3_exec(inv->db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            return true;
        if ((rc & 0xff) != SQLITE_BUSY || waited >= BUSY_MS_COMMAND)
            return db_fail(inv, e);
        sqlite3_sleep(10);
    }
}

/* Whether the file holds our schema (*present), nothing yet, or something else (false). */
static bool check_schema(struct inventory *inv, bool *present, struct err *e)
{
    /* One statement sees one state of the file, whatever another process does meanwhile. */
    sqlite3_stmt *stmt = db_prepare(inv,
                                    "SELECT a.application_id, v.user_version,"
                                    " EXISTS (SELECT 1 FROM sqlite_master)"
                                    " FROM pragma_application_id a, pragma_user_version v",
                                    e);
    if (!stmt)
        return false;
    int rc = sqlite3_step(stmt);
    int64_t application = 0, version = 0;
    bool tables = false;
    if (rc == SQLITE_ROW) {
        application = sqlite3_column_int64(stmt, 0);
        version = sqlite3_column_int64(stmt, 1);
        tables = sqlite3_column_int(stmt, 2) != 0;
    }
    if (!db_done(inv, stmt, rc, e))
        return false;
    *present = application == APPLICATION_ID && version == SCHEMA_VERSION && tables;
    if (*present || (application == 0 && version == 0 && !tables))
        return true;
    if (application != APPLICATION_ID)
        return err_set(e, "%.300s: a database, but not an inventory of kbgp-target", inv->path);
    if (version > SCHEMA_VERSION)
        return err_set(e,
                       "%.300s: written by a newer kbgp-target (schema version %lld, this program knows %d): "
                       "upgrade this program",
                       inv->path, (long long)version, SCHEMA_VERSION);
    return err_set(e, "%.300s: schema version %lld is not one of ours", inv->path, (long long)version);
}

static bool make_schema(struct inventory *inv, struct err *e)
{
    if (!set_wal(inv, e) || !db_begin(inv, e))
        return false;
    char stamp[96];
    snprintf(stamp, sizeof stamp, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
             SCHEMA_VERSION);
    bool present = false;
    bool ok = check_schema(inv, &present, e); /* again: another process may have been faster */
    if (ok && !present)
        ok = (sqlite3_exec(inv->db, schema, NULL, NULL, NULL) == SQLITE_OK &&
              sqlite3_exec(inv->db, stamp, NULL, NULL, NULL) == SQLITE_OK) ||
             db_fail(inv, e);
    return db_end(inv, ok, e);
}

static bool read_data_version(struct inventory *inv, int64_t *out, struct err *e)
{
    return db_number(inv, "PRAGMA data_version", 0, 0, out, e);
}

static bool set_up(struct inventory *inv, bool readonly, struct err *e)
{
    sqlite3_extended_result_codes(inv->db, 1);
    sqlite3_busy_timeout(inv->db, readonly ? BUSY_MS_SERVER : BUSY_MS_COMMAND);
    /* The file may come from anywhere: nothing in its schema may run functions, no row may be huge. */
    sqlite3_db_config(inv->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(inv->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_limit(inv->db, SQLITE_LIMIT_LENGTH, 1 << 20);
    if (sqlite3_exec(inv->db, "PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON", NULL, NULL, NULL) !=
        SQLITE_OK)
        return db_fail(inv, e);

    bool present;
    if (!check_schema(inv, &present, e))
        return false;
    if (!present && readonly)
        return err_set(e, "%.300s: empty; `kbgp-target account add` makes it an inventory", inv->path);
    if (!present && !make_schema(inv, e))
        return false;
    return read_data_version(inv, &inv->data_version, e);
}

struct inventory *inventory_open(const char *path, bool readonly, struct err *e)
{
    if (path[0] == 0) {
        err_set(e, "the inventory's file name is empty");
        return NULL;
    }
    struct inventory *inv = calloc(1, sizeof *inv);
    /* "./" in front: SQLite has names with a meaning of their own (":memory:", "file:…"). */
    if (!inv || asprintf(&inv->path, "%s%s", path[0] == '/' ? "" : "./", path) < 0) {
        free(inv);
        err_set(e, "out of memory");
        return NULL;
    }
    if ((!readonly && !make_file(inv->path, e)) || !check_file(inv->path, e)) {
        inventory_close(inv);
        return NULL;
    }
    /* One thread uses it: SQLite need not lock. */
    int flags = (readonly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(inv->path, &inv->db, flags, NULL) != SQLITE_OK) {
        db_fail(inv, e);
        inventory_close(inv);
        return NULL;
    }
    if (!set_up(inv, readonly, e)) {
        inventory_close(inv);
        return NULL;
    }
    return inv;
}

void inventory_close(struct inventory *inv)
{
    if (!inv)
        return;
    for (size_t i = 0; i < DB_STATEMENTS_MAX; i++)
        sqlite3_finalize(inv->statements[i].stmt);
    sqlite3_close(inv->db);
    free(inv->path);
    free(inv);
}

bool inventory_changed(struct inventory *inv)
{
    struct err e;
    int64_t now;
    /* A failure here is met again, and reported, by the next query that matters. */
    if (!read_data_version(inv, &now, &e) || now == inv->data_version)
        return false;
    inv->data_version = now;
    return true;
}

void inventory_hold(struct inventory *inv)
{
    struct err ignored;
    if (!sqlite3_get_autocommit(inv->db))
        return;
    inv->login.known = false;
    sqlite3_stmt *stmt = db_prepare(inv, "BEGIN", &ignored);
    if (stmt)
        db_run(inv, stmt, &ignored);
}

void inventory_let_go(struct inventory *inv)
{
    struct err ignored;
    inv->login.known = false;
    if (sqlite3_get_autocommit(inv->db))
        return; /* an error has ended it */
    sqlite3_stmt *stmt = db_prepare(inv, "ROLLBACK", &ignored);
    if (stmt)
        db_run(inv, stmt, &ignored); /* nothing was written */
}
