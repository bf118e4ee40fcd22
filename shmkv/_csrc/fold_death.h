/* fold_death.h: what the dead were doing, kept for people. */
#ifndef KV_FOLD_DEATH_H
#define KV_FOLD_DEATH_H

#include "lock.h"

/* Record the death of the attachment `number` of row r, whose byte the caller holds. Before
 * anything of its is taken. Once for each attachment, whoever dies while folding it. */
void death_record(struct kv_handle *h, uint32_t r, uint32_t number);

#endif
