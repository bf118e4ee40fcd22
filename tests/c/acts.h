/* acts.h: every operation of a store on one key, by name: to ask each of them the same question.
 *
 * Owns: the table `acts`. Each act takes the handle it is to use and leaves nothing held. Does not:
 * judge what they return. */
#ifndef KV_ACTS_H
#define KV_ACTS_H

#include "kv_test.h"

#define ITEMS  300u
#define VICTIM 17u /* the key all of them are about */

/* A store with the items that acts are about; and its end: all are there, nothing is wrong. */
static inline struct kv_handle *acts_begin(void) {
    struct kv_handle *h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    for (uint32_t i = 0; i < ITEMS; i++)
        OK(item_set(h, i, 1, 100));
    return h;
}
static inline void acts_end(struct kv_handle *h) {
    for (uint32_t i = 0; i < ITEMS; i++)
        OK(item_get(h, i, NULL, NULL));
    (void)world_account(h);
    store_detach(h);
}

static kv_status do_get(struct kv_handle *as) { return item_get(as, VICTIM, NULL, NULL); }
static kv_status do_set(struct kv_handle *as) { return item_set(as, VICTIM, 2, 100); }
static kv_status do_add(struct kv_handle *as) {
    return item_put(as, VICTIM, 2, 100, 0, KV_PUT_ADD);
}
static kv_status do_delete(struct kv_handle *as) { return item_delete(as, VICTIM); }
static kv_status do_incr(struct kv_handle *as) {
    int64_t n;
    return item_incr(as, VICTIM, 1, 0, &n);
}
static kv_status do_touch(struct kv_handle *as) {
    return item_touch(as, VICTIM, kv_clock_ms() + 100000);
}
static kv_status do_touch_past(struct kv_handle *as) { return item_touch(as, VICTIM, 1); }
static kv_status do_append(struct kv_handle *as) {
    uint64_t now;
    return item_append(as, VICTIM, "x", 1, &now);
}
static kv_status do_peek(struct kv_handle *as) {
    unsigned char room[32];
    struct kv_key key = item_key_of(as, VICTIM, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(as);
    return store_peek(&op, &key, &meta);
}
static kv_status do_pin(struct kv_handle *as) {
    unsigned char room[32];
    struct kv_key key = item_key_of(as, VICTIM, room);
    struct kv_meta meta;
    struct kv_pin pin;
    const void *data;
    struct kv_op op = kv_op_make(as);
    kv_status s = store_pin(&op, &key, &meta, &pin, &data);
    if (s == KV_OK)
        store_unpin(as, &pin);
    return s;
}
static kv_status do_rename(struct kv_handle *as) {
    unsigned char a[32], b[32];
    struct kv_key from = item_key_of(as, VICTIM, a), to = item_key_of(as, ITEMS + 1, b);
    struct kv_op op = kv_op_make(as);
    return store_rename(&op, &from, &to);
}
static kv_status do_clear(struct kv_handle *as) {
    struct kv_op op = kv_op_make(as);
    struct kv_clear clear = {.begun = 0};
    return store_clear(&op, &clear);
}
static bool show(void *arg, const void *key, uint32_t len, bool is_str,
                 const struct kv_meta *meta) {
    (void)key, (void)is_str, (void)meta, (void)len;
    return arg == NULL;
}
static kv_status scan_with(struct kv_handle *as, void *refuse) {
    struct kv_op op = kv_op_make(as);
    struct kv_cursor cursor = {.stripe = 0};
    kv_status s = KV_OK;
    while (s == KV_OK)
        s = store_scan(&op, &cursor, show, refuse);
    return s == KV_MISS ? KV_OK : s;
}
static kv_status do_scan(struct kv_handle *as) { return scan_with(as, NULL); }

struct act {
    const char *name;
    kv_status (*run)(struct kv_handle *);
    bool writes;
};
static const struct act acts[] = {
    {"get", do_get, false},       {"peek", do_peek, false},     {"scan", do_scan, false},
    {"set", do_set, true},        {"add", do_add, true},        {"delete", do_delete, true},
    {"incr", do_incr, true},      {"touch", do_touch, true},    {"touch past", do_touch_past, true},
    {"append", do_append, true},  {"pin", do_pin, true},        {"rename", do_rename, true},
    {"clear", do_clear, true},
};
#define ACTS (sizeof acts / sizeof acts[0])

#endif
