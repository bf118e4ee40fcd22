/* test_evict.c: who leaves, and when nobody may.
 *
 * Live bytes below the high watermark stay whatever is overwritten; a value of an eighth of the
 * arena always fits an evicting store; without eviction nothing is lost and Full comes near the
 * capacity only; pins hold their bytes; what a dead process held comes back. Sizes, not seconds:
 * nothing here waits for time to pass. */
#include "kv_test.h"

#define MIB ((uint64_t)1 << 20)

static uint64_t largest(struct kv_handle *h) { return arena_bytes(h) / 8 - 36 - 16 - 20; }

/* ---- a live set stays --------------------------------------------------------------------- */

struct live_set {
    uint32_t *stamp, *size;
    uint32_t count;
};

static void live_fill(struct kv_handle *h, struct live_set *set, uint64_t bytes, uint32_t low,
                      uint32_t high, struct chance *c) {
    uint64_t used = 0;
    *set = (struct live_set){calloc(200000, 4), calloc(200000, 4), 0};
    CHECK(set->stamp != NULL && set->size != NULL);
    while (used < bytes && set->count < 200000) {
        uint32_t size = low == high ? low : chance_size(c, low, high);
        OK(item_set(h, set->count, 1, size));
        set->stamp[set->count] = 1;
        set->size[set->count++] = size;
        used += size + 32;
    }
}

static void live_verify(struct kv_handle *h, const struct live_set *set) {
    uint32_t lost = 0, stamp;
    uint64_t len;
    for (uint32_t i = 0; i < set->count; i++) {
        if (item_get(h, i, &stamp, &len) != KV_OK) {
            lost++;
            continue;
        }
        CHECK_EQ(len, set->size[i]);
        CHECK(len < 8 || stamp == set->stamp[i]);
    }
    (void)snprintf(kv_test_where, sizeof kv_test_where,
                   "%u of %u items lost, evicted %" PRIu64 ", copied %" PRIu64 " MiB for %" PRIu64
                   " MiB written",
                   lost, set->count, world_stat(h, KV_STAT_EVICTED),
                   world_stat(h, KV_STAT_COPIED) / MIB, world_stat(h, KV_STAT_WRITTEN) / MIB);
    CHECK_EQ(lost, 0);
    if (getenv("SHMKV_TEST_TELL") != NULL)
        printf("  %s\n", kv_test_where);
}

static void overwrites(uint64_t size, uint32_t options, unsigned percent, uint32_t low,
                       uint32_t high, uint64_t rounds, bool same_size) {
    struct kv_handle *h = world_open(size, options);
    struct chance c = chance_make(percent + low);
    struct live_set set;
    live_fill(h, &set, arena_bytes(h) * percent / 100, low, high, &c);
    for (uint64_t i = 0; i < rounds; i++) {
        uint32_t id = chance_below(&c, set.count / 10 + 1); /* a tenth is overwritten */
        if (!same_size && low != high &&
            i % 4 == 0) { /* another item gets this size and it the other's */
            uint32_t other = chance_below(&c, set.count / 10 + 1), size_was = set.size[id];
            set.size[id] = set.size[other];
            set.size[other] = size_was;
            OK(item_set(h, other, ++set.stamp[other], set.size[other]));
        }
        OK(item_set(h, id, ++set.stamp[id], set.size[id]));
    }
    live_verify(h, &set);
    (void)world_account(h);
    live_verify(h, &set);
    free(set.stamp);
    free(set.size);
    store_detach(h);
}

static void test_half_equal(void) {
    overwrites(8 * MIB, KV_OPT_EVICT, 50, 100, 100, scaled(1000000), true);
}
static void test_half_mixed(void) {
    overwrites(16 * MIB, KV_OPT_EVICT, 50, 20, 20000, scaled(300000), false);
}
static void test_half_extents(void) {
    overwrites(16 * MIB, KV_OPT_EVICT, 50, 20, 600000, scaled(4000), true);
}
static void test_seventy_mixed(void) {
    overwrites(16 * MIB, KV_OPT_EVICT, 70, 20, 20000, scaled(50000), true);
}
static void test_keep_eighty(void) { overwrites(8 * MIB, 0, 80, 20, 2000, scaled(150000), true); }

/* ---- a value that may fit is stored ------------------------------------------------------- */

static void large_after(uint64_t size, uint32_t low, uint32_t high) {
    struct kv_handle *h = world_open(size, KV_OPT_EVICT);
    struct chance c = chance_make(high);
    uint64_t filled = 0;
    for (uint32_t i = 0; filled < 3 * size; i++) {
        uint32_t len = chance_size(&c, low, high);
        OK(item_set(h, i, 1, len));
        filled += len + 32;
    }
    uint64_t most = largest(h) < KV_ITEM_TEST_MAX ? largest(h) : KV_ITEM_TEST_MAX;
    for (uint32_t i = 0; i < 20; i++) {
        OK(item_set(h, 1000000 + i, 1, i % 2 == 0 ? most : most / (1 + chance_below(&c, 6))));
        OK(item_get(h, 1000000 + i, NULL, NULL));
        for (uint32_t k = 0; k < 50; k++)
            OK(item_set(h, 2000000 + chance_below(&c, 1000), 1, chance_size(&c, low, high)));
    }
    CHECK_STATUS(item_set(h, 1, 1, arena_bytes(h) / 8), KV_TOOLARGE);
    (void)world_settle(h);
    store_detach(h);
}

static void test_large_always_fits(void) {
    static const uint64_t sizes[] = {2 * MIB, 3 * MIB, 7 * MIB, 16 * MIB, 33 * MIB};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (kv_test_scale < 2 &&
            i == 2 + kv_test_seed % 3) /* quick: the small, two of the others */
            continue;
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%" PRIu64 " MiB", sizes[i] / MIB);
        large_after(sizes[i], 8, 400);
        large_after(sizes[i], 70000, (uint32_t)(sizes[i] / 20 > 70001 ? sizes[i] / 20 : 70001));
        large_after(sizes[i], 8, (uint32_t)(sizes[i] / 12));
    }
}

static void test_seven_phases(void) {
    struct kv_handle *h = world_open(16 * MIB, KV_OPT_EVICT);
    struct chance c = chance_make(7);
    static const uint32_t sizes[7] = {60, 4000, 300, 150000, 30, 900000, 1000};
    uint64_t failed = 0;
    for (unsigned phase = 0; phase < 7; phase++)
        for (uint64_t bytes = 0, i = 0; bytes < scaled(48) * MIB; i++) {
            uint32_t len = sizes[phase] / 2 + chance_below(&c, sizes[phase]);
            failed += item_set(h, phase * 1000000 + (uint32_t)(i % 700000), 1, len) != KV_OK;
            bytes += len + 150; /* few enough of the small */
        }
    CHECK_EQ(failed, 0);
    (void)world_settle(h);
    store_detach(h);
}

/* ---- without eviction --------------------------------------------------------------------- */

static void full_near_capacity(uint64_t size, uint32_t low, uint32_t high, unsigned least_percent) {
    struct kv_handle *h = world_open(size, 0);
    bool few = low > 262144; /* then it matters which: the same ones each time */
    struct chance c = few ? (struct chance){20261} : chance_make(low + high);
    uint32_t n = 0;
    kv_status s;
    uint64_t begin = kv_clock_ns();
    while ((s = item_set(h, n, 1, chance_size(&c, low, high))) == KV_OK)
        n++;
    uint64_t live = victim_live_bytes(h), took = kv_clock_ns() - begin;
    struct kv_report r = world_check(h);
    (void)snprintf(kv_test_where, sizeof kv_test_where,
                   "%u..%u B in %" PRIu64 " MiB: %s at %.1f %% (index %.1f %%), "
                   "%.0f ms",
                   low, high, size / MIB, kv_test_status(s),
                   100.0 * (double)live / (double)arena_bytes(h),
                   100.0 * (double)r.bases_index / (double)r.bases, (double)took / 1e6);
    if (getenv("SHMKV_TEST_TELL") != NULL)
        printf("  %s\n", kv_test_where);
    CHECK_STATUS(s, KV_FULL);
    for (uint32_t i = 0; i < n; i++)
        OK(item_get(h, i, NULL, NULL));
    CHECK((live + (r.bases_index << h->g.base_shift)) * 100 >= arena_bytes(h) * least_percent);
    (void)world_check(h);
    /* every second one deleted: most of that can be stored again; not all, where adjacent memory is
     * wanted */
    for (uint32_t i = 0; i < n; i += 2)
        OK(item_delete(h, i));
    unsigned tenths = few ? 3 : high > 65536 ? 7 : 9;
    uint64_t half = victim_live_bytes(h), goal = half + (live - half) * tenths / 10;
    for (uint32_t i = n; victim_live_bytes(h) < goal; i++)
        OK(item_set(h, i, 1, chance_size(&c, low, high)));
    for (uint32_t i = 1; i < n; i += 2)
        OK(item_get(h, i, NULL, NULL));
    (void)world_settle(h);
    store_detach(h);
}

/* Cleaners have used up what is withheld for them; a few items that are gone lie alone in a page
 * that was closed early. It is what can be had without copying, and with it all the rest. */
static void test_full_without_a_place(void) {
    struct kv_handle *h = world_open(4 * MIB, 0);
    struct kv_op op = kv_op_make(h);
    uint32_t n = 0, held[64], pages = 0;
    for (; n < 20; n++)
        OK(item_set(h, n, 1, 100));
    OK(victim_close_open(&op));
    while (item_set(h, n, 1, 100) == KV_OK)
        n++;
    while (arena_take(&op, 1, KV_TAKE_PRIVILEGED, &held[pages]) == KV_OK)
        CHECK(++pages < 64);
    CHECK(pages > 0);
    OK(victim_close_open(&op));
    for (uint32_t i = 0; i < n; i++)
        if (i < 20 || i % 2)
            OK(item_delete(h, i));
    for (uint32_t i = n; i < n + n / 3; i++)
        OK(item_set(h, i, 1, 100));
    for (uint32_t i = 20; i < n; i += 2)
        OK(item_get(h, i, NULL, NULL));
    while (pages > 0)
        arena_give(h, held[--pages], kv_number(h));
    store_leave(&op);
    (void)world_account(h);
    store_detach(h);
}

static void test_full_small(void) { full_near_capacity(4 * MIB, 100, 100, 88); }
static void test_full_mixed(void) { full_near_capacity(16 * MIB, 20, 20000, 85); }
static void test_full_wide(void) { full_near_capacity(16 * MIB, 2000, 200000, 70); }
static void test_full_extents(void) { full_near_capacity(16 * MIB, 300000, 900000, 75); }

/* ---- expiry ------------------------------------------------------------------------------- */

static void test_expired_give_back(void) {
    int64_t before = kv_clock_offset_ms;
    struct kv_handle *h = world_open(4 * MIB, 0);
    for (unsigned round = 0; round < 6; round++) {
        uint32_t n = 0;
        kv_status s;
        while ((s = item_put(h, round * 100000 + n, 1, 500, kv_clock_ms() + 100000, KV_PUT_SET)) ==
               KV_OK)
            n++;
        CHECK_STATUS(s, KV_FULL);
        CHECK((uint64_t)n * 540 > arena_bytes(h) * 8 / 10);
        kv_clock_offset_ms += 1100000;
    }
    CHECK_STATUS(item_get(h, 500001, NULL, NULL), KV_MISS);
    (void)world_account(h);
    kv_clock_offset_ms = before;
    store_detach(h);
}

/* A full store; `alive` of its items live on when the others have expired. */
static struct kv_handle *full_and_expired(uint64_t size, uint32_t alive, uint32_t *n) {
    struct kv_handle *h = world_open(size, 0);
    for (*n = 0;; ++*n) {
        uint64_t deadline = *n < alive ? 0 : kv_clock_ms() + 100000;
        kv_status s = item_put(h, *n, 1, 100, deadline, KV_PUT_SET);
        if (s == KV_OK)
            continue;
        CHECK_STATUS(s, KV_FULL);
        break;
    }
    kv_clock_offset_ms += 200000;
    return h;
}

/* To look for what has expired is no waiting: who has no time to wait gets the room, too, and where
 * there is none hears that the store is full, not that it is busy. */
static void test_expired_without_time(void) {
    int64_t before = kv_clock_offset_ms;
    uint32_t n;
    struct kv_handle *h = full_and_expired(4 * MIB, UINT32_MAX, &n);
    h->lock_timeout_ns = 0;
    CHECK_STATUS(item_set(h, n + 1, 1, 100), KV_FULL);
    store_detach(h);
    h = full_and_expired(4 * MIB, 10000, &n); /* what has expired lies in the pages behind */
    h->lock_timeout_ns = 0;
    for (uint32_t i = 0; i < 1000; i++)
        OK(item_set(h, n + 1 + i, 1, 100));
    h->lock_timeout_ns = 1000000000;
    (void)world_account(h);
    kv_clock_offset_ms = before;
    store_detach(h);
}

/* One write frees as much as it wants, not the store. */
static void test_expired_some(void) {
    int64_t before = kv_clock_offset_ms;
    uint32_t n;
    struct kv_handle *h = full_and_expired(64 * MIB, 0, &n);
    OK(item_set(h, n + 1, 1, 100));
    (void)snprintf(kv_test_where, sizeof kv_test_where, "%u items, %" PRIu64 " left", n,
                   store_len(h));
    CHECK(store_len(h) > n / 4 * 3);
    OK(item_set(h, n + 2, 1, 2 * MIB)); /* longer than a page: all that can make way does */
    (void)world_account(h);
    kv_clock_offset_ms = before;
    store_detach(h);
}

/* What is remembered of pages is one thread's at a time: the others leave it alone. */
static void test_expired_one_thread(void) {
    int64_t before = kv_clock_offset_ms;
    uint32_t n;
    struct kv_done done;
    struct kv_handle *h = full_and_expired(4 * MIB, 0, &n);
    struct kv_op op = kv_op_make(h);
    h->lock_timeout_ns = 2000000;
    kv_store_rlx(&h->own->working, 1u); /* a thread is at it */
    OK(work_ahead(&op, 1000000000, &done));
    CHECK_EQ(done.freed, 0);
    CHECK_STATUS(item_set(h, n + 1, 1, 100), KV_BUSY);
    kv_store_rlx(&h->own->working, 0u);
    OK(work_ahead(&op, 1000000000, &done));
    CHECK(done.freed > 0);
    OK(item_set(h, n + 1, 1, 100));
    store_leave(&op);
    CHECK_EQ(kv_load_rlx(&h->own->working), 0);
    kv_clock_offset_ms = before;
    store_detach(h);
}

static uint32_t work(struct kv_handle *h) {
    struct kv_done done;
    struct kv_op op = kv_op_make(h);
    OK(work_ahead(&op, 1000000000, &done));
    store_leave(&op);
    return done.freed;
}

/* Stripes that somebody keeps: pages with what has expired in them are left alone for a moment, and
 * come free afterwards. */
static void test_expired_in_use(void) {
    int64_t before = kv_clock_offset_ms;
    uint32_t n;
    struct kv_handle *h = full_and_expired(4 * MIB, 0, &n), *twin = world_twin(h);
    struct kv_op keeper = kv_op_make(twin);
    for (uint32_t s = 0; s < h->g.stripes; s++)
        OK(table_lock(&keeper, s));
    h->lock_timeout_ns = 2000000;
    for (uint32_t i = 0; i < 2; i++)
        CHECK_EQ(work(h), 0);
    for (uint32_t s = 0; s < h->g.stripes; s++)
        table_unlock(twin, s);
    h->lock_timeout_ns = 5000000000u;
    kv_clock_offset_ms += 200;
    CHECK(work(h) > 0);
    kv_clock_offset_ms = before;
    store_detach(twin);
    (void)world_account(h);
    store_detach(h);
}

/* An open page that grows is looked through once a second. */
static void test_expired_open(void) {
    int64_t before = kv_clock_offset_ms;
    struct kv_handle *h = world_open(4 * MIB, 0);
    for (uint32_t i = 0; i < 40; i++)
        OK(item_put(h, i, 1, 100, kv_clock_ms() + 60000, KV_PUT_SET));
    kv_clock_offset_ms += 2000; /* it has been open for long */
    (void)work(h);
    OK(item_put(h, 40, 1, 100, kv_clock_ms() + 60000, KV_PUT_SET));
    (void)work(h);
    kv_clock_offset_ms += 70000;
    OK(item_put(h, 41, 1, 100, kv_clock_ms() + 60000, KV_PUT_SET));
    for (uint32_t i = 0; i < 3; i++, kv_clock_offset_ms += 1500)
        (void)work(h);
    CHECK_STATUS(item_get(h, 0, NULL, NULL), KV_MISS);
    OK(item_get(h, 41, NULL, NULL));
    kv_clock_offset_ms = before;
    (void)world_account(h);
    store_detach(h);
}

/* ---- pins --------------------------------------------------------------------------------- */

struct held {
    struct kv_pin pin;
    const void *data;
    struct kv_meta meta;
    uint32_t id;
};

static void hold(struct kv_handle *h, uint32_t id, struct held *held) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_op op = kv_op_make(h);
    held->id = id;
    OK(store_pin(&op, &key, &held->meta, &held->pin, &held->data));
}

static void held_same(const struct held *held) {
    uint32_t stamp;
    CHECK(item_wrong(held->id, held->data, held->meta.value_len, &stamp) == NULL);
    CHECK_EQ(stamp, 1);
}

static void test_pins_hold(void) {
    struct kv_handle *h = world_open(4 * MIB, KV_OPT_EVICT), *twin = world_twin(h);
    struct chance c = chance_make(3);
    struct held held[40];
    for (uint32_t i = 0; i < 3000; i++)
        OK(item_set(h, i, 1, 500));
    for (uint32_t i = 0; i < 8; i++)
        hold(i % 2 == 0 ? h : twin, i * 3 + (i >= 4 ? 2900 : 0), &held[i]);
    for (uint32_t i = 0; i < scaled(30000); i++) {
        OK(item_set(h, chance_below(&c, 3000), 2, chance_size(&c, 8, 60000)));
        if (i % 500 == 0)
            for (uint32_t k = 0; k < 8; k++)
                held_same(&held[k]);
    }
    for (uint32_t i = 0; i < 8; i++) {
        held_same(&held[i]);
        store_unpin(i % 2 == 0 ? h : twin, &held[i].pin);
    }
    for (uint32_t i = 8; i < 40; i++) { /* more than a row holds */
        OK(item_set(h, i, 1, 100));
        hold(h, i, &held[i]);
    }
    OK(item_set(h, 50, 1, 100));
    hold(h, 50, &held[0]);
    CHECK(h->own->rows == 2);
    for (uint32_t i = 7; i < 40; i++)
        store_unpin(h, &held[i == 7 ? 0 : i].pin);
    store_detach(twin);
    (void)world_account(h);
    store_detach(h);
}

/* Forty pinned pages of a store of 512 MiB are an eighth of an eighth of it: they may not stop the
 * others. */
static void test_pinned_oldest(void) {
    struct kv_handle *h = world_open(512 * MIB, KV_OPT_EVICT);
    struct held held[40];
    uint32_t page = (uint32_t)(h->g.std_run << h->g.base_shift), size = 200000,
             per = page / (size + 48) + 1, id = 0;
    h->lock_timeout_ns = 200000000;
    for (; id < 40 * per * 3; id++)
        OK(item_set(h, id, 1, size));
    for (uint32_t i = 0; i < 40; i++)
        hold(h, i * per * 3, &held[i]);
    for (uint64_t bytes = 0; bytes < 600 * MIB; bytes += size)
        OK(item_set(h, id++, 1, size));
    for (uint32_t i = 0; i < 40; i++) {
        held_same(&held[i]);
        store_unpin(h, &held[i].pin);
    }
    store_detach(h);
}

/* ---- what others hold --------------------------------------------------------------------- */

/* A page somebody took and died with comes back without a new attachment or a check. */
static void test_dead_pages_come_back(void) {
    struct kv_handle *h = world_open(4 * MIB, 0), *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    uint32_t head, n = 0, taken = arena_bases(h) / 4;
    OK(arena_take(&op, taken, 0, &head));
    world_abandon(twin);
    while (item_set(h, n, 1, 1000) == KV_OK)
        n++;
    (void)snprintf(kv_test_where, sizeof kv_test_where,
                   "full at %.1f %%, a dead process has taken %.1f %%",
                   100.0 * (double)victim_live_bytes(h) / (double)arena_bytes(h),
                   100.0 * taken / arena_bases(h));
    CHECK(victim_live_bytes(h) * 10 > arena_bytes(h) * 8);
    store_detach(h);
}

/* A stopped process inside an appender's lock: others get their value in, or Busy within their
 * time. */
static void test_stopped_appender(void) {
    struct kv_handle *h = world_open(4 * MIB, KV_OPT_EVICT), *stopped = world_twin(h);
    for (uint32_t i = 0; i < 8000; i++)
        OK(item_set(h, i, 1, 900));
    for (uint32_t i = 0; i < 8000; i++) /* far below the watermark */
        (void)item_delete(h, i);
    for (uint32_t i = 0; i < 40; i++)
        OK(item_set(h, i, 1, 900));
    struct kv_op op = kv_op_make(stopped);
    for (uint32_t k = 0; k <= kv_appender_own(&h->g); k++)
        OK(lock_take(&op, &kv_header_of(h)->appenders[k].lock));
    h->lock_timeout_ns = 100000000;
    for (uint32_t i = 0; i < 12; i++) {
        uint64_t begin = kv_clock_ns();
        kv_status s = item_set(h, 100000 + i, 1, largest(h));
        uint64_t took = kv_clock_ns() - begin;
        (void)snprintf(kv_test_where, sizeof kv_test_where, "extent %u: %s after %.0f ms", i,
                       kv_test_status(s), (double)took / 1e6);
        CHECK(s == KV_OK || s == KV_BUSY);
        CHECK(took < 20000000000u); /* a hundred times its limit, and more */
    }
    for (uint32_t k = 0; k <= kv_appender_own(&h->g); k++)
        lock_give(&kv_header_of(h)->appenders[k].lock);
    store_detach(stopped);
    (void)world_account(h);
    store_detach(h);
}

/* Making an index page while extents lie at the arena's beginning costs a few items, not the store.
 */
static void test_index_under_extents(void) {
    struct kv_handle *h = world_open(16 * MIB, KV_OPT_EVICT);
    uint32_t id = 0;
    for (uint64_t bytes = 0; bytes < 40 * MIB; bytes += 900000) /* all of it, the zone too */
        OK(item_set(h, id++, 1, 900000));
    for (uint32_t i = 0; i < 60; i++) /* young ones */
        OK(item_set(h, 500000 + i, 1, 100000));
    uint64_t before = world_stat(h, KV_STAT_EVICTED), index = world_check(h).bases_index;
    for (uint32_t i = 0; world_check(h).bases_index < index + 3; i++)
        for (uint32_t k = 0; k < 500; k++)
            OK(item_set(h, 1000000 + i * 500 + k, 1, 8));
    uint64_t evicted = world_stat(h, KV_STAT_EVICTED) - before;
    uint32_t left = 0;
    for (uint32_t i = 0; i < 60; i++)
        left += item_get(h, 500000 + i, NULL, NULL) == KV_OK;
    (void)snprintf(kv_test_where, sizeof kv_test_where,
                   "%" PRIu64 " evicted, %u of 60 young extents left, %" PRIu64 " B live", evicted,
                   left, victim_live_bytes(h));
    if (getenv("SHMKV_TEST_TELL") != NULL)
        printf("  %s\n", kv_test_where);
    CHECK(victim_live_bytes(h) * 2 > arena_bytes(h));
    store_detach(h);
}

static const struct kv_test tests[] = {
    {"evict_half_equal", test_half_equal},
    {"evict_half_mixed", test_half_mixed},
    {"evict_half_extents", test_half_extents},
    {"evict_seventy_mixed", test_seventy_mixed},
    {"evict_keep_eighty", test_keep_eighty},
    {"evict_large_always_fits", test_large_always_fits},
    {"evict_seven_phases", test_seven_phases},
    {"evict_full_without_a_place", test_full_without_a_place},
    {"evict_full_small", test_full_small},
    {"evict_full_mixed", test_full_mixed},
    {"evict_full_wide", test_full_wide},
    {"evict_full_extents", test_full_extents},
    {"evict_expired_give_back", test_expired_give_back},
    {"evict_expired_without_time", test_expired_without_time},
    {"evict_expired_some", test_expired_some},
    {"evict_expired_one_thread", test_expired_one_thread},
    {"evict_pins_hold", test_pins_hold},
    {"evict_pinned_oldest", test_pinned_oldest},
    {"evict_expired_in_use", test_expired_in_use},
    {"evict_expired_open", test_expired_open},
    {"evict_dead_pages_come_back", test_dead_pages_come_back},
    {"evict_stopped_appender", test_stopped_appender},
    {"evict_index_under_extents", test_index_under_extents},
};
KV_TEST_MAIN(tests)
