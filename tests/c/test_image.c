/* test_image.c: what files say is believed in nothing, byte by byte.
 *
 * The payloads of tests/persist/corpus, as they are and changed, go through image_parse, store_load
 * and store_replay with sanitizers watching; the store that took them is looked at and emptied.
 * Checksums are above this: here nothing keeps damage away. */
#include "loading.h"

#include <dirent.h>
#include <libgen.h>

#define FILES_MOST 64u
#define ROUNDS     100000u

static struct payload {
    unsigned char *bytes;
    uint64_t len;
    enum loading how;
    char name[64];
} payloads[FILES_MOST];
static uint32_t files;

static bool ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static void take(const char *folder, const char *name, enum loading how) {
    char path[4096];
    struct payload *p = &payloads[files++];
    CHECK(files <= FILES_MOST);
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    CHECK(f != NULL);
    p->bytes = malloc(LOADING_MOST);
    CHECK(p->bytes != NULL);
    p->len = fread(p->bytes, 1, LOADING_MOST, f);
    p->how = how;
    (void)snprintf(p->name, sizeof p->name, "%s", name);
    (void)fclose(f);
}

/* The corpus lies beside the tests of the disk. */
static void gather(void) {
    char here[] = __FILE__, folder[4096];
    (void)snprintf(folder, sizeof folder, "%s/../persist/corpus", dirname(here));
    DIR *d = opendir(folder);
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (ends(e->d_name, ".items"))
            take(folder, e->d_name, LOADING_ITEMS);
        else if (ends(e->d_name, ".entries"))
            take(folder, e->d_name, LOADING_ENTRIES);
    }
    (void)closedir(d);
    CHECK(files >= 6);
}

static void empty(struct kv_handle *h) {
    struct kv_clear clear = {0};
    struct kv_op op = kv_op_make(h);
    OK(store_clear(&op, &clear));
    store_leave(&op);
}

/* What is whole is taken, in one piece and behind itself. */
static void test_corpus(void) {
    struct kv_handle *h = loading_world();
    for (uint32_t i = 0; i < files; i++) {
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%s", payloads[i].name);
        CHECK(loading_try(h, payloads[i].how, payloads[i].bytes, payloads[i].len));
        (void)world_check(h);
    }
    kv_test_where[0] = 0;
    empty(h);
    store_detach(h);
}

/* Every cut of every payload: taken where a record ends, else refused. */
static void test_cuts(void) {
    struct kv_handle *h = loading_world();
    for (uint32_t i = 0; i < files; i++)
        for (uint64_t len = 0; len < payloads[i].len && len < 600; len++)
            (void)loading_try(h, payloads[i].how, payloads[i].bytes, len);
    (void)world_check(h);
    empty(h);
    store_detach(h);
}

static void test_changed(void) {
    static unsigned char bytes[LOADING_MOST];
    struct chance c = chance_make(0x1A6E);
    struct kv_handle *h = loading_world();
    uint64_t taken = 0, n = scaled(ROUNDS);
    for (uint64_t i = 0; i < n; i++) {
        const struct payload *p = &payloads[chance_below(&c, files)];
        if (p->len > 4096 && chance_below(&c, 16) != 0)
            continue; /* a long one costs as much as many */
        uint64_t len = p->len;
        memcpy(bytes, p->bytes, (size_t)len);
        for (uint32_t k = 1 + chance_below(&c, 3); k > 0; k--)
            len = loading_change(&c, bytes, len);
        (void)snprintf(kv_test_where, sizeof kv_test_where, "%s, case %" PRIu64, p->name, i);
        taken += loading_try(h, p->how, bytes, len);
        if (i % 500 == 0)
            (void)world_check(h);
        if (i % 16 == 0)
            empty(h);
    }
    kv_test_where[0] = 0;
    CHECK(taken > n / 50);
    (void)world_settle(h);
    store_detach(h);
}

static const struct kv_test tests[] = {
    {"corpus", test_corpus},
    {"cuts", test_cuts},
    {"changed", test_changed},
};

int main(int argc, char **argv) {
    gather();
    return kv_test_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
