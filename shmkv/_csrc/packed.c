/* packed.c: a walk over MessagePack bytes, bounded in depth and by their end.
 *
 * Every element that a length promises needs at least one byte, so the walk is linear in the bytes
 * whatever they say. Text is not looked at: the decoder refuses what is not UTF-8. */
#include "packed.h"

#include <assert.h>
#include <stddef.h>

struct walk {
    const unsigned char *at, *end;
    bool ext, deep;
};

static bool value(struct walk *w, unsigned left);

/* A big-endian number of n bytes. */
static bool number(struct walk *w, unsigned n, uint64_t *out) {
    if ((size_t)(w->end - w->at) < n)
        return false;
    *out = 0;
    while (n-- > 0)
        *out = *out << 8 | *w->at++;
    return true;
}

static bool skip(struct walk *w, uint64_t n) {
    if (n > (uint64_t)(w->end - w->at))
        return false;
    w->at += n;
    return true;
}

static bool skip_counted(struct walk *w, unsigned width) {
    uint64_t n;
    return number(w, width, &n) && skip(w, n);
}

static bool elements(struct walk *w, uint64_t n, unsigned left) {
    if (left == 0) {
        w->deep = true;
        return false;
    }
    if (n > (uint64_t)(w->end - w->at))
        return false;
    while (n-- > 0)
        if (!value(w, left - 1))
            return false;
    return true;
}

/* Keys are str: other dicts are an extension. */
static bool key(struct walk *w) {
    if (w->at == w->end)
        return false;
    unsigned c = *w->at++;
    if ((c & 0xE0) == 0xA0)
        return skip(w, c & 0x1F);
    return c >= 0xD9 && c <= 0xDB && skip_counted(w, 1u << (c - 0xD9));
}

static bool pairs(struct walk *w, uint64_t n, unsigned left) {
    if (left == 0) {
        w->deep = true;
        return false;
    }
    if (n > (uint64_t)(w->end - w->at) / 2)
        return false;
    while (n-- > 0)
        if (!key(w) || !value(w, left - 1))
            return false;
    return true;
}

/* The count of the array that begins here. */
static bool array_head(struct walk *w, uint64_t *n) {
    uint64_t c;
    if (!number(w, 1, &c))
        return false;
    if ((c & 0xF0) == 0x90) {
        *n = c & 0x0F;
        return true;
    }
    return (c == 0xDC && number(w, 2, n)) || (c == 0xDD && number(w, 4, n));
}

/* The payload is one array; of plain numbers and text at most one level deeper, if `flat`. */
static bool array_within(struct walk *w, bool even, bool flat, unsigned left) {
    struct walk in = {.at = w->at, .end = w->end};
    uint64_t n;
    if (!array_head(&in, &n) || (even && n % 2 != 0))
        return false;
    bool ok = elements(&in, n, flat ? 2 : left) && in.at == in.end;
    w->deep |= in.deep;
    return ok && !(flat && in.ext);
}

static bool payload(struct walk *w, unsigned code, unsigned left) {
    ptrdiff_t n = w->end - w->at;
    switch (code) {
    case KV_EXT_TUPLE:
    case KV_EXT_SET:
    case KV_EXT_FROZENSET:
        return array_within(w, false, false, left);
    case KV_EXT_DICT:
        return array_within(w, true, false, left);
    case KV_EXT_DATETIME:
    case KV_EXT_DATE:
    case KV_EXT_TIME:
    case KV_EXT_TIMEDELTA:
        return array_within(w, false, true, left);
    case KV_EXT_INT:
    case KV_EXT_DECIMAL:
    case KV_EXT_ARRAY:
        return n > 0;
    case KV_EXT_UUID:
        return n == 16;
    default:
        return false;
    }
}

static bool extension(struct walk *w, uint64_t n, unsigned left) {
    uint64_t code;
    if (!number(w, 1, &code) || n > (uint64_t)(w->end - w->at))
        return false;
    struct walk in = {.at = w->at, .end = w->at + n};
    bool ok = payload(&in, (unsigned)code, left);
    w->ext = true;
    w->deep |= in.deep;
    return ok && skip(w, n);
}

static bool extension_counted(struct walk *w, unsigned width, unsigned left) {
    uint64_t n;
    return number(w, width, &n) && extension(w, n, left);
}

static bool value(struct walk *w, unsigned left) {
    uint64_t n;
    if (w->at == w->end)
        return false;
    unsigned c = *w->at++;
    if (c <= 0x7F || c >= 0xE0) /* small int */
        return true;
    if (c <= 0x8F)
        return pairs(w, c & 0x0F, left);
    if (c <= 0x9F)
        return elements(w, c & 0x0F, left);
    if (c <= 0xBF) /* short str */
        return skip(w, c & 0x1F);
    switch (c) {
    case 0xC0: /* nil, false, true */
    case 0xC2:
    case 0xC3:
        return true;
    case 0xC4: /* bin */
    case 0xC5:
    case 0xC6:
        return skip_counted(w, 1u << (c - 0xC4));
    case 0xC7: /* ext */
    case 0xC8:
    case 0xC9:
        return extension_counted(w, 1u << (c - 0xC7), left);
    case 0xCA: /* float */
    case 0xCB:
        return skip(w, 4u << (c - 0xCA));
    case 0xCC: /* uint, int */
    case 0xCD:
    case 0xCE:
    case 0xCF:
        return skip(w, 1u << (c - 0xCC));
    case 0xD0:
    case 0xD1:
    case 0xD2:
    case 0xD3:
        return skip(w, 1u << (c - 0xD0));
    case 0xD4: /* ext of 1, 2, 4, 8, 16 bytes */
    case 0xD5:
    case 0xD6:
    case 0xD7:
    case 0xD8:
        return extension(w, 1u << (c - 0xD4), left);
    case 0xD9: /* str */
    case 0xDA:
    case 0xDB:
        return skip_counted(w, 1u << (c - 0xD9));
    case 0xDC: /* array */
    case 0xDD:
        return number(w, 2u << (c - 0xDC), &n) && elements(w, n, left);
    case 0xDE: /* map */
    case 0xDF:
        return number(w, 2u << (c - 0xDE), &n) && pairs(w, n, left);
    default: /* 0xC1: never used */
        return false;
    }
}

enum kv_packed packed_scan(const void *data, uint64_t len) {
    assert(data != NULL);
    struct walk w = {.at = data, .end = (const unsigned char *)data + len};
    bool ok = value(&w, KV_DEPTH_MAX) && w.at == w.end;
    if (w.deep)
        return KV_PACKED_DEEP;
    if (!ok)
        return KV_PACKED_BAD;
    return w.ext ? KV_PACKED_EXT : KV_PACKED_PLAIN;
}
