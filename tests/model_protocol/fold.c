/*
 * fold.c - scenario "fold": death of a process, death of the one who gives back what it held
 *
 * Two rows, one stripe lock, four pages, four processes. A (number 2) and L (number 1) start
 * attached, P and Q (numbers 4 and 6) attach to A's row once its byte is free; whoever is attached
 * may also fold the other row, as a waiter, cleaner or daemon does. All of them clean a page:
 * CLEANING, a destination TAKEN, reserved and closed, the stripe locked, given back, and pin. Any
 * two processes are killed at any step.
 *
 * Checked: never two living owners of the stripe; no page, reservation or pin of a living process
 * is touched by another; what the dead held can always be given back, with none of them coming
 * back.
 *
 * Two ways to fold, both sound; the text "an attacher folds, and who no longer has its number in
 * its row is dead" is neither (sabotage row_bears_number): an attacher that repairs a stripe before
 * its number is in its row would be robbed.
 *
 * - Run "byte_is_proof". Dead is whose row's byte (row = number mod ROWS) is not held, whatever the
 *   row bears. Folded is every word whose number belongs to the row, not only row.number, since the
 *   holder of the byte knows that every other number of the row is dead (fold_named_only: not so).
 * - Run "attached_first". Dead is who has not both number in row and byte. Locks are folded only by
 *   processes that are attached elsewhere; an attacher leaves them, for anybody can take them over.
 *   The sabotage unattached_folds_locks is the text above.
 *
 * A compare-and-swap from a known word is one step. Not here: order of memory (all words are SC),
 * recovery of the stripe's content (split.c, journal.c), the futex (lock.c).
 */
#include "explore.h"

#include <stdio.h>
#include <string.h>

#define ROWS 2
#define NPAGE 4
#define NPROC 4

enum page_state { FREE, TAKEN, CLOSED, CLEANING };
enum {
    OUT,
    GONE,
    IDLE,
    FOLD_LOOK,
    FOLD_NUMBER_FIRST,
    FOLD_LOCK,
    FOLD_RECOVER,
    FOLD_GIVE,
    FOLD_PAGES,
    FOLD_RESERVATION,
    FOLD_PIN,
    FOLD_NUMBER,
    STORE_NUMBER,
    GIVE_BYTE,
    CLEAN_TAKE,
    CLEAN_RESERVE,
    CLEAN_CLOSE,
    CLEAN_LOCK,
    CLEAN_PROVE,
    CLEAN_STEAL,
    CLEAN_RECOVER,
    CLEAN_INSIDE,
    CLEAN_CLEAR,
    CLEAN_FREE,
    UNPIN
};

enum sabotage {
    NO_SABOTAGE,
    ROW_BEARS_NUMBER, /* alive = the row bears the number and the byte is held */
    FOLD_NAMED_ONLY,  /* only words that name row.number are folded */
    NO_BYTE_LOCK,     /* the right to fold is a guess (pid), not the byte */
    NO_PRIVATE_MUTEX, /* P and Q are threads that share a descriptor: the byte does not part them */
    NUMBER_CLEARED_FIRST, /* row.number := 0 is the first step of the fold */
    ROW_IN_LOCK_WORD,     /* words name the row, not the number */
    TAKE_BY_STORE,        /* the lock of the dead is taken by a store */
    STEAL_FROM_LIVING,    /* a waiter takes the lock when its time limit is over */
    PAGES_NOT_FOLDED,
    RESERVATIONS_NOT_FOLDED,
    UNATTACHED_FOLDS_LOCKS, /* attached_first: an attacher folds locks with the number it has drawn
                             */
};

struct row {
    uint8_t number, reservation, pin, byte; /* byte: process + 1 that holds its kernel lock */
};

struct page {
    uint8_t state, number;
};

struct process {
    uint8_t pc, row; /* row: being folded or attached to */
    uint8_t seen;    /* lock word before the proof */
    uint8_t from, to;
};

struct state {
    struct row row[ROWS];
    struct page page[NPAGE];
    struct process p[NPROC];
    uint8_t lock, inside, kills; /* inside: bit per living process between take and give */
};

static enum sabotage sabotage;
static bool attached_first; /* the second way, see above */
static const uint8_t numbers[NPROC] = {2, 1, 4, 6};
static const char *const names[NPROC] = {"A", "L", "P", "Q"};

/* What process i writes into lock and page words. */
static uint8_t mark(int i)
{
    return sabotage == ROW_IN_LOCK_WORD ? (uint8_t)(numbers[i] % ROWS + 1) : numbers[i];
}

static int row_of(uint8_t word)
{
    return sabotage == ROW_IN_LOCK_WORD ? word - 1 : word % ROWS;
}

static bool alive(const struct state *s, uint8_t number)
{
    for (int i = 0; i < NPROC; i++)
        if (numbers[i] == number)
            return s->p[i].pc != GONE;
    return false;
}

static void emit(struct ex *x, struct state *t, int i, const char *what)
{
    if ((t->inside & (t->inside - 1)) != 0) {
        ex_fail(x, names[i], what, "two living owners of the stripe");
        return;
    }
    ex_step(x, t, names[i], what);
}

/* May process i take the byte of row r? */
static bool byte_free(const struct state *s, int r, int i)
{
    uint8_t holder = s->row[r].byte;
    if (sabotage == NO_BYTE_LOCK)
        return s->row[r].number == 0 || !alive(s, s->row[r].number);
    if (sabotage == NO_PRIVATE_MUTEX && i >= 2 && holder >= 3)
        return s->p[holder - 1].pc < CLEAN_TAKE && s->row[r].number != numbers[holder - 1];
    return holder == 0;
}

/* Does the fold of row r by process i cover this word? */
static bool covered(const struct state *s, int i, uint8_t word)
{
    if (word == 0 || word == mark(i))
        return false;
    int r = s->p[i].row;
    if (attached_first || sabotage == FOLD_NAMED_ONLY || sabotage == ROW_BEARS_NUMBER)
        return word == s->row[r].number;
    return row_of(word) == r;
}

static void fold_pages(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    for (int k = 0; k < NPAGE && sabotage != PAGES_NOT_FOLDED; k++) {
        struct page *page = &t.page[k];
        if (page->state != TAKEN && page->state != CLEANING)
            continue;
        if (!covered(s, i, page->number))
            continue;
        if (sabotage != ROW_IN_LOCK_WORD && alive(s, page->number)) {
            ex_fail(x, names[i], "fold pages", "page stolen from a living process");
            return;
        }
        page->state = page->state == TAKEN ? FREE : CLOSED;
        page->number = 0;
        emit(x, &t, i, page->state == FREE ? "fold: TAKEN -> FREE" : "fold: CLEANING -> CLOSED");
        return;
    }
    t.p[i].pc = FOLD_RESERVATION;
    emit(x, &t, i, "fold: no more pages");
}

static void fold_lock(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    const char *what = "fold: no lock";
    if (me->pc == FOLD_LOCK && covered(s, i, s->lock)) {
        t.lock = mark(i);
        t.inside |= (uint8_t)(1 << i);
        me->pc = FOLD_RECOVER;
        what = "fold: lock, from the dead";
    } else if (me->pc == FOLD_LOCK) {
        me->pc = FOLD_PAGES;
    } else if (me->pc == FOLD_RECOVER) {
        me->pc = FOLD_GIVE;
        what = "fold: recover";
    } else {
        if (s->lock != mark(i)) {
            ex_fail(x, names[i], "fold: unlock", "the lock was taken from a living owner");
            return;
        }
        t.lock = 0;
        t.inside &= (uint8_t)~(1 << i);
        me->pc = FOLD_LOCK;
        what = "fold: unlock";
    }
    emit(x, &t, i, what);
}

/* The steps that touch the row itself. */
static void fold_row(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    struct row *row = &t.row[me->row];
    bool attaching = me->row == numbers[i] % ROWS;
    bool early = sabotage == NUMBER_CLEARED_FIRST;
    bool leave = attached_first && attaching && sabotage != UNATTACHED_FOLDS_LOCKS;
    uint8_t first = leave ? FOLD_PAGES : FOLD_LOCK;
    const char *what = "";
    switch (me->pc) {
    case FOLD_LOOK:
        me->pc = row->number == 0 ? (attaching ? STORE_NUMBER : GIVE_BYTE)
                 : early          ? FOLD_NUMBER_FIRST
                                  : first;
        what = "look at the row";
        break;
    case FOLD_RESERVATION:
        if (sabotage != RESERVATIONS_NOT_FOLDED)
            row->reservation = 0;
        me->pc = FOLD_PIN;
        what = "fold: reservation := 0";
        break;
    case FOLD_PIN:
        row->pin = 0;
        me->pc = early ? (attaching ? STORE_NUMBER : GIVE_BYTE) : FOLD_NUMBER;
        what = "fold: pin := 0";
        break;
    case FOLD_NUMBER_FIRST:
    case FOLD_NUMBER:
        me->pc = me->pc == FOLD_NUMBER_FIRST ? first : attaching ? STORE_NUMBER : GIVE_BYTE;
        row->number = 0;
        what = "fold: number := 0";
        break;
    case STORE_NUMBER:
        row->number = numbers[i];
        me->pc = IDLE;
        what = "attach: store number";
        break;
    default:
        row->byte = 0;
        me->pc = IDLE;
        me->row = 0;
        what = "give the byte";
        break;
    }
    emit(x, &t, i, what);
}

/* Attached and at rest: detach, fold the other row, pin, begin to clean. */
static void idle(struct ex *x, const struct state *s, int i)
{
    int own = numbers[i] % ROWS, other = 1 - own;
    struct state t = *s;
    if (i >= 2) {
        t.row[own].number = 0;
        t.row[own].byte = 0;
        t.p[i] = (struct process){.pc = GONE};
        emit(x, &t, i, "detach");
    }
    t = *s;
    if (s->row[other].number != 0 && byte_free(s, other, i)) {
        t.row[other].byte = (uint8_t)(i + 1);
        t.p[i].pc = FOLD_LOOK;
        t.p[i].row = (uint8_t)other;
        emit(x, &t, i, "take the byte of a dead row");
    }
    for (uint8_t k = 1; k <= NPAGE; k++) {
        t = *s;
        if (s->page[k - 1].state != CLOSED)
            continue;
        t.row[own].pin = k;
        t.p[i].from = k;
        t.p[i].pc = UNPIN;
        emit(x, &t, i, "pin");
        t = *s;
        if (s->row[0].reservation == k || s->row[1].reservation == k)
            continue;
        t.page[k - 1] = (struct page){CLEANING, mark(i)};
        t.p[i].from = k;
        t.p[i].pc = CLEAN_TAKE;
        emit(x, &t, i, "CLOSED -> CLEANING");
    }
}

/* A destination, reserved and closed, if there is a page for it. */
static void clean_destination(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    struct row *row = &t.row[numbers[i] % ROWS];
    const char *what = "FREE -> TAKEN";
    if (me->pc == CLEAN_TAKE) {
        int k = 0;
        while (k < NPAGE && s->page[k].state != FREE)
            k++;
        if (k < NPAGE) {
            t.page[k] = (struct page){TAKEN, mark(i)};
            me->to = (uint8_t)(k + 1);
            me->pc = CLEAN_RESERVE;
        } else {
            me->pc = CLEAN_LOCK; /* no destination: what lives there is evicted */
            what = "no page";
        }
    } else if (me->pc == CLEAN_RESERVE) {
        row->reservation = me->to;
        me->pc = CLEAN_CLOSE;
        what = "reservation := page";
    } else {
        struct page *to = &t.page[me->to - 1];
        if (to->state != TAKEN || to->number != mark(i)) {
            ex_fail(x, names[i], "TAKEN -> CLOSED", "page stolen from a living process");
            return;
        }
        *to = (struct page){CLOSED, 0};
        me->pc = CLEAN_LOCK;
        what = "TAKEN -> CLOSED";
    }
    emit(x, &t, i, what);
}

static bool proven_dead(const struct state *s, uint8_t word)
{
    const struct row *row = &s->row[row_of(word)];
    if (sabotage == STEAL_FROM_LIVING)
        return true;
    if (attached_first || sabotage == ROW_BEARS_NUMBER)
        return row->number != word || row->byte == 0;
    return row->byte == 0;
}

/* The stripe lock: free, or a look, the proof, a compare-and-swap from the word looked at. */
static void clean_lock(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    const char *what = "";
    bool fits;
    switch (me->pc) {
    case CLEAN_LOCK:
        if (s->lock == 0) {
            t.lock = mark(i);
            t.inside |= (uint8_t)(1 << i);
            me->pc = CLEAN_INSIDE;
            what = "lock";
        } else {
            me->seen = s->lock;
            me->pc = CLEAN_PROVE;
            what = "wait: see the owner";
        }
        break;
    case CLEAN_PROVE:
        me->pc = proven_dead(s, me->seen) ? CLEAN_STEAL : CLEAN_LOCK;
        what = me->pc == CLEAN_STEAL ? "owner proved dead" : "owner lives";
        break;
    default:
        fits = s->lock == me->seen || sabotage == TAKE_BY_STORE;
        if (fits) {
            t.lock = mark(i);
            t.inside |= (uint8_t)(1 << i);
        }
        me->pc = fits ? CLEAN_RECOVER : CLEAN_LOCK;
        what = fits ? "lock, from the dead" : "too late";
        break;
    }
    if (me->pc != CLEAN_PROVE && me->pc != CLEAN_STEAL)
        me->seen = 0;
    emit(x, &t, i, what);
}

static void clean_finish(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    struct process *me = &t.p[i];
    struct row *row = &t.row[numbers[i] % ROWS];
    const char *why = NULL, *what = "";
    if (me->pc == CLEAN_RECOVER) {
        me->pc = CLEAN_INSIDE;
        what = "recover";
    } else if (me->pc == CLEAN_INSIDE) {
        why = s->lock != mark(i) ? "the lock was taken from a living owner" : NULL;
        t.lock = 0;
        t.inside &= (uint8_t)~(1 << i);
        me->pc = CLEAN_CLEAR;
        what = "unlock";
    } else if (me->pc == CLEAN_CLEAR) {
        why = row->reservation != me->to ? "row without the reservation of its living owner" : NULL;
        row->reservation = 0;
        me->to = 0;
        me->pc = CLEAN_FREE;
        what = "reservation := 0";
    } else if (me->pc == CLEAN_FREE) {
        struct page *from = &t.page[me->from - 1];
        bool mine = from->state == CLEANING && from->number == mark(i);
        why = mine ? NULL : "page stolen from a living process";
        *from = (struct page){FREE, 0};
        me->from = 0;
        me->pc = IDLE;
        what = "CLEANING -> FREE";
    } else {
        why = row->pin != me->from ? "row without the pin of its living owner" : NULL;
        row->pin = 0;
        me->from = 0;
        me->pc = IDLE;
        what = "unpin";
    }
    if (why != NULL)
        ex_fail(x, names[i], what, why);
    else
        emit(x, &t, i, what);
}

static void process(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    uint8_t pc = s->p[i].pc;
    if (pc == GONE)
        return;
    if (pc == OUT) {
        int r = numbers[i] % ROWS;
        if (!byte_free(s, r, i))
            return;
        t.row[r].byte = (uint8_t)(i + 1);
        t.p[i] = (struct process){.pc = FOLD_LOOK, .row = (uint8_t)r};
        emit(x, &t, i, "attach: take the byte");
    } else if (pc == IDLE) {
        idle(x, s, i);
    } else if (pc == FOLD_LOCK || pc == FOLD_RECOVER || pc == FOLD_GIVE) {
        fold_lock(x, s, i);
    } else if (pc == FOLD_PAGES) {
        fold_pages(x, s, i);
    } else if (pc <= GIVE_BYTE) {
        fold_row(x, s, i);
    } else if (pc <= CLEAN_CLOSE) {
        clean_destination(x, s, i);
    } else if (pc <= CLEAN_STEAL) {
        clean_lock(x, s, i);
    } else {
        clean_finish(x, s, i);
    }
}

/* The kernel gives the bytes free; nothing else changes. */
static void murder(struct ex *x, const struct state *s, int i)
{
    struct state t = *s;
    if (s->kills == 0 || s->p[i].pc == OUT || s->p[i].pc == GONE)
        return;
    for (int r = 0; r < ROWS; r++)
        if (t.row[r].byte == i + 1)
            t.row[r].byte = 0;
    t.p[i] = (struct process){.pc = GONE};
    t.inside &= (uint8_t)~(1 << i);
    t.kills--;
    ex_step(x, &t, names[i], ex_sigkill);
}

/* The living rest, nothing is held, no row is borne by the dead. */
static bool quiet(const struct state *s)
{
    bool any = false;
    for (int i = 0; i < NPROC; i++) {
        if (s->p[i].pc > IDLE)
            return false;
        any |= s->p[i].pc == IDLE || s->p[i].pc == OUT;
    }
    for (int r = 0; r < ROWS && any; r++) {
        uint8_t number = s->row[r].number;
        if (s->row[r].reservation != 0 || s->row[r].pin != 0 || (number != 0 && !alive(s, number)))
            return false;
    }
    for (int k = 0; k < NPAGE && any; k++)
        if (s->page[k].state == TAKEN || s->page[k].state == CLEANING)
            return false;
    return s->lock == 0 || !any;
}

static void expand(struct ex *x, const void *state)
{
    const struct state *s = state;
    if (quiet(s))
        ex_goal(x);
    for (int i = 0; i < NPROC; i++) {
        process(x, s, i);
        murder(x, s, i);
    }
}

static void init(void *state)
{
    struct state *s = state;
    memset(s, 0, sizeof *s);
    for (int i = 0; i < 2; i++) {
        s->row[numbers[i] % ROWS].number = numbers[i];
        s->row[numbers[i] % ROWS].byte = (uint8_t)(i + 1);
        s->p[i].pc = IDLE;
    }
    s->page[0].state = s->page[1].state = CLOSED;
    s->kills = 2;
}

static const char *const runs[] = {"byte_is_proof", "attached_first", NULL};

static void setup(int run, int sabotaged)
{
    attached_first = run == 1;
    sabotage = (enum sabotage)sabotaged;
}

static void show(const void *state, char *text, size_t room)
{
    static const char page[] = "ftcC";
    const struct state *s = state;
    int n = snprintf(text, room, "lock %d inside %x |", s->lock, s->inside);
    for (int r = 0; r < ROWS && n > 0 && (size_t)n < room; r++)
        n += snprintf(text + n, room - (size_t)n, " row%d number %d byte %d resv %d pin %d |", r,
                      s->row[r].number, s->row[r].byte, s->row[r].reservation, s->row[r].pin);
    for (int k = 0; k < NPAGE && n > 0 && (size_t)n < room; k++)
        n += snprintf(text + n, room - (size_t)n, " %c%d", page[s->page[k].state],
                      s->page[k].number);
}

static const char *const sabotages[] = {"none",
                                        "row_bears_number",
                                        "fold_named_only",
                                        "no_byte_lock",
                                        "no_private_mutex",
                                        "number_cleared_first",
                                        "row_in_lock_word",
                                        "take_by_store",
                                        "steal_from_living",
                                        "pages_not_folded",
                                        "reservations_not_folded",
                                        "unattached_folds_locks",
                                        NULL};

const struct ex_scenario fold_scenario = {
    .name = "fold",
    .size = sizeof(struct state),
    .runs = runs,
    .sabotages = sabotages,
    .goals = true,
    .setup = setup,
    .init = init,
    .expand = expand,
    .show = show,
};
