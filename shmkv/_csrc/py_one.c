/* py_one.c: one key: get, set, add, replace, delete, gets, cas, pop, and the item syntax.
 *
 * The hot path. Each method parses, begins, calls the core until no signal interrupts it, and turns
 * the status into a result. No C state is held across anything that may run Python code. */
#include "py_args.h"

/* ---- in ----------------------------------------------------------------------------------- */

kv_status one_put(struct py_op *p, const struct py_key *k, const struct py_value *value,
                  uint64_t deadline_ms, enum kv_put mode, const struct kv_token *token) {
    struct kv_key key = key_hashed(p, k);
    kv_status s;
    if (value->v.len + value->v.more_len > KV_PIN_BYTES)
        op_leave(&p->op);
    do {
        s = store_enter(&p->op);
        if (s == KV_OK)
            s = store_put(&p->op, &key, &value->v, deadline_ms, mode, token);
    } while (op_again(p, s));
    return s;
}

/* Parse, put. KV_INTR: raised. */
static kv_status put(struct py_store *self, struct py_op *p, PyObject *o_key, PyObject *o_value,
                     PyObject *ttl, enum kv_put mode, const struct kv_token *token) {
    struct py_key key;
    struct py_value value;
    uint64_t deadline = 0;
    kv_status s = KV_INTR;
    if (!key_of(o_key, &key) || (ttl != NULL && !ttl_deadline(self->state, ttl, &deadline)) ||
        !value_of(self, o_value, &value))
        return KV_INTR;
    if (op_begin_write(p, self)) {
        s = one_put(p, &key, &value, deadline, mode, token);
        if (s != KV_OK && s != KV_MISS && s != KV_EXISTS) {
            (void)op_fail(p, s);
            s = KV_INTR;
        }
    }
    value_free(&value);
    return s;
}

static PyObject *put_bool(struct py_store *self, const struct py_params *f, enum kv_put mode,
                          PyObject *const *args, Py_ssize_t nargs, PyObject *names) {
    PyObject *a[PY_ARGS] = {NULL};
    struct py_op p;
    if (!args_parse(self->state, f, args, nargs, names, a))
        return NULL;
    kv_status s = put(self, &p, a[0], a[1], a[2], mode, NULL);
    return s == KV_INTR ? NULL : PyBool_FromLong(s == KV_OK);
}

PyObject *one_set(struct py_store *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) {
    static const struct py_params f = {"set", 3, 2, 2, {W_NONE, W_NONE, W_TTL}};
    PyObject *a[PY_ARGS] = {NULL};
    struct py_op p;
    if (!args_parse(self->state, &f, args, nargs, names, a))
        return NULL;
    if (put(self, &p, a[0], a[1], a[2], KV_PUT_SET, NULL) == KV_INTR)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *one_add(struct py_store *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) {
    static const struct py_params f = {"add", 3, 2, 2, {W_NONE, W_NONE, W_TTL}};
    return put_bool(self, &f, KV_PUT_ADD, args, nargs, names);
}

PyObject *one_replace(struct py_store *self, PyObject *const *args, Py_ssize_t nargs,
                      PyObject *names) {
    static const struct py_params f = {"replace", 3, 2, 2, {W_NONE, W_NONE, W_TTL}};
    return put_bool(self, &f, KV_PUT_REPLACE, args, nargs, names);
}

/* KV_OK, KV_MISS, KV_EXISTS (the token does not fit); KV_INTR: raised. */
static kv_status delete_key(struct py_store *self, struct py_op *p, const struct py_key *k,
                            const struct kv_token *token, bool lazy) {
    if (!op_begin_write(p, self))
        return KV_INTR;
    p->lazy = lazy;
    struct kv_key key = key_hashed(p, k);
    kv_status s;
    do {
        s = store_enter(&p->op);
        if (s == KV_OK)
            s = store_delete(&p->op, &key, token);
    } while (op_again(p, s));
    if (s == KV_OK || s == KV_MISS || s == KV_EXISTS)
        return s;
    (void)op_fail(p, s);
    return KV_INTR;
}

kv_status one_drop(struct py_store *self, struct py_op *p, PyObject *o_key, bool lazy) {
    struct py_key k;
    return key_of(o_key, &k) ? delete_key(self, p, &k, NULL, lazy) : KV_INTR;
}

PyObject *one_delete(struct py_store *self, PyObject *key) {
    struct py_op p;
    kv_status s = one_drop(self, &p, key, false);
    return s == KV_INTR ? NULL : PyBool_FromLong(s == KV_OK);
}

int one_assign(struct py_store *self, PyObject *key, PyObject *value) {
    struct py_op p;
    kv_status s = value != NULL ? put(self, &p, key, value, NULL, KV_PUT_SET, NULL)
                                : one_drop(self, &p, key, false);
    if (s == KV_MISS)
        (void)raise_missing(key);
    return s == KV_OK ? 0 : -1;
}

/* ---- out ---------------------------------------------------------------------------------- */

static PyObject *fetch_key(struct py_op *p, const struct kv_key *key, bool encoded,
                           struct kv_meta *meta, bool *missing) {
    struct py_fetch f;
    kv_status s;
    *missing = false;
    fetch_init(&f, p);
    do {
        s = store_enter(&p->op);
        if (s == KV_OK)
            s = store_get(&p->op, key, meta, fetch_alloc, &f);
    } while (op_again(p, s));
    PyObject *result = NULL;
    if (s == KV_OK && encoded && meta->type == KV_TYPE_CODEC && meta->value_len > 0)
        result = codec_encoded(p->self, f.bytes);
    else if (s == KV_OK)
        result = fetch_take(&f, meta);
    else if (s == KV_MISS)
        *missing = true;
    else
        (void)op_fail(p, s);
    fetch_free(&f);
    return result;
}

PyObject *one_fetch(struct py_op *p, const struct kv_key *key, struct kv_meta *meta,
                    bool *missing) {
    return fetch_key(p, key, false, meta, missing);
}

static PyObject *fetch(struct py_store *self, PyObject *o_key, bool encoded, struct kv_meta *meta,
                       bool *missing) {
    struct py_key k;
    struct py_op p;
    *missing = false;
    if (!key_of(o_key, &k) || !op_begin(&p, self))
        return NULL;
    struct kv_key key = key_hashed(&p, &k);
    return fetch_key(&p, &key, encoded, meta, missing);
}

PyObject *one_get(struct py_store *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) {
    static const struct py_params f = {"get", 2, 2, 1, {W_NONE, W_DEFAULT}};
    PyObject *a[PY_ARGS] = {NULL, Py_None};
    struct kv_meta meta;
    bool missing;
    if (!args_parse(self->state, &f, args, nargs, names, a))
        return NULL;
    PyObject *value = fetch(self, a[0], false, &meta, &missing);
    return missing ? Py_NewRef(a[1]) : value;
}

PyObject *one_subscript(struct py_store *self, PyObject *key) {
    struct kv_meta meta;
    bool missing;
    PyObject *value = fetch(self, key, false, &meta, &missing);
    return missing ? raise_missing(key) : value;
}

/* As get, but a value of another codec is not decoded. */
PyObject *one_get_encoded(struct py_store *self, PyObject *o_key) {
    struct kv_meta meta;
    bool missing;
    PyObject *value = fetch(self, o_key, true, &meta, &missing);
    return missing ? raise_missing(o_key) : value;
}

int one_contains(struct py_store *self, PyObject *o_key) {
    struct py_key k;
    struct py_op p;
    struct kv_meta meta;
    if (!key_of(o_key, &k) || !op_begin(&p, self))
        return -1;
    struct kv_key key = key_hashed(&p, &k);
    kv_status s;
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_peek(&p.op, &key, &meta);
    } while (op_again(&p, s));
    if (s == KV_OK || s == KV_MISS)
        return s == KV_OK;
    (void)op_fail(&p, s);
    return -1;
}

/* Decoded before it is deleted: what cannot be decoded stays. */
PyObject *one_pop(struct py_store *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) {
    static const struct py_params params = {"pop", 2, 2, 1, {W_NONE, W_DEFAULT}};
    PyObject *a[PY_ARGS] = {NULL};
    struct py_key k;
    struct py_op p;
    if (!args_parse(self->state, &params, args, nargs, names, a) || !key_of(a[0], &k))
        return NULL;
    for (;;) {
        struct kv_meta meta;
        bool missing;
        if (!op_begin_write(&p, self))
            return NULL;
        struct kv_key key = key_hashed(&p, &k);
        PyObject *value = one_fetch(&p, &key, &meta, &missing);
        if (missing)
            return a[1] != NULL ? Py_NewRef(a[1]) : raise_missing(a[0]);
        if (value == NULL)
            return NULL;
        struct kv_token token = kv_token_of(&meta);
        kv_status s = delete_key(self, &p, &k, &token, false);
        if (s == KV_OK)
            return value;
        Py_DECREF(value);
        if (s == KV_INTR)
            return NULL;
    }
}

/* ---- tokens ------------------------------------------------------------------------------- */

/* version | counter << 32 */
static PyObject *token_make(const struct kv_token *t) {
    if (t->counter >> 32 == 0)
        return PyLong_FromUnsignedLongLong(t->version | t->counter << 32);
    PyObject *high = PyLong_FromUnsignedLongLong(t->counter);
    PyObject *by = high == NULL ? NULL : PyLong_FromLong(32);
    PyObject *up = by == NULL ? NULL : PyNumber_Lshift(high, by);
    PyObject *low = up == NULL ? NULL : PyLong_FromUnsignedLong(t->version);
    PyObject *token = low == NULL ? NULL : PyNumber_Or(up, low);
    Py_XDECREF(low);
    Py_XDECREF(up);
    Py_XDECREF(by);
    Py_XDECREF(high);
    return token;
}

/* 1: read; 0: an int that no item ever had; -1: raised. */
static int token_read(PyObject *o, struct kv_token *t) {
    if (!PyLong_Check(o) || PyBool_Check(o)) {
        PyErr_SetString(PyExc_TypeError, "token must be the int that gets() gave");
        return -1;
    }
    PyObject *by = PyLong_FromLong(32);
    PyObject *high = by == NULL ? NULL : PyNumber_Rshift(o, by);
    Py_XDECREF(by);
    if (high == NULL)
        return -1;
    t->version = (uint32_t)PyLong_AsUnsignedLongMask(o);
    t->counter = PyLong_AsUnsignedLongLong(high);
    Py_DECREF(high);
    if (!PyErr_Occurred())
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    PyErr_Clear();
    return 0;
}

PyObject *one_gets(struct py_store *self, PyObject *key) {
    struct kv_meta meta;
    bool missing;
    PyObject *value = fetch(self, key, false, &meta, &missing);
    if (value == NULL)
        return missing ? raise_missing(key) : NULL;
    struct kv_token t = kv_token_of(&meta);
    PyObject *token = token_make(&t);
    PyObject *pair = token == NULL ? NULL : PyTuple_Pack(2, value, token);
    Py_XDECREF(token);
    Py_DECREF(value);
    return pair;
}

PyObject *one_cas(struct py_store *self, PyObject *const *args, Py_ssize_t nargs, PyObject *names) {
    static const struct py_params f = {"cas", 4, 3, 3, {W_NONE, W_NONE, W_TOKEN, W_TTL}};
    PyObject *a[PY_ARGS] = {NULL};
    struct kv_token token = {.version = 0};
    struct py_op p;
    if (!args_parse(self->state, &f, args, nargs, names, a))
        return NULL;
    int known = token_read(a[2], &token);
    if (known < 0)
        return NULL;
    if (known == 0) { /* everything else is still checked */
        struct py_key key;
        struct py_value value;
        uint64_t deadline;
        if (!key_of(a[0], &key) || !ttl_deadline(self->state, a[3], &deadline) ||
            !value_of(self, a[1], &value))
            return NULL;
        value_free(&value);
        return op_begin_write(&p, self) ? PyBool_FromLong(0) : NULL;
    }
    kv_status s = put(self, &p, a[0], a[1], a[3], KV_PUT_CAS, &token);
    return s == KV_INTR ? NULL : PyBool_FromLong(s == KV_OK);
}
