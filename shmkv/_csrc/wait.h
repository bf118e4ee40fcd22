/* wait.h: sleeping on a word of shared memory. Owns the futex system call, nothing else.
 *
 * Every sleep has a time limit and the caller looks again after it: a lost wake-up, or a waker that
 * died between its store and its wake, costs the limit and nothing more. */
#ifndef KV_WAIT_H
#define KV_WAIT_H

#include <stdint.h>

enum kv_wait_result { KV_WOKEN, KV_TIMED_OUT, KV_INTERRUPTED };

/* Sleep while *word == seen, at most `ns` nanoseconds. */
enum kv_wait_result kv_wait(uint32_t *word, uint32_t seen, uint64_t ns);
void kv_wake(uint32_t *word, int how_many);

#endif
