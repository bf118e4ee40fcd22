/* test_journal.c: marks, rounds and files of the journal, step by step in one process.
 *
 * Twins stand for other processes: one that writes while a round is between two steps, one that
 * holds a stripe and sleeps, one that dies as a leader (the call to write does not return). With
 * fault points a real child is forked while its parent takes to another file. The disk
 * (journal_disk.h) fails at the n-th call for every n, writes half, and loses at a power cut what
 * was not synced. The judge: what the files say, replayed, is what the world holds. */
#include "journal_world.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define MANY 300u /* of the long walk */

static uint32_t stripe_of_id(uint32_t id) {
    unsigned char room[32];
    return stripe_of(h, item_key_of(h, id, room).home);
}

/* ---- marks -------------------------------------------------------------------------------- */

static struct kv_handle *meanwhile;
static uint32_t times;

static void write_meanwhile(void) {
    if (times++ == 0)
        OK(item_set(meanwhile, 1, 2, 200));
}

/* A write while its mark is in flight makes it dirty again: the round after logs the new value. */
static void test_in_flight(void) {
    begin(0);
    struct kv_round round;
    meanwhile = world_twin(h);
    times = 0;
    OK(item_set(h, 1, 1, 100));
    OK(item_set(h, 2, 1, 100));
    disk.before = write_meanwhile;
    OK(lead(h, true, &round));
    disk.before = NULL;
    CHECK_EQ(round.entries, 2);
    CHECK_EQ(state().marks, 1);
    struct kv_handle *again = world_open(4 * KV_SIZE_MIN, 0);
    uint32_t stamp;
    folder_replay(&folder, again);
    OK(item_get(again, 1, &stamp, NULL));
    CHECK_EQ(stamp, 1); /* it had been read before */
    store_detach(again);
    OK(lead(h, false, &round));
    CHECK_EQ(round.entries, 1);
    comes_back(4);
    OK(lead(h, false, &round));
    CHECK_EQ(round.entries, 0);
    store_detach(meanwhile);
    end();
}

/* One key many times: one mark, one entry. */
static void test_once(void) {
    begin(0);
    struct kv_round round;
    for (uint32_t i = 0; i < 1000; i++)
        OK(item_set(h, 7, i, 50));
    CHECK_EQ(state().marks, 1);
    OK(lead(h, false, &round));
    CHECK_EQ(round.entries, 1);
    comes_back(8);
    end();
}

/* Whoever holds a stripe and does not move: its marks are logged and stay dirty, nobody waits. */
static void test_stopped_holder(void) {
    begin(0);
    struct kv_handle *twin = world_twin(h);
    struct kv_round round;
    uint32_t held = stripe_of_id(0), stuck = 0;
    for (uint32_t id = 0; id < ITEMS; id++) {
        OK(item_set(h, id, 1, 100));
        stuck += stripe_of_id(id) == held;
    }
    struct kv_op op = kv_op_make(twin);
    OK(table_lock(&op, held));
    h->lock_timeout_ns = 60000000000u;
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t begun = kv_clock_ns();
        OK(lead(h, true, &round));
        CHECK_EQ(round.entries, i == 0 ? ITEMS : stuck);
        CHECK_EQ(state().marks, stuck);
        CHECK(kv_clock_ns() - begun < 30000000000u); /* who waited would wait for a minute */
        comes_back_from(&folder, 0);
    }
    h->lock_timeout_ns = 5000000000u;
    table_unlock(twin, held);
    comes_back(ITEMS);
    store_detach(twin);
    end();
}

/* The n-th hash whose mark may take the places from `first` on. */
static uint64_t crowded(uint32_t first, uint64_t n) { return n << 44 | (uint64_t)first << 22; }

/* No place is free: the write is told, a round makes room. At the end of the table, too, where the
 * places go on at its beginning. */
static void test_full(void) {
    begin(0);
    uint32_t words = h->g.words;
    const uint32_t firsts[] = {0, 64, words - 8, words - 24};
    unsigned char room[16];
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t n = 1;
        OK(lead(h, false, NULL));
        struct kv_op op = kv_op_make(h);
        kv_status s = KV_OK;
        for (; n <= 100 && s == KV_OK; n += s == KV_OK) {
            struct kv_op lock = kv_op_make(h);
            uint32_t stripe = stripe_of(h, crowded(firsts[i], n));
            OK(table_lock(&lock, stripe));
            s = journal_mark_dirty(&op, crowded(firsts[i], n));
            table_unlock(h, stripe);
        }
        CHECK_STATUS(s, KV_UNMARKED);
        CHECK_EQ(n - 1, 32);
        CHECK_EQ(state().marks, 32);
        OK(journal_make_room(&op));
        CHECK_EQ(state().marks, 0);
        struct kv_value value = {.type = KV_TYPE_BYTES, .data = "value", .len = 5};
        for (n = 1; n <= 100; n++) { /* the operation makes its own */
            struct kv_key key = key_of_hash(h, crowded(firsts[i], n), 1, room);
            struct kv_op put = kv_op_make(h);
            OK(store_put(&put, &key, &value, 0, KV_PUT_SET, NULL));
            store_leave(&put);
        }
        CHECK(state().started >= 3 * (i + 1));
    }
    comes_back(0);
    end();
}

/* Who may not lead waits until the time limit, and then does not wait for the disk any more. */
static void test_broken_by_a_follower(void) {
    begin(0);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    twin->lock_timeout_ns = 3000000;
    for (uint32_t i = 0; !state().broken && i < 1000; i++)
        OK(journal_make_room(&op));
    CHECK(state().broken);
    CHECK(op.deadline_ns <= kv_clock_ns());
    OK(item_set(h, 1, 1, 100));
    CHECK_EQ(state().marks, 0);
    CHECK_STATUS(lead(h, true, NULL), KV_PERSIST);
    OK(rotate(h));
    CHECK(!state().broken);
    OK(item_set(h, 2, 1, 100));
    CHECK_EQ(state().marks, 1);
    OK(lead(h, true, NULL));
    store_detach(twin);
    end();
}

/* ---- classes ------------------------------------------------------------------------------ */

static uint8_t last_count(void) {
    uint64_t size, at = 32;
    struct journal j;
    struct blocks b = {0};
    uint8_t count = 255;
    CHECK(journal_read(&folder, 1, &j));
    while (block_read(&j, &at, &b))
        if (b.kind == KV_BLOCK_ROUND)
            count = b.payload[8];
    size = j.size;
    CHECK_EQ(at, size);
    free(j.bytes);
    return count;
}

/* Keys whose hashes differ in two bits that address nothing share a mark; an entry tells what of
 * them exists: what it does not name goes. */
static void test_class(void) {
    begin(0);
    struct kv_handle *again = world_open(4 * KV_SIZE_MIN, 0);
    uint64_t hash = 0x123456789ABCDEF0u & ~KV_MARK_BITS;
    struct kv_value value = {.type = KV_TYPE_BYTES, .data = "value", .len = 5};
    unsigned char room[4][16];
    struct kv_key key[4];
    for (uint64_t i = 0; i < 4; i++)
        key[i] = key_of_hash(h, hash | i << 20, i, room[i]);
    for (uint32_t turn = 0; turn < 32; turn++) {
        uint32_t now = (turn ^ turn >> 1) & 15; /* each set of the four, one change at a time */
        uint32_t n = 0;
        struct kv_round round;
        for (uint32_t i = 0; i < 4; i++) {
            struct kv_op op = kv_op_make(h);
            if (now >> i & 1)
                OK(store_put(&op, &key[i], &value, 0, KV_PUT_SET, NULL));
            else
                (void)store_delete(&op, &key[i], NULL);
            n += now >> i & 1;
            store_leave(&op);
        }
        OK(lead(h, false, &round));
        CHECK_EQ(round.entries, turn > 0 || n > 0);
        if (round.entries > 0)
            CHECK_EQ(last_count(), n);
        folder_replay(&folder, again);
        CHECK_EQ(store_len(again), n);
        for (uint32_t i = 0; i < 4; i++) {
            struct kv_op op = kv_op_make(again);
            struct kv_meta meta;
            CHECK_STATUS(store_peek(&op, &key[i], &meta), now >> i & 1 ? KV_OK : KV_MISS);
        }
    }
    store_detach(again);
    end();
}

/* ---- deaths ------------------------------------------------------------------------------- */

/* Marks in flight of a dead leader are taken again; a torn tail is left behind. */
static void test_dead_leader(void) {
    for (uint32_t kind = 0; kind < 4; kind++) {
        begin(0);
        unsigned n = 1, deaths = 0;
        for (bool died = true; died; n++) {
            (void)snprintf(kv_test_where, sizeof kv_test_where, "kind %u, write %u", kind, n);
            fill(n);
            died = leader_dies(kind & 1, n, kind & 2);
            deaths += died;
            CHECK(!died || state().marks >= ITEMS);
            comes_back(ITEMS);
        }
        CHECK(deaths >= 2);
        end();
    }
}

#if KV_FAULT
static pid_t child;
static int gate[2];

/* Another thread of the parent forks here: the child goes on when the parent is done. */
static void fork_there(const char *name, void *arg) {
    (void)arg;
    if (strcmp(name, "journal_used") != 0)
        return;
    kv_fault_hook(NULL, NULL); /* once, and never in the child */
    fflush(NULL);
    child = fork();
    if (child == 0)
        longjmp(dead, 1);
}

static _Noreturn void live_as_child(void) {
    char word;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK_EQ(close(gate[1]), 0); /* a parent that ends is no word */
    CHECK_EQ(read(gate[0], &word, 1), 1);
    OK(item_set(h, 1, 99, 50));
    OK(lead(h, true, NULL));
    _exit(0);
}

/* A process is forked while it begins, or opens, another file: what the child writes counts. */
static void fork_in(kv_status (*act)(struct kv_handle *)) {
    int status;
    child = 0;
    CHECK_EQ(pipe(gate), 0);
    kv_fault_hook(fork_there, NULL);
    if (setjmp(dead) != 0)
        live_as_child();
    kv_fault_arm(0, KV_FAULT_CALL); /* at every visit */
    OK(act(h));
    CHECK(child > 0);
    CHECK_EQ(write(gate[1], "", 1), 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    uint32_t stamp;
    OK(item_get(h, 1, &stamp, NULL));
    CHECK_EQ(stamp, 99);
    comes_back_from(&folder, ITEMS);
    comes_back(ITEMS);
    CHECK_EQ(close(gate[0]) | close(gate[1]), 0);
}

static kv_status lead_once(struct kv_handle *as) { return lead(as, true, NULL); }

static void test_fork(void) {
    begin(0);
    fill(1);
    OK(lead(h, true, NULL));
    fork_in(rotate);
    struct kv_handle *twin = leader();
    OK(rotate(twin)); /* our file is no longer the present one */
    store_detach(twin);
    fill(2);
    fork_in(lead_once);
    end();
}
#endif

/* ---- a disk that fails -------------------------------------------------------------------- */

/* What is on disk is the state of the last sync that did not fail, and nothing is lost but time. */
static void fail_one(enum disk_call call, unsigned n, bool next, bool brief, int error) {
    struct kv_handle *twin = leader();
    fill(n);
    disk.nth[call] = n;
    disk.brief = brief;
    disk.error = error;
    disk.done = 0;
    kv_status s = next ? rotate(twin) : lead(twin, true, NULL);
    memset(disk.nth, 0, sizeof disk.nth);
    if (brief || disk.done == 0) {
        OK(s);
    } else if (s != KV_OK) {
        CHECK_STATUS(s, KV_PERSIST);
        CHECK_EQ(state().marks, ITEMS);
    }
    store_detach(twin);
    disk.brief = false;
}

static unsigned failing(uint32_t options, enum disk_call call, bool next, bool brief, int error) {
    begin(options);
    unsigned n = 0;
    bool more;
    do {
        (void)snprintf(kv_test_where, sizeof kv_test_where, "call %d, number %u, %d%d, error %d",
                       (int)call, n + 1, next, brief, error);
        fail_one(call, ++n, next, brief, error);
        more = disk.done > 0;
        if (state().broken) {
            CHECK(!(options & KV_OPT_ALWAYS));
            CHECK(call == DISK_DATASYNC);
            CHECK_STATUS(lead(h, true, NULL), KV_PERSIST);
            OK(rotate(h)); /* what comes back needs a snapshot: begin anew */
            OK(lead(h, true, NULL));
            end();
            begin(options);
            fill(n);
        }
        comes_back(ITEMS);
    } while (more && n < 200);
    end();
    return n - 1;
}

static void test_failing_calls(void) {
    for (uint32_t options = 0; options <= KV_OPT_ALWAYS; options += KV_OPT_ALWAYS) {
        CHECK(failing(options, DISK_WRITE, false, false, ENOSPC) >= 5);
        CHECK(failing(options, DISK_WRITE, true, false, EIO) >= 2);
        CHECK(failing(options, DISK_DATASYNC, false, false, EIO) >= 1);
        CHECK(failing(options, DISK_DATASYNC, true, false, EIO) >= 1);
        CHECK(failing(options, DISK_SYNC, true, false, EIO) >= 2);
        CHECK(failing(options, DISK_OPEN, true, false, ENOSPC) >= 1);
        CHECK(failing(options, DISK_OPEN, false, false, EMFILE) >= 1);
        CHECK(failing(options, DISK_WRITE, false, true, EIO) >= 5);
        CHECK(failing(options, DISK_WRITE, true, true, EIO) >= 2);
    }
}

/* What a round appended cannot be taken back: its bytes do not count. */
static void test_failing_undo(void) {
    begin(0);
    fill(1);
    OK(lead(h, true, NULL));
    fill(2);
    disk.nth[DISK_WRITE] = 3;
    disk.nth[DISK_TRUNCATE] = 1;
    CHECK_STATUS(lead(h, true, NULL), KV_PERSIST);
    CHECK_EQ(state().generation, 1);
    comes_back(ITEMS);
    CHECK_EQ(state().generation, 2);
    end();
}

/* A sync that failed may have lost what earlier rounds wrote: everysec-journals are broken,
 * whatever asked for it. */
static void test_failing_sync_breaks(void) {
    for (uint32_t next = 0; next < 2; next++) {
        begin(0);
        fill(1);
        OK(lead(h, true, NULL));
        OK(item_set(h, 1, 2, 100));
        OK(lead(h, false, NULL)); /* not synced: half a second has not passed */
        disk.nth[DISK_DATASYNC] = 1;
        CHECK_STATUS(next ? rotate(h) : lead(h, true, NULL), KV_PERSIST);
        CHECK(state().broken);
        OK(rotate(h));
        CHECK(!state().broken);
        struct journal j;
        CHECK(journal_read(&folder, 2, &j));
        CHECK(j.previous == KV_PREVIOUS_ALONE);
        free(j.bytes);
        end();
    }
}

/* Rounds that were not synced yet, then a leader's torn tail: the generation after it must not be
 * on disk without them. */
static void test_torn_tail_over_unsynced(void) {
    begin(0);
    fill(1);
    OK(lead(h, true, NULL));
    fill(2);
    OK(lead(h, false, NULL));
    fill(3);
    CHECK(leader_dies(true, 1, false));
    comes_back(ITEMS);
    CHECK_EQ(state().generation, 2);
    end();
}

/* ---- all of it ---------------------------------------------------------------------------- */

/* One step of the walk; true: all is synced. */
static bool walk(struct chance *c) {
    bool always = h->options & KV_OPT_ALWAYS;
    uint32_t id = chance_below(c, MANY), stamp = chance_below(c, 1u << 20);
    switch (chance_below(c, 40)) {
    case 0:
        OK(lead(h, true, NULL));
        return true;
    case 1:
    case 2:
    case 3:
        OK(lead(h, false, NULL));
        return always;
    case 4:
        OK(rotate(h));
        return false;
    case 5:
        (void)leader_dies(chance_below(c, 2), 1 + chance_below(c, 3), chance_below(c, 4) == 0);
        return false;
    case 6:
        disk.nth[DISK_WRITE] = 1 + chance_below(c, 3);
        disk.nth[DISK_TRUNCATE] = chance_below(c, 2);
        (void)lead(h, false, NULL);
        memset(disk.nth, 0, sizeof disk.nth);
        return false;
    case 7:
    case 8:
        (void)item_delete(h, id);
        return false;
    case 9:
        OK(item_set(h, id % 5, stamp, 250000 + chance_below(c, 50000)));
        return false;
    default:
        OK(item_set(h, id, stamp, chance_size(c, 8, 20000)));
        return false;
    }
}

/* Whatever happened before: when a sync returns, a power cut takes nothing of what was there. */
static void test_power_cuts(void) {
    struct chance c = chance_make(1);
    for (uint64_t world = 0; world < scaled(3); world++) {
        begin(world % 3 == 2 ? KV_OPT_ALWAYS : 0);
        for (uint32_t i = 0; i < 400; i++) {
            if (!walk(&c))
                continue;
            CHECK_EQ(state().broken, 0);
            struct folder cut = folder_after_power_cut(&folder);
            comes_back_from(&cut, MANY);
            folder_end(&cut);
        }
        comes_back(MANY);
        end();
    }
}

static const struct kv_test tests[] = {
    {"in_flight", test_in_flight},
    {"once", test_once},
    {"stopped_holder", test_stopped_holder},
    {"full", test_full},
    {"broken_by_a_follower", test_broken_by_a_follower},
    {"class", test_class},
    {"dead_leader", test_dead_leader},
#if KV_FAULT
    {"fork", test_fork},
#endif
    {"failing_undo", test_failing_undo},
    {"failing_calls", test_failing_calls},
    {"failing_sync_breaks", test_failing_sync_breaks},
    {"torn_tail_over_unsynced", test_torn_tail_over_unsynced},
    {"power_cuts", test_power_cuts},
};
KV_TEST_MAIN(tests)
