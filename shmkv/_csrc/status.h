/* status.h: the results of core functions. Only py_errors.c turns them into exceptions. */
#ifndef KV_STATUS_H
#define KV_STATUS_H

typedef enum kv_status {
    KV_OK = 0,
    KV_MISS,     /* no such key (or expired) */
    KV_EXISTS,   /* add: the key is there; create: the segment is there */
    KV_RECOVER,  /* lock taken over from a dead owner: repair before use (lock.h only) */
    KV_AGAIN,    /* the caller should look again: somebody else moved (internal) */
    KV_NOPAGE,   /* no free page: run one evict step and ask again (internal) */
    KV_NOINDEX,  /* no free index segment: make an index page and ask again (internal) */
    KV_UNMARKED, /* no place for a mark of the journal: make room and ask again (internal) */
    KV_FULL,     /* evict=False and compaction yields nothing */
    KV_BUSY,     /* time limit reached; kv_op.owner names whom we waited for */
    KV_INTR,     /* a signal arrived while waiting: nothing was changed, run handlers, repeat */
    KV_TOOLARGE, /* the item is larger than 1/8 of the arena */
    KV_TYPE,     /* counter or append operation on a value of another type */
    KV_OVERFLOW, /* the counter would leave 64 bits */
    KV_CORRUPT,  /* bytes in the segment that no correct writer stores */
    KV_NOSPACE,  /* the file system of the segment is full */
    KV_NOROWS,   /* every attachment row belongs to a living process */
    KV_HALFMADE, /* no magic: the creator is at work or died */
    KV_GONE,     /* the name was unlinked between open and attach */
    KV_VERSION,  /* another layout version */
    KV_STRANGER, /* another fingerprint: endianness, word size, structure sizes */
    KV_MISMATCH, /* file length, size or policy differ from what was asked */
    KV_READONLY, /* a change was asked of a read-only attachment */
    KV_INVALID,  /* an argument out of range */
    KV_PERSIST,  /* the journal could not be written; kv_op.err has the number, 0: nobody can */
    KV_NOMEM,    /* process memory */
    KV_OS        /* a system call failed; kv_op.err or errno has the number */
} kv_status;

#endif
