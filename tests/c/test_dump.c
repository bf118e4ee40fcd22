/* test_dump.c: a store as records, where it resists: long items, attachments that cannot pin,
 * stripes that do not stand still or are kept, damage, stores that are full or read only.
 *
 * What a dump gives is loaded into another world and compared. The judge of damage: it is told, and
 * the dump ends; nothing is held afterwards. */
#include "kv_test.h"

#include <pthread.h>

#include "image.h"
#include "journal.h"
#include "work.h"

#define ITEMS 60u
#define ROOM  (KV_IMAGE_BLOCK + KV_IMAGE_LARGE)
#define LONG  1500000u

static struct kv_handle *h, *reader;

static uint32_t stripe_of_item(uint32_t id) {
    unsigned char room[32];
    return stripe_of(h, item_key_of(h, id, room).home);
}

static void begin(void) {
    const char *name = world_name();
    struct kv_config config = world_config(16 * KV_SIZE_MIN, 16 * KV_SIZE_MIN, 0, 2);
    struct kv_found found;
    bool created;
    OK(world_attach(name, &config, false, &h, &created, &found));
    OK(world_attach(name, NULL, true, &reader, &created, &found));
    for (uint32_t id = 0; id < ITEMS; id++)
        OK(item_set(h, id, 1, id % 20 == 3 ? LONG : 100 + id));
}

static void end(void) {
    store_detach(reader);
    (void)world_check(h);
    store_detach(h);
}

/* ---- whole -------------------------------------------------------------------------------- */

struct dumped {
    unsigned char *bytes;
    uint64_t used;
    uint32_t pieces, locks;
};

/* All records, one behind the other: pieces of a long one follow each other. */
static kv_status dump(struct kv_handle *as, struct dumped *all) {
    struct kv_dump d = {.slot = 0};
    struct kv_dumped out;
    struct kv_op op = kv_op_make(as);
    kv_status s = KV_OK;
    *all = (struct dumped){.bytes = malloc(16 * KV_SIZE_MIN)};
    CHECK(all->bytes != NULL);
    for (bool more = true; more && s == KV_OK;) {
        CHECK(all->used + ROOM <= 16 * KV_SIZE_MIN);
        s = store_dump(&op, &d, all->bytes + all->used, ROOM, &out);
        if (s == KV_OK) {
            all->used += out.used;
            all->pieces += out.kind == KV_BLOCK_PIECE;
        }
        more = out.kind != 0;
    }
    all->locks = d.locks;
    store_dump_end(as, &d);
    store_leave(&op);
    return s;
}

static void compare(const struct dumped *all) {
    struct kv_handle *again = world_open(16 * KV_SIZE_MIN, 0);
    struct kv_loading loading = {0};
    struct kv_op op = kv_op_make(again);
    OK(store_load(&op, all->bytes, all->used, &loading));
    store_leave(&op);
    for (uint32_t id = 0; id < ITEMS; id++) {
        uint32_t stamp;
        uint64_t len, want;
        OK(item_get(h, id, NULL, &want));
        OK(item_get(again, id, &stamp, &len));
        CHECK_EQ(stamp, 1);
        CHECK_EQ(len, want);
    }
    CHECK_EQ(store_len(again), ITEMS);
    (void)world_check(again);
    store_detach(again);
}

/* A pin keeps a long item, a copy where there are no pins: what is overwritten between its pieces
 * comes out as it was. */
static void test_long(void) {
    struct dumped all;
    begin();
    OK(dump(h, &all));
    CHECK_EQ(all.pieces, 6);
    compare(&all);
    free(all.bytes);
    OK(dump(reader, &all));
    CHECK_EQ(all.pieces, 6);
    compare(&all);
    free(all.bytes);
    end();
}

/* ---- records ------------------------------------------------------------------------------ */

/* Deadlines stay within what can be read back, whatever the clocks say. */
static void test_deadlines(void) {
    begin();
    unsigned char room[32], bytes[256];
    struct kv_key key = item_key_of(h, 1, room);
    struct kv_slot slot;
    struct kv_image image;
    struct kv_record r;
    uint64_t deadline = kv_clock_ms() + 3600000;
    OK(item_put(h, 1, 1, 100, deadline, KV_PUT_SET));
    OK(table_find(h, stripe_of(h, key.home), &key, &slot));
    const uint64_t walls[] = {5, 0 - deadline, 0 - deadline - 7, KV_DEADLINE_MAX};
    const uint64_t want[] = {deadline + 5, 1, 1, KV_DEADLINE_MAX};
    for (uint32_t i = 0; i < 4; i++) {
        CHECK(image_make(&image, h, &slot, walls[i]));
        for (uint64_t at = 0; at < image_bytes(&image); at++) /* in small pieces */
            image_copy(&image, at, bytes + at, 1);
        CHECK_EQ(image_parse(bytes, sizeof bytes, &r), image_bytes(&image));
        CHECK(r.deadline_ms == want[i] && r.value_len == 100 && r.key_len == key.len);
    }
    end();
}

/* What has been used again and again is in another queue, and its records say so. */
static void test_queues(void) {
    struct dumped all;
    struct kv_record r;
    uint32_t mains = 0;
    h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    for (uint32_t i = 0; i < 3000; i++) {
        OK(item_set(h, ITEMS + i, 1, 2000));
        for (uint32_t id = 0; id < ITEMS; id++)
            if (item_get(h, id, NULL, NULL) == KV_MISS)
                OK(item_set(h, id, 1, 500));
    }
    OK(dump(h, &all));
    for (uint64_t at = 0; at < all.used; at += image_parse(all.bytes + at, all.used - at, &r))
        mains += (all.bytes[at + 7] & 16) != 0;
    CHECK(mains > 0);
    free(all.bytes);
    (void)world_check(h);
    store_detach(h);
}

/* ---- what does not stand still ------------------------------------------------------------ */

static uint32_t stop;

static void *raise_on(void *arg) {
    struct kv_stripe *st = arg;
    while (!kv_load_acq(&stop))
        (void)kv_add_rlx(&st->ver, 1u);
    return NULL;
}

/* A stripe that never stands still is locked in the end, or the dump says Busy if that lock is
 * kept; who cannot lock gives up at the limit. */
static void test_restless(void) {
    begin();
    struct dumped all;
    struct kv_handle *twin = world_twin(h);
    struct kv_op keeper = kv_op_make(twin);
    pthread_t thread;
    uint32_t s = stripe_of_item(5), locks = 0, busy = 0;
    for (uint32_t id = 0; id < ITEMS; id++) /* long ones would take all the time */
        OK(item_set(h, id, 1, 8));
    kv_store_rel(&stop, 0u);
    CHECK_EQ(pthread_create(&thread, NULL, raise_on, stripe_at(h, s)), 0);
    uint64_t limit = kv_clock_ns() + 500000000u;
    reader->lock_timeout_ns = h->lock_timeout_ns = 3000000;
    while ((locks == 0 || busy < 2) && kv_clock_ns() < limit) {
        OK(dump(h, &all));
        locks += all.locks;
        compare(&all);
        free(all.bytes);
        for (uint32_t i = 0; i < 2; i++) {
            if (i == 0)
                OK(table_lock(&keeper, s));
            kv_status r = dump(i == 0 ? h : reader, &all);
            CHECK(r == KV_OK || r == KV_BUSY);
            busy += r == KV_BUSY;
            free(all.bytes);
            if (i == 0)
                table_unlock(twin, s);
        }
    }
    kv_store_rel(&stop, 1u);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    store_detach(twin);
    end();
}

/* ---- damage ------------------------------------------------------------------------------- */

static void damaged(void) {
    struct dumped all;
    CHECK_STATUS(dump(h, &all), KV_CORRUPT);
    free(all.bytes);
    CHECK_STATUS(dump(reader, &all), KV_CORRUPT);
    free(all.bytes);
}

static void test_damage(void) {
    begin();
    for (uint32_t id = 2; id < 4; id++) { /* a short one, and a long one */
        unsigned char room[32];
        struct kv_key key = item_key_of(h, id, room);
        struct kv_slot slot;
        OK(table_find(h, stripe_of(h, key.home), &key, &slot));
        struct kv_item *item = (struct kv_item *)(void *)arena_at(h, slot.ref);
        item->type = KV_TYPE_NONE; /* which has no bytes */
        damaged();
        item->type = KV_TYPE_BYTES;
        slot.bucket->ref[slot.index] = UINT32_MAX;
        damaged();
        slot.bucket->ref[slot.index] = slot.ref;
    }
    end();
}

/* An entry with one item, or with none: it is not there any more. */
static uint64_t entry_of(uint32_t id, bool there, unsigned char *to) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    uint64_t class = key.hash & ~KV_MARK_BITS;
    uint16_t n = there;
    struct kv_slot slot;
    struct kv_image image;
    memcpy(to, &class, 8);
    memcpy(to + 8, &n, 2);
    if (!there)
        return KV_ENTRY_HEAD;
    OK(table_find(h, stripe_of(h, key.home), &key, &slot));
    CHECK(image_make(&image, h, &slot, image_wall()));
    image_copy(&image, 0, to + KV_ENTRY_HEAD, image_bytes(&image));
    return KV_ENTRY_HEAD + image_bytes(&image);
}

static void test_damaged_directory(void) {
    begin();
    unsigned char entry[512];
    struct kv_loading loading = {0};
    struct kv_op op = kv_op_make(h);
    uint32_t *dir = directory_at(h, stripe_of_item(2)), word = dir[0];
    for (uint32_t there = 0; there < 2; there++) {
        uint64_t len = entry_of(2, !there, entry);
        for (uint32_t i = 0; i < 1u << h->g.dir_bits; i++)
            dir[i] = UINT32_MAX;
        damaged();
        CHECK_STATUS(store_replay(&op, entry, len, &loading), KV_CORRUPT);
        CHECK_EQ(loading.at, 0);
        for (uint32_t i = 0; i < 1u << h->g.dir_bits; i++)
            dir[i] = word;
    }
    OK(store_replay(&op, entry, entry_of(2, false, entry), &loading));
    CHECK_STATUS(item_get(h, 2, NULL, NULL), KV_MISS);
    store_leave(&op);
    end();
}

/* ---- loading where it cannot be ----------------------------------------------------------- */

static kv_status load(struct kv_handle *as, const struct dumped *all, uint64_t *loaded) {
    struct kv_loading loading = {0};
    struct kv_op op = kv_op_make(as);
    kv_status s = store_load(&op, all->bytes, all->used, &loading);
    *loaded = loading.loaded;
    store_leave(&op);
    return s;
}

static void test_refused(void) {
    begin();
    struct dumped all;
    uint64_t loaded;
    unsigned char entry[KV_ENTRY_HEAD] = {0}, room[32];
    struct kv_loading loading = {0};
    OK(dump(h, &all));
    CHECK_STATUS(load(reader, &all, &loaded), KV_READONLY);
    struct kv_op op = kv_op_make(reader);
    CHECK_STATUS(store_replay(&op, entry, sizeof entry, &loading), KV_READONLY);
    struct kv_done done;
    CHECK_STATUS(work_ahead(&op, 0, &done), KV_READONLY);
    struct kv_handle *small = world_open(KV_SIZE_MIN, 0);
    kv_status s = load(small, &all, &loaded);
    CHECK(s == KV_TOOLARGE || s == KV_FULL);
    CHECK(loaded < ITEMS);
    CHECK_EQ(store_len(small), loaded);
    (void)world_check(small);
    store_detach(small);
    free(all.bytes);

    struct kv_handle *twin = world_twin(h); /* a stripe is kept by somebody */
    struct kv_op keeper = kv_op_make(twin);
    uint64_t class = item_key_of(h, 2, room).hash & ~KV_MARK_BITS;
    memcpy(entry, &class, 8);
    OK(table_lock(&keeper, stripe_of_item(2)));
    h->lock_timeout_ns = 3000000;
    op = kv_op_make(h);
    CHECK_STATUS(store_replay(&op, entry, sizeof entry, &loading), KV_BUSY);
    CHECK_EQ(loading.at, 0);
    table_unlock(twin, stripe_of_item(2));
    store_detach(twin);
    end();
}

static const struct kv_test tests[] = {
    {"dump_long", test_long},
    {"dump_deadlines", test_deadlines},
    {"dump_restless", test_restless},
    {"dump_damage", test_damage},
    {"dump_damaged_directory", test_damaged_directory},
    {"dump_refused", test_refused},
    {"dump_queues", test_queues},
};
KV_TEST_MAIN(tests)
