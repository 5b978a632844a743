#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/keyring.h"

/*
 * A kernel of our own: sockets 1 and 2 are IPv4, 3 is IPv6. It holds each socket's keys and fails when told
 * to.
 */
#define SOCKETS 4
#define ROOM    8

static struct {
    struct {
        struct addr peer;
        char key[CONTROL_MD5_MAX + 1];
    } keys[ROOM];
    unsigned n, sets;
    bool waiting;
} sockets[SOCKETS];
static int fail_on, fail_with; /* socket and errno */
static int64_t now;

static unsigned place(int fd, const struct addr *peer)
{
    unsigned i = 0;
    while (i < sockets[fd].n && !addr_same_ip(&sockets[fd].keys[i].peer, peer))
        i++;
    return i;
}

static bool set(int fd, const struct addr *peer, const uint8_t *key, size_t len, struct err *e)
{
    if (fd == fail_on) {
        errno = fail_with;
        return err_set(e, "no");
    }
    unsigned i = place(fd, peer);
    assert_true(i < ROOM);
    if (i == sockets[fd].n)
        sockets[fd].n++;
    sockets[fd].sets++;
    sockets[fd].keys[i].peer = *peer;
    memset(sockets[fd].keys[i].key, 0, sizeof sockets[fd].keys[i].key);
    memcpy(sockets[fd].keys[i].key, key, len);
    return true;
}

static bool take_off(int fd, const struct addr *peer, struct err *e)
{
    (void)e;
    unsigned i = place(fd, peer);
    if (i < sockets[fd].n)
        sockets[fd].keys[i] = sockets[fd].keys[--sockets[fd].n];
    return true;
}

static bool waiting(int fd)
{
    return sockets[fd].waiting;
}

static int64_t now_ns(void)
{
    return now;
}

static const struct keyring_kernel kernel = {
    .set = set, .remove = take_off, .waiting = waiting, .now_ns = now_ns};

static struct keyring k;
static struct err e;

static int begin(void **state)
{
    (void)state;
    memset(sockets, 0, sizeof sockets);
    fail_on = -1;
    now = 1000;
    keyring_init(&k, 42, &kernel);
    keyring_add_door(&k, 1, 4);
    keyring_add_door(&k, 2, 4);
    keyring_add_door(&k, 3, 6);
    return 0;
}

static int end(void **state)
{
    (void)state;
    keyring_free(&k);
    return 0;
}

static struct addr device(const char *text)
{
    struct addr a;
    assert_true(addr_parse_ip(&a, text));
    return a;
}

static enum keyring_result put(const char *text, const char *key)
{
    struct addr a = device(text);
    return keyring_put(&k, &a, (const uint8_t *)key, strlen(key), "1:r:2-ipv4", &e);
}

static struct keyring_entry *find(const char *text)
{
    struct addr a = device(text);
    return keyring_find(&k, &a);
}

/* The key on a socket; "" where there is none. */
static const char *key_on(int fd, const char *text)
{
    struct addr a = device(text);
    unsigned i = place(fd, &a);
    return i < sockets[fd].n ? sockets[fd].keys[i].key : "";
}

static void test_install(void **state)
{
    (void)state;
    assert_int_equal(put("192.0.2.1", "one"), KEYRING_INSTALLED);
    assert_string_equal(key_on(1, "192.0.2.1"), "one");
    assert_string_equal(key_on(2, "192.0.2.1"), "one");
    assert_int_equal(sockets[3].n, 0);
    assert_int_equal(put("2001:db8::1", "six"), KEYRING_INSTALLED);
    assert_string_equal(key_on(3, "2001:db8::1"), "six");
    assert_int_equal(sockets[1].n, 1);
    assert_null(find("192.0.2.2"));
    assert_string_equal(find("192.0.2.1")->label, "1:r:2-ipv4");
}

static void test_same_key_is_not_set_again(void **state)
{
    (void)state;
    put("192.0.2.1", "one");
    uint64_t id = find("192.0.2.1")->id;
    assert_int_equal(put("192.0.2.1", "one"), KEYRING_SAME);
    assert_int_equal(sockets[1].sets, 1);
    assert_int_equal(find("192.0.2.1")->id, id);
}

static void test_change(void **state)
{
    (void)state;
    put("192.0.2.1", "longer");
    uint64_t id = find("192.0.2.1")->id;
    find("192.0.2.1")->syns = 5;
    assert_int_equal(put("192.0.2.1", "new"), KEYRING_CHANGED);
    assert_string_equal(key_on(1, "192.0.2.1"), "new");
    assert_string_equal(key_on(2, "192.0.2.1"), "new");
    const struct keyring_entry *entry = find("192.0.2.1");
    assert_int_not_equal(entry->id, id);
    assert_int_equal(entry->syns, 0);
    assert_int_equal(entry->len, 3);
    assert_memory_equal(entry->key, "new\0\0\0\0", 7); /* nothing is left of the old one */
}

static void test_drop(void **state)
{
    (void)state;
    put("192.0.2.1", "one");
    put("192.0.2.2", "two");
    uint64_t id = find("192.0.2.1")->id;
    assert_true(keyring_drop(&k, find("192.0.2.1"), &e));
    assert_null(find("192.0.2.1"));
    assert_string_equal(key_on(1, "192.0.2.1"), "");
    assert_string_equal(key_on(2, "192.0.2.1"), "");
    assert_string_equal(key_on(2, "192.0.2.2"), "two");
    put("192.0.2.1", "one");
    assert_true(find("192.0.2.1")->id > id);
}

/* A key is on all listeners or on none. */
static void test_failure(void **state)
{
    (void)state;
    fail_on = 2;
    fail_with = ENOMEM;
    assert_int_equal(put("192.0.2.1", "one"), KEYRING_NO_MEMORY);
    assert_string_equal(e.text, "no");
    assert_null(find("192.0.2.1"));
    assert_int_equal(sockets[1].n, 0);
    fail_with = EINVAL;
    assert_int_equal(put("192.0.2.1", "one"), KEYRING_FAILED);
    fail_on = -1;
    assert_int_equal(put("192.0.2.1", "one"), KEYRING_INSTALLED);
    fail_on = 2;
    assert_int_equal(put("192.0.2.1", "two"), KEYRING_FAILED);
    assert_null(find("192.0.2.1"));
    assert_int_equal(sockets[1].n + sockets[2].n, 0);
}

static void test_length(void **state)
{
    char key[CONTROL_MD5_MAX + 2];
    (void)state;
    memset(key, 'x', sizeof key);
    key[sizeof key - 1] = 0;
    assert_int_equal(put("192.0.2.1", key), KEYRING_FAILED);
    key[CONTROL_MD5_MAX] = 0;
    assert_int_equal(put("192.0.2.1", key), KEYRING_INSTALLED);
    assert_int_equal(put("192.0.2.2", ""), KEYRING_FAILED);
    assert_null(find("192.0.2.2"));
}

static void test_bounded(void **state)
{
    (void)state;
    k.n_doors = 0; /* our kernel has little room */
    for (uint32_t i = 0; i < KEYRING_MAX; i++) {
        char text[32];
        snprintf(text, sizeof text, "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        assert_int_equal(put(text, "key"), KEYRING_INSTALLED);
    }
    assert_int_equal(put("192.0.2.1", "key"), KEYRING_NO_MEMORY);
    assert_int_equal(put("10.0.0.0", "other"), KEYRING_CHANGED);
}

/* What waited to be accepted while the key was installed may be older than the key. */
static void test_signed(void **state)
{
    (void)state;
    put("192.0.2.1", "one");
    assert_true(keyring_signed(find("192.0.2.1"), 0));
    sockets[2].waiting = true;
    put("192.0.2.2", "two");
    assert_false(keyring_signed(find("192.0.2.2"), 0));
    assert_false(keyring_signed(find("192.0.2.2"), 999));
    assert_false(keyring_signed(find("192.0.2.2"), 1000));
    assert_true(keyring_signed(find("192.0.2.2"), 1001));
    assert_true(keyring_signed(find("192.0.2.1"), 0));
}

static void test_closed_doors(void **state)
{
    (void)state;
    put("192.0.2.1", "one");
    keyring_close_doors(&k);
    assert_true(keyring_drop(&k, find("192.0.2.1"), &e));
    assert_string_equal(key_on(1, "192.0.2.1"), "one");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_install, begin, end),
        cmocka_unit_test_setup_teardown(test_same_key_is_not_set_again, begin, end),
        cmocka_unit_test_setup_teardown(test_change, begin, end),
        cmocka_unit_test_setup_teardown(test_drop, begin, end),
        cmocka_unit_test_setup_teardown(test_failure, begin, end),
        cmocka_unit_test_setup_teardown(test_length, begin, end),
        cmocka_unit_test_setup_teardown(test_bounded, begin, end),
        cmocka_unit_test_setup_teardown(test_signed, begin, end),
        cmocka_unit_test_setup_teardown(test_closed_doors, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
