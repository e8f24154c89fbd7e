/* For tests/test_mpi.sh: trains a small model on this many MPI ranks, 20 steps in all.

       mpi BATCH ACCUMULATE alone|ranks|save|load|other|bad [FILE]

   alone: without the hook, as a plain program does; save: 10 steps, then rank 0 saves; load: goes on from there; other: the
   last rank has other documents; bad: in one document is a token that is none. Rank 0 prints a line for each step and, once
   each rank has found that the others have the same, a hash of the parameters. */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include <mpi.h>

enum { DOCS = 50, VOCAB = 40, CONTEXT = 24, STEPS = 20 };

static atv_ctx *ctx;
static int rank, n_ranks;

static void check(atv_result r) {
    if (r == ATV_OK) return;
    printf("rank %d: %s\n", rank, ctx ? atv_last_error(ctx) : atv_result_text(r));
    fflush(stdout);
    MPI_Finalize();                                         /* not MPI_Abort: all ranks must find out by themselves */
    exit(1);
}

static int sum(void *user, float *grads, size_t n, double *sums, int n_sums) {
    (void)user;
    return MPI_Allreduce(MPI_IN_PLACE, grads, (int)n, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS ||
           MPI_Allreduce(MPI_IN_PLACE, sums, n_sums, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD) != MPI_SUCCESS;
}

static int on_step(void *user, const atv_step *step) {
    (void)user;
    if (rank == 0)
        printf("%ld %.17g %.17g %ld %ld\n", (long)step->step, step->loss.sum / (double)step->loss.tokens, step->grad_norm,
               (long)step->loss.tokens, (long)step->tokens_seen);
    return 0;
}

static uint64_t hash(const atv_model *model) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    int i;
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        atv_tensor t = atv_model_tensor(model, i).tensor;
        const unsigned char *p = (const unsigned char *)t.data;
        int64_t n = t.dims[0] * (t.rank > 1 ? t.dims[1] : 1) * (int64_t)sizeof(float);
        while (n-- > 0) h = (h ^ *p++) * UINT64_C(0x100000001B3);
    }
    return h;
}

int main(int argc, char **argv) {
    static int32_t ids[DOCS * CONTEXT];
    static int lengths[DOCS];
    const char *mode = argc > 3 ? argv[3] : "";
    const int load = strcmp(mode, "load") == 0, save = strcmp(mode, "save") == 0;
    int i, k, n = 0, threads;
    uint64_t mine, least, most;
    atv_ctx_desc desc;
    atv_config config;
    atv_trainer_desc recipe;
    atv_data data;
    atv_model *model;
    atv_trainer *trainer;
    atv_rng rng;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &n_ranks);
    if (argc < 4) return 2;
    memset(&desc, 0, sizeof desc);
    desc.n_threads = 1 + rank % 2;
    check(atv_ctx_create(&desc, &ctx));
    rng.state = rank == n_ranks - 1 && strcmp(mode, "other") == 0 ? 2 : 1;
    for (i = 0; i < DOCS; i++) {
        lengths[i] = (int)atv_rng_below(&rng, CONTEXT + 1); /* some hold nothing, or nothing to predict */
        for (k = 0; k < lengths[i]; k++, n++)
            ids[n] = k && atv_rng_below(&rng, 4) ? (3 * ids[n - 1] + 1) % VOCAB : (int32_t)atv_rng_below(&rng, VOCAB);
    }
    memset(&config, 0, sizeof config);
    config.vocab_size = VOCAB;
    config.max_position_embeddings = CONTEXT;
    config.hidden_size = 40;
    config.num_layers = 2;
    config.num_heads = 5;
    config.num_key_value_heads = 3;
    config.intermediate_size = 48;
    config.window_size = 6;
    check(atv_model_create(ctx, &config, &model));
    atv_model_init(model, load ? 2 : 1);                    /* what is loaded replaces it */
    memset(&recipe, 0, sizeof recipe);
    recipe.has_learning_rate = 1;
    recipe.learning_rate = 3e-3;
    recipe.schedule = ATV_SCHEDULE_COSINE;
    recipe.warmup_steps = 3;
    recipe.total_steps = STEPS;
    recipe.weight_decay = 0.1;
    recipe.max_grad_norm = 1;
    recipe.batch = atoi(argv[1]);
    recipe.accumulate = atoi(argv[2]);
    recipe.max_tokens = 12 * CONTEXT;
    if (strcmp(mode, "alone") != 0) {
        recipe.rank = rank;
        recipe.n_ranks = n_ranks;
        recipe.reduce = sum;
    }
    check(atv_trainer_create(model, &recipe, &trainer));
    if (load) check(atv_trainer_load(trainer, argv[4]));
    if (strcmp(mode, "bad") == 0) ids[n / 2] = VOCAB;
    memset(&data, 0, sizeof data);
    data.ids = ids;
    data.lengths = lengths;
    data.n_docs = DOCS;
    check(atv_trainer_run(trainer, &data, load || save ? STEPS / 2 : STEPS, on_step, NULL));
    if (save && rank == 0) check(atv_trainer_save(trainer, argv[4]));
    mine = hash(model);
    MPI_Allreduce(&mine, &least, 1, MPI_UINT64_T, MPI_MIN, MPI_COMM_WORLD);
    MPI_Allreduce(&mine, &most, 1, MPI_UINT64_T, MPI_MAX, MPI_COMM_WORLD);
    if (least != most) printf("rank %d: other parameters\n", rank);
    else if (rank == 0) printf("parameters %016llx\n", (unsigned long long)mine);
    atv_trainer_destroy(trainer);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
    MPI_Finalize();
    return least != most;
}
