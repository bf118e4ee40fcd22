/* fold_death.c: a ring of the last deaths.
 *
 * A record is written before the first lock of the dead is taken, since those are part of it. Its
 * number is stored last: a folder that dies before has recorded nothing, and the next one begins
 * with the next place; one that dies afterwards is not recorded over. Nothing is decided by a
 * record: two folders that come to one place after 32 others spoil it, no more. */
#include "fold_death.h"

#include "clock.h"

static struct kv_death *death_at(const struct kv_handle *h, uint32_t i) {
    return (struct kv_death *)(void *)(h->base + h->g.off_deaths) + i;
}

static bool recorded(const struct kv_handle *h, const struct kv_row *row, uint32_t number) {
    for (uint32_t i = 0; i < KV_DEATHS; i++) {
        const struct kv_death *d = death_at(h, i);
        if (kv_load_acq(&d->number) == number && kv_load_rlx(&d->attached_ms) == row->attached_ms)
            return true;
    }
    return false;
}

static void add_lock(const struct kv_handle *h, struct kv_death *d, const uint32_t *word,
                     uint32_t number) {
    if ((kv_load_rlx(word) & KV_NUMBER_MASK) != number)
        return;
    if (d->locks < KV_DEATH_LOCKS)
        d->lock[d->locks] = (uint32_t)((const unsigned char *)word - h->base);
    d->locks++;
}

static void add_locks(const struct kv_handle *h, struct kv_death *d, uint32_t number) {
    const struct kv_header *head = kv_header_of(h);
    const struct kv_stripe *stripes = (const void *)(h->base + h->g.off_stripes);
    for (uint32_t s = 0; s < h->g.stripes; s++)
        add_lock(h, d, &stripes[s].lock, number);
    for (uint32_t k = 0; k < KV_APPENDERS; k++)
        add_lock(h, d, &head->appenders[k].lock, number);
    add_lock(h, d, &head->journal.lock, number);
    for (uint32_t k = 0; k < KV_CLEANERS; k++)
        add_lock(h, d, &head->cleaners[k].lock, number);
}

void death_record(struct kv_handle *h, uint32_t r, uint32_t number) {
    const struct kv_row *row = kv_row_at(h, r);
    if (row->first != 0 || recorded(h, row, number)) /* only its first row has notes */
        return;
    uint32_t turn = kv_add_rlx(&kv_header_of(h)->deaths, 1u);
    struct kv_death *d = death_at(h, turn % KV_DEATHS);
    kv_store_rel(&d->number, 0u);
    FAULT(death_begun);
    memset(d, 0, sizeof *d);
    d->pid = row->pid;
    d->pid_start = row->pid_start;
    d->pid_namespace = row->pid_namespace;
    d->attached_ms = row->attached_ms;
    d->found_ms = kv_clock_wall_ms();
    d->clock_ns = kv_clock_ns();
    d->finder = h->own->rows == 0 ? 0 : kv_number(h);
    add_locks(h, d, number);
    for (uint32_t i = 0; i < KV_RESERVATIONS; i++)
        d->reservations += row->reservation[i] != 0;
    for (uint32_t i = 0; i < KV_PINS; i++)
        d->pins += row->pin[i] != 0;
    memcpy(d->note, row->note, sizeof d->note);
    kv_store_rel(&d->number, number); /* release: it is whole */
    FAULT(death_recorded);
}
