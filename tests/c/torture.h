/* torture.h: the frame of the long reliability harnesses (step, restep, abandon, schedule).
 *
 * Owns: their command line, and the one line of JSON each ends with. The harness runs in a child
 * process, and what it has done so far stands in memory that its parent sees: a harness that fails
 * a check, dies of a signal or stands still is a violation that is told with the case it was at,
 * like any other. Whatever a harness does follows from the seed: the same seed and the same options
 * repeat it.
 *
 *     --seed S      (default: SHMKV_TEST_SEED, else the clock's)
 *     --n N         cases at most
 *     --every K     of the points to die at, only every K-th
 *     --seconds T   stop early after so long a time of processors (0 = never)
 *     --full        the long form
 *     --scene NAME  only this one
 *     --at I        only this case
 *
 * Does not: know what is tested. */
#ifndef KV_TORTURE_H
#define KV_TORTURE_H

#include "kv_test.h"

struct torture {
    uint64_t seed, n, every;
    double seconds;
    bool full;
    const char *scene; /* NULL = all */
    int64_t at;        /* -1 = all */
};

/* What a harness does when nothing is said. */
struct torture_form {
    uint64_t n, every;
    double seconds;
};

/* Runs it; the exit status of the program: 0 ok, 1 a violation, 2 wrong usage, 77 not run. */
int torture_main(int argc, char **argv, const char *name, const struct torture_form form[2],
                 void (*run)(const struct torture *));

/* Which case is at work: told when it fails. The text is also an option list that repeats it. */
void torture_where(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Another case went well; what a survivor had to wait. */
void torture_passed(uint64_t waited_ns);
/* One more member of the JSON line: `"name": value`. */
void torture_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void torture_not_run(const char *why);
/* Seconds that processors have worked for the harness, its ended children included: how much is
 * done in them does not depend on what else the machine does. */
double torture_worked(void);
/* Is this one asked for? */
bool torture_asked(const struct torture *t, const char *scene);

/* What this thread has cost so far: its own time, and how often it slept. Neither depends on what
 * else the machine does. */
struct cost {
    uint64_t cpu_ns, sleeps, wall_ns;
};
struct cost cost_now(void);
/* Between two moments: fails if the survivor worked, or slept, longer than 50 ms. The wall time. */
uint64_t cost_check(const struct cost *begin, const struct cost *end);

/* Like image_restore(), but memory of FREE pages has no meaning: it keeps what was written there,
 * and that takes no time. */
void image_put_back(struct kv_handle *h, const struct image *image);

#endif

