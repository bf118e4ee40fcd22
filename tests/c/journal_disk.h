/* journal_disk.h: a disk that fails when it is told to, forgets what was not synced, and is read
 * back.
 *
 * Owns: stand-ins for the system calls of the journal's files in this program, which count, fail,
 * write short, or call back before and after a write; what a power cut would leave of each file;
 * a reader of journals of its own (shmkv/persist/README.md, "Files") which replays into a world.
 * A file outlives a power cut as long as it was when it was synced last, and if its folder was
 * synced after it was made. Does not: know which test it serves. */
#ifndef KV_JOURNAL_DISK_H
#define KV_JOURNAL_DISK_H

#include "kv_test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "journal.h"
#include "journal_file.h"

enum disk_call { DISK_WRITE, DISK_DATASYNC, DISK_SYNC, DISK_OPEN, DISK_TRUNCATE, DISK_CALLS };

#define DISK_FILES 4096u

static struct {
    unsigned nth[DISK_CALLS]; /* the n-th call from now fails; 0 = none */
    int error;                /* 0: a write says that it wrote nothing */
    bool forever;  /* ... and all later ones */
    bool brief;    /* the n-th write writes half, and does not fail */
    unsigned done; /* calls that failed, or were brief */
    void (*before)(void), (*after)(void); /* of a write */
    struct {
        ino_t ino;
        uint64_t synced;
        bool named;
    } file[DISK_FILES];
    unsigned files;
    uint64_t newest; /* generation that holds a round */
} disk;

static bool disk_fails(enum disk_call call) {
    if (disk.nth[call] == 0)
        return false;
    if (--disk.nth[call] != 0)
        return false;
    disk.nth[call] = disk.forever;
    disk.done++;
    errno = disk.error;
    return true;
}

/* ---- the calls ---------------------------------------------------------------------------- */

static void disk_synced(int fd) {
    struct stat st;
    CHECK_EQ(fstat(fd, &st), 0);
    unsigned i = 0;
    if (S_ISDIR(st.st_mode)) {
        for (; i < disk.files; i++)
            disk.file[i].named = true;
        return;
    }
    while (i < disk.files && disk.file[i].ino != st.st_ino)
        i++;
    CHECK(i < DISK_FILES);
    if (i == disk.files)
        disk.file[disk.files++].named = false;
    disk.file[i].ino = st.st_ino;
    disk.file[i].synced = (uint64_t)st.st_size;
}

ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) {
    if (disk.before != NULL)
        disk.before();
    bool fails = disk_fails(DISK_WRITE);
    if (fails && !disk.brief)
        return disk.error == 0 ? 0 : -1;
    struct iovec half = {parts[0].iov_base, (parts[0].iov_len + 1) / 2};
    long r = syscall(SYS_pwritev, fd, fails ? &half : parts, fails ? 1 : n, at, 0);
    if (disk.after != NULL)
        disk.after();
    return r;
}

int fdatasync(int fd) {
    if (disk_fails(DISK_DATASYNC))
        return -1;
    disk_synced(fd);
    return 0; /* a power cut is played, not had */
}

int fsync(int fd) {
    if (disk_fails(DISK_SYNC))
        return -1;
    disk_synced(fd);
    return 0;
}

int openat(int dir, const char *name, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return disk_fails(DISK_OPEN) ? -1 : (int)syscall(SYS_openat, dir, name, flags, mode);
}

int ftruncate(int fd, off_t length) {
    return disk_fails(DISK_TRUNCATE) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

/* ---- folders ------------------------------------------------------------------------------ */

struct folder {
    char path[512];
    int fd;
};

static struct folder folder_make(void) {
    struct folder f;
    const char *where = getenv("TMPDIR"); /* a failing test leaves it to the wrapper */
    int n = snprintf(f.path, sizeof f.path, "%s/shmkv-c-journal-XXXXXX", where ? where : "/tmp");
    CHECK(n > 0 && (size_t)n < sizeof f.path);
    CHECK(mkdtemp(f.path) != NULL);
    f.fd = open(f.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(f.fd >= 0);
    return f;
}

static void folder_each(const struct folder *f, void (*act)(const struct folder *, const char *,
                                                            const struct folder *),
                        const struct folder *arg) {
    DIR *d = opendir(f->path);
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.')
            act(f, e->d_name, arg);
    CHECK_EQ(closedir(d), 0);
}

static void folder_unlink(const struct folder *f, const char *name, const struct folder *unused) {
    (void)unused;
    CHECK_EQ(unlinkat(f->fd, name, 0), 0);
}

static void folder_end(struct folder *f) {
    folder_each(f, folder_unlink, NULL);
    CHECK_EQ(rmdir(f->path), 0);
    CHECK_EQ(close(f->fd), 0);
}

static unsigned char *file_bytes(int dir, const char *name, uint64_t *size) {
    struct stat st;
    int fd = (int)syscall(SYS_openat, dir, name, O_RDONLY | O_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(fstat(fd, &st), 0);
    *size = (uint64_t)st.st_size;
    unsigned char *bytes = malloc(*size + 1);
    CHECK(bytes != NULL);
    CHECK_EQ(read(fd, bytes, *size), *size);
    CHECK_EQ(close(fd), 0);
    return bytes;
}

static void folder_cut(const struct folder *f, const char *name, const struct folder *to) {
    struct stat st;
    uint64_t size, kept = 0;
    bool named = false;
    CHECK_EQ(fstatat(f->fd, name, &st, 0), 0);
    for (unsigned i = 0; i < disk.files; i++)
        if (disk.file[i].ino == st.st_ino) {
            kept = disk.file[i].synced;
            named = disk.file[i].named;
        }
    if (!named)
        return;
    unsigned char *bytes = file_bytes(f->fd, name, &size);
    kept = kept < size ? kept : size;
    int fd = (int)syscall(SYS_openat, to->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, bytes, kept), kept);
    CHECK_EQ(close(fd), 0);
    free(bytes);
}

/* A copy of the folder as a power cut now would leave it. */
static inline struct folder folder_after_power_cut(const struct folder *f) {
    struct folder cut = folder_make();
    folder_each(f, folder_cut, &cut);
    return cut;
}

/* ---- reading ------------------------------------------------------------------------------ */

struct journal {
    unsigned char *bytes;
    uint64_t size, id, whole, previous;
    uint32_t rounds;
};

struct blocks {
    uint8_t kind;
    uint16_t flags;
    uint32_t len;
    const unsigned char *payload;
};

/* The block at *at, which moves on; false: nothing whole stands there. */
static bool block_read(const struct journal *j, uint64_t *at, struct blocks *b) {
    const unsigned char *head = j->bytes + *at;
    uint32_t magic, where;
    uint64_t sum;
    if (*at + 32 > j->size)
        return false;
    memcpy(&magic, head, 4);
    memcpy(&b->flags, head + 6, 2);
    memcpy(&b->len, head + 8, 4);
    memcpy(&where, head + 20, 4);
    memcpy(&sum, head + 24, 8);
    b->kind = head[4];
    b->payload = head + 32;
    if (magic != 0x424B5653u || where != (uint32_t)*at || b->len > j->size - *at - 32 ||
        sum != kv_hash(b->payload, b->len, kv_hash(head, 24, j->id)))
        return false;
    *at += 32 + b->len;
    return true;
}

static void journal_name(char name[32], uint64_t generation) {
    (void)snprintf(name, 32, "journal-%010" PRIu64 ".shmkv", generation);
}

/* false: no such file, or none that has begun. */
static bool journal_read(const struct folder *f, uint64_t generation, struct journal *j) {
    char name[32];
    struct blocks b;
    uint64_t at = 32;
    journal_name(name, generation);
    *j = (struct journal){0};
    if (faccessat(f->fd, name, F_OK, 0) != 0)
        return false;
    j->bytes = file_bytes(f->fd, name, &j->size);
    if (j->size >= 32)
        memcpy(&j->id, j->bytes + 16, 8);
    if (j->size < 32 || !block_read(j, &at, &b) || b.kind != KV_BLOCK_BEGIN) {
        free(j->bytes);
        return false;
    }
    memcpy(&j->previous, b.payload + 8, 8);
    for (j->whole = at; block_read(j, &at, &b);)
        if (b.kind == KV_BLOCK_ROUND && b.flags & KV_BLOCK_ROUND_END) {
            j->whole = at;
            j->rounds++;
        }
    return true;
}

static void journal_put(struct kv_handle *h, const unsigned char *from, uint64_t len) {
    struct kv_op op = kv_op_make(h);
    struct kv_loading loading = {0};
    OK(store_replay(&op, from, len, &loading));
    store_leave(&op);
}

/* Everything up to generation and byte, into a world; 0 = as far as there are whole rounds. */
static void journal_replay(const struct folder *f, uint64_t generation, uint64_t limit,
                           struct kv_handle *into) {
    struct journal j;
    struct blocks b;
    unsigned char *piece = malloc(KV_ITEM_TEST_MAX);
    uint64_t used = 0, at = 32;
    CHECK(piece != NULL && journal_read(f, generation, &j));
    CHECK(limit <= j.whole); /* what the next generation goes on after */
    limit = limit == 0 ? j.whole : limit;
    if (j.previous != 0 && j.previous != KV_PREVIOUS_ALONE)
        journal_replay(f, j.previous >> KV_PLACE_SHIFT, j.previous & KV_PLACE_BYTES, into);
    while (at < limit && block_read(&j, &at, &b)) {
        if (b.kind == KV_BLOCK_PIECE) {
            memcpy(piece + used, b.payload, b.len);
            used += b.len;
            if (b.flags & KV_BLOCK_LAST_PIECE)
                journal_put(into, piece, used);
            used = b.flags & KV_BLOCK_LAST_PIECE ? 0 : used;
        } else if (b.kind == KV_BLOCK_ROUND) {
            journal_put(into, b.payload, b.len);
        }
    }
    CHECK_EQ(at, limit);
    free(piece);
    free(j.bytes);
}

static void journal_newest(const struct folder *f, const char *name, const struct folder *unused) {
    struct journal j;
    uint64_t generation = strtoull(name + strlen("journal-"), NULL, 10);
    (void)unused;
    if (!journal_read(f, generation, &j))
        return;
    free(j.bytes);
    if (j.rounds > 0 && generation > disk.newest)
        disk.newest = generation;
}

/* What the files of a folder say, into an empty world. */
static inline void folder_replay(const struct folder *f, struct kv_handle *into) {
    disk.newest = 0;
    folder_each(f, journal_newest, NULL);
    if (disk.newest != 0)
        journal_replay(f, disk.newest, 0, into);
}

#endif
