/* report.c: one page for the whole study.
 *
 * Claim    What the four research programs measured, read side by side with what was published, shows which differences
 *          between the variants are larger than chance makes them.
 * Command  mkdir -p build && cc -O2 -o build/report examples/report.c -lm -lpthread
 *          build/report [directory with the CSV files; out]
 * Prints   of each published observation whether these runs support it, contradict it or cannot tell, with the numbers; and
 *          the name of the page it wrote, report.html in the same directory, which needs no network.
 * Takes    a blink. Research questions that have not been run are named as such.
 *
 * Reads rq1_1.csv rq1_2.csv rq2.csv rq3.csv curves.csv pairs.csv glue.csv samples.csv settings.csv, as lab.h writes them
 * (RFC 4180); what is missing is named on the page.
 * findings.h reads and judges them. Contents: >>chart >>figures >>tables >>curves >>rows >>stories >>judgement
 * >>page */
#define _POSIX_C_SOURCE 200809L
#include "findings.h"

/* ---- >>chart ----------------------------------------------------------------------------------------------------- */

typedef struct {
    double x, y, x_lo, x_hi, y_lo, y_hi;                    /* and its intervals; NAN: none */
    double limit_x, limit_y;                                /* where the limits would have it; NAN: nowhere */
    list each;                                              /* y of single seeds */
    int family, series, hidden;                             /* marks of one series that follow each other are joined */
    char label[32], limit_label[32], tip[480];
} mark;

typedef struct {
    const char *title, *better, *x_title;
    int width, height;                                      /* 0: WIDTH, HEIGHT */
    int bars, reverse;                                      /* bars stand on 0 */
    const double *ticks;                                    /* [n_ticks] NULL: nice ones */
    char (*names)[2][24];                                   /* [n_ticks] two lines under each; NULL: the numbers */
    int n_ticks;
    double line_x, line_y;                                  /* dashed lines up and across, NAN: none */
} chart;
enum { WIDTH = 266, HEIGHT = 226 };

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

/* What is pointed at, or reached by the arrow keys: the page's script shows its title. */
static void hot_open(FILE *f, int family, const char *tip) {
    fprintf(f, "<g class=\"hot f%d\">", family);
    svg_tip(f, tip);
}
static void hot_close(FILE *f, double x, double y) {
    fprintf(f, "<circle class=\"hit\" cx=\"%.1f\" cy=\"%.1f\" r=\"8\"/></g>\n", x, y);
}

/* What labels should keep clear of, and how much so. */
enum { CROWD = MAX_VARIANTS * (30 + MAX_SEEDS) };
typedef struct { svg_box box[CROWD]; double weight[CROWD]; int n; } crowd;

static void crowd_add(crowd *c, double x0, double y0, double x1, double y1, double weight) {
    svg_box b = { fmin(x0, x1), fmin(y0, y1), fmax(x0, x1), fmax(y0, y1) };
    c->weight[c->n] = weight;
    c->box[c->n++] = b;
}

static void crowd_line(crowd *c, double x, double y, double dx, double dy) {
    for (int k = 1; k < 8; k++)
        crowd_add(c, x + dx * k / 8 - 3, y + dy * k / 8 - 3, x + dx * k / 8 + 3, y + dy * k / 8 + 3, 1.5);
}

static void draw_chart(FILE *f, const chart *c, const mark *all, int n_all) {
    const int width = c->width ? c->width : WIDTH, height = c->height ? c->height : HEIGHT;
    const double left = 38, right = width - 10, top = 34;
    const double bottom = height - (c->x_title || (c->names && *c->names[0][1]) ? 40 : 26);
    double x_lo = INFINITY, x_hi = -INFINITY, y_lo = INFINITY, y_hi = -INFINITY, x_step = 0, y_step;
    double x_from, x_room;
    mark m[MAX_VARIANTS];
    crowd taken;
    svg_box edge = { left + 1, top - 12, right + 9, bottom };
    int n = 0;
    char s[32];
    for (int i = 0; i < n_all && n < MAX_VARIANTS; i++) if (isfinite(all[i].x) && isfinite(all[i].y)) m[n++] = all[i];
    taken.n = 0;

    fprintf(f, "<figure class=\"panel\"><svg viewBox=\"0 0 %d %d\" role=\"group\" aria-label=\"", width, height);
    svg_escape(f, c->title);
    fputs("\">", f);
    svg_text(f, 4, 14, 12, "start", "name", c->title);
    if (c->better) svg_text(f, width - 4, 14, 10, "end", "soft", c->better);
    if (n == 0) {
        svg_text(f, width / 2, height / 2, 12, "middle", "soft", "not measured");
        fputs("</svg></figure>\n", f);
        return;
    }
    for (int i = 0; i < n; i++) {
        x_lo = fmin(fmin(x_lo, m[i].x), fmin(m[i].x_lo, m[i].limit_x));
        x_hi = fmax(fmax(x_hi, m[i].x), fmax(m[i].x_hi, m[i].limit_x));
        y_lo = fmin(fmin(y_lo, m[i].y), fmin(m[i].y_lo, m[i].limit_y));
        y_hi = fmax(fmax(y_hi, m[i].y), fmax(m[i].y_hi, m[i].limit_y));
        for (int k = 0; k < m[i].each.n; k++) { y_lo = fmin(y_lo, m[i].each.x[k]); y_hi = fmax(y_hi, m[i].each.x[k]); }
    }
    x_lo = fmin(x_lo, c->line_x); x_hi = fmax(x_hi, c->line_x);
    y_lo = fmin(y_lo, c->line_y); y_hi = fmax(y_hi, c->line_y);
    if (c->bars) y_lo = 0, y_hi *= 1.1; else { double d = (y_hi - y_lo) * .08; y_lo -= d; y_hi += d; }
    y_step = nice(&y_lo, &y_hi, height > HEIGHT ? 7 : 4);
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
#define PX(v) (x_from + ((v) - x_lo) / (x_hi - x_lo) * x_room)
#define PY(v) (bottom - ((v) - y_lo) / (y_hi - y_lo) * (bottom - top))
    for (int i = 0; y_lo + i * y_step <= y_hi + y_step / 2; i++) {
        double y = PY(y_lo + i * y_step);
        fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fH%.1f\"/>", left, y, right);
        svg_text(f, left - 5, y + 3.5, 10, "end", "soft", tick_text(y_lo + i * y_step, y_step, s));
    }
    if (c->ticks) for (int i = 0; i < c->n_ticks; i++) {
        double x = PX(c->ticks[i]);
        if (c->names) for (int k = 0; k < 2; k++) {
            if (*c->names[i][k]) svg_text(f, x, bottom + 14 + 12 * k, 9, "middle", "soft", c->names[i][k]);
        } else svg_text(f, x, bottom + 15, 10, "middle", "soft", proportion(c->ticks[i], s));
    } else for (int i = 0; x_lo + i * x_step <= x_hi + x_step / 2; i++) {
        double x = PX(x_lo + i * x_step);
        fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fV%.1f\"/>", x, top, bottom);
        svg_text(f, x, bottom + 15, 10, "middle", "soft", tick_text(x_lo + i * x_step, x_step, s));
    }
    fprintf(f, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", left, bottom, right);
    if (c->x_title) svg_text(f, (left + right) / 2, height - 6, 10, "middle", "soft", c->x_title);
    if (isfinite(c->line_y)) fprintf(f, "<path class=\"dash f0\" d=\"M%.1f %.1fH%.1f\"/>", left, PY(c->line_y), right);
    if (isfinite(c->line_x)) fprintf(f, "<path class=\"dash f0\" d=\"M%.1f %.1fV%.1f\"/>", PX(c->line_x), top, bottom);

    if (isfinite(c->line_y)) crowd_add(&taken, left, PY(c->line_y) - 2, right, PY(c->line_y) + 2, 1.2);
    if (isfinite(c->line_x)) crowd_add(&taken, PX(c->line_x) - 2, top, PX(c->line_x) + 2, bottom, 1.2);
    for (int i = 0; i < n; i++) {
        double x = PX(m[i].x), y = PY(m[i].y);
        const mark *next = i + 1 < n && m[i + 1].series == m[i].series && !c->bars && m[i].series >= 0 ? &m[i + 1] : NULL;
        if (c->bars) crowd_add(&taken, x - 16, y, x + 16, bottom, 4); else crowd_add(&taken, x - 6, y - 6, x + 6, y + 6, 4);
        if (m[i].y_lo < m[i].y_hi) crowd_add(&taken, x - 3, PY(m[i].y_hi) - 1, x + 3, PY(m[i].y_lo) + 1, 3);
        if (m[i].x_lo < m[i].x_hi) crowd_add(&taken, PX(m[i].x_lo) - 1, y - 3, PX(m[i].x_hi) + 1, y + 3, 3);
        for (int k = 0; k < m[i].each.n; k++)
            crowd_add(&taken, x - 3, PY(m[i].each.x[k]) - 3, x + 3, PY(m[i].each.x[k]) + 3, 1);
        if (isfinite(m[i].limit_y)) {
            double lx = PX(m[i].limit_x), ly = PY(m[i].limit_y);
            crowd_add(&taken, lx - 5, ly - 3, lx + 5, ly + 3, 1.5);
            if (next && isfinite(next->limit_y)) {
                double dx = PX(next->limit_x) - lx, dy = PY(next->limit_y) - ly;
                fprintf(f, "<path class=\"limit f%d\" d=\"M%.1f %.1fl%.1f %.1f\"/>", next->family, lx, ly, dx, dy);
                crowd_line(&taken, lx, ly, dx, dy);
            }
        }
        if (next) {
            double dx = PX(next->x) - x, dy = PY(next->y) - y;
            fprintf(f, "<path class=\"join f%d\" d=\"M%.1f %.1fl%.1f %.1f\"/>", next->family, x, y, dx, dy);
            crowd_line(&taken, x, y, dx, dy);
        }
    }
    for (int i = 0; i < n; i++) {
        double x = PX(m[i].x), y = PY(m[i].y);
        if (m[i].hidden) continue;
        hot_open(f, m[i].family, m[i].tip);
        if (c->bars)
            fprintf(f, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"30\" height=\"%.1f\"/>", x - 15, y, bottom - y);
        if (c->bars && isfinite(m[i].limit_y))
            fprintf(f, "<path class=\"limit\" d=\"M%.1f %.1fh44\"/>", x - 22, PY(m[i].limit_y));
        if (m[i].y_lo < m[i].y_hi)
            fprintf(f, "<path class=\"spread\" d=\"M%.1f %.1fV%.1fm-4 0h8M%.1f %.1fh8\"/>", x, PY(m[i].y_lo), PY(m[i].y_hi),
                    x - 4, PY(m[i].y_lo));
        if (m[i].x_lo < m[i].x_hi)
            fprintf(f, "<path class=\"spread\" d=\"M%.1f %.1fH%.1fm0 -4v8M%.1f %.1fv8\"/>", PX(m[i].x_lo), y, PX(m[i].x_hi),
                    PX(m[i].x_lo), y - 4);
        for (int k = 0; k < m[i].each.n; k++)
            fprintf(f, "<circle class=\"seed\" cx=\"%.1f\" cy=\"%.1f\" r=\"2\"/>", x, PY(m[i].each.x[k]));
        if (!c->bars) svg_mark(f, m[i].family, x, y, 4.2);
        hot_close(f, x, y);
    }
    /* Each label takes the free place nearest to its mark. */
    for (int each = 0; each < 2 * n; each++) {
        static const struct { double x, y; const char *anchor; } at[] = {
            { 0, -9, "middle" }, { 0, 17, "middle" }, { 9, 4, "start" }, { -9, 4, "end" }, { 7, -7, "start" },
            { -7, -7, "end" }, { 7, 14, "start" }, { -7, 14, "end" }, { 0, -20, "middle" }, { 0, 28, "middle" },
            { 14, -15, "start" }, { -14, -15, "end" }, { 14, 22, "start" }, { -14, 22, "end" },
            { 16, -26, "start" }, { -16, -26, "end" }, { 16, 33, "start" }, { -16, 33, "end" }, { 24, 4, "start" },
            { -24, 4, "end" }, { 0, -33, "middle" }, { 0, 41, "middle" },
        };
        const int i = each % n, own = each < n;
        const char *label = own ? m[i].label : m[i].limit_label, *anchor = "middle";
        double mark_x = PX(own ? m[i].x : m[i].limit_x), mark_y = PY(own ? m[i].y : m[i].limit_y);
        double best = INFINITY, w = strlen(label) * 6.2;
        svg_box placed = edge;
        if (!*label || isnan(mark_x) || isnan(mark_y)) continue;
        for (int k = 0; k < COUNT(at); k++) {
            double x = mark_x + at[k].x, y = mark_y + at[k].y, cost = k * 3;
            svg_box b;
            if (c->bars && at[k].x == 0 && at[k].y < 0) y += 4;
            b.x0 = at[k].anchor[0] == 's' ? x : at[k].anchor[0] == 'e' ? x - w : x - w / 2;
            b.x1 = b.x0 + w; b.y0 = y - 9; b.y1 = y + 2;
            cost += 6 * (w * 11 - svg_overlap(b, edge));
            for (int j = 0; j < taken.n; j++) cost += taken.weight[j] * svg_overlap(b, taken.box[j]);
            if (cost < best) { best = cost; anchor = at[k].anchor; placed = b; }
        }
        crowd_add(&taken, placed.x0, placed.y0, placed.x1, placed.y1, 20);
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

/* What is shown: own or published, quality or time. */
typedef struct {
    const char *title, *better, *tip;
    size_t value, limit;                                    /* offsets into a result; 0: none */
    int by;                                                 /* its yardstick; -1: none */
    int digits;                                             /* -1: as a time */
} measure;
enum { LOSS, PAIRS, GLUE, US16, US512, MEASURES };
static const measure measures[2][MEASURES] = {
    { { "Held-out loss", "↓ better", "held-out loss", AT(loss_mean), 0, QUALITY, 3 },
      { "Minimal pairs (%)", "↑ better", "minimal pairs %", AT(pairs_mean), 0, QUALITY + 1, 1 },
      { "GLUE (%)", "↑ better", "GLUE %", AT(glue_mean), 0, QUALITY + 2, 1 },
      { "µs per token, b = 16", "↓ faster", "µs/token at b=16", AT(us_b16), AT(limit_us_b16), FEW, -1 },
      { "µs per token, b = 512", "↓ faster", "µs/token at b=512", AT(us_b512), AT(limit_us_b512), SPEED, -1 } },
    { { "", "", "", 0, 0, -1, 0 },
      { "BLiMP (%)", "↑ better", "BLiMP %", AT(pub_blimp), 0, -1, 1 },
      { "GLUE (%)", "↑ better", "GLUE %", AT(pub_glue), 0, -1, 1 },
      { "µs per token, b = 16", "↓ faster", "µs/token at b=16", AT(pub_us_b16), 0, -1, -1 },
      { "µs per token, b = 512", "↓ faster", "µs/token at b=512", AT(pub_us_b512), 0, -1, -1 } },
};

static double value_of(const result *r, size_t offset) {
    double x;
    memcpy(&x, (const char *)r + offset, sizeof x);
    return x;
}

static int measured(const question *q, int which) {
    for (int i = 0; i < q->n; i++) if (isfinite(value_of(&q->r[i], measures[0][which].value))) return 1;
    return 0;
}

/* The measures to show of a question: the published ones, or its own, GLUE where it is. */
static int shown(const question *q, int published, int *which) {
    int n = 0;
    for (int k = published ? PAIRS : LOSS; k < MEASURES; k++)
        if (k != GLUE || published || measured(q, GLUE)) which[n++] = k;
    return n;
}

static void value_text(const measure *q, double x, char s[24]) {
    if (q->digits < 0 || isnan(x)) micros(x, s); else snprintf(s, 24, "%.*f", q->digits, x);
}

/* The interval of r's value against base's, about r's own value: where it leaves base's out, the two differ clearly. */
static void interval_of(const result *r, const result *base, const measure *q, double *lo, double *hi, char tip[480]) {
    const yardstick *y = q->by >= 0 ? &yardsticks[q->by] : NULL;
    list a, b;
    compared c;
    char s[32], range[128];
    *lo = *hi = NAN;
    if (!y || !base || base == r) return;
    a = list_of(base, y); b = list_of(r, y);
    c = compared_of(against(&a, &b, y), y);
    if (c.n < (y->times ? STATS_TURNS : 2)) return;
    *lo = y->times ? value_of(base, q->value) * c.lo : value_of(base, q->value) + c.lo;
    *hi = y->times ? value_of(base, q->value) * c.hi : value_of(base, q->value) + c.hi;
    interval(range, sizeof range, c, y, 0);
    snprintf(tip + strlen(tip), 480 - strlen(tip), y->times ? ", %s of %s’s %s" : ", against %s %s %s",
             y->times ? amount(c.mid, y, 0, s) : base->label, y->times ? base->label : amount(c.mid, y, 0, s), range);
}

/* base: what its interval is against; NULL: none. */
static mark make_mark(const result *r, const result *base, const measure *q, double x, int series) {
    mark m;
    char v[24];
    memset(&m, 0, sizeof m);
    m.x = m.limit_x = x;
    m.x_lo = m.x_hi = NAN;
    m.y = value_of(r, q->value);
    m.limit_y = q->limit ? value_of(r, q->limit) : NAN;
    m.family = r->family;
    m.series = series;
    value_text(q, m.y, v);
    snprintf(m.label, sizeof m.label, "%s", v);
    snprintf(m.tip, sizeof m.tip, "%.60s: %s %s", r->label, q->tip, v);
    if (q->by >= 0 && !yardsticks[q->by].times) {
        m.each = list_of(r, &yardsticks[q->by]);
        for (int k = 0; k < m.each.n && k < 8; k++) ADD(m.tip, "%s%.*f", k ? ", " : " (seeds ", q->digits, m.each.x[k]);
        if (m.each.n > 8) ADD(m.tip, " and %d more", m.each.n - 8);
        if (m.each.n) ADD(m.tip, ")");
    }
    interval_of(r, base, q, &m.y_lo, &m.y_hi, m.tip);
    if (m.limit_y > 0) ADD(m.tip, ", limit %s", micros(m.limit_y, v));
    return m;
}

/* Sets a mark across as well. scale: of base's time to that of the picture. */
static void place(mark *m, const result *r, const result *base, const measure *x, double scale) {
    char v[24];
    m->x = value_of(r, x->value) * scale;
    value_text(x, m->x, v);
    ADD(m->tip, "; %s %s", x->tip, v);
    interval_of(r, base, x, &m->x_lo, &m->x_hi, m->tip);
    m->x_lo *= scale; m->x_hi *= scale;
}

/* Beside where the limits have a time: that time. */
static void limit_value(mark *m, const char *before) {
    char v[24];
    if (m->limit_y > 0) snprintf(m->limit_label, sizeof m->limit_label, "%.7s%s", before, micros(m->limit_y, v));
}

static const chart no_chart = { NULL, NULL, NULL, 0, 0, 0, 0, NULL, NULL, 0, NAN, NAN };

/* n charts, four side by side, or three that are as much wider. */
static void row_open(FILE *f, int published, int limits, int n) {
    fprintf(f, "<h4>%s%s</h4><div class=\"panels%s\">\n",
            published ? "Published: a Python implementation on a GPU" : "This machine",
            limits && !published ? ". Dotted: the least time that its limits allow" : "", n > 4 ? " three" : "");
}
enum { WIDER = 350 };

static void legend(FILE *f) {
    static const char *const names[] = { "MHA, all heads of their own", "GQA, key/value heads shared",
                                         "KQV, all heads narrower", "COMBINED, half of each" };
    fputs("<p class=\"legend\">", f);
    for (int i = 0; i < SVG_FAMILIES; i++) {
        fprintf(f, "<span class=\"f%d\"><svg viewBox=\"0 0 14 14\" width=\"14\" height=\"14\" aria-hidden=\"true\">", i);
        svg_mark(f, i, 7, 7, 4.6);
        fprintf(f, "</svg> %s</span>\n", names[i]);
    }
    fputs("<span class=\"f1\"><svg viewBox=\"0 0 14 14\" width=\"14\" height=\"14\" aria-hidden=\"true\"><path "
          "class=\"spread\" d=\"M7 1V13M3 1h8M3 13h8\"/></svg> interval of the difference from MHA</span>\n<span "
          "class=\"f1\"><svg viewBox=\"0 0 14 14\" width=\"14\" height=\"14\" aria-hidden=\"true\"><circle "
          "class=\"seed\" cx=\"7\" cy=\"7\" r=\"2.4\"/></svg> one seed</span>\n<span class=\"f0\"><svg viewBox=\"0 0 14 "
          "14\" width=\"14\" height=\"14\" aria-hidden=\"true\"><path class=\"dash\" d=\"M0 7H14\"/></svg> where MHA "
          "is</span></p>\n", f);
}

/* Quality over time: GQA and KQV from the same start and, with both, COMBINED. */
static void plane(FILE *f, const question *q, const question *both, int published, int y_of, int x_of, int large) {
    static const double cuts[] = { 1, .75, .5, .25, .125 };
    const measure *y = &measures[published][y_of], *x = &measures[published][x_of];
    const result *mha = find(q, SVG_MHA, 1, 0), *combined = both ? find(both, SVG_COMBINED, .5, 0) : NULL;
    chart c = no_chart;
    mark m[2 * COUNT(cuts) + 1];
    int n = 0;
    char title[64];
    snprintf(title, sizeof title, "%s%s%s", published && large ? "Published: " : "", y->title,
             !large ? "" : x_of == US16 ? ", 16 sequences" : ", 512 sequences");
    c.title = title; c.better = y->better; c.x_title = x->title;
    if (large) { c.width = WIDER; c.height = 330; }
    if (mha) { c.line_x = value_of(mha, x->value); c.line_y = value_of(mha, y->value); }
    for (int s = SVG_GQA; s <= SVG_KQV; s++) for (int i = 0; i < COUNT(cuts); i++) {
        const result *r = find(q, i ? s : SVG_MHA, cuts[i], 0);
        char d[16];
        if (!r) continue;
        m[n] = make_mark(r, mha, y, 0, s);
        place(&m[n], r, mha, x, 1);
        m[n].hidden = i == 0 && s == SVG_KQV;
        m[n].limit_x = m[n].limit_y = NAN;
        snprintf(m[n].label, sizeof m[n].label, "%s%s", i == COUNT(cuts) - 1 ? s == SVG_GQA ? "GQA " : "KQV " : "",
                 i ? proportion(cuts[i], d) : s == SVG_GQA ? "MHA" : "");
        n++;
    }
    if (combined) {
        const result *base = find(both, SVG_MHA, 1, 0);
        double scale = mha && base ? value_of(mha, x->value) / value_of(base, x->value) : 1;
        m[n] = make_mark(combined, base, y, 0, SVG_COMBINED);
        place(&m[n], combined, base, x, scale);
        m[n].limit_x = m[n].limit_y = NAN;
        strcpy(m[n++].label, ".5/.5");
    }
    draw_chart(f, &c, m, n);
}

/* Own pictures with the published ones at the end of each row. */
static void trade_off(FILE *f, const question *q, const question *both) {
    fputs("<div class=\"panels three\">\n", f);
    plane(f, q, both, 0, LOSS, US512, 1);
    plane(f, q, both, 0, LOSS, US16, 1);
    plane(f, q, both, 1, PAIRS, US512, 1);
    plane(f, q, both, 0, PAIRS, US512, 1);
    plane(f, q, both, 0, measured(q, GLUE) ? GLUE : PAIRS, measured(q, GLUE) ? US512 : US16, 1);
    plane(f, q, both, 1, GLUE, US512, 1);
    fputs("</div>\n", f);
}

/* Figure 3: GQA from all key/value heads to one in eight. */
static void figure_3(FILE *f, const question *q) {
    static const double all[] = { .125, .25, .5, .75, 1 };
    const result *mha = find(q, SVG_MHA, 1, 0);
    for (int p = 0; p < 2; p++) {
        int which[MEASURES], n_shown = shown(q, p, which);
        row_open(f, p, 1, n_shown);
        for (int k = 0; k < n_shown; k++) {
            const measure *y = &measures[p][which[k]];
            chart c = no_chart;
            mark m[COUNT(all)];
            int n = 0;
            c.width = n_shown > 4 ? WIDER : 0;
            c.title = y->title; c.better = y->better; c.line_y = mha ? value_of(mha, y->value) : NAN;
            c.x_title = "group proportion G/H"; c.reverse = 1; c.ticks = all; c.n_ticks = COUNT(all);
            for (int i = COUNT(all) - 1; i >= 0; i--) {
                const result *r = find(q, all[i] == 1 ? SVG_MHA : SVG_GQA, all[i], 0);
                if (r) m[n++] = make_mark(r, mha, y, all[i], 0);
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
    for (int p = 0; p < 2; p++) {
        int which[MEASURES], n_shown = shown(q, p, which);
        n_shown -= p ? 2 : 0;                               /* no times of these were published */
        row_open(f, p, 0, n_shown);
        for (int k = 0; k < n_shown; k++) {
            const measure *y = &measures[p][which[k]];
            char names[3][2][24] = { { "4 heads", "" }, { "8 heads", "" }, { "16 heads", "" } };
            chart c = no_chart;
            mark m[6];
            int n = 0;
            c.width = n_shown > 4 ? WIDER : 0;
            c.title = y->title; c.better = y->better;
            c.ticks = at; c.names = names; c.n_ticks = 3;
            for (int s = 0; s < 2; s++) for (int i = 0; i < 3; i++) {
                const result *r = find(q, s ? SVG_GQA : SVG_MHA, .75, heads[i]);
                char v[24];
                if (!r) continue;
                m[n] = make_mark(r, s ? find(q, SVG_MHA, 1, heads[i]) : NULL, y, i + (s ? .12 : -.12), s);
                value_text(y, m[n].y, v);
                if (i == 0) snprintf(m[n].label, sizeof m[n].label, "%s %s", s ? "GQA" : "MHA", v);
                m[n++].limit_y = NAN;
            }
            draw_chart(f, &c, m, n);
        }
        fputs("</div>\n", f);
    }
}

/* Figure 4: GQA and KQV from the same start, quality over time. */
static void figure_4(FILE *f, const question *q) {
    for (int p = 0; p < 2; p++) {
        const int first = p ? GLUE : LOSS;
        row_open(f, p, 0, 4);
        for (int k = 0; k < 4; k++) plane(f, q, NULL, p, k % 2 ? PAIRS : first, k < 2 ? US16 : US512, 0);
        fputs("</div>\n", f);
    }
}

/* Figure 5: three ways to a small cache, with full attention as the measure. */
static void figure_5(FILE *f, const question *q) {
    static const double at[4] = { 0, 1, 2, 3 };
    for (int p = 0; p < 2; p++) {
        int which[MEASURES], n_shown = shown(q, p, which);
        row_open(f, p, 1, n_shown);
        for (int k = 0; k < n_shown; k++) {
            const measure *y = &measures[p][which[k]];
            char names[4][2][24] = { { "MHA", "1" }, { "GQA", ".25" }, { "COMBINED", ".5/.5" }, { "KQV", ".25" } };
            const result *r[4] = { find(q, SVG_MHA, 1, 0), find(q, SVG_GQA, .25, 0), find(q, SVG_COMBINED, .5, 0),
                                   find(q, SVG_KQV, .25, 0) };
            chart c = no_chart;
            mark m[4];
            int n = 0;
            c.width = n_shown > 4 ? WIDER : 0;
            c.title = y->title; c.better = y->better;
            c.ticks = at; c.names = names; c.n_ticks = 4; c.bars = which[k] >= US16;
            c.line_y = r[0] ? value_of(r[0], y->value) : NAN;
            for (int i = 0; i < 4; i++) if (r[i]) m[n++] = make_mark(r[i], r[0], y, i, -1);
            draw_chart(f, &c, m, n);
        }
        fputs("</div>\n", f);
    }
}

/* ---- >>tables ---------------------------------------------------------------------------------------------------- */

static void cell(FILE *f, const char *kind, const char *text) {
    fprintf(f, "<td class=\"%s\">", kind);
    svg_escape(f, strcmp(text, "?") ? text : "–");
    fputs("</td>", f);
}

static void with_spread(char s[64], double x, double sd, int digits) {
    if (isnan(x)) strcpy(s, "?");
    else if (isnan(sd)) snprintf(s, 64, "%.*f", digits, x);
    else snprintf(s, 64, "%.*f ± %.*f", digits, x, digits, sd);
}

static void whole(char s[64], double x) { if (isnan(x)) strcpy(s, "?"); else snprintf(s, 64, "%.0f", x); }

/* A value of settings.csv; "" where there is none. */
static const char *setting(const csv *settings, const char *key) {
    for (int i = 1; settings && i < settings->rows; i++)
        if (!strcmp(csv_text(settings, i, "key"), key)) return csv_text(settings, i, "value");
    return "";
}

/* settings: NULL where there are none. */
static void table(FILE *f, const question *q, const char *title, const csv *settings) {
    const char *stories = setting(settings, "trained_stories"), *steps = setting(settings, "steps");
    const char *tasks = setting(settings, "glue_tasks");
    fprintf(f, "<h3>%s</h3>\n", title);
    fputs("<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"table\"><table "
          "class=\"full\"><thead><tr><th></th><th colspan=\"6\">published shape</th><th colspan=\"8\">this "
          "machine</th><th colspan=\"5\" class=\"pub\">published (Python, "
          "GPU)</th></tr>\n<tr><th>variant</th><th>H</th><th>G</th><th>S</th><th>FFN</th><th>parameters</th><th>cache "
          "bytes/token</th><th>held-out loss</th><th>per&#173;plexity</th><th>pairs %</th><th>GLUE %</th><th>µs "
          "b=16</th><th>limit</th><th>µs b=512</th><th>limit</th><th class=\"pub\">FFN</th><th class=\"pub\">BLiMP "
          "%</th><th class=\"pub\">GLUE %</th><th class=\"pub\">µs b=16</th><th class=\"pub\">µs "
          "b=512</th></tr></thead><tbody>\n", f);
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
        with_spread(s, r->glue_mean, r->glue_sd, 1); cell(f, "own", s);
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
    fputs("</tbody></table></div>\n<p class=\"quiet\">Means over seeds ± one standard deviation; – was not measured, or "
          "not published.", f);
    if (*stories) {
        fputs(" Loss, pairs and GLUE are of models trained here on ", f);
        svg_escape(f, stories);
        fputs(" stories for ", f);
        svg_escape(f, *steps ? steps : "?");
        fputs(" steps.", f);
    }
    if (measured(q, GLUE) && *tasks) {
        fputs(" GLUE here is the mean of these tasks: ", f);
        svg_escape(f, tasks);
        fputs(".", f);
    }
    if (!measured(q, GLUE))
        fputs(" GLUE was not measured here: the top of <code>examples/lab.h</code> says how to give the four programs its "
              "files; models that are trained already are found again.", f);
    fputs("</p>\n", f);
}

/* Second of each pair against the first: differences of quality, ratios of time and cache, with their intervals. */
static void compare(FILE *f, const result *(*of)[2], int n, int has_glue) {
    int clear[YARDSTICKS] = { 0 }, all[YARDSTICKS] = { 0 };
    const char *sep = "<p>Clear differences:";
    fprintf(f, "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"table\"><table "
            "class=\"gaps\"><thead><tr><th></th><th>held-out loss</th><th>minimal pairs, points</th>%s<th>µs/token, "
            "b=512</th><th>µs/token, b=16</th><th>cache</th></tr></thead>"
            "<tbody>\n", has_glue ? "<th>GLUE, points</th>" : "");
    for (int i = 0; i < n; i++) {
        const result *a = of[i][0], *b = of[i][1];
        char s[64];
        if (!a || !b) continue;
        fprintf(f, "<tr><th class=\"f%d\"><i></i>", b->family);
        svg_escape(f, b->label);
        fputs(" <span>against ", f);
        svg_escape(f, a->label);
        fputs("</span></th>", f);
        for (int k = 0; k < YARDSTICKS; k++) {
            const yardstick *y = &yardsticks[k];
            list x = list_of(a, y), z = list_of(b, y);
            compared c = compared_of(against(&x, &z, y), y);
            double limit = k == SPEED ? b->limit_ratio_b512 / a->limit_ratio_b512
                         : k == FEW ? b->limit_ratio_b16 / a->limit_ratio_b16 : NAN;
            char v[32], lo[32], hi[32];
            if (k == QUALITY + 2 && !has_glue) continue;
            if (c.n == 0) { cell(f, "", "?"); continue; }
            all[k] += c.n > 1;
            clear[k] += c.sign != 0;
            fprintf(f, "<td class=\"%s\">%s", c.sign ? "own" : "pale", amount(c.mid, y, 0, v));
            if (c.n >= STATS_TURNS && y->times) fprintf(f, " <span>(%.0f–%.0f)</span>", 100 * c.lo, 100 * c.hi);
            else if (c.n > 1 && !y->times)
                fprintf(f, " <span>(%s to %s)</span>", amount(c.lo, y, 0, lo), amount(c.hi, y, 0, hi));
            if (limit > 0) fprintf(f, "<br/><span>limits %s</span>", amount(limit, y, 0, v));
            fputs("</td>", f);
        }
        snprintf(s, sizeof s, "%.3g %%", 100 * b->kv_bytes_per_token / a->kv_bytes_per_token);
        cell(f, "", b->kv_bytes_per_token > 0 && a->kv_bytes_per_token > 0 ? s : "?");
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
    for (int k = 0; k < YARDSTICKS; k++) if (all[k]) {
        fprintf(f, "%s %s in %d of %d", sep, yardsticks[k].name, clear[k], all[k]);
        sep = ",";
    }
    if (*sep == ',') fputs(".</p>\n", f);
}

/* How many times a's time b takes, turn by turn. */
static compared ratio_of(const result *a, const result *b, int by) {
    list x = list_of(a, &yardsticks[by]), y = list_of(b, &yardsticks[by]);
    return compared_of(against(&x, &y, &yardsticks[by]), &yardsticks[by]);
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
        compared r = ratio_of(mha, best, few ? FEW : SPEED);
        fputs(few ? " With 16 it takes" : "With 512 sequences attention, which reads every cache, takes", f);
        for (int k = 0; k < 2; k++) {
            char some[24], least[24];
            micros(few ? of[k]->limit_attention_us_b16 : of[k]->limit_attention_us_b512, some);
            micros(few ? of[k]->limit_us_b16 : of[k]->limit_us_b512, least);
            fprintf(f, few || k ? "%s %s of %s with " : "%s %s of the %s µs that a token needs at least with ",
                    k ? " and" : "", some, least);
            svg_escape(f, of[k]->label);
        }
        fprintf(f, ": a speed-up of %.2f is predicted", predicted);
        if (r.n) fprintf(f, ", %.2f measured", 1 / r.mid);
        if (r.n >= STATS_TURNS) fprintf(f, " (%.2f–%.2f)", 1 / r.hi, 1 / r.lo);
        fputs(".", f);
    }
    fputs("</p>\n", f);
}

/* ---- >>curves ---------------------------------------------------------------------------------------------------- */

typedef struct { double step, v[MAX_SEEDS], mean, lo, hi; } curve_point;   /* v: held-out losses by seed; NAN: none */
typedef struct { const char *variant, *label; curve_point *p; int n, seeds; double seed[MAX_SEEDS]; } curve;

static int rank_of(const curve *c, const result *const *rows, int n_rows) {
    int i = 0;
    while (i < n_rows && strcmp(rows[i]->variant, c->variant)) i++;
    return i;
}

/* In the order of rows, as far as those are known. */
static int curves_of(const csv *t, const result *const *rows, int n_rows, curve *out) {
    int n = 0, counts[MAX_VARIANTS] = { 0 };
    for (int pass = 0; pass < 2; pass++) for (int row = 1, last = 0; row < t->rows; row++) {
        const char *variant = csv_text(t, row, "variant");
        double loss = csv_number(t, row, "valid_loss"), step = csv_number(t, row, "step"), seed = csv_number(t, row, "seed");
        int i = 0, k, s = 0;
        if (isnan(loss) || isnan(step)) continue;
        if (isnan(seed)) seed = 0;
        while (i < n && strcmp(out[i].variant, variant)) i++;
        if (i == MAX_VARIANTS) fail("%s: more than %d variants", t->path, MAX_VARIANTS);
        if (i == n) {
            memset(&out[n], 0, sizeof *out);
            out[n].variant = variant;
            out[n++].label = *csv_text(t, row, "label") ? csv_text(t, row, "label") : variant;
        }
        if (pass == 0) { counts[i]++; continue; }
        if (!out[i].p) out[i].p = (curve_point *)room((size_t)counts[i], sizeof(curve_point));
        while (s < out[i].seeds && out[i].seed[s] != seed) s++;
        if (s == MAX_SEEDS) fail("%s: more than %d seeds of %s", t->path, MAX_SEEDS, variant);
        if (s == out[i].seeds) out[i].seed[out[i].seeds++] = seed;
        k = last + 1 < out[i].n && out[i].p[last + 1].step == step ? last + 1 : 0;          /* mostly the one that follows */
        while (k < out[i].n && out[i].p[k].step != step) k++;
        if (k == out[i].n) {                                /* kept in order of steps */
            for (out[i].n++; k > 0 && out[i].p[k - 1].step > step; k--) out[i].p[k] = out[i].p[k - 1];
            out[i].p[k].step = step;
            for (int j = 0; j < MAX_SEEDS; j++) out[i].p[k].v[j] = NAN;
        }
        out[i].p[k].v[s] = loss;
        last = k;
    }
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && rank_of(&out[k], rows, n_rows) < rank_of(&out[k - 1], rows, n_rows); k--) {
            curve c = out[k];
            out[k] = out[k - 1];
            out[k - 1] = c;
        }
    for (int i = 0; i < n; i++) for (int k = 0; k < out[i].n; k++) {
        curve_point *p = &out[i].p[k];
        double there[MAX_SEEDS];
        int n_there = 0;
        stats s;
        for (int j = 0; j < out[i].seeds; j++) if (!isnan(p->v[j])) there[n_there++] = p->v[j];
        s = stats_of(there, n_there);
        p->mean = s.mean; p->lo = s.min; p->hi = s.max;
    }
    return n;
}

typedef struct { svg_box in; double x_hi, y_lo, y_hi; } curve_axes;
static double curve_x(const curve_axes *a, double step) { return a->in.x0 + step / a->x_hi * (a->in.x1 - a->in.x0); }
static double curve_y(const curve_axes *a, double v) {
    return a->in.y1 - (v - a->y_lo) / (a->y_hi - a->y_lo) * (a->in.y1 - a->in.y0);
}

/* Of n points about `of` are drawn, the last among them. Returns the one after i. */
static int curve_next(int i, int n, int of) {
    int by = (n + of - 1) / of;
    return i + by < n || i == n - 1 ? i + by : n - 1;
}

/* seed -1: the mean. */
static void curve_line(FILE *f, const curve *c, int seed, const char *kind, const curve_axes *a) {
    const char *sep = "M";
    fprintf(f, "<path class=\"%s\" d=\"", kind);
    for (int i = 0; i < c->n; i = curve_next(i, c->n, 80)) {
        double v = seed < 0 ? c->p[i].mean : c->p[i].v[seed];
        if (isnan(v)) continue;
        fprintf(f, "%s%.1f %.1f", sep, curve_x(a, c->p[i].step), curve_y(a, v));
        sep = "L";
    }
    fputs("\"/>", f);
}

/* One small panel for each variant on common axes, with all other variants behind it. The steep start is cut off: the axis
   ends where the slowest variant is after two fifths of the steps. */
static void draw_curves(FILE *f, const curve *c, int n) {
    curve_axes a = { { 34, 24, 222, 132 }, 0, INFINITY, -INFINITY };
    double x_step, y_step, zero = 0;
    int base = -1;
    for (int i = 0; i < n; i++) a.x_hi = fmax(a.x_hi, c[i].p[c[i].n - 1].step);
    for (int i = 0; i < n; i++) {
        if (base < 0 && family_of(c[i].label) == SVG_MHA && !strchr(c[i].label, ',')) base = i;
        for (int k = 0; k < c[i].n; k++) {
            a.y_lo = fmin(a.y_lo, c[i].p[k].lo);
            if (c[i].p[k].step >= a.x_hi * .4) a.y_hi = fmax(a.y_hi, c[i].p[k].hi);
        }
    }
    if (!(a.y_hi > a.y_lo)) a.y_hi = a.y_lo + 1;
    y_step = nice(&a.y_lo, &a.y_hi, 4);
    if (!(a.x_hi > 0)) a.x_hi = 1;
    x_step = nice(&zero, &a.x_hi, 3);
    fprintf(f, "<svg width=\"1\" height=\"1\" class=\"none\" aria-hidden=\"true\"><defs><clipPath id=\"in\"><rect "
            "x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" height=\"%.0f\"/></clipPath></defs></svg><div class=\"panels\">\n",
            a.in.x0, a.in.y0, a.in.x1 - a.in.x0 + 4, a.in.y1 - a.in.y0);
    for (int i = 0; i < n; i++) {
        char s[200];
        const int family = family_of(c[i].label);
        fprintf(f, "<figure class=\"panel f%d\"><svg viewBox=\"0 0 230 152\" role=\"group\" aria-label=\"", family);
        svg_escape(f, c[i].label);
        fputs("\">", f);
        svg_text(f, 4, 13, 11, "start", "name tint", c[i].label);
        for (int k = 0; a.y_lo + k * y_step <= a.y_hi + y_step / 2; k++) {
            double y = curve_y(&a, a.y_lo + k * y_step);
            fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fH%.1f\"/>", a.in.x0, y, a.in.x1);
            svg_text(f, a.in.x0 - 4, y + 3.5, 9, "end", "soft", tick_text(a.y_lo + k * y_step, y_step, s));
        }
        for (int k = 0; k * x_step <= a.x_hi + x_step / 2; k++) {
            const char *anchor = k == 0 ? "start" : k * x_step > a.x_hi - x_step / 2 ? "end" : "middle";
            svg_text(f, curve_x(&a, k * x_step), a.in.y1 + 13, 9, anchor, "soft", tick_text(k * x_step, x_step, s));
        }
        fputs("\n<g clip-path=\"url(#in)\">", f);
        for (int k = 0; k < n; k++) if (k != i && k != base) curve_line(f, &c[k], -1, "others", &a);
        if (base >= 0 && base != i) curve_line(f, &c[base], -1, "behind", &a);
        for (int k = 0; k < c[i].seeds; k++) curve_line(f, &c[i], k, "faint", &a);
        curve_line(f, &c[i], -1, "curve", &a);
        for (int k = 0; k < c[i].n; k = curve_next(k, c[i].n, 16)) {
            const curve_point *p = &c[i].p[k];
            double x, y;
            if (p->mean > a.y_hi) continue;
            snprintf(s, sizeof s, "%.60s, step %.0f: held-out loss %.3f", c[i].label, p->step, p->mean);
            if (p->hi > p->lo) ADD(s, " (%.3f to %.3f, %d seeds)", p->lo, p->hi, c[i].seeds);
            hot_open(f, family, s);
            x = curve_x(&a, p->step);
            y = curve_y(&a, p->mean);
            fprintf(f, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"1.6\"/>", x, y);
            hot_close(f, x, y);
        }
        fputs("</g>", f);
        snprintf(s, sizeof s, "%.3f", c[i].p[c[i].n - 1].mean);
        svg_text(f, a.in.x1, 13, 11, "end", "tint", s);
        fputs("</svg></figure>\n", f);
    }
    fputs("</div>\n", f);
}

/* ---- >>rows ------------------------------------------------------------------------------------------------------ */

/* Rows of variants, one column of dots or bars for each quantity. */
typedef struct { const char *title, *line_name; double lo, hi, line; int bars, room; } column;  /* line: chance; NAN: none */
typedef struct { double mean, sd, published, each[MAX_SEEDS]; int n; } entry;

static void draw_rows(FILE *f, const column *c, int n_cols, const char *const *labels, const entry *e, int n) {
    const double left = 128, room_x = 16, row_h = 19, top = 38, height = top + n * row_h + 8;
    double width = n_cols > 2 ? 1100 : n_cols > 1 ? 860 : 500, step = (width - left) / n_cols;
    char s[200], g[32], h[32];
    fprintf(f, "<div class=\"wide\"><svg class=\"rows\" viewBox=\"0 0 %.0f %.0f\" "
            "style=\"min-width:%.0fpx;max-width:%.0fpx\" role=\"group\" "
            "aria-label=\"", width, height, width * .82, width * 1.1);
    svg_escape(f, c[0].title);
    fputs("\">", f);
    for (int k = 0; k < n_cols; k++) {
        double x0 = left + k * step + room_x, w = step - room_x - (c[k].bars ? c[k].room : 54);
        svg_text(f, x0, 13, 12, "start", "name", c[k].title);
        if (!c[k].bars) {
            double lo = c[k].lo, hi = c[k].hi, d = (hi - lo) / (hi - lo > 30 ? 2 : 1);
            for (double v = lo; v <= hi + .01; v += d) {
                double x = x0 + (v - lo) / (hi - lo) * w;
                fprintf(f, "<path class=\"rule\" d=\"M%.1f %.1fV%.1f\"/>", x, top - 6, height - 6);
                svg_text(f, x, top - 9, 9, "middle", "soft", tick_text(v, 1, s));
            }
            if (isfinite(c[k].line)) {
                double x = x0 + (c[k].line - lo) / (hi - lo) * w;
                snprintf(s, sizeof s, "%s: %.1f %%", c[k].line_name, c[k].line);
                hot_open(f, SVG_MHA, s);
                fprintf(f, "<path class=\"dash\" d=\"M%.1f %.1fV%.1f\"/>", x, top - 6, height - 6);
                hot_close(f, x, top - 4);
            }
        }
        for (int i = 0; i < n; i++) {
            const entry *a = &e[i * n_cols + k];
            double y = top + (i + .5) * row_h, x, sd;
            const int family = family_of(labels[i]);
            if (a->n == 0) continue;
            x = x0 + (fmin(fmax(a->mean, c[k].lo), c[k].hi) - c[k].lo) / (c[k].hi - c[k].lo) * w;
            sd = a->n > 1 ? a->sd / (c[k].hi - c[k].lo) * w : 0;
            if (c[k].bars) {
                snprintf(s, sizeof s, "%.60s: %s, %s", labels[i], c[k].title, grouped(a->mean, g));
                if (a->published > 0) ADD(s, ", published %s", grouped(a->published, h));
                hot_open(f, family, s);
                fprintf(f, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"11\"/>", x0, y - 6, x - x0);
                if (a->published > 0) {
                    double at = x0 + a->published / c[k].hi * w;
                    fprintf(f, "<path class=\"axis\" d=\"M%.1f %.1fv15\"/>", at, y - 8);
                    snprintf(s, sizeof s, "%s, published %s", g, h);
                } else snprintf(s, sizeof s, "%s", g);
                svg_text(f, x + 5, y + 3.5, 10, "start", "", s);
                hot_close(f, x, y);
            } else {
                snprintf(s, sizeof s, "%.60s: %s %.1f %%", labels[i], c[k].title, a->mean);
                if (a->n > 1) ADD(s, " ± %.1f (%d seeds)", a->sd, a->n);
                if (isfinite(c[k].line)) ADD(s, ", %s %.1f %%", c[k].line_name, c[k].line);
                hot_open(f, family, s);
                fprintf(f, "<path class=\"lead\" d=\"M%.1f %.1fH%.1f\"/>", x0, y, x);
                for (int j = 0; j < a->n; j++)
                    fprintf(f, "<circle class=\"seed\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\"/>",
                            x0 + (a->each[j] - c[k].lo) / (c[k].hi - c[k].lo) * w, y);
                if (sd > 0)
                    fprintf(f, "<path class=\"spread\" d=\"M%.1f %.1fH%.1f\"/>", fmax(x - sd, x0), y, fmin(x + sd, x0 + w));
                svg_mark(f, family, x, y, 4);
                snprintf(s, sizeof s, "%.1f", a->mean);
                svg_text(f, x0 + w + 38, y + 3.5, 10, "end", "", s);
                hot_close(f, x, y);
            }
        }
    }
    for (int i = 0; i < n; i++) {
        fprintf(f, "<g class=\"f%d\">", family_of(labels[i]));
        svg_text(f, left - 4, top + (i + .5) * row_h + 3.5, 11, "end", "tint", labels[i]);
        fputs("</g>", f);
    }
    fputs("</svg></div>\n", f);
}

/* A file with a row for each variant, seed and kind: minimal pairs by kind, GLUE by task. score: its column, times scale is
   in %; chance: the column with what guessing gives, or NULL for half of all. */
static void draw_kinds(FILE *f, const csv *t, const char *kind_column, const char *score, double scale, const char *chance,
                       const char *chance_name, const result *const *rows, int n_rows) {
    const char *labels[MAX_VARIANTS], *keys[MAX_VARIANTS];
    column kinds[MAX_KINDS];
    char names[MAX_KINDS][100];
    entry *e;
    int n = 0, n_kinds = 0;
    memset(kinds, 0, sizeof kinds);
    for (int k = 0; k < n_rows; k++) {                      /* in the order of rows, as far as those are known */
        int row = 1;
        while (row < t->rows && strcmp(csv_text(t, row, "variant"), rows[k]->variant)) row++;
        if (row == t->rows) continue;
        keys[n] = rows[k]->variant;
        labels[n++] = rows[k]->label;
    }
    for (int row = 1; row < t->rows; row++) {
        const char *kind = csv_text(t, row, kind_column), *variant = csv_text(t, row, "variant");
        const char *metric = csv_text(t, row, "metric");
        char name[100];
        int i = 0;
        if (snprintf(name, sizeof name, *metric ? "%s, %s" : "%s", kind, metric) >= 64)
            fail("%s: row %d: %s=%s is too long", t->path, row + 1, kind_column, kind);
        while (i < n_kinds && strcmp(names[i], name)) i++;
        if (i == MAX_KINDS) fail("%s: more than %d kinds", t->path, MAX_KINDS);
        if (i == n_kinds) {
            strcpy(names[i], name);
            kinds[i].line = chance ? csv_number(t, row, chance) : 50;
            kinds[i].lo = isnan(kinds[i].line) ? INFINITY : kinds[i].line;
            kinds[i].hi = isnan(kinds[i].line) ? -INFINITY : kinds[i].line;
            n_kinds++;
        }
        for (i = 0; i < n && strcmp(keys[i], variant); i++) {}
        if (i == MAX_VARIANTS) fail("%s: more than %d variants", t->path, MAX_VARIANTS);
        if (i == n) { keys[n] = labels[n] = variant; n++; }
    }
    e = (entry *)room((size_t)n * (size_t)n_kinds, sizeof *e);
    for (int row = 1; row < t->rows; row++) {
        const char *variant = csv_text(t, row, "variant"), *metric = csv_text(t, row, "metric");
        double x = scale * csv_number(t, row, score);
        char name[100];
        int i = 0, k = 0;
        entry *a;
        snprintf(name, sizeof name, *metric ? "%s, %s" : "%s", csv_text(t, row, kind_column), metric);
        while (strcmp(keys[i], variant)) i++;
        while (strcmp(names[k], name)) k++;
        a = &e[i * n_kinds + k];
        if (isnan(x)) continue;
        if (a->n < MAX_SEEDS) a->each[a->n++] = x;
        kinds[k].lo = fmin(kinds[k].lo, x);
        kinds[k].hi = fmax(kinds[k].hi, x);
    }
    for (int i = 0; i < n * n_kinds; i++) {
        stats s = stats_of(e[i].each, e[i].n);
        e[i].mean = s.mean;
        e[i].sd = s.sd;
    }
    for (int k = 0; k < n_kinds; k++) {
        const double lo = 10 * floor(kinds[k].lo / 10), hi = 10 * ceil(kinds[k].hi / 10);
        for (char *s = names[k]; *s; s++) if (*s == '_') *s = ' ';
        kinds[k].title = names[k]; kinds[k].line_name = chance_name;
        kinds[k].lo = !(lo <= hi) ? 0 : chance ? lo : lo < 50 ? 0 : 50;
        kinds[k].hi = !(lo <= hi) || !chance ? 100 : hi > lo ? hi : lo + 10;
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
        { "KV cache, bytes per token", "", 0, 0, NAN, 1, 64 }, { "FFN width at equal parameters", "", 0, 0, NAN, 1, 120 },
        { "parameters", "", 0, 0, NAN, 1, 64 },
    };
    const char *labels[MAX_VARIANTS];
    entry e[MAX_VARIANTS * 3];
    memset(e, 0, sizeof e);
    for (int i = 0; i < n; i++) {
        const double v[3] = { rows[i]->kv_bytes_per_token, rows[i]->ffn, rows[i]->params };
        labels[i] = rows[i]->label;
        for (int k = 0; k < 3; k++) if (!isnan(v[k])) {
            e[i * 3 + k].mean = v[k];
            e[i * 3 + k].n = 1;
            c[k].hi = fmax(c[k].hi, v[k]);
        }
        e[i * 3 + 1].published = rows[i]->pub_ffn;
    }
    for (int k = 0; k < 3; k++) if (c[k].hi <= 0) c[k].hi = 1;
    draw_rows(f, c, 3, labels, e, n);
}

/* ---- >>stories --------------------------------------------------------------------------------------------------- */

static void story(FILE *f, const char *text, size_t prompt) {
    fputs("<p><b>", f);
    for (size_t i = 0; ; i++) {
        char one[8] = "";
        int bytes = svg_utf8((const unsigned char *)text + i);
        if (i == prompt) fputs("</b>", f);
        if (!text[i]) break;
        if (text[i] == '\n') { fputs("<br/>", f); continue; }
        memcpy(one, text + i, (size_t)(bytes ? bytes : 1));
        svg_escape(f, one);
        if (bytes > 1) i += (size_t)bytes - 1;
    }
    fputs("</p>", f);
}

/* A card for each variant: its first seed's story, the others' behind it. What all begin with is their prompt. */
/* Variants in the order of rows, others after them. */
static void draw_stories(FILE *f, const csv *t, const result *const *rows, int n_rows) {
    const char *first = csv_text(t, 1, "text");
    size_t prompt = strlen(first);
    for (int row = 2; row < t->rows; row++) {
        const char *text = csv_text(t, row, "text");
        size_t same = 0;
        while (same < prompt && text[same] == first[same]) same++;
        prompt = same;
    }
    while (prompt > 0 && first[prompt] && first[prompt] != ' ' && first[prompt - 1] != ' ') prompt--;
    if (t->rows < 3) prompt = 0;
    fputs("<div class=\"stories\">\n", f);
    for (int place = 0; place <= n_rows; place++) for (int row = 1; row < t->rows; row++) {
        const char *variant = csv_text(t, row, "variant"), *label = csv_text(t, row, "label");
        int before = 0, more = 0, i = 0;
        while (i < n_rows && strcmp(rows[i]->variant, variant)) i++;
        for (int k = 1; k < row; k++) before |= !strcmp(csv_text(t, k, "variant"), variant);
        if (i != place || before) continue;
        if (!*label) label = variant;
        fprintf(f, "<section class=\"story f%d\"><h3>", family_of(label));
        svg_escape(f, label);
        fputs("</h3>", f);
        story(f, csv_text(t, row, "text"), prompt);
        for (int k = row + 1; k < t->rows; k++) if (!strcmp(csv_text(t, k, "variant"), variant)) {
            fprintf(f, "%s<p class=\"quiet\">Seed ", more++ ? "" : "<details><summary>other seeds</summary>");
            svg_escape(f, csv_text(t, k, "seed"));
            fputs("</p>", f);
            story(f, csv_text(t, k, "text"), prompt);
        }
        fputs(more ? "</details></section>\n" : "</section>\n", f);
    }
    fputs("</div>\n", f);
}

/* ---- >>judgement ------------------------------------------------------------------------------------------------- */

/* Text whose numbers stay with their %. */
static void figures_text(FILE *f, const char *text) {
    for (const char *end; (end = strstr(text, " %")) != NULL; text = end + 1) {
        char piece[640];
        snprintf(piece, sizeof piece, "%.*s", (int)(end - text), text);
        svg_escape(f, piece);
        fputs("&#160;", f);
    }
    svg_escape(f, text);
}

static void draw_judgement(FILE *f, const observation *o) {
    static const char *const classes[] = { "unknown", "yes", "no" }, *const signs[] = { "?", "✓", "✗" };
    char total[128];
    fprintf(f, "<h2 id=\"judgement\">What this run says of the published observations</h2>\n<p><b>%s</b></p>\n",
            tally(o, total));
    fputs("<p class=\"quiet\">A claim is held against one comparison, named before looking: held-out loss decides on "
          "quality, 512 sequences on speed; everything else measured can only take a verdict away. Over seeds, a difference "
          "is clear when its interval (Student’s t, the noise of a run estimated from all variants of a question) leaves "
          "zero out; over turns, a ratio of times when the interval of its median leaves 100 % out. What is not clear is "
          "not claimed, and all claims of a page together are wrong in no more than one of twenty such runs: each interval "
          "is of 99.5 %.</p>\n<div class=\"claims\">\n", f);
    for (int i = 0; i < OBSERVATIONS; i++) {
        char s[640];
        fprintf(f, "<section class=\"claim %s\"><p class=\"verdict\">%s %s <span>(%c)</span></p><h3>",
                classes[o[i].verdict], signs[o[i].verdict], verdict_names[o[i].verdict], o[i].key);
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
                figures_text(f, p->e[j].text);
                fputs("</dd>", f);
            }
        }
        fputs("</dl></section>\n", f);
    }
    fputs("</div>\n", f);
}

/* ---- >>page ------------------------------------------------------------------------------------------------------ */

static const char style[2][4000] = {
    ":root{--yes:#00664a;--no:#a8370f}"
    "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){--yes:#3cc79d;--no:#f0965a}}"
    "@media screen{:root[data-theme=dark]{--yes:#3cc79d;--no:#f0965a}}\n"
    "h2{font-size:1.45rem;line-height:1.25;margin:2.2em 0 .4em;padding-top:.7em;border-top:1px solid var(--rule);"
    "letter-spacing:-.01em}h3{font-size:1.05rem;line-height:1.35;margin:1.6em 0 .3em}"
    "h4{font-size:.82rem;font-weight:600;margin:1.3em 0 .2em;color:var(--soft)}h2,h3,h4{break-after:avoid}"
    "nav{display:flex;flex-wrap:wrap;gap:4px 22px;font-size:.92rem}a{color:var(--gqa)}"
    "#theme{float:right;margin:4px 0 8px 16px;font:inherit;font-size:.82rem;padding:3px 12px;color:var(--ink);"
    "background:var(--faint);border:1px solid var(--rule);border-radius:14px;cursor:pointer}"
    "#tip{position:fixed;z-index:2;max-width:min(340px,94vw);padding:6px 10px;border-radius:5px;background:var(--ink);"
    "color:var(--paper);font-size:.8rem;line-height:1.4;pointer-events:none;visibility:hidden;left:0;top:0}"
    ".missing{border-left:3px solid var(--rule);padding:.3em .9em;color:var(--soft)}"
    ".facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:0 28px;margin:1em 0;"
    "font-size:.84rem}.facts div{display:flex;gap:12px;border-bottom:1px solid var(--rule);padding:4px 0}"
    ".facts dt{color:var(--soft);flex:0 0 46%}.facts dd{margin:0;overflow-wrap:anywhere}"
    ".claims{columns:3 340px;column-gap:14px;margin:1.2em 0}"
    ".claim{background:var(--faint);border-radius:6px;border-left:5px solid var(--soft);padding:12px 16px;"
    "break-inside:avoid;margin-bottom:14px}"
    ".claim.yes{border-color:var(--yes)}.claim.no{border-color:var(--no)}"
    ".claim h3{margin:.2em 0 .3em}.claim p{margin:.2em 0}"
    ".verdict{font-weight:700;text-transform:uppercase;letter-spacing:.04em;font-size:.84rem;color:var(--soft)}"
    ".yes .verdict{color:var(--yes)}.no .verdict{color:var(--no)}"
    ".claim dl{font-size:.8rem;line-height:1.45;margin:.7em 0 0;color:var(--soft)}.claim dt{font-weight:600;margin-top:.5em}"
    ".claim dd{margin:.1em 0 0 1.4em;text-indent:-1.2em;overflow-wrap:anywhere}.claim dl b{display:inline-block;width:1em;"
    "text-indent:0;color:var(--ink)}"
    ".look{border-left:3px solid var(--gqa);padding:.1em 0 .1em .9em}"
    ".legend{display:flex;flex-wrap:wrap;gap:2px 20px;font-size:.82rem;color:var(--soft);max-width:none}"
    ".legend span{white-space:nowrap}.legend svg{vertical-align:-2px}",
    ".panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr));gap:10px 14px}"
    ".panels.three{grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr))}.panel{break-inside:avoid}"
    ".rows{display:block;width:100%;height:auto}"
    ".gaps{font-size:.76rem}.gaps th,.gaps td{padding:4px 7px}"
    ".full thead tr:nth-child(2) th{white-space:normal}.gaps span{font-weight:400;color:var(--soft)}"
    "thead tr:first-child th{text-align:center;border-bottom:0;padding-bottom:0}"
    "tbody th,thead tr:nth-child(2) th:first-child{text-align:left}"
    ".pub{color:var(--soft);background:var(--faint)}.bar{fill:var(--c);opacity:.8}"
    ".join,.curve{stroke:var(--c);stroke-width:1.8;fill:none;opacity:.75}.curve{opacity:1}"
    ".spread{stroke:var(--c);stroke-width:1.3;fill:none}"
    ".dash{stroke:var(--c);stroke-width:1.2;stroke-dasharray:4 3;fill:none}"
    ".limit{stroke:var(--c);stroke-width:2;stroke-dasharray:2 2.5;fill:none}.bar~.limit{stroke:var(--ink)}"
    ".behind{stroke:var(--mha);stroke-width:1.4;stroke-dasharray:3 2;fill:none;opacity:.9}"
    ".others{stroke:var(--rule);stroke-width:1;fill:none}.faint{stroke:var(--c);stroke-width:1;fill:none;opacity:.4}"
    ".dot{fill:var(--c)}.seed{fill:var(--c);opacity:.45}.rows .mark{stroke:var(--paper)}.none{position:absolute}"
    ".hit{fill:transparent}svg text{pointer-events:none}.hot{outline:none}"
    ".hot:hover .hit,.hot:focus .hit{stroke:var(--ink);stroke-width:1.2}"
    ".stories{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:14px}"
    ".story{background:var(--faint);border-radius:6px;border-top:3px solid var(--c);padding:10px 14px;font-size:.9rem;"
    "overflow-wrap:anywhere;break-inside:avoid}.story h3{margin:0;color:var(--c)}.story p{margin:.4em 0}"
    "summary{cursor:pointer}"
    "@media(max-width:600px){tbody th{position:sticky;left:0;background:var(--paper)}"
    ".gaps tbody th{white-space:normal;min-width:8em}}"
    "@media print{html{font-size:11px}body{font-size:1rem}main{padding:0;max-width:none}"
    "nav,#theme,#tip{display:none}.wide{overflow:visible}"
    ".full,.full thead th{font-size:7px}.full th,.full td{padding:2px}.gaps,.gaps thead th{font-size:7.5px}"
    ".rows{min-width:0!important}.claims{columns:2}"
    ".panels{grid-template-columns:repeat(4,1fr)}.panels.three{grid-template-columns:repeat(3,1fr)}"
    "*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}\n" };

/* What the page does: values where one points, taps, or goes by the arrow keys; light and dark. Without it browsers show
   the same values as titles. (No less-than or ampersand: the page is well-formed XML too.) */
static const char script[] =
    "(function(){'use strict';\n"
    "var root=document.documentElement,main=document.querySelector('main'),tip=document.createElement('div');\n"
    "tip.id='tip';tip.setAttribute('role','status');document.body.appendChild(tip);\n"
    "function show(g){var b=g.querySelector('.hit').getBoundingClientRect(),t,x,y;\n"
    " tip.textContent=g.getAttribute('aria-label');t=tip.getBoundingClientRect();\n"
    " x=Math.max(4,Math.min(b.left+b.width/2-t.width/2,root.clientWidth-t.width-4));\n"
    " y=b.top-t.height-6;if(4>y)y=b.bottom+6;\n"
    " tip.style.left=x+'px';tip.style.top=y+'px';tip.style.visibility='visible';}\n"
    "function hide(){tip.style.visibility='hidden';}\n"
    "document.querySelectorAll('svg').forEach(function(svg){\n"
    " var all=Array.from(svg.querySelectorAll('.hot'));\n"
    " all.forEach(function(g,i){var t=g.querySelector('title');\n"
    "  g.setAttribute('aria-label',t.textContent);g.setAttribute('role','img');t.remove();\n"
    "  g.setAttribute('tabindex',i?-1:0);\n"
    "  g.addEventListener('pointerenter',function(){show(g);});g.addEventListener('pointerleave',hide);\n"
    "  g.addEventListener('focus',function(){show(g);});g.addEventListener('blur',hide);\n"
    "  g.addEventListener('keydown',function(e){\n"
    "   var to={ArrowRight:i+1,ArrowDown:i+1,ArrowLeft:i-1,ArrowUp:i-1,Home:0,End:all.length-1}[e.key];\n"
    "   if(e.key==='Escape')hide();\n"
    "   if(to===undefined||!all[to])return;\n"
    "   e.preventDefault();g.setAttribute('tabindex',-1);all[to].setAttribute('tabindex',0);all[to].focus();});});});\n"
    "addEventListener('scroll',hide,{passive:true});\n"
    "var dark=matchMedia('(prefers-color-scheme: dark)'),button=document.createElement('button');\n"
    "function now(){return root.dataset.theme||(dark.matches?'dark':'light');}\n"
    "function name(){button.textContent=now()==='dark'?'Light page':'Dark page';}\n"
    "button.id='theme';button.type='button';name();dark.addEventListener('change',name);\n"
    "button.addEventListener('click',function(){root.dataset.theme=now()==='dark'?'light':'dark';name();});\n"
    "main.insertBefore(button,main.firstChild);\n"
    "})();\n";

static const struct { const char *file, *program, *title, *table, *asks; } questions[4] = {
    { "rq1_1.csv", "rq1_1_group_ratio", "RQ 1.1 · Fewer key/value heads", "Table 1: GQA by group proportion",
      "What do speed and quality do as GQA’s group proportion G/H goes from 1 (full attention, MHA) to .125?" },
    { "rq1_2.csv", "rq1_2_num_heads", "RQ 1.2 · Number of heads", "Table 1, continued: the number of heads",
      "Does it matter to GQA .75 and MHA how many heads there are: 4, 8, 16?" },
    { "rq2.csv", "rq2_gqa_vs_kqv", "RQ 2 · Fewer heads or shorter heads", "Table 2: GQA and KQV",
      "At the same cut of the cache: is it better to share key/value heads (GQA) or to shorten all heads (KQV)?" },
    { "rq3.csv", "rq3_combined", "RQ 3 · A bit of both", "Table 3: three ways to a quarter of the cache",
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
        { "isa", "instruction set" }, { "results_isa", "instruction set of the results" },
        { "V", "vocabulary (V)" }, { "C", "hidden size (C)" },
        { "T", "context (T)" }, { "L", "layers (L)" }, { "W", "local window (W)" }, { "ffn_base", "FFN width of MHA" },
        { "batch", "documents per step" }, { "pairs", "minimal pairs" },
        { "lr", "learning rate" }, { "tokens", "training tokens" }, { "held_out_documents", "held-out documents" },
        { "speed_shape", "speed: shape" }, { "speed_positions", "speed: positions" },
        { "speed_rounds", "speed: rounds" }, { "glue_tasks", "GLUE tasks" }, { "trained_stories", "stories trained on" },
    };
    for (int i = 0; i < COUNT(names); i++) if (!strcmp(names[i][0], key)) return names[i][1];
    return key;
}

int main(int argc, char **argv) {
    const char *dir = argc > 1 ? argv[1] : "out", *machine, *sep = "";
    question q[4];
    observation observations[OBSERVATIONS];
    csv settings, curves, pairs, glue, samples;
    int has_settings, has_curves, has_pairs, has_glue, has_samples, n_rows = 0, ran = 0;
    const result *rows[MAX_VARIANTS];
    static const double cuts[] = { .75, .5, .25, .125 };
    char path[1100];
    FILE *f;
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return puts("usage: report [directory of the CSV files; out]\n\n"
                    "Judges the published observations by what the research programs measured, and writes report.html\n"
                    "there."), 0;
    if (argc > 2 || (argc == 2 && argv[1][0] == '-'))
        return fprintf(stderr, "report: '%s': one directory is expected; --help tells more\n", argv[argc > 2 ? 2 : 1]), 2;
    for (int i = 0; i < 4; i++) { q[i] = question_read(dir, questions[i].file); ran += q[i].run; }
    has_settings = csv_read(&settings, dir, "settings.csv");
    has_curves = csv_read(&curves, dir, "curves.csv");
    has_pairs = csv_read(&pairs, dir, "pairs.csv");
    has_glue = csv_read(&glue, dir, "glue.csv");
    has_samples = csv_read(&samples, dir, "samples.csv");
    judge(q, observations);
    if (!ran && !has_curves && !has_pairs)
        fail("%s: no rq1_1.csv, rq1_2.csv, rq2.csv, rq3.csv, curves.csv or pairs.csv to report on", dir);
    for (int i = 0; i < 4; i++) for (int k = 0; k < q[i].n; k++) {      /* every configuration once */
        int j = 0;
        while (j < n_rows && strcmp(rows[j]->variant, q[i].r[k].variant)) j++;
        if (j == n_rows && n_rows < MAX_VARIANTS) rows[n_rows++] = &q[i].r[k];
    }
    machine = setting(has_settings ? &settings : NULL, "machine");

    f = svg_create(dir, "report.html", path, sizeof path);
    if (!f) return 1;
    fprintf(f, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
            "script-src 'unsafe-inline'\"/>\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/>\n"
            "<title>Attention variants: the report</title>\n<style>%s%s%s</style>\n"
            "</head>\n<body><main>\n", SVG_PAGE, style[0], style[1]);
    fputs("<h1>Few heads, short heads: what attention variants cost and keep</h1>\n"
          "<p class=\"lead-in\">The four questions of the study of attention variants in a small GPT-Neo, measured again",
          f);
    if (*machine) { fputs(" on ", f); svg_escape(f, machine); }
    fputs(" and set beside the published figures. All variants of a question have the same number of parameters: what "
          "the attention gives up, the feed-forward layers get.</p>\n<nav><a href=\"#judgement\">Judgement</a><a "
          "href=\"#plane\">Trade-off</a>", f);
    for (int i = 0; i < 4; i++) fprintf(f, "<a href=\"#rq%d\">%s</a>", i, questions[i].title);
    fputs("<a href=\"#shapes\">Cache and FFN</a><a href=\"#curves\">Learning curves</a><a href=\"#stories\">Stories</a>"
          "<a href=\"#glue\">GLUE</a><a href=\"#pairs\">Minimal pairs</a><a href=\"#settings\">Settings</a></nav>\n", f);
    for (int i = 0; i < 4; i++) if (!q[i].run)
        { fprintf(f, "%s%s", *sep ? ", " : "<p class=\"missing\">Not run yet: ", questions[i].title); sep = ","; }
    if (*sep) fputs(".</p>\n", f);
    draw_judgement(f, observations);

    fputs("<h2 id=\"plane\">The trade-off: quality against time</h2>\n<p class=\"look\"><b>Look for</b> the corner down "
          "left in the pictures of loss (fast and good), up left in those of pairs, BLiMP and GLUE. Both curves begin at "
          "MHA; each mark further has a smaller cache. The curve that stays nearer to the corner pays less quality for "
          "its speed. A bar that does not reach MHA’s dashed line is a clear difference; marks whose bars overlap need "
          "the tables of differences below.</p>\n", f);
    if (q[2].run || q[0].run) {
        legend(f);
        trade_off(f, q[2].run ? &q[2] : &q[0], q[3].run ? &q[3] : NULL);
        fputs("<p class=\"quiet\">At the end of each row the published points, in the study’s own units (BLiMP and GLUE "
              "in %, a Python implementation on a GPU): compare the shapes of the curves, not the numbers. COMBINED’s "
              "time is its ratio to MHA, measured in the same turns, times this picture’s MHA.</p>\n", f);
    } else fputs("<p class=\"missing\">It takes question 1.1 or 2.</p>\n", f);
    fputs("<h3>How to read the figures</h3>\n<p class=\"quiet\">Marks are means over seeds, small dots single seeds. "
          "Equal seeds mean equal documents for every variant, so variants are compared seed by seed: the bar about a "
          "mark is the interval of its difference from MHA. Times are compared in turns with MHA: their bar is the "
          "interval of the median ratio; with fewer than nine turns there is none. Ten such intervals hold together in 19 "
          "of 20 runs. How far they reach over seeds comes from all variants of a picture’s question: the same two variants "
          "may have another interval under another question. A limit is the least time that the work can take on this "
          "machine: of matrix products and attention each, the longer of arithmetic at its peak and reading at its rate, "
          "both measured in the same turns. H query "
          "heads, G key/value heads, S total query width, b sequences decoded side by side. Group proportion = G/H; KQV "
          "proportion = S/hidden size; µs per token = time of generation / (b × tokens generated by each sequence). "
          "Quality is that of the models trained here (see <a href=\"#settings\">settings</a>); speed, parameters, FFN "
          "widths and cache bytes are those of the published shape, for which trained weights do not matter. Point at a "
          "mark to read it, or go through a figure’s marks with Tab and the arrow keys.</p>\n", f);

    if (heading(f, 0, &q[0])) {
        const result *gaps[4][2];
        for (int k = 0; k < 4; k++) {
            gaps[k][0] = find(&q[0], SVG_MHA, 1, 0);
            gaps[k][1] = find(&q[0], SVG_GQA, cuts[k], 0);
        }
        compare(f, gaps, 4, measured(&q[0], GLUE));
        explain(f, &q[0]);
        fputs("<h3>Figure 3: quality and speed against the group proportion</h3>\n<p class=\"look\"><b>Look for</b> "
              "curves that go one way from left (MHA) to right (one key/value head). In the published pictures at b = 16 "
              "MHA is the fastest of all: does that come back?</p>\n", f);
        figure_3(f, &q[0]);
        table(f, &q[0], questions[0].table, has_settings ? &settings : NULL);
    }
    if (heading(f, 1, &q[1])) {
        const result *gaps[3][2];
        for (int k = 0; k < 3; k++) {
            gaps[k][0] = find(&q[1], SVG_MHA, 1, 4 << k);
            gaps[k][1] = find(&q[1], SVG_GQA, .75, 4 << k);
        }
        compare(f, gaps, 3, measured(&q[1], GLUE));
        explain(f, &q[1]);
        fputs("<h3>Quality and speed against the number of heads</h3>\n<p class=\"look\"><b>Look for</b> the distance "
              "between the two curves: does it get smaller to the right? Bars are of the difference from MHA with as "
              "many heads.</p>\n", f);
        figure_heads(f, &q[1]);
        table(f, &q[1], questions[1].table, has_settings ? &settings : NULL);
    }
    if (heading(f, 2, &q[2])) {
        const result *gaps[4][2];
        for (int k = 0; k < 4; k++) {
            gaps[k][0] = find(&q[2], SVG_GQA, cuts[k], 0);
            gaps[k][1] = find(&q[2], SVG_KQV, cuts[k], 0);
        }
        compare(f, gaps, 4, measured(&q[2], GLUE));
        explain(f, &q[2]);
        fputs("<h3>Figure 4: quality against speed, from MHA down to an eighth of the cache</h3>\n<p "
              "class=\"look\"><b>Look for</b> marks of the same number: they cache the same bytes. Is KQV’s square left "
              "of GQA’s circle (faster), and on the worse side of it?</p>\n", f);
        figure_4(f, &q[2]);
        table(f, &q[2], questions[2].table, has_settings ? &settings : NULL);
    }
    if (heading(f, 3, &q[3])) {
        const result *gqa = find(&q[3], SVG_GQA, .25, 0), *kqv = find(&q[3], SVG_KQV, .25, 0);
        const result *both = find(&q[3], SVG_COMBINED, .5, 0);
        const result *gaps[3][2] = { { gqa, both }, { kqv, both }, { gqa, kqv } };
        compare(f, gaps, 3, measured(&q[3], GLUE));
        explain(f, &q[3]);
        fputs("<h3>Figure 5: three ways to a quarter of the cache</h3>\n<p class=\"look\"><b>Look for</b> COMBINED’s "
              "diamond or bar: does it stand between GQA’s and KQV’s? The dashed line is MHA.</p>\n", f);
        figure_5(f, &q[3]);
        table(f, &q[3], questions[3].table, has_settings ? &settings : NULL);
    }

    fputs("<h2 id=\"shapes\">Cache bytes and FFN widths</h2>\n", f);
    if (n_rows) {
        fputs("<p>F = F<sub>base</sub> + 2C − S − G·D keeps the parameters equal but for the few biases, C the hidden "
              "size and D = S/H: what fewer or shorter key/value heads save goes into the feed-forward width F. The "
              "cache holds 2·G·D numbers per layer and position.</p>\n<p class=\"look\"><b>Look for</b> the tick on each "
              "FFN bar, the published width: it should stand at the bar’s end.</p>\n", f);
        draw_shapes(f, rows, n_rows);
    } else fputs("<p class=\"missing\">No question has been run yet.</p>\n", f);

    fputs("<h2 id=\"curves\">Learning curves</h2>\n", f);
    if (has_curves) {
        curve *c = (curve *)room(MAX_VARIANTS, sizeof *c);
        int n = curves_of(&curves, rows, n_rows, c);
        if (n == 0) fputs("<p class=\"missing\">curves.csv has no held-out losses yet.</p>\n", f);
        else {
            fputs("<p>Held-out loss (nats per token) over training steps: strong the mean over seeds, faint each seed, "
                  "grey all other variants, dashed MHA. The steep beginning lies above the panels.</p>\n<p "
                  "class=\"look\"><b>Look for</b> whether a variant is above MHA all along or only learns more slowly, "
                  "and whether its seeds lie closer together than the curves of different variants.</p>\n", f);
            draw_curves(f, c, n);
        }
        for (int i = 0; i < n; i++) free(c[i].p);
        free(c);
    } else fputs("<p class=\"missing\">There is no curves.csv: nothing has been trained yet.</p>\n", f);

    fputs("<h2 id=\"stories\">What the models write</h2>\n", f);
    if (has_samples && samples.rows > 1) {
        fputs("<p>Every model went on from the same beginning; bold is what all stories have in common. <b>Look for</b> "
              "whether sentences end, and whether "
              "people and things stay the same: what the loss weighs in numbers.</p>\n", f);
        draw_stories(f, &samples, rows, n_rows);
    } else fputs("<p class=\"missing\">There is no samples.csv: no stories have been written yet.</p>\n", f);

    fputs("<h2 id=\"glue\">GLUE by task</h2>\n", f);
    if (has_glue && glue.rows > 1) {
        fputs("<p>Scores in % after fine-tuning. Pale dots are single seeds, the strong mark their mean, the line one "
              "standard deviation to both sides. Dashed: what always answering the most frequent class gives.</p>\n<p "
              "class=\"look\"><b>Look for</b> marks left of the dashed line or on it: there a model has learnt nothing "
              "of the task, and differences between variants are noise.</p>\n", f);
        draw_kinds(f, &glue, "task", "score", 1, "majority", "majority", rows, n_rows);
    } else fputs("<p class=\"missing\">There is no glue.csv: GLUE has not been measured. The top of "
                 "<code>examples/lab.h</code> says how to give its files.</p>\n", f);

    fputs("<h2 id=\"pairs\">Minimal pairs by kind</h2>\n", f);
    if (has_pairs && pairs.rows > 1) {
        fputs("<p>How often the right sentence of a pair gets the higher probability; chance is 50 % (dashed). Pale dots "
              "are single seeds, the strong mark their mean, the line one standard deviation to both sides.</p>\n<p "
              "class=\"look\"><b>Look for</b> kinds that all variants know or none does: they say nothing of the "
              "variants.</p>\n", f);
        draw_kinds(f, &pairs, "kind", "accuracy", 100, NULL, "chance", rows, n_rows);
    } else fputs("<p class=\"missing\">There is no pairs.csv: no minimal pairs have been judged yet.</p>\n", f);

    fputs("<h2 id=\"settings\">What was measured, and where</h2>\n", f);
    if (has_settings && settings.rows > 1) {
        fputs("<dl class=\"facts\">\n", f);
        for (int i = 1; i < settings.rows; i++) {
            fputs("<div><dt>", f);
            svg_escape(f, setting_name(csv_text(&settings, i, "key")));
            fputs("</dt><dd>", f);
            svg_escape(f, csv_text(&settings, i, "value"));
            fputs("</dd></div>\n", f);
        }
        fputs("</dl>\n", f);
    } else fputs("<p class=\"missing\">There is no settings.csv: machine and settings are unknown.</p>\n", f);
    fprintf(f, "</main><script>%s</script></body></html>\n", script);
    for (int i = 0; i < 4; i++) { csv_free(&q[i].t); free(q[i].r); }
    csv_free(&settings); csv_free(&curves); csv_free(&pairs); csv_free(&glue); csv_free(&samples);
    if (svg_close(f, path)) return 1;
    print_judgement(stdout, observations);
    printf("%s: %d of 4 research questions\n", path, ran);
    return 0;
}
