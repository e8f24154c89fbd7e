/* examples/limits.h: the work of a step counted one by one, every byte read, every multiply-add done. */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "../examples/limits.h"
#include "test.h"

static int near(double x, double y) { return fabs(x - y) <= 1e-12 * fabs(y); }

/* Attention of one query at a context: flops by head, bytes by key/value head that anyone reads. */
static void count_attention(const atv_layer *l, int context, double *flops, double *bytes) {
    int j, h, g;
    for (j = 1; j <= context; j++) {
        if (l->window_size && j <= context - l->window_size) continue;
        for (h = 0; h < l->num_heads; h++) *flops += 2 * l->head_dim + 2 * l->value_dim;
        for (g = 0; g < l->num_key_value_heads; g++) {
            int read = 0;
            for (h = 0; h < l->num_heads; h++)
                read |= atv_kv_of_head(l->num_heads, l->num_key_value_heads, l->kv_of_head, h) == g;
            if (read) *bytes += (l->head_dim + l->value_dim) * (double)sizeof(atv_real);
        }
    }
}

/* Weights of the matrices, from the model's own tensors: all but the positions, which nothing is multiplied with. */
static double count_weights(const atv_model *model) {
    double n = 0;
    int i;
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        atv_named_tensor t = atv_model_tensor(model, i);
        if (t.tensor.rank == 2 && strcmp(t.name, "transformer.wpe.weight") != 0) n += (double)atv_tensor_count(&t.tensor);
    }
    return n;
}

static void test_phases(atv_ctx *ctx, const char *name, const atv_config *config) {
    static const int lengths[] = {3, 40, 1, 17};
    atv_model *model;
    const atv_config *c;
    limits_phase phases[8];
    double weights, tokens = 0, flops, bytes, out[2];
    int i, k, t, n;
    MUST(ctx, atv_model_create(ctx, config, &model));
    c = atv_model_config(model);
    weights = count_weights(model);
    n = limits_decode_phases(c, 5, 3, 40, phases);
    CHECK(n == 1 + c->num_layers, "%s: %d phases of %d layers", name, n, c->num_layers);
    CHECK(near(phases[0].flops, 2 * 5 * weights), "%s: %g flops of %g weights", name, phases[0].flops, weights);
    CHECK(near(phases[0].bytes, weights * sizeof(atv_real)), "%s: %g bytes of %g weights", name, phases[0].bytes, weights);
    for (i = 0; i < c->num_layers; i++) {
        for (flops = bytes = 0, t = 3; t <= 40; t++) count_attention(&c->layers[i], t, &flops, &bytes);
        CHECK(near(phases[1 + i].flops, 5 * flops / 38), "%s: layer %d: %g flops, not %g", name, i, phases[1 + i].flops,
              5 * flops / 38);
        CHECK(near(phases[1 + i].bytes, 5 * bytes / 38), "%s: layer %d: %g bytes, not %g", name, i, phases[1 + i].bytes,
              5 * bytes / 38);
    }
    n = limits_train_phases(c, 4, lengths, phases);
    for (k = 0; k < 4; k++) tokens += lengths[k];
    CHECK(n == 1 + c->num_layers && near(phases[0].flops, 6 * tokens * weights), "%s: training has %g flops", name,
          phases[0].flops);
    for (i = 0; i < c->num_layers; i++) {
        for (flops = 0, k = 0; k < 4; k++)
            for (t = 1; t <= lengths[k]; t++) count_attention(&c->layers[i], t, &flops, &bytes);
        CHECK(near(phases[1 + i].flops, 3 * flops), "%s: training layer %d: %g flops, not %g", name, i, phases[1 + i].flops,
              3 * flops);
        out[0] = out[1] = 0;
        count_attention(&c->layers[i], 1, &out[0], &out[1]);
        CHECK(near(phases[1 + i].bytes, 2 * tokens * out[1]), "%s: training layer %d: %g bytes", name, i,
              phases[1 + i].bytes);
    }
    atv_model_destroy(model);
}

static void test_steps(atv_ctx *ctx) {
    static const int empty[8] = {0, 0, 0, 0, 3, 3, 1, 0}, owners[3] = {0, 0, 2};
    atv_config c = atv_config_published();
    atv_layer layers[2];
    limits_phase phases[2] = {{"one", 100, 8}, {"other", 10, 80}};
    c.vocab_size = 50;
    test_phases(ctx, "published", &c);
    c.num_key_value_heads = 3;
    c.kqv_size = 192;
    c.window_size = 9;
    test_phases(ctx, "uneven groups", &c);
    c.num_key_value_heads = 4;
    c.kv_of_head = empty;
    test_phases(ctx, "an empty group", &c);
    c.num_layers = 3;
    c.kv_of_layer = owners;
    test_phases(ctx, "keys and values of another layer", &c);
    memset(layers, 0, sizeof layers);
    layers[0].num_heads = 4;
    layers[0].num_key_value_heads = 2;
    layers[0].head_dim = 5;
    layers[0].value_dim = 7;
    layers[0].intermediate_size = 11;
    layers[1] = layers[0];
    layers[1].window_size = 6;
    c.num_layers = 2;
    c.layers = layers;
    test_phases(ctx, "values of another size", &c);
    CHECK(near(limits_seconds(phases, 2, 50, 4), 2 + 20), "100/50 and 80/4 are %g", limits_seconds(phases, 2, 50, 4));
    CHECK(near(limits_seconds(phases, 2, 5, 40), 20 + 2), "100/5 and 10/5 are %g", limits_seconds(phases, 2, 5, 40));
}

static double sum_areas(const atv_model *model, const atv_decoder *decoder, int positions) {
    int n, i;
    limits_area *areas = limits_areas(model, decoder, positions, &n);
    double sum = 0;
    for (i = 0; i < n; i++) {
        CHECK(areas[i].p && areas[i].size > 0, "area %d of %d is empty", i, n);
        sum += (double)areas[i].size;
    }
    free(areas);
    return sum;
}

static void test_areas(atv_ctx *ctx) {
    static const int32_t ids[40] = {1, 2, 3};
    static atv_real logits[3 * 50];
    atv_config c = atv_config_published();
    atv_decoder_desc desc = {0};
    atv_decode_input inputs[3];
    atv_decoder *decoder;
    atv_model *model;
    double weights, kv;
    int i;
    c.vocab_size = 50;
    c.window_size = 16;
    c.num_key_value_heads = 2;
    MUST(ctx, atv_model_create(ctx, &c, &model));
    desc.n_seq = 5;
    MUST(ctx, atv_decoder_create(model, &desc, &decoder));
    weights = sum_areas(model, NULL, 0);
    CHECK(near(weights, count_weights(model) * sizeof(atv_real)), "%g bytes of weights", weights);
    CHECK(near(sum_areas(model, decoder, 0), weights), "empty caches have %g bytes", sum_areas(model, decoder, 0) - weights);
    for (i = 0; i < 3; i++) {
        MUST(ctx, atv_decoder_add(decoder, &inputs[i].seq));
        inputs[i].ids = ids;
        inputs[i].n_ids = 32;
    }
    MUST(ctx, atv_decode(decoder, inputs, 3, logits));
    kv = 3 * 2 * 48 * 2 * (double)sizeof(atv_real);         /* of a position and layer: 3 sequences, 2 heads of 48, both */
    CHECK(near(sum_areas(model, decoder, 0) - weights, kv * (32 + 16)), "32, of which the local layer keeps 16: %g",
          (sum_areas(model, decoder, 0) - weights) / kv);
    CHECK(near(sum_areas(model, decoder, 16) - weights, kv * (16 + 16)), "the first 16: %g",
          (sum_areas(model, decoder, 16) - weights) / kv);
    atv_decoder_destroy(decoder);
    atv_model_destroy(model);
}

/* Every load is read: the first word of each decides what comes back. */
static void test_reading(const char *name, float (*lines)(const char *p, size_t n)) {
    const float mark = 1;
    size_t n, at, missed = 0, last = 0;
    for (n = 64; n <= 64 * 23; n += 64) {
        char *exact = (char *)calloc(n, 1);                 /* so that a sanitizer sees what is beyond */
        for (at = 0; at < n; at += 32) {                    /* the widest loads */
            memcpy(exact + at, &mark, sizeof mark);
            if (lines(exact, n) != mark) { missed++; last = n; }
            memset(exact + at, 0, sizeof mark);
        }
        free(exact);
    }
    CHECK(!missed, "%s: %lu loads left out, of %lu bytes among others", name, (unsigned long)missed, (unsigned long)last);
}

/* Each chain takes part: their sum, folded as the kernel does. */
static void test_chains(const char *name, int chains, int adds, float (*fma)(LIMITS_NUMBERS)) {
    double a = 0.75, b = 0.5, sum = b, have;
    int i, n;
    for (i = 0; i < chains; i++) {
        double x = a + i;
        for (n = 0; n < 3; n++) x = adds ? x + a * b : x * a + b;
        sum = adds ? x + a * sum : x * a + sum;
    }
    have = fma(3, (float)a, (float)b);
    CHECK(fabs(have - sum) < 1e-4 * fabs(sum), "%s: %d chains give %g, not %g", name, chains, have, sum);
}

/* Any split of the areas over the lanes, lanes without a line among them. */
static void test_rates(void) {
    static const size_t sizes[] = {4, 60, 64, 68, 4100, 70000};
    limits_area areas[6];
    int isa, threads, i;
    for (i = 0; i < 6; i++) {
        areas[i].p = calloc(sizes[i], 1);
        areas[i].size = sizes[i];
    }
    for (isa = ATV_ISA_AUTO; isa < ATV_ISA_COUNT; isa++)
        for (threads = 1; threads <= 3; threads++) {
            atv_ctx *ctx;
            if (!atv_isa_available((atv_isa)isa)) continue;
            ctx = test_ctx((atv_isa)isa, threads);
            CHECK(limits_flops(ctx, 1e-4) > 0, "%s, %d threads: no FLOP/s", atv_isa_name((atv_isa)isa), threads);
            for (i = 5; i <= 6; i++) CHECK(limits_read(ctx, areas, i, 0) > 0, "%d areas, %d threads: not read", i, threads);
            CHECK(limits_read(ctx, areas, 2, 0) == 0, "less than a line is not read");
            atv_ctx_destroy(ctx);
        }
    for (i = 0; i < 6; i++) free((void *)(uintptr_t)areas[i].p);
}

int main(void) {
    atv_ctx *ctx;
    MUST((atv_ctx *)NULL, atv_ctx_create(NULL, &ctx));
    test_steps(ctx);
    test_areas(ctx);
    test_reading("plain", limits_read_plain);
    test_chains("scalar", 12, 0, limits_fma_scalar);
#ifdef ATVI_X86
    if (atv_isa_available(ATV_ISA_AVX2)) test_reading("avx2", limits_read_avx2);
    if (atv_isa_available(ATV_ISA_AVX2)) test_chains("avx2", 12, 0, limits_fma_avx2);
    if (atv_isa_available(ATV_ISA_AVX512)) test_chains("avx512", 12, 0, limits_fma_avx512);
#endif
#ifdef __aarch64__
    test_chains("neon", 24, 1, limits_fma_neon);
#endif
    test_rates();
    atv_ctx_destroy(ctx);
    return test_done("limits");
}
