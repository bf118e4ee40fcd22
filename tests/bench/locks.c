/* Benchmark of the two kinds of lock that could stand in a stripe.
 *
 *   word    one 32-bit futex word {waiters:1, number:31}. Take: CAS from 0 to the taker's number.
 *           Give: exchange to 0, and a wake if the waiters bit was set. A waiter spins a little,
 *           sets the bit, sleeps with a time limit that doubles up to a cap. At each time-out it
 *           asks whether the owner's row still bears the number and its byte of the segment file
 *           is still held; if not, it takes over by CAS(word seen -> own number).
 *   robust  pthread mutex, process-shared and robust: EOWNERDEAD, then pthread_mutex_consistent.
 *   none    no lock, the same work: the ceiling of the others.
 *
 * One call is one measurement: `locks WORK key=value ...` prints one JSON object. locks.py
 * interleaves the calls, so that all kinds see the same weather. Works:
 *
 *   single  take + give of a free lock, one process: ns.
 *   calibrate  the number of steps of work that last 100 ns on this machine: pass it to load.
 *   load    `procs` processes over `stripes` stripes, keys zipf 0.99 over 10,000; `writes` percent
 *           of the operations hold the lock for `steps` of work, the rest read as the store does:
 *           version, the same work, version unchanged. Operations per second, CPUs used.
 *   kill    SIGKILL of the holder: time until the waiter has the lock. phase=after: it comes when
 *           the holder is dead; fresh: 0-200 us before the kill; aged: 0-15 ms before. child=closed
 *           or kept: a forked child of the holder lives on and has closed or kept its descriptor;
 *           `busy` counts waits that met the limit of 60 ms first (latency: from the child's end).
 *   stopped CPU time a waiter spends per second while the holder is stopped, in ms.
 *
 * Load proves mutual exclusion (plain counters under the locks equal the writes), every give proves
 * that the lock was still the giver's, every kill must end in a recovery; else the benchmark says
 * so and ends with status 1. It folds no rows and has no store. It leaves nothing behind: the
 * segment loses its name before it is used, children end with their parent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STRIPES = 256, ROWS = 128, KEYS = 10000, PICKS = 1 << 14, PROCS = 64 };
enum kind { WORD, ROBUST, NONE };
enum outcome { TAKEN, RECOVERED, BUSY };
enum phase { FRESH, AGED, AFTER };
enum child { ALONE, CLOSED, KEPT };

#define WAITERS 0x80000000u
#define ROW_BASE ((off_t)1 << 40) /* lock bytes lie far beyond the end of the file */
#define MS UINT64_C(1000000)
#define NS UINT64_C(1000000000)
#define LIMIT_NS (5 * NS) /* of an operation */

struct stripe { /* one cache line, as in the store: lock and version together */
    _Alignas(64) union {
        _Atomic uint32_t word;
        pthread_mutex_t mutex;
    } lock;
    _Atomic uint64_t ver;
    uint64_t changes; /* plain on purpose: only the lock keeps it right */
};
_Static_assert(sizeof(struct stripe) == 64, "lock, version and counter share one line");

struct result { /* one line per worker, written by it alone */
    _Alignas(64) uint64_t ops;
    uint64_t writes, sleeps, cpu_us;
};

struct shared {
    struct stripe stripes[STRIPES];
    _Alignas(64) _Atomic uint32_t numbers[ROWS]; /* the row's owner, written under its byte */
    _Alignas(64) _Atomic uint32_t next_number;
    _Alignas(64) _Atomic uint32_t ready, go, stop;      /* load */
    _Alignas(64) _Atomic uint32_t held, order, done;    /* kill: steps told by event_tell */
    uint64_t limit_ns, began_ns, had_ns;                /* of the waiter's present wait */
    uint32_t outcome;
    pid_t grandchild;
    struct result results[PROCS];
};

struct attachment {
    uint32_t number;
    int row_fd;   /* holds the row's byte; never mapped, O_CLOEXEC */
    int probe_fd; /* another descriptor: asks about bytes, the own process's included */
    uint64_t sleeps;
};

static struct {
    long kind, spin, first_us, cap_us, ask; /* ask: one question after the spin, before any sleep */
    long procs, ms, writes, stripes, steps; /* steps: length of the section, as calibrated */
    long kills, phase, child, ballast_mib; /* ballast: private memory of the holder */
} opt = {.first_us = 1000, .cap_us = 10000, .procs = 2, .ms = 100, .writes = 10, .stripes = STRIPES,
         .steps = 80, .kills = 300};
static struct shared *seg;
static int seg_fd;

/* ---- helpers ---- */

static void die(const char *what) {
    (void)fprintf(stderr, "locks: %s\n", what);
    _exit(1);
}

static void need(bool good, const char *what) {
    if (good) return;
    perror(what);
    _exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static struct timespec to_timespec(uint64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / NS), .tv_nsec = (long)(ns % NS)};
}

static void sleep_ns(uint64_t ns) {
    struct timespec pause = to_timespec(ns);
    nanosleep(&pause, NULL);
}

static void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/* Shared words, so not FUTEX_PRIVATE. False: the limit passed. */
static bool futex_wait(_Atomic uint32_t *word, uint32_t seen, uint64_t limit_ns) {
    struct timespec limit = to_timespec(limit_ns);
    return syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0) == 0 || errno != ETIMEDOUT;
}

static void futex_wake(_Atomic uint32_t *word, int how_many) {
    syscall(SYS_futex, word, FUTEX_WAKE, how_many, NULL, NULL, 0);
}

static void event_tell(_Atomic uint32_t *event) {
    atomic_fetch_add(event, 1);
    futex_wake(event, INT_MAX);
}

static void event_await(_Atomic uint32_t *event, uint32_t count) {
    uint64_t end_ns = now_ns() + 20 * NS;
    for (uint32_t seen; (seen = atomic_load(event)) < count;) {
        if (now_ns() > end_ns) die("a step of another process did not come");
        (void)futex_wait(event, seen, NS);
    }
}

/* Time without memory: dependent multiplications. The seed is what was read under the lock, and
 * each call goes on from the last; else the CPU would run several operations side by side. */
static void work_chain(uint64_t steps, uint64_t seed) {
    static uint64_t last;
    uint64_t x = last + seed;
    for (uint64_t i = 0; i < steps; i++) {
        x = x * UINT64_C(0x9E3779B97F4A7C15) + i;
        __asm__ volatile("" : "+r"(x));
    }
    last = x;
}

static void run_calibrate(void) { /* the fastest of many windows: at full clock, undisturbed */
    double best_ns = 1e18;
    for (int i = 0; i < 1000; i++) {
        uint64_t start = now_ns();
        work_chain(20000, start);
        double took_ns = (double)(now_ns() - start);
        if (took_ns < best_ns) best_ns = took_ns;
    }
    printf("{\"steps\": %.0f}\n", 100 * 20000 / best_ns);
}

static pid_t child_fork(void) { /* in the child: 0, and it ends with its parent */
    pid_t parent = getpid(), pid = fork();
    need(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
    }
    return pid;
}

static void child_end(pid_t pid) {
    int status;
    need(waitpid(pid, &status, 0) == pid, "waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) die("a child failed");
}

static void segment_create(void) {
    char name[64];
    pthread_mutexattr_t attr;
    (void)snprintf(name, sizeof name, "/locks-bench.%d.%llx", getpid(), (long long)now_ns());
    seg_fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    need(seg_fd >= 0, "shm_open");
    need(shm_unlink(name) == 0, "shm_unlink");
    need(ftruncate(seg_fd, sizeof *seg) == 0, "ftruncate");
    void *map = mmap(NULL, sizeof *seg, PROT_READ | PROT_WRITE, MAP_SHARED, seg_fd, 0);
    need(map != MAP_FAILED, "mmap");
    seg = map;
    if (opt.kind != ROBUST) return;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < STRIPES; i++) pthread_mutex_init(&seg->stripes[i].lock.mutex, &attr);
}

static int segment_reopen(void) { /* a descriptor with an open file description of its own */
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", seg_fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    need(fd >= 0, "open the segment again");
    return fd;
}

/* ---- rows: owning a row is holding its byte ---- */

static struct flock row_byte(uint32_t number) {
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET,
                          .l_start = ROW_BASE + number % ROWS, .l_len = 1};
}

static void attach(struct attachment *me) {
    *me = (struct attachment){.row_fd = segment_reopen(), .probe_fd = segment_reopen()};
    for (int tries = 0; tries < ROWS; tries++) {
        me->number = atomic_fetch_add(&seg->next_number, 1) + 1;
        struct flock byte = row_byte(me->number);
        if (fcntl(me->row_fd, F_OFD_SETLK, &byte) != 0) continue;
        /* release: pairs with acquire in owner_dead; the byte is ours before the number is */
        atomic_store_explicit(&seg->numbers[me->number % ROWS], me->number, memory_order_release);
        return;
    }
    die("no free row");
}

static bool owner_dead(const struct attachment *me, uint32_t number) {
    const _Atomic uint32_t *owner = &seg->numbers[number % ROWS];
    if (atomic_load_explicit(owner, memory_order_acquire) != number) return true;
    struct flock byte = row_byte(number);
    need(fcntl(me->probe_fd, F_OFD_GETLK, &byte) == 0, "F_OFD_GETLK");
    return byte.l_type == F_UNLCK;
}

/* ---- the word ---- */

static bool word_try(_Atomic uint32_t *word, uint32_t seen, uint32_t mine) {
    /* acquire: pairs with the release in word_give */
    return atomic_compare_exchange_strong_explicit(word, &seen, mine, memory_order_acquire,
                                                   memory_order_relaxed);
}

static bool word_take_over(struct attachment *me, _Atomic uint32_t *word) {
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    /* The bit is set anyhow: nobody knows how many others sleep behind the dead owner. */
    return seen != 0 && owner_dead(me, seen & ~WAITERS) &&
           word_try(word, seen, me->number | WAITERS);
}

/* Sleeps until the lock is taken, taken over, or the limit has passed. A taker that slept sets the
 * waiters bit, for others may sleep still; this costs one wake too many at the end of a queue. */
static enum outcome word_sleep(struct attachment *me, _Atomic uint32_t *word, uint64_t limit_ns) {
    uint64_t end_ns = now_ns() + limit_ns;
    uint64_t pause_ns = (uint64_t)opt.first_us * 1000, cap_ns = (uint64_t)opt.cap_us * 1000;
    for (;;) {
        uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
        if (seen == 0 && word_try(word, 0, me->number | WAITERS)) return TAKEN;
        if (seen == 0) continue;
        if (!(seen & WAITERS) && !word_try(word, seen, seen | WAITERS)) continue;
        me->sleeps++;
        if (!futex_wait(word, seen | WAITERS, pause_ns)) {
            if (word_take_over(me, word)) return RECOVERED;
            pause_ns = pause_ns * 2 < cap_ns ? pause_ns * 2 : cap_ns;
        }
        if (now_ns() >= end_ns) return BUSY;
    }
}

static enum outcome word_take(struct attachment *me, _Atomic uint32_t *word, uint64_t limit_ns) {
    if (word_try(word, 0, me->number)) return TAKEN;
    for (long i = 0; i < opt.spin; i++) {
        cpu_relax();
        if (atomic_load_explicit(word, memory_order_relaxed) != 0) continue;
        if (word_try(word, 0, me->number)) return TAKEN;
    }
    if (opt.ask && word_take_over(me, word)) return RECOVERED;
    return word_sleep(me, word, limit_ns);
}

static void word_give(struct attachment *me, _Atomic uint32_t *word) {
    /* release: pairs with the acquire in word_try */
    uint32_t old = atomic_exchange_explicit(word, 0, memory_order_release);
    if ((old & ~WAITERS) != me->number) die("a living holder lost its lock");
    if (old & WAITERS) futex_wake(word, 1);
}

/* ---- the robust mutex, with the same time limit ---- */

static enum outcome robust_take(struct attachment *me, pthread_mutex_t *mutex, uint64_t limit_ns) {
    int rc = pthread_mutex_trylock(mutex);
    for (long i = 0; rc == EBUSY && i < opt.spin; i++) {
        cpu_relax();
        rc = pthread_mutex_trylock(mutex);
    }
    if (rc == EBUSY) {
        struct timespec end = to_timespec(now_ns() + limit_ns);
        me->sleeps++; /* at least: the library does not say how often it slept */
        rc = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &end);
    }
    if (rc == 0) return TAKEN;
    if (rc == ETIMEDOUT) return BUSY;
    if (rc != EOWNERDEAD || pthread_mutex_consistent(mutex) != 0) die(strerror(rc));
    return RECOVERED;
}

static enum outcome lock_take(struct attachment *me, struct stripe *stripe, uint64_t limit_ns) {
    if (opt.kind == WORD) return word_take(me, &stripe->lock.word, limit_ns);
    if (opt.kind == ROBUST) return robust_take(me, &stripe->lock.mutex, limit_ns);
    return TAKEN;
}

static void lock_give(struct attachment *me, struct stripe *stripe) {
    if (opt.kind == WORD) word_give(me, &stripe->lock.word);
    if (opt.kind == ROBUST && pthread_mutex_unlock(&stripe->lock.mutex) != 0)
        die("the robust mutex was not the giver's");
}

/* ---- single and load ---- */

static void run_single(void) {
    enum { TIMES = 500000 };
    struct attachment me;
    attach(&me);
    uint64_t start = now_ns();
    for (int i = 0; i < TIMES; i++) {
        if (lock_take(&me, &seg->stripes[0], LIMIT_NS) != TAKEN) die("a free lock not taken");
        __asm__ volatile("" ::: "memory");
        lock_give(&me, &seg->stripes[0]);
    }
    printf("{\"ns\": %.2f}\n", (double)(now_ns() - start) / TIMES);
}

static void picks_fill(uint16_t *picks) { /* stripes, each as often as the zipf law says */
    double total = 0, sum = 0;
    for (int rank = 1; rank <= KEYS; rank++) total += pow(rank, -0.99);
    for (uint64_t rank = 1, n = 0; rank <= KEYS; rank++) {
        uint64_t hash = rank * UINT64_C(0x9E3779B97F4A7C15) >> 40;
        sum += pow((double)rank, -0.99);
        while (n < PICKS && (double)n < sum / total * PICKS)
            picks[n++] = (uint16_t)(hash % (uint64_t)opt.stripes);
    }
}

static void stripe_write(struct attachment *me, struct stripe *stripe) {
    if (lock_take(me, stripe, LIMIT_NS) != TAKEN) die("a living holder's lock not had within 5 s");
    work_chain((uint64_t)opt.steps, ++stripe->changes);
    /* release: pairs with acquire in stripe_read */
    uint64_t ver = atomic_load_explicit(&stripe->ver, memory_order_relaxed) + 1;
    atomic_store_explicit(&stripe->ver, ver, memory_order_release);
    lock_give(me, stripe);
}

static void stripe_read(struct stripe *stripe) {
    for (int tries = 0; tries < 8; tries++) {
        uint64_t before = atomic_load_explicit(&stripe->ver, memory_order_acquire);
        work_chain((uint64_t)opt.steps, before);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&stripe->ver, memory_order_relaxed) == before) return;
    }
}

static void load_worker(uint64_t index) {
    static uint16_t picks[PICKS];
    struct attachment me;
    struct result mine = {0};
    uint64_t random = index;
    attach(&me);
    picks_fill(picks);
    event_tell(&seg->ready);
    event_await(&seg->go, 1);
    clock_t before = clock(); /* CPU time, us */
    for (; !atomic_load_explicit(&seg->stop, memory_order_relaxed); mine.ops++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        struct stripe *stripe = &seg->stripes[picks[random >> 50]];
        if ((random >> 20 & 0xffff) * 100 < (uint64_t)opt.writes << 16) {
            stripe_write(&me, stripe);
            mine.writes++;
        } else {
            stripe_read(stripe);
        }
    }
    mine.cpu_us = (uint64_t)(clock() - before);
    mine.sleeps = me.sleeps;
    seg->results[index] = mine;
    _exit(0);
}

static void run_load(void) {
    pid_t pids[PROCS];
    struct result all = {0};
    uint64_t changes = 0;
    for (int i = 0; i < opt.procs; i++)
        if ((pids[i] = child_fork()) == 0) load_worker((uint64_t)i);
    event_await(&seg->ready, (uint32_t)opt.procs);
    uint64_t start_ns = now_ns();
    event_tell(&seg->go);
    sleep_ns((uint64_t)opt.ms * MS);
    atomic_store(&seg->stop, 1);
    double seconds = (double)(now_ns() - start_ns) / 1e9;
    for (int i = 0; i < opt.procs; i++) {
        child_end(pids[i]);
        all.ops += seg->results[i].ops;
        all.writes += seg->results[i].writes;
        all.sleeps += seg->results[i].sleeps;
        all.cpu_us += seg->results[i].cpu_us;
    }
    for (int i = 0; i < STRIPES; i++) changes += seg->stripes[i].changes;
    if (opt.kind != NONE && changes != all.writes) die("two held one lock at the same time");
    printf("{\"ops_per_s\": %.0f, \"sleeps_per_kop\": %.3f, \"cpus\": %.2f}\n",
           (double)all.ops / seconds, (double)all.sleeps * 1e3 / (double)all.ops,
           (double)all.cpu_us / 1e6 / seconds);
}

/* ---- kill and stopped ---- */

static void holder(void) {
    struct attachment me;
    attach(&me);
    size_t ballast = (size_t)opt.ballast_mib << 20;
    if (ballast) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
        need(mmap(NULL, ballast, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED, "ballast");
    }
    if (lock_take(&me, &seg->stripes[0], LIMIT_NS) != TAKEN) die("the holder has no lock");
    if (opt.child != ALONE) {
        pid_t pid = fork();
        need(pid >= 0, "fork");
        if (pid != 0) seg->grandchild = pid;
        if (pid == 0) alarm(30); /* outlives the holder, not the benchmark by much */
        if (pid == 0 && opt.child == CLOSED) close(me.row_fd);
    }
    event_tell(&seg->held);
    for (;;) pause();
}

static void waiter(void) {
    struct attachment me;
    attach(&me);
    for (uint32_t turn = 1;; turn++) {
        event_await(&seg->order, turn);
        seg->began_ns = now_ns();
        enum outcome outcome = lock_take(&me, &seg->stripes[0], seg->limit_ns);
        seg->had_ns = now_ns();
        seg->outcome = outcome;
        if (outcome != BUSY) lock_give(&me, &seg->stripes[0]);
        event_tell(&seg->done);
    }
}

static void waiter_start(uint64_t limit_ns) {
    seg->limit_ns = limit_ns;
    event_tell(&seg->order);
}

static uint64_t kill_now(pid_t pid) { /* -> the time; the victim stays unreaped */
    uint64_t killed = now_ns();
    need(kill(pid, SIGKILL) == 0, "kill");
    return killed;
}

static uint64_t holder_kill(pid_t pid, unsigned short *seed) { /* -> time of the kill, or 0 */
    siginfo_t info;
    if (opt.phase == AFTER) {
        (void)kill_now(pid);
        need(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0, "waitid");
        waiter_start(LIMIT_NS);
        return 0;
    }
    waiter_start(opt.child == ALONE ? LIMIT_NS : 60 * MS);
    if (opt.phase == AGED) sleep_ns((uint64_t)(erand48(seed) * 15.0 * MS));
    uint64_t end_ns = now_ns() + (uint64_t)(erand48(seed) * 0.2 * MS);
    while (now_ns() < end_ns) cpu_relax();
    return kill_now(pid);
}

/* One death. *busy says that the waiter first met its limit, because the child of the dead holder
 * still proved life; the latency returned then counts from the death of that child. */
static uint64_t kill_once(unsigned short *seed, bool *busy) {
    uint32_t held = atomic_load(&seg->held), done = atomic_load(&seg->done);
    pid_t pid = child_fork();
    if (pid == 0) holder();
    event_await(&seg->held, held + (opt.child == ALONE ? 1 : 2));
    uint64_t killed = holder_kill(pid, seed);
    event_await(&seg->done, done + 1);
    *busy = seg->outcome == BUSY;
    if (*busy) {
        if (opt.child == ALONE) die("the lock of a dead holder stayed busy for 5 s");
        waiter_start(LIMIT_NS);
        killed = kill_now(seg->grandchild);
        event_await(&seg->done, done + 2);
    }
    if (seg->outcome != RECOVERED) die("the lock of a dead holder was had without recovery");
    child_end(pid);
    if (opt.child != ALONE) { /* ours since the holder is reaped: this process is the subreaper */
        if (!*busy) (void)kill_now(seg->grandchild);
        child_end(seg->grandchild);
    }
    return seg->had_ns - (killed ? killed : seg->began_ns);
}

static void run_kill(void) {
    unsigned short seed[3] = {0x330e, (unsigned short)getpid(), 42};
    long late = 0;
    if (opt.kills < 1 || opt.kind == NONE) die("kill: word or robust, at least one kill");
    need(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "prctl");
    pid_t pid = child_fork();
    if (pid == 0) waiter();
    printf("{\"took_us\": [");
    for (long i = 0; i < opt.kills; i++) {
        bool busy;
        printf("%s%.1f", i ? ", " : "", (double)kill_once(seed, &busy) / 1e3);
        late += busy;
    }
    printf("], \"busy\": %ld}\n", late);
    (void)kill_now(pid);
    child_end(pid);
}

static void run_stopped(void) {
    struct attachment me;
    int status;
    attach(&me);
    pid_t pid = child_fork();
    if (pid == 0) holder();
    event_await(&seg->held, 1);
    need(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid, "stop the holder");
    clock_t before = clock();
    if (lock_take(&me, &seg->stripes[0], NS) != BUSY) die("a stopped holder was robbed");
    printf("{\"cpu_ms_per_s\": %.3f}\n", (double)(clock() - before) / 1e3);
    (void)kill_now(pid);
    child_end(pid);
}

/* ---- options ---- */

static const struct {
    const char *name, *words[4]; /* words stand for the values 0, 1, 2; else a number */
    long *value;
} table[] = {
    {"kind", {"word", "robust", "none"}, &opt.kind},   {"spin", {0}, &opt.spin},
    {"phase", {"fresh", "aged", "after"}, &opt.phase}, {"first_us", {0}, &opt.first_us},
    {"child", {"alone", "closed", "kept"}, &opt.child}, {"cap_us", {0}, &opt.cap_us},
    {"ask", {0}, &opt.ask},         {"procs", {0}, &opt.procs},
    {"ms", {0}, &opt.ms},           {"writes", {0}, &opt.writes},
    {"stripes", {0}, &opt.stripes}, {"steps", {0}, &opt.steps},
    {"kills", {0}, &opt.kills},     {"ballast_mib", {0}, &opt.ballast_mib},
};

static void option_read(char *text) {
    char *value = text, *end = NULL;
    const char *name = strsep(&value, "=");
    for (size_t i = 0; value != NULL && i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].name, name) != 0) continue;
        for (long j = 0; table[i].words[j] != NULL; j++) {
            *table[i].value = j;
            if (strcmp(table[i].words[j], value) == 0) return;
        }
        *table[i].value = strtol(value, &end, 10);
        if (table[i].words[0] == NULL && end != value && *end == '\0') return;
    }
    die("bad option: key=value of the table at the end of locks.c");
}

int main(int argc, char **argv) {
    const char *work = argc > 1 ? argv[1] : "";
    for (int i = 2; i < argc; i++) option_read(argv[i]);
    if (opt.stripes < 1 || opt.stripes > STRIPES || opt.procs < 1 || opt.procs > PROCS)
        die("stripes: 1 to 256, procs: 1 to 64");
    segment_create();
    if (strcmp(work, "single") == 0) run_single();
    else if (strcmp(work, "calibrate") == 0) run_calibrate();
    else if (strcmp(work, "load") == 0) run_load();
    else if (strcmp(work, "kill") == 0) run_kill();
    else if (strcmp(work, "stopped") == 0) run_stopped();
    else die("usage: locks single|calibrate|load|kill|stopped key=value ...");
    return 0;
}
