/* evict.c: making room: for an item, for an index page, in an index segment. */
#include "evict.h"

#include <stdlib.h>

#define KV_PATIENT_STEPS 64u

/* An episode that blocks no page: nothing of it is allocated. */
static kv_status slot_take(struct episode *ep, struct kv_op *op, uint64_t goal, bool wait) {
    struct kv_handle *h = op->h;
    struct kv_header *header = kv_header_of(h);
    uint64_t page = (uint64_t)h->g.std_run << h->g.base_shift;
    *ep = (struct episode){.op = op, .goal = goal > page ? goal : page};
    if (wait && op->leave != NULL)
        op->leave(op);
    kv_status r = KV_BUSY;
    for (ep->slot = 0; ep->slot < h->g.cleaners; ep->slot++) {
        r = lock_try(op, &header->cleaners[ep->slot].lock);
        if (r == KV_OK)
            break;
    }
    if (r != KV_OK && wait) {
        ep->slot = kv_number(h) % h->g.cleaners;
        r = lock_take(op, &header->cleaners[ep->slot].lock);
        r = r == KV_RECOVER ? KV_OK : r; /* nothing to repair: pages tell their own state */
    }
    return r;
}

kv_status evict_begin(struct episode *ep, struct kv_op *op, uint64_t goal, bool wait) {
    kv_status r = slot_take(ep, op, goal, wait);
    if (r != KV_OK)
        return r;
    ep->blocked = calloc(op->h->g.bases_max / 8 + 1, 1);
    if (ep->blocked != NULL)
        return KV_OK;
    lock_give(&kv_header_of(op->h)->cleaners[ep->slot].lock);
    return KV_NOMEM;
}

void evict_close(struct episode *ep) {
    free(ep->blocked);
    lock_give(&kv_header_of(ep->op->h)->cleaners[ep->slot].lock);
}

/* Room for a log page of the length it should have; a shorter one will do if there are as many free
 * base pages, but scattered. */
static bool log_fits(struct kv_handle *h, uint32_t need, uint32_t run) {
    return arena_fits(h, run, 0) || (run > need && arena_fits(h, need, 2 * run - need));
}

kv_status evict_make_room(struct kv_op *op, uint64_t bytes) {
    struct kv_handle *h = op->h;
    struct episode ep;
    uint32_t need = arena_need(h, bytes), run = arena_log_run(h, bytes);
    kv_status r = evict_begin(&ep, op, bytes, true);
    if (r != KV_OK)
        return r;
    op->roomed = true;
    ghost_fit(h, victim_items(h));
    if (arena_is_extent(h, bytes))
        r = arena_fits(h, need, 0) ? KV_OK : window_step(&ep, need);
    else
        for (uint32_t n = 0; r == KV_OK && op->gift_len == 0 && !log_fits(h, need, run); n++) {
            r = need > 1 && arena_fits(h, 1, run) ? window_step(&ep, need) : victim_step(&ep);
            if (r == KV_OK && n >= KV_PATIENT_STEPS && lock_pass_deadline(op))
                r = KV_BUSY; /* others take what we gain */
        }
    if (r == KV_FULL && arena_fits(h, need, 0))
        r = KV_OK; /* a shorter page will do */
    evict_close(&ep);
    return r;
}

void evict_ahead(struct kv_op *op) {
    struct episode ep;
    if (op->h->g.mains == 0 || slot_take(&ep, op, 0, false) != KV_OK)
        return; /* others are at it */
    victim_part(&ep);
    evict_close(&ep);
}

kv_status evict_tidy(struct kv_op *op) {
    struct kv_handle *h = op->h;
    struct kv_header *header = kv_header_of(h);
    struct episode ep;
    op->tidied = true;
    kv_status r = evict_begin(&ep, op, 0, false);
    if (r != KV_OK)
        return r == KV_BUSY ? KV_OK : r; /* others are at it */
    uint32_t hint = kv_load_rlx(&header->tidy_hint);
    kv_store_rlx(&header->tidy_hint, 0u);
    r = hint == 0 || hint > arena_bases(h) ? KV_AGAIN : clean_page(&ep, hint - 1, KEEP_LIVE);
    if (r == KV_OK) {
        arena_give(h, hint - 1, kv_number(h));
        kv_store_rlx(&header->take_hint, hint - 1);
    }
    evict_close(&ep);
    return r == KV_AGAIN || r == KV_NOPAGE ? KV_OK : r;
}

/* Base page i becomes ours, if it is free or can be cleaned. Only that makes it ours: that it is
 * TAKEN when we look again may be somebody else's work. */
static kv_status index_claim(struct episode *ep, uint32_t i) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint64_t w = page_word(h, i);
    if (kv_page_state(w) == KV_FREE)
        return arena_take_base(op, i) == KV_OK ? KV_OK : KV_AGAIN;
    if (kv_page_state(w) == KV_OPEN && kv_page_owner(w) <= kv_appender_own(&h->g)) {
        kv_status r = arena_close(op, kv_page_owner(w), i);
        if (r != KV_OK)
            return r == KV_BUSY ? KV_AGAIN : r;
        w = page_word(h, i);
    }
    return kv_page_state(w) == KV_CLOSED ? clean_page(ep, i, KEEP_LIVE) : KV_AGAIN;
}

/* The lowest base page that is not index yet becomes index, so that index pages stay together. */
static kv_status index_step(struct episode *ep) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_usable(h);
    bool tight = false;
    for (uint32_t i = 0; i < limit; i += page_run(page_word(h, i))) {
        kv_status r = index_claim(ep, i);
        tight |= r == KV_NOPAGE;
        if (r == KV_AGAIN || r == KV_NOPAGE)
            continue;
        if (r != KV_OK)
            return r;
        uint32_t run = arena_break(h, i, kv_number(h));
        for (uint32_t k = i + 1; k < i + run; k++)
            arena_give(h, k, kv_number(h));
        arena_index_make(h, i);
        return KV_OK;
    }
    return tight ? KV_NOPAGE : KV_FULL;
}

static uint32_t index_bases(struct kv_handle *h) {
    uint32_t n = 0, high = kv_load_acq(&kv_header_of(h)->index_high);
    for (uint32_t i = 0; i < high && i < h->g.bases_max; i++)
        n += kv_page_state(page_word(h, i)) == KV_INDEX;
    return n;
}

kv_status evict_make_index(struct kv_op *op) {
    struct kv_handle *h = op->h;
    struct episode ep;
    if (index_bases(h) >= arena_bases(h) / 4)
        return KV_FULL;
    kv_status r = evict_begin(&ep, op, 0, true);
    if (r != KV_OK)
        return r;
    for (bool done = false; r == KV_OK && !done;) {
        while (r == KV_OK && !arena_fits(h, 1, 0))
            r = victim_step(&ep);
        if (r == KV_OK)
            r = index_step(&ep);
        done = r == KV_OK;
        if (r == KV_NOPAGE)
            r = victim_step(&ep);
    }
    evict_close(&ep);
    return r;
}

kv_status evict_from_bucket_locked(struct kv_op *op, uint32_t s, uint64_t hash) {
    struct kv_handle *h = op->h;
    struct kv_slot slot, least = {.bucket = NULL};
    kv_status r = table_home_locked(h, s, hash, &slot);
    if (r != KV_OK)
        return r;
    for (slot.index = 0; slot.index < KV_SLOTS; slot.index++)
        if (least.bucket == NULL || slot_counter(&slot) < slot_counter(&least))
            least = slot;
    kv_ref ref = kv_load_rlx(&least.bucket->ref[least.index]);
    struct kv_item it;
    const unsigned char *item = arena_item(h, ref, &it);
    if (item == NULL)
        return KV_CORRUPT;
    uint64_t other = kv_hash(item_key(item, &it), it.key_len, h->seed);
    r = table_find_ref(h, s, other, ref, &least);
    if (r != KV_OK)
        return KV_CORRUPT;
    table_remove_locked(h, s, other, &least, kv_item_bytes(&it));
    row_count(h, KV_STAT_EVICTED_INDEX, 1);
    return KV_OK;
}

/* One look at every page that was there at the beginning. *wanting: pages that found no place for
 * what lives in them. */
static kv_status compact_pass(struct episode *ep, uint64_t until, uint32_t *freed,
                              uint32_t *wanting) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_bases(h);
    *wanting = 0;
    for (uint32_t i = 0; i < limit; i += page_run(page_word(h, i))) {
        uint64_t w = page_word(h, i);
        kv_status r = KV_AGAIN;
        if (kv_page_state(w) == KV_CLOSED && kv_load_rlx(&page_at(h, i)->birth) < until)
            r = clean_page(ep, i, KEEP_LIVE);
        else if (kv_page_state(w) == KV_LIMBO && clean_limbo(h, i, w))
            r = KV_OK;
        *wanting += r == KV_NOPAGE;
        if (r == KV_OK) {
            arena_give(h, i, kv_number(h));
            ++*freed;
        } else if (r != KV_AGAIN && r != KV_NOPAGE) {
            return r;
        }
    }
    return KV_OK;
}

kv_status evict_compact(struct kv_op *op, uint32_t *freed) {
    struct kv_handle *h = op->h;
    struct episode ep;
    *freed = 0;
    kv_status r = evict_begin(&ep, op, 0, true);
    if (r != KV_OK)
        return r;
    r = victim_close_open(op);
    uint64_t until = kv_load_rlx(&kv_header_of(h)->next_birth);
    uint32_t wanting = 0, before;
    do { /* again while that gives places to what found none */
        before = *freed;
        if (r == KV_OK)
            r = compact_pass(&ep, until, freed, &wanting);
    } while (r == KV_OK && wanting > 0 && *freed > before);
    evict_close(&ep);
    return r;
}

void evict_end(struct kv_op *op) {
    if (op->gift_len != 0)
        arena_give(op->h, op->gift, kv_number(op->h));
    op->gift_len = 0;
}
