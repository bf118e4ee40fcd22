/* journal.h: what changed since the last save, on disk: marks in the segment, rounds to a file.
 *
 * Owns the marks, the journal's line of the header, and rounds (shmkv/persist/README.md, "The
 * journal"). A journal of states: a write marks the class of its key; a round reads what the marked
 * classes hold now and appends that. Marks are made under the lock of the key's stripe and before
 * the commit; a round claims a mark under the same lock, so every write that made it has committed
 * or will never.
 *
 * Lock order: the journal's lock, then one stripe at a time; nobody who holds a stripe waits for
 * the journal. Does not know: files and blocks (journal_file), snapshots, who restores. */
#ifndef KV_JOURNAL_H
#define KV_JOURNAL_H

#include "image.h"

/* A mark is a hash with two bits that address nothing replaced. The rest is the class: all keys
 * that agree in it are logged together. */
#define KV_MARK_SET    (1ULL << 20) /* always: 0 is a free place */
#define KV_MARK_FLIGHT (1ULL << 21) /* a round has claimed it; clear: dirty */
#define KV_MARK_BITS   (KV_MARK_SET | KV_MARK_FLIGHT)

#define KV_MARK_WIPE KV_MARK_BITS /* the class of an entry that says: nothing exists */

kv_status journal_mark_dirty(struct kv_op *op, uint64_t hash);
/* The key of this hash is about to change; its stripe is locked. KV_OK; KV_UNMARKED: unlock, make
 * room, begin again. */
static inline kv_status journal_mark(struct kv_op *op, uint64_t hash) {
    if (__builtin_expect(!(op->h->options & KV_OPT_JOURNAL), 1))
        return KV_OK;
    return journal_mark_dirty(op, hash);
}
/* A clear has removed everything it found: the next round wipes, and says all that is there. Items
 * that were evicted were no more in memory to be marked, and would come back. */
void journal_wipe(struct kv_op *op);
/* After KV_UNMARKED, no lock held. KV_OK: try again; KV_INTR; KV_PERSIST: not before the time limit
 * (a journal that need not be waited for is broken instead). */
kv_status journal_make_room(struct kv_op *op);

/* What the operation changed is on disk: always-journals. KV_INTR: nothing is lost, call again.
 * KV_PERSIST: not before the time limit, or the journal is broken. Otherwise a look at marks that
 * nobody else looks at. */
kv_status journal_settle(struct kv_op *op);

struct kv_round {
    uint32_t entries;
    uint64_t bytes;
};
/* Lead a round; on disk when it returns if the journal or `sync` says so, or a second is over. */
kv_status journal_round(struct kv_op *op, bool sync, struct kv_round *round);
/* Sleep until somebody wants a round, at most so long. KV_INTR. */
kv_status journal_listen(struct kv_op *op, uint64_t ns);

/* This process may lead: the directory of the files; the descriptor is duplicated. */
kv_status journal_open(struct kv_handle *h, int dir);
/* In a fork child: another thread of the parent may have been writing. */
void journal_forked(struct kv_handle *h);
/* The first file of a store that was just made, or restored: generation > 0, `previous` as in its
 * BEGIN. */
kv_status journal_begin(struct kv_op *op, uint64_t generation, uint64_t previous);
/* The next generation; *generation: its number. What was broken is whole from here on, with a
 * snapshot that begins now. */
kv_status journal_next(struct kv_op *op, uint64_t *generation);

/* A leader died: its lock was taken over. */
void journal_recover(struct kv_handle *h);

/* The snapshot of that generation is whole: a journal that waited for it counts again. */
void journal_saved(struct kv_handle *h, uint64_t generation);

struct kv_journal_state {
    uint64_t generation, bytes, started, done, synced_ms; /* synced_ms: ago */
    uint32_t broken, unsaved, marks, words;
};
void journal_state(struct kv_handle *h, struct kv_journal_state *out);

#endif
