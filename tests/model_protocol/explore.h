/*
 * explore.h - exhaustive exploration of small models of the protocol
 *
 * A *scenario* is a set of step machines over one struct of bytes, the state. The explorer owns the
 * set of states seen, the order of the search (breadth first, so a trace is a shortest one), the
 * trace, and the question "can what must happen still happen?". A scenario owns its state, its
 * steps, its properties and its sabotages: single rules of the protocol that can be switched off,
 * to show that the model can fail.
 *
 * States are kept whole and compared byte by byte: no hashing away, so "complete" means each
 * reachable state was expanded. A scenario hands over states in canonical form (dead variables
 * zeroed, names of interchangeable things sorted); that is its only means of reduction besides the
 * merging of local steps.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ex; /* one exploration */

struct ex_scenario {
    const char *name;
    size_t size;             /* bytes of a state; every byte counts, so no padding is allowed */
    const char *const *runs; /* NULL at the end; the configurations of this scenario */
    const char *const *sabotages; /* NULL at the end; sabotage 0 is "none" */
    bool goals;                   /* ex_goal is used: from every state a goal must stay reachable */
    void (*setup)(int run, int sabotage);
    void (*init)(void *state);
    void (*expand)(struct ex *x, const void *state);
    void (*show)(const void *state, char *text, size_t room);
};

/* The name of a kill: a step that is possible, but never counted on to reach a goal. */
extern const char ex_sigkill[];

/* Report a successor of the state being expanded. `who` and `what` name the step in a trace. */
void ex_step(struct ex *x, const void *next, const char *who, const char *what);

/* A property is broken by step `what` of `who` out of the state being expanded, or in that state.
 */
void ex_fail(struct ex *x, const char *who, const char *what, const char *why);

/*
 * For canonical forms: numbers things 1, 2, ... in order of first mention and rewrites the mentions
 * (0: none). number[old] is the new number, 0 for what is not mentioned; returns how many are.
 */
uint8_t ex_rename(uint8_t *const *mention, size_t mentions, uint8_t *number);

/* The state being expanded is one in which everything that had to happen has happened. */
void ex_goal(struct ex *x);

extern const struct ex_scenario slot_scenario, split_scenario, overflow_scenario, journal_scenario,
    fold_scenario, lock_scenario;

#endif
