/* victim.h: which page is cleaned next.
 *
 * The choice here is first in, first out by pages with the two-bit counters as a second chance;
 * garbage goes first. A better policy changes choose_victim() here and keep_item() in clean.c,
 * nothing else. */
#ifndef KV_VICTIM_H
#define KV_VICTIM_H

#include "clean.h"

/* Clean one page into the pool. KV_FULL: nothing can leave. */
kv_status victim_step(struct episode *ep);
/* Close the open pages of all appenders. */
kv_status victim_close_open(struct kv_op *op);
/* Bytes of all indexed items. */
uint64_t victim_live_bytes(struct kv_handle *h);
/* Below the high watermark, or never: no live item may leave. */
static inline bool victim_below_watermark(struct kv_handle *h, uint64_t live) {
    return live < arena_bytes(h) / 4 * 3;
}

#endif
