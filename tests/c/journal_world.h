/* journal_world.h: a world with a journal, led, left in the middle, and compared with its files.
 *
 * Owns what tests of the journal share: the world `h` and the folder of its files, leaders that die
 * at a write of theirs (the call does not return), and the comparison of what the files say,
 * replayed, with what the world holds. Does not: make the disk fail (journal_disk.h). */
#ifndef KV_JOURNAL_WORLD_H
#define KV_JOURNAL_WORLD_H

#include "journal_disk.h"

#include <setjmp.h>

#define ITEMS 60u
#define AGAIN (8 * KV_SIZE_MIN) /* files may tell of more than there is room for at once */

static struct kv_handle *h;
static struct folder folder;

static inline void begin(uint32_t options) {
    memset(&disk, 0, sizeof disk);
    disk.error = EIO;
    h = world_open_named(4 * KV_SIZE_MIN, KV_OPT_JOURNAL | options);
    folder = folder_make();
    OK(journal_open(h, folder.fd));
    struct kv_op op = kv_op_make(h);
    OK(journal_begin(&op, 1, KV_PREVIOUS_NONE));
}

static inline struct kv_handle *leader(void) {
    struct kv_handle *twin = world_twin(h);
    OK(journal_open(twin, folder.fd));
    return twin;
}

static inline void end(void) {
    folder_end(&folder);
    (void)world_check(h);
    store_detach(h);
}

static inline kv_status lead(struct kv_handle *as, bool sync, struct kv_round *round) {
    struct kv_round own;
    struct kv_op op = kv_op_make(as);
    kv_status s = journal_round(&op, sync, round != NULL ? round : &own);
    store_leave(&op);
    return s;
}

static inline kv_status rotate(struct kv_handle *as) {
    uint64_t generation;
    struct kv_op op = kv_op_make(as);
    kv_status s = journal_next(&op, &generation);
    store_leave(&op);
    return s;
}

static inline struct kv_journal_state state(void) {
    struct kv_journal_state t;
    journal_state(h, &t);
    return t;
}

/* Both hold the same of every id. */
static inline void compare(struct kv_handle *again, uint32_t ids) {
    for (uint32_t id = 0; id < ids; id++) {
        uint32_t stamps[2] = {0, 0};
        uint64_t lens[2] = {0, 0};
        (void)snprintf(kv_test_where, sizeof kv_test_where, "item %u", id);
        CHECK_STATUS(item_get(again, id, &stamps[1], &lens[1]),
                     item_get(h, id, &stamps[0], &lens[0]));
        CHECK_EQ(stamps[1], stamps[0]);
        CHECK_EQ(lens[1], lens[0]);
    }
    CHECK_EQ(store_len(again), store_len(h));
}

static inline void comes_back_from(const struct folder *f, uint32_t ids) {
    struct kv_handle *again = world_open(AGAIN, 0);
    folder_replay(f, again);
    compare(again, ids);
    (void)world_check(again);
    store_detach(again);
}

/* After a sync nothing is left to do, and a power cut takes nothing. */
static inline void comes_back(uint32_t ids) {
    OK(lead(h, true, NULL));
    CHECK_EQ(state().marks, 0);
    comes_back_from(&folder, ids);
    struct folder cut = folder_after_power_cut(&folder);
    comes_back_from(&cut, ids);
    folder_end(&cut);
}

/* ---- leaders that die --------------------------------------------------------------------- */

static jmp_buf dead;
static unsigned left; /* writes until the death */

static inline void die(void) {
    if (left != 0 && --left == 0)
        longjmp(dead, 1);
}

/* A leader dies before or after its n-th write; false: it had fewer. */
static inline bool leader_dies(bool after, unsigned n, bool next) {
    struct kv_handle *twin = leader();
    left = n;
    *(after ? &disk.after : &disk.before) = die;
    bool died = setjmp(dead) != 0;
    if (!died)
        OK(next ? rotate(twin) : lead(twin, true, NULL));
    disk.before = disk.after = NULL;
    if (died)
        world_abandon(twin);
    else
        store_detach(twin);
    return died;
}

static inline void fill(uint32_t stamp) {
    for (uint32_t id = 0; id < ITEMS; id++)
        OK(item_set(h, id, stamp, id % 20 == 3 ? 300000 : 100 + id));
    OK(item_delete(h, stamp % ITEMS));
}

#endif
