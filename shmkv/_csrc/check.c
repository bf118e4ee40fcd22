/* check.c: verifies the invariants of README.md while others work.
 *
 * Index: stripe by stripe under its lock. Pages: each closed page is parsed between two looks at
 * its word; a page that moves meanwhile is somebody's live work and is left out. Problems are
 * collected under the lock and told after it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "store.h"

#define KV_TOLD_MAX    32u
#define KV_CHECK_TRIES 16u

struct check {
    struct kv_op *op;
    struct kv_report *report;
    char told[KV_TOLD_MAX][160]; /* found under a lock, not told yet */
    uint32_t waiting;
    unsigned char key[KV_KEY_MAX]; /* of a page that may move while it is read */
};

__attribute__((format(printf, 2, 3))) static void problem(struct check *c, const char *format,
                                                          ...) {
    c->report->problems++;
    if (c->waiting == KV_TOLD_MAX)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(c->told[c->waiting++], sizeof c->told[0], format, args);
    va_end(args);
}

static void tell(struct check *c) {
    for (uint32_t i = 0; i < c->waiting; i++)
        if (c->report->problem != NULL)
            c->report->problem(c->report->arg, c->told[i]);
    c->waiting = 0;
}

/* ---- index -------------------------------------------------------------------------------- */

struct tally {
    uint32_t count;
    uint64_t live;
    uint8_t passed[KV_BUCKETS]; /* items whose path passed each bucket, saturated */
};

static void check_item(struct check *c, uint32_t s, uint32_t dir, uint32_t depth,
                       struct kv_bucket *segment, uint32_t k, struct tally *t) {
    struct kv_handle *h = c->op->h;
    struct kv_item it;
    kv_ref ref = kv_load_rlx(&segment[k / KV_SLOTS].ref[k % KV_SLOTS]);
    const unsigned char *item = ref == 0 ? NULL : arena_item(h, ref, &it);
    if (ref == 0)
        return;
    if (item == NULL) {
        problem(c, "stripe %u bucket %u: ref %u does not lead to an item", s, k / KV_SLOTS, ref);
        return;
    }
    t->count++;
    t->live += kv_item_bytes(&it);
    uint64_t hash = kv_hash(item_key(item, &it), it.key_len, h->seed);
    struct kv_slot slot;
    if (stripe_of(h, hash) != s ||
        (kv_hash_dir(hash, h->g.dir_bits) ^ dir) >> (h->g.dir_bits - depth) != 0)
        problem(c, "ref %u: its key belongs to another stripe or index segment than %u/%u", ref, s,
                dir);
    else if (table_find_ref(h, s, hash, ref, &slot) != KV_OK)
        problem(c, "ref %u: not found by its own hash in stripe %u", ref, s);
    else {
        uint32_t at = kv_hash_bucket(hash);
        for (uint32_t i = 0; i < slot.steps; i++, at = (at + kv_hash_stride(hash)) % KV_BUCKETS)
            t->passed[at] = (uint8_t)(t->passed[at] + (t->passed[at] != UINT8_MAX));
        struct kv_key key = {
            .data = item_key(item, &it), .len = it.key_len, .home = hash, .hash = hash};
        if (table_find(h, s, &key, &slot) != KV_OK || slot.ref != ref)
            problem(c, "ref %u: another item with the same key comes first in stripe %u", ref, s);
    }
    uint32_t base = ref_base(h, ref), head = page_head(h, base);
    uint32_t state = head == KV_NO_BASE ? KV_FREE : kv_page_state(page_word(h, head));
    if (state != KV_OPEN && state != KV_CLOSED && state != KV_CLEANING)
        problem(c, "ref %u: indexed, but its page %u is in state %u", ref, base, state);
    else if (ref + kv_item_bytes(&it) / KV_GRANULE >
             (uint64_t)base_ref(h, head) + kv_load_acq(&page_at(h, head)->tail))
        problem(c, "ref %u: lies beyond the tail of page %u", ref, head);
}

static void check_segment(struct check *c, uint32_t s, uint32_t dir, uint32_t word,
                          struct tally *t) {
    struct kv_handle *h = c->op->h;
    uint32_t segment = kv_dir_segment(word), depth = kv_dir_depth(word);
    const uint16_t *owner = arena_index_owner(h, segment);
    if (owner == NULL || kv_load_rlx(owner) != s + 1) {
        problem(c, "stripe %u: directory entry %u names index segment %u, which is not its own", s,
                dir, segment);
        return;
    }
    for (uint32_t b = 0; b < KV_BUCKETS; b++)
        t->passed[b] = 0;
    struct kv_bucket *buckets = arena_segment(h, segment);
    for (uint32_t k = 0; k < KV_BUCKETS * KV_SLOTS; k++)
        check_item(c, s, dir, depth, buckets, k, t);
    for (uint32_t b = 0; b < KV_BUCKETS; b++)
        if (kv_load_rlx(&buckets[b].overflow) < t->passed[b])
            problem(c,
                    "stripe %u index segment %u bucket %u: overflow count %u, but %u items passed",
                    s, segment, b, kv_load_rlx(&buckets[b].overflow), t->passed[b]);
}

static void check_directory(struct check *c, uint32_t s, struct tally *t, uint32_t *segments) {
    struct kv_handle *h = c->op->h;
    const uint32_t *dir = directory_at(h, s);
    uint32_t bits = h->g.dir_bits;
    for (uint32_t i = 0; i < 1u << bits;) {
        uint32_t word = kv_load_rlx(&dir[i]), depth = kv_dir_depth(word);
        uint32_t span = depth <= bits ? 1u << (bits - depth) : 0;
        if (span == 0 || i % span != 0) {
            problem(c, "stripe %u: directory entry %u has depth %u", s, i, depth);
            return;
        }
        for (uint32_t k = i; k < i + span; k++)
            if (kv_load_rlx(&dir[k]) != word)
                problem(c, "stripe %u: directory entries %u and %u differ within a block", s, i, k);
        check_segment(c, s, i, word, t);
        ++*segments;
        i += span;
    }
}

static uint32_t owned_segments(struct kv_handle *h, uint32_t s) {
    uint32_t n = 0, high = kv_load_acq(&kv_header_of(h)->index_high);
    for (uint32_t base = 0; base < high && base < h->g.bases_max; base++)
        for (uint32_t i = 0;
             kv_page_state(page_word(h, base)) == KV_INDEX && i < h->g.index_per_base; i++)
            n += kv_load_rlx(&page_at(h, base)->segment[i]) == s + 1;
    return n;
}

static void check_stripe_once(struct check *c, uint32_t s, struct tally *t) {
    struct kv_handle *h = c->op->h;
    struct kv_stripe *st = stripe_at(h, s);
    uint32_t segments = 0;
    *t = (struct tally){.count = 0};
    check_directory(c, s, t, &segments);
    if (kv_load_rlx(&st->count) != t->count || kv_load_rlx(&st->live) != t->live)
        problem(c, "stripe %u: counts %u items, %llu B; found %u, %llu B", s,
                kv_load_rlx(&st->count), (unsigned long long)kv_load_rlx(&st->live), t->count,
                (unsigned long long)t->live);
    if (owned_segments(h, s) != segments)
        problem(c, "stripe %u: owns %u index segments, names %u", s, owned_segments(h, s),
                segments);
}

/* A read-only attachment cannot lock: what it sees counts if the stripe stood still, and a stripe
 * that never does is left out. */
static kv_status check_stripe_readonly(struct check *c, uint32_t s, struct tally *t) {
    struct kv_stripe *st = stripe_at(c->op->h, s);
    for (uint32_t tries = 0; tries < KV_CHECK_TRIES; tries++) {
        uint32_t before = c->report->problems;
        uint64_t seen = kv_load_acq(&st->ver);
        bool busy = kv_load_acq(&st->lock) != 0;
        check_stripe_once(c, s, t);
        if (!busy && kv_load_after(&st->ver) == seen && kv_load_acq(&st->lock) == 0)
            return KV_OK;
        c->report->problems = before;
        c->waiting = 0;
        kv_status r = lock_idle(c->op);
        if (r != KV_OK)
            return r;
    }
    *t = (struct tally){.count = kv_load_rlx(&st->count), .live = kv_load_rlx(&st->live)};
    return KV_OK;
}

static kv_status check_stripe(struct check *c, uint32_t s) {
    struct kv_handle *h = c->op->h;
    struct tally t;
    kv_status r = h->readonly ? check_stripe_readonly(c, s, &t) : table_lock(c->op, s);
    if (r != KV_OK)
        return r;
    if (!h->readonly) {
        check_stripe_once(c, s, &t);
        table_unlock(h, s);
    }
    c->report->items += t.count;
    c->report->live_bytes += t.live;
    tell(c);
    return KV_OK;
}

/* ---- pages -------------------------------------------------------------------------------- */

static void check_closed(struct check *c, uint32_t head, uint64_t word) {
    struct kv_handle *h = c->op->h;
    uint64_t run = page_run(word);
    uint64_t birth = kv_load_acq(&page_at(h, head)->birth); /* acquire: before what is parsed */
    uint32_t walked = kv_load_acq(&page_at(h, head)->walked) >> 1, left = 0;
    uint32_t tail = kv_load_acq(&page_at(h, head)->tail), at = 0, items = 0, garbage = 0;
    bool parsed = tail <= run * base_granules(h);
    while (parsed && at < tail) {
        struct kv_item it;
        kv_ref ref = base_ref(h, head) + at;
        const unsigned char *item = arena_item(h, ref, &it);
        uint64_t step = item == NULL ? 0 : kv_item_bytes(&it) / KV_GRANULE;
        parsed = step > 0 && at + step <= tail;
        if (!parsed)
            break;
        kv_copy_out(c->key, item_key(item, &it), it.key_len);
        uint64_t hash = kv_hash(c->key, it.key_len, h->seed);
        struct kv_slot slot;
        bool indexed = table_find_ref(h, stripe_of(h, hash), hash, ref, &slot) == KV_OK;
        items++;
        garbage += !indexed;
        left += indexed && at < walked;
        at += (uint32_t)step;
    }
    if (page_word(h, head) != word || kv_load_rlx(&page_at(h, head)->birth) != birth)
        return; /* it moved, perhaps to be closed again: what was read proves nothing */
    if (!parsed)
        problem(c, "page %u: cannot be parsed at granule %u of %u", head, at, tail);
    else if (kv_load_rlx(&page_at(h, head)->dead) > tail)
        problem(c, "page %u: %u granules dead of %u", head, kv_load_rlx(&page_at(h, head)->dead),
                tail);
    if (left > 0)
        problem(c, "page %u: emptied up to granule %u, but %u items are there", head, walked, left);
    c->report->log_items += items;
    c->report->garbage_items += garbage;
}

/* An interior word that we stand on because its run was formed behind us is no problem. */
static bool check_headless(struct kv_handle *h, uint32_t base, uint64_t w) {
    uint32_t top = page_head(h, base);
    bool inside = top != KV_NO_BASE && top < base && top + page_run(page_word(h, top)) > base;
    return !inside && page_word(h, base) == w;
}

static void check_word(struct check *c, uint32_t head, uint64_t w, uint32_t limit) {
    struct kv_handle *h = c->op->h;
    struct kv_report *r = c->report;
    uint32_t run = page_run(w), state = kv_page_state(w), owner = kv_page_owner(w);
    r->bases += run;
    /* Raised since: who formed the run had seen it, and we have seen the run. */
    if (head + (uint64_t)run > limit && head + (uint64_t)run > arena_bases(h))
        problem(c, "page %u: run of %u leaves the arena of %u", head, run, limit);
    if (state == KV_FREE)
        r->bases_free += run;
    else if (state == KV_INDEX)
        r->bases_index += run;
    else if (state == KV_OPEN || state == KV_CLOSED) {
        *(run > h->g.log_run_max ? &r->bases_extent : &r->bases_log) += run;
        if (state == KV_OPEN && owner > kv_appender_own(&h->g))
            problem(c, "page %u: open for appender %u", head, owner);
        if (state == KV_CLOSED)
            check_closed(c, head, w);
    } else if (state == KV_TAKEN || state == KV_CLEANING || state == KV_LIMBO) {
        r->bases_held += run;
        if (state != KV_LIMBO && !h->readonly && !row_alive(h, owner) &&
            fold_dead(c->op, owner) == KV_OK && page_word(h, head) == w)
            problem(c, "page %u: state %u of attachment %u, which is gone", head, state, owner);
    } else if (check_headless(h, head, w)) {
        problem(c, "page %u: word %llx has no head", head, (unsigned long long)w);
    }
}

static void check_pages(struct check *c) {
    struct kv_handle *h = c->op->h;
    uint32_t limit = arena_bases(h);
    for (uint32_t i = 0; i < limit;) {
        uint64_t w = page_word(h, i);
        check_word(c, i, w, limit);
        tell(c);
        i += page_run(w);
    }
}

kv_status store_check(struct kv_op *op, struct kv_report *report) {
    struct kv_handle *h = op->h;
    struct check *c = calloc(1, sizeof *c);
    if (c == NULL)
        return KV_NOMEM;
    c->op = op;
    c->report = report;
    if (op->leave != NULL)
        op->leave(op);
    kv_status r = fold_all(op, &report->dead_rows);
    for (uint32_t s = 0; r == KV_OK && s < h->g.stripes; s++)
        r = check_stripe(c, s);
    if (r == KV_OK)
        check_pages(c);
    free(c);
    return r;
}
