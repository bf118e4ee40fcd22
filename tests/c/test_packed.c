/* test_packed.c: the scan of structured values, against bytes that end exactly where they end.
 *
 * Each scan runs over a heap buffer of the value's own length, so that one byte read beyond it is
 * an error of the sanitizer. Owns a generator of well-formed values that knows of each what the
 * scan must say; a cut, an added byte, a mutation and plain noise are judged too. What the decoder
 * makes of the same bytes is tests/property/test_codec_scan.py's affair. */
#include "kv_test.h"

#include "packed.h"

#define ROOM 4096u

/* ---- scanning exactly `len` bytes --------------------------------------------------------- */

static enum kv_packed scan(const unsigned char *data, uint32_t len) {
    unsigned char *exact = malloc(len == 0 ? 1 : len);
    CHECK(exact != NULL);
    unsigned char *from = exact + (len == 0); /* of nothing: the end of the buffer */
    memcpy(from, data, len);
    enum kv_packed found = packed_scan(from, len);
    CHECK(found == KV_PACKED_BAD || found == KV_PACKED_DEEP || found == KV_PACKED_PLAIN ||
          found == KV_PACKED_EXT);
    free(exact);
    return found;
}

static void show(const unsigned char *data, uint32_t len) {
    size_t at = 0;
    for (uint32_t i = 0; i < len && at + 3 < sizeof kv_test_where; i++)
        at += (size_t)snprintf(kv_test_where + at, sizeof kv_test_where - at, "%02x", data[i]);
}

static void want(const char *bytes, uint32_t len, enum kv_packed wanted) {
    const unsigned char *data = (const unsigned char *)bytes;
    show(data, len);
    CHECK_EQ(scan(data, len), wanted);
}
#define WANT(text, wanted) want("" text, sizeof(text) - 1, wanted)

/* ---- known values ------------------------------------------------------------------------- */

static void test_known(void) {
    WANT("\xC0", KV_PACKED_PLAIN);
    WANT("\x90", KV_PACKED_PLAIN);
    WANT("\xDC\0\2\1\2", KV_PACKED_PLAIN);
    WANT("\xDD\0\0\0\1\1", KV_PACKED_PLAIN);
    WANT("\x82\xA1"
         "a\1\xD9\1b\2",
         KV_PACKED_PLAIN);
    WANT("\xC4\3abc", KV_PACKED_PLAIN);
    WANT("\xCB\1\2\3\4\5\6\7\x08", KV_PACKED_PLAIN);
    WANT("\xD3\1\2\3\4\5\6\7\x08", KV_PACKED_PLAIN);
    WANT("\xD4\1\x90", KV_PACKED_EXT);             /* () */
    WANT("\xD5\4\x92\1", KV_PACKED_BAD);           /* one of the pair is missing */
    WANT("\xC7\3\4\x92\1\2", KV_PACKED_EXT);       /* {1: 2} */
    WANT("\xD5\4\x91\1", KV_PACKED_BAD);           /* a key without its value */
    WANT("\xC7\2\1\x90\0", KV_PACKED_BAD);         /* () and one byte more */
    WANT("\xC7\4\7\x93\1\2\3", KV_PACKED_EXT);     /* a date */
    WANT("\xD4\5\0", KV_PACKED_EXT);               /* an int of one byte */
    WANT("\x91\xC7\0\5", KV_PACKED_BAD);           /* an int of none */
    WANT("\xC7\4\6\x91\xD4\1\x90", KV_PACKED_BAD); /* a container within a datetime */
    WANT("\xD8\x0B"
         "0123456789abcdef",
         KV_PACKED_EXT); /* a UUID, and one that is too short */
    WANT("\xD7\x0B"
         "01234567",
         KV_PACKED_BAD);
}

static void test_refused(void) {
    WANT("", KV_PACKED_BAD);
    WANT("\xC1", KV_PACKED_BAD);
    WANT("\1\1", KV_PACKED_BAD);                   /* two values */
    WANT("\x81\1\1", KV_PACKED_BAD);               /* a key that is no str */
    WANT("\x81\xC4\1a\1", KV_PACKED_BAD);          /* bytes are no str */
    WANT("\xDD\xFF\xFF\xFF\xFF\1", KV_PACKED_BAD); /* lengths that promise what is not there */
    WANT("\xDF\xFF\xFF\xFF\xFF\xA0\1", KV_PACKED_BAD);
    WANT("\xDB\xFF\xFF\xFF\xFF"
         "a",
         KV_PACKED_BAD);
    WANT("\xC6\xFF\xFF\xFF\xFF"
         "a",
         KV_PACKED_BAD);
    WANT("\xC9\xFF\xFF\xFF\xFF\5"
         "a",
         KV_PACKED_BAD);
    for (unsigned code = 0; code < 256; code++) { /* codes of no version */
        unsigned char data[] = {0xD4, (unsigned char)code, 0x90};
        bool container = code >= KV_EXT_TUPLE && code <= KV_EXT_DICT;
        bool time = code >= KV_EXT_DATETIME && code <= KV_EXT_TIMEDELTA;
        bool bytes = code == KV_EXT_INT || code == KV_EXT_DECIMAL || code == KV_EXT_ARRAY;
        show(data, sizeof data);
        CHECK_EQ(scan(data, sizeof data),
                 container || time || bytes ? KV_PACKED_EXT : KV_PACKED_BAD);
    }
}

/* ---- depth -------------------------------------------------------------------------------- */

/* Put one more container around the value that fills the end of the room; how many bytes it adds.
 */
static uint32_t wrap(unsigned char *end, uint32_t len, uint32_t kind) {
    unsigned char *p = end - len;
    uint32_t n = 0;
    if (kind < 3) {
        static const unsigned char heads[3][5] = {{0x91}, {0xDC, 0, 1}, {0xDD, 0, 0, 0, 1}};
        n = kind == 0 ? 1 : kind == 1 ? 3 : 5;
        memcpy(p - n, heads[kind], n);
    } else if (kind == 3) {
        n = 3;
        memcpy(p - n, "\x81\xA1k", n);
    } else { /* an extension: an array of one, or of a key and this value */
        bool dict = kind == 7;
        *--p = 1;
        p += !dict;
        *--p = dict ? 0x92 : 0x91;
        uint32_t inner = (uint32_t)(end - p);
        *--p = (unsigned char)(dict ? KV_EXT_DICT : KV_EXT_TUPLE + kind - 4);
        *--p = (unsigned char)(inner & 0xFF);
        *--p = (unsigned char)(inner >> 8);
        *--p = 0xC8;
        n = (uint32_t)(end - len - p);
    }
    return n;
}

static void depth_of_kind(struct chance *c, uint32_t kind) {
    unsigned char room[ROOM];
    uint32_t len = 1;
    bool ext = false;
    room[ROOM - 1] = 7;
    for (unsigned depth = 0; depth <= KV_DEPTH_MAX + 3; depth++) {
        snprintf(kv_test_where, sizeof kv_test_where, "kind %u, depth %u", kind, depth);
        CHECK_EQ(scan(room + ROOM - len, len), depth > KV_DEPTH_MAX ? KV_PACKED_DEEP
                                               : ext                ? KV_PACKED_EXT
                                                                    : KV_PACKED_PLAIN);
        uint32_t one = kind < 8 ? kind : chance_below(c, 8);
        ext |= one >= 4;
        len += wrap(room + ROOM, len, one);
    }
}

static void test_depth(void) {
    struct chance c = chance_make(1);
    for (uint32_t kind = 0; kind < 8; kind++)
        depth_of_kind(&c, kind);
    for (uint64_t i = scaled(300); i > 0; i--)
        depth_of_kind(&c, 8);
}

/* A million opening bytes end at the limit, not in the stack. */
static void test_very_deep(void) {
    uint32_t len = 1u << 20;
    unsigned char *data = malloc(len);
    CHECK(data != NULL);
    static const char *const heads[] = {"\x91", "\x81\xA0", "\xDD\0\0\0\1", "\xDF\0\0\0\1\xA0"};
    static const uint32_t sizes[] = {1, 2, 5, 6};
    for (uint32_t k = 0; k < 4; k++) {
        for (uint32_t i = 0; i < len; i++)
            data[i] = (unsigned char)heads[k][i % sizes[k]];
        CHECK_EQ(scan(data, len), KV_PACKED_DEEP);
    }
    free(data);
}

/* ---- chance ------------------------------------------------------------------------------- */

struct made {
    unsigned char bytes[ROOM];
    uint32_t len;
    bool ext, full;
};

static void add(struct made *m, const void *data, uint32_t len) {
    if (len > ROOM - m->len) {
        m->full = true;
        return;
    }
    memcpy(m->bytes + m->len, data, len);
    m->len += len;
}

static void add_byte(struct made *m, unsigned byte) {
    unsigned char b = (unsigned char)byte;
    add(m, &b, 1);
}

static void add_number(struct made *m, uint32_t n, uint32_t width) {
    while (width-- > 0)
        add_byte(m, n >> 8 * width & 0xFF);
}

static void add_noise(struct made *m, struct chance *c, uint32_t len) {
    while (len-- > 0)
        add_byte(m, chance_below(c, 256));
}

/* One of the three heads that a length fits in, the short one (if any) included. */
static void add_head(struct made *m, struct chance *c, uint32_t n, unsigned brief, uint32_t below,
                     unsigned head, uint32_t width) {
    if (n < below && chance_below(c, 2) == 0) {
        add_byte(m, brief | n);
        return;
    }
    uint32_t up = chance_below(c, width == 1 ? 3 : 2);
    add_byte(m, head + up);
    add_number(m, n, width << up);
}

static void add_str(struct made *m, struct chance *c) {
    uint32_t n = chance_below(c, 20);
    add_head(m, c, n, 0xA0, 32, 0xD9, 1);
    add_noise(m, c, n);
}

static void add_scalar(struct made *m, struct chance *c) {
    static const struct {
        unsigned char head, len;
    } fixed[] = {{0x00, 0}, {0x7F, 0}, {0xE0, 0}, {0xFF, 0}, {0xC0, 0}, {0xC2, 0},
                 {0xC3, 0}, {0xCA, 4}, {0xCB, 8}, {0xCC, 1}, {0xCD, 2}, {0xCE, 4},
                 {0xCF, 8}, {0xD0, 1}, {0xD1, 2}, {0xD2, 4}, {0xD3, 8}};
    uint32_t k = chance_below(c, 20);
    if (k < 17) {
        add_byte(m, fixed[k].head);
        add_noise(m, c, fixed[k].len);
    } else if (k == 17) {
        uint32_t n = chance_below(c, 20);
        add_head(m, c, n, 0, 0, 0xC4, 1);
        add_noise(m, c, n);
    } else
        add_str(m, c);
}

static void add_value(struct made *m, struct chance *c, unsigned left);

static void add_array(struct made *m, struct chance *c, uint32_t n, unsigned left) {
    add_head(m, c, n, 0x90, 16, 0xDC, 2);
    while (n-- > 0 && !m->full)
        add_value(m, c, left);
}

/* Room for a head with 4 bytes of length; the payload; then the length. */
static void add_ext(struct made *m, struct chance *c, unsigned left) {
    unsigned code = 1 + chance_below(c, 12);
    add_byte(m, 0xC9);
    uint32_t at = m->len;
    add_number(m, 0, 4);
    add_byte(m, code);
    uint32_t begin = m->len;
    m->ext = true;
    if (code <= KV_EXT_DICT)
        add_array(m, c, chance_below(c, 4) * 2, left - 1);
    else if (code >= KV_EXT_DATETIME && code <= KV_EXT_TIMEDELTA) {
        uint32_t n = chance_below(c, 9);
        add_head(m, c, n, 0x90, 16, 0xDC, 2);
        while (n-- > 0)
            add_scalar(m, c);
    } else
        add_noise(m, c, code == KV_EXT_UUID ? 16 : 1 + chance_below(c, 30));
    if (m->full)
        return;
    uint32_t len = m->len - begin;
    for (uint32_t i = 0; i < 4; i++)
        m->bytes[at + i] = (unsigned char)(len >> (24 - 8 * i));
}

static void add_value(struct made *m, struct chance *c, unsigned left) {
    uint32_t k = left == 0 ? 0 : chance_below(c, 10);
    if (k < 5)
        add_scalar(m, c);
    else if (k < 7)
        add_array(m, c, chance_below(c, 5), left - 1);
    else if (k < 8) {
        uint32_t n = chance_below(c, 4);
        add_head(m, c, n, 0x80, 16, 0xDE, 2);
        for (; n > 0 && !m->full; n--) {
            add_str(m, c);
            add_value(m, c, left - 1);
        }
    } else
        add_ext(m, c, left);
}

static bool make(struct made *m, struct chance *c) {
    m->len = 0;
    m->ext = m->full = false;
    add_value(m, c, 1 + chance_below(c, 8));
    return !m->full;
}

/* Well-formed values are taken for what they are; no beginning of one, and none with more. */
static void test_made(void) {
    struct chance c = chance_make(2);
    struct made m;
    for (uint64_t i = scaled(20000); i > 0; i--) {
        if (!make(&m, &c))
            continue;
        show(m.bytes, m.len);
        CHECK_EQ(scan(m.bytes, m.len), m.ext ? KV_PACKED_EXT : KV_PACKED_PLAIN);
        uint32_t cut = chance_below(&c, m.len);
        CHECK_EQ(scan(m.bytes, cut), KV_PACKED_BAD);
        if (m.len < ROOM) {
            m.bytes[m.len] = (unsigned char)chance_below(&c, 256);
            CHECK_EQ(scan(m.bytes, m.len + 1), KV_PACKED_BAD);
        }
    }
}

/* Nothing is read beyond the end, whatever the bytes say. */
static void test_mutated(void) {
    static const unsigned char heads[] = {0x81, 0x91, 0xC4, 0xC6, 0xC7, 0xC9, 0xD4, 0xD8,
                                          0xD9, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xFF, 0x00};
    struct chance c = chance_make(3);
    struct made m;
    for (uint64_t i = scaled(300000); i > 0; i--) {
        if (!make(&m, &c))
            continue;
        for (uint32_t n = 0; n < 8; n++) {
            uint32_t at = chance_below(&c, m.len), how = chance_below(&c, 3);
            if (how == 0)
                m.bytes[at] ^= (unsigned char)(1u << chance_below(&c, 8));
            else
                m.bytes[at] = how == 1 ? heads[chance_below(&c, sizeof heads)]
                                       : (unsigned char)chance_below(&c, 256);
            (void)scan(m.bytes, n % 2 == 0 ? m.len : chance_below(&c, m.len + 1));
        }
    }
}

static void test_noise(void) {
    struct chance c = chance_make(4);
    unsigned char data[64];
    for (uint64_t i = scaled(1000000); i > 0; i--) {
        uint32_t len = chance_below(&c, sizeof data);
        for (uint32_t at = 0; at < len; at += 8) {
            uint64_t word = chance_next(&c);
            memcpy(data + at, &word, 8);
        }
        if (len > 0 && i % 2 == 0) /* something that is opened */
            data[0] = (unsigned char)(0x80 + chance_below(&c, 32));
        (void)scan(data, len);
    }
}

static const struct kv_test tests[] = {
    {"packed_known", test_known}, {"packed_refused", test_refused},
    {"packed_depth", test_depth}, {"packed_very_deep", test_very_deep},
    {"packed_made", test_made},   {"packed_mutated", test_mutated},
    {"packed_noise", test_noise},
};
KV_TEST_MAIN(tests)
