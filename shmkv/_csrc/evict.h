/* evict.h: who leaves. Making room by cleaning pages.
 *
 * Owns the rules: garbage goes first; while live bytes are below the high watermark (three quarters
 * of the arena), or some page is more than a seventh garbage, no live item leaves. The choice of
 * pages is in victim.h, the cleaning of one in clean.h, adjacent memory in window.h.
 *
 * Any number of processes may ask; at most `cleaners` work at once, each on a page of its own, and
 * as much memory is withheld from everybody else, so that what they move always finds a place. */
#ifndef KV_EVICT_H
#define KV_EVICT_H

#include "window.h"

/* Make room for an item of this size. KV_OK: ask the arena again. KV_FULL, KV_BUSY, KV_INTR, ... */
kv_status evict_make_room(struct kv_op *op, uint64_t bytes);
/* Little is free: empty a part of a page, so that nobody has to empty a whole one at once. After an
 * operation that wrote, while the header says so. */
void evict_ahead(struct kv_op *op);
/* Clean the page that is known to be nearly all garbage, if no cleaner is at work: memory just used
 * is warmer than memory never touched, and costs the system nothing. Sets op->tidied. KV_OK,
 * KV_INTR, ... */
kv_status evict_tidy(struct kv_op *op);
/* Make an index page. KV_OK; KV_FULL: a quarter of the arena is index already, or nothing can
 * leave. */
kv_status evict_make_index(struct kv_op *op);
/* An index segment is full and cannot be split: one item of the key's home bucket leaves. */
kv_status evict_from_bucket_locked(struct kv_op *op, uint32_t s, uint64_t hash);
/* One full round: clean every closed page that holds garbage, moving nothing that is alive out of
 * the store. For tests and `check`; returns how many pages were freed. */
kv_status evict_compact(struct kv_op *op, uint32_t *freed);
/* A cleaner slot and an episode in it; on failure nothing is held, else evict_close() must follow.
 * `wait`: for a slot, as long as the operation may; else KV_BUSY when all are taken. */
kv_status evict_begin(struct episode *ep, struct kv_op *op, uint64_t goal, bool wait);
void evict_close(struct episode *ep);
/* Give back what an operation was given and did not use. */
void evict_end(struct kv_op *op);

#endif
