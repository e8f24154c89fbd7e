/* The tokenizer against Hugging Face's: texts and their ids, training, saving and loading, odd settings, broken files,
   allocations that fail; and the JSON reader below it. */
#define _POSIX_C_SOURCE 200809L
#ifndef ATV_NO_SIMD
#  define ATV_NO_SIMD                   /* no vectors here: they take half of the compiler's time */
#endif
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "test.h"
#include "mem_fs.h"

#define GOLDEN "tests/golden/tokenizer"

/* ---- contexts ---- */

typedef struct logged { int n, skipped; char all[2048]; } logged;

static void take_log(void *user, atv_log_level level, const char *message) {
    logged *l = (logged *)user;
    size_t n = strlen(l->all);
    l->n += level == ATV_LOG_WARNING;
    l->skipped += strstr(message, "is skipped") != NULL;
    snprintf(l->all + n, sizeof l->all - n, "%s\n", message);
}

static atv_ctx *make_ctx(mem_fs *fs, logged *log, test_alloc *alloc) {
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.n_threads = 1;
    if (log) { desc.logger.user = log; desc.logger.log = take_log; }
    if (alloc) { desc.allocator.user = alloc; desc.allocator.alloc = test_alloc_get; desc.allocator.free = test_alloc_put; }
    if (fs) mem_io(fs, &desc);
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    return ctx;
}

/* ---- cases ---- */

/* Bytes to UTF-8, each piece that is none to U+FFFD; out has 3 times the room. */
static size_t lossy(const char *text, size_t size, char *out) {
    size_t at = 0, n = 0;
    while (at < size) {
        uint32_t c;
        int length = atvi_utf8(text + at, size - at, &c);
        n += (size_t)atvi_utf8_put(length < 0 ? 0xFFFD : c, out + n);
        at += (size_t)(length < 0 ? -length : length);
    }
    return n;
}

/* Every line of a cases.jsonl: encode and decode. Returns how many lines. */
static int check_cases(atv_ctx *ctx, atv_tokenizer *t, const char *path, const char *how) {
    size_t size, from, to;
    char *file = (char *)test_read(path, &size);
    int line = 0;
    if (!CHECK(file != NULL, "%s is missing", path)) return 0;
    for (from = 0; from < size; from = to + 1) {
        atvi_json json;
        const atvi_jnode *text, *ids, *decoded;
        static char in[65536], want[65536], raw[65536], out[3 * 65536];
        static int32_t got[65536];
        size_t n_in, n_want, n_raw = 0, n_out, n = 0, i;
        int same;
        for (to = from; to < size && file[to] != '\n'; to++) {}
        if (to == from) continue;
        line++;
        MUST(ctx, atvi_json_parse(ctx, path, file + from, to - from, &json));
        text = atvi_json_get(json.nodes, "text");
        ids = atvi_json_get(json.nodes, "ids");
        decoded = atvi_json_get(json.nodes, "decoded");
        n_in = atvi_json_unescape(text, in, sizeof in);
        n_want = atvi_json_unescape(decoded, want, sizeof want);
        MUST(ctx, atv_tokenizer_encode(t, in, n_in, got, 65536, &n));
        same = n == (size_t)ids->count;
        for (i = 0; i < n && same; i++) {
            int64_t id = -1;
            same = atvi_json_int(ids + 1 + i, &id) && id == got[i];
        }
        CHECK(same, "%s:%d: %s: '%.*s' has other ids", path, line, how, (int)n_in, in);
        MUST(ctx, atv_tokenizer_decode(t, got, n, 0, raw, sizeof raw, &n_raw));
        n_out = lossy(raw, n_raw, out);
        CHECK(n_out == n_want && memcmp(out, want, n_out) == 0, "%s:%d: %s: decodes to '%.*s'", path, line, how,
              (int)n_out, out);
        atvi_json_free(&json);
    }
    free(file);
    return line;
}

static const char published_flags[] =                       /* what vocab.json and merges.txt do not tell */
    "{\"eos_token\": \"</s>\", \"added_tokens_decoder\": {"
    "\"0\": {\"content\": \"<s>\", \"special\": true, \"normalized\": true}, \"1\": {\"content\": \"</s>\", "
        "\"special\": true},"
    "\"2\": {\"content\": \"<pad>\", \"special\": true}, \"3\": {\"content\": \"<unk>\", \"special\": true},"
    "\"4\": {\"content\": \"<mask>\", \"special\": true, \"lstrip\": true}}}";

/* A directory's tokenizer read both ways, through all cases, saved and read again. */
static void check_directory(const char *dir, const char *cases, const char *config, int n_skipped, int before, int after) {
    mem_fs fs;
    logged log;
    atv_ctx *ctx, *saved_ctx;
    atv_tokenizer *t = NULL, *v = NULL, *again = NULL;
    size_t n_vocab, n_merges, n_config = 0;
    char *vocab = (char *)test_read(test_path("%s/vocab.json", dir), &n_vocab);
    char *merges = (char *)test_read(test_path("%s/merges.txt", dir), &n_merges);
    char *own = (char *)test_read(test_path("%s/tokenizer_config.json", dir), &n_config);
    int a = -2, b = -2, i;
    memset(&fs, 0, sizeof fs);
    memset(&log, 0, sizeof log);
    ctx = make_ctx(NULL, &log, NULL);
    saved_ctx = make_ctx(&fs, NULL, NULL);
    if (!CHECK(vocab && merges, "%s lacks vocab.json or merges.txt", dir)) return;
    MUST(ctx, atv_tokenizer_load(ctx, dir, &t));
    CHECK(log.n == 0, "warnings: %s", log.all);
    CHECK(check_cases(ctx, t, cases, "tokenizer.json") > 100, "few cases");
    atv_tokenizer_wrap(t, &a, &b);
    CHECK(a == before && b == after, "wrapped in %d %d", a, b);
    CHECK(atv_tokenizer_eos(t) == after, "eos %d", atv_tokenizer_eos(t));

    MUST(ctx, atv_tokenizer_from_vocab(ctx, vocab, n_vocab, merges, n_merges, own ? own : config,
                                       own ? n_config : strlen(config), &v));
    CHECK(log.skipped == n_skipped && log.n == n_skipped, "%d merges skipped: %s", log.skipped, log.all);
    check_cases(ctx, v, cases, "vocab.json and merges.txt");
    atv_tokenizer_wrap(v, &a, &b);
    CHECK(a == -1 && b == -1, "no post-processor, but wrapped in %d %d", a, b);
    CHECK(atv_tokenizer_eos(v) == after, "eos %d", atv_tokenizer_eos(v));
    CHECK(atv_tokenizer_vocab_size(v) == atv_tokenizer_vocab_size(t), "%d entries", atv_tokenizer_vocab_size(v));
    for (i = 0; i < atv_tokenizer_vocab_size(t); i++) {
        size_t n = 0, m = 0;
        const char *p = atv_tokenizer_token(t, i, &n), *q = atv_tokenizer_token(v, i, &m);
        if (!CHECK(p && q && n == m && memcmp(p, q, n) == 0 &&
                   atv_tokenizer_is_special(t, i) == atv_tokenizer_is_special(v, i),
                   "token %d differs", i)) break;
        if (strlen(p) == n && !CHECK(atv_tokenizer_id(t, p) == i, "token '%s' is %d, not %d", p, atv_tokenizer_id(t, p),
                                     i)) break;
    }

    /* Saved to memory and read again: the whole, then without tokenizer.json. */
    for (i = 0; i < 2; i++) {
        atv_tokenizer *u = NULL;
        char *text = (char *)test_read(test_path("%s/tokenizer.json", dir), &n_config);
        char *first[4];
        static const char *const names[] = { "d/tokenizer.json", "d/vocab.json", "d/merges.txt", "d/tokenizer_config.json" };
        int k;
        if (i == 0) MUST(saved_ctx, atv_tokenizer_from_json(saved_ctx, text, n_config, &u));
        else MUST(saved_ctx, atv_tokenizer_from_vocab(saved_ctx, vocab, n_vocab, merges, n_merges, own ? own : config,
                                                      strlen(own ? own : config), &u));
        MUST(saved_ctx, atv_tokenizer_save(u, "d"));
        CHECK(fs.n == 4, "%d files", fs.n);
        for (k = 0; k < 4; k++) first[k] = mem_get(&fs, names[k])->data ? strdup(mem_get(&fs, names[k])->data) : NULL;
        CHECK(i == 1 || strstr(first[3], "\"model_input_names\": [\"input_ids\", \"attention_mask\"]"),
              "no model_input_names");
        MUST(saved_ctx, atv_tokenizer_load(saved_ctx, "d/", &again));
        check_cases(saved_ctx, again, cases, "saved");
        atv_tokenizer_wrap(again, &a, &b);
        CHECK(i == 1 || (a == before && b == after), "saved and loaded, wrapped in %d %d", a, b);
        CHECK(atv_tokenizer_eos(again) == after, "saved and loaded, eos %d", atv_tokenizer_eos(again));
        MUST(saved_ctx, atv_tokenizer_save(again, "d"));
        for (k = 0; k < 4; k++) {
            const mem_file *file = mem_get(&fs, names[k]);
            CHECK(file->data && first[k] && strcmp(file->data, first[k]) == 0,
                  "%s changes when loaded and saved again", names[k]);
            free(first[k]);
        }
        atv_tokenizer_destroy(again);
        mem_remove(&fs, "d/tokenizer.json");                /* and from the other two files */
        MUST(saved_ctx, atv_tokenizer_load(saved_ctx, "d", &again));
        check_cases(saved_ctx, again, cases, "saved, without tokenizer.json");
        atv_tokenizer_destroy(again);
        atv_tokenizer_destroy(u);
        free(text);
    }
    mem_clear(&fs);
    free(vocab);
    free(merges);
    free(own);
    atv_tokenizer_destroy(t);
    atv_tokenizer_destroy(v);
    atv_ctx_destroy(ctx);
    atv_ctx_destroy(saved_ctx);
}

/* ---- training ---- */

static void test_training(void) {
    static const char *const special[] = { "<s>", "</s>", "<pad>", "<unk>", "<mask>" };
    static const char *const one[] = { "<|endoftext|>" };
    mem_fs fs;
    atv_ctx *ctx;
    atv_tokenizer *t = NULL, *golden = NULL;
    atv_tokenizer_train_desc desc;
    const mem_file *made;
    size_t size, n_json, n_merges;
    char *text = (char *)test_read(GOLDEN "/text.txt", &size);
    char *json = (char *)test_read(GOLDEN "/tokenizer.json", &n_json);
    char *merges = (char *)test_read(GOLDEN "/merges.txt", &n_merges);
    int i, a, b;
    memset(&fs, 0, sizeof fs);
    memset(&desc, 0, sizeof desc);
    ctx = make_ctx(&fs, NULL, NULL);
    if (!CHECK(text && json && merges, GOLDEN " is not complete")) return;
    desc.vocab_size = 600;
    desc.special_tokens = special;
    desc.n_special_tokens = 5;
    MUST(ctx, atv_tokenizer_train(ctx, &desc, text, size, &t));
    MUST(ctx, atv_tokenizer_from_json(ctx, json, n_json, &golden));
    CHECK(atv_tokenizer_vocab_size(t) == 600, "%d entries", atv_tokenizer_vocab_size(t));
    for (i = 0; i < 600; i++) {
        size_t n = 0, m = 0;
        const char *p = atv_tokenizer_token(t, i, &n), *q = atv_tokenizer_token(golden, i, &m);
        if (!CHECK(p && q && n == m && memcmp(p, q, n) == 0, "trained token %d is '%s', not '%s'", i, p ? p : "",
                   q ? q : "")) break;
    }
    check_cases(ctx, t, GOLDEN "/cases.jsonl", "trained");
    MUST(ctx, atv_tokenizer_save(t, "d"));
    made = mem_get(&fs, "d/merges.txt");
    CHECK(made->data && made->size == n_merges && memcmp(made->data, merges, n_merges) == 0, "trained merges.txt differs");
    atv_tokenizer_destroy(t);
    atv_tokenizer_destroy(golden);

    /* Documents end at the separator, which is never learnt. */
    {
        static const char separated[] = "to be\n<|endoftext|>\nto be<|endoftext|>to be\n<|endoftext|>\n"
                                        "<|endoftext|>\nto be\n<|endoftext|>\n";
        memset(&desc, 0, sizeof desc);
        desc.vocab_size = 400;
        MUST(ctx, atv_tokenizer_train(ctx, &desc, separated, strlen(separated), &t));
        CHECK(atv_tokenizer_vocab_size(t) == 5 + 256 + 3, "%d entries: more than 'to', 'be' and ' be'",
              atv_tokenizer_vocab_size(t));
        CHECK(atv_tokenizer_id(t, " be") >= 0 && atv_tokenizer_id(t, "to") >= 0, "not learnt");
        CHECK(atv_tokenizer_id(t, "<pad>") == 0 && atv_tokenizer_id(t, "<mask>") == 4, "the usual special tokens");
        atv_tokenizer_wrap(t, &a, &b);
        CHECK(a == 1 && b == 2 && atv_tokenizer_eos(t) == 2, "wrapped in %d %d", a, b);
        atv_tokenizer_destroy(t);
    }
    desc.special_tokens = one;
    desc.n_special_tokens = 1;
    desc.vocab_size = 257;
    MUST(ctx, atv_tokenizer_train(ctx, &desc, NULL, 0, &t));
    atv_tokenizer_wrap(t, &a, &b);
    CHECK(a == -1 && b == -1 && atv_tokenizer_eos(t) == 0 && atv_tokenizer_vocab_size(t) == 257, "one special token");
    atv_tokenizer_destroy(t);
    t = NULL;
    desc.vocab_size = 256;
    FAILS(ctx, atv_tokenizer_train(ctx, &desc, text, size, &t), ATV_ERR_ARGUMENT, "vocab_size=256");
    desc.vocab_size = 300;
    desc.min_frequency = -1;
    FAILS(ctx, atv_tokenizer_train(ctx, &desc, text, size, &t), ATV_ERR_ARGUMENT, "min_frequency=-1");
    desc.min_frequency = 0;
    desc.n_special_tokens = -1;
    FAILS(ctx, atv_tokenizer_train(ctx, &desc, text, size, &t), ATV_ERR_ARGUMENT, "n_special_tokens=-1");
    {
        static const char *const bad[][2] = { { "<s>", "<s>" }, { "<s>", "" }, { "\xFF", "<s>" }, { "\xC3\xA9", "<s>" } };
        for (i = 0; i < 4; i++) {
            desc.special_tokens = bad[i];
            desc.n_special_tokens = 2;
            FAILS(ctx, atv_tokenizer_train(ctx, &desc, text, size, &t), ATV_ERR_ARGUMENT,
                  i < 2 ? "special_tokens[1]" : "special_tokens[0]");
        }
    }
    CHECK(t == NULL, "a failure wrote the output");
    mem_clear(&fs);
    free(text);
    free(json);
    free(merges);
    atv_ctx_destroy(ctx);
}

/* ---- small ones written here ---- */

#define BYTE_LEVEL "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}"
#define MODEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"\xC4\xA0\": 3, " \
    "\"\xC4\xA0" "ab\": 4, " \
    "\"<s>\": 5, \"c\": 6}, \"merges\": [\"a b\", [\"\xC4\xA0\", \"ab\"]]}"

static void check_ids(const char *json, const char *text, const char *want) {
    atv_ctx *ctx = make_ctx(NULL, NULL, NULL);
    atv_tokenizer *t = NULL;
    char got[256] = "";
    int32_t ids[64];
    size_t n = 0, i;
    if (CHECK(atv_tokenizer_from_json(ctx, json, strlen(json), &t) == ATV_OK, "%s: %s", json, atv_last_error(ctx))) {
        if (CHECK(atv_tokenizer_encode(t, text, strlen(text), ids, 64, &n) == ATV_OK, "'%s': %s", text, atv_last_error(ctx)))
            for (i = 0; i < n; i++) snprintf(got + strlen(got), sizeof got - strlen(got), i ? " %d" : "%d", (int)ids[i]);
        CHECK(strcmp(got, want) == 0, "'%s' gives %s, not %s, with %s", text, got, want, json);
    }
    atv_tokenizer_destroy(t);
    atv_ctx_destroy(ctx);
}

#define ADDED(flags) "{\"added_tokens\": [{\"id\": 9, \"content\": \"bc\", " flags "}, {\"id\": 10, " \
    "\"content\": \"bca\"}], " \
    BYTE_LEVEL ", " MODEL "}"

static void test_settings(void) {
    check_ids("{" BYTE_LEVEL ", " MODEL "}", "ab ab  ab", "2 4 3 4");
    check_ids("{" BYTE_LEVEL ", " MODEL "}", "abab", "2 2");
    check_ids("{" BYTE_LEVEL ", " MODEL "}", "", "");
    check_ids("{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}, " MODEL "}", "ab ab", "4 4");
    check_ids("{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}, " MODEL "}", " ab", "4");
    check_ids("{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}, "
              "\"model\": {\"vocab\": {\"a\": 0, \"\xC4\xA0\": 1, \"a\xC4\xA0\": 2}, \"merges\": [\"a \xC4\xA0\"]}}",
                  "a a", "2 0");
    check_ids("{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"ByteLevel\", "
        "\"add_prefix_space\": false}]}, "
              MODEL "}", "ab", "2");
    check_ids(ADDED("\"lstrip\": false"), "a bc bca", "0 3 9 3 10");          /* the longest */
    check_ids(ADDED("\"lstrip\": true"), "a  bc ab", "0 9 4");
    check_ids(ADDED("\"rstrip\": true"), "a bc   ab", "0 3 9 2");
    check_ids(ADDED("\"single_word\": true"), "abc bc", "2 6 3 9");
    check_ids(ADDED("\"normalized\": true"), "bcabc", "10 9");
    check_ids("{\"added_tokens\": [{\"id\": 9, \"content\": \"abc\", \"normalized\": true}, {\"id\": 10, "
        "\"content\": \"bc\"}], "
              BYTE_LEVEL ", " MODEL "}", "abc", "0 10");                      /* those not normalized first */
    check_ids("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"?\": 1}, \"unk_token\": \"?\", \"merges\": []}}",
              "axxa", "0 1 1 0");
    check_ids("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"?\": 1}, \"unk_token\": \"?\", "
        "\"fuse_unk\": true, \"merges\": []}}",
              "axxa", "0 1 0");
    check_ids("{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"ba\": 3}, "
              "\"merges\": [\"b a\", \"a b\", \"b a\"]}}", "aba", "2 0");        /* of equal merges the last counts */
}

static void test_wrap(void) {
    static const struct { const char *post; int before, after; } good[] = {
        { "null", -1, -1 },
        { "{\"type\": \"ByteLevel\"}", -1, -1 },
        { "{\"type\": \"RobertaProcessing\", \"sep\": [\"b\", 1], \"cls\": [\"a\", 0]}", 0, 1 },
        { "{\"type\": \"TemplateProcessing\", \"single\": [{\"Sequence\": {\"id\": \"A\"}}, "
            "{\"SpecialToken\": {\"id\": \"<s>\"}}], "
          "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [5]}}}", -1, 5 },
        { "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": \"TemplateProcessing\", "
            "\"single\": "
          "[{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {\"id\": \"A\"}}], "
              "\"special_tokens\": {\"<s>\": {\"ids\": [5]}}}]}", 5, -1 }
    };
    atv_ctx *ctx = make_ctx(NULL, NULL, NULL);
    size_t i;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        char json[2048];
        atv_tokenizer *t = NULL;
        int a = -2, b = -2;
        snprintf(json, sizeof json, "{\"post_processor\": %s, %s, %s}", good[i].post, BYTE_LEVEL, MODEL);
        MUST(ctx, atv_tokenizer_from_json(ctx, json, strlen(json), &t));
        atv_tokenizer_wrap(t, &a, &b);
        CHECK(a == good[i].before && b == good[i].after, "%s: %d %d", good[i].post, a, b);
        atv_tokenizer_destroy(t);
    }
    {                                                       /* GPT-2's: a beginning, when asked for */
        static const char vocab[] = "{\"a\": 0, \"b\": 1, \"ab\": 2, \"<|endoftext|>\": 3}",
            merges[] = "#version: 0.2\r\na b\r\n\r\n";
        static const char config[] = "{\"add_bos_token\": true, \"bos_token\": {\"content\": \"<|endoftext|>\", "
            "\"lstrip\": false}}";
        atv_tokenizer *t = NULL;
        int32_t ids[4];
        size_t n = 0;
        int a = -2, b = -2;
        MUST(ctx, atv_tokenizer_from_vocab(ctx, vocab, strlen(vocab), merges, strlen(merges), config, strlen(config), &t));
        atv_tokenizer_wrap(t, &a, &b);
        CHECK(a == 3 && b == -1 && atv_tokenizer_eos(t) == 3, "%d %d", a, b);
        atv_tokenizer_destroy(t);
        MUST(ctx, atv_tokenizer_from_vocab(ctx, vocab, strlen(vocab), merges, strlen(merges), NULL, 0, &t));
        CHECK(atv_tokenizer_is_special(t, 3) && !atv_tokenizer_is_special(t, 2), "what no merge makes is special");
        MUST(ctx, atv_tokenizer_encode(t, "ab<|endoftext|>a", 16, ids, 4, &n));
        CHECK(n == 3 && ids[0] == 2 && ids[1] == 3 && ids[2] == 0, "%d ids", (int)n);
        atv_tokenizer_destroy(t);
    }
    atv_ctx_destroy(ctx);
}

/* ---- broken files ---- */

static void test_bad(void) {
    static const struct { const char *json; atv_result result; const char *text; } bad[] = {
        { "", ATV_ERR_FORMAT, "line 1 column 1" },
        { "{" BYTE_LEVEL ", " MODEL, ATV_ERR_FORMAT, "line 1" },
        { "[]", ATV_ERR_FORMAT, "no object" },
        { "{" MODEL "}", ATV_ERR_UNSUPPORTED, "pre_tokenizer" },
        { "{\"pre_tokenizer\": {\"type\": \"Whitespace\"}, " MODEL "}", ATV_ERR_UNSUPPORTED,
         "pre_tokenizer.type=Whitespace" },
        { "{\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\"}, "
            "{\"type\": \"ByteLevel\"}]}, " MODEL "}",
          ATV_ERR_UNSUPPORTED, "pre_tokenizer" },
        { "{\"normalizer\": {\"type\": \"NFC\"}, " BYTE_LEVEL ", " MODEL "}", ATV_ERR_UNSUPPORTED, "normalizer=NFC" },
        { "{\"version\": \"2.0\", " BYTE_LEVEL ", " MODEL "}", ATV_ERR_UNSUPPORTED, "version=2.0" },
        { "{\"decoder\": {\"type\": \"WordPiece\"}, " BYTE_LEVEL ", " MODEL "}", ATV_ERR_UNSUPPORTED,
         "decoder.type=WordPiece" },
        { "{\"post_processor\": {\"type\": \"X\"}, " BYTE_LEVEL ", " MODEL "}", ATV_ERR_UNSUPPORTED,
         "post_processor.type=X" },
        { "{\"post_processor\": {\"type\": \"RobertaProcessing\", \"sep\": [\"a\", 99], \"cls\": [\"b\", 1]}, "
            "" BYTE_LEVEL ", " MODEL "}",
          ATV_ERR_FORMAT, "post_processor" },
        { "{" BYTE_LEVEL "}", ATV_ERR_FORMAT, "model" },
        { "{" BYTE_LEVEL ", \"model\": {\"type\": \"Unigram\"}}", ATV_ERR_UNSUPPORTED, "model.type=Unigram" },
        { "{" BYTE_LEVEL ", \"model\": {\"dropout\": 0.1, \"vocab\": {\"a\": 0}, \"merges\": []}}", ATV_ERR_UNSUPPORTED,
         "model.dropout=0.1" },
        { "{" BYTE_LEVEL ", \"model\": {\"byte_fallback\": true, \"vocab\": {\"a\": 0}, \"merges\": []}}",
         ATV_ERR_UNSUPPORTED,
          "model.byte_fallback=true" },
        { "{" BYTE_LEVEL ", \"model\": {\"ignore_merges\": true, \"vocab\": {\"a\": 0}, \"merges\": []}}",
         ATV_ERR_UNSUPPORTED,
          "model.ignore_merges=true" },
        { "{" BYTE_LEVEL ", \"model\": {\"continuing_subword_prefix\": \"##\", \"vocab\": {\"a\": 0}, \"merges\": []}}",
         ATV_ERR_UNSUPPORTED,
          "model.continuing_subword_prefix=##" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}}}", ATV_ERR_FORMAT, "merges" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}, \"merges\": [\"ab\"]}}", ATV_ERR_FORMAT, "merge 1, \"ab\"" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}", ATV_ERR_FORMAT, "merge 1" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {}, \"merges\": []}}", ATV_ERR_FORMAT, "empty" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 2147483647}, \"merges\": []}}", ATV_ERR_FORMAT,
         "\"a\"=2147483647" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": -1}, \"merges\": []}}", ATV_ERR_FORMAT, "\"a\"=-1" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", ATV_ERR_FORMAT, "\"b\"=0" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0, \"\\u0061\": 1}, \"merges\": []}}", ATV_ERR_FORMAT, "twice" },
        { "{" BYTE_LEVEL ", \"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"zz\", \"merges\": []}}", ATV_ERR_FORMAT,
         "unk_token=\"zz\"" },
        { "{\"added_tokens\": [{\"id\": 7, \"content\": \"a\"}], " BYTE_LEVEL ", " MODEL "}", ATV_ERR_FORMAT, "id 7" },
        { "{\"added_tokens\": [{\"id\": 1, \"content\": \"<x>\"}], " BYTE_LEVEL ", " MODEL "}", ATV_ERR_FORMAT, "id 1" },
        { "{\"added_tokens\": [{\"id\": 99999999999, \"content\": \"<x>\"}], " BYTE_LEVEL ", " MODEL "}", ATV_ERR_FORMAT,
         "id 99999999999" },
        { "{\"added_tokens\": [{\"id\": 7, \"content\": \"x\", \"lstrip\": 1}], " BYTE_LEVEL ", " MODEL "}",
         ATV_ERR_FORMAT, "lstrip=1" }
    };
    atv_ctx *ctx = make_ctx(NULL, NULL, NULL);
    atv_tokenizer *t = NULL;
    size_t i, n = 77;
    int32_t ids[8] = { 42, 42, 42, 42, 42, 42, 42, 42 };
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(ctx, atv_tokenizer_from_json(ctx, bad[i].json, strlen(bad[i].json), &t), bad[i].result, bad[i].text);
    {
        static const char vocab[] = "{\"a\": 0, \"b\": 1, \"ab\": 2}", merges[] = "#version: 0.2\na b\nx\n";
        static const char config[] = "{\"added_tokens_decoder\": {\"x\": {\"content\": \"<s>\"}}}";
        FAILS(ctx, atv_tokenizer_from_vocab(ctx, vocab, strlen(vocab), merges, strlen(merges), NULL, 0, &t),
              ATV_ERR_FORMAT, "merge 2, \"x\"");
        FAILS(ctx, atv_tokenizer_from_vocab(ctx, vocab, strlen(vocab), merges, 18, config, strlen(config), &t),
              ATV_ERR_FORMAT, "\"x\" is no id");
        FAILS(ctx, atv_tokenizer_from_vocab(ctx, NULL, 0, NULL, 0, NULL, 0, &t), ATV_ERR_FORMAT, "vocab.json");
    }
    FAILS(ctx, atv_tokenizer_load(ctx, "tests/no such directory", &t), ATV_ERR_IO, "tests/no such directory");
    CHECK(t == NULL, "a failure wrote the output");
    {
        char *deep = (char *)malloc(1000000);
        memset(deep, '[', 1000000);
        FAILS(ctx, atv_tokenizer_from_json(ctx, deep, 1000000, &t), ATV_ERR_FORMAT, "nested too deep");
        free(deep);
    }
    {                                                       /* a byte that the vocabulary lacks */
        static const char json[] = "{" BYTE_LEVEL ", " MODEL "}";
        char text[8];
        MUST(ctx, atv_tokenizer_from_json(ctx, json, strlen(json), &t));
        FAILS(ctx, atv_tokenizer_encode(t, "ab z", 4, ids, 8, &n), ATV_ERR_FORMAT, "0x7A");
        CHECK(n == 77 && ids[0] == 42, "a failure wrote the output");
        ids[1] = 7;
        FAILS(ctx, atv_tokenizer_decode(t, ids, 1, 0, text, 8, &n), ATV_ERR_ARGUMENT, "ids[0]=42");
        FAILS(ctx, atv_tokenizer_decode(t, ids + 1, 1, 0, text, 8, &n), ATV_ERR_ARGUMENT, "ids[0]=7");
        CHECK(atv_tokenizer_token(t, -1, NULL) == NULL && atv_tokenizer_token(t, 7, NULL) == NULL, "there is no such token");
        CHECK(atv_tokenizer_id(t, "abc") == -1 && atv_tokenizer_id(t, " ab") == 4, "ids by bytes");
        atv_tokenizer_destroy(t);
    }
    {                                                       /* cut short, and each byte changed: an answer, whatever it is */
        static const char json[] = ADDED("\"lstrip\": true, \"single_word\": true");
        atv_rng rng = { 5 };
        size_t size = strlen(json);
        for (i = 0; i < size; i++) {
            t = NULL;
            CHECK(atv_tokenizer_from_json(ctx, json, i, &t) == ATV_ERR_FORMAT && t == NULL, "%d bytes are a tokenizer",
                  (int)i);
        }
        for (i = 0; i < 20 * size; i++) {
            char *changed = (char *)malloc(size);           /* exactly so long: a sanitizer sees reads past it */
            memcpy(changed, json, size);
            changed[i % size] = (char)(atv_rng_next(&rng) >> (i % 2 ? 56 : 57));
            t = NULL;
            if (atv_tokenizer_from_json(ctx, changed, size, &t) == ATV_OK &&
                atv_tokenizer_encode(t, "ab abc", 6, ids, 8, &n) == ATV_OK)
                CHECK(n <= 6, "%d ids", (int)n);
            atv_tokenizer_destroy(t);
            free(changed);
        }
    }
    atv_ctx_destroy(ctx);
}

/* ---- any bytes, long words, measuring ---- */

static void test_bytes(void) {
    atv_ctx *ctx = make_ctx(NULL, NULL, NULL);
    atv_tokenizer *t = NULL;
    atv_rng rng = { 11 };
    enum { LONG = 300000 };
    char *text = (char *)malloc(LONG), *back = (char *)malloc(LONG);
    int32_t *ids = (int32_t *)malloc(LONG * sizeof *ids);
    size_t n, m, size, i;
    int trial;
    MUST(ctx, atv_tokenizer_load(ctx, GOLDEN, &t));
    for (trial = 0; trial < 600; trial++) {
        size = trial < 560 ? atv_rng_below(&rng, 200) : LONG;
        for (i = 0; i < size; i++) {
            uint64_t r = atv_rng_next(&rng);
            if (trial >= 560) text[i] = " \naeZ1!\xFF<"[trial % 9];
            else if (trial % 3 == 1) text[i] = " '\nst\xC3\xA9\xE2\x82"[(r >> 32) % 9];
            else text[i] = (char)(trial % 3 == 0 ? r >> 56 : 32 + (r >> 32) % 96);
        }
        n = m = 0;
        MUST(ctx, atv_tokenizer_encode(t, text, size, ids, LONG, &n));
        MUST(ctx, atv_tokenizer_decode(t, ids, n, 0, back, LONG, &m));
        CHECK(m == size && memcmp(text, back, size) == 0, "trial %d: %d bytes come back as %d", trial, (int)size, (int)m);
        if (trial >= 40) continue;
        MUST(ctx, atv_tokenizer_encode(t, text, size, NULL, 0, &m));
        CHECK(m == n, "measured %d, not %d", (int)m, (int)n);
        for (i = 0; i < n; i++) ids[i] = -5;
        MUST(ctx, atv_tokenizer_encode(t, text, size, ids, n / 2, &m));
        for (i = 0; i < n && (ids[i] == -5) == (i >= n / 2); i++) {}
        CHECK(i == n, "cap %d: id %d is %d", (int)(n / 2), (int)i, i < n ? (int)ids[i] : 0);
        MUST(ctx, atv_tokenizer_encode(t, text, size, ids, n, &m));
        memset(back, 1, size);
        MUST(ctx, atv_tokenizer_decode(t, ids, n, 0, back, size / 2, &m));
        CHECK(m == size && memcmp(back, text, size / 2) == 0 && (size == 0 || back[size / 2] == 1), "cut decoding");
    }
    MUST(ctx, atv_tokenizer_encode(t, "<s> a</s>", 9, ids, LONG, &n));
    MUST(ctx, atv_tokenizer_decode(t, ids, n, 1, back, LONG, &m));
    CHECK(m == 2 && memcmp(back, " a", 2) == 0, "skip_special gives '%.*s'", (int)m, back);
    atv_tokenizer_destroy(t);
    free(text);
    free(back);
    free(ids);
    atv_ctx_destroy(ctx);
}

/* ---- allocations and writes that fail ---- */

static atv_result everything(atv_ctx *ctx, const char *json, size_t size, const char *text, size_t text_size) {
    static const char vocab[] = "{\"a\": 0, \"b\": 1, \"ab\": 2, \"<s>\": 3}", merges[] = "a b\n",
        config[] = "{\"eos_token\": \"<s>\"}";
    atv_tokenizer_train_desc desc;
    atv_tokenizer *t = NULL, *u = NULL, *v = NULL;
    char letters[1000];
    size_t n;
    atv_result result;
    memset(&desc, 0, sizeof desc);
    memset(letters, 'a', sizeof letters);
    desc.vocab_size = 300;
    result = atv_tokenizer_from_json(ctx, json, size, &t);
    if (result == ATV_OK) result = atv_tokenizer_encode(t, letters, sizeof letters, NULL, 0, &n);
    if (result == ATV_OK) result = atv_tokenizer_save(t, "d");
    if (result == ATV_OK)
        result = atv_tokenizer_from_vocab(ctx, vocab, strlen(vocab), merges, strlen(merges), config, strlen(config), &u);
    if (result == ATV_OK) result = atv_tokenizer_train(ctx, &desc, text, text_size, &v);
    atv_tokenizer_destroy(t);
    atv_tokenizer_destroy(u);
    atv_tokenizer_destroy(v);
    return result;
}

static void test_failures(void) {
    size_t size, text_size;
    char *json = (char *)test_read(GOLDEN "/tokenizer.json", &size);
    char *text = (char *)test_read(GOLDEN "/text.txt", &text_size);
    test_alloc alloc;
    mem_fs fs;
    atv_ctx *ctx;
    atv_result result = ATV_ERR_MEMORY;
    long made, fail;
    if (!CHECK(json && text, GOLDEN " is not complete")) return;
    memset(&alloc, 0, sizeof alloc);
    memset(&fs, 0, sizeof fs);
    ctx = make_ctx(&fs, NULL, &alloc);
    made = alloc.live;
    for (fail = 1; result == ATV_ERR_MEMORY && fail < 5000; fail++) {
        alloc.count = 0;
        alloc.fail_at = fail;
        result = everything(ctx, json, size, text, 2000);
        CHECK(result == ATV_OK || result == ATV_ERR_MEMORY, "allocation %ld failing gives '%s'", fail,
              atv_result_text(result));
        CHECK(alloc.live == made, "allocation %ld failing: %ld blocks are left", fail, alloc.live - made);
    }
    CHECK(result == ATV_OK && fail > 50, "%ld allocations", fail);
    alloc.fail_at = 0;
    result = ATV_ERR_IO;
    for (fail = 1; result == ATV_ERR_IO && fail < 100; fail++) {
        mem_clear(&fs);
        fs.ops = 0;
        fs.fail_at = fail;
        result = everything(ctx, json, size, text, 2000);
        CHECK(mem_leftovers(&fs) == 0, "operation %ld failing leaves %d temporary files", fail, mem_leftovers(&fs));
        CHECK(result == ATV_OK || result == ATV_ERR_IO, "operation %ld failing gives '%s'", fail, atv_result_text(result));
    }
    CHECK(result == ATV_OK && fail > 16, "%ld file operations", fail);
    mem_clear(&fs);
    atv_ctx_destroy(ctx);
    CHECK(alloc.live == 0, "%ld blocks are left", alloc.live);
    free(json);
    free(text);
}

/* ---- JSON ---- */

static void test_json(void) {
    static const struct { const char *text, *error; } bad[] = {
        { "", "column 1" }, { "nul", "column 1" }, { "[1,]", "column 4" }, { "{\"a\":1,}", "column 8" }, { "{\"a\" 1}",
                                                                                                          "column 6" },
        { "01", "column 2" }, { "1.", "column 3" }, { "-", "column 2" }, { ".5", "column 1" }, { "1e",
                                                                                                "column 3" }, { "+1",
                                                                                                               "column 1" },
        { "\"a", "column 3" }, { "\"\\", "column 2" }, { "\"\\u12", "column 2" }, { "\"\\x\"", "column 2" }, { "\"\x01\"",
                                                                                                              "column 2" },
        { "\"\xFF\"", "column 2" }, { "\"\xED\xA0\x80\"", "column 2" }, { "[1 2]", "column 4" }, { "[\n[1]\n", "line 3" },
        { "1 2", "column 3" }, { "{1:2}", "column 2" }, { "NaN", "column 1" }
    };
    static const struct { const char *text; int whole; int64_t value; } ints[] = {
        { "0", 1, 0 }, { "-0", 1, 0 }, { "512.0", 1, 512 }, { "1e3", 1, 1000 }, { "5.12e2", 1, 512 }, { "1e-1", 0,
                                                                                                       0 }, { "0e99", 1, 0 },
        { "9223372036854775807", 1, INT64_MAX }, { "9223372036854775808", 0, 0 }, { "-9223372036854775808", 1,
                                                                                   INT64_MIN }, { "1e19", 0, 0 },
        { "12e17", 1, 1200000000000000000 }, { "0.000000000000000000000000000000000001e36", 1, 1 }, { "1e999999999999", 0,
                                                                                                     0 }
    };
    atv_ctx *ctx = make_ctx(NULL, NULL, NULL);
    atv_rng rng = { 3 };
    atvi_json json;
    size_t i;
    int k, wrong = 0;
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(ctx, atvi_json_parse(ctx, "x.json", bad[i].text, strlen(bad[i].text), &json), ATV_ERR_FORMAT, bad[i].error);
    for (i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t value = 0;
        int whole;
        MUST(ctx, atvi_json_parse(ctx, "x.json", ints[i].text, strlen(ints[i].text), &json));
        whole = atvi_json_int(json.nodes, &value);
        CHECK(whole == ints[i].whole && (!whole || value == ints[i].value), "%s", ints[i].text);
        atvi_json_free(&json);
    }
    for (k = 0; k < 40000; k++) {                           /* against the C library, bit for bit */
        uint64_t bits = atv_rng_next(&rng), want;
        char text[400];
        double x, y, z = 0;
        int finite;
        memcpy(&x, &bits, 8);
        if (k % 4 == 0) snprintf(text, sizeof text, "%llue%d", (unsigned long long)bits >> (bits % 60),
                                 (int)(bits >> 32 & 1023) - 512);
        else if (k % 4 == 1) snprintf(text, sizeof text, "%.*f", (int)(bits % 20), (double)(int64_t)bits / 1e15);
        else if ((bits >> 52 & 2047) == 2047) continue;
        else snprintf(text, sizeof text, k % 4 == 2 ? "%.17g" : "%.30e", x);
        MUST(ctx, atvi_json_parse(ctx, "x.json", text, strlen(text), &json));
        y = strtod(text, NULL);
        memcpy(&want, &y, 8);                               /* -ffast-math knows no infinity */
        finite = (want >> 52 & 2047) != 2047;
        wrong += atvi_json_double(json.nodes, &z) != finite || (finite && memcmp(&y, &z, 8) != 0);
        atvi_json_free(&json);
    }
    CHECK(wrong == 0, "%d numbers are read wrong", wrong);
    {
        static const char text[] = "{\"a\": \"\\ud83d\\ude00\\n\\u00e9\\ud800x\", \"a\\u0062\": [1, {\"c\": null}, "
            "[]], \"d\": true, \"d\": false}";
        static const char want[] = "\xF0\x9F\x98\x80\n\xC3\xA9\xEF\xBF\xBDx";
        char out[32];
        atvi_buf buf;
        const atvi_jnode *list;
        MUST(ctx, atvi_json_parse(ctx, "x.json", text, strlen(text), &json));
        CHECK(atvi_json_unescape(atvi_json_get(json.nodes, "a"), out, 32) == strlen(want) &&
              memcmp(out, want, strlen(want)) == 0, "unescape");
        CHECK(atvi_json_unescape(atvi_json_get(json.nodes, "a"), out, 0) == strlen(want), "measuring");
        CHECK(atvi_json_equal(atvi_json_get(json.nodes, "a"), want), "equal");
        list = atvi_json_get(json.nodes, "ab");
        CHECK(list && list->count == 3 && list->span == 6 && atvi_json_get(list + 2, "c") == list + 4, "the tree");
        CHECK(atvi_json_get(json.nodes, "d")->type == ATVI_JSON_FALSE, "the last of equal names");
        CHECK(atvi_json_get(json.nodes, "e") == NULL && atvi_json_get(list, "c") == NULL &&
              atvi_json_get(NULL, "c") == NULL, "none");
        atvi_json_free(&json);
        memset(&buf, 0, sizeof buf);
        buf.ctx = ctx;
        atvi_buf_json(&buf, "a\"\\\n\t\x7F\xFF\xE2\x82x\xC3\xA9", 12);
        atvi_buf_put(&buf, "", 1);
        CHECK(strcmp(buf.data, "\"a\\\"\\\\\\n\\u0009\\u007f\xEF\xBF\xBD\xEF\xBF\xBDx\xC3\xA9\"") == 0, "quoted: %s",
              buf.data);
        atvi_buf_free(&buf);
    }
    atv_ctx_destroy(ctx);
}

int main(void) {
    const char *shared = test_shared();
    test_json();
    test_settings();
    test_wrap();
    test_bad();
    test_bytes();
    test_failures();
    test_training();
    check_directory(GOLDEN, GOLDEN "/cases.jsonl", published_flags, 0, 0, 1);
    if (shared) {
        char dir[900], cases[900];
        snprintf(dir, sizeof dir, "%s/data/tokenizer-10k", shared);
        snprintf(cases, sizeof cases, "%s/fixtures/tokenizer/cases.jsonl", shared);
        check_directory(dir, cases, "{}", 3, 1, 2);
    } else SKIP("ATTNVAR_SHARED is not set: the published tokenizer and its cases are not tested");
    return test_done("tokenizer");
}
