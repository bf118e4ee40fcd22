/* schedule_atomic.h: every access to shared memory becomes a place where the scheduler may act.
 *
 * Compiled in front of every source of the core (-include): takes atomic.h as it is and puts a
 * point before each of its accesses; copies are cut into pieces, so that a reader meets half
 * written values. Whatever atomic.h gains that is not here fails no test: it is only no point.
 * Orders are those of one processor after the other; what weaker machines may do besides is left to
 * the protocol's model. */
#ifndef KV_SCHEDULE_ATOMIC_H
#define KV_SCHEDULE_ATOMIC_H

#include "atomic.h"

enum schedule_kind { POINT_LOAD = 1, POINT_STORE = 2, POINT_COPY = 4, POINT_FAULT = 8 };

/* The running process may be stopped here, or die. */
void schedule_point(unsigned kind);
void schedule_copy(void *to, const void *from, size_t n);
bool schedule_same(const void *shared, const void *mine, size_t n);

#undef kv_load_rlx
#undef kv_load_acq
#undef kv_store_rlx
#undef kv_store_rel
#undef kv_add_rlx
#undef kv_or_acq
#undef kv_and_rel
#undef kv_swap_rel
#undef kv_cas

#define kv_load_rlx(p) (schedule_point(POINT_LOAD), __atomic_load_n((p), __ATOMIC_RELAXED))
#define kv_load_acq(p) (schedule_point(POINT_LOAD), __atomic_load_n((p), __ATOMIC_ACQUIRE))
#define kv_store_rlx(p, v)                                                                         \
    (schedule_point(POINT_STORE), __atomic_store_n((p), (v), __ATOMIC_RELAXED))
#define kv_store_rel(p, v)                                                                         \
    (schedule_point(POINT_STORE), __atomic_store_n((p), (v), __ATOMIC_RELEASE))
#define kv_add_rlx(p, v)                                                                           \
    (schedule_point(POINT_STORE), __atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
#define kv_or_acq(p, v)                                                                            \
    (schedule_point(POINT_STORE), __atomic_fetch_or((p), (v), __ATOMIC_ACQUIRE))
#define kv_and_rel(p, v)                                                                           \
    (schedule_point(POINT_STORE), __atomic_fetch_and((p), (v), __ATOMIC_RELEASE))
#define kv_swap_rel(p, v)                                                                          \
    (schedule_point(POINT_STORE), __atomic_exchange_n((p), (v), __ATOMIC_RELEASE))
#define kv_cas(p, e, v)                                                                            \
    (schedule_point(POINT_STORE),                                                                  \
     __atomic_compare_exchange_n((p), (e), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))

#define kv_load_after(p)     (schedule_point(POINT_COPY), (kv_load_after)(p))
#define kv_copy_out(d, s, n) schedule_copy((d), (s), (n))
#define kv_copy_in(d, s, n)  schedule_copy((d), (s), (n))
#define kv_same(s, m, n)     schedule_same((s), (m), (n))
#define kv_pause()           schedule_point(POINT_LOAD)

#endif
