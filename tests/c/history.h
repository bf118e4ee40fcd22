/* history.h: what several processes did to one key, and whether one order of it makes sense.
 *
 * Owns: what each kind of deed does to a key, and the search for an order of all deeds that fits
 * what everybody saw (linearizability; the search of Wing and Gong, 1993, remembering what was
 * tried as Lowe does, 2017). A deed whose process was killed may have happened before the death,
 * or not at all. Where items may leave, a key may be gone at any time. Exhaustive: histories must
 * be short. */
#ifndef KV_HISTORY_H
#define KV_HISTORY_H

#include "kv_test.h"

#define DEEDS_MAX 40u /* of one key */

enum deed_kind {
    DEED_GET,
    DEED_SET,
    DEED_ADD,
    DEED_REPLACE,
    DEED_CAS,
    DEED_DELETE,
    DEED_POP,
    DEED_TOUCH,
    DEED_INCR,
    DEED_APPEND,
    DEED_CLEAR, /* of what was there when it began */
    DEED_KINDS
};

struct deed {
    enum deed_kind kind;
    uint32_t process;
    bool killed;
    kv_status status;
    uint64_t content;       /* what it writes: a stamp; what it adds or appends */
    uint64_t seen;          /* what it saw, or made */
    uint64_t expected;      /* CAS: the content its token is of */
    uint64_t deadline_ms;
    uint64_t begin, end;    /* ticks */
    uint64_t begin_ms, end_ms;
};

struct content {
    bool there;
    uint64_t is, deadline_ms;
};

/* A value that grows: what it is after one more byte. */
uint64_t content_append(uint64_t is, uint8_t byte);

/* Is there an order? */
bool history_fits(const struct deed *deeds, uint32_t n, struct content at_first, bool may_leave);
void history_tell(const struct deed *deeds, uint32_t n, struct content at_first);

#endif
