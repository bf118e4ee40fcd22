/* torture.c: see torture.h. The parent watches and tells, the child works; between them lies one
 * struct in shared memory, written by the child alone. */
#include "torture.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STANDSTILL_S   60.0
#define NOT_RUN        77
#define ALLOWED_NS     50000000u
#define ALLOWED_SLEEPS 25u /* of at most 2 ms */

/* Shared with the child that does the work. */
static struct progress {
    uint64_t n, worst_ns;
    uint64_t moves; /* rises with whatever happens */
    char where[256], notes[512], why[256];
} *progress;

static double began_s;

static double now_s(void) { /* the system call: a harness may have a clock of its own */
    struct timespec t;
    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double worked_s(int who) {
    struct rusage usage;
    CHECK_EQ(getrusage(who, &usage), 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

double torture_worked(void) { return worked_s(RUSAGE_SELF) + worked_s(RUSAGE_CHILDREN); }

void torture_where(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(progress->where, sizeof progress->where, format, args);
    va_end(args);
    memcpy(kv_test_where, progress->where, sizeof kv_test_where);
    progress->moves++;
}

void torture_passed(uint64_t waited_ns) {
    progress->n++;
    progress->moves++;
    if (waited_ns > progress->worst_ns)
        progress->worst_ns = waited_ns;
}

void torture_note(const char *format, ...) {
    size_t used = strlen(progress->notes);
    va_list args;
    used += (size_t)snprintf(progress->notes + used, sizeof progress->notes - used, ", ");
    va_start(args, format);
    (void)vsnprintf(progress->notes + used, sizeof progress->notes - used, format, args);
    va_end(args);
}

_Noreturn void torture_not_run(const char *why) {
    (void)snprintf(progress->why, sizeof progress->why, "%s", why);
    _exit(NOT_RUN);
}

bool torture_asked(const struct torture *t, const char *scene) {
    return t->scene == NULL || strcmp(t->scene, scene) == 0;
}

/* ---- cost --------------------------------------------------------------------------------- */

struct cost cost_now(void) {
    struct rusage usage;
    CHECK_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
    struct timespec cpu;
    (void)syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &cpu);
    return (struct cost){.cpu_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec,
                         .sleeps = (uint64_t)usage.ru_nvcsw,
                         .wall_ns = (uint64_t)(now_s() * 1e9)};
}

uint64_t cost_check(const struct cost *begin, const struct cost *end) {
    uint64_t cpu = end->cpu_ns - begin->cpu_ns, sleeps = end->sleeps - begin->sleeps;
    if (cpu > ALLOWED_NS || sleeps > ALLOWED_SLEEPS)
        kv_test_fail(__FILE__, __LINE__,
                     "the survivor worked %.1f ms and slept %" PRIu64 " times, in all %.1f ms",
                     (double)cpu / 1e6, sleeps, (double)(end->wall_ns - begin->wall_ns) / 1e6);
    return end->wall_ns - begin->wall_ns;
}

void image_put_back(struct kv_handle *h, const struct image *image) {
    const struct kv_geometry *g = &h->g;
    const unsigned char *from = image->bytes;
    uint64_t base = 1ULL << g->base_shift;
    image_ghost(h, image);
    memcpy(h->base, from, g->off_arena);
    for (uint32_t i = 0; i < g->bases_max && g->off_arena + (i + 1) * base <= image->length; i++) {
        const struct kv_page *p = (const struct kv_page *)(const void *)(from + g->off_pages) + i;
        if (kv_page_state(p->word) != KV_FREE)
            memcpy(h->base + g->off_arena + i * base, from + g->off_arena + i * base, base);
    }
    h->backed = image->length;
}

/* ---- the frame ---------------------------------------------------------------------------- */

static bool parse(int argc, char **argv, struct torture *t, const struct torture_form form[2]) {
    const char *seed = getenv("SHMKV_TEST_SEED");
    bool n = false, every = false, seconds = false;
    *t = (struct torture){.at = -1};
    t->seed = seed != NULL ? strtoull(seed, NULL, 10) : kv_clock_ns() % 1000000007u;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--full") == 0) {
            t->full = true;
            continue;
        }
        if (value == NULL)
            return false;
        if (strcmp(argv[i], "--seed") == 0)
            t->seed = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--n") == 0)
            n = (t->n = strtoull(value, NULL, 10)) > 0;
        else if (strcmp(argv[i], "--every") == 0)
            every = (t->every = strtoull(value, NULL, 10)) > 0;
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = (t->seconds = strtod(value, NULL)) >= 0;
        else if (strcmp(argv[i], "--scene") == 0)
            t->scene = value;
        else if (strcmp(argv[i], "--at") == 0)
            t->at = (int64_t)strtoull(value, NULL, 10);
        else
            return false;
        i++;
    }
    t->n = n ? t->n : form[t->full].n;
    t->every = every ? t->every : form[t->full].every;
    t->seconds = seconds ? t->seconds : form[t->full].seconds;
    return true;
}

/* Wait for the child as long as it moves. How it ended; -1 = it had to be ended. */
static int watch(pid_t child) {
    uint64_t moves = 0;
    double since = now_s();
    for (;;) {
        int status;
        pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child)
            return status;
        if (__atomic_load_n(&progress->moves, __ATOMIC_RELAXED) != moves) {
            moves = __atomic_load_n(&progress->moves, __ATOMIC_RELAXED);
            since = now_s();
        }
        if (now_s() - since > STANDSTILL_S) {
            (void)kill(-child, SIGKILL);
            (void)waitpid(child, &status, 0);
            return -1;
        }
        (void)usleep(10000);
    }
}

static void tell_violation(const char *name, const struct torture *t, int status) {
    if (status == -1)
        fprintf(stderr, "FAILED %s: nothing moved for %.0f s\n", name, STANDSTILL_S);
    else if (WIFSIGNALED(status))
        fprintf(stderr, "FAILED %s: %s\n", name, strsignal(WTERMSIG(status)));
    fprintf(stderr, "  %s --seed %" PRIu64 "%s %s\n", name, t->seed, t->full ? " --full" : "",
            progress->where);
}

int torture_main(int argc, char **argv, const char *name, const struct torture_form form[2],
                 void (*run)(const struct torture *)) {
    struct torture t;
    if (!parse(argc, argv, &t, form)) {
        fprintf(stderr, "usage: %s [--seed S] [--n N] [--every K] [--seconds T] [--full] "
                        "[--scene NAME] [--at I]\n", name);
        return 2;
    }
    kv_test_name = name;
    kv_test_seed = t.seed;
    began_s = now_s();
    progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                    0);
    CHECK(progress != MAP_FAILED);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)setpgid(0, 0); /* whoever it forks ends with it, and it with its parent */
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(&t);
        fflush(NULL);
        _exit(0);
    }
    int status = watch(child);
    (void)kill(-child, SIGKILL);
    if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == NOT_RUN) {
        printf("{\"name\": \"%s\", \"seed\": %" PRIu64 ", \"n\": 0, \"violations\": 0, "
               "\"worst_ms\": 0, \"not_run\": \"%s\"}\n", name, t.seed, progress->why);
        return NOT_RUN;
    }
    if (status != 0)
        tell_violation(name, &t, status);
    printf("{\"name\": \"%s\", \"seed\": %" PRIu64 ", \"n\": %" PRIu64 ", \"violations\": %d, "
           "\"worst_ms\": %.3f, \"seconds\": %.1f%s}\n",
           name, t.seed, progress->n, status != 0, (double)progress->worst_ns / 1e6,
           now_s() - began_s, progress->notes);
    return status != 0;
}
