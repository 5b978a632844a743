#include <stdlib.h>
#include <string.h>

#include "target/cli_command.h"

static bool is_number(const char *value)
{
    return value[0] != 0 && value[strspn(value, "0123456789")] == 0;
}

/* For digits only. strtoull() answers the largest number for one that is too large. */
static bool fits(const char *value)
{
    return strtoull(value, NULL, 10) <= UINT32_MAX;
}

bool cli_check_address(const char *value, struct err *e)
{
    struct addr unused;
    return inventory_check_address(value, &unused, e);
}

bool cli_check_asn(const char *value, struct err *e)
{
    return (is_number(value) && fits(value)) || err_set(e, "is not an AS number from 1 to 4294967295, or 0");
}

bool cli_check_site(const char *value, struct err *e)
{
    if (is_number(value))
        return fits(value) || err_set(e, "is not a site id from 1 to 4294967295");
    return inventory_check_site_name(value, e);
}
