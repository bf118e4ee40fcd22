/* journal_entry.h: the entries of a round: what the keys of a class are, or all there is.
 *
 * Owns how states are read for the journal while others write. Everything is done by who holds the
 * journal's lock; entries go behind what log->bytes holds, and from there to the file as the block
 * is full. Nothing is written, and no memory asked for, under a stripe's lock. Does not know:
 * marks, when a round begins, when it counts. */
#ifndef KV_JOURNAL_ENTRY_H
#define KV_JOURNAL_ENTRY_H

#include "image.h"

/* A stripe's lock with a short time limit of its own, and no signals. */
kv_status journal_entry_lock(struct kv_op *op, uint32_t s);
/* Of the keys of this class, exactly these exist now. KV_CORRUPT: damaged, nothing was appended. */
kv_status journal_entry_class(struct kv_op *op, uint64_t class, uint64_t wall);
/* Nothing exists but what follows: every key that is there throughout. What is written meanwhile is
 * marked by who writes it; what is damaged is left out. */
kv_status journal_entry_whole(struct kv_op *op, uint64_t wall);

#endif
