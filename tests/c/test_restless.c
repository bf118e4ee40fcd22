/* test_restless.c: what happens when nothing stands still, and when nothing moves.
 *
 * A thread raises the version of one stripe without end, as very busy writers would: readers give
 * up looking and take the lock, read-only ones ask until their time is over, never accepting what
 * they could not confirm. Slots, locks and pages that somebody keeps: waits end at their limit with
 * Busy, or when a signal comes, and nothing is held afterwards. Waits are on conditions; where a
 * time limit is what is tested it is short. */
#include "kv_test.h"

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#define ITEMS 40u
#define SMALL 3u
#define LARGE 4u
#define EMPTY 5u
#define GONE  ITEMS

static struct kv_handle *h, *reader;
static uint32_t small_stripe, large_stripe;

static uint32_t stripe_of_item(uint32_t id) {
    unsigned char room[32];
    return stripe_of(h, item_key_of(h, id, room).home);
}

static void begin(void) {
    const char *name = world_name();
    struct kv_config config = world_config(KV_SIZE_MIN, KV_SIZE_MIN, KV_OPT_EVICT, 2);
    struct kv_found found;
    bool created;
    OK(world_attach(name, &config, false, &h, &created, &found));
    OK(world_attach(name, NULL, true, &reader, &created, &found));
    for (uint32_t i = 0; i < ITEMS; i++)
        OK(item_set(h, i, 1, i == LARGE ? 60000 : i == EMPTY ? 0 : 100));
    small_stripe = stripe_of_item(SMALL);
    large_stripe = stripe_of_item(LARGE);
}

static void end(void) {
    store_detach(reader);
    (void)world_account(h);
    store_detach(h);
}

/* ---- a stripe that changes all the time --------------------------------------------------- */

static uint32_t stop;

static void *raise_on(void *arg) {
    struct kv_stripe *st = arg;
    while (!kv_load_acq(&stop))
        (void)kv_add_rlx(&st->ver, 1u);
    return NULL;
}

static void restless(uint32_t s, void (*look)(void)) {
    pthread_t thread;
    kv_store_rel(&stop, 0u);
    CHECK_EQ(pthread_create(&thread, NULL, raise_on, stripe_at(h, s)), 0);
    uint64_t limit = kv_clock_ns() + 300000000u, before = world_stat(h, KV_STAT_RETRIES);
    do
        look();
    while (world_stat(h, KV_STAT_RETRIES) < before + 100 && kv_clock_ns() < limit);
    kv_store_rel(&stop, 1u);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void peek(uint32_t id, struct kv_handle *as, uint64_t len) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(as);
    kv_status s = store_peek(&op, &key, &meta);
    if (s == KV_BUSY && as == reader)
        return;
    OK(s);
    CHECK_EQ(meta.value_len, len);
}

static void peek_small(void) {
    for (unsigned i = 0; i < 50; i++) {
        peek(SMALL, h, 100);
        peek(SMALL, reader, 100);
    }
}

static void get_small(void) {
    for (unsigned i = 0; i < 50; i++) {
        OK(item_get(h, SMALL, NULL, NULL));
        kv_status s = item_get(reader, SMALL, NULL, NULL);
        CHECK(s == KV_OK || s == KV_BUSY);
    }
}

static void get_large(void) {
    for (unsigned i = 0; i < 20; i++) {
        OK(item_get(h, LARGE, NULL, NULL));
        kv_status s = item_get(reader, LARGE, NULL, NULL);
        CHECK(s == KV_OK || s == KV_BUSY);
    }
    (void)kv_add_rlx(&kv_row_own(h)->stat[KV_STAT_RETRIES], 10); /* pins retry uncounted */
}

static bool count_shown(void *arg, const void *key, uint32_t len, bool is_str,
                        const struct kv_meta *meta) {
    (void)key, (void)len, (void)is_str, (void)meta;
    ++*(uint32_t *)arg;
    return true;
}

static void scan_as(struct kv_handle *as) {
    struct kv_op op = kv_op_make(as);
    struct kv_cursor cursor = {.stripe = small_stripe};
    uint32_t shown = 0;
    kv_status s = KV_OK;
    while (s == KV_OK && cursor.stripe == small_stripe)
        s = store_scan(&op, &cursor, count_shown, &shown);
    CHECK(s == KV_OK || s == KV_MISS || (s == KV_BUSY && as == reader));
    if (s != KV_BUSY)
        CHECK(shown > 0);
}

static void get_empty(void) {
    for (unsigned i = 0; i < 50; i++)
        OK(item_get(h, EMPTY, NULL, NULL));
}

static void miss(void) {
    for (unsigned i = 0; i < 50; i++) {
        CHECK_STATUS(item_get(h, GONE, NULL, NULL), KV_MISS);
        kv_status s = item_get(reader, GONE, NULL, NULL);
        CHECK(s == KV_MISS || s == KV_BUSY);
    }
}

/* A stripe that never stands still is left out; what was seen of it is no problem. */
static void check(void) {
    struct kv_report report = {.problem = NULL};
    struct kv_op op = kv_op_make(reader);
    kv_status s = store_check(&op, &report);
    CHECK(s == KV_OK || s == KV_BUSY);
    CHECK_EQ(report.problems, 0);
    (void)kv_add_rlx(&kv_row_own(h)->stat[KV_STAT_RETRIES], 50);
}

/* The lock that is wanted after so many looks is kept by a living one. */
static void locked_out(void) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, SMALL, room);
    struct kv_meta meta;
    struct kv_pin pin;
    const void *data;
    for (unsigned i = 0; i < 20; i++) {
        struct kv_op op = kv_op_make(h);
        kv_status s = store_peek(&op, &key, &meta);
        CHECK(s == KV_OK || s == KV_BUSY);
        op = kv_op_make(h);
        s = store_pin(&op, &key, &meta, &pin, &data);
        CHECK(s == KV_OK || s == KV_BUSY);
        if (s == KV_OK)
            store_unpin(h, &pin);
        op = kv_op_make(h);
        struct kv_cursor cursor = {.stripe = small_stripe};
        uint32_t shown = 0;
        while (s != KV_BUSY && cursor.stripe == small_stripe)
            s = store_scan(&op, &cursor, count_shown, &shown);
        CHECK(s == KV_OK || s == KV_BUSY || s == KV_MISS);
    }
}

static void scan(void) {
    scan_as(h);
    scan_as(reader);
    (void)kv_add_rlx(&kv_row_own(h)->stat[KV_STAT_RETRIES], 10); /* scans retry uncounted */
}

static void test_restless_stripe(void) {
    begin();
    reader->lock_timeout_ns = 3000000;
    restless(small_stripe, peek_small);
    restless(small_stripe, get_small);
    restless(large_stripe, get_large);
    restless(small_stripe, scan);
    restless(stripe_of_item(EMPTY), get_empty);
    restless(stripe_of_item(GONE), miss);
    reader->lock_timeout_ns = 1000000000u;
    restless(small_stripe, check);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    OK(table_lock(&op, small_stripe));
    h->lock_timeout_ns = 1000000;
    restless(small_stripe, locked_out);
    table_unlock(h, small_stripe);
    h->lock_timeout_ns = 5000000000u;
    store_detach(twin);
    end();
}

/* The caller's own memory function is where a change can be placed exactly. */
struct between {
    uint32_t stripe, changes;
    unsigned char *to;
};

static void *change_between(void *arg, const struct kv_meta *meta) {
    struct between *b = arg;
    CHECK_EQ(meta->value_len, 100);
    if (b->changes > 0) {
        b->changes--;
        (void)kv_add_rlx(&stripe_at(h, b->stripe)->ver, 1u);
    }
    return b->to;
}

/* Each look is spoilt: eight times, then the value comes from behind a pin; a read-only one goes on
 * as long as it may. */
static void test_changed_between(void) {
    unsigned char to[100], room[32];
    begin();
    struct kv_key key = item_key_of(h, SMALL, room);
    struct kv_meta meta;
    for (uint32_t changes = 0; changes < 20; changes++) {
        struct between b = {small_stripe, changes, to};
        struct kv_op op = kv_op_make(h);
        uint64_t before = world_stat(h, KV_STAT_RETRIES);
        OK(store_get(&op, &key, &meta, change_between, &b));
        store_leave(&op);
        uint32_t stamp;
        CHECK(item_wrong(SMALL, to, 100, &stamp) == NULL);
        CHECK_EQ(world_stat(h, KV_STAT_RETRIES) - before, changes < 8 ? changes : 8);
        b.changes = changes;
        op = kv_op_make(reader);
        OK(store_get(&op, &key, &meta, change_between, &b));
    }
    reader->lock_timeout_ns = 2000000;
    struct between b = {small_stripe, UINT32_MAX, to};
    struct kv_op op = kv_op_make(reader);
    CHECK_STATUS(store_get(&op, &key, &meta, change_between, &b), KV_BUSY);
    end();
}

/* ---- what stays in use -------------------------------------------------------------------- */

/* All reservation slots of this process are in use for ever: Busy, naming ourselves. */
static void test_no_reservation(void) {
    begin();
    h->lock_timeout_ns = 3000000;
    uint32_t was = h->own->reservations;
    h->own->reservations = UINT32_MAX;
    unsigned slot;
    struct kv_op op = kv_op_make(h);
    CHECK_STATUS(reservation_slot(&op, false, &slot), KV_BUSY);
    CHECK_EQ(op.owner, kv_number(h));
    CHECK_STATUS(item_set(h, SMALL, 2, 100), KV_BUSY);
    h->own->reservations = was;
    OK(item_set(h, SMALL, 2, 100));
    end();
}

static void ring(int number) { (void)number; }

/* A signal ends a wait that may be interrupted, and only such a one. */
static void test_signal_ends_waits(void) {
    begin();
    struct sigaction action = {.sa_handler = ring}, old; /* no SA_RESTART: waits see it */
    CHECK_EQ(sigaction(SIGALRM, &action, &old), 0);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    h->own->reservations = UINT32_MAX;
    h->interruptible = true;
    h->lock_timeout_ns = 20000000000u;
    CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
    CHECK_STATUS(item_set(h, SMALL, 2, 100), KV_INTR);
    struct kv_op op = kv_op_make(h);
    kv_status s;
    while ((s = lock_idle(&op)) == KV_OK) { /* it is short: a call may fall between two */
    }
    CHECK_STATUS(s, KV_INTR);
    h->interruptible = false;
    h->lock_timeout_ns = 20000000;
    CHECK_STATUS(item_set(h, SMALL, 2, 100), KV_BUSY);
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_EQ(sigaction(SIGALRM, &old, NULL), 0);
    h->own->reservations = 0;
    OK(item_set(h, SMALL, 2, 100));
    end();
}

/* Another row when pins run out: never the own one again, whose byte would be granted. */
static void test_own_row_drawn_again(void) {
    begin();
    struct kv_pin pin[KV_PINS + 1];
    struct kv_op op = kv_op_make(h);
    kv_header_of(h)->next_number = kv_number(h) + h->g.rows;
    for (uint32_t r = 0; r < h->g.rows; r++) /* and the next ones bear the numbers of the dead */
        if (r != kv_row_own(h) - kv_row_at(h, 0))
            kv_row_at(h, r)->number = r + 7 * h->g.rows;
    for (unsigned i = 0; i <= KV_PINS; i++)
        OK(pin_take(&op, &pin[i], fold_row));
    CHECK_EQ(h->own->rows, 2);
    CHECK(h->own->row[0].row != h->own->row[1].row);
    for (unsigned i = 0; i <= KV_PINS; i++)
        store_unpin(h, &pin[i]);
    uint32_t dead;
    OK(fold_all(&op, &dead));
    CHECK_EQ(dead, h->g.rows - 2);
    end();
}

/* Every row bears the number of somebody dead: who comes first has none to take locks with, and
 * gets in nevertheless. */
static void test_all_rows_dead(void) {
    begin();
    for (uint32_t r = 0; r < h->g.rows; r++)
        if (r != kv_row_own(h) - kv_row_at(h, 0))
            kv_row_at(h, r)->number = r + 7 * h->g.rows;
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    uint32_t dead;
    OK(fold_all(&op, &dead));
    CHECK_EQ(dead, 0); /* attaching has folded all of them */
    store_detach(twin);
    end();
}

/* A read-only one counts the dead and leaves them. */
static void test_reader_counts_the_dead(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    uint32_t number = kv_number(twin);
    world_abandon(twin);
    struct kv_report report = {.problem = NULL};
    struct kv_op op = kv_op_make(reader);
    OK(store_check(&op, &report));
    CHECK_EQ(report.dead_rows, 1);
    CHECK_EQ(kv_row_at(h, number % h->g.rows)->number, number);
    end();
}

/* Tokens fit only if all of what they carry fits. */
static void test_tokens(void) {
    begin();
    unsigned char room[32];
    struct kv_key key = item_key_of(h, SMALL, room);
    int64_t n;
    OK(item_delete(h, SMALL));
    OK(item_incr(h, SMALL, 5, 0, &n));
    struct kv_meta meta;
    struct kv_op op = kv_op_make(h);
    OK(store_peek(&op, &key, &meta));
    struct kv_token token = kv_token_of(&meta);
    uint64_t other = 12345;
    token.counter++;
    CHECK_STATUS(store_delete(&op, &key, &token), KV_EXISTS);
    token.counter--;
    token.version++;
    CHECK_STATUS(store_delete(&op, &key, &token), KV_EXISTS);
    token.version--;
    token.deadline_ms = &other;
    CHECK_STATUS(store_delete(&op, &key, &token), KV_EXISTS);
    token.deadline_ms = &meta.deadline_ms;
    OK(store_delete(&op, &key, &token));
    OK(item_set(h, SMALL, 1, 100));
    end();
}

/* A mover that cannot get the stripe for its last step gives its copy up. */
static struct kv_handle *blocker;
static uint32_t blocked;

static void block_stripe(const char *name, void *arg) {
    (void)arg;
    if (strcmp(name, "relocate_copied") != 0 || blocked != UINT32_MAX)
        return;
    blocked = small_stripe;
    struct kv_op op = kv_op_make(blocker);
    if (lock_try(&op, &stripe_at(h, blocked)->lock) != KV_OK)
        blocked = UINT32_MAX;
}

static void test_mover_locked_out(void) {
    begin();
    OK(item_set(h, SMALL, 2, 100)); /* garbage: its page is worth cleaning */
    blocker = world_twin(h);
    blocked = UINT32_MAX;
    h->lock_timeout_ns = 1000000;
    kv_fault_hook(block_stripe, NULL);
    kv_fault_arm(0, KV_FAULT_CALL);
    uint32_t freed;
    struct kv_op op = kv_op_make(h);
    OK(evict_compact(&op, &freed));
    kv_fault_arm(0, KV_FAULT_KILL);
    CHECK_EQ(blocked, small_stripe);
    table_unlock(h, blocked);
    h->lock_timeout_ns = 5000000000u;
    store_detach(blocker);
    OK(item_get(h, SMALL, NULL, NULL));
    end();
}

/* All cleaner slots are held by a living one: making room waits, a tidy step does not. */
static void test_cleaners_busy(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    for (uint32_t i = 0; i < h->g.cleaners; i++)
        OK(lock_take(&op, &kv_header_of(h)->cleaners[i].lock));
    h->lock_timeout_ns = 3000000;
    uint32_t freed;
    op = kv_op_make(h);
    CHECK_STATUS(evict_compact(&op, &freed), KV_BUSY);
    CHECK_EQ(op.owner, kv_number(twin));
    op = kv_op_make(h);
    CHECK_STATUS(evict_make_index(&op), KV_BUSY);
    op = kv_op_make(h);
    CHECK_STATUS(evict_make_room(&op, 1000), KV_BUSY);
    op = kv_op_make(h);
    OK(evict_tidy(&op)); /* others are at it */
    world_abandon(twin); /* the dead's now: nothing to repair, pages tell their own state */
    h->lock_timeout_ns = 5000000000u;
    op = kv_op_make(h);
    OK(evict_make_room(&op, 1000));
    evict_end(&op);
    store_leave(&op);
    end();
}

/* All pages are somebody's who lives, and nothing may leave: Full, and all is as before. */
static void test_all_pages_taken(void) {
    h = world_open(KV_SIZE_MIN, 0);
    OK(item_set(h, SMALL, 1, 100));
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    uint32_t head, first = KV_NO_BASE;
    while (arena_take(&op, 1, KV_TAKE_PRIVILEGED, &head) == KV_OK)
        first = head < first ? head : first;
    CHECK(first != KV_NO_BASE);
    op = kv_op_make(h);
    CHECK_STATUS(evict_make_index(&op), KV_FULL);
    CHECK_STATUS(item_set(h, SMALL + 1, 1, 60000), KV_FULL);
    OK(item_get(h, SMALL, NULL, NULL));
    uint32_t number = kv_number(twin);
    world_abandon(twin);
    OK(item_set(h, SMALL + 1, 1, 60000)); /* of a dead one they come back */
    CHECK(!row_alive(h, number));
    (void)world_account(h);
    store_detach(h);
}

/* ---- index pages where memory is in use --------------------------------------------------- */

/* Item pages lie in the low bases: they are emptied, an open one is closed first; one that cannot
 * be had for now is left out. */
static void test_index_in_used_memory(void) {
    begin();
    uint32_t low = 0;
    while (kv_page_state(page_word(h, low)) == KV_INDEX)
        low++;
    struct kv_header *head = kv_header_of(h);
    struct kv_op op = kv_op_make(h);
    for (uint32_t k = 0; k < 2; k++) { /* open pages of both appenders at the low end */
        OK(arena_close(&op, k, KV_NO_BASE));
        OK(arena_take_base(&op, low + k));
        arena_form(h, low + k, 1);
        page_at(h, low + k)->word = kv_page_make(KV_OPEN, 0, 1, k);
        head->appenders[k].current = low + k + 1;
    }
    for (uint32_t i = 0; i < ITEMS; i++)
        OK(item_set(h, 1000 + i, 1, 100));
    struct kv_handle *twin = world_twin(h);
    struct kv_op theirs = kv_op_make(twin);
    OK(lock_take(&theirs, &head->appenders[0].lock));
    h->lock_timeout_ns = 3000000;
    op = kv_op_make(h);
    OK(evict_make_index(&op)); /* the first is kept from us: the second */
    CHECK_EQ(kv_page_state(page_word(h, low)), KV_OPEN);
    CHECK_EQ(kv_page_state(page_word(h, low + 1)), KV_INDEX);
    lock_give(&head->appenders[0].lock);
    h->lock_timeout_ns = 5000000000u;
    store_detach(twin);
    op = kv_op_make(h);
    OK(evict_make_index(&op));
    CHECK_EQ(kv_page_state(page_word(h, low)), KV_INDEX);
    for (uint32_t i = 0; i < ITEMS; i++)
        OK(item_get(h, 1000 + i, NULL, NULL));
    end();
}

/* A quarter of the memory is index: no more of it; and a hint beyond the arena is none. */
static void test_index_has_a_limit(void) {
    begin();
    kv_status s = KV_OK;
    uint32_t made = 0;
    for (; s == KV_OK; made++) {
        struct kv_op op = kv_op_make(h);
        s = evict_make_index(&op);
        store_leave(&op);
    }
    CHECK_STATUS(s, KV_FULL);
    CHECK(made > 10 && made < arena_bases(h) / 2);
    kv_header_of(h)->tidy_hint = UINT32_MAX;
    struct kv_op op = kv_op_make(h);
    OK(evict_tidy(&op));
    kv_header_of(h)->index_hint = UINT32_MAX;
    uint32_t got = arena_index_take(h, 0);
    CHECK(got != 0);
    arena_index_give(h, got);
    end();
}

static const struct kv_test tests[] = {
    {"restless_stripe", test_restless_stripe},
    {"restless_changed_between", test_changed_between},
    {"restless_no_reservation", test_no_reservation},
    {"restless_signal_ends_waits", test_signal_ends_waits},
    {"restless_own_row_drawn_again", test_own_row_drawn_again},
    {"restless_all_rows_dead", test_all_rows_dead},
    {"restless_reader_counts_the_dead", test_reader_counts_the_dead},
    {"restless_tokens", test_tokens},
    {"restless_mover_locked_out", test_mover_locked_out},
    {"restless_cleaners_busy", test_cleaners_busy},
    {"restless_all_pages_taken", test_all_pages_taken},
    {"restless_index_in_used_memory", test_index_in_used_memory},
    {"restless_index_has_a_limit", test_index_has_a_limit},
};
KV_TEST_MAIN(tests)
