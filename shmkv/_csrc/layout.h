/* layout.h: every byte of the segment.
 *
 * Owns structures, offsets, geometry, version and fingerprint. Knows no locks and no policy.
 *
 *   offset            what                         written by
 *   0                 header, 4096 B               the creator; later only its "live" lines
 *   off_rows          rows x 1 KiB                 the process that owns the row (or folds it)
 *   off_deaths        32 x 640 B                   who folds a dead row; for people
 *   off_board         2 halves of `board` bytes    the daemon; for people
 *   off_samples       `samples` x 8 B              anybody; hints, taken out by the daemon
 *   off_stripes       stripes x 64 B               whoever holds the stripe's lock
 *   off_dirs          stripes x 2^dir_bits x 4 B   whoever holds the stripe's lock
 *   off_pages         bases_max x 64 B             page words by compare-and-swap, see arena.h
 *   off_arena         bases_max base pages         log pages, extents, index pages
 *   off_journal       hints, then `words` x 8 B    marks of keys to be logged, see journal.h
 *   off_ghost         lines of fingerprints        anybody; hints, see ghost.h
 *
 * Everything is little-endian. Offsets only, never pointers: a kv_ref counts granules of 16 B from
 * the start of the segment, an index segment is numbered in units of 4 KiB from the start of the
 * segment. The file has its full length (max_size) from the beginning; bytes beyond the watermark
 * (marks and ghost aside) are not backed and must not be touched. Geometry is a pure function of
 * the few numbers in `struct kv_config`, so that an attacher recomputes it and trusts nothing.
 *
 * A change here raises KV_LAYOUT_VERSION, changes the golden test and adds a line to README.md. */
#ifndef KV_LAYOUT_H
#define KV_LAYOUT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_MAGIC          0x31564B4D48535F5FULL /* bytes "__SHMKV1" */
#define KV_LAYOUT_VERSION 5u
#define KV_LINE           64u
#define KV_GRANULE        16u
#define KV_HEADER_BYTES   4096u
#define KV_INDEX_BYTES    4096u /* an index segment */
#define KV_BUCKETS        64u   /* buckets of an index segment */
#define KV_SLOTS          12u   /* slots of a bucket */
#define KV_STRIPES_MAX    256u
#define KV_COUNTER_MAX    3u   /* two-bit access counter */
#define KV_RESERVATIONS   8u   /* per row */
#define KV_PINS           32u  /* per row */
#define KV_APPENDERS      16u  /* places: small queue, main queues, the cleaners' own */
#define KV_MAINS          6u   /* main queues with appenders: size groups of log pages */
#define KV_QUEUES         16u  /* 0: small queue; 1..: main queues by size of the items */
#define KV_GHOST_SHARE    128u /* this part of the size, at most, remembers who left */
#define KV_CLEANERS       8u   /* places */
#define KV_WAIT_WORDS     64u  /* hashed futex words for blocking operations to come */
#define KV_MARKS          64u  /* of the journal, to one hint */
#define KV_NOTES          8u   /* per row: the last operations that changed something, or waited */
#define KV_NOTE_KEY       36u  /* bytes of a key in a note */
#define KV_DEATHS         32u  /* remembered */
#define KV_DEATH_LOCKS    8u   /* of those a dead attachment held */
#define KV_NUMBER_MASK    0x7FFFFFFFu
#define KV_WAITERS        0x80000000u
#define KV_KEY_MAX        65535u
#define KV_SIZE_MIN       (2ULL << 20)
#define KV_SIZE_MAX       (64ULL << 30)
#define KV_DEADLINE_MAX   ((1ULL << 48) - 1) /* milliseconds on the segment's clock; 0 = never */

typedef uint32_t kv_ref; /* place of an item in granules from the start of the segment; 0 = none */

/* ---- options of a store, fixed at creation ------------------------------------------------ */

#define KV_OPT_EVICT   1u /* live items may leave to make room */
#define KV_OPT_JOURNAL 2u /* changes are logged ... */
#define KV_OPT_ALWAYS  4u /* ... and a write returns when its change is on disk */
#define KV_OPTIONS     7u /* all there are */

static inline uint32_t kv_journal_mode(uint32_t options) { /* 0 none, 1 everysec, 2 always */
    return !(options & KV_OPT_JOURNAL) ? 0 : options & KV_OPT_ALWAYS ? 2 : 1;
}

struct kv_config {
    uint64_t size;      /* bytes of the whole segment in use at creation, multiple of 4096 */
    uint64_t max_size;  /* file length: what `size` may be raised to */
    uint64_t seed;      /* of every hash */
    uint32_t options;   /* KV_OPT_* */
    uint32_t appenders; /* of the small queue: 1..8 */
};

/* ---- header ------------------------------------------------------------------------------- */

struct kv_header {
    /* line 0: identity; magic is stored last (release) and read first (acquire) */
    uint64_t magic;
    uint32_t layout_version;
    uint32_t fingerprint; /* kv_fingerprint() of the creator */
    struct kv_config config;
    uint64_t created_ms; /* wall clock, for people */
    uint32_t sampled;    /* keys whose hash has a low half below this are sampled; 0 = none */
    uint32_t deaths;     /* recorded ever */
    /* line 1: live, rarely written */
    uint64_t size;        /* present size in bytes: config.size, or more after it was raised */
    uint64_t watermark;   /* bytes from the start that are backed; only rises, by CAS */
    uint32_t next_number; /* the next attachment number; low 31 bits, 0 is skipped */
    uint32_t index_high;  /* bases below this may be INDEX pages; only rises */
    uint32_t index_hint;  /* a base that may have a free index segment */
    uint32_t take_hint;   /* where the last run was found */
    uint64_t next_id;     /* namespace ids that never repeat; 0 is the store itself */
    uint32_t nospace;     /* how often the system refused memory below `size` */
    uint32_t damage;      /* how often damaged bytes were met and cut out */
    uint32_t tidy_hint;   /* head + 1 of a page that is nearly all garbage, 0 = none known */
    uint32_t ghost;       /* lines of the ghost in use, a power of two; 0 = none */
    uint32_t daemon;      /* for messages: the attachment that was the daemon last */
    uint32_t ahead;       /* 0: enough is free; 1: clean ahead; head + 2 of the page begun with */
    /* line 2: birth stamps of pages: base pages opened before; samples put down; time of notes */
    uint64_t next_birth;
    uint64_t next_sample;
    uint64_t tick_ns; /* CLOCK_MONOTONIC when somebody last looked at a clock for a note */
    uint32_t mortal;  /* 1: some item has, or had, a deadline */
    uint32_t _pad2;
    uint64_t _pad3[4];
    /* line 3: the journal, where there is one; generation and bytes only under its lock */
    struct kv_journal {
        uint32_t lock;      /* lock word: who leads a round */
        uint32_t wanted;    /* futex word: raised by who waits for a round and cannot lead one */
        uint32_t broken;    /* 1: a change went unlogged; 2: the next generation has just begun */
        uint32_t due;       /* of the next round: KV_DUE_*; taken back when it counts */
        uint64_t started;   /* rounds begun */
        uint64_t done;      /* the last one on disk; its low half is a futex word */
        uint64_t place;     /* generation << 40 | bytes of whole rounds in its file; 0 = none */
        uint64_t saved_ms;  /* wall clock: the last snapshot that is whole, journal or not */
        uint64_t looked_ms; /* segment clock: the last round ended */
        uint64_t synced_ms; /* what was committed before is on disk */
    } journal;
    /* wait words: a futex never lies inside an item */
    uint32_t wait[KV_WAIT_WORDS];
    /* cleaner slots: lock words {number, waiters}, one line each */
    struct {
        uint32_t lock;
        uint32_t _pad[15];
    } cleaners[KV_CLEANERS];
    /* appenders, one line each */
    struct kv_appender {
        uint32_t lock;    /* lock word */
        uint32_t current; /* base of the open page's head + 1, 0 = none; only under the lock */
        uint32_t _pad[14];
    } appenders[KV_APPENDERS];
    uint64_t _rest[(KV_HEADER_BYTES - 4 * 64 - 4 * KV_WAIT_WORDS - 64 * KV_CLEANERS -
                    64 * KV_APPENDERS) /
                   8];
};
/* A leader died: its words in flight are to be logged again. A clear has ended: say what is there,
 * and that nothing else is. A round has taken that wish, and does not count yet. */
enum { KV_DUE_ALL = 1, KV_DUE_WIPE = 2, KV_DUE_WIPING = 4 };
static_assert(sizeof(struct kv_header) == KV_HEADER_BYTES, "header is one page");
static_assert(offsetof(struct kv_header, size) == 64, "live fields start on line 1");
static_assert(offsetof(struct kv_header, next_birth) == 128, "birth stamps on line 2");
static_assert(offsetof(struct kv_header, journal) == 192, "journal on line 3");
static_assert(offsetof(struct kv_header, wait) == 256, "wait words on line 4");
static_assert(offsetof(struct kv_header, cleaners) == 512, "cleaner slots");
static_assert(offsetof(struct kv_header, appenders) == 1024, "appenders");

/* ---- attachment rows ---------------------------------------------------------------------- */

/* Counters of a row: written by its owner only, totals are sums over all rows, never moved. */
enum kv_stat {
    KV_STAT_HITS,
    KV_STAT_MISSES,
    KV_STAT_SETS,
    KV_STAT_DELETES,
    KV_STAT_EXPIRED,       /* items freed because their deadline had passed */
    KV_STAT_EVICTED,       /* items that left the small queue unread, to make room */
    KV_STAT_EVICTED_INDEX, /* ... because their index segment was full and could not be split */
    KV_STAT_REFUSED_FULL,
    KV_STAT_REFUSED_LARGE,
    KV_STAT_RECOVERIES, /* locks taken over from dead owners */
    KV_STAT_FOLDS,      /* rows of dead owners folded */
    KV_STAT_WRITTEN,    /* item bytes written for users */
    KV_STAT_COPIED,     /* item bytes moved by cleaning */
    KV_STAT_CLEANED,    /* pages cleaned */
    KV_STAT_SPLITS,
    KV_STAT_RETRIES,      /* reads repeated because the stripe changed */
    KV_STAT_EVICTED_MAIN, /* items that left a main queue, to make room */
    KV_STAT_PROMOTED,     /* items that went from the small queue to a main one */
    KV_STAT_RETURNED,     /* items the ghost remembered when they were stored again */
    KV_STATS              /* 19 */
};

#define KV_STATS_MAX 24

/* What an attachment began to do. For people: nothing is decided by it, and it may be torn. */
struct kv_note {
    uint32_t turn; /* of this attachment's notes; 0 = none. Taken back first, stored last */
    union {
        struct {
            uint8_t what;  /* enum kv_noted */
            uint8_t ended; /* 1 + the status it ended with; 0 = it has not */
            uint16_t len;  /* of the key */
        };
        uint32_t start; /* the three in one store */
    };
    uint64_t at_ns; /* CLOCK_MONOTONIC: it did not begin before; see tick_ns */
    uint32_t place; /* what it waited for last: the lock word's offset, or enum kv_awaited; 0 = it
                       did not wait */
    uint32_t owner; /* this and the next only if it waited. Who had that: a number, 0 = not known */
    uint32_t waited_us; /* in all, as far as its waits have ended; stays at its highest */
    unsigned char key[KV_NOTE_KEY]; /* as far as there is room */
};
static_assert(sizeof(struct kv_note) == KV_LINE, "a note is a line");

enum kv_noted {
    KV_NOTED_SET = 1, /* the first five as enum kv_put */
    KV_NOTED_ADD,
    KV_NOTED_REPLACE,
    KV_NOTED_CAS,
    KV_NOTED_REWRITE,
    KV_NOTED_DELETE,
    KV_NOTED_INCR,
    KV_NOTED_APPEND,
    KV_NOTED_TOUCH,
    KV_NOTED_RENAME,
    KV_NOTED_CLEAR,
    KV_NOTED_WORK,  /* the daemon's turn */
    KV_NOTED_ROUND, /* of the journal */
    KV_NOTED_WAIT   /* something that changes nothing had to wait */
};
enum kv_awaited { KV_AWAITED_PAGE = 1, KV_AWAITED_JOURNAL = 2 };

struct kv_row {
    /* line 0 */
    uint32_t number; /* the attachment's number, 0 = nobody; stored after the byte lock is held */
    uint32_t pid;    /* this and the next four: for messages only */
    uint64_t pid_start;
    uint64_t pid_namespace;
    uint64_t attached_ms; /* wall clock */
    uint32_t first;       /* number of the process's first row; 0 = this is it */
    uint32_t _pad0;
    uint64_t _pad[3];
    /* line 1: reservations: start of the page the owner is writing into; and, beside each, the
     * place of the item it is about to replace, so that a fold knows which pages hold uncounted
     * garbage */
    kv_ref reservation[KV_RESERVATIONS];
    kv_ref replaced[KV_RESERVATIONS];
    /* lines 2, 3: pins: items whose bytes the owner reads without copying first */
    kv_ref pin[KV_PINS];
    /* lines 4, 5, 6 */
    uint64_t stat[KV_STATS_MAX];
    /* line 7: transaction record, reserved */
    uint64_t _transaction[8];
    /* lines 8 to 15: what it did last; at its turn modulo KV_NOTES */
    struct kv_note note[KV_NOTES];
};
static_assert(sizeof(struct kv_row) == 1024, "row");
static_assert(offsetof(struct kv_row, reservation) == 64, "row line 1");
static_assert(offsetof(struct kv_row, pin) == 128, "row line 2");
static_assert(offsetof(struct kv_row, stat) == 256, "row line 4");
static_assert(offsetof(struct kv_row, note) == 512, "row line 8");
static_assert((int)KV_STATS <= (int)KV_STATS_MAX, "counters fit");

/* An attachment that ended without saying so, as its row was when it was folded. For people. */
struct kv_death {
    uint32_t number; /* 0 = none; stored last */
    uint32_t pid;
    uint64_t pid_start;
    uint64_t pid_namespace;
    uint64_t attached_ms; /* wall clock, as the next */
    uint64_t found_ms;
    uint32_t finder; /* the number that folds it; 0 = an attachment that has none yet */
    uint32_t locks;  /* it held so many ... */
    uint32_t lock[KV_DEATH_LOCKS]; /* ... the first of them: offsets of lock words */
    uint32_t reservations, pins;   /* in use */
    uint64_t clock_ns;             /* CLOCK_MONOTONIC when it was found */
    uint64_t _pad[4];
    struct kv_note note[KV_NOTES];
};
static_assert(sizeof(struct kv_death) == 640, "death");

/* Half of the board: what the daemon keeps for people. The valid one with the higher turn counts.
 */
struct kv_board {
    uint64_t sum; /* of what follows, as far as it is used */
    uint64_t turn;
    uint64_t used;
    unsigned char data[];
};

/* Owning row r = holding the open-file-description lock on byte KV_LOCK_BASE + r of the file. */
#define KV_LOCK_BASE   (1ULL << 40)
#define KV_LOCK_CREATE (KV_LOCK_BASE - 1) /* the creation byte */
#define KV_LOCK_DAEMON (KV_LOCK_BASE - 2) /* whoever holds it is the daemon */
/* KV_LOCK_BASE - 3: whoever holds it starts a daemon (shmkv/launch.py) */

/* ---- index -------------------------------------------------------------------------------- */

struct kv_stripe {
    uint32_t lock; /* lock word */
    uint32_t txn;  /* reserved: transaction record to finish */
    uint64_t ver;  /* raised after each change of a ref, before old bytes may be reused */
    uint64_t _pad0;
    uint64_t live;  /* bytes of the items indexed here */
    uint32_t count; /* items indexed here; both recounted by recovery */
    uint32_t _pad[7];
};
static_assert(sizeof(struct kv_stripe) == KV_LINE, "stripe is a line");

/* Directory word: index segment number in the low 24 bits, depth in the high 8; 0 = none. */
#define KV_DIR_SEGMENT 0x00FFFFFFu
static inline uint32_t kv_dir_make(uint32_t segment, uint32_t depth) {
    return segment | depth << 24;
}
static inline uint32_t kv_dir_segment(uint32_t word) { return word & KV_DIR_SEGMENT; }
static inline uint32_t kv_dir_depth(uint32_t word) { return word >> 24; }

struct kv_bucket {
    uint8_t tag[KV_SLOTS]; /* meaningless where ref is 0 */
    uint8_t counters[3];   /* two bits a slot, slot s at bits 2 (s mod 4) of byte s / 4 */
    uint8_t overflow;      /* items whose path passed through; never too low; 255 sticks */
    kv_ref ref[KV_SLOTS];  /* 0 = free; the store of this word is the commit */
};
static_assert(sizeof(struct kv_bucket) == KV_LINE, "bucket is a line");
static_assert(offsetof(struct kv_bucket, ref) == 16, "tags, counters, overflow in 16 bytes");
static_assert(KV_BUCKETS * sizeof(struct kv_bucket) == KV_INDEX_BYTES, "index segment is 4 KiB");

/* ---- page table --------------------------------------------------------------------------- */

/* One word per base page: {state:4, queue:4, run:24, owner:32}. Only the head of a run speaks for
 * it. */
enum kv_page_state {
    KV_FREE = 0, /* run 1 */
    KV_TAKEN,    /* owner = number of the attachment that works on it */
    KV_OPEN,     /* owner = appender */
    KV_CLOSED,   /* log page or extent; no new reservation can appear */
    KV_CLEANING, /* owner = number of the cleaner */
    KV_LIMBO,    /* walked, waits for pins */
    KV_INDEX,    /* index segments, for ever; run 1 */
    KV_INTERIOR  /* run = distance to the head; a hint */
};
#define KV_RUN_MAX 0xFFFFFFu

static inline uint64_t kv_page_make(uint32_t state, uint32_t queue, uint32_t run, uint32_t owner) {
    return (uint64_t)owner << 32 | (uint64_t)run << 8 | queue << 4 | state;
}
static inline uint32_t kv_page_state(uint64_t w) { return (uint32_t)w & 15; }
static inline uint32_t kv_page_queue(uint64_t w) { return (uint32_t)w >> 4 & 15; }
static inline uint32_t kv_page_run(uint64_t w) { return (uint32_t)w >> 8; }
static inline uint32_t kv_page_owner(uint64_t w) { return (uint32_t)(w >> 32); }

#define KV_EXPIRY_BUCKETS 8u
#define KV_INDEX_PER_BASE 16u /* at most: base pages of 64 KiB */

struct kv_page {
    uint64_t word;
    uint32_t tail;    /* granules in use; stored after the header of the item that raised it */
    uint32_t dead;    /* hint: granules known to be garbage; never more than there are */
    uint64_t birth;   /* stamp of opening; the queue is the order of these */
    uint32_t suspect; /* hint: a fold met this page, it may hold garbage nobody counted */
    uint32_t walked;  /* granules already emptied << 1, and 1 if items may leave; 0 = not begun */
    union {
        struct {
            uint64_t _pad;
            uint64_t opened_ms; /* segment clock */
            /* hint: granules of items that expire within 4^(i+1) seconds of opening */
            uint16_t expiry[KV_EXPIRY_BUCKETS];
        };
        uint16_t segment[KV_INDEX_PER_BASE]; /* INDEX: 0 = free, else owning stripe + 1 */
    };
};
static_assert(sizeof(struct kv_page) == KV_LINE, "page entry is a line");
static_assert(offsetof(struct kv_page, segment) == 32, "page entry, second half");

/* ---- items -------------------------------------------------------------------------------- */

/* header (12 B), namespace id (4 B, if flagged; padding if a later word needs it), deadline (8 B),
 * counter (8 B), key, value; the next item starts at the next granule. */
struct kv_item {
    uint32_t value_len;
    uint16_t key_len; /* 1..65535; 0 never occurs */
    uint8_t type;
    uint8_t flags;
    uint32_t version; /* low half of the stripe's version at publication; kept by relocation */
};
static_assert(sizeof(struct kv_item) == 12, "item header");

/* Memory codes of value types. Disk formats number their own. */
enum kv_type {
    KV_TYPE_BYTES = 1,
    KV_TYPE_STR = 2,    /* UTF-8 */
    KV_TYPE_INT = 3,    /* 64-bit, in the counter word; no value bytes */
    KV_TYPE_BIGINT = 4, /* two's complement, little-endian, beyond 64 bits */
    KV_TYPE_FLOAT = 5,  /* IEEE binary64, in the counter word; no value bytes */
    KV_TYPE_BOOL = 6,   /* 0 or 1 in one value byte */
    KV_TYPE_NONE = 7,
    KV_TYPE_LIST = 8, /* from here to UUID: one MessagePack value, see packed.h */
    KV_TYPE_DICT = 9,
    KV_TYPE_TUPLE = 10,
    KV_TYPE_SET = 11,
    KV_TYPE_FROZENSET = 12,
    KV_TYPE_DATETIME = 13,
    KV_TYPE_DATE = 14,
    KV_TYPE_TIME = 15,
    KV_TYPE_TIMEDELTA = 16,
    KV_TYPE_DECIMAL = 17,
    KV_TYPE_UUID = 18,
    KV_TYPE_ARRAY = 19, /* a head (shmkv/forms.py), then the elements; begins at 16 B */
    KV_TYPE_CODEC = 20, /* length of a codec's name, the name, what that codec made */
    KV_TYPE_LAST = 31   /* above: never valid */
};

#define KV_ITEM_NAMESPACE 0x01u /* the namespace word is present */
#define KV_ITEM_DEADLINE  0x02u /* the deadline word is present (0 = never) */
#define KV_ITEM_COUNTER   0x04u /* the counter word is present */
#define KV_ITEM_KEY_STR   0x08u /* the key was a str when it was stored */
#define KV_ITEM_KEEP      0x10u /* reserved: never evicted */
#define KV_ITEM_FLAGS     0x1Fu /* all that may be set; the rest are spare and zero */

/* Bytes before the key, by the three flags that add words. */
static inline uint32_t kv_item_words(uint8_t flags) {
    static const uint8_t words[8] = {12, 16, 24, 24, 24, 24, 32, 32};
    return words[flags & (KV_ITEM_NAMESPACE | KV_ITEM_DEADLINE | KV_ITEM_COUNTER)];
}
static inline uint32_t kv_item_deadline_at(void) { return 16; }
static inline uint32_t kv_item_counter_at(uint8_t flags) {
    return flags & KV_ITEM_DEADLINE ? 24 : 16;
}
/* Unused bytes between key and value: elements of an array lie where their type wants them. */
static inline uint32_t kv_item_gap(const struct kv_item *it) {
    return it->type == KV_TYPE_ARRAY ? -(kv_item_words(it->flags) + it->key_len) % KV_GRANULE : 0;
}
/* Bytes of an item in the log, rounded up to granules. */
static inline uint64_t kv_item_bytes(const struct kv_item *it) {
    uint64_t n = (uint64_t)kv_item_words(it->flags) + it->key_len + kv_item_gap(it) + it->value_len;
    return (n + KV_GRANULE - 1) & ~(uint64_t)(KV_GRANULE - 1);
}

/* ---- geometry ----------------------------------------------------------------------------- */

struct kv_geometry {
    uint64_t size, max_size;
    uint64_t off_rows, off_deaths, off_board, off_samples;
    uint64_t off_stripes, off_dirs, off_pages, off_arena, off_journal, off_ghost;
    uint32_t rows, stripes, stripe_shift; /* stripe = home hash >> stripe_shift */
    uint32_t dir_bits;
    uint32_t base_shift; /* base page = 1 << base_shift bytes */
    uint32_t bases_max;  /* base pages the layout has room for */
    uint32_t bases;      /* base pages within `size` at creation */
    uint32_t std_run;    /* base pages of an ordinary log page, power of two */
    uint32_t log_run_max;
    uint32_t appenders; /* of the small queue */
    uint32_t mains;     /* of main queues, after them; 0 if nobody is ever evicted */
    uint32_t cleaners;
    uint32_t zone; /* bases below this are left to the index while there is other memory */
    uint64_t index_per_base;
    uint32_t words;   /* marks of the journal, power of two; 0 without one */
    uint32_t board;   /* bytes of half the board */
    uint32_t samples; /* places, power of two */
};

/* false: the numbers are out of range */
bool kv_geometry_make(const struct kv_config *config, struct kv_geometry *g);
/* The cleaners' own appender, the last. */
static inline uint32_t kv_appender_own(const struct kv_geometry *g) {
    return g->appenders + g->mains;
}
/* The main queue for items of this size: groups four times apart, the first below 256 B. */
static inline uint32_t kv_queue_of(uint64_t bytes) {
    uint32_t group = (63 - (uint32_t)__builtin_clzll(bytes | 64) - 6) / 2;
    return 1 + (group < KV_QUEUES - 2 ? group : KV_QUEUES - 2);
}
/* Lines of the ghost that a store of this size may use. */
uint32_t kv_geometry_ghost(const struct kv_geometry *g, uint64_t size);
/* Bytes of the journal's marks and of the hints before them. */
uint64_t kv_geometry_journal(const struct kv_geometry *g);
/* Base pages within a size of the segment, and those that lie below an offset. */
uint32_t kv_geometry_bases(const struct kv_geometry *g, uint64_t size);
uint32_t kv_geometry_bases_below(const struct kv_geometry *g, uint64_t offset);
uint32_t kv_fingerprint(void);
/* The number of appenders a machine with `cpus` processors should have. */
uint32_t kv_geometry_appenders(uint64_t size, uint32_t cpus);

static inline uint64_t kv_round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

#endif
