/* test_threads.c: threads that stand for processes, each with a twin of its own, in one mapping, so
 * that ThreadSanitizer sees what they do to each other.
 *
 * Everything a store can do, at once, in a store so small that pages are cleaned all the time.
 * Values describe themselves: get fails the test on any mixture. In the second test nothing may
 * leave, so counters must come out exact and every key must hold the last value its only writer
 * stored. */
#include "kv_test.h"

#include <pthread.h>

#define THREADS  4u
#define IDS      400u
#define COUNTERS 8u

static struct kv_handle *world;
static int64_t added[THREADS][COUNTERS];
static uint32_t last[THREADS][IDS];

static bool count_shown(void *arg, const void *key, uint32_t len, bool is_str,
                        const struct kv_meta *meta) {
    (void)is_str;
    (void)meta;
    CHECK(key != NULL && len >= 4);
    ++*(uint64_t *)arg;
    return true;
}

static void scan_all(struct kv_handle *h) {
    struct kv_cursor cursor = {0};
    uint64_t n = 0;
    kv_status s;
    do {
        struct kv_op op = kv_op_make(h);
        s = store_scan(&op, &cursor, count_shown, &n);
        store_leave(&op);
    } while (s == KV_OK);
    CHECK_STATUS(s, KV_MISS);
}

static void pop_one(struct kv_handle *h, uint32_t id) {
    static __thread unsigned char *room;
    unsigned char name[32];
    struct kv_key key = item_key_of(h, id, name);
    struct kv_meta meta;
    struct kv_pin pin;
    const void *data;
    uint32_t stamp;
    if (room == NULL)
        room = malloc(KV_ITEM_TEST_MAX);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_pin(&op, &key, &meta, &pin, &data);
    if (s == KV_OK && meta.type == KV_TYPE_BYTES) {
        CHECK(meta.value_len <= KV_ITEM_TEST_MAX);
        kv_copy_out(room, data, meta.value_len);
        CHECK(item_wrong(id, room, meta.value_len, &stamp) == NULL);
    }
    if (s == KV_OK)
        store_unpin(h, &pin);
    CHECK(s == KV_OK || s == KV_MISS);
    store_leave(&op);
    s = item_delete(h, id);
    CHECK(s == KV_OK || s == KV_MISS);
}

static void rename_one(struct kv_handle *h, uint32_t id) {
    unsigned char a[32], b[32];
    struct kv_key from = item_key_of(h, id + 5000, a), to = item_key_of(h, id + 6000, b);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_rename(&op, &from, &to);
    CHECK(s == KV_OK || s == KV_MISS);
    store_leave(&op);
}

static void append_one(struct kv_handle *h, uint32_t id) {
    uint64_t now;
    kv_status s = item_append(h, id + 5000, "0123456789", 10, &now);
    OK(s);
    if (now > 2000)
        (void)item_delete(h, id + 5000);
}

static void anything(struct kv_handle *h, struct chance *c, uint32_t stamp) {
    uint32_t id = chance_below(c, IDS), what = chance_below(c, 1000);
    int64_t n;
    kv_status s = KV_OK;
    if (what < 450)
        s = item_get(h, id, NULL, NULL);
    else if (what < 750)
        s = item_set(h, id, stamp, chance_size(c, 0, what < 460 ? 150000 : 9000));
    else if (what < 800)
        s = item_put(h, id, stamp, 100, kv_clock_ms() + 1 + chance_below(c, 20), KV_PUT_ADD);
    else if (what < 850)
        s = item_delete(h, id);
    else if (what < 900)
        OK(item_incr(h, 10000 + id % COUNTERS, 1, 0, &n));
    else if (what < 930)
        s = item_touch(h, id, chance_below(c, 2) != 0 ? kv_clock_ms() + 1000 : 0);
    else if (what < 960)
        append_one(h, id % 20);
    else if (what < 980)
        pop_one(h, id);
    else if (what < 995)
        rename_one(h, id % 20);
    else if (what < 998)
        scan_all(h);
    else if (what == 998) {
        struct kv_op op = kv_op_make(h);
        s = store_clear(&op, &(struct kv_clear){.begun = 0});
        store_leave(&op);
    } else
        (void)world_check(h);
    CHECK(s == KV_OK || s == KV_MISS || s == KV_EXISTS);
}

static void *do_anything(void *arg) {
    uint32_t me = (uint32_t)(uintptr_t)arg;
    struct kv_handle *h = world_twin(world);
    struct chance c = chance_make(100 + me);
    for (uint32_t i = 0; i < scaled(6000); i++)
        anything(h, &c, i * THREADS + me);
    store_detach(h);
    return NULL;
}

static void *do_exact(void *arg) {
    uint32_t me = (uint32_t)(uintptr_t)arg;
    struct kv_handle *h = world_twin(world);
    struct chance c = chance_make(200 + me);
    for (uint32_t i = 1; i < scaled(6000); i++) {
        uint32_t id = chance_below(&c, IDS), k = chance_below(&c, COUNTERS), stamp = 0;
        int64_t n;
        OK(item_set(h, id * THREADS + me, i, 8 + chance_size(&c, 0, 1500)));
        last[me][id] = i;
        OK(item_incr(h, 10000 + k, i, 0, &n));
        added[me][k] += i;
        id = chance_below(&c, IDS);
        kv_status s = item_get(h, id * THREADS + me, &stamp, NULL);
        CHECK(s == (last[me][id] != 0 ? KV_OK : KV_MISS));
        CHECK_EQ(stamp, last[me][id]);
        (void)item_get(h, chance_below(&c, IDS * THREADS), NULL, NULL);
    }
    store_detach(h);
    return NULL;
}

static void run(void *(*work)(void *)) {
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, work, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
}

static void test_anything(void) {
    world = world_open(2u << 20, KV_OPT_EVICT);
    run(do_anything);
    CHECK(world_stat(world, KV_STAT_CLEANED) > 0);
    (void)world_settle(world);
    store_detach(world);
}

static void test_exact(void) {
    world = world_open(4u << 20, 0);
    run(do_exact);
    CHECK(world_stat(world, KV_STAT_CLEANED) > 0);
    for (uint32_t k = 0; k < COUNTERS; k++) {
        int64_t n, sum = 0;
        for (uint32_t i = 0; i < THREADS; i++)
            sum += added[i][k];
        OK(item_incr(world, 10000 + k, 0, 0, &n));
        CHECK_EQ(n, sum);
    }
    (void)world_settle(world);
    store_detach(world);
}

/* Threads of one process, with one handle, ask for memory at once: none may take for damage what
 * another has just said. */
static void *ask(void *arg) {
    struct kv_handle *h = arg;
    uint64_t mark = segment_watermark(h);
    for (uint64_t end = mark; end < 48u << 20; end += 64u << 10) {
        struct kv_op op = kv_op_make(h);
        OK(segment_back(&op, end));
        uint64_t now = segment_watermark(h);
        CHECK(now >= end && now >= mark);
        mark = now;
    }
    return NULL;
}

static void test_growing(void) {
    for (uint64_t i = scaled(10); i > 0; i--) {
        pthread_t threads[THREADS];
        world = world_open(64u << 20, KV_OPT_EVICT);
        world->held = i % 2 == 0; /* every other one is being filled from disk */
        for (uint32_t t = 0; t < THREADS; t++)
            CHECK(pthread_create(&threads[t], NULL, ask, world) == 0);
        for (uint32_t t = 0; t < THREADS; t++)
            (void)pthread_join(threads[t], NULL);
        world->held = false;
        store_detach(world);
    }
}

static const struct kv_test tests[] = {
    {"threads_growing", test_growing},
    {"threads_anything", test_anything},
    {"threads_exact", test_exact},
};
KV_TEST_MAIN(tests)
