/* attnvar.h - attention with few or short key/value heads: forward, backward, decoding, training

   DO THIS
       #define ATTNVAR_IMPLEMENTATION
       #include "attnvar.h"
   in one C (C99) or C++ (C++11) file; elsewhere include it without the define. Link with -lm -lpthread.

   WHAT IT IS
       Multi-head attention (MHA) keeps a key and a value for every head and position. That cache is what decoding reads
       at each token, so people have made it smaller: fewer key/value heads than query heads (MQA, GQA), narrower heads
       (KQV), both (COMBINED), keys and values shared between layers (CLA). Here all of these are values of one small
       description, which drives one attention: its forward, its exact backward, and its decoding step against a cache.
       Around it stands what an experiment needs: a small GPT-Neo with the head of a language model or of a classifier, its
       loss and gradients, AdamW, a decoder for running batches, GPT-2's tokenizer, and Hugging Face's file formats.

   CONTENTS (search for the tag; each comes twice, as interface and as implementation)
       >>result      what every fallible function returns
       >>ctx         allocator, logger, threads, files, instruction set; random numbers
       >>tensor      views of memory
       >>attn        attention on its own, for your own model
       >>kv          a cache of keys and values, and one decoding step
       >>config      a GPT-Neo with any variant; presets by proportion; FFN width at equal parameter count
       >>model       parameters by name; forward, loss, backward
       >>decode      running batches: prefill, step, copy, cut back; sampling; generation
       >>train       AdamW, schedules, accumulation, ragged batches, ranks, save and resume
       >>tokenizer   byte-level BPE: encode, decode, train
       >>checkpoint  safetensors; Hugging Face model directories
       >>eval        held-out loss, minimal pairs, the labels of documents; tasks of classification, fine-tuning
       and, in the implementation alone, >>platform >>memory >>parallel >>rng >>vec-scalar >>vec-avx2 >>vec-avx512
       >>vec-neon >>kernels >>dispatch >>embed >>norm >>linear >>attn-forward >>attn-backward >>attn-step >>mlp >>loss
       >>model-forward >>model-backward >>adamw >>json >>safetensors

   QUICK START: continue a story with a model directory
       atv_ctx *ctx; atv_model *model; atv_tokenizer *tok; atv_decoder *dec;
       if (atv_ctx_create(NULL, &ctx) != ATV_OK) return 1;
       if (atv_model_load(ctx, "dir", &model) != ATV_OK) { puts(atv_last_error(ctx)); return 1; }
       atv_tokenizer_load(ctx, "dir", &tok);
       atv_decoder_create(model, NULL, &dec);
       int32_t ids[64], stop; size_t n; int before, after;
       atv_tokenizer_wrap(tok, &before, &after);       // what stands around a document, here <s> and </s>
       atv_tokenizer_encode(tok, "Once upon a time", 16, ids + 1, 63, &n);
       ids[0] = before; stop = after;
       atv_decode_input prompt = {0, ids, (int)n + 1};
       atv_generate_desc how = {{1, 0.8, 40, 0.95, 0}, 1, 100, &stop, 1, print_token, tok};
       atv_generate(dec, &how, &prompt, 1);            // print_token writes atv_tokenizer_token(tok, token, &size)
   and attention alone: examples/minimal.c; a training loop: examples/train_loop.c.

   WHAT IT DOES NOT DO
       GPUs; biases in q, k, v; positions other than learned ones; weights or caches in another type than float (bf16 and
       fp16 files are read and written); heads other than a language model's and a classifier's with one label a sequence
       (no regression, no several labels at once, no labels of tokens). A file that asks for such a thing is refused by
       name. Dropout is not applied: a file's is told to the logger.

   CONVENTIONS
       Shapes are written in these letters: B sequences, T positions, N tokens of a batch laid end to end, V vocabulary,
       C hidden size, L layers, H query heads, G key/value heads, D size of a query and key head, Dv of a value head,
       S = H D, F feed-forward width, W local window. Arrays are row-major, [out,in] for linear weights.
       Description structs start as all zero; the defaults are in their comments, and a resolve function or an info
       function gives the filled struct back.

   MEMORY
       All of it comes from the context's allocator. A model, a work, a decoder, a cache and a trainer are one block each,
       whose size a ..._bytes function tells beforehand; their steps allocate nothing. Loading, saving, tokenizing,
       atv_trainer_run, atv_eval_pairs and atv_finetune take what they need for a while and give it back. Whoever creates
       or loads, destroys, in the reverse order; pointers that other functions return belong to the object they were asked
       of.

   THREADS
       A context has a pool of its own (or your parallel_for) and is used by one thread at a time, with all that was made
       with it. Contexts share nothing: one per thread is fine.

   DETERMINISM
       On one instruction set results are the same bits at any thread count, and any split of the work: items are numbered,
       and an item's sum has one order. On x86-64 they are also the same from gcc and clang at any -O, without -ffast-math
       and options that add instruction sets (-march=native). Instruction sets differ in the last bits. Random numbers
       depend on the seed alone; initial weights, sampling and AdamW also use the C library's log, cos, exp and pow.

   ERRORS
       Fallible functions return an atv_result, and leave their outputs as they were when it is not ATV_OK (buffers to be
       filled may be half filled); atv_last_error(ctx) is a sentence that names field and value, and of files the C
       library's reason too; where a callback ends something, also what failed in it. Bad files and bad descriptions are
       errors, never crashes; NULL where no NULL is allowed is a bug of the caller's.

   FORMATS
       config.json, model.safetensors (also in shards), tokenizer.json or vocab.json with merges.txt. A trainer's state is
       a safetensors file too. Keys of our own in config.json, written only where they say something: num_key_value_heads,
       kqv_size, kv_of_head, kv_of_layer, layers. A classifier's directory is that of a GPTNeoForSequenceClassification;
       how its examples are read is among task_specific_params.

   SWITCHES (define before the implementation)
       ATV_STATIC      all functions static (also before every other include)
       ATV_NO_THREADS  no pthreads: one lane, or your parallel_for
       ATV_NO_SIMD     the scalar kernels only
       ATV_NO_STDIO    no files but through the context's io
       ATV_NO_TRAIN    no trainer, no fine-tuning
       ATV_SELF        this file's name, should it not be "attnvar.h"
       Under -std=c99 define _POSIX_C_SOURCE 200809L before any include if files are to be mapped, and synced when saved.
*/
#if !defined(ATTNVAR_H) && !defined(ATVI_PASS)
#define ATTNVAR_H

#include <stddef.h>
#include <stdint.h>

#define ATV_VERSION_MAJOR 0
#define ATV_VERSION_MINOR 1
#define ATV_VERSION_PATCH 0

#if defined(ATV_STATIC) && defined(__GNUC__)
#  define ATVDEF static __attribute__((unused))
#elif defined(ATV_STATIC)
#  define ATVDEF static
#else
#  define ATVDEF extern
#endif

/* The type of weights, activations and gradients. The gradient tests compile the library a second time with double. */
#ifdef ATVI_DOUBLE
typedef double atv_real;
#else
typedef float atv_real;
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== >>result ==================================================================================================== */

/* Every fallible function returns one of these. Outputs come last and stay untouched on failure. */
#define ATV_RESULTS(X) \
    X(ATV_OK,              "ok") \
    X(ATV_ERR_ARGUMENT,    "a bad argument or description") \
    X(ATV_ERR_MEMORY,      "out of memory") \
    X(ATV_ERR_IO,          "a file could not be read or written") \
    X(ATV_ERR_FORMAT,      "a malformed file") \
    X(ATV_ERR_UNSUPPORTED, "a file asks for what is not done here") \
    X(ATV_ERR_FULL,        "no room left in a context, batch or buffer") \
    X(ATV_ERR_STOPPED,     "stopped by a callback")

typedef enum atv_result {
#define X(name, text) name,
    ATV_RESULTS(X)
#undef X
    ATV_RESULT_COUNT
} atv_result;

/* The general text of a result; atv_last_error() has the particulars. */
ATVDEF const char *atv_result_text(atv_result result);

/* ==== >>ctx ======================================================================================================= */

/* Instruction sets. ATV_ISA_AUTO takes the best that both the processor and the operating system have. */
#define ATV_ISAS(X) X(AUTO, "auto") X(SCALAR, "scalar") X(AVX2, "avx2") X(AVX512, "avx512") X(NEON, "neon")
typedef enum atv_isa {
#define X(name, text) ATV_ISA_##name,
    ATV_ISAS(X)
#undef X
    ATV_ISA_COUNT
} atv_isa;

typedef enum atv_log_level { ATV_LOG_INFO, ATV_LOG_WARNING } atv_log_level;

/* How files are reached. NULL members fall back to stdio (with ATV_NO_STDIO to an error). All return 0 on success.
   A file under `create` is written in order, made durable by close(flush=1), then renamed over its target. Where one that
   fails leaves an errno, the error tells its text. */
typedef struct atv_io {
    void *user;
    int (*map)(void *user, const char *path, const void **data, size_t *size);    /* the whole file, read-only */
    void (*unmap)(void *user, const void *data, size_t size);
    int (*create)(void *user, const char *path, void **file);
    int (*write)(void *user, void *file, const void *data, size_t size);
    int (*close)(void *user, void *file, int flush);
    int (*rename)(void *user, const char *from, const char *to);
    int (*remove)(void *user, const char *path);
} atv_io;

/* Everything a context can be told; all zero is a good start. */
typedef struct atv_ctx_desc {
    struct {
        void *user;
        void *(*alloc)(void *user, size_t size);            /* as malloc */
        void (*free)(void *user, void *ptr);
    } allocator;                                            /* default: malloc, free */
    struct {
        void *user;
        void (*log)(void *user, atv_log_level level, const char *message);
    } logger;                                               /* default: silent */
    struct {
        void *user;
        /* Runs task(arg, i) once for every i in 0..n-1, in any order, and returns when all are done. */
        void (*parallel_for)(void *user, int n, void (*task)(void *arg, int i), void *arg);
    } parallel;                                             /* default: the built-in pool */
    atv_io io;
    int n_threads;                                          /* 0: as many as processors are online */
    atv_isa isa;
} atv_ctx_desc;

/* A context holds what the library needs from its surroundings. One thread uses a context, and what was made with it,
   at a time; different contexts are independent. It must outlive everything made with it. */
typedef struct atv_ctx atv_ctx;

/* desc may be NULL. ATV_ERR_UNSUPPORTED when an instruction set is asked for that this machine lacks; as there is no
   context yet to hold a message, the result says it all. */
ATVDEF atv_result atv_ctx_create(const atv_ctx_desc *desc, atv_ctx **out);
ATVDEF void atv_ctx_destroy(atv_ctx *ctx);                         /* NULL is fine, as in every destroy function */
ATVDEF const atv_ctx_desc *atv_ctx_info(const atv_ctx *ctx);       /* as resolved: threads, instruction set, hooks */

/* One sentence on the last failure, naming field, file and value; "" before any. Lives as long as the context. */
ATVDEF const char *atv_last_error(const atv_ctx *ctx);

/* Bytes this context has taken now and at most, over everything made with it. */
ATVDEF void atv_memory(const atv_ctx *ctx, size_t *now, size_t *peak);

ATVDEF int atv_isa_available(atv_isa isa);
ATVDEF const char *atv_isa_name(atv_isa isa);
ATVDEF atv_result atv_isa_from_name(const char *name, atv_isa *out);

/* splitmix64 (Steele, Lea and Flood 2014): any state is a good one; equal states give equal streams everywhere. */
typedef struct atv_rng { uint64_t state; } atv_rng;
ATVDEF uint64_t atv_rng_next(atv_rng *rng);                        /* 64 random bits */
ATVDEF uint32_t atv_rng_below(atv_rng *rng, uint32_t n);           /* 0..n-1 without bias, 0 when n is 0 */
ATVDEF double atv_rng_uniform(atv_rng *rng);                       /* [0, 1), 53 bits */
ATVDEF double atv_rng_normal(atv_rng *rng);                        /* N(0, 1), Box-Muller */

/* ==== >>tensor ==================================================================================================== */

#define ATV_DTYPES(X) X(F32, "F32", 4) X(BF16, "BF16", 2) X(F16, "F16", 2) X(F64, "F64", 8) X(I32, "I32", 4) \
    X(I64, "I64", 8) X(U8, "U8", 1) X(BOOL, "BOOL", 1)      /* safetensors' names */
typedef enum atv_dtype {
#define X(name, text, size) ATV_##name,
    ATV_DTYPES(X)
#undef X
    ATV_DTYPE_COUNT
} atv_dtype;
#ifdef ATVI_DOUBLE
#  define ATV_REAL ATV_F64
#else
#  define ATV_REAL ATV_F32
#endif

#define ATV_MAX_RANK 4

/* A view: it owns nothing. Strides are in elements; element (i,j,..) lies at data + i*strides[0] + j*strides[1] + .. */
typedef struct atv_tensor {
    void *data;
    atv_dtype dtype;
    int rank;
    int64_t dims[ATV_MAX_RANK];
    int64_t strides[ATV_MAX_RANK];
} atv_tensor;

typedef struct atv_named_tensor {
    const char *name;                                       /* owned by what the tensor came from */
    atv_tensor tensor;
} atv_named_tensor;

ATVDEF size_t atv_dtype_size(atv_dtype dtype);
ATVDEF const char *atv_dtype_name(atv_dtype dtype);

/* A contiguous view of `data`: the last dimension is the fastest. Unused trailing dimensions are given as 0. */
ATVDEF atv_tensor atv_tensor_view(void *data, atv_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
ATVDEF int64_t atv_tensor_count(const atv_tensor *t);                            /* elements */
ATVDEF atv_tensor atv_tensor_swap(atv_tensor t, int a, int b);                   /* two dimensions exchanged */
ATVDEF atv_tensor atv_tensor_slice(atv_tensor t, int dim, int64_t from, int64_t to);

/* dst[..] = src[..] for equal dims, any strides, converting between the floating types (round to nearest even). */
ATVDEF atv_result atv_tensor_copy(atv_ctx *ctx, const atv_tensor *dst, const atv_tensor *src);

/* ==== >>attn ====================================================================================================== */

/* Attention of H query heads over G key/value heads, on its own: for people who have their own model.
   Every variant is a value of these fields. */
typedef struct atv_attn_desc {
    int n_head;                     /* H */
    int n_kv_head;                  /* G, 1..H; 0: H */
    int head_dim;                   /* D of queries and keys; 0: kqv_size / H */
    int value_dim;                  /* D of values and outputs; 0: head_dim */
    int kqv_size;                   /* S = H D; 0: taken from head_dim. Given both, they must agree */
    const int *kv_of_head;          /* [H] which key/value head each query head reads; copied. NULL: in order, the first
                                       H mod G groups one larger */
    float scale;                    /* of the scores; there is no default: 1 for GPT-Neo, 1/sqrt(D) for most others */
    int window;                     /* a query at position i sees keys j with i-window < j; 0: all */
    int non_causal;                 /* 0: it sees j <= i */
    int max_keys;                   /* the longest key sequence that will come */
} atv_attn_desc;

typedef struct atv_attn atv_attn;

/* Fills the defaults in and checks everything (ATV_ERR_ARGUMENT names the field); kv_of_head stays as given. */
ATVDEF atv_result atv_attn_resolve(atv_ctx *ctx, const atv_attn_desc *desc, atv_attn_desc *out);
ATVDEF atv_result atv_attn_create(atv_ctx *ctx, const atv_attn_desc *desc, atv_attn **out);
ATVDEF void atv_attn_destroy(atv_attn *attn);
ATVDEF const atv_attn_desc *atv_attn_info(const atv_attn *attn);                 /* as resolved, kv_of_head filled */
ATVDEF atv_result atv_attn_bytes(atv_ctx *ctx, const atv_attn_desc *desc, size_t *out);   /* what create will take */

/* The sequences of one call. Tensors hold them end to end, ragged: rank 3, [sum of lengths or more, heads, D]; or rows of
   equal room: rank 4, [n_seq, T, heads, D], of which row b uses the first q_len[b] or k_len[b] positions.
   The last dimension must be contiguous; any strides elsewhere, so (B,T,H,D) and (B,H,T,D) both do. */
typedef struct atv_attn_seqs {
    int n_seq;
    const int *q_len;               /* [n_seq]; NULL with rank 4: all T */
    const int *k_len;               /* [n_seq]; NULL: with rank 4 all T, with rank 3 q_len */
    const int *q_offset;            /* [n_seq] key position of the first query; NULL: k_len - q_len, so the ends meet */
} atv_attn_seqs;

/* out[b,i,h] = sum_j softmax_j(scale q[b,i,h] . k[b,j,g]) v[b,j,g], g = kv_of_head[h], over the keys j that i sees;
   0 where it sees none. Vaswani et al. 2017; grouped as Ainslie et al. 2023, groups of any size.
   q [Nq,H,D]  k [Nk,G,D]  v [Nk,G,Dv]  out [Nq,H,Dv], all of dtype ATV_REAL.
   lse [Nq,H]: log of the sum of exp of the scores, kept for the backward; may be NULL; as rank 2 (or 3 beside rank 4). */
ATVDEF atv_result atv_attn_forward(atv_attn *attn, const atv_attn_seqs *seqs, const atv_tensor *q, const atv_tensor *k,
                                   const atv_tensor *v, const atv_tensor *out, const atv_tensor *lse);

/* Adds the gradients of the inputs to dq, dk, dv (shapes as q, k, v), given dout and the forward's out and lse. */
ATVDEF atv_result atv_attn_backward(atv_attn *attn, const atv_attn_seqs *seqs, const atv_tensor *q, const atv_tensor *k,
                                    const atv_tensor *v, const atv_tensor *out,
                                    const atv_tensor *lse, const atv_tensor *dout,
                                    const atv_tensor *dq, const atv_tensor *dk, const atv_tensor *dv);

/* The probabilities themselves, for pictures: probs [n_seq,H,Tq,Tk], Tq and Tk at least the longest; entries that are
   hidden, or beyond a sequence's lengths, are 0. */
ATVDEF atv_result atv_attn_probs(atv_attn *attn, const atv_attn_seqs *seqs, const atv_tensor *q, const atv_tensor *k,
                                 const atv_tensor *probs);

/* ==== >>kv ======================================================================================================== */

/* A cache of keys and values for one layer and several sequences. Keys lie in blocks of 16 positions, transposed, so
   that small heads cost no padding; with a window only the last positions are kept, in a ring. */
typedef struct atv_kv_desc {
    int n_kv_head;                  /* G */
    int head_dim, value_dim;        /* D, Dv (0: D) */
    int n_seq;                      /* sequences it has room for */
    int max_positions;              /* of each sequence */
    int window;                     /* 0: every position is kept */
    int max_rewind;                 /* with a window: how far a sequence may be cut back without a new prefill */
} atv_kv_desc;

typedef struct atv_kv atv_kv;

/* All sequences start empty. */
ATVDEF atv_result atv_kv_create(atv_ctx *ctx, const atv_kv_desc *desc, atv_kv **out);
ATVDEF void atv_kv_destroy(atv_kv *kv);
ATVDEF atv_result atv_kv_bytes(atv_ctx *ctx, const atv_kv_desc *desc, size_t *out);       /* what create will take */
ATVDEF int atv_kv_length(const atv_kv *kv, int seq);                                     /* positions seen; -1: no such */

/* Keeps the first `length` positions of a sequence, 0: none. ATV_ERR_ARGUMENT when the window's part of them is gone. */
ATVDEF atv_result atv_kv_cut(atv_kv *kv, int seq, int length);
ATVDEF atv_result atv_kv_copy(atv_kv *kv, int from, int to);               /* sequence `to` becomes equal to `from` */

/* One decoding step: sequence seqs[i] gets position k[i], v[i], then q[i] attends to all it sees. No sequence twice.
   q [n,H,D]  k [n,G,D]  v [n,G,Dv]  out [n,H,Dv]. attn and kv must agree in G, D, Dv; attn's window must not exceed
   what kv keeps. ATV_ERR_FULL when a sequence has max_positions. */
ATVDEF atv_result atv_attn_step(atv_attn *attn, atv_kv *kv, int n, const int *seqs, const atv_tensor *q,
                                const atv_tensor *k, const atv_tensor *v, const atv_tensor *out);

/* ==== >>config ==================================================================================================== */

/* The presets: names for values of G and S, nothing more. */
#define ATV_VARIANTS(X) X(MHA, "mha") X(MQA, "mqa") X(GQA, "gqa") X(KQV, "kqv") X(COMBINED, "combined")
typedef enum atv_variant {
#define X(name, text) ATV_##name,
    ATV_VARIANTS(X)
#undef X
    ATV_VARIANT_COUNT
} atv_variant;

/* One layer, filled. */
typedef struct atv_layer {
    int num_heads;                  /* H */
    int num_key_value_heads;        /* G */
    int head_dim;                   /* D of queries and keys */
    int value_dim;                  /* D of values; 0: head_dim */
    int intermediate_size;          /* F */
    int window_size;                /* W; 0: global */
    int has_kv_layer;               /* 1: kv_layer is set; 0: it reads its own keys and values */
    int kv_layer;                   /* whose keys and values it reads: its own number, or an earlier owner's */
    const int *kv_of_head;          /* [H]; NULL: in order, the first H mod G groups one larger */
} atv_layer;

/* A GPT-Neo (Black et al. 2021) with any of the variants; Hugging Face's names. Zero-initialise, set what you know. */
typedef struct atv_config {
    int vocab_size;                 /* V */
    int max_position_embeddings;    /* the longest sequence; 0: 2048 */
    int hidden_size;                /* C */
    int num_layers;                 /* L */
    int num_heads;                  /* H */
    int num_key_value_heads;        /* G; 0: num_heads */
    int kqv_size;                   /* S; 0: hidden_size */
    int intermediate_size;          /* F; 0: 4 C */
    int window_size;                /* W of the local layers; 0: 256 */
    const int *windows;             /* [L] per layer, 0: global. NULL: global, local, global, .. */
    const int *kv_of_head;          /* [H] for every layer; NULL: in order, uneven groups first */
    const int *kv_of_layer;         /* [L] NULL: every layer its own (else Brandon et al. 2024, cross-layer attention) */
    const atv_layer *layers;        /* [L] NULL: all layers as above; given, the fields above from num_heads on (but for
                                       window_size) are not read */
    double layer_norm_epsilon;      /* 0: 1e-5 */
    double initializer_range;       /* 0: 0.02 */
    int has_special_ids;            /* 1: the three below are set; 0: none has an id */
    int bos_token_id, eos_token_id, pad_token_id;           /* -1: none */
    int num_labels;                 /* 0: a language model; 2 or more: a classifier of sequences. 1 would be regression,
                                       which is not done */
} atv_config;

/* Fills the defaults in and checks everything (ATV_ERR_ARGUMENT names the field); array pointers stay as given. */
ATVDEF atv_result atv_config_resolve(atv_ctx *ctx, const atv_config *config, atv_config *out);

/* Layer i of a resolved config. */
ATVDEF atv_layer atv_config_layer(const atv_config *config, int i);
ATVDEF int atv_kv_of_head(int n_head, int n_kv_head, const int *kv_of_head, int head);    /* head's key/value head */

/* The FFN width that keeps a layer's weights at those of full attention with ffn_base:
   ffn_base + 2 C - S - G D, or ffn_base + 2 C - S for a layer that reads another's keys and values. */
ATVDEF int atv_matched_ffn(int ffn_base, int hidden_size, int kqv_size, int kv_size, int reads_other);

/* Sets num_key_value_heads, kqv_size and intermediate_size of a config that has hidden_size and num_heads.
   group_proportion = G/H (GQA, COMBINED), kqv_proportion = S/C (KQV, COMBINED); a proportion that a variant has no use
   for must be 0 or 1. One that gives no whole number of heads or widths fails, naming the nearest that do. */
ATVDEF atv_result atv_config_preset(atv_ctx *ctx, atv_variant variant, double group_proportion, double kqv_proportion,
                                    int ffn_base, atv_config *config);
ATVDEF atv_variant atv_config_variant(const atv_config *config);    /* of a resolved config: the preset its first layer is */
ATVDEF const char *atv_variant_name(atv_variant variant);
ATVDEF atv_result atv_variant_from_name(const char *name, atv_variant *out);

/* The model of the published experiments: V 10000, T 512, C 384, L 2 (global, local), H 8, W 256; F 1024 for MHA. */
ATVDEF atv_config atv_config_published(void);

/* Keys and values cached per position, in bytes, over all layers that own theirs: 2 G D sizeof(atv_real) each. */
ATVDEF size_t atv_config_kv_bytes_per_token(const atv_config *config);

/* ==== >>model ===================================================================================================== */

typedef struct atv_model atv_model;

/* Copies the config and its arrays. All parameters are 0 until atv_model_init or atv_model_load. */
ATVDEF atv_result atv_model_create(atv_ctx *ctx, const atv_config *config, atv_model **out);
ATVDEF void atv_model_destroy(atv_model *model);
ATVDEF atv_result atv_model_bytes(atv_ctx *ctx, const atv_config *config, size_t *out);
ATVDEF const atv_config *atv_model_config(const atv_model *model);         /* resolved, `layers` filled */
ATVDEF atv_ctx *atv_model_ctx(const atv_model *model);

/* GPT-Neo's start: weights N(0, initializer_range), biases 0, norms 1. Equal seeds give equal models. */
ATVDEF void atv_model_init(atv_model *model, uint64_t seed);

/* The parameters, in Hugging Face's order and names ("transformer.wte.weight", ..): views to read and write.
   After writing, call atv_model_changed. Linear weights are [out, in]. A language model's head is tied to wte; a
   classifier's is the last tensor, "score.weight" [num_labels,C]. i: 0..num_tensors-1. */
ATVDEF int atv_model_num_tensors(const atv_model *model);
ATVDEF atv_named_tensor atv_model_tensor(const atv_model *model, int i);
ATVDEF atv_result atv_model_find(const atv_model *model, const char *name, int *out);
ATVDEF int64_t atv_model_num_parameters(const atv_model *model);
ATVDEF void atv_model_changed(atv_model *model);            /* the kernels' packed copies are made anew at the next use */

/* A classifier with the weights of `model`, a language model or a classifier, and a head of its own for num_labels labels,
   which starts as atv_model_init with this seed would start it. The rest of the config stays. */
ATVDEF atv_result atv_model_classifier(const atv_model *model, int num_labels, uint64_t seed, atv_model **out);

/* The names of a classifier's labels, id2label in its config.json: names [num_labels], copied. Without names a name is NULL,
   and LABEL_0, LABEL_1, .. in a file. */
ATVDEF atv_result atv_model_set_labels(atv_model *model, const char *const *names);
ATVDEF const char *atv_model_label(const atv_model *model, int label);

/* How a classifier's examples are made into documents, for atv_task_desc: max_length, above 0, and wrap, 0 or 1. In its
   config.json that is task_specific_params, text-classification: max_length and add_special_tokens, as transformers calls a
   tokenizer's arguments. Nothing here follows it by itself. Where it is not known, as in a new classifier, max_length is 0,
   wrap -1. Other values, and a language model, are ATV_ERR_ARGUMENT. */
ATVDEF atv_result atv_model_set_task(atv_model *model, int max_length, int wrap);
ATVDEF void atv_model_task(const atv_model *model, int *max_length, int *wrap);

/* Sequences laid end to end: ids [N], N the sum of lengths. */
typedef struct atv_batch {
    const int32_t *ids;
    const int *lengths;             /* [n_seq]; a classifier's are 1 or more */
    int n_seq;
    const int32_t *targets;         /* [N] what each position should predict, -100: nothing.
                                       NULL: its sequence's next token, the last nothing. NULL in a classifier */
    const int32_t *labels;          /* [n_seq] of a classifier: 0..num_labels-1, below 0 (-100): none. NULL: no labels */
} atv_batch;

/* A loss is kept as a sum, so that batches add up exactly: the mean is sum / tokens. */
typedef struct atv_loss {
    double sum;                     /* of -log p(target), in nats */
    int64_t tokens;                 /* how many targets; a classifier's are its labelled sequences */
} atv_loss;

/* Documents laid end to end. */
typedef struct atv_data {
    const int32_t *ids;
    const int *lengths;             /* [n_docs] */
    int n_docs;
    const int32_t *labels;          /* [n_docs] as a batch's */
} atv_data;

/* The memory that a pass through the model needs. */
typedef struct atv_work_desc {
    int max_tokens;                 /* N: tokens of one batch; 0: max_position_embeddings */
    int max_seqs;                   /* sequences of one batch; 0: max_tokens */
    int backward;                   /* 1: keeps activations and has gradients */
} atv_work_desc;

typedef struct atv_work atv_work;

/* desc may be NULL. The work keeps a pointer to the model, which must outlive it. Gradients start at 0. */
ATVDEF atv_result atv_work_create(atv_model *model, const atv_work_desc *desc, atv_work **out);
ATVDEF void atv_work_destroy(atv_work *work);
ATVDEF atv_result atv_work_bytes(const atv_model *model, const atv_work_desc *desc, size_t *out);

/* logits [N,V] of every position; of a classifier [n_seq,num_labels], from the last token of each sequence (which must be
   a real one: padding has no place in a batch). Fails on a token outside the vocabulary or a sequence longer than the
   context. */
ATVDEF atv_result atv_forward(atv_work *work, const atv_batch *batch, atv_real *logits);

/* The loss, without logits of the whole batch ever existing. logprobs [N]: log p(target) of each position, 0 where
   there is none; of a classifier [n_seq]: log p(label) of each sequence. NULL if not wanted. */
ATVDEF atv_result atv_forward_loss(atv_work *work, const atv_batch *batch, float *logprobs, atv_loss *out);

/* Forward, loss, and the gradients of the loss's sum added to the work's gradients. */
ATVDEF atv_result atv_backward(atv_work *work, const atv_batch *batch, atv_loss *out);
ATVDEF void atv_work_zero_grad(atv_work *work);
ATVDEF atv_tensor atv_work_grad(const atv_work *work, int i);              /* of the model's tensor i, same shape */

/* ==== >>decode ==================================================================================================== */

typedef struct atv_decoder_desc {
    int n_seq;                      /* sequences at once; 0: 1 */
    int max_positions;              /* of each; 0: max_position_embeddings */
    int max_rewind;                 /* how far a sequence may be cut back past a local layer's window */
    int max_chunk;                  /* prompt positions run at once; 0: 512. More is slightly faster and takes more memory */
} atv_decoder_desc;

/* A running batch of sequences of different lengths, with their KV caches. A sequence is a number, 0..n_seq-1. */
typedef struct atv_decoder atv_decoder;

/* desc may be NULL. The decoder keeps a pointer to the model, which must outlive it; once the model's parameters change,
   what the caches hold is that of the old ones. A classifier has no next token, and is refused. */
ATVDEF atv_result atv_decoder_create(atv_model *model, const atv_decoder_desc *desc, atv_decoder **out);
ATVDEF void atv_decoder_destroy(atv_decoder *decoder);
ATVDEF atv_result atv_decoder_bytes(const atv_model *model, const atv_decoder_desc *desc, size_t *out);
ATVDEF size_t atv_decoder_kv_bytes(const atv_decoder *decoder);            /* of that, the caches alone */

/* An empty sequence; one equal to `from`, cache and all. ATV_ERR_FULL when n_seq are in use. */
ATVDEF atv_result atv_decoder_add(atv_decoder *decoder, int *seq);
ATVDEF atv_result atv_decoder_copy(atv_decoder *decoder, int from, int *seq);

/* Back to the first `length` positions. A local layer keeps only its window: ATV_ERR_ARGUMENT when what it would need is
   gone (max_rewind was too small); back to 0 always works. */
ATVDEF atv_result atv_decoder_cut(atv_decoder *decoder, int seq, int length);
ATVDEF atv_result atv_decoder_drop(atv_decoder *decoder, int seq);         /* its number is free again */
ATVDEF int atv_decoder_length(const atv_decoder *decoder, int seq);        /* positions; -1: no such sequence */

/* What one call appends to one sequence: a prompt, or a single token. */
typedef struct atv_decode_input {
    int seq;
    const int32_t *ids;
    int n_ids;                      /* at least 1 */
} atv_decode_input;

/* Appends to n different sequences; logits [n,V] of the last position of each. Nothing changes on failure;
   ATV_ERR_FULL when a sequence would pass max_positions. */
ATVDEF atv_result atv_decode(atv_decoder *decoder, const atv_decode_input *inputs, int n, atv_real *logits);

/* How the next token is chosen; all zero is greedy. As Hugging Face's generate: penalty, temperature, top-k, top-p. */
typedef struct atv_sampling {
    int do_sample;                  /* 0: the largest logit, the lowest id among equals */
    double temperature;             /* 0: 1 */
    int top_k;                      /* 0: all */
    double top_p;                   /* 0: 1 */
    double repetition_penalty;      /* 0: 1 (Keskar et al. 2019): divides the positive logits of ids already there */
} atv_sampling;

/* Picks from logits [V] (left as they are). ids [n_ids]: what came before, for the repetition penalty.
   logprob, if not NULL: log p of the token in the model's own distribution, before any of the settings. */
ATVDEF atv_result atv_sample(atv_decoder *decoder, const atv_sampling *sampling, atv_rng *rng, const atv_real *logits,
                             const int32_t *ids, int n_ids, int32_t *token, float *logprob);

typedef struct atv_generate_desc {
    atv_sampling sampling;
    uint64_t seed;                  /* prompt i draws from a stream of its own, so its text does not depend on the others */
    int max_new_tokens;             /* of each; a sequence also ends when the context is full */
    const int32_t *stop_tokens;     /* ends at any of these, which is still reported */
    int n_stop_tokens;
    /* Called for each token; another value than 0 ends that sequence. */
    int (*on_token)(void *user, int prompt, int32_t token, float logprob);
    void *user;
} atv_generate_desc;

/* Continues n prompts side by side, each in a sequence added for it (prompts[i].seq is not read) and dropped when it ends.
   ATV_ERR_FULL when fewer than n are free. */
ATVDEF atv_result atv_generate(atv_decoder *decoder, const atv_generate_desc *desc, const atv_decode_input *prompts, int n);

/* ==== >>train ===================================================================================================== */
#ifndef ATV_NO_TRAIN

#define ATV_SCHEDULES(X) X(CONSTANT, "constant") X(LINEAR, "linear") X(COSINE, "cosine")
typedef enum atv_schedule {
#define X(name, text) ATV_SCHEDULE_##name,
    ATV_SCHEDULES(X)
#undef X
    ATV_SCHEDULE_COUNT
} atv_schedule;

/* AdamW (Loshchilov and Hutter 2019) and its schedule. */
typedef struct atv_trainer_desc {
    int has_learning_rate;          /* 1: learning_rate is set; 0: 1e-3 */
    double learning_rate;           /* the highest, reached after warm-up */
    double min_learning_rate;       /* where decay ends, at total_steps */
    atv_schedule schedule;
    int warmup_steps;               /* step s (from 0) of the warm-up has learning_rate (s+1) / warmup_steps */
    int total_steps;                /* what linear and cosine decay stretch over */
    double beta1, beta2, epsilon;   /* 0: 0.9, 0.999, 1e-8 */
    double weight_decay;
    int decay_all;                  /* 0: biases and norms are not decayed */
    double max_grad_norm;           /* 0: gradients are not clipped */
    int accumulate;                 /* batches per step in atv_trainer_run; 0: 1 */
    int batch;                      /* sequences per batch in atv_trainer_run; 0: 16 */
    int max_length;                 /* documents are cut to their first so many tokens; 0: max_position_embeddings */
    int max_tokens;                 /* of one batch; 0: batch x max_length */
    uint64_t seed;                  /* of the order of documents */
    int rank, n_ranks;              /* this trainer is 0..n_ranks-1 of so many that train one model; n_ranks 0: 1 */
    /* Sums over the ranks: replaces each of grads [n_grads] and sums [n_sums] by the sum of all ranks' numbers there, in the
       same bits on every rank. Called once in every update, on every rank; another value than 0 fails the update with
       ATV_ERR_STOPPED. NULL: n_ranks is 1. */
    int (*reduce)(void *user, atv_real *grads, size_t n_grads, double *sums, int n_sums);
    void *reduce_user;
} atv_trainer_desc;

/* The published recipe: AdamW, context 512, batch 16 x 16. Its learning rate is not published: the default stands. */
ATVDEF atv_trainer_desc atv_trainer_published(void);

typedef struct atv_trainer atv_trainer;

/* The trainer keeps a pointer to the model, which must outlive it, and updates its parameters. */
ATVDEF atv_result atv_trainer_create(atv_model *model, const atv_trainer_desc *desc, atv_trainer **out);
ATVDEF void atv_trainer_destroy(atv_trainer *trainer);
ATVDEF atv_result atv_trainer_bytes(const atv_model *model, const atv_trainer_desc *desc, size_t *out);
ATVDEF const atv_trainer_desc *atv_trainer_info(const atv_trainer *trainer);
ATVDEF atv_work *atv_trainer_work(atv_trainer *trainer);                   /* its gradients and memory */
ATVDEF double atv_trainer_learning_rate(const atv_trainer_desc *desc, int64_t step);

/* One optimizer step, the same on every rank. */
typedef struct atv_step {
    int64_t step;                   /* counted from 1 */
    atv_loss loss;                  /* over all its batches, of all ranks, before the update */
    double grad_norm;               /* of the mean's gradient, before clipping */
    double learning_rate;
    int64_t tokens_seen;            /* of all steps until now, targets or not */
    int64_t epoch;                  /* of atv_trainer_run */
} atv_step;

/* By hand: any number of batches, then an update, which divides the summed gradients once by all their targets (in a
   classifier: labelled sequences). Where no target came, or the gradient is not finite, the update fails, parameters stay
   as they were, the batches are forgotten. With `reduce` every rank calls update as often, also one that had no batch: the
   targets of all ranks count. */
ATVDEF atv_result atv_trainer_accumulate(atv_trainer *trainer, const atv_batch *batch);
ATVDEF atv_result atv_trainer_update(atv_trainer *trainer, atv_step *out);

/* Runs `steps` steps on documents drawn in an order that depends on seed and epoch alone; in the middle of an epoch the
   documents and labels must be the same as before. After each, on_step may look,
   evaluate and save; another value than 0 stops with ATV_ERR_STOPPED, and a later call goes on from there.
   Every rank gets all documents, from equal parameters on, and on_step must stop on all or none. The ranks take the batches
   of one trainer with n_ranks times their `accumulate` in turn, which are the documents, in order, of one with n_ranks
   times their `batch` as long as max_tokens cuts no batch short. A step whose batches fail on one rank fails on all. */
ATVDEF atv_result atv_trainer_run(atv_trainer *trainer, const atv_data *data, int64_t steps,
                                  int (*on_step)(void *user, const atv_step *step), void *user);

/* Everything that resuming needs, as one safetensors file: parameters, moments, counters. Loading checks that model
   and recipe are the saved ones; 2N steps are bit for bit N steps, save, load in a new process, N steps. All ranks load the
   file that one of them saved. It may go on with another n_ranks whose product with `accumulate` is the saved one: the same
   documents, sums in another order. */
ATVDEF atv_result atv_trainer_save(const atv_trainer *trainer, const char *path);
ATVDEF atv_result atv_trainer_load(atv_trainer *trainer, const char *path);
ATVDEF int64_t atv_trainer_step(const atv_trainer *trainer);               /* steps done */

#endif /* ATV_NO_TRAIN */

/* ==== >>tokenizer ================================================================================================= */

/* GPT-2's byte-level BPE (Radford et al. 2019), in Hugging Face's files. */
typedef struct atv_tokenizer atv_tokenizer;

/* From a directory: tokenizer.json, or vocab.json and merges.txt (with tokenizer_config.json where there is one). */
ATVDEF atv_result atv_tokenizer_load(atv_ctx *ctx, const char *dir, atv_tokenizer **out);
ATVDEF atv_result atv_tokenizer_from_json(atv_ctx *ctx, const char *tokenizer_json, size_t size, atv_tokenizer **out);
/* config: the text of tokenizer_config.json, NULL if there is none. */
ATVDEF atv_result atv_tokenizer_from_vocab(atv_ctx *ctx, const char *vocab_json, size_t vocab_size, const char *merges_txt,
                                           size_t merges_size, const char *config, size_t config_size, atv_tokenizer **out);

typedef struct atv_tokenizer_train_desc {
    int vocab_size;                 /* entries in all: special tokens, 256 bytes, merges */
    const char *const *special_tokens;      /* NULL: <pad> <s> </s> <unk> <mask>, of which <s> and </s> wrap documents */
    int n_special_tokens;
    int min_frequency;              /* of a merged pair; 0: 2 */
} atv_tokenizer_train_desc;

/* Sennrich et al. 2016 on bytes: the most frequent pair first, the lowest ids among equals. */
ATVDEF atv_result atv_tokenizer_train(atv_ctx *ctx, const atv_tokenizer_train_desc *desc, const char *text, size_t size,
                                      atv_tokenizer **out);
ATVDEF void atv_tokenizer_destroy(atv_tokenizer *tokenizer);
ATVDEF atv_result atv_tokenizer_save(const atv_tokenizer *tokenizer, const char *dir);  /* tokenizer.json, vocab.json,
                                       merges.txt, tokenizer_config.json; the directory must exist */

ATVDEF int atv_tokenizer_vocab_size(const atv_tokenizer *tokenizer);
ATVDEF int atv_tokenizer_id(const atv_tokenizer *tokenizer, const char *token);         /* "</s>" -> id; -1: none */
ATVDEF const char *atv_tokenizer_token(const atv_tokenizer *tokenizer, int id, size_t *size);  /* its bytes; NULL: none */
ATVDEF int atv_tokenizer_is_special(const atv_tokenizer *tokenizer, int id);

/* What the post-processor puts around a document: ids, or -1. */
ATVDEF void atv_tokenizer_wrap(const atv_tokenizer *tokenizer, int *before, int *after);
ATVDEF int atv_tokenizer_eos(const atv_tokenizer *tokenizer);               /* the end token; -1: none */

/* Text (UTF-8; other bytes are taken as they are) to ids, special tokens in the text recognised, nothing added.
   Sets *n to the number of ids; writes the first `cap` of them, so a first call with cap 0 measures. Never more ids than
   bytes, twice as many where the file says add_prefix_space. */
ATVDEF atv_result atv_tokenizer_encode(atv_tokenizer *tokenizer, const char *text, size_t size,
                                       int32_t *ids, size_t cap, size_t *n);

/* Ids to bytes, without a terminating 0; measures as above. An unknown id fails. skip_special leaves special tokens out. */
ATVDEF atv_result atv_tokenizer_decode(const atv_tokenizer *tokenizer, const int32_t *ids, size_t n_ids, int skip_special,
                                       char *text, size_t cap, size_t *size);

/* ==== >>checkpoint ================================================================================================ */

/* safetensors files: a JSON header and the tensors' bytes. */
typedef struct atv_safetensors atv_safetensors;
ATVDEF atv_result atv_safetensors_open(atv_ctx *ctx, const char *path, atv_safetensors **out);
/* data is borrowed */
ATVDEF atv_result atv_safetensors_from_memory(atv_ctx *ctx, const void *data, size_t size, atv_safetensors **out);
ATVDEF void atv_safetensors_close(atv_safetensors *file);
ATVDEF int atv_safetensors_count(const atv_safetensors *file);
ATVDEF atv_named_tensor atv_safetensors_tensor(const atv_safetensors *file, int i);       /* views; must not be written */
ATVDEF int atv_safetensors_find(const atv_safetensors *file, const char *name);           /* -1: none */
ATVDEF const char *atv_safetensors_metadata(const atv_safetensors *file, const char *key);  /* NULL: none */
/* metadata: n_metadata pairs key, value. Tensors are written in the dtype given, those of another converted. */
ATVDEF atv_result atv_safetensors_write(atv_ctx *ctx, const char *path, const atv_named_tensor *tensors, int n,
                                        atv_dtype dtype, const char *const *metadata, int n_metadata);

/* Hugging Face model directories: config.json with model.safetensors, or its shards with an index. Unknown fields of
   the config are kept for saving; known values that this library does not do are refused by name. Where `architectures`
   names GPTNeoForSequenceClassification the model is a classifier, with as many labels as id2label has (else num_labels
   says, else 2); every other architecture is read as a language model. */
ATVDEF atv_result atv_model_load(atv_ctx *ctx, const char *dir, atv_model **out);
ATVDEF atv_result atv_model_from_memory(atv_ctx *ctx, const char *config_json, size_t config_size, const void *safetensors,
                                        size_t safetensors_size, atv_model **out);

typedef struct atv_save_desc {
    atv_dtype dtype;                /* ATV_F32 (0), ATV_BF16, ATV_F16 */
    const atv_tokenizer *tokenizer; /* saved beside the model; NULL: none */
} atv_save_desc;

/* Writes config.json, model.safetensors and the tokenizer's files into dir, which must exist. Each file is written
   beside its target, flushed, and renamed over it. desc may be NULL. A classifier's labels have the names that it was
   loaded with, a new head's LABEL_0, LABEL_1, ..; transformers wants a pad_token_id for more than one sequence at once. */
ATVDEF atv_result atv_model_save(const atv_model *model, const char *dir, const atv_save_desc *desc);

/* ==== >>eval ====================================================================================================== */

/* Mean loss of documents, of each its first tokens, as many as the work's max_tokens and the model's context allow. */
ATVDEF atv_result atv_evaluate(atv_work *work, const atv_data *data, atv_loss *out);

/* What a classifier finds: predicted [n_docs], the label with the largest logit, the lowest among equals; logprobs
   [n_docs,num_labels]: log p of every label, NULL if not wanted. Documents are cut as above; their labels are not read. */
ATVDEF atv_result atv_classify(atv_work *work, const atv_data *data, int32_t *predicted, float *logprobs);

/* Minimal pairs (Warstadt et al. 2020): which of two sentences does the model find likelier? Told of each, in the order of
   the lines; the strings last until on_pair returns. */
typedef struct atv_pair {
    int64_t line;                   /* counted from 1 */
    const char *uid, *linguistics_term;     /* the line's UID and linguistics_term; NULL: it has none */
    double good, bad;               /* log p of each sentence, in nats */
    int correct;                    /* good >= bad */
} atv_pair;

typedef struct atv_pairs_desc {
    int start_token;                /* the token before each sentence; used when has_start_token is 1 */
    int has_start_token;            /* 0: the tokenizer's end token */
    int no_space;                   /* 0: a space comes before each sentence */
    int (*on_pair)(void *user, const atv_pair *pair);       /* another value than 0 stops with ATV_ERR_STOPPED */
    void *user;
} atv_pairs_desc;

typedef struct atv_pairs_result { int64_t pairs, correct; } atv_pairs_result;

/* jsonl: one object a line with the strings sentence_good and sentence_bad; UID, linguistics_term where they are there;
   other fields are not read. desc may be NULL. The defaults score as the BabyLM 2023 evaluation (evaluation-pipeline-2023,
   a lm-evaluation-harness) does: the end token is all the context, " " + sentence follows without special tokens; the sum
   of its tokens' log p decides, not divided by a length; of equal sums numpy's argmax takes the first, which is
   sentence_good's: a tie is correct. Sentences longer than the context lose their beginning there, here they are refused. */
ATVDEF atv_result atv_eval_pairs(atv_work *work, atv_tokenizer *tokenizer, const char *jsonl, size_t size,
                                 const atv_pairs_desc *desc, atv_pairs_result *out);

/* Between what proportions `correct` of n lie with 95 % confidence (Wilson 1927); 0 and 1 for n = 0. */
ATVDEF void atv_interval(int64_t correct, int64_t n, double *low, double *high);

/* A task of classification (GLUE, SuperGLUE): examples with labels, read from JSON lines and made into documents. */
typedef struct atv_task atv_task;

typedef struct atv_task_desc {
    int max_length;                 /* tokens of an example, special ones too; 0: 128 */
    int wrap;                       /* 0: a pair's texts A and B end to end with nothing around them; 1: before A after, or
                                       before A after after B after, with what atv_tokenizer_wrap says */
    const char *const *labels;      /* [n_labels] the labels from 0 on, any other is refused: those of the training file
                                       for a validation file. NULL: those that come, sorted */
    int n_labels;
} atv_task_desc;

/* One object a line. Its fields tell the task, and what is A and what is B:
       sentence1 sentence2   question1 question2   premise hypothesis   question passage   question sentence
       question answer paragraph       A is "Question: " question " Answer: " answer
       span2_text span1_text text      A is "Does "" span2_text "" refer to "" span1_text "" in this passage?"
       sentence   text                 A alone
   and label is a whole number, a string, or true or false (a number with a fraction would be regression, which is refused;
   -1: none is known). All lines have the first line's fields; a field that is missing, or no string, is named with its line.
   A pair that is too long loses tokens at the end of its longer text until both are equally long, then at both ends. That,
   the fields and their order, and 128 are those of the BabyLM 2023 evaluation's finetune_classification.py; with GPT-2's
   tokenizer, and not its fast variant, as its scripts ask for, transformers puts nothing around the texts (wrap = 0); the
   fast one follows tokenizer.json (wrap = 1, where that says RobertaProcessing). desc may be NULL. */
ATVDEF atv_result atv_task_load(atv_tokenizer *tokenizer, const char *path, const atv_task_desc *desc, atv_task **out);
ATVDEF atv_result atv_task_from_memory(atv_tokenizer *tokenizer, const char *jsonl, size_t size, const atv_task_desc *desc,
                                       atv_task **out);
ATVDEF void atv_task_destroy(atv_task *task);
ATVDEF const atv_data *atv_task_data(const atv_task *task);                /* labels below 0: none */
ATVDEF const char *const *atv_task_labels(const atv_task *task, int *n);   /* by number, as text */
ATVDEF const char *atv_task_fields(const atv_task *task);                  /* "sentence1 sentence2" */

/* How well labels are found. All but n and correct are 0..1, mcc -1..1; 0 where a quotient has no value. */
typedef struct atv_metrics {
    int64_t n, correct;
    double accuracy;
    double f1;                      /* of two labels: of label 1; of more: the mean over all labels (macro) */
    double mcc;                     /* Matthews 1975; of more than two labels: Gorodkin 2004 */
} atv_metrics;

#define ATV_METRICS(X) X(AUTO, "auto") X(ACCURACY, "accuracy") X(F1, "f1") X(MCC, "mcc")
typedef enum atv_metric {
#define X(name, text) ATV_METRIC_##name,
    ATV_METRICS(X)
#undef X
    ATV_METRIC_COUNT
} atv_metric;

/* labels [n] 0..num_labels-1, below 0: not counted; predicted [n]. baseline, if not NULL: the best that the same answer
   for all reaches: for the accuracy that is the majority's label, for the F1 of two labels always label 1, for mcc 0. */
ATVDEF void atv_measure(const int32_t *labels, const int32_t *predicted, int64_t n, int num_labels, atv_metrics *out,
                        atv_metrics *baseline);
ATVDEF double atv_metrics_get(const atv_metrics *metrics, atv_metric metric);      /* AUTO: the accuracy */
ATVDEF const char *atv_metric_name(atv_metric metric);

#ifndef ATV_NO_TRAIN

/* An evaluation on the way. */
typedef struct atv_finetune_eval {
    int64_t step;
    double epoch;                   /* step / steps of an epoch */
    double train_loss;              /* mean over the examples since the evaluation before */
    atv_metric metric;
    double score;                   /* the metrics' metric */
    atv_metrics metrics, baseline;
    int best;                       /* 1: the best so far */
} atv_finetune_eval;

/* Fine-tuning of a classifier, which keeps the weights that were best on held-out examples. */
typedef struct atv_finetune_desc {
    atv_trainer_desc trainer;       /* total_steps 0: those of max_epochs; max_tokens 0: batch x the longest document */
    int max_epochs;                 /* 0: 10 */
    int eval_every;                 /* steps between evaluations; one more comes after the last. 0: that one alone */
    int patience;                   /* it ends after so many evaluations in a row that did not improve. 0: it does not */
    double min_improvement;         /* of the score over the best one before; less is none */
    atv_metric metric;              /* which chooses the best; AUTO: F1 with two labels, else accuracy */
    int (*on_step)(void *user, const atv_step *step);       /* another value than 0 ends it, here too; may be NULL */
    int (*on_eval)(void *user, const atv_finetune_eval *eval);
    void *user;
} atv_finetune_desc;

/* The recipe of the BabyLM 2023 evaluation (finetune_model.sh): batches of 64, rate 5e-5, 10 epochs, an evaluation each 200
   steps, patience 10, improvement .001, seed 12; the rest as transformers' Trainer has it where nothing is said: AdamW with
   betas .9 and .999, epsilon 1e-8, no decay, linear decay to 0 without warm-up over all epochs, gradients clipped to norm 1.
   There the best of these evaluations counts, here the one after the last step may be the best too; there an epoch's last
   batch is smaller, here it is filled from the next epoch. */
ATVDEF atv_finetune_desc atv_finetune_babylm(void);

typedef struct atv_finetune_result {
    atv_finetune_eval best;         /* whose weights the model has in the end; the earliest among equals */
    int64_t steps;                  /* done */
    double epochs;
    int evals;
    int early;                      /* 1: patience or a callback ended it */
} atv_finetune_result;

/* Trains a classifier on `train` and evaluates on `valid`, both with labels (atv_task_data). What it takes for the while,
   atv_finetune_bytes tells, but for atv_trainer_run's own. When it fails, the model is as the last step left it.
   desc may be NULL: atv_finetune_babylm. */
ATVDEF atv_result atv_finetune(atv_model *model, const atv_data *train, const atv_data *valid, const atv_finetune_desc *desc,
                               atv_finetune_result *out);
ATVDEF atv_result atv_finetune_bytes(const atv_model *model, const atv_data *train, const atv_data *valid,
                                     const atv_finetune_desc *desc, size_t *out);
#endif /* ATV_NO_TRAIN */

#ifdef __cplusplus
}
#endif
#endif /* ATTNVAR_H */
#if defined(ATTNVAR_IMPLEMENTATION) && !defined(ATVI_IMPLEMENTED) && !defined(ATVI_PASS)
#define ATVI_IMPLEMENTED

/* ==== >>platform ================================================================================================== */

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>                                          /* snprintf, even without files */
#include <stdlib.h>
#include <string.h>

/* Under -std=c99 the POSIX names are hidden unless the user asks for them; then files are flushed by stdio alone. */
#if (defined(__unix__) || defined(__APPLE__)) && !defined(ATV_NO_STDIO)
#  include <unistd.h>
#  if defined(__APPLE__) || defined(_GNU_SOURCE) || defined(_POSIX_C_SOURCE) || defined(_DEFAULT_SOURCE)
#    define ATVI_POSIX
#    include <sys/mman.h>
#    include <sys/stat.h>
#  endif
#endif
#ifndef ATV_NO_THREADS
#  include <pthread.h>
#  include <sched.h>
#endif

/* Under -ffast-math too the implementation computes as written: its factors reordered would overflow, and NaN must be
   refused. Ahead of the intrinsics, which in clang are plain operators. (Subnormals, gcc's start-up code flushes still.) */
#if defined(__FAST_MATH__) && defined(__GNUC__)
#  define ATVI_FAST_MATH                                    /* gcc takes __FAST_MATH__ away, in C for good */
#  ifdef __clang__
#    pragma float_control(precise, on, push)
#  else
#    pragma GCC push_options
#    pragma GCC optimize("no-fast-math")
#  endif
#endif

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__) && !defined(ATV_NO_SIMD) && !defined(ATVI_DOUBLE)
#  define ATVI_X86
#  include <cpuid.h>
#  include <immintrin.h>
#endif
#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__) && defined(__GNUC__) && \
    !defined(ATV_NO_SIMD) && !defined(ATVI_DOUBLE)
#  define ATVI_ARM64
#  include <arm_neon.h>
#endif

#ifdef __GNUC__
#  define ATVI_PRINTF(f, a) __attribute__((format(printf, f, a)))
#  define ATVI_INLINE static inline __attribute__((always_inline))
#  define ATVI_PAUSE() __builtin_ia32_pause()
#  ifndef ATVI_X86
#    undef ATVI_PAUSE
#    define ATVI_PAUSE() ((void)0)
#  endif
#else
#  define ATVI_PRINTF(f, a)
#  define ATVI_INLINE static inline
#  define ATVI_PAUSE() ((void)0)
#endif
#ifdef __GNUC__
#  define ATVI_PREFETCH(p) __builtin_prefetch((p), 0, 2)
#  define ATVI_PREFETCH_NEAR(p) __builtin_prefetch((p), 0, 3)
#  define ATVI_PREFETCH_WRITE(p) __builtin_prefetch((p), 1, 3)
#  define ATVI_FORGET(x) __asm__ volatile("" : "+r"(x))     /* what was computed from x is computed anew */
#  define ATVI_ALONE __attribute__((noinline, aligned(64)))   /* 2 % hang on where in the cache's lines a loop lies */
#else
#  define ATVI_FORGET(x) ((void)(x))
#  define ATVI_ALONE
#  define ATVI_PREFETCH(p) ((void)(p))
#  define ATVI_PREFETCH_NEAR(p) ((void)(p))
#  define ATVI_PREFETCH_WRITE(p) ((void)(p))
#endif
#if defined(__clang__)
#  define ATVI_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#  define ATVI_UNROLL _Pragma("GCC unroll 16")
#else
#  define ATVI_UNROLL
#endif

#define ATVI_TRY(call) do { atv_result atvi_r_ = (call); if (atvi_r_ != ATV_OK) return atvi_r_; } while (0)
#define ATVI_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ATVI_MAX(a, b) ((a) > (b) ? (a) : (b))
/* On the bits, since -ffast-math folds comparisons with NaN away. */
static int atvi_finite(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 52 & 0x7FF) != 0x7FF;
}

#define ATVI_ALIGN 64                                       /* a cache line and the widest vector */
#define ATVI_PANEL 16                                       /* columns of a packed panel; positions of a key block */
#define ATVI_LINE ((int)(64 / sizeof(atv_real)))            /* elements of a cache line */
#define ATVI_ROUND(n) (((n) + ATVI_PANEL - 1) / ATVI_PANEL * ATVI_PANEL)

static const char *const atvi_result_texts[] = {
#define X(name, text) text,
    ATV_RESULTS(X)
#undef X
};

ATVDEF const char *atv_result_text(atv_result result) {
    return (unsigned)result < ATV_RESULT_COUNT ? atvi_result_texts[result] : "no such result";
}

typedef struct atvi_pool atvi_pool;
typedef struct atvi_kernels atvi_kernels;

struct atv_ctx {
    atv_ctx_desc desc;
    const atvi_kernels *kernels;
    atvi_pool *pool;
    size_t bytes, peak_bytes;
    unsigned failures;              /* so often has `error` been written */
    char error[512];
};

/* The sentence that atv_last_error() gives; returns `result`. */
ATVI_PRINTF(3, 4)
static atv_result atvi_fail(atv_ctx *ctx, atv_result result, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(ctx->error, sizeof ctx->error, format, args);
    va_end(args);
    ctx->failures++;
    return result;
}

/* A callback has ended something: the error is that, and what has failed in the callback, if anything has since there were
   so many failures. */
static atv_result atvi_stopped(atv_ctx *ctx, unsigned failures, const char *callback, const char *after, int64_t n) {
    char why[sizeof ctx->error] = "";
    if (ctx->failures != failures) memcpy(why, ctx->error, sizeof why);
    return atvi_fail(ctx, ATV_ERR_STOPPED, "stopped by %s after %s %ld%s%s", callback, after, (long)n, *why ? ": " : "",
                     why);
}

ATVI_PRINTF(3, 4)
static void atvi_log(atv_ctx *ctx, atv_log_level level, const char *format, ...) {
    char message[512];
    va_list args;
    if (!ctx->desc.logger.log) return;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    ctx->desc.logger.log(ctx->desc.logger.user, level, message);
}

ATVDEF const char *atv_last_error(const atv_ctx *ctx) { return ctx->error; }
ATVDEF const atv_ctx_desc *atv_ctx_info(const atv_ctx *ctx) { return &ctx->desc; }
ATVDEF void atv_memory(const atv_ctx *ctx, size_t *now, size_t *peak) {
    if (now) *now = ctx->bytes;
    if (peak) *peak = ctx->peak_bytes;
}

/* ==== >>memory ==================================================================================================== */

static void *atvi_default_alloc(void *user, size_t size) { (void)user; return malloc(size); }
static void atvi_default_free(void *user, void *ptr) { (void)user; free(ptr); }

/* a * b + c, or SIZE_MAX, which no allocator grants. */
static size_t atvi_size(size_t a, size_t b, size_t c) {
    if (b != 0 && a > (SIZE_MAX - c) / b) return SIZE_MAX;
    return a * b + c;
}

/* In front of each block: what the allocator gave, and how much. */
typedef struct atvi_block { void *raw; size_t size; } atvi_block;
#define ATVI_BLOCK_EXTRA (sizeof(atvi_block) + ATVI_ALIGN)

/* Large blocks start on a large page and ask for such pages: a tenth to four fifths faster to read. */
#define ATVI_PAGE ((size_t)2 << 20)
#if defined(__linux__) && defined(__GNUC__) && !defined(ATV_NO_STDIO)
#  ifdef __cplusplus
extern "C"
#  else
extern
#  endif
int atvi_madvise(void *p, size_t size, int advice) __asm__("madvise");          /* hidden under -std=c99 */
enum { ATVI_MADV_HUGEPAGE = 14 };
static void atvi_large_pages(void *p, size_t size) { atvi_madvise(p, size / ATVI_PAGE * ATVI_PAGE, ATVI_MADV_HUGEPAGE); }
#else
static void atvi_large_pages(void *p, size_t size) { (void)p; (void)size; }
#endif

/* What the allocator is asked for where `size` bytes are wanted. */
static size_t atvi_block_size(size_t size) {
    return atvi_size(size, 1, size >= 2 * ATVI_PAGE ? ATVI_BLOCK_EXTRA + ATVI_PAGE : ATVI_BLOCK_EXTRA);
}

/* Aligned to ATVI_ALIGN, zeroed; NULL with the error set when there is no memory. */
static void *atvi_alloc(atv_ctx *ctx, size_t size) {
    const size_t align = size >= 2 * ATVI_PAGE ? ATVI_PAGE : ATVI_ALIGN;
    atvi_block block;
    char *p;
    block.size = atvi_block_size(size);
    block.raw = block.size == SIZE_MAX ? NULL : ctx->desc.allocator.alloc(ctx->desc.allocator.user, block.size);
    if (!block.raw) {
        atvi_fail(ctx, ATV_ERR_MEMORY, "no memory for %lu bytes", (unsigned long)size);
        return NULL;
    }
    p = (char *)block.raw + sizeof block + align;
    p -= (uintptr_t)p % align;
    if (align == ATVI_PAGE) atvi_large_pages(p, size);
    memcpy(p - sizeof block, &block, sizeof block);
    memset(p, 0, size);
    ctx->bytes += block.size;
    ctx->peak_bytes = ATVI_MAX(ctx->peak_bytes, ctx->bytes);
    return p;
}

static void atvi_free(atv_ctx *ctx, void *ptr) {
    atvi_block block;
    if (!ptr) return;
    memcpy(&block, (char *)ptr - sizeof block, sizeof block);
    ctx->bytes -= block.size;
    ctx->desc.allocator.free(ctx->desc.allocator.user, block.raw);
}

/* Moves to a block of another size; the old one stays valid when this fails. */
static void *atvi_realloc(atv_ctx *ctx, void *ptr, size_t old_size, size_t new_size) {
    void *p = atvi_alloc(ctx, new_size);
    if (p && ptr) {
        memcpy(p, ptr, ATVI_MIN(old_size, new_size));
        atvi_free(ctx, ptr);
    }
    return p;
}

/* An object's memory is one block, cut up by one function that runs twice: with base NULL it only counts, which is what
   the ..._bytes functions tell; then it hands out the parts. */
typedef struct atvi_arena { char *base; size_t used; } atvi_arena;

static void *atvi_take(atvi_arena *arena, size_t count, size_t size) {
    size_t at = arena->used;
    size_t bytes = atvi_size(count, size, ATVI_ALIGN - 1);
    if (bytes == SIZE_MAX || at > SIZE_MAX - bytes) { arena->used = SIZE_MAX; return NULL; }
    arena->used = at + bytes / ATVI_ALIGN * ATVI_ALIGN;
    return arena->base ? arena->base + at : NULL;
}

/* What atvi_alloc(arena.used) will ask the allocator for. */
static size_t atvi_arena_bytes(const atvi_arena *arena) { return atvi_block_size(arena->used); }

/* A growing byte buffer; the first failure sticks and is told by atvi_buf_done. */
typedef struct atvi_buf { atv_ctx *ctx; char *data; size_t size, room; int failed; } atvi_buf;

static void atvi_buf_put(atvi_buf *buf, const void *data, size_t size) {
    if (buf->failed || size == 0) return;
    if (size > buf->room - buf->size) {
        size_t room = ATVI_MAX(atvi_size(buf->room, 2, 256), atvi_size(buf->size, 1, size));
        char *p = (char *)atvi_realloc(buf->ctx, buf->data, buf->size, room);
        if (!p) { buf->failed = 1; return; }
        buf->data = p;
        buf->room = room;
    }
    memcpy(buf->data + buf->size, data, size);
    buf->size += size;
}

static void atvi_buf_text(atvi_buf *buf, const char *text) { atvi_buf_put(buf, text, strlen(text)); }

/* For short pieces: numbers and names, at most 255 bytes. */
ATVI_PRINTF(2, 3)
static void atvi_buf_format(atvi_buf *buf, const char *format, ...) {
    char piece[256];
    va_list args;
    va_start(args, format);
    vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    atvi_buf_text(buf, piece);
}

static atv_result atvi_buf_done(const atvi_buf *buf) { return buf->failed ? ATV_ERR_MEMORY : ATV_OK; }
static void atvi_buf_free(atvi_buf *buf) { atvi_free(buf->ctx, buf->data); memset(buf, 0, sizeof *buf); }

/* ---- files ---- */

#ifndef ATV_NO_STDIO
static int atvi_stdio_map(void *user, const char *path, const void **data, size_t *size) {
    FILE *file = fopen(path, "rb");
    long end;
    char *p;
    (void)user;
    if (!file) return 1;
    if (fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0 || end == LONG_MAX || fseek(file, 0, SEEK_SET) != 0) {
        fclose(file);
        return 1;
    }
#ifdef ATVI_POSIX
    if (end > 0) {                                          /* fails, as it must, for a directory */
        void *m = mmap(NULL, (size_t)end, PROT_READ, MAP_PRIVATE, fileno(file), 0);
        fclose(file);
        if (m == MAP_FAILED) return 1;
        *data = m;
        *size = (size_t)end;
        return 0;
    }
#endif
    p = (char *)malloc((size_t)end + 1);
    if (!p || fread(p, 1, (size_t)end, file) != (size_t)end) {
        free(p);
        fclose(file);
        return 1;
    }
    fclose(file);
    *data = p;
    *size = (size_t)end;
    return 0;
}

static void atvi_stdio_unmap(void *user, const void *data, size_t size) {
    (void)user;
#ifdef ATVI_POSIX
    if (size > 0) { munmap((void *)(uintptr_t)data, size); return; }
#endif
    (void)size;
    free((void *)(uintptr_t)data);
}

static int atvi_stdio_create(void *user, const char *path, void **file) {
    (void)user;
    *file = fopen(path, "wb");
    return *file == NULL;
}

static int atvi_stdio_write(void *user, void *file, const void *data, size_t size) {
    (void)user;
    return fwrite(data, 1, size, (FILE *)file) != size;
}

static int atvi_stdio_close(void *user, void *file, int flush) {
    int bad = 0;
    (void)user;
    if (flush) {
        bad = fflush((FILE *)file) != 0;
#ifdef ATVI_POSIX
        bad |= fsync(fileno((FILE *)file)) != 0;
#endif
    }
    return (fclose((FILE *)file) != 0) | bad;
}

static int atvi_stdio_rename(void *user, const char *from, const char *to) {
    (void)user;
#ifdef _WIN32
    remove(to);                                             /* its rename does not replace */
#endif
    return rename(from, to) != 0;
}

static int atvi_stdio_remove(void *user, const char *path) { (void)user; return remove(path) != 0; }
#else
static int atvi_stdio_map(void *u, const char *p, const void **d, size_t *s) {
    (void)u; (void)p; (void)d; (void)s;
    return 1;
}
static void atvi_stdio_unmap(void *u, const void *d, size_t s) { (void)u; (void)d; (void)s; }
static int atvi_stdio_create(void *u, const char *p, void **f) { (void)u; (void)p; (void)f; return 1; }
static int atvi_stdio_write(void *u, void *f, const void *d, size_t s) { (void)u; (void)f; (void)d; (void)s; return 1; }
static int atvi_stdio_close(void *u, void *f, int flush) { (void)u; (void)f; (void)flush; return 1; }
static int atvi_stdio_rename(void *u, const char *f, const char *t) { (void)u; (void)f; (void)t; return 1; }
static int atvi_stdio_remove(void *u, const char *p) { (void)u; (void)p; return 1; }
#endif

/* code: the hook's errno, 0 where it left none. */
static atv_result atvi_io_fail(atv_ctx *ctx, const char *path, const char *done, int code) {
    return atvi_fail(ctx, ATV_ERR_IO, "%s: cannot be %s%s%s", path, done, code ? ": " : "", code ? strerror(code) : "");
}

static atv_result atvi_map(atv_ctx *ctx, const char *path, const void **data, size_t *size) {
    errno = 0;
    if (ctx->desc.io.map(ctx->desc.io.user, path, data, size) != 0) return atvi_io_fail(ctx, path, "read", errno);
    return ATV_OK;
}

static void atvi_unmap(atv_ctx *ctx, const void *data, size_t size) {
    if (data) ctx->desc.io.unmap(ctx->desc.io.user, data, size);
}

/* A file on its way: written beside its target, which only a good end replaces. */
typedef struct atvi_out { atv_ctx *ctx; const char *path; char *temporary; void *file; int failed, code; } atvi_out;

static atv_result atvi_out_error(const atvi_out *out) { return atvi_io_fail(out->ctx, out->path, "written", out->code); }

/* After a hook; the first one that fails tells why. */
static void atvi_out_result(atvi_out *out, int bad) {
    if (bad && !out->failed) out->code = errno;
    out->failed |= bad != 0;
}

static atv_result atvi_out_open(atvi_out *out, atv_ctx *ctx, const char *path) {
    size_t n = strlen(path);
    memset(out, 0, sizeof *out);
    out->ctx = ctx;
    out->path = path;
    out->temporary = (char *)atvi_alloc(ctx, n + 5);
    if (!out->temporary) return ATV_ERR_MEMORY;
    memcpy(out->temporary, path, n);
    memcpy(out->temporary + n, ".tmp", 5);
    errno = 0;
    atvi_out_result(out, ctx->desc.io.create(ctx->desc.io.user, out->temporary, &out->file));
    if (out->failed) {
        atvi_free(ctx, out->temporary);
        return atvi_out_error(out);
    }
    return ATV_OK;
}

static void atvi_out_put(atvi_out *out, const void *data, size_t size) {
    if (out->failed || size == 0) return;
    errno = 0;
    atvi_out_result(out, out->ctx->desc.io.write(out->ctx->desc.io.user, out->file, data, size));
}

/* keep = 0: something else went wrong (its error stands), the target stays as it was. */
static atv_result atvi_out_close(atvi_out *out, int keep) {
    const atv_io *io = &out->ctx->desc.io;
    errno = 0;
    atvi_out_result(out, io->close(io->user, out->file, keep && !out->failed));
    if (keep && !out->failed) {
        errno = 0;
        atvi_out_result(out, io->rename(io->user, out->temporary, out->path));
    }
    if (!keep || out->failed) io->remove(io->user, out->temporary);
    atvi_free(out->ctx, out->temporary);
    return out->failed && keep ? atvi_out_error(out) : ATV_OK;
}

static atv_result atvi_write_file(atv_ctx *ctx, const char *path, const void *data, size_t size) {
    atvi_out out;
    ATVI_TRY(atvi_out_open(&out, ctx, path));
    atvi_out_put(&out, data, size);
    return atvi_out_close(&out, 1);
}

/* dir/name, to be freed. */
static char *atvi_path(atv_ctx *ctx, const char *dir, const char *name) {
    size_t nd = strlen(dir), nn = strlen(name);
    int slash = nd > 0 && dir[nd - 1] != '/';
    char *path = (char *)atvi_alloc(ctx, nd + nn + 2);
    if (!path) return NULL;
    memcpy(path, dir, nd);
    if (slash) path[nd] = '/';
    memcpy(path + nd + (size_t)slash, name, nn + 1);
    return path;
}

/* ==== >>parallel ================================================================================================== */

/* Work is cut into numbered items; any lane may take any item, so an item's result must depend on its number alone.
   That, and nothing else, makes the bits the same at any thread count. `lane` only picks scratch memory. */
typedef void (*atvi_item_fn)(void *arg, int64_t item, int lane);

/* Many items lie in ranges. A lane begins with its own range, the same in every job of so many items, and finds in its
   caches what it left there; then it takes what the others have not got to. Few items make one range. */
#define ATVI_RANGES 16
static int atvi_ranges(int64_t n_items, int lanes) { return n_items < 4 * lanes ? 1 : ATVI_MIN(lanes, ATVI_RANGES); }
typedef struct atvi_range { int64_t next; char apart[56]; } atvi_range;

typedef struct atvi_job {
    atvi_item_fn fn;
    void *arg;
    int64_t n_items;
    int n_ranges;
    atvi_range ranges[ATVI_RANGES];
} atvi_job;

#if defined(__GNUC__) && !defined(ATV_NO_THREADS)
#  define ATVI_FETCH_ADD(p) __atomic_fetch_add((p), 1, __ATOMIC_RELAXED)
#  define ATVI_LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#else
#  define ATVI_FETCH_ADD(p) ((*(p))++)
#  define ATVI_LOAD(p) (*(p))
#endif

static void atvi_lane(void *arg, int lane) {
    atvi_job *job = (atvi_job *)arg;
    int i;
    for (i = 0; i < job->n_ranges; i++) {
        const int r = (lane + i) % job->n_ranges;
        const int64_t end = job->n_items * (r + 1) / job->n_ranges;
        int64_t *next = &job->ranges[r].next, item;
        while (ATVI_LOAD(next) < end && (item = ATVI_FETCH_ADD(next)) < end) job->fn(job->arg, item, lane);
    }
}

#ifndef ATV_NO_THREADS
/* `state` is the round (high half), whether it is open, and how many workers are inside it. A worker joins only an open
   round, under its own number; the caller is number 0, closes the round when its task returns and waits for those inside. A
   task ends when no item is left, so that of a worker that the system keeps waiting need not run, and delays nobody. What a
   worker must know of a round comes with its state: each line that another core wrote takes up to 0.3 us to come. Workers
   look for a round a few tens of microseconds long, then they sleep. */
#define ATVI_OPEN (UINT64_C(1) << 31)
#define ATVI_QUIT (UINT64_C(1) << 30)

struct atvi_pool {
    uint64_t state;
    void (*task)(void *arg, int i);
    void *arg;
    int n;
    char apart[64];
    int started;                                            /* workers */
    int sleeping;
    pthread_mutex_t mutex;
    pthread_cond_t start;
    pthread_t *threads;
    int n_threads;                                          /* without the caller */
};

/* Roughly 40 microseconds of looking. */
static int atvi_spin(uint64_t *begin, int turn) {
    ATVI_PAUSE();
#ifdef ATVI_X86
    if (turn == 0) *begin = __builtin_ia32_rdtsc();
    return turn % 8 != 7 || __builtin_ia32_rdtsc() - *begin < 100000;
#else
    (void)begin;
    return turn < 2000;
#endif
}

static void *atvi_pool_worker(void *arg) {
    atvi_pool *pool = (atvi_pool *)arg;
    const int number = 1 + ATVI_FETCH_ADD(&pool->started);
    uint64_t seen = 0, state, begin = 0;
    for (;;) {
        int turn = 0;
        state = ATVI_LOAD(&pool->state);
        while (state >> 32 == seen && !(state & ATVI_QUIT) && atvi_spin(&begin, turn++)) state = ATVI_LOAD(&pool->state);
        if (state >> 32 == seen && !(state & ATVI_QUIT)) {
            pthread_mutex_lock(&pool->mutex);
            __atomic_fetch_add(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
            while (state = __atomic_load_n(&pool->state, __ATOMIC_SEQ_CST), state >> 32 == seen && !(state & ATVI_QUIT))
                pthread_cond_wait(&pool->start, &pool->mutex);
            __atomic_fetch_sub(&pool->sleeping, 1, __ATOMIC_SEQ_CST);
            pthread_mutex_unlock(&pool->mutex);
        }
        if (state & ATVI_QUIT) return NULL;
        while (state & ATVI_OPEN)
            if (__atomic_compare_exchange_n(&pool->state, &state, state + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
                if (number < pool->n) pool->task(pool->arg, number);
                __atomic_fetch_sub(&pool->state, 1, __ATOMIC_RELEASE);
                break;
            }
        seen = state >> 32;
    }
}

/* A new state that sleepers must see. */
static void atvi_pool_wake(atvi_pool *pool, uint64_t state) {
    __atomic_store_n(&pool->state, state, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&pool->sleeping, __ATOMIC_SEQ_CST) == 0) return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->mutex);
}

static void atvi_pool_run(void *user, int n, void (*task)(void *arg, int i), void *arg) {
    atvi_pool *pool = (atvi_pool *)user;
    uint64_t round = ((ATVI_LOAD(&pool->state) >> 32) + 1) << 32, begin = 0;
    int turn = 0;
    pool->task = task;
    pool->arg = arg;
    pool->n = n;
    atvi_pool_wake(pool, round | ATVI_OPEN);
    task(arg, 0);
    __atomic_fetch_and(&pool->state, ~ATVI_OPEN, __ATOMIC_ACQ_REL);
    while (ATVI_LOAD(&pool->state) != round)
        if (!atvi_spin(&begin, turn++)) sched_yield();
}

static void atvi_pool_destroy(atv_ctx *ctx, atvi_pool *pool) {
    int i;
    if (!pool) return;
    atvi_pool_wake(pool, ATVI_QUIT);
    for (i = 0; i < pool->n_threads; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->mutex);
    atvi_free(ctx, pool->threads);
    atvi_free(ctx, pool);
}

/* n threads beside the caller; fewer when the system grants no more. */
static atvi_pool *atvi_pool_create(atv_ctx *ctx, int n) {
    atvi_pool *pool = (atvi_pool *)atvi_alloc(ctx, sizeof *pool);
    if (!pool) return NULL;
    pool->threads = (pthread_t *)atvi_alloc(ctx, (size_t)n * sizeof *pool->threads);
    if (!pool->threads) { atvi_free(ctx, pool); return NULL; }
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->start, NULL);
    while (pool->n_threads < n &&
           pthread_create(&pool->threads[pool->n_threads], NULL, atvi_pool_worker, pool) == 0) pool->n_threads++;
    return pool;
}
#endif

static void atvi_serial_for(void *user, int n, void (*task)(void *arg, int i), void *arg) {
    int i;
    (void)user;
    for (i = 0; i < n; i++) task(arg, i);
}

/* Runs every item once. Lanes are 0..n_threads-1. */
static void atvi_parallel(atv_ctx *ctx, int64_t n_items, atvi_item_fn fn, void *arg) {
    atvi_job job;
    int lanes = (int)ATVI_MIN((int64_t)ctx->desc.n_threads, n_items), r;
    job.fn = fn;
    job.arg = arg;
    job.n_items = n_items;
    job.n_ranges = atvi_ranges(n_items, lanes);
    for (r = 0; r < job.n_ranges; r++) job.ranges[r].next = n_items * r / job.n_ranges;
    if (lanes > 1) ctx->desc.parallel.parallel_for(ctx->desc.parallel.user, lanes, atvi_lane, &job);
    else if (lanes == 1) atvi_lane(&job, 0);
}

static int atvi_online_processors(void) {
#if defined(_SC_NPROCESSORS_ONLN) && !defined(ATV_NO_THREADS)
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 256 ? 256 : (int)n;
#else
    return 1;
#endif
}

/* ==== >>rng ======================================================================================================= */

ATVDEF uint64_t atv_rng_next(atv_rng *rng) {
    uint64_t z = rng->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

ATVDEF uint32_t atv_rng_below(atv_rng *rng, uint32_t n) {
    uint32_t x, limit;
    if (n == 0) return 0;
    limit = (uint32_t)(0u - n) % n;                         /* 2^32 mod n: values below it would be too frequent */
    do x = (uint32_t)(atv_rng_next(rng) >> 32); while (x < limit);
    return x % n;
}

ATVDEF double atv_rng_uniform(atv_rng *rng) { return (double)(atv_rng_next(rng) >> 11) * (1.0 / 9007199254740992.0); }

ATVDEF double atv_rng_normal(atv_rng *rng) {
    double u = 1.0 - atv_rng_uniform(rng);                  /* (0, 1] */
    double v = atv_rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

/* An independent stream for each (seed, stream). */
static atv_rng atvi_rng_stream(uint64_t seed, uint64_t stream) {
    atv_rng rng;
    rng.state = seed;
    rng.state = atv_rng_next(&rng) ^ (stream * UINT64_C(0xD1342543DE82EF95));
    atv_rng_next(&rng);
    return rng;
}

/* A tile of a matrix product: operands as the kernels' matmul has them. */
typedef struct atvi_tile {
    int64_t K, chunk, a_m, a_k, b_panel, b_k, c_m, last;    /* last: elements of the last vector that count */
    const atv_real *A, *B, *bias;
    atv_real *C;
    const char *next, *then;                                /* what to ask for meanwhile, */
    int64_t next_step, until;                               /* so many bytes on a step, and after which step `then` */
    int64_t a_pair, b_pair, c_pair;                         /* from the first product's operands to the second's */
    int add;
} atvi_tile;
typedef void (*atvi_tile_fn)(const atvi_tile *t);

/* What comes soon, to ask for: n reals from `next` on, then then_n from `then` on. */
typedef struct atvi_soon {
    const atv_real *next, *then;
    int64_t n, then_n;
} atvi_soon;

#endif /* first half of the implementation */
/* The kernels are written once. The implementation includes this file again for each instruction set, with ATVI_PASS
   naming it; then everything but the part below is skipped. */
#if defined(ATVI_PASS)

/* A vector V holds VN reals. Loads and stores need no alignment; the ..N forms touch only the first n (1..VN) elements.
   V_MAX(a, b) and V_MIN(a, b) give b when either is NaN. V_POW2(n) is 2^n for whole n from -127 (which gives 0) to 127;
   V_SCALE(a, n), where there is one, a 2^n for whole n from -126 (which gives 0) to 128.
   What is added to a product is V_FMA's: of V_ADD and V_MUL some compilers make one and some do not. */
#define ATVI_SCALAR 1
#define ATVI_AVX2   2
#define ATVI_AVX512 3
#define ATVI_NEON   4

#if ATVI_PASS == ATVI_SCALAR
/* ==== >>vec-scalar ================================================================================================ */
#  define ATVI_FN(name) atvi_##name##_scalar
#  define V              atv_real
#  define VN             1
#  define VROWS          4                                  /* rows of a matrix tile, */
#  define VCOLS          4                                  /* and its vectors a row; */
#  define VTALL          VROWS                              /* rows of one that is less wide */
#  define VWIDE          VCOLS                              /* vectors of one that is a single row high, */
#  define VPAIR          0                                  /* and of each of two at once; 0: one after the other */
#  define VSTEPS         1                                  /* steps of K that a tile's loop takes at once where it can */
#  define VONCE          0                                  /* panels' vectors of one whose B is read once; 0: no gain */
#  define V_SET(x)       (x)
#  define V_LOAD(p)      (*(p))
#  define V_LOADN(p, n)  (*(p))
#  define V_STORE(p, v)  (*(p) = (v))
#  define V_STOREN(p, v, n) (*(p) = (v))
#  define V_ADD(a, b)    ((a) + (b))
#  define V_SUB(a, b)    ((a) - (b))
#  define V_MUL(a, b)    ((a) * (b))
#  define V_DIV(a, b)    ((a) / (b))
#  define V_FMA(a, b, c) ((a) * (b) + (c))
#  define V_MAX(a, b)    ((a) > (b) ? (a) : (b))
#  define V_MIN(a, b)    ((a) < (b) ? (a) : (b))
#  define V_SQRT(a)      ((atv_real)sqrt(a))
#  define V_SUM(v)       (v)
#  define V_TOP(v)       (v)
#  define V_RINT(a)      atvi_rint_scalar(a)
#  define V_POW2(n)      atvi_pow2_scalar(n)
#  ifdef ATVI_DOUBLE
#    define V_EXP(a)     exp(a)
#  else
static float atvi_rint_scalar(float a) { return a != a ? a : (float)(int)(a < 0 ? a - 0.5f : a + 0.5f); }
static float atvi_pow2_scalar(float n) {
    uint32_t bits = n != n ? 0 : (uint32_t)((int)n + 127) << 23;
    float p;
    memcpy(&p, &bits, sizeof p);
    return p;
}
#  endif
#elif ATVI_PASS == ATVI_AVX2
/* ==== >>vec-avx2 ================================================================================================== */
#  define ATVI_FN(name) atvi_##name##_avx2
#  define V              __m256
#  define VN             8
#  define VROWS          6
#  define VCOLS          2
#  define VTALL          VROWS
#  define VWIDE          12
#  define VPAIR          6
#  define VSTEPS         4
#  define VONCE          0
#  define V_SET(x)       _mm256_set1_ps(x)
#  define V_LOAD(p)      _mm256_loadu_ps(p)
#  define V_LOADN(p, n)  _mm256_maskload_ps(p, atvi_mask_avx2(n))
#  define V_STORE(p, v)  _mm256_storeu_ps(p, v)
#  define V_STOREN(p, v, n) _mm256_maskstore_ps(p, atvi_mask_avx2(n), v)
#  define V_ADD(a, b)    _mm256_add_ps(a, b)
#  define V_SUB(a, b)    _mm256_sub_ps(a, b)
#  define V_MUL(a, b)    _mm256_mul_ps(a, b)
#  define V_DIV(a, b)    _mm256_div_ps(a, b)
#  define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
/* Added in place. Given the choice, gcc moves a tile's sums about and spills them. */
#  define V_MAC(sum, a, b) \
                             __asm__("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+x"(sum) : "x"(a), "x"(b))
#  define V_MAX(a, b)    _mm256_max_ps(a, b)
#  define V_MIN(a, b)    _mm256_min_ps(a, b)
#  define V_SQRT(a)      _mm256_sqrt_ps(a)
#  define V_SUM(v)       atvi_sum_avx2(v)
#  define V_TOP(v)       atvi_top_avx2(v)
#  define V_RINT(a)      _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#  define V_POW2(n)      _mm256_castsi256_ps(_mm256_slli_epi32( \
                             _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23))
ATVI_INLINE __m256i atvi_mask_avx2(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/* 6 rows of 8, a_m apart, to 8 of 6. */
#  define V_TURN(A, a_m, to) atvi_turn_avx2(A, a_m, to)
ATVI_INLINE void atvi_turn_avx2(const float *A, int64_t a_m, float *to) {
    const __m256 a = _mm256_loadu_ps(A), b = _mm256_loadu_ps(A + a_m), c = _mm256_loadu_ps(A + 2 * a_m);
    const __m256 d = _mm256_loadu_ps(A + 3 * a_m), e = _mm256_loadu_ps(A + 4 * a_m), f = _mm256_loadu_ps(A + 5 * a_m);
    const __m256 ab0 = _mm256_unpacklo_ps(a, b), ab2 = _mm256_unpackhi_ps(a, b), cd0 = _mm256_unpacklo_ps(c, d);
    const __m256 cd2 = _mm256_unpackhi_ps(c, d), ef0 = _mm256_unpacklo_ps(e, f), ef2 = _mm256_unpackhi_ps(e, f);
    __m256 abcd[4], ef[4];
    int i;
    abcd[0] = _mm256_shuffle_ps(ab0, cd0, 0x44); ef[0] = ef0;
    abcd[1] = _mm256_shuffle_ps(ab0, cd0, 0xEE); ef[1] = _mm256_shuffle_ps(ef0, ef0, 0xEE);
    abcd[2] = _mm256_shuffle_ps(ab2, cd2, 0x44); ef[2] = ef2;
    abcd[3] = _mm256_shuffle_ps(ab2, cd2, 0xEE); ef[3] = _mm256_shuffle_ps(ef2, ef2, 0xEE);
    ATVI_UNROLL for (i = 0; i < 4; i++) {
        _mm_storeu_ps(to + 6 * i, _mm256_castps256_ps128(abcd[i]));
        _mm_storel_pi((__m64 *)(to + 6 * i + 4), _mm256_castps256_ps128(ef[i]));
        _mm_storeu_ps(to + 6 * i + 24, _mm256_extractf128_ps(abcd[i], 1));
        _mm_storel_pi((__m64 *)(to + 6 * i + 28), _mm256_extractf128_ps(ef[i], 1));
    }
}
ATVI_INLINE float atvi_sum_avx2(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
ATVI_INLINE float atvi_top_avx2(__m256 v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
#elif ATVI_PASS == ATVI_AVX512
/* ==== >>vec-avx512 ================================================================================================ */
#  define ATVI_FN(name) atvi_##name##_avx512
#  define V              __m512
#  define VN             16
#  define VROWS          6
#  define VCOLS          4
#  define VTALL          8
#  define VWIDE          VCOLS
#  define VPAIR          VCOLS
#  define VSTEPS         1
#  define VONCE          3
#  define V_SET(x)       _mm512_set1_ps(x)
#  define V_LOAD(p)      _mm512_loadu_ps(p)
#  define V_LOADN(p, n)  _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#  define V_STORE(p, v)  _mm512_storeu_ps(p, v)
#  define V_STOREN(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1), v)
#  define V_ADD(a, b)    _mm512_add_ps(a, b)
#  define V_SUB(a, b)    _mm512_sub_ps(a, b)
#  define V_MUL(a, b)    _mm512_mul_ps(a, b)
#  define V_DIV(a, b)    _mm512_div_ps(a, b)
#  define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#  define V_MAX(a, b)    _mm512_maskz_max_ps((__mmask16)0xFFFF, a, b)
#  define V_MIN(a, b)    _mm512_maskz_min_ps((__mmask16)0xFFFF, a, b)
#  define V_SQRT(a)      _mm512_maskz_sqrt_ps((__mmask16)0xFFFF, a)
#  define V_SUM(v)       atvi_sum_avx512(v)
#  define V_TOP(v)       atvi_top_avx512(v)
#  define V_RINT(a)      _mm512_maskz_roundscale_ps((__mmask16)0xFFFF, a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#  define V_SCALE(a, n)  _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n, _mm512_set1_ps(-126), _CMP_NEQ_UQ), a, n)
/* The all-ones maskz forms above are the plain instructions: g++ 12 warns inside the plain forms' own headers. */
#  define ATVI_HALF(v, i) _mm256_castpd_ps(_mm512_maskz_extractf64x4_pd((__mmask8)0xF, _mm512_castps_pd(v), i))
ATVI_INLINE float atvi_sum_avx512(__m512 v) {
    const __m256 h = _mm256_add_ps(ATVI_HALF(v, 0), ATVI_HALF(v, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
ATVI_INLINE float atvi_top_avx512(__m512 v) {
    const __m256 h = _mm256_max_ps(ATVI_HALF(v, 0), ATVI_HALF(v, 1));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
#  undef ATVI_HALF
#elif ATVI_PASS == ATVI_NEON
/* ==== >>vec-neon ================================================================================================== */
#  define ATVI_FN(name) atvi_##name##_neon
#  define V              float32x4_t
#  define VN             4
#  define VROWS          6
#  define VCOLS          4
#  define VTALL          VROWS
#  define VWIDE          VCOLS
#  define VPAIR          VCOLS
#  define VSTEPS         1
#  define VONCE          0
#  define V_SET(x)       vdupq_n_f32(x)
#  define V_LOAD(p)      vld1q_f32(p)
#  define V_LOADN(p, n)  atvi_loadn_neon(p, n)
#  define V_STORE(p, v)  vst1q_f32(p, v)
#  define V_STOREN(p, v, n) atvi_storen_neon(p, v, n)
#  define V_ADD(a, b)    vaddq_f32(a, b)
#  define V_SUB(a, b)    vsubq_f32(a, b)
#  define V_MUL(a, b)    vmulq_f32(a, b)
#  define V_DIV(a, b)    vdivq_f32(a, b)
#  define V_FMA(a, b, c) vfmaq_f32(c, a, b)
#  define V_MAX(a, b)    atvi_max_neon(a, b)
#  define V_MIN(a, b)    atvi_min_neon(a, b)
#  define V_SQRT(a)      vsqrtq_f32(a)
#  define V_SUM(v)       vaddvq_f32(v)
#  define V_TOP(v)       vmaxvq_f32(v)
#  define V_RINT(a)      vrndnq_f32(a)
#  define V_POW2(n)      vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23))
ATVI_INLINE float32x4_t atvi_loadn_neon(const float *p, int64_t n) {
    const float32x2_t zero = vdup_n_f32(0);
    if (n == 1) return vcombine_f32(vld1_lane_f32(p, zero, 0), zero);
    if (n == 2) return vcombine_f32(vld1_f32(p), zero);
    if (n == 3) return vcombine_f32(vld1_f32(p), vld1_lane_f32(p + 2, zero, 0));
    return vld1q_f32(p);
}
ATVI_INLINE void atvi_storen_neon(float *p, float32x4_t v, int64_t n) {
    if (n == 4) vst1q_f32(p, v);
    else if (n == 1) vst1q_lane_f32(p, v, 0);
    else {
        vst1_f32(p, vget_low_f32(v));
        if (n == 3) vst1q_lane_f32(p + 2, v, 2);
    }
}
/* Compared and chosen: of a number and a NaN, fmax gives the NaN and fmaxnm the number, whichever comes first. */
ATVI_INLINE float32x4_t atvi_max_neon(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
ATVI_INLINE float32x4_t atvi_min_neon(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
#endif

/* ==== >>kernels =================================================================================================== */

#ifndef V_SCALE
#  define V_SCALE(a, n) V_MUL(V_MUL(a, V_POW2(V_SUB(n, V_SET(1)))), V_SET(2))      /* in two steps: 2^128 is no float */
#endif

#ifndef V_EXP
/* exp: 2^n e^r with |r| <= ln2/2 (n ln2 subtracted in two parts); (e^r - 1 - r) / r^2 is interpolated at 5 Chebyshev
   points, which leaves 1e-8. Within 1.5 ULP; 0 from -86.98997 down (-86.64 where subnormals are flushed, but
   with AVX-512), infinity above 88.72. */
#  define V_EXP(a) ATVI_FN(exp)(a)
ATVI_INLINE V ATVI_FN(exp)(V x) {
    V n, r, p;
    x = V_MAX(V_SET(-87.5f), V_MIN(V_SET(89.0f), x));
    n = V_RINT(V_MUL(x, V_SET(1.442695041f)));
    r = V_FMA(n, V_SET(-0.693359375f), x);
    r = V_FMA(n, V_SET(2.12194440e-4f), r);
    p = V_SET(1.392617612e-3f);
    p = V_FMA(p, r, V_SET(8.363173074e-3f));
    p = V_FMA(p, r, V_SET(4.166655466e-2f));
    p = V_FMA(p, r, V_SET(1.666657703e-1f));
    p = V_FMA(p, r, V_SET(0.5f));
    p = V_FMA(V_MUL(p, r), r, r);
    p = V_ADD(p, V_SET(1.0f));
    return V_SCALE(p, n);
}
#endif

#ifndef V_MAC
#  define V_MAC(sum, a, b) ((sum) = V_FMA(a, b, sum))
#endif

/* One step of K of a tile: its rows of A, three a pointer, times `vecs` vectors of B. */
ATVI_INLINE void ATVI_FN(step)(const int rows, const int vecs, const int part, const atv_real *const *a, int64_t a_m,
                               const atv_real *B, int64_t b_panel, int64_t last, V (*acc)[VWIDE]) {
    V b[VWIDE];
    int r, c;
    (void)last;
    ATVI_UNROLL for (c = 0; c < vecs; c++) {
        const atv_real *p = B + c * VN / ATVI_PANEL * b_panel + c * VN % ATVI_PANEL;
        b[c] = part && c == vecs - 1 ? V_LOADN(p, last) : V_LOAD(p);
    }
    ATVI_UNROLL for (r = 0; r < rows; r++) {
        V x = V_SET(a[r / 3][r % 3 * a_m]);
        ATVI_UNROLL for (c = 0; c < vecs; c++)
            if (rows == 1) acc[r][c] = V_FMA(x, b[c], acc[r][c]);   /* may load by itself: more steps under way at once */
            else V_MAC(acc[r][c], x, b[c]);
    }
}

/* One tile of C: `rows` x `vecs` vectors kept in registers over `chunk` steps of K, then added to what is in C: short
   sums, added up, round less than one long one. With part the last vector has only `last` elements; `ahead` cache lines
   from `next` on are asked for in each turn of the loop.
   With form ATVI_ANYHOW A and B lie as *t says, and a turn is a step of K. With the others B is panels and A rows
   (ATVI_IN_ROWS, K and chunk multiples of VSTEPS), or a step's elements side by side, one step's after the other's
   (ATVI_IN_STRIPS) or apart (ATVI_IN_COLUMNS), and a turn is VSTEPS steps: little is left in it but the sums and what they
   load. That counts most where the core's other hyperthread is busy, and half as many operations start in a cycle.
   ATVI_ONCE is as ATVI_ANYHOW, but asks at the pace of t->next_step and into the nearest cache.
   rows to form are constants in each of the functions below, which are not inlined: alone, they have registers enough. */
#define ATVI_ANYHOW 0
#define ATVI_IN_ROWS 1
#define ATVI_IN_STRIPS 2
#define ATVI_IN_COLUMNS 3
#define ATVI_ONCE 4
ATVI_INLINE void ATVI_FN(tile)(const int rows, const int vecs, const int part, const int ahead, const int form,
                               const atvi_tile *t) {
    const atv_real *a[(VTALL + 2) / 3], *at[(VTALL + 2) / 3];           /* three rows a pointer keep addresses short */
    const atv_real *B = t->B, *bias = t->bias;
    const char *next = t->next;
    const int64_t a_m = form == ATVI_IN_STRIPS || form == ATVI_IN_COLUMNS ? 1 : t->a_m;
    const int64_t a_k = form == ATVI_IN_STRIPS ? rows : form == ATVI_IN_ROWS ? 1 : t->a_k;
    const int64_t b_panel = t->b_panel, b_k = form == ATVI_ANYHOW || form == ATVI_ONCE ? t->b_k : ATVI_PANEL;
    const int64_t last = t->last, next_step = t->next_step;
    int64_t left = t->K, until = t->until;
    int r, c, u, add = t->add;
    (void)next;
    (void)next_step;
    (void)until;
    ATVI_UNROLL for (r = 0; r < rows; r += 3) a[r / 3] = t->A + r * a_m;
    do {
        V acc[VTALL][VWIDE];
        int64_t n = ATVI_MIN(left, t->chunk), c_m = t->c_m;
        left -= n;
        ATVI_UNROLL for (r = 0; r < rows; r++)
            ATVI_UNROLL for (c = 0; c < vecs; c++) {
                acc[r][c] = V_SET(0);
                if (rows <= VROWS && c * VN % ATVI_LINE == 0) ATVI_PREFETCH_WRITE(t->C + r * c_m + c * VN);
            }
        ATVI_FORGET(c_m);                                   /* or all addresses of C are kept over the loop */
        for (; form != ATVI_ANYHOW && form != ATVI_ONCE && n >= VSTEPS; n -= VSTEPS) {
            ATVI_UNROLL for (u = 0; u < VSTEPS; u++) {
                ATVI_UNROLL for (r = 0; r < rows; r += 3) at[r / 3] = a[r / 3] + u * a_k;
                if (u < ahead) ATVI_PREFETCH(next + u * 64);
                ATVI_FN(step)(rows, vecs, part, at, a_m, B + u * b_k, b_panel, last, acc);
            }
            ATVI_UNROLL for (r = 0; r < rows; r += 3) a[r / 3] += VSTEPS * a_k;
            B += VSTEPS * b_k;
            next += ahead * (form == ATVI_IN_STRIPS ? next_step : 64);
        }
        for (; form != ATVI_IN_ROWS && n > 0; n--) {
            ATVI_UNROLL for (u = 0; u < ahead; u++)
                if (form == ATVI_ONCE) ATVI_PREFETCH_NEAR(next + u * 64);
                else ATVI_PREFETCH(next + u * 64);
            ATVI_FN(step)(rows, vecs, part, a, a_m, B, b_panel, last, acc);
            ATVI_UNROLL for (r = 0; r < rows; r += 3) {
                a[r / 3] += a_k;
                if (rows > VROWS) ATVI_FORGET(a[r / 3]);    /* an index for each row would cost an operation for each */
            }
            B += b_k;
            next += form == ATVI_ONCE || ahead == 1 ? next_step : 64 * ahead;
            if (form == ATVI_ONCE && --until == 0) next = t->then;
        }
        ATVI_UNROLL for (r = 0; r < rows; r++)
            ATVI_UNROLL for (c = 0; c < vecs; c++) {
                atv_real *p = t->C + r * c_m + c * VN;
                V v = acc[r][c];
                if (part && c == vecs - 1) {
                    if (bias) v = V_ADD(v, V_LOADN(bias + c * VN, last));
                    if (add) v = V_ADD(v, V_LOADN(p, last));
                    V_STOREN(p, v, last);
                } else {
                    if (bias) v = V_ADD(v, V_LOAD(bias + c * VN));
                    if (add) v = V_ADD(v, V_LOAD(p));
                    V_STORE(p, v);
                }
            }
        bias = NULL;
        add = 1;
    } while (left > 0);
}

#define ATVI_TILE(rows, vecs, part, ahead, form) \
        static ATVI_ALONE void ATVI_FN(tile_##rows##_##vecs##part##ahead##form)(const atvi_tile *t) { \
            ATVI_FN(tile)(rows, vecs, part, ahead, form, t); \
        }
/* Tiles of 1 to VROWS rows. */
#define ATVI_TILES(vecs, part, ahead, form) \
        ATVI_TILE(1, vecs, part, ahead, form) ATVI_TILE(2, vecs, part, ahead, form) \
        ATVI_TILE(3, vecs, part, ahead, form) ATVI_TILE(4, vecs, part, ahead, form) \
        ATVI_TILES_MORE(vecs, part, ahead, form)
#define ATVI_NAMES(vecs, part, ahead, form) { \
        ATVI_FN(tile_1_##vecs##part##ahead##form), ATVI_FN(tile_2_##vecs##part##ahead##form), \
        ATVI_FN(tile_3_##vecs##part##ahead##form), ATVI_FN(tile_4_##vecs##part##ahead##form) \
        ATVI_NAMES_MORE(vecs, part, ahead, form) }
#if VROWS == 6
#  define ATVI_TILES_MORE(vecs, part, ahead, form) \
        ATVI_TILE(5, vecs, part, ahead, form) ATVI_TILE(6, vecs, part, ahead, form)
#  define ATVI_NAMES_MORE(vecs, part, ahead, form) \
        , ATVI_FN(tile_5_##vecs##part##ahead##form), ATVI_FN(tile_6_##vecs##part##ahead##form)
#else
#  define ATVI_TILES_MORE(vecs, part, ahead, form)
#  define ATVI_NAMES_MORE(vecs, part, ahead, form)
#endif
ATVI_TILES(1, 0, 0, 0) ATVI_TILES(2, 0, 0, 0) ATVI_TILES(1, 1, 0, 0) ATVI_TILES(2, 1, 0, 0)
#if VCOLS == 4
ATVI_TILES(3, 0, 0, 0) ATVI_TILES(4, 0, 0, 0) ATVI_TILES(3, 1, 0, 0) ATVI_TILES(4, 1, 0, 0)
ATVI_TILES(4, 0, 1, 0) ATVI_TILES(4, 0, 2, 0) ATVI_TILES(4, 0, 4, 0)
#else
ATVI_TILES(2, 0, 1, 0)
#endif
/* [whole, part of the last vector][vectors - 1][rows - 1] */
static const atvi_tile_fn ATVI_FN(tiles)[2][VCOLS][VROWS] = {
#if VCOLS == 4
    {ATVI_NAMES(1, 0, 0, 0), ATVI_NAMES(2, 0, 0, 0), ATVI_NAMES(3, 0, 0, 0), ATVI_NAMES(4, 0, 0, 0)},
    {ATVI_NAMES(1, 1, 0, 0), ATVI_NAMES(2, 1, 0, 0), ATVI_NAMES(3, 1, 0, 0), ATVI_NAMES(4, 1, 0, 0)}
#else
    {ATVI_NAMES(1, 0, 0, 0), ATVI_NAMES(2, 0, 0, 0)}, {ATVI_NAMES(1, 1, 0, 0), ATVI_NAMES(2, 1, 0, 0)}
#endif
};
/* whole ones of full width: [1, 2, 4 lines asked for][rows - 1] */
static const atvi_tile_fn ATVI_FN(tiles_ahead)[][VROWS] = {
#if VCOLS == 4
    ATVI_NAMES(4, 0, 1, 0), ATVI_NAMES(4, 0, 2, 0), ATVI_NAMES(4, 0, 4, 0)
#else
    ATVI_NAMES(2, 0, 1, 0)
#endif
};
#if VWIDE == 12
#define ATVI_WIDE(vecs, part) ATVI_TILE(1, vecs, part, 0, 0)
#define ATVI_WIDE_2(vecs, part) ATVI_TILE(1, vecs, part, 0, 0) ATVI_TILE(2, vecs, part, 0, 0)
#define ATVI_WIDE_ALL(part) \
        ATVI_WIDE_2(3, part) ATVI_WIDE_2(4, part) ATVI_WIDE_2(5, part) ATVI_WIDE_2(6, part) \
        ATVI_TILE(3, 3, part, 0, 0) ATVI_TILE(4, 3, part, 0, 0) ATVI_WIDE(7, part) ATVI_WIDE(8, part) ATVI_WIDE(9, part) \
        ATVI_WIDE(10, part) ATVI_WIDE(11, part) ATVI_WIDE(12, part)
ATVI_WIDE_ALL(0) ATVI_WIDE_ALL(1)
#undef ATVI_WIDE
#undef ATVI_WIDE_2
#define ATVI_WIDE(vecs, part) { ATVI_FN(tile_1_##vecs##part##00), NULL, NULL, NULL }
#define ATVI_WIDE_2(vecs, part) { ATVI_FN(tile_1_##vecs##part##00), ATVI_FN(tile_2_##vecs##part##00), NULL, NULL }
#undef ATVI_WIDE_ALL
#define ATVI_WIDE_ALL(part) { \
        {ATVI_FN(tile_1_3##part##00), ATVI_FN(tile_2_3##part##00), \
         ATVI_FN(tile_3_3##part##00), ATVI_FN(tile_4_3##part##00)}, \
        ATVI_WIDE_2(4, part), ATVI_WIDE_2(5, part), ATVI_WIDE_2(6, part), ATVI_WIDE(7, part), ATVI_WIDE(8, part), \
        ATVI_WIDE(9, part), ATVI_WIDE(10, part), ATVI_WIDE(11, part), ATVI_WIDE(12, part) }
/* [whole, part of the last vector][vectors - 3][rows - 1] */
static const atvi_tile_fn ATVI_FN(tiles_wide)[2][VWIDE - 2][4] = { ATVI_WIDE_ALL(0), ATVI_WIDE_ALL(1) };
ATVI_TILE(3, 3, 0, 1, 0) ATVI_TILE(4, 3, 0, 1, 0)
static const atvi_tile_fn ATVI_FN(tiles_wide_ahead)[2] = { ATVI_FN(tile_3_3010), ATVI_FN(tile_4_3010) };   /* [rows - 3] */
#undef ATVI_WIDE
#undef ATVI_WIDE_2
#undef ATVI_WIDE_ALL
#endif
#if VSTEPS > 1
#define ATVI_QUICK(ahead) \
        ATVI_TILE(3, 2, 0, ahead, 1) ATVI_TILE(4, 2, 0, ahead, 1) ATVI_TILE(5, 2, 0, ahead, 1) ATVI_TILE(6, 2, 0, ahead, 1)
ATVI_QUICK(0) ATVI_QUICK(1) ATVI_QUICK(2) ATVI_QUICK(4)
#undef ATVI_QUICK
#define ATVI_QUICK(ahead) { ATVI_FN(tile_3_20##ahead##1), ATVI_FN(tile_4_20##ahead##1), \
                            ATVI_FN(tile_5_20##ahead##1), ATVI_FN(tile_6_20##ahead##1) }
/* in rows: [0, 1, 2, 4 lines asked for in VSTEPS steps][rows - 3] */
static const atvi_tile_fn ATVI_FN(tiles_in_rows)[4][4] = {ATVI_QUICK(0), ATVI_QUICK(1), ATVI_QUICK(2), ATVI_QUICK(4)};
#undef ATVI_QUICK
ATVI_TILE(5, 2, 0, 0, 2) ATVI_TILE(6, 2, 0, 0, 2) ATVI_TILE(5, 2, 0, 1, 2) ATVI_TILE(6, 2, 0, 1, 2)
/* in strips: [0, 1 line][rows - 5] */
static const atvi_tile_fn ATVI_FN(tiles_in_strips)[2][2] = {
    {ATVI_FN(tile_5_2002), ATVI_FN(tile_6_2002)}, {ATVI_FN(tile_5_2012), ATVI_FN(tile_6_2012)}
};
ATVI_TILE(5, 2, 0, 0, 3) ATVI_TILE(6, 2, 0, 0, 3)
static const atvi_tile_fn ATVI_FN(tiles_in_columns)[2] = {ATVI_FN(tile_5_2003), ATVI_FN(tile_6_2003)};  /* [rows - 5] */
#endif
#if VTALL == 8
ATVI_TILE(6, 2, 0, 1, 0) ATVI_TILE(7, 2, 0, 1, 0) ATVI_TILE(8, 2, 0, 1, 0) ATVI_TILE(7, 2, 0, 2, 0) ATVI_TILE(8, 2, 0, 2, 0)
/* [1, 2 lines asked for][rows - 6] */
static const atvi_tile_fn ATVI_FN(tiles_tall)[2][3] = {
    {ATVI_FN(tile_6_2010), ATVI_FN(tile_7_2010), ATVI_FN(tile_8_2010)}, {NULL, ATVI_FN(tile_7_2020), ATVI_FN(tile_8_2020)}
};
#endif
#if VONCE == 3
#define ATVI_TALL(vecs, part) \
        ATVI_TILE(3, vecs, part, vecs, 4) ATVI_TILE(4, vecs, part, vecs, 4) ATVI_TILE(5, vecs, part, vecs, 4) \
        ATVI_TILE(6, vecs, part, vecs, 4) ATVI_TILE(7, vecs, part, vecs, 4) ATVI_TILE(8, vecs, part, vecs, 4)
#define ATVI_ALL(part) \
        ATVI_TALL(1, part) ATVI_TALL(2, part) ATVI_TALL(3, part) \
        ATVI_TILE(3, 4, part, 4, 4) ATVI_TILE(4, 4, part, 4, 4) ATVI_TILE(5, 4, part, 4, 4) ATVI_TILE(6, 4, part, 4, 4)
ATVI_ALL(0) ATVI_ALL(1)
#undef ATVI_TALL
#undef ATVI_ALL
#define ATVI_TALL(vecs, part) \
        ATVI_FN(tile_3_##vecs##part##vecs##4), ATVI_FN(tile_4_##vecs##part##vecs##4), \
        ATVI_FN(tile_5_##vecs##part##vecs##4), ATVI_FN(tile_6_##vecs##part##vecs##4)
#define ATVI_TALLER(vecs, part) \
        {ATVI_TALL(vecs, part), ATVI_FN(tile_7_##vecs##part##vecs##4), ATVI_FN(tile_8_##vecs##part##vecs##4)}
#define ATVI_ALL(part) \
        {ATVI_TALLER(1, part), ATVI_TALLER(2, part), ATVI_TALLER(3, part), {ATVI_TALL(4, part), NULL, NULL}}
/* whose B is read once: [whole, part of the last vector][vectors - 1][rows - 3] */
static const atvi_tile_fn ATVI_FN(tiles_once)[2][4][6] = {ATVI_ALL(0), ATVI_ALL(1)};
#undef ATVI_TALL
#undef ATVI_TALLER
#undef ATVI_ALL
#endif
#undef ATVI_TILE
#undef ATVI_TILES
#undef ATVI_TILES_MORE
#undef ATVI_NAMES
#undef ATVI_NAMES_MORE

/* C[m,n] = sum_k A[m,k] B[k,n] (+ bias[n]) (+ C[m,n] if add). A[m,k] at A + m a_m + k a_k; column n of B's row k at
   B + n/16 b_panel + n%16 + k b_k: packed panels (b_panel = 16 K, b_k = 16) and plain rows (b_panel = 16) alike. Each
   element is one sum in the order of k, cut after every `chunk`, so the bits do not depend on how M and N are split. With
   a_m = 0 A is strips, as the function below makes them.
   A tile's width of columns at a time, in tiles of nearly equal height; they ask for the columns that come next while they
   work, and the last for `next`, unless it is NULL: panels' lines as evenly as whole lines a turn allow, or all in few
   steps (over columns none); of plain rows a line each, the next tile for the next line. With next_n > 0 whole tiles of
   three rows and more ask instead for `next` and what follows it, next_n reals in even steps: what is asked for too fast
   is not brought. With next_n < 0 the last columns' tiles over strips ask for K plain rows of N from `next` on, -next_n
   apart; where a_m is 1 the first columns' tiles ask for A itself, a line of each step before it is reached. Whole tiles
   that ask for nothing else ask for M rows of A from next_a on, unless it is NULL: half of them for all of it if it lies in
   one piece, else each for a row. */
static void ATVI_FN(matmul)(int64_t M, int64_t N, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k, const atv_real *B,
                            int64_t b_panel, int64_t b_k, atv_real *C, int64_t c_m, const atv_real *bias, int add,
                            int64_t chunk, const atv_real *next, int64_t next_n, const atv_real *next_a) {
    const int64_t width = VN * VCOLS;
    const char *soon = (const char *)next;
    const int64_t next_lines = M > 2 ? next_n / ATVI_LINE : 0;
    const int64_t each = a_m == K ? 1 + 2 * M / ATVI_MAX(1, N / width * ((M + VROWS - 1) / VROWS)) : 1;
    int64_t n = 0, asked = 0, asked_a = next_a ? 0 : M;
    atvi_tile t;
    t.K = K; t.chunk = chunk; t.A = A; t.a_m = a_m; t.a_k = a_k; t.B = B; t.b_k = b_k; t.C = C; t.c_m = c_m;
    t.next_step = 64; t.bias = bias; t.add = add; t.b_panel = b_panel;
    (void)asked;
#if VTALL == 8
    /* 7, 8 and 13 to 16 rows: taller tiles read B less often, and less wide ones ask for all that the next read. */
    if ((M == 7 || M == 8 || (M >= 13 && M <= 16)) && b_k == ATVI_PANEL && a_m != 0 && next_n == 0)
        for (; n + 2 * VN <= N; n += 2 * VN) {
            int64_t m = 0, count = M > VTALL ? 2 : 1;
            t.B = B + n / ATVI_PANEL * b_panel;
            t.bias = bias ? bias + n : NULL;
            t.next = (const char *)(n + 2 * VN < N ? t.B + 2 * b_panel : next ? next : B);
            for (; count > 0; count--) {
                const int64_t rows = (M - m) / count;
                t.A = A + m * a_m;
                t.C = C + m * c_m + n;
                ATVI_FN(tiles_tall)[M <= VTALL][rows - 6](&t);
                t.next += K * 64;
                m += rows;
            }
        }
#endif
#if VWIDE > VCOLS
    /* Tiles of few rows have few sums, too few to keep the multipliers busy: wider ones. A single row waits for B: the more
       panels it reads side by side the faster they come. (Three vectors of panels would begin and end amid one.) */
    while (N - n > width && (M == 1 || M == 2 || ((M == 3 || M == 4) && b_panel == ATVI_PANEL))) {
        const int64_t left = ATVI_MIN(VN * (M == 1 ? VWIDE : M == 2 ? VWIDE / 2 : 3), N - n), vecs = (left + VN - 1) / VN;
        t.last = left - (vecs - 1) * VN;
        t.B = B + n / ATVI_PANEL * b_panel + n % ATVI_PANEL;
        t.C = C + n;
        t.bias = bias ? bias + n : NULL;
        if (a_m == 0) { t.a_m = 1; t.a_k = M; }
        if (next_lines > 0 && left % VN == 0) {
            t.next_step = ATVI_MIN(32, next_lines * 64 / (N / left * K));
            t.next = soon;
            soon += K * t.next_step;
            ATVI_FN(tiles_wide_ahead)[M - 3](&t);
        } else ATVI_FN(tiles_wide)[left % VN != 0][vecs - 3][M - 1](&t);
        n += left;
    }
#endif
    for (; n < N; n += width) {
        const int64_t left = ATVI_MIN(width, N - n), vecs = (left + VN - 1) / VN;
        const atvi_tile_fn *tiles = ATVI_FN(tiles)[left % VN != 0][vecs - 1];
        int64_t m = 0, count, lines = left == width && b_k == ATVI_PANEL ? width * K / ATVI_LINE : 0;
        const atv_real *next_rows = n + 2 * width <= N ? B + n / ATVI_PANEL * b_panel + width : next_n > 0 ? NULL : next;
        int64_t row_lines = b_k != ATVI_PANEL && left == width && next_rows ? width / ATVI_LINE : 0;
        const int far = next_n < 0 && a_m == 1 && n == 0 && left == width;
        t.last = left - (vecs - 1) * VN;
        t.B = B + n / ATVI_PANEL * b_panel + n % ATVI_PANEL;
        t.bias = bias ? bias + n : NULL;
        t.next = (const char *)(n + 2 * width <= N ? B + (n + width) / ATVI_PANEL * b_panel : next ? next : B);
        t.next_step = 64;
        count = (M + VROWS - 1) / VROWS;
        if (next_lines > 0 && left == width) {
            lines = ATVI_MIN(next_lines / (N / width), K * count * ATVI_MAX(1, width / ATVI_LINE));
            row_lines = 0;
            t.next = soon;
            t.next_step = ATVI_MIN(64, lines * 64 / (K * count));
            soon += lines * 64;
        }
        for (; count > 0; count--) {
            const int64_t rows = (M - m) / count;
            t.A = A + m * (a_m ? a_m : K);
            t.C = C + m * c_m + n;
            if (a_m == 0) { t.a_m = 1; t.a_k = rows; }
#if VSTEPS > 1
            if (left == width && b_k == ATVI_PANEL &&
                (a_m == 0 ? rows >= 5 : rows >= 3 && a_k == 1 && K % VSTEPS == 0 && chunk % VSTEPS == 0)) {
                const int64_t turns = K / VSTEPS;
                int many = lines <= 0 ? 0 : 1 + (lines > (2 * count - 1) * turns) + (lines > (3 * count - 1) * turns);
                if (a_m == 0) many = ATVI_MIN(many, 1);
                if (next_n < 0) {
                    many = n + width >= N && asked < N / ATVI_LINE * VSTEPS;
                    t.next = (const char *)(next + asked / VSTEPS * ATVI_LINE - asked % VSTEPS * turns * next_n);
                    t.next_step = -next_n * (int64_t)sizeof *next;
                    asked += many;
                }
                (a_m == 0 ? ATVI_FN(tiles_in_strips)[many][rows - 5] : ATVI_FN(tiles_in_rows)[many][rows - 3])(&t);
                t.next += (turns << many) / 2 * 64;
                lines -= (turns << many) / 2;
            } else if (left == width && b_k == ATVI_PANEL && a_m == 1 && rows >= 5) ATVI_FN(tiles_in_columns)[rows - 5](&t);
            else
#endif
            if (far && (m == 0 || (m + rows - 1) / ATVI_LINE != (m - 1) / ATVI_LINE)) {
                t.next = (const char *)(t.A + rows - 1 + ATVI_LINE);
                t.next_step = a_k * (int64_t)sizeof(atv_real);
                ATVI_FN(tiles_ahead)[0][rows - 1](&t);
            } else if (lines > 0) {
                const int many = t.next_step < 64 ? 0 : (lines > K * count) + (lines > 2 * K * count);
                ATVI_FN(tiles_ahead)[many][rows - 1](&t);
                t.next += t.next_step * K << many;
                if (t.next_step == 64) lines -= K << many;
            } else if (row_lines > 0) {
                t.next = (const char *)(next_rows + --row_lines * ATVI_LINE);
                t.next_step = b_k * (int64_t)sizeof(atv_real);
                ATVI_FN(tiles_ahead)[0][rows - 1](&t);
            } else if (asked_a < M && left == width) {
                t.next = (const char *)(next_a + asked_a * a_m);
                t.next_step = each * (int64_t)sizeof *next_a;
                asked_a += each;
                ATVI_FN(tiles_ahead)[0][rows - 1](&t);
            } else tiles[rows - 1](&t);
            m += rows;
        }
    }
}

/* As matmul, with the same bits, for 3 rows and more and a B that comes from memory. *soon is asked for in even steps into
   the nearest cache: what is asked for too fast is not brought, and what lies far ahead is gone again when it is needed.
   VONCE panels side by side make sums enough, and no more streams than needed. Plain rows of more columns than a tile's
   are read in several runs, and each run asks for its own columns. */
static void ATVI_FN(matmul_once)(int64_t M, int64_t N, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k,
                                 const atv_real *B, int64_t b_panel, int64_t b_k, atv_real *C, int64_t c_m, int64_t chunk,
                                 const atvi_soon *soon) {
    int64_t n = 0;
#if VONCE > 0
    const int plain = b_panel == ATVI_PANEL;
    const int64_t width = plain ? VN * VCOLS : VN * VONCE, runs = plain ? 1 : N / width, real = sizeof *B;
    const int64_t first = soon->n * real, step = runs ? (first + soon->then_n * real) / (runs * K) : 0;
    int64_t asked = 0;
    atvi_tile t;
    t.K = K; t.chunk = chunk; t.a_m = a_m; t.a_k = a_k; t.b_panel = b_panel; t.b_k = b_k; t.c_m = c_m; t.bias = NULL;
    t.add = 0; t.then = (const char *)soon->then;
    for (; plain ? n < N : n + width <= N; n += width) {
        const int64_t left = ATVI_MIN(width, N - n), vecs = (left + VN - 1) / VN, most = vecs > 3 ? VROWS : VTALL;
        int64_t m = 0, count = (M + most - 1) / most;
        t.last = left - (vecs - 1) * VN;
        t.B = B + n / ATVI_PANEL * b_panel;
        t.next_step = ATVI_MIN(step, (plain ? N * real + 63 : width * real) / 64 * 64);
        t.next = asked < first ? (const char *)soon->next + asked : t.then + (asked - first);
        t.until = asked < first && t.next_step > 0 ? (first - asked + t.next_step - 1) / t.next_step : -1;
        asked += plain ? width * real : K * t.next_step;
        for (; count > 0; count--) {
            const int64_t rows = (M - m) / count;
            t.A = A + m * a_m;
            t.C = C + m * c_m + n;
            ATVI_FN(tiles_once)[left % VN != 0][vecs - 1][rows - 3](&t);
            t.next = (const char *)t.B;                     /* the other rows find it there */
            t.next_step = 0;
            t.until = -1;
            m += rows;
        }
    }
#endif
    (void)soon;
    if (n < N) ATVI_FN(matmul)(M, N - n, K, A, a_m, a_k, B + n / ATVI_PANEL * b_panel, b_panel, b_k, C + n, c_m, NULL, 0,
                               chunk, NULL, 0, NULL);
}

#if VPAIR > 0
/* Sums [product][row][vector] to C, or added to what is there. */
ATVI_INLINE void ATVI_FN(pair_store)(const int rows, const int vecs, const int part, int add, const atvi_tile *t,
                                     V (*sums)[2][VWIDE]) {
    int i, r, c;
    ATVI_UNROLL for (i = 0; i < 2; i++)
        ATVI_UNROLL for (r = 0; r < rows; r++)
            ATVI_UNROLL for (c = 0; c < vecs; c++) {
                atv_real *p = t->C + i * t->c_pair + r * t->c_m + c * VN;
                V v = sums[i][r][c];
                if (part && c == vecs - 1) V_STOREN(p, add ? V_ADD(v, V_LOADN(p, t->last)) : v, t->last);
                else V_STORE(p, add ? V_ADD(v, V_LOAD(p)) : v);
            }
}

/* Tiles of two products, step by step. Where next_step is not 0, a step asks for what lies so many bytes on. */
ATVI_INLINE void ATVI_FN(pair)(const int rows, const int vecs, const int part, const atvi_tile *t) {
    const atv_real *A = t->A, *B = t->B;
    const int64_t a_m = t->a_m, b_panel = t->b_panel, last = t->last, soon = t->next_step;
    int64_t left = t->K;
    int i, r, c, add = 0;
    do {
        V acc[2][2][VWIDE];
        int64_t n = ATVI_MIN(left, t->chunk);
        left -= n;
        ATVI_UNROLL for (i = 0; i < 2; i++)
            ATVI_UNROLL for (r = 0; r < rows; r++)
                ATVI_UNROLL for (c = 0; c < vecs; c++) acc[i][r][c] = V_SET(0);
        for (; soon && n > 0; n--, A += t->a_k, B += t->b_k)
            ATVI_UNROLL for (i = 0; i < 2; i++) {
                const atv_real *a = A + i * t->a_pair, *b = B + i * t->b_pair;
                ATVI_UNROLL for (c = 0; c < vecs; c += ATVI_MAX(1, ATVI_LINE / VN))
                    ATVI_PREFETCH((const char *)(b + c * VN / ATVI_PANEL * b_panel) + soon);
                ATVI_FN(step)(rows, vecs, part, &a, a_m, b, b_panel, last, acc[i]);
            }
        for (; n > 0; n--, A += t->a_k, B += t->b_k)
            ATVI_UNROLL for (i = 0; i < 2; i++) {
                const atv_real *a = A + i * t->a_pair;
                ATVI_FN(step)(rows, vecs, part, &a, a_m, B + i * t->b_pair, b_panel, last, acc[i]);
            }
        ATVI_FN(pair_store)(rows, vecs, part, add, t, acc);
        add = 1;
    } while (left > 0);
}

#if VPAIR == 6
/* Two rows of two products, too wide for the registers: the rows take turns of a few steps, the second over what is near by
   then, and B comes from memory whole and in order. */
ATVI_INLINE void ATVI_FN(pair_in_turns)(const int vecs, const int part, const atvi_tile *t) {
    const atv_real *A = t->A, *B = t->B;
    const int64_t a_k = t->a_k, b_k = t->b_k, b_pair = t->b_pair, b_panel = t->b_panel, last = t->last;
    int64_t left = t->K, steps, s;
    int i, r, c, add = 0;
    do {
        V sum[2][2][VWIDE];
        int64_t n = ATVI_MIN(left, t->chunk);
        left -= n;
        for (i = 0; i < 2; i++)
            for (r = 0; r < 2; r++)
                for (c = 0; c < vecs; c++) sum[i][r][c] = V_SET(0);
        for (; n > 0; n -= steps, A += steps * a_k, B += steps * b_k) {
            steps = ATVI_MIN(n, 32);
            for (r = 0; r < 2; r++) {
                const atv_real *a[2], *b = B;
                V acc[2][VWIDE];
                ATVI_UNROLL for (i = 0; i < 2; i++) {
                    a[i] = A + r * t->a_m + i * t->a_pair;
                    ATVI_UNROLL for (c = 0; c < vecs; c++) acc[i][c] = sum[i][r][c];
                }
                for (s = 0; s < steps; s++, a[0] += a_k, a[1] += a_k, b += b_k)
                    ATVI_UNROLL for (i = 0; i < 2; i++)
                        ATVI_FN(step)(1, vecs, part, a + i, 0, b + i * b_pair, b_panel, last, acc + i);
                ATVI_UNROLL for (i = 0; i < 2; i++)
                    ATVI_UNROLL for (c = 0; c < vecs; c++) sum[i][r][c] = acc[i][c];
            }
        }
        ATVI_FN(pair_store)(2, vecs, part, add, t, sum);
        add = 1;
    } while (left > 0);
}
#endif

#define ATVI_PAIR(rows, vecs, part) \
        static ATVI_ALONE void ATVI_FN(pair_##rows##_##vecs##part)(const atvi_tile *t) { \
            ATVI_FN(pair)(rows, vecs, part, t); \
        }
#define ATVI_TURNS(vecs, part) \
        static ATVI_ALONE void ATVI_FN(pair_2_##vecs##part)(const atvi_tile *t) { \
            ATVI_FN(pair_in_turns)(vecs, part, t); \
        }
#define ATVI_PAIRS(part) \
        ATVI_PAIR(1, 1, part) ATVI_PAIR(1, 2, part) ATVI_PAIR(1, 3, part) ATVI_PAIR(1, 4, part) ATVI_PAIRS_MORE(part) \
        ATVI_PAIR(2, 1, part) ATVI_PAIR(2, 2, part) ATVI_PAIR(2, 3, part)
#define ATVI_NAMES(part) { \
        {ATVI_FN(pair_1_1##part), ATVI_FN(pair_1_2##part), ATVI_FN(pair_1_3##part), \
         ATVI_FN(pair_1_4##part) ATVI_NAMES_MORE(1, part)}, \
        {ATVI_FN(pair_2_1##part), ATVI_FN(pair_2_2##part), ATVI_FN(pair_2_3##part), \
         ATVI_FN(pair_2_4##part) ATVI_NAMES_MORE(2, part)} }
#if VPAIR == 6
#  define ATVI_PAIRS_MORE(part) \
        ATVI_PAIR(1, 5, part) ATVI_PAIR(1, 6, part) ATVI_TURNS(4, part) ATVI_TURNS(5, part) ATVI_TURNS(6, part)
#  define ATVI_NAMES_MORE(rows, part) , ATVI_FN(pair_##rows##_5##part), ATVI_FN(pair_##rows##_6##part)
#else
#  define ATVI_PAIRS_MORE(part) ATVI_PAIR(2, 4, part)
#  define ATVI_NAMES_MORE(rows, part)
#endif
ATVI_PAIRS(0) ATVI_PAIRS(1)
/* [whole, part of the last vector][rows - 1][vectors - 1] */
static const atvi_tile_fn ATVI_FN(pairs)[2][2][VPAIR] = { ATVI_NAMES(0), ATVI_NAMES(1) };
#undef ATVI_PAIR
#undef ATVI_TURNS
#undef ATVI_PAIRS
#undef ATVI_PAIRS_MORE
#undef ATVI_NAMES
#undef ATVI_NAMES_MORE
#endif

/* Two products of one shape, as matmul has them, with the same bits; the second's operands lie a_pair, b_pair and c_pair
   behind the first's. One or two rows take their steps together: a core gets more from memory in two long streams than in
   one. Short steps, or short runs of them, bring few lines at once: they ask for what lies 4 KB on. */
static void ATVI_FN(matmul_pair)(int64_t M, int64_t N, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k,
                                 int64_t a_pair, const atv_real *B, int64_t b_panel, int64_t b_k, int64_t b_pair,
                                 atv_real *C, int64_t c_m, int64_t c_pair, int64_t chunk) {
#if VPAIR > 0
    if (M == 1 || M == 2) {
        const int64_t most = b_k == ATVI_PANEL && VN < ATVI_PANEL ? ATVI_PANEL : VN * VPAIR;
        int64_t n;
        atvi_tile t;
        t.K = K; t.chunk = chunk; t.A = A; t.a_m = a_m; t.a_k = a_k; t.b_panel = b_panel; t.b_k = b_k; t.c_m = c_m;
        t.a_pair = a_pair; t.b_pair = b_pair; t.c_pair = c_pair;
        t.next_step = ATVI_MIN(N, K) > ATVI_PANEL ? 0 : 4096;
        for (n = 0; n < N; n += most) {
            const int64_t left = ATVI_MIN(most, N - n), vecs = (left + VN - 1) / VN;
            t.last = left - (vecs - 1) * VN;
            t.B = B + n / ATVI_PANEL * b_panel + n % ATVI_PANEL;
            t.C = C + n;
            ATVI_FN(pairs)[left % VN != 0][M - 1][vecs - 1](&t);
        }
        return;
    }
#endif
    ATVI_FN(matmul)(M, N, K, A, a_m, a_k, B, b_panel, b_k, C, c_m, NULL, 0, chunk, NULL, 0, NULL);
    ATVI_FN(matmul)(M, N, K, A + a_pair, a_m, a_k, B + b_pair, b_panel, b_k, C + c_pair, c_m, NULL, 0, chunk,
                    NULL, 0, NULL);
}

/* Rows of A, as matmul has them, to strips for each of its tiles: a step's elements side by side, step after step. Columns
   are taken 8 at a time, while their lines, which several strips share, are near. The next strip's rows, or the next 8
   columns, are asked for meanwhile: such short runs are over before the processor sees where they lead. */
static void ATVI_FN(strips)(int64_t M, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k, atv_real *to) {
    const int64_t most = a_k == 1 ? K : 8;
    int64_t from, m, count, k, r;
    for (from = 0; from < K; from += most)
        for (m = 0, count = (M + VROWS - 1) / VROWS; count > 0; count--) {
            const int64_t rows = (M - m) / count, end = ATVI_MIN(K, from + most);
            const atv_real *a = A + m * a_m + from * a_k;
            atv_real *strip = to + m * K + from * rows;
            k = from;
#ifdef V_TURN
            for (; rows == VROWS && a_k == 1 && k + VN <= end; k += VN, a += VN, strip += VROWS * VN) {
                for (r = 0; r < VROWS && k % ATVI_LINE == 0; r++) ATVI_PREFETCH(a + (VROWS + r) * a_m);
                V_TURN(a, a_m, strip);
            }
#endif
            for (; rows == VROWS && a_m == 1 && k < end; k++, a += a_k, strip += VROWS) {
                ATVI_PREFETCH(a + 8 * a_k);
                memcpy(strip, a, VROWS * sizeof *strip);
            }
            for (; k < end; k++, a += a_k, strip += rows)
                for (r = 0; r < rows; r++) strip[r] = a[r * a_m];
            m += rows;
        }
}

/* Rows of `from`, n wide and `stride` apart, to panels: to[p panel + row 16 + c] = from[row stride + 16 p + c], zeros
   past n. Asks for 8 rows ahead. */
static void ATVI_FN(panels)(int64_t rows, int64_t n, const atv_real *from, int64_t stride, atv_real *to, int64_t panel) {
    int64_t row, c, i;
    for (row = 0; row < rows; row++, from += stride, to += ATVI_PANEL) {
        for (c = 0; c + ATVI_PANEL <= n; c += ATVI_PANEL) ATVI_PREFETCH(from + 8 * stride + c);
        for (c = 0; c + ATVI_PANEL <= n; c += ATVI_PANEL)
            for (i = 0; i < ATVI_PANEL; i += VN) V_STORE(to + c / ATVI_PANEL * panel + i, V_LOAD(from + c + i));
        for (i = 0; c < n && i < ATVI_PANEL; i++) to[c / ATVI_PANEL * panel + i] = c + i < n ? from[c + i] : 0;
    }
}

/* Runs `body` over 0..n-1 in vectors; LOAD and STORE take care of the last, partial one. */
#define ATVI_EACH(n, body) do { \
        int64_t i = 0; \
        for (; i + VN <= (n); i += VN) { body(V_LOAD, V_STORE) } \
        if (VN > 1 && i < (n)) { const int64_t last = (n) - i; (void)last; body(ATVI_LOADN, ATVI_STOREN) } \
    } while (0)
#define ATVI_LOADN(p) V_LOADN(p, last)
#define ATVI_STOREN(p, v) V_STOREN(p, v, last)

/* y += x */
static void ATVI_FN(add)(int64_t n, atv_real *y, const atv_real *x) {
#define ATVI_BODY(LOAD, STORE) STORE(y + i, V_ADD(LOAD(y + i), LOAD(x + i)));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
}

static atv_real ATVI_FN(dot)(int64_t n, const atv_real *x, const atv_real *y) {
    V sum = V_SET(0);
#define ATVI_BODY(LOAD, STORE) sum = V_FMA(LOAD(x + i), LOAD(y + i), sum);
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
    return V_SUM(sum);
}

/* LayerNorm (Ba et al. 2016) of one row: out = (x - mean) rstd w + b. */
static void ATVI_FN(norm)(int64_t n, const atv_real *x, const atv_real *w, const atv_real *b, atv_real eps, atv_real *out,
                          atv_real *mean, atv_real *rstd) {
    V sum = V_SET(0), vm, vr;
    atv_real m, r;
#define ATVI_BODY(LOAD, STORE) sum = V_ADD(sum, LOAD(x + i));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
    m = V_SUM(sum) / (atv_real)n;
    vm = V_SET(m);
#define ATVI_BODY(LOAD, STORE) V d = V_SUB(LOAD(x + i), vm); STORE(out + i, d);
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
    r = ATVI_FN(dot)(n, out, out) / (atv_real)n;
    r = 1 / (atv_real)sqrt(r + eps);
    vr = V_SET(r);
#define ATVI_BODY(LOAD, STORE) STORE(out + i, V_FMA(V_MUL(LOAD(out + i), vr), LOAD(w + i), LOAD(b + i)));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
    *mean = m;
    *rstd = r;
}

/* dx += gradient of one row: with y = (x - mean) rstd and g = dout w: rstd (g - mean(g) - y mean(g y)). */
static void ATVI_FN(norm_back)(int64_t n, const atv_real *x, const atv_real *w, atv_real mean, atv_real rstd,
                               const atv_real *dout, atv_real *dx) {
    V sum_g = V_SET(0), sum_gy = V_SET(0), vm = V_SET(mean), vr = V_SET(rstd), minus_mg, minus_mgy;
#define ATVI_BODY(LOAD, STORE) \
        V d = LOAD(dout + i), s = LOAD(w + i); \
        V y = V_MUL(V_SUB(LOAD(x + i), vm), vr); \
        sum_g = V_FMA(d, s, sum_g); \
        sum_gy = V_FMA(V_MUL(d, s), y, sum_gy);
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
    minus_mg = V_SET(-V_SUM(sum_g) / (atv_real)n);
    minus_mgy = V_SET(-V_SUM(sum_gy) / (atv_real)n);
#define ATVI_BODY(LOAD, STORE) \
        V d = LOAD(dout + i), s = LOAD(w + i); \
        V y = V_MUL(V_SUB(LOAD(x + i), vm), vr); \
        STORE(dx + i, V_FMA(vr, V_FMA(y, minus_mgy, V_FMA(d, s, minus_mg)), LOAD(dx + i)));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
}

/* dw += sum over rows of dout (x - mean) rstd, db += sum of dout, for n columns; rows are `stride` apart. */
static void ATVI_FN(norm_back_params)(int64_t rows, int64_t n, int64_t stride, const atv_real *x, const atv_real *mean,
                                      const atv_real *rstd, const atv_real *dout, atv_real *dw, atv_real *db) {
    int64_t t;
    for (t = 0; t < rows; t++, x += stride, dout += stride) {
        V vm = V_SET(mean[t]), vr = V_SET(rstd[t]);
#define ATVI_BODY(LOAD, STORE) \
        V d = LOAD(dout + i); \
        STORE(dw + i, V_FMA(d, V_MUL(V_SUB(LOAD(x + i), vm), vr), LOAD(dw + i))); \
        STORE(db + i, V_ADD(d, LOAD(db + i)));
        ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
    }
}

/* The largest of scale x. */
static atv_real ATVI_FN(largest)(int64_t n, const atv_real *x, atv_real scale) {
    V vs = V_SET(scale), top = V_SET(-(atv_real)3e38);
    atv_real m;
    int64_t i;
    for (i = 0; i + VN <= n; i += VN) top = V_MAX(top, V_MUL(vs, V_LOAD(x + i)));
    m = V_TOP(top);
    for (; i < n; i++) m = ATVI_MAX(m, scale * x[i]);
    return m;
}

/* log sum exp of x */
static double ATVI_FN(logsumexp)(int64_t n, const atv_real *x) {
    atv_real m = ATVI_FN(largest)(n, x, 1);
    V top = V_SET(m), sum = V_SET(0);
    int64_t i;
    for (i = 0; i + VN <= n; i += VN) sum = V_ADD(sum, V_EXP(V_SUB(V_LOAD(x + i), top)));
    if (VN > 1 && i < n) {
        atv_real rest[VN];
        int64_t j;
        V_STORE(rest, V_EXP(V_SUB(V_LOADN(x + i, n - i), top)));
        for (j = n - i; j < VN; j++) rest[j] = 0;
        sum = V_ADD(sum, V_LOAD(rest));
    }
    return (double)m + log((double)V_SUM(sum));
}

/* x = softmax(scale x); returns log sum exp of scale x. Meanwhile next_n reals are asked for, from `next` on. */
static double ATVI_FN(softmax)(int64_t n, atv_real *x, atv_real scale, const atv_real *next, int64_t next_n) {
    const char *soon = (const char *)next;
    const int64_t lines = (next_n / ATVI_MAX(1, n / VN) + ATVI_LINE / 2) / ATVI_LINE;  /* for each vector */
    atv_real m = ATVI_FN(largest)(n, x, scale), total;
    V vs = V_SET(scale), top = V_SET(-m), sum = V_SET(0), part;
    int64_t t, ask;
    for (t = 0; t + VN <= n; t += VN) {
        V e = V_EXP(V_FMA(vs, V_LOAD(x + t), top));
        for (ask = 0; ask < lines; ask++, soon += 64) ATVI_PREFETCH(soon);
        V_STORE(x + t, e);
        sum = V_ADD(sum, e);
    }
    total = V_SUM(sum);
    if (VN > 1 && t < n) {
        V_STOREN(x + t, V_EXP(V_FMA(vs, V_LOADN(x + t, n - t), top)), n - t);
        for (; t < n; t++) total += x[t];
    }
    part = V_SET(1 / total);
#define ATVI_BODY(LOAD, STORE) STORE(x + i, V_MUL(LOAD(x + i), part));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
    return (double)m + log((double)total);
}

/* x = exp(scale x - shift) */
static void ATVI_FN(exp_shift)(int64_t n, atv_real *x, atv_real scale, atv_real shift) {
    V vs = V_SET(scale), vh = V_SET(-shift);
#define ATVI_BODY(LOAD, STORE) V e = V_EXP(V_FMA(vs, LOAD(x + i), vh)); STORE(x + i, e);
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
}

/* Softmax's backward: dp = scale p (dp - delta), delta = sum p dp. */
static void ATVI_FN(softmax_back)(int64_t n, const atv_real *p, atv_real *dp, atv_real scale, atv_real delta) {
    V vs = V_SET(scale), vd = V_SET(delta);
#define ATVI_BODY(LOAD, STORE) STORE(dp + i, V_MUL(V_MUL(vs, LOAD(p + i)), V_SUB(LOAD(dp + i), vd)));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
}

/* GELU, tanh form (Hendrycks and Gimpel 2016): x/2 (1 + tanh u) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3). */
#define ATVI_GELU_U2 ((atv_real)1.5957691216057308)         /* 2 sqrt(2/pi) */
#define ATVI_GELU_CUBE ((atv_real)0.044715)
static void ATVI_FN(gelu)(int64_t n, const atv_real *x, atv_real *out) {
    V one = V_SET(1), c = V_SET(-ATVI_GELU_U2), cube = V_SET(ATVI_GELU_CUBE);
#define ATVI_BODY(LOAD, STORE) \
        V a = LOAD(x + i); \
        V u = V_MUL(V_MUL(c, a), V_FMA(V_MUL(cube, a), a, one)); \
        STORE(out + i, V_DIV(a, V_ADD(one, V_EXP(u))));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
}

/* d = d gelu'(x): with e = exp(-2u), s = 1 / (1 + e), gelu' = s + x s (1 - s) (2u)', and 1 - s = s e loses no digits.
   Beyond 9.9 the derivative is 0 or 1, and there e stays finite. */
static void ATVI_FN(gelu_back)(int64_t n, const atv_real *x, atv_real *d) {
    V one = V_SET(1), c = V_SET(ATVI_GELU_U2), minus = V_SET(-ATVI_GELU_U2), low = V_SET((atv_real)-9.9),
      high = V_SET((atv_real)9.9), cube = V_SET(ATVI_GELU_CUBE), cube3 = V_SET(3 * ATVI_GELU_CUBE);
#define ATVI_BODY(LOAD, STORE) \
        V a = V_MAX(low, V_MIN(high, LOAD(x + i))); \
        V a2 = V_MUL(a, a); \
        V e = V_EXP(V_MUL(V_MUL(minus, a), V_FMA(cube, a2, one))); \
        V s = V_DIV(one, V_ADD(one, e)); \
        V du = V_MUL(c, V_FMA(cube3, a2, one)); \
        STORE(d + i, V_MUL(LOAD(d + i), V_FMA(V_MUL(V_MUL(V_MUL(a, du), s), e), s, s)));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
}

/* AdamW of one stretch of parameters; g is used as g times g_scale. */
static void ATVI_FN(adamw)(int64_t n, atv_real *w, const atv_real *g, atv_real *m, atv_real *v, const atvi_adamw *o) {
    V gs = V_SET(o->g_scale), b1 = V_SET(o->beta1), c1 = V_SET(o->one_minus_beta1),
      b2 = V_SET(o->beta2), c2 = V_SET(o->one_minus_beta2);
    V keep = V_SET(o->keep), step = V_SET(-o->step), rs = V_SET(o->sqrt_scale), eps = V_SET(o->epsilon);
#define ATVI_BODY(LOAD, STORE) \
        V gi = V_MUL(LOAD(g + i), gs); \
        V mi = V_FMA(b1, LOAD(m + i), V_MUL(c1, gi)); \
        V vi = V_FMA(b2, LOAD(v + i), V_MUL(V_MUL(c2, gi), gi)); \
        V den = V_FMA(V_SQRT(vi), rs, eps); \
        STORE(m + i, mi); \
        STORE(v + i, vi); \
        STORE(w + i, V_FMA(step, V_DIV(mi, den), V_MUL(keep, LOAD(w + i))));
    ATVI_EACH(n, ATVI_BODY);
#undef ATVI_BODY
}

static const atvi_kernels ATVI_FN(kernels) = {
    VN * VCOLS, VN * VONCE, VSTEPS > 1, ATVI_FN(matmul), ATVI_FN(matmul_once), ATVI_FN(matmul_pair), ATVI_FN(strips),
    ATVI_FN(panels), ATVI_FN(add), ATVI_FN(dot), ATVI_FN(norm), ATVI_FN(norm_back), ATVI_FN(norm_back_params),
    ATVI_FN(logsumexp), ATVI_FN(softmax), ATVI_FN(exp_shift), ATVI_FN(softmax_back), ATVI_FN(gelu), ATVI_FN(gelu_back),
    ATVI_FN(adamw),
};

#undef ATVI_FN
#undef ATVI_EACH
#undef ATVI_LOADN
#undef ATVI_STOREN
#undef ATVI_GELU_U2
#undef ATVI_GELU_CUBE
#undef V
#undef VN
#undef VROWS
#undef VTALL
#undef VWIDE
#undef VPAIR
#undef VSTEPS
#undef VONCE
#undef VCOLS
#undef V_SET
#undef V_LOAD
#undef V_LOADN
#undef V_STORE
#undef V_STOREN
#undef V_ADD
#undef V_SUB
#undef V_MUL
#undef V_DIV
#undef V_FMA
#undef V_MAC
#undef V_TURN
#undef ATVI_ANYHOW
#undef ATVI_IN_ROWS
#undef ATVI_IN_STRIPS
#undef V_MAX
#undef V_MIN
#undef V_SQRT
#undef V_SUM
#undef V_TOP
#undef V_RINT
#undef V_POW2
#undef V_SCALE
#undef V_EXP
#undef ATVI_SCALAR
#undef ATVI_AVX2
#undef ATVI_AVX512
#undef ATVI_NEON
#endif /* ATVI_PASS */
#if defined(ATVI_IMPLEMENTED) && !defined(ATVI_PASS) && !defined(ATVI_SECOND_HALF)
#define ATVI_SECOND_HALF

/* ==== >>dispatch ================================================================================================== */

/* One step of AdamW in numbers. */
typedef struct atvi_adamw {
    atv_real g_scale, beta1, one_minus_beta1, beta2, one_minus_beta2;
    atv_real keep;                                          /* 1 - learning rate x decay */
    atv_real step;                                          /* learning rate / (1 - beta1^t) */
    atv_real sqrt_scale;                                    /* 1 / sqrt(1 - beta2^t) */
    atv_real epsilon;
} atvi_adamw;

struct atvi_kernels {
    int64_t width;                                          /* columns of a tile */
    int64_t once;                                           /* columns of panels in matmul_once; 0: matmul is as fast */
    int copies_a;                                           /* into strips: it pays where a tile is narrow */
    void (*matmul)(int64_t M, int64_t N, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k, const atv_real *B,
                   int64_t b_panel, int64_t b_k, atv_real *C, int64_t c_m, const atv_real *bias, int add, int64_t chunk,
                   const atv_real *next, int64_t next_n, const atv_real *next_a);
    void (*matmul_once)(int64_t M, int64_t N, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k, const atv_real *B,
                        int64_t b_panel, int64_t b_k, atv_real *C, int64_t c_m, int64_t chunk, const atvi_soon *soon);
    void (*matmul_pair)(int64_t M, int64_t N, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k, int64_t a_pair,
                        const atv_real *B, int64_t b_panel, int64_t b_k, int64_t b_pair, atv_real *C, int64_t c_m,
                        int64_t c_pair, int64_t chunk);
    void (*strips)(int64_t M, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k, atv_real *to);
    void (*panels)(int64_t rows, int64_t n, const atv_real *from, int64_t stride, atv_real *to, int64_t panel);
    void (*add)(int64_t n, atv_real *y, const atv_real *x);
    atv_real (*dot)(int64_t n, const atv_real *x, const atv_real *y);
    void (*norm)(int64_t n, const atv_real *x, const atv_real *w, const atv_real *b, atv_real eps, atv_real *out,
                 atv_real *mean, atv_real *rstd);
    void (*norm_back)(int64_t n, const atv_real *x, const atv_real *w, atv_real mean, atv_real rstd,
                      const atv_real *dout, atv_real *dx);
    void (*norm_back_params)(int64_t rows, int64_t n, int64_t stride, const atv_real *x, const atv_real *mean,
                             const atv_real *rstd, const atv_real *dout, atv_real *dw, atv_real *db);
    double (*logsumexp)(int64_t n, const atv_real *x);
    double (*softmax)(int64_t n, atv_real *x, atv_real scale, const atv_real *next, int64_t next_n);
    void (*exp_shift)(int64_t n, atv_real *x, atv_real scale, atv_real shift);
    void (*softmax_back)(int64_t n, const atv_real *p, atv_real *dp, atv_real scale, atv_real delta);
    void (*gelu)(int64_t n, const atv_real *x, atv_real *out);
    void (*gelu_back)(int64_t n, const atv_real *x, atv_real *d);
    void (*adamw)(int64_t n, atv_real *w, const atv_real *g, atv_real *m, atv_real *v, const atvi_adamw *o);
};

/* Where a sum of K products is cut. Where rounding shows most, in small models, short sums cost least. */
static int64_t atvi_chunk(int64_t K) {
    const int64_t pieces = (K + 511) / 512;
    return K < 64 ? 64 : K <= 256 ? 16 : (K + pieces - 1) / pieces;
}

/* This file, seen from its own folder; set it when the header has another name. */
#ifndef ATV_SELF
#  define ATV_SELF "attnvar.h"
#endif
#define ATVI_PASS 1
#include ATV_SELF
#undef ATVI_PASS
#ifdef ATVI_X86
#  define ATVI_PASS 2
#  ifdef __clang__
#    pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#  else
#    pragma GCC push_options
#    pragma GCC target("avx2,fma")
#  endif
#  include ATV_SELF
#  ifdef __clang__
#    pragma clang attribute pop
#  else
#    pragma GCC pop_options
#  endif
#  undef ATVI_PASS
#  define ATVI_PASS 3
#  ifdef __clang__
#    pragma clang attribute push(__attribute__((target("avx512f"))), apply_to = function)
#  else
#    pragma GCC push_options
#    pragma GCC target("avx512f")
#  endif
#  include ATV_SELF
#  ifdef __clang__
#    pragma clang attribute pop
#  else
#    pragma GCC pop_options
#  endif
#  undef ATVI_PASS
#endif
#ifdef ATVI_ARM64
#  define ATVI_PASS 4
#  ifndef __clang__                                         /* gcc would load a tile's step ahead, and spill its sums */
#    pragma GCC push_options
#    pragma GCC optimize("no-schedule-insns")
#  endif
#  include ATV_SELF
#  ifndef __clang__
#    pragma GCC pop_options
#  endif
#  undef ATVI_PASS
#endif

#ifdef ATVI_X86
/* What the processor has and the operating system saves (XCR0). */
static int atvi_x86_has(atv_isa isa) {
    unsigned a, b, c, d, xcr0 = 0, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
    if (!(c & bit_FMA)) return 0;
    __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    (void)high;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (isa == ATV_ISA_AVX2) return (xcr0 & 0x06) == 0x06 && (b & bit_AVX2);
    return (xcr0 & 0xE6) == 0xE6 && (b & bit_AVX512F);
}
#endif

ATVDEF int atv_isa_available(atv_isa isa) {
    if (isa == ATV_ISA_AUTO || isa == ATV_ISA_SCALAR) return 1;
#ifdef ATVI_X86
    if (isa == ATV_ISA_AVX2 || isa == ATV_ISA_AVX512) return atvi_x86_has(isa);
#endif
#ifdef ATVI_ARM64
    if (isa == ATV_ISA_NEON) return 1;                      /* every such processor has it */
#endif
    return 0;
}

static const char *const atvi_isa_names[] = {
#define X(name, text) text,
    ATV_ISAS(X)
#undef X
};

ATVDEF const char *atv_isa_name(atv_isa isa) { return (unsigned)isa < ATV_ISA_COUNT ? atvi_isa_names[isa] : "?"; }

ATVDEF atv_result atv_isa_from_name(const char *name, atv_isa *out) {
    int i;
    for (i = 0; i < ATV_ISA_COUNT; i++)
        if (strcmp(name, atvi_isa_names[i]) == 0) { *out = (atv_isa)i; return ATV_OK; }
    return ATV_ERR_ARGUMENT;
}

static const atvi_kernels *atvi_kernels_of(atv_isa isa) {
#ifdef ATVI_X86
    if (isa == ATV_ISA_AVX512) return &atvi_kernels_avx512;
    if (isa == ATV_ISA_AVX2) return &atvi_kernels_avx2;
#endif
#ifdef ATVI_ARM64
    if (isa == ATV_ISA_NEON) return &atvi_kernels_neon;
#endif
    (void)isa;
    return &atvi_kernels_scalar;
}

ATVDEF atv_result atv_ctx_create(const atv_ctx_desc *desc, atv_ctx **out) {
    atv_ctx_desc d;
    atv_ctx *ctx;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (!d.allocator.alloc != !d.allocator.free) return ATV_ERR_ARGUMENT;
    if (!d.allocator.alloc) {
        d.allocator.alloc = atvi_default_alloc;
        d.allocator.free = atvi_default_free;
    }
    if (!d.io.map != !d.io.unmap || d.n_threads < 0 || d.n_threads > 4096) return ATV_ERR_ARGUMENT;
    if (!d.io.map) { d.io.map = atvi_stdio_map; d.io.unmap = atvi_stdio_unmap; }
    if (!d.io.create != !d.io.write || !d.io.create != !d.io.close) return ATV_ERR_ARGUMENT;
    if (!d.io.create) { d.io.create = atvi_stdio_create; d.io.write = atvi_stdio_write; d.io.close = atvi_stdio_close; }
    if (!d.io.rename) d.io.rename = atvi_stdio_rename;
    if (!d.io.remove) d.io.remove = atvi_stdio_remove;
    if ((unsigned)d.isa >= ATV_ISA_COUNT) return ATV_ERR_ARGUMENT;
    if (d.isa == ATV_ISA_AUTO) {
        int isa = ATV_ISA_COUNT - 1;
        while (!atv_isa_available((atv_isa)isa)) isa--;
        d.isa = (atv_isa)isa;
    }
    if (!atv_isa_available(d.isa)) return ATV_ERR_UNSUPPORTED;
    if (d.n_threads == 0) d.n_threads = atvi_online_processors();
#ifdef ATV_NO_THREADS
    if (!d.parallel.parallel_for) d.n_threads = 1;
#endif

    ctx = (atv_ctx *)d.allocator.alloc(d.allocator.user, sizeof *ctx);
    if (!ctx) return ATV_ERR_MEMORY;
    memset(ctx, 0, sizeof *ctx);
    ctx->desc = d;
    ctx->kernels = atvi_kernels_of(d.isa);
    if (!d.parallel.parallel_for) {
        ctx->desc.parallel.parallel_for = atvi_serial_for;
#ifndef ATV_NO_THREADS
        if (d.n_threads > 1) {
            ctx->pool = atvi_pool_create(ctx, d.n_threads - 1);
            if (!ctx->pool) { atv_ctx_destroy(ctx); return ATV_ERR_MEMORY; }
            ctx->desc.parallel.user = ctx->pool;
            ctx->desc.parallel.parallel_for = atvi_pool_run;
        }
#endif
    }
    ctx->bytes = 0;                                         /* what is made with the context counts, not itself */
    ctx->peak_bytes = 0;
    *out = ctx;
    return ATV_OK;
}

ATVDEF void atv_ctx_destroy(atv_ctx *ctx) {
    if (!ctx) return;
#ifndef ATV_NO_THREADS
    atvi_pool_destroy(ctx, ctx->pool);
#endif
    ctx->desc.allocator.free(ctx->desc.allocator.user, ctx);
}
/* ==== >>tensor ==================================================================================================== */

static const struct { const char *name; size_t size; } atvi_dtypes[] = {
#define X(name, text, size) {text, size},
    ATV_DTYPES(X)
#undef X
};

ATVDEF size_t atv_dtype_size(atv_dtype dtype) { return (unsigned)dtype < ATV_DTYPE_COUNT ? atvi_dtypes[dtype].size : 0; }
ATVDEF const char *atv_dtype_name(atv_dtype dtype) {
    return (unsigned)dtype < ATV_DTYPE_COUNT ? atvi_dtypes[dtype].name : "no such dtype";
}

static int atvi_is_float(atv_dtype dtype) {
    return dtype == ATV_F32 || dtype == ATV_BF16 || dtype == ATV_F16 || dtype == ATV_F64;
}

static void atvi_set_strides(atv_tensor *t) {
    int64_t stride = 1;
    int i;
    for (i = t->rank - 1; i >= 0; i--) {
        t->strides[i] = stride;
        stride *= t->dims[i];
    }
}

ATVDEF atv_tensor atv_tensor_view(void *data, atv_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    atv_tensor t;
    memset(&t, 0, sizeof t);
    t.data = data;
    t.dtype = dtype;
    t.dims[0] = d0;
    t.dims[1] = d1;
    t.dims[2] = d2;
    t.dims[3] = d3;
    for (t.rank = ATV_MAX_RANK; t.rank > 0 && t.dims[t.rank - 1] == 0; t.rank--) {}
    atvi_set_strides(&t);
    return t;
}

ATVDEF int64_t atv_tensor_count(const atv_tensor *t) {
    int64_t n = 1;
    int i;
    for (i = 0; i < t->rank; i++) n *= t->dims[i];
    return n;
}

ATVDEF atv_tensor atv_tensor_swap(atv_tensor t, int a, int b) {
    int64_t dim, stride;
    assert(a >= 0 && a < t.rank && b >= 0 && b < t.rank);
    dim = t.dims[a];
    stride = t.strides[a];
    t.dims[a] = t.dims[b];
    t.strides[a] = t.strides[b];
    t.dims[b] = dim;
    t.strides[b] = stride;
    return t;
}

ATVDEF atv_tensor atv_tensor_slice(atv_tensor t, int dim, int64_t from, int64_t to) {
    assert(dim >= 0 && dim < t.rank && from >= 0 && from <= to && to <= t.dims[dim]);
    if (t.data) t.data = (char *)t.data + from * t.strides[dim] * (int64_t)atv_dtype_size(t.dtype);
    t.dims[dim] = to - from;
    return t;
}

/* One without holes becomes a single row; any other stays. */
static atv_tensor atvi_flat(const atv_tensor *t) {
    atv_tensor row;
    int64_t stride = 1;
    int i;
    for (i = t->rank - 1; i >= 0; i--) {
        if (t->dims[i] != 1 && t->strides[i] != stride) return *t;
        stride *= t->dims[i];
    }
    memset(&row, 0, sizeof row);
    row.data = t->data;
    row.dtype = t->dtype;
    row.rank = 1;
    row.dims[0] = atv_tensor_count(t);
    row.strides[0] = 1;
    return row;
}

/* "[3, 4]" for messages. */
typedef struct atvi_shape { char text[96]; } atvi_shape;
static atvi_shape atvi_shape_text(const atv_tensor *t) {
    atvi_shape s;
    int i, n = 1;
    strcpy(s.text, "[");
    for (i = 0; i < t->rank && i < ATV_MAX_RANK; i++)
        n += snprintf(s.text + n, sizeof s.text - (size_t)n, "%s%lld", i ? ", " : "", (long long)t->dims[i]);
    snprintf(s.text + n, sizeof s.text - (size_t)n, "]");
    return s;
}

/* ---- 16-bit floats, on their bits: rounding to nearest even, NaN stays NaN ---- */

static uint32_t atvi_f32_bits(float f) {
    uint32_t x;
    memcpy(&x, &f, 4);
    return x;
}

static float atvi_f32_from_bits(uint32_t x) {
    float f;
    memcpy(&f, &x, 4);
    return f;
}

static float atvi_bf16_to_f32(uint16_t h) { return atvi_f32_from_bits((uint32_t)h << 16); }

static uint16_t atvi_f32_to_bf16(float f) {
    uint32_t x = atvi_f32_bits(f);
    if ((x & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((x >> 16) | 0x40u);
    return (uint16_t)((x + 0x7fffu + ((x >> 16) & 1u)) >> 16);
}

static float atvi_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
    if (exponent == 0) return atvi_f32_from_bits(sign | atvi_f32_bits((float)mantissa * (1.0f / 16777216.0f)));
    if (exponent == 31) return atvi_f32_from_bits(sign | 0x7f800000u | (mantissa << 13));
    return atvi_f32_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

static uint16_t atvi_f32_to_f16(float f) {
    uint32_t x = atvi_f32_bits(f), sign = (x >> 16) & 0x8000u, h, shift, rest, half;
    x &= 0x7fffffffu;
    if (x > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((x >> 13) & 0x3ffu));
    if (x >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);                            /* 65536 and above */
    if (x >= 0x38800000u) return (uint16_t)(sign | ((x - 0x38000000u + 0xfffu + ((x >> 13) & 1u)) >> 13));
    if (x < 0x33000000u) return (uint16_t)sign;                                         /* under half the smallest */
    shift = 126u - (x >> 23);
    x = (x & 0x7fffffu) | 0x800000u;
    h = x >> shift;
    rest = x & ((1u << shift) - 1u);
    half = 1u << (shift - 1u);
    if (rest > half || (rest == half && (h & 1u))) h++;
    return (uint16_t)(sign | h);
}

/* Subnormal floats are counted in their last place, 2^-149: a processor may be told to take them for 0. */
#define ATVI_F32_PLACE 1.4012984643248171e-45
static double atvi_f32_to_f64(float f) {
    uint32_t x = atvi_f32_bits(f);
    double d = (double)(x & 0x7fffffu) * ATVI_F32_PLACE;
    if ((x & 0x7f800000u) != 0) return (double)f;
    return x >> 31 ? -d : d;
}

/* To the nearest; odd: to the odd one of the two neighbours where it is inexact: a second rounding, to 16 bits, is then as
   good as one. */
static float atvi_f64_to_f32(double d, int odd) {
    double size = fabs(d), back;
    float f;
    uint32_t x;
    if (size < (double)FLT_MIN) {
        double rest = size / ATVI_F32_PLACE;
        x = (uint32_t)rest;
        rest -= (double)x;
        if (odd) x |= rest > 0;
        else x += rest > 0.5 || (rest == 0.5 && (x & 1u));
        return atvi_f32_from_bits(x | (signbit(d) ? 0x80000000u : 0));
    }
    f = (float)d;
    back = fabs((double)f);
    x = atvi_f32_bits(f);
    if (!odd || back == size || (x & 1u) || (x & 0x7fffffffu) > 0x7f800000u) return f;
    return atvi_f32_from_bits(back < size ? x + 1u : x - 1u);
}

/* n elements, strides in elements. Neither side need be aligned: files put tensors anywhere. */
static void atvi_convert(char *dst, atv_dtype dst_type, int64_t dst_stride, const char *src, atv_dtype src_type,
                         int64_t src_stride, int64_t n) {
    double chunk[128];
    int64_t ds = dst_stride * (int64_t)atv_dtype_size(dst_type), ss = src_stride * (int64_t)atv_dtype_size(src_type);
    int64_t from, i, m;
    uint16_t h;
    float f;
    if (n <= 0) return;
    if (dst_type == src_type) {
        size_t size = atv_dtype_size(src_type);
        if (dst_stride == 1 && src_stride == 1) memcpy(dst, src, (size_t)n * size);
        else for (i = 0; i < n; i++) memcpy(dst + i * ds, src + i * ss, size);
        return;
    }
    for (from = 0; from < n; from += m) {
        const char *s = src + from * ss;
        char *d = dst + from * ds;
        m = ATVI_MIN(n - from, (int64_t)(sizeof chunk / sizeof chunk[0]));
        switch (src_type) {
        case ATV_F32: for (i = 0; i < m; i++) { memcpy(&f, s + i * ss, 4); chunk[i] = atvi_f32_to_f64(f); } break;
        case ATV_BF16:
            for (i = 0; i < m; i++) { memcpy(&h, s + i * ss, 2); chunk[i] = atvi_f32_to_f64(atvi_bf16_to_f32(h)); }
            break;
        case ATV_F16:
            for (i = 0; i < m; i++) { memcpy(&h, s + i * ss, 2); chunk[i] = (double)atvi_f16_to_f32(h); }
            break;
        default: for (i = 0; i < m; i++) memcpy(&chunk[i], s + i * ss, 8);
        }
        switch (dst_type) {
        case ATV_F32: for (i = 0; i < m; i++) { f = atvi_f64_to_f32(chunk[i], 0); memcpy(d + i * ds, &f, 4); } break;
        case ATV_BF16:
            for (i = 0; i < m; i++) { h = atvi_f32_to_bf16(atvi_f64_to_f32(chunk[i], 1)); memcpy(d + i * ds, &h, 2); }
            break;
        case ATV_F16:
            for (i = 0; i < m; i++) { h = atvi_f32_to_f16(atvi_f64_to_f32(chunk[i], 1)); memcpy(d + i * ds, &h, 2); }
            break;
        default: for (i = 0; i < m; i++) memcpy(d + i * ds, &chunk[i], 8);
        }
    }
}

/* The walk over all rows of a tensor of any rank: index[] counts through the dimensions before the last. */
static int atvi_next_row(const atv_tensor *t, int64_t *index) {
    int i;
    for (i = t->rank - 2; i >= 0; i--) {
        if (++index[i] < t->dims[i]) return 1;
        index[i] = 0;
    }
    return 0;
}

static char *atvi_row(const atv_tensor *t, const int64_t *index) {
    int64_t at = 0;
    int i;
    for (i = 0; i < t->rank - 1; i++) at += index[i] * t->strides[i];
    return (char *)t->data + at * (int64_t)atv_dtype_size(t->dtype);
}

ATVDEF atv_result atv_tensor_copy(atv_ctx *ctx, const atv_tensor *dst, const atv_tensor *src) {
    atv_tensor d, s;
    int64_t index[ATV_MAX_RANK] = {0, 0, 0, 0};
    int i, last, same = dst->rank == src->rank;
    if (src->rank < 0 || src->rank > ATV_MAX_RANK)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "atv_tensor_copy: rank=%d is not within 0..%d", src->rank, ATV_MAX_RANK);
    for (i = 0; same && i < src->rank; i++) same = dst->dims[i] == src->dims[i];
    if (!same)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "atv_tensor_copy: dst is %s, src is %s", atvi_shape_text(dst).text,
                         atvi_shape_text(src).text);
    if (dst->dtype != src->dtype && !(atvi_is_float(dst->dtype) && atvi_is_float(src->dtype)))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "atv_tensor_copy: %s cannot become %s", atv_dtype_name(src->dtype),
                         atv_dtype_name(dst->dtype));
    for (i = 0; i < src->rank; i++) if (src->dims[i] <= 0) return ATV_OK;
    d = atvi_flat(dst);
    s = atvi_flat(src);
    if (d.rank != s.rank) {                                 /* one of them has holes: row by row */
        d = *dst;
        s = *src;
    }
    last = s.rank - 1;
    do atvi_convert(atvi_row(&d, index), d.dtype, d.strides[last], atvi_row(&s, index), s.dtype, s.strides[last],
                    s.dims[last]);
    while (atvi_next_row(&s, index));
    return ATV_OK;
}

/* ==== >>embed ===================================================================================================== */

/* Rows and columns of one call, cut into items for the lanes. */
#define ATVI_ROWS 8
#define ATVI_COLS 64
#define ATVI_AHEAD 16                                       /* rows that a block of columns asks for ahead */
/* Lanes that may run at once; scratch is per lane. */
static size_t atvi_lanes(const atv_ctx *ctx) { return (size_t)ctx->desc.n_threads; }
static int64_t atvi_blocks(int64_t n, int64_t block) { return (n + block - 1) / block; }
/* Where part i of n/unit units in nearly equal parts begins. */
static int64_t atvi_part(int64_t i, int64_t parts, int64_t n, int64_t unit) {
    return ATVI_MIN(n, atvi_blocks(n, unit) * i / parts * unit);
}

/* Asks for n reals. */
static void atvi_ask(const atv_real *p, int64_t n) {
    int64_t i;
    for (i = 0; i < n; i += ATVI_LINE) ATVI_PREFETCH(p + i);
}
static void atvi_ask_write(const atv_real *p, int64_t n) {
    int64_t i;
    for (i = 0; i < n; i += ATVI_LINE) ATVI_PREFETCH_WRITE(p + i);
}

typedef struct atvi_embed_job {
    int64_t n, C;
    const int32_t *ids, *pos;
    const atv_real *wte, *wpe;
    atv_real *out;
    const atvi_kernels *k;
} atvi_embed_job;

static void atvi_embed_item(void *arg, int64_t item, int lane) {
    const atvi_embed_job *j = (const atvi_embed_job *)arg;
    int64_t t, end = ATVI_MIN(j->n, (item + 1) * ATVI_ROWS);
    (void)lane;
    for (t = item * ATVI_ROWS; t < end; t++) {
        if (t + 2 < j->n) atvi_ask(j->wte + j->ids[t + 2] * j->C, j->C);
        memcpy(j->out + t * j->C, j->wte + j->ids[t] * j->C, (size_t)j->C * sizeof *j->out);
        j->k->add(j->C, j->out + t * j->C, j->wpe + j->pos[t] * j->C);
    }
}

/* out[t] = wte[ids[t]] + wpe[pos[t]]   ids, pos [n]  wte [V,C]  wpe [T,C]  out [n,C] */
static void atvi_embed(atv_ctx *ctx, int64_t n, int64_t C, const int32_t *ids, const int32_t *pos, const atv_real *wte,
                       const atv_real *wpe, atv_real *out) {
    atvi_embed_job j;
    j.n = n; j.C = C; j.ids = ids; j.pos = pos; j.wte = wte; j.wpe = wpe; j.out = out; j.k = ctx->kernels;
    atvi_parallel(ctx, atvi_blocks(n, ATVI_ROWS), atvi_embed_item, &j);
}

typedef struct atvi_embed_back_job {
    int64_t n, C;
    const int32_t *ids, *pos;
    const atv_real *dout;
    atv_real *dwte, *dwpe;
    const atvi_kernels *k;
} atvi_embed_back_job;

/* Two tokens may share a row, so an item is a block of columns and takes all tokens in order. */
static void atvi_embed_back_item(void *arg, int64_t item, int lane) {
    const atvi_embed_back_job *j = (const atvi_embed_back_job *)arg;
    int64_t t, c = item * ATVI_COLS, cols = ATVI_MIN(ATVI_COLS, j->C - c);
    (void)lane;
    for (t = 0; t < j->n; t++) {
        const atv_real *d = j->dout + t * j->C + c;
        atvi_ask(d + ATVI_AHEAD * j->C, cols);
        if (t + ATVI_AHEAD < j->n) atvi_ask(j->dwte + j->ids[t + ATVI_AHEAD] * j->C + c, cols);
        j->k->add(cols, j->dwte + j->ids[t] * j->C + c, d);
        j->k->add(cols, j->dwpe + j->pos[t] * j->C + c, d);
    }
}

/* dwte[ids[t]] += dout[t], dwpe[pos[t]] += dout[t] */
static void atvi_embed_back(atv_ctx *ctx, int64_t n, int64_t C, const int32_t *ids, const int32_t *pos, const atv_real *dout,
                            atv_real *dwte, atv_real *dwpe) {
    atvi_embed_back_job j = {0, 0, NULL, NULL, NULL, NULL, NULL, NULL};
    j.n = n; j.C = C; j.ids = ids; j.pos = pos; j.dout = dout; j.dwte = dwte; j.dwpe = dwpe; j.k = ctx->kernels;
    atvi_parallel(ctx, atvi_blocks(C, ATVI_COLS), atvi_embed_back_item, &j);
}

/* ==== >>norm ====================================================================================================== */

typedef struct atvi_norm_job {
    int64_t n, C;
    const atv_real *x, *w, *b, *dout;
    atv_real eps, *out, *mean, *rstd, *dx, *dw, *db;
    const atvi_kernels *k;
} atvi_norm_job;

static void atvi_norm_item(void *arg, int64_t item, int lane) {
    const atvi_norm_job *j = (const atvi_norm_job *)arg;
    int64_t t, end = ATVI_MIN(j->n, (item + 1) * ATVI_ROWS);
    (void)lane;
    for (t = item * ATVI_ROWS; t < end; t++)
        j->k->norm(j->C, j->x + t * j->C, j->w, j->b, j->eps, j->out + t * j->C, &j->mean[t], &j->rstd[t]);
}

/* out = LayerNorm(x)   x, out [n,C]  w, b [C]  mean, rstd [n] (kept for the backward) */
static void atvi_norm(atv_ctx *ctx, int64_t n, int64_t C, const atv_real *x, const atv_real *w, const atv_real *b,
                      double eps, atv_real *out, atv_real *mean, atv_real *rstd) {
    atvi_norm_job j;
    memset(&j, 0, sizeof j);
    j.n = n; j.C = C; j.x = x; j.w = w; j.b = b; j.eps = (atv_real)eps; j.out = out; j.mean = mean; j.rstd = rstd;
    j.k = ctx->kernels;
    atvi_parallel(ctx, atvi_blocks(n, ATVI_ROWS), atvi_norm_item, &j);
}

static void atvi_norm_back_item(void *arg, int64_t item, int lane) {
    const atvi_norm_job *j = (const atvi_norm_job *)arg;
    int64_t t, end = ATVI_MIN(j->n, (item + 1) * ATVI_ROWS);
    (void)lane;
    for (t = item * ATVI_ROWS; t < end; t++)
        j->k->norm_back(j->C, j->x + t * j->C, j->w, j->mean[t], j->rstd[t], j->dout + t * j->C, j->dx + t * j->C);
}

static void atvi_norm_back_params_item(void *arg, int64_t item, int lane) {
    const atvi_norm_job *j = (const atvi_norm_job *)arg;
    int64_t c = item * ATVI_COLS;
    (void)lane;
    j->k->norm_back_params(j->n, ATVI_MIN(ATVI_COLS, j->C - c), j->C, j->x + c, j->mean, j->rstd, j->dout + c,
                           j->dw + c, j->db + c);
}

/* dx += .., dw += .., db += ..   dout, dx [n,C]  dw, db [C] */
static void atvi_norm_back(atv_ctx *ctx, int64_t n, int64_t C, const atv_real *x, const atv_real *w, const atv_real *mean,
                           const atv_real *rstd, const atv_real *dout, atv_real *dx, atv_real *dw, atv_real *db) {
    atvi_norm_job j;
    memset(&j, 0, sizeof j);
    j.n = n; j.C = C; j.x = x; j.w = w; j.mean = (atv_real *)mean; j.rstd = (atv_real *)rstd; j.dout = dout;
    j.dx = dx; j.dw = dw; j.db = db; j.k = ctx->kernels;
    atvi_parallel(ctx, atvi_blocks(n, ATVI_ROWS), atvi_norm_back_item, &j);
    atvi_parallel(ctx, atvi_blocks(C, ATVI_COLS), atvi_norm_back_params_item, &j);
}

/* ==== >>linear ==================================================================================================== */

/* y = x W^T + b, or y += ..; gelu = GELU(y) unless NULL.
   packed: W [N,K] after atvi_pack   b [N] or NULL   y, gelu [n,N], which may be the same */
typedef struct atvi_linear_desc {
    int64_t N;
    const atv_real *packed, *b;
    atv_real *y;
    int add;
    atv_real *gelu;
} atvi_linear_desc;

#define ATVI_LINEARS 3
#define ATVI_STEP 512                                       /* of K, of what is copied at once */
#define ATVI_TALL 96                                        /* rows of a block of A */
#define ATVI_TALLEST 256                                    /* of a block in strips, which each lane's second cache holds */
#define ATVI_STRIPS_FROM 48                                 /* rows of x for which it pays to copy it into strips */
#define ATVI_TALLER 192                                     /* of a block of columns of A */
#define ATVI_APART (ATVI_TALLER + ATVI_PANEL)               /* reals between its copied columns: an odd number of lines */

/* From one item of a lane to its next, very likely. */
static int64_t atvi_stride(const atv_ctx *ctx, int64_t items) {
    const int lanes = (int)atvi_lanes(ctx);
    return atvi_ranges(items, lanes) > 1 ? 1 : lanes;
}

/* Items enough for the lanes to end together, though one may be slower. */
static int64_t atvi_enough(const atv_ctx *ctx) { return 4 * (int64_t)atvi_lanes(ctx); }

/* Blocks of M rows, of at most `tallest`: `enough` where they need not be smaller than `least`, as many for each lane. */
static int64_t atvi_row_blocks(const atv_ctx *ctx, int64_t M, int64_t tallest, int64_t enough, int64_t least) {
    const int64_t lanes = (int64_t)atvi_lanes(ctx);
    const int64_t blocks = ATVI_MAX(atvi_blocks(M, tallest), ATVI_MIN(enough, atvi_blocks(M, least)));
    return blocks > lanes ? atvi_blocks(blocks, lanes) * lanes : blocks;
}

/* A step of K: of nearly equal ones the longest that is not longer than `most`; sums are cut there. */
static int64_t atvi_step(int64_t K, int64_t most) { return atvi_blocks(K, atvi_blocks(K, most)); }

/* Reals that each lane copies of a block of at most so many rows. */
static int64_t atvi_copy_a(const atv_ctx *ctx, int64_t rows) {
    return ATVI_STEP * (ctx->kernels->copies_a ? ATVI_MIN(ATVI_ROUND(rows), ATVI_TALLEST) : ATVI_APART);
}

typedef struct atvi_linear_job {
    int64_t n, K, blocks, unit;                             /* blocks of rows; columns are cut at units */
    const atv_real *x;
    atv_real *strips;                                       /* NULL: x is read where it lies */
    int64_t strips_size;                                    /* of each lane */
    atvi_linear_desc l[ATVI_LINEARS];
    int64_t parts[ATVI_LINEARS];                            /* of the columns; 0: no such matrix */
    int64_t stride;                                         /* as atvi_stride has it */
    const atvi_kernels *k;
} atvi_linear_job;

/* Where an item's part of its matrix begins; NULL past the last item. */
static const atv_real *atvi_linear_panels(const atvi_linear_job *j, int64_t item) {
    int i;
    for (i = 0; i < ATVI_LINEARS && item >= j->blocks * j->parts[i]; i++) item -= j->blocks * j->parts[i];
    return i == ATVI_LINEARS ? NULL
         : j->l[i].packed + atvi_part(item / j->blocks, j->parts[i], j->l[i].N, j->unit) * j->K;
}

static void atvi_linear_item(void *arg, int64_t item, int lane) {
    const atvi_linear_job *j = (const atvi_linear_job *)arg;
    const atvi_linear_desc *l = j->l;
    const int64_t *parts = j->parts;
    const int64_t K = j->K, step = j->strips ? atvi_step(K, ATVI_STEP) : K;
    const atv_real *next = atvi_linear_panels(j, item + j->stride);
    const atv_real *next_x = j->x + atvi_part((item + j->stride) % j->blocks, j->blocks, j->n, 1) * K;
    int64_t m, n, rows, cols, k, r;
    for (; item >= j->blocks * *parts; l++, parts++) item -= j->blocks * *parts;
    m = atvi_part(item % j->blocks, j->blocks, j->n, 1);
    n = atvi_part(item / j->blocks, *parts, l->N, j->unit);
    rows = atvi_part(item % j->blocks + 1, j->blocks, j->n, 1) - m;
    cols = atvi_part(item / j->blocks + 1, *parts, l->N, j->unit) - n;
    for (k = 0; k < K; k += step) {
        const int64_t steps = ATVI_MIN(step, K - k);
        const atv_real *A = j->x + m * K + k, *B = l->packed + n * K + k * ATVI_PANEL;
        if (j->strips) {
            atv_real *strips = j->strips + lane * j->strips_size;
            j->k->strips(rows, steps, A, K, 1, strips);
            A = strips;
        }
        j->k->matmul(rows, cols, steps, A, j->strips ? 0 : K, 1, B, ATVI_PANEL * K, ATVI_PANEL, l->y + m * l->N + n, l->N,
                     l->b && k == 0 ? l->b + n : NULL, l->add || k > 0, atvi_chunk(K),
                     k + steps < K ? B + steps * ATVI_PANEL : next, 0, j->strips || j->blocks == 1 ? NULL : next_x);
    }
    for (r = m; l->gelu && r < m + rows; r++) j->k->gelu(cols, l->y + r * l->N + n, l->gelu + r * l->N + n);
}

/* Reals of scratch for at most n rows. */
static size_t atvi_linear_scratch(const atv_ctx *ctx, int64_t n) {
    return ctx->kernels->copies_a && n >= ATVI_STRIPS_FROM ? (size_t)atvi_copy_a(ctx, n) * atvi_lanes(ctx) : 0;
}

/* The same x [n,K] times up to ATVI_LINEARS matrices.   scratch [atvi_linear_scratch] */
static void atvi_linears(atv_ctx *ctx, int64_t n, int64_t K, const atv_real *x, const atvi_linear_desc *l, int count,
                         atv_real *scratch) {
    const int64_t lanes = (int64_t)atvi_lanes(ctx), enough = atvi_enough(ctx);
    int64_t items = 0, cols = 4 * ATVI_COLS;
    atvi_linear_job j;
    int i;
    memset(&j, 0, sizeof j);
    j.n = n; j.K = K; j.x = x; j.k = ctx->kernels;
    j.strips = ctx->kernels->copies_a && n >= ATVI_STRIPS_FROM ? scratch : NULL;
    j.strips_size = atvi_copy_a(ctx, n);
    j.unit = ATVI_MAX(ctx->kernels->width, ATVI_PANEL);
    j.blocks = 1;
    if (n > ATVI_TALL && j.strips) {                        /* the tallest blocks if they and long rows make items enough */
        cols = 1024;
        j.blocks = atvi_row_blocks(ctx, n, ATVI_TALLEST, 0, 1);
        for (i = 0; i < count; i++) items += j.blocks * atvi_blocks(l[i].N, cols);
        if (items < enough) j.blocks = atvi_row_blocks(ctx, n, ATVI_TALL, enough, ATVI_TALL / 2);
        items = 0;
    } else if (n > ATVI_TALL) j.blocks = atvi_row_blocks(ctx, n, ATVI_TALL, 0, 1);
    for (i = 0; i < count; i++) {
        const int64_t N = l[i].N;
        int64_t parts = atvi_blocks(N, cols);
        if (n <= ATVI_TALL) parts = N > 2048 ? enough : lanes;                      /* each lane reads its part of W once */
        else if (j.strips) parts = ATVI_MIN(parts, atvi_blocks(enough, j.blocks));  /* the fewer make a strip the better */
        j.l[i] = l[i];
        j.parts[i] = ATVI_MIN(parts, atvi_blocks(N, j.unit));
        items += j.blocks * j.parts[i];
    }
    j.stride = atvi_stride(ctx, items);
    atvi_parallel(ctx, items, atvi_linear_item, &j);
}

typedef struct atvi_pack_job { int64_t N, K, w_n; const atv_real *W; atv_real *P; } atvi_pack_job;

/* Panels from `first` to `end` of W [N,K], rows w_n apart: P[panel][k][16], zeros past N. Asks for the next panel's rows. */
static void atvi_pack_panels(int64_t first, int64_t end, int64_t N, int64_t K, const atv_real *W, int64_t w_n, atv_real *P) {
    int64_t p, k, n;
    for (p = first; p < end; p++) {
        const atv_real *w = W + p * ATVI_PANEL * w_n;
        atv_real *out = P + p * ATVI_PANEL * K;
        int64_t cols = ATVI_MIN(ATVI_PANEL, N - p * ATVI_PANEL);
        for (k = 0; k < K; k++, out += ATVI_PANEL) {
            if (k % ATVI_LINE == 0) for (n = 0; n < cols; n++) ATVI_PREFETCH(w + (ATVI_PANEL + n) * w_n + k);
            for (n = 0; n < cols; n++) out[n] = w[n * w_n + k];
            for (; n < ATVI_PANEL; n++) out[n] = 0;
        }
    }
}

static void atvi_pack_item(void *arg, int64_t item, int lane) {
    const atvi_pack_job *j = (const atvi_pack_job *)arg;
    (void)lane;
    atvi_pack_panels(item, item + 1, j->N, j->K, j->W, j->K, j->P);
}

/* W [N,K] -> P [ceil(N/16)][K][16], the layout of Y = X W^T. */
static void atvi_pack(atv_ctx *ctx, int64_t N, int64_t K, const atv_real *W, atv_real *P) {
    atvi_pack_job j;
    j.N = N; j.K = K; j.w_n = K; j.W = W; j.P = P;
    atvi_parallel(ctx, atvi_blocks(N, ATVI_PANEL), atvi_pack_item, &j);
}

static atvi_linear_desc atvi_linear_to(int64_t N, const atv_real *packed, const atv_real *b, atv_real *y, int add) {
    atvi_linear_desc l;
    l.N = N; l.packed = packed; l.b = b; l.y = y; l.add = add; l.gelu = NULL;
    return l;
}

static void atvi_linear(atv_ctx *ctx, int64_t n, int64_t N, int64_t K, const atv_real *x, const atv_real *packed,
                        const atv_real *b, atv_real *y, int add, atv_real *scratch) {
    const atvi_linear_desc l = atvi_linear_to(N, packed, b, y, add);
    atvi_linears(ctx, n, K, x, &l, 1, scratch);
}

typedef struct atvi_colsum_job { int64_t n, N; const atv_real *x; atv_real *sum; const atvi_kernels *k; } atvi_colsum_job;

static void atvi_colsum_item(void *arg, int64_t item, int lane) {
    const atvi_colsum_job *j = (const atvi_colsum_job *)arg;
    int64_t t, c = item * ATVI_COLS, cols = ATVI_MIN(ATVI_COLS, j->N - c);
    (void)lane;
    for (t = 0; t < j->n; t++) {
        atvi_ask(j->x + (t + ATVI_AHEAD) * j->N + c, cols);
        j->k->add(cols, j->sum + c, j->x + t * j->N + c);
    }
}

/* ---- products that read their operands down the columns ---- */

/* C takes K in steps. Whoever takes a block of C first copies its part of A where tiles want strips, or where A lies down
   the columns and tiles are narrow or its rows a power of two apart, so that they push each other out of the caches. B is
   copied into panels where its rows are such, or tiles are narrow: by all lanes together, a step of many columns that all
   then wait for, if many blocks share it; else by each lane for itself, as what one lane writes another is slow to read: few
   columns at a time, the next ones asked for meanwhile, in short steps, which leave them room in the second cache, of tall
   blocks, which copy them less often. Where it need not be copied blocks read it where it is. */
#define ATVI_MOST 2048                                      /* columns copied at once; for more rows than that it pays */
#define ATVI_COPY_B ((ATVI_STEP + 1) * ATVI_MOST)
#define ATVI_SHORT (ATVI_STEP / 2)                          /* a step of K if each lane copies B */
#define ATVI_OWN_B ((ATVI_SHORT + 1) * ATVI_COLS)

typedef struct atvi_product_job {
    int64_t M, N, K, step;                                  /* of what is shared out at once */
    const atv_real *A, *B, *from;                           /* from: what B is copied from, its rows c_m apart */
    int64_t a_m, a_k, b_panel, b_k, c_m;
    atv_real *C, *a, *b;                                    /* a: copied by each lane; b: by all, or by each if own_b */
    int64_t a_size;                                         /* of each lane */
    int add, own_b, a_stays;                                /* a_stays: its columns are read where they lie */
    int64_t chunk, blocks, parts;                           /* of the rows, of the columns */
    int64_t stride;                                         /* as atvi_stride has it */
    const atvi_kernels *k;
} atvi_product_job;

/* Reals of scratch. */
static size_t atvi_product_scratch(const atv_ctx *ctx) {
    return ATVI_MAX(ATVI_COPY_B, (size_t)ATVI_OWN_B * atvi_lanes(ctx)) +
           (size_t)atvi_copy_a(ctx, ATVI_TALLEST) * atvi_lanes(ctx);
}

static void atvi_product_copy_item(void *arg, int64_t item, int lane) {
    const atvi_product_job *j = (const atvi_product_job *)arg;
    const int64_t n = item * ATVI_COLS;
    (void)lane;
    j->k->panels(j->K, ATVI_MIN(ATVI_COLS, j->N - n), j->from + n, j->c_m, j->b + n / ATVI_PANEL * j->b_panel, j->b_panel);
}

static void atvi_product_item(void *arg, int64_t item, int lane) {
    const atvi_product_job *j = (const atvi_product_job *)arg;
    const int64_t unit = ATVI_MAX(j->k->width, ATVI_PANEL), m = atvi_part(item % j->blocks, j->blocks, j->M, 1);
    const int64_t n0 = atvi_part(item / j->blocks, j->parts, j->N, unit);
    const int64_t rows = atvi_part(item % j->blocks + 1, j->blocks, j->M, 1) - m;
    const int64_t n1 = atvi_part(item / j->blocks + 1, j->parts, j->N, unit), most = j->own_b ? ATVI_COLS : j->N;
    const atv_real *next_rows = j->A + atvi_part((item + j->stride) % j->blocks, j->blocks, j->M, 1) * j->a_m;
    atv_real *a = j->a + lane * j->a_size, *b = j->b + lane * ATVI_OWN_B;
    int64_t k, n, i;
    for (k = 0; k < j->K; k += j->step) {
        const int64_t steps = ATVI_MIN(j->step, j->K - k);
        const atv_real *A = j->A + m * j->a_m + k * j->a_k;
        int64_t a_m = j->a_m, a_k = j->a_k;
        if (j->k->copies_a) {
            j->k->strips(rows, steps, A, a_m, a_k, a);
            A = a;
            a_m = 0;
        } else if (a_m == 1 && !j->a_stays) {
            for (i = 0; i < steps; i++) memcpy(a + i * ATVI_APART, A + i * a_k, (size_t)rows * sizeof *a);
            A = a;
            a_k = ATVI_APART;
        }
        for (n = n0; n < n1; n += most) {
            const int64_t cols = ATVI_MIN(most, n1 - n);
            const atv_real *B = j->B + n / ATVI_PANEL * j->b_panel + k * j->b_k;
            const atv_real *next = k + steps < j->K ? B + steps * j->b_k - (n - n0) : NULL;
            int64_t b_panel = j->b_panel, b_k = j->b_k, next_n = j->a_stays ? -1 : 0;
            if (j->own_b) {
                if (n + cols < n1) next = B + cols;
                next_n = next ? -b_k : 0;
                b_panel = ATVI_PANEL * (steps + 1);
                j->k->panels(steps, cols, B, b_k, b, b_panel);
                B = b;
                b_k = ATVI_PANEL;
            }
            j->k->matmul(rows, cols, steps, A, a_m, a_k, B, b_panel, b_k, j->C + m * j->c_m + n, j->c_m, NULL,
                         j->add || k > 0, j->chunk, next, next_n,
                         a_m <= 1 ? NULL : k + steps < j->K ? A + steps : next_rows);
        }
    }
}

/* Blocks of rows, as tall as a step leaves room for, and parts of columns, for tiles that want strips: what ends soonest if
   a row or a column takes as long to copy as 16 more columns or rows to multiply. */
static void atvi_product_split(atvi_product_job *j, int64_t lanes, int64_t longest) {
    const int64_t fewest = atvi_blocks(j->M, ATVI_TALLEST * ATVI_STEP / longest);
    int64_t blocks, parts, takes, best = INT64_MAX;
    for (blocks = fewest; blocks < fewest + lanes; blocks++) {
        parts = ATVI_MIN(atvi_blocks(lanes, blocks), atvi_blocks(j->N, ATVI_PANEL));
        takes = atvi_blocks(blocks * parts, lanes) * (atvi_blocks(j->M, blocks) + 16) * (atvi_blocks(j->N, parts) + 16);
        if (takes >= best) continue;
        best = takes;
        j->blocks = blocks;
        j->parts = parts;
    }
}

/* C [M,N] = A B (+ C with add). A [M,K] at A + m a_m + k a_k, B [K,N].   scratch [atvi_product_scratch] */
static void atvi_product(atv_ctx *ctx, int64_t M, int64_t N, int64_t K, const atv_real *A, int64_t a_m, int64_t a_k,
                         const atv_real *B, atv_real *C, int add, atv_real *scratch) {
    const int64_t lanes = (int64_t)atvi_lanes(ctx), enough = atvi_enough(ctx);
    const int strips = ctx->kernels->copies_a, narrow = ctx->kernels->width < ATVI_COLS;
    const int copies = M > ATVI_MOST || (!strips && (N % 512 == 0 || narrow));
    int64_t n, k, longest;
    atvi_product_job j;
    j.M = M; j.N = N; j.K = K;
    j.A = A; j.a_m = a_m; j.a_k = a_k; j.B = B; j.b_panel = ATVI_PANEL; j.b_k = N;
    j.C = C; j.c_m = N; j.add = add; j.chunk = atvi_chunk(K); j.blocks = j.parts = 1; j.k = ctx->kernels;
    j.a = scratch; j.a_size = atvi_copy_a(ctx, ATVI_TALLEST); j.b = scratch + j.a_size * lanes;
    j.own_b = strips && !copies;
    j.step = atvi_step(K, longest = j.own_b ? ATVI_SHORT : ATVI_STEP);
    j.a_stays = !strips && !narrow && a_m == 1 && a_k % 512 != 0;
    if (strips) atvi_product_split(&j, lanes, longest);
    else {
        const int64_t tall = a_m == 1 && !narrow ? ATVI_TALLER : ATVI_TALL;
        j.blocks = atvi_row_blocks(ctx, M, tall, copies ? 0 : enough, tall / 2);
        j.parts = j.blocks < enough ? ATVI_MIN(atvi_blocks(enough, j.blocks), atvi_blocks(N, 4 * ATVI_COLS)) : 1;
    }
    j.stride = atvi_stride(ctx, j.blocks * j.parts);
    if (!copies) atvi_parallel(ctx, j.blocks * j.parts, atvi_product_item, &j);
    for (n = 0; copies && n < N; n += ATVI_MOST)
        for (k = 0; k < K; k += j.step) {
            j.N = ATVI_MIN(ATVI_MOST, N - n);
            j.K = ATVI_MIN(j.step, K - k);
            j.A = A + k * a_k;
            j.from = B + k * N + n;
            j.B = j.b;
            j.b_panel = ATVI_PANEL * (j.K + 1);
            j.b_k = ATVI_PANEL;
            j.C = C + n;
            j.add = add || k > 0;
            atvi_parallel(ctx, atvi_blocks(j.N, ATVI_COLS), atvi_product_copy_item, &j);
            atvi_parallel(ctx, j.blocks * j.parts, atvi_product_item, &j);
        }
}

/* dW += dy^T x, db += column sums of dy, dx = dy W (or += with add); dx comes last and may take x's place.
   dy [n,N]  x, dx [n,K]  W, dW [N,K]  db [N] or NULL   scratch [atvi_product_scratch] */
static void atvi_linear_back(atv_ctx *ctx, int64_t n, int64_t N, int64_t K, const atv_real *dy, const atv_real *x,
                             const atv_real *W, atv_real *dx, int add, atv_real *dW, atv_real *db, atv_real *scratch) {
    atvi_product(ctx, N, K, n, dy, 1, N, x, dW, 1, scratch);
    atvi_product(ctx, n, K, N, dy, N, 1, W, dx, add, scratch);
    if (db) {
        atvi_colsum_job j;
        j.n = n; j.N = N; j.x = dy; j.sum = db; j.k = ctx->kernels;
        atvi_parallel(ctx, atvi_blocks(N, ATVI_COLS), atvi_colsum_item, &j);
    }
}
/* ==== >>attn-forward ============================================================================================== */

/* Query rows whose scores are held at once: of more, more are hidden where a block meets its own keys, and sums over fewer
   are short. The backward holds those of ATVI_KEYS keys, which the nearer caches keep. */
#define ATVI_QUERIES 48
#define ATVI_KEYS 192

/* Where attention's sums are cut: not before a block of queries ends, as its tiles are short already. */
static int64_t atvi_attn_chunk(int64_t K) { return K <= 256 ? 64 : atvi_chunk(K); }

struct atv_attn {
    atv_ctx *ctx;
    atv_attn_desc desc;
    int *kv_of_head;                                        /* [H] */
    int *heads, *first;                                     /* query heads of group g: heads[first[g]..first[g+1]-1] */
    int in_order;                                           /* heads[n] is n */
    atv_real *scratch;                                      /* scratch_size for each lane */
    size_t scratch_size;
};

ATVDEF int atv_kv_of_head(int n_head, int n_kv_head, const int *kv_of_head, int head) {
    int small = n_head / n_kv_head, larger = n_head % n_kv_head;       /* the first `larger` groups have small + 1 heads */
    if (kv_of_head) return kv_of_head[head];
    if (head < larger * (small + 1)) return head / (small + 1);
    return larger + (head - larger * (small + 1)) / small;
}

/* The checks that a layer of a model and attention on its own share. */
static atv_result atvi_check_heads(atv_ctx *ctx, int n_head, int n_kv_head, const int *kv_of_head) {
    int h;
    if (n_head < 1 || n_head > 65536) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_head=%d is not 1..65536", n_head);
    if (n_kv_head < 1 || n_kv_head > n_head)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_kv_head=%d is not 1..n_head=%d", n_kv_head, n_head);
    for (h = 0; kv_of_head && h < n_head; h++)
        if (kv_of_head[h] < 0 || kv_of_head[h] >= n_kv_head)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "kv_of_head[%d]=%d but n_kv_head=%d", h, kv_of_head[h], n_kv_head);
    return ATV_OK;
}

ATVDEF atv_result atv_attn_resolve(atv_ctx *ctx, const atv_attn_desc *desc, atv_attn_desc *out) {
    atv_attn_desc d = *desc;
    if (d.n_kv_head == 0) d.n_kv_head = d.n_head;
    ATVI_TRY(atvi_check_heads(ctx, d.n_head, d.n_kv_head, d.kv_of_head));
    if (d.head_dim == 0) {
        if (d.kqv_size <= 0 || d.kqv_size % d.n_head != 0)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "head_dim=0, and kqv_size=%d is no positive multiple of n_head=%d",
                             d.kqv_size, d.n_head);
        d.head_dim = d.kqv_size / d.n_head;
    }
    if (d.head_dim < 1 || d.head_dim > 65536)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "head_dim=%d is not 1..65536", d.head_dim);
    if (d.value_dim == 0) d.value_dim = d.head_dim;
    if (d.value_dim < 1 || d.value_dim > 65536)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "value_dim=%d is not 1..65536", d.value_dim);
    if ((int64_t)d.n_head * ATVI_MAX(d.head_dim, d.value_dim) > INT_MAX / 4)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_head=%d heads of %d are too many", d.n_head,
                         ATVI_MAX(d.head_dim, d.value_dim));
    if (d.kqv_size == 0) d.kqv_size = d.n_head * d.head_dim;
    if (d.kqv_size != d.n_head * d.head_dim)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "kqv_size=%d but n_head=%d times head_dim=%d is %d", d.kqv_size, d.n_head,
                         d.head_dim, d.n_head * d.head_dim);
    if (!atvi_finite((double)d.scale)) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "scale=%g is not finite", (double)d.scale);
    if (d.scale == 0)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "scale=0 is not set: 1 for GPT-Neo, 1/sqrt(head_dim) for most others");
    if (d.window < 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "window=%d is negative", d.window);
    if (d.max_keys < 1 || d.max_keys > INT_MAX / 64)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "max_keys=%d is not 1..%d", d.max_keys, INT_MAX / 64);
    *out = d;
    return ATV_OK;
}

/* Reals of scratch per lane: copies of keys and values, scores, a block's in the backward with their gradient and copies of
   its queries and dout, and two rows for all query heads. */
static size_t atvi_attn_scratch(const atv_attn_desc *d) {
    const size_t keys = (size_t)ATVI_ROUND(d->max_keys), rows = (size_t)ATVI_MAX(ATVI_QUERIES, d->n_head);
    const size_t wide = (size_t)(ATVI_ROUND((int64_t)d->head_dim) + ATVI_ROUND((int64_t)d->value_dim));
    size_t n = atvi_size(keys, (size_t)d->head_dim + wide, 0);
    n = atvi_size(keys, rows, n);
    n = atvi_size(ATVI_QUERIES, 2 * ATVI_KEYS + wide, n);
    return atvi_size((size_t)d->n_head, (size_t)d->head_dim + (size_t)d->value_dim, n);
}

static void atvi_attn_layout(atvi_arena *arena, const atv_attn_desc *d, atv_attn *attn) {
    attn->kv_of_head = (int *)atvi_take(arena, (size_t)d->n_head, sizeof(int));
    attn->heads = (int *)atvi_take(arena, (size_t)d->n_head, sizeof(int));
    attn->first = (int *)atvi_take(arena, (size_t)d->n_kv_head + 1, sizeof(int));
}

/* Fills the maps of a laid out attention from a resolved description. */
static void atvi_attn_fill(atv_ctx *ctx, const atv_attn_desc *d, atv_attn *attn) {
    int g, h, n = 0;
    attn->ctx = ctx;
    attn->desc = *d;
    for (h = 0; h < d->n_head; h++) attn->kv_of_head[h] = atv_kv_of_head(d->n_head, d->n_kv_head, d->kv_of_head, h);
    for (g = 0; g < d->n_kv_head; g++) {
        attn->first[g] = n;
        for (h = 0; h < d->n_head; h++)
            if (attn->kv_of_head[h] == g) attn->heads[n++] = h;
    }
    attn->first[d->n_kv_head] = n;
    for (h = 0; h < n && attn->heads[h] == h; h++) {}
    attn->in_order = h == n;
    attn->desc.kv_of_head = attn->kv_of_head;
}

static atv_attn *atvi_attn_whole(atvi_arena *arena, atv_ctx *ctx, const atv_attn_desc *d) {
    atv_attn measure, *self = (atv_attn *)atvi_take(arena, 1, sizeof *self), *attn = self ? self : &measure;
    size_t size = (atvi_attn_scratch(d) + 15) / 16 * 16;
    memset(attn, 0, sizeof *attn);
    atvi_attn_layout(arena, d, attn);
    attn->scratch_size = size;
    attn->scratch = (atv_real *)atvi_take(arena, atvi_size(size, atvi_lanes(ctx), 0), sizeof(atv_real));
    return self;
}

ATVDEF atv_result atv_attn_bytes(atv_ctx *ctx, const atv_attn_desc *desc, size_t *out) {
    atv_attn_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atv_attn_resolve(ctx, desc, &d));
    atvi_attn_whole(&arena, ctx, &d);
    *out = atvi_arena_bytes(&arena);
    return ATV_OK;
}

ATVDEF atv_result atv_attn_create(atv_ctx *ctx, const atv_attn_desc *desc, atv_attn **out) {
    atv_attn_desc d;
    atv_attn *attn;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atv_attn_resolve(ctx, desc, &d));
    atvi_attn_whole(&arena, ctx, &d);
    arena.base = (char *)atvi_alloc(ctx, arena.used);
    if (!arena.base) return ATV_ERR_MEMORY;
    arena.used = 0;
    attn = atvi_attn_whole(&arena, ctx, &d);
    atvi_attn_fill(ctx, &d, attn);
    *out = attn;
    return ATV_OK;
}

ATVDEF void atv_attn_destroy(atv_attn *attn) { if (attn) atvi_free(attn->ctx, attn); }
ATVDEF const atv_attn_desc *atv_attn_info(const atv_attn *attn) { return &attn->desc; }

/* Positions x heads x dim, seen through strides; `row` is the distance of whole sequences, 0 when they are ragged. */
typedef struct atvi_view { atv_real *p; int64_t row, pos, head; } atvi_view;

/* One call on many sequences. */
typedef struct atvi_attn_call {
    const atv_attn *attn;
    int n_seq;
    const int *q_len, *k_len, *q_offset;                    /* NULL as in atv_attn_seqs */
    int q_all, k_all;                                       /* lengths of every sequence where the array is NULL */
    const int64_t *q_start, *k_start;                       /* ragged: first position of each; NULL: summed up here */
    int blocks, items;                                      /* query blocks of an item; items of a sequence and head */
    atvi_view q, k, v, out, lse, dout, dq, dk, dv, probs;   /* probs: row, pos, head as strides of (b, i, h) */
} atvi_attn_call;

/* One sequence of it. */
typedef struct atvi_attn_seq { int64_t q_len, k_len, offset, q_at, k_at; int b; } atvi_attn_seq;

static atvi_attn_seq atvi_attn_seq_of(const atvi_attn_call *c, int b) {
    atvi_attn_seq s;
    int i;
    s.b = b;
    s.q_len = c->q_len ? c->q_len[b] : c->q_all;
    s.k_len = c->k_len ? c->k_len[b] : c->k_all;
    s.offset = c->q_offset ? c->q_offset[b] : s.k_len - s.q_len;
    s.q_at = c->q_start ? c->q_start[b] : 0;
    s.k_at = c->k_start ? c->k_start[b] : 0;
    if (!c->q_start && c->q.row == 0) for (i = 0; i < b; i++) s.q_at += c->q_len[i];
    if (!c->k_start && c->k.row == 0) for (i = 0; i < b; i++) s.k_at += c->k_len[i];
    return s;
}

static atv_real *atvi_at(const atvi_view *v, int b, int64_t pos, int head) {
    return v->p + b * v->row + pos * v->pos + head * v->head;
}

/* The keys that query i of a sequence sees: [*lo, *hi). */
static void atvi_visible(const atv_attn_desc *d, const atvi_attn_seq *s, int64_t i, int64_t *lo, int64_t *hi) {
    int64_t at = s->offset + i;
    *hi = d->non_causal ? s->k_len : ATVI_MAX(0, ATVI_MIN(s->k_len, at + 1));
    *lo = d->window ? ATVI_MIN(*hi, ATVI_MAX(0, at - d->window + 1)) : 0;
}

/* One block of query rows of one head against the keys that any of them sees. */
typedef struct atvi_attn_block {
    int64_t i0, rows;                                       /* queries i0 .. i0 + rows - 1 */
    int64_t j0, cols;                                       /* keys j0 .. j0 + cols - 1, j0 a multiple of 16 */
    int64_t keys, stride;                                   /* room for keys; of the scores' rows */
    atv_real *k, *v, *k_rows, *v_rows, *p;                  /* a lane's scratch: K and V packed, or in rows; scores */
} atvi_attn_block;

static atvi_attn_block atvi_attn_block_of(const atvi_attn_call *c, const atvi_attn_seq *s, int64_t i0, int lane) {
    const atv_attn_desc *d = &c->attn->desc;
    atvi_attn_block b;
    int64_t lo, hi;
    b.i0 = i0;
    b.rows = ATVI_MIN(ATVI_QUERIES, s->q_len - i0);
    atvi_visible(d, s, i0, &lo, &hi);
    b.j0 = lo / ATVI_PANEL * ATVI_PANEL;
    atvi_visible(d, s, i0 + b.rows - 1, &lo, &hi);
    b.cols = ATVI_MAX(0, hi - b.j0);
    b.keys = b.stride = ATVI_ROUND((int64_t)d->max_keys);
    b.k = c->attn->scratch + (size_t)lane * c->attn->scratch_size;
    b.v = b.v_rows = b.k + b.keys * d->head_dim;            /* forward and backward need one of them each */
    b.k_rows = b.v + b.keys * ATVI_ROUND((int64_t)d->value_dim);
    b.p = b.k_rows + b.keys * ATVI_ROUND((int64_t)d->head_dim);
    return b;
}

/* p[i,j] = scale q_i . k_j turned into probabilities: with lse given they are recomputed from it, else it is found (and
   stored where lse_out is set). Keys must be packed from key 0 on. Hidden entries become 0. */
static void atvi_attn_rows(const atvi_attn_call *c, const atvi_attn_seq *s, const atvi_attn_block *b, int h, int known) {
    const atv_attn_desc *d = &c->attn->desc;
    const atvi_kernels *k = c->attn->ctx->kernels;
    int64_t i, lo, hi;
    k->matmul(b->rows, b->cols, d->head_dim, atvi_at(&c->q, s->b, s->q_at + b->i0, h), c->q.pos, 1,
              b->k + b->j0 * d->head_dim, (int64_t)ATVI_PANEL * d->head_dim, ATVI_PANEL, b->p, b->stride, NULL, 0,
              atvi_attn_chunk(d->head_dim), NULL, 0, NULL);
    for (i = 0; i < b->rows; i++) {
        atv_real *p = b->p + i * b->stride, lse = -(atv_real)HUGE_VAL;
        atvi_visible(d, s, b->i0 + i, &lo, &hi);
        lo = ATVI_MAX(0, ATVI_MIN(b->cols, lo - b->j0));
        hi = ATVI_MAX(lo, ATVI_MIN(b->cols, hi - b->j0));
        if (known) k->exp_shift(hi - lo, p + lo, (atv_real)d->scale, *atvi_at(&c->lse, s->b, s->q_at + b->i0 + i, h));
        else if (hi > lo) lse = (atv_real)k->softmax(hi - lo, p + lo, (atv_real)d->scale, NULL, 0);
        if (!known && c->lse.p) *atvi_at(&c->lse, s->b, s->q_at + b->i0 + i, h) = lse;
        memset(p, 0, (size_t)lo * sizeof *p);
        memset(p + hi, 0, (size_t)(b->cols - hi) * sizeof *p);
    }
}

/* An item: one sequence, one key/value head, some blocks of queries, for all query heads of the group. */
static void atvi_attn_forward_item(void *arg, int64_t item, int lane) {
    const atvi_attn_call *c = (const atvi_attn_call *)arg;
    const atv_attn *attn = c->attn;
    const atv_attn_desc *d = &attn->desc;
    const atvi_kernels *k = attn->ctx->kernels;
    int g = (int)(item / c->items % d->n_kv_head), n;
    atvi_attn_seq s = atvi_attn_seq_of(c, (int)(item / c->items / d->n_kv_head));
    int64_t i0 = item % c->items * c->blocks * ATVI_QUERIES;
    int64_t end = ATVI_MIN(s.q_len, i0 + (int64_t)c->blocks * ATVI_QUERIES), hi;
    atvi_attn_block b, last;
    if (i0 >= end || attn->first[g] == attn->first[g + 1]) return;
    b = atvi_attn_block_of(c, &s, i0, lane);
    last = atvi_attn_block_of(c, &s, (end - 1) / ATVI_QUERIES * ATVI_QUERIES, lane);
    hi = last.j0 + last.cols;
    atvi_pack_panels(b.j0 / ATVI_PANEL, atvi_blocks(hi, ATVI_PANEL), s.k_len, d->head_dim,
                     atvi_at(&c->k, s.b, s.k_at, g), c->k.pos, b.k);
    if (c->out.p) k->panels(hi - b.j0, d->value_dim, atvi_at(&c->v, s.b, s.k_at + b.j0, g), c->v.pos,
                            b.v_rows + b.j0 * ATVI_PANEL, ATVI_PANEL * b.keys);
    for (; i0 < end; i0 += ATVI_QUERIES) {
        b = atvi_attn_block_of(c, &s, i0, lane);
        for (n = attn->first[g]; n < attn->first[g + 1]; n++) {
            int h = attn->heads[n];
            atvi_attn_rows(c, &s, &b, h, 0);
            if (c->out.p)
                k->matmul(b.rows, d->value_dim, b.cols, b.p, b.stride, 1, b.v_rows + b.j0 * ATVI_PANEL, ATVI_PANEL * b.keys,
                          ATVI_PANEL, atvi_at(&c->out, s.b, s.q_at + i0, h), c->out.pos, NULL, 0, atvi_attn_chunk(b.cols),
                          NULL, 0, NULL);
            if (c->probs.p) {
                int64_t i;
                for (i = 0; i < b.rows; i++)
                    memcpy(atvi_at(&c->probs, s.b, i0 + i, h) + b.j0, b.p + i * b.stride, (size_t)b.cols * sizeof *b.p);
            }
        }
    }
}

/* As few items as keep all lanes at work: each packs its keys once. */
static void atvi_attn_forward(atvi_attn_call *c) {
    int b;
    int64_t longest = c->q_all, heads = (int64_t)c->n_seq * c->attn->desc.n_kv_head, blocks, items;
    if (c->q_len) for (longest = 0, b = 0; b < c->n_seq; b++) longest = ATVI_MAX(longest, c->q_len[b]);
    blocks = ATVI_MAX(1, atvi_blocks(longest, ATVI_QUERIES));
    items = atvi_blocks(8 * (int64_t)atvi_lanes(c->attn->ctx), ATVI_MAX(1, heads));
    c->blocks = (int)atvi_blocks(blocks, ATVI_MIN(blocks, items));
    c->items = (int)atvi_blocks(blocks, c->blocks);
    atvi_parallel(c->attn->ctx, heads * c->items, atvi_attn_forward_item, c);
}

/* ==== >>attn-backward ============================================================================================= */

/* The forward did p = softmax(scale q k^T), out = p v. So dv = p^T dout, dp = dout v^T,
   ds = scale p (dp - delta) with delta = sum_j p dp = dout . out, dq = ds k, dk = ds^T q; p is recomputed from lse.
   An item takes all of one sequence and key/value head, so dk and dv are summed in a fixed order. */
static void atvi_attn_backward_item(void *arg, int64_t item, int lane) {
    const atvi_attn_call *c = (const atvi_attn_call *)arg;
    const atv_attn *attn = c->attn;
    const atv_attn_desc *d = &attn->desc;
    const atvi_kernels *k = attn->ctx->kernels;
    int g = (int)(item % d->n_kv_head), n;
    int64_t i0, i, panels, end;
    atvi_attn_seq s = atvi_attn_seq_of(c, (int)(item / d->n_kv_head));
    atvi_attn_block b;
    if (s.q_len == 0 || s.k_len == 0 || attn->first[g] == attn->first[g + 1]) return;
    panels = atvi_blocks(s.k_len, ATVI_PANEL);
    b = atvi_attn_block_of(c, &s, 0, lane);
    atvi_pack_panels(0, panels, s.k_len, d->head_dim, atvi_at(&c->k, s.b, s.k_at, g), c->k.pos, b.k);
    atvi_pack_panels(0, panels, s.k_len, d->value_dim, atvi_at(&c->v, s.b, s.k_at, g), c->v.pos, b.v);
    k->panels(s.k_len, d->head_dim, atvi_at(&c->k, s.b, s.k_at, g), c->k.pos, b.k_rows, ATVI_PANEL * b.keys);
    for (n = attn->first[g]; n < attn->first[g + 1]; n++) {
        int h = attn->heads[n];
        for (i0 = 0; i0 < s.q_len; i0 += ATVI_QUERIES) {
            const atv_real *q = atvi_at(&c->q, s.b, s.q_at + i0, h), *dout = atvi_at(&c->dout, s.b, s.q_at + i0, h);
            atv_real delta[ATVI_QUERIES], *dp, *q_rows, *dout_rows;
            b = atvi_attn_block_of(c, &s, i0, lane);
            b.stride = ATVI_KEYS;
            dp = b.p + ATVI_QUERIES * ATVI_KEYS;
            q_rows = dp + ATVI_QUERIES * ATVI_KEYS;
            dout_rows = q_rows + ATVI_QUERIES * ATVI_ROUND((int64_t)d->head_dim);
            k->panels(b.rows, d->head_dim, q, c->q.pos, q_rows, ATVI_PANEL * b.rows);
            k->panels(b.rows, d->value_dim, dout, c->dout.pos, dout_rows, ATVI_PANEL * b.rows);
            for (i = 0; i < b.rows; i++)
                delta[i] = k->dot(d->value_dim, dout + i * c->dout.pos, atvi_at(&c->out, s.b, s.q_at + i0 + i, h));
            for (end = b.j0 + b.cols; b.j0 < end; b.j0 += ATVI_KEYS) {
                b.cols = ATVI_MIN(ATVI_KEYS, end - b.j0);
                atvi_attn_rows(c, &s, &b, h, 1);
                k->matmul(b.cols, d->value_dim, b.rows, b.p, 1, b.stride, dout_rows, ATVI_PANEL * b.rows, ATVI_PANEL,
                          atvi_at(&c->dv, s.b, s.k_at + b.j0, g), c->dv.pos, NULL, 1, atvi_attn_chunk(b.rows), NULL, 0,
                          NULL);
                k->matmul(b.rows, b.cols, d->value_dim, dout, c->dout.pos, 1, b.v + b.j0 * d->value_dim,
                          (int64_t)ATVI_PANEL * d->value_dim, ATVI_PANEL, dp, b.stride, NULL, 0,
                          atvi_attn_chunk(d->value_dim), NULL, 0, NULL);
                for (i = 0; i < b.rows; i++)
                    k->softmax_back(b.cols, b.p + i * b.stride, dp + i * b.stride, (atv_real)d->scale, delta[i]);
                k->matmul(b.rows, d->head_dim, b.cols, dp, b.stride, 1, b.k_rows + b.j0 * ATVI_PANEL, ATVI_PANEL * b.keys,
                          ATVI_PANEL, atvi_at(&c->dq, s.b, s.q_at + i0, h), c->dq.pos, NULL, 1, atvi_attn_chunk(b.cols),
                          NULL, 0, NULL);
                k->matmul(b.cols, d->head_dim, b.rows, dp, 1, b.stride, q_rows, ATVI_PANEL * b.rows, ATVI_PANEL,
                          atvi_at(&c->dk, s.b, s.k_at + b.j0, g), c->dk.pos, NULL, 1, atvi_attn_chunk(b.rows), NULL, 0,
                          NULL);
            }
        }
    }
}

static void atvi_attn_backward(atvi_attn_call *c) {
    atvi_parallel(c->attn->ctx, (int64_t)c->n_seq * c->attn->desc.n_kv_head, atvi_attn_backward_item, c);
}

/* ---- attention on its own: tensors to views ---- */

/* t must be [.., heads, dim], rank 3 or 4 like the call's q (rank_ref), and hold `count` positions or rows of T. */
static atv_result atvi_attn_view(atv_ctx *ctx, const char *name, const atv_tensor *t, int rank, int64_t d0, int64_t d1,
                                 int heads, int dim, atvi_view *out) {
    int64_t h = t->dims[t->rank == rank ? rank - 2 : 0], e = t->dims[t->rank == rank ? rank - 1 : 0];
    if (t->rank != rank) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s has rank %d, where q has %d", name, t->rank, rank);
    if (t->dtype != ATV_REAL)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s has dtype %s, not %s", name,
                         atv_dtype_name(t->dtype), atv_dtype_name(ATV_REAL));
    if (h != heads || e != dim)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s ends in [%ld,%ld], not [%d,%d]", name, (long)h, (long)e, heads, dim);
    if (t->strides[rank - 1] != 1 && dim > 1)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s's last stride is %ld, not 1", name, (long)t->strides[rank - 1]);
    if (rank == 4 ? t->dims[0] < d0 || t->dims[1] < d1 : t->dims[0] < d0)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s has %ld %s, too few for %ld", name,
                         (long)(rank == 4 && t->dims[0] >= d0 ? t->dims[1] : t->dims[0]),
                         rank == 4 && t->dims[0] < d0 ? "rows" : "positions",
                         (long)(rank == 4 && t->dims[0] >= d0 ? d1 : d0));
    if (!t->data && d0 > 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s has no data", name);
    out->p = (atv_real *)t->data;
    out->row = rank == 4 ? t->strides[0] : 0;
    out->pos = t->strides[rank - 3];
    out->head = t->strides[rank - 2];
    return ATV_OK;
}

/* The sizes that a call's tensors must have. */
typedef struct atvi_attn_need { int rank; int64_t q0, q1, k0, k1; } atvi_attn_need;

static atv_result atvi_attn_seqs_check(atv_attn *attn, const atv_attn_seqs *seqs, const atv_tensor *q, const atv_tensor *k,
                                       atvi_attn_call *c, atvi_attn_need *need) {
    atv_ctx *ctx = attn->ctx;
    int b, rank = q->rank;
    memset(c, 0, sizeof *c);
    if (rank != 3 && rank != 4) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "q has rank %d, not 3 or 4", rank);
    if (seqs->n_seq < 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_seq=%d is negative", seqs->n_seq);
    if (rank == 3 && !seqs->q_len && seqs->n_seq > 0)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "q_len is NULL, which rank 3 does not allow");
    c->attn = attn;
    c->n_seq = seqs->n_seq;
    c->q_len = seqs->q_len;
    c->k_len = seqs->k_len ? seqs->k_len : rank == 3 ? seqs->q_len : NULL;
    c->q_offset = seqs->q_offset;
    need->rank = rank;
    need->q0 = need->k0 = rank == 4 ? seqs->n_seq : 0;
    need->q1 = need->k1 = 0;
    if (rank == 4) {
        if (q->dims[1] > INT_MAX / 2 || (k->rank == 4 && k->dims[1] > INT_MAX / 2))
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "q or k is too long");
        c->q_all = (int)q->dims[1];
        c->k_all = k->rank == 4 ? (int)k->dims[1] : 0;
    }
    for (b = 0; b < seqs->n_seq; b++) {
        int ql = c->q_len ? c->q_len[b] : c->q_all, kl = c->k_len ? c->k_len[b] : c->k_all;
        if (ql < 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "q_len[%d]=%d is negative", b, ql);
        if (kl < 0 || kl > attn->desc.max_keys)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "k_len[%d]=%d is not 0..max_keys=%d", b, kl, attn->desc.max_keys);
        if (rank == 3) { need->q0 += ql; need->k0 += kl; }
        else { need->q1 = ATVI_MAX(need->q1, ql); need->k1 = ATVI_MAX(need->k1, kl); }
    }
    ATVI_TRY(atvi_attn_view(ctx, "q", q, rank, need->q0, need->q1, attn->desc.n_head, attn->desc.head_dim, &c->q));
    return atvi_attn_view(ctx, "k", k, rank, need->k0, need->k1, attn->desc.n_kv_head, attn->desc.head_dim, &c->k);
}

/* lse has no last dimension: give it one of size 1. */
static atv_result atvi_attn_lse(atv_attn *attn, const atv_tensor *lse, const atvi_attn_need *need, atvi_view *out) {
    atv_tensor t = *lse;
    if (t.rank != need->rank - 1)
        return atvi_fail(attn->ctx, ATV_ERR_ARGUMENT, "lse has rank %d, not %d", t.rank, need->rank - 1);
    t.dims[t.rank] = 1;
    t.strides[t.rank] = 1;
    t.rank++;
    return atvi_attn_view(attn->ctx, "lse", &t, need->rank, need->q0, need->q1, attn->desc.n_head, 1, out);
}

ATVDEF atv_result atv_attn_forward(atv_attn *attn, const atv_attn_seqs *seqs, const atv_tensor *q, const atv_tensor *k,
                                   const atv_tensor *v, const atv_tensor *out, const atv_tensor *lse) {
    const atv_attn_desc *d = &attn->desc;
    atvi_attn_call c;
    atvi_attn_need n;
    ATVI_TRY(atvi_attn_seqs_check(attn, seqs, q, k, &c, &n));
    ATVI_TRY(atvi_attn_view(attn->ctx, "v", v, n.rank, n.k0, n.k1, d->n_kv_head, d->value_dim, &c.v));
    ATVI_TRY(atvi_attn_view(attn->ctx, "out", out, n.rank, n.q0, n.q1, d->n_head, d->value_dim, &c.out));
    if (lse) ATVI_TRY(atvi_attn_lse(attn, lse, &n, &c.lse));
    atvi_attn_forward(&c);
    return ATV_OK;
}

ATVDEF atv_result atv_attn_backward(atv_attn *attn, const atv_attn_seqs *seqs, const atv_tensor *q, const atv_tensor *k,
                                    const atv_tensor *v, const atv_tensor *out,
                                    const atv_tensor *lse, const atv_tensor *dout,
                                    const atv_tensor *dq, const atv_tensor *dk, const atv_tensor *dv) {
    const atv_attn_desc *d = &attn->desc;
    atvi_attn_call c;
    atvi_attn_need n;
    ATVI_TRY(atvi_attn_seqs_check(attn, seqs, q, k, &c, &n));
    ATVI_TRY(atvi_attn_view(attn->ctx, "v", v, n.rank, n.k0, n.k1, d->n_kv_head, d->value_dim, &c.v));
    ATVI_TRY(atvi_attn_view(attn->ctx, "out", out, n.rank, n.q0, n.q1, d->n_head, d->value_dim, &c.out));
    if (!lse) return atvi_fail(attn->ctx, ATV_ERR_ARGUMENT, "lse is NULL, but the backward needs the forward's");
    ATVI_TRY(atvi_attn_lse(attn, lse, &n, &c.lse));
    ATVI_TRY(atvi_attn_view(attn->ctx, "dout", dout, n.rank, n.q0, n.q1, d->n_head, d->value_dim, &c.dout));
    ATVI_TRY(atvi_attn_view(attn->ctx, "dq", dq, n.rank, n.q0, n.q1, d->n_head, d->head_dim, &c.dq));
    ATVI_TRY(atvi_attn_view(attn->ctx, "dk", dk, n.rank, n.k0, n.k1, d->n_kv_head, d->head_dim, &c.dk));
    ATVI_TRY(atvi_attn_view(attn->ctx, "dv", dv, n.rank, n.k0, n.k1, d->n_kv_head, d->value_dim, &c.dv));
    atvi_attn_backward(&c);
    return ATV_OK;
}

ATVDEF atv_result atv_attn_probs(atv_attn *attn, const atv_attn_seqs *seqs, const atv_tensor *q, const atv_tensor *k,
                                 const atv_tensor *probs) {
    atvi_attn_call c;
    atvi_attn_need n;
    atv_tensor zero = *probs;
    int64_t b, h, i, tq = 0, tk = 0;
    ATVI_TRY(atvi_attn_seqs_check(attn, seqs, q, k, &c, &n));
    for (b = 0; b < c.n_seq; b++) {
        tq = ATVI_MAX(tq, c.q_len ? c.q_len[b] : c.q_all);
        tk = ATVI_MAX(tk, c.k_len ? c.k_len[b] : c.k_all);
    }
    if (zero.rank != 4 || zero.dtype != ATV_REAL || zero.strides[3] != 1 || zero.dims[0] < c.n_seq ||
        zero.dims[1] != attn->desc.n_head || zero.dims[2] < tq || zero.dims[3] < tk || !zero.data)
        return atvi_fail(attn->ctx, ATV_ERR_ARGUMENT, "probs is not [n_seq=%d,n_head=%d,%ld or more,%ld or more] of %s",
                         c.n_seq, attn->desc.n_head, (long)tq, (long)tk, atv_dtype_name(ATV_REAL));
    c.probs.p = (atv_real *)zero.data;
    c.probs.row = zero.strides[0];
    c.probs.head = zero.strides[1];
    c.probs.pos = zero.strides[2];
    for (b = 0; b < zero.dims[0]; b++)
        for (h = 0; h < zero.dims[1]; h++)
            for (i = 0; i < zero.dims[2]; i++)
                memset(atvi_at(&c.probs, (int)b, i, (int)h), 0, (size_t)zero.dims[3] * sizeof(atv_real));
    atvi_attn_forward(&c);
    return ATV_OK;
}

/* ==== >>attn-step ================================================================================================= */

struct atv_kv {
    atv_ctx *ctx;
    atv_kv_desc desc;
    int room;                                               /* positions kept: a multiple of 16, a ring if < max_positions */
    int *length, *oldest;                                   /* [n_seq]: positions seen; the first one that is still kept */
    atv_real *k;                                            /* [n_seq][G][room/16][D][16] */
    atv_real *v;                                            /* [n_seq][G][room][Dv] */
};

static atv_result atvi_kv_resolve(atv_ctx *ctx, const atv_kv_desc *desc, atv_kv_desc *out) {
    atv_kv_desc d = *desc;
    if (d.value_dim == 0) d.value_dim = d.head_dim;
    if (d.n_kv_head < 1) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_kv_head=%d is not positive", d.n_kv_head);
    if (d.head_dim < 1) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "head_dim=%d is not positive", d.head_dim);
    if (d.value_dim < 1) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "value_dim=%d is not positive", d.value_dim);
    if (d.n_seq < 1) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_seq=%d is not positive", d.n_seq);
    if (d.max_positions < 1 || d.max_positions > INT_MAX / 64)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "max_positions=%d is not 1..%d", d.max_positions, INT_MAX / 64);
    if (d.window < 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "window=%d is negative", d.window);
    if (d.max_rewind < 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "max_rewind=%d is negative", d.max_rewind);
    *out = d;
    return ATV_OK;
}

static void atvi_kv_layout(atvi_arena *arena, const atv_kv_desc *d, atv_kv *kv) {
    int64_t keep = d->window ? ATVI_MIN((int64_t)d->max_positions, (int64_t)d->window + d->max_rewind) : d->max_positions;
    size_t heads = atvi_size((size_t)d->n_seq, (size_t)d->n_kv_head, 0);
    kv->room = (int)ATVI_ROUND(keep);
    kv->length = (int *)atvi_take(arena, (size_t)d->n_seq, sizeof(int));
    kv->oldest = (int *)atvi_take(arena, (size_t)d->n_seq, sizeof(int));
    kv->k = (atv_real *)atvi_take(arena, atvi_size(heads, atvi_size((size_t)kv->room, (size_t)d->head_dim, 0), 0),
                                  sizeof(atv_real));
    kv->v = (atv_real *)atvi_take(arena, atvi_size(heads, atvi_size((size_t)kv->room, (size_t)d->value_dim, 0), 0),
                                  sizeof(atv_real));
}

static atv_kv *atvi_kv_whole(atvi_arena *arena, atv_ctx *ctx, const atv_kv_desc *d) {
    atv_kv measure, *self = (atv_kv *)atvi_take(arena, 1, sizeof *self), *kv = self ? self : &measure;
    memset(kv, 0, sizeof *kv);
    kv->ctx = ctx;
    kv->desc = *d;
    atvi_kv_layout(arena, d, kv);
    return self;
}

ATVDEF atv_result atv_kv_bytes(atv_ctx *ctx, const atv_kv_desc *desc, size_t *out) {
    atv_kv_desc d = *desc;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_kv_resolve(ctx, desc, &d));
    atvi_kv_whole(&arena, ctx, &d);
    *out = atvi_arena_bytes(&arena);
    return ATV_OK;
}

ATVDEF atv_result atv_kv_create(atv_ctx *ctx, const atv_kv_desc *desc, atv_kv **out) {
    atv_kv_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_kv_resolve(ctx, desc, &d));
    atvi_kv_whole(&arena, ctx, &d);
    arena.base = (char *)atvi_alloc(ctx, arena.used);
    if (!arena.base) return ATV_ERR_MEMORY;
    arena.used = 0;
    *out = atvi_kv_whole(&arena, ctx, &d);
    return ATV_OK;
}

ATVDEF void atv_kv_destroy(atv_kv *kv) { if (kv) atvi_free(kv->ctx, kv); }
ATVDEF int atv_kv_length(const atv_kv *kv, int seq) { return seq < 0 || seq >= kv->desc.n_seq ? -1 : kv->length[seq]; }

static atv_real *atvi_kv_keys(const atv_kv *kv, int seq, int g) {
    return kv->k + ((int64_t)seq * kv->desc.n_kv_head + g) * kv->room * kv->desc.head_dim;
}
static atv_real *atvi_kv_values(const atv_kv *kv, int seq, int g) {
    return kv->v + ((int64_t)seq * kv->desc.n_kv_head + g) * kv->room * kv->desc.value_dim;
}
/* Element d of the key at `slot` is [d * 16] from here. */
static int64_t atvi_kv_slot(const atv_kv *kv, int slot) {
    return (int64_t)slot / ATVI_PANEL * ATVI_PANEL * kv->desc.head_dim + slot % ATVI_PANEL;
}

/* The first position that the next query needs: what lies before it is out of every window. */
static int atvi_kv_needed(const atv_kv *kv, int length) {
    return kv->desc.window ? ATVI_MAX(0, length - kv->desc.window + 1) : 0;
}

/* Whether a sequence may be cut back to `length`: what its window needs must still be there. */
static int atvi_kv_can_cut(const atv_kv *kv, int seq, int length) {
    return length == 0 || kv->oldest[seq] <= atvi_kv_needed(kv, length);
}

static void atvi_kv_set_length(atv_kv *kv, int seq, int length) {
    kv->length[seq] = length;
    if (length == 0) kv->oldest[seq] = 0;
}

ATVDEF atv_result atv_kv_cut(atv_kv *kv, int seq, int length) {
    if (seq < 0 || seq >= kv->desc.n_seq)
        return atvi_fail(kv->ctx, ATV_ERR_ARGUMENT, "seq=%d is not 0..%d", seq, kv->desc.n_seq - 1);
    if (length < 0 || length > kv->length[seq])
        return atvi_fail(kv->ctx, ATV_ERR_ARGUMENT, "length=%d is not 0..%d, the sequence's", length, kv->length[seq]);
    if (!atvi_kv_can_cut(kv, seq, length))
        return atvi_fail(kv->ctx, ATV_ERR_ARGUMENT,
            "length=%d needs positions from %d on, but only those from %d on are kept: max_rewind=%d is too small",
            length, atvi_kv_needed(kv, length), kv->oldest[seq], kv->desc.max_rewind);
    atvi_kv_set_length(kv, seq, length);
    return ATV_OK;
}

/* All that is kept, between equal shapes; `to` may be another cache. */
static void atvi_kv_move(const atv_kv *kv, int from, atv_kv *dst, int to) {
    size_t g = (size_t)kv->desc.n_kv_head * (size_t)kv->room;
    if (kv == dst && from == to) return;
    memcpy(atvi_kv_keys(dst, to, 0), atvi_kv_keys(kv, from, 0), g * (size_t)kv->desc.head_dim * sizeof(atv_real));
    memcpy(atvi_kv_values(dst, to, 0), atvi_kv_values(kv, from, 0), g * (size_t)kv->desc.value_dim * sizeof(atv_real));
    dst->length[to] = kv->length[from];
    dst->oldest[to] = kv->oldest[from];
}

ATVDEF atv_result atv_kv_copy(atv_kv *kv, int from, int to) {
    if (from < 0 || from >= kv->desc.n_seq)
        return atvi_fail(kv->ctx, ATV_ERR_ARGUMENT, "from=%d is not 0..%d", from, kv->desc.n_seq - 1);
    if (to < 0 || to >= kv->desc.n_seq)
        return atvi_fail(kv->ctx, ATV_ERR_ARGUMENT, "to=%d is not 0..%d", to, kv->desc.n_seq - 1);
    atvi_kv_move(kv, from, kv, to);
    return ATV_OK;
}

/* Key and value of head g at `position`. */
static void atvi_kv_put(const atv_kv *kv, int seq, int g, int position, const atv_real *k, const atv_real *v) {
    int slot = position % kv->room, e;
    atv_real *to = atvi_kv_keys(kv, seq, g) + atvi_kv_slot(kv, slot);
    for (e = 0; e < kv->desc.head_dim; e++) to[e * ATVI_PANEL] = k[e];
    memcpy(atvi_kv_values(kv, seq, g) + (int64_t)slot * kv->desc.value_dim, v, (size_t)kv->desc.value_dim * sizeof *v);
}

/* n more positions. A ring keeps the last ones. */
static void atvi_kv_longer(atv_kv *kv, int seq, int n) {
    kv->length[seq] += n;
    kv->oldest[seq] = ATVI_MAX(kv->oldest[seq], kv->length[seq] - kv->room);
}

/* n positions of k [n,G,D] and v [n,G,Dv] at the end of a sequence. */
static void atvi_kv_append(atv_kv *kv, int seq, int n, const atvi_view *k, const atvi_view *v, int64_t at) {
    int i, g;
    for (i = ATVI_MAX(0, n - kv->room); i < n; i++)
        for (g = 0; g < kv->desc.n_kv_head; g++)
            atvi_kv_put(kv, seq, g, kv->length[seq] + i, atvi_at(k, 0, at + i, g), atvi_at(v, 0, at + i, g));
    atvi_kv_longer(kv, seq, n);
}

/* The other way: positions from `from` to the end, as rows k [n][G*D] and v [n][G*Dv]. */
static void atvi_kv_fetch(const atv_kv *kv, int seq, int from, atv_real *k, atv_real *v) {
    int p, g;
    int64_t e;
    for (p = from; p < kv->length[seq]; p++) {
        int slot = p % kv->room;
        for (g = 0; g < kv->desc.n_kv_head; g++) {
            const atv_real *ks = atvi_kv_keys(kv, seq, g) + atvi_kv_slot(kv, slot);
            for (e = 0; e < kv->desc.head_dim; e++) *k++ = ks[e * ATVI_PANEL];
            memcpy(v, atvi_kv_values(kv, seq, g) + (int64_t)slot * kv->desc.value_dim,
                   (size_t)kv->desc.value_dim * sizeof(atv_real));
            v += kv->desc.value_dim;
        }
    }
}

typedef struct atvi_step_job {
    const atv_attn *attn;
    const atv_kv *kv;
    const int *seqs;
    const int64_t *rows;                                    /* row of q and out for each; NULL: its own number */
    atvi_view q, out;
    const atvi_view *k, *v;                                 /* of the last position, still to be put; NULL: it is there */
    int64_t n, units;                                       /* sequences; key/value heads of an item */
} atvi_step_job;

/* The query heads of one key/value head are the rows of one small product; of two heads that have as many, the products are
   done together. The last position is put into its panel of keys when those before it have been read: a panel that is near
   takes it at once.
   Memory is never to be idle. One or two rows have little to compute, and just read on: softmax asks for the values that
   come first. Three and more ask, with matmul_once, for what lies ATVI_SOON reals on, from keys over values to `next`,
   next_n reals that this lane reads after them; softmax asks for what would come meanwhile, and the values for less in
   turn. Where matmul is as fast, they ask for two thirds of the values while they read the keys, in softmax for the rest and
   a third of `next`, and then for what is left of it. */
#define ATVI_SOON 3072                                      /* 12 KB: a fourth of the nearest cache, 400 ns of reading */
static void atvi_step_groups(const atvi_step_job *j, int i, int g, int two, const atv_real *next, int64_t next_n, int lane) {
    const atv_attn *attn = j->attn;
    const atv_attn_desc *d = &attn->desc;
    const atv_kv *kv = j->kv;
    const atvi_kernels *k = attn->ctx->kernels;
    const int *head = attn->heads + attn->first[g];
    const int seq = j->seqs[i], heads = attn->first[g + 1] - attn->first[g], all = two ? 2 * heads : heads, few = heads < 3;
    const int length = kv->length[seq], slots = ATVI_MIN(length, kv->room), oldest = length - slots;
    const int hidden = d->window ? ATVI_MAX(0, length - d->window - oldest) : 0;    /* of the oldest, still there */
    const int64_t row = j->rows ? j->rows[i] : i, stride = ATVI_ROUND((int64_t)slots), q_k = d->head_dim, o_k = d->value_dim;
    const int64_t once = few ? 0 : k->once, step = once ? once : ATVI_PANEL;
    const int64_t put = (length - 1) % kv->room / step * step, q_n = stride * q_k, o_n = slots * o_k;
    const int64_t o_soon = ATVI_MIN(ATVI_SOON, o_n);
    const int half = few || once ? all : (heads + 1) / 2;   /* rows whose softmax asks for values; the others for `next` */
    const int64_t asked = few ? 2 * slots : !once ? o_n / 3 / half
                        : o_k > k->width ? 0 : ATVI_MIN(2 * slots, (o_n - o_soon) / heads);
    const int64_t asked_next = few || once ? 0 : next_n / 3 / (heads - half);
    const atv_real *keys = atvi_kv_keys(kv, seq, g), *values = atvi_kv_values(kv, seq, g);
    const atv_real *first = values + (few ? 0 : once ? o_soon : o_n * 2 / 3);       /* that softmax asks for */
    const atvi_soon after = {first + heads * asked, next, o_n - o_soon - heads * asked, ATVI_MIN(ATVI_SOON, next_n)};
    const atv_real *q = atvi_at(&j->q, 0, row, *head);
    atv_real *p = attn->scratch + (size_t)lane * attn->scratch_size, *out = atvi_at(&j->out, 0, row, *head);
    int64_t q_m = j->q.head, o_m = j->out.head, from, to;
    int n, s;
    if (!attn->in_order) {
        atv_real *copy = p + ATVI_ROUND((int64_t)kv->room) * d->n_head;
        for (n = 0; n < all; n++) memcpy(copy + n * q_k, atvi_at(&j->q, 0, row, head[n]), (size_t)q_k * sizeof *q);
        q = copy;
        q_m = q_k;
        out = copy + d->n_head * q_k;
        o_m = o_k;
    }
    for (n = g; j->k && n <= g + two; n++) {
        atvi_ask(atvi_at(j->k, 0, row, n), q_k);
        atvi_ask(atvi_at(j->v, 0, row, n), o_k);
        atvi_ask_write(atvi_kv_values(kv, seq, n) + (length - 1) % kv->room * o_k, o_k);
    }
    for (n = 0; n < all; n++) atvi_ask_write(out + n * o_m, o_k);
    for (from = 0; from < slots; from = to) {
        const int64_t at = from * q_k + ATVI_SOON, gone = ATVI_MIN(o_n, ATVI_MAX(0, at - q_n));
        to = j->k && from < put ? put : slots;
        for (n = g; j->k && to == slots && n <= g + two; n++)
            atvi_kv_put(kv, seq, n, length - 1, atvi_at(j->k, 0, row, n), atvi_at(j->v, 0, row, n));
        if (two) k->matmul_pair(heads, to - from, q_k, q, q_m, 1, heads * q_m, keys + from * q_k, ATVI_PANEL * q_k,
                                ATVI_PANEL, kv->room * q_k, p + from, stride, heads * stride, atvi_attn_chunk(q_k));
        else if (once) {
            const int64_t n_k = (to - from) * q_k, more = ATVI_MIN(n_k, ATVI_MAX(0, q_n - at));
            const atvi_soon soon = {keys + ATVI_MIN(at, q_n), values + gone, more, ATVI_MIN(n_k - more, o_n - gone)};
            k->matmul_once(heads, to - from, q_k, q, q_m, 1, keys + from * q_k, ATVI_PANEL * q_k, ATVI_PANEL, p + from,
                           stride, atvi_attn_chunk(q_k), &soon);
        } else k->matmul(heads, to - from, q_k, q, q_m, 1, keys + from * q_k, ATVI_PANEL * q_k, ATVI_PANEL, p + from, stride,
                         NULL, 0, atvi_attn_chunk(q_k), values + from * o_k * 2 / 3, (to - from) * o_k * 2 / 3, NULL);
    }
    for (n = 0; n < all; n++) {
        atv_real *x = p + n * stride;
        for (s = 0; s < hidden; s++) x[(oldest + s) % kv->room] = -(atv_real)3e38 / (atv_real)d->scale;
        if (n >= half) k->softmax(slots, x, (atv_real)d->scale, next + (n - half) * asked_next, asked_next);
        else k->softmax(slots, x, (atv_real)d->scale, first + n / heads * kv->room * o_k + n % heads * asked, asked);
    }
    if (two) k->matmul_pair(heads, o_k, slots, p, stride, 1, heads * stride, values, ATVI_PANEL, o_k, kv->room * o_k,
                            out, o_m, heads * o_m, atvi_attn_chunk(slots));
    else if (once) k->matmul_once(heads, o_k, slots, p, stride, 1, values, ATVI_PANEL, o_k, out, o_m,
                                  atvi_attn_chunk(slots), &after);
    else k->matmul(heads, o_k, slots, p, stride, 1, values, ATVI_PANEL, o_k, out, o_m, NULL, 0, atvi_attn_chunk(slots),
                   next_n ? next + next_n / 3 : NULL, next_n * 2 / 3, NULL);
    for (n = 0; n < all && !attn->in_order; n++)
        memcpy(atvi_at(&j->out, 0, row, head[n]), out + n * o_k, (size_t)o_k * sizeof *out);
}

/* An item: `units` key/value heads, one sequence's after the other's. */
static void atvi_step_item(void *arg, int64_t item, int lane) {
    const atvi_step_job *j = (const atvi_step_job *)arg;
    const atv_kv *kv = j->kv;
    const int *first = j->attn->first;
    const int64_t n_kv_head = kv->desc.n_kv_head, end = ATVI_MIN((item + 1) * j->units, j->n * n_kv_head);
    int64_t u = item * j->units;
    while (u < end) {
        const int i = (int)(u / n_kv_head), g = (int)(u % n_kv_head), heads = first[g + 1] - first[g];
        const int two = heads < 3 && u + 1 < end && g + 1 < n_kv_head && first[g + 2] - first[g + 1] == heads;
        const int64_t after = ATVI_MIN(u + 1 + two, j->n * n_kv_head - 1);
        const int seq = j->seqs[after / n_kv_head];
        const atv_real *next = atvi_kv_keys(kv, seq, (int)(after % n_kv_head));
        const int64_t next_n = after > u ? ATVI_MIN(kv->length[seq], kv->room) * (int64_t)kv->desc.head_dim : 0;
        u += 1 + two;
        atvi_step_groups(j, i, g, two, next, next_n, lane);
    }
}

/* Four key/value heads an item if that leaves each lane four items, two if it leaves two. */
static void atvi_attn_step(atvi_step_job *j, int n) {
    const int64_t all = n * (int64_t)j->kv->desc.n_kv_head, share = all / atvi_lanes(j->attn->ctx);
    j->n = n;
    j->units = share >= 16 ? 4 : share >= 4 ? 2 : 1;
    atvi_parallel(j->attn->ctx, atvi_blocks(all, j->units), atvi_step_item, j);
}

ATVDEF atv_result atv_attn_step(atv_attn *attn, atv_kv *kv, int n, const int *seqs, const atv_tensor *q, const atv_tensor *k,
                                const atv_tensor *v, const atv_tensor *out) {
    const atv_attn_desc *d = &attn->desc;
    atv_ctx *ctx = attn->ctx;
    atvi_step_job j;
    atvi_view vk, vv;
    int i, o;
    memset(&j, 0, sizeof j);
    if (d->n_kv_head != kv->desc.n_kv_head || d->head_dim != kv->desc.head_dim || d->value_dim != kv->desc.value_dim)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "attention has n_kv_head=%d head_dim=%d value_dim=%d, its cache %d, %d, %d",
                         d->n_kv_head, d->head_dim, d->value_dim, kv->desc.n_kv_head, kv->desc.head_dim, kv->desc.value_dim);
    if (kv->desc.window && (d->window == 0 || d->window > kv->desc.window))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "attention has window=%d, its cache keeps only %d", d->window,
                         kv->desc.window);
    if (kv->room > ATVI_ROUND(d->max_keys))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "attention has max_keys=%d, its cache holds %d", d->max_keys, kv->room);
    if (d->non_causal) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "non_causal=1 has no decoding step");
    if (n < 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n=%d is negative", n);
    for (i = 0; i < n; i++) {
        if (seqs[i] < 0 || seqs[i] >= kv->desc.n_seq)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "seqs[%d]=%d is not 0..%d", i, seqs[i], kv->desc.n_seq - 1);
        for (o = 0; o < i; o++)
            if (seqs[o] == seqs[i]) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "seqs[%d]=%d comes twice", i, seqs[i]);
        if (kv->length[seqs[i]] >= kv->desc.max_positions)
            return atvi_fail(ctx, ATV_ERR_FULL, "seqs[%d]=%d is full: it has max_positions=%d", i, seqs[i],
                             kv->desc.max_positions);
    }
    ATVI_TRY(atvi_attn_view(ctx, "q", q, 3, n, 0, d->n_head, d->head_dim, &j.q));
    ATVI_TRY(atvi_attn_view(ctx, "k", k, 3, n, 0, d->n_kv_head, d->head_dim, &vk));
    ATVI_TRY(atvi_attn_view(ctx, "v", v, 3, n, 0, d->n_kv_head, d->value_dim, &vv));
    ATVI_TRY(atvi_attn_view(ctx, "out", out, 3, n, 0, d->n_head, d->value_dim, &j.out));
    for (i = 0; i < n; i++) atvi_kv_longer(kv, seqs[i], 1);
    j.k = &vk;
    j.v = &vv;
    j.attn = attn;
    j.kv = kv;
    j.seqs = seqs;
    atvi_attn_step(&j, n);
    return ATV_OK;
}
/* ==== >>config ==================================================================================================== */

static const char *const atvi_variant_names[] = {
#define X(name, text) text,
    ATV_VARIANTS(X)
#undef X
};

ATVDEF const char *atv_variant_name(atv_variant variant) {
    return (unsigned)variant < ATV_VARIANT_COUNT ? atvi_variant_names[variant] : "?";
}

ATVDEF atv_result atv_variant_from_name(const char *name, atv_variant *out) {
    int i;
    for (i = 0; i < ATV_VARIANT_COUNT; i++)
        if (strcmp(name, atvi_variant_names[i]) == 0) { *out = (atv_variant)i; return ATV_OK; }
    return ATV_ERR_ARGUMENT;
}

ATVDEF atv_layer atv_config_layer(const atv_config *config, int i) {
    atv_layer l;
    if (config->layers) l = config->layers[i];
    else {
        memset(&l, 0, sizeof l);
        l.num_heads = config->num_heads;
        l.num_key_value_heads = config->num_key_value_heads;
        l.head_dim = config->num_heads > 0 ? config->kqv_size / config->num_heads : 0;
        l.intermediate_size = config->intermediate_size;
        l.window_size = config->windows ? config->windows[i] : i % 2 ? config->window_size : 0;
        l.has_kv_layer = config->kv_of_layer != NULL;
        if (config->kv_of_layer) l.kv_layer = config->kv_of_layer[i];
        l.kv_of_head = config->kv_of_head;
    }
    if (l.num_key_value_heads == 0) l.num_key_value_heads = l.num_heads;
    if (l.value_dim == 0) l.value_dim = l.head_dim;
    if (!l.has_kv_layer) l.kv_layer = i;
    l.has_kv_layer = 1;
    return l;
}

static atv_result atvi_check_range(atv_ctx *ctx, const char *name, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return ATV_OK;
    return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s=%ld is not %ld..%ld", name, (long)value, (long)low, (long)high);
}

/* The description of layer l as attention on its own. */
static atv_attn_desc atvi_layer_attn(const atv_layer *l, int max_keys) {
    atv_attn_desc d;
    memset(&d, 0, sizeof d);
    d.n_head = l->num_heads;
    d.n_kv_head = l->num_key_value_heads;
    d.head_dim = l->head_dim;
    d.value_dim = l->value_dim;
    d.kqv_size = l->num_heads * l->head_dim;
    d.kv_of_head = l->kv_of_head;
    d.scale = 1;                                            /* GPT-Neo does not divide by sqrt(D) */
    d.window = l->window_size;
    d.max_keys = max_keys;
    return d;
}

static atv_result atvi_check_layer(atv_ctx *ctx, const atv_config *c, int i) {
    atv_layer l = atv_config_layer(c, i);
    atv_attn_desc d = atvi_layer_attn(&l, c->max_position_embeddings), resolved;
    atv_result r;
    char why[512];
    if (l.num_heads > 0 && (l.num_key_value_heads < 1 || l.num_key_value_heads > l.num_heads))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "layer %d: num_key_value_heads=%d is not 1..num_heads=%d", i,
                         l.num_key_value_heads, l.num_heads);
    r = l.num_heads > 0 && l.num_heads <= 65536 && l.head_dim > 0 && l.head_dim <= 65536
        ? atv_attn_resolve(ctx, &d, &resolved)
        : atvi_fail(ctx, ATV_ERR_ARGUMENT, "num_heads=%d head_dim=%d are not positive and sane", l.num_heads, l.head_dim);
    if (r != ATV_OK) {
        snprintf(why, sizeof why, "%s", ctx->error);
        return atvi_fail(ctx, r, "layer %d: %s", i, why);
    }
    if (l.intermediate_size < 1 || l.intermediate_size > 1 << 24)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "layer %d: intermediate_size=%d is not 1..%d", i, l.intermediate_size,
                         1 << 24);
    if (l.kv_layer < 0 || l.kv_layer > i)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "kv_of_layer[%d]=%d is neither itself nor an earlier layer", i, l.kv_layer);
    if (l.kv_layer != i) {
        atv_layer o = atv_config_layer(c, l.kv_layer);
        if (o.kv_layer != l.kv_layer)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "kv_of_layer[%d]=%d, but that layer reads those of layer %d itself", i,
                             l.kv_layer, o.kv_layer);
        if (o.num_key_value_heads != l.num_key_value_heads || o.head_dim != l.head_dim || o.value_dim != l.value_dim)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "layer %d reads layer %d's keys and values, but its "
                             "num_key_value_heads=%d head_dim=%d value_dim=%d are not %d, %d, %d", i, l.kv_layer,
                             l.num_key_value_heads, l.head_dim, l.value_dim,
                             o.num_key_value_heads, o.head_dim, o.value_dim);
    }
    return ATV_OK;
}

enum { ATVI_MAX_LABELS = 1 << 20 };

ATVDEF atv_result atv_config_resolve(atv_ctx *ctx, const atv_config *config, atv_config *out) {
    atv_config c = *config;
    int i;
    if (c.max_position_embeddings == 0) c.max_position_embeddings = 2048;
    if (c.window_size == 0) c.window_size = 256;
    if (c.layer_norm_epsilon == 0) c.layer_norm_epsilon = 1e-5;
    if (c.initializer_range == 0) c.initializer_range = 0.02;
    if (!c.has_special_ids) c.bos_token_id = c.eos_token_id = c.pad_token_id = -1;
    c.has_special_ids = 1;
    ATVI_TRY(atvi_check_range(ctx, "vocab_size", c.vocab_size, 1, 1 << 28));
    ATVI_TRY(atvi_check_range(ctx, "max_position_embeddings", c.max_position_embeddings, 1, 1 << 24));
    ATVI_TRY(atvi_check_range(ctx, "hidden_size", c.hidden_size, 1, 1 << 20));
    ATVI_TRY(atvi_check_range(ctx, "num_layers", c.num_layers, 1, 4096));
    ATVI_TRY(atvi_check_range(ctx, "window_size", c.window_size, 1, INT_MAX));
    ATVI_TRY(atvi_check_range(ctx, "bos_token_id", c.bos_token_id, -1, c.vocab_size - 1));
    ATVI_TRY(atvi_check_range(ctx, "eos_token_id", c.eos_token_id, -1, c.vocab_size - 1));
    ATVI_TRY(atvi_check_range(ctx, "pad_token_id", c.pad_token_id, -1, c.vocab_size - 1));
    if (c.num_labels == 1)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "num_labels=1 would be regression, which is not done here");
    ATVI_TRY(atvi_check_range(ctx, "num_labels", c.num_labels, 0, ATVI_MAX_LABELS));
    if (!(c.layer_norm_epsilon > 0 && c.layer_norm_epsilon < 1))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "layer_norm_epsilon=%g is not in (0, 1)", c.layer_norm_epsilon);
    if (!(c.initializer_range > 0 && c.initializer_range < 1e3))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "initializer_range=%g is not in (0, 1000)", c.initializer_range);
    if (c.layers) {                                         /* the fields for all are then those of the first layer */
        atv_layer l = atv_config_layer(&c, 0);
        c.num_heads = l.num_heads;
        c.num_key_value_heads = l.num_key_value_heads;
        c.kqv_size = l.num_heads > 0 && l.head_dim > 0 && l.head_dim <= 65536 && l.num_heads <= 16384
            ? l.num_heads * l.head_dim : 0;
        c.intermediate_size = l.intermediate_size;
    } else {
        if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_heads;
        if (c.kqv_size == 0) c.kqv_size = c.hidden_size;
        if (c.intermediate_size == 0) c.intermediate_size = 4 * c.hidden_size;
        ATVI_TRY(atvi_check_range(ctx, "num_heads", c.num_heads, 1, 65536));
        ATVI_TRY(atvi_check_range(ctx, "kqv_size", c.kqv_size, 1, 1 << 20));
        if (c.kqv_size % c.num_heads != 0)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "kqv_size=%d is no multiple of num_heads=%d", c.kqv_size, c.num_heads);
    }
    for (i = 0; i < c.num_layers; i++) ATVI_TRY(atvi_check_layer(ctx, &c, i));
    *out = c;
    return ATV_OK;
}

ATVDEF int atv_matched_ffn(int ffn_base, int hidden_size, int kqv_size, int kv_size, int reads_other) {
    return ffn_base + 2 * hidden_size - kqv_size - (reads_other ? 0 : kv_size);
}

/* proportion of `whole` must be `unit` times a whole number 1..whole/unit; gives that number. */
static atv_result atvi_share(atv_ctx *ctx, const char *name, double proportion, const char *whole_name, int whole, int unit,
                             const char *what, int *out) {
    double exact = proportion * whole / unit;
    int most = whole / unit, near_low, near_high, n;
    if (!(proportion > 0 && proportion <= 1))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s=%g is not in (0, 1]", name, proportion);
    n = (int)(exact + 0.5);
    if (n >= 1 && n <= most && fabs(exact - n) < 1e-6 * n) { *out = n; return ATV_OK; }
    near_low = ATVI_MIN(ATVI_MAX((int)exact, 1), most);
    near_high = ATVI_MIN(near_low + (exact > near_low), most);
    if (near_low == near_high)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s=%g of %s=%d gives %g %s; the nearest whole one is %d (%g)", name,
                         proportion, whole_name, whole, exact, what, near_low, (double)near_low * unit / whole);
    return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s=%g of %s=%d gives %g %s; the nearest whole ones are %d (%g) and %d (%g)",
                     name, proportion, whole_name, whole, exact, what,
                     near_low, (double)near_low * unit / whole, near_high, (double)near_high * unit / whole);
}

ATVDEF atv_result atv_config_preset(atv_ctx *ctx, atv_variant variant, double group_proportion, double kqv_proportion,
                                    int ffn_base, atv_config *config) {
    int C = config->hidden_size, H = config->num_heads, G = H, D, F;
    int uses_group = variant == ATV_GQA || variant == ATV_COMBINED, uses_kqv = variant == ATV_KQV || variant == ATV_COMBINED;
    if ((unsigned)variant >= ATV_VARIANT_COUNT) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "variant=%d is none", (int)variant);
    ATVI_TRY(atvi_check_range(ctx, "hidden_size", C, 1, 1 << 20));
    ATVI_TRY(atvi_check_range(ctx, "num_heads", H, 1, 65536));
    ATVI_TRY(atvi_check_range(ctx, "ffn_base", ffn_base, 1, 1 << 24));
    if (!uses_group && group_proportion != 0 && group_proportion != 1)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "group_proportion=%g has no meaning for %s", group_proportion,
                         atv_variant_name(variant));
    if (!uses_kqv && kqv_proportion != 0 && kqv_proportion != 1)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "kqv_proportion=%g has no meaning for %s", kqv_proportion,
                         atv_variant_name(variant));
    if (C % H != 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "hidden_size=%d is no multiple of num_heads=%d", C, H);
    D = C / H;
    if (variant == ATV_MQA) G = 1;
    if (uses_group)
        ATVI_TRY(atvi_share(ctx, "group_proportion", group_proportion, "num_heads", H, 1, "key/value heads", &G));
    if (uses_kqv) ATVI_TRY(atvi_share(ctx, "kqv_proportion", kqv_proportion, "hidden_size", C, H, "as head size", &D));
    F = atv_matched_ffn(ffn_base, C, H * D, G * D, 0);
    config->num_key_value_heads = G;
    config->kqv_size = H * D;
    config->intermediate_size = F;
    return ATV_OK;
}

ATVDEF atv_variant atv_config_variant(const atv_config *config) {
    atv_layer l = atv_config_layer(config, 0);
    int narrow = l.num_heads * l.head_dim != config->hidden_size;
    if (l.num_key_value_heads == l.num_heads) return narrow ? ATV_KQV : ATV_MHA;
    if (narrow) return ATV_COMBINED;
    return l.num_key_value_heads == 1 ? ATV_MQA : ATV_GQA;
}

ATVDEF atv_config atv_config_published(void) {
    atv_config c;
    memset(&c, 0, sizeof c);
    c.vocab_size = 10000;
    c.max_position_embeddings = 512;
    c.hidden_size = 384;
    c.num_layers = 2;
    c.num_heads = 8;
    c.intermediate_size = 1024;
    c.window_size = 256;
    return c;
}

ATVDEF size_t atv_config_kv_bytes_per_token(const atv_config *config) {
    size_t n = 0;
    int i;
    for (i = 0; i < config->num_layers; i++) {
        atv_layer l = atv_config_layer(config, i);
        if (l.kv_layer == i) n += (size_t)l.num_key_value_heads * (size_t)(l.head_dim + l.value_dim);
    }
    return n * sizeof(atv_real);
}

/* ==== >>model ===================================================================================================== */

/* A layer's parameters, and the packed copies of its matrices. k and v are NULL where another layer's are read. */
typedef struct atvi_layer_params {
    atv_real *ln1_w, *ln1_b;        /* [C] */
    atv_real *k, *v, *q;            /* [G D,C] [G Dv,C] [H D,C] */
    atv_real *o, *o_b;              /* [C,H Dv] [C] */
    atv_real *ln2_w, *ln2_b;        /* [C] */
    atv_real *fc, *fc_b;            /* [F,C] [F] */
    atv_real *proj, *proj_b;        /* [C,F] [C] */
    atv_real *k_packed, *v_packed, *q_packed, *o_packed, *fc_packed, *proj_packed;
} atvi_layer_params;

typedef struct atvi_param {
    char name[72];
    int64_t dims[2];
    atv_real *p;
    atv_real *packed;               /* NULL: not a matrix of a product */
} atvi_param;

struct atv_model {
    atv_ctx *ctx;
    atv_config config;              /* resolved; its arrays are the model's own */
    atv_layer *layers;              /* [L] = config.layers */
    atvi_layer_params *w;           /* [L] */
    atv_real *wte, *wpe;            /* [V,C] [T,C] */
    atv_real *lnf_w, *lnf_b;        /* [C] */
    atv_real *head, *head_packed;   /* [n_out,C] wte, or a classifier's score */
    int n_out;                      /* V, or num_labels */
    atvi_param *params;             /* [n_params] */
    int n_params;
    atv_real *values;               /* all parameters, each from a multiple of 16 */
    size_t n_values;
    int packed;                     /* 1: the packed copies are those of the parameters */
    char *config_text;              /* the config.json it came from; NULL: none */
    size_t config_size;
    char *labels;                   /* names, each with a 0 behind it; NULL: none */
    int named_labels;               /* 1: config_text has them */
    int task_length, task_wrap;     /* as atv_model_task tells */
};

static int atvi_count_params(const atv_config *c) {
    int i, n = c->num_labels ? 5 : 4;
    for (i = 0; i < c->num_layers; i++) n += atv_config_layer(c, i).kv_layer == i ? 13 : 11;
    return n;
}

/* While a model is laid out: parameters follow each other in `values`, packed copies in `packed`. */
typedef struct atvi_model_layout {
    atv_model *model;
    size_t values, packed;
    atv_real *packed_base;
    int filled;
} atvi_model_layout;

enum { ATVI_NO_LAYER = -1, ATVI_OUTSIDE = -2 };             /* outside of the transformer */

static void atvi_add_param(atvi_model_layout *m, int layer, const char *name, int64_t d0, int64_t d1,
                           atv_real **p, atv_real **packed) {
    atv_model *model = m->model;
    if (m->filled) {
        atvi_param *param = &model->params[model->n_params];
        if (layer == ATVI_OUTSIDE) snprintf(param->name, sizeof param->name, "%s", name);
        else if (layer == ATVI_NO_LAYER) snprintf(param->name, sizeof param->name, "transformer.%s", name);
        else snprintf(param->name, sizeof param->name, "transformer.h.%d.%s", layer, name);
        param->dims[0] = d0;
        param->dims[1] = d1;
        *p = param->p = model->values + m->values;
        if (packed) *packed = param->packed = m->packed_base + m->packed;
    }
    model->n_params++;
    m->values += (size_t)ATVI_ROUND(d0 * ATVI_MAX(d1, 1));
    if (packed) m->packed += (size_t)(ATVI_ROUND(d0) * d1);
}

/* Hugging Face's order of a state dict. */
static void atvi_add_params(atvi_model_layout *m, const atv_config *c) {
    atvi_layer_params none, *w;
    atv_model *model = m->model;
    int i;
    int64_t C = c->hidden_size;
    atvi_add_param(m, ATVI_NO_LAYER, "wte.weight", c->vocab_size, C, &model->wte,
                   c->num_labels ? NULL : &model->head_packed);
    atvi_add_param(m, ATVI_NO_LAYER, "wpe.weight", c->max_position_embeddings, C, &model->wpe, NULL);
    for (i = 0; i < c->num_layers; i++) {
        atv_layer l = atv_config_layer(c, i);
        int64_t S = (int64_t)l.num_heads * l.head_dim, Sv = (int64_t)l.num_heads * l.value_dim, F = l.intermediate_size;
        w = m->filled ? &model->w[i] : &none;
        atvi_add_param(m, i, "ln_1.weight", C, 0, &w->ln1_w, NULL);
        atvi_add_param(m, i, "ln_1.bias", C, 0, &w->ln1_b, NULL);
        if (l.kv_layer == i) {
            atvi_add_param(m, i, "attn.attention.k_proj.weight", (int64_t)l.num_key_value_heads * l.head_dim, C,
                           &w->k, &w->k_packed);
            atvi_add_param(m, i, "attn.attention.v_proj.weight", (int64_t)l.num_key_value_heads * l.value_dim, C,
                           &w->v, &w->v_packed);
        }
        atvi_add_param(m, i, "attn.attention.q_proj.weight", S, C, &w->q, &w->q_packed);
        atvi_add_param(m, i, "attn.attention.out_proj.weight", C, Sv, &w->o, &w->o_packed);
        atvi_add_param(m, i, "attn.attention.out_proj.bias", C, 0, &w->o_b, NULL);
        atvi_add_param(m, i, "ln_2.weight", C, 0, &w->ln2_w, NULL);
        atvi_add_param(m, i, "ln_2.bias", C, 0, &w->ln2_b, NULL);
        atvi_add_param(m, i, "mlp.c_fc.weight", F, C, &w->fc, &w->fc_packed);
        atvi_add_param(m, i, "mlp.c_fc.bias", F, 0, &w->fc_b, NULL);
        atvi_add_param(m, i, "mlp.c_proj.weight", C, F, &w->proj, &w->proj_packed);
        atvi_add_param(m, i, "mlp.c_proj.bias", C, 0, &w->proj_b, NULL);
    }
    atvi_add_param(m, ATVI_NO_LAYER, "ln_f.weight", C, 0, &model->lnf_w, NULL);
    atvi_add_param(m, ATVI_NO_LAYER, "ln_f.bias", C, 0, &model->lnf_b, NULL);
    if (c->num_labels)
        atvi_add_param(m, ATVI_OUTSIDE, "score.weight", c->num_labels, C, &model->head, &model->head_packed);
    else model->head = model->wte;
}

static atv_model *atvi_model_whole(atvi_arena *arena, atv_ctx *ctx, const atv_config *c) {
    atv_model measure, *self = (atv_model *)atvi_take(arena, 1, sizeof *self), *model = self ? self : &measure;
    atvi_model_layout m;
    int i, *heads;
    memset(model, 0, sizeof *model);
    model->ctx = ctx;
    model->config = *c;
    model->n_out = c->num_labels ? c->num_labels : c->vocab_size;
    model->layers = (atv_layer *)atvi_take(arena, (size_t)c->num_layers, sizeof *model->layers);
    model->w = (atvi_layer_params *)atvi_take(arena, (size_t)c->num_layers, sizeof *model->w);
    model->params = (atvi_param *)atvi_take(arena, (size_t)atvi_count_params(c), sizeof *model->params);
    for (i = 0; i < c->num_layers; i++) {
        atv_layer l = atv_config_layer(c, i);
        heads = l.kv_of_head ? (int *)atvi_take(arena, (size_t)l.num_heads, sizeof *heads) : NULL;
        if (!self) continue;
        if (heads) memcpy(heads, l.kv_of_head, (size_t)l.num_heads * sizeof *heads);
        l.kv_of_head = heads;
        model->layers[i] = l;
    }
    memset(&m, 0, sizeof m);
    m.model = model;
    atvi_add_params(&m, c);
    model->n_values = m.values;
    model->values = (atv_real *)atvi_take(arena, m.values, sizeof(atv_real));
    m.packed_base = (atv_real *)atvi_take(arena, m.packed, sizeof(atv_real));
    if (self) {
        model->config.layers = model->layers;
        model->config.windows = model->config.kv_of_head = model->config.kv_of_layer = NULL;
        model->n_params = 0;
        m.values = m.packed = 0;
        m.filled = 1;
        atvi_add_params(&m, &model->config);
    }
    return self;
}

ATVDEF atv_result atv_model_bytes(atv_ctx *ctx, const atv_config *config, size_t *out) {
    atv_config c;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atv_config_resolve(ctx, config, &c));
    atvi_model_whole(&arena, ctx, &c);
    *out = atvi_arena_bytes(&arena);
    return ATV_OK;
}

ATVDEF atv_result atv_model_create(atv_ctx *ctx, const atv_config *config, atv_model **out) {
    atv_config c;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atv_config_resolve(ctx, config, &c));
    atvi_model_whole(&arena, ctx, &c);
    arena.base = (char *)atvi_alloc(ctx, arena.used);
    if (!arena.base) return ATV_ERR_MEMORY;
    arena.used = 0;
    *out = atvi_model_whole(&arena, ctx, &c);
    (*out)->task_wrap = -1;
    return ATV_OK;
}

ATVDEF void atv_model_destroy(atv_model *model) {
    if (!model) return;
    atvi_free(model->ctx, model->labels);
    atvi_free(model->ctx, model->config_text);
    atvi_free(model->ctx, model);
}

ATVDEF const atv_config *atv_model_config(const atv_model *model) { return &model->config; }
ATVDEF atv_ctx *atv_model_ctx(const atv_model *model) { return model->ctx; }
ATVDEF int atv_model_num_tensors(const atv_model *model) { return model->n_params; }
ATVDEF void atv_model_changed(atv_model *model) { model->packed = 0; }

ATVDEF atv_result atv_model_set_labels(atv_model *model, const char *const *names) {
    size_t size = 0;
    char *labels;
    int i;
    if (model->config.num_labels == 0)
        return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "num_labels=0: this is a language model, which has no labels");
    for (i = 0; i < model->config.num_labels; i++) size = atvi_size(size, 1, strlen(names[i]) + 1);
    labels = (char *)atvi_alloc(model->ctx, size);
    if (!labels) return ATV_ERR_MEMORY;
    for (size = 0, i = 0; i < model->config.num_labels; size += strlen(names[i++]) + 1)
        memcpy(labels + size, names[i], strlen(names[i]) + 1);
    atvi_free(model->ctx, model->labels);
    model->labels = labels;
    model->named_labels = 0;
    return ATV_OK;
}

ATVDEF const char *atv_model_label(const atv_model *model, int label) {
    const char *name = label >= 0 && label < model->config.num_labels ? model->labels : NULL;
    for (; name && label > 0; label--) name += strlen(name) + 1;
    return name;
}

ATVDEF atv_result atv_model_set_task(atv_model *model, int max_length, int wrap) {
    if (model->config.num_labels == 0)
        return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "num_labels=0: this is a language model, which has no task");
    ATVI_TRY(atvi_check_range(model->ctx, "max_length", max_length, 1, INT_MAX));
    ATVI_TRY(atvi_check_range(model->ctx, "wrap", wrap, 0, 1));
    model->task_length = max_length;
    model->task_wrap = wrap;
    return ATV_OK;
}

ATVDEF void atv_model_task(const atv_model *model, int *max_length, int *wrap) {
    *max_length = model->task_length;
    *wrap = model->task_wrap;
}

/* Parameter i in a flat array laid out like the model's values: the values themselves, gradients, moments. */
static atv_tensor atvi_param_tensor(const atv_model *model, int i, atv_real *flat) {
    const atvi_param *p = &model->params[i];
    return atv_tensor_view(flat + (p->p - model->values), ATV_REAL, p->dims[0], p->dims[1], 0, 0);
}

ATVDEF atv_named_tensor atv_model_tensor(const atv_model *model, int i) {
    atv_named_tensor t;
    t.name = model->params[i].name;
    t.tensor = atvi_param_tensor(model, i, model->values);
    return t;
}

ATVDEF atv_result atv_model_find(const atv_model *model, const char *name, int *out) {
    int i;
    for (i = 0; i < model->n_params; i++)
        if (strcmp(model->params[i].name, name) == 0) { *out = i; return ATV_OK; }
    return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "the model has no tensor named %s", name);
}

ATVDEF int64_t atv_model_num_parameters(const atv_model *model) {
    int64_t n = 0;
    int i;
    for (i = 0; i < model->n_params; i++) n += model->params[i].dims[0] * ATVI_MAX(model->params[i].dims[1], 1);
    return n;
}

static void atvi_init_param(const atv_model *model, int i, uint64_t seed) {
    const atvi_param *p = &model->params[i];
    int64_t e, n = p->dims[0] * ATVI_MAX(p->dims[1], 1);
    size_t length = strlen(p->name);
    atv_rng rng = atvi_rng_stream(seed, (uint64_t)i);
    atv_real norm = strcmp(p->name + length - 7, ".weight") == 0 ? 1 : 0;         /* of a norm; biases are 0 */
    for (e = 0; e < n; e++)
        p->p[e] = p->dims[1] ? (atv_real)(atv_rng_normal(&rng) * model->config.initializer_range) : norm;
}

ATVDEF void atv_model_init(atv_model *model, uint64_t seed) {
    int i;
    for (i = 0; i < model->n_params; i++) atvi_init_param(model, i, seed);
    atv_model_changed(model);
}

/* The config.json that a model came from, kept for saving. */
static atv_result atvi_keep_config(atv_model *model, const char *text, size_t size) {
    model->config_text = (char *)atvi_alloc(model->ctx, size);
    if (!model->config_text) return ATV_ERR_MEMORY;
    memcpy(model->config_text, text, size);
    model->config_size = size;
    return ATV_OK;
}

ATVDEF atv_result atv_model_classifier(const atv_model *model, int num_labels, uint64_t seed, atv_model **out) {
    atv_config c = model->config;
    atv_model *made;
    atv_result r = ATV_OK;
    c.num_labels = num_labels;
    ATVI_TRY(atvi_check_range(model->ctx, "num_labels", num_labels, 2, ATVI_MAX_LABELS));
    ATVI_TRY(atv_model_create(model->ctx, &c, &made));
    if (model->config_text) r = atvi_keep_config(made, model->config_text, model->config_size);
    if (r != ATV_OK) {
        atv_model_destroy(made);
        return r;
    }
    /* all up to the head, in the same places */
    memcpy(made->values, model->values, (size_t)(made->head - made->values) * sizeof *made->values);
    atvi_init_param(made, made->n_params - 1, seed);
    atv_model_changed(made);
    *out = made;
    return ATV_OK;
}

/* The packed copies made anew where the parameters have changed. */
static void atvi_model_pack(atv_model *model) {
    int i;
    if (model->packed) return;
    for (i = 0; i < model->n_params; i++)
        if (model->params[i].packed)
            atvi_pack(model->ctx, model->params[i].dims[0], model->params[i].dims[1],
                      model->params[i].p, model->params[i].packed);
    model->packed = 1;
}
/* ==== >>mlp ======================================================================================================= */

typedef struct atvi_gelu_job { int64_t n; const atv_real *x; atv_real *out; const atvi_kernels *k; } atvi_gelu_job;
#define ATVI_STRETCH 8192                               /* elements of an item of elementwise work */

static void atvi_gelu_item(void *arg, int64_t item, int lane) {
    const atvi_gelu_job *j = (const atvi_gelu_job *)arg;
    int64_t i = item * ATVI_STRETCH;
    (void)lane;
    j->k->gelu(ATVI_MIN(ATVI_STRETCH, j->n - i), j->x + i, j->out + i);
}

static void atvi_gelu_back_item(void *arg, int64_t item, int lane) {
    const atvi_gelu_job *j = (const atvi_gelu_job *)arg;
    int64_t i = item * ATVI_STRETCH;
    (void)lane;
    j->k->gelu_back(ATVI_MIN(ATVI_STRETCH, j->n - i), j->x + i, j->out + i);
}

/* out = gelu(x), n elements */
static void atvi_gelu(atv_ctx *ctx, int64_t n, const atv_real *x, atv_real *out) {
    atvi_gelu_job j;
    j.n = n; j.x = x; j.out = out; j.k = ctx->kernels;
    atvi_parallel(ctx, atvi_blocks(n, ATVI_STRETCH), atvi_gelu_item, &j);
}

/* d = d gelu'(x) */
static void atvi_gelu_back(atv_ctx *ctx, int64_t n, const atv_real *x, atv_real *d) {
    atvi_gelu_job j;
    j.n = n; j.x = x; j.out = d; j.k = ctx->kernels;
    atvi_parallel(ctx, atvi_blocks(n, ATVI_STRETCH), atvi_gelu_back_item, &j);
}

typedef struct atvi_copy_job { int64_t n; atv_real *to; const atv_real *from; } atvi_copy_job;

static void atvi_copy_item(void *arg, int64_t item, int lane) {
    const atvi_copy_job *j = (const atvi_copy_job *)arg;
    const int64_t i = item * ATVI_STRETCH;
    const size_t size = (size_t)ATVI_MIN(ATVI_STRETCH, j->n - i) * sizeof *j->to;
    (void)lane;
    if (j->from) memcpy(j->to + i, j->from + i, size);
    else memset(j->to + i, 0, size);
}

/* from NULL: zeros */
static void atvi_copy(atv_ctx *ctx, atv_real *to, const atv_real *from, int64_t n) {
    atvi_copy_job j;
    j.n = n; j.to = to; j.from = from;
    if (to != from) atvi_parallel(ctx, atvi_blocks(n, ATVI_STRETCH), atvi_copy_item, &j);
}

/* ==== >>loss ====================================================================================================== */

#define ATVI_LOSS_ROWS 1024                             /* positions whose logits exist at once */

typedef struct atvi_loss_job {
    int64_t V;
    const int32_t *targets;                                 /* [rows] */
    atv_real *logits;                                       /* [rows,V]; becomes its gradient */
    double *logp;                                           /* [rows] */
    int gradient;
    const atvi_kernels *k;
} atvi_loss_job;

static void atvi_loss_item(void *arg, int64_t row, int lane) {
    const atvi_loss_job *j = (const atvi_loss_job *)arg;
    atv_real *x = j->logits + row * j->V, target = x[j->targets[row]];
    (void)lane;
    j->logp[row] = (double)target - (j->gradient ? j->k->softmax(j->V, x, 1, x + j->V, j->V) : j->k->logsumexp(j->V, x));
    if (j->gradient) x[j->targets[row]] -= 1;               /* d(-log p_t) / dlogits = p - onehot(t) */
}

/* ==== >>model-forward ============================================================================================= */

/* What the forward leaves of a layer for the backward: the stream, and what products and attention make. Norms and gelu
   are cheap: the backward runs them again, with the same bits, and all layers share the room for what they give. Without a
   backward all layers share one set of this, too. */
typedef struct atvi_acts {
    atv_real *x;                    /* [N,C] the stream as it enters */
    atv_real *q, *k, *v;            /* [N,H D] [N,G D] [N,G Dv]; k and v are the owner's */
    atv_real *lse, *att;            /* [N,H] [N,H Dv] */
    atv_real *mid;                  /* [N,C] the stream between attention and MLP */
    atv_real *h;                    /* [N,F] before gelu */
    atv_real *dk, *dv;              /* gradients, at the owner; one pair for all owners that no other layer reads */
} atvi_acts;

struct atv_work {
    atv_ctx *ctx;
    atv_model *model;
    atv_work_desc desc;
    atv_attn *attn;                 /* [L] */
    atvi_acts *acts;                /* [L] */
    atv_real *x, *dx;               /* [N,C] the stream as it leaves the last layer; its gradient, in the same place */
    atv_real *ln, *mean, *rstd;     /* [N,C] [N] [N] of the norm at hand */
    atv_real *a;                    /* [N,F] after gelu, then its gradient; without a backward in the place of h */
    atv_real *dn, *datt, *dq;       /* [N,C] [N,H Dv] [N,H D] gradients in the layer at hand */
    int32_t *pos, *targets;         /* [N]; in a classifier targets are the labels */
    int64_t *start;                 /* [max_seqs] */
    int64_t *last;                  /* [max_seqs] each sequence's last position, in a classifier; else NULL */
    int32_t *stage_ids;             /* [N] a batch being put together, */
    int *stage_lengths;             /* [max_seqs] */
    int32_t *stage_labels;          /* [max_seqs] of a classifier */
    float *stage_logprobs;          /* [N] */
    int64_t *rows;                  /* [N] outputs that have a target: positions, in a classifier sequences */
    int64_t loss_rows;              /* of a chunk: */
    atv_real *lnf_in, *lnf, *logits, *lnf_mean, *lnf_rstd, *dlnf;      /* [rows,C] .. [rows,n_out] [rows] [rows] [rows,C] */
    int32_t *row_targets;
    double *logp;
    atv_real *grads;                /* like the model's values */
    atv_real *copy;                 /* [atvi_product_scratch], without a backward [atvi_linear_scratch] */
};

typedef struct atvi_sizes { int64_t S, Sv, GD, GDv, F; } atvi_sizes;

static atvi_sizes atvi_layer_sizes(const atv_layer *l) {
    atvi_sizes s;
    s.S = (int64_t)l->num_heads * l->head_dim;
    s.Sv = (int64_t)l->num_heads * l->value_dim;
    s.GD = (int64_t)l->num_key_value_heads * l->head_dim;
    s.GDv = (int64_t)l->num_key_value_heads * l->value_dim;
    s.F = l->intermediate_size;
    return s;
}

static void atvi_widen(atvi_sizes *m, const atv_layer *l) {
    const atvi_sizes s = atvi_layer_sizes(l);
    m->S = ATVI_MAX(m->S, s.S);
    m->Sv = ATVI_MAX(m->Sv, s.Sv);
    m->GD = ATVI_MAX(m->GD, s.GD);
    m->GDv = ATVI_MAX(m->GDv, s.GDv);
    m->F = ATVI_MAX(m->F, s.F);
}

/* The largest of each over all layers. */
static atvi_sizes atvi_max_sizes(const atv_config *c) {
    atvi_sizes m = {0, 0, 0, 0, 0};
    int i;
    for (i = 0; i < c->num_layers; i++) atvi_widen(&m, &c->layers[i]);
    return m;
}

static atv_real *atvi_reals(atvi_arena *arena, int64_t rows, int64_t cols) {
    return (atv_real *)atvi_take(arena, atvi_size((size_t)rows, (size_t)cols, 0), sizeof(atv_real));
}

/* Attention of every layer, all with the same scratch, since layers run one after the other. */
static atv_attn *atvi_layers_attn(atvi_arena *arena, atv_ctx *ctx, const atv_config *c, int max_keys) {
    atv_attn *attn = (atv_attn *)atvi_take(arena, (size_t)c->num_layers, sizeof *attn), measure;
    size_t size = 0;
    atv_real *scratch;
    int i;
    for (i = 0; i < c->num_layers; i++) {
        atv_attn_desc d = atvi_layer_attn(&c->layers[i], max_keys);
        atvi_attn_layout(arena, &d, attn ? &attn[i] : &measure);
        size = ATVI_MAX(size, atvi_attn_scratch(&d));
    }
    size = ATVI_ROUND(size);
    scratch = (atv_real *)atvi_take(arena, atvi_size(size, atvi_lanes(ctx), 0), sizeof(atv_real));
    for (i = 0; attn && i < c->num_layers; i++) {
        atv_attn_desc d = atvi_layer_attn(&c->layers[i], max_keys);
        atvi_attn_fill(ctx, &d, &attn[i]);
        attn[i].scratch = scratch;
        attn[i].scratch_size = size;
    }
    return attn;
}

/* Whether no layer after i reads the same keys and values: in the backward i is the first to add to their gradients. */
static int atvi_last_reader(const atv_config *c, int i) {
    int j;
    for (j = i + 1; j < c->num_layers; j++)
        if (c->layers[j].kv_layer == c->layers[i].kv_layer) return 0;
    return 1;
}

static atv_work *atvi_work_whole(atvi_arena *arena, atv_model *model, const atv_work_desc *d) {
    const atv_config *c = &model->config;
    const atvi_sizes most = atvi_max_sizes(c);
    const int64_t N = d->max_tokens, C = c->hidden_size;
    atv_work measure, *self = (atv_work *)atvi_take(arena, 1, sizeof *self), *w = self ? self : &measure;
    const int64_t kept = d->backward ? N : 0;               /* rows of what only a backward needs */
    atvi_sizes alone = {0, 0, 0, 0, 0};                     /* of the owners that no other layer reads */
    atv_real *dk, *dv;                                      /* of those */
    atvi_acts one;
    int i;
    memset(w, 0, sizeof *w);
    memset(&one, 0, sizeof one);
    w->ctx = model->ctx;
    w->model = model;
    w->desc = *d;
    w->attn = atvi_layers_attn(arena, model->ctx, c, (int)ATVI_MIN((int64_t)c->max_position_embeddings, N));
    w->acts = (atvi_acts *)atvi_take(arena, (size_t)c->num_layers, sizeof *w->acts);
    w->x = w->dx = atvi_reals(arena, N, C);
    w->ln = atvi_reals(arena, N, C);
    w->mean = atvi_reals(arena, N, 1);
    w->rstd = atvi_reals(arena, N, 1);
    w->pos = (int32_t *)atvi_take(arena, (size_t)N, sizeof *w->pos);
    w->targets = (int32_t *)atvi_take(arena, (size_t)N, sizeof *w->targets);
    w->rows = (int64_t *)atvi_take(arena, (size_t)N, sizeof *w->rows);
    w->start = (int64_t *)atvi_take(arena, (size_t)d->max_seqs, sizeof *w->start);
    if (c->num_labels) {
        w->last = (int64_t *)atvi_take(arena, (size_t)d->max_seqs, sizeof *w->last);
        w->stage_labels = (int32_t *)atvi_take(arena, (size_t)d->max_seqs, sizeof *w->stage_labels);
    }
    w->stage_ids = (int32_t *)atvi_take(arena, (size_t)N, sizeof *w->stage_ids);
    w->stage_lengths = (int *)atvi_take(arena, (size_t)d->max_seqs, sizeof *w->stage_lengths);
    w->stage_logprobs = (float *)atvi_take(arena, (size_t)N, sizeof *w->stage_logprobs);
    for (i = 0; i < c->num_layers; i++)
        if (c->layers[i].kv_layer == i && atvi_last_reader(c, i)) atvi_widen(&alone, &c->layers[i]);
    dk = atvi_reals(arena, kept, alone.GD);
    dv = atvi_reals(arena, kept, alone.GDv);
    for (i = 0; i < c->num_layers; i++) {
        const atv_layer *l = &c->layers[i];
        atvi_sizes s = d->backward ? atvi_layer_sizes(l) : most;
        atvi_acts a = one;
        if (d->backward || i == 0) {
            a.x = d->backward ? atvi_reals(arena, N, C) : w->x;
            a.q = atvi_reals(arena, N, s.S);
            a.lse = d->backward ? atvi_reals(arena, N, l->num_heads) : NULL;
            a.att = atvi_reals(arena, N, s.Sv);
            a.mid = d->backward ? atvi_reals(arena, N, C) : w->x;
            a.h = atvi_reals(arena, N, s.F);
            one = a;
        }
        if (l->kv_layer == i) {                             /* readers may come later: each owner's k and v last */
            s = atvi_layer_sizes(l);
            a.k = atvi_reals(arena, N, s.GD);
            a.v = atvi_reals(arena, N, s.GDv);
            a.dk = atvi_last_reader(c, i) ? dk : atvi_reals(arena, kept, s.GD);
            a.dv = atvi_last_reader(c, i) ? dv : atvi_reals(arena, kept, s.GDv);
        } else if (self) {
            a.k = w->acts[l->kv_layer].k;
            a.v = w->acts[l->kv_layer].v;
            a.dk = w->acts[l->kv_layer].dk;
            a.dv = w->acts[l->kv_layer].dv;
        }
        if (self) w->acts[i] = a;
    }
    w->a = d->backward ? atvi_reals(arena, N, most.F) : one.h;
    w->loss_rows = ATVI_MIN(c->num_labels ? ATVI_MIN(N, d->max_seqs) : N, ATVI_LOSS_ROWS);
    w->lnf_in = atvi_reals(arena, w->loss_rows, C);
    w->lnf = atvi_reals(arena, w->loss_rows, C);
    w->logits = atvi_reals(arena, w->loss_rows, model->n_out);
    w->lnf_mean = atvi_reals(arena, w->loss_rows, 1);
    w->lnf_rstd = atvi_reals(arena, w->loss_rows, 1);
    w->row_targets = (int32_t *)atvi_take(arena, (size_t)w->loss_rows, sizeof *w->row_targets);
    w->logp = (double *)atvi_take(arena, (size_t)w->loss_rows, sizeof *w->logp);
    w->copy = atvi_reals(arena, 1, (int64_t)(d->backward ? atvi_product_scratch(model->ctx)
                                                         : atvi_linear_scratch(model->ctx, N)));
    if (d->backward) {
        w->dlnf = atvi_reals(arena, w->loss_rows, C);
        w->grads = (atv_real *)atvi_take(arena, model->n_values, sizeof(atv_real));
        w->dn = atvi_reals(arena, N, C);
        w->datt = atvi_reals(arena, N, most.Sv);
        w->dq = atvi_reals(arena, N, most.S);
    }
    return self;
}

static atv_result atvi_work_resolve(const atv_model *model, const atv_work_desc *desc, atv_work_desc *out) {
    atv_work_desc d;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (d.max_tokens == 0) d.max_tokens = model->config.max_position_embeddings;
    ATVI_TRY(atvi_check_range(model->ctx, "max_tokens", d.max_tokens, 1, INT_MAX / 64));
    if (d.max_seqs == 0) d.max_seqs = d.max_tokens;
    ATVI_TRY(atvi_check_range(model->ctx, "max_seqs", d.max_seqs, 1, INT_MAX / 64));
    d.backward = d.backward != 0;
    *out = d;
    return ATV_OK;
}

ATVDEF atv_result atv_work_bytes(const atv_model *model, const atv_work_desc *desc, size_t *out) {
    atv_work_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_work_resolve(model, desc, &d));
    atvi_work_whole(&arena, (atv_model *)model, &d);
    *out = atvi_arena_bytes(&arena);
    return ATV_OK;
}

ATVDEF atv_result atv_work_create(atv_model *model, const atv_work_desc *desc, atv_work **out) {
    atv_work_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_work_resolve(model, desc, &d));
    atvi_work_whole(&arena, model, &d);
    arena.base = (char *)atvi_alloc(model->ctx, arena.used);
    if (!arena.base) return ATV_ERR_MEMORY;
    arena.used = 0;
    *out = atvi_work_whole(&arena, model, &d);
    return ATV_OK;
}

ATVDEF void atv_work_destroy(atv_work *work) { if (work) atvi_free(work->ctx, work); }
ATVDEF atv_tensor atv_work_grad(const atv_work *work, int i) { return atvi_param_tensor(work->model, i, work->grads); }
ATVDEF void atv_work_zero_grad(atv_work *work) {
    if (work->grads) atvi_copy(work->ctx, work->grads, NULL, (int64_t)work->model->n_values);
}

static atv_result atvi_check_ids(atv_ctx *ctx, const char *name, const int32_t *ids, int64_t n, int vocab) {
    int64_t i;
    for (i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s[%ld]=%ld is not 0..vocab_size-1=%d", name, (long)i, (long)ids[i],
                             vocab - 1);
    return ATV_OK;
}

/* Labels of n sequences or documents, NULL: none. */
static atv_result atvi_check_labels(const atv_model *model, const int32_t *labels, int n) {
    const int num_labels = model->config.num_labels;
    int i;
    if (labels && !num_labels)
        return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "labels are given, but num_labels=0: this is a language model");
    for (i = 0; labels && i < n; i++)
        if (labels[i] >= num_labels)
            return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "labels[%d]=%ld is not below num_labels=%d", i, (long)labels[i],
                             num_labels);
    return ATV_OK;
}

/* Documents, whose tokens are counted. */
static atv_result atvi_check_data(const atv_model *model, const atv_data *data, int64_t *n_ids) {
    int64_t n = 0;
    int i;
    for (i = 0; i < data->n_docs; i++) {
        if (data->lengths[i] < 0)
            return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "lengths[%d]=%d is negative", i, data->lengths[i]);
        if (data->lengths[i] == 0 && model->config.num_labels)
            return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "lengths[%d]=0: a classifier reads a last token", i);
        n += data->lengths[i];
    }
    ATVI_TRY(atvi_check_labels(model, data->labels, data->n_docs));
    *n_ids = n;
    return ATV_OK;
}

/* Checks a batch and fills positions, targets and starts; *n is the number of tokens. */
static atv_result atvi_batch(atv_work *w, const atv_batch *batch, int64_t *out) {
    const atv_config *c = &w->model->config;
    const int shortest = c->num_labels != 0;
    int64_t n = 0, i;
    int b;
    if (batch->n_seq < 0 || batch->n_seq > w->desc.max_seqs)
        return atvi_fail(w->ctx, batch->n_seq < 0 ? ATV_ERR_ARGUMENT : ATV_ERR_FULL, "n_seq=%d is not 0..max_seqs=%d",
                         batch->n_seq, w->desc.max_seqs);
    for (b = 0; b < batch->n_seq; b++) {
        if (batch->lengths[b] < shortest || batch->lengths[b] > c->max_position_embeddings)
            return atvi_fail(w->ctx, ATV_ERR_ARGUMENT, "lengths[%d]=%d is not %d..max_position_embeddings=%d", b,
                             batch->lengths[b], shortest, c->max_position_embeddings);
        n += batch->lengths[b];
    }
    if (n > w->desc.max_tokens)
        return atvi_fail(w->ctx, ATV_ERR_FULL, "the batch has %ld tokens, more than max_tokens=%d", (long)n,
                         w->desc.max_tokens);
    ATVI_TRY(atvi_check_ids(w->ctx, "ids", batch->ids, n, c->vocab_size));
    ATVI_TRY(atvi_check_labels(w->model, batch->labels, batch->n_seq));
    if (batch->targets && c->num_labels)
        return atvi_fail(w->ctx, ATV_ERR_ARGUMENT, "targets are given, but num_labels=%d: this is a classifier",
                         c->num_labels);
    for (i = 0; batch->targets && i < n; i++)
        if (batch->targets[i] != -100) ATVI_TRY(atvi_check_ids(w->ctx, "targets", batch->targets + i, 1, c->vocab_size));
    for (n = 0, b = 0; b < batch->n_seq; b++) {
        w->start[b] = n;
        for (i = 0; i < batch->lengths[b]; i++, n++) {
            w->pos[n] = (int32_t)i;
            if (!w->last)
                w->targets[n] = batch->targets ? batch->targets[n] : i + 1 < batch->lengths[b] ? batch->ids[n + 1] : -100;
        }
        if (w->last) {                                      /* no more sequences than tokens, as none is empty */
            w->last[b] = n - 1;
            w->targets[b] = batch->labels && batch->labels[b] >= 0 ? batch->labels[b] : -100;
        }
    }
    *out = n;
    return ATV_OK;
}

static atvi_view atvi_heads_view(atv_real *p, int64_t heads, int64_t dim) {
    atvi_view v;
    v.p = p;
    v.row = 0;
    v.pos = heads * dim;
    v.head = dim;
    return v;
}

/* The call that forward and backward of layer i share. */
static atvi_attn_call atvi_layer_call(const atv_work *w, const atv_batch *batch, int i) {
    const atv_layer *l = &w->model->config.layers[i];
    const atvi_acts *a = &w->acts[i];
    atvi_attn_call c;
    memset(&c, 0, sizeof c);
    c.attn = &w->attn[i];
    c.n_seq = batch->n_seq;
    c.q_len = c.k_len = batch->lengths;
    c.q_start = c.k_start = w->start;
    c.q = atvi_heads_view(a->q, l->num_heads, l->head_dim);
    c.k = atvi_heads_view(a->k, l->num_key_value_heads, l->head_dim);
    c.v = atvi_heads_view(a->v, l->num_key_value_heads, l->value_dim);
    c.out = atvi_heads_view(a->att, l->num_heads, l->value_dim);
    if (a->lse) c.lse = atvi_heads_view(a->lse, l->num_heads, 1);
    return c;
}

/* Queries, and keys and values unless another layer's are read, of x [n,C]. */
static void atvi_qkv(atv_ctx *ctx, int64_t n, int64_t C, const atv_real *x, const atvi_layer_params *p, atvi_sizes s,
                     atv_real *q, atv_real *k, atv_real *v, atv_real *scratch) {
    atvi_linear_desc l[3];
    l[0] = atvi_linear_to(s.S, p->q_packed, NULL, q, 0);
    l[1] = atvi_linear_to(s.GD, p->k_packed, NULL, k, 0);
    l[2] = atvi_linear_to(s.GDv, p->v_packed, NULL, v, 0);
    atvi_linears(ctx, n, C, x, l, p->k ? 3 : 1, scratch);
}

/* h = x W^T + b, a = GELU(h)   x [n,C]  h, a [n,F], which may be the same */
static void atvi_fc(atv_ctx *ctx, int64_t n, int64_t C, const atv_real *x, const atvi_layer_params *p, atvi_sizes s,
                    atv_real *h, atv_real *a, atv_real *scratch) {
    atvi_linear_desc l = atvi_linear_to(s.F, p->fc_packed, p->fc_b, h, 0);
    l.gelu = a;
    atvi_linears(ctx, n, C, x, &l, 1, scratch);
}

/* Everything up to the final norm: leaves the stream in w->x. */
static void atvi_forward(atv_work *w, const atv_batch *batch, int64_t N) {
    const atv_config *c = &w->model->config;
    const int64_t C = c->hidden_size;
    const double eps = c->layer_norm_epsilon;
    atv_ctx *ctx = w->ctx;
    int i;
    atvi_model_pack(w->model);
    atvi_embed(ctx, N, C, batch->ids, w->pos, w->model->wte, w->model->wpe, w->acts[0].x);
    for (i = 0; i < c->num_layers; i++) {
        const atvi_layer_params *p = &w->model->w[i];
        const atvi_sizes s = atvi_layer_sizes(&c->layers[i]);
        const atvi_acts *a = &w->acts[i];
        atv_real *next = i + 1 < c->num_layers ? w->acts[i + 1].x : w->x;
        atvi_attn_call call = atvi_layer_call(w, batch, i);
        atvi_norm(ctx, N, C, a->x, p->ln1_w, p->ln1_b, eps, w->ln, w->mean, w->rstd);
        atvi_qkv(ctx, N, C, w->ln, p, s, a->q, a->k, a->v, w->copy);
        atvi_attn_forward(&call);
        atvi_copy(ctx, a->mid, a->x, N * C);
        atvi_linear(ctx, N, C, s.Sv, a->att, p->o_packed, p->o_b, a->mid, 1, w->copy);
        atvi_norm(ctx, N, C, a->mid, p->ln2_w, p->ln2_b, eps, w->ln, w->mean, w->rstd);
        atvi_fc(ctx, N, C, w->ln, p, s, a->h, w->a, w->copy);
        atvi_copy(ctx, next, a->mid, N * C);
        atvi_linear(ctx, N, C, s.F, w->a, p->proj_packed, p->proj_b, next, 1, w->copy);
    }
}

/* Final norm and head of n rows of the stream: lnf [n,C], logits [n,n_out]. */
static void atvi_head(atv_ctx *ctx, const atv_model *model, int64_t n, const atv_real *x, atv_real *lnf, atv_real *mean,
                      atv_real *rstd, atv_real *logits, atv_real *scratch) {
    const atv_config *c = &model->config;
    atvi_norm(ctx, n, c->hidden_size, x, model->lnf_w, model->lnf_b, c->layer_norm_epsilon, lnf, mean, rstd);
    atvi_linear(ctx, n, model->n_out, c->hidden_size, lnf, model->head_packed, NULL, logits, 0, scratch);
}

/* The row of the stream that output i, a position or in a classifier a sequence, comes from. */
static int64_t atvi_output_row(const atv_work *w, int64_t i) { return w->last ? w->last[i] : i; }

/* Logits of n outputs, not more than loss_rows: those from `from` on, or those that outputs [n] lists. */
static void atvi_logits(atv_work *w, int64_t from, const int64_t *outputs, int64_t n, atv_real *logits) {
    const int64_t C = w->model->config.hidden_size;
    const atv_real *x = w->x + from * C;
    int64_t r;
    if (outputs || w->last) {
        for (r = 0; r < n; r++)
            memcpy(w->lnf_in + r * C, w->x + atvi_output_row(w, outputs ? outputs[r] : from + r) * C,
                   (size_t)C * sizeof *w->x);
        x = w->lnf_in;
    }
    atvi_head(w->ctx, w->model, n, x, w->lnf, w->lnf_mean, w->lnf_rstd, logits, w->copy);
}

ATVDEF atv_result atv_forward(atv_work *work, const atv_batch *batch, atv_real *logits) {
    int64_t N = 0, t, n;
    ATVI_TRY(atvi_batch(work, batch, &N));
    atvi_forward(work, batch, N);
    if (work->last) N = batch->n_seq;
    for (t = 0; t < N; t += n) {
        n = ATVI_MIN(work->loss_rows, N - t);
        atvi_logits(work, t, NULL, n, logits + t * work->model->n_out);
    }
    return ATV_OK;
}

/* The gradient's place of a parameter. */
static atv_real *atvi_grad(const atv_work *w, const atv_real *parameter) {
    return w->grads + (parameter - w->model->values);
}

/* Loss over the outputs that have a target, a chunk of logits at a time; with `gradient`, its gradient with respect to
   the stream takes the stream's place (dx), those of the head and the final norm are added. */
static void atvi_loss(atv_work *w, const atv_batch *batch, int64_t N, int gradient, float *logprobs, atv_loss *out) {
    const atv_model *m = w->model;
    const int64_t C = m->config.hidden_size, V = m->n_out, n_outputs = w->last ? batch->n_seq : N;
    atv_ctx *ctx = w->ctx;
    int64_t t, r, n, count = 0, done = 0;                   /* rows of the stream that are seen to */
    atvi_loss_job job;
    out->sum = 0;
    for (t = 0; t < n_outputs; t++) {
        const int64_t row = atvi_output_row(w, t), has = w->targets[t] != -100;
        if (logprobs) logprobs[t] = 0;
        if (has) w->rows[count++] = t;
        if (gradient) memset(w->dx + done * C, 0, (size_t)((row + 1 - has - done) * C) * sizeof *w->dx);
        done = row + 1;
    }
    out->tokens = count;
    for (t = 0; t < count; t += n) {
        const int64_t *rows = w->rows + t;
        n = ATVI_MIN(w->loss_rows, count - t);
        for (r = 0; r < n; r++) w->row_targets[r] = w->targets[rows[r]];
        atvi_logits(w, 0, rows, n, w->logits);
        job.V = V;
        job.targets = w->row_targets;
        job.logits = w->logits;
        job.logp = w->logp;
        job.gradient = gradient;
        job.k = ctx->kernels;
        atvi_parallel(ctx, n, atvi_loss_item, &job);
        for (r = 0; r < n; r++) {
            out->sum -= w->logp[r];
            if (logprobs) logprobs[rows[r]] = (float)w->logp[r];
        }
        if (!gradient) continue;
        atvi_linear_back(ctx, n, V, C, w->logits, w->lnf, m->head, w->dlnf, 0, atvi_grad(w, m->head), NULL, w->copy);
        atvi_copy(ctx, w->lnf, NULL, n * C);                                   /* now the gradient of lnf_in */
        atvi_norm_back(ctx, n, C, w->lnf_in, m->lnf_w, w->lnf_mean, w->lnf_rstd, w->dlnf, w->lnf,
                       atvi_grad(w, m->lnf_w), atvi_grad(w, m->lnf_b));
        for (r = 0; r < n; r++)
            memcpy(w->dx + atvi_output_row(w, rows[r]) * C, w->lnf + r * C, (size_t)C * sizeof *w->dx);
    }
}

ATVDEF atv_result atv_forward_loss(atv_work *work, const atv_batch *batch, float *logprobs, atv_loss *out) {
    int64_t N;
    ATVI_TRY(atvi_batch(work, batch, &N));
    atvi_forward(work, batch, N);
    atvi_loss(work, batch, N, 0, logprobs, out);
    return ATV_OK;
}

/* ==== >>model-backward ============================================================================================ */

/* Each layer did mid = x + o(attn(ln1 x)), next = mid + proj(gelu(fc(ln2 mid))). dx holds the gradient of next, then of
   mid, then of x. What the forward did not keep is computed again. Later readers have added to an owner's dk and dv by the
   time its own turn comes. */
static void atvi_backward(atv_work *w, const atv_batch *batch, int64_t N) {
    const atv_config *c = &w->model->config;
    const int64_t C = c->hidden_size;
    const double eps = c->layer_norm_epsilon;
    atv_ctx *ctx = w->ctx;
    int i;
    for (i = c->num_layers - 1; i >= 0; i--) {
        const atvi_layer_params *p = &w->model->w[i];
        const atv_layer *l = &c->layers[i];
        const atvi_sizes s = atvi_layer_sizes(l);
        const atvi_acts *a = &w->acts[i];
        atvi_attn_call call = atvi_layer_call(w, batch, i);
        atvi_gelu(ctx, N * s.F, a->h, w->a);
        atvi_linear_back(ctx, N, C, s.F, w->dx, w->a, p->proj, w->a, 0, atvi_grad(w, p->proj), atvi_grad(w, p->proj_b),
                         w->copy);
        atvi_gelu_back(ctx, N * s.F, a->h, w->a);
        atvi_norm(ctx, N, C, a->mid, p->ln2_w, p->ln2_b, eps, w->ln, w->mean, w->rstd);
        atvi_linear_back(ctx, N, s.F, C, w->a, w->ln, p->fc, w->dn, 0, atvi_grad(w, p->fc), atvi_grad(w, p->fc_b),
                         w->copy);
        atvi_norm_back(ctx, N, C, a->mid, p->ln2_w, w->mean, w->rstd, w->dn, w->dx,
                       atvi_grad(w, p->ln2_w), atvi_grad(w, p->ln2_b));

        atvi_linear_back(ctx, N, C, s.Sv, w->dx, a->att, p->o, w->datt, 0, atvi_grad(w, p->o), atvi_grad(w, p->o_b),
                         w->copy);
        atvi_copy(ctx, w->dq, NULL, N * s.S);
        if (atvi_last_reader(c, i)) {
            atvi_copy(ctx, a->dk, NULL, N * s.GD);
            atvi_copy(ctx, a->dv, NULL, N * s.GDv);
        }
        call.dout = atvi_heads_view(w->datt, l->num_heads, l->value_dim);
        call.dq = atvi_heads_view(w->dq, l->num_heads, l->head_dim);
        call.dk = atvi_heads_view(a->dk, l->num_key_value_heads, l->head_dim);
        call.dv = atvi_heads_view(a->dv, l->num_key_value_heads, l->value_dim);
        atvi_attn_backward(&call);
        atvi_norm(ctx, N, C, a->x, p->ln1_w, p->ln1_b, eps, w->ln, w->mean, w->rstd);
        atvi_linear_back(ctx, N, s.S, C, w->dq, w->ln, p->q, w->dn, 0, atvi_grad(w, p->q), NULL, w->copy);
        if (p->k) {
            atvi_linear_back(ctx, N, s.GD, C, a->dk, w->ln, p->k, w->dn, 1, atvi_grad(w, p->k), NULL, w->copy);
            atvi_linear_back(ctx, N, s.GDv, C, a->dv, w->ln, p->v, w->dn, 1, atvi_grad(w, p->v), NULL, w->copy);
        }
        atvi_norm_back(ctx, N, C, a->x, p->ln1_w, w->mean, w->rstd, w->dn, w->dx,
                       atvi_grad(w, p->ln1_w), atvi_grad(w, p->ln1_b));
    }
    atvi_embed_back(ctx, N, C, batch->ids, w->pos, w->dx, atvi_grad(w, w->model->wte), atvi_grad(w, w->model->wpe));
}

ATVDEF atv_result atv_backward(atv_work *work, const atv_batch *batch, atv_loss *out) {
    int64_t N;
    if (!work->desc.backward) return atvi_fail(work->ctx, ATV_ERR_ARGUMENT, "backward=0: this work keeps no activations");
    ATVI_TRY(atvi_batch(work, batch, &N));
    atvi_forward(work, batch, N);
    atvi_loss(work, batch, N, 1, NULL, out);
    if (out->tokens > 0) atvi_backward(work, batch, N);
    return ATV_OK;
}
/* ==== >>decode ==================================================================================================== */

/* A stretch of one input that runs in one pass. */
typedef struct atvi_segment { int input, seq, row, count; } atvi_segment;

struct atv_decoder {
    atv_ctx *ctx;
    atv_model *model;
    atv_decoder_desc desc;
    int rows;                       /* R: of one pass */
    atv_attn *attn;                 /* [L] */
    atv_kv *kv;                     /* [L], those of owners in use */
    size_t kv_bytes;
    int *used, *length, *mark;      /* [n_seq] */
    int32_t *history;               /* [n_seq,max_positions] ids */
    atv_real *x, *ln, *q, *att, *h; /* [R,C] [R,C] [R,S] [R,Sv] [R,F] */
    atv_real **k, **v;              /* [L] of [R,G D], [R,G Dv]: kept until the pass is over, since readers come later */
    atv_real *keys, *values;        /* [max_positions,G D]: history and new ones of one sequence */
    atv_real *mean, *rstd;          /* [R] */
    int32_t *ids, *pos;             /* [R] */
    atvi_segment *segments;         /* [n_seq] of the pass; at most one per sequence */
    int *step_seq;                  /* [n_seq] */
    int64_t *step_row;
    atv_real *copy;                 /* [atvi_linear_scratch] */
    atv_real *last, *last_ln;       /* [n_seq,C] rows that want logits */
    int *last_input;
    atv_real *logits, *row_logits;  /* [n_seq,V]: of a generation; of a pass */
    atv_decode_input *inputs;       /* [n_seq] of a generation */
    int *prompt_of;                 /* [n_seq] */
    int32_t *token;                 /* [n_seq] */
    int *new_tokens;
    atv_rng *rng;
    int *order;                     /* [V] of the sampler */
    double *weight;
};

/* What an owner's cache must keep: the longest window among its readers. */
static atv_kv_desc atvi_owner_kv(const atv_config *c, const atv_decoder_desc *d, int owner) {
    const atv_layer *l = &c->layers[owner];
    atv_kv_desc kv;
    int i;
    memset(&kv, 0, sizeof kv);
    kv.n_kv_head = l->num_key_value_heads;
    kv.head_dim = l->head_dim;
    kv.value_dim = l->value_dim;
    kv.n_seq = d->n_seq;
    kv.max_positions = d->max_positions;
    kv.max_rewind = d->max_rewind;
    kv.window = l->window_size;
    for (i = owner; i < c->num_layers; i++)
        if (c->layers[i].kv_layer == owner)
            kv.window = kv.window == 0 || c->layers[i].window_size == 0 ? 0 : ATVI_MAX(kv.window, c->layers[i].window_size);
    return kv;
}

static atv_decoder *atvi_decoder_whole(atvi_arena *arena, atv_model *model, const atv_decoder_desc *d) {
    const atv_config *c = &model->config;
    const atvi_sizes most = atvi_max_sizes(c);
    const int64_t C = c->hidden_size, V = c->vocab_size, R = ATVI_MAX(d->n_seq, d->max_chunk);
    const size_t n = (size_t)d->n_seq;
    atv_decoder measure, *self = (atv_decoder *)atvi_take(arena, 1, sizeof *self), *e = self ? self : &measure;
    size_t before;
    int i;
    memset(e, 0, sizeof *e);
    e->ctx = model->ctx;
    e->model = model;
    e->desc = *d;
    e->rows = (int)R;
    e->attn = atvi_layers_attn(arena, model->ctx, c, d->max_positions);
    e->kv = (atv_kv *)atvi_take(arena, (size_t)c->num_layers, sizeof *e->kv);
    e->k = (atv_real **)atvi_take(arena, (size_t)c->num_layers, sizeof *e->k);
    e->v = (atv_real **)atvi_take(arena, (size_t)c->num_layers, sizeof *e->v);
    before = arena->used;
    for (i = 0; i < c->num_layers; i++)
        if (c->layers[i].kv_layer == i) {
            atv_kv_desc kd = atvi_owner_kv(c, d, i);
            atv_kv kv;
            memset(&kv, 0, sizeof kv);
            kv.ctx = model->ctx;
            kv.desc = kd;
            atvi_kv_layout(arena, &kd, &kv);
            if (self) e->kv[i] = kv;
        }
    e->kv_bytes = arena->used - before;
    for (i = 0; i < c->num_layers; i++)
        if (c->layers[i].kv_layer == i) {
            atvi_sizes s = atvi_layer_sizes(&c->layers[i]);
            atv_real *k = atvi_reals(arena, R, s.GD), *v = atvi_reals(arena, R, s.GDv);
            if (self) { e->k[i] = k; e->v[i] = v; }
        }
    e->used = (int *)atvi_take(arena, n, sizeof(int));
    e->length = (int *)atvi_take(arena, n, sizeof(int));
    e->mark = (int *)atvi_take(arena, n, sizeof(int));
    e->history = (int32_t *)atvi_take(arena, atvi_size(n, (size_t)d->max_positions, 0), sizeof(int32_t));
    e->x = atvi_reals(arena, R, C);
    e->ln = atvi_reals(arena, R, C);
    e->q = atvi_reals(arena, R, most.S);
    e->att = atvi_reals(arena, R, most.Sv);
    e->copy = atvi_reals(arena, 1, (int64_t)atvi_linear_scratch(model->ctx, ATVI_MAX(R, (int64_t)d->n_seq)));
    e->h = atvi_reals(arena, R, most.F);
    e->keys = atvi_reals(arena, d->max_positions, most.GD);
    e->values = atvi_reals(arena, d->max_positions, most.GDv);
    e->mean = atvi_reals(arena, ATVI_MAX(R, (int64_t)d->n_seq), 1);
    e->rstd = atvi_reals(arena, ATVI_MAX(R, (int64_t)d->n_seq), 1);
    e->ids = (int32_t *)atvi_take(arena, (size_t)R, sizeof(int32_t));
    e->pos = (int32_t *)atvi_take(arena, (size_t)R, sizeof(int32_t));
    e->segments = (atvi_segment *)atvi_take(arena, n, sizeof *e->segments);
    e->step_seq = (int *)atvi_take(arena, n, sizeof(int));
    e->step_row = (int64_t *)atvi_take(arena, n, sizeof(int64_t));
    e->last = atvi_reals(arena, d->n_seq, C);
    e->last_ln = atvi_reals(arena, d->n_seq, C);
    e->last_input = (int *)atvi_take(arena, n, sizeof(int));
    e->logits = atvi_reals(arena, d->n_seq, V);
    e->row_logits = atvi_reals(arena, d->n_seq, V);
    e->inputs = (atv_decode_input *)atvi_take(arena, n, sizeof *e->inputs);
    e->prompt_of = (int *)atvi_take(arena, n, sizeof(int));
    e->token = (int32_t *)atvi_take(arena, n, sizeof(int32_t));
    e->new_tokens = (int *)atvi_take(arena, n, sizeof(int));
    e->rng = (atv_rng *)atvi_take(arena, n, sizeof *e->rng);
    e->order = (int *)atvi_take(arena, (size_t)V, sizeof(int));
    e->weight = (double *)atvi_take(arena, (size_t)V, sizeof(double));
    return self;
}

/* What only a language model can do. */
static atv_result atvi_check_language(const atv_model *model, const char *what) {
    if (model->config.num_labels == 0) return ATV_OK;
    return atvi_fail(model->ctx, ATV_ERR_ARGUMENT, "num_labels=%d: %s needs a language model, this is a classifier",
                     model->config.num_labels, what);
}

static atv_result atvi_decoder_resolve(const atv_model *model, const atv_decoder_desc *desc, atv_decoder_desc *out) {
    atv_decoder_desc d;
    const int T = model->config.max_position_embeddings;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (d.n_seq == 0) d.n_seq = 1;
    if (d.max_positions == 0) d.max_positions = T;
    if (d.max_chunk == 0) d.max_chunk = 512;
    ATVI_TRY(atvi_check_language(model, "a decoder"));
    ATVI_TRY(atvi_check_range(model->ctx, "n_seq", d.n_seq, 1, 1 << 24));
    ATVI_TRY(atvi_check_range(model->ctx, "max_positions", d.max_positions, 1, T));
    ATVI_TRY(atvi_check_range(model->ctx, "max_rewind", d.max_rewind, 0, INT_MAX / 2));
    ATVI_TRY(atvi_check_range(model->ctx, "max_chunk", d.max_chunk, 1, 1 << 24));
    *out = d;
    return ATV_OK;
}

ATVDEF atv_result atv_decoder_bytes(const atv_model *model, const atv_decoder_desc *desc, size_t *out) {
    atv_decoder_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_decoder_resolve(model, desc, &d));
    atvi_decoder_whole(&arena, (atv_model *)model, &d);
    *out = atvi_arena_bytes(&arena);
    return ATV_OK;
}

ATVDEF atv_result atv_decoder_create(atv_model *model, const atv_decoder_desc *desc, atv_decoder **out) {
    atv_decoder_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_decoder_resolve(model, desc, &d));
    atvi_decoder_whole(&arena, model, &d);
    arena.base = (char *)atvi_alloc(model->ctx, arena.used);
    if (!arena.base) return ATV_ERR_MEMORY;
    arena.used = 0;
    *out = atvi_decoder_whole(&arena, model, &d);
    return ATV_OK;
}

ATVDEF void atv_decoder_destroy(atv_decoder *decoder) { if (decoder) atvi_free(decoder->ctx, decoder); }
ATVDEF size_t atv_decoder_kv_bytes(const atv_decoder *decoder) { return decoder->kv_bytes; }

static int atvi_owns(const atv_decoder *e, int layer) { return e->model->config.layers[layer].kv_layer == layer; }
static int atvi_is_seq(const atv_decoder *e, int seq) { return seq >= 0 && seq < e->desc.n_seq && e->used[seq]; }
static atv_result atvi_check_seq(const atv_decoder *e, const char *name, int seq) {
    return atvi_is_seq(e, seq) ? ATV_OK
        : atvi_fail(e->ctx, ATV_ERR_ARGUMENT, "%s=%d is no sequence of this decoder", name, seq);
}

ATVDEF int atv_decoder_length(const atv_decoder *decoder, int seq) {
    return atvi_is_seq(decoder, seq) ? decoder->length[seq] : -1;
}

static void atvi_decoder_set_length(atv_decoder *e, int seq, int length) {
    int i;
    e->length[seq] = length;
    for (i = 0; i < e->model->config.num_layers; i++)
        if (atvi_owns(e, i)) atvi_kv_set_length(&e->kv[i], seq, length);
}

ATVDEF atv_result atv_decoder_add(atv_decoder *decoder, int *seq) {
    int s;
    for (s = 0; s < decoder->desc.n_seq; s++)
        if (!decoder->used[s]) {
            decoder->used[s] = 1;
            atvi_decoder_set_length(decoder, s, 0);
            *seq = s;
            return ATV_OK;
        }
    return atvi_fail(decoder->ctx, ATV_ERR_FULL, "all n_seq=%d sequences are in use", decoder->desc.n_seq);
}

ATVDEF atv_result atv_decoder_copy(atv_decoder *decoder, int from, int *seq) {
    int i, to;
    ATVI_TRY(atvi_check_seq(decoder, "from", from));
    ATVI_TRY(atv_decoder_add(decoder, &to));
    for (i = 0; i < decoder->model->config.num_layers; i++)
        if (atvi_owns(decoder, i)) atvi_kv_move(&decoder->kv[i], from, &decoder->kv[i], to);
    decoder->length[to] = decoder->length[from];
    memcpy(decoder->history + (int64_t)to * decoder->desc.max_positions,
           decoder->history + (int64_t)from * decoder->desc.max_positions,
           (size_t)decoder->length[from] * sizeof *decoder->history);
    *seq = to;
    return ATV_OK;
}

ATVDEF atv_result atv_decoder_cut(atv_decoder *decoder, int seq, int length) {
    int i;
    ATVI_TRY(atvi_check_seq(decoder, "seq", seq));
    ATVI_TRY(atvi_check_range(decoder->ctx, "length", length, 0, decoder->length[seq]));
    for (i = 0; i < decoder->model->config.num_layers; i++)
        if (atvi_owns(decoder, i) && !atvi_kv_can_cut(&decoder->kv[i], seq, length))
            return atv_kv_cut(&decoder->kv[i], seq, length);
    atvi_decoder_set_length(decoder, seq, length);
    return ATV_OK;
}

ATVDEF atv_result atv_decoder_drop(atv_decoder *decoder, int seq) {
    ATVI_TRY(atvi_check_seq(decoder, "seq", seq));
    decoder->used[seq] = 0;
    return ATV_OK;
}

/* Attention of one layer for the segments of a pass. Single tokens go to the cache at once and step together; longer
   stretches see what the cache has and themselves, and go to the cache when the pass is over. */
static void atvi_decode_attention(atv_decoder *e, int layer, int n_segments) {
    const atv_layer *l = &e->model->config.layers[layer];
    atv_kv *kv = &e->kv[l->kv_layer];
    const atvi_view k = atvi_heads_view(e->k[l->kv_layer], l->num_key_value_heads, l->head_dim);
    const atvi_view v = atvi_heads_view(e->v[l->kv_layer], l->num_key_value_heads, l->value_dim);
    const atvi_view q = atvi_heads_view(e->q, l->num_heads, l->head_dim),
                    out = atvi_heads_view(e->att, l->num_heads, l->value_dim);
    int i, n_steps = 0;
    for (i = 0; i < n_segments; i++) {
        const atvi_segment *s = &e->segments[i];
        if (s->count == 1) {
            if (l->kv_layer == layer) atvi_kv_longer(kv, s->seq, 1);
            e->step_seq[n_steps] = s->seq;
            e->step_row[n_steps++] = s->row;
        } else {
            int length = kv->length[s->seq], from = l->window_size ? ATVI_MAX(0, length - l->window_size + 1) : 0;
            int before = length - from, k_len = before + s->count;
            atvi_attn_call c;
            memset(&c, 0, sizeof c);
            c.attn = &e->attn[layer];
            c.n_seq = 1;
            c.q_len = &s->count;
            c.k_len = &k_len;
            c.q_offset = &before;
            c.q = q;
            c.q.p += s->row * q.pos;
            c.out = out;
            c.out.p += s->row * out.pos;
            c.k = k;
            c.v = v;
            if (before == 0) {
                c.k.p += s->row * k.pos;
                c.v.p += s->row * v.pos;
            } else {
                atvi_kv_fetch(kv, s->seq, from, e->keys, e->values);
                memcpy(e->keys + before * k.pos, k.p + s->row * k.pos, (size_t)(s->count * k.pos) * sizeof *k.p);
                memcpy(e->values + before * v.pos, v.p + s->row * v.pos, (size_t)(s->count * v.pos) * sizeof *v.p);
                c.k.p = e->keys;
                c.v.p = e->values;
            }
            atvi_attn_forward(&c);
        }
    }
    if (n_steps > 0) {
        atvi_step_job j;
        j.attn = &e->attn[layer];
        j.kv = kv;
        j.seqs = e->step_seq;
        j.rows = e->step_row;
        j.q = q;
        j.out = out;
        j.k = l->kv_layer == layer ? &k : NULL;
        j.v = &v;
        atvi_attn_step(&j, n_steps);
    }
}

/* One pass over R rows: the same layers as atvi_forward, with caches. */
static void atvi_decode_pass(atv_decoder *e, int n_segments, int64_t R) {
    const atv_model *m = e->model;
    const atv_config *c = &m->config;
    const int64_t C = c->hidden_size;
    const double eps = c->layer_norm_epsilon;
    atv_ctx *ctx = e->ctx;
    int i, s;
    atvi_embed(ctx, R, C, e->ids, e->pos, m->wte, m->wpe, e->x);
    for (i = 0; i < c->num_layers; i++) {
        const atvi_layer_params *p = &m->w[i];
        const atvi_sizes z = atvi_layer_sizes(&c->layers[i]);
        atvi_norm(ctx, R, C, e->x, p->ln1_w, p->ln1_b, eps, e->ln, e->mean, e->rstd);
        atvi_qkv(ctx, R, C, e->ln, p, z, e->q, e->k[i], e->v[i], e->copy);
        atvi_decode_attention(e, i, n_segments);
        atvi_linear(ctx, R, C, z.Sv, e->att, p->o_packed, p->o_b, e->x, 1, e->copy);
        atvi_norm(ctx, R, C, e->x, p->ln2_w, p->ln2_b, eps, e->ln, e->mean, e->rstd);
        atvi_fc(ctx, R, C, e->ln, p, z, e->h, e->h, e->copy);
        atvi_linear(ctx, R, C, z.F, e->h, p->proj_packed, p->proj_b, e->x, 1, e->copy);
    }
    for (i = 0; i < c->num_layers; i++) {
        const atv_layer *l = &c->layers[i];
        if (l->kv_layer != i) continue;
        for (s = 0; s < n_segments; s++)
            if (e->segments[s].count > 1) {
                const atvi_view k = atvi_heads_view(e->k[i], l->num_key_value_heads, l->head_dim);
                const atvi_view v = atvi_heads_view(e->v[i], l->num_key_value_heads, l->value_dim);
                atvi_kv_append(&e->kv[i], e->segments[s].seq, e->segments[s].count, &k, &v, e->segments[s].row);
            }
    }
    for (s = 0; s < n_segments; s++) e->length[e->segments[s].seq] += e->segments[s].count;
}

static atv_result atvi_decode_check(atv_decoder *e, const atv_decode_input *inputs, int n) {
    int i;
    if (n < 0 || n > e->desc.n_seq) return atvi_fail(e->ctx, ATV_ERR_ARGUMENT, "n=%d is not 0..n_seq=%d", n, e->desc.n_seq);
    memset(e->mark, 0, (size_t)e->desc.n_seq * sizeof *e->mark);
    for (i = 0; i < n; i++) {
        const atv_decode_input *in = &inputs[i];
        ATVI_TRY(atvi_check_seq(e, "seq", in->seq));
        if (e->mark[in->seq]++) return atvi_fail(e->ctx, ATV_ERR_ARGUMENT, "seq=%d comes twice", in->seq);
        if (in->n_ids < 1) return atvi_fail(e->ctx, ATV_ERR_ARGUMENT, "inputs[%d].n_ids=%d is not positive", i, in->n_ids);
        if (in->n_ids > e->desc.max_positions - e->length[in->seq])
            return atvi_fail(e->ctx, ATV_ERR_FULL,
                "the context of sequence %d is full: it has %d positions, and %d more would pass max_positions=%d",
                in->seq, e->length[in->seq], in->n_ids, e->desc.max_positions);
        ATVI_TRY(atvi_check_ids(e->ctx, "ids", in->ids, in->n_ids, e->model->config.vocab_size));
    }
    return ATV_OK;
}

ATVDEF atv_result atv_decode(atv_decoder *decoder, const atv_decode_input *inputs, int n, atv_real *logits) {
    atv_decoder *e = decoder;
    const int64_t C = e->model->config.hidden_size, V = e->model->config.vocab_size;
    int i = 0, done = 0;                                    /* the input under way, and how much of it has run */
    ATVI_TRY(atvi_decode_check(e, inputs, n));
    atvi_model_pack(e->model);
    while (i < n) {
        int rows = 0, n_segments = 0, n_last = 0, s, direct;
        while (i < n && rows < e->rows) {
            const atv_decode_input *in = &inputs[i];
            atvi_segment *g = &e->segments[n_segments++];
            int t, at = e->length[in->seq];
            g->input = i;
            g->seq = in->seq;
            g->row = rows;
            g->count = ATVI_MIN(in->n_ids - done, e->rows - rows);
            for (t = 0; t < g->count; t++, rows++) {
                e->ids[rows] = in->ids[done + t];
                e->pos[rows] = at + t;
                e->history[(int64_t)in->seq * e->desc.max_positions + at + t] = in->ids[done + t];
            }
            done += g->count;
            if (done == in->n_ids) {
                e->last_input[n_last++] = n_segments - 1;
                done = 0;
                i++;
            }
        }
        atvi_decode_pass(e, n_segments, rows);
        if (n_last == 0) continue;
        for (s = 0; s < n_last; s++) {
            const atvi_segment *g = &e->segments[e->last_input[s]];
            memcpy(e->last + s * C, e->x + (g->row + g->count - 1) * C, (size_t)C * sizeof *e->x);
        }
        direct = n_last == n;                               /* all in this pass, hence in order */
        atvi_head(e->ctx, e->model, n_last, e->last, e->last_ln, e->mean, e->rstd, direct ? logits : e->row_logits, e->copy);
        for (s = 0; !direct && s < n_last; s++)
            memcpy(logits + e->segments[e->last_input[s]].input * V, e->row_logits + s * V, (size_t)V * sizeof *logits);
    }
    return ATV_OK;
}

/* ---- choosing a token ---- */

/* Whether a comes before b: the larger weight, the lower id among equals. */
static int atvi_before(const double *weight, int a, int b) {
    return weight[a] > weight[b] || (weight[a] == weight[b] && a < b);
}

/* order[0..n-1] is a heap with the first of all at its root; order[i] may be out of place. */
static void atvi_sift(const double *weight, int *order, int n, int i) {
    for (;;) {
        int child = 2 * i + 1, x;
        if (child >= n) return;
        if (child + 1 < n && atvi_before(weight, order[child + 1], order[child])) child++;
        if (!atvi_before(weight, order[child], order[i])) return;
        x = order[i];
        order[i] = order[child];
        order[child] = x;
        i = child;
    }
}

/* Takes tokens from the heap, the likeliest first, and leaves those kept at the end of `order`, the first at V - 1;
   returns how many. weight holds logits; those kept become exp(logit - top). */
static int atvi_shortlist(const atv_sampling *s, double *weight, int *order, int V) {
    double top, total = 0, sum = 0;
    int i, n = V, kept = 0;
    for (i = 0; i < V; i++) order[i] = i;
    for (i = V / 2 - 1; i >= 0; i--) atvi_sift(weight, order, V, i);
    top = weight[order[0]];
    for (i = 0; i < V; i++) total += exp(weight[i] - top);
    while (n > 0) {
        int first = order[0];
        /* a tie with the last is kept */
        if (s->top_k > 0 && kept >= s->top_k && weight[first] < weight[order[V - kept]]) break;
        order[0] = order[--n];
        order[n] = first;
        atvi_sift(weight, order, n, 0);
        kept++;
        if (s->top_k == 0 && s->top_p < 1) {
            sum += exp(weight[first] - top);
            if (sum >= s->top_p * total) break;
        }
    }
    for (total = 0, i = 0; i < kept; i++) {
        weight[order[V - 1 - i]] = exp(weight[order[V - 1 - i]] - top);
        total += weight[order[V - 1 - i]];
    }
    if (s->top_k > 0 && s->top_p < 1)                       /* top-p of what top-k has left */
        for (n = kept, kept = 0, sum = 0; kept < n && sum < s->top_p * total; kept++) sum += weight[order[V - 1 - kept]];
    return kept;
}

static atv_result atvi_sampling_resolve(atv_ctx *ctx, const atv_sampling *sampling, atv_sampling *out) {
    atv_sampling s = *sampling;
    if (s.temperature == 0) s.temperature = 1;
    if (s.top_p == 0) s.top_p = 1;
    if (s.repetition_penalty == 0) s.repetition_penalty = 1;
    if (!(s.temperature > 0 && s.temperature < 1e6))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "temperature=%g is not positive", s.temperature);
    if (!(s.top_p > 0 && s.top_p <= 1)) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "top_p=%g is not in (0, 1]", s.top_p);
    if (s.top_k < 0) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "top_k=%d is negative", s.top_k);
    if (!(s.repetition_penalty > 0 && s.repetition_penalty < 1e6))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "repetition_penalty=%g is not positive", s.repetition_penalty);
    *out = s;
    return ATV_OK;
}

ATVDEF atv_result atv_sample(atv_decoder *decoder, const atv_sampling *sampling, atv_rng *rng, const atv_real *logits,
                             const int32_t *ids, int n_ids, int32_t *token, float *logprob) {
    const int V = decoder->model->config.vocab_size;
    double *weight = decoder->weight;
    int *order = decoder->order, i, best = 0;
    atv_sampling s;
    ATVI_TRY(atvi_sampling_resolve(decoder->ctx, sampling, &s));
    if (!s.do_sample && s.repetition_penalty == 1) {        /* plain greedy: nothing to prepare */
        for (i = 1; i < V; i++) if (logits[i] > logits[best]) best = i;
        if (!atvi_finite((double)logits[best]))
            return atvi_fail(decoder->ctx, ATV_ERR_ARGUMENT, "logits[%d] is not finite", best);
        if (logprob) *logprob = (float)((double)logits[best] - decoder->ctx->kernels->logsumexp(V, logits));
        *token = best;
        return ATV_OK;
    }
    for (i = 0; i < V; i++) weight[i] = (double)logits[i];
    if (s.repetition_penalty != 1) {
        ATVI_TRY(atvi_check_ids(decoder->ctx, "ids", ids, n_ids, V));
        for (i = 0; i < n_ids; i++) {                       /* from the logit itself, so once however often an id comes */
            double x = (double)logits[ids[i]];
            weight[ids[i]] = x > 0 ? x / s.repetition_penalty : x * s.repetition_penalty;
        }
    }
    if (!s.do_sample) {
        for (i = 1; i < V; i++) if (weight[i] > weight[best]) best = i;
    } else {
        double total = 0, u;
        int n = V, from = 0;
        if (s.temperature != 1) for (i = 0; i < V; i++) weight[i] /= s.temperature;
        if ((s.top_k > 0 && s.top_k < V) || s.top_p < 1) {
            n = atvi_shortlist(&s, weight, order, V);
            from = V - n;
        } else {
            double top = weight[0];
            for (i = 0; i < V; i++) { top = ATVI_MAX(top, weight[i]); order[i] = i; }
            for (i = 0; i < V; i++) weight[i] = exp(weight[i] - top);
        }
        for (i = from; i < V; i++) total += weight[order[i]];
        if (!atvi_finite(total)) return atvi_fail(decoder->ctx, ATV_ERR_ARGUMENT, "the logits are not finite");
        u = atv_rng_uniform(rng) * total;
        best = order[V - 1];
        for (i = V - 1; i >= from; i--) {
            if (weight[order[i]] > 0) best = order[i];      /* rounding must not leave one of weight 0 */
            u -= weight[order[i]];
            if (u < 0) break;
        }
    }
    if (logprob) *logprob = (float)((double)logits[best] - decoder->ctx->kernels->logsumexp(V, logits));
    *token = best;
    return ATV_OK;
}

static int atvi_is_stop(const atv_generate_desc *d, int32_t token) {
    int i;
    for (i = 0; i < d->n_stop_tokens; i++) if (d->stop_tokens[i] == token) return 1;
    return 0;
}

/* Runs the live sequences, which stand in inputs[0..live-1], until none is left. */
static atv_result atvi_generate_run(atv_decoder *e, const atv_generate_desc *d, int *live) {
    const int64_t V = e->model->config.vocab_size;
    while (*live > 0) {
        int i, kept = 0;
        ATVI_TRY(atv_decode(e, e->inputs, *live, e->logits));
        for (i = 0; i < *live; i++) {
            int seq = e->inputs[i].seq, prompt = e->prompt_of[seq], stop;
            float logprob;
            ATVI_TRY(atv_sample(e, &d->sampling, &e->rng[prompt], e->logits + i * V,
                                e->history + (int64_t)seq * e->desc.max_positions, e->length[seq],
                                &e->token[seq], &logprob));
            stop = d->on_token ? d->on_token(d->user, prompt, e->token[seq], logprob) : 0;
            if (stop || ++e->new_tokens[prompt] >= d->max_new_tokens || e->length[seq] >= e->desc.max_positions ||
                atvi_is_stop(d, e->token[seq])) {
                e->used[seq] = 0;
                continue;
            }
            e->inputs[kept].seq = seq;
            e->inputs[kept].ids = &e->token[seq];
            e->inputs[kept++].n_ids = 1;
        }
        *live = kept;
    }
    return ATV_OK;
}

ATVDEF atv_result atv_generate(atv_decoder *decoder, const atv_generate_desc *desc, const atv_decode_input *prompts, int n) {
    atv_decoder *e = decoder;
    atv_sampling s;
    atv_result r = ATV_OK;
    int i, live = 0;
    ATVI_TRY(atvi_sampling_resolve(e->ctx, &desc->sampling, &s));
    if (n < 0 || n > e->desc.n_seq) return atvi_fail(e->ctx, ATV_ERR_ARGUMENT, "n=%d is not 0..n_seq=%d", n, e->desc.n_seq);
    if (desc->max_new_tokens < 0)
        return atvi_fail(e->ctx, ATV_ERR_ARGUMENT, "max_new_tokens=%d is negative", desc->max_new_tokens);
    if (desc->max_new_tokens == 0) return ATV_OK;
    for (i = 0; r == ATV_OK && i < n; i++) {
        int seq;
        r = atv_decoder_add(e, &seq);
        if (r != ATV_OK) break;
        e->inputs[live] = prompts[i];
        e->inputs[live++].seq = seq;
        e->prompt_of[seq] = i;
        e->new_tokens[i] = 0;
        e->rng[i] = atvi_rng_stream(desc->seed, (uint64_t)i);
    }
    if (r == ATV_OK) r = atvi_generate_run(e, desc, &live);
    for (i = 0; i < live; i++) e->used[e->inputs[i].seq] = 0;
    return r;
}
/* ==== >>adamw ===================================================================================================== */
#ifndef ATV_NO_TRAIN


struct atv_trainer {
    atv_ctx *ctx;
    atv_model *model;
    atv_trainer_desc desc;
    atv_work *work;
    atv_real *m, *v;                /* moments, laid out like the model's values */
    double *partial;                /* sums of squares, one for each stretch of the gradients */
    int64_t step, tokens_seen, epoch, document;             /* done; run; under way; the next one of its order */
    int64_t data_hash;              /* of the documents of the epoch under way */
    atv_loss loss;                  /* of the batches since the last update */
    int64_t tokens;                 /* in those, targets or not */
    int pending;                    /* how many of those */
};

typedef struct atvi_square_job { const atv_real *g; size_t n; double *partial; } atvi_square_job;

static void atvi_square_item(void *arg, int64_t item, int lane) {
    const atvi_square_job *j = (const atvi_square_job *)arg;
    size_t i = (size_t)item * ATVI_STRETCH, end = ATVI_MIN(j->n, i + ATVI_STRETCH);
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;                  /* the flat arrays are multiples of 16 long */
    (void)lane;
    for (; i < end; i += 4) {
        s0 += (double)j->g[i] * (double)j->g[i];
        s1 += (double)j->g[i + 1] * (double)j->g[i + 1];
        s2 += (double)j->g[i + 2] * (double)j->g[i + 2];
        s3 += (double)j->g[i + 3] * (double)j->g[i + 3];
    }
    j->partial[item] = (s0 + s1) + (s2 + s3);
}

/* The norm of all gradients together, summed in an order that does not depend on the lanes. */
static double atvi_grad_norm(atv_trainer *t) {
    atvi_square_job j;
    int64_t i, n = atvi_blocks((int64_t)t->model->n_values, ATVI_STRETCH);
    double sum = 0;
    j.g = t->work->grads;
    j.n = t->model->n_values;
    j.partial = t->partial;
    atvi_parallel(t->ctx, n, atvi_square_item, &j);
    for (i = 0; i < n; i++) sum += t->partial[i];
    return sqrt(sum);
}

typedef struct atvi_adamw_job {
    int64_t n;
    atv_real *w, *m, *v;
    const atv_real *g;
    const atvi_adamw *o;
    const atvi_kernels *k;
} atvi_adamw_job;

static void atvi_adamw_item(void *arg, int64_t item, int lane) {
    const atvi_adamw_job *j = (const atvi_adamw_job *)arg;
    int64_t i = item * ATVI_STRETCH;
    (void)lane;
    j->k->adamw(ATVI_MIN(ATVI_STRETCH, j->n - i), j->w + i, j->g + i, j->m + i, j->v + i, j->o);
}

/* m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, w = (1 - lr decay) w - lr m^ / (sqrt(v^) + eps), with m^ = m / (1 - b1^t)
   and v^ = v / (1 - b2^t). g is the gradient times g_scale. */
static void atvi_adamw_step(atv_trainer *t, double lr, double g_scale) {
    const atv_trainer_desc *d = &t->desc;
    double count = (double)t->step + 1;
    atvi_adamw o;
    int i;
    o.g_scale = (atv_real)g_scale;
    o.beta1 = (atv_real)d->beta1;
    o.one_minus_beta1 = (atv_real)(1 - d->beta1);
    o.beta2 = (atv_real)d->beta2;
    o.one_minus_beta2 = (atv_real)(1 - d->beta2);
    o.step = (atv_real)(lr / (1 - pow(d->beta1, count)));
    o.sqrt_scale = (atv_real)(1 / sqrt(1 - pow(d->beta2, count)));
    o.epsilon = (atv_real)d->epsilon;
    for (i = 0; i < t->model->n_params; i++) {
        const atvi_param *p = &t->model->params[i];
        int64_t at = p->p - t->model->values;
        atvi_adamw_job j;
        o.keep = (atv_real)(p->dims[1] || d->decay_all ? 1 - lr * d->weight_decay : 1);
        j.n = p->dims[0] * ATVI_MAX(p->dims[1], 1);
        j.w = p->p;
        j.g = t->work->grads + at;
        j.m = t->m + at;
        j.v = t->v + at;
        j.o = &o;
        j.k = t->ctx->kernels;
        atvi_parallel(t->ctx, atvi_blocks(j.n, ATVI_STRETCH), atvi_adamw_item, &j);
    }
}

/* ==== >>train ===================================================================================================== */

ATVDEF atv_trainer_desc atv_trainer_published(void) {
    atv_trainer_desc d;
    memset(&d, 0, sizeof d);
    d.batch = 16;
    d.accumulate = 16;
    d.max_length = 512;
    return d;
}

static atv_result atvi_trainer_resolve(const atv_model *model, const atv_trainer_desc *desc, atv_trainer_desc *out) {
    atv_ctx *ctx = model->ctx;
    const int T = model->config.max_position_embeddings;
    atv_trainer_desc d;
    memset(&d, 0, sizeof d);
    if (desc) d = *desc;
    if (!d.has_learning_rate && d.learning_rate != 0)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "learning_rate=%g is given, but has_learning_rate=0", d.learning_rate);
    if (!d.has_learning_rate) d.learning_rate = 1e-3;
    d.has_learning_rate = 1;
    if (d.beta1 == 0) d.beta1 = 0.9;
    if (d.beta2 == 0) d.beta2 = 0.999;
    if (d.epsilon == 0) d.epsilon = 1e-8;
    if (d.accumulate == 0) d.accumulate = 1;
    if (d.batch == 0) d.batch = 16;
    if (d.max_length == 0) d.max_length = T;
    ATVI_TRY(atvi_check_range(ctx, "accumulate", d.accumulate, 1, 1 << 24));
    ATVI_TRY(atvi_check_range(ctx, "batch", d.batch, 1, 1 << 24));
    ATVI_TRY(atvi_check_range(ctx, "max_length", d.max_length, 1, T));
    if (d.max_tokens == 0) d.max_tokens = (int)ATVI_MIN((int64_t)d.batch * d.max_length, INT_MAX / 64);
    ATVI_TRY(atvi_check_range(ctx, "max_tokens", d.max_tokens, 1, INT_MAX / 64));
    ATVI_TRY(atvi_check_range(ctx, "schedule", (int)d.schedule, 0, ATV_SCHEDULE_COUNT - 1));
    ATVI_TRY(atvi_check_range(ctx, "warmup_steps", d.warmup_steps, 0, INT_MAX));
    if (d.n_ranks == 0) d.n_ranks = 1;
    ATVI_TRY(atvi_check_range(ctx, "n_ranks", d.n_ranks, 1, 1 << 20));
    ATVI_TRY(atvi_check_range(ctx, "rank", d.rank, 0, d.n_ranks - 1));
    if (d.n_ranks > 1 && !d.reduce)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_ranks=%d, but there is no reduce to sum over them", d.n_ranks);
    if (!(d.learning_rate >= 0 && d.learning_rate < 1e6))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "learning_rate=%g is negative or too large", d.learning_rate);
    if (!(d.min_learning_rate >= 0 && d.min_learning_rate <= d.learning_rate))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "min_learning_rate=%g is not 0..learning_rate=%g", d.min_learning_rate,
                         d.learning_rate);
    if (!(d.beta1 > 0 && d.beta1 < 1)) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "beta1=%g is not in (0, 1)", d.beta1);
    if (!(d.beta2 > 0 && d.beta2 < 1)) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "beta2=%g is not in (0, 1)", d.beta2);
    if (!(d.epsilon > 0 && d.epsilon < 1)) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "epsilon=%g is not in (0, 1)", d.epsilon);
    if (!(d.weight_decay >= 0 && d.weight_decay < 1e6))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "weight_decay=%g is negative or too large", d.weight_decay);
    if (!(d.max_grad_norm >= 0)) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "max_grad_norm=%g is negative", d.max_grad_norm);
    if (d.schedule != ATV_SCHEDULE_CONSTANT && d.total_steps <= d.warmup_steps)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT,
                         "total_steps=%d is not more than warmup_steps=%d, as a decaying schedule needs",
                         d.total_steps, d.warmup_steps);
    *out = d;
    return ATV_OK;
}

ATVDEF double atv_trainer_learning_rate(const atv_trainer_desc *desc, int64_t step) {
    double high = desc->learning_rate, low = desc->min_learning_rate, part;
    if (step < desc->warmup_steps) return high * (double)(step + 1) / desc->warmup_steps;
    if (desc->schedule == ATV_SCHEDULE_CONSTANT) return high;
    part = ATVI_MIN(1.0, (double)(step - desc->warmup_steps) / (desc->total_steps - desc->warmup_steps));
    if (desc->schedule == ATV_SCHEDULE_LINEAR) return low + (high - low) * (1 - part);
    return low + (high - low) * 0.5 * (1 + cos(3.14159265358979323846 * part));
}

static atv_trainer *atvi_trainer_whole(atvi_arena *arena, atv_model *model, const atv_trainer_desc *d) {
    atv_trainer measure, *self = (atv_trainer *)atvi_take(arena, 1, sizeof *self), *t = self ? self : &measure;
    atv_work_desc wd;
    memset(t, 0, sizeof *t);
    memset(&wd, 0, sizeof wd);
    wd.max_tokens = d->max_tokens;
    wd.max_seqs = ATVI_MAX(d->batch, d->max_tokens);        /* atv_trainer_accumulate may bring more and shorter ones */
    wd.backward = 1;
    t->ctx = model->ctx;
    t->model = model;
    t->desc = *d;
    t->work = atvi_work_whole(arena, model, &wd);
    t->m = (atv_real *)atvi_take(arena, model->n_values, sizeof *t->m);
    t->v = (atv_real *)atvi_take(arena, model->n_values, sizeof *t->v);
    t->partial = (double *)atvi_take(arena, (size_t)atvi_blocks((int64_t)model->n_values, ATVI_STRETCH), sizeof *t->partial);
    return self;
}

ATVDEF atv_result atv_trainer_bytes(const atv_model *model, const atv_trainer_desc *desc, size_t *out) {
    atv_trainer_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_trainer_resolve(model, desc, &d));
    atvi_trainer_whole(&arena, (atv_model *)model, &d);
    *out = atvi_arena_bytes(&arena);
    return ATV_OK;
}

ATVDEF atv_result atv_trainer_create(atv_model *model, const atv_trainer_desc *desc, atv_trainer **out) {
    atv_trainer_desc d;
    atvi_arena arena = {NULL, 0};
    ATVI_TRY(atvi_trainer_resolve(model, desc, &d));
    atvi_trainer_whole(&arena, model, &d);
    arena.base = (char *)atvi_alloc(model->ctx, arena.used);
    if (!arena.base) return ATV_ERR_MEMORY;
    arena.used = 0;
    *out = atvi_trainer_whole(&arena, model, &d);
    return ATV_OK;
}

ATVDEF void atv_trainer_destroy(atv_trainer *trainer) { if (trainer) atvi_free(trainer->ctx, trainer); }
ATVDEF const atv_trainer_desc *atv_trainer_info(const atv_trainer *trainer) { return &trainer->desc; }
ATVDEF atv_work *atv_trainer_work(atv_trainer *trainer) { return trainer->work; }
ATVDEF int64_t atv_trainer_step(const atv_trainer *trainer) { return trainer->step; }

/* Before the first batch of a step. */
static void atvi_trainer_clear(atv_trainer *t) {
    atv_work_zero_grad(t->work);
    t->loss.sum = 0;
    t->loss.tokens = 0;
    t->tokens = 0;
}

ATVDEF atv_result atv_trainer_accumulate(atv_trainer *trainer, const atv_batch *batch) {
    atv_loss loss = {0, 0};
    int b;
    if (trainer->pending == 0) atvi_trainer_clear(trainer);
    ATVI_TRY(atv_backward(trainer->work, batch, &loss));
    for (b = 0; b < batch->n_seq; b++) trainer->tokens += batch->lengths[b];
    trainer->loss.sum += loss.sum;
    trainer->loss.tokens += loss.tokens;
    trainer->pending++;
    return ATV_OK;
}

/* All ranks' sums in place of this one's. ready: what became of its batches; unless that is ATV_OK on all, none goes on.
   The last sum is n_ranks times one's own where all have the same documents and stand at the same place. */
static atv_result atvi_trainer_reduce(atv_trainer *t, atv_result ready) {
    const uint64_t at = ((uint64_t)t->step * 31 + (uint64_t)t->epoch) * 31 + (uint64_t)t->document + (uint64_t)t->data_hash;
    const double place = (double)(at & 0xFFFFFFFFu);
    double sums[5];
    int failed;
    if (!t->desc.reduce) return ready;
    sums[0] = t->loss.sum;
    sums[1] = (double)t->loss.tokens;
    sums[2] = (double)t->tokens;
    sums[3] = ready == ATV_OK;
    sums[4] = place;
    failed = t->desc.reduce(t->desc.reduce_user, t->work->grads, t->model->n_values, sums, 5);
    if (ready != ATV_OK) return ready;
    if (failed)
        return atvi_fail(t->ctx, ATV_ERR_STOPPED, "step %ld: reduce failed on rank %d", (long)t->step + 1, t->desc.rank);
    if (sums[3] != t->desc.n_ranks)
        return atvi_fail(t->ctx, ATV_ERR_STOPPED, "step %ld: %g of n_ranks=%d ranks have run their batches",
                         (long)t->step + 1, sums[3], t->desc.n_ranks);
    if (sums[4] != place * t->desc.n_ranks)
        return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "step %ld: other ranks have other documents or are at another step",
                         (long)t->step + 1);
    t->loss.sum = sums[0];
    t->loss.tokens = (int64_t)sums[1];
    t->tokens = (int64_t)sums[2];
    return ATV_OK;
}

static atv_result atvi_trainer_update(atv_trainer *t, atv_result ready, atv_step *out) {
    double lr = atv_trainer_learning_rate(&t->desc, t->step), scale, norm;
    if (t->pending == 0) atvi_trainer_clear(t);
    t->pending = 0;
    ATVI_TRY(atvi_trainer_reduce(t, ready));
    if (t->loss.tokens == 0) return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "no batch since the last update has a target");
    scale = 1 / (double)t->loss.tokens;
    norm = atvi_grad_norm(t) * scale;
    if (!atvi_finite(norm))
        return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "step %ld: the gradient is not finite; is learning_rate=%g too high?",
                         (long)t->step + 1, t->desc.learning_rate);
    if (t->desc.max_grad_norm > 0 && norm > t->desc.max_grad_norm) scale *= t->desc.max_grad_norm / (norm + 1e-6);
    atvi_adamw_step(t, lr, scale);
    atv_model_changed(t->model);
    t->step++;
    t->tokens_seen += t->tokens;
    if (out) {
        out->step = t->step;
        out->loss = t->loss;
        out->grad_norm = norm;
        out->learning_rate = lr;
        out->tokens_seen = t->tokens_seen;
        out->epoch = t->epoch;
    }
    return ATV_OK;
}

ATVDEF atv_result atv_trainer_update(atv_trainer *trainer, atv_step *out) {
    return atvi_trainer_update(trainer, ATV_OK, out);
}

/* The documents' order of an epoch: Fisher and Yates, from a stream of its own. */
static void atvi_shuffle(const atv_trainer *t, int n, int *order) {
    atv_rng rng = atvi_rng_stream(t->desc.seed, (uint64_t)t->epoch);
    int i;
    for (i = 0; i < n; i++) order[i] = i;
    for (i = n - 1; i > 0; i--) {
        int j = (int)atv_rng_below(&rng, (uint32_t)i + 1), x = order[i];
        order[i] = order[j];
        order[j] = x;
    }
}

/* The next batch: documents in order, into the work's stage, until there are `batch` of them or the next does not fit. */
static atv_batch atvi_next_batch(atv_trainer *t, const atv_data *data, int *order, const int64_t *starts) {
    const int longest = ATVI_MIN(t->desc.max_length, t->desc.max_tokens);
    atv_work *w = t->work;
    atv_batch batch;
    int64_t n = 0;
    memset(&batch, 0, sizeof batch);
    batch.ids = w->stage_ids;
    batch.lengths = w->stage_lengths;
    if (data->labels) batch.labels = w->stage_labels;
    while (batch.n_seq < t->desc.batch) {
        int doc, length;
        if (t->document == data->n_docs) {
            t->epoch++;
            t->document = 0;
            atvi_shuffle(t, data->n_docs, order);
        }
        doc = order[t->document];
        length = ATVI_MIN(data->lengths[doc], longest);
        if (n + length > t->desc.max_tokens) break;
        memcpy(w->stage_ids + n, data->ids + starts[doc], (size_t)length * sizeof *w->stage_ids);
        if (data->labels) w->stage_labels[batch.n_seq] = data->labels[doc];
        w->stage_lengths[batch.n_seq++] = length;
        n += length;
        t->document++;
    }
    return batch;
}

/* One step: `accumulate` batches, of those that all ranks take in turn, and an update. A rank that fails still comes to the
   sum, where the others wait. */
static atv_result atvi_trainer_one(atv_trainer *t, const atv_data *data, int *order, const int64_t *starts, atv_step *out) {
    atv_result r = ATV_OK;
    int a, rank;
    for (a = 0; a < t->desc.accumulate && r == ATV_OK; a++)
        for (rank = 0; rank < t->desc.n_ranks && r == ATV_OK; rank++) {
            atv_batch batch = atvi_next_batch(t, data, order, starts);
            if (rank == t->desc.rank) r = atv_trainer_accumulate(t, &batch);
        }
    return atvi_trainer_update(t, r, out);
}

static atv_result atvi_trainer_steps(atv_trainer *t, const atv_data *data, int64_t steps,
                                     int (*on_step)(void *, const atv_step *), void *user,
                                     int *order, const int64_t *starts) {
    unsigned failures;
    int64_t s;
    atvi_shuffle(t, data->n_docs, order);
    for (s = 0; s < steps; s++) {
        const int64_t epoch = t->epoch, document = t->document;
        atv_step step;
        atv_result r = atvi_trainer_one(t, data, order, starts, &step);
        if (r != ATV_OK) {                                  /* as if the step had not begun */
            t->epoch = epoch;
            t->document = document;
            return r;
        }
        failures = t->ctx->failures;
        if (on_step && on_step(user, &step)) return atvi_stopped(t->ctx, failures, "on_step", "step", t->step);
    }
    return ATV_OK;
}

/* FNV-1a of all lengths, ids and labels, without the sign bit. */
static int64_t atvi_data_hash(const atv_data *data, int64_t n_ids) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    int64_t i;
    for (i = 0; i < data->n_docs; i++) hash = (hash ^ (uint32_t)data->lengths[i]) * UINT64_C(0x100000001B3);
    for (i = 0; i < n_ids; i++) hash = (hash ^ (uint32_t)data->ids[i]) * UINT64_C(0x100000001B3);
    for (i = 0; data->labels && i < data->n_docs; i++) hash = (hash ^ (uint32_t)data->labels[i]) * UINT64_C(0x100000001B3);
    return (int64_t)(hash >> 1);
}

ATVDEF atv_result atv_trainer_run(atv_trainer *trainer, const atv_data *data, int64_t steps,
                                  int (*on_step)(void *user, const atv_step *step), void *user) {
    atv_ctx *ctx = trainer->ctx;
    atv_result r;
    int *order;
    int64_t *starts, at, hash;
    int i;
    if (data->n_docs < 1) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_docs=%d: there is nothing to train on", data->n_docs);
    if (trainer->document > data->n_docs)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "n_docs=%d, but the trainer has already taken %ld documents of this epoch",
                         data->n_docs, (long)trainer->document);
    if (trainer->pending)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%d batches wait for atv_trainer_update", trainer->pending);
    ATVI_TRY(atvi_check_data(trainer->model, data, &at));
    hash = atvi_data_hash(data, at);
    if (trainer->document > 0 && trainer->document < data->n_docs && trainer->data_hash != hash)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "these are other documents than those of which this epoch has taken %ld",
                         (long)trainer->document);
    trainer->data_hash = hash;
    order = (int *)atvi_alloc(ctx, (size_t)data->n_docs * sizeof *order);
    starts = (int64_t *)atvi_alloc(ctx, (size_t)data->n_docs * sizeof *starts);
    for (at = 0, i = 0; starts && i < data->n_docs; i++) {
        starts[i] = at;
        at += data->lengths[i];
    }
    r = order && starts ? atvi_trainer_steps(trainer, data, steps, on_step, user, order, starts) : ATV_ERR_MEMORY;
    atvi_free(ctx, order);
    atvi_free(ctx, starts);
    return r;
}

/* ---- saving and resuming ---- */

/* What must agree for a resumed run to be the same run, as text. */
#define ATVI_RECIPE(X) \
    X("learning_rate", d->learning_rate) X("min_learning_rate", d->min_learning_rate) X("schedule", d->schedule) \
    X("warmup_steps", d->warmup_steps) X("total_steps", d->schedule == ATV_SCHEDULE_CONSTANT ? 0 : d->total_steps) \
    X("beta1", d->beta1) X("beta2", d->beta2) X("epsilon", d->epsilon) X("weight_decay", d->weight_decay) \
    X("decay_all", d->decay_all != 0) X("max_grad_norm", d->max_grad_norm) \
    X("accumulate", (double)d->accumulate * d->n_ranks) \
    X("batch", d->batch) X("max_length", d->max_length) X("max_tokens", d->max_tokens)
#define ATVI_COUNTERS(X) X(step) X(tokens_seen) X(epoch) X(document) X(data_hash)
#define ATVI_ONE(...) + 1
enum { ATVI_N_RECIPE = 0 ATVI_RECIPE(ATVI_ONE), ATVI_N_META = ATVI_N_RECIPE + 1 ATVI_COUNTERS(ATVI_ONE) };
#undef ATVI_ONE

typedef struct atvi_trainer_meta { const char *key[ATVI_N_META]; char value[ATVI_N_META][32]; } atvi_trainer_meta;

/* A number that reads back as the same double, without the locale's decimal point. */
static void atvi_number(char *out, size_t size, double x) {
    char *p;
    snprintf(out, size, "%.17g", x);
    for (p = out; *p; p++) if (*p == ',') *p = '.';
}

static void atvi_trainer_describe(const atv_trainer *t, atvi_trainer_meta *meta) {
    const atv_trainer_desc *d = &t->desc;
    int n = 0;
#define X(name, x) meta->key[n] = name; atvi_number(meta->value[n], sizeof meta->value[n], (double)(x)); n++;
    ATVI_RECIPE(X)
#undef X
    meta->key[n] = "seed";
    snprintf(meta->value[n], sizeof meta->value[n], "%llu", (unsigned long long)d->seed);
    n++;
#define X(name) meta->key[n] = #name; snprintf(meta->value[n], sizeof meta->value[n], "%lld", (long long)t->name); n++;
    ATVI_COUNTERS(X)
#undef X
}

#define ATVI_STATE_NAME 96
static const char *const atvi_state_prefix[3] = {"", "exp_avg.", "exp_avg_sq."};

ATVDEF atv_result atv_trainer_save(const atv_trainer *trainer, const char *path) {
    const atv_model *model = trainer->model;
    atv_ctx *ctx = trainer->ctx;
    const char *pairs[2 * ATVI_N_META + 2];
    atv_real *flat[3];
    atvi_trainer_meta meta;
    atv_named_tensor *tensors;
    char *names;
    atv_result r;
    int i, s, n = 0;
    if (trainer->pending)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%d batches wait for atv_trainer_update", trainer->pending);
    flat[0] = model->values;
    flat[1] = trainer->m;
    flat[2] = trainer->v;
    tensors = (atv_named_tensor *)atvi_alloc(ctx, (size_t)model->n_params * 3 * (sizeof *tensors + ATVI_STATE_NAME));
    if (!tensors) return ATV_ERR_MEMORY;
    names = (char *)(tensors + 3 * model->n_params);
    for (s = 0; s < 3; s++)
        for (i = 0; i < model->n_params; i++, n++) {
            snprintf(names + n * ATVI_STATE_NAME, ATVI_STATE_NAME, "%s%s", atvi_state_prefix[s], model->params[i].name);
            tensors[n].name = names + n * ATVI_STATE_NAME;
            tensors[n].tensor = atvi_param_tensor(model, i, flat[s]);
        }
    atvi_trainer_describe(trainer, &meta);
    for (i = 0; i < ATVI_N_META; i++) {
        pairs[2 * i] = meta.key[i];
        pairs[2 * i + 1] = meta.value[i];
    }
    pairs[2 * i] = "format";
    pairs[2 * i + 1] = "pt";
    r = atv_safetensors_write(ctx, path, tensors, n, ATV_REAL, pairs, ATVI_N_META + 1);
    atvi_free(ctx, tensors);
    return r;
}

/* Checks all of the file, then takes it over. */
static atv_result atvi_trainer_restore(atv_trainer *t, const char *path, const atv_safetensors *file) {
    const atv_model *model = t->model;
    atv_ctx *ctx = t->ctx;
    atvi_trainer_meta meta;
    int64_t counters[5], *counter[5];
    atv_real *flat[3];
    int64_t num_labels = 0;                                 /* of the file */
    int i, s, check, n = 0;
    flat[0] = model->values;
    flat[1] = t->m;
    flat[2] = t->v;
#define X(name) counter[n++] = &t->name;
    ATVI_COUNTERS(X)
#undef X
    atvi_trainer_describe(t, &meta);
    for (i = 0; i < ATVI_N_META; i++) {
        const char *value = atv_safetensors_metadata(file, meta.key[i]);
        if (!value)
            return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: no %s in its metadata, so this is no trainer's file", path,
                             meta.key[i]);
        if (i <= ATVI_N_RECIPE) {
            const char *times = t->desc.n_ranks > 1 && strcmp(meta.key[i], "accumulate") == 0 ? " times n_ranks" : "";
            if (strcmp(value, meta.value[i]) != 0)
                return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: %s%s was %s, now it is %s", path, meta.key[i], times, value,
                                 meta.value[i]);
        } else {
            char *end;
            long long x = strtoll(value, &end, 10);
            if (*end || end == value || x < 0)
                return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: %s=%s is no count", path, meta.key[i], value);
            counters[i - ATVI_N_RECIPE - 1] = x;
        }
    }
    i = atv_safetensors_find(file, "score.weight");
    if (i >= 0) num_labels = atv_safetensors_tensor(file, i).tensor.dims[0];
    if (num_labels != model->config.num_labels)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: num_labels was %ld, now it is %d", path, (long)num_labels,
                         model->config.num_labels);
    for (check = 1; check >= 0; check--)
        for (s = 0; s < 3; s++)
            for (i = 0; i < model->n_params; i++) {
                char name[ATVI_STATE_NAME];
                atv_tensor to = atvi_param_tensor(model, i, flat[s]);
                atv_named_tensor from;
                int at;
                snprintf(name, sizeof name, "%s%s", atvi_state_prefix[s], model->params[i].name);
                at = atv_safetensors_find(file, name);
                if (at < 0) return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: no tensor %s", path, name);
                from = atv_safetensors_tensor(file, at);
                if (from.tensor.rank != to.rank || from.tensor.dims[0] != to.dims[0] ||
                    (to.rank > 1 && from.tensor.dims[1] != to.dims[1]) || from.tensor.dtype != ATV_REAL)
                    return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: %s has another shape or dtype than the model's", path, name);
                if (!check) ATVI_TRY(atv_tensor_copy(ctx, &to, &from.tensor));
            }
    for (i = 0; i < n; i++) *counter[i] = counters[i];
    t->pending = 0;
    atv_model_changed(t->model);
    return ATV_OK;
}

ATVDEF atv_result atv_trainer_load(atv_trainer *trainer, const char *path) {
    atv_safetensors *file;
    atv_result r;
    ATVI_TRY(atv_safetensors_open(trainer->ctx, path, &file));
    r = atvi_trainer_restore(trainer, path, file);
    atv_safetensors_close(file);
    return r;
}
#undef ATVI_RECIPE
#undef ATVI_COUNTERS
#endif /* ATV_NO_TRAIN */

/* ==== >>json ====================================================================================================== */

/* JSON (RFC 8259) as one array of nodes in the text's own order: a container is followed by all that it holds. Nodes
   point into the text, which must outlive them. */
typedef enum atvi_json_type {
    ATVI_JSON_NULL, ATVI_JSON_FALSE, ATVI_JSON_TRUE, ATVI_JSON_NUMBER, ATVI_JSON_STRING, ATVI_JSON_ARRAY, ATVI_JSON_OBJECT
} atvi_json_type;

typedef struct atvi_jnode {
    atvi_json_type type;
    int span;                       /* nodes of this subtree, itself included: the next sibling is node + span */
    int count;                      /* elements of an array, members of an object (a member is its key, then its value) */
    const char *text;               /* its source; of a string what lies between the quotes, still escaped */
    size_t size;
} atvi_jnode;

typedef struct atvi_json { atv_ctx *ctx; atvi_jnode *nodes; } atvi_json;            /* nodes[0] is the root */

typedef struct atvi_json_reader {
    atv_ctx *ctx;
    const char *what, *text, *end, *at;
    atvi_jnode *nodes;
    int n, room;
} atvi_json_reader;

enum { ATVI_JSON_DEPTH = 64 };

/* The length of the character at p (n >= 1 bytes are left), its code point in *cp. Of what is not UTF-8, minus the length
   of the longest prefix that might have become a character: the piece that one U+FFFD stands for (Unicode, section 3.9). */
static int atvi_utf8(const char *text, size_t n, uint32_t *cp) {
    const unsigned char *p = (const unsigned char *)text;
    unsigned c = p[0], low = 0x80, high = 0xBF;
    int i, more;
    if (c < 0x80) { *cp = c; return 1; }
    if (c < 0xC2 || c > 0xF4) return -1;
    more = c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (c == 0xE0) low = 0xA0;                              /* overlong */
    if (c == 0xED) high = 0x9F;                             /* surrogates */
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;                             /* past U+10FFFF */
    *cp = c & (0x3Fu >> more);
    for (i = 1; i <= more; i++) {
        if ((size_t)i >= n || p[i] < low || p[i] > high) return -i;
        low = 0x80;
        high = 0xBF;
        *cp = *cp << 6 | (p[i] & 0x3Fu);
    }
    return more + 1;
}

static int atvi_utf8_put(uint32_t cp, char *out) {
    int i, more = cp < 0x80 ? 0 : cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
    static const unsigned char lead[4] = { 0, 0xC0, 0xE0, 0xF0 };
    out[0] = (char)(lead[more] | cp >> (6 * more));
    for (i = 1; i <= more; i++) out[i] = (char)(0x80 | (cp >> (6 * (more - i)) & 0x3F));
    return more + 1;
}

static atv_result atvi_json_bad(atvi_json_reader *r, const char *at, const char *why) {
    const char *p;
    long line = 1, column = 1;
    for (p = r->text; p < at; p++) {
        column++;
        if (*p == '\n') { line++; column = 1; }
    }
    return atvi_fail(r->ctx, ATV_ERR_FORMAT, "%s: line %ld column %ld: %s", r->what, line, column, why);
}

static void atvi_json_space(atvi_json_reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')) r->at++;
}

static int atvi_json_hex(const char *p, const char *end) {  /* four digits, or -1 */
    int i, value = 0;
    if (end - p < 4) return -1;
    for (i = 0; i < 4; i++) {
        int c = p[i], digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static atv_result atvi_json_string(atvi_json_reader *r) {   /* r->at is behind the first quote */
    while (r->at < r->end && *r->at != '"') {
        unsigned char c = (unsigned char)*r->at;
        uint32_t cp;
        int n;
        if (c < 0x20) return atvi_json_bad(r, r->at, "a control character in a string");
        if (c == '\\') {
            c = r->end - r->at < 2 ? 0 : (unsigned char)r->at[1];
            if (c == 0 || !strchr("\"\\/bfnrtu", c)) return atvi_json_bad(r, r->at, "a bad escape in a string");
            if (c == 'u' && atvi_json_hex(r->at + 2, r->end) < 0)
                return atvi_json_bad(r, r->at, "a bad \\u escape in a string");
            r->at += c == 'u' ? 6 : 2;
        } else if (c < 0x80) r->at++;
        else {
            n = atvi_utf8(r->at, (size_t)(r->end - r->at), &cp);
            if (n < 0) return atvi_json_bad(r, r->at, "a string that is not UTF-8");
            r->at += n;
        }
    }
    if (r->at == r->end) return atvi_json_bad(r, r->at, "the text ends within a string");
    r->at++;
    return ATV_OK;
}

static int atvi_json_digits(atvi_json_reader *r) {
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > from;
}

static int atvi_json_number(atvi_json_reader *r) {
    if (*r->at == '-') r->at++;
    if (r->at < r->end && *r->at == '0') r->at++;
    else if (!atvi_json_digits(r)) return 0;
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!atvi_json_digits(r)) return 0;
    }
    if (r->at < r->end && (*r->at | 32) == 'e') {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!atvi_json_digits(r)) return 0;
    }
    return 1;
}

static int atvi_json_word(atvi_json_reader *r, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0) return 0;
    r->at += n;
    return 1;
}

static atv_result atvi_json_node(atvi_json_reader *r, int *out) {
    if (r->n == r->room) {
        int room = r->room ? r->room * 2 : 64;
        atvi_jnode *nodes;
        if (r->room > INT_MAX / 2) return atvi_json_bad(r, r->at, "too many values");
        nodes = (atvi_jnode *)atvi_realloc(r->ctx, r->nodes, (size_t)r->n * sizeof *nodes, (size_t)room * sizeof *nodes);
        if (!nodes) return ATV_ERR_MEMORY;
        r->nodes = nodes;
        r->room = room;
    }
    *out = r->n++;
    return ATV_OK;
}

static atv_result atvi_json_value(atvi_json_reader *r, int depth) {
    const char *from;
    atvi_json_type type;
    int me = 0, count = 0;
    size_t quotes = 0;
    ATVI_TRY(atvi_json_node(r, &me));
    atvi_json_space(r);
    from = r->at;
    if (r->at == r->end) return atvi_json_bad(r, r->at, "the text ends where a value should be");
    if (*from == '{' || *from == '[') {
        char close = *from == '{' ? '}' : ']';
        type = *from == '{' ? ATVI_JSON_OBJECT : ATVI_JSON_ARRAY;
        if (depth == ATVI_JSON_DEPTH) return atvi_json_bad(r, r->at, "nested too deep");
        r->at++;
        atvi_json_space(r);
        while (r->at == r->end || *r->at != close) {
            if (count > 0) {
                if (r->at == r->end || *r->at != ',')
                    return atvi_json_bad(r, r->at, "a comma or a closing bracket is missing");
                r->at++;
                atvi_json_space(r);
            }
            if (type == ATVI_JSON_OBJECT) {
                if (r->at == r->end || *r->at != '"') return atvi_json_bad(r, r->at, "a member's name is missing");
                ATVI_TRY(atvi_json_value(r, depth + 1));
                atvi_json_space(r);
                if (r->at == r->end || *r->at != ':') return atvi_json_bad(r, r->at, "a colon is missing");
                r->at++;
            }
            ATVI_TRY(atvi_json_value(r, depth + 1));
            atvi_json_space(r);
            count++;
        }
        r->at++;
    } else if (*from == '"') {
        type = ATVI_JSON_STRING;
        quotes = 1;
        r->at++;
        ATVI_TRY(atvi_json_string(r));
    } else if (*from == '-' || (*from >= '0' && *from <= '9')) {
        type = ATVI_JSON_NUMBER;
        if (!atvi_json_number(r)) return atvi_json_bad(r, r->at, "a bad number");
    } else if (atvi_json_word(r, "true")) type = ATVI_JSON_TRUE;
    else if (atvi_json_word(r, "false")) type = ATVI_JSON_FALSE;
    else if (atvi_json_word(r, "null")) type = ATVI_JSON_NULL;
    else return atvi_json_bad(r, r->at, "no JSON value");
    r->nodes[me].type = type;
    r->nodes[me].span = r->n - me;
    r->nodes[me].count = count;
    r->nodes[me].text = from + quotes;
    r->nodes[me].size = (size_t)(r->at - from) - 2 * quotes;
    return ATV_OK;
}

/* what: the file's name, for the error's sentence. */
static atv_result atvi_json_parse(atv_ctx *ctx, const char *what, const char *text, size_t size, atvi_json *out) {
    atvi_json_reader r;
    atv_result result;
    memset(&r, 0, sizeof r);
    r.ctx = ctx;
    r.what = what;
    r.text = r.at = text ? text : "";
    r.end = r.text + (text ? size : 0);
    if (r.end - r.text >= 3 && memcmp(r.text, "\xEF\xBB\xBF", 3) == 0)
        return atvi_json_bad(&r, r.at, "a byte order mark, which JSON has none of");
    result = atvi_json_value(&r, 0);
    atvi_json_space(&r);
    if (result == ATV_OK && r.at < r.end) result = atvi_json_bad(&r, r.at, "more text after the value");
    if (result != ATV_OK) { atvi_free(ctx, r.nodes); return result; }
    out->ctx = ctx;
    out->nodes = r.nodes;
    return ATV_OK;
}

static void atvi_json_free(atvi_json *json) {
    if (json->nodes) atvi_free(json->ctx, json->nodes);
    json->nodes = NULL;
}

/* The UTF-8 bytes of a string, without a final 0: as many as fit are written, the number of all is returned. Lone
   surrogates become U+FFFD. */
static size_t atvi_json_unescape(const atvi_jnode *string, char *out, size_t cap) {
    const char *p = string->text, *end = p + string->size;
    size_t size = 0;
    while (p < end) {
        char piece[4];
        int i, n = 1;
        piece[0] = *p++;
        if (piece[0] == '\\') {
            static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
            const char *escape;
            piece[0] = *p++;
            escape = strchr(from, piece[0]);
            if (escape) piece[0] = to[escape - from];
            if (piece[0] == 'u') {
                uint32_t cp = (uint32_t)atvi_json_hex(p, end);
                p += 4;
                if (cp >= 0xD800 && cp < 0xE000) {
                    int low = cp < 0xDC00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? atvi_json_hex(p + 2, end) : -1;
                    if (low >= 0xDC00 && low < 0xE000) {
                        cp = 0x10000 + ((cp - 0xD800) << 10) + ((uint32_t)low - 0xDC00);
                        p += 6;
                    } else cp = 0xFFFD;
                }
                n = atvi_utf8_put(cp, piece);
            }
        }
        for (i = 0; i < n; i++, size++)
            if (size < cap) out[size] = piece[i];
    }
    return size;
}

/* 1: it is a string of that value. */
static int atvi_json_equal(const atvi_jnode *string, const char *text) {
    char piece[256];
    size_t n = strlen(text);
    if (!string || string->type != ATVI_JSON_STRING) return 0;
    if (!memchr(string->text, '\\', string->size)) return string->size == n && memcmp(string->text, text, n) == 0;
    return n <= sizeof piece && atvi_json_unescape(string, piece, sizeof piece) == n && memcmp(piece, text, n) == 0;
}

/* A member's value; NULL when it is not an object or has none of that name. Of several the last counts. */
static const atvi_jnode *atvi_json_get(const atvi_jnode *object, const char *key) {
    const atvi_jnode *member, *found = NULL;
    int i;
    if (!object || object->type != ATVI_JSON_OBJECT) return NULL;
    for (i = 0, member = object + 1; i < object->count; i++, member += 1 + member[1].span)
        if (atvi_json_equal(member, key)) found = member + 1;
    return found;
}

/* A number taken apart: digits[0..n) without leading or trailing zeros, times 10^exponent. */
typedef struct atvi_decimal { char digits[40]; int n, negative, more; long exponent; } atvi_decimal;

static int atvi_json_decimal(const atvi_jnode *node, atvi_decimal *d) {
    const char *p, *end;
    long exponent = 0;
    int fraction = 0, negative = 0;
    memset(d, 0, sizeof *d);
    if (!node || node->type != ATVI_JSON_NUMBER || node->size > 1000000000) return 0;
    p = node->text;
    end = p + node->size;
    if (*p == '-') { d->negative = 1; p++; }
    for (; p < end && (*p | 32) != 'e'; p++) {
        if (*p == '.') { fraction = 1; continue; }
        if (fraction) d->exponent--;
        if (*p == '0' && d->n == 0) continue;
        if (d->n < (int)sizeof d->digits) d->digits[d->n++] = (char)(*p - '0');
        else { d->exponent++; d->more |= *p != '0'; }       /* `more`: digits that were dropped were not all zero */
    }
    if (p < end) {
        p++;
        if (*p == '-' || *p == '+') negative = *p++ == '-';
        for (; p < end; p++) exponent = ATVI_MIN(exponent * 10 + (*p - '0'), 100000000L);
        d->exponent += negative ? -exponent : exponent;
    }
    while (d->n > 0 && d->digits[d->n - 1] == 0) { d->n--; d->exponent++; }
    return 1;
}

/* 1: a whole number that fits (512, 512.0 and 1e3 alike). */
static int atvi_json_int(const atvi_jnode *node, int64_t *out) {
    atvi_decimal d;
    uint64_t value = 0, limit;
    int i;
    if (!atvi_json_decimal(node, &d) || d.more) return 0;
    if (d.n == 0) { *out = 0; return 1; }
    if (d.exponent < 0 || d.exponent > 18 || d.n + d.exponent > 19) return 0;
    for (i = 0; i < d.n + d.exponent; i++) value = value * 10 + (uint64_t)(i < d.n ? d.digits[i] : 0);
    limit = (uint64_t)INT64_MAX + (uint64_t)d.negative;
    if (value > limit) return 0;
    *out = d.negative ? -(int64_t)(value - 1) - 1 : (int64_t)value;
    return 1;
}

/* 1: a number; rounded to nearest even, in any locale. Done in long integers: digits 2^1536 / 10^k or digits 10^k. */
static int atvi_json_double(const atvi_jnode *node, double *out) {
    enum { WORDS = 96, SHIFT = 48 };                        /* of 32 bits, the lowest first */
    uint32_t w[WORDS];
    atvi_decimal d;
    uint64_t carry, mantissa = 0;
    int i, top, bits, keep, low, odd;
    long k;
    if (!atvi_json_decimal(node, &d)) return 0;
    if (d.n == 0 || d.n + d.exponent < -330) { *out = d.negative ? -0.0 : 0.0; return 1; }
    if (d.n + d.exponent > 310) return 0;                   /* no finite double */
    memset(w, 0, sizeof w);
    for (k = 0; k < d.n + ATVI_MAX(d.exponent, 0L); k++) {
        carry = k < d.n ? (uint64_t)d.digits[k] : 0;
        for (i = SHIFT; i < WORDS; i++) {
            carry += (uint64_t)w[i] * 10;
            w[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    odd = d.more;                                           /* something below what w holds */
    for (k = 0; k < -d.exponent; k++) {
        carry = 0;
        for (i = WORDS - 1; i >= 0; i--) {
            carry = carry << 32 | w[i];
            w[i] = (uint32_t)(carry / 10);
            carry %= 10;
        }
        odd |= carry != 0;
    }
    for (top = WORDS - 1; top > 0 && w[top] == 0; top--) {}
    for (bits = 32 * top; bits < 32 * top + 32 && (w[top] >> (bits - 32 * top)) != 0; bits++) {}
    keep = ATVI_MIN(53, bits - 32 * SHIFT + 1074);          /* fewer when subnormal */
    if (keep < 0) { *out = d.negative ? -0.0 : 0.0; return 1; }
    low = bits - keep;
    for (i = bits - 1; i >= low; i--) mantissa = mantissa << 1 | (w[i / 32] >> (i % 32) & 1);
    for (i = 0; i < low - 1 && !odd; i++) odd = (int)(w[i / 32] >> (i % 32) & 1);
    if (low > 0 && (w[(low - 1) / 32] >> ((low - 1) % 32) & 1) && (odd || (mantissa & 1))) mantissa++;
    if (bits - 32 * SHIFT > 1024 || (bits - 32 * SHIFT == 1024 && mantissa >> 53)) return 0;
    mantissa += (uint64_t)(low - 32 * SHIFT + 1074) << 52;  /* a normal one's top bit is the 1 that is missing */
    mantissa |= (uint64_t)d.negative << 63;
    memcpy(out, &mantissa, sizeof mantissa);
    return 1;
}

/* Appends "text", quoted and escaped; what is not UTF-8 becomes U+FFFD. */
static void atvi_buf_json(atvi_buf *buf, const char *text, size_t size) {
    size_t at = 0, from = 0;
    atvi_buf_put(buf, "\"", 1);
    while (at < size) {
        unsigned char c = (unsigned char)text[at];
        uint32_t cp;
        int n = 1;
        if (c < 0x80 ? c >= 0x20 && c != '"' && c != '\\' && c != 0x7F : (n = atvi_utf8(text + at, size - at, &cp)) > 0) {
            at += (size_t)n;
            continue;
        }
        atvi_buf_put(buf, text + from, at - from);
        if (c >= 0x80) atvi_buf_text(buf, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\') atvi_buf_format(buf, "\\%c", c);
        else if (c == '\n') atvi_buf_text(buf, "\\n");
        else atvi_buf_format(buf, "\\u%04x", (unsigned)c);
        at += (size_t)(n < 0 ? -n : 1);
        from = at;
    }
    atvi_buf_put(buf, text + from, size - from);
    atvi_buf_put(buf, "\"", 1);
}
/* ==== >>safetensors =============================================================================================== */

/* The file: the header's size (8 bytes), the header (JSON: name -> dtype, shape, data_offsets), the tensors' bytes, all
   little-endian. A tensor may begin anywhere, so a view of one is read by copying (atv_tensor_copy, atvi_convert), never
   through its pointer. */
#define ATVI_ST_MAX_HEADER 100000000u                       /* the reference implementation's limit */

typedef struct atvi_st_item {                               /* a tensor while a file is read or written */
    const char *name;
    atv_tensor tensor;
    uint64_t begin, end;                                    /* bytes after the header */
    atv_dtype dtype;                                        /* in the file */
    int index;
} atvi_st_item;

struct atv_safetensors {
    atv_ctx *ctx;
    const void *mapped;                                     /* NULL: the memory is the caller's */
    size_t mapped_size;
    char *turned;                                           /* on a big-endian machine: the bytes in its own order */
    int n_tensors, n_metadata;
    atv_named_tensor *tensors;                              /* in the order of their bytes */
    int *by_name;                                           /* [n_tensors] */
    const char **metadata;                                  /* [n_metadata] key, value */
    char *text;                                             /* all strings */
};

static int atvi_big_endian(void) {
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 0;
}

static void atvi_turn(char *data, size_t n, size_t size) {
    size_t i, j;
    for (i = 0; i < n; i++)
        for (j = 0; j < size / 2; j++) {
            char c = data[i * size + j];
            data[i * size + j] = data[i * size + size - 1 - j];
            data[i * size + size - 1 - j] = c;
        }
}

static int atvi_st_by_name(const void *a, const void *b) {
    return strcmp(((const atvi_st_item *)a)->name, ((const atvi_st_item *)b)->name);
}

static int atvi_st_by_offset(const void *a, const void *b) {
    const atvi_st_item *x = (const atvi_st_item *)a, *y = (const atvi_st_item *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* As the reference writes: the widest elements first, so that all are aligned; then by name. */
static int atvi_st_by_width(const void *a, const void *b) {
    size_t x = atv_dtype_size(((const atvi_st_item *)a)->dtype), y = atv_dtype_size(((const atvi_st_item *)b)->dtype);
    return x != y ? (x > y ? -1 : 1) : atvi_st_by_name(a, b);
}

/* Unescapes to *text and moves it on; NULL for a string with a 0 inside. A string's quotes leave room for its end. */
static const char *atvi_st_string(const atvi_jnode *node, char **text) {
    char *s = *text;
    size_t n = atvi_json_unescape(node, s, node->size);
    if (memchr(s, 0, n)) return NULL;
    s[n] = 0;
    *text += n + 1;
    return s;
}

static atv_result atvi_st_read_item(atv_ctx *ctx, const char *what, const atvi_jnode *node, size_t data_size,
                                    atvi_st_item *item) {
    const atvi_jnode *dtype = atvi_json_get(node, "dtype"), *shape = atvi_json_get(node, "shape");
    const atvi_jnode *offsets = atvi_json_get(node, "data_offsets");
    int64_t begin, end, count = 1;
    int d = 0, i;
    if (!dtype || !shape || !offsets || node->count != 3)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.120s\": needs dtype, shape, data_offsets and nothing else",
                         what, item->name);
    if (dtype->type != ATVI_JSON_STRING || shape->type != ATVI_JSON_ARRAY || offsets->type != ATVI_JSON_ARRAY ||
        offsets->count != 2)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.120s\": dtype, shape or data_offsets is of the wrong kind",
                         what, item->name);
    while (d < ATV_DTYPE_COUNT && !atvi_json_equal(dtype, atv_dtype_name((atv_dtype)d))) d++;
    if (d == ATV_DTYPE_COUNT)
        return atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: tensor \"%.120s\": dtype=%.*s is not read here", what, item->name,
                         (int)ATVI_MIN(dtype->size, 40), dtype->text);
    if (shape->count > ATV_MAX_RANK)
        return atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: tensor \"%.120s\": shape has %d dimensions, more than %d", what,
                         item->name, shape->count, ATV_MAX_RANK);
    item->dtype = item->tensor.dtype = (atv_dtype)d;
    item->tensor.rank = shape->count;
    for (i = 0; i < shape->count; i++) {
        int64_t dim;
        if (!atvi_json_int(shape + 1 + i, &dim) || dim < 0 || (dim > 0 && count > INT64_MAX / 8 / dim))
            return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.120s\": shape[%d]=%.*s is no size", what, item->name, i,
                             (int)ATVI_MIN(shape[1 + i].size, 40), shape[1 + i].text);
        item->tensor.dims[i] = dim;
        count *= dim;
    }
    atvi_set_strides(&item->tensor);
    if (!atvi_json_int(offsets + 1, &begin) || !atvi_json_int(offsets + 2, &end) || begin < 0 || end < begin ||
        (uint64_t)end > data_size)
        return atvi_fail(ctx, ATV_ERR_FORMAT,
                         "%s: tensor \"%.120s\": data_offsets=[%.*s, %.*s] are not within the %lu bytes of data", what,
                         item->name, (int)ATVI_MIN(offsets[1].size, 24), offsets[1].text, (int)ATVI_MIN(offsets[2].size, 24),
                         offsets[2].text, (unsigned long)data_size);
    if (end - begin != count * (int64_t)atv_dtype_size((atv_dtype)d))
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.120s\": %s of %s does not fill data_offsets=[%lld, %lld]",
                         what, item->name, atvi_shape_text(&item->tensor).text, atv_dtype_name((atv_dtype)d),
                         (long long)begin, (long long)end);
    item->begin = (uint64_t)begin;
    item->end = (uint64_t)end;
    return ATV_OK;
}

/* Everything of the header but the order of tensors, into file and items. */
static atv_result atvi_st_read_header(atv_safetensors *file, const char *what, const atvi_jnode *root, size_t data_size,
                                      atvi_st_item *items) {
    atv_ctx *ctx = file->ctx;
    const atvi_jnode *key = root + 1, *meta = NULL;
    char *text = file->text;
    int i, n = 0;
    for (i = 0; i < root->count; i++, key += 1 + key[1].span) {
        if (atvi_json_equal(key, "__metadata__")) {
            if (meta || key[1].type != ATVI_JSON_OBJECT)
                return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: __metadata__ is not one object", what);
            meta = key + 1;
            continue;
        }
        items[n].name = atvi_st_string(key, &text);
        if (!items[n].name) return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: the name of tensor %d has a 0 character", what, n);
        ATVI_TRY(atvi_st_read_item(ctx, what, key + 1, data_size, &items[n]));
        n++;
    }
    for (key = meta ? meta + 1 : NULL, i = 0; meta && i < meta->count; i++, key += 1 + key[1].span) {
        if (key[1].type == ATVI_JSON_STRING) {
            file->metadata[2 * i] = atvi_st_string(key, &text);
            file->metadata[2 * i + 1] = atvi_st_string(key + 1, &text);
        }
        if (!file->metadata[2 * i] || !file->metadata[2 * i + 1])
            return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: __metadata__: the value of \"%.*s\" is not a plain string", what,
                             (int)ATVI_MIN(key->size, 120), key->text);
    }
    return ATV_OK;
}

/* The bytes must be covered without holes or overlap, and every name be there once. */
static atv_result atvi_st_place(atv_safetensors *file, const char *what, const char *data, size_t data_size,
                                atvi_st_item *items) {
    atv_ctx *ctx = file->ctx;
    uint64_t at = 0;
    int i, n = file->n_tensors;
    qsort(items, (size_t)n, sizeof *items, atvi_st_by_offset);
    for (i = 0; i < n; i++) {
        if (items[i].begin != at)
            return atvi_fail(ctx, ATV_ERR_FORMAT,
                             "%s: tensor \"%.120s\": data_offsets begin at %llu, not where the one before ends, %llu", what,
                             items[i].name, (unsigned long long)items[i].begin, (unsigned long long)at);
        at = items[i].end;
        items[i].index = i;
        file->tensors[i].name = items[i].name;
        file->tensors[i].tensor = items[i].tensor;
        file->tensors[i].tensor.data = (void *)(uintptr_t)(data + items[i].begin);
    }
    if (at != data_size)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: the tensors end at byte %llu of %lu", what, (unsigned long long)at,
                         (unsigned long)data_size);
    qsort(items, (size_t)n, sizeof *items, atvi_st_by_name);
    for (i = 0; i < n; i++) {
        file->by_name[i] = items[i].index;
        if (i > 0 && strcmp(items[i - 1].name, items[i].name) == 0)
            return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.120s\" is there twice", what, items[i].name);
    }
    if (atvi_big_endian() && data_size > 0) {
        file->turned = (char *)atvi_alloc(ctx, data_size);
        if (!file->turned) return ATV_ERR_MEMORY;
        memcpy(file->turned, data, data_size);
        for (i = 0; i < n; i++) {
            atv_tensor *t = &file->tensors[i].tensor;
            t->data = file->turned + ((const char *)t->data - data);
            atvi_turn((char *)t->data, (size_t)atv_tensor_count(t), atv_dtype_size(t->dtype));
        }
    }
    return ATV_OK;
}

static void atvi_st_layout(atv_safetensors *file, atvi_arena *arena, size_t text_size) {
    atvi_take(arena, 1, sizeof *file);
    file->tensors = (atv_named_tensor *)atvi_take(arena, (size_t)file->n_tensors, sizeof *file->tensors);
    file->by_name = (int *)atvi_take(arena, (size_t)file->n_tensors, sizeof *file->by_name);
    file->metadata = (const char **)atvi_take(arena, (size_t)file->n_metadata * 2, sizeof *file->metadata);
    file->text = (char *)atvi_take(arena, text_size, 1);
}

static atv_result atvi_st_build(atv_ctx *ctx, const char *what, const atvi_jnode *root, size_t header_size, const char *data,
                                size_t data_size, atv_safetensors **out) {
    atv_safetensors counted, *file;
    atvi_st_item *items;
    atvi_arena arena = {NULL, 0};
    atv_result r;
    const atvi_jnode *meta = atvi_json_get(root, "__metadata__");
    memset(&counted, 0, sizeof counted);
    counted.ctx = ctx;
    counted.n_tensors = root->count - (meta != NULL);
    counted.n_metadata = meta && meta->type == ATVI_JSON_OBJECT ? meta->count : 0;
    atvi_st_layout(&counted, &arena, header_size);
    file = (atv_safetensors *)atvi_alloc(ctx, arena.used);
    if (!file) return ATV_ERR_MEMORY;
    *file = counted;
    arena.base = (char *)file;
    arena.used = 0;
    atvi_st_layout(file, &arena, header_size);
    items = (atvi_st_item *)atvi_alloc(ctx, atvi_size((size_t)root->count, sizeof *items, 0));
    r = items ? atvi_st_read_header(file, what, root, data_size, items) : ATV_ERR_MEMORY;
    if (r == ATV_OK) r = atvi_st_place(file, what, data, data_size, items);
    atvi_free(ctx, items);
    if (r != ATV_OK) {
        atv_safetensors_close(file);
        return r;
    }
    *out = file;
    return ATV_OK;
}

static atv_result atvi_st_parse(atv_ctx *ctx, const char *what, const void *bytes, size_t size, atv_safetensors **out) {
    const unsigned char *p = (const unsigned char *)bytes;
    uint64_t header = 0;
    atvi_json json;
    atv_result r;
    int i;
    if (size < 8)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: has %lu bytes, too few for a safetensors file", what,
                         (unsigned long)size);
    for (i = 7; i >= 0; i--) header = header << 8 | p[i];
    if (header > ATVI_ST_MAX_HEADER || header > size - 8 || header < 2)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: header size=%llu in a file of %lu bytes", what,
                         (unsigned long long)header, (unsigned long)size);
    if (p[8] != '{') return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: the header does not begin with {", what);
    ATVI_TRY(atvi_json_parse(ctx, what, (const char *)p + 8, (size_t)header, &json));
    r = atvi_st_build(ctx, what, json.nodes, (size_t)header, (const char *)p + 8 + header, size - 8 - (size_t)header, out);
    atvi_json_free(&json);
    return r;
}

ATVDEF atv_result atv_safetensors_from_memory(atv_ctx *ctx, const void *data, size_t size, atv_safetensors **out) {
    return atvi_st_parse(ctx, "safetensors", data, size, out);
}

ATVDEF atv_result atv_safetensors_open(atv_ctx *ctx, const char *path, atv_safetensors **out) {
    const void *data;
    size_t size;
    atv_result r;
    ATVI_TRY(atvi_map(ctx, path, &data, &size));
    r = atvi_st_parse(ctx, path, data, size, out);
    if (r != ATV_OK) {
        atvi_unmap(ctx, data, size);
        return r;
    }
    (*out)->mapped = data;
    (*out)->mapped_size = size;
    return ATV_OK;
}

ATVDEF void atv_safetensors_close(atv_safetensors *file) {
    if (!file) return;
    atvi_unmap(file->ctx, file->mapped, file->mapped_size);
    atvi_free(file->ctx, file->turned);
    atvi_free(file->ctx, file);
}

ATVDEF int atv_safetensors_count(const atv_safetensors *file) { return file->n_tensors; }

ATVDEF atv_named_tensor atv_safetensors_tensor(const atv_safetensors *file, int i) {
    assert(i >= 0 && i < file->n_tensors);
    return file->tensors[i];
}

ATVDEF int atv_safetensors_find(const atv_safetensors *file, const char *name) {
    int from = 0, to = file->n_tensors;
    while (from < to) {
        int at = from + (to - from) / 2, order = strcmp(name, file->tensors[file->by_name[at]].name);
        if (order == 0) return file->by_name[at];
        if (order < 0) to = at;
        else from = at + 1;
    }
    return -1;
}

ATVDEF const char *atv_safetensors_metadata(const atv_safetensors *file, const char *key) {
    int i;
    for (i = 0; i < file->n_metadata; i++)
        if (strcmp(file->metadata[2 * i], key) == 0) return file->metadata[2 * i + 1];
    return NULL;
}

/* ---- writing ---- */

/* The tensors to write as items in the file's order, with their places. */
static atv_result atvi_st_plan(atv_ctx *ctx, const char *path, const atv_named_tensor *tensors, int n, atv_dtype dtype,
                               atvi_st_item *items) {
    uint64_t at = 0;
    int i, k;
    for (i = 0; i < n; i++) {
        const atv_tensor *t = &tensors[i].tensor;
        const char *name = tensors[i].name;
        int64_t count = 1;
        int bad = t->rank < 0 || t->rank > ATV_MAX_RANK || (unsigned)t->dtype >= ATV_DTYPE_COUNT;
        if (!name || strcmp(name, "__metadata__") == 0)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: tensors[%d].name=%s is no name", path, i, name ? name : "NULL");
        for (k = 0; !bad && k < t->rank; k++) {
            bad = t->dims[k] < 0 || (t->dims[k] > 0 && count > INT64_MAX / 8 / t->dims[k]);
            if (!bad) count *= t->dims[k];
        }
        if (bad || (count > 0 && !t->data))
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: tensor \"%.120s\" has a bad dtype, rank, shape or no data", path,
                             name);
        if (atvi_is_float(t->dtype) && !atvi_is_float(dtype))
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: tensor \"%.120s\": %s cannot become %s", path, name,
                             atv_dtype_name(t->dtype), atv_dtype_name(dtype));
        items[i].name = name;
        items[i].tensor = *t;
        items[i].dtype = atvi_is_float(t->dtype) ? dtype : t->dtype;
        items[i].end = (uint64_t)count * atv_dtype_size(items[i].dtype);
    }
    qsort(items, (size_t)n, sizeof *items, atvi_st_by_name);
    for (i = 1; i < n; i++)
        if (strcmp(items[i - 1].name, items[i].name) == 0)
            return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: tensor \"%.120s\" is there twice", path, items[i].name);
    qsort(items, (size_t)n, sizeof *items, atvi_st_by_width);
    for (i = 0; i < n; i++) {
        items[i].begin = at;
        at = items[i].end += at;
    }
    return ATV_OK;
}

static void atvi_st_header(atvi_buf *buf, const atvi_st_item *items, int n, const char *const *metadata, int n_metadata) {
    unsigned char size[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    uint64_t header;
    int i, k;
    atvi_buf_put(buf, size, 8);
    atvi_buf_text(buf, "{");
    for (i = 0; i < n_metadata; i++) {
        atvi_buf_text(buf, i ? "," : "\"__metadata__\":{");
        atvi_buf_json(buf, metadata[2 * i], strlen(metadata[2 * i]));
        atvi_buf_text(buf, ":");
        atvi_buf_json(buf, metadata[2 * i + 1], strlen(metadata[2 * i + 1]));
    }
    if (n_metadata > 0) atvi_buf_text(buf, n ? "}," : "}");
    for (i = 0; i < n; i++) {
        if (i) atvi_buf_text(buf, ",");
        atvi_buf_json(buf, items[i].name, strlen(items[i].name));
        atvi_buf_format(buf, ":{\"dtype\":\"%s\",\"shape\":[", atv_dtype_name(items[i].dtype));
        for (k = 0; k < items[i].tensor.rank; k++)
            atvi_buf_format(buf, "%s%lld", k ? "," : "", (long long)items[i].tensor.dims[k]);
        atvi_buf_format(buf, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)items[i].begin,
                        (unsigned long long)items[i].end);
    }
    atvi_buf_text(buf, "}");
    while (!buf->failed && buf->size % 8) atvi_buf_text(buf, " ");
    if (buf->failed) return;
    header = buf->size - 8;
    for (i = 0; i < 8; i++) size[i] = (unsigned char)(header >> (8 * i));
    memcpy(buf->data, size, 8);
}

enum { ATVI_ST_CHUNK = 65536 };

/* A tensor's elements in order, converted, a chunk at a time. */
static void atvi_st_put(atvi_out *out, const atvi_st_item *item, char *chunk) {
    size_t size = atv_dtype_size(item->dtype), used = 0;
    int64_t room = (int64_t)(ATVI_ST_CHUNK / size), index[ATV_MAX_RANK] = {0, 0, 0, 0}, at, m;
    atv_tensor t = atvi_flat(&item->tensor);
    int last = t.rank - 1;
    if (item->begin == item->end) return;
    do for (at = 0; at < t.dims[last]; at += m) {
        m = ATVI_MIN(t.dims[last] - at, room - (int64_t)used);
        atvi_convert(chunk + used * size, item->dtype, 1,
                     atvi_row(&t, index) + at * t.strides[last] * (int64_t)atv_dtype_size(t.dtype), t.dtype, t.strides[last],
                     m);
        used += (size_t)m;
        if ((int64_t)used < room) continue;
        if (atvi_big_endian()) atvi_turn(chunk, used, size);
        atvi_out_put(out, chunk, used * size);
        used = 0;
    } while (atvi_next_row(&t, index));
    if (atvi_big_endian()) atvi_turn(chunk, used, size);
    atvi_out_put(out, chunk, used * size);
}

static atv_result atvi_st_write(atvi_out *out, const atv_named_tensor *tensors, int n, atv_dtype dtype,
                                const char *const *metadata, int n_metadata) {
    atv_ctx *ctx = out->ctx;
    atvi_buf header;
    char *chunk;
    atvi_st_item *items;
    atv_result r;
    int i;
    if (n < 0 || n_metadata < 0 || (unsigned)dtype >= ATV_DTYPE_COUNT)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: n=%d, dtype=%d, n_metadata=%d", out->path, n, (int)dtype, n_metadata);
    memset(&header, 0, sizeof header);
    header.ctx = ctx;
    chunk = (char *)atvi_alloc(ctx, ATVI_ST_CHUNK);
    items = chunk ? (atvi_st_item *)atvi_alloc(ctx, atvi_size((size_t)n, sizeof *items, 0)) : NULL;
    r = items ? atvi_st_plan(ctx, out->path, tensors, n, dtype, items) : ATV_ERR_MEMORY;
    if (r == ATV_OK) {
        atvi_st_header(&header, items, n, metadata, n_metadata);
        r = atvi_buf_done(&header);
    }
    if (r == ATV_OK && header.size > ATVI_ST_MAX_HEADER)
        r = atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: header size=%lu is more than %u", out->path, (unsigned long)header.size,
                      ATVI_ST_MAX_HEADER);
    if (r == ATV_OK) atvi_out_put(out, header.data, header.size);
    for (i = 0; r == ATV_OK && !out->failed && i < n; i++) atvi_st_put(out, &items[i], chunk);
    atvi_buf_free(&header);
    atvi_free(ctx, items);
    atvi_free(ctx, chunk);
    return r;
}

ATVDEF atv_result atv_safetensors_write(atv_ctx *ctx, const char *path, const atv_named_tensor *tensors, int n,
                                        atv_dtype dtype, const char *const *metadata, int n_metadata) {
    atvi_out out;
    atv_result r, closed;
    ATVI_TRY(atvi_out_open(&out, ctx, path));
    r = atvi_st_write(&out, tensors, n, dtype, metadata, n_metadata);
    closed = atvi_out_close(&out, r == ATV_OK);
    return r != ATV_OK ? r : closed;
}

/* ==== >>checkpoint ================================================================================================ */

/* ---- config.json, reading ---- */

/* Written anew on saving; every other field is kept as it stands in the file that was read. */
static const char *const atvi_cfg_ours[] = {
    "model_type", "vocab_size", "max_position_embeddings", "hidden_size", "num_layers", "num_heads", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "kqv_size", "intermediate_size", "window_size", "attention_types",
    "attention_layers", "windows", "kv_of_head", "kv_of_layer", "layers", "layer_norm_epsilon", "initializer_range",
    "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "torch_dtype", "dtype"
};

/* Of a classifier: written anew, but for the names of its labels and what other tasks say. */
static const char *const atvi_cfg_labels[] = {
    "architectures", "id2label", "label2id", "num_labels", "problem_type", "task_specific_params"
};
static const char *const atvi_cfg_task_name[] = {"text-classification"};      /* in task_specific_params */
static const char *const atvi_cfg_task[] = {"max_length", "add_special_tokens"};
static const char atvi_cfg_classifier[] = "GPTNeoForSequenceClassification";

/* Kept too, and written with these values when the file that was read, if any, lacks them. */
static const char *const atvi_cfg_usual[][2] = {
    {"architectures", "[\"GPTNeoForCausalLM\"]"}, {"activation_function", "\"gelu_new\""}, {"resid_dropout", "0.0"},
    {"embed_dropout", "0.0"}, {"attention_dropout", "0.0"}, {"classifier_dropout", "0.0"}, {"use_cache", "true"}
};

/* What other configs say and this library does not do, unless it is null, false or empty. */
static const char *const atvi_cfg_refused[] = {
    "add_cross_attention", "alibi", "attention_bias", "attention_multiplier", "attention_scale", "attn_logit_softcapping",
    "final_logit_softcapping", "is_encoder_decoder", "logit_scale", "logits_scaling", "num_experts", "num_local_experts",
    "partial_rotary_factor", "pruned_heads", "qkv_bias", "quantization_config", "query_pre_attn_scalar", "rope_parameters",
    "rope_scaling", "rope_theta", "rotary_dim", "rotary_pct", "scale_attn_by_inverse_layer_idx", "scale_attn_weights",
    "sliding_window", "use_parallel_residual"
};

static const char *const atvi_cfg_layer_fields[] = {
    "num_heads", "num_key_value_heads", "head_dim", "value_dim", "intermediate_size", "window_size", "kv_layer", "kv_of_head"
};

#define ATVI_LENGTH(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum { ATVI_CFG_MAX_LAYERS = 65536 };                       /* a count that no array of the file need bear out */

typedef struct atvi_cfg {
    atv_ctx *ctx;
    const char *what;                                       /* the file's name */
    atvi_json json;
    atv_config config;
    int *ints, n_ints;                                      /* the memory of its arrays */
    atv_layer *layers;
    int named_labels;                                       /* 1: id2label names the labels of a classifier */
    int task_length, task_wrap;                             /* a classifier's; 0, -1: it does not tell */
} atvi_cfg;

static int atvi_cfg_listed(const atvi_jnode *key, const char *const *list, int n) {
    int i;
    for (i = 0; i < n; i++) if (atvi_json_equal(key, list[i])) return 1;
    return 0;
}

static atv_result atvi_cfg_bad(const atvi_cfg *c, const char *where, const char *key, const atvi_jnode *value,
                               const char *why) {
    return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: %s%s=%.*s %s", c->what, where, key, (int)ATVI_MIN(value->size, 60),
                     value->text, why);
}

static atv_result atvi_cfg_refuse(const atvi_cfg *c, const char *key, const atvi_jnode *value) {
    return atvi_fail(c->ctx, ATV_ERR_UNSUPPORTED, "%s: %s=%.*s is not done here", c->what, key,
                     (int)ATVI_MIN(value->size, 60), value->text);
}

/* A member, NULL when it is missing or null. `where` is what messages put before the key. */
static const atvi_jnode *atvi_cfg_get(const atvi_jnode *object, const char *key) {
    const atvi_jnode *node = atvi_json_get(object, key);
    return node && node->type == ATVI_JSON_NULL ? NULL : node;
}

static atv_result atvi_cfg_int(const atvi_cfg *c, const atvi_jnode *object, const char *where, const char *key, int min,
                               int *out) {
    const atvi_jnode *node = atvi_cfg_get(object, key);
    int64_t value;
    if (!node) return ATV_OK;
    if (!atvi_json_int(node, &value) || value < min || value > INT_MAX)
        return atvi_cfg_bad(c, where, key, node,
                            min > 0 ? "is not a whole number above 0" : "is not a whole number of 0 or more");
    *out = (int)value;
    return ATV_OK;
}

/* Exactly n numbers. */
static atv_result atvi_cfg_ints(atvi_cfg *c, const atvi_jnode *object, const char *where, const char *key, int n,
                                const int **out) {
    const atvi_jnode *node = atvi_cfg_get(object, key);
    int *to = c->ints + c->n_ints;
    int i;
    if (!node) return ATV_OK;
    if (node->type != ATVI_JSON_ARRAY || node->count != n)
        return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: %s%s is not an array of %d numbers", c->what, where, key, n);
    for (i = 0; i < n; i++) {
        int64_t value;
        if (!atvi_json_int(node + 1 + i, &value) || value < 0 || value > INT_MAX)
            return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: %s%s[%d]=%.*s is not a whole number of 0 or more", c->what, where,
                             key, i, (int)ATVI_MIN(node[1 + i].size, 60), node[1 + i].text);
        to[i] = (int)value;
    }
    c->n_ints += n;
    *out = to;
    return ATV_OK;
}

static atv_result atvi_cfg_double(const atvi_cfg *c, const char *key, double *out) {
    const atvi_jnode *node = atvi_cfg_get(c->json.nodes, key);
    if (!node) return ATV_OK;
    if (!atvi_json_double(node, out) || !(*out > 0)) return atvi_cfg_bad(c, "", key, node, "is not a number above 0");
    return ATV_OK;
}

/* Out-of-range ids are common: a small vocabulary with GPTNeoConfig's 50256 left in place. They name no token. */
static atv_result atvi_cfg_token(const atvi_cfg *c, const char *key, int usual, int *out) {
    const atvi_jnode *node = atvi_json_get(c->json.nodes, key);
    int64_t value = node && node->type == ATVI_JSON_NULL ? -1 : usual;
    if (node && node->type != ATVI_JSON_NULL && !atvi_json_int(node, &value))
        return atvi_cfg_bad(c, "", key, node, "is not one token id");
    *out = value >= 0 && value < c->config.vocab_size ? (int)value : -1;
    if (node && value != *out)
        atvi_log(c->ctx, ATV_LOG_WARNING, "%s: %s=%lld is not in the vocabulary of %d and is taken as none", c->what, key,
                 (long long)value, c->config.vocab_size);
    return ATV_OK;
}

static atv_result atvi_cfg_kind(const atvi_cfg *c, const char *key, const atvi_jnode *kind, int *window) {
    if (atvi_json_equal(kind, "global")) *window = 0;
    else if (atvi_json_equal(kind, "local")) *window = -1;
    else return atvi_fail(c->ctx, ATV_ERR_UNSUPPORTED, "%s: %s: %.*s is neither global nor local", c->what, key,
                          (int)ATVI_MIN(kind->size, 60), kind->text);
    return ATV_OK;
}

/* attention_types, attention_layers and windows say the same in different ways, and must agree. */
static atv_result atvi_cfg_windows(atvi_cfg *c) {
    const atvi_jnode *types = atvi_cfg_get(c->json.nodes, "attention_types");
    const atvi_jnode *kinds = atvi_cfg_get(c->json.nodes, "attention_layers"), *item;
    const int *exact = NULL;
    int L = c->config.num_layers, *window = c->ints + c->n_ints, i, j, n = 0, kind = 0;
    c->n_ints += L;
    if (types && types->type != ATVI_JSON_ARRAY) return atvi_cfg_bad(c, "", "attention_types", types, "is not an array");
    for (i = 0, item = types ? types + 1 : NULL; types && i < types->count; i++, item += item->span) {
        int64_t times = 0;
        if (item->type != ATVI_JSON_ARRAY || item->count != 2 || item[1].type != ATVI_JSON_ARRAY || item[1].count == 0 ||
            !atvi_json_int(item + 1 + item[1].span, &times) || times < 0)
            return atvi_cfg_bad(c, "", "attention_types", types, "is not a list of [[kinds], times]");
        for (; times > 0; times--)
            for (j = 0; j < item[1].count; j++, n++) {
                ATVI_TRY(atvi_cfg_kind(c, "attention_types", item + 2 + j, &kind));
                if (n < L) window[n] = kind;
                else return atvi_cfg_bad(c, "", "attention_types", types, "has more layers than num_layers");
            }
    }
    if (types && n != L) return atvi_cfg_bad(c, "", "attention_types", types, "has fewer layers than num_layers");
    if (kinds && (kinds->type != ATVI_JSON_ARRAY || kinds->count != L))
        return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: attention_layers is not an array of num_layers=%d", c->what, L);
    for (i = 0, item = kinds ? kinds + 1 : NULL; kinds && i < L; i++, item += item->span) {
        ATVI_TRY(atvi_cfg_kind(c, "attention_layers", item, &kind));
        if (types && window[i] != kind)
            return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: attention_layers[%d]=%.*s disagrees with attention_types", c->what,
                             i, (int)item->size, item->text);
        window[i] = kind;
    }
    ATVI_TRY(atvi_cfg_ints(c, c->json.nodes, "", "windows", L, &exact));
    for (i = 0; exact && i < L; i++) {
        if ((types || kinds) && (window[i] == 0) != (exact[i] == 0))
            return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: windows[%d]=%d disagrees with attention_layers", c->what, i,
                             exact[i]);
        window[i] = exact[i];
    }
    if (!types && !kinds && !exact) return ATV_OK;
    for (i = 0; i < L; i++) if (window[i] < 0) window[i] = c->config.window_size;
    c->config.windows = window;
    return ATV_OK;
}

static atv_result atvi_cfg_layers(atvi_cfg *c) {
    const atvi_jnode *list = atvi_cfg_get(c->json.nodes, "layers"), *item, *key;
    int i, j, L = c->config.num_layers;
    if (!list) return ATV_OK;
    if (list->type != ATVI_JSON_ARRAY || list->count != L)
        return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: layers is not an array of num_layers=%d", c->what, L);
    c->layers = (atv_layer *)atvi_alloc(c->ctx, atvi_size((size_t)L, sizeof *c->layers, 0));
    if (!c->layers) return ATV_ERR_MEMORY;
    for (i = 0, item = list + 1; i < L; i++, item += item->span) {
        atv_layer *layer = &c->layers[i];
        char where[32];
        snprintf(where, sizeof where, "layers[%d].", i);
        if (item->type != ATVI_JSON_OBJECT)
            return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: layers[%d] is not an object", c->what, i);
        for (j = 0, key = item + 1; j < item->count; j++, key += 1 + key[1].span)
            if (!atvi_cfg_listed(key, atvi_cfg_layer_fields, ATVI_LENGTH(atvi_cfg_layer_fields)))
                return atvi_fail(c->ctx, ATV_ERR_UNSUPPORTED, "%s: %s%.*s is not done here", c->what, where,
                                 (int)ATVI_MIN(key->size, 60), key->text);
        layer->kv_layer = i;
        layer->has_kv_layer = 1;
        layer->window_size = c->config.windows ? c->config.windows[i] : i % 2 ? c->config.window_size : 0;
        ATVI_TRY(atvi_cfg_int(c, item, where, "num_heads", 1, &layer->num_heads));
        ATVI_TRY(atvi_cfg_int(c, item, where, "num_key_value_heads", 1, &layer->num_key_value_heads));
        ATVI_TRY(atvi_cfg_int(c, item, where, "head_dim", 1, &layer->head_dim));
        ATVI_TRY(atvi_cfg_int(c, item, where, "value_dim", 1, &layer->value_dim));
        ATVI_TRY(atvi_cfg_int(c, item, where, "intermediate_size", 1, &layer->intermediate_size));
        ATVI_TRY(atvi_cfg_int(c, item, where, "window_size", 0, &layer->window_size));
        ATVI_TRY(atvi_cfg_int(c, item, where, "kv_layer", 0, &layer->kv_layer));
        for (j = 0; j < 5; j++)
            if (j != 3 && !atvi_cfg_get(item, atvi_cfg_layer_fields[j]))
                return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: %s%s is missing", c->what, where, atvi_cfg_layer_fields[j]);
        ATVI_TRY(atvi_cfg_ints(c, item, where, "kv_of_head", layer->num_heads, &layer->kv_of_head));
        if (c->config.windows && (c->config.windows[i] == 0) != (layer->window_size == 0))
            return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: %swindow_size=%d disagrees with attention_layers", c->what, where,
                             layer->window_size);
    }
    c->config.layers = c->layers;
    return ATV_OK;
}

/* The number 0..n-1 that a key of id2label is; -1: it is none. */
static int atvi_cfg_label_id(const atvi_jnode *key, int n) {
    int64_t id = 0;
    size_t i;
    for (i = 0; i < key->size && id < n; i++) {
        if (key->text[i] < '0' || key->text[i] > '9') return -1;
        id = id * 10 + key->text[i] - '0';
    }
    return key->size > 0 && i == key->size && id < n && (key->text[0] != '0' || key->size == 1) ? (int)id : -1;
}

/* Whether architectures has the classifier among its names. */
static int atvi_cfg_classifies(const atvi_jnode *root) {
    const atvi_jnode *list = atvi_cfg_get(root, "architectures"), *item;
    int i;
    if (!list || list->type != ATVI_JSON_ARRAY) return 0;
    for (i = 0, item = list + 1; i < list->count; i++, item += item->span)
        if (atvi_json_equal(item, atvi_cfg_classifier)) return 1;
    return 0;
}

/* A classifier's labels, as transformers counts them: id2label's, else num_labels, else 2. */
static atv_result atvi_cfg_num_labels(atvi_cfg *c) {
    const atvi_jnode *root = c->json.nodes, *problem = atvi_cfg_get(root, "problem_type");
    const atvi_jnode *names = atvi_cfg_get(root, "id2label"), *key;
    int *seen = c->ints + c->n_ints;                        /* its room is not kept */
    int i, told = 0;
    if (!atvi_cfg_classifies(root)) return ATV_OK;
    if (problem && !atvi_json_equal(problem, "single_label_classification"))
        return atvi_cfg_refuse(c, "problem_type", problem);
    ATVI_TRY(atvi_cfg_int(c, root, "", "num_labels", 1, &told));
    if (names) {
        const int n = names->count;
        if (names->type != ATVI_JSON_OBJECT || n == 0) return atvi_cfg_bad(c, "", "id2label", names, "names no labels");
        memset(seen, 0, (size_t)n * sizeof *seen);
        for (i = 0, key = names + 1; i < n; i++, key += 1 + key[1].span) {
            const int id = atvi_cfg_label_id(key, n);
            if (id < 0 || seen[id]++)
                return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: id2label: \"%.*s\" is not one of 0..%d, each once", c->what,
                                 (int)ATVI_MIN(key->size, 60), key->text, n - 1);
            if (key[1].type != ATVI_JSON_STRING && key[1].type != ATVI_JSON_NUMBER)
                return atvi_cfg_bad(c, "", "id2label", names, "has a name that is no string and no number");
        }
        if (told && told != n)
            return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: num_labels=%d disagrees with the %d of id2label", c->what, told,
                             n);
        told = n;
        c->named_labels = 1;
    }
    c->config.num_labels = told ? told : 2;
    if (c->config.num_labels == 1)
        return atvi_fail(c->ctx, ATV_ERR_UNSUPPORTED, "%s: num_labels=1: regression is not done here", c->what);
    return ATV_OK;
}

/* How a classifier reads its examples. */
static atv_result atvi_cfg_read_task(atvi_cfg *c) {
    const atvi_jnode *all = atvi_cfg_get(c->json.nodes, "task_specific_params");
    const atvi_jnode *task = atvi_cfg_get(all, atvi_cfg_task_name[0]), *wrap = atvi_cfg_get(task, atvi_cfg_task[1]);
    static const char where[] = "task_specific_params.text-classification.";
    c->task_wrap = -1;
    if (c->config.num_labels == 0) return ATV_OK;
    ATVI_TRY(atvi_cfg_int(c, task, where, atvi_cfg_task[0], 1, &c->task_length));
    if (wrap && wrap->type != ATVI_JSON_TRUE && wrap->type != ATVI_JSON_FALSE)
        return atvi_cfg_bad(c, where, atvi_cfg_task[1], wrap, "is not true or false");
    if (wrap) c->task_wrap = wrap->type == ATVI_JSON_TRUE;
    return ATV_OK;
}

/* The names of id2label (numbers, where a task's labels are numbers), for the model that has just been made. */
static atv_result atvi_cfg_name_labels(const atvi_cfg *c, atv_model *model) {
    const int n = c->named_labels ? model->config.num_labels : 0;
    const atvi_jnode *map = atvi_cfg_get(c->json.nodes, "id2label"), *key, **names;
    size_t at = 0;
    int i;
    if (n == 0) return ATV_OK;
    names = (const atvi_jnode **)atvi_alloc(model->ctx, (size_t)n * sizeof *names);
    if (names) model->labels = (char *)atvi_alloc(model->ctx, atvi_size(map->size, 1, (size_t)n));
    if (model->labels) {                                    /* room: no name is longer than its source */
        for (i = 0, key = map + 1; i < n; i++, key += 1 + key[1].span) names[atvi_cfg_label_id(key, n)] = key + 1;
        for (i = 0; i < n; i++, at += strlen(model->labels + at) + 1)
            atvi_json_unescape(names[i], model->labels + at, names[i]->size);
    }
    atvi_free(model->ctx, (void *)names);
    model->named_labels = 1;
    return model->labels ? ATV_OK : ATV_ERR_MEMORY;
}

/* What decides whether this is a model for us at all. */
static atv_result atvi_cfg_check(const atvi_cfg *c) {
    static const char *const dropouts[] = {"resid_dropout", "embed_dropout", "attention_dropout"};
    const atvi_jnode *root = c->json.nodes, *node, *key;
    double p;
    int i;
    if (root->type != ATVI_JSON_OBJECT) return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: is not an object", c->what);
    node = atvi_cfg_get(root, "model_type");
    if (!node) return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: model_type is missing", c->what);
    if (!atvi_json_equal(node, "gpt_neo")) return atvi_cfg_refuse(c, "model_type", node);
    node = atvi_cfg_get(root, "activation_function");
    if (node && !atvi_json_equal(node, "gelu_new") && !atvi_json_equal(node, "gelu_pytorch_tanh"))   /* the same function */
        return atvi_cfg_refuse(c, "activation_function", node);
    node = atvi_cfg_get(root, "tie_word_embeddings");
    if (node && node->type != ATVI_JSON_TRUE) return atvi_cfg_refuse(c, "tie_word_embeddings", node);
    for (i = 0, key = root + 1; i < root->count; i++, key += 1 + key[1].span) {
        int empty = key[1].type == ATVI_JSON_NULL || key[1].type == ATVI_JSON_FALSE ||
                    ((key[1].type == ATVI_JSON_ARRAY || key[1].type == ATVI_JSON_OBJECT) && key[1].count == 0);
        if (!empty && atvi_cfg_listed(key, atvi_cfg_refused, ATVI_LENGTH(atvi_cfg_refused))) {
            char name[64];
            snprintf(name, sizeof name, "%.*s", (int)ATVI_MIN(key->size, 60), key->text);
            return atvi_cfg_refuse(c, name, key + 1);
        }
    }
    for (i = 0; i < ATVI_LENGTH(dropouts); i++) {
        node = atvi_cfg_get(root, dropouts[i]);
        if (node && atvi_json_double(node, &p) && p != 0)
            atvi_log(c->ctx, ATV_LOG_WARNING, "%s: %s=%.*s: training here has no dropout", c->what, dropouts[i],
                     (int)ATVI_MIN(node->size, 40), node->text);
    }
    return ATV_OK;
}

static atv_result atvi_cfg_fields(atvi_cfg *c) {
    static const char *const needed[] = {"vocab_size", "hidden_size", "num_layers", "num_heads"};
    const atvi_jnode *root = c->json.nodes, *node;
    atv_config *f = &c->config;
    atv_config resolved;
    int *to[4];
    char error[sizeof c->ctx->error];
    int i, H = 0, L = 0, D = 0;
    atv_result r;
    to[0] = &f->vocab_size;
    to[1] = &f->hidden_size;
    to[2] = &f->num_layers;
    to[3] = &f->num_heads;
    for (i = 0; i < 4; i++) ATVI_TRY(atvi_cfg_int(c, root, "", needed[i], 1, to[i]));
    ATVI_TRY(atvi_cfg_int(c, root, "", "num_hidden_layers", 1, &L));        /* GPTNeoConfig knows these two names as well */
    ATVI_TRY(atvi_cfg_int(c, root, "", "num_attention_heads", 1, &H));
    if (!f->num_layers) f->num_layers = L;
    if (!f->num_heads) f->num_heads = H;
    for (i = 0; i < 4; i++) if (!*to[i]) return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: %s is missing", c->what, needed[i]);
    if (L && L != f->num_layers)
        return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: num_hidden_layers=%d disagrees with num_layers=%d", c->what, L,
                         f->num_layers);
    if (H && H != f->num_heads)
        return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: num_attention_heads=%d disagrees with num_heads=%d", c->what, H,
                         f->num_heads);
    if (f->num_layers > ATVI_CFG_MAX_LAYERS)
        return atvi_fail(c->ctx, ATV_ERR_UNSUPPORTED, "%s: num_layers=%d is more than %d", c->what, f->num_layers,
                         ATVI_CFG_MAX_LAYERS);
    c->ints = (int *)atvi_alloc(c->ctx, atvi_size((size_t)root->span + (size_t)f->num_layers, sizeof(int), 0));
    if (!c->ints) return ATV_ERR_MEMORY;                    /* an element of an array is a node; windows are L more */
    f->window_size = 256;
    ATVI_TRY(atvi_cfg_int(c, root, "", "max_position_embeddings", 1, &f->max_position_embeddings));
    ATVI_TRY(atvi_cfg_int(c, root, "", "num_key_value_heads", 1, &f->num_key_value_heads));
    ATVI_TRY(atvi_cfg_int(c, root, "", "kqv_size", 1, &f->kqv_size));
    ATVI_TRY(atvi_cfg_int(c, root, "", "head_dim", 1, &D));
    if (D && (int64_t)D * f->num_heads != (f->kqv_size ? f->kqv_size : f->hidden_size)) {
        node = atvi_cfg_get(root, "head_dim");
        return atvi_cfg_bad(c, "", "head_dim", node, "is not kqv_size / num_heads");
    }
    ATVI_TRY(atvi_cfg_int(c, root, "", "intermediate_size", 1, &f->intermediate_size));
    ATVI_TRY(atvi_cfg_int(c, root, "", "window_size", 1, &f->window_size));
    ATVI_TRY(atvi_cfg_double(c, "layer_norm_epsilon", &f->layer_norm_epsilon));
    ATVI_TRY(atvi_cfg_double(c, "initializer_range", &f->initializer_range));
    f->has_special_ids = 1;
    ATVI_TRY(atvi_cfg_token(c, "bos_token_id", 50256, &f->bos_token_id));
    ATVI_TRY(atvi_cfg_token(c, "eos_token_id", 50256, &f->eos_token_id));
    ATVI_TRY(atvi_cfg_token(c, "pad_token_id", -1, &f->pad_token_id));
    ATVI_TRY(atvi_cfg_windows(c));
    ATVI_TRY(atvi_cfg_ints(c, root, "", "kv_of_head", f->num_heads, &f->kv_of_head));
    ATVI_TRY(atvi_cfg_ints(c, root, "", "kv_of_layer", f->num_layers, &f->kv_of_layer));
    ATVI_TRY(atvi_cfg_layers(c));
    ATVI_TRY(atvi_cfg_num_labels(c));
    ATVI_TRY(atvi_cfg_read_task(c));
    r = atv_config_resolve(c->ctx, f, &resolved);
    if (r == ATV_OK || r == ATV_ERR_MEMORY) return r;
    memcpy(error, c->ctx->error, sizeof error);
    return atvi_fail(c->ctx, ATV_ERR_FORMAT, "%s: %s", c->what, error);
}

static void atvi_cfg_free(atvi_cfg *c) {
    atvi_free(c->ctx, c->ints);
    atvi_free(c->ctx, c->layers);
    atvi_json_free(&c->json);
}

static atv_result atvi_cfg_read(atv_ctx *ctx, const char *what, const char *text, size_t size, atvi_cfg *c) {
    atv_result r;
    memset(c, 0, sizeof *c);
    c->ctx = ctx;
    c->what = what;
    ATVI_TRY(atvi_json_parse(ctx, what, text, size, &c->json));
    r = atvi_cfg_check(c);
    if (r == ATV_OK) r = atvi_cfg_fields(c);
    if (r != ATV_OK) atvi_cfg_free(c);
    return r;
}

/* ---- config.json, writing ---- */

static void atvi_cfg_key(atvi_buf *buf, const char *key) {
    atvi_buf_text(buf, buf->size ? ",\n  " : "{\n  ");
    atvi_buf_json(buf, key, strlen(key));
    atvi_buf_text(buf, ": ");
}

static void atvi_cfg_put(atvi_buf *buf, const char *key, int value) {
    atvi_cfg_key(buf, key);
    atvi_buf_format(buf, "%d", value);
}

static void atvi_cfg_put_token(atvi_buf *buf, const char *key, int id) {
    if (id >= 0) { atvi_cfg_put(buf, key, id); return; }
    atvi_cfg_key(buf, key);
    atvi_buf_text(buf, "null");
}

/* The fewest digits that read back as the same number, with a point in any locale. */
static void atvi_cfg_put_double(atvi_buf *buf, const char *key, double value) {
    char digits[64], text[64];
    int precision, i, n = 0, whole = 1;
    atvi_cfg_key(buf, key);
    for (precision = 1; precision <= 17; precision++) {
        atvi_jnode node;
        double back;
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        for (i = n = 0, whole = 1; digits[i]; i++) {
            if (strchr("0123456789+-e", digits[i])) text[n++] = digits[i];
            else if (text[n - 1] != '.') text[n++] = '.';   /* the locale's point may have several bytes */
            whole &= digits[i] >= '0' && digits[i] <= '9';
        }
        memset(&node, 0, sizeof node);
        node.type = ATVI_JSON_NUMBER;
        node.text = text;
        node.size = (size_t)n;
        if (atvi_json_double(&node, &back) && back == value) break;
    }
    atvi_buf_put(buf, text, (size_t)n);
    if (whole) atvi_buf_text(buf, ".0");
}

static void atvi_cfg_put_map(atvi_buf *buf, const atv_layer *layer) {
    int h, H = layer->num_heads, G = layer->num_key_value_heads;
    for (h = 0; h < H; h++) atvi_buf_format(buf, "%s%d", h ? ", " : "[", atv_kv_of_head(H, G, layer->kv_of_head, h));
    atvi_buf_text(buf, "]");
}

static int atvi_cfg_same_map(const atv_layer *a, const int *map_b) {
    int h, H = a->num_heads, G = a->num_key_value_heads;
    for (h = 0; h < H; h++) if (atv_kv_of_head(H, G, a->kv_of_head, h) != atv_kv_of_head(H, G, map_b, h)) return 0;
    return 1;
}

static int atvi_cfg_value_dim(const atv_layer *layer) { return layer->value_dim ? layer->value_dim : layer->head_dim; }

static void atvi_cfg_put_kinds(atvi_buf *buf, const atv_config *f, int n) {
    int i;
    for (i = 0; i < n; i++)
        atvi_buf_format(buf, "%s\"%s\"", i ? ", " : "[", atv_config_layer(f, i).window_size ? "local" : "global");
    atvi_buf_text(buf, "]");
}

/* Windows, key/value heads and layers, in the plainest fields that can say them. */
static void atvi_cfg_put_layers(atvi_buf *buf, const atv_config *f) {
    atv_layer first = atv_config_layer(f, 0);
    int differ = atvi_cfg_value_dim(&first) != first.head_dim;
    int i, L = f->num_layers, window = 0, windows = 0, shared = 0, period = 1;
    for (i = 0; i < L; i++) {
        atv_layer layer = atv_config_layer(f, i);
        differ |= layer.num_heads != first.num_heads || layer.num_key_value_heads != first.num_key_value_heads ||
                  layer.head_dim != first.head_dim || atvi_cfg_value_dim(&layer) != first.head_dim ||
                  layer.intermediate_size != first.intermediate_size ||
                  (!differ && !atvi_cfg_same_map(&layer, first.kv_of_head));
        shared |= layer.kv_layer != i;
        windows |= window && layer.window_size && layer.window_size != window;
        if (!window) window = layer.window_size;
    }
    for (; period < L; period++) {                          /* of the pattern of global and local layers */
        for (i = period; i < L; i++)
            if (!atv_config_layer(f, i).window_size != !atv_config_layer(f, i - period).window_size) break;
        if (i == L && L % period == 0) break;
    }
    atvi_cfg_put(buf, "num_heads", first.num_heads);
    if (first.num_key_value_heads != first.num_heads) atvi_cfg_put(buf, "num_key_value_heads", first.num_key_value_heads);
    if (first.num_heads * first.head_dim != f->hidden_size) atvi_cfg_put(buf, "kqv_size", first.num_heads * first.head_dim);
    atvi_cfg_put(buf, "intermediate_size", first.intermediate_size);
    atvi_cfg_put(buf, "window_size", window ? window : f->window_size);
    atvi_cfg_key(buf, "attention_types");
    atvi_buf_text(buf, "[[");
    atvi_cfg_put_kinds(buf, f, period);
    atvi_buf_format(buf, ", %d]]", L / period);
    atvi_cfg_key(buf, "attention_layers");
    atvi_cfg_put_kinds(buf, f, L);
    if (differ) {
        atvi_cfg_key(buf, "layers");
        for (i = 0; i < L; i++) {
            atv_layer layer = atv_config_layer(f, i);
            atvi_buf_format(buf,
                            "%s\n    {\"num_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d, \"value_dim\": %d, ",
                            i ? "," : "[", layer.num_heads, layer.num_key_value_heads, layer.head_dim,
                            atvi_cfg_value_dim(&layer));
            atvi_buf_format(buf, "\"intermediate_size\": %d, \"window_size\": %d, \"kv_layer\": %d", layer.intermediate_size,
                            layer.window_size, layer.kv_layer);
            if (!atvi_cfg_same_map(&layer, NULL)) {
                atvi_buf_text(buf, ", \"kv_of_head\": ");
                atvi_cfg_put_map(buf, &layer);
            }
            atvi_buf_text(buf, "}");
        }
        atvi_buf_text(buf, "\n  ]");
        return;
    }
    if (windows) {
        atvi_cfg_key(buf, "windows");
        for (i = 0; i < L; i++) atvi_buf_format(buf, "%s%d", i ? ", " : "[", atv_config_layer(f, i).window_size);
        atvi_buf_text(buf, "]");
    }
    if (!atvi_cfg_same_map(&first, NULL)) {
        atvi_cfg_key(buf, "kv_of_head");
        atvi_cfg_put_map(buf, &first);
    }
    if (shared) {
        atvi_cfg_key(buf, "kv_of_layer");
        for (i = 0; i < L; i++) atvi_buf_format(buf, "%s%d", i ? ", " : "[", atv_config_layer(f, i).kv_layer);
        atvi_buf_text(buf, "]");
    }
}

/* As it stands in its file, a string with its quotes. */
static void atvi_cfg_put_raw(atvi_buf *buf, const atvi_jnode *node) {
    size_t quotes = node->type == ATVI_JSON_STRING;
    atvi_buf_put(buf, node->text - quotes, node->size + 2 * quotes);
}

/* A classifier's architecture and labels: those that the file named which was read, or set ones, or numbered ones. */
static void atvi_cfg_put_labels(atvi_buf *buf, const atv_model *model, const atvi_jnode *root) {
    static const char *const maps[] = {"id2label", "label2id"};
    const int named = model->named_labels;
    char number[32];
    int m, i;
    atvi_cfg_key(buf, "architectures");
    atvi_buf_format(buf, "[\"%s\"]", atvi_cfg_classifier);
    for (m = 0; m < 2; m++) {
        const atvi_jnode *node = named ? atvi_json_get(root, maps[m]) : NULL;
        if (named && !node) continue;
        atvi_cfg_key(buf, maps[m]);
        if (node) atvi_cfg_put_raw(buf, node);
        for (i = 0; !node && i < model->config.num_labels; i++) {
            const char *name = atv_model_label(model, i);
            snprintf(number, sizeof number, "LABEL_%d", i);
            if (!name) name = number;
            atvi_buf_text(buf, i ? ", " : "{");
            if (m == 0) atvi_buf_format(buf, "\"%d\": ", i);
            atvi_buf_json(buf, name, strlen(name));
            if (m == 1) atvi_buf_format(buf, ": %d", i);
        }
        if (!node) atvi_buf_text(buf, "}");
    }
    atvi_cfg_key(buf, "problem_type");
    atvi_buf_text(buf, "\"single_label_classification\"");
}

/* An object's members but for those listed; returns how many. */
static int atvi_cfg_put_rest(atvi_buf *buf, const atvi_jnode *object, const char *const *list, int n) {
    const atvi_jnode *key;
    int i, written = 0;
    if (!object || object->type != ATVI_JSON_OBJECT) return 0;
    for (i = 0, key = object + 1; i < object->count; i++, key += 1 + key[1].span) {
        if (atvi_cfg_listed(key, list, n)) continue;
        atvi_buf_text(buf, written++ ? ", " : "");
        atvi_cfg_put_raw(buf, key);
        atvi_buf_text(buf, ": ");
        atvi_cfg_put_raw(buf, key + 1);
    }
    return written;
}

/* What other tasks say stays. */
static void atvi_cfg_put_task(atvi_buf *buf, const atv_model *model, const atvi_jnode *root) {
    const atvi_jnode *all = atvi_cfg_get(root, "task_specific_params"), *task = atvi_cfg_get(all, atvi_cfg_task_name[0]);
    const int length = model->task_length, wrap = model->task_wrap;
    int n;
    if (!all && length == 0 && wrap < 0) return;
    atvi_cfg_key(buf, "task_specific_params");
    atvi_buf_text(buf, "{");
    n = atvi_cfg_put_rest(buf, all, atvi_cfg_task_name, 1);
    if (task || length > 0 || wrap >= 0) {
        atvi_buf_format(buf, "%s\"%s\": {", n ? ", " : "", atvi_cfg_task_name[0]);
        n = atvi_cfg_put_rest(buf, task, atvi_cfg_task, 2);
        if (length > 0) atvi_buf_format(buf, "%s\"%s\": %d", n++ ? ", " : "", atvi_cfg_task[0], length);
        if (wrap >= 0) atvi_buf_format(buf, "%s\"%s\": %s", n ? ", " : "", atvi_cfg_task[1], wrap ? "true" : "false");
        atvi_buf_text(buf, "}");
    }
    atvi_buf_text(buf, "}");
}

static atv_result atvi_cfg_write(atvi_buf *buf, const atv_model *model, const char *dtype) {
    const atv_config *f = &model->config;
    const char *text = model->config_text;
    const atvi_jnode *root = NULL, *key, *node;
    atvi_json json;
    int i;
    if (text) {
        ATVI_TRY(atvi_json_parse(buf->ctx, "config.json", text, model->config_size, &json));
        root = json.nodes;
    }
    atvi_cfg_key(buf, "model_type");
    atvi_buf_text(buf, "\"gpt_neo\"");
    if (f->num_labels) {
        atvi_cfg_put_labels(buf, model, root);
        atvi_cfg_put_task(buf, model, root);
    }
    for (i = f->num_labels ? 1 : 0; i < ATVI_LENGTH(atvi_cfg_usual); i++) {       /* the first is the architecture */
        node = atvi_json_get(root, atvi_cfg_usual[i][0]);
        atvi_cfg_key(buf, atvi_cfg_usual[i][0]);
        if (node) atvi_cfg_put_raw(buf, node);
        else atvi_buf_text(buf, atvi_cfg_usual[i][1]);
    }
    atvi_cfg_put(buf, "vocab_size", f->vocab_size);
    atvi_cfg_put(buf, "max_position_embeddings", f->max_position_embeddings);
    atvi_cfg_put(buf, "hidden_size", f->hidden_size);
    atvi_cfg_put(buf, "num_layers", f->num_layers);
    atvi_cfg_put_layers(buf, f);
    atvi_cfg_put_double(buf, "layer_norm_epsilon", f->layer_norm_epsilon);
    atvi_cfg_put_double(buf, "initializer_range", f->initializer_range);
    atvi_cfg_put_token(buf, "bos_token_id", f->has_special_ids ? f->bos_token_id : -1);
    atvi_cfg_put_token(buf, "eos_token_id", f->has_special_ids ? f->eos_token_id : -1);
    atvi_cfg_put_token(buf, "pad_token_id", f->has_special_ids ? f->pad_token_id : -1);
    atvi_cfg_key(buf, "tie_word_embeddings");
    atvi_buf_text(buf, "true");
    atvi_cfg_key(buf, atvi_json_get(root, "dtype") && !atvi_json_get(root, "torch_dtype") ? "dtype" : "torch_dtype");
    atvi_buf_format(buf, "\"%s\"", dtype);
    for (i = 0, key = root ? root + 1 : NULL; root && i < root->count; i++, key += 1 + key[1].span) {
        int j = 0;
        while (j < ATVI_LENGTH(atvi_cfg_usual) && !atvi_json_equal(key, atvi_cfg_usual[j][0])) j++;
        if (j < ATVI_LENGTH(atvi_cfg_usual) || atvi_cfg_listed(key, atvi_cfg_ours, ATVI_LENGTH(atvi_cfg_ours))) continue;
        if (f->num_labels && atvi_cfg_listed(key, atvi_cfg_labels, ATVI_LENGTH(atvi_cfg_labels))) continue;
        atvi_buf_text(buf, ",\n  ");
        atvi_cfg_put_raw(buf, key);
        atvi_buf_text(buf, ": ");
        atvi_cfg_put_raw(buf, key + 1);
    }
    atvi_buf_text(buf, "\n}\n");
    if (text) atvi_json_free(&json);
    return atvi_buf_done(buf);
}

/* ---- weights ---- */

typedef struct atvi_weights {
    atv_ctx *ctx;
    const char *what;                                       /* the file, or the index, for messages */
    int n;
    atv_safetensors **files;
    char **paths;
} atvi_weights;

static void atvi_weights_close(atvi_weights *w) {
    int i;
    for (i = 0; i < w->n; i++) {
        atv_safetensors_close(w->files[i]);
        atvi_free(w->ctx, w->paths[i]);
    }
    atvi_free(w->ctx, w->files);
    atvi_free(w->ctx, w->paths);
}

static atv_result atvi_weights_room(atvi_weights *w, int n) {
    w->files = (atv_safetensors **)atvi_alloc(w->ctx, atvi_size((size_t)n, sizeof *w->files, 0));
    w->paths = w->files ? (char **)atvi_alloc(w->ctx, atvi_size((size_t)n, sizeof *w->paths, 0)) : NULL;
    return w->paths ? ATV_OK : ATV_ERR_MEMORY;
}

/* The shard of one weight_map entry, opened when it is new. name: room for any string of the index. */
static atv_result atvi_weights_entry(atvi_weights *w, const char *dir, const atvi_jnode *key, char *name) {
    atv_ctx *ctx = w->ctx;
    const atvi_jnode *value = key + 1;
    char *path, *end = name;
    atv_result r;
    int i;
    if (value->type != ATVI_JSON_STRING || !atvi_st_string(value, &end) || !name[0] || strpbrk(name, "/\\:") ||
        strstr(name, ".."))
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: weight_map: %.*s is not the plain name of a file", w->what,
                         (int)ATVI_MIN(value->size, 100), value->text);
    path = atvi_path(ctx, dir, name);
    if (!path) return ATV_ERR_MEMORY;
    for (i = 0; i < w->n && strcmp(w->paths[i], path) != 0; i++) {}
    if (i < w->n) atvi_free(ctx, path);
    else {
        r = atv_safetensors_open(ctx, path, &w->files[w->n]);
        if (r != ATV_OK) { atvi_free(ctx, path); return r; }
        w->paths[w->n++] = path;
    }
    end = name;
    if (!atvi_st_string(key, &end) || atv_safetensors_find(w->files[i], name) < 0)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.*s\" is missing, although %s has it", w->paths[i],
                         (int)ATVI_MIN(key->size, 120), key->text, w->what);
    return ATV_OK;
}

static atv_result atvi_weights_index(atvi_weights *w, const char *dir, const void *text, size_t size) {
    atv_ctx *ctx = w->ctx;
    const atvi_jnode *map, *key;
    atvi_json json;
    char *name;
    atv_result r;
    int i;
    ATVI_TRY(atvi_json_parse(ctx, w->what, (const char *)text, size, &json));
    map = atvi_json_get(json.nodes, "weight_map");
    if (!map || map->type != ATVI_JSON_OBJECT) r = atvi_fail(ctx, ATV_ERR_FORMAT, "%s: weight_map is missing", w->what);
    else {
        name = (char *)atvi_alloc(ctx, atvi_size(size, 1, 1));
        r = name ? atvi_weights_room(w, map->count) : ATV_ERR_MEMORY;
        for (i = 0, key = map + 1; r == ATV_OK && i < map->count; i++, key += 1 + key[1].span)
            r = atvi_weights_entry(w, dir, key, name);
        atvi_free(ctx, name);
    }
    atvi_json_free(&json);
    return r;
}

/* Opens model.safetensors, or what its index names. file, index: the two paths. */
static atv_result atvi_weights_open(atvi_weights *w, const char *dir, const char *file, const char *index) {
    atv_ctx *ctx = w->ctx;
    const void *data;
    size_t size, length;
    atv_result r;
    w->what = file;
    ATVI_TRY(atvi_weights_room(w, 1));
    r = atv_safetensors_open(ctx, file, &w->files[0]);
    if (r == ATV_OK) w->n = 1;
    if (r != ATV_ERR_IO) return r;
    atvi_weights_close(w);
    w->files = NULL;
    w->paths = NULL;
    w->what = index;
    if (atvi_map(ctx, index, &data, &size) == ATV_OK) {
        r = atvi_weights_index(w, dir, data, size);
        atvi_unmap(ctx, data, size);
        return r;
    }
    {
        char *pickle = atvi_path(ctx, dir, "pytorch_model.bin");
        if (!pickle) return ATV_ERR_MEMORY;
        r = atvi_map(ctx, pickle, &data, &size);
        if (r == ATV_OK) {
            atvi_unmap(ctx, data, size);
            r = atvi_fail(ctx, ATV_ERR_UNSUPPORTED,
                          "%s: only safetensors are read; convert it (save_pretrained with safe_serialization=True)",
                          pickle);
        } else {
            length = ATVI_MIN(strlen(file), (size_t)200);
            r = atvi_fail(ctx, ATV_ERR_IO, "%.*s: neither it nor %.200s can be read", (int)length, file, index);
        }
        atvi_free(ctx, pickle);
    }
    return r;
}

static int atvi_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Are the file's values, as the model would hold them, those that it holds? */
static int atvi_weights_equal(const atv_tensor *file, const atv_tensor *held) {
    atv_real chunk[256];
    int64_t at, m, n = atv_tensor_count(file);
    for (at = 0; at < n; at += m) {
        m = ATVI_MIN(n - at, (int64_t)(sizeof chunk / sizeof chunk[0]));
        atvi_convert((char *)chunk, ATV_REAL, 1, (const char *)file->data + at * (int64_t)atv_dtype_size(file->dtype),
                     file->dtype, 1, m);
        if (memcmp(chunk, (const atv_real *)held->data + at, (size_t)m * sizeof *chunk) != 0) return 0;
    }
    return 1;
}

/* The model's tensor of that name, with or without its prefix; -1: none. */
static int atvi_weights_find(const atv_model *model, const char *name) {
    static const char prefix[] = "transformer.";
    size_t skip = sizeof prefix - 1;
    int i;
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        const char *have = atv_model_tensor(model, i).name;
        if (strcmp(have, name) == 0 || (strncmp(have, prefix, skip) == 0 && strcmp(have + skip, name) == 0)) return i;
    }
    return -1;
}

static atv_result atvi_weights_take(atv_ctx *ctx, const char *what, const atv_named_tensor *from, const atv_model *model,
                                    char *seen) {
    static const char head[] = "lm_head.weight";
    int is_head = strcmp(from->name, head) == 0, i;
    atv_named_tensor to;
    if (atvi_ends_with(from->name, "attn.attention.bias") ||
        atvi_ends_with(from->name, "attn.attention.masked_bias")) return ATV_OK;
    i = atvi_weights_find(model, is_head ? "wte.weight" : from->name);
    if (i < 0)
        return atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: tensor \"%.120s\" is not one of this model's", what, from->name);
    to = atv_model_tensor(model, i);
    if (!is_head && seen[i]++)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.120s\" is there twice", what, from->name);
    if (!atvi_is_float(from->tensor.dtype))
        return atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: tensor \"%.120s\": dtype=%s is no weight's", what, from->name,
                         atv_dtype_name(from->tensor.dtype));
    if (strcmp(atvi_shape_text(&from->tensor).text, atvi_shape_text(&to.tensor).text) != 0)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: tensor \"%.120s\": shape is %s, config.json needs %s", what, from->name,
                         atvi_shape_text(&from->tensor).text, atvi_shape_text(&to.tensor).text);
    if (!is_head) return atv_tensor_copy(ctx, &to.tensor, &from->tensor);
    if (!seen[i]) return ATV_OK;                            /* without wte there is nothing to compare, and loading fails */
    if (!atvi_weights_equal(&from->tensor, &to.tensor))
        return atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: tensor \"%s\" differs from wte.weight, but the head is tied here",
                         what, head);
    return ATV_OK;
}

/* All tensors, the heads last: they are compared with wte. */
static atv_result atvi_weights_load(const atvi_weights *w, atv_model *model, char *seen) {
    int heads, f, i;
    for (heads = 0; heads < 2; heads++)
        for (f = 0; f < w->n; f++)
            for (i = 0; i < atv_safetensors_count(w->files[f]); i++) {
                atv_named_tensor from = atv_safetensors_tensor(w->files[f], i);
                if ((strcmp(from.name, "lm_head.weight") == 0) != heads) continue;
                ATVI_TRY(atvi_weights_take(w->ctx, w->paths[f] ? w->paths[f] : w->what, &from, model, seen));
            }
    for (i = 0; i < atv_model_num_tensors(model); i++)
        if (!seen[i]) {
            atv_named_tensor need = atv_model_tensor(model, i);
            return atvi_fail(w->ctx, ATV_ERR_FORMAT, "%s: tensor \"%s\" is missing, config.json needs it as %s", w->what,
                             need.name, atvi_shape_text(&need.tensor).text);
        }
    return ATV_OK;
}

/* config_text: as it was read, kept for saving. */
static atv_result atvi_model_build(const atvi_cfg *c, const char *config_text, size_t config_size, const atvi_weights *w,
                                   atv_model **out) {
    atv_ctx *ctx = c->ctx;
    atv_model *model;
    size_t bytes;
    int64_t values = 0;
    char *seen;
    atv_result r;
    int f, i;
    for (f = 0; f < w->n; f++)
        for (i = 0; i < atv_safetensors_count(w->files[f]); i++) {
            atv_named_tensor t = atv_safetensors_tensor(w->files[f], i);
            values += atv_tensor_count(&t.tensor);
        }
    /* A config can ask for any amount of memory in a few digits; it gets some only if the weights are there. A model takes
       far less than 64 bytes a value. */
    ATVI_TRY(atv_model_bytes(ctx, &c->config, &bytes));
    if ((int64_t)(bytes / 64) > values + (1 << 20))
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: describes a model of %lu bytes, but %s holds only %lld values", c->what,
                         (unsigned long)bytes, w->what, (long long)values);
    ATVI_TRY(atv_model_create(ctx, &c->config, &model));
    seen = (char *)atvi_alloc(ctx, (size_t)atv_model_num_tensors(model));
    r = seen ? atvi_weights_load(w, model, seen) : ATV_ERR_MEMORY;
    atvi_free(ctx, seen);
    if (r == ATV_OK) {
        r = atvi_cfg_name_labels(c, model);
        if (r == ATV_OK) r = atvi_keep_config(model, config_text, config_size);
    }
    if (r != ATV_OK) {
        atv_model_destroy(model);
        return r;
    }
    model->task_length = c->task_length;
    model->task_wrap = c->task_wrap;
    atv_model_changed(model);
    *out = model;
    return ATV_OK;
}

ATVDEF atv_result atv_model_from_memory(atv_ctx *ctx, const char *config_json, size_t config_size, const void *safetensors,
                                        size_t safetensors_size, atv_model **out) {
    atvi_cfg cfg;
    atvi_weights w;
    atv_result r;
    memset(&w, 0, sizeof w);
    w.ctx = ctx;
    w.what = "safetensors";
    ATVI_TRY(atvi_cfg_read(ctx, "config.json", config_json, config_size, &cfg));
    r = atvi_weights_room(&w, 1);
    if (r == ATV_OK) r = atv_safetensors_from_memory(ctx, safetensors, safetensors_size, &w.files[0]);
    if (r == ATV_OK) {
        w.n = 1;
        r = atvi_model_build(&cfg, config_json, config_size, &w, out);
    }
    atvi_weights_close(&w);
    atvi_cfg_free(&cfg);
    return r;
}

ATVDEF atv_result atv_model_load(atv_ctx *ctx, const char *dir, atv_model **out) {
    char *config = atvi_path(ctx, dir, "config.json"), *file = atvi_path(ctx, dir, "model.safetensors");
    char *index = atvi_path(ctx, dir, "model.safetensors.index.json");
    const void *text = NULL;
    size_t size = 0;
    atvi_cfg cfg;
    atvi_weights w;
    atv_result r = config && file && index ? atvi_map(ctx, config, &text, &size) : ATV_ERR_MEMORY;
    memset(&w, 0, sizeof w);
    w.ctx = ctx;
    if (r == ATV_OK) {
        r = atvi_cfg_read(ctx, config, (const char *)text, size, &cfg);
        if (r == ATV_OK) {
            r = atvi_weights_open(&w, dir, file, index);
            if (r == ATV_OK) r = atvi_model_build(&cfg, (const char *)text, size, &w, out);
            atvi_weights_close(&w);
            atvi_cfg_free(&cfg);
        }
        atvi_unmap(ctx, text, size);
    }
    atvi_free(ctx, index);
    atvi_free(ctx, file);
    atvi_free(ctx, config);
    return r;
}

/* ---- saving ---- */

/* Weights and config are first written beside their targets, so that a full disk changes nothing; then the tokenizer's
   files, the weights and last the config are renamed. A new directory without config.json is thus an unfinished one, and
   loading it says so. Over an older save of the same model every mixture of old and new files loads, since weights are
   either all old or all new; over another model, a crash between the two renames leaves a pair that most often does not
   fit, which loading says too. */
static atv_result atvi_model_write(const atv_model *model, const atv_named_tensor *tensors, const atvi_buf *config,
                                   const char *file, const char *config_path, const char *dir, const atv_save_desc *desc) {
    static const char *const metadata[] = {"format", "pt"};
    atv_ctx *ctx = atv_model_ctx(model);
    atvi_out weights, text;
    atv_result r, closed;
    ATVI_TRY(atvi_out_open(&weights, ctx, file));
    r = atvi_st_write(&weights, tensors, atv_model_num_tensors(model), desc->dtype, metadata, 1);
    if (r == ATV_OK && weights.failed) r = atvi_out_error(&weights);
    if (r == ATV_OK) r = atvi_out_open(&text, ctx, config_path);
    if (r != ATV_OK) {
        atvi_out_close(&weights, 0);
        return r;
    }
    atvi_out_put(&text, config->data, config->size);
    if (text.failed) r = atvi_out_error(&text);
    if (r == ATV_OK && desc->tokenizer) r = atv_tokenizer_save(desc->tokenizer, dir);
    closed = atvi_out_close(&weights, r == ATV_OK);
    if (r == ATV_OK) r = closed;
    closed = atvi_out_close(&text, r == ATV_OK);
    return r != ATV_OK ? r : closed;
}

ATVDEF atv_result atv_model_save(const atv_model *model, const char *dir, const atv_save_desc *desc) {
    atv_ctx *ctx = atv_model_ctx(model);
    atv_save_desc plain;
    atv_named_tensor *tensors;
    atvi_buf config;
    char *file, *path;
    atv_result r = ATV_ERR_MEMORY;
    int i, n = atv_model_num_tensors(model);
    memset(&plain, 0, sizeof plain);
    memset(&config, 0, sizeof config);
    config.ctx = ctx;
    if (!desc) desc = &plain;
    if (desc->dtype != ATV_F32 && desc->dtype != ATV_BF16 && desc->dtype != ATV_F16)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "%s: dtype=%s is not one of F32, BF16, F16", dir,
                         atv_dtype_name(desc->dtype));
    tensors = (atv_named_tensor *)atvi_alloc(ctx, atvi_size((size_t)n, sizeof *tensors, 0));
    file = tensors ? atvi_path(ctx, dir, "model.safetensors") : NULL;
    path = file ? atvi_path(ctx, dir, "config.json") : NULL;
    if (path) {
        if (model->config.num_labels && model->config.pad_token_id < 0)
            atvi_log(ctx, ATV_LOG_WARNING, "%s: pad_token_id is none: transformers will take one sequence at a time", path);
        for (i = 0; i < n; i++) tensors[i] = atv_model_tensor(model, i);
        r = atvi_cfg_write(&config, model,
                           desc->dtype == ATV_F32 ? "float32" : desc->dtype == ATV_BF16 ? "bfloat16" : "float16");
        if (r == ATV_OK) r = atvi_model_write(model, tensors, &config, file, path, dir, desc);
    }
    atvi_buf_free(&config);
    atvi_free(ctx, path);
    atvi_free(ctx, file);
    atvi_free(ctx, tensors);
    return r;
}


/* ==== >>tokenizer ================================================================================================= */

/* Text is cut at the added tokens that it names, what is left into words by GPT-2's pattern, and each word's bytes are
   merged pair by pair, the earliest merge first. Files write a byte as a character: '!'..'~', U+00A1..00AC and U+00AE..00FF
   are themselves, the others U+0100.. in order. Here everything is bytes; only reading and writing files translates. */

/* Where the class of characters changes: the distance from the last such place * 8 + the class from here on. */
/* Unicode 16.0.0: made by tools/make_unicode.py, begin */
static const uint16_t atvi_unicode[] = {
    75, 40, 147, 8, 126, 80, 57, 208, 36, 8, 9, 208, 83, 8, 211, 8, 73, 8, 58, 16, 9, 8, 26, 9, 8, 10, 24, 9, 184, 9, 248,
    9, 3664, 33, 96, 113, 40, 57, 8, 9, 8, 140, 897, 40, 9, 16, 17, 32, 9, 8, 49, 8, 9, 24, 9, 8, 9, 160, 9, 664, 9, 1112,
    12, 57, 1328, 9, 304, 17, 8, 49, 328, 68, 360, 12, 8, 12, 16, 12, 16, 12, 8, 65, 216, 33, 32, 236, 88, 41, 348, 174, 80,
    33, 20, 9, 792, 9, 12, 56, 20, 49, 20, 16, 12, 33, 22, 81, 24, 17, 8, 129, 12, 9, 244, 216, 17, 716, 89, 8, 118, 81,
    268, 73, 16, 33, 8, 20, 8, 17, 180, 33, 12, 73, 12, 25, 12, 40, 145, 204, 24, 33, 88, 41, 192, 9, 48, 68, 73, 340, 192,
    12, 265, 436, 25, 12, 145, 12, 57, 84, 16, 22, 80, 9, 132, 24, 9, 64, 17, 16, 17, 176, 9, 56, 9, 8, 25, 32, 20, 9, 12,
    56, 20, 16, 20, 25, 8, 68, 8, 33, 16, 9, 28, 16, 22, 81, 16, 18, 48, 17, 8, 12, 8, 20, 24, 9, 48, 33, 16, 17, 176, 9,
    56, 9, 16, 9, 16, 9, 16, 20, 8, 12, 40, 36, 16, 20, 24, 28, 8, 57, 32, 9, 8, 62, 84, 17, 28, 8, 92, 24, 9, 72, 9, 24, 9,
    176, 9, 56, 9, 16, 9, 40, 20, 9, 12, 64, 12, 24, 12, 24, 17, 8, 121, 20, 16, 22, 80, 73, 12, 48, 12, 24, 9, 64, 17, 16,
    17, 176, 9, 56, 9, 16, 9, 40, 20, 9, 12, 56, 20, 16, 20, 24, 60, 24, 33, 16, 9, 28, 16, 22, 80, 9, 10, 48, 84, 9, 8, 9,
    48, 25, 24, 9, 32, 25, 16, 9, 8, 9, 16, 25, 16, 25, 24, 25, 96, 36, 40, 28, 24, 12, 32, 17, 8, 52, 8, 118, 82, 24, 108,
    41, 64, 9, 24, 9, 184, 9, 128, 20, 9, 12, 56, 12, 24, 12, 32, 60, 16, 9, 24, 17, 8, 17, 20, 16, 22, 80, 66, 56, 9, 12,
    24, 9, 64, 9, 24, 9, 184, 9, 80, 9, 40, 20, 9, 12, 56, 12, 24, 12, 32, 60, 16, 49, 16, 9, 20, 16, 22, 80, 9, 20, 8, 100,
    33, 72, 9, 24, 9, 332, 17, 12, 56, 12, 24, 12, 33, 8, 41, 28, 10, 57, 28, 16, 22, 82, 72, 9, 48, 12, 24, 9, 144, 25,
    192, 9, 72, 9, 8, 17, 56, 28, 8, 36, 48, 12, 8, 12, 64, 54, 80, 20, 16, 105, 388, 9, 20, 56, 41, 60, 64, 14, 80, 313,
    16, 9, 8, 9, 40, 9, 192, 9, 8, 9, 84, 9, 20, 73, 8, 17, 40, 9, 8, 12, 56, 14, 80, 17, 32, 257, 8, 188, 16, 54, 82, 80,
    12, 8, 12, 8, 12, 8, 36, 17, 64, 9, 288, 36, 160, 12, 17, 44, 88, 12, 288, 76, 8, 457, 348, 161, 14, 80, 49, 52, 33, 36,
    25, 12, 25, 20, 57, 28, 33, 108, 97, 12, 14, 84, 32, 17, 304, 9, 8, 41, 8, 17, 344, 9, 2664, 9, 32, 17, 56, 9, 8, 9, 32,
    17, 328, 9, 32, 17, 264, 9, 32, 17, 56, 9, 8, 9, 32, 17, 120, 9, 456, 9, 32, 17, 536, 20, 24, 74, 160, 25, 128, 129,
    688, 17, 48, 25, 4960, 17, 139, 9, 208, 41, 600, 30, 25, 64, 57, 148, 32, 73, 156, 24, 89, 148, 16, 97, 104, 9, 24, 12,
    16, 97, 420, 256, 25, 8, 33, 12, 8, 22, 80, 50, 80, 140, 24, 12, 14, 80, 49, 712, 57, 44, 17, 276, 9, 8, 41, 560, 81,
    248, 12, 96, 36, 96, 86, 81, 240, 17, 40, 89, 352, 33, 208, 54, 82, 8, 297, 188, 40, 33, 428, 80, 12, 232, 20, 14, 80,
    54, 80, 105, 8, 68, 248, 396, 41, 380, 137, 64, 30, 80, 140, 72, 100, 25, 244, 105, 22, 81, 356, 112, 97, 292, 160, 70,
    80, 25, 30, 81, 288, 17, 88, 41, 344, 17, 24, 132, 24, 12, 169, 36, 9, 52, 9, 20, 25, 8, 41, 1540, 513, 2224, 17, 48,
    17, 304, 17, 48, 17, 64, 9, 8, 9, 8, 9, 8, 9, 248, 17, 424, 9, 56, 9, 8, 25, 24, 9, 56, 25, 32, 17, 48, 33, 104, 41, 24,
    9, 56, 27, 88, 12, 16, 211, 16, 43, 8, 124, 16, 156, 8, 83, 8, 130, 9, 8, 18, 48, 41, 10, 80, 49, 104, 412, 264, 137, 8,
    33, 8, 17, 80, 9, 8, 25, 40, 49, 8, 9, 8, 9, 8, 9, 32, 9, 88, 17, 32, 41, 40, 33, 8, 10, 134, 281, 22, 34, 8, 5810, 480,
    212, 418, 176, 5042, 240, 9057, 1832, 49, 36, 25, 16, 74, 8, 17, 304, 9, 8, 41, 8, 17, 448, 57, 8, 124, 9, 184, 73, 56,
    9, 56, 9, 56, 9, 56, 9, 56, 9, 56, 9, 56, 9, 56, 12, 256, 377, 8, 3715, 8, 33, 22, 8, 206, 76, 48, 9, 40, 22, 25, 16,
    33, 688, 20, 16, 17, 24, 9, 720, 9, 32, 41, 344, 9, 752, 26, 32, 81, 256, 385, 128, 258, 80, 242, 64, 10, 120, 258, 80,
    314, 120, 2561, 52736, 513, 65529, 65529, 46200, 537, 368, 17, 2152, 25, 134, 81, 16, 161, 380, 32, 12, 80, 9, 252, 17,
    566, 84, 16, 297, 72, 17, 824, 17, 536, 17, 16, 9, 8, 9, 64, 169, 132, 9, 28, 9, 36, 9, 188, 40, 36, 8, 26, 48, 81, 416,
    100, 17, 404, 144, 86, 80, 52, 145, 48, 25, 8, 9, 20, 14, 81, 228, 64, 17, 188, 104, 97, 232, 28, 33, 380, 112, 113, 14,
    80, 49, 44, 9, 86, 81, 40, 9, 332, 112, 73, 28, 9, 68, 16, 22, 80, 49, 184, 25, 12, 25, 404, 9, 12, 25, 20, 17, 44, 17,
    12, 9, 8, 193, 24, 17, 92, 40, 17, 28, 16, 81, 48, 17, 48, 17, 48, 73, 56, 9, 56, 9, 344, 9, 112, 49, 924, 64, 12, 16,
    22, 80, 49, 65529, 23848, 97, 184, 33, 392, 65528, 2089, 2928, 17, 848, 305, 56, 97, 40, 41, 12, 9, 80, 9, 104, 9, 40,
    9, 8, 9, 16, 9, 16, 9, 864, 265, 2904, 145, 512, 17, 432, 321, 96, 36, 128, 132, 128, 28, 16, 196, 24, 257, 40, 9, 1080,
    158, 80, 57, 208, 36, 8, 9, 208, 89, 712, 25, 48, 17, 48, 17, 48, 17, 24, 281, 96, 9, 208, 9, 152, 9, 16, 9, 120, 17,
    112, 273, 984, 98, 360, 102, 426, 32, 138, 16, 908, 8, 1041, 232, 25, 392, 124, 10, 216, 33, 258, 32, 73, 166, 9, 70, 8,
    41, 308, 40, 41, 240, 17, 288, 33, 64, 14, 40, 337, 1264, 22, 80, 49, 288, 33, 288, 33, 320, 65, 416, 97, 88, 9, 120, 9,
    56, 9, 16, 9, 88, 9, 120, 9, 56, 9, 16, 25, 416, 97, 2488, 73, 176, 81, 64, 193, 48, 9, 336, 9, 72, 553, 48, 17, 8, 9,
    352, 9, 16, 25, 8, 17, 184, 18, 65, 184, 18, 57, 248, 66, 72, 385, 152, 9, 16, 42, 41, 178, 48, 33, 208, 561, 448, 34,
    17, 18, 128, 18, 369, 12, 24, 12, 16, 44, 33, 32, 9, 24, 9, 232, 20, 24, 36, 10, 72, 185, 234, 16, 9, 234, 24, 257, 64,
    9, 228, 16, 34, 40, 129, 432, 81, 176, 18, 65, 152, 42, 65, 144, 186, 56, 641, 584, 441, 408, 105, 408, 58, 49, 292, 32,
    70, 80, 54, 81, 224, 28, 40, 9, 184, 1746, 248, 9, 336, 12, 16, 25, 16, 129, 24, 444, 33, 234, 81, 8, 65, 180, 90, 32,
    217, 148, 32, 337, 170, 56, 161, 184, 76, 25, 428, 120, 90, 166, 84, 9, 20, 17, 8, 76, 33, 364, 88, 60, 8, 105, 200, 62,
    80, 52, 25, 292, 112, 14, 80, 33, 12, 17, 8, 65, 284, 8, 17, 8, 76, 25, 388, 113, 32, 36, 32, 12, 22, 81, 8, 9, 8, 34,
    160, 89, 144, 9, 204, 96, 52, 9, 20, 8, 497, 56, 9, 8, 9, 32, 9, 120, 9, 80, 57, 380, 96, 46, 80, 52, 32, 9, 64, 17, 16,
    17, 176, 9, 56, 9, 16, 9, 40, 12, 17, 12, 56, 20, 16, 20, 24, 17, 8, 52, 8, 41, 44, 16, 20, 56, 28, 40, 89, 80, 9, 8,
    17, 8, 9, 304, 9, 12, 72, 12, 8, 20, 8, 12, 32, 12, 41, 12, 9, 8, 108, 16, 233, 428, 145, 32, 46, 80, 36, 9, 24, 241,
    388, 161, 16, 9, 8, 70, 80, 1329, 380, 56, 20, 72, 185, 36, 16, 273, 388, 136, 25, 8, 94, 80, 305, 348, 105, 8, 62, 80,
    54, 160, 225, 216, 20, 120, 38, 82, 16, 33, 56, 1481, 356, 120, 809, 518, 82, 72, 97, 64, 17, 8, 17, 64, 9, 16, 9, 196,
    48, 12, 16, 20, 33, 12, 9, 12, 16, 102, 80, 561, 64, 17, 316, 56, 20, 57, 8, 9, 12, 8, 217, 12, 81, 324, 57, 12, 32, 68,
    8, 65, 12, 89, 372, 128, 25, 8, 145, 584, 1593, 264, 126, 80, 49, 72, 9, 300, 64, 12, 65, 8, 126, 82, 152, 41, 240, 20,
    176, 12, 112, 585, 56, 9, 16, 9, 308, 48, 28, 8, 12, 16, 12, 57, 12, 8, 70, 80, 49, 48, 9, 16, 9, 260, 40, 12, 16, 12,
    41, 8, 62, 80, 2481, 156, 32, 76, 17, 12, 9, 104, 9, 276, 56, 28, 40, 110, 84, 8, 681, 8, 122, 168, 345, 7376, 822, 888,
    137, 1568, 21089, 776, 121, 8576, 132, 9, 52, 120, 81, 31960, 41, 4664, 54729, 244, 150, 80, 13873, 4552, 57, 248, 14,
    80, 49, 632, 14, 80, 49, 240, 20, 40, 89, 388, 56, 73, 32, 102, 80, 10, 56, 9, 168, 41, 152, 3457, 360, 30, 80, 1585,
    514, 184, 841, 600, 36, 9, 12, 440, 60, 33, 104, 513, 16, 9, 12, 8, 92, 16, 113, 49088, 65, 9904, 329, 80, 65528, 5953,
    32, 9, 56, 9, 16, 9, 2328, 121, 8, 233, 24, 17, 8, 113, 32, 65, 3168, 18465, 856, 41, 104, 25, 72, 57, 80, 28, 16,
    33422, 80, 4148, 368, 20, 184, 4340, 40, 28, 48, 68, 64, 20, 56, 244, 32, 1188, 24, 986, 160, 98, 160, 866, 200, 1081,
    680, 9, 568, 9, 16, 17, 8, 17, 16, 17, 32, 9, 96, 9, 8, 9, 56, 9, 520, 9, 32, 17, 64, 9, 56, 9, 224, 9, 32, 9, 40, 9, 8,
    25, 56, 9, 2720, 17, 200, 9, 200, 9, 248, 9, 200, 9, 248, 9, 200, 9, 248, 9, 200, 9, 248, 9, 200, 9, 64, 22, 400, 4100,
    440, 36, 400, 68, 8, 116, 8, 180, 40, 12, 120, 8833, 248, 49, 48, 1708, 56, 12, 136, 20, 56, 12, 16, 12, 40, 41, 496,
    268, 8, 897, 360, 28, 57, 56, 22, 80, 33, 8, 2569, 244, 8, 137, 356, 38, 80, 3761, 228, 38, 80, 1713, 244, 17, 14, 80,
    3881, 56, 9, 32, 9, 16, 9, 120, 9, 1576, 18, 76, 56, 329, 548, 57, 8, 38, 80, 6330, 472, 10, 24, 10, 32, 610, 360, 10,
    120, 1553, 32, 9, 216, 9, 16, 9, 8, 17, 8, 9, 80, 9, 32, 9, 8, 9, 8, 49, 8, 33, 8, 9, 8, 9, 8, 9, 24, 9, 16, 9, 8, 17,
    8, 9, 8, 9, 8, 9, 8, 9, 8, 9, 16, 9, 8, 17, 32, 9, 56, 9, 32, 9, 32, 9, 8, 9, 80, 9, 136, 41, 24, 9, 40, 9, 136, 4642,
    104, 284, 208, 52, 208, 52, 208, 21302, 80, 8241, 65529, 65529, 65529, 65529, 65529, 14120, 257, 33232, 49, 1776, 17,
    46096, 113, 59784, 121, 4976, 19729, 4336, 12049, 39512, 41, 33536, 65528, 65528, 65528, 65528, 65528, 65528, 65528,
    65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528,
    65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528,
    65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528,
    65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528,
    65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 65528, 60724, 1920
};
/* made by tools/make_unicode.py, end */

/* The lowest two bits of a class; the third is set for what is \w without being a letter. */
enum { ATVI_OTHER, ATVI_LETTER, ATVI_NUMBER, ATVI_SPACE };

enum {                                                      /* flags of a token */
    ATVI_TOKEN = 1,
    ATVI_TOKEN_MODEL = 2,           /* an entry of the model's vocabulary */
    ATVI_TOKEN_ADDED = 4,           /* looked for in the text */
    ATVI_TOKEN_LITERAL = 8,         /* files write its bytes as they are */
    ATVI_TOKEN_SPECIAL = 16,
    ATVI_TOKEN_LSTRIP = 32,         /* takes the spaces before it; after it */
    ATVI_TOKEN_RSTRIP = 64,
    ATVI_TOKEN_WORD = 128,          /* only as a whole word */
    ATVI_TOKEN_NORMALIZED = 256,    /* looked for after those that are not */
    ATVI_TOKEN_MADE = 512           /* a merge makes it */
};

typedef struct atvi_token { size_t at; int size, flags; } atvi_token;               /* bytes: pool.data + at */
typedef struct atvi_merge { int32_t left, right, product; } atvi_merge;

/* 64-bit keys to positive numbers; 0 is "none". */
typedef struct atvi_table { uint64_t *keys; int32_t *values; size_t room, count; } atvi_table;

/* A word and its ids: one line of the cache. key: up to 23 bytes, then their number. */
typedef struct atvi_word { uint64_t key[3]; int32_t ids[9]; int n; } atvi_word;

/* A symbol of a word being merged; merge: the number of the merge that joins it to the next, or -1. */
typedef struct atvi_symbol { int32_t id, previous, next, merge; } atvi_symbol;

enum { ATVI_LOW = 0x800, ATVI_WORDS = 16384, ATVI_SYMBOLS = 256 };

/* What tokenizer.json holds beside the tokens. */
#define ATVI_SECTIONS(X) X(TRUNCATION, "truncation") X(PADDING, "padding") X(PRE_TOKENIZER, "pre_tokenizer") \
    X(POST_PROCESSOR, "post_processor") X(DECODER, "decoder")
typedef enum atvi_section {
#define X(name, text) ATVI_SECTION_##name,
    ATVI_SECTIONS(X)
#undef X
    ATVI_SECTION_COUNT
} atvi_section;

static const char *const atvi_section_names[] = {
#define X(name, text) text,
    ATVI_SECTIONS(X)
#undef X
};

struct atv_tokenizer {
    atv_ctx *ctx;
    atvi_buf pool;                                          /* the tokens' bytes, a 0 after each */
    atvi_token *tokens;                                     /* [n_tokens], by id; holes have no flags */
    int n_tokens, token_room;
    int32_t *index;                                         /* [index_room] id + 1 by the bytes' hash */
    size_t index_room;
    atvi_merge *merges;
    int n_merges, merge_room;
    atvi_table ranks;                                         /* left << 32 | right to the merge's number + 1 */
    atvi_table tries[2];                                      /* added tokens: node << 8 | byte to the next node; root 1 */
    int32_t *ends[2];                                       /* [nodes] the id + 1 of the token that ends there */
    unsigned char starts[2][256];                           /* bytes that begin one */
    int32_t byte_id[256];                                   /* -1: none */
    int unk, fuse_unk, before, after, eos;
    int prefix_space, whole;                                /* add_prefix_space; use_regex is false */
    char *sections[ATVI_SECTION_COUNT];                     /* as the file has them; NULL: null */
    char *config;                                           /* tokenizer_config.json as it was; NULL: none */
    uint32_t *changes;                                      /* [n_changes] code point << 3 | class */
    int n_changes;
    unsigned char low[ATVI_LOW];                            /* classes of the first code points */
    atvi_word *words;                                       /* [ATVI_WORDS] */
    atvi_symbol *symbols;                                   /* [symbol_room] */
    uint64_t *heap;                                         /* [3 symbol_room] */
    size_t symbol_room;
};

/* ---- tables ---- */

static uint64_t atvi_mix(uint64_t x) {
    x *= UINT64_C(0x9E3779B97F4A7C15);
    return x ^ x >> 32;
}

static uint64_t atvi_hash(const char *bytes, size_t size) {
    uint64_t h = size, piece;
    for (; size >= 8; size -= 8, bytes += 8) {
        memcpy(&piece, bytes, 8);
        h = atvi_mix(h ^ piece);
    }
    piece = 0;
    memcpy(&piece, bytes, size);
    return atvi_mix(h ^ piece);
}

static int32_t atvi_table_get(const atvi_table *map, uint64_t key) {
    size_t i;
    if (map->room == 0) return 0;
    for (i = atvi_mix(key) & (map->room - 1); map->values[i] != 0; i = (i + 1) & (map->room - 1))
        if (map->keys[i] == key) return map->values[i];
    return 0;
}

/* Where the value of key is kept; the caller sets it if it is 0. NULL: no memory. */
static int32_t *atvi_table_put(atv_ctx *ctx, atvi_table *map, uint64_t key) {
    size_t i, j;
    if (map->count * 2 >= map->room) {
        atvi_table grown;
        grown.room = map->room ? map->room * 2 : 64;
        grown.count = map->count;
        grown.keys = (uint64_t *)atvi_alloc(ctx, atvi_size(grown.room, 8, 0));
        grown.values = (int32_t *)atvi_alloc(ctx, atvi_size(grown.room, 4, 0));
        if (!grown.keys || !grown.values) {
            atvi_free(ctx, grown.keys);
            atvi_free(ctx, grown.values);
            return NULL;
        }
        for (j = 0; j < map->room; j++) {
            if (map->values[j] == 0) continue;
            for (i = atvi_mix(map->keys[j]) & (grown.room - 1); grown.values[i] != 0; i = (i + 1) & (grown.room - 1)) {}
            grown.keys[i] = map->keys[j];
            grown.values[i] = map->values[j];
        }
        atvi_free(ctx, map->keys);
        atvi_free(ctx, map->values);
        *map = grown;
    }
    for (i = atvi_mix(key) & (map->room - 1); map->values[i] != 0; i = (i + 1) & (map->room - 1))
        if (map->keys[i] == key) return &map->values[i];
    map->keys[i] = key;
    map->count++;
    return &map->values[i];
}

static void atvi_table_free(atv_ctx *ctx, atvi_table *map) {
    atvi_free(ctx, map->keys);
    atvi_free(ctx, map->values);
    memset(map, 0, sizeof *map);
}

#define ATVI_PAIR(left, right) ((uint64_t)(uint32_t)(left) << 32 | (uint32_t)(right))

/* The array of n elements, with room for one more; NULL: no memory, and it stays as it was. */
static void *atvi_grow(atv_ctx *ctx, void *array, int n, int *room, size_t size) {
    int more = *room ? *room * 2 : 256;
    if (n < *room) return array;
    if (*room > INT_MAX / 2) { atvi_fail(ctx, ATV_ERR_MEMORY, "no memory for more than %d entries", n); return NULL; }
    array = atvi_realloc(ctx, array, atvi_size((size_t)n, size, 0), atvi_size((size_t)more, size, 0));
    if (array) *room = more;
    return array;
}

static uint32_t atvi_byte_to_char(int b) {
    if (b <= 32) return 256 + (uint32_t)b;
    if (b < 127 || (b > 160 && b != 173)) return (uint32_t)b;
    return b == 173 ? 323 : 289 + (uint32_t)(b - 127);
}

static int atvi_char_to_byte(uint32_t c) {                  /* -1: stands for none */
    int b = c < 256 ? (int)c : c < 289 ? (int)c - 256 : c < 323 ? (int)c - 289 + 127 : 173;
    return c <= 323 && atvi_byte_to_char(b) == c ? b : -1;
}

/* As a file writes them, into bytes, in place; returns how many, or -1 with the text as it was when a character stands
   for no byte. */
static int atvi_written_to_bytes(char *text, int size) {
    int at, n, out = 0;
    uint32_t c = 0;
    for (at = 0; at < size; at += n) {
        n = atvi_utf8(text + at, (size_t)(size - at), &c);
        if (n < 0 || atvi_char_to_byte(c) < 0) return -1;
    }
    for (at = 0; at < size; at += n) {
        n = atvi_utf8(text + at, (size_t)(size - at), &c);
        text[out++] = (char)atvi_char_to_byte(c);
    }
    return out;
}

static int atvi_plain(const char *bytes, int size) {        /* written the same either way */
    int i;
    for (i = 0; i < size; i++)
        if (bytes[i] <= 32 || bytes[i] >= 127) return 0;
    return 1;
}

/* The id of the token with these bytes, written literally or not; -1: none. */
static int atvi_token_find(const atv_tokenizer *t, const char *bytes, int size, int literal) {
    size_t i;
    if (t->index_room == 0) return -1;
    for (i = atvi_hash(bytes, (size_t)size) & (t->index_room - 1); t->index[i] != 0; i = (i + 1) & (t->index_room - 1)) {
        const atvi_token *token = &t->tokens[t->index[i] - 1];
        if (token->size == size && (literal != 0) == ((token->flags & ATVI_TOKEN_LITERAL) != 0) &&
            memcmp(t->pool.data + token->at, bytes, (size_t)size) == 0) return t->index[i] - 1;
    }
    return -1;
}

static void atvi_token_index(atv_tokenizer *t, int id) {
    size_t i = atvi_hash(t->pool.data + t->tokens[id].at, (size_t)t->tokens[id].size) & (t->index_room - 1);
    while (t->index[i] != 0) i = (i + 1) & (t->index_room - 1);
    t->index[i] = id + 1;
}

/* A new entry; the id is free and checked. */
static atv_result atvi_token_add(atv_tokenizer *t, int id, const char *bytes, int size, int flags) {
    atvi_token *token;
    int room = t->token_room;
    if (id >= room) {
        atvi_token *tokens;
        while (room <= id) room = room ? room * 2 : 1024;
        tokens = (atvi_token *)atvi_realloc(t->ctx, t->tokens, (size_t)t->n_tokens * sizeof *tokens,
                                            (size_t)room * sizeof *tokens);
        if (!tokens) return ATV_ERR_MEMORY;
        t->tokens = tokens;
        t->token_room = room;
    }
    if (t->index_room < 4 * (size_t)room) {                 /* half stays empty, even when each has two slots */
        int32_t *index = (int32_t *)atvi_alloc(t->ctx, 4 * (size_t)room * sizeof *index);
        int i;
        if (!index) return ATV_ERR_MEMORY;
        atvi_free(t->ctx, t->index);
        t->index = index;
        t->index_room = 4 * (size_t)room;
        for (i = 0; i < t->n_tokens; i++)
            if (t->tokens[i].flags) atvi_token_index(t, i);
    }
    token = &t->tokens[id];
    token->at = t->pool.size;
    token->size = size;
    token->flags = flags | ATVI_TOKEN;
    atvi_buf_put(&t->pool, bytes, (size_t)size);
    atvi_buf_put(&t->pool, "", 1);
    if (t->pool.failed) { token->flags = 0; return ATV_ERR_MEMORY; }
    t->n_tokens = ATVI_MAX(t->n_tokens, id + 1);
    atvi_token_index(t, id);
    return ATV_OK;
}

static atv_result atvi_merge_add(atv_tokenizer *t, int left, int right, int product) {
    atvi_merge *merges = (atvi_merge *)atvi_grow(t->ctx, t->merges, t->n_merges, &t->merge_room, sizeof *merges);
    if (!merges) return ATV_ERR_MEMORY;
    t->merges = merges;
    t->merges[t->n_merges].left = left;
    t->merges[t->n_merges].right = right;
    t->merges[t->n_merges].product = product;
    t->n_merges++;
    return ATV_OK;
}

static atv_result atvi_trie_add(atv_tokenizer *t, int which, int id, int *n_nodes, int *room) {
    const char *bytes = t->pool.data + t->tokens[id].at;
    int i, node = 1;
    for (i = 0; i < t->tokens[id].size; i++) {
        int32_t *next = atvi_table_put(t->ctx, &t->tries[which], (uint64_t)node << 8 | (unsigned char)bytes[i]);
        if (!next) return ATV_ERR_MEMORY;
        if (*next == 0) *next = ++*n_nodes;
        node = *next;
        if (node >= *room) {
            int32_t *ends = (int32_t *)atvi_grow(t->ctx, t->ends[which], *room, room, sizeof *ends);
            if (!ends) return ATV_ERR_MEMORY;
            t->ends[which] = ends;
        }
    }
    t->ends[which][node] = id + 1;
    t->starts[which][(unsigned char)bytes[0]] = 1;
    return ATV_OK;
}

/* What follows from tokens and merges. */
static atv_result atvi_tokenizer_finish(atv_tokenizer *t) {
    int i, n, nodes[2] = { 1, 1 }, rooms[2] = { 0, 0 };
    for (i = 0; i < t->n_merges; i++) {                     /* of equal pairs the last counts */
        int32_t *rank = atvi_table_put(t->ctx, &t->ranks, ATVI_PAIR(t->merges[i].left, t->merges[i].right));
        if (!rank) return ATV_ERR_MEMORY;
        *rank = i + 1;
    }
    for (i = n = 0; i < t->n_merges; i++) {
        atvi_merge merge = t->merges[i];
        int32_t *rank = atvi_table_put(t->ctx, &t->ranks, ATVI_PAIR(merge.left, merge.right));
        if (!rank) return ATV_ERR_MEMORY;
        if (*rank != i + 1) continue;
        t->merges[n++] = merge;
        *rank = n;
    }
    t->n_merges = n;
    for (i = 0; i < t->n_tokens; i++)
        if (t->tokens[i].flags & ATVI_TOKEN_ADDED) {
            int which = (t->tokens[i].flags & ATVI_TOKEN_NORMALIZED) != 0;
            ATVI_TRY(atvi_trie_add(t, which, i, &nodes[which], &rooms[which]));
        }
    for (i = 0; i < 256; i++) {
        char byte = (char)i;
        t->byte_id[i] = atvi_token_find(t, &byte, 1, 0);
    }
    return ATV_OK;
}

ATVDEF void atv_tokenizer_destroy(atv_tokenizer *t) {
    atv_ctx *ctx;
    int i;
    if (!t) return;
    ctx = t->ctx;
    atvi_buf_free(&t->pool);
    atvi_free(ctx, t->tokens);
    atvi_free(ctx, t->index);
    atvi_free(ctx, t->merges);
    atvi_table_free(ctx, &t->ranks);
    for (i = 0; i < 2; i++) {
        atvi_table_free(ctx, &t->tries[i]);
        atvi_free(ctx, t->ends[i]);
    }
    for (i = 0; i < ATVI_SECTION_COUNT; i++) atvi_free(ctx, t->sections[i]);
    atvi_free(ctx, t->config);
    atvi_free(ctx, t->changes);
    atvi_free(ctx, t->words);
    atvi_free(ctx, t->symbols);
    atvi_free(ctx, t->heap);
    atvi_free(ctx, t);
}

static int atvi_symbols_room(atv_tokenizer *t, size_t room) {
    atvi_symbol *symbols = (atvi_symbol *)atvi_alloc(t->ctx, atvi_size(room, sizeof *symbols, 0));
    uint64_t *heap = (uint64_t *)atvi_alloc(t->ctx, atvi_size(room, 3 * sizeof *heap, 0));
    if (!symbols || !heap) {
        atvi_free(t->ctx, symbols);
        atvi_free(t->ctx, heap);
        return 0;
    }
    atvi_free(t->ctx, t->symbols);
    atvi_free(t->ctx, t->heap);
    t->symbols = symbols;
    t->heap = heap;
    t->symbol_room = room;
    return 1;
}

/* An empty one; NULL: no memory. */
static atv_tokenizer *atvi_tokenizer_new(atv_ctx *ctx) {
    atv_tokenizer *t = (atv_tokenizer *)atvi_alloc(ctx, sizeof *t);
    const int n = (int)(sizeof atvi_unicode / sizeof *atvi_unicode);
    uint32_t c, at = 0;
    int i;
    if (!t) return NULL;
    t->ctx = t->pool.ctx = ctx;
    t->unk = t->before = t->after = t->eos = -1;
    t->changes = (uint32_t *)atvi_alloc(ctx, (size_t)n * sizeof *t->changes);
    t->words = (atvi_word *)atvi_alloc(ctx, ATVI_WORDS * sizeof *t->words);
    if (!t->changes || !t->words || !atvi_symbols_room(t, ATVI_SYMBOLS)) { atv_tokenizer_destroy(t); return NULL; }
    for (i = 0; i < n; i++) {
        at += atvi_unicode[i] >> 3;
        t->changes[i] = at << 3 | (atvi_unicode[i] & 7u);
    }
    t->n_changes = n;
    for (c = 0, i = 0; c < ATVI_LOW; c++) {
        while (t->changes[i] >> 3 <= c) i++;
        t->low[c] = (unsigned char)(i == 0 ? 0 : t->changes[i - 1] & 7);
    }
    return t;
}

/* ---- words ---- */

/* The class of the character at p, n >= 1 bytes left; its length in *length. */
static int atvi_class(const atv_tokenizer *t, const char *p, size_t n, size_t *length) {
    uint32_t c = (unsigned char)*p;
    int low = 0, high = t->n_changes, size;
    *length = 1;
    if (c < 0x80) return t->low[c];
    size = atvi_utf8(p, n, &c);
    if (size < 0) return ATVI_OTHER;                        /* a byte that is no text */
    *length = (size_t)size;
    if (c < ATVI_LOW) return t->low[c];
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (t->changes[middle] >> 3 <= c) low = middle; else high = middle;
    }
    return (int)(t->changes[low] & 7);
}

/* Where the word that begins at `at` < size ends. The pattern, of which the first alternative that fits counts:
   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t atvi_word_end(const atv_tokenizer *t, const char *text, size_t at, size_t size) {
    size_t n, last = at, from = at;
    int kind;
    if (text[at] == '\'' && size - at >= 2) {
        char a = text[at + 1], b = size - at >= 3 ? text[at + 2] : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
        if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    }
    kind = atvi_class(t, text + at, size - at, &n) & 3;
    at += n;
    if (text[from] == ' ' && at < size) {
        int next = atvi_class(t, text + at, size - at, &n) & 3;
        if (next != ATVI_SPACE) { kind = next; at += n; }
    }
    while (at < size && (atvi_class(t, text + at, size - at, &n) & 3) == kind) { last = at; at += n; }
    if (kind == ATVI_SPACE && at < size && last > from) return last;          /* the last one is left for the next word */
    return at;
}

/* ---- merging ---- */

/* The ids of a text, of which the first `cap` are kept. */
typedef struct atvi_ids { int32_t *ids; size_t cap, n; } atvi_ids;

static void atvi_ids_put(atvi_ids *out, int32_t id) {
    if (out->n < out->cap) out->ids[out->n] = id;
    out->n++;
}

/* The heap has the smallest on top: merge << 32 | symbol, so among equal merges the leftmost. */
static void atvi_heap_push(uint64_t *heap, size_t *n, uint64_t entry) {
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 2] > entry) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = entry;
}

static uint64_t atvi_heap_pop(uint64_t *heap, size_t *n) {
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < *n) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

/* Looks up what joins symbol i to the next. */
static void atvi_symbol_pair(atv_tokenizer *t, int32_t i, size_t *n_heap) {
    atvi_symbol *s = &t->symbols[i];
    s->merge = s->next < 0 ? -1 : atvi_table_get(&t->ranks, ATVI_PAIR(s->id, t->symbols[s->next].id)) - 1;
    if (s->merge >= 0) atvi_heap_push(t->heap, n_heap, (uint64_t)s->merge << 32 | (uint32_t)i);
}

/* The ids of one word. Every pair is queued when it comes to be; what is gone when its turn comes is passed over. */
static atv_result atvi_merge_word(atv_tokenizer *t, const char *word, size_t size, atvi_ids *out) {
    atvi_symbol *s;
    size_t at, n_heap = 0;
    int32_t i, n = 0;
    if (size > t->symbol_room) {
        if (size > INT32_MAX) return atvi_fail(t->ctx, ATV_ERR_FULL, "a word of %lu bytes", (unsigned long)size);
        if (!atvi_symbols_room(t, size)) return ATV_ERR_MEMORY;
    }
    s = t->symbols;
    for (at = 0; at < size; at++) {
        int32_t id = t->byte_id[(unsigned char)word[at]];
        if (id < 0) {
            if (t->unk < 0) return atvi_fail(t->ctx, ATV_ERR_FORMAT, "the vocabulary lacks byte 0x%02X, and there is no "
                                             "unk_token", (unsigned)(unsigned char)word[at]);
            if (t->fuse_unk && n > 0 && t->byte_id[(unsigned char)word[at - 1]] < 0) continue;
            id = t->unk;
        }
        s[n].id = id;
        s[n].previous = n - 1;
        s[n].next = n + 1;
        n++;
    }
    s[n - 1].next = -1;
    for (i = 0; i < n; i++) atvi_symbol_pair(t, i, &n_heap);
    while (n_heap > 0) {
        uint64_t entry = atvi_heap_pop(t->heap, &n_heap);
        int32_t gone;
        i = (int32_t)(entry & 0xFFFFFFFFu);
        if (s[i].merge != (int32_t)(entry >> 32)) continue;
        gone = s[i].next;
        s[i].id = t->merges[s[i].merge].product;
        s[i].next = s[gone].next;
        s[gone].merge = -1;
        if (s[i].next >= 0) s[s[i].next].previous = i;
        atvi_symbol_pair(t, i, &n_heap);
        if (s[i].previous >= 0) atvi_symbol_pair(t, s[i].previous, &n_heap);
    }
    for (i = 0; i >= 0; i = s[i].next) atvi_ids_put(out, s[i].id);
    return ATV_OK;
}

/* The same through the cache. */
static atv_result atvi_encode_word(atv_tokenizer *t, const char *word, size_t size, atvi_ids *out) {
    uint64_t key[3] = { 0, 0, 0 };
    atvi_word *line;
    atvi_ids ids;
    int i;
    if (size > 23) return atvi_merge_word(t, word, size, out);
    memcpy(key, word, size);
    ((unsigned char *)key)[23] = (unsigned char)size;
    line = &t->words[atvi_mix(atvi_mix(atvi_mix(key[0]) ^ key[1]) ^ key[2]) % ATVI_WORDS];
    if (line->key[0] != key[0] || line->key[1] != key[1] || line->key[2] != key[2]) {
        int32_t found[23];
        ids.ids = found;
        ids.cap = 23;
        ids.n = 0;
        ATVI_TRY(atvi_merge_word(t, word, size, &ids));
        if (ids.n > sizeof line->ids / sizeof *line->ids) {
            for (i = 0; i < (int)ids.n; i++) atvi_ids_put(out, found[i]);
            return ATV_OK;
        }
        memcpy(line->key, key, sizeof key);
        memcpy(line->ids, found, sizeof line->ids);
        line->n = (int)ids.n;
    }
    if (out->cap - ATVI_MIN(out->n, out->cap) >= (size_t)line->n) {
        for (i = 0; i < line->n; i++) out->ids[out->n + (size_t)i] = line->ids[i];
        out->n += (size_t)line->n;
    } else for (i = 0; i < line->n; i++) atvi_ids_put(out, line->ids[i]);
    return ATV_OK;
}

static atv_result atvi_encode_words(atv_tokenizer *t, const char *text, size_t size, atvi_ids *out) {
    atvi_buf spaced;
    atv_result result;
    size_t at = 0, end;
    memset(&spaced, 0, sizeof spaced);
    spaced.ctx = t->ctx;
    if (t->prefix_space && size > 0 && text[0] != ' ') {
        atvi_buf_put(&spaced, " ", 1);
        atvi_buf_put(&spaced, text, size);
        text = spaced.data;
        size = spaced.size;
    }
    result = atvi_buf_done(&spaced);
    for (; at < size && result == ATV_OK; at = end) {
        end = t->whole ? size : atvi_word_end(t, text, at, size);
        result = atvi_encode_word(t, text + at, end - at, out);
    }
    atvi_buf_free(&spaced);
    return result;
}

/* ---- added tokens ---- */

/* The class of the character that ends at text + at > text. */
static int atvi_class_before(const atv_tokenizer *t, const char *text, size_t at, size_t *length) {
    size_t back;
    for (back = 2; back <= 4 && back <= at; back++) {
        int kind = atvi_class(t, text + at - back, back, length);
        if (*length == back) return kind;
    }
    return atvi_class(t, text + at - 1, 1, length);
}

/* Finds the leftmost longest added tokens, first (which = 0) those that are not normalized; the rest is words. */
static atv_result atvi_encode_split(atv_tokenizer *t, int which, const char *text, size_t size, atvi_ids *out) {
    size_t at = 0, done = 0, n;
    if (which == 2) return atvi_encode_words(t, text, size, out);
    if (!t->ends[which]) return atvi_encode_split(t, which + 1, text, size, out);
    while (at < size) {
        size_t p, from, to = at;
        int node = 1, id = -1, flags;
        if (!t->starts[which][(unsigned char)text[at]]) { at++; continue; }
        for (p = at; p < size; p++) {
            node = atvi_table_get(&t->tries[which], (uint64_t)node << 8 | (unsigned char)text[p]);
            if (node == 0) break;
            if (t->ends[which][node] != 0) { id = t->ends[which][node] - 1; to = p + 1; }
        }
        if (id < 0) { at++; continue; }
        flags = t->tokens[id].flags;
        from = at;
        at = to;
        if (flags & ATVI_TOKEN_WORD) {
            int k = from > 0 ? atvi_class_before(t, text, from, &n) : ATVI_OTHER;
            if (k == ATVI_LETTER || k >= 4) continue;
            k = to < size ? atvi_class(t, text + to, size - to, &n) : ATVI_OTHER;
            if (k == ATVI_LETTER || k >= 4) continue;
        }
        if (flags & ATVI_TOKEN_LSTRIP)
            while (from > done && atvi_class_before(t, text, from, &n) == ATVI_SPACE) from -= n;
        if (flags & ATVI_TOKEN_RSTRIP)
            while (to < size && atvi_class(t, text + to, size - to, &n) == ATVI_SPACE) to += n;
        if (from > done) ATVI_TRY(atvi_encode_split(t, which + 1, text + done, from - done, out));
        atvi_ids_put(out, id);
        done = to;
    }
    return done < size ? atvi_encode_split(t, which + 1, text + done, size - done, out) : ATV_OK;
}

ATVDEF atv_result atv_tokenizer_encode(atv_tokenizer *t, const char *text, size_t size, int32_t *ids, size_t cap,
                                       size_t *n) {
    atvi_ids out;
    atv_result result;
    int i, complete = t->unk >= 0;
    out.ids = ids;
    out.cap = ids ? cap : 0;
    out.n = 0;
    for (i = 0; i < 256 && !complete && t->byte_id[i] >= 0; i++) complete = i == 255;
    if (!complete) {                                        /* it may fail, so first without writing */
        atvi_ids none = { NULL, 0, 0 };
        ATVI_TRY(atvi_encode_split(t, 0, text, text ? size : 0, &none));
    }
    result = atvi_encode_split(t, 0, text, text ? size : 0, &out);
    if (t->symbol_room > ATVI_WORDS) atvi_symbols_room(t, ATVI_SYMBOLS);    /* after an immense word; if not, no harm */
    if (result == ATV_OK) *n = out.n;
    return result;
}

ATVDEF atv_result atv_tokenizer_decode(const atv_tokenizer *t, const int32_t *ids, size_t n_ids, int skip_special,
                                       char *text, size_t cap, size_t *size) {
    size_t i, n = 0;
    for (i = 0; i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= t->n_tokens || !t->tokens[ids[i]].flags)
            return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "ids[%lu]=%ld is not in the vocabulary", (unsigned long)i,
                             (long)ids[i]);
    if (!text) cap = 0;
    for (i = 0; i < n_ids; i++) {
        const atvi_token *token = &t->tokens[ids[i]];
        if (skip_special && (token->flags & ATVI_TOKEN_SPECIAL)) continue;
        if (n < cap) memcpy(text + n, t->pool.data + token->at, ATVI_MIN((size_t)token->size, cap - n));
        n += (size_t)token->size;
    }
    *size = n;
    return ATV_OK;
}

ATVDEF int atv_tokenizer_vocab_size(const atv_tokenizer *t) { return t->n_tokens; }

ATVDEF int atv_tokenizer_id(const atv_tokenizer *t, const char *token) {
    size_t size = strlen(token);
    int id = size > INT_MAX ? -1 : atvi_token_find(t, token, (int)size, 1);
    return id >= 0 || size > INT_MAX ? id : atvi_token_find(t, token, (int)size, 0);
}

ATVDEF const char *atv_tokenizer_token(const atv_tokenizer *t, int id, size_t *size) {
    if (id < 0 || id >= t->n_tokens || !t->tokens[id].flags) return NULL;
    if (size) *size = (size_t)t->tokens[id].size;
    return t->pool.data + t->tokens[id].at;
}

ATVDEF int atv_tokenizer_is_special(const atv_tokenizer *t, int id) {
    return id >= 0 && id < t->n_tokens && (t->tokens[id].flags & ATVI_TOKEN_SPECIAL) != 0;
}

ATVDEF void atv_tokenizer_wrap(const atv_tokenizer *t, int *before, int *after) {
    if (before) *before = t->before;
    if (after) *after = t->after;
}

ATVDEF int atv_tokenizer_eos(const atv_tokenizer *t) { return t->eos; }

/* ---- reading ---- */

enum { ATVI_HOLES = 65536 };                                /* ids that a vocabulary may leave out */

/* For messages: the start of a node's source. */
#define ATVI_NODE(node) (int)ATVI_MIN((node)->size, (size_t)80), (node)->text

/* A string's value in buf, with a 0 after it. */
static atv_result atvi_json_take(atvi_buf *buf, const atvi_jnode *node, int *size) {
    if (node->size > INT_MAX / 4)
        return atvi_fail(buf->ctx, ATV_ERR_FORMAT, "a string of %lu bytes", (unsigned long)node->size);
    buf->size = 0;
    atvi_buf_put(buf, node->text, node->size);              /* makes the room; the value is no longer than its source */
    atvi_buf_put(buf, "", 1);
    ATVI_TRY(atvi_buf_done(buf));
    *size = (int)atvi_json_unescape(node, buf->data, buf->room);
    buf->data[*size] = 0;
    buf->size = (size_t)*size;
    return ATV_OK;
}

static int atvi_json_null(const atvi_jnode *node) { return !node || node->type == ATVI_JSON_NULL; }

/* A member that is true or false; `otherwise` when it is missing or null. */
static atv_result atvi_json_flag(atv_ctx *ctx, const char *what, const atvi_jnode *object, const char *key, int otherwise,
                                 int *out) {
    const atvi_jnode *node = atvi_json_get(object, key);
    *out = atvi_json_null(node) ? otherwise : node->type == ATVI_JSON_TRUE;
    if (!atvi_json_null(node) && node->type != ATVI_JSON_TRUE && node->type != ATVI_JSON_FALSE)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "%s: %s=%.*s is neither true nor false", what, key, ATVI_NODE(node));
    return ATV_OK;
}

static char *atvi_copy_text(atv_ctx *ctx, const char *text, size_t size) {
    char *copy = (char *)atvi_alloc(ctx, atvi_size(size, 1, 1));
    if (copy && size) memcpy(copy, text, size);
    return copy;
}

static int atvi_known(const atv_tokenizer *t, int64_t id) { return id >= 0 && id < t->n_tokens && t->tokens[id].flags != 0; }

static atv_result atvi_read_vocab(atv_tokenizer *t, const char *what, const atvi_jnode *vocab, int64_t limit,
                                  atvi_buf *buf) {
    const atvi_jnode *key;
    int i, size, bytes;
    if (!vocab || vocab->type != ATVI_JSON_OBJECT)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: the vocabulary is missing or no object", what);
    if (vocab->count == 0) return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: the vocabulary is empty", what);
    for (i = 0, key = vocab + 1; i < vocab->count; i++, key += 1 + key[1].span) {
        int64_t id;
        if (!atvi_json_int(key + 1, &id) || id < 0 || id >= limit)
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: vocab \"%.*s\"=%.*s is no id from 0 to %ld", what, ATVI_NODE(key),
                             ATVI_NODE(key + 1), (long)limit - 1);
        if (atvi_known(t, id))
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: vocab \"%.*s\"=%ld: another entry has this id", what,
                             ATVI_NODE(key), (long)id);
        ATVI_TRY(atvi_json_take(buf, key, &size));
        bytes = atvi_written_to_bytes(buf->data, size);
        if (atvi_token_find(t, buf->data, bytes < 0 ? size : bytes, bytes < 0) >= 0)
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: vocab \"%.*s\" is there twice", what, ATVI_NODE(key));
        ATVI_TRY(atvi_token_add(t, (int)id, buf->data, bytes < 0 ? size : bytes,
                                ATVI_TOKEN_MODEL | (bytes < 0 ? ATVI_TOKEN_LITERAL : 0)));
    }
    return ATV_OK;
}

/* The id of a token as a file writes it; -1: none. buf holds it and is spoilt. */
static int atvi_written_find(const atv_tokenizer *t, atvi_buf *buf, int size) {
    int id = atvi_token_find(t, buf->data, size, 1), bytes;
    if (id >= 0) return id;
    bytes = atvi_written_to_bytes(buf->data, size);
    return bytes < 0 ? -1 : atvi_token_find(t, buf->data, bytes, 0);
}

/* An added token: its text is itself, even where the vocabulary would read it as bytes. id -1: that of the vocabulary. */
static atv_result atvi_add_added(atv_tokenizer *t, const char *what, const char *text, int size, int64_t id, int64_t limit,
                                 int flags, atvi_buf *buf) {
    int found, literal = atvi_plain(text, size) ? 0 : ATVI_TOKEN_LITERAL;
    atvi_token *token;
    buf->size = 0;
    atvi_buf_put(buf, text, (size_t)size);
    ATVI_TRY(atvi_buf_done(buf));
    found = atvi_written_find(t, buf, size);
    if (id < 0) id = found;
    if (id < 0 || id >= limit)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: added token \"%.80s\": id %ld is not from 0 to %ld", what, text,
                         (long)id, (long)limit - 1);
    if (found >= 0 && found != id)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: added token \"%.80s\" has id %ld, but %d in the vocabulary", what,
                         text, (long)id, found);
    flags |= ATVI_TOKEN_ADDED | literal;
    if (found < 0) {
        if (atvi_known(t, id))
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: added token \"%.80s\": another entry has its id %ld", what, text,
                             (long)id);
        return atvi_token_add(t, (int)id, text, size, flags);
    }
    token = &t->tokens[id];
    if (literal && !(token->flags & ATVI_TOKEN_LITERAL)) {  /* until now it was read as bytes */
        size_t at = t->pool.size;
        atvi_buf_put(&t->pool, text, (size_t)size + 1);
        ATVI_TRY(atvi_buf_done(&t->pool));
        token->at = at;
        token->size = size;
        token->flags |= ATVI_TOKEN_LITERAL;
        atvi_token_index(t, (int)id);
    }
    token->flags = (token->flags & (ATVI_TOKEN | ATVI_TOKEN_MODEL | ATVI_TOKEN_MADE)) | flags;
    return ATV_OK;
}

static atv_result atvi_read_added(atv_tokenizer *t, const char *what, const atvi_jnode *object, int64_t id, int64_t limit,
                                  atvi_buf *buf) {
    static const struct { const char *name; int flag; } options[] = {
        { "special", ATVI_TOKEN_SPECIAL }, { "lstrip", ATVI_TOKEN_LSTRIP }, { "rstrip", ATVI_TOKEN_RSTRIP },
        { "single_word", ATVI_TOKEN_WORD }, { "normalized", ATVI_TOKEN_NORMALIZED }
    };
    const atvi_jnode *content = atvi_json_get(object, "content");
    atvi_buf text;
    atv_result result;
    int i, on, size = 0, flags = 0;
    if (!content || content->type != ATVI_JSON_STRING)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: an added token has no content", what);
    if (content->size == 0) return ATV_OK;                  /* there is nothing to look for */
    for (i = 0; i < (int)(sizeof options / sizeof *options); i++) {
        ATVI_TRY(atvi_json_flag(t->ctx, what, object, options[i].name, 0, &on));
        if (on) flags |= options[i].flag;
    }
    memset(&text, 0, sizeof text);
    text.ctx = t->ctx;
    result = atvi_json_take(&text, content, &size);
    if (result == ATV_OK) result = atvi_add_added(t, what, text.data, size, id, limit, flags, buf);
    atvi_buf_free(&text);
    return result;
}

/* One merge, as written. What does not fit the vocabulary is left out, as published files have such. */
static atv_result atvi_read_merge(atv_tokenizer *t, const char *what, int number, const char *left, int n_left,
                                  const char *right, int n_right, atvi_buf *buf) {
    int l, r = -1, ids[3] = { -1, -1, -1 };
    buf->size = 0;
    atvi_buf_put(buf, left, (size_t)n_left);
    atvi_buf_put(buf, right, (size_t)n_right);
    ATVI_TRY(atvi_buf_done(buf));
    l = n_left == 0 ? -1 : atvi_written_to_bytes(buf->data, n_left);
    if (l >= 0) {
        memmove(buf->data + l, right, (size_t)n_right);
        r = n_right == 0 ? -1 : atvi_written_to_bytes(buf->data + l, n_right);
    }
    if (r >= 0) {
        ids[0] = atvi_token_find(t, buf->data, l, 0);
        ids[1] = atvi_token_find(t, buf->data + l, r, 0);
        ids[2] = atvi_token_find(t, buf->data, l + r, 0);
        if (ids[2] >= 0) t->tokens[ids[2]].flags |= ATVI_TOKEN_MADE;
    }
    if (ids[0] >= 0 && ids[1] >= 0 && ids[2] >= 0) return atvi_merge_add(t, ids[0], ids[1], ids[2]);
    atvi_log(t->ctx, ATV_LOG_WARNING, "%s: merge %d, \"%.*s %.*s\", is skipped: its %s is not in the vocabulary", what,
             number, ATVI_MIN(n_left, 80), left, ATVI_MIN(n_right, 80), right,
             ids[0] < 0 || ids[1] < 0 ? "part" : "product");
    return ATV_OK;
}

/* "a b", between the first space and the only one. */
static atv_result atvi_read_merge_line(atv_tokenizer *t, const char *what, int number, const char *line, size_t size,
                                       atvi_buf *buf) {
    const char *space = size > INT_MAX / 4 ? NULL : (const char *)memchr(line, ' ', size);
    if (!space || memchr(space + 1, ' ', size - (size_t)(space + 1 - line)))
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: merge %d, \"%.*s\", is not two parts with a space between", what,
                         number, (int)ATVI_MIN(size, (size_t)80), line);
    return atvi_read_merge(t, what, number, line, (int)(space - line), space + 1, (int)(size - (size_t)(space + 1 - line)),
                           buf);
}

static atv_result atvi_read_merges(atv_tokenizer *t, const char *what, const atvi_jnode *merges, atvi_buf *buf) {
    const atvi_jnode *m;
    atvi_buf text;
    atv_result result = ATV_OK;
    int i, left = 0, right = 0;
    if (!merges || merges->type != ATVI_JSON_ARRAY)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: merges is missing or no array", what);
    memset(&text, 0, sizeof text);
    text.ctx = t->ctx;
    for (i = 0, m = merges + 1; i < merges->count && result == ATV_OK; i++, m += m->span) {
        if (m->type == ATVI_JSON_STRING) {
            result = atvi_json_take(&text, m, &left);
            if (result == ATV_OK) result = atvi_read_merge_line(t, what, i + 1, text.data, (size_t)left, buf);
        } else if (m->type == ATVI_JSON_ARRAY && m->count == 2 && m[1].type == ATVI_JSON_STRING &&
                   m[2].type == ATVI_JSON_STRING) {
            result = atvi_json_take(&text, m + 1, &left);
            if (result == ATV_OK) {                         /* the second part behind the first */
                atvi_buf_put(&text, m[2].text, m[2].size);
                result = m[2].size > INT_MAX / 4 ? atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: merge %d is too long", what, i + 1)
                                                 : atvi_buf_done(&text);
            }
            if (result == ATV_OK) {
                right = (int)atvi_json_unescape(m + 2, text.data + left, text.room - (size_t)left);
                result = atvi_read_merge(t, what, i + 1, text.data, left, text.data + left, right, buf);
            }
        } else result = atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: merge %d, %.*s, is neither a string nor a pair", what,
                                  i + 1, ATVI_NODE(m));
    }
    atvi_buf_free(&text);
    return result;
}

/* A section's step that is a ByteLevel, alone or as the only one of a Sequence. */
static atv_result atvi_byte_level(atv_ctx *ctx, const char *what, const char *section, const char *list,
                                  const atvi_jnode *node, const atvi_jnode **out) {
    const atvi_jnode *type = atvi_json_get(node, "type"), *steps;
    if (atvi_json_equal(type, "Sequence")) {
        steps = atvi_json_get(node, list);
        if (!steps || steps->type != ATVI_JSON_ARRAY || steps->count != 1)
            return atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: %s: only a Sequence of one ByteLevel is done here", what,
                             section);
        node = steps + 1;
        type = atvi_json_get(node, "type");
    }
    if (!atvi_json_equal(type, "ByteLevel"))
        return type ? atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: %s.type=%.*s: only ByteLevel is done here", what, section,
                                ATVI_NODE(type))
                    : atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "%s: %s is missing: only ByteLevel is done here", what, section);
    *out = node;
    return ATV_OK;
}

static atv_result atvi_set_wrap(atv_tokenizer *t, const char *what, int *place, const atvi_jnode *node) {
    int64_t id;
    if (!atvi_json_int(node, &id) || !atvi_known(t, id))
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: post_processor names a token id that is not in the vocabulary", what);
    if (*place >= 0)
        return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: post_processor puts more than one token before or after", what);
    *place = (int)id;
    return ATV_OK;
}

static atv_result atvi_read_template(atv_tokenizer *t, const char *what, const atvi_jnode *node) {
    const atvi_jnode *single = atvi_json_get(node, "single"), *tokens = atvi_json_get(node, "special_tokens"), *piece;
    int i, seen = 0;
    if (!single || single->type != ATVI_JSON_ARRAY)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: post_processor.single is missing or no array", what);
    for (i = 0, piece = single + 1; i < single->count; i++, piece += piece->span) {
        const atvi_jnode *name = atvi_json_get(atvi_json_get(piece, "SpecialToken"), "id"), *ids;
        char text[256];
        size_t size;
        if (!name) { seen += atvi_json_equal(atvi_json_get(atvi_json_get(piece, "Sequence"), "id"), "A"); continue; }
        size = name->type == ATVI_JSON_STRING ? atvi_json_unescape(name, text, sizeof text) : sizeof text;
        if (size >= sizeof text)
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: post_processor: a token's name is too long", what);
        text[size] = 0;
        ids = atvi_json_get(atvi_json_get(tokens, text), "ids");
        if (!ids || ids->type != ATVI_JSON_ARRAY || ids->count != 1)
            return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: post_processor.special_tokens.%s is not one id", what, text);
        ATVI_TRY(atvi_set_wrap(t, what, seen ? &t->after : &t->before, ids + 1));
    }
    if (seen != 1)
        return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: post_processor.single has the sequence %d times", what, seen);
    return ATV_OK;
}

static atv_result atvi_read_post_processor(atv_tokenizer *t, const char *what, const atvi_jnode *node, int depth) {
    const atvi_jnode *type = atvi_json_get(node, "type"), *steps;
    int i;
    if (atvi_json_null(node) || atvi_json_equal(type, "ByteLevel")) return ATV_OK;
    if (atvi_json_equal(type, "TemplateProcessing")) return atvi_read_template(t, what, node);
    if (atvi_json_equal(type, "RobertaProcessing") || atvi_json_equal(type, "BertProcessing")) {
        const atvi_jnode *cls = atvi_json_get(node, "cls"), *sep = atvi_json_get(node, "sep");
        if (!cls || cls->type != ATVI_JSON_ARRAY || cls->count != 2 || !sep || sep->type != ATVI_JSON_ARRAY ||
            sep->count != 2)
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: post_processor: cls and sep must each be a token and its id",
                             what);
        ATVI_TRY(atvi_set_wrap(t, what, &t->before, cls + 1 + cls[1].span));
        return atvi_set_wrap(t, what, &t->after, sep + 1 + sep[1].span);
    }
    steps = atvi_json_get(node, "processors");
    if (depth == 0 && atvi_json_equal(type, "Sequence") && steps && steps->type == ATVI_JSON_ARRAY) {
        const atvi_jnode *step = steps + 1;
        for (i = 0; i < steps->count; i++, step += step->span) ATVI_TRY(atvi_read_post_processor(t, what, step, 1));
        return ATV_OK;
    }
    return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: post_processor.type=%.*s is not done here", what,
                     ATVI_NODE(type ? type : node));
}

static atv_result atvi_read_model(atv_tokenizer *t, const char *what, const atvi_jnode *root, atvi_buf *buf) {
    static const char *const empty[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    static const char *const off[] = { "byte_fallback", "ignore_merges" };
    const atvi_jnode *model = atvi_json_get(root, "model"), *added = atvi_json_get(root, "added_tokens"), *node;
    int64_t limit = ATVI_HOLES, id;
    double dropout;
    int i, size;
    if (!model || model->type != ATVI_JSON_OBJECT)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: model is missing or no object", what);
    node = atvi_json_get(model, "type");
    if (node && !atvi_json_equal(node, "BPE"))
        return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: model.type=%.*s: only BPE is done here", what, ATVI_NODE(node));
    node = atvi_json_get(model, "dropout");
    if (!atvi_json_null(node) && (!atvi_json_double(node, &dropout) || dropout != 0))
        return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: model.dropout=%.*s: only null is done here", what,
                         ATVI_NODE(node));
    for (i = 0; i < 2; i++) {
        node = atvi_json_get(model, empty[i]);
        if (!atvi_json_null(node) && !atvi_json_equal(node, ""))
            return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: model.%s=%.*s: only null is done here", what, empty[i],
                             ATVI_NODE(node));
        node = atvi_json_get(model, off[i]);
        if (!atvi_json_null(node) && node->type != ATVI_JSON_FALSE)
            return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: model.%s=%.*s: only false is done here", what, off[i],
                             ATVI_NODE(node));
    }
    ATVI_TRY(atvi_json_flag(t->ctx, what, model, "fuse_unk", 0, &t->fuse_unk));
    node = atvi_json_get(model, "vocab");
    if (node) limit += node->count;
    if (added && added->type == ATVI_JSON_ARRAY) limit += added->count;
    else if (!atvi_json_null(added)) return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: added_tokens is no array", what);
    limit = ATVI_MIN(limit, (int64_t)INT_MAX / 8);
    ATVI_TRY(atvi_read_vocab(t, what, node, limit, buf));
    if (!atvi_json_null(added))
        for (i = 0, node = added + 1; i < added->count; i++, node += node->span) {
            if (!atvi_json_int(atvi_json_get(node, "id"), &id))
                return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: added_tokens[%d] has no id", what, i);
            ATVI_TRY(atvi_read_added(t, what, node, id < 0 ? limit : id, limit, buf));
        }
    node = atvi_json_get(model, "unk_token");
    if (!atvi_json_null(node)) {
        if (node->type != ATVI_JSON_STRING)
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: model.unk_token is no string", what);
        ATVI_TRY(atvi_json_take(buf, node, &size));
        t->unk = atvi_written_find(t, buf, size);
        if (t->unk < 0)
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: model.unk_token=\"%.*s\" is not in the vocabulary", what,
                             ATVI_NODE(node));
    }
    return atvi_read_merges(t, what, atvi_json_get(model, "merges"), buf);
}

static atv_result atvi_read_tokenizer(atv_tokenizer *t, const char *what, const atvi_jnode *root, atvi_buf *buf) {
    const atvi_jnode *node;
    int i, use_regex;
    if (root->type != ATVI_JSON_OBJECT) return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: no object", what);
    node = atvi_json_get(root, "version");
    if (node && !atvi_json_equal(node, "1.0"))
        return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: version=%.*s: only 1.0 is done here", what, ATVI_NODE(node));
    node = atvi_json_get(root, "normalizer");
    if (!atvi_json_null(node)) {
        const atvi_jnode *type = atvi_json_get(node, "type");
        return atvi_fail(t->ctx, ATV_ERR_UNSUPPORTED, "%s: normalizer=%.*s: only null is done here", what,
                         ATVI_NODE(type ? type : node));
    }
    ATVI_TRY(atvi_byte_level(t->ctx, what, "pre_tokenizer", "pretokenizers", atvi_json_get(root, "pre_tokenizer"), &node));
    ATVI_TRY(atvi_json_flag(t->ctx, what, node, "add_prefix_space", 1, &t->prefix_space));
    ATVI_TRY(atvi_json_flag(t->ctx, what, node, "use_regex", 1, &use_regex));
    t->whole = !use_regex;
    node = atvi_json_get(root, "decoder");
    if (!atvi_json_null(node)) ATVI_TRY(atvi_byte_level(t->ctx, what, "decoder", "decoders", node, &node));
    ATVI_TRY(atvi_read_model(t, what, root, buf));
    ATVI_TRY(atvi_read_post_processor(t, what, atvi_json_get(root, "post_processor"), 0));
    for (i = 0; i < ATVI_SECTION_COUNT; i++) {
        node = atvi_json_get(root, atvi_section_names[i]);
        if (atvi_json_null(node)) continue;
        t->sections[i] = atvi_copy_text(t->ctx, node->text, node->size);
        if (!t->sections[i]) return ATV_ERR_MEMORY;
        if (i == ATVI_SECTION_TRUNCATION || i == ATVI_SECTION_PADDING)
            atvi_log(t->ctx, ATV_LOG_WARNING, "%s: %s is kept, but nothing is cut or padded here", what,
                     atvi_section_names[i]);
    }
    return ATV_OK;
}

/* tokenizer_config.json names a token as a string, or as an object with its content. -1: it names none of ours. */
static atv_result atvi_config_token(const atv_tokenizer *t, const atvi_jnode *config, const char *key, atvi_buf *buf,
                                    int *out) {
    const atvi_jnode *node = atvi_json_get(config, key);
    int size;
    *out = -1;
    if (node && node->type == ATVI_JSON_OBJECT) node = atvi_json_get(node, "content");
    if (!node || node->type != ATVI_JSON_STRING) return ATV_OK;
    ATVI_TRY(atvi_json_take(buf, node, &size));
    *out = atvi_written_find(t, buf, size);
    if (*out < 0) atvi_log(t->ctx, ATV_LOG_WARNING, "tokenizer_config.json: %s=\"%.*s\" is not in the vocabulary", key,
                           ATVI_NODE(node));
    return ATV_OK;
}

/* The end token, where no configuration tells it. */
static void atvi_find_eos(atv_tokenizer *t) {
    if (t->eos < 0) t->eos = t->after;
    if (t->eos < 0) t->eos = atv_tokenizer_id(t, "<|endoftext|>");
    if (t->eos < 0) t->eos = atv_tokenizer_id(t, "</s>");
}

static atv_result atvi_set_section(atv_tokenizer *t, atvi_section section, const atvi_buf *text) {
    ATVI_TRY(atvi_buf_done(text));
    t->sections[section] = atvi_copy_text(t->ctx, text->data, text->size);
    return t->sections[section] ? ATV_OK : ATV_ERR_MEMORY;
}

static atv_result atvi_byte_level_sections(atv_tokenizer *t, atvi_buf *buf) {
    buf->size = 0;
    atvi_buf_format(buf, "{\"type\": \"ByteLevel\", \"add_prefix_space\": %s, \"trim_offsets\": true, \"use_regex\": true}",
                    t->prefix_space ? "true" : "false");
    ATVI_TRY(atvi_set_section(t, ATVI_SECTION_PRE_TOKENIZER, buf));
    return atvi_set_section(t, ATVI_SECTION_DECODER, buf);
}

/* The token's text as files write it, as a JSON string. */
static void atvi_buf_token(atvi_buf *buf, const atv_tokenizer *t, int id) {
    const atvi_token *token = &t->tokens[id];
    const char *bytes = t->pool.data + token->at;
    int i;
    if (token->flags & ATVI_TOKEN_LITERAL) { atvi_buf_json(buf, bytes, (size_t)token->size); return; }
    atvi_buf_put(buf, "\"", 1);
    for (i = 0; i < token->size; i++) {
        char c[4];
        int n = atvi_utf8_put(atvi_byte_to_char((unsigned char)bytes[i]), c);
        if (n == 1 && (c[0] == '"' || c[0] == '\\')) atvi_buf_put(buf, "\\", 1);
        atvi_buf_put(buf, c, (size_t)n);
    }
    atvi_buf_put(buf, "\"", 1);
}

/* What transformers makes of a directory without tokenizer.json. */
static atv_result atvi_read_config(atv_tokenizer *t, const atvi_jnode *config, int64_t limit, atvi_buf *buf) {
    static const char *const roles[] = {
        "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"
    };
    const char *what = "tokenizer_config.json";
    const atvi_jnode *added = atvi_json_get(config, "added_tokens_decoder"), *key;
    int i, id, bos, add_bos, any = 0;
    if (added && added->type == ATVI_JSON_OBJECT)
        for (i = 0, key = added + 1; i < added->count; i++, key += 1 + key[1].span) {
            atvi_jnode number = *key;                       /* the key is the id */
            int64_t value;
            number.type = ATVI_JSON_NUMBER;
            if (key->size == 0 || key->size > 9 || strspn(key->text, "0123456789") < key->size ||
                !atvi_json_int(&number, &value))
                return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: added_tokens_decoder: \"%.*s\" is no id", what,
                                 ATVI_NODE(key));
            ATVI_TRY(atvi_read_added(t, what, key + 1, value, limit, buf));
            any = 1;
        }
    for (i = 0; i < 7; i++) {
        const atvi_jnode *node = atvi_json_get(config, roles[i]);
        ATVI_TRY(atvi_config_token(t, config, roles[i], buf, &id));
        if (id < 0) continue;
        any = 1;
        if (t->tokens[id].flags & ATVI_TOKEN_ADDED) continue;
        if (node->type == ATVI_JSON_OBJECT) ATVI_TRY(atvi_read_added(t, what, node, id, limit, buf));
        t->tokens[id].flags |= ATVI_TOKEN_ADDED | ATVI_TOKEN_SPECIAL;
    }
    for (i = 0; i < t->n_tokens && !any; i++)               /* nobody says: entries that neither a byte nor a merge makes */
        if ((t->tokens[i].flags & ATVI_TOKEN_MODEL) && !(t->tokens[i].flags & ATVI_TOKEN_MADE) && t->tokens[i].size > 1)
            t->tokens[i].flags |= ATVI_TOKEN_ADDED | ATVI_TOKEN_SPECIAL;
    ATVI_TRY(atvi_json_flag(t->ctx, what, config, "add_prefix_space", 0, &t->prefix_space));
    ATVI_TRY(atvi_byte_level_sections(t, buf));
    ATVI_TRY(atvi_config_token(t, config, "unk_token", buf, &t->unk));
    ATVI_TRY(atvi_config_token(t, config, "bos_token", buf, &bos));
    ATVI_TRY(atvi_json_flag(t->ctx, what, config, "add_bos_token", 0, &add_bos));
    if (!add_bos || bos < 0) return ATV_OK;
    t->before = bos;
    buf->size = 0;
    atvi_buf_text(buf, "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": ");
    atvi_buf_token(buf, t, bos);
    atvi_buf_text(buf, ", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], ");
    atvi_buf_text(buf, "\"pair\": [{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", ");
    atvi_buf_text(buf, "\"type_id\": 1}}], \"special_tokens\": {");
    atvi_buf_token(buf, t, bos);
    atvi_buf_text(buf, ": {\"id\": ");
    atvi_buf_token(buf, t, bos);
    atvi_buf_format(buf, ", \"ids\": [%d], \"tokens\": [", bos);
    atvi_buf_token(buf, t, bos);
    atvi_buf_text(buf, "]}}}");
    return atvi_set_section(t, ATVI_SECTION_POST_PROCESSOR, buf);
}

/* The whole of loading, from texts; names: for errors. config may be NULL, and with json so are vocab and merges. */
typedef struct atvi_sources {
    const char *json, *vocab, *merges, *config;
    size_t json_size, vocab_size, merges_size, config_size;
    const char *json_name, *vocab_name, *merges_name, *config_name;
} atvi_sources;

static atv_result atvi_read_sources(atv_tokenizer *t, const atvi_sources *s, atvi_json *main_json, atvi_json *config,
                                    atvi_buf *buf) {
    const atvi_jnode *added;
    int64_t limit = ATVI_HOLES;
    const char *line = s->merges, *end;
    int number = 0;
    if (s->config) {
        ATVI_TRY(atvi_json_parse(t->ctx, s->config_name, s->config, s->config_size, config));
        if (config->nodes->type != ATVI_JSON_OBJECT)
            return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: no object", s->config_name);
        t->config = atvi_copy_text(t->ctx, config->nodes->text, config->nodes->size);
        if (!t->config) return ATV_ERR_MEMORY;
    }
    if (s->json) {
        ATVI_TRY(atvi_json_parse(t->ctx, s->json_name, s->json, s->json_size, main_json));
        ATVI_TRY(atvi_read_tokenizer(t, s->json_name, main_json->nodes, buf));
    } else {
        ATVI_TRY(atvi_json_parse(t->ctx, s->vocab_name, s->vocab, s->vocab_size, main_json));
        limit += main_json->nodes->count;
        added = atvi_json_get(config->nodes, "added_tokens_decoder");
        if (added && added->type == ATVI_JSON_OBJECT) limit += added->count;
        limit = ATVI_MIN(limit, (int64_t)INT_MAX / 8);
        ATVI_TRY(atvi_read_vocab(t, s->vocab_name, main_json->nodes, limit, buf));
        for (; line && line < s->merges + s->merges_size; line = end + 1) {
            size_t left = s->merges_size - (size_t)(line - s->merges), size;
            end = (const char *)memchr(line, '\n', left);
            if (!end) end = line + left;
            size = (size_t)(end - line);
            if (size > 0 && line[size - 1] == '\r') size--;
            if (size == 0 || (size >= 8 && memcmp(line, "#version", 8) == 0)) continue;
            if (number == INT_MAX / 4) return atvi_fail(t->ctx, ATV_ERR_FORMAT, "%s: too many merges", s->merges_name);
            ATVI_TRY(atvi_read_merge_line(t, s->merges_name, ++number, line, size, buf));
        }
        ATVI_TRY(atvi_read_config(t, config->nodes, limit, buf));
    }
    ATVI_TRY(atvi_config_token(t, config->nodes, "eos_token", buf, &t->eos));
    atvi_find_eos(t);
    return atvi_tokenizer_finish(t);
}

static atv_result atvi_tokenizer_read(atv_ctx *ctx, const atvi_sources *sources, atv_tokenizer **out) {
    atv_tokenizer *t = atvi_tokenizer_new(ctx);
    atvi_json main_json, config;
    atvi_buf buf;
    atv_result result;
    if (!t) return ATV_ERR_MEMORY;
    memset(&main_json, 0, sizeof main_json);
    memset(&config, 0, sizeof config);
    memset(&buf, 0, sizeof buf);
    buf.ctx = ctx;
    result = atvi_read_sources(t, sources, &main_json, &config, &buf);
    atvi_json_free(&main_json);
    atvi_json_free(&config);
    atvi_buf_free(&buf);
    if (result != ATV_OK) { atv_tokenizer_destroy(t); return result; }
    *out = t;
    return ATV_OK;
}

ATVDEF atv_result atv_tokenizer_from_json(atv_ctx *ctx, const char *tokenizer_json, size_t size, atv_tokenizer **out) {
    atvi_sources s;
    memset(&s, 0, sizeof s);
    s.json = tokenizer_json ? tokenizer_json : "";
    s.json_size = tokenizer_json ? size : 0;
    s.json_name = "tokenizer.json";
    return atvi_tokenizer_read(ctx, &s, out);
}

ATVDEF atv_result atv_tokenizer_from_vocab(atv_ctx *ctx, const char *vocab_json, size_t vocab_size, const char *merges_txt,
                                           size_t merges_size, const char *config, size_t config_size, atv_tokenizer **out) {
    atvi_sources s;
    memset(&s, 0, sizeof s);
    s.vocab = vocab_json;
    s.vocab_size = vocab_size;
    s.merges = merges_txt;
    s.merges_size = merges_txt ? merges_size : 0;
    s.config = config;
    s.config_size = config_size;
    s.vocab_name = "vocab.json";
    s.merges_name = "merges.txt";
    s.config_name = "tokenizer_config.json";
    return atvi_tokenizer_read(ctx, &s, out);
}

ATVDEF atv_result atv_tokenizer_load(atv_ctx *ctx, const char *dir, atv_tokenizer **out) {
    static const char *const names[4] = { "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt" };
    const void *data[4] = { NULL, NULL, NULL, NULL };
    size_t sizes[4] = { 0, 0, 0, 0 };
    char *paths[4];
    atv_result result = ATV_OK;
    atvi_sources s;
    int i;
    for (i = 0; i < 4; i++) {
        paths[i] = atvi_path(ctx, dir, names[i]);
        if (!paths[i]) result = ATV_ERR_MEMORY;
        if (result != ATV_OK || (i >= 2 && data[0])) continue;
        if (ctx->desc.io.map(ctx->desc.io.user, paths[i], &data[i], &sizes[i]) != 0) data[i] = NULL;
    }
    if (result == ATV_OK && !data[0] && (!data[2] || !data[3]))
        result = atvi_fail(ctx, ATV_ERR_IO, "%s: neither tokenizer.json nor vocab.json with merges.txt can be read", dir);
    if (result == ATV_OK) {
        s.json = (const char *)data[0];
        s.config = (const char *)data[1];
        s.vocab = (const char *)data[2];
        s.merges = (const char *)data[3];
        s.json_size = sizes[0];
        s.config_size = sizes[1];
        s.vocab_size = sizes[2];
        s.merges_size = sizes[3];
        s.json_name = paths[0];
        s.config_name = paths[1];
        s.vocab_name = paths[2];
        s.merges_name = paths[3];
        result = atvi_tokenizer_read(ctx, &s, out);
    }
    for (i = 0; i < 4; i++) {
        atvi_unmap(ctx, data[i], sizes[i]);
        atvi_free(ctx, paths[i]);
    }
    return result;
}

/* ---- writing ---- */

static const char *atvi_yes(int flag) { return flag ? "true" : "false"; }

static void atvi_buf_added(atvi_buf *buf, const atv_tokenizer *t, int id) {
    int flags = t->tokens[id].flags;
    atvi_buf_text(buf, "\"content\": ");
    atvi_buf_token(buf, t, id);
    atvi_buf_format(buf, ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, \"special\": %s}",
                    atvi_yes(flags & ATVI_TOKEN_WORD), atvi_yes(flags & ATVI_TOKEN_LSTRIP),
                    atvi_yes(flags & ATVI_TOKEN_RSTRIP), atvi_yes(flags & ATVI_TOKEN_NORMALIZED),
                    atvi_yes(flags & ATVI_TOKEN_SPECIAL));
}

static void atvi_buf_vocab(atvi_buf *buf, const atv_tokenizer *t) {
    int i, n = 0;
    atvi_buf_text(buf, "{");
    for (i = 0; i < t->n_tokens; i++) {
        if (!(t->tokens[i].flags & ATVI_TOKEN_MODEL)) continue;
        atvi_buf_text(buf, n++ ? ",\n" : "\n");
        atvi_buf_token(buf, t, i);
        atvi_buf_format(buf, ": %d", i);
    }
    atvi_buf_text(buf, "\n}");
}

/* "a b" without quotes or escapes. */
static void atvi_buf_merge(atvi_buf *buf, const atv_tokenizer *t, int merge, int escape) {
    int side, i;
    for (side = 0; side < 2; side++) {
        const atvi_token *token = &t->tokens[side ? t->merges[merge].right : t->merges[merge].left];
        if (side) atvi_buf_put(buf, " ", 1);
        for (i = 0; i < token->size; i++) {
            char c[4];
            int n = atvi_utf8_put(atvi_byte_to_char((unsigned char)t->pool.data[token->at + (size_t)i]), c);
            if (escape && n == 1 && (c[0] == '"' || c[0] == '\\')) atvi_buf_put(buf, "\\", 1);
            atvi_buf_put(buf, c, (size_t)n);
        }
    }
}

static void atvi_write_tokenizer(atvi_buf *buf, const atv_tokenizer *t) {
    int i, n = 0;
    atvi_buf_text(buf, "{\n\"version\": \"1.0\",\n");
    for (i = 0; i < ATVI_SECTION_COUNT; i++) {
        if (i == ATVI_SECTION_PRE_TOKENIZER) {
            int id;
            atvi_buf_text(buf, "\"added_tokens\": [");
            for (id = 0; id < t->n_tokens; id++)
                if (t->tokens[id].flags & ATVI_TOKEN_ADDED) {
                    atvi_buf_format(buf, "%s{\"id\": %d, ", n++ ? ",\n" : "\n", id);
                    atvi_buf_added(buf, t, id);
                }
            atvi_buf_text(buf, "\n],\n\"normalizer\": null,\n");
        }
        atvi_buf_format(buf, "\"%s\": ", atvi_section_names[i]);
        atvi_buf_text(buf, t->sections[i] ? t->sections[i] : "null");
        atvi_buf_text(buf, ",\n");
    }
    atvi_buf_text(buf, "\"model\": {\n\"type\": \"BPE\",\n\"dropout\": null,\n\"unk_token\": ");
    if (t->unk >= 0) atvi_buf_token(buf, t, t->unk); else atvi_buf_text(buf, "null");
    atvi_buf_format(buf, ",\n\"continuing_subword_prefix\": null,\n\"end_of_word_suffix\": null,\n\"fuse_unk\": %s,\n"
                    "\"byte_fallback\": false,\n\"ignore_merges\": false,\n\"vocab\": ", atvi_yes(t->fuse_unk));
    atvi_buf_vocab(buf, t);
    atvi_buf_text(buf, ",\n\"merges\": [");
    for (i = 0; i < t->n_merges; i++) {
        atvi_buf_text(buf, i ? ",\n\"" : "\n\"");
        atvi_buf_merge(buf, t, i, 1);
        atvi_buf_text(buf, "\"");
    }
    atvi_buf_text(buf, "\n]\n}\n}\n");
}

static void atvi_write_config(atvi_buf *buf, const atv_tokenizer *t) {
    static const struct { const char *role, *usual; } roles[] = {
        { "bos_token", "<s>" }, { "cls_token", "<s>" }, { "eos_token", "</s>" }, { "sep_token", "</s>" },
        { "pad_token", "<pad>" }, { "unk_token", "<unk>" }, { "mask_token", "<mask>" }
    };
    int i, n = 0;
    if (t->config) { atvi_buf_text(buf, t->config); atvi_buf_text(buf, "\n"); return; }
    atvi_buf_format(buf, "{\n\"add_prefix_space\": %s,\n\"added_tokens_decoder\": {", atvi_yes(t->prefix_space));
    for (i = 0; i < t->n_tokens; i++)
        if (t->tokens[i].flags & ATVI_TOKEN_ADDED) {
            atvi_buf_format(buf, "%s\"%d\": {", n++ ? ",\n" : "\n", i);
            atvi_buf_added(buf, t, i);
        }
    atvi_buf_text(buf, "\n},\n");
    for (i = 0; i < (int)(sizeof roles / sizeof *roles); i++) {
        int id = i == 0 && t->before >= 0 ? t->before : i == 2 ? t->eos : i == 5 && t->unk >= 0 ? t->unk
                 : atv_tokenizer_id(t, roles[i].usual);
        if (i == 0 && id < 0) id = t->eos;
        if (id < 0 || !(t->tokens[id].flags & ATVI_TOKEN_SPECIAL)) continue;
        atvi_buf_format(buf, "\"%s\": ", roles[i].role);
        atvi_buf_token(buf, t, id);
        atvi_buf_text(buf, ",\n");
    }
    /* Without model_input_names transformers gives token_type_ids too, whose embeddings its GPT-Neo adds. */
    atvi_buf_text(buf, "\"clean_up_tokenization_spaces\": false,\n\"errors\": \"replace\",\n"
                  "\"model_input_names\": [\"input_ids\", \"attention_mask\"],\n"
                  "\"tokenizer_class\": \"PreTrainedTokenizerFast\"\n}\n");
}

ATVDEF atv_result atv_tokenizer_save(const atv_tokenizer *t, const char *dir) {
    static const char *const names[4] = { "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json" };
    atv_result result = ATV_OK;
    atvi_buf buf;
    int i, m;
    memset(&buf, 0, sizeof buf);
    buf.ctx = t->ctx;
    for (i = 0; i < 4 && result == ATV_OK; i++) {
        char *path = atvi_path(t->ctx, dir, names[i]);
        buf.size = 0;
        if (i == 0) atvi_write_tokenizer(&buf, t);
        else if (i == 1) { atvi_buf_vocab(&buf, t); atvi_buf_text(&buf, "\n"); }
        else if (i == 2) {
            atvi_buf_text(&buf, "#version: 0.2\n");
            for (m = 0; m < t->n_merges; m++) { atvi_buf_merge(&buf, t, m, 0); atvi_buf_text(&buf, "\n"); }
        } else atvi_write_config(&buf, t);
        result = path ? atvi_buf_done(&buf) : ATV_ERR_MEMORY;
        if (result == ATV_OK) result = atvi_write_file(t->ctx, path, buf.data, buf.size);
        atvi_free(t->ctx, path);
    }
    atvi_buf_free(&buf);
    return result;
}

/* ---- training ---- */

/* A word of the text and how often it is there; its symbols: symbols[at .. at+n). */
typedef struct atvi_bpe_word { const char *text; uint64_t hash; int64_t count; size_t at; int32_t size, n; } atvi_bpe_word;

/* Two neighbouring symbols: how often; and while a step's news are gathered, the words it is new in. */
typedef struct atvi_bpe_pair { uint64_t key; int64_t count; size_t at; int32_t n, last; } atvi_bpe_pair;

/* A pair waiting for its turn, with the count of when it was queued and the words it was found in: places[at .. at+n).
   A pair that comes up anew is queued anew, with the new words alone. */
typedef struct atvi_bpe_entry { uint64_t key; int64_t count; size_t at; int32_t n, pair; } atvi_bpe_entry;

typedef struct atvi_bpe_news { int32_t pair, word; } atvi_bpe_news;

typedef struct atvi_bpe {
    atv_ctx *ctx;
    atvi_bpe_word *words;
    int32_t *index;                                         /* [index_room] word + 1 by hash */
    int32_t *symbols;
    atvi_bpe_pair *pairs;
    atvi_table pair_of;
    atvi_bpe_entry *heap;
    atvi_buf places, news;                                  /* of int32_t, of atvi_bpe_news */
    size_t index_room;
    int n_words, word_room, n_pairs, pair_room, n_heap, heap_room;
} atvi_bpe;

static atv_result atvi_bpe_count(atvi_bpe *b, const char *text, size_t size) {
    uint64_t hash = atvi_hash(text, size);
    atvi_bpe_word *word;
    size_t i;
    int w;
    if (size > INT_MAX) return atvi_fail(b->ctx, ATV_ERR_FULL, "a word of %lu bytes", (unsigned long)size);
    if ((size_t)b->n_words * 2 >= b->index_room) {
        size_t room = b->index_room ? b->index_room * 2 : 4096;
        int32_t *index = (int32_t *)atvi_alloc(b->ctx, atvi_size(room, sizeof *index, 0));
        if (!index) return ATV_ERR_MEMORY;
        for (w = 0; w < b->n_words; w++) {
            for (i = b->words[w].hash & (room - 1); index[i] != 0; i = (i + 1) & (room - 1)) {}
            index[i] = w + 1;
        }
        atvi_free(b->ctx, b->index);
        b->index = index;
        b->index_room = room;
    }
    for (i = hash & (b->index_room - 1); b->index[i] != 0; i = (i + 1) & (b->index_room - 1)) {
        word = &b->words[b->index[i] - 1];
        if (word->hash != hash || word->size != (int32_t)size || memcmp(word->text, text, size) != 0) continue;
        word->count++;
        return ATV_OK;
    }
    word = (atvi_bpe_word *)atvi_grow(b->ctx, b->words, b->n_words, &b->word_room, sizeof *word);
    if (!word) return ATV_ERR_MEMORY;
    b->words = word;
    word = &b->words[b->n_words++];
    word->text = text;
    word->hash = hash;
    word->count = 1;
    word->size = (int32_t)size;
    b->index[i] = b->n_words;
    return ATV_OK;
}

/* Documents end at the separator; a newline on either side of it belongs to it. */
static atv_result atvi_bpe_count_text(atvi_bpe *b, const atv_tokenizer *t, const char *text, size_t size) {
    static const char separator[] = "<|endoftext|>";
    const size_t n = sizeof separator - 1;
    size_t at = 0, end, next, stop;
    while (at < size) {
        for (end = at; end < size; end++) {
            const char *p = (const char *)memchr(text + end, '<', size - end);
            end = p ? (size_t)(p - text) : size;
            if (size - end < n) { end = size; break; }
            if (memcmp(text + end, separator, n) == 0) break;
        }
        next = end < size ? end + n : size;
        stop = end < size && end > at && text[end - 1] == '\n' ? end - 1 : end;
        for (; at < stop; at = end) {
            end = atvi_word_end(t, text, at, stop);
            ATVI_TRY(atvi_bpe_count(b, text + at, end - at));
        }
        at = next < size && text[next] == '\n' ? next + 1 : next;
    }
    return ATV_OK;
}

/* The pair comes up `change` times more (1 or -1) in a word. */
static atv_result atvi_bpe_note(atvi_bpe *b, int32_t left, int32_t right, int change, int word) {
    int32_t *slot = atvi_table_put(b->ctx, &b->pair_of, ATVI_PAIR(left, right));
    atvi_bpe_pair *pair;
    if (!slot) return ATV_ERR_MEMORY;
    if (*slot == 0) {
        pair = (atvi_bpe_pair *)atvi_grow(b->ctx, b->pairs, b->n_pairs, &b->pair_room, sizeof *pair);
        if (!pair) return ATV_ERR_MEMORY;
        b->pairs = pair;
        b->pairs[b->n_pairs].key = ATVI_PAIR(left, right);
        *slot = ++b->n_pairs;
    }
    pair = &b->pairs[*slot - 1];
    pair->count += change * b->words[word].count;
    if (change > 0 && pair->last != word + 1) {
        atvi_bpe_news news;
        news.pair = *slot - 1;
        news.word = word;
        pair->last = word + 1;
        pair->n++;
        atvi_buf_put(&b->news, &news, sizeof news);
    }
    return atvi_buf_done(&b->news);
}

static int atvi_bpe_before(const atvi_bpe_entry *a, const atvi_bpe_entry *b) {
    return a->count != b->count ? a->count > b->count : a->key < b->key;
}

static atv_result atvi_bpe_push(atvi_bpe *b, atvi_bpe_entry entry) {
    int i = b->n_heap;
    atvi_bpe_entry *heap = (atvi_bpe_entry *)atvi_grow(b->ctx, b->heap, i, &b->heap_room, sizeof *heap);
    if (!heap) return ATV_ERR_MEMORY;
    b->heap = heap;
    b->n_heap++;
    for (; i > 0 && atvi_bpe_before(&entry, &heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = entry;
    return ATV_OK;
}

static atvi_bpe_entry atvi_bpe_pop(atvi_bpe *b) {
    atvi_bpe_entry top = b->heap[0], last = b->heap[--b->n_heap];
    int i = 0, child;
    while ((child = 2 * i + 1) < b->n_heap) {
        if (child + 1 < b->n_heap && atvi_bpe_before(&b->heap[child + 1], &b->heap[child])) child++;
        if (!atvi_bpe_before(&b->heap[child], &last)) break;
        b->heap[i] = b->heap[child];
        i = child;
    }
    b->heap[i] = last;
    return top;
}

/* Queues the pairs that came up since the last time, each with its words. */
static atv_result atvi_bpe_queue(atvi_bpe *b) {
    const atvi_bpe_news *news = (const atvi_bpe_news *)(const void *)b->news.data;
    size_t n = b->news.size / sizeof *news, i, at = b->places.size / sizeof(int32_t);
    for (i = 0; i < n; i++) atvi_buf_put(&b->places, &news[i].word, sizeof(int32_t));      /* room for all of them */
    ATVI_TRY(atvi_buf_done(&b->places));
    for (i = 0; i < n; i++) {
        atvi_bpe_pair *pair = &b->pairs[news[i].pair];
        if (pair->last == 0) continue;
        pair->at = at;
        at += (size_t)pair->n;
        pair->n = pair->last = 0;
    }
    for (i = 0; i < n; i++) {
        atvi_bpe_pair *pair = &b->pairs[news[i].pair];
        ((int32_t *)(void *)b->places.data)[pair->at + (size_t)pair->n++] = news[i].word;
    }
    for (i = 0; i < n; i++) {
        atvi_bpe_pair *pair = &b->pairs[news[i].pair];
        atvi_bpe_entry entry;
        if (pair->n == 0) continue;
        entry.key = pair->key;
        entry.count = pair->count;
        entry.at = pair->at;
        entry.n = pair->n;
        entry.pair = news[i].pair;
        pair->n = 0;
        if (entry.count > 0) ATVI_TRY(atvi_bpe_push(b, entry));
    }
    b->news.size = 0;
    return ATV_OK;
}

/* Joins left and right to `product` wherever they meet in a word. */
static atv_result atvi_bpe_merge(atvi_bpe *b, int w, int32_t left, int32_t right, int32_t product) {
    atvi_bpe_word *word = &b->words[w];
    int32_t *s = b->symbols + word->at;
    int i, n = 0;
    for (i = 0; i < word->n; i++) {
        if (s[i] != left || i + 1 == word->n || s[i + 1] != right) { s[n++] = s[i]; continue; }
        if (n > 0) {
            ATVI_TRY(atvi_bpe_note(b, s[n - 1], left, -1, w));
            ATVI_TRY(atvi_bpe_note(b, s[n - 1], product, 1, w));
        }
        if (i + 2 < word->n) {
            ATVI_TRY(atvi_bpe_note(b, right, s[i + 2], -1, w));
            ATVI_TRY(atvi_bpe_note(b, product, s[i + 2], 1, w));
        }
        s[n++] = product;
        i++;
    }
    word->n = n;
    return ATV_OK;
}

static atv_result atvi_bpe_run(atvi_bpe *b, atv_tokenizer *t, int vocab_size, int min_frequency, atvi_buf *joined) {
    int32_t byte_id[256];
    size_t total = 0;
    int i, w, n_tokens = t->n_tokens;
    for (i = 0; i < 256; i++) {
        char byte = (char)i;
        byte_id[i] = atvi_token_find(t, &byte, 1, 0);
    }
    for (w = 0; w < b->n_words; w++) {
        b->words[w].at = total;
        b->words[w].n = b->words[w].size;
        total += (size_t)b->words[w].size;
    }
    b->symbols = (int32_t *)atvi_alloc(b->ctx, atvi_size(total, sizeof *b->symbols, 0));
    if (!b->symbols) return ATV_ERR_MEMORY;
    for (w = 0; w < b->n_words; w++) {
        int32_t *s = b->symbols + b->words[w].at;
        for (i = 0; i < b->words[w].n; i++) s[i] = byte_id[(unsigned char)b->words[w].text[i]];
        for (i = 1; i < b->words[w].n; i++) ATVI_TRY(atvi_bpe_note(b, s[i - 1], s[i], 1, w));
    }
    ATVI_TRY(atvi_bpe_queue(b));
    while (n_tokens < vocab_size && b->n_heap > 0) {
        atvi_bpe_entry top = atvi_bpe_pop(b);
        int32_t left = (int32_t)(top.key >> 32), right = (int32_t)(top.key & 0xFFFFFFFFu), product;
        const atvi_token *l = &t->tokens[left], *r = &t->tokens[right];
        if (top.count != b->pairs[top.pair].count) {        /* it has become rarer since it was queued */
            top.count = b->pairs[top.pair].count;
            ATVI_TRY(atvi_bpe_push(b, top));
            continue;
        }
        if (top.count < min_frequency) break;
        joined->size = 0;
        atvi_buf_put(joined, t->pool.data + l->at, (size_t)l->size);
        atvi_buf_put(joined, t->pool.data + r->at, (size_t)r->size);
        ATVI_TRY(atvi_buf_done(joined));
        product = atvi_token_find(t, joined->data, (int)joined->size, 0);     /* there when it was made of other parts */
        if (product < 0) {
            product = n_tokens++;
            ATVI_TRY(atvi_token_add(t, product, joined->data, (int)joined->size, ATVI_TOKEN_MODEL));
        }
        ATVI_TRY(atvi_merge_add(t, left, right, product));
        for (i = 0; i < top.n; i++)
            ATVI_TRY(atvi_bpe_merge(b, ((const int32_t *)(const void *)b->places.data)[top.at + (size_t)i], left, right,
                                    product));
        ATVI_TRY(atvi_bpe_queue(b));
    }
    return ATV_OK;
}

/* Special tokens, then the bytes in the order of the characters that stand for them. */
static atv_result atvi_bpe_alphabet(atv_tokenizer *t, const char *const *special, int n_special, atvi_buf *buf) {
    uint32_t c;
    int i, n = 0;
    for (i = 0; i < n_special; i++) {
        const char *text = special[i];
        size_t size = text ? strlen(text) : 0, at;
        int flags = ATVI_TOKEN_MODEL | ATVI_TOKEN_SPECIAL, length;
        if (size == 0 || size > 1000)
            return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "special_tokens[%d] is empty or too long", i);
        for (at = 0; at < size; at += (size_t)length) {
            length = atvi_utf8(text + at, size - at, &c);
            if (length < 0) return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "special_tokens[%d] is not UTF-8", i);
        }
        buf->size = 0;
        atvi_buf_put(buf, text, size + 1);
        ATVI_TRY(atvi_buf_done(buf));
        if (!atvi_plain(text, (int)size) && atvi_written_to_bytes(buf->data, (int)size) >= 0)
            return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "special_tokens[%d]=\"%s\" could be taken for bytes", i, text);
        if (atv_tokenizer_id(t, text) >= 0)
            return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "special_tokens[%d]=\"%s\" is there twice", i, text);
        flags |= strcmp(text, "<mask>") == 0 ? ATVI_TOKEN_LSTRIP : ATVI_TOKEN_NORMALIZED;  /* as RoBERTa's */
        ATVI_TRY(atvi_add_added(t, "special_tokens", text, (int)size, n++, INT_MAX / 8, flags, buf));
    }
    for (c = 0; c <= 323; c++) {
        int b = atvi_char_to_byte(c);
        char byte = (char)b;
        if (b >= 0 && atvi_token_find(t, &byte, 1, 0) < 0) ATVI_TRY(atvi_token_add(t, n++, &byte, 1, ATVI_TOKEN_MODEL));
    }
    return ATV_OK;
}

static atv_result atvi_bpe_train(atvi_bpe *b, atv_tokenizer *t, const atv_tokenizer_train_desc *desc, const char *text,
                                 size_t size, atvi_buf *buf) {
    static const char *const usual[] = { "<pad>", "<s>", "</s>", "<unk>", "<mask>" };
    const char *const *special = desc->special_tokens ? desc->special_tokens : usual;
    int n_special = desc->special_tokens ? desc->n_special_tokens : 5;
    if (n_special < 0) return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "n_special_tokens=%d is negative", n_special);
    if (desc->min_frequency < 0)
        return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "min_frequency=%d is negative", desc->min_frequency);
    if (desc->vocab_size > INT_MAX / 8)
        return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "vocab_size=%d is too large", desc->vocab_size);
    if (desc->vocab_size - 256 < n_special)
        return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "vocab_size=%d has no room for %d special tokens and 256 bytes",
                         desc->vocab_size, n_special);
    ATVI_TRY(atvi_bpe_alphabet(t, special, n_special, buf));
    ATVI_TRY(atvi_bpe_count_text(b, t, text, text ? size : 0));
    ATVI_TRY(atvi_bpe_run(b, t, desc->vocab_size, desc->min_frequency ? desc->min_frequency : 2, buf));
    t->before = atv_tokenizer_id(t, "<s>");
    t->after = atv_tokenizer_id(t, "</s>");
    if (!atv_tokenizer_is_special(t, t->before) || !atv_tokenizer_is_special(t, t->after)) t->before = t->after = -1;
    else {
        buf->size = 0;
        atvi_buf_format(buf, "{\"type\": \"RobertaProcessing\", \"sep\": [\"</s>\", %d], \"cls\": [\"<s>\", %d], "
                        "\"trim_offsets\": true, \"add_prefix_space\": false}", t->after, t->before);
        ATVI_TRY(atvi_set_section(t, ATVI_SECTION_POST_PROCESSOR, buf));
    }
    ATVI_TRY(atvi_byte_level_sections(t, buf));
    atvi_find_eos(t);
    return atvi_tokenizer_finish(t);
}

ATVDEF atv_result atv_tokenizer_train(atv_ctx *ctx, const atv_tokenizer_train_desc *desc, const char *text, size_t size,
                                      atv_tokenizer **out) {
    atv_tokenizer *t = atvi_tokenizer_new(ctx);
    atvi_bpe b;
    atvi_buf buf;
    atv_result result;
    if (!t) return ATV_ERR_MEMORY;
    memset(&b, 0, sizeof b);
    memset(&buf, 0, sizeof buf);
    b.ctx = b.places.ctx = b.news.ctx = buf.ctx = ctx;
    result = atvi_bpe_train(&b, t, desc, text, size, &buf);
    atvi_free(ctx, b.words);
    atvi_free(ctx, b.index);
    atvi_free(ctx, b.symbols);
    atvi_free(ctx, b.pairs);
    atvi_table_free(ctx, &b.pair_of);
    atvi_free(ctx, b.heap);
    atvi_buf_free(&b.places);
    atvi_buf_free(&b.news);
    atvi_buf_free(&buf);
    if (result != ATV_OK) { atv_tokenizer_destroy(t); return result; }
    *out = t;
    return ATV_OK;
}
/* ==== >>eval ====================================================================================================== */

/* Documents from *doc on, whose tokens begin at *at, as one batch in the work's stage: as many as fit, at least one. */
static atv_batch atvi_stage(atv_work *w, const atv_data *data, int *doc, int64_t *at) {
    const int longest = ATVI_MIN(w->desc.max_tokens, w->model->config.max_position_embeddings);
    atv_batch batch;
    int64_t n = 0;
    memset(&batch, 0, sizeof batch);
    batch.ids = w->stage_ids;
    batch.lengths = w->stage_lengths;
    if (data->labels) batch.labels = data->labels + *doc;
    while (*doc < data->n_docs && batch.n_seq < w->desc.max_seqs) {
        const int length = ATVI_MIN(data->lengths[*doc], longest);
        if (n + length > w->desc.max_tokens) break;
        memcpy(w->stage_ids + n, data->ids + *at, (size_t)length * sizeof *w->stage_ids);
        w->stage_lengths[batch.n_seq++] = length;
        n += length;
        *at += data->lengths[(*doc)++];
    }
    return batch;
}

ATVDEF atv_result atv_evaluate(atv_work *work, const atv_data *data, atv_loss *out) {
    atv_loss total = {0, 0}, part;
    int64_t at;
    int doc = 0;
    ATVI_TRY(atvi_check_data(work->model, data, &at));
    for (at = 0; doc < data->n_docs;) {
        atv_batch batch = atvi_stage(work, data, &doc, &at);
        ATVI_TRY(atv_forward_loss(work, &batch, NULL, &part));
        total.sum += part.sum;
        total.tokens += part.tokens;
    }
    *out = total;
    return ATV_OK;
}

ATVDEF atv_result atv_classify(atv_work *work, const atv_data *data, int32_t *predicted, float *logprobs) {
    const int64_t K = work->model->config.num_labels;
    atv_data texts = *data;
    int64_t at, N = 0, b, n, r, k;
    int doc = 0;
    if (K == 0)
        return atvi_fail(work->ctx, ATV_ERR_ARGUMENT, "num_labels=0: this is a language model, which has no labels");
    texts.labels = NULL;
    ATVI_TRY(atvi_check_data(work->model, &texts, &at));
    for (at = 0; doc < texts.n_docs;) {
        const int64_t first = doc;
        atv_batch batch = atvi_stage(work, &texts, &doc, &at);
        ATVI_TRY(atvi_batch(work, &batch, &N));
        atvi_forward(work, &batch, N);
        for (b = 0; b < batch.n_seq; b += n) {
            n = ATVI_MIN(work->loss_rows, batch.n_seq - b);
            atvi_logits(work, b, NULL, n, work->logits);
            for (r = 0; r < n; r++) {
                const atv_real *logits = work->logits + r * K;
                const int64_t out = first + b + r;
                const double lse = logprobs ? work->ctx->kernels->logsumexp(K, logits) : 0;
                int32_t best = 0;
                for (k = 1; k < K; k++) if (logits[k] > logits[best]) best = (int32_t)k;
                predicted[out] = best;
                for (k = 0; logprobs && k < K; k++) logprobs[out * K + k] = (float)((double)logits[k] - lse);
            }
        }
    }
    return ATV_OK;
}

ATVDEF void atv_interval(int64_t correct, int64_t n, double *low, double *high) {
    const double z = 1.959963984540054, zz = z * z;         /* the normal's 97.5 % point */
    const double count = (double)n, p = n > 0 ? (double)correct / count : 0;
    const double half = z * sqrt(p * (1 - p) * count + zz / 4);
    *low = n > 0 ? ATVI_MAX(0.0, (p * count + zz / 2 - half) / (count + zz)) : 0;
    *high = n > 0 ? ATVI_MIN(1.0, (p * count + zz / 2 + half) / (count + zz)) : 1;
}

/* The lines of a text that are not blank. */
typedef struct atvi_lines {
    const char *text;
    size_t size, next;
    const char *at;                 /* the line at hand */
    size_t length;
    int64_t line;                   /* counted from 1 */
} atvi_lines;

static int atvi_next_line(atvi_lines *l) {
    while (l->next < l->size) {
        const char *end = (const char *)memchr(l->text + l->next, '\n', l->size - l->next);
        size_t i = 0;
        l->at = l->text + l->next;
        l->length = end ? (size_t)(end - l->at) : l->size - l->next;
        l->next += l->length + 1;
        l->line++;
        while (i < l->length && (l->at[i] == ' ' || l->at[i] == '\t' || l->at[i] == '\r')) i++;
        if (i < l->length) return 1;
    }
    return 0;
}

/* A line's JSON object; errors name the line and the column. */
static atv_result atvi_line_parse(atv_ctx *ctx, const atvi_lines *l, atvi_json *out) {
    static const char whole[] = "each line is to be one object, {..}";
    const size_t end = l->length - (l->at[l->length - 1] == '\r');
    const int closed = l->at[end - 1] == '}';
    atv_result r = atvi_json_parse(ctx, "the object", l->at, l->length, out);
    char why[512];
    if (r == ATV_ERR_MEMORY || (r == ATV_OK && out->nodes->type == ATVI_JSON_OBJECT)) return r;
    if (r == ATV_OK) atvi_json_free(out);
    if (l->at[strspn(l->at, " \t")] == '[')                /* the line is not blank: this ends in it */
        return atvi_fail(ctx, ATV_ERR_FORMAT, "line %ld: an array begins here, but %s", (long)l->line, whole);
    if (r == ATV_OK) return atvi_fail(ctx, ATV_ERR_FORMAT, "line %ld: no object, but %s", (long)l->line, whole);
    snprintf(why, sizeof why, "%s", strstr(ctx->error, "column"));          /* its own line is always the first */
    return atvi_fail(ctx, r, "line %ld %s%s%s", (long)l->line, why, closed ? "" : "; ", closed ? "" : whole);
}

/* A pair whose sentences wait: tokens of each, and how many first ones they share; UID and linguistics_term in the text. */
typedef struct atvi_pair { int64_t line; int good, bad, shared; atvi_jnode uid, term; } atvi_pair;

/* Sentences wait in the work's stage, each pair's two side by side, and are scored when the next pair does not fit. */
typedef struct atvi_pairs {
    atv_work *work;
    atv_tokenizer *tokenizer;
    atv_pairs_desc desc;
    int64_t n;
    int n_pairs;
    atvi_pair *pairs;               /* [max_seqs / 2] */
    char *sentences, *names;        /* of the line at hand; of the pair that is told */
    atv_pairs_result result;
} atvi_pairs;

/* A string with a final 0 at *to, which moves behind it; NULL when there is none. */
static const char *atvi_pair_name(const atvi_jnode *node, char **to) {
    const char *name = *to;
    if (node->type != ATVI_JSON_STRING) return NULL;
    *to += atvi_json_unescape(node, *to, node->size);       /* never longer than its source */
    *(*to)++ = 0;
    return name;
}

static atv_result atvi_pairs_flush(atvi_pairs *p) {
    atv_batch batch;
    atv_loss loss;
    const float *good = p->work->stage_logprobs, *bad;
    unsigned failures;
    int i, t;
    memset(&batch, 0, sizeof batch);
    batch.ids = p->work->stage_ids;
    batch.lengths = p->work->stage_lengths;
    batch.n_seq = 2 * p->n_pairs;
    batch.targets = p->work->targets;                       /* where they would be copied to */
    ATVI_TRY(atv_forward_loss(p->work, &batch, p->work->stage_logprobs, &loss));
    for (i = 0; i < p->n_pairs; i++, good = bad + p->pairs[i - 1].bad) {
        const atvi_pair *waiting = &p->pairs[i];
        char *names = p->names;
        atv_pair pair;
        bad = good + waiting->good;
        memset(&pair, 0, sizeof pair);
        for (t = 0; t < waiting->good; t++) pair.good += (double)good[t];
        for (t = 0; t < waiting->bad; t++) pair.bad += (double)(t < waiting->shared ? good : bad)[t];
        pair.correct = pair.good >= pair.bad;
        p->result.pairs++;
        p->result.correct += pair.correct;
        if (!p->desc.on_pair) continue;
        pair.line = waiting->line;
        pair.uid = atvi_pair_name(&waiting->uid, &names);
        pair.linguistics_term = atvi_pair_name(&waiting->term, &names);
        failures = p->work->ctx->failures;
        if (p->desc.on_pair(p->desc.user, &pair))
            return atvi_stopped(p->work->ctx, failures, "on_pair", "line", pair.line);
    }
    p->n = p->n_pairs = 0;
    return ATV_OK;
}

/* Lays a sentence out at position `at`: the start token and all tokens but the last, targets all tokens. *n is their
   number, -1 when they do not fit behind what waits. */
static atv_result atvi_pairs_stage(atvi_pairs *p, const char *sentence, size_t size, int64_t line, int64_t at, int *n) {
    atv_work *w = p->work;
    const int64_t room = w->desc.max_tokens - at;
    size_t count = 0;
    *n = -1;
    if (room < 1) return ATV_OK;
    w->stage_ids[at] = p->desc.start_token;
    ATVI_TRY(atv_tokenizer_encode(p->tokenizer, sentence, size, w->stage_ids + at + 1, (size_t)room - 1, &count));
    if (count + 1 > (size_t)w->desc.max_tokens / 2 || count > (size_t)w->model->config.max_position_embeddings)
        return atvi_fail(w->ctx, ATV_ERR_FULL,
                         "line %ld: a sentence of %lu tokens is longer than max_position_embeddings=%d, or half of "
                         "max_tokens=%d", (long)line, (unsigned long)count, w->model->config.max_position_embeddings,
                         w->desc.max_tokens);
    if (count > (size_t)room - 1) return ATV_OK;
    memcpy(w->targets + at, w->stage_ids + at + 1, count * sizeof *w->targets);
    *n = (int)count;
    return ATV_OK;
}

/* The sentences' first tokens that are equal have equal log p: the second's are not computed. */
static atv_result atvi_pairs_add(atvi_pairs *p, const atvi_pair *pair, const char *const at[2], const size_t size[2]) {
    atv_work *w = p->work;
    int attempt;
    for (attempt = 0; attempt < 2; attempt++) {
        atvi_pair *to = &p->pairs[p->n_pairs];
        int good = -1, bad = -1;
        if (p->n_pairs < w->desc.max_seqs / 2) {
            ATVI_TRY(atvi_pairs_stage(p, at[0], size[0], pair->line, p->n, &good));
            if (good >= 0) ATVI_TRY(atvi_pairs_stage(p, at[1], size[1], pair->line, p->n + good, &bad));
        }
        if (good >= 0 && bad >= 0) {
            int32_t *first = w->targets + p->n, *second = first + good;
            *to = *pair;
            to->good = good;
            to->bad = bad;
            for (; to->shared < good && to->shared < bad && first[to->shared] == second[to->shared]; to->shared++)
                second[to->shared] = -100;
            w->stage_lengths[2 * p->n_pairs] = good;
            w->stage_lengths[2 * p->n_pairs++ + 1] = bad;
            p->n += good + bad;
            return ATV_OK;
        }
        ATVI_TRY(atvi_pairs_flush(p));
    }
    return atvi_fail(w->ctx, ATV_ERR_FULL, "line %ld: max_seqs=%d has no room for a pair", (long)pair->line,
                     w->desc.max_seqs);
}

static atv_result atvi_pairs_line(atvi_pairs *p, const atvi_lines *l) {
    static const char *const keys[4] = {"sentence_good", "sentence_bad", "UID", "linguistics_term"};
    const int space = !p->desc.no_space;
    const atvi_jnode *node[4];
    const char *at[2];
    char *to = p->sentences;
    size_t size[2];
    atvi_pair pair;
    atvi_json json;
    atv_result r = ATV_OK;
    int i;
    memset(&pair, 0, sizeof pair);
    pair.line = l->line;
    ATVI_TRY(atvi_line_parse(p->work->ctx, l, &json));
    for (i = 0; r == ATV_OK && i < 4; i++) {
        node[i] = atvi_json_get(json.nodes, keys[i]);
        if (node[i] ? node[i]->type != ATVI_JSON_STRING : i < 2)
            r = atvi_fail(p->work->ctx, ATV_ERR_FORMAT, "line %ld: %s %s", (long)l->line, node[i] ? "not a string:" : "no",
                          keys[i]);
    }
    if (r == ATV_OK) {
        for (i = 0; i < 2; to += size[i++]) {
            at[i] = to;
            if (space) *to = ' ';
            size[i] = (size_t)space + atvi_json_unescape(node[i], to + space, node[i]->size);
        }
        if (node[2]) pair.uid = *node[2];
        if (node[3]) pair.term = *node[3];
    }
    atvi_json_free(&json);
    return r == ATV_OK ? atvi_pairs_add(p, &pair, at, size) : r;
}

ATVDEF atv_result atv_eval_pairs(atv_work *work, atv_tokenizer *tokenizer, const char *jsonl, size_t size,
                                 const atv_pairs_desc *desc, atv_pairs_result *out) {
    atv_ctx *ctx = work->ctx;
    atvi_pairs p;
    atvi_lines l = {jsonl, size, 0, NULL, 0, 0}, longest = l;
    atvi_arena arena = {NULL, 0};
    atv_result r = ATV_OK;
    size_t room = 0;
    ATVI_TRY(atvi_check_language(work->model, "atv_eval_pairs"));
    memset(&p, 0, sizeof p);
    p.work = work;
    p.tokenizer = tokenizer;
    if (desc) p.desc = *desc;
    if (!p.desc.has_start_token) p.desc.start_token = atv_tokenizer_eos(tokenizer);
    if (p.desc.start_token < 0 || p.desc.start_token >= work->model->config.vocab_size)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT,
            "start_token=%d is not 0..vocab_size-1=%d: the tokenizer has no end token, or the model another vocabulary",
            p.desc.start_token, work->model->config.vocab_size - 1);
    while (atvi_next_line(&longest)) room = ATVI_MAX(room, longest.length);
    for (;;) {                                              /* first it only counts */
        p.pairs = (atvi_pair *)atvi_take(&arena, (size_t)work->desc.max_seqs / 2, sizeof *p.pairs);
        p.sentences = (char *)atvi_take(&arena, 1, atvi_size(room, 1, 2));         /* two strings of a line and 2 bytes */
        p.names = (char *)atvi_take(&arena, 1, atvi_size(room, 1, 2));
        if (arena.base) break;
        arena.base = (char *)atvi_alloc(ctx, arena.used);
        if (!arena.base) return ATV_ERR_MEMORY;
        arena.used = 0;
    }
    while (r == ATV_OK && atvi_next_line(&l)) r = atvi_pairs_line(&p, &l);
    if (r == ATV_OK) r = atvi_pairs_flush(&p);
    atvi_free(ctx, arena.base);
    if (r == ATV_OK) *out = p.result;
    return r;
}

/* ---- tasks ---- */

/* Which fields make which texts, in the order in which they are tried. A is before + first + between + second + after, or
   just the first; the last field is B. */
typedef struct atvi_task_form { const char *name, *field[3], *piece[3]; int in_first; } atvi_task_form;
static const atvi_task_form atvi_task_forms[] = {
    {"sentence1 sentence2", {"sentence1", "sentence2", NULL}, {NULL, NULL, NULL}, 1},
    {"question1 question2", {"question1", "question2", NULL}, {NULL, NULL, NULL}, 1},
    {"premise hypothesis", {"premise", "hypothesis", NULL}, {NULL, NULL, NULL}, 1},
    {"question passage", {"question", "passage", NULL}, {NULL, NULL, NULL}, 1},
    {"question sentence", {"question", "sentence", NULL}, {NULL, NULL, NULL}, 1},
    {"question answer paragraph", {"question", "answer", "paragraph"}, {"Question: ", " Answer: ", ""}, 2},
    {"span2_text span1_text text", {"span2_text", "span1_text", "text"},
     {"Does \"", "\" refer to \"", "\" in this passage?"}, 2},
    {"sentence", {"sentence", NULL, NULL}, {NULL, NULL, NULL}, 1},
    {"text", {"text", NULL, NULL}, {NULL, NULL, NULL}, 1}
};
enum {
    ATVI_TASK_PIECES = 64,                                  /* bytes: more than any form's pieces have together */
    ATVI_TASK_LABELS = 1024                                 /* that a file may have; they are looked up one by one */
};

struct atv_task {
    atv_ctx *ctx;
    const atvi_task_form *form;
    atv_data data;
    const char **labels;            /* [n_labels] in names */
    int n_labels;
    atvi_buf ids, lengths, numbers; /* of the documents: int32_t, int, int32_t */
    atvi_buf names;
};

/* A label of the file: its place among the names, its number if it is one, its rank in the end. */
typedef struct atvi_label { size_t name; int64_t value; int32_t rank; } atvi_label;

typedef struct atvi_task_reader {
    atv_task *task;
    atv_tokenizer *tokenizer;
    atv_task_desc desc;
    int64_t line;
    atvi_json_type type;            /* of the labels so far: ATVI_JSON_NULL, _TRUE (or false), _NUMBER, _STRING */
    atvi_buf labels;                /* atvi_label */
    char *text;                     /* of a line: its texts, */
    int32_t *ids;                   /* and their tokens */
    size_t room;
} atvi_task_reader;

static int atvi_label_count(const atvi_task_reader *r) { return (int)(r->labels.size / sizeof(atvi_label)); }

/* The label's text into `to`, which has room; 0 when it is none. */
static int atvi_label_text(const atvi_jnode *node, char *to, size_t *size, int64_t *value, atvi_json_type *type) {
    *type = node->type == ATVI_JSON_FALSE ? ATVI_JSON_TRUE : node->type;
    *value = 0;
    if (*type == ATVI_JSON_TRUE) {
        *value = node->type == ATVI_JSON_TRUE;
        *size = (size_t)snprintf(to, ATVI_TASK_PIECES, "%s", *value ? "true" : "false");
    } else if (*type == ATVI_JSON_NUMBER) {
        if (!atvi_json_int(node, value)) return 0;
        *size = (size_t)snprintf(to, ATVI_TASK_PIECES, "%lld", (long long)*value);
    } else if (*type == ATVI_JSON_STRING) {
        *size = atvi_json_unescape(node, to, node->size);
        if (*size == 0 || memchr(to, 0, *size)) return 0;   /* a label is a name, which ends with a 0 */
    } else return 0;
    to[*size] = 0;
    return 1;
}

static const char *atvi_label_name(const atvi_task_reader *r, int i) {
    return r->task->names.data + ((const atvi_label *)(const void *)r->labels.data)[i].name;
}

/* The label's place among those given, or those so far, to which it is added. */
static atv_result atvi_task_label(atvi_task_reader *r, const atvi_jnode *node, int32_t *out) {
    atv_ctx *ctx = r->task->ctx;
    atvi_json_type type;
    atvi_label label;
    size_t size = 0;
    int i;
    memset(&label, 0, sizeof label);
    if (!node) return atvi_fail(ctx, ATV_ERR_FORMAT, "line %ld: no label", (long)r->line);
    if (!atvi_label_text(node, r->text, &size, &label.value, &type))
        return atvi_fail(ctx, type == ATVI_JSON_NUMBER ? ATV_ERR_UNSUPPORTED : ATV_ERR_FORMAT, type == ATVI_JSON_NUMBER ?
                         "line %ld: label=%.*s is no whole number: regression is not done here" :
                         type != ATVI_JSON_STRING ? "line %ld: label=%.*s is no number, no string, not true or false" :
                         node->size > 0 ? "line %ld: label=\"%.*s\" has a character 0" :
                         "line %ld: label=\"%.*s\" is empty", (long)r->line, (int)ATVI_MIN(node->size, 60), node->text);
    if (type == ATVI_JSON_NUMBER && label.value == -1) { *out = -100; return ATV_OK; }
    for (i = 0; r->desc.labels && i < r->desc.n_labels; i++)
        if (strcmp(r->desc.labels[i], r->text) == 0) { *out = i; return ATV_OK; }
    if (r->desc.labels)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "line %ld: label=%.60s is none of the %d from %.60s to %.60s", (long)r->line,
                         r->text, r->desc.n_labels, r->desc.labels[0], r->desc.labels[r->desc.n_labels - 1]);
    if (r->type != ATVI_JSON_NULL && r->type != type)
        return atvi_fail(ctx, ATV_ERR_FORMAT, "line %ld: label=%.60s is of another type than the labels before",
                         (long)r->line, r->text);
    r->type = type;
    for (i = 0; i < atvi_label_count(r); i++)
        if (strcmp(atvi_label_name(r, i), r->text) == 0) { *out = i; return ATV_OK; }
    if (i == ATVI_TASK_LABELS)
        return atvi_fail(ctx, ATV_ERR_UNSUPPORTED, "line %ld: label=%.60s is one more than the %d that are done here",
                         (long)r->line, r->text, i);
    label.name = r->task->names.size;
    atvi_buf_put(&r->task->names, r->text, size + 1);
    atvi_buf_put(&r->labels, &label, sizeof label);
    *out = i;
    return r->task->names.failed || r->labels.failed ? ATV_ERR_MEMORY : ATV_OK;
}

/* The fields' strings as A and B, one after the other in `text`. */
static atv_result atvi_task_texts(atvi_task_reader *r, const atvi_jnode *object, size_t size[2]) {
    const atvi_task_form *form = r->task->form;
    char *to = r->text;
    int i, b;
    size[0] = size[1] = 0;
    for (i = 0; i < 3 && form->field[i]; i++) {
        const atvi_jnode *node = atvi_json_get(object, form->field[i]);
        char *from = to;
        if (!node || node->type != ATVI_JSON_STRING)
            return atvi_fail(r->task->ctx, ATV_ERR_FORMAT, "line %ld: %s %s", (long)r->line, node ? "not a string:" : "no",
                             form->field[i]);
        b = i >= form->in_first;
        if (!b && form->piece[i]) to += snprintf(to, ATVI_TASK_PIECES, "%s", form->piece[i]);
        to += atvi_json_unescape(node, to, node->size);
        if (i + 1 == form->in_first && form->in_first > 1) to += snprintf(to, ATVI_TASK_PIECES, "%s", form->piece[2]);
        size[b] += (size_t)(to - from);
    }
    return ATV_OK;
}

static void atvi_task_put(atvi_task_reader *r, int32_t id, int *length) {
    if (id < 0) return;
    atvi_buf_put(&r->task->ids, &id, sizeof id);
    ++*length;
}

/* Lays the line's tokens out, cut to max_length as transformers' longest_first does; where both texts lose tokens and an
   odd one is left over, its slow tokenizers give it to A, its fast ones to the longer text, to B when they are equal. */
static atv_result atvi_task_document(atvi_task_reader *r, const size_t size[2], int pair) {
    atv_task *t = r->task;
    size_t n[2] = {0, 0}, special, room, i;
    int before = -1, after = -1, length = 0, b;
    if (r->desc.wrap) atv_tokenizer_wrap(r->tokenizer, &before, &after);
    special = (size_t)((before >= 0) + (after >= 0) * (pair ? 3 : 1));
    if (special >= (size_t)r->desc.max_length)
        return atvi_fail(t->ctx, ATV_ERR_ARGUMENT, "max_length=%d has no room for text", r->desc.max_length);
    room = (size_t)r->desc.max_length - special;
    for (b = 0; b <= pair; b++)
        ATVI_TRY(atv_tokenizer_encode(r->tokenizer, r->text + (b ? size[0] : 0), size[b], r->ids + (b ? n[0] : 0),
                                      r->room - (b ? n[0] : 0), &n[b]));
    i = n[0];                                               /* where B's tokens begin */
    if (n[0] + n[1] > room) {
        if (n[0] > room / 2) {
            if (n[1] <= room / 2) n[0] = room - n[1];
            else n[0] = r->desc.wrap && n[0] <= n[1] ? room / 2 : room - room / 2;
        }
        n[1] = room - n[0];
    }
    atvi_task_put(r, before, &length);
    atvi_buf_put(&t->ids, r->ids, n[0] * sizeof *r->ids);
    atvi_task_put(r, after, &length);
    if (pair) {
        atvi_task_put(r, after, &length);
        atvi_buf_put(&t->ids, r->ids + i, n[1] * sizeof *r->ids);
        atvi_task_put(r, after, &length);
    }
    length += (int)(n[0] + n[1]);
    if (length == 0)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "line %ld: %s: no text", (long)r->line, t->form->name);
    atvi_buf_put(&t->lengths, &length, sizeof length);
    return t->ids.failed || t->lengths.failed ? ATV_ERR_MEMORY : ATV_OK;
}

static atv_result atvi_task_line(atvi_task_reader *r, const atvi_jnode *object) {
    atv_task *t = r->task;
    size_t size[2];
    int32_t label = 0;
    int i, k;
    for (i = 0; !t->form && i < ATVI_LENGTH(atvi_task_forms); i++) {
        const atvi_task_form *form = &atvi_task_forms[i];
        for (k = 0; k < 3 && form->field[k] && atvi_json_get(object, form->field[k]); k++) {}
        if (k == 3 || !form->field[k]) t->form = form;
    }
    if (!t->form)
        return atvi_fail(t->ctx, ATV_ERR_FORMAT, "line %ld: its fields are those of no task known here", (long)r->line);
    if (t->data.n_docs == INT_MAX) return atvi_fail(t->ctx, ATV_ERR_FORMAT, "line %ld: too many lines", (long)r->line);
    ATVI_TRY(atvi_task_label(r, atvi_json_get(object, "label"), &label));
    ATVI_TRY(atvi_task_texts(r, object, size));
    ATVI_TRY(atvi_task_document(r, size, t->form->field[t->form->in_first] != NULL));
    atvi_buf_put(&t->numbers, &label, sizeof label);
    t->data.n_docs++;
    return atvi_buf_done(&t->numbers);
}

/* The labels in their order: numbers by value, strings by their bytes; or the given ones, copied. */
static atv_result atvi_task_finish(atvi_task_reader *r) {
    atv_task *t = r->task;
    atvi_label *labels = (atvi_label *)(void *)r->labels.data;
    int32_t *numbers;
    int i, k, n = r->desc.labels ? r->desc.n_labels : atvi_label_count(r);
    size_t at;
    for (i = 0; r->desc.labels && i < n; i++) atvi_buf_put(&t->names, r->desc.labels[i], strlen(r->desc.labels[i]) + 1);
    ATVI_TRY(atvi_buf_done(&t->names));
    t->labels = (const char **)atvi_alloc(t->ctx, atvi_size((size_t)n, sizeof *t->labels, 1));
    if (!t->labels) return ATV_ERR_MEMORY;
    t->n_labels = n;
    t->data.ids = (const int32_t *)(const void *)t->ids.data;
    t->data.lengths = (const int *)(const void *)t->lengths.data;
    t->data.labels = numbers = (int32_t *)(void *)t->numbers.data;
    for (i = 0, at = 0; r->desc.labels && i < n; at += strlen(t->names.data + at) + 1) t->labels[i++] = t->names.data + at;
    if (r->desc.labels) return ATV_OK;
    for (i = 0; i < n; i++) {
        for (k = 0; k < n; k++)
            labels[i].rank += r->type == ATVI_JSON_STRING ? strcmp(atvi_label_name(r, k), atvi_label_name(r, i)) < 0
                                                          : labels[k].value < labels[i].value;
        t->labels[labels[i].rank] = atvi_label_name(r, i);
    }
    for (i = 0; i < t->data.n_docs; i++) if (numbers[i] >= 0) numbers[i] = labels[numbers[i]].rank;
    return ATV_OK;
}

static atv_result atvi_task_read(atvi_task_reader *r, const char *jsonl, size_t size) {
    atvi_lines l = {jsonl, size, 0, NULL, 0, 0}, longest = l;
    while (atvi_next_line(&longest)) r->room = ATVI_MAX(r->room, longest.length);
    r->room = atvi_size(r->room, 1, 2 * ATVI_TASK_PIECES);
    r->text = (char *)atvi_alloc(r->task->ctx, r->room);
    r->ids = r->text ? (int32_t *)atvi_alloc(r->task->ctx, atvi_size(r->room, sizeof *r->ids, 0)) : NULL;
    if (!r->ids) return ATV_ERR_MEMORY;
    while (atvi_next_line(&l)) {
        atvi_json json;
        atv_result result;
        r->line = l.line;
        ATVI_TRY(atvi_line_parse(r->task->ctx, &l, &json));
        result = atvi_task_line(r, json.nodes);
        atvi_json_free(&json);
        ATVI_TRY(result);
    }
    if (r->task->data.n_docs == 0)
        return atvi_fail(r->task->ctx, ATV_ERR_FORMAT, "no examples: %s", size > 0 ? "blank lines alone" : "it is empty");
    return atvi_task_finish(r);
}

ATVDEF atv_result atv_task_from_memory(atv_tokenizer *tokenizer, const char *jsonl, size_t size, const atv_task_desc *desc,
                                       atv_task **out) {
    atv_ctx *ctx = tokenizer->ctx;
    atvi_task_reader reader;
    atv_result r;
    memset(&reader, 0, sizeof reader);
    if (desc) reader.desc = *desc;
    if (reader.desc.max_length == 0) reader.desc.max_length = 128;
    ATVI_TRY(atvi_check_range(ctx, "max_length", reader.desc.max_length, 1, 1 << 24));
    if (reader.desc.labels) ATVI_TRY(atvi_check_range(ctx, "n_labels", reader.desc.n_labels, 1, ATVI_TASK_LABELS));
    reader.tokenizer = tokenizer;
    reader.task = (atv_task *)atvi_alloc(ctx, sizeof *reader.task);
    if (!reader.task) return ATV_ERR_MEMORY;
    reader.task->ctx = reader.task->ids.ctx = reader.task->lengths.ctx = reader.task->numbers.ctx = ctx;
    reader.task->names.ctx = reader.labels.ctx = ctx;
    r = atvi_task_read(&reader, jsonl, size);
    atvi_free(ctx, reader.text);
    atvi_free(ctx, reader.ids);
    atvi_buf_free(&reader.labels);
    if (r == ATV_OK) *out = reader.task;
    else atv_task_destroy(reader.task);
    return r;
}

ATVDEF atv_result atv_task_load(atv_tokenizer *tokenizer, const char *path, const atv_task_desc *desc, atv_task **out) {
    atv_ctx *ctx = tokenizer->ctx;
    const void *data = NULL;
    char why[512];
    size_t size = 0;
    atv_result r;
    ATVI_TRY(atvi_map(ctx, path, &data, &size));
    r = atv_task_from_memory(tokenizer, (const char *)data, size, desc, out);
    atvi_unmap(ctx, data, size);
    if (r == ATV_OK || r == ATV_ERR_MEMORY) return r;
    snprintf(why, sizeof why, "%s", ctx->error);
    return atvi_fail(ctx, r, "%s: %s", path, why);
}

ATVDEF void atv_task_destroy(atv_task *task) {
    if (!task) return;
    atvi_buf_free(&task->ids);
    atvi_buf_free(&task->lengths);
    atvi_buf_free(&task->numbers);
    atvi_buf_free(&task->names);
    atvi_free(task->ctx, (void *)task->labels);
    atvi_free(task->ctx, task);
}

ATVDEF const atv_data *atv_task_data(const atv_task *task) { return &task->data; }
ATVDEF const char *atv_task_fields(const atv_task *task) { return task->form->name; }
ATVDEF const char *const *atv_task_labels(const atv_task *task, int *n) {
    *n = task->n_labels;
    return task->labels;
}

/* ---- metrics ---- */

static double atvi_quotient(double a, double b) { return b > 0 ? a / b : 0; }

/* With t_k examples of label k, p_k times predicted and c_k of them rightly, of n in all, c rightly: F1 of k is
   2 c_k / (t_k + p_k), mcc (c n - sum p_k t_k) / sqrt((n^2 - sum p_k^2) (n^2 - sum t_k^2)). */
ATVDEF void atv_measure(const int32_t *labels, const int32_t *predicted, int64_t n, int num_labels, atv_metrics *out,
                        atv_metrics *baseline) {
    double f1 = 0, pt = 0, pp = 0, tt = 0, most = 0, most_f1 = 0, all;
    atv_metrics m;
    int64_t i;
    int k;
    memset(&m, 0, sizeof m);
    for (i = 0; i < n; i++) {
        m.n += labels[i] >= 0;
        m.correct += labels[i] >= 0 && labels[i] == predicted[i];
    }
    all = (double)m.n;
    for (k = 0; k < num_labels; k++) {
        double t = 0, p = 0, c = 0;
        for (i = 0; i < n; i++) {
            if (labels[i] < 0) continue;
            t += labels[i] == k;
            p += predicted[i] == k;
            c += labels[i] == k && predicted[i] == k;
        }
        pt += p * t;
        pp += p * p;
        tt += t * t;
        most = ATVI_MAX(most, t);
        if (num_labels == 2 && k == 0) continue;            /* of two, only label 1's F1 is asked for */
        f1 += atvi_quotient(2 * c, t + p);
        most_f1 = ATVI_MAX(most_f1, atvi_quotient(2 * t, t + all));
    }
    m.accuracy = atvi_quotient((double)m.correct, all);
    m.f1 = num_labels == 2 ? f1 : atvi_quotient(f1, num_labels);
    m.mcc = atvi_quotient((double)m.correct * all - pt, sqrt((all * all - pp) * (all * all - tt)));
    *out = m;
    if (!baseline) return;
    m.correct = (int64_t)most;
    m.accuracy = atvi_quotient(most, all);
    m.f1 = num_labels == 2 ? most_f1 : atvi_quotient(most_f1, num_labels);
    m.mcc = 0;
    *baseline = m;
}

ATVDEF double atv_metrics_get(const atv_metrics *m, atv_metric metric) {
    return metric == ATV_METRIC_F1 ? m->f1 : metric == ATV_METRIC_MCC ? m->mcc : m->accuracy;
}

ATVDEF const char *atv_metric_name(atv_metric metric) {
    static const char *const names[] = {
#define X(name, text) text,
        ATV_METRICS(X)
#undef X
    };
    return (int)metric >= 0 && metric < ATV_METRIC_COUNT ? names[metric] : "unknown";
}

/* ---- fine-tuning ---- */
#ifndef ATV_NO_TRAIN

ATVDEF atv_finetune_desc atv_finetune_babylm(void) {
    atv_finetune_desc d;
    memset(&d, 0, sizeof d);
    d.trainer.has_learning_rate = 1;
    d.trainer.learning_rate = 5e-5;
    d.trainer.schedule = ATV_SCHEDULE_LINEAR;
    d.trainer.batch = 64;
    d.trainer.max_grad_norm = 1;
    d.trainer.seed = 12;
    d.max_epochs = 10;
    d.eval_every = 200;
    d.patience = 10;
    d.min_improvement = 0.001;
    return d;
}

typedef struct atvi_finetune {
    atv_model *model;
    const atv_data *valid;
    atv_finetune_desc desc;
    int64_t total, epoch_steps;
    atv_trainer *trainer;
    atv_real *best;                 /* [n_values] */
    int32_t *predicted;             /* [valid's n_docs] */
    atv_loss loss;                  /* since the evaluation before */
    int waited;                     /* evaluations since the last that improved */
    atv_finetune_result result;
    atv_result error;
    char why[512];
} atvi_finetune;

static atv_result atvi_finetune_resolve(const atv_model *model, const atv_data *train, const atv_data *valid,
                                        const atv_finetune_desc *desc, atvi_finetune *f) {
    atv_ctx *ctx = model->ctx;
    atv_finetune_desc d = desc ? *desc : atv_finetune_babylm();
    int64_t a_step, n_ids;
    int i, longest = 1;
    if (model->config.num_labels == 0)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT,
                         "num_labels=0: this is a language model; atv_model_classifier makes a classifier of it");
    if (train->n_docs < 1 || !train->labels)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "train: n_docs=%d%s", train->n_docs, train->labels ? "" : ", labels=NULL");
    if (valid->n_docs < 1 || !valid->labels)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "valid: n_docs=%d%s", valid->n_docs, valid->labels ? "" : ", labels=NULL");
    ATVI_TRY(atvi_check_data(model, train, &n_ids));
    ATVI_TRY(atvi_check_data(model, valid, &n_ids));
    for (i = 0; i < valid->n_docs && valid->labels[i] < 0; i++) {}
    if (i == valid->n_docs) return atvi_fail(ctx, ATV_ERR_ARGUMENT, "valid: no document has a label");
    if (d.max_epochs == 0) d.max_epochs = 10;
    ATVI_TRY(atvi_check_range(ctx, "max_epochs", d.max_epochs, 1, INT_MAX));
    ATVI_TRY(atvi_check_range(ctx, "eval_every", d.eval_every, 0, INT_MAX));
    ATVI_TRY(atvi_check_range(ctx, "patience", d.patience, 0, INT_MAX));
    ATVI_TRY(atvi_check_range(ctx, "metric", (int)d.metric, 0, ATV_METRIC_COUNT - 1));
    if (!(d.min_improvement >= 0))
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "min_improvement=%g is negative", d.min_improvement);
    if (d.metric == ATV_METRIC_AUTO) d.metric = model->config.num_labels == 2 ? ATV_METRIC_F1 : ATV_METRIC_ACCURACY;
    a_step = (int64_t)ATVI_MAX(d.trainer.batch ? d.trainer.batch : 16, 1) * ATVI_MAX(d.trainer.accumulate, 1);
    f->epoch_steps = (train->n_docs + a_step - 1) / a_step;
    if (f->epoch_steps > INT_MAX / d.max_epochs)
        return atvi_fail(ctx, ATV_ERR_ARGUMENT, "max_epochs=%d has too many steps", d.max_epochs);
    f->total = f->epoch_steps * d.max_epochs;
    if (d.trainer.total_steps == 0) d.trainer.total_steps = (int)f->total;
    for (i = 0; i < train->n_docs; i++) longest = ATVI_MAX(longest, train->lengths[i]);
    longest = ATVI_MIN(longest, d.trainer.max_length ? d.trainer.max_length : model->config.max_position_embeddings);
    if (d.trainer.max_tokens == 0)
        d.trainer.max_tokens = (int)ATVI_MIN((int64_t)ATVI_MAX(longest, 1) * (d.trainer.batch ? d.trainer.batch : 16),
                                             INT_MAX / 64);
    f->model = (atv_model *)model;
    f->valid = valid;
    f->desc = d;
    return ATV_OK;
}

/* What is kept beside the trainer, in one block. */
static void atvi_finetune_layout(atvi_arena *arena, atvi_finetune *f) {
    f->best = (atv_real *)atvi_take(arena, f->model->n_values, sizeof *f->best);
    f->predicted = (int32_t *)atvi_take(arena, (size_t)f->valid->n_docs, sizeof *f->predicted);
}

ATVDEF atv_result atv_finetune_bytes(const atv_model *model, const atv_data *train, const atv_data *valid,
                                     const atv_finetune_desc *desc, size_t *out) {
    atvi_arena arena = {NULL, 0};
    atvi_finetune f;
    size_t trainer;
    memset(&f, 0, sizeof f);
    ATVI_TRY(atvi_finetune_resolve(model, train, valid, desc, &f));
    ATVI_TRY(atv_trainer_bytes(model, &f.desc.trainer, &trainer));
    atvi_finetune_layout(&arena, &f);
    *out = atvi_size(1, trainer, atvi_arena_bytes(&arena));
    return ATV_OK;
}

/* Scores what the model is now; 1: it is to end. */
static int atvi_finetune_look(atvi_finetune *f, int64_t step) {
    const atv_finetune_desc *d = &f->desc;
    const double before = f->result.best.score;
    atv_finetune_eval e;
    memset(&e, 0, sizeof e);
    e.step = step;
    e.epoch = (double)step / (double)f->epoch_steps;
    e.train_loss = atvi_quotient(f->loss.sum, (double)f->loss.tokens);
    memset(&f->loss, 0, sizeof f->loss);
    f->error = atv_classify(f->trainer->work, f->valid, f->predicted, NULL);
    if (f->error != ATV_OK) {
        snprintf(f->why, sizeof f->why, "%s", f->model->ctx->error);
        return 1;
    }
    atv_measure(f->valid->labels, f->predicted, f->valid->n_docs, f->model->config.num_labels, &e.metrics, &e.baseline);
    e.metric = d->metric;
    e.score = atv_metrics_get(&e.metrics, d->metric);
    e.best = f->result.evals == 0 || e.score > before;
    f->waited = f->result.evals == 0 || (e.best && e.score - before > d->min_improvement) ? 0 : f->waited + 1;
    f->result.evals++;
    if (e.best) {
        f->result.best = e;
        memcpy(f->best, f->model->values, f->model->n_values * sizeof *f->best);
    }
    if (d->on_eval && d->on_eval(d->user, &e)) return 1;
    return d->patience > 0 && f->waited >= d->patience;
}

static int atvi_finetune_step(void *user, const atv_step *step) {
    atvi_finetune *f = (atvi_finetune *)user;
    const int last = step->step == f->total, every = f->desc.eval_every;
    int ends = f->desc.on_step ? f->desc.on_step(f->desc.user, step) != 0 : 0;
    f->result.steps = step->step;
    f->loss.sum += step->loss.sum;
    f->loss.tokens += step->loss.tokens;
    if (last || (every && step->step % every == 0) || (ends && f->result.evals == 0))
        ends |= atvi_finetune_look(f, step->step);
    f->result.early = ends && !last;
    return ends;
}

ATVDEF atv_result atv_finetune(atv_model *model, const atv_data *train, const atv_data *valid, const atv_finetune_desc *desc,
                               atv_finetune_result *out) {
    atv_ctx *ctx = model->ctx;
    atvi_arena arena = {NULL, 0};
    atvi_finetune f;
    atv_result r;
    memset(&f, 0, sizeof f);
    ATVI_TRY(atvi_finetune_resolve(model, train, valid, desc, &f));
    ATVI_TRY(atv_trainer_create(model, &f.desc.trainer, &f.trainer));
    atvi_finetune_layout(&arena, &f);
    arena.base = (char *)atvi_alloc(ctx, arena.used);
    arena.used = 0;
    if (arena.base) atvi_finetune_layout(&arena, &f);
    r = arena.base ? atv_trainer_run(f.trainer, train, f.total, atvi_finetune_step, &f) : ATV_ERR_MEMORY;
    if (r == ATV_ERR_STOPPED) r = f.error == ATV_OK ? ATV_OK : atvi_fail(ctx, f.error, "valid: %s", f.why);
    if (r == ATV_OK) {
        memcpy(model->values, f.best, model->n_values * sizeof *f.best);
        atv_model_changed(model);
        f.result.epochs = (double)f.result.steps / (double)f.epoch_steps;
        *out = f.result;
    }
    atvi_free(ctx, arena.base);
    atv_trainer_destroy(f.trainer);
    return r;
}
#endif /* ATV_NO_TRAIN */

#ifdef ATVI_FAST_MATH
#  ifdef __clang__
#    pragma float_control(pop)
#  else
#    pragma GCC pop_options
#  endif
#endif
#endif /* second half of the implementation */

/*
attnvar is available under two licences: choose the one you prefer.

------------------------------------------------------------------------------
ALTERNATIVE A - MIT License

Copyright (c) 2026 the attnvar authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.

------------------------------------------------------------------------------
ALTERNATIVE B - Public Domain (www.unlicense.org)

This is free and unencumbered software released into the public domain.

Anyone is free to copy, modify, publish, use, compile, sell, or distribute this
software, either in source code form or as a compiled binary, for any purpose,
commercial or non-commercial, and by any means.

In jurisdictions that recognize copyright laws, the author or authors of this
software dedicate any and all copyright interest in the software to the public
domain. We make this dedication for the benefit of the public at large and to
the detriment of our heirs and successors. We intend this dedication to be an
overt act of relinquishment in perpetuity of all present and future rights to
this software under copyright law.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
*/
