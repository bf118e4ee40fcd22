/* test_arena.c: base pages, runs, appenders, extents and index pages by their words.
 *
 * Owns no items but those it appends itself and never indexes them unless it says so: what is
 * looked at is the page table. Small stores have one base page to a log page and treat everything
 * larger as an extent, large ones allow four; both are tried. Needs KV_FAULT=1. */
#include "kv_test.h"

#define MIB ((uint64_t)1 << 20)

static struct kv_handle *h;

static void begin(uint64_t size, uint32_t options) { h = world_open(size, options); }

static void end(void) {
    (void)world_check(h);
    store_detach(h);
}

static uint64_t word_of(uint32_t state, uint32_t run, uint32_t owner) {
    return kv_page_make(state, 0, run, owner);
}

static uint32_t count_state(uint32_t state) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < arena_bases(h); i++)
        n += kv_page_state(page_word(h, i)) == state;
    return n;
}

static kv_status take(uint32_t len, unsigned how, uint32_t *head) {
    struct kv_op op = kv_op_make(h);
    return arena_take(&op, len, how, head);
}

static void give(uint32_t head) { arena_give(h, head, kv_number(h)); }

/* ---- runs --------------------------------------------------------------------------------- */

static void run_is(uint32_t head, uint32_t len, uint32_t state, uint32_t owner) {
    CHECK(page_word(h, head) == word_of(state, len, owner));
    for (uint32_t i = 1; i < len; i++)
        CHECK(page_word(h, head + i) == word_of(KV_INTERIOR, i, 0));
    for (uint32_t i = 0; i < len; i++)
        CHECK_EQ(page_head(h, head + i), head);
}

static void all_single(uint32_t head, uint32_t len, uint32_t state, uint32_t owner) {
    for (uint32_t i = 0; i < len; i++)
        CHECK(page_word(h, head + i) == word_of(state, 1, owner));
}

static void test_runs(void) {
    begin(KV_SIZE_MIN, 0);
    for (uint32_t len = 1; len <= 40; len += 1 + len / 4) {
        uint32_t head, again, free_before = count_state(KV_FREE), me = kv_number(h);
        OK(take(len, 0, &head));
        run_is(head, len, KV_TAKEN, me);
        CHECK_EQ(count_state(KV_FREE), free_before - len);
        struct kv_page *p = page_at(h, head);
        CHECK(p->tail == 0 && p->dead == 0 && p->suspect == 0);
        CHECK(segment_watermark(h) >= base_offset(h, head + len));
        arena_break(h, head, me);
        all_single(head, len, KV_TAKEN, me);
        p->tail = p->dead = p->suspect = 7; /* of an earlier life */
        arena_form(h, head, len);
        run_is(head, len, KV_TAKEN, me);
        CHECK(p->tail == 0 && p->dead == 0 && p->suspect == 0);
        OK(take(1, 0, &again)); /* not out of the run */
        CHECK(again < head || again >= head + len);
        give(again);
        give(head);
        all_single(head, len, KV_FREE, 0);
        CHECK_EQ(count_state(KV_FREE), free_before);
    }
    CHECK_EQ(page_head(h, h->g.bases_max), KV_NO_BASE);
    end();
}

/* Single base pages until there is none: as many as are free, less those withheld. */
static uint32_t take_all_singles(unsigned how) {
    uint32_t head, n = 0;
    kv_status s;
    while ((s = take(1, how, &head)) == KV_OK)
        n++;
    CHECK_STATUS(s, KV_NOPAGE);
    return n;
}

static void give_all(void) {
    for (uint32_t i = 0; i < arena_bases(h); i++)
        if (page_word(h, i) == word_of(KV_TAKEN, 1, kv_number(h)))
            give(i);
}

static void test_exhaustion(void) {
    static const uint64_t sizes[] = {2 * MIB, 5 * MIB, 17 * MIB};
    for (unsigned k = 0; k < 3; k++) {
        uint32_t head;
        begin(sizes[k], 0);
        uint32_t room = count_state(KV_FREE), withheld = arena_withheld(h);
        CHECK(withheld == 2 * h->g.cleaners * h->g.std_run && withheld > 0);
        CHECK_EQ(room + count_state(KV_INDEX), arena_bases(h));
        for (unsigned round = 0; round < 2; round++) {
            CHECK(arena_fits(h, 1, 0));
            CHECK_EQ(take_all_singles(0), room - withheld);
            CHECK(!arena_fits(h, 1, 0));
            CHECK_EQ(take_all_singles(KV_TAKE_PRIVILEGED), withheld);
            CHECK_EQ(count_state(KV_FREE), 0);
            CHECK(segment_watermark(h) <= kv_header_of(h)->size);
            give_all();
            CHECK_EQ(count_state(KV_FREE), room);
        }
        uint32_t rest = arena_bases(h) - h->g.zone, most = room - withheld;
        OK(take(most < rest ? most : rest, 0,
                &head)); /* the same at once; no run crosses the zone */
        if (most > rest)
            OK(take(most - rest, 0, &head));
        CHECK_STATUS(take(1, 0, &head), KV_NOPAGE);
        end();
    }
}

/* Free memory that is not adjacent does not make a run. */
static void test_not_adjacent(void) {
    uint32_t head, n = 0;
    begin(KV_SIZE_MIN, 0);
    uint32_t me = kv_number(h), high = kv_header_of(h)->index_high;
    (void)take_all_singles(KV_TAKE_PRIVILEGED);
    for (uint32_t i = high; i < arena_bases(h); i += 2, n++)
        give(i);
    CHECK(n > 2 + arena_withheld(h));
    CHECK(arena_fits(h, 1, 0) && !arena_fits(h, 2, 0));
    CHECK_STATUS(take(2, 0, &head), KV_NOPAGE);
    CHECK_STATUS(take(2, KV_TAKE_PRIVILEGED, &head), KV_NOPAGE);
    CHECK_EQ(count_state(KV_FREE), n); /* and nothing was kept */
    give(high + 11);
    OK(take(3, 0, &head));
    CHECK_EQ(head, high + 10);
    run_is(head, 3, KV_TAKEN, me);
    struct kv_op op = kv_op_make(h);
    CHECK_STATUS(arena_take_base(&op, head), KV_NOPAGE);
    CHECK_STATUS(arena_take_base(&op, head + 1), KV_NOPAGE); /* an interior is not free either */
    OK(arena_take_base(&op, head + 4));
    CHECK(page_word(h, head + 4) == word_of(KV_TAKEN, 1, me));
    end();
}

/* Search begins where the last one ended, wraps, and comes to the index zone last. */
static void test_take_hint(void) {
    uint32_t head;
    begin(4 * MIB, 0);
    uint32_t *hint = &kv_header_of(h)->take_hint;
    uint32_t zone = h->g.zone, limit = arena_bases(h);
    OK(take(2, 0, &head));
    CHECK_EQ(head, zone);
    CHECK_EQ(*hint, zone + 2);
    OK(take(3, 0, &head));
    CHECK_EQ(head, zone + 2);
    give(zone);
    OK(take(1, 0, &head)); /* not yet back to what is free behind */
    CHECK_EQ(head, zone + 5);
    *hint = limit - 1;
    OK(take(2, 0, &head)); /* does not fit there: wraps */
    CHECK_EQ(head, zone);
    static const uint32_t useless[] = {0, UINT32_MAX};
    give(zone);
    for (unsigned i = 0; i < 2; i++) { /* in the zone; out of the arena */
        *hint = useless[i];
        OK(take(1, 0, &head));
        CHECK_EQ(head, zone);
        give(head);
    }
    *hint = zone + 3; /* inside a run */
    OK(take(1, 0, &head));
    CHECK_EQ(head, zone);
    *hint = limit;
    uint32_t low = limit; /* the zone only when nothing else is left */
    for (uint32_t n = 0; take(1, KV_TAKE_PRIVILEGED, &head) == KV_OK; n++) {
        CHECK(head >= zone || count_state(KV_FREE) < zone);
        low = head < low ? head : low;
    }
    CHECK_EQ(low, kv_header_of(h)->index_high);
    end();
}

/* Whatever step a taker or giver died at, the fold finds all its base pages. */
static void test_half_made_runs(void) {
    for (uint32_t stored = 0; stored <= 5; stored++)
        for (uint32_t formed = 0; formed < 2; formed++) {
            begin(KV_SIZE_MIN, 0);
            struct kv_handle *twin = world_twin(h);
            struct kv_op op = kv_op_make(twin);
            uint32_t head, n = kv_number(twin), room = count_state(KV_FREE);
            OK(arena_take(&op, 6, 0, &head));
            for (uint32_t i = 1; i <= stored; i++) /* the interiors that are separate pages yet */
                page_at(h, head + (formed ? i : 6 - i))->word = word_of(KV_TAKEN, 1, n);
            if (stored == 5 && formed)
                page_at(h, head)->word = word_of(KV_TAKEN, 1, n);
            world_abandon(twin);
            struct kv_op mine = kv_op_make(h);
            OK(fold_dead(&mine, n));
            CHECK_EQ(count_state(KV_FREE), room);
            all_single(head, 6, KV_FREE, 0);
            end();
        }
}

/* ---- items -------------------------------------------------------------------------------- */

static struct kv_item item_of(uint64_t bytes) { /* so many bytes in all */
    return (struct kv_item){
        .key_len = 4, .type = KV_TYPE_BYTES, .value_len = (uint32_t)(bytes - 16)};
}

static struct kv_place append(uint32_t k, uint64_t bytes) {
    struct kv_op op = kv_op_make(h);
    struct kv_item it = item_of(bytes);
    struct kv_place place;
    op.roomed = true; /* a shorter page will do */
    OK(arena_append(&op, k, 0, &it, 0, &place));
    CHECK_EQ(place.bytes, bytes);
    CHECK_EQ(kv_row_own(h)->reservation[place.slot],
             base_ref(h, page_head(h, ref_base(h, place.ref))));
    struct kv_item seen;
    CHECK(arena_item(h, place.ref, &seen) != NULL && seen.value_len == it.value_len);
    return place;
}

static uint32_t append_done(uint32_t k, uint64_t bytes) {
    struct kv_place place = append(k, bytes);
    place_done(h, &place, false);
    CHECK_EQ(kv_row_own(h)->reservation[place.slot], 0);
    return page_head(h, ref_base(h, place.ref));
}

static void head_is(uint32_t head, uint32_t state, uint32_t owner) {
    uint64_t w = page_word(h, head);
    CHECK_EQ(kv_page_state(w), state);
    CHECK_EQ(kv_page_owner(w), owner);
}

/* To the last granule; and one granule that nothing fits into. */
static void test_page_exactly_full(void) {
    for (uint32_t left = 0; left < 3; left++) {
        begin(8 * MIB, 0);
        kv_header_of(h)->tidy_hint = 0;
        uint32_t head = append_done(1, 32);
        uint32_t room = page_run(page_word(h, head)) * base_granules(h), tail = 2;
        for (; tail + 7 <= room - left; tail += 7) {
            kv_header_of(h)->tidy_hint = 0;
            CHECK_EQ(append_done(1, 112), head);
        }
        if (tail < room - left)
            CHECK_EQ(append_done(1, (room - left - tail) * 16), head);
        CHECK_EQ(page_at(h, head)->tail, room - left);
        head_is(head, KV_OPEN, 1);
        CHECK_EQ(kv_header_of(h)->appenders[1].current, head + 1);
        kv_header_of(h)->tidy_hint = 0;
        uint32_t next = append_done(1, 48);
        CHECK(next != head);
        head_is(next, KV_OPEN, 1);
        head_is(head, KV_CLOSED, 0);
        CHECK_EQ(page_at(h, head)->tail, room - left); /* never changed again */
        CHECK(page_at(h, next)->birth > page_at(h, head)->birth);
        CHECK_EQ(kv_header_of(h)->appenders[1].current, next + 1);
        end();
    }
}

/* The lock of one appender is held: its neighbour takes the item; the cleaners' has no neighbour.
 */
static void test_neighbour(void) {
    begin(KV_SIZE_MIN, 0);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin), mine = kv_op_make(h);
    struct kv_appender *a = kv_header_of(h)->appenders;
    h->lock_timeout_ns = 20000000;
    OK(lock_take(&op, &a[0].lock));
    head_is(append_done(0, 64), KV_OPEN, 1);
    OK(lock_take(&op, &a[2].lock));
    struct kv_item it = item_of(64);
    struct kv_place place;
    CHECK_STATUS(arena_append(&mine, 2, KV_TAKE_PRIVILEGED, &it, 0, &place), KV_BUSY);
    CHECK_EQ(mine.owner, kv_number(twin));
    CHECK_EQ(h->own->reservations, 0);
    lock_give(&a[0].lock);
    lock_give(&a[2].lock);
    head_is(append_done(2, 64), KV_OPEN, 2);
    store_detach(twin);
    end();
}

/* OPEN(k) without being current: taken by one who died before he could say so. */
static void test_open_not_current(void) {
    begin(KV_SIZE_MIN, 0);
    uint32_t lost, keep = append_done(0, 64), second = append_done(1, 64);
    OK(take(1, 0, &lost));
    page_at(h, lost)->word = word_of(KV_OPEN, 1, 0);
    arena_appender_recover(h, 1); /* not its own */
    head_is(lost, KV_OPEN, 0);
    for (unsigned i = 0; i < 2; i++) {
        arena_appender_recover(h, 0);
        head_is(lost, KV_CLOSED, 0);
        head_is(keep, KV_OPEN, 0);
        head_is(second, KV_OPEN, 1);
    }
    OK(take(1, 0, &lost)); /* the same through a dead owner's lock */
    page_at(h, lost)->word = word_of(KV_OPEN, 1, 0);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin), mine = kv_op_make(h);
    OK(lock_take(&op, &kv_header_of(h)->appenders[0].lock));
    world_abandon(twin);
    OK(arena_close(&mine, 0, KV_NO_BASE));
    head_is(lost, KV_CLOSED, 0);
    head_is(keep, KV_CLOSED, 0);
    CHECK_EQ(kv_header_of(h)->appenders[0].current, 0);
    static const uint32_t damaged[] = {UINT32_MAX, 1}; /* no base page; an index page */
    for (unsigned i = 0; i < 2; i++) {
        kv_header_of(h)->appenders[0].current = damaged[i];
        head_is(append_done(0, 64), KV_OPEN, 0);
    }
    end();
}

static void test_close(void) {
    begin(KV_SIZE_MIN, 0);
    struct kv_op op = kv_op_make(h);
    uint32_t head = append_done(0, 64), other = append_done(1, 64);
    OK(arena_close(&op, 0, other)); /* not this one */
    head_is(head, KV_OPEN, 0);
    OK(arena_close(&op, 0, head));
    head_is(head, KV_CLOSED, 0);
    head_is(other, KV_OPEN, 1);
    OK(arena_close(&op, 0, KV_NO_BASE));
    OK(arena_close(&op, 1, KV_NO_BASE));
    head_is(other, KV_CLOSED, 0);
    end();
}

/* A reservation keeps its page, no other; the number says whose it is. */
static void test_reserved(void) {
    begin(KV_SIZE_MIN, 0);
    struct kv_place place = append(0, 64);
    uint32_t head = page_head(h, ref_base(h, place.ref)), number = 0;
    CHECK(arena_reserved(h, head, 1, &number));
    CHECK_EQ(number, kv_number(h));
    CHECK(!arena_reserved(h, head + 1, 1, &number));
    CHECK(!arena_reserved(h, head - 1, 1, &number));
    CHECK(arena_reserved(h, head - 1, 2, &number));
    place_done(h, &place, false);
    CHECK(!arena_reserved(h, head, 1, &number));
    struct kv_pin pin;
    struct kv_op op = kv_op_make(h);
    OK(pin_take(&op, &pin, fold_row));
    pin_aim(h, &pin, base_ref(h, head + 1) - 1); /* the last granule */
    CHECK(arena_pinned(h, head, 1) && !arena_pinned(h, head + 1, 1));
    pin_drop(h, &pin);
    CHECK(!arena_pinned(h, head, 1));
    end();
}

/* ---- extents ------------------------------------------------------------------------------ */

/* Four base pages or log_run_max, whichever is less, are the largest item of a log page. */
static void test_extent_threshold(void) {
    static const uint64_t sizes[] = {2 * MIB, 7 * MIB, 9 * MIB, 80 * MIB};
    static const uint32_t pages[] = {1, 3, 4, 4};
    for (unsigned k = 0; k < 4; k++) {
        begin(sizes[k], 0);
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%" PRIu64 " MiB", sizes[k] / MIB);
        uint64_t most = (uint64_t)pages[k] << h->g.base_shift;
        CHECK(pages[k] == (h->g.log_run_max < 4 ? h->g.log_run_max : 4));
        CHECK(!arena_is_extent(h, most) && arena_is_extent(h, most + 16));
        uint32_t head = append_done(0, most);
        head_is(head, KV_OPEN, 0);
        kv_header_of(h)->tidy_hint = 0;
        uint32_t extent = append_done(0, most + 16);
        head_is(extent, KV_CLOSED, 0);
        run_is(extent, pages[k] + 1, KV_CLOSED, 0);
        CHECK_EQ(page_at(h, extent)->tail, most / 16 + 1);
        CHECK_EQ(page_at(h, extent)->dead, most / 16 + 1);
        CHECK_EQ(kv_header_of(h)->appenders[0].current, head + 1); /* it is nobody's open page */
        for (uint32_t n = pages[k] + 1; n < 8; n++) { /* exactly so many base pages, one more */
            CHECK_EQ(arena_need(h, (uint64_t)n << h->g.base_shift), n);
            CHECK_EQ(arena_need(h, ((uint64_t)n << h->g.base_shift) + 16), n + 1);
            run_is(append_done(0, (uint64_t)n << h->g.base_shift), n, KV_CLOSED, 0);
        }
        end();
    }
}

/* A log page is opened eight times as long as its first item, as far as log_run_max allows. */
static void test_log_run(void) {
    begin(80 * MIB, 0);
    CHECK(h->g.std_run == 4 && h->g.log_run_max == 16);
    static const uint32_t first[] = {16, 32768, 32784, 65536, 65552, 262144};
    static const uint32_t run[] = {4, 4, 8, 8, 16, 16};
    struct kv_op op = kv_op_make(h);
    for (unsigned i = 0; i < 6; i++) {
        kv_header_of(h)->tidy_hint = 0;
        uint32_t head = append_done(0, first[i] < 32 ? 32 : first[i]);
        CHECK_EQ(page_run(page_word(h, head)), run[i]);
        OK(arena_close(&op, 0, KV_NO_BASE));
    }
    uint32_t head, single = 0; /* little is free: a shorter page will do */
    (void)take_all_singles(0);
    for (uint32_t i = arena_bases(h); single < 3 && i-- > 0;)
        if (page_word(h, i) == word_of(KV_TAKEN, 1, kv_number(h))) {
            give(i);
            single += 1;
        }
    kv_header_of(h)->tidy_hint = 0;
    head = append_done(0, 65536);
    CHECK_EQ(page_run(page_word(h, head)), 2);
    end();
}

/* An eighth of the arena, a byte more: stored, refused before anything is touched. */
static void test_eighth(void) {
    static const uint64_t sizes[] = {2 * MIB, 5 * MIB, 20 * MIB};
    for (unsigned k = 0; k < 3; k++) {
        begin(sizes[k], KV_OPT_EVICT);
        unsigned char room[16];
        struct kv_key key = key_of_hash(h, 12345, 1, room);
        uint64_t most = arena_bytes(h) / 8 - 16 - 36 - KV_GRANULE;
        struct kv_value value = {.type = KV_TYPE_BYTES, .data = calloc(1, most + 17), .len = most};
        for (int over = -16; over <= 16; over += over == 0 ? 1 : over == 1 ? 15 : 16) {
            struct kv_op op = kv_op_make(h);
            value.len = (uint64_t)((int64_t)most + over);
            (void)snprintf(kv_test_where, sizeof kv_test_where, "%" PRIu64 " MiB, %d",
                           sizes[k] / MIB, over);
            struct image before = image_take(h);
            kv_status s = store_put(&op, &key, &value, 0, KV_PUT_SET, NULL);
            store_leave(&op);
            CHECK_STATUS(s, over > 0 ? KV_TOOLARGE : KV_OK);
            if (over > 0) { /* the count of refusals, nothing else */
                kv_row_own(h)->stat[KV_STAT_REFUSED_LARGE]--;
                CHECK(memcmp(before.bytes, h->base, before.length) == 0);
                kv_row_own(h)->stat[KV_STAT_REFUSED_LARGE]++;
            }
            image_free(&before);
        }
        CHECK_EQ(world_stat(h, KV_STAT_REFUSED_LARGE), 2);
        free((void *)(uintptr_t)value.data);
        end();
    }
}

/* ---- the crossing from ref to address ----------------------------------------------------- */

static void test_bounds(void) {
    begin(KV_SIZE_MIN, 0);
    struct kv_place place = append(0, 64);
    struct kv_item it, *real = (struct kv_item *)(void *)arena_at(h, place.ref), good = *real;
    static const struct kv_item bad[] = {{.key_len = 0, .type = 1},
                                         {.key_len = 4, .type = 0},
                                         {.key_len = 4, .type = KV_TYPE_LAST + 1},
                                         {.key_len = 4, .type = 1, .flags = 0x20},
                                         {.key_len = 4, .type = 1, .flags = 0x80},
                                         {.key_len = 4, .type = 1, .value_len = UINT32_MAX}};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        *real = bad[i];
        CHECK(arena_item(h, place.ref, &it) == NULL);
    }
    uint64_t room = segment_watermark(h) - (uint64_t)place.ref * KV_GRANULE;
    *real = (struct kv_item){.key_len = 4, .type = 1, .value_len = (uint32_t)room - 16};
    CHECK(arena_item(h, place.ref, &it) != NULL); /* to the last backed byte */
    real->value_len++;
    CHECK(arena_item(h, place.ref, &it) == NULL);
    *real = good;
    CHECK(arena_item(h, (kv_ref)(h->g.off_arena / KV_GRANULE) - 1, &it) == NULL);
    CHECK(arena_item(h, (kv_ref)(segment_watermark(h) / KV_GRANULE), &it) == NULL);
    CHECK(arena_item(h, UINT32_MAX, &it) == NULL);
    CHECK(arena_item(h, 0, &it) == NULL);
    place_done(h, &place, false);
    end();
}

/* ---- index pages -------------------------------------------------------------------------- */

static void test_index_pages(void) {
    begin(KV_SIZE_MIN, 0);
    struct kv_op op = kv_op_make(h);
    uint32_t base, per = (uint32_t)h->g.index_per_base, high = kv_header_of(h)->index_high;
    CHECK_EQ(arena_index_take(h, 3), 0); /* the first ones all belong to stripes */
    OK(take(1, 0, &base));
    page_at(h, base)->tail = page_at(h, base)->dead = 99;
    arena_index_make(h, base);
    CHECK(page_word(h, base) == word_of(KV_INDEX, 1, 0));
    CHECK(base >= high && kv_header_of(h)->index_high == base + 1);
    uint32_t segment[16];
    for (uint32_t i = 0; i < per; i++) {
        segment[i] = arena_index_take(h, i);
        CHECK_EQ((uint64_t)segment[i] * KV_INDEX_BYTES, base_offset(h, base) + i * KV_INDEX_BYTES);
        CHECK_EQ(*arena_index_owner(h, segment[i]), i + 1);
    }
    CHECK_EQ(arena_index_take(h, 3), 0);
    arena_index_give(h, segment[1]);
    CHECK_EQ(arena_index_take(h, 7), segment[1]);
    CHECK_EQ(*arena_index_owner(h, segment[1]), 8);
    CHECK(arena_index_owner(h, segment[per - 1] + 1) == NULL); /* no index page */
    CHECK(arena_index_owner(h, 0) == NULL && arena_index_owner(h, KV_DIR_SEGMENT) == NULL);
    for (uint32_t i = 0; i < per; i++)
        arena_index_give(h, segment[i]);
    struct kv_op fold = kv_op_make(h);
    uint32_t folded;
    OK(fold_all(&fold, &folded));
    CHECK_STATUS(arena_take_base(&op, base), KV_NOPAGE);
    CHECK(page_word(h, base) == word_of(KV_INDEX, 1, 0)); /* all free, and still index */
    end();
}

/* Whatever is stored, evicted, compacted: what is index stays index. */
static void test_index_for_ever(void) {
    begin(KV_SIZE_MIN, KV_OPT_EVICT);
    uint32_t freed, seen = 0;
    struct chance c = chance_make(5);
    bool index[256] = {false};
    for (uint32_t round = 0; round < 9; round++) {
        uint32_t size = round % 3 == 0 ? 8 : round % 3 == 1 ? 3000 : 100000;
        for (uint32_t i = 0; i < (size == 8 ? 12000u : 60u); i++)
            OK(item_set(h, chance_below(&c, 100000), 1, size));
        struct kv_op op = kv_op_make(h);
        OK(evict_compact(&op, &freed));
        store_leave(&op);
        for (uint32_t i = 0; i < arena_bases(h); i++) {
            bool is = kv_page_state(page_word(h, i)) == KV_INDEX;
            CHECK(is || !index[i]);
            seen += is && !index[i];
            index[i] = is;
            CHECK(!is || i < kv_header_of(h)->index_high);
        }
    }
    CHECK(seen > 4); /* the index did grow */
    end();
}

static const struct kv_test tests[] = {
    {"arena_runs", test_runs},
    {"arena_exhaustion", test_exhaustion},
    {"arena_not_adjacent", test_not_adjacent},
    {"arena_take_hint", test_take_hint},
    {"arena_half_made_runs", test_half_made_runs},
    {"arena_page_exactly_full", test_page_exactly_full},
    {"arena_neighbour", test_neighbour},
    {"arena_open_not_current", test_open_not_current},
    {"arena_close", test_close},
    {"arena_reserved", test_reserved},
    {"arena_extent_threshold", test_extent_threshold},
    {"arena_log_run", test_log_run},
    {"arena_eighth", test_eighth},
    {"arena_bounds", test_bounds},
    {"arena_index_pages", test_index_pages},
    {"arena_index_for_ever", test_index_for_ever},
};
KV_TEST_MAIN(tests)
