#include "unit.h"

#include "grpc/status.h"
#include "rng.h"

static void codes(void **state)
{
    (void)state;
    assert_string_equal(grpc_code_name(GRPC_OK), "OK");
    assert_string_equal(grpc_code_name(GRPC_UNAVAILABLE), "UNAVAILABLE");
    assert_string_equal(grpc_code_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    assert_string_equal(grpc_code_name((enum grpc_code)17), "UNKNOWN");
    assert_int_equal(grpc_code_parse("0"), GRPC_OK);
    assert_int_equal(grpc_code_parse("16"), GRPC_UNAUTHENTICATED);
    static const char *const odd[] = {
        "", "17", "-1", "+1", " 1", "1 ", "1x", "OK", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        assert_int_equal(grpc_code_parse(odd[i]), GRPC_UNKNOWN);
}

static void codes_of_other_layers(void **state)
{
    (void)state;
    static const struct {
        int http;
        enum grpc_code code;
    } http[] = {{400, GRPC_INTERNAL},
                {401, GRPC_UNAUTHENTICATED},
                {403, GRPC_PERMISSION_DENIED},
                {404, GRPC_UNIMPLEMENTED},
                {429, GRPC_UNAVAILABLE},
                {502, GRPC_UNAVAILABLE},
                {503, GRPC_UNAVAILABLE},
                {504, GRPC_UNAVAILABLE},
                {500, GRPC_UNKNOWN},
                {200, GRPC_UNKNOWN},
                {0, GRPC_UNKNOWN}};
    for (size_t i = 0; i < sizeof http / sizeof *http; i++)
        assert_int_equal(grpc_code_of_http(http[i].http), http[i].code);
    assert_int_equal(grpc_code_of_reset(7), GRPC_UNAVAILABLE);
    assert_int_equal(grpc_code_of_reset(8), GRPC_CANCELLED);
    assert_int_equal(grpc_code_of_reset(11), GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(grpc_code_of_reset(12), GRPC_PERMISSION_DENIED);
    assert_int_equal(grpc_code_of_reset(2), GRPC_INTERNAL);
    assert_int_equal(grpc_code_of_reset(0xffffffff), GRPC_INTERNAL);
}

static void message_encoding(void **state)
{
    (void)state;
    char out[64];
    grpc_message_encode("plain text, ~!", out, sizeof out);
    assert_string_equal(out, "plain text, ~!");
    grpc_message_encode("100% \n\x7f\xc3\xa4", out, sizeof out);
    assert_string_equal(out, "100%25 %0A%7F%C3%A4");
    grpc_message_encode("", out, sizeof out);
    assert_string_equal(out, "");
    grpc_message_decode("100%25 %0a%7F%c3%A4", out, sizeof out);
    assert_string_equal(out, "100% \n\x7f\xc3\xa4");
    /* Broken escapes stay as they are. */
    static const char *const broken[] = {"%", "%4", "%zz", "a%", "%%", "%4z", "50% off"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        grpc_message_decode(broken[i], out, sizeof out);
        assert_string_equal(out, broken[i]);
    }
}

static void any_text_comes_back(void **state)
{
    (void)state;
    struct rng r = {9};
    for (int round = 0; round < 20000; round++) {
        char text[50], wire[3 * sizeof text], back[sizeof text];
        size_t n = rng_below(&r, sizeof text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(1 + rng_below(&r, 255));
        text[n] = 0;
        grpc_message_encode(text, wire, sizeof wire);
        for (const char *c = wire; *c; c++)
            assert_in_range(*c, 0x20, 0x7e);
        grpc_message_decode(wire, back, sizeof back);
        assert_string_equal(back, text);
    }
}

/* Whatever does not fit is cut between characters of the encoding, and nothing beyond `cap` is touched. */
static void cut_to_what_fits(void **state)
{
    (void)state;
    for (size_t cap = 1; cap < 12; cap++) {
        char out[16];
        memset(out, '#', sizeof out);
        grpc_message_encode("ab\nc", out, cap);
        static const char *const want[] = {"", "a", "ab", "ab", "ab", "ab%0A", "ab%0Ac"};
        assert_string_equal(out, want[cap - 1 < 6 ? cap - 1 : 6]);
        for (size_t i = cap; i < sizeof out; i++)
            assert_int_equal(out[i], '#');
        memset(out, '#', sizeof out);
        grpc_message_decode("%41%42%43%44", out, cap);
        assert_int_equal(strlen(out), cap - 1 < 4 ? cap - 1 : 4);
        for (size_t i = cap; i < sizeof out; i++)
            assert_int_equal(out[i], '#');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes),
        cmocka_unit_test(codes_of_other_layers),
        cmocka_unit_test(message_encoding),
        cmocka_unit_test(any_text_comes_back),
        cmocka_unit_test(cut_to_what_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
