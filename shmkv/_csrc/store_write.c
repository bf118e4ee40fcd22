/* store_write.c: changing one key.
 *
 * The item is complete in its page before the stripe's lock is taken; under the lock one aligned
 * store of the ref is the commit; the old item is garbage afterwards. Counters and deadlines that
 * an item already has room for are changed in place by one aligned 8-byte store. Nothing is
 * allocated under a lock: when the index needs memory the lock is given back, memory is made, and
 * the lookup starts again. */
#include <errno.h>
#include <stdlib.h>

#include "clock.h"
#include "lock_note.h"
#include "store_watch.h"

#define KV_PATIENT_ROUNDS 4u

/* ---- making an item ----------------------------------------------------------------------- */

static void item_describe(const struct kv_key *key, const struct kv_value *v, uint64_t deadline_ms,
                          struct kv_item *it) {
    *it = (struct kv_item){.value_len = (uint32_t)(v->len + v->more_len),
                           .key_len = (uint16_t)key->len,
                           .type = v->type};
    if (v->type == KV_TYPE_INT || v->type == KV_TYPE_FLOAT)
        it->flags |= KV_ITEM_COUNTER;
    if (deadline_ms != 0)
        it->flags |= KV_ITEM_DEADLINE;
    if (key->is_str)
        it->flags |= KV_ITEM_KEY_STR;
}

static kv_status check_size(struct kv_op *op, const struct kv_key *key, const struct kv_value *v) {
    if (key->len == 0 || key->len > KV_KEY_MAX || v->type == 0 || v->type > KV_TYPE_LAST)
        return KV_INVALID;
    uint64_t value = v->len + v->more_len, most = arena_bytes(op->h) / 8;
    uint64_t gap = v->type == KV_TYPE_ARRAY ? KV_GRANULE : 0;
    /* 36 bytes: header and every optional word */
    if (value > UINT32_MAX || value + gap + key->len + 36 + KV_GRANULE > most) {
        row_count(op->h, KV_STAT_REFUSED_LARGE, 1);
        return KV_TOOLARGE;
    }
    return KV_OK;
}

/* What a look without the lock found, and the version of the stripe before it. If that is the same
 * under the lock, nothing has changed: what was found is what is there. */
struct first_look {
    kv_status found; /* KV_OK, KV_MISS; anything else: nothing is known */
    uint64_t seen;
    struct kv_slot slot;
};

/* What replaces an item of a main queue goes there, too, and so does what left unread a short while
 * ago; the rest is new and starts in the small queue. */
static uint32_t choose_appender(struct kv_op *op, uint32_t s, const struct kv_key *key,
                                uint64_t bytes, struct first_look *look) {
    struct kv_handle *h = op->h;
    if (h->g.mains == 0)
        return s % h->g.appenders;
    bool main;
    look->seen = kv_load_acq(&stripe_at(h, s)->ver); /* acquire: before what is looked at */
    look->found = table_find(h, s, key, &look->slot);
    if (look->found == KV_OK) {
        main = arena_queue(h, look->slot.ref) != 0;
    } else {
        main = ghost_take(h, key->hash);
        if (main)
            row_count(h, KV_STAT_RETURNED, 1);
    }
    return main ? arena_main(h, bytes) : s % h->g.appenders;
}

/* Space for the item, making room as often as it takes. */
static kv_status find_place(struct kv_op *op, uint32_t s, const struct kv_key *key,
                            const struct kv_item *it, uint64_t deadline_ms, struct kv_place *place,
                            struct first_look *look) {
    struct kv_handle *h = op->h;
    uint32_t appender = choose_appender(op, s, key, kv_item_bytes(it), look);
    kv_status r = arena_append(op, appender, 0, it, deadline_ms, place);
    for (uint32_t round = 0; r == KV_NOPAGE; round++) {
        r = op->tidied ? evict_make_room(op, kv_item_bytes(it)) : evict_tidy(op);
        if (r == KV_FULL && h->g.mains == 0)
            r = work_expired(op, kv_item_bytes(it));
        if (r == KV_OK && round >= KV_PATIENT_ROUNDS && lock_pass_deadline(op))
            r = KV_BUSY; /* others take what we gain */
        if (r == KV_OK)
            r = arena_append(op, appender, 0, it, deadline_ms, place);
    }
    evict_end(op);
    if (r == KV_FULL)
        row_count(h, KV_STAT_REFUSED_FULL, 1);
    return r == KV_FULL && op->err == ENOSPC ? KV_NOSPACE : r; /* the system refused more */
}

static void fill_item(struct kv_handle *h, const struct kv_place *place, const struct kv_item *it,
                      const struct kv_key *key, const struct kv_value *v, uint64_t deadline_ms) {
    unsigned char *item = arena_at(h, place->ref);
    if (it->flags & KV_ITEM_DEADLINE) {
        uint32_t *mortal = &kv_header_of(h)->mortal;
        if (__builtin_expect(kv_load_rlx(mortal) == 0, 0)) { /* before anybody can look for it */
            kv_store_rlx(mortal, 1u);
            FAULT(mortal_said);
        }
        kv_store_rlx(item_word(item, kv_item_deadline_at()), deadline_ms);
    }
    if (it->flags & KV_ITEM_COUNTER)
        kv_store_rlx(item_word(item, kv_item_counter_at(it->flags)), v->counter);
    unsigned char *p = item + kv_item_words(it->flags);
    kv_copy_in(p, key->data, key->len);
    FAULT(item_key_copied);
    p += key->len + kv_item_gap(it);
    if (v->len > 0)
        kv_copy_in(p, v->data, v->len);
    if (v->more_len > 0)
        kv_copy_in(p + v->len, v->more, v->more_len);
    FAULT(item_filled);
}

/* ---- publishing --------------------------------------------------------------------------- */

struct publication {
    const struct kv_key *key;
    const struct kv_place *place;
    enum kv_put mode;
    const struct kv_token *token;
    bool any_length; /* no split is possible: a long path will do */
    struct first_look *look;
};

/* The item at a slot, its deadline and whether it counts as there. */
static bool present(const struct kv_slot *slot, bool *expired) {
    *expired = kv_clock_passed(item_deadline(slot->item, &slot->head));
    return !*expired;
}

static bool token_fits(const struct kv_slot *slot, const struct kv_token *token) {
    return slot->head.version == token->version &&
           item_counter(slot->item, &slot->head) == token->counter &&
           (token->deadline_ms == NULL ||
            item_deadline(slot->item, &slot->head) == *token->deadline_ms);
}

static kv_status condition(const struct publication *p, bool there, const struct kv_slot *slot) {
    if (p->mode == KV_PUT_ADD && there)
        return KV_EXISTS;
    if (p->mode != KV_PUT_SET && p->mode != KV_PUT_ADD && !there)
        return KV_MISS;
    if (p->token != NULL && !token_fits(slot, p->token))
        return KV_EXISTS;
    return KV_OK;
}

static void overwrite_locked(struct kv_op *op, uint32_t s, const struct publication *p,
                             struct kv_slot *slot) {
    struct kv_handle *h = op->h;
    /* Should we die before its page knows: a fold suspects it. */
    kv_store_rlx(&kv_row_own(h)->replaced[p->place->slot], slot->ref);
    FAULT(replaced_noted);
    table_replace_locked(h, s, slot, p->place->ref, kv_item_bytes(&slot->head), p->place->bytes,
                         p->mode == KV_PUT_TOUCH);
    slot_touch(slot);
}

/* A new key: room in the index. KV_AGAIN: look up again; KV_NOINDEX: unlocked by the caller, then
 * again. */
static kv_status insert_locked(struct kv_op *op, uint32_t s, struct publication *p) {
    struct kv_handle *h = op->h;
    struct kv_slot slot;
    kv_status r = table_room_locked(h, s, p->key->hash, p->any_length, &slot);
    if (r == KV_AGAIN) {
        r = table_split_locked(h, s, p->key->hash);
        if (r == KV_FULL) {
            p->any_length = true;
            return KV_AGAIN;
        }
        return r == KV_OK ? KV_AGAIN : r;
    }
    if (r == KV_FULL && (h->options & KV_OPT_EVICT)) {
        r = evict_from_bucket_locked(op, s, p->key->hash);
        return r == KV_OK ? KV_AGAIN : r;
    }
    if (r == KV_OK)
        table_insert_locked(h, s, p->key->hash, &slot, p->place->ref, p->place->bytes);
    if (r == KV_OK && op->heat != 0)
        slot_set_counter(&slot, op->heat);
    return r;
}

static kv_status find_again(struct kv_op *op, uint32_t s, const struct publication *p,
                            struct kv_slot *slot) {
    const struct first_look *look = p->look;
    bool known = look->found == KV_OK || look->found == KV_MISS;
    if (!known || kv_load_rlx(&stripe_at(op->h, s)->ver) != look->seen)
        return table_find(op->h, s, p->key, slot);
    *slot = look->slot;
    return look->found;
}

static kv_status publish_locked(struct kv_op *op, uint32_t s, struct publication *p) {
    struct kv_slot slot;
    kv_status r = find_again(op, s, p, &slot);
    bool found = r == KV_OK, expired = false;
    if (!found && r != KV_MISS)
        return r;
    r = condition(p, found && present(&slot, &expired), &slot);
    if (r == KV_OK)
        r = journal_mark(op, p->key->hash);
    if (r != KV_OK)
        return r;
    if (found) {
        overwrite_locked(op, s, p, &slot);
        if (expired)
            row_count(op->h, KV_STAT_EXPIRED, 1);
        return KV_OK;
    }
    do
        r = insert_locked(op, s, p);
    while (r == KV_AGAIN);
    return r;
}

static kv_status publish(struct kv_op *op, uint32_t s, struct publication *p) {
    for (;;) {
        kv_status r = table_lock(op, s);
        if (r != KV_OK)
            return r;
        r = publish_locked(op, s, p);
        table_unlock(op->h, s);
        if (r != KV_NOINDEX && r != KV_UNMARKED)
            return r;
        bool index = r == KV_NOINDEX;
        r = index ? evict_make_index(op) : journal_make_room(op);
        if (index && r == KV_FULL)
            p->any_length = true;
        else if (r != KV_OK)
            return r;
    }
}

static kv_status put(struct kv_op *op, const struct kv_key *key, const struct kv_value *value,
                     uint64_t deadline_ms, enum kv_put mode, const struct kv_token *token) {
    struct kv_handle *h = op->h;
    struct kv_item it;
    struct kv_place place;
    struct kv_meta meta;
    struct first_look look = {.found = KV_AGAIN};
    kv_status r = KV_OK;
    if (mode != KV_PUT_SET) { /* do not write what will not be wanted */
        r = store_peek(op, key, &meta);
        if (mode == KV_PUT_ADD)
            r = r == KV_OK ? KV_EXISTS : r == KV_MISS ? KV_OK : r;
        else if (r == KV_OK && token != NULL &&
                 (meta.version != token->version || meta.counter != token->counter))
            r = KV_EXISTS;
    }
    if (r != KV_OK)
        return r;
    uint32_t s = stripe_of(h, key->home);
    item_describe(key, value, deadline_ms, &it);
    if (mode == KV_PUT_TOUCH)
        it.version = token->version;
    r = find_place(op, s, key, &it, deadline_ms, &place, &look);
    if (r != KV_OK)
        return r;
    fill_item(h, &place, &it, key, value, deadline_ms);
    struct publication p = {
        .key = key, .place = &place, .mode = mode, .token = token, .look = &look};
    r = publish(op, s, &p);
    place_done(h, &place, r == KV_OK);
    if (r == KV_OK) {
        op->sets += mode != KV_PUT_TOUCH;
        op->written += place.bytes;
        sample(h, key, KV_SAMPLE_SET, place.bytes);
    }
    if (r == KV_OK && __builtin_expect(kv_load_rlx(&kv_header_of(h)->ahead) != 0, 0))
        evict_ahead(op);
    return r;
}

kv_status store_put(struct kv_op *op, const struct kv_key *key, const struct kv_value *value,
                    uint64_t deadline_ms, enum kv_put mode, const struct kv_token *token) {
    static_assert(KV_NOTED_REWRITE - KV_NOTED_SET == KV_PUT_TOUCH, "notes of puts as enum kv_put");
    if (op->h->readonly)
        return KV_READONLY;
    kv_status r = check_size(op, key, value);
    if (r != KV_OK)
        return r;
    enum kv_noted what = (enum kv_noted)((int)KV_NOTED_SET + (int)mode);
    struct kv_note *note = note_begin(op, what, key->data, key->len);
    return note_end(op, note, put(op, key, value, deadline_ms, mode, token));
}

/* ---- delete, pop -------------------------------------------------------------------------- */

static kv_status delete_once(struct kv_op *op, const struct kv_key *key,
                             const struct kv_token *token) {
    struct kv_handle *h = op->h;
    uint32_t s = stripe_of(h, key->home);
    struct kv_slot slot;
    bool expired = false;
    kv_status r = table_lock(op, s);
    if (r != KV_OK)
        return r;
    r = table_find(h, s, key, &slot);
    if (r == KV_OK && present(&slot, &expired) && token != NULL && !token_fits(&slot, token))
        r = KV_EXISTS;
    /* Eviction is not logged: what has left memory may still be on disk, and come back. */
    bool there = r == KV_OK, gone = r == KV_MISS && (h->options & KV_OPT_EVICT) && token == NULL;
    if (there || gone)
        r = journal_mark(op, key->hash);
    if (r == KV_OK && there)
        table_remove_locked(h, s, key->hash, &slot, kv_item_bytes(&slot.head));
    table_unlock(h, s);
    if (r == KV_OK && gone)
        return KV_MISS;
    if (r != KV_OK)
        return r;
    row_count(h, expired ? KV_STAT_EXPIRED : KV_STAT_DELETES, 1);
    sample(h, key, KV_SAMPLE_DELETE, 0);
    return expired ? KV_MISS : KV_OK;
}

kv_status store_delete(struct kv_op *op, const struct kv_key *key, const struct kv_token *token) {
    if (op->h->readonly)
        return KV_READONLY;
    struct kv_note *note = note_begin(op, KV_NOTED_DELETE, key->data, key->len);
    kv_status r;
    do {
        r = delete_once(op, key, token);
    } while (r == KV_UNMARKED && (r = journal_make_room(op)) == KV_OK);
    return note_end(op, note, r);
}

/* ---- in place ----------------------------------------------------------------------------- */

/* Add to the counter at a slot: one 8-byte store, no version. */
static kv_status incr_locked(struct kv_slot *slot, int64_t delta, int64_t *result) {
    if (slot->head.type != KV_TYPE_INT)
        return slot->head.type == KV_TYPE_BIGINT ? KV_OVERFLOW : KV_TYPE;
    if (!(slot->head.flags & KV_ITEM_COUNTER))
        return KV_CORRUPT;
    int64_t now = (int64_t)item_counter(slot->item, &slot->head);
    if (__builtin_add_overflow(now, delta, result))
        return KV_OVERFLOW;
    kv_store_rel(item_word(slot->item, kv_item_counter_at(slot->head.flags)), (uint64_t)*result);
    FAULT(counter_stored);
    slot_touch(slot);
    return KV_OK;
}

/* KV_MISS: the key is not there and `initial` says to create it, or not. */
static kv_status incr_present(struct kv_op *op, const struct kv_key *key, int64_t delta,
                              int64_t *result) {
    struct kv_handle *h = op->h;
    uint32_t s = stripe_of(h, key->home);
    struct kv_slot slot;
    bool expired;
    kv_status r = table_lock(op, s);
    if (r != KV_OK)
        return r;
    r = table_find(h, s, key, &slot);
    if (r == KV_OK && !present(&slot, &expired))
        r = KV_MISS;
    if (r == KV_OK)
        r = journal_mark(op, key->hash);
    if (r == KV_OK)
        r = incr_locked(&slot, delta, result);
    table_unlock(h, s);
    if (r == KV_OK) {
        op->sets++;
        sample(h, key, KV_SAMPLE_SET, kv_item_bytes(&slot.head));
    }
    return r;
}

static kv_status incr(struct kv_op *op, const struct kv_key *key, int64_t delta,
                      const int64_t *initial, uint64_t deadline_ms, int64_t *result) {
    for (;;) {
        kv_status r = incr_present(op, key, delta, result);
        if (r == KV_UNMARKED && (r = journal_make_room(op)) == KV_OK)
            continue;
        if (r != KV_MISS || initial == NULL)
            return r;
        if (__builtin_add_overflow(*initial, delta, result))
            return KV_OVERFLOW;
        struct kv_value v = {.type = KV_TYPE_INT, .counter = (uint64_t)*result};
        r = store_put(op, key, &v, deadline_ms, KV_PUT_ADD, NULL);
        if (r != KV_EXISTS)
            return r;
    }
}

kv_status store_incr(struct kv_op *op, const struct kv_key *key, int64_t delta,
                     const int64_t *initial, uint64_t deadline_ms, int64_t *result) {
    if (op->h->readonly)
        return KV_READONLY;
    struct kv_note *note = note_begin(op, KV_NOTED_INCR, key->data, key->len);
    return note_end(op, note, incr(op, key, delta, initial, deadline_ms, result));
}

/* ---- rewriting ---------------------------------------------------------------------------- */

/* A value that is to be written again, and what keeps it meanwhile: the pin of an extent, or a
 * copy. A page of many items that we pin ourselves could be the one to be cleaned when we want
 * room. */
struct kept {
    struct kv_meta meta;
    struct kv_pin pin;
    const void *data;
    unsigned char *copy, small[512];
    bool pinned;
};

static void keep_end(struct kv_op *op, struct kept *k) {
    if (k->pinned)
        store_unpin(op->h, &k->pin);
    if (k->copy != k->small)
        free(k->copy);
}

/* KV_OK: keep_end() must follow. */
static kv_status keep_begin(struct kv_op *op, const struct kv_key *key, struct kept *k) {
    k->copy = k->small;
    kv_status r = store_pin(op, key, &k->meta, &k->pin, &k->data);
    k->pinned = r == KV_OK;
    if (r != KV_OK || arena_is_extent(op->h, k->meta.bytes))
        return r;
    if (k->meta.value_len > sizeof k->small)
        k->copy = malloc((size_t)k->meta.value_len);
    if (k->copy != NULL)
        kv_copy_out(k->copy, k->data, (size_t)k->meta.value_len);
    store_unpin(op->h, &k->pin);
    k->pinned = false;
    k->data = k->copy;
    return k->copy == NULL ? KV_NOMEM : KV_OK;
}

/* Publish a new item made of the present value and a tail, if nobody changed it meanwhile (else
 * KV_EXISTS). */
static kv_status rewrite(struct kv_op *op, const struct kv_key *key, uint8_t type, const void *tail,
                         uint64_t tail_len, const uint64_t *deadline_ms, uint64_t *new_len) {
    struct kept k;
    kv_status r = keep_begin(op, key, &k);
    if (r != KV_OK)
        return r;
    if (type != 0 && k.meta.type != type) {
        keep_end(op, &k);
        return KV_TYPE;
    }
    struct kv_value v = {.type = k.meta.type,
                         .counter = k.meta.counter,
                         .data = k.data,
                         .len = k.meta.value_len,
                         .more = tail,
                         .more_len = tail_len};
    struct kv_token token = kv_token_of(&k.meta);
    if (deadline_ms == NULL)
        token.deadline_ms =
            &k.meta.deadline_ms; /* it is carried over: a touch meanwhile must not be lost */
    struct kv_key as_stored = *key;
    as_stored.is_str = (k.meta.flags & KV_ITEM_KEY_STR) != 0;
    r = store_put(op, &as_stored, &v, deadline_ms != NULL ? *deadline_ms : k.meta.deadline_ms,
                  tail == NULL ? KV_PUT_TOUCH : KV_PUT_CAS, &token);
    keep_end(op, &k);
    *new_len = v.len + v.more_len;
    return r;
}

static kv_status append(struct kv_op *op, const struct kv_key *key, uint8_t type, const void *data,
                        uint64_t len, uint64_t *new_len) {
    for (;;) {
        kv_status r = rewrite(op, key, type, data, len, NULL, new_len);
        if (r == KV_MISS) {
            struct kv_value v = {.type = type, .data = data, .len = len};
            r = store_put(op, key, &v, 0, KV_PUT_ADD, NULL);
            *new_len = len;
        }
        if (r != KV_EXISTS && r != KV_MISS)
            return r;
    }
}

kv_status store_append(struct kv_op *op, const struct kv_key *key, uint8_t type, const void *data,
                       uint64_t len, uint64_t *new_len) {
    if (op->h->readonly)
        return KV_READONLY;
    struct kv_note *note = note_begin(op, KV_NOTED_APPEND, key->data, key->len);
    return note_end(op, note, append(op, key, type, data, len, new_len));
}

/* KV_AGAIN: the item has no deadline word and needs one. */
static kv_status touch_in_place(struct kv_op *op, const struct kv_key *key, uint64_t deadline_ms) {
    struct kv_handle *h = op->h;
    uint32_t s = stripe_of(h, key->home);
    struct kv_slot slot;
    bool expired;
    kv_status r = table_lock(op, s);
    if (r != KV_OK)
        return r;
    r = table_find(h, s, key, &slot);
    if (r == KV_OK && !present(&slot, &expired))
        r = KV_MISS;
    if (r == KV_OK)
        r = journal_mark(op, key->hash);
    if (r == KV_OK && (slot.head.flags & KV_ITEM_DEADLINE)) {
        kv_store_rel(item_word(slot.item, kv_item_deadline_at()), deadline_ms);
        FAULT(deadline_stored);
    } else if (r == KV_OK && deadline_ms != 0) {
        r = KV_AGAIN;
    }
    if (r == KV_OK)
        slot_touch(&slot);
    table_unlock(h, s);
    return r;
}

static kv_status touch(struct kv_op *op, const struct kv_key *key, uint64_t deadline_ms) {
    if (deadline_ms != 0 && kv_clock_passed(deadline_ms))
        return store_delete(op, key, NULL);
    for (;;) {
        uint64_t len;
        kv_status r = touch_in_place(op, key, deadline_ms);
        if (r == KV_UNMARKED && (r = journal_make_room(op)) == KV_OK)
            continue;
        if (r != KV_AGAIN)
            return r;
        r = rewrite(op, key, 0, NULL, 0, &deadline_ms, &len);
        if (r != KV_EXISTS)
            return r;
    }
}

kv_status store_touch(struct kv_op *op, const struct kv_key *key, uint64_t deadline_ms) {
    if (op->h->readonly)
        return KV_READONLY;
    struct kv_note *note = note_begin(op, KV_NOTED_TOUCH, key->data, key->len);
    return note_end(op, note, touch(op, key, deadline_ms));
}

static kv_status move(struct kv_op *op, const struct kv_key *from, const struct kv_key *to) {
    for (bool written = false;; written = true) {
        struct kept k;
        kv_status r = keep_begin(op, from, &k);
        if (r == KV_MISS && written) /* deleted after it was copied: renamed and deleted */
            return KV_OK;
        if (r != KV_OK)
            return r;
        struct kv_value v = {.type = k.meta.type,
                             .counter = k.meta.counter,
                             .data = k.data,
                             .len = k.meta.value_len};
        bool same = from->len == to->len && memcmp(from->data, to->data, to->len) == 0;
        if (!same)
            r = store_put(op, to, &v, k.meta.deadline_ms, KV_PUT_SET, NULL);
        keep_end(op, &k);
        if (r != KV_OK || same)
            return r;
        struct kv_token token = kv_token_of(&k.meta);
        token.deadline_ms = &k.meta.deadline_ms;
        r = store_delete(op, from, &token);
        if (r != KV_EXISTS) /* changed meanwhile: the newer value follows */
            return r == KV_MISS ? KV_OK : r;
    }
}

kv_status store_rename(struct kv_op *op, const struct kv_key *from, const struct kv_key *to) {
    if (op->h->readonly)
        return KV_READONLY;
    struct kv_note *note = note_begin(op, KV_NOTED_RENAME, from->data, from->len);
    return note_end(op, note, move(op, from, to));
}
