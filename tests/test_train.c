/* The trainer: golden runs, schedules, accumulation, ranks, saving and resuming bit for bit, the order of documents,
   evaluation. */
#define _POSIX_C_SOURCE 200809L
#include "../attnvar.h"
#include "test.h"
#include <unistd.h>

static char directory[256];                                 /* of our own, for files */

static atv_config small_config(void) {
    atv_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = 40;
    c.max_position_embeddings = 24;
    c.hidden_size = 20;
    c.num_layers = 2;
    c.num_heads = 5;
    c.num_key_value_heads = 3;
    c.intermediate_size = 24;
    c.window_size = 6;
    return c;
}

static atv_trainer *make(atv_model *model, const atv_trainer_desc *desc) {
    atv_trainer *trainer = NULL;
    MUST(atv_model_ctx(model), atv_trainer_create(model, desc, &trainer));
    return trainer;
}

static float *weights(atv_model *model) {
    float *all = (float *)malloc(sizeof(float) * (size_t)atv_model_num_parameters(model)), *p = all;
    int i;
    if (!all) exit(1);
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        int64_t n;
        const float *x = test_data(atv_model_tensor(model, i).tensor, &n);
        memcpy(p, x, sizeof(float) * (size_t)n);
        p += n;
    }
    return all;
}

static int same(atv_model *a, atv_model *b) {
    float *x = weights(a), *y = weights(b);
    int equal = memcmp(x, y, sizeof(float) * (size_t)atv_model_num_parameters(a)) == 0;
    free(x);
    free(y);
    return equal;
}

/* ---- golden ---- */

static const char *ints(const char *p, const char *key, int *out, int cap, int *n) {
    double x[256];
    int i;
    p = test_find(p, key);
    *n = test_numbers(p, x, cap < 256 ? cap : 256);
    for (i = 0; i < *n; i++) out[i] = (int)x[i];
    return p;
}

static void test_golden(atv_isa isa) {
    char *json = (char *)test_read("tests/golden/train/train.json", NULL);
    const char *run, *batches;
    int runs = 0, steps;
    if (!CHECK(json != NULL, "tests/golden/train/train.json cannot be read")) return;
    steps = (int)test_number(json, "steps");
    batches = test_find(json, "batches");
    for (run = strstr(json, "\"schedule\""); run; run = strstr(run + 10, "\"schedule\"")) {
        char schedule[32], final_name[64];
        const char *difference = test_find(run, "fp32_run_max_abs_difference"), *p = batches;
        double lr[16], loss[16], norm[16], targets[16], fp_loss = test_number(difference, "loss"),
            fp_norm = test_number(difference, "grad_norm");
        double fp_final = test_number(difference, "final_weights"), worst = 0;
        atv_ctx *ctx = test_ctx(isa, 2);
        atv_model *model = NULL;
        atv_trainer_desc d;
        atv_trainer *t;
        atv_safetensors *file = NULL;
        int i, k, n;
        if (!CHECK(sscanf(run, "\"schedule\": \"%31[^\"]\"", schedule) == 1 &&
                   sscanf(test_find(run, "final_weights"), "\"%63[^\"]\"", final_name) == 1, "train.json: a run")) break;
        n = test_numbers(test_find(run, "lr"), lr, 16);
        if (!CHECK(n == steps && test_numbers(test_find(run, "loss"), loss, 16) == n &&
                   test_numbers(test_find(run, "grad_norm"), norm, 16) == n &&
                   test_numbers(test_find(run, "targets"), targets, 16) == n,
                   "train.json: %s has no %d steps", schedule, steps)) break;
        memset(&d, 0, sizeof d);
        d.has_learning_rate = 1;
        d.learning_rate = test_number(json, "lr");
        d.min_learning_rate = test_number(json, "min_lr");
        d.warmup_steps = (int)test_number(json, "warmup");
        d.total_steps = steps;
        d.schedule = strcmp(schedule, "cosine") == 0 ? ATV_SCHEDULE_COSINE : ATV_SCHEDULE_LINEAR;
        d.beta1 = test_number(json, "beta1");
        d.beta2 = test_number(json, "beta2");
        d.epsilon = test_number(json, "eps");
        d.weight_decay = test_number(json, "weight_decay");
        d.max_grad_norm = test_number(run, "max_grad_norm");
        MUST(ctx, atv_model_load(ctx, "tests/golden/mha", &model));
        t = make(model, &d);
        for (i = 0; i < steps; i++) {
            atv_step step;
            for (k = 0; k < 2; k++) {
                int lengths[16], ids[256], n_seq, n_ids, j;
                int32_t ids32[256];
                atv_batch batch;
                p = ints(p, "lengths", lengths, 16, &n_seq);
                p = ints(p, "ids", ids, 256, &n_ids);
                if (!CHECK(p && n_seq > 0 && n_ids > 0, "train.json: batch %d of step %d", k, i)) exit(test_done("aborted"));
                for (j = 0; j < n_ids; j++) ids32[j] = ids[j];
                batch = test_batch(ids32, lengths, n_seq);
                MUST(ctx, atv_trainer_accumulate(t, &batch));
            }
            MUST(ctx, atv_trainer_update(t, &step));
            CHECK(fabs(step.learning_rate - lr[i]) <= 1e-15,
                  "%s: learning rate %.17g of step %d, not %.17g", schedule, step.learning_rate, i, lr[i]);
            CHECK(atv_trainer_learning_rate(atv_trainer_info(t), i) == step.learning_rate,
                  "%s: two learning rates of step %d", schedule, i);
            CHECK(step.loss.tokens == (int64_t)targets[i] && step.step == i + 1,
                  "%s: step %d has %ld targets", schedule, (int)step.step, (long)step.loss.tokens);
            CHECK(fabs(step.loss.sum / (double)step.loss.tokens - loss[i]) <= 4 * fp_loss + 2.4e-7,
                  "%s, %s: loss %.9g of step %d, not %.9g", schedule,
                  atv_isa_name(isa), step.loss.sum / (double)step.loss.tokens, i, loss[i]);
            CHECK(fabs(step.grad_norm - norm[i]) <= 4 * fp_norm, "%s, %s: gradient norm %.9g of step %d, not %.9g", schedule,
                  atv_isa_name(isa), step.grad_norm, i, norm[i]);
        }
        CHECK(atv_trainer_step(t) == steps, "%ld steps", (long)atv_trainer_step(t));
        MUST(ctx, atv_safetensors_open(ctx, test_path("tests/golden/train/%s", final_name), &file));
        for (i = 0; i < atv_model_num_tensors(model); i++) {
            atv_named_tensor w = atv_model_tensor(model, i);
            int64_t count;
            const float *x = test_data(w.tensor, &count);
            int at = atv_safetensors_find(file, w.name);
            if (CHECK(at >= 0, "%s lacks %s", final_name, w.name))
                worst = fmax(worst, test_difference(x, (const float *)atv_safetensors_tensor(file, at).tensor.data,
                                                    (size_t)count));
        }
        CHECK(worst <= 10 * fp_final, "%s, %s: final weights differ by %g > 10 x %g", schedule, atv_isa_name(isa), worst,
              fp_final);
        atv_safetensors_close(file);
        atv_trainer_destroy(t);
        atv_model_destroy(model);
        atv_ctx_destroy(ctx);
        runs++;
    }
    CHECK(runs == 2, "train.json has %d runs", runs);
    free(json);
}

/* ---- documents ---- */

enum { DOCS = 37 };
typedef struct documents { int32_t ids[DOCS * 40]; int lengths[DOCS]; atv_data data; } documents;

static void make_documents(documents *d, uint64_t seed) {
    atv_rng rng;
    int i, n = 0;
    rng.state = seed;
    for (i = 0; i < DOCS; i++) {
        d->lengths[i] = 2 + (int)atv_rng_below(&rng, 36);   /* some longer than the context */
        test_ids(&rng, d->ids + n, d->lengths[i], 40);
        d->ids[n] = i;                                      /* a document's first token is its number */
        n += d->lengths[i];
    }
    d->data.ids = d->ids;
    d->data.lengths = d->lengths;
    d->data.n_docs = DOCS;
}

static atv_trainer_desc recipe(void) {
    atv_trainer_desc d;
    memset(&d, 0, sizeof d);
    d.has_learning_rate = 1;
    d.learning_rate = 3e-3;
    d.schedule = ATV_SCHEDULE_COSINE;
    d.warmup_steps = 3;
    d.total_steps = 40;
    d.weight_decay = 0.1;
    d.max_grad_norm = 1;
    d.accumulate = 2;
    d.batch = 4;
    d.seed = 11;
    return d;
}

typedef struct seen { int n; double loss[64], first_loss; int64_t tokens, epoch; int stop_at; } seen;

static int look(void *user, const atv_step *step) {
    seen *s = (seen *)user;
    if (s->n < 64) s->loss[s->n] = step->loss.sum / (double)step->loss.tokens;
    s->n++;
    s->tokens = step->tokens_seen;
    s->epoch = step->epoch;
    return s->stop_at && s->n == s->stop_at;
}

/* Saves where nothing can be saved; without a trainer, it just stops. */
static int save_nowhere(void *user, const atv_step *step) {
    (void)step;
    return !user || atv_trainer_save((const atv_trainer *)user, "no/such/directory/x") != ATV_OK;
}

/* 2N steps are N, saved, loaded in another context with another number of threads, and N more: the same bits. */
static void test_resuming(atv_isa isa) {
    static documents docs;
    atv_config c = small_config();
    atv_trainer_desc d = recipe();
    const char *path = test_path("%s/trainer.safetensors", directory);
    atv_ctx *one = test_ctx(isa, 1), *two = test_ctx(isa, 2), *three = test_ctx(isa, 3);
    atv_model *straight = NULL, *first = NULL, *second = NULL;
    atv_trainer *a, *b, *e;
    seen sa, sb, se;
    int at;
    make_documents(&docs, 4);
    memset(&sa, 0, sizeof sa);
    memset(&sb, 0, sizeof sb);
    memset(&se, 0, sizeof se);
    MUST(one, atv_model_create(one, &c, &straight));
    MUST(two, atv_model_create(two, &c, &first));
    MUST(three, atv_model_create(three, &c, &second));
    atv_model_init(straight, 3);
    atv_model_init(first, 3);
    atv_model_init(second, 99);                             /* what is loaded must replace all of it */
    a = make(straight, &d);
    b = make(first, &d);
    e = make(second, &d);
    MUST(one, atv_trainer_run(a, &docs.data, 22, look, &sa));
    MUST(two, atv_trainer_run(b, &docs.data, 11, look, &sb));
    MUST(two, atv_trainer_save(b, path));
    MUST(three, atv_trainer_load(e, path));
    CHECK(atv_trainer_step(e) == 11, "loaded at step %ld", (long)atv_trainer_step(e));
    CHECK(same(first, second), "loading gives other weights");
    MUST(three, atv_trainer_run(e, &docs.data, 11, look, &se));
    CHECK(same(straight, second), "22 steps have other bits than 11, saved, loaded, 11");
    CHECK(sa.n == 22 && sb.n == 11 && se.n == 11 && sa.tokens == se.tokens && sa.epoch == se.epoch && sa.epoch >= 3,
          "steps %d %d %d, tokens %ld %ld, epochs %ld %ld", sa.n, sb.n, se.n, (long)sa.tokens, (long)se.tokens,
          (long)sa.epoch, (long)se.epoch);
    for (at = 0; at < 11; at++) CHECK(sa.loss[at] == sb.loss[at] && sa.loss[11 + at] == se.loss[at],
                                      "losses of step %d or %d", at, at + 11);
    CHECK(sa.loss[21] < sa.loss[0], "the loss went from %g to %g", sa.loss[0], sa.loss[21]);

    /* stopped by the callback, and going on from there */
    atv_model_init(first, 3);
    atv_trainer_destroy(b);
    b = make(first, &d);
    memset(&sb, 0, sizeof sb);
    sb.stop_at = 5;
    FAILS(two, atv_trainer_run(b, &docs.data, 22, look, &sb), ATV_ERR_STOPPED, "5");
    CHECK(atv_trainer_step(b) == 5, "stopped at step %ld", (long)atv_trainer_step(b));
    sb.stop_at = 0;
    MUST(two, atv_trainer_run(b, &docs.data, 17, look, &sb));
    CHECK(same(straight, first), "stopping and going on gives other bits");

    /* what failed in the callback is told; what failed before it is not */
    atv_model_init(first, 3);
    atv_trainer_destroy(b);
    b = make(first, &d);
    FAILS(two, atv_trainer_run(b, &docs.data, 2, save_nowhere, b), ATV_ERR_STOPPED,
          "stopped by on_step after step 1: no/such/directory/x: cannot be written: No such file");
    FAILS(two, atv_trainer_run(b, &docs.data, 2, save_nowhere, NULL), ATV_ERR_STOPPED, "stopped by on_step after step 2");
    CHECK(!strstr(atv_last_error(two), "written"), "an older failure is told: %s", atv_last_error(two));

    /* another seed, another order; the seed decides alone, not the threads */
    atv_model_init(first, 3);
    atv_trainer_destroy(b);
    d.seed = 12;
    b = make(first, &d);
    MUST(two, atv_trainer_run(b, &docs.data, 22, NULL, NULL));
    CHECK(!same(straight, first), "another seed of the order changes nothing");

    /* a file of another recipe, model, or of no trainer at all is refused, and nothing changes */
    {
        float *before = weights(first), *after;
        atv_model *wider = NULL;
        atv_trainer *w;
        FAILS(two, atv_trainer_load(b, path), ATV_ERR_ARGUMENT, "seed");
        atv_trainer_destroy(b);
        d = recipe();
        d.weight_decay = 0.2;
        b = make(first, &d);
        FAILS(two, atv_trainer_load(b, path), ATV_ERR_ARGUMENT, "weight_decay");
        FAILS(two, atv_trainer_load(b, test_path("%s/none", directory)), ATV_ERR_IO, "none");
        CHECK(atv_trainer_load(b, "tests/golden/mha/model.safetensors") == ATV_ERR_FORMAT,
              "a model was loaded as a trainer");
        after = weights(first);
        CHECK(memcmp(before, after, sizeof(float) * (size_t)atv_model_num_parameters(first)) == 0,
              "a failed load changed the model");
        free(before);
        free(after);
        c.intermediate_size = 25;
        MUST(two, atv_model_create(two, &c, &wider));
        d = recipe();
        w = make(wider, &d);
        CHECK(atv_trainer_load(w, path) == ATV_ERR_FORMAT && strstr(atv_last_error(two), "mlp.c_fc"),
              "another model's state: %s", atv_last_error(two));
        CHECK(atv_trainer_step(w) == 0, "a failed load moved the counters");
        atv_trainer_destroy(w);
        atv_model_destroy(wider);
    }
    {   /* every prefix of the file is refused */
        size_t size = 0, cut;
        char *all = (char *)test_read(path, &size);
        const char *broken = test_path("%s/broken.safetensors", directory);
        atv_trainer_destroy(b);
        d = recipe();
        b = make(first, &d);
        for (cut = 0; all && cut < size; cut += 1 + size / 40) {
            CHECK(test_write(broken, all, cut), "cannot write %s", broken);
            CHECK(atv_trainer_load(b, broken) != ATV_OK && strstr(atv_last_error(two), "broken"),
                  "%lu of %lu bytes: %s", (unsigned long)cut, (unsigned long)size, atv_last_error(two));
        }
        MUST(two, atv_trainer_load(b, path));
        free(all);
        remove(broken);
    }
    {   /* a directory that is not there: an error, and no file left */
        FAILS(two, atv_trainer_save(b, test_path("%s/no/such/place", directory)), ATV_ERR_IO, "place");
    }
    remove(path);
    atv_trainer_destroy(a);
    atv_trainer_destroy(b);
    atv_trainer_destroy(e);
    atv_model_destroy(straight);
    atv_model_destroy(first);
    atv_model_destroy(second);
    atv_ctx_destroy(one);
    atv_ctx_destroy(two);
    atv_ctx_destroy(three);
}

/* A learning rate of 0 and one token's count tell which documents came when: each once an epoch, in an order of the seed
   and the epoch. */
static void order_of(uint64_t seed, int batch, int64_t steps, int *tokens, double *signature) {
    static documents docs;
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = small_config();
    atv_model *model = test_model(ctx, &c, 8, 0.3);
    atv_trainer_desc d;
    atv_trainer *t;
    seen s;
    int i;
    make_documents(&docs, 5);
    memset(&d, 0, sizeof d);
    d.has_learning_rate = 1;
    d.learning_rate = 0;
    d.batch = batch;
    d.seed = seed;
    t = make(model, &d);
    memset(&s, 0, sizeof s);
    MUST(ctx, atv_trainer_run(t, &docs.data, steps, look, &s));
    for (i = 0; i < s.n && i < 64; i++) signature[i] = s.loss[i];
    *tokens = (int)s.tokens;
    atv_trainer_destroy(t);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

static void test_order(void) {
    static documents docs;
    double a[64] = { 0 }, b[64] = { 0 };
    int na = 0, nb = 0, i, j, total = 0, matched = 0, repeated = 0;
    make_documents(&docs, 5);
    for (i = 0; i < DOCS; i++) total += docs.lengths[i] < 24 ? docs.lengths[i] : 24;
    order_of(1, 1, 37, &na, a);
    CHECK(na == total, "an epoch runs %d tokens, not %d: not every document once, cut at the context", na, total);
    order_of(1, 1, 37, &nb, b);
    CHECK(memcmp(a, b, 37 * sizeof *a) == 0, "equal seeds give other orders");
    order_of(2, 1, 37, &nb, b);
    for (i = 0; i < 37; i++) for (j = 0; j < 37; j++) matched += a[i] == b[j];
    CHECK(nb == total && matched >= 37 && memcmp(a, b, 37 * sizeof *a) != 0,
          "another seed: %d tokens, %d of 37 documents found again", nb, matched);
    order_of(1, 1, 60, &nb, b);                             /* into the second epoch: another order */
    CHECK(memcmp(a, b, 37 * sizeof *a) == 0, "the first epoch depends on how many follow");
    for (i = 37; i < 60; i++) repeated += b[i] == a[i - 37];
    CHECK(repeated < 8, "the second epoch is in the first one's order");
}

/* ---- accumulation, padding, evaluation ---- */

static void test_sums(atv_isa isa) {
    static documents docs;
    atv_ctx *ctx = test_ctx(isa, 2);
    atv_config c = small_config();
    atv_model *a = test_model(ctx, &c, 8, 0.3), *b = test_model(ctx, &c, 8, 0.3), *p = test_model(ctx, &c, 8, 0.3);
    atv_trainer_desc d = recipe();
    atv_trainer *ta, *tb, *tp;
    int32_t ids[8 * 24], padded[8 * 24], targets[8 * 24];
    int lengths[8], full[8], i, k, n = 0, at = 0, none = 0;
    atv_batch batch;
    atv_step sa, sb, sp;
    float *x, *y;
    make_documents(&docs, 6);
    d.batch = 8;
    d.max_grad_norm = 0.3;
    ta = make(a, &d);
    tb = make(b, &d);
    tp = make(p, &d);
    for (i = 0; i < 8; i++) {
        lengths[i] = docs.lengths[i] < 24 ? docs.lengths[i] : 24;
        memcpy(ids + n, docs.ids + at, sizeof(int32_t) * (size_t)lengths[i]);
        full[i] = 24;
        for (k = 0; k < 24; k++) {
            padded[i * 24 + k] = k < lengths[i] ? ids[n + k] : 0;
            targets[i * 24 + k] = k + 1 < lengths[i] ? ids[n + k + 1] : -100;
        }
        n += lengths[i];
        at += docs.lengths[i];
    }
    for (k = 0; k < 3; k++) {
        batch = test_batch(ids, lengths, 8);                /* all at once, */
        MUST(ctx, atv_trainer_accumulate(ta, &batch));
        MUST(ctx, atv_trainer_update(ta, &sa));
        for (i = at = 0; i < 8; at += lengths[i], i++) {    /* one by one, with batches of nothing between, */
            batch = test_batch(ids + at, lengths + i, 1);
            MUST(ctx, atv_trainer_accumulate(tb, &batch));
            batch = test_batch(ids, &none, 1);
            MUST(ctx, atv_trainer_accumulate(tb, &batch));
        }
        MUST(ctx, atv_trainer_update(tb, &sb));
        batch = test_batch(padded, full, 8);                /* and padded */
        batch.targets = targets;
        MUST(ctx, atv_trainer_accumulate(tp, &batch));
        MUST(ctx, atv_trainer_update(tp, &sp));
        CHECK(sa.loss.tokens == sb.loss.tokens && fabs(sa.loss.sum - sb.loss.sum) <= 2e-6 * sa.loss.sum &&
              fabs(sa.grad_norm - sb.grad_norm) <= 2e-5 * sa.grad_norm,
              "accumulated: loss %.9g %.9g, norm %.9g %.9g", sa.loss.sum, sb.loss.sum, sa.grad_norm, sb.grad_norm);
        CHECK(sa.loss.tokens == sp.loss.tokens && fabs(sa.loss.sum - sp.loss.sum) <= 2e-6 * sa.loss.sum &&
              fabs(sa.grad_norm - sp.grad_norm) <= 2e-5 * sa.grad_norm,
              "padded: loss %.9g %.9g, norm %.9g %.9g", sa.loss.sum, sp.loss.sum, sa.grad_norm, sp.grad_norm);
        CHECK(sa.tokens_seen == (int64_t)(k + 1) * n, "%ld tokens seen, not %d", (long)sa.tokens_seen, (k + 1) * n);
    }
    x = weights(a);
    y = weights(b);
    CHECK(test_difference(x, y, (size_t)atv_model_num_parameters(a)) <= 3e-5,
          "accumulated: weights differ by %g", test_difference(x, y, (size_t)atv_model_num_parameters(a)));
    free(y);
    y = weights(p);
    CHECK(test_difference(x, y, (size_t)atv_model_num_parameters(a)) <= 3e-5,
          "padded: weights differ by %g", test_difference(x, y, (size_t)atv_model_num_parameters(a)));
    free(x);
    free(y);
    /* an update without a target is an error, and so is running with batches pending */
    FAILS(ctx, atv_trainer_update(ta, &sa), ATV_ERR_ARGUMENT, "target");
    none = 1;
    batch = test_batch(ids, &none, 1);
    MUST(ctx, atv_trainer_accumulate(ta, &batch));
    FAILS(ctx, atv_trainer_update(ta, &sa), ATV_ERR_ARGUMENT, "target");
    CHECK(atv_trainer_step(ta) == 3, "a failed update counted");
    batch = test_batch(ids, lengths, 2);
    MUST(ctx, atv_trainer_accumulate(ta, &batch));
    MUST(ctx, atv_trainer_update(ta, &sa));
    {   /* evaluation: every document, cut, none twice */
        atv_work *work = test_work(p, 50, 0), *large = test_work(p, 5000, 0);
        atv_loss loss, again, alone = { 0, 0 };
        int32_t line[24];
        MUST(ctx, atv_evaluate(work, &docs.data, &loss));
        MUST(ctx, atv_evaluate(large, &docs.data, &again));
        for (i = at = 0; i < DOCS; at += docs.lengths[i++]) {
            atv_loss l;
            int length = docs.lengths[i] < 24 ? docs.lengths[i] : 24;
            memcpy(line, docs.ids + at, sizeof(int32_t) * (size_t)length);
            batch = test_batch(line, &length, 1);
            MUST(ctx, atv_forward_loss(work, &batch, NULL, &l));
            alone.sum += l.sum;
            alone.tokens += l.tokens;
        }
        CHECK(loss.tokens == alone.tokens && again.tokens == alone.tokens &&
              fabs(loss.sum - alone.sum) <= 1e-6 * alone.sum && fabs(again.sum - alone.sum) <= 1e-6 * alone.sum,
              "evaluation gives %.9g of %ld and %.9g of %ld, one by one %.9g of %ld", loss.sum, (long)loss.tokens, again.sum,
              (long)again.tokens, alone.sum, (long)alone.tokens);
        docs.ids[70] = 40;
        FAILS(ctx, atv_evaluate(work, &docs.data, &loss), ATV_ERR_ARGUMENT, "40");
        atv_work_destroy(work);
        atv_work_destroy(large);
    }
    atv_trainer_destroy(ta);
    atv_trainer_destroy(tb);
    atv_trainer_destroy(tp);
    atv_model_destroy(a);
    atv_model_destroy(b);
    atv_model_destroy(p);
    atv_ctx_destroy(ctx);
}

static int sum_nothing(void *user, float *grads, size_t n, double *sums, int n_sums) {
    (void)user; (void)grads; (void)n; (void)sums; (void)n_sums;
    return 0;
}

/* Decay of weights alone, or of everything, seen with gradients that are clipped to nothing; and the three schedules. */
static void test_recipe(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = small_config();
    int all, i, length = 9;
    int32_t ids[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    atv_trainer_desc d;
    for (all = 0; all < 2; all++) {
        atv_model *model = test_model(ctx, &c, 8, 0.3), *start = test_model(ctx, &c, 8, 0.3);
        atv_trainer *t;
        atv_batch batch = test_batch(ids, &length, 1);
        atv_step step;
        memset(&d, 0, sizeof d);
        d.has_learning_rate = 1;
        d.learning_rate = 0.01;
        d.weight_decay = 0.5;
        d.decay_all = all;
        d.max_grad_norm = 1e-30;
        d.epsilon = 1e-3;                                   /* so that nothing but the decay moves anything */
        t = make(model, &d);
        MUST(ctx, atv_trainer_accumulate(t, &batch));
        MUST(ctx, atv_trainer_update(t, &step));
        for (i = 0; i < atv_model_num_tensors(model); i++) {
            int64_t n, k;
            const float *now = test_data(atv_model_tensor(model, i).tensor, &n),
                *before = test_data(atv_model_tensor(start, i).tensor, &n);
            double keep = all || atv_model_tensor(model, i).tensor.rank == 2 ? 1 - 0.01 * 0.5 : 1, worst = 0;
            for (k = 0; k < n; k++) worst = fmax(worst, fabs(now[k] - keep * before[k]));
            CHECK(worst <= 3e-7, "decay_all=%d: %s is not %g of what it was: %g", all, atv_model_tensor(model, i).name, keep,
                  worst);
        }
        atv_trainer_destroy(t);
        atv_model_destroy(model);
        atv_model_destroy(start);
    }
    d = recipe();
    d.min_learning_rate = 3e-4;
    d.warmup_steps = 4;
    d.total_steps = 24;
    for (i = 0; i < 40; i++) {
        double x = i < 4 ? 0 : i > 24 ? 1 : (i - 4) / 20.0, up = 3e-3 * (i + 1) / 4;
        d.schedule = ATV_SCHEDULE_CONSTANT;
        CHECK(fabs(atv_trainer_learning_rate(&d, i) - (i < 4 ? up : 3e-3)) < 1e-16,
              "constant, step %d: %g", i, atv_trainer_learning_rate(&d, i));
        d.schedule = ATV_SCHEDULE_LINEAR;
        CHECK(fabs(atv_trainer_learning_rate(&d, i) - (i < 4 ? up : 3e-4 + 2.7e-3 * (1 - x))) < 1e-16,
              "linear, step %d: %g", i, atv_trainer_learning_rate(&d, i));
        d.schedule = ATV_SCHEDULE_COSINE;
        CHECK(fabs(atv_trainer_learning_rate(&d, i) -
                   (i < 4 ? up : 3e-4 + 2.7e-3 * (1 + cos(3.14159265358979323846 * x)) / 2)) < 1e-16,
              "cosine, step %d: %g", i, atv_trainer_learning_rate(&d, i));
    }
    d = atv_trainer_published();
    CHECK(d.batch == 16 && d.accumulate == 16 && d.max_length == 512,
          "the published recipe: %d x %d of %d", d.batch, d.accumulate, d.max_length);
    {
        atv_model *model = test_model(ctx, &c, 8, 0.3);
        atv_trainer *t = NULL;
        atv_data none;
        int bad_length = -3;
        memset(&d, 0, sizeof d);
        t = make(model, &d);
        CHECK(atv_trainer_info(t)->learning_rate == 1e-3 && atv_trainer_info(t)->beta1 == 0.9 &&
              atv_trainer_info(t)->beta2 == 0.999 && atv_trainer_info(t)->epsilon == 1e-8 &&
              atv_trainer_info(t)->batch == 16 && atv_trainer_info(t)->accumulate == 1 &&
              atv_trainer_info(t)->max_length == 24 && atv_trainer_info(t)->max_tokens == 16 * 24, "defaults");
        memset(&none, 0, sizeof none);
        FAILS(ctx, atv_trainer_run(t, &none, 1, NULL, NULL), ATV_ERR_ARGUMENT, "n_docs=0");
        none.n_docs = 1;
        none.lengths = &bad_length;
        none.ids = ids;
        FAILS(ctx, atv_trainer_run(t, &none, 1, NULL, NULL), ATV_ERR_ARGUMENT, "lengths[0]=-3");
        /* nothing to predict anywhere: an error, not a loop without end */
        bad_length = 1;
        CHECK(atv_trainer_run(t, &none, 1, NULL, NULL) == ATV_ERR_ARGUMENT, "documents of one token");
        bad_length = 0;
        CHECK(atv_trainer_run(t, &none, 1, NULL, NULL) == ATV_ERR_ARGUMENT, "documents of no token");
        atv_trainer_destroy(t);
        t = NULL;
#define REFUSED(set, text) do { memset(&d, 0, sizeof d); d.has_learning_rate = 1; d.learning_rate = 1e-3; set; \
        FAILS(ctx, atv_trainer_create(model, &d, &t), ATV_ERR_ARGUMENT, text); CHECK(!t, "a failure wrote its output"); \
        t = NULL; } while (0)
        REFUSED(d.learning_rate = -1, "learning_rate=-1");
        REFUSED(d.learning_rate = (double)NAN, "learning_rate");
        REFUSED(d.min_learning_rate = 2, "min_learning_rate=2");
        REFUSED(d.beta1 = 1, "beta1=1");
        REFUSED(d.beta2 = -0.5, "beta2=-0.5");
        REFUSED(d.epsilon = -1, "epsilon=-1");
        REFUSED(d.weight_decay = -1, "weight_decay=-1");
        REFUSED(d.max_grad_norm = -1, "max_grad_norm=-1");
        REFUSED(d.accumulate = -1, "accumulate=-1");
        REFUSED(d.batch = -1, "batch=-1");
        REFUSED(d.max_length = 25, "max_length=25");
        REFUSED(d.max_tokens = -1, "max_tokens=-1");
        REFUSED(d.warmup_steps = -1, "warmup_steps=-1");
        REFUSED(d.n_ranks = -1, "n_ranks=-1");
        REFUSED(d.n_ranks = 2, "n_ranks=2");
        REFUSED((d.n_ranks = 2, d.rank = 2, d.reduce = sum_nothing), "rank=2");
        REFUSED(d.rank = -1, "rank=-1");
        REFUSED(d.schedule = (atv_schedule)9, "schedule=9");
        REFUSED((d.schedule = ATV_SCHEDULE_COSINE), "total_steps=0");
        REFUSED((d.schedule = ATV_SCHEDULE_LINEAR, d.warmup_steps = 5, d.total_steps = 5), "total_steps=5");
#undef REFUSED
        atv_model_destroy(model);
    }
    atv_ctx_destroy(ctx);
}

static void test_memory(void) {
    static documents docs;
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    test_alloc alloc;
    atv_config c = small_config();
    atv_model *model;
    atv_trainer *t = NULL;
    atv_trainer_desc d = recipe();
    atv_batch batch;
    atv_step step;
    size_t before, after, said = 0;
    long count, n, live;
    int i;
    const char *path = test_path("%s/memory.safetensors", directory);
    memset(&desc, 0, sizeof desc);
    memset(&alloc, 0, sizeof alloc);
    desc.allocator.user = &alloc;
    desc.allocator.alloc = test_alloc_get;
    desc.allocator.free = test_alloc_put;
    desc.n_threads = 2;
    make_documents(&docs, 7);
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    model = test_model(ctx, &c, 8, 0.3);
    atv_memory(ctx, &before, NULL);
    MUST(ctx, atv_trainer_bytes(model, &d, &said));
    count = alloc.count;
    MUST(ctx, atv_trainer_create(model, &d, &t));
    atv_memory(ctx, &after, NULL);
    CHECK(after - before == said, "a trainer said %lu bytes and took %lu", (unsigned long)said,
          (unsigned long)(after - before));
    atv_trainer_destroy(t);
    for (n = alloc.count - count, live = alloc.live; n > 0; n--) {
        t = NULL;
        alloc.fail_at = alloc.count + n;
        CHECK(atv_trainer_create(model, &d, &t) == ATV_ERR_MEMORY && !t && alloc.live == live,
              "a trainer without allocation %ld", n);
    }
    alloc.fail_at = 0;
    t = make(model, &d);
    docs.lengths[0] = docs.lengths[0] < 24 ? docs.lengths[0] : 24;
    batch = test_batch(docs.ids, docs.lengths, 1);
    count = alloc.count;
    for (i = 0; i < 3; i++) {
        MUST(ctx, atv_trainer_accumulate(t, &batch));
        MUST(ctx, atv_trainer_accumulate(t, &batch));
        MUST(ctx, atv_trainer_update(t, &step));
    }
    CHECK(alloc.count == count, "three steps allocated %ld times", alloc.count - count);
    make_documents(&docs, 7);
    MUST(ctx, atv_trainer_run(t, &docs.data, 1, NULL, NULL));
    n = alloc.count - count;
    count = alloc.count;
    MUST(ctx, atv_trainer_run(t, &docs.data, 9, NULL, NULL));
    CHECK(alloc.count - count == n, "9 steps allocate %ld times, 1 step %ld", alloc.count - count, n);
    live = alloc.live;
    for (i = 1; i < 100; i++) {                             /* every allocation of run, save and load failing in turn */
        atv_result r;
        alloc.fail_at = alloc.count + i;
        r = atv_trainer_run(t, &docs.data, 1, NULL, NULL);
        alloc.fail_at = 0;
        if (r == ATV_OK) break;
        CHECK(r == ATV_ERR_MEMORY && alloc.live == live,
              "run without allocation %d: %s, %ld blocks more", i, atv_result_text(r), alloc.live - live);
    }
    for (i = 1; i < 500; i++) {
        atv_result r;
        alloc.fail_at = alloc.count + i;
        r = atv_trainer_save(t, path);
        alloc.fail_at = 0;
        if (r == ATV_OK) break;
        CHECK(r == ATV_ERR_MEMORY && alloc.live == live && access(path, F_OK) != 0,
              "save without allocation %d: %s, %ld blocks more", i, atv_result_text(r), alloc.live - live);
    }
    CHECK(i < 500 && i > 1, "saving never failed");
    for (i = 1; i < 500; i++) {
        atv_result r;
        alloc.fail_at = alloc.count + i;
        r = atv_trainer_load(t, path);
        alloc.fail_at = 0;
        if (r == ATV_OK) break;
        CHECK(r == ATV_ERR_MEMORY && alloc.live == live,
              "load without allocation %d: %s, %ld blocks more", i, atv_result_text(r), alloc.live - live);
    }
    CHECK(i < 500 && i > 1, "loading never failed");
    remove(path);
    atv_trainer_destroy(t);
    atv_trainer_destroy(NULL);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
    CHECK(alloc.live == 0, "%ld blocks left", alloc.live);
}

/* Adds up what it is asked for, and gives no more than 100 MB at once. */
static void *some_get(void *user, size_t size) {
    *(size_t *)user += size;
    return size < 100000000 ? malloc(size) : NULL;
}

static void some_put(void *user, void *ptr) { (void)user; free(ptr); }

/* The published shape at batch 16, context 512: all that training it asks for, told before. */
static void test_published_memory(void) {
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    atv_config c = atv_config_published();
    atv_model *model = NULL;
    atv_trainer *t = NULL;
    atv_trainer_desc d = atv_trainer_published();
    size_t asked = 0, before, model_said = 0, trainer_said = 0;
    memset(&desc, 0, sizeof desc);
    desc.allocator.user = &asked;
    desc.allocator.alloc = some_get;
    desc.allocator.free = some_put;
    desc.n_threads = 2;
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    before = asked;
    MUST(ctx, atv_model_bytes(ctx, &c, &model_said));
    MUST(ctx, atv_model_create(ctx, &c, &model));
    CHECK(asked == before + model_said, "a model said %lu bytes and asked for %lu", (unsigned long)model_said,
          (unsigned long)(asked - before));
    before = asked;
    MUST(ctx, atv_trainer_bytes(model, &d, &trainer_said));
    CHECK(atv_trainer_create(model, &d, &t) == ATV_ERR_MEMORY && !t, "a trainer in less than 100 MB");
    CHECK(asked == before + trainer_said, "a trainer said %lu bytes and asked for %lu", (unsigned long)trainer_said,
          (unsigned long)(asked - before));
    CHECK(asked < 540000000, "context, model and trainer take %lu bytes", (unsigned long)asked);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

/* ---- classifiers ---- */

/* A document's label follows from its first token, its number; some have none. */
static void make_labelled(documents *d, int32_t *labels) {
    int i;
    make_documents(d, 9);
    for (i = 0; i < DOCS; i++) labels[i] = i % 9 == 4 ? -100 : i % 3;
    d->data.labels = labels;
}

/* Labels travel with their documents, whatever the order; saving and resuming give the same bits; what does not fit is
   refused. */
static void test_classifier(atv_isa isa) {
    static documents docs;
    int32_t labels[DOCS], predicted[DOCS];
    atv_config c = small_config(), language = c;
    atv_trainer_desc d = recipe(), still;
    const char *path = test_path("%s/classifier.safetensors", directory),
        *other = test_path("%s/language.safetensors", directory);
    atv_ctx *one = test_ctx(isa, 1), *three = test_ctx(isa, 3);
    atv_model *straight = NULL, *first = NULL, *second = NULL, *plain = NULL, *wider = NULL;
    atv_trainer *a, *b, *e, *p, *w;
    atv_loss loss;
    atv_step sa, sb;
    atv_batch batch;
    seen s;
    double sum = 0;
    int i, right = 0, at, few[2];
    int32_t few_ids[80], few_labels[2];
    make_labelled(&docs, labels);
    c.num_labels = 3;
    MUST(one, atv_model_create(one, &c, &straight));
    MUST(one, atv_model_create(one, &language, &plain));
    MUST(three, atv_model_create(three, &c, &first));
    MUST(three, atv_model_create(three, &c, &second));
    MUST(three, atv_model_classifier(first, 4, 1, &wider));
    atv_model_init(straight, 3);
    atv_model_init(plain, 3);
    atv_model_init(first, 3);
    atv_model_init(second, 99);

    /* nothing learned, one document a step: an epoch's losses are those of the documents with their own labels */
    memset(&still, 0, sizeof still);
    still.has_learning_rate = 1;
    still.batch = 2;
    test_fill(straight, 5, 0.3);
    a = make(straight, &still);
    for (i = 0; i < DOCS; i++) labels[i] = i % 3;
    memset(&s, 0, sizeof s);
    MUST(one, atv_trainer_run(a, &docs.data, 18, look, &s));
    MUST(one, atv_evaluate(atv_trainer_work(a), &docs.data, &loss));
    CHECK(loss.tokens == DOCS && s.n == 18, "%ld labels, %d steps", (long)loss.tokens, s.n);
    for (i = 0; i < 18; i++) sum += 2 * s.loss[i];
    for (i = 0, at = 0; i < DOCS; i++) {                    /* the epoch's last document has not come */
        atv_data single = docs.data;
        atv_loss rest;
        single.ids += at;
        single.lengths += i;
        single.labels += i;
        single.n_docs = 1;
        at += docs.lengths[i];
        MUST(one, atv_evaluate(atv_trainer_work(a), &single, &rest));
        if (fabs(sum + rest.sum - loss.sum) <= 1e-9 * loss.sum) break;
    }
    CHECK(i < DOCS, "an epoch's losses sum to %.12g of %.12g, and no document is what lacks", sum, loss.sum);
    labels[3]++;
    FAILS(one, atv_trainer_run(a, &docs.data, 1, NULL, NULL), ATV_ERR_ARGUMENT, "other documents");
    labels[3] = 3;
    FAILS(one, atv_trainer_run(a, &docs.data, 1, NULL, NULL), ATV_ERR_ARGUMENT, "labels[3]=3");
    atv_trainer_destroy(a);
    make_labelled(&docs, labels);

    /* the gradient is divided by the labelled sequences: the others might as well not be there */
    for (i = 0, at = 0; i < 6; at += docs.lengths[i++]) if (docs.lengths[i] > 24) docs.lengths[i] = 24;
    a = make(straight, &still);
    batch = test_batch(docs.ids, docs.lengths, 4);
    for (i = 0; i < 2; i++) few_labels[i] = i;
    few[0] = docs.lengths[1];
    few[1] = docs.lengths[3];
    memcpy(few_ids, docs.ids + docs.lengths[0], sizeof(int32_t) * (size_t)few[0]);
    memcpy(few_ids + few[0], docs.ids + docs.lengths[0] + docs.lengths[1] + docs.lengths[2],
           sizeof(int32_t) * (size_t)few[1]);
    {
        static const int32_t given[4] = { -100, 0, -100, 1 };
        batch.labels = given;
        MUST(one, atv_trainer_accumulate(a, &batch));
        MUST(one, atv_trainer_update(a, &sa));
        batch = test_batch(few_ids, few, 2);
        batch.labels = few_labels;
        MUST(one, atv_trainer_accumulate(a, &batch));
        MUST(one, atv_trainer_update(a, &sb));
        CHECK(sa.loss.tokens == 2 && sb.loss.tokens == 2 && fabs(sa.loss.sum - sb.loss.sum) <= 1e-6 * sa.loss.sum &&
              fabs(sa.grad_norm - sb.grad_norm) <= 1e-5 * sa.grad_norm,
              "with sequences without labels: loss %g of %ld, norm %g; without them %g of %ld, %g",
              sa.loss.sum, (long)sa.loss.tokens, sa.grad_norm, sb.loss.sum, (long)sb.loss.tokens, sb.grad_norm);
    }
    batch.labels = NULL;
    MUST(one, atv_trainer_accumulate(a, &batch));
    FAILS(one, atv_trainer_update(a, &sa), ATV_ERR_ARGUMENT, "target");
    docs.data.labels = NULL;
    FAILS(one, atv_trainer_run(a, &docs.data, 1, NULL, NULL), ATV_ERR_ARGUMENT, "target");
    docs.data.labels = labels;
    atv_trainer_destroy(a);
    make_labelled(&docs, labels);

    atv_model_init(straight, 3);
    d.total_steps = 0;
    d.schedule = ATV_SCHEDULE_CONSTANT;
    a = make(straight, &d);
    b = make(first, &d);
    e = make(second, &d);
    MUST(one, atv_trainer_run(a, &docs.data, 24, NULL, NULL));
    MUST(three, atv_trainer_run(b, &docs.data, 12, NULL, NULL));
    MUST(three, atv_trainer_save(b, path));
    MUST(three, atv_trainer_load(e, path));
    MUST(three, atv_trainer_run(e, &docs.data, 12, NULL, NULL));
    CHECK(same(straight, second), "a classifier's 24 steps have other bits than 12, saved, loaded, 12");
    MUST(one, atv_trainer_run(a, &docs.data, 100, NULL, NULL));
    MUST(one, atv_classify(atv_trainer_work(a), &docs.data, predicted, NULL));
    for (i = 0; i < DOCS; i++) right += labels[i] >= 0 && predicted[i] == labels[i];
    MUST(one, atv_evaluate(atv_trainer_work(a), &docs.data, &loss));
    CHECK(right == loss.tokens, "after training %d of %ld labels are right", right, (long)loss.tokens);

    /* another number of labels */
    p = make(plain, &d);
    w = make(wider, &d);
    FAILS(one, atv_trainer_load(p, path), ATV_ERR_ARGUMENT, "num_labels was 3, now it is 0");
    FAILS(three, atv_trainer_load(w, path), ATV_ERR_ARGUMENT, "num_labels was 3, now it is 4");
    MUST(one, atv_trainer_save(p, other));
    FAILS(three, atv_trainer_load(w, other), ATV_ERR_ARGUMENT, "num_labels was 0, now it is 4");
    FAILS(one, atv_trainer_run(p, &docs.data, 1, NULL, NULL), ATV_ERR_ARGUMENT, "num_labels=0");
    remove(path);
    remove(other);
    atv_trainer_destroy(a);
    atv_trainer_destroy(b);
    atv_trainer_destroy(e);
    atv_trainer_destroy(p);
    atv_trainer_destroy(w);
    atv_model_destroy(straight);
    atv_model_destroy(plain);
    atv_model_destroy(first);
    atv_model_destroy(second);
    atv_model_destroy(wider);
    atv_ctx_destroy(one);
    atv_ctx_destroy(three);
}

/* ---- ranks: trainers that sum through a hook, here one after the other ---- */

enum { RANKS = 4, SUMS = 5 };
typedef struct world {
    int n_ranks, playing, none;     /* none: shares without a target */
    size_t n;
    float *grads[RANKS];
    double sums[RANKS][SUMS];
    struct seat { struct world *world; int rank; } seats[RANKS];
} world;

typedef struct ranks {
    world w;
    atv_ctx *ctx[RANKS];
    atv_model *model[RANKS];
    atv_trainer *t[RANKS];
} ranks;

/* First each rank in turn leaves its numbers and fails; then each comes again with the same, and gets the sums. */
static int take_turns(void *user, float *grads, size_t n, double *sums, int n_sums) {
    struct seat *seat = (struct seat *)user;
    world *w = seat->world;
    size_t i;
    int k;
    CHECK(n_sums == SUMS && (w->n == 0 || w->n == n), "%d sums, %lu gradients", n_sums, (unsigned long)n);
    if (!w->playing) {
        if (!w->grads[seat->rank] && !(w->grads[seat->rank] = (float *)malloc(n * sizeof *grads))) exit(1);
        memcpy(w->grads[seat->rank], grads, n * sizeof *grads);
        memcpy(w->sums[seat->rank], sums, sizeof w->sums[0]);
        w->n = n;
        w->none += sums[1] == 0;
        return 1;
    }
    CHECK(memcmp(w->grads[seat->rank], grads, n * sizeof *grads) == 0 &&
          memcmp(w->sums[seat->rank], sums, sizeof w->sums[0]) == 0,
          "rank %d: after a reduction that failed, the step is another", seat->rank);
    for (i = 0; i < n; i++) for (grads[i] = w->grads[0][i], k = 1; k < w->n_ranks; k++) grads[i] += w->grads[k][i];
    for (i = 0; i < SUMS; i++) for (sums[i] = w->sums[0][i], k = 1; k < w->n_ranks; k++) sums[i] += w->sums[k][i];
    return 0;
}

static void open_ranks(ranks *x, int n_ranks, const atv_trainer_desc *recipe) {
    atv_config c = small_config();
    int r;
    memset(x, 0, sizeof *x);
    x->w.n_ranks = n_ranks;
    for (r = 0; r < n_ranks; r++) {
        atv_trainer_desc d = *recipe;
        x->w.seats[r].world = &x->w;
        x->w.seats[r].rank = r;
        x->ctx[r] = test_ctx(ATV_ISA_AUTO, r + 1);          /* other threads on each, the same bits */
        MUST(x->ctx[r], atv_model_create(x->ctx[r], &c, &x->model[r]));
        atv_model_init(x->model[r], 3);
        d.rank = r;
        d.n_ranks = n_ranks;
        d.reduce = take_turns;
        d.reduce_user = &x->w.seats[r];
        x->t[r] = make(x->model[r], &d);
    }
}

static void close_ranks(ranks *x) {
    int r;
    for (r = 0; r < x->w.n_ranks; r++) {
        atv_trainer_destroy(x->t[r]);
        atv_model_destroy(x->model[r]);
        atv_ctx_destroy(x->ctx[r]);
        free(x->w.grads[r]);
    }
}

static int keep_step(void *user, const atv_step *step) { *(atv_step *)user = *step; return 0; }

/* One step on every rank; out is rank 0's. */
static void step_ranks(ranks *x, const atv_data *data, atv_step *out) {
    atv_step step;
    int r;
    memset(&step, 0, sizeof step);
    for (x->w.playing = 0; x->w.playing < 2; x->w.playing++)
        for (r = 0; r < x->w.n_ranks; r++) {
            if (!x->w.playing) {
                FAILS(x->ctx[r], atv_trainer_run(x->t[r], data, 1, NULL, NULL), ATV_ERR_STOPPED, "reduce failed");
                continue;
            }
            MUST(x->ctx[r], atv_trainer_run(x->t[r], data, 1, keep_step, r ? &step : out));
            CHECK(r == 0 || memcmp(&step, out, sizeof step) == 0, "rank %d reports another step than rank 0", r);
            CHECK(r == 0 || same(x->model[0], x->model[r]), "rank %d has other parameters than rank 0 after step %ld", r,
                  (long)out->step);
        }
}

/* n_ranks with a recipe, beside one trainer without a hook and with its own: the same documents, so the same numbers but
   for the order of sums. Returns how many shares had no target. */
static int compare_ranks(const char *what, int n_ranks, const atv_trainer_desc *recipe, const atv_trainer_desc *alone,
                         const atv_data *data) {
    ranks x;
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 2);
    atv_config c = small_config();
    atv_model *model = NULL;
    atv_trainer *t;
    atv_step a, b;
    float *wa, *wb;
    int s;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    MUST(ctx, atv_model_create(ctx, &c, &model));
    atv_model_init(model, 3);
    t = make(model, alone);
    open_ranks(&x, n_ranks, recipe);
    for (s = 0; s < 20; s++) {
        MUST(ctx, atv_trainer_run(t, data, 1, keep_step, &a));
        step_ranks(&x, data, &b);
        CHECK(a.loss.tokens == b.loss.tokens && a.tokens_seen == b.tokens_seen && a.epoch == b.epoch && a.step == b.step &&
              a.learning_rate == b.learning_rate,
              "%s, step %d: %ld targets of %ld tokens in epoch %ld, alone %ld of %ld in %ld", what, s, (long)b.loss.tokens,
              (long)b.tokens_seen, (long)b.epoch, (long)a.loss.tokens, (long)a.tokens_seen, (long)a.epoch);
        CHECK(fabs(a.loss.sum - b.loss.sum) <= 1e-5 * a.loss.sum && fabs(a.grad_norm - b.grad_norm) <= 1e-4 * a.grad_norm,
              "%s, step %d: loss %.9g, norm %.9g, alone %.9g, %.9g", what, s, b.loss.sum, b.grad_norm, a.loss.sum,
              a.grad_norm);
        if (n_ranks == 1) CHECK(memcmp(&a, &b, sizeof a) == 0 && same(model, x.model[0]),
                                "one rank has other bits than no ranks after step %d", s);
    }
    wa = weights(model);
    wb = weights(x.model[0]);
    CHECK(test_difference(wa, wb, (size_t)atv_model_num_parameters(model)) <= 1e-4, "%s: weights differ by %g", what,
          test_difference(wa, wb, (size_t)atv_model_num_parameters(model)));
    free(wa);
    free(wb);
    s = x.w.none;
    close_ranks(&x);
    atv_trainer_destroy(t);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
    return s;
}

static void test_ranks(void) {
    static documents docs;
    atv_trainer_desc d = recipe(), alone = recipe();
    int i, r;
    make_documents(&docs, 4);
    alone.batch = 6;
    for (r = 1; r <= 3; r++) {
        d.batch = 6 / r;
        compare_ranks(test_path("%d x %d documents", r, 6 / r), r, &d, &alone, &docs.data);
    }
    d.batch = alone.batch = 3;                              /* batches that max_tokens cuts short, taken in turn */
    d.max_tokens = alone.max_tokens = 30;
    alone.accumulate = 3 * d.accumulate;
    compare_ranks("3 ranks, max_tokens", 3, &d, &alone, &docs.data);
    for (i = 0; i < DOCS; i++) if (i % 5 == 0) docs.lengths[i] = i % 2;     /* nothing to predict, or nothing at all */
    d = recipe();
    alone = recipe();
    d.batch = d.accumulate = 1;
    alone.batch = 4;
    alone.accumulate = 1;
    CHECK(compare_ranks("empty shares", 4, &d, &alone, &docs.data) > 0, "no share was empty");
}

static void test_rank_files(void) {
    static documents docs;
    const char *path = test_path("%s/ranks.safetensors", directory);
    atv_trainer_desc d = recipe();
    atv_step step, other;
    ranks two, again, four;
    int s, r;
    memset(&step, 0, sizeof step);
    memset(&other, 0, sizeof other);
    make_documents(&docs, 4);
    open_ranks(&two, 2, &d);
    for (s = 0; s < 7; s++) step_ranks(&two, &docs.data, &step);
    MUST(two.ctx[0], atv_trainer_save(two.t[0], path));
    open_ranks(&again, 2, &d);
    for (r = 0; r < 2; r++) MUST(again.ctx[r], atv_trainer_load(again.t[r], path));
    d.accumulate = 1;
    open_ranks(&four, 4, &d);
    for (r = 0; r < 4; r++) MUST(four.ctx[r], atv_trainer_load(four.t[r], path));
    for (s = 0; s < 7; s++) {
        step_ranks(&two, &docs.data, &step);
        step_ranks(&again, &docs.data, &other);
        CHECK(memcmp(&step, &other, sizeof step) == 0 && same(two.model[0], again.model[1]),
              "two ranks resumed: other bits at step %ld", (long)step.step);
        step_ranks(&four, &docs.data, &other);
        CHECK(step.loss.tokens == other.loss.tokens && step.tokens_seen == other.tokens_seen &&
              fabs(step.loss.sum - other.loss.sum) <= 1e-5 * step.loss.sum,
              "four ranks go on for two: loss %.9g, not %.9g, at step %ld", other.loss.sum, step.loss.sum, (long)step.step);
    }
    CHECK(step.epoch > 1, "only %ld epochs", (long)step.epoch);
    close_ranks(&four);
    open_ranks(&four, 3, &d);
    FAILS(four.ctx[0], atv_trainer_load(four.t[0], path), ATV_ERR_ARGUMENT, "accumulate times n_ranks was 4, now it is 3");
    close_ranks(&two);
    close_ranks(&again);
    close_ranks(&four);
    remove(path);
}

/* By hand, a rank without a batch; and ranks that cannot go on. */
static void test_rank_failures(void) {
    static documents docs, others;
    atv_trainer_desc d = recipe();
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = small_config();
    atv_model *model = NULL;
    atv_trainer *t;
    ranks x;
    atv_step a, b;
    atv_batch batch;
    float *before, *after;
    int length = 9, drawn[2] = { 0, 0 }, at, i, r;
    make_documents(&docs, 4);
    make_documents(&others, 5);
    MUST(ctx, atv_model_create(ctx, &c, &model));
    atv_model_init(model, 3);
    t = make(model, &d);
    open_ranks(&x, 2, &d);
    before = weights(x.model[1]);
    for (x.w.playing = 0; x.w.playing < 2; x.w.playing++)
        for (r = 0; r < 2; r++) FAILS(x.ctx[r], atv_trainer_update(x.t[r], &b),
                                      x.w.playing ? ATV_ERR_ARGUMENT : ATV_ERR_STOPPED, x.w.playing ? "target" : "rank");
    batch = test_batch(docs.ids, &length, 1);
    MUST(ctx, atv_trainer_accumulate(t, &batch));
    MUST(ctx, atv_trainer_update(t, &a));
    x.w.playing = 0;
    for (r = 0; r < 2; r++) {
        if (r == 0) MUST(x.ctx[r], atv_trainer_accumulate(x.t[r], &batch));
        FAILS(x.ctx[r], atv_trainer_update(x.t[r], &b), ATV_ERR_STOPPED, test_path("reduce failed on rank %d", r));
    }
    after = weights(x.model[1]);
    CHECK(memcmp(before, after, sizeof(float) * (size_t)atv_model_num_parameters(model)) == 0 &&
          atv_trainer_step(x.t[1]) == 0, "a reduction that failed moved the parameters");
    free(before);
    free(after);
    x.w.playing = 1;
    for (r = 0; r < 2; r++) {
        if (r == 0) MUST(x.ctx[r], atv_trainer_accumulate(x.t[r], &batch));
        MUST(x.ctx[r], atv_trainer_update(x.t[r], &b));
        CHECK(b.loss.sum == a.loss.sum && b.loss.tokens == 8 && b.tokens_seen == 9 && same(model, x.model[r]),
              "rank %d of which one has a batch: not what one trainer does", r);
    }

    for (i = at = 0; i < DOCS; at += docs.lengths[i++]) {   /* a document that fails, on the rank that draws it */
        int32_t kept = docs.ids[at + 1];
        int bad = -1;
        docs.ids[at + 1] = 40;
        x.w.playing = 0;
        for (r = 0; r < 2; r++)
            if (atv_trainer_run(x.t[r], &docs.data, 1, NULL, NULL) == ATV_ERR_ARGUMENT) bad = r;
        x.w.playing = 1;
        if (bad >= 0) {
            drawn[bad]++;
            FAILS(x.ctx[bad], atv_trainer_run(x.t[bad], &docs.data, 1, NULL, NULL), ATV_ERR_ARGUMENT, "=40");
            FAILS(x.ctx[!bad], atv_trainer_run(x.t[!bad], &docs.data, 1, NULL, NULL), ATV_ERR_STOPPED, "1 of n_ranks=2");
        }
        docs.ids[at + 1] = kept;
    }
    CHECK(drawn[0] == 8 && drawn[1] == 8, "the ranks draw %d and %d documents, not 8 and 8", drawn[0], drawn[1]);
    step_ranks(&x, &docs.data, &b);
    CHECK(b.step == 2, "after steps that failed, step %ld", (long)b.step);
    for (x.w.playing = 0; x.w.playing < 2; x.w.playing++)
        for (r = 0; r < 2; r++) {
            atv_trainer *fresh;
            d.rank = r;
            d.n_ranks = 2;
            d.reduce = take_turns;
            d.reduce_user = &x.w.seats[r];
            fresh = make(x.model[r], &d);
            FAILS(x.ctx[r], atv_trainer_run(fresh, r ? &others.data : &docs.data, 1, NULL, NULL),
                  x.w.playing ? ATV_ERR_ARGUMENT : ATV_ERR_STOPPED, x.w.playing ? "other documents" : "reduce failed");
            atv_trainer_destroy(fresh);
        }
    atv_trainer_destroy(t);
    d.reduce = sum_nothing;
    t = make(model, &d);
    FAILS(ctx, atv_trainer_run(t, &docs.data, 1, NULL, NULL), ATV_ERR_STOPPED, "1 of n_ranks=2");
    close_ranks(&x);
    atv_trainer_destroy(t);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

/* ---- what a trainer refuses, and that it goes on afterwards ---- */

static void test_failures(void) {
    static documents docs, others;
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = small_config();
    atv_model *model = test_model(ctx, &c, 8, 0.3);
    atv_trainer_desc d;
    atv_trainer *t;
    atv_data data, other, empty;
    atv_step step;
    int ones[4] = { 1, 1, 1, 1 }, length = 9;
    int32_t ids[9] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    atv_batch batch = test_batch(ids, &length, 1);
    float *first, kept;
    memset(&d, 0, sizeof d);
    d.learning_rate = 0.5;
    t = NULL;
    FAILS(ctx, atv_trainer_create(model, &d, &t), ATV_ERR_ARGUMENT, "learning_rate=0.5");
    d.learning_rate = 0;
    d.batch = 2;
    t = make(model, &d);
    make_documents(&docs, 5);
    make_documents(&others, 6);
    data = docs.data;
    other = data;
    other.ids = others.ids;
    other.lengths = others.lengths;
    empty = data;
    empty.lengths = ones;
    empty.n_docs = 4;
    FAILS(ctx, atv_trainer_run(t, &empty, 1, NULL, NULL), ATV_ERR_ARGUMENT, "target");
    MUST(ctx, atv_trainer_run(t, &data, 2, NULL, NULL));      /* the failed step has left nothing behind */
    FAILS(ctx, atv_trainer_run(t, &other, 1, NULL, NULL), ATV_ERR_ARGUMENT, "other documents");
    MUST(ctx, atv_trainer_run(t, &data, 1, NULL, NULL));

    first = (float *)atv_model_tensor(model, 0).tensor.data + 40;
    kept = *first;
    *first = (float)NAN;                                    /* the embedding of a token in the batch below */
    atv_model_changed(model);
    MUST(ctx, atv_trainer_accumulate(t, &batch));
    FAILS(ctx, atv_trainer_update(t, &step), ATV_ERR_ARGUMENT, "not finite");
    CHECK(atv_trainer_step(t) == 3, "a failed update counts as a step");
    *first = kept;
    atv_model_changed(model);
    MUST(ctx, atv_trainer_accumulate(t, &batch));
    MUST(ctx, atv_trainer_update(t, &step));
    CHECK(step.step == 4 && step.loss.tokens == 8, "after a failed update, step %ld has %ld targets", (long)step.step,
          (long)step.loss.tokens);
    atv_trainer_destroy(t);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

int main(void) {
    const char *base = getenv("TMPDIR");
    int isa;
    snprintf(directory, sizeof directory, "%s/attnvar_train_XXXXXX", base && *base ? base : "/tmp");
    if (!CHECK(mkdtemp(directory) != NULL, "no directory %s", directory)) return test_done("train");
    for (isa = ATV_ISA_SCALAR; isa < ATV_ISA_COUNT; isa++) {
        if (!atv_isa_available((atv_isa)isa)) {
            SKIP("training with %s: this machine has none", atv_isa_name((atv_isa)isa));
            continue;
        }
        test_golden((atv_isa)isa);
        test_resuming((atv_isa)isa);
        test_sums((atv_isa)isa);
        test_classifier((atv_isa)isa);
    }
    test_order();
    test_recipe();
    test_ranks();
    test_rank_files();
    test_rank_failures();
    test_memory();
    test_published_memory();
    CHECK(rmdir(directory) == 0, "files were left in %s", directory);
    test_failures();
    return test_done("train");
}
