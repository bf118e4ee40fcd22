/* victim.h: which page is cleaned next.
 *
 * Garbage goes first; then size-grouped S3-FIFO by pages (README.md, "Who stays"). The choice of
 * the page is here, what becomes of each item in it in clean.c, where new items begin in
 * store_write.c: a policy is these three. */
#ifndef KV_VICTIM_H
#define KV_VICTIM_H

#include "clean.h"

/* Clean one page into the pool. KV_FULL: nothing can leave. */
kv_status victim_step(struct episode *ep);
/* A part of that, ahead of need, and a note where it ended. */
void victim_part(struct episode *ep);
/* The same, but only of a page that is at least 1/share garbage: no item leaves. */
kv_status victim_dirty(struct episode *ep, uint32_t share);
/* Close the open pages of all appenders. */
kv_status victim_close_open(struct kv_op *op);
/* Bytes of all indexed items, and how many they are. */
uint64_t victim_live_bytes(struct kv_handle *h);
uint64_t victim_items(struct kv_handle *h);
/* Below the high watermark, or never: no live item may leave. */
static inline bool victim_below_watermark(struct kv_handle *h, uint64_t live) {
    return live < arena_bytes(h) / 4 * 3;
}

#endif
