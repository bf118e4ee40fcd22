/* segment.c: creation under the creation byte, validation, mapping, backing, fork.
 *
 * Creation. Whoever holds the creation byte's lock and finds no magic initialises from scratch:
 * length to zero and back (drops what a dead creator left), metadata backed, fields, then magic
 * (release). A death at any step leaves a file without magic, which the next one to hold the byte
 * starts again. Nobody maps a file for use before it has seen the magic, so no reader meets the
 * truncation. A creator that has more to do (restore what is on disk) keeps the byte and publishes
 * later, by the same store of the magic.
 *
 * Two descriptors. A mapping keeps the open file description it was made through, in fork children
 * too: locks of that description would outlive their owner in a child that merely inherited the
 * mapping. So the mapping is made through the descriptor that arrives, and byte locks live on a
 * description of their own. That one is kept open by a page mapped through it which no child gets:
 * a program that closes all descriptors (daemons do) does not let go of its rows.
 *
 * Backing. posix_fallocate, then the watermark by CAS; repeating both is harmless. Memory is never
 * given back while the segment lives, so an address below the watermark stays good for ever. While
 * a creation is held, pages are made by mapping them (allocate), by one thread at a time. */
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "wait.h"

#define KV_BACK_STEP (1ULL << 20)
#define KV_FILL_STEP (4ULL << 20)

/* ---- fork --------------------------------------------------------------------------------- */

static struct kv_handle *kv_handles;
static pthread_once_t kv_fork_once = PTHREAD_ONCE_INIT;

static void fork_prepare(void) { (void)pthread_mutex_lock(&lock_fork_mutex); }
static void fork_parent(void) { (void)pthread_mutex_unlock(&lock_fork_mutex); }

/* A new open file description of the same file; works for unlinked files too. */
static int reopen(int fd, bool readonly) {
    char path[40];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
}

/* In the child: drop the parent's open file description, so that the parent's death shows at once.
 * Only async-signal-safe calls. A new one is taken now, while the process still has its parent's
 * rights. */
static void fork_child(void) {
    for (struct kv_handle *h = kv_handles; h != NULL; h = h->next) {
        if (!lock_own_file(h))
            continue; /* not ours to close; the first operation reports it */
        int fd = reopen(h->fd, h->readonly);
        (void)close(h->fd);
        h->fd = fd < 0 ? lock_reopen(h) : fd; /* where no other descriptor was free */
    }
    (void)pthread_mutex_init(&lock_fork_mutex, NULL);
}

static void fork_install(void) { (void)pthread_atfork(fork_prepare, fork_parent, fork_child); }

/* Open the handle's own description and list the handle, in one step for fork: a child that were
 * born in between would keep the description, and with it every lock taken later. */
static kv_status handle_reopen(struct kv_handle *h, int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return KV_OS;
    h->dev = (uint64_t)st.st_dev;
    h->ino = (uint64_t)st.st_ino;
    (void)pthread_once(&kv_fork_once, fork_install);
    (void)pthread_mutex_lock(&lock_fork_mutex);
    h->fd = reopen(fd, h->readonly);
    h->next = kv_handles;
    kv_handles = h;
    (void)pthread_mutex_unlock(&lock_fork_mutex);
    return h->fd < 0 ? KV_OS : KV_OK;
}

static void handle_unlink(struct kv_handle *h) {
    (void)pthread_mutex_lock(&lock_fork_mutex);
    for (struct kv_handle **p = &kv_handles; *p != NULL; p = &(*p)->next)
        if (*p == h) {
            *p = h->next;
            break;
        }
    (void)pthread_mutex_unlock(&lock_fork_mutex);
}

kv_status segment_adopt(struct kv_handle *h) {
    /* The handler ran in an ordinary fork; after a raw clone the descriptor is still the parent's.
     * Both are right for reopening: the new description is this process's alone. */
    (void)pthread_mutex_lock(&lock_fork_mutex); /* a child must not keep what is opened here */
    bool own = lock_own_file(h);
    int fd = own ? reopen(h->fd, h->readonly) : lock_reopen(h), e = errno;
    if (fd >= 0 && own)
        (void)close(h->fd);
    if (fd >= 0)
        h->fd = fd;
    (void)pthread_mutex_unlock(&lock_fork_mutex);
    errno = e;
    if (fd < 0)
        return KV_OS;
    return lock_hold(h) ? KV_OK : KV_NOMEM;
}

/* ---- backing ------------------------------------------------------------------------------ */

static int fallocate_range(int fd, uint64_t from, uint64_t end) {
    int r;
    do
        r = posix_fallocate(fd, (off_t)from, (off_t)(end - from));
    while (r == EINTR);
    return r;
}

/* Who fills a new store writes to all of its memory next: pages are made and mapped at once, which
 * takes less than to make them and to meet a fault for each. Where the kernel refuses, whatever the
 * reason, it keeps what it made so far: that goes, nobody has it yet; the other way then says why.
 */
static int allocate(struct kv_handle *h, uint64_t from, uint64_t end) {
#ifdef MADV_POPULATE_WRITE
    uint64_t first = from & ~(uint64_t)4095, next = (from + 4095) & ~(uint64_t)4095;
    if (h->held && madvise(h->base + first, (size_t)(end - first), MADV_POPULATE_WRITE) == 0)
        return 0;
    if (h->held)
        (void)madvise(h->base + next, (size_t)(end - next), MADV_REMOVE);
#endif
    return fallocate_range(h->fd, from, end);
}

uint64_t segment_ghost_bytes(const struct kv_handle *h) {
    uint32_t lines = kv_load_rlx(&kv_header_of(h)->ghost);
    uint64_t bytes = (uint64_t)lines * KV_LINE;
    bool damaged = (lines & (lines - 1)) != 0 || bytes > h->g.max_size - h->g.off_ghost;
    return damaged ? 0 : bytes;
}

/* Does the file have memory up to here? Yes, if it cannot be asked. */
static bool covered(const struct kv_handle *h, uint64_t mark) {
    struct stat st;
    uint64_t beyond = (segment_ghost_bytes(h) & ~(uint64_t)4095) + kv_geometry_journal(&h->g);
    return !lock_same_file(h, h->fd, &st) || (uint64_t)st.st_blocks * 512 >= mark + beyond;
}

/* Threads of a process tell each other what they know: it never falls. */
static void know_backed(struct kv_handle *h, uint64_t mark) {
    uint64_t known = kv_load_rlx(&h->backed);
    while (known < mark && !kv_cas(&h->backed, &known, mark))
        ;
}

uint64_t segment_watermark(struct kv_handle *h) {
    uint64_t seen = kv_load_acq(&kv_header_of(h)->watermark);
    if (seen > kv_load_rlx(&h->backed) && seen <= h->g.max_size && covered(h, seen))
        know_backed(h, seen);
    return kv_load_rlx(&h->backed);
}

static kv_status back(struct kv_op *op, uint64_t end) {
    struct kv_handle *h = op->h;
    struct kv_header *head = kv_header_of(h);
    for (;;) {
        uint64_t seen = segment_watermark(h);
        if (end <= seen)
            return KV_OK;
        /* In steps, but never beyond `size`; no step if memory is short. Who fills a new store from
         * disk takes more at once. */
        uint64_t size = kv_load_rlx(&head->size), bases = kv_geometry_bases(&h->g, size);
        uint64_t limit = h->g.off_arena + (bases << h->g.base_shift);
        uint64_t step = h->held ? KV_FILL_STEP : KV_BACK_STEP;
        uint64_t to = seen + step > end ? seen + step : end;
        to = to > limit && end <= limit ? limit : to;
        if (end > h->g.off_journal)
            return KV_CORRUPT;
        to = to < h->g.off_journal ? to : h->g.off_journal;
        if (!lock_regain(h)) { /* the number may be another file's by now */
            op->err = EBADF;
            return KV_OS;
        }
        int e = allocate(h, seen, to);
        if (e == ENOSPC && to > end)
            e = allocate(h, seen, to = end);
        if (e != 0) {
            op->err = e;
            (void)kv_add_rlx(&head->nospace, 1u);
            return e == ENOSPC || e == EFBIG || e == ENOMEM ? KV_NOSPACE : KV_OS;
        }
        FAULT(segment_allocated);
        uint64_t before = seen;
        if (kv_cas(&head->watermark, &seen, to)) {
            FAULT(segment_backed);
            know_backed(h, to);
        } else if (seen < before || seen > segment_watermark(h)) {
            return KV_CORRUPT; /* it only rises, and memory is there before it does */
        }
    }
}

kv_status segment_back(struct kv_op *op, uint64_t end) {
    struct kv_handle *h = op->h;
    if (!h->held)
        return back(op, end);
    (void)pthread_mutex_lock(&h->filling);
    kv_status r = back(op, end);
    (void)pthread_mutex_unlock(&h->filling);
    return r;
}

/* Whoever meets a higher number asks for the memory again: what is there already costs nothing, and
 * a damaged number does no harm. */
bool segment_ghost(struct kv_handle *h, uint32_t lines) {
    if (__builtin_expect(lines <= kv_load_rlx(&h->ghost), 1))
        return true;
    uint64_t bytes = (uint64_t)lines * KV_LINE;
    if (h->readonly || bytes > h->g.max_size - h->g.off_ghost || (lines & (lines - 1)) != 0 ||
        !lock_regain(h) || fallocate_range(h->fd, h->g.off_ghost, h->g.off_ghost + bytes) != 0)
        return false;
    FAULT(ghost_backed);
    kv_store_rlx(&h->ghost, lines);
    return true;
}

/* ---- creation ----------------------------------------------------------------------------- */

static kv_status creation_lock(int fd, uint64_t timeout_ns) {
    uint64_t end = kv_clock_ns() + timeout_ns;
    struct flock f = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)KV_LOCK_CREATE, .l_len = 1};
    uint32_t nobody = 0;
    while (fcntl(fd, F_OFD_SETLK, &f) != 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EACCES)
            return KV_OS;
        if (kv_clock_ns() >= end)
            return KV_BUSY;
        (void)kv_wait(&nobody, 0, 500000); /* a creator is at work: it ends or dies */
    }
    return KV_OK;
}

static void creation_unlock(int fd) {
    struct flock f = {
        .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = (off_t)KV_LOCK_CREATE, .l_len = 1};
    (void)fcntl(fd, F_OFD_SETLK, &f);
}

/* KV_HALFMADE: none yet; another number is not the work of a creator that died. */
static kv_status magic_look(int fd) {
    uint64_t magic = 0;
    ssize_t n;
    do
        n = pread(fd, &magic, sizeof magic, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return KV_OS;
    return magic != 0 ? KV_OK : KV_HALFMADE; /* fewer bytes show it as well */
}

/* Everything, the magic last, in a file that nobody else uses. */
static kv_status initialise(struct kv_handle *h, const struct kv_open *how) {
    const struct kv_config *c = how->config;
    struct kv_header *head = kv_header_of(h);
    /* The index pages' place, what is withheld for cleaners, and a page for every appender. */
    uint64_t least = h->g.zone + (2ull * h->g.cleaners + h->g.appenders + 2) * h->g.std_run;
    uint64_t first = h->g.off_arena + (least << h->g.base_shift);
    uint64_t most = h->g.off_arena + ((uint64_t)h->g.bases << h->g.base_shift);
    first = first > most ? most : first;
    if (ftruncate(h->fd, 0) != 0)
        return KV_OS;
    FAULT(create_emptied);
    if (ftruncate(h->fd, (off_t)c->max_size) != 0)
        return KV_OS;
    FAULT(create_sized);
    uint64_t marks = kv_geometry_journal(&h->g);
    int e = fallocate_range(h->fd, 0, first);
    if (e == 0 && marks != 0)
        e = fallocate_range(h->fd, h->g.off_journal, h->g.off_journal + marks);
    if (e != 0) {
        errno = e;
        return e == ENOSPC || e == EFBIG || e == ENOMEM ? KV_NOSPACE : KV_OS;
    }
    FAULT(create_allocated);
    head->layout_version = KV_LAYOUT_VERSION;
    head->fingerprint = kv_fingerprint();
    head->config = *c;
    head->created_ms = kv_clock_wall_ms();
    head->size = c->size;
    head->watermark = first;
    head->next_number = 1;
    head->next_id = 1;
    head->next_birth = 1;
    FAULT(create_header);
    h->backed = first;
    how->format(h);
    FAULT(create_formatted);
    if (!how->hold)
        segment_publish(h);
    return KV_OK;
}

void segment_publish(struct kv_handle *h) {
    kv_store_rel(&kv_header_of(h)->magic,
                 KV_MAGIC); /* release: pairs with the attacher's acquire */
    FAULT(create_magic);
    if (h->held) {
        h->held = false;
        creation_unlock(h->fd);
    }
}

/* ---- attach ------------------------------------------------------------------------------- */

static kv_status validate(struct kv_handle *h, struct kv_found *found) {
    const struct kv_header *head = kv_header_of(h);
    if (kv_load_acq(&head->magic) != KV_MAGIC)
        return KV_CORRUPT;
    struct kv_config c = head->config;
    found->layout_version = head->layout_version;
    found->fingerprint = head->fingerprint;
    if (found->layout_version != KV_LAYOUT_VERSION)
        return KV_VERSION;
    if (found->fingerprint != kv_fingerprint())
        return KV_STRANGER;
    found->size = kv_load_rlx(&head->size);
    found->max_size = c.max_size;
    found->options = c.options;
    if (c.max_size != found->file_bytes || !kv_geometry_make(&c, &h->g) ||
        (c.options & ~KV_OPTIONS) ||
        (c.options & (KV_OPT_ALWAYS | KV_OPT_JOURNAL)) == KV_OPT_ALWAYS || found->size < c.size ||
        found->size > c.max_size)
        return KV_CORRUPT;
    h->seed = c.seed;
    h->options = c.options;
    uint64_t mark = kv_load_acq(&head->watermark);
    if (mark < h->g.off_arena || mark > c.max_size || !covered(h, mark))
        return KV_CORRUPT;
    h->backed = mark;
    return KV_OK;
}

static kv_status map(struct kv_handle *h, int fd, uint64_t bytes) {
    int rights = h->readonly ? PROT_READ : PROT_READ | PROT_WRITE;
    void *p = mmap(NULL, bytes, rights, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        return errno == ENOMEM ? KV_NOMEM : KV_OS;
    h->base = p;
    h->g.max_size = bytes;
    return KV_OK;
}

static kv_status own_page(struct kv_handle *h) {
    static_assert(sizeof(struct kv_own) <= 4096, "private truth is one page");
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return KV_NOMEM;
    h->own = p;
    return madvise(p, 4096, MADV_WIPEONFORK) == 0 ? KV_OK : KV_OS;
}

/* Create in `h->fd`, holding the creation byte. */
static kv_status create(struct kv_handle *h, const struct kv_open *how) {
    const struct kv_config *config = how->config;
    struct stat st;
    if (fstat(h->fd, &st) != 0)
        return KV_OS;
    if (st.st_nlink == 0)
        return KV_GONE; /* a former creator gave up and removed the name */
    if (!kv_geometry_make(config, &h->g))
        return KV_INVALID;
    if (ftruncate(h->fd, (off_t)config->max_size) != 0)
        return KV_OS;
    kv_status s = map(h, how->fd, config->max_size);
    if (s != KV_OK)
        return s;
    h->seed = config->seed;
    h->options = config->options;
    return initialise(h, how);
}

static kv_status open_existing(struct kv_handle *h, const struct kv_open *how,
                               struct kv_found *found) {
    struct stat st;
    if (fstat(h->fd, &st) != 0)
        return KV_OS;
    found->file_bytes = (uint64_t)st.st_size;
    if (found->file_bytes < KV_SIZE_MIN || found->file_bytes > KV_SIZE_MAX)
        return KV_CORRUPT;
    kv_status s = map(h, how->fd, found->file_bytes);
    return s != KV_OK ? s : validate(h, found);
}

static kv_status open_or_create(struct kv_handle *h, const struct kv_open *how, bool *created,
                                struct kv_found *found) {
    kv_status s = magic_look(how->fd); /* which reads without a trace, if it is to */
    if (s == KV_OK)
        return open_existing(h, how, found);
    if (s != KV_HALFMADE || h->readonly)
        return s;
    s = creation_lock(h->fd, how->timeout_ns);
    if (s != KV_OK)
        return s;
    FAULT(create_locked);
    s = magic_look(h->fd);
    if (s == KV_OK)
        s = open_existing(h, how, found);
    else if (s == KV_HALFMADE && how->config != NULL) {
        s = create(h, how);
        *created = s == KV_OK;
        h->held = s == KV_OK && how->hold;
        int e = errno;
        if (s != KV_OK && s != KV_GONE &&
            segment_named(h) == KV_OK) /* under the byte: nobody else can have finished it */
            (void)shm_unlink(how->name);
        errno = e;
    }
    int e = errno;
    if (!h->held)
        creation_unlock(h->fd);
    errno = e;
    return s;
}

static kv_status handle_new(int fd, const char *name, bool readonly, uint64_t timeout_ns,
                            struct kv_handle **out) {
    struct kv_handle *h = calloc(1, sizeof *h);
    if (h == NULL)
        return KV_NOMEM;
    *out = h;
    h->readonly = readonly;
    h->unseen = (fcntl(fd, F_GETFL) & O_NOATIME) != 0;
    h->lock_timeout_ns = timeout_ns;
    (void)snprintf(h->name, sizeof h->name, "%s", name);
    h->fd = -1;
    h->sampled = UINT64_MAX;
    (void)pthread_mutex_init(&h->filling, NULL);
    kv_status s = handle_reopen(h, fd);
    if (s == KV_OK)
        s = own_page(h);
    return s == KV_OK && !lock_hold(h) ? KV_NOMEM : s;
}

kv_status segment_open(const struct kv_open *how, struct kv_handle **out, bool *created,
                       struct kv_found *found) {
    struct kv_handle *h = NULL;
    *found = (struct kv_found){0};
    *created = false;
    kv_status s = handle_new(how->fd, how->name, how->readonly, how->timeout_ns, &h);
    if (s == KV_OK)
        s = open_or_create(h, how, created, found);
    int e = errno;
    (void)close(how->fd);
    if (s == KV_OK) {
        *out = h;
    } else if (h != NULL) {
        segment_close(h);
    }
    errno = e;
    return s;
}

kv_status segment_twin(const struct kv_handle *first, struct kv_handle **out) {
    struct kv_handle *h = NULL;
    kv_status s = handle_new(first->fd, first->name, first->readonly, first->lock_timeout_ns, &h);
    if (s != KV_OK) {
        if (h != NULL)
            segment_close(h);
        return s;
    }
    h->base = first->base;
    h->borrowed = true;
    h->g = first->g;
    h->seed = first->seed;
    h->options = first->options;
    h->backed = first->backed;
    *out = h;
    return KV_OK;
}

kv_status segment_named(const struct kv_handle *h) {
    struct stat st;
    if (fstat(h->fd, &st) != 0)
        return KV_OS;
    return st.st_nlink == 1 ? KV_OK : KV_GONE;
}

void segment_mark(const struct kv_handle *h) {
    if (h->base != NULL && !h->unseen && lock_own_file(h))
        (void)futimens(h->fd, NULL);
}

void segment_close(struct kv_handle *h) {
    handle_unlink(h);
    if (h->base != NULL && !h->borrowed)
        (void)munmap(h->base, h->g.max_size);
    if (h->own != NULL) {
        lock_let_go(h);
        (void)munmap(h->own, 4096);
    }
    if (lock_own_file(h))
        (void)close(h->fd);
    free(h->work);
    if (h->log != NULL)
        h->log_end(h->log);
    free(h);
}
