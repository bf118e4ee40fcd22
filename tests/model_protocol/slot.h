/*
 * slot.h - the state of the scenario "slot", shared by slot.c (properties, reader),
 * slot_actors.c (writer, folder, kill) and slot_cleaner.c
 *
 * One stripe with one slot, three pages of one item each. An item is two value words (to see
 * mixtures) and one mutable word (counter or deadline). Value words hold names of values: 0
 * nothing, 1..6 values of the slot's key, HOSTILE the bytes another key's owner writes into a
 * recycled page. Pages are numbered from 1.
 */
#ifndef SLOT_H
#define SLOT_H

#include "explore.h"

#define NPAGE 3
#define HOSTILE 7
#define MAX_VALUE 6

/* Actors; the first three own reservations, W and X are writers. */
enum { W, X, C, R, F, L, NACTOR };

enum page_state { FREE, TAKEN, OPEN, CLOSED, CLEANING, LIMBO };

struct page {
    uint8_t state, owner; /* owner: actor + 1 while TAKEN or CLEANING, else 0 */
    uint8_t foreign;      /* the item belongs to another stripe */
    uint8_t word[2], mutable;
};

struct writer {
    uint8_t pc, page, value;
    uint8_t unwritten; /* which of the two value words are not yet visible */
};

struct slot_state {
    uint8_t ref;              /* the slot */
    uint8_t lock, appender;   /* actor + 1 of the owner */
    uint8_t now, now_mutable; /* ghost: value and mutable word of the key as committed */
    uint8_t unraised;         /* ghost: a writer's item.version is above ver */
    uint8_t odd;              /* sabotage odd_even only */
    struct page page[NPAGE];
    uint8_t reservation[3];
    struct writer w[2];
    uint8_t c_pc, c_from, c_to, c_unwritten, c_visit;
    uint8_t c_done, c_seen; /* closing stores executed; of these visible to others */
    uint8_t r_pc, r_ref, r_word[2], r_unread, r_raised, r_window, pin, pin_buffer;
    uint8_t f_pc, f_whom, l_page, l_current;
    uint8_t dead, folded, kills;
};

enum sabotage {
    NO_SABOTAGE,
    NO_RESERVATIONS,     /* the cleaner does not look at reservations */
    LATE_RESERVATION,    /* extent: CLOSED before the reservation is stored */
    EARLY_SCAN,          /* log page: reservations tested before CLEANING, while still OPEN */
    PUBLISH_TAKEN,       /* extent: published while TAKEN, closed afterwards */
    FREE_UNREAD,         /* pages are freed without a walk */
    NO_SLOT_RECHECK,     /* relocation publishes without looking at the slot again */
    NO_MUTABLE_RECOPY,   /* counter and deadline copied only without the lock */
    NO_EXPIRY_RECHECK,   /* "expired" decided before the lock only */
    NO_WRITER_RAISE,     /* writers do not raise ver */
    NO_CLEANER_RAISE,    /* relocation and eviction do not raise ver */
    NO_RECOVERY_RAISE,   /* the recovery of a dead owner's stripe does not raise ver */
    RAISE_BEFORE_REF,    /* ver raised before the ref store */
    REF_NOT_RELEASE,     /* the ref store may overtake the item's bytes */
    READER_NO_FENCE,     /* the last load of ver may overtake the loads of the bytes */
    PIN_NO_RECHECK,      /* ver is not looked at again after the pin */
    PIN_NO_FENCE,        /* ... is looked at while the pin is still in the store buffer */
    FREE_NO_PIN_SCAN,    /* pages are freed without looking at pins */
    FREE_NO_FENCE,       /* pins are scanned while ref and ver are still in the store buffer */
    LIMBO_NO_GENERATION, /* LIMBO -> FREE compares the state only */
    LIMBO_TAKEN,         /* a page in limbo is claimed as TAKEN, not as CLEANING */
    GARBAGE_UNVISITED,   /* garbage seen without the lock: the stripe is not visited afterwards */
    ODD_EVEN,            /* ver is odd while a writer works, readers wait */
};

/* What a run contains. */
struct slot_config {
    bool reader, pinned, hostile, second, counter, touch, log, latecomer, claim_limbo, two_kills;
    enum sabotage sabotage;
};

extern struct slot_config slot_config;

/* slot.c */
void slot_emit(struct ex *x, struct slot_state *t, const char *who, const char *what);
void slot_commit(struct slot_state *t, uint8_t ref, uint8_t value);
void slot_raise(struct slot_state *t);
void slot_free(struct ex *x, struct slot_state *t, uint8_t page, uint8_t to, const char *who);
bool slot_proven_dead(const struct slot_state *s, int actor);
int slot_take(const struct slot_state *s, uint8_t *lock, int actor);
void slot_emit_kill(struct ex *x, struct slot_state *t, int actor, const char *who);
uint8_t slot_fresh_value(struct ex *x, const struct slot_state *s);

/* slot_actors.c */
void slot_writer(struct ex *x, const struct slot_state *s, int i);
void slot_incrementer(struct ex *x, const struct slot_state *s);
void slot_folder(struct ex *x, const struct slot_state *s);
void slot_kill(struct ex *x, const struct slot_state *s);
bool slot_idle(const struct slot_state *s);

/* slot_cleaner.c */
void slot_cleaner(struct ex *x, const struct slot_state *s);
void slot_kill_cleaner(struct ex *x, const struct slot_state *s);

static inline struct page *slot_page(struct slot_state *s, uint8_t page)
{
    return &s->page[page - 1];
}

static inline const struct page *slot_page_const(const struct slot_state *s, uint8_t page)
{
    return &s->page[page - 1];
}

#endif
