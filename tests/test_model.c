/* The model: golden values and fixtures with every instruction set, the same bits at any number of threads, and what must
   be equal: groups spelled out, sequences apart and together, padded and ragged. */
#define _POSIX_C_SOURCE 200809L
#include "../attnvar.h"
#include "test.h"

static void *must_read(const char *path, size_t size) {
    size_t got = 0;
    void *data = test_read(path, &got);
    if (CHECK(data != NULL, "%s cannot be read", path) && CHECK(size == 0 || got == size, "%s has %lu bytes, not %lu", path,
                                                                 (unsigned long)got, (unsigned long)size)) return data;
    exit(test_done("aborted"));
}

/* The largest difference between tensors of these names, times `scale`, and the file's; all must be there. */
static double against_file(atv_ctx *ctx, const char *path, atv_model *model, const atv_work *work, double scale) {
    atv_safetensors *file = NULL;
    double worst = 0;
    int i, n = atv_model_num_tensors(model);
    MUST(ctx, atv_safetensors_open(ctx, path, &file));
    CHECK(atv_safetensors_count(file) == n, "%s has %d tensors, the model %d", path, atv_safetensors_count(file), n);
    for (i = 0; i < n; i++) {
        atv_named_tensor t = atv_model_tensor(model, i);
        int64_t count, k;
        const atv_real *x = test_data(work ? atv_work_grad(work, i) : t.tensor, &count);
        int at = atv_safetensors_find(file, t.name);
        atv_tensor expected;
        if (!CHECK(at >= 0, "%s lacks %s", path, t.name)) continue;
        expected = atv_safetensors_tensor(file, at).tensor;
        if (!CHECK(expected.rank == t.tensor.rank && expected.dims[0] == t.tensor.dims[0] &&
                   (expected.rank < 2 || expected.dims[1] == t.tensor.dims[1]), "%s: the shape of %s", path, t.name))
                   continue;
        for (k = 0; k < count; k++) {
            double d = fabs(x[k] * scale - ((const float *)expected.data)[k]);
            if (!(d <= worst)) worst = d == d ? d : HUGE_VAL;
        }
    }
    atv_safetensors_close(file);
    return worst;
}

/* All parameters or gradients one after the other. */
static atv_real *flat(atv_model *model, const atv_work *work) {
    atv_real *all = (atv_real *)malloc(sizeof(atv_real) * (size_t)atv_model_num_parameters(model)), *p = all;
    int i;
    if (!all) exit(1);
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        int64_t n;
        const atv_real *x = test_data(work ? atv_work_grad(work, i) : atv_model_tensor(model, i).tensor, &n);
        memcpy(p, x, (size_t)n * sizeof *p);
        p += n;
    }
    CHECK(p - all == atv_model_num_parameters(model),
          "%ld parameters, not %ld", (long)(p - all), (long)atv_model_num_parameters(model));
    return all;
}

static int32_t *greedy_got;
static int greedy_at[8], greedy_new;
static int on_token(void *user, int prompt, int32_t token, float logprob) {
    (void)user;
    (void)logprob;
    if (greedy_at[prompt] < greedy_new) greedy_got[prompt * greedy_new + greedy_at[prompt]] = token;
    greedy_at[prompt]++;
    return 0;
}

/* ---- golden models and fixtures ---- */

static void check_model(const char *name, atv_isa isa, int rows, int length, int prompt, int new_tokens) {
    char dir[1024];
    int n = rows * length, threads, i, lengths[8], named = snprintf(dir, sizeof dir, "%s", name);
    char *json = (char *)must_read(test_path("%s/expected.json", dir), 0);
    const char *difference = test_find(json, "fp32_run_max_abs_difference");
    double fp_logits = test_number(difference, "logits"), fp_loss = test_number(difference, "loss"),
        losses[4] = { NAN, NAN, NAN, NAN };
    double fp_grads = test_number(difference, "grads"), fp_after = test_number(difference, "after_adamw3"),
        loss = test_number(json, "loss");
    int32_t *ids = (int32_t *)must_read(test_path("%s/input_ids.i32", dir), sizeof(int32_t) * (size_t)n);
    int32_t *greedy = (int32_t *)must_read(test_path("%s/greedy.i32", dir), sizeof(int32_t) * (size_t)(rows * new_tokens));
    float *logits = (float *)must_read(test_path("%s/logits.f32", dir), 0);
    atv_real *kept[3] = { NULL, NULL, NULL };
    CHECK(named < (int)sizeof dir, "a long path");
    CHECK(test_numbers(test_find(json, "losses_before_each_step_and_after"), losses, 4) == 4,
          "%s/expected.json: losses", dir);
    for (i = 0; i < rows; i++) lengths[i] = length;
    for (threads = 1; threads <= 3; threads++) {
        atv_ctx *ctx = test_ctx(isa, threads);
        atv_model *model = NULL;
        atv_work *work;
        atv_trainer *trainer = NULL;
        atv_trainer_desc td;
        atv_decoder *decoder = NULL;
        atv_decoder_desc dd;
        atv_generate_desc gd;
        atv_decode_input prompts[8];
        atv_batch batch = test_batch(ids, lengths, rows);
        atv_loss got;
        atv_step step;
        atv_real *x, *now[3];
        float *logprobs;
        double d, worst;
        int v, k;
        const char *where = test_path("%s with %s, %d threads", dir, atv_isa_name(isa), threads);
        MUST(ctx, atv_model_load(ctx, dir, &model));
        v = atv_model_config(model)->vocab_size;
        work = test_work(model, n, 1);
        x = (atv_real *)malloc(sizeof(atv_real) * (size_t)(n * v));
        logprobs = (float *)malloc(sizeof(float) * (size_t)n);
        if (!x || !logprobs) exit(1);

        MUST(ctx, atv_forward(work, &batch, x));
        d = test_difference(x, logits, (size_t)(n * v));
        CHECK(d <= 4 * fp_logits, "%s: logits differ by %g > 4 x %g", where, d, fp_logits);
        MUST(ctx, atv_forward_loss(work, &batch, logprobs, &got));
        CHECK(got.tokens == rows * (length - 1), "%s: %ld targets", where, (long)got.tokens);
        d = fabs(got.sum / (double)got.tokens - loss);
        CHECK(d <= 4 * fp_loss, "%s: the loss differs by %g > 4 x %g", where, d, fp_loss);
        for (i = 0, worst = 0; i < n; i++) {
            double top = x[i * v], sum = 0;
            if (i % length == length - 1) { CHECK(logprobs[i] == 0, "%s: a log probability of nothing", where); continue; }
            for (k = 1; k < v; k++) if (x[i * v + k] > top) top = x[i * v + k];
            for (k = 0; k < v; k++) sum += exp(x[i * v + k] - top);
            d = fabs(x[i * v + ids[i + 1]] - top - log(sum) - logprobs[i]);
            if (!(d <= worst)) worst = d;
        }
        CHECK(worst <= 3e-6, "%s: log probabilities differ from the logits' by %g", where, worst);

        MUST(ctx, atv_backward(work, &batch, &got));
        d = fabs(got.sum / (double)got.tokens - loss);
        CHECK(d <= 4 * fp_loss, "%s: the backward's loss differs by %g > 4 x %g", where, d, fp_loss);
        d = against_file(ctx, test_path("%s/grads.safetensors", dir), model, work, 1 / (double)got.tokens);
        CHECK(d <= 4 * fp_grads, "%s: gradients differ by %g > 4 x %g", where, d, fp_grads);
        now[0] = x;
        now[1] = flat(model, work);
        atv_work_destroy(work);

        memset(&gd, 0, sizeof gd);
        memset(&dd, 0, sizeof dd);
        dd.n_seq = rows;
        gd.max_new_tokens = greedy_new = new_tokens;
        gd.on_token = on_token;
        greedy_got = (int32_t *)calloc((size_t)(rows * new_tokens), sizeof(int32_t));
        memset(greedy_at, 0, sizeof greedy_at);
        for (i = 0; i < rows; i++) {
            prompts[i].seq = 0;
            prompts[i].ids = ids + i * length;
            prompts[i].n_ids = prompt;
        }
        MUST(ctx, atv_decoder_create(model, &dd, &decoder));
        MUST(ctx, atv_generate(decoder, &gd, prompts, rows));
        for (i = 0; i < rows; i++) CHECK(greedy_at[i] == new_tokens, "%s: row %d gave %d tokens", where, i, greedy_at[i]);
        CHECK(memcmp(greedy_got, greedy, sizeof(int32_t) * (size_t)(rows * new_tokens)) == 0,
              "%s: other greedy tokens", where);
        free(greedy_got);
        atv_decoder_destroy(decoder);

        memset(&td, 0, sizeof td);
        td.has_learning_rate = 1;
        td.learning_rate = 1e-3;
        td.weight_decay = 0.01;
        td.decay_all = 1;
        td.batch = rows;
        td.max_length = length;
        MUST(ctx, atv_trainer_create(model, &td, &trainer));
        for (i = 0; i < 3; i++) {
            MUST(ctx, atv_trainer_accumulate(trainer, &batch));
            MUST(ctx, atv_trainer_update(trainer, &step));
            d = fabs(step.loss.sum / (double)step.loss.tokens - losses[i]);
            CHECK(d <= 4 * fp_loss, "%s: the loss before step %d differs by %g > 4 x %g", where, i + 1, d, fp_loss);
        }
        MUST(ctx, atv_forward_loss(atv_trainer_work(trainer), &batch, NULL, &got));
        d = fabs(got.sum / (double)got.tokens - losses[3]);
        CHECK(d <= 4 * fp_loss, "%s: the loss after step 3 differs by %g > 4 x %g", where, d, fp_loss);
        d = against_file(ctx, test_path("%s/after_adamw3.safetensors", dir), model, NULL, 1);
        CHECK(d <= 10 * fp_after, "%s: weights after 3 steps differ by %g > 10 x %g", where, d, fp_after);
        now[2] = flat(model, NULL);
        for (i = 0; i < 3; i++) {
            size_t bytes = sizeof(atv_real) * (i ? (size_t)atv_model_num_parameters(model) : (size_t)(n * v));
            static const char *const names[3] = { "logits", "gradients", "weights after 3 steps" };
            if (threads == 1) { kept[i] = now[i]; continue; }
            CHECK(memcmp(kept[i], now[i], bytes) == 0, "%s: %s have other bits than with 1 thread", where, names[i]);
            free(now[i]);
        }
        atv_trainer_destroy(trainer);
        atv_model_destroy(model);
        atv_ctx_destroy(ctx);
        free(logprobs);
    }
    for (i = 0; i < 3; i++) free(kept[i]);
    free(json);
    free(ids);
    free(greedy);
    free(logits);
}

static void check_ragged(atv_isa isa) {
    static const int lengths[4] = { 20, 1, 7, 13 };
    atv_ctx *ctx = test_ctx(isa, 2);
    char *json = (char *)must_read("tests/golden/ragged/expected.json", 0);
    const char *difference = test_find(json, "fp32_run_max_abs_difference");
    int32_t *ids = (int32_t *)must_read("tests/golden/ragged/input_ids.i32", 41 * sizeof(int32_t));
    float *logits = (float *)must_read("tests/golden/ragged/logits.f32", 0);
    atv_model *model = NULL;
    atv_work *work;
    atv_batch batch = test_batch(ids, lengths, 4);
    atv_loss loss;
    atv_real *x;
    double d;
    MUST(ctx, atv_model_load(ctx, "tests/golden/gqa", &model));
    work = test_work(model, 41, 1);
    x = (atv_real *)malloc(sizeof(atv_real) * 41 * (size_t)atv_model_config(model)->vocab_size);
    if (!x) exit(1);
    MUST(ctx, atv_forward(work, &batch, x));
    d = test_difference(x, logits, 41 * (size_t)atv_model_config(model)->vocab_size);
    CHECK(d <= 4 * test_number(difference, "logits"), "ragged: logits differ by %g", d);
    MUST(ctx, atv_backward(work, &batch, &loss));
    CHECK(loss.tokens == 37, "ragged: %ld targets", (long)loss.tokens);
    d = fabs(loss.sum / (double)loss.tokens - test_number(json, "loss"));
    /* one rounding: its fp32 run was lucky */
    CHECK(d <= 4 * test_number(difference, "loss") + 2.4e-7, "ragged: the loss differs by %g", d);
    d = against_file(ctx, "tests/golden/ragged/grads.safetensors", model, work, 1 / 37.0);
    CHECK(d <= 4 * test_number(difference, "grads"), "ragged: gradients differ by %g", d);
    free(x);
    free(json);
    free(ids);
    free(logits);
    atv_work_destroy(work);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

/* transformers' own classifier: five sequences, of which one has no label. */
static void check_classifier(atv_isa isa) {
    enum { SEQS = 5, N = 45, K = 3 };
    char *json = (char *)must_read("tests/golden/classifier/expected.json", 0);
    const char *difference = test_find(json, "fp32_run_max_abs_difference");
    int *lengths = (int *)must_read("tests/golden/classifier/lengths.i32", SEQS * sizeof(int));
    int32_t *labels = (int32_t *)must_read("tests/golden/classifier/labels.i32", SEQS * sizeof(int32_t));
    int32_t *ids = (int32_t *)must_read("tests/golden/classifier/input_ids.i32", N * sizeof(int32_t));
    float *logits = (float *)must_read("tests/golden/classifier/logits.f32", SEQS * K * sizeof(float));
    double loss = test_number(json, "loss"), fp_loss = test_number(difference, "loss"), d;
    int threads, i, k;
    atv_real *kept = NULL;
    for (threads = 1; threads <= 3; threads++) {
        atv_ctx *ctx = test_ctx(isa, threads);
        atv_model *model = NULL;
        atv_work *work;
        atv_batch batch = test_batch(ids, lengths, SEQS);
        atv_data data;
        atv_loss got;
        atv_real x[SEQS * K], *g;
        float logprobs[SEQS], all[SEQS * K];
        int32_t predicted[SEQS];
        const char *where = test_path("classifier with %s, %d threads", atv_isa_name(isa), threads);
        MUST(ctx, atv_model_load(ctx, "tests/golden/classifier", &model));
        CHECK(atv_model_config(model)->num_labels == K, "%s: %d labels", where, atv_model_config(model)->num_labels);
        work = test_work(model, N, 1);
        batch.labels = labels;
        MUST(ctx, atv_forward(work, &batch, x));
        d = test_difference(x, logits, SEQS * K);
        CHECK(d <= 4 * test_number(difference, "logits"), "%s: logits differ by %g", where, d);
        MUST(ctx, atv_forward_loss(work, &batch, logprobs, &got));
        CHECK(got.tokens == 4, "%s: %ld labels", where, (long)got.tokens);
        d = fabs(got.sum / 4 - loss);
        CHECK(d <= 4 * fp_loss, "%s: the loss differs by %g > 4 x %g", where, d, fp_loss);
        MUST(ctx, atv_backward(work, &batch, &got));
        d = fabs(got.sum / 4 - loss);
        CHECK(d <= 4 * fp_loss && got.tokens == 4, "%s: the backward's loss differs by %g > 4 x %g", where, d, fp_loss);
        d = against_file(ctx, "tests/golden/classifier/grads.safetensors", model, work, 0.25);
        CHECK(d <= 4 * test_number(difference, "grads"), "%s: gradients differ by %g", where, d);
        g = flat(model, work);
        memset(&data, 0, sizeof data);
        data.ids = ids;
        data.lengths = lengths;
        data.n_docs = SEQS;
        MUST(ctx, atv_classify(work, &data, predicted, all));
        for (i = 0; i < SEQS; i++) {
            const float *row = logits + i * K;
            double sum = 0;
            int best = 0;
            for (k = 0; k < K; k++) { sum += exp(row[k]); if (row[k] > row[best]) best = k; }
            CHECK(predicted[i] == best, "%s: sequence %d is %d, not %d", where, i, (int)predicted[i], best);
            for (k = 0; k < K; k++)
                CHECK(fabs(all[i * K + k] - (row[k] - log(sum))) <= 3e-6, "%s: log p of label %d of %d", where, k, i);
            if (labels[i] < 0) CHECK(logprobs[i] == 0, "%s: a log probability of no label", where);
            else CHECK(fabsf(logprobs[i] - all[i * K + labels[i]]) <= 1e-6f, "%s: log p of the label of %d", where, i);
        }
        if (threads == 1) kept = g;
        else {
            CHECK(memcmp(kept, g, sizeof *g * (size_t)atv_model_num_parameters(model)) == 0,
                  "%s: gradients have other bits", where);
            free(g);
        }
        atv_work_destroy(work);
        atv_model_destroy(model);
        atv_ctx_destroy(ctx);
    }
    free(kept);
    free(json);
    free(lengths);
    free(labels);
    free(ids);
    free(logits);
}

/* ---- identities ---- */

static atv_config config_of(int vocab, int positions, int hidden, int n_layers, int heads, int kv_heads, int kqv, int ffn,
                            int window) {
    atv_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = vocab;
    c.max_position_embeddings = positions;
    c.hidden_size = hidden;
    c.num_layers = n_layers;
    c.num_heads = heads;
    c.num_key_value_heads = kv_heads;
    c.kqv_size = kqv;
    c.intermediate_size = ffn;
    c.window_size = window;
    return c;
}

static void copy_rows(atv_model *to, const char *name, atv_model *from, int to_row, int from_row, int rows) {
    int a = -1, b = -1;
    int64_t width;
    MUST(atv_model_ctx(to), atv_model_find(to, name, &a));
    MUST(atv_model_ctx(from), atv_model_find(from, name, &b));
    width = atv_model_tensor(to, a).tensor.dims[1];
    memcpy(test_data(atv_model_tensor(to, a).tensor, NULL) + to_row * width,
           test_data(atv_model_tensor(from, b).tensor, NULL) + from_row * width, sizeof(atv_real) * (size_t)(rows * width));
}

static void copy_equal_shapes(atv_model *to, atv_model *from) {
    int i, at = 0;
    for (i = 0; i < atv_model_num_tensors(to); i++) {
        atv_named_tensor t = atv_model_tensor(to, i), other;
        if (atv_model_find(from, t.name, &at) != ATV_OK) continue;
        other = atv_model_tensor(from, at);
        if (memcmp(t.tensor.dims, other.tensor.dims, sizeof t.tensor.dims) != 0) continue;
        MUST(atv_model_ctx(to), atv_tensor_copy(atv_model_ctx(to), &t.tensor, &other.tensor));
    }
}

static atv_real *logits_of(atv_model *model, const int32_t *ids, const int *lengths, int n_seq) {
    int n = 0, i;
    atv_batch batch = test_batch(ids, lengths, n_seq);
    atv_work *work;
    atv_real *x;
    for (i = 0; i < n_seq; i++) n += lengths[i];
    x = (atv_real *)malloc(sizeof(atv_real) * (size_t)n * (size_t)atv_model_config(model)->vocab_size + 1);
    if (!x) exit(1);
    work = test_work(model, n ? n : 1, 0);
    MUST(atv_model_ctx(model), atv_forward(work, &batch, x));
    atv_work_destroy(work);
    return x;
}

/* Groups spelled out: a model whose key/value heads are copied to each reader is full attention with the same logits. */
static void test_groups(atv_isa isa) {
    static const int map[6] = { 2, 0, 0, 3, 2, 0 };         /* head 1 is read by none */
    static const int lengths[2] = { 23, 6 };
    atv_ctx *ctx = test_ctx(isa, 1);
    atv_rng rng = { 3 };
    int32_t ids[29];
    int variant, layer, h;
    test_ids(&rng, ids, 29, 40);
    for (variant = 0; variant < 3; variant++) {
        atv_config few = config_of(40, 32, 18, 2, 6, variant == 0 ? 4 : variant == 1 ? 1 : 4, 42, 20, 7), full = few;
        atv_model *a, *b;
        atv_real *x, *y;
        if (variant == 0) few.kv_of_head = map;
        full.num_key_value_heads = 0;
        a = test_model(ctx, &few, 4, 0.3);
        b = test_model(ctx, &full, 5, 0.3);
        copy_equal_shapes(b, a);
        for (layer = 0; layer < 2; layer++) for (h = 0; h < 6; h++) {
            int g = atv_kv_of_head(6, few.num_key_value_heads, few.kv_of_head, h);
            copy_rows(b, test_path("transformer.h.%d.attn.attention.k_proj.weight", layer), a, h * 7, g * 7, 7);
            copy_rows(b, test_path("transformer.h.%d.attn.attention.v_proj.weight", layer), a, h * 7, g * 7, 7);
        }
        atv_model_changed(b);
        x = logits_of(a, ids, lengths, 2);
        y = logits_of(b, ids, lengths, 2);
        CHECK(test_difference(x, y, 29 * 40) <= 2e-5, "groups %d: %g", variant, test_difference(x, y, 29 * 40));
        free(x);
        free(y);
        atv_model_destroy(a);
        atv_model_destroy(b);
    }
    {   /* G = H, said in three ways, has the same bits */
        static const int same[4] = { 0, 1, 2, 3 };
        atv_config c = config_of(40, 32, 16, 2, 4, 0, 0, 20, 7);
        atv_real *x[3];
        for (variant = 0; variant < 3; variant++) {
            atv_model *model;
            if (variant == 1) c.num_key_value_heads = 4;
            if (variant == 2) c.kv_of_head = same;
            model = test_model(ctx, &c, 6, 0.3);
            x[variant] = logits_of(model, ids, lengths, 2);
            CHECK(memcmp(x[0], x[variant], sizeof(atv_real) * 29 * 40) == 0, "G = H in way %d has other bits", variant);
            atv_model_destroy(model);
        }
        for (variant = 0; variant < 3; variant++) free(x[variant]);
    }
    {   /* head sizes of their own for queries and values: rows of 0 change nothing */
        atv_layer small[2], large[2];
        atv_config c = config_of(40, 32, 16, 2, 0, 0, 0, 0, 0), d;
        atv_model *a, *b;
        atv_real *x, *y;
        int i, k, at = 0;
        memset(small, 0, sizeof small);
        for (i = 0; i < 2; i++) {
            small[i].num_heads = 3 + i;
            small[i].num_key_value_heads = 2;
            small[i].head_dim = 4;
            small[i].value_dim = 5;
            small[i].intermediate_size = 9 + i;
            small[i].window_size = 6 * i;
            large[i] = small[i];
            large[i].head_dim = 7;
            large[i].value_dim = 6;
        }
        c.layers = small;
        d = c;
        d.layers = large;
        a = test_model(ctx, &c, 7, 0.3);
        b = test_model(ctx, &d, 8, 0.3);
        copy_equal_shapes(b, a);
        for (layer = 0; layer < 2; layer++) {
            static const char *const parts[3] = { "q", "k", "v" };
            for (k = 0; k < 3; k++) {
                int from = k < 2 ? 4 : 5, to = k < 2 ? 7 : 6;
                const char *name = test_path("transformer.h.%d.attn.attention.%s_proj.weight", layer, parts[k]);
                MUST(ctx, atv_model_find(b, name, &at));
                if (k != 1) {                               /* 0 in one of q and k is enough */
                    int64_t n;
                    atv_real *p = test_data(atv_model_tensor(b, at).tensor, &n);
                    memset(p, 0, (size_t)n * sizeof *p);
                }
                for (h = 0; h < (k ? 2 : small[layer].num_heads); h++) copy_rows(b, name, a, h * to, h * from, from);
            }
            {
                const char *name = test_path("transformer.h.%d.attn.attention.out_proj.weight", layer);
                const atv_real *p;
                atv_real *q;
                int from = 0;
                MUST(ctx, atv_model_find(a, name, &from));
                MUST(ctx, atv_model_find(b, name, &at));
                p = test_data(atv_model_tensor(a, from).tensor, NULL);
                q = test_data(atv_model_tensor(b, at).tensor, NULL);
                for (i = 0; i < 16; i++) for (h = 0; h < small[layer].num_heads; h++)
                    memcpy(q + (i * small[layer].num_heads + h) * 6, p + (i * small[layer].num_heads + h) * 5,
                           5 * sizeof *p);
            }
        }
        atv_model_changed(b);
        x = logits_of(a, ids, lengths, 2);
        y = logits_of(b, ids, lengths, 2);
        CHECK(test_difference(x, y, 29 * 40) <= 1e-5, "larger heads: %g", test_difference(x, y, 29 * 40));
        free(x);
        free(y);
        atv_model_destroy(a);
        atv_model_destroy(b);
    }
    atv_ctx_destroy(ctx);
}

/* The last position of a model's logits must not see what the window hides; a window of T hides nothing. */
static void test_windows(atv_isa isa) {
    atv_ctx *ctx = test_ctx(isa, 1);
    atv_rng rng = { 13 };
    atv_config c = config_of(30, 64, 16, 1, 2, 1, 0, 8, 0);
    static const int wide[1] = { 40 }, none[1] = { 0 }, narrow[1] = { 5 };
    int32_t ids[40];
    int length = 40;
    atv_model *model;
    atv_real *x[3];
    test_ids(&rng, ids, 40, 30);
    c.windows = wide;
    model = test_model(ctx, &c, 1, 0.4);
    x[0] = logits_of(model, ids, &length, 1);
    atv_model_destroy(model);
    c.windows = none;
    model = test_model(ctx, &c, 1, 0.4);
    x[1] = logits_of(model, ids, &length, 1);
    CHECK(test_difference(x[0], x[1], 40 * 30) <= 1e-5, "a window of T: %g", test_difference(x[0], x[1], 40 * 30));
    atv_model_destroy(model);
    c.windows = narrow;
    model = test_model(ctx, &c, 1, 0.4);
    x[2] = logits_of(model, ids, &length, 1);
    CHECK(test_difference(x[2], x[1], 5 * 30) <= 1e-5 && test_difference(x[2] + 39 * 30, x[1] + 39 * 30, 30) > 1e-3,
          "a window of 5 starts hiding at 5");
    ids[39 - 5] = (ids[39 - 5] + 1) % 30;
    free(x[1]);
    x[1] = logits_of(model, ids, &length, 1);
    CHECK(memcmp(x[1] + 39 * 30, x[2] + 39 * 30, 30 * sizeof(atv_real)) == 0, "position 39 sees 34 through a window of 5");
    CHECK(memcmp(x[1] + 38 * 30, x[2] + 38 * 30, 30 * sizeof(atv_real)) != 0,
          "position 38 does not see 34 through a window of 5");
    atv_model_destroy(model);
    free(x[0]);
    free(x[1]);
    free(x[2]);
    atv_ctx_destroy(ctx);
}

/* Sequences end to end give what each gives alone, and what a padded batch gives. */
static void test_ragged(atv_isa isa) {
    static const int lengths[5] = { 9, 1, 17, 2, 31 };
    enum { N = 60, V = 40 };
    atv_ctx *ctx = test_ctx(isa, 2);
    atv_config c = config_of(V, 32, 20, 3, 5, 3, 0, 24, 6);
    atv_model *model = test_model(ctx, &c, 11, 0.25);
    atv_work *together = test_work(model, N, 1), *apart = test_work(model, 5 * 32, 1);
    atv_rng rng = { 21 };
    int32_t ids[N], padded[5 * 32], targets[5 * 32];
    int full[5], i, t, at;
    atv_batch batch;
    atv_loss all, one, sum = { 0, 0 };
    static atv_real logits[N * V], alone[32 * V];
    float logprobs[N], logprobs_alone[5 * 32];
    atv_real *g, *h;
    double worst = 0;
    test_ids(&rng, ids, N, V);
    batch = test_batch(ids, lengths, 5);
    MUST(ctx, atv_forward(together, &batch, logits));
    MUST(ctx, atv_forward_loss(together, &batch, logprobs, &all));
    MUST(ctx, atv_backward(together, &batch, &one));
    CHECK(fabs(one.sum - all.sum) <= 1e-6 * fabs(all.sum) && one.tokens == all.tokens && all.tokens == N - 5,
          "%ld targets; loss %.9g and %.9g", (long)all.tokens, all.sum, one.sum);
    for (i = at = 0; i < 5; at += lengths[i++]) {
        batch = test_batch(ids + at, lengths + i, 1);
        MUST(ctx, atv_forward(apart, &batch, alone));
        worst = fmax(worst, test_difference(alone, logits + at * V, (size_t)(lengths[i] * V)));
        MUST(ctx, atv_forward_loss(apart, &batch, logprobs_alone, &one));
        worst = fmax(worst, test_difference(logprobs_alone, logprobs + at, (size_t)lengths[i]));
        MUST(ctx, atv_backward(apart, &batch, &one));
        sum.sum += one.sum;
        sum.tokens += one.tokens;
    }
    CHECK(worst <= 1e-5, "sequences alone differ by %g", worst);
    CHECK(fabs(sum.sum - all.sum) <= 1e-6 * fabs(all.sum) && sum.tokens == all.tokens,
          "losses alone %.9g, together %.9g", sum.sum, all.sum);
    g = flat(model, together);
    h = flat(model, apart);
    for (i = 0, worst = 0; i < atv_model_num_parameters(model); i++) worst = fmax(worst, fabs((double)g[i]));
    CHECK(test_difference(g, h, (size_t)atv_model_num_parameters(model)) <= 1e-5 * worst,
          "gradients alone differ by %g of %g", test_difference(g, h, (size_t)atv_model_num_parameters(model)), worst);
    free(h);
    atv_work_zero_grad(apart);
    for (i = at = 0; i < 5; i++) {
        full[i] = 32;
        for (t = 0; t < 32; t++) {
            padded[i * 32 + t] = t < lengths[i] ? ids[at + t] : (int32_t)atv_rng_below(&rng, V);
            targets[i * 32 + t] = t + 1 < lengths[i] ? ids[at + t + 1] : -100;
        }
        at += lengths[i];
    }
    batch = test_batch(padded, full, 5);
    batch.targets = targets;
    MUST(ctx, atv_forward_loss(apart, &batch, logprobs_alone, &one));
    CHECK(one.tokens == all.tokens && fabs(one.sum - all.sum) <= 1e-6 * fabs(all.sum),
          "padded: loss %.9g of %ld, ragged %.9g", one.sum, (long)one.tokens, all.sum);
    MUST(ctx, atv_backward(apart, &batch, &one));
    CHECK(one.tokens == all.tokens && fabs(one.sum - all.sum) <= 1e-6 * fabs(all.sum),
          "padded: loss %.9g of %ld, ragged %.9g", one.sum, (long)one.tokens, all.sum);
    h = flat(model, apart);
    CHECK(test_difference(g, h, (size_t)atv_model_num_parameters(model)) <= 1e-5 * worst,
          "gradients padded differ by %g of %g", test_difference(g, h, (size_t)atv_model_num_parameters(model)), worst);
    free(g);
    free(h);
    /* gradients add up; nothing and a single token add nothing */
    atv_work_zero_grad(apart);
    batch = test_batch(ids, lengths, 1);
    MUST(ctx, atv_backward(apart, &batch, &one));
    g = flat(model, apart);
    MUST(ctx, atv_backward(apart, &batch, &one));
    h = flat(model, apart);
    for (i = 0, worst = 0; i < atv_model_num_parameters(model); i++) worst = fmax(worst, fabs(2.0 * g[i] - h[i]));
    CHECK(worst <= 1e-5, "twice the batch differs from twice the gradient by %g", worst);
    free(g);
    batch = test_batch(ids, lengths, 0);
    MUST(ctx, atv_backward(apart, &batch, &one));
    CHECK(one.tokens == 0 && one.sum == 0, "nothing has loss %g of %ld", one.sum, (long)one.tokens);
    MUST(ctx, atv_forward(apart, &batch, alone));
    batch = test_batch(ids, lengths + 1, 1);
    MUST(ctx, atv_backward(apart, &batch, &one));
    CHECK(one.tokens == 0 && one.sum == 0, "one token has loss %g of %ld", one.sum, (long)one.tokens);
    g = flat(model, apart);
    CHECK(memcmp(g, h, sizeof *g * (size_t)atv_model_num_parameters(model)) == 0, "nothing added to the gradients");
    free(g);
    free(h);
    atv_work_destroy(together);
    atv_work_destroy(apart);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

/* A classifier's sequences together, one by one, and with a label each or none; more of them than logits at once. */
static void test_classifier(atv_isa isa) {
    enum { SEQS = 1100, K = 5, V = 40, MOST = 3 * SEQS };
    static int32_t ids[MOST], labels[SEQS], some[SEQS], predicted[SEQS], again[SEQS];
    static int lengths[SEQS];
    static atv_real logits[SEQS * K], alone[K];
    static float logprobs[SEQS], every[SEQS * K];
    atv_ctx *ctx = test_ctx(isa, 2);
    atv_config c = config_of(V, 32, 20, 2, 5, 3, 0, 20, 7);
    atv_model *model, *language, *made = NULL, *other = NULL;
    atv_work *together, *apart, *few;
    atv_work_desc wd;
    atv_batch batch;
    atv_data data;
    atv_loss loss, one;
    atv_rng rng = { 61 };
    atv_real *g, *h;
    double sum = 0, worst;
    int64_t i, n_values, at;
    int n = 0, b, k, seen[V] = { 0 }, wte = -1, bad = 0;
    c.num_labels = K;
    model = test_model(ctx, &c, 3, 0.3);
    for (b = 0; b < SEQS; b++) {
        lengths[b] = 1 + (int)atv_rng_below(&rng, 3);
        n += lengths[b];
        labels[b] = (int32_t)atv_rng_below(&rng, K);
        some[b] = b % 3 ? labels[b] : b % 2 ? -100 : -1;
    }
    test_ids(&rng, ids, n, V / 2);                          /* the upper half is never there */
    for (i = 0; i < n; i++) seen[ids[i]] = 1;
    together = test_work(model, n, 1);
    apart = test_work(model, 3, 1);
    batch = test_batch(ids, lengths, SEQS);
    MUST(ctx, atv_forward(together, &batch, logits));
    batch.labels = labels;
    MUST(ctx, atv_backward(together, &batch, &loss));
    MUST(ctx, atv_forward_loss(together, &batch, logprobs, &one));
    CHECK(loss.tokens == SEQS && one.tokens == SEQS && fabs(loss.sum - one.sum) <= 1e-8 * loss.sum,
          "%ld labels, loss %.17g and %.17g", (long)loss.tokens, loss.sum, one.sum);
    for (b = 0; b < SEQS; b++) sum -= (double)logprobs[b];
    CHECK(fabs(sum - loss.sum) <= 1e-5 * sum, "log probabilities sum to %.9g, the loss is %.9g", sum, loss.sum);
    g = flat(model, together);
    n_values = atv_model_num_parameters(model);
    for (b = 0, at = 0, sum = 0, bad = 0; b < SEQS; at += lengths[b++]) {
        batch = test_batch(ids + at, lengths + b, 1);
        MUST(ctx, atv_forward(apart, &batch, alone));
        bad += memcmp(alone, logits + b * K, sizeof alone) != 0;
        batch.labels = labels + b;
        MUST(ctx, atv_backward(apart, &batch, &one));
        sum += one.sum;
    }
    CHECK(!bad, "%d of %d sequences have other logits alone", bad, SEQS);
    CHECK(fabs(sum - loss.sum) <= 1e-6 * sum, "the losses sum to %.9g, together %.9g", sum, loss.sum);
    h = flat(model, apart);
    for (i = 0, worst = 0; i < n_values; i++) worst = fmax(worst, fabs((double)g[i]));
    CHECK(test_difference(g, h, (size_t)n_values) <= 2e-5 * worst, "gradients apart and together differ by %g of %g",
          test_difference(g, h, (size_t)n_values), worst);
    free(h);
    MUST(ctx, atv_model_find(model, "transformer.wte.weight", &wte));
    for (i = 0; i < V; i++)
        for (k = 0; k < 20; k++) {
            atv_real x = test_data(atv_work_grad(together, wte), NULL)[i * 20 + k];
            if ((x != 0) != seen[i]) bad++;
        }
    CHECK(!bad, "%d embeddings of tokens that are not there have gradients, or the others none", bad);

    /* some labels, none, no sequence */
    atv_work_zero_grad(together);
    atv_work_zero_grad(apart);
    batch = test_batch(ids, lengths, SEQS);
    batch.labels = some;
    MUST(ctx, atv_backward(together, &batch, &loss));
    for (b = 0, at = 0, sum = 0, k = 0; b < SEQS; at += lengths[b++]) {
        if (some[b] < 0) continue;
        batch = test_batch(ids + at, lengths + b, 1);
        batch.labels = labels + b;
        MUST(ctx, atv_backward(apart, &batch, &one));
        sum += one.sum;
        k++;
    }
    CHECK(loss.tokens == k && fabs(sum - loss.sum) <= 1e-6 * sum,
          "%ld of %d labels, %.9g of %.9g", (long)loss.tokens, k, loss.sum, sum);
    free(g);
    g = flat(model, together);
    h = flat(model, apart);
    CHECK(test_difference(g, h, (size_t)n_values) <= 2e-5 * worst,
          "gradients of some labels differ by %g", test_difference(g, h, (size_t)n_values));
    free(h);
    for (b = 0; b < 3; b++) {
        batch = test_batch(ids, lengths, b < 2 ? SEQS : 0);
        for (k = 0; k < SEQS; k++) some[k] = -100;
        if (b) batch.labels = some;
        MUST(ctx, atv_forward(together, &batch, logits));
        MUST(ctx, atv_backward(together, &batch, &one));
        CHECK(one.tokens == 0 && one.sum == 0, "no labels have loss %g of %ld", one.sum, (long)one.tokens);
    }
    h = flat(model, together);
    CHECK(memcmp(g, h, sizeof *g * (size_t)n_values) == 0, "no labels changed the gradients");
    free(g);
    free(h);

    /* labels of documents, whatever the batches; ties; a document cut at the context */
    memset(&data, 0, sizeof data);
    data.ids = ids;
    data.lengths = lengths;
    data.n_docs = SEQS;
    memset(&wd, 0, sizeof wd);
    wd.max_tokens = 50;
    wd.max_seqs = 7;
    MUST(ctx, atv_work_create(model, &wd, &few));
    MUST(ctx, atv_classify(together, &data, predicted, NULL));
    MUST(ctx, atv_classify(few, &data, again, every));
    for (b = 0, bad = 0; b < SEQS; b++) {
        int best = 0;
        for (k = 1; k < K; k++) if (logits[b * K + k] > logits[b * K + best]) best = k;
        bad += predicted[b] != best || again[b] != best;
        for (k = 0, sum = 0; k < K; k++) sum += exp((double)every[b * K + k]);
        bad += fabs(sum - 1) > 1e-6 || fabs((double)every[b * K + labels[b]] - (double)logprobs[b]) > 1e-6;
    }
    CHECK(!bad, "%d labels are not those of the largest logits, or their probabilities wrong", bad);
    data.labels = labels;
    MUST(ctx, atv_evaluate(few, &data, &one));
    batch = test_batch(ids, lengths, SEQS);
    batch.labels = labels;
    MUST(ctx, atv_forward_loss(together, &batch, NULL, &loss));
    CHECK(one.tokens == SEQS && fabs(one.sum - loss.sum) <= 1e-9 * loss.sum,
          "evaluated to %.12g, not %.12g", one.sum, loss.sum);
    lengths[0] = 40;
    data.n_docs = 1;
    MUST(ctx, atv_classify(few, &data, predicted, every));
    lengths[0] = 32;
    MUST(ctx, atv_classify(few, &data, again, logprobs));
    CHECK(memcmp(every, logprobs, K * sizeof(float)) == 0 && predicted[0] == again[0],
          "a document is not cut at its right end");
    memset(test_data(atv_model_tensor(model, atv_model_num_tensors(model) - 1).tensor, NULL), 0, sizeof(atv_real) * K * 20);
    atv_model_changed(model);
    MUST(ctx, atv_classify(few, &data, predicted, every));
    CHECK(predicted[0] == 0 && fabs((double)every[3] + log(5.0)) <= 1e-6,
          "equal logits: label %d, log p %g", (int)predicted[0], (double)every[3]);
    atv_work_destroy(few);

    /* a head for a language model, and for a classifier */
    c.num_labels = 0;
    language = test_model(ctx, &c, 8, 0.3);
    MUST(ctx, atv_model_classifier(language, 3, 17, &made));
    MUST(ctx, atv_model_classifier(made, 4, 18, &other));
    for (b = 0; b < 2; b++) {
        atv_model *from = b ? made : language, *to = b ? other : made, *fresh = NULL;
        c.num_labels = 3 + b;
        MUST(ctx, atv_model_create(ctx, &c, &fresh));
        atv_model_init(fresh, (uint64_t)(17 + b));
        k = atv_model_num_tensors(language);
        CHECK(atv_model_num_tensors(to) == k + 1 && atv_model_config(to)->num_labels == 3 + b,
              "%d labels", atv_model_config(to)->num_labels);
        g = flat(from, NULL);
        h = flat(to, NULL);
        CHECK(memcmp(g, h, sizeof *g * (size_t)atv_model_num_parameters(language)) == 0, "other weights than the model's");
        CHECK(strcmp(atv_model_tensor(to, k).name, "score.weight") == 0 &&
              memcmp(test_data(atv_model_tensor(to, k).tensor, NULL), test_data(atv_model_tensor(fresh, k).tensor, NULL),
                     sizeof(atv_real) * (size_t)(60 + 20 * b)) == 0,
              "another head than the seed's");
        free(g);
        free(h);
        atv_model_destroy(fresh);
    }
    atv_model_destroy(language);
    atv_model_destroy(made);
    atv_model_destroy(other);
    atv_work_destroy(together);
    atv_work_destroy(apart);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

/* What a classifier, or its absence, refuses. */
static void test_classifier_refusals(void) {
    static const int bad_counts[] = { -1, 0, 1, (1 << 20) + 1 };
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = config_of(30, 8, 16, 1, 2, 1, 0, 8, 0);
    atv_model *language = test_model(ctx, &c, 4, 0.2), *model, *none = NULL;
    atv_work *work, *plain = test_work(language, 12, 1);
    atv_decoder *decoder = NULL;
    atv_loss loss = { -7, -7 };
    atv_data data;
    size_t said = 77, bytes[2];
    int32_t ids[12] = { 1, 2, 3, 29, 5, 6, 7, 8, 9, 10, 11, 12 }, labels[3] = { 2, -100, 0 }, targets[12] = { 0 },
        predicted[3] = { -7 };
    int lengths[3] = { 8, 1, 3 }, i;
    atv_real logits[9];
    atv_batch batch = test_batch(ids, lengths, 3);
    for (i = 0; i < 4; i++)
        CHECK(atv_model_classifier(language, bad_counts[i], 1, &none) == ATV_ERR_ARGUMENT && !none &&
              strstr(atv_last_error(ctx), test_path("num_labels=%d", bad_counts[i])),
              "%d labels: %s", bad_counts[i], atv_last_error(ctx));
    c.num_labels = 1;
    FAILS(ctx, atv_model_create(ctx, &c, &none), ATV_ERR_ARGUMENT, "num_labels=1 would be regression");
    c.num_labels = -3;
    FAILS(ctx, atv_model_create(ctx, &c, &none), ATV_ERR_ARGUMENT, "num_labels=-3");
    c.num_labels = 3;
    model = test_model(ctx, &c, 4, 0.2);
    work = test_work(model, 12, 1);
    /* of two vocabularies: nothing in a work but gradients grows with V */
    for (i = 0; i < 2; i++) {
        c.vocab_size = i ? 3000 : 30;
        MUST(ctx, atv_model_create(ctx, &c, &none));
        MUST(ctx, atv_work_bytes(none, NULL, &bytes[i]));
        atv_model_destroy(none);
        none = NULL;
    }
    c.vocab_size = 30;
    CHECK(bytes[0] == bytes[1], "a classifier's work takes %lu bytes with V=30, %lu with V=3000", (unsigned long)bytes[0],
          (unsigned long)bytes[1]);
    FAILS(ctx, atv_decoder_create(model, NULL, &decoder), ATV_ERR_ARGUMENT, "num_labels=3");
    FAILS(ctx, atv_decoder_bytes(model, NULL, &said), ATV_ERR_ARGUMENT, "num_labels=3");
    CHECK(!decoder && said == 77, "a failure wrote its output");
    FAILS(ctx, atv_eval_pairs(work, NULL, "", 0, NULL, NULL), ATV_ERR_ARGUMENT, "num_labels=3");
    batch.targets = targets;
    FAILS(ctx, atv_forward_loss(work, &batch, NULL, &loss), ATV_ERR_ARGUMENT, "targets are given, but num_labels=3");
    batch.targets = NULL;
    batch.labels = labels;
    FAILS(ctx, atv_forward_loss(plain, &batch, NULL, &loss), ATV_ERR_ARGUMENT, "labels are given, but num_labels=0");
    MUST(ctx, atv_forward(work, &batch, logits));
    labels[1] = 3;
    FAILS(ctx, atv_backward(work, &batch, &loss), ATV_ERR_ARGUMENT, "labels[1]=3");
    labels[1] = -1;
    lengths[1] = 0;
    FAILS(ctx, atv_forward(work, &batch, logits), ATV_ERR_ARGUMENT, "lengths[1]=0 is not 1..max_position_embeddings=8");
    memset(&data, 0, sizeof data);
    data.ids = ids;
    data.lengths = lengths;
    data.n_docs = 3;
    FAILS(ctx, atv_evaluate(work, &data, &loss), ATV_ERR_ARGUMENT, "lengths[1]=0");
    FAILS(ctx, atv_classify(work, &data, predicted, NULL), ATV_ERR_ARGUMENT, "lengths[1]=0");
    lengths[1] = 1;
    FAILS(ctx, atv_classify(plain, &data, predicted, NULL), ATV_ERR_ARGUMENT, "num_labels=0");
    CHECK(predicted[0] == -7 && loss.sum == -7 && loss.tokens == -7, "a failure wrote its output");
    data.labels = labels;
    labels[2] = 9;
    FAILS(ctx, atv_evaluate(work, &data, &loss), ATV_ERR_ARGUMENT, "labels[2]=9");
    FAILS(ctx, atv_evaluate(plain, &data, &loss), ATV_ERR_ARGUMENT, "num_labels=0");
    MUST(ctx, atv_classify(work, &data, predicted, NULL));      /* which reads no labels */
    atv_work_destroy(work);
    atv_work_destroy(plain);
    atv_model_destroy(model);
    atv_model_destroy(language);
    atv_ctx_destroy(ctx);
}

/* ---- threads and instruction sets ---- */

static void backwards(void *user, int n, void (*task)(void *arg, int i), void *arg) {
    (void)user;
    while (n-- > 0) task(arg, n);
}

/* Decodes prompts of 1 to 39 tokens together, then three tokens more of each: logits [PROMPTS,V]. */
enum { PROMPTS = 20 };
static void decode_ragged(atv_model *model, const int32_t *ids, atv_real *logits) {
    atv_decode_input inputs[PROMPTS];
    atv_decoder_desc desc;
    atv_decoder *decoder;
    int i, step;
    memset(&desc, 0, sizeof desc);
    desc.n_seq = PROMPTS;
    MUST(atv_model_ctx(model), atv_decoder_create(model, &desc, &decoder));
    for (i = 0; i < PROMPTS; i++) {
        MUST(atv_model_ctx(model), atv_decoder_add(decoder, &inputs[i].seq));
        inputs[i].ids = ids + 7 * i;
        inputs[i].n_ids = 1 + 2 * i;
    }
    for (step = 0; step < 4; step++) {
        MUST(atv_model_ctx(model), atv_decode(decoder, inputs, PROMPTS, logits));
        for (i = 0; i < PROMPTS; i++) {
            inputs[i].ids += inputs[i].n_ids;
            inputs[i].n_ids = 1;
        }
    }
    atv_decoder_destroy(decoder);
}

/* A model and a batch large enough that products are cut by rows, columns and sums: all that is computed, for 1, 2, 3, 5
   threads and the caller's own loop. */
static void test_bits(atv_isa isa) {
    static const int lengths[4] = { 250, 37, 1, 150 }, threads[5] = { 1, 2, 3, 5, 4 };
    enum { N = 438, V = 613, PARTS = 4 };
    static const char *const names[PARTS] = { "logits", "gradients", "weights after two steps", "decoded logits" };
    static int32_t ids[N];
    atv_real *first[PARTS], *now[PARTS];
    atv_rng rng = { 31 };
    double loss = 0;
    int i, k;
    test_ids(&rng, ids, N, V);
    for (i = 0; i < 5; i++) {
        atv_ctx_desc desc;
        atv_trainer_desc training;
        atv_ctx *ctx = NULL;
        atv_config c = config_of(V, 256, 96, 2, 8, 3, 72, 200, 50);
        atv_model *model;
        atv_work *work;
        atv_trainer *trainer;
        atv_step step;
        atv_batch batch = test_batch(ids, lengths, 4);
        atv_loss got;
        size_t sizes[PARTS] = { (size_t)N * V, 0, 0, (size_t)PROMPTS * V };
        memset(&desc, 0, sizeof desc);
        desc.isa = isa;
        desc.n_threads = threads[i];
        if (i == 4) desc.parallel.parallel_for = backwards;
        MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
        model = test_model(ctx, &c, 2, 0.1);
        work = test_work(model, N, 1);
        sizes[1] = sizes[2] = (size_t)atv_model_num_parameters(model);
        now[0] = (atv_real *)malloc(sizeof(atv_real) * sizes[0]);
        now[3] = (atv_real *)malloc(sizeof(atv_real) * sizes[3]);
        if (!now[0] || !now[3]) exit(1);
        MUST(ctx, atv_forward(work, &batch, now[0]));
        decode_ragged(model, ids, now[3]);
        MUST(ctx, atv_backward(work, &batch, &got));
        MUST(ctx, atv_backward(work, &batch, &got));
        now[1] = flat(model, work);
        atv_work_destroy(work);
        memset(&training, 0, sizeof training);
        training.max_grad_norm = 1;
        training.weight_decay = 0.1;
        training.max_tokens = N;
        MUST(ctx, atv_trainer_create(model, &training, &trainer));
        for (k = 0; k < 2; k++) {
            MUST(ctx, atv_trainer_accumulate(trainer, &batch));
            MUST(ctx, atv_trainer_update(trainer, &step));
        }
        atv_trainer_destroy(trainer);
        now[2] = flat(model, NULL);
        if (i == 0) loss = got.sum;
        CHECK(got.sum == loss, "%s, %d threads: loss %.17g, with one %.17g", atv_isa_name(isa), threads[i], got.sum, loss);
        for (k = 0; k < PARTS; k++) {
            if (i == 0) { first[k] = now[k]; continue; }
            CHECK(memcmp(first[k], now[k], sizeof(atv_real) * sizes[k]) == 0, "%s, %d threads%s: %s have other bits",
                  atv_isa_name(isa), threads[i], i == 4 ? " of the caller's" : "", names[k]);
            free(now[k]);
        }
        atv_model_destroy(model);
        atv_ctx_destroy(ctx);
    }
    for (k = 0; k < PARTS; k++) free(first[k]);
}

/* The same of a classifier, whose head has few columns and few rows. */
static void test_classifier_bits(atv_isa isa) {
    static const int lengths[6] = { 250, 37, 1, 150, 99, 180 }, threads[5] = { 1, 2, 3, 5, 4 };
    enum { N = 717, V = 213, K = 3 };
    static const int32_t labels[6] = { 2, 0, -100, 1, 1, 0 };
    static int32_t ids[N];
    atv_real *first = NULL, logits[2][6 * K];
    float every[2][6 * K];
    atv_rng rng = { 37 };
    int i;
    test_ids(&rng, ids, N, V);
    for (i = 0; i < 5; i++) {
        atv_ctx_desc desc;
        atv_ctx *ctx = NULL;
        atv_config c = config_of(V, 256, 96, 2, 8, 3, 72, 200, 50);
        atv_model *model;
        atv_work *work;
        atv_batch batch = test_batch(ids, lengths, 6);
        atv_data data;
        atv_loss got;
        atv_real *now;
        int32_t predicted[6];
        memset(&desc, 0, sizeof desc);
        memset(&data, 0, sizeof data);
        desc.isa = isa;
        desc.n_threads = threads[i];
        if (i == 4) desc.parallel.parallel_for = backwards;
        MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
        c.num_labels = K;
        model = test_model(ctx, &c, 2, 0.1);
        work = test_work(model, N, 1);
        batch.labels = labels;
        data.ids = ids;
        data.lengths = lengths;
        data.n_docs = 6;
        MUST(ctx, atv_forward(work, &batch, logits[i > 0]));
        MUST(ctx, atv_classify(work, &data, predicted, every[i > 0]));
        MUST(ctx, atv_backward(work, &batch, &got));
        now = flat(model, work);
        if (i == 0) first = now;
        else {
            CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) == 0 && memcmp(every[0], every[1], sizeof every[0]) == 0,
                  "%s, %d threads: a classifier's logits have other bits", atv_isa_name(isa), threads[i]);
            CHECK(memcmp(first, now, sizeof *now * (size_t)atv_model_num_parameters(model)) == 0,
                  "%s, %d threads: a classifier's gradients have other bits", atv_isa_name(isa), threads[i]);
            free(now);
        }
        atv_work_destroy(work);
        atv_model_destroy(model);
        atv_ctx_destroy(ctx);
    }
    free(first);
}

/* Contexts of all instruction sets alive together do not disturb each other, and agree up to rounding. */
static void test_side_by_side(void) {
    atv_ctx *ctx[ATV_ISA_COUNT];
    atv_model *model[ATV_ISA_COUNT];
    atv_real *first[ATV_ISA_COUNT];
    atv_config c = config_of(50, 64, 32, 2, 4, 2, 0, 40, 8);
    atv_rng rng = { 41 };
    int32_t ids[50];
    int length = 50, isa, round, pairs = 0;
    test_ids(&rng, ids, 50, 50);
    for (isa = ATV_ISA_SCALAR; isa < ATV_ISA_COUNT; isa++) {
        ctx[isa] = NULL;
        if (!atv_isa_available((atv_isa)isa)) continue;
        ctx[isa] = test_ctx((atv_isa)isa, 2);
        model[isa] = test_model(ctx[isa], &c, 9, 0.3);
        first[isa] = logits_of(model[isa], ids, &length, 1);
    }
    for (round = 0; round < 2; round++) for (isa = ATV_ISA_COUNT - 1; isa >= ATV_ISA_SCALAR; isa--) {
        atv_real *x;
        if (!ctx[isa]) continue;
        x = logits_of(model[isa], ids, &length, 1);
        CHECK(memcmp(x, first[isa], sizeof(atv_real) * 50 * 50) == 0,
              "%s: other bits beside others", atv_isa_name((atv_isa)isa));
        CHECK(test_difference(x, first[ATV_ISA_SCALAR], 50 * 50) <= 2e-5,
              "%s and scalar differ by %g", atv_isa_name((atv_isa)isa), test_difference(x, first[ATV_ISA_SCALAR], 50 * 50));
        pairs += isa != ATV_ISA_SCALAR;
        free(x);
    }
    for (isa = ATV_ISA_SCALAR; isa < ATV_ISA_COUNT; isa++) if (ctx[isa]) {
        free(first[isa]);
        atv_model_destroy(model[isa]);
        atv_ctx_destroy(ctx[isa]);
    }
    if (!pairs) SKIP("two instruction sets side by side: this machine has only the scalar one");
}

/* ---- parameters, memory, refusals ---- */

static void test_parameters(void) {
    static const char *const names[] = { "transformer.wte.weight", "transformer.wpe.weight",
        "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias", "transformer.h.0.attn.attention.k_proj.weight",
        "transformer.h.0.attn.attention.v_proj.weight", "transformer.h.0.attn.attention.q_proj.weight",
        "transformer.h.0.attn.attention.out_proj.weight", "transformer.h.0.attn.attention.out_proj.bias",
        "transformer.h.0.ln_2.weight", "transformer.h.0.ln_2.bias", "transformer.h.0.mlp.c_fc.weight",
        "transformer.h.0.mlp.c_fc.bias",
        "transformer.h.0.mlp.c_proj.weight", "transformer.h.0.mlp.c_proj.bias", "transformer.ln_f.weight",
        "transformer.ln_f.bias" };
    static const int64_t dims[][2] = { { 50, 24 }, { 16, 24 }, { 24, 0 }, { 24, 0 }, { 6, 24 }, { 6, 24 }, { 12, 24 },
                                       { 24, 12 }, { 24, 0 },
        { 24, 0 }, { 24, 0 }, { 40, 24 }, { 40, 0 }, { 24, 40 }, { 24, 0 }, { 24, 0 }, { 24, 0 } };
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1), *other = test_ctx(ATV_ISA_SCALAR, 3);
    atv_config c = config_of(50, 16, 24, 1, 4, 2, 12, 40, 0);
    atv_model *model = NULL, *twin = NULL;
    int64_t total = 0;
    int i, at, n = (int)(sizeof names / sizeof names[0]), untouched = 77, length = 9;
    atv_real *a, *b;
    int32_t ids[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    MUST(ctx, atv_model_create(ctx, &c, &model));
    CHECK(atv_model_num_tensors(model) == n, "%d tensors, not %d", atv_model_num_tensors(model), n);
    for (i = 0; i < n; i++) {
        atv_named_tensor t;
        int64_t count, k;
        const atv_real *x;
        at = -1;
        if (!CHECK(atv_model_find(model, names[i], &at) == ATV_OK, "no %s", names[i])) continue;
        t = atv_model_tensor(model, at);
        x = test_data(t.tensor, &count);
        CHECK(strcmp(t.name, names[i]) == 0 && t.tensor.rank == (dims[i][1] ? 2 : 1) && t.tensor.dims[0] == dims[i][0] &&
              (!dims[i][1] || t.tensor.dims[1] == dims[i][1]), "%s has the wrong shape", names[i]);
        for (k = 0; k < count && x[k] == 0; k++) {}
        CHECK(k == count, "%s does not start as 0", names[i]);
        total += count;
    }
    CHECK(atv_model_num_parameters(model) == total, "%ld parameters, not %ld", (long)atv_model_num_parameters(model),
          (long)total);
    CHECK(atv_model_find(model, "lm_head.weight", &untouched) != ATV_OK && untouched == 77,
          "a tensor that is not there was found");
    atv_model_init(model, 5);
    MUST(other, atv_model_create(other, &c, &twin));
    atv_model_init(twin, 5);
    a = flat(model, NULL);
    b = flat(twin, NULL);
    CHECK(memcmp(a, b, sizeof *a * (size_t)total) == 0, "equal seeds gave different models");
    free(b);
    atv_model_init(twin, 6);
    b = flat(twin, NULL);
    CHECK(memcmp(a, b, sizeof *a * (size_t)total) != 0, "different seeds gave equal models");
    free(a);
    free(b);
    for (i = 0; i < n; i++) {
        atv_named_tensor t = atv_model_tensor(model, i);
        int64_t count, k;
        const atv_real *x = test_data(t.tensor, &count);
        double sum = 0, square = 0, expected = strstr(t.name, "ln_") && strstr(t.name, "weight") ? 1 : 0;
        for (k = 0; k < count; k++) { sum += x[k]; square += (double)x[k] * x[k]; }
        if (t.tensor.rank == 1) CHECK(sum == expected * (double)count && square == sum,
                                      "%s is not all %g", t.name, expected);
        else CHECK(fabs(sum / (double)count) < 0.006 && fabs(sqrt(square / (double)count) - 0.02) < 0.004,
                   "%s: mean %g, root mean square %g", t.name, sum / (double)count, sqrt(square / (double)count));
    }
    /* writing a parameter counts once it is told */
    a = logits_of(model, ids, &length, 1);
    MUST(ctx, atv_model_find(model, "transformer.h.0.mlp.c_fc.weight", &at));
    test_data(atv_model_tensor(model, at).tensor, NULL)[7] += 3;
    atv_model_changed(model);
    b = logits_of(model, ids, &length, 1);
    CHECK(memcmp(a, b, sizeof *a * 9 * 50) != 0, "a written weight changes nothing");
    free(a);
    free(b);
    CHECK(atv_model_ctx(model) == ctx && atv_model_config(model)->layers != NULL, "the config's layers are not filled");
    atv_model_destroy(model);
    atv_model_destroy(twin);
    atv_model_destroy(NULL);
    atv_work_destroy(NULL);
    atv_ctx_destroy(ctx);
    atv_ctx_destroy(other);
}

static void test_memory(void) {
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    test_alloc alloc;
    atv_rng rng = { 51 };
    int i;
    memset(&desc, 0, sizeof desc);
    memset(&alloc, 0, sizeof alloc);
    desc.allocator.user = &alloc;
    desc.allocator.alloc = test_alloc_get;
    desc.allocator.free = test_alloc_put;
    desc.n_threads = 2;
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    for (i = 0; i < 6; i++) {
        static const int kv[3] = { 0, 0, 2 };
        atv_config c = config_of(30 + i, 40, 24, 3, 4, i % 4 + 1, i % 2 ? 12 : 24, 30, 8);
        atv_model *model = NULL;
        atv_work *work = NULL;
        atv_work_desc wd;
        atv_batch batch;
        atv_loss loss;
        int32_t ids[40];
        int lengths[3] = { 20, 13, 7 };
        atv_real *logits = (atv_real *)malloc(sizeof(atv_real) * 40 * 40);
        size_t before, after, said = 0, zero;
        long count, n, live;
        int32_t labels[3] = { 1, -100, 0 };
        if (i == 3) c.kv_of_layer = kv;
        c.num_labels = i < 3 ? 0 : i - 1;
        atv_memory(ctx, &before, NULL);
        MUST(ctx, atv_model_bytes(ctx, &c, &said));
        count = alloc.count;
        MUST(ctx, atv_model_create(ctx, &c, &model));
        atv_memory(ctx, &after, NULL);
        CHECK(after - before == said, "a model said %lu bytes and took %lu", (unsigned long)said,
              (unsigned long)(after - before));
        atv_model_destroy(model);
        atv_memory(ctx, &after, NULL);
        CHECK(after == before, "a model left %lu bytes", (unsigned long)(after - before));
        for (n = alloc.count - count, live = alloc.live; n > 0; n--) {
            model = NULL;
            alloc.fail_at = alloc.count + n;
            CHECK(atv_model_create(ctx, &c, &model) == ATV_ERR_MEMORY && !model && alloc.live == live,
                  "a model without allocation %ld", n);
        }
        alloc.fail_at = 0;
        model = test_model(ctx, &c, 4, 0.2);
        memset(&wd, 0, sizeof wd);
        wd.backward = i % 2;
        wd.max_tokens = 40 + i;
        wd.max_seqs = i % 3 ? 3 + i : 0;
        atv_memory(ctx, &before, NULL);
        MUST(ctx, atv_work_bytes(model, &wd, &said));
        count = alloc.count;
        MUST(ctx, atv_work_create(model, &wd, &work));
        atv_memory(ctx, &after, NULL);
        CHECK(after - before == said, "a work said %lu bytes and took %lu", (unsigned long)said,
              (unsigned long)(after - before));
        atv_work_destroy(work);
        for (n = alloc.count - count, live = alloc.live; n > 0; n--) {
            work = NULL;
            alloc.fail_at = alloc.count + n;
            CHECK(atv_work_create(model, &wd, &work) == ATV_ERR_MEMORY && !work && alloc.live == live,
                  "a work without allocation %ld", n);
        }
        alloc.fail_at = 0;
        MUST(ctx, atv_work_create(model, &wd, &work));
        test_ids(&rng, ids, 40, 30);
        batch = test_batch(ids, lengths, 3);
        if (c.num_labels) {
            atv_data data;
            atv_model *made = NULL;
            int32_t predicted[3];
            batch.labels = labels;
            memset(&data, 0, sizeof data);
            data.ids = ids;
            data.lengths = lengths;
            data.n_docs = 3;
            count = alloc.count;
            MUST(ctx, atv_classify(work, &data, predicted, NULL));
            CHECK(alloc.count == count, "classifying allocated %ld times", alloc.count - count);
            alloc.fail_at = alloc.count + 1;
            CHECK(atv_model_classifier(model, 2, 1, &made) == ATV_ERR_MEMORY && !made, "a classifier without memory");
            alloc.fail_at = 0;
        }
        count = alloc.count;
        MUST(ctx, atv_forward(work, &batch, logits));
        MUST(ctx, atv_forward_loss(work, &batch, NULL, &loss));
        if (wd.backward) {
            MUST(ctx, atv_backward(work, &batch, &loss));
            atv_work_zero_grad(work);
        }
        atv_model_changed(model);
        MUST(ctx, atv_forward(work, &batch, logits));
        CHECK(alloc.count == count, "passes allocated %ld times", alloc.count - count);
        atv_work_destroy(work);
        atv_model_destroy(model);
        atv_memory(ctx, &zero, NULL);
        free(logits);
    }
    atv_ctx_destroy(ctx);
    CHECK(alloc.live == 0, "%ld blocks left", alloc.live);
}

static void test_refusals(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = config_of(30, 8, 16, 1, 2, 1, 0, 8, 0);
    atv_model *model = test_model(ctx, &c, 4, 0.2);
    atv_work *work = test_work(model, 12, 0), *made = NULL;
    atv_work_desc wd;
    int32_t ids[20] = { 1, 2, 3, 29, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 }, targets[20] = { 0 };
    int lengths[20] = { 8, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    static atv_real logits[20 * 30];
    atv_batch batch = test_batch(ids, lengths, 2);
    atv_loss loss = { -7, -7 };
    MUST(ctx, atv_forward(work, &batch, logits));
    ids[3] = 30;
    FAILS(ctx, atv_forward(work, &batch, logits), ATV_ERR_ARGUMENT, "30");
    ids[3] = -1;
    FAILS(ctx, atv_forward_loss(work, &batch, NULL, &loss), ATV_ERR_ARGUMENT, "-1");
    CHECK(loss.sum == -7 && loss.tokens == -7, "a failure wrote its output");
    ids[3] = 4;
    lengths[0] = 9;
    batch.n_seq = 1;
    FAILS(ctx, atv_forward(work, &batch, logits), ATV_ERR_ARGUMENT, "9");
    lengths[0] = -2;
    FAILS(ctx, atv_forward(work, &batch, logits), ATV_ERR_ARGUMENT, "-2");
    lengths[0] = 8;
    lengths[1] = 5;
    batch.n_seq = 2;
    CHECK(atv_forward(work, &batch, logits) != ATV_OK, "13 tokens in a work of 12");
    batch.n_seq = -1;
    FAILS(ctx, atv_forward(work, &batch, logits), ATV_ERR_ARGUMENT, "-1");
    lengths[1] = 4;
    batch.n_seq = 2;
    batch.targets = targets;
    MUST(ctx, atv_forward_loss(work, &batch, NULL, &loss));
    CHECK(loss.tokens == 12, "%ld targets", (long)loss.tokens);
    targets[5] = 30;
    FAILS(ctx, atv_forward_loss(work, &batch, NULL, &loss), ATV_ERR_ARGUMENT, "30");
    targets[5] = -5;
    FAILS(ctx, atv_forward_loss(work, &batch, NULL, &loss), ATV_ERR_ARGUMENT, "-5");
    targets[5] = -100;
    MUST(ctx, atv_forward_loss(work, &batch, NULL, &loss));
    CHECK(loss.tokens == 11, "%ld targets", (long)loss.tokens);
    CHECK(atv_backward(work, &batch, &loss) == ATV_ERR_ARGUMENT, "a backward in a work without");
    memset(&wd, 0, sizeof wd);
    wd.max_tokens = -1;
    FAILS(ctx, atv_work_create(model, &wd, &made), ATV_ERR_ARGUMENT, "max_tokens=-1");
    wd.max_tokens = 0;
    wd.max_seqs = -3;
    FAILS(ctx, atv_work_create(model, &wd, &made), ATV_ERR_ARGUMENT, "max_seqs=-3");
    wd.max_seqs = 2;
    wd.max_tokens = 20;
    MUST(ctx, atv_work_create(model, &wd, &made));
    batch = test_batch(ids, lengths + 2, 3);
    CHECK(atv_forward(made, &batch, logits) != ATV_OK, "3 sequences in a work of 2");
    atv_work_destroy(made);
    atv_work_destroy(work);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

int main(void) {
    static const char *const golden[] = { "mha", "gqa", "mqa", "kqv", "combined", "map", "cla" };
    static const char *const fixtures[] = { "mha_h4", "gqa_h8_kv3", "mqa_h8", "kqv50_h4", "combined_g50_k50_h4" };
    const char *shared = test_shared();
    int isa, i;
    for (isa = ATV_ISA_SCALAR; isa < ATV_ISA_COUNT; isa++) {
        if (!atv_isa_available((atv_isa)isa)) {
            SKIP("models with %s: this machine has none", atv_isa_name((atv_isa)isa));
            continue;
        }
        for (i = 0; i < 7; i++) check_model(test_path("tests/golden/%s", golden[i]), (atv_isa)isa, 2, 20, 8, 14);
        check_ragged((atv_isa)isa);
        check_classifier((atv_isa)isa);
        for (i = 0; shared && i < 5; i++)
            check_model(test_path("%s/fixtures/gptneo/%s", shared, fixtures[i]), (atv_isa)isa, 3, 40, 8, 20);
        test_groups((atv_isa)isa);
        test_windows((atv_isa)isa);
        test_ragged((atv_isa)isa);
        test_bits((atv_isa)isa);
        test_classifier((atv_isa)isa);
        test_classifier_bits((atv_isa)isa);
    }
    if (!shared) SKIP("fixtures/gptneo: ATTNVAR_SHARED is not set");
    test_side_by_side();
    test_parameters();
    test_memory();
    test_refusals();
    test_classifier_refusals();
    return test_done("model");
}
