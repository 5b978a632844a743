#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "agent/options.h"
#include "base/clock.h"

/* The last load. */
static struct agent_config config;
static struct err error;
static char memory[80][8192];
static char *arguments[81];
static char dir[] = "/tmp/kbgp-agent-XXXXXX";

static int clean(void **state)
{
    (void)state;
    clearenv();
    agent_options_free(&config);
    return 0;
}

static int set_up(void **state)
{
    assert_non_null(mkdtemp(dir));
    return clean(state);
}

static int tear_down(void **state)
{
    char path[100];
    (void)state;
    snprintf(path, sizeof path, "%s/token", dir);
    unlink(path);
    return rmdir(dir);
}

static enum options_result load_n(int n, const char *const *args)
{
    agent_options_free(&config);
    strcpy(error.text, "");
    arguments[0] = memory[0];
    for (int i = 0; i < n; i++) {
        snprintf(memory[i + 1], sizeof memory[0], "%s", args[i]);
        arguments[i + 1] = memory[i + 1];
    }
    arguments[n + 1] = NULL;
    return agent_options_load(n + 1, arguments, &config, &error);
}

#define ARGS(...)                                                                                            \
    (int)(sizeof((const char *const[]){NULL, ##__VA_ARGS__}) / sizeof(char *)) - 1,                          \
        (const char *const[]){NULL, ##__VA_ARGS__} + 1
/* With nothing but what is given, or with an account too. */
#define load_bare(...) load_n(ARGS(__VA_ARGS__))
#define load(...)      load_n(ARGS("--email", "me@example.com", "--token", "tok", ##__VA_ARGS__))
#define taken(...)                                                                                           \
    do {                                                                                                     \
        if (load(__VA_ARGS__) != OPTIONS_OK)                                                                 \
            fail_msg("%s", error.text);                                                                      \
    } while (0)
#define refused(complaint, ...)                                                                              \
    do {                                                                                                     \
        assert_int_equal(load(__VA_ARGS__), OPTIONS_ERROR);                                                  \
        assert_string_equal(error.text, complaint);                                                          \
    } while (0)

static const char *listener(size_t i)
{
    static char text[ADDR_TEXT_MAX];
    assert_true(i < config.n_listeners);
    return addr_text(&config.listeners[i], text);
}

static void defaults(void **state)
{
    (void)state;
    char text[ADDR_TEXT_MAX];
    taken();
    assert_string_equal(config.email, "me@example.com");
    assert_string_equal(config.token, "tok");
    assert_null(config.token_path);
    assert_int_equal(config.site_id, 0);
    assert_string_equal(config.target_host, "grpc.api.kentik.com");
    assert_int_equal(config.target_port, 443);
    assert_string_equal(config.target, "grpc.api.kentik.com:443");
    assert_false(config.insecure);
    assert_null(config.ca_file);
    assert_null(config.tls_server_name);
    assert_null(config.tls_cert);
    assert_int_equal(config.multi, 10);
    assert_int_equal(config.n_listeners, 2);
    assert_string_equal(listener(0), "0.0.0.0:179");
    assert_string_equal(listener(1), "[::]:179");
    assert_false(config.md5);
    assert_string_equal(config.md5_interface, "any");
    assert_int_equal(config.log_level, LOG_LEVEL_INFO);
    assert_false(config.human_logs);
    assert_string_equal(addr_text(&config.metrics, text), "127.0.0.1:20920");
    assert_true(config.log_export);
    assert_string_equal(config.log_export_url, "https://grpc.api.kentik.com/agents/v202204/logs");
    assert_string_equal(config.metrics_export_url, "https://grpc.api.kentik.com/agents/v202204/metrics");
}

static void all_flags(void **state)
{
    (void)state;
    char text[ADDR_TEXT_MAX];
    taken("--disable-log-export", "--enable-md5-support", "--human-logs", "--insecure", "--listen",
          "192.0.2.1,[2001:db8::1]:1790", "--listen=198.51.100.1:7", "--log-export-url", "http://x:1/logs",
          "--log-level", "debug", "--md5-listen-interface", "eth0", "--metrics-addr", "::1",
          "--metrics-export-url", "https://y", "--metrics-port", "9000", "--multi", "1000", "--site-id",
          "4711", "--target", "t.example:8443", "--ca-file", "/ca", "--tls-server-name", "name.example",
          "--tls-cert", "/cert", "--tls-key", "/key");
    assert_false(config.log_export);
    assert_true(config.md5);
    assert_true(config.human_logs);
    assert_true(config.insecure);
    assert_int_equal(config.n_listeners, 3);
    assert_string_equal(listener(0), "192.0.2.1:179");
    assert_string_equal(listener(1), "[2001:db8::1]:1790");
    assert_string_equal(listener(2), "198.51.100.1:7");
    assert_string_equal(config.log_export_url, "http://x:1/logs");
    assert_int_equal(config.log_level, LOG_LEVEL_DEBUG);
    assert_string_equal(config.md5_interface, "eth0");
    assert_string_equal(addr_text(&config.metrics, text), "[::1]:9000");
    assert_string_equal(config.metrics_export_url, "https://y");
    assert_int_equal(config.multi, 1000);
    assert_int_equal(config.site_id, 4711);
    assert_string_equal(config.target, "t.example:8443");
    assert_string_equal(config.ca_file, "/ca");
    assert_string_equal(config.tls_server_name, "name.example");
    assert_string_equal(config.tls_cert, "/cert");
    assert_string_equal(config.tls_key, "/key");
}

static void all_variables(void **state)
{
    (void)state;
    char text[ADDR_TEXT_MAX];
    static const char *const variables[][2] = {
        {"KENTIK_API_EMAIL", "env@example.com"},
        {"KENTIK_API_TOKEN", " envtoken"},
        {"KENTIK_ENABLE_MD5", "true"},
        {"KENTIK_REGION", "eu"},
        {"KENTIK_SITE", "42"},
        {"KBGP_TARGET", "t.example"},
        {"KBGP_LISTEN", "192.0.2.1"},
        {"KBGP_MD5_LISTEN_INTERFACE", "eth1"},
        {"KBGP_MULTI", "3"},
        {"KBGP_INSECURE", "true"},
        {"KBGP_CA_FILE", "/ca"},
        {"KBGP_TLS_SERVER_NAME", "n.example"},
        {"KBGP_TLS_CERT", "/cert"},
        {"KBGP_TLS_KEY", "/key"},
        {"KBGP_LOG_LEVEL", "warn"},
        {"KBGP_HUMAN_LOGS", "true"},
        {"KBGP_DISABLE_LOG_EXPORT", "true"},
        {"KBGP_LOG_EXPORT_URL", "https://l"},
        {"KBGP_METRICS_EXPORT_URL", "https://m"},
        {"KBGP_METRICS_ADDR", "localhost"},
        {"KBGP_METRICS_PORT", "1"},
    };
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        setenv(variables[i][0], variables[i][1], 1);
    if (load_bare() != OPTIONS_OK)
        fail_msg("%s", error.text);
    assert_string_equal(config.email, "env@example.com");
    assert_string_equal(config.token, "envtoken");
    assert_true(config.md5);
    assert_int_equal(config.site_id, 42);
    assert_string_equal(config.target, "t.example:443");
    assert_string_equal(listener(0), "192.0.2.1:179");
    assert_string_equal(config.md5_interface, "eth1");
    assert_int_equal(config.multi, 3);
    assert_true(config.insecure);
    assert_string_equal(config.ca_file, "/ca");
    assert_string_equal(config.tls_server_name, "n.example");
    assert_string_equal(config.tls_cert, "/cert");
    assert_string_equal(config.tls_key, "/key");
    assert_int_equal(config.log_level, LOG_LEVEL_WARN);
    assert_true(config.human_logs);
    assert_false(config.log_export);
    assert_string_equal(config.log_export_url, "https://l");
    assert_string_equal(config.metrics_export_url, "https://m");
    assert_string_equal(addr_text(&config.metrics, text), "127.0.0.1:1");
}

static void regions(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"us", "grpc.api.kentik.com"},          {"iad1", "grpc.api.kentik.com"},
        {"eu", "grpc.api.kentik.eu"},           {"fra1", "grpc.api.kentik.eu"},
        {"FRA1", "grpc.api.kentik.eu"},         {"our1", "grpc.api.our1.kentik.com"},
        {"Our-2", "grpc.api.our-2.kentik.com"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char url[200];
        taken("--region", cases[i][0]);
        assert_string_equal(config.target_host, cases[i][1]);
        assert_int_equal(config.target_port, 443);
        snprintf(url, sizeof url, "https://%s/agents/v202204/logs", cases[i][1]);
        assert_string_equal(config.log_export_url, url);
        snprintf(url, sizeof url, "https://%s/agents/v202204/metrics", cases[i][1]);
        assert_string_equal(config.metrics_export_url, url);
    }
    taken("--region", "eu", "--target", "t.example");
    assert_string_equal(config.target, "t.example:443");
    assert_string_equal(config.log_export_url, "https://grpc.api.kentik.eu/agents/v202204/logs");
    taken("--region", "");
    assert_string_equal(config.target, "grpc.api.kentik.com:443");

    /* Somebody's own target: its token and our logs must not go to Kentik unless the operator says so. */
    static const char *const own[] = {"t.example", "kentik.com.example:443", "notkentik.com", "192.0.2.1"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        taken("--target", own[i]);
        assert_null(config.log_export_url);
        assert_null(config.metrics_export_url);
    }
    taken("--target", "t.example", "--log-export-url", "https://l.example/");
    assert_string_equal(config.log_export_url, "https://l.example/");
    assert_null(config.metrics_export_url);
    taken("--target", "grpc.api.our1.Kentik.com");
    assert_string_equal(config.log_export_url, "https://grpc.api.kentik.com/agents/v202204/logs");

    static const char tail[] = " is not a region: us, eu, or another name of letters, digits and dashes";
    static const char *const bad[] = {"a.b", "a/b", "-a", "a b", "evil.com#"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char expected[200];
        snprintf(expected, sizeof expected, "--region: \"%s\"%s", bad[i], tail);
        refused(expected, "--region", bad[i]);
    }
}

static void targets(void **state)
{
    (void)state;
    static const struct {
        const char *in, *host;
        uint16_t port;
        const char *text;
    } cases[] = {
        {"t.example", "t.example", 443, "t.example:443"},
        {"t.example:1", "t.example", 1, "t.example:1"},
        {"192.0.2.1:8443", "192.0.2.1", 8443, "192.0.2.1:8443"},
        {"2001:db8::1", "2001:db8::1", 443, "[2001:db8::1]:443"},
        {"[2001:db8::1]", "2001:db8::1", 443, "[2001:db8::1]:443"},
        {"[2001:db8::1]:8443", "2001:db8::1", 8443, "[2001:db8::1]:8443"},
        {"localhost:65535", "localhost", 65535, "localhost:65535"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        taken("--target", cases[i].in);
        assert_string_equal(config.target_host, cases[i].host);
        assert_int_equal(config.target_port, cases[i].port);
        assert_string_equal(config.target, cases[i].text);
    }
    static const char *const bad[] = {
        "https://t.example",
        "t.example:0",
        "t.example:65536",
        "t.example:",
        "t.example:https",
        ":443",
        "[t.example]",
        "[192.0.2.1]:1",
        "[::1",
        "[::1]443",
        "a b",
        "t.example/x",
        "::1:x",
        "[]:1",
        "t.example:443:1",
        "user@t.example",
        "-t.example",
        "[::1]:0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char expected[200];
        snprintf(expected, sizeof expected,
                 "--target: \"%s\" is not HOST or HOST:PORT (a name, an IPv4 address or [IPv6]; no URL)",
                 bad[i]);
        refused(expected, "--target", bad[i]);
    }
    char host[300];
    memset(host, 'a', sizeof host - 1);
    host[253] = 0;
    taken("--target", host);
    assert_int_equal(strlen(config.target), 257);
    host[253] = 'a';
    host[254] = 0;
    assert_int_equal(load("--target", host), OPTIONS_ERROR);
}

static void listeners(void **state)
{
    (void)state;
    taken("--listen", ":1790");
    assert_int_equal(config.n_listeners, 2);
    assert_string_equal(listener(0), "0.0.0.0:1790");
    assert_string_equal(listener(1), "[::]:1790");
    refused("--listen: \"host:179\" is not IP, IP:PORT, [IPv6]:PORT or :PORT (names are not looked up here)",
            "--listen", "192.0.2.1,host:179");
    refused(
        "--listen: \"192.0.2.1:0\" is not IP, IP:PORT, [IPv6]:PORT or :PORT (names are not looked up here)",
        "--listen", "192.0.2.1:0");
    refused("--listen: \":x\" is not IP, IP:PORT, [IPv6]:PORT or :PORT (names are not looked up here)",
            "--listen", ":x");
    refused("--listen (KBGP_LISTEN): \"192.0.2.1\" is given twice", "--listen", "192.0.2.1:179,192.0.2.1");
    refused("--listen (KBGP_LISTEN): no address is given", "--listen", ",");

    char many[8000] = "", *p = many;
    for (int i = 0; i < AGENT_LISTEN_MAX; i++)
        p += sprintf(p, "127.0.0.1:%d,", 1000 + i);
    taken("--listen", many);
    assert_int_equal(config.n_listeners, AGENT_LISTEN_MAX);
    refused("--listen (KBGP_LISTEN): more than 64 addresses", "--listen", many, "--listen", "127.0.0.1:1");
}

static void single_values_are_checked(void **state)
{
    (void)state;
    refused("--multi: \"0\" is not a number from 1 to 1000", "--multi", "0");
    refused("--metrics-port: \"65536\" is not a number from 1 to 65535", "--metrics-port", "65536");
    refused("--metrics-addr: \"metrics\" is not an IP address", "--metrics-addr", "metrics");
    refused("--log-level: \"trace\" is not a level: debug, info, warn or error", "--log-level", "trace");
    refused("--site-id: \"-1\" is not a number from 0 to 4294967295", "--site-id", "-1");
    refused("--md5-listen-interface: \"a/b\" is not a network interface: a name like eth0, or any",
            "--md5-listen-interface", "a/b");
    refused(
        "--md5-listen-interface: \"sixteencharacter\" is not a network interface: a name like eth0, or any",
        "--md5-listen-interface", "sixteencharacter");
    refused("--log-export-url: \"x.example\" is not a URL that begins with https:// or http:// and a host",
            "--log-export-url", "x.example");
    refused(
        "--metrics-export-url: \"https:///x\" is not a URL that begins with https:// or http:// and a host",
        "--metrics-export-url", "https:///x");
    refused("--tls-server-name: \"a b\" is not a host name or IP address", "--tls-server-name", "a b");
    refused(
        "--email: \"a b@c\" is not an e-mail address (printable ASCII, no spaces, at most 254 characters)",
        "--email", "a b@c");
    refused("--tls-key is missing: --tls-cert is given, and they belong together", "--tls-cert", "/c");
    refused("--tls-cert is missing: --tls-key is given, and they belong together", "--tls-key", "/k");
    refused("unexpected argument \"true\": write --enable-md5-support=true", "--enable-md5-support", "true");
    setenv("KENTIK_SITE", "x", 1);
    refused("KENTIK_SITE: \"x\" is not a number from 0 to 4294967295");
}

/* --- the token --- */

static const char *token_file(const char *content, size_t n)
{
    static char path[100];
    snprintf(path, sizeof path, "%s/token", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(content, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static void account_is_required(void **state)
{
    (void)state;
    assert_int_equal(load_bare(), OPTIONS_ERROR);
    assert_string_equal(error.text, "no account: give --email or KENTIK_API_EMAIL");
    assert_int_equal(load_bare("--email", "a@b"), OPTIONS_ERROR);
    assert_string_equal(
        error.text, "no API token: give --token-file (KENTIK_API_TOKEN_FILE), KENTIK_API_TOKEN or --token");
    assert_int_equal(load_bare("--version"), OPTIONS_OK);
    assert_true(config.version);
    assert_int_equal(load_bare("--help"), OPTIONS_HELP);
}

static void commands(void **state)
{
    (void)state;
    taken();
    assert_int_equal(config.command, AGENT_RUN);
    taken("check");
    assert_int_equal(config.command, AGENT_CHECK);
    assert_false(config.ready || config.quiet);
    taken("check", "--ready", "--quiet");
    assert_true(config.ready && config.quiet);
    taken("--json", "status");
    assert_int_equal(config.command, AGENT_STATUS);
    assert_true(config.json);
    taken("--insecure", "sessions", "--metrics-port", "9000");
    assert_int_equal(config.command, AGENT_SESSIONS);
    assert_int_equal(config.metrics.port, 9000);

    refused("unexpected argument \"run\" (see --help)", "run");
    refused("unexpected argument \"status\" (see --help)", "check", "status");
    refused("--ready is for the command check alone", "--ready");
    refused("--quiet is for the command check alone", "--quiet", "status");
    refused("--json is for the commands status and sessions alone", "check", "--json");
    /* What stands behind an empty or torn token may be the token. */
    refused("unexpected argument after --token (not shown here; see --help)", "--token=", "hush");
    refused("unexpected argument after --token (not shown here; see --help)", "--token=one", "two");
}

static void commands_without_an_account(void **state)
{
    (void)state;
    static const char *const need_none[][2] = {
        {"status", "--json"}, {"sessions", "--json"}, {"check", "--ready"}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(load_bare(need_none[i][0], need_none[i][1], "--metrics-addr", "::1"), OPTIONS_OK);
        assert_null(config.account_problem);
        assert_int_equal(config.metrics.family, 6);
        assert_int_equal(config.metrics.port, 20920);
    }
    /* check says it in its report, and goes on. */
    assert_int_equal(load_bare("check"), OPTIONS_OK);
    assert_string_equal(config.account_problem, "no account: give --email or KENTIK_API_EMAIL");
    assert_string_equal(config.target_host, "grpc.api.kentik.com");
    assert_int_equal(config.n_listeners, 2);
    assert_int_equal(load_bare("check", "--email", "a@b", "--token-file", "/nonexistent/token"), OPTIONS_OK);
    assert_string_equal(
        config.account_problem,
        "--token-file (KENTIK_API_TOKEN_FILE): /nonexistent/token: No such file or directory");
    taken("check");
    assert_null(config.account_problem);
    /* Bad usage is bad usage. */
    assert_int_equal(load_bare("check", "--tls-cert", "x"), OPTIONS_ERROR);
    assert_int_equal(load_bare("status", "--metrics-port", "0"), OPTIONS_ERROR);
}

/* A pipe with a writer that writes nothing: the event loop must not wait for it. */
static void token_is_not_waited_for_again(void **state)
{
    (void)state;
    char token[AGENT_TOKEN_MAX + 1] = "old", path[32];
    struct err e;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    snprintf(path, sizeof path, "/dev/fd/%d", fds[0]);
    int64_t before = clock_mono_ms();
    assert_false(agent_token_read(path, token, &e));
    assert_true(clock_mono_ms() - before < 1000);
    assert_string_equal(token, "old");
    close(fds[0]);
    close(fds[1]);
}

static void token_leaves_no_trace(void **state)
{
    (void)state;
    taken();
    assert_string_equal(arguments[4], "***");
    assert_string_equal(config.given.token, "");
    assert_int_equal(load_bare("--email", "a@b", "--token", "two words"), OPTIONS_ERROR);
    assert_string_equal(error.text,
                        "--token: the value has characters other than printable ASCII without spaces");
    assert_string_equal(arguments[4], "*********");
    setenv("KENTIK_API_TOKEN", "caf\xc3\xa9", 1);
    assert_int_equal(load_bare("--email", "a@b"), OPTIONS_ERROR);
    assert_string_equal(
        error.text, "KENTIK_API_TOKEN: the value has characters other than printable ASCII without spaces");
}

static void token_from_a_file(void **state)
{
    (void)state;
    const char *path = token_file("filetoken \r\n\n", 13);
    assert_int_equal(load_bare("--email", "a@b", "--token-file", path), OPTIONS_OK);
    assert_string_equal(config.token, "filetoken");
    assert_string_equal(config.token_path, path);
    setenv("KENTIK_API_TOKEN_FILE", path, 1);
    assert_int_equal(load_bare("--email", "a@b"), OPTIONS_OK);
    assert_string_equal(config.token, "filetoken");

    static const char both[] =
        "--token (KENTIK_API_TOKEN) and --token-file (KENTIK_API_TOKEN_FILE) are both given: "
        "give one of them";
    refused(both);
    unsetenv("KENTIK_API_TOKEN_FILE");
    refused(both, "--token-file", path);
}

static void token_from_a_credential(void **state)
{
    (void)state;
    setenv("CREDENTIALS_DIRECTORY", dir, 1);
    const char *path = token_file("credential\n", 11);
    assert_int_equal(load_bare("--email", "a@b"), OPTIONS_OK);
    assert_string_equal(config.token, "credential");
    assert_string_equal(config.token_path, path);
    taken(); /* what is given beats it */
    assert_string_equal(config.token, "tok");
    assert_null(config.token_path);

    token_file("", 0);
    char expected[200];
    assert_int_equal(load_bare("--email", "a@b"), OPTIONS_ERROR);
    snprintf(expected, sizeof expected, "systemd credential \"token\": %s: there is no token in it", path);
    assert_string_equal(error.text, expected);

    unlink(path);
    assert_int_equal(load_bare("--email", "a@b"), OPTIONS_ERROR);
    assert_int_equal(strncmp(error.text, "no API token:", 13), 0);
}

static void bad_token_files(void **state)
{
    (void)state;
    char token[AGENT_TOKEN_MAX + 1] = "old";
    struct err e;
    static char longest[AGENT_TOKEN_MAX + 100];
    memset(longest, 'x', sizeof longest);
    longest[AGENT_TOKEN_MAX] = '\n';
    assert_true(agent_token_read(token_file(longest, AGENT_TOKEN_MAX + 1), token, &e));
    assert_int_equal(strlen(token), AGENT_TOKEN_MAX);

    strcpy(token, "old");
    longest[AGENT_TOKEN_MAX] = 'x';
    static const struct {
        const char *content;
        size_t n;
    } bad[] = {
        {"", 0},
        {" \n\n", 3},
        {"two\nlines", 9},
        {"two words", 9},
        {"a\0b", 3},
        {"a\0", 2},
        {"\xef\xbb\xbftoken", 8},
        {longest, AGENT_TOKEN_MAX + 1},
        {longest, sizeof longest},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (agent_token_read(token_file(bad[i].content, bad[i].n), token, &e))
            fail_msg("file %zu was taken", i);
        assert_string_equal(token, "old");
        assert_non_null(strstr(e.text, dir));
    }
    assert_false(agent_token_read("/nonexistent/token", token, &e));
    assert_string_equal(e.text, "/nonexistent/token: No such file or directory");
    assert_false(agent_token_read(dir, token, &e));
    assert_non_null(strstr(e.text, "Is a directory"));

    assert_int_equal(load_bare("--email", "a@b", "--token-file", "/nonexistent/token"), OPTIONS_ERROR);
    assert_string_equal(error.text, "--token-file (KENTIK_API_TOKEN_FILE): /nonexistent/token: "
                                    "No such file or directory");
}

/* --- help --- */

static void help_names_flags_variables_and_defaults(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "-h, --help",
        "--email EMAIL",
        "($KENTIK_API_EMAIL)",
        "--token TOKEN",
        "($KENTIK_API_TOKEN)",
        "--token-file FILE",
        "($KENTIK_API_TOKEN_FILE)",
        "--region REGION",
        "($KENTIK_REGION)",
        "--target HOST[:PORT]",
        "--site-id N",
        "($KENTIK_SITE)",
        "--listen IP[:PORT],...",
        "0.0.0.0:179,[::]:179",
        "--enable-md5-support",
        "($KENTIK_ENABLE_MD5)",
        "--md5-listen-interface",
        "(default any)",
        "--multi N",
        "(default 10)",
        "--insecure",
        "--log-level LEVEL",
        "(default info)",
        "--human-logs",
        "--disable-log-export",
        "--log-export-url URL",
        "https://grpc.api.kentik.com/agents/v202204/logs",
        "--metrics-export-url URL",
        "https://grpc.api.kentik.com/agents/v202204/metrics",
        "--metrics-addr IP",
        "127.0.0.1",
        "--metrics-port PORT",
        "20920",
        "--ca-file",
        "--tls-server-name",
        "--tls-cert",
        "--tls-key",
        "--version",
        "--ready",
        "--quiet",
        "--json",
        "  check     ",
        "  status    ",
        "  sessions  ",
    };
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    agent_options_help(out);
    fclose(out);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strstr(text, parts[i]))
            fail_msg("--help does not say %s", parts[i]);
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        if (strcspn(line, "\n") > 100)
            fail_msg("too long: %.120s", line);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(defaults, clean),
        cmocka_unit_test_teardown(all_flags, clean),
        cmocka_unit_test_teardown(all_variables, clean),
        cmocka_unit_test_teardown(regions, clean),
        cmocka_unit_test_teardown(targets, clean),
        cmocka_unit_test_teardown(listeners, clean),
        cmocka_unit_test_teardown(single_values_are_checked, clean),
        cmocka_unit_test_teardown(account_is_required, clean),
        cmocka_unit_test_teardown(commands, clean),
        cmocka_unit_test_teardown(commands_without_an_account, clean),
        cmocka_unit_test_teardown(token_is_not_waited_for_again, clean),
        cmocka_unit_test_teardown(token_leaves_no_trace, clean),
        cmocka_unit_test_teardown(token_from_a_file, clean),
        cmocka_unit_test_teardown(token_from_a_credential, clean),
        cmocka_unit_test_teardown(bad_token_files, clean),
        cmocka_unit_test_teardown(help_names_flags_variables_and_defaults, clean),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
