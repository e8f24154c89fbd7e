/* bench.h: `attnvar bench`, the library beside the machine's limits.

   Both are measured in one process: before, between and after the repeats of whatever is timed, and within those that take
   long, limits.h finds the multiply-adds that all lanes do together and the bytes that they read of the step's own memory.
   The limit of a stretch is its phases' least time at the mean of the limits before and after it. Told are medians over the
   repeats: of the value, of the limit, and of value / limit.

   Contents: results, the meter, products, decoding, training, variants in pairs, ragged batches, the command. */
#ifndef BENCH_H
#define BENCH_H

/* ==== Results ===================================================================================================== */

/* One line of the table, medians over the repeats. */
typedef struct bench_result {
    char work[16];                  /* matmul, decode, train, variants, ragged */
    char shape[96], variant[24], isa[12], unit[16];
    int batch, context, threads;    /* of a product batch is its rows; context 0: none */
    double value, limit, fraction;  /* value and limit in `unit`; fraction: the median of value / limit */
    double flops, bytes;            /* that one unit of value needs (a token, 10^9 operations): FLOP/s are value * flops */
    double peak, rate;              /* FLOP/s of multiply-adds, bytes/s read, measured beside it */
} bench_result;

#include "roofline.h"

typedef struct bench {
    const args *a;
    double started;
    char machine[256];
    bench_result *results;
    size_t n, room;
} bench;

/* Repeats where --repeats does not say: as many as fit into a case's seconds, at least 3; one when all together is late. */
enum { BENCH_REPEATS = 11, BENCH_FEWEST = 3, BENCH_PAIRS = 9 };
#define BENCH_CASE 2.5
#define BENCH_ALL 36.0

static int by_value(const void *x, const void *y) {
    double p = *(const double *)x, q = *(const double *)y;
    return (p > q) - (p < q);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* What the processor calls itself. */
static void bench_processor(char *out, size_t size) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    struct utsname system;
    char line[256];
    snprintf(out, size, "%s", uname(&system) >= 0 ? system.machine : "?");
    while (file && fgets(line, sizeof line, file)) {
        char *name = strstr(line, ": ");
        if (strncmp(line, "model name", 10) != 0 || !name) continue;
        name[strcspn(name, "\n")] = 0;
        snprintf(out, size, "%s", name + 2);
        break;
    }
    if (file) fclose(file);
}

static void bench_tell(bench *b, bench_result *r) {
    record line = begin(b->a);
    r->threads = atv_ctx_info(ctx)->n_threads;
    snprintf(r->isa, sizeof r->isa, "%s", atv_isa_name(atv_ctx_info(ctx)->isa));
    b->results = (bench_result *)grow(b->results, b->n, b->n + 1, &b->room, sizeof *r);
    b->results[b->n++] = *r;
    if (!line.json) {
        char context[16] = "-";
        if (r->context) snprintf(context, sizeof context, "%d", r->context);
        printf("%-7s %-52s %-8s %5d %7s %9.*f %-8s %9.*f %8.3f\n", r->work, r->shape, r->variant, r->batch, context,
               r->value < 1000, r->value, r->unit, r->limit < 1000, r->limit, r->fraction);
        fflush(stdout);
        return;
    }
    put_text(&line, "work", r->work);
    put_text(&line, "shape", r->shape);
    put_text(&line, "variant", r->variant);
    put_whole(&line, "batch", r->batch);
    put_whole(&line, "context", r->context);
    put_text(&line, "dtype", "f32");
    put_text(&line, "isa", r->isa);
    put_whole(&line, "threads", r->threads);
    put_real(&line, "value", r->value);
    put_text(&line, "unit", r->unit);
    put_real(&line, "limit", r->limit);
    put_real(&line, "fraction", r->fraction);
    finish(&line);
}

/* ==== The meter =================================================================================================== */

/* Times one repeat, and what it would take at the limits. */
typedef struct meter {
    const atv_model *model;         /* whose packed weights are read, */
    const atv_decoder *decoder;     /* and whose caches; NULL: none */
    limits_area area;               /* instead of these, if it has a size */
    double peak, rate;              /* when last looked at */
    limits_phase *phases;           /* [n_phases] since then */
    int n_phases;
    double since;
    double seconds, least, units, flops, bytes;             /* of the repeat */
    double peaks, rates;            /* sums over the looks of the repeat */
    int looks;
} meter;

static meter meter_open(const atv_model *model, const atv_decoder *decoder) {
    meter m = {0};
    m.model = model;
    m.decoder = decoder;
    m.n_phases = 1 + atv_model_config(model)->num_layers;
    m.phases = (limits_phase *)allocate((size_t)m.n_phases, sizeof *m.phases);
    memset(m.phases, 0, (size_t)m.n_phases * sizeof *m.phases);
    return m;
}

static void meter_close(meter *m) { free(m->phases); }

static void meter_look(meter *m) {
    limits_area *areas = NULL;
    int n = 1;
    if (!m->area.size) areas = limits_areas(m->model, m->decoder, 0, &n);
    if (!m->area.size && !areas) die("no memory for a list of %d areas", n);
    m->peak = limits_flops(ctx, 0.01);
    m->rate = limits_read(ctx, areas ? areas : &m->area, n, 0.01);
    free(areas);
    m->peaks += m->peak;
    m->rates += m->rate;
    m->looks++;
}

static void meter_begin(meter *m) {
    if (m->looks == 0) meter_look(m);
    m->seconds = m->least = m->units = m->flops = m->bytes = 0;
    m->peaks = m->peak;
    m->rates = m->rate;
    m->looks = 1;
    m->since = now();
}

/* Work done since the last call: phases of it, and units of value. */
static void meter_add(meter *m, const limits_phase *phases, int n, double units) {
    int i;
    for (i = 0; i < n; i++) {
        m->phases[i].flops += phases[i].flops;
        m->phases[i].bytes += phases[i].bytes;
        m->flops += phases[i].flops;
        m->bytes += phases[i].bytes;
    }
    m->units += units;
}

static void meter_end(meter *m) {
    double peak = m->peak, rate = m->rate;
    m->seconds += now() - m->since;
    meter_look(m);
    m->least += limits_seconds(m->phases, m->n_phases, 0.5 * (peak + m->peak), 0.5 * (rate + m->rate));
    memset(m->phases, 0, (size_t)m->n_phases * sizeof *m->phases);
    m->since = now();
}

/* Between the steps of a repeat: looks at the limits again, seldom enough to leave its time alone. */
static void meter_pass(meter *m) { if (now() - m->since > 0.05) meter_end(m); }

static void bench_shape(const atv_config *c, char *out, size_t size) {
    atv_layer l = atv_config_layer(c, 0);
    int window = 0, i;
    for (i = 0; i < c->num_layers; i++) window = (int)most(window, atv_config_layer(c, i).window_size);
    snprintf(out, size, "V=%d,C=%d,L=%d,H=%d,G=%d,S=%d,F=%d,W=%d", c->vocab_size, c->hidden_size, c->num_layers, l.num_heads,
             l.num_key_value_heads, l.num_heads * l.head_dim, l.intermediate_size, window);
}

static bench_result bench_line(const char *work, const atv_model *model, int batch, int context, const char *unit) {
    bench_result r = {0};
    snprintf(r.work, sizeof r.work, "%s", work);
    bench_shape(atv_model_config(model), r.shape, sizeof r.shape);
    snprintf(r.variant, sizeof r.variant, "%s", atv_variant_name(atv_config_variant(atv_model_config(model))));
    r.batch = batch;
    r.context = context;
    snprintf(r.unit, sizeof r.unit, "%s", unit);
    return r;
}

/* Repeats `once`, which feeds the meter, after a first time that does not count, and tells the medians. */
static void bench_repeat(bench *b, bench_result *r, meter *m, void (*once)(void *job, meter *m), void *job) {
    int asked = small(b->a, "repeats"), most_repeats = asked ? asked : BENCH_REPEATS, n = 0;
    double *all = (double *)allocate(5 * (size_t)most_repeats, sizeof *all), started;
    double *values = all, *limits = all + most_repeats, *fractions = limits + most_repeats;
    double *peaks = fractions + most_repeats, *rates = peaks + most_repeats;
    meter_begin(m);
    once(job, m);
    meter_end(m);
    started = now();
    do {
        meter_begin(m);
        once(job, m);
        meter_end(m);
        values[n] = m->units / m->seconds;
        limits[n] = m->units / m->least;
        fractions[n] = m->least / m->seconds;
        peaks[n] = m->peaks / m->looks;
        rates[n++] = m->rates / m->looks;
    } while (n < most_repeats &&
             (asked || (now() - b->started < BENCH_ALL && (n < BENCH_FEWEST || now() - started < BENCH_CASE))));
    r->value = median(values, n);
    r->limit = median(limits, n);
    r->fraction = median(fractions, n);
    r->peak = median(peaks, n);
    r->rate = median(rates, n);
    r->flops = m->flops / m->units;
    r->bytes = m->bytes / m->units;
    free(all);
    bench_tell(b, r);
}

/* ==== Models ====================================================================================================== */

static void bench_fill_item(void *arg, int64_t item, int lane) {
    const atv_tensor *t = (const atv_tensor *)arg;
    atv_rng rng = {(uint64_t)item};
    float *p = (float *)t->data + item * 4096;
    int64_t i, n = least(4096, atv_tensor_count(t) - item * 4096);
    (void)lane;
    for (i = 0; i < n; i++) p[i] = (float)(atv_rng_uniform(&rng) - 0.5) * 0.07f;
}

/* Any numbers of the usual size will do, and come faster than those of atv_model_init. */
static atv_model *bench_model(const atv_config *config) {
    atv_model *model;
    int i;
    check(atv_model_create(ctx, config, &model));
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        atv_named_tensor t = atv_model_tensor(model, i);
        int64_t k, n = atv_tensor_count(&t.tensor);
        if (t.tensor.rank == 2) atvi_parallel(ctx, (n + 4095) / 4096, bench_fill_item, &t.tensor);
        else for (k = 0; k < n; k++) ((float *)t.tensor.data)[k] = strstr(t.name, ".weight") != NULL;
    }
    atv_model_changed(model);
    return model;
}

/* The options' shape in a variant. */
static atv_config bench_config(const args *a, atv_variant variant, double group, double kqv, int context) {
    atv_config config = {0};
    config.vocab_size = small(a, "vocab");
    config.max_position_embeddings = context;
    config.hidden_size = small(a, "hidden");
    config.num_layers = small(a, "layers");
    config.num_heads = small(a, "heads");
    config.window_size = small(a, "window");
    check(atv_config_preset(ctx, variant, group, kqv, small(a, "ffn-base"), &config));
    return config;
}

static atv_model *bench_asked_model(const args *a, int context) {
    atv_config config = bench_config(a, (atv_variant)choice(a, "variant"), real(a, "group-proportion"),
                                     real(a, "kqv-proportion"), context);
    return bench_model(&config);
}

static float *bench_numbers(int64_t n) {
    float *p = (float *)atvi_alloc(ctx, (size_t)n * sizeof *p);
    atv_tensor t;
    if (!p) die("%s", atv_last_error(ctx));
    t = atv_tensor_view(p, ATV_F32, n, 0, 0, 0);
    atvi_parallel(ctx, (n + 4095) / 4096, bench_fill_item, &t);
    return p;
}

static int32_t *random_ids(int64_t n, int vocab) {
    int32_t *ids = (int32_t *)allocate((size_t)n, sizeof *ids);
    atv_rng rng = {1};
    int64_t i;
    for (i = 0; i < n; i++) ids[i] = (int32_t)atv_rng_below(&rng, (uint32_t)vocab);
    return ids;
}

/* ==== Products ==================================================================================================== */

/* Y = X W^T, dX = dY W or dW += dY^T X of one matrix W [N,K] of a model, or of all one after the other. */
typedef struct products {
    const atv_model *model;
    int only;                       /* the parameter; -1: all matrices */
    int kind;                       /* 0 Y, 1 dX, 2 dW */
    int rows;
    float *x, *y, *dw, *scratch;    /* [rows,largest K] [rows,largest N] [largest N K] [atvi_product_scratch] */
} products;

static int products_has(const products *p, int i) {
    return p->model->params[i].packed && (p->only < 0 || p->only == i);
}

static void products_once(void *job, meter *m) {
    const products *p = (const products *)job;
    double started = now();
    do {
        int i;
        for (i = 0; i < p->model->n_params; i++) {
            const atvi_param *w = &p->model->params[i];
            int64_t N = w->dims[0], K = w->dims[1];
            limits_phase phase = {"matrix product", 0, 0};
            if (!products_has(p, i)) continue;
            if (p->kind == 0) atvi_linear(ctx, p->rows, N, K, p->x, w->packed, NULL, p->y, 0, p->scratch);
            if (p->kind == 1) atvi_product(ctx, p->rows, K, N, p->y, N, 1, w->p, p->x, 0, p->scratch);
            if (p->kind == 2) atvi_product(ctx, N, K, p->rows, p->y, 1, N, p->x, p->dw, 1, p->scratch);
            phase.flops = 2.0 * p->rows * (double)N * (double)K;
            phase.bytes = 4.0 * (double)N * (double)K;
            meter_add(m, &phase, 1, 1e-9 * phase.flops);
        }
    } while (now() - started < 0.03);
}

static void bench_products(bench *b, products *p) {
    static const char *const kinds[] = {"Y=XW'", "dX=dYW", "dW=dY'X"};
    const atvi_param *w = p->only < 0 ? NULL : &p->model->params[p->only];
    bench_result r = bench_line("matmul", p->model, p->rows, 0, "GFLOP/s");
    meter m = meter_open(p->model, NULL);
    if (w) {
        m.area.p = p->kind ? w->p : w->packed;
        m.area.size = (size_t)(w->dims[0] * w->dims[1]) * sizeof(float);
        snprintf(r.shape, sizeof r.shape, "%s,N=%d,K=%d", kinds[p->kind], (int)w->dims[0], (int)w->dims[1]);
    } else {
        char shape[80];
        bench_shape(atv_model_config(p->model), shape, sizeof shape);
        *strstr(shape, ",W=") = 0;
        snprintf(r.shape, sizeof r.shape, "%s,%s", kinds[p->kind], shape);
    }
    bench_repeat(b, &r, &m, products_once, p);
    meter_close(&m);
}

/* All matrices together with each number of rows; from 512 rows on also each alone, and the backward's products. */
static void bench_matmul(bench *b) {
    products p = {0};
    size_t n_rows, k;
    int32_t *all = list(b->a, "rows", &n_rows);
    int64_t most_rows = 0, most_n = 0, most_k = 0, most_nk = 0;
    int i, seen;
    p.model = bench_asked_model(b->a, small(b->a, "context"));
    atvi_model_pack((atv_model *)(uintptr_t)p.model);
    for (k = 0; k < n_rows; k++) most_rows = most(most_rows, all[k]);
    for (i = 0; i < p.model->n_params; i++) {
        const int64_t *d = p.model->params[i].dims;
        if (!p.model->params[i].packed) continue;
        most_n = most(most_n, d[0]);
        most_k = most(most_k, d[1]);
        most_nk = most(most_nk, d[0] * d[1]);
    }
    p.x = bench_numbers(most_rows * most_k);
    p.y = bench_numbers(most_rows * most_n);
    p.dw = bench_numbers(most_nk);
    p.scratch = bench_numbers((int64_t)atvi_product_scratch(ctx));
    for (k = 0; k < n_rows; k++) {
        p.rows = all[k];
        for (p.kind = 0; p.kind < (p.rows >= 512 ? 3 : 1); p.kind++) {
            p.only = -1;
            bench_products(b, &p);
            for (p.only = 0; p.only < p.model->n_params && p.rows >= 512; p.only++) {
                const int64_t *d = p.model->params[p.only].dims;
                for (seen = 0; seen < p.only; seen++)       /* one of each shape */
                    if (p.model->params[seen].packed && memcmp(d, p.model->params[seen].dims, 2 * sizeof *d) == 0) break;
                if (p.model->params[p.only].packed && seen == p.only) bench_products(b, &p);
            }
        }
    }
    atvi_free(ctx, p.scratch);
    atvi_free(ctx, p.dw);
    atvi_free(ctx, p.y);
    atvi_free(ctx, p.x);
    atv_model_destroy((atv_model *)(uintptr_t)p.model);
    free(all);
}

/* ==== Decoding ==================================================================================================== */

/* Steps of `batch` sequences at contexts first..last (the new token counted): all of them upwards, or every few downwards,
   since a cache can be cut back. */
typedef struct decoding {
    atv_decoder *decoder;
    const atv_config *config;
    int batch, first, last, every;
    int full;                       /* a sequence as long as a run begins with; -1: that is none */
    atv_decode_input *inputs;
    int32_t *next;                  /* [batch] */
    float *logits;                  /* [batch,V] */
    limits_phase *phases;
    atv_rng rng;
} decoding;

/* A run of all sequences has at most `most_tokens` tokens, unless `every` says which contexts. */
static decoding decoding_open(atv_model *model, int batch, int first, int last, int every, int most_tokens) {
    const atv_config *c = atv_model_config(model);
    atv_decoder_desc desc = {0};
    decoding d = {0};
    int filled, i;
    d.config = c;
    d.batch = batch;
    d.first = first;
    d.last = last;
    d.every = every ? every : (int)(((int64_t)batch * (last - first + 1) + most_tokens - 1) / most_tokens);
    d.every = (int)least(d.every, last - first + 1);
    d.rng.state = 2;
    d.inputs = (atv_decode_input *)allocate((size_t)batch, sizeof *d.inputs);
    d.next = (int32_t *)allocate((size_t)batch, sizeof *d.next);
    d.logits = (float *)allocate((size_t)batch * (size_t)c->vocab_size, sizeof *d.logits);
    d.phases = (limits_phase *)allocate((size_t)c->num_layers + 1, sizeof *d.phases);
    filled = d.every > 1 ? last - 1 : first - 1;
    desc.n_seq = batch + (filled > 0);
    desc.max_positions = last;
    desc.max_rewind = last - first + 1;
    check(atv_decoder_create(model, &desc, &d.decoder));
    d.full = -1;
    if (filled > 0) {
        atv_decode_input prompt = {0, NULL, 0};
        int32_t *ids = random_ids(filled, c->vocab_size);
        check(atv_decoder_add(d.decoder, &prompt.seq));
        prompt.ids = ids;
        prompt.n_ids = filled;
        check(atv_decode(d.decoder, &prompt, 1, d.logits));
        d.full = prompt.seq;
        free(ids);
    }
    for (i = 0; i < batch; i++) {
        check(atv_decoder_add(d.decoder, &d.inputs[i].seq));
        d.inputs[i].ids = &d.next[i];
        d.inputs[i].n_ids = 1;
    }
    return d;
}

/* Every sequence as a run finds it. */
static void decoding_reset(decoding *d) {
    int i;
    for (i = 0; i < d->batch; i++) {
        check(atv_decoder_drop(d->decoder, d->inputs[i].seq));
        if (d->full < 0) check(atv_decoder_add(d->decoder, &d->inputs[i].seq));
        else check(atv_decoder_copy(d->decoder, d->full, &d->inputs[i].seq));
    }
}

static void decoding_close(decoding *d) {
    atv_decoder_destroy(d->decoder);
    free(d->phases);
    free(d->logits);
    free(d->next);
    free(d->inputs);
}

static void decoding_step(decoding *d, meter *m, int context) {
    int i, n;
    for (i = 0; i < d->batch; i++) d->next[i] = (int32_t)atv_rng_below(&d->rng, (uint32_t)d->config->vocab_size);
    check(atv_decode(d->decoder, d->inputs, d->batch, d->logits));
    n = limits_decode_phases(d->config, d->batch, context, context, d->phases);
    meter_add(m, d->phases, n, d->batch);
}

/* What a step reads grows with the context, which may move it to a slower level of memory: the limits are those of the caches
   at the beginning, at the end, and now and then between. */
static void decoding_once(void *job, meter *m) {
    decoding *d = (decoding *)job;
    int context = d->every > 1 ? d->last - (d->every - 1) / 2 : d->first, i;
    decoding_reset(d);
    m->looks = 0;                                           /* caches are not what they were at the last look */
    meter_begin(m);
    while (context >= d->first && context <= d->last) {
        for (i = 0; i < d->batch && d->every > 1; i++) check(atv_decoder_cut(d->decoder, d->inputs[i].seq, context - 1));
        decoding_step(d, m, context);
        meter_pass(m);
        context += d->every > 1 ? -d->every : 1;
    }
}

static void bench_decode_model(bench *b, atv_model *model, int batch, int first, int last) {
    decoding d = decoding_open(model, batch, first, last, small(b->a, "every"), 16384);
    bench_result r = bench_line("decode", model, batch, last, "tokens/s");
    meter m = meter_open(model, d.decoder);
    bench_repeat(b, &r, &m, decoding_once, &d);
    meter_close(&m);
    decoding_close(&d);
}

static void bench_decode(bench *b) {
    int context = small(b->a, "context"), first = given(b->a, "tokens") ? context + 1 - small(b->a, "tokens") : 1;
    size_t n, i;
    int32_t *batches = list(b->a, "batch", &n);
    atv_model *model = bench_asked_model(b->a, context);
    for (i = 0; i < n; i++) bench_decode_model(b, model, batches[i], first, context);
    atv_model_destroy(model);
    free(batches);
}

static void bench_gpt2(bench *b) {
    static const int all_global[12] = {0};
    atv_config config = {0};
    atv_model *model;
    config.vocab_size = 50257;
    config.max_position_embeddings = 64;
    config.hidden_size = 768;
    config.num_layers = config.num_heads = 12;
    config.windows = all_global;
    model = bench_model(&config);
    bench_decode_model(b, model, 1, 1, 64);
    atv_model_destroy(model);
}

/* ==== Training ==================================================================================================== */

/* One step: forward, loss, backward, clipping, AdamW. */
typedef struct stepping {
    atv_trainer *trainer;
    atv_batch batch;
    const int *lengths;             /* of what counts: shorter than the batch's where that is padded */
    limits_phase *phases;
} stepping;

static stepping stepping_open(atv_model *model, int n_seq) {
    atv_trainer_desc desc = {0};
    stepping s = {0};
    desc.batch = n_seq;
    desc.max_grad_norm = 1;
    desc.weight_decay = 0.01;
    check(atv_trainer_create(model, &desc, &s.trainer));
    s.phases = (limits_phase *)allocate((size_t)atv_model_config(model)->num_layers + 1, sizeof *s.phases);
    s.batch.n_seq = n_seq;
    return s;
}

static void stepping_close(stepping *s) {
    atv_trainer_destroy(s->trainer);
    free(s->phases);
}

static void stepping_once(void *job, meter *m) {
    stepping *s = (stepping *)job;
    atv_step step;
    double tokens = 0;
    int i, n;
    check(atv_trainer_accumulate(s->trainer, &s->batch));
    check(atv_trainer_update(s->trainer, &step));
    for (i = 0; i < s->batch.n_seq; i++) tokens += s->lengths[i];
    n = limits_train_phases(atv_model_config(m->model), s->batch.n_seq, s->lengths, s->phases);
    meter_add(m, s->phases, n, tokens);
}

static void bench_train(bench *b) {
    int length = small(b->a, "length"), n_seq = small(b->a, "train-batch"), i;
    atv_model *model = bench_asked_model(b->a, length);
    int32_t *ids = random_ids((int64_t)n_seq * length, atv_model_config(model)->vocab_size);
    int *lengths = (int *)allocate((size_t)n_seq, sizeof *lengths);
    stepping s = stepping_open(model, n_seq);
    bench_result r = bench_line("train", model, n_seq, length, "tokens/s");
    meter m = meter_open(model, NULL);
    for (i = 0; i < n_seq; i++) lengths[i] = length;
    s.batch.ids = ids;
    s.batch.lengths = s.lengths = lengths;
    bench_repeat(b, &r, &m, stepping_once, &s);
    meter_close(&m);
    stepping_close(&s);
    free(lengths);
    free(ids);
    atv_model_destroy(model);
}

/* ==== Variants in pairs =========================================================================================== */

/* Of n sorted values those that have the median between them with 95 % or more, by the sign test. */
static void median_interval(const double *sorted, int n, double *low, double *high) {
    double tail = 0, term = pow(0.5, n);
    int k;
    for (k = 0; k < n / 2 && tail + term <= 0.025; k++) {
        tail += term;
        term *= (double)(n - k) / (k + 1);
    }
    k = (int)most(k - 1, 0);
    *low = sorted[k];
    *high = sorted[n - 1 - k];
}

typedef struct pairing {
    atv_model *model;
    decoding d;
    meter m;
} pairing;

static pairing pairing_open(const atv_config *config, int batch, int first, int last, int every) {
    pairing p;
    p.model = bench_model(config);
    p.d = decoding_open(p.model, batch, first, last, every, 4096);
    p.m = meter_open(p.model, p.d.decoder);
    return p;
}

static void pairing_close(pairing *p) {
    meter_close(&p->m);
    decoding_close(&p->d);
    atv_model_destroy(p->model);
}

static void pairing_once(pairing *p) {
    decoding_once(&p->d, &p->m);
    meter_end(&p->m);
}

/* One beside another: value and limit are ratios of their speeds. */
typedef struct bench_ratio {
    const char *work, *variant, *against;
    const atv_model *model;
    int batch, context, n;
    double *ratios, *predicted;     /* [n] */
} bench_ratio;

/* With `gain` the fraction is that of what the limit lets it gain, where that is 5 % or more; else value / limit. */
static void bench_tell_ratio(const bench *b, const bench_ratio *r, int gain) {
    double value = median(r->ratios, r->n), limit = median(r->predicted, r->n), fraction = value / limit, low, high;
    char shape[96], part[16] = "-";
    record line = begin(b->a);
    median_interval(r->ratios, r->n, &low, &high);
    if (gain) fraction = limit > 1.05 ? (value - 1) / (limit - 1) : NAN;
    if (!line.json) {
        if (fraction == fraction) snprintf(part, sizeof part, "%.2f", fraction);
        printf("%-25s %-20s %5d %7d %8.3f (%.3f..%.3f) %9.3f %8s\n", r->variant, r->against, r->batch, r->context,
               value, low, high, limit, part);
        fflush(stdout);
        return;
    }
    bench_shape(atv_model_config(r->model), shape, sizeof shape);
    put_text(&line, "work", r->work);
    put_text(&line, "shape", shape);
    put_text(&line, "variant", r->variant);
    put_text(&line, "against", r->against);
    put_whole(&line, "batch", r->batch);
    put_whole(&line, "context", r->context);
    put_text(&line, "dtype", "f32");
    put_text(&line, "isa", atv_isa_name(atv_ctx_info(ctx)->isa));
    put_whole(&line, "threads", atv_ctx_info(ctx)->n_threads);
    put_real(&line, "value", value);
    put_text(&line, "unit", "times");
    put_real(&line, "limit", limit);
    put_real(&line, "fraction", fraction);
    put_real(&line, "low", low);
    put_real(&line, "high", high);
    finish(&line);
}

static void ratio_header(const bench *b, const char *what, const char *against, const char *fraction) {
    if (!given(b->a, "json"))
        printf("%-25s %-20s %5s %7s %8s %-16s %9s %8s\n", what, against, "batch", "context", "speed", "(95 % of pairs)",
               "predicted", fraction);
}

/* Runs in pairs whose order alternates, after one that does not count. */
static void bench_pairs(bench *b, pairing *one, pairing *other, const char *name, const char *against, int gain) {
    bench_ratio r = {"variants", NULL, NULL, NULL, 0, 0, 0, NULL, NULL};
    int n = small(b->a, "repeats") ? small(b->a, "repeats") : BENCH_PAIRS, i;
    r.variant = name;
    r.against = against;
    r.model = one->model;
    r.batch = one->d.batch;
    r.context = one->d.last;
    r.n = n;
    r.ratios = (double *)allocate(2 * (size_t)n, sizeof *r.ratios);
    r.predicted = r.ratios + n;
    for (i = -1; i < n; i++) {
        pairing_once(i % 2 ? one : other);
        pairing_once(i % 2 ? other : one);
        if (i < 0) continue;
        r.ratios[i] = other->m.seconds / one->m.seconds;
        r.predicted[i] = other->m.least / one->m.least;
    }
    bench_tell_ratio(b, &r, gain);
    free(r.ratios);
}

/* G groups of H heads, the first as large as can be: H=8, G=4 is 5 1 1 1. */
static void lopsided_groups(int *kv_of_head, int H, int G) {
    int h;
    for (h = 0; h < H; h++) kv_of_head[h] = (int)most(0, h - (H - G));
}

/* Every variant against MHA, then uneven groups against even ones, at contexts first..last. */
static void bench_variants_at(bench *b, int batch, int first, int last, int positions) {
    static const struct { atv_variant variant; double group, kqv; const char *name; } all[] = {
        {ATV_GQA, 0.75, 1, "gqa .75"}, {ATV_GQA, 0.5, 1, "gqa .5"},
        {ATV_GQA, 0.25, 1, "gqa .25"}, {ATV_GQA, 0.125, 1, "gqa .125"},
        {ATV_KQV, 1, 0.75, "kqv .75"}, {ATV_KQV, 1, 0.5, "kqv .5"},
        {ATV_KQV, 1, 0.25, "kqv .25"}, {ATV_KQV, 1, 0.125, "kqv .125"},
        {ATV_COMBINED, 0.5, 0.5, "combined .5/.5"},
    };
    int every = small(b->a, "every"), H = small(b->a, "heads"), G;
    atv_config config = bench_config(b->a, ATV_MHA, 1, 1, positions);
    pairing base = pairing_open(&config, batch, first, last, every), one;
    size_t i;
    for (i = 0; i < sizeof all / sizeof *all; i++) {
        config = bench_config(b->a, all[i].variant, all[i].group, all[i].kqv, positions);
        one = pairing_open(&config, batch, first, last, every);
        bench_pairs(b, &one, &base, all[i].name, "mha", 1);
        pairing_close(&one);
    }
    pairing_close(&base);
    for (G = H / 2; G > 1; G /= 2) {
        int *kv_of_head = (int *)allocate((size_t)H, sizeof *kv_of_head);
        char name[48], against[48];
        if (H % G) continue;
        config = bench_config(b->a, ATV_GQA, (double)G / H, 1, positions);
        base = pairing_open(&config, batch, first, last, every);
        lopsided_groups(kv_of_head, H, G);
        config.kv_of_head = kv_of_head;
        one = pairing_open(&config, batch, first, last, every);
        snprintf(name, sizeof name, "gqa, groups of %d, then 1", H - G + 1);
        snprintf(against, sizeof against, "%d groups of %d", G, H / G);
        bench_pairs(b, &one, &base, name, against, 0);
        pairing_close(&one);
        pairing_close(&base);
        free(kv_of_head);
    }
}

/* At each batch as the context grows, and at the last batch where it is twice as long. */
static void bench_variants(bench *b) {
    int context = small(b->a, "context"), tokens = given(b->a, "tokens") ? small(b->a, "tokens") : context;
    size_t n, i;
    int32_t *batches = list(b->a, "batch", &n);
    ratio_header(b, "variant", "against", "of gain");
    for (i = 0; i < n; i++) bench_variants_at(b, batches[i], context + 1 - tokens, context, 2 * context);
    bench_variants_at(b, batches[n - 1], 2 * context + 1 - (int)least(8, context), 2 * context, 2 * context);
    free(batches);
}

/* ==== Ragged batches ============================================================================================== */

/* The documents of a batch end to end, or each with its row filled up to `length` with ids that predict nothing. */
typedef struct raggedness {
    atv_model *model;
    atv_data data;
    int n_seq, length;
    int32_t *padded, *targets;      /* [n_seq,length] */
    int *full;                      /* [n_seq] all `length` */
} raggedness;

static atv_batch ragged_batch(const raggedness *g, int64_t first, int pads) {
    atv_batch batch = {0};
    const int32_t *ids = g->data.ids;
    int64_t i, k;
    for (i = 0; i < first; i++) ids += g->data.lengths[i];
    batch.n_seq = g->n_seq;
    batch.ids = ids;
    batch.lengths = g->data.lengths + first;
    if (!pads) return batch;
    for (i = 0; i < g->n_seq; i++) {
        int n = batch.lengths[i];
        for (k = 0; k < g->length; k++) {
            g->padded[i * g->length + k] = k < n ? ids[k] : 0;
            g->targets[i * g->length + k] = k + 1 < n ? ids[k + 1] : -100;
        }
        ids += n;
    }
    batch.ids = g->padded;
    batch.targets = g->targets;
    batch.lengths = g->full;
    return batch;
}

/* Steps on the same documents in pairs, ragged and padded. */
static void bench_ragged_steps(bench *b, const raggedness *g) {
    bench_ratio ratio = {"ragged", "ragged", "padded", NULL, 0, 0, 0, NULL, NULL};
    int n = small(b->a, "repeats") ? small(b->a, "repeats") : BENCH_FEWEST + 2, i, way, k;
    double *all = (double *)allocate(8 * (size_t)n, sizeof *all), *rates[2], *limits[2], *fractions[2];
    stepping s = stepping_open(g->model, g->n_seq);
    meter m = meter_open(g->model, NULL);
    ratio.model = g->model;
    ratio.batch = g->n_seq;
    ratio.context = g->length;
    ratio.n = n;
    ratio.ratios = all;
    ratio.predicted = all + n;
    for (way = 0; way < 2; way++) {
        rates[way] = all + (2 + 3 * way) * n;
        limits[way] = rates[way] + n;
        fractions[way] = limits[way] + n;
    }
    for (i = -1; i < n; i++) {
        int64_t first = (i + 1) % (g->data.n_docs / g->n_seq) * g->n_seq;
        double seconds[2] = {0, 0};
        for (k = 0; k < 2; k++) {
            way = (i + k) & 1;
            s.batch = ragged_batch(g, first, way);
            s.lengths = g->data.lengths + first;
            meter_begin(&m);
            stepping_once(&s, &m);
            meter_end(&m);
            seconds[way] = m.seconds;
            if (i < 0) continue;
            rates[way][i] = m.units / m.seconds;
            limits[way][i] = m.units / m.least;
            fractions[way][i] = m.least / m.seconds;
        }
        if (i < 0) continue;
        ratio.ratios[i] = seconds[1] / seconds[0];
        k = limits_train_phases(atv_model_config(g->model), g->n_seq, g->full, s.phases);
        ratio.predicted[i] = limits_seconds(s.phases, k, m.peak, m.rate);
        k = limits_train_phases(atv_model_config(g->model), g->n_seq, s.lengths, s.phases);
        ratio.predicted[i] /= limits_seconds(s.phases, k, m.peak, m.rate);
    }
    for (way = 0; way < 2; way++) {
        bench_result r = bench_line("ragged", g->model, g->n_seq, g->length, "tokens/s");
        char shape[80];
        bench_shape(atv_model_config(g->model), shape, sizeof shape);
        snprintf(r.shape, sizeof r.shape, "%s,%s", way ? "padded" : "ragged", shape);
        r.value = median(rates[way], n);
        r.limit = median(limits[way], n);
        r.fraction = median(fractions[way], n);
        r.peak = m.peak;
        r.rate = m.rate;
        r.flops = m.flops / m.units;
        r.bytes = m.bytes / m.units;
        bench_tell(b, &r);
    }
    ratio_header(b, "batches", "against", "fraction");
    bench_tell_ratio(b, &ratio, 0);
    meter_close(&m);
    stepping_close(&s);
    free(all);
}

static void bench_ragged(bench *b) {
    raggedness g = {0};
    char *path = file_in(words(b->a, "data"), "train.txt"), *text;
    size_t size;
    int64_t room;
    atv_tokenizer *tokenizer;
    atv_config config;
    g.n_seq = small(b->a, "train-batch");
    g.length = small(b->a, "length");
    text = read_all(path, &size);
    size = (size_t)least((int64_t)size, 1 << 20);           /* documents enough */
    tokenizer = given(b->a, "tokenizer") ? load_tokenizer(words(b->a, "tokenizer"))
                                         : train_tokenizer(text, size, small(b->a, "vocab"));
    g.data = encode_documents(tokenizer, path, text, size, g.length);
    if (g.data.n_docs < g.n_seq) die("%s: has %d documents, but --train-batch=%d", path, g.data.n_docs, g.n_seq);
    config = bench_config(b->a, (atv_variant)choice(b->a, "variant"), real(b->a, "group-proportion"),
                          real(b->a, "kqv-proportion"), g.length);
    config.vocab_size = atv_tokenizer_vocab_size(tokenizer);
    g.model = bench_model(&config);
    room = (int64_t)g.n_seq * g.length;
    g.padded = (int32_t *)allocate((size_t)room, sizeof *g.padded);
    g.targets = (int32_t *)allocate((size_t)room, sizeof *g.targets);
    g.full = (int *)allocate((size_t)g.n_seq, sizeof *g.full);
    for (room = 0; room < g.n_seq; room++) g.full[room] = g.length;
    bench_ragged_steps(b, &g);
    free(g.full);
    free(g.targets);
    free(g.padded);
    free_data(&g.data);
    atv_model_destroy(g.model);
    atv_tokenizer_destroy(tokenizer);
    free(text);
    free(path);
}

/* ==== The command ================================================================================================= */

enum { BENCH_STANDARD, BENCH_MATMUL, BENCH_DECODE, BENCH_TRAIN, BENCH_GPT2, BENCH_VARIANTS, BENCH_RAGGED };

/* The machine and its limits: of reading what the caches may hold, and what they may not. */
static void bench_machine(bench *b) {
    const int megabytes[] = {28, 500};
    char processor[160];
    double peak = limits_flops(ctx, 0.1), rates[2];
    int i;
    for (i = 0; i < 2; i++) {
        limits_area area;
        area.size = (size_t)megabytes[i] * 1000000;
        area.p = bench_numbers((int64_t)(area.size / sizeof(float)));
        limits_read(ctx, &area, 1, 0);
        rates[i] = limits_read(ctx, &area, 1, 0.1);
        atvi_free(ctx, (void *)(uintptr_t)area.p);
    }
    bench_processor(processor, sizeof processor);
    snprintf(b->machine, sizeof b->machine, "%s, %d thread%s, %s: %.0f GFLOP/s, reads %.0f GB/s (%d MB), %.0f GB/s (%d MB)",
             processor, atv_ctx_info(ctx)->n_threads, atv_ctx_info(ctx)->n_threads > 1 ? "s" : "",
             atv_isa_name(atv_ctx_info(ctx)->isa), peak * 1e-9,
             rates[0] * 1e-9, megabytes[0], rates[1] * 1e-9, megabytes[1]);
}

static void check_bench_args(const args *a) {
    const char *const lists[] = {"batch", "rows"};
    int work = choice(a, "work"), tokens = given(a, "tokens") ? small(a, "tokens") : 1;
    size_t n, i, k;
    for (k = 0; k < 2; k++) {
        int32_t *values = list(a, lists[k], &n);
        for (i = 0; i < n; i++) if (values[i] < 1) misused("--%s=%s has a 0", lists[k], words(a, lists[k]));
        free(values);
    }
    if (tokens > small(a, "context"))
        misused("--tokens=%d is more than --context=%d", tokens, small(a, "context"));
    if (work == BENCH_RAGGED && !given(a, "data")) misused("--work=ragged needs --data");
    for (i = 0; i < 2; i++) {
        const char *name = i ? "tokenizer" : "data";
        if (work != BENCH_RAGGED && given(a, name)) misused("--%s=%s needs --work=ragged", name, words(a, name));
    }
    if (given(a, "tokenizer") && given(a, "vocab"))
        misused("--vocab=%s and --tokenizer do not go together", words(a, "vocab"));
    if (work == BENCH_VARIANTS)
        for (i = 0; i < 3; i++) {
            const char *const name[] = {"variant", "group-proportion", "kqv-proportion"};
            if (given(a, name[i])) misused("--%s=%s and --work=variants do not go together", name[i], words(a, name[i]));
        }
}

/* Whether the options leave the published shape, beside which GPT-2's is measured. */
static int bench_is_published(const args *a) {
    static const char *const shape[] = {"variant", "group-proportion", "kqv-proportion", "heads", "hidden", "layers",
                                        "ffn-base", "window", "vocab"};
    size_t i;
    for (i = 0; i < sizeof shape / sizeof *shape; i++) if (given(a, shape[i])) return 0;
    return 1;
}

static int run_bench(const args *a) {
    int work = choice(a, "work");
    bench b = {0};
    check_bench_args(a);
    b.a = a;
    b.started = now();
    if (!given(a, "json") || given(a, "html")) bench_machine(&b);
    if (!given(a, "json")) {
        puts(b.machine);
        if (work != BENCH_VARIANTS)
            printf("\n%-7s %-52s %-8s %5s %7s %9s %-8s %9s %8s\n", "work", "shape", "variant", "batch", "context", "value",
                   "unit", "limit", "fraction");
        fflush(stdout);
    }
    if (work == BENCH_STANDARD || work == BENCH_MATMUL) bench_matmul(&b);
    if (work == BENCH_STANDARD || work == BENCH_DECODE) bench_decode(&b);
    if ((work == BENCH_STANDARD && bench_is_published(a)) || work == BENCH_GPT2) bench_gpt2(&b);
    if (work == BENCH_STANDARD || work == BENCH_TRAIN) bench_train(&b);
    if (work == BENCH_VARIANTS) bench_variants(&b);
    if (work == BENCH_RAGGED) bench_ragged(&b);
    if (given(a, "html")) {
        FILE *f = fopen(words(a, "html"), "w");
        if (!f) die("%s: cannot be written", words(a, "html"));
        roofline_html(f, b.machine, b.results, b.n);
        if (fclose(f) != 0) die("%s: cannot be written", words(a, "html"));
    }
    free(b.results);
    return 0;
}

#endif /* BENCH_H */
