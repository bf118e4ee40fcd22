/* clock.c: the millisecond clock and its cheap approximation. */
#include "clock.h"

#include "atomic.h"

int64_t kv_clock_offset_ms;

/* CLOCK_BOOTTIME minus CLOCK_MONOTONIC_COARSE as last seen, and the coarse second it was seen in.
 * Racing threads store equally good values. */
static uint64_t kv_lead_ms;
static uint64_t kv_lead_second;

uint64_t kv_clock_ms(void) {
    return kv_clock_read(CLOCK_BOOTTIME, 1000u) + (uint64_t)kv_load_rlx(&kv_clock_offset_ms);
}

uint64_t kv_clock_coarse_ms(void) {
    uint64_t coarse = kv_clock_read(CLOCK_MONOTONIC_COARSE, 1000u);
    uint64_t second = coarse / 1000 + 1;
    if (kv_load_acq(&kv_lead_second) != second) {
        /* MONOTONIC, not its coarse form, so that the lead is not too large by a tick. */
        uint64_t exact = kv_clock_read(CLOCK_MONOTONIC, 1000u);
        uint64_t boot = kv_clock_read(CLOCK_BOOTTIME, 1000u);
        kv_store_rlx(&kv_lead_ms, boot > exact ? boot - exact - 1 : 0);
        kv_store_rel(&kv_lead_second, second); /* release: pairs with the acquire above */
    }
    return coarse + kv_load_rlx(&kv_lead_ms) + (uint64_t)kv_load_rlx(&kv_clock_offset_ms);
}
