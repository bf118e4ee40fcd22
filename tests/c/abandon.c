/* abandon.c: operations left in the middle, ten thousands a second, in one process.
 *
 * A crew of attachments shares one segment with a survivor. One after the other does something
 * chosen by chance and is left at a fault point (longjmp); closing its descriptor ends its byte
 * locks, its row, locks, pages, pins and reservations stay as they are. So up to a whole crew of
 * dead lies about, and whoever comes next meets them, repairs, and may be left in the middle of
 * that; attaching is left in the middle, too. After each death the survivor looks: the key is as
 * before or as after, nothing else has changed. Now and then it writes, and must not wait. Every
 * hundred deaths everything is verified and every byte accounted for.
 *
 * Blocks of a thousand deaths have a world of their own, made from the seed and the block's number
 * (`--at`); every second world may evict, and there a key may also be gone. Needs KV_FAULT=1. */
#include "torture.h"

#include <fcntl.h>

#define CREW     8u
#define PLAIN    48u /* ids of values; the first two may be extents */
#define COUNTERS 4u  /* ids that follow: counters */
#define TAILS    4u  /* then: values that grow */
#define IDS      (PLAIN + COUNTERS + TAILS)
#define BLOCK    1000u
#define VERIFY   100u
#define RENAMED  1000u /* ids of keys that are renamed */
#define NOBODY   UINT32_MAX
#define HOUR_MS  3600000u

enum kind { SET, ADD, DELETE, INCR, TOUCH, APPEND, RENAME, PIN, COMPACT, CLEAR, ENTER, KINDS };
static const unsigned weight[KINDS] = {30, 6, 12, 12, 12, 8, 6, 4, 4, 1, 5};

/* What is known of a key. */
struct known {
    bool there;
    uint32_t stamp;
    uint64_t len, counter, deadline_ms;
};

struct deed {
    enum kind kind;
    uint32_t id, to, stamp;
    uint64_t len, deadline_ms;
};

static struct world {
    struct kv_handle *h, *crew[CREW];
    struct chance c;
    bool evicts;
    uint32_t stamp;
    struct known known[IDS];
    uint32_t origin[PLAIN]; /* of the value under each renamed key; NOBODY = none */
} w;

static jmp_buf grave;
static uint64_t died_at[1024]; /* by point */

static void die(const char *name, void *arg) {
    (void)arg;
    kv_fault_arm(0, 0);
    for (uint32_t i = 0; i < kv_fault_sites() && i < 1024; i++)
        died_at[i] += kv_fault_name(i) == name;
    longjmp(grave, 1);
}

static bool is_counter(uint32_t id) { return id >= PLAIN && id < PLAIN + COUNTERS; }
static bool is_tail(uint32_t id) { return id >= PLAIN + COUNTERS; }

/* ---- what is done ------------------------------------------------------------------------- */

static struct deed deed_choose(void) {
    struct deed d = {.stamp = ++w.stamp};
    unsigned all = 0, at;
    for (unsigned k = 0; k < KINDS; k++)
        all += weight[k];
    at = chance_below(&w.c, all);
    while (at >= weight[d.kind])
        at -= weight[d.kind++];
    d.id = d.kind == INCR     ? PLAIN + chance_below(&w.c, COUNTERS)
           : d.kind == APPEND ? PLAIN + COUNTERS + chance_below(&w.c, TAILS)
           : d.kind == DELETE ? chance_below(&w.c, IDS)
                              : chance_below(&w.c, PLAIN);
    d.to = chance_below(&w.c, PLAIN);
    d.len = chance_size(&w.c, 0, 3000);
    if (d.id < 2 && d.kind == SET && chance_below(&w.c, 4) == 0)
        d.len = 20000 + chance_below(&w.c, 80000);
    d.deadline_ms = chance_below(&w.c, 3) != 0 ? kv_clock_ms() + HOUR_MS + d.stamp : 0;
    return d;
}

static kv_status do_rename(struct kv_handle *h, const struct deed *d) {
    unsigned char a[32], b[32];
    struct kv_key from = item_key_of(h, RENAMED + d->id, a);
    struct kv_key to = item_key_of(h, RENAMED + d->to, b);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_rename(&op, &from, &to);
    store_leave(&op);
    return s;
}

static kv_status do_pin(struct kv_handle *h, const struct deed *d) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, d->id, room);
    struct kv_meta meta;
    struct kv_pin pin;
    const void *data;
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_pin(&op, &key, &meta, &pin, &data);
    if (s == KV_OK)
        store_unpin(h, &pin);
    store_leave(&op);
    return s;
}

static kv_status do_whole(struct kv_handle *h, const struct deed *d) {
    uint32_t freed;
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK && d->kind == COMPACT)
        s = evict_compact(&op, &freed);
    if (s == KV_OK && d->kind == CLEAR)
        s = store_clear(&op, &(struct kv_clear){.begun = 0});
    store_leave(&op);
    return s;
}

static kv_status perform(struct kv_handle *h, const struct deed *d) {
    int64_t n;
    uint64_t len;
    switch (d->kind) {
    case SET:
        return item_set(h, d->id, d->stamp, d->len);
    case ADD:
        return item_put(h, d->id, d->stamp, d->len, d->deadline_ms, KV_PUT_ADD);
    case DELETE:
        return item_delete(h, d->id);
    case INCR:
        return item_incr(h, d->id, d->stamp, 0, &n);
    case TOUCH:
        return item_touch(h, d->id, d->deadline_ms);
    case APPEND:
        return item_append(h, d->id, "0123456789", 10, &len);
    case PIN:
        return do_pin(h, d);
    case RENAME:
        return do_rename(h, d);
    default:
        return do_whole(h, d);
    }
}

/* ---- what is known ------------------------------------------------------------------------ */

static void *give_tail(void *arg, const struct kv_meta *meta) {
    CHECK(meta->value_len <= 1u << 20);
    return arg;
}

static void check_tail(const struct kv_key *key, const struct kv_meta *meta) {
    static unsigned char bytes[1u << 20];
    struct kv_meta now;
    struct kv_op op = kv_op_make(w.h);
    OK(store_get(&op, key, &now, give_tail, bytes));
    CHECK_EQ(now.value_len, meta->value_len);
    for (uint64_t i = 0; i < now.value_len; i++)
        CHECK_EQ(bytes[i], '0' + i % 10);
    store_leave(&op);
}

static struct known look(uint32_t id) {
    unsigned char room[32];
    struct kv_key key = item_key_of(w.h, id, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(w.h);
    kv_status s = store_peek(&op, &key, &meta);
    CHECK(s == KV_OK || s == KV_MISS);
    if (s == KV_MISS)
        return (struct known){.there = false};
    struct known k = {true, 0, meta.value_len, meta.counter, meta.deadline_ms};
    if (is_tail(id))
        check_tail(&key, &meta);
    else if (!is_counter(id))
        OK(item_get(w.h, id, &k.stamp, NULL));
    return k;
}

static bool same(const struct known *a, const struct known *b) {
    return a->there == b->there &&
           (!a->there || (a->stamp == b->stamp && a->len == b->len && a->counter == b->counter &&
                          a->deadline_ms == b->deadline_ms));
}

/* What the deed makes of its key when it is done. */
static struct known after(const struct deed *d, struct known k) {
    struct known set = {true, d->len >= 8 ? d->stamp : 0, d->len, 0, 0};
    switch (d->kind) {
    case SET:
        return set;
    case ADD:
        set.deadline_ms = d->deadline_ms;
        return k.there ? k : set;
    case DELETE:
    case CLEAR:
        return (struct known){.there = false};
    case INCR:
        return (struct known){true, 0, 0, k.there ? k.counter + d->stamp : d->stamp,
                              k.there ? k.deadline_ms : 0};
    case TOUCH:
        k.deadline_ms = k.there ? d->deadline_ms : 0;
        return k;
    case APPEND:
        return (struct known){true, 0, k.there ? k.len + 10 : 10, 0, k.there ? k.deadline_ms : 0};
    default:
        return k;
    }
}

static void fail_known(uint32_t id, const struct known *is, const struct known *was) {
    kv_test_fail(__FILE__, __LINE__,
                 "key %u is {%d, stamp %u, %" PRIu64 " B, counter %" PRIu64 ", deadline %" PRIu64
                 "}, was {%d, stamp %u, %" PRIu64 " B, counter %" PRIu64 ", deadline %" PRIu64 "}",
                 id, is->there, is->stamp, is->len, is->counter, is->deadline_ms, was->there,
                 was->stamp, was->len, was->counter, was->deadline_ms);
}

/* Look at a key: as it was, or as the deed makes it (which it must be, if `done`). Where items may
 * leave, it may have left before, or after, or be as the deed makes it of nothing. */
static void settle(uint32_t id, const struct deed *d, bool done) {
    struct known now = look(id), gone = {.there = false}, *was = &w.known[id];
    struct known made = d != NULL ? after(d, *was) : *was;
    struct known anew = d != NULL ? after(d, gone) : gone;
    bool fits = same(&now, &made) || (!done && same(&now, was));
    if (w.evicts)
        fits |= !now.there || same(&now, &anew);
    if (!fits)
        fail_known(id, &now, was);
    *was = now;
}

static void *give_any(void *arg, const struct kv_meta *meta) {
    CHECK(meta->value_len <= 4096);
    return arg;
}

/* Keys of renaming are others than those of all other deeds, and their values tell which key they
 * were first written to. */
static uint32_t look_origin(uint32_t id) {
    static unsigned char bytes[4096], room[32];
    struct kv_key key = item_key_of(w.h, RENAMED + id, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(w.h);
    uint32_t origin, stamp;
    kv_status s = store_get(&op, &key, &meta, give_any, bytes);
    store_leave(&op);
    if (s == KV_MISS)
        return NOBODY;
    OK(s);
    CHECK_EQ(meta.value_len, 100);
    memcpy(&origin, bytes, 4);
    CHECK(item_wrong(origin, bytes, meta.value_len, &stamp) == NULL);
    return origin - RENAMED;
}

/* The value is here, or there, or for a moment at both; never nowhere. */
static void settle_rename(const struct deed *d, bool done) {
    uint32_t from = look_origin(d->id), to = look_origin(d->to);
    uint32_t from_was = w.origin[d->id], to_was = w.origin[d->to];
    bool begun = from == from_was && to == to_was, copied = from == from_was && to == from_was;
    bool ended = from == NOBODY && to == from_was;
    if (d->id == d->to || from_was == NOBODY)
        ended = begun;
    if (w.evicts)
        ended |= (from == NOBODY || from == from_was) &&
                 (to == NOBODY || to == from_was || to == to_was);
    if (!ended && (done || (!begun && !copied)))
        kv_test_fail(__FILE__, __LINE__, "renamed %u (%u) to %u (%u): %u and %u", d->id, from_was,
                     d->to, to_was, from, to);
    w.origin[d->id] = from;
    w.origin[d->to] = to;
    if (from == NOBODY && chance_below(&w.c, 2) == 0) {
        OK(item_set(w.h, RENAMED + d->id, 1, 100));
        w.origin[d->id] = d->id;
    }
}

static void settle_deed(const struct deed *d, bool done) {
    if (d->kind == CLEAR) {
        for (uint32_t id = 0; id < IDS; id++)
            settle(id, d, done);
        for (uint32_t id = 0; id < PLAIN; id++) {
            uint32_t now = look_origin(id);
            CHECK(now == NOBODY || (!done && now == w.origin[id]));
            w.origin[id] = now;
        }
    } else if (d->kind == RENAME) {
        settle_rename(d, done);
    } else if (d->kind < COMPACT) {
        settle(d->id, d, done);
    }
}

/* ---- the crew ----------------------------------------------------------------------------- */

/* A deed that ends, or is left at its n-th point. */
static bool is_left(struct kv_handle *h, const struct deed *d, uint64_t n) {
    kv_fault_hook(die, NULL);
    kv_fault_arm(n, KV_FAULT_CALL);
    if (setjmp(grave) != 0)
        return true;
    kv_status s = perform(h, d);
    kv_fault_arm(0, 0);
    CHECK(s == KV_OK || s == KV_MISS || s == KV_EXISTS);
    return false;
}

/* Each order of magnitude as likely as another. */
static uint64_t choose_point(const struct deed *d) {
    uint32_t most = d->kind == COMPACT || d->kind == CLEAR || d->kind == ENTER ? 1200 : 120;
    return 1 + chance_size(&w.c, 0, most);
}

static struct kv_handle *new_twin(void) {
    struct kv_handle *twin;
    OK(segment_twin(w.h, &twin));
    return twin;
}

/* One member of the crew does something. Is it left in the middle of it? */
static bool one_deed(uint64_t block, uint64_t n) {
    struct kv_handle **place = &w.crew[chance_below(&w.c, CREW)];
    struct deed d = deed_choose();
    uint64_t point = choose_point(&d);
    if (*place == NULL || d.kind == ENTER) {
        if (*place != NULL)
            world_abandon(*place);
        *place = new_twin(); /* attaching belongs to what it does */
    }
    torture_where("--at %" PRIu64 "  # death %" PRIu64 ": kind %d of key %u, point %" PRIu64, block,
                  n, (int)d.kind, d.id, point);
    bool left = is_left(*place, &d, point);
    if (left) {
        world_abandon(*place);
        *place = NULL;
    }
    settle_deed(&d, !left);
    return left;
}

static uint64_t survivor_writes(void) {
    struct deed d = deed_choose();
    if (d.kind >= RENAME) {
        d.kind = SET;
        d.id %= PLAIN;
    }
    bool there = w.known[d.id].there;
    struct cost begin = cost_now();
    kv_status s = perform(w.h, &d);
    struct cost end = cost_now();
    bool missed = s == KV_MISS && (d.kind == DELETE || d.kind == TOUCH) && (!there || w.evicts);
    bool met = s == KV_EXISTS && d.kind == ADD && there;
    if (!missed && !met)
        OK(s);
    settle(d.id, &d, true);
    return cost_check(&begin, &end);
}

/* ---- worlds ------------------------------------------------------------------------------- */

static void verify_all(void) {
    (void)world_settle(w.h);
    for (uint32_t id = 0; id < IDS; id++)
        settle(id, NULL, true);
    for (uint32_t r = 0; r < w.h->g.rows; r++) {
        uint32_t number = kv_load_acq(&kv_row_at(w.h, r)->number);
        CHECK(number == 0 || row_alive(w.h, number));
    }
    for (uint32_t i = 0; i < CREW; i++)
        if (w.crew[i] != NULL)
            store_detach(w.crew[i]);
    memset(w.crew, 0, sizeof w.crew);
    (void)world_account(w.h);
    for (uint32_t r = 0; r < w.h->g.rows; r++) {
        const struct kv_row *row = kv_row_at(w.h, r);
        CHECK(row->number == 0 || row->number == kv_number(w.h));
        for (unsigned i = 0; i < KV_RESERVATIONS; i++)
            CHECK_EQ(row->reservation[i], 0);
        for (unsigned i = 0; i < KV_PINS; i++)
            CHECK_EQ(row->pin[i], 0);
    }
}

static void one_world(uint64_t number, uint64_t deaths) {
    w = (struct world){.c = chance_make(number), .evicts = number % 2};
    w.h = world_open(KV_SIZE_MIN, w.evicts ? KV_OPT_EVICT : 0);
    for (uint32_t id = 0; id < PLAIN; id++) {
        OK(item_set(w.h, RENAMED + id, 1, 100));
        w.origin[id] = id;
    }
    for (uint32_t i = 0; w.evicts && i < 900; i++) /* no free page is left */
        OK(item_set(w.h, 5000 + i, 1, 1900));
    for (uint64_t n = 0; n < deaths;) {
        uint64_t waited = 0;
        bool left = one_deed(number, n);
        if (chance_below(&w.c, 4) == 0)
            waited = survivor_writes();
        if (!left)
            continue;
        torture_passed(waited);
        if (++n % VERIFY == 0)
            verify_all();
    }
    verify_all();
    store_detach(w.h);
}

static void run(const struct torture *run) {
    uint64_t first = run->at >= 0 ? (uint64_t)run->at : 0, n = 0;
    for (uint64_t b = first; n < run->n; b++) {
        uint64_t deaths = run->n - n < BLOCK ? run->n - n : BLOCK;
        one_world(b, deaths);
        n += deaths;
        if (run->at >= 0 || (run->seconds > 0 && torture_worked() > run->seconds))
            break;
    }
    uint32_t sites = 0;
    for (uint32_t i = 0; i < kv_fault_sites() && i < 1024; i++)
        sites += died_at[i] > 0;
    torture_note("\"died_at\": %u, \"points\": %u", sites, kv_fault_sites());
}

int main(int argc, char **argv) {
    static const struct torture_form form[2] = {{.n = 100000, .every = 1, .seconds = 18},
                                                {.n = 10000000, .every = 1, .seconds = 0}};
    return torture_main(argc, argv, "abandon", form, run);
}
