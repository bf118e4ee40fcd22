/* py_many.c: many keys in one call, and the whole store: clear, totals, check, layout.
 *
 * The many-methods go key by key: what the iterable does meanwhile, closing the store included, is
 * met at the next key. References to keys and values are held while the GIL may be released. */
#include "py_args.h"

#include <string.h>

/* ---- many --------------------------------------------------------------------------------- */

#define KV_GROUP 16u

/* Keys whose memory is asked for together, before any of them is looked up. */
struct group {
    PyObject *object[KV_GROUP];
    struct kv_key key[KV_GROUP];
    uint32_t n;
};

static void group_drop(struct group *g) {
    while (g->n > 0)
        Py_DECREF(g->object[--g->n]);
}

/* The next keys of the iterable. false: raised. */
static bool group_next(struct py_store *self, PyObject *it, struct group *g) {
    struct py_key raw[KV_GROUP];
    struct py_op p;
    g->n = 0;
    while (g->n < KV_GROUP && (g->object[g->n] = PyIter_Next(it)) != NULL) {
        uint32_t i = g->n++;
        if (!key_of(g->object[i], &raw[i]))
            return false;
    }
    if (PyErr_Occurred() || !op_begin(&p, self))
        return false;
    for (uint32_t i = 0; i < g->n; i++)
        g->key[i] = key_hashed(&p, &raw[i]);
    store_prefetch(p.op.h, g->key, g->n);
    return true;
}

static bool group_get(struct py_store *self, struct group *g, PyObject *result) {
    for (uint32_t i = 0; i < g->n; i++) {
        struct kv_meta meta;
        struct py_op p;
        bool missing;
        if (!op_begin(&p, self)) /* again: the dict may have run code of the keys */
            return false;
        PyObject *value = one_fetch(&p, &g->key[i], &meta, &missing);
        if (value == NULL && !missing)
            return false;
        int bad = value != NULL ? PyDict_SetItem(result, g->object[i], value) : 0;
        Py_XDECREF(value);
        if (bad)
            return false;
    }
    return true;
}

PyObject *many_get(struct py_store *self, PyObject *keys) {
    PyObject *it = PyObject_GetIter(keys);
    PyObject *result = it == NULL ? NULL : PyDict_New();
    struct group g = {.n = 0};
    bool ok = result != NULL;
    do {
        group_drop(&g);
        ok = ok && group_next(self, it, &g) && group_get(self, &g, result);
    } while (ok && g.n == KV_GROUP);
    group_drop(&g);
    Py_XDECREF(it);
    if (!ok)
        Py_CLEAR(result);
    return result;
}

/* The journal, once for all keys: an always-journal would sync for each. */
static bool settle_many(struct py_store *self, bool marked) {
    struct py_op p;
    kv_status s = KV_OK;
    if (!marked)
        return true;
    if (!op_begin(&p, self))
        return false;
    p.op.marked = true;
    do
        s = store_enter(&p.op); /* what was dropped meanwhile may have forked */
    while (s == KV_INTR && op_interrupted(&p));
    if (s == KV_OK)
        (void)op_again(&p, s);
    if (s != KV_OK)
        (void)op_fail(&p, s);
    return s == KV_OK;
}

/* One pair of `mapping.items()`. */
static bool set_pair(struct py_store *self, PyObject *pair, uint64_t deadline, bool *marked) {
    struct py_key key;
    struct py_value value;
    struct py_op p;
    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "set_many() needs a mapping: its items() must be pairs");
        return false;
    }
    if (!key_of(PyTuple_GetItem(pair, 0), &key) ||
        !value_of(self, PyTuple_GetItem(pair, 1), &value))
        return false;
    kv_status s = KV_INTR;
    if (op_begin_write(&p, self)) {
        p.lazy = true;
        s = one_put(&p, &key, &value, deadline, KV_PUT_SET, NULL);
        *marked |= p.op.marked;
        if (s != KV_OK)
            (void)op_fail(&p, s);
    }
    value_free(&value);
    return s == KV_OK;
}

PyObject *many_set(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *names) {
    static const struct py_params f = {"set_many", 2, 1, 1, {W_NONE, W_TTL}};
    PyObject *a[PY_ARGS] = {NULL};
    uint64_t deadline;
    struct py_op p;
    if (!args_parse(self->state, &f, args, nargs, names, a) ||
        !ttl_deadline(self->state, a[1], &deadline))
        return NULL;
    PyObject *pairs = PyMapping_Items(a[0]); /* a list of our own */
    if (pairs == NULL) {
        if (PyErr_ExceptionMatches(PyExc_AttributeError))
            PyErr_SetString(PyExc_TypeError, "set_many() needs a mapping: an object with items()");
        return NULL;
    }
    bool ok = op_begin_write(&p, self), marked = false;
    for (Py_ssize_t i = 0; ok && i < PyList_Size(pairs); i++)
        ok = set_pair(self, PyList_GetItem(pairs, i), deadline, &marked);
    Py_DECREF(pairs);
    if (!ok || !settle_many(self, marked))
        return NULL;
    Py_RETURN_NONE;
}

PyObject *many_delete(struct py_store *self, PyObject *keys) {
    struct py_op p;
    PyObject *it = PyObject_GetIter(keys), *key;
    if (it == NULL)
        return NULL;
    unsigned long long n = 0;
    bool ok = op_begin_write(&p, self), marked = false;
    while (ok && (key = PyIter_Next(it)) != NULL) {
        kv_status s = one_drop(self, &p, key, true);
        ok = s != KV_INTR;
        n += s == KV_OK;
        marked |= ok && p.op.marked;
        Py_DECREF(key);
    }
    Py_DECREF(it);
    return ok && !PyErr_Occurred() && settle_many(self, marked) ? PyLong_FromUnsignedLongLong(n)
                                                                : NULL;
}

/* ---- the whole store ---------------------------------------------------------------------- */

PyObject *whole_clear(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    struct kv_clear clear = {.begun = 0};
    kv_status s;
    if (!op_begin_write(&p, self))
        return NULL;
    op_leave(&p.op);
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_clear(&p.op, &clear);
    } while (op_again(&p, s));
    if (s != KV_OK)
        return op_fail(&p, s);
    Py_RETURN_NONE;
}

/* False: beyond max_size, or less than there is. The words are Store.resize's. */
PyObject *whole_resize(struct py_store *self, PyObject *size) {
    struct py_op p;
    unsigned long long wanted = PyLong_AsUnsignedLongLong(size);
    if (wanted == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    if (!op_begin_write(&p, self))
        return NULL;
    kv_status s = store_resize(&p.op, wanted);
    if (s == KV_OK || s == KV_INVALID || s == KV_MISMATCH)
        return PyBool_FromLong(s == KV_OK);
    return op_fail(&p, s);
}

static bool put_number(PyObject *dict, const char *name, uint64_t value) {
    PyObject *n = PyLong_FromUnsignedLongLong(value);
    bool ok = n != NULL && PyDict_SetItemString(dict, name, n) == 0;
    Py_XDECREF(n);
    return ok;
}

struct number {
    const char *name;
    uint64_t value;
};

static PyObject *dict_of(const struct number *numbers, size_t count) {
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < count; i++)
        if (!put_number(dict, numbers[i].name, numbers[i].value))
            Py_CLEAR(dict);
    return dict;
}
#define DICT_OF(numbers) dict_of((numbers), sizeof(numbers) / sizeof(numbers)[0])

PyObject *whole_stats(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    struct kv_stats t;
    if (!op_begin(&p, self))
        return NULL;
    store_stats(p.op.h, &t);
    const struct number numbers[] = {
        {"items", t.items},
        {"size", t.size},
        {"max_size", t.max_size},
        {"bytes_live", t.live_bytes},
        {"bytes_free", t.free_bytes},
        {"bytes_garbage", t.garbage_bytes},
        {"bytes_index", t.index_bytes},
        {"bytes_backed", t.backed_bytes},
        {"hits", t.stat[KV_STAT_HITS]},
        {"misses", t.stat[KV_STAT_MISSES]},
        {"sets", t.stat[KV_STAT_SETS]},
        {"deletes", t.stat[KV_STAT_DELETES]},
        {"expired", t.stat[KV_STAT_EXPIRED]},
        {"evictions",
         t.stat[KV_STAT_EVICTED] + t.stat[KV_STAT_EVICTED_MAIN] + t.stat[KV_STAT_EVICTED_INDEX]},
        {"evictions_small", t.stat[KV_STAT_EVICTED]},
        {"evictions_main", t.stat[KV_STAT_EVICTED_MAIN]},
        {"evictions_index", t.stat[KV_STAT_EVICTED_INDEX]},
        {"promoted", t.stat[KV_STAT_PROMOTED]},
        {"returned", t.stat[KV_STAT_RETURNED]},
        {"refused_full", t.stat[KV_STAT_REFUSED_FULL]},
        {"refused_large", t.stat[KV_STAT_REFUSED_LARGE]},
        {"lock_recoveries", t.stat[KV_STAT_RECOVERIES]},
        {"folds", t.stat[KV_STAT_FOLDS]},
        {"bytes_written", t.stat[KV_STAT_WRITTEN]},
        {"bytes_copied", t.stat[KV_STAT_COPIED]},
        {"pages_cleaned", t.stat[KV_STAT_CLEANED]},
        {"splits", t.stat[KV_STAT_SPLITS]},
        {"retries", t.stat[KV_STAT_RETRIES]},
        {"attached", t.attached},
        {"rows", t.rows},
        {"nospace", t.nospace},
        {"damage", t.damage},
        {"created_ms", t.created_ms},
        {"saved_ms", t.saved_ms},
        {"journal_mode", kv_journal_mode(p.op.h->options)},
        {"journal_broken", t.journal.broken | t.journal.unsaved},
        {"journal_pending", t.journal.marks},
    };
    PyObject *dict = DICT_OF(numbers), *ages = PyTuple_New(KV_QUEUES);
    for (Py_ssize_t q = 0; ages != NULL && q < (Py_ssize_t)KV_QUEUES; q++) {
        PyObject *age =
            t.age_ms[q] == 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)t.age_ms[q] / 1000);
        if (age == NULL || PyTuple_SetItem(ages, q, age) < 0)
            Py_CLEAR(ages);
    }
    if (dict != NULL && (ages == NULL || PyDict_SetItemString(dict, "ages", ages) < 0))
        Py_CLEAR(dict);
    Py_XDECREF(ages);
    return dict;
}

/* ---- check -------------------------------------------------------------------------------- */

#define KV_TEXTS_MAX 200u /* problems told; all are counted */

struct texts {
    char *text[KV_TEXTS_MAX];
    uint32_t count;
};

/* Without the GIL. */
static void keep_text(void *arg, const char *text) {
    struct texts *t = arg;
    if (t->count < KV_TEXTS_MAX && (t->text[t->count] = strdup(text)) != NULL)
        t->count++;
}

static PyObject *texts_take(struct texts *t) {
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; i < t->count; i++) {
        PyObject *s =
            list == NULL
                ? NULL
                : PyUnicode_DecodeUTF8(t->text[i], (Py_ssize_t)strlen(t->text[i]), "replace");
        if (s == NULL || PyList_Append(list, s) < 0)
            Py_CLEAR(list);
        Py_XDECREF(s);
        free(t->text[i]);
    }
    return list;
}

PyObject *whole_check(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    struct texts *t = calloc(1, sizeof *t);
    if (t == NULL)
        return PyErr_NoMemory();
    if (!op_begin(&p, self)) {
        free(t);
        return NULL;
    }
    struct kv_report r;
    kv_status s;
    do {
        r = (struct kv_report){.problem = keep_text, .arg = t};
        while (t->count > 0) /* a signal ended the look before */
            free(t->text[--t->count]);
        op_leave(&p.op);
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_check(&p.op, &r);
    } while (op_again(&p, s));
    PyObject *problems = texts_take(t);
    free(t);
    const struct number numbers[] = {
        {"problem_count", r.problems},      {"items", r.items},
        {"bytes_live", r.live_bytes},       {"pages", r.bases},
        {"pages_free", r.bases_free},       {"pages_index", r.bases_index},
        {"pages_log", r.bases_log},         {"pages_extent", r.bases_extent},
        {"pages_held", r.bases_held},       {"items_parsed", r.log_items},
        {"items_garbage", r.garbage_items}, {"dead_rows", r.dead_rows},
    };
    PyObject *counts = s == KV_OK ? DICT_OF(numbers) : op_fail(&p, s);
    PyObject *pair = counts == NULL || problems == NULL ? NULL : PyTuple_Pack(2, counts, problems);
    Py_XDECREF(counts);
    Py_XDECREF(problems);
    return pair;
}

/* ---- layout, tests ------------------------------------------------------------------------ */

PyObject *whole_geometry(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    if (!op_begin(&p, self))
        return NULL;
    const struct kv_geometry *g = &p.op.h->g;
    const struct number numbers[] = {
        {"size", g->size},
        {"max_size", g->max_size},
        {"off_rows", g->off_rows},
        {"off_deaths", g->off_deaths},
        {"off_board", g->off_board},
        {"off_samples", g->off_samples},
        {"off_stripes", g->off_stripes},
        {"off_dirs", g->off_dirs},
        {"off_pages", g->off_pages},
        {"off_arena", g->off_arena},
        {"off_journal", g->off_journal},
        {"off_ghost", g->off_ghost},
        {"rows", g->rows},
        {"stripes", g->stripes},
        {"stripe_shift", g->stripe_shift},
        {"dir_bits", g->dir_bits},
        {"base_shift", g->base_shift},
        {"bases_max", g->bases_max},
        {"bases", g->bases},
        {"std_run", g->std_run},
        {"log_run_max", g->log_run_max},
        {"appenders", g->appenders},
        {"mains", g->mains},
        {"cleaners", g->cleaners},
        {"zone", g->zone},
        {"index_per_base", g->index_per_base},
        {"words", g->words},
        {"board", g->board},
        {"samples", g->samples},
        {"seed", p.op.h->seed},
        {"options", p.op.h->options},
        {"layout_version", KV_LAYOUT_VERSION},
        {"fingerprint", kv_fingerprint()},
        {"watermark", segment_watermark(p.op.h)},
    };
    return DICT_OF(numbers);
}

PyObject *whole_number(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    kv_status s;
    if (!op_begin(&p, self))
        return NULL;
    do
        s = store_enter(&p.op); /* a fork child takes its row here */
    while (op_again(&p, s));
    return s == KV_OK ? PyLong_FromUnsignedLong(kv_number(p.op.h)) : op_fail(&p, s);
}

/* _work(budget_ms): (dead attachments met, pages freed, is there more to do at once). */
PyObject *whole_work(struct py_store *self, PyObject *budget) {
    struct py_op p;
    struct kv_done done = {0};
    kv_status s;
    unsigned long ms = PyLong_AsUnsignedLong(budget);
    if ((ms == (unsigned long)-1 && PyErr_Occurred()) || !op_begin_write(&p, self))
        return NULL;
    op_leave(&p.op);
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = work_ahead(&p.op, (uint64_t)ms * 1000000, &done);
    } while (op_again(&p, s));
    if (s != KV_OK)
        return op_fail(&p, s);
    return Py_BuildValue("(IIN)", done.folded, done.freed, PyBool_FromLong(done.more));
}

/* _daemon(become): is there a daemon; with True: become it, and is that so. */
PyObject *whole_daemon(struct py_store *self, PyObject *become) {
    struct py_op p;
    kv_status s;
    int wanted = PyObject_IsTrue(become);
    if (wanted < 0 || !op_begin(&p, self))
        return NULL;
    do
        s = store_enter(&p.op);
    while (op_again(&p, s));
    if (s != KV_OK)
        return op_fail(&p, s);
    return PyBool_FromLong(wanted && !p.op.h->readonly ? lock_daemon(p.op.h)
                                                       : lock_daemon_alive(p.op.h));
}

PyObject *whole_compact(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    uint32_t freed = 0;
    kv_status s;
    if (!op_begin_write(&p, self))
        return NULL;
    op_leave(&p.op);
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = evict_compact(&p.op, &freed);
    } while (op_again(&p, s));
    return s == KV_OK ? PyLong_FromUnsignedLong(freed) : op_fail(&p, s);
}
