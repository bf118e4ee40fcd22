/* Facts about locks of open file descriptions (F_OFD_SETLK) on bytes of a shared-memory file.
 *
 * An attachment proves that it lives by holding the lock on its row's byte of the segment file.
 * What the store builds on is asked of the running kernel here, one fact per line, each with the
 * answer the store needs. Traps belong to it: a fact marked "trap" is something the store must
 * avoid, asked so that a kernel that changes its mind is noticed. Prints one JSON object per fact:
 *
 *   {"fact": sentence, "holds": bool, "figure": text}
 *
 * and ends with status 1 if one of them does not hold. It says nothing about other file systems
 * than that of /dev/shm, nor about other kernels than the one it runs on. It leaves nothing behind:
 * the file loses its name before it is used; children end with their parent or by their own alarm.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 128, KILLS = 200, ASKS = 20000, BALLAST_MIB = 256, BALLAST_KILLS = 8 };
enum { LIMIT_MS = 10000 }; /* of every wait for a condition */

#define ROW_BASE ((off_t)1 << 40) /* lock bytes lie far beyond the end of the file */

static int file_fd;  /* names the file; takes no locks */
static int probe_fd; /* asks, from an open file description of its own */
static int told[2];  /* children say here that they are ready */
static bool all_hold = true;

/* ---- helpers ---- */

static void need(bool good, const char *what) {
    if (good) return;
    perror(what);
    _exit(1);
}

static void say(const char *fact, bool holds, const char *figure) {
    printf("{\"fact\": \"%s\", \"holds\": %s, \"figure\": \"%s\"}\n", fact,
           holds ? "true" : "false", figure);
    all_hold = all_hold && holds;
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int file_open(int flags) { /* an open file description of its own */
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", file_fd);
    int fd = open(path, flags);
    need(fd >= 0, "open the file again");
    return fd;
}

static bool lock(int fd, int command, int row, short type) {
    struct flock byte = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = ROW_BASE + row, .l_len = 1};
    return fcntl(fd, command, &byte) == 0;
}

static bool take(int fd, int row) {
    return lock(fd, F_OFD_SETLK, row, F_WRLCK);
}

static struct flock ask(int fd, int row) {
    struct flock byte = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = ROW_BASE + row, .l_len = 1};
    need(fcntl(fd, F_OFD_GETLK, &byte) == 0, "F_OFD_GETLK");
    return byte;
}

static bool held(int fd, int row) {
    return ask(fd, row).l_type != F_UNLCK;
}

static bool await_free(int row) {
    double end = now_us() + LIMIT_MS * 1e3;
    while (held(probe_fd, row)) {
        if (now_us() > end) return false;
        sched_yield(); /* the dying process may need this CPU */
    }
    return true;
}

static void tell(void) {
    char byte = 1;
    need(write(told[1], &byte, 1) == 1, "tell");
}

static void hear(void) {
    struct pollfd watch = {.fd = told[0], .events = POLLIN};
    char byte;
    need(poll(&watch, 1, LIMIT_MS) == 1 && read(told[0], &byte, 1) == 1, "a child says nothing");
}

static void live_on(void) {
    tell();
    for (;;) pause();
}

static pid_t child_fork(void) { /* in the child: 0, and it ends with its parent */
    pid_t parent = getpid(), pid = fork();
    need(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
    }
    return pid;
}

static void child_kill(pid_t pid) {
    need(kill(pid, SIGKILL) == 0, "kill");
    need(waitpid(pid, NULL, 0) == pid, "waitpid");
}

/* ---- costs ---- */

static double ask_ns(int row) {
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        double start = now_us();
        for (int i = 0; i < ASKS / 5; i++) (void)held(probe_fd, row);
        double ns = (now_us() - start) * 1e3 / (ASKS / 5);
        if (ns < best) best = ns;
    }
    return best;
}

static void fact_cost(void) {
    int fds[ROWS];
    char figure[128];
    fds[0] = file_open(O_RDWR | O_CLOEXEC);
    need(take(fds[0], 0), "take");
    double held_one = ask_ns(0), free_one = ask_ns(1);
    for (int row = 1; row < ROWS; row++) {
        fds[row] = file_open(O_RDWR | O_CLOEXEC);
        need(take(fds[row], row), "take");
    }
    double first = ask_ns(0), last = ask_ns(ROWS - 1), none = ask_ns(ROWS);
    (void)snprintf(figure, sizeof figure, "held %.0f ns, free %.0f ns", held_one, free_one);
    say("one question is cheap: 1 byte held in the file", held_one < 1e5 && free_one < 1e5, figure);
    (void)snprintf(figure, sizeof figure, "first %.0f ns, last %.0f ns, free %.0f ns", first, last,
                   none);
    say("one question is cheap: 128 bytes held by as many", last < 1e5 && none < 1e5, figure);
    for (int row = 0; row < ROWS; row++) close(fds[row]);
}

/* ---- one process ---- */

static void fact_descriptors(void) {
    int own = file_open(O_RDWR | O_CLOEXEC), other = file_open(O_RDWR | O_CLOEXEC);
    need(take(own, 0) && take(own, 1), "take");
    say("another descriptor of the same process cannot take the byte", !take(other, 0), "");
    say("another descriptor of the same process sees it held", held(other, 0), "");
    say("trap: asked through the owner's own descriptor the byte looks free", !held(own, 0), "");
    say("the answer names no process (l_pid is -1)", ask(other, 0).l_pid == -1, "");
    need(lock(own, F_OFD_SETLK, 0, F_UNLCK), "unlock");
    say("two rows of one descriptor are independent", !held(other, 0) && held(other, 1), "");
    int copy = dup(own);
    close(own);
    bool kept = held(other, 1);
    close(copy);
    say("a dup keeps the byte until the last copy is closed", kept && !held(other, 1), "");
    close(other);
}

static void fact_close(void) {
    int own = file_open(O_RDWR | O_CLOEXEC), other = file_open(O_RDWR | O_CLOEXEC);
    need(take(own, 0) && lock(own, F_SETLK, 1, F_WRLCK), "take");
    pid_t pid = child_fork(); /* a POSIX lock is seen by other processes only */
    if (pid == 0) _exit(held(probe_fd, 1) ? 0 : 1);
    int before, after;
    need(waitpid(pid, &before, 0) == pid, "waitpid");
    close(other);
    say("closing another descriptor of the file frees nothing", held(probe_fd, 0), "");
    pid = child_fork();
    if (pid == 0) _exit(held(probe_fd, 1) ? 0 : 1);
    need(waitpid(pid, &after, 0) == pid, "waitpid");
    say("trap: a POSIX lock is lost by it", before == 0 && after != 0, "");
    close(own);
}

static void fact_readonly(void) {
    int own = file_open(O_RDWR | O_CLOEXEC), reader = file_open(O_RDONLY | O_CLOEXEC);
    need(take(own, 0), "take");
    say("a read-only descriptor can ask", held(reader, 0) && !held(reader, 1), "");
    bool taken = take(reader, 1);
    say("a read-only descriptor cannot take (EBADF)", !taken && errno == EBADF, "");
    close(reader);
    close(own);
}

static void *thread_take(void *fd) {
    return take(*(int *)fd, 0) ? fd : NULL;
}

static void fact_threads(void) {
    int own = file_open(O_RDWR | O_CLOEXEC);
    pthread_t thread;
    void *taken;
    need(take(own, 0), "take");
    need(pthread_create(&thread, NULL, thread_take, &own) == 0, "pthread_create");
    need(pthread_join(thread, &taken) == 0, "pthread_join");
    say("trap: two threads on one descriptor do not exclude each other", taken != NULL, "");
    close(own);
}

/* ---- death ---- */

static pid_t holder_start(int row, size_t ballast_mib) {
    pid_t pid = child_fork();
    if (pid == 0) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
        size_t bytes = ballast_mib << 20;
        if (bytes) {
            void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
            need(memory != MAP_FAILED, "ballast");
        }
        need(take(file_open(O_RDWR | O_CLOEXEC), row), "take");
        live_on();
    }
    hear();
    return pid;
}

static void fact_stopped(void) {
    pid_t pid = holder_start(0, 0);
    int status;
    need(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid, "stop");
    say("a stopped owner holds its byte", held(probe_fd, 0) && WIFSTOPPED(status), "");
    child_kill(pid);
    say("a reaped owner does not", !held(probe_fd, 0), "");
}

static int compare(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static bool is_zombie(pid_t pid) { /* dead for the kernel, not yet reaped */
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0 && info.si_pid == pid;
}

static void fact_killed(const char *fact, int kills, size_t ballast_mib) {
    double took[KILLS];
    char figure[128];
    bool good = true;
    for (int i = 0; i < kills; i++) {
        pid_t pid = holder_start(0, ballast_mib);
        good = good && held(probe_fd, 0);
        double start = now_us();
        need(kill(pid, SIGKILL) == 0, "kill");
        good = await_free(0) && good;
        took[i] = now_us() - start;
        good = is_zombie(pid) && good && !held(probe_fd, 0);
        need(waitpid(pid, NULL, 0) == pid, "waitpid");
    }
    qsort(took, (size_t)kills, sizeof *took, compare);
    (void)snprintf(figure, sizeof figure, "%d kills: p50 %.0f us, p99 %.0f us, max %.0f us", kills,
                   took[kills / 2], took[kills * 99 / 100], took[kills - 1]);
    say(fact, good, figure);
}

/* ---- fork and exec ---- */

static int row_fd; /* of the holder below, for the handler of its children */

static void child_handler(void) {
    close(row_fd);
}

/* A holder forks, tells the pid of the child, and is killed. Is its byte still held? how: the child
 * keeps the descriptor ('k'), closes it in an at-fork handler ('h'), was made by a bare clone that
 * runs no handler ('c'), or closed it in the handler but inherited a mapping made from it ('m'). */
static bool held_after_fork(char how) {
    int pids[2];
    pid_t child, pid;
    need(pipe(pids) == 0, "pipe");
    if ((pid = child_fork()) == 0) {
        row_fd = file_open(O_RDWR | O_CLOEXEC);
        need(take(row_fd, 0), "take");
        if (how == 'm')
            need(mmap(NULL, 4096, PROT_READ, MAP_SHARED, row_fd, 0) != MAP_FAILED, "mmap");
        if (how != 'k') need(pthread_atfork(NULL, NULL, child_handler) == 0, "atfork");
        child = how == 'c' ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
        if (child == 0) {
            alarm(30);
            live_on();
        }
        need(write(pids[1], &child, sizeof child) == sizeof child, "write");
        live_on();
    }
    need(read(pids[0], &child, sizeof child) == sizeof child, "read");
    hear();
    hear();
    need(held(probe_fd, 0), "the byte is held at first");
    child_kill(pid); /* reaped: every descriptor of the holder is closed */
    bool still = held(probe_fd, 0);
    child_kill(child); /* a child of this process by now, the subreaper */
    need(!held(probe_fd, 0), "the byte is free at last");
    close(pids[0]);
    close(pids[1]);
    return still;
}

static void fact_fork(void) {
    say("a fork child that keeps the descriptor keeps the byte", held_after_fork('k'), "");
    say("a fork child that closes it at once does not", !held_after_fork('h'), "");
    say("trap: a child of a bare clone runs no handler, keeps the byte", held_after_fork('c'), "");
    say("trap: a mapping made from the descriptor keeps the byte in children that closed it",
        held_after_fork('m'), "");
}

static void fact_mapping(void) {
    int own = file_open(O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, own, 0);
    need(take(own, 0) && map != MAP_FAILED, "take");
    close(own);
    bool kept = held(probe_fd, 0);
    need(munmap(map, 4096) == 0, "munmap");
    bool freed = !held(probe_fd, 0);
    say("trap: so does it in the owner: munmap frees it, not close", kept && freed, "");
}

static bool held_after_exec(int cloexec) {
    char fd_text[16];
    (void)snprintf(fd_text, sizeof fd_text, "%d", told[1]);
    pid_t pid = child_fork();
    if (pid == 0) {
        need(take(file_open(O_RDWR | cloexec), 0), "take");
        tell();
        execl("/proc/self/exe", "ofd", "after-exec", fd_text, (char *)NULL);
        need(false, "exec");
    }
    hear();
    hear(); /* the second word comes from the new image */
    need(kill(pid, 0) == 0, "the process lives");
    bool still = held(probe_fd, 0);
    child_kill(pid);
    return still;
}

static void fact_exec(void) {
    say("exec frees the byte (O_CLOEXEC), the process lives on", !held_after_exec(O_CLOEXEC), "");
    say("trap: without O_CLOEXEC the byte survives exec", held_after_exec(0), "");
}

int main(int argc, char **argv) {
    char name[64];
    if (argc == 3 && strcmp(argv[1], "after-exec") == 0) {
        told[1] = atoi(argv[2]);
        live_on();
    }
    (void)snprintf(name, sizeof name, "/ofd-facts.%d.%.0f", getpid(), now_us());
    file_fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    need(file_fd >= 0 && shm_unlink(name) == 0 && ftruncate(file_fd, 4096) == 0, "make the file");
    need(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && pipe(told) == 0, "prepare");
    setvbuf(stdout, NULL, _IOLBF, 0); /* no text in the buffers of children */
    probe_fd = file_open(O_RDWR | O_CLOEXEC);
    fact_cost();
    fact_descriptors();
    fact_close();
    fact_readonly();
    fact_threads();
    fact_stopped();
    fact_killed("SIGKILL frees the byte while the owner is a zombie", KILLS, 0);
    fact_killed("the same with 256 MiB of private memory", BALLAST_KILLS, BALLAST_MIB);
    fact_fork();
    fact_mapping();
    fact_exec();
    return all_hold ? 0 : 1;
}
