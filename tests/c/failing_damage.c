/* A bit of the segment turns in the middle of an operation, at every fault point.
 *
 * Random damage from outside seldom strikes between a check and the use of what was checked; here
 * it always does: at the n-th fault point of an operation one bit turns, mostly in the words that
 * the operation has just stored or is about to use (its pages' words and tails, its row, lock
 * words), else anywhere. Then the operation goes on, and another attachment looks at everything.
 *
 * Allowed: any status that may leave the core. Not: SIGSEGV, SIGBUS, an abort of a sanitizer, an
 * operation of more than five seconds, an internal status. The segment lies before 68 GiB of
 * forbidden addresses, more than any ref can reach, so that a wild store is met and not borne by
 * somebody else's memory.
 *
 *     failing_damage CASES [SCENARIO [CASE]]     the last: one case again, in this process
 *
 * SHMKV_TEST_SEED repeats a run (1 if it is not given). Each scenario runs in children that go on
 * after one has died. The last line is JSON. Needs KV_FAULT=1. */
#include "kv_test.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS      120u
#define FILLER    200000u
#define FORBIDDEN (68ULL << 30)
#define PATIENCE  5u /* seconds */
#define FOUND_MAX 40u

/* ---- what is done ------------------------------------------------------------------------- */

static kv_status worst; /* a status that may not leave the core, or KV_OK */

static void status_seen(kv_status s) {
    if (s == KV_RECOVER || s == KV_AGAIN || s == KV_NOPAGE || s == KV_NOINDEX || s == KV_INVALID)
        worst = s;
}

static bool patient; /* one case by hand */

/* Every operation has its own time limit: SIGALRM ends the process that exceeds it. */
static struct kv_op begin(struct kv_handle *h) {
    if (!patient)
        (void)alarm(PATIENCE);
    return kv_op_make(h);
}

static unsigned char bytes[1u << 20];

static void put(struct kv_handle *h, uint32_t id, uint64_t len, uint64_t deadline,
                enum kv_put mode) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_value v = {.type = KV_TYPE_BYTES, .data = bytes, .len = len};
    struct kv_op op = begin(h);
    status_seen(store_put(&op, &key, &v, deadline, mode, NULL));
    store_leave(&op);
}

static void *to_nowhere(void *arg, const struct kv_meta *meta) {
    static unsigned char sink[4u << 20];
    (void)arg;
    return meta->value_len <= sizeof sink ? sink : NULL;
}

static void get(struct kv_handle *h, uint32_t id) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_meta meta;
    struct kv_op op = begin(h);
    status_seen(store_get(&op, &key, &meta, to_nowhere, NULL));
    store_leave(&op);
}

static void small(struct kv_handle *h) { put(h, 7, 200, 0, KV_PUT_SET); }
static void large(struct kv_handle *h) { put(h, 7, 9000, 0, KV_PUT_SET); }
static void extent(struct kv_handle *h) { put(h, 7, 150000, 0, KV_PUT_SET); }
static void fresh(struct kv_handle *h) { put(h, 100001, 200, kv_clock_ms() + 900, KV_PUT_ADD); }
static void many(struct kv_handle *h) {
    for (uint32_t i = 0; i < 60; i++)
        put(h, FILLER + i, 1900, 0, KV_PUT_SET);
}
static void extents(struct kv_handle *h) {
    for (uint32_t i = 0; i < 4; i++)
        put(h, FILLER + i, 150000, 0, KV_PUT_SET);
}
static void keys(struct kv_handle *h) {
    for (uint32_t i = 0; i < 500; i++)
        put(h, FILLER + 5000 + i, 0, 0, KV_PUT_SET);
}
static void reads(struct kv_handle *h) {
    for (uint32_t i = 0; i < KEYS; i++)
        get(h, i);
    get(h, 90000);
}
static void removal(struct kv_handle *h) { (void)item_delete(h, 7); }
static void counting(struct kv_handle *h) {
    int64_t n;
    status_seen(item_incr(h, 100002, 5, 0, &n));
    status_seen(item_touch(h, 7, kv_clock_ms() + 100000));
    status_seen(item_touch(h, 7, 0));
}
static void rewriting(struct kv_handle *h) {
    unsigned char a[32], b[32];
    uint64_t now;
    struct kv_key from = item_key_of(h, 7, a), to = item_key_of(h, 8, b);
    status_seen(item_append(h, 90000, "tail", 4, &now));
    struct kv_op op = begin(h);
    status_seen(store_rename(&op, &from, &to));
    store_leave(&op);
}
static void clear(struct kv_handle *h) {
    struct kv_op op = begin(h);
    status_seen(store_clear(&op, &(struct kv_clear){.begun = 0}));
    store_leave(&op);
}
static void compact(struct kv_handle *h) {
    uint32_t freed;
    struct kv_op op = begin(h);
    status_seen(evict_compact(&op, &freed));
    store_leave(&op);
}
static bool shown(void *arg, const void *key, uint32_t len, bool is_str,
                  const struct kv_meta *meta) {
    uint64_t *sum = arg;
    (void)is_str, (void)meta;
    *sum += kv_hash(key, len, 1);
    return true;
}
static void look(struct kv_handle *h) {
    uint64_t sum = 0;
    struct kv_stats stats;
    struct kv_report report = {.problem = NULL};
    struct kv_cursor cursor = {0};
    struct kv_op op = begin(h);
    kv_status s;
    while ((s = store_scan(&op, &cursor, shown, &sum)) == KV_OK)
        ;
    status_seen(s);
    status_seen(store_check(&op, &report));
    store_leave(&op);
    store_stats(h, &stats);
}
static void attach(struct kv_handle *h) { /* and fold who died before */
    struct kv_op op = begin(h);
    status_seen(store_enter(&op));
    store_leave(&op);
}

/* ---- worlds ------------------------------------------------------------------------------- */

static void fill_keys(struct kv_handle *h) {
    for (uint32_t i = 0; i < KEYS; i++)
        put(h, i, 200, i % 5 == 0 ? kv_clock_ms() + 100000 : 0, KV_PUT_SET);
    put(h, 90000, 40000, 0, KV_PUT_SET);
}
static void fill_up(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; world_stat(h, KV_STAT_CLEANED) == 0; i++)
        put(h, FILLER + i % 1000, 1900, 0, KV_PUT_SET);
}
static void fill_half(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; world_stat(h, KV_STAT_CLEANED) == 0; i++)
        put(h, FILLER + i % 400, 1900, 0, KV_PUT_SET);
}
static void fill_index(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; i < 2600; i++)
        put(h, FILLER + i, 0, i % 3 == 0 ? kv_clock_ms() + 1 : 0, KV_PUT_SET);
    kv_clock_offset_ms += 1000;
}

/* One ended with a stripe, an appender, a cleaner slot and a page in its hands, and a pin. */
static void fill_dead(struct kv_handle *h) {
    fill_keys(h);
    struct kv_handle *dead = world_twin(h);
    uint32_t number = kv_number(dead), base;
    struct kv_op op = kv_op_make(dead);
    OK(arena_take(&op, 2, 0, &base));
    stripe_at(h, 1)->lock = number;
    kv_header_of(h)->appenders[0].lock = number;
    kv_header_of(h)->cleaners[0].lock = number;
    kv_row_own(dead)->pin[3] = base_ref(h, base);
    kv_row_own(dead)->reservation[2] = base_ref(h, base);
    world_abandon(dead);
}

static const struct scenario {
    const char *name;
    void (*fill)(struct kv_handle *);
    void (*act)(struct kv_handle *);
    bool bare; /* the twin comes without a row */
} scenarios[] = {
    {"set", fill_keys, small, false},
    {"set-large", fill_keys, large, false},
    {"set-extent", fill_keys, extent, false},
    {"add", fill_keys, fresh, false},
    {"get", fill_keys, reads, false},
    {"delete", fill_keys, removal, false},
    {"count", fill_keys, counting, false},
    {"rewrite", fill_keys, rewriting, false},
    {"clear", fill_keys, clear, false},
    {"compact", fill_half, compact, false},
    {"evict", fill_up, many, false},
    {"clean", fill_half, many, false},
    {"window", fill_up, extents, false},
    {"window-clean", fill_half, extents, false},
    {"split", fill_index, keys, false},
    {"look", fill_keys, look, false},
    {"fold", fill_dead, attach, true},
};
#define SCENARIOS (sizeof scenarios / sizeof scenarios[0])

/* Move the mapping to where nothing follows for longer than a ref reaches. */
static struct kv_handle *world_alone(void) {
    struct kv_handle *h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    unsigned char *room = mmap(NULL, h->g.max_size + FORBIDDEN, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(room != MAP_FAILED);
    void *moved =
        mremap(h->base, h->g.max_size, h->g.max_size, MREMAP_MAYMOVE | MREMAP_FIXED, room);
    CHECK(moved == room);
    h->base = room;
    h->lock_timeout_ns = 20000000u;
    return h;
}

/* ---- damage ------------------------------------------------------------------------------- */

struct damage {
    struct kv_handle *h;
    struct chance chance;
    uint64_t at; /* byte, for the report */
    unsigned bit;
    const char *point;
};

/* A page that somebody has taken, opened or cleans, if there is one. */
static uint64_t busy_page(struct damage *d) {
    struct kv_handle *h = d->h;
    uint32_t start = chance_below(&d->chance, h->g.bases_max);
    for (uint32_t i = 0; i < h->g.bases_max; i++) {
        uint32_t base = (start + i) % h->g.bases_max, state = kv_page_state(page_word(h, base));
        if (state == KV_TAKEN || state == KV_OPEN || state == KV_CLEANING)
            return h->g.off_pages + base * sizeof(struct kv_page) + chance_below(&d->chance, 16);
    }
    return h->g.off_pages;
}

static uint64_t place(struct damage *d) {
    struct kv_handle *h = d->h;
    struct chance *c = &d->chance;
    switch (chance_below(c, 10)) {
    case 0:
    case 1:
    case 2:
        return busy_page(d);
    case 3:
        return h->g.off_pages + chance_below(c, h->g.bases * (uint32_t)sizeof(struct kv_page));
    case 4:
        return 64 + chance_below(c, 64);
    case 5:
        return 512 + chance_below(c, 700);
    case 6: /* rows: the first few are in use */
        return h->g.off_rows + chance_below(c, 4 * (uint32_t)sizeof(struct kv_row));
    case 7:
        return h->g.off_stripes +
               chance_below(c, (uint32_t)(h->g.off_pages - h->g.off_stripes));
    case 8: /* the index, then the first pages after it */
        return h->g.off_arena + chance_below(c, 4u << h->g.base_shift);
    default:
        return h->g.off_arena + chance_below(c, (uint32_t)(h->g.max_size - h->g.off_arena));
    }
}

static void strike(const char *name, void *arg) {
    struct damage *d = arg;
    kv_fault_arm(0, 0);
    d->at = place(d);
    d->bit = chance_below(&d->chance, 8);
    d->point = name;
    unsigned char *p = d->h->base + d->at;
    kv_store_rlx(p, (unsigned char)(kv_load_rlx(p) ^ 1u << d->bit));
}

/* ---- runs --------------------------------------------------------------------------------- */

struct progress { /* shared with the parent */
    uint64_t next, at, point;
    unsigned bit;
    kv_status status;
    char name[64];
};
static struct progress *progress;

static struct kv_handle *twin_for(struct kv_handle *h, const struct scenario *sc) {
    struct kv_handle *twin = NULL;
    if (sc->bare)
        OK(segment_twin(h, &twin));
    else
        twin = world_twin(h);
    twin->lock_timeout_ns = h->lock_timeout_ns;
    return twin;
}

/* The points an operation passes. A case strikes at a name, each as likely as another, and at one
 * of its visits: what is rare is not drowned by what is frequent. */
#define POINTS_MAX (1u << 20)
#define NAMES_MAX  200u
static const char *points[POINTS_MAX];
static uint32_t points_count;
static const char *names[NAMES_MAX];
static uint32_t visits[NAMES_MAX], names_count;

static void count(const char *name, void *arg) {
    uint32_t i = 0;
    (void)arg;
    if (points_count < POINTS_MAX)
        points[points_count++] = name;
    while (i < names_count && names[i] != name && strcmp(names[i], name) != 0)
        i++;
    CHECK(i < NAMES_MAX);
    names[i] = name;
    visits[i]++;
    names_count += i == names_count;
}

static uint64_t choose_point(struct chance *c) {
    uint32_t i = chance_below(c, names_count), visit = chance_below(c, visits[i]), n = 0;
    for (; n < points_count; n++)
        if (strcmp(points[n], names[i]) == 0 && visit-- == 0)
            break;
    return n + 1;
}

static void afterwards(struct kv_handle *h) {
    small(h);
    reads(h);
    extent(h);
    look(h);
    compact(h);
}

/* One case: which point, which bit follow from the seed and the number. */
static void one(struct kv_handle *h, const struct scenario *sc, const struct image *image,
                uint64_t number, bool told) {
    struct damage d = {.h = h, .chance = chance_make(number * 64 + (uint64_t)(sc - scenarios))};
    struct kv_handle *twin = twin_for(h, sc);
    uint64_t n = choose_point(&d.chance);
    progress->point = n;
    worst = KV_OK;
    kv_fault_hook(strike, &d);
    kv_fault_arm(n, KV_FAULT_CALL);
    if (told)
        fprintf(stderr, "case %" PRIu64 ": point %" PRIu64 " of %u\n", number, n,
                points_count);
    sc->act(twin);
    kv_fault_arm(0, 0);
    if (told)
        fprintf(stderr, "  struck at %s: byte %" PRIu64 " bit %u\n",
                d.point != NULL ? d.point : "nothing", d.at, d.bit);
    segment_close(twin);
    afterwards(h);
    progress->status = worst;
    image_restore(h, image);
}

/* From case `progress->next` on; a child of the run. */
static void cases(const struct scenario *sc, uint64_t last, bool told) {
    struct kv_handle *h = world_alone();
    sc->fill(h);
    struct image image = image_take(h);
    struct kv_handle *twin = twin_for(h, sc);
    kv_fault_hook(count, NULL);
    kv_fault_arm(0, KV_FAULT_CALL);
    sc->act(twin);
    kv_fault_arm(0, 0);
    segment_close(twin);
    image_restore(h, &image);
    CHECK(points_count > 0 && points_count < POINTS_MAX);
    for (uint64_t i = progress->next; i < last; i++) {
        progress->next = i;
        patient = told;
        one(h, sc, &image, i, told);
        if (progress->status != KV_OK)
            _exit(3);
    }
    _exit(0);
}

static unsigned scenario_run(const struct scenario *sc, uint64_t last) {
    unsigned found = 0;
    progress->next = 0;
    while (progress->next < last && found < FOUND_MAX) {
        int status;
        progress->status = KV_OK;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            cases(sc, last, false);
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            break;
        found++;
        printf("VIOLATION %s case %" PRIu64 " (point %" PRIu64 "): ", sc->name, progress->next,
               progress->point);
        if (WIFSIGNALED(status))
            printf("signal %d%s\n", WTERMSIG(status),
                   WTERMSIG(status) == SIGALRM ? " (hangs)" : "");
        else
            printf("exit %d, status %s\n", WEXITSTATUS(status), kv_test_status(progress->status));
        progress->next++;
    }
    return found;
}

int main(int argc, char **argv) {
    const char *seed = getenv("SHMKV_TEST_SEED");
    uint64_t n = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000, ran = 0;
    kv_test_seed = seed != NULL ? strtoull(seed, NULL, 10) : 1;
    kv_test_name = "failing_damage";
    progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(progress != MAP_FAILED);
    unsigned found = 0;
    for (const struct scenario *sc = scenarios; sc < scenarios + SCENARIOS; sc++) {
        if (argc > 2 && strcmp(argv[2], sc->name) != 0)
            continue;
        if (argc > 3) {
            progress->next = strtoull(argv[3], NULL, 10);
            cases(sc, progress->next + 1, true);
        }
        found += scenario_run(sc, n / SCENARIOS);
        ran += n / SCENARIOS;
    }
    printf("{\"name\": \"damage_inside\", \"seed\": %" PRIu64 ", \"n\": %" PRIu64
           ", \"violations\": %u, \"worst_ms\": 0}\n",
           kv_test_seed, ran, found);
    return found > 0;
}
