/*
 * lock.c - scenario "lock": the futex word, waiters, proof of death, taking over
 *
 * The word is {number, waiters}. Take: compare-and-swap 0 -> number; else set the waiters bit,
 * sleep while the word is as seen, at most for a time limit, prove the owner dead or try again.
 * Give: exchange 0, wake one sleeper if the bit was set. Who has waited takes with the bit set, for
 * others may still sleep.
 *
 * Run "kills": three processes with rows of their own, two kills, each dead process comes back once
 * with a new number in its old row, after folding it. Run "patient": nobody dies and no time limit
 * exists, so a lost wake-up would be for ever. Checked: never two living owners, nobody works on a
 * stripe that a dead owner left half changed, the lock can always be had again, and (patient) no
 * wake-up is lost.
 *
 * A kill frees the row's byte at once. Waiting for a stopped owner ends with the operation's limit
 * ("give up"). Not here: order of memory; the content of the stripe is one bit, "half changed".
 */
#include "explore.h"

#include <stdio.h>
#include <string.h>

#define NPROC 3
#define WAITERS 0x80

enum {
    DEAD,
    FOLD,
    FOLD_TAKE,
    IDLE,
    TRY,
    LOOK,
    MARK,
    SLEEP,
    ASLEEP,
    PROVE,
    SEIZE,
    RECOVER,
    ENTER,
    INSIDE,
    GIVE,
    WAKE
};

enum sabotage {
    NO_SABOTAGE,
    BIT_DROPPED,       /* who has waited takes the lock without the waiters bit */
    SLEEP_UNCOMPARED,  /* sleeps without the kernel's comparison */
    NO_WAKE,           /* the bit is not looked at when giving */
    NO_TIME_LIMIT,     /* sleeps until woken, in the run with kills */
    STEAL_FROM_LIVING, /* takes over when the time limit is over */
    SEIZE_BY_STORE,    /* takes over by a store */
    NO_RECOVERY,       /* takes over and goes on without repair */
    ROW_IN_LOCK_WORD,  /* the word names the row, not the number */
    NO_FOLD,           /* an attacher does not look for locks of its row */
};

struct process {
    uint8_t pc, seen;
    uint8_t waited; /* takes with the waiters bit from now on */
    uint8_t life;   /* how often it was reborn */
};

struct state {
    struct process p[NPROC];
    uint8_t word, inside, half,
        kills; /* half: the stripe is half changed; inside: bit per living owner */
};

static enum sabotage sabotage;
static bool patient;
static const char *const names[NPROC] = {"A", "B", "C"};

static uint8_t number(const struct state *s, int i)
{
    int life = sabotage == ROW_IN_LOCK_WORD ? 0 : s->p[i].life;
    return (uint8_t)(1 + i + NPROC * life);
}

static int row_of(uint8_t word)
{
    return ((word & ~WAITERS) - 1) % NPROC;
}

static void emit(struct ex *x, struct state *t, int i, const char *what)
{
    if ((t->inside & (t->inside - 1)) != 0) {
        ex_fail(x, names[i], what, "two living owners");
        return;
    }
    ex_step(x, t, names[i], what);
}

/* The word was swapped to ours; the dead leave work to do. */
static void own(struct state *t, int i, uint8_t word, bool from_dead)
{
    t->word = word;
    t->inside |= (uint8_t)(1 << i);
    t->p[i].pc = from_dead && sabotage != NO_RECOVERY ? RECOVER : ENTER;
    t->p[i].seen = 0;
}

static void take(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    bool bit = me->waited && sabotage != BIT_DROPPED;
    const char *what = "lock";
    switch (me->pc) {
    case IDLE:
        me->pc = TRY;
        what = "want the lock";
        break;
    case TRY:
        if (s->word == 0)
            own(&t, i, (uint8_t)(number(s, i) | (bit ? WAITERS : 0)), false);
        else
            me->pc = LOOK;
        what = s->word == 0 ? "lock" : "lock: busy";
        break;
    case LOOK:
        me->seen = s->word;
        me->pc = s->word == 0 ? TRY : (s->word & WAITERS) != 0 ? SLEEP : MARK;
        what = "look at the word";
        break;
    default: /* MARK */
        if (s->word == me->seen) {
            t.word |= WAITERS;
            me->seen |= WAITERS;
            me->pc = SLEEP;
        } else {
            me->pc = TRY;
        }
        what = "set the waiters bit";
        break;
    }
    if (me->pc == TRY)
        me->seen = 0;
    emit(x, &t, i, what);
}

/* Falls asleep if the word is as seen, which the kernel compares; wakes by time limit. */
static void sleeps(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    if (me->pc == SLEEP) {
        bool same = s->word == me->seen || sabotage == SLEEP_UNCOMPARED;
        me->waited = 1;
        me->pc = same ? ASLEEP : TRY;
        if (!same)
            me->seen = 0;
        emit(x, &t, i, same ? "fall asleep" : "the word changed");
        return;
    }
    if (patient || sabotage == NO_TIME_LIMIT)
        return;
    me->pc = PROVE;
    emit(x, &t, i, "time limit");
    t = *s;
    t.p[i] = (struct process){.pc = IDLE, .life = s->p[i].life};
    emit(x, &t, i, "give up: Busy");
}

static void take_over(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    if (me->pc == PROVE) {
        bool dead = s->p[row_of(me->seen)].pc == DEAD || sabotage == STEAL_FROM_LIVING;
        me->pc = dead ? SEIZE : TRY;
        if (!dead)
            me->seen = 0;
        emit(x, &t, i, dead ? "owner proved dead" : "owner lives");
    } else if (s->word == me->seen || sabotage == SEIZE_BY_STORE) {
        own(&t, i, (uint8_t)(number(s, i) | WAITERS), true);
        emit(x, &t, i, "lock, from the dead");
    } else {
        me->pc = TRY;
        me->seen = 0;
        emit(x, &t, i, "too late");
    }
}

static void work(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    const char *what = "";
    if (me->pc == RECOVER) {
        t.half = 0;
        me->pc = me->waited ? ENTER : GIVE; /* an attacher only repairs */
        what = "recover";
    } else if (me->pc == ENTER) {
        if (s->half) {
            ex_fail(x, names[i], "enter", "works on a stripe that is half changed");
            return;
        }
        t.half = 1;
        me->pc = INSIDE;
        what = "change the first half";
    } else if (me->pc == INSIDE) {
        t.half = 0;
        me->pc = GIVE;
        what = "change the second half";
    } else {
        if ((s->word & ~WAITERS) != number(s, i)) {
            ex_fail(x, names[i], "unlock", "the lock was taken from a living owner");
            return;
        }
        bool wake = (s->word & WAITERS) != 0 && sabotage != NO_WAKE;
        t.word = 0;
        t.inside &= (uint8_t)~(1 << i);
        *me = (struct process){.pc = wake ? WAKE : IDLE, .life = me->life};
        what = "unlock";
    }
    emit(x, &t, i, what);
}

/* futex wake of one: whichever sleeps; if none does, it is gone. */
static void wake(struct ex *x, const struct state *s, int i)
{
    bool any = false;
    for (int k = 0; k < NPROC; k++) {
        if (s->p[k].pc != ASLEEP)
            continue;
        struct state t = *s;
        t.p[i].pc = IDLE;
        t.p[k].pc = TRY;
        t.p[k].seen = 0;
        any = true;
        emit(x, &t, i, "wake one");
    }
    if (!any) {
        struct state t = *s;
        t.p[i].pc = IDLE;
        emit(x, &t, i, "nobody to wake");
    }
}

/* The dead come back in their old row with a new number and fold what the row still holds. */
static void attach(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    if (me->pc == DEAD) {
        if (me->life == 1)
            return;
        *me = (struct process){.pc = FOLD, .life = 1};
        emit(x, &t, i, "attach: take the byte");
    } else if (me->pc == FOLD) {
        bool mine = s->word != 0 && row_of(s->word) == i && sabotage != NO_FOLD;
        me->seen = mine ? s->word : 0;
        me->pc = mine ? FOLD_TAKE : IDLE;
        emit(x, &t, i, mine ? "fold: a lock of this row" : "fold: no lock");
    } else {
        if (s->word == me->seen)
            own(&t, i, (uint8_t)(number(s, i) | (s->word & WAITERS)), true);
        else
            me->pc = FOLD;
        emit(x, &t, i, "fold: lock, from the dead");
    }
}

static void process(struct ex *x, const struct state *s, int i)
{
    uint8_t pc = s->p[i].pc;
    if (pc <= FOLD_TAKE)
        attach(x, s, i);
    else if (pc <= MARK)
        take(x, s, i);
    else if (pc <= ASLEEP)
        sleeps(x, s, i);
    else if (pc <= SEIZE)
        take_over(x, s, i);
    else if (pc <= GIVE)
        work(x, s, i);
    else
        wake(x, s, i);
    if (s->kills > 0 && pc != DEAD) {
        struct state t = *s;
        t.p[i] = (struct process){.pc = DEAD, .life = s->p[i].life};
        t.inside &= (uint8_t)~(1 << i);
        t.kills--;
        ex_step(x, &t, names[i], ex_sigkill);
    }
}

/* Patient: everybody rests or sleeps, and the lock is free. */
static bool overslept(const struct state *s)
{
    bool asleep = false;
    for (int i = 0; i < NPROC; i++) {
        if (s->p[i].pc != IDLE && s->p[i].pc != ASLEEP)
            return false;
        asleep |= s->p[i].pc == ASLEEP;
    }
    return asleep;
}

static void expand(struct ex *x, const void *state)
{
    const struct state *s = state;
    bool rest = s->word == 0 && !s->half, any = false;
    for (int i = 0; i < NPROC; i++) {
        rest &= s->p[i].pc == DEAD || s->p[i].pc == IDLE;
        any |= s->p[i].pc != DEAD;
    }
    if (rest || !any)
        ex_goal(x);
    if (patient && overslept(s))
        ex_fail(x, "all", "asleep", "lost wake-up: all sleep before a free lock");
    for (int i = 0; i < NPROC; i++)
        process(x, s, i);
}

static void init(void *state)
{
    struct state *s = state;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < NPROC; i++)
        s->p[i].pc = IDLE;
    s->kills = patient ? 0 : 2;
}

static const char *const runs[] = {"kills", "patient", NULL};

static void setup(int run, int sabotaged)
{
    patient = run == 1;
    sabotage = (enum sabotage)sabotaged;
}

static void show(const void *state, char *text, size_t room)
{
    static const char *const pc[] = {"dead",  "fold",   "fold-take", "idle",  "try",   "look",
                                     "mark",  "sleep",  "asleep",    "prove", "seize", "recover",
                                     "enter", "inside", "give",      "wake"};
    const struct state *s = state;
    int n = snprintf(text, room, "word %d%s half %d |", s->word & ~WAITERS,
                     s->word & WAITERS ? "+w" : "", s->half);
    for (int i = 0; i < NPROC && n > 0 && (size_t)n < room; i++)
        n += snprintf(text + n, room - (size_t)n, " %s seen %d", pc[s->p[i].pc],
                      s->p[i].seen & ~WAITERS);
}

static const char *const sabotages[] = {"none",
                                        "bit_dropped",
                                        "sleep_uncompared",
                                        "no_wake",
                                        "no_time_limit",
                                        "steal_from_living",
                                        "seize_by_store",
                                        "no_recovery",
                                        "row_in_lock_word",
                                        "no_fold",
                                        NULL};

const struct ex_scenario lock_scenario = {
    .name = "lock",
    .size = sizeof(struct state),
    .runs = runs,
    .sabotages = sabotages,
    .goals = true,
    .setup = setup,
    .init = init,
    .expand = expand,
    .show = show,
};
