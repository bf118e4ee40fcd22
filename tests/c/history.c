/* history.c: see history.h. The search goes deep first and remembers where it has been in vain:
 * what has been done, and what the key then held. Everything is static: one search at a time. */
#include "history.h"

#define TRIED (1u << 14) /* places for states that led nowhere; a full table only costs time */

static const char *const names[DEED_KINDS] = {"get",    "set", "add",   "replace", "cas",  "delete",
                                              "pop",    "touch", "incr", "append",  "clear"};

static struct {
    const struct deed *deed;
    uint32_t n;
    bool may_leave;
    struct tried {
        uint64_t done;
        bool used;
        struct content c;
    } tried[TRIED];
} s;

uint64_t content_append(uint64_t is, uint8_t byte) { return is * 257 + byte + 1; }

/* ---- what a deed does --------------------------------------------------------------------- */

static bool writes_new(enum deed_kind k) {
    return k == DEED_SET || k == DEED_ADD || k == DEED_REPLACE || k == DEED_CAS;
}

/* Would it succeed on this content? */
static bool succeeds(const struct deed *d, const struct content *c) {
    switch (d->kind) {
    case DEED_ADD:
        return !c->there;
    case DEED_CAS:
        return c->there && c->is == d->expected;
    case DEED_GET:
    case DEED_REPLACE:
    case DEED_DELETE:
    case DEED_POP:
    case DEED_TOUCH:
        return c->there;
    default:
        return true;
    }
}

static kv_status refusal(const struct deed *d, const struct content *c) {
    return d->kind == DEED_ADD || (d->kind == DEED_CAS && c->there) ? KV_EXISTS : KV_MISS;
}

static struct content made_by(const struct deed *d, struct content c) {
    if (writes_new(d->kind))
        return (struct content){true, d->content, d->deadline_ms};
    if (d->kind == DEED_DELETE || d->kind == DEED_POP || d->kind == DEED_CLEAR)
        return (struct content){.there = false};
    if (d->kind == DEED_TOUCH)
        c.deadline_ms = d->deadline_ms;
    if (!c.there && (d->kind == DEED_INCR || d->kind == DEED_APPEND))
        c = (struct content){.there = true};
    if (d->kind == DEED_INCR)
        c.is += d->content;
    if (d->kind == DEED_APPEND)
        c.is = content_append(c.is, (uint8_t)d->content);
    return c;
}

/* Can the deed have met this content, seeing what it saw? Then what it leaves. */
static bool meets(const struct deed *d, struct content c, struct content *left) {
    bool fine = succeeds(d, &c);
    *left = fine ? made_by(d, c) : c;
    if (d->killed)
        return true;
    if (!fine)
        return d->status == refusal(d, &c);
    if (d->status != KV_OK)
        return false;
    if (d->kind == DEED_GET || d->kind == DEED_POP)
        return d->seen == c.is;
    return d->kind != DEED_INCR || d->seen == left->is;
}

/* ---- the search --------------------------------------------------------------------------- */

static bool seen_before(uint64_t done, const struct content *c) {
    uint64_t parts[4] = {done, c->there, c->is, c->deadline_ms};
    struct tried *t = &s.tried[kv_hash(parts, sizeof parts, 1) % TRIED];
    if (t->used && t->done == done && t->c.there == c->there && t->c.is == c->is &&
        t->c.deadline_ms == c->deadline_ms)
        return true;
    *t = (struct tried){done, true, *c};
    return false;
}

static bool search(uint64_t done, struct content c);

/* The deed comes next: on the content as it is, or as it is once it has expired or left. */
static bool next_is(uint32_t i, uint64_t done, struct content c) {
    const struct deed *d = &s.deed[i];
    struct content gone = {.there = false}, left;
    bool expirable = c.there && c.deadline_ms != 0;
    bool may_live = !(expirable && d->begin_ms >= c.deadline_ms);
    bool may_be_gone = c.there && (s.may_leave || (expirable && d->end_ms >= c.deadline_ms));
    if (may_live && meets(d, c, &left) && search(done | 1ULL << i, left))
        return true;
    if (may_be_gone && meets(d, gone, &left) && search(done | 1ULL << i, left))
        return true;
    /* A clear leaves what came after it began; a killed deed may not have happened. */
    bool may_skip = d->killed || d->kind == DEED_CLEAR;
    return may_skip && search(done | 1ULL << i, c);
}

static bool search(uint64_t done, struct content c) {
    if (done == (1ULL << s.n) - 1)
        return true;
    if (seen_before(done, &c))
        return false;
    uint64_t first_end = UINT64_MAX;
    for (uint32_t i = 0; i < s.n; i++)
        if (!(done >> i & 1) && s.deed[i].end < first_end)
            first_end = s.deed[i].end;
    for (uint32_t i = 0; i < s.n; i++)
        if (!(done >> i & 1) && s.deed[i].begin <= first_end && next_is(i, done, c))
            return true;
    return false;
}

bool history_fits(const struct deed *deeds, uint32_t n, struct content at_first, bool may_leave) {
    CHECK(n <= DEEDS_MAX);
    s.deed = deeds;
    s.n = n;
    s.may_leave = may_leave;
    memset(s.tried, 0, sizeof s.tried);
    return search(0, at_first);
}

void history_tell(const struct deed *deeds, uint32_t n, struct content at_first) {
    fprintf(stderr, "  at first: %s %" PRIu64 "\n", at_first.there ? "there" : "absent",
            at_first.is);
    for (uint32_t i = 0; i < n; i++) {
        const struct deed *d = &deeds[i];
        fprintf(stderr,
                "  [%4" PRIu64 ", %4" PRIu64 "] process %u %s %" PRIu64 " (expects %" PRIu64
                ", deadline %" PRIu64 "): %s, saw %" PRIu64 "%s, %" PRIu64 "-%" PRIu64 " ms\n",
                d->begin, d->end, d->process, names[d->kind], d->content, d->expected,
                d->deadline_ms, kv_test_status(d->status), d->seen, d->killed ? ", killed" : "",
                d->begin_ms, d->end_ms);
    }
}
