/* step.c: SIGKILL at every machine instruction of an operation of the release build.
 *
 * Each kill: the segment's bytes are put back, a child is forked, attaches with a row of its own
 * and dies for good in the operation (dying.h); then the parent, another attachment, judges
 * (scenes.h). An operation is killed at point `from`, `from` + every, ...; `from` follows from the
 * seed. Prints how many instructions each operation has, and how many deaths missed their place by
 * something that is not reproducible (a second of the coarse clock that ends): they count as
 * deaths, elsewhere. */
#include "dying.h"
#include "scenes.h"

#include <sys/wait.h>
#include <unistd.h>

/* Runs in a child; -1: record. How it ended: false = by SIGKILL, true = the operation was done. */
static bool child_ends(struct stage *st, struct track *t, int64_t point) {
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct kv_op op = kv_op_make(st->h);
        OK(store_enter(&op));
        store_leave(&op);
        if (point < 0)
            track_record(t, st->scene->act, st->h);
        else
            track_die(t, (uint64_t)point, st->scene->act, st->h);
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        kv_test_fail(__FILE__, __LINE__, "the child ended with status %d", status);
    return !killed;
}

static void record(struct stage *st, struct track *t) {
    torture_where("--scene %s", st->scene->name);
    CHECK(child_ends(st, t, -1));
    track_plan(t);
    (void)stage_judge(st, true); /* it left without a word, as the dead do */
    stage_restore(st);
}

static uint64_t kills(const struct torture *run, struct stage *st, struct track *t,
                      double until_s) {
    struct chance c = chance_make(kv_hash(st->scene->name, strlen(st->scene->name), 0));
    uint64_t from = chance_below(&c, (uint32_t)run->every), n = 0, missed = 0;
    if (run->at >= 0)
        from = (uint64_t)run->at;
    for (uint64_t point = from; point < t->count && n < run->n; point += run->every) {
        torture_where("--scene %s --at %" PRIu64 " (of %" PRIu64 ", %s)", st->scene->name, point,
                      t->count, track_place(t, point));
        bool finished = child_ends(st, t, (int64_t)point);
        missed += finished;
        torture_passed(stage_judge(st, finished));
        stage_restore(st);
        n++;
        if (run->at >= 0 || (until_s > 0 && torture_worked() > until_s))
            break;
    }
    t->astray += missed;
    return n;
}

static void run(const struct torture *run) {
    const char *why = dying_impossible();
    if (why != NULL)
        torture_not_run(why);
    struct track *t = track_make();
    char counts[400] = "";
    uint64_t astray = 0, all = 0, left = 0;
    for (size_t i = 0; i < scenes_count; i++)
        left += torture_asked(run, scenes[i].name) && (run->full || !scenes[i].slow);
    for (size_t i = 0; i < scenes_count; i++) {
        const struct scene *sc = &scenes[i];
        if (!torture_asked(run, sc->name) || (sc->slow && !run->full && run->scene == NULL))
            continue;
        double begin = torture_worked();
        double share = run->seconds > 0 ? (run->seconds - begin) / (double)left : 0;
        struct stage st = stage_make(sc);
        record(&st, t);
        t->astray = 0;
        uint64_t n = kills(run, &st, t, run->seconds > 0 ? begin + share : 0);
        astray += t->astray;
        all += n;
        left--;
        size_t used = strlen(counts);
        (void)snprintf(counts + used, sizeof counts - used, "%s\"%s\": [%" PRIu64 ", %" PRIu64 "]",
                       used > 0 ? ", " : "", sc->name, t->count, n);
        stage_end(&st);
    }
    torture_note("\"astray\": %" PRIu64, astray);
    torture_note("\"instructions_and_kills\": {%s}", counts);
    CHECK(all > 0 && astray * 20 <= all); /* else the track is no plan */
}

int main(int argc, char **argv) {
    static const struct torture_form form[2] = {{.n = UINT64_MAX, .every = 7, .seconds = 25},
                                                {.n = UINT64_MAX, .every = 1, .seconds = 0}};
    return torture_main(argc, argv, "step", form, run);
}
