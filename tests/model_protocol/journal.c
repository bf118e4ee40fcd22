/*
 * journal.c - scenario "journal": pending slots of the ring, their decision, the consumer
 *
 * Two stripes with one key each, a ring of three slots, five pages. Any number of interchangeable
 * workers lock a stripe and set, delete, change in place or relocate; the consumer writes records
 * to disk; two of them all may be killed at any step. A stripe's worker acts only under its lock,
 * so it lives in the stripe.
 *
 * Checked: the disk gets each committed change exactly once (again only as the same record), in
 * order, with the bytes it had when it was committed, and nothing that was not committed; it can
 * always catch up.
 *
 * Positions in the ring are counted from the consumer's, so a state looks the same in each lap: a
 * slot EMPTY at distance d is free for position head + d. A version is named by its age: NEXT (not
 * committed), 1 the newest, 2 the one before. `lag` counts committed changes that are not on disk.
 * Nothing but the kills is bounded. Not here: fsync, torn files, snapshots, transactions.
 */
#include "explore.h"

#include <stdio.h>
#include <string.h>

#define RING 3
#define NPAGE 5
#define NSTRIPE 2
#define NEXT 0
#define OLDEST 7 /* this age and all above */
#define NO_POSITION 100
#define PASSED (-1)

enum slot_phase { EMPTY, PENDING, COMMITTED, ABORTED };
enum { FREE_LOCK, HELD, HELD_BY_DEAD };
enum { NOTHING, SET, DELETE, IN_PLACE };
enum {
    CHOOSE,
    CLAIM,
    CLAIM2,
    FILL,
    POSITION,
    COMMIT,
    DECIDE,
    CLEAR,
    UNLOCK,
    RECOVER,
    RECOVER_CLEAR
};

enum sabotage {
    NO_SABOTAGE,
    FREE_IGNORES_JOURNAL,  /* a page is freed before the journal has passed it */
    NO_PAGE_POSITION,      /* page.jpos is not stored */
    COMMIT_BEFORE_CLAIM,   /* ref store first, then the slot */
    DECIDED_BEFORE_COMMIT, /* slot COMMITTED first, then the ref store */
    CLEARED_FIRST,         /* jpos := 0 first, then COMMITTED */
    NO_POSITION_STORED,    /* no jpos at all */
    RECOVERY_IGNORES,      /* recovery clears jpos without deciding */
    RECOVERY_PLAIN_STORE,  /* recovery stores its decision without comparing lap and phase */
    CLAIM_WITHOUT_LAP,     /* the claim compares "empty" only */
    FETCH_ADD,             /* a position is taken first, the slot marked afterwards */
    SKIP_PENDING,          /* the consumer passes a PENDING slot */
    ABORT_WITHOUT_LOCK,    /* the consumer aborts a PENDING slot without the stripe's lock */
    MUTABLE_FROM_PAGE, /* the consumer takes the mutable word from the page, not from the slot */
};

struct slot {
    uint8_t phase, stripe, op, page, mutable; /* mutable: age of the change */
};

struct page {
    uint8_t used, stripe, value, mutable; /* ages */
    int8_t position;                      /* page.jpos */
};

struct stripe {
    uint8_t lock, pc, op, ref, page; /* page: of the holder, complete but not published */
    int8_t jpos, at;                 /* at: of the holder, its position */
    uint8_t lag;
};

struct state {
    struct slot slot[RING];
    struct page page[NPAGE];
    struct stripe stripe[NSTRIPE];
    int8_t tail; /* sabotage fetch_add only */
    uint8_t written, on_disk, kills;
};

static enum sabotage sabotage;
static int ring, stripes; /* of this run, at most RING and NSTRIPE */
static uint8_t kills;

static void emit(struct ex *x, struct state *t, const char *who, const char *what);

static void grow_old(uint8_t *age)
{
    if (*age < OLDEST)
        ++*age;
}

/* Everything of this stripe grows older by one change; what was NEXT becomes the newest. */
static void age_stripe(struct state *t, int stripe)
{
    for (int i = 0; i < RING; i++)
        if (t->slot[i].phase != EMPTY && t->slot[i].stripe == stripe)
            grow_old(&t->slot[i].mutable);
    for (int p = 0; p < NPAGE; p++) {
        if (t->page[p].used && t->page[p].stripe == stripe) {
            grow_old(&t->page[p].value);
            grow_old(&t->page[p].mutable);
        }
    }
    t->stripe[stripe].lag++;
}

static void commit(struct state *t, int k)
{
    struct stripe *s = &t->stripe[k];
    if (s->op == IN_PLACE)
        t->page[s->ref - 1].mutable = NEXT;
    else
        s->ref = s->page;
    s->page = 0;
    age_stripe(t, k);
}

/* The slot of a position, lap or no lap. */
static struct slot *slot_at(struct state *t, int position)
{
    return &t->slot[(position + 4 * ring) % ring];
}

static int free_page(const struct state *s)
{
    for (int p = 1; p <= NPAGE; p++)
        if (!s->page[p - 1].used)
            return p;
    return 0;
}

/* What the holder of stripe k sets out to do. */
static void choose(struct ex *x, const struct state *s, int k)
{
    uint8_t start = sabotage == COMMIT_BEFORE_CLAIM ? COMMIT : CLAIM;
    int fresh = free_page(s);
    for (int op = SET; op <= IN_PLACE; op++) {
        struct state t = *s;
        struct stripe *me = &t.stripe[k];
        if (op == SET ? fresh == 0 : me->ref == 0)
            continue;
        if (op == SET) {
            t.page[fresh - 1] = (struct page){.used = 1, .stripe = (uint8_t)k, .position = PASSED};
            me->page = (uint8_t)fresh;
        }
        me->op = (uint8_t)op;
        me->pc = start;
        emit(x, &t, "worker",
             op == SET      ? "begin set"
             : op == DELETE ? "begin delete"
                            : "begin in place");
    }
    if (s->stripe[k].ref != 0 && fresh != 0) {
        struct state t = *s;
        t.page[fresh - 1] = t.page[s->stripe[k].ref - 1];
        t.page[fresh - 1].position = PASSED;
        t.stripe[k].ref = (uint8_t)fresh;
        t.stripe[k].pc = UNLOCK;
        emit(x, &t, "worker", "relocate: ref := copy");
    }
    if (s->slot[0].phase == PENDING && s->slot[0].stripe == k) {
        struct state t = *s; /* we hold its stripe, so its owner is dead and left no jpos */
        t.slot[0].phase = ABORTED;
        t.stripe[k].pc = UNLOCK;
        emit(x, &t, "decider", "orphan slot := ABORTED");
    }
}

static int first_unclaimed(const struct state *s)
{
    int at = 0;
    while (at < ring && s->slot[at].phase != EMPTY)
        at++;
    return at;
}

/*
 * A compare-and-swap from {EMPTY, lap}. Who fails tries the next position, and what is claimed
 * stays claimed for its lap, so the one that succeeds is at the first unclaimed position: one step.
 * The two sabotages have their look at the ring apart from their store.
 */
static void claim(struct ex *x, const struct state *s, int k)
{
    struct state t = *s;
    struct stripe *me = &t.stripe[k];
    bool two_steps = sabotage == CLAIM_WITHOUT_LAP || sabotage == FETCH_ADD;
    if (me->pc == CLAIM) {
        me->at = (int8_t)(sabotage == FETCH_ADD ? t.tail : first_unclaimed(s));
        if (me->at >= ring) {
            if (sabotage == COMMIT_BEFORE_CLAIM)
                return;
            me->pc = UNLOCK;
            emit(x, &t, "worker", "ring full");
            return;
        }
        if (sabotage == FETCH_ADD)
            t.tail++;
        if (two_steps) {
            me->pc = CLAIM2;
            emit(x, &t, "worker", "look for a position");
            return;
        }
    }
    struct slot *slot = slot_at(&t, me->at);
    if (slot->phase != EMPTY) {
        me->pc = CLAIM;
        emit(x, &t, "worker", "claim fails");
        return;
    }
    *slot = (struct slot){.phase = PENDING, .stripe = (uint8_t)k};
    me->pc = FILL;
    emit(x, &t, "worker", "slot EMPTY -> PENDING");
}

/* From the claimed slot to the decision, in the order of the protocol or of the sabotage. */
static uint8_t after(uint8_t pc)
{
    static const uint8_t normal[] = {FILL, POSITION, COMMIT, DECIDE, CLEAR, UNLOCK};
    static const uint8_t decided[] = {FILL, POSITION, DECIDE, COMMIT, CLEAR, UNLOCK};
    static const uint8_t cleared[] = {FILL, POSITION, COMMIT, CLEAR, DECIDE, UNLOCK};
    static const uint8_t early[] = {COMMIT, CLAIM, FILL, POSITION, DECIDE, CLEAR, UNLOCK};
    const uint8_t *order = sabotage == DECIDED_BEFORE_COMMIT ? decided
                           : sabotage == CLEARED_FIRST       ? cleared
                           : sabotage == COMMIT_BEFORE_CLAIM ? early
                                                             : normal;
    while (*order != pc)
        order++;
    return order[1];
}

static void write_step(struct ex *x, const struct state *s, int k)
{
    struct state t = *s;
    struct stripe *me = &t.stripe[k];
    struct slot *slot = slot_at(&t, me->at);
    const char *what = "";
    me->pc = after(s->stripe[k].pc);
    switch (s->stripe[k].pc) {
    case FILL:
        slot->op = me->op;
        slot->page = me->op == SET ? me->page : me->ref;
        slot->mutable = NEXT;
        if (sabotage == COMMIT_BEFORE_CLAIM) {
            slot->page = me->ref;
            slot->mutable = 1;
        }
        if (slot->page != 0 && slot->op == SET && sabotage != NO_PAGE_POSITION)
            t.page[slot->page - 1].position = me->at;
        what = "fill slot, page.jpos := position";
        break;
    case POSITION:
        if (sabotage != NO_POSITION_STORED)
            me->jpos = me->at;
        what = "jpos := position";
        break;
    case COMMIT:
        commit(&t, k);
        what = me->op == IN_PLACE ? "store in place" : "ref store";
        break;
    case DECIDE:
        if (slot->phase == PENDING)
            slot->phase = COMMITTED;
        what = "slot PENDING -> COMMITTED";
        break;
    default:
        me->jpos = NO_POSITION;
        what = "jpos := 0";
        break;
    }
    emit(x, &t, "worker", what);
}

/* Does the index say that the change of this slot happened? */
static bool happened(const struct state *s, const struct slot *slot, int k)
{
    uint8_t ref = s->stripe[k].ref;
    if (slot->op == DELETE)
        return ref == 0;
    if (ref == 0 || ref != slot->page)
        return false;
    return slot->op == SET || s->page[ref - 1].mutable == slot->mutable;
}

static void recover(struct ex *x, const struct state *s, int k)
{
    struct state t = *s;
    struct stripe *me = &t.stripe[k];
    if (me->pc == RECOVER_CLEAR) {
        me->jpos = NO_POSITION;
        me->pc = CHOOSE;
        emit(x, &t, "recoverer", "jpos := 0");
        return;
    }
    const char *what = "no jpos, or decided already";
    me->pc = RECOVER_CLEAR;
    if (me->jpos != NO_POSITION && sabotage != RECOVERY_IGNORES) {
        struct slot *slot = slot_at(&t, me->jpos);
        bool mine = me->jpos >= 0 && slot->phase == PENDING;
        if (mine || sabotage == RECOVERY_PLAIN_STORE) {
            slot->phase = happened(s, slot, k) ? COMMITTED : ABORTED;
            what = slot->phase == COMMITTED ? "jpos: COMMITTED" : "jpos: ABORTED";
        }
    }
    emit(x, &t, "recoverer", what);
}

static void worker(struct ex *x, const struct state *s, int k)
{
    struct state t = *s;
    struct stripe *me = &t.stripe[k];
    if (me->lock != HELD) {
        me->pc = me->lock == HELD_BY_DEAD ? RECOVER : CHOOSE;
        me->lock = HELD;
        emit(x, &t, "worker", me->pc == RECOVER ? "lock, from the dead" : "lock");
        return;
    }
    if (me->pc == CHOOSE)
        choose(x, s, k);
    else if (me->pc == CLAIM || me->pc == CLAIM2)
        claim(x, s, k);
    else if (me->pc == RECOVER || me->pc == RECOVER_CLEAR)
        recover(x, s, k);
    else if (me->pc != UNLOCK)
        write_step(x, s, k);
    if (me->pc == UNLOCK || me->pc == CHOOSE) {
        me->lock = FREE_LOCK;
        emit(x, &t, "worker", "unlock");
    }
    if (s->kills > 0) {
        t = *s;
        me->lock = HELD_BY_DEAD;
        t.kills--;
        emit(x, &t, "worker", ex_sigkill);
    }
}

static void retreat(int8_t *position)
{
    if (*position == NO_POSITION)
        return;
    bool laps = sabotage == CLAIM_WITHOUT_LAP || sabotage == RECOVERY_PLAIN_STORE;
    if (*position > (laps ? -ring : PASSED))
        --*position;
}

/* The consumer passes its slot: empty for the next lap, every position one nearer. */
static void pass(struct state *t)
{
    for (int i = 0; i + 1 < ring; i++)
        t->slot[i] = t->slot[i + 1];
    t->slot[ring - 1] = (struct slot){.phase = EMPTY};
    for (int k = 0; k < NSTRIPE; k++) {
        retreat(&t->stripe[k].jpos);
        retreat(&t->stripe[k].at);
    }
    for (int p = 0; p < NPAGE; p++)
        if (t->page[p].position > PASSED)
            t->page[p].position--;
    if (sabotage == FETCH_ADD)
        t->tail--;
    t->written = t->on_disk = 0;
}

/* Why the record of the slot at the head may not be written now, or NULL. */
static const char *misrecord(const struct state *s)
{
    const struct slot *slot = &s->slot[0];
    uint8_t expected = s->stripe[slot->stripe].lag; /* the oldest change that is not on disk */
    uint8_t mutable = slot->mutable;
    if (s->on_disk)
        expected++;
    if (slot->op == SET) {
        const struct page *page = &s->page[slot->page - 1];
        if (sabotage == MUTABLE_FROM_PAGE)
            mutable = page->mutable;
        if (!page->used || page->stripe != slot->stripe || page->value != expected)
            return "journal and memory differ: bytes of another item";
    }
    return mutable == expected && expected != 0 ? NULL
                                                : "journal and memory differ: not the next change";
}

static void consumer(struct ex *x, const struct state *s)
{
    const struct slot *slot = &s->slot[0];
    struct state t = *s;
    if (slot->phase == PENDING && (sabotage == SKIP_PENDING || sabotage == ABORT_WITHOUT_LOCK)) {
        t.slot[0].phase = ABORTED;
        emit(x, &t, "consumer", "PENDING passed");
        return;
    }
    if (slot->phase == EMPTY || slot->phase == PENDING)
        return; /* PENDING: waits for the stripe's lock, see choose() */
    if (slot->phase == ABORTED || s->written) {
        pass(&t);
        emit(x, &t, "consumer", "pass the slot");
    } else {
        const char *why = misrecord(s);
        if (why != NULL)
            ex_fail(x, "consumer", "write record", why);
        if (!s->on_disk)
            t.stripe[slot->stripe].lag--;
        t.written = t.on_disk = 1;
        emit(x, &t, "consumer", "write record");
    }
    if (s->kills > 0 && s->written) {
        t = *s;
        t.written = 0;
        t.kills--;
        emit(x, &t, "consumer", ex_sigkill);
    }
}

/*
 * Garbage that the journal has passed is free; that it is garbage is proved under the stripe's
 * lock. Freed at the first moment it may be: whoever still needs it is caught, whoever takes it
 * can.
 */
static void free_garbage(struct state *t)
{
    for (uint8_t p = 1; p <= NPAGE; p++) {
        struct page *page = &t->page[p - 1];
        const struct stripe *stripe = &t->stripe[page->stripe];
        bool passed = page->position <= PASSED || sabotage == FREE_IGNORES_JOURNAL;
        if (page->used && stripe->lock == FREE_LOCK && stripe->ref != p && passed)
            *page = (struct page){.used = 0};
    }
}

/* A page's value is read only through a slot, its mutable word also through the index. */
static void forget_dead_bytes(struct state *t)
{
    for (uint8_t p = 1; p <= NPAGE; p++) {
        bool recorded = false, named = false;
        for (int i = 0; i < RING; i++)
            recorded |= t->slot[i].page == p && t->slot[i].op <= SET;
        for (int k = 0; k < NSTRIPE; k++) {
            recorded |= t->stripe[k].page == p;
            named |= t->stripe[k].ref == p;
            recorded |= named && sabotage == COMMIT_BEFORE_CLAIM; /* its slot is still to come */
        }
        if (!recorded)
            t->page[p - 1].value = 0;
        if (!named && sabotage != MUTABLE_FROM_PAGE)
            t->page[p - 1].mutable = 0;
    }
}

/* Pages by first mention, then by content; bytes nobody can reach are zeroed. */
static void sort_pages(struct state *t)
{
    uint8_t *mention[2 * NSTRIPE + RING];
    uint8_t number[NPAGE + 1] = {0};
    struct page sorted[NPAGE];
    size_t n = 0;
    for (int k = 0; k < NSTRIPE; k++) {
        mention[n++] = &t->stripe[k].ref;
        mention[n++] = &t->stripe[k].page;
    }
    for (int i = 0; i < RING; i++)
        mention[n++] = &t->slot[i].page;
    uint8_t mentioned = ex_rename(mention, n, number);
    uint8_t next = mentioned;
    for (int p = 1; p <= NPAGE; p++) {
        if (number[p] != 0) {
            sorted[number[p] - 1] = t->page[p - 1];
            continue;
        }
        struct page v = t->page[p - 1];
        int at = next++;
        v.value = v.mutable = 0;
        for (; at > mentioned && memcmp(&sorted[at - 1], &v, sizeof v) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = v;
    }
    memcpy(t->page, sorted, sizeof sorted);
}

static void emit(struct ex *x, struct state *t, const char *who, const char *what)
{
    for (int i = 0; i < RING; i++) {
        if (t->slot[i].phase == ABORTED || t->slot[i].phase == EMPTY)
            t->slot[i] = (struct slot){.phase = t->slot[i].phase};
        if (t->slot[i].op != SET && t->slot[i].phase == COMMITTED &&
            sabotage != RECOVERY_PLAIN_STORE) {
            t->slot[i].page = 0;
            t->slot[i].op = DELETE;
        }
    }
    forget_dead_bytes(t);
    for (int k = 0; k < NSTRIPE; k++) {
        struct stripe *s = &t->stripe[k];
        if (s->lock != HELD)
            s->pc = 0;
        if (s->lock != HELD || s->pc == CHOOSE || s->pc == UNLOCK || s->pc >= RECOVER)
            s->op = s->page = 0, s->at = 0;
        if (s->lag > RING + 1) {
            ex_fail(x, who, what, "journal and memory differ: a change was never recorded");
            return;
        }
    }
    free_garbage(t);
    sort_pages(t);
    ex_step(x, t, who, what);
}

static void expand(struct ex *x, const void *state)
{
    const struct state *s = state;
    bool quiet =
        s->slot[0].phase == EMPTY && s->slot[1].phase == EMPTY && s->slot[2].phase == EMPTY;
    for (int k = 0; k < NSTRIPE; k++)
        quiet &= s->stripe[k].lock == FREE_LOCK;
    if (quiet) {
        ex_goal(x);
        for (int k = 0; k < NSTRIPE; k++)
            if (s->stripe[k].lag != 0)
                ex_fail(x, "all", "quiet",
                        "journal and memory differ: a change was never recorded");
    }
    for (int k = 0; k < stripes; k++)
        worker(x, s, k);
    consumer(x, s);
}

static void init(void *state)
{
    struct state *s = state;
    memset(s, 0, sizeof *s);
    for (int k = 0; k < NSTRIPE; k++)
        s->stripe[k].jpos = NO_POSITION;
    s->kills = kills;
}

static const char *const runs[] = {"one_stripe", "two_stripes", "full", NULL};

static void setup(int run, int sabotaged)
{
    static const struct {
        int ring, stripes;
        uint8_t kills;
    } sizes[] = {{3, 1, 2}, {2, 2, 1}, {3, 2, 2}};
    ring = sizes[run].ring;
    stripes = sizes[run].stripes;
    kills = sizes[run].kills;
    sabotage = (enum sabotage)sabotaged;
}

static void show(const void *state, char *text, size_t room)
{
    static const char phase[] = ".PCA";
    const struct state *s = state;
    int n = snprintf(text, room, "ring");
    for (int i = 0; i < RING && n > 0 && (size_t)n < room; i++)
        n += snprintf(text + n, room - (size_t)n, " %c%d:%d", phase[s->slot[i].phase],
                      s->slot[i].stripe, s->slot[i].page);
    for (int k = 0; k < NSTRIPE && n > 0 && (size_t)n < room; k++)
        n += snprintf(text + n, room - (size_t)n, " | stripe lock %d ref %d jpos %d at %d lag %d",
                      s->stripe[k].lock, s->stripe[k].ref, s->stripe[k].jpos, s->stripe[k].at,
                      s->stripe[k].lag);
    if (n > 0 && (size_t)n < room)
        snprintf(text + n, room - (size_t)n, " | tail %d written %d", s->tail, s->written);
}

static const char *const sabotages[] = {"none",
                                        "free_ignores_journal",
                                        "no_page_position",
                                        "commit_before_claim",
                                        "decided_before_commit",
                                        "cleared_first",
                                        "no_position_stored",
                                        "recovery_ignores",
                                        "recovery_plain_store",
                                        "claim_without_lap",
                                        "fetch_add",
                                        "skip_pending",
                                        "abort_without_lock",
                                        "mutable_from_page",
                                        NULL};

const struct ex_scenario journal_scenario = {
    .name = "journal",
    .size = sizeof(struct state),
    .runs = runs,
    .sabotages = sabotages,
    .goals = true,
    .setup = setup,
    .init = init,
    .expand = expand,
    .show = show,
};
