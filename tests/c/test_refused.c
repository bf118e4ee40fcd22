/* test_refused.c: a system that says no, and descriptors that a program takes away.
 *
 * Calls of the C library have stand-ins here, which make the n-th call of a kind fail, once or from
 * then on, n = 1, 2, 3 ... until an act has no such call left. An act must end with a status that
 * says so, hold nothing, and work when it is asked again. A call that may be repeated (EINTR) must
 * be. Not under sanitizers: they have stand-ins of their own. */
#include "acts.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct kv_handle *h;

static void begin(void) { h = acts_begin(); }

static void end(void) { acts_end(h); }

/* ---- a system that says no ---------------------------------------------------------------- */

enum call { NONE, FCNTL, FSTAT, STAT, OPEN, FOPEN, PREAD, FTRUNCATE, FALLOCATE, MMAP, MADVISE,
            CALLOC, REALLOC, CALLS };
static const char *const call_names[CALLS] = {"none",      "fcntl",     "fstat",  "stat",
                                              "open",      "fopen",     "pread",  "ftruncate",
                                              "fallocate", "mmap",      "madvise", "calloc",
                                              "realloc"};
static struct {
    enum call call;
    uint32_t nth, seen;
    int error;
    bool forever;
} no;

static char nonsense[] = ") x";

static bool fails(enum call call) {
    if (no.call != call)
        return false;
    no.seen++;
    if (no.seen != no.nth && !(no.forever && no.seen > no.nth))
        return false;
    errno = no.error;
    return true;
}

#define REAL(f) ((__typeof__(&f))(uintptr_t)dlsym(RTLD_NEXT, #f))

int fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *arg = va_arg(more, void *);
    va_end(more);
    return fails(FCNTL) ? -1 : REAL(fcntl)(fd, command, arg);
}
int fstat(int fd, struct stat *st) { return fails(FSTAT) ? -1 : REAL(fstat)(fd, st); }
int stat(const char *path, struct stat *st) { return fails(STAT) ? -1 : REAL(stat)(path, st); }
int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return fails(OPEN) ? -1 : REAL(open)(path, flags, mode);
}
FILE *fopen(const char *path, const char *how) {
    if (!fails(FOPEN))
        return REAL(fopen)(path, how);
    if (no.error == 0) /* no error: a file of nothing, or of nonsense */
        return no.forever ? fmemopen(nonsense, 3, "r") : REAL(fopen)("/dev/null", how);
    return NULL;
}
ssize_t pread(int fd, void *to, size_t n, off_t at) {
    return fails(PREAD) ? -1 : REAL(pread)(fd, to, n, at);
}
int ftruncate(int fd, off_t length) {
    return fails(FTRUNCATE) ? -1 : REAL(ftruncate)(fd, length);
}
int posix_fallocate(int fd, off_t from, off_t length) {
    return fails(FALLOCATE) ? no.error : REAL(posix_fallocate)(fd, from, length);
}
void *mmap(void *at, size_t n, int rights, int flags, int fd, off_t from) {
    return fails(MMAP) ? MAP_FAILED : REAL(mmap)(at, n, rights, flags, fd, from);
}
int madvise(void *at, size_t n, int what) {
    return fails(MADVISE) ? -1 : REAL(madvise)(at, n, what);
}

extern void *__libc_calloc(size_t n, size_t of);
extern void *__libc_realloc(void *p, size_t n);
void *calloc(size_t n, size_t of) { return fails(CALLOC) ? NULL : __libc_calloc(n, of); }
void *realloc(void *p, size_t n) { return fails(REALLOC) ? NULL : __libc_realloc(p, n); }

/* ---- acts that ask the system for something ----------------------------------------------- */

static const char *name;
static struct kv_config config;

static kv_status opens(bool creates, bool readonly) {
    struct kv_handle *got = NULL;
    struct kv_found found;
    bool created;
    int fd = shm_open(name, readonly ? O_RDONLY : O_RDWR | (creates ? O_CREAT : 0), 0600);
    CHECK(fd >= 0);
    struct kv_open how = {.fd = fd,
                          .name = name,
                          .config = creates ? &config : NULL,
                          .readonly = readonly,
                          .timeout_ns = 20000000};
    kv_status s = store_attach(&how, &got, &created, &found);
    enum call call = no.call;
    no.call = NONE;
    if (s == KV_OK) {
        OK(item_get(got, VICTIM, NULL, NULL) == KV_CORRUPT ? KV_CORRUPT : KV_OK);
        store_detach(got);
    }
    no.call = call;
    return s;
}

static kv_status creating(void) {
    enum call call = no.call;
    no.call = NONE;
    (void)shm_unlink(name);
    no.call = call;
    return opens(true, false);
}
static kv_status attaching(void) { return opens(false, false); }
static kv_status reading(void) { return opens(false, true); }
static kv_status twins(void) {
    struct kv_handle *twin = NULL;
    kv_status s = segment_twin(h, &twin);
    if (s == KV_OK)
        segment_close(twin);
    return s;
}
static kv_status compacting(void) {
    struct kv_op op = kv_op_make(h);
    uint32_t freed;
    kv_status s = evict_compact(&op, &freed);
    store_leave(&op);
    return s;
}
static kv_status making_room(void) {
    struct kv_op op = kv_op_make(h);
    kv_status s = evict_make_room(&op, 200000);
    evict_end(&op);
    store_leave(&op);
    return s;
}
static kv_status making_index(void) {
    struct kv_op op = kv_op_make(h);
    kv_status s = evict_make_index(&op);
    store_leave(&op);
    return s == KV_FULL ? KV_OK : s;
}
static kv_status tidying(void) {
    struct kv_op op = kv_op_make(h);
    kv_status s = evict_tidy(&op);
    store_leave(&op);
    return s;
}
static kv_status checking(void) {
    struct kv_report report = {.problem = NULL};
    struct kv_op op = kv_op_make(h);
    kv_status s = store_check(&op, &report);
    CHECK_EQ(report.problems, 0);
    return s;
}
static kv_status scanning(void) { return do_scan(h); }

/* A fresh store, most of which has no memory yet. */
static kv_status in_bare(kv_status (*act)(struct kv_handle *, struct kv_op *, uint32_t)) {
    enum call call = no.call;
    no.call = NONE;
    struct kv_handle *bare = world_open(16 << 20, KV_OPT_EVICT);
    struct kv_op op = kv_op_make(bare);
    uint32_t beyond = kv_geometry_bases(&bare->g, segment_watermark(bare));
    no.call = call;
    kv_status s = act(bare, &op, beyond);
    no.call = NONE;
    (void)world_check(bare);
    store_detach(bare);
    no.call = call;
    return s;
}
static kv_status grow(struct kv_handle *bare, struct kv_op *op, uint32_t beyond) {
    return segment_back(op, base_offset(bare, beyond + 3));
}
static kv_status fill(struct kv_handle *bare, struct kv_op *op, uint32_t beyond) {
    bare->held = true;
    kv_status s = grow(bare, op, beyond);
    bare->held = false;
    CHECK(no.call != MADVISE || s == KV_OK); /* there is another way */
    return s;
}
static kv_status claim(struct kv_handle *bare, struct kv_op *op, uint32_t beyond) {
    kv_status s = arena_take_base(op, beyond);
    if (s == KV_OK)
        arena_give(bare, beyond, kv_number(bare));
    return s;
}
static kv_status extend(struct kv_handle *bare, struct kv_op *op, uint32_t beyond) {
    uint32_t head;
    kv_header_of(bare)->take_hint = beyond;
    kv_status s = arena_take(op, 3, 0, &head);
    if (s == KV_OK)
        arena_give(bare, head, kv_number(bare));
    return s;
}
static kv_status growing(void) { return in_bare(grow); }
static kv_status filling(void) { return in_bare(fill); }
static kv_status claiming(void) { return in_bare(claim); }
static kv_status extending(void) { return in_bare(extend); }

/* The lock of somebody who died: asking for proof is a call, too. */
static kv_status taking_over(void) {
    enum call call = no.call;
    no.call = NONE;
    struct kv_handle *twin = world_twin(h);
    struct kv_op op = kv_op_make(twin);
    unsigned char room[32];
    OK(table_lock(&op, stripe_of(h, item_key_of(h, VICTIM, room).home)));
    world_abandon(twin);
    no.call = call;
    h->lock_timeout_ns = 3000000;
    kv_status s = item_set(h, VICTIM, 1, 100);
    h->lock_timeout_ns = 5000000000u;
    no.call = NONE;
    OK(item_set(h, VICTIM, 1, 100));
    return s;
}

/* A fork child's first operation; what it says is its exit code. */
static kv_status adopting(void) {
    uint32_t seen = no.seen;
    fflush(NULL);
    int told[2], status;
    CHECK_EQ(pipe(told), 0);
    pid_t child = fork();
    if (child == 0) {
        kv_status s = item_get(h, VICTIM, NULL, NULL);
        no.call = NONE;
        CHECK_EQ(write(told[1], &no.seen, sizeof no.seen), sizeof no.seen);
        if (s != KV_OK) { /* and again, now that nothing fails */
            kv_status again = item_get(h, VICTIM, NULL, NULL);
            CHECK(again == KV_OK || again == KV_OS);
        }
        _exit((int)s);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(read(told[0], &seen, sizeof seen), sizeof seen);
    (void)close(told[0]);
    (void)close(told[1]);
    no.seen = seen;
    return (kv_status)WEXITSTATUS(status);
}

struct asking {
    const char *name;
    kv_status (*run)(void);
};
static const struct asking askings[] = {
    {"creating", creating},       {"attaching", attaching}, {"reading", reading},
    {"twins", twins},             {"compacting", compacting}, {"making room", making_room},
    {"making index", making_index}, {"tidying", tidying},
    {"checking", checking}, {"scanning", scanning},
    {"growing", growing},         {"filling", filling},       {"claiming", claiming},
    {"extending", extending},     {"taking over", taking_over}, {"adopting", adopting},
};

static bool says_so(kv_status s) {
    return s == KV_OK || s == KV_OS || s == KV_NOMEM || s == KV_NOSPACE || s == KV_BUSY ||
           s == KV_HALFMADE;
}

/* false: the act has no n-th call of this kind. */
static bool refuse(const struct asking *a, enum call call, uint32_t nth, int error, bool forever) {
    (void)snprintf(kv_test_where, sizeof kv_test_where, "%s: %s number %u%s fails with %d", a->name,
                   call_names[call], nth, forever ? " and later" : "", error);
    no.call = call;
    no.nth = nth;
    no.seen = 0;
    no.error = error;
    no.forever = forever;
    kv_status s = a->run();
    bool hit = no.seen >= nth;
    no.call = NONE;
    bool no_row = s == KV_NOROWS && call == FCNTL && forever; /* none whose lock could be had */
    if (!says_so(s) && !no_row)
        kv_test_fail(__FILE__, __LINE__, "it says %s", kv_test_status(s));
    if (error == EINTR && !forever && call != OPEN && call != FOPEN && call != MMAP)
        CHECK(s == KV_OK || call == FSTAT || call == FTRUNCATE || call == MADVISE);
    OK(a->run());
    return hit;
}

static void test_calls_fail(void) {
    static const struct {
        enum call call;
        int errors[5];
    } kinds[] = {
        {FCNTL, {EINTR, EIO, EACCES}},  {FSTAT, {EIO, 0, 0}},         {STAT, {EACCES, 0, 0}},
        {OPEN, {EMFILE, 0, 0}},         {FOPEN, {EMFILE, -1, 0}},     {PREAD, {EINTR, EIO, 0}},
        {FTRUNCATE, {EIO, 0, 0}},       {FALLOCATE, {EINTR, ENOSPC, EIO, EFBIG, ENOMEM}},
        {MMAP, {ENOMEM, EPERM, 0}},     {MADVISE, {EINVAL, 0, 0}},    {CALLOC, {ENOMEM, 0, 0}},
        {REALLOC, {ENOMEM, 0, 0}},
    };
    begin();
    name = world_name();
    config = world_config(KV_SIZE_MIN, KV_SIZE_MIN, KV_OPT_EVICT, 2);
    uint32_t refused = 0;
    for (size_t i = 0; i < sizeof askings / sizeof askings[0]; i++) {
        OK(askings[i].run());
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
            for (unsigned e = 0; e < 5 && kinds[k].errors[e] != 0; e++)
                for (uint32_t way = 0; way < 2; way++) {
                    int error = kinds[k].errors[e] < 0 ? 0 : kinds[k].errors[e];
                    if (way == 1 && error == EINTR)
                        continue; /* an endless EINTR is no answer */
                    for (uint32_t n = 1; n < 30; n++, refused++)
                        if (!refuse(&askings[i], kinds[k].call, n, error, way == 1))
                            break;
                }
    }
    printf("   %u calls refused\n", refused);
    CHECK(refused > 100);
    kv_test_where[0] = 0;
    end();
}

/* The descriptor's number is another file's now: it proves nothing and is not closed. */
static void test_descriptor_taken_away(void) {
    begin();
    int kept = dup(h->fd), null = open("/dev/null", O_RDWR);
    CHECK(kept >= 0 && null >= 0);
    CHECK(lock_own_file(h));
    CHECK_EQ(dup2(null, h->fd), h->fd);
    CHECK(!lock_own_file(h));
    int other = shm_open(world_name(), O_RDWR | O_CREAT, 0600); /* same device, another file */
    CHECK_EQ(dup2(other, h->fd), h->fd);
    CHECK(!lock_own_file(h));
    h->backed = h->g.off_arena; /* the watermark counts all the same */
    CHECK(segment_watermark(h) > h->g.off_arena);
    CHECK_EQ(dup2(kept, h->fd), h->fd);
    CHECK(lock_own_file(h));
    (void)close(kept);
    (void)close(null);
    (void)close(other);
    end();
}

/* ---- descriptors that a program closes ---------------------------------------------------- */

static struct kv_handle *named_world(void) {
    struct kv_found found;
    struct kv_handle *made;
    bool created;
    name = world_name();
    config = world_config(KV_SIZE_MIN, KV_SIZE_MIN, KV_OPT_EVICT, 2);
    OK(world_attach(name, &config, false, &made, &created, &found));
    OK(item_set(made, VICTIM, 1, 100));
    made->lock_timeout_ns = 5000000;
    return made;
}

/* Somebody dies with the lock that `as` needs next: it wants proof of that. */
static kv_status needs_proof(struct kv_handle *as, struct kv_handle *of) {
    struct kv_handle *twin = world_twin(of);
    struct kv_op op = kv_op_make(twin);
    unsigned char room[32];
    uint32_t s = stripe_of(of, item_key_of(of, VICTIM, room).home);
    OK(table_lock(&op, s));
    world_abandon(twin);
    return item_set(as, VICTIM, 1, 100);
}

/* By name it is found again, as often as it takes; another file of that name is not it. */
static void test_descriptor_closed(void) {
    struct kv_found found;
    bool created;
    struct kv_handle *keeper = named_world(), *mine;
    OK(world_attach(name, NULL, false, &mine, &created, &found));
    for (unsigned i = 0; i < 6; i++) {
        CHECK_EQ(close(mine->fd), 0);
        int other = i % 2 == 0 ? open("/dev/null", O_RDWR) : -1; /* it may get the number */
        CHECK(row_alive(keeper, kv_number(mine)));
        OK(needs_proof(mine, keeper));
        CHECK(lock_own_file(mine));
        if (other >= 0 && other != mine->fd)
            (void)close(other);
    }
    for (unsigned way = 0; way < 2; way++) { /* no memory to hold it, or to keep it from children */
        CHECK_EQ(close(mine->fd), 0);
        mine->own->held[3] = NULL;
        no.call = way == 0 ? MMAP : MADVISE;
        no.error = ENOMEM;
        no.seen = 0;
        no.nth = 1;
        CHECK(!lock_regain(mine));
        no.call = NONE;
    }
    CHECK_EQ(close(mine->fd), 0);
    CHECK_EQ(shm_unlink(name), 0);
    mine->lock_timeout_ns = 5000000;
    CHECK_STATUS(needs_proof(mine, keeper), KV_BUSY); /* the name is gone: no proof, no robbery */
    OK(item_set(keeper, VICTIM, 1, 100));
    int other = shm_open(name, O_RDWR | O_CREAT, 0600);
    CHECK_STATUS(needs_proof(mine, keeper), KV_BUSY);
    OK(item_set(keeper, VICTIM, 1, 100));
    (void)close(other);
    store_detach(mine);
    (void)world_check(keeper);
    store_detach(keeper);
}

/* A fork child where descriptors are exhausted, or ours is not ours any more. */
static void test_child_without_descriptor(void) {
    for (unsigned way = 0; way < 4; way++) {
        struct kv_handle *maker = named_world(), *reader, *mine;
        struct kv_found found;
        bool created;
        OK(world_attach(name, NULL, true, &reader, &created, &found));
        OK(world_attach(name, NULL, false, &mine, &created, &found)); /* first in a child's hands */
        if (way == 2)
            CHECK_EQ(shm_unlink(name), 0);
        if (way == 3)
            CHECK_EQ(close(mine->fd), 0);
        no.call = way == 3 ? NONE : OPEN;
        no.error = EMFILE;
        no.seen = 0;
        no.nth = 1;
        no.forever = way == 1;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            bool may = way == 0 || way == 3;
            no.call = way == 1 ? OPEN : NONE;
            CHECK_STATUS(item_get(mine, VICTIM, NULL, NULL), may ? KV_OK : KV_OS);
            OK(item_get(reader, VICTIM, NULL, NULL)); /* reading needs no descriptor */
            no.call = NONE;
            if (way == 1)
                OK(item_get(mine, VICTIM, NULL, NULL)); /* as soon as there is one */
            _exit(0);
        }
        no.call = NONE;
        no.forever = false;
        int status;
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
        store_detach(reader);
        store_detach(mine);
        store_detach(maker);
        (void)shm_unlink(name);
    }
}

static const struct kv_test tests[] = {
    {"refused_descriptor_taken_away", test_descriptor_taken_away},
    {"refused_descriptor_closed", test_descriptor_closed},
    {"refused_child_without_descriptor", test_child_without_descriptor},
    {"refused_calls_fail", test_calls_fail},
};
KV_TEST_MAIN(tests)
