/* schedule_scenes.c: see schedule_scenes.h. Runs before any process does, in the harness's own
 * name. */
#include "schedule_scenes.h"

#include "torture.h"

#define FILLER     200000u
#define FILLER_LEN 1900u
#define KEY_IDS    1000u /* ids of key names are looked for from here */

const unsigned scene_kinds[SCENE_KINDS] = {
    POINT_COPY,
    POINT_FAULT,
    POINT_FAULT | POINT_COPY,
    POINT_FAULT | POINT_COPY | POINT_STORE,
    POINT_FAULT | POINT_COPY | POINT_STORE | POINT_LOAD,
};

/* ---- the keys ----------------------------------------------------------------------------- */

static void put_value(struct scene_now *sc, uint32_t key, uint64_t len) {
    static unsigned char bytes[VALUE_MAX];
    struct kv_value v = {.type = KV_TYPE_BYTES, .data = bytes, .len = len};
    struct kv_op op = kv_op_make(sc->h);
    item_bytes_of(key, 1, bytes, len);
    OK(store_put(&op, &sc->key[key], &v, 0, KV_PUT_SET, NULL));
    store_leave(&op);
    sc->at_first[key] = (struct content){true, 1, 0};
}

static void put_counter(struct scene_now *sc) {
    struct kv_value v = {.type = KV_TYPE_INT, .counter = 1000};
    struct kv_op op = kv_op_make(sc->h);
    OK(store_put(&op, &sc->key[KEY_COUNTER], &v, 0, KV_PUT_SET, NULL));
    store_leave(&op);
    sc->at_first[KEY_COUNTER] = (struct content){true, 1000, 0};
}

static void put_tail(struct scene_now *sc) {
    struct kv_value v = {.type = KV_TYPE_BYTES, .data = "x", .len = 1};
    struct kv_op op = kv_op_make(sc->h);
    OK(store_put(&op, &sc->key[KEY_TAIL], &v, 0, KV_PUT_SET, NULL));
    store_leave(&op);
    sc->at_first[KEY_TAIL] = (struct content){true, content_append(0, 'x'), 0};
}

/* All keys of one stripe, so that they meet. */
static void name_keys(struct scene_now *sc) {
    uint32_t stripe = UINT32_MAX, id = KEY_IDS;
    for (uint32_t k = 0; k < KEYS_ALL; id++) {
        struct kv_key key = item_key_of(sc->h, id, sc->name[k]);
        if (stripe != UINT32_MAX && stripe_of(sc->h, key.home) != stripe)
            continue;
        stripe = stripe_of(sc->h, key.home);
        sc->key[k++] = key;
    }
}

static void fill_keys(struct scene_now *sc) {
    name_keys(sc);
    put_value(sc, 0, sc->scene->least + 8);
    put_counter(sc);
}

/* ---- scenes ------------------------------------------------------------------------------- */

static void fill_plain(struct scene_now *sc) {
    fill_keys(sc);
    for (uint32_t i = 0; i < 24; i++)
        OK(item_set(sc->h, i, 1, 200));
}

/* Sets go on until the next one has to clean. */
static void fill_until_cleaned(struct scene_now *sc, uint32_t ids) {
    struct kv_handle *h = sc->h;
    struct image image = image_take(h);
    uint32_t n = 0;
    while (world_stat(h, KV_STAT_CLEANED) == 0)
        OK(item_set(h, FILLER + n++ % ids, 1, FILLER_LEN));
    image_restore(h, &image);
    image_free(&image);
    for (uint32_t i = 0; i + 1 < n; i++)
        OK(item_set(h, FILLER + i % ids, 1, FILLER_LEN));
}
static void fill_cleaning(struct scene_now *sc) {
    fill_keys(sc);
    fill_until_cleaned(sc, 500);
}
/* The same for key 0: whoever sets it next cleans. */
static void turn_until_cleaned(struct scene_now *sc) {
    struct image image = image_take(sc->h);
    uint64_t before = world_stat(sc->h, KV_STAT_CLEANED);
    uint32_t n = 0;
    for (; world_stat(sc->h, KV_STAT_CLEANED) == before; n++)
        put_value(sc, 0, sc->scene->least);
    image_restore(sc->h, &image);
    image_free(&image);
    for (uint32_t i = 0; i + 1 < n; i++)
        put_value(sc, 0, sc->scene->least);
}
/* Counter and tail lie in the last of a few pages that are mostly garbage, everything else is
 * alive: whoever writes cleans, whoever cleans moves them, and their old page is written again at
 * once. */
static void fill_moving(struct scene_now *sc) {
    fill_keys(sc);
    for (uint32_t i = 0; i < 40; i++) {
        put_value(sc, 0, FILLER_LEN);
        if (i % 5 == 0)
            OK(item_set(sc->h, i, 1, FILLER_LEN));
    }
    put_counter(sc);
    put_tail(sc);
    fill_until_cleaned(sc, 100000);
    turn_until_cleaned(sc);
}
/* Values so long that two fill a page: what was just replaced is soon written again. */
static void fill_turning(struct scene_now *sc) {
    fill_keys(sc);
    turn_until_cleaned(sc);
}
static void fill_evicting(struct scene_now *sc) {
    fill_keys(sc);
    fill_until_cleaned(sc, 1000);
}
/* Room for some large values, so that those that are replaced must be cleaned soon. */
static void fill_large(struct scene_now *sc) {
    fill_keys(sc);
    uint32_t left = 26u << sc->h->g.base_shift;
    for (uint32_t i = 0;; i++) {
        struct kv_stats stats;
        store_stats(sc->h, &stats);
        if (stats.free_bytes <= left)
            break;
        OK(item_set(sc->h, FILLER + i, 1, FILLER_LEN));
    }
}

/* Into one stripe, a third of it expired. */
static void put_numbered(struct kv_handle *h, uint32_t i) {
    struct chance c = chance_make(7000 + i);
    unsigned char name[16];
    struct kv_key key = key_of_hash(h, 3ULL << 61 | chance_next(&c) >> 3, i, name);
    struct kv_value v = {.type = KV_TYPE_NONE};
    struct kv_op op = kv_op_make(h);
    OK(store_put(&op, &key, &v, i % 3 == 0 ? kv_clock_ms() + 1 : 0, KV_PUT_SET, NULL));
    store_leave(&op);
}

/* The next new key makes the index segment split, in which all keys live. */
static void fill_splitting(struct scene_now *sc) {
    struct kv_handle *h = sc->h;
    uint64_t before = world_stat(h, KV_STAT_SPLITS);
    for (uint32_t k = 0; k < KEYS_ALL; k++) {
        struct chance c = chance_make(6000 + k);
        sc->key[k] = key_of_hash(h, 3ULL << 61 | chance_next(&c) >> 3, 99000 + k, sc->name[k]);
    }
    put_value(sc, 0, 8);
    put_counter(sc);
    struct image image = image_take(h);
    uint32_t n = 0;
    while (world_stat(h, KV_STAT_SPLITS) == before)
        put_numbered(h, n++);
    image_restore(h, &image);
    image_free(&image);
    for (uint32_t i = 0; i + 1 < n; i++)
        put_numbered(h, i);
    /* Key 1 takes the part of the one that split. */
    struct chance c = chance_make(7000 + n - 1);
    sc->key[1] = key_of_hash(h, 3ULL << 61 | chance_next(&c) >> 3, 99001, sc->name[1]);
}

/* Twelve others fill the home bucket of all four keys, whose hashes are the same. */
static void fill_colliding(struct scene_now *sc) {
    struct kv_handle *h = sc->h;
    const uint64_t hash = 0x123456789ABCDEF0ULL;
    for (uint32_t i = 0; i < 12; i++) {
        unsigned char name[16];
        struct kv_key key = key_of_hash(h, hash, 77000 + i, name);
        struct kv_value v = {.type = KV_TYPE_NONE};
        struct kv_op op = kv_op_make(h);
        OK(store_put(&op, &key, &v, 0, KV_PUT_SET, NULL));
        store_leave(&op);
    }
    for (uint32_t k = 0; k < KEYS_ALL; k++)
        sc->key[k] = key_of_hash(h, hash, 99000 + k, sc->name[k]);
    put_value(sc, 0, 8);
    put_counter(sc);
}

const struct schedule_scene scene_list[] = {
    {"plain", fill_plain, false, 8, 300},
    {"cleaning", fill_cleaning, false, 1000, 3000},
    {"moving", fill_moving, false, 1800, 2200},
    {"turning", fill_turning, false, 7300, 8100},
    {"evicting", fill_evicting, true, 1000, 3000},
    {"splitting", fill_splitting, false, 8, 100},
    {"colliding", fill_colliding, false, 8, 100},
    {"large", fill_large, false, 30000, 40000},
};
const uint32_t scene_count = sizeof scene_list / sizeof scene_list[0];

/* ---- to and fro --------------------------------------------------------------------------- */

struct scene_now *scene_make(uint32_t index) {
    static struct scene_now sc;
    sc = (struct scene_now){.scene = &scene_list[index], .index = index};
    sc.h = world_open(KV_SIZE_MIN, sc.scene->evicts ? KV_OPT_EVICT : 0);
    sc.scene->fill(&sc);
    sc.image = image_take(sc.h);
    return &sc;
}

void scene_restore(struct scene_now *sc) { image_put_back(sc->h, &sc->image); }

void scene_end(struct scene_now *sc) {
    image_free(&sc->image);
    store_detach(sc->h);
}
