/* Any bytes as JSON lines: as a task of classification, and as minimal pairs. What was read is whole. */
#include "fuzz.h"

static const char training_text[] = "the cat sat on the mat. does the dog refer to the cat?";

static int on_pair(void *user, const atv_pair *pair) {
    ++*(int64_t *)user;
    FUZZ_CHECK(pair->line > 0 && (!pair->uid || strlen(pair->uid) < 100000) && pair->correct == (pair->good >= pair->bad));
    return 0;
}

static void pairs(atv_ctx *ctx, atv_tokenizer *tokenizer, const char *text, size_t size) {
    atv_config config;
    atv_work_desc wd;
    atv_pairs_desc desc;
    atv_pairs_result result = {0, 0};
    atv_model *model = NULL;
    atv_work *work = NULL;
    int64_t told = 0;
    memset(&config, 0, sizeof config);
    memset(&wd, 0, sizeof wd);
    memset(&desc, 0, sizeof desc);
    config.vocab_size = atv_tokenizer_vocab_size(tokenizer);
    config.hidden_size = config.intermediate_size = 4;
    config.max_position_embeddings = 40;
    config.num_layers = config.num_heads = 1;
    wd.max_tokens = 60;
    wd.max_seqs = 4;
    desc.on_pair = on_pair;
    desc.user = &told;
    FUZZ_CHECK(atv_model_create(ctx, &config, &model) == ATV_OK && atv_work_create(model, &wd, &work) == ATV_OK);
    if (atv_eval_pairs(work, tokenizer, text, size, &desc, &result) == ATV_OK)
        FUZZ_CHECK(result.pairs == told && result.correct >= 0 && result.correct <= told);
    else FUZZ_CHECK(atv_last_error(ctx)[0] != 0);
    atv_work_destroy(work);
    atv_model_destroy(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    atv_ctx *ctx = fuzz_ctx();
    atv_tokenizer *tokenizer = NULL;
    atv_tokenizer_train_desc how;
    atv_task_desc desc;
    atv_task *task = NULL;
    atv_result r;
    int i, n, wrap;
    memset(&how, 0, sizeof how);
    memset(&desc, 0, sizeof desc);
    how.vocab_size = 270;
    FUZZ_CHECK(atv_tokenizer_train(ctx, &how, training_text, sizeof training_text - 1, &tokenizer) == ATV_OK);
    pairs(ctx, tokenizer, (const char *)data, size);
    for (wrap = 0; wrap < 2; wrap++) {
        desc.wrap = wrap;
        desc.max_length = 9 + wrap;
        r = atv_task_from_memory(tokenizer, (const char *)data, size, &desc, &task);
        FUZZ_CHECK(r == ATV_OK ? task != NULL : task == NULL);
        if (r == ATV_OK) {
            const atv_data *docs = atv_task_data(task);
            const char *const *names = atv_task_labels(task, &n);
            FUZZ_CHECK(docs->n_docs > 0 && atv_task_fields(task)[0]);
            for (i = 1; i < n; i++) FUZZ_CHECK(strcmp(names[i - 1], names[i]) != 0);
            for (i = 0; i < docs->n_docs; i++)
                FUZZ_CHECK(docs->lengths[i] > 0 && docs->lengths[i] <= desc.max_length && docs->labels[i] < n);
            atv_task_destroy(task);
            task = NULL;
        }
    }
    atv_tokenizer_destroy(tokenizer);
    fuzz_done(ctx, r);
    return 0;
}

#ifndef ATTNVAR_LIBFUZZER
int main(int argc, char **argv) {
    static const char *const seeds[] = {
        "{\"sentence1\": \"the c\\u00e4t\", \"sentence2\": \"sat on the mat and the dog\", \"label\": 1}\n"
        "{\"sentence1\": \"the\", \"sentence2\": \"dog\", \"label\": 0}\n",
        "{\"text\": \"the cat\", \"span1_text\": \"cat\", \"span2_text\": \"the\", \"label\": \"no\"}\r\n\n"
        "{\"text\": \"the\", \"span1_text\": \"\", \"span2_text\": \"dog\", \"label\": \"yes\"}",
        "{\"sentence_good\": \"the cat\", \"sentence_bad\": \"the dog\", \"UID\": \"a\\\"b\", \"linguistics_term\": \"c\"}\n"
        "{\"sentence_good\": \"the cat sat\", \"sentence_bad\": \"the cat\"}" };
    size_t i;
    for (i = 0; i < sizeof seeds / sizeof seeds[0]; i++) fuzz_seed(seeds[i], strlen(seeds[i]), 600);
    fuzz_files(argc, argv);
    return test_done("fuzz_task");
}
#endif
