/* What the fuzz targets share. With libFuzzer:
       make T=build/fuzz CC="clang -g -O1 -fsanitize=fuzzer,address,undefined -DATTNVAR_LIBFUZZER" build/fuzz/fuzz_json
   Without it each target is a test of its own: it runs its seeds whole, cut short at every length, and changed at random
   in a fixed way; files named on the command line are run too, to look at what a fuzzer found. */
#define _POSIX_C_SOURCE 200809L
#include "../attnvar.h"
#include "test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Files may ask for any amount of memory; more than this is refused, as a small machine would. */
static size_t fuzz_taken;
static void *fuzz_alloc(void *user, size_t size) {
    size_t *p;
    (void)user;
    if (size > ((size_t)1 << 25) || fuzz_taken + size > ((size_t)1 << 26)) return NULL;
    p = (size_t *)malloc(size + 16);
    if (!p) return NULL;
    *p = size;
    fuzz_taken += size;
    return (char *)p + 16;
}

static void fuzz_free(void *user, void *ptr) {
    (void)user;
    if (!ptr) return;
    fuzz_taken -= *(size_t *)((char *)ptr - 16);
    free((char *)ptr - 16);
}

static atv_ctx *fuzz_ctx(void) {
    atv_ctx_desc desc;
    atv_ctx *ctx = NULL;
    memset(&desc, 0, sizeof desc);
    desc.allocator.alloc = fuzz_alloc;
    desc.allocator.free = fuzz_free;
    desc.n_threads = 1;
    if (atv_ctx_create(&desc, &ctx) != ATV_OK) abort();
    return ctx;
}

/* What must hold for any input; says where before it stops. */
#define FUZZ_CHECK(cond) \
    do { if (!(cond)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); abort(); } } while (0)

/* A failure has a message, and nothing is left behind. */
static void fuzz_done(atv_ctx *ctx, atv_result result) {
    FUZZ_CHECK(result == ATV_OK || atv_last_error(ctx)[0] != 0);
    atv_ctx_destroy(ctx);
    FUZZ_CHECK(fuzz_taken == 0);
}

#ifndef ATTNVAR_LIBFUZZER

/* Each input gets a block of its own size, so that a sanitizer or valgrind sees the first byte too far. */
static void fuzz_one(const uint8_t *data, size_t size) {
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);
    if (!copy) exit(1);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    test_passed++;
}

static void fuzz_seed(const void *seed, size_t size, int rounds) {
    static const char *const pieces[] = { "\"", "{", "}", "[", "]", ",", ":", "\\u", "\\ud800", "-", "1e999",
        "9999999999999999999", "0", "null", "true",
                                          "\xff", "\xc3", "\xf0\x9f", "<s>", " ", "\n", "4294967295", "\x7f", "-1" };
    atv_rng rng;
    size_t cut, step = size / 200 + 1;
    int i;
    fuzz_one((const uint8_t *)seed, size);
    for (cut = 0; cut < size; cut += step) fuzz_one((const uint8_t *)seed, cut);
    rng.state = size;
    for (i = 0; i < rounds; i++) {
        size_t room = size + 64, n = size, changes = 1 + atv_rng_below(&rng, 4);
        uint8_t *x = (uint8_t *)malloc(room);
        if (!x) exit(1);
        memcpy(x, seed, size);
        while (changes--) {
            size_t at = n ? atv_rng_below(&rng, (uint32_t)n) : 0, length;
            const char *piece = pieces[atv_rng_below(&rng, (uint32_t)(sizeof pieces / sizeof pieces[0]))];
            switch (atv_rng_below(&rng, 5)) {
            case 0: if (n) x[at] = (uint8_t)(x[at] ^ (1u << atv_rng_below(&rng, 8))); break;
            case 1: if (n) x[at] = (uint8_t)atv_rng_next(&rng); break;
            case 2:                                         /* put something in */
                length = strlen(piece);
                if (n + length > room) break;
                memmove(x + at + length, x + at, n - at);
                memcpy(x + at, piece, length);
                n += length;
                break;
            case 3:                                         /* take something out */
                length = 1 + atv_rng_below(&rng, 8);
                if (length > n - at) length = n - at;
                memmove(x + at, x + at + length, n - at - length);
                n -= length;
                break;
            default:                                        /* something over it */
                length = strlen(piece);
                if (length > n - at) length = n - at;
                memcpy(x + at, piece, length);
            }
        }
        fuzz_one(x, n);
        free(x);
    }
}

static void fuzz_files(int argc, char **argv) {
    int i;
    for (i = 1; i < argc; i++) {
        size_t size = 0;
        void *data = test_read(argv[i], &size);
        if (!CHECK(data != NULL, "%s cannot be read", argv[i])) continue;
        fuzz_one((const uint8_t *)data, size);
        free(data);
    }
}

#endif
