/* The laboratory's runs (examples/lab.h), on models of the least size: what is asked of a trained model trains nothing anew,
 * what a run needs is checked before any training, and what it finds damaged or computed elsewhere is told. Each lab is a
 * process of its own, since errors end it. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A process may die as soon as its first checkpoint is there. */
static int dies;
static int test_rename(const char *from, const char *to) {
    int bad = rename(from, to);
    if (dies && strstr(to, "trainer.safetensors")) _exit(9);
    return bad;
}
#define rename test_rename
#ifndef ATV_NO_SIMD
#  define ATV_NO_SIMD                   /* the instruction set is scalar */
#endif
#include "../examples/lab.h"
#include <glob.h>
#include <sys/wait.h>

static long passed, failed;
static int check(int ok, const char *what) {
    if (ok) passed++;
    else if (failed++ < 20) printf("FAIL %s\n", what);
    return ok;
}

static char dir[] = "/tmp/lab-XXXXXX";
static lab_text said;                   /* by the last lab, on both streams */

static const lab_scale tiny = {
    "tiny", 320, 8, 16, 128, 16, 6, 0, 4, 1, 6e-3, .05, 24, 6, 4, 2, 3, 12, 1, 0, 32, {1, 1}, 1};
static const lab_variant mha = {ATV_MHA, 2, 1, 1, 0, 0, 0, 0, 0};

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0) check(0, path);
}

/* Runs a lab in dir/OUT with the environment's NAME=value, .., NULL. Returns its exit code, and what it said. */
static int lab(const char *out, const char *const *environment) {
    lab_path log = lab_pathf("%s/log", dir);
    int status = -1;
    pid_t child;
    fflush(stdout);
    child = fork();
    if (child == 0) {
        char *argv[] = {"test", NULL};
        lab_state *l;
        lab_row row;
        if (!freopen(log.s, "w", stdout) || dup2(1, 2) < 0) _exit(8);
        for (size_t i = 0; i < sizeof lab_variables / sizeof *lab_variables; i++) unsetenv(lab_variables[i].name);
        setenv("OUT", lab_pathf("%s/%s", dir, out).s, 1);
        setenv("THREADS", "1", 1);
        for (; *environment; environment++) {
            lab_path name = lab_pathf("%.*s", (int)strcspn(*environment, "="), *environment);
            setenv(name.s, *environment + strlen(name.s) + 1, 1);
        }
        l = lab_open("test", "nothing", 1, argv);
        l->scale = &tiny;
        lab_finish(l, &mha, 1, &row);
        lab_close(l, &row, 1);
        exit(0);
    }
    waitpid(child, &status, 0);
    free(said.data);
    if (!lab_read(log.s, 0, &said)) check(0, "a lab said nothing");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#define LAB(out, ...) lab(out, (const char *const[]){__VA_ARGS__, NULL})

static int says(const char *text) {
    int found = strstr(said.data, text) != NULL;
    if (!found) printf("     no \"%s\" in:\n%s", text, said.data);
    return found;
}

static int count(const char *pattern) {
    glob_t found;
    int n = glob(lab_pathf("%s/%s", dir, pattern).s, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
    globfree(&found);
    return n;
}

/* The first file that a pattern finds. */
static lab_path first(const char *pattern) {
    glob_t found;
    lab_path p = lab_pathf("%s/%s", dir, pattern);
    if (glob(p.s, 0, NULL, &found) == 0) p = lab_pathf("%s", found.gl_pathv[0]);
    globfree(&found);
    return p;
}

static lab_text text_of(const char *path) {
    lab_text text;
    if (!check(lab_read(path, 0, &text), path)) lab_add(&text, "", 0);
    return text;
}

/* No model was written again: who writes one renames a new file over it. */
static uint64_t models(const char *out) {
    uint64_t hash = LAB_HASH;
    glob_t found;
    if (glob(lab_pathf("%s/%s/runs/*/model.safetensors", dir, out).s, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) {
            struct stat info;
            if (stat(found.gl_pathv[i], &info) != 0) continue;
            hash = lab_hash(hash, &info.st_ino, sizeof info.st_ino);
            hash = lab_hash(hash, &info.st_mtim, sizeof info.st_mtim);
        }
    globfree(&found);
    return hash;
}

/* Six pairs, of which the fifth is what is given; the tiny scale takes the first, third and fifth. */
static void write_pairs(const char *name, const char *fifth) {
    lab_text text = {0};
    for (int i = 0; i < 5; i++) {
        lab_print(&text, "\n%s\n", i == 3 ? fifth :
                  "{\"sentence_good\": \"They see it.\", \"sentence_bad\": \"They sees it.\"}");
        if (i == 1) lab_print(&text, "{\"sentence_good\": \"We run.\", \"sentence_bad\": \"We runs.\"}\n");
    }
    mkdir(lab_pathf("%s/%s", dir, name).s, 0777);
    write_file(lab_pathf("%s/%s/agreement.json", dir, name).s, text.data);
    free(text.data);
}

/* Both parts of a task, of so many labels and the validation file's own field. */
static void write_task(const char *name, int n_labels, const char *field) {
    mkdir(lab_pathf("%s/%s", dir, name).s, 0777);
    for (int part = 0; part < 2; part++) {
        lab_text text = {0};
        for (int i = 0; i < 8; i++) lab_print(&text, "{\"%s\": \"The cat saw %d dogs.\", \"label\": %d}\n",
                                              part ? field : "sentence", i, i % n_labels);
        write_file(lab_pathf("%s/%s/odd.%s.json", dir, name, part ? "validation" : "train").s, text.data);
        free(text.data);
    }
}

int main(void) {
    lab_path pairs[3], glue[3];
    lab_text text, other;
    uint64_t before;
    if (!mkdtemp(dir)) return 1;
    for (int i = 0; i < 3; i++) pairs[i] = lab_pathf("PAIRS=%s/pairs%d", dir, i);
    for (int i = 0; i < 3; i++) glue[i] = lab_pathf("GLUE=%s/glue%d", dir, i);
    write_pairs("pairs0", "{\"sentence_good\": \"It is so.\", \"sentence_bad\": \"It are so.\"}");
    write_pairs("pairs1", "{\"sentence_good\": \"It is so.\", \"sentence_bad\": 3}");
    write_pairs("pairs2", "{\"sentence_good\": \"I am.\", \"sentence_bad\": \"I are.\"}");
    write_task("glue0", 2, "sentence");
    write_task("glue1", 2, "text");
    write_task("glue2", 1, "sentence");
    (void)lab_measure; (void)lab_table; (void)lab_reading; (void)lab_save;         /* which the programs use */

    /* Questions to trained models. */
    check(LAB("out", "WORK=train") == 0 && count("out/runs/*") == 3 && count("out/runs/*/pairs-*.json") == 3, "three runs");
    before = models("out");
    check(LAB("out", "WORK=train", pairs[0].s, glue[0].s) == 0 && says("3 finished already, 0 to go on with, 0 to begin"),
          "pairs and tasks for models that are there");
    check(models("out") == before && count("out/runs/*") == 3, "they trained nothing anew");
    check(count("out/runs/*/pairs-*.json") == 6 && count("out/runs/*/glue-odd-*.json") == 3, "their results");
    check(count("out/runs/*/claim.1") == 3 && count("out/runs/*/pairs-*.claim.1") == 6 &&
          count("out/runs/*/glue-odd-*.claim.1") == 3 && count("out/runs/*/*claim.2") == 0, "their claims");
    check(LAB("out", "WORK=plan", pairs[0].s, glue[0].s) == 0 && says("plan test:timing") && !strstr(said.data, ".json"),
          "nothing is left to do");
    check(LAB("both", "WORK=train", pairs[0].s, glue[0].s) == 0, "all at once");
    text = text_of(first("both/runs/*/pairs-*.json").s);
    check(count(lab_pathf("out/runs/*/%s", strrchr(first("both/runs/*/pairs-*.json").s, '/') + 1).s) == 3, "one name");
    other = text_of(first(lab_pathf("out/runs/*/%s", strrchr(first("both/runs/*/pairs-*.json").s, '/') + 1).s).s);
    check(text.size == other.size && memcmp(text.data, other.data, text.size) == 0, "pairs judged later");
    free(text.data);
    free(other.data);
    check(LAB("out", pairs[0].s, glue[0].s) == 0 && !strstr(said.data, "differ by rounding"), "all is read again");

    /* One seed more, and one alone. */
    check(LAB("both", "SEEDS=4") == 0 && says("4: 3 finished already, 0 to go on with, 1 to begin"), "a fourth seed");
    check(count("both/runs/*") == 4 && count("both/runs/*/result.json") == 4, "four runs");
    check(LAB("both", "SEEDS=1") == 0 && says("1: 1 finished already"), "one seed");

    /* What is wrong with files, before any training. */
    check(LAB("none", pairs[1].s) == 1 && says("pairs1/agreement.json: line 9: not a string: sentence_bad"), "a bad pair");
    write_file(lab_pathf("%s/pairs1/empty.json", dir).s, "\n \n");
    check(LAB("none", pairs[1].s) == 1 && says("pairs1/empty.json: has no pairs"), "a file without pairs");
    check(LAB("none", "PAIRS=/nowhere/at/all") == 1 && says("PAIRS=/nowhere/at/all: cannot be read"), "no pairs");
    check(LAB("none", glue[1].s) == 1 && says("glue1/odd.train.json has the fields sentence, ") &&
          says("glue1/odd.validation.json text"), "another task's validation file");
    check(LAB("none", glue[2].s) == 1 && says("glue2/odd.train.json: all labels are 0"), "a task of a single label");
    check(LAB("none", "GLUE=/nowhere/at/all") == 1 && says("GLUE=/nowhere/at/all: cannot be read"), "no tasks");
    check(LAB("none", "DATA=/nowhere/at/all") == 1 && says("/nowhere/at/all: cannot be read"), "no text");
    check(count("none/runs/*") == 0, "nothing was trained for them");
    check(LAB("none", "ISA=fast") == 1 && says("ISA=fast: must be auto, scalar, avx2, avx512 or neon"), "a made-up ISA");
    check(LAB("none", "ISA=neon") == 1 && says("ISA=neon: this machine lacks it"), "an ISA that was not compiled");
    check(LAB("none", "THREADS=abc") == 1 && says("THREADS=abc: must be 0 to 1024"), "threads");
    check(LAB("none", "SEEDS=33") == 1 && says("SEEDS=33: must be 1 to 32"), "seeds");
    check(LAB("none", "STALE=0") == 1 && says("STALE=0: must be 1 to 1000000 seconds"), "seconds");

    /* A damaged model. */
    check(truncate(first("out/runs/*/model.safetensors").s, 1000) == 0 && LAB("out", "WORK=train", pairs[2].s) == 1 &&
          says("model.safetensors") && says("delete the directory ") && says(first("out/runs/*").s), "a damaged model");

    /* A run begun with another instruction set. */
    dies = 1;
    check(LAB("isa", "WORK=train") == 9 && count("isa/runs/*/trainer.safetensors") == 1, "one dies at a checkpoint");
    dies = 0;
    text = text_of(first("isa/runs/*/settings.json").s);
    check(strstr(text.data, "\"isa\": \"scalar\"") != NULL, "settings.json tells the instruction set");
    if (strstr(text.data, "\"scalar\"")) memcpy(strstr(text.data, "\"scalar\""), "\"vector\"", 8);
    write_file(first("isa/runs/*/settings.json").s, text.data);
    free(text.data);
    check(LAB("isa", pairs[0].s) == 0 && says("seed 1: begun with vector, goes on with scalar"), "who trains is told");
    check(says("results were computed with vector scalar"), "who sums up is told");
    text = text_of(first("isa/runs/*-s1/result.json").s);
    check(strstr(text.data, "\"isa\": \"vector scalar\"") != NULL, "result.json tells both");
    free(text.data);

    if (system(lab_pathf("rm -rf %s", dir).s) != 0) check(0, "the directory cannot be removed");
    free(said.data);
    printf("lab: %ld passed, %ld failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
