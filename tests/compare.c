/* compare FILE EXPECTED TOLERANCE: the largest absolute difference between two safetensors files with the same tensors,
   or between two files of raw float32. Prints it; exit code 1 when it is above TOLERANCE, 2 when they cannot be compared. */
#define _POSIX_C_SOURCE 200809L
#define ATV_NO_SIMD
#define ATV_NO_TRAIN
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"

static double largest;

static int compare(const float *x, const float *y, int64_t n) {
    int64_t i;
    for (i = 0; i < n; i++) {
        double d = fabs((double)x[i] - (double)y[i]);
        if (!(d <= largest)) largest = d == d ? d : HUGE_VAL;           /* a NaN is as far off as can be */
    }
    return 1;
}

static int compare_raw(atv_ctx *ctx, const char *file, const char *expected) {
    const void *x, *y;
    size_t nx, ny;
    if (atvi_map(ctx, file, &x, &nx) != ATV_OK || atvi_map(ctx, expected, &y, &ny) != ATV_OK) return 0;
    if (nx != ny || nx % 4 != 0) {
        fprintf(stderr, "compare: %s has %lu bytes, %s %lu\n", file, (unsigned long)nx, expected, (unsigned long)ny);
        return 0;
    }
    return compare((const float *)x, (const float *)y, (int64_t)(nx / 4));
}

static float *values(atv_ctx *ctx, atv_tensor t) {
    int64_t n = atv_tensor_count(&t);
    float *p = (float *)atvi_alloc(ctx, (size_t)n * sizeof *p);
    atv_tensor copy = t;
    int d;
    copy.data = p;
    copy.dtype = ATV_F32;
    for (d = t.rank - 1; d >= 0; d--) copy.strides[d] = d == t.rank - 1 ? 1 : copy.strides[d + 1] * t.dims[d + 1];
    return p && atv_tensor_copy(ctx, &copy, &t) == ATV_OK ? p : NULL;
}

static int compare_tensors(atv_ctx *ctx, const char *file, const char *expected) {
    atv_safetensors *x, *y;
    int i, n;
    if (atv_safetensors_open(ctx, file, &x) != ATV_OK || atv_safetensors_open(ctx, expected, &y) != ATV_OK) return 0;
    n = atv_safetensors_count(y);
    for (i = 0; i < n; i++) {
        atv_named_tensor want = atv_safetensors_tensor(y, i), have;
        int at = atv_safetensors_find(x, want.name);
        float *p, *q;
        if (at < 0 || atv_safetensors_count(x) != n) {
            fprintf(stderr, "compare: %s has not the tensors of %s: %s\n", file, expected, want.name);
            return 0;
        }
        have = atv_safetensors_tensor(x, at);
        if (have.tensor.rank != want.tensor.rank ||
            memcmp(have.tensor.dims, want.tensor.dims, sizeof have.tensor.dims) != 0) {
            fprintf(stderr, "compare: %s and %s: %s has another shape\n", file, expected, want.name);
            return 0;
        }
        p = values(ctx, have.tensor);
        q = values(ctx, want.tensor);
        if (!p || !q) return 0;
        compare(p, q, atv_tensor_count(&want.tensor));
        atvi_free(ctx, p);
        atvi_free(ctx, q);
    }
    atv_safetensors_close(x);
    atv_safetensors_close(y);
    return 1;
}

int main(int argc, char **argv) {
    atv_ctx_desc desc = {0};
    atv_ctx *ctx;
    desc.n_threads = 1;
    if (argc != 4 || atv_ctx_create(&desc, &ctx) != ATV_OK) {
        fprintf(stderr, "compare FILE EXPECTED TOLERANCE\n");
        return 2;
    }
    if (!(strstr(argv[2], ".safetensors") ? compare_tensors : compare_raw)(ctx, argv[1], argv[2])) {
        fprintf(stderr, "compare: %s\n", atv_last_error(ctx));
        return 2;
    }
    printf("%.3g\n", largest);
    atv_ctx_destroy(ctx);
    return !(largest <= strtod(argv[3], NULL));
}
