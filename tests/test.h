/* What the tests share. Each test is one file that includes attnvar.h and then this; it is linked with the library that the
   Makefile compiles once, or, to see the insides, defines ATTNVAR_IMPLEMENTATION. It is run from the top of the repository,
   prints failures and a last line "NAME: N passed, N failed, N skipped".

       #include "../attnvar.h"
       #include "test.h"
       int main(void) { CHECK(1 + 1 == 2, "sum is %d", 1 + 1); return test_done("core"); } */
#ifndef ATTNVAR_TEST_H
#define ATTNVAR_TEST_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GNUC__
#  define TEST_PRINTF(f, a) __attribute__((format(printf, f, a)))
#  define TEST_FN __attribute__((unused)) static
#else
#  define TEST_PRINTF(f, a)
#  define TEST_FN static
#endif

static int test_passed, test_failed, test_skipped;

/* NaN and infinity are promised only without finite-math flags; with them their checks, compiled alike, are skipped. */
#if defined(ATVI_FAST_MATH) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
enum { test_nonfinite = 0 };
#else
enum { test_nonfinite = 1 };
#endif

TEST_PRINTF(4, 5)
TEST_FN int test_check(int ok, const char *file, int line, const char *format, ...) {
    va_list args;
    if (ok) { test_passed++; return 1; }
    test_failed++;
    printf("%s:%d: FAILED: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    return 0;
}

TEST_PRINTF(1, 2)
TEST_FN void test_skip(const char *format, ...) {
    va_list args;
    test_skipped++;
    printf("SKIPPED: ");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

/* CHECK(cond, "what was found: %d", x): counts; prints failures only; its value is the condition's. */
#define CHECK(cond, ...) test_check((cond) ? 1 : 0, __FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...) test_skip(__VA_ARGS__)

/* The last line, and the exit code. */
TEST_FN int test_done(const char *name) {
    printf("%s: %d passed, %d failed, %d skipped\n", name, test_passed, test_failed, test_skipped);
    return test_failed ? 1 : 0;
}

/* The folder of larger fixtures, or NULL. */
TEST_FN const char *test_shared(void) {
    const char *path = getenv("ATTNVAR_SHARED");
    return path && *path ? path : NULL;
}

/* printf into one of eight rotating buffers: test_path("%s/config.json", dir). */
TEST_PRINTF(1, 2)
TEST_FN const char *test_path(const char *format, ...) {
    static char buffers[8][1024];
    static int next;
    char *buffer = buffers[next++ % 8];
    va_list args;
    va_start(args, format);
    vsnprintf(buffer, sizeof buffers[0], format, args);
    va_end(args);
    return buffer;
}

/* The whole file with a 0 after it, to be freed; NULL when there is none. size may be NULL. */
TEST_FN void *test_read(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    size_t n = 0, room = 0, got;
    if (!file) return NULL;
    do {
        if (n + 1 >= room) {
            char *p = (char *)realloc(data, room = room * 2 + 4096);
            if (!p) { free(data); fclose(file); return NULL; }
            data = p;
        }
        got = fread(data + n, 1, room - 1 - n, file);
        n += got;
    } while (got > 0);
    fclose(file);
    data[n] = 0;
    if (size) *size = n;
    return data;
}

TEST_FN int test_write(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    int bad;
    if (!file) return 0;
    bad = fwrite(data, 1, size, file) != size;
    return (fclose(file) == 0) & !bad;
}

/* Just enough JSON for files of our own making: behind "key": from text on; NULL when it is not there. */
TEST_FN const char *test_find(const char *text, const char *key) {
    char quoted[128];
    const char *p;
    if (!text) return NULL;
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    p = strstr(text, quoted);
    if (!p) return NULL;
    for (p += strlen(quoted); *p == ' ' || *p == '\n'; p++) {}
    return p;
}

/* The number there, NaN for none, so that every comparison with it fails. */
TEST_FN double test_number(const char *text, const char *key) {
    const char *p = test_find(text, key);
    char *end;
    double x;
    if (!p) return (double)NAN;
    x = strtod(p, &end);
    return end == p ? (double)NAN : x;
}

/* The numbers of the array at p, at most cap; how many. */
TEST_FN int test_numbers(const char *p, double *out, int cap) {
    int n = 0;
    if (!p || *p != '[') return 0;
    for (p++; n < cap;) {
        char *end;
        double x;
        while (*p == ' ' || *p == '\n' || *p == ',') p++;
        x = strtod(p, &end);
        if (end == p) break;
        out[n++] = x;
        p = end;
    }
    return n;
}

/* An allocator that counts, and fails from its allocation number `fail_at` on (once only with fail_once); 0: never. */
typedef struct test_alloc { long count, live, fail_at; size_t bytes; int fail_once; } test_alloc;

TEST_FN void *test_alloc_get(void *user, size_t size) {
    test_alloc *a = (test_alloc *)user;
    size_t *p;
    a->count++;
    if (a->fail_at && (a->fail_once ? a->count == a->fail_at : a->count >= a->fail_at)) return NULL;
    p = (size_t *)malloc(size + 16);
    if (!p) return NULL;
    *p = size;
    a->live++;
    a->bytes += size;
    memset((char *)p + 16, 0xA5, size);
    return (char *)p + 16;
}

TEST_FN void test_alloc_put(void *user, void *ptr) {
    test_alloc *a = (test_alloc *)user;
    if (!ptr) return;
    a->live--;
    a->bytes -= *(size_t *)((char *)ptr - 16);
    free((char *)ptr - 16);
}

#ifdef ATTNVAR_H

/* Stops the program when a call that must succeed does not: what follows would mean nothing. */
#define MUST(ctx, call) do { atv_result must_r_ = (call); \
    if (must_r_ != ATV_OK) { CHECK(0, "%s: %s", #call, (ctx) ? atv_last_error(ctx) : atv_result_text(must_r_)); \
        printf("cannot go on\n"); exit(test_done("aborted")); } } while (0)

/* The call fails with `code`, and the message has `text` in it. */
#define FAILS(ctx, call, code, text) do { atv_result fails_r_ = (call); \
    CHECK(fails_r_ == (code), "%s gave '%s', not '%s' (%s)", #call, atv_result_text(fails_r_), atv_result_text(code), \
          atv_last_error(ctx)); \
    CHECK(strstr(atv_last_error(ctx), text) != NULL, "%s: the error '%s' lacks '%s'", #call, atv_last_error(ctx), text); \
} while (0)

TEST_FN atv_ctx *test_ctx(atv_isa isa, int n_threads) {
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.isa = isa;
    desc.n_threads = n_threads;
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    return ctx;
}

TEST_FN void test_normal(atv_rng *rng, atv_real *x, size_t n, double scale) {
    size_t i;
    for (i = 0; i < n; i++) x[i] = (atv_real)(scale * atv_rng_normal(rng));
}

/* The largest absolute difference; NaN anywhere gives infinity. */
TEST_FN double test_difference(const float *a, const float *b, size_t n) {
    double worst = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= 1e300)) return HUGE_VAL;
        if (d > worst) worst = d;
    }
    return worst;
}

/* A parameter or gradient as plain numbers: they are contiguous. */
TEST_FN atv_real *test_data(atv_tensor t, int64_t *n) {
    int64_t count = 1;
    int i;
    for (i = t.rank - 1; i >= 0; i--) {
        if (t.strides[i] != count && t.dims[i] != 1)
            CHECK(0, "stride %d is %ld, not %ld", i, (long)t.strides[i], (long)count);
        count *= t.dims[i];
    }
    if (t.dtype != ATV_REAL) CHECK(0, "dtype %s", atv_dtype_name(t.dtype));
    if (n) *n = count;
    return (atv_real *)t.data;
}

/* Weights N(0, scale), of norms N(1, scale): a model far from its start, whose every part matters. */
TEST_FN void test_fill(atv_model *model, uint64_t seed, double scale) {
    atv_rng rng;
    int i;
    rng.state = seed;
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        atv_named_tensor t = atv_model_tensor(model, i);
        int64_t n, k;
        atv_real *x = test_data(t.tensor, &n);
        double mean = strstr(t.name, ".ln_") && strstr(t.name, ".weight") ? 1 : 0;
        for (k = 0; k < n; k++) x[k] = (atv_real)(mean + scale * atv_rng_normal(&rng));
    }
    atv_model_changed(model);
}

TEST_FN atv_model *test_model(atv_ctx *ctx, const atv_config *config, uint64_t seed, double scale) {
    atv_model *model = NULL;
    MUST(ctx, atv_model_create(ctx, config, &model));
    test_fill(model, seed, scale);
    return model;
}

TEST_FN void test_ids(atv_rng *rng, int32_t *ids, int n, int vocab_size) {
    int i;
    for (i = 0; i < n; i++) ids[i] = (int32_t)atv_rng_below(rng, (uint32_t)vocab_size);
}

TEST_FN atv_batch test_batch(const int32_t *ids, const int *lengths, int n_seq) {
    atv_batch batch;
    memset(&batch, 0, sizeof batch);
    batch.ids = ids;
    batch.lengths = lengths;
    batch.n_seq = n_seq;
    return batch;
}

TEST_FN atv_work *test_work(atv_model *model, int max_tokens, int backward) {
    atv_work_desc desc;
    atv_work *work = NULL;
    memset(&desc, 0, sizeof desc);
    desc.max_tokens = max_tokens;
    desc.backward = backward;
    MUST(atv_model_ctx(model), atv_work_create(model, &desc, &work));
    return work;
}

/* One attention problem with its answer, in doubles, by the plainest loops there are. */
typedef struct test_attn {
    atv_attn_desc desc;
    int map[16], n_seq, q_len[4], k_len[4], q_offset[4];
    int nq, nk;                                             /* all queries, all keys */
    double *q, *k, *v, *dout;                               /* [nq,H,D] [nk,G,D] [nk,G,Dv] [nq,H,Dv] */
    double *out, *lse, *p, *dq, *dk, *dv;                   /* p: [nq,H,longest k_len] */
    int longest;
} test_attn;

TEST_FN int test_attn_sees(const test_attn *c, int b, int i, int j) {
    int at = c->q_offset[b] + i;
    return (c->desc.non_causal || j <= at) && (c->desc.window == 0 || j > at - c->desc.window);
}

TEST_FN void test_attn_answer(test_attn *c) {
    int H = c->desc.n_head, G = c->desc.n_kv_head, D = c->desc.head_dim, E = c->desc.value_dim;
    int b, i, j, h, d, q0 = 0, k0 = 0;
    memset(c->out, 0, sizeof(double) * (size_t)c->nq * (size_t)(H * E));
    memset(c->dq, 0, sizeof(double) * (size_t)c->nq * (size_t)(H * D));
    memset(c->dk, 0, sizeof(double) * (size_t)c->nk * (size_t)(G * D));
    memset(c->dv, 0, sizeof(double) * (size_t)c->nk * (size_t)(G * E));
    memset(c->p, 0, sizeof(double) * (size_t)c->nq * (size_t)(H * c->longest));
    for (b = 0; b < c->n_seq; q0 += c->q_len[b], k0 += c->k_len[b], b++)
        for (i = 0; i < c->q_len[b]; i++)
            for (h = 0; h < H; h++) {
                const double *q = c->q + ((q0 + i) * H + h) * D, *dout = c->dout + ((q0 + i) * H + h) * E;
                double *out = c->out + ((q0 + i) * H + h) * E, *p = c->p + ((q0 + i) * H + h) * c->longest;
                double top = -HUGE_VAL, sum = 0, dot = 0;
                for (j = 0; j < c->k_len[b]; j++) {
                    const double *k = c->k + ((k0 + j) * G + c->map[h]) * D;
                    if (!test_attn_sees(c, b, i, j)) continue;
                    for (d = 0; d < D; d++) p[j] += c->desc.scale * q[d] * k[d];
                    if (p[j] > top) top = p[j];
                }
                for (j = 0; j < c->k_len[b]; j++) if (test_attn_sees(c, b, i, j)) sum += p[j] = exp(p[j] - top);
                c->lse[(q0 + i) * H + h] = sum > 0 ? top + log(sum) : 0;
                for (j = 0; j < c->k_len[b]; j++) {
                    const double *v = c->v + ((k0 + j) * G + c->map[h]) * E;
                    if (!test_attn_sees(c, b, i, j)) continue;
                    p[j] /= sum;
                    for (d = 0; d < E; d++) { out[d] += p[j] * v[d]; dot += p[j] * v[d] * dout[d]; }
                }
                for (j = 0; j < c->k_len[b]; j++) {
                    const double *k = c->k + ((k0 + j) * G + c->map[h]) * D, *v = c->v + ((k0 + j) * G + c->map[h]) * E;
                    double ds = -dot;
                    if (!test_attn_sees(c, b, i, j)) continue;
                    for (d = 0; d < E; d++) ds += dout[d] * v[d];
                    ds *= p[j] * c->desc.scale;
                    for (d = 0; d < D; d++) c->dq[((q0 + i) * H + h) * D + d] += ds * k[d];
                    for (d = 0; d < D; d++) c->dk[((k0 + j) * G + c->map[h]) * D + d] += ds * q[d];
                    for (d = 0; d < E; d++) c->dv[((k0 + j) * G + c->map[h]) * E + d] += p[j] * dout[d];
                }
            }
}

/* Room for desc, map, lengths as set, and normal inputs that are exact in atv_real. */
TEST_FN void test_attn_make(test_attn *c, atv_rng *rng) {
    int H = c->desc.n_head, G = c->desc.n_kv_head, D = c->desc.head_dim, E = c->desc.value_dim, b, i, part;
    struct { double **x; int n; } parts[10];
    c->nq = c->nk = 0;
    c->longest = 1;
    for (b = 0; b < c->n_seq; b++) {
        c->nq += c->q_len[b];
        c->nk += c->k_len[b];
        if (c->k_len[b] > c->longest) c->longest = c->k_len[b];
    }
    parts[0].x = &c->q;    parts[0].n = c->nq * H * D;
    parts[1].x = &c->k;    parts[1].n = c->nk * G * D;
    parts[2].x = &c->v;    parts[2].n = c->nk * G * E;
    parts[3].x = &c->dout; parts[3].n = c->nq * H * E;
    parts[4].x = &c->out;  parts[4].n = c->nq * H * E;
    parts[5].x = &c->lse;  parts[5].n = c->nq * H;
    parts[6].x = &c->p;    parts[6].n = c->nq * H * c->longest;
    parts[7].x = &c->dq;   parts[7].n = c->nq * H * D;
    parts[8].x = &c->dk;   parts[8].n = c->nk * G * D;
    parts[9].x = &c->dv;   parts[9].n = c->nk * G * E;
    for (part = 0; part < 10; part++) {
        *parts[part].x = (double *)calloc((size_t)parts[part].n + 1, sizeof(double));
        if (!*parts[part].x) exit(1);
        for (i = 0; part < 4 && i < parts[part].n; i++) (*parts[part].x)[i] = (atv_real)atv_rng_normal(rng);
    }
    c->desc.kv_of_head = c->map;
    c->desc.max_keys = c->longest;
    test_attn_answer(c);
}

TEST_FN void test_attn_free(test_attn *c) {
    free(c->q); free(c->k); free(c->v); free(c->dout); free(c->out); free(c->lse); free(c->p); free(c->dq); free(c->dk);
    free(c->dv);
}

/* A problem drawn at random: any groups, empty ones too, lengths with 0, offsets before and past the keys. */
TEST_FN void test_attn_random(test_attn *c, atv_rng *rng, int longest) {
    static const int dims[] = { 1, 3, 7, 9, 16, 48 };
    int h, b;
    memset(c, 0, sizeof *c);
    c->desc.n_head = 1 + (int)atv_rng_below(rng, 8);
    c->desc.n_kv_head = 1 + (int)atv_rng_below(rng, (uint32_t)c->desc.n_head);
    c->desc.head_dim = dims[atv_rng_below(rng, 6)];
    c->desc.value_dim = atv_rng_below(rng, 2) ? c->desc.head_dim : dims[atv_rng_below(rng, 6)];
    c->desc.scale = c->desc.head_dim < 8 ? 0.7f : (float)(1 / sqrt(c->desc.head_dim));
    c->desc.window = atv_rng_below(rng, 2) ? 0 : 1 + (int)atv_rng_below(rng, (uint32_t)longest + 3);
    c->desc.non_causal = atv_rng_below(rng, 4) == 0;
    for (h = 0; h < c->desc.n_head; h++)
        c->map[h] = atv_rng_below(rng, 2) ? atv_kv_of_head(c->desc.n_head, c->desc.n_kv_head, NULL, h)
                                          : (int)atv_rng_below(rng, (uint32_t)c->desc.n_kv_head);
    c->n_seq = 1 + (int)atv_rng_below(rng, 3);
    for (b = 0; b < c->n_seq; b++) {
        c->q_len[b] = (int)atv_rng_below(rng, (uint32_t)longest + 1);
        c->k_len[b] = atv_rng_below(rng, 2) ? c->q_len[b] : (int)atv_rng_below(rng, (uint32_t)longest + 1);
        c->q_offset[b] = c->k_len[b] - c->q_len[b];
        if (c->q_offset[b] < 0 || atv_rng_below(rng, 3) == 0) c->q_offset[b] = (int)atv_rng_below(rng, 6);
    }
    test_attn_make(c, rng);
}

#endif /* ATTNVAR_H */
#endif /* ATTNVAR_TEST_H */
