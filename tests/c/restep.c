/* restep.c: who repairs is killed at an instruction as well, and who comes after that, too.
 *
 * A round has three processes, each with a row of its own unless attaching is what it does: the
 * first dies in an operation of scenes.c at some instruction; the second goes on (it writes into
 * the same stripe, attaches, folds, cleans) and dies at every K-th instruction of that; after one
 * of these deaths a third goes on and dies at every K-th instruction. Then the parent judges:
 * scenes.c. Whoever does not get to die waits and is killed idle, so that every round with the same
 * first deaths is the same to the last byte. Where the first dies, who the others are and which
 * death of the second is followed by a third's follows from the seed. */
#include "dying.h"
#include "scenes.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ONE_BY_ONE 24u /* points of one track at most, in the quick form */

enum doing { IDLE, RECORD, DIE, FINISH };

/* One process of a round. */
struct actor {
    const char *name;
    void (*act)(struct kv_handle *);
    bool bare;
    struct track *track;
    enum doing doing;
    uint64_t point;
    pid_t pid;
    int ready, go; /* pipes: it is attached; it may begin */
};

static uint64_t deaths[4]; /* by depth */
static double until_s;     /* when this scene's time is over; 0 = never */

static bool late(double s) { return s > 0 && torture_worked() > s; }

static void child_main(struct stage *st, const struct actor *a, int ready, int go) {
    char c = 0;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!a->bare) {
        struct kv_op op = kv_op_make(st->h);
        OK(store_enter(&op));
        store_leave(&op);
    }
    CHECK_EQ(write(ready, &c, 1), 1);
    if (read(go, &c, 1) != 1)
        _exit(3);
    if (a->doing == RECORD)
        track_record(a->track, a->act, st->h);
    else if (a->doing == DIE)
        track_die(a->track, a->point, a->act, st->h);
    else
        a->act(st->h);
    _exit(0);
}

static void start(struct stage *st, struct actor *a) {
    int ready[2], go[2];
    char c;
    CHECK(pipe(ready) == 0 && pipe(go) == 0);
    a->pid = fork();
    CHECK(a->pid >= 0);
    if (a->pid == 0)
        child_main(st, a, ready[1], go[0]);
    (void)close(ready[1]);
    (void)close(go[0]);
    a->ready = ready[0];
    a->go = go[1];
    if (read(a->ready, &c, 1) != 1)
        kv_test_fail(__FILE__, __LINE__, "%s could not attach", a->name);
}

/* Let it begin, or kill it idle, and wait for its end. true: it did all it had to do. */
static bool play(struct actor *a) {
    int status;
    char c = 0;
    if (a->doing == IDLE)
        CHECK_EQ(kill(a->pid, SIGKILL), 0);
    else
        CHECK_EQ(write(a->go, &c, 1), 1);
    CHECK_EQ(waitpid(a->pid, &status, 0), a->pid);
    (void)close(a->ready);
    (void)close(a->go);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        kv_test_fail(__FILE__, __LINE__, "%s ended with status %d", a->name, status);
    return !killed;
}

/* The first, the second, the third; then the judgement. */
static void round_of(struct stage *st, struct actor *a, unsigned depth) {
    bool finished = false;
    for (unsigned i = 3; i-- > 0;) /* the first comes last: those who meet it are there already */
        start(st, &a[i]);
    for (unsigned i = 0; i < 3; i++) {
        bool done = play(&a[i]);
        if (i == 0)
            finished = done;
    }
    uint64_t waited = stage_judge(st, finished);
    if (depth > 0) {
        deaths[depth]++;
        torture_passed(waited);
    }
    stage_restore(st);
}

/* Points of a track to die at. */
struct choice {
    uint64_t from, step;
};
static struct choice choose(const struct torture *run, struct chance *c, const struct track *t) {
    uint64_t step = run->every;
    if (!run->full && t->count / ONE_BY_ONE > step)
        step = t->count / ONE_BY_ONE;
    return (struct choice){chance_below(c, (uint32_t)step), step};
}

static void where(const struct stage *st, uint64_t at, const struct actor *a) {
    char text[220] = "";
    for (unsigned i = 0; i < 3; i++) {
        size_t used = strlen(text);
        if (a[i].doing == DIE)
            (void)snprintf(text + used, sizeof text - used, " %s %" PRIu64 "/%" PRIu64, a[i].name,
                           a[i].point, a[i].track->count);
    }
    torture_where("--scene %s --at %" PRIu64 "  #%s", st->scene->name, at, text);
}

/* The `who`-th actor dies at each chosen point of its track, and at one at least. The second does
 * so for half of the time that is left: the rest is the third's. */
static void kill_along(const struct torture *run, struct stage *st, uint64_t at, struct actor *a,
                       unsigned who, struct chance *c) {
    double end_s = until_s > 0 && who == 1 ? (torture_worked() + until_s) / 2 : until_s;
    a[who].doing = RECORD;
    round_of(st, a, 0);
    track_plan(a[who].track);
    a[who].doing = DIE;
    struct choice to = choose(run, c, a[who].track);
    for (uint64_t p = to.from; p < a[who].track->count; p += to.step) {
        a[who].point = p;
        where(st, at, a);
        round_of(st, a, who + 1);
        if (late(end_s))
            break;
    }
}

/* One death of the first: all that may follow. */
static void tree(const struct torture *run, struct stage *st, uint64_t at, struct track *t[3]) {
    struct chance c = chance_make(at * 31 + kv_hash(st->scene->name, strlen(st->scene->name), 0));
    struct actor a[3] = {{.name = st->scene->name, .act = st->scene->act}};
    a[0].doing = DIE;
    a[0].point = chance_below(&c, (uint32_t)t[0]->count);
    for (unsigned i = 0; i < 3; i++) {
        /* Cleaning takes many instructions: half as often as the others. */
        const struct meeting *m = &meetings[chance_below(&c, 2 * meetings_count - 1) / 2];
        a[i].track = t[i];
        if (i > 0)
            a[i] = (struct actor){.name = m->name, .act = m->act, .bare = m->bare, .track = t[i]};
    }
    where(st, at, a);
    kill_along(run, st, at, a, 1, &c);
    a[1].point = chance_below(&c, (uint32_t)t[1]->count);
    kill_along(run, st, at, a, 2, &c);
}

static void record_first(struct stage *st, struct track *t) {
    struct actor a[3] = {{.name = st->scene->name, .act = st->scene->act}};
    torture_where("--scene %s", st->scene->name);
    for (unsigned i = 1; i < 3; i++)
        a[i] = (struct actor){.name = "idle", .act = meetings[0].act};
    a[0].track = t;
    a[0].doing = RECORD;
    round_of(st, a, 0);
    track_plan(t);
}

static void run(const struct torture *run) {
    const char *why = dying_impossible();
    if (why != NULL)
        torture_not_run(why);
    struct track *t[3] = {track_make(), track_make(), track_make()};
    uint64_t astray = 0, trees = 0, left = 0;
    for (size_t i = 0; i < scenes_count; i++)
        left += torture_asked(run, scenes[i].name) && (run->full || !scenes[i].slow);
    for (size_t i = 0; i < scenes_count; i++) {
        const struct scene *sc = &scenes[i];
        if (!torture_asked(run, sc->name) || (sc->slow && !run->full && run->scene == NULL))
            continue;
        double begin = torture_worked();
        until_s = run->seconds > 0 ? begin + (run->seconds - begin) / (double)left : 0;
        struct stage st = stage_make(sc);
        record_first(&st, t[0]);
        uint64_t at = run->at >= 0 ? (uint64_t)run->at : 0;
        uint64_t end = run->at >= 0 ? at + 1 : run->n;
        for (; at < end && (trees == 0 || !late(until_s)); at++, trees++)
            tree(run, &st, at, t);
        for (unsigned k = 0; k < 3; k++) {
            astray += t[k]->astray;
            t[k]->astray = 0;
        }
        left--;
        stage_end(&st);
    }
    torture_note("\"astray\": %" PRIu64 ", \"firsts\": %" PRIu64 ", \"depth_2\": %" PRIu64
                 ", \"depth_3\": %" PRIu64, astray, trees, deaths[2], deaths[3]);
    CHECK(deaths[2] > 0 && deaths[3] > 0);
}

int main(int argc, char **argv) {
    /* n: deaths of the first, for each scene */
    static const struct torture_form form[2] = {{.n = 1000, .every = 29, .seconds = 14},
                                                {.n = 400, .every = 13, .seconds = 0}};
    return torture_main(argc, argv, "restep", form, run);
}
