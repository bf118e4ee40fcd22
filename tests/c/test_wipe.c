/* test_wipe.c: a clear where items may be evicted: what is on disk only goes, too, and nothing
 * else.
 *
 * Items leave memory as making room lets them, without a word to the journal; most tests do that
 * by hand, one makes room. Then a clear, and rounds that others write beside, that die or fail at
 * every write, that meet a second clear, or damage. The judge (journal_world.h): what the files
 * say, replayed, is what the world holds; at a death or a failure it may be what was there before,
 * never a mixture. */
#include "journal_world.h"

#include <pthread.h>

#define GONE   9000u /* first id of those that are on disk only */
#define FEW    10u
#define MANY   1500u
#define BESIDE 20000u /* first id of what others write meanwhile */

static struct kv_key key_of(uint32_t id, unsigned char room[32]) {
    return item_key_of(h, id, room);
}

/* As making room does. */
static void evict(uint32_t id) {
    unsigned char room[32];
    struct kv_key key = key_of(id, room);
    struct kv_op op = kv_op_make(h);
    struct kv_slot slot;
    uint32_t s = stripe_of(h, key.home);
    OK(table_lock(&op, s));
    OK(table_find(h, s, &key, &slot));
    table_remove_locked(h, s, key.hash, &slot, kv_item_bytes(&slot.head));
    table_unlock(h, s);
    store_leave(&op);
}

static void leave_on_disk(void) {
    for (uint32_t id = GONE; id < GONE + FEW; id++)
        OK(item_set(h, id, 1, 200));
    OK(lead(h, true, NULL));
    for (uint32_t id = GONE; id < GONE + FEW; id++)
        evict(id);
}

static kv_status clear(struct kv_handle *as) {
    struct kv_clear how = {0};
    struct kv_op op = kv_op_make(as);
    kv_status s = store_clear(&op, &how);
    store_leave(&op);
    return s;
}

/* Looking is no use: who is read stays. */
static bool in_memory(uint32_t id) {
    unsigned char room[32];
    struct kv_key key = key_of(id, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(h);
    kv_status s = store_peek(&op, &key, &meta);
    store_leave(&op);
    return s == KV_OK;
}

/* As a clear elsewhere ends that began before all this was stored. */
static void wish(void) {
    struct kv_op op = kv_op_make(h);
    journal_wipe(&op);
    store_leave(&op);
}

static uint32_t due(void) { return kv_load_acq(&kv_header_of(h)->journal.due); }

/* What the files say now, or would after a power cut. */
static struct kv_handle *replayed(bool power_cut) {
    struct kv_handle *again = world_open(AGAIN, 0);
    if (power_cut) {
        struct folder cut = folder_after_power_cut(&folder);
        folder_replay(&cut, again);
        folder_end(&cut);
    } else {
        folder_replay(&folder, again);
    }
    return again;
}

static uint32_t count(struct kv_handle *again, uint32_t from, uint32_t n) {
    uint32_t there = 0;
    for (uint32_t id = from; id < from + n; id++)
        there += item_get(again, id, NULL, NULL) == KV_OK;
    return there;
}

/* How many of these come back. */
static uint32_t found(uint32_t from, uint32_t n) {
    struct kv_handle *again = replayed(true);
    uint32_t there = count(again, from, n);
    store_detach(again);
    return there;
}

/* All is as before the round, or as after: what is in memory is there, what is not went as one. */
static void old_or_new(bool power_cut) {
    struct kv_handle *again = replayed(power_cut);
    uint32_t old = count(again, GONE, FEW);
    CHECK(old == 0 || old == FEW);
    CHECK_EQ(count(again, 0, ITEMS), ITEMS - 1); /* fill() deletes one */
    CHECK_EQ(store_len(again), old + ITEMS - 1);
    store_detach(again);
}

/* ---- what goes and what stays ------------------------------------------------------------- */

/* Room is made until nothing is left of the first items; the clear finds others. */
static void test_really_evicted(void) {
    begin(KV_OPT_EVICT);
    for (uint32_t id = GONE; id < GONE + FEW; id++)
        OK(item_set(h, id, 1, 200));
    OK(lead(h, true, NULL));
    for (uint32_t id = GONE, beside_them = 0; id < GONE + FEW; id += !in_memory(id)) {
        CHECK(beside_them < MANY);
        OK(item_set(h, BESIDE + beside_them++, 1, 20000));
    }
    CHECK(world_stat(h, KV_STAT_EVICTED) >= FEW);
    CHECK_EQ(found(GONE, FEW), FEW);
    OK(clear(h));
    CHECK_EQ(store_len(h), 0);
    fill(2);
    comes_back(ITEMS);
    CHECK_EQ(found(GONE, FEW), 0);
    end();
}

/* A wipe is made once; the round after says what changed, no more. */
static void test_once(void) {
    begin(KV_OPT_EVICT);
    struct kv_round round;
    leave_on_disk();
    fill(1);
    OK(clear(h));
    CHECK_EQ(due(), KV_DUE_WIPE);
    OK(item_set(h, 1, 2, 100));
    OK(item_set(h, 2, 2, 100));
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, 3); /* the wipe, and what there is: not what was deleted */
    CHECK_EQ(due(), 0);
    CHECK_EQ(state().marks, 0);
    OK(item_set(h, 1, 3, 100));
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, 1);
    comes_back(ITEMS);
    end();
}

/* What was stored since the clear began, and is on disk, stays there. */
static void test_kept(void) {
    begin(KV_OPT_EVICT);
    struct kv_round round;
    fill(1);
    leave_on_disk();
    CHECK_EQ(state().marks, 0);
    wish();
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, ITEMS); /* one was deleted; and the wipe */
    CHECK_EQ(found(GONE, FEW), 0);
    comes_back(ITEMS);
    end();
    begin(0); /* nothing leaves but by deletes: nothing is wished */
    wish();
    CHECK_EQ(due(), 0);
    end();
}

/* Keys of one class are said once. */
static void test_class(void) {
    begin(KV_OPT_EVICT);
    struct kv_round round;
    struct kv_value value = {.type = KV_TYPE_BYTES, .data = "value", .len = 5};
    uint64_t hash = 0x123456789ABCDEF0u & ~KV_MARK_BITS;
    unsigned char room[16];
    leave_on_disk();
    for (uint64_t i = 0; i < 4; i++) {
        struct kv_key key = key_of_hash(h, hash | i << 20, i, room);
        struct kv_op op = kv_op_make(h);
        OK(store_put(&op, &key, &value, 0, KV_PUT_SET, NULL));
        store_leave(&op);
    }
    wish();
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, 2); /* the wipe is one */
    comes_back(ITEMS);
    end();
}

/* A clear that cannot end wishes for nothing: what is in memory still is on disk still. */
static void test_not_to_its_end(void) {
    begin(KV_OPT_EVICT);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    leave_on_disk();
    fill(1);
    OK(lead(h, true, NULL));
    uint32_t last = h->g.stripes - 1;
    uint64_t before = store_len(h);
    OK(table_lock(&op, last));
    h->lock_timeout_ns = 3000000;
    CHECK_STATUS(clear(h), KV_BUSY);
    CHECK_EQ(due(), 0);
    table_unlock(twin, last);
    h->lock_timeout_ns = 5000000000u;
    CHECK_EQ(store_len(h), before); /* it had not begun */
    OK(lead(h, true, NULL));
    CHECK_EQ(found(0, ITEMS), ITEMS - 1);
    CHECK_EQ(found(GONE, FEW), FEW);
    h->held = true; /* being filled: what is on disk is where it comes from */
    OK(clear(h));
    h->held = false;
    CHECK_EQ(due(), 0);
    store_detach(twin);
    end();
}

/* ---- two clears --------------------------------------------------------------------------- */

static struct kv_handle *meanwhile;
static uint32_t times;

/* The round has read item 1; then it is evicted, and a second clear does not find it. */
static void clear_meanwhile(void) {
    if (times++ > 0)
        return;
    CHECK_EQ(due(), KV_DUE_WIPING);
    evict(1);
    OK(clear(meanwhile));
}

static void test_second_clear(void) {
    begin(KV_OPT_EVICT);
    meanwhile = world_twin(h);
    times = 0;
    leave_on_disk();
    OK(clear(h));
    OK(item_set(h, 1, 2, 100));
    OK(item_set(h, 2, 2, 100));
    disk.before = clear_meanwhile;
    OK(lead(h, true, NULL));
    disk.before = NULL;
    CHECK_EQ(found(1, 1), 1);
    CHECK_EQ(found(GONE, FEW), 0);
    CHECK_EQ(due(), KV_DUE_WIPE);
    CHECK_EQ(store_len(h), 0);
    comes_back(ITEMS);
    CHECK_EQ(due(), 0);
    store_detach(meanwhile);
    end();
}

/* ---- writers beside ----------------------------------------------------------------------- */

static uint32_t beside, stripes_hit[3];

/* So many items more in the stripes of those that are long. */
static void set_beside(struct kv_handle *as, uint32_t many) {
    unsigned char room[32];
    for (uint32_t n = 0; n < many; beside++) {
        uint32_t s = stripe_of(h, key_of(BESIDE + beside, room).home);
        if (s != stripes_hit[0] && s != stripes_hit[1] && s != stripes_hit[2])
            continue;
        OK(item_set(as, BESIDE + beside, 1, 8));
        n++;
    }
}

/* A long item is written on its own, in the middle of a segment that is nearly full. */
static void write_beside(void) {
    if (times++ == 6) /* marks have places */
        disk.before = NULL;
    set_beside(meanwhile, 3 * 70);
    OK(item_set(meanwhile, 100 + times, 2, 300));
}

/* Segments are split under the walk, items are overwritten: every key that is there throughout is
 * in the round. */
static void test_walk_beside_writers(void) {
    begin(KV_OPT_EVICT);
    unsigned char room[32];
    meanwhile = world_twin(h);
    beside = times = 0;
    leave_on_disk();
    OK(clear(h));
    fill(0); /* with three that are long */
    for (uint32_t id = ITEMS; id < 2 * ITEMS; id++)
        OK(item_set(h, id, 1, 30));
    for (uint32_t i = 0; i < 3; i++)
        stripes_hit[i] = stripe_of(h, key_of(3 + 20 * i, room).home);
    set_beside(h, 3 * 600);
    uint32_t throughout = beside;
    uint64_t splits = world_stat(h, KV_STAT_SPLITS);
    disk.before = write_beside;
    OK(lead(h, true, NULL));
    disk.before = NULL;
    CHECK(world_stat(h, KV_STAT_SPLITS) > splits);
    CHECK_EQ(found(0, 2 * ITEMS), 2 * ITEMS - 1);
    CHECK_EQ(found(BESIDE, throughout), 3 * 600);
    CHECK_EQ(found(GONE, FEW), 0);
    comes_back(2 * ITEMS);
    store_detach(meanwhile);
    end();
}

static uint32_t stop;

static void *raise_on(void *arg) {
    struct kv_stripe *st = arg;
    while (!kv_load_acq(&stop))
        (void)kv_add_rlx(&st->ver, 1u);
    return NULL;
}

/* A stripe that never stands still is locked in the end. */
static void test_restless(void) {
    begin(KV_OPT_EVICT);
    leave_on_disk();
    OK(clear(h));
    fill(1);
    pthread_t thread;
    kv_store_rel(&stop, 0u);
    CHECK_EQ(pthread_create(&thread, NULL, raise_on, stripe_at(h, 0)), 0);
    uint64_t limit = kv_clock_ns() + 100000000u;
    do {
        wish();
        OK(lead(h, true, NULL));
        CHECK_EQ(due(), 0);
    } while (kv_clock_ns() < limit);
    kv_store_rel(&stop, 1u);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(found(0, ITEMS), ITEMS - 1);
    comes_back(ITEMS);
    end();
}

/* ---- deaths and failures ------------------------------------------------------------------ */

/* A leader dies at each of its writes: the next one begins the wipe again. */
static void test_dead_leader(void) {
    for (uint32_t after = 0; after < 2; after++) {
        begin(KV_OPT_EVICT);
        unsigned n = 1, deaths = 0;
        for (bool died = true; died; n++) {
            fill(n);
            leave_on_disk();
            wish();
            died = leader_dies(after, n, false);
            deaths += died;
            (void)snprintf(kv_test_where, sizeof kv_test_where, "%u, write %u", after, n);
            CHECK_EQ(due() & KV_DUE_WIPING, died ? KV_DUE_WIPING : 0);
            old_or_new(false);
            old_or_new(true);
            comes_back(ITEMS);
            CHECK_EQ(due(), 0);
        }
        CHECK(deaths >= 2);
        end();
    }
}

/* The disk refuses at each call: the wish stays. */
static void failing(uint32_t options, enum disk_call call, bool brief, int error) {
    begin(options | KV_OPT_EVICT);
    unsigned n = 0, failed;
    do {
        fill(++n);
        leave_on_disk();
        wish();
        disk.nth[call] = n;
        disk.brief = brief;
        disk.error = error;
        disk.done = 0;
        kv_status s = lead(h, true, NULL);
        memset(disk.nth, 0, sizeof disk.nth);
        disk.brief = false;
        failed = disk.done;
        (void)snprintf(kv_test_where, sizeof kv_test_where, "call %d, number %u", (int)call, n);
        CHECK_STATUS(s, failed && !brief ? KV_PERSIST : KV_OK);
        CHECK_EQ(due(), s == KV_OK ? 0 : KV_DUE_WIPING);
        old_or_new(true);
        comes_back(ITEMS);
    } while (failed > 0 && n < 100);
    CHECK(n >= 2 && n < 100);
    end();
}

static void test_failing_calls(void) {
    failing(0, DISK_WRITE, false, ENOSPC);
    failing(0, DISK_WRITE, true, EIO);
    failing(KV_OPT_ALWAYS, DISK_DATASYNC, false, EIO);
}

/* The generation after a broken one comes back after its own snapshot: it need not hold all that
 * is in memory, where the disk had no room for that. */
static void test_broken_forgets(void) {
    begin(KV_OPT_EVICT);
    struct kv_round round;
    fill(1);
    leave_on_disk();
    OK(clear(h));
    fill(2);
    disk.nth[DISK_DATASYNC] = 1;
    CHECK_STATUS(lead(h, true, NULL), KV_PERSIST);
    CHECK(state().broken);
    CHECK_EQ(due(), KV_DUE_WIPING);
    OK(clear(h));
    CHECK_EQ(due(), KV_DUE_WIPE | KV_DUE_WIPING);
    OK(rotate(h));
    CHECK_EQ(due(), 0);
    OK(lead(h, true, NULL)); /* marks from before */
    OK(item_set(h, 1, 3, 100));
    OK(lead(h, true, &round));
    CHECK_EQ(round.entries, 1);
    end();
}

/* ---- damage ------------------------------------------------------------------------------- */

/* What is damaged is left out, whatever else is there is said. */
static void test_damage(void) {
    begin(KV_OPT_EVICT);
    unsigned char room[32];
    leave_on_disk();
    OK(clear(h));
    fill(1);
    struct kv_key key = key_of(5, room);
    uint32_t s = stripe_of(h, key.home), in_stripe = 0, words = 1u << h->g.dir_bits;
    for (uint32_t id = 0; id < ITEMS; id++) {
        bool there = item_get(h, id, NULL, NULL) == KV_OK;
        in_stripe += there && stripe_of(h, key_of(id, room).home) == s;
    }
    uint32_t *dir = directory_at(h, s), word = dir[0];
    for (uint32_t i = 0; i < words; i++)
        dir[i] = UINT32_MAX;
    OK(lead(h, true, NULL));
    for (uint32_t i = 0; i < words; i++)
        dir[i] = word;
    CHECK_EQ(found(0, ITEMS), ITEMS - 1 - in_stripe);
    CHECK_EQ(found(GONE, FEW), 0);

    struct kv_slot slot;
    OK(clear(h));
    fill(2);
    key = key_of(5, room);
    OK(table_find(h, s, &key, &slot));
    kv_ref ref = slot.bucket->ref[slot.index];
    slot.bucket->ref[slot.index] = UINT32_MAX;
    OK(lead(h, true, NULL));
    slot.bucket->ref[slot.index] = ref;
    CHECK_EQ(found(0, ITEMS), ITEMS - 2);

    struct kv_item *item = (struct kv_item *)(void *)arena_at(h, ref);
    wish();
    item->type = KV_TYPE_BOOL; /* of more than one byte */
    OK(lead(h, true, NULL));
    item->type = KV_TYPE_BYTES;
    CHECK_EQ(found(0, ITEMS), ITEMS - 2);
    wish();
    comes_back(ITEMS);
    end();
}

static const struct kv_test tests[] = {
    {"wipe_really_evicted", test_really_evicted},
    {"wipe_once", test_once},
    {"wipe_kept", test_kept},
    {"wipe_class", test_class},
    {"wipe_not_to_its_end", test_not_to_its_end},
    {"wipe_second_clear", test_second_clear},
    {"wipe_walk_beside_writers", test_walk_beside_writers},
    {"wipe_restless", test_restless},
    {"wipe_dead_leader", test_dead_leader},
    {"wipe_failing_calls", test_failing_calls},
    {"wipe_broken_forgets", test_broken_forgets},
    {"wipe_damage", test_damage},
};
KV_TEST_MAIN(tests)
