/* examples/stats.h and the judgement in findings.h: against SciPy's and NumPy's numbers, and how often chance alone is taken
   for a finding. */
#define _XOPEN_SOURCE 600
#include "../examples/findings.h"
#include "test.h"

static int near(double x, double y) { return fabs(x - y) <= 1e-9 * fabs(y); }

/* scipy.stats.t.isf(p, df) */
static void test_t(void) {
    static const int df[] = {1, 2, 3, 4, 5, 8, 16, 31, 100, 1209};
    static const struct { double p, t[10]; } known[] = {
        {0.4, {0.3249196962, 0.2886751346, 0.2766706623, 0.2707222947, 0.2671808657, 0.2619210967, 0.2575991949,
               0.2555321683, 0.2540221825, 0.2534028607}},
        {0.1, {3.077683537, 1.885618083, 1.637744354, 1.533206274, 1.475884049, 1.39681531, 1.336757167, 1.309463549,
               1.290074761, 1.282252192}},
        {0.025, {12.70620474, 4.30265273, 3.182446305, 2.776445105, 2.570581836, 2.306004135, 2.119905299, 2.039513446,
                 1.983971519, 1.961928093}},
        {0.0025, {127.3213365, 14.08904728, 7.453318505, 5.597568367, 4.773340605, 3.832518685, 3.251992874, 3.022117834,
                  2.870651524, 2.812196601}},
        {1e-4, {3183.098757, 70.70007107, 22.20374227, 13.03367172, 9.677566301, 6.441999821, 4.790910103, 4.215502581,
                3.861599791, 3.730453355}},
    };
    for (int i = 0; i < COUNT(known); i++) for (int k = 0; k < COUNT(df); k++) {
        double t = stats_t(known[i].p, df[k]);
        CHECK(near(t, known[i].t[k]), "t of %g with %d degrees: %.10g, not %.10g", known[i].p, df[k], t, known[i].t[k]);
    }
}

/* The residuals of numpy.linalg.lstsq on a column for each variant and each seed; scipy.stats.ttest_rel of two rows. */
static void test_noise(void) {
    static const double x[4][5] = {{20.25, 30.5, 10.125}, {20.5, 30.25, 10.5}, {21, 31.5, 11.25}, {19.5, 30.75, 10}};
    stats_noise all = stats_noise_of(&x[0][0], 4, 3, 5), two = stats_noise_of(&x[0][0], 2, 3, 5);
    double t = (stats_of(x[1], 3).mean - stats_of(x[0], 3).mean) / (two.sd * sqrt(2 / 3.0));
    CHECK(all.df == 6 && near(all.sd, 0.3260932467187192), "noise %.16g of %d", all.sd, all.df);
    CHECK(two.df == 2 && near(t, 0.6546536707079771), "t %.16g of %d", t, two.df);
    CHECK(near(stats_reach(two, 2, 3), 14.08904728 * two.sd * sqrt(2 / 3.0)), "reach %g", stats_reach(two, 2, 3));
    CHECK(stats_noise_of(&x[0][0], 1, 3, 5).df == 0 && stats_noise_of(&x[0][0], 4, 1, 5).df == 0, "too little is known");
    CHECK(stats_reach(stats_noise_of(&x[0][0], 1, 3, 5), 2, 3) > 1e300, "what is not known is clear");
    CHECK(stats_reach(all, 2, 1) > 1e300, "one seed is clear");
    CHECK(stats_sign(1, 0.5) == 1 && stats_sign(-1, 0.5) == -1 && stats_sign(0.5, 0.5) == 0, "signs");
}

/* Of n values below the true median with chance 1/2 each, at most k are: summed up from the binomial coefficients. */
static double at_most(int k, int n) {
    double sum = 0;
    for (int i = 0; i <= k; i++) sum += exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2));
    return sum;
}

static void test_median(void) {
    for (int n = 1; n <= 32; n++) {
        double x[32];
        stats_range r;
        int k;
        for (int i = 0; i < n; i++) x[i] = n - 1 - i;
        r = stats_median(x, n);
        k = (int)r.lo;
        CHECK(r.median == (n - 1) / 2.0 && r.lo + r.hi == n - 1, "of %d: %g in %g to %g", n, r.median, r.lo, r.hi);
        CHECK(at_most(k, n) <= STATS_WRONG / (2 * STATS_TOGETHER) || (k == 0 && n < STATS_TURNS), "of %d: too narrow", n);
        CHECK(at_most(k + 1, n) > STATS_WRONG / (2 * STATS_TOGETHER), "of %d: too wide", n);
        r.lo = 2; r.hi = 3;
        CHECK(stats_ratio_sign(r, n) == (n >= STATS_TURNS), "%d turns", n);
    }
}

/* ---- a study in which nothing differs but by chance */

static unsigned short state[3] = {1, 2, 3};
static double normal(void) { return sqrt(-2 * log(1 - erand48(state))) * cos(4 * acos(0) * erand48(state)); }

static const struct { int question, family; double heads, group, kqv; } rows[] = {
    {0, SVG_MHA, 8, 1, 1}, {0, SVG_GQA, 8, .75, 1}, {0, SVG_GQA, 8, .5, 1}, {0, SVG_GQA, 8, .25, 1},
    {0, SVG_GQA, 8, .125, 1},
    {1, SVG_MHA, 4, 1, 1}, {1, SVG_MHA, 8, 1, 1}, {1, SVG_MHA, 16, 1, 1},
    {1, SVG_GQA, 4, .75, 1}, {1, SVG_GQA, 8, .75, 1}, {1, SVG_GQA, 16, .75, 1},
    {2, SVG_MHA, 8, 1, 1}, {2, SVG_GQA, 8, .75, 1}, {2, SVG_GQA, 8, .5, 1}, {2, SVG_GQA, 8, .25, 1},
    {2, SVG_GQA, 8, .125, 1},
    {2, SVG_KQV, 8, 1, .75}, {2, SVG_KQV, 8, 1, .5}, {2, SVG_KQV, 8, 1, .25}, {2, SVG_KQV, 8, 1, .125},
    {3, SVG_MHA, 8, 1, 1}, {3, SVG_GQA, 8, .25, 1}, {3, SVG_COMBINED, 8, .5, .5}, {3, SVG_KQV, 8, 1, .25},
};

/* A variant that an earlier question had is the same run. The worst of it gets `loss` worse. */
static void make_study(question q[4], int seeds, double loss) {
    double shared[3][MAX_SEEDS];
    for (int y = 0; y < 3; y++) for (int k = 0; k < seeds; k++) shared[y][k] = 5 * normal();
    for (int i = 0; i < 4; i++) q[i].n = 0;
    for (int i = 0; i < COUNT(rows); i++) {
        question *of = &q[rows[i].question];
        result *r = &of->r[of->n++];
        const result *same = NULL;
        memset(r, 0, sizeof *r);
        r->variant = r->label = "";
        r->family = rows[i].family; r->heads = rows[i].heads;
        r->group_proportion = rows[i].group; r->kqv_proportion = rows[i].kqv;
        for (int j = 0; !same && j < rows[i].question; j++) for (int k = 0; k < q[j].n; k++) {
            const result *o = &q[j].r[k];
            if (o->family == r->family && o->heads == r->heads && o->group_proportion == r->group_proportion &&
                o->kqv_proportion == r->kqv_proportion) same = o;
        }
        for (int y = 0; y < YARDSTICKS; y++) {
            list *x = list_in(r, &yardsticks[y]);
            x->n = yardsticks[y].times ? 9 : seeds;
            x->weight = 1;
            for (int k = 0; k < x->n; k++) {
                if (same && y < SPEED) x->x[k] = list_of(same, &yardsticks[y]).x[k];
                else if (y < SPEED) x->x[k] = shared[y][k] + normal() + (y == 0 ? loss * (1 - rows[i].group) : 0);
                else x->x[k] = rows[i].family == SVG_MHA ? 1 : exp(.1 * pow(normal(), 3));      /* outliers, too */
            }
        }
    }
    for (int i = 0; i < 4; i++) find_noise(&q[i]);
}

static void test_chance(void) {
    enum { STUDIES = 1000 };
    question q[4];
    observation o[OBSERVATIONS];
    int n_parts = 0, seen = 0;
    for (int i = 0; i < 4; i++) q[i].r = (result *)room(16, sizeof *q[i].r);
    for (int seeds = 2; seeds <= 5; seeds++) {
        int wrong = 0;
        for (int s = 0; s < STUDIES; s++) {
            int found = 0;
            make_study(q, seeds, 0);
            judge(q, o);
            n_parts = 0;
            for (int i = 0; i < OBSERVATIONS; i++) for (int k = 0; k < o[i].n; k++, n_parts++)
                found |= o[i].parts[k].verdict != STATS_CANNOT_TELL;
            wrong += found;
        }
        CHECK(wrong <= STUDIES * STATS_WRONG + 3 * sqrt(STUDIES * STATS_WRONG * (1 - STATS_WRONG)),
              "with %d seeds %d of %d studies found what is not there", seeds, wrong, STUDIES);
        CHECK(wrong > STUDIES * STATS_WRONG / 10, "with %d seeds only %d of %d: what is there would be missed, too", seeds,
              wrong, STUDIES);
    }
    CHECK(n_parts <= STATS_TOGETHER, "%d parts are judged, the intervals are for %d", n_parts, STATS_TOGETHER);
    for (int s = 0; s < 200; s++) {                         /* what is there is found: six times the noise of a run */
        make_study(q, 3, 6 / .875);
        judge(q, o);
        seen += o[0].parts[1].verdict == STATS_SUPPORTS;
        CHECK(o[0].parts[1].verdict != STATS_CONTRADICTS, "a loss that grows is a loss that falls");
    }
    CHECK(seen > 180, "%d of 200 studies saw a large loss", seen);
    for (int i = 0; i < 4; i++) free(q[i].r);
}

int main(void) {
    (void)question_read; (void)csv_free; (void)print_judgement; (void)grouped; (void)micros; (void)proportion;  /* report */
    test_t();
    test_noise();
    test_median();
    test_chance();
    return test_done("stats");
}
