/* fuzz_loading.c: a libFuzzer target for what is read from files: image_parse, store_load,
 * store_replay. README.md has the command.
 *
 * The first byte says which of the two takes the rest. The store is emptied now and then, so that a
 * finding depends on few inputs before it; `check` is asked as often. Does not: know the corpus. */
#include "loading.h"

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t len);

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t len) {
    static struct kv_handle *h;
    static uint32_t cases;
    if (h == NULL)
        h = loading_world();
    if (len == 0 || len > LOADING_MOST)
        return 0;
    (void)loading_try(h, bytes[0] & 1 ? LOADING_ENTRIES : LOADING_ITEMS, bytes + 1, len - 1);
    if (++cases % 256 == 0) {
        struct kv_clear clear = {0};
        struct kv_op op = kv_op_make(h);
        (void)world_check(h);
        OK(store_clear(&op, &clear));
        store_leave(&op);
    }
    return 0;
}
