/* rq2: to cut the KV cache, share heads or make them narrower?
 *
 * Question GQA keeps 8 query heads of width 48 and shares key/value heads; KQV keeps 8 of each and makes all narrower. Both
 *          cache the same bytes at the same proportion, and KQV frees more weights for the FFN. Which is faster, which is
 *          better?
 * Command  mkdir -p build && cc -O2 -o build/rq2 examples/rq2_gqa_vs_kqv.c -lm -lpthread && build/rq2
 * Prints   quality and speed of MHA and of GQA and KQV at .75, .5, .25 and .125, the limits of this machine and the
 *          published figures beside them. Writes out/rq2.csv, curves, pairs, glue, samples and settings.csv.
 * Takes    about 3 minutes on two cores after rq1_1, whose runs of MHA and GQA it finds; SCALE=smoke seconds.
 *
 * --help shows the settings, lab.h says how quality and speed are measured. */
#include "lab.h"

/* A proportion's two ways stand side by side. At .125 KQV's heads are 6 wide in the published shape. */
static const lab_variant variants[] = {
    /*        H  G/H    S/C    published: FFN  BLiMP GLUE  us b=16 b=512 */
    {ATV_MHA, 8, 1,     1,               1024, 57.5, 61.6, 136.67, 17.31},
    {ATV_GQA, 8, 0.75,  1,               1120, 55.8, 60.9, 225.66, 14.32},
    {ATV_KQV, 8, 1,     0.75,            1216, 55.9, 60.4, 135.19, 11.82},
    {ATV_GQA, 8, 0.5,   1,               1216, 56.7, 59.1, 212.16, 11.90},
    {ATV_KQV, 8, 1,     0.5,             1408, 53.5, 60.5, 133.51,  7.48},
    {ATV_GQA, 8, 0.25,  1,               1312, 55.4, 60.1, 176.69, 10.42},
    {ATV_KQV, 8, 1,     0.25,            1600, 53.9, 56.6, 134.44,  6.47},
    {ATV_GQA, 8, 0.125, 1,               1360, 56.0, 58.7, 158.22,  9.31},
    {ATV_KQV, 8, 1,     0.125,           1696, 50.3, 56.1, 134.15,  5.99},
};
enum { N = sizeof variants / sizeof *variants };

int main(int argc, char **argv) {
    lab_state *lab = lab_open("rq2", "shared key/value heads against narrower heads", argc, argv);
    lab_row rows[N];
    if (lab_measure(lab, variants, N, rows)) {
        lab_table(lab, rows, N);
        for (int i = 1; i < N; i += 2) lab_reading(lab, &rows[i + 1], &rows[i]);    /* KQV against GQA of the same cache */
        lab_save(lab, rows, N);
    }
    lab_close(lab, rows, N);
    return 0;
}
