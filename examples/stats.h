/* stats.h: what repeated measurements say, by one rule for the laboratory and its report.

   Two variants are compared run by run: equal seeds, or timings side by side, so that what both share does not count. What
   is clear, and what clear differences say of a claim, is decided here and nowhere else:

   - A difference over seeds is clear when Student's 95 % interval of its mean, mean ± t sd / sqrt(n), leaves zero out. With
     three seeds t is 4.30: the mean must be 2.5 times the standard deviation of the single differences. (A fixed two of them
     would be wrong once in 13 with three seeds, once in 5 with two.) One seed says nothing. It takes the differences to be
     roughly normal, and seeds to be drawn independently.
   - A ratio of times is clear when the interval of its median (stats_median) leaves one out. It assumes no distribution, but
     needs five turns to be what it says.
   - A claim about many variants rests on one comparison, named before looking: the first variant against the last where
     something should rise or fall, the mean over all where each should be above or below another. The others can only
     take it away: one that is clear the other way makes it "cannot tell". So comparing more does not claim more.
   - So do several measures of one thing: held-out loss decides on quality (every token counts, chance is least), pairs and
     GLUE can only take away; 512 sequences decide on speed, where reading the caches shows, and 16 can only take away. The
     next decides where one was not measured.
   - A claim with several parts (faster and worse) is supported when each is, contradicted when one is. A part over seeds is
     wrong in a given direction once in 40 at most, one over turns once in 20. */
#ifndef STATS_H
#define STATS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct stats { int n; double mean, sd, min, max; } stats;       /* n 0: nothing known; sd is NAN below two */

static inline stats stats_of(const double *x, int n) {
    stats s = {0, NAN, NAN, NAN, NAN};
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    if (n < 1) return s;
    s.n = n;
    s.mean = sum / n;
    s.min = s.max = x[0];
    for (int i = 0; i < n; i++) {
        s.min = fmin(s.min, x[i]);
        s.max = fmax(s.max, x[i]);
        squares += (x[i] - s.mean) * (x[i] - s.mean);
    }
    if (n > 1) s.sd = sqrt(squares / (n - 1));
    return s;
}

/* b minus a, of at most 32 runs. */
static inline stats stats_difference(const double *a, const double *b, int n) {
    double d[32];
    n = n < 32 ? n : 32;
    for (int i = 0; i < n; i++) d[i] = b[i] - a[i];
    return stats_of(d, n);
}

/* How far the mean's 95 % interval reaches to either side; infinite where one cannot be had. */
static inline double stats_reach(stats s) {
    static const double t[] = {                             /* Student's, 97.5 %, for 1 to 31 degrees of freedom */
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
        2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042, 2.040};
    const int last = (int)(sizeof t / sizeof *t) - 1;
    return s.n < 2 ? INFINITY : t[s.n - 2 < last ? s.n - 2 : last] * s.sd / sqrt(s.n);
}

/* -1 or 1: clearly below or above zero; 0: not clear. */
static inline int stats_sign(stats d) {
    double reach = stats_reach(d);
    return d.mean > reach ? 1 : d.mean < -reach ? -1 : 0;
}

static inline int stats_clear(stats difference) { return stats_sign(difference) != 0; }

typedef struct stats_range { double median, lo, hi; } stats_range;

static inline int stats_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median, and an interval that holds the true one in nine of ten cases at least, whatever the distribution: from the
   k-th smallest to the k-th largest. Below five values that is all of them, and less sure. Sorts x. */
static inline stats_range stats_median(double *x, int n) {
    stats_range r = {NAN, NAN, NAN};
    double below = pow(0.5, n), term = below;               /* how likely it is that at most k of n lie below the median */
    int k = 0;
    if (n < 1) return r;
    qsort(x, (size_t)n, sizeof *x, stats_order);
    while (below + term * (n - k) / (k + 1) <= 0.05) {
        term *= (double)(n - k) / (k + 1);
        below += term;
        k++;
    }
    r.median = 0.5 * (x[(n - 1) / 2] + x[n / 2]);
    r.lo = x[k];
    r.hi = x[n - 1 - k];
    return r;
}

/* Of a ratio of times over n turns: -1 or 1: clearly below or above one; 0: not clear. */
enum { STATS_TURNS = 5 };                                   /* fewer are too few */
static inline int stats_ratio_sign(stats_range r, int n) { return n < STATS_TURNS ? 0 : (r.lo > 1) - (r.hi < 1); }

typedef enum stats_verdict { STATS_CANNOT_TELL, STATS_SUPPORTS, STATS_CONTRADICTS } stats_verdict;

/* A claim of this sign (-1 or 1), by the sign of the comparison that decides; each[n] can only take away. */
static inline stats_verdict stats_judge(int claimed, int decides, const int *each, int n) {
    for (int i = 0; i < n; i++) if (each[i] == -decides) return STATS_CANNOT_TELL;
    return decides == 0 ? STATS_CANNOT_TELL : decides == claimed ? STATS_SUPPORTS : STATS_CONTRADICTS;
}

/* Whether something lies between two others, from its sign against each: clear of both, on different sides. */
static inline stats_verdict stats_between(int against_one, int against_other) {
    int sides = against_one * against_other;
    return sides < 0 ? STATS_SUPPORTS : sides > 0 ? STATS_CONTRADICTS : STATS_CANNOT_TELL;
}

/* Of several measures of one thing: the first decides. */
static inline stats_verdict stats_measures(const stats_verdict *v, int n) {
    for (int i = 1; i < n; i++) if (v[i] != v[0] && v[i] != STATS_CANNOT_TELL) return STATS_CANNOT_TELL;
    return n ? v[0] : STATS_CANNOT_TELL;
}

/* Of the parts of a claim. */
static inline stats_verdict stats_all(const stats_verdict *v, int n) {
    int found[3] = {0, 0, 0};
    for (int i = 0; i < n; i++) found[v[i]]++;
    if (found[STATS_CONTRADICTS]) return STATS_CONTRADICTS;
    return n && found[STATS_SUPPORTS] == n ? STATS_SUPPORTS : STATS_CANNOT_TELL;
}

#endif
