/* lab.h: the laboratory that the four research programs share.

   A program brings a list of variants; the laboratory brings text, tokenizer, training runs, timing, tables and files:

       lab_state *lab = lab_open("rq3", "what the program asks", argc, argv);
       lab_row rows[N];
       lab_measure(lab, variants, N, rows);        trains what is not trained yet, then times all; 0: not all, see WORK
       lab_table(lab, rows, N);                    on the screen, the published figures beside its own
       lab_reading(lab, &rows[1], &rows[0]);       one variant against another in a sentence
       lab_save(lab, rows, N);                     out/rq3.csv, curves, pairs, glue, samples and settings.csv
       lab_close(lab, rows, N);

   Settings come from the environment: see lab_variables, which --help shows.

   QUALITY is held-out loss, perplexity, minimal-pair accuracy, and what fine-tuned models reach on the tasks of GLUE, of
   models trained here, over several seeds. Equal seeds mean equal documents in equal order for every variant, so that
   variants can be compared seed by seed. A task's score is the Matthews correlation for CoLA, the F1 for MRPC and QQP, else
   the accuracy, of the best evaluation of the BabyLM 2023 recipe; beside it stands what one answer for all examples reaches.

   SPEED is that of the published shape (V 10000, C 384, L 2, FFN by the formula), for which trained weights do not matter:
   time of generation / (sequences x tokens generated), picking tokens included, in the middle of the context. Each variant
   takes turns with the program's first, MHA, so that a machine that slows down does so for both; medians count. Beside a
   time stands its limit: the least that arithmetic and reading take on this machine (limits.h), measured in the same turns.

   A row of out/rq*.csv holds both: shape, parameters and cache bytes of the published shape, which is timed, and the quality
   of the small models trained here, whose sizes are in settings.csv. What is a "clear" difference, stats.h says.

   A training run is named by a hash of all that decides its result and lives in out/runs/HASH-name/: settings.json, while it
   runs trainer.safetensors and curve.csv, at last the model and result.json. A finished run is found again, by any of the
   programs; one that was cut off goes on from its last checkpoint and ends with the same bits. What the model is then asked
   lies beside it, named by a hash of the question: pairs-HASH.json, glue-TASK-HASH.json. Other pairs train nothing anew.

   The instruction set, on which bits depend too, is no part of a hash: results say under "isa" with which they were
   computed, and where these differ, who trains is told, and who sums up.

   Any number of processes, on one machine or on many that share OUT, work through the same runs: each takes those that
   nobody has, and one that died is taken over (claims.h). Timing is for one process alone on its machine.

   Contents: >>types >>text >>files >>setup >>data >>runs >>speed >>measure >>tables >>save */
#ifndef LAB_H
#define LAB_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "claims.h"
#include "limits.h"
#include "stats.h"
#include "stories.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

/* ==== >>types ===================================================================================================== */

enum { LAB_MAX_SEEDS = 32, LAB_MAX_KINDS = 32, LAB_MAX_TASKS = 16, LAB_MAX_POINTS = 4096, LAB_MAX_ROUNDS = 9,
       LAB_BATCHES = 2, LAB_LAYERS = 2 };

static const int lab_batches[LAB_BATCHES] = {16, 512};     /* sequences that are timed side by side */

/* What a scale trains, and how long it times. */
typedef struct lab_scale {
    const char *name;
    int vocab_size, hidden_size, ffn_base, context, window;
    int steps;                      /* 0: as many as `epochs` take */
    int epochs;
    int batch, accumulate;
    double learning_rate;           /* 0: the published recipe */
    double init;                    /* 0: as published, N(0, 0.02); small models start to learn sooner from a wider one */
    int n_train;                    /* stories, where they are made here */
    int n_valid;                    /* held-out documents at most; 0: all */
    int n_curve, every;             /* of those, how many for a point of the learning curve; and steps between points */
    int n_pairs;                    /* of each kind at most; 0: all */
    int n_glue, glue_epochs;        /* examples of a task to fine-tune on at most; 0: all. And how often */
    size_t max_text;                /* bytes of DATA that are read; 0: all */
    int prompt;                     /* positions in the cache before the clock starts */
    int tokens[LAB_BATCHES];        /* steps on the clock in a turn */
    int rounds;                     /* turns of each variant and MHA */
} lab_scale;

static const lab_scale lab_scales[] = {
  /*           V    C    F    T   W steps ep  b acc  lr init train valid curve/  pairs glue/ep text prompt tokens rounds */
  {"smoke",   512,  64, 176, 128, 64,  30, 0,  8, 1,6e-3,.05,  240,   20,  10, 10,  50,  64, 1, 1u<<20,  32, { 4, 1}, 3},
  {"default",2048,  64, 176,  64, 32,4000, 0,  4, 1,6e-3,.05,16000,  400, 100,250, 200,1000, 3, 1u<<24, 240, {24, 3}, 9},
  {"full",  10000, 384,1024, 512,256,   0, 3, 16, 1,1e-3,  0, 4000,  800,  50, 50,   0,   0,10, 1u<<23, 240, {64,16}, 9},
  {"paper", 10000, 384,1024, 512,256,   0, 1, 16,16,   0,  0,50000, 1000, 100, 10,   0,   0,10,      0, 240, {64,16}, 9},
};

/* A variant: what it is, and what was published on it; 0 where nothing was. */
typedef struct lab_variant {
    atv_variant preset;
    int heads;
    double group, kqv;              /* proportions G/H and S/C */
    int pub_ffn;
    double pub_blimp, pub_glue;     /* % */
    double pub_us16, pub_us512;     /* µs per token */
} lab_variant;

/* What the environment may set; empty is as not set. */
static const struct lab_variable { const char *name, *missing, *text; } lab_variables[] = {
    {"SCALE", "default", "smoke, default, full or paper: seconds, minutes, a night or days"},
    {"DATA", NULL, "a text file with <|endoftext|> between documents, whose last 5 % are held out, or a directory\n"
                   "with train.txt and valid.txt; without it stories made up from a grammar"},
    {"TOKENIZER", NULL, "a directory with a tokenizer in Hugging Face's files; without it one is trained on the text"},
    {"PAIRS", NULL, "a directory of minimal pairs in BLiMP's JSON lines, a file for each kind; without it pairs of the\n"
                    "grammar, or none when DATA is given"},
    {"GLUE", NULL, "a directory of tasks to fine-tune on, NAME.train.json and NAME.validation.json in JSON lines, as\n"
                   "the BabyLM 2023 evaluation has those of GLUE; without it none"},
    {"SEEDS", "3", "1 to 32: models of each variant; with more, smaller differences get clear, and what is trained\n"
                   "already is found again. To be chosen before looking: who adds seeds until something is clear finds\n"
                   "more than there is"},
    {"OUT", "out", "the directory for runs, tables and report"},
    {"THREADS", "0", "1 to 1024; 0: as many as there are processors"},
    {"ISA", "auto", "scalar, avx2, avx512 or neon; auto: the best there is. Machines that share OUT get the same bits\n"
                    "from the same one"},
    {"WORK", NULL, "train: only trains, judges and fine-tunes, together with whoever else works on the same OUT;\n"
                   "plan: only says what there is to do, in lines of \"plan\", a name and seconds"},
    {"STALE", "120", "1 to 1000000: seconds without a sign of life after which a worker on another machine counts as\n"
                     "dead; the same for all, and more than a shared folder's clients remember times (NFS 60, sshfs 20)"},
};

typedef struct lab_path { char s[640]; } lab_path;

/* Held-out loss and perplexity; minimal pairs and GLUE in %. */
enum { LAB_LOSS, LAB_PERPLEXITY, LAB_ACCURACY, LAB_GLUE, LAB_QUALITIES };

typedef struct lab_point { long step, tokens; double train_loss, valid_loss; } lab_point;

/* What one training run gave. */
typedef struct lab_run {
    int seed;
    lab_path dir;
    double loss, perplexity;
    double pairs, kinds[LAB_MAX_KINDS];                     /* accuracies, 0 to 1 */
    double glue, tasks[LAB_MAX_TASKS], one_answer[LAB_MAX_TASKS];       /* scores, mostly 0 to 1 */
    int n_points;
    lab_point *points;
} lab_run;

/* µs per token of one number of sequences: of a turn, or medians of all. attention: its part of the limit. */
typedef struct lab_us { double took, limit, attention; } lab_us;

/* The first row's are medians of all its turns, the other rows' those times their median ratios: so drift cancels. */
typedef struct lab_speed {
    lab_us us;
    lab_us ratios[LAB_MAX_ROUNDS];                          /* to the first row's turn beside it; attention to its limit */
} lab_speed;

typedef struct lab_row {
    const lab_variant *variant;
    char id[32], label[48];         /* gqa-8-0.75 in files, GQA .75 for people */
    atv_config config;              /* what is trained */
    atv_config shape;               /* what is timed: the published shape */
    long parameters;                /* of that shape */
    size_t kv_bytes;                /* per token, of that shape */
    lab_speed speed[LAB_BATCHES];
    lab_run runs[LAB_MAX_SEEDS];
    stats quality[LAB_QUALITIES];
    stats_noise noise[LAB_QUALITIES];                       /* of all rows */
} lab_row;

typedef struct lab_text { char *data; size_t size, room; } lab_text;

/* A task to fine-tune on. */
typedef struct lab_task {
    char name[32];
    atv_metric metric;
    atv_task *train, *valid;
    uint64_t hash;                  /* of all that decides its score but the model */
} lab_task;

/* What is claimed: the training of a run, the pairs' judgement of its model, or its fine-tuning on a task. */
enum { LAB_TRAINING = -2, LAB_PAIRS = -1 };
typedef struct lab_item {
    lab_row *row;
    lab_run *run;
    int task;                       /* or one of these two */
    int done, steps;                /* steps of training, or what lasts as long as so many, that are counted on */
} lab_item;

/* Documents one after the other, a '\n' after each; document i begins at starts[i]. */
typedef struct lab_docs { lab_text text; size_t *starts; int n; } lab_docs;

typedef struct lab_state {
    const char *program, *data, *out;
    const lab_scale *scale;
    atv_ctx *ctx;
    int n_threads, n_seeds;
    atv_isa isa_asked;
    const char *isa;
    lab_path isas;                  /* with which the results were computed, spaces between */
    atv_tokenizer *tokenizer;
    lab_path tokenizer_dir;
    int bos, eos;                   /* around a document; -1: nothing */
    atv_data train, valid;
    long train_tokens, valid_tokens;
    int steps;                      /* of a run */
    int n_kinds;
    char kind_names[LAB_MAX_KINDS][64];
    lab_path kind_files[LAB_MAX_KINDS];
    lab_text kinds[LAB_MAX_KINDS];  /* pairs as JSON lines, with their files' numbers */
    long n_pairs;
    atv_pairs_desc pairs_desc;
    int n_tasks;
    lab_task tasks[LAB_MAX_TASKS];
    uint64_t train_hash, valid_hash, tokenizer_hash;
    uint64_t pairs_hash;            /* of all that decides what a model is told to be worth by them, but the model */
    int prompt;                     /* the scale's, or what there is memory for */
    double start, speed_seconds;
    int terminal, said_width;
    double said;
    int stale;                      /* seconds: see claims.h */
    int only_train, only_plan;
    claim own;                      /* for what needs none */
    /* the work that waits, and the workers' progress */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    lab_item *items;
    struct lab_worker *workers;
    int n_items, n_workers, n_at_work, n_finished, n_left;
    double train_start, steps_done, steps_left, tokens_done;
} lab_state;

/* A thread that takes work. */
typedef struct lab_worker {
    lab_state *lab;
    atv_ctx *ctx;
    atv_tokenizer *tokenizer;
    claim own;
    int lost;                       /* under the mutex */
    pthread_t thread;
} lab_worker;

/* ==== >>text ====================================================================================================== */

#ifdef __GNUC__
#define LAB_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define LAB_PRINTF(f, a)
#endif

LAB_PRINTF(1, 2)
static void lab_die(const char *format, ...) {
    va_list args;
    fflush(stdout);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void lab_check(const atv_ctx *ctx, atv_result result) {
    if (result != ATV_OK) lab_die("%s", atv_last_error(ctx));
}

static void *lab_alloc(size_t count, size_t size) {
    void *p = calloc(count ? count : 1, size);
    if (!p) lab_die("no memory for %lu times %lu bytes", (unsigned long)count, (unsigned long)size);
    return p;
}

static void lab_add(lab_text *text, const char *data, size_t size) {
    if (size >= text->room - text->size) {
        text->room = 2 * text->room + size + 256;
        text->data = (char *)realloc(text->data, text->room);
        if (!text->data) lab_die("no memory for %lu bytes of text", (unsigned long)text->room);
    }
    if (size) memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = 0;
}

LAB_PRINTF(2, 3)
static void lab_print(lab_text *text, const char *format, ...) {
    char piece[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(piece, sizeof piece, format, args);
    va_end(args);
    lab_add(text, piece, strlen(piece));
}

static void lab_json_string(lab_text *text, const char *s) {
    lab_print(text, "\"");
    for (; *s; s++) lab_print(text, *s == '"' || *s == '\\' ? "\\%c" : (unsigned char)*s < 0x20 ? "\\u%04x" : "%c", *s);
    lab_print(text, "\"");
}

static void lab_csv_string(lab_text *text, const char *s) {
    lab_print(text, "\"");
    for (; *s; s++) lab_print(text, *s == '"' ? "\"\"" : "%c", *s);
    lab_print(text, "\"");
}

/* FNV-1a, 64 bits; begin with LAB_HASH. */
#define LAB_HASH UINT64_C(0xcbf29ce484222325)
static uint64_t lab_hash(uint64_t hash, const void *data, size_t size) {
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t lab_hash_text(uint64_t hash, const char *text) { return lab_hash(hash, text, strlen(text) + 1); }

/* To wait by, where macOS has but the one that may be set back. */
#ifdef __APPLE__
#define LAB_CLOCK CLOCK_REALTIME
#else
#define LAB_CLOCK CLOCK_MONOTONIC
#endif

static double lab_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static lab_path lab_duration(double seconds) {
    lab_path p;
    double s = floor(seconds + 0.5);
    if (s >= 86400) snprintf(p.s, sizeof p.s, "%.0f d %.0f h", floor(s / 86400), floor(fmod(s, 86400) / 3600));
    else if (s >= 3600) snprintf(p.s, sizeof p.s, "%.0f h %.0f min", floor(s / 3600), floor(fmod(s, 3600) / 60));
    else if (s >= 60) snprintf(p.s, sizeof p.s, "%.0f min %.0f s", floor(s / 60), fmod(s, 60));
    else snprintf(p.s, sizeof p.s, "%.0f s", s);
    return p;
}

/* A line on stderr. On a terminal bars are redrawn until a `last` line takes their place; elsewhere there are last lines,
   and a bar twice a minute. */
static void lab_say(lab_state *lab, const char *line, int last) {
    double now = lab_now();
    if (!last && now - lab->said < (lab->terminal ? 0.1 : 30)) return;
    if (lab->terminal) fprintf(stderr, "\r%-*s%s", lab->said_width, line, last ? "\n" : "");
    else fprintf(stderr, "%s\n", line);
    lab->said_width = lab->terminal && !last ? (int)strlen(line) : 0;
    lab->said = now;
}

/* ==== >>files ===================================================================================================== */

LAB_PRINTF(1, 2)
static lab_path lab_pathf(const char *format, ...) {
    lab_path p;
    va_list args;
    va_start(args, format);
    if (vsnprintf(p.s, sizeof p.s, format, args) >= (int)sizeof p.s) lab_die("%s..: the path is too long", p.s);
    va_end(args);
    return p;
}

static void lab_bar(lab_state *lab, const char *label, double done, const char *rest, double left) {
    lab_say(lab, lab_pathf("  %s [%-30.*s] %3.0f %%  %s, %s left", label, (int)(done * 30 + 1e-9),
                           "##############################", 100 * done, rest, lab_duration(left).s).s, 0);
}

static int lab_exists(const char *path) { struct stat info; return stat(path, &info) == 0; }

static void lab_make_dir(const char *path) {
    if (mkdir(path, 0777) != 0 && errno != EEXIST) lab_die("%s: cannot be made: %s", path, strerror(errno));
}

/* The first `max` bytes, 0: all. Returns 0 when the file cannot be opened. */
static int lab_read(const char *path, size_t max, lab_text *out) {
    char buffer[1 << 14];
    FILE *file = fopen(path, "rb");
    size_t n;
    memset(out, 0, sizeof *out);
    if (!file) return 0;
    lab_add(out, "", 0);
    while ((max == 0 || out->size < max) && (n = fread(buffer, 1, sizeof buffer, file)) > 0) lab_add(out, buffer, n);
    if (ferror(file)) lab_die("%s: cannot be read: %s", path, strerror(errno));
    fclose(file);
    return 1;
}

/* How files are written, also by the library: beside the target, flushed, renamed over it, so that whenever the power goes a
   file is the old one or the new one. user is the claim, without which nothing is renamed. */
static int lab_io_create(void *user, const char *path, void **file) {
    *file = fopen(claim_temporary((const claim *)user, path).s, "wb");
    return *file == NULL;
}

static int lab_io_write(void *user, void *file, const void *data, size_t size) {
    (void)user;
    return fwrite(data, 1, size, (FILE *)file) != size;
}

static int lab_io_close(void *user, void *file, int flush) {
    int bad = flush && (fflush((FILE *)file) != 0 || fsync(fileno((FILE *)file)) != 0);
    (void)user;
    return (fclose((FILE *)file) != 0) | bad;
}

static int lab_io_rename(void *user, const char *from, const char *to) {
    const claim *own = (const claim *)user;
    return !claim_owned(own) || rename(claim_temporary(own, from).s, to) != 0;
}

static int lab_io_remove(void *user, const char *path) {
    return remove(claim_temporary((const claim *)user, path).s) != 0;
}

/* The text is freed. 0: the claim is lost, and nothing was written. */
static int lab_write(claim *own, const char *path, lab_text *text) {
    void *file;
    int bad = lab_io_create(own, path, &file), code = errno;
    if (!bad) {
        bad = lab_io_write(own, file, text->data, text->size);
        code = errno;
        if (lab_io_close(own, file, !bad) && !bad) { bad = 1; code = errno; }
    }
    if (!bad && lab_io_rename(own, path, path)) { bad = 1; code = errno; }
    free(text->data);
    if (!bad) return 1;
    if (claim_owned(own)) lab_die("%s: cannot be written: %s", path, strerror(code));
    lab_io_remove(own, path);
    return 0;
}

static atv_ctx *lab_context(const lab_state *lab, int n_threads, claim *own) {
    atv_ctx_desc desc = {0};
    atv_ctx *ctx;
    atv_result result;
    desc.n_threads = n_threads;
    desc.isa = lab->isa_asked;
    desc.io.user = own;
    desc.io.create = lab_io_create;
    desc.io.write = lab_io_write;
    desc.io.close = lab_io_close;
    desc.io.rename = lab_io_rename;
    desc.io.remove = lab_io_remove;
    result = atv_ctx_create(&desc, &ctx);
    if (result == ATV_ERR_UNSUPPORTED) lab_die("ISA=%s: this machine lacks it", atv_isa_name(lab->isa_asked));
    if (result != ATV_OK) lab_die("%s: no context: %s", lab->program, atv_result_text(result));
    return ctx;
}

/* ==== >>setup ===================================================================================================== */

static const char *lab_env(const char *name) {
    const struct lab_variable *v = lab_variables;
    const char *value = getenv(name);
    while (strcmp(v->name, name) != 0) v++;                 /* it is one of them */
    return value && *value ? value : v->missing;
}

static void lab_help(const char *program, const char *question) {
    printf("%s: %s\n\nIt takes no arguments. The environment sets, empty as not set:\n\n", program, question);
    for (size_t i = 0; i < sizeof lab_variables / sizeof *lab_variables; i++) {
        const struct lab_variable *v = &lab_variables[i];
        const char *line = v->text;
        printf("  %-*s", 16, lab_pathf("%s%s%s", v->name, v->missing ? "=" : "", v->missing ? v->missing : "").s);
        for (size_t n; n = strcspn(line, "\n"), line[n]; line += n + 1) printf("%.*s\n%18s", (int)n, line, "");
        printf("%s\n", line);
    }
}

/* A setting that is a whole number. */
static int lab_whole(const char *name, int least, int most, const char *what) {
    const char *value = lab_env(name);
    char *end;
    long n = strtol(value, &end, 10);
    if (*end || n < least || n > most) lab_die("%s=%s: must be %d to %d%s", name, value, least, most, what);
    return (int)n;
}

static lab_state *lab_open(const char *program, const char *question, int argc, char **argv) {
    lab_state *lab = (lab_state *)lab_alloc(1, sizeof *lab);
    const char *scale = lab_env("SCALE"), *work = lab_env("WORK"), *isa = lab_env("ISA");
    int n_threads;
    pthread_condattr_t waits;

    if (argc > 1) {
        int help = strcmp(argv[1], "--help") == 0;
        if (help) lab_help(program, question);
        else fprintf(stderr, "%s: '%s' is no argument: it takes none; --help lists what the environment sets\n", program,
                     argv[1]);
        exit(help ? 0 : 2);
    }
    lab->program = program;
    lab->start = lab_now();
    lab->terminal = isatty(2);
    lab->said = lab->start;
    pthread_mutex_init(&lab->mutex, NULL);
    pthread_condattr_init(&waits);
#ifndef __APPLE__
    pthread_condattr_setclock(&waits, LAB_CLOCK);
#endif
    pthread_cond_init(&lab->changed, &waits);
    pthread_condattr_destroy(&waits);
    lab->data = lab_env("DATA");
    lab->out = lab_env("OUT");
    for (size_t i = 0; i < sizeof lab_scales / sizeof *lab_scales; i++)
        if (strcmp(scale, lab_scales[i].name) == 0) lab->scale = &lab_scales[i];
    if (!lab->scale) lab_die("SCALE=%s: must be smoke, default, full or paper", scale);
    n_threads = lab_whole("THREADS", 0, 1024, ", 0 for all processors");
    lab->n_seeds = lab_whole("SEEDS", 1, LAB_MAX_SEEDS, "");
    lab->stale = lab_whole("STALE", 1, 1000000, " seconds");
    while (lab->isa_asked < ATV_ISA_COUNT && strcmp(isa, atv_isa_name(lab->isa_asked)) != 0)
        lab->isa_asked = (atv_isa)(lab->isa_asked + 1);
    if (lab->isa_asked == ATV_ISA_COUNT) lab_die("ISA=%s: must be auto, scalar, avx2, avx512 or neon", isa);
    lab->only_train = work && strcmp(work, "train") == 0;
    lab->only_plan = work && strcmp(work, "plan") == 0;
    if (work && !lab->only_train && !lab->only_plan) lab_die("WORK=%s: must be train, plan, or empty", work);
    lab->prompt = lab->scale->prompt;

    lab->own = claim_none();
    lab->ctx = lab_context(lab, n_threads, &lab->own);
    lab->n_threads = atv_ctx_info(lab->ctx)->n_threads;
    lab->isa = atv_isa_name(atv_ctx_info(lab->ctx)->isa);
    lab_make_dir(lab->out);
    lab_make_dir(lab_pathf("%s/runs", lab->out).s);
    printf("%s: %s\n", program, question);
    return lab;
}

/* ==== >>data ====================================================================================================== */

static void lab_docs_add(lab_docs *docs, const char *text, size_t size) {
    while (size && strchr(" \r\n\t", text[0])) { text++; size--; }
    while (size && strchr(" \r\n\t", text[size - 1])) size--;
    if (!size) return;
    if ((docs->n & (docs->n - 1)) == 0) {                   /* full at 0, 1, 2, 4, 8, .. */
        docs->starts = (size_t *)realloc(docs->starts, (2 * (size_t)docs->n + 2) * sizeof *docs->starts);
        if (!docs->starts) lab_die("no memory for %d documents", 2 * docs->n);
    }
    docs->starts[docs->n++] = docs->text.size;
    lab_add(&docs->text, text, size);
    lab_add(&docs->text, "\n", 1);
    docs->starts[docs->n] = docs->text.size;
}

static lab_docs lab_docs_read(const lab_state *lab, const char *path) {
    static const char mark[] = "<|endoftext|>";
    lab_docs docs = {{0}, 0, 0};
    lab_text text;
    if (!lab_read(path, lab->scale->max_text, &text)) lab_die("%s: cannot be read: %s", path, strerror(errno));
    for (size_t i = 0; i < text.size; i++) if (!text.data[i]) text.data[i] = ' ';   /* strstr would stop there */
    for (const char *p = text.data, *next; p; p = next ? next + sizeof mark - 1 : NULL) {
        next = strstr(p, mark);
        lab_docs_add(&docs, p, next ? (size_t)(next - p) : strlen(p));
    }
    free(text.data);
    return docs;
}

static lab_docs lab_docs_make(uint64_t seed, int n) {
    lab_docs docs = {{0}, 0, 0};
    char text[8192];
    for (int i = 0; i < n; i++) {
        size_t size = story_write(seed + (uint64_t)i, text, sizeof text);
        lab_docs_add(&docs, text, ATVI_MIN(size, sizeof text - 1));
    }
    return docs;
}

/* Each document wrapped as the tokenizer's post-processor has it, then cut at the context. */
static atv_data lab_encode(lab_state *lab, const lab_docs *docs, int first, int n, long *tokens, uint64_t *hash) {
    size_t context = (size_t)lab->scale->context, longest = 0, room = 0, used = 0;
    int32_t *ids, *all;
    int *lengths = (int *)lab_alloc((size_t)n, sizeof *lengths);
    atv_data data = {0};
    for (int i = first; i < first + n; i++) {
        size_t size = docs->starts[i + 1] - docs->starts[i];
        longest = ATVI_MAX(longest, size + 2);
        room += ATVI_MIN(size + 2, context);                /* a token has at least one byte */
    }
    ids = (int32_t *)lab_alloc(longest, sizeof *ids);
    all = (int32_t *)lab_alloc(room, sizeof *all);
    for (int i = first; i < first + n; i++) {
        size_t k = 0, encoded;
        if (lab->bos >= 0) ids[k++] = lab->bos;
        lab_check(lab->ctx, atv_tokenizer_encode(lab->tokenizer, docs->text.data + docs->starts[i],
                                            docs->starts[i + 1] - docs->starts[i] - 1, ids + k, longest - 2, &encoded));
        k += encoded;
        if (lab->eos >= 0) ids[k++] = lab->eos;
        k = ATVI_MIN(k, context);
        memcpy(all + used, ids, k * sizeof *ids);
        used += k;
        lengths[data.n_docs++] = (int)k;
    }
    free(ids);
    data.ids = all;
    data.lengths = lengths;
    *tokens = (long)used;
    *hash = lab_hash(lab_hash(LAB_HASH, all, used * sizeof *all), lengths, (size_t)n * sizeof *lengths);
    return data;
}

/* TOKENIZER, or one trained on the first 64 MB of the text and kept in out/. */
static void lab_open_tokenizer(lab_state *lab, const lab_docs *docs) {
    const char *given = lab_env("TOKENIZER");
    size_t size = ATVI_MIN(docs->text.size, (size_t)1 << 26);
    lab->tokenizer_dir = lab_pathf("%s/tokenizer-%d-%016llx", lab->out, lab->scale->vocab_size,
                                   (unsigned long long)lab_hash(LAB_HASH, docs->text.data, size));
    if (given) lab->tokenizer_dir = lab_pathf("%s", given);
    if (given || lab_exists(lab_pathf("%s/tokenizer.json", lab->tokenizer_dir.s).s)) {
        if (atv_tokenizer_load(lab->ctx, lab->tokenizer_dir.s, &lab->tokenizer) != ATV_OK)
            lab_die("%s%s%s%s", atv_last_error(lab->ctx), given ? "" : "; delete ", given ? "" : lab->tokenizer_dir.s,
                    given ? "" : ", and it is trained again");
    } else {
        atv_tokenizer_train_desc desc = {0};
        desc.vocab_size = lab->scale->vocab_size;
        lab_check(lab->ctx, atv_tokenizer_train(lab->ctx, &desc, docs->text.data, size, &lab->tokenizer));
        lab_make_dir(lab->tokenizer_dir.s);
        lab_check(lab->ctx, atv_tokenizer_save(lab->tokenizer, lab->tokenizer_dir.s));
    }
    atv_tokenizer_wrap(lab->tokenizer, &lab->bos, &lab->eos);
    lab->tokenizer_hash = LAB_HASH;
    for (int i = 0; i < atv_tokenizer_vocab_size(lab->tokenizer); i++) {
        const char *token = atv_tokenizer_token(lab->tokenizer, i, &size);
        lab->tokenizer_hash = lab_hash(lab->tokenizer_hash, &i, sizeof i);
        if (token) lab->tokenizer_hash = lab_hash(lab->tokenizer_hash, token, size);
    }
}

/* The pairs of stories.h as JSON lines: they go the way that all others go. Each stands where such sentences stand in the
   text, behind the opening sentences of a held-out story, which are the same for both. */
static void lab_make_pairs(lab_state *lab) {
    char sentence[2][512], text[8192];
    for (int kind = 0; kind < STORY_KINDS; kind++) {
        lab_text *lines = &lab->kinds[kind];
        snprintf(lab->kind_names[kind], sizeof lab->kind_names[kind], "%s", story_kind_name(kind));
        lab->kind_files[kind] = lab_pathf("pairs made here, %s", lab->kind_names[kind]);
        for (int i = 0; i < (lab->scale->n_pairs ? lab->scale->n_pairs : 1000); i++, lab->n_pairs++) {
            size_t opening = 0;
            story_write((UINT64_C(1) << 41) + (uint64_t)i, text, sizeof text);
            for (size_t k = 0; k < 110 && text[k]; k++)
                if (strchr(".!?", text[k]) && text[k + 1] == ' ') opening = k + 2;
            text[opening] = 0;
            story_pair((uint64_t)i, kind, sentence[0], sentence[1], sizeof sentence[0]);
            for (int bad = 0; bad < 2; bad++) {
                lab_print(lines, bad ? ", \"sentence_bad\": " : "{\"sentence_good\": ");
                lab_json_string(lines, lab_pathf("%s%s", text, sentence[bad]).s);
            }
            lab_print(lines, "}\n");
        }
    }
    lab->n_kinds = STORY_KINDS;
}

static int lab_compare_names(const void *a, const void *b) { return strcmp((const char *)a, (const char *)b); }

static int lab_is_blank(const char *line) { return strchr("\n", line[strspn(line, " \t\r")]) != NULL; }

/* A kind for each file. Where the scale takes fewer pairs than a file has, they are spread evenly over it, and empty lines
   stand for the others. Scored as the BabyLM 2023 evaluation scores, after the end token and a space. */
static void lab_read_pairs(lab_state *lab, const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *entry;
    if (!d) lab_die("PAIRS=%s: cannot be read: %s", dir, strerror(errno));
    while ((entry = readdir(d)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || (strcmp(dot, ".json") != 0 && strcmp(dot, ".jsonl") != 0)) continue;
        if (lab->n_kinds == LAB_MAX_KINDS) lab_die("PAIRS=%s: has more than %d files", dir, LAB_MAX_KINDS);
        if (strlen(entry->d_name) >= sizeof lab->kind_names[0]) lab_die("PAIRS: %s: the name is too long", entry->d_name);
        strcpy(lab->kind_names[lab->n_kinds++], entry->d_name);
    }
    closedir(d);
    if (!lab->n_kinds) lab_die("PAIRS=%s: has no .json or .jsonl file", dir);
    qsort(lab->kind_names, (size_t)lab->n_kinds, sizeof *lab->kind_names, lab_compare_names);
    for (int i = 0; i < lab->n_kinds; i++) {
        lab_path path = lab->kind_files[i] = lab_pathf("%s/%s", dir, lab->kind_names[i]);
        lab_text all;
        double pairs = 0, pair = 0, taken = 0, wanted;
        if (!lab_read(path.s, 0, &all)) lab_die("%s: cannot be read: %s", path.s, strerror(errno));
        if (strlen(all.data) != all.size) lab_die("%s: is no text: it has a byte 0", path.s);
        if (all.size && all.data[all.size - 1] != '\n') lab_add(&all, "\n", 1);
        for (const char *p = all.data, *next; (next = strchr(p, '\n')) != NULL; p = next + 1) pairs += !lab_is_blank(p);
        if (pairs == 0) lab_die("%s: has no pairs", path.s);
        wanted = lab->scale->n_pairs ? ATVI_MIN(pairs, lab->scale->n_pairs) : pairs;
        for (const char *p = all.data, *next; (next = strchr(p, '\n')) != NULL; p = next + 1) {
            if (!lab_is_blank(p) && pair++ * wanted >= taken * pairs) {
                lab_add(&lab->kinds[i], p, (size_t)(next - p));
                taken++;
            }
            lab_add(&lab->kinds[i], "\n", 1);
        }
        lab->n_pairs += (long)taken;
        free(all.data);
        *strrchr(lab->kind_names[i], '.') = 0;
    }
}

/* The file of a task, NAME.part.json or .jsonl. */
static lab_path lab_task_path(const char *dir, const char *name, const char *part) {
    lab_path p = lab_pathf("%s/%s.%s.json", dir, name, part), lines = lab_pathf("%sl", p.s);
    if (lab_exists(p.s)) return p;
    if (!lab_exists(lines.s)) lab_die("%s: neither it nor %s.%s.jsonl is there", p.s, name, part);
    return lines;
}

static atv_metric lab_metric(const char *task) {
    if (strcmp(task, "cola") == 0) return ATV_METRIC_MCC;
    return strcmp(task, "mrpc") == 0 || strcmp(task, "qqp") == 0 ? ATV_METRIC_F1 : ATV_METRIC_ACCURACY;
}

static atv_finetune_desc lab_tuning(const lab_state *lab, uint64_t seed) {
    atv_finetune_desc desc = atv_finetune_babylm();
    desc.max_epochs = lab->scale->glue_epochs;
    desc.trainer.seed = seed;
    return desc;
}

/* What a task's model is trained on. */
static atv_data lab_task_data(const lab_state *lab, const lab_task *task) {
    atv_data data = *atv_task_data(task->train);
    if (lab->scale->n_glue) data.n_docs = ATVI_MIN(data.n_docs, lab->scale->n_glue);
    return data;
}

static void lab_open_task(lab_state *lab, const char *dir, lab_task *task) {
    static const char *const parts[] = {"train", "validation"};
    atv_finetune_desc how = lab_tuning(lab, 0);
    atv_task_desc desc = {0};
    const char *const *labels;
    lab_path settings, paths[2];
    int n_labels;
    desc.max_length = ATVI_MIN(128, lab->scale->context);
    task->metric = lab_metric(task->name);
    settings = lab_pathf("%d.%d.%d %s %d %d %.17g %d %d %d %d %.17g", ATV_VERSION_MAJOR, ATV_VERSION_MINOR,
                         ATV_VERSION_PATCH, atv_metric_name(task->metric), desc.max_length, lab->scale->n_glue,
                         how.trainer.learning_rate, how.trainer.batch, how.max_epochs, how.eval_every, how.patience,
                         how.min_improvement);
    task->hash = lab_hash_text(LAB_HASH, settings.s);
    for (int i = 0; i < 2; i++) {
        const char *path = paths[i].s;
        lab_text text;
        paths[i] = lab_task_path(dir, task->name, parts[i]);
        if (!lab_read(path, 0, &text)) lab_die("%s: cannot be read: %s", path, strerror(errno));
        if (i == 1) desc.labels = atv_task_labels(task->train, &desc.n_labels);
        if (atv_task_from_memory(lab->tokenizer, text.data, text.size, &desc, i ? &task->valid : &task->train) != ATV_OK)
            lab_die("%s: %s", path, atv_last_error(lab->ctx));
        labels = atv_task_labels(task->train, &n_labels);
        if (n_labels < 2) lab_die("%s: all labels are %s", path, n_labels ? labels[0] : "unknown");
        task->hash = lab_hash(task->hash, text.data, text.size);
        free(text.data);
    }
    if (strcmp(atv_task_fields(task->train), atv_task_fields(task->valid)) != 0)
        lab_die("%s has the fields %s, %s %s", paths[0].s, atv_task_fields(task->train), paths[1].s,
                atv_task_fields(task->valid));
    for (int i = 0; i < 2; i++) {
        atv_data data = i ? *atv_task_data(task->valid) : lab_task_data(lab, task);
        int k = 0;
        while (k < data.n_docs && data.labels[k] < 0) k++;
        if (k == data.n_docs) lab_die("%s: no example has a label", paths[i].s);
    }
}

static void lab_list_tasks(lab_state *lab, const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *entry;
    if (!d) lab_die("GLUE=%s: cannot be read: %s", dir, strerror(errno));
    while ((entry = readdir(d)) != NULL) {
        const char *end = strstr(entry->d_name, ".train.json");
        size_t size = end ? (size_t)(end - entry->d_name) : 0;
        if (!end || (strcmp(end, ".train.json") != 0 && strcmp(end, ".train.jsonl") != 0)) continue;
        if (lab->n_tasks == LAB_MAX_TASKS) lab_die("GLUE=%s: has more than %d tasks", dir, LAB_MAX_TASKS);
        if (size >= sizeof lab->tasks[0].name) lab_die("GLUE: %s: the name is too long", entry->d_name);
        memcpy(lab->tasks[lab->n_tasks++].name, entry->d_name, size);
    }
    closedir(d);
    if (!lab->n_tasks) lab_die("GLUE=%s: has no NAME.train.json", dir);
    qsort(lab->tasks, (size_t)lab->n_tasks, sizeof *lab->tasks, lab_compare_names);     /* a task begins with its name */
}

static void lab_open_data(lab_state *lab) {
    const lab_scale *scale = lab->scale;
    const char *pairs = lab_env("PAIRS"), *glue = lab_env("GLUE");
    struct stat info;
    lab_docs train, valid = {{0}, 0, 0};
    int n_train, n_valid, per_step = scale->batch * scale->accumulate;

    if (pairs) lab_read_pairs(lab, pairs);                  /* before all that takes a while */
    if (glue) lab_list_tasks(lab, glue);
    if (!lab->data) {                                       /* seeds from 0 to train on, held out from 2^40 */
        train = lab_docs_make(0, scale->n_train);
        valid = lab_docs_make(UINT64_C(1) << 40, scale->n_valid);
    } else if (stat(lab->data, &info) == 0 && S_ISDIR(info.st_mode)) {
        train = lab_docs_read(lab, lab_pathf("%s/train.txt", lab->data).s);
        valid = lab_docs_read(lab, lab_pathf("%s/valid.txt", lab->data).s);
    } else train = lab_docs_read(lab, lab->data);
    n_valid = lab->data && !S_ISDIR(info.st_mode) ? (train.n + 19) / 20 : valid.n;
    n_train = valid.n ? train.n : train.n - n_valid;
    if (scale->n_valid) n_valid = ATVI_MIN(n_valid, scale->n_valid);
    if (n_train < per_step || n_valid < 1)
        lab_die("DATA=%s: has %d documents to train on, %d held out; %d and 1 are needed", lab->data, n_train, n_valid,
                per_step);

    lab_open_tokenizer(lab, &train);
    lab->train = lab_encode(lab, &train, 0, n_train, &lab->train_tokens, &lab->train_hash);
    lab->valid = lab_encode(lab, valid.n ? &valid : &train, valid.n ? 0 : n_train, n_valid, &lab->valid_tokens,
                            &lab->valid_hash);
    free(train.text.data);
    free(train.starts);
    free(valid.text.data);
    free(valid.starts);
    lab->steps = scale->steps ? scale->steps : (int)(((int64_t)scale->epochs * n_train + per_step - 1) / per_step);

    for (int i = 0; i < lab->n_tasks; i++) lab_open_task(lab, glue, &lab->tasks[i]);
    if (!pairs && !lab->data) {
        lab_make_pairs(lab);
        if (lab->bos >= 0) {
            lab->pairs_desc.start_token = lab->bos;
            lab->pairs_desc.has_start_token = 1;
            lab->pairs_desc.no_space = 1;
        }
    }
    lab->pairs_hash = lab_hash_text(LAB_HASH, lab_pathf("%d.%d.%d %d %d %d", ATV_VERSION_MAJOR, ATV_VERSION_MINOR,
                                                        ATV_VERSION_PATCH, lab->pairs_desc.start_token,
                                                        lab->pairs_desc.has_start_token, lab->pairs_desc.no_space).s);
    for (int i = 0; i < lab->n_kinds; i++) {
        lab->pairs_hash = lab_hash_text(lab->pairs_hash, lab->kind_names[i]);
        lab->pairs_hash = lab_hash(lab->pairs_hash, lab->kinds[i].data, lab->kinds[i].size);
    }
}

/* ==== >>runs ====================================================================================================== */

/* The model that this scale trains for a variant. */
static atv_config lab_config(const lab_state *lab, const lab_variant *variant) {
    atv_config config = {0};
    config.vocab_size = atv_tokenizer_vocab_size(lab->tokenizer);
    config.max_position_embeddings = lab->scale->context;
    config.hidden_size = lab->scale->hidden_size;
    config.num_layers = LAB_LAYERS;
    config.num_heads = variant->heads;
    config.window_size = lab->scale->window;
    config.initializer_range = lab->scale->init;
    config.has_special_ids = 1;
    config.bos_token_id = lab->bos;
    config.eos_token_id = lab->eos;
    config.pad_token_id = atv_tokenizer_id(lab->tokenizer, "<pad>");
    lab_check(lab->ctx, atv_config_preset(lab->ctx, variant->preset, variant->group, variant->kqv, lab->scale->ffn_base,
                                     &config));
    lab_check(lab->ctx, atv_config_resolve(lab->ctx, &config, &config));
    return config;
}

static atv_trainer_desc lab_recipe(const lab_state *lab, int seed) {
    atv_trainer_desc recipe = atv_trainer_published();
    recipe.total_steps = lab->steps;
    recipe.max_length = lab->scale->context;
    recipe.seed = (uint64_t)seed;
    if (lab->scale->learning_rate == 0) return recipe;
    recipe.batch = lab->scale->batch;
    recipe.accumulate = lab->scale->accumulate;
    recipe.has_learning_rate = 1;
    recipe.learning_rate = lab->scale->learning_rate;
    recipe.min_learning_rate = 0;
    recipe.schedule = ATV_SCHEDULE_LINEAR;
    recipe.warmup_steps = lab->steps / 10;
    recipe.beta2 = 0.98;
    recipe.max_grad_norm = 1;
    return recipe;
}

/* All that decides a run's result, as JSON; its hash names the run. With isas, which it was trained with, if not NULL. */
static lab_text lab_settings_json(const lab_state *lab, const atv_config *c, const atv_trainer_desc *r, const char *isas) {
    lab_text t = {0};
    lab_print(&t, "{\n  \"library\": \"%d.%d.%d\",\n", ATV_VERSION_MAJOR, ATV_VERSION_MINOR, ATV_VERSION_PATCH);
#define INT(x) lab_print(&t, "  \"%s\": %lld,\n", strrchr(#x, '>') + 1, (long long)(x));
#define REAL(x) lab_print(&t, "  \"%s\": %.17g,\n", strrchr(#x, '>') + 1, x);
#define HASH(x) lab_print(&t, "  \"%s\": \"%016llx\",\n", strrchr(#x, '>') + 1, (unsigned long long)(x));
    INT(c->vocab_size) INT(c->max_position_embeddings) INT(c->hidden_size) INT(c->num_layers) INT(c->num_heads)
    INT(c->num_key_value_heads) INT(c->kqv_size) INT(c->intermediate_size) INT(c->window_size) REAL(c->layer_norm_epsilon)
    REAL(c->initializer_range)
    INT(lab->steps) INT(r->batch) INT(r->accumulate) INT(r->max_length) INT(r->has_learning_rate) REAL(r->learning_rate)
    REAL(r->min_learning_rate) INT(r->schedule) INT(r->warmup_steps) REAL(r->beta1) REAL(r->beta2) REAL(r->epsilon)
    REAL(r->weight_decay) INT(r->decay_all) REAL(r->max_grad_norm) INT(lab->scale->n_curve) INT(lab->scale->every)
    HASH(lab->train_hash) HASH(lab->valid_hash) HASH(lab->tokenizer_hash)
#undef INT
#undef REAL
#undef HASH
    if (isas) lab_print(&t, "  \"isa\": \"%s\",\n", isas);
    lab_print(&t, "  \"seed\": %d\n}\n", (int)r->seed);
    return t;
}

static lab_path lab_checkpoint(const lab_run *run) { return lab_pathf("%s/trainer.safetensors", run->dir.s); }

/* The learning curve up to a step: later points belong to steps that will be run again. */
static void lab_read_curve(lab_run *run, long last_step) {
    lab_text text;
    run->n_points = 0;
    if (!lab_read(lab_pathf("%s/curve.csv", run->dir.s).s, 0, &text)) return;
    for (const char *line = text.data; (line = strchr(line, '\n')) != NULL; line++) {
        lab_point p;
        if (sscanf(line, "%ld,%ld,%lf,%lf", &p.step, &p.tokens, &p.train_loss, &p.valid_loss) != 4) continue;
        if (p.step <= last_step && run->n_points < LAB_MAX_POINTS) run->points[run->n_points++] = p;
    }
    free(text.data);
}

static int lab_write_curve(claim *own, const lab_run *run) {
    lab_text text = {0};
    lab_print(&text, "step,tokens,train_loss,valid_loss\n");
    for (int i = 0; i < run->n_points; i++) {
        const lab_point *p = &run->points[i];
        lab_print(&text, "%ld,%ld,%.17g,%.17g\n", p->step, p->tokens, p->train_loss, p->valid_loss);
    }
    return lab_write(own, lab_pathf("%s/curve.csv", run->dir.s).s, &text);
}

/* The number after "key": in the text of a file of results. */
static double lab_json_number(const char *path, const char *json, const char *key) {
    lab_text pattern = {0};
    const char *at;
    double x;
    lab_json_string(&pattern, key);
    lab_print(&pattern, ": ");
    at = strstr(json, pattern.data);
    if (!at) lab_die("%s: has no \"%s\"; without this file its run is done again", path, key);
    x = strtod(at + pattern.size, NULL);
    free(pattern.data);
    return x;
}

static lab_path lab_result(const lab_run *run) { return lab_pathf("%s/result.json", run->dir.s); }

/* What is there when an item is done. */
static lab_path lab_item_result(const lab_state *lab, const lab_item *item) {
    const lab_task *task = &lab->tasks[ATVI_MAX(0, item->task)];
    if (item->task == LAB_TRAINING) return lab_result(item->run);
    if (item->task == LAB_PAIRS)
        return lab_pathf("%s/pairs-%016llx.json", item->run->dir.s, (unsigned long long)lab->pairs_hash);
    return lab_pathf("%s/glue-%s-%016llx.json", item->run->dir.s, task->name, (unsigned long long)task->hash);
}

/* The instruction sets that a file of results names, "" where it names none. */
static lab_path lab_json_isas(const char *json) {
    static const char key[] = "\"isa\": \"";
    const char *at = strstr(json, key);
    at = at ? at + sizeof key - 1 : "";
    return lab_pathf("%.*s", (int)ATVI_MIN(strcspn(at, "\"\n"), 100), at);
}

/* Those of two lists, each once. */
static lab_path lab_join_isas(const char *a, const char *b) {
    lab_path all = lab_pathf("%s", a);
    for (size_t n; b += strspn(b, " "), n = strcspn(b, " "), n > 0; b += n) {
        lab_path padded = lab_pathf(" %s ", all.s), word = lab_pathf(" %.*s ", (int)n, b);
        if (!strstr(padded.s, word.s)) all = lab_pathf("%s%s%.*s", all.s, *all.s ? " " : "", (int)n, b);
    }
    return all;
}

static void lab_read_result(lab_state *lab, const lab_item *item) {
    lab_path path = lab_item_result(lab, item);
    lab_run *run = item->run;
    lab_text text;
    if (!lab_read(path.s, 0, &text)) lab_die("%s: cannot be read: %s", path.s, strerror(errno));
    lab->isas = lab_join_isas(lab->isas.s, lab_json_isas(text.data).s);
    if (item->task == LAB_TRAINING) {
        run->loss = lab_json_number(path.s, text.data, "held_out_loss");
        run->perplexity = lab_json_number(path.s, text.data, "perplexity");
        lab_read_curve(run, LONG_MAX);
    } else if (item->task == LAB_PAIRS) {
        run->pairs = lab_json_number(path.s, text.data, "all_pairs");
        for (int i = 0; i < lab->n_kinds; i++) run->kinds[i] = lab_json_number(path.s, text.data, lab->kind_names[i]);
    } else {
        run->tasks[item->task] = lab_json_number(path.s, text.data, "score");
        run->one_answer[item->task] = lab_json_number(path.s, text.data, "one_answer");
        run->glue += run->tasks[item->task] / lab->n_tasks;
    }
    free(text.data);
}

/* A finished run's model. */
static atv_model *lab_load(atv_ctx *ctx, const lab_run *run) {
    atv_model *model;
    if (atv_model_load(ctx, run->dir.s, &model) != ATV_OK)
        lab_die("%s; delete the directory %s, and its run is done again", atv_last_error(ctx), run->dir.s);
    return model;
}

/* How often a model is right about each kind. Returns the mean over the kinds. */
static double lab_ask(const lab_state *lab, atv_ctx *ctx, atv_model *model, atv_tokenizer *tokenizer, double *kinds) {
    atv_work_desc room = {0};
    atv_work *work;
    double all = 0;
    room.max_tokens = ATVI_MAX(2 * (lab->scale->context + 1), 2048);        /* two sentences as long as the context */
    lab_check(ctx, atv_work_create(model, &room, &work));
    for (int i = 0; i < lab->n_kinds; i++) {
        const lab_text *kind = &lab->kinds[i];
        atv_pairs_result pairs;
        if (atv_eval_pairs(work, tokenizer, kind->data, kind->size, &lab->pairs_desc, &pairs) != ATV_OK)
            lab_die("%s: %s", lab->kind_files[i].s, atv_last_error(ctx));
        kinds[i] = (double)pairs.correct / (double)pairs.pairs;
        all += kinds[i] / lab->n_kinds;
    }
    atv_work_destroy(work);
    return all;
}

/* Whether all pairs can be asked, before any training: by asking a model of the least size. */
static void lab_check_pairs(lab_state *lab) {
    double kinds[LAB_MAX_KINDS];
    atv_config config = {0};
    atv_model *model;
    config.vocab_size = atv_tokenizer_vocab_size(lab->tokenizer);
    config.max_position_embeddings = lab->scale->context;
    config.hidden_size = config.intermediate_size = config.num_layers = config.num_heads = 1;
    lab_check(lab->ctx, atv_model_create(lab->ctx, &config, &model));
    atv_model_init(model, 1);
    lab_ask(lab, lab->ctx, model, lab->tokenizer, kinds);
    atv_model_destroy(model);
}

/* One run: gone on with, or run from its start. Small models gain little from several threads, so that runs go side by side
   instead, each in a context of its own; that changes no bit of their results. */
typedef struct lab_training {
    lab_state *lab;
    lab_worker *worker;
    lab_item *item;
    lab_run *run;
    atv_trainer *trainer;
    double loss_sum;                /* of the steps since the last point */
    int64_t loss_tokens, tokens_seen;
} lab_training;

static int lab_on_step(void *user, const atv_step *step) {
    lab_training *t = (lab_training *)user;
    lab_state *lab = t->lab;
    lab_run *run = t->run;
    double elapsed;
    int lost;
    t->loss_sum += step->loss.sum;
    t->loss_tokens += step->loss.tokens;
    if (step->step % lab->scale->every == 0 || step->step == lab->steps) {
        atv_data data = lab->valid;
        atv_loss valid;
        atv_result result;
        lab_point p;
        data.n_docs = ATVI_MIN(data.n_docs, lab->scale->n_curve);
        lab_check(t->worker->ctx, atv_evaluate(atv_trainer_work(t->trainer), &data, &valid));
        p.step = (long)step->step;
        p.tokens = (long)step->tokens_seen;
        p.train_loss = t->loss_sum / (double)t->loss_tokens;
        p.valid_loss = valid.sum / (double)valid.tokens;
        if (run->n_points < LAB_MAX_POINTS) run->points[run->n_points++] = p;
        t->loss_sum = 0;
        t->loss_tokens = 0;
        if (!lab_write_curve(&t->worker->own, run)) return 1;         /* first: no checkpoint is without its points */
        result = atv_trainer_save(t->trainer, lab_checkpoint(run).s);
        if (result != ATV_OK) {
            if (claim_owned(&t->worker->own)) lab_check(t->worker->ctx, result);
            return 1;
        }
    }
    pthread_mutex_lock(&lab->mutex);
    lost = t->worker->lost;
    lab->steps_done++;
    if (t->item->steps > 0) t->item->steps--;
    else lab->steps_left++;                                 /* another had done it, whose checkpoint is lost */
    lab->tokens_done += (double)(step->tokens_seen - t->tokens_seen);
    t->tokens_seen = step->tokens_seen;
    elapsed = lab_now() - lab->train_start;
    lab_bar(lab, "training", lab->steps_done / lab->steps_left,
            lab_pathf("%d of %d pieces, %.1f k tokens/s, loss %.3f", lab->n_finished, lab->n_left,
                      1e-3 * lab->tokens_done / elapsed, step->loss.sum / (double)step->loss.tokens).s,
            elapsed / lab->steps_done * (lab->steps_left - lab->steps_done) + (lab->only_train ? 0 : lab->speed_seconds));
    pthread_mutex_unlock(&lab->mutex);
    return lost;
}

/* How many points a run has that was saved after this step. */
static int lab_points_until(const lab_state *lab, int64_t step) {
    int64_t n = step / lab->scale->every + (step == lab->steps && step % lab->scale->every != 0);
    return (int)ATVI_MIN(n, LAB_MAX_POINTS);
}

/* Of the claim files' names. */
static lab_path lab_claim_base(const lab_state *lab, const lab_item *item) {
    lab_path p = item->task == LAB_TRAINING ? lab_pathf("%s/claim", item->run->dir.s) : lab_item_result(lab, item);
    if (item->task != LAB_TRAINING) strcpy(strrchr(p.s, '.'), ".claim");
    return p;
}

/* What earlier owners of an item that died left half written, and asking the time. No later owner's: this one may have
   slept. */
static void lab_remove_temporaries(const lab_state *lab, const lab_item *item, const claim *own) {
    const lab_path *dir = &item->run->dir;
    lab_path base = lab_claim_base(lab, item);
    const char *clock = strrchr(base.s, '/') + 1;           /* "claim", or "pairs-HASH.claim" beside pairs-HASH.json */
    size_t n = strlen(clock), of = n - strlen("claim");
    DIR *d = opendir(dir->s);
    struct dirent *entry;
    if (!d) lab_die("%s: cannot be read: %s", dir->s, strerror(errno));
    while ((entry = readdir(d)) != NULL) {
        const char *name = entry->d_name, *dot = strrchr(name, '.');
        int left = strncmp(name, clock, n) == 0 && name[n] == '.';
        if (!dot || strcmp(dot, ".tmp") != 0) continue;
        while (dot > name && dot[-1] != '.') dot--;         /* to the mark */
        if (left || (strncmp(name, clock, of) == 0 && atoi(dot) < own->generation))
            remove(lab_pathf("%s/%s", dir->s, name).s);
    }
    closedir(d);
}

static void lab_lost(lab_worker *worker, const lab_item *item) {
    lab_state *lab = worker->lab;
    pthread_mutex_lock(&lab->mutex);
    lab_say(lab, lab_pathf("  %-18s seed %d   %s has it now: this process slept too long", item->row->label, item->run->seed,
                           claim_file(&worker->own, worker->own.generation + 1).s).s, 1);
    pthread_mutex_unlock(&lab->mutex);
}

/* Trains a model and measures its held-out loss, until all is written or the claim is lost; a failure that is no such loss
   ends the program. */
static void lab_train(lab_worker *worker, lab_item *item) {
    lab_state *lab = worker->lab;
    const lab_row *row = item->row;
    lab_run *run = item->run;
    atv_ctx *ctx = worker->ctx;
    claim *own = &worker->own;
    lab_path checkpoint = lab_checkpoint(run);
    atv_trainer_desc recipe = lab_recipe(lab, run->seed);
    lab_path about = lab_pathf("%s/settings.json", run->dir.s), isas = lab_pathf("%s", lab->isa);
    lab_text text = {0};
    lab_training t = {0};
    atv_model *model;
    atv_save_desc save = {0};
    atv_work *work;
    atv_loss loss;
    atv_result result = ATV_OK;
    int64_t from;
    int written = 0;
    double start = lab_now();
    lab_path line;

    lab_check(ctx, atv_model_create(ctx, &row->config, &model));
    atv_model_init(model, (uint64_t)run->seed);
    lab_check(ctx, atv_trainer_create(model, &recipe, &t.trainer));
    if (lab_exists(checkpoint.s) && atv_trainer_load(t.trainer, checkpoint.s) != ATV_OK)
        lab_die("%s; delete the directory %s, and its run begins anew", atv_last_error(ctx), run->dir.s);
    from = atv_trainer_step(t.trainer);
    lab_read_curve(run, (long)from);
    if (run->n_points != lab_points_until(lab, from)) {     /* a late writer's: from the start */
        atv_trainer_destroy(t.trainer);
        atv_model_init(model, (uint64_t)run->seed);
        lab_check(ctx, atv_trainer_create(model, &recipe, &t.trainer));
        from = run->n_points = 0;
    }
    if (from && lab_read(about.s, 0, &text)) {
        lab_path before = lab_json_isas(text.data);
        isas = lab_join_isas(before.s, lab->isa);
        free(text.data);
        line = lab_pathf("  %s seed %d: begun with %s, goes on with %s: its bits will be those of neither (see ISA)",
                         row->label, run->seed, before.s, lab->isa);
        pthread_mutex_lock(&lab->mutex);
        if (*before.s && strcmp(isas.s, before.s) != 0) lab_say(lab, line.s, 1);
        pthread_mutex_unlock(&lab->mutex);
        memset(&text, 0, sizeof text);
    }
    text = lab_settings_json(lab, &row->config, &recipe, isas.s);
    lab_write(own, about.s, &text);
    work = atv_trainer_work(t.trainer);
    t.lab = lab;
    t.worker = worker;
    t.item = item;
    t.run = run;
    t.tokens_seen = run->n_points ? run->points[run->n_points - 1].tokens : 0;
    if (from < lab->steps) result = atv_trainer_run(t.trainer, &lab->train, lab->steps - from, lab_on_step, &t);

    if (result == ATV_OK) {
        lab_check(ctx, atv_evaluate(work, &lab->valid, &loss));
        run->loss = loss.sum / (double)loss.tokens;
        save.tokenizer = worker->tokenizer;
        result = atv_model_save(model, run->dir.s, &save);
    }
    if (result == ATV_OK) {
        memset(&text, 0, sizeof text);
        lab_print(&text, "{\n  \"held_out_loss\": %.17g,\n  \"perplexity\": %.17g,\n", run->loss, exp(run->loss));
        lab_print(&text, "  \"isa\": \"%s\"\n}\n", isas.s);
        written = lab_write(own, lab_result(run).s, &text); /* from here on the run is finished */
    }
    if (written) remove(checkpoint.s);
    else if (claim_owned(own)) lab_check(ctx, result);
    atv_trainer_destroy(t.trainer);
    atv_model_destroy(model);

    if (!written) {
        lab_lost(worker, item);
        return;
    }
    pthread_mutex_lock(&lab->mutex);
    line = lab_pathf("  %-18s seed %d   loss %.4f   %s", row->label, run->seed, run->loss,
                     lab_duration(lab_now() - start).s);
    if (from) line = lab_pathf("%s, from step %ld on", line.s, (long)from);
    lab_say(lab, line.s, 1);
    pthread_mutex_unlock(&lab->mutex);
}

/* What was asked is answered: the text goes to the item's file, then the line is shown, and the time that it took. */
static void lab_answer(lab_worker *worker, lab_item *item, lab_text *text, const char *line, double start) {
    lab_state *lab = worker->lab;
    lab_print(text, "  \"isa\": \"%s\"\n}\n", lab->isa);
    if (!lab_write(&worker->own, lab_item_result(lab, item).s, text)) {
        lab_lost(worker, item);
        return;
    }
    pthread_mutex_lock(&lab->mutex);
    lab->steps_done += item->steps;
    item->steps = 0;
    lab_say(lab, lab_pathf("  %-18s seed %d   %s   %s", item->row->label, item->run->seed, line,
                           lab_duration(lab_now() - start).s).s, 1);
    pthread_mutex_unlock(&lab->mutex);
}

/* A run's model by the pairs. */
static void lab_judge(lab_worker *worker, lab_item *item) {
    lab_state *lab = worker->lab;
    double start = lab_now(), kinds[LAB_MAX_KINDS], all;
    atv_model *model = lab_load(worker->ctx, item->run);
    lab_text text = {0};
    all = lab_ask(lab, worker->ctx, model, worker->tokenizer, kinds);
    atv_model_destroy(model);
    lab_print(&text, "{\n  \"all_pairs\": %.17g,\n", all);
    for (int i = 0; i < lab->n_kinds; i++) {
        lab_print(&text, "  ");
        lab_json_string(&text, lab->kind_names[i]);
        lab_print(&text, ": %.17g,\n", kinds[i]);
    }
    lab_answer(worker, item, &text, lab_pathf("pairs %.1f %%", 100 * all).s, start);
}

static int lab_on_tuning_step(void *user, const atv_step *step) {
    lab_worker *worker = (lab_worker *)user;
    int lost;
    (void)step;
    pthread_mutex_lock(&worker->lab->mutex);
    lost = worker->lost;
    pthread_mutex_unlock(&worker->lab->mutex);
    return lost;
}

/* Fine-tunes a run's model on a task: from its start, as it takes but minutes. */
static void lab_tune(lab_worker *worker, lab_item *item) {
    lab_state *lab = worker->lab;
    atv_ctx *ctx = worker->ctx;
    const lab_task *task = &lab->tasks[item->task];
    atv_data data = lab_task_data(lab, task);
    atv_finetune_desc how = lab_tuning(lab, (uint64_t)item->run->seed);
    atv_finetune_result tuned;
    atv_model *trained, *model;
    atv_result result;
    lab_text text = {0};
    double start = lab_now(), score, one_answer;
    int n_labels;

    how.on_step = lab_on_tuning_step;
    how.user = worker;
    atv_task_labels(task->train, &n_labels);
    trained = lab_load(ctx, item->run);
    lab_check(ctx, atv_model_classifier(trained, n_labels, (uint64_t)item->run->seed, &model));
    atv_model_destroy(trained);
    result = atv_finetune(model, &data, atv_task_data(task->valid), &how, &tuned);
    atv_model_destroy(model);
    if (claim_owned(&worker->own)) {
        lab_check(ctx, result);
        score = atv_metrics_get(&tuned.best.metrics, task->metric);
        one_answer = atv_metrics_get(&tuned.best.baseline, task->metric);
        lab_print(&text, "{\n  \"task\": \"%s\",\n  \"metric\": \"%s\",\n", task->name, atv_metric_name(task->metric));
        lab_print(&text, "  \"score\": %.17g,\n  \"one_answer\": %.17g,\n", score, one_answer);
        lab_print(&text, "  \"correct\": %lld,\n  \"examples\": %lld,\n", (long long)tuned.best.metrics.correct,
                  (long long)tuned.best.metrics.n);
        lab_print(&text, "  \"accuracy\": %.17g,\n  \"f1\": %.17g,\n  \"mcc\": %.17g,\n", tuned.best.metrics.accuracy,
                  tuned.best.metrics.f1, tuned.best.metrics.mcc);
        lab_print(&text, "  \"epoch\": %.17g,\n", tuned.best.epoch);
        lab_answer(worker, item, &text, lab_pathf("%s %s %.1f %% (one answer for all %.1f)", task->name,
                                                  atv_metric_name(task->metric), 100 * score, 100 * one_answer).s, start);
    }
}

/* Whether an item's result is there, whoever wrote it; counts it once. */
static int lab_is_done(lab_state *lab, lab_item *item) {
    int there = lab_exists(lab_item_result(lab, item).s), done;
    pthread_mutex_lock(&lab->mutex);
    if (there && !item->done) {
        item->done = 1;
        lab->n_finished++;
        lab->steps_left -= item->steps;
        pthread_cond_broadcast(&lab->changed);
    }
    done = item->done;
    pthread_mutex_unlock(&lab->mutex);
    return done;
}

/* Until something changes in this process, or the seconds are over; the mutex is locked. */
static void lab_wait(lab_state *lab, double seconds) {
    struct timespec until;
    long nanoseconds;
    clock_gettime(LAB_CLOCK, &until);
    nanoseconds = until.tv_nsec + (long)(1e9 * (seconds - floor(seconds)));
    until.tv_sec += (time_t)floor(seconds) + nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_cond_timedwait(&lab->changed, &lab->mutex, &until);
}

/* Does what is there to do and nobody else has: all variants of a seed, each followed by its pairs, then the next seed, then
   the tasks. Then waits for what others do, in case they die; who only trains need not. */
static void *lab_work(void *user) {
    lab_worker *worker = (lab_worker *)user;
    lab_state *lab = worker->lab;
    int left = 1, taken = 1, busy;
    for (; left && (taken || !lab->only_train);) {
        if (!taken) {
            pthread_mutex_lock(&lab->mutex);
            busy = 0;
            for (int i = 0; i < lab->n_workers; i++) busy |= lab->workers[i].own.generation > 0;
            if (!busy) lab_say(lab, lab_pathf("  waiting for %d of %d pieces of work, which others do", left,
                                              lab->n_left).s, 0);
            lab_wait(lab, 1);
            pthread_mutex_unlock(&lab->mutex);
        }
        left = taken = 0;
        for (int i = 0; i < lab->n_items; i++) {
            lab_item *item = &lab->items[i];
            claim own;
            int took;
            if (lab_is_done(lab, item)) continue;
            left++;
            lab_make_dir(item->run->dir.s);
            if (item->task != LAB_TRAINING && !lab_exists(lab_result(item->run).s)) continue;      /* no model yet */
            took = claim_take(&own, lab_claim_base(lab, item).s, lab->stale);
            if (took < 0) lab_die("%s: cannot be claimed: %s", item->run->dir.s, strerror(errno));
            if (!took) continue;
            taken++;
            pthread_mutex_lock(&lab->mutex);
            worker->own = own;
            worker->lost = 0;
            pthread_mutex_unlock(&lab->mutex);
            if (!lab_is_done(lab, item)) {                  /* it may be since we looked */
                lab_remove_temporaries(lab, item, &worker->own);
                if (item->task == LAB_TRAINING) lab_train(worker, item);
                else if (item->task == LAB_PAIRS) lab_judge(worker, item);
                else lab_tune(worker, item);
            }
            pthread_mutex_lock(&lab->mutex);
            worker->own.generation = 0;
            pthread_mutex_unlock(&lab->mutex);
            lab_is_done(lab, item);
        }
    }
    pthread_mutex_lock(&lab->mutex);
    lab->n_at_work--;
    pthread_cond_broadcast(&lab->changed);
    pthread_mutex_unlock(&lab->mutex);
    return NULL;
}

/* A sign of life for all that this process has, until its workers end. */
static void lab_keep_claims(lab_state *lab) {
    pthread_mutex_lock(&lab->mutex);
    while (lab->n_at_work > 0) {
        lab_wait(lab, lab->stale / 6.0);
        for (int i = 0; i < lab->n_workers; i++) {
            lab_worker *w = &lab->workers[i];
            w->lost = w->lost || !claim_renew(&w->own);
        }
    }
    pthread_mutex_unlock(&lab->mutex);
}

static void lab_work_all(lab_state *lab) {
    int n = ATVI_MIN(lab->n_threads, lab->n_left);
    lab->workers = (lab_worker *)lab_alloc((size_t)n, sizeof *lab->workers);
    lab->train_start = lab_now();
    for (int i = 0; i < n; i++) {
        lab_worker *w = &lab->workers[i];
        w->lab = lab;
        w->ctx = lab_context(lab, ATVI_MAX(1, lab->n_threads / n), &w->own);
        lab_check(w->ctx, atv_tokenizer_load(w->ctx, lab->tokenizer_dir.s, &w->tokenizer));
    }
    lab->n_workers = lab->n_at_work = n;
    for (int i = 0; i < n; i++)
        if (pthread_create(&lab->workers[i].thread, NULL, lab_work, &lab->workers[i]) != 0)
            lab_die("%s: no thread to train in", lab->program);
    lab_keep_claims(lab);
    for (int i = 0; i < n; i++) {
        pthread_join(lab->workers[i].thread, NULL);
        atv_tokenizer_destroy(lab->workers[i].tokenizer);
        atv_ctx_destroy(lab->workers[i].ctx);
    }
    free(lab->workers);
    lab->workers = NULL;
    lab->n_workers = 0;
}

typedef struct lab_probe { double start, seconds; int64_t first_tokens, tokens; } lab_probe;

static int lab_probe_step(void *user, const atv_step *step) {
    lab_probe *probe = (lab_probe *)user;
    if (!probe->first_tokens) {                             /* the first step touches the memory and does not count */
        probe->first_tokens = step->tokens_seen;
        probe->start = lab_now();
    }
    probe->seconds = lab_now() - probe->start;
    probe->tokens = step->tokens_seen - probe->first_tokens;
    return probe->tokens && probe->seconds > 0.3;
}

/* Seconds of training for one token on one thread, from a few batches of a model that is then thrown away. */
static double lab_seconds_per_token(lab_state *lab, const lab_row *row) {
    atv_trainer_desc recipe = lab_recipe(lab, 1);
    lab_probe probe = {0};
    atv_ctx *ctx = lab_context(lab, 1, &lab->own);
    atv_model *model;
    atv_trainer *trainer;
    atv_result result;
    recipe.accumulate = 1;
    lab_check(ctx, atv_model_create(ctx, &row->config, &model));
    atv_model_init(model, 1);
    lab_check(ctx, atv_trainer_create(model, &recipe, &trainer));
    result = atv_trainer_run(trainer, &lab->train, 1000, lab_probe_step, &probe);
    if (result != ATV_ERR_STOPPED) lab_check(ctx, result);
    atv_trainer_destroy(trainer);
    atv_model_destroy(model);
    atv_ctx_destroy(ctx);
    return probe.seconds / (double)probe.tokens;
}

/* ==== >>speed ===================================================================================================== */

/* What the system can give without swapping; 0 where it does not say. */
static double lab_free_memory(void) {
    lab_text text;
    const char *at;
    double bytes = 0;
    if (!lab_read("/proc/meminfo", 0, &text)) return 0;
    at = strstr(text.data, "MemAvailable:");
    if (at) bytes = 1024 * strtod(at + 13, NULL);
    free(text.data);
    return bytes;
}

/* A variant that generates: sequences that all have the same prompt in their caches, and the memory that a step reads. */
typedef struct lab_stream {
    atv_model *model;
    atv_decoder *decoder;
    atv_decode_input *inputs;       /* [batch] */
    int32_t *ids;                   /* [batch] the next ones */
    atv_real *logits;               /* [batch, V] */
    limits_area *areas;
    int batch, n_areas;
} lab_stream;

static atv_decoder_desc lab_decoder(const lab_state *lab, int which) {
    atv_decoder_desc desc = {0};
    desc.n_seq = lab_batches[which];
    desc.max_positions = lab->prompt + 1 + lab->scale->tokens[which];
    desc.max_rewind = lab->scale->tokens[which];
    desc.max_chunk = lab->prompt;
    return desc;
}

static void lab_stream_run(lab_state *lab, lab_stream *s, int tokens) {
    size_t vocab = (size_t)atv_model_config(s->model)->vocab_size;
    atv_sampling greedy = {0};
    for (; tokens > 0; tokens--) {
        const atv_real *logits = s->logits;
        lab_check(lab->ctx, atv_decode(s->decoder, s->inputs, s->batch, s->logits));
        for (int i = 0; i < s->batch; i++, logits += vocab)
            lab_check(lab->ctx, atv_sample(s->decoder, &greedy, NULL, logits, NULL, 0, &s->ids[i], NULL));
    }
}

/* With the prompt and a first token generated, which touches the memory. */
static lab_stream lab_stream_open(lab_state *lab, const lab_row *row, int which) {
    size_t vocab = (size_t)row->shape.vocab_size;
    atv_decoder_desc desc = lab_decoder(lab, which);
    int32_t *prompt = (int32_t *)lab_alloc((size_t)lab->prompt, sizeof *prompt);
    atv_rng rng = {1};
    lab_stream s = {0};
    s.batch = desc.n_seq;
    s.ids = (int32_t *)lab_alloc((size_t)s.batch, sizeof *s.ids);
    s.inputs = (atv_decode_input *)lab_alloc((size_t)s.batch, sizeof *s.inputs);
    s.logits = (atv_real *)lab_alloc((size_t)s.batch * vocab, sizeof *s.logits);
    for (int i = 0; i < s.batch; i++) s.ids[i] = (int32_t)atv_rng_below(&rng, (uint32_t)vocab);
    for (int i = 0; i < lab->prompt; i++) prompt[i] = (int32_t)atv_rng_below(&rng, (uint32_t)vocab);
    lab_check(lab->ctx, atv_model_create(lab->ctx, &row->shape, &s.model));
    atv_model_init(s.model, 1);
    lab_check(lab->ctx, atv_decoder_create(s.model, &desc, &s.decoder));
    lab_check(lab->ctx, atv_decoder_add(s.decoder, &s.inputs[0].seq));
    s.inputs[0].ids = prompt;
    s.inputs[0].n_ids = lab->prompt;
    lab_check(lab->ctx, atv_decode(s.decoder, s.inputs, 1, s.logits));
    for (int i = 0; i < s.batch; i++) {
        if (i > 0) lab_check(lab->ctx, atv_decoder_copy(s.decoder, s.inputs[0].seq, &s.inputs[i].seq));
        s.inputs[i].ids = &s.ids[i];
        s.inputs[i].n_ids = 1;
    }
    free(prompt);
    lab_stream_run(lab, &s, 1);
    s.areas = limits_areas(s.model, s.decoder, 0, &s.n_areas);
    if (!s.areas) lab_die("no memory for a list of %d areas", s.n_areas);
    return s;
}

static void lab_stream_close(lab_stream *s) {
    atv_decoder_destroy(s->decoder);
    atv_model_destroy(s->model);
    free(s->areas);
    free(s->logits);
    free(s->inputs);
    free(s->ids);
}

static lab_us lab_turn(lab_state *lab, lab_stream *s, int tokens, double flops) {
    limits_phase phases[1 + LAB_LAYERS];                    /* matrix products, each layer's attention */
    int first = lab->prompt + 2;                            /* positions that the first token on the clock sees */
    int n = limits_decode_phases(atv_model_config(s->model), s->batch, first, first + tokens - 1, phases);
    double bytes = limits_read(lab->ctx, s->areas, s->n_areas, 0.005), start;
    lab_us us;
    us.limit = 1e6 * limits_seconds(phases, n, flops, bytes) / s->batch;
    us.attention = 1e6 * limits_seconds(phases + 1, n - 1, flops, bytes) / s->batch;
    start = lab_now();
    lab_stream_run(lab, s, tokens);
    us.took = 1e6 * (lab_now() - start) / ((double)s->batch * tokens);
    for (int i = 0; i < s->batch; i++) lab_check(lab->ctx, atv_decoder_cut(s->decoder, s->inputs[i].seq, first - 1));
    return us;
}

static lab_us lab_medians(const lab_us *us, int n) {
    double *x = (double *)lab_alloc((size_t)n, 3 * sizeof *x);
    lab_us m;
    for (int i = 0; i < n; i++) {
        x[i] = us[i].took;
        x[n + i] = us[i].limit;
        x[2 * n + i] = us[i].attention;
    }
    m.took = stats_median(x, n).median;
    m.limit = stats_median(x + n, n).median;
    m.attention = stats_median(x + 2 * n, n).median;
    free(x);
    return m;
}

/* Fills in the speed of all rows: each takes turns with the first, which begins every other round. */
static void lab_time(lab_state *lab, lab_row *rows, int n) {
    const lab_scale *s = lab->scale;
    lab_us *first = (lab_us *)lab_alloc((size_t)n * LAB_MAX_ROUNDS, sizeof *first);     /* all of the first row's */
    double most = 0.75 * lab_free_memory(), start = lab_now(), done = 0, all = 0;
    for (int i = 0; i < n; i++) {
        atv_model *model;
        lab_check(lab->ctx, atv_model_create(lab->ctx, &rows[i].shape, &model));
        rows[i].parameters = (long)atv_model_num_parameters(model);
        for (; i == 0; lab->prompt /= 2) {                  /* a small machine times a shorter context */
            atv_decoder_desc desc = lab_decoder(lab, LAB_BATCHES - 1);
            size_t need;
            lab_check(lab->ctx, atv_decoder_bytes(model, &desc, &need));        /* the first row caches the most */
            if (most == 0 || 2 * (double)need < most || lab->prompt < 32) break;
            fprintf(stderr, "  twice 512 sequences would take %.1f GB: the prompt is cut in half\n", 2e-9 * (double)need);
        }
        atv_model_destroy(model);
    }
    for (int w = 0; w < LAB_BATCHES; w++) all += 2.0 * (n - 1) * s->rounds * lab_batches[w] * s->tokens[w];
    for (int w = 0; w < LAB_BATCHES; w++) {
        lab_stream base = lab_stream_open(lab, &rows[0], w);
        lab_us *turn = first;
        for (int i = 1; i < n; i++) {
            lab_stream own = lab_stream_open(lab, &rows[i], w);
            for (int round = 0; round < s->rounds; round++, turn++) {
                double flops = limits_flops(lab->ctx, 0.005);
                lab_us us = {0}, *ratio = &rows[i].speed[w].ratios[round], *one = &rows[0].speed[w].ratios[round];
                for (int half = 0; half < 2; half++) {
                    if ((half + round) % 2 == 0) *turn = lab_turn(lab, &base, s->tokens[w], flops);
                    else us = lab_turn(lab, &own, s->tokens[w], flops);
                }
                ratio->took = us.took / turn->took;
                ratio->limit = us.limit / turn->limit;
                ratio->attention = us.attention / turn->limit;
                one->took = one->limit = 1;
                done += 2.0 * lab_batches[w] * s->tokens[w];
                lab_bar(lab, "timing", done / all, lab_pathf("%s, b=%d: %.1f us/token", rows[i].label, lab_batches[w],
                                                             us.took).s, (lab_now() - start) / done * (all - done));
            }
            lab_stream_close(&own);
        }
        rows[0].speed[w].us = lab_medians(first, (n - 1) * s->rounds);
        for (int i = 1; i < n; i++) {
            lab_us ratio = lab_medians(rows[i].speed[w].ratios, s->rounds), *us = &rows[i].speed[w].us;
            us->took = ratio.took * rows[0].speed[w].us.took;
            us->limit = ratio.limit * rows[0].speed[w].us.limit;
            us->attention = ratio.attention * rows[0].speed[w].us.limit;
        }
        lab_stream_close(&base);
    }
    lab_say(lab, lab_pathf("  timing took %s", lab_duration(lab_now() - start).s).s, 1);
    free(first);
}

/* How many times a base's time a row takes, in the median of the turns; limit: how many times it would at the limits. */
static stats_range lab_ratio(const lab_state *lab, const lab_row *row, const lab_row *base, int which, int limit) {
    double x[LAB_MAX_ROUNDS];
    for (int k = 0; k < lab->scale->rounds; k++) {
        const lab_us *a = &base->speed[which].ratios[k], *b = &row->speed[which].ratios[k];
        x[k] = limit ? b->limit / a->limit : b->took / a->took;
    }
    return stats_median(x, lab->scale->rounds);
}

/* ==== >>measure =================================================================================================== */

/* The usual 8 heads go without saying. */
static void lab_name(lab_row *row) {
    const lab_variant *v = row->variant;
    const char *name = atv_variant_name(v->preset);
    char *p = row->label;
    double proportions[2] = {v->preset == ATV_KQV ? v->kqv : v->group, v->kqv};
    int n = v->preset == ATV_COMBINED ? 2 : v->preset == ATV_GQA || v->preset == ATV_KQV;
    snprintf(row->id, sizeof row->id, "%s-%d", name, v->heads);
    for (; *name; name++) *p++ = (char)(*name - 32);
    for (int i = 0; i < n; i++) {
        char number[16];
        snprintf(number, sizeof number, "%g", proportions[i]);
        snprintf(row->id + strlen(row->id), sizeof row->id - strlen(row->id), "-%s", number);
        p += sprintf(p, "%c%s", i ? '/' : ' ', number + (*number == '0'));
    }
    if (v->heads != 8) sprintf(p, ", %d heads", v->heads);
}

/* Says what will be done and how long it will take. */
static void lab_plan(lab_state *lab, lab_row *rows, int n) {
    const lab_scale *s = lab->scale;
    const atv_config *config = &rows[0].config;
    double weights = (double)config->hidden_size * (config->vocab_size + 8 * config->hidden_size + 4 * s->ffn_base);
    double per_token, step, evaluation, timed = 0;
    double training, tuning = 0, judging = 0;
    int begun = 0, trained = 0, judged = 0, tuned = 0;
    for (int i = 0; i < lab->n_items; i++) {
        lab_item *item = &lab->items[i];
        lab_run *run = item->run;
        item->done = lab_exists(lab_item_result(lab, item).s);
        if (item->done) continue;
        lab->n_left++;
        judged += item->task == LAB_PAIRS;
        tuned += item->task >= 0;
        if (item->task != LAB_TRAINING) continue;
        trained++;
        item->steps = lab->steps;
        if (lab_exists(lab_checkpoint(run).s)) {
            begun++;
            lab_read_curve(run, LONG_MAX);
            if (run->n_points) item->steps -= (int)run->points[run->n_points - 1].step;
        }
        lab->steps_left += item->steps;
    }

    printf("  text      %s: %d documents to train on (%.2f million tokens), %d held out; ",
           lab->data ? lab->data : "stories made here", lab->train.n_docs, 1e-6 * (double)lab->train_tokens,
           lab->valid.n_docs);
    if (lab->n_kinds) printf("%ld minimal pairs of %d kinds\n", lab->n_pairs, lab->n_kinds);
    else printf("no minimal pairs without PAIRS=dir\n");
    printf("  model     V %d, C %d, T %d, L 2 (global, local %d), FFN %d for MHA; %d steps of %d documents\n",
           config->vocab_size, config->hidden_size, s->context, s->window, s->ffn_base, lab->steps,
           s->batch * s->accumulate);
    printf("  runs      %d variants x %d seeds = %d: %d finished already, %d to go on with, %d to begin\n", n, lab->n_seeds,
           n * lab->n_seeds, n * lab->n_seeds - trained, begun, trained - begun);
    if (lab->n_kinds) printf("  pairs     %d of %d models to judge\n", judged, n * lab->n_seeds);
    if (lab->n_tasks) {
        printf("  tasks     ");
        for (int i = 0; i < lab->n_tasks; i++) {
            atv_data data = lab_task_data(lab, &lab->tasks[i]);
            printf("%s%s (%s, %d examples)", i ? ", " : "", lab->tasks[i].name, atv_metric_name(lab->tasks[i].metric),
                   data.n_docs);
        }
        printf(", at most %d epochs; %d of %d to fine-tune\n", s->glue_epochs, tuned, n * lab->n_seeds * lab->n_tasks);
    }
    if (!lab->only_train)
        printf("  speed     of the published shape, V 10000, C 384, L 2, with 16 and with 512 sequences\n");
    fflush(stdout);

    /* A forward pass takes a third of training on the same tokens, a larger shape longer in the measure of its weights. */
    training = lab->steps_left;
    per_token = lab_seconds_per_token(lab, &rows[0]) / lab->n_threads;
    step = (double)lab->train_tokens / lab->train.n_docs * s->batch * s->accumulate * per_token;
    evaluation = (double)lab->valid_tokens / lab->valid.n_docs * s->n_curve * lab->steps / s->every;
    evaluation = (evaluation + (double)lab->valid_tokens) * per_token / 3;
    for (int i = 0; i < lab->n_items; i++) {                /* a classifier has no logits of a vocabulary */
        lab_item *item = &lab->items[i];
        double tokens = 0;
        atv_data data;
        if (item->done || item->task == LAB_TRAINING) continue;
        if (item->task == LAB_PAIRS) {
            double seconds = 60.0 * (double)lab->n_pairs * per_token / 3;
            item->steps = (int)(seconds / step + 1);
            lab->steps_left += item->steps;
            judging += seconds;
            continue;
        }
        data = lab_task_data(lab, &lab->tasks[item->task]);
        for (int k = 0; k < data.n_docs; k++) tokens += data.lengths[k];
        tokens *= s->glue_epochs * (1 - (double)config->hidden_size * config->vocab_size / weights);
        item->steps = (int)(tokens * per_token / step + 1);
        lab->steps_left += item->steps;
        tuning += item->steps * step;
    }
    for (int w = 0; w < LAB_BATCHES; w++) timed += 2.0 * (n - 1) * s->rounds * lab_batches[w] * (s->tokens[w] + 0.5);
    lab->speed_seconds = 0.5 * n + timed * 1.5 * 6.6e6 / weights * per_token / 3;
    printf("  estimate  %s to train at %.1f k tokens/s", lab_duration(training * step + trained * evaluation).s,
           1e-3 / per_token);
    if (lab->n_kinds) printf(", %s to judge", lab_duration(judging).s);
    if (lab->n_tasks) printf(", %s to fine-tune", lab_duration(tuning).s);
    if (!lab->only_train) printf(", %s to time", lab_duration(lab->speed_seconds).s);
    printf(" (%d threads, %s%s); cut off, it goes on where it was\n", lab->n_threads, lab->isa,
           lab->only_train ? ", this worker alone" : "");
    if (lab->only_plan) {
        for (int i = 0; i < lab->n_items; i++) {
            const lab_item *item = &lab->items[i];
            if (!item->done) printf("plan %s %.1f\n", lab_item_result(lab, item).s,
                                    item->steps * step + (item->task == LAB_TRAINING ? evaluation : 0));
        }
        printf("plan %s:timing %.1f\n", lab->program, lab->speed_seconds);
    }
    fflush(stdout);
}

static double lab_quality(const lab_run *run, int by) {
    if (by == LAB_LOSS) return run->loss;
    if (by == LAB_PERPLEXITY) return run->perplexity;
    return 100 * (by == LAB_GLUE ? run->glue : run->pairs);
}

/* Quality. 0: with WORK, which ends here. */
static int lab_finish(lab_state *lab, const lab_variant *variants, int n, lab_row *rows) {
    double *x;
    int asked = 0;
    memset(rows, 0, (size_t)n * sizeof *rows);
    lab_open_data(lab);
    for (int i = 0; i < n; i++) {
        lab_row *r = &rows[i];
        r->variant = &variants[i];
        lab_name(r);
        r->config = lab_config(lab, r->variant);
        r->shape = atv_config_published();
        r->shape.num_heads = r->variant->heads;
        lab_check(lab->ctx, atv_config_preset(lab->ctx, r->variant->preset, r->variant->group, r->variant->kqv, 1024,
                                              &r->shape));
        lab_check(lab->ctx, atv_config_resolve(lab->ctx, &r->shape, &r->shape));
        r->kv_bytes = atv_config_kv_bytes_per_token(&r->shape);
        for (int k = 0; k < lab->n_seeds; k++) {
            atv_trainer_desc recipe = lab_recipe(lab, k + 1);
            lab_text settings = lab_settings_json(lab, &r->config, &recipe, NULL);
            r->runs[k].seed = k + 1;
            r->runs[k].points = (lab_point *)lab_alloc(LAB_MAX_POINTS, sizeof(lab_point));
            r->runs[k].dir = lab_pathf("%s/runs/%016llx-%s-s%d", lab->out,
                                       (unsigned long long)lab_hash(LAB_HASH, settings.data, settings.size), r->id, k + 1);
            free(settings.data);
        }
    }
    lab->items = (lab_item *)lab_alloc((size_t)n * lab->n_seeds * (2 + (size_t)lab->n_tasks), sizeof *lab->items);
    for (int pass = 0; pass < 2; pass++)
        for (int k = 0; k < lab->n_seeds; k++) for (int i = 0; i < n; i++)
            for (int j = pass ? 0 : LAB_TRAINING; j < (pass ? lab->n_tasks : lab->n_kinds ? 0 : LAB_PAIRS); j++) {
                lab_item *item = &lab->items[lab->n_items++];
                item->row = &rows[i];
                item->run = &rows[i].runs[k];
                item->task = j;
                asked |= j == LAB_PAIRS && lab_exists(lab_item_result(lab, item).s);
            }
    if (lab->n_kinds && !asked) lab_check_pairs(lab);                       /* else they were, when that was answered */
    lab_plan(lab, rows, n);
    if (lab->only_plan) return 0;
    lab_work_all(lab);
    if (lab->only_train) return 0;
    for (int i = 0; i < lab->n_items; i++) lab_read_result(lab, &lab->items[i]);
    if (strchr(lab->isas.s, ' '))
        fprintf(stderr, "  results were computed with %s: they differ by rounding, too (see ISA)\n", lab->isas.s);
    x = (double *)lab_alloc((size_t)n, LAB_MAX_SEEDS * sizeof *x);
    for (int by = 0; by < LAB_QUALITIES; by++) {
        stats_noise noise;
        int learnt = 0;                                     /* variants none of whose runs ended in NaN */
        for (int i = 0; i < n; i++) {
            double *own = x + learnt * LAB_MAX_SEEDS;
            for (int k = 0; k < lab->n_seeds; k++) own[k] = lab_quality(&rows[i].runs[k], by);
            rows[i].quality[by] = stats_of(own, lab->n_seeds);
            learnt += isfinite(rows[i].quality[by].mean) != 0;
        }
        noise = stats_noise_of(x, learnt, lab->n_seeds, LAB_MAX_SEEDS);
        for (int i = 0; i < n; i++) rows[i].noise[by] = noise;
    }
    free(x);
    return 1;
}

/* Quality and speed. 0: with WORK. */
static int lab_measure(lab_state *lab, const lab_variant *variants, int n, lab_row *rows) {
    if (!lab_finish(lab, variants, n, rows)) return 0;
    lab_time(lab, rows, n);
    return 1;
}

/* ==== >>tables ==================================================================================================== */

/* A published figure; - where there is none. */
static lab_path lab_published(double x, int decimals) {
    return x > 0 ? lab_pathf("%.*f", decimals, x) : lab_pathf("-");
}

/* Mean ± sd (min..max), or the only one there is; `width` columns wide. */
static lab_path lab_spread(const stats *s, int digits, int range_digits, int width) {
    if (s->n < 2) return lab_pathf("%5.*f%*s", digits, s->mean, width - 5 - (digits > 2), "");
    return lab_pathf("%5.*f ± %4.*f (%4.*f..%5.*f)", digits, s->mean, digits, s->sd, range_digits, s->min, range_digits,
                     s->max);
}

static void lab_table(const lab_state *lab, const lab_row *rows, int n) {
    const lab_scale *s = lab->scale;
    double one_answer = 0;
    int glue = lab->n_tasks ? 29 : 0;                       /* width */

    for (int i = 0; i < lab->n_tasks; i++) one_answer += rows[0].runs[0].one_answer[i];
    printf("\nQuality: V %d, C %d, T %d, L 2, %d steps of %d documents. Mean ± sd (min..max) over seeds, n = %d.\n",
           atv_tokenizer_vocab_size(lab->tokenizer), s->hidden_size, s->context, lab->steps, s->batch * s->accumulate,
           lab->n_seeds);
    if (lab->n_tasks) {
        printf("Trained on %d stories. GLUE: mean of", lab->train.n_docs);
        for (int i = 0; i < lab->n_tasks; i++)
            printf("%s %s (%s)", i ? "," : "", lab->tasks[i].name, atv_metric_name(lab->tasks[i].metric));
        printf(", fine-tuned; one answer for all examples would reach %.1f %%.\n", 100 * one_answer / lab->n_tasks);
    }
    printf("%-18s   %-29s   %10s   %-26s   %-*s%15s\n", "", "held-out loss", "perplexity", "minimal pairs right, %", glue,
           glue ? "GLUE, %" : "", "published, %");
    printf("%-18s   %-29s   %10s   %-26s   %-*s%8s%7s\n", "", "", "", "", glue, "", "BLiMP", "GLUE");
    for (int i = 0; i < n; i++) {
        const lab_row *r = &rows[i];
        printf("%-18s   %s   %10.2f   ", r->label, lab_spread(&r->quality[LAB_LOSS], 4, 3, 30).s,
               r->quality[LAB_PERPLEXITY].mean);
        if (lab->n_kinds) printf("%s   ", lab_spread(&r->quality[LAB_ACCURACY], 1, 1, 26).s);
        else printf("%-26s   ", "-");
        if (lab->n_tasks) printf("%s   ", lab_spread(&r->quality[LAB_GLUE], 1, 1, 26).s);
        printf("%8s%7s\n", lab_published(r->variant->pub_blimp, 1).s, lab_published(r->variant->pub_glue, 1).s);
    }

    printf("\nSpeed: V 10000, C 384, L 2, fp32, %d threads (%s), from position %d on. Medians of %d turns with %s. limit: "
           "the\nleast that arithmetic and reading can take on this machine, matrix products and attention added up.\n",
           lab->n_threads, lab->isa, lab->prompt + 1, s->rounds, rows[0].label);
    printf("%-18s   %15s   %10s   %8s   %15s %15s   %23s\n", "", "", "", "KV cache", "us/token, b=16", "us/token, b=512",
           "published (Python, GPU)");
    printf("%-18s   %2s %2s %3s %5s   %10s   %8s   %7s%8s %7s%8s   %7s%8s%8s\n", "", "H", "G", "S", "FFN", "parameters",
           "B/token", "took", "limit", "took", "limit", "FFN", "b=16", "b=512");
    for (int i = 0; i < n; i++) {
        const lab_row *r = &rows[i];
        const atv_config *c = &r->shape;
        printf("%-18s   %2d %2d %3d %5d   %10ld   %8lu  ", r->label, c->num_heads, c->num_key_value_heads, c->kqv_size,
               c->intermediate_size, r->parameters, (unsigned long)r->kv_bytes);
        for (int w = 0; w < LAB_BATCHES; w++) printf(" %7.1f%8.1f", r->speed[w].us.took, r->speed[w].us.limit);
        printf("   %7d%8s%8s\n", r->variant->pub_ffn, lab_published(r->variant->pub_us16, 2).s,
               lab_published(r->variant->pub_us512, 2).s);
    }
    printf("\nBelow, in brackets: intervals of which %d hold together in %g of 100 such runs, where there is enough for "
           "one; what\nleaves 100 %%, or 0, out is clear.\n", STATS_TOGETHER, 100 * (1 - STATS_WRONG));
}

/* One variant against another over equal seeds, with its interval. */
static lab_path lab_difference(const lab_row *base, const lab_row *row, int by, int n, int decimals, const char *unit) {
    double mean = row->quality[by].mean - base->quality[by].mean;
    double reach = stats_reach(row->noise[by], 2, n);
    if (n < 2) return lab_pathf("%+.*f%s (one seed)", decimals, mean, unit);
    return lab_pathf("%+.*f%s (%+.*f..%+.*f%s)", decimals, mean, unit, decimals, mean - reach, decimals, mean + reach,
                     stats_sign(mean, reach) ? "" : ": not clear");
}

/* What one variant saves against another and what it pays for that, turn by turn and seed by seed. */
static void lab_reading(const lab_state *lab, const lab_row *row, const lab_row *base) {
    printf("%s against %s: %.3g %% of the cache", row->label, base->label,
           100.0 * (double)row->kv_bytes / (double)base->kv_bytes);
    for (int w = 0; w < LAB_BATCHES; w++) {
        stats_range took = lab_ratio(lab, row, base, w, 0);
        printf("%s %.0f %% (%.0f..%.0f%s) of the time at b=%d where the limits allow %.0f %%", w ? ";" : ",",
               100 * took.median, 100 * took.lo, 100 * took.hi,
               lab->scale->rounds < STATS_TURNS ? ": too few turns" : stats_ratio_sign(took, lab->scale->rounds) ? "" :
               ": not clear", lab_batches[w],
               100 * lab_ratio(lab, row, base, w, 1).median);
    }
    printf("; loss %s", lab_difference(base, row, LAB_LOSS, lab->n_seeds, 3, "").s);
    if (lab->n_kinds) printf("; pairs %s", lab_difference(base, row, LAB_ACCURACY, lab->n_seeds, 1, " points").s);
    if (lab->n_tasks) printf("; GLUE %s", lab_difference(base, row, LAB_GLUE, lab->n_seeds, 1, " points").s);
    printf(".\n");
}

/* ==== >>save ====================================================================================================== */

static void lab_setting(lab_text *text, const char *key, const char *value) {
    lab_csv_string(text, key);
    lab_print(text, ",");
    lab_csv_string(text, value);
    lab_print(text, "\n");
}

static void lab_number(lab_text *text, const char *key, double value) {
    lab_setting(text, key, lab_pathf("%.10g", value).s);
}

static lab_path lab_processor(void) {
    lab_path p = lab_pathf("unknown processor");
    lab_text text;
    const char *at;
    if (!lab_read("/proc/cpuinfo", 0, &text)) return p;
    at = strstr(text.data, "model name");
    if (at && (at = strchr(at, ':')) != NULL) p = lab_pathf("%.*s", (int)ATVI_MIN(strcspn(at + 2, "\n"), 200), at + 2);
    free(text.data);
    return p;
}

/* settings.csv. OUT holds one experiment: tables there of another text, model or recipe, of other pairs or tasks, are
   removed. */
static void lab_save_settings(lab_state *lab) {
    static const char *const tables[] = {"rq1_1", "rq1_2", "rq2", "rq3", "curves", "pairs", "glue", "samples"};
    static const lab_variant none = {ATV_MHA, 8, 1, 1, 0, 0, 0, 0, 0};
    const lab_scale *s = lab->scale;
    atv_config config = lab_config(lab, &none);
    atv_trainer_desc recipe = lab_recipe(lab, 0);
    lab_text json = lab_settings_json(lab, &config, &recipe, NULL), t = {0}, old;
    uint64_t experiment = lab_hash(lab_hash(LAB_HASH, json.data, json.size), &lab->pairs_hash, sizeof lab->pairs_hash);
    lab_path path = lab_pathf("%s/settings.csv", lab->out), tasks = lab_pathf("%s", "");
    struct utsname machine;
    time_t now = time(NULL);
    char date[32];

    for (int i = 0; i < lab->n_tasks; i++) experiment = lab_hash(experiment, &lab->tasks[i].hash, sizeof lab->tasks[i].hash);
    lab_print(&t, "key,value\n");
    lab_setting(&t, "experiment", lab_pathf("%016llx", (unsigned long long)experiment).s);
    free(json.data);
    if (lab_read(path.s, 0, &old)) {
        if (strncmp(old.data, t.data, t.size) != 0)
            for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
                remove(lab_pathf("%s/%s.csv", lab->out, tables[i]).s);
        free(old.data);
    }
    lab_setting(&t, "machine", lab_pathf("%s, %d threads", lab_processor().s, lab->n_threads).s);
    if (uname(&machine) == 0) lab_setting(&t, "system", lab_pathf("%s %s", machine.sysname, machine.machine).s);
    lab_setting(&t, "isa", lab->isa);
    lab_setting(&t, "results_isa", lab->isas.s);
    lab_number(&t, "threads", lab->n_threads);
    lab_setting(&t, "scale", s->name);
    lab_setting(&t, "data", lab->data ? lab->data : "stories of examples/stories.h");
    lab_number(&t, "documents", lab->train.n_docs);
    lab_number(&t, "trained_stories", lab->train.n_docs);
    lab_number(&t, "tokens", (double)lab->train_tokens);
    lab_number(&t, "held_out_documents", lab->valid.n_docs);
    lab_number(&t, "pairs", (double)lab->n_pairs);
    for (int i = 0; i < lab->n_tasks; i++) tasks = lab_pathf("%s%s%s", tasks.s, i ? " " : "", lab->tasks[i].name);
    lab_setting(&t, "glue_tasks", tasks.s);
    lab_setting(&t, "tokenizer", lab_env("TOKENIZER") ? lab_env("TOKENIZER") : "trained on the text");
    lab_number(&t, "V", config.vocab_size);
    lab_number(&t, "C", config.hidden_size);
    lab_number(&t, "T", s->context);
    lab_number(&t, "L", config.num_layers);
    lab_number(&t, "W", s->window);
    lab_number(&t, "ffn_base", s->ffn_base);
    lab_number(&t, "steps", lab->steps);
    lab_number(&t, "batch", recipe.batch * recipe.accumulate);
    lab_number(&t, "lr", recipe.has_learning_rate ? recipe.learning_rate : 1e-3);
    lab_number(&t, "seeds", lab->n_seeds);
    lab_setting(&t, "speed_shape", "V 10000, C 384, L 2, fp32");
    lab_setting(&t, "speed_positions", lab_pathf("%d to %d at b=16, to %d at b=512", lab->prompt + 1,
                                                 lab->prompt + s->tokens[0], lab->prompt + s->tokens[1]).s);
    lab_number(&t, "speed_rounds", s->rounds);
#if defined(__clang__)
    lab_setting(&t, "compiler", __VERSION__);
#elif defined(__GNUC__)
    lab_setting(&t, "compiler", "gcc " __VERSION__);
#endif
    lab_setting(&t, "library", lab_pathf("%d.%d.%d", ATV_VERSION_MAJOR, ATV_VERSION_MINOR, ATV_VERSION_PATCH).s);
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    lab_setting(&t, "date", date);
    lab_write(&lab->own, path.s, &t);
}

/* The header and those lines of a file shared by the programs that are not about one of these rows. */
static lab_text lab_other_lines(const char *path, const char *header, const lab_row *rows, int n) {
    lab_text old, kept = {0};
    lab_print(&kept, "%s\n", header);
    if (!lab_read(path, 0, &old)) return kept;
    for (const char *line = strchr(old.data, '\n'), *end; line && (end = strchr(++line, '\n')) != NULL; line = end) {
        size_t name = strcspn(line, ",\n");
        int i = 0;
        while (i < n && (strlen(rows[i].id) != name || strncmp(rows[i].id, line, name) != 0)) i++;
        if (i == n) lab_add(&kept, line, (size_t)(end + 1 - line));
    }
    free(old.data);
    return kept;
}

/* A field: a number, or nothing. */
static void lab_field(lab_text *text, double x, int there) { lab_print(text, there ? ",%.9g" : ",", x); }

/* A field of numbers with spaces between them. */
static void lab_list(lab_text *text, const double *x, int n) {
    lab_print(text, ",");
    for (int i = 0; i < n; i++) lab_print(text, "%s%.9g", i ? " " : "", x[i]);
}

static int lab_on_token(void *user, int prompt, int32_t token, float logprob) {
    (void)prompt;
    (void)logprob;
    lab_add((lab_text *)user, (const char *)&token, sizeof token);
    return 0;
}

/* What a run's model tells, on one line: the same beginning and the same luck for all. */
static lab_text lab_sample(lab_state *lab, const lab_run *run) {
    static const char opening[] = "Once upon a time";
    atv_decoder_desc desc = {0};
    atv_decode_input prompt = {0, NULL, 0};
    atv_generate_desc how;
    lab_text ids = {0}, text = {0};
    int32_t first[sizeof opening + 1];
    const int32_t *told;
    atv_model *model;
    atv_decoder *decoder;
    size_t n, size;
    memset(&how, 0, sizeof how);
    if (lab->bos >= 0) lab_add(&ids, (const char *)&lab->bos, sizeof *first);
    lab_check(lab->ctx, atv_tokenizer_encode(lab->tokenizer, opening, sizeof opening - 1, first, sizeof opening, &n));
    lab_add(&ids, (const char *)first, n * sizeof *first);
    memcpy(first, ids.data, ids.size);
    prompt.ids = first;
    prompt.n_ids = (int)(ids.size / sizeof *first);
    how.sampling.do_sample = 1;
    how.sampling.temperature = 0.8;
    how.sampling.top_k = 40;
    how.seed = 1;
    how.max_new_tokens = ATVI_MIN(60, lab->scale->context - prompt.n_ids);
    how.stop_tokens = &lab->eos;
    how.n_stop_tokens = lab->eos >= 0;
    how.on_token = lab_on_token;
    how.user = &ids;
    desc.n_seq = 1;
    model = lab_load(lab->ctx, run);
    lab_check(lab->ctx, atv_decoder_create(model, &desc, &decoder));
    lab_check(lab->ctx, atv_generate(decoder, &how, &prompt, 1));
    n = ids.size / sizeof *first;
    told = (const int32_t *)(const void *)ids.data;
    lab_check(lab->ctx, atv_tokenizer_decode(lab->tokenizer, told, n, 1, NULL, 0, &size));
    text.data = (char *)lab_alloc(size + 1, 1);
    lab_check(lab->ctx, atv_tokenizer_decode(lab->tokenizer, told, n, 1, text.data, size, &size));
    for (char *s = text.data; *s; s++) if (*s == '\n' || *s == '\r') *s = ' ';
    text.size = size;
    atv_decoder_destroy(decoder);
    atv_model_destroy(model);
    free(ids.data);
    return text;
}

static void lab_save(lab_state *lab, const lab_row *rows, int n) {
    lab_path path = lab_pathf("%s/%s.csv", lab->out, lab->program), curves = lab_pathf("%s/curves.csv", lab->out);
    lab_path pairs = lab_pathf("%s/pairs.csv", lab->out), glue = lab_pathf("%s/glue.csv", lab->out);
    lab_path samples = lab_pathf("%s/samples.csv", lab->out);
    const lab_scale *s = lab->scale;
    lab_text t = {0};
    int has_pairs = lab->n_kinds > 0;

    lab_save_settings(lab);
    lab_print(&t, "program,variant,label,heads,kv_heads,kqv_size,ffn,group_proportion,kqv_proportion,params,"
                  "kv_bytes_per_token,seeds,loss_mean,loss_sd,ppl_mean,pairs_mean,pairs_sd,us_b16,us_b512,"
                  "pub_ffn,pub_blimp,pub_glue,pub_us_b16,pub_us_b512,loss_min,loss_max,pairs_min,pairs_max,"
                  "limit_us_b16,limit_us_b512,limit_attention_us_b16,limit_attention_us_b512,ratio_b16,ratio_b16_lo,"
                  "ratio_b16_hi,ratio_b512,ratio_b512_lo,ratio_b512_hi,limit_ratio_b16,limit_ratio_b512,"
                  "loss_seeds,pairs_seeds,ratio_b16_turns,ratio_b512_turns,glue_mean,glue_sd,glue_seeds\n");
    for (int i = 0; i < n; i++) {
        const lab_row *r = &rows[i];
        const lab_variant *v = r->variant;
        const stats *loss = &r->quality[LAB_LOSS], *right = &r->quality[LAB_ACCURACY], *tuned = &r->quality[LAB_GLUE];
        double x[LAB_QUALITIES][LAB_MAX_SEEDS];
        lab_print(&t, "%s,%s,", lab->program, r->id);
        lab_csv_string(&t, r->label);
        lab_print(&t, ",%d,%d,%d,%d,%g,%g,%ld,%lu,%d", r->shape.num_heads, r->shape.num_key_value_heads, r->shape.kqv_size,
                  r->shape.intermediate_size, v->group, v->kqv, r->parameters, (unsigned long)r->kv_bytes, lab->n_seeds);
        lab_field(&t, loss->mean, 1);
        lab_field(&t, loss->sd, loss->n > 1);
        lab_field(&t, r->quality[LAB_PERPLEXITY].mean, 1);
        lab_field(&t, right->mean, has_pairs);
        lab_field(&t, right->sd, has_pairs && right->n > 1);
        lab_print(&t, ",%.6g,%.6g,%d", r->speed[0].us.took, r->speed[1].us.took, v->pub_ffn);
        lab_field(&t, v->pub_blimp, v->pub_blimp > 0);
        lab_field(&t, v->pub_glue, v->pub_glue > 0);
        lab_field(&t, v->pub_us16, v->pub_us16 > 0);
        lab_field(&t, v->pub_us512, v->pub_us512 > 0);
        lab_print(&t, ",%.9g,%.9g", loss->min, loss->max);
        lab_field(&t, right->min, has_pairs);
        lab_field(&t, right->max, has_pairs);
        for (int by = 0; by < LAB_QUALITIES; by++)
            for (int k = 0; k < lab->n_seeds; k++) x[by][k] = lab_quality(&r->runs[k], by);
        for (int w = 0; w < LAB_BATCHES; w++) lab_field(&t, r->speed[w].us.limit, 1);
        for (int w = 0; w < LAB_BATCHES; w++) lab_field(&t, r->speed[w].us.attention, 1);
        for (int w = 0; w < LAB_BATCHES; w++) {
            stats_range ratio = lab_ratio(lab, r, &rows[0], w, 0);
            lab_print(&t, ",%.6g,%.6g,%.6g", ratio.median, ratio.lo, ratio.hi);
        }
        for (int w = 0; w < LAB_BATCHES; w++) lab_field(&t, lab_ratio(lab, r, &rows[0], w, 1).median, 1);
        lab_list(&t, x[LAB_LOSS], lab->n_seeds);
        lab_list(&t, x[LAB_ACCURACY], has_pairs ? lab->n_seeds : 0);
        for (int w = 0; w < LAB_BATCHES; w++) {
            double ratios[LAB_MAX_ROUNDS];
            for (int k = 0; k < s->rounds; k++) ratios[k] = r->speed[w].ratios[k].took;
            lab_list(&t, ratios, s->rounds);
        }
        lab_field(&t, tuned->mean, lab->n_tasks > 0);
        lab_field(&t, tuned->sd, lab->n_tasks > 0 && tuned->n > 1);
        lab_list(&t, x[LAB_GLUE], lab->n_tasks ? lab->n_seeds : 0);
        lab_print(&t, "\n");
    }
    lab_write(&lab->own, path.s, &t);

    t = lab_other_lines(curves.s, "variant,label,seed,step,tokens,train_loss,valid_loss", rows, n);
    for (int i = 0; i < n; i++) for (int k = 0; k < lab->n_seeds; k++) for (int j = 0; j < rows[i].runs[k].n_points; j++) {
        const lab_point *p = &rows[i].runs[k].points[j];
        lab_print(&t, "%s,", rows[i].id);
        lab_csv_string(&t, rows[i].label);
        lab_print(&t, ",%d,%ld,%ld,%.9g,%.9g\n", rows[i].runs[k].seed, p->step, p->tokens, p->train_loss, p->valid_loss);
    }
    lab_write(&lab->own, curves.s, &t);

    t = lab_other_lines(pairs.s, "variant,seed,kind,accuracy", rows, n);
    for (int i = 0; i < n; i++) for (int k = 0; k < lab->n_seeds; k++) for (int j = 0; j < lab->n_kinds; j++) {
        lab_print(&t, "%s,%d,", rows[i].id, rows[i].runs[k].seed);
        lab_csv_string(&t, lab->kind_names[j]);
        lab_print(&t, ",%.9g\n", rows[i].runs[k].kinds[j]);
    }
    lab_write(&lab->own, pairs.s, &t);

    t = lab_other_lines(glue.s, "variant,seed,task,metric,score,majority", rows, n);
    for (int i = 0; i < n; i++) for (int k = 0; k < lab->n_seeds; k++) for (int j = 0; j < lab->n_tasks; j++)
        lab_print(&t, "%s,%d,%s,%s,%.9g,%.9g\n", rows[i].id, rows[i].runs[k].seed, lab->tasks[j].name,
                  atv_metric_name(lab->tasks[j].metric), 100 * rows[i].runs[k].tasks[j],
                  100 * rows[i].runs[k].one_answer[j]);
    lab_write(&lab->own, glue.s, &t);

    t = lab_other_lines(samples.s, "variant,label,seed,text", rows, n);
    for (int i = 0; i < n; i++) {
        lab_text sample = lab_sample(lab, &rows[i].runs[0]);
        lab_print(&t, "%s,", rows[i].id);
        lab_csv_string(&t, rows[i].label);
        lab_print(&t, ",%d,", rows[i].runs[0].seed);
        lab_csv_string(&t, sample.data);
        lab_print(&t, "\n");
        free(sample.data);
    }
    lab_write(&lab->own, samples.s, &t);
    printf("Wrote %s; curves, pairs, glue, samples and settings.csv beside it.\n", path.s);
}

static void lab_close(lab_state *lab, lab_row *rows, int n) {
    printf("%s took %s.\n\n", lab->program, lab_duration(lab_now() - lab->start).s);
    for (int i = 0; i < n; i++) for (int k = 0; k < lab->n_seeds; k++) free(rows[i].runs[k].points);
    for (int i = 0; i < lab->n_kinds; i++) free(lab->kinds[i].data);
    for (int i = 0; i < lab->n_tasks; i++) {
        atv_task_destroy(lab->tasks[i].train);
        atv_task_destroy(lab->tasks[i].valid);
    }
    free((int32_t *)(uintptr_t)lab->train.ids);
    free((int *)(uintptr_t)lab->train.lengths);
    free((int32_t *)(uintptr_t)lab->valid.ids);
    free((int *)(uintptr_t)lab->valid.lengths);
    atv_tokenizer_destroy(lab->tokenizer);
    atv_ctx_destroy(lab->ctx);
    pthread_cond_destroy(&lab->changed);
    pthread_mutex_destroy(&lab->mutex);
    free(lab->items);
    free(lab);
}

#endif /* LAB_H */
