/*
 * split.c - scenario "split": directory and index segments of a stripe, split and recovery
 *
 * One stripe with four keys, one per directory entry; three interchangeable workers insert, delete
 * and split under its lock, two of them may be killed, also in the recovery of the first kill;
 * another stripe takes and gives back segments; a reader looks a key up, stores its two-bit
 * counter, checks ver.
 *
 * Checked: the directory finds exactly the keys that are present, in every state; an accepted hit
 * or miss was true at some time during the read; a reader's counter store hits counter bytes only;
 * an unlocked stripe owns no segment it does not name and holds no key twice; the lock can always
 * be released.
 *
 * The recovery raises ver after the directory is repaired and before it gives back a segment.
 * Giving back first is the sabotage recovery_frees_first: a slow reader then looks for its key in
 * a segment that another stripe has filled, and finds ver unchanged.
 */
#include "explore.h"

#include <stdio.h>
#include <string.h>

#define ENTRIES 4
#define LEVELS 2 /* the directory has 2^LEVELS entries */
#define NSEGMENT 6

enum { FREE, OURS, OTHERS, VALUE }; /* VALUE: sabotage, an INDEX page made item memory */
enum {
    CHOOSE,
    TAKE0,
    CLEAR0,
    FILL0,
    TAKE1,
    CLEAR1,
    FILL1,
    LINK,
    RAISE,
    GIVE_OLD,
    UNLOCK,
    FIX_DIRECTORY,
    RECOVERY_RAISE,
    SWEEP
};
enum { IDLE, ENTRY, LOOK, COUNTER_LOAD, COUNTER_STORE, CHECK };
enum { FREE_LOCK, HELD, HELD_BY_DEAD };

enum sabotage {
    NO_SABOTAGE,
    RECOVERY_FREES_FIRST, /* recovery: segments -> FREE, then raise ver */
    DEEPEST_CLAIMS,       /* recovery: the deepest entry claims */
    NO_DIRECTORY_REPAIR,
    NO_SEGMENT_SWEEP,
    FREE_BEFORE_RAISE,   /* split: old segment -> FREE, then raise ver */
    TAKE_WITHOUT_STRIPE, /* a segment is taken before the stripe is locked */
    INDEX_PAGES_RETURN,  /* a page of free segments becomes item memory */
    COUNTER_SHARES_BYTE, /* counters and tags share bytes */
    LINK_BEFORE_FILL,    /* entries are stored before the half is complete */
    MISS_UNCHECKED,      /* a miss is returned without looking at ver */
};

struct state {
    uint8_t entry[ENTRIES], depth[ENTRIES]; /* segment, 1..NSEGMENT */
    uint8_t word[NSEGMENT], keys[NSEGMENT]; /* owner; bit k: key k has a ref here */
    uint8_t present;                        /* ghost: keys as committed */
    uint8_t lock, alive, kills;
    uint8_t pc, at, old, half[2]; /* of the holder; at: entry of the split, or next step */
    uint8_t ahead;                /* sabotage: segment of a worker without the lock */
    uint8_t r_pc, r_key, r_segment, r_found, r_byte, r_raised, r_window;
    uint8_t other, other_clear; /* segment held by the other stripe */
};

static enum sabotage sabotage;
static uint8_t changing, looked_up; /* keys that workers change, that the reader asks for */

static void emit(struct ex *x, struct state *t, const char *who, const char *what);

/* First entry of the aligned block that entry e covers, and the block's size. */
static int block_of(int e, int depth, int *size)
{
    *size = 1 << (LEVELS - depth);
    return e & ~(*size - 1);
}

static bool named(const struct state *s, int segment)
{
    for (int e = 0; e < ENTRIES; e++)
        if (s->entry[e] == segment)
            return true;
    return false;
}

static int free_segment(const struct state *s)
{
    for (int i = 1; i <= NSEGMENT; i++)
        if (s->word[i - 1] == FREE)
            return i;
    return 0;
}

static void raise_ver(struct state *t)
{
    if (t->r_pc != IDLE)
        t->r_raised = 1;
}

static void set_present(struct state *t, int key, bool yes)
{
    t->present = (uint8_t)(yes ? t->present | 1 << key : t->present & ~(1 << key));
    if (t->r_pc != IDLE && t->r_key == key)
        t->r_window |= yes ? 2 : 1;
}

/* The entry a recovery must change next, and to which other entry's content; -1: none. */
static int misfit(const struct state *s, int *claimant)
{
    bool deepest = sabotage == DEEPEST_CLAIMS;
    for (int level = 0; level <= LEVELS; level++) {
        int depth = deepest ? LEVELS - level : level;
        for (int e = 0; e < ENTRIES; e++) {
            int size;
            int start = block_of(e, depth, &size);
            if (s->depth[e] != depth)
                continue;
            for (int i = start; i < start + size; i++) {
                bool yields = deepest ? s->depth[i] < depth : s->entry[i] != s->entry[e];
                if (yields) {
                    *claimant = e;
                    return i;
                }
            }
        }
    }
    return -1;
}

/* The next segment that the stripe owns and the directory does not name; 0: none. */
static int unnamed(const struct state *s)
{
    for (int i = 1; i <= NSEGMENT && sabotage != NO_SEGMENT_SWEEP; i++)
        if (s->word[i - 1] == OURS && !named(s, i))
            return i;
    return 0;
}

/* Loads alone are no steps: what only the holder may change is looked at together with the next
 * store. */
static void recover(struct ex *x, const struct state *s)
{
    struct state t = *s;
    int claimant = 0;
    bool late = sabotage == RECOVERY_FREES_FIRST;
    int e = sabotage == NO_DIRECTORY_REPAIR ? -1 : misfit(s, &claimant);
    if (s->pc == FIX_DIRECTORY && e >= 0) {
        t.entry[e] = s->entry[claimant];
        t.depth[e] = s->depth[claimant];
        emit(x, &t, "recoverer", "entry := its claimant");
        return;
    }
    int segment = unnamed(s);
    if (s->pc == SWEEP || (s->pc == FIX_DIRECTORY && late && segment != 0)) {
        t.word[segment - 1] = FREE;
        t.pc = unnamed(&t) != 0 ? SWEEP : late ? RECOVERY_RAISE : CHOOSE;
        emit(x, &t, "recoverer", "unnamed segment -> FREE");
        return;
    }
    raise_ver(&t);
    t.pc = segment != 0 && !late ? SWEEP : CHOOSE;
    emit(x, &t, "recoverer", "raise ver");
}

/* Insert or delete of a key: one store in the segment that the directory names. */
static void choose_key(struct ex *x, const struct state *s)
{
    for (int k = 0; k < ENTRIES; k++) {
        if ((changing & 1 << k) == 0)
            continue;
        struct state t = *s;
        bool insert = (s->present & 1 << k) == 0;
        t.keys[s->entry[k] - 1] ^= (uint8_t)(1 << k);
        set_present(&t, k, insert);
        t.pc = RAISE;
        emit(x, &t, "worker", insert ? "insert: ref := item" : "delete: ref := 0");
    }
}

/* The keys of one half of the block being split. */
static uint8_t half_keys(const struct state *s, int which)
{
    int size;
    int start = block_of(s->at, s->depth[s->at], &size);
    int low = start + which * size / 2;
    uint8_t mask = (uint8_t)(((1 << size / 2) - 1) << low);
    return s->keys[s->old - 1] & mask;
}

/*
 * A half that no slow reader looks at is filled in the same step: nobody can come to see it before
 * it is linked, and of a dead splitter it is garbage either way.
 */
static void split_take(struct ex *x, const struct state *s)
{
    struct state t = *s;
    int which = s->pc == TAKE1;
    int segment = free_segment(s);
    if (segment == 0) {
        if (s->half[0] != 0)
            t.word[s->half[0] - 1] = FREE;
        t.half[0] = t.old = t.at = 0;
        t.pc = UNLOCK;
        emit(x, &t, "worker", "no segment: give back");
        return;
    }
    t.word[segment - 1] = OURS;
    t.half[which] = (uint8_t)segment;
    t.pc = which ? CLEAR1 : CLEAR0;
    if (sabotage == LINK_BEFORE_FILL)
        t.keys[segment - 1] = 0;
    else if (s->r_segment != segment)
        t.keys[segment - 1] = half_keys(s, which);
    if (sabotage == LINK_BEFORE_FILL || s->r_segment != segment)
        t.pc = which ? LINK : TAKE1;
    emit(x, &t, "worker", "segment FREE -> OWNED");
}

static void split_fill(struct ex *x, const struct state *s)
{
    struct state t = *s;
    int which = s->pc >= CLEAR1;
    bool clear = s->pc == CLEAR0 || s->pc == CLEAR1;
    t.keys[s->half[which] - 1] = clear ? 0 : half_keys(s, which);
    t.pc++;
    emit(x, &t, "worker", clear ? "clear half" : "fill half");
}

static void choose_split(struct ex *x, const struct state *s)
{
    for (int e = 0; e < ENTRIES; e++) {
        int size;
        if (s->depth[e] == LEVELS || block_of(e, s->depth[e], &size) != e)
            continue;
        struct state t = *s;
        t.old = s->entry[e];
        t.at = (uint8_t)e;
        t.pc = TAKE0;
        if (s->ahead == 0) {
            split_take(x, &t);
            continue;
        }
        t.half[0] = s->ahead; /* sabotage: taken before the stripe was locked */
        t.ahead = 0;
        t.pc = TAKE1;
        emit(x, &t, "worker", "begin split");
    }
}

/* Stores the next entry of the block; the old depth is that of the last entry, stored last. */
static void split_link(struct ex *x, const struct state *s)
{
    struct state t = *s;
    int e = s->at;
    while (e < ENTRIES && (s->entry[e] == s->half[0] || s->entry[e] == s->half[1]))
        e++;
    int size;
    int start = block_of(s->at, s->depth[e], &size);
    t.entry[e] = s->half[e - start >= size / 2];
    t.depth[e]++;
    if (e == start + size - 1) {
        t.pc = sabotage == FREE_BEFORE_RAISE ? GIVE_OLD : RAISE;
        if (sabotage == LINK_BEFORE_FILL) {
            t.keys[t.half[0] - 1] = (uint8_t)(t.keys[t.old - 1] & (((1 << size / 2) - 1) << start));
            t.keys[t.half[1] - 1] = t.keys[t.old - 1] & (uint8_t)~t.keys[t.half[0] - 1];
        }
    }
    emit(x, &t, "worker", "store a directory entry");
}

static void finish(struct ex *x, const struct state *s)
{
    struct state t = *s;
    const char *what = "unlock";
    bool early = sabotage == FREE_BEFORE_RAISE;
    if (s->pc == RAISE) {
        raise_ver(&t);
        t.pc = s->old != 0 && !early ? GIVE_OLD : UNLOCK;
        what = "raise ver";
    } else if (s->pc == GIVE_OLD) {
        t.word[s->old - 1] = FREE;
        t.pc = early ? RAISE : UNLOCK;
        what = "old segment -> FREE";
    } else {
        t.lock = FREE_LOCK;
    }
    if (t.pc == UNLOCK)
        t.at = t.old = t.half[0] = t.half[1] = 0;
    if (t.lock == FREE_LOCK)
        t.pc = 0;
    emit(x, &t, "worker", what);
}

/* The one worker that holds the stripe. */
static void holder(struct ex *x, const struct state *s)
{
    switch (s->pc) {
    case CHOOSE:
        choose_key(x, s);
        choose_split(x, s);
        break;
    case TAKE0:
    case TAKE1:
        split_take(x, s);
        break;
    case CLEAR0:
    case FILL0:
    case CLEAR1:
    case FILL1:
        split_fill(x, s);
        break;
    case LINK:
        split_link(x, s);
        break;
    case RAISE:
    case GIVE_OLD:
    case UNLOCK:
        finish(x, s);
        break;
    default:
        recover(x, s);
        break;
    }
}

static void workers(struct ex *x, const struct state *s)
{
    struct state t = *s;
    if (s->lock == HELD) {
        holder(x, s);
        if (s->kills > 0) {
            t.lock = HELD_BY_DEAD;
            t.pc = t.at = t.old = t.half[0] = t.half[1] = 0;
            t.alive--;
            t.kills--;
            emit(x, &t, "worker", ex_sigkill);
        }
    } else if (s->alive > 0) {
        t.pc = s->lock == FREE_LOCK ? CHOOSE : FIX_DIRECTORY;
        t.lock = HELD;
        emit(x, &t, "worker", s->lock == FREE_LOCK ? "lock" : "lock, from the dead");
    }
    t = *s;
    int segment = free_segment(s);
    if (sabotage == TAKE_WITHOUT_STRIPE && s->ahead == 0 && s->alive > 1 && segment != 0) {
        t.word[segment - 1] = OURS;
        t.ahead = (uint8_t)segment;
        emit(x, &t, "worker2", "take a segment, not the stripe");
    }
}

/* Another stripe splits and gives back; with index_pages_return a free segment becomes item memory.
 */
static void others(struct ex *x, const struct state *s)
{
    struct state t = *s;
    int segment = free_segment(s);
    if (s->other == 0 && segment != 0) {
        t.word[segment - 1] = OTHERS;
        t.other = (uint8_t)segment;
        t.other_clear = 1;
        emit(x, &t, "stripe2", "segment FREE -> OWNED(2)");
        if (sabotage == INDEX_PAGES_RETURN) {
            t = *s;
            t.word[segment - 1] = VALUE;
            t.keys[segment - 1] = 0;
            t.other = (uint8_t)segment;
            emit(x, &t, "pool", "index page -> item memory");
        }
    } else if (s->other_clear) {
        t.keys[s->other - 1] = 0;
        t.other_clear = 0;
        emit(x, &t, "stripe2", "fill with its own keys");
    } else if (s->other != 0) {
        t.word[s->other - 1] = FREE;
        t.other = 0;
        emit(x, &t, "stripe2", "segment -> FREE");
    }
}

static void reader_end(struct state *t)
{
    t->r_pc = IDLE;
    t->r_key = t->r_segment = t->r_found = t->r_byte = t->r_raised = t->r_window = 0;
}

static bool reader_accepts(struct ex *x, const struct state *t, const char *what)
{
    if ((t->r_window & (t->r_found ? 2 : 1)) != 0)
        return true;
    ex_fail(x, "reader", what,
            t->r_found ? "false hit: the key was not there" : "false miss: the key was there");
    return false;
}

static void reader_start(struct ex *x, const struct state *s)
{
    for (int k = 0; k < ENTRIES; k++) {
        if ((looked_up & 1 << k) == 0)
            continue;
        struct state t = *s;
        t.r_key = (uint8_t)k;
        t.r_window = (s->present & 1 << k) != 0 ? 2 : 1;
        t.r_pc = ENTRY;
        emit(x, &t, "reader", "load ver");
    }
}

static void reader_look(struct state *t)
{
    t->r_found = (t->keys[t->r_segment - 1] & 1 << t->r_key) != 0;
    bool load = sabotage == COUNTER_SHARES_BYTE; /* else the byte loaded matters to nobody */
    t->r_pc = !t->r_found ? CHECK : load ? COUNTER_LOAD : COUNTER_STORE;
    if (!t->r_found)
        t->r_segment = 0;
}

static void reader(struct ex *x, const struct state *s)
{
    struct state t = *s;
    const char *what = "";
    switch (s->r_pc) {
    case IDLE:
        reader_start(x, s);
        return;
    case ENTRY:
        t.r_segment = s->entry[s->r_key];
        t.r_pc = LOOK;
        what = "load directory entry";
        break;
    case LOOK:
        reader_look(&t);
        what = "look for the key";
        if (!t.r_found && t.r_pc == CHECK && sabotage == MISS_UNCHECKED) {
            if (!reader_accepts(x, &t, what))
                return;
            reader_end(&t);
        }
        break;
    case COUNTER_LOAD:
        t.r_byte = s->keys[s->r_segment - 1];
        t.r_pc = COUNTER_STORE;
        what = "load counter byte";
        break;
    case COUNTER_STORE:
        if (s->word[s->r_segment - 1] == VALUE) {
            ex_fail(x, "reader", "store counter", "torn for ever: counter stored into value bytes");
            return;
        }
        if (sabotage == COUNTER_SHARES_BYTE)
            t.keys[s->r_segment - 1] = s->r_byte;
        t.r_segment = t.r_byte = 0;
        t.r_pc = CHECK;
        what = "store counter byte";
        break;
    default:
        what = "ver as before?";
        if (!s->r_raised && !reader_accepts(x, s, what))
            return;
        reader_end(&t);
        break;
    }
    emit(x, &t, "reader", what);
}

/* Segments in order of first mention, the unmentioned by content. */
static void sort_segments(struct state *t)
{
    uint8_t *const mention[] = {&t->entry[0], &t->entry[1], &t->entry[2], &t->entry[3],  &t->old,
                                &t->half[0],  &t->half[1],  &t->ahead,    &t->r_segment, &t->other};
    uint8_t number[NSEGMENT + 1] = {0};
    uint8_t mentioned = ex_rename(mention, sizeof mention / sizeof *mention, number);
    uint8_t next = mentioned;
    uint16_t sorted[NSEGMENT];
    for (int g = 1; g <= NSEGMENT; g++) {
        if (number[g] != 0) {
            sorted[number[g] - 1] = (uint16_t)(t->word[g - 1] << 8 | t->keys[g - 1]);
            continue;
        }
        uint16_t v = (uint16_t)(t->word[g - 1] << 8); /* nobody can come to see its keys */
        int at = next++;
        for (; at > mentioned && sorted[at - 1] > v; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = v;
    }
    for (int g = 0; g < NSEGMENT; g++) {
        t->word[g] = (uint8_t)(sorted[g] >> 8);
        t->keys[g] = (uint8_t)sorted[g];
    }
}

static const char *broken(const struct state *s)
{
    for (int e = 0; e < ENTRIES; e++) {
        if (s->word[s->entry[e] - 1] != OURS)
            return "directory names a segment that is not the stripe's";
        bool found = (s->keys[s->entry[e] - 1] & 1 << e) != 0;
        if (found != ((s->present & 1 << e) != 0))
            return found ? "deleted key is back" : "key lost";
    }
    if (s->lock != FREE_LOCK)
        return NULL;
    for (int g = 1; g <= NSEGMENT; g++) {
        if (s->word[g - 1] == OURS && !named(s, g) && g != s->ahead)
            return "leak: segment of the stripe that the directory does not name";
        for (int k = 0; k < ENTRIES && named(s, g); k++)
            if ((s->keys[g - 1] & 1 << k) != 0 && s->entry[k] != g)
                return "key is in two segments";
    }
    return NULL;
}

static void emit(struct ex *x, struct state *t, const char *who, const char *what)
{
    sort_segments(t);
    const char *why = broken(t);
    if (why != NULL)
        ex_fail(x, who, what, why);
    else
        ex_step(x, t, who, what);
}

static void expand(struct ex *x, const void *state)
{
    const struct state *s = state;
    if (s->lock == FREE_LOCK && s->r_pc == IDLE && s->other == 0)
        ex_goal(x);
    workers(x, s);
    others(x, s);
    reader(x, s);
}

static void init(void *state)
{
    struct state *s = state;
    memset(s, 0, sizeof *s);
    s->alive = 3;
    s->kills = 2;
    for (int e = 0; e < ENTRIES; e++)
        s->entry[e] = 1;
    s->word[0] = OURS;
    s->keys[0] = s->present = 5;
}

static const char *const runs[] = {"two_keys", "full", NULL};

static void setup(int run, int sabotaged)
{
    changing = run == 1 ? 15 : 3;
    looked_up = run == 1 ? 15 : 7;
    sabotage = (enum sabotage)sabotaged;
}

static void show(const void *state, char *text, size_t room)
{
    const struct state *s = state;
    int n = snprintf(text, room, "dir");
    for (int e = 0; e < ENTRIES && n > 0 && (size_t)n < room; e++)
        n += snprintf(text + n, room - (size_t)n, " %d:%d", s->entry[e], s->depth[e]);
    for (int g = 0; g < NSEGMENT && n > 0 && (size_t)n < room; g++)
        n += snprintf(text + n, room - (size_t)n, " |%c%x", ".o2V"[s->word[g]], s->keys[g]);
    if (n > 0 && (size_t)n < room)
        snprintf(text + n, room - (size_t)n, " present %x lock %d | reader key %d segment %d%s",
                 s->present, s->lock, s->r_key, s->r_segment, s->r_raised ? " raised" : "");
}

static const char *const sabotages[] = {"none",
                                        "recovery_frees_first",
                                        "deepest_claims",
                                        "no_directory_repair",
                                        "no_segment_sweep",
                                        "free_before_raise",
                                        "take_without_stripe",
                                        "index_pages_return",
                                        "counter_shares_byte",
                                        "link_before_fill",
                                        "miss_unchecked",
                                        NULL};

const struct ex_scenario split_scenario = {
    .name = "split",
    .size = sizeof(struct state),
    .runs = runs,
    .sabotages = sabotages,
    .goals = true,
    .setup = setup,
    .init = init,
    .expand = expand,
    .show = show,
};
