/* ghost.c: lines of fingerprints, moved along as one number of 512 bits. */
#include "ghost.h"

#define KV_GHOST_WORDS 8u
#define KV_GHOST_LINE  32u /* fingerprints */

static uint64_t fingerprint(uint64_t hash) {
    uint64_t f = hash >> 20 & 0xFFFF;
    return f == 0 ? 1 : f; /* 0: nothing there */
}

/* The line of a hash, or NULL while there is no ghost. */
static uint64_t *line_of(struct kv_handle *h, uint64_t hash) {
    uint32_t lines = kv_load_acq(&kv_header_of(h)->ghost);
    if (lines == 0 || !segment_ghost(h, lines))
        return NULL;
    uint64_t line = hash >> 36 & (lines - 1);
    return (uint64_t *)(void *)(h->base + h->g.off_ghost) + line * KV_GHOST_WORDS;
}

/* For every item that leaves: no memory is asked for here, ghost_fit() does. */
void ghost_put(struct kv_handle *h, uint64_t hash) {
    bool there = kv_load_rlx(&kv_header_of(h)->ghost) <= kv_load_rlx(&h->ghost);
    uint64_t *line = there ? line_of(h, hash) : NULL, carry = fingerprint(hash);
    for (uint32_t i = 0; line != NULL && i < KV_GHOST_WORDS; i++) {
        uint64_t w = kv_load_rlx(&line[i]);
        kv_store_rlx(&line[i], w << 16 | carry);
        FAULT(ghost_moved);
        carry = w >> 48;
    }
}

bool ghost_take(struct kv_handle *h, uint64_t hash) {
    uint64_t *line = line_of(h, hash), wanted = fingerprint(hash);
    for (uint32_t i = 0; line != NULL && i < KV_GHOST_LINE; i++) {
        uint64_t w = kv_load_rlx(&line[i / 4]);
        uint32_t at = 16 * (i % 4);
        if ((w >> at & 0xFFFF) != wanted)
            continue;
        kv_store_rlx(&line[i / 4], w & ~(0xFFFFULL << at));
        FAULT(ghost_taken);
        return true;
    }
    return false;
}

void ghost_fit(struct kv_handle *h, uint64_t items) {
    struct kv_header *head = kv_header_of(h);
    uint64_t most = kv_geometry_ghost(&h->g, kv_load_rlx(&head->size)), lines = 1;
    uint64_t wanted = items * 9 / 10 / KV_GHOST_LINE;
    while (lines * 2 <= most && lines * 3 < wanted * 2)
        lines *= 2;
    uint32_t now = kv_load_rlx(&head->ghost);
    bool fits = lines <= now && lines * 4 > now;
    if (most == 0 || !segment_ghost(h, fits ? now : (uint32_t)lines) || fits)
        return;
    kv_store_rel(&head->ghost, (uint32_t)lines);
    FAULT(ghost_fitted);
}
