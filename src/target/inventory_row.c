#include "target/inventory_row.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "target/inventory_db.h"

#define TOKEN_BYTES_MAX 256

bool inventory_hash_token(const uint8_t salt[static INVENTORY_SALT_LEN], const char *token,
                          uint8_t out[static INVENTORY_HASH_LEN])
{
    uint8_t input[INVENTORY_SALT_LEN + TOKEN_BYTES_MAX];
    size_t n = strnlen(token, TOKEN_BYTES_MAX);
    memcpy(input, salt, INVENTORY_SALT_LEN);
    memcpy(input + INVENTORY_SALT_LEN, token, n);
    memset(out, 0, INVENTORY_HASH_LEN);
    /* Once, and kept: EVP_sha256() is looked for among OpenSSL's providers each time that it is used. */
    static EVP_MD *sha256;
    if (!sha256)
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    bool ok = sha256 && EVP_Digest(input, INVENTORY_SALT_LEN + n, out, NULL, sha256, NULL) == 1;
    OPENSSL_cleanse(input, sizeof input);
    return ok;
}

static bool only(const char *text, size_t n, bool (*accepted)(char c))
{
    for (size_t i = 0; i < n; i++)
        if (!accepted(text[i]))
            return false;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '.' ||
           c == '-';
}

static bool is_graph(char c)
{
    return c > ' ' && c < 0x7f;
}

static bool is_print(char c)
{
    return is_graph(c) || c == ' ';
}

bool inventory_check_email(const char *email, struct err *e)
{
    /* It travels as a header of every call, so it is plain ASCII. */
    size_t n = strnlen(email, INVENTORY_EMAIL_MAX + 1);
    const char *at = n <= INVENTORY_EMAIL_MAX ? strchr(email, '@') : NULL;
    if (!at || at == email || at[1] == 0 || strchr(at + 1, '@') || !only(email, n, is_graph))
        return err_set(e, "is not an email address: NAME@DOMAIN, printable ASCII, at most %d characters",
                       INVENTORY_EMAIL_MAX);
    return true;
}

bool inventory_check_device_name(const char *name, struct err *e)
{
    size_t n = strnlen(name, INVENTORY_NAME_MAX + 1);
    if (n == 0 || n > INVENTORY_NAME_MAX || !only(name, n, is_name_char))
        return err_set(e, "is not a device name: 1 to %d letters, digits, \"_\", \".\" and \"-\"",
                       INVENTORY_NAME_MAX);
    return true;
}

bool inventory_check_md5_key(const uint8_t *key, size_t n, struct err *e)
{
    /* Router command lines take no space, and "?" asks them for help. */
    bool ok = n >= 1 && n <= INVENTORY_MD5_KEY_MAX;
    for (size_t i = 0; ok && i < n; i++)
        ok = is_graph((char)key[i]) && key[i] != '?';
    return ok ||
           err_set(e, "is not an MD5 password: 1 to %d printable ASCII characters, without space and \"?\"",
                   INVENTORY_MD5_KEY_MAX);
}

bool inventory_check_site_name(const char *name, struct err *e)
{
    size_t n = strnlen(name, INVENTORY_NAME_MAX + 1);
    if (n == 0 || n > INVENTORY_NAME_MAX || !only(name, n, is_print) || name[0] == ' ' ||
        name[n - 1] == ' ' || only(name, n, is_digit))
        return err_set(e,
                       "is not a site name: 1 to %d printable ASCII characters, no space at either end, "
                       "and not only digits",
                       INVENTORY_NAME_MAX);
    return true;
}

bool inventory_check_address(const char *text, struct addr *out, struct err *e)
{
    if (strchr(text, '%'))
        return err_set(
            e, "has an interface (%%…), which has a meaning only on the agent's machine: leave it out");
    if (!addr_parse_ip(out, text))
        return err_set(e, "is not an IPv4 or IPv6 address (without port or prefix length)");
    static const uint8_t zero[16];
    bool multicast = out->family == 4 ? out->ip[0] >= 224 : out->ip[0] == 0xff;
    if (multicast || memcmp(out->ip, zero, sizeof zero) == 0)
        return err_set(e, "is not an address that a router connects from");
    return true;
}

static bool read_device(sqlite3_stmt *stmt, struct inventory_device *d)
{
    struct err ignored;
    memset(d, 0, sizeof *d);
    if (!db_column_u32(stmt, 0, &d->id) || d->id == 0 || !db_column_u32(stmt, 1, &d->company_id) ||
        !db_column_u32(stmt, 2, &d->site_id) || !db_column_text(stmt, 3, d->name, sizeof d->name) ||
        !inventory_check_device_name(d->name, &ignored) || !db_column_u32(stmt, 4, &d->asn) ||
        sqlite3_column_int(stmt, 8) != 0)
        return false;
    d->enabled = sqlite3_column_int(stmt, 5) != 0;
    const void *key = sqlite3_column_blob(stmt, 6);
    int key_len = sqlite3_column_bytes(stmt, 6);
    if (key_len > INVENTORY_MD5_KEY_MAX)
        return false;
    d->md5_key_len = (uint8_t)key_len;
    if (key)
        memcpy(d->md5_key, key, (size_t)key_len);
    return true;
}

static bool read_address(sqlite3_stmt *stmt, struct inventory_device *d)
{
    struct err ignored;
    char text[ADDR_TEXT_MAX];
    if (d->address_count == INVENTORY_ADDRESSES_MAX || !db_column_text(stmt, 7, text, sizeof text) ||
        !inventory_check_address(text, &d->addresses[d->address_count], &ignored))
        return false;
    d->address_count++;
    return true;
}

bool inventory_read_devices(struct inventory *inv, sqlite3_stmt *stmt, inventory_device_cb *cb, void *arg,
                            struct err *e)
{
    struct inventory_device d = {0};
    int64_t id = 0; /* of the device being put together; 0: none yet */
    bool sound = false, all_sound = true, stopped = false;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        int64_t row_id = sqlite3_column_int64(stmt, 0);
        bool first_row = id == 0 || row_id != id;
        if (first_row) {
            stopped = sound && !cb(arg, &d);
            if (stopped)
                break;
            id = row_id;
            sound = read_device(stmt, &d);
        }
        sound = sound && read_address(stmt, &d);
        if (!sound && all_sound)
            all_sound = err_set(e, "%.300s: the row of device %lld is damaged", inv->path, (long long)id);
    }
    if (!stopped && sound)
        cb(arg, &d);
    OPENSSL_cleanse(&d, sizeof d);
    return db_done(inv, stmt, rc, e) && all_sound;
}
