/* Results, contexts, memory, threads, random numbers, descriptions and presets. */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "test.h"
#include <time.h>

static void test_results(void) {
    int i, j;
    for (i = 0; i < ATV_RESULT_COUNT; i++) {
        CHECK(strlen(atv_result_text((atv_result)i)) > 1, "result %d has no text", i);
        for (j = 0; j < i; j++)
            CHECK(strcmp(atv_result_text((atv_result)i), atv_result_text((atv_result)j)) != 0,
                  "results %d and %d are one", i, j);
    }
    CHECK(atv_result_text(ATV_RESULT_COUNT) != NULL, "a number that is no result");
    CHECK(ATV_OK == 0, "ATV_OK is %d", (int)ATV_OK);
}

static void test_isas(void) {
    atv_isa isa;
    int i;
    for (i = 0; i < ATV_ISA_COUNT; i++) {
        isa = ATV_ISA_COUNT;
        CHECK(atv_isa_from_name(atv_isa_name((atv_isa)i), &isa) == ATV_OK && (int)isa == i, "%s does not come back",
              atv_isa_name((atv_isa)i));
    }
    isa = ATV_ISA_COUNT;
    CHECK(atv_isa_from_name("mmx", &isa) == ATV_ERR_ARGUMENT && isa == ATV_ISA_COUNT, "mmx is none of ours");
    CHECK(atv_isa_available(ATV_ISA_SCALAR), "scalar is always there");
    CHECK(!atv_isa_available((atv_isa)99), "99 is no instruction set");
    for (i = 0; i < ATV_ISA_COUNT; i++) {
        atv_ctx_desc desc;
        atv_ctx *ctx = (atv_ctx *)(void *)&desc;
        atv_result result;
        memset(&desc, 0, sizeof desc);
        desc.isa = (atv_isa)i;
        desc.n_threads = 1;
        result = atv_ctx_create(&desc, &ctx);
        if (i != ATV_ISA_AUTO && !atv_isa_available((atv_isa)i)) {
            CHECK(result == ATV_ERR_UNSUPPORTED, "%s: %s", atv_isa_name((atv_isa)i), atv_result_text(result));
            CHECK(ctx == (atv_ctx *)(void *)&desc, "a failure wrote its output");
            SKIP("instruction set %s: this machine has none", atv_isa_name((atv_isa)i));
            continue;
        }
        CHECK(result == ATV_OK, "%s: %s", atv_isa_name((atv_isa)i), atv_result_text(result));
        if (result != ATV_OK) continue;
        isa = atv_ctx_info(ctx)->isa;
        CHECK(i == ATV_ISA_AUTO ? isa != ATV_ISA_AUTO && atv_isa_available(isa) : (int)isa == i,
              "asked %d, got %d", i, (int)isa);
        atv_ctx_destroy(ctx);
    }
}

static void test_contexts(void) {
    atv_ctx *ctx = NULL;
    atv_ctx_desc desc;
    test_alloc alloc;
    size_t now, peak;
    long n;
    MUST((atv_ctx *)NULL, atv_ctx_create(NULL, &ctx));
    CHECK(atv_last_error(ctx)[0] == 0, "an error before any: %s", atv_last_error(ctx));
    CHECK(atv_ctx_info(ctx)->n_threads >= 1, "%d threads", atv_ctx_info(ctx)->n_threads);
    atv_memory(ctx, &now, &peak);
    CHECK(peak >= now, "peak %lu, now %lu", (unsigned long)peak, (unsigned long)now);
    atv_memory(ctx, NULL, NULL);
    atv_ctx_destroy(ctx);
    atv_ctx_destroy(NULL);

    memset(&desc, 0, sizeof desc);
    desc.n_threads = -1;
    ctx = NULL;
    CHECK(atv_ctx_create(&desc, &ctx) == ATV_ERR_ARGUMENT && !ctx, "n_threads -1 was taken");
    desc.n_threads = 1;
    desc.isa = (atv_isa)99;
    CHECK(atv_ctx_create(&desc, &ctx) != ATV_OK && !ctx, "instruction set 99 was taken");

    /* every allocation failing in turn */
    memset(&desc, 0, sizeof desc);
    memset(&alloc, 0, sizeof alloc);
    desc.allocator.user = &alloc;
    desc.allocator.alloc = test_alloc_get;
    desc.allocator.free = test_alloc_put;
    desc.n_threads = 3;
    for (n = 1; n < 100; n++) {
        atv_result result;
        memset(&alloc, 0, sizeof alloc);
        alloc.fail_at = n;
        ctx = NULL;
        result = atv_ctx_create(&desc, &ctx);
        if (result == ATV_OK && alloc.count < n) break;
        CHECK(result == ATV_ERR_MEMORY && !ctx && alloc.live == 0, "allocation %ld failing: %s, %ld blocks left", n,
              atv_result_text(result), alloc.live);
        if (result == ATV_OK) atv_ctx_destroy(ctx);
    }
    CHECK(n < 100 && ctx, "it never succeeded");
    atv_ctx_destroy(ctx);
    CHECK(alloc.live == 0 && alloc.bytes == 0, "%ld blocks, %lu bytes left", alloc.live, (unsigned long)alloc.bytes);
}

/* The caller's own way to run tasks: backwards, here. */
static int hook_calls;
static void backwards(void *user, int n, void (*task)(void *arg, int i), void *arg) {
    (void)user;
    hook_calls++;
    while (n-- > 0) task(arg, n);
}

static void count_item(void *arg, int64_t item, int lane) {
    int *seen = (int *)arg;
    (void)lane;
    seen[item]++;
}

static void count_lane(void *arg, int64_t item, int lane) {
    int *bad = (int *)arg;
    (void)item;
    if (lane < 0 || lane >= 3) *bad = 1;
}

static void test_parallel(void) {
    static int seen[1000];
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    int i, k, wrong = 0, bad_lane = 0;
    for (k = 1; k <= 4; k++) {
        ctx = test_ctx(ATV_ISA_SCALAR, k);
        memset(seen, 0, sizeof seen);
        for (i = 0; i < 200; i++) atvi_parallel(ctx, 1000 - i, count_item, seen);
        for (i = 0; i < 1000; i++) wrong += seen[i] != (i <= 800 ? 200 : 1000 - i);
        CHECK(wrong == 0, "%d threads: %d items did not run once each", k, wrong);
        atvi_parallel(ctx, 0, count_item, seen);
        if (k == 3) atvi_parallel(ctx, 100, count_lane, &bad_lane);
        atv_ctx_destroy(ctx);
    }
    CHECK(!bad_lane, "a lane beyond the threads");
    memset(&desc, 0, sizeof desc);
    desc.parallel.parallel_for = backwards;
    desc.n_threads = 3;
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    memset(seen, 0, sizeof seen);
    atvi_parallel(ctx, 500, count_item, seen);
    for (i = wrong = 0; i < 500; i++) wrong += seen[i] != 1;
    CHECK(hook_calls == 1 && wrong == 0, "hook called %d times, %d items wrong", hook_calls, wrong);
    atv_ctx_destroy(ctx);
}

static double processor_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* Threads with nothing to do sleep: two that spin would use 200 ms of processors, or 100 ms of one. */
static void test_idle(void) {
    static int seen[3];
    const struct timespec tenth = { 0, 100000000 };
    atv_ctx *ctx = test_ctx(ATV_ISA_SCALAR, 3);
    double before;
    atvi_parallel(ctx, 3, count_item, seen);
    before = processor_ms();
    nanosleep(&tenth, NULL);
    before = processor_ms() - before;
    CHECK(before < 50, "idle threads used %g ms of 100", before);
    atv_ctx_destroy(ctx);
}

static void test_random(void) {
    /* the stream of seed 1234567, as published with the generator */
    static const uint64_t known[5] = { UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
                                       UINT64_C(9817491932198370423),
                                       UINT64_C(4593380528125082431), UINT64_C(16408922859458223821) };
    atv_rng rng, a, b;
    int i, count[7], n = 100000;
    double sum = 0, square = 0, fourth = 0, chi = 0;
    rng.state = 1234567;
    for (i = 0; i < 5; i++) {
        uint64_t x = atv_rng_next(&rng);
        CHECK(x == known[i], "number %d is %llu", i, (unsigned long long)x);
    }
    CHECK(atv_rng_below(&rng, 0) == 0 && atv_rng_below(&rng, 1) == 0, "below 0 and 1");
    memset(count, 0, sizeof count);
    rng.state = 5;
    for (i = 0; i < n; i++) {
        uint32_t x = atv_rng_below(&rng, 7);
        if (x < 7) count[x]++;
        else CHECK(0, "%u is not below 7", (unsigned)x);
    }
    for (i = 0; i < 7; i++) chi += (count[i] - n / 7.0) * (count[i] - n / 7.0) / (n / 7.0);
    CHECK(chi < 22.5, "chi square of 6 degrees is %g", chi);                 /* p = 0.001 */
    for (i = 0; i < n; i++) {
        double u = atv_rng_uniform(&rng);
        if (!(u >= 0 && u < 1)) CHECK(0, "uniform gave %.17g", u);
        sum += u;
        square += u * u;
    }
    CHECK(fabs(sum / n - 0.5) < 0.004 && fabs(square / n - 1 / 3.0) < 0.004,
          "uniform: mean %g, square %g", sum / n, square / n);
    sum = square = 0;
    for (i = 0; i < n; i++) {
        double z = atv_rng_normal(&rng);
        sum += z;
        square += z * z;
        fourth += z * z * z * z;
    }
    CHECK(fabs(sum / n) < 0.015 && fabs(square / n - 1) < 0.02 && fabs(fourth / n - 3) < 0.15,
          "normal: mean %g, variance %g, fourth %g", sum / n, square / n, fourth / n);
    a = atvi_rng_stream(1, 2);
    b = atvi_rng_stream(1, 3);
    CHECK(atv_rng_next(&a) != atv_rng_next(&b), "two streams are one");
}

/* ---- descriptions ---- */

static atv_config small_config(void) {
    atv_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = 50;
    c.hidden_size = 24;
    c.num_layers = 3;
    c.num_heads = 4;
    return c;
}

static void test_config(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c, r, untouched;
    atv_layer layer;
    static const int map[4] = { 1, 0, 1, 1 }, bad_map[4] = { 0, 1, 0, 2 }, kv[3] = { 0, 0, 2 }, bad_kv[3] = { 0, 2, 2 };
    static const int chain[3] = { 0, 0, 1 }, windows[3] = { 5, 0, 7 }, bad_windows[3] = { 5, -1, 7 };
    atv_layer layers[3];
    int i;

    c = small_config();
    MUST(ctx, atv_config_resolve(ctx, &c, &r));
    CHECK(r.max_position_embeddings == 2048 && r.num_key_value_heads == 4 && r.kqv_size == 24 && r.intermediate_size == 96 &&
          r.window_size == 256, "defaults: %d %d %d %d %d", r.max_position_embeddings, r.num_key_value_heads, r.kqv_size,
          r.intermediate_size, r.window_size);
    /* a constant may be wider */
    CHECK(r.layer_norm_epsilon == (double)1e-5 && r.initializer_range == (double)0.02, "%g %g",
          r.layer_norm_epsilon, r.initializer_range);
    for (i = 0; i < 3; i++) {
        layer = atv_config_layer(&r, i);
        CHECK(layer.num_heads == 4 && layer.num_key_value_heads == 4 && layer.head_dim == 6 && layer.value_dim == 6 &&
              layer.intermediate_size == 96 && layer.window_size == (i % 2 ? 256 : 0) && layer.kv_layer == i, "layer %d", i);
    }
    MUST(ctx, atv_config_resolve(ctx, &r, &r));             /* a resolved config resolves to itself */

    c.num_key_value_heads = 2;
    c.kv_of_head = map;
    c.kv_of_layer = kv;
    c.windows = windows;
    MUST(ctx, atv_config_resolve(ctx, &c, &r));
    layer = atv_config_layer(&r, 1);
    CHECK(layer.kv_layer == 0 && layer.window_size == 0, "kv_layer %d, window %d", layer.kv_layer, layer.window_size);
    for (i = 0; i < 4; i++)
        CHECK(atv_kv_of_head(4, 2, layer.kv_of_head, i) == map[i],
              "head %d reads %d", i, atv_kv_of_head(4, 2, layer.kv_of_head, i));

    memset(layers, 0, sizeof layers);
    for (i = 0; i < 3; i++) {
        layers[i].num_heads = 2 + i;
        layers[i].num_key_value_heads = 1 + i;
        layers[i].head_dim = 3 + i;
        layers[i].intermediate_size = 7 + i;
        layers[i].window_size = 4 * i;
    }
    layers[1].value_dim = 9;
    c = small_config();
    c.num_heads = 0;
    c.layers = layers;
    MUST(ctx, atv_config_resolve(ctx, &c, &r));
    layer = atv_config_layer(&r, 1);
    CHECK(layer.num_heads == 3 && layer.num_key_value_heads == 2 && layer.head_dim == 4 && layer.value_dim == 9 &&
          layer.intermediate_size == 8 && layer.window_size == 4, "a layer of its own");
    CHECK(atv_config_layer(&r, 2).value_dim == 5, "value_dim 0 is head_dim");

    /* what is refused, by name and value */
    memset(&untouched, 0x5A, sizeof untouched);
    r = untouched;
#define REFUSED(set, text) do { c = small_config(); set; \
    FAILS(ctx, atv_config_resolve(ctx, &c, &r), ATV_ERR_ARGUMENT, text); \
    CHECK(memcmp(&r, &untouched, sizeof r) == 0, "a failure wrote its output"); } while (0)
    REFUSED(c.vocab_size = 0, "vocab_size=0");
    REFUSED(c.vocab_size = -5, "vocab_size=-5");
    REFUSED(c.hidden_size = 0, "hidden_size=0");
    REFUSED(c.num_layers = 0, "num_layers=0");
    REFUSED(c.num_heads = 0, "num_heads=0");
    REFUSED(c.num_heads = -2, "num_heads=-2");
    REFUSED(c.num_key_value_heads = 5, "num_key_value_heads=5");
    REFUSED(c.num_key_value_heads = -1, "num_key_value_heads=-1");
    REFUSED(c.kqv_size = 26, "kqv_size=26");
    REFUSED(c.kqv_size = -4, "kqv_size=-4");
    REFUSED((c.hidden_size = 26), "26");
    REFUSED(c.intermediate_size = -1, "intermediate_size=-1");
    REFUSED(c.max_position_embeddings = -1, "max_position_embeddings=-1");
    REFUSED(c.window_size = -3, "window_size=-3");
    REFUSED(c.windows = bad_windows, "layer 1");
    REFUSED(c.windows = bad_windows, "window=-1");
    REFUSED((c.num_key_value_heads = 2, c.kv_of_head = bad_map), "kv_of_head[3]=2");
    REFUSED(c.kv_of_layer = bad_kv, "kv_of_layer[1]=2");
    REFUSED(c.kv_of_layer = chain, "kv_of_layer[2]=1");
    REFUSED(c.layer_norm_epsilon = -1, "layer_norm_epsilon=-1");
    REFUSED(c.vocab_size = INT_MAX; c.hidden_size = INT_MAX; c.num_heads = INT_MAX, "");
    layers[1].num_key_value_heads = 9;
    REFUSED((c.layers = layers), "layer 1");
    REFUSED((c.layers = layers), "=9");
    layers[1].num_key_value_heads = 2;
    layers[2].has_kv_layer = 1;
    layers[2].kv_layer = 1;                                 /* its G and D are not layer 1's */
    REFUSED((c.layers = layers), "layer 2");
    layers[2].kv_layer = 3;
    REFUSED((c.layers = layers), "kv_of_layer[2]=3");
#undef REFUSED
    atv_ctx_destroy(ctx);
}

/* ---- presets ---- */

/* What was published for C = 384, F = 1024. */
static const struct { const char *variant; int heads, kv_heads; double kqv, group; int hidden, base, ffn; } published[] = {
    { "mha", 8, 8, 1, 1, 384, 1024, 1024 },        { "gqa", 8, 6, 1, .75, 384, 1024, 1120 },
    { "gqa", 8, 4, 1, .5, 384, 1024, 1216 },       { "gqa", 8, 2, 1, .25, 384, 1024, 1312 },
    { "gqa", 8, 1, 1, .125, 384, 1024, 1360 },     { "kqv", 8, 8, .75, 1, 384, 1024, 1216 },
    { "kqv", 8, 8, .5, 1, 384, 1024, 1408 },       { "kqv", 8, 8, .25, 1, 384, 1024, 1600 },
    { "kqv", 8, 8, .125, 1, 384, 1024, 1696 },     { "combined", 8, 4, .5, .5, 384, 1024, 1504 },
    { "gqa", 4, 3, 1, .75, 384, 1024, 1120 },      { "gqa", 16, 12, 1, .75, 384, 1024, 1120 },
    { "mha", 4, 4, 1, 1, 384, 1024, 1024 },        { "mha", 16, 16, 1, 1, 384, 1024, 1024 },
};

static void check_preset(atv_ctx *ctx, const char *name, int heads, int kv_heads, double kqv, double group, int hidden,
                         int base, int ffn) {
    atv_variant variant = ATV_VARIANT_COUNT;
    atv_config c, r;
    char lower[32];
    size_t i;
    for (i = 0; name[i] && i < sizeof lower - 1; i++)
        lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    lower[i] = 0;
    memset(&c, 0, sizeof c);
    c.vocab_size = 10000;
    c.num_layers = 2;
    c.hidden_size = hidden;
    c.num_heads = heads;
    MUST(ctx, atv_variant_from_name(lower, &variant));
    MUST(ctx, atv_config_preset(ctx, variant, group, kqv, base, &c));
    CHECK(c.num_key_value_heads == kv_heads && c.kqv_size == (int)(kqv * hidden) && c.intermediate_size == ffn,
          "%s heads %d group %g kqv %g: G %d S %d F %d, not %d %d %d", lower, heads, group, kqv, c.num_key_value_heads,
          c.kqv_size, c.intermediate_size, kv_heads, (int)(kqv * hidden), ffn);
    CHECK(atv_matched_ffn(base, hidden, c.kqv_size, kv_heads * (c.kqv_size / heads), 0) == ffn, "%s: the formula", lower);
    MUST(ctx, atv_config_resolve(ctx, &c, &r));
    CHECK(strcmp(atv_variant_name(atv_config_variant(&r)),
                 kv_heads == 1 && strcmp(lower, "gqa") == 0 ? "mqa" : lower) == 0 ||
          atv_config_variant(&r) == variant, "%s G %d is called %s", lower, kv_heads,
          atv_variant_name(atv_config_variant(&r)));
    CHECK(atv_config_kv_bytes_per_token(&r) ==
          (size_t)2 * 2 * (size_t)kv_heads * (size_t)(c.kqv_size / heads) * sizeof(atv_real),
          "%s: %lu bytes per token", lower, (unsigned long)atv_config_kv_bytes_per_token(&r));
}

static void test_presets(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c, before;
    const char *shared = test_shared();
    char *csv = shared ? (char *)test_read(test_path("%s/fixtures/ffn_width.csv", shared), NULL) : NULL;
    size_t i;
    int rows = 0, g, h, seen;
    for (i = 0; i < sizeof published / sizeof published[0]; i++)
        check_preset(ctx, published[i].variant, published[i].heads, published[i].kv_heads, published[i].kqv,
                     published[i].group, published[i].hidden, published[i].base, published[i].ffn);
    if (csv) {
        char *line = strchr(csv, '\n');
        for (; line && line[1]; line = strchr(line + 1, '\n')) {
            char name[32];
            int heads, kv_heads, hidden, base, ffn;
            double kqv, group;
            int n = sscanf(line + 1, "%31[^,],%d,%d,%lf,%lf,%d,%d,%d", name, &heads, &kv_heads, &kqv, &group, &hidden, &base,
                           &ffn);
            if (!CHECK(n == 8, "ffn_width.csv: row %d", rows + 1)) break;
            check_preset(ctx, name, heads, kv_heads, kqv, group, hidden, base, ffn);
            rows++;
        }
        CHECK(rows >= 12, "ffn_width.csv has %d rows", rows);
    } else if (shared) CHECK(0, "%s/fixtures/ffn_width.csv cannot be read", shared);
    else SKIP("fixtures/ffn_width.csv: ATTNVAR_SHARED is not set");
    free(csv);

    /* a layer that reads another's keys and values spends theirs on its FFN too */
    CHECK(atv_matched_ffn(1024, 384, 384, 96, 1) == 1024 + 2 * 384 - 384, "%d", atv_matched_ffn(1024, 384, 384, 96, 1));
    /* the map of uneven groups */
    seen = 0;
    for (h = 0; h < 8; h++) {
        static const int expected[8] = { 0, 0, 1, 1, 2, 3, 4, 5 };
        seen += atv_kv_of_head(8, 6, NULL, h) == expected[h];
    }
    CHECK(seen == 8, "H=8, G=6 does not give 2 2 1 1 1 1");
    for (h = 1; h <= 12; h++) for (g = 1; g <= h; g++) {
        int sizes[12] = { 0 }, q, ok = 1;
        for (q = 0; q < h; q++) {
            int kv = atv_kv_of_head(h, g, NULL, q);
            if (kv < 0 || kv >= g || (q && kv < atv_kv_of_head(h, g, NULL, q - 1))) { ok = 0; break; }
            sizes[kv]++;
        }
        for (q = 0; ok && q < g; q++) ok = sizes[q] == h / g + (q < h % g);
        CHECK(ok, "the groups of H=%d, G=%d", h, g);
    }

    /* proportions that give no whole number */
    memset(&c, 0, sizeof c);
    c.vocab_size = 10;
    c.num_layers = 1;
    c.hidden_size = 384;
    c.num_heads = 8;
    before = c;
    FAILS(ctx, atv_config_preset(ctx, ATV_GQA, 0.3, 1, 1024, &c), ATV_ERR_ARGUMENT, "0.25");
    CHECK(strstr(atv_last_error(ctx), "0.375"), "the nearest above is not named: %s", atv_last_error(ctx));
    CHECK(strstr(atv_last_error(ctx), "0.3"), "the value is not named: %s", atv_last_error(ctx));
    FAILS(ctx, atv_config_preset(ctx, ATV_KQV, 1, 0.3, 1024, &c), ATV_ERR_ARGUMENT, "14 (0.29");
    CHECK(strstr(atv_last_error(ctx), "15 (0.3125)"), "the nearest above is not named: %s", atv_last_error(ctx));
    FAILS(ctx, atv_config_preset(ctx, ATV_COMBINED, 0.5, 0.51, 1024, &c), ATV_ERR_ARGUMENT, "24 (0.5)");
    CHECK(strstr(atv_last_error(ctx), "25 (0.52"), "the nearest above is not named: %s", atv_last_error(ctx));
    FAILS(ctx, atv_config_preset(ctx, ATV_COMBINED, 0.45, 0.5, 1024, &c), ATV_ERR_ARGUMENT, "0.375");
    CHECK(strstr(atv_last_error(ctx), "0.5"), "the nearest above is not named: %s", atv_last_error(ctx));
    FAILS(ctx, atv_config_preset(ctx, ATV_GQA, 0.01, 1, 1024, &c), ATV_ERR_ARGUMENT, "0.125");
    FAILS(ctx, atv_config_preset(ctx, ATV_GQA, 1.5, 1, 1024, &c), ATV_ERR_ARGUMENT, "1.5");
    FAILS(ctx, atv_config_preset(ctx, ATV_GQA, -0.5, 1, 1024, &c), ATV_ERR_ARGUMENT, "-0.5");
    FAILS(ctx, atv_config_preset(ctx, ATV_GQA, (double)NAN, 1, 1024, &c), ATV_ERR_ARGUMENT, "group_proportion");
    FAILS(ctx, atv_config_preset(ctx, ATV_GQA, 0.5, 0.5, 1024, &c), ATV_ERR_ARGUMENT, "kqv_proportion");
    FAILS(ctx, atv_config_preset(ctx, ATV_KQV, 0.5, 0.5, 1024, &c), ATV_ERR_ARGUMENT, "group_proportion");
    FAILS(ctx, atv_config_preset(ctx, ATV_MHA, 0.5, 1, 1024, &c), ATV_ERR_ARGUMENT, "group_proportion");
    FAILS(ctx, atv_config_preset(ctx, (atv_variant)77, 1, 1, 1024, &c), ATV_ERR_ARGUMENT, "77");
    FAILS(ctx, atv_config_preset(ctx, ATV_MHA, 1, 1, 0, &c), ATV_ERR_ARGUMENT, "ffn_base=0");
    CHECK(memcmp(&c, &before, sizeof c) == 0, "a failure wrote its output");
    MUST(ctx, atv_config_preset(ctx, ATV_MQA, 0, 0, 1024, &c));
    CHECK(c.num_key_value_heads == 1 && c.intermediate_size == 1360,
          "MQA: G %d F %d", c.num_key_value_heads, c.intermediate_size);
    /* thirds are not binary fractions: 6 heads, a third of them */
    c.num_heads = 6;
    MUST(ctx, atv_config_preset(ctx, ATV_GQA, 1 / 3.0, 1, 1024, &c));
    CHECK(c.num_key_value_heads == 2, "a third of 6 heads is %d", c.num_key_value_heads);

    c = atv_config_published();
    CHECK(c.vocab_size == 10000 && c.max_position_embeddings == 512 && c.hidden_size == 384 && c.num_layers == 2 &&
          c.num_heads == 8 && c.window_size == 256 && c.intermediate_size == 1024, "the published model");
    {
        int v;
        atv_variant out = ATV_VARIANT_COUNT;
        for (v = 0; v < ATV_VARIANT_COUNT; v++)
            CHECK(atv_variant_from_name(atv_variant_name((atv_variant)v), &out) == ATV_OK && (int)out == v, "variant %d", v);
        CHECK(atv_variant_from_name("mla", &out) == ATV_ERR_ARGUMENT, "mla is none of ours");
    }
    atv_ctx_destroy(ctx);
}

int main(void) {
    test_results();
    test_isas();
    test_contexts();
    test_parallel();
    test_idle();
    test_random();
    test_config();
    test_presets();
    return test_done("core");
}
