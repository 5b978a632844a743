#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "net/gcm.h"
#include "rng.h"

#define OPENSSLS "provider=default"
#define MOST     (16 << 10)

static const char *const ciphers[] = {"AES-128-GCM", "AES-256-GCM"};
static uint8_t key[32], iv[12], aad[5];

/* Where the program does without the library there is nothing to test. */
static int begin(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 7 + 1);
    memcpy(iv, key + 3, sizeof iv);
    memcpy(aad, key + 9, sizeof aad);
    return 0;
}

static const char *ours(void)
{
    if (!gcm_properties()) {
        print_message("AES-GCM is OpenSSL's own here\n");
        skip();
    }
    return gcm_properties();
}

static EVP_CIPHER_CTX *cipher_new(const char *name, const char *properties)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, properties);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_non_null(cipher);
    assert_int_equal(EVP_CipherInit_ex2(ctx, cipher, key, NULL, 1, NULL), 1);
    EVP_CIPHER_free(cipher);
    return ctx;
}

/* One message, `first` bytes of it by themselves. False: refused. `tag` is written, or read. */
static bool crypt(EVP_CIPHER_CTX *ctx, bool seal, uint8_t *out, const uint8_t *in, int n, int first,
                  uint8_t tag[16])
{
    int len, len2, end;
    assert_int_equal(EVP_CipherInit_ex2(ctx, NULL, NULL, iv, seal, NULL), 1);
    if (!seal)
        assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, tag), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, NULL, &len, aad, sizeof aad), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, out, &len, in, first), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, out + len, &len2, in + len, n - first), 1);
    assert_int_equal(len + len2, n);
    if (EVP_CipherFinal_ex(ctx, out + n, &end) != 1)
        return false;
    assert_int_equal(end, 0);
    if (seal)
        assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, tag), 1);
    return true;
}

static void what_one_seals_the_other_opens(void **state)
{
    static uint8_t text[MOST], a[MOST], b[MOST], back[MOST];
    uint8_t tag_a[16], tag_b[16];
    struct rng rng = {4711};
    (void)state;
    const char *properties = ours();
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)rng_below(&rng, 256);
    for (size_t c = 0; c < 2; c++) {
        EVP_CIPHER_CTX *us = cipher_new(ciphers[c], properties), *them = cipher_new(ciphers[c], OPENSSLS);
        assert_string_not_equal(
            OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(EVP_CIPHER_CTX_get0_cipher(us))), "default");
        for (int n = 0; n <= MOST; n += n < 600 ? 1 : 977) {
            int first = (int)rng_below(&rng, (uint32_t)n + 1);
            iv[n % 12]++;
            assert_true(crypt(us, true, a, text, n, first, tag_a));
            assert_true(crypt(them, true, b, text, n, n, tag_b));
            assert_memory_equal(a, b, (size_t)n);
            assert_memory_equal(tag_a, tag_b, 16);
            assert_true(crypt(us, false, back, b, n, first, tag_b));
            assert_memory_equal(back, text, (size_t)n);
            assert_true(crypt(us, false, a, a, n, n, tag_a)); /* in place */
            assert_memory_equal(a, text, (size_t)n);
        }
        EVP_CIPHER_CTX_free(us);
        EVP_CIPHER_CTX_free(them);
    }
}

static void what_was_touched_is_refused(void **state)
{
    uint8_t text[100] = {0}, sealed[100], back[100], tag[16];
    (void)state;
    EVP_CIPHER_CTX *ctx = cipher_new("AES-256-GCM", ours());
    assert_true(crypt(ctx, true, sealed, text, sizeof text, 0, tag));
    assert_true(crypt(ctx, false, back, sealed, sizeof sealed, 0, tag));
    uint8_t *touched[] = {&sealed[0], &sealed[99], &tag[0], &tag[15], &aad[4], &iv[11]};
    for (size_t i = 0; i < sizeof touched / sizeof *touched; i++) {
        *touched[i] ^= 1;
        assert_false(crypt(ctx, false, back, sealed, sizeof sealed, 0, tag));
        *touched[i] ^= 1;
    }
    assert_true(crypt(ctx, false, back, sealed, sizeof sealed, 0, tag));
    EVP_CIPHER_CTX_free(ctx);
}

static void an_iv_serves_once(void **state)
{
    uint8_t text[32] = {0}, out[32], tag[16];
    int len;
    (void)state;
    EVP_CIPHER_CTX *ctx = cipher_new("AES-128-GCM", ours());
    assert_int_equal(EVP_CipherUpdate(ctx, out, &len, text, 32), 0); /* there was none */
    assert_true(crypt(ctx, true, out, text, 32, 0, tag));
    assert_int_equal(EVP_CipherUpdate(ctx, out, &len, text, 32), 0);
    assert_int_equal(EVP_CipherFinal_ex(ctx, out, &len), 0);
    assert_int_equal(EVP_CipherInit_ex2(ctx, NULL, NULL, iv, 1, NULL), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, NULL, &len, aad, sizeof aad), 1);
    assert_int_equal(EVP_CipherUpdate(ctx, NULL, &len, aad, sizeof aad),
                     0); /* all of it at once, and first */
    /* No other length, and who seals has no tag to be told. */
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, 16, NULL), 0);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, tag), 0);
    EVP_CIPHER_CTX_free(ctx);
}

/* --- TLS --- */

static void certify(SSL_CTX *server)
{
    EVP_PKEY *pkey = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, pkey);
    assert_true(X509_sign(cert, pkey, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(server, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server, pkey), 1);
    X509_free(cert);
    EVP_PKEY_free(pkey);
}

/* Two ends of one connection in memory. */
struct pair {
    SSL *client, *server;
    BIO *to_client, *to_server;
};

static struct pair pair_new(const char *client_properties, const char *server_properties, int version,
                            const char *suite)
{
    SSL_CTX *client = SSL_CTX_new_ex(NULL, client_properties, TLS_client_method());
    SSL_CTX *server = SSL_CTX_new_ex(NULL, server_properties, TLS_server_method());
    certify(server);
    assert_int_equal(SSL_CTX_set_max_proto_version(client, version), 1);
    assert_int_equal(
        (version == TLS1_2_VERSION ? SSL_CTX_set_cipher_list : SSL_CTX_set_ciphersuites)(client, suite), 1);
    struct pair p = {SSL_new(client), SSL_new(server), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem())};
    BIO_up_ref(p.to_client);
    BIO_up_ref(p.to_server);
    SSL_set_bio(p.client, p.to_client, p.to_server);
    SSL_set_bio(p.server, p.to_server, p.to_client);
    SSL_set_connect_state(p.client);
    SSL_set_accept_state(p.server);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    for (int i = 0; i < 10 && !(SSL_is_init_finished(p.client) && SSL_is_init_finished(p.server)); i++) {
        SSL_do_handshake(p.client);
        SSL_do_handshake(p.server);
    }
    assert_true(SSL_is_init_finished(p.client) && SSL_is_init_finished(p.server));
    assert_int_equal(SSL_version(p.client), version);
    assert_string_equal(SSL_get_cipher(p.client), suite);
    return p;
}

static void pair_free(struct pair *p)
{
    SSL_free(p->client);
    SSL_free(p->server);
}

static void carry(SSL *from, SSL *to)
{
    static uint8_t sent[3 * MOST], got[3 * MOST];
    for (int n = 1; n < (int)sizeof sent; n = n * 3 + 1) {
        memset(sent, n, (size_t)n);
        assert_int_equal(SSL_write(from, sent, n), n);
        for (int at = 0, read; at < n; at += read) {
            read = SSL_read(to, got + at, n - at);
            assert_true(read > 0);
        }
        assert_memory_equal(sent, got, (size_t)n);
    }
}

static const struct {
    int version;
    const char *suite;
} suites[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256"},        {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384"},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256"}, {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"}, /* which is not ours */
};

static void tls_with_openssl_at_the_other_end(void **state)
{
    (void)state;
    const char *properties = ours();
    for (size_t i = 0; i < sizeof suites / sizeof *suites; i++)
        for (int we_are_client = 0; we_are_client < 2; we_are_client++) {
            struct pair p =
                pair_new(we_are_client ? properties : OPENSSLS, we_are_client ? OPENSSLS : properties,
                         suites[i].version, suites[i].suite);
            carry(p.client, p.server);
            carry(p.server, p.client);
            pair_free(&p);
        }
}

static void a_touched_record_ends_the_connection(void **state)
{
    (void)state;
    const char *properties = ours();
    for (size_t i = 0; i < 4; i++) {
        struct pair p = pair_new(OPENSSLS, properties, suites[i].version, suites[i].suite);
        uint8_t text[50] = {0}, *record;
        carry(p.client, p.server);
        assert_int_equal(SSL_write(p.client, text, sizeof text), sizeof text);
        long n = BIO_get_mem_data(p.to_server, &record);
        assert_true(n > 60);
        record[n - 20] ^= 1;
        assert_int_equal(SSL_get_error(p.server, SSL_read(p.server, text, sizeof text)), SSL_ERROR_SSL);
        pair_free(&p);
    }
}

/* The IV's second part is at the front of each record. Two records under the same one give the key away. */
static void each_record_of_tls_1_2_has_an_iv_of_its_own(void **state)
{
    enum { RECORDS = 300, HEADER = 5, EXPLICIT = 8, LEN = HEADER + EXPLICIT + 1 + 16 };
    (void)state;
    struct pair p = pair_new(ours(), OPENSSLS, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256");
    for (int i = 0; i < RECORDS; i++)
        assert_int_equal(SSL_write(p.client, "x", 1), 1);
    uint8_t *records;
    assert_int_equal(BIO_get_mem_data(p.to_server, &records), RECORDS * LEN);
    for (int a = 0; a < RECORDS; a++)
        for (int b = a + 1; b < RECORDS; b++)
            assert_memory_not_equal(records + a * LEN + HEADER, records + b * LEN + HEADER, EXPLICIT);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_one_seals_the_other_opens, begin),
        cmocka_unit_test_setup(what_was_touched_is_refused, begin),
        cmocka_unit_test_setup(an_iv_serves_once, begin),
        cmocka_unit_test_setup(tls_with_openssl_at_the_other_end, begin),
        cmocka_unit_test_setup(a_touched_record_ends_the_connection, begin),
        cmocka_unit_test_setup(each_record_of_tls_1_2_has_an_iv_of_its_own, begin),
    };
    return cmocka_run_group_tests_name("gcm", tests, NULL, NULL);
}
