/* kv_test.c: see kv_test.h. One buffer per thread for values; nothing else is kept between tests.
 */
#include "kv_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t kv_test_seed;
double kv_test_scale = 1;
const char *kv_test_name = "";
char kv_test_where[256];

static char names[16][64], kept[64]; /* kept: of the one world that others could open */
static unsigned names_count;
static pid_t names_owner;

static void unlink_names(void) {
    for (unsigned i = 0; i < names_count && getpid() == names_owner; i++)
        (void)shm_unlink(names[i]);
    if (kept[0] != 0 && getpid() == names_owner)
        (void)shm_unlink(kept);
}

/* ---- checks ------------------------------------------------------------------------------- */

static const char *const statuses[] = {
    "OK",       "MISS",     "EXISTS",  "RECOVER",  "AGAIN",    "NOPAGE",  "NOINDEX",
    "UNMARKED", "FULL",     "BUSY",    "INTR",     "TOOLARGE", "TYPE",    "OVERFLOW",
    "CORRUPT",  "NOSPACE",  "NOROWS",  "HALFMADE", "GONE",     "VERSION", "STRANGER",
    "MISMATCH", "READONLY", "INVALID", "PERSIST",  "NOMEM",    "OS"};
static_assert(sizeof statuses / sizeof statuses[0] == KV_OS + 1, "a name for each status");

const char *kv_test_status(kv_status s) { return (unsigned)s <= KV_OS ? statuses[s] : "?"; }

_Noreturn void kv_test_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "FAILED %s at %s:%d\n  ", kv_test_name, file, line);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n  %s\n  SHMKV_TEST_SEED=%" PRIu64 " SHMKV_TEST_SCALE=%g\n", kv_test_where,
            kv_test_seed, kv_test_scale);
    fflush(NULL);
    unlink_names();
    _exit(1);
}

void kv_test_not_run(const char *why) { printf("NOT RUN %s: %s\n", kv_test_name, why); }

uint64_t scaled(uint64_t n) {
    double x = (double)n * kv_test_scale;
    return x < 1 ? 1 : (uint64_t)x;
}

int kv_test_main(int argc, char **argv, const struct kv_test *tests, size_t count) {
    const char *seed = getenv("SHMKV_TEST_SEED"), *scale = getenv("SHMKV_TEST_SCALE");
    kv_test_seed = seed != NULL ? strtoull(seed, NULL, 10) : kv_clock_ns() % 1000000007u;
    if (scale != NULL)
        kv_test_scale = strtod(scale, NULL);
    names_owner = getpid();
    (void)atexit(unlink_names);
    unsigned ran = 0;
    for (size_t i = 0; i < count; i++) {
        if (argc > 1 && strstr(tests[i].name, argv[1]) == NULL)
            continue;
        uint64_t begin = kv_clock_ns();
        kv_test_name = tests[i].name;
        kv_test_where[0] = 0;
        tests[i].run();
        ran++;
        printf("ok %-40s %6.0f ms\n", tests[i].name, (double)(kv_clock_ns() - begin) / 1e6);
        fflush(stdout);
    }
    return ran > 0 ? 0 : 2;
}

/* ---- chance ------------------------------------------------------------------------------- */

struct chance chance_make(uint64_t salt) {
    return (struct chance){kv_hash(&salt, sizeof salt, kv_test_seed) | 1};
}

uint64_t chance_next(struct chance *c) { /* xorshift64* (Vigna, 2014) */
    c->state ^= c->state >> 12;
    c->state ^= c->state << 25;
    c->state ^= c->state >> 27;
    return c->state * 0x2545F4914F6CDD1DULL;
}

uint32_t chance_below(struct chance *c, uint32_t below) {
    return (uint32_t)((chance_next(c) >> 32) * below >> 32);
}

uint32_t chance_size(struct chance *c, uint32_t low, uint32_t high) {
    uint32_t top = low;
    while (top < high && chance_below(c, 3) != 0)
        top = top < high / 2 ? top * 2 + 1 : high;
    return low + chance_below(c, top - low + 1);
}

/* ---- worlds ------------------------------------------------------------------------------- */

const char *world_name(void) {
    static unsigned n;
    const char *prefix = getenv("SHMKV_TEST_PREFIX");
    char *name = names[n % 16];
    if (n >= 16)
        (void)shm_unlink(name);
    (void)snprintf(name, sizeof names[0], "/shmkv.%u.%.20s-%d-%u", (unsigned)getuid(),
                   prefix != NULL ? prefix : "c", (int)getpid(), n);
    n++;
    names_count = n < 16 ? n : 16;
    return name;
}

struct kv_config world_config(uint64_t size, uint64_t max_size, uint32_t options,
                              uint32_t appenders) {
    return (struct kv_config){.size = size,
                              .max_size = max_size,
                              .seed = kv_test_seed * 0x9E3779B97F4A7C15ULL + 1,
                              .options = options,
                              .appenders = appenders};
}

kv_status world_attach(const char *name, const struct kv_config *config, bool readonly,
                       struct kv_handle **h, bool *created, struct kv_found *found) {
    int fd = shm_open(name, (readonly ? O_RDONLY : O_RDWR) | (config != NULL ? O_CREAT : 0), 0600);
    if (fd < 0)
        return KV_OS;
    struct kv_open how = {
        .fd = fd, .name = name, .config = config, .readonly = readonly, .timeout_ns = 5000000000u};
    return store_attach(&how, h, created, found);
}

static struct kv_handle *open_named(const char *name, const struct kv_config *config) {
    struct kv_handle *h = NULL;
    struct kv_found found;
    bool created = false;
    OK(world_attach(name, config, false, &h, &created, &found));
    CHECK(created);
    return h;
}

struct kv_handle *world_open_with(const struct kv_config *config) {
    const char *name = world_name();
    struct kv_handle *h = open_named(name, config);
    CHECK_EQ(shm_unlink(name), 0);
    return h;
}

struct kv_handle *world_open_named(uint64_t size, uint32_t options) {
    struct kv_config config = world_config(size, size, options, 2);
    if (kept[0] != 0)
        (void)shm_unlink(kept);
    (void)snprintf(kept, sizeof kept, "%.60s-k", world_name());
    return open_named(kept, &config);
}

struct kv_handle *world_open(uint64_t size, uint32_t options) {
    struct kv_config config = world_config(size, size, options, 2);
    return world_open_with(&config);
}

struct kv_handle *world_twin(struct kv_handle *h) {
    struct kv_handle *twin = NULL;
    OK(segment_twin(h, &twin));
    struct kv_op op = kv_op_make(twin);
    OK(store_enter(&op));
    store_leave(&op);
    return twin;
}

void world_await(bool (*ready)(void *), void *arg) {
    uint64_t end = kv_clock_ns() + 10000000000u;
    while (!ready(arg)) {
        if (kv_clock_ns() > end)
            kv_test_fail(__FILE__, __LINE__, "ten seconds have passed");
        (void)usleep(200);
    }
}

void world_abandon(struct kv_handle *twin) { segment_close(twin); }

/* A mount namespace of the child's own: whatever becomes of it, nothing stays mounted. */
static void tmpfs_child(const char *folder, const char *size, void (*act)(const char *folder)) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", folder, "tmpfs", 0, size) != 0) {
        kv_test_not_run(strerror(errno));
        fflush(stdout);
        _exit(0);
    }
    act(folder);
    _exit(0);
}

void world_in_tmpfs(const char *size, void (*act)(const char *folder)) {
    char folder[] = "/tmp/shmkv-c-XXXXXX"; /* a mount point, gone with its namespace */
    int status = -1;
    CHECK(mkdtemp(folder) != NULL);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        tmpfs_child(folder, size, act);
    (void)waitpid(child, &status, 0);
    CHECK_EQ(rmdir(folder), 0);
    CHECK_EQ(status, 0);
}

struct image image_of(struct kv_handle *h) {
    return (struct image){.length = segment_watermark(h),
                          .ghost = (uint64_t)kv_header_of(h)->ghost * KV_LINE};
}

void image_fill(struct kv_handle *h, const struct image *image) {
    memcpy(image->bytes, h->base, image->length);
    memcpy(image->bytes + image->length, h->base + h->g.off_ghost, image->ghost);
}

struct image image_take(struct kv_handle *h) {
    struct image image = image_of(h);
    image.bytes = malloc(image.length + image.ghost);
    CHECK(image.bytes != NULL);
    image_fill(h, &image);
    return image;
}

void image_ghost(struct kv_handle *h, const struct image *image) {
    uint64_t now = (uint64_t)kv_header_of(h)->ghost * KV_LINE;
    unsigned char *ghost = h->base + h->g.off_ghost;
    if (now > image->ghost && now <= h->g.max_size - h->g.off_ghost)
        memset(ghost + image->ghost, 0, now - image->ghost);
    memcpy(ghost, image->bytes + image->length, image->ghost);
}

void image_restore(struct kv_handle *h, const struct image *image) {
    image_ghost(h, image);
    memcpy(h->base, image->bytes, image->length);
    h->backed = image->length;
}

void image_free(struct image *image) {
    free(image->bytes);
    image->bytes = NULL;
}

static void tell_problem(void *arg, const char *text) {
    (void)arg;
    fprintf(stderr, "  problem: %s\n", text);
}

struct kv_report world_check(struct kv_handle *h) {
    struct kv_report report = {.problem = tell_problem};
    struct kv_op op = kv_op_make(h);
    OK(store_check(&op, &report));
    CHECK_EQ(report.problems, 0);
    return report;
}

struct kv_report world_settle(struct kv_handle *h) {
    uint32_t freed;
    (void)world_check(h);
    struct kv_op op = kv_op_make(h);
    OK(evict_compact(&op, &freed));
    store_leave(&op);
    struct kv_report r = world_check(h);
    CHECK_EQ(r.bases_held, 0);
    CHECK_EQ(r.bases_free + r.bases_index + r.bases_log + r.bases_extent, r.bases);
    CHECK_EQ(r.bases, arena_bases(h));
    CHECK_EQ(r.items, store_len(h));
    return r;
}

struct kv_report world_account(struct kv_handle *h) {
    struct kv_report r = world_settle(h);
    CHECK_EQ(r.garbage_items, 0);
    return r;
}

uint64_t world_stat(struct kv_handle *h, enum kv_stat what) {
    struct kv_stats stats;
    store_stats(h, &stats);
    return stats.stat[what];
}

/* ---- items -------------------------------------------------------------------------------- */

struct kv_key item_key_of(const struct kv_handle *h, uint32_t id, unsigned char room[32]) {
    uint32_t len = 4 + id * 2654435761u % 16;
    memcpy(room, &id, 4);
    for (uint32_t i = 4; i < len; i++)
        room[i] = (unsigned char)('a' + (id + i) % 26);
    return kv_key_make(h, room, len, id & 1);
}

static uint64_t inverse(uint64_t odd) { /* of a factor, modulo 2^64: Newton */
    uint64_t x = odd;
    for (unsigned i = 0; i < 6; i++)
        x *= 2 - odd * x;
    return x;
}

struct kv_key key_of_hash(const struct kv_handle *h, uint64_t hash, uint64_t mark,
                          unsigned char room[16]) {
    uint64_t before = (h->seed + KV_XXP5 + 16) ^ kv_hash_round(0, mark), x = hash ^ hash >> 32;
    before = kv_hash_rotl(before, 27) * KV_XXP1 + KV_XXP4;
    x *= inverse(KV_XXP3);
    x ^= x >> 29 ^ x >> 58;
    x *= inverse(KV_XXP2);
    x ^= x >> 33;
    x = kv_hash_rotl((x - KV_XXP4) * inverse(KV_XXP1), 64 - 27) ^ before;
    x = kv_hash_rotl(x * inverse(KV_XXP1), 64 - 31) * inverse(KV_XXP2);
    memcpy(room, &mark, 8);
    memcpy(room + 8, &x, 8);
    struct kv_key key = kv_key_make(h, room, 16, false);
    CHECK(key.hash == hash);
    return key;
}

/* Bytes 0-7: id and stamp as far as there is room; the rest follows from them and the length. */
void item_bytes_of(uint32_t id, uint32_t stamp, unsigned char *to, uint64_t len) {
    uint64_t word = (uint64_t)stamp << 32 | id, at = 0;
    for (; at + 8 <= len; at += 8) {
        memcpy(to + at, &word, 8);
        if (at == 0)
            word ^= len * 0x9E3779B97F4A7C15ULL;
        word = word * 0xD6E8FEB86659FD93ULL + 1;
    }
    for (; at < len; at++, word >>= 8)
        to[at] = (unsigned char)word;
}

const char *item_wrong(uint32_t id, const unsigned char *bytes, uint64_t len, uint32_t *stamp) {
    static __thread unsigned char *want;
    uint32_t seen_id = id;
    *stamp = 0;
    if (want == NULL)
        want = malloc(KV_ITEM_TEST_MAX);
    if (want == NULL || len > KV_ITEM_TEST_MAX)
        return "its length";
    if (len >= 8) {
        memcpy(&seen_id, bytes, 4);
        memcpy(stamp, bytes + 4, 4);
    }
    if (seen_id != id)
        return "its id";
    if (len < 8)
        return NULL;
    item_bytes_of(id, *stamp, want, len);
    return memcmp(want, bytes, len) == 0 ? NULL : "its bytes";
}

static unsigned char *value_room(void) {
    static __thread unsigned char *room;
    if (room == NULL)
        room = malloc(KV_ITEM_TEST_MAX);
    CHECK(room != NULL);
    return room;
}

kv_status item_put(struct kv_handle *h, uint32_t id, uint32_t stamp, uint64_t len,
                   uint64_t deadline_ms, enum kv_put mode) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_value value = {.type = KV_TYPE_BYTES, .data = value_room(), .len = len};
    item_bytes_of(id, stamp, value_room(), len);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_put(&op, &key, &value, deadline_ms, mode, NULL);
    store_leave(&op);
    return s;
}

kv_status item_set(struct kv_handle *h, uint32_t id, uint32_t stamp, uint64_t len) {
    return item_put(h, id, stamp, len, 0, KV_PUT_SET);
}

static void *give_room(void *arg, const struct kv_meta *meta) {
    (void)arg;
    CHECK(meta->value_len <= KV_ITEM_TEST_MAX);
    return value_room();
}

kv_status item_get(struct kv_handle *h, uint32_t id, uint32_t *stamp, uint64_t *len) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_meta meta;
    struct kv_op op = kv_op_make(h);
    uint32_t seen;
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_get(&op, &key, &meta, give_room, NULL);
    store_leave(&op);
    if (s != KV_OK)
        return s;
    const char *wrong =
        meta.type != KV_TYPE_BYTES ? NULL : item_wrong(id, value_room(), meta.value_len, &seen);
    if (wrong != NULL)
        kv_test_fail(__FILE__, __LINE__, "item %u of %" PRIu64 " B: %s is wrong", id,
                     meta.value_len, wrong);
    if (stamp != NULL)
        *stamp = seen;
    if (len != NULL)
        *len = meta.value_len;
    return KV_OK;
}

kv_status item_delete(struct kv_handle *h, uint32_t id) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_delete(&op, &key, NULL);
    store_leave(&op);
    return s;
}

kv_status item_incr(struct kv_handle *h, uint32_t id, int64_t delta, int64_t initial,
                    int64_t *result) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_incr(&op, &key, delta, &initial, 0, result);
    store_leave(&op);
    return s;
}

kv_status item_touch(struct kv_handle *h, uint32_t id, uint64_t deadline_ms) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_touch(&op, &key, deadline_ms);
    store_leave(&op);
    return s;
}

kv_status item_append(struct kv_handle *h, uint32_t id, const void *tail, uint64_t len,
                      uint64_t *now) {
    unsigned char room[32];
    struct kv_key key = item_key_of(h, id, room);
    struct kv_op op = kv_op_make(h);
    kv_status s = store_enter(&op);
    if (s == KV_OK)
        s = store_append(&op, &key, KV_TYPE_BYTES, tail, len, now);
    store_leave(&op);
    return s;
}
