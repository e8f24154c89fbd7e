/* svg.h: what the programs that draw share: text made safe, colours by family for light and dark paper, files. */
#ifndef SVG_H
#define SVG_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { SVG_MHA, SVG_GQA, SVG_KQV, SVG_COMBINED, SVG_FAMILIES };

/* Okabe and Ito's colours (darker on light paper, so that they carry text), told apart with any kind of sight. */
#define SVG_STYLE \
    ":root{color-scheme:light dark;--paper:#fcfcfa;--ink:#1d1f22;--soft:#5d636b;--rule:#d9dce0;--faint:#f1f2f1;" \
    "--mha:#50555c;--gqa:#0068a8;--kqv:#c04f00;--combined:#007a5a}\n" \
    "@media(prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#e9e9e6;--soft:#a2a8b0;--rule:#3a3f45;--faint:#1f2226;" \
    "--mha:#c3c8cf;--gqa:#5ab6ea;--kqv:#f0965a;--combined:#3cc79d}}\n" \
    ".f0{--c:var(--mha)}.f1{--c:var(--gqa)}.f2{--c:var(--kqv)}.f3{--c:var(--combined)}\n" \
    "svg{font-family:system-ui,'Segoe UI',Roboto,'Liberation Sans',sans-serif;font-variant-numeric:tabular-nums}\n" \
    "svg text{fill:var(--ink)}svg .soft{fill:var(--soft)}svg .tint{fill:var(--c)}\n"

/* The length of the valid UTF-8 character at s, 0 if there is none. */
static int svg_utf8(const unsigned char *s) {
    int n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++) if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

/* Text for HTML and XML, where control characters and stray bytes are not allowed. */
static void svg_escape(FILE *f, const char *text) {
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

/* anchor: start, middle or end; kind: classes, may be "". */
static void svg_text(FILE *f, double x, double y, int size, const char *anchor, const char *kind, const char *text) {
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"%s\" class=\"%s\">", x, y, size, anchor, kind);
    svg_escape(f, text);
    fputs("</text>", f);
}

/* Opens dir/name for writing, making the directory when there is none. NULL after a message. */
static FILE *svg_create(const char *dir, const char *name, char *path, size_t cap) {
    FILE *f;
    if (snprintf(path, cap, "%s/%s", dir, name) >= (int)cap) return fprintf(stderr, "%s: the path is too long\n", dir), NULL;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) return fprintf(stderr, "%s: %s\n", dir, strerror(errno)), NULL;
    f = fopen(path, "wb");
    if (!f) fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return f;
}

/* 0 when all has been written. */
static int svg_close(FILE *f, const char *path) {
    int bad = ferror(f);
    if (fclose(f) != 0 || bad) { fprintf(stderr, "%s: could not be written whole\n", path); return 1; }
    return 0;
}

#endif
