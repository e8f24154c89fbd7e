/* bench.h: what `attnvar bench` measures, beside what the machine could do at best. */
#ifndef BENCH_H
#define BENCH_H

/* One line of the table, medians over the repeats. */
typedef struct bench_result {
    char work[16];                  /* matmul, decode, train, variants, ragged */
    char shape[96], variant[24], isa[12], unit[16];
    int batch, context, threads;    /* of a product batch is its rows; context 0: none */
    double value, limit, fraction;  /* value and limit in `unit`; fraction: the median of value / limit */
    double flops, bytes;            /* that one unit of value needs (a token, 10^9 operations): FLOP/s are value * flops */
    double peak, rate;              /* FLOP/s of multiply-adds, bytes/s read, measured beside it */
} bench_result;

#endif /* BENCH_H */
