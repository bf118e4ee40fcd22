/* store_resize.c: raising the size of a living store, for all its processes at once.
 *
 * Addresses, page table and directories are laid out for max_size, and everyone who asks how much
 * memory there is reads the header's `size` freshly (arena_bases, segment_back): one store of that
 * word is the whole change. Nothing is backed here: memory is asked for as the store fills, and if
 * the system has none then, the store goes on with what it has. The size never falls, so nobody
 * finds a page gone that a reader with an old ref may still touch. */
#include "store.h"

kv_status store_resize(struct kv_op *op, uint64_t size) {
    struct kv_handle *h = op->h;
    if (h->readonly)
        return KV_READONLY;
    if (size % 4096 != 0 || size > h->g.max_size)
        return KV_INVALID;
    uint64_t *word = &kv_header_of(h)->size, present = kv_load_rlx(word);
    while (present != size) {
        if (present < h->g.size || present > h->g.max_size)
            return KV_CORRUPT;
        if (present > size)
            return KV_MISMATCH;
        if (!kv_cas(word, &present, size))
            continue; /* somebody else raised it: look again */
        FAULT(size_raised);
        break;
    }
    return KV_OK;
}
