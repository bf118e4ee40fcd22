/* journal_entry.c: states, read without a lock and believed if the stripe stood still. */
#include "journal_entry.h"

#include "clock.h"
#include "journal.h"
#include "journal_file.h"

#define KV_BRIEF_NS 2000000u /* a round waits so long for a stripe */
#define KV_TRIES    16u      /* looks at a stripe that does not stand still; then it is locked */

/* Another operation in this one, with a short time limit of its own and no signals. */
static struct kv_op brief_op(struct kv_op *op) {
    struct kv_op brief = kv_op_make(op->h);
    brief.deadline_ns = kv_clock_ns() + KV_BRIEF_NS;
    return brief;
}

kv_status journal_entry_lock(struct kv_op *op, uint32_t s) {
    struct kv_op brief = brief_op(op);
    kv_status r = table_lock(&brief, s);
    if (brief.dead != 0)
        op->dead = brief.dead;
    return r;
}

/* ---- a class ------------------------------------------------------------------------------ */

static unsigned char *entry_head(struct kv_log *log, uint64_t class, uint32_t items) {
    unsigned char *to = log->bytes + log->used;
    uint16_t n = (uint16_t)items;
    memcpy(to, &class, 8);
    memcpy(to + 8, &n, 2);
    return to + KV_ENTRY_HEAD;
}

/* The items of a class as they are, behind log->used: room permitting, else how much it takes.
 * Unlocked, it counts only if the stripe's version is the same afterwards. */
static kv_status read_class(struct kv_op *op, uint32_t s, uint64_t class, uint64_t wall,
                            uint64_t *bytes) {
    struct kv_handle *h = op->h;
    struct kv_log *log = h->log;
    struct kv_slot slot[KV_CLASS_MOST];
    uint32_t n;
    kv_status r = table_find_class(h, s, class, KV_MARK_BITS, slot, KV_CLASS_MOST, &n);
    if (r != KV_OK)
        return r;
    *bytes = KV_ENTRY_HEAD;
    for (uint32_t i = 0; i < n; i++)
        *bytes += KV_IMAGE_HEAD + 8ull + slot[i].head.key_len + slot[i].head.value_len;
    if (log->used + *bytes > log->room)
        return KV_NOPAGE;
    unsigned char *to = entry_head(log, class, n);
    for (uint32_t i = 0; i < n; i++) {
        struct kv_image image;
        if (!image_make(&image, h, &slot[i], wall))
            return KV_CORRUPT;
        image_copy(&image, 0, to, image_bytes(&image));
        to += image_bytes(&image);
    }
    *bytes = (uint64_t)(to - log->bytes) - log->used;
    return KV_OK;
}

/* What there is no room for: the block goes, or the buffer grows. */
static kv_status make_way(struct kv_op *op, uint64_t bytes) {
    struct kv_log *log = op->h->log;
    if (log->count > 0)
        return journal_file_flush(op, 0);
    return journal_file_room(log, bytes);
}

/* One entry. Nothing is written and no memory asked for under a stripe's lock. */
kv_status journal_entry_class(struct kv_op *op, uint64_t class, uint64_t wall) {
    struct kv_handle *h = op->h;
    struct kv_log *log = h->log;
    uint32_t s = stripe_of(h, class);
    for (uint32_t tries = 1;; tries++) {
        uint64_t bytes = 0, seen;
        bool locked = tries > KV_TRIES && journal_entry_lock(op, s) == KV_OK;
        seen = kv_load_acq(&stripe_at(h, s)->ver); /* acquire: before what is looked at */
        kv_status r = read_class(op, s, class, wall, &bytes);
        bool valid = locked || kv_load_after(&stripe_at(h, s)->ver) == seen;
        if (locked)
            table_unlock(h, s);
        if (!valid)
            continue;
        if (r == KV_NOPAGE) {
            r = make_way(op, bytes);
            if (r == KV_OK)
                continue;
        }
        if (r != KV_OK)
            return r;
        if (bytes > KV_IMAGE_LARGE && log->count > 0) { /* alone, in pieces */
            r = journal_file_flush(op, 0);
            if (r == KV_OK)
                continue;
            return r;
        }
        log->used += bytes;
        log->count++;
        log->entries++;
        if (bytes > KV_IMAGE_LARGE)
            return journal_file_pieces(op);
        return log->used >= KV_IMAGE_BLOCK ? journal_file_flush(op, 0) : KV_OK;
    }
}

/* ---- everything --------------------------------------------------------------------------- */

/* The classes of what the cursor's bucket holds, and which that is. KV_MISS: the walk is at its
 * end. Unlocked, they count only if the stripe's version is the same afterwards. */
static kv_status read_bucket(struct kv_handle *h, struct kv_cursor *c, uint64_t class[KV_SLOTS],
                             uint32_t *n) {
    struct kv_bucket *b;
    kv_status r = cursor_bucket(h, c, &b);
    *n = 0;
    for (uint32_t i = 0; r == KV_OK && i < KV_SLOTS; i++) {
        struct kv_item it;
        kv_ref ref = kv_load_acq(&b->ref[i]); /* acquire: the item is complete */
        const unsigned char *item = ref == 0 ? NULL : arena_item(h, ref, &it);
        if (item != NULL)
            class[(*n)++] = kv_hash(item_key(item, &it), it.key_len, h->seed) & ~KV_MARK_BITS;
    }
    return r;
}

static kv_status take_bucket(struct kv_op *op, struct kv_cursor *c, uint64_t class[KV_SLOTS],
                             uint32_t *n) {
    struct kv_handle *h = op->h;
    *n = 0;
    if (c->stripe >= h->g.stripes)
        return KV_MISS;
    for (uint32_t tries = 1;; tries++) {
        uint32_t s = c->stripe;
        bool locked = tries > KV_TRIES && journal_entry_lock(op, s) == KV_OK;
        uint64_t seen = kv_load_acq(&stripe_at(h, s)->ver); /* acquire: before what is looked at */
        kv_status r = read_bucket(h, c, class, n);
        bool valid = locked || kv_load_after(&stripe_at(h, s)->ver) == seen;
        if (locked)
            table_unlock(h, s);
        if (valid)
            return r;
    }
}

/* A damaged word of a directory leads nowhere: on with the next. */
static void step_over(struct kv_handle *h, struct kv_cursor *c) {
    c->bucket = c->word = 0;
    if (++c->dir < 1u << h->g.dir_bits)
        return;
    c->dir = 0;
    c->stripe++;
}

kv_status journal_entry_whole(struct kv_op *op, uint64_t wall) {
    struct kv_handle *h = op->h;
    struct kv_log *log = h->log;
    struct kv_cursor c = {.stripe = 0};
    uint64_t class[KV_SLOTS], last = KV_MARK_WIPE; /* which no key has */
    uint32_t n;
    kv_status r = KV_OK, found;
    (void)entry_head(log, KV_MARK_WIPE, 0);
    log->used += KV_ENTRY_HEAD;
    log->count++;
    log->entries++;
    while (r == KV_OK && (found = take_bucket(op, &c, class, &n)) != KV_MISS) {
        for (uint32_t i = 0; r == KV_OK && i < n; i++) {
            if (class[i] != last) /* keys of one class lie beside each other: once for all */
                r = journal_entry_class(op, class[i], wall);
            last = class[i];
            if (r == KV_CORRUPT)
                r = KV_OK;
        }
        if (found == KV_OK)
            cursor_next(h, &c);
        else
            step_over(h, &c);
    }
    FAULT(journal_walked);
    return r;
}
