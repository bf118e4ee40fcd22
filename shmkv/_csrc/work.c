/* work.c: watermarks, and exact knowledge of expiry.
 *
 * The histogram of a page entry tells a writer in a hurry what has surely expired. A daemon has the
 * time to read the deadlines of all items of a page and keeps, in memory of its own, the moment
 * when a tenth of the page will be garbage. What it keeps is a hint: it looks again before it
 * cleans. */
#include "work.h"

#include <stdlib.h>

#include "clock.h"

#define KV_LOW         100u /* of the arena: less is free, clean */
#define KV_HIGH        50u  /* until so much is */
#define KV_DIRTY       5u   /* a page with this part of garbage is worth the copying */
#define KV_EXPIRED     10u  /* the same, of a page in which items expire */
#define KV_LATER_MS    100u /* to a page that was in use */
#define KV_NEVER       UINT64_MAX
#define KV_OPEN_DUE_MS 1000u

struct due {
    uint64_t birth; /* of the page that was looked through; 0 = none */
    uint64_t at_ms; /* when it is worth cleaning */
};

struct work {
    bool filling;    /* between the watermarks, on the way up */
    uint32_t cursor; /* the base page to go on with */
    struct due due[];
};

static struct work *work_of(struct kv_handle *h) {
    if (h->work == NULL)
        h->work = calloc(1, sizeof(struct work) + h->g.bases_max * sizeof(struct due));
    return h->work;
}

/* ---- expiry ------------------------------------------------------------------------------- */

struct deadline {
    uint64_t at_ms, granules;
};

static int by_time(const void *a, const void *b) {
    const struct deadline *x = a, *y = b;
    return x->at_ms < y->at_ms ? -1 : x->at_ms > y->at_ms;
}

/* The deadlines of a page's items; others may be reusing it meanwhile: a hint. */
static uint32_t read_deadlines(struct kv_handle *h, uint32_t head, uint32_t tail,
                               struct deadline *out, uint32_t room) {
    uint32_t n = 0;
    for (uint32_t at = 0; at < tail && n < room;) {
        struct kv_item it;
        const unsigned char *item = arena_item(h, base_ref(h, head) + at, &it);
        if (item == NULL)
            break;
        uint64_t granules = kv_item_bytes(&it) / KV_GRANULE, deadline = item_deadline(item, &it);
        if (deadline != 0)
            out[n++] = (struct deadline){deadline, granules};
        at += (uint32_t)granules;
    }
    return n;
}

/* When a tenth of a closed page will be garbage, by what is dead now and all deadlines in it. */
static kv_status page_due(struct kv_handle *h, uint32_t head, uint32_t run, uint64_t *at_ms) {
    uint32_t most = run * base_granules(h), tail = kv_load_acq(&page_at(h, head)->tail);
    tail = tail < most ? tail : most;
    /* An item with a deadline is two granules or more; an extent has one. */
    uint32_t room = run > h->g.log_run_max ? 1 : tail / 2 + 1;
    struct deadline *all = malloc(room * sizeof *all);
    if (all == NULL)
        return KV_NOMEM;
    uint32_t n = read_deadlines(h, head, tail, all, room);
    qsort(all, n, sizeof *all, by_time);
    uint64_t garbage = kv_load_rlx(&page_at(h, head)->dead);
    *at_ms = KV_NEVER;
    for (uint32_t i = 0; i < n && *at_ms == KV_NEVER; i++) {
        garbage += all[i].granules;
        if (garbage * KV_EXPIRED >= tail)
            *at_ms = all[i].at_ms;
    }
    free(all);
    return KV_OK;
}

/* Clean the page if it is time. KV_AGAIN: it is not. */
static kv_status expire_page(struct episode *ep, struct work *w, uint32_t head, uint64_t now) {
    struct kv_handle *h = ep->op->h;
    struct due *due = &w->due[head];
    uint64_t word = page_word(h, head), birth = kv_load_rlx(&page_at(h, head)->birth);
    if (kv_page_state(word) != KV_CLOSED)
        return KV_AGAIN;
    if (due->birth == birth && due->at_ms > now)
        return KV_AGAIN;
    kv_status r = page_due(h, head, page_run(word), &due->at_ms);
    due->birth = birth;
    if (r != KV_OK || due->at_ms > now)
        return r == KV_OK ? KV_AGAIN : r;
    r = clean_page(ep, head, KEEP_LIVE);
    if (r == KV_OK)
        arena_give(h, head, kv_number(h));
    else if (r == KV_AGAIN || r == KV_NOPAGE)
        due->at_ms = now + KV_LATER_MS;
    return r == KV_NOPAGE ? KV_AGAIN : r;
}

/* An open page that nobody writes to any more would keep what expires in it: close it. */
static void expire_open(struct kv_op *op, uint32_t head, uint64_t word, uint64_t now) {
    struct kv_handle *h = op->h;
    struct kv_page *p = page_at(h, head);
    uint64_t tail = kv_load_acq(&p->tail);
    if (kv_page_owner(word) > kv_appender_own(&h->g) ||
        kv_load_rlx(&p->opened_ms) + KV_OPEN_DUE_MS > now)
        return;
    if (page_garbage(h, head, now) * (uint64_t)KV_EXPIRED >= tail && tail > 0)
        (void)arena_close(op, kv_page_owner(word), head);
}

/* A round over all pages, as far as time allows. */
static kv_status expire(struct episode *ep, struct work *w, uint64_t end_ns, struct kv_done *done) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_usable(h);
    uint64_t now = kv_clock_ms();
    for (; w->cursor < limit; w->cursor += page_run(page_word(h, w->cursor))) {
        uint64_t word = page_word(h, w->cursor);
        if (kv_page_state(word) == KV_OPEN)
            expire_open(ep->op, w->cursor, word, now);
        kv_status r = expire_page(ep, w, w->cursor, now);
        done->freed += r == KV_OK;
        if (r != KV_OK && r != KV_AGAIN)
            return r;
        if (kv_clock_ns() >= end_ns) {
            done->more = true;
            return KV_OK;
        }
    }
    w->cursor = 0;
    return KV_OK;
}

/* ---- memory ahead ------------------------------------------------------------------------- */

/* Are a share's base pages free beyond what is withheld? Two log pages at least. */
static bool is_free(struct kv_handle *h, uint32_t share) {
    uint32_t least = 2 * h->g.std_run, bases = arena_usable(h) / share;
    return arena_fits(h, 1, (bases > least ? bases : least) - 1);
}

static kv_status refill(struct episode *ep, struct work *w, uint64_t end_ns, struct kv_done *done) {
    struct kv_handle *h = ep->op->h;
    w->filling = w->filling ? !is_free(h, KV_HIGH) : !is_free(h, KV_LOW);
    while (w->filling) {
        if (kv_clock_ns() >= end_ns) {
            done->more = true;
            return KV_OK;
        }
        kv_status r = h->options & KV_OPT_EVICT ? victim_step(ep) : victim_dirty(ep, KV_DIRTY);
        if (r != KV_OK) {
            w->filling = false;
            return r == KV_FULL ? KV_OK : r;
        }
        done->freed++;
        w->filling = !is_free(h, KV_HIGH);
    }
    return KV_OK;
}

kv_status work_ahead(struct kv_op *op, uint64_t budget_ns, struct kv_done *done) {
    struct kv_handle *h = op->h;
    struct work *w = work_of(h);
    uint64_t end = kv_clock_ns() + budget_ns;
    struct episode ep;
    *done = (struct kv_done){0};
    if (h->readonly)
        return KV_READONLY;
    if (w == NULL)
        return KV_NOMEM;
    kv_status r = fold_all(op, &done->folded);
    if (r == KV_OK)
        r = evict_begin(&ep, op, 0, false);
    if (r != KV_OK)
        return r == KV_BUSY ? KV_OK : r;
    r = refill(&ep, w, end, done);
    if (r == KV_OK)
        r = expire(&ep, w, end, done);
    ghost_fit(h, victim_items(h));
    evict_close(&ep);
    return r == KV_BUSY ? KV_OK : r;
}
