/* minimal.c: drop it into your project: attention with fewer key/value heads, on your own q, k and v.
 *
 * Claim    8 query heads can read 6 key/value heads (groups of 2 2 1 1 1 1), and decoding token by token against a cache
 *          gives what the full forward gives.
 * Command  mkdir -p build && cc -O2 -o build/minimal examples/minimal.c -lm -lpthread && build/minimal
 * Prints   who reads whom, and the largest difference between forward and decoding.
 * Takes    a blink. */
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"

#define TRY(call) if ((call) != ATV_OK) return fprintf(stderr, "minimal: %s\n", ctx ? atv_last_error(ctx) : #call), 1

enum { T = 100, H = 8, G = 6, D = 16 };
static float q[T * H * D], k[T * G * D], v[T * G * D], out[T * H * D], step[H * D];         /* yours */

int main(void) {
    atv_attn_desc desc = { .n_head = H, .n_kv_head = G, .head_dim = D, .scale = 0.25f, .max_keys = T };    /* 1/sqrt(D) */
    atv_kv_desc cache = { .n_kv_head = G, .head_dim = D, .n_seq = 1, .max_positions = T };
    atv_ctx *ctx = NULL;
    atv_attn *attn = NULL;
    atv_kv *kv = NULL;
    atv_rng rng = { 1 };
    double worst = 0;
    for (int i = 0; i < T * H * D; i++) q[i] = (float)atv_rng_normal(&rng);
    for (int i = 0; i < T * G * D; i++) { k[i] = (float)atv_rng_normal(&rng); v[i] = (float)atv_rng_normal(&rng); }

    TRY(atv_ctx_create(NULL, &ctx));
    TRY(atv_attn_create(ctx, &desc, &attn));
    TRY(atv_kv_create(ctx, &cache, &kv));
    for (int h = 0; h < H; h++) printf("query head %d reads key/value head %d\n", h, atv_attn_info(attn)->kv_of_head[h]);

    /* One batch row [B,T,heads,D]: all T queries at once. */
    atv_tensor tq = atv_tensor_view(q, ATV_F32, 1, T, H, D), tk = atv_tensor_view(k, ATV_F32, 1, T, G, D);
    atv_tensor tv = atv_tensor_view(v, ATV_F32, 1, T, G, D), to = atv_tensor_view(out, ATV_F32, 1, T, H, D);
    atv_attn_seqs seqs = { .n_seq = 1 };
    TRY(atv_attn_forward(attn, &seqs, &tq, &tk, &tv, &to, NULL));

    /* The same, one position after the other. */
    for (int t = 0, seq = 0; t < T; t++) {
        atv_tensor q1 = atv_tensor_view(q + t * H * D, ATV_F32, 1, H, D, 0), o1 = atv_tensor_view(step, ATV_F32, 1, H, D, 0);
        atv_tensor k1 = atv_tensor_view(k + t * G * D, ATV_F32, 1, G, D, 0);
        atv_tensor v1 = atv_tensor_view(v + t * G * D, ATV_F32, 1, G, D, 0);
        TRY(atv_attn_step(attn, kv, 1, &seq, &q1, &k1, &v1, &o1));
        for (int i = 0; i < H * D; i++) worst = fmax(worst, fabs(step[i] - out[t * H * D + i]));
    }
    printf("forward and %d decoding steps differ by at most %.2g\n", T, worst);
    atv_kv_destroy(kv); atv_attn_destroy(attn); atv_ctx_destroy(ctx);
    return worst < 1e-5 ? 0 : 1;
}
