/* schedule_run.c: see schedule.h. Everything is static: one run at a time, in one thread. */
#include "schedule.h"

#include <time.h>
#include <ucontext.h>

#include "wait.h"

#define STACK_BYTES (256u << 10)
#define STEP_NS     20u
#define STEPS_MAX   20000000u /* more than any operation needs: they chase each other */
#define NOBODY      (-1)

enum state { READY, WAITING, DONE, DEAD };

struct process {
    ucontext_t context;
    enum state state;
    int priority;
    const uint32_t *word; /* it sleeps on */
    uint64_t wake_ns;
    enum kv_wait_result woken;
};

static struct {
    struct process p[PROCESSES];
    ucontext_t home;
    const struct plan *plan;
    struct chance chance;
    void (*body)(uint32_t);
    void (*on_kill)(uint32_t);
    int current; /* NOBODY: no process runs, points are nothing */
    int lowest;
    uint32_t next_event;
    uint64_t steps, next, next_choice, ticks, clock_ns;
} now = {.current = NOBODY, .clock_ns = 3600000000000u};

static unsigned char stacks[PROCESSES][STACK_BYTES] __attribute__((aligned(64)));

uint64_t schedule_tick(void) { return ++now.ticks; }
uint64_t schedule_ns(void) { return now.clock_ns; }
void schedule_start_clock(uint64_t ns) { now.clock_ns = ns; }

/* ---- who runs ----------------------------------------------------------------------------- */

/* Nobody is ready: time passes until the first sleeper wakes. */
static bool pass_time(void) {
    struct process *first = NULL;
    for (uint32_t i = 0; i < now.plan->processes; i++)
        if (now.p[i].state == WAITING && (first == NULL || now.p[i].wake_ns < first->wake_ns))
            first = &now.p[i];
    if (first == NULL)
        return false;
    if (now.clock_ns < first->wake_ns)
        now.clock_ns = first->wake_ns;
    first->state = READY;
    first->woken = KV_TIMED_OUT;
    return true;
}

static int pick(void) {
    int best = NOBODY;
    uint32_t ready = 0;
    for (uint32_t i = 0; i < now.plan->processes; i++) {
        if (now.p[i].state != READY)
            continue;
        ready++;
        bool better = now.plan->walk != 0 ? chance_below(&now.chance, ready) == 0
                                          : best == NOBODY ||
                                                now.p[i].priority > now.p[best].priority;
        if (better)
            best = (int)i;
    }
    if (best == NOBODY && pass_time())
        return pick();
    return best;
}

/* Leave the running process (it may be over) for whoever is next. */
static void move_on(void) {
    int from = now.current, to = pick();
    if (to == from)
        return;
    ucontext_t unused, *save = from == NOBODY ? &now.home : &now.p[from].context;
    if (from != NOBODY && (now.p[from].state == DONE || now.p[from].state == DEAD))
        save = &unused;
    now.current = to;
    CHECK_EQ(swapcontext(save, to == NOBODY ? &now.home : &now.p[to].context), 0);
}

static void wake_early(void) {
    uint32_t n = 0;
    struct process *chosen = NULL;
    for (uint32_t i = 0; i < now.plan->processes; i++)
        if (now.p[i].state == WAITING && chance_below(&now.chance, ++n) == 0)
            chosen = &now.p[i];
    if (chosen == NULL)
        return;
    if (now.clock_ns < chosen->wake_ns)
        now.clock_ns = chosen->wake_ns;
    chosen->state = READY;
    chosen->woken = KV_TIMED_OUT;
}

static void act(const struct plan_event *event) {
    struct process *p = &now.p[now.current];
    if (event->kind == EVENT_LOWER) {
        p->priority = --now.lowest;
    } else if (event->kind == EVENT_LEAP) {
        now.clock_ns += event->ns;
    } else if (event->kind == EVENT_TIMEOUT) {
        wake_early();
    } else if (p->state == READY) {
        uint32_t who = (uint32_t)now.current;
        p->state = DEAD;
        now.current = NOBODY; /* what follows is not the dead one's doing */
        now.on_kill(who);
        now.current = (int)who;
    }
}

static void set_next(void) {
    const struct plan *plan = now.plan;
    now.next = now.next_event < plan->events ? plan->event[now.next_event].at : UINT64_MAX;
    if (plan->walk != 0 && now.next_choice < now.next)
        now.next = now.next_choice;
    if (now.next > STEPS_MAX)
        now.next = STEPS_MAX;
}

static void decide(void) {
    const struct plan *plan = now.plan;
    if (now.steps >= STEPS_MAX)
        kv_test_fail(__FILE__, __LINE__, "no end after %u steps", STEPS_MAX);
    while (now.next_event < plan->events && plan->event[now.next_event].at <= now.steps)
        act(&plan->event[now.next_event++]);
    if (plan->walk != 0 && now.next_choice <= now.steps)
        now.next_choice = now.steps + 1 + chance_below(&now.chance, 2 * plan->walk);
    set_next();
    move_on();
}

void schedule_point(unsigned kind) {
    if (now.current == NOBODY || !(now.plan->kinds & kind))
        return;
    now.clock_ns += STEP_NS;
    if (++now.steps >= now.next)
        decide();
}

/* ---- processes ---------------------------------------------------------------------------- */

static void begin(void) {
    uint32_t me = (uint32_t)now.current;
    now.body(me);
    now.p[me].state = DONE;
    move_on();
}

static void prepare(uint32_t i) {
    struct process *p = &now.p[i];
    p->state = READY;
    p->priority = now.plan->priority[i];
    CHECK_EQ(getcontext(&p->context), 0);
    p->context.uc_stack.ss_sp = stacks[i];
    p->context.uc_stack.ss_size = STACK_BYTES;
    p->context.uc_link = NULL;
    makecontext(&p->context, begin, 0);
}

uint64_t schedule_run(const struct plan *plan, void (*body)(uint32_t), void (*on_kill)(uint32_t)) {
    now.plan = plan;
    now.chance = plan->chance;
    now.body = body;
    now.on_kill = on_kill;
    now.lowest = 0;
    now.steps = now.ticks = now.next_event = 0;
    now.next_choice = plan->walk != 0 ? 1 : 0;
    for (uint32_t i = 0; i < plan->processes; i++)
        prepare(i);
    set_next();
    move_on();
    CHECK_EQ(now.current, NOBODY);
    return now.steps;
}

/* ---- what takes the place of others ------------------------------------------------------- */

enum kv_wait_result kv_wait(uint32_t *word, uint32_t seen, uint64_t ns) {
    schedule_point(POINT_FAULT);
    if (__atomic_load_n(word, __ATOMIC_RELAXED) != seen)
        return KV_WOKEN;
    if (now.current == NOBODY) { /* the judge: the others are gone */
        now.clock_ns += ns;
        return KV_TIMED_OUT;
    }
    struct process *p = &now.p[now.current];
    p->state = WAITING;
    p->word = word;
    p->wake_ns = now.clock_ns + ns;
    p->woken = KV_TIMED_OUT;
    move_on();
    return p->woken;
}

/* Any sleeper may be the one: the kernel promises no order. */
void kv_wake(uint32_t *word, int how_many) {
    schedule_point(POINT_FAULT);
    for (uint32_t n = 0; now.current != NOBODY && how_many-- > 0; n = 0) {
        struct process *chosen = NULL;
        for (uint32_t i = 0; i < now.plan->processes; i++)
            if (now.p[i].state == WAITING && now.p[i].word == word &&
                chance_below(&now.chance, ++n) == 0)
                chosen = &now.p[i];
        if (chosen == NULL)
            return;
        chosen->state = READY;
        chosen->woken = KV_WOKEN;
    }
}

void kv_fault_visit(struct kv_fault_site *site) {
    (void)site;
    schedule_point(POINT_FAULT);
}

int clock_gettime(clockid_t id, struct timespec *t) {
    (void)id;
    t->tv_sec = (time_t)(now.clock_ns / 1000000000u);
    t->tv_nsec = (long)(now.clock_ns % 1000000000u);
    return 0;
}

/* In up to three pieces. */
void schedule_copy(void *to, const void *from, size_t n) {
    size_t at = 0;
    schedule_point(POINT_COPY);
    for (unsigned i = 0; i < 2 && now.current != NOBODY && at < n; i++) {
        size_t piece = chance_below(&now.chance, (uint32_t)(n - at) + 1);
        memcpy((char *)to + at, (const char *)from + at, piece);
        at += piece;
        schedule_point(POINT_COPY);
    }
    memcpy((char *)to + at, (const char *)from + at, n - at);
}

bool schedule_same(const void *shared, const void *mine, size_t n) {
    size_t half = n / 2;
    schedule_point(POINT_COPY);
    if (memcmp(shared, mine, half) != 0)
        return false;
    schedule_point(POINT_COPY);
    return memcmp((const char *)shared + half, (const char *)mine + half, n - half) == 0;
}
