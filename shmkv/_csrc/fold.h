/* fold.h: give back what a dead attachment held.
 *
 * Owns the order of giving back. Whoever holds the byte lock of a dead row may fold it; a death of
 * the folder frees the byte and the next one starts again: every step is a no-op when repeated. */
#ifndef KV_FOLD_H
#define KV_FOLD_H

#include "journal.h"

/* The row's byte is held by the caller. Matches kv_fold_row. */
kv_status fold_row(struct kv_op *op, uint32_t row, uint32_t number);
/* Fold the attachment with this number if it is dead. KV_OK also when somebody else does it. */
kv_status fold_dead(struct kv_op *op, uint32_t number);
/* Count dead attachments, and fold them unless the handle is read-only. */
kv_status fold_all(struct kv_op *op, uint32_t *dead);

#endif
