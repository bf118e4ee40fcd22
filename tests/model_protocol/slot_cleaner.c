/*
 * slot_cleaner.c - the cleaner of the scenario "slot"
 *
 * CLOSED -> CLEANING, the reservations one by one, then keep or drop the item, then fence, pins,
 * FREE or LIMBO. Its closing stores (ref, ver, unlock, reservation) pass through a first-in
 * first-out store buffer for which the fence waits. A kill may come before any of them: what was
 * executed still becomes visible.
 */
#include "slot.h"

enum {
    C_IDLE,
    C_SCAN,
    C_WALK,
    C_TAKE,
    C_CLOSE,
    C_COPY,
    C_LOCK,
    C_RECOVER,
    C_FENCE,
    C_FREE,
    C_LIMBO,
    C_DROP_LIMBO,
    C_CLAIM
};

/* Idle: begin with a closed page, close an open one, look at one in limbo. */
static void cleaner_begin(struct ex *x, const struct slot_state *s)
{
    bool early = slot_config.sabotage == EARLY_SCAN;
    for (uint8_t p = 1; p <= NPAGE; p++) {
        struct slot_state t = *s;
        struct page *page = slot_page(&t, p);
        if (page->state == CLOSED && !early) {
            page->state = CLEANING;
            page->owner = C + 1;
            t.c_from = p;
            t.c_pc = slot_config.sabotage == NO_RESERVATIONS ? C_WALK : C_SCAN;
            slot_emit(x, &t, "cleaner", "CLOSED -> CLEANING");
        } else if ((page->state == CLOSED || page->state == OPEN) && early &&
                   t.reservation[W] != p && t.reservation[X] != p && t.reservation[C] != p) {
            t.c_from = p;
            t.c_pc = C_CLAIM;
            slot_emit(x, &t, "cleaner", "no reservation seen");
        } else if (page->state == LIMBO && slot_config.claim_limbo) {
            page->state = slot_config.sabotage == LIMBO_TAKEN ? TAKEN : CLEANING;
            page->owner = C + 1;
            t.c_from = p;
            t.c_pc = C_FENCE;
            slot_emit(x, &t, "cleaner", "claim a page in limbo");
        } else if (page->state == LIMBO && t.pin != p) {
            t.c_from = p;
            t.c_pc = C_DROP_LIMBO;
            slot_emit(x, &t, "cleaner", "limbo: no pin seen");
        }
        t = *s;
        if (page->state == OPEN && (s->appender == 0 || slot_proven_dead(s, s->appender - 1))) {
            page->state = CLOSED;
            t.appender = 0;
            slot_emit(x, &t, "cleaner", "OPEN -> CLOSED");
        }
    }
}

/* Keep or drop? Both may be tried at any time; under the lock it is decided again. */
static void cleaner_walk(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    const struct page *p = slot_page_const(s, s->c_from);
    if (p->foreign || slot_config.sabotage == FREE_UNREAD) {
        t.c_pc = C_FENCE;
        slot_emit(x, &t, "cleaner", p->foreign ? "walk: item of another stripe" : "no walk");
        return;
    }
    if (!slot_config.counter && (!slot_config.touch || p->mutable == 0)) {
        t.c_pc = C_LOCK;
        slot_emit(x, &t, "cleaner", "walk: drop");
    }
    t = *s;
    t.c_pc = C_TAKE;
    slot_emit(x, &t, "cleaner", "walk: keep");
}

/* Reservations are loaded one by one; c_unwritten counts them. */
static void cleaner_scan(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    if (t.reservation[t.c_unwritten] == t.c_from) {
        slot_page(&t, t.c_from)->state = CLOSED;
        slot_page(&t, t.c_from)->owner = 0;
        t.c_from = t.c_unwritten = t.c_pc = 0;
        slot_emit(x, &t, "cleaner", "reserved: back to CLOSED");
        return;
    }
    if (++t.c_unwritten == 2) {
        t.c_unwritten = 0;
        cleaner_walk(x, &t);
        return;
    }
    slot_emit(x, &t, "cleaner", "scan a reservation");
}

/* A destination, reserved and closed like a writer's extent. */
static void cleaner_destination(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    if (s->c_pc == C_TAKE) {
        uint8_t p = 1;
        while (p <= NPAGE && s->page[p - 1].state != FREE)
            p++;
        if (p > NPAGE) { /* nothing to relocate into: let go, others must be able to clean too */
            slot_page(&t, t.c_from)->state = CLOSED;
            slot_page(&t, t.c_from)->owner = 0;
            t.c_from = t.c_pc = 0;
            slot_emit(x, &t, "cleaner", "no room: back to CLOSED");
            return;
        }
        *slot_page(&t, p) = (struct page){.state = TAKEN, .owner = C + 1};
        t.c_to = p;
        t.reservation[C] = p;
        t.c_pc = C_CLOSE;
        slot_emit(x, &t, "cleaner", "FREE -> TAKEN, reservation");
    } else {
        slot_page(&t, t.c_to)->state = CLOSED;
        slot_page(&t, t.c_to)->owner = 0;
        t.c_pc = C_COPY;
        t.c_unwritten = slot_config.counter || slot_config.touch ? 4 : 3;
        slot_emit(x, &t, "cleaner", "TAKEN -> CLOSED");
    }
}

static void cleaner_copy(struct ex *x, const struct slot_state *s)
{
    for (int k = 0; k < 3; k++) {
        struct slot_state t = *s;
        struct page *to = slot_page(&t, t.c_to);
        const struct page *from = slot_page_const(s, s->c_from);
        if ((t.c_unwritten & 1 << k) == 0)
            continue;
        if (k < 2)
            to->word[k] = from->word[k];
        else
            to->mutable = from->mutable;
        t.c_unwritten &= (uint8_t)~(1 << k);
        if (t.c_unwritten == 0)
            t.c_pc = C_LOCK;
        slot_emit(x, &t, "cleaner", "copy a word");
    }
}

/*
 * Under the lock. The closing stores ref, ver, unlock, reservation are executed at once, c_done of
 * them, and become visible one by one (slot_cleaner); not current: only unlock and reservation.
 */
static void cleaner_check(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    bool current = t.ref == t.c_from || (slot_config.sabotage == NO_SLOT_RECHECK && t.c_to != 0);
    bool drop = t.c_to == 0;
    if (t.c_visit && current) {
        ex_fail(x, "cleaner", "visit", "garbage came back");
        return;
    }
    t.c_visit = 0;
    const struct page *from = slot_page_const(s, s->c_from);
    if (drop && current && slot_config.touch && from->mutable != 0 &&
        slot_config.sabotage != NO_EXPIRY_RECHECK) {
        t.lock = 0;
        t.c_pc = C_WALK;
        slot_emit(x, &t, "cleaner", "not expired any more: unlock");
        return;
    }
    if (!drop && slot_config.sabotage != NO_MUTABLE_RECOPY)
        slot_page(&t, t.c_to)->mutable = from->mutable;
    t.c_seen = current ? 0 : 2;
    t.c_done = 4;
    t.c_pc = C_FENCE;
    slot_emit(x, &t, "cleaner", current ? "lock; slot names it" : "lock; slot names another");
}

/* One closing store becomes visible. */
static void cleaner_drain(struct ex *x, const struct slot_state *s)
{
    static const char *const what[] = {"ref visible", "raised ver visible", "unlock visible",
                                       "reservation := 0 visible"};
    struct slot_state t = *s;
    if (t.c_seen == 0) {
        if (t.c_to == 0 && slot_config.touch && t.now_mutable != 0) {
            ex_fail(x, "cleaner", "ref := 0", "living item evicted as expired");
            return;
        }
        if (t.c_to != 0) {
            const struct page *to = slot_page_const(&t, t.c_to);
            bool words = !slot_config.counter && !slot_config.touch;
            if (words && (to->word[0] != t.now || to->word[1] != t.now)) {
                ex_fail(x, "cleaner", "ref := copy", "acknowledged write lost by relocation");
                return;
            }
            if (to->mutable != t.now_mutable) {
                ex_fail(x, "cleaner", "ref := copy",
                        "acknowledged change in place lost by relocation");
                return;
            }
        }
        slot_commit(&t, t.c_to, t.c_to == 0 ? 0 : t.now);
    } else if (t.c_seen == 1) {
        if (slot_config.sabotage != NO_CLEANER_RAISE)
            slot_raise(&t);
    } else if (t.c_seen == 2) {
        t.lock = 0;
    } else {
        t.reservation[C] = 0;
    }
    if (++t.c_seen == t.c_done) {
        t.c_seen = t.c_done = t.c_to = 0;
    }
    slot_emit(x, &t, "cleaner", what[s->c_seen]);
}

static void cleaner_free(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    if (s->c_pc == C_FENCE) {
        if (s->c_done != 0 && slot_config.sabotage != FREE_NO_FENCE)
            return; /* the fence waits for the store buffer */
        bool pinned = s->pin == s->c_from && slot_config.sabotage != FREE_NO_PIN_SCAN;
        t.c_pc = pinned ? C_LIMBO : C_FREE;
        slot_emit(x, &t, "cleaner", pinned ? "scan: a pin" : "scan: no pin");
        return;
    }
    if (s->c_done != 0)
        return; /* the compare-and-swap is a release */
    uint8_t page = t.c_from;
    t.c_from = t.c_pc = 0;
    slot_free(x, &t, page, s->c_pc == C_LIMBO ? LIMBO : FREE, "cleaner");
}

/* The lock, where the first look at the slot belongs to the same step: nobody else can change it.
 */
static void cleaner_lock(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    if (s->c_pc == C_RECOVER) {
        if (slot_config.sabotage != NO_RECOVERY_RAISE)
            slot_raise(&t);
        cleaner_check(x, &t);
        return;
    }
    if (s->c_to == 0 && !s->c_visit && s->ref != s->c_from) {
        t.c_visit = 1;
        if (slot_config.sabotage == GARBAGE_UNVISITED) {
            t.c_visit = 0;
            t.c_pc = C_FENCE;
        }
        slot_emit(x, &t, "cleaner", "garbage, seen without the lock");
        t = *s;
    }
    int how = slot_take(s, &t.lock, C);
    t.c_pc = C_RECOVER;
    if (how == 1)
        cleaner_check(x, &t);
    else if (how == 2)
        slot_emit(x, &t, "cleaner", "lock, from the dead");
}

/* Sabotage early_scan: the page whose reservations were tested while it was OPEN. */
static void cleaner_claim(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    struct page *page = slot_page(&t, t.c_from);
    const char *what = "CLOSED -> CLEANING";
    if (page->state == OPEN) {
        if (s->appender != 0)
            return;
        page->state = CLOSED; /* full: by whoever appends next */
        what = "OPEN -> CLOSED";
    } else if (page->state == CLOSED) {
        page->state = CLEANING;
        page->owner = C + 1;
        t.c_pc = C_WALK;
    } else {
        t.c_from = t.c_pc = 0;
    }
    slot_emit(x, &t, "cleaner", what);
}

static void cleaner_drop_limbo(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    uint8_t page = t.c_from;
    t.c_from = t.c_pc = 0;
    if (slot_page(&t, page)->state == LIMBO)
        slot_free(x, &t, page, FREE, "cleaner");
    else
        slot_emit(x, &t, "cleaner", "limbo: gone");
}

void slot_cleaner(struct ex *x, const struct slot_state *s)
{
    static void (*const step[])(struct ex *, const struct slot_state *) = {
        [C_IDLE] = cleaner_begin,        [C_SCAN] = cleaner_scan,
        [C_WALK] = cleaner_walk,         [C_TAKE] = cleaner_destination,
        [C_CLOSE] = cleaner_destination, [C_COPY] = cleaner_copy,
        [C_LOCK] = cleaner_lock,         [C_RECOVER] = cleaner_lock,
        [C_FENCE] = cleaner_free,        [C_FREE] = cleaner_free,
        [C_LIMBO] = cleaner_free,        [C_DROP_LIMBO] = cleaner_drop_limbo,
        [C_CLAIM] = cleaner_claim,
    };
    if (s->c_seen != s->c_done)
        cleaner_drain(x, s);
    if ((s->dead & 1 << C) == 0)
        step[s->c_pc](x, s);
}

void slot_kill_cleaner(struct ex *x, const struct slot_state *s)
{
    for (uint8_t done = s->c_seen; s->c_pc != C_IDLE && done <= s->c_done; done++) {
        struct slot_state t = *s;
        t.c_done = done;
        if (t.c_done == t.c_seen)
            t.c_done = t.c_seen = t.c_to = 0;
        t.c_pc = C_IDLE;
        t.c_from = t.c_unwritten = t.c_visit = 0;
        slot_emit_kill(x, &t, C, "cleaner");
    }
}
