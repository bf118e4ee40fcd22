/* schedule.c: two to four logical processes on one segment, interleaved at every access to shared
 * memory, killed anywhere, and compared with what an order of their deeds could have given.
 *
 * Each case makes a plan (schedule.h) from the seed and its number (`--at`), puts the segment's
 * bytes back, gives every process an attachment of its own and a short list of deeds on four keys,
 * and runs them. A killed process never runs again; its descriptor is closed, the rest of it stays.
 * Afterwards the judge reads every key, verifies the store, and looks, key by key, for an order of
 * the deeds that fits what everybody saw (history.h). The scenes of schedule_scenes.c differ in
 * what the store is about to do. */
#include "schedule_scenes.h"
#include "torture.h"

#define DEEDS_EACH    7u
#define ACCOUNT_AT    16u
#define LEAP_MS       20u /* deadlines lie around so far away */
#define CALIBRATIONS  6u
#define FIRST_CLOCK   7200000000000u

/* One logical process. */
struct worker {
    struct kv_handle *h;
    uint32_t deeds;
    struct {
        enum deed_kind kind;
        uint32_t key;
        uint64_t len;
        uint64_t deadline_ms;
        bool whole; /* not one key: COMPACT or CHECK */
    } todo[DEEDS_EACH];
    unsigned char in[VALUE_MAX], out[VALUE_MAX];
};

static struct worker workers[PROCESSES];
static struct deed history[KEYS_ALL][DEEDS_MAX];
static uint32_t history_n[KEYS_ALL];
static struct scene_now *sc;
static uint64_t deaths;

/* ---- deeds -------------------------------------------------------------------------------- */

static uint64_t now_ms(void) { return schedule_ns() / 1000000u; }

static struct deed *deed_begin(uint32_t p, uint32_t key, enum deed_kind kind, uint64_t content) {
    CHECK(history_n[key] < DEEDS_MAX);
    struct deed *d = &history[key][history_n[key]++];
    *d = (struct deed){.kind = kind,
                       .process = p,
                       .killed = true, /* until it ends */
                       .content = content,
                       .begin = schedule_tick(),
                       .end = UINT64_MAX,
                       .begin_ms = now_ms()};
    return d;
}

static void deed_end(struct deed *d, kv_status status) {
    d->killed = false;
    d->status = status;
    d->end = schedule_tick();
    d->end_ms = now_ms();
}

/* Deeds of a process that ended without ending them: it died there. */
static void bury(uint32_t p) {
    deaths++;
    for (uint32_t k = 0; k < KEYS_ALL; k++)
        for (uint32_t i = 0; i < history_n[k]; i++) {
            struct deed *d = &history[k][i];
            if (d->process != p || d->end != UINT64_MAX)
                continue;
            d->end = schedule_tick();
            d->end_ms = now_ms();
        }
    world_abandon(workers[p].h);
    workers[p].h = NULL;
}

static void *give_out(void *arg, const struct kv_meta *meta) {
    CHECK(meta->value_len <= VALUE_MAX);
    return ((struct worker *)arg)->out;
}

/* What a value says about who wrote it; any mixture fails the test. */
static uint64_t content_of(uint32_t key, const struct kv_meta *meta, const unsigned char *bytes) {
    uint32_t stamp;
    uint64_t is = 0;
    if (key == KEY_COUNTER) {
        CHECK_EQ(meta->type, KV_TYPE_INT);
        return meta->counter;
    }
    if (key == KEY_TAIL) {
        for (uint64_t i = 0; i < meta->value_len; i++)
            is = content_append(is, bytes[i]);
        return is;
    }
    const char *wrong = item_wrong(key, bytes, meta->value_len, &stamp);
    if (wrong != NULL)
        kv_test_fail(__FILE__, __LINE__, "key %u, %" PRIu64 " B: %s is wrong", key, meta->value_len,
                     wrong);
    return stamp;
}

static kv_status do_get(uint32_t p, struct kv_op *op, uint32_t key, struct kv_meta *meta) {
    struct worker *w = &workers[p];
    struct deed *d = deed_begin(p, key, DEED_GET, 0);
    kv_status s = store_get(op, &sc->key[key], meta, give_out, w);
    if (s == KV_OK)
        d->seen = content_of(key, meta, w->out);
    deed_end(d, s);
    return s;
}

/* As the store's pop: get it, and delete it if it is still the same. */
static void do_pop(uint32_t p, struct kv_op *op, uint32_t key) {
    struct worker *w = &workers[p];
    struct kv_meta meta;
    struct deed *d = deed_begin(p, key, DEED_POP, 0);
    kv_status s;
    do {
        s = store_get(op, &sc->key[key], &meta, give_out, w);
        if (s != KV_OK)
            break;
        d->seen = content_of(key, &meta, w->out);
        struct kv_token token = kv_token_of(&meta);
        s = store_delete(op, &sc->key[key], &token);
    } while (s == KV_EXISTS);
    deed_end(d, s);
}

static void do_put(uint32_t p, struct kv_op *op, uint32_t key, enum deed_kind kind, uint32_t stamp,
                   uint64_t len, uint64_t deadline_ms) {
    static const enum kv_put mode[] = {[DEED_SET] = KV_PUT_SET,
                                       [DEED_ADD] = KV_PUT_ADD,
                                       [DEED_REPLACE] = KV_PUT_REPLACE,
                                       [DEED_CAS] = KV_PUT_CAS};
    struct kv_value value = {.type = KV_TYPE_BYTES, .data = workers[p].in, .len = len};
    struct kv_token token;
    struct kv_meta meta;
    uint64_t expected = 0;
    if (kind == DEED_CAS) {
        if (do_get(p, op, key, &meta) != KV_OK)
            return;
        token = kv_token_of(&meta);
        expected = content_of(key, &meta, workers[p].out);
    }
    item_bytes_of(key, stamp, workers[p].in, len);
    struct deed *d = deed_begin(p, key, kind, stamp);
    d->deadline_ms = deadline_ms;
    d->expected = expected;
    deed_end(d, store_put(op, &sc->key[key], &value, deadline_ms, mode[kind],
                         kind == DEED_CAS ? &token : NULL));
}

static void do_change(uint32_t p, struct kv_op *op, uint32_t key, enum deed_kind kind,
                      uint32_t stamp, uint64_t deadline_ms) {
    int64_t initial = 0, result = 0;
    unsigned char byte = (unsigned char)stamp;
    struct deed *d = deed_begin(p, key, kind, kind == DEED_INCR ? stamp : byte);
    d->deadline_ms = kind == DEED_TOUCH ? deadline_ms : 0;
    if (kind == DEED_DELETE)
        deed_end(d, store_delete(op, &sc->key[key], NULL));
    else if (kind == DEED_TOUCH)
        deed_end(d, store_touch(op, &sc->key[key], deadline_ms));
    else if (kind == DEED_APPEND)
        deed_end(d, store_append(op, &sc->key[key], KV_TYPE_BYTES, &byte, 1, &d->expected));
    else {
        kv_status s = store_incr(op, &sc->key[key], stamp, &initial, 0, &result);
        d->seen = (uint64_t)result;
        deed_end(d, s);
    }
}

static void do_clear(uint32_t p, struct kv_op *op) {
    struct deed *d[KEYS_ALL];
    for (uint32_t k = 0; k < KEYS_ALL; k++)
        d[k] = deed_begin(p, k, DEED_CLEAR, 0);
    kv_status s = store_clear(op, &(struct kv_clear){.begun = 0});
    for (uint32_t k = 0; k < KEYS_ALL; k++)
        deed_end(d[k], s);
}

static void tell_problem(void *arg, const char *text) {
    (void)arg;
    kv_test_fail(__FILE__, __LINE__, "a check told: %s", text);
}

static void do_whole(struct kv_op *op, bool check) {
    uint32_t freed;
    struct kv_report report = {.problem = tell_problem};
    OK(check ? store_check(op, &report) : evict_compact(op, &freed));
}

/* The body of a logical process. */
static void work(uint32_t p) {
    struct worker *w = &workers[p];
    for (uint32_t i = 0; i < w->deeds; i++) {
        struct kv_op op = kv_op_make(w->h);
        struct kv_meta meta;
        uint32_t stamp = 10 + p * 8 + i, key = w->todo[i].key;
        enum deed_kind kind = w->todo[i].kind;
        OK(store_enter(&op));
        if (w->todo[i].whole)
            do_whole(&op, kind == DEED_GET);
        else if (kind == DEED_GET)
            (void)do_get(p, &op, key, &meta);
        else if (kind == DEED_POP)
            do_pop(p, &op, key);
        else if (kind == DEED_CLEAR)
            do_clear(p, &op);
        else if (kind <= DEED_CAS)
            do_put(p, &op, key, kind, stamp, w->todo[i].len, w->todo[i].deadline_ms);
        else
            do_change(p, &op, key, kind, stamp, w->todo[i].deadline_ms);
        store_leave(&op);
    }
}

/* ---- plans -------------------------------------------------------------------------------- */

/* `plain`: little else than reading and setting. */
static enum deed_kind choose_kind(struct chance *c, uint32_t key, bool plain) {
    static const enum deed_kind value[] = {DEED_GET,    DEED_GET, DEED_GET,   DEED_SET,
                                           DEED_SET,    DEED_SET, DEED_ADD,   DEED_REPLACE,
                                           DEED_DELETE, DEED_POP, DEED_TOUCH, DEED_CAS};
    static const enum deed_kind counter[] = {DEED_INCR, DEED_INCR, DEED_INCR, DEED_GET,
                                             DEED_TOUCH, DEED_DELETE};
    static const enum deed_kind tail[] = {DEED_APPEND, DEED_APPEND, DEED_APPEND, DEED_GET,
                                          DEED_TOUCH, DEED_DELETE};
    if (key == KEY_COUNTER)
        return counter[chance_below(c, 6)];
    if (key == KEY_TAIL)
        return tail[chance_below(c, 6)];
    return value[chance_below(c, plain ? 6 : 12)];
}

/* What a case is about. */
struct mood {
    uint32_t processes;
    uint32_t hot; /* the key of most deeds */
    bool plain;
};

static void choose_deeds(struct chance *c, uint32_t p, const struct mood *mood) {
    struct worker *w = &workers[p];
    bool reader = p == 0 && chance_below(c, 8) == 0;
    w->deeds = 1 + chance_below(c, 2 * DEEDS_EACH / mood->processes);
    for (uint32_t i = 0; i < w->deeds; i++) {
        uint32_t key = chance_below(c, 3) == 0 ? chance_below(c, KEYS_ALL) : mood->hot;
        uint32_t rare = chance_below(c, 64);
        bool dated = chance_below(c, 6) == 0;
        enum deed_kind kind = reader ? DEED_GET : choose_kind(c, key, mood->plain);
        if (rare == 0 && !reader)
            kind = DEED_CLEAR;
        w->todo[i].whole = rare < 4 && rare > 0 && !reader;
        if (w->todo[i].whole)
            kind = rare == 1 ? DEED_GET : DEED_SET;
        w->todo[i].kind = kind;
        w->todo[i].key = key;
        w->todo[i].len = chance_size(c, sc->scene->least, sc->scene->most);
        w->todo[i].deadline_ms =
            dated || (kind == DEED_TOUCH && chance_below(c, 4) != 0)
                ? FIRST_CLOCK / 1000000u + 1 + chance_below(c, 2 * LEAP_MS)
                : 0;
    }
    OK(segment_twin(sc->h, &w->h));
    w->h->readonly = reader;
    if (!reader && chance_below(c, 4) != 0) { /* else attaching is part of its first deed */
        struct kv_op op = kv_op_make(w->h);
        OK(store_enter(&op));
        store_leave(&op);
    }
}

static int by_step(const void *a, const void *b) {
    const struct plan_event *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

static void add_event(struct plan *plan, enum event_kind kind, uint64_t within, uint64_t ns) {
    uint64_t at = 1 + chance_next(&plan->chance) % within;
    plan->event[plan->events++] = (struct plan_event){at, kind, ns};
}

static struct plan choose_plan(struct chance *c, uint32_t kinds_i) {
    static const int order[4] = {3, 1, 4, 2};
    struct plan plan = {.processes = 2 + chance_below(c, PROCESSES - 1),
                        .kinds = scene_kinds[kinds_i],
                        .chance = chance_make(chance_next(c))};
    uint64_t within = sc->steps[kinds_i] * plan.processes;
    uint32_t turn = chance_below(c, 4), depth = 1 + chance_below(c, 5);
    if (chance_below(c, 2) == 0)
        plan.walk = 1 + chance_size(c, 0, (uint32_t)within / 4);
    for (uint32_t i = 0; i < PROCESSES; i++)
        plan.priority[i] = order[(i + turn) % 4];
    for (uint32_t i = 1; i < depth; i++)
        add_event(&plan, EVENT_LOWER, within, 0);
    for (uint32_t i = chance_below(c, 4); i > 1; i--) /* half of the time nobody dies */
        add_event(&plan, EVENT_KILL, within, 0);
    if (chance_below(c, 2) == 0)
        add_event(&plan, EVENT_TIMEOUT, within, 0);
    if (chance_below(c, 3) == 0)
        add_event(&plan, EVENT_LEAP, within, 1000000u * (1 + chance_below(c, LEAP_MS)));
    qsort(plan.event, plan.events, sizeof plan.event[0], by_step);
    return plan;
}

/* ---- judging ------------------------------------------------------------------------------ */

static void read_all(void) {
    static struct worker judge;
    for (uint32_t key = 0; key < KEYS_ALL; key++) {
        struct kv_op op = kv_op_make(sc->h);
        struct kv_meta meta;
        struct deed *d = deed_begin(PROCESSES, key, DEED_GET, 0);
        kv_status s = store_get(&op, &sc->key[key], &meta, give_out, &judge);
        if (s == KV_OK)
            d->seen = content_of(key, &meta, judge.out);
        deed_end(d, s);
        store_leave(&op);
    }
}

static void judge(uint64_t number) {
    read_all();
    (void)world_check(sc->h); /* takes every stripe, folds the dead */
    read_all();
    if (number % ACCOUNT_AT == 0)
        (void)world_settle(sc->h);
    for (uint32_t key = 0; key < KEYS_ALL; key++) {
        for (uint32_t i = 0; i < history_n[key]; i++) {
            kv_status s = history[key][i].status;
            if (!history[key][i].killed && s != KV_OK && s != KV_MISS && s != KV_EXISTS)
                kv_test_fail(__FILE__, __LINE__, "process %u: %s", history[key][i].process,
                             kv_test_status(s));
        }
        if (history_fits(history[key], history_n[key], sc->at_first[key], sc->scene->evicts))
            continue;
        history_tell(history[key], history_n[key], sc->at_first[key]);
        kv_test_fail(__FILE__, __LINE__, "no order of the deeds with key %u fits", key);
    }
}

/* ---- cases -------------------------------------------------------------------------------- */

static uint64_t play(uint64_t number, struct chance *c, const struct plan *plan) {
    memset(history_n, 0, sizeof history_n);
    struct mood mood = {plan->processes, chance_below(c, KEYS_ALL), chance_below(c, 2) == 0};
    for (uint32_t p = 0; p < plan->processes; p++)
        choose_deeds(c, p, &mood);
    uint64_t steps = schedule_run(plan, work, bury);
    judge(number);
    for (uint32_t p = 0; p < plan->processes; p++)
        if (workers[p].h != NULL)
            store_detach(workers[p].h);
    scene_restore(sc);
    schedule_start_clock(FIRST_CLOCK);
    return steps;
}

/* How many steps a process takes, with each choice of points. */
static void calibrate(void) {
    for (uint32_t k = 0; k < SCENE_KINDS; k++) {
        for (uint64_t i = 0; i < CALIBRATIONS; i++) {
            struct chance c = chance_make(1000000007u + i);
            struct plan plan = {.processes = 3, .kinds = scene_kinds[k], .priority = {3, 2, 1}};
            plan.chance = chance_make(i);
            torture_where("--scene %s  # calibration", sc->scene->name);
            sc->steps[k] += play(1, &c, &plan) / plan.processes;
        }
        sc->steps[k] = sc->steps[k] / CALIBRATIONS + 10;
    }
}

static void one_case(uint64_t number) {
    struct chance c = chance_make(number * 64 + sc->index);
    uint32_t kinds_i = chance_below(&c, SCENE_KINDS);
    struct plan plan = choose_plan(&c, kinds_i);
    torture_where("--scene %s --at %" PRIu64 "  # %u processes", sc->scene->name, number,
                  plan.processes);
    (void)play(number, &c, &plan);
    torture_passed(0);
}

static void run(const struct torture *run) {
    uint64_t left = 0, n = 0;
    for (uint32_t i = 0; i < scene_count; i++)
        left += torture_asked(run, scene_list[i].name);
    uint64_t each = left == 0 ? 0 : (run->n + left - 1) / left;
    for (uint32_t i = 0; i < scene_count; i++) {
        if (!torture_asked(run, scene_list[i].name))
            continue;
        double begin = torture_worked();
        double until = run->seconds > 0 ? begin + (run->seconds - begin) / (double)left : 0;
        schedule_start_clock(FIRST_CLOCK);
        torture_where("--scene %s  # making it", scene_list[i].name);
        sc = scene_make(i);
        calibrate();
        uint64_t first = run->at >= 0 ? (uint64_t)run->at : 0;
        for (uint64_t at = first; at < first + (run->at >= 0 ? 1 : each); at++, n++) {
            one_case(at);
            if (until > 0 && torture_worked() > until)
                break;
        }
        scene_end(sc);
        left--;
    }
    torture_note("\"killed\": %" PRIu64, deaths);
    CHECK(n > 0);
}

int main(int argc, char **argv) {
    static const struct torture_form form[2] = {{.n = 10000, .every = 1, .seconds = 24},
                                                {.n = 1000000, .every = 1, .seconds = 0}};
    return torture_main(argc, argv, "schedule", form, run);
}
