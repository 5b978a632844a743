#include "agent/options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/env_file.h"
#include "daemon/options_doc.h"

/* The defaults that do not stand in the table as text. */
#define DEFAULT_TARGET_PORT 443
#define DEFAULT_LISTEN_PORT 179
#define DEFAULT_REGION      "us"
#define LOG_EXPORT_PATH     "/agents/v202204/logs"
#define METRICS_EXPORT_PATH "/agents/v202204/metrics"

/* --- checks of single values --- */

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS  "0123456789"

static bool is_made_of(const char *text, const char *accepted)
{
    return text[0] != 0 && text[strspn(text, accepted)] == 0;
}

/* What may stand in a header: no control characters, and no spaces, which in these values are slips of the
 * hand. */
static bool is_visible_ascii(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

static bool check_email(const char *value, struct err *e)
{
    return (strlen(value) <= 254 && is_visible_ascii(value)) ||
           err_set(e, "is not an e-mail address (printable ASCII, no spaces, at most 254 characters)");
}

static bool check_token(const char *value, struct err *e)
{
    if (strlen(value) > AGENT_TOKEN_MAX)
        return err_set(e, "is longer than %d characters", AGENT_TOKEN_MAX);
    return is_visible_ascii(value) || err_set(e, "has characters other than printable ASCII without spaces");
}

static bool check_region(const char *value, struct err *e)
{
    return (strlen(value) <= 63 && is_made_of(value, LETTERS DIGITS "-") && value[0] != '-') ||
           err_set(e, "is not a region: us, eu, or another name of letters, digits and dashes");
}

static bool is_dns_name(const char *host)
{
    return host[0] != '-' && host[0] != '.' && is_made_of(host, LETTERS DIGITS "-._");
}

static bool parse_port(const char *text, uint16_t *port)
{
    if (!is_made_of(text, DIGITS) || strlen(text) > 5)
        return false;
    long n = strtol(text, NULL, 10);
    *port = (uint16_t)n;
    return n >= 1 && n <= UINT16_MAX;
}

/* HOST, HOST:PORT, [IPv6], [IPv6]:PORT or an IPv6 address alone. */
static bool parse_target(const char *value, char host[static AGENT_HOST_MAX + 1], uint16_t *port)
{
    struct addr ip;
    *port = DEFAULT_TARGET_PORT;
    size_t n = strlen(value);
    const char *start = value;
    if (value[0] == '[') {
        const char *bracket = strchr(value, ']');
        if (!bracket || (bracket[1] != 0 && (bracket[1] != ':' || !parse_port(bracket + 2, port))))
            return false;
        start = value + 1;
        n = (size_t)(bracket - start);
    } else if (!addr_parse_ip(&ip, value)) {
        const char *colon = strchr(value, ':');
        if (colon && !parse_port(colon + 1, port))
            return false;
        n = colon ? (size_t)(colon - value) : n;
    }
    if (n == 0 || n > AGENT_HOST_MAX)
        return false;
    memcpy(host, start, n);
    host[n] = 0;
    bool v6 = strchr(host, ':') != NULL;
    if (value[0] == '[' && !v6)
        return false;
    return v6 ? addr_parse_ip(&ip, host) : is_dns_name(host);
}

static bool check_target(const char *value, struct err *e)
{
    char host[AGENT_HOST_MAX + 1];
    uint16_t port;
    return parse_target(value, host, &port) ||
           err_set(e, "is not HOST or HOST:PORT (a name, an IPv4 address or [IPv6]; no URL)");
}

static bool parse_listen(const char *value, struct addr *out)
{
    return addr_parse(out, value, DEFAULT_LISTEN_PORT) && out->port != 0;
}

static bool check_listen(const char *value, struct err *e)
{
    struct addr unused;
    uint16_t port;
    return (value[0] == ':' && parse_port(value + 1, &port)) || parse_listen(value, &unused) ||
           err_set(e, "is not IP, IP:PORT, [IPv6]:PORT or :PORT (names are not looked up here)");
}

static bool check_interface(const char *value, struct err *e)
{
    return (strlen(value) < IF_NAMESIZE && is_visible_ascii(value) && !strchr(value, '/')) ||
           err_set(e, "is not a network interface: a name like eth0, or any");
}

static bool check_log_level(const char *value, struct err *e)
{
    enum log_level unused;
    return log_level_parse(value, &unused) || err_set(e, "is not a level: debug, info, warn or error");
}

static bool check_url(const char *value, struct err *e)
{
    size_t scheme = strncasecmp(value, "https://", 8) == 0  ? 8
                    : strncasecmp(value, "http://", 7) == 0 ? 7
                                                            : 0;
    bool host = scheme > 0 && value[scheme] != 0 && !strchr("/:?#", value[scheme]);
    return (host && strlen(value) <= 2048 && is_visible_ascii(value)) ||
           err_set(e, "is not a URL that begins with https:// or http:// and a host");
}

static bool parse_metrics_addr(const char *value, struct addr *out)
{
    return addr_parse_ip(out, strcmp(value, "localhost") == 0 ? "127.0.0.1" : value);
}

static bool check_metrics_addr(const char *value, struct err *e)
{
    struct addr unused;
    return parse_metrics_addr(value, &unused) || err_set(e, "is not an IP address");
}

static bool check_server_name(const char *value, struct err *e)
{
    struct addr unused;
    return (strlen(value) <= AGENT_HOST_MAX && (is_dns_name(value) || addr_parse_ip(&unused, value))) ||
           err_set(e, "is not a host name or IP address");
}

/* --- the table --- */

#define FIELD(f) .offset = offsetof(struct agent_config, f)

static const struct option table[] = {
    {.name = "email",
     .kind = OPTION_STRING,
     .env = "KENTIK_API_EMAIL",
     .value = "EMAIL",
     .help = "Kentik API email. Required",
     .check = check_email,
     FIELD(email)},
    {.name = "token",
     .kind = OPTION_STRING,
     .env = "KENTIK_API_TOKEN",
     .value = "TOKEN",
     .help = "Kentik API token. This, a token file, or the systemd credential \"token\" is required; "
             "other users of the host can see a flag for a moment",
     .secret = true,
     .check = check_token,
     FIELD(given.token)},
    {.name = "token-file",
     .kind = OPTION_STRING,
     .env = "KENTIK_API_TOKEN_FILE",
     .value = "FILE",
     .help = "File that holds the Kentik API token",
     FIELD(given.token_file)},
    {.name = "region",
     .kind = OPTION_STRING,
     .env = "KENTIK_REGION",
     .value = "REGION",
     .help = "Kentik environment/region: us (or iad1), eu (or fra1), or another name. Without: us",
     .check = check_region,
     FIELD(given.region)},
    {.name = "target",
     .kind = OPTION_STRING,
     .env = "KBGP_TARGET",
     .value = "HOST[:PORT]",
     .help = "Target for proxied BGP sessions (overrides region). Without: grpc.api.kentik.com:443, "
             "or the region's; port 443 where none is given",
     .check = check_target,
     FIELD(given.target)},
    {.name = "site-id",
     .kind = OPTION_INT,
     .env = "KENTIK_SITE",
     .def = "0",
     .value = "N",
     .max = UINT32_MAX,
     .help = "Kentik site ID to look devices up in. 0: any site",
     FIELD(site_id)},
    {.name = "listen",
     .kind = OPTION_LIST,
     .env = "KBGP_LISTEN",
     .def = "0.0.0.0:179,[::]:179",
     .value = "IP[:PORT],...",
     .help = "Listen address(es) to bind to; port 179 where none is given; :PORT is all addresses",
     .check = check_listen,
     FIELD(given.listen)},
    {.name = "enable-md5-support",
     .kind = OPTION_BOOL,
     .env = "KENTIK_ENABLE_MD5",
     .help = "Enable MD5 password support (requires root or CAP_NET_RAW)",
     FIELD(md5)},
    {.name = "md5-listen-interface",
     .kind = OPTION_STRING,
     .env = "KBGP_MD5_LISTEN_INTERFACE",
     .def = "any",
     .value = "NAME",
     .help = "Network interface to capture connection attempts on",
     .check = check_interface,
     FIELD(md5_interface)},
    {.name = "multi",
     .kind = OPTION_INT,
     .env = "KBGP_MULTI",
     .def = "10",
     .value = "N",
     .min = 1,
     .max = 1000,
     .help = "Multiplex N client connections over 1 gRPC connection",
     FIELD(given.multi)},
    {.name = "insecure",
     .kind = OPTION_BOOL,
     .env = "KBGP_INSECURE",
     .help = "Connect over insecure HTTP to the target: the token and all routes can be read on the way",
     FIELD(insecure)},
    {.name = "ca-file",
     .kind = OPTION_STRING,
     .env = "KBGP_CA_FILE",
     .value = "FILE",
     .help = "Trust the certificates in this file (PEM) instead of the system's",
     FIELD(ca_file)},
    {.name = "tls-server-name",
     .kind = OPTION_STRING,
     .env = "KBGP_TLS_SERVER_NAME",
     .value = "NAME",
     .help = "Name that the target's certificate must have, instead of the host of the target",
     .check = check_server_name,
     FIELD(tls_server_name)},
    {.name = "tls-cert",
     .kind = OPTION_STRING,
     .env = "KBGP_TLS_CERT",
     .value = "FILE",
     .help = "Client certificate chain (PEM)",
     FIELD(tls_cert)},
    {.name = "tls-key",
     .kind = OPTION_STRING,
     .env = "KBGP_TLS_KEY",
     .value = "FILE",
     .help = "Its private key (PEM)",
     FIELD(tls_key)},
    {.name = "env-file",
     .kind = OPTION_STRING,
     .env = "KBGP_ENV_FILE",
     .value = "FILE",
     .help = "File of variables, NAME=VALUE a line, for those that are not in the environment. "
             "KBGP_LOG_LEVEL is read "
             "from it again on SIGHUP",
     FIELD(env_file)},
    {.name = "log-level",
     .kind = OPTION_STRING,
     .env = "KBGP_LOG_LEVEL",
     .def = "info",
     .value = "LEVEL",
     .help = "Log level: debug, info, warn or error",
     .check = check_log_level,
     FIELD(given.log_level)},
    {.name = "human-logs",
     .kind = OPTION_BOOL,
     .env = "KBGP_HUMAN_LOGS",
     .help = "Enable human-readable logs",
     FIELD(human_logs)},
    {.name = "disable-log-export",
     .kind = OPTION_BOOL,
     .env = "KBGP_DISABLE_LOG_EXPORT",
     .help = "Disable log export to Kentik",
     FIELD(given.disable_log_export)},
    {.name = "log-export-url",
     .kind = OPTION_STRING,
     .env = "KBGP_LOG_EXPORT_URL",
     .value = "URL",
     .help = "URL to export logs to. Without: https://grpc.api.kentik.com" LOG_EXPORT_PATH
             ", or the region's; nowhere when --target is not Kentik's",
     .check = check_url,
     FIELD(log_export_url)},
    {.name = "metrics-export-url",
     .kind = OPTION_STRING,
     .env = "KBGP_METRICS_EXPORT_URL",
     .value = "URL",
     .help = "URL to export metrics to. Without: https://grpc.api.kentik.com" METRICS_EXPORT_PATH
             ", or the region's; nowhere when --target is not Kentik's",
     .check = check_url,
     FIELD(metrics_export_url)},
    {.name = "metrics-addr",
     .kind = OPTION_STRING,
     .env = "KBGP_METRICS_ADDR",
     .def = "127.0.0.1",
     .value = "IP",
     .help = "Metrics endpoint bind address",
     .check = check_metrics_addr,
     FIELD(given.metrics_addr)},
    {.name = "metrics-port",
     .kind = OPTION_INT,
     .env = "KBGP_METRICS_PORT",
     .def = "20920",
     .value = "PORT",
     .min = 1,
     .max = UINT16_MAX,
     .help = "Metrics endpoint port",
     FIELD(given.metrics_port)},
    {.name = "ready",
     .kind = OPTION_BOOL,
     .help = "With check: only ask the running agent whether it is ready",
     FIELD(ready)},
    {.name = "quiet",
     .kind = OPTION_BOOL,
     .help = "With check: print nothing, the exit code tells",
     FIELD(quiet)},
    {.name = "json",
     .kind = OPTION_BOOL,
     .help = "With status and sessions: print JSON, for programs",
     FIELD(json)},
    {.name = "metrics-per-device",
     .kind = OPTION_BOOL,
     .env = "KBGP_METRICS_PER_DEVICE",
     .def = "true",
     .help = "Metrics of each device; without, only those of the agent as a whole",
     FIELD(metrics_per_device)},
    {.name = "version", .kind = OPTION_BOOL, .help = "Print the version and exit", FIELD(version)},
};

#define TABLE .table = table, .count = sizeof table / sizeof table[0]

/* In the order of enum agent_command, from AGENT_CHECK on. */
static const char *const commands[] = {"check", "status", "sessions", NULL};

static const struct options options = {
    .program = "kbgp",
    .usage =
        "Usage: kbgp --email EMAIL --token-file FILE [OPTIONS]\n"
        "       kbgp check|status|sessions [OPTIONS]\n\n"
        "Relays the BGP sessions of routers to a target over one encrypted connection.\n\n"
        "Commands:\n"
        "  (none)    run the agent\n"
        "  check     try everything that the agent needs with these options and variables, and say what to\n"
        "            do about what fails; exit code 0 when all is well, else 1\n"
        "            check --ready only asks the running agent, which needs no account (health checks)\n"
        "  status    show the state of the running agent\n"
        "  sessions  show the sessions of the running agent",
    .footer = "Either a space or \"=\" stands between an option and its value. An option shown without\n"
              "a value is a boolean: --insecure or --insecure=false. A flag beats its variable. Web\n"
              "proxies come from HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.",
    .commands = commands,
    TABLE,
};

/* --- the token --- */

/* How long a pipe ("--token-file <(…)") may take to give the token, at the start. */
#define TOKEN_PIPE_MS 5000

/* Up to `max` bytes of a file or pipe; -1 with errno. Nothing waits for ever: not even a FIFO that nobody
 * writes to. */
static ssize_t read_up_to(const char *path, int pipe_ms, char *out, size_t max)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -1;
    size_t n = 0;
    ssize_t got = 1;
    while (got > 0 && n < max) {
        got = read(fd, out + n, max - n);
        if (got > 0)
            n += (size_t)got;
        else if (got < 0 && errno == EAGAIN &&
                 poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, pipe_ms) > 0)
            got = 1;
    }
    int error = errno;
    close(fd);
    errno = error;
    return got < 0 ? -1 : (ssize_t)n;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool read_token(const char *path, int pipe_ms, char token[static AGENT_TOKEN_MAX + 1], struct err *e)
{
    char text[AGENT_TOKEN_MAX + 16]; /* more than the longest token: the white space behind it must fit too */
    ssize_t got = read_up_to(path, pipe_ms, text, sizeof text - 1);
    if (got < 0)
        return err_set(e, "%.200s: %s", path, strerror(errno));
    size_t n = (size_t)got;
    while (n > 0 && is_space(text[n - 1]))
        n--;
    text[n] = 0;
    /* A NUL inside makes the text shorter than what was read. */
    bool ok = n > 0 && n <= AGENT_TOKEN_MAX && strlen(text) == n && is_visible_ascii(text);
    if (ok)
        memcpy(token, text, n + 1);
    explicit_bzero(text, sizeof text);
    if (!ok && n == 0)
        return err_set(e, "%.200s: there is no token in it", path);
    return ok ||
           err_set(e,
                   "%.200s: not a token: one line of printable ASCII without spaces, at most %d characters",
                   path, AGENT_TOKEN_MAX);
}

bool agent_token_read(const char *path, char token[static AGENT_TOKEN_MAX + 1], struct err *e)
{
    return read_token(path, 0, token, e);
}

/* The flag or variable, else the file, else the credential that systemd put there (systemd.exec(5)). */
static bool take_token(struct agent_config *c, struct err *e)
{
    if (c->given.token && c->given.token_file)
        return err_set(e,
                       "--token (KENTIK_API_TOKEN) and --token-file (KENTIK_API_TOKEN_FILE) are both given: "
                       "give one of them");
    if (c->given.token) {
        strcpy(c->token, c->given.token);
        explicit_bzero(c->given.token, strlen(c->given.token)); /* one copy in memory is enough */
        return true;
    }
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    char credential[PATH_MAX];
    if (c->given.token_file)
        c->token_path = strdup(c->given.token_file);
    else if (dir && dir[0] != 0 && snprintf(credential, sizeof credential, "%s/token", dir) < PATH_MAX &&
             (access(credential, F_OK) == 0 || errno != ENOENT))
        c->token_path = strdup(credential);
    if (!c->token_path)
        return err_set(
            e, "no API token: give --token-file (KENTIK_API_TOKEN_FILE), KENTIK_API_TOKEN or --token");
    if (read_token(c->token_path, TOKEN_PIPE_MS, c->token, e))
        return true;
    return err_prefix(e, c->given.token_file ? "--token-file (KENTIK_API_TOKEN_FILE)"
                                             : "systemd credential \"token\"");
}

/* --- from what was given to what is used --- */

/* The regions with a name of their own; in every other one the host is grpc.api.REGION.kentik.com. */
static const struct {
    const char *region, *host;
} regions[] = {
    {"us", "grpc.api.kentik.com"},
    {"iad1", "grpc.api.kentik.com"},
    {"eu", "grpc.api.kentik.eu"},
    {"fra1", "grpc.api.kentik.eu"},
};

static void host_of_region(const char *region, char host[static AGENT_HOST_MAX + 1])
{
    for (size_t i = 0; i < sizeof regions / sizeof regions[0]; i++) {
        if (strcasecmp(region, regions[i].region) == 0) {
            strcpy(host, regions[i].host);
            return;
        }
    }
    snprintf(host, AGENT_HOST_MAX + 1, "grpc.api.%s.kentik.com", region);
    for (char *p = host; *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
}

static bool default_url(char **url, const char *host, const char *path, struct err *e)
{
    if (*url)
        return true;
    char text[AGENT_HOST_MAX + 64];
    snprintf(text, sizeof text, "https://%s%s", host, path);
    *url = strdup(text);
    return *url || err_set(e, "out of memory");
}

/* Somebody's own target has its own accounts: their tokens, and what the agent logs, are no business of
 * Kentik's. */
static bool of_kentik(const char *host)
{
    static const char *const domains[] = {".kentik.com", ".kentik.eu"};
    size_t n = strlen(host);
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) {
        size_t m = strlen(domains[i]);
        if (n > m && strcasecmp(host + n - m, domains[i]) == 0)
            return true;
    }
    return false;
}

static bool take_target(struct agent_config *c, struct err *e)
{
    char api_host[AGENT_HOST_MAX + 1];
    host_of_region(c->given.region ? c->given.region : DEFAULT_REGION, api_host);
    const char *target = c->given.target ? c->given.target : api_host;
    if (!parse_target(target, c->target_host, &c->target_port))
        return err_set(e, "--target: \"%.100s\" has no usable host", target);
    snprintf(c->target, sizeof c->target, strchr(c->target_host, ':') ? "[%s]:%u" : "%s:%u", c->target_host,
             c->target_port);
    if (c->given.target && !c->given.region && !of_kentik(c->target_host))
        return true;
    return default_url(&c->log_export_url, api_host, LOG_EXPORT_PATH, e) &&
           default_url(&c->metrics_export_url, api_host, METRICS_EXPORT_PATH, e);
}

static bool add_listener(struct agent_config *c, const char *item, struct err *e)
{
    struct addr a;
    if (!parse_listen(item, &a))
        return err_set(e, "--listen (KBGP_LISTEN): \"%.100s\" is not an address", item);
    for (size_t i = 0; i < c->n_listeners; i++)
        if (addr_same_ip(&c->listeners[i], &a) && c->listeners[i].port == a.port)
            return err_set(e, "--listen (KBGP_LISTEN): \"%.100s\" is given twice", item);
    if (c->n_listeners == AGENT_LISTEN_MAX)
        return err_set(e, "--listen (KBGP_LISTEN): more than %d addresses", AGENT_LISTEN_MAX);
    c->listeners[c->n_listeners++] = a;
    return true;
}

static bool take_listeners(struct agent_config *c, struct err *e)
{
    for (size_t i = 0; i < c->given.listen.count; i++) {
        const char *item = c->given.listen.items[i];
        char v4[32], v6[32];
        if (item[0] != ':') {
            if (!add_listener(c, item, e))
                return false;
            continue;
        }
        snprintf(v4, sizeof v4, "0.0.0.0%.6s", item);
        snprintf(v6, sizeof v6, "[::]%.6s", item);
        if (!add_listener(c, v4, e) || !add_listener(c, v6, e))
            return false;
    }
    return c->n_listeners > 0 || err_set(e, "--listen (KBGP_LISTEN): no address is given");
}

static bool take_command(struct agent_config *c, const char *const *words, size_t n_words, struct err *e)
{
    for (size_t i = 0; n_words > 0 && commands[i]; i++)
        if (strcmp(words[0], commands[i]) == 0)
            c->command = (enum agent_command)(AGENT_CHECK + i);
    if ((c->ready || c->quiet) && c->command != AGENT_CHECK)
        return err_set(e, "--%s is for the command check alone", c->ready ? "ready" : "quiet");
    return !c->json || c->command == AGENT_STATUS || c->command == AGENT_SESSIONS ||
           err_set(e, "--json is for the commands status and sessions alone");
}

static bool take_account(struct agent_config *c, struct err *e)
{
    if (!c->email)
        return err_set(e, "no account: give --email or KENTIK_API_EMAIL");
    return take_token(c, e);
}

static bool take_all(struct agent_config *c, struct err *e)
{
    parse_metrics_addr(c->given.metrics_addr, &c->metrics); /* the table has let nothing else pass */
    c->metrics.port = (uint16_t)c->given.metrics_port;
    if (c->ready || c->command == AGENT_STATUS || c->command == AGENT_SESSIONS)
        return true;
    if (!take_account(c, e)) {
        if (c->command != AGENT_CHECK)
            return false;
        c->account_problem = strdup(e->text);
    }
    if (!take_target(c, e) || !take_listeners(c, e))
        return false;
    if (!c->tls_cert != !c->tls_key)
        return err_set(e, "--%s is missing: --%s is given, and they belong together",
                       c->tls_cert ? "tls-key" : "tls-cert", c->tls_cert ? "tls-cert" : "tls-key");
    log_level_parse(c->given.log_level, &c->log_level);
    c->multi = (uint32_t)c->given.multi;
    c->log_export = !c->given.disable_log_export;
    return true;
}

/* The value of a flag in argv, "" when it stands there without one, NULL when it does not: what must be known before the rest. */
static const char *flag_in(int argc, char **argv, const char *flag)
{
    size_t n = strlen(flag);
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], flag, n) != 0)
            continue;
        if (argv[i][n] == '=')
            return argv[i] + n + 1;
        if (argv[i][n] == 0)
            return i + 1 < argc ? argv[i + 1] : "";
    }
    return NULL;
}

/* The environment beats the file; an empty variable is as good as none. */
static void add_variable(void *arg, const char *key, const char *value)
{
    const char *old = getenv(key);
    (void)arg;
    if (!old || !*old)
        setenv(key, value, 1);
}

static bool read_env_file(int argc, char **argv, struct err *e)
{
    const char *path = flag_in(argc, argv, "--env-file");
    bool flag = path && *path;
    if (!flag)
        path = getenv("KBGP_ENV_FILE");
    if (!path || !*path || env_file_read(path, add_variable, NULL, e))
        return true;
    return err_prefix(e, flag ? "--env-file" : "KBGP_ENV_FILE");
}

enum options_result agent_options_load(int argc, char **argv, struct agent_config *config, struct err *e)
{
    *config = (struct agent_config){0};
    const char *words[1];
    size_t n_words;
    if (!read_env_file(argc, argv, e))
        return OPTIONS_ERROR;
    config->log_level_flag = flag_in(argc, argv, "--log-level") != NULL;
    enum options_result result = options_parse(&options, argc, argv, config, words, 1, &n_words, e);
    if (result == OPTIONS_OK && !config->version &&
        (!take_command(config, words, n_words, e) || !take_all(config, e)))
        return OPTIONS_ERROR;
    return result;
}

void agent_options_free(struct agent_config *config)
{
    options_free(&options, config);
    free(config->token_path);
    free(config->account_problem);
    explicit_bzero(config, sizeof *config);
}

void agent_options_help(FILE *out)
{
    options_help(&options, out);
}

bool agent_options_doc(const char *what, FILE *template, FILE *out)
{
    static const struct doc_command documented[] = {
        {"check", .help = "Try everything that the agent needs, and say what to do about what fails.", TABLE},
        {"status", .help = "Show the state of the running agent.", TABLE},
        {"sessions", .help = "Show the sessions of the running agent.", TABLE},
    };
    _Static_assert(sizeof documented / sizeof *documented == sizeof commands / sizeof *commands - 1,
                   "each command is documented");
    static const struct doc_program program = {
        .name = "kbgp",
        .version = KBGP_VERSION,
        TABLE,
        .commands = documented,
        .command_count = sizeof documented / sizeof *documented,
    };
    return options_doc_write(&program, what, template, out);
}
