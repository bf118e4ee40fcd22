/* test_table.c: the index with chosen hashes.
 *
 * XXH64 run backwards gives keys for any hash, as many as one likes for the same one: so every
 * bucket, path, directory entry and collision is made on purpose, straight through the functions of
 * table.h, and the whole index can be verified afterwards. Worlds of 2 MiB: 8 stripes, 32 directory
 * entries each. Recovery meets splits that stopped before each directory store, and is itself
 * interrupted at each of its steps. Needs KV_FAULT=1. */
#include "kv_test.h"

#define WHOLE (KV_BUCKETS * KV_SLOTS)

static struct kv_handle *h;

static void begin(uint32_t options) { h = world_open(KV_SIZE_MIN, options); }
static void end(void) {
    (void)world_check(h);
    store_detach(h);
}

/* ---- items with chosen hashes ------------------------------------------------------------- */

/* A hash by its parts; the bits that nothing looks at are zero. */
static uint64_t hash_of(uint32_t stripe, uint32_t dir, uint32_t bucket, uint32_t stride,
                        uint32_t tag) {
    uint64_t hash = (uint64_t)stripe << h->g.stripe_shift | (uint64_t)dir << (56 - h->g.dir_bits);
    hash |= (uint64_t)(stride >> 1) << 14 | (uint64_t)bucket << 8 | tag;
    CHECK(stripe_of(h, hash) == stripe && kv_hash_dir(hash, h->g.dir_bits) == dir);
    CHECK(kv_hash_bucket(hash) == bucket && kv_hash_stride(hash) == stride);
    CHECK(kv_hash_tag(hash) == tag);
    return hash;
}

static void lock(uint32_t s) {
    struct kv_op op = kv_op_make(h);
    OK(table_lock(&op, s));
}

static struct kv_bucket *segment_of_hash(uint64_t hash) {
    uint32_t s = stripe_of(h, hash), at = kv_hash_dir(hash, h->g.dir_bits);
    return arena_segment(h, kv_dir_segment(directory_at(h, s)[at]));
}

/* An item without value in the arena, its key as chosen; its place is given up, its ref kept. */
static kv_ref item_make(uint64_t hash, uint64_t mark, uint64_t deadline_ms) {
    unsigned char room[16];
    struct kv_key key = key_of_hash(h, hash, mark, room);
    struct kv_item it = {.key_len = 16, .type = KV_TYPE_BYTES};
    it.flags = deadline_ms != 0 ? KV_ITEM_DEADLINE : 0;
    struct kv_op op = kv_op_make(h);
    struct kv_place place;
    OK(arena_append(&op, 0, 0, &it, deadline_ms, &place));
    unsigned char *at = arena_at(h, place.ref);
    if (deadline_ms != 0)
        memcpy(at + kv_item_deadline_at(), &deadline_ms, 8);
    memcpy(at + kv_item_words(it.flags), key.data, 16);
    place_done(h, &place, true);
    return place.ref;
}

static uint64_t item_size(kv_ref ref) {
    struct kv_item it;
    CHECK(arena_item(h, ref, &it) != NULL);
    return kv_item_bytes(&it);
}

/* KV_OK, or what table_room_locked says; no splits here. */
static kv_status insert_until(uint64_t hash, uint64_t mark, uint64_t deadline_ms, bool any) {
    struct kv_slot slot;
    kv_ref ref = item_make(hash, mark, deadline_ms);
    uint32_t s = stripe_of(h, hash);
    lock(s);
    kv_status r = table_room_locked(h, s, hash, any, &slot);
    if (r == KV_OK)
        table_insert_locked(h, s, hash, &slot, ref, item_size(ref));
    table_unlock(h, s);
    if (r != KV_OK)
        arena_dead(h, ref, item_size(ref));
    return r;
}

static void insert(uint64_t hash, uint64_t mark) { OK(insert_until(hash, mark, 0, true)); }

static kv_status find(uint64_t hash, uint64_t mark, struct kv_slot *slot) {
    unsigned char room[16];
    struct kv_key key = key_of_hash(h, hash, mark, room);
    return table_find(h, stripe_of(h, hash), &key, slot);
}

static void take_away(uint64_t hash, uint64_t mark) {
    struct kv_slot slot;
    uint32_t s = stripe_of(h, hash);
    lock(s);
    OK(find(hash, mark, &slot));
    table_remove_locked(h, s, hash, &slot, item_size(slot.ref));
    table_unlock(h, s);
    CHECK_STATUS(find(hash, mark, &slot), KV_MISS);
}

static kv_status split(uint64_t hash) {
    uint32_t s = stripe_of(h, hash);
    lock(s);
    kv_status r = table_split_locked(h, s, hash);
    table_unlock(h, s);
    return r;
}

/* Free index segments for splits to come. */
static void make_segments(uint32_t n) {
    struct kv_op op = kv_op_make(h);
    for (uint32_t i = 0; i < n; i += (uint32_t)h->g.index_per_base)
        OK(evict_make_index(&op));
}

/* ---- one segment -------------------------------------------------------------------------- */

static void test_bucket_full(void) {
    begin(0);
    uint64_t hash = hash_of(3, 5, 63, 5, 0xAB);
    struct kv_bucket *segment = segment_of_hash(hash);
    struct kv_slot slot;
    for (uint64_t i = 0; i < KV_SLOTS; i++) {
        insert(hash + (i << 20), i);
        OK(find(hash + (i << 20), i, &slot));
        CHECK(slot.bucket == &segment[63] && slot.steps == 0 && slot.index == i);
    }
    CHECK_EQ(segment[63].overflow, 0);
    insert(hash, 12);
    insert(hash, 13);
    OK(find(hash, 13, &slot));
    CHECK(slot.bucket == &segment[(63 + 5) % 64] && slot.steps == 1); /* it wraps around */
    CHECK_EQ(segment[63].overflow, 2);
    take_away(hash + (4 << 20), 4); /* nothing moves, the others are still found */
    OK(find(hash, 13, &slot));
    CHECK_EQ(slot.steps, 1);
    CHECK_EQ(segment[63].overflow, 2);
    insert(hash, 14); /* into the hole */
    OK(find(hash, 14, &slot));
    CHECK(slot.steps == 0 && slot.index == 4);
    take_away(hash, 12);
    take_away(hash, 13);
    CHECK(segment[63].overflow == 0);
    CHECK(stripe_at(h, 3)->count == 12 && stripe_at(h, 3)->live == 12 * 32);
    end();
}

/* The segment is filled by one path: each bucket in its turn, then none. */
static void fill_path(uint64_t hash, uint32_t bucket, uint32_t stride) {
    struct kv_bucket *segment = segment_of_hash(hash);
    struct kv_slot slot;
    for (uint32_t i = 0; i < WHOLE; i++) {
        bool near = i < KV_PATH_MAX * KV_SLOTS;
        if (!near && i % 50 == 0)
            CHECK_STATUS(insert_until(hash, i, 0, false), KV_AGAIN);
        OK(insert_until(hash, i, 0, !near));
        OK(find(hash, i, &slot));
        CHECK_EQ(slot.steps, i / KV_SLOTS);
        CHECK(slot.bucket == &segment[(bucket + i / KV_SLOTS * stride) % KV_BUCKETS]);
    }
    CHECK_STATUS(insert_until(hash, WHOLE, 0, true), KV_FULL);
    CHECK_STATUS(find(hash, WHOLE, &slot), KV_MISS);
}

/* Counts saturate at 255 and stay there; lower ones come back to zero; a lookup is never misled. */
static void test_path_of_64(void) {
    static const uint32_t strides[] = {1, 37, 63};
    for (unsigned k = 0; k < 3; k++) {
        begin(0);
        uint32_t stride = strides[k], bucket = 7 + k;
        uint64_t hash = hash_of(1, 0, bucket, stride, 9);
        (void)snprintf(kv_test_where, sizeof kv_test_where, "stride %u", stride);
        fill_path(hash, bucket, stride);
        (void)world_check(h);
        struct kv_bucket *segment = segment_of_hash(hash);
        for (uint32_t step = 0; step < KV_BUCKETS; step++) {
            uint32_t passed = KV_SLOTS * (KV_BUCKETS - 1 - step);
            uint32_t seen = segment[(bucket + step * stride) % KV_BUCKETS].overflow;
            CHECK_EQ(seen, passed > 255 ? 255 : passed);
        }
        for (uint32_t i = WHOLE; i-- > 0;) /* the far ones first, then all others are found */
            take_away(hash, i * 5 % WHOLE);
        for (uint32_t step = 0; step < KV_BUCKETS; step++) {
            uint32_t passed = KV_SLOTS * (KV_BUCKETS - 1 - step);
            uint32_t seen = segment[(bucket + step * stride) % KV_BUCKETS].overflow;
            CHECK_EQ(seen, passed >= 255 ? 255 : 0);
        }
        struct kv_slot slot;
        CHECK_STATUS(find(hash, 1, &slot), KV_MISS); /* ends although counts stick */
        insert(hash, 1);
        OK(find(hash, 1, &slot));
        CHECK_EQ(slot.steps, 0);
        CHECK_EQ(stripe_at(h, 1)->count, 1);
        end();
    }
}

static void test_counter(void) {
    begin(0);
    uint64_t hash = hash_of(0, 0, 0, 1, 1);
    struct kv_slot slot[KV_SLOTS];
    for (uint32_t i = 0; i < KV_SLOTS; i++) {
        insert(hash, i);
        OK(find(hash, i, &slot[i]));
        CHECK_EQ(slot_counter(&slot[i]), 0);
    }
    for (uint32_t i = 0; i < KV_SLOTS; i++)
        for (uint32_t n = 0; n < i; n++)
            slot_touch(&slot[i]);
    for (uint32_t i = 0; i < KV_SLOTS; i++) /* nobody touched a neighbour's bits */
        CHECK_EQ(slot_counter(&slot[i]), i < KV_COUNTER_MAX ? i : KV_COUNTER_MAX);
    take_away(hash, 11);
    insert(hash, 77); /* the slot's next tenant begins at zero */
    OK(find(hash, 77, &slot[0]));
    CHECK(slot[0].index == 11 && slot_counter(&slot[0]) == 0);
    end();
}

/* Every change raises the version once; the item carries it; relocation keeps it. */
static void test_versions(void) {
    begin(0);
    uint64_t hash = hash_of(2, 1, 3, 9, 200);
    struct kv_slot slot;
    uint64_t *ver = &stripe_at(h, 2)->ver, before = *ver;
    insert(hash, 1);
    CHECK_EQ(*ver, before + 1);
    OK(find(hash, 1, &slot));
    CHECK_EQ(slot.head.version, (uint32_t)*ver);
    for (int keep = 0; keep < 2; keep++) {
        kv_ref ref = item_make(hash, 1, 0), was = slot.ref;
        struct kv_item *it = (struct kv_item *)(void *)arena_at(h, ref);
        it->version = 4711;
        before = *ver;
        lock(2);
        OK(table_find_ref(h, 2, hash, was, &slot));
        table_replace_locked(h, 2, &slot, ref, 32, 32, keep == 1);
        table_unlock(h, 2);
        CHECK_EQ(*ver, before + 1);
        OK(find(hash, 1, &slot));
        CHECK(slot.ref == ref);
        CHECK_EQ(slot.head.version, keep == 1 ? 4711 : (uint32_t)*ver);
        CHECK_STATUS(table_find_ref(h, 2, hash, was, &slot), KV_MISS);
        slot.ref = ref;
    }
    end();
}

/* Equal hashes: the segment cannot be split; with eviction one leaves, without it is full. */
static void test_equal_hashes_in_store(void) {
    for (uint32_t evict = 0; evict < 2; evict++) {
        begin(evict ? KV_OPT_EVICT : 0);
        uint64_t hash = hash_of(1, 2, 3, 5, 7);
        kv_status s = KV_OK;
        uint64_t n = 0, limit = WHOLE + 50, there = 0;
        for (; s == KV_OK && n < limit; n++) {
            unsigned char room[16];
            struct kv_key key = key_of_hash(h, hash, n, room);
            struct kv_value value = {.type = KV_TYPE_BYTES, .data = "x", .len = 1};
            struct kv_op op = kv_op_make(h);
            s = store_put(&op, &key, &value, 0, KV_PUT_SET, NULL);
            store_leave(&op);
        }
        CHECK_STATUS(s, evict ? KV_OK : KV_FULL);
        CHECK_EQ(n, evict ? limit : WHOLE + 1);
        struct kv_slot slot;
        for (uint64_t i = 0; i < n; i++)
            there += find(hash, i, &slot) == KV_OK;
        CHECK_EQ(there, WHOLE);
        CHECK_EQ(world_stat(h, KV_STAT_EVICTED_INDEX), evict ? 50 : 0);
        OK(find(hash, evict ? limit - 1 : 0, &slot));
        end();
    }
}

/* ---- splits ------------------------------------------------------------------------------- */

/* Keys all over a stripe, told by mark; counters follow from the mark. */
static uint64_t spread(uint32_t s, uint64_t i) {
    uint64_t hash = kv_hash(&i, sizeof i, kv_test_seed) >> 8;
    return hash | (uint64_t)s << h->g.stripe_shift;
}

static void spread_insert(uint32_t s, uint32_t n) {
    struct kv_slot slot;
    for (uint32_t i = 0; i < n; i++) {
        insert(spread(s, i), i);
        OK(find(spread(s, i), i, &slot));
        slot_set_counter(&slot, i % 4);
    }
}

static void spread_verify(uint32_t s, uint32_t n) {
    struct kv_slot slot;
    for (uint32_t i = 0; i < n; i++) {
        OK(find(spread(s, i), i, &slot));
        CHECK_EQ(slot_counter(&slot), i % 4);
        CHECK_STATUS(find(spread(s, i), i + n, &slot), KV_MISS);
    }
    CHECK_EQ(stripe_at(h, s)->count, n);
}

static uint32_t owned(uint32_t s) {
    uint32_t n = 0;
    for (uint32_t base = 0; base < kv_header_of(h)->index_high; base++)
        for (uint32_t i = 0; i < h->g.index_per_base; i++)
            n += kv_page_state(page_word(h, base)) == KV_INDEX &&
                 page_at(h, base)->segment[i] == s + 1;
    return n;
}

static void test_split(void) {
    begin(0);
    spread_insert(2, 400);
    make_segments(8);
    uint64_t hash = spread(2, 0), ver = stripe_at(h, 2)->ver;
    uint32_t *dir = directory_at(h, 2), n = 1u << h->g.dir_bits, was = kv_dir_segment(dir[0]);
    OK(split(hash));
    CHECK_EQ(stripe_at(h, 2)->ver, ver + 1);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(kv_dir_depth(dir[i]), 1);
        CHECK_EQ(kv_dir_segment(dir[i]), kv_dir_segment(dir[i < n / 2 ? 0 : n - 1]));
        CHECK(kv_dir_segment(dir[i]) != was);
    }
    CHECK(dir[0] != dir[n - 1]);
    CHECK_EQ(owned(2), 2);
    CHECK_EQ(*arena_index_owner(h, was), 0); /* the old one is free for others */
    spread_verify(2, 400);
    OK(split(hash));
    OK(split(hash));
    CHECK_EQ(owned(2), 4);
    spread_verify(2, 400);
    end();
}

/* All on one side, down to the last bit of the directory; the other sides stay empty. */
static void test_split_to_the_end(void) {
    static const uint32_t places[] = {0, 11, 31};
    for (unsigned k = 0; k < 3; k++) {
        begin(0);
        CHECK_EQ(h->g.dir_bits, 5);
        uint64_t hash = hash_of(4, places[k], 8, 3, 4);
        for (uint32_t i = 0; i < WHOLE; i++)
            insert(hash, i);
        for (uint32_t i = 13; i < WHOLE; i++) /* the counts of the old segment stick */
            take_away(hash, i);
        make_segments(12);
        struct kv_slot slot;
        for (uint32_t depth = 1; depth <= h->g.dir_bits; depth++) {
            OK(split(hash));
            CHECK_EQ(kv_dir_depth(directory_at(h, 4)[places[k]]), depth);
            CHECK_EQ(owned(4), depth + 1);
            for (uint32_t i = 0; i < 13; i++)
                OK(find(hash, i, &slot));
            CHECK_EQ(segment_of_hash(hash)[8].overflow, 1); /* counted anew */
            (void)world_check(h);
        }
        CHECK_STATUS(split(hash), KV_FULL);
        CHECK_EQ(owned(4), h->g.dir_bits + 1);
        end();
    }
}

/* No free index segment, or only one: nothing changes, the one goes back. */
static void test_split_without_memory(void) {
    begin(0);
    spread_insert(6, 300);
    uint32_t taken[64], n = 0;
    while ((taken[n] = arena_index_take(h, 7)) != 0)
        n++;
    for (uint32_t one = 0; one < 2; one++) {
        if (one == 1) {
            make_segments(1);
            while (arena_index_take(h, 7) != 0)
                n++;
            lock(7);
            OK(table_recover_locked(h, 7)); /* frees all that were taken so */
            table_unlock(h, 7);
            while (owned(7) < n)
                CHECK(arena_index_take(h, 7) != 0);
        }
        uint64_t ver = stripe_at(h, 6)->ver;
        uint32_t before = owned(6), free_before = 0;
        CHECK_STATUS(split(spread(6, 0)), KV_NOINDEX);
        CHECK(stripe_at(h, 6)->ver == ver && owned(6) == before);
        while (arena_index_take(h, 7) != 0)
            free_before++;
        CHECK_EQ(free_before, one);
        spread_verify(6, 300);
    }
    lock(7);
    OK(table_recover_locked(h, 7));
    table_unlock(h, 7);
    OK(split(spread(6, 0)));
    spread_verify(6, 300);
    end();
}

/* Items whose deadline has passed leave by their own commits and are in neither half. */
static void test_split_drops_expired(void) {
    int64_t clock_before = kv_clock_offset_ms;
    begin(0);
    uint64_t now = kv_clock_ms();
    for (uint64_t i = 0; i < 300; i++) /* expired; far away; never */
        OK(insert_until(spread(5, i), i,
                        i % 3 == 0   ? now + 5
                        : i % 3 == 1 ? now + 9999999
                                     : 0,
                        true));
    make_segments(4);
    kv_clock_offset_ms += 1000;
    uint64_t ver = stripe_at(h, 5)->ver, expired = world_stat(h, KV_STAT_EXPIRED);
    OK(split(spread(5, 0)));
    CHECK_EQ(stripe_at(h, 5)->ver, ver + 100 + 1);
    CHECK(stripe_at(h, 5)->count == 200 && stripe_at(h, 5)->live == 100 * 48 + 100 * 32);
    CHECK_EQ(world_stat(h, KV_STAT_EXPIRED), expired + 100);
    struct kv_slot slot;
    for (uint64_t i = 0; i < 300; i++)
        CHECK_STATUS(find(spread(5, i), i, &slot), i % 3 == 0 ? KV_MISS : KV_OK);
    end();
    kv_clock_offset_ms = clock_before;
}

/* ---- recovery ----------------------------------------------------------------------------- */

static jmp_buf grave;

static void die(const char *name, void *arg) {
    (void)name;
    (void)arg;
    kv_fault_arm(0, 0);
    longjmp(grave, 1);
}

/* Recover; die at the n-th step. false: it came to its end. */
static bool recovery_dies(uint32_t s, uint64_t n) {
    kv_fault_hook(die, NULL);
    kv_fault_arm(n, KV_FAULT_CALL);
    if (setjmp(grave) != 0)
        return true;
    OK(table_recover_locked(h, s));
    kv_fault_arm(0, 0);
    return false;
}

/* As the bytes are now: recovery, interrupted at every step and begun again, ends the same way. */
static void recover_all_ways(uint32_t s, uint32_t items, uint32_t segments) {
    struct image broken = image_take(h);
    uint64_t n = 1;
    bool died = true;
    for (; died; n += 1 + n / 16) {
        image_restore(h, &broken);
        uint64_t ver = stripe_at(h, s)->ver;
        died = recovery_dies(s, n);
        if (died)
            OK(table_recover_locked(h, s));
        CHECK(stripe_at(h, s)->ver > ver); /* who read by the lost entries looks again */
        CHECK_EQ(owned(s), segments);
        CHECK_EQ(stripe_at(h, s)->count, items);
    }
    spread_verify(s, items);
    (void)world_check(h);
    struct image whole = image_take(h); /* repeated, it changes nothing but the version */
    uint64_t ver = stripe_at(h, s)->ver;
    OK(table_recover_locked(h, s));
    stripe_at(h, s)->ver = ver;
    CHECK(memcmp(h->base, whole.bytes, whole.length) == 0);
    image_free(&whole);
    image_free(&broken);
}

/* Split, then put things back to how a death after `stored` directory stores leaves them. */
static void half_split(uint32_t s, uint64_t hash, uint32_t stored) {
    uint32_t *dir = directory_at(h, s), bits = h->g.dir_bits, at = kv_hash_dir(hash, bits);
    uint32_t old = dir[at], span = 1u << (bits - kv_dir_depth(old)), from = at & ~(span - 1);
    uint64_t ver = stripe_at(h, s)->ver;
    OK(split(hash));
    *arena_index_owner(h, kv_dir_segment(old)) = (uint16_t)(s + 1);
    stripe_at(h, s)->ver = ver;
    stripe_at(h, s)->count = 12345;
    stripe_at(h, s)->live = 0;
    for (uint32_t i = stored; i < span; i++)
        dir[from + i] = old;
}

static void test_half_done_splits(void) {
    const uint32_t s = 3, items = 300;
    begin(0);
    spread_insert(s, items);
    make_segments(16);
    for (uint32_t depth = 0; depth < h->g.dir_bits; depth++) {
        uint64_t hash = spread(s, 7);
        uint32_t span = 1u << (h->g.dir_bits - depth), segments = owned(s);
        struct image before = image_take(h);
        for (uint32_t stored = 0; stored <= span; stored++) {
            (void)snprintf(kv_test_where, sizeof kv_test_where, "depth %u, %u of %u entries", depth,
                           stored, span);
            half_split(s, hash, stored);
            recover_all_ways(s, items, stored < span ? segments : segments + 1);
            uint32_t word = directory_at(h, s)[kv_hash_dir(hash, h->g.dir_bits)];
            CHECK_EQ(kv_dir_depth(word), stored < span ? depth : depth + 1);
            image_restore(h, &before);
        }
        image_free(&before);
        OK(split(hash));
    }
    end();
}

/* A death before any directory store, with one half taken, or both. */
static void test_unnamed_segments(void) {
    begin(0);
    spread_insert(3, 100);
    make_segments(4);
    for (uint32_t n = 1; n <= 3; n++) {
        for (uint32_t i = 0; i < n; i++)
            CHECK(arena_index_take(h, 3) != 0);
        CHECK_EQ(owned(3), 1 + n);
        recover_all_ways(3, 100, 1);
    }
    uint32_t other = owned(2);
    CHECK(arena_index_take(h, 2));
    OK(table_recover_locked(h, 3)); /* another stripe's are not touched */
    CHECK_EQ(owned(2), other + 1);
    OK(table_recover_locked(h, 2));
    end();
}

/* A dead owner's lock: the next one gets it repaired, by the kernel's proof. */
static void test_lock_repairs(void) {
    begin(0);
    spread_insert(3, 100);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    OK(table_lock(&op, 3));
    stripe_at(h, 3)->count = 0;
    uint64_t ver = stripe_at(h, 3)->ver;
    world_abandon(twin);
    lock(3);
    CHECK_EQ(stripe_at(h, 3)->count, 100);
    CHECK_EQ(stripe_at(h, 3)->ver, ver + 1);
    table_unlock(h, 3);
    CHECK_EQ(world_stat(h, KV_STAT_RECOVERIES), 1);
    end();
}

/* ---- damage ------------------------------------------------------------------------------- */

static void test_damaged_directory(void) {
    static const uint32_t words[] = {0, KV_DIR_SEGMENT, 1 | 1u << 24, 0xFFFFFFFF};
    begin(0);
    spread_insert(3, 100);
    uint32_t *dir = directory_at(h, 3), n = 1u << h->g.dir_bits, good = dir[0];
    struct kv_slot slot;
    for (unsigned k = 0; k < sizeof words / sizeof words[0]; k++) {
        for (uint32_t i = 0; i < n; i++)
            dir[i] = words[k];
        CHECK_STATUS(find(spread(3, 1), 1, &slot), KV_CORRUPT);
        CHECK_STATUS(table_recover_locked(h, 3), KV_CORRUPT);
        CHECK_STATUS(split(spread(3, 1)), KV_CORRUPT);
    }
    for (uint32_t i = 0; i < n; i++)
        dir[i] = good;
    spread_verify(3, 100);
    end();
}

/* Every ref into a damaged page is cut out, no other. */
static void test_sweep(void) {
    begin(0);
    spread_insert(3, 100);
    struct kv_slot slot;
    kv_ref from = KV_SIZE_MAX / KV_GRANULE - 1, to = 0;
    for (uint32_t i = 30; i < 60; i++) {
        OK(find(spread(3, i), i, &slot));
        from = slot.ref < from ? slot.ref : from;
        to = slot.ref + 1 > to ? slot.ref + 1 : to;
    }
    struct kv_op op = kv_op_make(h);
    OK(table_sweep(&op, from, to));
    for (uint32_t i = 0; i < 100; i++)
        CHECK_STATUS(find(spread(3, i), i, &slot), i >= 30 && i < 60 ? KV_MISS : KV_OK);
    CHECK_EQ(stripe_at(h, 3)->count, 70);
    end();
}

static const struct kv_test tests[] = {
    {"table_bucket_full", test_bucket_full},
    {"table_path_of_64", test_path_of_64},
    {"table_counter", test_counter},
    {"table_versions", test_versions},
    {"table_equal_hashes_in_store", test_equal_hashes_in_store},
    {"table_split", test_split},
    {"table_split_to_the_end", test_split_to_the_end},
    {"table_split_without_memory", test_split_without_memory},
    {"table_split_drops_expired", test_split_drops_expired},
    {"table_half_done_splits", test_half_done_splits},
    {"table_unnamed_segments", test_unnamed_segments},
    {"table_lock_repairs", test_lock_repairs},
    {"table_damaged_directory", test_damaged_directory},
    {"table_sweep", test_sweep},
};
KV_TEST_MAIN(tests)
