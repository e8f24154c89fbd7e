/* findings.h: what the files of a study say: reads them, and judges the published observations by the rules of stats.h.

   The observations, in the words of the study that the four research programs repeat:
     a  in GQA speed and quality are inverse: fewer key/value heads are faster and worse
     b  with more heads, GQA .75 loses less quality against MHA
     c  KQV is faster than GQA of the same cache, of lower quality, and the difference vanishes at low proportions
     d  COMBINED lies between GQA and KQV, in speed and in quality
     e  the published figures' puzzle: at 16 sequences GQA is slower than MHA
   Speed is time per token at 16 and at 512 sequences, turn by turn as ratios to MHA's. Quality is held-out loss, minimal
   pairs and GLUE, seed by seed, each where the files have it.

   Contents: >>csv >>numbers >>judge */
#ifndef FINDINGS_H
#define FINDINGS_H

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "stats.h"
#include "svg.h"

#define MAX_VARIANTS 40
#define MAX_KINDS 32
#define MAX_SEEDS 32
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("report: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void *room(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) fail("out of memory");
    return p;
}

static void *more(void *p, size_t size) {
    p = realloc(p, size);
    if (!p) fail("out of memory");
    return p;
}

/* ---- >>csv ------------------------------------------------------------------------------------------------------- */

typedef struct {
    char path[1024], *text;
    char **cells;                                           /* [rows][cols], the header is row 0 */
    int rows, cols;
} csv;

/* Returns 0 when there is no such file. Quotes are undone in place, where the text only gets shorter. */
static int csv_read(csv *t, const char *dir, const char *name) {
    FILE *f;
    size_t size = 0, cap = 1 << 16, n_cells = 0, max_cells = 1024;
    char *s, *to;
    int cols = 0, comma = 0;
    memset(t, 0, sizeof *t);
    if (snprintf(t->path, sizeof t->path, "%s/%s", dir, name) >= (int)sizeof t->path) fail("%s: the path is too long", dir);
    f = fopen(t->path, "rb");
    if (!f && errno == ENOENT) return 0;
    if (!f) fail("%s: %s", t->path, strerror(errno));
    t->text = (char *)room(cap + 1, 1);
    for (size_t n; (n = fread(t->text + size, 1, cap - size, f)) > 0;) {
        size += n;
        if (size == cap) t->text = (char *)more(t->text, (cap *= 2) + 1);
    }
    if (ferror(f)) fail("%s: could not be read", t->path);
    fclose(f);
    t->text[size] = 0;
    if (strlen(t->text) != size) fail("%s: holds a zero byte at %zu", t->path, strlen(t->text));

    t->cells = (char **)room(max_cells, sizeof *t->cells);
    for (s = to = t->text; *s || comma;) {
        char end;
        if (n_cells == max_cells) t->cells = (char **)more(t->cells, (max_cells *= 2) * sizeof *t->cells);
        t->cells[n_cells++] = to;
        if (*s == '"') {
            for (s++; *s && (*s != '"' || s[1] == '"'); s++) { if (*s == '"') s++; *to++ = *s; }
            if (*s != '"') fail("%s: row %d has a quote that does not end", t->path, t->rows + 1);
            s++;
            if (*s && !strchr(",\r\n", *s)) fail("%s: row %d has text after a closing quote", t->path, t->rows + 1);
        } else {
            while (*s && !strchr(",\r\n", *s)) *to++ = *s++;
        }
        end = *s;
        if (end) s += end == '\r' && s[1] == '\n' ? 2 : 1;
        *to++ = 0;
        cols++;
        comma = end == ',';
        if (comma) continue;
        if (t->rows == 0) t->cols = cols;
        if (cols != t->cols) fail("%s: row %d has %d fields, the header %d", t->path, t->rows + 1, cols, t->cols);
        t->rows++;
        cols = 0;
    }
    if (t->rows == 0) fail("%s: is empty", t->path);
    return 1;
}

static void csv_free(csv *t) { free(t->text); free(t->cells); }

/* "" when there is no such column. */
static const char *csv_text(const csv *t, int row, const char *column) {
    for (int i = 0; i < t->cols; i++) if (!strcmp(t->cells[i], column)) return t->cells[(size_t)row * t->cols + i];
    return "";
}

/* NAN when empty or not finite. */
static double csv_number(const csv *t, int row, const char *column) {
    const char *s = csv_text(t, row, column);
    char *end;
    double x;
    if (!*s) return NAN;
    x = strtod(s, &end);
    if (end == s || *end) fail("%s: row %d: %s=%s is not a number", t->path, row + 1, column, s);
    return isfinite(x) ? x : NAN;
}

/* Numbers with spaces between them. None of them when one is not finite: which runs they pair with would be lost. */
static void csv_list(const csv *t, int row, const char *column, double *x, int *n, int max) {
    const char *s = csv_text(t, row, column);
    char *end;
    int finite = 1;
    for (*n = 0; *s && *n < max; s = end + strspn(end, " ")) {
        x[*n] = strtod(s, &end);
        finite &= isfinite(x[(*n)++]) != 0;
        if (end == s || !strchr(" ", *end)) fail("%s: row %d: %s=%s is not a list of numbers", t->path, row + 1, column, s);
    }
    if (*s) fail("%s: row %d: %s has more than %d numbers", t->path, row + 1, column, max);
    if (!finite) *n = 0;
}

/* ---- >>numbers --------------------------------------------------------------------------------------------------- */

#define NUMBERS(X) X(heads) X(kv_heads) X(kqv_size) X(ffn) X(group_proportion) X(kqv_proportion) X(params) \
    X(kv_bytes_per_token) X(seeds) X(loss_mean) X(loss_sd) X(ppl_mean) X(pairs_mean) X(pairs_sd) X(glue_mean) \
    X(glue_sd) X(us_b16) X(us_b512) X(pub_ffn) X(pub_blimp) X(pub_glue) X(pub_us_b16) X(pub_us_b512) X(limit_us_b16) \
    X(limit_us_b512) X(limit_attention_us_b16) X(limit_attention_us_b512) X(limit_ratio_b16) X(limit_ratio_b512)

/* What was measured n times: of one variant, or of several put together with coefficients whose squares add up to weight. */
typedef struct { double x[MAX_SEEDS]; int n; double weight; stats_noise noise; } list;

typedef struct {
    const char *variant, *label;
    int family;
#define X(name) double name;
    NUMBERS(X)
#undef X
    list loss_seeds, pairs_seeds, glue_seeds, ratio_b16_turns, ratio_b512_turns;
} result;

#define AT(field) offsetof(result, field)

/* What is compared: quality over seeds by differences, times over turns by ratios. worse: the sign of getting worse. */
typedef struct { const char *name, *short_name, *unit; size_t list; int times, worse, digits; } yardstick;
static const yardstick yardsticks[] = {
    { "held-out loss", "loss", "", AT(loss_seeds), 0, 1, 3 },
    { "minimal pairs", "pairs", " points", AT(pairs_seeds), 0, -1, 1 },
    { "GLUE", "GLUE", " points", AT(glue_seeds), 0, -1, 1 },
    { "512 sequences", "b=512", "", AT(ratio_b512_turns), 1, 1, 0 },
    { "16 sequences", "b=16", "", AT(ratio_b16_turns), 1, 1, 0 },
};
enum { QUALITY = 0, SPEED = 3, FEW = 4, YARDSTICKS = 5 };   /* what decides stands first: at QUALITY, at SPEED */

static list *list_in(result *r, const yardstick *y) { return (list *)(void *)((char *)r + y->list); }

typedef struct { result *r; int n, run; csv t; } question;  /* run: its file has rows; t: owns the names */

static int family_of(const char *label) {
    static const char *const names[] = { "mha", "gqa", "kqv", "combined" };
    for (int f = 0; f < SVG_FAMILIES; f++) {
        int i = 0;
        while (names[f][i] && tolower((unsigned char)label[i]) == names[f][i]) i++;
        if (!names[f][i]) return f;
    }
    return tolower((unsigned char)label[0]) == 'm' && tolower((unsigned char)label[1]) == 'q' ? SVG_GQA : SVG_MHA;
}

/* Whether an earlier row of q is of the same variant. */
static int is_again(const question *q, int row) {
    for (int i = 0; i < row; i++) if (*q->r[i].variant && !strcmp(q->r[i].variant, q->r[row].variant)) return 1;
    return 0;
}

/* Estimates the noise of a question's runs by each yardstick. Where variants have not all as many seeds, from the first n of
   those that have them, for the n that tells most. */
static void find_noise(question *q) {
    double *x = (double *)room((size_t)q->n, MAX_SEEDS * sizeof *x);
    for (const yardstick *y = yardsticks; y < yardsticks + SPEED; y++) {
        stats_noise noise = { NAN, 0 };
        for (int n = 2; n <= MAX_SEEDS; n++) {
            stats_noise with;
            int variants = 0;
            for (int i = 0; i < q->n; i++) if (list_in(&q->r[i], y)->n >= n && !is_again(q, i))
                memcpy(x + MAX_SEEDS * variants++, list_in(&q->r[i], y)->x, (size_t)n * sizeof *x);
            with = stats_noise_of(x, variants, n, MAX_SEEDS);
            if (with.df > noise.df) noise = with;
        }
        for (int i = 0; i < q->n; i++) list_in(&q->r[i], y)->noise = noise;
    }
    free(x);
}

static question question_read(const char *dir, const char *name) {
    question q;
    memset(&q, 0, sizeof q);
    if (!csv_read(&q.t, dir, name)) return q;
    q.n = q.t.rows - 1;
    q.run = q.n > 0;
    q.r = (result *)room((size_t)q.n, sizeof *q.r);
    for (int i = 0; i < q.n; i++) {
        result *r = &q.r[i];
        r->variant = csv_text(&q.t, i + 1, "variant");
        r->label = *csv_text(&q.t, i + 1, "label") ? csv_text(&q.t, i + 1, "label") : r->variant;
        r->family = family_of(r->label);
#define X(column) r->column = csv_number(&q.t, i + 1, #column);
        NUMBERS(X)
#undef X
#define LIST(column) csv_list(&q.t, i + 1, #column, r->column.x, &r->column.n, MAX_SEEDS); r->column.weight = 1;
        LIST(loss_seeds) LIST(pairs_seeds) LIST(glue_seeds) LIST(ratio_b16_turns) LIST(ratio_b512_turns)
#undef LIST
    }
    find_noise(&q);
    return q;
}

/* The row of a family and proportion p (of what that family shrinks), with `heads` heads. NULL: none. */
static const result *find(const question *q, int family, double p, double heads) {
    for (int i = 0; i < q->n; i++) {
        const result *r = &q->r[i];
        double own = family == SVG_KQV ? r->kqv_proportion : r->group_proportion;
        if (r->family != family || (heads > 0 && r->heads != heads)) continue;
        if (family == SVG_MHA || fabs(own - p) < 1e-6) return r;
    }
    return NULL;
}

/* .25, as the published tables write proportions. */
static const char *proportion(double p, char s[16]) {
    if (isnan(p)) strcpy(s, "?"); else snprintf(s, 16, "%.4g", p);
    return s[0] == '0' && s[1] == '.' ? s + 1 : s;
}

static const char *micros(double us, char s[24]) {
    if (isnan(us)) strcpy(s, "?"); else snprintf(s, 24, us < 99.95 ? us < 9.995 ? "%.2f" : "%.1f" : "%.0f", us);
    return s;
}

static const char *grouped(double x, char s[32]) {          /* 4,829,184 */
    char d[32];
    int n, k = 0;
    if (isnan(x)) { strcpy(s, "?"); return s; }
    snprintf(d, 24, "%.0f", x < 0 || x > 1e15 ? 0 : x);
    n = (int)strlen(d);
    for (int i = 0; i < n; i++) { if (i && (n - i) % 3 == 0) s[k++] = ','; s[k++] = d[i]; }
    s[k] = 0;
    return s;
}

/* ---- >>judge ----------------------------------------------------------------------------------------------------- */

static list list_of(const result *r, const yardstick *y) {
    list x = { { 0 }, 0, 1, { NAN, 0 } };
    if (r) memcpy(&x, (const char *)r + y->list, sizeof x);
    return x;
}

/* b against a, run by run: differences, or ratios of times. Lists of different lengths cannot be paired. */
static list against(const list *a, const list *b, const yardstick *y) {
    list d = { { 0 }, a->n == b->n ? a->n : 0, a->weight + b->weight, a->noise };
    for (int i = 0; i < d.n; i++) {
        d.x[i] = y->times ? b->x[i] / a->x[i] : b->x[i] - a->x[i];
        if (!isfinite(d.x[i])) { d.n = 0; break; }
    }
    return d;
}

typedef struct { int sign, n; double mid, lo, hi; } compared;

static compared compared_of(list d, const yardstick *y) {
    compared c = { 0, d.n, NAN, NAN, NAN };
    if (y->times) {
        stats_range r = stats_median(d.x, d.n);
        c.mid = r.median; c.lo = r.lo; c.hi = r.hi;
        c.sign = stats_ratio_sign(r, d.n);
    } else {
        const double reach = stats_reach(d.noise, d.weight, d.n);
        c.mid = stats_of(d.x, d.n).mean; c.lo = c.mid - reach; c.hi = c.mid + reach;
        c.sign = stats_sign(c.mid, reach);
    }
    return c;
}

typedef struct { const yardstick *by; stats_verdict verdict; char text[640]; } evidence;
typedef struct { const char *about, *says; stats_verdict verdict; evidence e[3]; int n; } part;
enum { MAX_PARTS = 4 };
typedef struct { char key; const char *claim; stats_verdict verdict; part parts[MAX_PARTS]; int n; } observation;

static const char *const verdict_names[] = { "cannot tell", "supports", "contradicts" };

#define ADD(s, ...) snprintf((s) + strlen(s), sizeof(s) - strlen(s), __VA_ARGS__)

/* +0.036, or 60 %; × 1.02 of a ratio of ratios (second). */
static const char *amount(double x, const yardstick *y, int second, char s[32]) {
    if (y->times) snprintf(s, 32, second ? "\xc3\x97 %.2f" : "%.0f %%", second ? x : 100 * x);
    else snprintf(s, 32, "%s%.*f", x < 0 ? "\xe2\x88\x92" : "+", y->digits, fabs(x));
    return s;
}

/* (+0.028 to +0.044; 3 seeds), and whether that is clear. */
static void interval(char *s, size_t cap, compared c, const yardstick *y, int second) {
    char lo[32], hi[32];
    if (c.n < 2) snprintf(s, cap, "(%d %s%s: too few)", c.n, y->times ? "turn" : "seed", c.n == 1 ? "" : "s");
    else snprintf(s, cap, "(%s to %s; %d %s%s)", amount(c.lo, y, second, lo), amount(c.hi, y, second, hi), c.n,
                  y->times ? "turns" : "seeds", c.sign ? "" : y->times && c.n < STATS_TURNS ? ": too few" : ": not clear");
}

typedef struct { const char *name; list x; } point;

/* The last point against the first decides, any pair may take that away. second: the points are differences already.
   claimed 0: it cannot be said what would be claimed. */
static void trend(evidence *e, const point *p, int n, int claimed, int second) {
    const yardstick *y = e->by;
    int each[64], n_each = 0, with = 0, without = 0;
    compared ends;
    char a[32], b[32], c[32], range[128];
    if (n < 2) { snprintf(e->text, sizeof e->text, "too little is measured"); return; }
    ends = compared_of(against(&p[0].x, &p[n - 1].x, y), y);
    for (int i = 0; i < n; i++) for (int j = i + 1; j < n; j++) {
        int sign = compared_of(against(&p[i].x, &p[j].x, y), y).sign;
        if (i == 0 && j == n - 1) continue;
        with += sign == claimed;
        without += sign == -claimed;
        each[n_each++] = sign;
    }
    if (claimed) e->verdict = stats_judge(claimed, ends.sign, each, n_each);
    interval(range, sizeof range, ends, y, second);
    if (ends.n == 0) snprintf(e->text, sizeof e->text, "the runs of %s and %s cannot be paired", p[0].name, p[n - 1].name);
    else if (second) {
        amount(compared_of(p[0].x, y).mid, y, 0, a);
        amount(compared_of(p[n - 1].x, y).mid, y, 0, b);
        amount(ends.mid, y, 1, c);
        snprintf(e->text, sizeof e->text, "%s %s, %s %s%s; a change of %s %s", p[0].name, a, p[n - 1].name, b, y->unit, c,
                 range);
    } else if (y->times)
        snprintf(e->text, sizeof e->text, "%s takes %s of %s\xe2\x80\x99s time %s", p[n - 1].name, amount(ends.mid, y, 0, a),
                 p[0].name, range);
    else snprintf(e->text, sizeof e->text, "%s against %s %s%s %s", p[n - 1].name, p[0].name, amount(ends.mid, y, 0, a),
                  y->unit, range);
    if (ends.n && !claimed)
        ADD(e->text, "; whether they are %s is not clear", y->times ? "above or below 100 %" : "positive or negative");
    else if (ends.n && n_each)
        ADD(e->text, "; of %d other pairs %d clear as claimed, %d the other way", n_each, with, without);
}

/* The mean over all points decides, each of which is a difference already. */
static void pooled(evidence *e, const point *p, int n, int claimed) {
    const yardstick *y = e->by;
    list mean = { { 0 }, n ? p[0].x.n : 0, 0, { NAN, 0 } };
    int each[MAX_SEEDS];
    compared all;
    char a[32], range[128];
    for (int i = 0; i < n; i++) {
        if (p[i].x.n != mean.n) mean.n = 0;
        mean.weight += p[i].x.weight / ((double)n * n);
        mean.noise = p[i].x.noise;
    }
    for (int k = 0; k < mean.n; k++) {
        for (int i = 0; i < n; i++) mean.x[k] += (y->times ? log(p[i].x.x[k]) : p[i].x.x[k]) / n;
        if (y->times) mean.x[k] = exp(mean.x[k]);
    }
    all = compared_of(mean, y);
    for (int i = 0; i < n; i++) each[i] = compared_of(p[i].x, y).sign;
    e->verdict = stats_judge(claimed, all.sign, each, n);
    if (mean.n == 0) { snprintf(e->text, sizeof e->text, "too little is measured, or the runs cannot be paired"); return; }
    interval(range, sizeof range, all, y, 0);
    snprintf(e->text, sizeof e->text, "%s%s on average %s:", amount(all.mid, y, 0, a), y->unit, range);
    for (int i = 0; i < n; i++)
        ADD(e->text, "%s %s %s%s", i ? "," : "", p[i].name, amount(compared_of(p[i].x, y).mid, y, 0, a),
            each[i] ? " (clear)" : "");
}

static void between(evidence *e, const result *one, const result *middle, const result *other) {
    const yardstick *y = e->by;
    const result *end[2] = { one, other };
    list m = list_of(middle, y);
    int sign[2] = { 0, 0 };
    for (int i = 0; i < 2; i++) {
        list x = list_of(end[i], y);
        compared c = compared_of(against(&x, &m, y), y);
        char a[32], range[128];
        sign[i] = c.sign;
        if (c.n == 0) { snprintf(e->text, sizeof e->text, "the runs cannot be paired"); return; }
        interval(range, sizeof range, c, y, 0);
        amount(c.mid, y, 0, a);
        if (y->times) ADD(e->text, "%s%s of %s\xe2\x80\x99s time %s", i ? ", " : "", a, end[i]->label, range);
        else ADD(e->text, "%sagainst %s %s%s %s", i ? ", " : "", end[i]->label, a, y->unit, range);
    }
    e->verdict = stats_between(sign[0], sign[1]);
}

/* The pairs of a question that stand for its claim: GQA against MHA by proportion or by heads, KQV against GQA. */
static int pairs_of(const question *q, int which, const yardstick *y, point *p) {
    static const double cuts[] = { .75, .5, .25, .125 }, heads[] = { 4, 8, 16 };
    static const char *const names[2][4] = { { ".75", ".5", ".25", ".125" }, { "4 heads", "8 heads", "16 heads" } };
    int n = 0;
    for (int i = 0; i < (which == 1 ? 3 : 4); i++) {
        double cut = which == 1 ? .75 : cuts[i], h = which == 1 ? heads[i] : 0;
        list a = list_of(find(q, which == 2 ? SVG_GQA : SVG_MHA, cut, h), y);
        list b = list_of(find(q, which == 2 ? SVG_KQV : SVG_GQA, cut, h), y);
        if (a.n == 0 || b.n == 0) continue;
        p[n].name = names[which == 1][i];
        p[n++].x = against(&a, &b, y);
    }
    return n;
}

/* On which side of none the differences lie, by the first and the last together: where they shrink, they change the other
   way. The first is larger than the last exactly when their difference and their sum have the same sign. */
static int side_of(const point *p, int n, const yardstick *y) {
    list both = { { 0 }, 0, 0, { NAN, 0 } };
    if (n < 2 || p[0].x.n != p[n - 1].x.n) return 0;
    both = p[0].x;
    both.weight += p[n - 1].x.weight;
    for (int k = 0; k < both.n; k++)
        both.x[k] = y->times ? both.x[k] * p[n - 1].x.x[k] : both.x[k] + p[n - 1].x.x[k];
    return compared_of(both, y).sign;
}

/* MHA, then GQA with fewer and fewer key/value heads. */
static int points_of(const question *q, const yardstick *y, point *p) {
    static const double cuts[] = { 1, .75, .5, .25, .125 };
    int n = 0;
    for (int i = 0; i < 5; i++) {
        const result *r = find(q, i ? SVG_GQA : SVG_MHA, cuts[i], 0);
        p[n].x = list_of(r, y);
        if (p[n].x.n) p[n++].name = r->label;
    }
    return n;
}

/* What the limits would make of the puzzle. */
static void limits_of(evidence *e, const question *q) {
    const char *sep = ". By arithmetic and reading alone it would be";
    for (int i = 0; i < q->n; i++) if (q->r[i].family == SVG_GQA && q->r[i].limit_ratio_b16 > 0) {
        ADD(e->text, "%s %.0f", sep, 100 * q->r[i].limit_ratio_b16);
        sep = ",";
    }
    if (*sep == ',') ADD(e->text, " %%");
}

enum { OBSERVATIONS = 5 };
static const struct { char key; const char *claim; } claims[OBSERVATIONS] = {
    { 'a', "In GQA speed and quality are inverse: the fewer key/value heads, the faster and the worse." },
    { 'b', "With more heads, GQA .75 loses less quality against MHA." },
    { 'c', "KQV is faster than GQA of the same cache but of lower quality; the difference vanishes at low proportions." },
    { 'd', "The combination lies in between GQA and KQV, in speed and in quality." },
    { 'e', "The published puzzle: at 16 sequences GQA is slower than MHA." },
};

/* Each part of a claim: about which question, by which yardsticks, compared how. direction: 1 to the worse. */
enum { TREND, SECOND, SHRINKS, POOLED, BETWEEN };
static const struct { int claim, question, how, from, to, direction; const char *about, *says[3]; } parts[] = {
    { 0, 0, TREND, SPEED, YARDSTICKS, -1, "speed",
      { "whether fewer key/value heads are faster cannot be told", "fewer key/value heads are faster",
        "fewer key/value heads are slower" } },
    { 0, 0, TREND, QUALITY, SPEED, 1, "quality",
      { "whether fewer key/value heads are worse cannot be told", "fewer key/value heads are worse",
        "fewer key/value heads are better" } },
    { 1, 1, SECOND, QUALITY, SPEED, -1, "quality that GQA .75 loses",
      { "whether the loss of quality depends on the number of heads cannot be told", "the loss of quality is smaller with "
        "more heads", "the loss of quality is larger with more heads" } },
    { 2, 2, POOLED, SPEED, YARDSTICKS, -1, "speed, KQV against GQA",
      { "which of KQV and GQA is faster cannot be told", "KQV is faster than GQA", "KQV is slower than GQA" } },
    { 2, 2, POOLED, QUALITY, SPEED, 1, "quality, KQV against GQA",
      { "which of KQV and GQA is better cannot be told", "KQV is worse than GQA", "KQV is better than GQA" } },
    { 2, 2, SHRINKS, SPEED, YARDSTICKS, 0, "speed, difference at low proportions",
      { "whether the difference in speed shrinks cannot be told", "the difference in speed shrinks at low proportions",
        "the difference in speed grows at low proportions" } },
    { 2, 2, SHRINKS, QUALITY, SPEED, 0, "quality, difference at low proportions",
      { "whether the difference in quality shrinks cannot be told", "the difference in quality shrinks at low proportions",
        "the difference in quality grows at low proportions" } },
    { 3, 3, BETWEEN, SPEED, YARDSTICKS, 0, "speed",
      { "where the combination lies in speed cannot be told", "the combination lies between them in speed",
        "the combination does not lie between them in speed" } },
    { 3, 3, BETWEEN, QUALITY, SPEED, 0, "quality",
      { "where the combination lies in quality cannot be told", "the combination lies between them in quality",
        "the combination does not lie between them in quality" } },
    { 4, 0, POOLED, FEW, YARDSTICKS, 1, "time, GQA against MHA",
      { "which of GQA and MHA is faster there cannot be told", "GQA is slower than MHA here too",
        "GQA is faster than MHA here" } },
};

/* q: the four questions' rows. */
static void judge(const question *questions, observation out[OBSERVATIONS]) {
    memset(out, 0, OBSERVATIONS * sizeof *out);
    for (int i = 0; i < OBSERVATIONS; i++) { out[i].key = claims[i].key; out[i].claim = claims[i].claim; }
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const question *q = &questions[parts[i].question];
        observation *o = &out[parts[i].claim];
        part *now = &o->parts[o->n++];
        stats_verdict verdicts[YARDSTICKS];
        now->about = parts[i].about;
        for (int k = parts[i].from; k < parts[i].to; k++) {
            const yardstick *y = &yardsticks[k];
            evidence *e = &now->e[now->n];
            int measured = 0, claimed = parts[i].direction * y->worse, how = parts[i].how;
            point p[8];
            for (int r = 0; r < q->n; r++) measured |= list_of(&q->r[r], y).n > 0;
            if (!measured) continue;
            e->by = y;
            if (how == TREND) trend(e, p, points_of(q, y, p), claimed, 0);
            else if (how == SECOND) trend(e, p, pairs_of(q, parts[i].question, y, p), claimed, 1);
            else if (how == SHRINKS) {
                const int n = pairs_of(q, parts[i].question, y, p);
                trend(e, p, n, -side_of(p, n, y), 1);
            }
            else if (how == POOLED) pooled(e, p, pairs_of(q, parts[i].question, y, p), claimed);
            else between(e, find(q, SVG_GQA, .25, 0), find(q, SVG_COMBINED, .5, 0), find(q, SVG_KQV, .25, 0));
            if (y == &yardsticks[FEW] && parts[i].claim == 4) limits_of(e, q);
            verdicts[now->n++] = e->verdict;
        }
        now->verdict = stats_measures(verdicts, now->n);
        now->says = parts[i].says[now->verdict];
    }
    for (int i = 0; i < OBSERVATIONS; i++) {
        stats_verdict verdicts[MAX_PARTS];
        for (int k = 0; k < out[i].n; k++) verdicts[k] = out[i].parts[k].verdict;
        out[i].verdict = stats_all(verdicts, out[i].n);
    }
}

/* What the parts of a claim say, as a sentence. */
static const char *conclusion(const observation *o, char s[640]) {
    *s = 0;
    for (int i = 0; i < o->n; i++) snprintf(s + strlen(s), 640 - strlen(s), "%s%s", i ? "; " : "", o->parts[i].says);
    snprintf(s + strlen(s), 640 - strlen(s), ".");
    *s = (char)toupper((unsigned char)*s);
    return s;
}

/* "Of the 5 published observations this run supports 1, contradicts 1, and cannot tell of 3." */
static const char *tally(const observation *o, char s[128]) {
    int n[3] = { 0, 0, 0 };
    for (int i = 0; i < OBSERVATIONS; i++) n[o[i].verdict]++;
    snprintf(s, 128, "Of the %d published observations this run supports %d, contradicts %d, and cannot tell of %d.",
             OBSERVATIONS, n[STATS_SUPPORTS], n[STATS_CONTRADICTS], n[STATS_CANNOT_TELL]);
    return s;
}

/* On the screen, each claim with what it rests on. */
static void print_judgement(FILE *f, const observation *o) {
    char total[128];
    fprintf(f, "%s\n", tally(o, total));
    for (int i = 0; i < OBSERVATIONS; i++) {
        char s[640];
        fprintf(f, "\n%-11s  (%c) %s\n             %s\n", verdict_names[o[i].verdict], o[i].key, o[i].claim,
                conclusion(&o[i], s));
        for (int k = 0; k < o[i].n; k++) {
            const part *p = &o[i].parts[k];
            fprintf(f, "  %-11s  %s%s\n", verdict_names[p->verdict], p->about, p->n ? "" : ": not measured");
            for (int j = 0; j < p->n; j++)
                fprintf(f, "    %-11s  %s: %s\n", verdict_names[p->e[j].verdict], p->e[j].by->name, p->e[j].text);
        }
    }
    fputc('\n', f);
}

#endif
