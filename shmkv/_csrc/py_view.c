/* py_view.c: memoryviews, and arrays, of values where they lie.
 *
 * `View` is the context manager. `Pinned` owns the pin and exports the bytes; only memoryviews
 * refer to it, so that it goes, and the pin with it, when the view and every slice of it are
 * released. What escapes its `with` block therefore stays readable and keeps its page from being
 * reused. A pin belongs to the process that took it: in a fork child it is neither given back nor
 * protected. */
#include "py_glue.h"

struct py_pinned {
    PyObject_HEAD struct py_store *store; /* strong; NULL: nothing is exported yet */
    struct kv_pin pin;
    bool pinned;
    uint32_t life;
    const void *data;
    Py_ssize_t len;
};

struct py_view {
    PyObject_HEAD struct py_store *store;
    PyObject *key;
    PyObject *memory; /* the memoryview while entered */
};

/* ---- the exporter ------------------------------------------------------------------------- */

static struct py_pinned *pinned_new(struct py_store *store) {
    PyTypeObject *type = store->state->pinned_type;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return (struct py_pinned *)alloc(type, 0);
}

static void pinned_begin(struct py_pinned *self, struct py_store *store, const void *data,
                         uint64_t len) {
    Py_INCREF((PyObject *)store);
    self->store = store;
    self->life = store_view_begin(store);
    self->data = data;
    self->len = (Py_ssize_t)len;
}

static void pinned_dealloc(struct py_pinned *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    struct py_store *store = self->store;
    if (store != NULL) {
        store_look(store);
        if (self->pinned && self->life == store->life)
            store_unpin(store->h, &self->pin);
        store_view_end(store, self->life);
        Py_DECREF((PyObject *)store);
    }
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static int pinned_buffer(struct py_pinned *self, Py_buffer *view, int flags) {
    return PyBuffer_FillInfo(view, (PyObject *)self, (void *)(uintptr_t)self->data, self->len, 1,
                             flags);
}

static PyType_Slot pinned_slots[] = {
    {Py_tp_dealloc, pinned_dealloc},
    {Py_bf_getbuffer, pinned_buffer},
    {0, NULL},
};

PyType_Spec pinned_spec = {
    .name = "shmkv._core.Pinned",
    .basicsize = sizeof(struct py_pinned),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pinned_slots,
};

/* ---- the context manager ------------------------------------------------------------------ */

static PyObject *no_buffer(struct py_store *self, uint8_t type) {
    return PyErr_Format(
        PyExc_TypeError,
        "store '%U': a view is of bytes, str or an array; this key holds %s: use get()", self->name,
        type_name(type));
}

static bool viewable(const struct kv_meta *meta) {
    return meta->type == KV_TYPE_BYTES || meta->type == KV_TYPE_STR || meta->type == KV_TYPE_ARRAY;
}

static PyObject *memory_of(PyObject *exporter) {
    PyObject *memory = exporter == NULL ? NULL : PyMemoryView_FromObject(exporter);
    Py_XDECREF(exporter);
    return memory;
}

/* A private copy; of a str its UTF-8. */
static void *copy_alloc(void *arg, const struct kv_meta *meta) {
    struct kv_meta as_bytes = *meta;
    as_bytes.type = KV_TYPE_BYTES;
    return fetch_alloc(arg, &as_bytes);
}

static PyObject *enter_copy(struct py_store *self, PyObject *o_key, const struct py_key *k,
                            uint8_t *type) {
    struct py_op p;
    struct py_fetch f;
    struct kv_meta meta;
    if (!op_begin(&p, self))
        return NULL;
    struct kv_key key = key_hashed(&p, k);
    kv_status s;
    fetch_init(&f, &p);
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_get(&p.op, &key, &meta, copy_alloc, &f);
    } while (op_again(&p, s));
    PyObject *result = NULL;
    if (s == KV_OK && viewable(&meta)) {
        *type = meta.type;
        meta.type = KV_TYPE_BYTES;
        result = memory_of(fetch_take(&f, &meta));
    } else if (s == KV_OK)
        (void)no_buffer(self, meta.type);
    else
        (void)(s == KV_MISS ? raise_missing(o_key) : op_fail(&p, s));
    fetch_free(&f);
    return result;
}

/* With the pin held: what the view shows. Python code may run only once it is dropped or exported.
 */
static PyObject *show(struct py_store *self, struct py_pinned *out, struct kv_pin *pin,
                      const struct kv_meta *meta, const void *data) {
    if (viewable(meta) && meta->value_len >= KV_VIEW_BYTES) {
        pinned_begin(out, self, data, meta->value_len);
        out->pin = *pin;
        out->pinned = true;
        return PyMemoryView_FromObject((PyObject *)out);
    }
    unsigned char copy[KV_VIEW_BYTES];
    if (viewable(meta))
        kv_copy_out(copy, data, meta->value_len);
    store_unpin(self->h, pin);
    if (!viewable(meta))
        return no_buffer(self, meta->type);
    return memory_of(PyBytes_FromStringAndSize((const char *)copy, (Py_ssize_t)meta->value_len));
}

static PyObject *enter_pinned(struct py_store *self, PyObject *o_key, const struct py_key *k,
                              uint8_t *type) {
    struct py_op p;
    struct kv_pin pin;
    struct kv_meta meta;
    const void *data;
    struct py_pinned *out = pinned_new(self);
    if (out == NULL || !op_begin(&p, self)) {
        Py_XDECREF((PyObject *)out);
        return NULL;
    }
    struct kv_key key = key_hashed(&p, k);
    kv_status s;
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_pin(&p.op, &key, &meta, &pin, &data);
    } while (op_again(&p, s));
    if (s == KV_OK || s == KV_MISS)
        row_count(p.op.h, s == KV_OK ? KV_STAT_HITS : KV_STAT_MISSES, 1);
    PyObject *memory = NULL;
    if (s == KV_OK) {
        *type = meta.type;
        memory = show(self, out, &pin, &meta, data);
    } else if (s == KV_NOROWS) /* every pin is taken and there is no row for more */
        memory = enter_copy(self, o_key, k, type);
    else
        (void)(s == KV_MISS ? raise_missing(o_key) : op_fail(&p, s));
    Py_DECREF((PyObject *)out);
    return memory;
}

/* One that others have built upon (an array) cannot be released: it lives on, and with it the pin,
 * until they go. false: raised. */
static bool let_go(PyObject *memory) {
    PyObject *done = PyObject_CallMethod(memory, "release", NULL);
    Py_DECREF(memory);
    if (done == NULL && !PyErr_ExceptionMatches(PyExc_BufferError))
        return false;
    if (done == NULL)
        PyErr_Clear();
    Py_XDECREF(done);
    return true;
}

/* The same while an exception is set, whose traceback may hold the memory. */
static PyObject *let_go_raised(PyObject *memory) {
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    if (!let_go(memory))
        PyErr_Clear();
    PyErr_Restore(type, error, trace);
    return NULL;
}

/* The memoryview, or the array that lies in it. */
static PyObject *view_enter(struct py_view *self, PyObject *unused) {
    (void)unused;
    struct py_key k;
    uint8_t type = KV_TYPE_BYTES;
    if (self->memory != NULL)
        return PyErr_Format(PyExc_RuntimeError, "this view is entered already: make another one");
    if (!key_of(self->key, &k))
        return NULL;
    PyObject *memory = self->store->readonly ? enter_copy(self->store, self->key, &k, &type)
                                             : enter_pinned(self->store, self->key, &k, &type);
    PyObject *shown = memory == NULL          ? NULL
                      : type == KV_TYPE_ARRAY ? codec_decode(self->store, type, memory)
                                              : Py_NewRef(memory);
    if (shown != NULL && self->memory == NULL) {
        self->memory = memory;
        return shown;
    }
    if (shown == NULL)
        return memory == NULL ? NULL : let_go_raised(memory);
    Py_DECREF(memory);
    Py_DECREF(shown); /* entered by another thread meanwhile */
    return PyErr_Format(PyExc_RuntimeError, "this view is entered already: make another one");
}

static PyObject *view_exit(struct py_view *self, PyObject *const *args, Py_ssize_t nargs) {
    (void)args, (void)nargs;
    PyObject *memory = self->memory;
    self->memory = NULL;
    if (memory != NULL && !let_go(memory))
        return NULL;
    Py_RETURN_NONE;
}

static void view_dealloc(struct py_view *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_XDECREF(self->memory);
    Py_XDECREF(self->key);
    Py_XDECREF((PyObject *)self->store);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef view_methods[] = {
    {"__enter__", PY_METHOD(view_enter), METH_NOARGS,
     "__enter__($self, /)\n--\n\nThe memoryview or array."},
    {"__exit__", PY_METHOD(view_exit), METH_FASTCALL, "Release the memoryview."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot view_slots[] = {
    {Py_tp_doc, "The context manager that Store.view() returns."},
    {Py_tp_dealloc, view_dealloc},
    {Py_tp_methods, view_methods},
    {0, NULL},
};

PyType_Spec view_spec = {
    .name = "shmkv._core.View",
    .basicsize = sizeof(struct py_view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = view_slots,
};

PyObject *view_make(struct py_store *self, PyObject *key) {
    struct py_key k;
    struct py_op p;
    if (!key_of(key, &k) || !op_begin(&p, self))
        return NULL;
    PyTypeObject *type = self->state->view_type;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct py_view *view = (struct py_view *)alloc(type, 0);
    if (view == NULL)
        return NULL;
    view->store = (struct py_store *)Py_NewRef((PyObject *)self);
    view->key = Py_NewRef(key);
    return (PyObject *)view;
}

PyObject *view_raw(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    struct py_pinned *out = pinned_new(self);
    if (out == NULL || !op_begin(&p, self)) {
        Py_XDECREF((PyObject *)out);
        return NULL;
    }
    pinned_begin(out, self, p.op.h->base, segment_watermark(p.op.h));
    return memory_of((PyObject *)out);
}
