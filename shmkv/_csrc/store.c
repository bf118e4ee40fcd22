/* store.c: attachment, reading, pins.
 *
 * Reading takes no lock: version, slot, item, copy, version again. Nothing is decoded, reported as
 * a miss, or returned before the second look at the version. A stripe that changes under eight
 * tries in a row is locked for the lookup, and the copy is made from behind a pin; a read-only
 * attachment, which can do neither, goes on trying. */
#include "store.h"

#include <errno.h>
#include <string.h>

#include "clock.h"
#include "store_watch.h"
#include "wait.h"

#define KV_READ_TRIES 8u

/* ---- attachment --------------------------------------------------------------------------- */

static kv_status attach_row(struct kv_op *op) {
    struct kv_handle *h = op->h;
    uint32_t folded;
    (void)pthread_mutex_lock(&h->own->mutex);
    kv_status s = h->own->attached ? KV_OK : row_attach(op, fold_row);
    if (s == KV_OK)
        kv_store_rel(&h->own->attached, 1u);
    (void)pthread_mutex_unlock(&h->own->mutex);
    return s == KV_OK ? fold_all(op, &folded) : s;
}

kv_status store_attach(const struct kv_open *how, struct kv_handle **out, bool *created,
                       struct kv_found *found) {
    struct kv_open with_format = *how;
    with_format.format = table_format;
    kv_status s = segment_open(&with_format, out, created, found);
    if (s != KV_OK || how->readonly)
        return s;
    struct kv_op op = kv_op_make(*out);
    s = attach_row(&op);
    if (s == KV_OK)
        s = segment_named(*out); /* unlinked between open and here? */
    if (s != KV_OK) {
        int e = op.err != 0 ? op.err : errno;
        store_detach(*out);
        *out = NULL;
        errno = e;
    }
    return s;
}

void store_detach(struct kv_handle *h) {
    if (h->own->attached)
        row_release_all(h);
    segment_mark(h);
    segment_close(h);
}

static kv_status enter_slow(struct kv_op *op) {
    struct kv_handle *h = op->h;
    (void)pthread_mutex_lock(&h->own->mutex);
    kv_status s = KV_OK;
    if (!h->own->attached) { /* else another thread was first, and may be leading a round */
        s = segment_adopt(h);
        journal_forked(h);
    }
    (void)pthread_mutex_unlock(&h->own->mutex);
    if (s == KV_OS)
        op->err = errno;
    return s == KV_OK ? attach_row(op) : s;
}

kv_status store_enter(struct kv_op *op) {
    if (__builtin_expect(kv_load_acq(&op->h->own->attached), 1) || op->h->readonly)
        return KV_OK;
    return enter_slow(op);
}

void store_leave(struct kv_op *op) {
    if (op->h->readonly || !kv_load_acq(&op->h->own->attached))
        return;
    op_tally(op);
    if (__builtin_expect(op->dead != 0, 0)) {
        uint32_t number = op->dead;
        op->dead = 0;
        (void)fold_dead(op, number);
    }
}

/* ---- lookup ------------------------------------------------------------------------------- */

static inline void meta_fill(struct kv_meta *m, const struct kv_slot *slot) {
    const struct kv_item *it = &slot->head;
    *m = (struct kv_meta){.type = it->type,
                          .flags = it->flags,
                          .version = it->version,
                          .value_len = it->value_len,
                          .bytes = kv_item_bytes(it),
                          .ref = slot->ref};
    if (it->flags & (KV_ITEM_COUNTER | KV_ITEM_DEADLINE)) {
        m->counter = item_counter(slot->item, it);
        m->deadline_ms = item_deadline(slot->item, it);
    }
}

/* One unlocked look. KV_AGAIN: the stripe changed. *seen is the version the result is valid for. */
static inline kv_status look(struct kv_handle *h, uint32_t s, const struct kv_key *key,
                             struct kv_slot *slot, uint64_t *seen) {
    struct kv_stripe *st = stripe_at(h, s);
    *seen = kv_load_acq(&st->ver); /* acquire: pairs with the raise after each change */
    kv_status r = table_find(h, s, key, slot);
    if (__builtin_expect(r == KV_OK, 1))
        return KV_OK; /* the caller looks at the version when it has what it wants */
    return kv_load_after(&st->ver) == *seen ? r : KV_AGAIN;
}

static bool unchanged(struct kv_handle *h, uint32_t s, uint64_t seen) {
    return kv_load_after(&stripe_at(h, s)->ver) == seen;
}

static void count_retry(struct kv_handle *h) {
    if (!h->readonly)
        row_count(h, KV_STAT_RETRIES, 1);
}

/* Behind the lock: the slot and its header. The caller unlocks when KV_OK. */
static kv_status look_locked(struct kv_op *op, uint32_t s, const struct kv_key *key,
                             struct kv_slot *slot) {
    kv_status r = table_lock(op, s);
    if (r != KV_OK)
        return r;
    r = table_find(op->h, s, key, slot);
    if (r != KV_OK)
        table_unlock(op->h, s);
    return r;
}

/* After many failed looks of a read-only attachment, let the writers go on. KV_BUSY at the time
 * limit. */
static kv_status breathe(struct kv_op *op, uint32_t tries) {
    return tries % KV_READ_TRIES == 0 ? lock_idle(op) : KV_OK;
}

kv_status store_peek(struct kv_op *op, const struct kv_key *key, struct kv_meta *meta) {
    struct kv_handle *h = op->h;
    uint32_t s = stripe_of(h, key->home);
    struct kv_slot slot;
    for (uint32_t tries = 1;; tries++) {
        uint64_t seen;
        kv_status r = KV_AGAIN;
        if (tries <= KV_READ_TRIES || h->readonly) {
            r = look(h, s, key, &slot, &seen);
            if (r == KV_OK) {
                meta_fill(meta, &slot);
                r = unchanged(h, s, seen) ? KV_OK : KV_AGAIN;
            }
        } else {
            r = look_locked(op, s, key, &slot);
            if (r == KV_OK) {
                meta_fill(meta, &slot);
                table_unlock(h, s);
            }
        }
        if (r == KV_OK)
            return kv_clock_passed(meta->deadline_ms) ? KV_MISS : KV_OK;
        if (r != KV_AGAIN)
            return r;
        count_retry(h);
        r = h->readonly ? breathe(op, tries) : KV_OK;
        if (r != KV_OK)
            return r;
    }
}

uint64_t store_age_ms(struct kv_handle *h, const struct kv_meta *meta) {
    uint32_t head = page_head(h, ref_base(h, meta->ref));
    uint64_t now = kv_clock_ms(),
             opened = head == KV_NO_BASE ? now : kv_load_rlx(&page_at(h, head)->opened_ms);
    return opened < now ? now - opened : 0;
}

/* ---- get ---------------------------------------------------------------------------------- */

/* Small values, and all values of read-only attachments. KV_AGAIN: the stripe changed; KV_TOOLARGE:
 * copy it from behind a pin. */
static kv_status get_once(struct kv_handle *h, uint32_t s, const struct kv_key *key,
                          struct kv_meta *meta, kv_alloc *alloc, void *arg, struct kv_slot *slot) {
    uint64_t seen;
    kv_status r = look(h, s, key, slot, &seen);
    if (__builtin_expect(r != KV_OK, 0))
        return r;
    meta_fill(meta, slot);
    if (__builtin_expect(meta->value_len > KV_PIN_BYTES, 0)) {
        if (!unchanged(h, s, seen)) /* a length counts only now */
            return KV_AGAIN;
        if (!h->readonly)
            return KV_TOOLARGE;
    }
    if (meta->value_len > 0) {
        void *to = alloc(arg, meta);
        if (to == NULL)
            return KV_NOMEM;
        kv_copy_out(to, item_value(slot->item, &slot->head), meta->value_len);
    }
    return unchanged(h, s, seen) ? KV_OK : KV_AGAIN;
}

static kv_status get_pinned(struct kv_op *op, const struct kv_key *key, struct kv_meta *meta,
                            kv_alloc *alloc, void *arg) {
    struct kv_pin pin;
    const void *data;
    kv_status r = store_pin(op, key, meta, &pin, &data);
    if (r != KV_OK)
        return r;
    if (meta->value_len > 0) {
        void *to = alloc(arg, meta);
        if (to != NULL) {
            if (meta->value_len > KV_PIN_BYTES && op->leave != NULL)
                op->leave(op);
            kv_copy_out(to, data, meta->value_len);
        } else {
            r = KV_NOMEM;
        }
    }
    store_unpin(op->h, &pin);
    return r;
}

kv_status store_get(struct kv_op *op, const struct kv_key *key, struct kv_meta *meta,
                    kv_alloc *alloc, void *arg) {
    struct kv_handle *h = op->h;
    uint32_t s = stripe_of(h, key->home);
    struct kv_slot slot;
    kv_status r = KV_AGAIN;
    for (uint32_t tries = 1; r == KV_AGAIN && (tries <= KV_READ_TRIES || h->readonly); tries++) {
        r = get_once(h, s, key, meta, alloc, arg, &slot);
        if (__builtin_expect(r == KV_AGAIN, 0)) {
            count_retry(h);
            kv_status b = h->readonly ? breathe(op, tries) : KV_OK;
            if (b != KV_OK)
                return b;
        }
    }
    if (r == KV_OK && kv_clock_passed(meta->deadline_ms))
        r = KV_MISS;
    if (h->readonly)
        return r;
    if (r == KV_OK)
        slot_touch(&slot);
    else if (r == KV_AGAIN || r == KV_TOOLARGE)
        r = get_pinned(op, key, meta, alloc, arg);
    if (r == KV_OK || r == KV_MISS) {
        bool hit = r == KV_OK;
        *(hit ? &op->hits : &op->misses) += 1;
        sample(h, key, hit ? KV_SAMPLE_HIT : KV_SAMPLE_MISS, hit ? meta->bytes : 0);
    }
    return r;
}

void store_prefetch(struct kv_handle *h, const struct kv_key *keys, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        table_prefetch_stripe(h, stripe_of(h, keys[i].home), keys[i].hash);
    for (uint32_t i = 0; i < n; i++)
        table_prefetch_bucket(h, stripe_of(h, keys[i].home), keys[i].hash);
    for (uint32_t i = 0; i < n; i++)
        table_prefetch_item(h, stripe_of(h, keys[i].home), keys[i].hash);
}

/* ---- pins --------------------------------------------------------------------------------- */

/* Aim the pin, then make sure that the item was still current when everybody could see it. */
static kv_status pin_once(struct kv_handle *h, uint32_t s, const struct kv_key *key,
                          struct kv_meta *meta, struct kv_pin *pin, struct kv_slot *slot) {
    uint64_t seen;
    kv_status r = look(h, s, key, slot, &seen);
    if (r != KV_OK)
        return r;
    pin_aim(h, pin, slot->ref);
    if (!unchanged(h, s, seen))
        return KV_AGAIN;
    meta_fill(meta, slot);
    return KV_OK;
}

kv_status store_pin(struct kv_op *op, const struct kv_key *key, struct kv_meta *meta,
                    struct kv_pin *pin, const void **data) {
    struct kv_handle *h = op->h;
    uint32_t s = stripe_of(h, key->home);
    struct kv_slot slot;
    if (h->readonly)
        return KV_READONLY;
    kv_status r = pin_take(op, pin, fold_row);
    if (r != KV_OK)
        return r;
    r = KV_AGAIN;
    for (uint32_t tries = 0; r == KV_AGAIN && tries < KV_READ_TRIES; tries++)
        r = pin_once(h, s, key, meta, pin, &slot);
    if (r == KV_AGAIN) {
        r = look_locked(op, s, key, &slot);
        if (r == KV_OK) {
            pin_aim(h, pin, slot.ref); /* under the lock nobody can have begun to free it */
            meta_fill(meta, &slot);
            table_unlock(h, s);
        }
    }
    if (r == KV_OK && kv_clock_passed(meta->deadline_ms))
        r = KV_MISS;
    if (r != KV_OK) {
        pin_drop(h, pin);
        return r;
    }
    slot_touch(&slot);
    *data = item_value(slot.item, &slot.head);
    return KV_OK;
}

void store_unpin(struct kv_handle *h, struct kv_pin *pin) { pin_drop(h, pin); }
