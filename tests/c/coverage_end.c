/* What keeps the counters of branch coverage of a process that ends without leaving main: it writes
 * them first.
 *
 * Owns: stand-ins, by the linker's --wrap, for the two calls by which instrumented code ends
 * itself: a fault point's kill(getpid(), SIGKILL), and _exit in fork children of the C tests; and
 * one function that an interpreter calls before its own os._exit (tests/coverage_site.py). Linked
 * into coverage builds only. Does not: help a process that somebody else kills; its counts are
 * lost. */
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

extern void __gcov_dump(void);
extern int __real_kill(pid_t process, int number);
extern _Noreturn void __real__exit(int code);

int __wrap_kill(pid_t process, int number);
_Noreturn void __wrap__exit(int code);
__attribute__((visibility("default"))) void shmkv_coverage_dump(void);

void shmkv_coverage_dump(void) { __gcov_dump(); }

int __wrap_kill(pid_t process, int number) {
    if (number == SIGKILL && process == getpid())
        __gcov_dump();
    return __real_kill(process, number);
}

_Noreturn void __wrap__exit(int code) {
    __gcov_dump();
    __real__exit(code);
}
