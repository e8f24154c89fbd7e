/* Any bytes as a config.json, beside a model file that fits the first seed: loaded, or refused by name. A model that was
   loaded can be run. */
#include "fuzz.h"

/* The weights for vocab 5, 4 positions, C 4, L 1, H 2, F 4: all 0, which any config of that shape can be run with; with the
   head of a classifier of 3 labels, or without one. */
static size_t weights(uint8_t *file, int classifier) {
    static const struct { const char *name; int d0, d1; } tensors[] = {
        { "wte.weight", 5, 4 }, { "wpe.weight", 4, 4 }, { "h.0.ln_1.weight", 4, 0 }, { "h.0.ln_1.bias", 4, 0 },
        { "h.0.attn.attention.k_proj.weight", 4, 4 }, { "h.0.attn.attention.v_proj.weight", 4, 4 },
        { "h.0.attn.attention.q_proj.weight", 4, 4 },
        { "h.0.attn.attention.out_proj.weight", 4, 4 }, { "h.0.attn.attention.out_proj.bias", 4, 0 },
        { "h.0.ln_2.weight", 4, 0 },
        { "h.0.ln_2.bias", 4, 0 }, { "h.0.mlp.c_fc.weight", 4, 4 }, { "h.0.mlp.c_fc.bias", 4, 0 },
        { "h.0.mlp.c_proj.weight", 4, 4 },
        { "h.0.mlp.c_proj.bias", 4, 0 }, { "ln_f.weight", 4, 0 }, { "ln_f.bias", 4, 0 }, { "score.weight", 3, 4 } };
    const size_t n_tensors = sizeof tensors / sizeof tensors[0] - (classifier ? 0 : 1);
    char *p = (char *)file + 8;
    int at = 0, n;
    size_t i;
    p += sprintf(p, "{");
    for (i = 0; i < n_tensors; i++) {
        n = tensors[i].d0 * (tensors[i].d1 ? tensors[i].d1 : 1) * 4;
        p += sprintf(p, "%s\"%s%s\":{\"dtype\":\"F32\",\"shape\":[%d", i ? "," : "", i < 17 ? "transformer." : "",
                     tensors[i].name, tensors[i].d0);
        if (tensors[i].d1) p += sprintf(p, ",%d", tensors[i].d1);
        p += sprintf(p, "],\"data_offsets\":[%d,%d]}", at, at + n);
        at += n;
    }
    p += sprintf(p, "}");
    n = (int)(p - (char *)file) - 8;
    memset(file, 0, 8);
    file[0] = (uint8_t)n;
    file[1] = (uint8_t)(n >> 8);
    memset(p, 0, (size_t)at);
    return 8 + (size_t)n + (size_t)at;
}

static void load(const uint8_t *data, size_t size, int classifier) {
    static const int32_t labels[1] = { 1 };
    uint8_t file[8192];
    size_t n = weights(file, classifier);
    atv_ctx *ctx = fuzz_ctx();
    atv_model *model = NULL;
    atv_result r = atv_model_from_memory(ctx, (const char *)data, size, file, n, &model);
    if (r == ATV_OK) {
        static const int32_t ids[3] = { 0, 1, 2 };
        int length = 3;
        atv_batch batch = test_batch(ids, &length, 1);
        atv_work_desc wd;
        atv_work *work = NULL;
        atv_loss loss;
        memset(&wd, 0, sizeof wd);
        wd.max_tokens = 3;
        FUZZ_CHECK(atv_model_config(model)->num_labels == (classifier ? 3 : 0));
        if (classifier) batch.labels = labels;
        if (atv_work_create(model, &wd, &work) == ATV_OK) {
            if (atv_forward_loss(work, &batch, NULL, &loss) == ATV_OK) FUZZ_CHECK(loss.tokens == (classifier ? 1 : 2));
            atv_work_destroy(work);
        }
        atv_model_destroy(model);
    } else FUZZ_CHECK(model == NULL);
    fuzz_done(ctx, r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    load(data, size, 0);
    load(data, size, 1);
    return 0;
}

#ifndef ATTNVAR_LIBFUZZER
int main(int argc, char **argv) {
    static const char *const seeds[] = {
        "{\"model_type\": \"gpt_neo\", \"vocab_size\": 5, \"max_position_embeddings\": 4, \"hidden_size\": 4, "
        "\"num_layers\": 1, \"num_heads\": 2, "
        "\"intermediate_size\": 4, \"attention_types\": [[[\"global\"], 1]], \"activation_function\": \"gelu_new\", "
        "\"layer_norm_epsilon\": 1e-05}",
        "{\"model_type\": \"gpt_neo\", \"architectures\": [\"GPTNeoForCausalLM\"], \"vocab_size\": 5, "
        "\"max_position_embeddings\": 4, \"hidden_size\": 4, "
        "\"num_layers\": 1, \"num_heads\": 2, \"num_key_value_heads\": 2, \"kqv_size\": 4, \"kv_of_head\": [1, 0], "
        "\"kv_of_layer\": [0], \"window_size\": 2, "
        "\"attention_layers\": [\"local\"], \"intermediate_size\": null, \"tie_word_embeddings\": true, \"bos_token_id\": 0,"
        " \"eos_token_id\": 1, \"torch_dtype\": \"float32\"}",
        "{\"model_type\": \"gpt_neo\", \"architectures\": [\"GPTNeoForSequenceClassification\"], \"vocab_size\": 5, "
        "\"max_position_embeddings\": 4, "
        "\"hidden_size\": 4, \"num_layers\": 1, \"num_heads\": 2, \"intermediate_size\": 4, \"id2label\": {\"0\": \"a\", "
        "\"1\": \"b\", \"2\": \"c\"}, "
        "\"label2id\": {\"a\": 0, \"b\": 1, \"c\": 2}, \"problem_type\": \"single_label_classification\", \"num_labels\": "
        "3}",
        "{\"model_type\": \"gpt2\"}" };
    uint8_t file[8192];
    atv_ctx *ctx = fuzz_ctx();
    atv_model *model = NULL;
    size_t i;
    for (i = 0; i < 3; i += 2) {
        CHECK(atv_model_from_memory(ctx, seeds[i], strlen(seeds[i]), file, weights(file, i == 2), &model) == ATV_OK,
              "seed %d: %s", (int)i, atv_last_error(ctx));
        atv_model_destroy(model);
    }
    atv_ctx_destroy(ctx);
    for (i = 0; i < sizeof seeds / sizeof seeds[0]; i++) fuzz_seed(seeds[i], strlen(seeds[i]), 4000);
    fuzz_files(argc, argv);
    return test_done("fuzz_config");
}
#endif
