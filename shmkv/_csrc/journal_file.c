/* journal_file.c: one file after the other, appended to at a known place. */
#include "journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "clock.h"

#define KV_FILE_VERSION 1u
#define KV_FILE_ORDER   0x0102u
#define KV_FILE_JOURNAL 2u
#define KV_FILE_HEAD    32u
#define KV_BLOCK_MAGIC  0x424B5653u /* bytes "SVKB" */
#define KV_BLOCK_HEAD   32u
#define KV_BEGIN_SEED   24u /* in BEGIN: generation, previous, time, seed */

/* ---- opening ------------------------------------------------------------------------------ */

static struct kv_fd fd_of(int fd) {
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return (struct kv_fd){.fd = -1};
    return (struct kv_fd){fd, (uint64_t)st.st_dev, (uint64_t)st.st_ino};
}

/* Is it still what was opened? *st tells about it. */
static bool fd_own(const struct kv_fd *f, struct stat *st) {
    return f->fd >= 0 && fstat(f->fd, st) == 0 && st->st_dev == f->dev && st->st_ino == f->ino;
}

static void fd_close(const struct kv_fd *f) {
    struct stat st;
    if (fd_own(f, &st))
        (void)close(f->fd);
}

static void log_end(struct kv_log *log) {
    fd_close(&log->file);
    fd_close(&log->dir);
    free(log->bytes);
    free(log->list);
    free(log);
}

kv_status journal_file_known(struct kv_handle *h, int dir) {
    if (h->log != NULL) /* a round of another thread may be at it */
        return KV_EXISTS;
    struct kv_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        return KV_NOMEM;
    log->file = fd_of(-1);
    log->dir = fd_of(fcntl(dir, F_DUPFD_CLOEXEC, 3));
    log->list = malloc(2 * (size_t)h->g.words * sizeof *log->list);
    if (log->dir.fd < 0 || log->list == NULL) {
        kv_status s = log->dir.fd < 0 ? KV_OS : KV_NOMEM;
        int e = errno;
        log_end(log);
        errno = e;
        return s;
    }
    h->log = log;
    h->log_end = log_end;
    return KV_OK;
}

void journal_file_forget(struct kv_log *log) {
    log->bytes = NULL;
    log->room = 0;
    log->generation = 0; /* and the file may be half exchanged: opened again when it is wanted */
}

static kv_status failed(struct kv_op *op) {
    op->err = errno;
    return KV_PERSIST;
}

static void name_of(char name[32], uint64_t generation) {
    (void)snprintf(name, 32, "journal-%010llu.shmkv", (unsigned long long)generation);
}

/* Another thread may fork between any two of these lines: the child then opens the file anew. */
static void use(struct kv_log *log, int fd, uint64_t generation, uint64_t id, uint64_t end) {
    struct kv_fd old = log->file;
    kv_store_rlx(&log->generation, 0u);
    kv_fence_rel(); /* a forked copy that has any of what follows has that */
    log->file = fd_of(fd);
    log->id = id;
    log->end = end;
    FAULT(journal_used);
    kv_store_rel(&log->generation, generation);
    if (old.fd != fd) /* else somebody has closed the old one: its number is the new one's */
        fd_close(&old);
}

/* Is this the journal of that generation of this very store? Its seed tells stores apart: a wrong
 * directory must not get what belongs elsewhere. */
static bool is_present(const struct kv_handle *h, int fd, uint64_t generation, uint64_t *id) {
    unsigned char b[KV_FILE_HEAD + KV_BLOCK_HEAD + KV_BEGIN_SEED + 8];
    uint64_t sum, number, seed;
    if (pread(fd, b, sizeof b, 0) != (ssize_t)sizeof b)
        return false;
    memcpy(&sum, b + 24, 8);
    memcpy(id, b + 16, 8);
    memcpy(&number, b + KV_FILE_HEAD + KV_BLOCK_HEAD, 8);
    memcpy(&seed, b + KV_FILE_HEAD + KV_BLOCK_HEAD + KV_BEGIN_SEED, 8);
    return memcmp(b, "SHMKVDSK", 8) == 0 && sum == kv_hash(b, 24, 0) &&
           b[KV_FILE_HEAD + 4] == KV_BLOCK_BEGIN && number == generation && seed == h->seed;
}

/* The directory, if it is still the one we were given; -1 and errno. */
static int dir_of(const struct kv_log *log) {
    struct stat st;
    if (fd_own(&log->dir, &st))
        return log->dir.fd;
    errno = EBADF;
    return -1;
}

/* The file that others have made. */
static kv_status open_present(struct kv_op *op, uint64_t generation) {
    struct kv_log *log = op->h->log;
    char name[32];
    uint64_t id;
    int dir = dir_of(log);
    name_of(name, generation);
    int fd = dir < 0 ? -1 : openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && dir >= 0 && errno == ENOENT) /* somebody removed it: what counted is gone */
        kv_store_rel(&kv_header_of(op->h)->journal.broken, 1u);
    if (fd < 0)
        return failed(op);
    if (!is_present(op->h, fd, generation, &id)) {
        (void)close(fd);
        errno = EINVAL;
        return failed(op);
    }
    use(log, fd, generation, id, 0);
    return KV_OK;
}

kv_status journal_file_ready(struct kv_op *op) {
    struct kv_handle *h = op->h;
    struct kv_log *log = h->log;
    uint64_t place = kv_load_acq(&kv_header_of(h)->journal.place);
    uint64_t generation = place >> KV_PLACE_SHIFT, bytes = place & KV_PLACE_BYTES;
    struct stat st;
    if (generation == 0) {
        op->err = ENOENT;
        return KV_PERSIST;
    }
    if (log->generation != generation || !fd_own(&log->file, &st)) {
        kv_status r = open_present(op, generation);
        if (r != KV_OK)
            return r;
    }
    if (!fd_own(&log->file, &st))
        return failed(op);
    log->end = bytes;
    if ((uint64_t)st.st_size < bytes) { /* somebody cut it: what counted is gone */
        kv_store_rel(&kv_header_of(h)->journal.broken, 1u);
        errno = ENODATA;
        return failed(op);
    }
    if ((uint64_t)st.st_size == bytes && bytes <= KV_PLACE_BYTES / 2)
        return KV_OK;
    kv_status r = journal_file_sync(op); /* the next one says that these bytes count */
    return r == KV_OK ? journal_file_make(op, generation + 1, place) : r;
}

/* ---- blocks ------------------------------------------------------------------------------- */

static kv_status write_all(struct kv_op *op, struct iovec *part, int parts, uint64_t at) {
    while (parts > 0) {
        ssize_t n = pwritev(op->h->log->file.fd, part, parts, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return failed(op);
        }
        at += (uint64_t)n;
        for (; parts > 0 && (size_t)n >= part->iov_len; part++, parts--)
            n -= (ssize_t)part->iov_len;
        if (parts > 0) {
            part->iov_base = (char *)part->iov_base + n;
            part->iov_len -= (size_t)n;
        }
    }
    return KV_OK;
}

static kv_status block(struct kv_op *op, uint8_t kind, uint16_t flags, unsigned char *payload,
                       uint32_t len, uint32_t count) {
    struct kv_log *log = op->h->log;
    unsigned char head[KV_BLOCK_HEAD] = {0};
    uint32_t magic = KV_BLOCK_MAGIC, at = (uint32_t)log->end;
    memcpy(head, &magic, 4);
    head[4] = kind;
    memcpy(head + 6, &flags, 2);
    memcpy(head + 8, &len, 4);
    memcpy(head + 12, &len, 4);
    memcpy(head + 16, &count, 4);
    memcpy(head + 20, &at, 4);
    uint64_t sum = kv_hash(payload, len, kv_hash(head, 24, log->id));
    memcpy(head + 24, &sum, 8);
    struct iovec part[2] = {{head, sizeof head}, {payload, len}};
    kv_status r = write_all(op, part, 2, log->end);
    if (r == KV_OK)
        log->end += sizeof head + len;
    log->written = true;
    FAULT(journal_appended);
    return r;
}

kv_status journal_file_room(struct kv_log *log, uint64_t more) {
    uint64_t want = log->used + more;
    if (want <= log->room)
        return KV_OK;
    want = want < 2 * KV_IMAGE_BLOCK ? 2 * KV_IMAGE_BLOCK : want;
    unsigned char *p = realloc(log->bytes, (size_t)want);
    if (p == NULL)
        return KV_NOMEM;
    log->bytes = p;
    log->room = (size_t)want;
    return KV_OK;
}

kv_status journal_file_flush(struct kv_op *op, uint32_t flags) {
    struct kv_log *log = op->h->log;
    kv_status r =
        block(op, KV_BLOCK_ROUND, (uint16_t)flags, log->bytes, (uint32_t)log->used, log->count);
    log->used = 0;
    log->count = 0;
    return r;
}

kv_status journal_file_pieces(struct kv_op *op) {
    struct kv_log *log = op->h->log;
    kv_status r = KV_OK;
    for (size_t at = 0; r == KV_OK && at < log->used;) {
        size_t n = log->used - at < KV_IMAGE_BLOCK ? log->used - at : KV_IMAGE_BLOCK;
        bool last = at + n == log->used;
        r = block(op, KV_BLOCK_PIECE, last ? KV_BLOCK_LAST_PIECE : 0, log->bytes + at, (uint32_t)n,
                  last);
        at += n;
    }
    log->used = 0;
    log->count = 0;
    return r;
}

kv_status journal_file_sync(struct kv_op *op) {
    int r;
    do
        r = fdatasync(op->h->log->file.fd);
    while (r != 0 && errno == EINTR);
    FAULT(journal_synced);
    if (r == 0)
        return KV_OK;
    if (!(op->h->options & KV_OPT_ALWAYS)) /* the kernel says it once: rounds before may be lost */
        kv_store_rel(&kv_header_of(op->h)->journal.broken, 1u);
    return failed(op);
}

void journal_file_undo(struct kv_op *op, uint64_t end) {
    struct kv_log *log = op->h->log;
    if (log->generation != 0 && log->written && ftruncate(log->file.fd, (off_t)end) == 0)
        log->end = end; /* where that fails, the next round finds a torn tail */
}

/* ---- a new generation --------------------------------------------------------------------- */

static const char *store_name(const struct kv_handle *h) {
    const char *dot = strchr(h->name, '.'); /* "/shmkv.<uid>.<name>" */
    dot = dot == NULL ? NULL : strchr(dot + 1, '.');
    return dot == NULL ? h->name : dot + 1;
}

static uint32_t describe(struct kv_handle *h, uint64_t generation, uint64_t previous,
                         unsigned char *to) {
    const uint64_t wide[] = {
        generation,   previous, kv_clock_wall_ms(), h->seed, kv_load_rlx(&kv_header_of(h)->size),
        h->g.max_size};
    const uint32_t narrow[] = {h->options, KV_IMAGE_CODES};
    uint16_t len = (uint16_t)strlen(store_name(h));
    memcpy(to, wide, sizeof wide);
    memcpy(to + sizeof wide, narrow, sizeof narrow);
    memcpy(to + sizeof wide + sizeof narrow, &len, 2);
    memcpy(to + sizeof wide + sizeof narrow + 2, store_name(h), len);
    return (uint32_t)(sizeof wide + sizeof narrow + 2 + len);
}

static kv_status write_head(struct kv_op *op, uint64_t previous) {
    struct kv_log *log = op->h->log;
    unsigned char head[KV_FILE_HEAD] = {0}, begin[256];
    const uint16_t numbers[] = {KV_FILE_VERSION, KV_FILE_ORDER};
    uint32_t what = KV_FILE_JOURNAL;
    memcpy(head, "SHMKVDSK", 8);
    memcpy(head + 8, numbers, sizeof numbers);
    memcpy(head + 12, &what, 4);
    memcpy(head + 16, &log->id, 8);
    uint64_t sum = kv_hash(head, 24, 0);
    memcpy(head + 24, &sum, 8);
    struct iovec part = {head, sizeof head};
    kv_status r = write_all(op, &part, 1, 0);
    log->end = sizeof head;
    if (r == KV_OK)
        r = block(op, KV_BLOCK_BEGIN, 0, begin, describe(op->h, log->generation, previous, begin),
                  0);
    return r;
}

static int create(struct kv_op *op, uint64_t *generation, char name[32]) {
    struct stat st;
    int dir = dir_of(op->h->log);
    for (; dir >= 0; ++*generation) {
        if (*generation > UINT64_MAX >> KV_PLACE_SHIFT) { /* a save every second for half a year */
            errno = EOVERFLOW;
            return -1;
        }
        name_of(name, *generation);
        int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST)
            continue;                              /* begun by somebody who died */
        if (fd >= 0 && fstat(op->h->fd, &st) == 0) /* who shares the store shares the journal */
            (void)fchmod(fd, st.st_mode & 0666);
        return fd;
    }
    return -1;
}

kv_status journal_file_make(struct kv_op *op, uint64_t generation, uint64_t previous) {
    struct kv_log *log = op->h->log;
    char name[32];
    uint64_t id;
    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
        return failed(op);
    int fd = create(op, &generation, name);
    if (fd < 0)
        return failed(op);
    FAULT(journal_created);
    use(log, fd, generation, id, 0);
    kv_status r = write_head(op, previous);
    log->written = false;
    if (r == KV_OK && (fsync(fd) != 0 || fsync(log->dir.fd) != 0))
        r = failed(op);
    if (r != KV_OK) {
        (void)unlinkat(log->dir.fd, name, 0);
        use(log, -1, 0, 0, 0);
        return r;
    }
    kv_store_rel(&kv_header_of(op->h)->journal.place, generation << KV_PLACE_SHIFT | log->end);
    FAULT(journal_placed);
    return KV_OK;
}
