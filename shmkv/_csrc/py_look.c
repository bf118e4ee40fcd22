/* py_look.c: for eyes: rows, memory, the state of an item, hot keys. Only _count writes, and only
 * access counters.
 *
 * What walks the whole store does so without the GIL. */
#include "py_glue.h"

/* ---- rows --------------------------------------------------------------------------------- */

static PyObject *counters_of(const struct kv_row *row) {
    PyObject *tuple = PyTuple_New(KV_STATS);
    for (Py_ssize_t i = 0; tuple != NULL && i < (Py_ssize_t)KV_STATS; i++) {
        PyObject *n = PyLong_FromUnsignedLongLong(kv_load_rlx(&row->stat[i]));
        if (n == NULL || PyTuple_SetItem(tuple, i, n) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* Appends what `made` is, and lets go of it; false: raised. */
static bool append_taken(PyObject *list, PyObject *made) {
    bool good = made != NULL && PyList_Append(list, made) == 0;
    Py_XDECREF(made);
    return good;
}

PyObject *look_rows(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    if (!op_begin(&p, self))
        return NULL;
    struct kv_handle *h = p.op.h;
    PyObject *list = PyList_New(0);
    for (uint32_t r = 0; list != NULL && r < h->g.rows; r++) {
        struct kv_row *row = kv_row_at(h, r);
        uint32_t number = kv_load_acq(&row->number);
        if (number == 0)
            continue;
        PyObject *counters = counters_of(row);
        PyObject *one = counters == NULL
                            ? NULL
                            : Py_BuildValue("(IIIKKKON)", r, number, kv_load_rlx(&row->pid),
                                            (unsigned long long)kv_load_rlx(&row->pid_start),
                                            (unsigned long long)kv_load_rlx(&row->pid_namespace),
                                            (unsigned long long)kv_load_rlx(&row->attached_ms),
                                            row_alive(h, number) ? Py_True : Py_False, counters);
        if (!append_taken(list, one))
            Py_CLEAR(list);
    }
    return list;
}

PyObject *look_memory(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    struct kv_memory m;
    if (!op_begin(&p, self))
        return NULL;
    op_leave(&p.op);
    store_memory(p.op.h, &m);
    kv_status ended = KV_OK;
    (void)op_again(&p, ended);
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < KV_QUEUES * (KV_INTERIOR + 1); i++) {
        uint32_t queue = i / (KV_INTERIOR + 1), state = i % (KV_INTERIOR + 1);
        const struct kv_part *part = &m.part[queue][state];
        if (part->bytes != 0 &&
            !append_taken(list,
                          Py_BuildValue("(IIKKK)", queue, state, (unsigned long long)part->bytes,
                                        (unsigned long long)part->filled,
                                        (unsigned long long)part->garbage)))
            Py_CLEAR(list);
    }
    return list;
}

/* ---- one item ----------------------------------------------------------------------------- */

PyObject *look_state(struct py_store *self, PyObject *o) {
    struct py_key k;
    struct py_op p;
    struct kv_meta meta;
    if (!key_of(o, &k) || !op_begin(&p, self))
        return NULL;
    struct kv_key key = key_hashed(&p, &k);
    kv_status s;
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_peek(&p.op, &key, &meta);
    } while (op_again(&p, s));
    if (s == KV_MISS)
        Py_RETURN_NONE;
    if (s != KV_OK)
        return op_fail(&p, s);
    return Py_BuildValue("(IKK)", meta.version, (unsigned long long)meta.counter,
                         (unsigned long long)meta.deadline_ms);
}

/* ---- hot keys ----------------------------------------------------------------------------- */

struct hot {
    uint64_t age_ms, bytes;
    unsigned char *key; /* owned */
    uint32_t len;
    uint8_t heat;
    bool is_str;
};

struct heat {
    struct kv_handle *h;
    const char *prefix;
    size_t prefix_len;
    uint64_t items[KV_COUNTER_MAX + 1]; /* by counter */
    struct hot *found;
    size_t count, most, room;
};

/* Higher counters first; among equals who came to its counter in a shorter time. */
static int hotter(const void *a, const void *b) {
    const struct hot *x = a, *y = b;
    if (x->heat != y->heat)
        return x->heat > y->heat ? -1 : 1;
    return x->age_ms < y->age_ms ? -1 : x->age_ms > y->age_ms;
}

static void heat_cut(struct heat *heat) {
    qsort(heat->found, heat->count, sizeof *heat->found, hotter);
    while (heat->count > heat->most)
        free(heat->found[--heat->count].key);
}

/* A kv_show, without the GIL. */
static bool heat_keep(void *arg, const void *key, uint32_t len, bool is_str,
                      const struct kv_meta *meta) {
    struct heat *heat = arg;
    if (heat->prefix_len > len ||
        (heat->prefix_len > 0 && memcmp(key, heat->prefix, heat->prefix_len) != 0))
        return true;
    heat->items[meta->heat]++;
    if (heat->count == heat->room)
        heat_cut(heat);
    struct hot *one = &heat->found[heat->count];
    *one = (struct hot){
        store_age_ms(heat->h, meta), meta->bytes, malloc(len), len, meta->heat, is_str};
    if (one->key == NULL)
        return false;
    memcpy(one->key, key, len);
    heat->count++;
    return true;
}

static PyObject *heat_list(struct heat *heat) {
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < heat->count; i++) {
        const struct hot *one = &heat->found[i];
        const char *data = (const char *)one->key;
        PyObject *key = one->is_str ? PyUnicode_DecodeUTF8(data, one->len, NULL)
                                    : PyBytes_FromStringAndSize(data, one->len);
        if (key == NULL && one->is_str && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
            PyErr_Clear(); /* a damaged flag: the bytes are true */
            key = PyBytes_FromStringAndSize(data, one->len);
        }
        if (key == NULL || !append_taken(list, Py_BuildValue("(NiKK)", key, (int)one->heat,
                                                             (unsigned long long)one->age_ms,
                                                             (unsigned long long)one->bytes)))
            Py_CLEAR(list);
    }
    return list;
}

PyObject *look_heat(struct py_store *self, PyObject *args) {
    struct py_op p;
    struct heat heat = {.count = 0};
    Py_ssize_t most, prefix_len = 0;
    if (!PyArg_ParseTuple(args, "z#n:_heat", &heat.prefix, &prefix_len, &most))
        return NULL;
    if (most < 1 || most > 1 << 24)
        return PyErr_Format(PyExc_ValueError, "most=%zd is not between 1 and 16777216", most);
    if (!op_begin(&p, self))
        return NULL;
    heat.h = p.op.h;
    heat.prefix_len = (size_t)prefix_len;
    heat.most = (size_t)most;
    heat.room = heat.most * 2 + 64;
    heat.found = malloc(heat.room * sizeof *heat.found);
    struct kv_cursor cursor = {.stripe = 0};
    kv_status s = heat.found == NULL ? KV_NOMEM : KV_OK;
    if (s == KV_OK)
        do {
            op_leave(&p.op);
            s = store_enter(&p.op);
            while (s == KV_OK)
                s = store_scan(&p.op, &cursor, heat_keep, &heat);
        } while (op_again(&p, s));
    PyObject *list = NULL;
    if (s == KV_MISS) {
        heat_cut(&heat);
        list = heat_list(&heat);
    } else {
        (void)op_fail(&p, s);
    }
    while (heat.count > 0)
        free(heat.found[--heat.count].key);
    free(heat.found);
    if (list == NULL)
        return NULL;
    return Py_BuildValue("((KKKK)N)", (unsigned long long)heat.items[0],
                         (unsigned long long)heat.items[1], (unsigned long long)heat.items[2],
                         (unsigned long long)heat.items[3], list);
}

static PyObject *counts_list(const struct kv_count *counts, Py_ssize_t n) {
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < n; i++) {
        const struct kv_count *c = &counts[i];
        PyObject *one = c->looks == 0 ? Py_NewRef(Py_None)
                                      : Py_BuildValue("(III)", c->looks, c->idle, c->least_reads);
        if (!append_taken(list, one))
            Py_CLEAR(list);
    }
    return list;
}

PyObject *look_count(struct py_store *self, PyObject *args) {
    PyObject *keys;
    unsigned long long gap_ns, rest_ns;
    unsigned looks;
    struct py_op p;
    if (!PyArg_ParseTuple(args, "O!IKK:_count", &PyList_Type, &keys, &looks, &gap_ns, &rest_ns))
        return NULL;
    Py_ssize_t n = PyList_Size(keys);
    struct kv_count *counts = calloc((size_t)n + 1, sizeof *counts);
    if (counts == NULL)
        return PyErr_NoMemory();
    if (!op_begin_write(&p, self)) {
        free(counts);
        return NULL;
    }
    PyObject *result = NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        struct py_key k;
        if (!key_of(PyList_GetItem(keys, i), &k))
            goto out;
        struct kv_key key = key_hashed(&p, &k);
        if (store_count_aim(p.op.h, &key, &counts[i]) != KV_OK)
            counts[i] = (struct kv_count){.before = 0}; /* gone or moving: not counted */
    }
    op_leave(&p.op);
    uint64_t took = store_count(counts, (uint32_t)n, looks, gap_ns, rest_ns);
    kv_status ended = KV_OK;
    (void)op_again(&p, ended);
    PyObject *list = counts_list(counts, n);
    result = list == NULL ? NULL : Py_BuildValue("(KN)", (unsigned long long)took, list);
out:
    free(counts);
    return result;
}
