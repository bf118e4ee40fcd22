/* layout.c: geometry as a pure function of the configuration. */
#include "layout.h"

#define KV_MIB               (1ULL << 20)
#define KV_ITEMS_PER_SEGMENT 660u /* 0.86 of 64 x 12 slots */

/* An index segment can be found for one item in 32 B of max_size, with a factor of two for skew. */
static uint32_t dir_bits(uint64_t max_size, uint32_t stripes) {
    uint64_t segments = max_size / 32 / stripes / KV_ITEMS_PER_SEGMENT;
    uint32_t bits = 1;
    while (bits < 16 && (1ULL << bits) < 2 * segments)
        bits++;
    return bits;
}

static uint32_t power_of_two_below(uint64_t n) {
    uint32_t p = 1;
    while ((uint64_t)p * 2 <= n)
        p *= 2;
    return p;
}

static uint32_t power_of_two_near(uint64_t n) {
    uint32_t p = power_of_two_below(n);
    return n * 2 > (uint64_t)p * 3 ? p * 2 : p;
}

static uint32_t clamp(uint64_t n, uint32_t low, uint32_t high) {
    return n < low ? low : n > high ? high : (uint32_t)n;
}

uint32_t kv_geometry_appenders(uint64_t size, uint32_t cpus) {
    return clamp(cpus, 1, size < 16 * KV_MIB ? 2 : 8);
}

uint32_t kv_geometry_ghost(const struct kv_geometry *g, uint64_t size) {
    return g->mains == 0 ? 0 : (uint32_t)(size / KV_GHOST_SHARE / KV_LINE);
}

uint64_t kv_geometry_journal(const struct kv_geometry *g) {
    return kv_round_up(g->words / KV_MARKS + (uint64_t)g->words * 8, 4096);
}

uint32_t kv_geometry_bases(const struct kv_geometry *g, uint64_t size) {
    uint64_t ghost = (uint64_t)kv_geometry_ghost(g, size) * KV_LINE;
    return kv_geometry_bases_below(g, size - ghost - kv_geometry_journal(g));
}

uint32_t kv_geometry_bases_below(const struct kv_geometry *g, uint64_t offset) {
    if (offset <= g->off_arena)
        return 0;
    uint64_t n = (offset - g->off_arena) >> g->base_shift;
    return n > g->bases_max ? g->bases_max : (uint32_t)n;
}

bool kv_geometry_make(const struct kv_config *c, struct kv_geometry *g) {
    if (c->size < KV_SIZE_MIN || c->max_size < c->size || c->max_size > KV_SIZE_MAX ||
        c->size % 4096 != 0 || c->max_size % 4096 != 0 || c->appenders < 1 || c->appenders > 8)
        return false;
    *g = (struct kv_geometry){.size = c->size, .max_size = c->max_size};
    g->rows = c->size < 16 * KV_MIB ? 64 : c->size < 64 * KV_MIB ? 128 : 256;
    g->stripes = clamp(power_of_two_below(c->size / (KV_MIB / 4)), 8, KV_STRIPES_MAX);
    g->stripe_shift = 64;
    for (uint32_t s = g->stripes; s > 1; s /= 2)
        g->stripe_shift--;
    g->dir_bits = dir_bits(c->max_size, g->stripes);
    g->base_shift = c->size < 4 * KV_MIB ? 14 : c->size < 16 * KV_MIB ? 15 : 16;
    g->index_per_base = (1ULL << g->base_shift) / KV_INDEX_BYTES;
    g->board = clamp(power_of_two_below(c->size / 1024), 4096, 1u << 16);
    g->samples = clamp(power_of_two_below(c->size / 4096), 512, 1u << 16);
    g->off_rows = KV_HEADER_BYTES;
    g->off_deaths = g->off_rows + (uint64_t)g->rows * sizeof(struct kv_row);
    g->off_board = g->off_deaths + (uint64_t)KV_DEATHS * sizeof(struct kv_death);
    g->off_samples = g->off_board + 2 * (uint64_t)g->board;
    g->off_stripes = g->off_samples + (uint64_t)g->samples * 8;
    g->off_dirs = g->off_stripes + (uint64_t)g->stripes * sizeof(struct kv_stripe);
    g->off_pages = kv_round_up(g->off_dirs + ((uint64_t)g->stripes << g->dir_bits) * 4, KV_LINE);
    uint64_t pages_at_most = c->max_size >> g->base_shift;
    g->off_arena =
        kv_round_up(g->off_pages + pages_at_most * sizeof(struct kv_page), 1ULL << g->base_shift);
    g->appenders = c->appenders;
    g->mains = c->options & KV_OPT_EVICT ? KV_MAINS : 0;
    g->off_ghost = c->max_size - (uint64_t)kv_geometry_ghost(g, c->max_size) * KV_LINE;
    g->off_ghost &= ~(uint64_t)4095;
    if (c->options & KV_OPT_JOURNAL)
        g->words = clamp(power_of_two_below(c->size / 512), 512, 1u << 17);
    g->off_journal = g->off_ghost - kv_geometry_journal(g);
    g->bases_max = (uint32_t)((g->off_journal - g->off_arena) >> g->base_shift);
    g->bases = kv_geometry_bases(g, c->size);
    uint64_t arena = (uint64_t)g->bases << g->base_shift;
    g->std_run = clamp(power_of_two_near((arena / 256) >> g->base_shift), 1, 16);
    g->log_run_max = clamp(g->bases / 64, g->std_run, 16);
    g->cleaners = clamp(g->bases / g->std_run / 256, 2, KV_CLEANERS);
    g->zone = g->bases / 16;
    uint64_t first = kv_round_up(g->stripes, g->index_per_base) / g->index_per_base;
    if (g->zone < first)
        g->zone = (uint32_t)first;
    return g->bases >= 32 + g->zone;
}

/* What must agree beyond the version: byte order, word size, structure sizes, cache line. */
uint32_t kv_fingerprint(void) {
    const uint16_t order = 0x0102;
    uint32_t f = 2166136261u;
    const uint32_t parts[] = {*(const unsigned char *)&order,
                              (uint32_t)sizeof(void *),
                              KV_LINE,
                              KV_GRANULE,
                              (uint32_t)sizeof(struct kv_header),
                              (uint32_t)sizeof(struct kv_row),
                              (uint32_t)sizeof(struct kv_death),
                              (uint32_t)sizeof(struct kv_page),
                              (uint32_t)sizeof(struct kv_bucket),
                              (uint32_t)sizeof(struct kv_item)};
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++)
        f = (f ^ parts[i]) * 16777619u;
    return f;
}
