/* journal_file.h: the files of a journal: making, opening, appending blocks.
 *
 * Owns `struct kv_log`, what one process knows of them; all is done by who holds the journal's
 * lock. The segment's word `place` says which generation is appended to and how many bytes of it
 * are whole rounds, in one word, so that no death can part them. A file that is longer has a torn
 * tail: it is left as it is, and a new generation names the good length. Errors: KV_PERSIST with
 * op->err. */
#ifndef KV_JOURNAL_FILE_H
#define KV_JOURNAL_FILE_H

#include "image.h"

#define KV_PLACE_SHIFT    40u /* a file ends before 1 TiB; generations below 2^24 */
#define KV_PLACE_BYTES    ((1ULL << KV_PLACE_SHIFT) - 1)
#define KV_PREVIOUS_NONE  0ULL  /* it begins with an empty store */
#define KV_PREVIOUS_ALONE ~0ULL /* it goes on after the snapshot of its own generation only */

enum { KV_BLOCK_LAST_PIECE = 1, KV_BLOCK_ROUND_END = 2 };

/* A descriptor that may have become another file's: programs close what they do not know. */
struct kv_fd {
    int fd;
    uint64_t dev, ino;
};

struct kv_log {
    struct kv_fd dir, file;
    uint64_t generation;  /* of `file`; 0 = none is open */
    uint64_t id;          /* of that file: seeds its checksums */
    uint64_t end;         /* where the next block goes */
    bool written;         /* this round has blocks already */
    unsigned char *bytes; /* entries of the block to come */
    size_t used, room;
    uint32_t count;   /* entries in it */
    uint32_t entries; /* of this round */
    uint32_t *list;   /* marks of this round, by stripe; the upper half is for sorting */
    uint32_t listed;
};

/* The directory is known from now on. KV_OK KV_EXISTS (it was) KV_NOMEM KV_OS (errno) */
kv_status journal_file_known(struct kv_handle *h, int dir);
/* The buffer may be in the middle of growing: it is left behind. */
void journal_file_forget(struct kv_log *log);
/* The present file is open, and as long as it should be: else the next generation is begun. */
kv_status journal_file_ready(struct kv_op *op);
/* Begin a generation: this one, or the next whose name is free. */
kv_status journal_file_make(struct kv_op *op, uint64_t generation, uint64_t previous);
/* Room for so many more bytes of entries behind log->used. KV_NOMEM */
kv_status journal_file_room(struct kv_log *log, uint64_t more);
/* Append what is in log->bytes: as a block of entries, or cut into pieces. */
kv_status journal_file_flush(struct kv_op *op, uint32_t flags);
kv_status journal_file_pieces(struct kv_op *op);
/* To the disk. Where it fails, what earlier rounds wrote may be gone, too, and the next call would
 * not tell: a journal whose rounds count before they are synced is broken. */
kv_status journal_file_sync(struct kv_op *op);
/* Take back what this round appended. */
void journal_file_undo(struct kv_op *op, uint64_t end);

#endif
