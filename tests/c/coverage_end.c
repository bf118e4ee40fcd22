/* What keeps the counters of branch coverage of a process that ends without leaving main: it writes
 * them first.
 *
 * Owns: stand-ins, by the linker's --wrap, for the two calls by which instrumented code ends
 * itself: a fault point's kill(getpid(), SIGKILL), and _exit in fork children of the C tests; and
 * one function that an interpreter calls before its own os._exit (tests/coverage_site.py). Where
 * calls are made to fail (failing_shim.c), those of the profiler are not: counters written without
 * their file's lock, or by half, spoil those of all who come later. Linked into coverage builds
 * only. Does not: help a process that somebody else kills, or that became another user, who may not
 * write there: its counts are lost, and the profiler's words about it are not for the test. */
#include <signal.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

extern void __gcov_dump(void);
extern int __real_kill(pid_t process, int number);
extern _Noreturn void __real__exit(int code);
extern int failing_over __attribute__((weak)); /* of failing_shim.c, where that is preloaded */

int __wrap_kill(pid_t process, int number);
_Noreturn void __wrap__exit(int code);
__attribute__((visibility("default"))) void shmkv_coverage_dump(void);

static uid_t user;

__attribute__((constructor)) static void begin(void) { user = geteuid(); }

/* Also at an ordinary end: destructors without a priority run before the profiler's own. */
__attribute__((destructor)) static void end(void) {
    if (&failing_over != NULL)
        failing_over = 1;
    if (geteuid() != user && freopen("/dev/null", "w", stderr) == NULL)
        (void)fclose(stderr);
}

void shmkv_coverage_dump(void) {
    end();
    __gcov_dump();
}

int __wrap_kill(pid_t process, int number) {
    if (number == SIGKILL && process == getpid())
        shmkv_coverage_dump();
    return __real_kill(process, number);
}

_Noreturn void __wrap__exit(int code) {
    shmkv_coverage_dump();
    __real__exit(code);
}
