/* atomic.h: every access to shared memory that another process may race with.
 *
 * Orders are in the names: rlx, acq, rel, seq. The caller's comment names the partner. Bulk bytes
 * that a reader may copy while they change (values, keys) go through kv_copy_*: plain memcpy,
 * because the reader validates afterwards; under ThreadSanitizer word by word, so that it sees no
 * data race, and kv_load_after() replaces the fence that it cannot see. */
#ifndef KV_ATOMIC_H
#define KV_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define KV_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KV_TSAN 1
#endif
#endif
#ifndef KV_TSAN
#define KV_TSAN 0
#endif

#define kv_load_rlx(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define kv_load_acq(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define kv_store_rlx(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define kv_store_rel(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define kv_add_rlx(p, v)   __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define kv_or_acq(p, v)    __atomic_fetch_or((p), (v), __ATOMIC_ACQUIRE)
#define kv_and_rel(p, v)   __atomic_fetch_and((p), (v), __ATOMIC_RELEASE)
#define kv_swap_rel(p, v)  __atomic_exchange_n((p), (v), __ATOMIC_RELEASE)
/* Compare and swap, acquire and release on success; *e becomes what was there on failure. */
#define kv_cas(p, e, v)                                                                            \
    __atomic_compare_exchange_n((p), (e), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

#if KV_TSAN
#define kv_fence_acq() ((void)0)
#define kv_fence_rel() ((void)0)
static inline void kv_fence_seq(void) {
    static uint32_t word;
    __atomic_fetch_add(&word, 0, __ATOMIC_SEQ_CST);
}
#else
#define kv_fence_acq() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define kv_fence_rel() __atomic_thread_fence(__ATOMIC_RELEASE)
#define kv_fence_seq() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif

/* The second load of a version: everything read before stays before it. */
static inline uint64_t kv_load_after(uint64_t *p) {
#if KV_TSAN
    return __atomic_fetch_add(p, 0, __ATOMIC_ACQ_REL);
#else
    kv_fence_acq();
    return kv_load_rlx(p);
#endif
}

static inline void kv_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield" ::: "memory");
#endif
}

/* Copy out of shared memory; the result counts only after validation. */
static inline void kv_copy_out(void *dst, const void *src, size_t n) {
#if KV_TSAN
    unsigned char *d = dst;
    const unsigned char *s = src;
    for (size_t i = 0; i < n; i++)
        d[i] = kv_load_rlx(s + i);
#else
    memcpy(dst, src, n);
#endif
}

/* Copy into shared memory that a stale reader may still be looking at. */
static inline void kv_copy_in(void *dst, const void *src, size_t n) {
#if KV_TSAN
    unsigned char *d = dst;
    const unsigned char *s = src;
    for (size_t i = 0; i < n; i++)
        kv_store_rlx(d + i, kv_load_rlx(s + i));
#else
    memcpy(dst, src, n);
#endif
}

/* Equality of private bytes with shared ones; counts only after validation. */
static inline bool kv_same(const void *shared, const void *mine, size_t n) {
#if KV_TSAN
    const unsigned char *s = shared, *m = mine;
    for (size_t i = 0; i < n; i++)
        if (kv_load_rlx(s + i) != m[i])
            return false;
    return true;
#else
    /* Keys are short: compare words here, the last one overlapping, rather than call. */
    const unsigned char *s = shared, *m = mine;
    uint64_t a, b;
    if (n < 8 || n > 32)
        return memcmp(s, m, n) == 0;
    for (size_t i = 0; i + 8 < n; i += 8) {
        memcpy(&a, s + i, 8);
        memcpy(&b, m + i, 8);
        if (a != b)
            return false;
    }
    memcpy(&a, s + n - 8, 8);
    memcpy(&b, m + n - 8, 8);
    return a == b;
#endif
}

#endif
