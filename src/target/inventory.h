#ifndef KBGP_TARGET_INVENTORY_H
#define KBGP_TARGET_INVENTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"

/*
 * Who may connect: accounts (a company, with an email and a token), sites, and devices (routers, known by
 * their source addresses). They live in one SQLite file that the server reads while the commands `account`,
 * `site` and `device` change it (target/cli). SQLite stays inside inventory*.c.
 *
 * An address is known within an account and a site: private addresses repeat from site to site, and from
 * company to company. The devices without a site share one more such space. Link-local addresses are kept
 * without their interface, which has a meaning only on the agent's machine.
 *
 * All ids are 1…4294967295, as on the wire; 0 stands for none. Ids of accounts and devices are not used
 * again.
 */
struct inventory;

#define INVENTORY_EMAIL_MAX     254
#define INVENTORY_NAME_MAX      60
#define INVENTORY_TOKEN_LEN     64 /* 32 random bytes in hexadecimal */
#define INVENTORY_ADDRESSES_MAX 16
#define INVENTORY_MD5_KEY_MAX   80

struct inventory_account {
    uint32_t id; /* the company id */
    bool enabled;
    int64_t created; /* seconds since 1970 */
    uint32_t devices;
    char email[INVENTORY_EMAIL_MAX + 1];
};

struct inventory_site {
    uint32_t id;
    uint32_t company_id;
    uint32_t devices;
    char name[INVENTORY_NAME_MAX + 1];
};

struct inventory_device {
    uint32_t id;
    uint32_t company_id;
    uint32_t site_id; /* 0: without a site */
    uint32_t asn;     /* 0: not known */
    bool enabled;
    uint8_t address_count; /* 1…INVENTORY_ADDRESSES_MAX */
    uint8_t md5_key_len;   /* 0: no key */
    char name[INVENTORY_NAME_MAX + 1];
    uint8_t md5_key[INVENTORY_MD5_KEY_MAX];
    struct addr addresses[INVENTORY_ADDRESSES_MAX]; /* port 0 */
};

/*
 * Opens the file. Unless `readonly`, a missing or empty one becomes a new inventory: mode 0600, and, when
 * root makes it in another user's directory, owned by that user, as the server runs under that name. The
 * directory must exist. With `readonly` a missing file is an error, and no query waits long for a lock. NULL,
 * with words, on failure: also for a file of another program and for one written by a newer version.
 */
struct inventory *inventory_open(const char *path, bool readonly, struct err *e);
void inventory_close(struct inventory *inv); /* NULL is fine */

/* --- for the server --- */

enum inventory_auth {
    INVENTORY_AUTH_OK,
    INVENTORY_AUTH_UNKNOWN_EMAIL,
    INVENTORY_AUTH_BAD_TOKEN,
    INVENTORY_AUTH_DISABLED, /* the token was right */
    INVENTORY_AUTH_ERROR,    /* the database failed */
};

/*
 * Whose credentials these are. The email's case does not matter; an unknown email takes as long as a wrong
 * token. Unless OK, `e` says why in words for our log (never with the token): the client must not be told an
 * unknown email from a wrong token.
 */
enum inventory_auth inventory_authenticate(struct inventory *inv, const char *email, const char *token,
                                           uint32_t *company_id, struct err *e);

enum inventory_found {
    INVENTORY_FOUND,
    INVENTORY_NONE,
    INVENTORY_AMBIGUOUS, /* the address stands in several sites and the agent has none: treat as NONE */
    INVENTORY_ERROR,     /* the database failed */
};

/*
 * The enabled device of that company with that source address (port and interface do not matter). site_id is
 * the agent's: only devices of that site; 0: any site, and devices without one. Unless FOUND, `e` says why. Of the device's
 * addresses `out` has this one.
 */
enum inventory_found inventory_find_device(struct inventory *inv, uint32_t company_id, uint32_t site_id,
                                           const struct addr *address, struct inventory_device *out,
                                           struct err *e);

/* Return false to stop. The callback must not use the inventory. */
typedef bool inventory_device_cb(void *arg, const struct inventory_device *device);

/*
 * All devices in order of their ids, disabled ones too, of a company (0: of all), and of a site (0: of any or
 * none). Returns false when something could not be read; a damaged row is left out, the others still come.
 */
bool inventory_list_devices(struct inventory *inv, uint32_t company_id, uint32_t site_id,
                            inventory_device_cb *cb, void *arg, struct err *e);

/* A place among a company's devices with a key; zeroed: before the first. */
struct inventory_md5_place {
    uint32_t device_id, position;
};

/*
 * The next addresses (at most `max`) of enabled devices that have an MD5 key, for an agent of that company
 * and site (0: of any site, or none). *n is how many; fewer than `max`: there are no more. An address that
 * stands in several sites comes several times. False with words when the database failed; a damaged address
 * is left out.
 */
bool inventory_next_md5_addresses(struct inventory *inv, uint32_t company_id, uint32_t site_id,
                                  struct inventory_md5_place *place, struct addr *out, size_t max, size_t *n,
                                  struct err *e);

/* Whether another process has changed the file since this was last asked, or since it was opened. Cheap. */
bool inventory_changed(struct inventory *inv);

/*
 * The questions between these two share one lock and see one state of the file; a change shows after the second. For a
 * moment only, as for a turn of the loop. Without them each question is on its own; failing does no harm.
 */
void inventory_hold(struct inventory *inv);
void inventory_let_go(struct inventory *inv);

/* --- for the commands: each is one transaction, and false with words when it fails --- */

/*
 * What an email, a device's name (letters, digits, "_", ".", "-"), a site's name may look like. Otherwise `e`
 * has what follows the value in a sentence: "is not …: what is accepted".
 */
bool inventory_check_email(const char *email, struct err *e);
bool inventory_check_device_name(const char *name, struct err *e);
/* Printable ASCII, not digits only, which would be an id. */
bool inventory_check_site_name(const char *name, struct err *e);
/* An address that a router can have; without %interface. Port and scope of `out` are 0. */
bool inventory_check_address(const char *text, struct addr *out, struct err *e);

/* What routers take as a TCP-MD5 password: 1 to 80 printable ASCII characters, no space, no "?". The words
 * never have the key in them. */
bool inventory_check_md5_key(const uint8_t *key, size_t n, struct err *e);

/* Makes a token: it is written to `token` and kept only as a salted hash. The caller wipes it. */
bool inventory_add_account(struct inventory *inv, const char *email,
                           char token[static INVENTORY_TOKEN_LEN + 1], uint32_t *id, struct err *e);
/* The old token is void at once. */
bool inventory_renew_token(struct inventory *inv, const char *email,
                           char token[static INVENTORY_TOKEN_LEN + 1], struct err *e);
bool inventory_enable_account(struct inventory *inv, const char *email, bool enabled, struct err *e);
/* Only an account without sites and devices can go. */
bool inventory_remove_account(struct inventory *inv, const char *email, struct err *e);
bool inventory_get_account(struct inventory *inv, const char *email, struct inventory_account *out,
                           struct err *e);
typedef bool inventory_account_cb(void *arg, const struct inventory_account *account);
bool inventory_list_accounts(struct inventory *inv, inventory_account_cb *cb, void *arg, struct err *e);

/* *id is the id wanted, or 0: then it is filled in. */
bool inventory_add_site(struct inventory *inv, uint32_t company_id, const char *name, uint32_t *id,
                        struct err *e);
/* Only a site without devices can go. */
bool inventory_remove_site(struct inventory *inv, uint32_t id, struct err *e);
/* By name, or by id when all are digits. */
bool inventory_get_site(struct inventory *inv, const char *name_or_id, struct inventory_site *out,
                        struct err *e);
typedef bool inventory_site_cb(void *arg, const struct inventory_site *site);
bool inventory_list_sites(struct inventory *inv, inventory_site_cb *cb, void *arg, struct err *e);

/* Adds all that `device` says; its id is filled in. */
bool inventory_add_device(struct inventory *inv, struct inventory_device *device, struct err *e);
/* Writes site, AS, addresses, MD5 key and `enabled` of the device with that id. */
bool inventory_change_device(struct inventory *inv, const struct inventory_device *device, struct err *e);
bool inventory_remove_device(struct inventory *inv, const char *name, struct err *e);
bool inventory_get_device(struct inventory *inv, const char *name, struct inventory_device *out,
                          struct err *e);

#endif
