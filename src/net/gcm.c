#include "net/gcm.h"

#include <stddef.h>

#ifndef KBGP_HAVE_IPSEC_MB

const char *gcm_properties(void)
{
    return NULL;
}

#else

#include <intel-ipsec-mb.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define PROVIDER   "kbgp-gcm"
#define PROPERTIES "provider=" PROVIDER

#define IV_LEN       12
#define FIXED_IV_LEN 4 /* the rest of the IV is at the front of each record of TLS 1.2 (RFC 5288 section 3) */
#define TAG_LEN      16
#define TLS12_AAD    EVP_AEAD_TLS1_AAD_LEN

/* One key length: the library's functions for it. */
struct gcm_kind {
    size_t key_len;
    aes_gcm_pre_t expand;
    aes_gcm_init_t begin;
    aes_gcm_enc_dec_update_t seal, open;
    aes_gcm_enc_dec_finalize_t sealed, opened;
};

static struct gcm_kind aes128 = {.key_len = 16}, aes256 = {.key_len = 32};

/* OpenSSL's EVP_CIPHER_CTX: one direction of one connection, so its size counts. */
struct gcm {
    alignas(64) struct gcm_key_data key;
    struct gcm_context_data state;
    const struct gcm_kind *kind;
    uint8_t iv[IV_LEN];
    uint8_t tag[TAG_LEN];
    uint8_t aad[TLS12_AAD];
    bool sealing;
    bool has_key, has_iv, has_fixed_iv, has_tag;
    bool begun;
    bool tls12; /* the next update is a whole record of TLS 1.2, with `aad` */
};

/* --- a cipher as OpenSSL calls it: provider-cipher(7) --- */

static void *gcm_new(const struct gcm_kind *kind)
{
    struct gcm *g = aligned_alloc(alignof(struct gcm), sizeof *g);
    if (!g)
        return NULL;
    memset(g, 0, sizeof *g);
    g->kind = kind;
    return g;
}

static void *new_aes128(void *provider)
{
    (void)provider;
    return gcm_new(&aes128);
}

static void *new_aes256(void *provider)
{
    (void)provider;
    return gcm_new(&aes256);
}

static void gcm_free(void *ctx)
{
    if (!ctx)
        return;
    OPENSSL_cleanse(ctx, sizeof(struct gcm));
    free(ctx);
}

/* An IV serves once: two messages under the same one give the key away. */
static bool begin(struct gcm *g, const uint8_t *aad, size_t len)
{
    if (!g->has_key || !g->has_iv || g->begun)
        return false;
    g->kind->begin(&g->key, &g->state, g->iv, aad, len);
    g->begun = true;
    return true;
}

static void crypt(struct gcm *g, uint8_t *out, const uint8_t *in, size_t n)
{
    (g->sealing ? g->kind->seal : g->kind->open)(&g->key, &g->state, out, in, n);
}

/* Leaves the tag in g->tag, or compares it with the one that is there. */
static bool end(struct gcm *g)
{
    uint8_t tag[TAG_LEN];
    g->has_iv = g->begun = false;
    if (g->sealing) {
        g->kind->sealed(&g->key, &g->state, g->tag, TAG_LEN);
        g->has_tag = true;
        return true;
    }
    g->kind->opened(&g->key, &g->state, tag, TAG_LEN);
    bool right = g->has_tag && CRYPTO_memcmp(tag, g->tag, TAG_LEN) == 0;
    g->has_tag = false;
    return right;
}

static int set_params(void *ctx, const OSSL_PARAM params[]);

static int init(struct gcm *g, bool sealing, const uint8_t *key, size_t key_len, const uint8_t *iv,
                size_t iv_len, const OSSL_PARAM params[])
{
    g->sealing = sealing;
    g->begun = g->tls12 = false;
    if (iv) {
        if (iv_len != IV_LEN)
            return 0;
        memcpy(g->iv, iv, IV_LEN);
        g->has_iv = true;
    }
    if (key) {
        if (key_len != g->kind->key_len)
            return 0;
        g->kind->expand(key, &g->key);
        g->has_key = true;
    }
    return set_params(g, params);
}

static int init_sealing(void *ctx, const unsigned char *key, size_t key_len, const unsigned char *iv,
                        size_t iv_len, const OSSL_PARAM params[])
{
    return init(ctx, true, key, key_len, iv, iv_len, params);
}

static int init_opening(void *ctx, const unsigned char *key, size_t key_len, const unsigned char *iv,
                        size_t iv_len, const OSSL_PARAM params[])
{
    return init(ctx, false, key, key_len, iv, iv_len, params);
}

/* A record of TLS 1.2, in place: the IV's second part, the payload, the tag. */
static bool tls12_record(struct gcm *g, uint8_t *record, size_t len, size_t *payload)
{
    enum { EXPLICIT = IV_LEN - FIXED_IV_LEN };
    g->tls12 = false;
    if (!g->has_fixed_iv || len < EXPLICIT + TAG_LEN)
        return false;
    uint8_t *text = record + EXPLICIT;
    size_t n = len - EXPLICIT - TAG_LEN;
    memcpy(g->sealing ? record : g->iv + FIXED_IV_LEN, g->sealing ? g->iv + FIXED_IV_LEN : record, EXPLICIT);
    g->has_iv = true;
    g->aad[TLS12_AAD - 2] = (uint8_t)(n >> 8);
    g->aad[TLS12_AAD - 1] = (uint8_t)n;
    if (!begin(g, g->aad, TLS12_AAD))
        return false;
    crypt(g, text, text, n);
    if (!g->sealing) {
        memcpy(g->tag, text + n, TAG_LEN);
        g->has_tag = true;
    }
    if (!end(g)) {
        OPENSSL_cleanse(text, n);
        return false;
    }
    *payload = g->sealing ? len : n;
    if (g->sealing) {
        memcpy(text + n, g->tag, TAG_LEN);
        for (size_t i = IV_LEN; i-- > FIXED_IV_LEN && ++g->iv[i] == 0;)
            ;
    }
    return true;
}

static int update(void *ctx, unsigned char *out, size_t *out_len, size_t out_size, const unsigned char *in,
                  size_t n)
{
    struct gcm *g = ctx;
    *out_len = 0;
    if (g->tls12)
        return out == in && out_size >= n && tls12_record(g, out, n, out_len);
    if (!out) /* Additional data, which the library wants in one piece and first; TLS has it so. */
        return begin(g, in, n);
    if (out_size < n || (!g->begun && !begin(g, NULL, 0)))
        return 0;
    crypt(g, out, in, n);
    *out_len = n;
    return 1;
}

static int final(void *ctx, unsigned char *out, size_t *out_len, size_t out_size)
{
    struct gcm *g = ctx;
    (void)out;
    (void)out_size;
    *out_len = 0;
    return (g->begun || begin(g, NULL, 0)) && end(g);
}

/* --- its parameters --- */

static int kind_params(OSSL_PARAM params[], const struct gcm_kind *kind)
{
    OSSL_PARAM *p;
    return (!(p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE)) ||
            OSSL_PARAM_set_uint(p, EVP_CIPH_GCM_MODE)) &&
           (!(p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_KEYLEN)) ||
            OSSL_PARAM_set_size_t(p, kind->key_len)) &&
           (!(p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_IVLEN)) || OSSL_PARAM_set_size_t(p, IV_LEN)) &&
           (!(p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_BLOCK_SIZE)) || OSSL_PARAM_set_size_t(p, 1)) &&
           (!(p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD)) || OSSL_PARAM_set_int(p, 1)) &&
           (!(p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_CUSTOM_IV)) || OSSL_PARAM_set_int(p, 1));
}

static int params_aes128(OSSL_PARAM params[])
{
    return kind_params(params, &aes128);
}

static int params_aes256(OSSL_PARAM params[])
{
    return kind_params(params, &aes256);
}

static int get_params(void *ctx, OSSL_PARAM params[])
{
    struct gcm *g = ctx;
    OSSL_PARAM *p;
    if ((p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_IVLEN)) && !OSSL_PARAM_set_size_t(p, IV_LEN))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_KEYLEN)) &&
        !OSSL_PARAM_set_size_t(p, g->kind->key_len))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TAGLEN)) && !OSSL_PARAM_set_size_t(p, TAG_LEN))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TLS1_AAD_PAD)) &&
        !OSSL_PARAM_set_size_t(p, TAG_LEN))
        return 0;
    if ((p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TAG)))
        return g->sealing && g->has_tag && p->data_size <= TAG_LEN &&
               OSSL_PARAM_set_octet_string(p, g->tag, p->data_size);
    return 1;
}

/* The IV's first part for all records to come; the sender's second part counts them. */
static bool set_fixed_iv(struct gcm *g, const OSSL_PARAM *p)
{
    if (p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size != FIXED_IV_LEN || !p->data)
        return false;
    memcpy(g->iv, p->data, FIXED_IV_LEN);
    g->has_fixed_iv = true;
    return !g->sealing || RAND_bytes(g->iv + FIXED_IV_LEN, IV_LEN - FIXED_IV_LEN) == 1;
}

static int set_params(void *ctx, const OSSL_PARAM params[])
{
    struct gcm *g = ctx;
    const OSSL_PARAM *p;
    if (!params)
        return 1;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_TAG))) {
        if (g->sealing || p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size != TAG_LEN || !p->data)
            return 0;
        memcpy(g->tag, p->data, TAG_LEN);
        g->has_tag = true;
    }
    if ((p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_IVLEN))) {
        size_t len;
        if (!OSSL_PARAM_get_size_t(p, &len) || len != IV_LEN)
            return 0;
    }
    if ((p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED)) && !set_fixed_iv(g, p))
        return 0;
    if ((p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_TLS1_AAD))) {
        if (p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size != TLS12_AAD || !p->data)
            return 0;
        memcpy(g->aad, p->data, TLS12_AAD);
        g->tls12 = true;
    }
    return 1;
}

static const OSSL_PARAM *gettable(void *ctx, void *provider)
{
    static const OSSL_PARAM known[] = {
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_AEAD_TAGLEN, NULL),
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_AEAD_TLS1_AAD_PAD, NULL),
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)ctx;
    (void)provider;
    return known;
}

static const OSSL_PARAM *settable(void *ctx, void *provider)
{
    static const OSSL_PARAM known[] = {
        OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_IV_FIXED, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_AAD, NULL, 0),
        OSSL_PARAM_END,
    };
    (void)ctx;
    (void)provider;
    return known;
}

/* --- the provider --- */

#define FUNC(id, f)                                                                                          \
    {                                                                                                        \
        id, (void (*)(void))(f)                                                                              \
    }
/* clang-format off */
#define CIPHER(bits) \
    static const OSSL_DISPATCH functions_aes##bits[] = { \
        FUNC(OSSL_FUNC_CIPHER_NEWCTX, new_aes##bits), \
        FUNC(OSSL_FUNC_CIPHER_FREECTX, gcm_free), \
        FUNC(OSSL_FUNC_CIPHER_ENCRYPT_INIT, init_sealing), \
        FUNC(OSSL_FUNC_CIPHER_DECRYPT_INIT, init_opening), \
        FUNC(OSSL_FUNC_CIPHER_UPDATE, update), \
        FUNC(OSSL_FUNC_CIPHER_FINAL, final), \
        FUNC(OSSL_FUNC_CIPHER_GET_PARAMS, params_aes##bits), \
        FUNC(OSSL_FUNC_CIPHER_GET_CTX_PARAMS, get_params), \
        FUNC(OSSL_FUNC_CIPHER_SET_CTX_PARAMS, set_params), \
        FUNC(OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS, gettable), \
        FUNC(OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS, settable), \
        {0, NULL}, \
    }
/* clang-format on */
CIPHER(128);
CIPHER(256);

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_store)
{
    static const OSSL_ALGORITHM ciphers[] = {
        {"AES-128-GCM:id-aes128-GCM", PROPERTIES, functions_aes128, NULL},
        {"AES-256-GCM:id-aes256-GCM", PROPERTIES, functions_aes256, NULL},
        {NULL, NULL, NULL, NULL},
    };
    (void)provider;
    *no_store = 0;
    return operation == OSSL_OP_CIPHER ? ciphers : NULL;
}

static int provide(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                   void **provider)
{
    static const OSSL_DISPATCH functions[] = {FUNC(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), {0, NULL}};
    (void)core;
    (void)in;
    *out = functions;
    *provider = &aes256; /* something that is not NULL */
    return 1;
}

/* --- whether to use it --- */

/* Looks the functions up. False: not on this processor. */
static bool find_functions(void)
{
    const uint64_t wanted = IMB_FEATURE_AVX512_SKX | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;
    IMB_MGR *m = alloc_mb_mgr(0);
    if (!m)
        return false;
    init_mb_mgr_auto(m, NULL);
    bool can = (m->features & wanted) == wanted;
    if (can) {
        aes128 = (struct gcm_kind){16,
                                   m->gcm128_pre,
                                   m->gcm128_init,
                                   m->gcm128_enc_update,
                                   m->gcm128_dec_update,
                                   m->gcm128_enc_finalize,
                                   m->gcm128_dec_finalize};
        aes256 = (struct gcm_kind){32,
                                   m->gcm256_pre,
                                   m->gcm256_init,
                                   m->gcm256_enc_update,
                                   m->gcm256_dec_update,
                                   m->gcm256_enc_finalize,
                                   m->gcm256_dec_finalize};
    }
    free_mb_mgr(m); /* 200 KB for what we do not use */
    return can;
}

/* Seals some bytes with what OpenSSL gives out for these properties. */
static bool seal_probe(const char *name, const char *properties, uint8_t out[], size_t n,
                       uint8_t tag[TAG_LEN])
{
    static const uint8_t key[32] = "neither secret nor of any use..", iv[IV_LEN] = "twelve here";
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, properties);
    EVP_CIPHER_CTX *ctx = cipher ? EVP_CIPHER_CTX_new() : NULL;
    int len;
    memset(out, 0x5a, n);
    bool ok = ctx && EVP_EncryptInit_ex2(ctx, cipher, key, iv, NULL) == 1 &&
              EVP_EncryptUpdate(ctx, NULL, &len, key, 5) == 1 &&
              EVP_EncryptUpdate(ctx, out, &len, out, (int)n) == 1 &&
              EVP_EncryptFinal_ex(ctx, out + n, &len) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

static bool seals_as_openssl(const char *name)
{
    uint8_t ours[1000], theirs[1000], our_tag[TAG_LEN], their_tag[TAG_LEN];
    return seal_probe(name, PROPERTIES, ours, sizeof ours, our_tag) &&
           seal_probe(name, "provider=default", theirs, sizeof theirs, their_tag) &&
           memcmp(ours, theirs, sizeof ours) == 0 && memcmp(our_tag, their_tag, TAG_LEN) == 0;
}

static OSSL_PROVIDER *loaded; /* for as long as the program runs */

/* NULL: loaded; else why not. */
static const char *load(void)
{
    if (OPENSSL_version_major() != 3 || OPENSSL_version_minor() != 0)
        return "since 3.1 it has the like";
    if (EVP_default_properties_is_fips_enabled(NULL))
        return "FIPS mode";
    /* The compiler's function asks whether the system saves these registers, too; the library does not. */
    if (!__builtin_cpu_supports("avx512f") || !find_functions())
        return "the processor has no VAES with AVX-512";
    /* 1: OpenSSL's own providers stay what they are without configuration. */
    if (OSSL_PROVIDER_add_builtin(NULL, PROVIDER, provide) == 1)
        loaded = OSSL_PROVIDER_try_load(NULL, PROVIDER, 1);
    if (!loaded)
        return "OpenSSL does not take the provider";
    if (seals_as_openssl("AES-128-GCM") && seals_as_openssl("AES-256-GCM"))
        return NULL;
    OSSL_PROVIDER_unload(loaded);
    loaded = NULL;
    return "IPsec-MB does not seal as OpenSSL does";
}

const char *gcm_properties(void)
{
    static bool asked;
    if (!asked) {
        asked = true;
        const char *why_not = load();
        if (why_not)
            log_debug("AES-GCM is OpenSSL's own", LOG_STR("reason", why_not));
        else
            log_debug("AES-GCM is IPsec-MB's");
    }
    return loaded ? "?" PROPERTIES : NULL;
}

#endif
