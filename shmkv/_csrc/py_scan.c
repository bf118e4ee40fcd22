/* py_scan.c: an iterator over keys, bucket by bucket.
 *
 * Keys of one bucket are copied into private memory and become objects one by one. Long stretches
 * without a match are walked without the GIL. */
#include "py_glue.h"

#define KV_STRETCH 64u /* buckets without a key before the GIL is released */

struct one {
    uint32_t len;
    bool is_str;
};

struct py_scan {
    PyObject_HEAD struct py_store *store;
    PyObject *prefix; /* bytes or NULL */
    const char *prefix_data;
    size_t prefix_len;
    struct kv_cursor cursor;
    bool done, running;
    unsigned char *keys; /* {struct one, bytes} ... */
    size_t used, room, at;
};

/* A kv_show; without the GIL perhaps. */
static bool keep(void *arg, const void *key, uint32_t len, bool is_str,
                 const struct kv_meta *meta) {
    struct py_scan *self = arg;
    (void)meta;
    if (self->prefix_len > len ||
        (self->prefix_len > 0 && memcmp(key, self->prefix_data, self->prefix_len) != 0))
        return true;
    struct one one = {len, is_str};
    size_t want = self->used + sizeof one + len;
    if (want > self->room) {
        size_t room = want * 2 < 1024 ? 1024 : want * 2;
        unsigned char *p = realloc(self->keys, room);
        if (p == NULL)
            return false;
        self->keys = p;
        self->room = room;
    }
    memcpy(self->keys + self->used, &one, sizeof one);
    memcpy(self->keys + self->used + sizeof one, key, len);
    self->used = want;
    return true;
}

static PyObject *take_key(struct py_scan *self) {
    struct one one;
    memcpy(&one, self->keys + self->at, sizeof one);
    const char *data = (const char *)self->keys + self->at + sizeof one;
    self->at += sizeof one + one.len;
    if (!one.is_str)
        return PyBytes_FromStringAndSize(data, one.len);
    PyObject *key = PyUnicode_DecodeUTF8(data, one.len, NULL);
    if (key == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear(); /* a damaged flag: the bytes are true */
        key = PyBytes_FromStringAndSize(data, one.len);
    }
    return key;
}

/* Fill `keys` from the next bucket that has some. KV_MISS: the end; KV_INTR: raised. */
static kv_status refill(struct py_scan *self, struct py_op *p) {
    kv_status s;
    uint32_t empty = 0;
    do {
        s = KV_OK;
        while (s == KV_OK && self->used == 0) {
            if (++empty % KV_STRETCH == 0)
                op_leave(&p->op);
            s = store_enter(&p->op);
            if (s == KV_OK)
                s = store_scan(&p->op, &self->cursor, keep, self);
        }
    } while (op_again(p, s));
    return s;
}

static PyObject *scan_next(struct py_scan *self) {
    struct py_op p;
    if (!op_begin(&p, self->store))
        return NULL;
    if (self->running)
        return PyErr_Format(PyExc_ValueError,
                            "this scan is running in another thread: make another one");
    if (self->at < self->used)
        return take_key(self);
    if (self->done)
        return NULL;
    self->used = self->at = 0;
    self->running = true;
    kv_status s = refill(self, &p);
    self->running = false;
    if (s == KV_MISS) {
        self->done = true;
        return NULL;
    }
    if (s != KV_OK) {
        self->used = 0;
        return op_fail(&p, s);
    }
    return take_key(self);
}

static void scan_dealloc(struct py_scan *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    free(self->keys);
    Py_XDECREF(self->prefix);
    Py_XDECREF((PyObject *)self->store);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyType_Slot scan_slots[] = {
    {Py_tp_doc, "An iterator over the keys of a store."},
    {Py_tp_dealloc, scan_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, scan_next},
    {0, NULL},
};

PyType_Spec scan_spec = {
    .name = "shmkv._core.Scan",
    .basicsize = sizeof(struct py_scan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = scan_slots,
};

PyObject *scan_make(struct py_store *self, PyObject *prefix) {
    struct py_op p;
    Py_ssize_t len = 0;
    char *data = NULL;
    if (prefix != Py_None && PyBytes_AsStringAndSize(prefix, &data, &len) < 0)
        return NULL;
    if (!op_begin(&p, self))
        return NULL;
    PyTypeObject *type = self->state->scan_type;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct py_scan *scan = (struct py_scan *)alloc(type, 0);
    if (scan == NULL)
        return NULL;
    scan->store = (struct py_store *)Py_NewRef((PyObject *)self);
    scan->prefix = data == NULL ? NULL : Py_NewRef(prefix);
    scan->prefix_data = data;
    scan->prefix_len = (size_t)len;
    return (PyObject *)scan;
}

PyObject *scan_iter(struct py_store *self) { return scan_make(self, Py_None); }
