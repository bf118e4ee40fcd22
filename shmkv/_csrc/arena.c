/* arena.c: page words, runs, appenders, index segments.
 *
 * A run is taken base page by base page (each TAKEN on its own), formed by storing the length in
 * the head and then the interiors, and given back the other way round. At every instant each base
 * page that belongs to n is either TAKEN(n) by its own word or inside a run whose head says
 * TAKEN(n): so the fold of a dead n finds all of them by looking at the words alone, and may itself
 * die anywhere. */
#include "arena.h"

#include "clock.h"

#define KV_TAKE_TRIES   64u
#define KV_MOMENT_TRIES 64u

uint32_t page_head(struct kv_handle *h, uint32_t base) {
    if (base >= h->g.bases_max)
        return KV_NO_BASE;
    uint64_t w = page_word(h, base);
    if (kv_page_state(w) != KV_INTERIOR)
        return base;
    uint32_t back = kv_page_run(w);
    if (back > base || kv_page_state(page_word(h, base - back)) == KV_INTERIOR)
        return KV_NO_BASE;
    return base - back;
}

bool arena_move(struct kv_handle *h, uint32_t head, uint64_t from, uint64_t to) {
    return kv_cas(&page_at(h, head)->word, &from, to);
}

/* ---- runs --------------------------------------------------------------------------------- */

void arena_form(struct kv_handle *h, uint32_t head, uint32_t len) {
    struct kv_page *p = page_at(h, head);
    kv_store_rlx(&p->tail, 0u);
    kv_store_rlx(&p->dead, 0u);
    kv_store_rlx(&p->suspect, 0u);
    kv_store_rlx(&p->walked, 0u);
    FAULT(run_cleared);
    kv_store_rel(&p->word, kv_page_make(KV_TAKEN, 0, len, kv_number(h)));
    FAULT(run_headed);
    for (uint32_t i = 1; i < len; i++) {
        kv_store_rlx(&page_at(h, head + i)->word, kv_page_make(KV_INTERIOR, 0, i, 0));
        FAULT(run_interior);
    }
}

/* As many base pages as the words bear out: a damaged length must not give away what is others'. */
static uint32_t taken_run(struct kv_handle *h, uint32_t head, uint32_t number) {
    uint32_t len = 1, most = page_run(page_word(h, head));
    for (; len < most && head + len < h->g.bases_max; len++) {
        uint64_t w = page_word(h, head + len);
        bool inner = kv_page_state(w) == KV_INTERIOR && kv_page_run(w) == len;
        bool taken = kv_page_state(w) == KV_TAKEN && kv_page_owner(w) == number;
        if (!inner && !taken)
            break;
    }
    return len;
}

uint32_t arena_break(struct kv_handle *h, uint32_t head, uint32_t number) {
    uint32_t len = taken_run(h, head, number);
    for (uint32_t i = 1; i < len; i++) {
        kv_store_rlx(&page_at(h, head + i)->word, kv_page_make(KV_TAKEN, 0, 1, number));
        FAULT(run_separated);
    }
    kv_store_rel(&page_at(h, head)->word, kv_page_make(KV_TAKEN, 0, 1, number));
    FAULT(run_broken);
    return len;
}

void arena_give(struct kv_handle *h, uint32_t head, uint32_t number) {
    uint32_t len = arena_break(h, head, number);
    for (uint32_t i = 0; i < len; i++) {
        /* release: pairs with the taker's acquire; whoever writes here next has seen every raised
         * version */
        kv_store_rel(&page_at(h, head + i)->word, kv_page_make(KV_FREE, 0, 1, 0));
        FAULT(base_freed);
    }
}

kv_status arena_take_base(struct kv_op *op, uint32_t base) {
    struct kv_handle *h = op->h;
    uint64_t w = page_word(h, base);
    if (kv_page_state(w) != KV_FREE ||
        !arena_move(h, base, w, kv_page_make(KV_TAKEN, 0, 1, kv_number(h))))
        return KV_NOPAGE;
    FAULT(base_taken);
    kv_status s = segment_back(op, base_offset(h, base + 1));
    if (s != KV_OK)
        arena_give(h, base, kv_number(h));
    return s;
}

struct search {
    uint32_t len, need; /* adjacent bases wanted; free bases there must be in all */
    uint32_t free;      /* seen so far */
    uint32_t found;     /* head of the first run that fits, or KV_NO_BASE */
};

/* Look through [from, to); true when there is nothing left to learn. */
static bool search_range(struct kv_handle *h, struct search *s, uint32_t from, uint32_t to) {
    uint32_t adjacent = 0;
    for (uint32_t i = from; i < to;) {
        uint64_t w = page_word(h, i);
        uint32_t step = page_run(w);
        if (kv_page_state(w) == KV_FREE) {
            s->free++;
            adjacent++;
            if (adjacent == s->len && s->found == KV_NO_BASE)
                s->found = i + 1 - s->len;
            if (s->found != KV_NO_BASE && s->free >= s->need)
                return true;
        } else {
            adjacent = 0;
        }
        i += step;
    }
    return false;
}

/* From the last place to the end, then from the zone, the index zone last. */
static uint32_t search_run(struct kv_handle *h, uint32_t len, uint32_t need, uint32_t limit) {
    struct search s = {.len = len, .need = need, .found = KV_NO_BASE};
    uint32_t zone = h->g.zone < limit ? h->g.zone : limit;
    uint32_t hint = kv_load_rlx(&kv_header_of(h)->take_hint);
    if (hint < zone || hint >= limit || kv_page_state(page_word(h, hint)) == KV_INTERIOR)
        hint = zone;
    if (search_range(h, &s, hint, limit) || search_range(h, &s, zone, hint) ||
        search_range(h, &s, 0, zone))
        return s.found;
    return KV_NO_BASE;
}

static bool take_all(struct kv_handle *h, uint32_t head, uint32_t len) {
    for (uint32_t i = 0; i < len; i++) {
        uint64_t w = page_word(h, head + i);
        if (kv_page_state(w) == KV_FREE &&
            arena_move(h, head + i, w, kv_page_make(KV_TAKEN, 0, 1, kv_number(h)))) {
            FAULT(base_taken);
            continue;
        }
        while (i-- > 0)
            arena_give(h, head + i, kv_number(h));
        return false;
    }
    return true;
}

kv_status arena_take(struct kv_op *op, uint32_t len, unsigned how, uint32_t *head) {
    struct kv_handle *h = op->h;
    uint32_t limit = arena_bases(h);
    uint32_t withheld = arena_withheld(h);
    uint32_t need = len + (how & KV_TAKE_HALF ? withheld / 2 : how ? 0 : withheld);
    if (op->gift_len == len && !(how & KV_TAKE_PRIVILEGED)) {
        *head = op->gift;
        op->gift_len = 0;
        return KV_OK;
    }
    for (unsigned tries = 0; tries < KV_TAKE_TRIES; tries++) {
        uint32_t at = search_run(h, len, need, limit);
        if (at == KV_NO_BASE)
            return KV_NOPAGE;
        if (!take_all(h, at, len))
            continue;
        kv_status s = segment_back(op, base_offset(h, at + len));
        if (s == KV_OK) {
            arena_form(h, at, len);
            kv_store_rlx(&kv_header_of(h)->take_hint, at + len);
            *head = at;
            return KV_OK;
        }
        for (uint32_t i = 0; i < len; i++)
            arena_give(h, at + i, kv_number(h));
        if (s != KV_NOSPACE)
            return s;
        limit = kv_geometry_bases_below(&h->g, segment_watermark(h)); /* what there is must do */
    }
    return KV_NOPAGE;
}

uint32_t arena_usable(struct kv_handle *h) {
    uint32_t limit = arena_bases(h), backed = kv_geometry_bases_below(&h->g, segment_watermark(h));
    bool refused = kv_load_rlx(&kv_header_of(h)->nospace) != 0;
    return refused && backed < limit ? backed : limit;
}

bool arena_fits(struct kv_handle *h, uint32_t len, uint32_t more) {
    return search_run(h, len, len + more + arena_withheld(h), arena_usable(h)) != KV_NO_BASE;
}

static bool in_run(struct kv_handle *h, kv_ref ref, uint32_t head, uint32_t run) {
    return ref != 0 && ref >= base_ref(h, head) && ref - base_ref(h, head) < run * base_granules(h);
}

bool arena_reserved(struct kv_handle *h, uint32_t head, uint32_t run, uint32_t *number) {
    for (uint32_t r = 0; r < h->g.rows; r++) {
        struct kv_row *row = kv_row_at(h, r);
        uint32_t n = kv_load_acq(&row->number);
        for (uint32_t i = 0; n != 0 && i < KV_RESERVATIONS; i++)
            if (in_run(h, kv_load_acq(&row->reservation[i]), head, run)) {
                *number = n;
                return true;
            }
    }
    return false;
}

bool arena_pinned(struct kv_handle *h, uint32_t head, uint32_t run) {
    for (uint32_t r = 0; r < h->g.rows; r++) {
        struct kv_row *row = kv_row_at(h, r);
        if (kv_load_acq(&row->number) == 0)
            continue;
        for (uint32_t i = 0; i < KV_PINS; i++)
            if (in_run(h, kv_load_acq(&row->pin[i]), head, run))
                return true;
    }
    return false;
}

/* ---- garbage ------------------------------------------------------------------------------ */

void arena_dead(struct kv_handle *h, kv_ref ref, uint64_t bytes) {
    uint32_t head = page_head(h, ref_base(h, ref)), more = (uint32_t)(bytes / KV_GRANULE);
    if (head == KV_NO_BASE)
        return;
    struct kv_page *p = page_at(h, head);
    uint32_t dead = kv_add_rlx(&p->dead, more),
             tidy = page_run(page_word(h, head)) * base_granules(h) / 8 * 7;
    if (dead < tidy &&
        dead + more >= tidy) /* crossed by this item: worth cleaning before taking more */
        kv_store_rlx(&kv_header_of(h)->tidy_hint, head + 1);
}

/* Items of bucket i expire within 4^(i+1) seconds of the page's opening; later ones are not
 * recorded. */
static void histogram_add(struct kv_page *p, uint64_t deadline_ms, uint64_t bytes) {
    uint64_t opened = kv_load_rlx(&p->opened_ms), limit = 4000;
    for (uint32_t i = 0; i < KV_EXPIRY_BUCKETS; i++, limit *= 4) {
        if (deadline_ms > opened + limit)
            continue;
        uint64_t sum = kv_load_rlx(&p->expiry[i]) + bytes / KV_GRANULE;
        kv_store_rlx(&p->expiry[i], (uint16_t)(sum > UINT16_MAX ? UINT16_MAX : sum));
        FAULT(page_histogram);
        return;
    }
}

uint32_t page_garbage(struct kv_handle *h, uint32_t head, uint64_t now_ms) {
    struct kv_page *p = page_at(h, head);
    uint64_t tail = kv_load_acq(&p->tail), sum = kv_load_rlx(&p->dead);
    uint64_t opened = kv_load_rlx(&p->opened_ms), limit = 4000;
    for (uint32_t i = 0; i < KV_EXPIRY_BUCKETS && opened + limit <= now_ms; i++, limit *= 4)
        sum += kv_load_rlx(&p->expiry[i]) == UINT16_MAX ? tail : kv_load_rlx(&p->expiry[i]);
    if (kv_load_rlx(&p->suspect) && sum < tail / 2 + 1)
        sum = tail / 2 + 1;
    return (uint32_t)(sum < tail ? sum : tail);
}

/* ---- appending ---------------------------------------------------------------------------- */

uint32_t arena_need(const struct kv_handle *h, uint64_t bytes) {
    return (uint32_t)((bytes + (1ULL << h->g.base_shift) - 1) >> h->g.base_shift);
}

bool arena_is_extent(const struct kv_handle *h, uint64_t bytes) {
    return bytes > 4ULL << h->g.base_shift || arena_need(h, bytes) > h->g.log_run_max;
}

uint32_t arena_log_run(const struct kv_handle *h, uint64_t bytes) {
    uint32_t run = h->g.std_run;
    while (run < h->g.log_run_max && ((uint64_t)run << h->g.base_shift) < 8 * bytes)
        run *= 2;
    return run < h->g.log_run_max ? run : h->g.log_run_max;
}

/* A shorter page only where making room did not help, or for cleaners, who do it. */
static kv_status take_log_page(struct kv_op *op, uint64_t bytes, unsigned how, uint32_t *head) {
    struct kv_handle *h = op->h;
    uint32_t least = arena_need(h, bytes), run = arena_log_run(h, bytes);
    kv_status s = arena_take(op, run, how, head);
    while (s == KV_NOPAGE && run > least && (op->roomed || how != 0)) {
        run = run / 2 > least ? run / 2 : least;
        s = arena_take(op, run, how, head);
    }
    return s;
}

uint64_t arena_birth(struct kv_handle *h, uint32_t run) {
    return kv_add_rlx(&kv_header_of(h)->next_birth, run);
}

uint32_t arena_queue(struct kv_handle *h, kv_ref ref) {
    uint32_t head = page_head(h, ref_base(h, ref));
    return head == KV_NO_BASE ? 0 : kv_page_queue(page_word(h, head));
}

static bool appender_is_main(const struct kv_handle *h, uint32_t k) {
    return k >= h->g.appenders && k < kv_appender_own(&h->g);
}

static void page_stamp(struct kv_handle *h, uint32_t head) {
    struct kv_page *p = page_at(h, head);
    kv_store_rlx(&p->birth, arena_birth(h, page_run(page_word(h, head))));
    kv_store_rlx(&p->opened_ms, kv_clock_ms());
    for (uint32_t i = 0; i < KV_EXPIRY_BUCKETS; i++)
        kv_store_rlx(&p->expiry[i], (uint16_t)0);
    FAULT(page_stamped);
}

static void reserve(struct kv_handle *h, unsigned slot, uint32_t head) {
    kv_store_rel(&kv_row_own(h)->reservation[slot], base_ref(h, head));
    FAULT(page_reserved);
    kv_fence_rel(); /* before the first new byte: pairs with the reader's acquire fence */
}

/* The head of the appender's open page, or KV_NO_BASE; the appender's lock is held. */
static uint32_t current_locked(struct kv_handle *h, uint32_t k) {
    uint32_t c = kv_load_rlx(&kv_header_of(h)->appenders[k].current);
    if (c == 0 || c > h->g.bases_max)
        return KV_NO_BASE;
    uint64_t w = page_word(h, c - 1), run = page_run(w);
    bool sane = run <= h->g.log_run_max && c - 1 + run <= h->g.bases_max &&
                (run == 1 || page_head(h, (uint32_t)(c - 2 + run)) == c - 1);
    return sane && kv_page_state(w) == KV_OPEN && kv_page_owner(w) == k ? c - 1 : KV_NO_BASE;
}

static void close_locked(struct kv_handle *h, uint32_t k, uint32_t head) {
    uint64_t w = page_word(h, head);
    if (kv_page_state(w) != KV_OPEN || kv_page_owner(w) != k)
        return;
    (void)arena_move(h, head, w, kv_page_make(KV_CLOSED, kv_page_queue(w), kv_page_run(w), 0));
    FAULT(page_closed);
}

void arena_appender_recover(struct kv_handle *h, uint32_t k) {
    uint32_t keep = current_locked(h, k), limit = h->g.bases_max;
    for (uint32_t i = 0; i < limit; i += page_run(page_word(h, i)))
        if (i != keep)
            close_locked(h, k, i);
    FAULT(appender_recovered);
}

/* Worth a moment, no wait: a living owner may be stopped. KV_RECOVER from a dead one. */
static kv_status lock_moment(struct kv_op *op, uint32_t *word) {
    for (unsigned tries = 0; tries < KV_MOMENT_TRIES; tries++) {
        if (lock_try(op, word) == KV_OK)
            return KV_OK;
        kv_pause();
    }
    uint32_t owner = kv_load_acq(word) & KV_NUMBER_MASK;
    if (owner != 0 && !row_alive(op->h, owner))
        return lock_take(op, word);
    op->owner = owner;
    return KV_BUSY;
}

/* In another queue the item is as good. KV_BUSY: *k is another now. */
static kv_status main_lock(struct kv_op *op, uint32_t *k, unsigned how) {
    struct kv_handle *h = op->h;
    kv_status s = lock_moment(op, &kv_header_of(h)->appenders[*k].lock);
    if (s == KV_BUSY)
        *k = how != 0 ? kv_appender_own(&h->g) : *k % h->g.appenders;
    return s;
}

static kv_status appender_lock(struct kv_op *op, uint32_t *k, unsigned how) {
    struct kv_handle *h = op->h;
    struct kv_appender *a = kv_header_of(h)->appenders;
    kv_status s = appender_is_main(h, *k) ? main_lock(op, k, how) : KV_BUSY;
    for (uint32_t i = 0; s != KV_OK && *k < h->g.appenders && i < h->g.appenders; i++) {
        uint32_t other = (*k + i) % h->g.appenders;
        s = lock_try(op, &a[other].lock);
        if (s == KV_OK)
            *k = other;
    }
    if (s == KV_BUSY)
        s = lock_take(op, &a[*k].lock);
    if (s == KV_RECOVER) {
        arena_appender_recover(h, *k);
        s = KV_OK;
    }
    return s;
}

/* Room in page `head`? Then reserve it, store the header and raise the tail. The lock is held. */
static bool append_locked(struct kv_handle *h, uint32_t head, const struct kv_item *it,
                          uint64_t deadline_ms, struct kv_place *place) {
    struct kv_page *p = page_at(h, head);
    uint32_t tail = kv_load_rlx(&p->tail);
    uint64_t room = (uint64_t)page_run(page_word(h, head)) << h->g.base_shift;
    if ((uint64_t)tail * KV_GRANULE + place->bytes > room)
        return false;
    reserve(h, place->slot, head);
    place->ref = base_ref(h, head) + tail;
    kv_copy_in(arena_at(h, place->ref), it, sizeof *it);
    FAULT(item_header);
    if (deadline_ms != 0)
        histogram_add(p, deadline_ms, place->bytes);
    kv_store_rel(&p->tail,
                 tail + (uint32_t)(place->bytes / KV_GRANULE)); /* release: header before tail */
    FAULT(page_tail);
    return true;
}

/* Make the run `head` (TAKEN by us) the appender's open page. The lock is held. */
static void install_locked(struct kv_handle *h, uint32_t k, uint32_t head) {
    uint32_t old = current_locked(h, k);
    if (old != KV_NO_BASE)
        close_locked(h, k, old);
    uint32_t run = kv_page_run(page_word(h, head));
    uint32_t queue = appender_is_main(h, k) ? k - h->g.appenders + 1 : 0;
    kv_store_rel(&page_at(h, head)->word, kv_page_make(KV_OPEN, queue, run, k));
    FAULT(page_opened);
    kv_store_rlx(&kv_header_of(h)->appenders[k].current, head + 1);
    FAULT(page_current);
}

/* The last page but one was taken: whoever writes next cleans a little. Where nobody is evicted,
 * cleaning ahead would be copying for nothing. */
static void look_ahead(struct kv_handle *h, uint32_t run) {
    uint32_t *ahead = &kv_header_of(h)->ahead;
    if (h->g.mains == 0 || kv_load_rlx(ahead) != 0 || arena_fits(h, run, run))
        return;
    kv_store_rlx(ahead, 1u);
    FAULT(ahead_wanted);
}

static kv_status append_log(struct kv_op *op, uint32_t k, unsigned how, const struct kv_item *it,
                            uint64_t deadline_ms, struct kv_place *place) {
    struct kv_handle *h = op->h;
    uint32_t fresh = KV_NO_BASE, asked = k;
    for (;;) {
        k = asked;
        kv_status s = appender_lock(op, &k, how);
        if (s != KV_OK) {
            if (fresh != KV_NO_BASE)
                arena_give(h, fresh, kv_number(h));
            return s;
        }
        uint32_t head = current_locked(h, k);
        bool done = head != KV_NO_BASE && append_locked(h, head, it, deadline_ms, place);
        if (!done && fresh != KV_NO_BASE) {
            install_locked(h, k, fresh);
            head = fresh;
            fresh = KV_NO_BASE;
            done = append_locked(h, head, it, deadline_ms, place);
        }
        lock_give(&kv_header_of(h)->appenders[k].lock);
        if (done) {
            if (fresh != KV_NO_BASE) /* somebody else installed a page meanwhile */
                arena_give(h, fresh, kv_number(h));
            return KV_OK;
        }
        if (how == 0 && !op->tidied && kv_load_rlx(&kv_header_of(h)->tidy_hint) != 0)
            return KV_NOPAGE; /* reuse before taking more: the caller tidies and asks again */
        s = take_log_page(op, place->bytes, how, &fresh);
        if (s != KV_OK)
            return s;
        page_stamp(h, fresh);
        if (how == 0)
            look_ahead(h, page_run(page_word(h, fresh)));
    }
}

/* An extent is CLOSED, with its reservation and header in place, before any index word names it. */
static kv_status append_extent(struct kv_op *op, bool main, unsigned how, const struct kv_item *it,
                               uint64_t deadline_ms, struct kv_place *place) {
    struct kv_handle *h = op->h;
    uint32_t head, run = arena_need(h, place->bytes);
    kv_status s = arena_take(op, run, how, &head);
    if (s != KV_OK)
        return s;
    page_stamp(h, head);
    if (!append_locked(h, head, it, deadline_ms, place)) { /* somebody damaged its entry */
        arena_give(h, head, kv_number(h));
        return KV_CORRUPT;
    }
    uint32_t queue = main ? kv_queue_of(place->bytes) : 0;
    kv_store_rel(&page_at(h, head)->word, kv_page_make(KV_CLOSED, queue, run, 0));
    FAULT(extent_closed);
    return KV_OK;
}

kv_status arena_append(struct kv_op *op, uint32_t appender, unsigned how, const struct kv_item *it,
                       uint64_t deadline_ms, struct kv_place *place) {
    place->bytes = kv_item_bytes(it);
    kv_status s = reservation_slot(op, how != 0, &place->slot);
    if (s != KV_OK)
        return s;
    if (arena_is_extent(op->h, place->bytes))
        s = append_extent(op, appender_is_main(op->h, appender), how, it, deadline_ms, place);
    else
        s = append_log(op, appender, how, it, deadline_ms, place);
    if (s != KV_OK)
        reservation_clear(op->h, place->slot);
    return s;
}

void place_done(struct kv_handle *h, const struct kv_place *place, bool published) {
    if (!published)
        arena_dead(h, place->ref, place->bytes);
    reservation_clear(h, place->slot);
}

kv_status arena_close(struct kv_op *op, uint32_t appender, uint32_t head) {
    struct kv_handle *h = op->h;
    struct kv_appender *a = &kv_header_of(h)->appenders[appender];
    kv_status s = head == KV_NO_BASE ? lock_take(op, &a->lock) : lock_moment(op, &a->lock);
    if (s == KV_RECOVER)
        arena_appender_recover(h, appender);
    else if (s != KV_OK)
        return s;
    uint32_t current = current_locked(h, appender);
    if (current != KV_NO_BASE && (head == KV_NO_BASE || head == current)) {
        close_locked(h, appender, current);
        kv_store_rlx(&a->current, 0u);
        FAULT(page_not_current);
    }
    lock_give(&a->lock);
    return KV_OK;
}

/* ---- index pages -------------------------------------------------------------------------- */

uint16_t *arena_index_owner(struct kv_handle *h, uint32_t segment) {
    if (!arena_segment_ok(h, segment))
        return NULL;
    uint64_t off = (uint64_t)segment * KV_INDEX_BYTES - h->g.off_arena;
    uint32_t base = (uint32_t)(off >> h->g.base_shift);
    if (base >= h->g.bases_max || kv_page_state(page_word(h, base)) != KV_INDEX)
        return NULL;
    return &page_at(h, base)->segment[off / KV_INDEX_BYTES % h->g.index_per_base];
}

static uint32_t index_take_in(struct kv_handle *h, uint32_t base, uint32_t stripe) {
    if (kv_page_state(page_word(h, base)) != KV_INDEX)
        return 0;
    struct kv_page *p = page_at(h, base);
    for (uint32_t i = 0; i < h->g.index_per_base; i++) {
        uint16_t none = 0;
        if (kv_load_rlx(&p->segment[i]) != 0 ||
            !kv_cas(&p->segment[i], &none, (uint16_t)(stripe + 1)))
            continue;
        FAULT(index_taken);
        kv_store_rlx(&kv_header_of(h)->index_hint, base);
        kv_fence_rel(); /* before its first new byte, as in reserve() */
        return (uint32_t)(base_offset(h, base) / KV_INDEX_BYTES) + i;
    }
    return 0;
}

uint32_t arena_index_take(struct kv_handle *h, uint32_t stripe) {
    uint32_t high = kv_load_acq(&kv_header_of(h)->index_high);
    if (high > h->g.bases_max)
        high = h->g.bases_max;
    uint32_t hint = kv_load_rlx(&kv_header_of(h)->index_hint);
    uint32_t got = hint < high ? index_take_in(h, hint, stripe) : 0;
    for (uint32_t i = 0; got == 0 && i < high; i++)
        got = index_take_in(h, i, stripe);
    return got;
}

void arena_index_give(struct kv_handle *h, uint32_t segment) {
    uint16_t *owner = arena_index_owner(h, segment);
    if (owner == NULL)
        return;
    kv_store_rel(owner, (uint16_t)0); /* release: the raised version comes first */
    FAULT(index_given);
    uint64_t off = (uint64_t)segment * KV_INDEX_BYTES - h->g.off_arena;
    kv_store_rlx(&kv_header_of(h)->index_hint, (uint32_t)(off >> h->g.base_shift));
}

void arena_index_make(struct kv_handle *h, uint32_t base) {
    struct kv_page *p = page_at(h, base);
    uint32_t *high = &kv_header_of(h)->index_high;
    for (uint32_t i = 0; i < KV_INDEX_PER_BASE; i++)
        kv_store_rlx(&p->segment[i], (uint16_t)0);
    FAULT(index_words_cleared);
    uint32_t seen = kv_load_rlx(high);
    while (seen < base + 1 && !kv_cas(high, &seen, base + 1))
        ;
    FAULT(index_high_raised);
    kv_store_rel(&p->word, kv_page_make(KV_INDEX, 0, 1, 0));
    FAULT(index_made);
}
