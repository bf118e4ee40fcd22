/*
 * overflow.c - scenario "overflow": the overflow count of a bucket
 *
 * One segment of two buckets with one slot each; both keys are at home in bucket 0, so one of them
 * overflows into bucket 1. Interchangeable workers insert and delete under the stripe lock, two are
 * killed; a reader looks at bucket 0, the count, bucket 1.
 *
 * Checked: a key in bucket 1 is always found, so the count is never too low, at any instant and
 * after any death; an accepted hit or miss was true at some time during the read. A count that is
 * too high after a death is only slow; at STICKY it stays.
 */
#include "explore.h"

#include <stdio.h>
#include <string.h>

#define NKEY 2
#define STICKY 3 /* an overflow count that is never lowered again */

enum { CHOOSE, COUNT_UP, STORE, RAISE, COUNT_DOWN, UNLOCK };
enum { IDLE, HOME, COUNT, NEXT_BUCKET, CHECK };
enum { FREE_LOCK, HELD, HELD_BY_DEAD };

enum sabotage {
    NO_SABOTAGE,
    COUNT_RAISED_LAST,   /* insert: ref, then the count */
    COUNT_LOWERED_FIRST, /* delete: the count, then ref := 0 */
};

struct state {
    uint8_t bucket[2]; /* key + 1, or 0 */
    uint8_t count;     /* keys of bucket 0 that went on */
    uint8_t lock, alive, kills;
    uint8_t pc, key, at, deleting; /* of the holder; at: its bucket */
    uint8_t r_pc, r_key, r_found, r_raised, r_window;
};

static enum sabotage sabotage;

static bool present(const struct state *s, int key)
{
    return s->bucket[0] == key + 1 || s->bucket[1] == key + 1;
}

static void raise_ver(struct state *t)
{
    if (t->r_pc != IDLE)
        t->r_raised = 1;
}

static void emit(struct ex *x, struct state *t, const char *who, const char *what)
{
    if (t->bucket[1] != 0 && t->count == 0 && t->lock != HELD)
        ex_fail(x, who, what, "key lost: overflow count too low");
    else
        ex_step(x, t, who, what);
}

/* The order of an operation's steps; a bucket 0 operation has no count to change. */
static uint8_t following(const struct state *s)
{
    static const uint8_t insert[] = {CHOOSE, COUNT_UP, STORE, RAISE, UNLOCK};
    static const uint8_t insert_wrong[] = {CHOOSE, STORE, COUNT_UP, RAISE, UNLOCK};
    static const uint8_t remove[] = {CHOOSE, STORE, RAISE, COUNT_DOWN, UNLOCK};
    static const uint8_t remove_wrong[] = {CHOOSE, COUNT_DOWN, STORE, RAISE, UNLOCK};
    const uint8_t *order = s->deleting ? (sabotage == COUNT_LOWERED_FIRST ? remove_wrong : remove)
                           : sabotage == COUNT_RAISED_LAST ? insert_wrong
                                                           : insert;
    while (*order != s->pc)
        order++;
    order++;
    bool counts = *order == COUNT_UP || *order == COUNT_DOWN;
    return counts && s->at == 0 ? order[1] : *order;
}

static void choose(struct ex *x, const struct state *s)
{
    for (int k = 0; k < NKEY; k++) {
        struct state t = *s;
        t.key = (uint8_t)k;
        t.deleting = present(s, k);
        t.at = t.deleting ? s->bucket[1] == k + 1 : s->bucket[0] != 0;
        t.pc = following(&t);
        emit(x, &t, "worker", t.deleting ? "begin delete" : "begin insert");
    }
}

static void holder(struct ex *x, const struct state *s)
{
    struct state t = *s;
    const char *what = "unlock";
    t.pc = following(s);
    switch (s->pc) {
    case COUNT_UP:
        if (t.count < STICKY)
            t.count++;
        what = "overflow count + 1";
        break;
    case COUNT_DOWN:
        if (t.count > 0 && t.count < STICKY)
            t.count--;
        what = "overflow count - 1";
        break;
    case STORE:
        t.bucket[s->at] = s->deleting ? 0 : (uint8_t)(s->key + 1);
        if (t.r_pc != IDLE && t.r_key == s->key)
            t.r_window |= s->deleting ? 1 : 2;
        what = s->deleting ? "ref := 0" : "ref := item";
        break;
    default:
        raise_ver(&t);
        what = "raise ver";
        break;
    }
    emit(x, &t, "worker", what);
}

static void workers(struct ex *x, const struct state *s)
{
    struct state t = *s;
    if (s->lock != HELD) {
        if (s->lock == HELD_BY_DEAD)
            raise_ver(&t); /* the whole recovery: nothing is recounted */
        t.lock = HELD;
        t.pc = CHOOSE;
        if (s->alive > 0)
            emit(x, &t, "worker", s->lock == HELD_BY_DEAD ? "lock, from the dead" : "lock");
        return;
    }
    if (s->pc == CHOOSE) {
        choose(x, s);
    } else if (s->pc != UNLOCK) {
        holder(x, s);
    } else {
        t.lock = FREE_LOCK;
        t.pc = t.key = t.at = t.deleting = 0;
        emit(x, &t, "worker", "unlock");
    }
    if (s->kills > 0) {
        t = *s;
        t.lock = HELD_BY_DEAD;
        t.pc = t.key = t.at = t.deleting = 0;
        t.alive--;
        t.kills--;
        emit(x, &t, "worker", ex_sigkill);
    }
}

static void reader_start(struct ex *x, const struct state *s)
{
    for (int k = 0; k < NKEY; k++) {
        struct state t = *s;
        t.r_key = (uint8_t)k;
        t.r_window = present(s, k) ? 2 : 1;
        t.r_pc = HOME;
        emit(x, &t, "reader", "load ver");
    }
}

static void reader(struct ex *x, const struct state *s)
{
    struct state t = *s;
    const char *what = "ver as before?";
    switch (s->r_pc) {
    case IDLE:
        reader_start(x, s);
        return;
    case HOME:
    case NEXT_BUCKET:
        t.r_found = s->bucket[s->r_pc == NEXT_BUCKET] == s->r_key + 1;
        t.r_pc = s->r_pc == HOME && !t.r_found ? COUNT : CHECK;
        what = "look at a bucket";
        break;
    case COUNT:
        t.r_pc = s->count > 0 ? NEXT_BUCKET : CHECK;
        what = "load overflow count";
        break;
    default:
        if (!s->r_raised && (s->r_window & (s->r_found ? 2 : 1)) == 0) {
            ex_fail(x, "reader", what, s->r_found ? "false hit" : "false miss: the key was there");
            return;
        }
        t.r_pc = t.r_key = t.r_found = t.r_raised = t.r_window = 0;
        break;
    }
    emit(x, &t, "reader", what);
}

static void expand(struct ex *x, const void *state)
{
    const struct state *s = state;
    if (s->lock == FREE_LOCK && s->r_pc == IDLE)
        ex_goal(x);
    workers(x, s);
    reader(x, s);
}

static void init(void *state)
{
    struct state *s = state;
    memset(s, 0, sizeof *s);
    s->alive = 3;
    s->kills = 2;
}

static const char *const runs[] = {"two_kills", NULL};

static void setup(int run, int sabotaged)
{
    (void)run;
    sabotage = (enum sabotage)sabotaged;
}

static void show(const void *state, char *text, size_t room)
{
    const struct state *s = state;
    snprintf(text, room, "buckets %d %d count %d lock %d | reader key %d found %d%s", s->bucket[0],
             s->bucket[1], s->count, s->lock, s->r_key, s->r_found, s->r_raised ? " raised" : "");
}

static const char *const sabotages[] = {"none", "count_raised_last", "count_lowered_first", NULL};

const struct ex_scenario overflow_scenario = {
    .name = "overflow",
    .size = sizeof(struct state),
    .runs = runs,
    .sabotages = sabotages,
    .goals = true,
    .setup = setup,
    .init = init,
    .expand = expand,
    .show = show,
};
