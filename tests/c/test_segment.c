/* test_segment.c: creation, refusal, backing, geometry, the hash.
 *
 * A creator is killed at each fault point by a real SIGKILL, and whoever opens next finishes its
 * work. Whatever is not exactly a segment of ours is refused with the right status, and not one
 * byte of it changes. A file system that is full is a small tmpfs of the test's own; where none can
 * be mounted the test says so. What threads of a process tell each other about the watermark comes
 * at the worst moments: at a fault point, and from a stand-in for fstat. Needs KV_FAULT=1. */
#include "kv_test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static struct kv_config config_small(void) {
    return world_config(2 * MIB, 4 * MIB, KV_OPT_EVICT, 2);
}

/* ---- the hash ----------------------------------------------------------------------------- */

/* Of the bytes i * 37 + 11, by the reference implementation (xxhash 3, xxh64). */
static const struct {
    uint32_t len;
    uint64_t plain, seeded;
} vectors[] = {
    {0, 0xef46db3751d8e999ULL, 0xc4349fc93c010000ULL},
    {1, 0xf592c0c7639c4cb6ULL, 0x3f7ebbd0a20f83ccULL},
    {2, 0x78f1ae91e3b05e99ULL, 0x144ecee310174470ULL},
    {3, 0x22c08528601d4f27ULL, 0xb829b5fbba7f12fbULL},
    {4, 0xfb1e5cf2f1ae4d95ULL, 0x4d32e4c842c6371eULL},
    {5, 0x9d213eca1f68f273ULL, 0x5e7cc3492db5a387ULL},
    {7, 0x5613ac510496c04eULL, 0x566314bf1bda8aabULL},
    {8, 0x57cb2b7521f3e21aULL, 0x696e1fe0e0df37f4ULL},
    {11, 0x1bef4539443a2d5aULL, 0x5ec5378df48b586bULL},
    {12, 0x2f53b00266039e64ULL, 0x2d0207f88149b069ULL},
    {15, 0x90a9714eb00e8d29ULL, 0x17069dd519d90d9dULL},
    {16, 0xc6843cef99721174ULL, 0x223fc12e174c04d1ULL},
    {23, 0x5e6a1fe05d7c06f8ULL, 0xd35cd461e8dc01e4ULL},
    {31, 0xe4a0e629e519a4aeULL, 0xa348b910bc65b7bdULL},
    {32, 0xcc6b8aaada790b2dULL, 0x41c2eada450d18f0ULL},
    {33, 0x35ec49850475a832ULL, 0xb6f8c0b76af8f9daULL},
    {63, 0xbf9f0ba3cf95b28aULL, 0xdcfe31720304f52bULL},
    {64, 0x155ccce4bf32befcULL, 0x4779d2a26a5085a9ULL},
    {100, 0x4826e367566ea023ULL, 0xe38491a6daeb0e8aULL},
    {199, 0xc2f64bc669817a94ULL, 0x8874a4fdd442c5e5ULL},
};

static void test_hash(void) {
    unsigned char bytes[200 + 8];
    CHECK(kv_hash("a", 1, 0) == 0xd24ec4f1a98c6e5bULL);
    CHECK(kv_hash("abc", 3, 0) == 0x44bc2cf5ad770999ULL);
    for (unsigned shift = 0; shift < 8; shift++) { /* no alignment is asked for */
        for (unsigned i = 0; i < 200; i++)
            bytes[shift + i] = (unsigned char)(i * 37 + 11);
        for (unsigned i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
            CHECK(kv_hash(bytes + shift, vectors[i].len, 0) == vectors[i].plain);
            CHECK(kv_hash(bytes + shift, vectors[i].len, 0x9E3779B97F4A7C15ULL) ==
                  vectors[i].seeded);
        }
    }
}

/* ---- geometry ----------------------------------------------------------------------------- */

static void regions_apart(const struct kv_geometry *g) {
    CHECK_EQ(g->off_rows, KV_HEADER_BYTES);
    CHECK(g->off_stripes >= g->off_rows + (uint64_t)g->rows * sizeof(struct kv_row));
    CHECK(g->off_dirs >= g->off_stripes + (uint64_t)g->stripes * sizeof(struct kv_stripe));
    CHECK(g->off_pages >= g->off_dirs + ((uint64_t)g->stripes << g->dir_bits) * 4);
    CHECK(g->off_arena >= g->off_pages + (uint64_t)g->bases_max * sizeof(struct kv_page));
    CHECK(g->off_arena + ((uint64_t)g->bases_max << g->base_shift) <= g->max_size);
    CHECK(g->off_arena + ((uint64_t)g->bases << g->base_shift) <= g->size);
    CHECK((g->off_rows | g->off_stripes | g->off_dirs | g->off_pages) % KV_LINE == 0);
    CHECK(g->off_arena % KV_INDEX_BYTES == 0 && g->off_arena % (1ULL << g->base_shift) == 0);
}

static void geometry_sound(const struct kv_config *c) {
    struct kv_geometry g;
    (void)snprintf(kv_test_where, sizeof kv_test_where, "size %" PRIu64 " of %" PRIu64, c->size,
                   c->max_size);
    CHECK(kv_geometry_make(c, &g));
    regions_apart(&g);
    CHECK(g.stripes >= 8 && g.stripes <= KV_STRIPES_MAX && (g.stripes & (g.stripes - 1)) == 0);
    CHECK(UINT64_MAX >> g.stripe_shift == g.stripes - 1); /* every stripe, none beyond */
    CHECK(g.dir_bits >= 1 && g.dir_bits <= 16);
    CHECK(g.rows >= 64 && g.rows <= 256);
    CHECK(g.base_shift >= 14 && g.base_shift <= 16);
    CHECK(g.index_per_base << 12 == 1ULL << g.base_shift && g.index_per_base <= KV_INDEX_PER_BASE);
    CHECK(g.std_run >= 1 && g.std_run <= 16 && g.log_run_max >= g.std_run && g.log_run_max <= 16);
    CHECK(g.appenders == c->appenders && g.appenders < KV_APPENDERS);
    CHECK(g.cleaners >= 2 && g.cleaners <= KV_CLEANERS);
    CHECK(g.zone * g.index_per_base >= g.stripes && g.zone < g.bases);
    CHECK(2 * g.cleaners * g.std_run < g.bases / 4);    /* withheld: little */
    CHECK(g.off_arena * 20 < c->max_size + 20 * 65536); /* what is not arena: little */
    uint64_t last = g.off_arena + ((uint64_t)g.bases_max << g.base_shift);
    CHECK((last - 1) / KV_GRANULE <= UINT32_MAX);         /* every item has a ref */
    CHECK((last - 1) / KV_INDEX_BYTES <= KV_DIR_SEGMENT); /* every segment a number */
    CHECK(g.bases_max <= KV_RUN_MAX);
    CHECK(g.bases == kv_geometry_bases(&g, c->size));
    CHECK(g.bases_max == kv_geometry_bases(&g, c->max_size));
    CHECK(kv_geometry_bases(&g, g.off_arena) == 0);
    CHECK((16u << g.base_shift) / KV_GRANULE <= UINT16_MAX + 1u); /* the expiry histogram */
}

static void test_geometry(void) {
    struct chance c = chance_make(11);
    for (uint64_t size = KV_SIZE_MIN; size <= KV_SIZE_MAX; size += kv_round_up(size / 29, 4096))
        for (uint64_t factor = 1; factor <= 4; factor += 3) {
            uint64_t most = size * factor < KV_SIZE_MAX ? size * factor : KV_SIZE_MAX;
            struct kv_config config = world_config(size, most, 0, 1 + chance_below(&c, 8));
            geometry_sound(&config);
        }
    for (uint64_t i = 0; i < scaled(5000); i++) {
        uint64_t size =
            KV_SIZE_MIN + (chance_next(&c) >> (28 + chance_below(&c, 16))) / 4096 * 4096;
        if (size > KV_SIZE_MAX)
            continue;
        uint64_t most = size * (1 + chance_below(&c, 4));
        struct kv_config config = world_config(size, most < KV_SIZE_MAX ? most : KV_SIZE_MAX, 0, 2);
        geometry_sound(&config);
    }
}

static void test_geometry_refused(void) {
    struct kv_geometry g;
    const struct kv_config bad[] = {
        world_config(KV_SIZE_MIN - 4096, 4 * MIB, 0, 2),
        world_config(4 * MIB, 2 * MIB, 0, 2),
        world_config(GIB, KV_SIZE_MAX + 4096, 0, 2),
        world_config(4 * MIB + 1, 8 * MIB, 0, 2),
        world_config(4 * MIB, 8 * MIB + 512, 0, 2),
        world_config(4 * MIB, 8 * MIB, 0, 0),
        world_config(4 * MIB, 8 * MIB, 0, 9),
        world_config(0, 0, 0, 2),
        world_config(2 * MIB, 64 * GIB, 0, 2), /* the page table alone is larger than `size` */
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!kv_geometry_make(&bad[i], &g));
}

/* ---- creation ----------------------------------------------------------------------------- */

static kv_status attach(const char *name, const struct kv_config *config, struct kv_handle **h,
                        bool *created) {
    struct kv_found found;
    *h = NULL;
    return world_attach(name, config, false, h, created, &found);
}

/* It works, and goes. */
static void works(struct kv_handle *h) {
    for (uint32_t i = 0; i < 200; i++)
        OK(item_set(h, i, 1, 300));
    for (uint32_t i = 0; i < 200; i++)
        OK(item_get(h, i, NULL, NULL));
    (void)world_check(h);
    store_detach(h);
}

/* A child that creates, and is killed (stopped) at its n-th fault point. */
static pid_t creator(const char *name, uint64_t n, int action) {
    pid_t child = fork();
    if (child != 0)
        return child;
    struct kv_config config = config_small();
    struct kv_handle *h;
    bool created;
    kv_fault_arm(n, action);
    OK(attach(name, &config, &h, &created));
    kv_fault_arm(0, 0);
    _exit(created ? 0 : 1);
}

struct bytes {
    unsigned char *data;
    uint64_t len;
};

static struct bytes bytes_of(int fd) {
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    struct bytes b = {malloc((size_t)st.st_size + 1), (uint64_t)st.st_size};
    CHECK(b.data != NULL);
    CHECK_EQ(pread(fd, b.data, b.len, 0), b.len);
    return b;
}

static void unchanged(int fd, struct bytes *before) {
    struct bytes now = bytes_of(fd);
    CHECK_EQ(now.len, before->len);
    CHECK(memcmp(now.data, before->data, now.len) == 0);
    free(now.data);
    free(before->data);
}

/* The creator was killed at its n-th point: without a config nothing is touched; then finished. */
static void finish_after_death(uint64_t n, const char *name) {
    struct kv_config config = config_small();
    struct kv_handle *h;
    bool created;
    int fd = shm_open(name, O_RDWR, 0600);
    CHECK(fd >= 0);
    struct bytes before = bytes_of(fd);
    uint64_t magic = 0;
    bool whole = before.len >= 8 && (memcpy(&magic, before.data, 8), magic == KV_MAGIC);
    if (!whole) {
        CHECK_EQ(magic, 0);
        CHECK_STATUS(attach(name, NULL, &h, &created), KV_HALFMADE);
        CHECK(h == NULL);
        unchanged(fd, &before);
    } else {
        free(before.data);
    }
    (void)close(fd);
    (void)snprintf(kv_test_where, sizeof kv_test_where, "point %" PRIu64 ", %s magic", n,
                   whole ? "with" : "no");
    OK(attach(name, &config, &h, &created));
    CHECK_EQ(created, !whole);
    works(h);
    OK(attach(name, NULL, &h, &created)); /* what it stored is there for the next */
    CHECK(!created);
    OK(item_get(h, 7, NULL, NULL));
    store_detach(h);
    CHECK_EQ(shm_unlink(name), 0);
}

static void test_creator_killed(void) {
    uint64_t n = 1;
    for (;; n++) {
        const char *name = world_name();
        int status;
        pid_t child = creator(name, n, KV_FAULT_KILL);
        CHECK_EQ(waitpid(child, &status, 0), child);
        if (WIFEXITED(status)) {
            CHECK_EQ(WEXITSTATUS(status), 0);
            CHECK_EQ(shm_unlink(name), 0);
            break;
        }
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        finish_after_death(n, name);
    }
    CHECK(n > 20); /* every point of it was met */
}

/* A creator that is stopped is waited for, and no longer than asked; a dead one not at all. */
static void test_creator_stopped(void) {
    for (uint64_t n = 1; n <= 5; n++) { /* holding the creation byte, before the magic */
        const char *name = world_name();
        struct kv_config config = config_small();
        struct kv_handle *h = NULL;
        struct kv_found found;
        bool created;
        int status, fd;
        pid_t child = creator(name, n, KV_FAULT_STOP);
        CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
        CHECK(WIFSTOPPED(status));
        fd = shm_open(name, O_RDWR, 0600);
        CHECK(fd >= 0);
        struct bytes before = bytes_of(fd);
        struct kv_open how = {.fd = shm_open(name, O_RDWR, 0600),
                              .name = name,
                              .config = &config,
                              .timeout_ns = 20000000};
        CHECK_STATUS(store_attach(&how, &h, &created, &found), KV_BUSY);
        how =
            (struct kv_open){.fd = shm_open(name, O_RDONLY, 0600), .name = name, .readonly = true};
        CHECK_STATUS(store_attach(&how, &h, &created, &found), KV_HALFMADE);
        unchanged(fd, &before);
        (void)close(fd);
        CHECK_EQ(kill(child, SIGKILL), 0);
        CHECK_EQ(waitpid(child, &status, 0), child);
        finish_after_death(n, name);
    }
}

/* Many create at once: one does, all attach. */
static void test_creators_race(void) {
    for (uint64_t round = 0; round < scaled(4); round++) {
        const char *name = world_name();
        pid_t child[4];
        unsigned makers = 0;
        for (unsigned i = 0; i < 4; i++)
            child[i] = creator(name, 0, 0);
        for (unsigned i = 0; i < 4; i++) {
            int status;
            CHECK_EQ(waitpid(child[i], &status, 0), child[i]);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
            makers += WEXITSTATUS(status) == 0;
        }
        CHECK_EQ(makers, 1);
        CHECK_EQ(shm_unlink(name), 0);
    }
}

/* ---- refusal ------------------------------------------------------------------------------ */

/* One change to a good segment, and what is said of it. */
struct damage {
    const char *what;
    size_t at, width;
    uint64_t value;
    kv_status status;
};
#define FIELD(name, number, said)                                                                  \
    {#name " = " #number, offsetof(struct kv_header, name), sizeof(((struct kv_header *)0)->name), \
     (number), (said)}

static const struct damage damages[] = {
    FIELD(magic, 1, KV_CORRUPT),
    FIELD(magic, KV_MAGIC ^ (1ULL << 56), KV_CORRUPT),
    FIELD(layout_version, 0, KV_VERSION),
    FIELD(layout_version, KV_LAYOUT_VERSION + 1, KV_VERSION),
    FIELD(fingerprint, 0, KV_STRANGER),
    FIELD(fingerprint, 0xFFFFFFFF, KV_STRANGER),
    FIELD(config.size, 0, KV_CORRUPT),
    FIELD(config.size, UINT64_MAX, KV_CORRUPT),
    FIELD(config.size, 2 * MIB + 8, KV_CORRUPT),
    FIELD(config.size, 8 * MIB, KV_CORRUPT),
    FIELD(config.size, 3 * MIB, KV_CORRUPT),
    FIELD(config.max_size, 0, KV_CORRUPT),
    FIELD(config.max_size, 8 * MIB, KV_CORRUPT),
    FIELD(config.max_size, UINT64_MAX, KV_CORRUPT),
    FIELD(config.options, 2, KV_CORRUPT),
    FIELD(config.options, UINT32_MAX, KV_CORRUPT),
    FIELD(config.options, KV_OPT_ALWAYS, KV_CORRUPT),
    FIELD(config.appenders, 0, KV_CORRUPT),
    FIELD(config.appenders, 9, KV_CORRUPT),
    FIELD(size, 0, KV_CORRUPT),
    FIELD(size, 4 * MIB + 4096, KV_CORRUPT),
    FIELD(watermark, 0, KV_CORRUPT),
    FIELD(watermark, 4096, KV_CORRUPT),
    FIELD(watermark, 4 * MIB + 1, KV_CORRUPT),
    FIELD(watermark, UINT64_MAX, KV_CORRUPT),
};

/* Every way of opening says the same, and leaves every byte. */
static void refused(const char *name, int fd, kv_status want) {
    struct kv_config config = config_small();
    for (unsigned way = 0; way < 3; way++) {
        struct kv_handle *h = NULL;
        struct kv_found found;
        bool created = true;
        struct bytes before = bytes_of(fd);
        kv_status s = world_attach(name, way == 1 ? &config : NULL, way == 2, &h, &created, &found);
        CHECK_STATUS(s, want);
        CHECK(h == NULL && !created);
        CHECK_EQ(found.file_bytes, before.len);
        unchanged(fd, &before);
    }
}

static int good_segment(const char **name) {
    struct kv_config config = config_small();
    struct kv_handle *h;
    bool created;
    *name = world_name();
    OK(attach(*name, &config, &h, &created));
    works(h);
    int fd = shm_open(*name, O_RDWR, 0600);
    CHECK(fd >= 0);
    return fd;
}

static void test_damaged_header(void) {
    const char *name;
    int fd = good_segment(&name);
    for (unsigned i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        const struct damage *d = &damages[i];
        uint64_t good = 0;
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%s", d->what);
        CHECK_EQ(pread(fd, &good, d->width, (off_t)d->at), d->width);
        CHECK_EQ(pwrite(fd, &d->value, d->width, (off_t)d->at), d->width);
        refused(name, fd, d->status);
        CHECK_EQ(pwrite(fd, &good, d->width, (off_t)d->at), d->width);
    }
    struct kv_handle *h;
    bool created;
    OK(attach(name, NULL, &h, &created)); /* and put right it is good again */
    works(h);
    (void)close(fd);
    CHECK_EQ(shm_unlink(name), 0);
}

static void test_found_tells(void) {
    const char *name;
    int fd = good_segment(&name);
    uint32_t other = 77;
    struct kv_handle *h = NULL;
    struct kv_found found;
    bool created;
    CHECK_EQ(pwrite(fd, &other, 4, offsetof(struct kv_header, fingerprint)), 4);
    CHECK_STATUS(world_attach(name, NULL, false, &h, &created, &found), KV_STRANGER);
    CHECK_EQ(found.fingerprint, 77);
    CHECK_EQ(found.layout_version, KV_LAYOUT_VERSION);
    CHECK_EQ(pwrite(fd, &other, 4, offsetof(struct kv_header, layout_version)), 4);
    CHECK_STATUS(world_attach(name, NULL, false, &h, &created, &found), KV_VERSION);
    CHECK_EQ(found.layout_version, 77);
    (void)close(fd);
    CHECK_EQ(shm_unlink(name), 0);
}

/* Another length than the header says, shorter or longer. */
static void test_wrong_length(void) {
    static const uint64_t lengths[] = {8,       4096,        100000,        2 * MIB,
                                       3 * MIB, 4 * MIB - 1, 4 * MIB + 4096};
    for (unsigned i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const char *name;
        int fd = good_segment(&name);
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%" PRIu64 " bytes", lengths[i]);
        CHECK_EQ(ftruncate(fd, (off_t)lengths[i]), 0);
        refused(name, fd, KV_CORRUPT);
        (void)close(fd);
        CHECK_EQ(shm_unlink(name), 0);
    }
}

/* A file of someone else's. */
static void test_foreign_file(void) {
    const char *name = world_name();
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, 3 * (off_t)MIB), 0);
    for (unsigned i = 0; i < 3000; i++)
        CHECK_EQ(pwrite(fd, "somebody's bytes", 16, (off_t)i * 1000), 16);
    refused(name, fd, KV_CORRUPT);
    (void)close(fd);
    CHECK_EQ(shm_unlink(name), 0);
}

/* The name goes between opening and attaching. */
static void test_gone(void) {
    const char *name;
    int fd = good_segment(&name);
    struct kv_handle *h = NULL;
    struct kv_found found;
    bool created;
    struct kv_config config = config_small();
    CHECK_EQ(shm_unlink(name), 0);
    struct kv_open how = {.fd = fd, .name = name, .timeout_ns = 1000000};
    CHECK_STATUS(store_attach(&how, &h, &created, &found), KV_GONE);
    how = (struct kv_open){.fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600),
                           .name = name,
                           .config = &config,
                           .timeout_ns = 1000000};
    CHECK_EQ(shm_unlink(name), 0); /* before anything was made */
    CHECK_STATUS(store_attach(&how, &h, &created, &found), KV_GONE);
    CHECK(h == NULL && fcntl(how.fd, F_GETFD) < 0); /* closed whatever happens */
}

/* Readers map what they may only read, and need no row. */
static void test_readonly(void) {
    const char *name;
    int fd = good_segment(&name);
    struct kv_handle *h;
    struct kv_found found;
    bool created;
    struct bytes before = bytes_of(fd);
    OK(world_attach(name, NULL, true, &h, &created, &found));
    CHECK_EQ(h->own->rows, 0);
    for (uint32_t i = 0; i < 200; i++)
        OK(item_get(h, i, NULL, NULL));
    CHECK_STATUS(item_set(h, 1, 1, 10), KV_READONLY);
    struct kv_report report = {.problem = NULL};
    struct kv_op op = kv_op_make(h);
    OK(store_check(&op, &report));
    CHECK(report.problems == 0 && report.items == 200);
    store_detach(h);
    unchanged(fd, &before);
    (void)close(fd);
    CHECK_EQ(shm_unlink(name), 0);
}

/* ---- a full file system ------------------------------------------------------------------- */

/* Creation that does not fit; then one that fits, and cannot grow to its size. */
static void in_small_tmpfs(const char *folder) {
    char path[128];
    struct kv_handle *h = NULL;
    struct kv_found found;
    bool created;
    for (uint64_t size = 64; size != 0; size = size == 64 ? 8 : 0) {
        struct kv_config config = world_config(size * MIB, 4 * size * MIB, 0, 2);
        (void)snprintf(path, sizeof path, "%s/of-%" PRIu64, folder, size);
        struct kv_open how = {.fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600),
                              .name = "/shmkv.none",
                              .config = &config,
                              .timeout_ns = 1000000};
        CHECK(how.fd >= 0);
        kv_status s = store_attach(&how, &h, &created, &found);
        if (size == 8)
            OK(s);
        else {
            CHECK_STATUS(s, KV_NOSPACE);
            CHECK(errno == ENOSPC && h == NULL);
            CHECK_EQ(unlink(path), 0);
        }
    }
    uint32_t head, taken = 0;
    kv_status s = KV_OK;
    while ((s = arena_take(&(struct kv_op){.h = h}, 1, 0, &head)) == KV_OK) {
        memset(h->base + base_offset(h, head), 1, 1u << h->g.base_shift); /* it is really there */
        taken++;
    }
    CHECK_STATUS(s, KV_NOPAGE);
    CHECK(taken > 10 && taken < arena_bases(h) - arena_withheld(h));
    CHECK(arena_usable(h) < arena_bases(h) && kv_header_of(h)->nospace > 0);
    uint64_t mark = segment_watermark(h);
    struct kv_op op = kv_op_make(h);
    CHECK_STATUS(segment_back(&op, mark + MIB), KV_NOSPACE);
    CHECK_EQ(op.err, ENOSPC);
    CHECK_EQ(segment_watermark(h), mark);
    OK(segment_back(&op, mark));
    CHECK_STATUS(segment_back(&op, h->g.max_size + 4096), KV_CORRUPT);
    store_detach(h);
}

static void test_no_space(void) { world_in_tmpfs("size=2m", in_small_tmpfs); }

/* ---- what threads of a process know of the watermark --------------------------------------- */

/* Another process, and another thread of this one: what they do between two steps of ours. */
static struct kv_handle *other_process, *shared;
static void (*between)(void); /* at the next fstat, by which a higher watermark is checked */

int fstat(int fd, struct stat *st) {
    void (*act)(void) = between;
    between = NULL;
    if (act != NULL)
        act();
    return fstatat(fd, "", st, AT_EMPTY_PATH);
}

static void raise_mark(struct kv_handle *h) {
    struct kv_op op = kv_op_make(h);
    OK(segment_back(&op, kv_header_of(h)->watermark + MIB));
}

static void thread_raises(void) { raise_mark(shared); }

/* Where our compare-and-swap of the watermark is next: it comes too late. Then a thread of ours
 * goes on from there, and what it stores in the handle is there before we look at what we lost to.
 */
static void overtake(const char *name, void *arg) {
    if (strcmp(name, "segment_allocated") != 0)
        return;
    kv_fault_arm(0, 0);
    kv_fault_hook(NULL, NULL);
    raise_mark(other_process);
    *(uint64_t *)arg = kv_header_of(shared)->watermark + MIB;
    kv_store_rlx(&shared->backed, *(uint64_t *)arg);
}

static void test_threads_learn(void) {
    shared = world_open(32 * MIB, 0);
    other_process = world_twin(shared);
    raise_mark(other_process);
    uint64_t mark = kv_header_of(shared)->watermark, promised = 0;
    between = thread_raises;
    uint64_t known = segment_watermark(shared);
    if (between == NULL)
        CHECK(known > mark); /* what the thread found out is not forgotten */
    else
        kv_test_not_run("nothing can stand in for fstat of this C library");
    between = NULL;
    struct kv_op op = kv_op_make(shared);
    mark = segment_watermark(shared);
    kv_fault_hook(overtake, &promised);
    kv_fault_arm(0, KV_FAULT_CALL);
    OK(segment_back(&op, mark + 4096)); /* nor taken for damage */
    CHECK(promised > mark);
    raise_mark(other_process);
    CHECK(kv_header_of(shared)->watermark >= promised);
    store_detach(other_process);
    store_detach(shared);
}

static const struct kv_test tests[] = {
    {"segment_hash", test_hash},
    {"segment_geometry", test_geometry},
    {"segment_geometry_refused", test_geometry_refused},
    {"segment_creator_killed", test_creator_killed},
    {"segment_creator_stopped", test_creator_stopped},
    {"segment_creators_race", test_creators_race},
    {"segment_damaged_header", test_damaged_header},
    {"segment_found_tells", test_found_tells},
    {"segment_wrong_length", test_wrong_length},
    {"segment_foreign_file", test_foreign_file},
    {"segment_gone", test_gone},
    {"segment_readonly", test_readonly},
    {"segment_no_space", test_no_space},
    {"segment_threads_learn", test_threads_learn},
};
KV_TEST_MAIN(tests)
