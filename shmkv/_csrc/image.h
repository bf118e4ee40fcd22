/* image.h: an item as bytes on disk.
 *
 * Owns the record of an item and the numbers of types there (persist/README.md, "Files"), in both
 * directions. What is written may be changing: it counts only after validation, as every copy
 * out of the segment. What is read comes from a file and is believed in nothing: each length is
 * compared with what is left. Does not know: blocks, checksums (journal, persist/format.py), what
 * to do with an item. */
#ifndef KV_IMAGE_H
#define KV_IMAGE_H

#include "table.h"

#define KV_IMAGE_BLOCK (1u << 20)   /* a block's payload is about so long ... */
#define KV_IMAGE_LARGE (256u << 10) /* ... and a record longer than this is cut into pieces */
#define KV_IMAGE_HEAD  16u          /* bytes before the key, at most */
#define KV_CLASS_MOST  (KV_BUCKETS * KV_SLOTS) /* keys that can agree in all that is looked at */
#define KV_ENTRY_HEAD  10u                     /* class, number of items */
#define KV_IMAGE_CODES 1u                      /* version of the numbers of types */

enum { KV_BLOCK_BEGIN = 1, KV_BLOCK_ITEMS, KV_BLOCK_PIECE, KV_BLOCK_ROUND, KV_BLOCK_END };

/* An item's record, not yet in one piece. */
struct kv_image {
    unsigned char head[KV_IMAGE_HEAD], number[8];
    uint32_t head_len;
    const unsigned char *key, *value; /* value: `number` for ints and floats */
    uint64_t key_len, value_len;
};

/* The record of the item at a slot; `wall` is added to deadlines. false: no such type. */
bool image_make(struct kv_image *image, struct kv_handle *h, const struct kv_slot *slot,
                uint64_t wall);
static inline uint64_t image_bytes(const struct kv_image *image) {
    return image->head_len + image->key_len + image->value_len;
}
/* Bytes [at, at + n) of a record. */
void image_copy(const struct kv_image *image, uint64_t at, unsigned char *to, uint64_t n);

/* A record that was read; key and value point into what was parsed. */
struct kv_record {
    const unsigned char *key, *value;
    uint32_t key_len;
    uint64_t value_len;
    uint8_t type, heat; /* memory code; access counter */
    bool is_str;
    uint64_t counter, deadline_ms; /* wall clock; 0 = never */
};
/* Its length, or 0: this is no record. */
uint64_t image_parse(const unsigned char *from, uint64_t left, struct kv_record *record);

/* Milliseconds to add to the segment's clock to get the wall clock's. */
uint64_t image_wall(void);

#endif
