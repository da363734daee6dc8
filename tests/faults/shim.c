/* Between a process and its disk and clock: loaded by LD_PRELOAD, told what to do by a mapped file that
 * tests/faults/shim.py writes. The Nth write, sync, rename, opening, removal or truncation of a file below FAULTS_HOME fails with
 * an errno, is cut short, or is the last thing that the process does. Wall-clock time is moved by an offset. With
 * `keep` on, what was synced is copied aside: what a power cut would leave.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, OPEN = 8, REMOVE = 16, TRUNCATE = 32 };
enum { COUNT, FAIL, KILL_BEFORE, KILL_AFTER, TEAR, SHORTEN };

struct control {
    int32_t armed, ops, action, error, times, pid, keep, last_op;
    int64_t at, seen, injected, offset_ms;
    char has[64];
    char last[256];
};

static struct control *control;
static char home[256], aside[256];
static size_t home_length;

/* The C library's own, looked up at the first call. */
#define REAL(name)                                                                                                     \
    ({                                                                                                                 \
        static __typeof__(&name) found;                                                                                \
        if (!found) found = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                \
        found;                                                                                                         \
    })

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL"), *where = getenv("FAULTS_HOME"), *copies = getenv("FAULTS_ASIDE");
    if (!path || !where) return;
    snprintf(home, sizeof home, "%s", where);
    home_length = strlen(home);
    if (copies) snprintf(aside, sizeof aside, "%s", copies);
    int file = REAL(open)(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED) control = at;
}

static int is_ours(const char *path) {
    return !strncmp(path, home, home_length) && (path[home_length] == '/' || !path[home_length]);
}

/* What to do at this call: COUNT means nothing. */
static int asked(int op, const char *path) {
    if (!control || !control->armed || !(control->ops & op) || !is_ours(path)) return COUNT;
    if (control->pid && control->pid != getpid()) return COUNT;
    if (control->has[0] && !strstr(path + home_length, control->has)) return COUNT;
    int64_t number = __atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (number < control->at || control->action == COUNT) return COUNT;
    if (control->times >= 0 && number >= control->at + control->times) return COUNT;
    __atomic_add_fetch(&control->injected, 1, __ATOMIC_SEQ_CST);
    control->last_op = op;
    strncpy(control->last, path + home_length, sizeof control->last - 1);
    if (control->action == KILL_BEFORE) kill(getpid(), SIGKILL);
    return control->action;
}

static int of_descriptor(int op, int file, char *path, size_t size) {
    if (!control || (!control->armed && !control->keep)) return COUNT;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return path[0] = 0, COUNT;
    path[length] = 0;
    return asked(op, path);
}

static int of_path(int op, int folder, const char *name) {
    char path[512], base[256];
    if (!control || !control->armed) return COUNT;
    if (name[0] == '/') return asked(op, name);
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return COUNT;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return COUNT;
        base[length] = 0;
    }
    snprintf(path, sizeof path, "%s/%s", base, name);
    return asked(op, path);
}

static void end_if(int action) {
    if (action == KILL_AFTER) kill(getpid(), SIGKILL);
}

/* The file as it is now is what a power cut leaves of it. */
static void keep(const char *path) {
    if (!control || !control->keep || !aside[0] || !is_ours(path)) return;
    char copy[768], fresh[800], piece[65536];
    size_t length = snprintf(copy, sizeof copy, "%s/", aside);
    for (const char *at = path + home_length + 1; *at && length < sizeof copy - 1; at++)
        copy[length++] = *at == '/' ? '%' : *at;
    copy[length] = 0;
    snprintf(fresh, sizeof fresh, "%s.%d", copy, (int)gettid());
    int from = REAL(open)(path, O_RDONLY | O_CLOEXEC);
    if (from < 0) return;
    int to = REAL(open)(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t got;
    off_t where = 0;
    while (to >= 0 && (got = pread(from, piece, sizeof piece, where)) > 0) {
        if (REAL(write)(to, piece, got) != got) break;
        where += got;
    }
    close(from);
    if (to >= 0) {
        close(to);
        REAL(rename)(fresh, copy);
    }
}

/* --- writes */

#define WRITTEN(size, all, part)                                                                                      \
    char path[512];                                                                                                    \
    int action = of_descriptor(WRITE, file, path, sizeof path);                                                        \
    if (action == FAIL) return errno = control->error, -1;                                                             \
    if ((action == TEAR || action == SHORTEN) && (size) > 1) {                                                         \
        ssize_t done = part;                                                                                           \
        if (action == TEAR) kill(getpid(), SIGKILL);                                                                   \
        return done;                                                                                                   \
    }                                                                                                                  \
    ssize_t done = all;                                                                                                \
    if (action == TEAR) kill(getpid(), SIGKILL);                                                                       \
    end_if(action);                                                                                                    \
    return done;

ssize_t write(int file, const void *data, size_t size) {
    WRITTEN(size, REAL(write)(file, data, size), REAL(write)(file, data, size / 2))
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    WRITTEN(size, REAL(pwrite)(file, data, size, at), REAL(pwrite)(file, data, size / 2, at))
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    WRITTEN(size, REAL(pwrite64)(file, data, size, at), REAL(pwrite64)(file, data, size / 2, at))
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    WRITTEN(count, REAL(writev)(file, pieces, count), REAL(writev)(file, pieces, count / 2))
}

/* --- syncs */

#define SYNCED(call)                                                                                                   \
    char path[512] = "";                                                                                               \
    int action = of_descriptor(SYNC, file, path, sizeof path);                                                         \
    if (action == FAIL) return errno = control->error, -1;                                                             \
    int done = call;                                                                                                   \
    if (!done) keep(path);                                                                                             \
    end_if(action);                                                                                                    \
    return done;

int fsync(int file) { SYNCED(REAL(fsync)(file)) }

int fdatasync(int file) { SYNCED(REAL(fdatasync)(file)) }

int ftruncate(int file, off_t size) {
    char path[512];
    int action = of_descriptor(TRUNCATE, file, path, sizeof path);
    if (action == FAIL) return errno = control->error, -1;
    int done = REAL(ftruncate)(file, size);
    end_if(action);
    return done;
}

int ftruncate64(int file, off64_t size) {
    char path[512];
    int action = of_descriptor(TRUNCATE, file, path, sizeof path);
    if (action == FAIL) return errno = control->error, -1;
    int done = REAL(ftruncate64)(file, size);
    end_if(action);
    return done;
}

/* --- names */

#define NAMED(op, folder, name, call)                                                                                  \
    int action = of_path(op, folder, name);                                                                            \
    if (action == FAIL) return errno = control->error, -1;                                                             \
    int done = call;                                                                                                   \
    end_if(action);                                                                                                    \
    return done;

int rename(const char *from, const char *to) { NAMED(RENAME, AT_FDCWD, to, REAL(rename)(from, to)) }

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    NAMED(RENAME, to_folder, to, REAL(renameat)(from_folder, from, to_folder, to))
}

int unlink(const char *name) { NAMED(REMOVE, AT_FDCWD, name, REAL(unlink)(name)) }

int unlinkat(int folder, const char *name, int flags) {
    NAMED(REMOVE, folder, name, REAL(unlinkat)(folder, name, flags))
}

int mkdir(const char *name, mode_t mode) { NAMED(OPEN, AT_FDCWD, name, REAL(mkdir)(name, mode)) }

#define OPENED(folder, name, call)                                                                                     \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                               \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode = va_arg(more, mode_t);                                                                                   \
        va_end(more);                                                                                                  \
    }                                                                                                                  \
    int action = (flags & (O_WRONLY | O_RDWR | O_CREAT)) ? of_path(OPEN, folder, name) : COUNT;                        \
    if (action == FAIL) return errno = control->error, -1;                                                             \
    int done = call;                                                                                                   \
    end_if(action);                                                                                                    \
    return done;

int open(const char *name, int flags, ...) { OPENED(AT_FDCWD, name, REAL(open)(name, flags, mode)) }

int open64(const char *name, int flags, ...) { OPENED(AT_FDCWD, name, REAL(open64)(name, flags, mode)) }

int openat(int folder, const char *name, int flags, ...) { OPENED(folder, name, REAL(openat)(folder, name, flags, mode)) }

int openat64(int folder, const char *name, int flags, ...) {
    OPENED(folder, name, REAL(openat64)(folder, name, flags, mode))
}

/* --- the wall clock */

int clock_gettime(clockid_t which, struct timespec *at) {
    int done = REAL(clock_gettime)(which, at);
    if (!done && control && control->offset_ms && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t ns = at->tv_nsec + control->offset_ms % 1000 * 1000000;
        at->tv_sec += control->offset_ms / 1000 + (ns < 0 ? -1 : ns / 1000000000);
        at->tv_nsec = (ns + 1000000000) % 1000000000;
    }
    return done;
}

int gettimeofday(struct timeval *at, void *zone) {
    int done = REAL(gettimeofday)(at, zone);
    if (!done && control && control->offset_ms) at->tv_sec += control->offset_ms / 1000;
    return done;
}

time_t time(time_t *at) {
    time_t now = REAL(time)(NULL);
    if (control) now += control->offset_ms / 1000;
    if (at) *at = now;
    return now;
}
