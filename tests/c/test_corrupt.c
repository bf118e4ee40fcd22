/* test_corrupt.c: every kind of damage, planted where it hurts, one at a time.
 *
 * A small world is filled, its bytes are remembered, one word is damaged, an operation that must
 * meet it is asked: KV_CORRUPT, or the answer that is right in spite of it; check tells the damage
 * in words; then the sound bytes return and everything is as before. Random damage is another
 * harness's; here each rule that guards a step has its own case. */
#include "acts.h"

static struct kv_handle *h;
static struct image sound;
static uint32_t stripe, entry; /* of the victim */
static char told[1 << 16];

/* There are free index segments. */
static void spare_index(void) {
    struct kv_op op = kv_op_make(h);
    OK(evict_make_index(&op));
    store_leave(&op);
}

static kv_status split_now(uint32_t s, uint64_t hash) {
    struct kv_op op = kv_op_make(h);
    OK(table_lock(&op, s));
    kv_status r = table_split_locked(h, s, hash);
    table_unlock(h, s);
    return r;
}

static void begin(void) {
    h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    for (uint32_t i = 0; i < ITEMS; i++)
        OK(item_set(h, i, 1, 100));
    spare_index();
    unsigned char room[32];
    struct kv_key key = item_key_of(h, VICTIM, room);
    stripe = stripe_of(h, key.home);
    entry = kv_hash_dir(key.hash, h->g.dir_bits);
    sound = image_take(h);
}

static void heal(void) { image_restore(h, &sound); }

static void end(void) {
    heal();
    for (uint32_t i = 0; i < ITEMS; i++)
        OK(item_get(h, i, NULL, NULL));
    (void)world_account(h);
    image_free(&sound);
    store_detach(h);
}

static struct kv_slot slot_of(uint32_t id) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_slot slot;
    OK(table_find(h, stripe_of(h, key.home), &key, &slot));
    return slot;
}

static uint32_t *victim_entry(void) { return &directory_at(h, stripe)[entry]; }

static void hear(void *arg, const char *text) {
    (void)arg;
    size_t n = strlen(told);
    (void)snprintf(told + n, sizeof told - n, "%s\n", text);
}

static uint32_t problems_of(struct kv_handle *as) {
    struct kv_report report = {.problem = hear};
    struct kv_op op = kv_op_make(as);
    told[0] = 0;
    OK(store_check(&op, &report));
    store_leave(&op);
    return report.problems;
}

#define TELLS(text)                                                                                \
    do {                                                                                           \
        CHECK(problems_of(h) > 0);                                                                 \
        if (strstr(told, text) == NULL)                                                            \
            kv_test_fail(__FILE__, __LINE__, "check does not tell '%s' but\n%s", text, told);      \
        struct kv_report silent = {.problem = NULL};                                               \
        struct kv_op op_ = kv_op_make(h);                                                          \
        OK(store_check(&op_, &silent));                                                            \
        CHECK(silent.problems > 0);                                                                \
    } while (0)

static void all_say(kv_status want) {
    for (size_t i = 0; i < ACTS; i++) {
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%s", acts[i].name);
        CHECK_STATUS(acts[i].run(h), want);
    }
    kv_test_where[0] = 0;
}

/* ---- the index ---------------------------------------------------------------------------- */

/* An index segment that lies outside of what there is, a depth beyond the directory's. */
static void test_directory(void) {
    begin();
    const uint32_t outside[] = {0, KV_DIR_SEGMENT, (uint32_t)(h->backed / KV_INDEX_BYTES)};
    for (unsigned i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        for (uint32_t k = 0; k < 1u << h->g.dir_bits; k++)
            directory_at(h, stripe)[k] = kv_dir_make(outside[i], 0);
        all_say(KV_CORRUPT);
        TELLS("which is not its own");
        struct kv_op op = kv_op_make(h);
        OK(table_sweep(&op, 1, 2)); /* goes on with the other stripes */
        heal();
    }
    uint32_t deep = kv_dir_make(kv_dir_segment(*victim_entry()), h->g.dir_bits + 1);
    for (uint32_t k = 0; k < 1u << h->g.dir_bits; k++)
        directory_at(h, stripe)[k] = deep;
    OK(do_get(h));
    CHECK_STATUS(do_clear(h), KV_CORRUPT);
    CHECK_STATUS(do_scan(h), KV_CORRUPT);
    TELLS("has depth");
    CHECK_STATUS(split_now(stripe, (uint64_t)entry << (56 - h->g.dir_bits)), KV_CORRUPT);
    struct kv_op op = kv_op_make(h);
    OK(table_sweep(&op, 1, 2));
    OK(table_lock(&op, stripe));
    CHECK_STATUS(table_recover_locked(h, stripe), KV_CORRUPT);
    table_unlock(h, stripe);
    heal();
    OK(do_clear(h)); /* no items to tell of: only the directory */
    uint32_t segment = kv_dir_segment(*victim_entry()), bits = h->g.dir_bits;
    directory_at(h, stripe)[1] = kv_dir_make(segment, bits);
    TELLS("differ within a block");
    directory_at(h, stripe)[0] = kv_dir_make(segment, bits);
    directory_at(h, stripe)[1] = kv_dir_make(segment, 0);
    TELLS("has depth 0");
    heal();
    end();
}

static kv_status fold_one(uint32_t number) {
    struct kv_op op = kv_op_make(h);
    return fold_dead(&op, number);
}

static kv_status fold_any(uint32_t number) {
    (void)number;
    struct kv_op op = kv_op_make(h);
    uint32_t dead;
    return fold_all(&op, &dead);
}

static kv_status take_over(uint32_t number) {
    (void)number;
    return do_set(h);
}

/* A dead owner's lock over a damaged directory: who takes it over says so and lets go. */
static void test_recovery_meets_damage(void) {
    kv_status (*const ways[])(uint32_t) = {take_over, fold_one, fold_any};
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        begin();
        struct kv_handle *twin = world_twin(h);
        struct kv_op op = kv_op_make(twin);
        OK(table_lock(&op, stripe));
        uint32_t number = kv_number(twin), good = *victim_entry();
        world_abandon(twin);
        for (uint32_t k = 0; k < 1u << h->g.dir_bits; k++)
            directory_at(h, stripe)[k] = kv_dir_make(KV_DIR_SEGMENT, 0);
        CHECK_STATUS(ways[i](number), KV_CORRUPT);
        CHECK_EQ(stripe_at(h, stripe)->lock, 0);
        for (uint32_t k = 0; k < 1u << h->g.dir_bits; k++)
            directory_at(h, stripe)[k] = good;
        OK(fold_any(0));
        end();
    }
}

/* A ref that leads nowhere: before the arena, beyond the memory, to bytes that are no item. */
static void test_refs(void) {
    begin();
    struct kv_slot slot = slot_of(VICTIM);
    kv_ref good = slot.bucket->ref[slot.index];
    const kv_ref nowhere[] = {1, UINT32_MAX, (kv_ref)(h->backed / KV_GRANULE) - 1};
    for (unsigned i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++) {
        for (size_t k = 0; k < ACTS; k++) {
            (void)snprintf(kv_test_where, sizeof kv_test_where, "%s, ref %u", acts[k].name, i);
            slot.bucket->ref[slot.index] = nowhere[i];
            kv_status s = acts[k].run(h);
            CHECK(s == KV_CORRUPT);
            heal();
        }
        slot.bucket->ref[slot.index] = nowhere[i];
        TELLS("does not lead to an item");
        unsigned char room[32];
        CHECK_STATUS(split_now(stripe, item_key_of(h, VICTIM, room).hash), KV_CORRUPT);
        heal();
    }
    CHECK_EQ(slot.bucket->ref[slot.index], good);
    end();
}

/* Headers that no writer writes. */
static void test_headers(void) {
    begin();
    struct kv_slot slot = slot_of(VICTIM);
    struct kv_item *it = (struct kv_item *)(void *)arena_at(h, slot.ref), was = *it;
    const struct kv_item bad[] = {
        {was.value_len, 0, was.type, was.flags, was.version},
        {was.value_len, was.key_len, 0, was.flags, was.version},
        {was.value_len, was.key_len, KV_TYPE_LAST + 1, was.flags, was.version},
        {was.value_len, was.key_len, was.type, (uint8_t)~KV_ITEM_FLAGS, was.version},
        {UINT32_MAX, was.key_len, was.type, was.flags, was.version},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        *it = bad[i];
        CHECK_STATUS(do_get(h), KV_CORRUPT);
        TELLS("cannot be parsed");
        uint32_t damage = kv_header_of(h)->damage, freed;
        struct kv_op op = kv_op_make(h);
        OK(evict_compact(&op, &freed)); /* the page is cut out of the index */
        CHECK_EQ(kv_header_of(h)->damage, damage + 1);
        CHECK_STATUS(do_get(h), KV_MISS);
        (void)world_check(h);
        heal();
    }
    it->flags = (uint8_t)(it->flags | KV_ITEM_NAMESPACE); /* not of this version: not ours */
    CHECK_STATUS(do_get(h), KV_MISS);
    heal();
    it->type = KV_TYPE_INT; /* a counter without its word */
    CHECK_STATUS(do_incr(h), KV_CORRUPT);
    heal();
    end();
}

/* Bytes of a key changed: its item is found by the index, but not by its own hash. */
static void test_keys(void) {
    begin();
    struct kv_slot slot = slot_of(VICTIM);
    struct kv_item head = slot.head;
    unsigned char *key = arena_at(h, slot.ref) + kv_item_words(head.flags);
    unsigned char was = key[0];
    while (key[0] == was || stripe_of(h, kv_hash(key, head.key_len, h->seed)) == stripe)
        key[0]++;
    was = key[0];
    CHECK_STATUS(do_get(h), KV_MISS);
    CHECK_STATUS(do_clear(h), KV_CORRUPT);
    heal();
    key[0] = was;
    TELLS("belongs to another stripe");
    struct kv_op op = kv_op_make(h);
    unsigned char room[32];
    uint64_t hash = item_key_of(h, VICTIM, room).hash;
    OK(table_lock(&op, stripe));
    struct kv_slot home = {.bucket = slot.bucket};
    CHECK_EQ(slot.steps, 0);
    for (home.index = 0; home.index < KV_SLOTS; home.index++)
        slot_set_counter(&home, home.index == slot.index ? 0 : 3);
    CHECK_STATUS(evict_from_bucket_locked(&op, stripe, hash), KV_CORRUPT);
    slot.bucket->ref[slot.index] = UINT32_MAX;
    CHECK_STATUS(evict_from_bucket_locked(&op, stripe, hash), KV_CORRUPT);
    *victim_entry() = kv_dir_make(KV_DIR_SEGMENT, 0);
    CHECK_STATUS(evict_from_bucket_locked(&op, stripe, hash), KV_CORRUPT);
    struct kv_slot none;
    CHECK_STATUS(table_room_locked(h, stripe, hash, false, &none), KV_CORRUPT);
    CHECK_STATUS(table_find_ref(h, stripe, hash, slot.ref, &none), KV_CORRUPT);
    heal();
    table_unlock(h, stripe);
    end();
}

/* ---- keys with chosen hashes -------------------------------------------------------------- */

/* `n` items whose hashes are equal, set by their marks. */
static uint64_t same_hash_fill(uint64_t n, uint32_t s, uint32_t dir, uint64_t deadline_ms) {
    uint64_t hash = (uint64_t)s << h->g.stripe_shift |
                    (uint64_t)dir << (56 - h->g.dir_bits) | 5u << 8 | 77u;
    for (uint64_t i = 0; i < n; i++) {
        unsigned char room[16];
        struct kv_key key = key_of_hash(h, hash, i, room);
        struct kv_value value = {.type = KV_TYPE_BYTES, .data = "x", .len = 1};
        struct kv_op op = kv_op_make(h);
        OK(store_put(&op, &key, &value, deadline_ms, KV_PUT_SET, NULL));
        store_leave(&op);
    }
    return hash;
}

static struct kv_slot marked(uint64_t hash, uint64_t mark) {
    unsigned char room[16];
    struct kv_key key = key_of_hash(h, hash, mark, room);
    struct kv_slot slot;
    OK(table_find(h, stripe_of(h, hash), &key, &slot));
    return slot;
}

/* Overflow counts too low; two items of one key; an item in the wrong half of a split stripe. */
static void test_paths(void) {
    h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    spare_index();
    uint64_t hash = same_hash_fill(20, 3, 0, 0);
    sound = image_take(h);
    struct kv_slot first = marked(hash, 0), last = marked(hash, 19);
    CHECK(last.steps > 0);
    CHECK(first.bucket->overflow > 1);
    first.bucket->overflow--; /* found yet, but the count is wrong */
    TELLS("items passed");
    first.bucket->overflow = 0;
    TELLS("not found by its own hash");
    heal();
    memcpy(arena_at(h, last.ref) + kv_item_words(last.head.flags),
           arena_at(h, first.ref) + kv_item_words(first.head.flags), 16);
    TELLS("comes first");
    heal();
    first.bucket->overflow = UINT8_MAX; /* sticks: it may have been more */
    struct kv_op op = kv_op_make(h);
    OK(table_lock(&op, 3));
    table_remove_locked(h, 3, hash, &last, kv_item_bytes(&last.head));
    table_unlock(h, 3);
    CHECK_EQ(first.bucket->overflow, UINT8_MAX);
    (void)world_check(h);
    heal();
    for (uint32_t i = 0; i < KV_SLOTS; i++)
        slot_set_counter(&(struct kv_slot){.bucket = first.bucket, .index = i}, i == 5 ? 0 : 2);
    OK(table_lock(&op, 3));
    OK(evict_from_bucket_locked(&op, 3, hash)); /* the one that is used least */
    table_unlock(h, 3);
    CHECK_EQ(first.bucket->ref[5], 0);
    heal();
    last.bucket->tag[last.index] ^= 1; /* found by the scan of buckets, not by its hash */
    CHECK_STATUS(do_clear(h), KV_CORRUPT);
    heal();
    OK(split_now(3, hash));
    (void)world_check(h);
    uint64_t other = hash | 1ull << 55; /* the other half of the directory */
    unsigned char room[16];
    struct kv_key elsewhere = key_of_hash(h, other, 99, room);
    first = marked(hash, 0);
    memcpy(arena_at(h, first.ref) + kv_item_words(first.head.flags), elsewhere.data, 16);
    TELLS("belongs to another stripe or index segment");
    image_free(&sound);
    store_detach(h);
}

/* A split meets expired items whose keys were damaged, and more than a path can hold. */
static void test_split(void) {
    h = world_open(KV_SIZE_MIN, KV_OPT_EVICT);
    spare_index();
    uint64_t hash = same_hash_fill(5, 3, 0, kv_clock_ms() + 1000);
    struct kv_slot slot = marked(hash, 2);
    arena_at(h, slot.ref)[kv_item_words(slot.head.flags)] ^= 1;
    kv_clock_offset_ms += 10000;
    CHECK_STATUS(split_now(3, hash), KV_CORRUPT);
    kv_clock_offset_ms -= 10000;
    store_detach(h);
}

/* ---- pages -------------------------------------------------------------------------------- */

static void test_pages(void) {
    begin();
    struct kv_slot slot = slot_of(VICTIM);
    uint32_t head = page_head(h, ref_base(h, slot.ref));
    struct kv_page *p = page_at(h, head);
    uint64_t w = p->word;
    uint32_t run = page_run(w);
    p->word = kv_page_make(KV_FREE, 0, 1, 0);
    TELLS("in state 0");
    heal();
    p->word = kv_page_make(KV_INTERIOR, 0, UINT16_MAX, 0);
    TELLS("has no head");
    CHECK(strstr(told, "indexed, but its page") != NULL);
    heal();
    p->tail = 1;
    TELLS("beyond the tail");
    heal();
    p->word = kv_page_make(KV_OPEN, 0, run, 200);
    TELLS("open for appender 200");
    heal();
    p->word = kv_page_make(KV_TAKEN, 0, run, 1234567);
    TELLS("which is gone");
    heal();
    p->word = kv_page_make(KV_CLOSED, 0, KV_RUN_MAX, 0);
    TELLS("leaves the arena");
    heal();
    p->word = kv_page_make(KV_CLOSED, 0, run, 0);
    p->tail = UINT32_MAX;
    TELLS("cannot be parsed");
    heal();
    p->word = kv_page_make(KV_CLOSED, 0, run, 0);
    p->dead = UINT32_MAX;
    TELLS("granules dead of");
    heal();
    for (uint32_t i = 0; i < h->g.bases_max; i++) /* an interior whose head is one, too */
        if (kv_page_state(page_word(h, i)) == KV_FREE) {
            page_at(h, i)->word = kv_page_make(KV_INTERIOR, 0, 0, 0);
            CHECK_EQ(page_head(h, i), KV_NO_BASE);
            TELLS("has no head");
            break;
        }
    heal();
    kv_header_of(h)->index_high = UINT32_MAX; /* a hint: there are not so many pages */
    CHECK_EQ(problems_of(h), 0);
    struct kv_op op = kv_op_make(h);
    OK(table_lock(&op, stripe));
    OK(table_recover_locked(h, stripe));
    table_unlock(h, stripe);
    uint32_t got = arena_index_take(h, stripe);
    CHECK(got != 0);
    arena_index_give(h, got);
    OK(evict_make_index(&op));
    CHECK(arena_index_owner(h, UINT32_MAX) == NULL);
    arena_index_give(h, UINT32_MAX); /* of nobody: nothing happens */
    CHECK_EQ(page_head(h, UINT32_MAX), KV_NO_BASE);
    heal();
    end();
}

/* Items are garbage, but the page that should be told is not there. */
static void test_garbage_of_no_page(void) {
    begin();
    struct kv_slot slot = slot_of(VICTIM);
    uint32_t head = page_head(h, ref_base(h, slot.ref));
    page_at(h, head)->word = kv_page_make(KV_INTERIOR, 0, UINT16_MAX, 0);
    arena_dead(h, slot.ref, 128);
    struct kv_meta meta = {.ref = slot.ref};
    CHECK_EQ(store_age_ms(h, &meta), 0);
    heal();
    end();
}

/* An appender's word that leads astray: the page is not used, a new one is opened. */
static void test_appenders(void) {
    begin();
    struct kv_appender *a = kv_header_of(h)->appenders;
    for (uint32_t k = 0; k < h->g.appenders; k++)
        a[k].current = UINT32_MAX;
    OK(do_set(h));
    heal();
    for (uint32_t k = 0; k < h->g.appenders; k++)
        if (a[k].current != 0)
            page_at(h, a[k].current - 1)->word = kv_page_make(KV_OPEN, 0, KV_RUN_MAX, k);
    OK(do_set(h));
    heal();
    for (uint32_t k = 0; k < h->g.appenders; k++)
        if (a[k].current != 0)
            page_at(h, a[k].current - 1)->word = kv_page_make(KV_OPEN, 0, 2, k);
    OK(do_set(h));
    heal();
    uint32_t low = 0;
    while (kv_page_state(page_word(h, low)) == KV_INDEX)
        low++;
    page_at(h, low)->word = kv_page_make(KV_OPEN, 0, 1, 200); /* of no appender: left alone */
    struct kv_op op = kv_op_make(h);
    OK(evict_make_index(&op));
    CHECK_EQ(kv_page_state(page_word(h, low)), KV_OPEN);
    heal();
    end();
    h = world_open(8 << 20, KV_OPT_EVICT);
    CHECK(h->g.log_run_max > 1);
    kv_header_of(h)->appenders[0].current = h->g.bases_max; /* a run that leaves the arena */
    page_at(h, h->g.bases_max - 1)->word = kv_page_make(KV_OPEN, 0, 2, 0);
    OK(item_set(h, 1, 1, 100));
    OK(item_set(h, 2, 1, 100));
    arena_appender_recover(h, 0);
    store_detach(h);
}

/* What an item may not leave for is never asked: a flag says so. */
static void test_kept(void) {
    begin();
    struct kv_slot slot = slot_of(VICTIM);
    ((struct kv_item *)(void *)arena_at(h, slot.ref))->flags |= KV_ITEM_KEEP;
    uint64_t before = world_stat(h, KV_STAT_EVICTED);
    for (uint32_t i = 0; world_stat(h, KV_STAT_EVICTED) < before + 5000; i++)
        OK(item_set(h, 1000 + i, 1, 1000));
    OK(do_get(h));
    CHECK_STATUS(item_get(h, VICTIM + 1, NULL, NULL), KV_MISS);
    (void)world_account(h);
    heal();
    end();
}

/* What another attachment has backed meanwhile is there for us as well. */
static void test_stale_watermark(void) {
    begin();
    h->backed = h->g.off_arena;
    OK(do_get(h));
    CHECK(h->backed > h->g.off_arena);
    end();
}

/* Long after its opening everything that could expire in a page counts as garbage. */
static void test_expired_long_ago(void) {
    begin();
    for (uint32_t i = 0; i < 8; i++) /* one for each span of the page's histogram */
        OK(item_put(h, 2000 + i, 1, 100, kv_clock_ms() + (500u << 2 * i), KV_PUT_SET));
    struct kv_slot slot = slot_of(2007);
    uint32_t head = page_head(h, ref_base(h, slot.ref));
    uint32_t soon = page_garbage(h, head, kv_clock_ms());
    uint32_t late = page_garbage(h, head, kv_clock_ms() + (1u << 30));
    CHECK(late > soon);
    heal();
    end();
}

/* Runs whose words do not bear out their length: only what is ours is given back. */
static void test_runs(void) {
    h = world_open(8 << 20, KV_OPT_EVICT);
    struct kv_op op = kv_op_make(h);
    uint32_t head, number = kv_number(h);
    OK(arena_take(&op, 4, 0, &head));
    page_at(h, head)->word = kv_page_make(KV_TAKEN, 0, KV_RUN_MAX, number);
    CHECK_EQ(arena_break(h, head, number), 4);
    arena_form(h, head, 4);
    page_at(h, head + 2)->word = kv_page_make(KV_INTERIOR, 0, 1, 0); /* of a wrong distance */
    CHECK_EQ(arena_break(h, head, number), 2);
    page_at(h, head + 2)->word = kv_page_make(KV_TAKEN, 0, 1, number + 1); /* another's */
    page_at(h, head)->word = kv_page_make(KV_TAKEN, 0, 4, number);
    page_at(h, head + 1)->word = kv_page_make(KV_INTERIOR, 0, 1, 0);
    CHECK_EQ(arena_break(h, head, number), 2);
    page_at(h, h->g.bases_max - 1)->word = kv_page_make(KV_TAKEN, 0, 4, number);
    CHECK_EQ(arena_break(h, h->g.bases_max - 1, number), 1);
    page_at(h, h->g.bases_max - 1)->word = kv_page_make(KV_FREE, 0, 1, 0);
    for (uint32_t i = head; i < head + 4; i++)
        page_at(h, i)->word = kv_page_make(KV_FREE, 0, 1, 0);
    (void)world_account(h);
    store_detach(h);
}

/* What a cleaner meets: lengths beyond the page, refs that are gone, pages that moved. */
static void test_cleaning(void) {
    begin();
    struct kv_slot slot = slot_of(VICTIM);
    uint32_t head = page_head(h, ref_base(h, slot.ref)), run = page_run(page_word(h, head)), freed;
    struct kv_op op = kv_op_make(h);
    OK(victim_close_open(&op));
    page_at(h, head)->tail -= 1; /* the last item goes beyond it */
    OK(evict_compact(&op, &freed));
    CHECK(kv_header_of(h)->damage > 0);
    heal();
    OK(victim_close_open(&op));
    page_at(h, head)->tail = run * base_granules(h) + 1;
    OK(evict_compact(&op, &freed));
    heal();
    OK(victim_close_open(&op));
    page_at(h, head)->word = kv_page_make(KV_CLOSED, 0, KV_RUN_MAX, 0); /* is left alone */
    OK(evict_compact(&op, &freed));
    heal();
    page_at(h, h->g.bases - 1)->word = kv_page_make(KV_LIMBO, 0, KV_RUN_MAX, 0);
    CHECK(!clean_limbo(h, h->g.bases - 1, page_word(h, h->g.bases - 1)));
    heal();
    struct kv_handle *twin = world_twin(h);
    struct kv_op theirs = kv_op_make(twin);
    OK(table_lock(&theirs, stripe));
    OK(victim_close_open(&op));
    op.deadline_ns = kv_clock_ns() + 1000000; /* sooner than the patience with one stripe */
    OK(evict_compact(&op, &freed));
    table_unlock(twin, stripe);
    OK(lock_take(&theirs, &kv_header_of(h)->appenders[0].lock));
    op = kv_op_make(h);
    h->lock_timeout_ns = 1000000;
    CHECK_STATUS(evict_compact(&op, &freed), KV_BUSY);
    h->lock_timeout_ns = 5000000000u;
    lock_give(&kv_header_of(h)->appenders[0].lock);
    store_detach(twin);
    heal();
    op = kv_op_make(h);
    OK(victim_close_open(&op));
    *victim_entry() = kv_dir_make(KV_DIR_SEGMENT, 0); /* nobody can be moved there */
    CHECK_STATUS(evict_compact(&op, &freed), KV_CORRUPT);
    heal();
    end();
}

static const struct kv_test tests[] = {
    {"corrupt_directory", test_directory},
    {"corrupt_recovery", test_recovery_meets_damage},
    {"corrupt_refs", test_refs},
    {"corrupt_headers", test_headers},
    {"corrupt_keys", test_keys},
    {"corrupt_paths", test_paths},
    {"corrupt_split", test_split},
    {"corrupt_pages", test_pages},
    {"corrupt_garbage_of_no_page", test_garbage_of_no_page},
    {"corrupt_appenders", test_appenders},
    {"corrupt_kept", test_kept},
    {"corrupt_stale_watermark", test_stale_watermark},
    {"corrupt_expired_long_ago", test_expired_long_ago},
    {"corrupt_runs", test_runs},
    {"corrupt_cleaning", test_cleaning},
};
KV_TEST_MAIN(tests)
