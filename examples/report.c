/* report.c: one page for the whole study.
 *
 * Claim    What the four research programs measured, read side by side with what was published, shows which differences
 *          between the variants are larger than the differences between seeds.
 * Command  mkdir -p build && cc -O2 -o build/report examples/report.c -lm -lpthread
 *          build/report [directory with the CSV files; out]
 * Prints   of each published observation whether these runs support it, contradict it or cannot tell, with the numbers; and
 *          the name of the page it wrote, report.html in the same directory, which needs no network.
 * Takes    a blink. Research questions that have not been run are named as such.
 *
 * Reads rq1_1.csv rq1_2.csv rq2.csv rq3.csv curves.csv pairs.csv settings.csv, as lab.h writes them (RFC 4180).
 * findings.h reads and judges them. Contents: >>chart >>figures >>tables >>curves >>pairs >>judgement >>page */
#define _POSIX_C_SOURCE 200809L
#include "findings.h"

/* ---- >>chart ----------------------------------------------------------------------------------------------------- */

typedef struct {
    double x, y, sd;
    double limit_x, limit_y;                                /* where the limits would have it; NAN: nowhere */
    int family, series;                                     /* marks of one series that follow each other are joined */
    char label[32], limit_label[32], tip[240];
} mark;

typedef struct {
    const char *title, *better, *x_title;
    int bars, reverse, digits;                              /* digits: of the values in labels; bars stand on 0 */
    const double *ticks;                                    /* [n_ticks] NULL: nice ones */
    char (*names)[2][24];                                   /* [n_ticks] two lines under each; NULL: the numbers */
    int n_ticks;
    double line;                                            /* a dashed line across, NAN: none */
} chart;

/* Widens [lo, hi] to multiples of 1, 2 or 5 times a power of ten, about n of them. Returns the step. */
static double nice(double *lo, double *hi, int n) {
    double raw, base, step;
    if (!(*hi > *lo)) { double d = fabs(*lo) * .05 + 1e-3; *lo -= d; *hi += d; }
    raw = (*hi - *lo) / n;
    base = pow(10, floor(log10(raw)));
    step = base * (raw / base <= 1 ? 1 : raw / base <= 2 ? 2 : raw / base <= 5 ? 5 : 10);
    *lo = floor(*lo / step + 1e-9) * step;
    *hi = ceil(*hi / step - 1e-9) * step;
    return step;
}

static const char *tick_text(double x, double step, char s[32]) {
    int digits = step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0;
    snprintf(s, 32, "%.*f", digits > 9 ? 9 : digits, fabs(x) < step * 1e-6 ? 0 : x);
    return s;
}

#define W 266
#define H 226
static void draw_chart(FILE *f, const chart *c, const mark *all, int n_all) {
    const double left = 38, right = W - 10, top = 34, bottom = H - (c->x_title || (c->names && *c->names[0][1]) ? 40 : 26);
    double x_lo = INFINITY, x_hi = -INFINITY, y_lo = INFINITY, y_hi = -INFINITY, x_step = 0, y_step;
    double x_from, x_room;
    mark m[MAX_VARIANTS];
    svg_box taken[MAX_VARIANTS * 20], edge = { left + 1, top - 12, right + 9, bottom };
    double weight[MAX_VARIANTS * 20];
    int n = 0, n_taken = 0;
    char s[32];
    for (int i = 0; i < n_all && n < MAX_VARIANTS; i++) if (isfinite(all[i].x) && isfinite(all[i].y)) m[n++] = all[i];

    fprintf(f, "<figure class=\"panel\"><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", W, H);
    svg_escape(f, c->title);
    fputs("\">", f);
    svg_text(f, 4, 14, 12, "start", "name", c->title);
    if (c->better) svg_text(f, W - 4, 14, 10, "end", "soft", c->better);
    if (n == 0) {
        svg_text(f, W / 2, H / 2, 12, "middle", "soft", "not measured");
        fputs("</svg></figure>\n", f);
        return;
    }
    for (int i = 0; i < n; i++) {
        double sd = m[i].sd > 0 ? m[i].sd : 0;
        x_lo = fmin(x_lo, m[i].x); x_hi = fmax(x_hi, m[i].x);
        y_lo = fmin(y_lo, m[i].y - sd); y_hi = fmax(y_hi, m[i].y + sd);
        x_lo = fmin(x_lo, m[i].limit_x); x_hi = fmax(x_hi, m[i].limit_x);
        y_lo = fmin(y_lo, m[i].limit_y); y_hi = fmax(y_hi, m[i].limit_y);
    }
    if (isfinite(c->line)) { y_lo = fmin(y_lo, c->line); y_hi = fmax(y_hi, c->line); }
    if (c->bars) y_lo = 0, y_hi *= 1.1; else { double d = (y_hi - y_lo) * .08; y_lo -= d; y_hi += d; }
    y_step = nice(&y_lo, &y_hi, 4);
    if (c->ticks) {
        x_lo = fmin(x_lo, c->ticks[0]); x_hi = fmax(x_hi, c->ticks[c->n_ticks - 1]);
        if (c->names) { x_lo -= .5; x_hi += .5; } else { double d = (x_hi - x_lo) * .06; x_lo -= d; x_hi += d; }
    } else {
        double d = (x_hi - x_lo) * .06;
        x_lo -= d; x_hi += d;
        x_step = nice(&x_lo, &x_hi, 4);
    }
    x_from = c->reverse ? right : left;
    x_room = c->reverse ? left - right : right - left;
#define PX(x) (x_from + ((x) - x_lo) / (x_hi - x_lo) * x_room)
#define PY(y) (bottom - ((y) - y_lo) / (y_hi - y_lo) * (bottom - top))
    for (int i = 0; y_lo + i * y_step <= y_hi + y_step / 2; i++) {
        double y = PY(y_lo + i * y_step);
        fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fH%.1f\"/>", left, y, right);
        svg_text(f, left - 5, y + 3.5, 10, "end", "soft", tick_text(y_lo + i * y_step, y_step, s));
    }
    if (c->ticks) for (int i = 0; i < c->n_ticks; i++) {
        double x = PX(c->ticks[i]);
        if (c->names) for (int k = 0; k < 2; k++) svg_text(f, x, bottom + 14 + 12 * k, 9, "middle", "soft", c->names[i][k]);
        else svg_text(f, x, bottom + 15, 10, "middle", "soft", proportion(c->ticks[i], s));
    } else for (int i = 0; x_lo + i * x_step <= x_hi + x_step / 2; i++) {
        double x = PX(x_lo + i * x_step);
        fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fV%.1f\"/>", x, top, bottom);
        svg_text(f, x, bottom + 15, 10, "middle", "soft", tick_text(x_lo + i * x_step, x_step, s));
    }
    fprintf(f, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", left, bottom, right);
    if (c->x_title) svg_text(f, (left + right) / 2, H - 6, 10, "middle", "soft", c->x_title);
    if (isfinite(c->line)) fprintf(f, "<path class=\"dash f0\" d=\"M%.1f %.1fH%.1f\"/>", left, PY(c->line), right);

    /* What labels should keep clear of: marks and error bars at all costs, joining lines if they can. */
    for (int i = 0; i < n; i++) {
        double x = PX(m[i].x), y = PY(m[i].y), e = m[i].sd > 0 ? PY(m[i].y - m[i].sd) - y : 0;
        svg_box dot = { x - 6, y - 6, x + 6, y + 6 }, error = { x - 3, y - e - 1, x + 3, y + e + 1 };
        if (c->bars) dot.y0 = y, dot.y1 = bottom;
        weight[n_taken] = 4; taken[n_taken++] = dot;
        weight[n_taken] = 4; taken[n_taken++] = error;
        if (isfinite(m[i].limit_y)) {
            double lx = PX(m[i].limit_x), ly = PY(m[i].limit_y);
            svg_box b = { lx - 5, ly - 3, lx + 5, ly + 3 };
            weight[n_taken] = 1.5; taken[n_taken++] = b;
            if (!c->bars && i + 1 < n && m[i + 1].series == m[i].series && isfinite(m[i + 1].limit_y)) {
                double dx = PX(m[i + 1].limit_x) - lx, dy = PY(m[i + 1].limit_y) - ly;
                fprintf(f, "<path class=\"limit f%d\" d=\"M%.1f %.1fl%.1f %.1f\"/>", m[i + 1].family, lx, ly, dx, dy);
                for (int k = 1; k < 8; k++) {
                    svg_box on = { lx + dx * k / 8 - 3, ly + dy * k / 8 - 3, lx + dx * k / 8 + 3, ly + dy * k / 8 + 3 };
                    weight[n_taken] = 1.5; taken[n_taken++] = on;
                }
            }
        }
        if (i + 1 == n || m[i + 1].series != m[i].series || c->bars || m[i].series < 0) continue;
        double dx = PX(m[i + 1].x) - x, dy = PY(m[i + 1].y) - y;
        fprintf(f, "<path class=\"join f%d\" d=\"M%.1f %.1fl%.1f %.1f\"/>", m[i + 1].family, x, y, dx, dy);
        for (int k = 1; k < 8; k++) {
            double lx = x + dx * k / 8, ly = y + dy * k / 8;
            svg_box b = { lx - 3, ly - 3, lx + 3, ly + 3 };
            weight[n_taken] = 1.5; taken[n_taken++] = b;
        }
    }
    for (int i = 0; i < n; i++) {
        double x = PX(m[i].x), y = PY(m[i].y);
        fprintf(f, "<g class=\"f%d\">", m[i].family);
        svg_tip(f, m[i].tip);
        if (c->bars)
            fprintf(f, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"30\" height=\"%.1f\"/>", x - 15, y, bottom - y);
        if (c->bars && isfinite(m[i].limit_y))
            fprintf(f, "<path class=\"limit\" d=\"M%.1f %.1fh44\"/>", x - 22, PY(m[i].limit_y));
        if (m[i].sd > 0) {
            double a = PY(m[i].y - m[i].sd), b = PY(m[i].y + m[i].sd);
            fprintf(f, "<path class=\"spread\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8\"/>",
                    x, a, b, x - 4, a, x - 4, b);
        }
        if (!c->bars) svg_mark(f, m[i].family, x, y, 4.2);
        fputs("</g>", f);
    }
    /* Each label takes the free place nearest to its mark. */
    for (int each = 0; each < 2 * n; each++) {
        static const struct { double x, y; const char *anchor; } at[] = {
            { 0, -9, "middle" }, { 0, 17, "middle" }, { 9, 4, "start" }, { -9, 4, "end" }, { 7, -7, "start" },
            { -7, -7, "end" }, { 7, 14, "start" }, { -7, 14, "end" }, { 0, -20, "middle" }, { 0, 28, "middle" },
            { 14, -15, "start" }, { -14, -15, "end" }, { 14, 22, "start" }, { -14, 22, "end" },
        };
        const int i = each % n, own = each < n;
        const char *label = own ? m[i].label : m[i].limit_label, *anchor = "middle";
        double mark_x = PX(own ? m[i].x : m[i].limit_x), mark_y = PY(own ? m[i].y : m[i].limit_y);
        double best = INFINITY, w = strlen(label) * 6.4, e = own && m[i].sd > 0 ? PY(m[i].y - m[i].sd) - mark_y : 0;
        svg_box placed = edge;
        if (!*label || isnan(mark_x) || isnan(mark_y)) continue;
        for (int k = 0; k < COUNT(at); k++) {
            double x = mark_x + at[k].x, y = mark_y + at[k].y, cost = k * 3;
            svg_box b;
            if (at[k].x == 0) y += at[k].y < 0 ? -e + (c->bars ? 5 : 0) : e;
            b.x0 = at[k].anchor[0] == 's' ? x : at[k].anchor[0] == 'e' ? x - w : x - w / 2;
            b.x1 = b.x0 + w; b.y0 = y - 9; b.y1 = y + 2;
            cost += 6 * (w * 11 - svg_overlap(b, edge));
            for (int j = 0; j < n_taken; j++) cost += weight[j] * svg_overlap(b, taken[j]);
            if (cost < best) { best = cost; anchor = at[k].anchor; placed = b; }
        }
        weight[n_taken] = 20; taken[n_taken++] = placed;
        fprintf(f, "<g class=\"f%d\">", m[i].family);
        svg_text(f, *anchor == 's' ? placed.x0 : *anchor == 'e' ? placed.x1 : (placed.x0 + placed.x1) / 2, placed.y1 - 2, 10,
                 anchor, own ? "tint halo" : "soft halo", label);
        fputs("</g>", f);
    }
#undef PX
#undef PY
    fputs("</svg></figure>\n", f);
}

/* ---- >>figures --------------------------------------------------------------------------------------------------- */

/* What is measured: own or published, quality or time. */
typedef struct {
    const char *title, *better, *tip;
    size_t value, sd, limit;                                /* offsets into a result; 0: none */
    size_t each;                                            /* of the list with every seed's */
    int digits;                                             /* -1: as a time */
} measure;
static const measure measures[2][4] = {
    { { "Held-out loss", "↓ better", "held-out loss", AT(loss_mean), AT(loss_sd), 0, AT(loss_seeds), 3 },
      { "Minimal pairs (%)", "↑ better", "minimal pairs %", AT(pairs_mean), AT(pairs_sd), 0, AT(pairs_seeds), 1 },
      { "µs per token, b = 16", "↓ faster", "µs/token at b=16", AT(us_b16), 0, AT(limit_us_b16), 0, -1 },
      { "µs per token, b = 512", "↓ faster", "µs/token at b=512", AT(us_b512), 0, AT(limit_us_b512), 0, -1 } },
    { { "GLUE (%)", "↑ better", "GLUE %", AT(pub_glue), 0, 0, 0, 1 },
      { "BLiMP (%)", "↑ better", "BLiMP %", AT(pub_blimp), 0, 0, 0, 1 },
      { "µs per token, b = 16", "↓ faster", "µs/token at b=16", AT(pub_us_b16), 0, 0, 0, -1 },
      { "µs per token, b = 512", "↓ faster", "µs/token at b=512", AT(pub_us_b512), 0, 0, 0, -1 } },
};
enum { LOSS, PAIRS, US16, US512 };

static double value_of(const result *r, size_t offset) {
    double x;
    memcpy(&x, (const char *)r + offset, sizeof x);
    return x;
}

static void value_text(const measure *q, double x, char s[24]) {
    if (q->digits < 0 || isnan(x)) micros(x, s); else snprintf(s, 24, "%.*f", q->digits, x);
}

static mark make_mark(const result *r, const measure *q, double x, int series) {
    mark m;
    char v[24];
    int used;
    memset(&m, 0, sizeof m);
    m.x = m.limit_x = x;
    m.y = value_of(r, q->value);
    m.limit_y = q->limit ? value_of(r, q->limit) : NAN;
    m.sd = q->sd ? value_of(r, q->sd) : NAN;
    m.family = r->family;
    m.series = series;
    value_text(q, m.y, v);
    snprintf(m.label, sizeof m.label, "%s", v);
    used = snprintf(m.tip, sizeof m.tip, "%.60s: %s %s", r->label, q->tip, v);
    if (m.sd >= 0) snprintf(m.tip + used, sizeof m.tip - (size_t)used, " ± %.*f (%.0f seeds)", q->digits, m.sd, r->seeds);
    if (m.limit_y > 0) snprintf(m.tip + used, sizeof m.tip - (size_t)used, ", limit %s", micros(m.limit_y, v));
    return m;
}

/* Beside where the limits have a time: that time. */
static void limit_value(mark *m, const char *before) {
    char v[24];
    if (m->limit_y > 0) snprintf(m->limit_label, sizeof m->limit_label, "%.7s%s", before, micros(m->limit_y, v));
}

static const char *const whose[2] = { "This machine. Dotted: the least time that its limits allow",
                                      "Published: a Python implementation on a GPU" };

static void row_open(FILE *f, int published) { fprintf(f, "<h4>%s</h4><div class=\"panels\">\n", whose[published]); }

/* Figure 3: GQA from all key/value heads to one in eight. */
static void figure_3(FILE *f, const question *q) {
    static const double all[] = { .125, .25, .5, .75, 1 };
    for (int p = 0; p < 2; p++) {
        row_open(f, p);
        for (int k = 0; k < 4; k++) {
            chart c = { 0 };
            mark m[COUNT(all)];
            int n = 0;
            c.title = measures[p][k].title; c.better = measures[p][k].better; c.line = NAN;
            c.x_title = "group proportion G/H"; c.reverse = 1; c.ticks = all; c.n_ticks = COUNT(all);
            for (int i = COUNT(all) - 1; i >= 0; i--) {
                const result *r = find(q, all[i] == 1 ? SVG_MHA : SVG_GQA, all[i], 0);
                if (r) m[n++] = make_mark(r, &measures[p][k], all[i], 0);
            }
            if (n) limit_value(&m[0], "limit "), limit_value(&m[n - 1], "");
            draw_chart(f, &c, m, n);
        }
        fputs("</div>\n", f);
    }
}

/* The same number of heads with and without groups. */
static void figure_heads(FILE *f, const question *q) {
    static const double heads[] = { 4, 8, 16 }, at[] = { 0, 1, 2 };
    fputs("<div class=\"panels\">\n", f);
    for (int k = 0; k < 4; k++) {
        const measure *y = &measures[k / 2][k % 2];
        char names[3][2][24] = { { "4 heads", "" }, { "8 heads", "" }, { "16 heads", "" } }, title[64];
        chart c = { 0 };
        mark m[6];
        int n = 0;
        snprintf(title, sizeof title, "%s, %s", y->title, k / 2 ? "published" : "this machine");
        c.title = title; c.better = y->better; c.line = NAN;
        c.ticks = at; c.names = names; c.n_ticks = 3;
        for (int s = 0; s < 2; s++) for (int i = 0; i < 3; i++) {
            const result *r = find(q, s ? SVG_GQA : SVG_MHA, .75, heads[i]);
            char v[24];
            if (!r) continue;
            m[n] = make_mark(r, y, i + (s ? .1 : -.1), s);
            value_text(y, m[n].y, v);
            if (i == 0) snprintf(m[n].label, sizeof m[n].label, "%s %s", s ? "GQA .75" : "MHA", v);
            n++;
        }
        draw_chart(f, &c, m, n);
    }
    fputs("</div>\n", f);
}

/* Figure 4: GQA and KQV from the same start, quality over time. */
static void figure_4(FILE *f, const question *q) {
    static const double cuts[] = { 1, .75, .5, .25, .125 };
    static const int y_of[] = { LOSS, PAIRS, LOSS, PAIRS }, x_of[] = { US16, US16, US512, US512 };
    for (int p = 0; p < 2; p++) {
        row_open(f, p);
        for (int k = 0; k < 4; k++) {
            const measure *x = &measures[p][x_of[k]];
            chart c = { 0 };
            mark m[2 * COUNT(cuts)];
            int n = 0;
            c.title = measures[p][y_of[k]].title; c.better = measures[p][y_of[k]].better; c.line = NAN;
            c.x_title = x->title;
            for (int s = SVG_GQA; s <= SVG_KQV; s++) for (int i = 0; i < COUNT(cuts); i++) {
                const result *r = find(q, i ? s : SVG_MHA, cuts[i], 0);
                char v[24], d[16];
                size_t used;
                if (!r) continue;
                m[n] = make_mark(r, &measures[p][y_of[k]], value_of(r, x->value), s);
                if (x->limit) { m[n].limit_x = value_of(r, x->limit); m[n].limit_y = m[n].y; }
                if (i == COUNT(cuts) - 1) strcpy(m[n].limit_label, "limit");
                value_text(x, m[n].x, v);
                used = strlen(m[n].tip);
                snprintf(m[n].tip + used, sizeof m[n].tip - used, ", %s %s", x->tip, v);
                snprintf(m[n].label, sizeof m[n].label, "%s%s", i == COUNT(cuts) - 1 ? s == SVG_GQA ? "GQA " : "KQV " : "",
                         i ? proportion(cuts[i], d) : s == SVG_GQA ? "MHA" : "");
                n++;
            }
            draw_chart(f, &c, m, n);
        }
        fputs("</div>\n", f);
    }
}

/* Figure 5: three ways to a small cache, with full attention as the measure. */
static void figure_5(FILE *f, const question *q, const result *mha) {
    for (int p = 0; p < 2; p++) {
        row_open(f, p);
        for (int k = 0; k < 4; k++) {
            chart c = { 0 };
            static const double at[4] = { 0, 1, 2, 3 };
            char names[4][2][24] = { { "MHA", "1" }, { "GQA", ".25" }, { "COMBINED", ".5/.5" }, { "KQV", ".25" } };
            const result *r[4] = { mha, find(q, SVG_GQA, .25, 0), find(q, SVG_COMBINED, .5, 0), find(q, SVG_KQV, .25, 0) };
            mark m[4];
            int n = 0;
            c.title = measures[p][k].title; c.better = measures[p][k].better;
            c.ticks = at; c.names = names; c.n_ticks = 4; c.bars = k >= US16;
            c.line = mha ? value_of(mha, measures[p][k].value) : NAN;
            for (int i = 0; i < 4; i++) if (r[i]) m[n++] = make_mark(r[i], &measures[p][k], i, -1);
            draw_chart(f, &c, m, n);
        }
        fputs("</div>\n", f);
    }
}

/* ---- >>tables ---------------------------------------------------------------------------------------------------- */

static void cell(FILE *f, const char *kind, const char *text) {
    fprintf(f, "<td class=\"%s\">", kind);
    if (strcmp(text, "?")) svg_escape(f, text);
    fputs("</td>", f);
}

static void with_spread(char s[64], double x, double sd, int digits) {
    if (isnan(x)) strcpy(s, "?");
    else if (isnan(sd)) snprintf(s, 64, "%.*f", digits, x);
    else snprintf(s, 64, "%.*f ± %.*f", digits, x, digits, sd);
}

static void whole(char s[64], double x) { if (isnan(x)) strcpy(s, "?"); else snprintf(s, 64, "%.0f", x); }

static void table(FILE *f, const question *q) {
    fputs("<div class=\"wide\"><table class=\"full\"><thead><tr><th></th><th colspan=\"6\">published shape</th><th "
          "colspan=\"7\">this machine</th><th colspan=\"5\" class=\"pub\">published (Python, GPU)</th></tr>\n"
          "<tr><th>variant</th><th>H</th><th>G</th><th>S</th><th>FFN</th><th>parameters</th><th>cache bytes/token</th><th>"
          "held-out loss</th><th>perplexity</th><th>pairs %</th><th>µs b=16</th><th>limit</th><th>µs b=512</th><th>limit"
          "</th><th class=\"pub\">"
          "FFN</th><th class=\"pub\">BLiMP %</th><th class=\"pub\">GLUE %</th><th class=\"pub\">µs b=16</th><th "
          "class=\"pub\">µs b=512</th></tr></thead><tbody>\n", f);
    for (int i = 0; i < q->n; i++) {
        const result *r = &q->r[i];
        char s[64];
        const double shape_of[] = { r->heads, r->kv_heads, r->kqv_size, r->ffn };
        fprintf(f, "<tr><th class=\"f%d\"><i></i>", r->family);
        svg_escape(f, r->label);
        fputs("</th>", f);
        for (int k = 0; k < 4; k++) { whole(s, shape_of[k]); cell(f, "", s); }
        cell(f, "", grouped(r->params, s));
        cell(f, "", grouped(r->kv_bytes_per_token, s));
        with_spread(s, r->loss_mean, r->loss_sd, 3); cell(f, "own", s);
        with_spread(s, r->ppl_mean, NAN, 2); cell(f, "", s);
        with_spread(s, r->pairs_mean, r->pairs_sd, 1); cell(f, "own", s);
        cell(f, "own", micros(r->us_b16, s));
        cell(f, "pale", micros(r->limit_us_b16, s));
        cell(f, "own", micros(r->us_b512, s));
        cell(f, "pale", micros(r->limit_us_b512, s));
        whole(s, r->pub_ffn); cell(f, "pub", s);
        with_spread(s, r->pub_blimp, NAN, 1); cell(f, "pub", s);
        with_spread(s, r->pub_glue, NAN, 1); cell(f, "pub", s);
        with_spread(s, r->pub_us_b16, NAN, 2); cell(f, "pub", s);
        with_spread(s, r->pub_us_b512, NAN, 2); cell(f, "pub", s);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

/* b minus a, seed by seed. Returns 1 when it is clear. */
static int gap(const result *a, const result *b, const measure *q, char s[64], const char **kind) {
    list x, y;
    stats d;
    memcpy(&x, (const char *)a + q->each, sizeof x);
    memcpy(&y, (const char *)b + q->each, sizeof y);
    d = stats_difference(x.x, y.x, x.n < y.n ? x.n : y.n);
    *kind = "";
    if (d.n == 0) { strcpy(s, "?"); return 0; }
    snprintf(s, 64, "%s%.*f", d.mean < 0 ? "−" : "+", q->digits, fabs(d.mean));
    if (d.n == 1) return 0;
    snprintf(s + strlen(s), 24, " (± %.*f)", q->digits, d.sd);
    *kind = stats_clear(d) ? "own" : "pale";
    return stats_clear(d);
}

/* How many times a's time b takes, turn by turn. */
static stats_range ratio_of(const list *a, const list *b) {
    double x[MAX_SEEDS];
    int n = a->n < b->n ? a->n : b->n;
    for (int i = 0; i < n; i++) x[i] = b->x[i] / a->x[i];
    return stats_median(x, n);
}

/* x, or the turns' median with its interval, and what the limits would make of it. */
static void times(FILE *f, double x, stats_range r, double limit) {
    char s[64];
    if (r.hi > r.lo) snprintf(s, sizeof s, "× %.2f (%.2f–%.2f)", r.median, r.lo, r.hi);
    else if (x > 0) snprintf(s, sizeof s, "× %.3g", x);
    else strcpy(s, "?");
    if (limit > 0) {
        fprintf(f, "<td>%s <span>limits %.2f</span></td>", s, limit);
        return;
    }
    cell(f, "", s);
}

/* Why the variant that gains most by the limits gains what it does, with many sequences and with few. */
static void explain(FILE *f, const question *q) {
    const result *mha = q->n ? &q->r[0] : NULL, *best = NULL;
    for (int i = 1; i < q->n; i++)
        if (q->r[i].limit_ratio_b512 > 0 && (!best || q->r[i].limit_ratio_b512 < best->limit_ratio_b512)) best = &q->r[i];
    if (!best) return;
    fputs("<p>", f);
    for (int few = 0; few < 2; few++) {
        const result *of[2] = { mha, best };
        double predicted = 1 / (few ? best->limit_ratio_b16 : best->limit_ratio_b512);
        stats_range r = few ? ratio_of(&mha->ratio_b16_turns, &best->ratio_b16_turns)
                            : ratio_of(&mha->ratio_b512_turns, &best->ratio_b512_turns);
        fputs(few ? " With 16 it takes" : "With 512 sequences attention, which reads every cache, takes", f);
        for (int k = 0; k < 2; k++) {
            char some[24], least[24];
            micros(few ? of[k]->limit_attention_us_b16 : of[k]->limit_attention_us_b512, some);
            micros(few ? of[k]->limit_us_b16 : of[k]->limit_us_b512, least);
            fprintf(f, few || k ? "%s %s of %s with " : "%s %s of the %s µs that a token needs at least with ",
                    k ? " and" : "", some, least);
            svg_escape(f, of[k]->label);
        }
        fprintf(f, ": a speed-up of %.2f is predicted, %.2f measured", predicted, 1 / r.median);
        if (r.hi > r.lo) fprintf(f, " (%.2f–%.2f)", 1 / r.hi, 1 / r.lo);
        fputs(".", f);
    }
    fputs("</p>\n", f);
}

/* Second of each pair against the first: differences of quality, ratios of time and cache. */
static void compare(FILE *f, const result *(*pairs)[2], int n) {
    int more[2] = { 0, 0 }, all[2] = { 0, 0 };
    char s[64];
    fputs("<div class=\"wide\"><table class=\"gaps\"><thead><tr><th></th><th>held-out loss</th><th>minimal pairs, "
          "points</th><th>µs/token, b=16</th><th>µs/token, b=512</th><th>cache</th></tr></thead><tbody>\n", f);
    for (int i = 0; i < n; i++) {
        const result *a = pairs[i][0], *b = pairs[i][1];
        if (!a || !b) continue;
        fprintf(f, "<tr><th class=\"f%d\"><i></i>", b->family);
        svg_escape(f, b->label);
        fputs(" <span>against ", f);
        svg_escape(f, a->label);
        fputs("</span></th>", f);
        for (int k = 0; k < 2; k++) {
            const char *kind;
            more[k] += gap(a, b, &measures[0][k], s, &kind);
            all[k] += *kind != 0;
            cell(f, kind, s);
        }
        times(f, b->us_b16 / a->us_b16, ratio_of(&a->ratio_b16_turns, &b->ratio_b16_turns),
              b->limit_ratio_b16 / a->limit_ratio_b16);
        times(f, b->us_b512 / a->us_b512, ratio_of(&a->ratio_b512_turns, &b->ratio_b512_turns),
              b->limit_ratio_b512 / a->limit_ratio_b512);
        times(f, b->kv_bytes_per_token / a->kv_bytes_per_token, stats_median(NULL, 0), NAN);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
    if (all[0] + all[1]) fputs("<p>Clear differences:", f);
    for (int k = 0; k < 2; k++) if (all[k])
        fprintf(f, "%s %s in %d of %d", k && all[0] ? "," : "", k ? "minimal pairs" : "held-out loss", more[k], all[k]);
    if (all[0] + all[1]) fputs(".</p>\n", f);
}

/* ---- >>curves ---------------------------------------------------------------------------------------------------- */

typedef struct { double step, sum, lo, hi; int n; } curve_point;
typedef struct { const char *variant, *label; curve_point *p; int n, seeds; } curve;

static int curves_of(const csv *t, curve *out) {
    int n = 0;
    for (int row = 1; row < t->rows; row++) {
        const char *variant = csv_text(t, row, "variant");
        double loss = csv_number(t, row, "valid_loss"), step = csv_number(t, row, "step");
        int i = 0, k = 0;
        if (isnan(loss) || isnan(step)) continue;
        while (i < n && strcmp(out[i].variant, variant)) i++;
        if (i == MAX_VARIANTS) fail("%s: more than %d variants", t->path, MAX_VARIANTS);
        if (i == n) {
            out[n].variant = variant;
            out[n].label = *csv_text(t, row, "label") ? csv_text(t, row, "label") : variant;
            out[n].n = 0;
            out[n++].p = (curve_point *)room((size_t)t->rows, sizeof(curve_point));
        }
        while (k < out[i].n && out[i].p[k].step != step) k++;
        if (k == out[i].n) {                                /* kept in order of steps */
            curve_point p = { step, 0, loss, loss, 0 };
            for (out[i].n++; k > 0 && out[i].p[k - 1].step > step; k--) out[i].p[k] = out[i].p[k - 1];
            out[i].p[k] = p;
        }
        out[i].p[k].sum += loss; out[i].p[k].n++;
        out[i].p[k].lo = fmin(out[i].p[k].lo, loss); out[i].p[k].hi = fmax(out[i].p[k].hi, loss);
    }
    for (int i = 0; i < n; i++) {
        out[i].seeds = 0;
        for (int k = 0; k < out[i].n; k++) if (out[i].p[k].n > out[i].seeds) out[i].seeds = out[i].p[k].n;
    }
    return n;
}

static void curve_line(FILE *f, const curve *c, const char *kind, double x_hi, double y_lo, double y_hi, svg_box in) {
    fprintf(f, "<path class=\"%s\" d=\"", kind);
    for (int i = 0; i < c->n; i++)
        fprintf(f, "%c%.1f %.1f", i ? 'L' : 'M', in.x0 + c->p[i].step / x_hi * (in.x1 - in.x0),
                in.y1 - (c->p[i].sum / c->p[i].n - y_lo) / (y_hi - y_lo) * (in.y1 - in.y0));
    fputs("\"/>", f);
}

/* One small panel for each variant on common axes, the first full attention's curve behind each. The steep start is cut
   off: the axis ends where the slowest variant is after a fifth of the steps. */
static void draw_curves(FILE *f, const curve *c, int n) {
    const svg_box in = { 34, 24, 222, 132 };
    double x_hi = 0, y_lo = INFINITY, y_hi = -INFINITY, x_step, y_step, zero = 0;
    int base = -1;
    for (int i = 0; i < n; i++) x_hi = fmax(x_hi, c[i].p[c[i].n - 1].step);
    for (int i = 0; i < n; i++) {
        if (base < 0 && family_of(c[i].label) == SVG_MHA) base = i;
        for (int k = 0; k < c[i].n; k++) {
            y_lo = fmin(y_lo, c[i].p[k].lo);
            if (c[i].p[k].step >= x_hi / 5) y_hi = fmax(y_hi, c[i].p[k].hi);
        }
    }
    if (!(y_hi > y_lo)) y_hi = y_lo + 1;
    y_step = nice(&y_lo, &y_hi, 4);
    if (!(x_hi > 0)) x_hi = 1;
    x_step = nice(&zero, &x_hi, 3);
    fprintf(f, "<svg width=\"0\" height=\"0\" class=\"none\"><defs><clipPath id=\"in\"><rect x=\"%.0f\" y=\"%.0f\" "
            "width=\"%.0f\" height=\"%.0f\"/></clipPath></defs></svg><div class=\"panels small\">\n",
            in.x0, in.y0, in.x1 - in.x0 + 4, in.y1 - in.y0);
    for (int i = 0; i < n; i++) {
        const curve_point *last = &c[i].p[c[i].n - 1];
        char s[160];
        double mean = last->sum / last->n, y;
        fprintf(f, "<figure class=\"panel f%d\"><svg viewBox=\"0 0 230 152\" role=\"img\"><g>", family_of(c[i].label));
        snprintf(s, sizeof s, "%.60s: held-out loss %.3f after %.0f steps (%.3f to %.3f over %d seeds)",
                 c[i].label, mean, last->step, last->lo, last->hi, last->n);
        svg_tip(f, s);
        fprintf(f, "<rect x=\"0\" y=\"0\" width=\"230\" height=\"152\" fill=\"transparent\"/>");
        svg_text(f, 4, 13, 11, "start", "name tint", c[i].label);
        for (int k = 0; y_lo + k * y_step <= y_hi + y_step / 2; k++) {
            y = in.y1 - k * y_step / (y_hi - y_lo) * (in.y1 - in.y0);
            fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fH%.1f\"/>", in.x0, y, in.x1);
            svg_text(f, in.x0 - 4, y + 3.5, 9, "end", "soft", tick_text(y_lo + k * y_step, y_step, s));
        }
        for (int k = 0; k * x_step <= x_hi + x_step / 2; k++) {
            const char *anchor = k == 0 ? "start" : k * x_step > x_hi - x_step / 2 ? "end" : "middle";
            double x = in.x0 + k * x_step / x_hi * (in.x1 - in.x0);
            svg_text(f, x, in.y1 + 13, 9, anchor, "soft", tick_text(k * x_step, x_step, s));
        }
        fputs("<g clip-path=\"url(#in)\">", f);
        if (base >= 0 && base != i) curve_line(f, &c[base], "behind", x_hi, y_lo, y_hi, in);
        fputs("<path class=\"band\" d=\"", f);
        for (int k = 0; k < 2 * c[i].n; k++) {
            const curve_point *p = &c[i].p[k < c[i].n ? k : 2 * c[i].n - 1 - k];
            fprintf(f, "%c%.1f %.1f", k ? 'L' : 'M', in.x0 + p->step / x_hi * (in.x1 - in.x0),
                    in.y1 - ((k < c[i].n ? p->hi : p->lo) - y_lo) / (y_hi - y_lo) * (in.y1 - in.y0));
        }
        fputs("z\"/>", f);
        curve_line(f, &c[i], "curve", x_hi, y_lo, y_hi, in);
        fputs("</g>", f);
        snprintf(s, sizeof s, "%.3f", mean);
        svg_text(f, in.x1, 13, 11, "end", "tint", s);
        fputs("</g></svg></figure>\n", f);
    }
    fputs("</div>\n", f);
}

/* ---- >>pairs ----------------------------------------------------------------------------------------------------- */

/* Rows of variants, one column of dots or bars for each quantity. */
typedef struct { const char *title; double lo, hi; int bars; } column;
typedef struct { double mean, sd, each[MAX_SEEDS]; int n; } entry;

static void draw_rows(FILE *f, const column *c, int n_cols, const char *const *labels, const entry *e, int n) {
    const double left = 128, room_x = 16, row_h = 19, top = 38, height = top + n * row_h + 8;
    double width = 1100, step = (width - left) / n_cols;
    char s[160], g[32];
    fprintf(f, "<div class=\"wide\"><svg class=\"rows\" viewBox=\"0 0 %.0f %.0f\" role=\"img\">", width, height);
    for (int k = 0; k < n_cols; k++) {
        double x0 = left + k * step + room_x, w = step - room_x - (c[k].bars ? 64 : 54);
        svg_text(f, x0, 13, 12, "start", "name", c[k].title);
        if (!c[k].bars) {
            double lo = c[k].lo, hi = c[k].hi, d = (hi - lo) / (hi - lo > 30 ? 2 : 1);
            for (double v = lo; v <= hi + .01; v += d) {
                double x = x0 + (v - lo) / (hi - lo) * w;
                fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fV%.1f\"/>", x, top - 6, height - 6);
                svg_text(f, x, top - 9, 9, "middle", "soft", tick_text(v, 1, s));
            }
        }
        for (int i = 0; i < n; i++) {
            const entry *a = &e[i * n_cols + k];
            double y = top + (i + .5) * row_h, x, sd;
            if (a->n == 0) continue;
            x = x0 + (fmin(fmax(a->mean, c[k].lo), c[k].hi) - c[k].lo) / (c[k].hi - c[k].lo) * w;
            sd = a->n > 1 ? a->sd / (c[k].hi - c[k].lo) * w : 0;
            fprintf(f, "<g class=\"f%d\">", family_of(labels[i]));
            if (c[k].bars) {
                snprintf(s, sizeof s, "%.60s: %s, %s", labels[i], c[k].title, grouped(a->mean, g));
                svg_tip(f, s);
                fprintf(f, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"11\"/>", x0, y - 6, x - x0);
                svg_text(f, x + 5, y + 3.5, 10, "start", "", g);
            } else {
                snprintf(s, sizeof s, "%.60s: %s %.1f %% ± %.1f (%d seeds)", labels[i], c[k].title, a->mean, a->sd, a->n);
                svg_tip(f, s);
                fprintf(f, "<path class=\"lead\" d=\"M%.1f %.1fH%.1f\"/>", x0, y, x);
                for (int j = 0; j < a->n; j++)
                    fprintf(f, "<circle class=\"seed\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\"/>",
                            x0 + (a->each[j] - c[k].lo) / (c[k].hi - c[k].lo) * w, y);
                if (sd > 0)
                    fprintf(f, "<path class=\"spread\" d=\"M%.1f %.1fH%.1f\"/>", fmax(x - sd, x0), y, fmin(x + sd, x0 + w));
                svg_mark(f, family_of(labels[i]), x, y, 4);
                snprintf(s, sizeof s, "%.1f", a->mean);
                svg_text(f, x0 + w + 38, y + 3.5, 10, "end", "", s);
            }
            fputs("</g>", f);
        }
    }
    for (int i = 0; i < n; i++) {
        fprintf(f, "<g class=\"f%d\">", family_of(labels[i]));
        svg_text(f, left - 4, top + (i + .5) * row_h + 3.5, 11, "end", "tint", labels[i]);
        fputs("</g>", f);
    }
    fputs("</svg></div>\n", f);
}

static void draw_pairs(FILE *f, const csv *t, const result *const *rows, int n_rows) {
    const char *labels[MAX_VARIANTS], *keys[MAX_VARIANTS];
    column kinds[MAX_KINDS];
    char names[MAX_KINDS][64];
    entry *e;
    int n = 0, n_kinds = 0;
    double lo = 50;
    for (int row = 1; row < t->rows; row++) {
        const char *kind = csv_text(t, row, "kind"), *variant = csv_text(t, row, "variant");
        int i = 0;
        while (i < n_kinds && strcmp(names[i], kind)) i++;
        if (i == MAX_KINDS) fail("%s: more than %d kinds", t->path, MAX_KINDS);
        if (strlen(kind) >= sizeof names[0]) fail("%s: row %d: kind=%s is too long", t->path, row + 1, kind);
        if (i == n_kinds) strcpy(names[n_kinds++], kind);
        for (i = 0; i < n && strcmp(keys[i], variant); i++) {}
        if (i == MAX_VARIANTS) fail("%s: more than %d variants", t->path, MAX_VARIANTS);
        if (i == n) {
            keys[n] = labels[n] = variant;
            for (int k = 0; k < n_rows; k++) if (!strcmp(rows[k]->variant, variant)) labels[n] = rows[k]->label;
            n++;
        }
    }
    e = (entry *)room((size_t)(n * n_kinds), sizeof *e);
    for (int row = 1; row < t->rows; row++) {
        const char *kind = csv_text(t, row, "kind"), *variant = csv_text(t, row, "variant");
        double x = 100 * csv_number(t, row, "accuracy");
        int i = 0, k = 0;
        entry *a;
        while (strcmp(keys[i], variant)) i++;
        while (strcmp(names[k], kind)) k++;
        a = &e[i * n_kinds + k];
        if (!isnan(x) && a->n < MAX_SEEDS) a->each[a->n++] = x;
        if (x < lo) lo = x;
    }
    for (int i = 0; i < n * n_kinds; i++) {
        for (int j = 0; j < e[i].n; j++) e[i].mean += e[i].each[j] / e[i].n;
        for (int j = 0; j < e[i].n; j++) e[i].sd += (e[i].each[j] - e[i].mean) * (e[i].each[j] - e[i].mean);
        e[i].sd = e[i].n > 1 ? sqrt(e[i].sd / (e[i].n - 1)) : NAN;
    }
    for (int k = 0; k < n_kinds; k++) {
        for (char *s = names[k]; *s; s++) if (*s == '_') *s = ' ';
        kinds[k].title = names[k]; kinds[k].lo = lo < 50 ? 0 : 50; kinds[k].hi = 100; kinds[k].bars = 0;
    }
    for (int k = 0; k < n_kinds; k += 4) {                  /* four side by side */
        int m = n_kinds - k < 4 ? n_kinds - k : 4;
        entry *few = (entry *)room((size_t)(n * m), sizeof *few);
        for (int i = 0; i < n; i++) memcpy(&few[i * m], &e[i * n_kinds + k], (size_t)m * sizeof *few);
        draw_rows(f, kinds + k, m, labels, few, n);
        free(few);
    }
    free(e);
}

static void draw_shapes(FILE *f, const result *const *rows, int n) {
    column c[3] = {
        { "FFN width at equal parameters", 0, 0, 1 }, { "KV cache, bytes per token", 0, 0, 1 }, { "parameters", 0, 0, 1 },
    };
    const char *labels[MAX_VARIANTS];
    entry e[MAX_VARIANTS * 3];
    memset(e, 0, sizeof e);
    for (int i = 0; i < n; i++) {
        const double v[3] = { rows[i]->ffn, rows[i]->kv_bytes_per_token, rows[i]->params };
        labels[i] = rows[i]->label;
        for (int k = 0; k < 3; k++) if (!isnan(v[k])) {
            e[i * 3 + k].mean = v[k];
            e[i * 3 + k].n = 1;
            c[k].hi = fmax(c[k].hi, v[k]);
        }
    }
    for (int k = 0; k < 3; k++) if (c[k].hi <= 0) c[k].hi = 1;
    draw_rows(f, c, 3, labels, e, n);
}

/* ---- >>judgement ------------------------------------------------------------------------------------------------- */

static void draw_judgement(FILE *f, const observation *o) {
    static const char *const classes[] = { "unknown", "yes", "no" }, *const signs[] = { "?", "✓", "✗" };
    fputs("<h2 id=\"judgement\">What this run says of the published observations</h2>\n"
          "<p>A claim is held against one comparison, named before looking: held-out loss decides on quality, 512 sequences on "
          "speed; everything else measured can only take a verdict away. Over seeds, a difference is clear when its 95 % "
          "interval (Student’s t) leaves zero out; over turns, a ratio of times when the interval of its median leaves 100 % "
          "out. What is not clear is not claimed.</p>\n<div class=\"claims\">\n", f);
    for (int i = 0; i < OBSERVATIONS; i++) {
        char s[640];
        fprintf(f, "<section class=\"claim %s\"><p class=\"verdict\"><b>%s</b> %s</p><h3>", classes[o[i].verdict],
                signs[o[i].verdict], verdict_names[o[i].verdict]);
        svg_escape(f, o[i].claim);
        fputs("</h3><p>", f);
        svg_escape(f, conclusion(&o[i], s));
        fputs("</p><dl>", f);
        for (int k = 0; k < o[i].n; k++) {
            const part *p = &o[i].parts[k];
            fprintf(f, "<dt><b>%s</b> %s: %s</dt>", signs[p->verdict], p->about, verdict_names[p->verdict]);
            if (p->n == 0) fputs("<dd>not measured</dd>", f);
            for (int j = 0; j < p->n; j++) {
                fprintf(f, "<dd><b>%s</b> %s: ", signs[p->e[j].verdict], p->e[j].by->name);
                svg_escape(f, p->e[j].text);
                fputs("</dd>", f);
            }
        }
        fputs("</dl></section>\n", f);
    }
    fputs("</div>\n", f);
}

/* ---- >>page ------------------------------------------------------------------------------------------------------ */

static const char style[] =
    "h2{font-size:1.45rem;margin:2.2em 0 .4em;padding-top:.7em;border-top:1px solid var(--rule);"
    "letter-spacing:-.01em}h3{font-size:1.05rem;margin:1.6em 0 .3em}"
    "h4{font-size:.82rem;font-weight:600;margin:1.3em 0 .2em;color:var(--soft)}"
    "nav{display:flex;flex-wrap:wrap;gap:4px 22px;font-size:.92rem}a{color:var(--gqa)}"
    ".missing{border-left:3px solid var(--rule);padding:.3em .9em;color:var(--soft)}"
    "dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:0 28px;margin:1em 0;"
    "font-size:.84rem}dl div{display:flex;gap:12px;border-bottom:1px solid var(--rule);padding:4px 0}"
    "dt{color:var(--soft);flex:0 0 46%}dd{margin:0;overflow-wrap:anywhere}"
    ".panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:10px 14px}"
    ".small{grid-template-columns:repeat(auto-fill,minmax(215px,1fr))}"
    ".rows{display:block;width:100%;min-width:900px;height:auto}"
    ".full thead tr:nth-child(2) th{white-space:normal}.gaps span{font-weight:400;color:var(--soft)}"
    "thead tr:first-child th{text-align:center;border-bottom:0;padding-bottom:0}"
    "tbody th,thead tr:nth-child(2) th:first-child{text-align:left}"
    ".pub{color:var(--soft);background:var(--faint)}.bar{fill:var(--c);opacity:.8}"
    ".join,.curve{stroke:var(--c);stroke-width:1.8;fill:none;opacity:.75}.curve{opacity:1}"
    ".spread{stroke:var(--c);stroke-width:1.5;fill:none}"
    ".dash{stroke:var(--c);stroke-width:1.2;stroke-dasharray:4 3;fill:none}.band{fill:var(--c);opacity:.25}"
    ".limit{stroke:var(--c);stroke-width:2;stroke-dasharray:2 2.5;fill:none}.bar~.limit{stroke:var(--ink)}"
    ".behind{stroke:var(--mha);stroke-width:1.2;stroke-dasharray:3 2;fill:none;opacity:.8}"
    ".seed{fill:var(--c);opacity:.45}.rows .mark{stroke:var(--paper)}.none{position:absolute}"
    "@media print{h2{break-before:page}}\n";

static const struct { const char *file, *program, *title, *asks; } questions[4] = {
    { "rq1_1.csv", "rq1_1_group_ratio", "RQ 1.1 · Fewer key/value heads",
      "What do speed and quality do as GQA’s group proportion G/H goes from 1 (full attention, MHA) to .125?" },
    { "rq1_2.csv", "rq1_2_num_heads", "RQ 1.2 · Number of heads",
      "Does it matter to GQA .75 and MHA how many heads there are: 4, 8, 16?" },
    { "rq2.csv", "rq2_gqa_vs_kqv", "RQ 2 · Fewer heads or shorter heads",
      "At the same cut of the cache: is it better to share key/value heads (GQA) or to shorten all heads (KQV)?" },
    { "rq3.csv", "rq3_combined", "RQ 3 · A bit of both",
      "Do half the heads at half the length (COMBINED .5/.5) beat GQA .25 and KQV .25, which need as much cache?" },
};

/* Returns whether there is something to show below. */
static int heading(FILE *f, int i, const question *q) {
    fprintf(f, "<h2 id=\"rq%d\">%s</h2>\n<p>%s</p>\n", i, questions[i].title, questions[i].asks);
    if (!q->run)
        fprintf(f, "<p class=\"missing\">Not run yet: there is no %s. <code>examples/%s.c</code> measures it.</p>\n",
                questions[i].file, questions[i].program);
    return q->run;
}

/* Settings under the names that people know them by. */
static const char *setting_name(const char *key) {
    static const char *const names[][2] = {
        { "isa", "instruction set" }, { "V", "vocabulary (V)" }, { "C", "hidden size (C)" },
        { "T", "context (T)" }, { "L", "layers (L)" }, { "W", "local window (W)" }, { "ffn_base", "FFN width of MHA" },
        { "batch", "documents per step" }, { "pairs", "minimal pairs" },
        { "lr", "learning rate" }, { "tokens", "training tokens" }, { "held_out_documents", "held-out documents" },
        { "speed_shape", "speed: shape" }, { "speed_positions", "speed: positions" },
        { "speed_rounds", "speed: rounds" },
    };
    for (int i = 0; i < COUNT(names); i++) if (!strcmp(names[i][0], key)) return names[i][1];
    return key;
}

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : "out", *machine = "", *sep = "";
    question q[4];
    observation observations[OBSERVATIONS];
    csv settings, curves, pairs;
    int has_settings, has_curves, has_pairs, n_rows = 0, ran = 0;
    const result *rows[MAX_VARIANTS], *mha = NULL;
    static const double cuts[] = { .75, .5, .25, .125 };
    char path[1100];
    FILE *f;
    if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
        return fprintf(stderr, "usage: report [directory of the CSV files]\n"), 2;
    for (int i = 0; i < 4; i++) { q[i] = question_read(dir, questions[i].file); ran += q[i].run; }
    has_settings = csv_read(&settings, dir, "settings.csv");
    has_curves = csv_read(&curves, dir, "curves.csv");
    has_pairs = csv_read(&pairs, dir, "pairs.csv");
    judge(q, observations);
    if (!ran && !has_curves && !has_pairs)
        fail("%s: no rq1_1.csv, rq1_2.csv, rq2.csv, rq3.csv, curves.csv or pairs.csv to report on", dir);
    for (int i = 0; i < 4; i++) for (int k = 0; k < q[i].n; k++) {      /* every configuration once */
        int j = 0;
        while (j < n_rows && strcmp(rows[j]->variant, q[i].r[k].variant)) j++;
        if (j == n_rows && n_rows < MAX_VARIANTS) rows[n_rows++] = &q[i].r[k];
    }
    {   /* full attention as measured beside the variants of question 3, or else in another question */
        const int order[] = { 3, 2, 0 };
        for (int i = 0; i < 3 && !mha; i++) mha = find(&q[order[i]], SVG_MHA, 1, 0);
    }
    if (has_settings) for (int i = 1; i < settings.rows; i++)
        if (!strcmp(csv_text(&settings, i, "key"), "machine")) machine = csv_text(&settings, i, "value");

    f = svg_create(dir, "report.html", path, sizeof path);
    if (!f) return 1;
    fprintf(f, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
            "<title>Attention variants: the report</title>\n<style>%s%s</style>\n"
            "</head>\n<body><main>\n", SVG_PAGE, style);
    fputs("<h1>Few heads, short heads: what attention variants cost and keep</h1>\n"
          "<p class=\"lead-in\">The four questions of the study of attention variants in a small GPT-Neo, measured again",
          f);
    if (*machine) { fputs(" on ", f); svg_escape(f, machine); }
    fputs(" and set beside the published figures. All variants of a question have the same number of parameters: what the "
          "attention gives up, the feed-forward layers get.</p>\n<p class=\"quiet\">Own figures are means over seeds; ± "
          "and error bars are one standard deviation over seeds. Two variants are compared seed by seed, as equal seeds "
          "mean equal documents: behind a difference stands the standard deviation of the single differences, and one of "
          "more than twice that is clear and set in bold. Times are compared in turns, and behind a ratio of times stands "
          "an interval that holds the true median in nine of ten cases (from five turns on). A limit is the least time that "
          "the work can take on this machine: of matrix products and attention each, the longer of arithmetic at its peak "
          "and reading at its rate, both measured in the same turns. The published figures come from a Python "
          "implementation on a GPU and other tasks (BLiMP, GLUE): compare the shape of the curves, not the "
          "numbers. Point at a mark to read it.</p>\n", f);

    draw_judgement(f, observations);
    fputs("<nav>", f);
    for (int i = 0; i < 4; i++) fprintf(f, "<a href=\"#rq%d\">%s</a>", i, questions[i].title);
    fputs("<a href=\"#curves\">Learning curves</a><a href=\"#pairs\">Minimal pairs</a></nav>\n", f);
    if (ran) {
        const result *gaps[][2] = {
            { find(&q[0], SVG_MHA, 1, 0), find(&q[0], SVG_GQA, .125, 0) },
            { find(&q[1], SVG_MHA, 1, 4), find(&q[1], SVG_GQA, .75, 4) },
            { find(&q[1], SVG_MHA, 1, 16), find(&q[1], SVG_GQA, .75, 16) },
            { find(&q[2], SVG_GQA, .25, 0), find(&q[2], SVG_KQV, .25, 0) },
            { find(&q[3], SVG_GQA, .25, 0), find(&q[3], SVG_COMBINED, .5, 0) },
            { find(&q[3], SVG_KQV, .25, 0), find(&q[3], SVG_COMBINED, .5, 0) },
        };
        fputs("<h2>In short</h2>\n", f);
        compare(f, gaps, COUNT(gaps));
    }
    fputs("<h2>What was measured, and where</h2>\n", f);
    if (has_settings && settings.rows > 1) {
        fputs("<dl>\n", f);
        for (int i = 1; i < settings.rows; i++) {
            fputs("<div><dt>", f);
            svg_escape(f, setting_name(csv_text(&settings, i, "key")));
            fputs("</dt><dd>", f);
            svg_escape(f, csv_text(&settings, i, "value"));
            fputs("</dd></div>\n", f);
        }
        fputs("</dl>\n", f);
    } else fputs("<p class=\"missing\">There is no settings.csv: machine and settings are unknown.</p>\n", f);
    fputs("<p class=\"quiet\">H query heads, G key/value heads, S total query width, b sequences decoded side by side. "
          "Group proportion = G/H; KQV proportion = S/hidden size; µs per token = time of generation / (b × tokens "
          "generated by each sequence). Quality is that of models of the size above; speed, parameters, FFN widths and "
          "cache bytes are those of the published shape, for which trained weights do not matter.</p>\n", f);
    for (int i = 0; i < 4; i++) if (!q[i].run)
        { fprintf(f, "%s%s", *sep ? ", " : "<p class=\"missing\">Not run yet: ", questions[i].title); sep = ","; }
    if (*sep) fputs(".</p>\n", f);

    if (heading(f, 0, &q[0])) {
        const result *gaps[4][2];
        for (int k = 0; k < 4; k++) {
            gaps[k][0] = find(&q[0], SVG_MHA, 1, 0);
            gaps[k][1] = find(&q[0], SVG_GQA, cuts[k], 0);
        }
        compare(f, gaps, 4);
        explain(f, &q[0]);
        fputs("<h3>Figure 3, redrawn: quality and speed against the group proportion</h3>\n", f);
        figure_3(f, &q[0]);
        table(f, &q[0]);
    }
    if (heading(f, 1, &q[1])) {
        const result *gaps[3][2];
        for (int k = 0; k < 3; k++) {
            gaps[k][0] = find(&q[1], SVG_MHA, 1, 4 << k);
            gaps[k][1] = find(&q[1], SVG_GQA, .75, 4 << k);
        }
        compare(f, gaps, 3);
        explain(f, &q[1]);
        fputs("<h3>Quality against the number of heads</h3>\n", f);
        figure_heads(f, &q[1]);
        table(f, &q[1]);
    }
    if (heading(f, 2, &q[2])) {
        const result *gaps[4][2];
        for (int k = 0; k < 4; k++) {
            gaps[k][0] = find(&q[2], SVG_GQA, cuts[k], 0);
            gaps[k][1] = find(&q[2], SVG_KQV, cuts[k], 0);
        }
        compare(f, gaps, 4);
        explain(f, &q[2]);
        fputs("<h3>Figure 4, redrawn: quality against speed, from MHA down to an eighth of the cache</h3>\n", f);
        figure_4(f, &q[2]);
        table(f, &q[2]);
    }
    if (heading(f, 3, &q[3])) {
        const result *gqa = find(&q[3], SVG_GQA, .25, 0), *kqv = find(&q[3], SVG_KQV, .25, 0);
        const result *both = find(&q[3], SVG_COMBINED, .5, 0);
        const result *gaps[3][2] = { { gqa, both }, { kqv, both }, { gqa, kqv } };
        compare(f, gaps, 3);
        explain(f, &q[3]);
        fputs("<h3>Figure 5, redrawn: three ways to a quarter of the cache</h3>\n", f);
        figure_5(f, &q[3], mha);
        table(f, &q[3]);
    }

    fputs("<h2 id=\"curves\">Learning curves</h2>\n", f);
    if (has_curves) {
        curve *c = (curve *)room(MAX_VARIANTS, sizeof *c);
        int n = curves_of(&curves, c);
        if (n == 0) fputs("<p class=\"missing\">curves.csv has no held-out losses yet.</p>\n", f);
        else {
            fputs("<p>Held-out loss (nats per token) over training steps: the mean over seeds, the band from the lowest "
                  "to the highest. Dashed: MHA. The steep beginning lies above the panels.</p>\n", f);
            draw_curves(f, c, n);
        }
        for (int i = 0; i < n; i++) free(c[i].p);
        free(c);
    } else fputs("<p class=\"missing\">There is no curves.csv: nothing has been trained yet.</p>\n", f);

    fputs("<h2 id=\"pairs\">Minimal pairs by kind</h2>\n", f);
    if (has_pairs && pairs.rows > 1) {
        fputs("<p>How often the right sentence of a pair gets the higher probability; chance is 50 %. Pale dots are "
              "single seeds, the strong mark their mean, the line one standard deviation to both sides.</p>\n", f);
        draw_pairs(f, &pairs, rows, n_rows);
    } else fputs("<p class=\"missing\">There is no pairs.csv: no minimal pairs have been judged yet.</p>\n", f);

    if (n_rows) {
        fputs("<h2>Where the parameters go</h2>\n<p>F = F<sub>base</sub> + 2C − S − G·D keeps the parameters equal but for "
              "the few biases, C the hidden size and D = S/H: what fewer or shorter key/value heads save goes into the "
              "feed-forward width F. "
              "The cache holds 2·G·D numbers per layer and position.</p>\n", f);
        draw_shapes(f, rows, n_rows);
    }
    fputs("</main></body></html>\n", f);
    for (int i = 0; i < 4; i++) { csv_free(&q[i].t); free(q[i].r); }
    csv_free(&settings); csv_free(&curves); csv_free(&pairs);
    if (svg_close(f, path)) return 1;
    print_judgement(stdout, observations);
    printf("%s: %d of 4 research questions\n", path, ran);
    return 0;
}
