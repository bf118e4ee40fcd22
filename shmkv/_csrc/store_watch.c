/* store_watch.c: samples and the board.
 *
 * Both are hints. A sample is a place drawn by addition and a word stored there: who dies in
 * between leaves the place as it was, empty or older. The daemon exchanges words for zeros as it
 * reads. A half of the board is valid if its sum fits; the writer takes the one that is not the
 * newest, so at any moment one is whole. */
#include "store_watch.h"

#define KV_BOARD_TRIES 8u

static uint64_t *places_of(const struct kv_handle *h) {
    return (uint64_t *)(void *)(h->base + h->g.off_samples);
}

/* Granules as {exponent:5, mantissa:11}, rounded down. */
static uint32_t size_code(uint64_t bytes) {
    uint64_t n = (bytes + KV_GRANULE - 1) / KV_GRANULE;
    uint32_t bits = n == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(n);
    uint32_t exponent = bits > 11 ? bits - 11 : 0;
    return exponent << 11 | (uint32_t)(n >> exponent);
}

void sample_put(struct kv_handle *h, uint64_t hash, enum kv_sample kind, uint64_t bytes) {
    uint64_t at = kv_add_rlx(&kv_header_of(h)->next_sample, 1u) & (h->g.samples - 1);
    FAULT(sample_drawn);
    kv_store_rlx(&places_of(h)[at], hash << 18 | (uint64_t)kind << 16 | size_code(bytes));
}

uint32_t store_samples(struct kv_handle *h, uint64_t *from, uint64_t *to, uint32_t most,
                       uint64_t *lost) {
    uint64_t next = kv_load_acq(&kv_header_of(h)->next_sample), n = h->g.samples;
    uint32_t taken = 0;
    *lost = 0;
    if (*from > next) /* the first time, or damage */
        *from = next;
    if (next - *from > n) {
        *lost = next - *from - n;
        *from = next - n;
    }
    for (; *from < next && taken < most; ++*from) {
        uint64_t w = kv_swap_rel(&places_of(h)[*from & (n - 1)], 0u);
        if (w != 0)
            to[taken++] = w;
        else
            ++*lost;
    }
    return taken;
}

void store_sampling(struct kv_handle *h, uint32_t below) {
    kv_store_rlx(&kv_header_of(h)->sampled, below);
}

/* ---- the board ---------------------------------------------------------------------------- */

static struct kv_board *half_at(const struct kv_handle *h, uint32_t i) {
    return (struct kv_board *)(void *)(h->base + h->g.off_board + (uint64_t)i * h->g.board);
}

static uint64_t sum_of(const struct kv_handle *h, uint64_t turn, const void *data, uint32_t len) {
    return kv_hash(data, len, h->seed + turn);
}

/* The turn of a half that may be whole; 0 = it is empty or damaged. */
static uint64_t turn_of(const struct kv_handle *h, uint32_t i, uint32_t *len) {
    const struct kv_board *half = half_at(h, i);
    uint64_t turn = kv_load_acq(&half->turn), used = kv_load_rlx(&half->used);
    *len = (uint32_t)used;
    return used > store_board_room(h) ? 0 : turn;
}

/* Copy a half that is whole; 0 = it is not, or changed meanwhile. */
static uint64_t copy_half(const struct kv_handle *h, uint32_t i, void *to, uint32_t *len) {
    const struct kv_board *half = half_at(h, i);
    uint64_t turn = turn_of(h, i, len);
    if (turn == 0 || *len == 0)
        return 0;
    uint64_t sum = kv_load_rlx(&half->sum);
    kv_copy_out(to, half->data, *len);
    return sum_of(h, turn, to, *len) == sum ? turn : 0;
}

uint32_t store_board_read(struct kv_handle *h, void *to) {
    for (uint32_t tries = 0; tries < KV_BOARD_TRIES; tries++) {
        uint32_t len, other;
        uint32_t newest = turn_of(h, 1, &len) > turn_of(h, 0, &other) ? 1 : 0;
        if (copy_half(h, newest, to, &len) != 0 || copy_half(h, newest ^ 1, to, &len) != 0)
            return len;
    }
    return 0;
}

/* The turn of a half, for the only writer; 0 = it does not count. */
static uint64_t whole(const struct kv_handle *h, uint32_t i) {
    const struct kv_board *half = half_at(h, i);
    uint32_t len;
    uint64_t turn = turn_of(h, i, &len);
    return turn != 0 && sum_of(h, turn, half->data, len) == half->sum ? turn : 0;
}

void store_board_write(struct kv_handle *h, const void *data, uint32_t len) {
    uint64_t first = whole(h, 0), second = whole(h, 1);
    uint64_t turn = (first > second ? first : second) + 1;
    struct kv_board *half = half_at(h, first > second ? 1 : 0);
    kv_store_rel(&half->turn, 0u);
    FAULT(board_begun);
    kv_copy_in(half->data, data, len);
    kv_store_rlx(&half->used, len);
    kv_store_rlx(&half->sum, sum_of(h, turn, data, len));
    FAULT(board_filled);
    kv_store_rel(&half->turn, turn); /* release: it is whole */
    FAULT(board_written);
}
