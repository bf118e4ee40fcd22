/* test_resize.c: raising the size of a living store.
 *
 * What is refused and what is left alone; that every attachment has the new size with its next
 * step, and its memory, without anything being backed at the raise; that writers, cleaners and
 * checkers in the middle of their work stay right; that several who raise at once end at the
 * largest; that a file system with no memory left leaves a store that works with what it has. What
 * threads meet stands in parts named "race", for ThreadSanitizer. */
#include "kv_test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define LEN 1000u /* of most values */

static kv_status resize(struct kv_handle *h, uint64_t size) {
    struct kv_op op = kv_op_make(h);
    return store_resize(&op, size);
}

static uint64_t size_of(struct kv_handle *h) { return kv_load_rlx(&kv_header_of(h)->size); }

static uint64_t left(struct kv_handle *h) {
    return world_stat(h, KV_STAT_EVICTED) + world_stat(h, KV_STAT_EVICTED_MAIN) +
           world_stat(h, KV_STAT_EVICTED_INDEX);
}

static struct kv_handle *world_of(uint64_t size, uint64_t max_size, uint32_t options) {
    struct kv_config config = world_config(size, max_size, options, 2);
    return world_open_with(&config);
}

/* ---- what it says ------------------------------------------------------------------------- */

static void test_statuses(void) {
    struct kv_handle *h = world_of(2 * MIB, 8 * MIB, KV_OPT_EVICT);
    uint64_t mark = segment_watermark(h);
    OK(resize(h, 2 * MIB)); /* nothing to do */
    OK(resize(h, 3 * MIB));
    OK(resize(h, 3 * MIB));
    CHECK_STATUS(resize(h, 2 * MIB), KV_MISMATCH);
    CHECK_STATUS(resize(h, 0), KV_MISMATCH);
    CHECK_STATUS(resize(h, 4 * MIB + 1), KV_INVALID);
    CHECK_STATUS(resize(h, 4 * MIB + 512), KV_INVALID);
    CHECK_STATUS(resize(h, 8 * MIB + 4096), KV_INVALID);
    CHECK_STATUS(resize(h, UINT64_MAX & ~(uint64_t)4095), KV_INVALID);
    CHECK_EQ(size_of(h), 3 * MIB);
    OK(resize(h, 8 * MIB));
    CHECK_EQ(arena_bases(h), h->g.bases_max);
    CHECK_EQ(segment_watermark(h), mark); /* memory comes as it is needed */
    (void)world_account(h);
    store_detach(h);
}

/* A damaged size is not made good by raising it: whoever looks at it must see the damage. */
static void test_damaged_size(void) {
    struct kv_handle *h = world_of(2 * MIB, 8 * MIB, KV_OPT_EVICT);
    static const uint64_t bad[] = {0, MIB, 8 * MIB + 4096, UINT64_MAX};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kv_store_rlx(&kv_header_of(h)->size, bad[i]);
        CHECK_STATUS(resize(h, 4 * MIB), KV_CORRUPT);
        CHECK(size_of(h) == bad[i]);
    }
    kv_store_rlx(&kv_header_of(h)->size, 2 * MIB);
    OK(resize(h, 4 * MIB));
    store_detach(h);
}

/* Two mappings, and a reader that may not change anything. */
static void test_seen_at_once(void) {
    struct kv_config config = world_config(2 * MIB, 8 * MIB, KV_OPT_EVICT, 2);
    struct kv_handle *a, *b, *reader, *late;
    struct kv_found found;
    bool created;
    const char *name = world_name();
    OK(world_attach(name, &config, false, &a, &created, &found));
    OK(world_attach(name, NULL, false, &b, &created, &found));
    OK(world_attach(name, NULL, true, &reader, &created, &found));
    uint64_t large = MIB / 2, len;
    uint32_t stamp;
    CHECK_STATUS(item_set(b, 1, 1, large), KV_TOOLARGE);
    CHECK_STATUS(resize(reader, 8 * MIB), KV_READONLY);
    OK(resize(a, 8 * MIB));
    CHECK(size_of(b) == 8 * MIB && size_of(reader) == 8 * MIB);
    OK(item_set(b, 1, 7, large)); /* too large before */
    OK(item_get(reader, 1, &stamp, &len));
    CHECK(stamp == 7 && len == large);
    OK(item_get(a, 1, &stamp, &len));
    OK(world_attach(name, NULL, false, &late, &created, &found));
    CHECK(found.size == 8 * MIB && found.max_size == 8 * MIB);
    CHECK_EQ(late->g.size, 2 * MIB); /* the layout stays that of creation */
    OK(item_get(late, 1, &stamp, &len));
    (void)world_account(late);
    store_detach(late);
    store_detach(reader);
    store_detach(b);
    store_detach(a);
    CHECK_EQ(shm_unlink(name), 0);
}

/* ---- what it gives ------------------------------------------------------------------------ */

/* Full before; then everything put in stays, until the new size is full as well. */
static void test_holds_more(void) {
    struct kv_handle *h = world_of(4 * MIB, 16 * MIB, KV_OPT_EVICT);
    uint32_t id = 0;
    while (left(h) == 0)
        OK(item_set(h, id++, 1, LEN));
    uint32_t held = (uint32_t)store_len(h);
    for (uint64_t size = 8 * MIB; size <= 16 * MIB; size *= 2) {
        uint64_t gone = left(h), before = store_len(h);
        uint32_t first = id;
        OK(resize(h, size));
        while (left(h) == gone)
            OK(item_set(h, id++, 1, LEN));
        uint64_t more = size / 2 * 9 / 10 / (LEN + 64);
        CHECK(id - first > more && store_len(h) > before + more * 9 / 10);
        CHECK(segment_watermark(h) <= size);
        (void)world_account(h);
    }
    CHECK(store_len(h) > 3 * held);
    store_detach(h);
}

/* Where nothing may leave, full is no longer full, and nothing was lost. */
static void test_full_is_no_more(void) {
    struct kv_handle *h = world_of(2 * MIB, 4 * MIB, 0);
    uint32_t id = 0, full;
    kv_status s;
    while ((s = item_set(h, id, 1, LEN)) == KV_OK)
        id++;
    CHECK_STATUS(s, KV_FULL);
    full = id;
    OK(resize(h, 4 * MIB));
    while ((s = item_set(h, id, 1, LEN)) == KV_OK)
        id++;
    CHECK_STATUS(s, KV_FULL);
    CHECK(id > full + MIB * 9 / 5 / (LEN + 64));
    for (uint32_t i = 0; i < id; i++)
        OK(item_get(h, i, NULL, NULL));
    (void)world_account(h);
    store_detach(h);
}

/* ---- others at work ----------------------------------------------------------------------- */

#define WORKERS 3u
#define STEP    (MIB / 32) /* two base pages */

static struct kv_handle *world;
static uint32_t working, ending;

static void *write_on(void *arg) {
    struct kv_handle *h = arg;
    struct chance c = chance_make(kv_number(h));
    while (kv_load_acq(&ending) == 0) {
        uint32_t id = chance_below(&c, 20000);
        OK(item_set(h, id, 1, chance_below(&c, 50) == 0 ? 30000 : LEN));
        kv_status s = item_get(h, chance_below(&c, 20000), NULL, NULL);
        CHECK(s == KV_OK || s == KV_MISS);
        (void)kv_add_rlx(&working, 1u);
    }
    return NULL;
}

static void *check_on(void *arg) {
    while (kv_load_acq(&ending) == 0)
        (void)world_check(arg);
    return NULL;
}

static bool worked(void *arg) { return kv_load_rlx(&working) >= *(uint32_t *)arg; }

/* Steps of the size, each while others write, evict, clean, read and check. */
static void test_race_of_writers(void) {
    world = world_of(2 * MIB, 8 * MIB, KV_OPT_EVICT);
    pthread_t thread[WORKERS + 1];
    struct kv_handle *twin[WORKERS + 1];
    kv_store_rlx(&ending, 0u);
    kv_store_rlx(&working, 0u);
    for (uint32_t i = 0; i <= WORKERS; i++) {
        twin[i] = world_twin(world);
        CHECK_EQ(pthread_create(&thread[i], NULL, i < WORKERS ? write_on : check_on, twin[i]), 0);
    }
    for (uint64_t size = 2 * MIB; size <= 8 * MIB; size += STEP) {
        uint32_t more = kv_load_rlx(&working) + 30;
        OK(resize(world, size));
        world_await(worked, &more);
    }
    uint32_t more = kv_load_rlx(&working) + 2000;
    world_await(worked, &more);
    kv_store_rel(&ending, 1u);
    for (uint32_t i = 0; i <= WORKERS; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
        store_detach(twin[i]);
    }
    CHECK_EQ(size_of(world), 8 * MIB);
    CHECK(store_len(world) > 5 * MIB / (LEN + 1000)); /* more than fits where it began */
    (void)world_account(world);
    store_detach(world);
}

#define RAISES 200u

static void *raise_on(void *arg) {
    struct kv_handle *h = arg;
    uint64_t before = 0;
    for (uint64_t i = 1; i <= RAISES; i++) {
        kv_status s = resize(h, 2 * MIB + i * 4096);
        CHECK(s == KV_OK || s == KV_MISMATCH);
        uint64_t now = size_of(h);
        CHECK(now >= 2 * MIB + i * 4096 && now >= before); /* at least what was asked; never less */
        before = now;
    }
    return NULL;
}

static void test_race_of_raisers(void) {
    world = world_of(2 * MIB, 8 * MIB, KV_OPT_EVICT);
    pthread_t thread[WORKERS];
    struct kv_handle *twin[WORKERS];
    for (uint32_t i = 0; i < WORKERS; i++) {
        twin[i] = world_twin(world);
        CHECK_EQ(pthread_create(&thread[i], NULL, raise_on, twin[i]), 0);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
        store_detach(twin[i]);
    }
    CHECK_EQ(size_of(world), 2 * MIB + RAISES * 4096);
    store_detach(world);
}

/* ---- a full file system ------------------------------------------------------------------- */

static struct kv_handle *open_in(const char *folder, uint32_t options) {
    char path[128];
    struct kv_config config = world_config(2 * MIB, 16 * MIB, options, 2);
    struct kv_handle *h = NULL;
    struct kv_found found;
    bool created;
    (void)snprintf(path, sizeof path, "%s/options-%u", folder, options);
    struct kv_open how = {.fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600),
                          .name = "/shmkv.none",
                          .config = &config,
                          .timeout_ns = 1000000};
    CHECK(how.fd >= 0);
    OK(store_attach(&how, &h, &created, &found));
    CHECK_EQ(unlink(path), 0); /* its memory goes with the handle */
    return h;
}

/* Raising says nothing of memory; what is there is used, and the store goes on with that. */
static void in_small_tmpfs(const char *folder) {
    struct kv_handle *h = open_in(folder, KV_OPT_EVICT);
    uint32_t id = 0;
    while (left(h) == 0)
        OK(item_set(h, id++, 1, LEN));
    uint64_t held = store_len(h);
    OK(resize(h, 16 * MIB));
    CHECK_EQ(kv_header_of(h)->nospace, 0);
    for (uint32_t i = 0; i < 20000; i++)
        OK(item_set(h, id++, 1, LEN));
    CHECK(kv_header_of(h)->nospace > 0 && size_of(h) == 16 * MIB);
    CHECK(segment_watermark(h) > 4 * MIB && segment_watermark(h) <= 6 * MIB);
    CHECK(store_len(h) > 2 * held && left(h) > 0);
    (void)world_settle(h);
    store_detach(h);

    h = open_in(folder, 0);
    OK(resize(h, 16 * MIB));
    kv_status s;
    for (id = 0; (s = item_set(h, id, 1, LEN)) == KV_OK; id++)
        CHECK(id < 20000);
    CHECK(s == KV_FULL || s == KV_NOSPACE);
    CHECK(id > 3 * MIB / (LEN + 64));
    OK(item_delete(h, 0));
    for (uint32_t i = 1; i < id; i++)
        OK(item_get(h, i, NULL, NULL));
    (void)world_settle(h);
    store_detach(h);
}

static void test_no_space(void) { world_in_tmpfs("size=6m", in_small_tmpfs); }

static const struct kv_test tests[] = {
    {"resize_statuses", test_statuses},
    {"resize_damaged_size", test_damaged_size},
    {"resize_seen_at_once", test_seen_at_once},
    {"resize_holds_more", test_holds_more},
    {"resize_full_is_no_more", test_full_is_no_more},
    {"resize_race_of_writers", test_race_of_writers},
    {"resize_race_of_raisers", test_race_of_raisers},
    {"resize_no_space", test_no_space},
};
KV_TEST_MAIN(tests)
