/* svg.h: what the programs that draw share: text made safe, colours by family for light and dark, marks, pages, files. */
#ifndef SVG_H
#define SVG_H

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { SVG_MHA, SVG_GQA, SVG_KQV, SVG_COMBINED, SVG_FAMILIES };

/* Okabe and Ito's colours (darker on light paper, so that they carry text), told apart with any kind of sight. Paper is
   always light; a screen is what its owner asked for, or what data-theme on the root says. */
#define SVG_DARK \
    "color-scheme:dark;--paper:#16181b;--ink:#e9e9e6;--soft:#a2a8b0;--rule:#3a3f45;--faint:#1f2226;" \
    "--mha:#c3c8cf;--gqa:#5ab6ea;--kqv:#f0965a;--combined:#3cc79d"
#define SVG_STYLE \
    ":root{color-scheme:light;--paper:#fcfcfa;--ink:#1d1f22;--soft:#5d636b;--rule:#d9dce0;--faint:#f1f2f1;" \
    "--mha:#50555c;--gqa:#0068a8;--kqv:#c04f00;--combined:#007a5a}\n" \
    "@media screen and (prefers-color-scheme:dark){:root:not([data-theme=light]){" SVG_DARK "}}\n" \
    "@media screen{:root[data-theme=dark]{" SVG_DARK "}}\n" \
    ".f0{--c:var(--mha)}.f1{--c:var(--gqa)}.f2{--c:var(--kqv)}.f3{--c:var(--combined)}\n" \
    "svg{font-family:system-ui,'Segoe UI',Roboto,'Liberation Sans',sans-serif;font-variant-numeric:tabular-nums}\n" \
    "svg text{fill:var(--ink)}svg .soft{fill:var(--soft)}svg .tint{fill:var(--c)}\n"

/* A page of text, figures and tables in these colours. */
#define SVG_PAGE SVG_STYLE \
    "*{box-sizing:border-box}" \
    "body{margin:0;background:var(--paper);color:var(--ink);" \
    "font:16px/1.55 system-ui,'Segoe UI',Roboto,'Liberation Sans',sans-serif}" \
    "main{max-width:1200px;margin:0 auto;padding:40px 24px 80px}" \
    "h1{font-size:1.95rem;line-height:1.15;margin:0 0 .4em;letter-spacing:-.015em}" \
    "p{max-width:78ch}.lead-in{font-size:1.12rem;text-wrap:balance}.quiet{color:var(--soft);font-size:.92rem}" \
    ".panel{margin:0;background:var(--faint);border-radius:6px;padding:8px 6px 2px}" \
    ".panel svg{display:block;width:100%;height:auto}.wide{overflow-x:auto;margin:.8em 0}" \
    "table{border-collapse:collapse;font-size:.83rem;font-variant-numeric:tabular-nums;white-space:nowrap}" \
    ".full{width:100%;font-size:.72rem}th,td{padding:4px 10px;text-align:right;border-bottom:1px solid var(--rule)}" \
    "thead th{font-weight:600;color:var(--soft);font-size:.78rem;vertical-align:bottom}" \
    ".full thead th{font-size:.72rem}.full th,.full td{padding:4px 3px}" \
    "tbody th i{display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:7px;background:var(--c)}" \
    "td.own{font-weight:600}td.pale{color:var(--soft)}.name{font-weight:600}" \
    ".rule{stroke:var(--rule);stroke-width:1;fill:none}.axis{stroke:var(--soft);stroke-width:1}" \
    ".mark{fill:var(--c);stroke:var(--faint);stroke-width:1.2}.lead{stroke:var(--rule);stroke-width:1}" \
    ".halo{stroke:var(--faint);stroke-width:3;stroke-linejoin:round;paint-order:stroke}" \
    "@media(max-width:600px){main{padding:24px 14px}}\n"

/* The length of the valid UTF-8 character at s, 0 if there is none. */
static inline int svg_utf8(const unsigned char *s) {
    int n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++) if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

/* Text for HTML and XML, where control characters and stray bytes are not allowed. */
static inline void svg_escape(FILE *f, const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        int n = svg_utf8(s);
        if (n == 0) { fputs("\xef\xbf\xbd", f); s++; continue; }
        if (*s == '&') fputs("&amp;", f);
        else if (*s == '<') fputs("&lt;", f);
        else if (*s == '>') fputs("&gt;", f);
        else if (*s == '"') fputs("&quot;", f);
        else if (*s < ' ' || *s == 127) fputc(' ', f);
        else fwrite(s, 1, (size_t)n, f);
        s += n;
    }
}

/* anchor: start, middle or end; classes may be "". */
static inline void svg_text(FILE *f, double x, double y, int size, const char *anchor, const char *classes,
                            const char *text) {
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"%s\" class=\"%s\">", x, y, size, anchor, classes);
    svg_escape(f, text);
    fputs("</text>", f);
}

static inline void svg_tip(FILE *f, const char *text) {
    fputs("<title>", f);
    svg_escape(f, text);
    fputs("</title>", f);
}

/* Shapes differ by family too, so that colour is never all there is. */
static inline void svg_mark(FILE *f, int family, double x, double y, double r) {
    const double d = r * 1.3, w = r * 1.8;
    if (family == SVG_MHA) fprintf(f, "<path d=\"M%.1f %.1fl%.1f %.1fh%.1fz\"", x, y - r * 1.15, r * 1.1, r * 1.9, -r * 2.2);
    else if (family == SVG_GQA) fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"", x, y, r);
    else if (family == SVG_KQV)
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"", x - w / 2, y - w / 2, w, w);
    else fprintf(f, "<path d=\"M%.1f %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz\"", x, y - d, d, d, -d, d, -d, -d);
    fputs(" class=\"mark\"/>", f);
}

typedef struct svg_box { double x0, y0, x1, y1; } svg_box;

static inline double svg_overlap(svg_box a, svg_box b) {
    double w = fmin(a.x1, b.x1) - fmax(a.x0, b.x0), h = fmin(a.y1, b.y1) - fmax(a.y0, b.y0);
    return w > 0 && h > 0 ? w * h : 0;
}

/* Opens dir/name for writing, making the directory when there is none. NULL after a message. */
static inline FILE *svg_create(const char *dir, const char *name, char *path, size_t cap) {
    FILE *f;
    if (snprintf(path, cap, "%s/%s", dir, name) >= (int)cap)
        return fprintf(stderr, "%s: the path is too long\n", dir), (FILE *)NULL;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) return fprintf(stderr, "%s: %s\n", dir, strerror(errno)), (FILE *)NULL;
    f = fopen(path, "wb");
    if (!f) fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return f;
}

/* 0 when all has been written. */
static inline int svg_close(FILE *f, const char *path) {
    int bad = ferror(f);
    if (fclose(f) != 0 || bad) { fprintf(stderr, "%s: could not be written whole\n", path); return 1; }
    return 0;
}

#endif
