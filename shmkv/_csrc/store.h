/* store.h: what was asked. The operations of a store, on bytes.
 *
 * Every function takes an operation (kv_op_make) and ends with everything released: no lock,
 * reservation or pin of it remains, whatever it returns; the exceptions are kv_pin of store_pin,
 * and a kv_op that must end with store_leave(). KV_INTR means nothing was changed: run signal
 * handlers and call again with the same op (its deadline goes on). Atomic for one key unless said
 * otherwise.
 *
 *     struct kv_op op = kv_op_make(h);
 *     kv_status s = store_enter(&op);            // attaches after a fork, refuses nothing else
 *     if (s == KV_OK) s = store_get(&op, ...);
 *     store_leave(&op);                          // folds a dead owner that was met
 */
#ifndef KV_STORE_H
#define KV_STORE_H

#include "work.h"

#define KV_PIN_BYTES                                                                               \
    32768u /* values longer than this are copied from behind a pin, without the GIL */

struct kv_value {
    uint8_t type;            /* enum kv_type */
    uint64_t counter;        /* KV_TYPE_INT: two's complement; KV_TYPE_FLOAT: its bits */
    const void *data, *more; /* value bytes, in up to two parts */
    uint64_t len, more_len;
};

/* What is known of an item when it was found. */
struct kv_meta {
    uint8_t type, flags;
    uint8_t heat; /* its two-bit access counter; only store_scan fills it */
    uint32_t version;
    uint64_t value_len;
    uint64_t counter;     /* of INT and FLOAT */
    uint64_t deadline_ms; /* segment clock, 0 = never */
    uint64_t bytes;       /* in the segment, rounded up */
    kv_ref ref;
};

/* A cas token: an item's version and, for counters, its value. */
struct kv_token {
    uint32_t version;
    uint64_t counter;
    const uint64_t *deadline_ms; /* not NULL: that must be unchanged, too */
};
static inline struct kv_token kv_token_of(const struct kv_meta *m) {
    return (struct kv_token){m->version, m->counter, NULL};
}

/* Gives a buffer of meta->value_len bytes; NULL = no memory. May be called several times in one
 * operation: the last call counts. Never called under a lock. Called only if value_len > 0. */
typedef void *kv_alloc(void *arg, const struct kv_meta *meta);

/* ---- attachment --------------------------------------------------------------------------- */

/* segment_open and a row (unless read-only); folds dead attachments. */
kv_status store_attach(const struct kv_open *how, struct kv_handle **out, bool *created,
                       struct kv_found *found);
/* Give rows back and unmap. No operation, pin or view of this handle may be left. */
void store_detach(struct kv_handle *h);
kv_status store_enter(struct kv_op *op);
/* Counts what the op did and folds a dead owner it met. No other thread of the process may be in
 * here. */
void store_leave(struct kv_op *op);

/* ---- one key ------------------------------------------------------------------------------ */

kv_status store_get(struct kv_op *op, const struct kv_key *key, struct kv_meta *meta,
                    kv_alloc *alloc, void *arg);
/* Starts loading what lookups of these keys will touch, level by level, so that their waits
 * overlap. */
void store_prefetch(struct kv_handle *h, const struct kv_key *keys, uint32_t n);
/* No value bytes: exists, ttl, info. Does not count as a hit or a use. */
kv_status store_peek(struct kv_op *op, const struct kv_key *key, struct kv_meta *meta);
/* Milliseconds since the page of the item was opened: at least the time since it was written or
 * moved. */
uint64_t store_age_ms(struct kv_handle *h, const struct kv_meta *meta);

/* TOUCH: as CAS with the value it had; to others that hold a token it is unchanged. */
enum kv_put { KV_PUT_SET, KV_PUT_ADD, KV_PUT_REPLACE, KV_PUT_CAS, KV_PUT_TOUCH };
/* KV_OK; ADD: KV_EXISTS; REPLACE, CAS, TOUCH: KV_MISS; a token that does not fit: KV_EXISTS. */
kv_status store_put(struct kv_op *op, const struct kv_key *key, const struct kv_value *value,
                    uint64_t deadline_ms, enum kv_put mode, const struct kv_token *token);
/* KV_OK, KV_MISS; with a token that does not fit: KV_EXISTS. */
kv_status store_delete(struct kv_op *op, const struct kv_key *key, const struct kv_token *token);
/* Adds to a counter; a missing key starts at *initial (NULL: KV_MISS), with the deadline. KV_TYPE,
 * KV_OVERFLOW. */
kv_status store_incr(struct kv_op *op, const struct kv_key *key, int64_t delta,
                     const int64_t *initial, uint64_t deadline_ms, int64_t *result);
/* Appends to a value of the same type (BYTES or STR), or creates it; keeps the deadline. KV_TYPE.
 */
kv_status store_append(struct kv_op *op, const struct kv_key *key, uint8_t type, const void *data,
                       uint64_t len, uint64_t *new_len);
/* Sets or removes (0) the deadline; one that has passed deletes. */
kv_status store_touch(struct kv_op *op, const struct kv_key *key, uint64_t deadline_ms);
/* Value and deadline of `from` go to `to`; then `from` is deleted. Not one moment: both may be
 * seen. */
kv_status store_rename(struct kv_op *op, const struct kv_key *from, const struct kv_key *to);

/* A value that stays where it is until store_unpin. *data points to meta->value_len bytes. */
kv_status store_pin(struct kv_op *op, const struct kv_key *key, struct kv_meta *meta,
                    struct kv_pin *pin, const void **data);
/* Harmless in a fork child of the pinner. */
void store_unpin(struct kv_handle *h, struct kv_pin *pin);

/* ---- the whole store ---------------------------------------------------------------------- */

/* Items indexed, expired ones included until somebody frees them. */
uint64_t store_len(struct kv_handle *h);
/* How far a clear has come: zeroed at first, kept across KV_INTR. */
struct kv_clear {
    uint32_t begun;                 /* stripes whose version is known */
    uint32_t stripe;                /* the next one to clear */
    uint32_t began[KV_STRIPES_MAX]; /* their versions when it began */
};
/* Deletes what was there when it began. KV_INTR: some may be gone already; go on with the same
 * `clear`. */
kv_status store_clear(struct kv_op *op, struct kv_clear *clear);

/* Raises the present size, for everybody at once; what is that large already is left. Nothing is
 * backed by it, nobody is waited for, and no row is needed: no store_enter. KV_INVALID: no multiple
 * of 4096, or beyond max_size. KV_MISMATCH: it has more, and never shrinks. */
kv_status store_resize(struct kv_op *op, uint64_t size);

/* Shows the keys of the next bucket (0-12 of them, expired ones left out); zeroed cursor = from the
 * start. KV_MISS: the end. Keys present throughout are shown at least once. */
typedef bool kv_show(void *arg, const void *key, uint32_t len, bool is_str,
                     const struct kv_meta *meta);
kv_status store_scan(struct kv_op *op, struct kv_cursor *cursor, kv_show *show, void *arg);

/* ---- store_image.c: to disk and back ------------------------------------------------------ */

/* A save under way; zeroed at first. Ends with store_dump_end(). */
struct kv_dump {
    struct kv_cursor cursor;
    uint32_t slot;         /* in the bucket: the next one */
    uint64_t at;           /* of a long item: bytes given already */
    struct kv_image image; /* the long item */
    struct kv_pin pin;     /* what keeps it, or ... */
    unsigned char *copy;   /* ... a copy, where there are no pins */
    bool pinned;
    uint32_t locks;      /* how often a stripe did not stand still and was locked ... */
    uint64_t longest_ns; /* ... and for how long at most */
};
struct kv_dumped {
    uint32_t kind; /* KV_BLOCK_ITEMS, KV_BLOCK_PIECE; 0: the end */
    uint64_t used;
    uint32_t count; /* items that end here */
};
/* Fill a buffer of at least KV_IMAGE_BLOCK + KV_IMAGE_LARGE bytes with the records of a part of
 * the store, expired items left out. Every key that is there throughout comes at least once, later
 * ones newer; no lock is held for longer than one short item. KV_INTR: call again. */
kv_status store_dump(struct kv_op *op, struct kv_dump *dump, unsigned char *to, uint64_t room,
                     struct kv_dumped *out);
void store_dump_end(struct kv_handle *h, struct kv_dump *dump);

/* How far a load has come: zeroed at first, kept across KV_INTR. */
struct kv_loading {
    uint64_t at;
    uint64_t loaded, expired;
};
/* Store what records say. KV_INVALID: what is at `at` is no record; else as store_put(). */
kv_status store_load(struct kv_op *op, const unsigned char *from, uint64_t len,
                     struct kv_loading *loading);
/* Make the classes of journal entries what the entries say. Nobody else may be writing. */
kv_status store_replay(struct kv_op *op, const unsigned char *from, uint64_t len,
                       struct kv_loading *loading);

struct kv_stats {
    uint64_t items, live_bytes, size, max_size, backed_bytes, arena_bytes;
    uint64_t free_bytes, index_bytes, garbage_bytes; /* garbage: as far as known */
    uint64_t stat[KV_STATS];
    uint32_t attached, rows, nospace, damage;
    uint64_t created_ms;
    uint64_t saved_ms;               /* wall clock: the last snapshot; 0 = never */
    struct kv_journal_state journal; /* zeros without one */
    uint64_t age_ms[KV_QUEUES]; /* of the oldest page of each queue, by its opening; 0 = no page */
};
void store_stats(struct kv_handle *h, struct kv_stats *out);

/* ---- store_look.c: what eyes ask for ------------------------------------------------------ */

/* Bytes of pages by queue and state: whole pages, what is filled of log pages and extents, and
 * what of that is known to be garbage. Read page by page while others work. */
struct kv_memory {
    struct kv_part {
        uint64_t bytes, filled, garbage;
    } part[KV_QUEUES][KV_INTERIOR + 1];
};
void store_memory(struct kv_handle *h, struct kv_memory *out);

/* An item whose reads are counted. */
struct kv_count {
    struct kv_slot slot;
    uint32_t before;                   /* its access counter */
    uint32_t looks, idle, least_reads; /* looks at it; that saw no read; reads seen in all */
};
/* Finds the key's slot and its counter. KV_OK, KV_MISS, KV_CORRUPT, KV_AGAIN: it moved. */
kv_status store_count_aim(struct kv_handle *h, const struct kv_key *key, struct kv_count *count);
/* So many times: sets the counters to zero, waits, looks how far they rose, raises them to what
 * they were, and rests. Reads beyond three in a wait are not seen. Returns the time of the waits,
 * ns. Writes to the segment: not for read-only handles. */
uint64_t store_count(struct kv_count *counts, uint32_t n, uint32_t looks, uint64_t gap_ns,
                     uint64_t rest_ns);

/* ---- check.c ------------------------------------------------------------------------------ */

struct kv_report {
    uint64_t items, live_bytes;
    uint64_t bases, bases_free, bases_index, bases_log, bases_extent,
        bases_held;                    /* held: taken, cleaning, limbo */
    uint64_t log_items, garbage_items; /* parsed in pages; of them not indexed */
    uint32_t dead_rows;                /* found before folding */
    uint32_t problems;
    void (*problem)(void *arg, const char *text); /* called without locks held */
    void *arg;
};
/* Verifies every invariant of README.md, stripe by stripe, page by page, while others work; folds
 * dead rows first (not read-only). KV_OK also when problems were found: they are counted and told.
 */
kv_status store_check(struct kv_op *op, struct kv_report *report);

#endif
