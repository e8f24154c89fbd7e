/* Evaluation: minimal pairs, the interval of an accuracy, tasks of classification and their metrics. */
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
static double log_p(atv_work *work, const atv_model *model, atv_tokenizer *tokenizer, int start, const char *sentence) {
    atv_ctx *ctx = atv_model_ctx(model);
    const int V = atv_model_config(model)->vocab_size;
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
                good[i] = log_p(work, model, tokenizer, start, sentence);
                snprintf(sentence, sizeof sentence, "%s%s", how ? "" : " ", pairs[i].bad);
                bad[i] = log_p(work, model, tokenizer, start, sentence);
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
        {"[1]", "line 1: an array begins here, but each line", ATV_ERR_FORMAT},
        {"\n\"a\"", "line 2: no object, but each line", ATV_ERR_FORMAT},
        {"\xEF\xBB\xBF{}", "line 1 column 1: a byte order mark", ATV_ERR_FORMAT},
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

/* ==== tasks ======================================================================================================= */

/* What transformers 4.40 makes of the same texts with truncation=True: GPT2Tokenizer (wrap 0) and the fast one of
   tokenizer.json (wrap 1). */
static const struct { const char *fields, *line; int max_length, wrap, n, ids[44]; } examples[] = {
#define ONE "{\"sentence\": \"The red cat sings.\", \"label\": 0}"
    {"sentence", ONE, 0, 0, 9, {288, 342, 267, 390, 271, 295, 75, 87, 18}},
    {"sentence", ONE, 0, 1, 11, {0, 288, 342, 267, 390, 271, 295, 75, 87, 18, 1}},
    {"sentence", "{\"label\": 0, \"sentence\": \"The red cat sings in the house.\"}", 5, 0, 5, {288, 342, 267, 390, 271}},
    {"text", "{\"idx\": 3, \"text\": \"The red cat sings in the house.\", \"label\": 0}", 5, 1, 5, {0, 288, 342, 267, 1}},
#define PAIR "{\"sentence2\": \"A dog sees it.\", \"label\": 0, \"sentence1\": \"The cat runs.\"}"
    {"sentence1 sentence2", PAIR, 0, 0, 12, {288, 390, 342, 310, 87, 18, 37, 384, 419, 87, 304, 18}},
    {"sentence1 sentence2", PAIR, 0, 1, 16, {0, 288, 390, 342, 310, 87, 18, 1, 1, 37, 384, 419, 87, 304, 18, 1}},
#define LONG_A "{\"question1\": \"the cat sees the dog and the cat sees it again\", " \
    "\"question2\": \"the dog runs.\", \"label\": 1}"
    {"question1 question2", LONG_A, 11, 0, 11, {398, 390, 419, 87, 263, 384, 398, 384, 342, 310, 87}},
    {"question1 question2", LONG_A, 11, 1, 11, {0, 398, 390, 419, 87, 1, 1, 398, 384, 342, 1}},
#define LONG_B "{\"premise\": \"the dog runs.\", " \
    "\"hypothesis\": \"the cat sees the dog and the cat sees it again\", \"label\": 1}"
    {"premise hypothesis", LONG_B, 11, 0, 11, {398, 384, 342, 310, 87, 18, 398, 390, 419, 87, 263}},
    {"premise hypothesis", LONG_B, 11, 1, 11, {0, 398, 384, 342, 1, 1, 398, 390, 419, 87, 1}},
#define BOTH(a, x, b, y) "{\"" a "\": \"" x "\", \"" b "\": \"" y "\", \"label\": true}"
#define SEES "the cat sees the dog and the cat sees it"
#define OLD "the old dog and the old cat and the dog and it run"
    {"question passage", BOTH("question", SEES, "passage", OLD), 11, 0, 11,
     {398, 390, 419, 87, 263, 384, 398, 578, 80, 72, 384}},
    {"question sentence", BOTH("question", SEES, "sentence", OLD), 11, 1, 11, {0, 398, 390, 419, 1, 1, 398, 578, 80, 72, 1}},
    {"question passage", BOTH("passage", SEES, "question", OLD), 11, 0, 11,
     {398, 578, 80, 72, 384, 275, 398, 390, 419, 87, 263}},
    {"question passage", BOTH("question", OLD, "passage", SEES), 11, 1, 11, {0, 398, 578, 80, 72, 1, 1, 398, 390, 419, 1}},
    {"span2_text span1_text text", "{\"text\": \"The cat sees her.\", \"span1_text\": \"the old cat\", \"span1_index\": 0, "
     "\"span2_text\": \"her\", \"span2_index\": 3, \"label\": 1}", 0, 0, 39,
     {368, 73, 87, 278, 261, 86, 6, 225, 270, 74, 322, 294, 278, 398, 578, 80, 72, 390, 6, 354, 262, 76, 344, 343, 69, 87,
      87, 69, 75, 73, 35, 288, 390, 419, 87, 225, 261, 86, 18}},
    {"question answer paragraph", "{\"paragraph\": \"It runs.\", \"question\": \"Who runs?\", \"answer\": \"the dog\", "
     "\"label\": 0}", 0, 1, 32,
     {0, 53, 89, 73, 440, 77, 274, 30, 225, 59, 359, 342, 310, 87, 35, 504, 82, 87, 91, 322, 30, 263, 384, 1, 1, 45, 88, 342,
      310, 87, 18, 1}}};

static void test_examples(void) {
    atv_ctx *ctx = NULL;
    atv_tokenizer *tokenizer;
    size_t e;
    int i;
    MUST(NULL, atv_ctx_create(NULL, &ctx));
    tokenizer = load_tokenizer(ctx);
    for (e = 0; e < sizeof examples / sizeof *examples; e++) {
        const atv_data *data;
        atv_task_desc desc;
        atv_task *task = NULL;
        memset(&desc, 0, sizeof desc);
        desc.max_length = examples[e].max_length;
        desc.wrap = examples[e].wrap;
        MUST(ctx, atv_task_from_memory(tokenizer, examples[e].line, strlen(examples[e].line), &desc, &task));
        data = atv_task_data(task);
        CHECK(strcmp(atv_task_fields(task), examples[e].fields) == 0, "example %d is of %s", (int)e, atv_task_fields(task));
        if (CHECK(data->n_docs == 1 && data->lengths[0] == examples[e].n, "example %d: %d documents, of %d tokens", (int)e,
                  data->n_docs, data->lengths[0]))
            for (i = 0; i < examples[e].n; i++)
                CHECK(data->ids[i] == examples[e].ids[i], "example %d: token %d is %d", (int)e, i, (int)data->ids[i]);
        atv_task_destroy(task);
    }
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);
}

/* Real files: how many examples, how many of label 1, and of the tokens that transformers 4.40 makes the number and the sum
   of (place in the example from 1) x id: the fast tokenizer's, put together by the slow one, then by the fast one. (The slow
   one by itself gives <unk> in 12 texts, where merges.txt has a merge that vocab.json lacks.) */
static void test_real_tasks(void) {
    static const struct { const char *name; int max_length, n_docs, ones, tokens[2]; long long sum[2]; } files[] = {
        {"cola.train", 0, 8164, 5766, {88287, 104615}, {937155234, 1084632713}},
        {"cola.train", 41, 8164, 5766, {88267, 104589}, {935632221, 1082646323}},
        {"cola.validation", 0, 1019, 708, {11303, 13341}, {122644425, 141317511}},
        {"mrpc.train", 0, 1579, 1113, {84640, 90956}, {4693308480, 5019512952}},
        {"mrpc.train", 41, 1579, 1113, {62656, 63703}, {2458690692, 2300577593}},
        {"mrpc.validation", 0, 177, 123, {9409, 10117}, {501970699, 537239773}},
        {"rte.train", 0, 858, 425, {48492, 51777}, {3084770998, 3193930432}},
        {"rte.train", 41, 858, 425, {33115, 33928}, {1267170536, 1175506983}},
        {"rte.validation", 0, 99, 49, {5474, 5870}, {321488524, 336845679}}};
    const char *shared = test_shared();
    atv_ctx *ctx = NULL;
    atv_tokenizer *tokenizer = NULL;
    size_t f;
    int i, t;
    if (!shared) {
        SKIP("CoLA, MRPC and RTE: ATTNVAR_SHARED is not set");
        return;
    }
    MUST(NULL, atv_ctx_create(NULL, &ctx));
    MUST(ctx, atv_tokenizer_load(ctx, test_path("%s/data/tokenizer-10k", shared), &tokenizer));
    for (f = 0; f < 2 * sizeof files / sizeof *files; f++) {
        const int wrap = (int)f % 2;
        const char *path = test_path("%s/data/glue/%s.json", shared, files[f / 2].name);
        const atv_data *data;
        const int32_t *id;
        long long sum = 0, tokens = 0, ones = 0;
        atv_task_desc desc;
        atv_task *task = NULL;
        memset(&desc, 0, sizeof desc);
        desc.max_length = files[f / 2].max_length;
        desc.wrap = wrap;
        MUST(ctx, atv_task_load(tokenizer, path, &desc, &task));
        data = atv_task_data(task);
        for (i = 0, id = data->ids; i < data->n_docs; i++) {
            ones += data->labels[i] == 1;
            tokens += data->lengths[i];
            for (t = 1; t <= data->lengths[i]; t++) sum += (long long)t * *id++;
        }
        CHECK(data->n_docs == files[f / 2].n_docs && ones == files[f / 2].ones, "%s: %d examples, %lld of label 1", path,
              data->n_docs, ones);
        CHECK(tokens == files[f / 2].tokens[wrap] && sum == files[f / 2].sum[wrap], "%s, wrap %d: %lld tokens, sum %lld",
              path, wrap, tokens, sum);
        atv_task_destroy(task);
    }
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);
}

/* Lines with these labels. */
static const char *labelled(const char *labels) {
    static char text[2048];
    size_t n = 0;
    while (*labels) {
        size_t length = strcspn(labels, " ");
        n += (size_t)snprintf(text + n, sizeof text - n, "{\"sentence\": \"a cat\", \"label\": %.*s}\n", (int)length,
                              labels);
        labels += length + strspn(labels + length, " ");
    }
    return text;
}

static void test_labels(void) {
    static const char *const given[3] = {"no", "yes", "10"};
    static const struct { const char *labels, *names; int given, numbers[6]; } cases[] = {
        {"10 9 -2 10 -1 9", "-2 9 10", 0, {2, 1, 0, 2, -100, 1}},
        {"\"b\" \"\\u00e9\" \"ab\" \"a\" \"b\"", "a ab b \xc3\xa9", 0, {2, 3, 1, 0, 2}},
        {"true false true", "false true", 0, {1, 0, 1}},
        {"1 1 1", "1", 0, {0, 0, 0}},
        {"\"yes\" \"no\" 10 -1", "no yes 10", 1, {1, 0, 2, -100}}};
    atv_ctx *ctx = NULL;
    atv_tokenizer *tokenizer;
    size_t c;
    int i, n;
    MUST(NULL, atv_ctx_create(NULL, &ctx));
    tokenizer = load_tokenizer(ctx);
    for (c = 0; c < sizeof cases / sizeof *cases; c++) {
        const char *text = labelled(cases[c].labels), *const *names;
        const atv_data *data;
        char all[64] = "";
        atv_task_desc desc;
        atv_task *task = NULL;
        memset(&desc, 0, sizeof desc);
        if (cases[c].given) desc.labels = given;
        desc.n_labels = 3;
        MUST(ctx, atv_task_from_memory(tokenizer, text, strlen(text), &desc, &task));
        data = atv_task_data(task);
        names = atv_task_labels(task, &n);
        for (i = 0; i < n; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? " " : "", names[i]);
        CHECK(strcmp(all, cases[c].names) == 0, "labels %s: %s", cases[c].labels, all);
        for (i = 0; i < data->n_docs; i++)
            CHECK(data->labels[i] == cases[c].numbers[i], "labels %s: %d is %d", cases[c].labels, i, (int)data->labels[i]);
        atv_task_destroy(task);
    }
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);
}

static void test_bad_tasks(void) {
    static const char *const given[2] = {"0", "1"};
#define A1 "{\"sentence\": \"a\", \"label\": 1}"
    static const struct { const char *text, *error; atv_result code; int given, max_length, wrap; } bad[] = {
        {"", "no examples: it is empty", ATV_ERR_FORMAT, 0, 0, 0},
        {" \n\r\n", "no examples: blank lines alone", ATV_ERR_FORMAT, 0, 0, 0},
        {"[]", "line 1: an array begins here, but each line is to be one object", ATV_ERR_FORMAT, 0, 0, 0},
        {"\n [\n" A1 "\n]", "line 2: an array begins here", ATV_ERR_FORMAT, 0, 0, 0},
        {A1 ",\n" A1, "line 1 column 30: more text after the value; each line", ATV_ERR_FORMAT, 0, 0, 0},
        {"{\r\n\"sentence\": \"a\"}", "line 1 column 3: a member's name is missing; each line", ATV_ERR_FORMAT, 0, 0, 0},
        {"3", "line 1: no object, but each line", ATV_ERR_FORMAT, 0, 0, 0},
        {"\xEF\xBB\xBF" A1, "line 1 column 1: a byte order mark", ATV_ERR_FORMAT, 0, 0, 0},
        {"{\"sentence3\": \"a\", \"label\": 1}", "line 1: its fields", ATV_ERR_FORMAT, 0, 0, 0},
        {"\n{\"sentence\": \"a\"}", "line 2: no label", ATV_ERR_FORMAT, 0, 0, 0},
        {"{\"sentence\": \"a\", \"label\": 0.5}", "label=0.5", ATV_ERR_UNSUPPORTED, 0, 0, 0},
        {"{\"sentence\": \"a\", \"label\": null}", "line 1: label=null", ATV_ERR_FORMAT, 0, 0, 0},
        {"{\"sentence\": \"a\", \"label\": [1]}", "line 1: label=", ATV_ERR_FORMAT, 0, 0, 0},
        {"{\"sentence\": \"a\", \"label\": \"\"}", "line 1: label=\"\" is empty", ATV_ERR_FORMAT, 0, 0, 0},
        {"{\"sentence\": \"a\", \"label\": \"a\\u0000\"}", "line 1: label=\"a\\u0000\" has a character 0",
         ATV_ERR_FORMAT, 0, 0, 0},
        {A1 "\n{\"sentence\": \"a\", \"label\": \"1\"}", "line 2: label=1 is of another type",
         ATV_ERR_FORMAT, 0, 0, 0},
        {A1 "\n{\"sentence\": 4, \"label\": 1}", "line 2: not a string: sentence",
         ATV_ERR_FORMAT, 0, 0, 0},
        {"{\"sentence1\": \"a\", \"sentence2\": \"b\", \"label\": 1}\n\n{\"sentence1\": \"a\", \"label\": 1}",
         "line 3: no sentence2", ATV_ERR_FORMAT, 0, 0, 0},
        {A1 "\n{\"sentence\": \"a\", \"label\": 2}", "line 2: label=2 is none of the 2 from 0 to 1",
         ATV_ERR_FORMAT, 1, 0, 0},
        {A1 "\n{\"sentence\": \"a\" \"label\": 2}", "line 2 column 18", ATV_ERR_FORMAT, 0, 0, 0},
        {"{\"sentence\": \"\", \"label\": 1}", "line 1: sentence: no text", ATV_ERR_FORMAT, 0, 0, 0},
        {A1, "max_length=2 has no room", ATV_ERR_ARGUMENT, 0, 2, 1},
        {A1, "max_length=-1", ATV_ERR_ARGUMENT, 0, -1, 0}};
    test_alloc memory;
    atv_ctx_desc cd;
    atv_ctx *ctx = NULL;
    atv_tokenizer *tokenizer;
    atv_task *task = NULL;
    size_t i, now, after, peak;
    MUST(NULL, atv_ctx_create(NULL, &ctx));
    tokenizer = load_tokenizer(ctx);
    atv_memory(ctx, &now, &peak);
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        atv_task_desc desc;
        memset(&desc, 0, sizeof desc);
        desc.max_length = bad[i].max_length;
        desc.wrap = bad[i].wrap;
        if (bad[i].given) desc.labels = given;
        desc.n_labels = 2;
        FAILS(ctx, atv_task_from_memory(tokenizer, bad[i].text, strlen(bad[i].text), &desc, &task), bad[i].code,
              bad[i].error);
        CHECK(task == NULL, "a task is made of %s", bad[i].text);
    }
    FAILS(ctx, atv_task_load(tokenizer, "tests/golden/tokenizer/cases.jsonl", NULL, &task), ATV_ERR_FORMAT,
          "cases.jsonl: line 1: ");
    FAILS(ctx, atv_task_load(tokenizer, "tests/golden/none.json", NULL, &task), ATV_ERR_IO, "none.json");
    atv_memory(ctx, &after, &peak);
    CHECK(after == now, "%d bytes are left behind", (int)(after - now));
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);

    memset(&memory, 0, sizeof memory);                      /* every allocation fails once */
    memset(&cd, 0, sizeof cd);
    cd.allocator.user = &memory;
    cd.allocator.alloc = test_alloc_get;
    cd.allocator.free = test_alloc_put;
    MUST(NULL, atv_ctx_create(&cd, &ctx));
    tokenizer = load_tokenizer(ctx);
    for (i = 1; ; i++) {
        atv_result r;
        long live = memory.live;
        memory.count = 0;
        memory.fail_at = (long)i;
        task = NULL;
        r = atv_task_from_memory(tokenizer, LONG_B, strlen(LONG_B), NULL, &task);
        memory.fail_at = 0;
        CHECK(r == ATV_OK || memory.live == live, "allocation %d fails: %ld blocks stay", (int)i, memory.live - live);
        if (r == ATV_OK) break;
        CHECK(r == ATV_ERR_MEMORY && task == NULL, "allocation %d fails: %s", (int)i, atv_last_error(ctx));
    }
    CHECK(i > 5, "a task is read with %d allocations", (int)i);
    atv_task_destroy(task);
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);
}

/* ==== metrics ===================================================================================================== */

/* scikit-learn's accuracy_score, f1_score (binary; of more labels macro) and matthews_corrcoef, and the best of the first
   two over constant answers. */
static void test_metrics(void) {
    static const struct { int n, num_labels; int32_t labels[12], predicted[12]; double want[3], baseline[2]; } cases[] = {
        {10, 2, {1, 0, 1, 1, 0, 1, 0, 0, 1, 1}, {1, 0, 0, 1, 1, 1, 0, 1, 1, 1}, {0.7, 0.7692307692, 0.3563483225},
         {0.6, 0.75}},
        {12, 2, {1, 0, 1, -1, 1, 0, 1, 0, -100, 0, 1, 1}, {1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1},
         {0.7, 0.7692307692, 0.3563483225}, {0.6, 0.75}},
        {4, 2, {0, 0, 1, 0}, {0, 0, 0, 0}, {0.75, 0, 0}, {0.75, 0.4}},
        {5, 2, {1, 1, 0, 1, 1}, {1, 1, 1, 1, 1}, {0.8, 0.8888888889, 0}, {0.8, 0.8888888889}},
        {11, 3, {0, 1, 2, 2, 1, 0, 2, 1, 1, 0, 2}, {0, 2, 2, 2, 1, 1, 2, 0, 1, 0, 1}, {0.6363636364, 0.6388888889, 0.45},
         {0.3636363636, 0.1777777778}}};
    size_t c;
    for (c = 0; c < sizeof cases / sizeof *cases; c++) {
        atv_metrics m, b;
        atv_measure(cases[c].labels, cases[c].predicted, cases[c].n, cases[c].num_labels, &m, &b);
        CHECK(fabs(m.accuracy - cases[c].want[0]) < 1e-9 && fabs(m.f1 - cases[c].want[1]) < 1e-9 &&
              fabs(m.mcc - cases[c].want[2]) < 1e-9, "case %d: %.10f %.10f %.10f", (int)c, m.accuracy, m.f1, m.mcc);
        CHECK(fabs(b.accuracy - cases[c].baseline[0]) < 1e-9 && fabs(b.f1 - cases[c].baseline[1]) < 1e-9 && b.mcc == 0,
              "case %d: baseline %.10f %.10f %.10f", (int)c, b.accuracy, b.f1, b.mcc);
        CHECK(atv_metrics_get(&m, ATV_METRIC_AUTO) == m.accuracy && atv_metrics_get(&m, ATV_METRIC_ACCURACY) == m.accuracy &&
              atv_metrics_get(&m, ATV_METRIC_F1) == m.f1 && atv_metrics_get(&m, ATV_METRIC_MCC) == m.mcc, "case %d: get",
              (int)c);
    }
    CHECK(strcmp(atv_metric_name(ATV_METRIC_MCC), "mcc") == 0, "mcc is called %s", atv_metric_name(ATV_METRIC_MCC));
}

/* ==== fine-tuning ================================================================================================= */

/* Sentences of the golden tokenizer's words; those with "red" have label 1 (n lines from a stream). */
static char *made_up(int n, uint64_t seed) {
    static const char *const who[] = {"cat", "dog", "fox", "hen"}, *const does[] = {"runs", "sees it", "sings", "sleeps"};
    static const char *const how[] = {"old", "big", "sad", "shy"};
    char *text = (char *)malloc((size_t)n * 128);
    size_t size = 0;
    atv_rng rng;
    int i, k;
    if (!text) exit(1);
    rng.state = seed;
    for (i = 0; i < n; i++) {
        const int label = (int)atv_rng_below(&rng, 2), at = (int)atv_rng_below(&rng, 3);
        size += (size_t)snprintf(text + size, 128, "{\"label\": \"%s\", \"sentence\": \"", label ? "with" : "absent");
        for (k = 0; k < 3; k++)
            size += (size_t)snprintf(text + size, 128, "the %s %s %s. ",
                                     label && k == at ? "red" : how[atv_rng_below(&rng, 4)],
                                     who[atv_rng_below(&rng, 4)], does[atv_rng_below(&rng, 4)]);
        size += (size_t)snprintf(text + size, 128, "\"}\n");
    }
    return text;
}

typedef struct tuned { int steps, evals, stop_at, stop_after; atv_finetune_eval eval[64]; } tuned;
static int on_eval(void *user, const atv_finetune_eval *e) {
    tuned *t = (tuned *)user;
    t->eval[t->evals] = *e;
    return ++t->evals == t->stop_after;
}
static int on_step(void *user, const atv_step *s) {
    tuned *t = (tuned *)user;
    t->steps++;
    return s->step == t->stop_at;
}

static atv_model *make_classifier(atv_ctx *ctx, int vocab_size) {
    atv_model *language = make_model(ctx, vocab_size), *model = NULL;
    MUST(ctx, atv_model_classifier(language, 2, 3, &model));
    atv_model_destroy(language);
    return model;
}

static double accuracy_of(atv_model *model, const atv_data *data) {
    atv_ctx *ctx = atv_model_ctx(model);
    int32_t *predicted = (int32_t *)malloc((size_t)data->n_docs * sizeof *predicted);
    atv_metrics m;
    atv_work *work = NULL;
    if (!predicted) exit(1);
    MUST(ctx, atv_work_create(model, NULL, &work));
    MUST(ctx, atv_classify(work, data, predicted, NULL));
    atv_measure(data->labels, predicted, data->n_docs, 2, &m, NULL);
    atv_work_destroy(work);
    free(predicted);
    return m.accuracy;
}

static void test_finetune(void) {
    atv_finetune_desc desc = atv_finetune_babylm();
    atv_finetune_result result;
    char *train_text = made_up(600, 5), *valid_text = made_up(100, 6);
    atv_task *train = NULL, *valid = NULL;
    atv_task_desc td;
    const atv_data *td_train, *td_valid;
    atv_ctx *ctx = NULL;
    atv_tokenizer *tokenizer;
    atv_model *model, *again;
    size_t bytes, before, now, peak;
    int i, best = 0, since = 0;
    tuned t;
    CHECK(desc.trainer.batch == 64 && desc.trainer.learning_rate == 5e-5 && desc.trainer.schedule == ATV_SCHEDULE_LINEAR &&
          desc.trainer.max_grad_norm == 1 && desc.trainer.warmup_steps == 0 && desc.trainer.weight_decay == 0 &&
          desc.max_epochs == 10 && desc.eval_every == 200 && desc.patience == 10 && desc.min_improvement == 0.001,
          "the BabyLM recipe is another");
    MUST(NULL, atv_ctx_create(NULL, &ctx));
    tokenizer = load_tokenizer(ctx);
    MUST(ctx, atv_task_from_memory(tokenizer, train_text, strlen(train_text), NULL, &train));
    memset(&td, 0, sizeof td);
    td.labels = atv_task_labels(train, &td.n_labels);
    MUST(ctx, atv_task_from_memory(tokenizer, valid_text, strlen(valid_text), &td, &valid));
    td_train = atv_task_data(train);
    td_valid = atv_task_data(valid);
    model = make_classifier(ctx, atv_tokenizer_vocab_size(tokenizer));
    CHECK(accuracy_of(model, td_valid) < 0.75, "accuracy is %g before any training", accuracy_of(model, td_valid));
    memset(&t, 0, sizeof t);
    desc.trainer.learning_rate = 6e-3;
    desc.trainer.batch = 32;
    desc.max_epochs = 8;                                    /* of 19 steps */
    desc.eval_every = 10;
    desc.patience = 0;
    desc.on_eval = on_eval;
    desc.on_step = on_step;
    desc.user = &t;
    MUST(ctx, atv_finetune_bytes(model, td_train, td_valid, &desc, &bytes));
    atv_memory(ctx, &before, &peak);
    MUST(ctx, atv_finetune(model, td_train, td_valid, &desc, &result));
    atv_memory(ctx, &now, &peak);
    CHECK(now == before, "%d bytes are left behind", (int)(now - before));
    CHECK(peak >= before + bytes && peak - before - bytes < 8192, "%d bytes at most, told are %d", (int)(peak - before),
          (int)bytes);
    CHECK(result.best.metrics.accuracy > 0.9 && result.best.metric == ATV_METRIC_F1 && result.best.score > 0.9,
          "accuracy %g after fine-tuning, F1 %g", result.best.metrics.accuracy, result.best.score);
    CHECK(result.steps == 152 && t.steps == 152 && result.epochs == 8 && !result.early, "%d steps, %g epochs, early %d",
          (int)result.steps, result.epochs, result.early);
    CHECK(result.evals == 16 && t.evals == 16 && t.eval[15].step == 152 && t.eval[0].step == 10, "%d evaluations", t.evals);
    for (i = 0; i < t.evals; i++) {
        if (i == 0 || t.eval[i].score > t.eval[best].score) best = i;
        CHECK(t.eval[i].best == (best == i), "evaluation %d: best %d", i, t.eval[i].best);
        CHECK(t.eval[i].baseline.accuracy >= 0.5 && t.eval[i].baseline.accuracy < 0.6 &&
              t.eval[i].epoch == (double)t.eval[i].step / 19, "evaluation %d: baseline %g, epoch %g", i,
              t.eval[i].baseline.accuracy, t.eval[i].epoch);
    }
    CHECK(result.best.step == t.eval[best].step, "best at %d, told %d", (int)result.best.step, (int)t.eval[best].step);
    CHECK(accuracy_of(model, td_valid) == result.best.metrics.accuracy, "the model's accuracy is %g, the best was %g",
          accuracy_of(model, td_valid), result.best.metrics.accuracy);
    CHECK(t.eval[0].train_loss > 0.3 && t.eval[14].train_loss < 0.5 * t.eval[0].train_loss, "losses %g .. %g",
          t.eval[0].train_loss, t.eval[14].train_loss);

    /* ended by callbacks, and by patience: a rate of 0 keeps the first evaluation */
    again = make_classifier(ctx, atv_tokenizer_vocab_size(tokenizer));
    t.stop_at = 30;
    t.evals = t.steps = 0;
    MUST(ctx, atv_finetune(again, td_train, td_valid, &desc, &result));
    CHECK(result.steps == 30 && result.early && t.evals == 3, "stopped after %d, %d evaluations", (int)result.steps,
          t.evals);
    atv_model_destroy(again);
    again = make_classifier(ctx, atv_tokenizer_vocab_size(tokenizer));
    t.stop_at = 5;
    t.evals = t.steps = 0;
    MUST(ctx, atv_finetune(again, td_train, td_valid, &desc, &result));
    CHECK(result.steps == 5 && result.early && t.evals == 1 && result.best.step == 5, "stopped at 5: %d evaluations",
          t.evals);
    t.stop_at = t.evals = 0;
    t.stop_after = 2;
    MUST(ctx, atv_finetune(again, td_train, td_valid, &desc, &result));
    CHECK(result.steps == 20 && result.early && t.evals == 2, "stopped by on_eval: %d steps", (int)result.steps);
    t.stop_after = t.evals = 0;
    desc.patience = 3;
    desc.trainer.learning_rate = 0;
    MUST(ctx, atv_finetune(again, td_train, td_valid, &desc, &result));
    CHECK(result.steps == 40 && result.early && t.evals == 4 && result.best.step == 10, "patience 3: %d steps, best %d",
          (int)result.steps, (int)result.best.step);
    desc.trainer.learning_rate = 6e-3;
    desc.min_improvement = 0.05;
    t.evals = 0;
    MUST(ctx, atv_finetune(again, td_train, td_valid, &desc, &result));
    for (i = 1, best = 0; i < t.evals && since < 3; i++) {  /* small steps upwards are kept, but count as none */
        since = t.eval[i].score - t.eval[best].score > 0.05 ? 0 : since + 1;
        if (t.eval[i].score > t.eval[best].score) best = i;
    }
    CHECK(i == t.evals && (since == 3) == result.early, "patience 3, at least .05: %d evaluations, expected %d", t.evals, i);

    desc.patience = -1;
    FAILS(ctx, atv_finetune(again, td_train, td_valid, &desc, &result), ATV_ERR_ARGUMENT, "patience=-1");
    desc.patience = 0;
    desc.metric = (atv_metric)9;
    FAILS(ctx, atv_finetune(again, td_train, td_valid, &desc, &result), ATV_ERR_ARGUMENT, "metric=9");
    desc.metric = ATV_METRIC_MCC;
    {
        atv_data none = *td_valid;
        int32_t unknown[100];
        atv_model *language = make_model(ctx, atv_tokenizer_vocab_size(tokenizer));
        none.labels = NULL;
        FAILS(ctx, atv_finetune(again, td_train, &none, &desc, &result), ATV_ERR_ARGUMENT, "valid: n_docs=100, labels=NULL");
        for (i = 0; i < 100; i++) unknown[i] = -1;
        none.labels = unknown;
        FAILS(ctx, atv_finetune(again, td_train, &none, &desc, &result), ATV_ERR_ARGUMENT, "valid: no document has a label");
        none.labels = NULL;
        FAILS(ctx, atv_finetune(again, &none, td_valid, &desc, &result), ATV_ERR_ARGUMENT, "train: n_docs=100, labels=NULL");
        FAILS(ctx, atv_finetune(language, td_train, td_valid, &desc, &result), ATV_ERR_ARGUMENT, "num_labels=0");
        atv_model_destroy(language);
    }
    {
        static const char *const names[2] = {"no \"x\"", "yes"};
        CHECK(atv_model_label(again, 0) == NULL, "a new head has names");
        MUST(ctx, atv_model_set_labels(again, names));
        CHECK(strcmp(atv_model_label(again, 0), names[0]) == 0 && strcmp(atv_model_label(again, 1), "yes") == 0 &&
              !atv_model_label(again, 2) && !atv_model_label(again, -1), "names: %s %s", atv_model_label(again, 0),
              atv_model_label(again, 1));
    }
    atv_model_destroy(again);
    atv_model_destroy(model);
    atv_task_destroy(train);
    atv_task_destroy(valid);
    atv_tokenizer_destroy(tokenizer);
    atv_ctx_destroy(ctx);
    free(train_text);
    free(valid_text);
}

int main(void) {
    test_pairs();
    test_bad_pairs();
    test_interval();
    test_examples();
    test_real_tasks();
    test_labels();
    test_bad_tasks();
    test_metrics();
    test_finetune();
    return test_done("eval");
}
