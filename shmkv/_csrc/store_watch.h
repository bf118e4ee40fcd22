/* store_watch.h: what the daemon learns of the requests, and where it keeps what it tells people.
 *
 * Samples: of keys whose hash falls below a threshold, every get, set and delete puts a word down;
 * choosing by hash shows all requests of a key or none (SHARDS: Waldspurger, Park, Garthwaite,
 * Ahmad: Efficient MRC Construction with SHARDS, FAST 2015). Without a daemon the threshold is 0,
 * or the words go round in a ring that nobody empties: either costs a read one comparison.
 *
 * The board: bytes of the daemon's, in two halves that are written in turn. */
#ifndef KV_STORE_WATCH_H
#define KV_STORE_WATCH_H

#include "store.h"

/* A word: hash & (2^46 - 1) << 18 | kind << 16 | size in granules (exponent:5, mantissa:11). */
enum kv_sample { KV_SAMPLE_HIT, KV_SAMPLE_MISS, KV_SAMPLE_SET, KV_SAMPLE_DELETE };

void sample_put(struct kv_handle *h, uint64_t hash, enum kv_sample kind, uint64_t bytes);

static inline void sample(struct kv_handle *h, const struct kv_key *key, enum kv_sample kind,
                          uint64_t bytes) {
    if (__builtin_expect((uint32_t)key->hash < kv_load_rlx(&kv_header_of(h)->sampled), 0))
        sample_put(h, key->hash, kind, bytes);
}

/* Takes out up to `most` words, the oldest first; *lost: what was put down and is not among them.
 * For one thread of one process: `from` is how far it has come, ~0 at first. */
uint32_t store_samples(struct kv_handle *h, uint64_t *from, uint64_t *to, uint32_t most,
                       uint64_t *lost);
/* Keys whose hash has a low half below this are sampled from now on; 0 = none. */
void store_sampling(struct kv_handle *h, uint32_t below);

/* The board: room for so many bytes. */
static inline uint32_t store_board_room(const struct kv_handle *h) {
    return h->g.board - (uint32_t)sizeof(struct kv_board);
}
/* For the daemon alone; `len` within the room. Dying in the middle leaves what was there. */
void store_board_write(struct kv_handle *h, const void *data, uint32_t len);
/* Copies what is there to `to`, which has the room; its length, 0 = nothing. */
uint32_t store_board_read(struct kv_handle *h, void *to);

#endif
