/* journal.c: marks, rounds, and waiting for them. */
#include "journal.h"

#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "journal_entry.h"
#include "journal_file.h"
#include "lock_note.h"
#include "wait.h"

#define KV_NEAR    32u       /* places a mark may take, from its own on */
#define KV_SYNC_MS 500u      /* everysec: more often than it says */
#define KV_LOOK_MS 1000u     /* nobody has led a round for so long */
#define KV_NAP_NS  1000000u  /* of who waits for others to lead */
#define KV_REST_NS 20000000u /* of who has tried, and the disk refused */
#define KV_AHEAD   8u        /* marks whose memory is asked for together */
#define KV_BROKEN  1u
#define KV_UNSAVED 2u         /* a new generation is written to; it wants its snapshot */
#define KV_AT_BITS 20u        /* of a mark's place, in the list while it is sorted */
#define KV_UNLED   (1u << 31) /* in the list: its stripe was not to be had */

/* Sequentially consistent: a mark, then a look at its hint; a hint taken down, then a look at the
 * marks: one of the two sees the other. */
#define load_seq(p)    __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define swap_seq(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define or_seq(p, v)   __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define and_seq(p, v)  __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
#define cas_seq(p, e, v)                                                                           \
    __atomic_compare_exchange_n((p), (e), (v), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

static struct kv_journal *journal_of(const struct kv_handle *h) {
    return &kv_header_of(h)->journal;
}
static uint8_t *hints_of(const struct kv_handle *h) { return h->base + h->g.off_journal; }
static uint64_t *marks_of(const struct kv_handle *h) {
    return (uint64_t *)(void *)(hints_of(h) + h->g.words / KV_MARKS);
}
static uint32_t *low_half(uint64_t *word) { return (uint32_t *)(void *)word; }

/* ---- marks -------------------------------------------------------------------------------- */

static void hint(struct kv_handle *h, uint32_t at) {
    uint8_t *p = &hints_of(h)[at / KV_MARKS];
    if (load_seq(p) == 0)
        (void)swap_seq(p, (uint8_t)1);
    FAULT(journal_hinted);
}

/* Its end waits for a round, or looks after those that nobody leads. */
static void to_settle(struct kv_op *op) {
    op->marked = (op->h->options & KV_OPT_ALWAYS) != 0;
    op->overdue = kv_clock_coarse_ms() > kv_load_rlx(&journal_of(op->h)->looked_ms) + KV_LOOK_MS;
}

kv_status journal_mark_dirty(struct kv_op *op, uint64_t hash) {
    struct kv_handle *h = op->h;
    struct kv_journal *j = journal_of(h);
    uint64_t *marks = marks_of(h), dirty = (hash & ~KV_MARK_BITS) | KV_MARK_SET;
    uint32_t first = (uint32_t)(hash >> 22) & (h->g.words - 1) & ~7u;
    if (h->held)
        return KV_OK; /* it is being filled with what is on disk already */
    to_settle(op);
    if (kv_load_rlx(&j->broken) == KV_BROKEN)
        return KV_OK;
    for (uint32_t i = 0; i < KV_NEAR; i++) {
        uint32_t at = (first + i) & (h->g.words - 1);
        uint64_t seen = load_seq(&marks[at]);
        bool same = (seen & ~KV_MARK_FLIGHT) == dirty;
        if (seen != 0 && !same)
            continue;
        if (seen != dirty && !cas_seq(&marks[at], &seen, dirty)) {
            i--; /* a round has just freed it, or another key has taken it */
            continue;
        }
        FAULT(journal_marked);
        hint(h, at);
        return KV_OK;
    }
    return KV_UNMARKED;
}

/* ---- a round: what is dirty --------------------------------------------------------------- */

void journal_recover(struct kv_handle *h) {
    (void)or_seq(&journal_of(h)->due, (uint32_t)KV_DUE_ALL);
    FAULT(journal_recovered);
}

void journal_wipe(struct kv_op *op) {
    struct kv_handle *h = op->h;
    if (h->held || !(h->options & KV_OPT_JOURNAL) || !(h->options & KV_OPT_EVICT))
        return;
    (void)or_seq(&journal_of(h)->due, (uint32_t)KV_DUE_WIPE);
    FAULT(journal_wiping);
    to_settle(op);
}

/* Every mark that is not free, in the upper half of the list. `all`: hints are not asked. A stripe
 * is looked at once: a list made of two looks could be led out of bounds. */
static uint32_t collect(struct kv_handle *h, bool all, uint32_t *found) {
    uint64_t *marks = marks_of(h), mark;
    uint32_t n = 0;
    for (uint32_t i = 0; i < h->g.words / KV_MARKS; i++) {
        if (!all && load_seq(&hints_of(h)[i]) == 0)
            continue;
        (void)swap_seq(&hints_of(h)[i], (uint8_t)0);
        FAULT(journal_unhinted);
        for (uint32_t at = i * KV_MARKS; at < (i + 1) * KV_MARKS; at++)
            if ((mark = load_seq(&marks[at])) != 0)
                found[n++] = stripe_of(h, mark) << KV_AT_BITS | at;
    }
    return n;
}

/* Into the list, stripe by stripe; next[s]: where those of stripe s end. */
static void list_by_stripe(struct kv_handle *h, bool all, uint32_t next[KV_STRIPES_MAX]) {
    struct kv_log *log = h->log;
    uint32_t *found = log->list + h->g.words, n = collect(h, all, found), sum = 0;
    memset(next, 0, KV_STRIPES_MAX * sizeof *next);
    for (uint32_t i = 0; i < n; i++)
        next[found[i] >> KV_AT_BITS]++;
    for (uint32_t s = 0; s < KV_STRIPES_MAX; s++) {
        uint32_t here = next[s];
        next[s] = sum;
        sum += here;
    }
    for (uint32_t i = 0; i < n; i++)
        log->list[next[found[i] >> KV_AT_BITS]++] = found[i] & ((1u << KV_AT_BITS) - 1);
    log->listed = n;
}

/* Under its stripe's lock a mark is claimed: who made it has committed, or never will. Where a
 * stopped process holds that lock, the marks are logged and stay dirty. */
static void claim(struct kv_op *op, const uint32_t next[KV_STRIPES_MAX]) {
    struct kv_handle *h = op->h;
    struct kv_log *log = h->log;
    uint64_t *marks = marks_of(h);
    for (uint32_t s = 0, i = 0; s < h->g.stripes; s++) {
        if (i == next[s])
            continue;
        bool locked = journal_entry_lock(op, s) == KV_OK;
        for (; i < next[s]; i++) {
            uint64_t *mark = &marks[log->list[i]];
            if (locked)
                kv_store_rel(mark, kv_load_rlx(mark) | KV_MARK_FLIGHT);
            else
                log->list[i] |= KV_UNLED;
        }
        FAULT(journal_claimed);
        if (locked)
            table_unlock(h, s);
    }
}

/* Marks in flight become free, or dirty again; what is dirty is to be found by the next round. */
static void release(struct kv_handle *h, bool logged) {
    struct kv_log *log = h->log;
    uint64_t *marks = marks_of(h);
    for (uint32_t i = 0; i < log->listed; i++) {
        uint32_t at = log->list[i] & ~KV_UNLED;
        uint64_t flight = kv_load_rlx(&marks[at]) | KV_MARK_FLIGHT, seen = flight;
        bool free = logged && !(log->list[i] & KV_UNLED);
        bool freed = cas_seq(&marks[at], &seen, free ? 0 : flight & ~KV_MARK_FLIGHT) && free;
        FAULT(journal_released);
        if (!freed)
            hint(h, at);
    }
    log->listed = 0;
}

/* ---- a round: what it says ---------------------------------------------------------------- */

static void prefetch(struct kv_handle *h, uint32_t from) {
    struct kv_log *log = h->log;
    uint64_t *marks = marks_of(h);
    uint32_t to = from + KV_AHEAD < log->listed ? from + KV_AHEAD : log->listed;
    for (uint32_t i = from; i < to; i++) {
        uint64_t mark = kv_load_rlx(&marks[log->list[i] & ~KV_UNLED]);
        table_prefetch_bucket(h, stripe_of(h, mark), mark);
    }
    for (uint32_t i = from; i < to; i++) {
        uint64_t mark = kv_load_rlx(&marks[log->list[i] & ~KV_UNLED]);
        table_prefetch_item(h, stripe_of(h, mark), mark);
    }
}

static kv_status append_marked(struct kv_op *op, uint64_t wall) {
    struct kv_handle *h = op->h;
    struct kv_log *log = h->log;
    uint64_t *marks = marks_of(h);
    kv_status r = KV_OK;
    for (uint32_t i = 0; r == KV_OK && i < log->listed; i++) {
        if (i % KV_AHEAD == 0)
            prefetch(h, i);
        uint64_t mark = kv_load_rlx(&marks[log->list[i] & ~KV_UNLED]);
        r = journal_entry_class(op, mark & ~KV_MARK_BITS, wall);
        if (r == KV_CORRUPT) { /* damaged: it stays dirty, the others go on */
            log->list[i] |= KV_UNLED;
            r = KV_OK;
        }
    }
    return r;
}

/* Who says everything says what is marked, too. */
static kv_status append_all(struct kv_op *op, bool wipe) {
    struct kv_log *log = op->h->log;
    uint64_t wall = image_wall();
    kv_status r = journal_file_room(log, KV_IMAGE_BLOCK);
    if (r == KV_OK)
        r = wipe ? journal_entry_whole(op, wall) : append_marked(op, wall);
    if (r == KV_OK && (log->count > 0 || log->written))
        r = journal_file_flush(op, KV_BLOCK_ROUND_END);
    return r;
}

/* ---- leading ------------------------------------------------------------------------------ */

static kv_status lead_lock(struct kv_op *op) {
    kv_status r = lock_take(op, &journal_of(op->h)->lock);
    if (r == KV_RECOVER) {
        journal_recover(op->h);
        r = KV_OK;
    }
    return r;
}

static void lead_unlock(struct kv_handle *h) {
    lock_give(&journal_of(h)->lock);
    kv_wake(low_half(&journal_of(h)->done), INT32_MAX);
}

/* A store that was removed writes no more: the directory may be another one's by now. */
static kv_status still_named(struct kv_op *op) {
    if (segment_named(op->h) != KV_GONE)
        return KV_OK;
    op->err = ESTALE;
    return KV_PERSIST;
}

/* What is owed by this round. A clear that ends from here on wishes anew: this round may have said
 * already what is gone by then. */
static uint32_t take_due(struct kv_journal *j) {
    uint32_t due = load_seq(&j->due);
    if (due & KV_DUE_WIPE) {
        (void)or_seq(&j->due, (uint32_t)KV_DUE_WIPING);
        FAULT(journal_wish_kept);
        due = and_seq(&j->due, ~(uint32_t)KV_DUE_WIPE) & ~(uint32_t)KV_DUE_WIPE;
        FAULT(journal_wish_taken);
    }
    return due;
}

/* The lists are made: write, make it last, let go. */
static kv_status write_round(struct kv_op *op, bool sync, struct kv_round *round) {
    struct kv_handle *h = op->h;
    struct kv_journal *j = journal_of(h);
    struct kv_log *log = h->log;
    uint64_t from = log->end;
    log->used = 0;
    log->count = log->entries = 0;
    log->written = false;
    uint32_t due = take_due(j);
    kv_status r = append_all(op, (due & KV_DUE_WIPING) != 0);
    if (r == KV_OK)
        *round = (struct kv_round){log->entries, log->end - from};
    bool appended = r == KV_OK, always = (h->options & KV_OPT_ALWAYS) != 0;
    if (r == KV_OK && sync && (log->end != from || !always)) /* always: what was before is there */
        r = journal_file_sync(op);
    if (!appended)
        journal_file_undo(op, from);
    else if (r != KV_OK) /* a torn tail: what half reached the disk is never written over */
        log->generation = 0;
    else if (log->end != from)
        kv_store_rel(&j->place, log->generation << KV_PLACE_SHIFT | log->end);
    FAULT(journal_counted);
    if (r == KV_OK)
        (void)kv_and_rel(&j->due, ~due);
    FAULT(journal_due_met);
    release(h, r == KV_OK);
    if (log->room > 4 * KV_IMAGE_BLOCK) { /* a large value went by */
        free(log->bytes);
        log->bytes = NULL;
        log->room = 0;
    }
    return r;
}

/* A round, holding the journal's lock. What was committed before it is in the file afterwards. */
static kv_status round_locked(struct kv_op *op, bool sync, struct kv_round *round) {
    struct kv_handle *h = op->h;
    struct kv_journal *j = journal_of(h);
    uint32_t next[KV_STRIPES_MAX];
    uint64_t number = kv_load_rlx(&j->started) + 1, now = kv_clock_ms();
    *round = (struct kv_round){0};
    if (h->log == NULL)
        return KV_PERSIST;
    if (op->leave != NULL)
        op->leave(op);
    kv_store_rlx(&j->looked_ms, now); /* a disk that refuses is not asked by every write */
    kv_status r = still_named(op);
    if (r == KV_OK)
        r = journal_file_ready(op);
    if (r != KV_OK)
        return r;
    sync = sync || (h->options & KV_OPT_ALWAYS) || now >= kv_load_rlx(&j->synced_ms) + KV_SYNC_MS;
    __atomic_store_n(&j->started, number, __ATOMIC_SEQ_CST); /* before any mark is looked at */
    kv_fence_seq();
    FAULT(journal_started);
    list_by_stripe(h, (load_seq(&j->due) & KV_DUE_ALL) != 0, next);
    claim(op, next);
    r = write_round(op, sync, round);
    if (r == KV_OK) {
        kv_store_rlx(&j->looked_ms, kv_clock_ms());
        if (sync)
            kv_store_rlx(&j->synced_ms, now);
        kv_store_rel(&j->done, number); /* release: place before it */
        FAULT(journal_done);
    }
    return r;
}

static kv_status lead(struct kv_op *op, bool sync, struct kv_round *round) {
    kv_status r = lead_lock(op);
    if (r != KV_OK)
        return r;
    r = kv_load_rlx(&journal_of(op->h)->broken) == KV_BROKEN ? KV_PERSIST
                                                             : round_locked(op, sync, round);
    lead_unlock(op->h);
    return r;
}

kv_status journal_round(struct kv_op *op, bool sync, struct kv_round *round) {
    struct kv_note *note = note_begin(op, KV_NOTED_ROUND, NULL, 0);
    return note_end(op, note, lead(op, sync, round));
}

/* ---- waiting ------------------------------------------------------------------------------ */

/* Let others lead, for a moment; `seen`: the round that was done when there was reason to wait. */
static kv_status nap(struct kv_op *op, uint32_t seen, bool failing) {
    struct kv_journal *j = journal_of(op->h);
    uint32_t owner = kv_load_rlx(&j->lock) & KV_NUMBER_MASK;
    if (op->leave != NULL)
        op->leave(op);
    (void)kv_add_rlx(&j->wanted, 1u);
    kv_wake(&j->wanted, 1);
    struct kv_waiting w;
    note_wait(op, KV_AWAITED_JOURNAL, owner, &w);
    enum kv_wait_result r = kv_wait(low_half(&j->done), seen, failing ? KV_REST_NS : KV_NAP_NS);
    if (r == KV_TIMED_OUT && owner != 0 && !row_alive(op->h, owner))
        op->dead = owner; /* its fold gives the lock back, and so does who leads next */
    bool signal = r == KV_INTERRUPTED && op->h->interruptible;
    return note_waited(op, &w, signal ? KV_INTR : KV_OK);
}

static bool may_lead(const struct kv_handle *h) { return h->log != NULL; }

kv_status journal_make_room(struct kv_op *op) {
    struct kv_handle *h = op->h;
    struct kv_round round;
    bool late = lock_pass_deadline(op);
    uint32_t seen = kv_load_acq(low_half(&journal_of(h)->done));
    kv_status r = may_lead(h) ? journal_round(op, false, &round) : KV_PERSIST;
    if (r == KV_OK || r == KV_INTR)
        return r;
    if (late && (h->options & KV_OPT_ALWAYS))
        return KV_PERSIST;
    if (late) {
        kv_store_rel(&journal_of(h)->broken, 1u);
        FAULT(journal_broken);
        return KV_OK;
    }
    return nap(op, seen, may_lead(h));
}

/* Does the round count that began after this operation's commits? */
static kv_status settle_always(struct kv_op *op) {
    struct kv_handle *h = op->h;
    struct kv_journal *j = journal_of(h);
    kv_fence_seq();      /* the commits, then the look: a round of a higher number has them */
    if (op->wanted == 0) /* signals end the waiting, not what is waited for */
        op->wanted = load_seq(&j->started) + 1;
    uint64_t wanted = op->wanted;
    for (;;) {
        bool late = lock_pass_deadline(op);
        struct kv_round round;
        uint64_t seen = kv_load_acq(&j->done);
        if (seen >= wanted)
            return KV_OK;
        kv_status r = may_lead(h) ? lock_try(op, &j->lock) : KV_BUSY;
        if (r == KV_BUSY && op->dead != 0 && may_lead(h))
            r = lead_lock(op);
        if (r == KV_OK) {
            bool done = kv_load_acq(&j->done) >= wanted;
            r = done                                   ? KV_OK
                : kv_load_rlx(&j->broken) == KV_BROKEN ? KV_PERSIST
                                                       : round_locked(op, true, &round);
            lead_unlock(h);
        }
        if (late && kv_load_acq(&j->done) < wanted)
            return KV_PERSIST;
        if (r != KV_OK && (r = nap(op, (uint32_t)seen, r == KV_PERSIST)) != KV_OK)
            return r;
    }
}

kv_status journal_settle(struct kv_op *op) {
    struct kv_handle *h = op->h;
    struct kv_round round;
    if (op->marked) {
        op->err = 0;
        kv_status r = settle_always(op);
        if (r == KV_OK)
            op->marked = false;
        return r;
    }
    op->overdue = false;
    uint32_t owner = kv_load_rlx(&journal_of(h)->lock) & KV_NUMBER_MASK;
    if (owner != 0 && !row_alive(h, owner))
        op->dead = owner; /* its fold gives the lock back; the next write leads */
    if (may_lead(h) && lock_try(op, &journal_of(h)->lock) == KV_OK) {
        if (kv_load_rlx(&journal_of(h)->broken) != KV_BROKEN)
            (void)round_locked(op, false, &round);
        lead_unlock(h);
    }
    return KV_OK;
}

kv_status journal_listen(struct kv_op *op, uint64_t ns) {
    uint32_t *wanted = &journal_of(op->h)->wanted;
    if (op->leave != NULL)
        op->leave(op);
    enum kv_wait_result r = kv_wait(wanted, kv_load_acq(wanted), ns);
    return r == KV_INTERRUPTED && op->h->interruptible ? KV_INTR : KV_OK;
}

/* ---- generations -------------------------------------------------------------------------- */

kv_status journal_open(struct kv_handle *h, int dir) { return journal_file_known(h, dir); }

void journal_forked(struct kv_handle *h) {
    if (h->log != NULL)
        journal_file_forget(h->log);
}

kv_status journal_begin(struct kv_op *op, uint64_t generation, uint64_t previous) {
    kv_status r = lead_lock(op);
    if (r != KV_OK)
        return r;
    r = op->h->log == NULL ? KV_PERSIST : journal_file_make(op, generation, previous);
    lead_unlock(op->h);
    return r;
}

/* Every write that begins from now on sees that marks are wanted again. */
static kv_status pass_all_stripes(struct kv_op *op) {
    for (uint32_t s = 0; s < op->h->g.stripes; s++) {
        kv_status r = table_lock(op, s);
        if (r != KV_OK)
            return r;
        table_unlock(op->h, s);
    }
    return KV_OK;
}

/* A new generation; from here on it is written to, and counts when its snapshot is whole. Whatever
 * ends this in the middle, the next call goes on. */
static kv_status heal(struct kv_op *op, uint64_t generation) {
    struct kv_journal *j = journal_of(op->h);
    if (kv_load_acq(&j->broken) == KV_BROKEN) {
        kv_status r = journal_file_make(op, generation + 1, KV_PREVIOUS_ALONE);
        if (r != KV_OK)
            return r;
        /* Its snapshot holds nothing that a clear has to take back. */
        (void)kv_and_rel(&j->due, ~(uint32_t)(KV_DUE_WIPE | KV_DUE_WIPING));
        FAULT(journal_unwished);
        kv_store_rel(&j->broken, KV_UNSAVED);
        FAULT(journal_healing);
    }
    return pass_all_stripes(op);
}

void journal_saved(struct kv_handle *h, uint64_t generation) {
    struct kv_journal *j = journal_of(h);
    uint32_t unsaved = KV_UNSAVED;
    if (kv_load_acq(&j->place) >> KV_PLACE_SHIFT == generation && kv_cas(&j->broken, &unsaved, 0u))
        FAULT(journal_healed);
}

static kv_status next_locked(struct kv_op *op) {
    struct kv_handle *h = op->h;
    struct kv_journal *j = journal_of(h);
    uint64_t place = kv_load_acq(&j->place);
    if (h->log == NULL)
        return KV_PERSIST;
    kv_status r = still_named(op);
    if (r != KV_OK)
        return r;
    if (kv_load_acq(&j->broken) != 0)
        return heal(op, place >> KV_PLACE_SHIFT);
    r = journal_file_ready(op); /* a torn tail begins the next one already */
    if (r != KV_OK || kv_load_acq(&j->place) >> KV_PLACE_SHIFT != place >> KV_PLACE_SHIFT)
        return r;
    r = journal_file_sync(op); /* what everysec had not synced yet */
    return r == KV_OK ? journal_file_make(op, (place >> KV_PLACE_SHIFT) + 1, place) : r;
}

kv_status journal_next(struct kv_op *op, uint64_t *generation) {
    kv_status r = lead_lock(op);
    if (r != KV_OK)
        return r;
    r = next_locked(op);
    *generation = kv_load_acq(&journal_of(op->h)->place) >> KV_PLACE_SHIFT;
    lead_unlock(op->h);
    return r;
}

void journal_state(struct kv_handle *h, struct kv_journal_state *out) {
    struct kv_journal *j = journal_of(h);
    uint64_t place = kv_load_acq(&j->place), synced = kv_load_rlx(&j->synced_ms);
    uint64_t now = kv_clock_ms();
    *out = (struct kv_journal_state){.generation = place >> KV_PLACE_SHIFT,
                                     .bytes = place & KV_PLACE_BYTES,
                                     .started = kv_load_acq(&j->started),
                                     .done = kv_load_acq(&j->done),
                                     .synced_ms = synced < now ? now - synced : 0,
                                     .broken = kv_load_acq(&j->broken) == KV_BROKEN,
                                     .unsaved = kv_load_acq(&j->broken) == KV_UNSAVED,
                                     .words = h->g.words};
    for (uint32_t i = 0; i < h->g.words; i++)
        out->marks += kv_load_rlx(&marks_of(h)[i]) != 0;
}
