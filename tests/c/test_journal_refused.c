/* test_journal_refused.c: a journal that is asked for what cannot be.
 *
 * Directories that are none or were exchanged; files that are gone, cut, or another store's; locks
 * that somebody keeps, and dead ones that kept them; a store that was removed; numbers that are at
 * their end; items that are damaged. Each is told by its status and errno, nothing is held
 * afterwards, and what can go on goes on: the judge of journal_world.h says so. */
#include "journal_world.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>

#include "journal_file.h"

#define BRIEFLY 3000000u /* a time limit */

static void refused(struct kv_handle *as, int error) {
    struct kv_round round;
    struct kv_op op = kv_op_make(as);
    CHECK_STATUS(journal_round(&op, true, &round), KV_PERSIST);
    CHECK_EQ(op.err, error);
    store_leave(&op);
}

static kv_status begin_at(struct kv_handle *as, uint64_t generation, int *error) {
    struct kv_op op = kv_op_make(as);
    kv_status s = journal_begin(&op, generation, KV_PREVIOUS_NONE);
    *error = op.err;
    store_leave(&op);
    return s;
}

static struct kv_journal *journal_in(struct kv_handle *as) { return &kv_header_of(as)->journal; }

/* Somebody closes what is not theirs, and opens something else. */
static int exchange(int fd) {
    int other = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(other >= 0);
    CHECK_EQ(dup2(other, fd), fd);
    CHECK_EQ(close(other), 0);
    return fd;
}

/* ---- directories -------------------------------------------------------------------------- */

static void test_directories(void) {
    begin(0);
    int error;
    struct kv_handle *twin = world_twin(h);
    CHECK_STATUS(journal_open(h, folder.fd), KV_EXISTS);
    errno = 0;
    CHECK_STATUS(journal_open(twin, -1), KV_OS);
    CHECK_EQ(errno, EBADF);
    CHECK(twin->log == NULL);
    CHECK_STATUS(lead(twin, true, NULL), KV_PERSIST);
    CHECK_STATUS(rotate(twin), KV_PERSIST);
    CHECK_STATUS(begin_at(twin, 5, &error), KV_PERSIST);
    OK(journal_open(twin, folder.fd));
    int fd = exchange(twin->log->dir.fd);
    refused(twin, EBADF);
    CHECK_STATUS(begin_at(twin, 5, &error), KV_PERSIST);
    CHECK_EQ(error, EBADF);
    store_detach(twin);
    CHECK(fcntl(fd, F_GETFD) >= 0); /* it was not ours to close */
    CHECK_EQ(close(fd), 0);
    fill(1);
    comes_back(ITEMS);
    end();
}

static void test_nothing_begun(void) {
    memset(&disk, 0, sizeof disk);
    int error;
    h = world_open_named(4 * KV_SIZE_MIN, KV_OPT_JOURNAL);
    folder = folder_make();
    OK(journal_open(h, folder.fd));
    refused(h, ENOENT);
    CHECK_STATUS(rotate(h), KV_PERSIST);
    CHECK_STATUS(begin_at(h, (UINT64_MAX >> KV_PLACE_SHIFT) + 1, &error), KV_PERSIST);
    CHECK_EQ(error, EOVERFLOW);
    OK(begin_at(h, 1, &error));
    fill(1);
    comes_back(ITEMS);
    end();
}

/* ---- files -------------------------------------------------------------------------------- */

static void change(uint32_t at) {
    unsigned char byte;
    CHECK_EQ(pread(h->log->file.fd, &byte, 1, at), 1);
    byte ^= 1;
    CHECK_EQ(pwrite(h->log->file.fd, &byte, 1, at), 1);
}

/* Whoever opens it looks whether it is the journal of this store: its head and BEGIN. */
static void test_other_files(void) {
    static const uint32_t places[] = {0, 24, 32 + 4, 64, 64 + 24};
    struct stat st;
    begin(0);
    fill(1);
    OK(lead(h, true, NULL));
    struct kv_handle *twin = leader();
    for (uint32_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        (void)snprintf(kv_test_where, sizeof kv_test_where, "byte %u", places[i]);
        change(places[i]);
        refused(twin, EINVAL);
        change(places[i]);
    }
    CHECK_EQ(fstat(h->log->file.fd, &st), 0);
    CHECK_EQ(ftruncate(h->log->file.fd, 40), 0);
    refused(twin, EINVAL);
    refused(h, ENODATA); /* what counted is gone */
    CHECK(state().broken);
    OK(rotate(h));
    store_detach(twin);
    end();
}

/* The file is removed: who has it open writes on, who comes then says that it is gone. */
static void test_removed_file(void) {
    char name[32];
    begin(0);
    fill(1);
    struct kv_handle *twin = leader();
    journal_name(name, 1);
    CHECK_EQ(unlinkat(folder.fd, name, 0), 0);
    OK(lead(h, true, NULL));
    refused(twin, ENOENT);
    CHECK(state().broken);
    OK(rotate(twin));
    CHECK(!state().broken);
    CHECK_EQ(state().generation, 2);
    OK(lead(h, true, NULL));
    store_detach(twin);
    end();
}

/* Descriptors that others have closed, or exchanged: the file is opened again. */
static void test_lost_descriptor(void) {
    begin(0);
    fill(1);
    OK(lead(h, true, NULL));
    CHECK_EQ(close(h->log->file.fd), 0);
    fill(2);
    comes_back(ITEMS);
    int fd = exchange(h->log->file.fd);
    fill(3);
    comes_back(ITEMS);
    CHECK(h->log->file.fd != fd);
    CHECK_EQ(close(fd), 0);
    end();
}

/* A file that is long enough is the last of its generation, however much of it counts. */
static void test_long_file(void) {
    begin(0);
    struct journal j;
    uint64_t bytes = KV_PLACE_BYTES / 2 + 1, place = 1ULL << KV_PLACE_SHIFT | bytes;
    fill(1);
    OK(lead(h, true, NULL));
    if (ftruncate(h->log->file.fd, (off_t)bytes) != 0) { /* a hole: it needs no room */
        kv_test_not_run("the file system knows no files of half a terabyte");
        end();
        return;
    }
    kv_store_rel(&journal_in(h)->place, place);
    fill(2);
    OK(lead(h, true, NULL));
    CHECK_EQ(state().generation, 2);
    CHECK(journal_read(&folder, 2, &j));
    CHECK(j.previous == place);
    free(j.bytes);
    end();
}

/* A torn tail that cannot be synced is left where it is: the next round tries again. */
static void test_torn_tail_not_synced(void) {
    begin(KV_OPT_ALWAYS);
    fill(1);
    CHECK(leader_dies(true, 1, false));
    disk.nth[DISK_DATASYNC] = 1;
    refused(h, EIO);
    CHECK_EQ(state().generation, 1);
    comes_back(ITEMS);
    CHECK_EQ(state().generation, 2);
    end();
}

/* The system is interrupted, or writes nothing at all and does not say why. */
static void test_interrupted_calls(void) {
    begin(0);
    fill(1);
    disk.error = EINTR;
    disk.nth[DISK_WRITE] = disk.nth[DISK_DATASYNC] = 1;
    OK(lead(h, true, NULL));
    CHECK_EQ(disk.done, 2);
    fill(2);
    disk.error = 0;
    disk.nth[DISK_WRITE] = 1;
    refused(h, ENOSPC);
    comes_back(ITEMS);
    end();
}

/* ---- locks -------------------------------------------------------------------------------- */

/* The journal's lock is kept by somebody: who leads says Busy, who only looks goes on. */
static void test_kept_lock(void) {
    begin(0);
    int error;
    struct kv_handle *twin = world_twin(h);
    struct kv_op keeper = kv_op_make(twin), op = kv_op_make(h);
    fill(1);
    OK(lock_take(&keeper, &journal_in(h)->lock));
    h->lock_timeout_ns = BRIEFLY;
    CHECK_STATUS(lead(h, true, NULL), KV_BUSY);
    CHECK_STATUS(rotate(h), KV_BUSY);
    CHECK_STATUS(begin_at(h, 2, &error), KV_BUSY);
    OK(journal_settle(&op));
    CHECK_EQ(op.dead, 0);
    lock_give(&journal_in(h)->lock);
    comes_back(ITEMS);
    store_detach(twin);
    end();
}

/* It died: everybody who looks names it, and who leads takes over. */
static void test_dead_keeper(void) {
    begin(0);
    struct kv_handle *twin = world_twin(h), *follower = world_twin(h);
    struct kv_op keeper = kv_op_make(twin), op = kv_op_make(h), waits = kv_op_make(follower);
    uint32_t number = kv_number(twin);
    fill(1);
    OK(lock_take(&keeper, &journal_in(h)->lock));
    world_abandon(twin);
    OK(journal_settle(&op));
    CHECK_EQ(op.dead, number);
    OK(journal_make_room(&waits)); /* it may not lead: a nap */
    CHECK_EQ(waits.dead, number);
    store_leave(&waits);
    store_leave(&op);
    comes_back(ITEMS);
    store_detach(follower);
    end();
}

/* A dead one kept a stripe: its marks are said, and said again when it is folded. */
static void test_dead_holder(void) {
    begin(0);
    unsigned char room[32];
    struct kv_handle *twin = world_twin(h);
    struct kv_op holder = kv_op_make(twin);
    fill(1);
    OK(table_lock(&holder, stripe_of(h, item_key_of(h, 5, room).home)));
    world_abandon(twin);
    OK(lead(h, true, NULL));
    comes_back_from(&folder, ITEMS);
    (void)world_settle(h);
    comes_back(ITEMS);
    end();
}

/* Who may not lead gives up at the time limit; an always-journal promises nothing then. */
static void test_follower_in_vain(void) {
    begin(KV_OPT_ALWAYS);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    kv_status s = KV_OK;
    twin->lock_timeout_ns = BRIEFLY;
    for (uint32_t i = 0; s == KV_OK && i < 1000; i++)
        s = journal_make_room(&op);
    CHECK_STATUS(s, KV_PERSIST);
    CHECK(!state().broken);
    store_leave(&op);
    store_detach(twin);
    end();
}

/* An always-journal, whose leader died: who waits for a round takes its lock over. One that may not
 * lead waits in vain. What was in time counts although the time is over. */
static void test_settled(void) {
    begin(KV_OPT_ALWAYS);
    struct kv_handle *twin = world_twin(h), *follower = world_twin(h);
    struct kv_op keeper = kv_op_make(twin), op = kv_op_make(h), waits = kv_op_make(follower);
    fill(1);
    OK(lock_take(&keeper, &journal_in(h)->lock));
    world_abandon(twin);
    op.marked = waits.marked = true;
    follower->lock_timeout_ns = BRIEFLY;
    CHECK_STATUS(journal_settle(&waits), KV_PERSIST);
    OK(journal_settle(&op));
    CHECK(!op.marked);
    CHECK_EQ(state().marks, 0);
    store_leave(&op);
    fill(2);
    op = kv_op_make(h);
    op.marked = true;
    op.deadline_ns = 1;
    OK(journal_settle(&op));
    kv_store_rel(&journal_in(h)->broken, 1u); /* somebody found that its file is gone */
    op = kv_op_make(h);
    op.marked = true;
    h->lock_timeout_ns = BRIEFLY;
    CHECK_STATUS(journal_settle(&op), KV_PERSIST);
    store_leave(&op);
    store_leave(&waits);
    store_detach(follower);
    OK(rotate(h));
    end();
}

/* ---- signals ------------------------------------------------------------------------------ */

static void on_alarm(int number) { (void)number; }

static void alarms(bool on) {
    struct sigaction what = {.sa_handler = on_alarm}; /* calls do not begin again */
    struct itimerval often = {{0, on ? 500 : 0}, {0, on ? 500 : 0}};
    if (on)
        CHECK_EQ(sigaction(SIGALRM, &what, NULL), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
}

/* Nobody wants a round, a leader does not move: signals end the waiting for those who asked for
 * that, and nothing for others. */
static void test_signals(void) {
    begin(0);
    struct kv_handle *twin = world_twin(h), *follower = world_twin(h);
    struct kv_op keeper = kv_op_make(twin), op = kv_op_make(h), waits = kv_op_make(follower);
    OK(journal_listen(&op, 1000)); /* it wakes up by itself */
    OK(lock_take(&keeper, &journal_in(h)->lock));
    alarms(true);
    uint64_t begun = kv_clock_ns();
    h->interruptible = false;
    OK(journal_listen(&op, 60000000000u));
    h->interruptible = true;
    CHECK_STATUS(journal_listen(&op, 60000000000u), KV_INTR);
    CHECK(kv_clock_ns() - begun < 60000000000u);
    CHECK_STATUS(journal_make_room(&op), KV_INTR);
    for (uint32_t i = 0; i < 10; i++)
        OK(journal_make_room(&waits));
    alarms(false);
    lock_give(&journal_in(h)->lock);
    store_leave(&waits);
    store_detach(follower);
    store_detach(twin);
    h->interruptible = false;
    end();
}

/* ---- places ------------------------------------------------------------------------------- */

static uint64_t crowded(uint64_t n) { return n << 44; } /* all want the same places */

static void crowd(void) {
    kv_status s = KV_OK;
    for (uint64_t n = 100; s == KV_OK; n++) {
        struct kv_op op = kv_op_make(h);
        s = journal_mark_dirty(&op, crowded(n));
    }
    CHECK_STATUS(s, KV_UNMARKED);
}

/* No place for a mark is free: the operation makes room; where it cannot, nothing has changed. */
static kv_status change_crowded(struct kv_handle *as, uint32_t what) {
    unsigned char room[16];
    struct kv_key key = key_of_hash(h, crowded(1), 1, room);
    struct kv_op op = kv_op_make(as);
    struct kv_clear clear = {0};
    int64_t initial = 1, result;
    kv_status s = what == 0   ? store_incr(&op, &key, 1, &initial, 0, &result)
                  : what == 1 ? store_touch(&op, &key, kv_clock_ms() + 3600000)
                  : what == 2 ? store_delete(&op, &key, NULL)
                              : store_clear(&op, &clear);
    op.marked = op.overdue = false;
    store_leave(&op);
    return s;
}

static void test_crowded(void) {
    begin(KV_OPT_ALWAYS);
    struct kv_handle *follower = world_twin(h);
    follower->lock_timeout_ns = BRIEFLY;
    for (uint32_t what = 0; what < 4; what++) {
        OK(change_crowded(h, 0)); /* it is there */
        OK(lead(h, true, NULL));
        crowd();
        uint64_t before = store_len(h);
        CHECK_STATUS(change_crowded(follower, what), KV_PERSIST);
        CHECK_EQ(store_len(h), before);
        OK(change_crowded(h, what));
    }
    comes_back(0);
    store_detach(follower);
    end();
}

/* ---- healing ------------------------------------------------------------------------------ */

static void break_it(uint32_t stamp) {
    fill(stamp);
    disk.nth[DISK_DATASYNC] = 1;
    refused(h, EIO);
    CHECK(state().broken);
}

/* What stands in the way of a new generation: no file, or a stripe that somebody keeps. The next
 * call goes on where this one ended. */
static void test_healing(void) {
    begin(0);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    break_it(1);
    struct kv_op looks = kv_op_make(h);
    OK(journal_settle(&looks)); /* broken: nobody leads */
    disk.nth[DISK_OPEN] = 1;
    CHECK_STATUS(rotate(h), KV_PERSIST);
    CHECK(state().broken);
    OK(table_lock(&op, h->g.stripes - 1));
    h->lock_timeout_ns = BRIEFLY;
    CHECK_STATUS(rotate(h), KV_BUSY);
    CHECK(!state().broken && state().unsaved);
    table_unlock(twin, h->g.stripes - 1);
    h->lock_timeout_ns = 5000000000u;
    OK(rotate(h));
    CHECK_EQ(state().generation, 2);
    journal_saved(h, 1); /* of the one before */
    CHECK(state().unsaved);
    journal_saved(h, 2);
    CHECK(!state().unsaved);
    OK(lead(h, true, NULL));
    store_detach(twin);
    end();
}

/* A store that was removed writes no more: another one may have the directory by now. */
static void test_removed_store(void) {
    begin(0);
    fill(1);
    CHECK_EQ(shm_unlink(h->name), 0);
    refused(h, ESTALE);
    CHECK_STATUS(rotate(h), KV_PERSIST);
    CHECK_EQ(state().generation, 1);
    end();
}

/* ---- items -------------------------------------------------------------------------------- */

/* What is damaged stays marked, the others are said. */
static void test_damaged_item(void) {
    begin(0);
    struct kv_round round;
    struct kv_slot slot;
    unsigned char room[32];
    struct kv_key key = item_key_of(h, 1, room);
    OK(item_set(h, 1, 1, 100));
    OK(item_set(h, 2, 1, 100));
    OK(table_find(h, stripe_of(h, key.home), &key, &slot));
    struct kv_item *item = (struct kv_item *)(void *)arena_at(h, slot.ref);
    item->type = KV_TYPE_BOOL; /* of more than one byte */
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, 1);
    CHECK_EQ(state().marks, 1);
    item->type = KV_TYPE_BYTES;
    slot.bucket->ref[slot.index] = UINT32_MAX;
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, 0);
    slot.bucket->ref[slot.index] = slot.ref;
    uint32_t *dir = directory_at(h, stripe_of(h, key.home)), word = dir[0];
    for (uint32_t i = 0; i < 1u << h->g.dir_bits; i++)
        dir[i] = UINT32_MAX;
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, 0);
    for (uint32_t i = 0; i < 1u << h->g.dir_bits; i++)
        dir[i] = word;
    comes_back(3);
    end();
}

/* Longer than the buffer, behind short ones: what is there goes first, the buffer grows, and is
 * given back. Where the disk refuses on the way all of it is said again. */
static void test_long_items(void) {
    begin(0);
    store_detach(h);
    h = world_open_named(64 << 20, KV_OPT_JOURNAL);
    OK(journal_open(h, folder.fd));
    int error;
    unsigned n = 0;
    OK(begin_at(h, 2, &error));
    do {
        for (uint32_t id = 0; id < 40; id++)
            OK(item_set(h, id, n, id == 20 ? 5 << 20 : id % 7 == 0 ? 200000 : 100));
        disk.done = 0;
        disk.nth[DISK_WRITE] = ++n;
        kv_status s = lead(h, true, NULL);
        CHECK_STATUS(s, disk.done > 0 ? KV_PERSIST : KV_OK);
        CHECK(s != KV_OK || (h->log->bytes == NULL && h->log->room == 0));
    } while (disk.done > 0 && n < 50);
    CHECK(n > 6 && disk.done == 0);
    disk.nth[DISK_WRITE] = 0;
    struct kv_handle *again = world_open(64 << 20, 0);
    folder_replay(&folder, again);
    compare(again, 40);
    store_detach(again);
    end();
}

static const struct kv_test tests[] = {
    {"refused_directories", test_directories},
    {"refused_nothing_begun", test_nothing_begun},
    {"refused_other_files", test_other_files},
    {"refused_removed_file", test_removed_file},
    {"refused_lost_descriptor", test_lost_descriptor},
    {"refused_long_file", test_long_file},
    {"refused_torn_tail_not_synced", test_torn_tail_not_synced},
    {"refused_interrupted_calls", test_interrupted_calls},
    {"refused_kept_lock", test_kept_lock},
    {"refused_dead_keeper", test_dead_keeper},
    {"refused_dead_holder", test_dead_holder},
    {"refused_follower_in_vain", test_follower_in_vain},
    {"refused_settled", test_settled},
    {"refused_signals", test_signals},
    {"refused_crowded", test_crowded},
    {"refused_healing", test_healing},
    {"refused_removed_store", test_removed_store},
    {"refused_damaged_item", test_damaged_item},
    {"refused_long_items", test_long_items},
};
KV_TEST_MAIN(tests)
