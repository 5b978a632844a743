#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/table.h"
#include "target/cli_command.h"

/*
 * The commands that list: each row goes into a table for people or into a JSON array. All text of the
 * inventory has been checked to be printable ASCII.
 */

struct listing {
    bool json;
    json_t *array;
    struct table table;
    /* For names beside ids. */
    struct inventory_account *accounts;
    size_t account_count;
    struct inventory_site *sites;
    size_t site_count;
};

static void begin(struct listing *l, const struct cli *c, size_t columns, const char *const *heading)
{
    *l = (struct listing){.json = c->args.json, .table = {.columns = columns}};
    if (l->json)
        l->array = json_array();
    else
        table_add(&l->table, heading);
}

/* What could be read is printed, even if something else could not. */
static bool end(struct listing *l, bool ok, const char *none, struct err *e)
{
    if (l->json) {
        if (json_dumpf(l->array, stdout, JSON_INDENT(2)) != 0 && ok)
            ok = err_set(e, "the output could not be written");
        putchar('\n');
    } else {
        table_print(&l->table, stdout);
        if (ok && l->table.count <= l->table.columns)
            fprintf(stderr, "%s\n", none);
    }
    json_decref(l->array);
    table_free(&l->table);
    free(l->accounts);
    free(l->sites);
    return ok;
}

static void *grow(void *array, size_t count, size_t size)
{
    /* At every power of two. */
    if (count & (count - 1))
        return array;
    array = realloc(array, (count ? count * 2 : 1) * size);
    if (!array)
        abort();
    return array;
}

static bool keep_account(void *arg, const struct inventory_account *account)
{
    struct listing *l = arg;
    l->accounts = grow(l->accounts, l->account_count, sizeof *l->accounts);
    l->accounts[l->account_count++] = *account;
    return true;
}

static bool keep_site(void *arg, const struct inventory_site *site)
{
    struct listing *l = arg;
    l->sites = grow(l->sites, l->site_count, sizeof *l->sites);
    l->sites[l->site_count++] = *site;
    return true;
}

/* NULL when there is none. */
static const char *email_of(const struct listing *l, uint32_t company_id)
{
    for (size_t i = 0; i < l->account_count; i++)
        if (l->accounts[i].id == company_id)
            return l->accounts[i].email;
    return NULL;
}

static const char *site_name(const struct listing *l, uint32_t site_id)
{
    for (size_t i = 0; i < l->site_count; i++)
        if (l->sites[i].id == site_id)
            return l->sites[i].name;
    return NULL;
}

#define NUMBER_MAX 16

static const char *number(uint32_t n, char out[static NUMBER_MAX])
{
    snprintf(out, NUMBER_MAX, "%u", n);
    return out;
}

static json_t *number_or_null(uint32_t n)
{
    return n ? json_integer(n) : json_null();
}

static const char *or_dash(const char *text)
{
    return text ? text : "-";
}

/* --- accounts --- */

static void date_text(int64_t seconds, const char *format, char *out, size_t size)
{
    time_t t = (time_t)seconds;
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(out, size, format, &tm) == 0)
        snprintf(out, size, "-");
}

static bool list_account(void *arg, const struct inventory_account *a)
{
    struct listing *l = arg;
    char id[NUMBER_MAX], devices[NUMBER_MAX], created[64];
    if (l->json) {
        date_text(a->created, "%Y-%m-%dT%H:%M:%SZ", created, sizeof created);
        json_array_append_new(l->array, json_pack("{sIsssbsssI}", "id", (json_int_t)a->id, "email", a->email,
                                                  "enabled", (int)a->enabled, "created", created, "devices",
                                                  (json_int_t)a->devices));
        return true;
    }
    date_text(a->created, "%Y-%m-%d %H:%M", created, sizeof created);
    table_add(&l->table,
              (const char *const[]){number(a->id, id), a->email, a->enabled ? "enabled" : "disabled",
                                    number(a->devices, devices), created});
    return true;
}

bool cli_account_list(struct cli *c, struct err *e)
{
    struct listing l;
    static const char *const heading[] = {"ID", "EMAIL", "STATE", "DEVICES", "CREATED (UTC)"};
    begin(&l, c, 5, heading);
    return end(&l, inventory_list_accounts(c->inv, list_account, &l, e), "No accounts.", e);
}

/* --- sites --- */

static bool list_site(void *arg, const struct inventory_site *s)
{
    struct listing *l = arg;
    const char *email = email_of(l, s->company_id);
    char id[NUMBER_MAX], devices[NUMBER_MAX];
    if (l->json)
        json_array_append_new(l->array, json_pack("{sIsssIss?sI}", "id", (json_int_t)s->id, "name", s->name,
                                                  "company_id", (json_int_t)s->company_id, "account", email,
                                                  "devices", (json_int_t)s->devices));
    else
        table_add(&l->table, (const char *const[]){number(s->id, id), s->name, number(s->devices, devices),
                                                   or_dash(email)});
    return true;
}

bool cli_site_list(struct cli *c, struct err *e)
{
    struct listing l;
    static const char *const heading[] = {"ID", "NAME", "DEVICES", "ACCOUNT"};
    begin(&l, c, 4, heading);
    return end(&l,
               inventory_list_accounts(c->inv, keep_account, &l, e) &&
                   inventory_list_sites(c->inv, list_site, &l, e),
               "No sites.", e);
}

/* --- devices --- */

static json_t *addresses_json(const struct inventory_device *d)
{
    json_t *array = json_array();
    char text[ADDR_TEXT_MAX];
    for (size_t i = 0; i < d->address_count; i++)
        json_array_append_new(array, json_string(addr_ip_text(&d->addresses[i], text)));
    return array;
}

static void addresses_text(const struct inventory_device *d, char *out, size_t size)
{
    char text[ADDR_TEXT_MAX];
    size_t n = 0;
    out[0] = 0;
    for (size_t i = 0; i < d->address_count && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? "," : "", addr_ip_text(&d->addresses[i], text));
}

static bool list_device(void *arg, const struct inventory_device *d)
{
    struct listing *l = arg;
    const char *email = email_of(l, d->company_id), *site = site_name(l, d->site_id);
    if (l->json) {
        json_array_append_new(
            l->array, json_pack("{sIsssososs?sosIss?sbsb}", "id", (json_int_t)d->id, "name", d->name,
                                "addresses", addresses_json(d), "site_id", number_or_null(d->site_id), "site",
                                site, "asn", number_or_null(d->asn), "company_id", (json_int_t)d->company_id,
                                "account", email, "enabled", (int)d->enabled, "md5", d->md5_key_len > 0));
        return true;
    }
    char id[NUMBER_MAX], asn[NUMBER_MAX], site_text[NUMBER_MAX + INVENTORY_NAME_MAX + 4];
    char addresses[INVENTORY_ADDRESSES_MAX * ADDR_TEXT_MAX];
    addresses_text(d, addresses, sizeof addresses);
    snprintf(site_text, sizeof site_text, d->site_id ? "%u (%s)" : "-", d->site_id, or_dash(site));
    table_add(&l->table,
              (const char *const[]){number(d->id, id), d->name, addresses, site_text,
                                    d->asn ? number(d->asn, asn) : "-", d->md5_key_len > 0 ? "set" : "-",
                                    d->enabled ? "enabled" : "disabled", or_dash(email)});
    return true;
}

bool cli_device_list(struct cli *c, struct err *e)
{
    struct listing l;
    static const char *const heading[] = {"ID", "NAME", "ADDRESSES", "SITE", "AS", "MD5", "STATE", "ACCOUNT"};
    begin(&l, c, 8, heading);
    return end(&l,
               inventory_list_accounts(c->inv, keep_account, &l, e) &&
                   inventory_list_sites(c->inv, keep_site, &l, e) &&
                   inventory_list_devices(c->inv, 0, 0, list_device, &l, e),
               "No devices.", e);
}
