/* Evaluation: minimal pairs and the interval of an accuracy. */
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "test.h"

static atv_tokenizer *load_tokenizer(atv_ctx *ctx) {
    atv_tokenizer *tokenizer = NULL;
    MUST(ctx, atv_tokenizer_load(ctx, "tests/golden/tokenizer", &tokenizer));
    return tokenizer;
}

static atv_model *make_model(atv_ctx *ctx, int vocab_size) {
    atv_config config;
    atv_model *model = NULL;
    memset(&config, 0, sizeof config);
    config.vocab_size = vocab_size;
    config.max_position_embeddings = 48;
    config.hidden_size = 32;
    config.num_layers = 2;
    config.num_heads = 4;
    config.num_key_value_heads = 3;
    config.intermediate_size = 40;
    config.window_size = 5;
    config.initializer_range = 0.3;
    MUST(ctx, atv_model_create(ctx, &config, &model));
    atv_model_init(model, 7);
    return model;
}

/* ==== minimal pairs =============================================================================================== */

static const char pairs_text[] =
    "{\"sentence_good\": \"The red cat sings.\", \"sentence_bad\": \"The red cat sing.\", \"UID\": \"agree_1\", "
        "\"pair_id\": 3}\n"
    "\n \t\r\n"
    "{\"UID\": \"a \\\"b\\\" \\u00e9\", \"linguistics_term\": \"term\", \"sentence_bad\": \"Who sees the dog\\u003f\", "
        "\"sentence_good\": \"A dog sees it.\", \"simple_LM_method\": true}\r\n"
    "{\"sentence_good\": \"The same dog runs.\", \"sentence_bad\": \"The same dog runs.\", \"linguistics_term\": \"tie\"}\n"
    "{\"sentence_good\": \"The dog\", \"sentence_bad\": \"The dog runs in the house and sings to the cat.\"}\n"
    "{\"sentence_good\": \"He and she see the old house.\", \"sentence_bad\": \"He and she see.\", \"UID\": \"\"}";

static const struct { const char *good, *bad, *uid, *term; int64_t line; } pairs[5] = {
    {"The red cat sings.", "The red cat sing.", "agree_1", NULL, 1},
    {"A dog sees it.", "Who sees the dog?", "a \"b\" \xc3\xa9", "term", 4},
    {"The same dog runs.", "The same dog runs.", NULL, "tie", 5},
    {"The dog", "The dog runs in the house and sings to the cat.", NULL, NULL, 6},
    {"He and she see the old house.", "He and she see.", "", NULL, 7}};

/* log p of start + sentence, from the logits of this sentence alone. */
static double log_p(atv_work *work, atv_tokenizer *tokenizer, int start, const char *sentence) {
    atv_ctx *ctx = atv_model_ctx(work->model);
    const int V = atv_model_config(work->model)->vocab_size;
    int32_t ids[48];
    atv_real *logits = (atv_real *)malloc(48 * (size_t)V * sizeof *logits);
    atv_batch batch;
    double sum = 0, z;
    size_t n = 0, t;
    int length, v;
    if (!logits) exit(1);
    memset(&batch, 0, sizeof batch);
    ids[0] = start;
    MUST(ctx, atv_tokenizer_encode(tokenizer, sentence, strlen(sentence), ids + 1, 47, &n));
    length = (int)n + 1;
    batch.ids = ids;
    batch.lengths = &length;
    batch.n_seq = 1;
    MUST(ctx, atv_forward(work, &batch, logits));
    for (t = 0; t < n; t++) {
        for (z = 0, v = 0; v < V; v++) z += exp((double)logits[t * (size_t)V + (size_t)v]);
        sum += (double)logits[t * (size_t)V + (size_t)ids[t + 1]] - log(z);
    }
    free(logits);
    return sum;
}

typedef struct told { int n, stop_at; atv_pair pair[8]; char uid[8][32], term[8][32]; } told;

static int on_pair(void *user, const atv_pair *pair) {
    told *t = (told *)user;
    t->pair[t->n] = *pair;
    snprintf(t->uid[t->n], sizeof t->uid[0], "%s", pair->uid ? pair->uid : "none");
    snprintf(t->term[t->n], sizeof t->term[0], "%s", pair->linguistics_term ? pair->linguistics_term : "none");
    return ++t->n == t->stop_at;
}

static void test_pairs(void) {
    static const atv_work_desc sizes[3] = {{0, 0, 0}, {64, 2, 0}, {46, 4, 0}};     /* all at once; a pair at a time; two */
    atv_ctx *ctx = NULL;
    atv_tokenizer *tokenizer;
    atv_model *model;
    int s, i, how, end;
    MUST(NULL, atv_ctx_create(NULL, &ctx));
    tokenizer = load_tokenizer(ctx);
    model = make_model(ctx, atv_tokenizer_vocab_size(tokenizer));
    end = atv_tokenizer_eos(tokenizer);
    for (how = 0; how < 2; how++) {
        double good[5], bad[5];
        told first;
        int correct = 0;
        const int start = how ? 9 : end;
        memset(&first, 0, sizeof first);
        for (s = 0; s < 3; s++) {
            atv_pairs_desc desc;
            atv_pairs_result result = {-1, -1};
            atv_work *work = NULL;
            told t;
            memset(&t, 0, sizeof t);
            memset(&desc, 0, sizeof desc);
            desc.on_pair = on_pair;
            desc.user = &t;
            desc.has_start_token = desc.no_space = how;
            desc.start_token = 9;
            MUST(ctx, atv_work_create(model, &sizes[s], &work));
            for (i = 0; s == 0 && i < 5; i++) {
                char sentence[80];
                snprintf(sentence, sizeof sentence, "%s%s", how ? "" : " ", pairs[i].good);
                good[i] = log_p(work, tokenizer, start, sentence);
                snprintf(sentence, sizeof sentence, "%s%s", how ? "" : " ", pairs[i].bad);
                bad[i] = log_p(work, tokenizer, start, sentence);
                correct += good[i] >= bad[i];
            }
            MUST(ctx, atv_eval_pairs(work, tokenizer, pairs_text, sizeof pairs_text - 1, &desc, &result));
            CHECK(result.pairs == 5 && result.correct == correct && t.n == 5, "%d: %d pairs, %d correct, not %d; %d told", s,
                  (int)result.pairs, (int)result.correct, correct, t.n);
            for (i = 0; i < 5; i++) {
                const atv_pair *p = &t.pair[i];
                CHECK(fabs(p->good - good[i]) < 1e-4 && fabs(p->bad - bad[i]) < 1e-4, "pair %d: %.7g %.7g, not %.7g %.7g", i,
                      p->good, p->bad, good[i], bad[i]);
                CHECK(p->correct == (p->good >= p->bad) && p->line == pairs[i].line, "pair %d: correct %d, line %d", i,
                      p->correct, (int)p->line);
                CHECK(strcmp(t.uid[i], pairs[i].uid ? pairs[i].uid : "none") == 0, "pair %d: UID %s", i, t.uid[i]);
                CHECK(strcmp(t.term[i], pairs[i].term ? pairs[i].term : "none") == 0, "pair %d: term %s", i, t.term[i]);
                CHECK(s == 0 || (p->good == first.pair[i].good && p->bad == first.pair[i].bad), "pair %d: other bits when "
                      "other pairs wait beside it", i);
            }
            CHECK(t.pair[2].good == t.pair[2].bad && t.pair[2].correct == 1, "equal sentences are no tie");
            if (s == 0) first = t;
            atv_work_destroy(work);
        }
        CHECK(correct >= 2 && correct <= 4, "%d of 5 correct: this model tells nothing", correct);
    }
    atv_model_destroy(model);
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);
}

static void test_bad_pairs(void) {
    static const struct { const char *text, *error; atv_result code; } bad[] = {
        {"{\"sentence_good\": \"a\"}", "line 1: no sentence_bad", ATV_ERR_FORMAT},
        {"\n\n{\"sentence_bad\": \"a\"}", "line 3: no sentence_good", ATV_ERR_FORMAT},
        {"{\"sentence_good\": \"a\", \"sentence_bad\": 3}", "line 1: not a string: sentence_bad", ATV_ERR_FORMAT},
        {"{\"sentence_good\": \"a\", \"sentence_bad\": \"b\", \"UID\": null}", "line 1: not a string: UID", ATV_ERR_FORMAT},
        {"{\"sentence_good\": \"a\", \"sentence_bad\": \"b\", \"linguistics_term\": [1]}", "linguistics_term",
         ATV_ERR_FORMAT},
        {"[1]", "line 1: no sentence_good", ATV_ERR_FORMAT},
        {"{\"sentence_good\": \"a\", \"sentence_bad\": \"b\"}\n{\"sentence_good\": \"a\" 1}",
         "line 2 column 23", ATV_ERR_FORMAT},
        {"{\"sentence_good\": \"a\", \"sentence_bad\": \"a a a a a a a a a a a a a a a a a a a a a a a a a a a\"}",
         "half of max_tokens=40", ATV_ERR_FULL}};
    const atv_work_desc size = {40, 4, 0}, one = {40, 1, 0};
    const char *fine = "{\"sentence_good\": \"a\", \"sentence_bad\": \"b\"}\n"
                       "{\"sentence_good\": \"a\", \"sentence_bad\": \"b\"}";
    atv_ctx *ctx = NULL;
    atv_pairs_result result = {-5, -5};
    atv_tokenizer *tokenizer;
    atv_pairs_desc desc;
    atv_model *model;
    atv_work *work = NULL;
    size_t i, now, peak;
    told t;
    MUST(NULL, atv_ctx_create(NULL, &ctx));
    tokenizer = load_tokenizer(ctx);
    model = make_model(ctx, atv_tokenizer_vocab_size(tokenizer));
    MUST(ctx, atv_work_create(model, &size, &work));
    atv_memory(ctx, &now, &peak);
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        FAILS(ctx, atv_eval_pairs(work, tokenizer, bad[i].text, strlen(bad[i].text), NULL, &result), bad[i].code,
              bad[i].error);
    memset(&desc, 0, sizeof desc);
    memset(&t, 0, sizeof t);
    t.stop_at = 1;
    desc.on_pair = on_pair;
    desc.user = &t;
    FAILS(ctx, atv_eval_pairs(work, tokenizer, fine, strlen(fine), &desc, &result), ATV_ERR_STOPPED, "line 1");
    CHECK(t.n == 1, "on_pair is called %d times, though it stopped at the first", t.n);
    desc.has_start_token = 1;
    desc.start_token = -1;
    FAILS(ctx, atv_eval_pairs(work, tokenizer, fine, strlen(fine), &desc, &result), ATV_ERR_ARGUMENT, "start_token=-1");
    CHECK(result.pairs == -5 && result.correct == -5, "the result is touched on failure");
    MUST(ctx, atv_eval_pairs(work, tokenizer, " \n", 2, NULL, &result));
    CHECK(result.pairs == 0 && result.correct == 0, "an empty text has %d pairs", (int)result.pairs);
    i = now;
    atv_memory(ctx, &now, &peak);
    CHECK(now == i, "%d bytes are left behind", (int)(now - i));
    atv_work_destroy(work);
    MUST(ctx, atv_work_create(model, &one, &work));
    FAILS(ctx, atv_eval_pairs(work, tokenizer, fine, strlen(fine), NULL, &result), ATV_ERR_FULL, "max_seqs=1");
    atv_work_destroy(work);
    atv_model_destroy(model);
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);
}

/* Newcombe 1998, Statistics in Medicine 17, table I, method 3. */
static void test_interval(void) {
    static const struct { int correct, n; double low, high; } known[] = {
        {81, 263, 0.2553, 0.3662}, {15, 148, 0.0624, 0.1605}, {0, 20, 0, 0.1611}, {1, 29, 0.0061, 0.1718}, {0, 0, 0, 1}};
    size_t i;
    for (i = 0; i < sizeof known / sizeof *known; i++) {
        double low, high, low2, high2;
        int n = known[i].n;
        atv_interval(known[i].correct, n, &low, &high);
        CHECK(fabs(low - known[i].low) < 5.01e-5 && fabs(high - known[i].high) < 5.01e-5, "%d of %d: %.6f .. %.6f",
              known[i].correct, n, low, high);
        atv_interval(n - known[i].correct, n, &low2, &high2);
        CHECK(fabs(1 - high2 - low) < 1e-15 && fabs(1 - low2 - high) < 1e-15, "%d of %d is no mirror image",
              known[i].correct, n);
    }
}

int main(void) {
    test_pairs();
    test_bad_pairs();
    test_interval();
    return test_done("eval");
}
