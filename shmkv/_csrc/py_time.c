/* py_time.c: what changes or shows an item without a new value: counters, deadlines, append,
 * rename, info. */
#include "py_args.h"

#include "clock.h"

/* ---- counters ----------------------------------------------------------------------------- */

/* An int of 64 bits. `beyond` is told apart because it is an OverflowError. */
static bool int64_of(const char *what, PyObject *o, int64_t *out) {
    if (!Py_IS_TYPE(o, &PyLong_Type)) {
        PyObject *name = PyType_GetName(Py_TYPE(o));
        if (name != NULL)
            PyErr_Format(PyExc_TypeError, "%s must be an int, not %U", what, name);
        Py_XDECREF(name);
        return false;
    }
    int beyond = 0;
    *out = PyLong_AsLongLongAndOverflow(o, &beyond);
    if (beyond)
        PyErr_Format(PyExc_OverflowError, "%s leaves the 64 bits of a counter", what);
    return !beyond;
}

static PyObject *incr_fail(struct py_op *p, kv_status s, PyObject *key) {
    if (s == KV_MISS)
        return raise_missing(key);
    if (s == KV_TYPE)
        return PyErr_Format(PyExc_TypeError,
                            "store '%U': incr and decr count ints; this key holds another type",
                            p->self->name);
    return op_fail(p, s);
}

static PyObject *count(struct py_store *self, const struct py_params *f, bool down,
                       PyObject *const *args, Py_ssize_t nargs, PyObject *names) {
    PyObject *a[PY_ARGS] = {NULL}; /* key, delta, default, ttl */
    struct py_key k;
    struct py_op p;
    int64_t delta = 1, initial = 0, result = 0;
    uint64_t deadline = 0;
    if (!args_parse(self->state, f, args, nargs, names, a) || !key_of(a[0], &k) ||
        (a[1] != NULL && !int64_of("delta", a[1], &delta)) ||
        (a[2] != NULL && a[2] != Py_None && !int64_of("default", a[2], &initial)) ||
        (a[3] != NULL && !ttl_deadline(self->state, a[3], &deadline)))
        return NULL;
    if (down && delta == INT64_MIN)
        return PyErr_Format(PyExc_OverflowError,
                            "the negative of delta leaves the 64 bits of a counter");
    if (!op_begin_write(&p, self))
        return NULL;
    struct kv_key key = key_hashed(&p, &k);
    const int64_t *start = a[2] == Py_None ? NULL : &initial;
    kv_status s;
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_incr(&p.op, &key, down ? -delta : delta, start, deadline, &result);
    } while (op_again(&p, s));
    return s == KV_OK ? PyLong_FromLongLong(result) : incr_fail(&p, s, a[0]);
}

PyObject *time_incr(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *names) {
    static const struct py_params f = {"incr", 4, 2, 1, {W_NONE, W_DELTA, W_DEFAULT, W_TTL}};
    return count(self, &f, false, args, nargs, names);
}

PyObject *time_decr(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *names) {
    static const struct py_params f = {"decr", 4, 2, 1, {W_NONE, W_DELTA, W_DEFAULT, W_TTL}};
    return count(self, &f, true, args, nargs, names);
}

/* ---- deadlines ---------------------------------------------------------------------------- */

static PyObject *touch(struct py_store *self, const struct py_key *k, uint64_t deadline) {
    struct py_op p;
    if (!op_begin_write(&p, self))
        return NULL;
    struct kv_key key = key_hashed(&p, k);
    kv_status s;
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_touch(&p.op, &key, deadline);
    } while (op_again(&p, s));
    return s == KV_OK || s == KV_MISS ? PyBool_FromLong(s == KV_OK) : op_fail(&p, s);
}

PyObject *time_touch(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *names) {
    static const struct py_params f = {"touch", 2, 2, 2, {W_NONE, W_TTL}};
    PyObject *a[PY_ARGS] = {NULL};
    struct py_key key;
    uint64_t deadline;
    if (!args_parse(self->state, &f, args, nargs, names, a) || !key_of(a[0], &key) ||
        !ttl_deadline(self->state, a[1], &deadline))
        return NULL;
    return touch(self, &key, deadline);
}

PyObject *time_expire_at(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *names) {
    static const struct py_params f = {"expire_at", 2, 2, 2, {W_NONE, W_WHEN}};
    PyObject *a[PY_ARGS] = {NULL};
    struct py_key key;
    uint64_t deadline;
    if (!args_parse(self->state, &f, args, nargs, names, a) || !key_of(a[0], &key) ||
        !when_deadline(self->state, a[1], &deadline))
        return NULL;
    return touch(self, &key, deadline);
}

static bool peek(struct py_store *self, PyObject *o_key, struct py_op *p, struct kv_meta *meta) {
    struct py_key k;
    if (!key_of(o_key, &k) || !op_begin(p, self))
        return false;
    struct kv_key key = key_hashed(p, &k);
    kv_status s;
    do {
        s = store_enter(&p->op);
        if (s == KV_OK)
            s = store_peek(&p->op, &key, meta);
    } while (op_again(p, s));
    if (s != KV_OK)
        (void)(s == KV_MISS ? raise_missing(o_key) : op_fail(p, s));
    return s == KV_OK;
}

static PyObject *seconds_left(const struct kv_meta *meta) {
    if (meta->deadline_ms == 0)
        Py_RETURN_NONE;
    uint64_t now = kv_clock_ms();
    return PyFloat_FromDouble(meta->deadline_ms > now ? (double)(meta->deadline_ms - now) / 1000
                                                      : 0.0);
}

PyObject *time_ttl(struct py_store *self, PyObject *key) {
    struct py_op p;
    struct kv_meta meta;
    return peek(self, key, &p, &meta) ? seconds_left(&meta) : NULL;
}

PyObject *time_info(struct py_store *self, PyObject *key) {
    struct py_op p;
    struct kv_meta meta;
    if (!peek(self, key, &p, &meta))
        return NULL;
    uint64_t size = meta.flags & KV_ITEM_COUNTER ? 8 : meta.value_len;
    uint64_t age = store_age_ms(p.op.h, &meta);
    return Py_BuildValue("(sKNd)", type_name(meta.type), (unsigned long long)size,
                         seconds_left(&meta), (double)age / 1000);
}

/* ---- append, rename ----------------------------------------------------------------------- */

static bool is_tail(PyObject *o) {
    PyTypeObject *t = Py_TYPE(o);
    return t == &PyBytes_Type || t == &PyUnicode_Type || t == &PyByteArray_Type ||
           t == &PyMemoryView_Type;
}

static PyObject *append(struct py_store *self, const struct py_key *k,
                        const struct kv_value *tail) {
    struct py_op p;
    if (!op_begin_write(&p, self))
        return NULL;
    struct kv_key key = key_hashed(&p, k);
    uint64_t len = 0;
    kv_status s;
    if (tail->len > KV_PIN_BYTES)
        op_leave(&p.op);
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_append(&p.op, &key, tail->type, tail->data, tail->len, &len);
    } while (op_again(&p, s));
    if (s == KV_TYPE)
        return PyErr_Format(
            PyExc_TypeError,
            "store '%U': append takes bytes to bytes and str to str; this key holds another type",
            self->name);
    return s == KV_OK ? PyLong_FromUnsignedLongLong(len) : op_fail(&p, s);
}

PyObject *time_append(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *names) {
    static const struct py_params f = {"append", 2, 2, 2, {W_NONE, W_NONE}};
    PyObject *a[PY_ARGS] = {NULL};
    struct py_key key;
    struct py_value value;
    if (!args_parse(self->state, &f, args, nargs, names, a) || !key_of(a[0], &key))
        return NULL;
    if (!is_tail(a[1])) {
        PyObject *name = PyType_GetName(Py_TYPE(a[1]));
        if (name != NULL)
            PyErr_Format(PyExc_TypeError, "tail must be bytes or str, not %U", name);
        Py_XDECREF(name);
        return NULL;
    }
    if (!value_of(self, a[1], &value))
        return NULL;
    PyObject *result = append(self, &key, &value.v);
    value_free(&value);
    return result;
}

PyObject *time_rename(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *names) {
    static const struct py_params f = {"rename", 2, 2, 2, {W_NONE, W_NONE}};
    PyObject *a[PY_ARGS] = {NULL};
    struct py_key from, to;
    struct py_op p;
    if (!args_parse(self->state, &f, args, nargs, names, a) || !key_of(a[0], &from) ||
        !key_of(a[1], &to) || !op_begin_write(&p, self))
        return NULL;
    struct kv_key old = key_hashed(&p, &from), new = key_hashed(&p, &to);
    kv_status s;
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_rename(&p.op, &old, &new);
    } while (op_again(&p, s));
    if (s == KV_MISS)
        return raise_missing(a[0]);
    if (s != KV_OK)
        return op_fail(&p, s);
    Py_RETURN_NONE;
}
