/* store_look.c: what eyes ask for: memory by queue and state, and how often items are read.
 *
 * Memory is summed from the page table while others work: a hint. Reads leave no trace but the
 * two-bit access counters, which stand at three soon and are lowered by cleaning alone. Whoever
 * wants a rate must lower them: store_count does it for short waits, for the items it was given,
 * and raises them again. What a cleaner decides meanwhile it decides by a counter that is too low;
 * a death on the way leaves those low. Both cost an item its second chance, never a value. */
#include <time.h>

#include "clock.h"
#include "store.h"

#define KV_SLEEP_NS 30000u

void store_memory(struct kv_handle *h, struct kv_memory *out) {
    uint64_t now = kv_clock_ms(), granules = base_granules(h);
    *out = (struct kv_memory){.part = {{{0, 0, 0}}}};
    for (uint32_t i = 0, limit = arena_bases(h); i < limit;) {
        uint64_t w = page_word(h, i);
        uint32_t state = kv_page_state(w), run = page_run(w);
        bool queued = state == KV_OPEN || state == KV_CLOSED || state == KV_CLEANING;
        run = run < limit - i ? run : limit - i;
        struct kv_part *part = &out->part[queued ? kv_page_queue(w) : 0][state & 7];
        part->bytes += (uint64_t)run << h->g.base_shift;
        if (queued) {
            uint64_t tail = kv_load_rlx(&page_at(h, i)->tail);
            part->filled += (tail < run * granules ? tail : run * granules) * KV_GRANULE;
            part->garbage += (uint64_t)page_garbage(h, i, now) * KV_GRANULE;
        }
        i += run;
    }
}

/* ---- reads -------------------------------------------------------------------------------- */

kv_status store_count_aim(struct kv_handle *h, const struct kv_key *key, struct kv_count *count) {
    uint32_t s = stripe_of(h, key->home);
    uint64_t seen = kv_load_acq(&stripe_at(h, s)->ver);
    *count = (struct kv_count){.before = 0};
    kv_status r = table_find(h, s, key, &count->slot);
    if (kv_load_after(&stripe_at(h, s)->ver) != seen)
        return KV_AGAIN;
    if (r == KV_OK)
        count->before = slot_counter(&count->slot);
    return r;
}

/* A slot that holds nothing any more is left alone; that another item moved in is possible, and
 * harmless: counters are hints. */
static bool slot_in_use(const struct kv_slot *slot) {
    return slot->bucket != NULL && kv_load_rlx(&slot->bucket->ref[slot->index]) != 0;
}

static void clear_all(struct kv_count *counts, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (slot_in_use(&counts[i].slot) && slot_counter(&counts[i].slot) != 0)
            slot_set_counter(&counts[i].slot, 0);
}

static void look_once(struct kv_count *counts, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct kv_count *c = &counts[i];
        if (!slot_in_use(&c->slot))
            continue;
        uint32_t reads = slot_counter(&c->slot);
        c->looks++;
        c->idle += reads == 0;
        c->least_reads += reads;
        if (reads < c->before)
            slot_set_counter(&c->slot, c->before);
    }
}

/* A short time is waited out: to sleep takes longer. */
static void wait_ns(uint64_t ns) {
    struct timespec t = {.tv_sec = 0, .tv_nsec = (long)(ns % 1000000000u)};
    if (ns >= KV_SLEEP_NS)
        (void)nanosleep(&t, NULL);
    else
        for (uint64_t began = kv_clock_ns(); kv_clock_ns() - began < ns;)
            ;
}

uint64_t store_count(struct kv_count *counts, uint32_t n, uint32_t looks, uint64_t gap_ns,
                     uint64_t rest_ns) {
    uint64_t exposed = 0;
    for (uint32_t i = 0; i < looks; i++) {
        if (i != 0 && rest_ns != 0)
            wait_ns(rest_ns);
        uint64_t began = kv_clock_ns();
        clear_all(counts, n);
        wait_ns(gap_ns);
        exposed += kv_clock_ns() - began;
        look_once(counts, n);
    }
    return exposed;
}
