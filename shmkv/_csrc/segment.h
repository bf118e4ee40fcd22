/* segment.h: one mapping of one segment: create, attach, validate, back with memory, fork, detach.
 *
 * Owns file descriptors and the mapping. The name, its owner and its rights are segment.py's
 * business; here a descriptor arrives that shm_open has just made (its own open file description).
 */
#ifndef KV_SEGMENT_H
#define KV_SEGMENT_H

#include "lock.h"

/* What an attacher found when it was refused: both sides of the message. */
struct kv_found {
    uint32_t layout_version;
    uint32_t fingerprint;
    uint64_t size, max_size;
    uint64_t file_bytes;
    uint32_t options;
};

struct kv_open {
    int fd;           /* closed by segment_open, whatever it returns */
    const char *name; /* of the shared-memory object, to unlink a creation that failed */
    const struct kv_config *config; /* not NULL: initialise it so if it has no magic yet */
    bool readonly;
    bool hold;           /* what this call creates is seen by nobody before segment_publish() */
    uint64_t timeout_ns; /* of locks, and of the wait for a creator at work */
    void (*format)(struct kv_handle *); /* lays out index and pages of a new segment */
};

/* Map the segment behind the descriptor. Without a config, a segment without magic is KV_HALFMADE
 * once its creator is gone. The handle has no row yet. *created: this call initialised it. KV_OK
 * KV_HALFMADE KV_GONE KV_VERSION KV_STRANGER KV_CORRUPT KV_NOSPACE KV_BUSY KV_NOMEM KV_OS */
kv_status segment_open(const struct kv_open *how, struct kv_handle **out, bool *created,
                       struct kv_found *found);
/* What a held creation has made is everybody's from now on. */
void segment_publish(struct kv_handle *h);
/* Set the file's times: it was used until now. The kernel sets them where a file is mapped and
 * where a process first writes to a page, and at nothing else that users of a segment do. Not for a
 * handle whose descriptor came with O_NOATIME: who only looks leaves no trace. */
void segment_mark(const struct kv_handle *h);
/* Unmap and close. The rows must have been released (or never taken). */
void segment_close(struct kv_handle *h);
/* Tests: another attachment of the same segment through the same mapping, so that a sanitizer that
 * follows addresses sees both. Close it before the first. */
kv_status segment_twin(const struct kv_handle *h, struct kv_handle **out);

/* Make bytes up to `end` usable. KV_OK, KV_NOSPACE (the store goes on at its present size), KV_OS.
 */
kv_status segment_back(struct kv_op *op, uint64_t end);

/* Make lines of the ghost usable; false: there is no memory for them, or no such lines. */
bool segment_ghost(struct kv_handle *h, uint32_t lines);
/* Bytes of the ghost in use. */
uint64_t segment_ghost_bytes(const struct kv_handle *h);

/* After fork, in the child: a descriptor of its own. The at-fork handler has tried; this is the
 * rest. */
kv_status segment_adopt(struct kv_handle *h);

/* Does the file still have its one name? KV_OK, KV_GONE, KV_OS */
kv_status segment_named(const struct kv_handle *h);

/* The watermark, checked against the file: a ref below it may be touched. */
uint64_t segment_watermark(struct kv_handle *h);

#endif
