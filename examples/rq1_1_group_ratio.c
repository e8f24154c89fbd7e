/* rq1_1: how far can key/value heads be shared?
 *
 * Claim    Fewer key/value heads cut the KV cache in proportion. The FFN is widened to the same number of parameters, so a
 *          step does no less arithmetic, and the gain is in large batches, where memory has to bring the cache.
 * Command  mkdir -p build && cc -O2 -o build/rq1_1 examples/rq1_1_group_ratio.c -lm -lpthread && build/rq1_1
 * Prints   quality and speed of GQA with 1, .75, .5, .25 and .125 of 8 key/value heads, the limits of this machine and the
 *          published figures beside them. Writes out/rq1_1.csv, curves, pairs, glue, samples and settings.csv.
 * Takes    about 3 minutes on two cores; its training runs (in out/runs) are found again next time. SCALE=smoke: seconds.
 *
 * --help shows the settings, lab.h says how quality and speed are measured. */
#include "lab.h"

/* GQA with 6, 4, 2 and 1 key/value heads for 8 query heads; with 6 the groups are uneven: 2 2 1 1 1 1. */
static const lab_variant variants[] = {
    /*          H  G/H    S/C   published: FFN  BLiMP GLUE  us b=16 b=512 */
    {ATV_MHA, 8, 1,     1,               1024, 57.5, 61.6, 136.67, 17.31},
    {ATV_GQA, 8, 0.75,  1,               1120, 55.8, 60.9, 225.66, 14.32},
    {ATV_GQA, 8, 0.5,   1,               1216, 56.7, 59.1, 212.16, 11.90},
    {ATV_GQA, 8, 0.25,  1,               1312, 55.4, 60.1, 176.69, 10.42},
    {ATV_GQA, 8, 0.125, 1,               1360, 56.0, 58.7, 158.22,  9.31},
};
enum { N = sizeof variants / sizeof *variants };

int main(int argc, char **argv) {
    lab_state *lab = lab_open("rq1_1", "GQA with fewer and fewer key/value heads", argc, argv);
    lab_row rows[N];
    if (lab_measure(lab, variants, N, rows)) {
        lab_table(lab, rows, N);
        for (int i = 1; i < N; i++) lab_reading(lab, &rows[i], &rows[0]);
        lab_save(lab, rows, N);
    }
    lab_close(lab, rows, N);
    return 0;
}
