/* A preloaded library that makes the n-th call of chosen kinds fail, if it comes from chosen code.
 *
 * Owns: stand-ins for the functions of the C library that the core (and posix_ipc) call, and the
 * state that says which call fails, how, and whether all later ones fail too. A call counts only if
 * its return address lies in one of two ranges, which the test takes from the process's map: so
 * the interpreter's own calls are never touched. The futex is reached through syscall(2)'s wrapper.
 *
 * The counters lie in memory that fork children share, so that a failure in a child is counted.
 * EINTR of a close still closes, as Linux does. Besides, the wall clock of the chosen code can be
 * set ahead or back. In a process that only writes its counters of coverage any more nothing fails:
 * the profiler's code lies in the same ranges. Does not: know what is tested. Needs glibc. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

enum kind {
    MEMORY,
    OPEN,
    STAT,
    TRUNCATE,
    ALLOCATE,
    MAP,
    ADVISE,
    LOCK,
    READ,
    FUTEX,
    CLOSE,
    UNLINK,
    ASK,
    KINDS
};

struct state {
    uint64_t low[2], high[2];
    uint64_t kinds; /* bit k: kind k counts */
    uint64_t nth;   /* 0 = nothing fails */
    uint64_t forever;
    uint64_t error;
    uint64_t seen, failed;
    int64_t wall; /* seconds that the wall clock is ahead, for the chosen code */
};
static struct state *state;
int failing_over; /* of this process: nothing fails any more */

/* Where the counters are; the test writes them all. */
struct state *failing_state(void) {
    if (state == NULL) {
        void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        state = p == MAP_FAILED ? NULL : p;
    }
    return state;
}

static int chosen(const struct state *s, const void *caller) {
    uint64_t at = (uint64_t)(uintptr_t)caller;
    return (at >= s->low[0] && at < s->high[0]) || (at >= s->low[1] && at < s->high[1]);
}

static int fails(enum kind kind, const void *caller) {
    struct state *s = state;
    if (s == NULL || failing_over || s->nth == 0 || !(s->kinds >> kind & 1) || !chosen(s, caller))
        return 0;
    uint64_t n = __atomic_add_fetch(&s->seen, 1, __ATOMIC_RELAXED);
    if (n != s->nth && !(s->forever && n > s->nth))
        return 0;
    (void)__atomic_add_fetch(&s->failed, 1, __ATOMIC_RELAXED);
    errno = (int)s->error;
    return 1;
}
#define FAILS(kind)  fails(kind, __builtin_return_address(0))
#define REAL(f)      ((__typeof__(&f))real(#f))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* ---- memory ------------------------------------------------------------------------------- */

void *malloc(size_t n) { return FAILS(MEMORY) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t of) { return FAILS(MEMORY) ? NULL : __libc_calloc(n, of); }
void *realloc(void *p, size_t n) { return FAILS(MEMORY) ? NULL : __libc_realloc(p, n); }
char *strdup(const char *text) {
    size_t n = strlen(text) + 1;
    char *p = FAILS(MEMORY) ? NULL : __libc_malloc(n);
    return p == NULL ? NULL : memcpy(p, text, n);
}
void *mmap(void *p, size_t n, int rights, int flags, int fd, off_t at) {
    return FAILS(MAP) ? MAP_FAILED : REAL(mmap)(p, n, rights, flags, fd, at);
}
void *mmap64(void *p, size_t n, int rights, int flags, int fd, off_t at) {
    return FAILS(MAP) ? MAP_FAILED : REAL(mmap64)(p, n, rights, flags, fd, at);
}
int madvise(void *p, size_t n, int what) { return FAILS(ADVISE) ? -1 : REAL(madvise)(p, n, what); }

/* ---- files -------------------------------------------------------------------------------- */

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return FAILS(OPEN) ? -1 : REAL(open)(path, flags, mode);
}
FILE *fopen(const char *path, const char *how) {
    return FAILS(OPEN) ? NULL : REAL(fopen)(path, how);
}
int shm_open(const char *name, int flags, mode_t mode);
int shm_open(const char *name, int flags, mode_t mode) {
    return FAILS(OPEN) ? -1 : REAL(shm_open)(name, flags, mode);
}
int shm_unlink(const char *name);
int shm_unlink(const char *name) { return FAILS(UNLINK) ? -1 : REAL(shm_unlink)(name); }
int fstat(int fd, struct stat *st) { return FAILS(STAT) ? -1 : REAL(fstat)(fd, st); }
int stat(const char *path, struct stat *st) { return FAILS(STAT) ? -1 : REAL(stat)(path, st); }
int ftruncate(int fd, off_t n) { return FAILS(TRUNCATE) ? -1 : REAL(ftruncate)(fd, n); }
int posix_fallocate(int fd, off_t from, off_t n) {
    return FAILS(ALLOCATE) ? (int)state->error : REAL(posix_fallocate)(fd, from, n);
}
int fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *arg = va_arg(more, void *);
    va_end(more);
    return FAILS(LOCK) ? -1 : REAL(fcntl)(fd, command, arg);
}
ssize_t pread(int fd, void *to, size_t n, off_t at) {
    if (!FAILS(READ))
        return REAL(pread)(fd, to, n, at);
    return errno == 0 ? REAL(pread)(fd, to, n / 2, at) : -1; /* no error: short */
}
int close(int fd) {
    int fail = FAILS(CLOSE), error = errno, r = REAL(close)(fd);
    if (fail)
        errno = error;
    return fail ? -1 : r;
}

/* ---- the rest ----------------------------------------------------------------------------- */

long syscall(long number, ...) {
    va_list more;
    va_start(more, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(more, long);
    va_end(more);
    if (number == SYS_futex && FAILS(FUTEX))
        return -1;
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
int clock_gettime(clockid_t id, struct timespec *t) {
    int r = REAL(clock_gettime)(id, t);
    if (r == 0 && id == CLOCK_REALTIME && state != NULL && state->wall != 0 &&
        chosen(state, __builtin_return_address(0)))
        t->tv_sec += state->wall;
    return r;
}
long sysconf(int name) { return FAILS(ASK) ? -1 : REAL(sysconf)(name); }
