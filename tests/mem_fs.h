/* A file system in memory, of which operation number fail_at fails (0: none); see test_checkpoint.c and test_tokenizer.c. */
#ifndef MEM_FS_H
#define MEM_FS_H
#include <errno.h>

typedef struct mem_file { char path[128]; char *data; size_t size; } mem_file;
typedef struct mem_fs { mem_file files[48]; int n; long ops, fail_at, mapped; } mem_fs;

static int mem_find(mem_fs *fs, const char *path) {
    int i;
    for (i = 0; i < fs->n; i++) if (strcmp(fs->files[i].path, path) == 0) return i;
    return -1;
}

static void mem_put(mem_fs *fs, const char *path, const void *data, size_t size) {
    int i = mem_find(fs, path);
    if (i < 0) {
        i = fs->n++;
        if (fs->n > 48) abort();
        memset(&fs->files[i], 0, sizeof fs->files[i]);
        snprintf(fs->files[i].path, sizeof fs->files[i].path, "%s", path);
    }
    free(fs->files[i].data);
    fs->files[i].data = (char *)malloc(size + 1);
    if (size) memcpy(fs->files[i].data, data, size);
    fs->files[i].data[size] = 0;
    fs->files[i].size = size;
}

static void mem_drop(mem_fs *fs, int i) {
    free(fs->files[i].data);
    fs->files[i] = fs->files[--fs->n];
}

static void mem_clear(mem_fs *fs) {
    while (fs->n) mem_drop(fs, fs->n - 1);
}

static const mem_file *mem_get(mem_fs *fs, const char *path) {
    int i = mem_find(fs, path);
    static const mem_file none = {"", NULL, 0};
    return i < 0 ? &none : &fs->files[i];
}

static int mem_leftovers(mem_fs *fs) {
    int i, n = 0;
    for (i = 0; i < fs->n; i++) n += strstr(fs->files[i].path, ".tmp") != NULL;
    return n;
}

/* The one that fails says that the disk is full; what the others leave is no reason. */
static int mem_fails(mem_fs *fs) {
    const int fails = ++fs->ops == fs->fail_at;
    errno = fails ? ENOSPC : EBADF;
    return fails;
}

static int mem_map(void *user, const char *path, const void **data, size_t *size) {
    mem_fs *fs = (mem_fs *)user;
    int i = mem_find(fs, path);
    char *copy;
    if (i < 0) return 1;
    copy = (char *)malloc(fs->files[i].size + !fs->files[i].size);     /* exactly, so that a sanitizer sees a step beyond */
    memcpy(copy, fs->files[i].data, fs->files[i].size);
    *data = copy;
    *size = fs->files[i].size;
    fs->mapped++;
    return 0;
}

static void mem_unmap(void *user, const void *data, size_t size) {
    (void)size;
    ((mem_fs *)user)->mapped--;
    free((void *)(uintptr_t)data);
}

static int mem_create(void *user, const char *path, void **file) {
    mem_fs *fs = (mem_fs *)user;
    if (mem_fails(fs) || strncmp(path, "nowhere", 7) == 0) return 1;
    mem_put(fs, path, "", 0);
    *file = strcpy((char *)malloc(strlen(path) + 1), path);
    return 0;
}

static int mem_write(void *user, void *file, const void *data, size_t size) {
    mem_fs *fs = (mem_fs *)user;
    int bad = mem_fails(fs), i = mem_find(fs, (const char *)file);
    size_t n = bad ? size / 2 : size, old = fs->files[i].size;         /* a full disk takes a part */
    char *joined = (char *)malloc(old + n + 1);
    memcpy(joined, fs->files[i].data, old);
    memcpy(joined + old, data, n);
    mem_put(fs, (const char *)file, joined, old + n);
    free(joined);
    return bad;
}

static int mem_close(void *user, void *file, int flush) {
    free(file);
    return mem_fails((mem_fs *)user) && flush;
}

static int mem_rename(void *user, const char *from, const char *to) {
    mem_fs *fs = (mem_fs *)user;
    int i = mem_find(fs, from);
    if (mem_fails(fs) || i < 0) return 1;
    mem_put(fs, to, fs->files[i].data, fs->files[i].size);
    mem_drop(fs, mem_find(fs, from));
    return 0;
}

static int mem_remove(void *user, const char *path) {
    mem_fs *fs = (mem_fs *)user;
    int i = mem_find(fs, path);
    if (i < 0) return 1;
    mem_drop(fs, i);
    return 0;
}

/* The context's files are those of fs. */
static void mem_io(mem_fs *fs, atv_ctx_desc *desc) {
    desc->io.user = fs;
    desc->io.map = mem_map;
    desc->io.unmap = mem_unmap;
    desc->io.create = mem_create;
    desc->io.write = mem_write;
    desc->io.close = mem_close;
    desc->io.rename = mem_rename;
    desc->io.remove = mem_remove;
}

#endif
