/* table.h: how an item is found. Stripes, directories, index segments, buckets.
 *
 * Owns the index and its commit points. Functions ending in _locked want the stripe's lock held and
 * have seen it repaired; the others may run at any time and their result counts only if the
 * stripe's version is unchanged afterwards. Does not know: where memory comes from, what a value
 * means, deadlines of readers. */
#ifndef KV_TABLE_H
#define KV_TABLE_H

#include "arena.h"
#include "hash.h"

/* A key as an operation carries it. */
struct kv_key {
    const void *data;
    uint32_t len;
    bool is_str;
    uint64_t home; /* chooses the stripe */
    uint64_t hash; /* chooses everything else; equal to home for plain keys */
};

struct kv_slot {
    struct kv_bucket *bucket;
    uint32_t index;
    uint32_t steps; /* buckets passed on the way: their overflow counts include this slot's item */
    kv_ref ref;
    const unsigned char *item;
    struct kv_item head; /* local copy */
};

/* Steps after which a new key asks for a split rather than a longer path. */
#define KV_PATH_MAX 4u

static inline struct kv_stripe *stripe_at(const struct kv_handle *h, uint32_t s) {
    return (struct kv_stripe *)(void *)(h->base + h->g.off_stripes) + s;
}
static inline uint32_t stripe_of(const struct kv_handle *h, uint64_t home) {
    return h->g.stripe_shift == 64 ? 0 : (uint32_t)(home >> h->g.stripe_shift);
}
static inline uint32_t *directory_at(const struct kv_handle *h, uint32_t s) {
    return (uint32_t *)(void *)(h->base + h->g.off_dirs) + ((size_t)s << h->g.dir_bits);
}

static inline struct kv_key kv_key_make(const struct kv_handle *h, const void *data, uint32_t len,
                                        bool is_str) {
    uint64_t hash = kv_hash(data, len, h->seed);
    return (struct kv_key){data, len, is_str, hash, hash};
}

/* KV_OK, KV_MISS, KV_CORRUPT (or a change meanwhile). */
kv_status table_find(struct kv_handle *h, uint32_t s, const struct kv_key *key,
                     struct kv_slot *slot);
/* Hints for a lookup to come: the buckets' line, then the item that the tags point to. */
void table_prefetch_stripe(const struct kv_handle *h, uint32_t s, uint64_t hash);
void table_prefetch_bucket(struct kv_handle *h, uint32_t s, uint64_t hash);
void table_prefetch_item(struct kv_handle *h, uint32_t s, uint64_t hash);
/* The slot that holds this ref, by hash; no key is compared. Fills bucket, index, steps, ref. */
kv_status table_find_ref(struct kv_handle *h, uint32_t s, uint64_t hash, kv_ref ref,
                         struct kv_slot *slot);

/* Every item whose hash is this one but for the bits of `ignore`, which address nothing: *n of
 * them, at most `most`. KV_OK; KV_FULL: there are more; KV_CORRUPT. */
kv_status table_find_class(struct kv_handle *h, uint32_t s, uint64_t hash, uint64_t ignore,
                           struct kv_slot *slots, uint32_t most, uint32_t *n);

/* A walk through all buckets, zeroed at first. Who holds no lock looks again when the version of
 * the stripe has changed. An item that is there throughout is met at least once. */
struct kv_cursor {
    uint32_t stripe, dir, bucket;
    uint32_t
        word; /* directory word when `bucket` was counted; another one starts the segment again */
};
/* Where the cursor stands now; restarts the segment if it was replaced. KV_MISS: at the end. Then
 * the next bucket. */
kv_status cursor_bucket(struct kv_handle *h, struct kv_cursor *c, struct kv_bucket **b);
void cursor_next(struct kv_handle *h, struct kv_cursor *c);

/* Lock a stripe and repair it if its owner died. KV_OK, KV_BUSY, KV_INTR, KV_CORRUPT. */
kv_status table_lock(struct kv_op *op, uint32_t s);
static inline void table_unlock(struct kv_handle *h, uint32_t s) {
    lock_give(&stripe_at(h, s)->lock);
}

/* A free slot on the key's path. KV_OK; KV_AGAIN: only by a split; `any_length`: take any, KV_FULL:
 * none. */
kv_status table_room_locked(struct kv_handle *h, uint32_t s, uint64_t hash, bool any_length,
                            struct kv_slot *slot);
/* The key's home bucket. */
kv_status table_home_locked(struct kv_handle *h, uint32_t s, uint64_t hash, struct kv_slot *slot);
/* Commit points. `bytes` are rounded item sizes, for the stripe's counts. */
void table_insert_locked(struct kv_handle *h, uint32_t s, uint64_t hash, struct kv_slot *slot,
                         kv_ref ref, uint64_t bytes);
void table_replace_locked(struct kv_handle *h, uint32_t s, struct kv_slot *slot, kv_ref ref,
                          uint64_t old_bytes, uint64_t new_bytes, bool keep_version);
void table_remove_locked(struct kv_handle *h, uint32_t s, uint64_t hash, struct kv_slot *slot,
                         uint64_t bytes);
/* Split the segment of this hash. KV_OK; KV_NOINDEX: make an index page first; KV_FULL: cannot. */
kv_status table_split_locked(struct kv_handle *h, uint32_t s, uint64_t hash);
/* After a dead owner; repeatable. */
kv_status table_recover_locked(struct kv_handle *h, uint32_t s);
/* Cut out every ref into [from, to): a damaged page. */
kv_status table_sweep(struct kv_op *op, uint64_t from, uint64_t to);

/* The two-bit access counter. */
static inline uint32_t slot_counter(const struct kv_slot *slot) {
    return kv_load_rlx(&slot->bucket->counters[slot->index / 4]) >> (2 * (slot->index % 4)) & 3;
}
static inline void slot_set_counter(const struct kv_slot *slot, uint32_t value) {
    uint8_t *p = &slot->bucket->counters[slot->index / 4];
    unsigned at = 2 * (slot->index % 4);
    kv_store_rlx(p, (uint8_t)((kv_load_rlx(p) & ~(3u << at)) | value << at));
}
static inline void slot_touch(const struct kv_slot *slot) {
    uint32_t c = slot_counter(slot);
    if (c < KV_COUNTER_MAX)
        slot_set_counter(slot, c + 1);
}

/* First index pages and empty directories of a new segment; no other process is there. */
void table_format(struct kv_handle *h);

#endif
