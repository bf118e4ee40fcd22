/* test_watch.c: what is kept for people: notes, deaths, samples, the board. */
#include "kv_test.h"

#include <unistd.h>

#include "lock_note.h"
#include "store_watch.h"

static const struct kv_row *row_of(struct kv_handle *h) { return kv_row_own(h); }

/* The note that came last; NULL = none. */
static const struct kv_note *last_note(const struct kv_note *notes) {
    const struct kv_note *found = NULL;
    for (uint32_t i = 0; i < KV_NOTES; i++)
        if (notes[i].turn != 0 && (found == NULL || notes[i].turn > found->turn))
            found = &notes[i];
    return found;
}

static kv_status put(struct kv_handle *h, const char *name, const char *value) {
    struct kv_key key = kv_key_make(h, name, (uint32_t)strlen(name), false);
    struct kv_value v = {.type = KV_TYPE_BYTES, .data = value, .len = strlen(value)};
    struct kv_op op = kv_op_make(h);
    kv_status s = store_put(&op, &key, &v, 0, KV_PUT_SET, NULL);
    store_leave(&op);
    return s;
}

static kv_status drop(struct kv_handle *h, const char *name) {
    struct kv_key key = kv_key_make(h, name, (uint32_t)strlen(name), false);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_delete(&op, &key, NULL);
    store_leave(&op);
    return s;
}

static void *give(void *arg, const struct kv_meta *meta) {
    CHECK(meta->value_len <= 4096);
    return arg;
}

static kv_status look(struct kv_handle *h, const char *name) {
    static unsigned char room[4096];
    struct kv_key key = kv_key_make(h, name, (uint32_t)strlen(name), false);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(h);
    kv_status s = store_get(&op, &key, &meta, give, room);
    store_leave(&op);
    return s;
}

/* ---- notes -------------------------------------------------------------------------------- */

static void test_notes(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT);
    CHECK(last_note(row_of(h)->note) == NULL);
    OK(put(h, "a key", "value"));
    const struct kv_note *note = last_note(row_of(h)->note);
    CHECK(note != NULL && note->what == KV_NOTED_SET && note->ended == 1 + KV_OK);
    CHECK(note->len == 5 && memcmp(note->key, "a key", 5) == 0);
    CHECK(note->at_ns <= kv_clock_ns() && note->place == 0);
    CHECK(drop(h, "no such key") == KV_MISS);
    note = last_note(row_of(h)->note);
    CHECK(note->what == KV_NOTED_DELETE && note->ended == 1 + KV_MISS);
    OK(look(h, "a key"));
    CHECK(last_note(row_of(h)->note) == note); /* a read leaves none */
    const char *longer = "a key that is longer than the room there is in a note";
    OK(put(h, longer, "value"));
    note = last_note(row_of(h)->note);
    CHECK(note->len == strlen(longer) && memcmp(note->key, longer, KV_NOTE_KEY) == 0);
    for (uint32_t i = 0; i < 3 * KV_NOTES; i++)
        OK(put(h, "again", "value"));
    note = last_note(row_of(h)->note);
    CHECK(note->turn == 3 * KV_NOTES + 3 && h->own->noted == note->turn);
    store_detach(h);
}

/* An operation made of others has one note. */
static void test_nested(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT);
    struct kv_key key = kv_key_make(h, "counter", 7, false);
    struct kv_op op = kv_op_make(h);
    int64_t initial = 5, result;
    OK(store_incr(&op, &key, 2, &initial, 0, &result));
    store_leave(&op);
    CHECK(result == 7 && h->own->noted == 1 && op.note == NULL);
    CHECK(last_note(row_of(h)->note)->what == KV_NOTED_INCR);
    store_detach(h);
}

/* Who waits in vain says for whom. */
static void test_waits(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT), *other = world_twin(h);
    struct kv_key key = kv_key_make(h, "key", 3, false);
    uint32_t s = stripe_of(h, key.home);
    struct kv_op op = kv_op_make(other);
    OK(table_lock(&op, s));
    h->lock_timeout_ns = 20000000;
    CHECK(put(h, "key", "value") == KV_BUSY);
    table_unlock(other, s);
    const struct kv_note *note = last_note(row_of(h)->note);
    CHECK(note->what == KV_NOTED_SET && note->ended == 1 + KV_BUSY);
    CHECK(note->owner == kv_number(other) && note->waited_us >= 20000);
    CHECK((unsigned char *)&stripe_at(h, s)->lock == h->base + note->place);
    store_detach(other);
    store_detach(h);
}

/* ---- deaths ------------------------------------------------------------------------------- */

static const struct kv_death *death_of(struct kv_handle *h, uint32_t number) {
    const struct kv_death *found = NULL;
    for (uint32_t i = 0; i < KV_DEATHS; i++) {
        const struct kv_death *d = (const void *)(h->base + h->g.off_deaths);
        CHECK(number == 0 || d[i].number != number || found == NULL);
        if (d[i].number == number && number != 0)
            found = &d[i];
    }
    return found;
}

static void test_deaths(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT), *other = world_twin(h);
    uint32_t number = kv_number(other);
    struct kv_op op = kv_op_make(other);
    OK(put(other, "last words", "value"));
    OK(table_lock(&op, 3));
    OK(table_lock(&op, 5));
    CHECK(note_begin(&op, KV_NOTED_DELETE, "unfinished", 10) != NULL);
    world_abandon(other);
    CHECK(death_of(h, number) == NULL);
    (void)world_settle(h);
    const struct kv_death *d = death_of(h, number);
    CHECK(d != NULL && d->pid == (uint32_t)getpid() && d->locks == 2);
    CHECK(h->base + d->lock[0] == (unsigned char *)&stripe_at(h, 3)->lock);
    CHECK(h->base + d->lock[1] == (unsigned char *)&stripe_at(h, 5)->lock);
    CHECK(d->finder == kv_number(h) && d->found_ms >= d->attached_ms);
    const struct kv_note *note = last_note(d->note);
    CHECK(note->what == KV_NOTED_DELETE && note->ended == 0);
    CHECK(memcmp(note->key, "unfinished", 10) == 0 && note->at_ns <= d->clock_ns);
    CHECK(kv_header_of(h)->deaths == 1);
    store_detach(h);
}

/* More locks than a record has room for are counted; a record of another attachment that had the
 * same number is none of this one. */
static void test_death_of_many_locks(void) {
    struct kv_handle *h = world_open(64 << 20, KV_OPT_EVICT), *other = world_twin(h);
    uint32_t number = kv_number(other), records = 0;
    struct kv_op op = kv_op_make(other);
    struct kv_death *ring = (void *)(h->base + h->g.off_deaths);
    CHECK(h->g.stripes >= KV_DEATH_LOCKS + 2);
    for (uint32_t s = 0; s < KV_DEATH_LOCKS + 2; s++)
        OK(table_lock(&op, s));
    ring[KV_DEATHS - 1] =
        (struct kv_death){.number = number, .attached_ms = row_of(other)->attached_ms + 1};
    world_abandon(other);
    (void)world_settle(h);
    for (uint32_t i = 0; i < KV_DEATHS; i++) {
        records += ring[i].number == number;
        CHECK(ring[i].number != number || i == KV_DEATHS - 1 ||
              ring[i].locks == KV_DEATH_LOCKS + 2);
    }
    CHECK_EQ(records, 2);
    store_detach(h);
}

/* The ring remembers the last ones, and a row's next owner begins without notes. */
static void test_many_deaths(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT);
    uint32_t last[KV_DEATHS + 3];
    for (uint32_t i = 0; i < KV_DEATHS + 3; i++) {
        struct kv_handle *other = world_twin(h);
        CHECK(last_note(row_of(other)->note) == NULL);
        last[i] = kv_number(other);
        OK(put(other, "key", "value"));
        world_abandon(other);
        (void)world_settle(h);
    }
    for (uint32_t i = 0; i < KV_DEATHS + 3; i++)
        CHECK((death_of(h, last[i]) != NULL) == (i >= 3));
    store_detach(h);
}

/* ---- samples ------------------------------------------------------------------------------ */

static uint64_t word_of(struct kv_handle *h, const char *name, enum kv_sample kind, uint32_t size) {
    struct kv_key key = kv_key_make(h, name, (uint32_t)strlen(name), false);
    return key.hash << 18 | (uint64_t)kind << 16 | size;
}

static void test_samples(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT);
    uint64_t words[1024], lost, from = UINT64_MAX;
    OK(put(h, "key", "value"));
    CHECK(store_samples(h, &from, words, 1024, &lost) == 0 && lost == 0);
    store_sampling(h, UINT32_MAX);
    OK(look(h, "key"));
    CHECK(look(h, "no") == KV_MISS);
    OK(put(h, "key", "a longer value than it was, by far"));
    OK(drop(h, "key"));
    CHECK(store_samples(h, &from, words, 1024, &lost) == 4 && lost == 0);
    CHECK(words[0] == word_of(h, "key", KV_SAMPLE_HIT, 2));
    CHECK(words[1] == word_of(h, "no", KV_SAMPLE_MISS, 0));
    CHECK(words[2] == word_of(h, "key", KV_SAMPLE_SET, 4));
    CHECK(words[3] == word_of(h, "key", KV_SAMPLE_DELETE, 0));
    for (uint32_t i = 0; i < h->g.samples + 7; i++)
        CHECK(look(h, "no") == KV_MISS);
    (void)kv_add_rlx(&kv_header_of(h)->next_sample, 1u); /* drawn by one that died */
    kv_store_rlx((uint64_t *)(void *)(h->base + h->g.off_samples) + ((from + 7) & 511), 0u);
    uint32_t n = store_samples(h, &from, words, 1024, &lost);
    CHECK(n + lost == h->g.samples + 8 && lost >= 8);
    store_sampling(h, 0);
    CHECK(look(h, "no") == KV_MISS);
    CHECK(store_samples(h, &from, words, 1024, &lost) == 0 && lost == 0);
    store_detach(h);
}

/* Keys are chosen by their hash: all requests of one, or none. */
static void test_share(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT);
    uint64_t words[512], lost, from = UINT64_MAX;
    uint32_t chosen = 0, below = UINT32_MAX / 16;
    (void)store_samples(h, &from, words, 512, &lost);
    store_sampling(h, below);
    for (uint32_t i = 0; i < 2000; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "key %u", i);
        struct kv_key key = kv_key_make(h, name, (uint32_t)strlen(name), false);
        chosen += (uint32_t)key.hash < below;
        CHECK(look(h, name) == KV_MISS);
    }
    uint32_t n = store_samples(h, &from, words, 512, &lost);
    CHECK(n == chosen && lost == 0 && n > 60 && n < 220);
    for (uint32_t i = 0; i < n; i++)
        CHECK((uint32_t)(words[i] >> 18) < below);
    store_detach(h);
}

/* ---- the board ---------------------------------------------------------------------------- */

static void test_board(void) {
    struct kv_handle *h = world_open(2 << 20, KV_OPT_EVICT);
    static unsigned char text[1 << 16], back[1 << 16];
    uint32_t room = store_board_room(h);
    CHECK(room == 4096 - sizeof(struct kv_board) && store_board_read(h, back) == 0);
    for (uint32_t i = 1; i < 20; i++) {
        uint32_t len = i % 3 == 0 ? room : i * 37;
        memset(text, (int)i, len);
        store_board_write(h, text, len);
        CHECK(store_board_read(h, back) == len && memcmp(text, back, len) == 0);
    }
    /* A turned bit anywhere leaves the one before, and the next is written over the damage. */
    store_board_write(h, "before", 6);
    for (uint32_t bit = 0; bit < 8 * (sizeof(struct kv_board) + 5); bit++) {
        store_board_write(h, "before", 6);
        store_board_write(h, "after", 5);
        struct kv_board *half[2] = {(void *)(h->base + h->g.off_board),
                                    (void *)(h->base + h->g.off_board + h->g.board)};
        struct kv_board *newest = half[half[1]->turn > half[0]->turn];
        ((unsigned char *)newest)[bit / 8] ^= (unsigned char)(1u << bit % 8);
        uint32_t n = store_board_read(h, back);
        CHECK((n == 6 && memcmp(back, "before", 6) == 0) || n == 0);
        store_board_write(h, "mended", 6);
        CHECK(store_board_read(h, back) == 6 && memcmp(back, "mended", 6) == 0);
    }
    store_detach(h);
}

static const struct kv_test tests[] = {
    {"notes", test_notes},
    {"nested", test_nested},
    {"waits", test_waits},
    {"deaths", test_deaths},
    {"death_of_many_locks", test_death_of_many_locks},
    {"many_deaths", test_many_deaths},
    {"samples", test_samples},
    {"share", test_share},
    {"board", test_board},
};
KV_TEST_MAIN(tests)
