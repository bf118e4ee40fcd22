/* evict.c: cleaning a page, choosing it, emptying a window for an extent.
 *
 * Cleaning: CLOSED -> CLEANING(n); no reservation names the run (else back); every item is looked up under its
 * stripe's lock: garbage is skipped, expired and unwanted items lose their ref, the others are copied and
 * their ref replaced; after the last one nothing points into the run, and taking each stripe's lock has repaired
 * whatever a dead writer left there. Then a full fence, no pin in the run, and it is TAKEN(n).
 * Death at any step: the page is CLOSED again by the fold, with more garbage in it than before.
 *
 * Copies are bounded by the rule "lap 8": in one episode, once 8 k times the wanted bytes were copied, only
 * items with a counter above k are kept. */
#include "evict.h"

#include <stdlib.h>

#include "clock.h"

#define KV_STRIPE_PATIENCE_NS 20000000u
#define KV_BLOCKED 32u
#define KV_LAP 8u

enum mode { KEEP_LIVE, MAY_EVICT };

struct episode {
    struct kv_op *op;
    uint64_t goal;   /* bytes to gain */
    uint64_t copied; /* bytes moved so far */
    uint32_t slot;   /* cleaner slot held */
    uint32_t blocked[KV_BLOCKED];
    uint32_t blocked_count;
};

uint64_t evict_live_bytes(struct kv_handle *h) {
    uint64_t sum = 0;
    for (uint32_t s = 0; s < h->g.stripes; s++)
        sum += kv_load_rlx(&stripe_at(h, s)->live);
    return sum;
}

/* ---- one item ----------------------------------------------------------------------------------- */

/* Wait for a stripe, but not as long as the operation may: there are other pages. */
static kv_status lock_patiently(struct kv_op *op, uint32_t s) {
    uint64_t saved = op->deadline_ns, soon = kv_clock_ns() + KV_STRIPE_PATIENCE_NS;
    if (lock_try(op, &stripe_at(op->h, s)->lock) == KV_OK)
        return KV_OK;
    op->deadline_ns = saved != 0 && saved < soon ? saved : soon;
    kv_status r = table_lock(op, s);
    op->deadline_ns = saved;
    return r;
}

static bool keep_item(const struct episode *ep, enum mode mode, const struct kv_slot *slot, uint8_t flags) {
    uint64_t lap = ep->copied / (KV_LAP * ep->goal);
    if (mode == KEEP_LIVE || (flags & KV_ITEM_KEEP))
        return true;
    return slot_counter(slot) > lap;
}

static void copy_words_again(struct kv_handle *h, kv_ref to, const unsigned char *from, const struct kv_item *it) {
    unsigned char *dst = arena_at(h, to);
    if (it->flags & KV_ITEM_DEADLINE)
        kv_store_rlx(item_word(dst, kv_item_deadline_at()), item_deadline(from, it));
    if (it->flags & KV_ITEM_COUNTER)
        kv_store_rlx(item_word(dst, kv_item_counter_at(it->flags)), item_counter(from, it));
    FAULT(relocate_words);
}

/* Copy an item elsewhere and move its ref, unless somebody changed it meanwhile. */
static kv_status relocate(struct episode *ep, uint32_t s, uint64_t hash, kv_ref ref, enum mode mode) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    struct kv_item it;
    struct kv_slot slot;
    struct kv_place place;
    const unsigned char *item = arena_item(h, ref, &it);
    if (item == NULL)
        return KV_CORRUPT;
    kv_status r = arena_append(op, h->g.appenders, &it, item_deadline(item, &it), &place);
    if (r != KV_OK)
        return r;
    uint64_t bytes = place.bytes;
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
            slot_set_counter(&slot, slot_counter(&slot) - 1);
    }
    table_unlock(h, s);
    if (moved) {
        arena_dead(h, ref, bytes);
        ep->copied += bytes;
        row_count(h, KV_STAT_COPIED, bytes);
    }
    place_done(h, &place, moved);
    return KV_OK;
}

/* Decide about one item under its stripe's lock. */
static kv_status clean_item(struct episode *ep, kv_ref ref, const unsigned char *item, const struct kv_item *it,
                            enum mode mode) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint64_t hash = kv_hash(item_key(item, it), it->key_len, h->seed);
    uint32_t s = stripe_of(h, hash);
    struct kv_slot slot;
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
            arena_dead(h, ref, kv_item_bytes(it));
            row_count(h, expired ? KV_STAT_EXPIRED : KV_STAT_EVICTED, 1);
            return KV_OK;
        }
        table_unlock(h, s);
        r = relocate(ep, s, hash, ref, mode);
        if (r != KV_NOPAGE || mode == KEEP_LIVE || (it->flags & KV_ITEM_KEEP))
            return r;
        ep->copied = 3 * KV_LAP * ep->goal; /* no place for it: everything may leave */
    }
}

/* ---- one page ----------------------------------------------------------------------------------- */

static kv_status walk(struct episode *ep, uint32_t head, uint32_t run, enum mode mode) {
    struct kv_handle *h = ep->op->h;
    kv_ref first = base_ref(h, head);
    uint32_t tail = kv_load_acq(&page_at(h, head)->tail), at = 0;
    bool damaged = tail > (uint64_t)run * base_granules(h);
    while (at < tail && !damaged) {
        struct kv_item it;
        const unsigned char *item = arena_item(h, first + at, &it);
        damaged = item == NULL || at + kv_item_bytes(&it) / KV_GRANULE > tail;
        if (damaged)
            break;
        kv_status r = clean_item(ep, first + at, item, &it, mode);
        if (r != KV_OK)
            return r;
        at += (uint32_t)(kv_item_bytes(&it) / KV_GRANULE);
    }
    if (!damaged)
        return KV_OK;
    (void)kv_add_rlx(&kv_header_of(h)->damage, 1u);
    return table_sweep(ep->op, first, first + run * base_granules(h));
}

/* CLOSED -> TAKEN by us. KV_AGAIN: blocked for now. KV_NOPAGE: no place for what is alive in it. */
static kv_status clean_page(struct episode *ep, uint32_t head, enum mode mode) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint64_t closed = page_word(h, head);
    uint32_t run = page_run(closed), owner = 0;
    if (kv_page_state(closed) != KV_CLOSED || head + (uint64_t)run > h->g.bases_max || arena_pinned(h, head, run))
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
    if (r == KV_OK)
        r = walk(ep, head, run, mode);
    if (r != KV_OK) {
        (void)arena_move(h, head, cleaning, closed);
        FAULT(page_cleaning_stopped);
        if (owner != 0 && !row_alive(h, owner))
            (void)fold_dead(op, owner);
        return r == KV_BUSY ? KV_AGAIN : r;
    }
    kv_fence_seq(); /* pairs with pin_aim: either we see the pin or its owner sees the raised version */
    bool pinned = arena_pinned(h, head, run);
    (void)arena_move(h, head, cleaning, kv_page_make(pinned ? KV_LIMBO : KV_TAKEN, 0, run, pinned ? 0 : kv_number(h)));
    FAULT(page_cleaned);
    row_count(h, KV_STAT_CLEANED, 1);
    return pinned ? KV_AGAIN : KV_OK;
}

/* LIMBO -> TAKEN by us, if nobody reads there any more. */
static bool leave_limbo(struct kv_handle *h, uint32_t head, uint64_t w) {
    uint64_t taken = kv_page_make(KV_TAKEN, 0, page_run(w), kv_number(h));
    if (!arena_move(h, head, w, taken))
        return false;
    FAULT(limbo_taken);
    kv_fence_seq();
    if (!arena_pinned(h, head, page_run(w)))
        return true;
    (void)arena_move(h, head, taken, w);
    FAULT(limbo_again);
    return false;
}

/* ---- choosing ----------------------------------------------------------------------------------- */

static bool is_blocked(const struct episode *ep, uint32_t head) {
    for (uint32_t i = 0; i < ep->blocked_count; i++)
        if (ep->blocked[i] == head)
            return true;
    return ep->blocked_count == KV_BLOCKED;
}

static void block(struct episode *ep, uint32_t head) {
    if (ep->blocked_count < KV_BLOCKED)
        ep->blocked[ep->blocked_count++] = head;
}

struct census {
    uint32_t oldest, dirtiest;  /* heads, or KV_NO_BASE */
    uint64_t oldest_birth;
    uint64_t dirt, dirt_of;     /* garbage and size of the dirtiest, granules */
    uint64_t expired;           /* garbage beyond what is counted dead, granules */
    uint32_t freed;             /* pages that came out of limbo */
    uint32_t closed;            /* candidates seen, blocked ones too */
};

static void census_page(struct episode *ep, struct census *c, uint32_t head, uint32_t run, uint64_t now) {
    struct kv_handle *h = ep->op->h;
    struct kv_page *p = page_at(h, head);
    uint64_t garbage = page_garbage(h, head, now), dead = kv_load_rlx(&p->dead);
    uint64_t birth = kv_load_rlx(&p->birth), size = (uint64_t)run * base_granules(h);
    c->expired += garbage > dead ? garbage - dead : 0;
    c->closed++;
    if (is_blocked(ep, head))
        return;
    if (c->oldest == KV_NO_BASE || birth < c->oldest_birth) {
        c->oldest = head;
        c->oldest_birth = birth;
    }
    if (c->dirtiest == KV_NO_BASE || garbage * c->dirt_of > c->dirt * size) {
        c->dirtiest = head;
        c->dirt = garbage;
        c->dirt_of = size;
    }
}

static void census_take(struct episode *ep, struct census *c) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_bases(h);
    uint64_t now = kv_clock_ms();
    *c = (struct census){.oldest = KV_NO_BASE, .dirtiest = KV_NO_BASE};
    for (uint32_t i = 0; i < limit;) {
        uint64_t w = page_word(h, i);
        uint32_t run = page_run(w);
        if (kv_page_state(w) == KV_CLOSED)
            census_page(ep, c, i, run, now);
        else if (kv_page_state(w) == KV_LIMBO && leave_limbo(h, i, w)) {
            arena_give(h, i, kv_number(h));
            c->freed++;
        }
        i += run;
    }
}

/* KV_OK with a page and a mode; KV_FULL; KV_AGAIN: all candidates are blocked for now. */
static kv_status choose_victim(struct episode *ep, const struct census *c, uint32_t *head, enum mode *mode) {
    struct kv_handle *h = ep->op->h;
    bool evicting = h->options & KV_OPT_EVICT;
    uint64_t live = evict_live_bytes(h), expired = c->expired * KV_GRANULE;
    live = live > expired ? live - expired : 0;
    uint64_t share = !evicting ? 64 : live < arena_bytes(h) / 4 * 3 ? 32 : 5;
    if (c->dirtiest != KV_NO_BASE && c->dirt * share >= c->dirt_of) {
        *head = c->dirtiest;
        *mode = KEEP_LIVE;
        return KV_OK;
    }
    if (evicting && c->oldest != KV_NO_BASE) {
        *head = c->oldest;
        *mode = MAY_EVICT;
        return KV_OK;
    }
    return c->closed > 0 && ep->blocked_count > 0 ? KV_AGAIN : KV_FULL;
}

/* Nothing closed to clean: close what is open. Small stores, or many appenders. */
static kv_status close_open_pages(struct kv_op *op) {
    for (uint32_t k = 0; k <= op->h->g.appenders; k++) {
        kv_status r = arena_close(op, k, KV_NO_BASE);
        if (r != KV_OK)
            return r;
    }
    return KV_OK;
}

/* Clean one page into the pool. */
static kv_status victim_step(struct episode *ep) {
    struct kv_op *op = ep->op;
    struct census c;
    bool closed_open = false;
    for (;;) {
        uint32_t head;
        enum mode mode;
        census_take(ep, &c);
        if (c.freed > 0)
            return KV_OK;
        kv_status r = choose_victim(ep, &c, &head, &mode);
        if (r == KV_FULL && !closed_open) {
            closed_open = true;
            r = close_open_pages(op);
            if (r != KV_OK)
                return r;
            continue;
        }
        if (r == KV_AGAIN) { /* everything is blocked: wait for somebody to finish */
            ep->blocked_count = 0;
            r = lock_idle(op);
            if (r != KV_OK)
                return r;
            continue;
        }
        if (r != KV_OK)
            return r;
        r = clean_page(ep, head, mode);
        if (r == KV_OK) {
            arena_give(op->h, head, kv_number(op->h));
            return KV_OK;
        }
        if (r != KV_AGAIN && r != KV_NOPAGE)
            return r;
        block(ep, head);
    }
}

/* ---- windows: adjacent base pages for an extent ------------------------------------------------- */

#define KV_COST_BLOCKED UINT32_MAX

/* What emptying each base page would cost, in granules to move or to lose. */
static void window_costs(struct episode *ep, uint32_t *cost, uint32_t limit, enum mode mode) {
    struct kv_handle *h = ep->op->h;
    uint64_t now = kv_clock_ms(), newest = kv_load_rlx(&kv_header_of(h)->next_birth), oldest = newest;
    for (uint32_t i = 0; i < limit; i += page_run(page_word(h, i)))
        if (kv_page_state(page_word(h, i)) == KV_CLOSED && kv_load_rlx(&page_at(h, i)->birth) < oldest)
            oldest = kv_load_rlx(&page_at(h, i)->birth);
    for (uint32_t i = 0; i < limit;) {
        uint64_t w = page_word(h, i);
        uint32_t run = page_run(w), state = kv_page_state(w);
        uint64_t one = KV_COST_BLOCKED;
        if (state == KV_FREE)
            one = 0;
        else if ((state == KV_CLOSED || state == KV_OPEN) && !is_blocked(ep, i)) {
            struct kv_page *p = page_at(h, i);
            uint64_t live = kv_load_acq(&p->tail) - page_garbage(h, i, now), birth = kv_load_rlx(&p->birth);
            one = 1 + live / run * (run > h->g.log_run_max ? 4 : 1);
            if (mode == MAY_EVICT && newest > oldest && birth >= oldest)
                one = 1 + one / 20 + one * (birth - oldest) / (newest - oldest);
        }
        for (uint32_t k = i; k < i + run && k < limit; k++)
            cost[k] = (uint32_t)one;
        i += run;
    }
}

static uint32_t window_choose(const uint32_t *cost, uint32_t limit, uint32_t len) {
    uint64_t sum = 0, best = UINT64_MAX;
    uint32_t blocked = 0, at = KV_NO_BASE;
    for (uint32_t i = 0; i < limit; i++) {
        blocked += cost[i] == KV_COST_BLOCKED;
        sum += cost[i] == KV_COST_BLOCKED ? 0 : cost[i];
        if (i >= len) {
            blocked -= cost[i - len] == KV_COST_BLOCKED;
            sum -= cost[i - len] == KV_COST_BLOCKED ? 0 : cost[i - len];
        }
        if (i + 1 >= len && blocked == 0 && sum < best) {
            best = sum;
            at = i + 1 - len;
        }
    }
    return at;
}

struct window {
    uint32_t from, len;
    unsigned char *held; /* one flag a base page: TAKEN by this window */
};

static void window_drop(struct kv_handle *h, struct window *win) {
    for (uint32_t i = 0; i < win->len; i++)
        if (win->held[i])
            arena_give(h, win->from + i, kv_number(h));
}

/* A cleaned run: keep what lies inside the window, give back the rest. */
static void window_keep(struct kv_handle *h, struct window *win, uint32_t head, uint32_t run) {
    arena_break(h, head, kv_number(h));
    for (uint32_t i = head; i < head + run; i++) {
        if (i >= win->from && i < win->from + win->len)
            win->held[i - win->from] = 1;
        else
            arena_give(h, i, kv_number(h));
    }
}

/* Empty the page at base i of the window. */
static kv_status window_page(struct episode *ep, struct window *win, uint32_t i, enum mode mode) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint32_t head = page_head(h, i);
    if (head == KV_NO_BASE)
        return KV_AGAIN;
    uint64_t w = page_word(h, head);
    kv_status r = KV_AGAIN;
    if (kv_page_state(w) == KV_FREE) {
        r = arena_take_base(op, head);
        if (r == KV_OK)
            win->held[head - win->from] = 1;
        return r == KV_NOPAGE ? KV_AGAIN : r;
    }
    if (kv_page_state(w) == KV_OPEN && kv_page_owner(w) <= h->g.appenders) {
        r = arena_close(op, kv_page_owner(w), head);
        if (r != KV_OK)
            return r == KV_BUSY ? KV_AGAIN : r;
        w = page_word(h, head);
    }
    if (kv_page_state(w) == KV_LIMBO)
        r = leave_limbo(h, head, w) ? KV_OK : KV_AGAIN;
    else
        r = clean_page(ep, head, mode);
    if (r == KV_OK)
        window_keep(h, win, head, page_run(page_word(h, head)));
    else if (r == KV_AGAIN)
        block(ep, head);
    return r;
}

/* Free base pages first, so that nothing is moved into the window. */
static kv_status window_empty(struct episode *ep, struct window *win, enum mode mode) {
    struct kv_handle *h = ep->op->h;
    for (uint32_t i = 0; i < win->len; i++)
        if (kv_page_state(page_word(h, win->from + i)) == KV_FREE && arena_take_base(ep->op, win->from + i) == KV_OK)
            win->held[i] = 1;
    for (uint32_t i = 0; i < win->len;) {
        if (win->held[i]) {
            i++;
            continue;
        }
        kv_status r = window_page(ep, win, win->from + i, mode);
        if (r == KV_NOPAGE) /* no place for what lives here: gain some elsewhere, then again */
            r = victim_step(ep);
        if (r != KV_OK)
            return r;
    }
    return KV_OK;
}

/* What must move out of the window needs free pages outside it: gain them first. */
static kv_status window_leave_room(struct episode *ep, const struct window *win) {
    struct kv_handle *h = ep->op->h;
    for (;;) {
        uint32_t outside = 0, limit = arena_bases(h);
        for (uint32_t i = 0; i < limit && outside < arena_withheld(h); i += page_run(page_word(h, i)))
            outside += kv_page_state(page_word(h, i)) == KV_FREE && (i < win->from || i >= win->from + win->len);
        if (outside >= arena_withheld(h))
            return KV_OK;
        kv_status r = victim_step(ep);
        if (r != KV_OK)
            return r;
    }
}

static kv_status window_try(struct episode *ep, uint32_t len, enum mode mode) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_bases(h);
    uint32_t *cost = malloc((size_t)limit * sizeof *cost);
    struct window win = {.len = len, .held = calloc(len, 1)};
    kv_status r = KV_NOMEM;
    if (cost == NULL || win.held == NULL)
        goto out;
    window_costs(ep, cost, limit, mode);
    win.from = window_choose(cost, limit, len);
    r = KV_FULL;
    if (win.from == KV_NO_BASE)
        goto out;
    r = window_leave_room(ep, &win);
    if (r == KV_OK)
        r = window_empty(ep, &win, mode);
    if (r != KV_OK) {
        window_drop(h, &win);
        goto out;
    }
    arena_form(h, win.from, len);
    FAULT(window_formed);
    ep->op->gift = win.from;
    ep->op->gift_len = len;
out:
    free(cost);
    free(win.held);
    return r;
}

/* The window's run becomes the operation's gift. */
static kv_status window_step(struct episode *ep, uint32_t len) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    enum mode mode = evict_live_bytes(h) < arena_bytes(h) / 4 * 3 || !(h->options & KV_OPT_EVICT) ? KEEP_LIVE : MAY_EVICT;
    for (;;) {
        kv_status r = window_try(ep, len, mode);
        if (r == KV_OK || (r != KV_AGAIN && r != KV_FULL && r != KV_NOPAGE))
            return r;
        if (r == KV_AGAIN && ep->blocked_count < KV_BLOCKED)
            continue;
        if (ep->blocked_count == 0) { /* not for want of patience, but of adjacent memory */
            if (mode == MAY_EVICT || !(h->options & KV_OPT_EVICT))
                return KV_FULL;
            mode = MAY_EVICT;
            continue;
        }
        ep->blocked_count = 0;
        r = lock_idle(op);
        if (r != KV_OK)
            return r;
    }
}

/* ---- entry points ------------------------------------------------------------------------------- */

static kv_status episode_begin(struct episode *ep, struct kv_op *op, uint64_t goal) {
    struct kv_handle *h = op->h;
    uint64_t page = (uint64_t)h->g.std_run << h->g.base_shift;
    *ep = (struct episode){.op = op, .goal = goal > page ? goal : page};
    if (op->leave != NULL)
        op->leave(op);
    for (uint32_t k = 0; k < h->g.cleaners; k++)
        if (lock_try(op, &kv_header_of(h)->cleaners[k].lock) == KV_OK) {
            ep->slot = k;
            return KV_OK;
        }
    ep->slot = kv_number(h) % h->g.cleaners;
    kv_status r = lock_take(op, &kv_header_of(h)->cleaners[ep->slot].lock);
    return r == KV_RECOVER ? KV_OK : r; /* nothing to repair: pages tell their own state */
}

static void episode_end(struct episode *ep) { lock_give(&kv_header_of(ep->op->h)->cleaners[ep->slot].lock); }

kv_status evict_make_room(struct kv_op *op, uint64_t bytes) {
    struct kv_handle *h = op->h;
    struct episode ep;
    uint32_t need = arena_need(h, bytes);
    kv_status r = episode_begin(&ep, op, bytes);
    if (r != KV_OK)
        return r;
    if (arena_is_extent(h, bytes))
        r = arena_fits(h, need) ? KV_OK : window_step(&ep, need);
    else
        while (r == KV_OK && !arena_fits(h, need))
            r = need > 1 && arena_fits(h, 1) ? window_step(&ep, need) : victim_step(&ep);
    episode_end(&ep);
    return r;
}

/* The lowest base page that is not index yet becomes index, so that index pages stay together. */
static kv_status index_step(struct episode *ep) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint32_t limit = arena_bases(h);
    for (uint32_t i = 0; i < limit; i += page_run(page_word(h, i))) {
        uint64_t w = page_word(h, i);
        kv_status r = KV_AGAIN;
        if (kv_page_state(w) == KV_FREE)
            r = arena_take_base(op, i);
        else if (kv_page_state(w) == KV_OPEN && kv_page_owner(w) <= h->g.appenders) {
            r = arena_close(op, kv_page_owner(w), i);
            w = page_word(h, i);
        }
        if (kv_page_state(w) == KV_CLOSED)
            r = clean_page(ep, i, KEEP_LIVE);
        if (r == KV_NOPAGE && kv_page_state(w) == KV_CLOSED)
            return KV_NOPAGE;
        if (r != KV_OK || kv_page_state(page_word(h, i)) != KV_TAKEN)
            continue;
        uint32_t run = page_run(page_word(h, i));
        arena_break(h, i, kv_number(h));
        for (uint32_t k = i + 1; k < i + run; k++)
            arena_give(h, k, kv_number(h));
        arena_index_make(h, i);
        return KV_OK;
    }
    return KV_FULL;
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
    kv_status r = episode_begin(&ep, op, 0);
    if (r != KV_OK)
        return r;
    for (bool done = false; r == KV_OK && !done;) {
        while (r == KV_OK && !arena_fits(h, 1))
            r = victim_step(&ep);
        if (r == KV_OK)
            r = index_step(&ep);
        done = r == KV_OK;
        if (r == KV_NOPAGE)
            r = victim_step(&ep);
    }
    episode_end(&ep);
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
    arena_dead(h, ref, kv_item_bytes(&it));
    row_count(h, KV_STAT_EVICTED_INDEX, 1);
    return KV_OK;
}

kv_status evict_compact(struct kv_op *op, uint32_t *freed) {
    struct kv_handle *h = op->h;
    struct episode ep;
    *freed = 0;
    kv_status r = episode_begin(&ep, op, 0);
    if (r != KV_OK)
        return r;
    r = close_open_pages(op);
    uint64_t until = kv_load_rlx(&kv_header_of(h)->next_birth);
    uint32_t limit = arena_bases(h);
    for (uint32_t i = 0; r == KV_OK && i < limit; i += page_run(page_word(h, i))) {
        uint64_t w = page_word(h, i);
        bool taken = false;
        if (kv_page_state(w) == KV_CLOSED && kv_load_rlx(&page_at(h, i)->birth) < until) {
            kv_status one = clean_page(&ep, i, KEEP_LIVE);
            taken = one == KV_OK;
            r = one == KV_AGAIN || one == KV_NOPAGE ? KV_OK : one;
        } else if (kv_page_state(w) == KV_LIMBO) {
            taken = leave_limbo(h, i, w);
        }
        if (taken) {
            arena_give(h, i, kv_number(h));
            ++*freed;
        }
    }
    episode_end(&ep);
    return r;
}

void evict_end(struct kv_op *op) {
    if (op->gift_len != 0)
        arena_give(op->h, op->gift, kv_number(op->h));
    op->gift_len = 0;
}
