/* schedule.h: logical processes in one thread, and who of them runs, decided by a plan.
 *
 * Owns: coroutines, the points between their steps, sleeping (it takes the place of wait.c), and
 * the clock (it takes the place of clock_gettime): nothing here depends on time or on the machine,
 * so a plan repeats a run to the last step. A sleeper wakes when somebody wakes it, when nobody
 * else can run (then time passes), or early, when the plan says that much time has passed.
 *
 * Two ways of deciding. PCT (Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler
 * with Probabilistic Guarantees of Finding Bugs, ASPLOS 2010): the process of highest priority
 * runs; at d - 1 steps chosen beforehand the running one's priority falls below all others: a bug
 * that needs d ordered steps is met with probability 1 / (n k^(d-1)) at least. And a random walk.
 * Does not: know what the processes do. */
#ifndef KV_SCHEDULE_H
#define KV_SCHEDULE_H

#include "kv_test.h"

#define PROCESSES   4u
#define PLAN_EVENTS 12u

enum event_kind { EVENT_LOWER, EVENT_KILL, EVENT_LEAP, EVENT_TIMEOUT };

struct plan_event {
    uint64_t at; /* step */
    enum event_kind kind;
    uint64_t ns; /* EVENT_LEAP */
};

struct plan {
    uint32_t processes;
    unsigned kinds;                         /* which points are steps: POINT_* */
    uint32_t walk;                          /* random walk: mean steps between choices; 0 = PCT */
    int priority[PROCESSES];                /* PCT: at first, all different and above zero */
    uint32_t events;                        /* in order of steps */
    struct plan_event event[PLAN_EVENTS];
    struct chance chance;
};

/* Runs body(i) for every process, to its end or its death; on_kill(i) at its death. The steps. */
uint64_t schedule_run(const struct plan *plan, void (*body)(uint32_t),
                      void (*on_kill)(uint32_t));
/* Moments in order: each call gives a later one. */
uint64_t schedule_tick(void);
uint64_t schedule_ns(void);
void schedule_start_clock(uint64_t ns);

#endif
