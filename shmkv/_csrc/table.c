/* table.c: buckets, commit points, splitting, recovery.
 *
 * Lookup. A key's path starts at its home bucket and goes on by its own odd stride through all 64
 * buckets of its index segment. The overflow count of a bucket is the number of items whose path
 * passed through it to a later bucket; zero ends a search. It is raised before such an item appears
 * and lowered after it is gone, so it is never too low, whoever dies where.
 *
 * Tags are compared twelve at a time: 64 B buckets after the idea of F14 (Bronson, Shi 2019) and
 * Swiss tables (Kulukundis 2017), with overflow counts instead of tombstones as in F14. Splitting
 * is extendible hashing (Fagin, Nievergelt, Pippenger, Strong 1979), one directory per stripe. */
#include "table.h"

#include "clock.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* ---- lookup ------------------------------------------------------------------------------- */

struct tags {
    uint32_t match; /* bit i: tag i equals */
    uint8_t overflow;
};

static inline struct tags match_tags(const struct kv_bucket *b, uint8_t tag) {
    const uint64_t *w = (const uint64_t *)(const void *)b;
    uint64_t low = kv_load_rlx(&w[0]), high = kv_load_rlx(&w[1]);
    struct tags t = {.overflow = (uint8_t)(high >> 56)};
#if defined(__SSE2__)
    __m128i eq =
        _mm_cmpeq_epi8(_mm_set_epi64x((long long)high, (long long)low), _mm_set1_epi8((char)tag));
    t.match = (uint32_t)_mm_movemask_epi8(eq) & 0xFFFu;
#else
    for (unsigned i = 0; i < KV_SLOTS; i++) {
        uint64_t word = i < 8 ? low >> (8 * i) : high >> (8 * (i - 8));
        t.match |= (uint32_t)((uint8_t)word == tag) << i;
    }
#endif
    return t;
}

/* The buckets of the segment a hash belongs to, or NULL for a damaged directory. */
static inline struct kv_bucket *segment_of(struct kv_handle *h, uint32_t s, uint64_t hash) {
    uint32_t word = kv_load_acq(&directory_at(h, s)[kv_hash_dir(hash, h->g.dir_bits)]);
    uint32_t segment = kv_dir_segment(word);
    return arena_segment_ok(h, segment) ? arena_segment(h, segment) : NULL;
}

kv_status table_find(struct kv_handle *h, uint32_t s, const struct kv_key *key,
                     struct kv_slot *slot) {
    struct kv_bucket *segment = segment_of(h, s, key->hash);
    if (segment == NULL)
        return KV_CORRUPT;
    uint32_t at = kv_hash_bucket(key->hash), stride = kv_hash_stride(key->hash);
    for (uint32_t steps = 0; steps < KV_BUCKETS; steps++, at = (at + stride) % KV_BUCKETS) {
        struct kv_bucket *b = &segment[at];
        struct tags t = match_tags(b, kv_hash_tag(key->hash));
        for (; t.match != 0; t.match &= t.match - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(t.match);
            kv_ref ref = kv_load_acq(&b->ref[i]); /* acquire: the item is complete */
            if (ref == 0)
                continue;
            __builtin_prefetch(arena_at(h, ref) + KV_LINE); /* the value follows the key */
            const unsigned char *item = arena_item(h, ref, &slot->head);
            if (item == NULL)
                return KV_CORRUPT;
            if (slot->head.key_len != key->len || (slot->head.flags & KV_ITEM_NAMESPACE) ||
                !kv_same(item_key(item, &slot->head), key->data, key->len))
                continue;
            slot->bucket = b;
            slot->index = i;
            slot->steps = steps;
            slot->ref = ref;
            slot->item = item;
            return KV_OK;
        }
        if (t.overflow == 0)
            return KV_MISS;
    }
    return KV_MISS;
}

void table_prefetch_stripe(const struct kv_handle *h, uint32_t s, uint64_t hash) {
    __builtin_prefetch(stripe_at(h, s));
    __builtin_prefetch(&directory_at(h, s)[kv_hash_dir(hash, h->g.dir_bits)]);
}

void table_prefetch_bucket(struct kv_handle *h, uint32_t s, uint64_t hash) {
    const struct kv_bucket *segment = segment_of(h, s, hash);
    if (segment != NULL)
        __builtin_prefetch(&segment[kv_hash_bucket(hash)]);
}

/* A ref that a writer is just changing may be anything: a prefetch of any address is harmless. */
void table_prefetch_item(struct kv_handle *h, uint32_t s, uint64_t hash) {
    const struct kv_bucket *segment = segment_of(h, s, hash);
    if (segment == NULL)
        return;
    const struct kv_bucket *b = &segment[kv_hash_bucket(hash)];
    struct tags t = match_tags(b, kv_hash_tag(hash));
    if (t.match == 0)
        return;
    const unsigned char *item = arena_at(h, kv_load_rlx(&b->ref[__builtin_ctz(t.match)]));
    __builtin_prefetch(item);
    __builtin_prefetch(item + KV_LINE);
}

kv_status table_find_ref(struct kv_handle *h, uint32_t s, uint64_t hash, kv_ref ref,
                         struct kv_slot *slot) {
    struct kv_bucket *segment = segment_of(h, s, hash);
    if (segment == NULL)
        return KV_CORRUPT;
    uint32_t at = kv_hash_bucket(hash), stride = kv_hash_stride(hash);
    for (uint32_t steps = 0; steps < KV_BUCKETS; steps++, at = (at + stride) % KV_BUCKETS) {
        struct kv_bucket *b = &segment[at];
        struct tags t = match_tags(b, kv_hash_tag(hash));
        for (; t.match != 0; t.match &= t.match - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(t.match);
            if (kv_load_acq(&b->ref[i]) != ref)
                continue;
            *slot = (struct kv_slot){.bucket = b, .index = i, .steps = steps, .ref = ref};
            return KV_OK;
        }
        if (t.overflow == 0)
            return KV_MISS;
    }
    return KV_MISS;
}

kv_status table_find_class(struct kv_handle *h, uint32_t s, uint64_t hash, uint64_t ignore,
                           struct kv_slot *slots, uint32_t most, uint32_t *n) {
    struct kv_bucket *segment = segment_of(h, s, hash);
    *n = 0;
    if (segment == NULL)
        return KV_CORRUPT;
    uint32_t at = kv_hash_bucket(hash), stride = kv_hash_stride(hash);
    for (uint32_t steps = 0; steps < KV_BUCKETS; steps++, at = (at + stride) % KV_BUCKETS) {
        struct kv_bucket *b = &segment[at];
        struct tags t = match_tags(b, kv_hash_tag(hash));
        for (; t.match != 0; t.match &= t.match - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(t.match);
            struct kv_slot slot = {.bucket = b, .index = i, .steps = steps};
            slot.ref = kv_load_acq(&b->ref[i]); /* acquire: the item is complete */
            if (slot.ref == 0)
                continue;
            slot.item = arena_item(h, slot.ref, &slot.head);
            if (slot.item == NULL)
                return KV_CORRUPT;
            uint64_t found = kv_hash(item_key(slot.item, &slot.head), slot.head.key_len, h->seed);
            if ((found ^ hash) & ~ignore)
                continue;
            if (*n == most)
                return KV_FULL;
            slots[(*n)++] = slot;
        }
        if (t.overflow == 0)
            break;
    }
    return KV_OK;
}

/* ---- walking ------------------------------------------------------------------------------ */

kv_status cursor_bucket(struct kv_handle *h, struct kv_cursor *c, struct kv_bucket **b) {
    if (c->stripe >= h->g.stripes)
        return KV_MISS;
    uint32_t word = kv_load_acq(&directory_at(h, c->stripe)[c->dir & ((1u << h->g.dir_bits) - 1)]);
    if (!arena_segment_ok(h, kv_dir_segment(word)) || kv_dir_depth(word) > h->g.dir_bits)
        return KV_CORRUPT;
    if (word != c->word)
        c->bucket = 0;
    c->word = word;
    *b = arena_segment(h, kv_dir_segment(word)) + c->bucket % KV_BUCKETS;
    return KV_OK;
}

void cursor_next(struct kv_handle *h, struct kv_cursor *c) {
    if (++c->bucket < KV_BUCKETS)
        return;
    uint32_t span = 1u << (h->g.dir_bits - kv_dir_depth(c->word));
    c->bucket = 0;
    c->word = 0;
    c->dir = (c->dir & ~(span - 1)) + span;
    if (c->dir < 1u << h->g.dir_bits)
        return;
    c->dir = 0;
    c->stripe++;
}

/* ---- change ------------------------------------------------------------------------------- */

kv_status table_lock(struct kv_op *op, uint32_t s) {
    kv_status r = lock_take(op, &stripe_at(op->h, s)->lock);
    if (__builtin_expect(r != KV_RECOVER, 1))
        return r;
    r = table_recover_locked(op->h, s);
    if (r != KV_OK)
        table_unlock(op->h, s);
    return r;
}

kv_status table_room_locked(struct kv_handle *h, uint32_t s, uint64_t hash, bool any_length,
                            struct kv_slot *slot) {
    struct kv_bucket *segment = segment_of(h, s, hash);
    if (segment == NULL)
        return KV_CORRUPT;
    uint32_t at = kv_hash_bucket(hash), stride = kv_hash_stride(hash);
    uint32_t most = any_length ? KV_BUCKETS : KV_PATH_MAX;
    for (uint32_t steps = 0; steps < most; steps++, at = (at + stride) % KV_BUCKETS)
        for (uint32_t i = 0; i < KV_SLOTS; i++)
            if (kv_load_rlx(&segment[at].ref[i]) == 0) {
                *slot = (struct kv_slot){.bucket = &segment[at], .index = i, .steps = steps};
                return KV_OK;
            }
    return any_length ? KV_FULL : KV_AGAIN;
}

kv_status table_home_locked(struct kv_handle *h, uint32_t s, uint64_t hash, struct kv_slot *slot) {
    struct kv_bucket *segment = segment_of(h, s, hash);
    if (segment == NULL)
        return KV_CORRUPT;
    *slot = (struct kv_slot){.bucket = &segment[kv_hash_bucket(hash)]};
    return KV_OK;
}

/* Raise or lower the overflow counts of the buckets before the slot's. */
static void path_count(struct kv_handle *h, uint32_t s, uint64_t hash, uint32_t steps, bool raise) {
    struct kv_bucket *segment = segment_of(h, s, hash);
    uint32_t at = kv_hash_bucket(hash), stride = kv_hash_stride(hash);
    for (uint32_t i = 0; segment != NULL && i < steps; i++, at = (at + stride) % KV_BUCKETS) {
        uint8_t *p = &segment[at].overflow, seen = kv_load_rlx(p);
        if (seen != UINT8_MAX && (raise || seen != 0))
            kv_store_rlx(p, (uint8_t)(raise ? seen + 1 : seen - 1));
        FAULT(path_counted);
    }
}

static void raise_version(struct kv_stripe *st) {
    kv_store_rel(&st->ver,
                 kv_load_rlx(&st->ver) + 1); /* release: pairs with the reader's first load */
    FAULT(version_raised);
}

static void stripe_counts(struct kv_stripe *st, uint32_t count, uint64_t live) {
    kv_store_rlx(&st->count, kv_load_rlx(&st->count) + count);
    kv_store_rlx(&st->live, kv_load_rlx(&st->live) + live);
    FAULT(stripe_counted);
}

static void item_set_version(struct kv_handle *h, kv_ref ref, struct kv_stripe *st) {
    struct kv_item *it = (struct kv_item *)(void *)arena_at(h, ref);
    kv_store_rlx(&it->version, (uint32_t)(kv_load_rlx(&st->ver) + 1));
    FAULT(item_version);
}

void table_insert_locked(struct kv_handle *h, uint32_t s, uint64_t hash, struct kv_slot *slot,
                         kv_ref ref, uint64_t bytes) {
    struct kv_stripe *st = stripe_at(h, s);
    path_count(h, s, hash, slot->steps, true);
    kv_store_rlx(&slot->bucket->tag[slot->index], kv_hash_tag(hash));
    FAULT(tag_stored);
    slot_set_counter(slot, 0);
    item_set_version(h, ref, st);
    kv_store_rel(&slot->bucket->ref[slot->index],
                 ref); /* commit; release: the item before the ref */
    FAULT(ref_inserted);
    raise_version(st);
    stripe_counts(st, 1, bytes);
    slot->ref = ref;
}

void table_replace_locked(struct kv_handle *h, uint32_t s, struct kv_slot *slot, kv_ref ref,
                          uint64_t old_bytes, uint64_t new_bytes, bool keep_version) {
    struct kv_stripe *st = stripe_at(h, s);
    if (!keep_version)
        item_set_version(h, ref, st);
    kv_store_rel(&slot->bucket->ref[slot->index], ref); /* commit */
    FAULT(ref_replaced);
    raise_version(st);
    arena_dead(h, slot->ref, old_bytes); /* under the lock its page cannot have been reused yet */
    if (old_bytes != new_bytes)
        stripe_counts(st, 0, new_bytes - old_bytes);
}

void table_remove_locked(struct kv_handle *h, uint32_t s, uint64_t hash, struct kv_slot *slot,
                         uint64_t bytes) {
    struct kv_stripe *st = stripe_at(h, s);
    kv_store_rel(&slot->bucket->ref[slot->index], 0u); /* commit */
    FAULT(ref_removed);
    raise_version(st);
    arena_dead(h, slot->ref, bytes);
    path_count(h, s, hash, slot->steps, false);
    stripe_counts(st, (uint32_t)-1, (uint64_t)0 - bytes);
}

/* ---- split -------------------------------------------------------------------------------- */

struct half {
    uint32_t number;
    struct kv_bucket *segment;
};

static bool take_halves(struct kv_handle *h, uint32_t s, struct half half[2]) {
    for (int i = 0; i < 2; i++) {
        half[i].number = arena_index_take(h, s);
        if (half[i].number == 0) {
            if (i == 1)
                arena_index_give(h, half[0].number);
            return false;
        }
        half[i].segment = arena_segment(h, half[i].number);
        static const unsigned char zeros[KV_INDEX_BYTES];
        kv_copy_in(half[i].segment, zeros, KV_INDEX_BYTES);
        FAULT(half_cleared);
    }
    return true;
}

/* Into a half that no reader can reach yet. */
static void build_slot(struct kv_bucket *segment, uint64_t hash, kv_ref ref, uint32_t counter) {
    uint32_t at = kv_hash_bucket(hash), stride = kv_hash_stride(hash);
    for (uint32_t steps = 0; steps < KV_BUCKETS; steps++, at = (at + stride) % KV_BUCKETS) {
        struct kv_bucket *b = &segment[at];
        for (uint32_t i = 0; i < KV_SLOTS; i++) {
            if (kv_load_rlx(&b->ref[i]) != 0)
                continue;
            struct kv_slot slot = {.bucket = b, .index = i};
            kv_store_rlx(&b->tag[i], kv_hash_tag(hash));
            slot_set_counter(&slot, counter);
            kv_store_rlx(&b->ref[i], ref);
            return;
        }
        if (b->overflow != UINT8_MAX)
            kv_store_rlx(&b->overflow, (uint8_t)(b->overflow + 1));
    }
}

/* Expired items leave first, each by its own commit: the halves hold exactly what the old segment
 * holds, so a roll back brings nothing back that somebody has already seen gone. */
static kv_status drop_expired(struct kv_handle *h, uint32_t s, struct kv_bucket *old) {
    uint64_t now = kv_clock_ms();
    for (uint32_t k = 0; k < KV_BUCKETS * KV_SLOTS; k++) {
        struct kv_item it;
        struct kv_slot slot;
        kv_ref ref = kv_load_rlx(&old[k / KV_SLOTS].ref[k % KV_SLOTS]);
        const unsigned char *item = ref == 0 ? NULL : arena_item(h, ref, &it);
        if (ref == 0)
            continue;
        if (item == NULL)
            return KV_CORRUPT;
        uint64_t deadline = item_deadline(item, &it);
        if (deadline == 0 || deadline > now)
            continue;
        uint64_t hash = kv_hash(item_key(item, &it), it.key_len, h->seed);
        if (table_find_ref(h, s, hash, ref, &slot) != KV_OK)
            return KV_CORRUPT;
        table_remove_locked(h, s, hash, &slot, kv_item_bytes(&it));
        row_count(h, KV_STAT_EXPIRED, 1);
    }
    return KV_OK;
}

static kv_status build_halves(struct kv_handle *h, struct kv_bucket *old, uint32_t shift,
                              struct half half[2]) {
    for (uint32_t k = 0; k < KV_BUCKETS * KV_SLOTS; k++) {
        struct kv_item it;
        struct kv_slot slot = {.bucket = &old[k / KV_SLOTS], .index = k % KV_SLOTS};
        kv_ref ref = kv_load_rlx(&slot.bucket->ref[slot.index]);
        const unsigned char *item = ref == 0 ? NULL : arena_item(h, ref, &it);
        if (ref == 0)
            continue;
        if (item == NULL)
            return KV_CORRUPT;
        uint64_t hash = kv_hash(item_key(item, &it), it.key_len, h->seed);
        uint32_t side = kv_hash_dir(hash, h->g.dir_bits) >> shift & 1;
        build_slot(half[side].segment, hash, ref, slot_counter(&slot));
    }
    FAULT(halves_built);
    return KV_OK;
}

kv_status table_split_locked(struct kv_handle *h, uint32_t s, uint64_t hash) {
    uint32_t *dir = directory_at(h, s), bits = h->g.dir_bits, at = kv_hash_dir(hash, bits);
    uint32_t word = kv_load_rlx(&dir[at]), depth = kv_dir_depth(word);
    if (!arena_segment_ok(h, kv_dir_segment(word)) || depth > bits)
        return KV_CORRUPT;
    if (depth == bits)
        return KV_FULL;
    struct half half[2];
    if (!take_halves(h, s, half))
        return KV_NOINDEX;
    struct kv_bucket *old = arena_segment(h, kv_dir_segment(word));
    kv_status r = drop_expired(h, s, old);
    if (r == KV_OK)
        r = build_halves(h, old, bits - depth - 1, half);
    if (r != KV_OK) {
        arena_index_give(h, half[0].number);
        arena_index_give(h, half[1].number);
        return r;
    }
    uint32_t span = 1u << (bits - depth), from = at & ~(span - 1);
    for (uint32_t i = 0; i < span; i++) {
        /* release: pairs with the reader's acquire of the entry: the half is complete */
        kv_store_rel(&dir[from + i], kv_dir_make(half[i >= span / 2].number, depth + 1));
        FAULT(directory_stored);
    }
    raise_version(stripe_at(h, s));
    row_count(h, KV_STAT_SPLITS, 1);
    arena_index_give(h, kv_dir_segment(word));
    return KV_OK;
}

/* ---- recovery ----------------------------------------------------------------------------- */

/* A split that died among its directory stores: the shallowest entry claims its aligned block. */
static kv_status recover_directory(struct kv_handle *h, uint32_t s) {
    uint32_t *dir = directory_at(h, s), bits = h->g.dir_bits, n = 1u << bits;
    for (uint32_t depth = 0; depth < bits; depth++)
        for (uint32_t i = 0; i < n; i++) {
            uint32_t word = kv_load_rlx(&dir[i]);
            if (kv_dir_depth(word) != depth)
                continue;
            uint32_t span = 1u << (bits - depth), from = i & ~(span - 1);
            for (uint32_t k = from; k < from + span; k++)
                if (kv_load_rlx(&dir[k]) != word) {
                    kv_store_rel(&dir[k], word);
                    FAULT(directory_restored);
                }
            i = from + span - 1;
        }
    for (uint32_t i = 0; i < n; i++)
        if (!arena_segment_ok(h, kv_dir_segment(kv_load_rlx(&dir[i]))) ||
            kv_dir_depth(kv_load_rlx(&dir[i])) > bits)
            return KV_CORRUPT;
    return KV_OK;
}

static bool directory_names(struct kv_handle *h, uint32_t s, uint32_t segment) {
    uint32_t *dir = directory_at(h, s);
    for (uint32_t i = 0; i < 1u << h->g.dir_bits; i++)
        if (kv_dir_segment(kv_load_rlx(&dir[i])) == segment)
            return true;
    return false;
}

static void recover_segments(struct kv_handle *h, uint32_t s) {
    uint32_t high = kv_load_acq(&kv_header_of(h)->index_high);
    for (uint32_t base = 0; base < high && base < h->g.bases_max; base++) {
        if (kv_page_state(page_word(h, base)) != KV_INDEX)
            continue;
        uint32_t first = (uint32_t)(base_offset(h, base) / KV_INDEX_BYTES);
        for (uint32_t i = 0; i < h->g.index_per_base; i++)
            if (kv_load_rlx(&page_at(h, base)->segment[i]) == s + 1 &&
                !directory_names(h, s, first + i))
                arena_index_give(h, first + i);
    }
}

static void recover_counts(struct kv_handle *h, uint32_t s) {
    uint32_t *dir = directory_at(h, s), count = 0;
    uint64_t live = 0;
    for (uint32_t i = 0; i < 1u << h->g.dir_bits;) {
        uint32_t word = kv_load_rlx(&dir[i]);
        if (!arena_segment_ok(h, kv_dir_segment(word)) || kv_dir_depth(word) > h->g.dir_bits)
            return; /* damaged: every lookup there says so */
        const struct kv_bucket *b = arena_segment(h, kv_dir_segment(word));
        for (uint32_t k = 0; k < KV_BUCKETS * KV_SLOTS; k++) {
            struct kv_item it;
            kv_ref ref = kv_load_rlx(&b[k / KV_SLOTS].ref[k % KV_SLOTS]);
            if (ref == 0 || arena_item(h, ref, &it) == NULL)
                continue;
            count++;
            live += kv_item_bytes(&it);
        }
        i += 1u << (h->g.dir_bits - kv_dir_depth(word));
    }
    kv_store_rlx(&stripe_at(h, s)->count, count);
    kv_store_rlx(&stripe_at(h, s)->live, live);
    FAULT(stripe_recounted);
}

/* The version rises after the directory is whole and before a segment is freed: a reader that went
 * through a half that is taken back, or through the old segment of a finished split, looks again.
 */
kv_status table_recover_locked(struct kv_handle *h, uint32_t s) {
    FAULT(recovery_begun);
    kv_status r = recover_directory(h, s);
    raise_version(stripe_at(h, s));
    if (r != KV_OK)
        return r;
    recover_segments(h, s);
    recover_counts(h, s);
    return KV_OK;
}

/* ---- damage ------------------------------------------------------------------------------- */

static void sweep_segment(struct kv_bucket *b, uint64_t from, uint64_t to) {
    for (uint32_t k = 0; k < KV_BUCKETS * KV_SLOTS; k++) {
        kv_ref *p = &b[k / KV_SLOTS].ref[k % KV_SLOTS];
        if (kv_load_rlx(p) >= from && kv_load_rlx(p) < to) {
            kv_store_rel(p, 0u);
            FAULT(ref_swept);
        }
    }
}

kv_status table_sweep(struct kv_op *op, uint64_t from, uint64_t to) {
    struct kv_handle *h = op->h;
    for (uint32_t s = 0; s < h->g.stripes; s++) {
        kv_status r = table_lock(op, s);
        if (r != KV_OK)
            return r;
        uint32_t *dir = directory_at(h, s);
        for (uint32_t i = 0; i < 1u << h->g.dir_bits;) {
            uint32_t word = kv_load_rlx(&dir[i]);
            if (!arena_segment_ok(h, kv_dir_segment(word)) || kv_dir_depth(word) > h->g.dir_bits)
                break;
            sweep_segment(arena_segment(h, kv_dir_segment(word)), from, to);
            i += 1u << (h->g.dir_bits - kv_dir_depth(word));
        }
        raise_version(stripe_at(h, s));
        recover_counts(h, s);
        table_unlock(h, s);
    }
    return KV_OK;
}

/* ---- creation ----------------------------------------------------------------------------- */

void table_format(struct kv_handle *h) {
    uint32_t base = 0;
    for (uint32_t s = 0; s < h->g.stripes; s++) {
        if (s % h->g.index_per_base == 0)
            arena_index_make(h, base++);
        uint32_t segment = arena_index_take(h, s);
        for (uint32_t i = 0; i < 1u << h->g.dir_bits; i++)
            directory_at(h, s)[i] = kv_dir_make(segment, 0);
    }
}
