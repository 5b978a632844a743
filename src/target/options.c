#include "target/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_PORT 443
/* More would not fit into the memory and descriptors of any machine this runs on. */
#define SESSIONS_MAX 1000000

/* --- values --- */

static bool check_listen(const char *value, struct err *e)
{
    struct addr unused;
    return addr_parse(&unused, value, DEFAULT_PORT) ||
           err_set(e, "is not IP, IP:PORT or [IPv6]:PORT (names are not looked up here)");
}

/* Opened here, so that the operator reads the flag and the file, and at once. */
static bool check_readable(const char *value, struct err *e)
{
    struct stat st;
    int fd = open(value, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(e, "cannot be read: %s", strerror(errno));
    bool directory = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    close(fd);
    return !directory || err_set(e, "is a directory, not a PEM file");
}

/* A DNS name or an IPv4 address; whether it exists is the resolver's to say. */
static bool is_host(const char *host)
{
    static const char accepted[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    return host[0] != 0 && host[0] != '-' && host[0] != '.' && host[strspn(host, accepted)] == 0;
}

static bool parse_port(const char *text, uint16_t *port)
{
    size_t n = strspn(text, "0123456789");
    uint32_t value = 0;
    if (n == 0 || n > 5 || text[n] != 0)
        return false;
    for (; *text; text++)
        value = value * 10 + (uint32_t)(*text - '0');
    *port = (uint16_t)value;
    return value >= 1 && value <= UINT16_MAX;
}

static const char accepted_backends[] = "accepted are collector and tcp://HOST:PORT";

/* Splits "tcp://HOST:PORT"; an IPv6 HOST stands in brackets. */
static bool parse_tcp_backend(const char *value, char host[static TARGET_BACKEND_HOST_MAX + 1],
                              uint16_t *port, struct err *e)
{
    const char *start = value + strlen("tcp://");
    if (start[strcspn(start, "/?#@")] != 0)
        return err_set(e, "has more than a host and a port: %s", accepted_backends);
    bool bracket = start[0] == '[';
    const char *end = bracket ? strchr(start, ']') : strrchr(start, ':');
    if (bracket)
        start++;
    const char *colon = bracket && end ? end + 1 : end;
    if (!colon || colon[0] != ':')
        return err_set(e, "has no port: %s", accepted_backends);
    size_t n = (size_t)(end - start);
    if (n > TARGET_BACKEND_HOST_MAX)
        return err_set(e, "has a host name longer than %d characters", TARGET_BACKEND_HOST_MAX);
    memcpy(host, start, n);
    host[n] = 0;
    struct addr address;
    if (!bracket && strchr(host, ':'))
        return err_set(e, "has an IPv6 address without brackets: write tcp://[ADDRESS]:PORT");
    if (bracket ? !addr_parse_ip(&address, host) || !strchr(host, ':') : !is_host(host))
        return err_set(e, "has no usable host: %s", accepted_backends);
    if (!parse_port(colon + 1, port))
        return err_set(e, "has no port from 1 to 65535: %s", accepted_backends);
    return true;
}

static bool check_backend(const char *value, struct err *e)
{
    char host[TARGET_BACKEND_HOST_MAX + 1];
    uint16_t port;
    if (strcmp(value, "collector") == 0)
        return true;
    if (strncmp(value, "tcp://", 6) != 0)
        return err_set(e, "is not a backend: %s", accepted_backends);
    return parse_tcp_backend(value, host, &port, e);
}

static bool parse_router_id(const char *value, uint32_t *out)
{
    struct in_addr in;
    if (inet_pton(AF_INET, value, &in) != 1)
        return false;
    *out = ntohl(in.s_addr);
    return *out != 0;
}

static bool check_router_id(const char *value, struct err *e)
{
    uint32_t unused;
    return parse_router_id(value, &unused) ||
           err_set(e, "is not a BGP identifier like 192.0.2.1 (and not 0.0.0.0)");
}

static bool check_hold_time(const char *value, struct err *e)
{
    /* RFC 4271 section 4.2. The engine has seen to the range. */
    bool too_short = strtol(value, NULL, 10) == 1 || strtol(value, NULL, 10) == 2;
    return !too_short || err_set(e, "is not a hold time: 0 (never) or at least 3 seconds");
}

static bool check_log_level(const char *value, struct err *e)
{
    enum log_level unused;
    return log_level_parse(value, &unused) || err_set(e, "is not a level: debug, info, warn or error");
}

bool target_options_check_ip(const char *value, struct err *e)
{
    struct addr unused;
    return addr_parse_ip(&unused, value) || err_set(e, "is not an IP address");
}

/* --- the table --- */

#define FIELD(f) .offset = offsetof(struct target_config, f)

static const struct option table[] = {
    {.name = "db",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_DB",
     .def = "/var/lib/kbgp-target/kbgp.db",
     .value = "FILE",
     .help = "The inventory: accounts, sites, devices.",
     FIELD(db)},
    {.name = "listen",
     .kind = OPTION_LIST,
     .env = "KBGP_TARGET_LISTEN",
     .def = "0.0.0.0:443,[::]:443",
     .value = "IP:PORT",
     .help = "Where agents connect to. Port 443 where none is given.",
     .check = check_listen,
     FIELD(given.listen)},
    {.name = "tls-cert",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_TLS_CERT",
     .value = "FILE",
     .help = "Certificate chain (PEM).",
     .check = check_readable,
     FIELD(tls_cert)},
    {.name = "tls-key",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_TLS_KEY",
     .value = "FILE",
     .help = "Its private key (PEM).",
     .check = check_readable,
     FIELD(tls_key)},
    {.name = "insecure",
     .kind = OPTION_BOOL,
     .env = "KBGP_TARGET_INSECURE",
     .help = "No TLS: tokens and routes cross the network in clear. For tests, and behind a TLS proxy.",
     FIELD(insecure)},
    {.name = "backend",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_BACKEND",
     .def = "collector",
     .value = "URL",
     .help = "What happens to the sessions. collector: speak BGP here, passively. tcp://HOST:PORT: hand them "
             "to a "
             "BGP daemon.",
     .check = check_backend,
     FIELD(given.backend)},
    {.name = "backend-md5-password-file",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_BACKEND_MD5_PASSWORD_FILE",
     .value = "FILE",
     .help = "tcp backend: the TCP-MD5 password (RFC 2385) that the BGP daemon wants of us, alone in a file. "
             "SIGHUP reads it again.",
     FIELD(backend_md5_file)},
    {.name = "collector-json",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_COLLECTOR_JSON",
     .value = "FILE",
     .help = "Collector: write what routers announce and withdraw as JSON lines; - is stdout.",
     FIELD(collector_json)},
    {.name = "local-as",
     .kind = OPTION_INT,
     .env = "KBGP_TARGET_LOCAL_AS",
     .def = "0",
     .value = "N",
     .max = UINT32_MAX,
     .help = "Collector: our AS number. 0: each router's own, as an iBGP peer.",
     FIELD(given.local_as)},
    {.name = "router-id",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_ROUTER_ID",
     .def = "192.0.2.1",
     .value = "IP",
     .help = "Collector: our BGP identifier. A router that has the same is answered with another one. The "
             "default is "
             "an address that no network uses.",
     .check = check_router_id,
     FIELD(given.router_id)},
    {.name = "hold-time",
     .kind = OPTION_INT,
     .env = "KBGP_TARGET_HOLD_TIME",
     .def = "180",
     .value = "SECONDS",
     .max = UINT16_MAX,
     .help = "Collector: the hold time we propose; the router's may be shorter. 0: none.",
     .check = check_hold_time,
     FIELD(given.hold_time)},
    {.name = "log-level",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET_LOG_LEVEL",
     .def = "info",
     .value = "LEVEL",
     .help = "debug, info, warn or error.",
     .check = check_log_level,
     FIELD(given.log_level)},
    {.name = "human-logs",
     .kind = OPTION_BOOL,
     .env = "KBGP_TARGET_HUMAN_LOGS",
     .help = "Log as text for people instead of JSON.",
     FIELD(human_logs)},
    {TARGET_METRICS_ADDR_OPTION, .help = "Address of the status pages.", FIELD(given.metrics_addr)},
    {TARGET_METRICS_PORT_OPTION, .help = "Port of the status pages.", FIELD(given.metrics_port)},
    {.name = "max-connection-age",
     .kind = OPTION_INT,
     .env = "KBGP_TARGET_MAX_CONNECTION_AGE",
     .def = "0",
     .value = "SECONDS",
     .help = "End agents' connections after this time; their sessions move to new ones and lose nothing. 0: "
             "never",
     .min = 0,
     .max = 31536000,
     FIELD(given.max_connection_age)},
    {.name = "max-sessions",
     .kind = OPTION_INT,
     .env = "KBGP_TARGET_MAX_SESSIONS",
     .def = "10000",
     .value = "N",
     .min = 1,
     .max = SESSIONS_MAX,
     .help = "How many device sessions are served at once; more are refused.",
     FIELD(given.max_sessions)},
    {.name = "version", .kind = OPTION_BOOL, .help = "Print the version and exit.", FIELD(version)},
};

static const struct options options = {
    .program = "kbgp-target",
    .usage = "Usage: kbgp-target serve (--tls-cert FILE --tls-key FILE | --insecure) [OPTIONS]\n\n"
             "Serves kbgp agents: the other end of every BGP session that they relay.",
    .footer = "Accounts, sites and devices: kbgp-target account|site|device --help",
    .table = table,
    .count = sizeof table / sizeof table[0],
};

/* --- all together --- */

static bool check_tls(const struct target_config *c, struct err *e)
{
    if (c->insecure && (c->tls_cert || c->tls_key))
        return err_set(e, "--insecure and --%s exclude each other: serve with TLS or without",
                       c->tls_cert ? "tls-cert" : "tls-key");
    if (c->insecure || (c->tls_cert && c->tls_key))
        return true;
    if (!c->tls_cert && !c->tls_key)
        return err_set(e, "--tls-cert and --tls-key are missing (--insecure serves without TLS)");
    return err_set(e, "--%s is missing: --%s has been given, and they belong together",
                   c->tls_cert ? "tls-key" : "tls-cert", c->tls_cert ? "tls-cert" : "tls-key");
}

static bool take_listen(struct target_config *c, struct err *e)
{
    const struct option_list *list = &c->given.listen;
    if (list->count == 0)
        return err_set(e, "--listen: no address is given");
    if (list->count > TARGET_LISTEN_MAX)
        return err_set(e, "--listen: %zu addresses, at most %d are served", list->count, TARGET_LISTEN_MAX);
    for (size_t i = 0; i < list->count; i++)
        if (!addr_parse(&c->listen[i], list->items[i], DEFAULT_PORT))
            return check_listen(list->items[i], e);
    c->listen_count = list->count;
    return true;
}

static bool take_backend(struct target_config *c, struct err *e)
{
    if (strcmp(c->given.backend, "collector") == 0) {
        c->backend = TARGET_BACKEND_COLLECTOR;
        return !c->backend_md5_file || err_set(e,
                                               "--backend-md5-password-file: \"%.100s\" would not be used, "
                                               "as the backend is the collector",
                                               c->backend_md5_file);
    }
    c->backend = TARGET_BACKEND_TCP;
    if (c->collector_json)
        return err_set(
            e,
            "--collector-json: \"%.100s\" would stay empty, as the backend is not the collector but %.100s",
            c->collector_json, c->given.backend);
    return parse_tcp_backend(c->given.backend, c->backend_host, &c->backend_port, e);
}

/* What the checks of the table have let pass becomes what the program works with. */
static bool take_all(struct target_config *c, struct err *e)
{
    if (!check_tls(c, e) || !take_listen(c, e) || !take_backend(c, e))
        return false;
    if (!parse_router_id(c->given.router_id, &c->router_id))
        return check_router_id(c->given.router_id, e);
    if (!log_level_parse(c->given.log_level, &c->log_level))
        return check_log_level(c->given.log_level, e);
    if (!addr_parse_ip(&c->metrics, c->given.metrics_addr))
        return target_options_check_ip(c->given.metrics_addr, e);
    c->metrics.port = (uint16_t)c->given.metrics_port;
    c->local_as = (uint32_t)c->given.local_as;
    c->hold_time = (uint16_t)c->given.hold_time;
    c->max_sessions = (uint32_t)c->given.max_sessions;
    c->max_connection_age = (uint32_t)c->given.max_connection_age;
    return true;
}

enum options_result target_options_load(int argc, char **argv, struct target_config *config, struct err *e)
{
    *config = (struct target_config){0};
    enum options_result result = options_parse(&options, argc, argv, config, NULL, 0, NULL, e);
    if (result == OPTIONS_OK && !config->version && !take_all(config, e))
        return OPTIONS_ERROR;
    return result;
}

void target_options_free(struct target_config *config)
{
    options_free(&options, config);
}

void target_options_help(FILE *out)
{
    options_help(&options, out);
}

const struct option *target_options_table(size_t *count)
{
    *count = options.count;
    return options.table;
}
