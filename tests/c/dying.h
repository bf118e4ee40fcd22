/* dying.h: a process that dies after a given number of machine instructions of an operation.
 *
 * The operation is stepped through once with the processor's trap flag: that gives the address of
 * every instruction it executes, in order: its *track*. To die at the n-th of them, a process need
 * not be stepped there: it runs at full speed to a breakpoint at an address that the track passes
 * for the k-th time shortly before, and steps the rest. Planning picks the cheapest such place for
 * every n. Breakpoint and trap are served by the dying process itself (SIGTRAP), in its private
 * copy of the program's text, so that no right to trace another process is needed; the end is a
 * real SIGKILL between two instructions.
 *
 * Counted are the instructions from the call of the operation to its return, those of libc and of
 * the kernel's clock page included; a system call is one instruction. Does not: know what the
 * operation is. Only for x86-64. */
#ifndef KV_DYING_H
#define KV_DYING_H

#include "kv_test.h"

#define DYING_MAX (1u << 21) /* instructions of one operation; of a longer one, the first */

/* Lies in memory that parent and child share. */
struct track {
    uint64_t count; /* of points: the process may die at 0 .. count - 1 */
    uint64_t astray; /* deaths that did not happen where the track said */
    uint64_t pc[DYING_MAX];
    uint32_t visit[DYING_MAX];  /* how often the track has been at pc[i], i included */
    uint32_t anchor[DYING_MAX]; /* where to break for point i */
};

/* NULL, or why this machine cannot do it. */
const char *dying_impossible(void);
struct track *track_make(void);
/* In a child: run and remember. */
void track_record(struct track *t, void (*act)(struct kv_handle *), struct kv_handle *h);
/* In the parent, afterwards: where to break for each point. */
void track_plan(struct track *t);
/* In a child: does not return if the operation gets there. */
void track_die(struct track *t, uint64_t point, void (*act)(struct kv_handle *),
               struct kv_handle *h);
/* The function (if the program knows it) and address of a point. */
const char *track_place(const struct track *t, uint64_t point);

#endif
