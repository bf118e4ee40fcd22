/* lock.c: rows, proof of life, the slow path of locks, slots of reservations and pins. */
#include "lock_note.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "wait.h"

#define KV_SPINS        50u
#define KV_SLEEP_MIN_NS 250000u
#define KV_SLEEP_MAX_NS 2000000u
#define KV_IDLE_NS      1000000u

/* ---- byte locks --------------------------------------------------------------------------- */

static int byte_lock(int fd, uint64_t at, short type, int command, struct flock *out) {
    struct flock f = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)at, .l_len = 1};
    int r;
    do
        r = fcntl(fd, command, &f);
    while (r < 0 && errno == EINTR);
    if (out != NULL)
        *out = f;
    return r;
}

bool lock_same_file(const struct kv_handle *h, int fd, struct stat *st) {
    return fd >= 0 && fstat(fd, st) == 0 && st->st_dev == h->dev && st->st_ino == h->ino;
}

bool lock_own_file(const struct kv_handle *h) {
    struct stat st;
    return lock_same_file(h, h->fd, &st);
}

pthread_mutex_t lock_fork_mutex = PTHREAD_MUTEX_INITIALIZER;

/* A page of the segment that no child inherits; NULL: no memory. */
static void *page_held(int fd) {
    (void)pthread_mutex_lock(&lock_fork_mutex);
    void *p = mmap(NULL, 4096, PROT_NONE, MAP_SHARED, fd, 0);
    if (p != MAP_FAILED && madvise(p, 4096, MADV_DONTFORK) != 0) {
        (void)munmap(p, 4096);
        p = MAP_FAILED;
    }
    (void)pthread_mutex_unlock(&lock_fork_mutex);
    return p == MAP_FAILED ? NULL : p;
}

bool lock_hold(struct kv_handle *h) {
    for (uint32_t i = 0; i < KV_HELD && !h->readonly; i++) {
        void *none = NULL;
        if (kv_load_acq(&h->own->held[i]) != NULL)
            continue;
        void *p = page_held(h->fd);
        if (p == NULL)
            return false;
        if (kv_cas(&h->own->held[i], &none, p))
            return true;
        (void)munmap(p, 4096);
    }
    return true; /* a program that closes us again and again is on its own */
}

void lock_let_go(struct kv_handle *h) {
    for (uint32_t i = 0; i < KV_HELD; i++)
        if (h->own->held[i] != NULL)
            (void)munmap(h->own->held[i], 4096);
}

int lock_reopen(const struct kv_handle *h) {
    char path[sizeof h->name + 16];
    struct stat st;
    (void)snprintf(path, sizeof path, "/dev/shm%s", h->name);
    int fd = open(path, (h->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || lock_same_file(h, fd, &st))
        return fd;
    (void)close(fd);
    errno = ENOENT;
    return -1;
}

bool lock_regain(struct kv_handle *h) {
    (void)pthread_mutex_lock(&lock_fork_mutex); /* a child must not keep what is opened here */
    bool own = lock_own_file(h);
    int fd = own ? h->fd : lock_reopen(h);
    if (!own && fd >= 0)
        kv_store_rel(&h->fd, fd);
    (void)pthread_mutex_unlock(&lock_fork_mutex);
    return own || (fd >= 0 && lock_hold(h));
}

bool lock_daemon(struct kv_handle *h) {
    if (h->own->daemon)
        return true;
    if (!lock_regain(h) || byte_lock(h->fd, KV_LOCK_DAEMON, F_WRLCK, F_OFD_SETLK, NULL) != 0)
        return false;
    h->own->daemon = 1;
    kv_store_rlx(&kv_header_of(h)->daemon, kv_number(h));
    FAULT(daemon_named);
    return true;
}

bool lock_daemon_alive(struct kv_handle *h) {
    struct flock f;
    int fd = lock_own_file(h) ? h->fd : -1;
    if (h->own->daemon)
        return true;
    if (fd < 0 || byte_lock(fd, KV_LOCK_DAEMON, F_WRLCK, F_OFD_GETLK, &f) != 0)
        return false;
    return f.l_type != F_UNLCK;
}

bool row_claim(struct kv_handle *h, uint32_t row) {
    return byte_lock(h->fd, KV_LOCK_BASE + row, F_WRLCK, F_OFD_SETLK, NULL) == 0;
}

void row_unclaim(struct kv_handle *h, uint32_t row) {
    (void)byte_lock(h->fd, KV_LOCK_BASE + row, F_UNLCK, F_OFD_SETLK, NULL);
}

static bool own_number(const struct kv_own *own, uint32_t number) {
    for (uint32_t i = 0; i < kv_load_acq(&own->rows); i++)
        if (own->row[i].number == number)
            return true;
    return false;
}

bool row_alive(struct kv_handle *h, uint32_t number) {
    if (own_number(h->own, number))
        return true;
    uint32_t r = number % h->g.rows;
    if (kv_load_acq(&kv_row_at(h, r)->number) != number)
        return false;
    struct flock f;
    int bad = byte_lock(h->fd, KV_LOCK_BASE + r, F_WRLCK, F_OFD_GETLK, &f);
    if (bad || (f.l_type == F_UNLCK && !lock_own_file(h))) /* somebody closed our descriptor */
        bad = !lock_regain(h) || byte_lock(h->fd, KV_LOCK_BASE + r, F_WRLCK, F_OFD_GETLK, &f);
    if (bad)
        return true; /* no proof of death, no robbery */
    /* The row may have changed hands between the look and the query: then it is not this owner's.
     */
    return f.l_type != F_UNLCK && kv_load_acq(&kv_row_at(h, r)->number) == number;
}

/* ---- rows --------------------------------------------------------------------------------- */

static uint64_t process_start(void) {
    char text[512], *p;
    FILE *f = fopen("/proc/self/stat", "re");
    if (f == NULL)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[n] = 0;
    p = strrchr(text, ')');
    unsigned long long start = 0;
    if (p == NULL ||
        sscanf(p + 1,
               " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &start) != 1)
        return 0;
    return start;
}

static void row_identity(struct kv_row *row, uint32_t first) {
    struct stat st;
    for (uint32_t i = 0; i < KV_NOTES; i++)
        kv_store_rlx(&row->note[i].turn, 0u);
    row->first = first;
    row->pid = (uint32_t)getpid();
    row->pid_start = process_start();
    row->pid_namespace = stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
    row->attached_ms = kv_clock_wall_ms();
}

kv_status row_attach(struct kv_op *op, kv_fold_row *fold) {
    struct kv_handle *h = op->h;
    struct kv_own *own = h->own;
    if (own->rows >= KV_OWN_ROWS)
        return KV_NOROWS;
    for (uint32_t tries = 0; tries < 2 * h->g.rows; tries++) {
        uint32_t n = kv_add_rlx(&kv_header_of(h)->next_number, 1u) & KV_NUMBER_MASK;
        FAULT(row_number_drawn);
        uint32_t r = n % h->g.rows;
        bool mine = false;
        for (uint32_t i = 0; i < own->rows; i++)
            mine |= own->row[i].row == r; /* one's own byte would be granted again */
        if (n == 0 || mine || !row_claim(h, r))
            continue;
        FAULT(row_claimed);
        struct kv_row *row = kv_row_at(h, r);
        uint32_t former = kv_load_acq(&row->number);
        if (former != 0 && own->rows == 0 && tries < h->g.rows) {
            row_unclaim(h, r); /* folding needs a number of one's own: first an empty row */
            continue;
        }
        kv_status s = former == 0 ? KV_OK : fold(op, r, former);
        if (s != KV_OK) {
            row_unclaim(h, r);
            return s;
        }
        row_identity(row, own->rows == 0 ? 0 : own->number);
        FAULT(row_identified);
        kv_store_rel(&row->number, n); /* release: who sees the number sees an empty row */
        FAULT(row_numbered);
        own->row[own->rows].number = n;
        own->row[own->rows].row = r;
        own->row[own->rows].pins = 0;
        if (own->rows == 0) {
            own->number = n;
            own->notes = (uint64_t)((unsigned char *)row->note - h->base);
        }
        kv_store_rel(&own->rows, own->rows + 1);
        return KV_OK;
    }
    return KV_NOROWS;
}

void row_release_all(struct kv_handle *h) {
    struct kv_own *own = h->own;
    for (uint32_t i = own->rows; i-- > 0;) {
        struct kv_row *row = kv_row_at(h, own->row[i].row);
        for (uint32_t k = 0; k < KV_PINS; k++) /* a save that was not ended */
            kv_store_rlx(&row->pin[k], 0u);
        kv_store_rel(&row->number, 0u); /* release: the row is empty */
        FAULT(row_left);
        row_unclaim(h, own->row[i].row);
        FAULT(row_unclaimed);
    }
    own->notes = 0;
    own->rows = 0;
    own->attached = 0;
}

/* ---- locks -------------------------------------------------------------------------------- */

bool lock_pass_deadline(struct kv_op *op) {
    uint64_t now = kv_clock_ns();
    if (op->deadline_ns == 0)
        op->deadline_ns = now + op->h->lock_timeout_ns;
    return now >= op->deadline_ns;
}

static bool spin_for(struct kv_op *op, uint32_t *word) {
    for (unsigned i = 0; i < KV_SPINS; i++) {
        uint32_t w = kv_load_rlx(word);
        if (w == 0 && kv_cas(word, &w, kv_number(op->h)))
            return true;
        kv_pause();
    }
    return false;
}

/* The owner is dead: take its place, unless another waiter was faster (KV_AGAIN). */
static kv_status take_over(struct kv_op *op, uint32_t *word, uint32_t seen) {
    if (!kv_cas(word, &seen, kv_number(op->h) | KV_WAITERS)) /* still names the dead one */
        return KV_AGAIN;
    FAULT(lock_taken_over);
    op->dead = seen & KV_NUMBER_MASK;
    row_count(op->h, KV_STAT_RECOVERIES, 1);
    return KV_RECOVER;
}

/* One round of waiting: KV_AGAIN = look again. `ask`: is the owner alive? At first, and after each
 * time-out; the limit of a sleep grows while time-outs follow each other. */
static kv_status wait_round(struct kv_op *op, uint32_t *word, uint64_t *limit, bool *ask) {
    uint32_t w = kv_load_rlx(word), owner = w & KV_NUMBER_MASK;
    if (owner == 0) /* having waited, take it with the bit set: there may be others, the next give
                       wakes one */
        return kv_cas(word, &w, kv_number(op->h) | KV_WAITERS) ? KV_OK : KV_AGAIN;
    if (*ask && !row_alive(op->h, owner))
        return take_over(op, word, w);
    *ask = false;
    if (!(w & KV_WAITERS)) {
        if (!kv_cas(word, &w, w | KV_WAITERS))
            return KV_AGAIN;
        FAULT(lock_waiter_marked);
        w |= KV_WAITERS;
    }
    enum kv_wait_result r = kv_wait(word, w, *limit);
    if (r == KV_INTERRUPTED && op->h->interruptible)
        return KV_INTR;
    if (r == KV_TIMED_OUT) {
        *ask = true;
        *limit = *limit * 2 < KV_SLEEP_MAX_NS ? *limit * 2 : KV_SLEEP_MAX_NS;
    }
    op->owner = owner;
    return KV_AGAIN;
}

uint64_t note_clock(struct kv_header *head) {
    uint64_t now = kv_clock_read(CLOCK_MONOTONIC_COARSE, 1000000000u);
    uint64_t was = kv_load_rlx(&head->tick_ns);
    if (now - was >= KV_NOTE_TICK_NS) /* rarely: all read that line. Or it is damaged */
        kv_store_rlx(&head->tick_ns, now);
    return now;
}

void note_wait(struct kv_op *op, uint32_t place, uint32_t owner, struct kv_waiting *w) {
    w->made = note_begin(op, KV_NOTED_WAIT, NULL, 0);
    w->since_ns = kv_clock_ns();
    if (op->note == NULL)
        return;
    if (kv_load_rlx(&op->note->place) == 0)
        kv_store_rlx(&op->note->waited_us, 0u);
    kv_store_rlx(&op->note->owner, owner);
    kv_store_rel(&op->note->place, place); /* release: only now the others count */
}

kv_status note_waited(struct kv_op *op, const struct kv_waiting *w, kv_status s) {
    if (op->note != NULL) {
        uint64_t us = kv_load_rlx(&op->note->waited_us) + (kv_clock_ns() - w->since_ns) / 1000;
        kv_store_rlx(&op->note->waited_us, us < UINT32_MAX ? (uint32_t)us : UINT32_MAX);
    }
    return note_end(op, w->made, s);
}

static kv_status wait_long(struct kv_op *op, uint32_t *word) {
    (void)lock_pass_deadline(op); /* the clock starts here */
    uint64_t limit = KV_SLEEP_MIN_NS;
    bool ask = true;
    kv_status s;
    do {
        bool late = lock_pass_deadline(op);
        s = wait_round(op, word, &limit, &ask);
        if (s == KV_AGAIN && late) /* asked once more after the time limit: the owner lives */
            s = KV_BUSY;
    } while (s == KV_AGAIN);
    return s;
}

kv_status lock_wait(struct kv_op *op, uint32_t *word) {
    struct kv_waiting w;
    if (spin_for(op, word))
        return KV_OK;
    if (op->leave != NULL)
        op->leave(op);
    uint32_t place = (uint32_t)((unsigned char *)word - op->h->base);
    note_wait(op, place, kv_load_rlx(word) & KV_NUMBER_MASK, &w);
    return note_waited(op, &w, wait_long(op, word));
}

void lock_wake(uint32_t *word) { kv_wake(word, 1); }

kv_status lock_idle(struct kv_op *op) {
    uint32_t nobody = 0;
    if (op->leave != NULL)
        op->leave(op);
    if (lock_pass_deadline(op))
        return KV_BUSY;
    struct kv_waiting w;
    note_wait(op, KV_AWAITED_PAGE, op->owner, &w);
    enum kv_wait_result r = kv_wait(&nobody, 0, KV_IDLE_NS);
    bool signal = r == KV_INTERRUPTED && op->h->interruptible;
    return note_waited(op, &w, signal ? KV_INTR : KV_OK);
}

/* ---- reservations and pins ---------------------------------------------------------------- */

/* The first six slots are for users' items, the last two for what a cleaner moves: a writer may
 * hold its slot while its thread, or another, makes room. */
#define KV_SLOTS_USERS 6u

kv_status reservation_slot(struct kv_op *op, bool moving, unsigned *slot) {
    uint32_t *mask = &op->h->own->reservations;
    unsigned from = moving ? KV_SLOTS_USERS : 0, to = moving ? KV_RESERVATIONS : KV_SLOTS_USERS;
    for (;;) {
        for (unsigned i = from; i < to; i++) {
            if (kv_load_rlx(mask) & 1u << i || kv_or_acq(mask, 1u << i) & 1u << i)
                continue;
            *slot = i;
            return KV_OK;
        }
        op->owner = kv_number(op->h);
        kv_status s = lock_idle(op); /* other threads of this process are writing: they end */
        if (s != KV_OK)
            return s;
    }
}

void reservation_clear(struct kv_handle *h, unsigned slot) {
    struct kv_row *row = kv_row_own(h);
    kv_store_rel(&row->reservation[slot],
                 0u); /* release: the bytes are written before the page may go */
    FAULT(reservation_cleared);
    kv_store_rlx(&row->replaced[slot], 0u);
    (void)kv_and_rel(&h->own->reservations, ~(1u << slot));
}

static bool pin_find(struct kv_own *own, struct kv_pin *pin) {
    for (uint32_t r = 0; r < own->rows; r++) {
        uint32_t used = own->row[r].pins;
        if (used == UINT32_MAX)
            continue;
        uint32_t i = (uint32_t)__builtin_ctz(~used);
        own->row[r].pins = used | 1u << i;
        *pin = (struct kv_pin){own->row[r].number, own->row[r].row, i, 0};
        return true;
    }
    return false;
}

kv_status pin_take(struct kv_op *op, struct kv_pin *pin, kv_fold_row *fold) {
    static_assert(KV_PINS == 32, "pins of a row are the bits of a word");
    struct kv_own *own = op->h->own;
    kv_status s = KV_OK;
    (void)pthread_mutex_lock(&own->mutex);
    if (!pin_find(own, pin)) {
        s = row_attach(op, fold);
        if (s == KV_OK && !pin_find(own, pin))
            s = KV_NOROWS;
    }
    (void)pthread_mutex_unlock(&own->mutex);
    return s;
}

void pin_drop(struct kv_handle *h, struct kv_pin *pin) {
    struct kv_own *own = h->own;
    (void)pthread_mutex_lock(&own->mutex);
    for (uint32_t r = 0; r < own->rows; r++) {
        if (own->row[r].number != pin->number)
            continue; /* of another life: a fork child holds a copy of its parent's words */
        kv_store_rel(&kv_row_at(h, pin->row)->pin[pin->index],
                     0u); /* release: the reading is over */
        FAULT(pin_dropped);
        own->row[r].pins &= ~(1u << pin->index);
    }
    (void)pthread_mutex_unlock(&own->mutex);
}
