/* test_store.c: orders of events that chance seldom brings, made by hand.
 *
 * A fault hook runs another attachment at a chosen point; a version is set near its wrap; a file
 * system is as small as it can be; many threads of one process hold all reservations. Needs
 * KV_FAULT=1. */
#include "kv_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

/* ---- a pin that arrives while its page is walked ------------------------------------------ */

static jmp_buf grave;
static struct {
    const char *at;
    unsigned skip;
    void (*run)(void);
    bool dies;
} plan;

static void at_point(const char *name, void *arg) {
    (void)arg;
    if (plan.at == NULL || strcmp(name, plan.at) != 0 || plan.skip-- > 0)
        return;
    plan.at = NULL;
    kv_fault_arm(0, 0);
    if (plan.run != NULL)
        plan.run();
    if (plan.dies)
        longjmp(grave, 1);
    kv_fault_arm(0, KV_FAULT_CALL);
}

/* Do `act` with h; at the named point run something else, or die there. true: died. */
static bool at(const char *name, unsigned skip, void (*run)(void), bool dies,
               void (*act)(struct kv_handle *), struct kv_handle *h) {
    plan.at = name;
    plan.skip = skip;
    plan.run = run;
    plan.dies = dies;
    kv_fault_hook(at_point, NULL);
    kv_fault_arm(0, KV_FAULT_CALL);
    bool dead = setjmp(grave) != 0;
    if (!dead)
        act(h);
    kv_fault_arm(0, 0);
    if (!dead)
        CHECK(plan.at == NULL); /* the point was passed */
    return dead;
}

static struct kv_handle *reader;
static struct kv_pin pin;
static struct kv_meta pin_meta;
static const void *pin_data;

static void pin_item_3(void) {
    unsigned char room[32];
    struct kv_key key = item_key_of(reader, 3, room);
    struct kv_op op = kv_op_make(reader);
    OK(store_peek(&op, &key, &pin_meta));
    if (kv_page_state(page_word(reader, page_head(reader, ref_base(reader, pin_meta.ref)))) !=
        KV_CLEANING) {
        plan.at = "page_cleaning"; /* not this page: the next */
        plan.skip = 0;
        return;
    }
    OK(store_pin(&op, &key, &pin_meta, &pin, &pin_data));
}

static void compact(struct kv_handle *h) {
    uint32_t freed;
    struct kv_op op = kv_op_make(h);
    OK(evict_compact(&op, &freed));
    store_leave(&op);
}

static void pin_same(void) {
    uint32_t stamp;
    CHECK(item_wrong(3, pin_data, pin_meta.value_len, &stamp) == NULL);
    CHECK_EQ(stamp, 1);
}

static void churn(struct kv_handle *h) {
    for (uint32_t i = 0; i < 20000; i++)
        OK(item_set(h, 1000 + i % 3000, 2, 700));
}

/* The one who looks whether a page may leave limbo dies: the page stays pinned. */
static void limbo_death(const char *point) {
    struct kv_handle *h = world_open(2 * MIB, KV_OPT_EVICT), *cleaner = world_twin(h),
                     *second = world_twin(h);
    reader = world_twin(h);
    for (uint32_t i = 0; i < 100; i++)
        OK(item_set(h, i, 1, 600));
    /* pinned after the page was chosen for cleaning: it ends in limbo */
    CHECK(!at("page_cleaning", 0, pin_item_3, false, compact, cleaner));
    (void)snprintf(kv_test_where, sizeof kv_test_where, "death at %s", point);
    uint32_t limbo = 0;
    for (uint32_t i = 0; i < arena_bases(h); i++)
        limbo += kv_page_state(page_word(h, i)) == KV_LIMBO;
    CHECK_EQ(limbo, 1);
    CHECK(at(point, 0, NULL, true, compact, second));
    world_abandon(second);
    (void)world_check(h); /* folds the dead */
    churn(h);
    pin_same();
    store_unpin(reader, &pin);
    churn(h);
    store_detach(cleaner);
    store_detach(reader);
    (void)world_settle(h);
    store_detach(h);
}

static void test_limbo_death(void) {
    limbo_death("limbo_claimed");
    limbo_death("limbo_decided");
}

/* ---- clear and old items ------------------------------------------------------------------ */

/* An item is cleared however many changes its stripe has seen since it was set. */
static void test_clear_after_many_changes(void) {
    static const uint64_t ages[] = {1, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFF000};
    for (unsigned i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        struct kv_handle *h = world_open(2 * MIB, KV_OPT_EVICT);
        for (uint32_t k = 0; k < 50; k++)
            OK(item_set(h, k, 1, 20));
        for (uint32_t s = 0; s < h->g.stripes; s++) /* as many overwrites of one key would */
            stripe_at(h, s)->ver += ages[i];
        struct kv_op op = kv_op_make(h);
        OK(store_clear(&op, &(struct kv_clear){.begun = 0}));
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%#" PRIx64 " changes after the set",
                       ages[i]);
        CHECK_EQ(store_len(h), 0);
        store_detach(h);
    }
}

/* ---- a late word about garbage ------------------------------------------------------------ */

static struct kv_handle *other;

static void reuse_pages(void) {
    compact(other);
    for (uint32_t i = 0; i < 3; i++) /* the page is taken again, by something short */
        OK(item_set(other, 5000 + i, 1, 8));
    compact(other);
}
static void overwrite_large(struct kv_handle *h) { OK(item_set(h, 7, 2, 8)); }

/* Between the unlocking and the count of what was replaced, the page finds a new use. */
static void test_late_garbage_count(void) {
    struct kv_handle *h = world_open(2 * MIB, KV_OPT_EVICT);
    other = world_twin(h);
    OK(item_set(h, 7, 1, 5000));
    CHECK(!at("ref_replaced", 0, NULL, false, overwrite_large, h));
    OK(item_set(h, 7, 1, 5000));
    /* lock_given: first the appender's, then the stripe's */
    CHECK(!at("lock_given", 1, reuse_pages, false, overwrite_large, h));
    (void)world_check(h);
    store_detach(other);
    store_detach(h);
}

/* ---- all reservations of a process -------------------------------------------------------- */

static struct kv_handle *shared;
static uint32_t busy, done;

static void *insert_many(void *arg) {
    uint32_t id = (uint32_t)(uintptr_t)arg * 1000000;
    for (uint32_t i = 0; i < scaled(20000); i++) {
        kv_status s = item_set(shared, id + i, 1, 8);
        if (s == KV_BUSY)
            (void)__atomic_fetch_add(&busy, 1, __ATOMIC_RELAXED);
        else
            OK(s);
    }
    (void)__atomic_fetch_add(&done, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Sixteen threads of one process insert: half of them wait for reservations, none for ever. */
static void test_threads_of_one_process(void) {
    pthread_t thread[16];
    shared = world_open(32 * MIB, KV_OPT_EVICT);
    shared->lock_timeout_ns = 2000000000;
    for (uint32_t i = 0; i < 60; i++)
        OK(item_set(shared, i, 1, 400000)); /* no free memory: index pages must be cleaned out */
    for (uintptr_t i = 0; i < 16; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, insert_many, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    CHECK_EQ(busy, 0);
    CHECK_EQ(done, 16);
    (void)world_check(shared);
    store_detach(shared);
}

/* ---- a small file system ------------------------------------------------------------------ */

/* The system refuses memory below `size`: the store goes on with what it has, extents included. */
static void in_small_tmpfs(const char *folder) {
    char path[128];
    struct kv_handle *h;
    struct kv_found found;
    bool created;
    struct kv_config config = world_config(16 * MIB, 16 * MIB, KV_OPT_EVICT, 2);
    (void)snprintf(path, sizeof path, "%s/segment", folder);
    struct kv_open how = {.fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600),
                          .name = "/shmkv.none",
                          .config = &config,
                          .timeout_ns = 1000000000};
    CHECK(how.fd >= 0);
    OK(store_attach(&how, &h, &created, &found));
    for (uint32_t i = 0; i < 60000; i++)
        OK(item_set(h, i, 1, 300));
    CHECK(kv_header_of(h)->nospace > 0);
    for (uint32_t i = 0; i < 20; i++) {
        (void)snprintf(kv_test_where, sizeof kv_test_where, "extent %u", i);
        OK(item_set(h, 100000 + i, 1, 400000));
        OK(item_get(h, 100000 + i, NULL, NULL));
        for (uint32_t k = 0; k < 1000; k++)
            OK(item_set(h, 200000 + k, i, 900));
    }
    (void)world_check(h);
    store_detach(h);
}

static void test_no_space(void) { world_in_tmpfs("size=8m", in_small_tmpfs); }

static const struct kv_test tests[] = {
    {"store_limbo_death", test_limbo_death},
    {"store_clear_after_many_changes", test_clear_after_many_changes},
    {"store_late_garbage_count", test_late_garbage_count},
    {"store_threads_of_one_process", test_threads_of_one_process},
    {"store_no_space", test_no_space},
};
KV_TEST_MAIN(tests)
