/* hash.h: seeded XXH64 (Yann Collet, 2012; the algorithm's public specification), little-endian
 * hosts.
 *
 * Owns the mapping from key bytes to 64 bits and the meaning of those bits. Tests compare it with
 * the xxhash package. The seed is random per segment, so that nobody outside can aim keys at one
 * bucket.
 *
 *   63      56 55            40        19 18  14 13     8 7      0
 *   +---------+----------------+--------+------+--------+--------+
 *   | stripe  | directory      |  free  |stride| bucket |  tag   |
 *   +---------+----------------+--------+------+--------+--------+
 *
 * The stripe comes from the home hash, the rest from the item hash; both are the same for plain
 * keys. */
#ifndef KV_HASH_H
#define KV_HASH_H

#include <stdint.h>
#include <string.h>

#define KV_XXP1 0x9E3779B185EBCA87ULL
#define KV_XXP2 0xC2B2AE3D27D4EB4FULL
#define KV_XXP3 0x165667B19E3779F9ULL
#define KV_XXP4 0x85EBCA77C2B2AE63ULL
#define KV_XXP5 0x27D4EB2F165667C5ULL

static inline uint64_t kv_hash_rotl(uint64_t x, unsigned r) { return (x << r) | (x >> (64 - r)); }

static inline uint64_t kv_hash_read64(const unsigned char *p) {
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

static inline uint32_t kv_hash_read32(const unsigned char *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

static inline uint64_t kv_hash_round(uint64_t acc, uint64_t lane) {
    return kv_hash_rotl(acc + lane * KV_XXP2, 31) * KV_XXP1;
}

static inline uint64_t kv_hash_merge(uint64_t acc, uint64_t lane) {
    return (acc ^ kv_hash_round(0, lane)) * KV_XXP1 + KV_XXP4;
}

static inline uint64_t kv_hash_tail(uint64_t h, const unsigned char *p, size_t left) {
    for (; left >= 8; left -= 8, p += 8)
        h = kv_hash_rotl(h ^ kv_hash_round(0, kv_hash_read64(p)), 27) * KV_XXP1 + KV_XXP4;
    if (left >= 4) {
        h = kv_hash_rotl(h ^ kv_hash_read32(p) * KV_XXP1, 23) * KV_XXP2 + KV_XXP3;
        p += 4;
        left -= 4;
    }
    for (; left > 0; left--, p++)
        h = kv_hash_rotl(h ^ *p * KV_XXP5, 11) * KV_XXP1;
    h = (h ^ (h >> 33)) * KV_XXP2;
    h = (h ^ (h >> 29)) * KV_XXP3;
    return h ^ (h >> 32);
}

static inline uint64_t kv_hash(const void *data, size_t len, uint64_t seed) {
    const unsigned char *p = data;
    size_t left = len;
    uint64_t h;
    if (len >= 32) {
        uint64_t a = seed + KV_XXP1 + KV_XXP2, b = seed + KV_XXP2, c = seed, d = seed - KV_XXP1;
        for (; left >= 32; left -= 32, p += 32) {
            a = kv_hash_round(a, kv_hash_read64(p));
            b = kv_hash_round(b, kv_hash_read64(p + 8));
            c = kv_hash_round(c, kv_hash_read64(p + 16));
            d = kv_hash_round(d, kv_hash_read64(p + 24));
        }
        h = kv_hash_rotl(a, 1) + kv_hash_rotl(b, 7) + kv_hash_rotl(c, 12) + kv_hash_rotl(d, 18);
        h = kv_hash_merge(kv_hash_merge(kv_hash_merge(kv_hash_merge(h, a), b), c), d);
    } else {
        h = seed + KV_XXP5;
    }
    return kv_hash_tail(h + len, p, left);
}

static inline uint8_t kv_hash_tag(uint64_t h) { return (uint8_t)h; }
static inline uint32_t kv_hash_bucket(uint64_t h) { return (uint32_t)(h >> 8) & 63; }
static inline uint32_t kv_hash_stride(uint64_t h) { return (((uint32_t)(h >> 14) & 31) << 1) | 1; }
/* The directory index: `bits` bits (1-16) from bit 55 downwards. */
static inline uint32_t kv_hash_dir(uint64_t h, uint32_t bits) {
    return (uint32_t)(h >> (56 - bits)) & ((1u << bits) - 1);
}

#endif
