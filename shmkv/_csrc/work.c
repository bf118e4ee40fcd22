/* work.c: watermarks, and exact knowledge of expiry.
 *
 * The histogram of a page entry tells a writer in a hurry what has surely expired. A daemon has the
 * time to read the deadlines of all items of a page and keeps, in memory of its own, the moments
 * when a tenth of the page will be garbage, and when smaller parts of it will have expired. What it
 * keeps is a hint: it looks again before it cleans.
 *
 * A tenth of each page may be more than a tenth of what has expired, where little has. So when
 * nothing else is to be done, pages of which a smaller part has expired are cleaned as well, until
 * a sixteenth of all that expired is left in pages. What was freed counts up to the bytes of all
 * pages with deadlines: beyond that a tenth of each page is little enough. Bytes that were dead
 * before their deadline passed count for nothing here: overwriting causes no copying. */
#include "work.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lock_note.h"

#define KV_LOW         100u /* of the arena: less is free, clean */
#define KV_HIGH        50u  /* until so much is */
#define KV_DIRTY       5u   /* a page with this part of garbage is worth the copying */
#define KV_EXPIRED     10u  /* the same, of a page in which items expire */
#define KV_LATER_MS    100u /* to a page that was in use */
#define KV_NEVER       UINT64_MAX
#define KV_OPEN_DUE_MS 1000u
#define KV_LEFT        16u    /* one part in so many of what expired may lie in pages */
#define KV_LOOK_MS     250u   /* between looks at how much is written */
#define KV_CALM_MS     60000u /* writing the whole arena would take longer */
#define KV_LEVELS      9u
#define KV_FIND_NS     250000000u /* a writer that is full looks so long at least, and frees ... */
#define KV_SOME        8u         /* ... this part of the arena */
#define KV_SMALL_BASES 512u       /* fewer base pages: all that can be freed */

/* Level k: one part in so many of the page. Each is 1/sqrt(2) of the one before. */
static const uint32_t level_part[KV_LEVELS] = {KV_EXPIRED, 14, 20, 28, 40, 56, 80, 112, 160};

struct due {
    uint64_t birth;            /* of the page that was looked through; 0 = none */
    uint64_t rest_ms;          /* it was in use: not before */
    uint32_t tail;             /* it had then */
    uint64_t at_ms[KV_LEVELS]; /* [0]: so much is garbage; others: so much has expired */
};

struct work {
    bool filling;             /* between the watermarks, on the way up */
    bool calm;                /* writers leave time for more than what is due */
    uint32_t cursor;          /* the base page to go on with */
    uint32_t level;           /* pages of this level are cleaned in this round */
    uint64_t freed;           /* granules that had expired, see above */
    uint64_t left[KV_LEVELS]; /* granules, at most, that have expired in pages of a level */
    uint64_t mortal;          /* granules of pages with deadlines; both in this round so far */
    uint64_t looked_ms;       /* when writers were looked at */
    uint64_t born;            /* births then, and what was opened here since */
    struct due due[];
};

static struct work *work_of(struct kv_handle *h) {
    if (h->work == NULL)
        h->work = calloc(1, sizeof(struct work) + h->g.bases_max * sizeof(struct due));
    return h->work;
}

/* What is remembered belongs to one thread at a time. */
static bool work_begin(struct kv_handle *h) { return kv_or_acq(&h->own->working, 1u) == 0; }
static void work_end(struct kv_handle *h) { (void)kv_and_rel(&h->own->working, 0u); }

/* Are a share's base pages free beyond what is withheld? Two log pages at least. */
static bool is_free(struct kv_handle *h, uint32_t share) {
    uint32_t least = 2 * h->g.std_run, bases = arena_usable(h) / share;
    return arena_fits(h, 1, (bases > least ? bases : least) - 1);
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

static bool is_known(struct kv_handle *h, const struct due *due, uint32_t head) {
    struct kv_page *p = page_at(h, head);
    return due->birth == kv_load_rlx(&p->birth) && due->tail == kv_load_rlx(&p->tail);
}

/* The moments of a page, by what is dead now and all deadlines in it. What is dead may be what has
 * expired: replaced or deleted before. *expired: granules beyond that. */
static kv_status page_due(struct kv_handle *h, uint32_t head, uint32_t run, uint64_t now,
                          struct due *due, uint64_t *expired) {
    uint32_t most = run * base_granules(h), tail = kv_load_acq(&page_at(h, head)->tail);
    due->birth = kv_load_rlx(&page_at(h, head)->birth);
    due->tail = tail;
    due->rest_ms = 0;
    tail = tail < most ? tail : most;
    /* An item with a deadline is two granules or more; an extent has one. */
    uint32_t room = run > h->g.log_run_max ? 1 : tail / 2 + 1;
    struct deadline *all = malloc(room * sizeof *all);
    if (all == NULL)
        return KV_NOMEM;
    uint32_t n = read_deadlines(h, head, tail, all, room);
    qsort(all, n, sizeof *all, by_time);
    uint64_t dead = kv_load_rlx(&page_at(h, head)->dead), passed = 0;
    *expired = 0;
    for (uint32_t k = 0; k < KV_LEVELS; k++)
        due->at_ms[k] = KV_NEVER;
    for (uint32_t i = 0; i < n; i++) {
        passed += all[i].granules;
        uint64_t beyond = passed > dead ? passed - dead : 0;
        for (uint32_t k = 0; k < KV_LEVELS; k++) {
            uint64_t worth = k == 0 ? dead + passed : beyond;
            if (due->at_ms[k] == KV_NEVER && worth * level_part[k] >= tail)
                due->at_ms[k] = all[i].at_ms;
        }
        if (all[i].at_ms <= now)
            *expired = beyond;
    }
    free(all);
    return KV_OK;
}

/* Clean the page if it is time. KV_AGAIN: it is not. */
static kv_status expire_page(struct episode *ep, struct work *w, uint32_t head, uint64_t now) {
    struct kv_handle *h = ep->op->h;
    struct due *due = &w->due[head];
    uint64_t word = page_word(h, head), expired;
    if (kv_page_state(word) != KV_CLOSED)
        return KV_AGAIN;
    if (is_known(h, due, head) && (due->at_ms[w->level] > now || due->rest_ms > now))
        return KV_AGAIN;
    kv_status r = page_due(h, head, page_run(word), now, due, &expired);
    if (r != KV_OK || due->at_ms[w->level] > now)
        return r == KV_OK ? KV_AGAIN : r;
    uint64_t born = kv_load_rlx(&kv_header_of(h)->next_birth);
    r = clean_page(ep, head, KEEP_LIVE);
    w->born += kv_load_rlx(&kv_header_of(h)->next_birth) - born;
    if (r == KV_OK) {
        arena_give(h, head, kv_number(h));
        w->freed += expired;
    } else if (r == KV_AGAIN || r == KV_NOPAGE) {
        due->rest_ms = now + KV_LATER_MS;
    }
    return r == KV_NOPAGE ? KV_AGAIN : r;
}

/* A page stays: what of it has expired? */
static void count_left(struct kv_handle *h, struct work *w, uint32_t head, uint64_t now) {
    const struct due *due = &w->due[head];
    uint64_t tail = kv_load_rlx(&page_at(h, head)->tail);
    bool same = due->birth == kv_load_rlx(&page_at(h, head)->birth);
    if (!same || due->at_ms[KV_LEVELS - 1] == KV_NEVER)
        return;
    w->mortal += tail;
    for (uint32_t k = 1; k < KV_LEVELS; k++)
        if (due->at_ms[k] <= now) {
            w->left[k] += tail / level_part[k - 1];
            return;
        }
}

/* After a round: the level that must be cleaned so that little of what expired is left, if
 * that is below the one just cleaned; else 0. */
static uint32_t next_level(struct work *w) {
    uint64_t left = 0, freed;
    uint32_t k = 0;
    w->freed = w->freed < w->mortal ? w->freed : w->mortal;
    freed = w->freed;
    for (uint32_t i = 1; i < KV_LEVELS; i++)
        left += w->left[i];
    for (; k < KV_LEVELS - 1 && left * KV_LEFT > left + freed; k++) {
        left -= w->left[k + 1];
        freed += w->left[k + 1];
    }
    return w->calm && k > w->level ? k : 0;
}

/* An open page that nobody writes to any more would keep what expires in it: close it. */
static kv_status expire_open(struct kv_op *op, struct work *w, uint32_t head, uint64_t now) {
    struct kv_handle *h = op->h;
    struct due *due = &w->due[head];
    uint64_t word = page_word(h, head), birth = kv_load_rlx(&page_at(h, head)->birth), expired;
    if (kv_page_state(word) != KV_OPEN || kv_page_owner(word) > kv_appender_own(&h->g) ||
        kv_load_rlx(&page_at(h, head)->opened_ms) + KV_OPEN_DUE_MS > now)
        return KV_OK;
    if (!is_known(h, due, head) && (due->birth != birth || due->rest_ms <= now)) {
        kv_status r = page_due(h, head, page_run(word), now, due, &expired);
        due->rest_ms = now + KV_OPEN_DUE_MS;
        if (r != KV_OK)
            return r;
    }
    if (is_known(h, due, head) && due->at_ms[w->level] <= now) {
        due->rest_ms = 0;
        (void)arena_close(op, kv_page_owner(word), head);
    }
    return KV_OK;
}

/* A round over all pages, as far as time allows; when it is done the cursor is at 0. With a share,
 * pages are freed until so much is free. */
static kv_status expire_round(struct episode *ep, struct work *w, uint64_t end_ns, uint32_t share,
                              struct kv_done *done) {
    struct kv_handle *h = ep->op->h;
    uint32_t limit = arena_usable(h);
    uint64_t now = kv_clock_ms();
    for (bool late = false; !late;) {
        if (w->cursor >= limit) {
            w->cursor = 0;
            return KV_OK;
        }
        kv_status r = expire_open(ep->op, w, w->cursor, now);
        if (r == KV_OK)
            r = expire_page(ep, w, w->cursor, now);
        done->freed += r == KV_OK;
        if (r != KV_OK && r != KV_AGAIN)
            return r;
        if (r == KV_AGAIN)
            count_left(h, w, w->cursor, now);
        if (r == KV_OK && share != 0 && is_free(h, share))
            return KV_OK;
        w->cursor += page_run(page_word(h, w->cursor));
        late = kv_clock_ns() >= end_ns;
    }
    done->more = true;
    return KV_OK;
}

/* Do writers leave time? Not while what they write would fill the arena within a minute. */
static void look_at_writers(struct kv_handle *h, struct work *w) {
    uint64_t now = kv_clock_ms(), born = kv_load_rlx(&kv_header_of(h)->next_birth);
    if (w->looked_ms != 0 && now < w->looked_ms + KV_LOOK_MS)
        return;
    w->calm =
        w->looked_ms == 0 || (born - w->born) * KV_CALM_MS <= (now - w->looked_ms) * arena_bases(h);
    w->looked_ms = now;
    w->born = born;
}

/* Rounds, until what is left is worth no copying. */
static kv_status expire(struct episode *ep, struct work *w, uint64_t end_ns, struct kv_done *done) {
    look_at_writers(ep->op->h, w);
    w->calm = w->calm && !w->filling;
    if (!w->calm)
        w->level = 0;
    for (;;) {
        kv_status r = expire_round(ep, w, end_ns, 0, done);
        if (r != KV_OK || w->cursor != 0)
            return r;
        w->level = next_level(w);
        memset(w->left, 0, sizeof w->left);
        w->mortal = 0;
        if (w->level == 0)
            return KV_OK;
    }
}

/* ---- memory ahead ------------------------------------------------------------------------- */

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

static kv_status clean_ahead(struct kv_op *op, uint64_t end_ns, struct kv_done *done) {
    struct kv_handle *h = op->h;
    struct work *w = work_of(h);
    struct episode ep;
    kv_status r = w == NULL ? KV_NOMEM : evict_begin(&ep, op, 0, false);
    if (r != KV_OK)
        return r;
    r = refill(&ep, w, end_ns, done);
    if (r == KV_OK)
        r = expire(&ep, w, end_ns, done);
    ghost_fit(h, victim_items(h));
    evict_close(&ep);
    return r;
}

static kv_status turn(struct kv_op *op, uint64_t budget_ns, struct kv_done *done) {
    uint64_t end = kv_clock_ns() + budget_ns;
    kv_status r = fold_all(op, &done->folded);
    if (r == KV_OK && work_begin(op->h)) { /* else a writer here does the same */
        r = clean_ahead(op, end, done);
        work_end(op->h);
    }
    return r == KV_BUSY ? KV_OK : r;
}

kv_status work_ahead(struct kv_op *op, uint64_t budget_ns, struct kv_done *done) {
    *done = (struct kv_done){0};
    if (op->h->readonly)
        return KV_READONLY;
    struct kv_note *note = note_begin(op, KV_NOTED_WORK, NULL, 0);
    return note_end(op, note, turn(op, budget_ns, done));
}

/* ---- full --------------------------------------------------------------------------------- */

/* The pages of most garbage first; in a store that is not small no more than a part: a writer
 * waits. Nor much less: what was open was closed to come here, and is shorter for good. */
static kv_status expire_some(struct episode *ep, struct work *w, uint64_t bytes,
                             struct kv_done *done) {
    struct kv_handle *h = ep->op->h;
    /* Looking is no waiting: without time for that none of the pages behind would be seen. */
    uint64_t end = kv_clock_ns() + KV_FIND_NS;
    bool all = arena_bases(h) < KV_SMALL_BASES || arena_need(h, bytes) > h->g.std_run;
    kv_status r = KV_OK;
    end = end > ep->op->deadline_ns ? end : ep->op->deadline_ns;
    for (uint32_t k = 0; k < KV_LEVELS && r == KV_OK && done->freed == 0 && !done->more; k += 4) {
        w->cursor = 0;
        w->level = k;
        r = expire_round(ep, w, end, all ? 0 : KV_SOME, done);
    }
    w->cursor = w->level = 0;
    memset(w->left, 0, sizeof w->left);
    w->mortal = 0;
    return r;
}

kv_status work_expired(struct kv_op *op, uint64_t bytes) {
    struct kv_handle *h = op->h;
    struct kv_done done = {0};
    struct episode ep;
    if (kv_load_rlx(&kv_header_of(h)->mortal) == 0)
        return KV_FULL;
    (void)lock_pass_deadline(op); /* the clock starts here, at the latest */
    if (!work_begin(h))
        return lock_idle(op); /* another thread is at it */
    kv_status r = work_of(h) == NULL ? KV_NOMEM : evict_begin(&ep, op, 0, true);
    if (r == KV_OK) {
        r = expire_some(&ep, work_of(h), bytes, &done);
        evict_close(&ep);
    }
    work_end(h);
    if (r == KV_OK && done.freed == 0)
        r = done.more ? KV_BUSY : KV_FULL;
    return r;
}
