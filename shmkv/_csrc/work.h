/* work.h: what nobody should wait for, done ahead by whoever has time: a daemon.
 *
 * Owns the watermarks and the memory of when a page is worth cleaning for what expires in it. Every
 * step is one that a writer without a daemon does when it needs memory: nothing here is required,
 * and the death of who does it costs nobody anything.
 *
 * Below one hundredth of free memory pages are cleaned until two hundredths are free; where nobody
 * is ever evicted, only pages that are a fifth garbage. A page with deadlines is looked through
 * once after it was closed; when a tenth of it is garbage it is cleaned. If that leaves more than a
 * sixteenth of what has expired in pages, and writers leave time, it is cleaned for less, down to
 * one part in 160: so many bytes are copied at most for one that is freed. */
#ifndef KV_WORK_H
#define KV_WORK_H

#include "evict.h"

struct kv_done {
    uint32_t folded; /* dead attachments found */
    uint32_t freed;  /* pages that became free */
    bool more;       /* there is more to do at once */
};

/* Work for about so long. KV_OK also when other cleaners were at it; KV_INTR, KV_NOMEM, ...
 * A thread beside one that cleans already leaves it to that. */
kv_status work_ahead(struct kv_op *op, uint64_t budget_ns, struct kv_done *done);
/* Where nobody is ever evicted, before a writer says that it is full: pages are cleaned for what
 * has expired in them, be it little, until an eighth is free (all of them in small stores, and for
 * an item longer than a page). KV_OK: there may be room; KV_FULL: nothing has expired, or nothing
 * ever had a deadline; KV_BUSY: not all was looked at yet. The first time every deadline is read,
 * then only those of pages that have changed. */
kv_status work_expired(struct kv_op *op, uint64_t bytes);

#endif
