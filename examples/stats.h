/* stats.h: what repeated measurements say, by one rule for the laboratory and its report.

   Two variants are compared run by run: equal seeds, or timings side by side, so that what both share does not count. What
   is clear, and what clear differences say of a claim, is decided here and nowhere else:

   - What is read together is right together: a page judges ten parts of claims (STATS_TOGETHER), so each interval here is
     of 99.5 %, and all ten hold at once in 19 of 20 runs at least (Bonferroni), whether or not they depend on each other.
     Where a part takes two, both must be clear, so that it is wrong no more often.
   - A difference over seeds is clear when Student's interval of its mean leaves zero out. How far it reaches comes from the
     noise of a single run, estimated from all variants that were trained together (stats_noise): three seeds alone know
     their spread so badly that by chance it often comes out far too small. It takes the noise to be alike for all
     variants, roughly normal, and seeds to be drawn independently. Two variants alone make it the paired t-test. One seed
     says nothing; adding seeds until something is clear says more than is true.
   - A ratio of times is clear when the interval of its median (stats_median) leaves one out. It assumes no distribution, but
     independent turns, and needs nine of them to be what it says.
   - A claim about many variants rests on one comparison, named before looking: the first variant against the last where
     something should rise or fall, the mean over all where each should be above or below another. The others can only
     take it away: one that is clear the other way makes it "cannot tell". So comparing more does not claim more.
   - So do several measures of one thing: held-out loss decides on quality (every token counts, chance is least), pairs and
     GLUE can only take away; 512 sequences decide on speed, where reading the caches shows, and 16 can only take away. The
     next decides where one was not measured.
   - A claim with several parts (faster and worse) is supported when each is, contradicted when one is. */
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

enum { STATS_TOGETHER = 10 };                               /* intervals that are read together */
#define STATS_WRONG 0.05                                    /* how often one of them may miss */
#define STATS_SIDE (STATS_WRONG / (2 * STATS_TOGETHER))     /* how often each may, to either side */

/* What chance does to a single run: the standard deviation that is left when what a variant's runs share and what a seed's
   runs share is taken out (two-way analysis of variance without interaction). df: degrees of freedom; 0: not known. */
typedef struct stats_noise { double sd; int df; } stats_noise;

/* x: of each variant n runs, one a seed, in rows of `stride`. */
static inline stats_noise stats_noise_of(const double *x, int variants, int n, int stride) {
    stats_noise noise = {NAN, variants > 1 && n > 1 ? (variants - 1) * (n - 1) : 0};
    double all = 0, squares = 0;
    if (!noise.df) return noise;
    for (int i = 0; i < variants; i++) all += stats_of(x + i * stride, n).mean / variants;
    for (int k = 0; k < n; k++) {
        double seed = 0;
        for (int i = 0; i < variants; i++) seed += x[i * stride + k] / variants;
        for (int i = 0; i < variants; i++) {
            double rest = x[i * stride + k] - stats_of(x + i * stride, n).mean - seed + all;
            squares += rest * rest;
        }
    }
    noise.sd = sqrt(squares / noise.df);
    return noise;
}

/* How likely Student's t of df degrees of freedom is to exceed t > 0: Abramowitz and Stegun, 26.7.3 and 26.7.4. */
static inline double stats_tail(double t, int df) {
    const double angle = atan(t / sqrt(df)), square = cos(angle) * cos(angle);
    double term = df % 2 ? cos(angle) : 1, sum = 0, within;
    for (int k = df % 2; k <= df - 2; k += 2) {
        sum += term;
        term *= square * (k + 1) / (k + 2);
    }
    within = df % 2 ? (angle + sin(angle) * sum) / acos(0) : sin(angle) * sum;
    return 0.5 * (1 - within);
}

/* The t that is exceeded with this probability, between 1e-6 and 0.5. */
static inline double stats_t(double probability, int df) {
    double lo = 0, hi = 1e6;
    for (int i = 0; i < 64; i++) {
        double t = 0.5 * (lo + hi);
        if (stats_tail(t, df) > probability) lo = t; else hi = t;
    }
    return hi;
}

/* How far an interval reaches to either side of a sum of means over n runs each, whose squared coefficients add up to
   `weight`: 2 for a difference. Infinite where that cannot be known. */
static inline double stats_reach(stats_noise noise, double weight, int n) {
    return n < 2 || !noise.df ? INFINITY : stats_t(STATS_SIDE, noise.df) * noise.sd * sqrt(weight / n);
}

/* -1 or 1: clearly below or above zero; 0: not clear. */
static inline int stats_sign(double mean, double reach) { return mean > reach ? 1 : mean < -reach ? -1 : 0; }

typedef struct stats_range { double median, lo, hi; } stats_range;

static inline int stats_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median, and an interval that misses the true one to either side no more often than STATS_SIDE, whatever the
   distribution: from the k-th smallest to the k-th largest. Below STATS_TURNS values that is all of them, and less sure.
   Sorts x. */
static inline stats_range stats_median(double *x, int n) {
    stats_range r = {NAN, NAN, NAN};
    double below = pow(0.5, n), term = below;               /* how likely it is that at most k of n lie below the median */
    int k = 0;
    if (n < 1) return r;
    qsort(x, (size_t)n, sizeof *x, stats_order);
    while (below + term * (n - k) / (k + 1) <= STATS_SIDE) {
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
enum { STATS_TURNS = 9 };                                   /* fewer are too few: 0.5^8 is above STATS_SIDE */
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
