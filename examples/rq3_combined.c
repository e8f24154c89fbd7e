/* rq3: does half of each beat a quarter of one?
 *
 * Question A quarter of MHA's KV cache can be had by sharing (GQA .25), by narrower heads (KQV .25), or by half of each
 *          (COMBINED .5/.5: 4 key/value heads, all heads half as wide). Which of the three costs least?
 * Command  mkdir -p build && cc -O2 -o build/rq3 examples/rq3_combined.c -lm -lpthread && build/rq3
 * Prints   quality and speed of the three and of MHA, the limits of this machine and the published figures beside them.
 *          Writes out/rq3.csv, curves, pairs, glue, samples and settings.csv.
 * Takes    about a minute on two cores after the other programs, whose runs it finds; SCALE=smoke seconds.
 *
 * --help shows the settings, lab.h says how quality and speed are measured. */
#include "lab.h"

static const lab_variant variants[] = {
    /*             H  G/H   S/C   published: FFN  BLiMP GLUE  us b=16 b=512 */
    {ATV_MHA,      8, 1,    1,              1024, 57.5, 61.6, 136.67, 17.31},
    {ATV_GQA,      8, 0.25, 1,              1312, 55.4, 60.1, 176.69, 10.42},
    {ATV_COMBINED, 8, 0.5,  0.5,            1504, 54.5, 58.5, 207.79,  9.01},
    {ATV_KQV,      8, 1,    0.25,           1600, 53.9, 56.6, 134.44,  6.47},
};
enum { N = sizeof variants / sizeof *variants };

int main(int argc, char **argv) {
    lab_state *lab = lab_open("rq3", "a quarter of the cache by sharing, by narrowing, by half of each", argc, argv);
    lab_row rows[N];
    if (lab_measure(lab, variants, N, rows)) {
        lab_table(lab, rows, N);
        for (int i = 1; i < N; i++) lab_reading(lab, &rows[i], &rows[0]);
        lab_reading(lab, &rows[2], &rows[1]);
        lab_reading(lab, &rows[2], &rows[3]);
        lab_save(lab, rows, N);
    }
    lab_close(lab, rows, N);
    return 0;
}
