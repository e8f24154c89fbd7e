/* Decoding: whatever the chunks, the batch and its history, the logits are the full forward's; and how tokens are chosen. */
#define _POSIX_C_SOURCE 200809L
#include "../attnvar.h"
#include "test.h"

enum { V = 31, T = 64, S = 6 };                             /* S texts, T tokens each */

typedef struct texts {
    int32_t ids[S][T];
    atv_real logits[S][T][V];                               /* of the full forward */
} texts;

static void make_texts(atv_model *model, texts *x, uint64_t seed) {
    atv_rng rng;
    int i, length = T;
    atv_work *work = test_work(model, T, 0);
    rng.state = seed;
    for (i = 0; i < S; i++) {
        atv_batch batch;
        test_ids(&rng, x->ids[i], T, V);
        if (i & 1) memcpy(x->ids[i], x->ids[i - 1], 20 * sizeof(int32_t));     /* pairs share their first 20 */
        batch = test_batch(x->ids[i], &length, 1);
        MUST(atv_model_ctx(model), atv_forward(work, &batch, &x->logits[i][0][0]));
    }
    atv_work_destroy(work);
}

static atv_decoder *make_decoder(atv_model *model, int n_seq, int max_positions, int max_rewind, int max_chunk) {
    atv_decoder_desc desc;
    atv_decoder *decoder = NULL;
    memset(&desc, 0, sizeof desc);
    desc.n_seq = n_seq;
    desc.max_positions = max_positions;
    desc.max_rewind = max_rewind;
    desc.max_chunk = max_chunk;
    MUST(atv_model_ctx(model), atv_decoder_create(model, &desc, &decoder));
    return decoder;
}

/* The models to decode: one layer sees all, others a window that the texts pass several times over. */
enum { MODELS = 6 };
static atv_config model_config(int which) {
    static const int map[5] = { 2, 0, 0, 2, 1 }, windows[3] = { 9, 0, 5 }, sharing[3] = { 0, 0, 2 },
        all_local[2] = { 7, 16 };
    static atv_layer layers[2];
    atv_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = V;
    c.max_position_embeddings = T;
    c.hidden_size = 20;
    c.num_layers = 2;
    c.num_heads = 5;
    c.intermediate_size = 24;
    c.window_size = 8;
    if (which == 1) c.num_key_value_heads = 3;
    if (which == 2) {
        c.num_key_value_heads = 3; c.kv_of_head = map; c.num_layers = 3; c.windows = windows; c.kqv_size = 35;
    }
    if (which == 3) { c.num_key_value_heads = 1; c.num_layers = 3; c.windows = windows; c.kv_of_layer = sharing; }
    if (which == 4) { c.windows = all_local; c.num_key_value_heads = 2; c.kqv_size = 15; }
    if (which == 5) {
        memset(layers, 0, sizeof layers);
        layers[0].num_heads = 3; layers[0].num_key_value_heads = 2; layers[0].head_dim = 6; layers[0].value_dim = 4;
        layers[0].intermediate_size = 10; layers[0].window_size = 12;
        layers[1].num_heads = 4; layers[1].num_key_value_heads = 4; layers[1].head_dim = 3; layers[1].value_dim = 9;
        layers[1].intermediate_size = 30;
        c.layers = layers;
    }
    return c;
}

static double tolerance(const texts *x) {
    double m = 0;
    int i;
    for (i = 0; i < S * T * V; i++) {
        double size = fabs((double)(&x->logits[0][0][0])[i]);
        if (size > m) m = size;
    }
    return 1e-5 * (1 + m);
}

/* Chunks of one size, then single steps, one sequence at a time. */
static void test_chunks(atv_model *model, const texts *x, const char *where) {
    static const int chunks[7] = { 1, 2, 3, 7, 16, 33, 64 };
    int c, k;
    for (c = 0; c < 7; c++) for (k = 0; k < 2; k++) {       /* k: the decoder itself cuts the prompt, or the caller does */
        atv_decoder *decoder = make_decoder(model, 1, T, 0, k ? chunks[c] : 0);
        atv_real logits[V];
        double worst = 0;
        int seq = -1, at = 0;
        MUST(atv_model_ctx(model), atv_decoder_add(decoder, &seq));
        CHECK(atv_decoder_length(decoder, seq) == 0, "a new sequence has %d positions", atv_decoder_length(decoder, seq));
        while (at < T) {
            atv_decode_input in;
            in.seq = seq;
            in.ids = x->ids[2] + at;
            in.n_ids = at > 40 ? 1 : k ? (at == 0 ? 40 : 1) : chunks[c];
            if (in.n_ids > T - at) in.n_ids = T - at;
            MUST(atv_model_ctx(model), atv_decode(decoder, &in, 1, logits));
            at += in.n_ids;
            worst = fmax(worst, test_difference(logits, x->logits[2][at - 1], V));
            CHECK(atv_decoder_length(decoder, seq) == at, "length %d, not %d", atv_decoder_length(decoder, seq), at);
        }
        CHECK(worst <= tolerance(x), "%s, %schunks of %d: logits differ by %g", where, k ? "its own " : "", chunks[c],
              worst);
        atv_decoder_destroy(decoder);
    }
}

/* A running batch whose sequences grow by steps and chunks together, are copied, cut back, dropped and added again. */
static void test_running(atv_model *model, const texts *x, const char *where, int rewind) {
    atv_ctx *ctx = atv_model_ctx(model);
    atv_decoder *decoder = make_decoder(model, 4, T, rewind, 12);
    atv_rng rng = { 99 };
    int text[4] = { -1, -1, -1, -1 }, at[4] = { 0 }, peak[4] = { 0 }, round, s, done = 0, copies = 0, cuts = 0;
    double worst = 0;
    for (round = 0; round < 600; round++) {
        atv_decode_input in[4];
        atv_real logits[4][V];
        int n = 0, i;
        for (i = 0; i < 4; i++) {
            s = (i + round) % 4;
            if (text[s] < 0 || at[s] >= T || atv_rng_below(&rng, 3) == 0) continue;
            in[n].seq = s;
            in[n].ids = x->ids[text[s]] + at[s];
            in[n].n_ids = atv_rng_below(&rng, 3) ? 1 : 1 + (int)atv_rng_below(&rng, 30);
            if (in[n].n_ids > T - at[s]) in[n].n_ids = T - at[s];
            n++;
        }
        if (n) MUST(ctx, atv_decode(decoder, in, n, &logits[0][0]));
        for (i = 0; i < n; i++) {
            s = in[i].seq;
            at[s] += in[i].n_ids;
            if (at[s] > peak[s]) peak[s] = at[s];
            worst = fmax(worst, test_difference(logits[i], x->logits[text[s]][at[s] - 1], V));
            if (!CHECK(atv_decoder_length(decoder, s) == at[s],
                       "%s: length %d, not %d", where, atv_decoder_length(decoder, s), at[s])) exit(test_done("aborted"));
        }
        s = (int)atv_rng_below(&rng, 4);
        switch (atv_rng_below(&rng, 6)) {
        case 0:                                             /* a new one, in whatever place is free */
            if (text[0] < 0 || text[1] < 0 || text[2] < 0 || text[3] < 0) {
                int got = -1;
                MUST(ctx, atv_decoder_add(decoder, &got));
                if (!CHECK(got >= 0 && got < 4 && text[got] < 0, "%s: add gave %d", where, got)) exit(test_done("aborted"));
                text[got] = (int)atv_rng_below(&rng, S);
                at[got] = peak[got] = 0;
            } else {
                int got = -5;
                FAILS(ctx, atv_decoder_add(decoder, &got), ATV_ERR_FULL, "4");
                CHECK(got == -5, "a failure wrote its output");
            }
            break;
        /* a copy goes on with its own end where the beginnings are one */
        case 1:
            if (text[s] >= 0 && (text[0] < 0 || text[1] < 0 || text[2] < 0 || text[3] < 0)) {
                int got = -1;
                MUST(ctx, atv_decoder_copy(decoder, s, &got));
                if (!CHECK(got >= 0 && got < 4 && text[got] < 0, "%s: copy gave %d", where, got)) exit(test_done("aborted"));
                text[got] = at[s] <= 20 ? text[s] ^ 1 : text[s];
                at[got] = at[s];
                peak[got] = peak[s];
                copies++;
            }
            break;
        case 2:
            if (text[s] >= 0 && at[s] > 0) {
                int back = 1 + (int)atv_rng_below(&rng, 6), to = at[s] > back ? at[s] - back : 0;
                if (peak[s] - to <= rewind) {
                    MUST(ctx, atv_decoder_cut(decoder, s, to));
                    at[s] = to;
                    if (to <= 20 && atv_rng_below(&rng, 2)) text[s] ^= 1;
                    cuts++;
                }
            }
            break;
        case 3:
            if (text[s] >= 0 && (at[s] == T || atv_rng_below(&rng, 8) == 0)) {
                done += at[s] == T;
                MUST(ctx, atv_decoder_drop(decoder, s));
                CHECK(atv_decoder_length(decoder, s) == -1, "a dropped sequence has a length");
                text[s] = -1;
            }
            break;
        default: break;
        }
    }
    CHECK(worst <= tolerance(x), "%s: a running batch differs by %g", where, worst);
    CHECK(done > 3 && copies > 5 && cuts > 5, "%s: only %d ended, %d copies, %d cuts", where, done, copies, cuts);
    atv_decoder_destroy(decoder);
}

static void test_models(atv_isa isa) {
    static texts x;
    int which, threads;
    for (which = 0; which < MODELS; which++) {
        atv_config c = model_config(which);
        atv_real kept[V];
        for (threads = 1; threads <= 3; threads++) {
            atv_ctx *ctx = test_ctx(isa, threads);
            atv_model *model = test_model(ctx, &c, 17, 0.3);
            const char *where = test_path("model %d, %s, %d threads", which, atv_isa_name(isa), threads);
            atv_decoder *decoder;
            atv_decode_input in[3];
            atv_real logits[3][V];
            int i;
            make_texts(model, &x, 23);
            if (threads == 1) test_chunks(model, &x, where);
            if (threads != 2) test_running(model, &x, where, which == 0 ? 6 : 9);
            decoder = make_decoder(model, 3, T, 0, 0);
            for (i = 0; i < 3; i++) {
                in[i].ids = x.ids[i];
                in[i].n_ids = 11 + 13 * i;
                MUST(ctx, atv_decoder_add(decoder, &in[i].seq));
            }
            MUST(ctx, atv_decode(decoder, in, 3, &logits[0][0]));
            for (i = 0; i < 3; i++) { in[i].ids += in[i].n_ids; in[i].n_ids = 1; }
            MUST(ctx, atv_decode(decoder, in, 3, &logits[0][0]));
            if (threads == 1) memcpy(kept, logits[2], sizeof kept);
            CHECK(memcmp(kept, logits[2], sizeof kept) == 0, "%s: other bits than with one thread", where);
            atv_decoder_destroy(decoder);
            atv_model_destroy(model);
            atv_ctx_destroy(ctx);
        }
    }
}

/* ---- limits ---- */

static void test_limits(void) {
    static texts x;
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = model_config(1);
    atv_model *model = test_model(ctx, &c, 18, 0.3);
    atv_decoder *decoder = make_decoder(model, 2, 40, 3, 16), *made = NULL;
    atv_decoder_desc dd;
    atv_decode_input in[2];
    atv_real logits[2][V], before[2][V];
    int a = -1, b = -1;
    int32_t bad[2];
    make_texts(model, &x, 24);
    MUST(ctx, atv_decoder_add(decoder, &a));
    MUST(ctx, atv_decoder_add(decoder, &b));
    CHECK(a != b, "two sequences have one number %d", a);
    in[0].seq = a;
    in[0].ids = x.ids[0];
    in[0].n_ids = 39;
    in[1].seq = b;
    in[1].ids = x.ids[1];
    in[1].n_ids = 25;
    MUST(ctx, atv_decode(decoder, in, 2, &logits[0][0]));
    CHECK(test_difference(logits[1], x.logits[1][24], V) <= tolerance(&x),
          "the second differs by %g", test_difference(logits[1], x.logits[1][24], V));
    memset(before, 0x55, sizeof before);
    memcpy(logits, before, sizeof logits);

    /* a full context says so, and nothing at all changes: not the other sequence either */
    in[0].ids += 39;
    in[1].ids += 25;
    in[0].n_ids = 2;
    in[1].n_ids = 3;
    FAILS(ctx, atv_decode(decoder, in, 2, &logits[0][0]), ATV_ERR_FULL, "40");
    CHECK(strstr(atv_last_error(ctx), "full") != NULL,
          "the error does not say that the context is full: %s", atv_last_error(ctx));
    CHECK(atv_decoder_length(decoder, a) == 39 && atv_decoder_length(decoder, b) == 25,
          "a failed call changed lengths to %d, %d", atv_decoder_length(decoder, a), atv_decoder_length(decoder, b));
    CHECK(memcmp(logits, before, sizeof logits) == 0, "a failure wrote its output");
    bad[0] = 3;
    bad[1] = V;
    in[0].n_ids = 1;
    in[1].ids = bad;
    in[1].n_ids = 2;
    FAILS(ctx, atv_decode(decoder, in, 2, &logits[0][0]), ATV_ERR_ARGUMENT, "31");
    in[1].ids = x.ids[1] + 25;
    in[1].n_ids = 0;
    CHECK(atv_decode(decoder, in, 2, &logits[0][0]) == ATV_ERR_ARGUMENT, "an input of nothing");
    in[1].n_ids = 1;
    in[1].seq = a;
    CHECK(atv_decode(decoder, in, 2, &logits[0][0]) == ATV_ERR_ARGUMENT, "a sequence twice");
    in[1].seq = 2;
    FAILS(ctx, atv_decode(decoder, in, 2, &logits[0][0]), ATV_ERR_ARGUMENT, "2");
    in[1].seq = -1;
    FAILS(ctx, atv_decode(decoder, in, 2, &logits[0][0]), ATV_ERR_ARGUMENT, "-1");
    in[1].seq = b;
    MUST(ctx, atv_decode(decoder, in, 2, &logits[0][0]));
    CHECK(test_difference(logits[0], x.logits[0][39], V) <= tolerance(&x) &&
          test_difference(logits[1], x.logits[1][25], V) <= tolerance(&x),
          "after refusals: %g, %g", test_difference(logits[0], x.logits[0][39], V),
          test_difference(logits[1], x.logits[1][25], V));
    FAILS(ctx, atv_decode(decoder, in, 1, &logits[0][0]), ATV_ERR_FULL, "full");

    /* cutting back: within what was kept, to nothing, and no further */
    FAILS(ctx, atv_decoder_cut(decoder, a, 20), ATV_ERR_ARGUMENT, "20");
    FAILS(ctx, atv_decoder_cut(decoder, a, 41), ATV_ERR_ARGUMENT, "41");
    FAILS(ctx, atv_decoder_cut(decoder, a, -1), ATV_ERR_ARGUMENT, "-1");
    FAILS(ctx, atv_decoder_cut(decoder, 7, 1), ATV_ERR_ARGUMENT, "7");
    CHECK(atv_decoder_length(decoder, a) == 40, "a refused cut changed the length");
    MUST(ctx, atv_decoder_cut(decoder, a, 37));
    in[0].ids = x.ids[0] + 37;
    in[0].n_ids = 3;
    MUST(ctx, atv_decode(decoder, in, 1, &logits[0][0]));
    CHECK(test_difference(logits[0], x.logits[0][39], V) <= tolerance(&x),
          "after a cut: %g", test_difference(logits[0], x.logits[0][39], V));
    MUST(ctx, atv_decoder_cut(decoder, a, 40));
    MUST(ctx, atv_decoder_cut(decoder, a, 0));
    in[0].ids = x.ids[5];
    in[0].n_ids = 30;
    MUST(ctx, atv_decode(decoder, in, 1, &logits[0][0]));
    CHECK(test_difference(logits[0], x.logits[5][29], V) <= tolerance(&x),
          "from nothing: %g", test_difference(logits[0], x.logits[5][29], V));
    FAILS(ctx, atv_decoder_drop(decoder, 9), ATV_ERR_ARGUMENT, "9");
    MUST(ctx, atv_decoder_drop(decoder, b));
    CHECK(atv_decoder_drop(decoder, b) == ATV_ERR_ARGUMENT, "dropped twice");
    CHECK(atv_decoder_copy(decoder, b, &b) == ATV_ERR_ARGUMENT, "a copy of what was dropped");
    CHECK(atv_decoder_length(decoder, 99) == -1 && atv_decoder_length(decoder, -1) == -1, "lengths of what is not there");
    in[0].seq = b;
    CHECK(atv_decode(decoder, in, 1, &logits[0][0]) == ATV_ERR_ARGUMENT, "decoding what was dropped");
    CHECK(atv_decode(decoder, in, 0, &logits[0][0]) == ATV_OK, "decoding nothing: %s", atv_last_error(ctx));
    memset(&dd, 0, sizeof dd);
    dd.n_seq = -1;
    FAILS(ctx, atv_decoder_create(model, &dd, &made), ATV_ERR_ARGUMENT, "n_seq=-1");
    dd.n_seq = 0;
    dd.max_positions = T + 1;
    FAILS(ctx, atv_decoder_create(model, &dd, &made), ATV_ERR_ARGUMENT, "max_positions=65");
    dd.max_positions = 0;
    dd.max_rewind = -2;
    FAILS(ctx, atv_decoder_create(model, &dd, &made), ATV_ERR_ARGUMENT, "max_rewind=-2");
    dd.max_rewind = 0;
    dd.max_chunk = -2;
    FAILS(ctx, atv_decoder_create(model, &dd, &made), ATV_ERR_ARGUMENT, "max_chunk=-2");
    CHECK(!made, "a failure wrote its output");
    atv_decoder_destroy(decoder);
    atv_decoder_destroy(NULL);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

static int stop_after_three(void *user, int prompt, int32_t token, float logprob) {
    int *count = (int *)user;
    (void)token;
    (void)logprob;
    return ++count[prompt] == 3;
}

static void test_memory(void) {
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    test_alloc alloc;
    atv_config c;
    int which;
    memset(&desc, 0, sizeof desc);
    memset(&alloc, 0, sizeof alloc);
    desc.allocator.user = &alloc;
    desc.allocator.alloc = test_alloc_get;
    desc.allocator.free = test_alloc_put;
    desc.n_threads = 2;
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    for (which = 0; which < MODELS; which++) {
        atv_model *model;
        atv_decoder *decoder = NULL;
        atv_decoder_desc dd;
        size_t before, after, said = 0;
        long count, n, live;
        int seq[3], i;
        atv_decode_input in[3];
        atv_real logits[3][V];
        int32_t ids[40], token;
        float logprob;
        atv_rng rng = { 3 };
        atv_sampling sampling;
        c = model_config(which);
        model = test_model(ctx, &c, 18, 0.3);
        memset(&dd, 0, sizeof dd);
        dd.n_seq = which == 0 ? 0 : 3;
        dd.max_positions = which == 1 ? 0 : 45;
        dd.max_rewind = which;
        dd.max_chunk = which == 2 ? 0 : 10;
        atv_memory(ctx, &before, NULL);
        MUST(ctx, atv_decoder_bytes(model, &dd, &said));
        count = alloc.count;
        MUST(ctx, atv_decoder_create(model, &dd, &decoder));
        atv_memory(ctx, &after, NULL);
        CHECK(after - before == said, "decoder %d said %lu bytes and took %lu", which, (unsigned long)said,
              (unsigned long)(after - before));
        CHECK(atv_decoder_kv_bytes(decoder) > 0 && atv_decoder_kv_bytes(decoder) < said,
              "decoder %d: %lu bytes of caches", which, (unsigned long)atv_decoder_kv_bytes(decoder));
        atv_decoder_destroy(decoder);
        atv_memory(ctx, &after, NULL);
        CHECK(after == before, "a decoder left %lu bytes", (unsigned long)(after - before));
        for (n = alloc.count - count, live = alloc.live; n > 0; n--) {
            decoder = NULL;
            alloc.fail_at = alloc.count + n;
            CHECK(atv_decoder_create(model, &dd, &decoder) == ATV_ERR_MEMORY && !decoder && alloc.live == live,
                  "a decoder without allocation %ld", n);
        }
        alloc.fail_at = 0;
        dd.n_seq = 3;
        MUST(ctx, atv_decoder_create(model, &dd, &decoder));
        test_ids(&rng, ids, 40, V);
        for (i = 0; i < 2; i++) {
            MUST(ctx, atv_decoder_add(decoder, &seq[i]));
            in[i].seq = seq[i];
            in[i].ids = ids;
            in[i].n_ids = 17 + i;
        }
        memset(&sampling, 0, sizeof sampling);
        sampling.do_sample = 1;
        sampling.temperature = 0.7;
        sampling.top_k = 20;
        sampling.top_p = 0.9;
        sampling.repetition_penalty = 1.2;
        count = alloc.count;
        MUST(ctx, atv_decode(decoder, in, 2, &logits[0][0]));
        in[0].n_ids = in[1].n_ids = 1;
        MUST(ctx, atv_decode(decoder, in, 2, &logits[0][0]));
        MUST(ctx, atv_decoder_copy(decoder, seq[0], &seq[2]));
        MUST(ctx, atv_decoder_drop(decoder, seq[1]));
        MUST(ctx, atv_decoder_cut(decoder, seq[2], 0));
        MUST(ctx, atv_sample(decoder, &sampling, &rng, logits[0], ids, 40, &token, &logprob));
        sampling.do_sample = 0;
        MUST(ctx, atv_sample(decoder, &sampling, &rng, logits[0], ids, 40, &token, &logprob));
        CHECK(alloc.count == count, "decoding allocated %ld times", alloc.count - count);
        /* of what a global layer must keep, the caches are at least the formula's bytes */
        if (which < 2) {
            atv_config r;
            size_t per_layer;
            MUST(ctx, atv_config_resolve(ctx, &c, &r));
            per_layer = atv_config_kv_bytes_per_token(&r) / (size_t)r.num_layers;
            CHECK(atv_decoder_kv_bytes(decoder) >= 3 * per_layer * (45 + 8) &&
                  atv_decoder_kv_bytes(decoder) <= 3 * per_layer * (64 + 16 + 48),
                  "decoder %d: caches of %lu bytes, %lu a position and layer", which,
                  (unsigned long)atv_decoder_kv_bytes(decoder), (unsigned long)per_layer);
        }
        {
            atv_generate_desc gd;
            int counts[3] = { 0, 0, 0 };
            memset(&gd, 0, sizeof gd);
            gd.sampling = sampling;
            gd.max_new_tokens = 10;
            gd.on_token = stop_after_three;
            gd.user = counts;
            MUST(ctx, atv_decoder_drop(decoder, seq[0]));
            MUST(ctx, atv_decoder_drop(decoder, seq[2]));
            count = alloc.count;
            MUST(ctx, atv_generate(decoder, &gd, in, 2));
            CHECK(counts[0] == 3 && counts[1] == 3 && counts[2] == 0,
                  "a callback could not stop at 3: %d %d %d", counts[0], counts[1], counts[2]);
            CHECK(alloc.count - count <= 8, "generating allocated %ld times", alloc.count - count);
            live = alloc.live;
            gd.on_token = NULL;
            MUST(ctx, atv_generate(decoder, &gd, in, 2));
            CHECK(alloc.live == live, "generating left %ld blocks", alloc.live - live);
            CHECK(atv_decoder_length(decoder, seq[0]) == -1 && atv_decoder_length(decoder, seq[1]) == -1,
                  "generating left its sequences");
        }
        atv_decoder_destroy(decoder);
        atv_model_destroy(model);
    }
    atv_ctx_destroy(ctx);
    CHECK(alloc.live == 0, "%ld blocks left", alloc.live);
}

/* ---- choosing ---- */

/* Draws n times and compares with the probabilities p [V]: a chi-square bound, and nothing where p is 0. */
static void check_distribution(atv_decoder *decoder, atv_ctx *ctx, const atv_sampling *sampling, const atv_real *logits,
                               const int32_t *ids, int n_ids, const double *p, const char *what) {
    enum { N = 20000 };
    int count[V] = { 0 }, i, cells = 0;
    double chi = 0;
    atv_rng rng = { 2024 };
    for (i = 0; i < N; i++) {
        int32_t token = -1;
        MUST(ctx, atv_sample(decoder, sampling, &rng, logits, ids, n_ids, &token, NULL));
        if (token < 0 || token >= V) { CHECK(0, "%s drew %d", what, (int)token); return; }
        count[token]++;
    }
    for (i = 0; i < V; i++) {
        if (p[i] == 0) {
            CHECK(count[i] == 0, "%s drew %d, which has no probability, %d times", what, i, count[i]); continue;
        }
        if (N * p[i] < 5) {
            CHECK(count[i] < 30, "%s drew %d, of probability %g, %d times", what, i, p[i], count[i]); continue;
        }
        chi += (count[i] - N * p[i]) * (count[i] - N * p[i]) / (N * p[i]);
        cells++;
    }
    CHECK(chi <= cells + 4.5 * sqrt(2.0 * cells), "%s: chi square %g over %d cells", what, chi, cells);
}

static void softmax(const double *x, double *p) {
    double top = -HUGE_VAL, sum = 0;
    int i;
    for (i = 0; i < V; i++) if (x[i] > top) top = x[i];
    for (i = 0; i < V; i++) sum += p[i] = exp(x[i] - top);
    for (i = 0; i < V; i++) p[i] /= sum;
}

static void test_choosing(void) {
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = model_config(0);
    atv_model *model = test_model(ctx, &c, 18, 0.3);
    atv_decoder *decoder = make_decoder(model, 1, T, 0, 0);
    atv_sampling s;
    atv_rng rng = { 6 }, before;
    atv_real logits[V], copy[V];
    double x[V], p[V], kept;
    int32_t token = -1, ids[5] = { 3, 3, 9, 30, 0 };
    float logprob = 0;
    int i, k, order[V];
    for (i = 0; i < V; i++) logits[i] = (atv_real)(1.5 * atv_rng_normal(&rng));
    logits[11] = logits[23] = 4;                            /* a tie at the top */
    memcpy(copy, logits, sizeof copy);
    memset(&s, 0, sizeof s);

    /* greedy: the lowest id of equals, no random numbers used; log p is the model's own */
    before = rng;
    MUST(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, &logprob));
    CHECK(token == 11, "greedy took %d", (int)token);
    CHECK(rng.state == before.state, "greedy drew random numbers");
    for (i = 0; i < V; i++) x[i] = logits[i];
    softmax(x, p);
    CHECK(fabs(logprob - log(p[11])) < 1e-5, "log p is %g, not %g", logprob, log(p[11]));
    MUST(ctx, atv_sample(decoder, &s, NULL, logits, NULL, 0, &token, NULL));
    CHECK(memcmp(copy, logits, sizeof copy) == 0, "the logits were changed");

    /* plain */
    s.do_sample = 1;
    check_distribution(decoder, ctx, &s, logits, NULL, 0, p, "sampling");
    for (k = 0; k < 50; k++) {
        MUST(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, &logprob));
        CHECK(fabs(logprob - log(p[token])) < 1e-5, "log p of %d is %g, not %g", (int)token, logprob, log(p[token]));
    }
    /* temperature */
    s.temperature = 0.6;
    for (i = 0; i < V; i++) x[i] = logits[i] / 0.6;
    softmax(x, p);
    check_distribution(decoder, ctx, &s, logits, NULL, 0, p, "temperature 0.6");
    s.temperature = 2;
    for (i = 0; i < V; i++) x[i] = logits[i] / 2;
    softmax(x, p);
    check_distribution(decoder, ctx, &s, logits, NULL, 0, p, "temperature 2");
    for (k = 0; k < 20; k++) {                              /* still the model's own */
        double own[V];
        MUST(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, &logprob));
        for (i = 0; i < V; i++) x[i] = logits[i];
        softmax(x, own);
        CHECK(fabs(logprob - log(own[token])) < 1e-5, "log p of %d is %g, not %g", (int)token, logprob, log(own[token]));
    }

    /* top-k: the k largest, by what is left of them */
    for (i = 0; i < V; i++) order[i] = i;
    for (i = 0; i < V; i++) for (k = i + 1; k < V; k++) if (logits[order[k]] > logits[order[i]]) {
        int t = order[i]; order[i] = order[k]; order[k] = t;
    }
    memset(&s, 0, sizeof s);
    s.do_sample = 1;
    s.top_k = 5;
    for (i = 0; i < V; i++) x[i] = -HUGE_VAL;
    for (i = 0; i < 5; i++) x[order[i]] = logits[order[i]];
    softmax(x, p);
    check_distribution(decoder, ctx, &s, logits, NULL, 0, p, "top-k 5");
    s.top_k = 1000;                                         /* more than there are: all */
    for (i = 0; i < V; i++) x[i] = logits[i];
    softmax(x, p);
    check_distribution(decoder, ctx, &s, logits, NULL, 0, p, "top-k 1000");
    s.top_k = 1;
    for (k = 0; k < 100; k++) {
        MUST(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, NULL));
        CHECK(token == 11 || token == 23, "top-k 1 drew %d", (int)token);
    }

    /* top-p: the fewest, largest first, that reach it */
    s.top_k = 0;
    s.top_p = 0.7;
    for (i = 0, kept = 0; i < V; i++) {
        double q = p[order[i]];
        x[order[i]] = kept < 0.7 ? logits[order[i]] : -HUGE_VAL;
        kept += q;
    }
    softmax(x, p);
    check_distribution(decoder, ctx, &s, logits, NULL, 0, p, "top-p 0.7");
    s.top_p = 1e-9;
    for (k = 0; k < 20; k++) {
        MUST(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, NULL));
        CHECK(token == 11 || token == 23, "top-p near 0 drew %d", (int)token);
    }

    /* all of them, in this order: penalty (once an id), temperature, top-k, top-p */
    ids[2] = order[2];
    for (i = 0; i < V; i++) x[i] = logits[i];
    {
        int seen[V] = { 0 };
        for (i = 0; i < 5; i++) if (!seen[ids[i]]++) x[ids[i]] = x[ids[i]] > 0 ? x[ids[i]] / 1.5 : x[ids[i]] * 1.5;
    }
    for (i = 0; i < V; i++) x[i] /= 1.3;
    for (i = 0; i < V; i++) order[i] = i;
    for (i = 0; i < V; i++) for (k = i + 1; k < V; k++) if (x[order[k]] > x[order[i]]) {
        int t = order[i]; order[i] = order[k]; order[k] = t;
    }
    for (i = 12; i < V; i++) x[order[i]] = -HUGE_VAL;
    softmax(x, p);
    for (i = 0, kept = 0; i < V; i++) { double q = p[order[i]]; if (kept >= 0.85) x[order[i]] = -HUGE_VAL; kept += q; }
    softmax(x, p);
    s.repetition_penalty = 1.5;
    s.temperature = 1.3;
    s.top_k = 12;
    s.top_p = 0.85;
    check_distribution(decoder, ctx, &s, logits, ids, 5, p, "all together");

    /* the penalty alone, greedy */
    memset(&s, 0, sizeof s);
    s.repetition_penalty = 3;
    ids[0] = 11;
    ids[1] = 23;
    MUST(ctx, atv_sample(decoder, &s, NULL, logits, ids, 2, &token, NULL));
    for (i = 0, k = 0; i < V; i++) {
        x[i] = i == 11 || i == 23 ? 4 / 3.0 : logits[i];
        if (x[i] > x[k]) k = i;
    }
    CHECK(token == k, "the penalty gave %d, not %d", (int)token, k);
    CHECK(memcmp(copy, logits, sizeof copy) == 0, "the logits were changed");

    /* equal seeds, equal draws */
    memset(&s, 0, sizeof s);
    s.do_sample = 1;
    {
        atv_rng a = { 7 }, b = { 7 };
        int32_t ta, tb;
        for (k = 0; k < 30; k++) {
            MUST(ctx, atv_sample(decoder, &s, &a, logits, NULL, 0, &ta, NULL));
            MUST(ctx, atv_sample(decoder, &s, &b, logits, NULL, 0, &tb, NULL));
            CHECK(ta == tb, "equal seeds drew %d and %d", (int)ta, (int)tb);
        }
    }
    s.temperature = -1;
    FAILS(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, NULL), ATV_ERR_ARGUMENT, "temperature=-1");
    s.temperature = (double)NAN;
    FAILS(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, NULL), ATV_ERR_ARGUMENT, "temperature");
    s.temperature = 0;
    s.top_p = 1.5;
    FAILS(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, NULL), ATV_ERR_ARGUMENT, "top_p=1.5");
    s.top_p = 0;
    s.top_k = -4;
    FAILS(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, NULL), ATV_ERR_ARGUMENT, "top_k=-4");
    s.top_k = 0;
    s.repetition_penalty = -2;
    FAILS(ctx, atv_sample(decoder, &s, &rng, logits, NULL, 0, &token, NULL), ATV_ERR_ARGUMENT, "repetition_penalty=-2");
    atv_decoder_destroy(decoder);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

/* ---- generating ---- */

typedef struct written { int n[4]; int32_t ids[4][T]; float logprobs[4][T]; } written;

static int write_token(void *user, int prompt, int32_t token, float logprob) {
    written *w = (written *)user;
    if (w->n[prompt] < T) {
        w->ids[prompt][w->n[prompt]] = token;
        w->logprobs[prompt][w->n[prompt]] = logprob;
    }
    w->n[prompt]++;
    return 0;
}

static void test_generating(void) {
    static texts x;
    static written all, one;
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_config c = model_config(2);
    atv_model *model = test_model(ctx, &c, 19, 0.25);
    atv_decoder *decoder = make_decoder(model, 4, T, 0, 0);
    atv_work *work = test_work(model, T, 0);
    atv_generate_desc gd;
    atv_decode_input in[4];
    int32_t stop, line[T];
    int i, k, mode;
    make_texts(model, &x, 25);
    memset(&gd, 0, sizeof gd);
    gd.seed = 12;
    gd.max_new_tokens = 30;
    gd.on_token = write_token;
    for (i = 0; i < 4; i++) {
        in[i].seq = 0;
        in[i].ids = x.ids[i];
        in[i].n_ids = 5 + 9 * i;
    }
    for (mode = 0; mode < 2; mode++) {
        memset(&all, 0, sizeof all);
        gd.user = &all;
        gd.sampling.do_sample = mode;
        MUST(ctx, atv_generate(decoder, &gd, in, 4));
        for (i = 0; i < 4; i++) {
            float logprobs[T];
            atv_loss loss;
            int n = in[i].n_ids + 30;
            atv_batch batch = test_batch(line, &n, 1);
            if (!CHECK(all.n[i] == 30, "prompt %d gave %d tokens", i, all.n[i])) continue;
            /* log p of what was written is that of the full forward */
            memcpy(line, in[i].ids, sizeof(int32_t) * (size_t)in[i].n_ids);
            memcpy(line + in[i].n_ids, all.ids[i], 30 * sizeof(int32_t));
            MUST(ctx, atv_forward_loss(work, &batch, logprobs, &loss));
            CHECK(test_difference(logprobs + in[i].n_ids - 1, all.logprobs[i], 30) <= 5e-5,
                  "prompt %d: log p differs by %g", i, test_difference(logprobs + in[i].n_ids - 1, all.logprobs[i], 30));
        }
        /* the seed decides, and a prompt's place its stream: prompt 0 alone is the same */
        if (mode) {
            memset(&one, 0, sizeof one);
            gd.user = &one;
            MUST(ctx, atv_generate(decoder, &gd, in, 1));
            CHECK(memcmp(one.ids[0], all.ids[0], sizeof one.ids[0]) == 0, "the first prompt's text depends on the others");
            memset(&one, 0, sizeof one);
            gd.seed = 13;
            MUST(ctx, atv_generate(decoder, &gd, in, 4));
            CHECK(memcmp(one.ids, all.ids, sizeof one.ids) != 0, "another seed wrote the same");
            CHECK(memcmp(one.ids[0], one.ids[1], sizeof one.ids[0]) != 0, "prompts 0 and 1 wrote the same");
        } else {                                            /* greedy, one by one */
            for (i = 0; i < 4; i++) {
                memset(&one, 0, sizeof one);
                gd.user = &one;
                MUST(ctx, atv_generate(decoder, &gd, in + i, 1));
                CHECK(memcmp(one.ids[0], all.ids[i], sizeof one.ids[0]) == 0, "prompt %d alone writes something else", i);
            }
        }
    }
    /* a stop token is reported and ends its sequence alone */
    gd.seed = 12;
    gd.sampling.do_sample = 1;
    gd.user = &one;
    stop = all.ids[1][7];
    gd.stop_tokens = &stop;
    gd.n_stop_tokens = 1;
    memset(&one, 0, sizeof one);
    MUST(ctx, atv_generate(decoder, &gd, in, 4));
    for (i = 0; i < 4; i++) {
        for (k = 0; k < 30 && all.ids[i][k] != stop; k++) {}
        CHECK(one.n[i] == (k < 30 ? k + 1 : 30) && memcmp(one.ids[i], all.ids[i], sizeof(int32_t) * (size_t)one.n[i]) == 0,
              "prompt %d stopped after %d tokens, not %d", i, one.n[i], k < 30 ? k + 1 : 30);
    }
    /* a full context ends a sequence: prompt 3 has room for T - 32 tokens, and one more comes out of the last logits */
    gd.n_stop_tokens = 0;
    gd.max_new_tokens = 1000;
    memset(&one, 0, sizeof one);
    MUST(ctx, atv_generate(decoder, &gd, in, 4));
    for (i = 0; i < 4; i++)
        CHECK(one.n[i] == T - in[i].n_ids || one.n[i] == T - in[i].n_ids + 1,
              "prompt %d of %d tokens gave %d", i, in[i].n_ids, one.n[i]);
    gd.max_new_tokens = 0;
    memset(&one, 0, sizeof one);
    MUST(ctx, atv_generate(decoder, &gd, in, 4));
    CHECK(one.n[0] == 0, "0 new tokens gave %d", one.n[0]);
    gd.max_new_tokens = -1;
    FAILS(ctx, atv_generate(decoder, &gd, in, 4), ATV_ERR_ARGUMENT, "max_new_tokens=-1");
    gd.max_new_tokens = 5;
    gd.sampling.top_p = 7;
    FAILS(ctx, atv_generate(decoder, &gd, in, 4), ATV_ERR_ARGUMENT, "top_p=7");
    gd.sampling.top_p = 0;
    {
        int seq;
        MUST(ctx, atv_decoder_add(decoder, &seq));
        FAILS(ctx, atv_generate(decoder, &gd, in, 4), ATV_ERR_FULL, "4");
        CHECK(atv_decoder_length(decoder, seq) == 0, "a failed generate touched another's sequence");
        MUST(ctx, atv_generate(decoder, &gd, in, 3));
        CHECK(atv_decoder_length(decoder, seq) == 0, "generate touched another's sequence");
    }
    atv_work_destroy(work);
    atv_decoder_destroy(decoder);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
}

int main(void) {
    int isa;
    for (isa = ATV_ISA_SCALAR; isa < ATV_ISA_COUNT; isa++) {
        if (atv_isa_available((atv_isa)isa)) test_models((atv_isa)isa);
        else SKIP("decoding with %s: this machine has none", atv_isa_name((atv_isa)isa));
    }
    test_limits();
    test_memory();
    test_choosing();
    test_generating();
    return test_done("decode");
}
