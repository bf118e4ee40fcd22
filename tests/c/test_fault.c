/* test_fault.c: an operation is left at every fault point it passes, as if its process had died
 * there.
 *
 * longjmp out of the point, then the twin's descriptor is closed: its byte locks end, its row, its
 * locks, its pages stay as they are. Nothing else happens to the world, so each death is exactly
 * reproducible: the segment's bytes are put back before the next. Then another attachment goes on
 * at once and must find: the value old or new, every other key as it was, no problem, and after
 * cleaning no byte lost. At depth 2 the one who recovers dies as well. Needs KV_FAULT=1. */
#include "kv_test.h"

#include <sys/resource.h>

#define KEYS    120u
#define TARGET  7u      /* the key that is changed */
#define OTHER   100001u /* a key that is not there at first */
#define COUNTER 100002u
#define FILLER  200000u

#if defined(__SANITIZE_ADDRESS__)
#define ALLOWED_NS 500000000u
#else
#define ALLOWED_NS 50000000u
#endif
#define ALLOWED_SLEEPS 10u /* of at most 2 ms: it asks whether the owner lives before the first */

static jmp_buf grave;
static char died_at[64];

static void die(const char *name, void *arg) {
    (void)arg;
    kv_fault_arm(0, 0);
    (void)snprintf(died_at, sizeof died_at, "%s", name);
    longjmp(grave, 1);
}

/* Run until the n-th point. true: died there. */
static bool dies(void (*act)(struct kv_handle *), struct kv_handle *h, uint64_t n) {
    kv_fault_hook(die, NULL);
    kv_fault_arm(n, KV_FAULT_CALL);
    if (setjmp(grave) != 0)
        return true;
    act(h);
    kv_fault_arm(0, 0);
    return false;
}

/* The names of all points an operation passes, in order. */
#define POINTS 20000u
static const char *points[POINTS];
static uint64_t points_count;

static void note(const char *name, void *arg) {
    (void)arg;
    if (points_count < POINTS)
        points[points_count++] = name;
}

static void trace(void (*act)(struct kv_handle *), struct kv_handle *h) {
    points_count = 0;
    kv_fault_hook(note, NULL);
    kv_fault_arm(0, KV_FAULT_CALL);
    act(h);
    kv_fault_arm(0, 0);
    CHECK(points_count > 4 && points_count < POINTS);
}

/* ---- what is done ------------------------------------------------------------------------- */

static void set_same(struct kv_handle *h) { OK(item_set(h, TARGET, 2, 200)); }
static void set_small(struct kv_handle *h) { OK(item_set(h, TARGET, 2, 20)); }
static void set_large(struct kv_handle *h) { OK(item_set(h, TARGET, 2, 3000)); }
static void set_extent(struct kv_handle *h) { OK(item_set(h, TARGET, 2, 150000)); }
static void set_new(struct kv_handle *h) { OK(item_set(h, OTHER, 2, 200)); }
static void remove_key(struct kv_handle *h) { OK(item_delete(h, TARGET)); }
static void incr(struct kv_handle *h) {
    int64_t n;
    OK(item_incr(h, COUNTER, 5, 0, &n));
    CHECK_EQ(n, 105);
}
static void incr_new(struct kv_handle *h) {
    int64_t n;
    OK(item_incr(h, OTHER, 5, 100, &n));
    CHECK_EQ(n, 105);
}
static void touch(struct kv_handle *h) { OK(item_touch(h, TARGET, kv_clock_ms() + 3600000)); }
static void touch_again(struct kv_handle *h) {
    OK(item_touch(h, TARGET, kv_clock_ms() + 3600000));
    OK(item_touch(h, TARGET, 0));
}
static void append(struct kv_handle *h) {
    uint64_t now;
    OK(item_append(h, TARGET, "tail", 4, &now));
}
static void rename_key(struct kv_handle *h) {
    unsigned char a[32], b[32];
    struct kv_key from = item_key_of(h, TARGET, a), to = item_key_of(h, OTHER, b);
    struct kv_op op = kv_op_make(h);
    OK(store_rename(&op, &from, &to));
    store_leave(&op);
}
static void clear(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    OK(store_clear(&op, &(struct kv_clear){.begun = 0}));
    store_leave(&op);
}
static void pop(struct kv_handle *h) { OK(item_delete(h, TARGET)); }
static void compact(struct kv_handle *h) {
    uint32_t freed;
    struct kv_op op = kv_op_make(h);
    OK(evict_compact(&op, &freed));
    store_leave(&op);
}
/* The new key that makes an index segment split: fill_index() found it. */
static uint32_t splitter;
static void split(struct kv_handle *h) {
    uint64_t before = world_stat(h, KV_STAT_SPLITS);
    OK(item_set(h, splitter, 1, 0));
    CHECK_EQ(world_stat(h, KV_STAT_SPLITS), before + 1);
}
/* Extents until one needed an emptied window. */
static void extents(struct kv_handle *h) {
    uint64_t before = world_stat(h, KV_STAT_CLEANED);
    for (uint32_t i = 0; world_stat(h, KV_STAT_CLEANED) < before + 2; i++)
        OK(item_set(h, FILLER + 90000 + i % 3, 2, 150000));
}
/* Sets until a page was cleaned. */
static void evict(struct kv_handle *h) {
    uint64_t before = world_stat(h, KV_STAT_CLEANED);
    for (uint32_t i = 0; world_stat(h, KV_STAT_CLEANED) < before + 2; i++)
        OK(item_set(h, TARGET, 2, 1900));
}
static void attach(struct kv_handle *h) { /* the twin has no row yet */
    struct kv_op op = kv_op_make(h);
    OK(store_enter(&op));
    store_leave(&op);
    store_detach(h);
}

/* ---- worlds to do it in ------------------------------------------------------------------- */

static void fill_keys(struct kv_handle *h) {
    int64_t n;
    for (uint32_t i = 0; i < KEYS; i++)
        OK(item_set(h, i, 1, 200));
    OK(item_incr(h, COUNTER, 100, 0, &n));
}
static void fill_touched(struct kv_handle *h) {
    fill_keys(h);
    OK(item_touch(h, TARGET, kv_clock_ms() + 7200000));
}
/* No free page left for ordinary takers. */
static void fill_up(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; world_stat(h, KV_STAT_CLEANED) == 0; i++)
        OK(item_set(h, FILLER + i % 1000, 1, 1900));
}
static void fill_half(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; world_stat(h, KV_STAT_CLEANED) == 0; i++)
        OK(item_set(h, FILLER + i % 400, 1, 1900));
}
/* One new key before a split, a third of what is in the index expired. */
static void fill_index(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; i < 2000; i++)
        OK(item_put(h, FILLER + i, 1, 0, i % 3 == 0 ? kv_clock_ms() + 1 : 0, KV_PUT_SET));
    kv_clock_offset_ms += 1000;
    uint64_t before = world_stat(h, KV_STAT_SPLITS);
    struct image image = image_take(h);
    for (splitter = FILLER + 50000;; splitter++) {
        OK(item_set(h, splitter, 1, 0));
        if (world_stat(h, KV_STAT_SPLITS) != before)
            break;
    }
    image_restore(h, &image);
    image_free(&image);
    for (uint32_t i = FILLER + 50000; i < splitter; i++)
        OK(item_set(h, i, 1, 0));
    CHECK_EQ(world_stat(h, KV_STAT_SPLITS), before);
}

struct scenario {
    const char *name;
    void (*fill)(struct kv_handle *);
    void (*act)(struct kv_handle *);
    bool may_evict;
    bool bare; /* the twin comes without a row */
};

static const struct scenario scenarios[] = {
    {"set same", fill_keys, set_same, false, false},
    {"set smaller", fill_keys, set_small, false, false},
    {"set larger", fill_keys, set_large, false, false},
    {"set extent", fill_keys, set_extent, false, false},
    {"set new", fill_keys, set_new, false, false},
    {"delete", fill_keys, remove_key, false, false},
    {"pop", fill_keys, pop, false, false},
    {"incr", fill_keys, incr, false, false},
    {"incr new", fill_keys, incr_new, false, false},
    {"touch", fill_keys, touch, false, false},
    {"touch in place", fill_touched, touch_again, false, false},
    {"append", fill_keys, append, false, false},
    {"rename", fill_keys, rename_key, false, false},
    {"clear", fill_keys, clear, true, false},
    {"compact", fill_keys, compact, false, false},
    {"evicting set", fill_up, evict, true, false},
    {"cleaning set", fill_half, evict, false, false},
    {"evicting extents", fill_up, extents, true, false},
    {"cleaning extents", fill_half, extents, false, false},
    {"split", fill_index, split, false, false},
    {"attach", fill_keys, attach, false, true},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

/* ---- what must hold afterwards ------------------------------------------------------------ */

static void others_intact(struct kv_handle *h, const struct scenario *sc) {
    uint32_t stamp;
    uint64_t len;
    for (uint32_t i = 0; i < KEYS; i++) {
        if (i == TARGET)
            continue;
        kv_status s = item_get(h, i, &stamp, &len);
        if (s == KV_MISS && sc->may_evict)
            continue;
        OK(s);
        CHECK_EQ(stamp, 1);
        CHECK_EQ(len, 200);
    }
}

/* Old or new: which is told by what item_get verified; here, that it is there at all. */
static void target_sound(struct kv_handle *h, const struct scenario *sc) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, TARGET, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(h);
    kv_status s = store_peek(&op, &key, &meta);
    if (s == KV_MISS) {
        bool may =
            sc->may_evict || sc->act == remove_key || sc->act == pop || sc->act == rename_key;
        CHECK(may);
        if (sc->act == rename_key)
            OK(item_get(h, TARGET, NULL, NULL) == KV_MISS ? KV_OK : KV_CORRUPT);
        return;
    }
    OK(s);
    if (sc->act == append && meta.value_len == 204)
        return; /* longer than what describes itself */
    OK(item_get(h, TARGET, NULL, NULL));
}

static void counter_sound(struct kv_handle *h, const struct scenario *sc) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, COUNTER, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(h);
    kv_status s = store_peek(&op, &key, &meta);
    if (s == KV_MISS && sc->may_evict)
        return;
    OK(s);
    CHECK(meta.counter == 100 || (sc->act == incr && meta.counter == 105));
}

/* What this thread has cost so far: its own time, and how often it slept. Neither depends on what
 * else the machine does. */
struct cost {
    uint64_t ns, sleeps;
};

static struct cost cost_now(void) {
    struct rusage usage;
    CHECK_EQ(getrusage(RUSAGE_THREAD, &usage), 0);
    return (struct cost){kv_clock_read(CLOCK_THREAD_CPUTIME_ID, 1000000000u),
                         (uint64_t)usage.ru_nvcsw};
}

/* Another goes on at once. */
static void goes_on(struct kv_handle *h, const struct scenario *sc) {
    target_sound(h, sc); /* reading repairs nothing and waits for nobody */
    struct cost begin = cost_now();
    OK(item_set(h, TARGET, 3, 300));
    struct cost end = cost_now();
    if (end.ns - begin.ns > ALLOWED_NS || end.sleeps - begin.sleeps > ALLOWED_SLEEPS)
        kv_test_fail(__FILE__, __LINE__,
                     "the survivor's set took %.1f ms and slept %" PRIu64 " times",
                     (double)(end.ns - begin.ns) / 1e6, end.sleeps - begin.sleeps);
    uint32_t stamp = 0;
    OK(item_get(h, TARGET, &stamp, NULL));
    CHECK_EQ(stamp, 3);
    counter_sound(h, sc);
    others_intact(h, sc);
    (void)world_account(h);
    others_intact(h, sc);
    OK(item_set(h, TARGET, 4, 100000)); /* an eighth of the arena can still be had */
    OK(item_get(h, TARGET, NULL, NULL));
}

static struct kv_handle *twin_for(struct kv_handle *h, const struct scenario *sc) {
    struct kv_handle *twin;
    if (!sc->bare)
        return world_twin(h);
    OK(segment_twin(h, &twin));
    return twin;
}

/* Which points to die at: the first visits of each name, the others by chance. */
struct choice {
    struct chance chance;
    uint32_t visits[256];
    uint32_t first, percent;
};

static bool chosen(struct choice *c, const char *name) {
    uint64_t at = kv_hash(name, strlen(name), 0) % 256;
    return ++c->visits[at] <= c->first || chance_below(&c->chance, 100) < c->percent;
}

/* ---- depth 1 ------------------------------------------------------------------------------ */

struct stage {
    struct kv_handle *h;
    struct image image;
    int64_t clock_before;
};

static struct stage stage_make(const struct scenario *sc) {
    struct stage st = {.clock_before = kv_clock_offset_ms,
                       .h = world_open(KV_SIZE_MIN, KV_OPT_EVICT)};
    sc->fill(st.h);
    st.image = image_take(st.h);
    struct kv_handle *twin = twin_for(st.h, sc);
    trace(sc->act, twin);
    if (!sc->bare)
        world_abandon(twin);
    goes_on(st.h, sc);
    image_restore(st.h, &st.image);
    if (getenv("SHMKV_TEST_TELL") != NULL)
        printf("  %s: %" PRIu64 " points\n", sc->name, points_count);
    return st;
}

static void stage_end(struct stage *st) {
    kv_clock_offset_ms = st->clock_before;
    image_free(&st->image);
    store_detach(st->h);
}

/* One scenario alone: SHMKV_TEST_ONLY=name. */
static bool asked(const struct scenario *sc) {
    const char *only = getenv("SHMKV_TEST_ONLY");
    return only == NULL || strcmp(only, sc->name) == 0;
}

static void depth_one(const struct scenario *sc) {
    struct choice choice = {chance_make(1), {0}, 4, (uint32_t)scaled(2)};
    struct stage st = stage_make(sc);
    for (uint64_t n = 1; n <= points_count; n++) {
        if (!chosen(&choice, points[n - 1]))
            continue;
        struct kv_handle *twin = twin_for(st.h, sc);
        (void)snprintf(kv_test_where, sizeof kv_test_where,
                       "%s, death at point %" PRIu64 " of %" PRIu64 " (%s)", sc->name, n,
                       points_count, points[n - 1]);
        CHECK(dies(sc->act, twin, n));
        CHECK(strcmp(died_at, points[n - 1]) == 0);
        world_abandon(twin);
        goes_on(st.h, sc);
        image_restore(st.h, &st.image);
    }
    stage_end(&st);
}

static void test_depth_one(void) {
    for (size_t i = 0; i < SCENARIOS; i++)
        if (asked(&scenarios[i]))
            depth_one(&scenarios[i]);
}

/* ---- depth 2 ------------------------------------------------------------------------------ */

/* Three who may meet the dead: one who wants the same key, one who attaches, one who cleans. */
static void wants_key(struct kv_handle *h) { OK(item_set(h, TARGET, 3, 250)); }
static void attaches(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    OK(store_enter(&op));
    store_leave(&op);
}
static void (*const second[])(struct kv_handle *) = {wants_key, attaches, compact};

/* Run the first to point n, the second to point m. false: the second reached its end. */
static bool two_deaths(struct kv_handle *h, const struct scenario *sc, unsigned who, uint64_t n,
                       uint64_t m) {
    struct kv_handle *late;
    struct kv_handle *early = world_twin(h), *twin = twin_for(h, sc);
    OK(segment_twin(h, &late));
    CHECK(dies(sc->act, twin, n));
    world_abandon(twin);
    bool again = dies(second[who], second[who] == attaches ? late : early, m);
    (void)snprintf(kv_test_where, sizeof kv_test_where,
                   "%s, deaths at %" PRIu64 " (%s) and of %u at %" PRIu64 " (%s)", sc->name, n,
                   points[n - 1], who, m, again ? died_at : "none");
    world_abandon(early);
    world_abandon(late);
    goes_on(h, sc);
    return again;
}

static void depth_two(const struct scenario *sc) {
    struct choice choice = {chance_make(2), {0}, 1, (uint32_t)scaled(1)};
    struct stage st = stage_make(sc);
    for (uint64_t n = 1; n <= points_count; n++) {
        if (!chosen(&choice, points[n - 1]))
            continue;
        unsigned who = chance_below(&choice.chance, 3);
        /* steps of the second: close together at first, where it meets the dead, then wider */
        uint64_t m = 1 + chance_below(&choice.chance, (uint32_t)(8 / kv_test_scale) + 1);
        while (two_deaths(st.h, sc, who, n, m)) {
            image_restore(st.h, &st.image);
            m += 1 + chance_below(&choice.chance, (uint32_t)((double)(20 + m) / kv_test_scale) + 1);
        }
        image_restore(st.h, &st.image);
    }
    stage_end(&st);
}

static void test_depth_two(void) {
    for (size_t i = 0; i < SCENARIOS; i++)
        if (asked(&scenarios[i]))
            depth_two(&scenarios[i]);
}

static const struct kv_test tests[] = {
    {"fault_depth_one", test_depth_one},
    {"fault_depth_two", test_depth_two},
};
KV_TEST_MAIN(tests)
