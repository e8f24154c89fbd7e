/* The kernels of each instruction set, one by one, against plain loops in double and against the scalar ones: every
   remainder, every layout, NaN and infinity, memory that ends where the arrays end; exp and GELU over every 97th float
   (test_kernels STEP: over every STEP-th). */
#define _DEFAULT_SOURCE
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "test.h"
#include <sys/mman.h>

#define UNIT (1.0 / 16777216)                               /* half an ULP of 1: a rounding's relative error */
#define OVERFLOWN 340282366920938463463374607431768211456.0 /* 2^128 */

static const atvi_kernels *kernels[ATV_ISA_COUNT];          /* NULL where the machine has none */
static int flushed;                                         /* subnormals are, as gcc's -ffast-math asks the processor */
static double lost = 2e-38;                                 /* an exp as small may be 0 */

/* NaN's sign and payload are nobody's business. */
static uint32_t bits_of(float x) {
    uint32_t b;
    memcpy(&b, &x, 4);
    return (b & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : b;
}

static int same_bits(const float *a, const float *b, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) if (bits_of(a[i]) != bits_of(b[i])) return 0;
    return 1;
}

/* 'f' for a number, '+' and '-' for the infinities, 'n' for NaN; on the bits, since -ffast-math folds the rest away. */
static char kind(double x) {
    uint64_t b;
    memcpy(&b, &x, 8);
    if ((b & UINT64_C(0x7fffffffffffffff)) > UINT64_C(0x7ff0000000000000)) return 'n';
    return (b << 1) != UINT64_C(0xffe0000000000000) ? 'f' : b >> 63 ? '-' : '+';
}

/* got is want, or a number within bound of it. */
static int close_to(double got, double want, double bound) {
    return kind(want) == 'f' ? kind(got) == 'f' && (got == want || fabs(got - want) <= bound) : kind(got) == kind(want);
}

static int between(atv_rng *rng, int low, int high) { return low + (int)atv_rng_below(rng, (uint32_t)(high - low + 1)); }

/* ---- memory that ends where an array ends ---- */

enum { AREAS = 7, FENCE = 64, AT_START = -1, AT_END = -2 };
#define AREA_FLOATS ((size_t)12 << 20)

typedef struct area { float *base, *p; size_t n; } area;    /* AREA_FLOATS between two pages that none may touch */
static area areas[AREAS];

static void areas_make(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = AREA_FLOATS * 4;
    int i;
    for (i = 0; i < AREAS; i++) {
        char *p = (char *)mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == (char *)MAP_FAILED || mprotect(p + page, size, PROT_READ | PROT_WRITE)) { perror("mmap"); exit(1); }
        areas[i].base = (float *)(void *)(p + page);
    }
}

/* A NaN: who reads it by mistake shows it. Each area has its own, or who reads beside one and writes beside another writes
   what was there: sums pass a NaN on. */
static uint32_t fence(int i) { return 0x7fc5a500u + (uint32_t)i; }

static void fill_fence(int at, float *p, size_t n) {
    const uint32_t f = fence(at);
    size_t i;
    for (i = 0; i < n; i++) memcpy(p + i, &f, 4);
}

static int is_fence(int at, const float *p, size_t n) {
    const uint32_t f = fence(at);
    size_t i;
    for (i = 0; i < n; i++) if (memcmp(p + i, &f, 4) != 0) return 0;
    return 1;
}

static size_t fence_before(const area *a) { return ATVI_MIN((size_t)FENCE, (size_t)(a->p - a->base)); }
static size_t fence_after(const area *a) { return ATVI_MIN((size_t)FENCE, AREA_FLOATS - a->n - (size_t)(a->p - a->base)); }

/* n floats of area i: right behind the page before it, right before the page after it, or `where` floats into it. */
static float *place(int i, size_t n, int where) {
    area *a = &areas[i];
    if (n + FENCE > AREA_FLOATS) { printf("area too small\n"); exit(1); }
    a->n = n;
    a->p = where == AT_START ? a->base : where == AT_END ? a->base + AREA_FLOATS - n : a->base + where;
    fill_fence(i, a->p - fence_before(a), fence_before(a));
    fill_fence(i, a->p + n, fence_after(a));
    return a->p;
}

/* -1, or the area next to which something was written. */
static int broken_fence(int n) {
    int i;
    for (i = 0; i < n; i++) {
        const area *a = &areas[i];
        if (!is_fence(i, a->p - fence_before(a), fence_before(a)) || !is_fence(i, a->p + a->n, fence_after(a))) return i;
    }
    return -1;
}

static int anywhere(atv_rng *rng) { return between(rng, -2, 40); }

/* ---- matrix products ---- */

/* C[m,n] = sum_k A[m,k] B[k,n] (+ bias[n]) (+ C[m,n]), everything by rows here. */
typedef struct product {
    int64_t M, N, K;
    int columns, strips;                                    /* A lies by columns; is copied into strips first */
    int packed, biased, add;                                /* B in panels; a bias; C is added to */
    int64_t chunk;                                          /* where sums are cut */
    int a_gap, b_gap, c_gap;                                /* what rows (or columns) have more than they need */
    float *a, *b, *c, *bias;                                /* [M,K] [K,N] [M,N] [N] */
    double *want, *size;                                    /* [M,N]: C, and the sum of its terms' magnitudes */
} product;

/* Where A[m,k] and B[k,n] lie. */
static int64_t at_a(const product *p, int64_t m, int64_t k) {
    return p->columns ? k * (p->M + p->a_gap) + m : m * (p->K + p->a_gap) + k;
}
static int64_t at_b(const product *p, int64_t k, int64_t n) {
    return p->packed ? (n / ATVI_PANEL * p->K + k) * ATVI_PANEL + n % ATVI_PANEL : k * (p->N + p->b_gap) + n;
}

/* The kernel for rows m0..m0+M and columns n0..n0+N (n0 a whole number of panels) of a product laid out in areas 0..3. */
static void run_matmul(const atvi_kernels *k, const product *p, int64_t m0, int64_t M, int64_t n0, int64_t N) {
    int64_t a_m = at_a(p, 1, 0), a_k = at_a(p, 0, 1), c_m = p->N + p->c_gap;
    int64_t b_panel = at_b(p, 0, ATVI_PANEL), b_k = at_b(p, 1, 0);
    const float *A = areas[0].p + at_a(p, m0, 0), *next = p->K % 2 ? areas[1].p : NULL;     /* asked for, never read */
    if (p->strips) {
        float *strips = place(4, (size_t)(M * p->K), (int)(M % 3) - 2);
        k->strips(M, p->K, A, a_m, a_k, strips);
        A = strips;
        a_m = 0;
    }
    k->matmul(M, N, p->K, A, a_m, a_k, areas[1].p + at_b(p, 0, n0), b_panel, b_k,
              areas[2].p + m0 * c_m + n0, c_m, p->biased ? areas[3].p + n0 : NULL, p->add, p->chunk, next,
              next ? M % 3 * p->K * N : 0, p->strips || N % 2 ? NULL : A);
}

static float *floats(int64_t n) {
    float *x = (float *)malloc((size_t)(n + 1) * sizeof *x);
    if (!x) exit(1);
    return x;
}

static double *doubles(int64_t n) {
    double *x = (double *)calloc((size_t)n + 1, sizeof *x);
    if (!x) exit(1);
    return x;
}

/* Whole numbers, whose sums are exact in any order, or normal ones. */
static void product_fill(atv_rng *rng, float *x, int64_t n, int whole) {
    int64_t i;
    for (i = 0; i < n; i++) x[i] = whole ? (float)between(rng, -9, 9) : (float)atv_rng_normal(rng);
}

static void product_answer(product *p) {
    int64_t m, n, k;
    for (m = 0; m < p->M; m++) {
        double *want = p->want + m * p->N, *size = p->size + m * p->N;
        for (n = 0; n < p->N; n++) {
            double bias = p->biased ? p->bias[n] : 0, c = p->add ? p->c[m * p->N + n] : 0;
            want[n] = bias + c;
            size[n] = fabs(bias) + fabs(c);
        }
        for (k = 0; k < p->K; k++) {
            double a = p->a[m * p->K + k];
            const float *b = p->b + k * p->N;
            for (n = 0; n < p->N; n++) { want[n] += a * b[n]; size[n] += fabs(a * b[n]); }
        }
    }
}

/* Everything but M, N and K drawn at random. */
static product product_make(atv_rng *rng, int64_t M, int64_t N, int64_t K, int whole) {
    product p;
    memset(&p, 0, sizeof p);
    p.M = M; p.N = N; p.K = K;
    p.columns = between(rng, 0, 1);
    p.strips = between(rng, 0, 1);
    p.packed = between(rng, 0, 1);
    p.biased = between(rng, 0, 1);
    p.add = between(rng, 0, 1);
    p.chunk = between(rng, 0, 1) ? atvi_chunk(K) : between(rng, 1, 200);
    p.a_gap = between(rng, 0, 1) * between(rng, 1, 9);
    p.b_gap = between(rng, 0, 1) * between(rng, 1, 9);
    p.c_gap = between(rng, 0, 1) * between(rng, 1, 9);
    product_fill(rng, p.a = floats(M * K), M * K, whole);
    product_fill(rng, p.b = floats(K * N), K * N, whole);
    product_fill(rng, p.c = floats(M * N), M * N, whole);
    product_fill(rng, p.bias = floats(N), N, whole);
    p.want = doubles(M * N);
    p.size = doubles(M * N);
    product_answer(&p);
    return p;
}

static void product_free(product *p) {
    free(p->a); free(p->b); free(p->c); free(p->bias); free(p->want); free(p->size);
}

/* The floats from a matrix's first to its last, the last row without its gap. */
static size_t extent(int64_t rows, int64_t cols, int64_t gap) {
    return rows > 0 && cols > 0 ? (size_t)(rows * (cols + gap) - gap) : 0;
}

static void product_place(const product *p, atv_rng *rng) {
    int64_t m, n, k, panels = (p->N + ATVI_PANEL - 1) / ATVI_PANEL;
    size_t a_size = p->columns ? extent(p->K, p->M, p->a_gap) : extent(p->M, p->K, p->a_gap);
    size_t b_size = p->packed ? (size_t)(panels * ATVI_PANEL * p->K) : extent(p->K, p->N, p->b_gap);
    size_t c_size = extent(p->M, p->N, p->c_gap);
    float *A = place(0, a_size, anywhere(rng)), *B = place(1, b_size, anywhere(rng));
    float *C = place(2, c_size, anywhere(rng)), *bias = place(3, (size_t)p->N, anywhere(rng));
    fill_fence(0, A, a_size);
    fill_fence(1, B, b_size);
    fill_fence(2, C, c_size);
    for (m = 0; m < p->M; m++) for (k = 0; k < p->K; k++) A[at_a(p, m, k)] = p->a[m * p->K + k];
    for (k = 0; k < p->K; k++) for (n = 0; n < p->N; n++) B[at_b(p, k, n)] = p->b[k * p->N + n];
    for (m = 0; m < p->M; m++) memcpy(C + m * (p->N + p->c_gap), p->c + m * p->N, (size_t)p->N * sizeof *C);
    memcpy(bias, p->bias, (size_t)p->N * sizeof *bias);
}

static const char *product_text(const product *p, int isa) {
    return test_path("%s: M %d N %d K %d by %d%s%s%s%s%s, gaps %d %d %d", atv_isa_name((atv_isa)isa), (int)p->M, (int)p->N,
                     (int)p->K, (int)p->chunk, p->columns ? ", A by columns" : "", p->strips ? ", in strips" : "",
                     p->packed ? ", B packed" : "", p->biased ? ", bias" : "", p->add ? ", added" : "", p->a_gap, p->b_gap,
                     p->c_gap);
}

/* Each instruction set against the answer: exact for whole numbers, else the error of K roundings of random sign. */
static void check_product(const product *p, atv_rng *rng, int whole) {
    const double bound = whole ? 0 : UNIT * (4 + 2 * sqrt((double)p->K));
    int isa;
    for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
        int64_t m, n, c_m = p->N + p->c_gap, at_m = -1, at_n = -1, gaps = 0;
        double got = 0, want = 0;
        const float *C;
        if (!kernels[isa]) continue;
        product_place(p, rng);
        run_matmul(kernels[isa], p, 0, p->M, 0, p->N);
        C = areas[2].p;
        for (m = 0; m < p->M; m++) {
            for (n = 0; n < p->N; n++)
                if (!close_to(C[m * c_m + n], p->want[m * p->N + n], bound * p->size[m * p->N + n])) {
                    at_m = m;
                    at_n = n;
                    got = C[m * c_m + n];
                    want = p->want[m * p->N + n];
                }
            if (m + 1 < p->M && p->N > 0) gaps += !is_fence(2, C + m * c_m + p->N, (size_t)p->c_gap);
        }
        CHECK(at_m < 0, "%s: C[%d,%d] is %.9g, not %.9g", product_text(p, isa), (int)at_m, (int)at_n, got, want);
        CHECK(gaps == 0 && broken_fence(4 + p->strips) < 0, "%s: written beside C (%d gaps, area %d)", product_text(p, isa),
              (int)gaps, broken_fence(4 + p->strips));
    }
}

static void test_products(void) {
    static const int large[][3] = { { 7, 10000, 384 }, { 1, 1024, 384 }, { 97, 384, 1024 }, { 130, 71, 3000 },
                                    { 200, 130, 257 }, { 3, 33, 1025 } };
    atv_rng rng = { 71 };
    int m, n, k, i;
    for (m = 1; m <= 70; m++) for (n = 1; n <= (m < 5 ? 200 : 70); n++) {           /* tiles of few rows are wide */
        int whole = between(&rng, 0, 1);
        product p = product_make(&rng, m, n, between(&rng, 1, 70), whole);
        check_product(&p, &rng, whole);
        product_free(&p);
    }
    for (k = 0; k <= 70; k++) for (i = 0; i < 16; i++) {
        int whole = between(&rng, 0, 1);
        product p = product_make(&rng, between(&rng, 1, 70), between(&rng, 1, 70), k, whole);
        check_product(&p, &rng, whole);
        product_free(&p);
    }
    for (m = 1; m <= 20; m++) for (i = 0; i < 8; i++) {     /* few rows and long sums have tiles of their own */
        product p = product_make(&rng, m, between(&rng, 1, 150), between(&rng, 90, 700), i % 2);
        check_product(&p, &rng, i % 2);
        product_free(&p);
    }
    for (i = 0; i < 2 * (int)(sizeof large / sizeof large[0]); i++) {
        const int *s = large[i / 2];
        product p = product_make(&rng, s[0], s[1], s[2], i % 2);
        check_product(&p, &rng, i % 2);
        product_free(&p);
    }
    for (i = 0; i < 3; i++) {                               /* of nothing: writes nothing */
        product p = product_make(&rng, i == 0 ? 0 : 5, i == 1 ? 0 : 5, 3, 1);
        check_product(&p, &rng, 1);
        product_free(&p);
    }
}

/* Whole products on several lanes: with B copied and where it lies, in one step of K and in several, in one stretch of
   columns and in two. One lane and three have the same bits. */
static void test_shared_products(void) {
    static const int shapes[][3] = { { 130, 384, 1100 }, { 390, 70, 513 }, { 50, 512, 600 }, { 2060, 40, 530 },
                                     { 7, 2100, 40 }, { 3, 2560, 520 }, { 1030, 130, 300 }, { 40, 9, 1700 }, { 1, 1, 1 } };
    atv_rng rng = { 75 };
    int i, isa, lanes;
    for (i = 0; i < 4 * (int)(sizeof shapes / sizeof shapes[0]); i++) {
        const int *s = shapes[i / 4];
        product p = product_make(&rng, s[0], s[1], s[2], 0);
        float *first = floats(p.M * p.N);
        p.columns = i % 2;
        p.add = i / 2 % 2;
        p.packed = p.biased = p.a_gap = p.b_gap = p.c_gap = 0;
        product_answer(&p);
        for (isa = 0; isa < ATV_ISA_COUNT; isa++)
            for (lanes = 1; kernels[isa] && lanes <= 3; lanes += 2) {
                const double bound = UNIT * (4 + 2 * sqrt((double)p.K));
                atv_ctx *ctx = test_ctx((atv_isa)isa, lanes);
                float *scratch = floats((int64_t)atvi_product_scratch(ctx));
                int64_t wrong = 0, at;
                product_place(&p, &rng);
                atvi_product(ctx, p.M, p.N, p.K, areas[0].p, at_a(&p, 1, 0), at_a(&p, 0, 1), areas[1].p, areas[2].p, p.add,
                             scratch);
                for (at = 0; at < p.M * p.N; at++)
                    wrong += !close_to(areas[2].p[at], p.want[at], bound * p.size[at]);
                CHECK(wrong == 0, "%s, %d lanes: %d wrong", product_text(&p, isa), lanes, (int)wrong);
                CHECK(broken_fence(3) < 0, "%s, %d lanes: written beside C", product_text(&p, isa), lanes);
                if (lanes == 1) memcpy(first, areas[2].p, (size_t)(p.M * p.N) * sizeof *first);
                else CHECK(same_bits(first, areas[2].p, (size_t)(p.M * p.N)), "%s: other bits on %d lanes",
                           product_text(&p, isa), lanes);
                free(scratch);
                atv_ctx_destroy(ctx);
            }
        free(first);
        product_free(&p);
    }
}

/* Y = X W^T + b of several matrices on several lanes: few rows and many, which are copied first. One lane and three have
   the same bits, and so have a row among few and a row among many. */
static void test_linears(void) {
    static const int rows[] = { 1, 17, ATVI_STRIPS_FROM, 97, 800 }, Ks[] = { 24, 130, 1030 };
    enum { ROWS = sizeof rows / sizeof rows[0], NA = 70, NB = 330 };
    atv_rng rng = { 76 };
    int isa, i, r, lanes, add;
    for (i = 0; i < 3; i++) {
        const int most = rows[ROWS - 1], K = Ks[i];
        const double bound = UNIT * (4 + 2 * sqrt((double)K));
        float *x = floats(most * K), *w = floats((NA + NB) * K), *b = floats(NA), *packed = floats((NA + NB + 32) * K);
        float *y = floats(most * (NA + NB)), *first = floats(most * (NA + NB));
        double *want = doubles(most * (NA + NB)), *size = doubles(most * (NA + NB));
        int64_t m, n, k;
        product_fill(&rng, x, most * K, 0);
        product_fill(&rng, w, (NA + NB) * K, 0);
        product_fill(&rng, b, NA, 0);
        for (m = 0; m < most; m++) for (n = 0; n < NA + NB; n++) {
            double sum = n < NA ? b[n] : 0, terms = fabs(sum);
            for (k = 0; k < K; k++) {
                const double term = (double)x[m * K + k] * w[n * K + k];
                sum += term;
                terms += fabs(term);
            }
            want[m * (NA + NB) + n] = sum;
            size[m * (NA + NB) + n] = terms;
        }
        for (isa = 0; isa < ATV_ISA_COUNT; isa++)
            for (r = ROWS - 1; r >= 0 && kernels[isa]; r--) for (lanes = 1; lanes <= 3; lanes += 2) {
                atv_ctx *ctx = test_ctx((atv_isa)isa, lanes);
                float *scratch = floats((int64_t)atvi_linear_scratch(ctx, rows[r])), *yb = y + most * NA;
                atvi_linear_desc l[2];
                int64_t wrong = 0, other = 0;
                float *pb = packed + (NA + 15) / 16 * 16 * K;
                atvi_pack(ctx, NA, K, w, packed);
                atvi_pack(ctx, NB, K, w + NA * K, pb);
                l[0] = atvi_linear_to(NA, packed, b, y, 0);
                l[1] = atvi_linear_to(NB, pb, NULL, yb, add = (r + lanes) / 2 % 2);
                for (m = 0; m < most * (NA + NB); m++) y[m] = add ? 0 : NAN;
                atvi_linears(ctx, rows[r], K, x, l, 2, scratch);
                for (m = 0; m < rows[r]; m++) for (n = 0; n < NA + NB; n++) {
                    const int64_t at = m * (NA + NB) + n;
                    const float *got = n < NA ? y + m * NA + n : yb + m * NB + n - NA;
                    wrong += !close_to(*got, want[at], bound * size[at]);
                    if (r == ROWS - 1 && lanes == 1) first[at] = *got;
                    other += !same_bits(got, first + at, 1);
                }
                CHECK(wrong == 0, "%s: %d rows, K %d, %d lanes: %d wrong", atv_isa_name((atv_isa)isa), rows[r], K, lanes,
                      (int)wrong);
                CHECK(other == 0, "%s: %d rows, K %d, %d lanes: %d have other bits", atv_isa_name((atv_isa)isa), rows[r], K,
                      lanes, (int)other);
                free(scratch);
                atv_ctx_destroy(ctx);
            }
        free(x); free(w); free(b); free(packed); free(y); free(first); free(want); free(size);
    }
}

/* Rows of A outside m0..m0+M and columns of B outside n0..n0+N become large. */
static void enlarge(const product *p, int m0, int M, int n0, int N) {
    int64_t m, n, k;
    for (k = 0; k < p->K; k++) {
        for (m = 0; m < p->M; m++) if (m < m0 || m >= m0 + M) areas[0].p[at_a(p, m, k)] = 1e18f;
        for (n = 0; n < p->N; n++) if (n < n0 || n >= n0 + N) areas[1].p[at_b(p, k, n)] = -1e19f;
    }
}

/* Any block of C has the same bits alone, whatever the rows and columns around it hold, with A in strips and without. */
static void test_product_parts(void) {
    atv_rng rng = { 72 };
    int round, isa;
    for (round = 0; round < 400; round++) {
        int64_t wide = between(&rng, 1, round % 10 ? 70 : 1500);
        product p = product_make(&rng, between(&rng, 1, 70), between(&rng, 1, 150), wide, 0);
        int m0 = between(&rng, 0, (int)p.M - 1), M = between(&rng, 1, (int)p.M - m0), m;
        int n0 = between(&rng, 0, ((int)p.N - 1) / ATVI_PANEL) * ATVI_PANEL, N = between(&rng, 1, (int)p.N - n0), n;
        float *block = floats(M * N);
        for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
            int64_t c_m = p.N + p.c_gap;
            int same = 1, outside = 0;
            if (!kernels[isa]) continue;
            product_place(&p, &rng);
            run_matmul(kernels[isa], &p, 0, p.M, 0, p.N);
            for (m = 0; m < M; m++) memcpy(block + m * N, areas[2].p + (m0 + m) * c_m + n0, (size_t)N * sizeof *block);
            product_place(&p, &rng);
            enlarge(&p, m0, M, n0, N);
            p.strips = !p.strips;
            run_matmul(kernels[isa], &p, m0, M, n0, N);
            for (m = 0; m < p.M; m++) for (n = 0; n < p.N; n++) {
                int in = m >= m0 && m < m0 + M && n >= n0 && n < n0 + N;
                const float *c = areas[2].p + m * c_m + n;
                if (in) same &= same_bits(c, block + (m - m0) * N + (n - n0), 1);
                else outside += !same_bits(c, p.c + m * p.N + n, 1);
            }
            CHECK(same, "%s: rows %d..%d, columns %d..%d alone have other bits", product_text(&p, isa), m0, m0 + M, n0,
                  n0 + N);
            CHECK(outside == 0, "%s: %d numbers written outside rows %d..%d, columns %d..%d", product_text(&p, isa),
                  outside, m0, m0 + M, n0, n0 + N);
            product_place(&p, &rng);
            enlarge(&p, m0, M, n0, N);
            run_matmul(kernels[isa], &p, 0, p.M, 0, p.N);
            for (same = 1, m = 0; m < M; m++)
                same &= same_bits(block + m * N, areas[2].p + (m0 + m) * c_m + n0, (size_t)N);
            CHECK(same, "%s: rows %d..%d, columns %d..%d depend on their neighbours", product_text(&p, isa), m0, m0 + M,
                  n0, n0 + N);
        }
        free(block);
        product_free(&p);
    }
}

/* Two blocks of C done together, from row 0 and column 0 and from row m1 and column n1 on, have the bits that they have in
   the whole, whatever lies around them. */
static void test_product_pairs(void) {
    atv_rng rng = { 74 };
    int round, isa;
    for (round = 0; round < 600; round++) {
        int64_t K = between(&rng, 1, round % 10 ? 70 : 600), m, n, k;
        product p = product_make(&rng, between(&rng, 2, 12), between(&rng, 1, 150), K, 0);
        int M = between(&rng, 1, ATVI_MIN(5, (int)p.M / 2)), m1 = between(&rng, M, (int)p.M - M);
        int n1 = between(&rng, 0, ((int)p.N - 1) / ATVI_PANEL) * ATVI_PANEL, N = between(&rng, 1, (int)p.N - n1);
        float *whole = floats(p.M * p.N);
        p.strips = p.biased = p.add = 0;
        for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
            int64_t c_m = p.N + p.c_gap, inside = 0, outside = 0;
            if (!kernels[isa]) continue;
            product_place(&p, &rng);
            run_matmul(kernels[isa], &p, 0, p.M, 0, p.N);
            for (m = 0; m < p.M; m++) memcpy(whole + m * p.N, areas[2].p + m * c_m, (size_t)p.N * sizeof *whole);
            product_place(&p, &rng);
            for (k = 0; k < K; k++) {
                for (m = 0; m < p.M; m++) if (m >= M && (m < m1 || m >= m1 + M)) areas[0].p[at_a(&p, m, k)] = 1e18f;
                for (n = 0; n < p.N; n++) if (n >= N && (n < n1 || n >= n1 + N)) areas[1].p[at_b(&p, k, n)] = -1e19f;
            }
            kernels[isa]->matmul_pair(M, N, K, areas[0].p, at_a(&p, 1, 0), at_a(&p, 0, 1), at_a(&p, m1, 0),
                                      areas[1].p, at_b(&p, 0, ATVI_PANEL), at_b(&p, 1, 0), at_b(&p, 0, n1),
                                      areas[2].p, c_m, m1 * c_m + n1, p.chunk);
            for (m = 0; m < p.M; m++) for (n = 0; n < p.N; n++) {
                const float *c = areas[2].p + m * c_m + n;
                if (m < M ? n < N : m >= m1 && m < m1 + M && n >= n1 && n < n1 + N)
                    inside += !same_bits(c, whole + m * p.N + n, 1);
                else outside += !same_bits(c, p.c + m * p.N + n, 1);
            }
            CHECK(inside == 0, "%s: %d rows of %d columns, and from %d, %d: %d have other bits than in the whole",
                  product_text(&p, isa), M, N, m1, n1, (int)inside);
            CHECK(outside == 0 && broken_fence(4) < 0, "%s: %d rows of %d columns, and from %d, %d: written beside them",
                  product_text(&p, isa), M, N, m1, n1);
        }
        free(whole);
        product_free(&p);
    }
}

/* Products whose B comes from memory have the same bits, whatever is asked for meanwhile. */
static void test_products_once(void) {
    atv_rng rng = { 77 };
    int round, isa;
    for (round = 0; round < 1200; round++) {
        product p = product_make(&rng, between(&rng, 3, round % 4 ? 9 : 20), between(&rng, 1, 200),
                                 between(&rng, 1, round % 10 ? 70 : 600), 0);
        const int n = between(&rng, 0, 1) * between(&rng, 1, 2000), then_n = between(&rng, 0, 1) * between(&rng, 1, 9000);
        float *want = floats(p.M * p.N);
        p.strips = p.biased = p.add = 0;
        for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
            const int64_t c_m = p.N + p.c_gap;
            int64_t m, wrong = 0, gaps = 0;
            atvi_soon soon;
            if (!kernels[isa]) continue;
            product_place(&p, &rng);
            run_matmul(kernels[isa], &p, 0, p.M, 0, p.N);
            for (m = 0; m < p.M; m++) memcpy(want + m * p.N, areas[2].p + m * c_m, (size_t)p.N * sizeof *want);
            product_place(&p, &rng);
            soon.next = areas[1].p;
            soon.then = areas[0].p;
            soon.n = n;
            soon.then_n = then_n;
            kernels[isa]->matmul_once(p.M, p.N, p.K, areas[0].p, at_a(&p, 1, 0), at_a(&p, 0, 1), areas[1].p,
                                      p.packed ? ATVI_PANEL * p.K : ATVI_PANEL, p.packed ? ATVI_PANEL : p.N + p.b_gap,
                                      areas[2].p, c_m, p.chunk, &soon);
            for (m = 0; m < p.M; m++) {
                wrong += !same_bits(areas[2].p + m * c_m, want + m * p.N, (size_t)p.N);
                if (m + 1 < p.M) gaps += !is_fence(2, areas[2].p + m * c_m + p.N, (size_t)p.c_gap);
            }
            CHECK(wrong == 0, "%s: %d rows have other bits than matmul's", product_text(&p, isa), (int)wrong);
            CHECK(gaps == 0 && broken_fence(4) < 0, "%s: written beside C", product_text(&p, isa));
        }
        free(want);
        product_free(&p);
    }
}

static void test_product_specials(void) {
    static const float specials[3] = { NAN, INFINITY, -INFINITY };
    atv_rng rng = { 73 };
    int round, i;
    for (round = 0; round < 600; round++) {
        int64_t wide = between(&rng, 1, round % 10 ? 70 : 1100);
        product p = product_make(&rng, between(&rng, 1, 20), between(&rng, 1, 70), wide, 0);
        for (i = between(&rng, 1, 3); i > 0; i--) {
            float s = specials[between(&rng, 0, 2)];
            switch (between(&rng, 0, 3)) {
            case 0: p.a[between(&rng, 0, (int)(p.M * p.K) - 1)] = s; break;
            case 1: p.b[between(&rng, 0, (int)(p.K * p.N) - 1)] = s; break;
            case 2: p.c[between(&rng, 0, (int)(p.M * p.N) - 1)] = s; break;
            default: p.bias[between(&rng, 0, (int)p.N - 1)] = s;
            }
        }
        for (i = 0; i < 3; i++) p.a[between(&rng, 0, (int)(p.M * p.K) - 1)] *= 0;      /* infinity times 0 is NaN */
        product_answer(&p);
        check_product(&p, &rng, 0);
        product_free(&p);
    }
}

/* ---- rows to panels ---- */

static void run_panels(const atvi_kernels *k, int64_t rows, int64_t n, int64_t stride, int64_t panel) {
    k->panels(rows, n, areas[0].p, stride, areas[1].p, panel);
}

static void test_panels(void) {
    atv_rng rng = { 75 };
    int n, round, isa, row, c;
    for (n = 1; n <= 70; n++) for (round = 0; round < 10; round++) {
        int rows = between(&rng, 1, 70), stride = n + between(&rng, 0, 9);
        int panels = (n + ATVI_PANEL - 1) / ATVI_PANEL, panel = rows * ATVI_PANEL + between(&rng, 0, 1) * 32;
        size_t from_size = (size_t)((rows - 1) * stride + n), to_size = (size_t)((panels - 1) * panel + rows * ATVI_PANEL);
        size_t i;
        for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
            float *from, *to;
            int wrong = 0;
            if (!kernels[isa]) continue;
            from = place(0, from_size, anywhere(&rng));
            to = place(1, to_size, anywhere(&rng));
            for (i = 0; i < from_size; i++) from[i] = (float)i;
            fill_fence(1, to, to_size);
            run_panels(kernels[isa], rows, n, stride, panel);
            for (i = 0; i < to_size; i++) {
                row = (int)i % panel / ATVI_PANEL;
                c = (int)i / panel * ATVI_PANEL + (int)i % ATVI_PANEL;
                wrong += row >= rows ? !is_fence(1, to + i, 1) : to[i] != (c < n ? (float)(row * stride + c) : 0);
            }
            CHECK(wrong == 0 && broken_fence(2) < 0, "%s: panels of %d rows of %d, %d and %d apart: %d wrong, area %d",
                  atv_isa_name((atv_isa)isa), rows, n, stride, panel, wrong, broken_fence(2));
        }
    }
}

/* ---- rows ---- */

/* The arrays of one call, and the numbers it returns. Their lengths, by letter: n; r, the rows of norm_back_params;
   x, those rows `stride` apart. Capitals: positive numbers. */
enum { ARRAYS = 6, VALUES = 2 };
typedef struct row {
    int64_t n, r, stride;
    float s, t;                                             /* a scale, a shift */
    atvi_adamw adamw;
    float *a[ARRAYS];
    double value[VALUES];
} row;

typedef struct answer { double *want[ARRAYS], *bound[ARRAYS], value[VALUES], value_bound[VALUES]; } answer;

typedef struct row_op {
    const char *name, *arrays;
    const char *written;                                    /* 'w' for arrays that the call writes */
    int values;                                             /* how many numbers it returns */
    int apart;                                              /* each element depends on its own index alone */
    void (*run)(const atvi_kernels *k, row *x);
    void (*answer)(const row *x, answer *y);
} row_op;

/* The error of a sum of n, relative to its terms' magnitudes: of random signs, and of one sign, where roundings agree. */
static double roundings(int64_t n) { return UNIT * (4 + 2 * sqrt((double)n)); }
static double drift(int64_t n) { return UNIT * (4 + (double)n); }

static void run_add(const atvi_kernels *k, row *x) { k->add(x->n, x->a[0], x->a[1]); }
static void answer_add(const row *x, answer *y) {
    int64_t i;
    for (i = 0; i < x->n; i++) {
        y->want[0][i] = (double)x->a[0][i] + x->a[1][i];
        y->bound[0][i] = 1.01 * UNIT * fabs(y->want[0][i]);
    }
}

static void run_dot(const atvi_kernels *k, row *x) { x->value[0] = k->dot(x->n, x->a[0], x->a[1]); }
static void answer_dot(const row *x, answer *y) {
    double sum = 0, size = 0;
    int64_t i;
    for (i = 0; i < x->n; i++) {
        double term = (double)x->a[0][i] * x->a[1][i];
        sum += term;
        size += fabs(term);
    }
    y->value[0] = sum;
    y->value_bound[0] = size * roundings(x->n);
}

static void run_norm(const atvi_kernels *k, row *x) {
    float mean, rstd;
    k->norm(x->n, x->a[0], x->a[1], x->a[2], 1e-5f, x->a[3], &mean, &rstd);
    x->value[0] = mean;
    x->value[1] = rstd;
}
static void answer_norm(const row *x, answer *y) {
    double sum = 0, size = 0, square = 0, m, r, m_bound, r_part, n = (double)x->n;
    int64_t i;
    for (i = 0; i < x->n; i++) { sum += x->a[0][i]; size += fabs((double)x->a[0][i]); }
    m = sum / n;
    m_bound = size / n * roundings(x->n);
    for (i = 0; i < x->n; i++) square += (x->a[0][i] - m) * (x->a[0][i] - m);
    r = 1 / sqrt(square / n + (double)1e-5f);
    r_part = drift(x->n) + m_bound * m_bound * r * r;
    for (i = 0; i < x->n; i++) {
        double w = x->a[1][i], b = x->a[2][i], d = (x->a[0][i] - m) * r;
        y->want[3][i] = d * w + b;
        y->bound[3][i] = fabs(d * w) * (r_part + 4 * UNIT) + m_bound * r * fabs(w) + UNIT * fabs(d * w + b);
    }
    y->value[0] = m;
    y->value_bound[0] = m_bound;
    y->value[1] = r;
    y->value_bound[1] = r * r_part;
}

static void run_norm_back(const atvi_kernels *k, row *x) {
    k->norm_back(x->n, x->a[0], x->a[1], x->s, x->t, x->a[2], x->a[3]);
}
static void answer_norm_back(const row *x, answer *y) {
    double g_sum = 0, g_size = 0, gy_sum = 0, gy_size = 0, m = x->s, r = x->t, n = (double)x->n;
    int64_t i;
    for (i = 0; i < x->n; i++) {
        double g = (double)x->a[2][i] * x->a[1][i], d = (x->a[0][i] - m) * r;
        g_sum += g;
        g_size += fabs(g);
        gy_sum += g * d;
        gy_size += fabs(g * d);
    }
    for (i = 0; i < x->n; i++) {
        double g = (double)x->a[2][i] * x->a[1][i], d = (x->a[0][i] - m) * r;
        y->want[3][i] = r * (g - g_sum / n - d * gy_sum / n) + x->a[3][i];
        y->bound[3][i] = fabs(r) * (roundings(x->n) + 6 * UNIT) * (fabs(g) + g_size / n + fabs(d) * gy_size / n)
                         + 2 * UNIT * fabs((double)x->a[3][i]);
    }
}

static void run_norm_back_params(const atvi_kernels *k, row *x) {
    k->norm_back_params(x->r, x->n, x->stride, x->a[0], x->a[1], x->a[2], x->a[3], x->a[4], x->a[5]);
}
static void answer_norm_back_params(const row *x, answer *y) {
    int64_t i, t;
    for (i = 0; i < x->n; i++) {
        double dw = x->a[4][i], db = x->a[5][i], dw_size = fabs(dw), db_size = fabs(db);
        for (t = 0; t < x->r; t++) {
            double d = x->a[3][t * x->stride + i], term = d * ((double)x->a[0][t * x->stride + i] - x->a[1][t]) * x->a[2][t];
            dw += term;
            dw_size += fabs(term);
            db += d;
            db_size += fabs(d);
        }
        y->want[4][i] = dw;
        y->bound[4][i] = dw_size * (roundings(x->r) + 2 * UNIT);
        y->want[5][i] = db;
        y->bound[5][i] = db_size * roundings(x->r);
    }
}

/* log sum exp of scale x, from -3e38 upwards as the kernels do it; the error comes from scale x, exp and the sum. */
static double answer_lse(const row *x, double scale, double *bound) {
    double top = -3e38, size = 0, sum = 0;
    int64_t i;
    for (i = 0; i < x->n; i++) {
        double a = scale * x->a[0][i];
        if (!(a <= top)) top = a;
        if (kind(a) == 'f' && fabs(a) > size) size = fabs(a);
    }
    for (i = 0; i < x->n; i++) sum += exp(scale * x->a[0][i] - top);
    *bound = drift(x->n) + (6 + 2 * size) * UNIT;
    return top + log(sum);
}

static void run_logsumexp(const atvi_kernels *k, row *x) { x->value[0] = k->logsumexp(x->n, x->a[0]); }
static void answer_logsumexp(const row *x, answer *y) { y->value[0] = answer_lse(x, 1, &y->value_bound[0]); }

static void run_softmax(const atvi_kernels *k, row *x) {
    x->value[0] = k->softmax(x->n, x->a[0], x->s, x->n % 2 ? x->a[0] : NULL, x->n % 2 ? x->n * (1 + x->n % 5) : 0);
}
static void answer_softmax(const row *x, answer *y) {
    int64_t i;
    y->value[0] = answer_lse(x, x->s, &y->value_bound[0]);
    for (i = 0; i < x->n; i++) {
        y->want[0][i] = exp((double)x->s * x->a[0][i] - y->value[0]);
        y->bound[0][i] = 2 * y->value_bound[0] * y->want[0][i] + lost;
    }
}

static void run_exp_shift(const atvi_kernels *k, row *x) { k->exp_shift(x->n, x->a[0], x->s, x->t); }
static void answer_exp_shift(const row *x, answer *y) {
    int64_t i;
    for (i = 0; i < x->n; i++) {
        double a = (double)x->s * x->a[0][i], e = exp(a - x->t);
        y->want[0][i] = e < OVERFLOWN || kind(e) == 'n' ? e : (double)INFINITY;
        y->bound[0][i] = e * UNIT * (4 + fabs(a) + fabs(a - x->t)) + lost;
    }
}

static void run_softmax_back(const atvi_kernels *k, row *x) { k->softmax_back(x->n, x->a[0], x->a[1], x->s, x->t); }
static void answer_softmax_back(const row *x, answer *y) {
    int64_t i;
    for (i = 0; i < x->n; i++) {
        double p = (double)x->s * x->a[0][i], d = x->a[1][i];
        y->want[1][i] = p * (d - x->t);
        y->bound[1][i] = 4 * UNIT * fabs(p) * (fabs(d) + fabs((double)x->t));
    }
}

static void run_adamw(const atvi_kernels *k, row *x) { k->adamw(x->n, x->a[0], x->a[1], x->a[2], x->a[3], &x->adamw); }
static void answer_adamw(const row *x, answer *y) {
    const atvi_adamw *o = &x->adamw;
    int64_t i;
    for (i = 0; i < x->n; i++) {
        double w = x->a[0][i], g = (double)x->a[1][i] * o->g_scale;
        double m0 = (double)o->beta1 * x->a[2][i], m1 = o->one_minus_beta1 * g, m_bound = 4 * UNIT * (fabs(m0) + fabs(m1));
        double v = (double)o->beta2 * x->a[3][i] + o->one_minus_beta2 * g * g;
        double den = sqrt(v) * o->sqrt_scale + o->epsilon, step = o->step * (m0 + m1) / den;
        y->want[2][i] = m0 + m1;
        y->bound[2][i] = m_bound;
        y->want[3][i] = v;
        y->bound[3][i] = 6 * UNIT * v;
        y->want[0][i] = o->keep * w - step;
        y->bound[0][i] = o->step * m_bound / den + 8 * UNIT * fabs(step) + 2 * UNIT * fabs(o->keep * w);
    }
}

/* GELU in its tanh form, x s, and its derivative, s + x s (1 - s) (2u)'; quickly where they are easy. */
#define EASY (1.0 / 1048576)
#define GELU_U2 1.5957691216057308
static double gelu(double x) {
    double u2 = GELU_U2 * (x + 0.044715 * x * x * x);
    if (kind(x) != 'f') return kind(x) == '+' ? x : (double)NAN;
    return u2 < -90 ? 0 : u2 > 45 ? x : fabs(x) < EASY ? x * (0.5 + u2 / 4) : x / (1 + exp(-u2));
}
static double gelu_slope(double x) {
    double u2 = GELU_U2 * (x + 0.044715 * x * x * x), e, s;
    if (kind(x) == 'n') return x;
    if (u2 < -90 || u2 > 90) return x > 0 ? 1 : -1e-35;    /* 0 from below: infinity times it is no NaN */
    if (fabs(x) < EASY) return 0.5 + u2 / 2;
    e = exp(-u2);
    s = 1 / (1 + e);
    return s + x * s * s * e * GELU_U2 * (1 + 3 * 0.044715 * x * x);
}

/* The last place of the float nearest to x. */
static double ulp(double x) {
    uint64_t b;
    memcpy(&b, &x, 8);
    b = b >> 52 & 0x7ff;
    b = (b < 1023 - 126 ? 1023 - 126 : b) - 23;
    b <<= 52;
    memcpy(&x, &b, 8);
    return x;
}

/* What the comments of the kernels promise. */
#define EXP_ULPS 1.5                                        /* in ULP of the result */
#define EXP_ZERO -86.98997                                  /* 0 from here down; where subnormals are flushed, */
#define EXP_FLUSHED -86.64                                  /* from here */
#define GELU_ULPS 1.8                                       /* in ULP of x */
#define SLOPE_ERROR 2.5e-7

static void run_gelu(const atvi_kernels *k, row *x) { k->gelu(x->n, x->a[0], x->a[1]); }
static void answer_gelu(const row *x, answer *y) {
    int64_t i;
    for (i = 0; i < x->n; i++) {
        y->want[1][i] = gelu(x->a[0][i]);
        y->bound[1][i] = GELU_ULPS * ulp(x->a[0][i]);
    }
}

static void run_gelu_back(const atvi_kernels *k, row *x) { k->gelu_back(x->n, x->a[0], x->a[1]); }
static void answer_gelu_back(const row *x, answer *y) {
    int64_t i;
    for (i = 0; i < x->n; i++) {
        y->want[1][i] = x->a[1][i] * gelu_slope(x->a[0][i]);
        y->bound[1][i] = fabs((double)x->a[1][i]) * (SLOPE_ERROR + 2 * UNIT);
    }
}

static const row_op row_ops[] = {
    { "add", "nn", "w-", 0, 1, run_add, answer_add },
    { "dot", "nn", "--", 1, 0, run_dot, answer_dot },
    { "norm", "nnnn", "---w", 2, 0, run_norm, answer_norm },
    { "norm_back", "nnnn", "---w", 0, 0, run_norm_back, answer_norm_back },
    { "norm_back_params", "xrRxnn", "----ww", 0, 1, run_norm_back_params, answer_norm_back_params },
    { "logsumexp", "n", "-", 1, 0, run_logsumexp, answer_logsumexp },
    { "softmax", "n", "w", 1, 0, run_softmax, answer_softmax },
    { "exp_shift", "n", "w", 0, 1, run_exp_shift, answer_exp_shift },
    { "softmax_back", "nn", "-w", 0, 1, run_softmax_back, answer_softmax_back },
    { "gelu", "nn", "-w", 0, 1, run_gelu, answer_gelu },
    { "gelu_back", "nn", "-w", 0, 1, run_gelu_back, answer_gelu_back },
    { "adamw", "nnnN", "w-ww", 0, 1, run_adamw, answer_adamw },
};

static int64_t array_size(const row *x, char letter) {
    return letter == 'x' ? (x->r - 1) * x->stride + x->n : letter == 'r' || letter == 'R' ? x->r : x->n;
}

static row row_make(const row_op *op, atv_rng *rng, int64_t n, double scale) {
    row x;
    int i;
    memset(&x, 0, sizeof x);
    x.n = n;
    x.r = between(rng, 1, 12);
    x.stride = n + between(rng, 0, 1) * between(rng, 0, 9);
    x.s = (float)(atv_rng_normal(rng) * scale);
    x.t = (float)atv_rng_normal(rng);
    x.adamw.g_scale = (float)(0.1 + atv_rng_uniform(rng));
    x.adamw.beta1 = 0.9f;
    x.adamw.one_minus_beta1 = 0.1f;
    x.adamw.beta2 = 0.95f;
    x.adamw.one_minus_beta2 = 0.05f;
    x.adamw.keep = 0.999f;
    x.adamw.step = 1e-3f;
    x.adamw.sqrt_scale = (float)(1 + 3 * atv_rng_uniform(rng));
    x.adamw.epsilon = 1e-8f;
    for (i = 0; op->arrays[i]; i++) {
        int64_t k, size = array_size(&x, op->arrays[i]);
        x.a[i] = floats(size);
        test_normal(rng, x.a[i], (size_t)size, scale);
        if (op->arrays[i] < 'a') for (k = 0; k < size; k++) x.a[i][k] = (float)fabs(x.a[i][k]);
    }
    for (n = between(rng, 0, 3); n > 0; n--) {              /* zeros too: a gradient's, and of moments never moved */
        int64_t at = between(rng, 0, (int)x.n - 1);
        for (i = 0; op->arrays[i]; i++) if (op->arrays[i] == 'n' || op->arrays[i] == 'N') x.a[i][at] = 0;
    }
    return x;
}

static void row_free(row *x) {
    int i;
    for (i = 0; i < ARRAYS; i++) free(x->a[i]);
}

/* The call on `n` elements from `first` of arrays in the areas, at new places each time. */
static row row_place(const row_op *op, const row *x, atv_rng *rng) {
    row y = *x;
    int i;
    for (i = 0; op->arrays[i]; i++) {
        size_t size = (size_t)array_size(x, op->arrays[i]);
        y.a[i] = place(i, size, anywhere(rng));
        memcpy(y.a[i], x->a[i], size * sizeof(float));
    }
    return y;
}

static const char *row_text(const row_op *op, const row *x, int isa) {
    return test_path("%s %s of %d (%d rows, s %g, t %g)", atv_isa_name((atv_isa)isa), op->name, (int)x->n, (int)x->r,
                     (double)x->s, (double)x->t);
}

/* Each instruction set against the answer, each at two places (the same bits), and in two parts. */
static void check_row(const row_op *op, const row *x, atv_rng *rng) {
    answer y;
    int i, isa, v;
    int64_t k;
    memset(&y, 0, sizeof y);
    for (i = 0; op->arrays[i]; i++) {
        y.want[i] = doubles(array_size(x, op->arrays[i]));
        y.bound[i] = doubles(array_size(x, op->arrays[i]));
    }
    op->answer(x, &y);
    for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
        row got, again;
        float *kept[ARRAYS] = { NULL };
        int wrong = 0, at = 0, at_i = 0, same = 1;
        if (!kernels[isa]) continue;
        got = row_place(op, x, rng);
        op->run(kernels[isa], &got);
        for (i = 0; op->arrays[i]; i++) {
            int64_t size = array_size(x, op->arrays[i]);
            if (op->written[i] == 'w') {
                for (k = 0; k < size; k++)
                    if (!close_to(got.a[i][k], y.want[i][k], y.bound[i][k])) { wrong = 1; at = (int)k; at_i = i; }
            } else CHECK(same_bits(got.a[i], x->a[i], (size_t)size), "%s: wrote its input %d", row_text(op, x, isa), i);
            memcpy(kept[i] = floats(size), got.a[i], (size_t)size * sizeof(float));
        }
        CHECK(!wrong, "%s: array %d [%d] is %.9g, not %.9g +- %.2g", row_text(op, x, isa), at_i, at, (double)got.a[at_i][at],
              y.want[at_i][at], y.bound[at_i][at]);
        for (v = 0; v < op->values; v++)
            CHECK(close_to(got.value[v], y.value[v], y.value_bound[v]), "%s: value %d is %.9g, not %.9g +- %.2g",
                  row_text(op, x, isa), v, got.value[v], y.value[v], y.value_bound[v]);
        CHECK(broken_fence(i) < 0, "%s: written beside array %d", row_text(op, x, isa), broken_fence(i));
        again = row_place(op, x, rng);
        if (op->apart && x->n > 1) {
            int64_t cut = between(rng, 1, (int)x->n - 1);
            again.n = cut;
            op->run(kernels[isa], &again);
            again.n = x->n - cut;
            for (i = 0; op->arrays[i]; i++) if (op->arrays[i] != 'r' && op->arrays[i] != 'R') again.a[i] += cut;
        }
        op->run(kernels[isa], &again);
        for (i = 0; op->arrays[i]; i++) same &= same_bits(areas[i].p, kept[i], areas[i].n);
        for (v = 0; v < op->values; v++) same &= again.value[v] == got.value[v] || kind(got.value[v]) == 'n';
        CHECK(same, "%s: other bits at another place%s", row_text(op, x, isa), op->apart ? ", in two parts" : "");
        for (i = 0; op->arrays[i]; i++) free(kept[i]);
    }
    for (i = 0; op->arrays[i]; i++) { free(y.want[i]); free(y.bound[i]); }
}

static void test_rows(void) {
    static const float specials[3] = { NAN, INFINITY, -INFINITY };
    atv_rng rng = { 74 };
    size_t o;
    int n, i, round;
    for (o = 0; o < sizeof row_ops / sizeof row_ops[0]; o++) {
        const row_op *op = &row_ops[o];
        for (round = 0; round < 10; round++) for (n = 1; n <= 72; n++) {
            int size = n <= 70 ? n : n == 71 ? 1024 : between(&rng, 500, 10007);
            row x = row_make(op, &rng, size, pow(10, between(&rng, -2, 2)));
            check_row(op, &x, &rng);
            row_free(&x);
        }
        if (!test_nonfinite) { SKIP("%s of NaN and infinity: compiled for finite mathematics", op->name); continue; }
        for (round = 0; round < 300; round++) {
            row x = row_make(op, &rng, between(&rng, 1, 70), 1);
            for (i = between(&rng, 1, 3); i > 0; i--) {
                int a = between(&rng, 0, (int)strlen(op->arrays) - 1);
                int at = between(&rng, 0, (int)array_size(&x, op->arrays[a]) - 1);
                x.a[a][at] = specials[between(&rng, 0, op->arrays[a] < 'a' ? 1 : 2)];
            }
            check_row(op, &x, &rng);
            row_free(&x);
        }
    }
}

/* ---- curves: exp, GELU and its derivative, at every `step`-th float ---- */

typedef struct curve {
    const char *name;
    void (*run)(const atvi_kernels *k, int64_t n, const float *x, float *y);
    void (*answer)(int64_t n, const float *x, double *want, double *bound);
    double zero_from, zero_to;                              /* where 0 will do as well, if subnormals are flushed */
} curve;

static void curve_exp(const atvi_kernels *k, int64_t n, const float *x, float *y) {
    memcpy(y, x, (size_t)n * sizeof *y);
    k->exp_shift(n, y, 1, 0);
}
static void curve_exp_answer(int64_t n, const float *x, double *want, double *bound) {
    int64_t i;
    for (i = 0; i < n; i++) {
        double a = x[i];
        want[i] = a <= EXP_ZERO ? 0 : a > 88.7228391 ? OVERFLOWN : fabs(a) < EASY ? 1 + a + a * a / 2 : exp(a);
        bound[i] = EXP_ULPS * ulp(want[i]);
    }
}

static void curve_gelu(const atvi_kernels *k, int64_t n, const float *x, float *y) { k->gelu(n, x, y); }
static void curve_gelu_answer(int64_t n, const float *x, double *want, double *bound) {
    int64_t i;
    for (i = 0; i < n; i++) { want[i] = gelu(x[i]); bound[i] = GELU_ULPS * ulp(x[i]); }
}

static void curve_slope(const atvi_kernels *k, int64_t n, const float *x, float *y) {
    int64_t i;
    for (i = 0; i < n; i++) y[i] = 1;
    k->gelu_back(n, x, y);
}
static void curve_slope_answer(int64_t n, const float *x, double *want, double *bound) {
    int64_t i;
    for (i = 0; i < n; i++) { want[i] = gelu_slope(x[i]); bound[i] = SLOPE_ERROR; }
}

static const curve curves[] = {
    { "exp", curve_exp, curve_exp_answer, EXP_ZERO, EXP_FLUSHED },
    { "gelu", curve_gelu, curve_gelu_answer, -2 * (double)FLT_MIN, 2 * (double)FLT_MIN },
    { "gelu'", curve_slope, curve_slope_answer, 0, 0 },
};

enum { CHUNK = 1024, CHUNKS = 64, LANES = 16 };             /* numbers at once, chunks in an item */
typedef struct worst { double part, want; float x, got; long bad; } worst;
typedef struct sweep { const curve *curve; int64_t step; worst worst[LANES][ATV_ISA_COUNT]; } sweep;

static void sweep_item(void *arg, int64_t item, int lane) {
    sweep *s = (sweep *)arg;
    uint64_t bits = (uint64_t)item * CHUNK * CHUNKS * (uint64_t)s->step;
    float x[CHUNK], y[CHUNK];
    double want[CHUNK], bound[CHUNK];
    int chunk, isa, i;
    for (chunk = 0; chunk < CHUNKS; chunk++) {
        int n = 0;
        for (; n < CHUNK && bits < UINT64_C(0x100000000); bits += (uint64_t)s->step) {
            x[n] = atvi_f32_from_bits((uint32_t)bits);
            n += test_nonfinite || kind(x[n]) == 'f';
        }
        s->curve->answer(n, x, want, bound);
        for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
            worst *w = &s->worst[lane][isa];
            if (!kernels[isa]) continue;
            s->curve->run(kernels[isa], n, x, y);
            for (i = 0; i < n; i++) {
                double error = fabs(y[i] - want[i]);
                if (error <= bound[i] && error <= w->part * bound[i]) continue;
                if (flushed && y[i] == 0 && x[i] >= s->curve->zero_from && x[i] <= s->curve->zero_to) continue;
                if (!(error <= bound[i])) {                 /* an infinity counts as the first power of two beyond */
                    char got = kind(y[i]);
                    if (kind(want[i]) != 'f' && got == kind(want[i])) continue;
                    error = got == 'f' ? error : got == '+' ? fabs(OVERFLOWN - want[i]) : 1e300;
                    w->bad += !(error <= bound[i]);
                    if (error <= w->part * bound[i]) continue;
                }
                w->part = error / bound[i];
                w->x = x[i];
                w->got = y[i];
                w->want = want[i];
            }
        }
    }
}

static void test_curves(int64_t step) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 0);
    size_t c;
    int isa, lane;
    if (atv_ctx_info(ctx)->n_threads > LANES) {
        atv_ctx_destroy(ctx);
        ctx = test_ctx(ATV_ISA_AUTO, LANES);
    }
    for (c = 0; c < sizeof curves / sizeof curves[0]; c++) {
        static sweep s;
        memset(&s, 0, sizeof s);
        s.curve = &curves[c];
        s.step = step;
        atvi_parallel(ctx, (INT64_C(0x100000000) / s.step) / (CHUNK * CHUNKS) + 1, sweep_item, &s);
        for (isa = 0; isa < ATV_ISA_COUNT; isa++) {
            worst w = s.worst[0][isa];
            if (!kernels[isa]) continue;
            for (lane = 1; lane < LANES; lane++) {
                long bad = w.bad + s.worst[lane][isa].bad;
                if (s.worst[lane][isa].part > w.part) w = s.worst[lane][isa];
                w.bad = bad;
            }
            CHECK(w.bad == 0, "%s %s: %ld floats beyond the error stated; at %.9g: %.9g, not %.9g",
                  atv_isa_name((atv_isa)isa), s.curve->name, w.bad, (double)w.x, (double)w.got, w.want);
            if (step == 1)
                printf("%s %s of all floats: at worst %.3f of the error stated, at %.9g\n", atv_isa_name((atv_isa)isa),
                       s.curve->name, w.part, (double)w.x);
        }
    }
    atv_ctx_destroy(ctx);
}

int main(int argc, char **argv) {
    volatile float tiny = FLT_MIN;
    int isa;
    tiny /= 2;
    flushed = tiny == 0;
    if (flushed) lost = 2.4e-38;
    for (isa = ATV_ISA_SCALAR; isa < ATV_ISA_COUNT; isa++) {
        if (atv_isa_available((atv_isa)isa)) kernels[isa] = atvi_kernels_of((atv_isa)isa);
        else SKIP("the kernels of %s: this machine has none", atv_isa_name((atv_isa)isa));
    }
    areas_make();
    test_products();
    test_product_parts();
    test_product_pairs();
    test_products_once();
    test_shared_products();
    test_linears();
    test_panels();
    if (test_nonfinite) test_product_specials();
    else SKIP("products of NaN and infinity: compiled for finite mathematics");
    test_rows();
    test_curves(argc > 1 ? atoi(argv[1]) : 97);
    return test_done("kernels");
}
