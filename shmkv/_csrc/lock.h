/* lock.h: attachments, and who may touch what: rows, proof of life, lock words, reservations, pins.
 *
 * A lock word is {waiters:1, number:31}; number names the attachment that holds it, 0 = free.
 * Taking it from a dead owner returns KV_RECOVER: the caller repairs what the lock protects before
 * using it. The proof of death is the kernel's: the byte lock of the owner's row is free, or the
 * row no longer bears the number. It knows nothing of pids, namespaces or time-outs.
 *
 * Lock order: an operation may hold one cleaner slot and, under it, one stripe lock or one appender
 * lock; otherwise nobody holds two. Under a stripe or appender lock: no page allocation, no system
 * call but the futex's, no Python. Does not know: what stripes and pages contain (table, arena),
 * how a dead row is folded (fold). */
#ifndef KV_LOCK_H
#define KV_LOCK_H

#include <pthread.h>

#include "atomic.h"
#include "fault.h"
#include "layout.h"
#include "status.h"

struct stat;

#define KV_OWN_ROWS 64u
#define KV_HELD     4u

/* Process-private truth about an attachment, in a page that fork children see as zeros. */
struct kv_own {
    uint32_t attached;     /* 1 in the process that attached */
    uint32_t number;       /* of row[0]: the name in lock words and page words */
    uint32_t reservations; /* bit i: slot i of row[0] is in use */
    uint32_t rows;         /* rows owned: the first, and more when pins run out */
    struct {
        uint32_t number;
        uint32_t row;
        uint32_t pins; /* bit i: pin i is in use */
    } row[KV_OWN_ROWS];
    uint32_t daemon;       /* 1: this process is the daemon */
    uint32_t working;      /* 1: a thread cleans ahead, or what has expired */
    uint32_t noted;        /* notes written into row[0] ... */
    uint64_t notes;        /* ... whose notes lie at this offset; 0 = none are taken */
    pthread_mutex_t mutex; /* guards row[1..], attach, fold; all zeros is unlocked */
    void *held[KV_HELD];   /* mappings that keep the descriptions of our byte locks open */
};

struct kv_handle {
    unsigned char *base; /* the whole segment, mapped once, never remapped while attached */
    struct kv_geometry g;
    uint64_t seed;
    uint32_t options;
    bool readonly;
    bool unseen;        /* looking through it counts as no use of the store */
    bool interruptible; /* a signal ends a wait with KV_INTR */
    bool borrowed;      /* close does not unmap: others still look at it */
    char name[128];     /* of the shared-memory object */
    int fd;             /* of the attachment's own open file description */
    uint64_t dev, ino;  /* of the segment's file: whose descriptor `fd` must be */
    uint64_t backed;    /* watermark as last seen: only rises */
    uint32_t ghost;     /* lines of the ghost that are known to have memory */
    uint64_t sampled;   /* the next sample to take out; ~0 = from what comes */
    void *work;         /* what who works ahead remembers (work.c); freed at close */
    struct kv_log *log; /* the journal's files (journal.c), where this process knows them */
    void (*log_end)(struct kv_log *); /* closes and frees that */
    bool held;                        /* created and not yet published */
    pthread_mutex_t filling; /* while held: one thread asks for memory, others wait for it */
    uint64_t lock_timeout_ns;
    struct kv_own *own;
    struct kv_handle *next; /* all handles of the process, for fork */
};

/* One operation: what it may wait for, and what it learnt. */
struct kv_op {
    struct kv_handle *h;
    uint64_t deadline_ns;          /* 0 until the first wait sets it */
    void (*leave)(struct kv_op *); /* called before sleeping or long copying, never under a lock;
                                      may be NULL */
    void *arg;                     /* leave's */
    uint32_t owner;                /* KV_BUSY: the number waited for, 0 = unknown */
    uint32_t stalled;              /* a living owner this operation has waited for in vain */
    uint32_t dead;                 /* a dead owner met on the way: fold it afterwards */
    struct kv_note *note;          /* of it in the black box; NULL = none */
    uint32_t hits, misses, sets;   /* to be counted when the operation ends: op_tally() */
    uint64_t written;
    int err;                 /* KV_OS: errno */
    uint64_t wanted;         /* the round that has them; 0 = not asked yet */
    bool marked;             /* a change of this operation is to be on disk before it returns */
    bool overdue;            /* nobody has looked at the journal's marks for a second */
    uint8_t heat;            /* access counter of the item that is stored */
    bool tidied;             /* this operation has looked for a page to reuse */
    bool roomed;             /* this operation has made room */
    uint32_t gift, gift_len; /* a run TAKEN for this operation's extent; gift_len 0 = none */
};

/* In place: a copy of the whole struct would wait for stores of other widths to reach the cache. */
static inline void kv_op_init(struct kv_op *op, struct kv_handle *h) {
    memset(op, 0, sizeof *op);
    op->h = h;
}
static inline struct kv_op kv_op_make(struct kv_handle *h) { return (struct kv_op){.h = h}; }

static inline struct kv_header *kv_header_of(const struct kv_handle *h) {
    return (struct kv_header *)(void *)h->base;
}
static inline struct kv_row *kv_row_at(const struct kv_handle *h, uint32_t r) {
    return (struct kv_row *)(void *)(h->base + h->g.off_rows) + r;
}
static inline struct kv_row *kv_row_own(const struct kv_handle *h) {
    return kv_row_at(h, h->own->row[0].row);
}
static inline uint32_t kv_number(const struct kv_handle *h) { return h->own->number; }

/* ---- rows --------------------------------------------------------------------------------- */

/* Take a row: its byte lock, and if a dead owner's number is still there, `fold` it first. */
typedef kv_status kv_fold_row(struct kv_op *op, uint32_t row, uint32_t number);
kv_status row_attach(struct kv_op *op, kv_fold_row *fold);
/* Give every own row back; nothing of this process may be in flight. */
void row_release_all(struct kv_handle *h);
/* Is the attachment with this number alive? Own numbers always are. */
bool row_alive(struct kv_handle *h, uint32_t number);
/* Is the descriptor still that of the segment? A program may close what it does not know (daemons
 * do). */
bool lock_own_file(const struct kv_handle *h);
/* Is this a descriptor of the segment's file? *st tells about it. */
bool lock_same_file(const struct kv_handle *h, int fd, struct stat *st);
/* Held by fork: what a child must not be born into the middle of. */
extern pthread_mutex_t lock_fork_mutex;
/* Make the byte locks of h->fd outlive the descriptor: a mapping keeps its description open, and no
 * fork child gets it. false: no memory. */
bool lock_hold(struct kv_handle *h);
/* Drop what was held: with the descriptor the locks end. */
void lock_let_go(struct kv_handle *h);
/* A new description of the segment by name; -1 if the name is gone or another file's. */
int lock_reopen(const struct kv_handle *h);
/* A descriptor again, where the program closed ours. false: there is none. */
bool lock_regain(struct kv_handle *h);
/* Become the daemon, until the end of the attachment; false: somebody is. */
bool lock_daemon(struct kv_handle *h);
/* Is there a daemon? Its number may be in the header, or be that of an earlier one. */
bool lock_daemon_alive(struct kv_handle *h);
/* Hold the byte of a dead row for folding. false: somebody lives there or folds it. */
bool row_claim(struct kv_handle *h, uint32_t row);
void row_unclaim(struct kv_handle *h, uint32_t row);

/* Threads of one process share the row. */
static inline void row_count(struct kv_handle *h, enum kv_stat what, uint64_t n) {
    (void)kv_add_rlx(&kv_row_own(h)->stat[what], n);
}

/* Count what the operation did. Plain additions: the caller keeps the process's other threads out
 * (the GIL). */
static inline void op_tally(struct kv_op *op) {
    uint64_t *stat = kv_row_own(op->h)->stat;
    if (op->hits | op->misses) {
        kv_store_rlx(&stat[KV_STAT_HITS], kv_load_rlx(&stat[KV_STAT_HITS]) + op->hits);
        kv_store_rlx(&stat[KV_STAT_MISSES], kv_load_rlx(&stat[KV_STAT_MISSES]) + op->misses);
    }
    if (op->sets != 0) {
        kv_store_rlx(&stat[KV_STAT_SETS], kv_load_rlx(&stat[KV_STAT_SETS]) + op->sets);
        kv_store_rlx(&stat[KV_STAT_WRITTEN], kv_load_rlx(&stat[KV_STAT_WRITTEN]) + op->written);
    }
    op->hits = op->misses = op->sets = 0;
    op->written = 0;
}

/* ---- locks -------------------------------------------------------------------------------- */

kv_status lock_wait(struct kv_op *op, uint32_t *word);
bool lock_pass_deadline(struct kv_op *op);

/* KV_OK, KV_RECOVER, KV_BUSY, KV_INTR. */
static inline kv_status lock_take(struct kv_op *op, uint32_t *word) {
    uint32_t free_word = 0;
    FAULT(lock_before_take);
    if (__builtin_expect(kv_cas(word, &free_word, kv_number(op->h)), 1)) {
        FAULT(lock_taken);
        return KV_OK;
    }
    return lock_wait(op, word);
}

/* Only if it is free at once; a dead owner's lock is KV_BUSY here (take it with lock_take). */
static inline kv_status lock_try(struct kv_op *op, uint32_t *word) {
    uint32_t free_word = 0;
    if (!kv_cas(word, &free_word, kv_number(op->h)))
        return KV_BUSY;
    FAULT(lock_tried);
    return KV_OK;
}

void lock_wake(uint32_t *word);

static inline void lock_give(uint32_t *word) {
    FAULT(lock_before_give);
    uint32_t was = kv_swap_rel(word, 0u); /* release: pairs with the acquire of the next taker */
    FAULT(lock_given);
    if (__builtin_expect((was & KV_WAITERS) != 0, 0))
        lock_wake(word);
}

/* Sleep a little for something no lock stands for (a page that another holds); then look again. */
kv_status lock_idle(struct kv_op *op);

/* ---- reservations and pins ---------------------------------------------------------------- */

/* A free reservation slot of this process, for a user's item or for one that is moved; KV_BUSY when
 * all stay in use. */
kv_status reservation_slot(struct kv_op *op, bool moving, unsigned *slot);
void reservation_clear(struct kv_handle *h, unsigned slot);

/* Pin words are {own row, index}; -1 = none. A pin protects the run that holds `ref`. */
struct kv_pin {
    uint32_t number; /* the row's number: a fork child's pins are not its parent's */
    uint32_t row;
    uint32_t index;
    kv_ref ref;
};
kv_status pin_take(struct kv_op *op, struct kv_pin *pin, kv_fold_row *fold);
static inline void pin_aim(struct kv_handle *h, struct kv_pin *pin, kv_ref ref) {
    pin->ref = ref;
    kv_store_rlx(&kv_row_at(h, pin->row)->pin[pin->index], ref);
    FAULT(pin_aimed);
    kv_fence_seq(); /* pairs with the fence of the freer, between its last unpublish and its pin
                       scan */
}
void pin_drop(struct kv_handle *h, struct kv_pin *pin);

#endif
