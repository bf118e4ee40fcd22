/* ghost.h: who left unread a short while ago.
 *
 * Owns the lines of 16-bit fingerprints at the end of the segment: 32 in a line of 64 B, the newest
 * first. An item that comes back while it is remembered had a reason to, and enters a main queue at
 * once: the ghost of S3-FIFO (Yang et al., SOSP 2023). Everything here is a hint without locks: two
 * processes at one line may lose a fingerprint or make one up, and nothing depends on it.
 *
 * As many lines are in use as 0.9 items for each living one need, a power of two; memory for them
 * is taken when their number grows. */
#ifndef KV_GHOST_H
#define KV_GHOST_H

#include "segment.h"

/* Remember an item by the hash of its key. */
void ghost_put(struct kv_handle *h, uint64_t hash);
/* Was it remembered? Then it is no more. */
bool ghost_take(struct kv_handle *h, uint64_t hash);
/* Fit the number of lines to the number of living items. Takes memory: under no lock. */
void ghost_fit(struct kv_handle *h, uint64_t items);

#endif
