/* arena.h: memory. Base pages, runs, page states, appenders, index pages; where an item lies.
 *
 * Owns the page table and the moves between page states (README.md, "Pages"). Knows item headers,
 * but not which items are alive: that is the table's truth. "No page" is an answer here, never a
 * wait: the caller runs an evict step and asks again. */
#ifndef KV_ARENA_H
#define KV_ARENA_H

#include "lock.h"
#include "segment.h"

#define KV_NO_BASE UINT32_MAX

/* ---- places ------------------------------------------------------------------------------- */

static inline struct kv_page *page_at(const struct kv_handle *h, uint32_t base) {
    return (struct kv_page *)(void *)(h->base + h->g.off_pages) + base;
}
static inline uint64_t page_word(const struct kv_handle *h, uint32_t base) {
    return kv_load_acq(&page_at(h, base)->word);
}
static inline uint64_t base_offset(const struct kv_handle *h, uint32_t base) {
    return h->g.off_arena + ((uint64_t)base << h->g.base_shift);
}
static inline kv_ref base_ref(const struct kv_handle *h, uint32_t base) {
    return (kv_ref)(base_offset(h, base) / KV_GRANULE);
}
static inline uint32_t ref_base(const struct kv_handle *h, kv_ref ref) {
    return (uint32_t)(((uint64_t)ref * KV_GRANULE - h->g.off_arena) >> h->g.base_shift);
}
static inline uint32_t base_granules(const struct kv_handle *h) {
    return (1u << h->g.base_shift) / KV_GRANULE;
}
/* Run of a head word; FREE words and garbage count as one base page. */
static inline uint32_t page_run(uint64_t word) {
    uint32_t state = kv_page_state(word), run = kv_page_run(word);
    return state == KV_FREE || state == KV_INTERIOR || run == 0 ? 1 : run;
}
/* Present number of base pages. */
static inline uint32_t arena_bases(struct kv_handle *h) {
    return kv_geometry_bases(&h->g, kv_load_rlx(&kv_header_of(h)->size));
}
static inline uint64_t arena_bytes(struct kv_handle *h) {
    return (uint64_t)arena_bases(h) << h->g.base_shift;
}
/* The head of the run that holds `base`, or KV_NO_BASE. */
uint32_t page_head(struct kv_handle *h, uint32_t base);

/* The one crossing from ref to address. Fills *it with the header (racy: validate before believing)
 * and returns the item's address, or NULL if the ref or the lengths leave the backed arena. */
static inline const unsigned char *arena_item(struct kv_handle *h, kv_ref ref, struct kv_item *it) {
    uint64_t at = (uint64_t)ref * KV_GRANULE;
    uint64_t end = kv_load_rlx(&h->backed);
    if (at < h->g.off_arena)
        return NULL;
    if (at + sizeof *it > end && at + sizeof *it > (end = segment_watermark(h)))
        return NULL;
    kv_copy_out(it, h->base + at, sizeof *it);
    if (it->key_len == 0 || it->type == 0 || it->type > KV_TYPE_LAST ||
        (it->flags & ~KV_ITEM_FLAGS))
        return NULL;
    if (at + kv_item_bytes(it) > end && at + kv_item_bytes(it) > segment_watermark(h))
        return NULL;
    return h->base + at;
}
static inline unsigned char *arena_at(struct kv_handle *h, kv_ref ref) {
    return h->base + (uint64_t)ref * KV_GRANULE;
}
static inline uint64_t *item_word(const unsigned char *item, uint32_t at) {
    return (uint64_t *)(uintptr_t)(const void *)(item + at);
}
static inline uint64_t item_deadline(const unsigned char *item, const struct kv_item *it) {
    return it->flags & KV_ITEM_DEADLINE ? kv_load_rlx(item_word(item, kv_item_deadline_at())) : 0;
}
static inline uint64_t item_counter(const unsigned char *item, const struct kv_item *it) {
    return it->flags & KV_ITEM_COUNTER ? kv_load_acq(item_word(item, kv_item_counter_at(it->flags)))
                                       : 0;
}
static inline const unsigned char *item_key(const unsigned char *item, const struct kv_item *it) {
    return item + kv_item_words(it->flags);
}
static inline const unsigned char *item_value(const unsigned char *item, const struct kv_item *it) {
    return item_key(item, it) + it->key_len + kv_item_gap(it);
}

/* ---- runs --------------------------------------------------------------------------------- */

/* Base pages that only cleaners may take, so that relocation can always finish. */
static inline uint32_t arena_withheld(const struct kv_handle *h) {
    return 2 * h->g.cleaners * h->g.std_run;
}

/* PRIVILEGED: a cleaner takes what is withheld; HALF: but leaves half of it. */
enum { KV_TAKE_PRIVILEGED = 1, KV_TAKE_HALF = 2 };
/* `len` adjacent base pages, TAKEN by this process, backed, tail 0. KV_NOPAGE, or a backing error.
 */
kv_status arena_take(struct kv_op *op, uint32_t len, unsigned how, uint32_t *head);
/* Base pages to reckon with: once the system has refused memory, only those it has given. */
uint32_t arena_usable(struct kv_handle *h);
/* Would a take of this length, not privileged, find memory now, and leave so much more? */
bool arena_fits(struct kv_handle *h, uint32_t len, uint32_t more);
/* Base pages of a log page for an item of this size: an ordinary page, or one eight times as long
 * as the item that opens it. */
uint32_t arena_log_run(const struct kv_handle *h, uint64_t bytes);
/* One base at a given place. KV_NOPAGE if it is not free. */
kv_status arena_take_base(struct kv_op *op, uint32_t base);
/* TAKEN(number) -> FREE; repeatable after a death at any step. */
void arena_give(struct kv_handle *h, uint32_t head, uint32_t number);
/* Form a run out of base pages each TAKEN by this process. */
void arena_form(struct kv_handle *h, uint32_t head, uint32_t len);
/* Break a run TAKEN by `number` into single TAKEN base pages; how many they are. */
uint32_t arena_break(struct kv_handle *h, uint32_t head, uint32_t number);
bool arena_move(struct kv_handle *h, uint32_t head, uint64_t from, uint64_t to);

/* Does a row name this run? *number: whose reservation; its replaced items are not asked. */
bool arena_reserved(struct kv_handle *h, uint32_t head, uint32_t run, uint32_t *number);
bool arena_pinned(struct kv_handle *h, uint32_t head, uint32_t run);

/* ---- appending ---------------------------------------------------------------------------- */

struct kv_place {
    kv_ref ref;
    unsigned slot;  /* reservation slot that holds the page until place_done() */
    uint64_t bytes; /* rounded up */
};
/* Space for an item: page reserved, header stored, tail raised; words, key and value are the
 * caller's. appender: an index, first of the small queue, then of the main ones, then the cleaners'
 * own; where a main one is busy another is taken. deadline_ms only informs the page's histogram.
 * KV_OK KV_NOPAGE KV_BUSY KV_INTR KV_NOSPACE KV_OS */
kv_status arena_append(struct kv_op *op, uint32_t appender, unsigned how, const struct kv_item *it,
                       uint64_t deadline_ms, struct kv_place *place);
/* The appender of the main queue for items of this size. */
static inline uint32_t arena_main(const struct kv_handle *h, uint64_t bytes) {
    uint32_t group = kv_queue_of(bytes) - 1;
    return h->g.appenders + (group < h->g.mains ? group : h->g.mains - 1);
}
/* Next stamp of birth for a page of so many base pages. */
uint64_t arena_birth(struct kv_handle *h, uint32_t run);
/* The queue of the page that holds `ref`; a hint. */
uint32_t arena_queue(struct kv_handle *h, kv_ref ref);
/* The item is published, or given up (then its bytes are garbage and counted so). */
void place_done(struct kv_handle *h, const struct kv_place *place, bool published);
/* Is an item of this size an extent, with pages of its own? */
bool arena_is_extent(const struct kv_handle *h, uint64_t bytes);
/* Base pages an item of this size needs at least. */
uint32_t arena_need(const struct kv_handle *h, uint64_t bytes);
/* The item at ref is garbage now: tell its page. */
void arena_dead(struct kv_handle *h, kv_ref ref, uint64_t bytes);
/* Close the open page of an appender if its head is `head`: KV_BUSY at once if somebody living
 * holds the appender. KV_NO_BASE: whatever it is, waiting as long as the operation may. */
kv_status arena_close(struct kv_op *op, uint32_t appender, uint32_t head);
/* After a death under the appender's lock: an open page that is not current is closed. */
void arena_appender_recover(struct kv_handle *h, uint32_t k);
/* Granules of the run believed to be garbage: dead, expired, or suspect after a death. */
uint32_t page_garbage(struct kv_handle *h, uint32_t head, uint64_t now_ms);

/* ---- index pages -------------------------------------------------------------------------- */

/* A free index segment for a stripe whose lock is held. 0 = none. */
uint32_t arena_index_take(struct kv_handle *h, uint32_t stripe);
void arena_index_give(struct kv_handle *h, uint32_t segment);
/* TAKEN single base -> INDEX, for ever. */
void arena_index_make(struct kv_handle *h, uint32_t base);
/* Owner word of an index segment, or NULL if the number names none. */
uint16_t *arena_index_owner(struct kv_handle *h, uint32_t segment);
static inline struct kv_bucket *arena_segment(const struct kv_handle *h, uint32_t segment) {
    return (struct kv_bucket *)(void *)(h->base + (uint64_t)segment * KV_INDEX_BYTES);
}
/* false: the segment number lies outside the backed arena. */
static inline bool arena_segment_ok(struct kv_handle *h, uint32_t segment) {
    uint64_t at = (uint64_t)segment * KV_INDEX_BYTES;
    return at >= h->g.off_arena && (at + KV_INDEX_BYTES <= kv_load_rlx(&h->backed) ||
                                    at + KV_INDEX_BYTES <= segment_watermark(h));
}

#endif
