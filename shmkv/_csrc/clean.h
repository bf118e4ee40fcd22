/* clean.h: emptying one page.
 *
 * Owns the walk over a page and what happens to each item in it. Knows nothing of which page to
 * choose. */
#ifndef KV_CLEAN_H
#define KV_CLEAN_H

#include "fold.h"
#include "ghost.h"

enum clean_mode { KEEP_LIVE, MAY_EVICT };

/* One operation's work of making room, by one holder of a cleaner slot. */
struct episode {
    struct kv_op *op;
    uint64_t goal;    /* bytes to gain */
    uint64_t copied;  /* bytes moved so far */
    uint64_t spared;  /* bytes of extents that stayed where they are */
    uint32_t spares;  /* and how many they were */
    uint32_t queue;   /* of the page that is being cleaned */
    uint32_t slot;    /* cleaner slot held */
    uint8_t *blocked; /* a bit for each base page: heads to leave alone for now; or NULL */
    bool advanced;    /* a page was emptied in part */
    bool stuck;       /* an old page could not be closed */
    bool any_blocked;
    bool closed_open; /* open pages were closed */
    bool folded;      /* dead attachments were looked for */
    bool no_place;    /* what lives in some page found no other place: keeping all does not help */
};

/* CLOSED -> TAKEN by us. KV_AGAIN: blocked for now. KV_NOPAGE: no place for what is alive in it. */
kv_status clean_page(struct episode *ep, uint32_t head, enum clean_mode mode);
/* A part of that: KV_AGAIN with ep->advanced says that the rest is left for later. */
kv_status clean_part(struct episode *ep, uint32_t head, enum clean_mode mode);
/* How a page that somebody has begun with is cleaned on. */
static inline enum clean_mode clean_begun(uint32_t walked) {
    return walked & 1 ? MAY_EVICT : KEEP_LIVE;
}
/* An extent whose item was read stays where it is and becomes the youngest of its main queue.
 * KV_OK: so it was; KV_AGAIN: it is to be cleaned. */
kv_status clean_spare(struct episode *ep, uint32_t head);
/* LIMBO -> TAKEN by us, if nobody reads there any more. */
bool clean_limbo(struct kv_handle *h, uint32_t head, uint64_t word);

static inline bool is_blocked(const struct episode *ep, uint32_t head) {
    return ep->blocked != NULL && ep->blocked[head / 8] >> head % 8 & 1;
}
static inline void block(struct episode *ep, uint32_t head) {
    if (ep->blocked != NULL)
        ep->blocked[head / 8] |= (uint8_t)(1u << head % 8);
    ep->any_blocked = true;
}
void unblock_all(struct episode *ep);
/* Before giving up: what dead attachments held may be all that is wanting. KV_AGAIN: some was given
 * back. */
kv_status episode_fold(struct episode *ep);

#endif
