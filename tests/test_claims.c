/* Claims: many processes at once, dead owners, sleepers. What is counted are the claims that processes say they have, which no
 * file of the claims' own tells. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* File systems and machines as they are found. */
static struct {
    int first;                      /* open: another makes the file just before, and the error is EPERM, as sshfs says it */
    int ahead;                      /* times that are set are the client's, so many seconds ahead, as with sshfs */
    int full;                       /* no room */
    int removed;                    /* fstat: another machine has removed the file */
    int untold;                     /* there is no boot id */
} odd;

static int odd_open(const char *path, int flags, ...) {
    if (odd.untold && strstr(path, "boot_id")) return errno = ENOENT, -1;
    if (odd.first && (flags & O_EXCL)) {
        close(open(path, O_WRONLY | O_CREAT, 0666));
        return errno = EPERM, -1;
    }
    return open(path, flags, 0666);
}

static ssize_t odd_write(int fd, const void *data, size_t size) {
    return odd.full ? (errno = ENOSPC, -1) : write(fd, data, size);
}

static int odd_futimens(int fd, const struct timespec times[2]) {
    struct timespec client[2];
    clock_gettime(CLOCK_REALTIME, &client[0]);
    client[0].tv_sec += odd.ahead;
    client[1] = client[0];
    return futimens(fd, times || !odd.ahead ? times : client);
}

static int odd_fstat(int fd, struct stat *info) {
    if (odd.removed && (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY) return errno = ESTALE, -1;
    return fstat(fd, info);
}

#define open odd_open
#define write odd_write
#define futimens odd_futimens
#define fstat odd_fstat
#include "../examples/claims.h"
#undef open
#undef write
#undef futimens
#undef fstat
#include <sys/wait.h>

static long passed, failed;
static int check(int ok, const char *what) {
    if (ok) passed++;
    else if (failed++ < 20) printf("FAIL %s\n", what);
    return ok;
}

enum { PROCESSES = 12, WORKS = 400, ROUNDS = 3 };

static char dir[] = "/tmp/claims-XXXXXX";

static claim_path base(int work) {
    claim_path p;
    snprintf(p.s, sizeof p.s, "%s/%d", dir, work);
    return p;
}

/* Every process takes what it can, and says of each through a pipe which generation it got. Those of a round are killed
   before the next begins, so that all claims are then dead owners', for all to take over. */
static void crowd(int round) {
    int go[2], said[2], say[2], had[WORKS] = {0}, right = 0, once = 0;
    pid_t pids[PROCESSES];
    if (pipe(go) != 0 || pipe(said) != 0) { check(0, "no pipe"); return; }
    fflush(stdout);
    for (int i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        if (pids[i] != 0) continue;
        close(go[1]);
        if (read(go[0], say, 1) != 0) _exit(1);             /* all begin when the parent closes its end */
        for (int w = 0; w < WORKS; w++) {
            claim own;
            int took = claim_take(&own, base(w).s, 1000);
            if (took < 0) _exit(1);
            if (!took) continue;
            say[0] = w;
            say[1] = own.generation;
            if (write(said[1], say, sizeof say) != (ssize_t)sizeof say || !claim_renew(&own)) _exit(1);
        }
        close(said[1]);
        for (;;) pause();                                   /* alive until all have tried */
    }
    close(go[0]);
    close(go[1]);
    close(said[1]);
    while (read(said[0], say, sizeof say) == (ssize_t)sizeof say) {
        had[say[0]]++;
        right += say[1] == round;
    }
    close(said[0]);
    for (int i = 0; i < PROCESSES; i++) kill(pids[i], SIGKILL);
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        check(waitpid(pids[i], &status, 0) == pids[i] && WIFSIGNALED(status), "a process could not claim or renew");
    }
    for (int w = 0; w < WORKS; w++) once += had[w] == 1;
    check(right == WORKS, "the claims are of the round's generation");
    if (!check(once == WORKS, "every piece of work is claimed once"))
        printf("     round %d: %d of %d were\n", round, once, WORKS);
}

static void write_claim(int work, const char *text, long age) {
    claim_path p = base(work);
    struct timespec times[2];
    FILE *f = fopen(strcat(p.s, ".1"), "w");
    if (!f) { check(0, "no file"); return; }
    fputs(text, f);
    fclose(f);
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= age;
    times[1] = times[0];
    utimensat(AT_FDCWD, p.s, times, 0);
}

/* What a claim of another says, how long ago, and whether it may be taken over after 100 seconds. */
static void judged(int work, const char *text, long age, int expected, const char *what) {
    claim own;
    write_claim(work, text, age);
    check(claim_take(&own, base(work).s, 100) == expected, what);
    if (expected) check(own.generation == 2 && claim_owned(&own), "the next generation");
}

int main(void) {
    claim_path here = claim_host(), text, long_base;
    char line[900];
    claim mine, theirs, none = claim_none();
    pid_t dead;
    char command[64];
    if (!mkdtemp(dir)) return 1;

    for (int round = 1; round <= ROUNDS; round++) crowd(round);

    dead = fork();
    if (dead == 0) _exit(0);
    waitpid(dead, NULL, 0);
    snprintf(line, sizeof line, "%s %ld 1\n", here.s, (long)dead);
    judged(1000, line, 0, 1, "a process of this machine that is gone");
    snprintf(line, sizeof line, "%s %ld 1\n", here.s, (long)getpid());
    judged(1001, line, 50, 0, "a process of this machine that is there");
    judged(1002, line, 200, 1, "one that is there, and gave no sign of life");
    snprintf(line, sizeof line, "elsewhere/x/y %ld 1\n", (long)dead);
    judged(1003, line, 50, 0, "another machine's, whose numbers say nothing here");
    judged(1004, line, 200, 1, "another machine's that gave no sign of life");
    judged(1005, "", 50, 0, "a claim whose owner has not written yet");
    judged(1006, "", 200, 1, "a claim whose owner died before it wrote");
    judged(1007, "no claim at all", 50, 0, "a file that says nothing");

    /* A sleeper: its claim is stolen while it believes to have it. */
    check(claim_take(&mine, base(2000).s, 100) == 1 && mine.generation == 1, "a first claim");
    check(claim_take(&theirs, base(2000).s, 100) == 0, "a second claim of what is had");
    check(claim_owned(&mine) && claim_renew(&mine), "the owner");
    text = claim_file(&mine, 1);
    {
        struct timespec times[2] = {{1000, 0}, {1000, 0}};
        struct stat info;
        utimensat(AT_FDCWD, text.s, times, 0);
        check(claim_renew(&mine) && stat(text.s, &info) == 0 && info.st_mtime > 1000, "a renewed claim is as new");
        utimensat(AT_FDCWD, text.s, times, 0);
        check(claim_take(&theirs, base(2000).s, 100) == 1 && theirs.generation == 2, "the sleeper's work taken over");
        check(!claim_owned(&mine) && !claim_renew(&mine), "the sleeper wakes up");
        check(stat(text.s, &info) == 0 && info.st_mtime == 1000, "the sleeper renews no more");
        check(claim_owned(&theirs) && claim_renew(&theirs), "the new owner");
    }
    check(strcmp(claim_temporary(&mine, "x").s, claim_temporary(&theirs, "x").s) != 0, "two owners' temporary files");
    check(claim_owned(&none) && claim_renew(&none), "what needs no claim");

    snprintf(line, sizeof line, "elsewhere/x/y %ld 1\n", (long)dead);
    odd.ahead = 3600;
    judged(3000, line, 50, 0, "by a machine whose clock is ahead, where times that are set are its own");
    odd.full = 1;
    check(claim_take(&mine, base(3001).s, 100) == -1 && errno == ENOSPC, "no room for a first claim");
    odd.ahead = 0;
    judged(3002, line, 50, 0, "where there is no room, a claim that is alive");
    check(claim_take(&mine, base(2000).s, 100) == 0, "where there is no room, this process's own");
    odd.full = 0;
    odd.removed = 1;
    judged(3003, line, 200, 0, "while the file that asks for the time is removed");
    odd.removed = 0;
    odd.first = 1;
    check(claim_take(&mine, base(3004).s, 100) == 0, "another was first, and the error is EPERM");
    odd.first = 0;
    odd.untold = 1;
    here = claim_host();
    snprintf(line, sizeof line, "%s %ld 1\n", here.s, (long)dead);
    judged(3005, line, 50, 0, "a process that is not here, maybe of another machine of this name");
    judged(3006, line, 200, 1, "the same, without a sign of life");
    odd.untold = 0;

    /* Files that fail. */
    memset(long_base.s, 'x', sizeof long_base.s - 1);
    long_base.s[sizeof long_base.s - 1] = 0;
    check(claim_take(&mine, long_base.s, 1) == -1 && errno == ENAMETOOLONG, "a path that is too long");
    check(claim_take(&mine, "/nowhere/at/all", 1) == -1 && errno == ENOENT, "a folder that is not there");

    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0) check(0, "the folder cannot be removed");
    printf("claims: %ld passed, %ld failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
