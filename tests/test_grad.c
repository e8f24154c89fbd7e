/* The gradients, in double: the library compiled with double for its reals (scalar kernels only) against central
   differences, for attention alone, for every other operation, and for whole models of every variant; and the golden
   values once more, closer. */
#define _POSIX_C_SOURCE 200809L
#ifndef ATVI_DOUBLE
#  define ATVI_DOUBLE
#endif
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "test.h"

/* f'(0) from four values of f: the error is of the fourth order in h. */
static double slope(double (*f)(void *arg, double h), void *arg, double h) {
    return (8 * (f(arg, h) - f(arg, -h)) - (f(arg, 2 * h) - f(arg, -2 * h))) / (12 * h);
}

/* ---- attention ---- */

typedef struct attn_line {
    atv_attn *attn;
    const test_attn *c;
    atv_attn_seqs seqs;
    double *x, *u, *moved;                                  /* an input, a direction, x + h u */
    int n;
    atv_tensor q, k, v, out, lse;
} attn_line;

/* sum of dout . out, with one input moved */
static double attn_value(void *arg, double h) {
    attn_line *l = (attn_line *)arg;
    const double *out = (const double *)l->out.data;
    double sum = 0;
    int i;
    for (i = 0; i < l->n; i++) l->moved[i] = l->x[i] + h * l->u[i];
    MUST(l->attn->ctx, atv_attn_forward(l->attn, &l->seqs, &l->q, &l->k, &l->v, &l->out, &l->lse));
    for (i = 0; i < l->c->nq * l->c->desc.n_head * l->c->desc.value_dim; i++) sum += out[i] * l->c->dout[i];
    return sum;
}

static atv_tensor view(double *data, int n, int heads, int dim) {
    atv_tensor t = atv_tensor_view(data, ATV_REAL, 1, heads, dim, 0);
    t.dims[0] = n;
    return t;
}

static double *doubles(int n) {
    double *x = (double *)calloc((size_t)n + 1, sizeof *x);
    if (!x) exit(1);
    return x;
}

static void check_attention(atv_ctx *ctx, test_attn *c, atv_rng *rng, int number) {
    int H = c->desc.n_head, G = c->desc.n_kv_head, D = c->desc.head_dim, E = c->desc.value_dim, part, i, j;
    int n[3];
    double *inputs[3], *grads[3], *plain[3], *moved[3], *out = doubles(c->nq * H * E), *lse = doubles(c->nq * H);
    static const char *const names[3] = { "dq", "dk", "dv" };
    atv_tensor dout, dq, dk, dv;
    attn_line l;
    memset(&l, 0, sizeof l);
    n[0] = c->nq * H * D;
    n[1] = c->nk * G * D;
    n[2] = c->nk * G * E;
    inputs[0] = c->q; inputs[1] = c->k; inputs[2] = c->v;
    plain[0] = c->dq; plain[1] = c->dk; plain[2] = c->dv;
    for (part = 0; part < 3; part++) {
        grads[part] = doubles(n[part]);
        moved[part] = doubles(n[part]);
        memcpy(moved[part], inputs[part], sizeof(double) * (size_t)n[part]);
    }
    l.c = c;
    l.seqs.n_seq = c->n_seq;
    l.seqs.q_len = c->q_len;
    l.seqs.k_len = c->k_len;
    l.seqs.q_offset = c->q_offset;
    l.q = view(moved[0], c->nq, H, D);
    l.k = view(moved[1], c->nk, G, D);
    l.v = view(moved[2], c->nk, G, E);
    l.out = view(out, c->nq, H, E);
    l.lse = atv_tensor_view(lse, ATV_REAL, 1, H, 0, 0);
    l.lse.dims[0] = c->nq;
    dout = view(c->dout, c->nq, H, E);
    dq = view(grads[0], c->nq, H, D);
    dk = view(grads[1], c->nk, G, D);
    dv = view(grads[2], c->nk, G, E);
    MUST(ctx, atv_attn_create(ctx, &c->desc, &l.attn));
    MUST(ctx, atv_attn_forward(l.attn, &l.seqs, &l.q, &l.k, &l.v, &l.out, &l.lse));
    MUST(ctx, atv_attn_backward(l.attn, &l.seqs, &l.q, &l.k, &l.v, &l.out, &l.lse, &dout, &dq, &dk, &dv));
    for (part = 0; part < 3; part++) {
        double top = 1e-3, worst = 0;
        for (i = 0; i < n[part]; i++) {
            if (fabs(grads[part][i]) > top) top = fabs(grads[part][i]);
            if (!(fabs(grads[part][i] - plain[part][i]) <= worst)) worst = fabs(grads[part][i] - plain[part][i]);
        }
        CHECK(worst <= 1e-12 * top * 100, "attention %d: %s differs from the plain loops' by %g of %g", number, names[part],
              worst, top);
        l.u = doubles(n[part]);
        l.x = inputs[part];
        l.moved = moved[part];
        l.n = n[part];
        for (j = 0; n[part] && j < 12; j++) {               /* six single numbers and six directions */
            double given = 0, found, size = 0;
            for (i = 0; i < n[part]; i++) l.u[i] = j < 6 ? 0 : atv_rng_normal(rng);
            if (j < 6) l.u[atv_rng_below(rng, (uint32_t)n[part])] = 1;
            for (i = 0; i < n[part]; i++) { given += grads[part][i] * l.u[i]; size += l.u[i] * l.u[i]; }
            found = slope(attn_value, &l, 1e-3);
            CHECK(fabs(given - found) <= 1e-7 * (fabs(given) + top * sqrt(size)),
                  "attention %d (H %d G %d D %d Dv %d window %d%s): %s is %.12g, not %.12g", number,
                  H, G, D, E, c->desc.window, c->desc.non_causal ? " non-causal" : "", names[part], given, found);
        }
        attn_value(&l, 0);
        free(l.u);
    }
    for (part = 0; part < 3; part++) { free(grads[part]); free(moved[part]); }
    free(out);
    free(lse);
    atv_attn_destroy(l.attn);
}

static void test_attention(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 2);
    atv_rng rng = { 1234 };
    int i;
    for (i = 0; i < 60; i++) {
        test_attn c;
        test_attn_random(&c, &rng, i < 40 ? 7 : 24);
        check_attention(ctx, &c, &rng, i);
        test_attn_free(&c);
    }
    atv_ctx_destroy(ctx);
}

/* ---- operations: each has up to three inputs; its backward adds to their gradients ---- */

typedef struct op {
    const char *name;
    int size[3], out_size;                                  /* 0: no such input */
    int unit;                                               /* 1: its backward is that of the sum of its outputs */
    void (*forward)(atv_ctx *ctx, double **x, double *out);
    void (*backward)(atv_ctx *ctx, double **x, const double *dout, double **dx);
} op;

enum { OP_N = 5, OP_C = 19, OP_F = 23, OP_V = 7, OP_T = 4 };
static const int32_t op_ids[OP_N] = { 3, 0, 3, 6, 5 }, op_pos[OP_N] = { 0, 1, 2, 3, 0 };
static double op_mean[OP_N], op_rstd[OP_N], op_packed[32 * OP_C], op_logp[OP_N];

static void linear_forward(atv_ctx *ctx, double **x, double *out) {
    atvi_pack(ctx, OP_F, OP_C, x[1], op_packed);
    atvi_linear(ctx, OP_N, OP_F, OP_C, x[0], op_packed, x[2], out, 0, NULL);
}
static void linear_backward(atv_ctx *ctx, double **x, const double *dout, double **dx) {
    double *scratch = (double *)malloc(atvi_product_scratch(ctx) * sizeof *scratch);
    atvi_linear_back(ctx, OP_N, OP_F, OP_C, dout, x[0], x[1], dx[0], 1, dx[1], dx[2], scratch);
    free(scratch);
}
static void norm_forward(atv_ctx *ctx, double **x, double *out) {
    atvi_norm(ctx, OP_N, OP_C, x[0], x[1], x[2], 1e-5, out, op_mean, op_rstd);
}
static void norm_backward(atv_ctx *ctx, double **x, const double *dout, double **dx) {
    atvi_norm_back(ctx, OP_N, OP_C, x[0], x[1], op_mean, op_rstd, dout, dx[0], dx[1], dx[2]);
}
static void gelu_forward(atv_ctx *ctx, double **x, double *out) { atvi_gelu(ctx, OP_N * OP_F, x[0], out); }
static void gelu_backward(atv_ctx *ctx, double **x, const double *dout, double **dx) {
    double d[OP_N * OP_F];
    memcpy(d, dout, sizeof d);
    atvi_gelu_back(ctx, OP_N * OP_F, x[0], d);
    ctx->kernels->add(OP_N * OP_F, dx[0], d);
}
static void embed_forward(atv_ctx *ctx, double **x, double *out) {
    atvi_embed(ctx, OP_N, OP_C, op_ids, op_pos, x[0], x[1], out);
}
static void embed_backward(atv_ctx *ctx, double **x, const double *dout, double **dx) {
    (void)x;
    atvi_embed_back(ctx, OP_N, OP_C, op_ids, op_pos, dout, dx[0], dx[1]);
}
static void loss_rows(atv_ctx *ctx, double *logits, int gradient) {
    atvi_loss_job job;
    job.V = OP_V;
    job.targets = op_ids;
    job.logits = logits;
    job.logp = op_logp;
    job.gradient = gradient;
    job.k = ctx->kernels;
    atvi_parallel(ctx, OP_N, atvi_loss_item, &job);
}
static void loss_forward(atv_ctx *ctx, double **x, double *out) {
    int i;
    loss_rows(ctx, x[0], 0);
    for (i = 0; i < OP_N; i++) out[i] = -op_logp[i];
}
static void loss_backward(atv_ctx *ctx, double **x, const double *dout, double **dx) {
    double logits[OP_N * OP_V];
    (void)dout;
    memcpy(logits, x[0], sizeof logits);
    loss_rows(ctx, logits, 1);
    ctx->kernels->add(OP_N * OP_V, dx[0], logits);
}

static const op ops[] = {
    { "linear", { OP_N * OP_C, OP_F * OP_C, OP_F }, OP_N * OP_F, 0, linear_forward, linear_backward },
    { "norm", { OP_N * OP_C, OP_C, OP_C }, OP_N * OP_C, 0, norm_forward, norm_backward },
    { "gelu", { OP_N * OP_F, 0, 0 }, OP_N * OP_F, 0, gelu_forward, gelu_backward },
    { "embed", { OP_V * OP_C, OP_T * OP_C, 0 }, OP_N * OP_C, 0, embed_forward, embed_backward },
    { "loss", { OP_N * OP_V, 0, 0 }, OP_N, 1, loss_forward, loss_backward },
};

typedef struct op_line { atv_ctx *ctx; const op *o; double **x, *out; const double *dout; double *element, at; } op_line;

static double op_value(void *arg, double h) {
    op_line *l = (op_line *)arg;
    double sum = 0;
    int i;
    *l->element = l->at + h;
    l->o->forward(l->ctx, l->x, l->out);
    *l->element = l->at;
    for (i = 0; i < l->o->out_size; i++) sum += l->out[i] * l->dout[i];
    return sum;
}

static void test_operations(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 2);
    atv_rng rng = { 99 };
    size_t n;
    int part, i;
    for (n = 0; n < sizeof ops / sizeof *ops; n++) {
        const op *o = &ops[n];
        double *x[3], *dx[3], *out = doubles(o->out_size), *dout = doubles(o->out_size);
        op_line l;
        for (i = 0; i < o->out_size; i++) dout[i] = o->unit ? 1 : atv_rng_normal(&rng);
        for (part = 0; part < 3; part++) {
            x[part] = doubles(o->size[part]);
            dx[part] = doubles(o->size[part]);
            for (i = 0; i < o->size[part]; i++) {
                x[part][i] = 2 * atv_rng_normal(&rng);
                dx[part][i] = 1;                            /* a backward adds */
            }
        }
        o->forward(ctx, x, out);
        o->backward(ctx, x, dout, dx);
        l.ctx = ctx;
        l.o = o;
        l.x = x;
        l.out = out;
        l.dout = dout;
        for (part = 0; part < 3; part++)
            for (i = 0; i < o->size[part]; i++) {
                double numeric, analytic = dx[part][i] - 1;
                l.element = &x[part][i];
                l.at = *l.element;
                numeric = slope(op_value, &l, 1e-3);
                CHECK(fabs(numeric - analytic) < 1e-8 * (1 + fabs(numeric)),
                      "%s: input %d, element %d: %.12g, numerically %.12g", o->name, part, i, analytic, numeric);
            }
        for (part = 0; part < 3; part++) { free(x[part]); free(dx[part]); }
        free(out);
        free(dout);
    }
    atv_ctx_destroy(ctx);
}

/* ---- models ---- */

typedef struct model_line {
    atv_model *model; atv_work *work; const atv_batch *batch; double *p, *x, *u; int64_t n;
} model_line;

static double model_value(void *arg, double h) {
    model_line *l = (model_line *)arg;
    atv_loss loss;
    int64_t i;
    for (i = 0; i < l->n; i++) l->p[i] = l->x[i] + h * l->u[i];
    atv_model_changed(l->model);
    MUST(atv_model_ctx(l->model), atv_forward_loss(l->work, l->batch, NULL, &loss));
    return loss.sum;
}

static void check_head(const atv_config *config, const char *name) {
    static const int lengths[4] = { 9, 1, 13, 4 };
    static const int32_t labels[4] = { 2, -100, 0, 2 };
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 2);
    atv_model *model = test_model(ctx, config, 7, 0.4);
    atv_work *work = test_work(model, 27, 1);
    atv_rng rng = { 5 };
    int32_t ids[27], targets[27];
    atv_batch batch = test_batch(ids, lengths, 4);
    atv_loss loss;
    model_line l;
    int i, j, ragged;
    test_ids(&rng, ids, 27, config->vocab_size);
    if (config->num_labels) batch.labels = labels;
    for (ragged = 0; ragged < (config->num_labels ? 1 : 2); ragged++) {
        /* targets of one's own: some none, some where there is no next token */
        if (ragged) {
            for (i = 0; i < 27; i++)
                targets[i] = i % 3 == 0 ? -100 : (int32_t)atv_rng_below(&rng, (uint32_t)config->vocab_size);
            batch.targets = targets;
        }
        atv_work_zero_grad(work);
        MUST(ctx, atv_backward(work, &batch, &loss));
        CHECK(loss.tokens == (config->num_labels ? 3 : ragged ? 18 : 23), "%s: %ld targets", name, (long)loss.tokens);
        l.model = model;
        l.work = work;
        l.batch = &batch;
        for (i = 0; i < atv_model_num_tensors(model); i++) {
            atv_named_tensor t = atv_model_tensor(model, i);
            const double *grad = test_data(atv_work_grad(work, i), &l.n);
            double size = 0, top = 0;
            int64_t k;
            l.p = test_data(t.tensor, &l.n);
            l.x = doubles((int)l.n);
            l.u = doubles((int)l.n);
            memcpy(l.x, l.p, sizeof(double) * (size_t)l.n);
            for (k = 0; k < l.n; k++) { size += grad[k] * grad[k]; if (fabs(grad[k]) > top) top = fabs(grad[k]); }
            size = sqrt(size);
            for (j = 0; j < (ragged ? 2 : 8); j++) {        /* all of the tensor in a random direction, and single numbers */
                double given = 0, found;
                for (k = 0; k < l.n; k++) l.u[k] = j < 2 ? atv_rng_normal(&rng) : 0;
                if (j >= 2) l.u[atv_rng_below(&rng, (uint32_t)l.n)] = 1;
                for (k = 0; k < l.n; k++) given += grad[k] * l.u[k];
                found = slope(model_value, &l, 2e-4);
                CHECK(fabs(given - found) <= 1e-6 * fabs(given) + 1e-7 * (j < 2 ? size : top) + 1e-8,
                      "%s: %s: the gradient is %.12g, not %.12g", name, t.name, given, found);
            }
            model_value(&l, 0);
            free(l.x);
            free(l.u);
        }
    }
    atv_work_destroy(work);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

/* As a language model, and as a classifier. */
static void check_whole(const atv_config *config, const char *name) {
    atv_config classifier = *config;
    check_head(config, name);
    classifier.num_labels = 3;
    check_head(&classifier, test_path("%s, classifier", name));
}

static void test_models(void) {
    static const struct { atv_variant variant; double group, kqv; } presets[] = {
        { ATV_MHA, 1, 1 }, { ATV_MQA, 0, 1 }, { ATV_GQA, 0.6, 1 }, { ATV_KQV, 1, 0.5 }, { ATV_COMBINED, 0.4, 0.5 } };
    static const int map[5] = { 2, 0, 0, 2, 3 }, windows[3] = { 4, 0, 3 }, sharing[3] = { 0, 0, 2 }, across[3] = { 0, 1, 0 },
        late[4] = { 0, 1, 0, 1 };
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c, base;
    atv_layer layers[3];
    int i;
    memset(&base, 0, sizeof base);
    base.vocab_size = 23;
    base.max_position_embeddings = 16;
    base.hidden_size = 10;
    base.num_layers = 2;
    base.num_heads = 5;
    base.window_size = 4;
    for (i = 0; i < 5; i++) {
        c = base;
        MUST(ctx, atv_config_preset(ctx, presets[i].variant, presets[i].group, presets[i].kqv, 11, &c));
        check_whole(&c, atv_variant_name(presets[i].variant));
    }
    c = base;
    c.num_layers = 3;
    c.windows = windows;
    c.intermediate_size = 9;
    check_whole(&c, "3 layers, local and global");
    c.num_key_value_heads = 4;                              /* 1 is read by none */
    c.kv_of_head = map;
    c.kqv_size = 15;
    check_whole(&c, "kv_of_head with an unread head");
    c.kv_of_layer = sharing;
    check_whole(&c, "kv_of_layer");
    c.kv_of_layer = across;
    check_whole(&c, "kv_of_layer, across an owner that reads its own");
    c.num_layers = 4;
    c.windows = NULL;
    c.kv_of_layer = late;
    check_whole(&c, "kv_of_layer, readers apart");
    c = base;
    c.num_layers = 3;
    memset(layers, 0, sizeof layers);
    for (i = 0; i < 3; i++) {
        layers[i].num_heads = 2 + i;
        layers[i].num_key_value_heads = i ? 2 : 1;
        layers[i].head_dim = i ? 3 : 4;
        layers[i].value_dim = i ? 5 : 0;
        layers[i].intermediate_size = 6 + 5 * i;
        layers[i].window_size = i == 1 ? 0 : 5 - i;
    }
    layers[2].has_kv_layer = 1;
    layers[2].kv_layer = 1;                                 /* with its own window, F and number of query heads */
    c.layers = layers;
    check_whole(&c, "layers that differ");
    atv_ctx_destroy(ctx);
}

/* ---- golden values, which were computed in double and rounded to fp32 ---- */

static void check_golden(const char *name, int rows, int length) {
    char dir[1024];
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_model *model = NULL;
    atv_work *work;
    atv_safetensors *file = NULL;
    atv_batch batch;
    atv_loss loss;
    int32_t *ids;
    float *logits;
    char *json;
    double *x, top = 0, worst = 0, expected;
    int lengths[8], i, n = rows * length, v;
    int64_t k, count;
    snprintf(dir, sizeof dir, "%s", name);
    ids = (int32_t *)test_read(test_path("%s/input_ids.i32", dir), NULL);
    logits = (float *)test_read(test_path("%s/logits.f32", dir), NULL);
    json = (char *)test_read(test_path("%s/expected.json", dir), NULL);
    if (!CHECK(ids && logits && json, "%s cannot be read", dir)) exit(test_done("grad"));
    MUST(ctx, atv_model_load(ctx, dir, &model));
    v = atv_model_config(model)->vocab_size;
    for (i = 0; i < rows; i++) lengths[i] = length;
    batch = test_batch(ids, lengths, rows);
    work = test_work(model, n, 1);
    x = doubles(n * v);
    MUST(ctx, atv_forward(work, &batch, x));
    for (i = 0; i < n * v; i++) {
        if (fabs(x[i]) > top) top = fabs(x[i]);
        if (!(fabs(x[i] - logits[i]) <= worst)) worst = fabs(x[i] - logits[i]);
    }
    CHECK(worst <= 6.1e-8 * top, "%s: logits differ by %g of %g", dir, worst, top);
    MUST(ctx, atv_backward(work, &batch, &loss));
    expected = test_number(json, "loss");
    CHECK(fabs(loss.sum / (double)loss.tokens - expected) <= 1e-13 * expected * 100,
          "%s: loss %.17g, not %.17g", dir, loss.sum / (double)loss.tokens, expected);
    MUST(ctx, atv_safetensors_open(ctx, test_path("%s/grads.safetensors", dir), &file));
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        const double *g = test_data(atv_work_grad(work, i), &count);
        int at = atv_safetensors_find(file, atv_model_tensor(model, i).name);
        const float *e;
        if (!CHECK(at >= 0, "%s: no gradient of %s", dir, atv_model_tensor(model, i).name)) continue;
        e = (const float *)atv_safetensors_tensor(file, at).tensor.data;
        for (k = 0, worst = top = 0; k < count; k++) {
            double y = g[k] / (double)loss.tokens;
            if (fabs(y) > top) top = fabs(y);
            if (!(fabs(y - e[k]) <= worst)) worst = fabs(y - e[k]);
        }
        CHECK(worst <= 6.1e-8 * top + 1e-12, "%s: the gradient of %s differs by %g of %g", dir,
              atv_model_tensor(model, i).name, worst, top);
    }
    atv_safetensors_close(file);
    free(x);
    free(ids);
    free(logits);
    free(json);
    atv_work_destroy(work);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

int main(void) {
    static const char *const golden[] = { "mha", "gqa", "mqa", "kqv", "combined", "map", "cla" };
    static const char *const fixtures[] = { "mha_h4", "gqa_h8_kv3", "mqa_h8", "kqv50_h4", "combined_g50_k50_h4" };
    int i;
    test_attention();
    test_operations();
    test_models();
    for (i = 0; i < 7; i++) check_golden(test_path("tests/golden/%s", golden[i]), 2, 20);
    for (i = 0; i < 5 && test_shared(); i++)
        check_golden(test_path("%s/fixtures/gptneo/%s", test_shared(), fixtures[i]), 3, 40);
    if (!test_shared()) SKIP("fixtures/gptneo in double: ATTNVAR_SHARED is not set");
    return test_done("grad");
}
