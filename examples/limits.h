/* limits.h: what this machine can do at best, and what a step of a model needs of it.

   Two limits, measured: the fused multiply-adds of all lanes together, and what they read of a step's own memory. A step is
   a few phases (matrix products, attention), none faster than the slower of its arithmetic and its reading; their sum is the
   least time that the step can take:

       limits_phase phases[1 + N_LAYERS];
       limits_area *areas = limits_areas(model, decoder, 0, &n_areas);
       n = limits_decode_phases(atv_model_config(model), batch, 1, 256, phases);
       seconds = limits_seconds(phases, n, limits_flops(ctx, 0.01), limits_read(ctx, areas, n_areas, 0.01));

   Both limits swing with the machine's other guests: measure them between the repeats of what they are compared with.
   Include it after attnvar.h with its implementation: it runs on the context's lanes and reads the library's own memory. */
#ifndef LIMITS_H
#define LIMITS_H

#include <time.h>

#ifdef __GNUC__
#  define LIMITS_DEF static __attribute__((unused))
#else
#  define LIMITS_DEF static
#endif
#ifdef __aarch64__
#  include <arm_neon.h>
#endif

/* ==== Measured ==================================================================================================== */

typedef struct limits_area { const void *p; size_t size; } limits_area;

/* What each lane did between its start and its end; `keep` is what the compiler must not leave out. */
typedef struct limits_lane { double start, end, done; float keep; } limits_lane;

typedef struct limits_run {
    atv_ctx *ctx;
    double seconds;
    float scale, shift;             /* of the multiply-adds */
    const limits_area *areas;
    int n_areas, n_lanes;
    size_t size;                    /* of all areas */
    limits_lane *lanes;             /* [n_lanes] */
} limits_run;

static double limits_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs `item` once on every lane; their rates together, of those that ran at the same time. 0: no memory. */
static double limits_together(limits_run *run, atvi_item_fn item) {
    double first_end, rate = 0;
    int i;
    run->n_lanes = run->ctx->desc.n_threads;
    run->lanes = (limits_lane *)calloc((size_t)run->n_lanes, sizeof *run->lanes);
    if (!run->lanes) return 0;
    atvi_parallel(run->ctx, run->n_lanes, item, run);
    first_end = run->lanes[0].end;
    for (i = 1; i < run->n_lanes; i++) first_end = ATVI_MIN(first_end, run->lanes[i].end);
    for (i = 0; i < run->n_lanes; i++) {
        const limits_lane *l = &run->lanes[i];
        if (l->start < first_end) rate += l->done / (l->end - l->start);
    }
    free(run->lanes);
    return rate;
}

/* n rounds of x = x * a + b in independent chains, in registers: more than two units of 4 cycles need. The compiler must not
   know the numbers, or it works out some of the chains. */
#define LIMITS_12(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define LIMITS_24(X) LIMITS_12(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define LIMITS_NUMBERS int64_t n, float scale, float shift
#define LIMITS_START(i) x##i = LIMITS_SET(scale + (float)(i)),
#define LIMITS_STEP(i) x##i = LIMITS_FMA(x##i, a, b);
#define LIMITS_SUM(i) sum = LIMITS_FMA(x##i, a, sum);
#define LIMITS_CHAINS(vector, CHAINS) \
    vector CHAINS(LIMITS_START) a = LIMITS_SET(scale), b = LIMITS_SET(shift), sum = b; \
    float first; \
    for (; n > 0; n--) { CHAINS(LIMITS_STEP) } \
    CHAINS(LIMITS_SUM) \
    memcpy(&first, &sum, sizeof first); \
    return first;

#define LIMITS_SET(x) (x)
#define LIMITS_FMA(x, a, b) ((x) * (a) + (b))
static float limits_fma_scalar(LIMITS_NUMBERS) { LIMITS_CHAINS(float, LIMITS_12) }
#undef LIMITS_SET
#undef LIMITS_FMA
#ifdef ATVI_X86
#  define LIMITS_SET(x) _mm256_set1_ps(x)
#  define LIMITS_FMA(x, a, b) _mm256_fmadd_ps(x, a, b)
__attribute__((target("avx2,fma"))) static float limits_fma_avx2(LIMITS_NUMBERS) { LIMITS_CHAINS(__m256, LIMITS_12) }
#  undef LIMITS_SET
#  undef LIMITS_FMA
#  define LIMITS_SET(x) _mm512_set1_ps(x)
#  define LIMITS_FMA(x, a, b) _mm512_fmadd_ps(x, a, b)
__attribute__((target("avx512f"))) static float limits_fma_avx512(LIMITS_NUMBERS) { LIMITS_CHAINS(__m512, LIMITS_12) }
#  undef LIMITS_SET
#  undef LIMITS_FMA
#endif
#ifdef __aarch64__
#  define LIMITS_SET(x) vdupq_n_f32(x)
#  define LIMITS_FMA(x, a, b) vfmaq_f32(x, a, b)                /* x + a * b: the instruction adds to its target */
static float limits_fma_neon(LIMITS_NUMBERS) { LIMITS_CHAINS(float32x4_t, LIMITS_24) }
#  undef LIMITS_SET
#  undef LIMITS_FMA
#endif

static void limits_flops_item(void *arg, int64_t item, int lane) {
    const limits_run *run = (const limits_run *)arg;
    const atv_isa isa = run->ctx->desc.isa;
    float (*fma)(LIMITS_NUMBERS) = limits_fma_scalar;
    double flops = 2 * 12;                                  /* of a round */
    limits_lane l = {0, 0, 0, 0};
    (void)lane;
    (void)isa;
#ifdef ATVI_X86
    if (isa == ATV_ISA_AVX2) { fma = limits_fma_avx2; flops = 2 * 12 * 8; }
    if (isa == ATV_ISA_AVX512) { fma = limits_fma_avx512; flops = 2 * 12 * 16; }
#endif
#ifdef __aarch64__
    if (isa == ATV_ISA_NEON) { fma = limits_fma_neon; flops = 2 * 24 * 4; }
#endif
    l.start = limits_now();
    do {
        l.keep += fma(2000, run->scale, run->shift);
        l.done += 2000 * flops;
        l.end = limits_now();
    } while (l.end - l.start < run->seconds);
    run->lanes[item] = l;
}

/* FLOP/s of all lanes together: multiply-adds of the context's instruction set in registers. Scalar ones are what the
   compiler makes of plain floats. */
LIMITS_DEF double limits_flops(atv_ctx *ctx, double seconds) {
    limits_run run = {0};
    run.ctx = ctx;
    run.seconds = seconds;
    run.scale = 0.75f;
    run.shift = 0.5f;
    return limits_together(&run, limits_flops_item);
}

/* Wide loads through n bytes (whole lines of 64), in order, each line asked for LIMITS_AHEAD bytes before. On Zen 5 one such
   stream is as fast as four or faster, up to 1.35 x, on all that the second level of cache does not hold: 4 to 500 MB, in one
   piece or in pieces of 12 KB. */
#ifdef __GNUC__
typedef uint64_t limits_half __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint64_t limits_word __attribute__((vector_size(32), aligned(4), may_alias));
#  define LIMITS_ASK(p) __builtin_prefetch(p)
#else
typedef uint64_t limits_half;
#  define LIMITS_ASK(p) ((void)0)
#endif
#define LIMITS_AHEAD 8192
#define LIMITS_READ(word) \
    const size_t words = 64 / sizeof(word); \
    const word *w = (const word *)(const void *)p, *end = w + n / 64 * words; \
    word x[4] = {*w, *w, *w, *w}; \
    size_t k; \
    float keep; \
    for (; w < end; w += words) { \
        LIMITS_ASK((const char *)w + LIMITS_AHEAD); \
        ATVI_UNROLL for (k = 0; k < words; k++) x[k & 3] |= w[k]; \
    } \
    x[0] |= x[1] | x[2] | x[3]; \
    memcpy(&keep, x, sizeof keep); \
    return keep;

static float limits_read_plain(const char *p, size_t n) { LIMITS_READ(limits_half) }
#ifdef ATVI_X86
__attribute__((target("avx2"))) static float limits_read_avx2(const char *p, size_t n) { LIMITS_READ(limits_word) }
#endif

/* A lane's contiguous share of all areas, as often as there is time, once at least. */
static void limits_read_item(void *arg, int64_t item, int lane) {
    const limits_run *run = (const limits_run *)arg;
    size_t share = run->size / (size_t)run->n_lanes, first = (size_t)item * share / 64 * 64;
    size_t end = item == run->n_lanes - 1 ? run->size : (size_t)(item + 1) * share / 64 * 64;
    float (*lines)(const char *p, size_t n) = limits_read_plain;
    limits_lane l = {0, 0, 0, 0};
    (void)lane;
#ifdef ATVI_X86
    if (atv_isa_available(ATV_ISA_AVX2)) lines = limits_read_avx2;
#endif
    l.start = limits_now();
    do {
        size_t at = 0;
        int i;
        for (i = 0; i < run->n_areas; at += run->areas[i++].size) {
            size_t from = ATVI_MAX(first, at), to = ATVI_MIN(end, at + run->areas[i].size);
            if (from + 64 > to) continue;
            l.keep += lines((const char *)run->areas[i].p + (from - at), to - from);
            l.done += (double)((to - from) / 64 * 64);
        }
        l.end = limits_now();
    } while (l.end - l.start < run->seconds);
    run->lanes[item] = l;
}

/* Bytes/s that all lanes together read of these very areas, in whole passes, with the widest loads the machine has. */
LIMITS_DEF double limits_read(atv_ctx *ctx, const limits_area *areas, int n_areas, double seconds) {
    limits_run run = {0};
    int i;
    run.ctx = ctx;
    run.seconds = seconds;
    run.areas = areas;
    run.n_areas = n_areas;
    for (i = 0; i < n_areas; i++) run.size += areas[i].size;
    return limits_together(&run, limits_read_item);
}

/* ==== A step's memory ============================================================================================= */

static void limits_add_area(limits_area *out, int *n, const void *p, int64_t size) {
    if (out) {
        out[*n].p = p;
        out[*n].size = (size_t)size;
    }
    ++*n;
}

static int limits_list_areas(const atv_model *model, const atv_decoder *decoder, int positions, limits_area *out) {
    int i, seq, g, n = 0;
    for (i = 0; i < model->n_params; i++) {
        const atvi_param *p = &model->params[i];
        if (p->packed) limits_add_area(out, &n, p->packed, p->dims[0] * p->dims[1] * (int64_t)sizeof(atv_real));
    }
    for (i = 0; decoder && i < model->config.num_layers; i++) {
        const atv_kv *kv = &decoder->kv[i];
        if (model->layers[i].kv_layer != i) continue;
        for (seq = 0; seq < decoder->desc.n_seq; seq++) {
            int64_t seen = ATVI_MIN(kv->length[seq], kv->room);
            if (positions) seen = ATVI_MIN(seen, positions);
            for (g = 0; seen > 0 && g < kv->desc.n_kv_head; g++) {
                limits_add_area(out, &n, atvi_kv_keys(kv, seq, g),
                                ATVI_ROUND(seen) * kv->desc.head_dim * (int64_t)sizeof(atv_real));
                limits_add_area(out, &n, atvi_kv_values(kv, seq, g), seen * kv->desc.value_dim * (int64_t)sizeof(atv_real));
            }
        }
    }
    return n;
}

/* What a step reads: the packed weights, and the caches of a decoder's sequences (NULL: none), of the first `positions` of
   each (0: all). The caller frees it; NULL: no memory. */
LIMITS_DEF limits_area *limits_areas(const atv_model *model, const atv_decoder *decoder, int positions, int *n) {
    limits_area *areas;
    *n = limits_list_areas(model, decoder, positions, NULL);
    areas = (limits_area *)malloc((size_t)*n * sizeof *areas);
    if (areas) limits_list_areas(model, decoder, positions, areas);
    return areas;
}

/* ==== A step's work =============================================================================================== */

typedef struct limits_phase { const char *name; double flops, bytes; } limits_phase;

/* Weights of all matrices that a token passes through, the head's among them. */
LIMITS_DEF double limits_weights(const atv_config *c) {
    double C = c->hidden_size, n = C * c->vocab_size;
    int i;
    for (i = 0; i < c->num_layers; i++) {
        const atv_layer *l = &c->layers[i];
        double G = l->kv_layer == i ? l->num_key_value_heads : 0;
        n += C * (((double)l->num_heads + G) * ((double)l->head_dim + l->value_dim) + 2.0 * l->intermediate_size);
    }
    return n;
}

/* Positions that a query sees, from a context of `first` (itself among them) to one of `last`, summed up. */
static double limits_visible(const atv_layer *l, int first, int last) {
    double sum = 0;
    int i;
    for (i = first; i <= last; i++) sum += l->window_size && l->window_size < i ? l->window_size : i;
    return sum;
}

/* Key/value heads that some query head reads. */
static int limits_groups_read(const atv_layer *l) {
    int g, h, n = 0;
    for (g = 0; g < l->num_key_value_heads; g++)
        for (h = 0; h < l->num_heads; h++)
            if (atv_kv_of_head(l->num_heads, l->num_key_value_heads, l->kv_of_head, h) == g) { n++; break; }
    return n;
}

/* One token for each of `batch` sequences, the mean over contexts first..last (the new token counted): all matrices read
   once; keys and values once a sequence and group. c: of a model. out [1 + L]; returns how many. */
LIMITS_DEF int limits_decode_phases(const atv_config *c, int batch, int first, int last, limits_phase *out) {
    int i;
    out[0].name = "matrix products";
    out[0].flops = 2 * limits_weights(c) * batch;
    out[0].bytes = limits_weights(c) * sizeof(atv_real);
    for (i = 0; i < c->num_layers; i++) {
        const atv_layer *l = &c->layers[i];
        double width = (double)l->head_dim + l->value_dim;
        double seen = batch * limits_visible(l, first, last) / (last - first + 1);
        out[1 + i].name = "attention";
        out[1 + i].flops = 2 * seen * l->num_heads * width;
        out[1 + i].bytes = seen * limits_groups_read(l) * width * sizeof(atv_real);
    }
    return 1 + c->num_layers;
}

/* A training step over sequences of these lengths: 2 flops a weight and token forward, 4 backward; attention 2 products
   forward and 4 backward over what is visible, keys and values read once each way. c: of a model. out [1 + L]. */
LIMITS_DEF int limits_train_phases(const atv_config *c, int n_seq, const int *lengths, limits_phase *out) {
    double tokens = 0;
    int i, k;
    for (k = 0; k < n_seq; k++) tokens += lengths[k];
    out[0].name = "matrix products";
    out[0].flops = 6 * limits_weights(c) * tokens;
    out[0].bytes = 2 * limits_weights(c) * sizeof(atv_real);
    for (i = 0; i < c->num_layers; i++) {
        const atv_layer *l = &c->layers[i];
        double width = (double)l->head_dim + l->value_dim;
        out[1 + i].name = "attention";
        out[1 + i].flops = 0;
        for (k = 0; k < n_seq; k++) out[1 + i].flops += 6 * limits_visible(l, 1, lengths[k]) * l->num_heads * width;
        out[1 + i].bytes = 2 * tokens * limits_groups_read(l) * width * sizeof(atv_real);
    }
    return 1 + c->num_layers;
}

/* The least time: of each phase the longer of its arithmetic and its reading. */
LIMITS_DEF double limits_seconds(const limits_phase *phases, int n, double flops_per_s, double bytes_per_s) {
    double seconds = 0;
    int i;
    for (i = 0; i < n; i++) {
        double arithmetic = phases[i].flops / flops_per_s, reading = phases[i].bytes / bytes_per_s;
        seconds += ATVI_MAX(arithmetic, reading);
    }
    return seconds;
}

#endif /* LIMITS_H */
