/* window.c: choosing and emptying a window.
 *
 * The window with the least to move (or, when items must leave, the least and oldest) is emptied
 * page by page while its free base pages are held, so that nothing is moved into it. What is alive
 * moves elsewhere; if there is no room elsewhere, pages outside are cleaned first. */
#include "window.h"

#include <stdlib.h>

#include "clock.h"

#define KV_WINDOW_TRIES 32u

#define KV_COST_BLOCKED UINT32_MAX

/* What emptying each base page would cost, in granules to move or to lose. */
static void window_costs(struct episode *ep, uint32_t *cost, uint32_t limit, enum clean_mode mode) {
    struct kv_handle *h = ep->op->h;
    uint64_t now = kv_clock_ms(), newest = kv_load_rlx(&kv_header_of(h)->next_birth),
             oldest = newest;
    for (uint32_t i = 0; i < limit; i += page_run(page_word(h, i)))
        if (kv_page_state(page_word(h, i)) == KV_CLOSED &&
            kv_load_rlx(&page_at(h, i)->birth) < oldest)
            oldest = kv_load_rlx(&page_at(h, i)->birth);
    for (uint32_t i = 0; i < limit;) {
        uint64_t w = page_word(h, i);
        uint32_t run = page_run(w), state = kv_page_state(w);
        uint64_t one = KV_COST_BLOCKED;
        if (state == KV_FREE)
            one = 0;
        else if ((state == KV_CLOSED || state == KV_OPEN) && !is_blocked(ep, i)) {
            struct kv_page *p = page_at(h, i);
            uint64_t live = kv_load_acq(&p->tail) - page_garbage(h, i, now),
                     birth = kv_load_rlx(&p->birth);
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
static void window_keep(struct kv_handle *h, struct window *win, uint32_t head) {
    uint32_t run = arena_break(h, head, kv_number(h));
    for (uint32_t i = head; i < head + run; i++) {
        if (i >= win->from && i < win->from + win->len)
            win->held[i - win->from] = 1;
        else
            arena_give(h, i, kv_number(h));
    }
}

/* Empty the page at base i of the window. */
static kv_status window_page(struct episode *ep, struct window *win, uint32_t i,
                             enum clean_mode mode) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    uint32_t head = page_head(h, i);
    if (head == KV_NO_BASE) {
        ep->any_blocked = true;
        return KV_AGAIN;
    }
    uint64_t w = page_word(h, head);
    kv_status r = KV_AGAIN;
    if (kv_page_state(w) == KV_FREE) {
        if (head != i) {
            ep->any_blocked = true;
            return KV_AGAIN; /* its run was broken up meanwhile */
        }
        r = arena_take_base(op, head);
        if (r == KV_OK)
            win->held[head - win->from] = 1;
        return r == KV_NOPAGE ? KV_AGAIN : r;
    }
    if (kv_page_state(w) == KV_OPEN && kv_page_owner(w) <= kv_appender_own(&h->g)) {
        r = arena_close(op, kv_page_owner(w), head);
        if (r == KV_BUSY) /* its appender's owner is stopped: another window */
            block(ep, head);
        if (r != KV_OK)
            return r == KV_BUSY ? KV_AGAIN : r;
        w = page_word(h, head);
    }
    if (kv_page_state(w) == KV_LIMBO)
        r = clean_limbo(h, head, w) ? KV_OK : KV_AGAIN;
    else
        r = clean_page(ep, head, mode);
    if (r == KV_OK)
        window_keep(h, win, head);
    else if (r == KV_AGAIN)
        block(ep, head);
    return r;
}

/* Free base pages first, so that nothing is moved into the window. */
static kv_status window_empty(struct episode *ep, struct window *win, enum clean_mode mode) {
    struct kv_handle *h = ep->op->h;
    for (uint32_t i = 0; i < win->len; i++)
        if (kv_page_state(page_word(h, win->from + i)) == KV_FREE &&
            arena_take_base(ep->op, win->from + i) == KV_OK)
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
        uint32_t outside = 0, limit = arena_usable(h);
        for (uint32_t i = 0; i < limit && outside < arena_withheld(h);
             i += page_run(page_word(h, i)))
            outside += kv_page_state(page_word(h, i)) == KV_FREE &&
                       (i < win->from || i >= win->from + win->len);
        if (outside >= arena_withheld(h))
            return KV_OK;
        kv_status r = victim_step(ep);
        if (r != KV_OK)
            return r;
    }
}

static kv_status window_try(struct episode *ep, uint32_t len, enum clean_mode mode) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_usable(h);
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
kv_status window_step(struct episode *ep, uint32_t len) {
    struct kv_op *op = ep->op;
    struct kv_handle *h = op->h;
    bool keep = victim_below_watermark(h, victim_live_bytes(h)) || !(h->options & KV_OPT_EVICT);
    enum clean_mode mode = keep ? KEEP_LIVE : MAY_EVICT;
    for (uint32_t tries = 1;; tries++) {
        kv_status r = window_try(ep, len, mode);
        if (r == KV_OK || (r != KV_AGAIN && r != KV_FULL && r != KV_NOPAGE))
            return r;
        if (r == KV_AGAIN && tries % KV_WINDOW_TRIES != 0)
            continue; /* a page is in the way: another window */
        r = episode_fold(ep);
        if (r == KV_AGAIN)
            continue;
        if (r != KV_OK)
            return r;
        if (!ep->any_blocked) { /* not for want of patience, but of adjacent memory */
            if (mode == MAY_EVICT || !(h->options & KV_OPT_EVICT))
                return KV_FULL;
            mode = MAY_EVICT;
            continue;
        }
        unblock_all(ep);
        r = lock_idle(op);
        if (r != KV_OK)
            return r;
    }
}
