/* AVX-512 without the processor, for `cc -mavx2 -mfma -include` ahead of an attnvar.h that takes it as there (check_long.sh
   makes one): SIMDe's intrinsics, and the few it lacks. Its vectors of 16 are two of 8, with the same roundings. */
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

/* Only the elements of the mask are touched: the others may lie beyond the memory's end. */
static inline simde__m512 emulate_load(simde__mmask16 mask, const float *p) {
    simde__m512_private v;
    int i;
    for (i = 0; i < 16; i++) v.f32[i] = mask >> i & 1 ? p[i] : 0;
    return simde__m512_from_private(v);
}

static inline void emulate_store(float *p, simde__mmask16 mask, simde__m512 x) {
    simde__m512_private v = simde__m512_to_private(x);
    int i;
    for (i = 0; i < 16; i++) if (mask >> i & 1) p[i] = v.f32[i];
}

static inline simde__m512 emulate_scale(simde__mmask16 mask, simde__m512 x, simde__m512 n) {
    simde__m512_private a = simde__m512_to_private(x), by = simde__m512_to_private(n);
    int i;
    for (i = 0; i < 16; i++) a.f32[i] = mask >> i & 1 ? a.f32[i] != a.f32[i] ? a.f32[i] : ldexpf(a.f32[i], (int)by.f32[i]) : 0;
    return simde__m512_from_private(a);
}

#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps(p, mask, x) emulate_store(p, mask, x)
#define _mm512_maskz_loadu_ps(mask, p) emulate_load(mask, p)
#define _mm512_maskz_scalef_ps(mask, x, n) emulate_scale(mask, x, n)
#define _mm512_maskz_sqrt_ps(mask, x) simde_mm512_maskz_mov_ps(mask, simde_mm512_sqrt_ps(x))
