/* What tests/test_hf.py asks of classifiers of sequences.

       hf_classify make DIR OUT N               a classifier of N labels from the language model in DIR
       hf_classify run DIR IDS OUT LENGTH ..    on raw int32 ids, sequences of these lengths end to end, sequence b with the
                                                label b mod N: to a safetensors file `logits` [sequences,N], `loss` [1] and
                                                the gradients of the loss, by their parameters' names */
#define _POSIX_C_SOURCE 200809L
#include "../attnvar.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static atv_ctx *ctx;

static void check(atv_result result) {
    if (result == ATV_OK) return;
    fprintf(stderr, "hf_classify: %s\n", atv_last_error(ctx));
    exit(1);
}

static void run(const char *dir, const char *ids_file, const char *out, int n_seq, char **words) {
    atv_model *model;
    atv_work *work;
    atv_work_desc desc = {0, 0, 1};
    atv_batch batch = {NULL, NULL, 0, NULL, NULL};
    atv_loss loss;
    atv_named_tensor *tensors;
    int *lengths = (int *)calloc((size_t)n_seq, sizeof *lengths);
    int32_t *labels = (int32_t *)calloc((size_t)n_seq, sizeof *labels), *ids;
    float *logits, mean;
    FILE *f = fopen(ids_file, "rb");
    int i, n, N;
    check(atv_model_load(ctx, dir, &model));
    N = atv_model_config(model)->num_labels;
    if (!f || N == 0) { fprintf(stderr, "hf_classify: %s: no classifier, or no ids\n", dir); exit(1); }
    for (i = 0; i < n_seq; i++) {
        desc.max_tokens += lengths[i] = atoi(words[i]);
        labels[i] = i % N;
    }
    desc.max_seqs = n_seq;
    ids = (int32_t *)calloc((size_t)desc.max_tokens, sizeof *ids);
    logits = (float *)calloc((size_t)n_seq * (size_t)N, sizeof *logits);
    if (fread(ids, sizeof *ids, (size_t)desc.max_tokens, f) != (size_t)desc.max_tokens) exit(1);
    fclose(f);
    batch.ids = ids;
    batch.lengths = lengths;
    batch.n_seq = n_seq;
    check(atv_work_create(model, &desc, &work));
    check(atv_forward(work, &batch, logits));
    batch.labels = labels;
    check(atv_backward(work, &batch, &loss));
    mean = (float)(loss.sum / (double)loss.tokens);

    n = atv_model_num_tensors(model);
    tensors = (atv_named_tensor *)calloc((size_t)n + 2, sizeof *tensors);
    for (i = 0; i < n; i++) {
        int64_t k;
        tensors[i].name = atv_model_tensor(model, i).name;
        tensors[i].tensor = atv_work_grad(work, i);
        for (k = 0; k < atv_tensor_count(&tensors[i].tensor); k++)
            ((float *)tensors[i].tensor.data)[k] /= (float)loss.tokens;
    }
    tensors[n].name = "logits";
    tensors[n].tensor = atv_tensor_view(logits, ATV_F32, n_seq, N, 0, 0);
    tensors[n + 1].name = "loss";
    tensors[n + 1].tensor = atv_tensor_view(&mean, ATV_F32, 1, 0, 0, 0);
    check(atv_safetensors_write(ctx, out, tensors, n + 2, ATV_F32, NULL, 0));
    free(tensors);
    free(logits);
    free(ids);
    free(labels);
    free(lengths);
    atv_work_destroy(work);
    atv_model_destroy(model);
}

int main(int argc, char **argv) {
    if (atv_ctx_create(NULL, &ctx) != ATV_OK) return 1;
    if (argc == 5 && strcmp(argv[1], "make") == 0) {
        atv_model *model, *classifier;
        check(atv_model_load(ctx, argv[2], &model));
        check(atv_model_classifier(model, atoi(argv[4]), 1, &classifier));
        check(atv_model_set_task(classifier, 33, 1));
        check(atv_model_save(classifier, argv[3], NULL));
        atv_model_destroy(classifier);
        atv_model_destroy(model);
    } else if (argc > 5 && strcmp(argv[1], "run") == 0) {
        run(argv[2], argv[3], argv[4], argc - 5, argv + 5);
    } else return 2;
    atv_ctx_destroy(ctx);
    return 0;
}
