/*
 * slot.c - scenario "slot": one slot, three pages; reader, latecomer, canonical form, properties
 *
 * Checked: an accepted read is a value that was current between the load of ver and the acceptance,
 * never a mixture; a reader alone finishes from every state; no page is freed while the slot names
 * it or a writer fills it; no acknowledged write, increment or touch is lost; item.version is never
 * given twice; when all is quiet and the dead are folded, every page is free or can be freed by one
 * round of cleaning.
 *
 * Nothing is bounded but the kills: actors work for ever. The version is kept as "raised since the
 * reader loaded it" and "above all item.versions given", values as names in order of appearance, so
 * the state space is finite. Not here: more than one slot, stripe or kill; death of the folder
 * (fold.c).
 */
#include "slot.h"

#include <stdio.h>
#include <string.h>

enum { R_IDLE, R_REF, R_PIN, R_CHECK_PIN, R_READ, R_READ_LATE, R_CHECK, R_UNPIN, R_UNPIN_AGAIN };

struct slot_config slot_config;

static const char *const mixture = "accepted read is a mixture";
static const char *const never_current = "accepted read was not current during the read";

static void window_add(struct slot_state *t)
{
    bool open =
        t->r_pc != R_IDLE && (!slot_config.pinned || t->r_pc <= R_CHECK_PIN || t->r_pc == R_CHECK);
    if (open)
        t->r_window |= (uint8_t)(1 << (slot_config.counter ? t->now_mutable : t->now));
}

void slot_commit(struct slot_state *t, uint8_t ref, uint8_t value)
{
    t->ref = ref;
    t->now = value;
    window_add(t);
}

void slot_raise(struct slot_state *t)
{
    t->unraised = 0;
    if (t->r_pc != R_IDLE)
        t->r_raised = 1;
}

bool slot_proven_dead(const struct slot_state *s, int actor)
{
    if ((s->dead & 1 << actor) == 0)
        return false;
    if (actor == C)
        return s->c_done == s->c_seen;
    if (actor == R)
        return s->pin_buffer == 0;
    return actor > X || s->w[actor].unwritten == 0;
}

/* 0: owner lives; 1: taken; 2: taken from the dead, to be recovered. */
int slot_take(const struct slot_state *s, uint8_t *lock, int actor)
{
    int how = *lock == 0 ? 1 : slot_proven_dead(s, *lock - 1) ? 2 : 0;
    if (how != 0)
        *lock = (uint8_t)(actor + 1);
    return how;
}

/* A name that nothing in the state bears any more. */
uint8_t slot_fresh_value(struct ex *x, const struct slot_state *s)
{
    unsigned used = 1u << s->now | 1u << s->r_word[0] | 1u << s->r_word[1] | 1u << s->w[0].value |
                    1u << s->w[1].value;
    for (int p = 0; p < NPAGE; p++)
        used |= 1u << s->page[p].word[0] | 1u << s->page[p].word[1];
    for (uint8_t v = 1; v <= MAX_VALUE; v++)
        if ((used & 1u << v) == 0)
            return v;
    ex_fail(x, "model", "fresh value", "the model has too few names of values");
    return 0;
}

/* CLEANING, TAKEN or LIMBO -> FREE, or CLEANING -> LIMBO: the step where a page may be lost. */
void slot_free(struct ex *x, struct slot_state *t, uint8_t page, uint8_t to, const char *who)
{
    const char *what = to == FREE ? "page -> FREE" : "CLEANING -> LIMBO";
    if (t->ref == page) {
        ex_fail(x, who, what, "dangling ref: the slot names a freed page");
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (t->w[i].page == page && (t->dead & 1 << i) == 0) {
            ex_fail(x, who, what, "stray write: page freed under its writer");
            return;
        }
    }
    struct page *p = slot_page(t, page);
    p->state = to;
    p->owner = 0;
    p->foreign = 0;
    if (to == FREE && t->l_page == page)
        t->l_current = 0; /* the generation rises */
    slot_emit(x, t, who, what);
}

static void reader_end(struct slot_state *t, uint8_t pc)
{
    t->r_ref = t->r_word[0] = t->r_word[1] = t->r_unread = t->r_raised = t->r_window = 0;
    t->r_pc = pc;
}

/* Why the value in r_word may not be returned, or NULL. */
static const char *reader_judge(const struct slot_state *t)
{
    if (t->r_word[0] != t->r_word[1])
        return mixture;
    return (t->r_window & 1 << t->r_word[0]) == 0 ? never_current : NULL;
}

/* 0: not possible; 1: a step; 2: the read was accepted. `choice` numbers the possible steps. */
static int reader_read(struct slot_state *t, int choice, const char **what, const char **why)
{
    bool late = t->r_pc == R_READ_LATE;
    if (choice == 2) {
        if (slot_config.sabotage != READER_NO_FENCE || late || slot_config.pinned)
            return 0;
        *what = "early look at ver";
        if (t->r_raised)
            reader_end(t, R_IDLE);
        else
            t->r_pc = R_READ_LATE;
        return 1;
    }
    if ((t->r_unread & 1 << choice) == 0)
        return 0;
    const struct page *p = slot_page_const(t, t->r_ref);
    *what = choice == 0 ? "load word 0" : "load word 1";
    t->r_word[choice] = p->word[choice];
    if (slot_config.counter)
        t->r_word[0] = t->r_word[1] = p->mutable;
    t->r_unread &= slot_config.counter ? 0 : (uint8_t)~(1 << choice);
    if (t->r_unread != 0)
        return 1;
    if (!late && !slot_config.pinned) {
        t->r_pc = R_CHECK;
        t->r_ref = 0;
        return 1;
    }
    *why = reader_judge(t);
    reader_end(t, slot_config.pinned ? R_UNPIN : R_IDLE);
    return 2;
}

static int reader_pin(struct slot_state *t, const char **what)
{
    if (t->r_pc == R_PIN) {
        t->pin_buffer = t->r_ref;
        t->r_pc = R_CHECK_PIN;
        *what = "store pin";
        return 1;
    }
    if (t->r_pc == R_CHECK_PIN) {
        if (t->pin_buffer != 0 && slot_config.sabotage != PIN_NO_FENCE)
            return 0;
        *what = "ver as before?";
        if (t->r_raised && slot_config.sabotage != PIN_NO_RECHECK) {
            reader_end(t, R_UNPIN_AGAIN);
        } else {
            t->r_pc = R_READ;
            t->r_raised = 0;
        }
        return 1;
    }
    if (t->pin_buffer != 0)
        return 0;
    t->pin = 0;
    t->r_pc = R_IDLE;
    *what = "unpin";
    return 1;
}

static int reader_step(struct slot_state *t, int choice, const char **what, const char **why)
{
    if (choice == 3) { /* the store buffer */
        if (t->pin_buffer == 0)
            return 0;
        t->pin = t->pin_buffer;
        t->pin_buffer = 0;
        *what = "pin visible";
        return 1;
    }
    if ((t->dead & 1 << R) != 0)
        return 0;
    if (t->r_pc == R_READ || t->r_pc == R_READ_LATE)
        return reader_read(t, choice, what, why);
    if (choice != 0)
        return 0;
    if (t->r_pc == R_IDLE) {
        if (t->odd)
            return 0;
        t->r_pc = R_REF;
        window_add(t);
        *what = "load ver";
        return 1;
    }
    if (t->r_pc == R_REF) {
        t->r_ref = t->ref;
        t->r_unread = t->ref == 0 ? 0 : 3;
        t->r_pc = t->ref == 0 ? R_CHECK : slot_config.pinned ? R_PIN : R_READ;
        *what = "load ref";
        return 1;
    }
    if (t->r_pc != R_CHECK)
        return reader_pin(t, what);
    *what = "ver as before?";
    bool accepted = !t->r_raised;
    if (accepted && !(slot_config.counter && t->r_ref == 0 && t->now == 0))
        *why = reader_judge(t);
    reader_end(t, R_IDLE);
    return accepted ? 2 : 1;
}

/* From here on, with all others stopped for ever. */
static bool reader_alone_finishes(const struct slot_state *s)
{
    struct slot_state t = *s;
    const char *what = "", *why = NULL;
    for (int step = 0; step < 24; step++) {
        int done = 0;
        for (int choice = 0; choice < 4 && done == 0; choice++)
            done = reader_step(&t, choice, &what, &why);
        if (done == 2)
            return true;
        if (done == 0)
            return false;
    }
    return false;
}

static void reader(struct ex *x, const struct slot_state *s)
{
    if ((s->dead & 1 << R) == 0 && !reader_alone_finishes(s))
        ex_fail(x, "reader", "alone", "a reader alone cannot finish");
    for (int choice = 0; choice < 4; choice++) {
        struct slot_state t = *s;
        const char *what = "", *why = NULL;
        if (reader_step(&t, choice, &what, &why) == 0)
            continue;
        if (why != NULL)
            ex_fail(x, "reader", what, why);
        slot_emit(x, &t, "reader", what);
    }
}

/* Frees a page in limbo, but sleeps between the scan of the pins and the compare-and-swap. */
static void latecomer(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    if (s->l_page != 0) {
        const struct page *p = slot_page_const(s, s->l_page);
        bool current = s->l_current || slot_config.sabotage == LIMBO_NO_GENERATION;
        t.l_page = t.l_current = 0;
        if (p->state == LIMBO && current)
            slot_free(x, &t, s->l_page, FREE, "latecomer");
        else
            slot_emit(x, &t, "latecomer", "compare-and-swap fails");
        return;
    }
    for (uint8_t p = 1; p <= NPAGE; p++) {
        if (s->page[p - 1].state != LIMBO || s->pin == p)
            continue;
        t.l_page = p;
        t.l_current = 1;
        slot_emit(x, &t, "latecomer", "limbo: no pin seen");
        return;
    }
}

/* Deadlines come nearer: 2 later, 1 soon, 0 passed. */
static void tick(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    for (int p = 0; p < NPAGE; p++)
        if (t.page[p].mutable > 0)
            t.page[p].mutable--;
    if (t.now_mutable > 0)
        t.now_mutable--;
    slot_emit(x, &t, "time", "passes");
}

/* Bytes nobody can come to see are zeroed. */
static void forget_dead_bytes(struct slot_state *t)
{
    for (uint8_t p = 1; p <= NPAGE; p++) {
        bool seen = t->ref == p || t->r_ref == p || t->w[0].page == p || t->c_from == p ||
                    t->c_to == p || (t->w[1].page == p && !slot_config.hostile);
        if (!seen) {
            struct page *page = slot_page(t, p);
            page->word[0] = page->word[1] = page->mutable = 0;
        }
    }
}

static void rename_value(uint8_t *value, uint8_t *name, uint8_t *next)
{
    if (*value == 0 || *value == HOSTILE)
        return;
    if (name[*value] == 0)
        name[*value] = ++*next;
    *value = name[*value];
}

static void sort_values(struct slot_state *t)
{
    uint8_t name[8] = {0}, next = 0;
    if (slot_config.counter || slot_config.touch)
        return;
    rename_value(&t->now, name, &next);
    for (int p = 0; p < NPAGE; p++) {
        rename_value(&t->page[p].word[0], name, &next);
        rename_value(&t->page[p].word[1], name, &next);
    }
    rename_value(&t->r_word[0], name, &next);
    rename_value(&t->r_word[1], name, &next);
    rename_value(&t->w[0].value, name, &next);
    rename_value(&t->w[1].value, name, &next);
    uint8_t window = t->r_window & 1;
    for (int v = 1; v <= MAX_VALUE; v++)
        if ((t->r_window & 1 << v) != 0 && name[v] != 0)
            window |= (uint8_t)(1 << name[v]);
    t->r_window = window;
}

/* Pages in order of first mention; the unmentioned, which are interchangeable, by content. */
static void sort_pages(struct slot_state *t)
{
    uint8_t *const mention[] = {&t->ref,
                                &t->r_ref,
                                &t->pin,
                                &t->pin_buffer,
                                &t->w[0].page,
                                &t->w[1].page,
                                &t->c_from,
                                &t->c_to,
                                &t->reservation[W],
                                &t->reservation[X],
                                &t->reservation[C],
                                &t->l_page};
    uint8_t number[NPAGE + 1] = {0};
    uint8_t mentioned = ex_rename(mention, sizeof mention / sizeof *mention, number);
    uint8_t next = mentioned;
    struct page sorted[NPAGE];
    for (uint8_t p = 1; p <= NPAGE; p++) {
        if (number[p] != 0) {
            sorted[number[p] - 1] = t->page[p - 1];
            continue;
        }
        uint8_t at = next++;
        for (; at > mentioned && memcmp(&sorted[at - 1], &t->page[p - 1], sizeof *sorted) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = t->page[p - 1];
    }
    memcpy(t->page, sorted, sizeof sorted);
}

void slot_emit(struct ex *x, struct slot_state *t, const char *who, const char *what)
{
    forget_dead_bytes(t);
    sort_pages(t);
    sort_values(t);
    ex_step(x, t, who, what);
}

void slot_emit_kill(struct ex *x, struct slot_state *t, int actor, const char *who)
{
    t->kills--;
    t->dead |= (uint8_t)(1 << actor);
    slot_emit(x, t, who, ex_sigkill);
}

/* All quiet: no page may be held by anything but the slot and the pools. */
static void check_quiet(struct ex *x, const struct slot_state *s)
{
    if (!slot_idle(s))
        return;
    bool leak = s->lock != 0 || s->appender != 0 || s->reservation[W] != 0 ||
                s->reservation[X] != 0 || s->reservation[C] != 0 || s->pin != 0;
    for (int p = 0; p < NPAGE; p++)
        leak |= s->page[p].state == TAKEN || s->page[p].state == CLEANING;
    if (leak)
        ex_fail(x, "all", "quiet", "leak: something is still held when all is quiet");
}

static void expand(struct ex *x, const void *state)
{
    const struct slot_state *s = state;
    check_quiet(x, s);
    if (slot_config.counter || slot_config.touch)
        slot_incrementer(x, s);
    else
        slot_writer(x, s, W);
    if (slot_config.hostile || slot_config.second)
        slot_writer(x, s, X);
    slot_cleaner(x, s);
    if (slot_config.reader)
        reader(x, s);
    if (slot_config.touch)
        tick(x, s);
    if (slot_config.latecomer)
        latecomer(x, s);
    slot_folder(x, s);
    slot_kill(x, s);
}

static void init(void *state)
{
    struct slot_state *s = state;
    memset(s, 0, sizeof *s);
    s->ref = 1;
    s->now = 1;
    s->page[0] = (struct page){.state = CLOSED, .word = {1, 1}};
    s->kills = slot_config.two_kills ? 2 : 1;
}

static const char *const runs[] = {
    "validated", "pinned", "log",           "log_pinned",          "counter",          "touch",
    "versions",  "limbo",  "limbo_claimed", "validated_two_kills", "pinned_two_kills", NULL};

static void setup(int run, int sabotage)
{
    static const struct slot_config configs[] = {
        {.reader = true, .hostile = true},
        {.reader = true, .hostile = true, .pinned = true},
        {.reader = true, .hostile = true, .log = true},
        {.reader = true, .hostile = true, .log = true, .pinned = true},
        {.reader = true, .hostile = true, .counter = true},
        {.hostile = true, .touch = true},
        {.second = true},
        {.reader = true, .pinned = true, .latecomer = true},
        {.reader = true, .pinned = true, .claim_limbo = true},
        {.reader = true, .hostile = true, .two_kills = true},
        {.reader = true, .hostile = true, .pinned = true, .two_kills = true},
    };
    slot_config = configs[run];
    slot_config.sabotage = (enum sabotage)sabotage;
}

static void show(const void *state, char *text, size_t room)
{
    static const char *const name[] = {"free", "taken", "open", "closed", "cleaning", "limbo"};
    const struct slot_state *s = state;
    int n = snprintf(text, room, "ref %d lock %d ", s->ref, s->lock);
    for (int p = 0; p < NPAGE && n > 0 && (size_t)n < room; p++)
        n += snprintf(text + n, room - (size_t)n, "| %s %d%d.%d ", name[s->page[p].state],
                      s->page[p].word[0], s->page[p].word[1], s->page[p].mutable);
    if (n > 0 && (size_t)n < room)
        snprintf(text + n, room - (size_t)n, "| resv %d%d%d pin %d | reader %s%d:%d%d dead %x",
                 s->reservation[0], s->reservation[1], s->reservation[2], s->pin,
                 s->r_raised ? "raised " : "", s->r_ref, s->r_word[0], s->r_word[1], s->dead);
}

static const char *const sabotages[] = {"none",
                                        "no_reservations",
                                        "late_reservation",
                                        "early_scan",
                                        "publish_taken",
                                        "free_unread",
                                        "no_slot_recheck",
                                        "no_mutable_recopy",
                                        "no_expiry_recheck",
                                        "no_writer_raise",
                                        "no_cleaner_raise",
                                        "no_recovery_raise",
                                        "raise_before_ref",
                                        "ref_not_release",
                                        "reader_no_fence",
                                        "pin_no_recheck",
                                        "pin_no_fence",
                                        "free_no_pin_scan",
                                        "free_no_fence",
                                        "limbo_no_generation",
                                        "limbo_taken",
                                        "garbage_unvisited",
                                        "odd_even",
                                        NULL};

const struct ex_scenario slot_scenario = {
    .name = "slot",
    .size = sizeof(struct slot_state),
    .runs = runs,
    .sabotages = sabotages,
    .setup = setup,
    .init = init,
    .expand = expand,
    .show = show,
};
