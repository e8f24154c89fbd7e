/* rq1_2: does the number of query heads change what sharing costs?
 *
 * Question Three quarters of the key/value heads, for 4, 8 and 16 query heads of the same total width: is the loss of
 *          quality against MHA with as many heads the same, and does the number of heads itself matter more?
 * Command  mkdir -p build && cc -O2 -o build/rq1_2 examples/rq1_2_num_heads.c -lm -lpthread && build/rq1_2
 * Prints   quality and speed of MHA and of GQA .75 with 4, 8 and 16 heads, the limits of this machine and the published
 *          figures beside them. Writes out/rq1_2.csv, curves, pairs, glue, samples and settings.csv.
 * Takes    two to three minutes on two cores after rq1_1, whose runs of MHA and GQA .75 it finds; SCALE=smoke seconds.
 *
 * --help shows the settings, lab.h says how quality and speed are measured. */
#include "lab.h"

/* The FFN width does not depend on the number of heads: G D stays three quarters of C. Nothing was published on speed. */
static const lab_variant variants[] = {
    /*          H  G/H   S/C   published: FFN  BLiMP GLUE  us b=16 b=512 */
    {ATV_MHA,  4, 1,    1,               1024, 58.1, 61.2,      0,    0},
    {ATV_MHA,  8, 1,    1,               1024, 57.5, 61.6, 136.67, 17.31},
    {ATV_MHA, 16, 1,    1,               1024, 54.1, 59.5,      0,    0},
    {ATV_GQA,  4, 0.75, 1,               1120, 56.8, 59.1,      0,    0},
    {ATV_GQA,  8, 0.75, 1,               1120, 55.8, 60.9, 225.66, 14.32},
    {ATV_GQA, 16, 0.75, 1,               1120, 53.4, 58.8,      0,    0},
};
enum { N = sizeof variants / sizeof *variants };

int main(int argc, char **argv) {
    lab_state *lab = lab_open("rq1_2", "GQA .75 against MHA with 4, 8 and 16 heads", argc, argv);
    lab_row rows[N];
    if (lab_measure(lab, variants, N, rows)) {
        lab_table(lab, rows, N);
        for (int i = 0; i < 3; i++) lab_reading(lab, &rows[3 + i], &rows[i]);    /* sharing, at equal heads */
        lab_reading(lab, &rows[2], &rows[0]);                                    /* 16 heads against 4 */
        lab_save(lab, rows, N);
    }
    lab_close(lab, rows, N);
    return 0;
}
