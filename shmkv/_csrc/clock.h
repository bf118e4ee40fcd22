/* clock.h: the two clocks of the core.
 *
 * Deadlines are milliseconds of CLOCK_BOOTTIME: it goes on in suspend and does not jump when
 * somebody sets the wall clock. Reading it costs as much as a small get, so a read of an item with
 * a deadline first asks the coarse clock, which lags by at most one scheduler tick:
 * kv_clock_before() is sure when the deadline is further away than that and asks the exact clock
 * only near it. Waits are nanoseconds of CLOCK_MONOTONIC. Tests shift the millisecond clock of
 * their process. */
#ifndef KV_CLOCK_H
#define KV_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define KV_CLOCK_TICK_MS 12u /* no kernel runs slower than 100 Hz; two more for rounding */

extern int64_t kv_clock_offset_ms; /* tests only */

static inline uint64_t kv_clock_read(clockid_t id, uint64_t per_second) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * per_second + (uint64_t)t.tv_nsec / (1000000000u / per_second);
}

static inline uint64_t kv_clock_ns(void) { return kv_clock_read(CLOCK_MONOTONIC, 1000000000u); }

static inline uint64_t kv_clock_wall_ms(void) { return kv_clock_read(CLOCK_REALTIME, 1000u); }

/* The segment's clock. */
uint64_t kv_clock_ms(void);

/* A time that is not after kv_clock_ms() and at most KV_CLOCK_TICK_MS (1 s after a suspend) before
 * it. */
uint64_t kv_clock_coarse_ms(void);

/* Has the deadline passed? 0 = never. */
static inline bool kv_clock_passed(uint64_t deadline_ms) {
    if (deadline_ms == 0)
        return false;
    if (kv_clock_coarse_ms() + KV_CLOCK_TICK_MS < deadline_ms)
        return false;
    return kv_clock_ms() >= deadline_ms;
}

#endif
