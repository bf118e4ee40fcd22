/* schedule_scenes.h: the small stores in which logical processes meet.
 *
 * Owns: four keys, what they hold at first, and what the store is about to do: nothing, to clean,
 * to evict, to split an index segment, to put a key beside its full bucket. Does not: run anything.
 */
#ifndef KV_SCHEDULE_SCENES_H
#define KV_SCHEDULE_SCENES_H

#include "history.h"
#include "schedule.h"

#define KEY_COUNTER 2u
#define KEY_TAIL    3u /* a value that grows */
#define KEYS_ALL    4u /* the first two are plain values; key 1 is absent at first */
#define VALUE_MAX   65536u
#define SCENE_KINDS 5u

struct scene_now;

struct schedule_scene {
    const char *name;
    void (*fill)(struct scene_now *);
    bool evicts;
    uint32_t least, most; /* bytes of a value */
};

struct scene_now {
    const struct schedule_scene *scene;
    uint32_t index;
    struct kv_handle *h;
    struct image image;
    struct kv_key key[KEYS_ALL];
    unsigned char name[KEYS_ALL][32];
    struct content at_first[KEYS_ALL];
    uint64_t steps[SCENE_KINDS]; /* of one process, about */
};

extern const struct schedule_scene scene_list[];
extern const uint32_t scene_count;
extern const unsigned scene_kinds[SCENE_KINDS]; /* which points are steps */

struct scene_now *scene_make(uint32_t index);
void scene_restore(struct scene_now *sc);
void scene_end(struct scene_now *sc);

#endif
