/* stats.h: what repeated measurements say, by one rule for the laboratory and its report.

   Two variants are compared run by run: equal seeds, or timings side by side, so that what both share does not count. A
   difference is clear when its mean is more than twice the standard deviation of the single differences. */
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

static inline int stats_clear(stats difference) { return difference.n > 1 && fabs(difference.mean) > 2 * difference.sd; }

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

#endif
