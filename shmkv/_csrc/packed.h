/* packed.h: what structured values look like as bytes, and whether bytes look like that.
 *
 * A structured value of the safe codec is one MessagePack value. What MessagePack lacks is an
 * extension; here is the list of our codes, the only one: shmkv/forms.py takes it from the module.
 *
 *     tuple, set, frozenset   an array of the elements
 *     dict                    an array: key, value, key, value, ... (where a key is not a str)
 *     int                     two's complement, little-endian, beyond 64 bits
 *     datetime                [year, month, day, hour, minute, second, microsecond, fold, zone]
 *     time                    [hour, minute, second, microsecond, fold, zone]
 *     date                    [year, month, day]
 *     timedelta               [days, seconds, microseconds]
 *     decimal                 its digits as text
 *     uuid                    16 bytes
 *     array                   head and elements, as under KV_TYPE_ARRAY
 *
 *     zone: nil (naive), "Europe/Rome" (ZoneInfo), [microseconds] or [microseconds, name]
 * (timezone)
 *
 * packed_scan looks at bytes before any library decodes them, for decoders run out of stack on deep
 * nesting and allocate what a length says. A leaf: knows no memory of the store and no Python. */
#ifndef KV_PACKED_H
#define KV_PACKED_H

#include <stdbool.h>
#include <stdint.h>

#define KV_DEPTH_MAX 64u /* containers within containers */

enum kv_ext {
    KV_EXT_TUPLE = 1,
    KV_EXT_SET = 2,
    KV_EXT_FROZENSET = 3,
    KV_EXT_DICT = 4,
    KV_EXT_INT = 5,
    KV_EXT_DATETIME = 6,
    KV_EXT_DATE = 7,
    KV_EXT_TIME = 8,
    KV_EXT_TIMEDELTA = 9,
    KV_EXT_DECIMAL = 10,
    KV_EXT_UUID = 11,
    KV_EXT_ARRAY = 12,
};

enum kv_packed {
    KV_PACKED_BAD,  /* not exactly one value of the forms above */
    KV_PACKED_DEEP, /* nested deeper than KV_DEPTH_MAX */
    KV_PACKED_PLAIN,
    KV_PACKED_EXT /* with extensions */
};
enum kv_packed packed_scan(const void *data, uint64_t len);

#endif
