/* test_locks.c: rows, lock words, proof of life, reservation and pin slots, fork.
 *
 * Threads stand for processes: each has a twin with an open file description of its own. Only where
 * the kernel's view of a process matters is there a real one. Nothing waits for time to pass except
 * where the time limit itself is what is tested; other waits are on a condition, bounded. Runs
 * under ThreadSanitizer too, which the fork test leaves out. */
#include "kv_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wait.h"

#define LONG_NS 20000000000u

static struct kv_handle *h;

static void begin(void) {
    h = world_open(KV_SIZE_MIN, 0);
    h->lock_timeout_ns = LONG_NS;
}

static void end(void) {
    (void)world_check(h);
    store_detach(h);
}

/* A stripe's lock: recovery by its next owner is real. */
static uint32_t *word(void) { return &stripe_at(h, 0)->lock; }

/* ---- someone who waits in a thread -------------------------------------------------------- */

struct waiter {
    pthread_t thread;
    struct kv_handle *h;
    struct kv_op op;
    kv_status result;
    uint64_t took;
    uint32_t done, word; /* the lock word once it was taken */
    bool give;
};

static void *wait_for_word(void *arg) {
    struct waiter *w = arg;
    uint64_t begun = kv_clock_ns();
    w->result = lock_take(&w->op, word());
    w->took = kv_clock_ns() - begun;
    w->word = kv_load_rlx(word());
    if (w->give && (w->result == KV_OK || w->result == KV_RECOVER))
        lock_give(word());
    kv_store_rel(&w->done, 1u);
    return NULL;
}

static void waiter_start(struct waiter *w, struct kv_handle *as, bool give) {
    *w = (struct waiter){.h = as, .op = kv_op_make(as), .give = give};
    CHECK_EQ(pthread_create(&w->thread, NULL, wait_for_word, w), 0);
}

static void waiter_end(struct waiter *w) { CHECK_EQ(pthread_join(w->thread, NULL), 0); }

static bool bit_is_set(void *arg) { return (kv_load_acq((uint32_t *)arg) & KV_WAITERS) != 0; }

/* ---- lock words --------------------------------------------------------------------------- */

static void test_word(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(h), other = kv_op_make(twin);
    OK(lock_take(&op, word()));
    CHECK_EQ(*word(), kv_number(h)); /* nobody waits: no bit */
    CHECK_STATUS(lock_try(&other, word()), KV_BUSY);
    lock_give(word());
    CHECK_EQ(*word(), 0);
    OK(lock_try(&other, word()));
    CHECK_EQ(*word(), kv_number(twin));
    world_abandon(twin);
    CHECK_STATUS(lock_try(&op, word()), KV_BUSY); /* does not rob, not even the dead */
    CHECK_STATUS(lock_take(&op, word()), KV_RECOVER);
    OK(table_recover_locked(h, 0));
    lock_give(word());
    CHECK_EQ(*word(), 0);
    end();
}

/* The owner lives: Busy at the time limit, not before, naming him; he keeps his lock. */
static void test_busy(void) {
    static const uint64_t limits[] = {0, 3000000, 60000000};
    begin();
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(h);
    OK(lock_take(&op, word()));
    for (unsigned i = 0; i < 3; i++) {
        struct waiter w;
        twin->lock_timeout_ns = limits[i];
        waiter_start(&w, twin, true);
        waiter_end(&w);
        CHECK_STATUS(w.result, KV_BUSY);
        CHECK_EQ(w.op.owner, kv_number(h));
        CHECK(w.took >= limits[i]);
        CHECK(w.took < limits[i] + 30000000000u);
        CHECK_EQ(*word() & KV_NUMBER_MASK, kv_number(h));
    }
    CHECK(*word() & KV_WAITERS); /* it stays: only the giver knows that nobody is left */
    lock_give(word());
    CHECK_EQ(*word(), 0);
    store_detach(twin);
    end();
}

/* One limit for the whole operation, however many locks it waits for. */
static void test_one_deadline(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin), mine = kv_op_make(h);
    OK(lock_take(&mine, word()));
    twin->lock_timeout_ns = 30000000;
    CHECK_STATUS(lock_take(&op, word()), KV_BUSY);
    uint64_t limit = op.deadline_ns;
    CHECK_STATUS(lock_take(&op, word()), KV_BUSY);
    CHECK_EQ(op.deadline_ns, limit);
    lock_give(word());
    store_detach(twin);
    end();
}

static void test_take_over(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    uint32_t number = kv_number(twin);
    struct kv_op op = kv_op_make(twin), mine = kv_op_make(h);
    OK(lock_take(&op, word()));
    CHECK(row_alive(h, number));
    world_abandon(twin);
    CHECK(!row_alive(h, number));
    CHECK_STATUS(lock_take(&mine, word()), KV_RECOVER);
    CHECK_EQ(mine.dead, number);
    CHECK_EQ(*word(), kv_number(h) | KV_WAITERS); /* others may sleep: the next give wakes one */
    OK(table_recover_locked(h, 0));
    lock_give(word());
    CHECK_EQ(world_stat(h, KV_STAT_RECOVERIES), 1);
    store_leave(&mine); /* folds whom it met */
    CHECK_EQ(world_stat(h, KV_STAT_FOLDS), 1);
    CHECK_EQ(kv_row_at(h, number % h->g.rows)->number, 0);
    end();
}

#define CROWD 6u

/* The owner dies while many sleep: one recovers, all get the lock. */
static void test_death_of_a_waited_for(void) {
    struct waiter w[CROWD];
    for (unsigned round = 0; round < 5; round++) {
        begin();
        struct kv_handle *twin = world_twin(h), *as[CROWD];
        struct kv_op op = kv_op_make(twin);
        OK(lock_take(&op, word()));
        for (unsigned i = 0; i < CROWD; i++)
            as[i] = world_twin(h);
        for (unsigned i = 0; i < CROWD; i++)
            waiter_start(&w[i], as[i], true);
        world_await(bit_is_set, word());
        world_abandon(twin);
        unsigned recovered = 0;
        for (unsigned i = 0; i < CROWD; i++) {
            waiter_end(&w[i]);
            CHECK(w[i].result == KV_OK || w[i].result == KV_RECOVER);
            recovered += w[i].result == KV_RECOVER;
        }
        CHECK_EQ(recovered, 1);
        CHECK_EQ(*word() & KV_NUMBER_MASK, 0);
        CHECK_EQ(world_stat(h, KV_STAT_RECOVERIES), 1);
        for (unsigned i = 0; i < CROWD; i++)
            store_detach(as[i]);
        end();
    }
}

static uint64_t exact; /* changed under the lock only, not atomically */

static void *count_up(void *arg) {
    struct kv_handle *twin = arg;
    struct kv_op op = kv_op_make(twin);
    for (uint64_t i = 0; i < scaled(5000); i++) {
        OK(lock_take(&op, word()));
        exact++;
        lock_give(word());
    }
    return NULL;
}

static void test_exclusion(void) {
    begin();
    pthread_t thread[CROWD];
    struct kv_handle *as[CROWD];
    exact = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        as[i] = world_twin(h);
        CHECK_EQ(pthread_create(&thread[i], NULL, count_up, as[i]), 0);
    }
    for (unsigned i = 0; i < CROWD; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(exact, CROWD * scaled(5000));
    CHECK_EQ(*word(), 0);
    CHECK_EQ(world_stat(h, KV_STAT_RECOVERIES), 0);
    for (unsigned i = 0; i < CROWD; i++)
        store_detach(as[i]);
    end();
}

/* ---- waking ------------------------------------------------------------------------------- */

struct sleeper {
    pthread_t thread;
    uint32_t *word, seen, tid;
    uint64_t limit;
    enum kv_wait_result result;
};

static void *sleep_on(void *arg) {
    struct sleeper *s = arg;
    kv_store_rel(&s->tid, (uint32_t)gettid());
    s->result = kv_wait(s->word, s->seen, s->limit);
    return NULL;
}

/* The kernel says that the thread sleeps, and it has nothing to sleep on but the word. */
static bool asleep(void *arg) {
    struct sleeper *s = arg;
    char path[64], line[512];
    (void)snprintf(path, sizeof path, "/proc/self/task/%u/stat", kv_load_acq(&s->tid));
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return false;
    const char *p = fgets(line, sizeof line, f) == NULL ? NULL : strrchr(line, ')');
    (void)fclose(f);
    return p != NULL && p[2] == 'S';
}

static enum kv_wait_result give_while_asleep(uint32_t holder, uint64_t limit) {
    struct sleeper s = {.word = word(), .seen = holder, .limit = limit};
    kv_store_rel(word(), holder);
    CHECK_EQ(pthread_create(&s.thread, NULL, sleep_on, &s), 0);
    world_await(asleep, &s);
    uint64_t begun = kv_clock_ns();
    lock_give(word());
    CHECK_EQ(pthread_join(s.thread, NULL), 0);
    if (s.result == KV_WOKEN)
        CHECK(kv_clock_ns() - begun < limit / 2);
    return s.result;
}

/* The bit decides whether giving wakes. */
static void test_woken(void) {
    begin();
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(give_while_asleep(kv_number(h) | KV_WAITERS, LONG_NS), KV_WOKEN);
    CHECK_EQ(give_while_asleep(kv_number(h), 100000000), KV_TIMED_OUT);
    end();
}

/* Who has waited takes it with the bit set, because others may wait behind him. */
static void test_bit_is_handed_on(void) {
    begin();
    struct kv_handle *first = world_twin(h), *second = world_twin(h);
    struct kv_op op = kv_op_make(h);
    struct waiter a, b;
    OK(lock_take(&op, word()));
    waiter_start(&a, first, false);
    world_await(bit_is_set, word());
    lock_give(word());
    waiter_end(&a);
    CHECK_STATUS(a.result, KV_OK);
    if (a.op.owner != 0) /* it did sleep */
        CHECK_EQ(a.word, kv_number(first) | KV_WAITERS);
    waiter_start(&b, second, true);
    world_await(bit_is_set, word());
    lock_give(word());
    waiter_end(&b);
    CHECK_STATUS(b.result, KV_OK);
    CHECK_EQ(*word(), 0);
    store_detach(first);
    store_detach(second);
    end();
}

static void nothing(int sig) { (void)sig; }

/* A signal ends the wait of a handle that asks for it; another one waits on. */
static void test_interrupted(void) {
    struct sigaction act = {.sa_handler = nothing}, old;
    CHECK_EQ(sigaction(SIGUSR1, &act, &old), 0);
    for (unsigned may = 0; may < 2; may++) {
        begin();
        struct kv_handle *twin = world_twin(h);
        struct kv_op op = kv_op_make(h);
        struct waiter w;
        twin->interruptible = may == 1;
        OK(lock_take(&op, word()));
        waiter_start(&w, twin, true);
        world_await(bit_is_set, word());
        uint64_t stop = kv_clock_ns() + (may ? LONG_NS : 50000000u);
        while (kv_load_acq(&w.done) == 0 && kv_clock_ns() < stop) {
            CHECK_EQ(pthread_kill(w.thread, SIGUSR1), 0);
            (void)usleep(500);
        }
        lock_give(word());
        waiter_end(&w);
        CHECK_STATUS(w.result, may ? KV_INTR : KV_OK);
        store_detach(twin);
        end();
    }
    CHECK_EQ(sigaction(SIGUSR1, &old, NULL), 0);
}

/* ---- rows --------------------------------------------------------------------------------- */

static void test_rows_exhausted(void) {
    begin();
    struct kv_handle *twin[128], *late;
    uint32_t rows = h->g.rows;
    for (uint32_t i = 0; i < rows - 1; i++)
        twin[i] = world_twin(h);
    OK(segment_twin(h, &late));
    struct kv_op op = kv_op_make(late);
    CHECK_STATUS(store_enter(&op), KV_NOROWS);
    CHECK(late->own->rows == 0 && late->own->attached == 0);
    store_detach(twin[5]); /* one goes */
    op = kv_op_make(late);
    OK(store_enter(&op));
    store_detach(late);
    twin[5] = world_twin(h);
    uint32_t dead = kv_number(twin[9]);
    world_abandon(twin[9]); /* one dies: the next one folds it for its row */
    OK(segment_twin(h, &late));
    op = kv_op_make(late);
    OK(store_enter(&op));
    CHECK_EQ(kv_number(late) % rows, dead % rows);
    CHECK(!row_alive(h, dead) && row_alive(h, kv_number(late)));
    twin[9] = late;
    for (uint32_t i = 0; i < rows - 1; i++)
        store_detach(twin[i]);
    for (uint32_t i = 0; i < rows; i++)
        CHECK_EQ(kv_row_at(h, i)->number, i == kv_number(h) % rows ? kv_number(h) : 0);
    end();
}

/* Numbers are 31 bits, never 0, unique among the living although the counter wraps. */
static void test_numbers_wrap(void) {
    static const uint32_t starts[] = {0x7FFFFFFD, 0xFFFFFFFD, 0x7FFFFFFF};
    for (unsigned k = 0; k < 3; k++) {
        begin();
        struct kv_handle *twin[6];
        kv_header_of(h)->next_number = starts[k];
        for (unsigned i = 0; i < 6; i++) {
            twin[i] = world_twin(h);
            uint32_t n = kv_number(twin[i]);
            CHECK(n != 0 && n <= KV_NUMBER_MASK && n != kv_number(h));
            for (unsigned j = 0; j < i; j++)
                CHECK(n != kv_number(twin[j]) && n % h->g.rows != kv_number(twin[j]) % h->g.rows);
        }
        for (unsigned i = 0; i < 6; i++)
            store_detach(twin[i]);
        end();
    }
}

/* The next tenant of a row is not taken for the former one. */
static void test_next_tenant(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    uint32_t former = kv_number(twin);
    store_detach(twin);
    CHECK(!row_alive(h, former));
    kv_header_of(h)->next_number = former + h->g.rows;
    twin = world_twin(h);
    CHECK_EQ(kv_number(twin), former + h->g.rows);
    CHECK(!row_alive(h, former) && row_alive(h, former + h->g.rows));
    struct kv_op op = kv_op_make(h);
    OK(fold_dead(&op, former)); /* folds nobody */
    CHECK_EQ(kv_row_at(h, former % h->g.rows)->number, former + h->g.rows);
    CHECK_EQ(world_stat(h, KV_STAT_FOLDS), 0);
    store_detach(twin);
    end();
}

/* ---- reservations and pins ---------------------------------------------------------------- */

static void *wait_for_slot(void *arg) {
    struct waiter *w = arg;
    unsigned slot;
    w->result = reservation_slot(&w->op, false, &slot);
    w->word = slot;
    return NULL;
}

static void test_reservations(void) {
    begin();
    unsigned slot[KV_RESERVATIONS], more;
    struct kv_op op = kv_op_make(h);
    uint32_t seen = 0;
    for (unsigned i = 0; i < 8; i++) { /* six for what users write, two for what is moved */
        OK(reservation_slot(&op, i >= 6, &slot[i]));
        CHECK(!(seen & 1u << slot[i]));
        CHECK_EQ(slot[i] >= 6, i >= 6);
        seen |= 1u << slot[i];
    }
    h->lock_timeout_ns = 5000000;
    for (unsigned moving = 0; moving < 2; moving++) {
        op = kv_op_make(h);
        CHECK_STATUS(reservation_slot(&op, moving == 1, &more), KV_BUSY);
        CHECK_EQ(op.owner, kv_number(h)); /* it is this very process that writes */
    }
    h->lock_timeout_ns = LONG_NS;
    struct waiter w = {.h = h, .op = kv_op_make(h)};
    CHECK_EQ(pthread_create(&w.thread, NULL, wait_for_slot, &w), 0);
    reservation_clear(h, slot[3]);
    waiter_end(&w);
    CHECK_STATUS(w.result, KV_OK);
    CHECK_EQ(w.word, slot[3]);
    for (unsigned i = 0; i < 8; i++)
        reservation_clear(h, slot[i]);
    CHECK_EQ(h->own->reservations, 0);
    end();
}

/* Thirty-two pins to a row; then another row, until there is none. */
static void test_pins_take_rows(void) {
    begin();
    uint32_t most = h->g.rows * KV_PINS, n = 0;
    struct kv_pin *pin = calloc(most + 1, sizeof *pin);
    struct kv_op op = kv_op_make(h);
    kv_status s;
    while ((s = pin_take(&op, &pin[n], fold_row)) == KV_OK) {
        CHECK_EQ(h->own->rows, n / KV_PINS + 1);
        CHECK(row_alive(h, pin[n].number));
        pin_aim(h, &pin[n], n + 1);
        CHECK_EQ(kv_row_at(h, pin[n].row)->pin[pin[n].index], ++n);
    }
    CHECK_STATUS(s, KV_NOROWS);
    CHECK_EQ(n, most);
    for (uint32_t i = 0; i < n; i++) /* nobody aimed at another's word */
        CHECK_EQ(kv_row_at(h, pin[i].row)->pin[pin[i].index], i + 1);
    struct kv_pin foreign = pin[40];
    foreign.number += h->g.rows; /* as in a fork child */
    pin_drop(h, &foreign);
    CHECK_EQ(kv_row_at(h, pin[40].row)->pin[pin[40].index], 41);
    pin_drop(h, &pin[40]);
    CHECK_EQ(kv_row_at(h, pin[40].row)->pin[pin[40].index], 0);
    OK(pin_take(&op, &pin[40], fold_row)); /* the one free place */
    for (uint32_t i = 0; i < n; i++)
        pin_drop(h, &pin[i]);
    for (uint32_t r = 0; r < h->own->rows; r++)
        CHECK_EQ(h->own->row[r].pins, 0);
    free(pin);
    row_release_all(h); /* all of them go back */
    for (uint32_t r = 0; r < h->g.rows; r++)
        CHECK_EQ(kv_row_at(h, r)->number, 0);
    OK(store_enter(&op));
    end();
}

/* All rows of a dead process are folded, with what was pinned by each. */
static void test_dead_with_rows(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin), mine = kv_op_make(h);
    struct kv_pin pin[70];
    for (unsigned i = 0; i < 70; i++) {
        OK(pin_take(&op, &pin[i], fold_row));
        pin_aim(twin, &pin[i], base_ref(h, 20));
    }
    CHECK_EQ(twin->own->rows, 3);
    CHECK(arena_pinned(h, 20, 1));
    world_abandon(twin);
    uint32_t folded;
    OK(fold_all(&mine, &folded));
    CHECK_EQ(folded, 3);
    CHECK(!arena_pinned(h, 20, 1));
    for (unsigned i = 0; i < 70; i++)
        CHECK_EQ(kv_row_at(h, pin[i].row)->number, 0);
    end();
}

/* ---- fork --------------------------------------------------------------------------------- */

#if !KV_TSAN
struct stage {
    uint32_t parent, child; /* their numbers, once they have one */
    uint32_t go;
    int32_t child_pid;
};

static bool has_child(void *arg) { return kv_load_acq(&((struct stage *)arg)->child_pid) != 0; }
static bool child_worked(void *arg) { return kv_load_acq(&((struct stage *)arg)->child) != 0; }
static bool may_go(void *arg) { return kv_load_acq(&((struct stage *)arg)->go) != 0; }
static bool parent_dead(void *arg) { return !row_alive(h, *(uint32_t *)arg); }

/* Inherits the mapping and lives on; its own number comes with its first operation. */
_Noreturn static void child_lives(struct kv_handle *mine, struct stage *stage) {
    kv_store_rel(&stage->child_pid, getpid());
    world_await(may_go, stage);
    OK(item_set(mine, 2, 1, 100));
    OK(item_get(mine, 1, NULL, NULL));
    kv_store_rel(&stage->child, kv_number(mine));
    kv_store_rel(&stage->go, 0u);
    world_await(may_go, stage);
    store_detach(mine);
    _exit(0);
}

_Noreturn static void parent_forks(const char *name, struct stage *stage) {
    struct kv_handle *mine;
    struct kv_found found;
    bool created;
    CHECK_EQ(prctl(PR_SET_PDEATHSIG, SIGKILL), 0); /* should the test fail meanwhile */
    OK(world_attach(name, NULL, false, &mine, &created, &found));
    OK(item_set(mine, 1, 1, 100));
    struct kv_op op = kv_op_make(mine);
    OK(lock_take(&op, &stripe_at(mine, 0)->lock));
    stage->parent = kv_number(mine);
    if (fork() == 0)
        child_lives(mine, stage);
    world_await(has_child, stage);
    for (;;)
        (void)pause();
}

/* The child of the dead has the mapping still: its parent is dead all the same, at once. */
static void test_fork(void) {
    struct stage *stage =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const char *name = world_name();
    struct kv_config config = world_config(KV_SIZE_MIN, KV_SIZE_MIN, 0, 2);
    struct kv_found found;
    bool created;
    CHECK(stage != MAP_FAILED);
    OK(world_attach(name, &config, false, &h, &created, &found));
    pid_t parent = fork();
    if (parent == 0)
        parent_forks(name, stage);
    world_await(has_child, stage);
    CHECK(row_alive(h, stage->parent));
    CHECK_EQ(kill(parent, SIGKILL), 0);
    world_await(parent_dead, &stage->parent); /* a zombie still */
    CHECK_EQ(waitpid(parent, NULL, 0), parent);
    struct kv_op op = kv_op_make(h);
    OK(table_lock(&op, 0));
    table_unlock(h, 0);
    CHECK_EQ(op.dead, stage->parent);
    store_leave(&op);
    kv_store_rel(&stage->go, 1u);
    world_await(child_worked, stage);
    CHECK(stage->child != stage->parent && row_alive(h, stage->child));
    OK(item_get(h, 2, NULL, NULL));
    uint32_t number = stage->child;
    CHECK_EQ(kill(stage->child_pid, SIGKILL), 0);
    world_await(parent_dead, &number);
    CHECK_EQ(shm_unlink(name), 0);
    (void)munmap(stage, 4096);
    end();
}
#endif

static const struct kv_test tests[] = {
    {"locks_word", test_word},
    {"locks_busy", test_busy},
    {"locks_one_deadline", test_one_deadline},
    {"locks_take_over", test_take_over},
    {"locks_death_of_a_waited_for", test_death_of_a_waited_for},
    {"locks_exclusion", test_exclusion},
    {"locks_woken", test_woken},
    {"locks_bit_is_handed_on", test_bit_is_handed_on},
    {"locks_interrupted", test_interrupted},
    {"locks_rows_exhausted", test_rows_exhausted},
    {"locks_numbers_wrap", test_numbers_wrap},
    {"locks_next_tenant", test_next_tenant},
    {"locks_reservations", test_reservations},
    {"locks_pins_take_rows", test_pins_take_rows},
    {"locks_dead_with_rows", test_dead_with_rows},
#if !KV_TSAN
    {"locks_fork", test_fork},
#endif
};
KV_TEST_MAIN(tests)
