/* Any bytes as a config.json, beside a model file that fits the first seed: loaded, or refused by name. A model that was
   loaded can be run. */
#include "fuzz.h"

/* The weights for vocab 5, 4 positions, C 4, L 1, H 2, F 4: all 0, which any config of that shape can be run with. */
static size_t weights(uint8_t *file) {
    static const struct { const char *name; int d0, d1; } tensors[] = {
        { "wte.weight", 5, 4 }, { "wpe.weight", 4, 4 }, { "h.0.ln_1.weight", 4, 0 }, { "h.0.ln_1.bias", 4, 0 },
        { "h.0.attn.attention.k_proj.weight", 4, 4 }, { "h.0.attn.attention.v_proj.weight", 4, 4 }, { "h.0.attn.attention.q_proj.weight", 4, 4 },
        { "h.0.attn.attention.out_proj.weight", 4, 4 }, { "h.0.attn.attention.out_proj.bias", 4, 0 }, { "h.0.ln_2.weight", 4, 0 },
        { "h.0.ln_2.bias", 4, 0 }, { "h.0.mlp.c_fc.weight", 4, 4 }, { "h.0.mlp.c_fc.bias", 4, 0 }, { "h.0.mlp.c_proj.weight", 4, 4 },
        { "h.0.mlp.c_proj.bias", 4, 0 }, { "ln_f.weight", 4, 0 }, { "ln_f.bias", 4, 0 } };
    char *p = (char *)file + 8;
    int at = 0, n;
    size_t i;
    p += sprintf(p, "{");
    for (i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        n = tensors[i].d0 * (tensors[i].d1 ? tensors[i].d1 : 1) * 4;
        p += sprintf(p, "%s\"transformer.%s\":{\"dtype\":\"F32\",\"shape\":[%d", i ? "," : "", tensors[i].name, tensors[i].d0);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t file[8192];
    size_t n = weights(file);
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
        if (atv_work_create(model, &wd, &work) == ATV_OK) {
            if (atv_forward_loss(work, &batch, NULL, &loss) == ATV_OK) FUZZ_CHECK(loss.tokens == 2);
            atv_work_destroy(work);
        }
        atv_model_destroy(model);
    } else FUZZ_CHECK(model == NULL);
    fuzz_done(ctx, r);
    return 0;
}

#ifndef ATTNVAR_LIBFUZZER
int main(int argc, char **argv) {
    static const char *const seeds[] = {
        "{\"model_type\": \"gpt_neo\", \"vocab_size\": 5, \"max_position_embeddings\": 4, \"hidden_size\": 4, \"num_layers\": 1, \"num_heads\": 2, "
        "\"intermediate_size\": 4, \"attention_types\": [[[\"global\"], 1]], \"activation_function\": \"gelu_new\", \"layer_norm_epsilon\": 1e-05}",
        "{\"model_type\": \"gpt_neo\", \"architectures\": [\"GPTNeoForCausalLM\"], \"vocab_size\": 5, \"max_position_embeddings\": 4, \"hidden_size\": 4, "
        "\"num_layers\": 1, \"num_heads\": 2, \"num_key_value_heads\": 2, \"kqv_size\": 4, \"kv_of_head\": [1, 0], \"kv_of_layer\": [0], \"window_size\": 2, "
        "\"attention_layers\": [\"local\"], \"intermediate_size\": null, \"tie_word_embeddings\": true, \"bos_token_id\": 0, \"eos_token_id\": 1, \"torch_dtype\": \"float32\"}",
        "{\"model_type\": \"gpt2\"}" };
    uint8_t file[8192];
    atv_ctx *ctx = fuzz_ctx();
    atv_model *model = NULL;
    size_t i;
    CHECK(atv_model_from_memory(ctx, seeds[0], strlen(seeds[0]), file, weights(file), &model) == ATV_OK, "the first seed: %s", atv_last_error(ctx));
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
    for (i = 0; i < sizeof seeds / sizeof seeds[0]; i++) fuzz_seed(seeds[i], strlen(seeds[i]), 4000);
    fuzz_files(argc, argv);
    return test_done("fuzz_config");
}
#endif
