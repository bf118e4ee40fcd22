/* image.c: records, field by field; little-endian hosts, as the segment. */
#include "image.h"

#include "clock.h"

#define KV_CODE_STR      1u
#define KV_CODE_DEADLINE 2u
#define KV_CODE_HEAT     2u /* shift of two bits */
#define KV_CODE_MAIN     16u
#define KV_CODE_ALL      31u

#define KV_CODES 21u /* numbers of types: 1 ... 20 */

/* Numbers on disk, by memory code. They happen to agree; neither follows when the other changes. */
static const uint8_t disk_code[KV_TYPE_LAST + 1] = {
    [KV_TYPE_BYTES] = 1,     [KV_TYPE_STR] = 2,    [KV_TYPE_INT] = 3,    [KV_TYPE_BIGINT] = 4,
    [KV_TYPE_FLOAT] = 5,     [KV_TYPE_BOOL] = 6,   [KV_TYPE_NONE] = 7,   [KV_TYPE_LIST] = 8,
    [KV_TYPE_DICT] = 9,      [KV_TYPE_TUPLE] = 10, [KV_TYPE_SET] = 11,   [KV_TYPE_FROZENSET] = 12,
    [KV_TYPE_DATETIME] = 13, [KV_TYPE_DATE] = 14,  [KV_TYPE_TIME] = 15,  [KV_TYPE_TIMEDELTA] = 16,
    [KV_TYPE_DECIMAL] = 17,  [KV_TYPE_UUID] = 18,  [KV_TYPE_ARRAY] = 19, [KV_TYPE_CODEC] = 20,
};

static uint8_t memory_code(uint8_t code) {
    for (uint32_t type = 1; code != 0 && code < KV_CODES && type <= KV_TYPE_LAST; type++)
        if (disk_code[type] == code)
            return (uint8_t)type;
    return 0;
}

static bool is_number(uint8_t type) { return type == KV_TYPE_INT || type == KV_TYPE_FLOAT; }

uint64_t image_wall(void) { return kv_clock_wall_ms() - kv_clock_ms(); }

/* Within what image_parse() takes: neither a time to live of millennia nor a wall clock that was
 * set back may make a record that cannot be read. */
static uint64_t wall_deadline(uint64_t deadline_ms, uint64_t wall) {
    int64_t at = (int64_t)(deadline_ms + wall);
    return at <= 0 ? 1 : at > (int64_t)KV_DEADLINE_MAX ? KV_DEADLINE_MAX : (uint64_t)at;
}

bool image_make(struct kv_image *image, struct kv_handle *h, const struct kv_slot *slot,
                uint64_t wall) {
    const struct kv_item *it = &slot->head;
    uint8_t code = it->type <= KV_TYPE_LAST ? disk_code[it->type] : 0;
    if (code == 0 || (it->type == KV_TYPE_BOOL && it->value_len != 1) ||
        (it->type == KV_TYPE_NONE && it->value_len != 0))
        return false; /* image_parse() would refuse it */
    uint64_t deadline = item_deadline(slot->item, it);
    uint32_t value_len = is_number(it->type) ? 8 : it->value_len;
    uint8_t flags = (uint8_t)(slot_counter(slot) << KV_CODE_HEAT);
    flags |= it->flags & KV_ITEM_KEY_STR ? KV_CODE_STR : 0;
    flags |= deadline != 0 ? KV_CODE_DEADLINE : 0;
    flags |= arena_queue(h, slot->ref) != 0 ? KV_CODE_MAIN : 0;
    memcpy(image->head, &value_len, 4);
    memcpy(image->head + 4, &it->key_len, 2);
    image->head[6] = code;
    image->head[7] = flags;
    image->head_len = 8;
    if (deadline != 0) {
        deadline = wall_deadline(deadline, wall);
        memcpy(image->head + 8, &deadline, 8);
        image->head_len = 16;
    }
    image->key = item_key(slot->item, it);
    image->key_len = it->key_len;
    image->value_len = value_len;
    image->value = item_value(slot->item, it);
    if (is_number(it->type)) {
        uint64_t counter = item_counter(slot->item, it);
        memcpy(image->number, &counter, 8);
        image->value = image->number;
    }
    return true;
}

void image_copy(const struct kv_image *image, uint64_t at, unsigned char *to, uint64_t n) {
    const struct {
        const unsigned char *from;
        uint64_t len;
    } parts[3] = {{image->head, image->head_len},
                  {image->key, image->key_len},
                  {image->value, image->value_len}};
    for (unsigned i = 0; i < 3 && n > 0; i++) {
        if (at >= parts[i].len) {
            at -= parts[i].len;
            continue;
        }
        uint64_t some = parts[i].len - at < n ? parts[i].len - at : n;
        kv_copy_out(to, parts[i].from + at, (size_t)some);
        to += some;
        n -= some;
        at = 0;
    }
}

uint64_t image_parse(const unsigned char *from, uint64_t left, struct kv_record *r) {
    uint32_t value_len;
    uint16_t key_len;
    if (left < 8)
        return 0;
    memcpy(&value_len, from, 4);
    memcpy(&key_len, from + 4, 2);
    uint8_t flags = from[7];
    uint64_t head = flags & KV_CODE_DEADLINE ? 16 : 8, total = head + key_len + value_len;
    *r = (struct kv_record){.type = memory_code(from[6]),
                            .heat = flags >> KV_CODE_HEAT & KV_COUNTER_MAX,
                            .is_str = (flags & KV_CODE_STR) != 0};
    if (r->type == 0 || key_len == 0 || (flags & ~KV_CODE_ALL) || total > left ||
        (is_number(r->type) && value_len != 8) || (r->type == KV_TYPE_BOOL && value_len != 1) ||
        (r->type == KV_TYPE_NONE && value_len != 0))
        return 0;
    if (head == 16) {
        memcpy(&r->deadline_ms, from + 8, 8);
        if (r->deadline_ms == 0 || r->deadline_ms > KV_DEADLINE_MAX)
            return 0;
    }
    if (r->heat == 0 && (flags & KV_CODE_MAIN))
        r->heat = 1;
    r->key = from + head;
    r->key_len = key_len;
    r->value = r->key + key_len;
    r->value_len = value_len;
    if (is_number(r->type)) {
        memcpy(&r->counter, r->value, 8);
        r->value_len = 0;
    }
    return total;
}
