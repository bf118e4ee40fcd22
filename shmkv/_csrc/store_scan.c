/* store_scan.c: what concerns the whole store: length, clear, scan, totals. */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lock_note.h"
#include "store.h"

uint64_t store_len(struct kv_handle *h) { return victim_items(h); }

/* ---- clear -------------------------------------------------------------------------------- */

/* Remove from one index segment what was published before `began`. The stripe's lock is held. */
static kv_status clear_segment_locked(struct kv_op *op, uint32_t s, struct kv_bucket *b,
                                      uint32_t began) {
    struct kv_handle *h = op->h;
    for (uint32_t k = 0; k < KV_BUCKETS * KV_SLOTS; k++) {
        struct kv_item it;
        kv_ref ref = kv_load_rlx(&b[k / KV_SLOTS].ref[k % KV_SLOTS]);
        if (ref == 0)
            continue;
        const unsigned char *item = arena_item(h, ref, &it);
        if (item == NULL)
            return KV_CORRUPT;
        /* Published after `began`? Versions wrap, but none is newer than the stripe's. */
        if (it.version - began - 1 < (uint32_t)kv_load_rlx(&stripe_at(h, s)->ver) - began)
            continue;
        struct kv_slot slot;
        uint64_t hash = kv_hash(item_key(item, &it), it.key_len, h->seed);
        if (table_find_ref(h, s, hash, ref, &slot) != KV_OK)
            return KV_CORRUPT;
        kv_status r = journal_mark(op, hash);
        if (r != KV_OK)
            return r;
        table_remove_locked(h, s, hash, &slot, kv_item_bytes(&it));
        row_count(h, KV_STAT_DELETES, 1);
    }
    return KV_OK;
}

static kv_status clear_stripe(struct kv_op *op, uint32_t s, uint32_t began) {
    struct kv_handle *h = op->h;
    for (uint32_t i = 0; i < 1u << h->g.dir_bits;) {
        kv_status r = table_lock(op, s); /* a segment at a time: others get their turn */
        if (r != KV_OK)
            return r;
        uint32_t word = kv_load_rlx(&directory_at(h, s)[i]);
        if (!arena_segment_ok(h, kv_dir_segment(word)) || kv_dir_depth(word) > h->g.dir_bits)
            r = KV_CORRUPT;
        else
            r = clear_segment_locked(op, s, arena_segment(h, kv_dir_segment(word)), began);
        table_unlock(h, s);
        if (r == KV_UNMARKED && (r = journal_make_room(op)) == KV_OK)
            continue;
        if (r != KV_OK)
            return r;
        i += 1u << (h->g.dir_bits - kv_dir_depth(word));
    }
    return KV_OK;
}

static kv_status clear_rest(struct kv_op *op, struct kv_clear *clear) {
    struct kv_handle *h = op->h;
    for (; clear->begun < h->g.stripes; clear->begun++) {
        kv_status r =
            table_lock(op, clear->begun); /* an item that can be seen has its version raised */
        if (r != KV_OK)
            return r;
        clear->began[clear->begun] = (uint32_t)kv_load_rlx(&stripe_at(h, clear->begun)->ver);
        table_unlock(h, clear->begun);
    }
    for (; clear->stripe < h->g.stripes; clear->stripe++) {
        kv_status r = clear_stripe(op, clear->stripe, clear->began[clear->stripe]);
        if (r != KV_OK)
            return r;
    }
    journal_wipe(op); /* not before: memory would still hold what a wipe takes from the disk */
    return KV_OK;
}

kv_status store_clear(struct kv_op *op, struct kv_clear *clear) {
    if (op->h->readonly)
        return KV_READONLY;
    struct kv_note *note = note_begin(op, KV_NOTED_CLEAR, NULL, 0);
    return note_end(op, note, clear_rest(op, clear));
}

/* ---- scan --------------------------------------------------------------------------------- */

struct shown {
    struct kv_meta meta;
    uint32_t at, len;
};

struct batch {
    struct shown item[KV_SLOTS];
    uint32_t count;
    unsigned char *bytes;
    size_t used, room;
};

/* Copy one bucket's keys. false: something moved or the buffer is short (batch->room says what it
 * needs). */
static bool copy_bucket(struct kv_handle *h, struct kv_bucket *b, struct batch *batch) {
    size_t want = 0;
    batch->count = 0;
    batch->used = 0;
    for (uint32_t i = 0; i < KV_SLOTS; i++) {
        struct kv_slot slot = {.bucket = b, .index = i, .ref = kv_load_acq(&b->ref[i])};
        if (slot.ref == 0)
            continue;
        slot.item = arena_item(h, slot.ref, &slot.head);
        if (slot.item == NULL)
            return false;
        want += slot.head.key_len;
        if (want > batch->room)
            continue; /* keep measuring */
        struct shown *out = &batch->item[batch->count++];
        const struct kv_item *it = &slot.head;
        out->meta = (struct kv_meta){.type = it->type,
                                     .flags = it->flags,
                                     .heat = (uint8_t)slot_counter(&slot),
                                     .version = it->version,
                                     .value_len = it->value_len,
                                     .deadline_ms = item_deadline(slot.item, it),
                                     .bytes = kv_item_bytes(it),
                                     .ref = slot.ref};
        out->at = (uint32_t)batch->used;
        out->len = it->key_len;
        kv_copy_out(batch->bytes + batch->used, item_key(slot.item, it), it->key_len);
        batch->used += it->key_len;
    }
    return want <= batch->room;
}

static bool batch_grow(struct batch *batch, size_t room) {
    unsigned char *p = realloc(batch->bytes, room);
    if (p == NULL)
        return false;
    batch->bytes = p;
    batch->room = room;
    return true;
}

/* One bucket, validated. After many failures under the lock, with a buffer for the longest keys. */
static kv_status read_bucket(struct kv_op *op, struct kv_cursor *c, struct batch *batch) {
    struct kv_handle *h = op->h;
    for (uint32_t tries = 1;; tries++) {
        struct kv_bucket *b;
        bool locked = tries > 16 && !h->readonly;
        if (locked && batch->room < KV_SLOTS * KV_KEY_MAX &&
            !batch_grow(batch, KV_SLOTS * KV_KEY_MAX))
            return KV_NOMEM;
        kv_status r = locked ? table_lock(op, c->stripe) : KV_OK;
        if (r != KV_OK)
            return r;
        uint64_t seen = kv_load_acq(&stripe_at(h, c->stripe)->ver);
        r = cursor_bucket(h, c, &b);
        bool copied = r == KV_OK && copy_bucket(h, b, batch);
        bool valid = kv_load_after(&stripe_at(h, c->stripe)->ver) == seen;
        if (locked) {
            table_unlock(h, c->stripe);
            return copied ? KV_OK : KV_CORRUPT;
        }
        if (valid && (copied || r != KV_OK))
            return r;
        if (valid && batch->room >= KV_SLOTS * KV_KEY_MAX && tries > 16)
            return KV_CORRUPT;
        if (valid && !batch_grow(batch, KV_SLOTS * KV_KEY_MAX))
            return KV_NOMEM;
        if (h->readonly && tries % 8 == 0 && (r = lock_idle(op)) != KV_OK)
            return r;
    }
}

kv_status store_scan(struct kv_op *op, struct kv_cursor *cursor, kv_show *show, void *arg) {
    struct kv_handle *h = op->h;
    struct batch batch = {.count = 0};
    if (cursor->stripe >= h->g.stripes)
        return KV_MISS;
    if (!batch_grow(&batch, 1024))
        return KV_NOMEM;
    kv_status r = read_bucket(op, cursor, &batch);
    for (uint32_t i = 0; r == KV_OK && i < batch.count; i++) {
        const struct shown *one = &batch.item[i];
        if (kv_clock_passed(one->meta.deadline_ms))
            continue;
        if (!show(arg, batch.bytes + one->at, one->len, (one->meta.flags & KV_ITEM_KEY_STR) != 0,
                  &one->meta))
            r = KV_NOMEM;
    }
    free(batch.bytes);
    if (r == KV_OK)
        cursor_next(h, cursor);
    return r;
}

/* ---- totals ------------------------------------------------------------------------------- */

void store_stats(struct kv_handle *h, struct kv_stats *out) {
    const struct kv_header *head = kv_header_of(h);
    uint64_t now = kv_clock_ms(), base = 1ULL << h->g.base_shift;
    uint64_t ghost = segment_ghost_bytes(h);
    *out =
        (struct kv_stats){.items = victim_items(h),
                          .live_bytes = victim_live_bytes(h),
                          .size = kv_load_rlx(&head->size),
                          .max_size = h->g.max_size,
                          .backed_bytes = segment_watermark(h) + ghost + kv_geometry_journal(&h->g),
                          .arena_bytes = arena_bytes(h),
                          .rows = h->g.rows,
                          .nospace = kv_load_rlx(&head->nospace),
                          .damage = kv_load_rlx(&head->damage),
                          .created_ms = head->created_ms,
                          .saved_ms = kv_load_rlx(&head->journal.saved_ms)};
    for (uint32_t r = 0; r < h->g.rows; r++) {
        struct kv_row *row = kv_row_at(h, r);
        uint32_t number = kv_load_acq(&row->number);
        out->attached += number != 0 && row_alive(h, number);
        for (uint32_t i = 0; i < KV_STATS; i++)
            out->stat[i] += kv_load_rlx(&row->stat[i]);
    }
    if (h->options & KV_OPT_JOURNAL)
        journal_state(h, &out->journal);
    uint64_t oldest[KV_QUEUES];
    memset(oldest, 0xFF, sizeof oldest);
    for (uint32_t i = 0, limit = arena_bases(h); i < limit;) {
        uint64_t w = page_word(h, i), birth = kv_load_rlx(&page_at(h, i)->birth);
        uint32_t state = kv_page_state(w), run = page_run(w), queue = kv_page_queue(w);
        if ((state == KV_OPEN || state == KV_CLOSED) && birth < oldest[queue]) {
            uint64_t opened = kv_load_rlx(&page_at(h, i)->opened_ms);
            oldest[queue] = birth;
            out->age_ms[queue] = opened < now ? now - opened : 1;
        }
        if (state == KV_FREE)
            out->free_bytes += base;
        else if (state == KV_INDEX)
            out->index_bytes += base;
        else if (state == KV_OPEN || state == KV_CLOSED || state == KV_CLEANING)
            out->garbage_bytes += (uint64_t)page_garbage(h, i, now) * KV_GRANULE;
        i += run;
    }
}
