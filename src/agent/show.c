#include "agent/show.h"

#include <stdio.h>
#include <string.h>

#include "agent/client.h"
#include "base/buf.h"
#include "daemon/table.h"

/* A cell of a table. */
#define CELL 160

/* The page, or NULL after a complaint on stderr. */
static json_t *page(const struct agent_config *c, const char *path)
{
    struct err e;
    long status;
    json_t *json = client_get(&c->metrics, path, &status, &e);
    if (json && status != 200) {
        char why[CELL];
        err_set(&e, "the agent answers %s with HTTP status %ld %s", path, status,
                client_text(json_object_get(json, "error"), why, sizeof why));
        json_decref(json);
        json = NULL;
    }
    if (!json)
        fprintf(stderr, "kbgp: %s\n", e.text);
    return json;
}

static int print_json(const json_t *json)
{
    bool ok = json_dumpf(json, stdout, JSON_INDENT(2)) == 0;
    return putchar('\n') != EOF && ok ? 0 : 1;
}

/* --- values in words; "-" for one that is missing or of another type --- */

static const char *text(const json_t *object, const char *key, char out[static CELL])
{
    if (client_text(json_object_get(object, key), out, CELL)[0] == 0)
        strcpy(out, "-");
    return out;
}

static const char *number(const json_t *object, const char *key, char out[static CELL])
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value))
        snprintf(out, CELL, "%lld", (long long)json_integer_value(value));
    else
        strcpy(out, "-");
    return out;
}

/* "16s", "5m 3s", "20h 48m", "3d 4h". */
static const char *duration(const json_t *object, const char *key, char out[static CELL])
{
    const json_t *value = json_object_get(object, key);
    long long s = (long long)json_integer_value(value) / 1000;
    if (!json_is_integer(value) || s < 0)
        strcpy(out, "-");
    else if (s < 60)
        snprintf(out, CELL, "%llds", s);
    else if (s < 3600)
        snprintf(out, CELL, "%lldm %llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, CELL, "%lldh %lldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, CELL, "%lldd %lldh", s / 86400, s / 3600 % 24);
    return out;
}

/* "2023-07-25T14:00:22.696499347Z" without the fraction. */
static const char *moment(const json_t *object, const char *key, char out[static CELL])
{
    text(object, key, out);
    char *dot = strchr(out, '.');
    if (dot)
        strcpy(dot, "Z");
    return out;
}

/* --- status --- */

static void line(const char *name, const char *value)
{
    printf("%-10s  %s\n", name, value);
}

static void print_health(const struct agent_config *c)
{
    char word[32];
    struct err e;
    line("Health", client_health(&c->metrics, word, &e) ? word : "-");
}

static void print_control(const json_t *status)
{
    const json_t *control = json_object_get(status, "ControlStream");
    char since[CELL], lasted[CELL], messages[CELL], all[4 * CELL];
    moment(control, "Since", since);
    duration(control, "DurationMs", lasted);
    if (json_is_true(json_object_get(control, "Connected")))
        snprintf(all, sizeof all, "connected since %s (%s), %s messages received", since, lasted,
                 number(control, "MessagesRx", messages));
    else if (json_is_true(json_object_get(control, "CredentialsRejected")))
        strcpy(all, "not connected: the target rejects the account or its token");
    else if (since[0] == '-')
        strcpy(all, "not connected");
    else
        snprintf(all, sizeof all, "not connected since %s (%s)", since, lasted);
    line("Control", all);
}

static void print_heartbeat(const json_t *status)
{
    const json_t *beat = json_object_get(status, "Heartbeats");
    char sent[CELL], answered[CELL], rtt[CELL], all[4 * CELL];
    snprintf(all, sizeof all, "sent %s ago, answered %s ago, round trip %s ms",
             duration(beat, "MsSinceLastTx", sent), duration(beat, "MsSinceLastRx", answered),
             number(beat, "LastTxRTTMs", rtt));
    line("Heartbeat", answered[0] == '-' ? "not answered yet" : all);
}

static void print_listeners(const json_t *config)
{
    const json_t *list = json_object_get(config, "Listeners");
    char all[1000] = "", one[CELL];
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(list) && n < sizeof all; i++)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "",
                              client_text(json_array_get(list, i), one, sizeof one));
    line("Listening", all[0] ? all : "-");
}

static void print_md5(const json_t *config)
{
    char interface[CELL], all[2 * CELL];
    snprintf(all, sizeof all, "on, interface %s", text(config, "MD5Interface", interface));
    line("MD5", json_is_true(json_object_get(config, "MD5Enabled")) ? all : "off");
}

static void print_account(const json_t *config)
{
    char email[CELL], site[CELL], all[3 * CELL];
    number(config, "SiteID", site);
    snprintf(all, sizeof all, "%s, site %s", text(config, "APIEmail", email),
             strcmp(site, "0") == 0 ? "any" : site);
    line("Account", all);
}

int show_status(const struct agent_config *c)
{
    json_t *status = page(c, "/admin/status");
    if (!status)
        return 1;
    int code = 0;
    if (c->json) {
        code = print_json(status);
    } else {
        const json_t *config = json_object_get(status, "Config");
        char cell[CELL];
        print_health(c);
        line("Target", text(config, "ProxyTarget", cell));
        print_control(status);
        print_heartbeat(status);
        line("Sessions", number(status, "ActiveSessions", cell));
        print_listeners(config);
        print_md5(config);
        print_account(config);
        line("Instance", text(status, "InstanceID", cell));
        line("Version", text(status, "Version", cell));
    }
    json_decref(status);
    return code;
}

/* --- sessions --- */

/* "812", "64k", "1.5M", "20G": bytes. */
static const char *bytes(const json_t *object, const char *key, char out[static CELL])
{
    double n = (double)json_integer_value(json_object_get(object, key));
    static const char units[] = " kMGTPE";
    size_t unit = 0;
    while (n >= 1000 && unit < sizeof units - 2) {
        n /= 1000;
        unit++;
    }
    if (unit == 0)
        return number(object, key, out);
    snprintf(out, CELL, n < 10 ? "%.1f%c" : "%.0f%c", n, units[unit]);
    return out;
}

static void add_session(struct table *t, const json_t *s)
{
    const json_t *bgp = json_object_get(s, "BGP");
    char peer[CELL], device[CELL], since[CELL], lasted[CELL], state[CELL], bgp_state[CELL], asn[CELL],
        up[CELL], down[CELL];
    table_add(t, (const char *const[]){text(s, "Peer", peer), text(s, "Device", device),
                                       moment(s, "Time", since), duration(s, "DurationMs", lasted),
                                       text(s, "State", state), text(bgp, "State", bgp_state),
                                       number(bgp, "ASN", asn), bytes(s, "BytesUp", up),
                                       bytes(s, "BytesDown", down)});
}

int show_sessions(const struct agent_config *c)
{
    json_t *answer = page(c, "/admin/sessions");
    if (!answer)
        return 1;
    int code = 0;
    if (c->json) {
        code = print_json(answer);
    } else {
        static const char *const heading[] = {"PEER", "DEVICE", "SINCE", "DURATION", "STATE",
                                              "BGP",  "AS",     "UP",    "DOWN"};
        struct table t = {.columns = sizeof heading / sizeof *heading};
        const json_t *list = json_object_get(answer, "Sessions");
        table_add(&t, heading);
        for (size_t i = 0; i < json_array_size(list); i++)
            add_session(&t, json_array_get(list, i));
        table_print(&t, stdout);
        if (json_array_size(list) == 0)
            puts("no sessions");
        table_free(&t);
    }
    json_decref(answer);
    return code;
}
