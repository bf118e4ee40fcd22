/*
 * slot_actors.c - writer, incrementer, folder and kill of the scenario "slot"
 *
 * Each function reports every step its actor can take from a state. A step is one access to shared
 * memory that others can see, with the private work around it. Weak ordering: the two value words
 * of an item become visible in any order, before the next release store of their writer. The
 * release stores are one step: their actor loads nothing before its next compare-and-swap, which
 * drains the store buffer anyhow.
 */
#include "slot.h"

enum {
    W_IDLE,
    W_APPENDER,
    W_OPEN,
    W_RESERVE,
    W_CLOSE,
    W_GIVE,
    W_FILL,
    W_LOCK,
    W_RECOVER,
    W_REF,
    W_RAISE,
    W_UNLOCK,
    W_CLEAR,
    W_CLOSE_LATE
};
enum { F_IDLE, F_RAISE, F_UNLOCK, F_PAGES };

static const char *const writer_name[2] = {"writer", "writer2"};

static void start_fill(struct ex *x, struct slot_state *t, int i)
{
    t->w[i].value = i == 1 && slot_config.hostile ? HOSTILE : slot_fresh_value(x, t);
    t->w[i].unwritten = 3;
    t->w[i].pc = W_FILL;
}

/* The state after taking a page from the pool, and where to go on. */
static void writer_take_page(struct ex *x, const struct slot_state *s, int i)
{
    bool foreign = i == 1 && slot_config.hostile;
    for (uint8_t p = 1; p <= NPAGE; p++) {
        if (s->page[p - 1].state != FREE)
            continue;
        struct slot_state t = *s;
        *slot_page(&t, p) =
            (struct page){.state = TAKEN, .owner = (uint8_t)(i + 1), .foreign = foreign};
        t.w[i].page = p;
        t.w[i].pc = slot_config.log ? W_APPENDER : W_CLOSE;
        if (!slot_config.log && slot_config.sabotage != LATE_RESERVATION)
            t.reservation[i] = p; /* nobody looks for it before the page is CLOSED */
        if (slot_config.sabotage == PUBLISH_TAKEN)
            start_fill(x, &t, i);
        slot_emit(x, &t, writer_name[i],
                  slot_config.log ? "FREE -> TAKEN" : "FREE -> TAKEN, reserved");
        return; /* free pages are interchangeable */
    }
}

/* From the pool to a page that has a reservation and is closed (extent) or open (log page). */
static void writer_reserve(struct ex *x, const struct slot_state *s, int i)
{
    struct slot_state t = *s;
    struct writer *w = &t.w[i];
    struct page *p = slot_page(&t, w->page);
    const char *what = "";
    switch (w->pc) {
    case W_APPENDER:
        if (slot_take(s, &t.appender, i) == 0)
            return;
        w->pc = W_OPEN;
        what = "lock appender";
        break;
    case W_OPEN:
        p->state = OPEN;
        p->owner = 0;
        w->pc = W_RESERVE;
        what = "TAKEN -> OPEN";
        break;
    case W_RESERVE:
        t.reservation[i] = w->page;
        what = "reservation := page";
        if (slot_config.log)
            w->pc = W_GIVE;
        else
            start_fill(x, &t, i); /* sabotage late_reservation */
        break;
    case W_CLOSE:
        p->state = CLOSED;
        p->owner = 0;
        what = "TAKEN -> CLOSED";
        if (slot_config.sabotage == LATE_RESERVATION)
            w->pc = W_RESERVE;
        else
            start_fill(x, &t, i);
        break;
    default:
        t.appender = 0;
        what = "unlock appender";
        start_fill(x, &t, i);
        break;
    }
    slot_emit(x, &t, writer_name[i], what);
}

/* The value words, in any order; with ref_not_release they may trail behind the ref store. */
static void writer_fill(struct ex *x, const struct slot_state *s, int i)
{
    for (int k = 0; k < 2; k++) {
        if ((s->w[i].unwritten & 1 << k) == 0)
            continue;
        struct slot_state t = *s;
        struct writer *w = &t.w[i];
        slot_page(&t, w->page)->word[k] = w->value;
        w->unwritten &= (uint8_t)~(1 << k);
        if (w->pc == W_FILL && w->unwritten == 0) {
            w->value = 0;
            w->pc = i == 1 && slot_config.hostile ? W_CLEAR : W_LOCK;
        }
        if (w->unwritten == 0 && (s->dead & 1 << i) != 0)
            w->page = 0;
        slot_emit(x, &t, writer_name[i], k == 0 ? "write word 0" : "write word 1");
    }
}

static void writer_publish(struct ex *x, const struct slot_state *s, int i)
{
    struct slot_state t = *s;
    struct writer *w = &t.w[i];
    const char *what = "";
    bool early = slot_config.sabotage == RAISE_BEFORE_REF;
    int how;
    switch (w->pc) {
    case W_IDLE: /* delete */
    case W_FILL: /* only with ref_not_release: the lock is taken while bytes are still on their way
                  */
    case W_LOCK:
        how = slot_take(s, &t.lock, i);
        if (how == 0)
            return;
        w->pc = how == 2 ? W_RECOVER : early ? W_RAISE : W_REF;
        t.odd = slot_config.sabotage == ODD_EVEN;
        what = how == 2 ? "lock, from the dead" : "lock";
        break;
    case W_RECOVER:
        if (slot_config.sabotage != NO_RECOVERY_RAISE)
            slot_raise(&t);
        w->pc = early ? W_RAISE : W_REF;
        what = "recover: raise ver";
        break;
    case W_REF:
        if (slot_config.second && w->page != 0 && t.unraised) {
            ex_fail(x, writer_name[i], "ref store", "item.version given twice to one key");
            return;
        }
        t.unraised |= w->page != 0;
        slot_commit(&t, w->page,
                    w->page == 0   ? 0
                    : w->unwritten ? w->value
                                   : slot_page(&t, w->page)->word[0]);
        w->pc = early ? W_UNLOCK : W_RAISE;
        what = w->page == 0 ? "ref := 0 (delete)" : "ref := page";
        break;
    case W_RAISE:
        if (slot_config.sabotage != NO_WRITER_RAISE)
            slot_raise(&t);
        t.odd = 0;
        w->pc = early ? W_REF : W_UNLOCK;
        what = "raise ver";
        break;
    default:
        if (w->unwritten != 0)
            return;
        t.lock = 0;
        w->pc = w->page == 0 ? W_IDLE : W_CLEAR;
        what = "unlock";
        break;
    }
    slot_emit(x, &t, writer_name[i], what);
}

static void writer_finish(struct ex *x, const struct slot_state *s, int i)
{
    struct slot_state t = *s;
    struct writer *w = &t.w[i];
    if (w->pc == W_CLEAR) {
        t.reservation[i] = 0;
        if (slot_config.sabotage == PUBLISH_TAKEN) {
            w->pc = W_CLOSE_LATE;
        } else {
            *w = (struct writer){.pc = W_IDLE};
        }
        slot_emit(x, &t, writer_name[i], "reservation := 0");
        return;
    }
    struct page *p = slot_page(&t, w->page);
    if (p->state == TAKEN) {
        p->state = CLOSED;
        p->owner = 0;
    }
    *w = (struct writer){.pc = W_IDLE};
    slot_emit(x, &t, writer_name[i], "TAKEN -> CLOSED, late");
}

void slot_writer(struct ex *x, const struct slot_state *s, int i)
{
    const struct writer *w = &s->w[i];
    if (w->unwritten != 0)
        writer_fill(x, s, i);
    if ((s->dead & 1 << i) != 0)
        return;
    if (w->pc == W_IDLE) {
        writer_take_page(x, s, i);
        if (s->ref != 0 && !(i == 1 && slot_config.hostile)) {
            writer_publish(x, s, i); /* delete: no page */
        }
    } else if (w->pc < W_FILL) {
        writer_reserve(x, s, i);
    } else if (w->pc == W_FILL) {
        if (slot_config.sabotage == REF_NOT_RELEASE && !(i == 1 && slot_config.hostile))
            writer_publish(x, s, i);
    } else if (w->pc < W_CLEAR) {
        writer_publish(x, s, i);
    } else {
        writer_finish(x, s, i);
    }
}

/* Increment or touch in place, in the writer's stead. */
void slot_incrementer(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    struct writer *w = &t.w[W];
    const char *what = "";
    if ((s->dead & 1 << W) != 0)
        return;
    if (w->pc == W_IDLE) {
        int how = slot_take(s, &t.lock, W);
        if (how == 0)
            return;
        w->pc = how == 2 ? W_RECOVER : W_REF;
        what = "lock";
    } else if (w->pc == W_RECOVER) {
        if (slot_config.sabotage != NO_RECOVERY_RAISE)
            slot_raise(&t);
        w->pc = W_REF;
        what = "recover: raise ver";
    } else if (w->pc == W_REF) {
        if (t.ref != 0) {
            struct page *p = slot_page(&t, t.ref);
            p->mutable = slot_config.touch ? 2 : (p->mutable + 1) & 3;
            t.now_mutable = slot_config.touch ? 2 : (t.now_mutable + 1) & 3;
            if (t.r_pc != 0)
                t.r_window |= (uint8_t)(1 << t.now_mutable);
        }
        w->pc = W_UNLOCK;
        what = slot_config.touch ? "deadline := later" : "counter + 1";
    } else {
        t.lock = 0;
        w->pc = W_IDLE;
        what = "unlock";
    }
    slot_emit(x, &t, "in place", what);
}

/* Gives back what the dead actor held: lock, pages, row. Its own death is the scenario "fold". */
void slot_folder(struct ex *x, const struct slot_state *s)
{
    struct slot_state t = *s;
    int a = s->f_whom;
    if (s->f_pc == F_IDLE) {
        a = 0;
        while (a < NACTOR && (((s->dead & ~s->folded) & 1 << a) == 0 || !slot_proven_dead(s, a)))
            a++;
        if (a == NACTOR)
            return;
        t.f_whom = (uint8_t)a;
    }
    const char *what = "row := 0";
    if (s->f_pc == F_IDLE) {
        bool held = s->lock == a + 1;
        if (held)
            t.lock = F + 1;
        if (s->appender == a + 1)
            t.appender = 0;
        t.f_pc = held ? F_RAISE : F_PAGES;
        what = held ? "lock, from the dead" : "no lock held by the dead";
    } else if (s->f_pc == F_RAISE) {
        if (slot_config.sabotage != NO_RECOVERY_RAISE)
            slot_raise(&t);
        t.f_pc = F_UNLOCK;
        what = "recover: raise ver";
    } else if (s->f_pc == F_UNLOCK) {
        t.lock = 0;
        t.f_pc = F_PAGES;
        what = "unlock";
    } else {
        for (uint8_t p = 1; p <= NPAGE; p++) {
            struct page *page = slot_page(&t, p);
            if (page->owner != a + 1)
                continue;
            page->owner = 0;
            if (page->state == TAKEN) {
                slot_free(x, &t, p, FREE, "folder");
                return;
            }
            page->state = CLOSED;
            slot_emit(x, &t, "folder", "CLEANING -> CLOSED");
            return;
        }
        if (a < 3)
            t.reservation[a] = 0;
        if (a == R)
            t.pin = 0;
        t.folded |= (uint8_t)(1 << a);
        t.f_pc = t.f_whom = F_IDLE;
    }
    slot_emit(x, &t, "folder", what);
}

/* A kill anywhere in an operation. Stores executed but not yet visible still become visible. */
void slot_kill(struct ex *x, const struct slot_state *s)
{
    if (s->kills == 0)
        return;
    for (int i = 0; i < 2; i++) {
        if (s->w[i].pc == W_IDLE)
            continue;
        struct slot_state t = *s;
        if (s->w[i].pc == W_FILL || s->w[i].unwritten == 0)
            t.w[i] = (struct writer){.pc = W_IDLE};
        t.w[i].pc = W_IDLE;
        slot_emit_kill(x, &t, i, writer_name[i]);
    }
    slot_kill_cleaner(x, s);
    if (s->r_pc != 0 && slot_config.pinned) {
        struct slot_state t = *s;
        t.r_pc = t.r_ref = t.r_word[0] = t.r_word[1] = t.r_unread = t.r_raised = t.r_window = 0;
        slot_emit_kill(x, &t, R, "reader");
    }
}

/* Nobody alive is inside an operation and the dead are folded. */
bool slot_idle(const struct slot_state *s)
{
    return s->w[0].pc == W_IDLE && s->w[1].pc == W_IDLE && s->c_pc == 0 && s->r_pc == 0 &&
           s->l_page == 0 && s->dead == s->folded && s->c_done == s->c_seen;
}
