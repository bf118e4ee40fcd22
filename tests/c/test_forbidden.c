/* test_forbidden.c: who may not, what cannot be, and locks that a living one keeps.
 *
 * Read-only attachments, arguments and sizes beyond the limits, callers without memory, files that
 * are no segments: each is answered by its own status, and nothing has happened. */
#include "acts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "packed.h"

static struct kv_handle *h;
static const char *name;
static struct kv_config config;

static void begin(void) { h = acts_begin(); }

static void end(void) { acts_end(h); }

/* A watermark that promises memory the file has not: refused before anything is touched. */
static void test_promised_memory(void) {
    struct kv_handle *maker, *got;
    struct kv_found found;
    bool created;
    name = world_name();
    config = world_config(16 << 20, 16 << 20, 0, 2);
    OK(world_attach(name, &config, false, &maker, &created, &found));
    kv_header_of(maker)->watermark = 16 << 20;
    CHECK_STATUS(world_attach(name, NULL, false, &got, &created, &found), KV_CORRUPT);
    store_detach(maker);
}

/* A file that is no segment of ours by its length alone. */
static void test_lengths(void) {
    struct kv_found found;
    struct kv_handle *got;
    bool created;
    const off_t lengths[] = {(off_t)KV_SIZE_MIN - 4096, (off_t)KV_SIZE_MAX + 4096};
    for (unsigned i = 0; i < 2; i++) {
        name = world_name();
        int fd = shm_open(name, O_RDWR | O_CREAT, 0600);
        uint64_t magic = KV_MAGIC;
        CHECK(fd >= 0 && ftruncate(fd, lengths[i]) == 0);
        CHECK_EQ(pwrite(fd, &magic, 8, 0), 8);
        struct kv_open how = {.fd = fd, .name = name, .timeout_ns = 1};
        CHECK_STATUS(store_attach(&how, &got, &created, &found), KV_CORRUPT);
        CHECK_EQ(found.file_bytes, lengths[i]);
    }
}

/* More sizes than there are pages, more CPUs than appenders. */
static void test_geometry_limits(void) {
    begin();
    CHECK_EQ(kv_geometry_bases(&h->g, KV_SIZE_MAX), h->g.bases_max);
    CHECK_EQ(kv_geometry_bases(&h->g, 0), 0);
    CHECK_EQ(kv_geometry_appenders(KV_SIZE_MAX, 1000), 8);
    CHECK_EQ(kv_geometry_appenders(KV_SIZE_MAX, 0), 1);
    end();
}

/* ---- who may not, and what cannot --------------------------------------------------------- */

static void test_readonly(void) {
    name = world_name();
    config = world_config(KV_SIZE_MIN, KV_SIZE_MIN, KV_OPT_EVICT, 2);
    struct kv_found found;
    bool created;
    OK(world_attach(name, &config, false, &h, &created, &found));
    OK(item_set(h, VICTIM, 1, 100));
    struct kv_handle *reader;
    OK(world_attach(name, NULL, true, &reader, &created, &found));
    for (size_t i = 0; i < ACTS; i++)
        CHECK_STATUS(acts[i].run(reader), acts[i].writes ? KV_READONLY : KV_OK);
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    OK(table_lock(&op, stripe_at(h, 0)->lock));
    reader->lock_timeout_ns = 1;
    struct kv_report report = {.problem = NULL};
    op = kv_op_make(reader);
    CHECK_STATUS(store_check(&op, &report), KV_BUSY);
    reader->lock_timeout_ns = 10000000000u;
    op = kv_op_make(reader);
    OK(store_check(&op, &report)); /* a stripe that is locked all the time is left out */
    CHECK_EQ(report.problems, 0);
    table_unlock(h, 0);
    store_detach(twin);
    unsigned char room[32];
    struct kv_key key = item_key_of(h, VICTIM, room);
    struct kv_slot slot;
    OK(table_find(h, stripe_of(h, key.home), &key, &slot));
    slot.bucket->ref[slot.index] = UINT32_MAX;
    CHECK_STATUS(do_scan(reader), KV_CORRUPT);
    slot.bucket->ref[slot.index] = slot.ref;
    OK(do_scan(reader));
    store_detach(reader);
    store_detach(h);
}

static void test_invalid(void) {
    begin();
    unsigned char room[32];
    struct kv_key key = item_key_of(h, VICTIM, room), empty = key, over = key;
    empty.len = 0;
    over.len = KV_KEY_MAX + 1;
    struct kv_value value = {.type = KV_TYPE_BYTES, .data = "x", .len = 1};
    struct kv_value none = {.type = 0}, beyond = {.type = KV_TYPE_LAST + 1};
    struct kv_value vast = {.type = KV_TYPE_BYTES, .data = "x", .len = 1ull << 32};
    struct kv_op op = kv_op_make(h);
    CHECK_STATUS(store_put(&op, &empty, &value, 0, KV_PUT_SET, NULL), KV_INVALID);
    CHECK_STATUS(store_put(&op, &over, &value, 0, KV_PUT_SET, NULL), KV_INVALID);
    CHECK_STATUS(store_put(&op, &key, &none, 0, KV_PUT_SET, NULL), KV_INVALID);
    CHECK_STATUS(store_put(&op, &key, &beyond, 0, KV_PUT_SET, NULL), KV_INVALID);
    CHECK_STATUS(store_put(&op, &key, &vast, 0, KV_PUT_SET, NULL), KV_TOOLARGE);
    struct kv_open how = {.fd = -1, .name = "/none", .timeout_ns = 1};
    struct kv_handle *got;
    bool created;
    struct kv_found found;
    CHECK_STATUS(store_attach(&how, &got, &created, &found), KV_OS);
    config = world_config(4096, 4096, 0, 1);
    name = world_name();
    CHECK_STATUS(world_attach(name, &config, false, &got, &created, &found), KV_INVALID);
    CHECK_EQ(packed_scan("\xc1", 1), KV_PACKED_BAD);
    end();
}

static void *no_room(void *arg, const struct kv_meta *meta) {
    (void)arg, (void)meta;
    return NULL;
}

/* The caller has no memory for what was found. */
static void test_no_memory_to_copy(void) {
    begin();
    OK(item_set(h, ITEMS, 1, 100000));
    for (uint32_t id = VICTIM; id <= ITEMS; id += ITEMS - VICTIM) {
        unsigned char room[32];
        struct kv_key key = item_key_of(h, id, room);
        struct kv_meta meta;
        struct kv_op op = kv_op_make(h);
        CHECK_STATUS(store_get(&op, &key, &meta, no_room, NULL), KV_NOMEM);
    }
    CHECK_STATUS(scan_with(h, h), KV_NOMEM);
    OK(item_delete(h, ITEMS));
    end();
}

/* ---- locks that a living one keeps -------------------------------------------------------- */

/* Every operation that needs the stripe says so, and nothing has happened. */
static void test_busy(void) {
    begin();
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    unsigned char key_room[32];
    uint32_t stripe = stripe_of(h, item_key_of(h, VICTIM, key_room).home);
    OK(table_lock(&op, stripe));
    h->lock_timeout_ns = 1000000;
    for (size_t i = 0; i < ACTS; i++) {
        bool takes = acts[i].writes && acts[i].run != do_add && acts[i].run != do_pin;
        kv_status want = acts[i].run == do_add ? KV_EXISTS : takes ? KV_BUSY : KV_OK;
        CHECK_STATUS(acts[i].run(h), want);
    }
    CHECK_STATUS(item_put(h, VICTIM, 2, 100, 0, KV_PUT_REPLACE), KV_BUSY);
    struct kv_clear clear = {.begun = h->g.stripes, .stripe = stripe};
    op = kv_op_make(h);
    CHECK_STATUS(store_clear(&op, &clear), KV_BUSY);
    op = kv_op_make(h);
    CHECK_STATUS(table_sweep(&op, 1, 2), KV_BUSY);
    struct kv_report report = {.problem = NULL};
    op = kv_op_make(h);
    CHECK_STATUS(store_check(&op, &report), KV_BUSY);
    CHECK_EQ(op.owner, kv_number(twin));
    uint32_t freed, elsewhere = 0;
    op = kv_op_make(h);
    OK(evict_compact(&op, &freed)); /* its pages are left alone */
    unsigned char a[32], b[32];
    while (stripe_of(h, item_key_of(h, elsewhere, a).home) == stripe)
        elsewhere++;
    struct kv_key from = item_key_of(h, elsewhere, a), to = item_key_of(h, VICTIM, b);
    op = kv_op_make(h);
    CHECK_STATUS(store_rename(&op, &from, &to), KV_BUSY);
    op = kv_op_make(h);
    OK(store_rename(&op, &from, &from)); /* to itself: nothing to do */
    table_unlock(h, stripe);
    h->lock_timeout_ns = 5000000000u;
    store_detach(twin);
    uint32_t stamp;
    OK(item_get(h, VICTIM, &stamp, NULL));
    CHECK_EQ(stamp, 1);
    (void)world_account(h);
    end();
}

static const struct kv_test tests[] = {
    {"forbidden_readonly", test_readonly},
    {"forbidden_invalid", test_invalid},
    {"forbidden_no_memory_to_copy", test_no_memory_to_copy},
    {"forbidden_busy", test_busy},
    {"forbidden_lengths", test_lengths},
    {"forbidden_promised_memory", test_promised_memory},
    {"forbidden_geometry_limits", test_geometry_limits},
};
KV_TEST_MAIN(tests)
