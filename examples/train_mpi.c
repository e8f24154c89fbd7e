/* train_mpi.c: one model trained by many processes, on one machine or several.
 *
 * Claim    Each process runs its share of every step's documents, and the gradients are summed over all once a step: the
 *          losses are those of a single process, but for rounding, which grows as training goes on.
 * Command  mkdir -p build && mpicc -O2 -o build/train_mpi examples/train_mpi.c -lm -lpthread
 *          mpirun -n 2 build/train_mpi [TEXT [STEPS]]
 *          TEXT is a file with <|endoftext|> between documents, or - for stories made here. A process has one thread; their
 *          number must divide 12.
 * Prints   the loss as it falls, and the time it took.
 * Takes    about ten seconds with two processes on two cores. */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "stories.h"
#include <mpi.h>

enum { STORIES = 2000, BATCH = 12, CONTEXT = 192 };
static const char mark[] = "<|endoftext|>";

static atv_ctx *ctx;
static int rank, n_ranks;
static void die(const char *why) {
    fprintf(stderr, "train_mpi, rank %d: %s\n", rank, why);
    exit(MPI_Abort(MPI_COMM_WORLD, 1));
}
static void check(atv_result r) { if (r != ATV_OK) die(ctx ? atv_last_error(ctx) : atv_result_text(r)); }
static void *room(size_t n) { void *p = malloc(n); if (!p) die("out of memory"); return p; }

/* What the trainer asks of its ranks: sums over all of them. An MPI count is an int, so many gradients go in parts. */
static int sum(void *user, float *grads, size_t n, double *sums, int n_sums) {
    MPI_Comm comm = *(MPI_Comm *)user;
    for (size_t at = 0; at < n; at += 1 << 30) {
        int part = (int)(n - at < 1 << 30 ? n - at : 1 << 30);
        if (MPI_Allreduce(MPI_IN_PLACE, grads + at, part, MPI_FLOAT, MPI_SUM, comm) != MPI_SUCCESS) return 1;
    }
    return MPI_Allreduce(MPI_IN_PLACE, sums, n_sums, MPI_DOUBLE, MPI_SUM, comm) != MPI_SUCCESS;
}

static int on_step(void *user, const atv_step *step) {
    int64_t last = *(int64_t *)user;
    if (rank == 0 && (step->step % 20 == 0 || step->step == 1 || step->step == last))
        printf("step %4ld  loss %.6f\n", (long)step->step, step->loss.sum / step->loss.tokens);
    return fflush(stdout);
}

static char *read_text(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    long end = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    char *text = end >= 0 && end < LONG_MAX ? (char *)room((size_t)end + 1) : NULL;     /* LONG_MAX: a directory's */
    if (!text || fseek(file, 0, SEEK_SET) || fread(text, 1, (size_t)end, file) != (size_t)end) die("TEXT cannot be read");
    fclose(file);
    text[*size = (size_t)end] = 0;
    return text;
}

static char *make_text(size_t *size) {
    const size_t cap = STORIES * 1024;
    char *text = (char *)room(cap + sizeof mark);
    *size = 0;
    for (int i = 0; i < STORIES; i++) {
        *size += story_write((uint64_t)i + 1, text + *size, cap - *size);
        if (*size + sizeof mark > cap) die("the stories do not fit");
        memcpy(text + *size, mark, sizeof mark);
        *size += sizeof mark - 1;
    }
    return text;
}

int main(int argc, char **argv) {
    MPI_Comm comm = MPI_COMM_WORLD;
    int threads, before, after, n_docs = 0;
    char *rest = "";
    int64_t steps = argc > 2 ? strtol(argv[2], &rest, 10) : 200, n_ids = 0;
    size_t size, max_docs = 1;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &threads);           /* of a rank's threads one calls MPI */
    MPI_Comm_rank(comm, &rank); MPI_Comm_size(comm, &n_ranks);
    if (argc > 3 || *rest || steps < 1 || steps > 1000000) die("its arguments are TEXT or -, and STEPS, 1 to 1000000");
    if (BATCH % n_ranks) die("the number of processes does not divide 12, the documents of a step");
    check(atv_ctx_create(&(atv_ctx_desc){ .n_threads = 1 }, &ctx));

    /* Every rank has all the text, and from equal seeds the same tokenizer and the same model. */
    char *text = argc > 1 && strcmp(argv[1], "-") != 0 ? read_text(argv[1], &size) : make_text(&size);
    for (char *p = text; (p = strstr(p, mark)) != NULL; p += sizeof mark - 1, max_docs++) memset(p, 0, sizeof mark - 1);
    atv_tokenizer_train_desc vocabulary = { .vocab_size = 1500 };
    atv_tokenizer *tokenizer;
    check(atv_tokenizer_train(ctx, &vocabulary, text, size < 4000000 ? size : 4000000, &tokenizer));
    atv_tokenizer_wrap(tokenizer, &before, &after);

    /* Documents as <s> ids </s>, laid end to end, cut at the context. */
    int32_t *ids = (int32_t *)room(max_docs * CONTEXT * sizeof *ids);
    int *lengths = (int *)room(max_docs * sizeof *lengths);
    for (char *p = text; p <= text + size; p += strlen(p) + 1) {
        size_t n, bytes = strlen(p);
        if (strspn(p, " \r\n") == bytes) continue;
        ids[n_ids] = before;
        check(atv_tokenizer_encode(tokenizer, p, bytes, ids + n_ids + 1, CONTEXT - 1, &n));
        if (n < CONTEXT - 1) ids[n_ids + 1 + (int64_t)n++] = after;
        n_ids += lengths[n_docs++] = n < CONTEXT ? (int)n + 1 : CONTEXT;
    }
    atv_config config = { .vocab_size = atv_tokenizer_vocab_size(tokenizer), .max_position_embeddings = CONTEXT,
                          .hidden_size = 96, .num_layers = 2, .num_heads = 8, .window_size = 64 };
    atv_model *model;
    check(atv_config_preset(ctx, ATV_GQA, 0.5, 1, 256, &config));
    check(atv_model_create(ctx, &config, &model));
    atv_model_init(model, 1);
    atv_trainer_desc recipe = { .has_learning_rate = 1, .learning_rate = 5e-3, .max_grad_norm = 1, .warmup_steps = 20,
                                .batch = BATCH / n_ranks, .rank = rank, .n_ranks = n_ranks,
                                .reduce = sum, .reduce_user = &comm };
    atv_data data = { .ids = ids, .lengths = lengths, .n_docs = n_docs };
    atv_trainer *trainer;
    check(atv_trainer_create(model, &recipe, &trainer));
    double start = MPI_Wtime();
    check(atv_trainer_run(trainer, &data, steps, on_step, &steps));
    if (rank == 0) printf("%d processes, %d documents, %.1f s\n", n_ranks, n_docs, MPI_Wtime() - start);
    atv_trainer_destroy(trainer); atv_model_destroy(model);
    atv_tokenizer_destroy(tokenizer); atv_ctx_destroy(ctx);
    free(text); free(ids); free(lengths);
    return MPI_Finalize();
}
