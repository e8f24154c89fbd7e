/* claims.h: who of many processes does a piece of work, on one machine or on many that share a folder. No server: only files
   that all of them see.

       claim mine;
       switch (claim_take(&mine, "out/runs/7/claim", 120)) {
       case 1:                             ours, until it is written or lost
       case 0:                             another has it
       default:                            the files fail: errno
       }

   Whoever is first makes the file BASE.1, which O_EXCL lets only one do (on NFS too, since version 3), and writes to it now
   and then until the work is done. When it has died, another takes the work over with BASE.2, and so on: the highest number
   has the work, and as none is ever removed, no number can be had twice. Dead is whose process is gone, where it ran on this
   machine; else whose file is older than some time, compared with a file written now. Both times come from writing: a server
   stamps what is written with its own clock, where a time that is set may be the client's (sshfs, SMB). Where clients stamp
   what they write, too (Lustre, GPFS, NFS with delegated times), their clocks must agree to well within that time.

   One that only slept, and wakes up when its work is another's, finds the next number there and must write no more. It looks
   whenever it renews its own, and when a temporary file is ready to be renamed: just then it has made a file in the same
   directory, so that no NFS client answers from memory. No two owners' temporary files have the same name. Should it fall
   asleep between that look and the rename, what it puts there late is still a whole file: works whose results are the same
   bits whoever does them lose nothing. */
#ifndef CLAIMS_H
#define CLAIMS_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct claim_path { char s[768]; } claim_path;

typedef struct claim {
    char base[640];
    int generation;                 /* 0: what is written needs no claim */
    char mark[64];                  /* in the names of temporary files */
} claim;

static claim_path claim_file(const claim *c, int generation) {
    claim_path p;
    snprintf(p.s, sizeof p.s, "%s.%d", c->base, generation);
    return p;
}

/* What a file is called until it is whole. */
static claim_path claim_temporary(const claim *c, const char *path) {
    claim_path p;
    snprintf(p.s, sizeof p.s, "%s.%s.tmp", path, c->mark);
    return p;
}

/* The place where a process id means what it means here: machines may share a name, containers all but their numbering.
   Ends in '/' where the system does not tell. Machines resumed from one snapshot need other host names. */
static claim_path claim_host(void) {
    claim_path p;
    char name[128] = "", boot[64] = "", numbering[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY);
    if (gethostname(name, sizeof name - 1) != 0) name[0] = 0;
    if (fd >= 0) {
        if (read(fd, boot, sizeof boot - 1) < 0) boot[0] = 0;
        close(fd);
    }
    if (readlink("/proc/self/ns/pid", numbering, sizeof numbering - 1) < 0) numbering[0] = 0;
    snprintf(p.s, sizeof p.s, "%s/%.*s/%s", name, (int)strcspn(boot, "\n"), boot, *boot ? numbering : "");
    return p;
}

/* None, with a mark that no other process has. */
static claim claim_none(void) {
    claim c = {"", 0, ""};
    claim_path host = claim_host();
    unsigned long hash = 5381;
    for (const char *s = host.s; *s; s++) hash = (33 * hash + (unsigned char)*s) & 0xffffffff;
    snprintf(c.mark, sizeof c.mark, "%08lx.%ld", hash, (long)getpid());
    return c;
}

static int claim_exists(const claim *c, int generation) {
    struct stat info;
    return stat(claim_file(c, generation).s, &info) == 0;
}

static int claim_owned(const claim *c) { return c->generation == 0 || !claim_exists(c, c->generation + 1); }

/* Makes an opened file as old as now: a claim's first byte once more. Where even that takes room that is not there, the time
   is set. */
static int claim_stamp(int fd) { return write(fd, claim_host().s, 1) == 1 || futimens(fd, NULL) == 0; }

/* A sign of life. 0: the claim is lost. */
static int claim_renew(const claim *c) {
    int fd;
    if (!claim_owned(c)) return 0;
    if (c->generation && (fd = open(claim_file(c, c->generation).s, O_WRONLY)) >= 0) {
        claim_stamp(fd);
        close(fd);
    }
    return 1;
}

/* 1: the owner of the highest claim may be at work; 0: it is dead; -1: the files fail. The claim is opened, since NFS then
   asks its server for the time. One that is still empty has its time alone. */
static int claim_is_alive(const claim *c, int stale) {
    char text[512], host[400];
    int fd = open(claim_file(c, c->generation).s, O_RDONLY);
    claim_path clock = claim_temporary(c, c->base), here = claim_host();
    struct stat info, now;
    ssize_t n;
    long pid;
    int bad;
    if (fd < 0) return -1;
    n = read(fd, text, sizeof text - 1);
    bad = n < 0 || fstat(fd, &info) != 0;
    close(fd);
    if (bad) return -1;
    text[n] = 0;
    if (here.s[strlen(here.s) - 1] != '/' && sscanf(text, "%399s %ld", host, &pid) == 2 && strcmp(host, here.s) == 0 &&
        kill((pid_t)pid, 0) != 0 && errno == ESRCH) return 0;
    fd = open(clock.s, O_WRONLY | O_CREAT, 0666);
    if (fd < 0) return -1;
    bad = !claim_stamp(fd) || fstat(fd, &now) != 0 ? errno : 0;
    close(fd);
    unlink(clock.s);
    if (bad == ESTALE || bad == ENOENT) return 1;                            /* a new owner has tidied up */
    errno = bad;
    return bad ? -1 : now.st_mtime - info.st_mtime <= stale;
}

/* 1: *out is ours; 0: another has it; -1: the files fail, see errno. stale: seconds without a sign of life after which an
   owner counts as dead. */
static int claim_take(claim *out, const char *base, int stale) {
    claim c = claim_none();
    char line[900];
    int fd, n;
    if (strlen(base) >= sizeof c.base) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(c.base, base);
    while (claim_exists(&c, c.generation + 1)) c.generation++;
    if (c.generation > 0) {
        int alive = claim_is_alive(&c, stale);
        if (alive) return alive < 0 ? -1 : 0;
    }
    c.generation++;
    n = snprintf(line, sizeof line, "%s %ld %ld\n", claim_host().s, (long)getpid(), (long)time(NULL));
    fd = open(claim_file(&c, c.generation).s, O_WRONLY | O_APPEND | O_CREAT | O_EXCL, 0666);
    if (fd < 0) {
        int error = errno;                                  /* sshfs says EPERM when another was first */
        if (error == EEXIST || claim_exists(&c, c.generation)) return 0;
        errno = error;
        return -1;
    }
    if (write(fd, line, (size_t)n) != n) {
        close(fd);
        return -1;
    }
    if (close(fd) != 0) return -1;
    snprintf(c.mark, sizeof c.mark, "%d", c.generation);
    *out = c;
    return 1;
}

#endif /* CLAIMS_H */
