/* dying.c: see dying.h. One operation per process: the state of the handler is static. */
#include "dying.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)

#define TRAP_FLAG  0x100
#define BREAK_BYTE 0xCC
#define STEP_COST  10u /* a step and a breakpoint that is passed, in microseconds, about */
#define PASS_COST  14u
#define STACK      65536u

static struct {
    struct track *t;
    bool recording;
    unsigned char *at, byte; /* the breakpoint, and what it hides */
    uint64_t passes;         /* visits of it to let pass */
    uint64_t steps;          /* to go after it */
    bool put_back;           /* a step over the breakpoint is under way */
    uint64_t aim;            /* where the track says it ends */
} now;

static void end_here(uint64_t pc) {
    if (pc != now.aim)
        __atomic_fetch_add(&now.t->astray, 1, __ATOMIC_RELAXED);
    (void)kill(getpid(), SIGKILL);
}

static void on_break(ucontext_t *c) {
    greg_t *reg = c->uc_mcontext.gregs;
    reg[REG_RIP] = (greg_t)(uintptr_t)now.at;
    *now.at = now.byte;
    if (now.passes > 0) {
        now.passes--;
        now.put_back = true;
    } else if (now.steps == 0) {
        end_here((uint64_t)reg[REG_RIP]);
    }
    reg[REG_EFL] |= TRAP_FLAG;
}

static void on_step(ucontext_t *c) {
    greg_t *reg = c->uc_mcontext.gregs;
    if (now.recording) {
        if (now.t->count < DYING_MAX)
            now.t->pc[now.t->count++] = (uint64_t)reg[REG_RIP];
        if (now.t->count == DYING_MAX) /* a store full of work: this far, then at full speed */
            reg[REG_EFL] &= ~TRAP_FLAG;
    } else if (now.put_back) {
        now.put_back = false;
        *now.at = BREAK_BYTE;
        reg[REG_EFL] &= ~TRAP_FLAG;
    } else if (--now.steps == 0) {
        end_here((uint64_t)reg[REG_RIP]);
    }
}

static void on_trap(int signal, siginfo_t *info, void *context) {
    (void)signal;
    if (info->si_code == TRAP_TRACE)
        on_step(context);
    else
        on_break(context);
}

static void serve_traps(void) {
    static unsigned char stack[STACK];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    CHECK_EQ(sigaltstack(&other, NULL), 0);
    CHECK_EQ(sigaction(SIGTRAP, &action, NULL), 0);
}

/* Past the red zone: the compiler may keep words of its own below the stack pointer. */
#define FLAGS(change)                                                                              \
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\t" change                                 \
                     "\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::: "memory", "cc")
#define TRAP_ON()  FLAGS("orq $0x100, (%%rsp)")
#define TRAP_OFF() FLAGS("andq $~0x100, (%%rsp)")

/* Both ways of running it are the same code, so that the stack lies where it lay. */
static __attribute__((noinline)) void run(void (*act)(struct kv_handle *), struct kv_handle *h) {
    if (now.recording)
        TRAP_ON();
    else
        *now.at = BREAK_BYTE;
    act(h);
    TRAP_OFF();
}

void track_record(struct track *t, void (*act)(struct kv_handle *), struct kv_handle *h) {
    t->count = 0;
    now.t = t;
    now.recording = true;
    serve_traps();
    run(act, h);
    CHECK(t->count > 20);
    /* What follows the return, up to the trap that was the last, is not the operation's. */
    while (t->count > 0 && t->pc[t->count - 1] >= (uint64_t)(uintptr_t)run &&
           t->pc[t->count - 1] < (uint64_t)(uintptr_t)track_record)
        t->count--;
}

void track_die(struct track *t, uint64_t point, void (*act)(struct kv_handle *),
               struct kv_handle *h) {
    uint32_t anchor = t->anchor[point];
    now.t = t;
    now.at = (unsigned char *)(uintptr_t)t->pc[anchor];
    now.byte = *now.at;
    now.passes = t->visit[anchor] - 1;
    now.steps = point - anchor;
    now.aim = t->pc[point];
    uintptr_t page = (uintptr_t)now.at & ~(uintptr_t)4095;
    serve_traps();
    CHECK_EQ(mprotect((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
    run(act, h);
    *now.at = now.byte;
}

/* ---- planning ----------------------------------------------------------------------------- */

/* Fills visit[]: how often each address has been met. */
static void count_visits(struct track *t) {
    static uint64_t key[2 * DYING_MAX];
    static uint32_t seen[2 * DYING_MAX];
    memset(key, 0, sizeof key);
    for (uint64_t i = 0; i < t->count; i++) {
        uint64_t at = t->pc[i] * 0x9E3779B97F4A7C15ULL % (2 * DYING_MAX);
        while (key[at] != 0 && key[at] != t->pc[i])
            at = (at + 1) % (2 * DYING_MAX);
        seen[at] = key[at] == 0 ? 1 : seen[at] + 1;
        key[at] = t->pc[i];
        t->visit[i] = seen[at];
    }
}

/* The kernel's clock page is no place for a breakpoint. */
static bool breakable(uint64_t pc) {
    uint64_t clock = getauxval(AT_SYSINFO_EHDR);
    return pc < clock || pc >= clock + 4 * 4096;
}

void track_plan(struct track *t) {
    uint64_t best = UINT64_MAX; /* cost of the anchor of the point before */
    uint32_t anchor = 0;
    count_visits(t);
    for (uint64_t i = 0; i < t->count; i++) {
        uint64_t here = breakable(t->pc[i]) ? (uint64_t)PASS_COST * t->visit[i] : UINT64_MAX;
        if (best != UINT64_MAX)
            best += STEP_COST;
        if (here < best) {
            best = here;
            anchor = (uint32_t)i;
        }
        CHECK(best != UINT64_MAX);
        t->anchor[i] = anchor;
    }
}

struct track *track_make(void) {
    struct track *t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(t != MAP_FAILED);
    return t;
}

const char *track_place(const struct track *t, uint64_t point) {
    static char text[160];
    Dl_info info;
    void *pc = (void *)(uintptr_t)t->pc[point];
    if (dladdr(pc, &info) == 0 || info.dli_fname == NULL)
        (void)snprintf(text, sizeof text, "%p", pc);
    else
        (void)snprintf(text, sizeof text, "%s+0x%tx", info.dli_fname,
                       (char *)pc - (char *)info.dli_fbase);
    return text;
}

const char *dying_impossible(void) { return NULL; }

#else

const char *dying_impossible(void) { return "stepping by the trap flag needs x86-64"; }
struct track *track_make(void) { return NULL; }
void track_record(struct track *t, void (*act)(struct kv_handle *), struct kv_handle *h) {
    (void)t;
    act(h);
}
void track_plan(struct track *t) { (void)t; }
void track_die(struct track *t, uint64_t point, void (*act)(struct kv_handle *),
               struct kv_handle *h) {
    (void)t;
    (void)point;
    act(h);
}
const char *track_place(const struct track *t, uint64_t point) {
    (void)t;
    (void)point;
    return "";
}

#endif
