/*
 * explore.c - the explorer and its command line
 *
 * Owns: the states (one array, in order of discovery), the table that finds them, the edges where a
 * scenario names goals, and the printing of results. One run = one line of JSON on stdout, the
 * trace of a violation on stderr. The exit status is 0 whenever the run itself worked: whether a
 * violation is good news (sabotage) or bad is for the caller to judge.
 *
 *     model list
 *     model SCENARIO RUN SABOTAGE [MAX_STATES]
 *
 * It does not reduce anything: see explore.h.
 */
#define _GNU_SOURCE
#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define NONE UINT32_MAX

struct ex {
    const struct ex_scenario *sc;
    size_t size;
    uint8_t *states; /* state i lies at i * size */
    uint32_t *parent;
    uint32_t count, limit, now; /* states known, allowed, index of the one being expanded */
    uint64_t *table;            /* {32 bits of the hash, index + 1}; open addressing */
    uint64_t mask;
    uint64_t steps;
    uint32_t *edge_end; /* only with goals: edges of state i end here, where those of i + 1 begin */
    uint32_t *edge;     /* to which state */
    uint32_t edges, edge_room;
    uint8_t *goal;
    bool cut, failed;
    const char *who, *what, *why;
    const uint8_t *seek; /* while printing a trace: the successor whose name is wanted */
    const char *seek_who, *seek_what;
};

static void *must(void *p)
{
    if (p == NULL || p == MAP_FAILED) {
        fputs("model: out of memory\n", stderr);
        exit(2);
    }
    return p;
}

/* Address space only: memory is taken as it is touched, in huge pages where the kernel has them. */
static void *reserve(size_t bytes)
{
    void *p = must(mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* only a matter of speed */
    return p;
}

static uint64_t hash(const uint8_t *p, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ n;
    while (n > 0) {
        uint64_t word = 0;
        size_t take = n < 8 ? n : 8;
        memcpy(&word, p, take);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
        p += take;
        n -= take;
    }
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ (h >> 29);
}

static void table_grow(struct ex *x)
{
    uint64_t size = x->mask == 0 ? 1u << 18 : (x->mask + 1) * 4;
    if (x->table != NULL)
        munmap(x->table, (x->mask + 1) * sizeof *x->table);
    x->table = reserve(size * sizeof *x->table);
    x->mask = size - 1;
    for (uint32_t i = 0; i < x->count; i++) {
        uint64_t h = hash(x->states + (size_t)i * x->size, x->size);
        uint64_t at = h & x->mask;
        while (x->table[at] != 0)
            at = (at + 1) & x->mask;
        x->table[at] = (h & 0xffffffff00000000u) | (i + 1);
    }
}

/* Index of the state, added if it is new; NONE if there is no room for it. */
static uint32_t intern(struct ex *x, const uint8_t *s)
{
    uint64_t h = hash(s, x->size);
    uint64_t at = h & x->mask;
    for (; x->table[at] != 0; at = (at + 1) & x->mask) {
        uint32_t i = (uint32_t)x->table[at] - 1;
        if ((x->table[at] ^ h) >> 32 == 0 &&
            memcmp(x->states + (size_t)i * x->size, s, x->size) == 0)
            return i;
    }
    if (x->count == x->limit) {
        x->cut = true;
        return NONE;
    }
    uint32_t i = x->count++;
    memcpy(x->states + (size_t)i * x->size, s, x->size);
    x->parent[i] = x->now;
    x->table[at] = (h & 0xffffffff00000000u) | (i + 1);
    if (x->count > (x->mask + 1) / 8 * 5)
        table_grow(x);
    return i;
}

const char ex_sigkill[] = "SIGKILL";

void ex_step(struct ex *x, const void *next, const char *who, const char *what)
{
    if (x->seek != NULL) {
        if (x->seek_what == NULL && memcmp(next, x->seek, x->size) == 0) {
            x->seek_who = who;
            x->seek_what = what;
        }
        return;
    }
    if (x->failed)
        return;
    x->steps++;
    uint32_t to = intern(x, next);
    if (!x->sc->goals || what == ex_sigkill || to == NONE)
        return;
    if (x->edges == x->edge_room) {
        x->edge_room = x->edge_room == 0 ? 1u << 16 : x->edge_room * 2;
        x->edge = must(realloc(x->edge, (size_t)x->edge_room * sizeof *x->edge));
    }
    x->edge[x->edges++] = to;
}

void ex_fail(struct ex *x, const char *who, const char *what, const char *why)
{
    if (x->seek != NULL || x->failed)
        return;
    x->failed = true;
    x->who = who;
    x->what = what;
    x->why = why;
}

void ex_goal(struct ex *x)
{
    if (x->seek == NULL)
        x->goal[x->now] = 1;
}

uint8_t ex_rename(uint8_t *const *mention, size_t mentions, uint8_t *number)
{
    uint8_t next = 0;
    for (size_t i = 0; i < mentions; i++) {
        uint8_t old = *mention[i];
        if (old == 0)
            continue;
        if (number[old] == 0)
            number[old] = ++next;
        *mention[i] = number[old];
    }
    return next;
}

/* Marks every state from which a goal can be reached without a kill; the first that cannot is a
 * hang. */
static void check_goals(struct ex *x)
{
    munmap(x->table, (x->mask + 1) * sizeof *x->table); /* no state will be looked up any more */
    uint32_t *first = must(calloc((size_t)x->count + 1, sizeof *first));
    uint32_t *into = must(malloc(((size_t)x->edges + 1) * sizeof *into));
    uint32_t *queue = must(malloc((size_t)x->count * sizeof *queue));
    for (uint32_t e = 0; e < x->edges; e++)
        first[x->edge[e]]++;
    for (uint32_t i = 1; i <= x->count; i++)
        first[i] += first[i - 1];
    for (uint32_t i = 0, e = 0; i < x->count; i++)
        for (; e < x->edge_end[i]; e++)
            into[--first[x->edge[e]]] = i;
    uint32_t head = 0, tail = 0;
    for (uint32_t i = 0; i < x->count; i++)
        if (x->goal[i])
            queue[tail++] = i;
    while (head < tail) {
        uint32_t i = queue[head++];
        for (uint32_t e = first[i]; e < first[i + 1]; e++) {
            if (!x->goal[into[e]]) {
                x->goal[into[e]] = 1;
                queue[tail++] = into[e];
            }
        }
    }
    for (uint32_t i = 0; i < x->count && !x->failed; i++) {
        if (!x->goal[i]) {
            x->now = i;
            ex_fail(x, "all", "wait", "hang: the work can no longer be finished");
        }
    }
    free(first);
    free(into);
    free(queue);
}

static void print_trace(struct ex *x)
{
    uint32_t length = 0;
    for (uint32_t i = x->now; i != NONE; i = x->parent[i])
        length++;
    uint32_t *path = must(malloc(length * sizeof *path));
    uint32_t at = length;
    for (uint32_t i = x->now; i != NONE; i = x->parent[i])
        path[--at] = i;
    char text[1024];
    for (uint32_t k = 0; k < length; k++) {
        x->seek = x->states + (size_t)path[k] * x->size;
        x->seek_who = "start";
        x->seek_what = NULL;
        if (k > 0)
            x->sc->expand(x, x->states + (size_t)path[k - 1] * x->size);
        x->sc->show(x->seek, text, sizeof text);
        fprintf(stderr, "%3u %-9s %-34s %s\n", k, x->seek_who, k > 0 ? x->seek_what : "", text);
    }
    fprintf(stderr, "    %-9s %-34s !! %s\n", x->who, x->what, x->why);
    x->seek = NULL;
    free(path);
}

static void explore(struct ex *x)
{
    uint8_t *s = must(malloc(x->size));
    x->now = NONE;
    x->sc->init(s);
    intern(x, s);
    for (uint32_t i = 0; i < x->count && !x->failed; i++) {
        x->now = i;
        memcpy(s, x->states + (size_t)i * x->size, x->size);
        x->sc->expand(x, s);
        if (x->sc->goals)
            x->edge_end[i] = x->edges;
    }
    free(s);
    if (x->sc->goals && !x->failed && !x->cut)
        check_goals(x);
}

static int find(const char *const *names, const char *name)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static void list(const struct ex_scenario *const *all)
{
    for (; *all != NULL; all++) {
        printf("%s\nruns:", (*all)->name);
        for (const char *const *r = (*all)->runs; *r != NULL; r++)
            printf(" %s", *r);
        printf("\nsabotages:");
        for (const char *const *r = (*all)->sabotages; *r != NULL; r++)
            printf(" %s", *r);
        printf("\n");
    }
}

static void report(const struct ex *x, const char *run, const char *sabotage, double seconds)
{
    printf("{\"scenario\": \"%s\", \"run\": \"%s\", \"sabotage\": \"%s\", \"states\": %u, "
           "\"steps\": %llu, \"complete\": %s, \"violation\": ",
           x->sc->name, run, sabotage, x->count, (unsigned long long)x->steps,
           x->cut || x->failed ? "false" : "true");
    if (x->failed)
        printf("\"%s\"", x->why);
    else
        printf("null");
    printf(", \"seconds\": %.2f}\n", seconds);
}

int main(int argc, char **argv)
{
    const struct ex_scenario *const all[] = {&slot_scenario,
                                             &split_scenario,
                                             &overflow_scenario,
                                             &journal_scenario,
                                             &fold_scenario,
                                             &lock_scenario,
                                             NULL};
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        list(all);
        return 0;
    }
    const struct ex_scenario *sc = NULL;
    for (int i = 0; argc >= 4 && all[i] != NULL; i++)
        if (strcmp(all[i]->name, argv[1]) == 0)
            sc = all[i];
    int run = sc == NULL ? -1 : find(sc->runs, argv[2]);
    int sabotage = sc == NULL ? -1 : find(sc->sabotages, argv[3]);
    if (run < 0 || sabotage < 0) {
        fputs("usage: model list | model SCENARIO RUN SABOTAGE [MAX_STATES]\n", stderr);
        return 2;
    }
    struct ex x = {.sc = sc, .size = sc->size, .limit = 60000000};
    if (argc > 4)
        x.limit = (uint32_t)strtoul(argv[4], NULL, 10);
    x.states = reserve((size_t)x.limit * x.size);
    x.parent = reserve((size_t)x.limit * sizeof *x.parent);
    x.goal = reserve(x.limit);
    x.edge_end = reserve((size_t)x.limit * sizeof *x.edge_end);
    table_grow(&x);
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    sc->setup(run, sabotage);
    explore(&x);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    if (x.failed)
        print_trace(&x);
    report(&x, argv[2], argv[3],
           (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    return 0;
}
