/* Attention on its own: against golden values and against plain loops in double, forward, backward and step by step, for
   every instruction set, layout and number of threads. */
#define _POSIX_C_SOURCE 200809L
#include "../attnvar.h"
#include "test.h"
#include <limits.h>

/* How a tensor of all positions lies in memory. */
enum { RAGGED, ROWS, HEADS_FIRST, GAPS, LAYOUTS };          /* [N,H,D], [B,T,H,D], [B,H,T,D], [N,H,D] with room between */

typedef struct buffer { atv_real *data; size_t size; atv_tensor tensor; } buffer;

static int longest_of(const int *lengths, int n) {
    int i, longest = 1;
    for (i = 0; i < n; i++) if (lengths[i] > longest) longest = lengths[i];
    return longest;
}

/* Room for [positions, heads, d], everything set to `fill`. */
static buffer make(int layout, const int *lengths, int n_seq, int heads, int d, atv_real fill) {
    buffer b;
    int64_t n = 0, t = longest_of(lengths, n_seq), dims[4];
    size_t i;
    for (i = 0; i < (size_t)n_seq; i++) n += lengths[i];
    memset(&b, 0, sizeof b);
    b.tensor.dtype = ATV_REAL;
    b.tensor.rank = layout == ROWS || layout == HEADS_FIRST ? 4 : 3;
    dims[0] = b.tensor.rank == 4 ? n_seq : n;
    dims[1] = b.tensor.rank == 4 ? t : heads;
    dims[2] = b.tensor.rank == 4 ? heads : d;
    dims[3] = d;
    for (i = 0; i < (size_t)b.tensor.rank; i++) b.tensor.dims[i] = dims[i];
    b.tensor.strides[b.tensor.rank - 1] = 1;
    if (layout == RAGGED) { b.tensor.strides[1] = d; b.tensor.strides[0] = heads * d; }
    if (layout == GAPS) { b.tensor.strides[1] = d + 2; b.tensor.strides[0] = heads * (d + 2) + 3; }
    if (layout == ROWS) { b.tensor.strides[2] = d; b.tensor.strides[1] = heads * d; b.tensor.strides[0] = t * heads * d; }
    if (layout == HEADS_FIRST) { b.tensor.strides[1] = d; b.tensor.strides[2] = t * d; b.tensor.strides[0] = heads * t * d; }
    b.size = (size_t)((b.tensor.rank == 4 ? n_seq * t : n) * (heads * (d + 2) + 3)) + 16;
    b.data = (atv_real *)malloc(b.size * sizeof *b.data);
    if (!b.data) exit(1);
    for (i = 0; i < b.size; i++) b.data[i] = fill;
    b.tensor.data = b.data;
    return b;
}

static atv_real *at(const buffer *b, const int *lengths, int seq, int position, int head) {
    const int64_t *s = b->tensor.strides;
    int i;
    if (b->tensor.rank == 4) return b->data + seq * s[0] + position * s[1] + head * s[2];
    for (i = 0; i < seq; i++) position += lengths[i];
    return b->data + position * s[0] + head * s[1];
}

static buffer make_from(int layout, const int *lengths, int n_seq, int heads, int d, const double *values) {
    buffer b = make(layout, lengths, n_seq, heads, d, (atv_real)NAN);       /* what lies between must not be read */
    int s, i, h, k;
    for (s = 0; s < n_seq; s++) for (i = 0; i < lengths[s]; i++) for (h = 0; h < heads; h++) for (k = 0; k < d; k++)
        at(&b, lengths, s, i, h)[k] = (atv_real)*values++;
    return b;
}

/* The largest difference from the expected values, less `start`; and whether anything outside them was touched. */
static double differs(const buffer *b, const int *lengths, int n_seq, int heads, int d, const double *values, double start,
                      atv_real fill, int *touched) {
    double worst = 0;
    size_t n = 0, i;
    int s, t, h, k;
    for (s = 0; s < n_seq; s++) for (t = 0; t < lengths[s]; t++) for (h = 0; h < heads; h++) for (k = 0; k < d; k++) {
        double x = fabs((double)at(b, lengths, s, t, h)[k] - start - *values++);
        if (!(x <= worst)) worst = x == x ? x : HUGE_VAL;
        n++;
    }
    for (i = 0; i < b->size; i++) n -= b->data[i] != fill;
    *touched = (ptrdiff_t)n < 0;
    return worst;
}

static double largest(const double *x, int n) {
    double m = 0;
    int i;
    for (i = 0; i < n; i++) if (fabs(x[i]) > m) m = fabs(x[i]);
    return m;
}

typedef struct limits { double out, p, dq, dk, dv; } limits;

/* Everything that a call can give, compared with the answer; `bits` (if given) must stay the same from call to call. */
static void check_case(atv_ctx *ctx, const char *name, test_attn *c, int layout, const limits *limit, buffer bits[4],
                       int have_bits) {
    int H = c->desc.n_head, G = c->desc.n_kv_head, D = c->desc.head_dim, E = c->desc.value_dim;
    int touched, i, b, h, j;
    const char *where = test_path("%s (H %d G %d D %d Dv %d window %d%s, %s, %d threads, layout %d)", name, H, G, D, E,
                                  c->desc.window,
                                  c->desc.non_causal ? " non-causal" : "", atv_isa_name(atv_ctx_info(ctx)->isa),
                                  atv_ctx_info(ctx)->n_threads, layout);
    const atv_real start = (atv_real)(1 / 1024.0), fill = 77;
    buffer q = make_from(layout, c->q_len, c->n_seq, H, D, c->q), k = make_from(layout, c->k_len, c->n_seq, G, D, c->k);
    buffer v = make_from(layout, c->k_len, c->n_seq, G, E, c->v),
        dout = make_from(layout, c->q_len, c->n_seq, H, E, c->dout);
    buffer out = make(layout, c->q_len, c->n_seq, H, E, fill);
    buffer dq = make(layout, c->q_len, c->n_seq, H, D, start), dk = make(layout, c->k_len, c->n_seq, G, D, start);
    buffer dv = make(layout, c->k_len, c->n_seq, G, E, start);
    buffer all[4];
    int64_t tq = longest_of(c->q_len, c->n_seq), tk = longest_of(c->k_len, c->n_seq);
    size_t n_lse = (size_t)(q.tensor.rank == 4 ? c->n_seq * tq : c->nq) * (size_t)H,
        n_probs = (size_t)(c->n_seq * H * tq * tk);
    atv_real *lse_data = (atv_real *)calloc(n_lse + 1, sizeof(atv_real)),
        *probs_data = (atv_real *)calloc(n_probs + 1, sizeof(atv_real));
    atv_tensor lse, probs;
    atv_attn *attn = NULL;
    atv_attn_seqs seqs;
    double worst;
    memset(&lse, 0, sizeof lse);
    lse.data = lse_data;
    lse.dtype = ATV_REAL;
    if (q.tensor.rank == 4) {
        lse.rank = 3;
        lse.dims[0] = c->n_seq; lse.dims[1] = tq; lse.dims[2] = H;
        lse.strides[0] = tq * H; lse.strides[1] = H; lse.strides[2] = 1;
    } else {
        lse.rank = 2;
        lse.dims[0] = c->nq; lse.dims[1] = H;
        lse.strides[0] = H; lse.strides[1] = 1;
    }
    memset(&seqs, 0, sizeof seqs);
    seqs.n_seq = c->n_seq;
    seqs.q_len = c->q_len;
    seqs.k_len = c->k_len;
    seqs.q_offset = c->q_offset;
    MUST(ctx, atv_attn_create(ctx, &c->desc, &attn));

    MUST(ctx, atv_attn_forward(attn, &seqs, &q.tensor, &k.tensor, &v.tensor, &out.tensor, &lse));
    worst = differs(&out, c->q_len, c->n_seq, H, E, c->out, 0, fill, &touched);
    CHECK(worst <= limit->out, "%s: out differs by %g > %g", where, worst, limit->out);
    CHECK(!touched, "%s: the forward wrote outside its output", where);
    for (b = 0, worst = 0, j = 0; b < c->n_seq; b++) for (i = 0; i < c->q_len[b]; i++) for (h = 0; h < H; h++, j++) {
        double x = lse_data[(q.tensor.rank == 4 ? (b * tq + i) * H : j - h) + h], sum = 0;
        int key;
        for (key = 0; key < c->longest; key++) sum += c->p[j * c->longest + key];
        if (sum > 0 && !(fabs(x - c->lse[j]) <= worst)) worst = fabs(x - c->lse[j]) + (x != x);
    }
    CHECK(worst <= 1e-5 + 1e-6 * largest(c->lse, c->nq * H), "%s: lse differs by %g", where, worst);

    MUST(ctx, atv_attn_backward(attn, &seqs, &q.tensor, &k.tensor, &v.tensor, &out.tensor, &lse, &dout.tensor, &dq.tensor,
                                &dk.tensor, &dv.tensor));
    worst = differs(&dq, c->q_len, c->n_seq, H, D, c->dq, start, start, &touched);
    CHECK(worst <= limit->dq && !touched, "%s: dq differs by %g > %g%s", where, worst, limit->dq,
          touched ? ", and wrote outside" : "");
    worst = differs(&dk, c->k_len, c->n_seq, G, D, c->dk, start, start, &touched);
    CHECK(worst <= limit->dk && !touched, "%s: dk differs by %g > %g%s", where, worst, limit->dk,
          touched ? ", and wrote outside" : "");
    worst = differs(&dv, c->k_len, c->n_seq, G, E, c->dv, start, start, &touched);
    CHECK(worst <= limit->dv && !touched, "%s: dv differs by %g > %g%s", where, worst, limit->dv,
          touched ? ", and wrote outside" : "");

    probs = atv_tensor_view(probs_data, ATV_REAL, c->n_seq, H, tq, tk);
    MUST(ctx, atv_attn_probs(attn, &seqs, &q.tensor, &k.tensor, &probs));
    for (b = 0, worst = 0, j = 0; b < c->n_seq; b++) {
        for (h = 0; h < H; h++) for (i = 0; i < tq; i++) {
            int key;
            for (key = 0; key < tk; key++) {
                double expected = i < c->q_len[b] && key < c->k_len[b] ? c->p[((j + i) * H + h) * c->longest + key] : 0;
                double x = fabs((double)probs_data[((b * H + h) * tq + i) * tk + key] - expected);
                if (!(x <= worst)) worst = x == x ? x : HUGE_VAL;
            }
        }
        j += c->q_len[b];
    }
    CHECK(worst <= limit->p, "%s: probs differ by %g > %g", where, worst, limit->p);

    if (bits) {
        all[0] = out; all[1] = dq; all[2] = dk; all[3] = dv;
        for (i = 0; i < 4; i++) {
            if (have_bits) {
                CHECK(memcmp(all[i].data, bits[i].data, bits[i].size * sizeof(atv_real)) == 0,
                      "%s: other bits in output %d", where, i);
                free(all[i].data);
            } else bits[i] = all[i];
        }
    } else { free(out.data); free(dq.data); free(dk.data); free(dv.data); }
    free(q.data); free(k.data); free(v.data); free(dout.data); free(lse_data); free(probs_data);
    atv_attn_destroy(attn);
}

/* In all layouts and with 1, 2 and 3 threads. */
static void check_everywhere(atv_isa isa, const char *name, test_attn *c, const limits *limit) {
    char what[64];
    int layout, threads, i;
    snprintf(what, sizeof what, "%s", name);
    for (layout = 0; layout < LAYOUTS; layout++) {
        buffer bits[4];
        for (threads = 1; threads <= 3; threads++) {
            atv_ctx *ctx = test_ctx(isa, threads);
            check_case(ctx, what, c, layout, limit, bits, threads > 1);
            atv_ctx_destroy(ctx);
        }
        for (i = 0; i < 4; i++) free(bits[i].data);
    }
}

/* ---- golden ---- */

static void fill(double *out, atv_safetensors *file, const char *name, const char *part, int n) {
    int i = atv_safetensors_find(file, test_path("%s.%s", name, part));
    const float *data;
    atv_tensor t;
    if (!CHECK(i >= 0, "cases.safetensors lacks %s.%s", name, part)) return;
    t = atv_safetensors_tensor(file, i).tensor;
    if (!CHECK(atv_tensor_count(&t) == n && t.dtype == ATV_F32,
               "%s.%s has %ld numbers, not %d", name, part, (long)atv_tensor_count(&t), n)) return;
    data = (const float *)t.data;
    for (i = 0; i < n; i++) out[i] = data[i];
}

static int fill_ints(int *out, const char *json, const char *key) {
    double x[16];
    int i, n = test_numbers(test_find(json, key), x, 16);
    for (i = 0; i < n; i++) out[i] = (int)x[i];
    return n;
}

static void test_golden(atv_isa isa) {
    atv_ctx *ctx = test_ctx(isa, 1);
    char *json = (char *)test_read("tests/golden/attention/cases.json", NULL), *line, *end;
    atv_safetensors *file = NULL;
    int cases = 0;
    if (!CHECK(json != NULL, "tests/golden/attention/cases.json cannot be read")) { atv_ctx_destroy(ctx); return; }
    MUST(ctx, atv_safetensors_open(ctx, "tests/golden/attention/cases.safetensors", &file));
    for (line = json; line; line = end) {
        test_attn c;
        atv_rng rng = { 1 };
        limits limit;
        char name[64];
        const char *p, *difference;
        int H, G, D, E, b, i, j, h, flat;
        double *probs, ulp;
        if ((end = strchr(line, '\n')) != NULL) *end++ = 0;
        p = test_find(line, "name");
        if (!p || sscanf(p, "\"%63[^\"]\"", name) != 1) continue;
        memset(&c, 0, sizeof c);
        H = c.desc.n_head = (int)test_number(line, "H");
        G = c.desc.n_kv_head = (int)test_number(line, "G");
        D = c.desc.head_dim = (int)test_number(line, "D");
        E = c.desc.value_dim = (int)test_number(line, "Dv");
        c.desc.window = (int)test_number(line, "window");
        c.desc.scale = (float)test_number(line, "scale");
        c.desc.non_causal = strncmp(test_find(line, "causal"), "false", 5) == 0;
        i = fill_ints(c.map, line, "kv_of_head");
        c.n_seq = fill_ints(c.q_len, line, "q_len");
        b = fill_ints(c.k_len, line, "k_len");
        if (!CHECK(i == H && b == c.n_seq && fill_ints(c.q_offset, line, "q_offset") == b, "%s: lengths", name)) continue;
        test_attn_make(&c, &rng);
        fill(c.q, file, name, "q", c.nq * H * D);
        fill(c.k, file, name, "k", c.nk * G * D);
        fill(c.v, file, name, "v", c.nk * G * E);
        fill(c.dout, file, name, "dout", c.nq * H * E);
        /* for lse, and to hold the plain loops to the golden values too */
        test_attn_answer(&c);
        for (flat = b = 0; b < c.n_seq; b++) flat += H * c.q_len[b] * c.k_len[b];
        probs = (double *)calloc((size_t)flat + 1, sizeof(double));
        if (!probs) exit(1);
        fill(probs, file, name, "p", flat);
        {
            double *parts[4], worst = 0;
            int n[4];
            static const char *const names[4] = { "out", "dq", "dk", "dv" };
            parts[0] = c.out; n[0] = c.nq * H * E;
            parts[1] = c.dq; n[1] = c.nq * H * D;
            parts[2] = c.dk; n[2] = c.nk * G * D;
            parts[3] = c.dv; n[3] = c.nk * G * E;
            for (i = 0; i < 4; i++) {
                double *golden = (double *)calloc((size_t)n[i] + 1, sizeof(double)), top;
                if (!golden) exit(1);
                fill(golden, file, name, names[i], n[i]);
                top = largest(golden, n[i]);
                for (j = 0, worst = 0; j < n[i]; j++) if (!(fabs(golden[j] - parts[i][j]) <= worst))
                    worst = fabs(golden[j] - parts[i][j]);
                CHECK(worst <= 1e-7 * (top + 1), "%s: the plain loops' %s differ by %g", name, names[i], worst);
                memcpy(parts[i], golden, (size_t)n[i] * sizeof(double));
                free(golden);
            }
        }
        for (flat = j = b = 0; b < c.n_seq; b++) {
            for (h = 0; h < H; h++) for (i = 0; i < c.q_len[b]; i++) {
                memcpy(c.p + ((j + i) * H + h) * c.longest, probs + flat, (size_t)c.k_len[b] * sizeof(double));
                flat += c.k_len[b];
            }
            j += c.q_len[b];
        }
        difference = test_find(line, "fp32_run_max_abs_difference");
        /* 4 times what fp32 itself costs, and some units in the last place of the largest value: one, and as many as lse is
           large, which is rounded too and moves probabilities recomputed from it */
        ulp = 1.2e-7 * (1 + largest(c.lse, c.nq * H));
        limit.out = 4 * test_number(difference, "out") + ulp * largest(c.out, c.nq * H * E);
        limit.p = 4 * test_number(difference, "p") + ulp;
        limit.dq = 4 * test_number(difference, "dq") + ulp * largest(c.dq, c.nq * H * D);
        limit.dk = 4 * test_number(difference, "dk") + ulp * largest(c.dk, c.nk * G * D);
        limit.dv = 4 * test_number(difference, "dv") + ulp * largest(c.dv, c.nk * G * E);
        check_everywhere(isa, name, &c, &limit);
        cases++;
        free(probs);
        test_attn_free(&c);
    }
    CHECK(cases >= 20, "only %d golden cases", cases);
    free(json);
    atv_safetensors_close(file);
    atv_ctx_destroy(ctx);
}

/* ---- random problems ---- */

static limits fp32_limits(const test_attn *c) {
    limits limit;
    limit.out = 1e-5 * (1 + largest(c->out, c->nq * c->desc.n_head * c->desc.value_dim));
    limit.p = 1e-5;
    limit.dq = 1e-5 * (1 + largest(c->dq, c->nq * c->desc.n_head * c->desc.head_dim));
    limit.dk = 1e-5 * (1 + largest(c->dk, c->nk * c->desc.n_kv_head * c->desc.head_dim));
    limit.dv = 1e-5 * (1 + largest(c->dv, c->nk * c->desc.n_kv_head * c->desc.value_dim));
    return limit;
}

static void test_random_problems(atv_isa isa) {
    atv_rng rng = { 42 };
    int i;
    for (i = 0; i < 70; i++) {
        test_attn c;
        limits limit;
        test_attn_random(&c, &rng, i < 30 ? 9 : i < 50 ? 40 : i < 60 ? 150 : 450);
        limit = fp32_limits(&c);
        check_everywhere(isa, test_path("random %d", i), &c, &limit);
        test_attn_free(&c);
    }
}

/* One head of each is the attention of the textbook; G = H is one head of each side by side. */
static void test_heads_apart(atv_isa isa) {
    atv_ctx *ctx = test_ctx(isa, 1);
    atv_rng rng = { 8 };
    int h, i, t = 21, H = 6, D = 7;
    atv_real *x[5], *one;
    atv_tensor q, k, v, out, single;
    atv_attn_desc desc;
    atv_attn *whole = NULL, *plain = NULL;
    atv_attn_seqs seqs;
    memset(&desc, 0, sizeof desc);
    desc.n_head = H;
    desc.kqv_size = H * D;
    desc.scale = 0.4f;
    desc.max_keys = t;
    MUST(ctx, atv_attn_create(ctx, &desc, &whole));
    CHECK(atv_attn_info(whole)->n_kv_head == H && atv_attn_info(whole)->head_dim == D &&
          atv_attn_info(whole)->value_dim == D,
          "defaults: G %d D %d Dv %d", atv_attn_info(whole)->n_kv_head, atv_attn_info(whole)->head_dim,
          atv_attn_info(whole)->value_dim);
    for (h = 0; h < H; h++) CHECK(atv_attn_info(whole)->kv_of_head[h] == h,
                                  "head %d reads %d", h, atv_attn_info(whole)->kv_of_head[h]);
    desc.n_head = 1;
    desc.kqv_size = D;
    MUST(ctx, atv_attn_create(ctx, &desc, &plain));
    for (i = 0; i < 4; i++) {
        x[i] = (atv_real *)malloc(sizeof(atv_real) * (size_t)(t * H * D));
        test_normal(&rng, x[i], (size_t)(t * H * D), 1);
    }
    one = (atv_real *)malloc(sizeof(atv_real) * (size_t)(t * D));
    q = atv_tensor_view(x[0], ATV_REAL, t, H, D, 0);
    k = atv_tensor_view(x[1], ATV_REAL, t, H, D, 0);
    v = atv_tensor_view(x[2], ATV_REAL, t, H, D, 0);
    out = atv_tensor_view(x[3], ATV_REAL, t, H, D, 0);
    single = atv_tensor_view(one, ATV_REAL, t, 1, D, 0);
    memset(&seqs, 0, sizeof seqs);
    seqs.n_seq = 1;
    seqs.q_len = &t;
    MUST(ctx, atv_attn_forward(whole, &seqs, &q, &k, &v, &out, NULL));
    for (h = 0; h < H; h++) {
        atv_tensor qh = atv_tensor_slice(q, 1, h, h + 1), kh = atv_tensor_slice(k, 1, h, h + 1),
            vh = atv_tensor_slice(v, 1, h, h + 1);
        double worst = 0;
        MUST(ctx, atv_attn_forward(plain, &seqs, &qh, &kh, &vh, &single, NULL));
        for (i = 0; i < t * D; i++) {
            double d = fabs((double)one[i] - x[3][(i / D * H + h) * D + i % D]);
            if (!(d <= worst)) worst = d;
        }
        CHECK(worst <= 2e-6, "head %d alone differs by %g", h, worst);
    }
    for (i = 0; i < 4; i++) free(x[i]);
    free(one);
    atv_attn_destroy(whole);
    atv_attn_destroy(plain);
    atv_ctx_destroy(ctx);
}

/* The ends: scores beyond exp's range, a window that shows nothing new, a batch of nothing, a query before all keys. */
static void test_ends(atv_isa isa) {
    atv_ctx *ctx = test_ctx(isa, 2);
    atv_rng rng = { 9 };
    test_attn c;
    limits limit;
    int i;
    for (i = 0; i < 4; i++) {
        memset(&c, 0, sizeof c);
        c.desc.n_head = 3;
        c.desc.n_kv_head = 2;
        c.map[1] = c.map[2] = 1;
        c.desc.head_dim = c.desc.value_dim = 5;
        c.desc.scale = i == 0 ? 300.0f : 0.5f;
        c.desc.window = i == 1 ? 1000000 : i == 3 ? INT_MAX : 0;
        c.n_seq = 2;
        c.q_len[0] = c.k_len[0] = 1;
        c.q_len[1] = 9;
        c.k_len[1] = i == 2 ? 4 : 9;
        c.q_offset[1] = c.k_len[1] - c.q_len[1];
        test_attn_make(&c, &rng);
        limit = fp32_limits(&c);
        /* scores near 1000: finite is what counts */
        if (i == 0) limit.out = limit.p = limit.dq = limit.dk = limit.dv = 0.5;
        check_everywhere(isa, i == 0 ? "huge scores" : i == 2 ? "queries before the keys" : "wide window", &c, &limit);
        test_attn_free(&c);
    }
    {
        atv_attn_desc desc;
        atv_attn *attn = NULL;
        atv_attn_seqs seqs;
        atv_real x[64] = { 0 };
        atv_tensor none = atv_tensor_view(x, ATV_REAL, 1, 2, 4, 0), lse = atv_tensor_view(x, ATV_REAL, 1, 2, 0, 0);
        int zeros[2] = { 0, 0 };
        none.dims[0] = lse.dims[0] = 0;
        memset(&desc, 0, sizeof desc);
        desc.n_head = 2;
        desc.head_dim = 4;
        desc.scale = 1;
        desc.max_keys = 8;
        MUST(ctx, atv_attn_create(ctx, &desc, &attn));
        memset(&seqs, 0, sizeof seqs);
        for (i = 0; i < 2; i++) {
            seqs.n_seq = i * 2;
            seqs.q_len = zeros;
            CHECK(atv_attn_forward(attn, &seqs, &none, &none, &none, &none, &lse) == ATV_OK,
                  "a batch of nothing: %s", atv_last_error(ctx));
            CHECK(atv_attn_backward(attn, &seqs, &none, &none, &none, &none, &lse, &none, &none, &none, &none) == ATV_OK,
                  "the gradient of nothing: %s", atv_last_error(ctx));
        }
        atv_attn_destroy(attn);
    }
    atv_ctx_destroy(ctx);
}

/* ---- steps ---- */

/* Sequences of different lengths grow in a random order; each row must be the causal forward's. Some are cut back, some
   become copies of others on the way. In some rounds the scale is negative, in some heads of q and out lie apart. */
static void test_steps(atv_isa isa, int threads) {
    atv_rng rng = { 77 };
    int round;
    for (round = 0; round < 25; round++) {
        atv_ctx *ctx = test_ctx(isa, threads);
        test_attn c;
        atv_kv_desc kd;
        atv_kv *kv = NULL;
        atv_attn *attn = NULL;
        int H, G, D, E, T, i, b, step, longest = round < 12 ? 20 : 75, is[4], gap = round % 3, at_now[4] = { 0, 0, 0, 0 },
            peak[4] = { 0, 0, 0, 0 }, first[4];
        double worst = 0;
        test_attn_random(&c, &rng, 4);
        test_attn_free(&c);
        c.desc.non_causal = 0;
        if (round % 4 == 3) c.desc.scale = -c.desc.scale;
        if (c.desc.window) c.desc.window = 1 + (int)atv_rng_below(&rng, (uint32_t)(longest + 5));
        c.n_seq = 4;
        for (b = 0; b < 4; b++) {
            c.q_len[b] = c.k_len[b] = 1 + (int)atv_rng_below(&rng, (uint32_t)longest);
            c.q_offset[b] = 0;
            is[b] = b;
        }
        test_attn_make(&c, &rng);
        H = c.desc.n_head; G = c.desc.n_kv_head; D = c.desc.head_dim; E = c.desc.value_dim; T = c.longest;
        for (b = i = 0; b < 4; i += c.q_len[b++]) first[b] = i;
        MUST(ctx, atv_attn_create(ctx, &c.desc, &attn));
        memset(&kd, 0, sizeof kd);
        kd.n_kv_head = G;
        kd.head_dim = D;
        kd.value_dim = E;
        kd.n_seq = 4;
        kd.max_positions = T;
        kd.window = c.desc.window;
        kd.max_rewind = c.desc.window ? 5 : 0;
        MUST(ctx, atv_kv_create(ctx, &kd, &kv));
        for (step = 0; step < 4 * T; step++) {
            int seqs[4], n = 0, h, d;
            atv_real q[4 * 8 * 50], k[4 * 8 * 48], v[4 * 8 * 48], out[4 * 8 * 50];
            atv_tensor tq, tk, tv, to;
            for (b = 3; b >= 0; b--) {
                if (at_now[b] >= c.q_len[is[b]] || atv_rng_below(&rng, 4) == 0) continue;
                i = first[is[b]] + at_now[b];
                for (h = 0; h < H; h++)
                    for (d = 0; d < D; d++) q[(n * H + h) * (D + gap) + d] = (atv_real)c.q[(i * H + h) * D + d];
                for (d = 0; d < G * D; d++) k[n * G * D + d] = (atv_real)c.k[i * G * D + d];
                for (d = 0; d < G * E; d++) v[n * G * E + d] = (atv_real)c.v[i * G * E + d];
                seqs[n++] = b;
            }
            if (n) {
                tq = atv_tensor_view(q, ATV_REAL, n, H, D, 0);
                tk = atv_tensor_view(k, ATV_REAL, n, G, D, 0);
                tv = atv_tensor_view(v, ATV_REAL, n, G, E, 0);
                to = atv_tensor_view(out, ATV_REAL, n, H, E, 0);
                tq.strides[0] = H * (tq.strides[1] = D + gap);
                to.strides[0] = H * (to.strides[1] = E + gap);
                MUST(ctx, atv_attn_step(attn, kv, n, seqs, &tq, &tk, &tv, &to));
            }
            for (i = 0; i < n; i++) {
                int row;
                b = seqs[i];
                row = first[is[b]] + at_now[b]++;
                if (at_now[b] > peak[b]) peak[b] = at_now[b];
                for (h = 0; h < H * E; h++) {
                    double x = fabs((double)out[(i * H + h / E) * (E + gap) + h % E] - c.out[row * H * E + h]);
                    if (!(x <= worst)) worst = x == x ? x : HUGE_VAL;
                }
                CHECK(atv_kv_length(kv, b) == at_now[b], "length %d, not %d", atv_kv_length(kv, b), at_now[b]);
            }
            if (atv_rng_below(&rng, 8) == 0) {              /* back a little: with a window no further than it was told */
                int to_length;
                b = (int)atv_rng_below(&rng, 4);
                to_length = at_now[b] - (int)atv_rng_below(&rng, 6);
                if (to_length < 0) to_length = 0;
                if (c.desc.window && peak[b] - to_length > 5)
                    to_length = peak[b] - 5 > at_now[b] ? at_now[b] : peak[b] > 5 ? peak[b] - 5 : 0;
                MUST(ctx, atv_kv_cut(kv, b, to_length));
                at_now[b] = to_length;
            }
            if (atv_rng_below(&rng, 16) == 0) {
                int other = (int)atv_rng_below(&rng, 4);
                b = (int)atv_rng_below(&rng, 4);
                MUST(ctx, atv_kv_copy(kv, b, other));
                is[other] = is[b];
                at_now[other] = at_now[b];
                peak[other] = peak[b];
            }
        }
        CHECK(worst <= 1e-5 * (1 + largest(c.out, c.nq * H * E)),
              "round %d (H %d G %d D %d Dv %d window %d, %s): steps differ by %g", round, H, G,
              D, E, c.desc.window, atv_isa_name(isa), worst);
        atv_kv_destroy(kv);
        atv_attn_destroy(attn);
        test_attn_free(&c);
        atv_ctx_destroy(ctx);
    }
}

/* ---- memory ---- */

static void test_memory(void) {
    atv_ctx_desc cd;
    atv_ctx *ctx = NULL;
    test_alloc alloc;
    atv_rng rng = { 5 };
    test_attn c;
    atv_attn *attn = NULL;
    atv_kv *kv = NULL;
    atv_kv_desc kd;
    size_t before, after, said = 0;
    long count, n;
    int i;
    memset(&cd, 0, sizeof cd);
    memset(&alloc, 0, sizeof alloc);
    cd.allocator.user = &alloc;
    cd.allocator.alloc = test_alloc_get;
    cd.allocator.free = test_alloc_put;
    cd.n_threads = 2;
    MUST((atv_ctx *)NULL, atv_ctx_create(&cd, &ctx));
    for (i = 0; i < 20; i++) {
        atv_memory(ctx, &before, NULL);
        test_attn_random(&c, &rng, 30);
        MUST(ctx, atv_attn_bytes(ctx, &c.desc, &said));
        MUST(ctx, atv_attn_create(ctx, &c.desc, &attn));
        atv_memory(ctx, &after, NULL);
        CHECK(after - before == said, "attention said %lu bytes and took %lu", (unsigned long)said,
              (unsigned long)(after - before));
        memset(&kd, 0, sizeof kd);
        kd.n_kv_head = c.desc.n_kv_head;
        kd.head_dim = c.desc.head_dim;
        kd.value_dim = i % 2 ? c.desc.value_dim : 0;
        kd.n_seq = 1 + i % 3;
        kd.max_positions = 1 + 7 * i;
        kd.window = i % 4 ? 3 * i : 0;
        kd.max_rewind = kd.window ? i % 5 : 0;
        before = after;
        MUST(ctx, atv_kv_bytes(ctx, &kd, &said));
        MUST(ctx, atv_kv_create(ctx, &kd, &kv));
        atv_memory(ctx, &after, NULL);
        CHECK(after - before == said, "a cache said %lu bytes and took %lu", (unsigned long)said,
              (unsigned long)(after - before));
        atv_kv_destroy(kv);
        atv_attn_destroy(attn);
        count = alloc.count;
        MUST(ctx, atv_attn_create(ctx, &c.desc, &attn));
        n = alloc.count - count;
        atv_attn_destroy(attn);
        for (alloc.fail_at = alloc.count + 1; n-- > 0; alloc.fail_at = alloc.count + 1) {
            attn = NULL;
            CHECK(atv_attn_create(ctx, &c.desc, &attn) == ATV_ERR_MEMORY && !attn, "a failed allocation went unnoticed");
        }
        kv = NULL;
        alloc.fail_at = alloc.count + 1;
        CHECK(atv_kv_create(ctx, &kd, &kv) == ATV_ERR_MEMORY && !kv, "a failed allocation went unnoticed");
        alloc.fail_at = 0;
        /* nothing is allocated by a call */
        {
            buffer q = make_from(RAGGED, c.q_len, c.n_seq, c.desc.n_head, c.desc.head_dim, c.q);
            buffer k = make_from(RAGGED, c.k_len, c.n_seq, c.desc.n_kv_head, c.desc.head_dim, c.k);
            buffer v = make_from(RAGGED, c.k_len, c.n_seq, c.desc.n_kv_head, c.desc.value_dim, c.v);
            buffer out = make(RAGGED, c.q_len, c.n_seq, c.desc.n_head, c.desc.value_dim, 0);
            buffer dq = make(RAGGED, c.q_len, c.n_seq, c.desc.n_head, c.desc.head_dim, 0);
            buffer dk = make(RAGGED, c.k_len, c.n_seq, c.desc.n_kv_head, c.desc.head_dim, 0);
            buffer dv = make(RAGGED, c.k_len, c.n_seq, c.desc.n_kv_head, c.desc.value_dim, 0);
            buffer lse = make(RAGGED, c.q_len, c.n_seq, 1, c.desc.n_head, 0);
            atv_attn_seqs seqs;
            lse.tensor.rank = 2;
            lse.tensor.dims[1] = c.desc.n_head;
            lse.tensor.strides[1] = 1;
            memset(&seqs, 0, sizeof seqs);
            seqs.n_seq = c.n_seq;
            seqs.q_len = c.q_len;
            seqs.k_len = c.k_len;
            seqs.q_offset = c.q_offset;
            MUST(ctx, atv_attn_create(ctx, &c.desc, &attn));
            count = alloc.count;
            MUST(ctx, atv_attn_forward(attn, &seqs, &q.tensor, &k.tensor, &v.tensor, &out.tensor, &lse.tensor));
            MUST(ctx, atv_attn_backward(attn, &seqs, &q.tensor, &k.tensor, &v.tensor, &out.tensor, &lse.tensor, &out.tensor,
                                        &dq.tensor, &dk.tensor, &dv.tensor));
            CHECK(alloc.count == count, "a call allocated %ld times", alloc.count - count);
            free(q.data); free(k.data); free(v.data); free(out.data); free(dq.data); free(dk.data); free(dv.data);
            free(lse.data);
            atv_attn_destroy(attn);
        }
        test_attn_free(&c);
    }
    /* a window's cache does not grow with the sequence, and is at least what the formula says */
    {
        size_t small = 0, large = 0, all = 0;
        memset(&kd, 0, sizeof kd);
        kd.n_kv_head = 3;
        kd.head_dim = 6;
        kd.n_seq = 2;
        kd.window = 64;
        kd.max_positions = 1000;
        MUST(ctx, atv_kv_bytes(ctx, &kd, &small));
        kd.max_positions = 100000;
        MUST(ctx, atv_kv_bytes(ctx, &kd, &large));
        CHECK(small == large, "a window of 64 takes %lu bytes for 1000 positions, %lu for 100000", (unsigned long)small,
              (unsigned long)large);
        kd.window = 0;
        kd.max_positions = 1024;
        MUST(ctx, atv_kv_bytes(ctx, &kd, &all));
        CHECK(all >= 2 * 2 * 3 * 6 * 1024 * sizeof(atv_real) && all < 2 * 2 * 3 * 6 * 1040 * sizeof(atv_real) + 4096,
              "2 x 1024 positions of 3 heads of 6 take %lu bytes", (unsigned long)all);
    }
    atv_ctx_destroy(ctx);
    CHECK(alloc.live == 0, "%ld blocks left", alloc.live);
}

/* ---- what is refused ---- */

static void test_refusals(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_attn_desc d, good;
    atv_attn *attn = NULL;
    atv_kv *kv = NULL;
    atv_kv_desc kd;
    static const int bad_map[4] = { 0, 1, 1, 2 };
    memset(&good, 0, sizeof good);
    good.n_head = 4;
    good.n_kv_head = 2;
    good.head_dim = 3;
    good.scale = 1;
    good.max_keys = 8;
#define REFUSED(set, text) do { d = good; set; FAILS(ctx, atv_attn_create(ctx, &d, &attn), ATV_ERR_ARGUMENT, text); \
    CHECK(attn == NULL, "a failure wrote its output"); attn = NULL; } while (0)
    REFUSED(d.n_head = 0, "n_head=0");
    REFUSED(d.n_head = -1, "n_head=-1");
    REFUSED(d.n_kv_head = 5, "n_kv_head=5");
    REFUSED(d.n_kv_head = -2, "n_kv_head=-2");
    REFUSED(d.head_dim = 0, "head_dim");
    REFUSED(d.head_dim = -3, "head_dim=-3");
    REFUSED(d.value_dim = -3, "value_dim=-3");
    REFUSED(d.kqv_size = 13, "kqv_size=13");
    REFUSED((d.head_dim = 0, d.kqv_size = 13), "kqv_size=13");
    REFUSED(d.kv_of_head = bad_map, "kv_of_head[3]=2");
    REFUSED(d.scale = 0, "scale");
    REFUSED(d.scale = (float)NAN, "scale");
    REFUSED(d.scale = (float)HUGE_VAL, "scale");
    REFUSED(d.window = -1, "window=-1");
    REFUSED(d.max_keys = 0, "max_keys=0");
    REFUSED((d.n_head = INT_MAX, d.n_kv_head = INT_MAX, d.head_dim = INT_MAX), "");
#undef REFUSED
    MUST(ctx, atv_attn_create(ctx, &good, &attn));
    {
        atv_real x[256] = { 0 };
        atv_tensor q = atv_tensor_view(x, ATV_REAL, 5, 4, 3, 0), k = atv_tensor_view(x, ATV_REAL, 5, 2, 3, 0), wrong;
        atv_tensor o = atv_tensor_view(x + 128, ATV_REAL, 5, 4, 3, 0), lse = atv_tensor_view(x + 200, ATV_REAL, 5, 4, 0, 0);
        int len = 5, nine = 9, minus = -1, six = 6;
        atv_attn_seqs s;
        memset(&s, 0, sizeof s);
        s.n_seq = 1;
        s.q_len = &len;
        MUST(ctx, atv_attn_forward(attn, &s, &q, &k, &k, &o, &lse));
        wrong = atv_tensor_view(x, ATV_REAL, 5, 3, 3, 0);
        CHECK(atv_attn_forward(attn, &s, &wrong, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT && strstr(atv_last_error(ctx), "q"),
              "q of 3 heads: %s", atv_last_error(ctx));
        wrong = atv_tensor_view(x, ATV_I32, 5, 4, 3, 0);
        CHECK(atv_attn_forward(attn, &s, &wrong, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT && strstr(atv_last_error(ctx), "I32"),
              "q of I32: %s", atv_last_error(ctx));
        wrong = q;
        wrong.strides[2] = 2;
        CHECK(atv_attn_forward(attn, &s, &wrong, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT, "a gap in the last dimension");
        wrong = q;
        wrong.rank = 2;
        CHECK(atv_attn_forward(attn, &s, &wrong, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT, "rank 2");
        wrong = lse;
        wrong.dims[1] = 3;
        CHECK(atv_attn_forward(attn, &s, &q, &k, &k, &o, &wrong) == ATV_ERR_ARGUMENT, "a small lse");
        s.q_len = &six;
        CHECK(atv_attn_forward(attn, &s, &q, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT, "6 positions of a tensor of 5");
        s.q_len = &minus;
        CHECK(atv_attn_forward(attn, &s, &q, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT, "a negative length");
        s.q_len = &len;
        s.k_len = &nine;
        wrong = atv_tensor_view(x, ATV_REAL, 9, 2, 3, 0);
        CHECK(atv_attn_forward(attn, &s, &q, &wrong, &wrong, &o, NULL) == ATV_ERR_ARGUMENT &&
              strstr(atv_last_error(ctx), "max_keys"), "9 keys where 8 are the most: %s", atv_last_error(ctx));
        s.k_len = NULL;
        s.n_seq = -1;
        CHECK(atv_attn_forward(attn, &s, &q, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT, "-1 sequences");
        s.n_seq = 1;
        s.q_len = NULL;
        CHECK(atv_attn_forward(attn, &s, &q, &k, &k, &o, NULL) == ATV_ERR_ARGUMENT, "rank 3 without lengths");
    }
    memset(&kd, 0, sizeof kd);
    kd.n_kv_head = 2;
    kd.head_dim = 3;
    kd.n_seq = 2;
    kd.max_positions = 2;
    MUST(ctx, atv_kv_create(ctx, &kd, &kv));
    {
        atv_real x[64] = { 0 };
        atv_tensor q = atv_tensor_view(x, ATV_REAL, 2, 4, 3, 0), k = atv_tensor_view(x, ATV_REAL, 2, 2, 3, 0),
            o = atv_tensor_view(x + 32, ATV_REAL, 2, 4, 3, 0);
        int both[2] = { 0, 1 }, same[2] = { 1, 1 }, beyond[2] = { 0, 2 };
        CHECK(atv_attn_step(attn, kv, 2, same, &q, &k, &k, &o) == ATV_ERR_ARGUMENT, "a sequence twice");
        CHECK(atv_attn_step(attn, kv, 2, beyond, &q, &k, &k, &o) == ATV_ERR_ARGUMENT, "a sequence that is not there");
        CHECK(atv_kv_length(kv, 0) == 0 && atv_kv_length(kv, 2) == -1 && atv_kv_length(kv, -1) == -1,
              "lengths %d %d", atv_kv_length(kv, 0), atv_kv_length(kv, 2));
        MUST(ctx, atv_attn_step(attn, kv, 2, both, &q, &k, &k, &o));
        MUST(ctx, atv_attn_step(attn, kv, 2, both, &q, &k, &k, &o));
        FAILS(ctx, atv_attn_step(attn, kv, 2, both, &q, &k, &k, &o), ATV_ERR_FULL, "2");
        CHECK(atv_kv_length(kv, 0) == 2, "a failed step grew a sequence");
        CHECK(atv_kv_cut(kv, 0, 3) == ATV_ERR_ARGUMENT && atv_kv_cut(kv, 0, -1) == ATV_ERR_ARGUMENT &&
              atv_kv_cut(kv, 5, 0) == ATV_ERR_ARGUMENT, "a bad cut");
        CHECK(atv_kv_copy(kv, 0, 7) == ATV_ERR_ARGUMENT && atv_kv_copy(kv, -1, 0) == ATV_ERR_ARGUMENT, "a bad copy");
        MUST(ctx, atv_kv_cut(kv, 0, 1));
        MUST(ctx, atv_attn_step(attn, kv, 1, both, &(atv_tensor){ x, ATV_REAL, 3, { 1, 4, 3, 0 }, { 12, 3, 1, 0 } },
                                &(atv_tensor){ x, ATV_REAL, 3, { 1, 2, 3, 0 }, { 6, 3, 1, 0 } },
                                &(atv_tensor){ x, ATV_REAL, 3, { 1, 2, 3, 0 }, { 6, 3, 1, 0 } },
                                &(atv_tensor){ x + 32, ATV_REAL, 3, { 1, 4, 3, 0 }, { 12, 3, 1, 0 } }));
    }
    atv_kv_destroy(kv);
    kv = NULL;
    kd.window = 2;
    kd.max_positions = 100;
    MUST(ctx, atv_kv_create(ctx, &kd, &kv));
    {
        atv_real x[64] = { 0 };
        atv_tensor q = atv_tensor_view(x, ATV_REAL, 1, 4, 3, 0), k = atv_tensor_view(x, ATV_REAL, 1, 2, 3, 0),
            o = atv_tensor_view(x + 32, ATV_REAL, 1, 4, 3, 0);
        int zero = 0;
        CHECK(atv_attn_step(attn, kv, 1, &zero, &q, &k, &k, &o) == ATV_ERR_ARGUMENT && strstr(atv_last_error(ctx), "window"),
              "a global attention over a window's cache: %s", atv_last_error(ctx));
    }
    atv_kv_destroy(kv);
    kv = NULL;
    kd.window = 40;
    kd.max_rewind = 2;
    MUST(ctx, atv_kv_create(ctx, &kd, &kv));
    {
        atv_real x[64] = { 0 };
        atv_tensor q = atv_tensor_view(x, ATV_REAL, 1, 4, 3, 0), k = atv_tensor_view(x, ATV_REAL, 1, 2, 3, 0),
            o = atv_tensor_view(x + 32, ATV_REAL, 1, 4, 3, 0);
        atv_attn *local = NULL;
        int zero = 0, i;
        d = good;
        d.window = 40;
        d.max_keys = 100;
        MUST(ctx, atv_attn_create(ctx, &d, &local));
        for (i = 0; i < 90; i++) MUST(ctx, atv_attn_step(local, kv, 1, &zero, &q, &k, &k, &o));
        FAILS(ctx, atv_kv_cut(kv, 0, 30), ATV_ERR_ARGUMENT, "30");
        CHECK(atv_kv_length(kv, 0) == 90, "a refused cut changed the length to %d", atv_kv_length(kv, 0));
        MUST(ctx, atv_kv_cut(kv, 0, 88));
        MUST(ctx, atv_kv_cut(kv, 0, 0));
        MUST(ctx, atv_attn_step(local, kv, 1, &zero, &q, &k, &k, &o));
        atv_attn_destroy(local);
    }
    atv_kv_destroy(kv);
    kv = NULL;
    kd.n_kv_head = 0;
    FAILS(ctx, atv_kv_create(ctx, &kd, &kv), ATV_ERR_ARGUMENT, "n_kv_head=0");
    kd.n_kv_head = 2;
    kd.head_dim = 0;
    FAILS(ctx, atv_kv_create(ctx, &kd, &kv), ATV_ERR_ARGUMENT, "head_dim=0");
    kd.head_dim = 3;
    kd.n_seq = -1;
    FAILS(ctx, atv_kv_create(ctx, &kd, &kv), ATV_ERR_ARGUMENT, "n_seq=-1");
    kd.n_seq = 1;
    kd.max_positions = 0;
    FAILS(ctx, atv_kv_create(ctx, &kd, &kv), ATV_ERR_ARGUMENT, "max_positions=0");
    kd.max_positions = INT_MAX;
    kd.window = 0;
    kd.n_seq = INT_MAX;
    kd.head_dim = INT_MAX;
    CHECK(atv_kv_create(ctx, &kd, &kv) != ATV_OK && !kv, "a cache of 2^93 numbers");
    atv_attn_destroy(attn);
    atv_attn_destroy(NULL);
    atv_kv_destroy(NULL);
    atv_ctx_destroy(ctx);
}

int main(void) {
    int isa;
    for (isa = ATV_ISA_SCALAR; isa < ATV_ISA_COUNT; isa++) {
        if (!atv_isa_available((atv_isa)isa)) {
            SKIP("attention with %s: this machine has none", atv_isa_name((atv_isa)isa));
            continue;
        }
        test_golden((atv_isa)isa);
        test_random_problems((atv_isa)isa);
        test_heads_apart((atv_isa)isa);
        test_ends((atv_isa)isa);
        test_steps((atv_isa)isa, 1);
        test_steps((atv_isa)isa, 3);
    }
    test_memory();
    test_refusals();
    return test_done("attention");
}
