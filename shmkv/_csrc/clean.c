/* clean.c: cleaning a page.
 *
 * Cleaning: CLOSED -> CLEANING(n); no reservation names the run (else back); every item is looked
 * up under its stripe's lock: garbage is skipped, expired and unwanted items lose their ref, the
 * others are copied and their ref replaced; after the last one nothing points into the run, and
 * taking each stripe's lock has repaired whatever a dead writer left there. Then a full fence, no
 * pin in the run, and it is TAKEN(n). Death at any step: the page is CLOSED again by the fold, with
 * more garbage in it than before.
 *
 * Copies are bounded by the rule "lap 8": in one episode, once 8 k times the wanted bytes were
 * copied, only items with a counter above k are kept. */
#include "clean.h"

#include "clock.h"

#define KV_STRIPE_PATIENCE_NS 4000000u
#define KV_SPARES             128u /* extents spared in one episode before it asks for more */
#define KV_PART_ITEMS         32u
#define KV_PART_GRANULES      4096u
#define KV_FORWARD            4u /* items that are looked forward to */
#define KV_LAP                8u

/* ---- one item ----------------------------------------------------------------------------- */

/* Wait for a stripe, but not as long as the operation may: there are other pages. */
static kv_status lock_patiently(struct kv_op *op, uint32_t s) {
    if (lock_try(op, &stripe_at(op->h, s)->lock) == KV_OK)
        return KV_OK;
    uint32_t owner = kv_load_rlx(&stripe_at(op->h, s)->lock) & KV_NUMBER_MASK;
    if (owner != 0 && owner == op->stalled) { /* one wait for it is enough */
        op->owner = owner;
        return KV_BUSY;
    }
    uint64_t saved = op->deadline_ns, soon = kv_clock_ns() + KV_STRIPE_PATIENCE_NS;
    op->deadline_ns = saved != 0 && saved < soon ? saved : soon;
    kv_status r = table_lock(op, s);
    op->deadline_ns = saved;
    if (r == KV_BUSY)
        op->stalled = op->owner;
    return r;
}

static bool keep_item(const struct episode *ep, enum clean_mode mode, const struct kv_slot *slot,
                      uint8_t flags) {
    uint64_t lap = ep->copied / (KV_LAP * ep->goal);
    uint64_t round = ep->spared / (arena_bytes(ep->op->h) + 1) + ep->spares / KV_SPARES;
    if (mode == KEEP_LIVE || (flags & KV_ITEM_KEEP))
        return true;
    return slot_counter(slot) > (lap > round ? lap : round);
}

/* An item has left, expired or to make room. Under no lock: a hint and a counter. */
static void remember(const struct episode *ep, uint64_t hash, bool expired) {
    struct kv_handle *h = ep->op->h;
    if (!expired && ep->queue == 0)
        ghost_put(h, hash);
    row_count(h,
              expired          ? KV_STAT_EXPIRED
              : ep->queue == 0 ? KV_STAT_EVICTED
                               : KV_STAT_EVICTED_MAIN,
              1);
}

/* A place for what is kept: read items go to the main queue of their size, others stay in theirs.
 * If there is no page for that, the cleaners' own appender has one. */
static kv_status kept_place(struct episode *ep, enum clean_mode mode, const struct kv_item *it,
                            uint64_t deadline_ms, struct kv_place *place) {
    struct kv_handle *h = ep->op->h;
    kv_status r = KV_NOPAGE;
    if (h->g.mains != 0 && (mode == MAY_EVICT || ep->queue != 0))
        r = arena_append(ep->op, arena_main(h, kv_item_bytes(it)),
                         KV_TAKE_PRIVILEGED | KV_TAKE_HALF, it, deadline_ms, place);
    if (r == KV_NOPAGE)
        r = arena_append(ep->op, kv_appender_own(&h->g), KV_TAKE_PRIVILEGED, it, deadline_ms,
                         place);
    return r;
}

static void copy_words_again(struct kv_handle *h, kv_ref to, const unsigned char *from,
                             const struct kv_item *it) {
    unsigned char *dst = arena_at(h, to);
    if (it->flags & KV_ITEM_DEADLINE)
        kv_store_rlx(item_word(dst, kv_item_deadline_at()), item_deadline(from, it));
    if (it->flags & KV_ITEM_COUNTER)
        kv_store_rlx(item_word(dst, kv_item_counter_at(it->flags)), item_counter(from, it));
    FAULT(relocate_words);
}

/* Copy an item elsewhere and move its ref, unless somebody changed it meanwhile. */
static kv_status relocate(struct episode *ep, uint32_t s, uint64_t hash, kv_ref ref,
                          enum clean_mode mode) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    struct kv_item it;
    struct kv_slot slot;
    struct kv_place place;
    const unsigned char *item = arena_item(h, ref, &it);
    if (item == NULL)
        return KV_CORRUPT;
    kv_status r = kept_place(ep, mode, &it, item_deadline(item, &it), &place);
    if (r != KV_OK)
        return r;
    uint64_t bytes = place.bytes;
    bool promoted = mode == MAY_EVICT && ep->queue == 0 && arena_queue(h, place.ref) != 0;
    kv_copy_in(arena_at(h, place.ref) + sizeof it, item + sizeof it, bytes - sizeof it);
    kv_store_rlx(&kv_row_own(h)->replaced[place.slot], ref);
    FAULT(relocate_copied);
    r = lock_patiently(op, s);
    if (r != KV_OK) {
        place_done(h, &place, false);
        return r;
    }
    bool moved = table_find_ref(h, s, hash, ref, &slot) == KV_OK;
    if (moved) {
        copy_words_again(h, place.ref, item, &it);
        table_replace_locked(h, s, &slot, place.ref, bytes, bytes, true);
        if (mode == MAY_EVICT && slot_counter(&slot) > 0)
            slot_set_counter(&slot, promoted ? 0 : slot_counter(&slot) - 1);
    }
    table_unlock(h, s);
    if (moved) {
        if (promoted)
            row_count(h, KV_STAT_PROMOTED, 1);
        ep->copied += bytes;
        row_count(h, KV_STAT_COPIED, bytes);
    }
    place_done(h, &place, moved);
    return KV_OK;
}

/* Is the item garbage? Without a lock, so "yes" only says that no ref leads here and none ever will
 * again: a writer that replaced it may not have raised the version yet. visit_stripes() waits for
 * that. */
static bool is_garbage(struct kv_handle *h, uint32_t s, uint64_t hash, kv_ref ref) {
    struct kv_slot slot;
    struct kv_stripe *st = stripe_at(h, s);
    uint64_t seen = kv_load_acq(&st->ver);
    return table_find_ref(h, s, hash, ref, &slot) == KV_MISS && kv_load_after(&st->ver) == seen;
}

/* Decide about one item under its stripe's lock. */
static kv_status clean_item(struct episode *ep, kv_ref ref, const unsigned char *item,
                            const struct kv_item *it, enum clean_mode mode, uint64_t *visit) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint64_t hash = kv_hash(item_key(item, it), it->key_len, h->seed);
    uint32_t s = stripe_of(h, hash);
    struct kv_slot slot;
    if (is_garbage(h, s, hash, ref)) {
        visit[s / 64] |= 1ULL << s % 64;
        return KV_OK;
    }
    for (;;) {
        kv_status r = lock_patiently(op, s);
        if (r != KV_OK)
            return r;
        r = table_find_ref(h, s, hash, ref, &slot);
        if (r != KV_OK) { /* garbage */
            table_unlock(h, s);
            return r == KV_MISS ? KV_OK : r;
        }
        bool expired = kv_clock_passed(item_deadline(item, it));
        if (expired || !keep_item(ep, mode, &slot, it->flags)) {
            table_remove_locked(h, s, hash, &slot, kv_item_bytes(it));
            table_unlock(h, s);
            remember(ep, hash, expired);
            return KV_OK;
        }
        table_unlock(h, s);
        r = relocate(ep, s, hash, ref, mode);
        if (r != KV_NOPAGE || mode == KEEP_LIVE || (it->flags & KV_ITEM_KEEP))
            return r;
        ep->copied = 3 * KV_LAP * ep->goal; /* no place for it: everything may leave */
    }
}

/* ---- one page ----------------------------------------------------------------------------- */

/* Take each stripe whose items were found to be garbage without it once: a living writer has then
 * raised the version, a dead one's stripe is repaired, and no reader can accept the old bytes any
 * more. */
static kv_status visit_stripes(struct episode *ep, const uint64_t *visit) {
    struct kv_handle *h = ep->op->h;
    for (uint32_t s = 0; s < h->g.stripes; s++) {
        if (!(visit[s / 64] >> s % 64 & 1))
            continue;
        kv_status r = lock_patiently(ep->op, s);
        if (r != KV_OK)
            return r;
        table_unlock(h, s);
    }
    return KV_OK;
}

/* What the lookup of an item to come will touch; *at goes on behind it. */
static void look_forward(struct kv_handle *h, kv_ref first, uint32_t tail, uint32_t *at) {
    struct kv_item it;
    const unsigned char *item = *at < tail ? arena_item(h, first + *at, &it) : NULL;
    if (item == NULL) {
        *at = tail;
        return;
    }
    uint64_t hash = kv_hash(item_key(item, &it), it.key_len, h->seed);
    table_prefetch_bucket(h, stripe_of(h, hash), hash);
    *at += (uint32_t)(kv_item_bytes(&it) / KV_GRANULE);
}

/* The items from where somebody left off to the tail, or a part of them: *done says which. What
 * lies before `walked` was proved elsewhere, and no ref can come back into a page without
 * reservations: that stays true whoever dies. */
static kv_status walk(struct episode *ep, uint32_t head, uint32_t run, enum clean_mode mode,
                      bool part, bool *done) {
    struct kv_handle *h = ep->op->h;
    struct kv_page *p = page_at(h, head);
    kv_ref first = base_ref(h, head);
    uint32_t tail = kv_load_acq(&p->tail), from = kv_load_acq(&p->walked) >> 1, at = from, n = 0;
    uint64_t visit[KV_STRIPES_MAX / 64] = {0};
    bool damaged = tail > (uint64_t)run * base_granules(h) || from > tail;
    uint32_t forward = damaged ? tail : at;
    for (uint32_t i = 0; i < KV_FORWARD; i++)
        look_forward(h, first, tail, &forward);
    for (; at < tail && !damaged; n++) {
        if (part && (n == KV_PART_ITEMS || at - from >= KV_PART_GRANULES))
            break;
        struct kv_item it;
        look_forward(h, first, tail, &forward);
        const unsigned char *item = arena_item(h, first + at, &it);
        damaged = item == NULL || at + kv_item_bytes(&it) / KV_GRANULE > tail;
        if (damaged)
            break;
        kv_status r = clean_item(ep, first + at, item, &it, mode, visit);
        if (r != KV_OK)
            return r;
        at += (uint32_t)(kv_item_bytes(&it) / KV_GRANULE);
    }
    *done = damaged || at >= tail;
    if (!damaged) {
        kv_status r = visit_stripes(ep, visit);
        if (r != KV_OK || *done)
            return r;
        kv_store_rel(&p->walked, at << 1 | (mode == MAY_EVICT)); /* release: after the last look */
        FAULT(page_walked);
        ep->advanced = true;
        return KV_AGAIN;
    }
    (void)kv_add_rlx(&kv_header_of(h)->damage, 1u);
    return table_sweep(ep->op, first, (uint64_t)first + run * base_granules(h));
}

static kv_status clean(struct episode *ep, uint32_t head, enum clean_mode mode, bool part) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint64_t closed = page_word(h, head);
    uint32_t run = page_run(closed), owner = 0;
    bool done;
    if (kv_page_state(closed) != KV_CLOSED || head + (uint64_t)run > h->g.bases_max ||
        arena_pinned(h, head, run))
        return KV_AGAIN;
    uint64_t cleaning = kv_page_make(KV_CLEANING, kv_page_queue(closed), run, kv_number(h));
    if (!arena_move(h, head, closed, cleaning))
        return KV_AGAIN;
    FAULT(page_cleaning);
    kv_status r = KV_OK;
    if (arena_reserved(h, head, run, &owner)) {
        op->owner = owner;
        r = KV_AGAIN;
    }
    ep->queue = kv_page_queue(closed);
    if (r == KV_OK)
        r = walk(ep, head, run, mode, part, &done);
    if (r != KV_OK) {
        (void)arena_move(h, head, cleaning, closed);
        FAULT(page_cleaning_stopped);
        if (owner != 0 && !row_alive(h, owner))
            (void)fold_dead(op, owner);
        return r == KV_BUSY ? KV_AGAIN : r;
    }
    kv_fence_seq(); /* pairs with pin_aim: either we see the pin or its owner sees the raised
                       version */
    bool pinned = arena_pinned(h, head, run);
    (void)arena_move(h, head, cleaning,
                     kv_page_make(pinned ? KV_LIMBO : KV_TAKEN, 0, run, pinned ? 0 : kv_number(h)));
    FAULT(page_cleaned);
    row_count(h, KV_STAT_CLEANED, 1);
    return pinned ? KV_AGAIN : KV_OK;
}

kv_status clean_page(struct episode *ep, uint32_t head, enum clean_mode mode) {
    return clean(ep, head, mode, false);
}

kv_status clean_part(struct episode *ep, uint32_t head, enum clean_mode mode) {
    ep->advanced = false;
    return clean(ep, head, mode, true);
}

/* Was the item of this extent read? Then its counter is one lower. */
static bool spare_item(struct episode *ep, kv_ref ref, uint64_t *bytes) {
    struct kv_handle *h = ep->op->h;
    struct kv_item it;
    struct kv_slot slot;
    const unsigned char *item = arena_item(h, ref, &it);
    if (item == NULL)
        return false;
    *bytes = kv_item_bytes(&it);
    uint64_t hash = kv_hash(item_key(item, &it), it.key_len, h->seed);
    uint32_t s = stripe_of(h, hash);
    if (lock_patiently(ep->op, s) != KV_OK)
        return false;
    bool spared = table_find_ref(h, s, hash, ref, &slot) == KV_OK &&
                  !kv_clock_passed(item_deadline(item, &it)) &&
                  keep_item(ep, MAY_EVICT, &slot, it.flags);
    if (spared && slot_counter(&slot) > 0)
        slot_set_counter(&slot, ep->queue == 0 ? 0 : slot_counter(&slot) - 1);
    table_unlock(h, s);
    return spared;
}

kv_status clean_spare(struct episode *ep, uint32_t head) {
    struct kv_handle *h = ep->op->h;
    uint64_t closed = page_word(h, head), bytes = 0;
    uint32_t run = page_run(closed), owner;
    uint64_t cleaning = kv_page_make(KV_CLEANING, kv_page_queue(closed), run, kv_number(h));
    if (kv_page_state(closed) != KV_CLOSED || run <= h->g.log_run_max ||
        ep->spared > (KV_COUNTER_MAX + 1) * arena_bytes(h) ||
        !arena_move(h, head, closed, cleaning))
        return KV_AGAIN;
    FAULT(spare_cleaning);
    ep->queue = kv_page_queue(closed);
    bool spared =
        !arena_reserved(h, head, run, &owner) && spare_item(ep, base_ref(h, head), &bytes);
    if (spared) {
        kv_store_rlx(&page_at(h, head)->birth, arena_birth(h, run));
        FAULT(spare_born_again);
        if (kv_page_queue(closed) == 0)
            row_count(h, KV_STAT_PROMOTED, 1);
        closed = kv_page_make(KV_CLOSED, kv_queue_of(bytes), run, 0);
        ep->spared += bytes;
        ep->spares++;
    }
    (void)arena_move(h, head, cleaning, closed);
    FAULT(spare_closed);
    return spared ? KV_OK : KV_AGAIN;
}

/* LIMBO -> TAKEN by us, if nobody reads there any more. By way of CLEANING: if we die meanwhile,
 * the fold closes the page, and it is walked and asked for pins again; TAKEN it would be given
 * away. */
bool clean_limbo(struct kv_handle *h, uint32_t head, uint64_t w) {
    uint64_t cleaning = kv_page_make(KV_CLEANING, 0, page_run(w), kv_number(h));
    if (head + (uint64_t)page_run(w) > h->g.bases_max || !arena_move(h, head, w, cleaning))
        return false;
    FAULT(limbo_claimed);
    kv_fence_seq();
    bool pinned = arena_pinned(h, head, page_run(w));
    (void)arena_move(h, head, cleaning,
                     pinned ? w : kv_page_make(KV_TAKEN, 0, page_run(w), kv_number(h)));
    FAULT(limbo_decided);
    return !pinned;
}

void unblock_all(struct episode *ep) {
    if (ep->blocked != NULL)
        memset(ep->blocked, 0, ep->op->h->g.bases_max / 8 + 1);
    ep->any_blocked = false;
}

kv_status episode_fold(struct episode *ep) {
    uint32_t folded = 0;
    if (ep->folded)
        return KV_OK;
    ep->folded = true;
    kv_status r = fold_all(ep->op, &folded);
    if (r != KV_OK || folded == 0)
        return r;
    unblock_all(ep);
    return KV_AGAIN;
}
