#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "target/options.h"

/* Two files that exist, and the configuration of the last load(). */
struct fixture {
    char dir[64], cert[80], key[80], missing[80];
    struct target_config config;
    struct err e;
};

static void make_file(const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/kbgp-options-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->cert, sizeof f->cert, "%s/cert.pem", f->dir);
    snprintf(f->key, sizeof f->key, "%s/key.pem", f->dir);
    snprintf(f->missing, sizeof f->missing, "%s/missing.pem", f->dir);
    make_file(f->cert);
    make_file(f->key);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    target_options_free(&f->config);
    unlink(f->cert);
    unlink(f->key);
    rmdir(f->dir);
    free(f);
    return 0;
}

/* "serve" and the words, split at spaces; CERT, KEY, MISSING and DIR stand for the fixture's paths. */
static enum options_result load(struct fixture *f, const char *words)
{
    char line[8192], *argv[128] = {(char[]){"serve"}};
    int argc = 1;
    snprintf(line, sizeof line, "%s", words);
    for (char *at = line, *word; (word = strsep(&at, " "));) {
        char *path = strcmp(word, "CERT") == 0      ? f->cert
                     : strcmp(word, "KEY") == 0     ? f->key
                     : strcmp(word, "MISSING") == 0 ? f->missing
                     : strcmp(word, "DIR") == 0     ? f->dir
                                                    : word;
        if (word[0] != 0)
            argv[argc++] = path;
    }
    target_options_free(&f->config);
    return target_options_load(argc, argv, &f->config, &f->e);
}

#define assert_ok(f, words)                                                                                  \
    do {                                                                                                     \
        if (load((f), (words)) != OPTIONS_OK)                                                                \
            fail_msg("`%s`: %s", (words), (f)->e.text);                                                      \
    } while (0)

#define assert_refused(f, words, says)                                                                       \
    do {                                                                                                     \
        if (load((f), (words)) != OPTIONS_ERROR)                                                             \
            fail_msg("`%s` is accepted", (words));                                                           \
        if (!strstr((f)->e.text, (says)))                                                                    \
            fail_msg("`%s`: \"%s\" does not say \"%s\"", (words), (f)->e.text, (says));                      \
    } while (0)

static void assert_addr(const struct addr *a, const char *wanted)
{
    char text[ADDR_TEXT_MAX];
    assert_string_equal(addr_text(a, text), wanted);
}

static void defaults(void **state)
{
    struct fixture *f = *state;
    assert_ok(f, "--insecure");
    const struct target_config *c = &f->config;
    assert_string_equal(c->db, "/var/lib/kbgp-target/kbgp.db");
    assert_int_equal(c->listen_count, 2);
    assert_addr(&c->listen[0], "0.0.0.0:443");
    assert_addr(&c->listen[1], "[::]:443");
    assert_true(c->insecure);
    assert_null(c->tls_cert);
    assert_int_equal(c->backend, TARGET_BACKEND_COLLECTOR);
    assert_null(c->collector_json);
    assert_int_equal(c->local_as, 0);
    assert_int_equal(c->router_id, 0xc0000201);
    assert_int_equal(c->hold_time, 180);
    assert_int_equal(c->log_level, LOG_LEVEL_INFO);
    assert_false(c->human_logs);
    assert_addr(&c->metrics, "127.0.0.1:20921");
    assert_int_equal(c->max_sessions, 10000);
}

static void flags(void **state)
{
    struct fixture *f = *state;
    assert_ok(f,
              "--tls-cert CERT --tls-key KEY --db /x/y.db --listen 192.0.2.1,[2001:db8::1]:8443 --listen "
              "127.0.0.1:0 "
              "--collector-json - --local-as 4200000000 --router-id 10.1.2.3 --hold-time 0 --log-level debug "
              "--human-logs --metrics-addr ::1 --metrics-port 9000 --max-sessions 7");
    const struct target_config *c = &f->config;
    assert_string_equal(c->tls_cert, f->cert);
    assert_string_equal(c->tls_key, f->key);
    assert_false(c->insecure);
    assert_string_equal(c->db, "/x/y.db");
    assert_int_equal(c->listen_count, 3);
    assert_addr(&c->listen[0], "192.0.2.1:443");
    assert_addr(&c->listen[1], "[2001:db8::1]:8443");
    assert_addr(&c->listen[2], "127.0.0.1:0");
    assert_string_equal(c->collector_json, "-");
    assert_int_equal(c->local_as, 4200000000);
    assert_int_equal(c->router_id, 0x0a010203);
    assert_int_equal(c->hold_time, 0);
    assert_int_equal(c->log_level, LOG_LEVEL_DEBUG);
    assert_true(c->human_logs);
    assert_addr(&c->metrics, "[::1]:9000");
    assert_int_equal(c->max_sessions, 7);
}

static void variables(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"KBGP_TARGET_INSECURE", "KBGP_TARGET_LISTEN", "KBGP_TARGET_BACKEND",
                                        "KBGP_TARGET_HOLD_TIME"};
    static const char *const values[] = {"true", "192.0.2.9:1", "tcp://bgp.example.com:179", "30"};
    for (size_t i = 0; i < 4; i++)
        setenv(names[i], values[i], 1);
    enum options_result plain = load(f, "");
    uint16_t from_variable = f->config.hold_time;
    char host[TARGET_BACKEND_HOST_MAX + 1];
    memcpy(host, f->config.backend_host, sizeof host);
    enum options_result with_flag = load(f, "--hold-time 90");
    uint16_t from_flag = f->config.hold_time;
    setenv("KBGP_TARGET_HOLD_TIME", "2", 1);
    enum options_result bad = load(f, "");
    for (size_t i = 0; i < 4; i++)
        unsetenv(names[i]);

    assert_int_equal(plain, OPTIONS_OK);
    assert_int_equal(from_variable, 30);
    assert_string_equal(host, "bgp.example.com");
    assert_int_equal(with_flag, OPTIONS_OK);
    assert_int_equal(from_flag, 90);
    assert_int_equal(bad, OPTIONS_ERROR);
    assert_non_null(strstr(f->e.text, "KBGP_TARGET_HOLD_TIME: \"2\" is not a hold time"));
}

static void either_tls_or_insecure(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "", "--tls-cert and --tls-key are missing (--insecure");
    assert_refused(f, "--tls-cert CERT", "--tls-key is missing: --tls-cert has been given");
    assert_refused(f, "--tls-key KEY", "--tls-cert is missing: --tls-key has been given");
    assert_refused(f, "--insecure --tls-cert CERT --tls-key KEY",
                   "--insecure and --tls-cert exclude each other");
    assert_refused(f, "--insecure --tls-key KEY", "--insecure and --tls-key exclude each other");
    assert_ok(f, "--insecure=false --tls-cert CERT --tls-key KEY");
}

static void unreadable_tls_files_are_named(void **state)
{
    struct fixture *f = *state;
    char says[200];
    snprintf(says, sizeof says, "--tls-cert: \"%s\" cannot be read: No such file or directory", f->missing);
    assert_refused(f, "--tls-cert MISSING --tls-key KEY", says);
    snprintf(says, sizeof says, "--tls-key: \"%s\" is a directory", f->dir);
    assert_refused(f, "--tls-cert CERT --tls-key DIR", says);
}

static void backends(void **state)
{
    static const struct {
        const char *url, *host;
        uint16_t port;
    } good[] = {
        {"tcp://127.0.0.1:179", "127.0.0.1", 179},
        {"tcp://[2001:db8::1]:65535", "2001:db8::1", 65535},
        {"tcp://bird.example.com:1790", "bird.example.com", 1790},
        {"tcp://bird_1:1", "bird_1", 1},
    };
    static const struct {
        const char *url, *says;
    } bad[] = {
        {"bird", "\"bird\" is not a backend: accepted are collector and tcp://HOST:PORT"},
        {"udp://127.0.0.1:179", "is not a backend"},
        {"tcp://", "has no port"},
        {"tcp://127.0.0.1", "has no port"},
        {"tcp://:179", "has no usable host"},
        {"tcp://[]:179", "has no usable host"},
        {"tcp://[127.0.0.1]:179", "has no usable host"},
        {"tcp://[2001:db8::1:179", "has no port"},
        {"tcp://[2001:db8::1]179", "has no port"},
        {"tcp://2001:db8::1:179", "without brackets"},
        {"tcp://a:0", "no port from 1 to 65535"},
        {"tcp://a:65536", "no port from 1 to 65535"},
        {"tcp://a:4294967475", "no port from 1 to 65535"},
        {"tcp://a:17x", "no port from 1 to 65535"},
        {"tcp://a:-1", "no port from 1 to 65535"},
        {"tcp://a:", "no port from 1 to 65535"},
        {"tcp://a:179/path", "more than a host and a port"},
        {"tcp://a:179?source=plain", "more than a host and a port"},
        {"tcp://user@a:179", "more than a host and a port"},
        {"tcp://-a:179", "has no usable host"},
        {"tcp://a\tb:179", "has no usable host"},
    };
    struct fixture *f = *state;
    char words[1000];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(words, sizeof words, "--insecure --backend %s", good[i].url);
        assert_ok(f, words);
        assert_int_equal(f->config.backend, TARGET_BACKEND_TCP);
        assert_string_equal(f->config.backend_host, good[i].host);
        assert_int_equal(f->config.backend_port, good[i].port);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(words, sizeof words, "--insecure --backend %s", bad[i].url);
        assert_refused(f, words, bad[i].says);
        assert_non_null(strstr(f->e.text, "--backend"));
    }
    char name[TARGET_BACKEND_HOST_MAX + 2];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = 0;
    snprintf(words, sizeof words, "--insecure --backend tcp://%s:1", name);
    assert_refused(f, words, "longer than 253");
    snprintf(words, sizeof words, "--insecure --backend tcp://%s:1", name + 1);
    assert_ok(f, words);
    assert_refused(f, "--insecure --backend tcp://a:1 --collector-json x.json",
                   "--collector-json: \"x.json\"");
    assert_refused(f, "--insecure --backend-md5-password-file key",
                   "--backend-md5-password-file: \"key\" would not be used, as the backend is the collector");
    assert_ok(f, "--insecure --backend tcp://a:1 --backend-md5-password-file key");
    assert_string_equal(f->config.backend_md5_file, "key");
}

static void other_values_are_checked(void **state)
{
    static const struct {
        const char *words, *says;
    } cases[] = {
        {"--listen host:443", "--listen: \"host:443\" is not IP"},
        {"--listen 0.0.0.0:65536", "--listen: \"0.0.0.0:65536\""},
        {"--listen ,", "--listen: no address"},
        {"--local-as 4294967296", "--local-as: \"4294967296\" is not a number from 0 to 4294967295"},
        {"--local-as -1", "--local-as"},
        {"--router-id 0.0.0.0", "--router-id: \"0.0.0.0\" is not a BGP identifier"},
        {"--router-id ::1", "--router-id: \"::1\""},
        {"--hold-time 1", "--hold-time: \"1\" is not a hold time"},
        {"--hold-time 65536", "--hold-time: \"65536\" is not a number from 0 to 65535"},
        {"--log-level loud", "--log-level: \"loud\" is not a level: debug, info, warn or error"},
        {"--metrics-addr localhost", "--metrics-addr: \"localhost\" is not an IP address"},
        {"--metrics-port 0", "--metrics-port: \"0\" is not a number from 1 to 65535"},
        {"--max-sessions 0", "--max-sessions: \"0\" is not a number from 1"},
        {"--frobnicate", "unknown flag --frobnicate"},
        {"word", "unexpected argument \"word\""},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[300];
        snprintf(words, sizeof words, "--insecure %s", cases[i].words);
        assert_refused(f, words, cases[i].says);
    }
}

static void listens_on_at_most_64_addresses(void **state)
{
    struct fixture *f = *state;
    char words[4000] = "--insecure --listen 127.0.0.1:1";
    for (int i = 2; i <= TARGET_LISTEN_MAX; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), ",127.0.0.1:%d", i);
    assert_ok(f, words);
    assert_int_equal(f->config.listen_count, TARGET_LISTEN_MAX);
    assert_addr(&f->config.listen[TARGET_LISTEN_MAX - 1], "127.0.0.1:64");
    strcat(words, ",127.0.0.1:65");
    assert_refused(f, words, "--listen: 65 addresses, at most 64");
}

static void help_and_version_need_nothing_else(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(load(f, "--help"), OPTIONS_HELP);
    assert_int_equal(load(f, "-h"), OPTIONS_HELP);
    assert_ok(f, "--version");
    assert_true(f->config.version);

    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    target_options_help(out);
    fclose(out);
    static const char *const flags_of_serve[] = {
        "--db",           "--listen",       "--tls-cert",           "--tls-key",
        "--insecure",     "--backend",      "--collector-json",     "--local-as",
        "--router-id",    "--hold-time",    "--log-level",          "--human-logs",
        "--metrics-addr", "--metrics-port", "--max-sessions",       "--backend-md5-password-file",
        "--version",      "--help",         "KBGP_TARGET_TLS_CERT", "0.0.0.0:443,[::]:443"};
    for (size_t i = 0; i < sizeof flags_of_serve / sizeof *flags_of_serve; i++)
        if (!strstr(text, flags_of_serve[i]))
            fail_msg("the help lacks %s", flags_of_serve[i]);
    free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults),
        TEST(flags),
        TEST(variables),
        TEST(either_tls_or_insecure),
        TEST(unreadable_tls_files_are_named),
        TEST(backends),
        TEST(other_values_are_checked),
        TEST(listens_on_at_most_64_addresses),
        TEST(help_and_version_need_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
