/* fault.c: the machinery behind FAULT(name) in fault builds; empty in release builds.
 *
 * Visit counts live in anonymous shared memory, so that a test that forks and kills children still
 * learns which points they passed. Arming is private to a process and inherited by fork. */
#include "fault.h"

#if KV_FAULT
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#define KV_FAULT_MAX 1024

extern struct kv_fault_site __start_kv_faults[];
extern struct kv_fault_site __stop_kv_faults[];

static uint64_t *kv_counts;
static __thread uint64_t kv_armed, kv_seen;
static __thread int kv_action;
static __thread void (*kv_call)(const char *, void *);
static __thread void *kv_call_arg;

uint32_t kv_fault_sites(void) { return (uint32_t)(__stop_kv_faults - __start_kv_faults); }

int kv_fault_share(void) {
    if (kv_counts != NULL)
        return 0;
    void *p = mmap(NULL, KV_FAULT_MAX * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || kv_fault_sites() > KV_FAULT_MAX)
        return -1;
    kv_counts = p;
    return 0;
}

void kv_fault_arm(uint64_t n, int action) {
    kv_armed = n;
    kv_seen = 0;
    kv_action = action;
}

void kv_fault_hook(void (*call)(const char *, void *), void *arg) {
    kv_call = call;
    kv_call_arg = arg;
}

uint64_t kv_fault_visits(void) { return kv_seen; }
const char *kv_fault_name(uint32_t i) { return __start_kv_faults[i].name; }

uint64_t kv_fault_count(uint32_t i) {
    return kv_counts == NULL ? 0 : __atomic_load_n(&kv_counts[i], __ATOMIC_RELAXED);
}

void kv_fault_visit(struct kv_fault_site *site) {
    if (kv_counts != NULL)
        __atomic_fetch_add(&kv_counts[site - __start_kv_faults], 1, __ATOMIC_RELAXED);
    kv_seen++;
    if (kv_action == KV_FAULT_CALL && kv_call != NULL) {
        if (kv_armed == 0 || kv_seen == kv_armed)
            kv_call(site->name, kv_call_arg);
        return;
    }
    if (kv_armed == 0 || kv_seen != kv_armed)
        return;
    if (kv_action == KV_FAULT_KILL)
        kill(getpid(), SIGKILL);
    else if (kv_action == KV_FAULT_STOP)
        kill(getpid(), SIGSTOP);
}
#else
typedef int kv_fault_is_off; /* a translation unit may not be empty */
#endif
