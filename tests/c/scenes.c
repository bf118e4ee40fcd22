/* scenes.c: see scenes.h. The operation's key and value are static: one stage at a time. */
#include "scenes.h"

#include <sys/mman.h>

#define KEYS        24u
#define TARGET      7u
#define OTHER       100001u /* a key that is not there at first */
#define COUNTER     100002u
#define FILLER      200000u
#define FILLER_LEN  1900u
#define NEIGHBOUR   300000u /* from here on: a new key of the same stripe */
#define ACCOUNT_AT  16u /* every so many judgements all bytes are accounted for */
#define SURVIVED    3u  /* the stamp of what the survivor writes */
#define HOUR_MS     3600000u

static struct {
    uint32_t id;
    unsigned char name[32], bytes[4096];
    struct kv_key key;
    struct kv_value value;
    uint64_t deadline_ms;
} made;

static uint32_t neighbour_id;
static bool store_is_full;

static void make(struct kv_handle *h, uint32_t id, uint64_t len) {
    made.id = id;
    made.key = item_key_of(h, id, made.name);
    item_bytes_of(id, 2, made.bytes, len);
    made.value = (struct kv_value){.type = KV_TYPE_BYTES, .data = made.bytes, .len = len};
}

/* ---- what is done ------------------------------------------------------------------------- */

static void act_put(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    OK(store_put(&op, &made.key, &made.value, 0, KV_PUT_SET, NULL));
    store_leave(&op);
}
static void act_delete(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    OK(store_delete(&op, &made.key, NULL));
    store_leave(&op);
}
static void act_incr(struct kv_handle *h) {
    int64_t n, initial = 100;
    struct kv_op op = kv_op_make(h);
    OK(store_incr(&op, &made.key, 5, &initial, 0, &n));
    CHECK_EQ(n, 105);
    store_leave(&op);
}
static void act_touch(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    OK(store_touch(&op, &made.key, made.deadline_ms));
    store_leave(&op);
}

/* ---- up to the moment before -------------------------------------------------------------- */

static void fill_keys(struct kv_handle *h) {
    int64_t n;
    for (uint32_t i = 0; i < KEYS; i++)
        OK(item_set(h, i, 1, 200));
    OK(item_incr(h, COUNTER, 100, 0, &n));
    made.deadline_ms = kv_clock_ms() + HOUR_MS;
}
static void fill_new(struct kv_handle *h) {
    fill_keys(h);
    make(h, OTHER, 200);
}
static void fill_same(struct kv_handle *h) {
    fill_keys(h);
    make(h, TARGET, 200);
}
static void fill_longer(struct kv_handle *h) {
    fill_keys(h);
    make(h, TARGET, 1500);
}
static void fill_counter(struct kv_handle *h) {
    fill_keys(h);
    make(h, COUNTER, 0);
}
static void fill_touched(struct kv_handle *h) {
    fill_same(h);
    OK(item_touch(h, TARGET, kv_clock_ms() + 2 * HOUR_MS));
}

/* Sets go on until one of them has to clean a page: that one is the operation. */
static void fill_until_cleaned(struct kv_handle *h, uint32_t ids) {
    fill_keys(h);
    struct image image = image_take(h);
    uint32_t n = 0;
    while (world_stat(h, KV_STAT_CLEANED) == 0)
        OK(item_set(h, FILLER + n++ % ids, 1, FILLER_LEN));
    image_restore(h, &image);
    image_free(&image);
    for (uint32_t i = 0; i + 1 < n; i++)
        OK(item_set(h, FILLER + i % ids, 1, FILLER_LEN));
    CHECK_EQ(world_stat(h, KV_STAT_CLEANED), 0);
    make(h, FILLER + (n - 1) % ids, FILLER_LEN);
}
static void fill_full(struct kv_handle *h) { fill_until_cleaned(h, 1000); }
static void fill_garbage(struct kv_handle *h) { fill_until_cleaned(h, 400); }

/* New keys, a third of them expired, until one of them makes an index segment split. */
static void fill_index(struct kv_handle *h) {
    fill_keys(h);
    for (uint32_t i = 0; i < 2000; i++)
        OK(item_put(h, FILLER + i, 1, 0, i % 3 == 0 ? kv_clock_ms() + 1 : 0, KV_PUT_SET));
    kv_clock_offset_ms += 1000;
    uint64_t before = world_stat(h, KV_STAT_SPLITS);
    struct image image = image_take(h);
    uint32_t id = FILLER + 50000;
    for (;; id++) {
        OK(item_set(h, id, 1, 8));
        if (world_stat(h, KV_STAT_SPLITS) != before)
            break;
    }
    image_restore(h, &image);
    image_free(&image);
    for (uint32_t i = FILLER + 50000; i < id; i++)
        OK(item_set(h, i, 1, 8));
    CHECK_EQ(world_stat(h, KV_STAT_SPLITS), before);
    make(h, id, 8);
}

const struct scene scenes[] = {
    {"set-new", fill_new, act_put, false, false},
    {"overwrite", fill_same, act_put, false, false},
    {"overwrite-longer", fill_longer, act_put, false, false},
    {"delete", fill_same, act_delete, false, false},
    {"incr", fill_counter, act_incr, false, false},
    {"incr-new", fill_new, act_incr, false, false},
    {"touch", fill_touched, act_touch, false, false},
    {"touch-first", fill_same, act_touch, false, false},
    {"set-evicting", fill_full, act_put, true, false},
    {"set-cleaning", fill_garbage, act_put, false, false},
    {"set-splitting", fill_index, act_put, false, true},
};
const size_t scenes_count = sizeof scenes / sizeof scenes[0];

/* ---- stages ------------------------------------------------------------------------------- */

static struct sight look(struct kv_handle *h) {
    struct sight s = {.status = KV_OK};
    struct kv_meta meta;
    struct kv_op op = kv_op_make(h);
    s.status = store_peek(&op, &made.key, &meta);
    CHECK(s.status == KV_OK || s.status == KV_MISS);
    if (s.status == KV_MISS)
        return s;
    s.type = meta.type;
    s.counter = meta.counter;
    s.deadline_ms = meta.deadline_ms;
    s.len = meta.value_len;
    OK(item_get(h, made.id, &s.stamp, NULL)); /* verifies every byte */
    if (s.type != KV_TYPE_BYTES)
        s.stamp = 0;
    return s;
}

static bool same_sight(const struct sight *a, const struct sight *b) {
    return a->status == b->status && a->type == b->type && a->stamp == b->stamp &&
           a->len == b->len && a->counter == b->counter && a->deadline_ms == b->deadline_ms;
}

static uint32_t find_neighbour(struct kv_handle *h) {
    unsigned char name[32];
    for (uint32_t id = NEIGHBOUR;; id++) {
        struct kv_key key = item_key_of(h, id, name);
        if (stripe_of(h, key.home) == stripe_of(h, made.key.home))
            return id;
    }
}

/* A copy in shared memory: fork need not copy its page tables. */
static struct image image_share(struct kv_handle *h) {
    struct image image = image_of(h);
    image.bytes = mmap(NULL, image.length + image.ghost, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(image.bytes != MAP_FAILED);
    image_fill(h, &image);
    return image;
}

struct stage stage_make(const struct scene *scene) {
    struct stage st = {.scene = scene, .clock_before = kv_clock_offset_ms};
    torture_where("--scene %s  # making it", scene->name);
    st.h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    scene->fill(st.h);
    st.neighbour = find_neighbour(st.h);
    neighbour_id = st.neighbour;
    st.image = image_share(st.h);
    st.before = look(st.h);
    scene->act(st.h);
    st.after = look(st.h);
    store_is_full = world_stat(st.h, KV_STAT_CLEANED) > 0;
    CHECK(!same_sight(&st.before, &st.after));
    (void)stage_judge(&st, true);
    stage_restore(&st);
    return st;
}

void stage_end(struct stage *st) {
    kv_clock_offset_ms = st->clock_before;
    (void)munmap(st->image.bytes, st->image.length + st->image.ghost);
    store_detach(st->h);
}

void stage_restore(struct stage *st) { image_put_back(st->h, &st->image); }

/* ---- judging ------------------------------------------------------------------------------ */

static void other_intact(struct stage *st, uint32_t id, uint32_t want) {
    uint32_t stamp = 0;
    uint64_t len = 0;
    kv_status s = item_get(st->h, id, &stamp, &len);
    if (s == KV_MISS && st->scene->may_evict)
        return;
    if (s != KV_OK || stamp != want || len != 200)
        kv_test_fail(__FILE__, __LINE__, "key %u: %s, stamp %u, %" PRIu64 " B", id,
                     kv_test_status(s), stamp, len);
}

static void others_intact(struct stage *st) {
    for (uint32_t i = 0; i < KEYS; i++)
        if (i != made.id)
            other_intact(st, i, 1);
    other_intact(st, st->neighbour, SURVIVED);
}

static void same_as_first(struct stage *st, const struct sight *first) {
    struct sight now = look(st->h);
    if (!same_sight(&now, first) && !(now.status == KV_MISS && st->scene->may_evict))
        kv_test_fail(__FILE__, __LINE__,
                     "the key was seen as {%s, stamp %u, %" PRIu64 " B, %" PRIu64
                     "}, and later as {%s, stamp %u, %" PRIu64 " B, %" PRIu64 "}",
                     kv_test_status(first->status), first->stamp, first->len, first->counter,
                     kv_test_status(now.status), now.stamp, now.len, now.counter);
}

static void rows_are_folded(struct kv_handle *h) {
    for (uint32_t r = 0; r < h->g.rows; r++) {
        uint32_t number = kv_load_acq(&kv_row_at(h, r)->number);
        if (number != 0 && number != kv_number(h))
            kv_test_fail(__FILE__, __LINE__, "row %u still bears number %u", r, number);
    }
}

uint64_t stage_judge(struct stage *st, bool finished) {
    struct sight first = look(st->h); /* reading repairs nothing and waits for nobody */
    if (!same_sight(&first, &st->after) && (finished || !same_sight(&first, &st->before)))
        kv_test_fail(__FILE__, __LINE__, "the key is {%s, stamp %u, %" PRIu64 " B, %" PRIu64 "}",
                     kv_test_status(first.status), first.stamp, first.len, first.counter);
    struct cost begin = cost_now();
    OK(item_set(st->h, st->neighbour, SURVIVED, 200));
    struct cost end = cost_now();
    uint64_t waited = cost_check(&begin, &end);
    same_as_first(st, &first);
    (void)world_check(st->h); /* folds the dead */
    rows_are_folded(st->h);
    others_intact(st);
    same_as_first(st, &first);
    if (st->judged++ % ACCOUNT_AT == 0) {
        (void)world_account(st->h);
        others_intact(st);
        same_as_first(st, &first);
    }
    return waited;
}

/* ---- who meets the dead ------------------------------------------------------------------- */

static void meet_writer(struct kv_handle *h) { OK(item_set(h, neighbour_id, 1, 200)); }
static void meet_attacher(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    OK(store_enter(&op));
    store_leave(&op);
}
/* In a full store whoever writes cleans; else somebody has to ask for it. */
static void meet_cleaner(struct kv_handle *h) {
    uint32_t freed;
    if (store_is_full) {
        OK(item_set(h, FILLER + 3, 1, FILLER_LEN));
        return;
    }
    struct kv_op op = kv_op_make(h);
    OK(evict_compact(&op, &freed));
    store_leave(&op);
}
static void meet_folder(struct kv_handle *h) {
    uint32_t folded;
    struct kv_op op = kv_op_make(h);
    OK(fold_all(&op, &folded));
    store_leave(&op);
}

const struct meeting meetings[] = {
    {"writer", meet_writer, false},
    {"attacher", meet_attacher, true},
    {"folder", meet_folder, false},
    {"cleaner", meet_cleaner, false},
};
const uint32_t meetings_count = sizeof meetings / sizeof meetings[0];
