/* groups.c: who reads what: query heads and the key/value heads that they share.
 *
 * Claim    A variant is data: any number of key/value heads from 1 to H, even or uneven groups, any map.
 * Command  mkdir -p build && cc -O2 -o build/groups examples/groups.c -lm -lpthread && build/groups [H/G or map ..]
 *          build/groups 8/6 12/5 0,1,0,2,1,0,2,0       8 heads over 6, 12 over 5, and a map of your own: head 0 reads 0,
 *          head 1 reads 1, head 2 reads 0, ..
 * Prints   a diagram of each, as the library resolves it, and writes the same as pictures to out/groups.svg.
 * Takes    a blink. */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "svg.h"
#include <unistd.h>

enum { MAX_HEADS = 64, MAX_DIAGRAMS = 64 };

typedef struct { int n_head, n_kv_head, given, map[MAX_HEADS]; } diagram;

/* "8/6" or "0,1,0,2". 0 when it is neither. */
static int parse(const char *s, diagram *d) {
    char *end;
    long n = strtol(s, &end, 10);
    memset(d, 0, sizeof *d);
    if (end != s && *end == '/') {
        long g = strtol(s = end + 1, &end, 10);
        if (end == s || *end || n < 1 || n > MAX_HEADS || g < 1 || g > 1000) return 0;
        d->n_head = (int)n;
        d->n_kv_head = (int)g;
        return 1;
    }
    for (d->given = 1;; n = strtol(s, &end, 10)) {
        if (end == s || n < 0 || n >= MAX_HEADS || d->n_head == MAX_HEADS) return 0;
        d->map[d->n_head++] = (int)n;
        if (n >= d->n_kv_head) d->n_kv_head = (int)n + 1;
        if (!*end) return 1;
        if (*end != ',') return 0;
        s = end + 1;
    }
}

/* Asks the library, which knows the rule for groups: the first H mod G have one head more. */
static atv_result resolve(atv_ctx *ctx, diagram *d) {
    atv_attn_desc desc = { .n_head = d->n_head, .n_kv_head = d->n_kv_head, .head_dim = 8, .scale = 1, .max_keys = 1 };
    atv_attn *attn;
    atv_result result;
    if (d->given) desc.kv_of_head = d->map;
    if ((result = atv_attn_create(ctx, &desc, &attn)) != ATV_OK) return result;
    memcpy(d->map, atv_attn_info(attn)->kv_of_head, (size_t)d->n_head * sizeof *d->map);
    atv_attn_destroy(attn);
    return ATV_OK;
}

static int readers(const diagram *d, int g) {
    int n = 0;
    for (int h = 0; h < d->n_head; h++) n += d->map[h] == g;
    return n;
}

static void headline(const diagram *d, char *s, size_t cap) {
    int n = snprintf(s, cap, "%d query heads, %d key/value head%s: ", d->n_head, d->n_kv_head, d->n_kv_head == 1 ? "" : "s");
    if (d->n_kv_head == d->n_head && !d->given) snprintf(s + n, cap - (size_t)n, "MHA");
    else if (d->n_kv_head == 1) snprintf(s + n, cap - (size_t)n, "MQA, cache %.3g %%", 100.0 / d->n_head);
    else snprintf(s + n, cap - (size_t)n, "%s, cache %.3g %%",
                  d->given ? "a map" : d->n_head % d->n_kv_head ? "uneven groups" : "even groups",
                  100.0 * d->n_kv_head / d->n_head);
}

/* One line for each key/value head, a dot under every query head that reads it. */
static void print_diagram(const diagram *d, int colour) {
    static const int colours[] = { 39, 208, 78, 176, 220 };
    char s[128];
    headline(d, s, sizeof s);
    printf("%s\n  query head ", s);
    for (int h = 0; h < d->n_head; h++) printf("%3d", h);
    for (int g = 0; g < d->n_kv_head; g++) {
        int first = d->n_head, last = -1;
        for (int h = 0; h < d->n_head; h++) if (d->map[h] == g) { if (last < 0) first = h; last = h; }
        printf("\n  kv head %2d ", g);
        if (colour) printf("\033[38;5;%dm", colours[g % 5]);
        for (int h = 0; h < d->n_head; h++)
            printf("%s%s", h > first && h <= last ? "──" : "  ",
                   d->map[h] == g ? "●" : h > first && h < last ? "─" : "·");
        if (colour) printf("\033[0m");
        printf("  read by %d", readers(d, g));
    }
    printf("\n\n");
}

#define STEP 38.0
/* Groups in order stand under the middle of their readers, those of a map evenly. */
static double kv_x(const diagram *d, int g) {
    double sum = 0;
    if (d->given) return d->n_kv_head == 1 ? (d->n_head - 1) * STEP / 2 : g * (d->n_head - 1) * STEP / (d->n_kv_head - 1);
    for (int h = 0; h < d->n_head; h++) if (d->map[h] == g) sum += h * STEP;
    return sum / readers(d, g);
}

static void draw_diagram(FILE *f, const diagram *d, double x, double y) {
    char s[128];
    headline(d, s, sizeof s);
    svg_text(f, x, y, 13, "start", "name", s);
    for (int pass = 0; pass < 2; pass++) for (int h = 0; h < d->n_head; h++) {
        int g = d->map[h], from = (int)(x + 18 + h * STEP);
        double to = x + 18 + kv_x(d, g);
        fprintf(f, "<g class=\"f%d\"><title>query head %d reads key/value head %d</title>", 1 + g % 3, h, g);
        if (pass == 0) fprintf(f, "<path d=\"M%d %.1fC%d %.1f %.1f %.1f %.1f %.1f\" class=\"wire\"/>",
                               from, y + 48, from, y + 80, to, y + 72, to, y + 104);
        else {
            fprintf(f, "<circle cx=\"%d\" cy=\"%.1f\" r=\"13\" class=\"head\"/>", from, y + 36);
            snprintf(s, sizeof s, "%d", h);
            svg_text(f, from, y + 40, 11, "middle", "tint", s);
        }
        fputs("</g>\n", f);
    }
    for (int g = 0; g < d->n_kv_head; g++) {
        double to = x + 18 + kv_x(d, g);
        fprintf(f, "<g class=\"f%d\"><title>key/value head %d is read by %d query heads</title>",
                1 + g % 3, g, readers(d, g));
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"26\" height=\"24\" rx=\"3\" class=\"kv\"/>", to - 13, y + 104);
        snprintf(s, sizeof s, "%d", g);
        svg_text(f, to, y + 120, 11, "middle", "on", s);
        fputs("</g>\n", f);
    }
}

static int draw(const diagram *d, int n) {
    char path[64];
    FILE *f = svg_create("out", "groups.svg", path, sizeof path);
    double column = 0, y[2] = { 66, 66 };
    if (!f) return 1;
    for (int i = 0; i < n; i++) column = fmax(column, fmax(400, d[i].n_head * STEP + 20));
    fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\">\n"
            "<style>%s.name{font-weight:600}.wire{stroke:var(--c);stroke-width:2;fill:none}.head{fill:var(--paper);"
            "stroke:var(--c);stroke-width:2}.kv{fill:var(--c)}svg .on{fill:var(--paper);font-weight:600}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"var(--paper)\"/>\n",
            2 * column + 60, 66 + (n + 1) / 2 * 166.0, SVG_STYLE);
    svg_text(f, 24, 30, 12, "start", "soft",
             "Circles: query heads. Boxes: the key/value heads that they read, and that are cached.");
    for (int i = 0; i < n; i++) { draw_diagram(f, &d[i], i % 2 ? column + 44 : 24, y[i % 2]); y[i % 2] += 166; }
    fputs("</svg>\n", f);
    if (svg_close(f, path)) return 1;
    printf("%s\n", path);
    return 0;
}

int main(int argc, char **argv) {
    static const char *const usual[] = { "8/8", "8/6", "8/5", "8/4", "8/3", "8/1", "0,1,0,2,1,0,2,0", "12/5" };
    static diagram d[MAX_DIAGRAMS];
    int n = argc > 1 ? argc - 1 : (int)(sizeof usual / sizeof *usual), colour = isatty(1);
    atv_ctx *ctx;
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return puts("usage: groups [H/G or map ..]\n\n"
                    "H/G  query heads over key/value heads: 8/6\n"
                    "map  the key/value head that each query head reads: 0,1,0,2,1,0,2,0\n\n"
                    "Draws who reads whom, here and in out/groups.svg; without arguments a choice of both."), 0;
    if (n > MAX_DIAGRAMS) { fprintf(stderr, "groups: %d diagrams, at most %d\n", n, MAX_DIAGRAMS); return 1; }
    if (atv_ctx_create(NULL, &ctx) != ATV_OK) { fprintf(stderr, "groups: out of memory\n"); return 1; }
    for (int i = 0; i < n; i++) {
        const char *s = argc > 1 ? argv[i + 1] : usual[i];
        if (!parse(s, &d[i])) {
            fprintf(stderr, "groups: %s is neither H/G nor a map such as 0,0,1 (at most %d heads)\n", s, MAX_HEADS);
            return 1;
        }
        if (resolve(ctx, &d[i]) != ATV_OK) { fprintf(stderr, "groups: %s: %s\n", s, atv_last_error(ctx)); return 1; }
        print_diagram(&d[i], colour);
    }
    atv_ctx_destroy(ctx);
    return draw(d, n);
}
