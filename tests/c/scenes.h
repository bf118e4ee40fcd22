/* scenes.h: what is being done when somebody dies at an instruction, and what must hold afterwards.
 *
 * Owns: small stores, each filled up to the moment before one operation; that operation alone, its
 * key and value made beforehand; the judgement of whoever goes on. Does not: kill anybody. */
#ifndef KV_SCENES_H
#define KV_SCENES_H

#include "torture.h"

struct scene {
    const char *name;
    void (*fill)(struct kv_handle *);
    void (*act)(struct kv_handle *); /* the operation and nothing else */
    bool may_evict;                  /* items that nobody asked to delete may be gone */
    bool slow;                       /* in the long form only */
};
extern const struct scene scenes[];
extern const size_t scenes_count;

/* What a lock-free look at the changed key tells. */
struct sight {
    kv_status status;
    uint8_t type;
    uint32_t stamp;
    uint64_t len, counter, deadline_ms;
};

/* A store at the moment before the operation. */
struct stage {
    const struct scene *scene;
    struct kv_handle *h; /* the survivor's */
    struct image image;  /* in memory that fork does not copy */
    struct sight before, after;
    uint32_t neighbour; /* a key of the same stripe, not there before */
    int64_t clock_before;
    uint64_t judged;
};
struct stage stage_make(const struct scene *scene);
void stage_end(struct stage *st);
void stage_restore(struct stage *st);

/* Somebody died in the operation: the survivor finds the value old or new, every other key as it
 * was, writes into the same stripe without waiting, and finds every invariant and, every few times,
 * every byte. `finished`: it died after all, so the value is new. What the survivor's write
 * took, in nanoseconds. */
uint64_t stage_judge(struct stage *st, bool finished);

/* Who meets the dead: each repairs something on its way. */
struct meeting {
    const char *name;
    void (*act)(struct kv_handle *);
    bool bare; /* comes without a row: attaching is what it does */
};
extern const struct meeting meetings[];
extern const uint32_t meetings_count;

#endif
