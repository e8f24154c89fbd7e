/* heatmaps.c: where the heads look, for MHA, GQA, KQV and COMBINED side by side.
 *
 * Claim    Heads that share keys still look at different words, since each has queries of its own; narrow heads have less to
 *          tell words apart by. On the way it walks a model's parameters by name: queries and keys are made by hand below.
 * Command  mkdir -p build && cc -O2 -o build/heatmaps examples/heatmaps.c -lm -lpthread
 *          build/heatmaps ["a sentence" [model directory ..]]
 * Prints   the attention probabilities of layer 0: a row for each word that looks, a column for each word looked at, the
 *          stronger the more; and writes out/heatmaps.svg, where the pointer shows the numbers. Without model directories,
 *          four small models are trained on stories first.
 * Takes    about 20 seconds on two cores, a blink for models that are there. */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "stories.h"
#include "svg.h"
#include <unistd.h>

enum { MAX_MODELS = 6, MAX_TOKENS = 24, STORIES = 1200, CONTEXT = 128 };

/* One model's probabilities of layer 0 for its own tokens of the sentence. */
typedef struct {
    char title[80];
    int family, n, n_head, n_kv_head, head_dim;
    int kv_of_head[256];
    char tokens[MAX_TOKENS][40];
    float *probs;                                           /* [H,n,n] */
} map;

static atv_ctx *ctx;

static void die(const char *what, const char *why) {
    fprintf(stderr, "heatmaps: %s%s%s\n", what, *what ? ": " : "", why);
    exit(1);
}

static void check(const char *what, atv_result r) {
    if (r != ATV_OK) die(what, ctx ? atv_last_error(ctx) : atv_result_text(r));
}

static void *room(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) die("", "out of memory");
    return p;
}

static const float *parameter(const atv_model *model, const char *name) {
    int i = 0;
    check("", atv_model_find(model, name, &i));
    return (const float *)atv_model_tensor(model, i).tensor.data;
}

/* y [n,out] = x [n,in] W^T, W [out,in]. */
static void project(const float *x, int n, int in, const float *w, int out, float *y) {
    for (int i = 0; i < n; i++) for (int o = 0; o < out; o++) {
        double sum = 0;
        for (int c = 0; c < in; c++) sum += (double)x[i * in + c] * w[o * in + c];
        y[i * out + o] = (float)sum;
    }
}

/* What layer 0's attention sees: x = LN(wte[id] + wpe[position]), q = x Wq^T, k = x Wk^T. */
static void queries_and_keys(const atv_model *model, const int32_t *ids, int n, float *q, float *k) {
    const atv_config *config = atv_model_config(model);
    const atv_layer layer = atv_config_layer(config, 0);
    const int C = config->hidden_size, D = layer.head_dim;
    const float *wte = parameter(model, "transformer.wte.weight"), *wpe = parameter(model, "transformer.wpe.weight");
    const float *gain = parameter(model, "transformer.h.0.ln_1.weight");
    const float *bias = parameter(model, "transformer.h.0.ln_1.bias");
    float *x = (float *)room((size_t)n * C, sizeof *x);
    for (int i = 0; i < n; i++) {
        double mean = 0, variance = 0, deviation;
        for (int c = 0; c < C; c++) x[i * C + c] = wte[(size_t)ids[i] * C + c] + wpe[i * C + c];
        for (int c = 0; c < C; c++) mean += x[i * C + c] / C;
        for (int c = 0; c < C; c++) variance += (x[i * C + c] - mean) * (x[i * C + c] - mean) / C;
        deviation = sqrt(variance + config->layer_norm_epsilon);
        for (int c = 0; c < C; c++) x[i * C + c] = (float)((x[i * C + c] - mean) / deviation) * gain[c] + bias[c];
    }
    project(x, n, C, parameter(model, "transformer.h.0.attn.attention.q_proj.weight"), layer.num_heads * D, q);
    project(x, n, C, parameter(model, "transformer.h.0.attn.attention.k_proj.weight"), layer.num_key_value_heads * D, k);
    free(x);
}

static map look(const atv_model *model, atv_tokenizer *tokenizer, const char *sentence) {
    const atv_config *config = atv_model_config(model);
    const atv_layer layer = atv_config_layer(config, 0);
    const int H = layer.num_heads, G = layer.num_key_value_heads, D = layer.head_dim;
    atv_attn_desc desc = { .n_head = H, .n_kv_head = G, .head_dim = D, .kv_of_head = layer.kv_of_head,
                           .window = layer.window_size, .scale = 1 /* GPT-Neo's */, .max_keys = MAX_TOKENS };
    atv_attn *attn;
    map m;
    int32_t ids[MAX_TOKENS];
    int before, after;
    size_t n, left;
    memset(&m, 0, sizeof m);
    atv_tokenizer_wrap(tokenizer, &before, &after);
    if (before >= 0) ids[m.n++] = before;
    left = (size_t)(MAX_TOKENS - m.n);
    check("the sentence", atv_tokenizer_encode(tokenizer, sentence, strlen(sentence), ids + m.n, left, &n));
    if (n == 0) die("", "the sentence is empty");
    if (n > left) die("the sentence", "more tokens than the picture's 24");
    m.n += (int)n;
    if (H > (int)(sizeof m.kv_of_head / sizeof *m.kv_of_head)) die("", "more heads than there is room for");
    for (int i = 0; i < m.n; i++) {
        size_t size = 0, used = 0;
        const char *s = atv_tokenizer_token(tokenizer, ids[i], &size);
        if (ids[i] >= config->vocab_size) die("the sentence", "a token that the model's vocabulary lacks");
        if (i >= config->max_position_embeddings) die("the sentence", "more tokens than the model's context");
        for (size_t j = size && *s == ' '; j < size && used < sizeof m.tokens[0] - 1; j++) m.tokens[i][used++] = s[j];
    }
    check("", atv_attn_create(ctx, &desc, &attn));
    m.family = (G < H ? SVG_GQA : SVG_MHA) + (H * D < config->hidden_size ? SVG_KQV : 0);
    m.n_head = H; m.n_kv_head = G; m.head_dim = D;
    memcpy(m.kv_of_head, atv_attn_info(attn)->kv_of_head, (size_t)H * sizeof *m.kv_of_head);
    m.probs = (float *)room((size_t)H * m.n * m.n, sizeof(float));
    {
        float *q = (float *)room((size_t)m.n * H * D, sizeof *q), *k = (float *)room((size_t)m.n * G * D, sizeof *k);
        atv_attn_seqs seqs = { .n_seq = 1 };
        atv_tensor tq = atv_tensor_view(q, ATV_F32, 1, m.n, H, D), tk = atv_tensor_view(k, ATV_F32, 1, m.n, G, D);
        atv_tensor tp = atv_tensor_view(m.probs, ATV_F32, 1, H, m.n, m.n);
        queries_and_keys(model, ids, m.n, q, k);
        check("", atv_attn_probs(attn, &seqs, &tq, &tk, &tp));
        free(q);
        free(k);
    }
    atv_attn_destroy(attn);
    return m;
}

/* Four variants of one small model, each trained for a while on the same stories. */
static atv_model *train(atv_tokenizer *tokenizer, const atv_data *data, atv_variant variant, double group, double kqv) {
    atv_config config = { .vocab_size = atv_tokenizer_vocab_size(tokenizer), .max_position_embeddings = CONTEXT,
                          .hidden_size = 64, .num_layers = 2, .num_heads = 4, .window_size = 32 };
    atv_trainer_desc recipe = { .has_learning_rate = 1, .learning_rate = 5e-3, .schedule = ATV_SCHEDULE_LINEAR,
                                .warmup_steps = 20, .total_steps = 250, .max_grad_norm = 1, .batch = 8, .seed = 1 };
    atv_model *model;
    atv_trainer *trainer;
    check("", atv_config_preset(ctx, variant, group, kqv, 176, &config));
    check("", atv_model_create(ctx, &config, &model));
    atv_model_init(model, 1);
    check("", atv_trainer_create(model, &recipe, &trainer));
    fprintf(stderr, "training %s\n", atv_variant_name(variant));
    check("", atv_trainer_run(trainer, data, recipe.total_steps, NULL, NULL));
    atv_trainer_destroy(trainer);
    return model;
}

static int train_all(const char *sentence, map *maps) {
    static const struct { atv_variant variant; double group, kqv; } variants[] = {
        { ATV_MHA, 1, 1 }, { ATV_GQA, .5, 1 }, { ATV_KQV, 1, .5 }, { ATV_COMBINED, .5, .5 },
    };
    static char text[STORIES * 1024];
    static int32_t ids[STORIES * CONTEXT];
    static int lengths[STORIES];
    static size_t end[STORIES + 1];
    atv_tokenizer_train_desc vocabulary = { .vocab_size = 1500 };
    atv_tokenizer *tokenizer;
    atv_data data = { .ids = ids, .lengths = lengths, .n_docs = STORIES };
    int used = 0, before, after;
    for (int i = 0; i < STORIES; i++) {
        end[i + 1] = end[i] + story_write((uint64_t)i + 1, text + end[i], sizeof text - end[i]);
        if (end[i + 1] >= sizeof text) die("stories", "longer than there is room for");
    }
    check("tokenizer", atv_tokenizer_train(ctx, &vocabulary, text, end[STORIES], &tokenizer));
    atv_tokenizer_wrap(tokenizer, &before, &after);
    for (int i = 0; i < STORIES; i++) {
        size_t n;
        ids[used] = before;
        check("", atv_tokenizer_encode(tokenizer, text + end[i], end[i + 1] - end[i], ids + used + 1, CONTEXT - 1, &n));
        lengths[i] = n < CONTEXT - 1 ? (int)n + 1 : CONTEXT;
        used += lengths[i];
    }
    for (int i = 0; i < 4; i++) {
        atv_model *model = train(tokenizer, &data, variants[i].variant, variants[i].group, variants[i].kqv);
        maps[i] = look(model, tokenizer, sentence);
        atv_model_destroy(model);
    }
    atv_tokenizer_destroy(tokenizer);
    return 4;
}

static int same_tokens(const map *a, const map *b) {
    return a->n == b->n && !memcmp(a->tokens, b->tokens, sizeof a->tokens);
}

static const char *const families[] = { "MHA", "GQA", "KQV", "COMBINED" };

/* Characters, not bytes: the text may be UTF-8. Stray bytes count one. */
static int width(const char *s) {
    int n = 0;
    while (*s) { int bytes = svg_utf8((const unsigned char *)s); s += bytes ? bytes : 1; n++; }
    return n;
}

static void print_maps(const map *m, int n_maps, int colour) {
    static const char shades[] = " .:-=+*#%@";
    static const int light[][3] = { { 225, 228, 232 }, { 90, 182, 234 }, { 240, 150, 90 }, { 60, 199, 157 } };
    const int n = m[0].n, column = ATVI_MAX(n, 9) + 3;
    int heads = 0;
    for (int k = 0; k < n_maps; k++) heads = ATVI_MAX(heads, m[k].n_head);
    printf("%13s", "");
    for (int k = 0; k < n_maps; k++) printf("%-*s", column, families[m[k].family]);
    for (int h = 0; h < heads; h++) {
        printf("\n%13s", "");
        for (int k = 0; k < n_maps; k++) {
            char s[32] = "";
            if (h < m[k].n_head) snprintf(s, sizeof s, "h%d kv%d", h, m[k].kv_of_head[h]);
            printf("%-*s", column, s);
        }
        printf("\n");
        for (int i = 0; i < n; i++) {
            const char *word = m[0].tokens[i];
            int pad = 12 - width(word);
            printf("%*s%s ", pad > 0 ? pad : 0, "", word);
            for (int k = 0; k < n_maps; k++) {
                for (int j = 0; j < n; j++) {
                    double p = h < m[k].n_head && j <= i ? sqrt(m[k].probs[(h * n + i) * n + j]) : 0;
                    const int *c = light[m[k].family];
                    if (colour && h < m[k].n_head)
                        printf("\033[48;2;%d;%d;%dm ", 28 + (int)(p * (c[0] - 28)), 30 + (int)(p * (c[1] - 30)),
                               34 + (int)(p * (c[2] - 34)));
                    else putchar(shades[(int)(p * 9.49 + .5)]);
                }
                printf("%s%*s", colour ? "\033[0m" : "", column - n, "");
            }
            printf("\n");
        }
    }
    printf("\n");
}

static int draw_maps(const map *m, int n_maps) {
    const double cell = 13, label = 84, gap = 34, top = 66, head_gap = 26;
    double x = label, height = 0, widest = 0;
    char path[64], s[160];
    FILE *f = svg_create("out", "heatmaps.svg", path, sizeof path);
    if (!f) return 1;
    for (int k = 0; k < n_maps; k++) {
        height = fmax(height, top + m[k].n_head * (m[k].n * cell + head_gap));
        widest += fmax(m[k].n * cell, 110) + gap + (k && !same_tokens(&m[k], &m[0]) ? label : 0);
    }
    height += 70;
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\">\n"
            "<style>%s.name{font-weight:600}.c{fill:var(--c)}.plate{fill:var(--faint)}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"var(--paper)\"/>\n",
            label + fmax(widest, 520), height, SVG_STYLE);
    svg_text(f, label, 18, 11, "start", "soft",
             "Layer 0. Rows: the word that looks. Columns: the word looked at. Strength: the probability's square root.");
    for (int k = 0; k < n_maps; k++) {
        const int n = m[k].n, own = k == 0 || !same_tokens(&m[k], &m[0]);
        const double side = n * cell;
        if (k && own) x += label;
        fprintf(f, "<g class=\"f%d\">\n", m[k].family);
        svg_text(f, x, 42, 14, "start", "name tint", families[m[k].family]);
        snprintf(s, sizeof s, "%d heads on %d, D = %d", m[k].n_head, m[k].n_kv_head, m[k].head_dim);
        svg_text(f, x, 56, 10, "start", "soft", s);
        for (int h = 0; h < m[k].n_head; h++) {
            const double y = top + h * (side + head_gap) + 16;
            snprintf(s, sizeof s, "head %d reads kv %d", h, m[k].kv_of_head[h]);
            svg_text(f, x, y - 4, 10, "start", "", s);
            fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"plate\"/>\n", x, y, side, side);
            for (int i = 0; i < n; i++) {
                if (own) svg_text(f, x - 5, y + (i + .75) * cell, 10, "end", "soft", m[k].tokens[i]);
                for (int j = 0; j <= i; j++) {
                    double p = m[k].probs[(h * n + i) * n + j];
                    fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.0f\" height=\"%.0f\" class=\"c\" opacity=\"%.3f\">",
                            x + j * cell + .5, y + i * cell + .5, cell - 1, cell - 1, sqrt(p));
                    fputs("<title>", f);
                    svg_escape(f, m[k].tokens[i]);
                    fputs(" looks at ", f);
                    svg_escape(f, m[k].tokens[j]);
                    fprintf(f, ": %.3f</title></rect>", p);
                }
                fputc('\n', f);
            }
            if (h + 1 == m[k].n_head) for (int j = 0; j < n; j++) {
                fprintf(f, "<g transform=\"translate(%.1f %.1f)rotate(-60)\">", x + (j + .8) * cell, y + side + 10);
                svg_text(f, 0, 0, 10, "end", "soft", m[k].tokens[j]);
                fputs("</g>", f);
            }
        }
        fputs("</g>\n", f);
        x += fmax(side, 110) + gap;
    }
    fputs("</svg>\n", f);
    return svg_close(f, path) || printf("%s\n", path) < 0;
}

int main(int argc, char **argv) {
    const char *sentence = argc > 1 ? argv[1] : "The girl saw herself in the lake. She was happy.";
    static map maps[MAX_MODELS];
    int n = 0;
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return puts("usage: heatmaps [\"a sentence\" [model directory ..]]\n\n"
                    "Draws where the heads of layer 0 look, here and in out/heatmaps.svg. Without directories of models\n"
                    "four small ones are trained first, which takes a while."), 0;
    if (sentence[0] == '-') die(sentence, "no option; --help tells what there is");
    if (argc - 2 > MAX_MODELS) die("", "at most 6 models side by side");
    check("", atv_ctx_create(NULL, &ctx));
    if (argc <= 2) n = train_all(sentence, maps);
    for (int i = 2; i < argc; i++) {
        atv_model *model;
        atv_tokenizer *tokenizer;
        check("", atv_model_load(ctx, argv[i], &model));
        check("", atv_tokenizer_load(ctx, argv[i], &tokenizer));
        maps[n++] = look(model, tokenizer, sentence);
        atv_tokenizer_destroy(tokenizer);
        atv_model_destroy(model);
    }
    for (int i = 0, to; i < n; i = to) {                    /* side by side as far as the words are the same */
        for (to = i + 1; to < n && same_tokens(&maps[to], &maps[i]); to++) {}
        print_maps(maps + i, to - i, isatty(1));
    }
    atv_ctx_destroy(ctx);
    return draw_maps(maps, n);
}
