/* test_look.c: what eyes ask for: memory that adds up, counters that come back as they were.
 *
 * Reads between two looks are made by hand, so every figure is known. */
#include "kv_test.h"

#define MIB ((uint64_t)1 << 20)
#define ITEMS 20000u

/* Every base page stands in one queue and state, and what check says of pages agrees. */
static void test_memory_adds_up(void) {
    struct kv_handle *h = world_open(8 * MIB, KV_OPT_EVICT);
    for (uint32_t i = 0; i < ITEMS; i++) {
        OK(item_set(h, i, 1, i % 100 == 0 ? 200000 : 300));
        for (uint32_t reads = 0; reads < 2 * (i % 2); reads++) /* some are to be kept */
            (void)item_get(h, i, NULL, NULL);
    }
    struct kv_memory m;
    struct kv_report r = world_check(h);
    store_memory(h, &m);
    uint64_t base = (uint64_t)1 << h->g.base_shift, all = 0, queued = 0, queues = 0;
    for (uint32_t q = 0; q < KV_QUEUES; q++) {
        uint64_t here = 0;
        for (uint32_t s = 0; s <= KV_INTERIOR; s++) {
            const struct kv_part *part = &m.part[q][s];
            CHECK(part->garbage <= part->filled && part->filled <= part->bytes);
            CHECK(part->filled == 0 || s == KV_OPEN || s == KV_CLOSED || s == KV_CLEANING);
            all += part->bytes;
            here += part->filled == 0 ? 0 : part->bytes;
        }
        queued += here;
        queues += here != 0;
    }
    CHECK_EQ(all, r.bases * base);
    CHECK_EQ(queued, (r.bases_log + r.bases_extent) * base);
    CHECK_EQ(m.part[0][KV_FREE].bytes, r.bases_free * base);
    CHECK_EQ(m.part[0][KV_INDEX].bytes, r.bases_index * base);
    CHECK(queues >= 2); /* the small one and a main one */
    store_detach(h);
}

/* A damaged page word gives odd figures, not a crash or an endless walk. */
static void test_memory_of_damage(void) {
    struct kv_handle *h = world_open(2 * MIB, KV_OPT_EVICT);
    struct kv_memory m;
    for (uint32_t i = 0; i < h->g.bases_max; i++)
        page_at(h, i)->word = (uint64_t)-1 - i;
    store_memory(h, &m);
    for (uint32_t i = 0; i < h->g.bases_max; i++)
        page_at(h, i)->word = kv_page_make(KV_CLOSED, 15, KV_RUN_MAX, 7);
    store_memory(h, &m);
    CHECK_EQ(m.part[15][KV_CLOSED].bytes, arena_bytes(h));
    store_detach(h);
}

static struct kv_count aimed(struct kv_handle *h, uint32_t id) {
    struct kv_count count;
    char text[32];
    int len = snprintf(text, sizeof text, "aimed %u", id);
    struct kv_key key = kv_key_make(h, text, (uint32_t)len, false);
    struct kv_value value = {.type = KV_TYPE_BYTES, .data = text, .len = 1};
    struct kv_op op = kv_op_make(h);
    OK(store_enter(&op));
    OK(store_put(&op, &key, &value, 0, KV_PUT_SET, NULL));
    store_leave(&op);
    OK(store_count_aim(h, &key, &count));
    return count;
}

/* What is seen in a wait is counted once, and the counter stands as high as before or higher. */
static void test_counting(void) {
    struct kv_handle *h = world_open(2 * MIB, KV_OPT_EVICT);
    for (uint32_t before = 0; before <= KV_COUNTER_MAX; before++) {
        struct kv_count count = aimed(h, before);
        slot_set_counter(&count.slot, before);
        count.before = before;
        CHECK(store_count(&count, 1, 3, 1000, 0) >= 3000);
        CHECK_EQ(count.looks, 3);
        CHECK_EQ(count.idle, 3);
        CHECK_EQ(count.least_reads, 0);
        CHECK_EQ(slot_counter(&count.slot), before);
    }
    store_detach(h);
}

/* Neighbours in the same byte of counters keep theirs. */
static void test_counting_leaves_neighbours(void) {
    struct kv_handle *h = world_open(2 * MIB, KV_OPT_EVICT);
    struct kv_count count = aimed(h, 1);
    uint8_t *counters = count.slot.bucket->counters;
    memset(counters, 0xFF, 3);
    count.before = KV_COUNTER_MAX;
    (void)store_count(&count, 1, 5, 0, 0);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(counters[i], 0xFF);
    store_detach(h);
}

/* A key that is not there is no slot, and a slot that was emptied is left alone. */
static void test_counting_what_is_gone(void) {
    struct kv_handle *h = world_open(2 * MIB, KV_OPT_EVICT);
    struct kv_key key = kv_key_make(h, "none", 4, false);
    struct kv_count counts[2] = {aimed(h, 1), aimed(h, 2)};
    struct kv_count none;
    CHECK_STATUS(store_count_aim(h, &key, &none), KV_MISS);
    key = kv_key_make(h, "aimed 2", 7, false);
    struct kv_op op = kv_op_make(h);
    OK(store_enter(&op));
    OK(store_delete(&op, &key, NULL));
    store_leave(&op);
    (void)store_count(counts, 2, 2, 0, 0);
    CHECK_EQ(counts[0].looks, 2);
    CHECK_EQ(counts[1].looks, 0);
    store_detach(h);
}

static const struct kv_test tests[] = {
    {"look_memory_adds_up", test_memory_adds_up},
    {"look_memory_of_damage", test_memory_of_damage},
    {"look_counting", test_counting},
    {"look_counting_leaves_neighbours", test_counting_leaves_neighbours},
    {"look_counting_what_is_gone", test_counting_what_is_gone},
};
KV_TEST_MAIN(tests)
