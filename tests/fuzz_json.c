/* Any bytes as JSON: parsed or refused; what was parsed can be walked, and its strings and numbers read. */
#ifndef ATV_NO_SIMD
#  define ATV_NO_SIMD                   /* no vectors here: they take half of the compiler's time */
#endif
#define ATTNVAR_IMPLEMENTATION
#include "fuzz.h"

static void walk(const atvi_jnode *node, const char *text, size_t size) {
    int i, at = 1, n = node->type == ATVI_JSON_OBJECT ? 2 * node->count : node->type == ATVI_JSON_ARRAY ? node->count : 0;
    char out[64];
    int64_t whole;
    double x;
    FUZZ_CHECK(node->text >= text && node->size <= size && node->text + node->size <= text + size);
    if (node->type == ATVI_JSON_STRING) {
        size_t need = atvi_json_unescape(node, out, sizeof out);
        FUZZ_CHECK(need <= 3 * node->size + 4);
        FUZZ_CHECK(atvi_json_unescape(node, NULL, 0) == need);
        atvi_json_equal(node, "name");
    }
    if (node->type == ATVI_JSON_NUMBER) {
        if (atvi_json_double(node, &x)) FUZZ_CHECK(fabs(x) <= DBL_MAX);         /* what is too large is none */
        if (atvi_json_int(node, &whole)) FUZZ_CHECK(atvi_json_double(node, &x) &&
                                                    fabs((double)whole - x) <= fabs(x) * 1e-15 + 0.5);
    }
    atvi_json_get(node, "name");
    for (i = 0; i < n; i++) {
        FUZZ_CHECK(at < node->span);
        if (node->type == ATVI_JSON_OBJECT && i % 2 == 0) FUZZ_CHECK(node[at].type == ATVI_JSON_STRING);
        walk(node + at, text, size);
        at += node[at].span;
    }
    FUZZ_CHECK(at == node->span);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    atv_ctx *ctx = fuzz_ctx();
    atvi_json json;
    atv_result r = atvi_json_parse(ctx, "fuzz.json", (const char *)data, size, &json);
    if (r == ATV_OK) {
        walk(json.nodes, (const char *)data, size);
        atvi_json_free(&json);
    }
    fuzz_done(ctx, r);
    return 0;
}

#ifndef ATTNVAR_LIBFUZZER
int main(int argc, char **argv) {
    static const char *const seeds[] = {
        "{\"name\": [1, -2.5e-3, 1E+10, 0, true, false, null], \"a\\\"b\": {\"\\u00e9\\ud83d\\ude00\": \"\xc3\xa9\"}}",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
        "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        " \"x\" ", "0.1", "-0", "1e400", "123456789012345678901234567890", "\"\\ud800\"", "{\"a\": 1, \"a\": 2}" };
    size_t i;
    for (i = 0; i < sizeof seeds / sizeof seeds[0]; i++) fuzz_seed(seeds[i], strlen(seeds[i]), 2000);
    fuzz_files(argc, argv);
    return test_done("fuzz_json");
}
#endif
