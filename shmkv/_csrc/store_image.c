/* store_image.c: the whole store as records, and records as a store.
 *
 * Saving walks the index as a scan does, slot by slot, and copies each item as a reader would:
 * nobody waits for it, and what it writes was current at that moment. A long item is kept by a pin
 * while its pieces go out. Loading is storing: it wants no more trust in the bytes than a user's
 * set. */
#include <stdlib.h>

#include "clock.h"
#include "store.h"

#define KV_DUMP_TRIES 16u
#define KV_LOAD_GROUP 16u

/* ---- saving ------------------------------------------------------------------------------- */

void store_dump_end(struct kv_handle *h, struct kv_dump *d) {
    if (d->pinned)
        store_unpin(h, &d->pin);
    free(d->copy);
    d->pinned = false;
    d->copy = NULL;
    d->at = 0;
    d->image = (struct kv_image){0};
}

static void note_lock(struct kv_dump *d, uint64_t began_ns) {
    uint64_t ns = kv_clock_ns() - began_ns;
    d->locks++;
    d->longest_ns = ns > d->longest_ns ? ns : d->longest_ns;
}

/* What stands at the cursor. KV_OK: an item, KV_MISS: nothing to save here, KV_FULL: the end. */
static kv_status look_at(struct kv_op *op, struct kv_dump *d, struct kv_slot *slot) {
    struct kv_handle *h = op->h;
    struct kv_bucket *b;
    uint32_t word = d->cursor.word;
    kv_status r = cursor_bucket(h, &d->cursor, &b);
    if (r != KV_OK)
        return r == KV_MISS ? KV_FULL : r;
    if (d->cursor.word != word)
        d->slot = 0; /* the segment is another one: from its beginning */
    *slot = (struct kv_slot){.bucket = b, .index = d->slot};
    slot->ref = kv_load_acq(&b->ref[d->slot]); /* acquire: the item is complete */
    if (slot->ref == 0)
        return KV_MISS;
    slot->item = arena_item(h, slot->ref, &slot->head);
    if (slot->item == NULL)
        return KV_CORRUPT;
    return kv_clock_passed(item_deadline(slot->item, &slot->head)) ? KV_MISS : KV_OK;
}

/* A long item: what keeps it. Valid only if the version is the same afterwards. */
static kv_status keep(struct kv_op *op, struct kv_dump *d, const struct kv_slot *slot,
                      uint64_t wall) {
    struct kv_handle *h = op->h;
    if (!image_make(&d->image, h, slot, wall))
        return KV_CORRUPT;
    if (d->pinned) {
        pin_aim(h, &d->pin, slot->ref);
        return KV_OK;
    }
    free(d->copy);
    uint64_t bytes = d->image.key_len + d->image.value_len;
    d->copy = malloc((size_t)bytes);
    if (d->copy == NULL)
        return KV_NOMEM;
    kv_copy_out(d->copy, d->image.key, d->image.key_len);
    kv_copy_out(d->copy + d->image.key_len, d->image.value, d->image.value_len);
    d->image.key = d->copy;
    d->image.value = d->copy + d->image.key_len;
    return KV_OK;
}

/* Copy what stands at the cursor. KV_TOOLARGE: it is long, and kept; KV_NOPAGE: no room here. */
static kv_status copy_one(struct kv_op *op, struct kv_dump *d, unsigned char *to, uint64_t room,
                          uint64_t *bytes, uint64_t wall, bool first) {
    struct kv_slot slot;
    struct kv_image image;
    kv_status r = look_at(op, d, &slot);
    if (r != KV_OK)
        return r;
    if (!image_make(&image, op->h, &slot, wall))
        return KV_CORRUPT;
    *bytes = image_bytes(&image);
    if (*bytes <= KV_IMAGE_LARGE && *bytes <= room) {
        image_copy(&image, 0, to, *bytes);
        return KV_OK;
    }
    if (!first) /* what is long begins a block */
        return KV_NOPAGE;
    r = keep(op, d, &slot, wall);
    return r == KV_OK ? KV_TOOLARGE : r;
}

/* The same, when it counts: the stripe did not change meanwhile, or is locked. */
static kv_status take_one(struct kv_op *op, struct kv_dump *d, unsigned char *to, uint64_t room,
                          uint64_t *bytes, uint64_t wall, bool first) {
    struct kv_handle *h = op->h;
    for (uint32_t tries = 1;; tries++) {
        uint32_t s = d->cursor.stripe;
        if (s >= h->g.stripes)
            return KV_FULL;
        bool locked = tries > KV_DUMP_TRIES && !h->readonly;
        kv_status r = locked ? table_lock(op, s) : KV_OK;
        if (r != KV_OK)
            return r;
        uint64_t began = locked ? kv_clock_ns() : 0;
        uint64_t seen = kv_load_acq(&stripe_at(h, s)->ver); /* acquire: before what is looked at */
        r = copy_one(op, d, to, room, bytes, wall, first);
        bool valid = locked || kv_load_after(&stripe_at(h, s)->ver) == seen;
        if (locked) {
            table_unlock(h, s);
            note_lock(d, began);
        }
        if (valid)
            return r;
        if (h->readonly && tries % 8 == 0 && (r = lock_idle(op)) != KV_OK)
            return r;
    }
}

static void step(struct kv_handle *h, struct kv_dump *d) {
    if (++d->slot < KV_SLOTS)
        return;
    d->slot = 0;
    cursor_next(h, &d->cursor);
}

/* Items of the buckets to come begin to arrive. */
static void prefetch_next(struct kv_handle *h, const struct kv_dump *d) {
    uint32_t segment = kv_dir_segment(d->cursor.word);
    if (d->slot != 0 || d->cursor.bucket + 1 >= KV_BUCKETS || !arena_segment_ok(h, segment))
        return;
    const struct kv_bucket *b = arena_segment(h, segment) + d->cursor.bucket + 1;
    for (uint32_t i = 0; i < KV_SLOTS; i++) {
        kv_ref ref = kv_load_rlx(&b->ref[i]);
        if (ref == 0)
            continue;
        __builtin_prefetch(arena_at(h, ref));
        __builtin_prefetch(arena_at(h, ref) + KV_LINE);
    }
}

static void next_piece(struct kv_handle *h, struct kv_dump *d, unsigned char *to,
                       struct kv_dumped *out) {
    uint64_t left = image_bytes(&d->image) - d->at;
    uint64_t n = left < KV_IMAGE_BLOCK ? left : KV_IMAGE_BLOCK;
    image_copy(&d->image, d->at, to, n);
    d->at += n;
    *out = (struct kv_dumped){KV_BLOCK_PIECE, n, left == n};
    if (left != n)
        return;
    store_dump_end(h, d);
    step(h, d);
}

/* A pin costs little; the block may meet a long item. */
static kv_status dump_begin(struct kv_op *op, struct kv_dump *d) {
    if (op->h->readonly || d->pinned)
        return KV_OK;
    kv_status r = pin_take(op, &d->pin, fold_row);
    d->pinned = r == KV_OK;
    return r;
}

kv_status store_dump(struct kv_op *op, struct kv_dump *d, unsigned char *to, uint64_t room,
                     struct kv_dumped *out) {
    struct kv_handle *h = op->h;
    uint64_t wall = image_wall(), bytes = 0;
    *out = (struct kv_dumped){.kind = KV_BLOCK_ITEMS};
    if (d->at > 0) {
        next_piece(h, d, to, out);
        return KV_OK;
    }
    kv_status r = dump_begin(op, d);
    while (r == KV_OK && out->used < KV_IMAGE_BLOCK) {
        prefetch_next(h, d);
        r = take_one(op, d, to + out->used, room - out->used, &bytes, wall, out->used == 0);
        if (r == KV_OK) {
            out->used += bytes;
            out->count++;
        }
        if (r == KV_OK || r == KV_MISS) {
            step(h, d);
            r = KV_OK;
        }
    }
    if (r == KV_TOOLARGE)
        next_piece(h, d, to, out);
    else if (d->pinned)
        pin_aim(h, &d->pin, 0); /* tries that came to nothing aimed it */
    if (r == KV_FULL && out->used == 0)
        out->kind = 0;
    return r == KV_TOOLARGE || r == KV_FULL || r == KV_NOPAGE || out->used > 0 ? KV_OK : r;
}

/* ---- loading ------------------------------------------------------------------------------ */

/* Deadlines of files are of the wall clock. false: it has passed. */
static bool deadline_here(uint64_t wall_ms, uint64_t *deadline_ms) {
    *deadline_ms = 0;
    if (wall_ms == 0)
        return true; /* never: two clocks need not be read for it */
    uint64_t wall = image_wall();
    *deadline_ms = wall_ms - wall;
    return wall_ms > wall && !kv_clock_passed(*deadline_ms);
}

static kv_status put_record(struct kv_op *op, const struct kv_record *r, const struct kv_key *key,
                            struct kv_loading *loading) {
    uint64_t deadline;
    if (!deadline_here(r->deadline_ms, &deadline)) {
        loading->expired++;
        return KV_OK;
    }
    struct kv_value v = {
        .type = r->type, .counter = r->counter, .data = r->value, .len = r->value_len};
    op->heat = r->heat;
    kv_status s = store_put(op, key, &v, deadline, KV_PUT_SET, NULL);
    op->heat = 0;
    loading->loaded += s == KV_OK;
    return s;
}

kv_status store_load(struct kv_op *op, const unsigned char *from, uint64_t len,
                     struct kv_loading *loading) {
    struct kv_record record[KV_LOAD_GROUP];
    struct kv_key key[KV_LOAD_GROUP];
    uint64_t bytes[KV_LOAD_GROUP];
    if (op->h->readonly)
        return KV_READONLY;
    while (loading->at < len) {
        uint32_t n = 0;
        for (uint64_t at = loading->at; n < KV_LOAD_GROUP && at < len; at += bytes[n++]) {
            bytes[n] = image_parse(from + at, len - at, &record[n]);
            if (bytes[n] == 0)
                break;
            key[n] = kv_key_make(op->h, record[n].key, record[n].key_len, record[n].is_str);
        }
        if (n == 0)
            return KV_INVALID;
        store_prefetch(op->h, key, n);
        for (uint32_t i = 0; i < n; i++) {
            kv_status r = put_record(op, &record[i], &key[i], loading);
            if (r != KV_OK)
                return r;
            loading->at += bytes[i];
        }
    }
    return KV_OK;
}

/* ---- replaying ---------------------------------------------------------------------------- */

struct entry {
    uint64_t class, bytes; /* bytes: of the whole entry */
    uint32_t n;
    struct kv_record record[KV_CLASS_MOST];
};

static bool entry_parse(const unsigned char *from, uint64_t left, struct entry *e) {
    uint64_t at = KV_ENTRY_HEAD;
    uint16_t count;
    if (left < at)
        return false;
    memcpy(&e->class, from, 8);
    memcpy(&count, from + 8, 2);
    e->n = count;
    if (e->n > KV_CLASS_MOST || (e->class == KV_MARK_WIPE && e->n != 0))
        return false;
    for (uint32_t i = 0; i < e->n; i++) {
        uint64_t n = image_parse(from + at, left - at, &e->record[i]);
        if (n == 0)
            return false;
        at += n;
    }
    e->bytes = at;
    return true;
}

/* Does the entry say that this item's key exists? */
static bool named(const struct entry *e, const struct kv_slot *slot) {
    uint64_t deadline;
    for (uint32_t i = 0; i < e->n; i++)
        if (e->record[i].key_len == slot->head.key_len &&
            kv_same(item_key(slot->item, &slot->head), e->record[i].key, e->record[i].key_len))
            return deadline_here(e->record[i].deadline_ms, &deadline);
    return false;
}

/* Remove what the entry does not name, one item at a time. KV_MISS: nothing more. */
static kv_status remove_other(struct kv_op *op, const struct entry *e) {
    struct kv_handle *h = op->h;
    struct kv_slot slot[KV_CLASS_MOST];
    uint32_t s = stripe_of(h, e->class), n;
    kv_status r = table_lock(op, s);
    if (r != KV_OK)
        return r;
    r = table_find_class(h, s, e->class, KV_MARK_BITS, slot, KV_CLASS_MOST, &n);
    for (uint32_t i = 0; r == KV_OK && i <= n; i++) {
        if (i == n) {
            r = KV_MISS;
        } else if (!named(e, &slot[i])) {
            table_remove_locked(h, s, e->class, &slot[i], kv_item_bytes(&slot[i].head));
            break;
        }
    }
    table_unlock(h, s);
    return r;
}

static kv_status replay_entry(struct kv_op *op, const struct entry *e, struct kv_loading *loading) {
    kv_status r;
    if (e->class == KV_MARK_WIPE) {
        struct kv_clear clear = {0};
        return store_clear(op, &clear);
    }
    while ((r = remove_other(op, e)) == KV_OK)
        ;
    for (uint32_t i = 0; i < e->n && (r == KV_OK || r == KV_MISS); i++) {
        const struct kv_record *record = &e->record[i];
        struct kv_key key = kv_key_make(op->h, record->key, record->key_len, record->is_str);
        if ((key.hash ^ e->class) & ~KV_MARK_BITS)
            return KV_INVALID;
        r = put_record(op, record, &key, loading);
    }
    return r == KV_MISS ? KV_OK : r;
}

kv_status store_replay(struct kv_op *op, const unsigned char *from, uint64_t len,
                       struct kv_loading *loading) {
    struct entry e;
    if (op->h->readonly)
        return KV_READONLY;
    while (loading->at < len) {
        if (!entry_parse(from + loading->at, len - loading->at, &e))
            return KV_INVALID;
        kv_status r = replay_entry(op, &e, loading);
        if (r != KV_OK)
            return r;
        loading->at += e.bytes;
    }
    return KV_OK;
}
