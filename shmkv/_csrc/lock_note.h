/* lock_note.h: the black box: what each attachment did last, for people who look after its death.
 *
 * An operation that changes something puts a note into its row before it begins and says in it how
 * it ended; who waits says for what. Notes are never read by the core and decide nothing: threads
 * of a process may spoil each other's, and a death between two stores leaves a torn one, whose turn
 * is 0. fold_death.c keeps the notes of the dead. */
#ifndef KV_LOCK_NOTE_H
#define KV_LOCK_NOTE_H

#include "clock.h"
#include "lock.h"

/* The operation's note, or NULL where it is part of one that has a note, or has no row. */
static inline struct kv_note *note_begin(struct kv_op *op, enum kv_noted what, const void *key,
                                         uint32_t len) {
    struct kv_handle *h = op->h;
    if (op->note != NULL || h->readonly)
        return NULL;
    uint32_t turn = kv_load_rlx(&h->own->noted) + 1;
    kv_store_rlx(&h->own->noted, turn);
    struct kv_note *note = &kv_row_own(h)->note[turn % KV_NOTES];
    kv_store_rlx(&note->turn, 0u);
    kv_fence_rel(); /* a compiler must not move what follows before the turn is taken back */
    kv_store_rlx(&note->what, (uint8_t)what);
    kv_store_rlx(&note->ended, 0);
    kv_store_rlx(&note->len, (uint16_t)len);
    kv_store_rlx(&note->at_ms, kv_clock_read(CLOCK_MONOTONIC_COARSE, 1000));
    kv_store_rlx(&note->place, 0u);
    kv_store_rlx(&note->owner, 0u);
    kv_store_rlx(&note->waited_us, 0u);
    if (len > 0)
        kv_copy_in(note->key, key, len < KV_NOTE_KEY ? len : KV_NOTE_KEY);
    kv_store_rel(&note->turn, turn); /* release: it is whole */
    return op->note = note;
}

/* Takes what note_begin() gave, and hands the status on. */
static inline kv_status note_end(struct kv_op *op, struct kv_note *note, kv_status s) {
    if (note != NULL) {
        kv_store_rel(&note->ended, (uint8_t)(1 + s)); /* release: after all it did */
        op->note = NULL;
    }
    return s;
}

struct kv_waiting {
    struct kv_note *made;
    uint64_t since_ns;
};
/* A wait begins: for a lock word's offset or enum kv_awaited; whoever has it. */
void note_wait(struct kv_op *op, uint32_t place, uint32_t owner, struct kv_waiting *w);
/* It ended; hands the status on. */
kv_status note_waited(struct kv_op *op, const struct kv_waiting *w, kv_status s);

#endif
