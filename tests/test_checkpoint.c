/* Tensors and their 16-bit types, safetensors files, config.json, Hugging Face directories: good ones, broken ones, and
   what is left when a write or an allocation fails. Most files live in memory, behind the context's atv_io. */
#define _POSIX_C_SOURCE 200809L
#ifndef ATV_NO_SIMD
#  define ATV_NO_SIMD                   /* no vectors here: they take half of the compiler's time */
#endif
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "test.h"
#include "mem_fs.h"
#include <locale.h>
#include <sys/stat.h>

static char logged[4096];
static void keep_log(void *user, atv_log_level level, const char *message) {
    (void)user;
    (void)level;
    strncat(logged, message, sizeof logged - 1 - strlen(logged));
    strncat(logged, "\n", sizeof logged - 1 - strlen(logged));
}

static atv_ctx *mem_ctx(mem_fs *fs, test_alloc *alloc) {
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.n_threads = 1;
    desc.logger.log = keep_log;
    mem_io(fs, &desc);
    if (alloc) {
        desc.allocator.user = alloc;
        desc.allocator.alloc = test_alloc_get;
        desc.allocator.free = test_alloc_put;
    }
    MUST((atv_ctx *)NULL, atv_ctx_create(&desc, &ctx));
    return ctx;
}

/* ---- 16-bit floats ---- */

/* The magnitudes that codes 0, 1, .. stand for, the first infinity as if it were a number: what rounding compares with. */
typedef struct half_type { const char *name; int mantissa, bias; uint16_t infinity; double values[32768]; } half_type;

static void half_table(half_type *t) {
    int code;
    for (code = 0; code <= t->infinity; code++) {
        int exponent = code >> t->mantissa, m = code & ((1 << t->mantissa) - 1);
        t->values[code] = exponent ? ldexp((1 << t->mantissa) + m, exponent - t->bias - t->mantissa)
                                   : ldexp(m, 1 - t->bias - t->mantissa);
    }
}

static uint16_t half_nearest(const half_type *t, double x) {
    int low = 0, high = t->infinity;
    double a = fabs(x);
    if (a >= t->values[high]) low = high;
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (t->values[mid] <= a) low = mid;
        else high = mid;
    }
    if (low < t->infinity) {
        double down = a - t->values[low], up = t->values[high] - a;    /* exact in double */
        if (up < down || (up == down && (low & 1))) low = high;
    }
    return (uint16_t)(low | (signbit(x) ? 0x8000 : 0));
}

/* From the bits: arithmetic may flush subnormals, and -ffast-math knows no NaN and no sign of 0. */
static int is_nan(float f) { return (atvi_f32_bits(f) & 0x7fffffffu) > 0x7f800000u; }
static double wide(float f) {
    uint32_t x = atvi_f32_bits(f), exponent = x >> 23 & 255, m = x & 0x7fffffu;
    double d = exponent == 255 ? HUGE_VAL : ldexp(exponent ? m | 0x800000u : m, (int)(exponent ? exponent : 1) - 150);
    return x >> 31 ? -d : d;
}
/* The next float away from 0, or towards it. */
static float away(float f) { return atvi_f32_from_bits(atvi_f32_bits(f) + 1); }
static float toward(float f) { return atvi_f32_from_bits(atvi_f32_bits(f) - 1); }

static uint16_t half_of(const half_type *t, float x) { return t->bias == 15 ? atvi_f32_to_f16(x) : atvi_f32_to_bf16(x); }
static float half_float(const half_type *t, uint16_t h) { return t->bias == 15 ? atvi_f16_to_f32(h) : atvi_bf16_to_f32(h); }

static void test_half(atv_ctx *ctx, half_type *t) {
    atv_tensor from, to;
    long bad_wide = 0, bad_middle = 0, bad_sample = 0, bad_double = 0, bad_nan = 0;
    const uint64_t stride = 1021;                           /* a prime: all lower bits come up */
    uint64_t bits;
    int code, sign;
    half_table(t);
    for (code = 0; code < 65536; code++) {
        float f = half_float(t, (uint16_t)code);
        int magnitude = code & 0x7fff;
        if (magnitude > t->infinity) bad_nan += !is_nan(f) || (half_of(t, f) & 0x7fff) <= t->infinity;
        else {
            double want = magnitude == t->infinity ? HUGE_VAL : t->values[magnitude];
            bad_wide += wide(f) != (code & 0x8000 ? -want : want) || atvi_f32_bits(f) >> 31 != (uint32_t)code >> 15;
            bad_wide += half_of(t, f) != code;
        }
    }
    CHECK(bad_wide == 0, "%s: %ld codes do not come back", t->name, bad_wide);
    CHECK(bad_nan == 0, "%s: %ld NaN codes became numbers", t->name, bad_nan);
    /* Rounding is monotonic: right at every middle between neighbours and beside it is right everywhere. */
    for (code = 0; code < t->infinity; code++)
        for (sign = 0; sign < 2; sign++) {
            double middle = (t->values[code] + t->values[code + 1]) / 2 * (sign ? -1 : 1), near[3];
            float f = atvi_f64_to_f32(middle, 0);
            uint16_t got;
            int k;
            if (wide(f) == middle) {                        /* bf16's smallest have no middle in float */
                bad_middle += half_of(t, f) != half_nearest(t, middle);
                bad_middle += half_of(t, toward(f)) != half_nearest(t, wide(toward(f)));
                bad_middle += half_of(t, away(f)) != half_nearest(t, wide(away(f)));
            }
            near[0] = middle;                               /* doubles that a float between would round a second time */
            near[1] = nextafter(middle, 0);
            near[2] = nextafter(middle, sign ? -HUGE_VAL : HUGE_VAL);
            for (k = 0; k < 3; k++) {
                from = atv_tensor_view(&near[k], ATV_F64, 1, 0, 0, 0);
                to = atv_tensor_view(&got, t->bias == 15 ? ATV_F16 : ATV_BF16, 1, 0, 0, 0);
                bad_double += atv_tensor_copy(ctx, &to, &from) != ATV_OK || got != half_nearest(t, near[k]);
            }
        }
    CHECK(bad_middle == 0, "%s: %ld roundings near a middle are wrong", t->name, bad_middle);
    CHECK(bad_double == 0, "%s: %ld doubles are rounded wrongly", t->name, bad_double);
    for (bits = 0; bits < UINT64_C(0x100000000); bits += stride) {
        float f = atvi_f32_from_bits((uint32_t)bits);
        uint16_t h = half_of(t, f);
        if (is_nan(f)) bad_sample += (h & 0x7fff) <= t->infinity;
        else bad_sample += h != half_nearest(t, wide(f));
    }
    CHECK(bad_sample == 0, "%s: %ld floats are rounded wrongly", t->name, bad_sample);
}

/* float to double and back, also where a float is subnormal. */
static void test_wide(void) {
    long bad = 0, bad_middle = 0;
    uint64_t bits;
    uint32_t x;
    for (bits = 0; bits < UINT64_C(0x100000000); bits += 10007) {
        float f = atvi_f32_from_bits((uint32_t)bits);
        if (!is_nan(f)) bad += atvi_f32_to_f64(f) != wide(f) || atvi_f32_bits(atvi_f64_to_f32(wide(f), 0)) != bits;
    }
    CHECK(bad == 0, "%ld floats change on the way to double and back", bad);
    for (x = 0; x < 0x800000u; x += 101) {                  /* from between two subnormals to the even one, or the odd */
        double middle = ldexp(x + 0.5, -149);
        bad_middle += atvi_f32_bits(atvi_f64_to_f32(middle, 0)) != x + (x & 1);
        bad_middle += atvi_f32_bits(atvi_f64_to_f32(middle, 1)) != (x | 1);
        bad_middle += atvi_f32_bits(atvi_f64_to_f32(-nextafter(middle, 1), 0)) != ((x + 1) | 0x80000000u);
    }
    CHECK(bad_middle == 0, "%ld roundings to subnormal floats are wrong", bad_middle);
}

/* ---- tensors ---- */

static void test_tensors(atv_ctx *ctx) {
    float a[2 * 3 * 4 * 5], b[2 * 3 * 4 * 5];
    double wide[24];
    int64_t whole[6] = {INT64_MIN, -1, 0, 1, INT64_MAX, 7}, back[6];
    unsigned char bytes[1 + 4 * 6];
    atv_tensor x, y, t;
    int i, j, k, l, bad = 0;
    for (i = 0; i < 120; i++) a[i] = (float)i;
    for (i = 0; i < ATV_DTYPE_COUNT; i++) {
        CHECK(atv_dtype_size((atv_dtype)i) >= 1 && atv_dtype_size((atv_dtype)i) <= 8, "dtype %d", i);
        CHECK(strlen(atv_dtype_name((atv_dtype)i)) >= 2, "dtype %d", i);
    }
    CHECK(atv_dtype_size((atv_dtype)99) == 0, "99 is no dtype");
    x = atv_tensor_view(a, ATV_F32, 2, 3, 4, 5);
    CHECK(x.rank == 4 && x.strides[0] == 60 && x.strides[3] == 1 && atv_tensor_count(&x) == 120, "a view of rank %d",
          x.rank);
    t = atv_tensor_view(NULL, ATV_F32, 0, 3, 4, 0);
    CHECK(t.rank == 3 && atv_tensor_count(&t) == 0, "an empty batch has rank %d", t.rank);
    t = atv_tensor_view(a, ATV_F32, 0, 0, 0, 0);
    CHECK(t.rank == 0 && atv_tensor_count(&t) == 1, "a scalar has rank %d", t.rank);

    y = atv_tensor_view(b, ATV_F32, 5, 3, 4, 2);            /* b[l][j][k][i] = a[i][j][k][l] */
    t = atv_tensor_swap(x, 0, 3);
    MUST(ctx, atv_tensor_copy(ctx, &y, &t));
    for (i = 0; i < 2; i++) for (j = 0; j < 3; j++) for (k = 0; k < 4; k++) for (l = 0; l < 5; l++)
        bad += b[((l * 3 + j) * 4 + k) * 2 + i] != a[((i * 3 + j) * 4 + k) * 5 + l];
    CHECK(bad == 0, "%d of a transposed copy are wrong", bad);

    t = atv_tensor_slice(atv_tensor_slice(x, 1, 1, 3), 3, 2, 5);        /* [2,2,4,3] */
    y = atv_tensor_view(wide, ATV_F64, 2, 2, 3, 2);
    for (i = bad = 0; i < 24; i++) wide[i] = -1;
    t = atv_tensor_slice(t, 2, 1, 3);                       /* [2,2,2,3] */
    t = atv_tensor_swap(t, 2, 3);                           /* [2,2,3,2] */
    MUST(ctx, atv_tensor_copy(ctx, &y, &t));
    for (i = 0; i < 2; i++) for (j = 0; j < 2; j++) for (k = 0; k < 3; k++) for (l = 0; l < 2; l++)
        bad += wide[((i * 2 + j) * 3 + k) * 2 + l] != (double)a[((i * 3 + j + 1) * 4 + l + 1) * 5 + k + 2];
    CHECK(bad == 0, "%d of a sliced, converted copy are wrong", bad);

    x = atv_tensor_view(whole, ATV_I64, 2, 3, 0, 0);
    y = atv_tensor_view(back, ATV_I64, 2, 3, 0, 0);
    MUST(ctx, atv_tensor_copy(ctx, &y, &x));
    CHECK(memcmp(whole, back, sizeof whole) == 0, "integers changed");
    y.dtype = ATV_F64;
    FAILS(ctx, atv_tensor_copy(ctx, &y, &x), ATV_ERR_ARGUMENT, "I64 cannot become F64");
    y = atv_tensor_view(back, ATV_I64, 3, 2, 0, 0);
    FAILS(ctx, atv_tensor_copy(ctx, &y, &x), ATV_ERR_ARGUMENT, "dst is [3, 2], src is [2, 3]");
    y = atv_tensor_view(back, ATV_I64, 6, 0, 0, 0);
    FAILS(ctx, atv_tensor_copy(ctx, &y, &x), ATV_ERR_ARGUMENT, "dst is [6]");

    memcpy(bytes + 1, a, 24);                               /* floats at an odd address, both ways */
    x = atv_tensor_view(bytes + 1, ATV_F32, 2, 3, 0, 0);
    y = atv_tensor_view(b, ATV_F32, 2, 3, 0, 0);
    MUST(ctx, atv_tensor_copy(ctx, &y, &x));
    CHECK(memcmp(a, b, 24) == 0, "an unaligned copy is wrong");
    y = atv_tensor_view(wide, ATV_F64, 2, 3, 0, 0);
    MUST(ctx, atv_tensor_copy(ctx, &y, &x));
    memset(bytes, 0, sizeof bytes);
    MUST(ctx, atv_tensor_copy(ctx, &x, &y));
    CHECK(memcmp(a, bytes + 1, 24) == 0, "an unaligned conversion is wrong");
}

/* ---- safetensors ---- */

static void set_header(unsigned char *file, uint64_t header) {
    int i;
    for (i = 0; i < 8; i++) file[i] = (unsigned char)(header >> (8 * i));
}

/* header size, header, n_data bytes 1, 2, 3, .. */
static unsigned char *make_file(const char *header, size_t n_data, size_t *size) {
    size_t n = strlen(header), i;
    unsigned char *file = (unsigned char *)malloc(8 + n + n_data);
    set_header(file, n);
    memcpy(file + 8, header, n);
    for (i = 0; i < n_data; i++) file[8 + n + i] = (unsigned char)(i + 1);
    *size = 8 + n + n_data;
    return file;
}

static uint64_t sum_bytes(const atv_safetensors *file) {
    uint64_t sum = 0;
    int i;
    for (i = 0; i < atv_safetensors_count(file); i++) {
        atv_named_tensor t = atv_safetensors_tensor(file, i);
        int64_t n = atv_tensor_count(&t.tensor) * (int64_t)atv_dtype_size(t.tensor.dtype), k;
        for (k = 0; k < n; k++) sum += ((const unsigned char *)t.tensor.data)[k];
        sum += strlen(t.name);
        if (atv_safetensors_find(file, t.name) != i) sum |= UINT64_C(1) << 63;
    }
    return sum;
}

static void test_safetensors_round(atv_ctx *ctx, mem_fs *fs) {
    static const char *const meta[] = {"format", "pt", "a \"quoted\"\n key", "z\xc3\xa9ro", "", ""};
    static const char *const names[] = {"f32", "bf16", "f16", "f64", "i32", "i64", "u8", "bool", "scalar", "empty",
                                        "swapped", "long", "name with \"quotes\", \\ and \xe2\x82\xac"};
    enum { N = 13, LONG = 40001 };
    atv_named_tensor t[N];
    float f[12], *big = (float *)malloc(LONG * sizeof *big);
    uint16_t h[12], bf[12];
    double d[12];
    int32_t i32[12];
    int64_t i64[12];
    unsigned char u8[12], flags[12];
    atv_safetensors *file = NULL;
    int i, k, dtype, bad;
    for (i = 0; i < 12; i++) {
        f[i] = (float)(i * 0.37 - 2);
        h[i] = atvi_f32_to_f16(f[i]);
        bf[i] = atvi_f32_to_bf16(f[i]);
        d[i] = i * 0.1 - 0.5;
        i32[i] = i % 2 ? INT32_MIN + i : INT32_MAX - i;
        i64[i] = i % 2 ? INT64_MIN + i : INT64_MAX - i;
        u8[i] = (unsigned char)(255 - i);
        flags[i] = (unsigned char)(i % 2);
    }
    for (i = 0; i < LONG; i++) big[i] = (float)sin(i);
    t[0].tensor = atv_tensor_view(f, ATV_F32, 3, 4, 0, 0);
    t[1].tensor = atv_tensor_view(bf, ATV_BF16, 12, 0, 0, 0);
    t[2].tensor = atv_tensor_view(h, ATV_F16, 3, 2, 2, 0);
    t[3].tensor = atv_tensor_view(d, ATV_F64, 3, 1, 2, 2);
    t[4].tensor = atv_tensor_view(i32, ATV_I32, 12, 0, 0, 0);
    t[5].tensor = atv_tensor_view(i64, ATV_I64, 12, 0, 0, 0);
    t[6].tensor = atv_tensor_view(u8, ATV_U8, 11, 0, 0, 0);
    t[7].tensor = atv_tensor_view(flags, ATV_BOOL, 5, 0, 0, 0);
    t[8].tensor = atv_tensor_view(f + 5, ATV_F32, 0, 0, 0, 0);
    t[9].tensor = atv_tensor_view(NULL, ATV_F32, 0, 4, 0, 0);
    t[10].tensor = atv_tensor_swap(t[0].tensor, 0, 1);
    t[11].tensor = atv_tensor_view(big, ATV_F32, LONG, 0, 0, 0);
    t[12].tensor = atv_tensor_view(f, ATV_F32, 1, 0, 0, 0);
    for (i = 0; i < N; i++) t[i].name = names[i];
    for (dtype = ATV_F32; dtype <= ATV_F64; dtype++) {
        MUST(ctx, atv_safetensors_write(ctx, "t.safetensors", t, N, (atv_dtype)dtype, meta, 3));
        MUST(ctx, atv_safetensors_open(ctx, "t.safetensors", &file));
        CHECK(atv_safetensors_count(file) == N, "%d tensors", atv_safetensors_count(file));
        for (k = 0; k < 3; k++) {
            const char *value = atv_safetensors_metadata(file, meta[2 * k]);
            CHECK(value && strcmp(value, meta[2 * k + 1]) == 0, "metadata '%s' is '%s'", meta[2 * k],
                  value ? value : "NULL");
        }
        CHECK(atv_safetensors_metadata(file, "none") == NULL, "metadata that is not there");
        CHECK(atv_safetensors_find(file, "none") == -1 && atv_safetensors_find(file, "") == -1,
              "a tensor that is not there");
        CHECK(((const unsigned char *)mem_get(fs, "t.safetensors")->data)[0] % 8 == 0, "the header is not padded");
        for (i = 0; i < N; i++) {
            int at = atv_safetensors_find(file, names[i]);
            atv_named_tensor got;
            if (!CHECK(at >= 0, "%s is not found", names[i])) continue;
            got = atv_safetensors_tensor(file, at);
            CHECK(strcmp(got.name, names[i]) == 0, "%s is called %s", names[i], got.name);
            CHECK(got.tensor.dtype == (i == 4 ? ATV_I32 : i == 5 ? ATV_I64 : i == 6 ? ATV_U8 : i == 7 ? ATV_BOOL
                                                                                             : (atv_dtype)dtype),
                  "%s came as %s", names[i], atv_dtype_name(got.tensor.dtype));
            CHECK(strcmp(atvi_shape_text(&got.tensor).text, atvi_shape_text(&t[i].tensor).text) == 0, "%s is %s", names[i],
                  atvi_shape_text(&got.tensor).text);
            CHECK((uintptr_t)got.tensor.data % atv_dtype_size(got.tensor.dtype) == 0, "%s is not aligned", names[i]);
            if (atvi_is_float(got.tensor.dtype) && i != 9 && i != 11) {
                double want[12], have[12];                  /* both through double, the expected one by way of dtype */
                char there[12 * 8];
                int64_t n = atv_tensor_count(&got.tensor);
                atv_tensor mid = got.tensor, w = got.tensor, v = got.tensor;
                mid.data = there;
                w.data = want;
                v.data = have;
                w.dtype = v.dtype = ATV_F64;
                MUST(ctx, atv_tensor_copy(ctx, &mid, &t[i].tensor));
                MUST(ctx, atv_tensor_copy(ctx, &w, &mid));
                MUST(ctx, atv_tensor_copy(ctx, &v, &got.tensor));
                CHECK(memcmp(want, have, (size_t)n * sizeof *want) == 0, "%s written as %s differs", names[i],
                      atv_dtype_name((atv_dtype)dtype));
            } else if (i >= 4 && i <= 7)
                CHECK(memcmp(got.tensor.data, t[i].tensor.data,
                             (size_t)atv_tensor_count(&got.tensor) * atv_dtype_size(got.tensor.dtype)) == 0,
                      "%s differs", names[i]);
            else if (i == 11 && dtype == ATV_F32) CHECK(memcmp(got.tensor.data, big, LONG * sizeof *big) == 0,
                                                        "the long one differs");
            else if (i == 11 && dtype == ATV_BF16) {
                for (k = bad = 0; k < LONG; k++) bad += ((const uint16_t *)got.tensor.data)[k] != atvi_f32_to_bf16(big[k]);
                CHECK(bad == 0, "%d of the long one differ", bad);
            }
        }
        atv_safetensors_close(file);
    }
    FAILS(ctx, atv_safetensors_write(ctx, "u", t, N, ATV_I32, NULL, 0), ATV_ERR_ARGUMENT, "cannot become I32");
    FAILS(ctx, atv_safetensors_write(ctx, "u", t, -1, ATV_F32, NULL, 0), ATV_ERR_ARGUMENT, "n=-1");
    t[3].name = "f32";
    FAILS(ctx, atv_safetensors_write(ctx, "u", t, N, ATV_F32, NULL, 0), ATV_ERR_ARGUMENT, "\"f32\" is there twice");
    t[3].name = "__metadata__";
    FAILS(ctx, atv_safetensors_write(ctx, "u", t, N, ATV_F32, NULL, 0), ATV_ERR_ARGUMENT, "__metadata__ is no name");
    t[3].name = "f64";
    t[3].tensor.data = NULL;
    FAILS(ctx, atv_safetensors_write(ctx, "u", t, N, ATV_F32, NULL, 0), ATV_ERR_ARGUMENT, "\"f64\" has");
    FAILS(ctx, atv_safetensors_write(ctx, "nowhere/u", t, 1, ATV_F32, NULL, 0), ATV_ERR_IO, "nowhere/u: cannot be written");
    FAILS(ctx, atv_safetensors_open(ctx, "none", &file), ATV_ERR_IO, "none: cannot be read");
    CHECK(mem_find(fs, "u") < 0 && mem_leftovers(fs) == 0, "a refused file was left behind");
    MUST(ctx, atv_safetensors_write(ctx, "empty", t, 0, ATV_F32, NULL, 0));
    MUST(ctx, atv_safetensors_open(ctx, "empty", &file));
    CHECK(atv_safetensors_count(file) == 0 && atv_safetensors_find(file, "f32") == -1, "an empty file");
    atv_safetensors_close(file);
    CHECK(fs->mapped == 0, "%ld maps are left", fs->mapped);
    free(big);
}

static void test_safetensors_headers(atv_ctx *ctx) {
    static const struct { const char *header; size_t data; atv_result result; const char *says; } cases[] = {
        {"{}", 0, ATV_OK, ""},
        {"{}   ", 0, ATV_OK, ""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, ATV_OK, ""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, ATV_OK, ""},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4,0,3],\"data_offsets\":[0,0]}}", 0, ATV_OK, ""},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[2,5]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 5, ATV_OK, ""},
        {" {}", 0, ATV_ERR_FORMAT, "does not begin with {"},
        {"[]", 0, ATV_ERR_FORMAT, "does not begin with {"},
        {"{\"a\"}", 0, ATV_ERR_FORMAT, "line 1 column 5"},
        {"{} x", 0, ATV_ERR_FORMAT, "column 4"},
        {"{}", 1, ATV_ERR_FORMAT, "the tensors end at byte 0 of 1"},
        {"{\"a\":3}", 0, ATV_ERR_FORMAT, "tensor \"a\": needs dtype, shape, data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3]}}", 3, ATV_ERR_FORMAT, "needs dtype, shape, data_offsets"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3],\"x\":1}}", 3, ATV_ERR_FORMAT, "and nothing else"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"shape\":[3],\"data_offsets\":[0,3]}}", 3, ATV_ERR_FORMAT,
         "and nothing else"},
        {"{\"a\":{\"dtype\":8,\"shape\":[3],\"data_offsets\":[0,3]}}", 3, ATV_ERR_FORMAT, "wrong kind"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":3,\"data_offsets\":[0,3]}}", 3, ATV_ERR_FORMAT, "wrong kind"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3,3]}}", 3, ATV_ERR_FORMAT, "wrong kind"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, ATV_ERR_UNSUPPORTED,
         "dtype=F8_E4M3 is not read here"},
        {"{\"a\":{\"dtype\":\"I16\",\"shape\":[3],\"data_offsets\":[0,6]}}", 6, ATV_ERR_UNSUPPORTED, "dtype=I16"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, ATV_ERR_UNSUPPORTED,
         "5 dimensions, more than 4"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, ATV_ERR_FORMAT, "shape[0]=-1 is no size"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.5],\"data_offsets\":[0,1]}}", 1, ATV_ERR_FORMAT, "shape[0]=1.5"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[[1]],\"data_offsets\":[0,1]}}", 1, ATV_ERR_FORMAT, "shape[0]=[1]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, ATV_ERR_FORMAT,
         "shape[1]=4294967296"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, ATV_ERR_FORMAT,
         "shape[0]=2305843009213693952"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],\"data_offsets\":[0,0]}}", 0, ATV_ERR_FORMAT,
         "is no size"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4, ATV_ERR_FORMAT,
         "does not fill data_offsets=[0, 4]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, ATV_ERR_FORMAT, "[3] of F32 does not fill"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 2, ATV_ERR_FORMAT, "not within the 2 bytes"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[3,0]}}", 3, ATV_ERR_FORMAT, "data_offsets=[3, 0]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[-3,0]}}", 3, ATV_ERR_FORMAT, "data_offsets=[-3, 0]"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[\"0\",3]}}", 3, ATV_ERR_FORMAT, "data_offsets="},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]}}", 4, ATV_ERR_FORMAT,
         "begin at 1, not where the one before ends, 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3,
         ATV_ERR_FORMAT, "\"b\": data_offsets begin at 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]}}", 5,
         ATV_ERR_FORMAT, "\"b\": data_offsets begin at 3"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}", 4, ATV_ERR_FORMAT, "\"a\" is there twice"},
        {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, ATV_ERR_FORMAT, "0 character"},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, ATV_OK, ""},
        {"{\"__metadata__\":{}}", 0, ATV_OK, ""},
        {"{\"__metadata__\":[]}", 0, ATV_ERR_FORMAT, "__metadata__ is not one object"},
        {"{\"__metadata__\":{},\"__metadata__\":{\"a\":\"b\"}}", 0, ATV_ERR_FORMAT, "__metadata__ is not one object"},
        {"{\"__metadata__\":{\"format\":1}}", 0, ATV_ERR_FORMAT, "value of \"format\" is not a plain string"},
        {"{\"__metadata__\":{\"a\":\"b\\u0000\"}}", 0, ATV_ERR_FORMAT, "value of \"a\""},
    };
    size_t i, size;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char *bytes = make_file(cases[i].header, cases[i].data, &size);
        atv_safetensors *file = NULL;
        atv_result r = atv_safetensors_from_memory(ctx, bytes, size, &file);
        CHECK(r == cases[i].result, "%s: %s (%s)", cases[i].header, atv_result_text(r), atv_last_error(ctx));
        CHECK((r == ATV_OK) == (file != NULL), "%s: an output on failure", cases[i].header);
        if (r == ATV_OK) CHECK(sum_bytes(file) >> 63 == 0, "%s: a tensor is not found", cases[i].header);
        else CHECK(strstr(atv_last_error(ctx), cases[i].says) != NULL, "%s: '%s' lacks '%s'", cases[i].header,
                   atv_last_error(ctx), cases[i].says);
        atv_safetensors_close(file);
        free(bytes);
    }
}

/* Unaligned on purpose: a header of odd length, and a float behind three bytes. */
static const char odd_header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"u\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                                 "\"f\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[3,19]},"
                                 "\"h\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[19,21]}}";

static void test_safetensors_damage(atv_ctx *ctx) {
    static const uint64_t sizes[] = {0, 1, UINT64_C(100000001), UINT64_C(0xFFFFFFFFFFFFFFFF), UINT64_C(0x8000000000000000),
                                     UINT64_C(0xFFFFFFFFFFFFFFF8)};
    static const float values[4] = {1.5f, -2.25f, 1e-30f, 3e30f};
    size_t size, n, i, header = strlen(odd_header), now, before;
    unsigned char *bytes = make_file(odd_header, 21, &size);
    atv_safetensors *file = NULL;
    atv_named_tensor t;
    float got[4];
    atv_tensor to = atv_tensor_view(got, ATV_F32, 2, 2, 0, 0);
    long loaded = 0, refused = 0, confused = 0;
    int c;
    for (i = 0; i < 16 && !atvi_big_endian(); i++) bytes[8 + header + 3 + i] = ((const unsigned char *)values)[i];
    MUST(ctx, atv_safetensors_from_memory(ctx, bytes, size, &file));
    t = atv_safetensors_tensor(file, atv_safetensors_find(file, "f"));
    MUST(ctx, atv_tensor_copy(ctx, &to, &t.tensor));
    if (!atvi_big_endian()) CHECK(memcmp(values, got, sizeof got) == 0, "unaligned floats are %g %g %g %g", got[0], got[1],
                                  got[2], got[3]);
    CHECK(strcmp(atv_safetensors_metadata(file, "format"), "pt") == 0, "the metadata");
    atv_safetensors_close(file);
    atv_memory(ctx, &before, NULL);
    for (n = 0; n < size; n++) {
        unsigned char *part = (unsigned char *)malloc(n + !n);
        atv_result r;
        memcpy(part, bytes, n);
        file = NULL;
        r = atv_safetensors_from_memory(ctx, part, n, &file);
        CHECK(r == ATV_ERR_FORMAT && !file && strlen(atv_last_error(ctx)) > 10, "the first %lu bytes: %s", (unsigned long)n,
              atv_result_text(r));
        free(part);
    }
    for (i = 0; i < 8 + header; i++) {
        unsigned char *copy = (unsigned char *)malloc(size), kept = bytes[i];
        memcpy(copy, bytes, size);
        for (c = 1; c < 256; c++) {
            atv_result r;
            copy[i] = (unsigned char)(kept ^ c);
            file = NULL;
            r = atv_safetensors_from_memory(ctx, copy, size, &file);
            if (r == ATV_OK) { loaded++; confused += (long)(sum_bytes(file) >> 63); } else refused++;
            confused += (r == ATV_OK) != (file != NULL);
            atv_safetensors_close(file);
        }
        free(copy);
    }
    CHECK(confused == 0 && loaded > 0 && refused > loaded, "of the changed headers %ld load, %ld fail, %ld are confused",
          loaded, refused, confused);
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        set_header(bytes, sizes[i]);
        FAILS(ctx, atv_safetensors_from_memory(ctx, bytes, size, &file), ATV_ERR_FORMAT, "header size=");
    }
    atv_memory(ctx, &now, NULL);
    CHECK(now == before, "%lu bytes are left of %lu", (unsigned long)now, (unsigned long)before);
    free(bytes);
}

/* ---- models ---- */

static atv_config small_config(void) {
    atv_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = 11;
    c.max_position_embeddings = 7;
    c.hidden_size = 12;
    c.num_layers = 3;
    c.num_heads = 4;
    c.intermediate_size = 10;
    c.window_size = 3;
    return c;
}

static atv_model *small_model(atv_ctx *ctx, const atv_config *config) {
    atv_model *model = NULL;
    int i;
    MUST(ctx, atv_model_create(ctx, config, &model));
    atv_model_init(model, 5);
    for (i = 0; i < atv_model_num_tensors(model); i++) {    /* biases too */
        atv_named_tensor t = atv_model_tensor(model, i);
        atv_rng rng = {(uint64_t)i};
        test_normal(&rng, (atv_real *)t.tensor.data, (size_t)atv_tensor_count(&t.tensor), 0.7);
    }
    atv_model_changed(model);
    return model;
}

static int same_layer(const atv_layer *a, const atv_layer *b) {
    int h;
    if (a->num_heads != b->num_heads || a->num_key_value_heads != b->num_key_value_heads || a->head_dim != b->head_dim ||
        a->value_dim != b->value_dim || a->intermediate_size != b->intermediate_size || a->window_size != b->window_size ||
        a->kv_layer != b->kv_layer) return 0;
    for (h = 0; h < a->num_heads; h++)
        if (atv_kv_of_head(a->num_heads, a->num_key_value_heads, a->kv_of_head, h) !=
            atv_kv_of_head(b->num_heads, b->num_key_value_heads, b->kv_of_head, h)) return 0;
    return 1;
}

static void same_config(const char *what, const atv_config *a, const atv_config *b) {
    int i;
    CHECK(a->vocab_size == b->vocab_size && a->max_position_embeddings == b->max_position_embeddings &&
          a->hidden_size == b->hidden_size && a->num_layers == b->num_layers && a->num_heads == b->num_heads &&
          a->num_key_value_heads == b->num_key_value_heads && a->kqv_size == b->kqv_size &&
          a->intermediate_size == b->intermediate_size && a->layer_norm_epsilon == b->layer_norm_epsilon &&
          a->initializer_range == b->initializer_range && a->bos_token_id == b->bos_token_id &&
          a->eos_token_id == b->eos_token_id && a->pad_token_id == b->pad_token_id && a->num_labels == b->num_labels,
          "%s: the config changed", what);
    for (i = 0; i < a->num_layers && i < b->num_layers; i++) {
        atv_layer x = atv_config_layer(a, i), y = atv_config_layer(b, i);
        CHECK(same_layer(&x, &y), "%s: layer %d changed", what, i);
    }
}

/* Equal tensors, after rounding a's to dtype. */
static void same_weights(const char *what, const atv_model *a, const atv_model *b, atv_dtype dtype) {
    int i, k, bad = 0;
    CHECK(atv_model_num_tensors(a) == atv_model_num_tensors(b), "%s: %d tensors became %d", what, atv_model_num_tensors(a),
          atv_model_num_tensors(b));
    for (i = 0; i < atv_model_num_tensors(a) && i < atv_model_num_tensors(b); i++) {
        atv_named_tensor x = atv_model_tensor(a, i), y = atv_model_tensor(b, i);
        bad += strcmp(x.name, y.name) != 0;
        for (k = 0; k < atv_tensor_count(&x.tensor); k++) {
            float f = (float)((const atv_real *)x.tensor.data)[k];
            if (dtype == ATV_BF16) f = atvi_bf16_to_f32(atvi_f32_to_bf16(f));
            if (dtype == ATV_F16) f = atvi_f16_to_f32(atvi_f32_to_f16(f));
            bad += f != (float)((const atv_real *)y.tensor.data)[k];
        }
    }
    CHECK(bad == 0, "%s: %d values changed", what, bad);
}

static void save_and_load(atv_ctx *ctx, const char *what, const atv_model *model, const char *dir, atv_dtype dtype) {
    atv_save_desc desc;
    atv_model *back = NULL;
    memset(&desc, 0, sizeof desc);
    desc.dtype = dtype;
    MUST(ctx, atv_model_save(model, dir, &desc));
    if (!CHECK(atv_model_load(ctx, dir, &back) == ATV_OK, "%s: %s", what, atv_last_error(ctx))) return;
    same_config(what, atv_model_config(model), atv_model_config(back));
    same_weights(what, model, back, dtype);
    atv_model_destroy(back);
}

static void test_round_trips(atv_ctx *ctx, mem_fs *fs) {
    static const int windows[3] = {2, 0, 5}, same_windows[3] = {4, 0, 4}, heads[4] = {2, 0, 1, 2}, sharing[3] = {0, 0, 2};
    static const int map2[2] = {0, 0};
    atv_config c = small_config(), d;
    atv_layer layers[3];
    atv_model *model = small_model(ctx, &c);
    const char *text;
    save_and_load(ctx, "plain", model, "m", ATV_F32);
    text = mem_get(fs, "m/config.json")->data;
    CHECK(!test_find(text, "num_key_value_heads") && !test_find(text, "kqv_size") && !test_find(text, "layers") &&
          !test_find(text, "windows") && !test_find(text, "kv_of_head") && !test_find(text, "kv_of_layer"),
          "a plain model says more than it has to: %s", text);
    CHECK(test_find(text, "torch_dtype") && strncmp(test_find(text, "torch_dtype"), "\"float32\"", 9) == 0,
          "torch_dtype: %s", text);
    CHECK(strstr(text, "\"layer_norm_epsilon\": 1e-05,") && strstr(text, "\"initializer_range\": 0.02,"), "numbers: %s",
          text);
    CHECK(strstr(text, "\"attention_types\": [[[\"global\", \"local\", \"global\"], 1]]"), "attention_types: %s", text);
    CHECK(strstr(text, "\"attention_layers\": [\"global\", \"local\", \"global\"]"), "attention_layers: %s", text);
    CHECK(strstr(text, "\"bos_token_id\": null"), "bos_token_id: %s", text);
    save_and_load(ctx, "bf16", model, "m", ATV_BF16);
    CHECK(strncmp(test_find(mem_get(fs, "m/config.json")->data, "torch_dtype"), "\"bfloat16\"", 10) == 0, "torch_dtype");
    save_and_load(ctx, "f16", model, "m", ATV_F16);
    CHECK(strncmp(test_find(mem_get(fs, "m/config.json")->data, "torch_dtype"), "\"float16\"", 9) == 0, "torch_dtype");
    {
        atv_safetensors *file = NULL;
        atv_save_desc bad;
        MUST(ctx, atv_safetensors_open(ctx, "m/model.safetensors", &file));
        CHECK(atv_safetensors_metadata(file, "format") && strcmp(atv_safetensors_metadata(file, "format"), "pt") == 0,
              "no format pt");
        atv_safetensors_close(file);
        memset(&bad, 0, sizeof bad);
        bad.dtype = ATV_I32;
        FAILS(ctx, atv_model_save(model, "m", &bad), ATV_ERR_ARGUMENT, "dtype=I32");
        FAILS(ctx, atv_model_save(model, "nowhere", NULL), ATV_ERR_IO, "nowhere/model.safetensors");
    }
    atv_model_destroy(model);

    d = c;
    d.num_layers = 6;
    d.has_special_ids = 1;
    d.bos_token_id = 0;
    d.eos_token_id = 10;
    d.pad_token_id = -1;
    d.layer_norm_epsilon = 0.30000000000000004;                       /* 17 digits */
    d.initializer_range = 12;
    model = small_model(ctx, &d);
    save_and_load(ctx, "six layers", model, "m", ATV_F32);
    text = mem_get(fs, "m/config.json")->data;
    CHECK(strstr(text, "\"attention_types\": [[[\"global\", \"local\"], 3]]"), "attention_types: %s", text);
    CHECK(strstr(text, "0.30000000000000004") && strstr(text, "12.0"), "numbers: %s", text);
    atv_model_destroy(model);

    d = c;
    d.num_key_value_heads = 3;
    d.kqv_size = 20;
    d.kv_of_head = heads;
    d.kv_of_layer = sharing;
    d.windows = windows;
    model = small_model(ctx, &d);
    save_and_load(ctx, "a map, shared keys, windows", model, "m", ATV_F32);
    text = mem_get(fs, "m/config.json")->data;
    CHECK(strstr(text, "\"num_key_value_heads\": 3") && strstr(text, "\"kqv_size\": 20") &&
          strstr(text, "\"kv_of_head\": [2, 0, 1, 2]") && strstr(text, "\"kv_of_layer\": [0, 0, 2]") &&
          strstr(text, "\"windows\": [2, 0, 5]") && !test_find(text, "layers"), "variant fields: %s", text);
    atv_model_destroy(model);

    d = c;
    d.windows = same_windows;
    model = small_model(ctx, &d);
    save_and_load(ctx, "equal windows", model, "m", ATV_F32);
    text = mem_get(fs, "m/config.json")->data;
    CHECK(strstr(text, "\"window_size\": 4,") && !test_find(text, "windows"), "windows: %s", text);
    atv_model_destroy(model);

    d = c;
    memset(layers, 0, sizeof layers);
    layers[0].num_heads = 4;
    layers[0].num_key_value_heads = 2;
    layers[0].head_dim = 3;
    layers[0].value_dim = 5;
    layers[0].intermediate_size = 9;
    layers[1] = layers[0];
    layers[1].num_heads = 2;
    layers[1].window_size = 2;
    layers[1].kv_of_head = map2;
    layers[1].has_kv_layer = 1;
    layers[1].kv_layer = 0;
    layers[2].num_heads = 1;
    layers[2].head_dim = 7;
    layers[2].intermediate_size = 1;
    layers[2].window_size = 6;
    d.layers = layers;
    model = small_model(ctx, &d);
    save_and_load(ctx, "three different layers", model, "m", ATV_F32);
    text = mem_get(fs, "m/config.json")->data;
    CHECK(strstr(text, "\"layers\": [") && strstr(text, "\"value_dim\": 5") && strstr(text, "\"kv_of_head\": [0, 0]"),
          "layers: %s", text);
    atv_model_destroy(model);
    CHECK(mem_leftovers(fs) == 0 && fs->mapped == 0, "files or maps are left");
}

/* A config text with one member's value exchanged, added (when it is not there) or, with value NULL, renamed away. */
static char *edit(const char *text, const char *key, const char *value) {
    const char *at = test_find(text, key), *end;
    char *out = (char *)malloc(strlen(text) + strlen(key) + (value ? strlen(value) : 0) + 64);
    if (!at) {
        const char *open = strchr(text, '{') + 1;
        sprintf(out, "%.*s\"%s\": %s,%s", (int)(open - text), text, key, value, open);
        return out;
    }
    if (!value) {
        const char *name = strstr(text, test_path("\"%s\":", key));
        sprintf(out, "%.*s\"was_%s", (int)(name - text), text, name + 1);
        return out;
    }
    end = strstr(at, ",\n");
    if (!end) end = strstr(at, "\n}");
    sprintf(out, "%.*s%s%s", (int)(at - text), text, value, end);
    return out;
}

static void test_configs(atv_ctx *ctx, mem_fs *fs) {
    static const struct { const char *key, *value; atv_result result; const char *says; } cases[] = {
        {"vocab_size", NULL, ATV_ERR_FORMAT, "vocab_size is missing"},
        {"hidden_size", NULL, ATV_ERR_FORMAT, "hidden_size is missing"},
        {"num_layers", NULL, ATV_ERR_FORMAT, "num_layers is missing"},
        {"num_heads", NULL, ATV_ERR_FORMAT, "num_heads is missing"},
        {"num_heads", "null", ATV_ERR_FORMAT, "num_heads is missing"},
        {"num_heads", "\"4\"", ATV_ERR_FORMAT, "num_heads=4 is not a whole number above 0"},
        {"num_heads", "0", ATV_ERR_FORMAT, "num_heads=0"},
        {"num_heads", "-4", ATV_ERR_FORMAT, "num_heads=-4"},
        {"num_heads", "4.5", ATV_ERR_FORMAT, "num_heads=4.5"},
        {"num_heads", "99999999999", ATV_ERR_FORMAT, "num_heads=99999999999"},
        {"num_heads", "5", ATV_ERR_FORMAT, "config.json: kqv_size=12 is no multiple of num_heads=5"},
        {"num_heads", "4.0", ATV_OK, ""},
        {"num_layers", "2147483647", ATV_ERR_UNSUPPORTED, "num_layers=2147483647 is more than"},
        {"num_layers", "2", ATV_ERR_FORMAT, "has more layers than num_layers"},
        {"num_layers", "4", ATV_ERR_FORMAT, "has fewer layers than num_layers"},
        {"num_hidden_layers", "3", ATV_OK, ""},
        {"num_hidden_layers", "4", ATV_ERR_FORMAT, "num_hidden_layers=4 disagrees with num_layers=3"},
        {"num_attention_heads", "8", ATV_ERR_FORMAT, "num_attention_heads=8 disagrees with num_heads=4"},
        {"vocab_size", "268435457", ATV_ERR_FORMAT, "config.json: vocab_size=268435457"},
        {"vocab_size", "200000000", ATV_ERR_FORMAT, "holds only"},
        {"vocab_size", "12", ATV_ERR_FORMAT,
         "tensor \"transformer.wte.weight\": shape is [11, 12], config.json needs [12, 12]"},
        {"max_position_embeddings", "8", ATV_ERR_FORMAT, "wpe.weight\": shape is [7, 12], config.json needs [8, 12]"},
        {"max_position_embeddings", NULL, ATV_ERR_FORMAT, "config.json needs [2048, 12]"},
        {"intermediate_size", "null", ATV_ERR_FORMAT, "config.json needs [48]"},
        {"intermediate_size", "\"x\"", ATV_ERR_FORMAT, "intermediate_size=x"},
        {"kqv_size", "8", ATV_ERR_FORMAT, "config.json needs [8, 12]"},
        {"kqv_size", "12", ATV_OK, ""},
        {"kqv_size", "null", ATV_OK, ""},
        {"num_key_value_heads", "4", ATV_OK, ""},
        {"num_key_value_heads", "5", ATV_ERR_FORMAT, "config.json: layer 0: num_key_value_heads=5"},
        {"num_key_value_heads", "3", ATV_ERR_FORMAT, "config.json needs [9, 12]"},
        {"head_dim", "3", ATV_OK, ""},
        {"head_dim", "4", ATV_ERR_FORMAT, "head_dim=4 is not kqv_size / num_heads"},
        {"window_size", "0", ATV_ERR_FORMAT, "window_size=0"},
        {"window_size", NULL, ATV_OK, ""},
        {"model_type", "\"gpt2\"", ATV_ERR_UNSUPPORTED, "model_type=gpt2 is not done here"},
        {"model_type", NULL, ATV_ERR_FORMAT, "model_type is missing"},
        {"model_type", "1", ATV_ERR_UNSUPPORTED, "model_type=1"},
        {"activation_function", "\"relu\"", ATV_ERR_UNSUPPORTED, "activation_function=relu is not done here"},
        {"activation_function", "\"gelu\"", ATV_ERR_UNSUPPORTED, "activation_function=gelu "},
        {"activation_function", "\"gelu_pytorch_tanh\"", ATV_OK, ""},
        {"activation_function", NULL, ATV_OK, ""},
        {"tie_word_embeddings", "false", ATV_ERR_UNSUPPORTED, "tie_word_embeddings=false is not done here"},
        {"tie_word_embeddings", NULL, ATV_OK, ""},
        {"quantization_config", "{\"bits\": 4}", ATV_ERR_UNSUPPORTED, "quantization_config={\"bits\": 4}"},
        {"quantization_config", "null", ATV_OK, ""},
        {"scale_attn_weights", "true", ATV_ERR_UNSUPPORTED, "scale_attn_weights=true"},
        {"scale_attn_weights", "false", ATV_OK, ""},
        {"rope_scaling", "{\"factor\": 2}", ATV_ERR_UNSUPPORTED, "rope_scaling="},
        {"rope_theta", "10000.0", ATV_ERR_UNSUPPORTED, "rope_theta=10000.0"},
        {"attention_scale", "0.125", ATV_ERR_UNSUPPORTED, "attention_scale=0.125"},
        {"is_encoder_decoder", "false", ATV_OK, ""},
        {"add_cross_attention", "true", ATV_ERR_UNSUPPORTED, "add_cross_attention=true"},
        {"pruned_heads", "{}", ATV_OK, ""},
        {"pruned_heads", "{\"0\": [1]}", ATV_ERR_UNSUPPORTED, "pruned_heads="},
        {"layer_norm_epsilon", "0", ATV_ERR_FORMAT, "layer_norm_epsilon=0 is not a number above 0"},
        {"layer_norm_epsilon", "\"small\"", ATV_ERR_FORMAT, "layer_norm_epsilon=small"},
        {"layer_norm_epsilon", "2", ATV_ERR_FORMAT, "layer_norm_epsilon=2"},
        {"layer_norm_epsilon", "1e999", ATV_ERR_FORMAT, "layer_norm_epsilon=1e999"},
        {"layer_norm_epsilon", "null", ATV_OK, ""},
        {"initializer_range", "-1", ATV_ERR_FORMAT, "initializer_range=-1"},
        {"eos_token_id", "[1, 2]", ATV_ERR_FORMAT, "eos_token_id=[1, 2] is not one token id"},
        {"eos_token_id", "50256", ATV_OK, ""},
        {"eos_token_id", NULL, ATV_OK, ""},
        {"attention_types", "3", ATV_ERR_FORMAT, "attention_types=3 is not an array"},
        {"attention_types", "[[[\"global\", \"local\", \"global\"]]]", ATV_ERR_FORMAT, "attention_types="},
        {"attention_types", "[[[\"global\", \"ring\", \"global\"], 1]]", ATV_ERR_UNSUPPORTED,
         "attention_types: ring is neither global nor local"},
        {"attention_types", "[[[], 1000000000]]", ATV_ERR_FORMAT, "attention_types="},
        {"attention_types", "[[[\"local\"], 1000000000]]", ATV_ERR_FORMAT, "more layers"},
        {"attention_types", "[[[\"global\"], -1]]", ATV_ERR_FORMAT, "attention_types="},
        {"attention_types", "[[[\"global\", \"local\"], 1], [[\"global\"], 1]]", ATV_OK, ""},
        {"attention_types", "[[[\"local\", \"local\", \"global\"], 1]]", ATV_ERR_FORMAT,
         "attention_layers[0]=global disagrees with attention_types"},
        {"attention_types", NULL, ATV_OK, ""},
        {"attention_layers", "[\"global\"]", ATV_ERR_FORMAT, "attention_layers is not an array of num_layers=3"},
        {"attention_layers", "[\"global\", \"local\", 7]", ATV_ERR_UNSUPPORTED, "attention_layers: 7 is neither"},
        {"attention_layers", NULL, ATV_OK, ""},
        {"windows", "[0, 2, 0]", ATV_OK, ""},
        {"windows", "[0, 0, 0]", ATV_ERR_FORMAT, "windows[1]=0 disagrees with attention_layers"},
        {"windows", "[0, 2]", ATV_ERR_FORMAT, "windows is not an array of 3 numbers"},
        {"windows", "[0, -2, 0]", ATV_ERR_FORMAT, "windows[1]=-2"},
        {"kv_of_head", "[0, 1, 2, 3]", ATV_OK, ""},
        {"kv_of_head", "[0, 1, 2]", ATV_ERR_FORMAT, "kv_of_head is not an array of 4 numbers"},
        {"kv_of_head", "[0, 1, 2, 4]", ATV_ERR_FORMAT, "kv_of_head[3]=4"},
        {"kv_of_layer", "[0, 1, 2]", ATV_OK, ""},
        {"kv_of_layer", "[0, 2, 2]", ATV_ERR_FORMAT, "kv_of_layer[1]=2"},
        {"kv_of_layer", "[0, 0, 2]", ATV_ERR_UNSUPPORTED,
         "tensor \"transformer.h.1.attn.attention.k_proj.weight\" is not one of this model's"},
        {"kv_of_layer", "{}", ATV_ERR_FORMAT, "kv_of_layer is not"},
        {"layers", "[]", ATV_ERR_FORMAT, "layers is not an array of num_layers=3"},
        {"layers", "[1, 2, 3]", ATV_ERR_FORMAT, "layers[0] is not an object"},
        {"layers", "[{}, {}, {}]", ATV_ERR_FORMAT, "layers[0].num_heads is missing"},
        {"layers", "[{\"num_heads\": 4, \"num_key_value_heads\": 4, \"head_dim\": 3}, {}, {}]", ATV_ERR_FORMAT,
         "layers[0].intermediate_size is missing"},
        {"layers", "[{\"experts\": 4}, {}, {}]", ATV_ERR_UNSUPPORTED, "layers[0].experts is not done here"},
        {"layers", "[{\"num_heads\": 0}, {}, {}]", ATV_ERR_FORMAT, "layers[0].num_heads=0"},
        {"layers",
         "[{\"num_heads\": 4, \"num_key_value_heads\": 4, \"head_dim\": 3, \"intermediate_size\": 10,"
         " \"window_size\": 1}, {}, {}]",
         ATV_ERR_FORMAT, "layers[0].window_size=1 disagrees with attention_layers"},
    };
    atv_config c = small_config();
    atv_model *model = small_model(ctx, &c), *got;
    const mem_file *weights;
    char *base, *text;
    size_t i, n, before, now;
    MUST(ctx, atv_model_save(model, "c", NULL));
    weights = mem_get(fs, "c/model.safetensors");
    base = strcpy((char *)malloc(mem_get(fs, "c/config.json")->size + 1), mem_get(fs, "c/config.json")->data);
    atv_memory(ctx, &before, NULL);
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        atv_result r;
        text = edit(base, cases[i].key, cases[i].value);
        got = NULL;
        r = atv_model_from_memory(ctx, text, strlen(text), weights->data, weights->size, &got);
        CHECK(r == cases[i].result, "%s=%s: %s (%s)", cases[i].key, cases[i].value ? cases[i].value : "(none)",
              atv_result_text(r), atv_last_error(ctx));
        if (r != ATV_OK) CHECK(strstr(atv_last_error(ctx), cases[i].says) != NULL && !got, "%s=%s: '%s' lacks '%s'",
                               cases[i].key, cases[i].value ? cases[i].value : "(none)", atv_last_error(ctx), cases[i].says);
        else same_weights(cases[i].key, model, got, ATV_F32);
        atv_model_destroy(got);
        free(text);
    }
    for (n = 0; n + 1 < strlen(base); n++) {                /* the last byte is a line's end */
        char *part = (char *)malloc(n + !n);
        memcpy(part, base, n);
        got = NULL;
        if (!CHECK(atv_model_from_memory(ctx, part, n, weights->data, weights->size, &got) == ATV_ERR_FORMAT && !got,
                   "the first %lu bytes", (unsigned long)n))
            atv_model_destroy(got);
        free(part);
    }
    for (i = n = 0; i < strlen(base); i++) {
        unsigned char flips[] = {1, 2, 4, 16, 32, 128, 255};
        size_t k;
        for (k = 0; k < sizeof flips; k++) {
            got = NULL;
            base[i] = (char)(base[i] ^ flips[k]);
            n += atv_model_from_memory(ctx, base, strlen(base), weights->data, weights->size, &got) != ATV_OK;
            base[i] = (char)(base[i] ^ flips[k]);
            atv_model_destroy(got);
        }
    }
    CHECK(n > 100, "only %lu changed configs fail", (unsigned long)n);
    FAILS(ctx, atv_model_from_memory(ctx, "[]", 2, weights->data, weights->size, &got), ATV_ERR_FORMAT,
          "config.json: is not an object");
    FAILS(ctx, atv_model_from_memory(ctx, NULL, 0, NULL, 0, &got), ATV_ERR_FORMAT, "config.json");
    FAILS(ctx, atv_model_from_memory(ctx, base, strlen(base), NULL, 0, &got), ATV_ERR_FORMAT,
          "too few for a safetensors file");
    atv_memory(ctx, &now, NULL);
    CHECK(now == before, "%lu bytes became %lu", (unsigned long)before, (unsigned long)now);

    logged[0] = 0;
    text = edit(base, "resid_dropout", "0.1");
    MUST(ctx, atv_model_from_memory(ctx, text, strlen(text), weights->data, weights->size, &got));
    CHECK(strstr(logged, "resid_dropout=0.1"), "a dropout is not told: %s", logged);
    atv_model_destroy(got);
    free(text);
    text = edit(base, "eos_token_id", "50256");
    MUST(ctx, atv_model_from_memory(ctx, text, strlen(text), weights->data, weights->size, &got));
    CHECK(strstr(logged, "eos_token_id=50256") && atv_model_config(got)->eos_token_id == -1, "an id outside: %s", logged);
    atv_model_destroy(got);
    free(text);
    free(base);
    atv_model_destroy(model);
}

/* What we do not know stays, what we know is ours. */
static void test_unknown_fields(atv_ctx *ctx, mem_fs *fs) {
    static const char config[] =
        "{\"mystery\": {\"a\": [1, 2.50, \"\\u00e9\\n\", null], \"b\": {}}, \"architectures\": [\"GPTNeoModel\"],\n"
        " \"model_type\": \"gpt_neo\", \"transformers_version\": \"4.40.0\", \"vocab_size\": 11,"
        " \"max_position_embeddings\": 7,\n"
        " \"hidden_size\": 12, \"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"intermediate_size\": 10,"
        " \"resid_dropout\": 0.25,\n"
        " \"kqv_size\": 12, \"num_key_value_heads\": 4, \"k\\\"ey\": -1.50E+3, \"use_cache\": false, \"dtype\": \"float64\","
        " \"pad_token_id\": 3,\n"
        " \"activation_function\": \"gelu_pytorch_tanh\", \"text\": \"a \\\"b\\\" \\\\\"}";
    static const char *const kept[] = {
        "\"mystery\": {\"a\": [1, 2.50, \"\\u00e9\\n\", null], \"b\": {}}", "\"architectures\": [\"GPTNeoModel\"]",
        "\"transformers_version\": \"4.40.0\"", "\"resid_dropout\": 0.25", "\"k\\\"ey\": -1.50E+3", "\"use_cache\": false",
        "\"dtype\": \"bfloat16\"", "\"pad_token_id\": 3", "\"activation_function\": \"gelu_pytorch_tanh\"",
        "\"text\": \"a \\\"b\\\" \\\\\"", "\"num_layers\": 3", "\"num_heads\": 4"
    };
    static const char *const gone[] = {"num_hidden_layers", "num_attention_heads", "torch_dtype", "kqv_size",
                                       "num_key_value_heads", "classifier\""};
    atv_config c = small_config();
    atv_model *model, *got = NULL;
    atv_save_desc desc;
    const char *text;
    char *first;
    size_t i;
    c.window_size = 256;
    c.has_special_ids = 1;
    c.bos_token_id = c.eos_token_id = -1;
    c.pad_token_id = 3;
    model = small_model(ctx, &c);
    MUST(ctx, atv_model_save(model, "k", NULL));
    mem_put(fs, "k/config.json", config, strlen(config));
    MUST(ctx, atv_model_load(ctx, "k", &got));
    same_config("defaults", atv_model_config(model), atv_model_config(got));
    memset(&desc, 0, sizeof desc);
    desc.dtype = ATV_BF16;
    MUST(ctx, atv_model_save(got, "k2/", &desc));
    text = mem_get(fs, "k2/config.json")->data;
    for (i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        const char *at = text ? strstr(text, kept[i]) : NULL;
        CHECK(at && !strstr(at + 1, kept[i]), "'%s' is not there once: %s", kept[i], text);
    }
    for (i = 0; i < sizeof gone / sizeof gone[0]; i++) CHECK(!strstr(text, gone[i]), "'%s' is still there: %s", gone[i],
                                                             text);
    first = strcpy((char *)malloc(strlen(text) + 1), text);
    atv_model_destroy(got);
    MUST(ctx, atv_model_load(ctx, "k2", &got));             /* saving what was saved changes nothing */
    MUST(ctx, atv_model_save(got, "k2", &desc));
    CHECK(strcmp(first, mem_get(fs, "k2/config.json")->data) == 0, "a second save differs: %s",
          mem_get(fs, "k2/config.json")->data);
    free(first);
    atv_model_destroy(got);
    atv_model_destroy(model);
}

enum { MANY = 64 };
typedef struct weight_set { atv_named_tensor t[MANY]; char names[MANY][96]; int n; } weight_set;

/* The model's tensors, their names without the first `cut` characters. */
static void take_weights(weight_set *s, const atv_model *model, int cut) {
    int i;
    s->n = atv_model_num_tensors(model);
    for (i = 0; i < s->n; i++) {
        s->t[i] = atv_model_tensor(model, i);
        snprintf(s->names[i], sizeof s->names[i], "%s", s->t[i].name + cut);
        s->t[i].name = s->names[i];
    }
}

static void add_weight(weight_set *s, const char *name, atv_tensor tensor) {
    snprintf(s->names[s->n], sizeof s->names[s->n], "%s", name);
    s->t[s->n].name = s->names[s->n];
    s->t[s->n++].tensor = tensor;
}

/* ---- classifiers ---- */

static int times(const char *text, const char *piece) {
    int n = 0;
    while (text && (text = strstr(text, piece)) != NULL) { n++; text++; }
    return n;
}

/* config.json's part of a classifier: transformers' fields, names of labels, and what is refused. */
static void test_classifiers(atv_ctx *ctx, mem_fs *fs) {
    static const struct { const char *key, *value; atv_result result; const char *says; } cases[] = {
        {"architectures", "[\"GPTNeoForCausalLM\"]", ATV_ERR_UNSUPPORTED, "\"score.weight\" is not one of this model's"},
        {"architectures", NULL, ATV_ERR_UNSUPPORTED, "\"score.weight\" is not one of this model's"},
        {"architectures", "\"GPTNeoForSequenceClassification\"", ATV_ERR_UNSUPPORTED, "\"score.weight\""},
        {"architectures", "[[], 1, \"GPTNeoForSequenceClassification\"]", ATV_OK, ""},
        {"problem_type", "\"regression\"", ATV_ERR_UNSUPPORTED, "problem_type=regression is not done here"},
        {"problem_type", "\"multi_label_classification\"", ATV_ERR_UNSUPPORTED,
         "problem_type=multi_label_classification is not done here"},
        {"problem_type", "7", ATV_ERR_UNSUPPORTED, "problem_type=7"},
        {"problem_type", "null", ATV_OK, ""},
        {"problem_type", NULL, ATV_OK, ""},
        {"id2label", NULL, ATV_OK, ""},                     /* 2, as transformers leaves out */
        {"id2label", "null", ATV_OK, ""},
        {"id2label", "{\"1\": \"a\", \"0\": \"b\"}", ATV_OK, ""},
        {"id2label", "{}", ATV_ERR_FORMAT, "id2label={} names no labels"},
        {"id2label", "[\"a\", \"b\"]", ATV_ERR_FORMAT, "id2label=[\"a\", \"b\"] names no labels"},
        {"id2label", "{\"0\": \"a\"}", ATV_ERR_UNSUPPORTED, "num_labels=1: regression is not done here"},
        {"id2label", "{\"0\": \"a\", \"2\": \"b\"}", ATV_ERR_FORMAT, "id2label: \"2\" is not one of 0..1"},
        {"id2label", "{\"0\": \"a\", \"0\": \"b\"}", ATV_ERR_FORMAT, "id2label: \"0\" is not one of 0..1, each once"},
        {"id2label", "{\"0\": \"a\", \"01\": \"b\"}", ATV_ERR_FORMAT, "id2label: \"01\""},
        {"id2label", "{\"0\": \"a\", \"-1\": \"b\"}", ATV_ERR_FORMAT, "id2label: \"-1\""},
        {"id2label", "{\"0\": \"a\", \"\": \"b\"}", ATV_ERR_FORMAT, "id2label: \"\""},
        {"id2label", "{\"0\": \"a\", \"99999999999999999999\": \"b\"}", ATV_ERR_FORMAT, "id2label: \"999"},
        {"id2label", "{\"0\": 0, \"1\": 1}", ATV_OK, ""},                   /* as of a task whose labels are numbers */
        {"id2label", "{\"0\": \"a\", \"1\": true}", ATV_ERR_FORMAT, "has a name that is no string and no number"},
        {"id2label", "{\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}", ATV_ERR_FORMAT,
         "tensor \"score.weight\": shape is [2, 12], config.json needs [3, 12]"},
        {"num_labels", "2", ATV_OK, ""},
        {"num_labels", "null", ATV_OK, ""},
        {"num_labels", "3", ATV_ERR_FORMAT, "num_labels=3 disagrees with the 2 of id2label"},
        {"num_labels", "0", ATV_ERR_FORMAT, "num_labels=0"},
        {"num_labels", "\"2\"", ATV_ERR_FORMAT, "num_labels=2 is not a whole number"},
        {"label2id", NULL, ATV_OK, ""},
        {"task_specific_params", "null", ATV_OK, ""},
        {"task_specific_params", "[3]", ATV_OK, ""},
        {"task_specific_params", "{\"text-classification\": \"x\"}", ATV_OK, ""},
        {"task_specific_params", "{\"text-classification\": {\"max_length\": 0}}", ATV_ERR_FORMAT,
         "task_specific_params.text-classification.max_length=0 is not a whole number above 0"},
        {"task_specific_params", "{\"text-classification\": {\"add_special_tokens\": 1}}", ATV_ERR_FORMAT,
         "task_specific_params.text-classification.add_special_tokens=1 is not true or false"},
    };
    static const struct { const char *value; atv_result result; const char *says; } counts[] = {      /* without id2label */
        {"2", ATV_OK, ""},
        {"1", ATV_ERR_UNSUPPORTED, "num_labels=1: regression is not done here"},
        {"5", ATV_ERR_FORMAT, "config.json needs [5, 12]"},
        {"1048576", ATV_ERR_FORMAT, "holds only"},
        {"1048577", ATV_ERR_FORMAT, "num_labels=1048577 is not 0..1048576"},
    };
#define PARAMS "\"task_specific_params\": "
#define TASK "\"text-classification\": {"
#define OURS "\"max_length\": 41, \"add_special_tokens\": true}"
    static const struct { const char *before; int length, wrap; const char *same, *none, *set; } tasks[] = {
        {"{}", 0, -1, PARAMS "{}", PARAMS "{}", PARAMS "{" TASK OURS "}"},
        {"{" TASK "\"max_length\": 7}}", 7, -1, PARAMS "{" TASK "\"max_length\": 7}}", PARAMS "{" TASK "}}",
         PARAMS "{" TASK OURS "}"},
        {"{" TASK "\"add_special_tokens\": false, \"x\": [1]}, \"text-generation\": {\"max_length\": 50}}", 0, 0,
         PARAMS "{\"text-generation\": {\"max_length\": 50}, " TASK "\"x\": [1], \"add_special_tokens\": false}}",
         PARAMS "{\"text-generation\": {\"max_length\": 50}, " TASK "\"x\": [1]}}",
         PARAMS "{\"text-generation\": {\"max_length\": 50}, " TASK "\"x\": [1], " OURS "}"}};
    static const char names[] = "{\"1\": \"n\\u00f6\", \"0\": \"yes, sir\"}";
    atv_config c = small_config();
    atv_model *language = small_model(ctx, &c), *model, *got = NULL, *made = NULL;
    const mem_file *weights, *plain;
    char *base, *text, *first;
    const char *now;
    weight_set *s = (weight_set *)malloc(sizeof *s);
    size_t i;
    int k, length;
    c.has_special_ids = 1;
    c.bos_token_id = c.eos_token_id = 1;
    for (k = 5; k >= 2; k -= 3) {
        c.num_labels = k;
        c.pad_token_id = k == 2 ? 3 : -1;
        model = small_model(ctx, &c);
        logged[0] = 0;
        save_and_load(ctx, test_path("%d labels", k), model, "s", ATV_F32);
        CHECK((strstr(logged, "pad_token_id is none") != NULL) == (k != 2), "%d labels: told '%s'", k, logged);
        now = mem_get(fs, "s/config.json")->data;
        CHECK(times(now, "\"architectures\": [\"GPTNeoForSequenceClassification\"]") == 1 && times(now, "architectures") == 1 &&
              times(now, "\"problem_type\": \"single_label_classification\"") == 1 && !test_find(now, "num_labels"), "%s", now);
        CHECK(strstr(now, "\"id2label\": {\"0\": \"LABEL_0\", \"1\": \"LABEL_1\"") &&
              strstr(now, "\"label2id\": {\"LABEL_0\": 0, \"LABEL_1\": 1") && times(now, "LABEL_") == 2 * k, "labels: %s", now);
        if (k != 2) atv_model_destroy(model);
    }
    MUST(ctx, atv_model_save(language, "l", NULL));
    weights = mem_get(fs, "s/model.safetensors");
    base = strcpy((char *)malloc(mem_get(fs, "s/config.json")->size + 1), mem_get(fs, "s/config.json")->data);
    for (i = 0; i < sizeof cases / sizeof cases[0] + sizeof counts / sizeof counts[0]; i++) {
        const size_t n = sizeof cases / sizeof cases[0];
        const char *key = i < n ? cases[i].key : "num_labels", *value = i < n ? cases[i].value : counts[i - n].value;
        const char *says = i < n ? cases[i].says : counts[i - n].says;
        atv_result want = i < n ? cases[i].result : counts[i - n].result, r;
        char *before = i < n ? NULL : edit(base, "id2label", NULL);
        text = edit(before ? before : base, key, value);
        got = NULL;
        r = atv_model_from_memory(ctx, text, strlen(text), weights->data, weights->size, &got);
        CHECK(r == want && (r == ATV_OK) == (got != NULL), "%s=%s: %s (%s)", key, value ? value : "(none)", atv_result_text(r), atv_last_error(ctx));
        if (r != ATV_OK) CHECK(strstr(atv_last_error(ctx), says) != NULL, "%s=%s: '%s' lacks '%s'", key, value ? value : "(none)",
                               atv_last_error(ctx), says);
        else same_weights(key, model, got, ATV_F32);
        atv_model_destroy(got);
        free(text);
        free(before);
    }
    plain = mem_get(fs, "l/model.safetensors");
    FAILS(ctx, atv_model_from_memory(ctx, base, strlen(base), plain->data, plain->size, &got), ATV_ERR_FORMAT,
          "tensor \"score.weight\" is missing, config.json needs it as [2, 12]");
    take_weights(s, model, 0);
    s->n--;
    add_weight(s, "transformer.score.weight", atv_model_tensor(model, s->n).tensor);
    MUST(ctx, atv_safetensors_write(ctx, "s/model.safetensors", s->t, s->n, ATV_F32, NULL, 0));
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_UNSUPPORTED, "transformer.score.weight");
    MUST(ctx, atv_model_save(model, "s", NULL));

    /* how examples are read: kept beside what else is said of tasks; a new head does not know; not a language model's */
    FAILS(ctx, atv_model_set_task(language, 128, 0), ATV_ERR_ARGUMENT, "num_labels=0");
    FAILS(ctx, atv_model_set_task(model, 0, 0), ATV_ERR_ARGUMENT, "max_length=0");
    FAILS(ctx, atv_model_set_task(model, 8, 2), ATV_ERR_ARGUMENT, "wrap=2");
    atv_model_task(model, &length, &k);
    CHECK(length == 0 && k == -1 && !strstr(base, "task_specific_params"), "a task of length %d, wrap %d", length, k);
    for (i = 0; i < sizeof tasks / sizeof tasks[0]; i++) {
        text = edit(base, "task_specific_params", tasks[i].before);
        mem_put(fs, "s/config.json", text, strlen(text));
        free(text);
        MUST(ctx, atv_model_load(ctx, "s", &got));
        atv_model_task(got, &length, &k);
        CHECK(length == tasks[i].length && k == tasks[i].wrap, "%s: length %d, wrap %d", tasks[i].before, length, k);
        MUST(ctx, atv_model_save(got, "s2", NULL));
        CHECK(strstr(mem_get(fs, "s2/config.json")->data, tasks[i].same), "%s: kept as %s", tasks[i].before,
              mem_get(fs, "s2/config.json")->data);
        MUST(ctx, atv_model_classifier(got, 2, 9, &made));
        atv_model_task(made, &length, &k);
        CHECK(length == 0 && k == -1, "a new head: length %d, wrap %d", length, k);
        MUST(ctx, atv_model_save(made, "s2", NULL));
        CHECK(strstr(mem_get(fs, "s2/config.json")->data, tasks[i].none), "%s: a new head has %s", tasks[i].before,
              mem_get(fs, "s2/config.json")->data);
        MUST(ctx, atv_model_set_task(made, 41, 1));
        MUST(ctx, atv_model_save(made, "s2", NULL));
        CHECK(strstr(mem_get(fs, "s2/config.json")->data, tasks[i].set), "%s: set as %s", tasks[i].before,
              mem_get(fs, "s2/config.json")->data);
        atv_model_destroy(got);
        MUST(ctx, atv_model_load(ctx, "s2", &got));
        atv_model_task(got, &length, &k);
        CHECK(length == 41 && k == 1, "%s: length %d, wrap %d after all", tasks[i].before, length, k);
        atv_model_destroy(made);
        atv_model_destroy(got);
        made = got = NULL;
    }

    /* names of labels stay with their head, and nothing is there twice; a new head has none */
    text = edit(base, "id2label", names);
    first = edit(text, "mystery", "[1, 2]");
    mem_put(fs, "s/config.json", first, strlen(first));
    free(text);
    free(first);
    MUST(ctx, atv_model_load(ctx, "s", &got));
    MUST(ctx, atv_model_save(got, "s2", NULL));
    now = mem_get(fs, "s2/config.json")->data;
    CHECK(strstr(now, names) && times(now, "id2label") == 1 && times(now, "label2id") == 1 && times(now, "architectures") == 1 &&
          times(now, "problem_type") == 1 && times(now, "\"mystery\": [1, 2]") == 1, "kept: %s", now);
    first = strcpy((char *)malloc(strlen(now) + 1), now);
    atv_model_destroy(got);
    MUST(ctx, atv_model_load(ctx, "s2", &got));
    MUST(ctx, atv_model_save(got, "s2", NULL));
    CHECK(strcmp(first, mem_get(fs, "s2/config.json")->data) == 0, "a second save differs: %s", mem_get(fs, "s2/config.json")->data);
    free(first);
    MUST(ctx, atv_model_classifier(got, 2, 9, &made));
    save_and_load(ctx, "a new head", made, "s2", ATV_F32);
    now = mem_get(fs, "s2/config.json")->data;
    CHECK(!strstr(now, "yes, sir") && times(now, "id2label") == 1 && times(now, "LABEL_1") == 2 && times(now, "mystery") == 1, "a new head: %s", now);
    atv_model_destroy(made);
    atv_model_destroy(got);

    /* a language model's stray fields stay its own, and go when it becomes a classifier */
    first = edit(mem_get(fs, "l/config.json")->data, "id2label", "{\"0\": \"only\"}");
    text = edit(first, "num_labels", "1");
    free(first);
    first = text;
    text = edit(first, "task_specific_params", "{\"text-classification\": {\"max_length\": 0}}");
    mem_put(fs, "l/config.json", text, strlen(text));
    free(first);
    free(text);
    MUST(ctx, atv_model_load(ctx, "l", &got));
    MUST(ctx, atv_model_classifier(got, 3, 9, &made));
    MUST(ctx, atv_model_save(got, "l", NULL));
    now = mem_get(fs, "l/config.json")->data;
    CHECK(strstr(now, "\"only\"") && strstr(now, "\"num_labels\": 1") && strstr(now, "GPTNeoForCausalLM") &&
          strstr(now, PARAMS "{\"text-classification\": {\"max_length\": 0}}"), "a language model's: %s", now);
    save_and_load(ctx, "made of a language model", made, "l", ATV_BF16);
    now = mem_get(fs, "l/config.json")->data;
    CHECK(!strstr(now, "\"only\"") && !strstr(now, "num_labels") && !strstr(now, "GPTNeoForCausalLM") && times(now, "LABEL_2") == 2, "%s", now);
    atv_model_destroy(made);
    atv_model_destroy(got);
    free(base);
    free(s);
    atv_model_destroy(model);
    atv_model_destroy(language);
    CHECK(mem_leftovers(fs) == 0 && fs->mapped == 0, "files or maps are left");
}

/* ---- weights in other shapes ---- */

static void test_weights(atv_ctx *ctx, mem_fs *fs) {
    atv_config c = small_config();
    atv_model *model, *got = NULL;
    weight_set *s = (weight_set *)malloc(sizeof *s);
    atv_tensor wte;
    unsigned char mask[49];
    float masked = -1e9f, head[11 * 12];
    int ids[12], i, n;
    model = small_model(ctx, &c);
    MUST(ctx, atv_model_save(model, "w", NULL));
    memset(mask, 1, sizeof mask);
    memset(ids, 0, sizeof ids);

    take_weights(s, model, 12);                             /* without "transformer." */
    n = s->n;
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, n, ATV_F64, NULL, 0));
    MUST(ctx, atv_model_load(ctx, "w", &got));
    same_weights("without prefix, F64", model, got, ATV_F32);
    atv_model_destroy(got);
    got = NULL;

    take_weights(s, model, 0);
    wte = s->t[0].tensor;
    add_weight(s, "lm_head.weight", wte);
    add_weight(s, "transformer.h.0.attn.attention.bias", atv_tensor_view(mask, ATV_BOOL, 1, 1, 7, 7));
    add_weight(s, "transformer.h.0.attn.attention.masked_bias", atv_tensor_view(&masked, ATV_F32, 0, 0, 0, 0));
    add_weight(s, "h.1.attn.attention.bias", atv_tensor_view(mask, ATV_U8, 1, 1, 7, 7));
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, s->n, ATV_F32, NULL, 0));
    MUST(ctx, atv_model_load(ctx, "w", &got));
    same_weights("with head and buffers", model, got, ATV_F32);
    atv_model_destroy(got);
    got = NULL;
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, s->n, ATV_F16, NULL, 0));
    MUST(ctx, atv_model_load(ctx, "w", &got));
    same_weights("with head and buffers in F16", model, got, ATV_F16);
    atv_model_destroy(got);
    got = NULL;

    for (i = 0; i < 11 * 12; i++) head[i] = (float)((const atv_real *)wte.data)[i];
    head[131] = -head[131];
    s->t[n].tensor = atv_tensor_view(head, ATV_F32, 11, 12, 0, 0);
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, n + 1, ATV_F32, NULL, 0));
    FAILS(ctx, atv_model_load(ctx, "w", &got), ATV_ERR_UNSUPPORTED,
          "w/model.safetensors: tensor \"lm_head.weight\" differs from wte.weight");
    s->t[n].tensor = atv_tensor_view(head, ATV_F32, 12, 11, 0, 0);
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, n + 1, ATV_F32, NULL, 0));
    FAILS(ctx, atv_model_load(ctx, "w", &got), ATV_ERR_FORMAT,
          "lm_head.weight\": shape is [12, 11], config.json needs [11, 12]");

    s->n = n;
    add_weight(s, "score.weight", atv_tensor_view(head, ATV_F32, 2, 12, 0, 0));
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, s->n, ATV_F32, NULL, 0));
    FAILS(ctx, atv_model_load(ctx, "w", &got), ATV_ERR_UNSUPPORTED, "tensor \"score.weight\" is not one of this model's");
    s->n = n;
    add_weight(s, "h.2.ln_1.bias", atv_tensor_view(head, ATV_F32, 12, 0, 0, 0));
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, s->n, ATV_F32, NULL, 0));
    FAILS(ctx, atv_model_load(ctx, "w", &got), ATV_ERR_FORMAT, "h.2.ln_1.bias\" is there twice");
    for (i = 0; i < n; i++) {                               /* every tensor missing, or of another shape, in turn */
        atv_named_tensor kept = s->t[i];
        s->t[i] = s->t[n - 1];
        MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, n - 1, ATV_F32, NULL, 0));
        FAILS(ctx, atv_model_load(ctx, "w", &got), ATV_ERR_FORMAT,
              test_path("\"%s\" is missing, config.json needs it as %s", kept.name,
                                                                             atvi_shape_text(&kept.tensor).text));
        s->t[i] = kept;
        s->t[i].tensor = atv_tensor_slice(kept.tensor, 0, 0, kept.tensor.dims[0] - 1);
        MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, n, ATV_F32, NULL, 0));
        FAILS(ctx, atv_model_load(ctx, "w", &got), ATV_ERR_FORMAT,
              test_path("\"%s\": shape is %s", kept.name, atvi_shape_text(&s->t[i].tensor).text));
        s->t[i] = kept;
    }
    for (i = 0; i < n && strcmp(s->t[i].name, "transformer.ln_f.bias") != 0; i++) {}
    s->t[i].tensor = atv_tensor_view(ids, ATV_I32, 12, 0, 0, 0);
    MUST(ctx, atv_safetensors_write(ctx, "w/model.safetensors", s->t, n, ATV_F32, NULL, 0));
    FAILS(ctx, atv_model_load(ctx, "w", &got), ATV_ERR_UNSUPPORTED, "ln_f.bias\": dtype=I32 is no weight's");
    CHECK(got == NULL && fs->mapped == 0, "an output on failure");
    free(s);
    atv_model_destroy(model);
}

static void put_index(mem_fs *fs, const char *map) {
    char text[8192];
    snprintf(text, sizeof text, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {%s}}", map);
    mem_put(fs, "s/model.safetensors.index.json", text, strlen(text));
}

static void test_shards(atv_ctx *ctx, mem_fs *fs) {
    static const char *const files[] = {"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors"};
    atv_config c = small_config();
    atv_model *model = small_model(ctx, &c), *got = NULL;
    weight_set *s = (weight_set *)malloc(sizeof *s);
    char map[8192] = "";
    int i, k;
    MUST(ctx, atv_model_save(model, "s", NULL));
    mem_remove(fs, "s/model.safetensors");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_IO,
          "s/model.safetensors: neither it nor s/model.safetensors.index.json can be read");
    mem_put(fs, "s/pytorch_model.bin", "PK", 2);
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_UNSUPPORTED,
          "s/pytorch_model.bin: only safetensors are read; convert it");
    FAILS(ctx, atv_model_load(ctx, "none", &got), ATV_ERR_IO, "none/config.json: cannot be read");
    take_weights(s, model, 0);
    add_weight(s, "lm_head.weight", s->t[0].tensor);        /* in the first shard, wte in the last */
    {
        atv_named_tensor t = s->t[0];
        s->t[0] = s->t[s->n - 1];
        s->t[s->n - 1] = t;
    }
    for (k = 0; k < 3; k++) {
        int from = s->n * k / 3, to = s->n * (k + 1) / 3;
        MUST(ctx, atv_safetensors_write(ctx, test_path("s/%s", files[k]), s->t + from, to - from,
                                        k == 1 ? ATV_BF16 : ATV_F32, NULL, 0));
        for (i = from; i < to; i++) sprintf(map + strlen(map), "%s\"%s\": \"%s\"", map[0] ? ", " : "", s->t[i].name,
                                            files[k]);
    }
    put_index(fs, map);
    MUST(ctx, atv_model_load(ctx, "s", &got));
    for (i = 0; i < atv_model_num_tensors(got); i++) {
        atv_named_tensor t = atv_model_tensor(got, i), o = atv_model_tensor(model, i);
        int64_t bad = 0, at;
        for (k = 0; k < s->n && strcmp(s->t[k].name, t.name) != 0; k++) {}
        for (at = 0; at < atv_tensor_count(&t.tensor); at++) {
            float f = (float)((const atv_real *)o.tensor.data)[at];
            if (k >= s->n / 3 && k < s->n * 2 / 3) f = atvi_bf16_to_f32(atvi_f32_to_bf16(f));
            bad += f != (float)((const atv_real *)t.tensor.data)[at];
        }
        CHECK(bad == 0, "%s differs", t.name);
    }
    atv_model_destroy(got);
    got = NULL;
    put_index(fs, "\"transformer.wte.weight\": \"../x.safetensors\"");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT,
          "weight_map: ../x.safetensors is not the plain name of a file");
    put_index(fs, "\"transformer.wte.weight\": \"sub/x.safetensors\"");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT, "plain name");
    put_index(fs, "\"transformer.wte.weight\": \"\"");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT, "plain name");
    put_index(fs, "\"transformer.wte.weight\": 5");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT, "plain name");
    put_index(fs, "\"transformer.wte.weight\": \"absent.safetensors\"");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_IO, "s/absent.safetensors: cannot be read");
    put_index(fs, "\"transformer.wte.weight\": \"model-00001-of-00003.safetensors\"");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT,
          "s/model-00001-of-00003.safetensors: tensor \"transformer.wte.weight\" is missing, "
          "although s/model.safetensors.index.json has it");
    put_index(fs, "\"lm_head.weight\": \"model-00001-of-00003.safetensors\"");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT, "s/model.safetensors.index.json: tensor");
    put_index(fs, "");
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT, "wte.weight\" is missing");
    mem_put(fs, "s/model.safetensors.index.json", "{\"weight_map\": 1}", 17);
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT, "weight_map is missing");
    mem_put(fs, "s/model.safetensors.index.json", "{", 1);
    FAILS(ctx, atv_model_load(ctx, "s", &got), ATV_ERR_FORMAT, "s/model.safetensors.index.json: line 1");
    CHECK(got == NULL && fs->mapped == 0, "an output on failure, or %ld maps left", fs->mapped);
    free(s);
    atv_model_destroy(model);
}

/* ---- failures on the way ---- */

static void test_failing_writes(atv_ctx *ctx, mem_fs *fs) {
    atv_config c = small_config();
    atv_model *old, *model, *got = NULL;
    atv_tokenizer *tokenizer = NULL;
    atv_save_desc desc;
    size_t size, before, now;
    void *json = test_read("tests/golden/tokenizer/tokenizer.json", &size);
    long ops, fail;
    char why[128];
    int mixed = 0;
    memset(&desc, 0, sizeof desc);
    if (!json) SKIP("tests/golden/tokenizer is not there: models are saved without a tokenizer");
    else MUST(ctx, atv_tokenizer_from_json(ctx, (const char *)json, size, &tokenizer));
    desc.tokenizer = tokenizer;
    old = small_model(ctx, &c);
    c.intermediate_size = 4000;                             /* more than one chunk */
    model = small_model(ctx, &c);
    fs->ops = 0;
    MUST(ctx, atv_model_save(model, "f", &desc));
    ops = fs->ops;
    CHECK(ops > 8, "%ld operations", ops);
    snprintf(why, sizeof why, ": cannot be written: %s", strerror(ENOSPC));
    CHECK(!tokenizer || mem_get(fs, "f/tokenizer.json")->size > 100, "no tokenizer was saved");
    atv_memory(ctx, &before, NULL);
    for (fail = 1; fail <= ops; fail++) {
        atv_result r;
        fs->fail_at = 0;
        MUST(ctx, atv_model_save(old, "f", NULL));
        fs->ops = 0;
        fs->fail_at = fail;
        r = atv_model_save(model, "f", &desc);
        fs->fail_at = 0;
        CHECK(r == ATV_ERR_IO && strstr(atv_last_error(ctx), why), "operation %ld: %s (%s)", fail, atv_result_text(r),
              atv_last_error(ctx));
        CHECK(mem_leftovers(fs) == 0, "operation %ld: a file is left behind", fail);
        if (atv_model_load(ctx, "f", &got) == ATV_OK) same_weights(test_path("after operation %ld", fail), old, got,
                                                                   ATV_F32);
        else mixed++;                                       /* the new weights, beside the old config */
        atv_model_destroy(got);
        got = NULL;
    }
    CHECK(mixed <= 2, "%d of %ld failures leave no loadable directory", mixed, ops);
    fs->ops = 0;                                            /* the same shape again: always a model, the old or the new */
    MUST(ctx, atv_model_save(model, "f", &desc));
    for (fail = 1; fail <= ops; fail++) {
        fs->ops = 0;
        fs->fail_at = fail;
        CHECK(atv_model_save(model, "f", &desc) == ATV_ERR_IO, "operation %ld", fail);
        fs->fail_at = 0;
        CHECK(atv_model_load(ctx, "f", &got) == ATV_OK, "operation %ld: %s", fail, atv_last_error(ctx));
        atv_model_destroy(got);
        got = NULL;
    }
    atv_memory(ctx, &now, NULL);
    CHECK(now == before, "%lu bytes became %lu", (unsigned long)before, (unsigned long)now);
    atv_tokenizer_destroy(tokenizer);
    free(json);
    atv_model_destroy(old);
    atv_model_destroy(model);
}

static void test_failing_memory(void) {
    mem_fs fs;
    test_alloc alloc;
    atv_ctx *ctx;
    atv_config c = small_config();
    atv_model *model, *loaded = NULL, *got = NULL;
    weight_set *s = (weight_set *)malloc(sizeof *s);
    atv_safetensors *file = NULL;
    long n, count;
    int what, left = 0;
    memset(&fs, 0, sizeof fs);
    memset(&alloc, 0, sizeof alloc);
    ctx = mem_ctx(&fs, &alloc);
    c.num_labels = 3;
    model = small_model(ctx, &c);
    MUST(ctx, atv_model_save(model, "a", NULL));
    MUST(ctx, atv_model_save(model, "b", NULL));
    MUST(ctx, atv_model_load(ctx, "a", &loaded));           /* with a config's text, which a new head takes along */
    take_weights(s, model, 0);
    MUST(ctx, atv_safetensors_write(ctx, "b/x.safetensors", s->t, s->n, ATV_BF16, NULL, 0));
    mem_remove(&fs, "b/model.safetensors");
    {
        char map[8192] = "{\"weight_map\": {";
        int i;
        for (i = 0; i < s->n; i++) sprintf(map + strlen(map), "%s\"%s\": \"x.safetensors\"", i ? ", " : "", s->t[i].name);
        strcat(map, "}}");
        mem_put(&fs, "b/model.safetensors.index.json", map, strlen(map));
    }
    for (what = 0; what < 8; what++) {
        for (n = 1;; n++) {
            size_t before, now;
            long live = alloc.live;
            atv_result r;
            atv_memory(ctx, &before, NULL);
            alloc.count = 0;
            alloc.fail_at = n;
            alloc.fail_once = n % 2;
            switch (what) {
            case 0: r = atv_model_load(ctx, "a", &got); break;
            case 1: r = atv_model_load(ctx, "b", &got); break;
            case 2: r = atv_model_from_memory(ctx, mem_get(&fs, "a/config.json")->data, mem_get(&fs, "a/config.json")->size,
                                              mem_get(&fs, "a/model.safetensors")->data,
                                              mem_get(&fs, "a/model.safetensors")->size, &got); break;
            case 3: r = atv_safetensors_open(ctx, "a/model.safetensors", &file); break;
            case 4: r = atv_safetensors_write(ctx, "a/t", s->t, s->n, ATV_F16, NULL, 0); break;
            case 5: r = atv_model_load(ctx, "none", &got); break;
            case 6: r = atv_model_classifier(loaded, 2, 3, &got); break;
            default: r = atv_model_save(model, "a", NULL);
            }
            count = alloc.count;
            alloc.fail_at = 0;
            if (count < n) {                                /* nothing was left to fail */
                CHECK(r == (what == 5 ? ATV_ERR_IO : ATV_OK), "call %d: %s", what, atv_last_error(ctx));
                break;
            }
            atv_memory(ctx, &now, NULL);
            CHECK(r == ATV_ERR_MEMORY, "call %d, allocation %ld: %s (%s)", what, n, atv_result_text(r), atv_last_error(ctx));
            CHECK(strstr(atv_last_error(ctx), "no memory"), "call %d, allocation %ld: '%s'", what, n, atv_last_error(ctx));
            CHECK(now == before && alloc.live == live && !got && !file, "call %d, allocation %ld leaks", what, n);
            left += mem_leftovers(&fs) + (fs.mapped != 0);
        }
        atv_model_destroy(got);
        atv_safetensors_close(file);
        got = NULL;
        file = NULL;
    }
    CHECK(left == 0, "files or maps are left");
    MUST(ctx, atv_model_load(ctx, "a", &got));
    same_weights("after all that", model, got, ATV_F32);
    atv_model_destroy(got);
    atv_model_destroy(loaded);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
    CHECK(alloc.live == 0 && alloc.bytes == 0, "%ld blocks are left", alloc.live);
    mem_clear(&fs);
    free(s);
}

/* ---- real files ---- */

static void test_directory(atv_ctx *ctx, const char *dir, const char *scratch) {
    atv_model *model = NULL;
    atv_safetensors *file = NULL;
    char *text = (char *)test_read(test_path("%s/config.json", dir), NULL);
    const atv_config *c;
    double map[64];
    int i, n, bad = 0;
    if (!CHECK(atv_model_load(ctx, dir, &model) == ATV_OK, "%s: %s", dir, atv_last_error(ctx))) { free(text); return; }
    c = atv_model_config(model);
    CHECK(c->vocab_size == (int)test_number(text, "vocab_size") && c->hidden_size == (int)test_number(text, "hidden_size") &&
          c->num_heads == (int)test_number(text, "num_heads") &&
          c->num_key_value_heads == (int)test_number(text, "num_key_value_heads") &&
          c->kqv_size == (int)test_number(text, "kqv_size") &&
          c->intermediate_size == (int)test_number(text, "intermediate_size") &&
          c->window_size == (int)test_number(text, "window_size") &&
          c->bos_token_id == (int)test_number(text, "bos_token_id"), "%s: the config", dir);
    n = test_numbers(test_find(text, "kv_of_head"), map, 64);
    for (i = 0; i < n; i++) bad += atv_kv_of_head(c->num_heads, c->num_key_value_heads, atv_config_layer(c, 0).kv_of_head,
                                                  i) != (int)map[i];
    n = test_numbers(test_find(text, "kv_of_layer"), map, 64);
    for (i = 0; i < n; i++) bad += atv_config_layer(c, i).kv_layer != (int)map[i];
    CHECK(bad == 0, "%s: kv_of_head or kv_of_layer", dir);
    MUST(ctx, atv_safetensors_open(ctx, test_path("%s/model.safetensors", dir), &file));
    CHECK(atv_safetensors_count(file) == atv_model_num_tensors(model), "%s: %d tensors", dir, atv_safetensors_count(file));
    for (i = bad = 0; i < atv_safetensors_count(file); i++) {
        atv_named_tensor t = atv_safetensors_tensor(file, i), m;
        int at = 0;
        MUST(ctx, atv_model_find(model, t.name, &at));
        m = atv_model_tensor(model, at);
        bad += memcmp(t.tensor.data, m.tensor.data, (size_t)atv_tensor_count(&t.tensor) * sizeof(float)) != 0;
    }
    CHECK(bad == 0, "%s: %d tensors differ", dir, bad);
    if (scratch) {
        size_t size, again;
        void *a, *b;
        save_and_load(ctx, dir, model, scratch, ATV_F32);
        a = test_read(test_path("%s/model.safetensors", dir), &size);
        b = test_read(test_path("%s/model.safetensors", scratch), &again);
        CHECK(a && b && size == again && memcmp(a, b, size) == 0, "%s: saved weights are not the same bytes", dir);
        free(a);
        free(b);
    }
    atv_safetensors_close(file);
    atv_model_destroy(model);
    free(text);
}

static void test_real_files(void) {
    static const char *const golden[] = {"mha", "gqa", "mqa", "kqv", "combined", "map", "cla"};
    static const char *const fixtures[] = {"mha_h4", "gqa_h8_kv3", "mqa_h8", "kqv50_h4", "combined_g50_k50_h4"};
    atv_ctx *ctx = test_ctx(ATV_ISA_AUTO, 1);
    atv_model *model = NULL;
    char build[] = "build/checkpoint.XXXXXX", here[] = "checkpoint.XXXXXX", *scratch = mkdtemp(build);
    size_t i;
    if (!scratch) scratch = mkdtemp(here);
    if (!scratch) SKIP("no directory can be made here: nothing is saved to disk");
    for (i = 0; i < sizeof golden / sizeof golden[0]; i++)
        test_directory(ctx, test_path("tests/golden/%s", golden[i]), scratch);
    if (test_shared())
        for (i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++)
            test_directory(ctx, test_path("%s/fixtures/gptneo/%s", test_shared(), fixtures[i]), scratch);
    else SKIP("ATTNVAR_SHARED is not set: no fixtures");
    MUST(ctx, atv_model_load(ctx, "tests/golden/classifier", &model));
    CHECK(atv_model_config(model)->num_labels == 3 && atv_model_config(model)->pad_token_id == 30, "transformers' classifier: %d labels",
          atv_model_config(model)->num_labels);
    if (scratch) {
        char *text;
        save_and_load(ctx, "transformers' classifier", model, scratch, ATV_F32);
        text = (char *)test_read(test_path("%s/config.json", scratch), NULL);
        CHECK(times(text, "entailment") == 2 && times(text, "id2label") == 1 && !strstr(text, "LABEL_"), "its labels: %s", text);
        free(text);
    }
    atv_model_destroy(model);
    model = NULL;
    FAILS(ctx, atv_model_load(ctx, "tests/golden/nothing", &model), ATV_ERR_IO,
          "tests/golden/nothing/config.json: cannot be read: No such file");
    FAILS(ctx, atv_model_load(ctx, "tests/golden/ragged", &model), ATV_ERR_IO, "config.json");
    if (scratch) {
        atv_config c = small_config();
        model = small_model(ctx, &c);
        FAILS(ctx, atv_model_save(model, test_path("%s/none", scratch), NULL), ATV_ERR_IO,
              "none/model.safetensors: cannot be written");
        CHECK(mkdir(test_path("%s/config.json.tmp", scratch), 0700) == 0, "mkdir");       /* in the way of the second file */
        FAILS(ctx, atv_model_save(model, scratch, NULL), ATV_ERR_IO, "config.json: cannot be written");
        remove(test_path("%s/config.json.tmp", scratch));
        CHECK(access(test_path("%s/model.safetensors.tmp", scratch), F_OK) != 0, "a file is left behind");
        MUST(ctx, atv_model_save(model, scratch, NULL));
        if (setlocale(LC_ALL, "de_DE.UTF-8") || setlocale(LC_ALL, "fr_FR.UTF-8")) {       /* 0,02 */
            save_and_load(ctx, "a locale with a comma", model, scratch, ATV_F32);
            setlocale(LC_ALL, "C");
        }
        atv_model_destroy(model);
        remove(test_path("%s/model.safetensors", scratch));
        remove(test_path("%s/config.json", scratch));
        CHECK(remove(scratch) == 0, "%s is not empty", scratch);
    }
    atv_ctx_destroy(ctx);
}

int main(void) {
    static half_type f16 = {"F16", 10, 15, 0x7c00, {0}}, bf16 = {"BF16", 7, 127, 0x7f80, {0}};
    static mem_fs fs;
    atv_ctx *ctx = mem_ctx(&fs, NULL);
    test_wide();
    test_half(ctx, &f16);
    test_half(ctx, &bf16);
    test_tensors(ctx);
    test_safetensors_round(ctx, &fs);
    test_safetensors_headers(ctx);
    test_safetensors_damage(ctx);
    mem_clear(&fs);
    test_round_trips(ctx, &fs);
    test_configs(ctx, &fs);
    test_unknown_fields(ctx, &fs);
    mem_clear(&fs);
    test_classifiers(ctx, &fs);
    mem_clear(&fs);
    test_weights(ctx, &fs);
    test_shards(ctx, &fs);
    mem_clear(&fs);
    test_failing_writes(ctx, &fs);
    mem_clear(&fs);
    atv_ctx_destroy(ctx);
    test_failing_memory();
    test_real_files();
    return test_done("checkpoint");
}
