/* loading.h: payloads of files, changed on purpose and loaded: for test_image.c and tests/fuzz.
 *
 * Owns: `loading_try`, which gives bytes to image_parse, store_load and store_replay and then uses
 * the store, and `loading_change`, which changes bytes where it hurts. Whatever the bytes are:
 * KV_OK or KV_INVALID, or what an ordinary set may say; nothing is read beyond them (they lie in a
 * block of the heap of just their size), and the store is sound. Does not: know blocks or files. */
#ifndef KV_LOADING_H
#define KV_LOADING_H

#include "kv_test.h"

#include "image.h"

#define LOADING_SEED 0x5EEDull /* as tests/unit/persist/byhand.py has it: classes depend on it */
#define LOADING_MOST (1u << 17)

enum loading { LOADING_ITEMS, LOADING_ENTRIES };

static inline struct kv_handle *loading_world(void) {
    struct kv_config config = world_config(KV_SIZE_MIN, KV_SIZE_MIN, KV_OPT_EVICT, 1);
    config.seed = LOADING_SEED;
    return world_open_with(&config);
}

/* Each record by itself, as store_load goes through them. */
static inline void loading_parse(const unsigned char *from, uint64_t len) {
    struct kv_record r;
    for (uint64_t at = 0; at < len;) {
        uint64_t n = image_parse(from + at, len - at, &r);
        if (n == 0)
            return;
        CHECK(n <= len - at && r.key_len > 0);
        CHECK(r.key >= from + at && r.key + r.key_len <= from + at + n);
        CHECK(r.value >= from + at && r.value + r.value_len <= from + at + n);
        at += n;
    }
}

/* Load or replay these bytes, then go through all items; true: they were taken. */
static inline bool loading_try(struct kv_handle *h, enum loading how, const unsigned char *bytes,
                               uint64_t len) {
    unsigned char *exact = malloc(len == 0 ? 1 : (size_t)len);
    struct kv_loading loading = {0};
    CHECK(exact != NULL);
    if (len > 0)
        memcpy(exact, bytes, (size_t)len);
    loading_parse(exact, len);
    struct kv_op op = kv_op_make(h);
    kv_status s = how == LOADING_ITEMS ? store_load(&op, exact, len, &loading)
                                       : store_replay(&op, exact, len, &loading);
    store_leave(&op);
    free(exact);
    CHECK(s == KV_OK || s == KV_INVALID || s == KV_TOOLARGE || s == KV_FULL);
    CHECK(loading.at <= len && (s != KV_OK || loading.at == len));
    OK(item_set(h, 7, 1, 50));
    OK(item_get(h, 7, NULL, NULL));
    OK(item_delete(h, 7));
    return s == KV_OK;
}

/* A number of some width becomes another one; or a bit turns; or bytes go, or come twice. */
static inline uint64_t loading_change(struct chance *c, unsigned char *bytes, uint64_t len) {
    static const uint64_t numbers[] = {0,      1,          7,          8,          9,
                                       0xFF,   0xFFFF,     0x10000,    0x7FFFFFFF, 0xFFFFFFFF,
                                       ~0ull,  1ull << 48, 1ull << 63, 0xFFFFFFF0, 2};
    uint32_t way = chance_below(c, 8), at = len == 0 ? 0 : chance_below(c, (uint32_t)len);
    if (len == 0 || way == 0)
        return at; /* cut */
    if (way < 4) {
        uint64_t n = numbers[chance_below(c, sizeof numbers / sizeof numbers[0])];
        uint64_t width = 1ull << chance_below(c, 4);
        at = chance_below(c, 3) == 0 ? at : chance_below(c, len < 24 ? (uint32_t)len : 24);
        memcpy(bytes + at, &n, at + width <= len ? (size_t)width : 1);
    } else if (way < 6) {
        bytes[at] ^= (unsigned char)(1u << chance_below(c, 8));
    } else {
        uint32_t n = 1 + chance_below(c, 40), from = chance_below(c, (uint32_t)len);
        n = from + n > len ? (uint32_t)len - from : n;
        if (len + n > LOADING_MOST)
            return len;
        unsigned char some[64];
        memcpy(some, bytes + from, n);
        memmove(bytes + at + n, bytes + at, (size_t)len - at);
        memcpy(bytes + at, some, n);
        len += n;
    }
    return len;
}

#endif
