/* Any bytes as tokenizer files, or as text for a tokenizer. The first byte chooses: a tokenizer.json; vocab.json, merges.txt
   and tokenizer_config.json with 0 bytes between; a text. What was loaded encodes, and decodes to the same bytes. */
#include "fuzz.h"

static const char training_text[] = "the cat sat on the mat. the dog sat on the cat! \xc3\xa9t\xc3\xa9, na\xc3\xafve 123 "
                                    "1234 it's we'll  the  end\n\n";

static void round_trip(atv_ctx *ctx, atv_tokenizer *tokenizer, const char *text, size_t size, int exact) {
    int32_t *ids = (int32_t *)malloc((size + 1) * sizeof *ids);
    size_t n = 0, again = 0, bytes = 0, i;
    if (!ids) exit(1);
    if (atv_tokenizer_encode(tokenizer, text, size, ids, size, &n) == ATV_OK && n <= size) {
        for (i = 0; i < n; i++) FUZZ_CHECK(ids[i] >= 0 && ids[i] < atv_tokenizer_vocab_size(tokenizer));
        FUZZ_CHECK(atv_tokenizer_encode(tokenizer, text, size, NULL, 0, &again) == ATV_OK && again == n);
        if (atv_tokenizer_decode(tokenizer, ids, n, 0, NULL, 0, &bytes) == ATV_OK) {
            char *out = (char *)malloc(bytes + 1);
            if (!out) exit(1);
            FUZZ_CHECK(atv_tokenizer_decode(tokenizer, ids, n, 0, out, bytes, &bytes) == ATV_OK);
            if (exact) FUZZ_CHECK(bytes == size && memcmp(out, text, size) == 0);
            free(out);
        } else FUZZ_CHECK(!exact);
    } else FUZZ_CHECK(!exact || atv_last_error(ctx)[0] != 0);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    atv_ctx *ctx = fuzz_ctx();
    atv_tokenizer *tokenizer = NULL;
    const char *text = (const char *)data + 1;
    int kind = size ? data[0] % 3 : 0, i;
    atv_result r;
    if (size) size--;
    else text = "";
    if (kind == 0) r = atv_tokenizer_from_json(ctx, text, size, &tokenizer);
    else if (kind == 1) {
        const char *part[3], *end = text + size, *p = text;
        size_t length[3];
        for (i = 0; i < 3; i++) {
            const char *stop = p < end && i < 2 ? (const char *)memchr(p, 0, (size_t)(end - p)) : NULL;
            part[i] = p;
            length[i] = (size_t)((stop ? stop : end) - p);
            p = stop ? stop + 1 : end;
        }
        r = atv_tokenizer_from_vocab(ctx, part[0], length[0], part[1], length[1], length[2] ? part[2] : NULL, length[2],
                                     &tokenizer);
    } else {
        atv_tokenizer_train_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.vocab_size = 290;
        r = atv_tokenizer_train(ctx, &desc, training_text, sizeof training_text - 1, &tokenizer);
        FUZZ_CHECK(r == ATV_OK);
        round_trip(ctx, tokenizer, text, size, 1);
    }
    if (r == ATV_OK) {
        int before, after, n = atv_tokenizer_vocab_size(tokenizer);
        round_trip(ctx, tokenizer, training_text, sizeof training_text - 1, 0);
        atv_tokenizer_wrap(tokenizer, &before, &after);
        FUZZ_CHECK(before < n && after < n && atv_tokenizer_eos(tokenizer) < n);
        for (i = -1; i <= n && i < 400; i++) {
            size_t bytes = 0;
            const char *token = atv_tokenizer_token(tokenizer, i, &bytes);
            FUZZ_CHECK(i >= 0 && i < n ? 1 : token == NULL);
            atv_tokenizer_is_special(tokenizer, i);
        }
        atv_tokenizer_destroy(tokenizer);
    } else FUZZ_CHECK(tokenizer == NULL);
    fuzz_done(ctx, r);
    return 0;
}

#ifndef ATTNVAR_LIBFUZZER
static void seed(int kind, const void *data, size_t size, int rounds) {
    char *x = (char *)malloc(size + 1);
    if (!x) exit(1);
    x[0] = (char)kind;
    memcpy(x + 1, data, size);
    fuzz_seed(x, size + 1, rounds);
    free(x);
}

int main(int argc, char **argv) {
    static const char small[] =
        "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":false,\"normalized\":false,\"special\":true}],"
        "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true},"
        "\"post_processor\":null,"
        "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
        "\"vocab\":{\"<s>\":0,\"t\":1,\"h\":2,\"e\":3,\"\\u0120\":4,\"th\":5,\"the\":6},"
        "\"merges\":[\"t h\",\"th e\"]}}";
    static const char files[] = "{\"<s>\":0,\"t\":1,\"h\":2,\"e\":3,\"\xc4\xa0\":4,\"th\":5,\"the\":6}\0#version: 0.2\n"
                                "t h\nth e\n\0{\"eos_token\": \"<s>\"}";
    static const char text[] = "the cat's <s> caf\xc3\xa9 \xf0\x9f\x98\x80  12\xd9\xa3 \n\n <pad></s> \xe2\x80\x83x\xc2\xa0 "
                               "we'd\tend \xff\xc3";
    size_t size = 0;
    char *golden = (char *)test_read("tests/golden/tokenizer/tokenizer.json", &size);
    seed(0, small, sizeof small - 1, 3000);
    seed(1, files, sizeof files - 1, 3000);
    seed(2, text, sizeof text - 1, 1500);
    if (CHECK(golden != NULL, "tests/golden/tokenizer/tokenizer.json cannot be read")) seed(0, golden, size, 300);
    free(golden);
    fuzz_files(argc, argv);
    return test_done("fuzz_tokenizer");
}
#endif
