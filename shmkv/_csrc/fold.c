/* fold.c: what it was doing is recorded; then locks, then pages, then reservations and pins, then
 * the number.
 *
 * Locks first: after that nothing the dead process was changing is half done. Its pages next: work
 * it had begun on a CLOSED page is simply dropped, pages it had taken go back. Reservations last,
 * because until then they keep cleaners away from pages whose stripes are not yet repaired. */
#include "fold.h"

#include "fold_death.h"

static bool take_from(struct kv_handle *h, uint32_t *word, uint32_t number) {
    uint32_t w = kv_load_acq(word);
    while ((w & KV_NUMBER_MASK) == number)
        if (kv_cas(word, &w, kv_number(h) | KV_WAITERS)) {
            FAULT(fold_lock_taken);
            return true;
        }
    return false;
}

static kv_status fold_locks(struct kv_op *op, uint32_t number) {
    struct kv_handle *h = op->h;
    struct kv_header *head = kv_header_of(h);
    for (uint32_t s = 0; s < h->g.stripes; s++) {
        if (!take_from(h, &stripe_at(h, s)->lock, number))
            continue;
        kv_status r = table_recover_locked(h, s);
        table_unlock(h, s);
        if (r != KV_OK)
            return r;
        row_count(h, KV_STAT_RECOVERIES, 1);
    }
    for (uint32_t k = 0; k < KV_APPENDERS; k++)
        if (take_from(h, &head->appenders[k].lock, number)) {
            arena_appender_recover(h, k);
            lock_give(&head->appenders[k].lock);
            row_count(h, KV_STAT_RECOVERIES, 1);
        }
    if (take_from(h, &head->journal.lock, number)) {
        journal_recover(h);
        lock_give(&head->journal.lock);
        row_count(h, KV_STAT_RECOVERIES, 1);
    }
    for (uint32_t k = 0; k < KV_CLEANERS; k++)
        if (take_from(h, &head->cleaners[k].lock, number))
            lock_give(&head->cleaners[k].lock);
    return KV_OK;
}

static void fold_pages(struct kv_handle *h, uint32_t number) {
    for (uint32_t i = 0; i < h->g.bases_max;) {
        uint64_t w = page_word(h, i);
        uint32_t state = kv_page_state(w), run = page_run(w);
        if (kv_page_owner(w) == number && state == KV_TAKEN)
            arena_give(h, i, number);
        else if (kv_page_owner(w) == number && state == KV_CLEANING) {
            (void)arena_move(h, i, w, kv_page_make(KV_CLOSED, kv_page_queue(w), run, 0));
            FAULT(fold_page_closed);
        }
        i += run;
    }
}

/* What it was writing, and what it had just replaced, may be garbage that nobody counted. */
static void suspect(struct kv_handle *h, kv_ref ref) {
    uint64_t at = (uint64_t)ref * KV_GRANULE;
    uint32_t head = at < h->g.off_arena ? KV_NO_BASE : page_head(h, ref_base(h, ref));
    if (head != KV_NO_BASE)
        kv_store_rlx(&page_at(h, head)->suspect, 1u);
    FAULT(fold_suspect);
}

kv_status fold_row(struct kv_op *op, uint32_t r, uint32_t number) {
    struct kv_handle *h = op->h;
    struct kv_row *row = kv_row_at(h, r);
    kv_status s = KV_OK;
    death_record(h, r, number);
    if (h->own->rows != 0) /* before the first own row there is no number to take locks with */
        s = fold_locks(op, number);
    if (s != KV_OK)
        return s;
    fold_pages(h, number);
    for (uint32_t i = 0; i < KV_RESERVATIONS; i++) {
        suspect(h, kv_load_rlx(&row->reservation[i]));
        suspect(h, kv_load_rlx(&row->replaced[i]));
        kv_store_rel(&row->reservation[i], 0u);
        kv_store_rlx(&row->replaced[i], 0u);
        FAULT(fold_reservation);
    }
    for (uint32_t i = 0; i < KV_PINS; i++)
        kv_store_rel(&row->pin[i], 0u);
    FAULT(fold_pins);
    kv_store_rel(&row->number, 0u); /* release: an empty row */
    FAULT(fold_done);
    if (h->own->rows != 0)
        row_count(h, KV_STAT_FOLDS, 1);
    return KV_OK;
}

kv_status fold_dead(struct kv_op *op, uint32_t number) {
    struct kv_handle *h = op->h;
    uint32_t r = number % h->g.rows;
    kv_status s = KV_OK;
    (void)pthread_mutex_lock(
        &h->own->mutex); /* two threads share one description: one folder a process */
    if (!row_alive(h, number) && kv_load_acq(&kv_row_at(h, r)->number) == number &&
        row_claim(h, r)) {
        if (kv_load_acq(&kv_row_at(h, r)->number) == number)
            s = fold_row(op, r, number);
        row_unclaim(h, r);
    }
    (void)pthread_mutex_unlock(&h->own->mutex);
    return s;
}

kv_status fold_all(struct kv_op *op, uint32_t *dead) {
    *dead = 0;
    for (uint32_t r = 0; r < op->h->g.rows; r++) {
        uint32_t n = kv_load_acq(&kv_row_at(op->h, r)->number);
        if (n == 0 || row_alive(op->h, n))
            continue;
        kv_status s = op->h->readonly ? KV_OK : fold_dead(op, n);
        if (s != KV_OK)
            return s;
        ++*dead;
    }
    return KV_OK;
}
