/* lock_note.h: the black box: what each attachment did last, for people who look after its death.
 *
 * An operation that changes something puts a note into its row before it begins and says in it how
 * it ended; who waits says for what. Notes are never read by the core and decide nothing: threads
 * of a process may spoil each other's, and a death between two stores leaves a torn one, whose turn
 * is 0. fold_death.c keeps the notes of the dead.
 *
 * To look at a clock costs more than all the rest, a tenth of a small write. So only a process's
 * first note, every 32nd and those of what takes long anyway do; the time goes to a word of the
 * header that the others take theirs from. With a daemon, whose turns look, it is a quarter of a
 * second old at most; it is never later than the truth. */
#ifndef KV_LOCK_NOTE_H
#define KV_LOCK_NOTE_H

#include "clock.h"
#include "lock.h"

#define KV_NOTE_LOOKS   32u /* one of so many notes has looked at a clock itself */
#define KV_NOTE_TICK_NS 50000000u

/* The first bytes of a key, in few moves: a call would cost more than the copy. */
static inline void note_key(unsigned char *to, const unsigned char *key, uint32_t len) {
    static_assert(KV_NOTE_KEY == 36, "a note has room for two moves of 16 and one of 4");
    if (len >= KV_NOTE_KEY) {
        kv_copy_in(to, key, KV_NOTE_KEY);
    } else if (len >= 16) {
        kv_copy_in(to, key, 16);
        if (len > 32)
            kv_copy_in(to + 16, key + 16, 16);
        kv_copy_in(to + len - 16, key + len - 16, 16);
    } else if (len >= 8) {
        kv_copy_in(to, key, 8);
        kv_copy_in(to + len - 8, key + len - 8, 8);
    } else {
        for (uint32_t i = 0; i < len; i++)
            kv_store_rlx(to + i, key[i]);
    }
}

/* The time, for everybody's notes. */
uint64_t note_clock(struct kv_header *head);

/* The operation's note, or NULL where it is part of one that has a note, or has no row. */
__attribute__((always_inline)) static inline struct kv_note *note_begin(struct kv_op *op,
                                                                        enum kv_noted what,
                                                                        const void *key,
                                                                        uint32_t len) {
    struct kv_own *own = op->h->own;
    uint64_t notes = own->notes;
    if (op->note != NULL || notes == 0)
        return NULL;
    uint32_t turn = kv_load_rlx(&own->noted) + 1;
    kv_store_rlx(&own->noted, turn);
    struct kv_note *note = (struct kv_note *)(void *)(op->h->base + notes) + turn % KV_NOTES;
    kv_store_rlx(&note->turn, 0u);
    kv_fence_rel(); /* the turn is taken back before what follows */
    kv_store_rlx(&note->start, (uint32_t)what | len << 16);
    struct kv_header *head = kv_header_of(op->h);
    bool look = turn % KV_NOTE_LOOKS == 1 || what >= KV_NOTED_CLEAR;
    kv_store_rlx(&note->at_ns, look ? note_clock(head) : kv_load_rlx(&head->tick_ns));
    kv_store_rlx(&note->place, 0u);
    note_key(note->key, key, len);
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
