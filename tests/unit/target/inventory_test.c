#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "target/inventory.h"

/* Every test has a directory of its own, with an inventory in it that is open. */
struct fixture {
    char dir[64];
    char path[96];
    struct inventory *inv;
    struct err e;
};

static void empty_dir(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (entry->d_name[0] != '.')
            assert_int_equal(remove(path), 0);
    }
    closedir(d);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->dir, "/tmp/kbgp-inventory-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/kbgp.db", f->dir);
    f->inv = inventory_open(f->path, false, &f->e);
    assert_non_null(f->inv);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    inventory_close(f->inv);
    empty_dir(f->dir);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

#define assert_says(e, words)                                                                                \
    do {                                                                                                     \
        if (!strstr((e).text, (words)))                                                                      \
            fail_msg("\"%s\" does not say \"%s\"", (e).text, (words));                                       \
    } while (0)

/* With a connection of its own, and without regard for constraints. */
static void sql(const struct fixture *f, const char *statements)
{
    sqlite3 *db;
    char *error = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    if (sqlite3_exec(db, "PRAGMA ignore_check_constraints = ON", NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(db, statements, NULL, NULL, &error) != SQLITE_OK)
        fail_msg("%s: %s", statements, error ? error : "?");
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static struct addr ip(const char *text)
{
    struct addr a;
    assert_true(addr_parse_ip(&a, text));
    return a;
}

static uint32_t add_account(struct fixture *f, const char *email)
{
    char token[INVENTORY_TOKEN_LEN + 1];
    uint32_t id = 0;
    assert_true(inventory_add_account(f->inv, email, token, &id, &f->e));
    return id;
}

static uint32_t add_site(struct fixture *f, uint32_t company, const char *name, uint32_t id)
{
    assert_true(inventory_add_site(f->inv, company, name, &id, &f->e));
    return id;
}

static bool try_device(struct fixture *f, uint32_t company, uint32_t site, const char *name,
                       const char *address)
{
    struct inventory_device d = {.company_id = company, .site_id = site, .enabled = true, .address_count = 1};
    snprintf(d.name, sizeof d.name, "%s", name);
    d.addresses[0] = ip(address);
    return inventory_add_device(f->inv, &d, &f->e);
}

static enum inventory_found find(struct fixture *f, uint32_t company, uint32_t site, const char *address,
                                 struct inventory_device *out)
{
    struct addr a = ip(address);
    a.port = 45678;
    return inventory_find_device(f->inv, company, site, &a, out, &f->e);
}

static void assert_found(struct fixture *f, uint32_t company, uint32_t site, const char *address,
                         const char *name)
{
    struct inventory_device d;
    if (find(f, company, site, address, &d) != INVENTORY_FOUND)
        fail_msg("%s is not found: %s", address, f->e.text);
    assert_string_equal(d.name, name);
}

/* --- the file --- */

static void makes_a_private_file_and_keeps_what_is_in_it(void **state)
{
    struct fixture *f = *state;
    add_account(f, "ann@example.com");
    struct stat st;
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    inventory_close(f->inv);
    f->inv = inventory_open(f->path, false, &f->e);
    assert_non_null(f->inv);
    struct inventory_account account;
    assert_true(inventory_get_account(f->inv, "ann@example.com", &account, &f->e));
    assert_int_equal(account.id, 1);
}

static void refuses_places_that_hold_no_inventory(void **state)
{
    struct fixture *f = *state;
    struct err e;
    char path[160];
    snprintf(path, sizeof path, "%s/missing/kbgp.db", f->dir);
    assert_null(inventory_open(path, false, &e));
    assert_says(e, path);
    assert_says(e, "its directory does not exist");
    assert_null(inventory_open("", false, &e));
    assert_says(e, "empty");
    assert_null(inventory_open(f->dir, false, &e));
    assert_says(e, "not a file");

    snprintf(path, sizeof path, "%s/new.db", f->dir);
    assert_null(inventory_open(path, true, &e));
    assert_says(e, "no inventory there yet");
    assert_int_equal(access(path, F_OK), -1); /* and a reader leaves no file behind */

    FILE *text = fopen(path, "w");
    assert_non_null(text);
    for (int i = 0; i < 1000; i++)
        fputs("this is a text, not a database\n", text);
    fclose(text);
    assert_null(inventory_open(path, false, &e));
    assert_says(e, "not a database");

    assert_int_equal(truncate(path, 0), 0);
    assert_null(inventory_open(path, true, &e));
    assert_says(e, "empty");
}

static void refuses_other_programs_and_newer_versions(void **state)
{
    struct fixture *f = *state;
    struct err e;
    inventory_close(f->inv);
    f->inv = NULL;

    sql(f, "PRAGMA user_version = 999");
    assert_null(inventory_open(f->path, false, &e));
    assert_says(e, "newer");
    assert_says(e, "999");
    sql(f, "PRAGMA user_version = 0");
    assert_null(inventory_open(f->path, false, &e));
    assert_says(e, "schema version 0");
    sql(f, "PRAGMA user_version = 1; PRAGMA application_id = 7");
    assert_null(inventory_open(f->path, false, &e));
    assert_says(e, "not an inventory");
    /* A database without any mark: its tables tell. */
    sql(f, "PRAGMA user_version = 0; PRAGMA application_id = 0");
    assert_null(inventory_open(f->path, false, &e));
    assert_says(e, "not an inventory");
}

static void takes_a_name_that_means_something_to_sqlite_as_a_file(void **state)
{
    struct fixture *f = *state;
    int here = open(".", O_RDONLY | O_DIRECTORY);
    assert_true(here >= 0);
    assert_int_equal(chdir(f->dir), 0);
    struct inventory *inv = inventory_open(":memory:", false, &f->e);
    assert_int_equal(fchdir(here), 0);
    close(here);
    assert_non_null(inv);
    inventory_close(inv);
    char path[160];
    snprintf(path, sizeof path, "%s/:memory:", f->dir);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 0);
}

static void survives_many_that_make_it_at_once(void **state)
{
    struct fixture *f = *state;
    inventory_close(f->inv);
    f->inv = NULL;
    empty_dir(f->dir);
    int go[2];
    assert_int_equal(pipe(go), 0);
    for (int i = 0; i < 8; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            char c, email[40], token[INVENTORY_TOKEN_LEN + 1];
            uint32_t id;
            close(go[1]);
            if (read(go[0], &c, 1) != 0)
                _exit(2);
            snprintf(email, sizeof email, "u%d@example.com", i);
            struct inventory *inv = inventory_open(f->path, false, &f->e);
            if (!inv || !inventory_add_account(inv, email, token, &id, &f->e)) {
                fprintf(stderr, "%s\n", f->e.text);
                _exit(1);
            }
            inventory_close(inv);
            _exit(0);
        }
    }
    close(go[0]);
    close(go[1]); /* all of them go */
    for (int i = 0; i < 8; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    f->inv = inventory_open(f->path, true, &f->e);
    assert_non_null(f->inv);
    struct inventory_account account;
    for (int i = 0; i < 8; i++) {
        char email[40];
        snprintf(email, sizeof email, "u%d@example.com", i);
        assert_true(inventory_get_account(f->inv, email, &account, &f->e));
    }
}

/* Somebody who is about to write keeps SQLite from changing to WAL mode, and no busy handler is asked. */
static void waits_for_another_that_makes_it(void **state)
{
    struct fixture *f = *state;
    inventory_close(f->inv);
    f->inv = NULL;
    empty_dir(f->dir);
    int locked[2];
    assert_int_equal(pipe(locked), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sqlite3 *db;
        bool ok = sqlite3_open(f->path, &db) == SQLITE_OK &&
                  sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK &&
                  write(locked[1], "x", 1) == 1;
        usleep(100000);
        sqlite3_close(db);
        _exit(ok ? 0 : 1);
    }
    char c;
    close(locked[1]);
    assert_int_equal(read(locked[0], &c, 1), 1);
    close(locked[0]);
    f->inv = inventory_open(f->path, false, &f->e);
    if (!f->inv)
        fail_msg("%s", f->e.text);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    add_account(f, "ann@example.com");
}

/* Root runs the commands, the server runs as somebody else. */
static void root_gives_the_file_to_whom_the_directory_belongs(void **state)
{
    struct fixture *f = *state;
    if (geteuid() != 0)
        skip();
    inventory_close(f->inv);
    f->inv = NULL;
    empty_dir(f->dir);
    const uid_t somebody = 65534;
    assert_int_equal(chown(f->dir, somebody, somebody), 0);
    int made[2];
    assert_int_equal(pipe(made), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char c;
        struct inventory_account account;
        close(made[1]);
        if (read(made[0], &c, 1) != 1 || setgid(somebody) != 0 || setuid(somebody) != 0)
            _exit(2);
        struct inventory *server = inventory_open(f->path, true, &f->e);
        bool ok = server && inventory_get_account(server, "ann@example.com", &account, &f->e);
        if (!ok)
            fprintf(stderr, "%s\n", f->e.text);
        inventory_close(server);
        _exit(ok ? 0 : 1);
    }
    close(made[0]);
    f->inv = inventory_open(f->path, false, &f->e);
    assert_non_null(f->inv);
    add_account(f, "ann@example.com");
    assert_int_equal(write(made[1], "x", 1), 1);
    close(made[1]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- accounts --- */

static void authenticates(void **state)
{
    struct fixture *f = *state;
    char ann[INVENTORY_TOKEN_LEN + 1], bob[INVENTORY_TOKEN_LEN + 1], changed[INVENTORY_TOKEN_LEN + 1];
    uint32_t ann_id, bob_id, id = 0;
    assert_true(inventory_add_account(f->inv, "ann@example.com", ann, &ann_id, &f->e));
    assert_true(inventory_add_account(f->inv, "bob@example.com", bob, &bob_id, &f->e));
    assert_int_equal(strlen(ann), INVENTORY_TOKEN_LEN);
    assert_int_equal(strspn(ann, "0123456789abcdef"), INVENTORY_TOKEN_LEN);
    assert_string_not_equal(ann, bob);
    assert_int_not_equal(ann_id, bob_id);

    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", ann, &id, &f->e), INVENTORY_AUTH_OK);
    assert_int_equal(id, ann_id);
    assert_int_equal(inventory_authenticate(f->inv, "Bob@EXAMPLE.com", bob, &id, &f->e), INVENTORY_AUTH_OK);
    assert_int_equal(id, bob_id);

    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", bob, &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);
    assert_int_equal(id, 0);
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", "", &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);
    assert_int_equal(inventory_authenticate(f->inv, "eve@example.com", ann, &id, &f->e),
                     INVENTORY_AUTH_UNKNOWN_EMAIL);
    assert_int_equal(inventory_authenticate(f->inv, "", "", &id, &f->e), INVENTORY_AUTH_UNKNOWN_EMAIL);
    assert_int_equal(inventory_authenticate(f->inv, "' OR 1=1 --", ann, &id, &f->e),
                     INVENTORY_AUTH_UNKNOWN_EMAIL);

    memcpy(changed, ann, sizeof ann);
    changed[INVENTORY_TOKEN_LEN - 1] = ann[INVENTORY_TOKEN_LEN - 1] == '0' ? '1' : '0';
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", changed, &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);

    char *huge = malloc(100001);
    assert_non_null(huge);
    memset(huge, 'a', 100000);
    huge[100000] = 0;
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", huge, &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);
    assert_int_equal(inventory_authenticate(f->inv, huge, ann, &id, &f->e), INVENTORY_AUTH_UNKNOWN_EMAIL);
    free(huge);
}

static void a_new_token_voids_the_old_one(void **state)
{
    struct fixture *f = *state;
    char old[INVENTORY_TOKEN_LEN + 1], new[INVENTORY_TOKEN_LEN + 1];
    uint32_t id;
    assert_true(inventory_add_account(f->inv, "ann@example.com", old, &id, &f->e));
    assert_true(inventory_renew_token(f->inv, "ANN@example.com", new, &f->e));
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", old, &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", new, &id, &f->e), INVENTORY_AUTH_OK);
    assert_false(inventory_renew_token(f->inv, "eve@example.com", new, &f->e));
    assert_says(f->e, "there is no account eve@example.com");
}

static void a_disabled_account_says_so_only_to_the_right_token(void **state)
{
    struct fixture *f = *state;
    char token[INVENTORY_TOKEN_LEN + 1];
    uint32_t id;
    assert_true(inventory_add_account(f->inv, "ann@example.com", token, &id, &f->e));
    assert_true(inventory_enable_account(f->inv, "ann@example.com", false, &f->e));
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", token, &id, &f->e),
                     INVENTORY_AUTH_DISABLED);
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", "no", &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);
    assert_true(inventory_enable_account(f->inv, "ann@example.com", true, &f->e));
    assert_int_equal(inventory_authenticate(f->inv, "ann@example.com", token, &id, &f->e), INVENTORY_AUTH_OK);
}

static bool file_holds(const char *path, const char *needle)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return false;
    static char content[1 << 20];
    size_t n = fread(content, 1, sizeof content, file);
    fclose(file);
    return memmem(content, n, needle, strlen(needle)) != NULL;
}

static void the_token_stands_nowhere_in_the_file(void **state)
{
    struct fixture *f = *state;
    char token[INVENTORY_TOKEN_LEN + 1], wal[120];
    uint32_t id;
    assert_true(inventory_add_account(f->inv, "ann@example.com", token, &id, &f->e));
    snprintf(wal, sizeof wal, "%s-wal", f->path);
    assert_true(file_holds(f->path, "ann@example.com") || file_holds(wal, "ann@example.com"));
    assert_false(file_holds(f->path, token));
    assert_false(file_holds(wal, token));
}

static void checks_emails(void **state)
{
    (void)state;
    struct err e;
    static const char *const good[] = {"a@b", "first.last+tag@mail.example.com"};
    static const char *const bad[] = {"",      "a",     "@",     "a@",      "@b",
                                      "a@b@c", "a b@c", "a@b\n", "a@b\x7f", "\xc3\xa4@b"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(inventory_check_email(good[i], &e));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(inventory_check_email(bad[i], &e));
    char text[300];
    memset(text, 'a', sizeof text);
    text[1] = '@';
    text[INVENTORY_EMAIL_MAX] = 0;
    assert_true(inventory_check_email(text, &e));
    text[INVENTORY_EMAIL_MAX] = 'a';
    text[INVENTORY_EMAIL_MAX + 1] = 0;
    assert_false(inventory_check_email(text, &e));
}

static void an_account_is_there_once_and_goes_when_it_is_empty(void **state)
{
    struct fixture *f = *state;
    char token[INVENTORY_TOKEN_LEN + 1];
    uint32_t id, ann = add_account(f, "ann@example.com");
    assert_false(inventory_add_account(f->inv, "Ann@Example.com", token, &id, &f->e));
    assert_says(f->e, "exists already");

    uint32_t site = add_site(f, ann, "fra1", 0);
    assert_true(try_device(f, ann, site, "r1", "192.0.2.1"));
    assert_false(inventory_remove_account(f->inv, "ann@example.com", &f->e));
    assert_says(f->e, "devices (1) or sites (1)");
    assert_false(inventory_remove_site(f->inv, site, &f->e));
    assert_says(f->e, "1 device");
    assert_true(inventory_remove_device(f->inv, "R1", &f->e));
    assert_true(inventory_remove_site(f->inv, site, &f->e));
    assert_true(inventory_remove_account(f->inv, "ann@example.com", &f->e));
    assert_false(inventory_remove_account(f->inv, "ann@example.com", &f->e));
    assert_says(f->e, "there is no account");
    assert_int_not_equal(add_account(f, "ann@example.com"), ann); /* a company id is not used again */
}

/* --- sites --- */

static void sites_have_chosen_or_automatic_ids(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com"), id = 7;
    struct inventory_site site;
    assert_int_equal(add_site(f, ann, "fra1", 0), 1);
    assert_int_equal(add_site(f, ann, "Data centre 2", 700), 700);
    assert_int_equal(add_site(f, ann, "ams1", 0), 701);
    assert_false(inventory_add_site(f->inv, ann, "FRA1", &id, &f->e));
    assert_says(f->e, "site 1 (fra1) exists already");
    id = 700;
    assert_false(inventory_add_site(f->inv, ann, "new", &id, &f->e));
    assert_says(f->e, "site 700 (Data centre 2) exists already");

    assert_true(inventory_get_site(f->inv, "700", &site, &f->e));
    assert_string_equal(site.name, "Data centre 2");
    assert_true(inventory_get_site(f->inv, "data CENTRE 2", &site, &f->e));
    assert_int_equal(site.id, 700);
    static const char *const none[] = {
        "", "0", "2", "4294967996", "18446744073709552316" /* 700, beyond 64 bits */, "nowhere"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(inventory_get_site(f->inv, none[i], &site, &f->e));
    static const char *const bad[] = {"", " a", "a ", "12", "a\tb", "\xc3\xa4"};
    id = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(inventory_add_site(f->inv, ann, bad[i], &id, &f->e));

    assert_int_equal(add_site(f, ann, "last", UINT32_MAX), UINT32_MAX);
    id = 0;
    assert_false(inventory_add_site(f->inv, ann, "after the last", &id, &f->e));
    assert_says(f->e, "choose an id");
}

/* --- devices --- */

static void a_device_comes_back_as_it_was_added(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com");
    uint32_t site = add_site(f, ann, "fra1", 42);
    struct inventory_device d = {.company_id = ann,
                                 .site_id = site,
                                 .asn = 4200000000,
                                 .enabled = true,
                                 .address_count = 2,
                                 .name = "edge-1.fra"};
    d.addresses[0] = ip("2001:DB8:0:0::1");
    d.addresses[1] = ip("::ffff:192.0.2.7");
    assert_true(inventory_add_device(f->inv, &d, &f->e));
    sql(f, "UPDATE device SET md5_key = x'736563726574'");

    struct inventory_device out;
    assert_int_equal(find(f, ann, site, "192.0.2.7", &out), INVENTORY_FOUND);
    assert_int_equal(out.id, d.id);
    assert_int_equal(out.company_id, ann);
    assert_int_equal(out.site_id, 42);
    assert_int_equal(out.asn, 4200000000);
    assert_true(out.enabled);
    assert_string_equal(out.name, "edge-1.fra");
    assert_int_equal(out.address_count, 1);
    assert_true(addr_same_ip(&out.addresses[0], &d.addresses[1]));
    assert_int_equal(out.md5_key_len, 6);
    assert_memory_equal(out.md5_key, "secret", 6);
    assert_true(inventory_get_device(f->inv, "edge-1.fra", &out, &f->e));
    assert_int_equal(out.address_count, 2);
    assert_true(addr_same_ip(&out.addresses[0], &d.addresses[0]));
    assert_true(addr_same_ip(&out.addresses[1], &d.addresses[1]));
    assert_found(f, ann, site, "2001:db8::1", "edge-1.fra");
}

static void an_address_is_one_devices_within_its_site(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com"), bob = add_account(f, "bob@example.com");
    uint32_t fra = add_site(f, ann, "fra", 0), ams = add_site(f, ann, "ams", 0),
             bobs = add_site(f, bob, "bobs", 0);

    assert_true(try_device(f, ann, fra, "r1", "10.0.0.1"));
    assert_true(try_device(f, ann, ams, "r2", "10.0.0.1"));
    assert_true(try_device(f, ann, 0, "r3", "10.0.0.1"));
    assert_true(try_device(f, bob, 0, "r4", "10.0.0.1"));
    assert_true(try_device(f, bob, bobs, "r5", "10.0.0.1"));

    assert_false(try_device(f, ann, fra, "r6", "10.0.0.1"));
    assert_says(f->e, "address 10.0.0.1 is device r1 in site 1 already");
    assert_false(try_device(f, ann, fra, "r6", "::ffff:10.0.0.1"));
    assert_says(f->e, "10.0.0.1 is device r1");
    assert_false(try_device(f, ann, 0, "r6", "10.0.0.1"));
    assert_says(f->e, "device r3 already");
    assert_false(try_device(f, ann, 0, "R1", "10.0.0.9"));
    assert_says(f->e, "device r1 exists already");
    assert_false(try_device(f, bob, 0, "r1", "10.0.0.9"));
    assert_false(try_device(f, ann, bobs, "r6", "10.0.0.9"));
    assert_says(f->e, "another account");
    assert_false(try_device(f, ann, 999, "r6", "10.0.0.9"));
    assert_says(f->e, "there is no site 999");
    assert_false(try_device(f, 999, 0, "r6", "10.0.0.9"));
    assert_false(try_device(f, ann, 0, "no/slash", "10.0.0.9"));
    assert_says(f->e, "not a device name");

    struct inventory_device twice = {.company_id = ann, .enabled = true, .address_count = 2, .name = "r6"};
    twice.addresses[0] = twice.addresses[1] = ip("10.9.9.9");
    assert_false(inventory_add_device(f->inv, &twice, &f->e));
    assert_says(f->e, "given twice");
    twice.address_count = 0;
    assert_false(inventory_add_device(f->inv, &twice, &f->e));
    assert_says(f->e, "1 to 16");
    twice.address_count = INVENTORY_ADDRESSES_MAX + 1;
    assert_false(inventory_add_device(f->inv, &twice, &f->e));

    /* Nothing is left of those that failed. */
    struct inventory_device out;
    assert_false(inventory_get_device(f->inv, "r6", &out, &f->e));
    assert_says(f->e, "there is no device r6");
    assert_true(try_device(f, ann, 0, "r6", "10.9.9.9"));
}

static void finds_by_site(void **state)
{
    struct fixture *f = *state;
    struct inventory_device out;
    uint32_t ann = add_account(f, "ann@example.com"), bob = add_account(f, "bob@example.com");
    uint32_t fra = add_site(f, ann, "fra", 0), ams = add_site(f, ann, "ams", 0);
    assert_true(try_device(f, ann, fra, "r1", "10.0.0.1"));
    assert_true(try_device(f, ann, ams, "r2", "10.0.0.1"));
    assert_true(try_device(f, ann, ams, "r3", "10.0.0.3"));
    assert_true(try_device(f, ann, 0, "r4", "10.0.0.4"));

    assert_found(f, ann, fra, "10.0.0.1", "r1");
    assert_found(f, ann, ams, "10.0.0.1", "r2");
    assert_found(f, ann, 0, "10.0.0.3", "r3");
    assert_found(f, ann, 0, "10.0.0.4", "r4");

    assert_int_equal(find(f, ann, 0, "10.0.0.1", &out), INVENTORY_AMBIGUOUS);
    assert_says(f->e, "(r1, r2)");
    assert_int_equal(find(f, ann, fra, "10.0.0.3", &out), INVENTORY_NONE);
    assert_says(f->e, "in site 2, and the agent is for site 1");
    assert_int_equal(find(f, ann, fra, "10.0.0.4", &out), INVENTORY_NONE);
    assert_says(f->e, "in no site");
    assert_int_equal(find(f, ann, fra, "10.0.0.5", &out), INVENTORY_NONE);
    assert_says(f->e, "no device has the address 10.0.0.5");
    assert_int_equal(find(f, bob, 0, "10.0.0.4", &out), INVENTORY_NONE);
    assert_says(f->e, "no device has the address 10.0.0.4");
    assert_int_equal(find(f, bob, ams, "10.0.0.3", &out), INVENTORY_NONE);
}

static void a_disabled_device_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct inventory_device r1, out;
    uint32_t ann = add_account(f, "ann@example.com");
    uint32_t fra = add_site(f, ann, "fra", 0), ams = add_site(f, ann, "ams", 0);
    assert_true(try_device(f, ann, fra, "r1", "10.0.0.1"));
    assert_true(try_device(f, ann, ams, "r2", "10.0.0.1"));
    assert_true(inventory_get_device(f->inv, "r1", &r1, &f->e));
    r1.enabled = false;
    assert_true(inventory_change_device(f->inv, &r1, &f->e));
    assert_int_equal(find(f, ann, fra, "10.0.0.1", &out), INVENTORY_NONE);
    assert_says(f->e, "device r1 is disabled");
    assert_found(f, ann, 0, "10.0.0.1", "r2"); /* which is alone now */
}

static void link_local_addresses_have_no_interface_here(void **state)
{
    struct fixture *f = *state;
    struct inventory_device out;
    struct addr a;
    uint32_t ann = add_account(f, "ann@example.com");
    assert_true(try_device(f, ann, 0, "r1", "fe80::1"));
    assert_true(addr_parse_ip(&a, "fe80::1%1"));
    assert_int_equal(inventory_find_device(f->inv, ann, 0, &a, &out, &f->e), INVENTORY_FOUND);
    assert_false(inventory_check_address("fe80::1%lo", &a, &f->e));
    assert_says(f->e, "interface");
    static const char *const bad[] = {"",        "router",     "10.0.0.1:179", "10.0.0.0/24",
                                      "0.0.0.0", "::",         "224.0.0.1",    "255.255.255.255",
                                      "ff02::1", "10.0.0.256", "1.2.3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(inventory_check_address(bad[i], &a, &f->e));
}

static void a_change_is_whole_or_not_at_all(void **state)
{
    struct fixture *f = *state;
    struct inventory_device d, out;
    uint32_t ann = add_account(f, "ann@example.com");
    uint32_t fra = add_site(f, ann, "fra", 0);
    assert_true(try_device(f, ann, 0, "r1", "10.0.0.1"));
    assert_true(try_device(f, ann, fra, "r2", "10.0.0.2"));
    sql(f, "UPDATE device SET md5_key = x'6b6579'");
    assert_true(inventory_get_device(f->inv, "r1", &d, &f->e));

    d.site_id = fra;
    d.asn = 65010;
    d.addresses[0] = ip("10.0.0.9");
    d.addresses[d.address_count++] = ip("10.0.0.2"); /* r2's */
    assert_false(inventory_change_device(f->inv, &d, &f->e));
    assert_says(f->e, "10.0.0.2 is device r2");
    assert_true(inventory_get_device(f->inv, "r1", &out, &f->e));
    assert_int_equal(out.asn, 0);
    assert_int_equal(out.site_id, 0);
    assert_found(f, ann, 0, "10.0.0.1", "r1");

    d.address_count = 1;
    assert_true(inventory_change_device(f->inv, &d, &f->e));
    assert_found(f, ann, fra, "10.0.0.9", "r1");
    assert_int_equal(find(f, ann, fra, "10.0.0.9", &out), INVENTORY_FOUND);
    assert_int_equal(out.asn, 65010);
    assert_int_equal(out.md5_key_len, 3); /* left alone */
    assert_int_equal(find(f, ann, 0, "10.0.0.1", &out), INVENTORY_NONE);

    assert_true(inventory_remove_device(f->inv, "r1", &f->e));
    assert_int_equal(find(f, ann, fra, "10.0.0.9", &out), INVENTORY_NONE);
    assert_false(inventory_change_device(f->inv, &d, &f->e));
    assert_says(f->e, "removed meanwhile");
    assert_false(inventory_remove_device(f->inv, "r1", &f->e));
    assert_says(f->e, "there is no device r1");
    assert_true(try_device(f, ann, fra, "r3", "10.0.0.9")); /* the address is free again */
}

struct names {
    char text[200];
    size_t stop_after;
};

static bool collect(void *arg, const struct inventory_device *d)
{
    struct names *n = arg;
    size_t len = strlen(n->text);
    snprintf(n->text + len, sizeof n->text - len, "%s ", d->name);
    return n->stop_after == 0 || --n->stop_after > 0;
}

static void lists_in_order_and_by_site(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com"), bob = add_account(f, "bob@example.com");
    uint32_t fra = add_site(f, ann, "fra", 0);
    assert_true(try_device(f, ann, fra, "z1", "10.0.0.1"));
    assert_true(try_device(f, ann, 0, "m2", "10.0.0.2"));
    assert_true(try_device(f, bob, 0, "a3", "10.0.0.2"));

    struct names all = {0}, anns = {0}, fras = {0}, nobodys = {0}, first = {.stop_after = 1};
    assert_true(inventory_list_devices(f->inv, 0, 0, collect, &all, &f->e));
    assert_string_equal(all.text, "z1 m2 a3 ");
    assert_true(inventory_list_devices(f->inv, ann, 0, collect, &anns, &f->e));
    assert_string_equal(anns.text, "z1 m2 ");
    assert_true(inventory_list_devices(f->inv, ann, fra, collect, &fras, &f->e));
    assert_string_equal(fras.text, "z1 ");
    assert_true(inventory_list_devices(f->inv, bob, fra, collect, &nobodys, &f->e));
    assert_string_equal(nobodys.text, "");
    assert_true(inventory_list_devices(f->inv, 0, 0, collect, &first, &f->e));
    assert_string_equal(first.text, "z1 ");
}

/* The addresses that inventory_next_md5_addresses() gives in batches of `max`. */
static const char *keyed(struct fixture *f, uint32_t company, uint32_t site, size_t max, char out[static 400])
{
    struct inventory_md5_place place = {0};
    struct addr batch[8];
    char text[ADDR_TEXT_MAX];
    size_t n, len = 0;
    out[0] = 0;
    do {
        assert_true(inventory_next_md5_addresses(f->inv, company, site, &place, batch, max, &n, &f->e));
        assert_true(n <= max);
        for (size_t i = 0; i < n; i++)
            len += (size_t)snprintf(out + len, 400 - len, "%s ", addr_ip_text(&batch[i], text));
    } while (n > 0);
    return out;
}

static void gives_the_addresses_that_have_a_key(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com"), bob = add_account(f, "bob@example.com");
    uint32_t fra = add_site(f, ann, "fra", 0), ams = add_site(f, ann, "ams", 0);
    char text[400];
    assert_string_equal(keyed(f, ann, 0, 8, text), "");
    struct inventory_device d = {.company_id = ann,
                                 .site_id = fra,
                                 .enabled = true,
                                 .name = "three",
                                 .md5_key = "key",
                                 .md5_key_len = 3,
                                 .address_count = 3};
    d.addresses[0] = ip("10.0.0.9");
    d.addresses[1] = ip("2001:db8::1");
    d.addresses[2] = ip("10.0.0.1");
    assert_true(inventory_add_device(f->inv, &d, &f->e));
    assert_true(try_device(f, ann, ams, "other_site", "10.0.0.9"));
    assert_true(try_device(f, ann, 0, "no_site", "10.0.0.4"));
    assert_true(try_device(f, bob, 0, "anothers", "10.0.0.5"));
    assert_true(try_device(f, ann, fra, "disabled", "10.0.0.6"));
    assert_true(try_device(f, ann, fra, "last", "10.0.0.7"));
    sql(f, "UPDATE device SET md5_key = x'6b6579'; UPDATE device SET enabled = 0 WHERE name = 'disabled'");
    assert_true(try_device(f, ann, fra, "without", "10.0.0.8"));
    for (size_t max = 1; max <= 8; max++) {
        assert_string_equal(keyed(f, ann, fra, max, text), "10.0.0.9 2001:db8::1 10.0.0.1 10.0.0.7 ");
        assert_string_equal(keyed(f, ann, ams, max, text), "10.0.0.9 ");
        assert_string_equal(keyed(f, ann, 0, max, text),
                            "10.0.0.9 2001:db8::1 10.0.0.1 10.0.0.9 10.0.0.4 10.0.0.7 ");
        assert_string_equal(keyed(f, bob, 0, max, text), "10.0.0.5 ");
    }
    d.md5_key_len = 0;
    assert_true(inventory_change_device(f->inv, &d, &f->e));
    assert_string_equal(keyed(f, ann, fra, 2, text), "10.0.0.7 ");
}

/* --- the server beside the commands --- */

static void the_server_sees_what_a_command_changed(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com");
    struct inventory *server = inventory_open(f->path, true, &f->e);
    assert_non_null(server);
    struct inventory_device out;
    struct addr a = ip("10.0.0.1");

    assert_false(inventory_changed(server));
    assert_int_equal(inventory_find_device(server, ann, 0, &a, &out, &f->e), INVENTORY_NONE);
    assert_false(inventory_changed(server));
    assert_true(try_device(f, ann, 0, "r1", "10.0.0.1"));
    assert_true(inventory_changed(server));
    assert_false(inventory_changed(server));
    assert_int_equal(inventory_find_device(server, ann, 0, &a, &out, &f->e), INVENTORY_FOUND);
    assert_true(inventory_remove_device(f->inv, "r1", &f->e));
    assert_true(inventory_changed(server));
    assert_int_equal(inventory_find_device(server, ann, 0, &a, &out, &f->e), INVENTORY_NONE);
    assert_false(inventory_changed(f->inv)); /* its own changes are no news */

    uint32_t id;
    char token[INVENTORY_TOKEN_LEN + 1];
    assert_false(inventory_add_account(server, "eve@example.com", token, &id, &f->e));
    assert_says(f->e, "readonly");
    inventory_close(server);
}

static void a_held_inventory_stands_still(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com");
    struct inventory *server = inventory_open(f->path, true, &f->e);
    assert_non_null(server);
    struct inventory_device out;
    struct addr a = ip("10.0.0.1");
    inventory_let_go(server); /* nothing is held: nothing happens */
    for (int i = 0; i < 2; i++) {
        inventory_hold(server);
        inventory_hold(server);
        assert_int_equal(inventory_find_device(server, ann, 0, &a, &out, &f->e), INVENTORY_NONE);
        assert_true(try_device(f, ann, 0, "r1", "10.0.0.1")); /* and nobody has to wait */
        assert_int_equal(inventory_find_device(server, ann, 0, &a, &out, &f->e), INVENTORY_NONE);
        inventory_let_go(server);
        assert_true(inventory_changed(server));
        assert_int_equal(inventory_find_device(server, ann, 0, &a, &out, &f->e), INVENTORY_FOUND);
        assert_true(inventory_remove_device(f->inv, "r1", &f->e));
        assert_true(inventory_changed(server));
    }
    inventory_hold(server);
    inventory_close(server);
}

/* An account is read once while the inventory is held, and not believed a moment longer. */
static void a_held_account_stands_still(void **state)
{
    struct fixture *f = *state;
    char ann[INVENTORY_TOKEN_LEN + 1], bob[INVENTORY_TOKEN_LEN + 1];
    uint32_t ann_id, bob_id, id;
    assert_true(inventory_add_account(f->inv, "ann@example.com", ann, &ann_id, &f->e));
    assert_true(inventory_add_account(f->inv, "bob@example.com", bob, &bob_id, &f->e));
    struct inventory *server = inventory_open(f->path, true, &f->e);
    assert_non_null(server);
    inventory_hold(server);
    assert_int_equal(inventory_authenticate(server, "ann@example.com", ann, &id, &f->e), INVENTORY_AUTH_OK);
    assert_int_equal(inventory_authenticate(server, "ann@example.com", bob, &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);
    assert_int_equal(inventory_authenticate(server, "bob@example.com", ann, &id, &f->e),
                     INVENTORY_AUTH_BAD_TOKEN);
    assert_int_equal(inventory_authenticate(server, "bob@example.com", bob, &id, &f->e), INVENTORY_AUTH_OK);
    assert_int_equal(id, bob_id);
    assert_int_equal(inventory_authenticate(server, "eve@example.com", bob, &id, &f->e),
                     INVENTORY_AUTH_UNKNOWN_EMAIL);
    assert_true(inventory_enable_account(f->inv, "bob@example.com", false, &f->e));
    assert_int_equal(inventory_authenticate(server, "bob@example.com", bob, &id, &f->e), INVENTORY_AUTH_OK);
    inventory_let_go(server);
    assert_int_equal(inventory_authenticate(server, "bob@example.com", bob, &id, &f->e),
                     INVENTORY_AUTH_DISABLED);
    inventory_hold(server);
    assert_int_equal(inventory_authenticate(server, "bob@example.com", bob, &id, &f->e),
                     INVENTORY_AUTH_DISABLED);
    inventory_let_go(server);
    inventory_close(server);
}

static void questions_leave_no_transaction_open(void **state)
{
    struct fixture *f = *state;
    struct inventory_device out;
    uint32_t id, ann = add_account(f, "ann@example.com");
    uint32_t fra = add_site(f, ann, "fra", 0);
    assert_true(try_device(f, ann, 0, "r1", "10.0.0.1"));
    assert_true(try_device(f, ann, fra, "r2", "10.0.0.1"));
    struct inventory *server = inventory_open(f->path, true, &f->e);
    assert_non_null(server);
    struct addr a = ip("10.0.0.1"), unknown = ip("10.0.0.2");
    struct names first = {.stop_after = 1};
    inventory_authenticate(server, "ann@example.com", "x", &id, &f->e);
    assert_int_equal(inventory_find_device(server, ann, 0, &a, &out, &f->e), INVENTORY_AMBIGUOUS);
    assert_int_equal(inventory_find_device(server, ann, 0, &unknown, &out, &f->e), INVENTORY_NONE);
    assert_true(inventory_list_devices(server, 0, 0, collect, &first, &f->e));
    assert_false(inventory_changed(server));

    /* A writer can empty the log only when no reader stands in it. */
    sqlite3 *db;
    int frames = -1, done = -1;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, &frames, &done),
                     SQLITE_OK);
    sqlite3_close(db);
    inventory_close(server);
}

static void damaged_rows_are_told_and_passed_over(void **state)
{
    struct fixture *f = *state;
    static const char *const damage[] = {
        "UPDATE device SET md5_key = zeroblob(81) WHERE name = 'r2'",
        "UPDATE device SET md5_key = zeroblob(1000000) WHERE name = 'r2'",
        "UPDATE device SET asn = -1 WHERE name = 'r2'",
        "UPDATE device SET asn = 'many' WHERE name = 'r2'",
        "UPDATE device SET name = 'r2' || char(27) || '[2J' WHERE name = 'r2'",
        "UPDATE device SET name = hex(zeroblob(40)) WHERE name = 'r2'",
        "UPDATE device SET name = CAST(x'72320033' AS TEXT) WHERE name = 'r2'",
        "UPDATE device SET name = x'ff' WHERE name = 'r2'",
        "UPDATE device SET id = 4294967296 WHERE name = 'r2'; UPDATE device_address SET device_id = "
        "4294967296 "
        "WHERE device_id = 2",
        "UPDATE device SET id = -5 WHERE name = 'r2'; UPDATE device_address SET device_id = -5 WHERE "
        "device_id = 2",
        "UPDATE device SET id = 0 WHERE name = 'r2'; UPDATE device_address SET device_id = 0 WHERE device_id "
        "= 2",
        "UPDATE device_address SET address = 'nowhere' WHERE device_id = 2",
        "UPDATE device_address SET address = hex(zeroblob(5000)) WHERE device_id = 2",
        "DELETE FROM device_address WHERE device_id = 2",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)"
        " INSERT INTO device_address SELECT 2, i, 1, 0, '10.7.7.' || i FROM n",
    };
    uint32_t ann = add_account(f, "ann@example.com");
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct inventory_device out;
        assert_true(try_device(f, ann, 0, "r1", "10.0.0.1"));
        assert_true(try_device(f, ann, 0, "r2", "10.0.0.2"));
        assert_true(try_device(f, ann, 0, "r3", "10.0.0.3"));
        sql(f, damage[i]);

        struct names n = {0};
        if (inventory_list_devices(f->inv, 0, 0, collect, &n, &f->e))
            fail_msg("not noticed: %s", damage[i]);
        assert_says(f->e, "damaged");
        if (!strstr(n.text, "r1 ") || !strstr(n.text, "r3 ") || strstr(n.text, "r2"))
            fail_msg("%s: %s", damage[i], n.text);
        assert_int_not_equal(find(f, ann, 0, "10.0.0.2", &out), INVENTORY_FOUND);
        assert_found(f, ann, 0, "10.0.0.3", "r3");
        sql(f, "DELETE FROM device_address; DELETE FROM device; DELETE FROM sqlite_sequence WHERE name = "
               "'device'");
    }
}

static void a_damaged_account_lets_nobody_in(void **state)
{
    struct fixture *f = *state;
    char token[INVENTORY_TOKEN_LEN + 1];
    uint32_t id;
    assert_true(inventory_add_account(f->inv, "ann@example.com", token, &id, &f->e));
    static const char *const damage[] = {"UPDATE account SET salt = zeroblob(16)",
                                         "UPDATE account SET token_hash = x''",
                                         "UPDATE account SET token_hash = zeroblob(100000)",
                                         "UPDATE account SET token_hash = zeroblob(32), salt = x'01'",
                                         "UPDATE account SET salt = zeroblob(16), token_hash = zeroblob(32)",
                                         "UPDATE account SET id = 4294967296"};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        sql(f, damage[i]);
        assert_int_not_equal(inventory_authenticate(f->inv, "ann@example.com", token, &id, &f->e),
                             INVENTORY_AUTH_OK);
        assert_int_not_equal(inventory_authenticate(f->inv, "ann@example.com", "", &id, &f->e),
                             INVENTORY_AUTH_OK);
    }
}

static void the_schema_holds_what_the_code_promises(void **state)
{
    struct fixture *f = *state;
    uint32_t ann = add_account(f, "ann@example.com"), bob = add_account(f, "bob@example.com");
    add_site(f, bob, "bobs", 1);
    assert_true(try_device(f, ann, 0, "r1", "10.0.0.1"));
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL), SQLITE_OK);
    static const char *const refused[] = {
        "INSERT INTO account VALUES (9, 'ANN@example.com', zeroblob(16), zeroblob(32), 1, 0)",
        "INSERT INTO device (account_id, name) VALUES (1, 'R1')",
        "INSERT INTO device (account_id, name) VALUES (1, 'a b')",
        "INSERT INTO device (account_id, name) VALUES (77, 'r9')",
        "INSERT INTO device (account_id, name, asn) VALUES (1, 'r9', 4294967296)",
        "UPDATE device SET site_id = 1",
        "UPDATE device SET md5_key = zeroblob(81)",
        "INSERT INTO device_address VALUES (1, 5, 1, 0, '10.0.0.1')",
        "DELETE FROM account WHERE id = 1",
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if ((sqlite3_exec(db, refused[i], NULL, NULL, NULL) & 0xff) != SQLITE_CONSTRAINT)
            fail_msg("not refused: %s", refused[i]);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(makes_a_private_file_and_keeps_what_is_in_it),
        TEST(refuses_places_that_hold_no_inventory),
        TEST(refuses_other_programs_and_newer_versions),
        TEST(takes_a_name_that_means_something_to_sqlite_as_a_file),
        TEST(survives_many_that_make_it_at_once),
        TEST(waits_for_another_that_makes_it),
        TEST(root_gives_the_file_to_whom_the_directory_belongs),
        TEST(authenticates),
        TEST(a_new_token_voids_the_old_one),
        TEST(a_disabled_account_says_so_only_to_the_right_token),
        TEST(the_token_stands_nowhere_in_the_file),
        TEST(checks_emails),
        TEST(an_account_is_there_once_and_goes_when_it_is_empty),
        TEST(sites_have_chosen_or_automatic_ids),
        TEST(a_device_comes_back_as_it_was_added),
        TEST(an_address_is_one_devices_within_its_site),
        TEST(finds_by_site),
        TEST(a_disabled_device_is_not_found),
        TEST(link_local_addresses_have_no_interface_here),
        TEST(a_change_is_whole_or_not_at_all),
        TEST(lists_in_order_and_by_site),
        TEST(gives_the_addresses_that_have_a_key),
        TEST(the_server_sees_what_a_command_changed),
        TEST(a_held_inventory_stands_still),
        TEST(a_held_account_stands_still),
        TEST(questions_leave_no_transaction_open),
        TEST(damaged_rows_are_told_and_passed_over),
        TEST(a_damaged_account_lets_nobody_in),
        TEST(the_schema_holds_what_the_code_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
