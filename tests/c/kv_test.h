/* kv_test.h: the little that the C tests of the core share.
 *
 * Owns: CHECK macros that print the place, the test and the seed and end the process with 1; the
 * registry of a test program; segments ("worlds") whose names are unlinked whatever happens; items
 * that describe themselves, so that a reader can tell any mixture; a handle that "dies".
 *
 * A world that need not be found by its name is unlinked as soon as it is attached: then not even
 * SIGKILL can leave it behind. Handles that stand for other processes are twins: one more
 * attachment with an open file description of its own through the same mapping. Does not: know what
 * is tested. */
#ifndef KV_TEST_H
#define KV_TEST_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "store.h"

/* ---- checks ------------------------------------------------------------------------------- */

extern uint64_t kv_test_seed;    /* SHMKV_TEST_SEED, else the clock's */
extern double kv_test_scale;     /* SHMKV_TEST_SCALE, 1 = quick */
extern const char *kv_test_name; /* the test that runs */
extern char kv_test_where[256];  /* more for the message: which step of a loop */

_Noreturn void kv_test_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *kv_test_status(kv_status s);
void kv_test_not_run(const char *why); /* part of a test could not run here */

#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what))                                                                               \
            kv_test_fail(__FILE__, __LINE__, "%s", #what);                                         \
    } while (0)
#define CHECK_EQ(a, b)                                                                             \
    do {                                                                                           \
        long long a_ = (long long)(a), b_ = (long long)(b);                                        \
        if (a_ != b_)                                                                              \
            kv_test_fail(__FILE__, __LINE__, "%s = %lld, %s = %lld", #a, a_, #b, b_);              \
    } while (0)
#define CHECK_STATUS(call, want)                                                                   \
    do {                                                                                           \
        kv_status got_ = (call);                                                                   \
        if (got_ != (want))                                                                        \
            kv_test_fail(__FILE__, __LINE__, "%s: %s, not %s", #call, kv_test_status(got_),        \
                         kv_test_status(want));                                                    \
    } while (0)
#define OK(call) CHECK_STATUS(call, KV_OK)

struct kv_test {
    const char *name;
    void (*run)(void);
};
/* Run those whose names contain argv[1], or all. */
int kv_test_main(int argc, char **argv, const struct kv_test *tests, size_t count);
#define KV_TEST_MAIN(tests)                                                                        \
    int main(int argc, char **argv) {                                                              \
        return kv_test_main(argc, argv, tests, sizeof tests / sizeof tests[0]);                    \
    }

/* n times the scale, at least 1. */
uint64_t scaled(uint64_t n);

/* ---- chance ------------------------------------------------------------------------------- */

struct chance {
    uint64_t state;
};
struct chance chance_make(uint64_t salt); /* from the seed of the run */
uint64_t chance_next(struct chance *c);
/* 0 .. below - 1 */
uint32_t chance_below(struct chance *c, uint32_t below);
/* Between low and high, each order of magnitude as likely as another. */
uint32_t chance_size(struct chance *c, uint32_t low, uint32_t high);

/* ---- worlds ------------------------------------------------------------------------------- */

/* A name for shm_open; unlinked at exit and by the pytest wrapper. */
const char *world_name(void);
struct kv_config world_config(uint64_t size, uint64_t max_size, uint32_t options,
                              uint32_t appenders);
/* Open by name; fd from shm_open with O_CREAT if `config`. */
kv_status world_attach(const char *name, const struct kv_config *config, bool readonly,
                       struct kv_handle **h, bool *created, struct kv_found *found);
/* A segment nobody else can find any more. */
struct kv_handle *world_open(uint64_t size, uint32_t options);
struct kv_handle *world_open_with(const struct kv_config *config);
/* One that keeps its name until the next: journals are of stores that others can open. */
struct kv_handle *world_open_named(uint64_t size, uint32_t options);
/* Another attachment, with a row. */
struct kv_handle *world_twin(struct kv_handle *h);
/* Until ready(arg), at most ten seconds: then the test fails. */
void world_await(bool (*ready)(void *), void *arg);
/* The process behind a twin dies here: its byte locks end, its row stays as it is. */
void world_abandon(struct kv_handle *twin);

/* In a child with a tmpfs of this size (as mount says it) that goes with it; NOT RUN where none can
 * be mounted. */
void world_in_tmpfs(const char *size, void (*act)(const char *folder));

/* The segment's bytes as they are now, to go back to: up to the watermark, then the ghost's. */
struct image {
    unsigned char *bytes;
    uint64_t length; /* without the ghost */
    uint64_t ghost;
};
/* Of a length yet without bytes: give it memory, then fill it. */
struct image image_of(struct kv_handle *h);
void image_fill(struct kv_handle *h, const struct image *image);
struct image image_take(struct kv_handle *h);
/* Who was remembered then, and nobody else. Before the header is put back. */
void image_ghost(struct kv_handle *h, const struct image *image);
void image_restore(struct kv_handle *h, const struct image *image);
void image_free(struct image *image);

/* store_check: KV_OK and no problem, or the test fails telling them. */
struct kv_report world_check(struct kv_handle *h);
/* Compact, then: every base page is free, index or live; nothing held. */
struct kv_report world_settle(struct kv_handle *h);
/* And no garbage: where every item finds a place to move to. */
struct kv_report world_account(struct kv_handle *h);
uint64_t world_stat(struct kv_handle *h, enum kv_stat what);

/* ---- items that describe themselves ------------------------------------------------------- */

/* Key of an id: 4 to 19 bytes, the id first. */
struct kv_key item_key_of(const struct kv_handle *h, uint32_t id, unsigned char room[32]);
/* The key of 16 bytes, begun by `mark`, whose hash is this one: XXH64 run backwards. */
struct kv_key key_of_hash(const struct kv_handle *h, uint64_t hash, uint64_t mark,
                          unsigned char room[16]);
/* Value of `len` bytes that follows from (id, stamp, len). */
void item_bytes_of(uint32_t id, uint32_t stamp, unsigned char *to, uint64_t len);
/* NULL, or what is wrong; *stamp is told when len >= 8. */
const char *item_wrong(uint32_t id, const unsigned char *bytes, uint64_t len, uint32_t *stamp);

kv_status item_put(struct kv_handle *h, uint32_t id, uint32_t stamp, uint64_t len,
                   uint64_t deadline_ms, enum kv_put mode);
kv_status item_set(struct kv_handle *h, uint32_t id, uint32_t stamp, uint64_t len);
/* Verified; a wrong value fails the test. */
kv_status item_get(struct kv_handle *h, uint32_t id, uint32_t *stamp, uint64_t *len);
kv_status item_delete(struct kv_handle *h, uint32_t id);
kv_status item_incr(struct kv_handle *h, uint32_t id, int64_t delta, int64_t initial,
                    int64_t *result);
kv_status item_touch(struct kv_handle *h, uint32_t id, uint64_t deadline_ms);
kv_status item_append(struct kv_handle *h, uint32_t id, const void *tail, uint64_t len,
                      uint64_t *now);

#define KV_ITEM_TEST_MAX (8u << 20) /* the largest value of item_* */

#endif
