/* test_fork.c: fork at every step of an operation that another thread of the process is in.
 *
 * A thread runs the operation and is held at its n-th fault point; the main thread forks there. The
 * child is a process like any other: it reads everything at once, whatever the thread holds; what
 * it cannot write yet is Busy, never a hang or a mixture; when the thread has gone on, or when the
 * whole parent was killed in that step, it writes everything. n = 1, 2, 3 ... to the end of the
 * operation. Needs KV_FAULT=1. Long operations are taken in strides. */
#include "kv_test.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS    60u
#define TARGET  7u
#define OTHER   100001u
#define COUNTER 100002u
#define FILLER  200000u
#define STEPS   60u /* of a long operation, at most */
#define LIMIT_S 20

/* ---- operations --------------------------------------------------------------------------- */

static kv_status set_same(struct kv_handle *h) { return item_set(h, TARGET, 2, 200); }
static kv_status set_large(struct kv_handle *h) { return item_set(h, TARGET, 2, 3000); }
static kv_status set_extent(struct kv_handle *h) { return item_set(h, TARGET, 2, 150000); }
static kv_status set_new(struct kv_handle *h) { return item_set(h, OTHER, 2, 200); }
static kv_status remove_key(struct kv_handle *h) { return item_delete(h, TARGET); }
static kv_status incr(struct kv_handle *h) {
    int64_t n;
    return item_incr(h, COUNTER, 5, 0, &n);
}
static kv_status touch(struct kv_handle *h) {
    return item_touch(h, TARGET, kv_clock_ms() + 3600000);
}
static kv_status append(struct kv_handle *h) {
    uint64_t now;
    return item_append(h, OTHER, "tail", 4, &now);
}
static kv_status clear(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    struct kv_clear clear = {.begun = 0};
    kv_status s = store_clear(&op, &clear);
    store_leave(&op);
    return s;
}
static kv_status compact(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    uint32_t freed;
    kv_status s = evict_compact(&op, &freed);
    store_leave(&op);
    return s;
}
static kv_status pins(struct kv_handle *h) { /* more than one row has: another row is taken */
    struct kv_pin pin[KV_PINS + 1];
    struct kv_op op = kv_op_make(h);
    kv_status s = KV_OK;
    unsigned n = 0;
    while (s == KV_OK && n <= KV_PINS)
        s = pin_take(&op, &pin[n++], fold_row);
    while (n-- > 0)
        store_unpin(h, &pin[n]);
    return s;
}
static kv_status evicting(struct kv_handle *h) {
    uint64_t before = world_stat(h, KV_STAT_CLEANED);
    kv_status s = KV_OK;
    for (uint32_t i = 0; s == KV_OK && world_stat(h, KV_STAT_CLEANED) == before; i++)
        s = item_set(h, FILLER + 50000 + i, 1, 1900);
    return s;
}

static void fill_keys(struct kv_handle *h) {
    int64_t n;
    for (uint32_t i = 0; i < KEYS; i++)
        OK(item_set(h, i, 1, 200));
    OK(item_incr(h, COUNTER, 100, 0, &n));
}
static void fill_up(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; world_stat(h, KV_STAT_CLEANED) == 0; i++)
        OK(item_set(h, FILLER + i % 1000, 1, 1900));
}

struct scenario {
    const char *name;
    void (*fill)(struct kv_handle *);
    kv_status (*act)(struct kv_handle *);
};
static const struct scenario scenarios[] = {
    {"set same", fill_keys, set_same},     {"set larger", fill_keys, set_large},
    {"set extent", fill_keys, set_extent}, {"set new", fill_keys, set_new},
    {"delete", fill_keys, remove_key},     {"incr", fill_keys, incr},
    {"touch", fill_keys, touch},           {"append", fill_keys, append},
    {"clear", fill_keys, clear},           {"compact", fill_keys, compact},
    {"pins", fill_keys, pins},             {"evicting set", fill_up, evicting},
};

/* ---- the thread that is held -------------------------------------------------------------- */

static struct held {
    struct kv_handle *h;
    const struct scenario *sc;
    uint64_t n; /* the point it is held at; 0: none */
    sem_t there, go;
    bool reached;
    uint64_t visits;
    kv_status result;
} held;

static void hold(const char *name, void *arg) {
    (void)arg;
    kv_fault_arm(0, 0);
    (void)snprintf(kv_test_where, sizeof kv_test_where, "%s, held at %s", held.sc->name, name);
    held.reached = true;
    (void)sem_post(&held.there);
    while (sem_wait(&held.go) != 0) {
    }
}

static void *act_held(void *arg) {
    (void)arg;
    kv_fault_hook(hold, NULL);
    kv_fault_arm(held.n == 0 ? UINT64_MAX : held.n, KV_FAULT_CALL);
    held.result = held.sc->act(held.h);
    held.visits = kv_fault_visits();
    kv_fault_arm(0, 0);
    (void)sem_post(&held.there);
    return NULL;
}

static void start(pthread_t *thread, struct kv_handle *h, const struct scenario *sc, uint64_t n) {
    held = (struct held){.h = h, .sc = sc, .n = n};
    CHECK(sem_init(&held.there, 0, 0) == 0 && sem_init(&held.go, 0, 0) == 0);
    CHECK_EQ(pthread_create(thread, NULL, act_held, NULL), 0);
    struct timespec end;
    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += LIMIT_S;
    CHECK_EQ(sem_timedwait(&held.there, &end), 0);
}

/* ---- the child ---------------------------------------------------------------------------- */

static kv_status allowed(kv_status s, kv_status other) {
    return s == other ? KV_OK : s;
}

/* Whatever the parent's thread holds: reading waits for nobody. */
static void read_all(struct kv_handle *h) {
    uint64_t begin = kv_clock_ns();
    h->lock_timeout_ns = 60000000000u; /* so long would wait who did */
    for (uint32_t i = 0; i < KEYS; i++)
        OK(allowed(item_get(h, i, NULL, NULL), KV_MISS));
    CHECK(kv_clock_ns() - begin < 30000000000u);
}

/* Writing needs what may be held: then it says so, in time. */
static void write_some(struct kv_handle *h) {
    h->lock_timeout_ns = 3000000;
    for (uint32_t i = 0; i < 4; i++)
        OK(allowed(item_set(h, 300000 + i, 1, 100), KV_BUSY));
    OK(allowed(item_set(h, TARGET, 5, 300), KV_BUSY));
}

static void write_all(struct kv_handle *h) {
    h->lock_timeout_ns = 10000000000u;
    for (uint32_t i = 0; i < KEYS; i++) {
        OK(item_set(h, i, 6, 300));
        OK(item_get(h, i, NULL, NULL));
    }
    OK(item_set(h, TARGET, 7, 100000));
    OK(item_get(h, TARGET, NULL, NULL));
    OK(compact(h));
}

static bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, LIMIT_S * 1000) == 1;
}

/* `done`: closed by the other side when the thread has gone on, or its process is dead. */
static _Noreturn void live(struct kv_handle *h, uint32_t parent, int tell, int done) {
    read_all(h);
    write_some(h);
    CHECK(kv_number(h) != parent);
    CHECK_EQ(write(tell, "b", 1), 1);
    CHECK(readable(done));
    read_all(h);
    write_all(h);
    read_all(h);
    store_detach(h);
    _exit(0);
}

static void well_ended(pid_t pid) {
    int status = -1;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

/* ---- the parent goes on ------------------------------------------------------------------- */

/* false: the operation has fewer points than n. */
static bool fork_at(struct kv_handle *h, const struct scenario *sc, uint64_t n) {
    pthread_t thread;
    int tell[2], done[2];
    char byte;
    start(&thread, h, sc, n);
    if (!held.reached) {
        CHECK_EQ(pthread_join(thread, NULL), 0);
        OK(held.result);
        return false;
    }
    CHECK(pipe(tell) == 0 && pipe(done) == 0);
    uint32_t number = kv_number(h);
    pid_t child = fork();
    if (child == 0) {
        (void)close(tell[0]);
        (void)close(done[1]);
        live(h, number, tell[1], done[0]);
    }
    (void)close(tell[1]);
    (void)close(done[0]);
    CHECK(readable(tell[0]) && read(tell[0], &byte, 1) == 1);
    (void)sem_post(&held.go);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    OK(held.result);
    CHECK_EQ(kv_number(h), number);
    (void)close(done[1]);
    well_ended(child);
    (void)close(tell[0]);
    return true;
}

/* A process of its own attaches before it acts: the points of that are not the operation's. */
static void attach_first(struct kv_handle *h) { OK(item_set(h, KEYS - 1, 1, 200)); }

static uint64_t points_of(const struct scenario *sc, bool attaches) {
    pthread_t thread;
    struct kv_handle *h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    sc->fill(h);
    if (attaches)
        attach_first(h); /* it may clean ahead, as any write */
    start(&thread, h, sc, 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    OK(held.result);
    store_detach(h);
    return held.visits;
}

static void empty_again(struct kv_handle *h) {
    (void)world_account(h);
    OK(clear(h));
    struct kv_report r = world_account(h);
    CHECK_EQ(r.items, 0);
    struct kv_stats stats;
    store_stats(h, &stats);
    CHECK_EQ(stats.attached, h->own->rows); /* more than one when pins ran out */
}

/* At points of every scenario; how many there were. */
static uint64_t at_points(bool (*meet)(struct kv_handle *, const struct scenario *, uint64_t),
                          bool attaches) {
    uint64_t met = 0;
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
        const struct scenario *sc = &scenarios[i];
        uint64_t points = points_of(sc, attaches), stride = 1 + points / scaled(STEPS);
        CHECK(points > 4);
        for (uint64_t n = 1; n <= points; n += stride, met++) {
            struct kv_handle *h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
            sc->fill(h);
            CHECK(meet(h, sc, n) || n > points - points / 8);
            empty_again(h);
            store_detach(h);
        }
    }
    return met;
}

static void test_parent_goes_on(void) {
    printf("   %" PRIu64 " forks\n", at_points(fork_at, false));
}

/* ---- the parent dies ---------------------------------------------------------------------- */

/* A process that is killed while its thread is held and its child lives. */
static _Noreturn void doomed(struct kv_handle *h, const struct scenario *sc, uint64_t n, int tell) {
    pthread_t thread;
    int alive[2];
    attach_first(h);
    start(&thread, h, sc, n);
    if (!held.reached)
        _exit(0);
    CHECK_EQ(pipe(alive), 0);
    uint32_t number = kv_number(h);
    if (fork() == 0) {
        (void)close(alive[1]); /* the end of the pipe is the end of the parent */
        live(h, number, tell, alive[0]);
    }
    for (;;)
        (void)pause();
}

static bool die_at(struct kv_handle *h, const struct scenario *sc, uint64_t n) {
    int tell[2];
    char byte;
    CHECK_EQ(pipe(tell), 0);
    pid_t parent = fork();
    if (parent == 0)
        doomed(h, sc, n, tell[1]);
    (void)close(tell[1]);
    CHECK(readable(tell[0]));
    bool told = read(tell[0], &byte, 1) == 1;
    if (told) {
        CHECK_EQ(kill(parent, SIGKILL), 0);
        int status;
        CHECK_EQ(waitpid(parent, &status, 0), parent);
        CHECK(WIFSIGNALED(status));
        pid_t child = waitpid(-1, &status, 0); /* orphans are this process's */
        CHECK(child > 0);
        CHECK_EQ(status, 0);
    } else {
        well_ended(parent);
    }
    (void)close(tell[0]);
    return told;
}

static void test_parent_dies(void) {
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    printf("   %" PRIu64 " deaths\n", at_points(die_at, true));
}

static const struct kv_test tests[] = {
    {"fork_parent_goes_on", test_parent_goes_on},
    {"fork_parent_dies", test_parent_dies},
};
KV_TEST_MAIN(tests)
