/* fault.h: named points between the steps of every change of shared memory.
 *
 * In a release build FAULT(name) is nothing. In a fault build (-DKV_FAULT=1) each point counts its
 * visits and may kill, stop or leave the process there: fault.c. A point stands after each store to
 * shared memory that others may meet, and around each lock and unlock; its name says what just
 * happened. */
#ifndef KV_FAULT_H
#define KV_FAULT_H

#ifndef KV_FAULT
#define KV_FAULT 0
#endif

#if KV_FAULT
#include <stdint.h>

struct kv_fault_site {
    const char *name;
    const char *file;
    uint32_t line;
};

/* What happens at the armed visit. */
enum { KV_FAULT_KILL = 1, KV_FAULT_STOP = 2, KV_FAULT_CALL = 3 };

void kv_fault_visit(struct kv_fault_site *site);
/* Count visits in memory that fork children share; call once, before forking. 0 or -1. */
int kv_fault_share(void);
/* Arm: act at the n-th visit from now (1 = the next one); n = 0 disarms. */
void kv_fault_arm(uint64_t n, int action);
/* KV_FAULT_CALL runs this (C tests: longjmp out of the operation, schedule another process). */
void kv_fault_hook(void (*call)(const char *name, void *arg), void *arg);
uint64_t kv_fault_visits(void); /* visits since the last arm */
uint32_t kv_fault_sites(void);
const char *kv_fault_name(uint32_t i);
uint64_t kv_fault_count(uint32_t i); /* visits of site i, by every process since kv_fault_share */

#define FAULT(name)                                                                                \
    do {                                                                                           \
        static struct kv_fault_site kv_site_                                                       \
            __attribute__((section("kv_faults"), used, aligned(8))) = {#name, __FILE__, __LINE__}; \
        kv_fault_visit(&kv_site_);                                                                 \
    } while (0)
#else
#define FAULT(name) ((void)0)
#endif

#endif
