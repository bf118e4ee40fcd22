/* victim.c: a look at all pages, and the choice among them. */
#include "victim.h"

#include "clock.h"

uint64_t victim_live_bytes(struct kv_handle *h) {
    uint64_t sum = 0;
    for (uint32_t s = 0; s < h->g.stripes; s++)
        sum += kv_load_rlx(&stripe_at(h, s)->live);
    return sum;
}

uint64_t victim_items(struct kv_handle *h) {
    uint64_t sum = 0;
    for (uint32_t s = 0; s < h->g.stripes; s++)
        sum += kv_load_rlx(&stripe_at(h, s)->count);
    return sum;
}

#define KV_SMALL_SHARE 10u /* the small queue has a tenth */
#define KV_DIRTY_SHARE 7u  /* a page with so much garbage goes before items leave */

/* ---- choosing ----------------------------------------------------------------------------- */

struct census {
    uint32_t oldest[KV_QUEUES]; /* heads, or KV_NO_BASE */
    uint64_t birth[KV_QUEUES];  /* theirs */
    uint32_t dirtiest, begun;   /* begun: somebody has emptied a part of it */
    uint64_t dirt, dirt_of;     /* garbage and size of the dirtiest, granules */
    uint64_t expired;           /* garbage beyond what is counted dead, granules */
    uint32_t small, all;        /* base pages of the small queue, of all but the index */
    uint32_t freed;             /* pages that came out of limbo */
    uint32_t closed;            /* candidates seen, blocked ones too */
};

static void census_page(struct episode *ep, struct census *c, uint32_t head, uint64_t w,
                        uint64_t now) {
    struct kv_handle *h = ep->op->h;
    struct kv_page *p = page_at(h, head);
    uint64_t garbage = page_garbage(h, head, now), dead = kv_load_rlx(&p->dead);
    uint64_t birth = kv_load_rlx(&p->birth), size = (uint64_t)page_run(w) * base_granules(h);
    uint32_t queue = kv_page_queue(w);
    bool open = kv_page_state(w) == KV_OPEN;
    c->expired += garbage > dead ? garbage - dead : 0;
    c->closed += !open;
    if (is_blocked(ep, head))
        return;
    if (!open && kv_load_rlx(&p->walked) != 0) {
        c->begun = head;
        return;
    }
    if (c->oldest[queue] == KV_NO_BASE || birth < c->birth[queue]) {
        c->oldest[queue] = head;
        c->birth[queue] = birth;
    }
    if (garbage == kv_load_rlx(&p->tail))
        garbage = size; /* nothing in it lives: it costs no copy, and needs no place for one */
    if (!open && (c->dirtiest == KV_NO_BASE || garbage * c->dirt_of > c->dirt * size)) {
        c->dirtiest = head;
        c->dirt = garbage;
        c->dirt_of = size;
    }
}

/* Held by somebody who is dead: given back before anything that is alive leaves. */
static bool census_dead(struct episode *ep, uint32_t head, uint64_t w) {
    struct kv_handle *h = ep->op->h;
    uint32_t state = kv_page_state(w), owner = kv_page_owner(w);
    if ((state != KV_TAKEN && state != KV_CLEANING) || row_alive(h, owner) ||
        page_word(h, head) != w)
        return false;
    return fold_dead(ep->op, owner) == KV_OK && page_word(h, head) != w;
}

static void census_take(struct episode *ep, struct census *c) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_usable(h);
    uint64_t now = kv_clock_ms();
    *c = (struct census){.dirtiest = KV_NO_BASE, .begun = KV_NO_BASE};
    for (uint32_t q = 0; q < KV_QUEUES; q++)
        c->oldest[q] = KV_NO_BASE;
    for (uint32_t i = 0; i < limit;) {
        uint64_t w = page_word(h, i);
        uint32_t run = page_run(w), state = kv_page_state(w);
        c->all += state == KV_INDEX ? 0 : run;
        if ((state == KV_CLOSED || state == KV_OPEN) && kv_page_queue(w) == 0)
            c->small += run;
        if (state == KV_CLOSED || (state == KV_OPEN && h->g.mains != 0))
            census_page(ep, c, i, w, now);
        else if (state == KV_LIMBO && clean_limbo(h, i, w)) {
            arena_give(h, i, kv_number(h));
            c->freed++;
        } else if (census_dead(ep, i, w)) {
            c->freed++;
        }
        i += run;
    }
}

/* The page whose items leave: of the small queue while that has more than its tenth; else the
 * oldest of the main queue with the largest age x sqrt(size of its items), where queue 1 + g holds
 * sizes of 4^g. */
static uint32_t choose_oldest(struct kv_handle *h, const struct census *c) {
    uint64_t now = kv_load_rlx(&kv_header_of(h)->next_birth), best = 0;
    uint32_t head = KV_NO_BASE;
    if (c->small * KV_SMALL_SHARE > c->all && c->oldest[0] != KV_NO_BASE)
        return c->oldest[0];
    for (uint32_t q = 1; q < KV_QUEUES; q++) {
        uint64_t age = (now > c->birth[q] ? now - c->birth[q] : 1) << (q - 1);
        if (c->oldest[q] == KV_NO_BASE || age <= best)
            continue;
        best = age;
        head = c->oldest[q];
    }
    return head == KV_NO_BASE ? c->oldest[0] : head;
}

/* KV_OK with a page and a mode; KV_FULL; KV_AGAIN: all candidates are blocked for now. */
static kv_status choose_victim(struct episode *ep, const struct census *c, uint32_t *head,
                               enum clean_mode *mode) {
    struct kv_handle *h = ep->op->h;
    bool evicting = h->options & KV_OPT_EVICT;
    uint64_t live = victim_live_bytes(h), expired = c->expired * KV_GRANULE;
    live = live > expired ? live - expired : 0;
    if (c->begun != KV_NO_BASE) {
        *head = c->begun;
        *mode = evicting ? clean_begun(kv_load_rlx(&page_at(h, c->begun)->walked)) : KEEP_LIVE;
        return KV_OK;
    }
    uint64_t share = !evicting ? 64 : victim_below_watermark(h, live) ? 32 : KV_DIRTY_SHARE;
    if (!(evicting && ep->no_place) && c->dirtiest != KV_NO_BASE && c->dirt * share >= c->dirt_of) {
        *head = c->dirtiest;
        *mode = KEEP_LIVE;
        return KV_OK;
    }
    *head = evicting ? choose_oldest(h, c) : KV_NO_BASE;
    if (*head != KV_NO_BASE) {
        *mode = MAY_EVICT;
        return KV_OK;
    }
    return c->closed > 0 && ep->any_blocked && (evicting || !ep->no_place) ? KV_AGAIN : KV_FULL;
}

/* Nothing closed to clean: close what is open. Small stores, or many appenders. */
kv_status victim_close_open(struct kv_op *op) {
    for (uint32_t k = 0; k <= kv_appender_own(&op->h->g); k++) {
        kv_status r = arena_close(op, k, KV_NO_BASE);
        if (r != KV_OK)
            return r;
    }
    return KV_OK;
}

/* Nothing to choose, or nothing that is not blocked. KV_AGAIN: look again; KV_OK: there may be
 * room. */
static kv_status victim_wanting(struct episode *ep, kv_status why) {
    kv_status r = episode_fold(ep);
    if (r != KV_OK)
        return r == KV_AGAIN ? KV_OK : r; /* what the dead held may be free now */
    if (why == KV_FULL && !ep->closed_open) {
        ep->closed_open = true;
        r = victim_close_open(ep->op);
    } else if (why == KV_AGAIN) { /* everything is blocked: wait for somebody to finish */
        unblock_all(ep);
        r = lock_idle(ep->op);
    } else {
        return why;
    }
    return r == KV_OK ? KV_AGAIN : r;
}

/* The oldest page of its queue may still be open, where few items of its size are written. */
static bool close_old(struct episode *ep, uint32_t head) {
    struct kv_handle *h = ep->op->h;
    uint64_t w = page_word(h, head);
    if (kv_page_state(w) != KV_OPEN || kv_page_owner(w) > kv_appender_own(&h->g))
        return false;
    ep->stuck = arena_close(ep->op, kv_page_owner(w), head) != KV_OK || page_word(h, head) == w;
    if (ep->stuck)
        block(ep, head); /* its appender's owner is stopped, or knows nothing of it */
    return true;
}

/* What was just written: where there is little memory it must not leave for what may come. */
static bool is_youngest(struct kv_handle *h, uint32_t head) {
    uint64_t birth = kv_load_rlx(&page_at(h, head)->birth);
    return birth + page_run(page_word(h, head)) >= kv_load_rlx(&kv_header_of(h)->next_birth);
}

/* The page that was begun with, or the one to begin with. */
static kv_status part_choose(struct episode *ep, uint32_t ahead, uint32_t *head,
                             enum clean_mode *mode) {
    struct kv_handle *h = ep->op->h;
    if (ahead > 1 && ahead - 2 < arena_bases(h)) {
        *head = ahead - 2;
        uint32_t walked = kv_load_rlx(&page_at(h, *head)->walked);
        *mode = clean_begun(walked);
        if (walked != 0 && kv_page_state(page_word(h, *head)) == KV_CLOSED)
            return KV_OK;
    }
    struct census c;
    census_take(ep, &c);
    kv_status r = c.freed > 0 ? KV_FULL : choose_victim(ep, &c, head, mode);
    if (r == KV_OK && *mode == MAY_EVICT && is_youngest(h, *head))
        return KV_FULL;
    if (r == KV_OK && *mode == MAY_EVICT && kv_load_rlx(&page_at(h, *head)->walked) == 0 &&
        (close_old(ep, *head) || clean_spare(ep, *head) == KV_OK))
        return ep->stuck ? KV_FULL : KV_AGAIN;
    return r;
}

void victim_part(struct episode *ep) {
    struct kv_handle *h = ep->op->h;
    uint32_t *ahead = &kv_header_of(h)->ahead, head, next = 0;
    enum clean_mode mode;
    kv_status r = part_choose(ep, kv_load_rlx(ahead), &head, &mode);
    if (r == KV_AGAIN) {
        next = 1;
    } else if (r == KV_OK) {
        r = clean_part(ep, head, mode);
        if (r == KV_OK) {
            arena_give(h, head, kv_number(h));
            ghost_fit(h, victim_items(h));
            next = !arena_fits(h, h->g.std_run, h->g.std_run);
        } else if (ep->advanced) {
            next = head + 2;
        }
    }
    kv_store_rlx(ahead, next);
    FAULT(ahead_left);
}

/* A page came free: what found no place for its items may find one now. Where items may leave, no
 * place is needed for them from here on. */
static void place_again(struct episode *ep) {
    if (!ep->no_place || (ep->op->h->options & KV_OPT_EVICT))
        return;
    ep->no_place = false;
    unblock_all(ep);
}

kv_status victim_step(struct episode *ep) {
    struct kv_op *op = ep->op;
    for (;;) {
        struct census c;
        uint32_t head = 0;
        enum clean_mode mode = KEEP_LIVE;
        census_take(ep, &c);
        if (c.freed > 0)
            return KV_OK;
        kv_status r = choose_victim(ep, &c, &head, &mode);
        if (r != KV_OK) {
            r = victim_wanting(ep, r);
            if (r == KV_AGAIN)
                continue;
            return r;
        }
        if (mode == MAY_EVICT && (close_old(ep, head) || clean_spare(ep, head) == KV_OK))
            continue;
        r = clean_page(ep, head, mode);
        if (r == KV_OK) {
            arena_give(op->h, head, kv_number(op->h));
            place_again(ep);
        }
        if (r != KV_AGAIN && r != KV_NOPAGE)
            return r;
        block(ep, head);
        if (r == KV_NOPAGE && !ep->no_place) {
            ep->no_place = true; /* from now on items may leave: every page counts again */
            unblock_all(ep);
        }
    }
}

kv_status victim_dirty(struct episode *ep, uint32_t share) {
    for (;;) {
        struct census c;
        census_take(ep, &c);
        if (c.freed > 0)
            return KV_OK;
        if (c.dirtiest == KV_NO_BASE || c.dirt * share < c.dirt_of)
            return KV_FULL;
        kv_status r = clean_page(ep, c.dirtiest, KEEP_LIVE);
        if (r == KV_OK)
            arena_give(ep->op->h, c.dirtiest, kv_number(ep->op->h));
        if (r != KV_AGAIN && r != KV_NOPAGE)
            return r;
        block(ep, c.dirtiest);
    }
}
