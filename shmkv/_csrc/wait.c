/* wait.c: futexes shared between processes (no FUTEX_PRIVATE_FLAG). */
#include "wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum kv_wait_result kv_wait(uint32_t *word, uint32_t seen, uint64_t ns) {
    struct timespec limit = {.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
    if (syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0) == 0)
        return KV_WOKEN;
    if (errno == ETIMEDOUT)
        return KV_TIMED_OUT;
    return errno == EINTR ? KV_INTERRUPTED : KV_WOKEN; /* EAGAIN: the word has changed */
}

void kv_wake(uint32_t *word, int how_many) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE, how_many, NULL, NULL, 0);
}
