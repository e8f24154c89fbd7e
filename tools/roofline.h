/* roofline.h: a page with the results of `attnvar bench` under the roofs that were measured beside them, and as a table.

   Across goes what a piece of work does with a byte that it must read, up what it does in a second: no work is above the
   multiply-adds of the machine, none left of what its memory can bring. A step of a model is several such pieces, so its
   limit is the sum of theirs (limits.h), somewhat below the roof: each mark hangs from its own. */
#ifndef ROOFLINE_H
#define ROOFLINE_H

#include "../examples/stats.h"
#include "../examples/svg.h"

enum {
    ROOFLINE_WIDTH = 1150, ROOFLINE_HEIGHT = 560,
    ROOFLINE_LEFT = 62, ROOFLINE_RIGHT = 1130, ROOFLINE_TOP = 22, ROOFLINE_BOTTOM = 506     /* of the axes */
};

/* A result in the picture. Those of one name (the products of several matrices) share a label. */
typedef struct roofline_mark {
    const bench_result *r;
    char name[96];
    int family, leader;             /* of its colour; the first mark of the name */
    double x, y, limit;             /* pixels; limit: y where the limit would have it */
} roofline_mark;

/* Powers of two (x) and ten (y) to pixels. */
typedef struct roofline_axes { double x_lo, x_hi, y_lo, y_hi; } roofline_axes;

static double roofline_x(const roofline_axes *a, double intensity) {
    return ROOFLINE_LEFT + (log2(intensity) - a->x_lo) / (a->x_hi - a->x_lo) * (ROOFLINE_RIGHT - ROOFLINE_LEFT);
}

static double roofline_y(const roofline_axes *a, double flops) {
    return ROOFLINE_BOTTOM - (log10(flops) - a->y_lo) / (a->y_hi - a->y_lo) * (ROOFLINE_BOTTOM - ROOFLINE_TOP);
}

static int roofline_family(const bench_result *r) {
    return strcmp(r->work, "matmul") == 0 ? SVG_GQA : strcmp(r->work, "decode") == 0 ? SVG_KQV : SVG_COMBINED;
}

/* The number behind "C=" in a shape; 0: there is none. */
static int roofline_width(const char *shape) {
    const char *at = strstr(shape, "C=");
    return at ? atoi(at + 2) : 0;
}

/* What tells a result from its neighbours; a width only where it is not that of the first of this work. */
static void roofline_name(const bench_result *results, const bench_result *r, char *out, size_t size) {
    const bench_result *first = results;
    int which = (int)strcspn(r->shape, ",");                /* product, or batch */
    char width[24] = "", variant[32] = "";
    while (strcmp(first->work, r->work) != 0) first++;
    if (roofline_width(r->shape) && roofline_width(r->shape) != roofline_width(first->shape))
        snprintf(width, sizeof width, ", C %d", roofline_width(r->shape));
    if (r->variant[0] && strcmp(r->variant, "mha") != 0) snprintf(variant, sizeof variant, " %s", r->variant);
    if (strcmp(r->work, "matmul") == 0) snprintf(out, size, "%.*s, %d rows", which, r->shape, r->batch);
    else if (strcmp(r->work, "ragged") == 0) snprintf(out, size, "train %.*s b=%d", which, r->shape, r->batch);
    else snprintf(out, size, "%.15s%s b=%d%s", r->work, variant, r->batch, width);
}

/* .95, or 1.02 where it is above. */
static const char *roofline_part(double x, char s[16]) {
    snprintf(s, 16, "%.2f", x);
    return s[0] == '0' ? s + 1 : s;
}

static void roofline_rule(FILE *f, double x0, double y0, double x1, double y1, const char *classes) {
    fprintf(f, "<path class=\"%s\" d=\"M%.1f %.1fL%.1f %.1f\"/>", classes, x0, y0, x1, y1);
}

static void roofline_grid(FILE *f, const roofline_axes *a) {
    char s[32];
    double at;
    int i;
    for (at = a->x_lo; at <= a->x_hi; at++) {
        double x = roofline_x(a, exp2(at));
        roofline_rule(f, x, ROOFLINE_TOP, x, ROOFLINE_BOTTOM, "rule");
        if (at < 0) snprintf(s, sizeof s, "1/%.0f", exp2(-at)); else snprintf(s, sizeof s, "%.0f", exp2(at));
        svg_text(f, x, ROOFLINE_BOTTOM + 17, 11, "middle", "soft", s);
    }
    for (at = floor(a->y_lo); at <= a->y_hi; at++) for (i = 1; i < 6; i += i == 1 ? 1 : 3) {        /* 1, 2, 5 */
        double flops = i * pow(10, at);
        if (log10(flops) < a->y_lo - 1e-9 || log10(flops) > a->y_hi + 1e-9) continue;
        roofline_rule(f, ROOFLINE_LEFT, roofline_y(a, flops), ROOFLINE_RIGHT, roofline_y(a, flops), "rule");
        snprintf(s, sizeof s, "%g", 1e-9 * flops);
        svg_text(f, ROOFLINE_LEFT - 8, roofline_y(a, flops) + 4, 11, "end", "soft", s);
    }
    roofline_rule(f, ROOFLINE_LEFT, ROOFLINE_BOTTOM, ROOFLINE_RIGHT, ROOFLINE_BOTTOM, "axis");
    svg_text(f, ROOFLINE_LEFT - 54, 12, 12, "start", "name", "GFLOP/s");
    svg_text(f, ROOFLINE_RIGHT, ROOFLINE_BOTTOM + 40, 12, "end", "name", "flop for each byte that must be read");
}

/* What labels keep clear of. */
typedef struct roofline_taken { svg_box *boxes; int n, room; } roofline_taken;

static void roofline_take(roofline_taken *t, double x0, double y0, double x1, double y1) {
    svg_box b = {x0, y0, x1, y1};
    if (t->n == t->room) {
        svg_box *more = (svg_box *)allocate(2 * (size_t)t->room + 64, sizeof *more);
        if (t->n) memcpy(more, t->boxes, (size_t)t->n * sizeof *more);
        free(t->boxes);
        t->boxes = more;
        t->room = 2 * t->room + 64;
    }
    t->boxes[t->n++] = b;
}

/* Pixels of what is taken that a box would hide. */
static double roofline_hides(const roofline_taken *t, svg_box b) {
    double sum = 0;
    int i;
    for (i = 0; i < t->n; i++) sum += svg_overlap(b, t->boxes[i]);
    return sum;
}

/* The same of a line as wide as `width`, from `first` pixels after its start on. */
static double roofline_line_hides(const roofline_taken *t, double x0, double y0, double x1, double y1, double first,
                                  double width) {
    double length = hypot(x1 - x0, y1 - y0), at, sum = 0;
    for (at = first; at < length; at += width) {
        double x = x0 + (x1 - x0) * at / length, y = y0 + (y1 - y0) * at / length;
        svg_box b = {x - width / 2, y - width / 2, x + width / 2, y + width / 2};
        sum += roofline_hides(t, b);
    }
    return sum;
}

static void roofline_take_line(roofline_taken *t, double x0, double y0, double x1, double y1, double width) {
    double length = hypot(x1 - x0, y1 - y0), at;
    for (at = 0; at < length; at += width) {
        double x = x0 + (x1 - x0) * at / length, y = y0 + (y1 - y0) * at / length;
        roofline_take(t, x - width / 2, y - width / 2, x + width / 2, y + width / 2);
    }
}

/* A slope up to the roof, with its rate above it, where that hides least. */
static void roofline_slope(FILE *f, const roofline_axes *a, double peak, const roofline_mark *m, roofline_taken *t) {
    double rate = m->r->rate, first = fmax(exp2(a->x_lo), pow(10, a->y_lo) / rate);
    double x0 = roofline_x(a, first), y0 = roofline_y(a, rate * first);
    double x1 = roofline_x(a, peak / rate), y1 = roofline_y(a, peak), length = hypot(x1 - x0, y1 - y0);
    double dx = (x1 - x0) / length, dy = (y1 - y0) / length, w, at, begin = 10, least_hidden = 1e30;
    char s[128];
    if (x1 <= x0) return;
    snprintf(s, sizeof s, "reads %.0f GB/s: %s", 1e-9 * rate, m->name);
    w = 6 * (double)strlen(s);
    for (at = 10; at == 10 || at + w < length - 10; at += 20) {
        double from_x = x0 + at * dx + 9 * dy, from_y = y0 + at * dy - 9 * dx;
        double hidden = roofline_line_hides(t, from_x, from_y, from_x + w * dx, from_y + w * dy, 0, 12);
        if (hidden < least_hidden - 1) { least_hidden = hidden; begin = at; }
    }
    roofline_rule(f, x0, y0, x1, y1, "roof");
    fprintf(f, "<g transform=\"translate(%.1f %.1f) rotate(%.2f)\">", x0, y0, atan2(dy, dx) * 57.29577951);
    svg_text(f, begin, -5, 11, "start", "soft halo", s);
    fputs("</g>", f);
    roofline_take_line(t, x0, y0, x1, y1, 6);
    x0 += begin * dx + 9 * dy;
    y0 += begin * dy - 9 * dx;
    roofline_take_line(t, x0, y0, x0 + w * dx, y0 + w * dy, 12);
}

/* The peak, and the fastest and the slowest reads, between which the others are. */
static void roofline_roofs(FILE *f, const roofline_axes *a, const roofline_mark *m, int n, double peak, roofline_taken *t) {
    const roofline_mark *slow = m, *fast = m;
    double x, y = roofline_y(a, peak);
    char s[96];
    int i;
    for (i = 1; i < n; i++) {
        if (m[i].r->rate < slow->r->rate) slow = &m[i];
        if (m[i].r->rate > fast->r->rate) fast = &m[i];
    }
    roofline_slope(f, a, peak, fast, t);
    if (fast->r->rate > 1.1 * slow->r->rate) roofline_slope(f, a, peak, slow, t);
    x = roofline_x(a, fmax(peak / fast->r->rate, exp2(a->x_lo)));
    roofline_rule(f, x, y, ROOFLINE_RIGHT, y, "roof");
    snprintf(s, sizeof s, "multiply-adds %.0f GFLOP/s", 1e-9 * peak);
    svg_text(f, ROOFLINE_RIGHT, y - 7, 11, "end", "soft halo", s);
    roofline_take(t, x, y - 2, ROOFLINE_RIGHT, y + 2);
    roofline_take(t, ROOFLINE_RIGHT - 6.2 * (double)strlen(s), y - 19, ROOFLINE_RIGHT, y);
}

static int roofline_near(const roofline_mark *a, const roofline_mark *b, double dx, double dy) {
    return fabs(a->x - b->x) < dx && fabs(a->y - b->y) < dy;
}

/* Marks that would hide each other stand side by side: names in columns, and within a column to left and right in turn. */
static void roofline_spread(roofline_mark *m, int n) {
    double *shift = (double *)allocate((size_t)n, sizeof *shift);
    int i, k;
    for (i = 0; i < n; i++) {
        int before = 0, all = 0;
        for (k = 0; k < n; k++) if (m[k].leader == k && roofline_near(&m[k], &m[m[i].leader], 30, 24)) {
            before += k < m[i].leader;
            all++;
        }
        shift[i] = 30 * (before - 0.5 * (all - 1));
    }
    for (i = 0; i < n; i++) m[i].x += shift[i];
    for (i = 0; i < n; i++) {
        double x = m[i].x;
        int step = 0, clash = 1;
        while (clash) {
            for (k = 0; k < i && !roofline_near(&m[k], &m[i], 6.5, 6.5); k++) {}
            clash = k < i;
            if (clash) { step++; m[i].x = x + (step % 2 ? 1 : -1) * ((step + 1) / 2) * 6.5; }
        }
    }
    free(shift);
}

/* A label for each name, in the free place nearest to its marks. */
static void roofline_labels(FILE *f, const roofline_mark *m, int n, roofline_taken *t) {
    const svg_box edge = {ROOFLINE_LEFT + 2, 2, ROOFLINE_RIGHT, ROOFLINE_BOTTOM - 2};
    int i, k;
    for (i = 0; i < n; i++) {
        double x = 0, y = 0, lo = m[i].r->fraction, hi = lo, best = 1e30, w, to_x, to_y;
        svg_box placed = edge;
        char text[160], one[16], other[16];
        int count = 0, reach, turn;
        if (m[i].leader != i) continue;
        for (k = i; k < n; k++) if (m[k].leader == i) {
            x += m[k].x;
            y += m[k].y;
            lo = fmin(lo, m[k].r->fraction);
            hi = fmax(hi, m[k].r->fraction);
            count++;
        }
        x /= count;
        y /= count;
        snprintf(text, sizeof text, "%s: %s", m[i].name, roofline_part(lo, one));
        w = 6.6 * (double)strlen(text);
        if (strcmp(roofline_part(lo, one), roofline_part(hi, other)) != 0) {
            snprintf(text + strlen(text), sizeof text - strlen(text), "\xe2\x80\x93%s", roofline_part(hi, other));
            w += 25;
        }
        for (reach = 12; reach <= 132; reach += 20) for (turn = 0; turn < 16; turn++) {
            double dx = cos(turn * 0.392699082), dy = sin(turn * 0.392699082), cost = reach;
            svg_box b;
            b.x0 = x + dx * (reach + 4) - w * 0.5 * (1 - dx);
            b.x1 = b.x0 + w;
            b.y0 = y + dy * reach - 7;
            b.y1 = b.y0 + 14;
            cost += 8 * (w * 14 - svg_overlap(b, edge) + roofline_hides(t, b));
            cost += 8 * roofline_line_hides(t, x, y, fmin(fmax(x, b.x0), b.x1), fmin(fmax(y, b.y0), b.y1), 10, 3);
            if (cost < best) { best = cost; placed = b; }
        }
        roofline_take(t, placed.x0 - 6, placed.y0, placed.x1 + 6, placed.y1);
        to_x = fmin(fmax(x, placed.x0), placed.x1);
        to_y = fmin(fmax(y, placed.y0), placed.y1);
        fprintf(f, "<g class=\"f%d\">", m[i].family);
        if (hypot(to_x - x, to_y - y) > 16) {
            roofline_rule(f, x, y, to_x, to_y, "lead");
            roofline_take_line(t, x, y, to_x, to_y, 3);
        }
        svg_text(f, placed.x0, placed.y1 - 3, 12, "start", "tint halo", text);
        fputs("</g>\n", f);
    }
}

static void roofline_picture(FILE *f, roofline_mark *m, int n) {
    roofline_axes a = {1e30, -1e30, 1e30, -1e30};
    double *peaks = (double *)allocate((size_t)n, sizeof *peaks), peak;
    roofline_taken taken = {NULL, 0, 0};
    int i;
    for (i = 0; i < n; i++) {
        const bench_result *r = m[i].r;
        peaks[i] = r->peak;
        a.x_lo = fmin(a.x_lo, log2(r->flops / r->bytes));
        a.x_hi = fmax(a.x_hi, log2(r->flops / r->bytes));
        a.y_lo = fmin(a.y_lo, log10(r->value * r->flops));
        a.y_hi = fmax(a.y_hi, log10(fmax(r->limit * r->flops, r->peak)));
    }
    peak = stats_median(peaks, n).median;
    a.x_lo = floor(a.x_lo - 0.7);
    a.x_hi = ceil(a.x_hi + 0.7);
    a.y_lo -= 0.15;
    a.y_hi += 0.22;
    for (i = 0; i < n; i++) {
        m[i].x = roofline_x(&a, m[i].r->flops / m[i].r->bytes);
        m[i].y = roofline_y(&a, m[i].r->value * m[i].r->flops);
        m[i].limit = roofline_y(&a, m[i].r->limit * m[i].r->flops);
    }
    roofline_spread(m, n);
    fprintf(f, "<div class=\"wide panel\"><svg class=\"roofline\" viewBox=\"0 0 %d %d\" role=\"img\" "
            "aria-label=\"Roofline\">", ROOFLINE_WIDTH, ROOFLINE_HEIGHT);
    roofline_grid(f, &a);
    for (i = 0; i < n; i++) {
        roofline_take(&taken, m[i].x - 6, m[i].y - 6, m[i].x + 6, m[i].y + 6);
        roofline_take(&taken, m[i].x - 6, fmin(m[i].y, m[i].limit) - 1, m[i].x + 6, fmax(m[i].y, m[i].limit) + 1);
    }
    roofline_roofs(f, &a, m, n, peak, &taken);
    for (i = 0; i < n; i++) {
        const bench_result *r = m[i].r;
        char s[384], part[16];
        fprintf(f, "<g class=\"f%d\">", m[i].family);
        snprintf(s, sizeof s, "%s: %s: %.4g of %.4g %s, %s of the limit; %.3g flop/byte, %.4g GFLOP/s", m[i].name, r->shape,
                 r->value, r->limit, r->unit, roofline_part(r->fraction, part), r->flops / r->bytes,
                 1e-9 * r->value * r->flops);
        svg_tip(f, s);
        roofline_rule(f, m[i].x, m[i].y, m[i].x, m[i].limit, "hang");
        roofline_rule(f, m[i].x - 5, m[i].limit, m[i].x + 5, m[i].limit, "hang");
        svg_mark(f, m[i].family, m[i].x, m[i].y, 4);
        fputs("</g>\n", f);
    }
    roofline_labels(f, m, n, &taken);
    fputs("</svg></div>\n", f);
    free(taken.boxes);
    free(peaks);
}

static void roofline_cell(FILE *f, const char *classes, const char *format, double x) {
    fprintf(f, "<td class=\"%s\">", classes);
    fprintf(f, format, x);
    fputs("</td>", f);
}

static void roofline_table(FILE *f, const roofline_mark *m, int n) {
    int i;
    fputs("<div class=\"wide\"><table class=\"full\"><thead><tr><th>work</th><th>shape</th><th>variant</th><th>batch</th>"
          "<th>context</th><th>value</th><th>limit</th><th></th><th>fraction</th><th>flop/byte</th><th>GFLOP/s</th>"
          "<th>peak, GFLOP/s</th><th>reads, GB/s</th></tr></thead><tbody>\n", f);
    for (i = 0; i < n; i++) {
        const bench_result *r = m[i].r;
        fprintf(f, "<tr class=\"f%d\"><th><i></i>", m[i].family);
        svg_escape(f, r->work);
        fputs("</th><td class=\"text\">", f);
        svg_escape(f, r->shape);
        fputs("</td><td class=\"text\">", f);
        svg_escape(f, r->variant);
        fprintf(f, "</td><td>%d</td>", r->batch);
        if (r->context) fprintf(f, "<td>%d</td>", r->context); else fputs("<td></td>", f);
        roofline_cell(f, "own", r->value < 1000 ? "%.1f" : "%.0f", r->value);
        roofline_cell(f, "", r->limit < 1000 ? "%.1f" : "%.0f", r->limit);
        fputs("<td class=\"text\">", f);
        svg_escape(f, r->unit);
        fprintf(f, "</td><td class=\"own part\" style=\"--p:%.1f%%\">%.3f</td>", 100 * fmin(1, r->fraction), r->fraction);
        roofline_cell(f, "", r->flops < 10 * r->bytes ? "%.2f" : "%.0f", r->flops / r->bytes);
        roofline_cell(f, "", "%.1f", 1e-9 * r->value * r->flops);
        roofline_cell(f, "pale", "%.0f", 1e-9 * r->peak);
        roofline_cell(f, "pale", "%.0f", 1e-9 * r->rate);
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n", f);
}

/* The page; machine: the line about processor and limits. */
static void roofline_html(FILE *f, const char *machine, const bench_result *results, int n) {
    roofline_mark *m = (roofline_mark *)allocate((size_t)n + 1, sizeof *m);
    int i;
    for (i = 0; i < n; i++) {
        m[i].r = &results[i];
        m[i].family = roofline_family(&results[i]);
        roofline_name(results, &results[i], m[i].name, sizeof m[i].name);
        for (m[i].leader = 0; strcmp(m[m[i].leader].name, m[i].name) != 0; m[i].leader++) {}
    }
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<title>attnvar: roofline</title>\n<style>"
          SVG_PAGE
          ".roofline{min-width:900px}.roof{stroke:var(--ink);stroke-width:1.6;fill:none}"
          ".hang{stroke:var(--c);stroke-width:1.2;opacity:.7}.lead{stroke:var(--c);opacity:.5}"
          "thead th{white-space:normal}tbody th,.text,thead th:nth-child(-n+3){text-align:left}"
          ".part{background:linear-gradient(var(--c),var(--c)) left bottom/var(--p) 3px no-repeat}"
          "</style>\n</head>\n<body><main>\n<h1>What attnvar reaches of this machine</h1>\n<p class=\"lead-in\">", f);
    svg_escape(f, machine);
    fputs("</p>\n", f);
    if (n) {
        roofline_picture(f, m, n);
        fputs("<p class=\"quiet\">A mark is what a piece of work reached; it hangs from its limit, and behind its name is "
              "the fraction of it, in the median of the repeats. The limit is the least time of the parts, matrix products "
              "and attention, each the longer of its multiply-adds at their peak and its reading at its rate. Peak and rate "
              "are measured between the repeats, the rate on the very memory that the work reads: the slopes are the "
              "fastest and the slowest reading among all. Marks that would hide each other stand side by side. Point at one "
              "to read it.</p>\n", f);
        roofline_table(f, m, n);
    }
    fputs("</main></body></html>\n", f);
    free(m);
}

#endif /* ROOFLINE_H */
