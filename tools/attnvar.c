/* attnvar: the command line of attnvar.h, and an example of its use.

       cc -std=c99 -O2 -o attnvar tools/attnvar.c -lm -lpthread

   `attnvar --help` lists the commands, `attnvar COMMAND --help` tells a command's options. What the commands share comes
   first, then each command, then the tables that describe them all. A failure is one sentence on standard error and exit
   code 1; a command line that makes no sense gives 2. What a failure leaves open, the end of the process closes.
   All goes through the public atv_ functions, but for JSON, which the library reads and writes for itself (atvi_json). */
#define _POSIX_C_SOURCE 200809L
#define ATTNVAR_IMPLEMENTATION
#include "../attnvar.h"
#include "../examples/limits.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/utsname.h>
#include <time.h>

#ifdef __GNUC__
#  define LIKE_PRINTF(format_at, values_at) __attribute__((format(printf, format_at, values_at)))
#else
#  define LIKE_PRINTF(format_at, values_at)
#endif

/* ==== The command line ============================================================================================ */

typedef enum kind { FLAG, WHOLE, REAL, POSITIVE, LIST, CHOICE, WORDS, MAYBE } kind;      /* MAYBE: words, or nothing */

typedef struct option {
    const char *name;
    kind kind;
    const char *value;              /* what the help calls it; of a CHOICE the words, with | between */
    const char *standard;           /* what holds when it is not given; NULL: nothing */
    double min, max;                /* of a number, or of how many a LIST has; POSITIVE is above 0 besides */
    const char *help;
} option;

typedef struct args args;

typedef struct command {
    const char *name, *operand, *usage, *what;  /* operand: the argument that is no option; NULL: there is none */
    const option *options;          /* ends with a NULL name */
    int (*run)(const args *a);      /* returns the exit code */
} command;

struct args {
    const command *command;
    const char *operand;
    const char *values[48];         /* of the command's options, as typed; NULL: not given */
};

static const char *program = "attnvar";         /* as errors call it: with the command's name */
static atv_ctx *ctx;                            /* the one context of this process; main makes it */

LIKE_PRINTF(2, 0)
static void complain(int code, const char *format, va_list values) {
    fflush(stdout);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    exit(code);
}

LIKE_PRINTF(1, 2)
static void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    complain(1, format, values);
    va_end(values);
}

LIKE_PRINTF(1, 2)
static void misused(const char *format, ...) {
    va_list values;
    va_start(values, format);
    complain(2, format, values);
    va_end(values);
}

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static int64_t most(int64_t x, int64_t y) { return x > y ? x : y; }

/* Every library call that can fail goes through this. */
static void check(atv_result result) {
    const char *error = atv_last_error(ctx);
    if (result != ATV_OK) die("%s", error[0] ? error : atv_result_text(result));
}

static void *allocate(size_t count, size_t size) {
    void *p = count <= SIZE_MAX / 2 / size ? malloc(count * size + 1) : NULL;
    if (!p) die("no memory for %lu times %lu bytes", (unsigned long)count, (unsigned long)size);
    return p;
}

/* The word's place in "one|two|three"; -1: it is none of them. */
static int place(const char *all, const char *word) {
    size_t n = strlen(word);
    int i;
    for (i = 0; ; i++) {
        size_t length = strcspn(all, "|");
        if (length == n && memcmp(all, word, n) == 0) return i;
        if (all[length] == 0) return -1;
        all += length + 1;
    }
}

static int is_whole(const char *text) {
    if (*text == '-') text++;
    return *text && strspn(text, "0123456789") == strlen(text);
}

static int is_real(const char *text) {
    char *end;
    double value = strtod(text, &end);
    return text[0] && strspn(text, "+-.0123456789eE") == strlen(text) && *end == 0 && fabs(value) <= DBL_MAX;
}

/* Whole numbers from 0 up, with any of `between` between them. Returns 0 when it is something else. */
static int read_list(const char *text, const char *between, int32_t **out, size_t *n) {
    *out = (int32_t *)allocate(strlen(text) / 2 + 1, sizeof **out);
    for (*n = 0, text += strspn(text, between); *text; text += strspn(text, between)) {
        size_t digits = strspn(text, "0123456789");
        long long value = digits < 11 ? strtoll(text, NULL, 10) : LLONG_MAX;
        if (digits == 0 || value > INT32_MAX || (text[digits] && !strchr(between, text[digits]))) {
            free(*out);
            return 0;
        }
        (*out)[(*n)++] = (int32_t)value;
        text += digits;
    }
    return 1;
}

static void check_value(const option *o, const char *text) {
    double number;
    int32_t *values;
    size_t n = strlen(text);
    if (n == 0 && o->kind != MAYBE) misused("--%s is empty", o->name);
    if (o->kind == WHOLE && !is_whole(text)) misused("--%s=%s is not a whole number", o->name, text);
    if (o->kind == REAL || o->kind == POSITIVE) if (!is_real(text)) misused("--%s=%s is not a number", o->name, text);
    if (o->kind == WHOLE || o->kind == REAL || o->kind == POSITIVE) {
        number = strtod(text, NULL);
        if (o->kind == POSITIVE && number <= 0) misused("--%s=%s must be above 0", o->name, text);
        if (number < o->min || number > o->max) misused("--%s=%s is not in %.16g..%.16g", o->name, text, o->min, o->max);
    }
    if (o->kind == CHOICE && place(o->value, text) < 0) misused("--%s=%s is none of %s", o->name, text, o->value);
    if (o->kind == LIST) {
        if (text[0] == ',' || text[n - 1] == ',' || strstr(text, ",,") || !read_list(text, ",", &values, &n))
            misused("--%s=%s is not a list of whole numbers", o->name, text);
        else
            free(values);
        if (n < o->min || n > o->max) misused("--%s=%s is not %s", o->name, text, o->value);
    }
}

static void show_help(const command *c) {
    const option *o;
    printf("attnvar %s: %s\n\n    attnvar %s\n\n", c->name, c->what, c->usage);
    for (o = c->options; o->name; o++) {
        char left[96];
        snprintf(left, sizeof left, "--%s %s", o->name, o->kind == FLAG ? "" : o->value);
        printf("  %-28s%s%s", left, strlen(left) < 28 ? "" : "\n                              ", o->help);
        if (o->standard) printf(" (default %s)", o->standard);
        putchar('\n');
    }
    printf("  %-28s%s\n", "--help", "this text");
}

static void parse(const command *c, int argc, char **argv, args *out) {
    int i, k;
    memset(out, 0, sizeof *out);
    out->command = c;
    for (i = 0; i < argc; i++) {
        const char *word = argv[i], *equals = strchr(word, '=');
        size_t length = equals ? (size_t)(equals - word) : strlen(word);
        if (word[0] != '-' || word[1] == 0) {
            if (!c->operand) misused("'%s' is no option, and nothing else is expected", word);
            if (out->operand) misused("'%s' is one argument too many after '%s'", word, out->operand);
            out->operand = word;
            continue;
        }
        if (strcmp(word, "--help") == 0) {
            show_help(c);
            exit(0);
        }
        for (k = 0; c->options[k].name; k++)
            if (length == strlen(c->options[k].name) + 2 && memcmp(word, "--", 2) == 0 &&
                memcmp(word + 2, c->options[k].name, length - 2) == 0) break;
        if (!c->options[k].name) misused("%.*s is no option of this command; --help lists them", (int)length, word);
        if (out->values[k]) misused("--%s is given twice", c->options[k].name);
        if (c->options[k].kind == FLAG) {
            if (equals) misused("--%s takes no value, but has '%s'", c->options[k].name, equals + 1);
            out->values[k] = "";
            continue;
        }
        if (equals) out->values[k] = equals + 1;
        else if (i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0) out->values[k] = argv[++i];
        else misused("--%s needs a value: %s", c->options[k].name, c->options[k].value);
        check_value(&c->options[k], out->values[k]);
    }
    if (c->operand && !out->operand) misused("%s is missing; --help tells more", c->operand);
}

static int index_of(const args *a, const char *name) {
    int k = 0;
    while (strcmp(a->command->options[k].name, name) != 0) k++;
    return k;
}

static int given(const args *a, const char *name) { return a->values[index_of(a, name)] != NULL; }

static const char *words(const args *a, const char *name) {
    int k = index_of(a, name);
    return a->values[k] ? a->values[k] : a->command->options[k].standard;
}

static const char *needed(const args *a, const char *name) {
    if (!words(a, name)) misused("--%s is missing; --help tells more", name);
    return words(a, name);
}

static int64_t whole(const args *a, const char *name) { return strtoll(words(a, name), NULL, 10); }
static int small(const args *a, const char *name) { return (int)most(INT_MIN, least(whole(a, name), INT_MAX)); }
static double real(const args *a, const char *name) { return strtod(words(a, name), NULL); }

static int choice(const args *a, const char *name) {
    return place(a->command->options[index_of(a, name)].value, words(a, name));
}

static int32_t *list(const args *a, const char *name, size_t *n) {
    int32_t *values = NULL;
    read_list(needed(a, name), ",", &values, n);
    return values;
}

/* ==== What a command tells ======================================================================================== */

/* One line: "key value key value", or with --json an object. */
typedef struct record { int json, n; } record;

static record begin(const args *a) {
    record r = {0, 0};
    r.json = given(a, "json");
    return r;
}

static void put_key(record *r, const char *key) {
    if (r->json) printf("%s\"%s\": ", r->n++ ? ", " : "{", key);
    else printf("%s%s ", r->n++ ? " " : "", key);
}

static void put_whole(record *r, const char *key, int64_t value) {
    put_key(r, key);
    printf("%lld", (long long)value);
}

static void put_real(record *r, const char *key, double value) {
    put_key(r, key);
    if (r->json && !(fabs(value) <= DBL_MAX)) printf("null");     /* JSON has no infinity and no NaN */
    else printf("%.9g", value);
}

static void put_json(const char *text, size_t size) {
    atvi_buf buf = {0};
    buf.ctx = ctx;
    atvi_buf_json(&buf, text, size);
    check(atvi_buf_done(&buf));
    fwrite(buf.data, 1, buf.size, stdout);
    atvi_buf_free(&buf);
}

static void put_text(record *r, const char *key, const char *text) {
    put_key(r, key);
    if (r->json) put_json(text, strlen(text));
    else fputs(text, stdout);
}

static void put_ids(const int32_t *ids, size_t n, const char *between) {
    size_t i;
    for (i = 0; i < n; i++) printf("%s%d", i ? between : "", (int)ids[i]);
}

static void finish(const record *r) {
    puts(r->json ? "}" : "");
    fflush(stdout);
}

/* ==== Files and time ============================================================================================== */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int is_directory(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static char *join(const char *dir, const char *between, const char *name) {
    char *path = (char *)allocate(strlen(dir) + strlen(between) + strlen(name), 1);
    sprintf(path, "%s%s%s", dir, between, name);
    return path;
}

/* The path, or where it is a directory the file of that name in it. */
static char *file_in(const char *path, const char *name) {
    return is_directory(path) ? join(path, "/", name) : join(path, "", "");
}

static int has_file(const char *dir, const char *name) {
    char *path = join(dir, "/", name);
    int found = access(path, F_OK) == 0;
    free(path);
    return found;
}

/* Before the work begins: can files be made in the directory, or where it will be made? Nothing is left there. */
static void check_out(const char *path) {
    char *part = join(path, "", ""), *probe;
    struct stat s;
    int file;
    while (lstat(part, &s) != 0 && errno == ENOENT && strcmp(part, ".") != 0) {
        char *slash = strrchr(part, '/');
        if (slash) slash[slash == part] = 0;                /* "/x" is in "/" */
        else strcpy(part, ".");
    }
    probe = join(part, "/", "attnvar.XXXXXX");
    file = mkstemp(probe);
    if (file < 0) die("%s: cannot be written: %s", part, strerror(errno));
    close(file);
    remove(probe);
    free(probe);
    free(part);
}

static void make_directory(const char *path) {
    char *part = join(path, "", ""), *at = part;
    do {
        char c = *++at;
        int error;
        if (c != '/' && c != 0) continue;
        *at = 0;
        error = mkdir(part, 0777) == 0 ? 0 : errno;
        if (error && !is_directory(part)) die("%s: cannot be made: %s", part, strerror(error));
        *at = c;
    } while (*at);
    free(part);
}

/* The whole file with a 0 after it; path "-" is standard input. */
static char *read_all(const char *path, size_t *size) {
    int standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    size_t room = 1 << 16, n;
    char *data = (char *)allocate(room, 1);
    if (!file) die("%s: cannot be read: %s", path, strerror(errno));
    for (*size = 0; (n = fread(data + *size, 1, room - *size, file)) > 0; ) {
        *size += n;
        if (*size == room) {
            char *more = (char *)allocate(room, 2);
            memcpy(more, data, room);
            free(data);
            data = more;
            room *= 2;
        }
    }
    if (ferror(file)) die("%s: cannot be read: %s", path, strerror(errno));
    if (!standard) fclose(file);
    data[*size] = 0;
    return data;
}

/* n words of 4 bytes between little-endian and this machine's order; both ways are the same. */
static void little_endian(void *data, size_t n) {
    unsigned char *b = (unsigned char *)data;
    for (; n > 0; n--, b += 4) {
        uint32_t value = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(b, &value, 4);
    }
}

/* Rows of raw ids of equal length, of which `at_once` are run together. */
typedef struct rows {
    int32_t *ids;
    int *lengths;                   /* [at_once] */
    int n, length, at_once;
} rows;

/* --ids and --shape B,T; with n_blocks any number of such blocks one after another. */
static rows read_rows(const args *a, int64_t *n_blocks) {
    const char *path = needed(a, "ids");
    rows r;
    size_t size, n, i;
    int32_t *bt = list(a, "shape", &n);
    r.n = bt[0];
    r.length = bt[1];
    free(bt);
    if (r.n < 1 || r.length < 1 || r.n > INT_MAX / 4 / r.length) misused("--shape=%s is no shape", words(a, "shape"));
    r.ids = (int32_t *)(void *)read_all(path, &size);
    n = (size_t)r.n * (size_t)r.length * 4;
    if (size < n || size % n != 0 || (!n_blocks && size != n))
        die("%s: has %lu bytes, but --shape=%s makes %lu", path, (unsigned long)size, words(a, "shape"), (unsigned long)n);
    little_endian(r.ids, size / 4);
    if (n_blocks) *n_blocks = (int64_t)(size / n);
    r.at_once = n_blocks ? r.n : (int)least(r.n, most(1, 1024 / r.length));
    r.lengths = (int *)allocate((size_t)r.at_once, sizeof *r.lengths);
    for (i = 0; i < (size_t)r.at_once; i++) r.lengths[i] = r.length;
    return r;
}

static void free_rows(rows *r) {
    free(r->ids);
    free(r->lengths);
}

/* From row i on. */
static atv_batch rows_batch(const rows *r, int64_t i) {
    atv_batch batch = {0};
    batch.ids = r->ids + i * r->length;
    batch.lengths = r->lengths;
    batch.n_seq = r->at_once;
    return batch;
}

/* ==== Models, tokenizers, documents =============================================================================== */

static atv_model *load_model(const char *dir) {
    atv_model *model;
    check(atv_model_load(ctx, dir, &model));
    return model;
}

static atv_model *load_language_model(const char *dir) {
    atv_model *model = load_model(dir);
    int num_labels = atv_model_config(model)->num_labels;
    if (num_labels) die("%s: is a classifier of num_labels=%d, not a language model", dir, num_labels);
    return model;
}

static atv_work *make_work(atv_model *model, int max_tokens, int backward) {
    atv_work_desc desc = {0};
    atv_work *work;
    desc.max_tokens = max_tokens;
    desc.backward = backward;
    check(atv_work_create(model, &desc, &work));
    return work;
}

static atv_tokenizer *load_tokenizer(const char *dir) {
    atv_tokenizer *tokenizer;
    check(atv_tokenizer_load(ctx, dir, &tokenizer));
    return tokenizer;
}

/* A special token beyond the model's, such as a [PAD], does no harm until a text has it. */
static void check_fits(const atv_tokenizer *tokenizer, const char *tokenizer_dir, const atv_model *model, const char *dir) {
    int all = atv_tokenizer_vocab_size(tokenizer), n = all, vocab_size = atv_model_config(model)->vocab_size;
    while (n > vocab_size && atv_tokenizer_is_special(tokenizer, n - 1)) n--;
    if (n > vocab_size) die("%s: its tokenizer has %d tokens, but %s vocab_size=%d", tokenizer_dir, all, dir, vocab_size);
}

/* --tokenizer, or the model's, which is the command's DIR. */
static atv_tokenizer *load_fitting_tokenizer(const args *a, const atv_model *model) {
    const char *dir = given(a, "tokenizer") ? words(a, "tokenizer") : a->operand;
    atv_tokenizer *tokenizer = load_tokenizer(dir);
    check_fits(tokenizer, dir, model, a->operand);
    return tokenizer;
}

/* The tokenizer beside a model; NULL: there is none. */
static atv_tokenizer *find_tokenizer(const char *dir) {
    return has_file(dir, "tokenizer.json") || has_file(dir, "vocab.json") ? load_tokenizer(dir) : NULL;
}

/* An untrained model of the options' shape; the tokenizer, if any, gives the special ids. */
static atv_model *make_model(const args *a, const atv_tokenizer *tokenizer) {
    atv_config config = {0};
    atv_model *model;
    config.vocab_size = tokenizer ? atv_tokenizer_vocab_size(tokenizer) : small(a, "vocab");
    config.max_position_embeddings = small(a, "context");
    config.hidden_size = small(a, "hidden");
    config.num_layers = small(a, "layers");
    config.num_heads = small(a, "heads");
    config.window_size = small(a, "window");
    if (tokenizer) {
        int after;
        config.has_special_ids = 1;
        atv_tokenizer_wrap(tokenizer, &config.bos_token_id, &after);
        config.eos_token_id = atv_tokenizer_eos(tokenizer);
        if (config.bos_token_id < 0) config.bos_token_id = config.eos_token_id;
        config.pad_token_id = atv_tokenizer_id(tokenizer, "<pad>");
    }
    check(atv_config_preset(ctx, (atv_variant)choice(a, "variant"), real(a, "group-proportion"), real(a, "kqv-proportion"),
                            small(a, "ffn-base"), &config));
    check(atv_model_create(ctx, &config, &model));
    atv_model_init(model, (uint64_t)whole(a, "seed"));
    return model;
}

static char *decode(const atv_tokenizer *tokenizer, const int32_t *ids, size_t n, int skip_special, size_t *size) {
    char *text;
    check(atv_tokenizer_decode(tokenizer, ids, n, skip_special, NULL, 0, size));
    text = (char *)allocate(*size, 1);
    check(atv_tokenizer_decode(tokenizer, ids, n, skip_special, text, *size, size));
    return text;
}

/* Documents are separated by lines of <|endoftext|>. Newlines around them do not count, empty ones neither. */
static void each_document(const char *text, size_t size, void (*fn)(void *user, const char *text, size_t size), void *user) {
    static const char separator[] = "<|endoftext|>";
    const char *end = text + size, *start = text, *line = text, *stop;
    do {
        size_t length;
        int separates;
        stop = (const char *)memchr(line, '\n', (size_t)(end - line));
        length = (size_t)((stop ? stop : end) - line);
        if (length && line[length - 1] == '\r') length--;
        separates = length == sizeof separator - 1 && memcmp(line, separator, length) == 0;
        if (separates || !stop) {
            const char *last = separates ? line : end;
            while (start < last && (*start == '\n' || *start == '\r')) start++;
            while (start < last && (last[-1] == '\n' || last[-1] == '\r')) last--;
            if (start < last) fn(user, start, (size_t)(last - start));
            if (stop) start = stop + 1;
        }
        if (stop) line = stop + 1;
    } while (stop);
}

/* A byte makes an id at most, and with add_prefix_space so does a space before each piece between added tokens. */
static size_t most_ids(size_t size) { return size <= SIZE_MAX / 2 ? 2 * size : SIZE_MAX; }

typedef struct documents {
    atv_tokenizer *tokenizer;
    int before, after;              /* ids around each; -1: none */
    size_t max_length, n_ids, ids_room, n, room;
    int32_t *ids;
    int *lengths;
} documents;

/* Room for `needs` elements, of which `used` are there. */
static void *grow(void *old, size_t used, size_t needs, size_t *room, size_t size) {
    void *p;
    if (needs <= *room) return old;
    *room = needs * 2;
    p = allocate(*room, size);
    if (old) memcpy(p, old, used * size);
    free(old);
    return p;
}

static void add_document(void *user, const char *text, size_t size) {
    documents *d = (documents *)user;
    int32_t *ids;
    size_t n = 0, encoded, room = most_ids(size);
    d->ids = (int32_t *)grow(d->ids, d->n_ids, d->n_ids + room + 2, &d->ids_room, sizeof *d->ids);
    d->lengths = (int *)grow(d->lengths, d->n, d->n + 1, &d->room, sizeof *d->lengths);
    ids = d->ids + d->n_ids;
    if (d->before >= 0) ids[n++] = d->before;
    check(atv_tokenizer_encode(d->tokenizer, text, size, ids + n, room, &encoded));
    n += encoded;
    if (d->after >= 0) ids[n++] = d->after;
    if (n > d->max_length) n = d->max_length;
    if (n < 2) return;                                      /* nothing to predict */
    if (d->n == INT_MAX) die("more than %d documents", INT_MAX);
    d->lengths[d->n++] = (int)n;
    d->n_ids += n;
}

/* Each document with the post-processor's ids around it, or where it has none with the end token behind it. */
static atv_data encode_documents(atv_tokenizer *tokenizer, const char *path, const char *text, size_t size, int max_length) {
    documents d = {0};
    atv_data data = {0};
    d.tokenizer = tokenizer;
    d.max_length = (size_t)max_length;
    atv_tokenizer_wrap(tokenizer, &d.before, &d.after);
    if (d.before < 0 && d.after < 0) d.after = atv_tokenizer_eos(tokenizer);
    each_document(text, size, add_document, &d);
    if (d.n == 0) die("%s: holds no document of two tokens or more", path);
    data.ids = d.ids;
    data.lengths = d.lengths;
    data.n_docs = (int)d.n;
    return data;
}

static void free_data(atv_data *data) {
    free((void *)(uintptr_t)data->ids);
    free((void *)(uintptr_t)data->lengths);
}

/* ==== train ======================================================================================================= */

typedef struct training {
    const args *a;
    const char *out;
    atv_model *model;
    atv_tokenizer *tokenizer;       /* with --ids maybe NULL */
    atv_trainer *trainer;
    atv_work *work;                 /* of the evaluation, if any */
    atv_data valid;
    int64_t steps, first_step, tokens;
    int log_every;
    double started;
} training;

static volatile sig_atomic_t interrupted;
static void on_signal(int number) { (void)number; interrupted = 1; }

/* The model as anyone reads it, and the trainer's state for --resume. */
static void save_training(const training *t) {
    atv_save_desc desc = {0};
    char *path = join(t->out, "/", "trainer.safetensors");
    desc.tokenizer = t->tokenizer;
    check(atv_model_save(t->model, t->out, &desc));
    check(atv_trainer_save(t->trainer, path));
    free(path);
}

static void show_step(const training *t, const atv_step *s) {
    record r = begin(t->a);
    put_whole(&r, "step", s->step);
    put_real(&r, "loss", s->loss.sum / (double)s->loss.tokens);
    if (r.json || !given(t->a, "ids")) {
        put_real(&r, "learning_rate", s->learning_rate);
        put_real(&r, "grad_norm", s->grad_norm);
        put_whole(&r, "tokens_seen", s->tokens_seen);
        put_whole(&r, "epoch", s->epoch);
        put_real(&r, "tokens_per_second", floor((double)t->tokens / (now() - t->started + 1e-9)));
    }
    finish(&r);
}

static void show_valid(const training *t, int64_t step) {
    record r = begin(t->a);
    atv_loss loss;
    check(atv_evaluate(t->work, &t->valid, &loss));
    put_whole(&r, "step", step);
    put_real(&r, "valid_loss", loss.sum / (double)loss.tokens);
    put_real(&r, "valid_perplexity", exp(loss.sum / (double)loss.tokens));
    put_whole(&r, "valid_tokens", loss.tokens);
    finish(&r);
}

/* On a terminal, a line that the next one overwrites. */
static void show_status(const training *t, const atv_step *s) {
    double seconds = now() - t->started + 1e-9;
    long left = (long)(seconds / (double)(s->step - t->first_step) * (double)(t->steps - s->step));
    fprintf(stderr, "\r\033[Kstep %lld/%lld  loss %.4f  lr %.3g  %.0f tokens/s  %ld:%02ld left%s", (long long)s->step,
            (long long)t->steps, s->loss.sum / (double)s->loss.tokens, s->learning_rate, (double)t->tokens / seconds,
            left / 60, left % 60, s->step == t->steps || interrupted ? "\n" : "");
}

/* After every step: tells, evaluates and saves as asked. */
static int on_step(void *user, const atv_step *s) {
    training *t = (training *)user;
    int eval_every = small(t->a, "eval-every"), save_every = small(t->a, "save-every");
    int terminal = isatty(STDERR_FILENO), last = s->step == t->steps;
    int shows = last || s->step == t->first_step + 1 || s->step % t->log_every == 0;
    int evaluates = t->work && (last || (eval_every && s->step % eval_every == 0));
    t->tokens += s->loss.tokens;
    if (terminal && (shows || evaluates)) fputs("\r\033[K", stderr);
    if (shows) show_step(t, s);
    if (evaluates) show_valid(t, s->step);
    if (save_every && s->step % save_every == 0 && !last) save_training(t);
    if (terminal) show_status(t, s);
    return interrupted;
}

typedef struct joined { char *data; size_t size; } joined;

static void append_document(void *user, const char *text, size_t size) {
    joined *j = (joined *)user;
    memcpy(j->data + j->size, text, size);
    j->data[j->size + size] = '\n';
    j->size += size + 1;
}

/* Trained on the documents alone: the lines between them are no text. */
static atv_tokenizer *train_tokenizer(const char *text, size_t size, int vocab_size) {
    atv_tokenizer_train_desc desc = {0};
    atv_tokenizer *tokenizer;
    joined j = {NULL, 0};
    j.data = (char *)allocate(size + 1, 1);
    each_document(text, size, append_document, &j);
    desc.vocab_size = vocab_size;
    check(atv_tokenizer_train(ctx, &desc, j.data, j.size, &tokenizer));
    if (atv_tokenizer_vocab_size(tokenizer) < desc.vocab_size)
        fprintf(stderr, "%s: note: --vocab=%d, but no pair comes twice any more after %d entries\n", program,
                desc.vocab_size, atv_tokenizer_vocab_size(tokenizer));
    free(j.data);
    return tokenizer;
}

static atv_trainer_desc trainer_desc(const args *a, int batch, int max_length) {
    atv_trainer_desc desc = {0};
    desc.has_learning_rate = 1;
    desc.learning_rate = real(a, "lr");
    desc.min_learning_rate = real(a, "min-lr");
    desc.schedule = (atv_schedule)choice(a, "schedule");
    desc.warmup_steps = small(a, "warmup");
    if (desc.schedule != ATV_SCHEDULE_CONSTANT)
        desc.total_steps = small(a, given(a, "decay-steps") ? "decay-steps" : "steps");
    desc.beta1 = real(a, "beta1");
    desc.beta2 = real(a, "beta2");
    desc.epsilon = real(a, "eps");
    desc.weight_decay = real(a, "weight-decay");
    desc.decay_all = given(a, "decay-all") || given(a, "ids");
    desc.max_grad_norm = real(a, "clip");
    desc.accumulate = small(a, "accumulate");
    desc.batch = batch;
    desc.max_length = max_length;
    desc.seed = (uint64_t)whole(a, "seed");
    return desc;
}

/* Block after block of B x T ids, after the last the first again. */
static void train_rows(training *t, const rows *r, int64_t n_blocks) {
    int64_t accumulate = whole(t->a, "accumulate"), step, i;
    atv_step done;
    for (step = t->first_step; step < t->steps; step++) {
        for (i = 0; i < accumulate; i++) {
            atv_batch batch = rows_batch(r, (step * accumulate + i) % n_blocks * r->n);
            check(atv_trainer_accumulate(t->trainer, &batch));
        }
        check(atv_trainer_update(t->trainer, &done));
        if (on_step(t, &done) != 0) return;
    }
}

/* --valid, or when evaluations are asked for the data directory's valid.txt. */
static void load_valid(training *t, int context) {
    int from_data = !given(t->a, "valid");
    char *path, *text;
    size_t size;
    if (from_data && small(t->a, "eval-every") == 0) return;
    if (from_data && !is_directory(words(t->a, "data")))
        misused("--eval-every=%s needs --valid", words(t->a, "eval-every"));
    path = file_in(words(t->a, from_data ? "data" : "valid"), "valid.txt");
    text = read_all(path, &size);
    t->valid = encode_documents(t->tokenizer, path, text, size, context);
    t->work = make_work(t->model, 8 * context, 0);
    free(text);
    free(path);
}

static void check_train_args(const args *a) {
    static const char *const of_model[] = {"vocab", "variant", "group-proportion", "kqv-proportion", "heads", "hidden",
                                           "layers", "ffn-base", "window"};
    int with_ids = given(a, "ids");
    size_t i;
    if (with_ids && given(a, "data")) misused("--ids and --data do not go together");
    if (!with_ids && given(a, "shape")) misused("--shape=%s needs --ids", words(a, "shape"));
    if (!with_ids && !given(a, "data") && whole(a, "steps") > 0) misused("--data or --ids is missing; --help tells more");
    if (!given(a, "data") && given(a, "valid")) misused("--valid=%s needs --data", words(a, "valid"));
    if (!given(a, "data") && given(a, "eval-every")) misused("--eval-every=%s needs --data", words(a, "eval-every"));
    if (given(a, "vocab") && given(a, "tokenizer"))
        misused("--vocab=%s and --tokenizer do not go together", words(a, "vocab"));
    for (i = 0; given(a, "model") && i < sizeof of_model / sizeof *of_model; i++)
        if (given(a, of_model[i])) misused("--%s=%s and --model do not go together", of_model[i], words(a, of_model[i]));
}

static void catch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND;                    /* a second one ends at once */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int run_train(const args *a) {
    training t = {0};
    atv_trainer_desc desc;
    atv_data data = {0};
    rows r = {0};
    char *path = NULL, *text = NULL;
    size_t size = 0;
    int64_t n_blocks = 0;
    int context, unfinished;

    check_train_args(a);
    t.a = a;
    t.out = needed(a, "out");
    check_out(t.out);
    t.steps = whole(a, "steps");
    t.log_every = given(a, "ids") && !given(a, "log-every") ? 1 : small(a, "log-every");
    if (!given(a, "resume") && has_file(t.out, "trainer.safetensors"))
        die("%s: has a trainer.safetensors already; --resume goes on with it, another --out begins anew", t.out);
    if (given(a, "ids")) r = read_rows(a, &n_blocks);
    if (given(a, "data")) {
        path = file_in(words(a, "data"), "train.txt");
        text = read_all(path, &size);
    }

    if (given(a, "tokenizer")) t.tokenizer = load_tokenizer(words(a, "tokenizer"));
    else if (given(a, "model")) t.tokenizer = find_tokenizer(words(a, "model"));
    else if (given(a, "resume")) t.tokenizer = find_tokenizer(t.out);
    else if (text) t.tokenizer = train_tokenizer(text, size, small(a, "vocab"));
    if (text && !t.tokenizer) die("%s: has no tokenizer, and none is given", given(a, "model") ? words(a, "model") : t.out);

    t.model = given(a, "model") ? load_language_model(words(a, "model")) : make_model(a, t.tokenizer);
    context = atv_model_config(t.model)->max_position_embeddings;
    if (given(a, "context") && small(a, "context") > context)
        die("--context=%d, but %s has max_position_embeddings=%d", small(a, "context"), words(a, "model"), context);
    if (given(a, "context")) context = small(a, "context");
    if (t.tokenizer && given(a, "model"))
        check_fits(t.tokenizer, words(a, given(a, "tokenizer") ? "tokenizer" : "model"), t.model, words(a, "model"));

    desc = trainer_desc(a, r.ids ? r.n : small(a, "batch"), r.ids ? r.length : context);
    check(atv_trainer_create(t.model, &desc, &t.trainer));
    if (given(a, "resume")) {
        char *state = join(t.out, "/", "trainer.safetensors");
        check(atv_trainer_load(t.trainer, state));
        free(state);
        t.first_step = atv_trainer_step(t.trainer);
        if (t.first_step > t.steps)
            die("--steps=%lld, but %s has done %lld", (long long)t.steps, t.out, (long long)t.first_step);
    }
    if (text) {
        data = encode_documents(t.tokenizer, path, text, size, context);
        load_valid(&t, context);
    }
    make_directory(t.out);
    catch_signals();
    t.started = now();
    if (r.ids) {
        train_rows(&t, &r, n_blocks);
    } else if (t.first_step < t.steps) {
        atv_result result = atv_trainer_run(t.trainer, &data, t.steps - t.first_step, on_step, &t);
        if (result != ATV_ERR_STOPPED) check(result);
    }
    save_training(&t);
    unfinished = atv_trainer_step(t.trainer) < t.steps;
    if (unfinished)
        fprintf(stderr, "%s: interrupted after step %lld of %lld; --resume goes on from %s\n", program,
                (long long)atv_trainer_step(t.trainer), (long long)t.steps, t.out);

    atv_work_destroy(t.work);
    atv_trainer_destroy(t.trainer);
    atv_model_destroy(t.model);
    atv_tokenizer_destroy(t.tokenizer);
    free_data(&data);
    free_data(&t.valid);
    free_rows(&r);
    free(text);
    free(path);
    return unfinished ? 130 : 0;
}

/* ==== generate ==================================================================================================== */

typedef struct sample { int32_t *ids; float *logprobs; int n; } sample;

typedef struct generation {
    atv_tokenizer *tokenizer;       /* NULL: ids in, ids out */
    sample *samples;
    int streams;                    /* 1: each token is printed as it comes */
} generation;

static void print_tokens(const generation *g, const int32_t *ids, int n) {
    if (g->tokenizer) {
        size_t size;
        char *text = decode(g->tokenizer, ids, (size_t)n, 1, &size);
        fwrite(text, 1, size, stdout);
        free(text);
    } else {
        put_ids(ids, (size_t)n, " ");
    }
}

static int on_token(void *user, int prompt, int32_t token, float logprob) {
    generation *g = (generation *)user;
    sample *s = &g->samples[prompt];
    if (g->streams) {
        if (s->n && !g->tokenizer) putchar(' ');
        print_tokens(g, &token, 1);
        fflush(stdout);
    }
    s->logprobs[s->n] = logprob;
    s->ids[s->n++] = token;
    return ferror(stdout);
}

/* As training documents begin: with the post-processor's first id. */
static int32_t *encode_prompt(atv_tokenizer *tokenizer, const char *text, size_t size, size_t *n) {
    size_t encoded, room = most_ids(size);
    int32_t *ids = (int32_t *)allocate(room + 1, sizeof *ids);
    int before, after;
    atv_tokenizer_wrap(tokenizer, &before, &after);
    if (before < 0 && size == 0) before = atv_tokenizer_eos(tokenizer);
    if (before < 0 && size == 0) die("--prompt is empty, and the tokenizer has no token to begin with");
    *n = before >= 0;
    ids[0] = before;
    check(atv_tokenizer_encode(tokenizer, text, size, ids + *n, room, &encoded));
    *n += encoded;
    return ids;
}

static void show_sample(const args *a, const generation *g, int i, const char *end) {
    const sample *s = &g->samples[i];
    record r = begin(a);
    int k;
    put_whole(&r, "sample", i);
    put_text(&r, "end", end);
    put_key(&r, "ids");
    putchar('[');
    put_ids(s->ids, (size_t)s->n, ", ");
    putchar(']');
    if (given(a, "logprobs")) {
        put_key(&r, "logprobs");
        for (k = 0; k < s->n; k++) printf("%s%.9g", k ? ", " : "[", (double)s->logprobs[k]);
        putchar(']');
    }
    if (g->tokenizer) {
        size_t size;
        char *text = decode(g->tokenizer, s->ids, (size_t)s->n, 1, &size);
        put_key(&r, "text");
        put_json(text, size);
        free(text);
    }
    finish(&r);
}

static int run_generate(const args *a) {
    atv_model *model;
    atv_decoder_desc decoder_desc = {0};
    atv_decoder *decoder;
    atv_generate_desc desc = {0};
    atv_decode_input *prompts;
    generation g = {0};
    int32_t *ids, stop = -1;
    size_t n_ids, size = 0;
    char *text = NULL;
    int json = given(a, "json"), n = small(a, "n"), full = 0, context, room, i;

    if (given(a, "ids") == given(a, "prompt")) misused("one of --prompt and --ids is needed");
    if (given(a, "logprobs") && !json) misused("--logprobs needs --json");
    model = load_language_model(a->operand);
    context = atv_model_config(model)->max_position_embeddings;
    if (given(a, "ids")) {
        ids = list(a, "ids", &n_ids);
        if (atv_model_config(model)->has_special_ids) stop = atv_model_config(model)->eos_token_id;
    } else {
        g.tokenizer = load_tokenizer(a->operand);
        check_fits(g.tokenizer, a->operand, model, a->operand);
        if (strcmp(words(a, "prompt"), "-") == 0) {
            text = read_all("-", &size);
            if (size && text[size - 1] == '\n') size--;     /* the shell's */
        } else {
            text = join(words(a, "prompt"), "", "");
            size = strlen(text);
        }
        ids = encode_prompt(g.tokenizer, text, size, &n_ids);
        stop = atv_tokenizer_eos(g.tokenizer);
    }
    if (n_ids > (size_t)context)
        die("the prompt has %lu tokens, but %s max_position_embeddings=%d", (unsigned long)n_ids, a->operand, context);
    room = (int)least(small(a, "tokens"), context - (int)n_ids + 1);          /* the last token needs no position */

    desc.max_new_tokens = small(a, "tokens");
    desc.seed = (uint64_t)whole(a, "seed");
    desc.sampling.do_sample = !given(a, "greedy");
    desc.sampling.temperature = real(a, "temperature");
    desc.sampling.top_k = small(a, "top-k");
    desc.sampling.top_p = real(a, "top-p");
    desc.sampling.repetition_penalty = real(a, "repetition-penalty");
    desc.stop_tokens = &stop;
    desc.n_stop_tokens = stop >= 0 && !given(a, "ignore-eos");
    desc.on_token = on_token;
    desc.user = &g;
    decoder_desc.n_seq = n;
    decoder_desc.max_positions = (int)least(context, (int)n_ids + room);
    check(atv_decoder_create(model, &decoder_desc, &decoder));
    prompts = (atv_decode_input *)allocate((size_t)n, sizeof *prompts);
    g.samples = (sample *)allocate((size_t)n, sizeof *g.samples);
    g.streams = n == 1 && !json;
    for (i = 0; i < n; i++) {
        prompts[i].seq = 0;                                 /* atv_generate finds its own */
        prompts[i].ids = ids;
        prompts[i].n_ids = (int)n_ids;
        g.samples[i].n = 0;
        g.samples[i].ids = (int32_t *)allocate((size_t)room, sizeof(int32_t));
        g.samples[i].logprobs = (float *)allocate((size_t)room, sizeof(float));
    }
    if (g.streams && text) fwrite(text, 1, size, stdout);
    check(atv_generate(decoder, &desc, prompts, n));

    for (i = 0; i < n; i++) {
        sample *s = &g.samples[i];
        int stopped = desc.n_stop_tokens && s->n && s->ids[s->n - 1] == stop;
        int cut = !stopped && s->n < desc.max_new_tokens;
        full |= cut;
        if (json) show_sample(a, &g, i, stopped ? "stop" : cut ? "context" : "tokens");
        if (n > 1 && !json) {
            if (text) printf("---- %d\n%.*s", i, (int)size, text);
            print_tokens(&g, s->ids, s->n);
        }
        if (!json) putchar('\n');
        free(s->ids);
        free(s->logprobs);
    }
    if (full && !ferror(stdout)) fprintf(stderr, "%s: note: the context of %d positions is full\n", program, context);
    free(g.samples);
    free(prompts);
    free(ids);
    free(text);
    atv_decoder_destroy(decoder);
    atv_tokenizer_destroy(g.tokenizer);
    atv_model_destroy(model);
    return 0;
}

/* ==== eval ======================================================================================================== */

static void eval_text(const args *a, atv_model *model, atv_tokenizer *tokenizer) {
    char *path = file_in(words(a, "text"), "valid.txt"), *text;
    int context = atv_model_config(model)->max_position_embeddings;
    record r = begin(a);
    atv_work *work;
    atv_data data;
    atv_loss loss;
    size_t size;
    double started;
    if (given(a, "context")) context = (int)least(context, small(a, "context"));
    text = read_all(path, &size);
    data = encode_documents(tokenizer, path, text, size, context);
    work = make_work(model, 8 * context, 0);
    started = now();
    check(atv_evaluate(work, &data, &loss));
    put_real(&r, "loss", loss.sum / (double)loss.tokens);
    put_real(&r, "perplexity", exp(loss.sum / (double)loss.tokens));
    put_whole(&r, "tokens", loss.tokens);
    put_whole(&r, "documents", data.n_docs);
    put_real(&r, "tokens_per_second", floor((double)loss.tokens / (now() - started + 1e-9)));
    finish(&r);
    free_data(&data);
    free(text);
    free(path);
    atv_work_destroy(work);
}

static int by_name(const void *x, const void *y) { return strcmp(*(char *const *)x, *(char *const *)y); }

/* The file itself, or the directory's *.json and *.jsonl in order. */
static char **pair_files(const char *path, size_t *n) {
    char **files = NULL;
    size_t room = 0;
    struct dirent *entry;
    DIR *dir = is_directory(path) ? opendir(path) : NULL;
    *n = 0;
    if (!dir) {
        files = (char **)allocate(1, sizeof *files);
        files[(*n)++] = join(path, "", "");
        return files;
    }
    while ((entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || place(".json|.jsonl", dot) < 0) continue;
        files = (char **)grow(files, *n, *n + 1, &room, sizeof *files);
        files[(*n)++] = join(path, "/", entry->d_name);
    }
    closedir(dir);
    if (*n == 0) die("%s: holds no .json and no .jsonl file", path);
    qsort(files, *n, sizeof *files, by_name);
    return files;
}

enum { PAIRS_TOKENS = 2048 };                   /* of a batch of sentences */

/* Pairs counted by file, linguistics_term and UID, in the order they come; each a row of a table. */
typedef enum table { OF_FILE, OF_TERM, OF_UID, N_TABLES } table;
static const char *const table_names[N_TABLES] = {"file", "linguistics_term", "UID"};

typedef struct tally { table of; char *name; atv_pairs_result count; } tally;
typedef struct tallies { tally *rows; size_t n, room; } tallies;

static void count_pair(tallies *t, table of, const char *name, int correct) {
    size_t i = t->n;
    if (!name) return;
    while (i > 0 && (t->rows[i - 1].of != of || strcmp(t->rows[i - 1].name, name) != 0)) i--;      /* the last one, mostly */
    if (i == 0) {
        tally row = {OF_FILE, NULL, {0, 0}};
        row.of = of;
        row.name = join(name, "", "");
        t->rows = (tally *)grow(t->rows, t->n, t->n + 1, &t->room, sizeof *t->rows);
        t->rows[t->n] = row;
        i = ++t->n;
    }
    t->rows[i - 1].count.pairs++;
    t->rows[i - 1].count.correct += correct;
}

typedef struct pairs_file { tallies *tallies; const char *name; } pairs_file;

static int on_pair(void *user, const atv_pair *pair) {
    const pairs_file *f = (const pairs_file *)user;
    count_pair(f->tallies, OF_FILE, f->name, pair->correct);
    count_pair(f->tallies, OF_TERM, pair->linguistics_term, pair->correct);
    count_pair(f->tallies, OF_UID, pair->uid, pair->correct);
    return 0;
}

static void show_pairs(const args *a, const char *of, const char *name, atv_pairs_result count) {
    double accuracy = (double)count.correct / (double)count.pairs, low, high;
    record r = begin(a);
    atv_interval(count.correct, count.pairs, &low, &high);
    if (r.json) {
        put_text(&r, "table", of);
        put_text(&r, "name", name);
        put_whole(&r, "pairs", count.pairs);
        put_whole(&r, "correct", count.correct);
        put_real(&r, "accuracy", accuracy);
        put_real(&r, "low", low);
        put_real(&r, "high", high);
        finish(&r);
    } else {
        printf("%-52s %7lld  %6.2f  %6.2f .. %6.2f\n", name, (long long)count.pairs, 100 * accuracy, 100 * low, 100 * high);
        fflush(stdout);
    }
}

/* The rows of one table under its heading. */
static void show_table(const args *a, const tallies *t, table of) {
    int n = 0;
    size_t i;
    for (i = 0; i < t->n; i++) {
        if (t->rows[i].of != of) continue;
        if (n++ == 0 && !given(a, "json"))
            printf("%-52s %7s  %6s  %s\n", table_names[of], "pairs", "% good", "95 % interval");
        show_pairs(a, table_names[of], t->rows[i].name, t->rows[i].count);
    }
    if (n > 0 && !given(a, "json")) putchar('\n');
}

/* Every file counts the same, as benchmarks report it. */
static void show_mean(const args *a, size_t n, double mean) {
    record r = begin(a);
    if (r.json) {
        put_text(&r, "table", "mean of files");
        put_whole(&r, "files", (int64_t)n);
        put_real(&r, "accuracy", mean);
        finish(&r);
    } else {
        printf("%-52s %7s  %6.2f\n", "mean of files", "", 100 * mean);
    }
}

/* The size of the first `limit` lines; limit 0: of all. */
static size_t first_lines(const char *text, size_t size, int64_t limit) {
    size_t end = 0;
    for (; limit > 0 && end < size; limit--) {
        const char *stop = (const char *)memchr(text + end, '\n', size - end);
        end = stop ? (size_t)(stop - text) + 1 : size;
        if (limit == 1) return end;
    }
    return size;
}

static void eval_pairs(const args *a, atv_model *model, atv_tokenizer *tokenizer) {
    atv_work *work = make_work(model, (int)most(PAIRS_TOKENS, atv_model_config(model)->max_position_embeddings), 0);
    atv_pairs_desc desc = {0};
    atv_pairs_result all = {0, 0}, result;
    tallies t = {NULL, 0, 0};
    size_t n, i, size;
    char **files = pair_files(words(a, "pairs"), &n);
    double mean = 0;
    int of;
    desc.no_space = given(a, "no-space");
    if (given(a, "start-token")) {
        const char *start = words(a, "start-token");
        desc.has_start_token = 1;
        desc.start_token = is_whole(start) ? small(a, "start-token") : atv_tokenizer_id(tokenizer, start);
        if (!atv_tokenizer_token(tokenizer, desc.start_token, &size))
            die("--start-token=%s is no token of %s", start, a->operand);
    }
    for (i = 0; i < n; i++) {
        char *text = read_all(files[i], &size);
        const char *slash = strrchr(files[i], '/');
        pairs_file file;
        atv_result outcome;
        file.tallies = &t;
        file.name = slash ? slash + 1 : files[i];
        desc.on_pair = on_pair;
        desc.user = &file;
        outcome = atv_eval_pairs(work, tokenizer, text, first_lines(text, size, whole(a, "limit")), &desc, &result);
        free(text);
        if (outcome != ATV_OK) die("%s: %s", files[i], atv_last_error(ctx));
        if (result.pairs == 0) die("%s: holds no pair: %s", files[i], size > 0 ? "blank lines alone" : "it is empty");
        mean += (double)result.correct / (double)result.pairs / (double)n;
        all.pairs += result.pairs;
        all.correct += result.correct;
        if (isatty(STDERR_FILENO)) fprintf(stderr, "\r\033[K%lu/%lu files%s", (unsigned long)i + 1, (unsigned long)n,
                                           i + 1 < n ? "" : "\r\033[K");
        free(files[i]);
    }
    for (of = 0; of < N_TABLES; of++) show_table(a, &t, (table)of);
    show_pairs(a, "overall", "overall", all);
    if (n > 1) show_mean(a, n, mean);
    for (i = 0; i < t.n; i++) free(t.rows[i].name);
    free(t.rows);
    free(files);
    atv_work_destroy(work);
}

/* ==== tasks of classification: finetune, eval --classify =========================================================== */

/* What the BabyLM 2023 evaluation reports of a task, told by the file's name: cola.train.json is CoLA. */
static atv_metric metric_of(const args *a, const char *path) {
    static const struct { const char *task; atv_metric metric; } reported[] = {
        {"cola", ATV_METRIC_MCC}, {"mrpc", ATV_METRIC_F1}, {"qqp", ATV_METRIC_F1}};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t i, n = strcspn(name, ".");
    if (given(a, "metric")) return (atv_metric)(choice(a, "metric") + 1);   /* in the order of ATV_METRICS, but for AUTO */
    for (i = 0; i < sizeof reported / sizeof *reported; i++)
        if (strlen(reported[i].task) == n && strncmp(reported[i].task, name, n) == 0) return reported[i].metric;
    return ATV_METRIC_ACCURACY;
}

static void check_task_args(const args *a) {
    if (given(a, "wrap") && given(a, "no-wrap")) misused("--wrap and --no-wrap do not go together");
}

/* How examples are read: as the options say, else as the classifier's were, else by the defaults. */
static atv_task_desc task_desc(const args *a, const atv_model *model) {
    atv_task_desc desc = {0};
    atv_model_task(model, &desc.max_length, &desc.wrap);
    if (given(a, "max-length") || desc.max_length == 0) desc.max_length = small(a, "max-length");
    if (given(a, "wrap") || given(a, "no-wrap") || desc.wrap < 0) desc.wrap = given(a, "wrap");
    desc.max_length = (int)least(desc.max_length, atv_model_config(model)->max_position_embeddings);
    return desc;
}

/* The first `limit` lines, 0: all; some example must have a label. */
static atv_task *load_task(const char *path, int64_t limit, atv_tokenizer *tokenizer, atv_task_desc desc,
                           const char *const *labels, int n_labels) {
    atv_task *task;
    const atv_data *data;
    size_t size;
    char *text = read_all(path, &size);
    int i = 0;
    desc.labels = labels;
    desc.n_labels = n_labels;
    if (atv_task_from_memory(tokenizer, text, first_lines(text, size, limit), &desc, &task) != ATV_OK)
        die("%s: %s", path, atv_last_error(ctx));
    free(text);
    data = atv_task_data(task);
    while (i < data->n_docs && data->labels[i] < 0) i++;
    if (i == data->n_docs) die("%s: no example has a label", path);
    return task;
}

/* The metric first, then all; each beside what the best constant answer reaches. */
static void put_metrics(record *r, atv_metric metric, const atv_metrics *m, const atv_metrics *baseline) {
    static const atv_metric all[] = {ATV_METRIC_ACCURACY, ATV_METRIC_F1, ATV_METRIC_MCC};
    char key[32];
    size_t i;
    put_text(r, "metric", atv_metric_name(metric));
    put_real(r, "score", atv_metrics_get(m, metric));
    put_real(r, "baseline", atv_metrics_get(baseline, metric));
    for (i = 0; i < sizeof all / sizeof *all; i++) {
        put_real(r, atv_metric_name(all[i]), atv_metrics_get(m, all[i]));
        snprintf(key, sizeof key, "baseline_%s", atv_metric_name(all[i]));
        put_real(r, key, atv_metrics_get(baseline, all[i]));
    }
}

typedef struct finetuning { const args *a; double started; } finetuning;

static int on_finetune_step(void *user, const atv_step *s) {
    const finetuning *f = (const finetuning *)user;
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[Kstep %lld  loss %.4f  %.1f steps/s", (long long)s->step,
                s->loss.sum / (double)s->loss.tokens, (double)s->step / (now() - f->started + 1e-9));
    return interrupted;
}

static int on_finetune_eval(void *user, const atv_finetune_eval *e) {
    const finetuning *f = (const finetuning *)user;
    record r = begin(f->a);
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    put_whole(&r, "step", e->step);
    put_real(&r, "epoch", e->epoch);
    put_real(&r, "train_loss", e->train_loss);
    put_metrics(&r, e->metric, &e->metrics, &e->baseline);
    put_whole(&r, "best", e->best);
    finish(&r);
    return 0;
}

/* --valid, or x.validation.json beside x.train.json. */
static char *validation_file(const args *a) {
    const char *task = needed(a, "task"), *slash = strrchr(task, '/'), *dot = strstr(slash ? slash : task, ".train.");
    char *head, *path;
    if (given(a, "valid")) return join(words(a, "valid"), "", "");
    if (!dot) misused("--valid is missing, and --task=%s has no .train. that could become .validation.", task);
    head = join(task, "", "");
    head[dot - task] = 0;
    path = join(head, ".validation", dot + strlen(".train"));
    free(head);
    return path;
}

static int run_finetune(const args *a) {
    const char *path = needed(a, "task");
    char *valid_path = validation_file(a);
    atv_model *model;
    atv_tokenizer *tokenizer;
    atv_finetune_desc desc = atv_finetune_babylm();
    atv_finetune_result result;
    atv_task_desc how;
    atv_task *train, *valid;
    const char *const *labels;
    finetuning f;
    record r = begin(a);
    int n;
    check_task_args(a);
    if (given(a, "out")) check_out(words(a, "out"));
    model = load_model(a->operand);
    tokenizer = load_fitting_tokenizer(a, model);
    how = task_desc(a, model);
    train = load_task(path, 0, tokenizer, how, NULL, 0);
    labels = atv_task_labels(train, &n);
    if (n < 2) die("%s: all labels are %s, so that there is nothing to tell apart", path, labels[0]);
    valid = load_task(valid_path, 0, tokenizer, how, labels, n);
    if (strcmp(atv_task_fields(train), atv_task_fields(valid)) != 0)
        die("%s has the fields %s, %s %s", path, atv_task_fields(train), valid_path, atv_task_fields(valid));
    if (given(a, "out") && strcmp(words(a, "out"), a->operand) == 0 && atv_model_config(model)->num_labels == 0)
        die("--out %s would replace the language model", a->operand);
    if (atv_model_config(model)->num_labels != n) {         /* another task's classifier gets a head of its own, too */
        atv_model *classifier;
        check(atv_model_classifier(model, n, (uint64_t)whole(a, "seed"), &classifier));
        atv_model_destroy(model);
        model = classifier;
    }
    check(atv_model_set_labels(model, labels));
    check(atv_model_set_task(model, how.max_length, how.wrap));
    desc.trainer.learning_rate = real(a, "lr");
    desc.trainer.schedule = (atv_schedule)choice(a, "schedule");
    desc.trainer.warmup_steps = small(a, "warmup");
    desc.trainer.beta1 = real(a, "beta1");
    desc.trainer.beta2 = real(a, "beta2");
    desc.trainer.epsilon = real(a, "eps");
    desc.trainer.weight_decay = real(a, "weight-decay");
    desc.trainer.max_grad_norm = real(a, "clip");
    desc.trainer.batch = small(a, "batch");
    desc.trainer.accumulate = small(a, "accumulate");
    desc.trainer.seed = (uint64_t)whole(a, "seed");
    desc.max_epochs = small(a, "epochs");
    desc.eval_every = small(a, "eval-every");
    desc.patience = small(a, "patience");
    desc.min_improvement = real(a, "min-improvement");
    desc.metric = metric_of(a, path);
    desc.on_step = on_finetune_step;
    desc.on_eval = on_finetune_eval;
    desc.user = &f;
    if (given(a, "out")) make_directory(words(a, "out"));
    catch_signals();
    f.a = a;
    f.started = now();
    check(atv_finetune(model, atv_task_data(train), atv_task_data(valid), &desc, &result));
    put_whole(&r, "best_step", result.best.step);
    put_metrics(&r, result.best.metric, &result.best.metrics, &result.best.baseline);
    put_whole(&r, "examples", result.best.metrics.n);
    put_whole(&r, "steps", result.steps);
    put_real(&r, "epochs", result.epochs);
    put_real(&r, "seconds", floor(100 * (now() - f.started)) / 100);
    finish(&r);
    if (given(a, "out")) {
        atv_save_desc save = {0};
        save.tokenizer = tokenizer;
        check(atv_model_save(model, words(a, "out"), &save));
    }
    if (interrupted) fprintf(stderr, "%s: interrupted after step %lld\n", program, (long long)result.steps);
    atv_task_destroy(valid);
    atv_task_destroy(train);
    atv_tokenizer_destroy(tokenizer);
    atv_model_destroy(model);
    free(valid_path);
    return interrupted ? 130 : 0;
}

static void eval_task(const args *a, atv_model *model, atv_tokenizer *tokenizer) {
    const char *path = words(a, "classify");
    const int n = atv_model_config(model)->num_labels;
    atv_task *task;
    const atv_data *data;
    atv_metrics m, baseline;
    int32_t *predicted;
    double low, high;
    atv_work *work;
    record r = begin(a);
    const char **labels;
    int i;
    if (n == 0) die("%s: is a language model, not a classifier; attnvar finetune makes one", a->operand);
    labels = (const char **)allocate((size_t)n, sizeof *labels);
    for (i = 0; i < n; i++) labels[i] = atv_model_label(model, i);
    if (!labels[0]) die("%s: its config.json does not name the labels", a->operand);
    task = load_task(path, whole(a, "limit"), tokenizer, task_desc(a, model), labels, n);
    data = atv_task_data(task);
    predicted = (int32_t *)allocate((size_t)data->n_docs, sizeof *predicted);
    work = make_work(model, (int)most(PAIRS_TOKENS, atv_model_config(model)->max_position_embeddings), 0);
    check(atv_classify(work, data, predicted, NULL));
    atv_measure(data->labels, predicted, data->n_docs, n, &m, &baseline);
    atv_interval(m.correct, m.n, &low, &high);
    put_metrics(&r, metric_of(a, path), &m, &baseline);
    put_real(&r, "accuracy_low", low);
    put_real(&r, "accuracy_high", high);
    put_whole(&r, "examples", m.n);
    finish(&r);
    free(labels);
    free(predicted);
    atv_work_destroy(work);
    atv_task_destroy(task);
}

static void check_eval_args(const args *a) {
    static const struct { const char *name, *with; } parts[] = {
        {"context", "text"}, {"start-token", "pairs"}, {"no-space", "pairs"}, {"limit", "pairs|classify"},
        {"metric", "classify"}, {"max-length", "classify"}, {"wrap", "classify"}, {"no-wrap", "classify"}};
    const char *what = given(a, "text") ? "text" : given(a, "pairs") ? "pairs" : "classify";
    size_t i;
    if (given(a, "text") + given(a, "pairs") + given(a, "classify") != 1)
        misused("one of --text, --pairs and --classify is needed");
    for (i = 0; i < sizeof parts / sizeof *parts; i++)
        if (given(a, parts[i].name) && place(parts[i].with, what) < 0)
            misused("--%s is of no use with --%s", parts[i].name, what);
    check_task_args(a);
}

static int run_eval(const args *a) {
    atv_model *model;
    atv_tokenizer *tokenizer;
    check_eval_args(a);
    model = (given(a, "classify") ? load_model : load_language_model)(a->operand);
    tokenizer = load_fitting_tokenizer(a, model);
    (given(a, "text") ? eval_text : given(a, "pairs") ? eval_pairs : eval_task)(a, model, tokenizer);
    atv_tokenizer_destroy(tokenizer);
    atv_model_destroy(model);
    return 0;
}

/* ==== logits, grad ================================================================================================ */

static int run_logits(const args *a) {
    const char *out = needed(a, "out");
    rows r = read_rows(a, NULL);
    atv_model *model = load_language_model(a->operand);
    atv_work *work = make_work(model, r.at_once * r.length, 0);
    size_t vocab = (size_t)atv_model_config(model)->vocab_size;
    float *logits = (float *)allocate((size_t)r.at_once * (size_t)r.length * vocab, sizeof *logits);
    char *temporary = join(out, "", ".tmp"), shape[64];
    FILE *file = fopen(temporary, "wb");
    record told = begin(a);
    int i, bad;
    if (!file) die("%s: cannot be written: %s", out, strerror(errno));
    for (i = 0; i < r.n; i += r.at_once) {
        atv_batch batch = rows_batch(&r, i);
        atv_result result;
        size_t n;
        batch.n_seq = (int)least(r.at_once, r.n - i);
        n = (size_t)batch.n_seq * (size_t)r.length * vocab;
        result = atv_forward(work, &batch, logits);
        if (result != ATV_OK) remove(temporary);
        check(result);
        little_endian(logits, n);
        fwrite(logits, 4, n, file);
    }
    bad = ferror(file) | fflush(file) | fsync(fileno(file));
    bad |= fclose(file);
    if (bad || rename(temporary, out) != 0) {
        remove(temporary);
        die("%s: cannot be written: %s", out, strerror(errno));
    }
    snprintf(shape, sizeof shape, "%d,%d,%d", r.n, r.length, (int)vocab);
    put_text(&told, "out", out);
    put_text(&told, "shape", shape);
    finish(&told);
    free(temporary);
    free(logits);
    free_rows(&r);
    atv_work_destroy(work);
    atv_model_destroy(model);
    return 0;
}

/* The gradient of the mean loss: the library's is of the sum, so that batches add up. */
static int run_grad(const args *a) {
    const char *out = needed(a, "out");
    rows r = read_rows(a, NULL);
    atv_model *model = load_language_model(a->operand);
    atv_work *work = make_work(model, r.at_once * r.length, 1);
    int n = atv_model_num_tensors(model), i;
    atv_named_tensor *grads = (atv_named_tensor *)allocate((size_t)n, sizeof *grads);
    atv_loss loss = {0, 0};
    record told = begin(a);
    double square = 0;
    atv_work_zero_grad(work);
    for (i = 0; i < r.n; i += r.at_once) {
        atv_batch batch = rows_batch(&r, i);
        atv_loss part;
        batch.n_seq = (int)least(r.at_once, r.n - i);
        check(atv_backward(work, &batch, &part));
        loss.sum += part.sum;
        loss.tokens += part.tokens;
    }
    if (loss.tokens == 0) die("--shape=%s leaves no next token to predict", words(a, "shape"));
    for (i = 0; i < n; i++) {
        atv_tensor grad = atv_work_grad(work, i);
        int64_t count = atv_tensor_count(&grad), k;
        float *values = (float *)allocate((size_t)count, sizeof *values);
        grads[i].name = atv_model_tensor(model, i).name;
        grads[i].tensor = atv_tensor_view(values, ATV_F32, grad.dims[0], grad.rank > 1 ? grad.dims[1] : 0, 0, 0);
        check(atv_tensor_copy(ctx, &grads[i].tensor, &grad));
        for (k = 0; k < count; k++) {
            values[k] = (float)((double)values[k] / (double)loss.tokens);
            square += (double)values[k] * (double)values[k];
        }
    }
    check(atv_safetensors_write(ctx, out, grads, n, ATV_F32, NULL, 0));
    put_real(&told, "loss", loss.sum / (double)loss.tokens);
    put_whole(&told, "tokens", loss.tokens);
    put_real(&told, "grad_norm", sqrt(square));
    finish(&told);
    for (i = 0; i < n; i++) free(grads[i].tensor.data);
    free(grads);
    free_rows(&r);
    atv_work_destroy(work);
    atv_model_destroy(model);
    return 0;
}

/* ==== tokenize ==================================================================================================== */

static int32_t *encode(atv_tokenizer *tokenizer, const char *text, size_t size, size_t *n) {
    int32_t *ids = (int32_t *)allocate(most_ids(size), sizeof *ids);
    check(atv_tokenizer_encode(tokenizer, text, size, ids, most_ids(size), n));
    return ids;
}

/* One JSON string to an array of ids, or back. */
static void tokenize_line(atv_tokenizer *tokenizer, int decodes, const char *line, size_t size, long number) {
    atvi_json json;
    const atvi_jnode *node;
    char what[48], *text;
    int32_t *ids;
    int64_t id;
    size_t n = 0, count;
    snprintf(what, sizeof what, "standard input, line %ld", number);
    check(atvi_json_parse(ctx, what, line, size, &json));
    node = json.nodes;
    if (decodes) {
        if (node->type != ATVI_JSON_ARRAY) die("%s: is no array of ids", what);
        count = (size_t)node->count;
        ids = (int32_t *)allocate(count, sizeof *ids);
        for (node++; n < count; n++, node += node->span) {
            if (!atvi_json_int(node, &id) || id < 0 || id > INT32_MAX)
                die("%s: [%lu]=%.*s is no id", what, (unsigned long)n, (int)least(node->size, 40), node->text);
            ids[n] = (int32_t)id;
        }
        text = decode(tokenizer, ids, n, 0, &size);
        put_json(text, size);
        putchar('\n');
    } else {
        if (node->type != ATVI_JSON_STRING) die("%s: is no string", what);
        size = atvi_json_unescape(node, NULL, 0);
        text = (char *)allocate(size, 1);
        atvi_json_unescape(node, text, size);
        ids = encode(tokenizer, text, size, &n);
        putchar('[');
        put_ids(ids, n, ",");
        puts("]");
    }
    free(ids);
    free(text);
    atvi_json_free(&json);
}

static int run_tokenize(const args *a) {
    atv_tokenizer *tokenizer = load_tokenizer(a->operand);
    size_t size, n;
    char *text = read_all("-", &size), *decoded;
    int32_t *ids;
    if (given(a, "json")) {
        const char *line = text, *end = text + size, *stop;
        long number;
        for (number = 1; line < end; number++, line = stop + 1) {
            stop = (const char *)memchr(line, '\n', (size_t)(end - line));
            if (!stop) stop = end;
            tokenize_line(tokenizer, given(a, "decode"), line, (size_t)(stop - line), number);
        }
    } else if (given(a, "decode")) {
        if (strlen(text) != size || !read_list(text, " ,\t\r\n", &ids, &n)) {
            die("standard input: is no list of ids");
            return 1;
        }
        decoded = decode(tokenizer, ids, n, 0, &size);
        fwrite(decoded, 1, size, stdout);
        free(decoded);
        free(ids);
    } else {
        ids = encode(tokenizer, text, size, &n);
        put_ids(ids, n, " ");
        putchar('\n');
        free(ids);
    }
    free(text);
    atv_tokenizer_destroy(tokenizer);
    return 0;
}

/* ==== inspect, convert ============================================================================================ */

static int64_t tensor_size(const atv_model *model, const char *name) {
    atv_tensor t;
    int i = 0;
    if (atv_model_find(model, name, &i) != ATV_OK) return 0;
    t = atv_model_tensor(model, i).tensor;
    return atv_tensor_count(&t);
}

/* "2 2 1 1": how many query heads read each key/value head. */
static void put_groups(const atv_layer *l, const char *between) {
    int g, h;
    for (g = 0; g < l->num_key_value_heads; g++) {
        int count = 0;
        for (h = 0; h < l->num_heads; h++)
            count += atv_kv_of_head(l->num_heads, l->num_key_value_heads, l->kv_of_head, h) == g;
        printf("%s%d", g ? between : "", count);
    }
}

static void put_layer(const args *a, int i, const atv_layer *l) {
    record r = begin(a);
    char window[16];
    if (r.json) {
        put_whole(&r, "num_heads", l->num_heads);
        put_whole(&r, "num_key_value_heads", l->num_key_value_heads);
        put_whole(&r, "head_dim", l->head_dim);
        put_whole(&r, "value_dim", l->value_dim ? l->value_dim : l->head_dim);
        put_whole(&r, "intermediate_size", l->intermediate_size);
        put_whole(&r, "window_size", l->window_size);
        put_whole(&r, "kv_layer", l->kv_layer);
        put_key(&r, "groups");
        putchar('[');
        put_groups(l, ", ");
        printf("]}");
        return;
    }
    snprintf(window, sizeof window, l->window_size ? "%d" : "global", l->window_size);
    printf("%5d %6d %9d %9d %10d %6d %7s %6d  ", i, l->num_heads, l->num_key_value_heads, l->head_dim,
           l->value_dim ? l->value_dim : l->head_dim, l->intermediate_size, window, l->kv_layer);
    put_groups(l, " ");
    putchar('\n');
}

static int run_inspect(const args *a) {
    atv_model *model = load_model(a->operand);
    const atv_config *c = atv_model_config(model);
    atv_layer first = atv_config_layer(c, 0);
    atv_trainer_desc desc = atv_trainer_published();
    int64_t n = atv_model_num_parameters(model);
    int64_t embeddings = tensor_size(model, "transformer.wte.weight") + tensor_size(model, "transformer.wpe.weight");
    size_t model_bytes, train_bytes, decode_bytes = 0;
    record r = begin(a);
    int i, k;
    desc.max_length = (int)least(512, c->max_position_embeddings);
    check(atv_model_bytes(ctx, c, &model_bytes));
    check(atv_trainer_bytes(model, &desc, &train_bytes));
    if (!c->num_labels) check(atv_decoder_bytes(model, NULL, &decode_bytes));
#define LINE(kind, name, value) do { put_##kind(&r, name, value); if (!r.json) { putchar('\n'); r.n = 0; } } while (0)
    LINE(text, "variant", atv_variant_name(atv_config_variant(c)));
    LINE(real, "group_proportion", (double)first.num_key_value_heads / first.num_heads);
    LINE(real, "kqv_proportion", (double)first.num_heads * first.head_dim / c->hidden_size);
    LINE(whole, "parameters", n);
    LINE(whole, "parameters_without_embeddings", n - embeddings);
    LINE(whole, "vocab_size", c->vocab_size);
    LINE(whole, "max_position_embeddings", c->max_position_embeddings);
    LINE(whole, "hidden_size", c->hidden_size);
    LINE(whole, "num_layers", c->num_layers);
    LINE(whole, "intermediate_size", first.intermediate_size);
    LINE(whole, "kv_bytes_per_token", (int64_t)atv_config_kv_bytes_per_token(c));
    LINE(whole, "model_bytes", (int64_t)model_bytes);
    LINE(whole, "training_bytes", (int64_t)train_bytes);    /* of the published batch, beside the model */
    if (c->num_labels) {
        int max_length, wrap;
        LINE(whole, "num_labels", c->num_labels);
        atv_model_task(model, &max_length, &wrap);
        if (max_length > 0) LINE(whole, "max_length", max_length);          /* of examples, as finetune kept it */
        if (wrap >= 0) LINE(whole, "wrap", wrap);
    } else LINE(whole, "decoding_bytes", (int64_t)decode_bytes);      /* of one sequence, beside the model */
#undef LINE
    printf(r.json ? ", \"layers\": ["
                  : "\nlayer  heads  kv heads  head dim  value dim    FFN  window  kv of  heads per kv head\n");
    for (i = 0; i < c->num_layers; i++) {
        atv_layer l = atv_config_layer(c, i);
        if (r.json && i > 0) printf(", ");
        put_layer(a, i, &l);
    }
    printf(r.json ? "], \"tensors\": {" : "\n");
    for (i = 0; i < atv_model_num_tensors(model); i++) {
        atv_named_tensor t = atv_model_tensor(model, i);
        printf(r.json ? "%s\"%s\": [" : "%s%-48s", r.json && i > 0 ? ", " : "", t.name);
        for (k = 0; k < t.tensor.rank; k++)
            printf("%s%lld", k == 0 ? "" : r.json ? ", " : " x ", (long long)t.tensor.dims[k]);
        printf(r.json ? "]" : "\n");
    }
    if (r.json) printf("}}\n");
    atv_model_destroy(model);
    return 0;
}

static int run_convert(const args *a) {
    const char *out = needed(a, "out");
    atv_model *model;
    atv_tokenizer *tokenizer;
    atv_save_desc desc = {0};
    check_out(out);
    model = load_model(a->operand);
    tokenizer = find_tokenizer(a->operand);
    desc.dtype = (atv_dtype)choice(a, "dtype");             /* in the order of ATV_DTYPES */
    desc.tokenizer = tokenizer;
    make_directory(out);
    check(atv_model_save(model, out, &desc));
    atv_tokenizer_destroy(tokenizer);
    atv_model_destroy(model);
    return 0;
}

#include "bench.h"

/* ==== The tables ================================================================================================== */

#define X(name, text) "|" text                              /* "|one|two": the tables skip the first bar */
static const char isas[] = ATV_ISAS(X), variants[] = ATV_VARIANTS(X), schedules[] = ATV_SCHEDULES(X);
#undef X

#define MANY 1000000000.0
#define END {NULL, FLAG, NULL, NULL, 0, 0, NULL}
#define JSON {"json", FLAG, NULL, NULL, 0, 0, "print JSON"}
#define SEED {"seed", WHOLE, "N", "1", 0, 9007199254740992.0, "of all that is random"}
#define IDS {"ids", WORDS, "FILE", NULL, 0, 0, "token ids: raw little-endian int32, row after row"}
#define ROWS {"shape", LIST, "B,T", NULL, 2, 2, "of the ids: rows, and tokens in each"}
#define TASK \
    {"metric", CHOICE, "accuracy|f1|mcc", NULL, 0, 0, \
     "the score, by which the best is chosen (default: mcc for cola.*, f1 for mrpc.* and qqp.*, else accuracy)"}, \
    {"max-length", WHOLE, "N", "128", 1, MANY, \
     "tokens of an example; what is longer is cut. A classifier keeps it: without this option its own counts"}, \
    {"wrap", FLAG, NULL, NULL, 0, 0, \
     "the tokenizer's start and end tokens around the texts of an example (default: none); kept too"}, \
    {"no-wrap", FLAG, NULL, NULL, 0, 0, "nothing around them, whatever the classifier keeps"}
#define COMMON \
    {"threads", WHOLE, "N", "0", 0, 1024, "threads; 0: as many as processors"}, \
    {"isa", CHOICE, isas + 1, "auto", 0, 0, "instruction set"}
#define SHAPE \
    {"variant", CHOICE, variants + 1, "mha", 0, 0, "preset of the attention"}, \
    {"group-proportion", POSITIVE, "X", "1", 0, 1, "key/value heads / heads"}, \
    {"kqv-proportion", POSITIVE, "X", "1", 0, MANY, "query width / hidden size"}, \
    {"heads", WHOLE, "N", "8", 1, MANY, "query heads"}, \
    {"hidden", WHOLE, "N", "384", 1, MANY, "hidden size"}, \
    {"layers", WHOLE, "N", "2", 1, MANY, "layers: global, local, global, .."}, \
    {"ffn-base", WHOLE, "N", "1024", 1, MANY, "FFN width of full attention, from which the variant's follows"}, \
    {"window", WHOLE, "N", "256", 1, MANY, "positions that local layers see"}, \
    {"vocab", WHOLE, "N", "10000", 1, MANY, "vocabulary"}

static const option train_options[] = {
    {"data", WORDS, "PATH", NULL, 0, 0, "text with <|endoftext|> lines between documents, or a directory with train.txt"},
    {"tokenizer", WORDS, "DIR", NULL, 0, 0, "its tokenizer; without it one of --vocab entries is trained on the text"},
    {"out", WORDS, "DIR", NULL, 0, 0, "where the model and the trainer's state go"},
    {"resume", FLAG, NULL, NULL, 0, 0, "go on from --out, with the same options"},
    {"model", WORDS, "DIR", NULL, 0, 0, "start from this model"},
    IDS, ROWS, SHAPE,
    {"context", WHOLE, "N", "512", 1, MANY, "the longest sequence; documents are cut to it"},
    {"batch", WHOLE, "N", "16", 1, MANY, "documents in a batch (with --ids it is B)"},
    {"accumulate", WHOLE, "N", "1", 1, MANY, "batches in a step"},
    {"steps", WHOLE, "N", "200", 0, MANY, "steps in all, with those before --resume; 0 saves the initial model"},
    {"lr", REAL, "X", "1e-3", 0, MANY, "learning rate"},
    {"min-lr", REAL, "X", "0", 0, MANY, "learning rate where the schedule ends"},
    {"warmup", WHOLE, "N", "0", 0, MANY, "steps of linear warm-up"},
    {"schedule", CHOICE, schedules + 1, "constant", 0, 0, "decay after the warm-up"},
    {"decay-steps", WHOLE, "N", NULL, 1, MANY, "the step where the schedule ends (default --steps)"},
    {"beta1", POSITIVE, "X", "0.9", 0, 0.999999999, "of AdamW"},
    {"beta2", POSITIVE, "X", "0.999", 0, 0.999999999, "of AdamW"},
    {"eps", POSITIVE, "X", "1e-8", 0, 1, "of AdamW"},
    {"weight-decay", REAL, "X", "0.01", 0, MANY, "of AdamW"},
    {"decay-all", FLAG, NULL, NULL, 0, 0, "biases and norms decay too (with --ids they always do)"},
    {"clip", REAL, "X", "0", 0, MANY, "largest norm of the gradient; 0: any"},
    SEED,
    {"valid", WORDS, "PATH", NULL, 0, 0, "held-out text, evaluated at the end"},
    {"eval-every", WHOLE, "N", "0", 0, MANY, "evaluate every N steps too; without --valid on valid.txt of --data"},
    {"save-every", WHOLE, "N", "0", 0, MANY, "save every N steps too"},
    {"log-every", WHOLE, "N", "10", 1, MANY, "print every N steps (with --ids every step)"},
    JSON, COMMON, END
};

static const option generate_options[] = {
    {"prompt", MAYBE, "TEXT", NULL, 0, 0, "what to continue; -: standard input"},
    {"ids", LIST, "1,2,3", NULL, 1, MANY, "the prompt as ids: prints ids, needs no tokenizer"},
    {"tokens", WHOLE, "N", "100", 1, MANY, "new tokens at most"},
    {"n", WHOLE, "N", "1", 1, 65536, "samples"},
    {"greedy", FLAG, NULL, NULL, 0, 0, "always the likeliest token"},
    {"temperature", POSITIVE, "X", "1", 0, MANY, "below 1 safer, above 1 wilder"},
    {"top-k", WHOLE, "N", "0", 0, MANY, "only the N likeliest tokens; 0: all"},
    {"top-p", POSITIVE, "X", "1", 0, 1, "only the likeliest tokens that have X together"},
    {"repetition-penalty", POSITIVE, "X", "1", 0, MANY, "above 1: tokens already there become less likely"},
    {"ignore-eos", FLAG, NULL, NULL, 0, 0, "do not stop at the end token"},
    {"logprobs", FLAG, NULL, NULL, 0, 0, "with --json: the tokens' log probabilities"},
    SEED, JSON, COMMON, END
};

static const option eval_options[] = {
    {"text", WORDS, "FILE", NULL, 0, 0, "mean loss of a text's documents"},
    {"context", WHOLE, "N", NULL, 2, MANY, "cut documents to N tokens (default: the model's context)"},
    {"pairs", WORDS, "PATH", NULL, 0, 0,
     "minimal pairs as JSON lines, counted by file, linguistics_term and UID; of a directory all .json and .jsonl"},
    {"start-token", WORDS, "TOKEN", NULL, 0, 0, "before each sentence, as text or id (default: the end token)"},
    {"no-space", FLAG, NULL, NULL, 0, 0, "no space before each sentence"},
    {"limit", WHOLE, "N", "0", 0, MANY, "only the first N lines of each file of --pairs or --classify; 0: all"},
    {"classify", WORDS, "FILE", NULL, 0, 0, "a classifier's answers to a task's JSON lines, see attnvar finetune"},
    TASK,
    {"tokenizer", WORDS, "DIR", NULL, 0, 0, "another tokenizer than the model's"},
    JSON, COMMON, END
};

static const option finetune_options[] = {
    {"task", WORDS, "FILE", NULL, 0, 0, "examples to train on, as JSON lines: sentence1, sentence2, label and the like"},
    {"valid", WORDS, "FILE", NULL, 0, 0, "held-out examples (default: x.validation.json beside x.train.json)"},
    {"out", WORDS, "DIR", NULL, 0, 0, "where the best model goes; without it, it is only told of"},
    {"tokenizer", WORDS, "DIR", NULL, 0, 0, "another tokenizer than the model's"},
    TASK,
    {"epochs", WHOLE, "N", "10", 1, MANY, "at most"},
    {"batch", WHOLE, "N", "64", 1, 1000000, "examples in a batch"},
    {"accumulate", WHOLE, "N", "1", 1, 1000000, "batches in a step"},
    {"lr", REAL, "X", "5e-5", 0, MANY, "learning rate"},
    {"schedule", CHOICE, schedules + 1, "linear", 0, 0, "decay after the warm-up, over all epochs"},
    {"warmup", WHOLE, "N", "0", 0, MANY, "steps of linear warm-up"},
    {"eval-every", WHOLE, "N", "200", 0, MANY, "steps between evaluations; after the last step there is one too"},
    {"patience", WHOLE, "N", "10", 0, MANY, "end after N evaluations without improvement; 0: never"},
    {"min-improvement", REAL, "X", "0.001", 0, MANY, "less is none"},
    {"beta1", POSITIVE, "X", "0.9", 0, 0.999999999, "of AdamW"},
    {"beta2", POSITIVE, "X", "0.999", 0, 0.999999999, "of AdamW"},
    {"eps", POSITIVE, "X", "1e-8", 0, 1, "of AdamW"},
    {"weight-decay", REAL, "X", "0", 0, MANY, "of AdamW"},
    {"clip", REAL, "X", "1", 0, MANY, "largest norm of the gradient; 0: any"},
    {"seed", WHOLE, "N", "12", 0, 9007199254740992.0, "of the new head and the order"},
    JSON, COMMON, END
};

static const option logits_options[] = {
    IDS, ROWS, {"out", WORDS, "FILE", NULL, 0, 0, "raw little-endian float32, B x T x vocabulary"}, JSON, COMMON, END
};

static const option grad_options[] = {
    IDS, ROWS, {"out", WORDS, "FILE", NULL, 0, 0, "safetensors: the mean loss's gradient"}, JSON, COMMON, END
};

static const option tokenize_options[] = {
    {"decode", FLAG, NULL, NULL, 0, 0, "ids to text"},
    {"json", FLAG, NULL, NULL, 0, 0, "a JSON string a line in, a JSON array a line out; with --decode the other way"},
    COMMON, END
};

static const option inspect_options[] = {JSON, COMMON, END};

static const option convert_options[] = {
    {"out", WORDS, "DIR", NULL, 0, 0, "the new directory"},
    {"dtype", CHOICE, "f32|bf16|f16", "f32", 0, 0, "of the weights"},
    COMMON, END
};

static const option bench_options[] = {
    {"work", CHOICE, "standard|matmul|decode|train|gpt2|variants|ragged", "standard", 0, 0,
     "standard: matmul, decode, gpt2 (its 124M shape decoded) and train; variants: each against MHA in pairs of runs; "
     "ragged: training batches against padded ones"},
    SHAPE,
    {"rows", LIST, "N,N", "16,32,64,512", 1, 64, "of matrix products; from 512 on also the backward's"},
    {"batch", LIST, "N,N", "1,16,64,512", 1, 64, "sequences decoded side by side"},
    {"context", WHOLE, "N", "256", 1, MANY, "where decoding ends"},
    {"tokens", WHOLE, "N", NULL, 1, MANY, "decode only the last N positions of the context (default: all)"},
    {"every", WHOLE, "N", "0", 0, MANY, "decode at every Nth of these; 0: a run has 16384 tokens at most (variants: 4096)"},
    {"train-batch", WHOLE, "N", "16", 1, 65536, "sequences in a training step"},
    {"length", WHOLE, "N", "512", 1, MANY, "of training sequences"},
    {"repeats", WHOLE, "N", "0", 0, 100000, "times measured, of which the median is told; 0: what fits into a few seconds"},
    {"html", WORDS, "FILE", NULL, 0, 0, "a page with the picture of the results under the machine's roofs"},
    {"data", WORDS, "PATH", NULL, 0, 0, "ragged: text with <|endoftext|> lines, or a directory with train.txt"},
    {"tokenizer", WORDS, "DIR", NULL, 0, 0, "its tokenizer; without it one of --vocab entries is trained on the text"},
    JSON, COMMON, END
};

static const command commands[] = {
    {"train", NULL, "train --data PATH --out DIR [options]\n    attnvar train --ids FILE --shape B,T --out DIR [options]",
     "trains a model on text, or on raw token ids", train_options, run_train},
    {"generate", "DIR", "generate DIR --prompt TEXT [options]",
     "continues a text", generate_options, run_generate},
    {"eval", "DIR", "eval DIR --text FILE [options]\n    attnvar eval DIR --pairs FILE_OR_DIR [options]\n"
     "    attnvar eval DIR --classify FILE [options]",
     "loss of a text, accuracy on minimal pairs, or a classifier's scores", eval_options, run_eval},
    {"finetune", "DIR", "finetune DIR --task FILE [--valid FILE] [--out DIR] [options]",
     "makes a classifier of a model: the BabyLM 2023 recipe", finetune_options, run_finetune},
    {"logits", "DIR", "logits DIR --ids FILE --shape B,T --out FILE",
     "logits of raw token ids", logits_options, run_logits},
    {"grad", "DIR", "grad DIR --ids FILE --shape B,T --out FILE.safetensors",
     "loss and gradients of raw token ids", grad_options, run_grad},
    {"tokenize", "DIR", "tokenize DIR [--decode] [--json]",
     "standard input to token ids, and back", tokenize_options, run_tokenize},
    {"inspect", "DIR", "inspect DIR [--json]",
     "tells what a model directory holds", inspect_options, run_inspect},
    {"convert", "DIR", "convert DIR --out DIR [--dtype f32|bf16|f16]",
     "rewrites a model directory", convert_options, run_convert},
    {"bench", NULL, "bench [options]",
     "products, decoding and training beside the limits of the machine", bench_options, run_bench},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void show_commands(FILE *to) {
    int i;
    fprintf(to, "attnvar: attention variants, trained and measured\n\n    attnvar COMMAND [options]\n\n");
    for (i = 0; i < N_COMMANDS; i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "\n`attnvar COMMAND --help` tells the options of one, `attnvar --version` the version.\n");
}

static void log_message(void *user, atv_log_level level, const char *message) {
    (void)user;
    if (level == ATV_LOG_WARNING) fprintf(stderr, "%s: note: %s\n", program, message);
}

static int run(const command *c, int argc, char **argv) {
    atv_ctx_desc desc = {0};
    atv_result result;
    char name[64];
    args a;
    int code;
    snprintf(name, sizeof name, "attnvar %s", c->name);
    program = name;
    parse(c, argc, argv, &a);
    desc.n_threads = small(&a, "threads");
    desc.isa = (atv_isa)choice(&a, "isa");
    desc.logger.log = log_message;
    result = atv_ctx_create(&desc, &ctx);
    if (result == ATV_ERR_UNSUPPORTED) die("--isa=%s is not what this machine has", words(&a, "isa"));
    if (result != ATV_OK) die("%s", atv_result_text(result));
    code = c->run(&a);
    atv_ctx_destroy(ctx);
    if (ferror(stdout) | fflush(stdout)) die("standard output: cannot be written");
    program = "attnvar";
    return code;
}

int main(int argc, char **argv) {
    int i;
    if (argc < 2) {
        show_commands(stderr);
        return 2;
    }
    for (i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return run(&commands[i], argc - 2, argv + 2);
    if (strcmp(argv[1], "--help") == 0) show_commands(stdout);
    else if (strcmp(argv[1], "--version") == 0)
        printf("attnvar %d.%d.%d\n", ATV_VERSION_MAJOR, ATV_VERSION_MINOR, ATV_VERSION_PATCH);
    else misused("'%s' is no command; attnvar --help lists them", argv[1]);
    return 0;
}
