/* train_loop.c: from text to a model that tells a story, with the training loop in your hands.
 *
 * Claim    Tokenizer, a GQA model with half the key/value heads, AdamW, held-out loss and sampling take under 100 lines.
 * Command  mkdir -p build && cc -O2 -o build/train_loop examples/train_loop.c -lm -lpthread && build/train_loop [steps]
 * Prints   training and held-out loss as they fall, then a story that the model makes up.
 * Takes    about half a minute on two cores. */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "stories.h"

enum { STORIES = 2000, HELD_OUT = 50, BATCH = 12, CONTEXT = 192 };

static atv_ctx *ctx;
static atv_tokenizer *tokenizer;
static void die(const char *why) { fprintf(stderr, "train_loop: %s\n", why); exit(1); }
static void check(atv_result r) { if (r != ATV_OK) die(ctx ? atv_last_error(ctx) : atv_result_text(r)); }

static int print_token(void *user, int prompt, int32_t token, float logprob) {
    size_t n = 0;
    const char *bytes = atv_tokenizer_token(tokenizer, token, &n);
    (void)user; (void)prompt; (void)logprob;
    if (!atv_tokenizer_is_special(tokenizer, token)) fwrite(bytes, 1, n, stdout);
    return 0;
}

int main(int argc, char **argv) {
    static char text[STORIES * 1024], *rest = "";
    static int32_t ids[STORIES * CONTEXT], batch_ids[BATCH * CONTEXT];
    static int start[STORIES + 1], length[STORIES], before, after;
    long steps = argc > 1 ? strtol(argv[1], &rest, 10) : 400;
    size_t end[STORIES + 1] = { 0 };
    if (argc > 2 || *rest || steps < 1 || steps > 1000000) die("its argument is a number of steps, 1 to 1000000");
    check(atv_ctx_create(NULL, &ctx));
    /* Text, and a tokenizer learned from it. */
    for (int i = 0; i < STORIES; i++) {
        end[i + 1] = end[i] + story_write((uint64_t)i + 1, text + end[i], sizeof text - end[i]);
        if (end[i + 1] >= sizeof text) die("the stories do not fit");
    }
    atv_tokenizer_train_desc vocabulary = { .vocab_size = 1500 };
    check(atv_tokenizer_train(ctx, &vocabulary, text, end[STORIES], &tokenizer));
    atv_tokenizer_wrap(tokenizer, &before, &after);

    /* Documents as <s> ids </s>, laid end to end, cut at the context. */
    for (int i = 0; i < STORIES; i++) {
        int32_t *doc = ids + start[i];
        size_t n;
        doc[0] = before;
        check(atv_tokenizer_encode(tokenizer, text + end[i], end[i + 1] - end[i], doc + 1, CONTEXT - 1, &n));
        length[i] = n < CONTEXT - 1 ? (int)n + 2 : CONTEXT;
        if (n < CONTEXT - 1) doc[n + 1] = after;
        start[i + 1] = start[i] + length[i];
    }

    atv_config config = { .vocab_size = atv_tokenizer_vocab_size(tokenizer), .max_position_embeddings = CONTEXT,
                          .hidden_size = 96, .num_layers = 2, .num_heads = 8, .window_size = 64 };
    atv_model *model;
    check(atv_config_preset(ctx, ATV_GQA, 0.5, 1, 256, &config));
    check(atv_model_create(ctx, &config, &model));
    atv_model_init(model, 1);
    printf("%ld parameters, %d of %d key/value heads, FFN width %d\n", (long)atv_model_num_parameters(model),
           config.num_key_value_heads, config.num_heads, config.intermediate_size);

    atv_trainer_desc recipe = { .has_learning_rate = 1, .learning_rate = 5e-3, .schedule = ATV_SCHEDULE_COSINE,
                                .warmup_steps = (int)steps / 10, .total_steps = steps, .max_grad_norm = 1, .batch = BATCH };
    atv_trainer *trainer;
    check(atv_trainer_create(model, &recipe, &trainer));

    atv_data held_out = { .ids = ids, .lengths = length, .n_docs = HELD_OUT };      /* stories never trained on */
    atv_rng rng = { 1 };
    for (int s = 1; s <= steps; s++) {
        int batch_lengths[BATCH], n = 0;
        for (int b = 0; b < BATCH; b++) {
            int d = HELD_OUT + (int)atv_rng_below(&rng, STORIES - HELD_OUT);
            memcpy(batch_ids + n, ids + start[d], (size_t)length[d] * sizeof *ids);
            n += batch_lengths[b] = length[d];
        }
        atv_batch batch = { .ids = batch_ids, .lengths = batch_lengths, .n_seq = BATCH };
        atv_step step;
        check(atv_trainer_accumulate(trainer, &batch));     /* forward and backward; again, for larger batches */
        check(atv_trainer_update(trainer, &step));          /* clip, AdamW, gradients back to 0 */
        atv_loss held;
        if (s % 25 && s != 1 && s != steps) continue;
        check(atv_evaluate(atv_trainer_work(trainer), &held_out, &held));
        printf("step %4d  loss %.3f  held-out %.3f\n", s, step.loss.sum / step.loss.tokens, held.sum / held.tokens);
    }

    atv_decoder *decoder;
    int32_t first = before, stop = after;
    check(atv_decoder_create(model, NULL, &decoder));
    atv_generate_desc telling = { .sampling = { .do_sample = 1, .temperature = 0.5 }, .seed = 1, .stop_tokens = &stop,
                                  .n_stop_tokens = 1, .max_new_tokens = CONTEXT - 1, .on_token = print_token };
    atv_decode_input prompt = { .ids = &first, .n_ids = 1 };
    check(atv_generate(decoder, &telling, &prompt, 1));
    printf("\n");
    atv_decoder_destroy(decoder); atv_trainer_destroy(trainer); atv_model_destroy(model);
    atv_tokenizer_destroy(tokenizer); atv_ctx_destroy(ctx);
    return 0;
}
