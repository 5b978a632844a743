#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target/cli_command.h"
#include "target/md5_file.h"

/* The commands that change something. */

/* --- accounts --- */

/* The token alone on stdout. It is lost if it cannot be printed, and the operator must learn that now. */
static bool print_token(char token[static INVENTORY_TOKEN_LEN + 1], struct err *e)
{
    bool printed = puts(token) >= 0 && fflush(stdout) == 0;
    OPENSSL_cleanse(token, INVENTORY_TOKEN_LEN + 1);
    return printed ||
           err_set(e, "the token could not be written to stdout: make another with `account token`");
}

#define TOKEN_ADVICE                                                                                         \
    "Above is its token, shown only now. The agent takes it from KENTIK_API_TOKEN, --token-file or --token."

bool cli_account_add(struct cli *c, struct err *e)
{
    char token[INVENTORY_TOKEN_LEN + 1];
    uint32_t id;
    if (!inventory_add_account(c->inv, c->word, token, &id, e) || !print_token(token, e))
        return false;
    fprintf(stderr, "Account %s added, company id %u.\n" TOKEN_ADVICE "\n", c->word, id);
    return true;
}

bool cli_account_token(struct cli *c, struct err *e)
{
    char token[INVENTORY_TOKEN_LEN + 1];
    if (!inventory_renew_token(c->inv, c->word, token, e) || !print_token(token, e))
        return false;
    fprintf(stderr, "Account %s has a new token; the old one is void.\n" TOKEN_ADVICE "\n", c->word);
    return true;
}

bool cli_account_enable(struct cli *c, struct err *e)
{
    if (!inventory_enable_account(c->inv, c->word, true, e))
        return false;
    fprintf(stderr, "Account %s enabled.\n", c->word);
    return true;
}

bool cli_account_disable(struct cli *c, struct err *e)
{
    if (!inventory_enable_account(c->inv, c->word, false, e))
        return false;
    fprintf(stderr, "Account %s disabled.\n", c->word);
    return true;
}

bool cli_account_remove(struct cli *c, struct err *e)
{
    if (!inventory_remove_account(c->inv, c->word, e))
        return false;
    fprintf(stderr, "Account %s removed.\n", c->word);
    return true;
}

struct only_account {
    uint32_t count, id;
};

static bool count_account(void *arg, const struct inventory_account *account)
{
    struct only_account *only = arg;
    only->count++;
    only->id = account->id;
    return true;
}

/* Whose the new thing is: --account, else whose the site is, else the only account's. */
static bool choose_account(struct cli *c, const struct inventory_site *site, uint32_t *company_id,
                           struct err *e)
{
    if (c->args.account) {
        struct inventory_account account;
        if (!inventory_get_account(c->inv, c->args.account, &account, e))
            return false;
        *company_id = account.id;
        return true;
    }
    if (site && site->id != 0) {
        *company_id = site->company_id;
        return true;
    }
    struct only_account only = {0};
    if (!inventory_list_accounts(c->inv, count_account, &only, e))
        return false;
    if (only.count == 0)
        return err_set(e, "there is no account yet: make one with `kbgp-target account add EMAIL`");
    if (only.count > 1)
        return err_set(e, "there are %u accounts: say whose \"%s\" is with --account EMAIL", only.count,
                       c->word);
    *company_id = only.id;
    return true;
}

/* --- sites --- */

bool cli_site_add(struct cli *c, struct err *e)
{
    uint32_t company_id, id = (uint32_t)c->args.id;
    if (!choose_account(c, NULL, &company_id, e) || !inventory_add_site(c->inv, company_id, c->word, &id, e))
        return false;
    printf("%u\n", id);
    fprintf(stderr, "Site %u (%s) added.\n", id, c->word);
    return true;
}

bool cli_site_remove(struct cli *c, struct err *e)
{
    struct inventory_site site;
    if (!inventory_get_site(c->inv, c->word, &site, e) || !inventory_remove_site(c->inv, site.id, e))
        return false;
    fprintf(stderr, "Site %u (%s) removed.\n", site.id, site.name);
    return true;
}

/* The site that --site names; id 0 for "0". */
static bool given_site(struct cli *c, struct inventory_site *site, struct err *e)
{
    *site = (struct inventory_site){0};
    return strcmp(c->args.site, "0") == 0 || inventory_get_site(c->inv, c->args.site, site, e);
}

/* --- devices --- */

/* What the options say, into the device; --site is not among them. */
static bool take_values(const struct cli *c, struct inventory_device *d, struct err *e)
{
    const struct option_list *addresses = &c->args.addresses;
    if (addresses->count > 0)
        d->address_count = 0;
    for (size_t i = 0; i < addresses->count && i < INVENTORY_ADDRESSES_MAX; i++)
        if (!inventory_check_address(addresses->items[i], &d->addresses[d->address_count++], e))
            return false;
    if (c->args.asn)
        d->asn = (uint32_t)strtoul(c->args.asn, NULL, 10);
    if (c->args.md5_file) {
        struct md5_key key;
        if (!md5_file_read(c->args.md5_file, &key, e))
            return err_prefix(e, "--md5-password-file");
        memcpy(d->md5_key, key.bytes, key.len);
        d->md5_key_len = key.len;
        OPENSSL_cleanse(&key, sizeof key);
    }
    if (c->args.no_md5)
        d->md5_key_len = 0;
    return true;
}

bool cli_device_add(struct cli *c, struct err *e)
{
    struct inventory_device d = {.enabled = true};
    struct inventory_site site = {0};
    snprintf(d.name, sizeof d.name, "%s", c->word);
    bool ok = take_values(c, &d, e) && (!c->args.site || given_site(c, &site, e)) &&
              choose_account(c, &site, &d.company_id, e);
    d.site_id = site.id;
    ok = ok && inventory_add_device(c->inv, &d, e);
    OPENSSL_cleanse(d.md5_key, sizeof d.md5_key);
    if (!ok)
        return false;
    fprintf(stderr, "Device %s added with %u address%s, id %u.\n", d.name, d.address_count,
            d.address_count == 1 ? "" : "es", d.id);
    return true;
}

bool cli_device_set(struct cli *c, struct err *e)
{
    struct inventory_device d = {0};
    struct inventory_site site;
    bool ok = inventory_get_device(c->inv, c->word, &d, e) && take_values(c, &d, e);
    if (ok && c->args.site) {
        ok = given_site(c, &site, e);
        d.site_id = site.id;
    }
    ok = ok && inventory_change_device(c->inv, &d, e);
    OPENSSL_cleanse(d.md5_key, sizeof d.md5_key);
    if (!ok)
        return false;
    fprintf(stderr, "Device %s changed.\n", d.name);
    return true;
}

static bool enable_device(struct cli *c, bool enabled, struct err *e)
{
    struct inventory_device d;
    if (!inventory_get_device(c->inv, c->word, &d, e))
        return false;
    d.enabled = enabled;
    bool ok = inventory_change_device(c->inv, &d, e);
    OPENSSL_cleanse(d.md5_key, sizeof d.md5_key);
    if (!ok)
        return false;
    fprintf(stderr, "Device %s %s.\n", d.name, enabled ? "enabled" : "disabled");
    return true;
}

bool cli_device_enable(struct cli *c, struct err *e)
{
    return enable_device(c, true, e);
}

bool cli_device_disable(struct cli *c, struct err *e)
{
    return enable_device(c, false, e);
}

bool cli_device_remove(struct cli *c, struct err *e)
{
    if (!inventory_remove_device(c->inv, c->word, e))
        return false;
    fprintf(stderr, "Device %s removed.\n", c->word);
    return true;
}
