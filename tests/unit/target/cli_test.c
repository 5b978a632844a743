#include <fcntl.h>
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
#include <jansson.h>

#include "target/cli.h"
#include "target/inventory.h"

/* Commands are run in this process, with stdout and stderr going to files. */
struct fixture {
    char dir[64];
    char db[80], out_path[80], err_path[80];
    char out[65536], err[8192]; /* of the last command */
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/kbgp-cli-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->db, sizeof f->db, "%s/kbgp.db", f->dir);
    snprintf(f->out_path, sizeof f->out_path, "%s/out", f->dir);
    snprintf(f->err_path, sizeof f->err_path, "%s/err", f->dir);
    assert_int_equal(setenv("KBGP_TARGET_DB", f->db, 1), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    /* A reader that closes last leaves SQLite's two helpers behind. */
    static const char *const names[] = {"kbgp.db", "kbgp.db-wal", "kbgp.db-shm", "out", "err", "key"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[100];
        snprintf(path, sizeof path, "%s/%s", f->dir, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* Puts a file in the place of a descriptor; returns what stood there. */
static int redirect(int fd, const char *path)
{
    int saved = dup(fd), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(saved >= 0 && file >= 0);
    assert_int_equal(dup2(file, fd), fd);
    close(file);
    return saved;
}

static void restore(int fd, int saved)
{
    dup2(saved, fd);
    close(saved);
}

static void slurp(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t n = fread(text, 1, size - 1, file);
    text[n] = 0;
    fclose(file);
}

/* Runs "kbgp-target" with words split at single spaces; '_' in a word stands for a space. */
static int run_to(struct fixture *f, const char *out_path, const char *words)
{
    char line[4096], *argv[64] = {(char[]){"kbgp-target"}};
    int argc = 1;
    snprintf(line, sizeof line, "%s", words);
    for (char *at = line, *word; (word = strsep(&at, " "));) {
        for (char *c = word; *c; c++)
            if (*c == '_')
                *c = ' ';
        argv[argc++] = word;
    }
    fflush(stdout);
    fflush(stderr);
    int saved_out = redirect(STDOUT_FILENO, out_path), saved_err = redirect(STDERR_FILENO, f->err_path);
    int code = target_cli(argc, argv);
    fflush(stdout);
    clearerr(stdout);
    restore(STDOUT_FILENO, saved_out);
    restore(STDERR_FILENO, saved_err);
    slurp(f->err_path, f->err, sizeof f->err);
    return code;
}

static int run(struct fixture *f, const char *words)
{
    int code = run_to(f, f->out_path, words);
    slurp(f->out_path, f->out, sizeof f->out);
    return code;
}

#define assert_code(f, wanted, words)                                                                        \
    do {                                                                                                     \
        int code_ = run((f), (words));                                                                       \
        if (code_ != (wanted))                                                                               \
            fail_msg("`%s` ends with %d: %s", (words), code_, (f)->err);                                     \
    } while (0)

#define assert_holds(text, part)                                                                             \
    do {                                                                                                     \
        if (!strstr((text), (part)))                                                                         \
            fail_msg("\"%s\" is not in \"%s\"", (part), (text));                                             \
    } while (0)

static json_t *json_of(struct fixture *f, const char *words)
{
    json_error_t error;
    assert_code(f, 0, words);
    json_t *array = json_loads(f->out, 0, &error);
    if (!array)
        fail_msg("%s: %s", error.text, f->out);
    assert_true(json_is_array(array));
    return array;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text)
        fail_msg("no text \"%s\"", key);
    return text;
}

static void assert_number(const json_t *object, const char *key, json_int_t wanted)
{
    assert_true(json_is_integer(json_object_get(object, key)));
    assert_int_equal(json_integer_value(json_object_get(object, key)), wanted);
}

static enum inventory_auth authenticate(struct fixture *f, const char *email, const char *token)
{
    struct err e;
    uint32_t id;
    struct inventory *inv = inventory_open(f->db, true, &e);
    assert_non_null(inv);
    enum inventory_auth answer = inventory_authenticate(inv, email, token, &id, &e);
    inventory_close(inv);
    return answer;
}

/* The token of the last command: one line, nothing else. */
static void take_token(struct fixture *f, char token[static INVENTORY_TOKEN_LEN + 1])
{
    assert_int_equal(strlen(f->out), INVENTORY_TOKEN_LEN + 1);
    assert_int_equal(f->out[INVENTORY_TOKEN_LEN], '\n');
    memcpy(token, f->out, INVENTORY_TOKEN_LEN);
    token[INVENTORY_TOKEN_LEN] = 0;
    assert_null(strstr(f->err, token));
}

static void an_account_gets_a_token_alone_on_stdout(void **state)
{
    struct fixture *f = *state;
    char token[INVENTORY_TOKEN_LEN + 1], second[INVENTORY_TOKEN_LEN + 1];
    assert_code(f, 0, "account add ann@example.com");
    take_token(f, token);
    assert_holds(f->err, "company id 1");
    assert_int_equal(authenticate(f, "ann@example.com", token), INVENTORY_AUTH_OK);

    assert_code(f, 1, "account add ANN@example.com");
    assert_string_equal(f->out, "");
    assert_holds(f->err, "exists already");

    assert_code(f, 0, "account token ann@example.com");
    take_token(f, second);
    assert_string_not_equal(token, second);
    assert_int_equal(authenticate(f, "ann@example.com", token), INVENTORY_AUTH_BAD_TOKEN);
    assert_int_equal(authenticate(f, "ann@example.com", second), INVENTORY_AUTH_OK);

    assert_code(f, 0, "account disable ann@example.com");
    assert_int_equal(authenticate(f, "ann@example.com", second), INVENTORY_AUTH_DISABLED);
    assert_code(f, 0, "account list");
    assert_holds(f->out, "disabled");
    assert_code(f, 0, "account enable ann@example.com");
    assert_int_equal(authenticate(f, "ann@example.com", second), INVENTORY_AUTH_OK);

    assert_code(f, 0, "account remove ann@example.com");
    assert_code(f, 1, "account remove ann@example.com");
    assert_code(f, 1, "account token ann@example.com");
    assert_code(f, 1, "account enable ann@example.com");
}

static void a_token_that_cannot_be_written_is_a_failure(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(run_to(f, "/dev/full", "account add ann@example.com"), 1);
    assert_holds(f->err, "account token");
    assert_int_equal(run_to(f, "/dev/full", "account list"), 1);
    assert_int_equal(run_to(f, "/dev/full", "account list --json"), 1);
}

static void devices_come_back_as_json(void **state)
{
    struct fixture *f = *state;
    assert_code(f, 0, "account add ann@example.com");
    assert_code(f, 0, "site add Site_42 --id 42");
    assert_string_equal(f->out, "42\n");
    assert_code(f, 0,
                "device add r1 --address 192.0.2.1 --address=2001:DB8::1,::ffff:192.0.2.3 --site 42 --asn "
                "4200000000");
    assert_string_equal(f->out, "");
    assert_code(f, 0, "device add r2 --address 192.0.2.1");

    json_t *devices = json_of(f, "device list --json");
    assert_int_equal(json_array_size(devices), 2);
    const json_t *r1 = json_array_get(devices, 0), *r2 = json_array_get(devices, 1);
    const json_t *addresses = json_object_get(r1, "addresses");
    assert_number(r1, "id", 1);
    assert_string_equal(text_of(r1, "name"), "r1");
    assert_int_equal(json_array_size(addresses), 3);
    assert_string_equal(json_string_value(json_array_get(addresses, 0)), "192.0.2.1");
    assert_string_equal(json_string_value(json_array_get(addresses, 1)), "2001:db8::1");
    assert_string_equal(json_string_value(json_array_get(addresses, 2)), "192.0.2.3");
    assert_number(r1, "site_id", 42);
    assert_string_equal(text_of(r1, "site"), "Site 42");
    assert_number(r1, "asn", 4200000000);
    assert_number(r1, "company_id", 1);
    assert_string_equal(text_of(r1, "account"), "ann@example.com");
    assert_true(json_is_true(json_object_get(r1, "enabled")));
    assert_true(json_is_false(json_object_get(r1, "md5")));
    assert_true(json_is_null(json_object_get(r2, "site_id")));
    assert_true(json_is_null(json_object_get(r2, "site")));
    assert_true(json_is_null(json_object_get(r2, "asn")));
    json_decref(devices);

    json_t *sites = json_of(f, "site list --json");
    assert_int_equal(json_array_size(sites), 1);
    assert_number(json_array_get(sites, 0), "id", 42);
    assert_number(json_array_get(sites, 0), "devices", 1);
    assert_string_equal(text_of(json_array_get(sites, 0), "account"), "ann@example.com");
    json_decref(sites);

    json_t *accounts = json_of(f, "account list --json");
    assert_int_equal(json_array_size(accounts), 1);
    assert_string_equal(text_of(json_array_get(accounts, 0), "email"), "ann@example.com");
    assert_number(json_array_get(accounts, 0), "devices", 2);
    assert_int_equal(strlen(text_of(json_array_get(accounts, 0), "created")), strlen("2026-01-01T00:00:00Z"));
    assert_null(json_object_get(json_array_get(accounts, 0), "token_hash"));
    json_decref(accounts);
}

static void lists_are_aligned_for_people(void **state)
{
    struct fixture *f = *state;
    assert_code(f, 0, "account add ann@example.com");
    assert_code(f, 0, "device list");
    assert_string_equal(f->out, "");
    assert_holds(f->err, "No devices.");
    json_t *none = json_of(f, "device list --json");
    assert_int_equal(json_array_size(none), 0);
    json_decref(none);

    assert_code(f, 0, "site add fra1");
    assert_string_equal(f->out, "1\n");
    assert_code(f, 0, "device add a-long-name --address 192.0.2.1 --site fra1 --asn 65010");
    assert_code(f, 0, "device add r2 --address 2001:db8::1");
    assert_code(f, 0, "device list");
    assert_string_equal(f->out,
                        "ID  NAME         ADDRESSES    SITE      AS     MD5  STATE    ACCOUNT\n"
                        "1   a-long-name  192.0.2.1    1 (fra1)  65010  -    enabled  ann@example.com\n"
                        "2   r2           2001:db8::1  -         -      -    enabled  ann@example.com\n");
    assert_string_equal(f->err, "");
    assert_code(f, 0, "site list");
    assert_string_equal(f->out, "ID  NAME  DEVICES  ACCOUNT\n"
                                "1   fra1  1        ann@example.com\n");
}

/* The device's key as the server will read it, "" for none. */
static void read_key(struct fixture *f, const char *name, char key[static INVENTORY_MD5_KEY_MAX + 1])
{
    struct err e;
    struct inventory_device d;
    struct inventory *inv = inventory_open(f->db, true, &e);
    assert_non_null(inv);
    assert_true(inventory_get_device(inv, name, &d, &e));
    inventory_close(inv);
    memcpy(key, d.md5_key, d.md5_key_len);
    key[d.md5_key_len] = 0;
}

static void write_key(struct fixture *f, const char *content, size_t n)
{
    char path[100];
    snprintf(path, sizeof path, "%s/key", f->dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void an_md5_password_comes_from_a_file(void **state)
{
    struct fixture *f = *state;
    char key[INVENTORY_MD5_KEY_MAX + 1], words[200], longest[INVENTORY_MD5_KEY_MAX + 3];
    assert_code(f, 0, "account add ann@example.com");
    write_key(f, "s3cr3t!\n", 8);
    snprintf(words, sizeof words, "device add r1 --address 192.0.2.1 --md5-password-file %s/key", f->dir);
    assert_code(f, 0, words);
    read_key(f, "r1", key);
    assert_string_equal(key, "s3cr3t!");
    assert_code(f, 0, "device list");
    assert_holds(f->out, " set  enabled ");
    assert_null(strstr(f->out, "s3cr3t"));
    json_t *devices = json_of(f, "device list --json");
    assert_true(json_is_true(json_object_get(json_array_get(devices, 0), "md5")));
    json_decref(devices);

    /* Other changes leave it alone. */
    assert_code(f, 0, "device set r1 --asn 65010");
    assert_code(f, 0, "device disable r1");
    assert_code(f, 0, "device enable r1");
    read_key(f, "r1", key);
    assert_string_equal(key, "s3cr3t!");

    memset(longest, 'x', sizeof longest);
    memcpy(longest + INVENTORY_MD5_KEY_MAX, "\r\n", 2);
    write_key(f, longest, INVENTORY_MD5_KEY_MAX + 2);
    snprintf(words, sizeof words, "device set r1 --md5-password-file %s/key", f->dir);
    assert_code(f, 0, words);
    read_key(f, "r1", key);
    assert_int_equal(strlen(key), INVENTORY_MD5_KEY_MAX);

    /* What is not accepted changes nothing, and is named by its file, not by what is in it. */
    static const struct {
        const char *content;
        size_t n;
    } bad[] = {{"", 0},         {"\n", 1},     {"hush word\n", 10},   {"hush?\n", 6},
               {"hush\n\n", 6}, {"hush\0", 5}, {"hush\xc3\xa4\n", 7}, {"\thush", 5}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_key(f, bad[i].content, bad[i].n);
        assert_code(f, 1, words);
        assert_holds(f->err, "/key: is not an MD5 password: 1 to 80 printable ASCII characters");
        assert_null(strstr(f->err, "hush"));
    }
    memset(longest, 'x', sizeof longest);
    write_key(f, longest, INVENTORY_MD5_KEY_MAX + 1);
    assert_code(f, 1, words);
    read_key(f, "r1", key);
    assert_int_equal(strlen(key), INVENTORY_MD5_KEY_MAX);
    assert_code(f, 1, "device set r1 --md5-password-file /nonexistent");
    assert_holds(f->err, "--md5-password-file: /nonexistent: cannot be read: No such file or directory");
    assert_code(f, 2, "device set r1 --md5-password-file x --no-md5-password");
    assert_holds(f->err, "exclude each other");

    assert_code(f, 0, "device set r1 --no-md5-password");
    read_key(f, "r1", key);
    assert_string_equal(key, "");
    assert_code(f, 0, "device list");
    assert_holds(f->out, " -    enabled ");
}

static void a_device_is_changed_and_removed(void **state)
{
    struct fixture *f = *state;
    assert_code(f, 0, "account add ann@example.com");
    assert_code(f, 0, "site add fra1");
    assert_code(f, 0, "device add r1 --address 192.0.2.1 --site fra1 --asn 65010");
    assert_code(f, 0, "device set r1 --address 192.0.2.7,192.0.2.8");
    assert_code(f, 0, "device list");
    assert_holds(f->out, " 192.0.2.7,192.0.2.8  1 (fra1)  65010 ");
    assert_code(f, 0, "device set r1 --site 0 --asn 65011");
    assert_code(f, 0, "device list");
    assert_holds(f->out, " 192.0.2.7,192.0.2.8  -     65011  -    enabled ");
    assert_code(f, 0, "device set r1 --site 1 --asn 0");
    assert_code(f, 0, "device disable r1");
    assert_code(f, 0, "device list");
    assert_holds(f->out, " 192.0.2.7,192.0.2.8  1 (fra1)  -   -    disabled ");
    assert_code(f, 0, "device enable r1");
    assert_code(f, 0, "device list");
    assert_holds(f->out, "enabled");

    assert_code(f, 1, "site remove fra1");
    assert_holds(f->err, "still has 1 device");
    assert_code(f, 0, "device remove r1");
    assert_code(f, 1, "device remove r1");
    assert_holds(f->err, "there is no device r1");
    assert_code(f, 1, "device set r1 --asn 1");
    assert_code(f, 0, "site remove 1");
    assert_code(f, 1, "site remove fra1");
    assert_holds(f->err, "there is no site \"fra1\"");
}

static void whose_a_device_is(void **state)
{
    struct fixture *f = *state;
    assert_code(f, 1, "device list");
    assert_holds(f->err, "no inventory there yet");
    assert_code(f, 1, "device add r1 --address 192.0.2.1");
    assert_holds(f->err, "there is no account yet");
    assert_code(f, 1, "site add fra1");
    assert_holds(f->err, "there is no account yet");

    assert_code(f, 0, "account add ann@example.com");
    assert_code(f, 0, "device add r1 --address 192.0.2.1");
    assert_code(f, 0, "account add bob@example.com");
    assert_code(f, 1, "device add r2 --address 192.0.2.2");
    assert_holds(f->err, "there are 2 accounts");
    assert_holds(f->err, "--account");
    assert_code(f, 1, "site add bobs");
    assert_code(f, 0, "site add bobs --account BOB@example.com");
    assert_code(f, 0, "device add r2 --address 192.0.2.1 --account bob@example.com");
    assert_code(f, 0, "device add r3 --address 192.0.2.3 --site bobs"); /* so it is bob's */
    assert_code(f, 1, "device add r4 --address 192.0.2.4 --site bobs --account ann@example.com");
    assert_holds(f->err, "another account");
    assert_code(f, 1, "device set r1 --site bobs");
    assert_code(f, 1, "device add r4 --address 192.0.2.4 --account eve@example.com");
    assert_holds(f->err, "there is no account eve@example.com");
    assert_code(f, 1, "device add r4 --address 192.0.2.4 --site 99");
    assert_holds(f->err, "there is no site 99");

    json_t *devices = json_of(f, "device list --json");
    assert_int_equal(json_array_size(devices), 3);
    assert_string_equal(text_of(json_array_get(devices, 1), "account"), "bob@example.com");
    assert_string_equal(text_of(json_array_get(devices, 2), "account"), "bob@example.com");
    json_decref(devices);
}

static void bad_usage_is_code_2_and_says_what_is_accepted(void **state)
{
    static const struct {
        const char *words, *says;
    } cases[] = {
        {"", "Usage: kbgp-target account|site|device ACTION"},
        {"router list", "account add EMAIL"},
        {"device", "device add NAME"},
        {"device frobnicate", "unknown action \"frobnicate\""},
        {"device add", "NAME is missing"},
        {"device add r1", "--address is missing"},
        {"device add r1 r2 --address 192.0.2.1", "unexpected argument \"r2\""},
        {"device add r/1 --address 192.0.2.1", "NAME: \"r/1\" is not a device name: 1 to 60 letters"},
        {"device add r1 --address router", "--address: \"router\" is not an IPv4 or IPv6 address"},
        {"device add r1 --address 192.0.2.1,192.0.2.0/24", "--address: \"192.0.2.0/24\" is not"},
        {"device add r1 --address fe80::1%lo", "leave it out"},
        {"device add r1 --address", "--address: a value must follow"},
        {"device add r1 --address 192.0.2.1 --asn x",
         "--asn: \"x\" is not an AS number from 1 to 4294967295"},
        {"device add r1 --address 192.0.2.1 --asn 4294967296", "--asn: \"4294967296\" is not"},
        {"device add r1 --address 192.0.2.1 --asn -1", "--asn"},
        {"device add r1 --address 192.0.2.1 --site 4294967296", "--site: \"4294967296\" is not a site id"},
        {"device add r1 --address 192.0.2.1 --account ann", "--account: \"ann\" is not an email address"},
        {"device add r1 --adress 192.0.2.1", "unknown flag --adress"},
        {"device set r1", "give --address, --site, --asn, --md5-password-file or --no-md5-password"},
        {"device list extra", "unexpected argument \"extra\""},
        {"device list --json=perhaps", "--json"},
        {"account add", "EMAIL is missing"},
        {"account add ann", "EMAIL: \"ann\" is not an email address: NAME@DOMAIN"},
        {"site add 12", "NAME: \"12\" is not a site name"},
        {"site add fra1 --id 0", "--id: \"0\" is not a number from 1 to 4294967295"},
        {"site add fra1 --id 4294967296", "--id: \"4294967296\" is not a number from 1 to 4294967295"},
        {"site remove", "NAME|ID is missing"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_code(f, 2, cases[i].words);
        assert_holds(f->err, cases[i].says);
        assert_string_equal(f->out, "");
    }
    assert_int_equal(access(f->db, F_OK), -1); /* bad usage touches no database */
}

static void a_device_has_at_most_sixteen_addresses(void **state)
{
    struct fixture *f = *state;
    char words[600] = "device add r1 --address ";
    for (int i = 1; i <= 17; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), "192.0.2.%d,", i);
    assert_code(f, 0, "account add ann@example.com");
    assert_code(f, 2, words);
    assert_holds(f->err, "--address: 17 addresses, a device has at most 16");
}

static void help_goes_to_stdout(void **state)
{
    static const struct {
        const char *words, *says;
    } cases[] = {
        {"--help", "device remove NAME"},
        {"device -h", "device add NAME"},
        {"site help", "site add NAME"},
        {"device add --help", "Usage: kbgp-target device add NAME [OPTIONS]"},
        {"device add --help", "--address IP"},
        {"account list -h", "KBGP_TARGET_DB"},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_code(f, 0, cases[i].words);
        assert_holds(f->out, cases[i].says);
        assert_string_equal(f->err, "");
    }
}

static void the_flag_beats_the_variable(void **state)
{
    struct fixture *f = *state;
    char words[200];
    assert_int_equal(setenv("KBGP_TARGET_DB", "/nonexistent/kbgp.db", 1), 0);
    assert_code(f, 1, "account add ann@example.com");
    assert_holds(f->err, "/nonexistent/kbgp.db: its directory does not exist");
    snprintf(words, sizeof words, "account add ann@example.com --db %s", f->db);
    assert_code(f, 0, words);
    struct stat st;
    assert_int_equal(stat(f->db, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_account_gets_a_token_alone_on_stdout),
        TEST(a_token_that_cannot_be_written_is_a_failure),
        TEST(devices_come_back_as_json),
        TEST(lists_are_aligned_for_people),
        TEST(an_md5_password_comes_from_a_file),
        TEST(a_device_is_changed_and_removed),
        TEST(whose_a_device_is),
        TEST(bad_usage_is_code_2_and_says_what_is_accepted),
        TEST(a_device_has_at_most_sixteen_addresses),
        TEST(help_goes_to_stdout),
        TEST(the_flag_beats_the_variable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
