/* py_value.c: Python objects to bytes and back: keys, plain values, times.
 *
 * Exact types only: a subclass would come back as something else. Owns the mapping between Python
 * types and enum kv_type. Does not own: when a deadline has passed (clock), where bytes lie
 * (store). */
#include "py_glue.h"

#include <math.h>

#include "clock.h"

/* ---- keys --------------------------------------------------------------------------------- */

void key_fail(PyObject *o) {
    PyObject *name = PyType_GetName(Py_TYPE(o));
    if (name != NULL)
        PyErr_Format(PyExc_TypeError, "a key must be str or bytes, not %U", name);
    Py_XDECREF(name);
}

void key_length(Py_ssize_t len) {
    PyErr_Format(PyExc_ValueError, "a key must have 1 to %u bytes (UTF-8), this key has %zd",
                 (unsigned)KV_KEY_MAX, len);
}

/* ---- values in ---------------------------------------------------------------------------- */

static bool big_int(struct core_state *st, PyObject *o, struct py_value *out) {
    PyObject *bits = PyObject_CallMethod(o, "bit_length", NULL);
    size_t n = bits == NULL ? 0 : PyLong_AsSize_t(bits);
    Py_XDECREF(bits);
    if (PyErr_Occurred())
        return false;
    PyObject *call = PyObject_GetAttrString(o, "to_bytes");
    PyObject *args =
        call == NULL ? NULL : Py_BuildValue("(nO)", (Py_ssize_t)(n / 8 + 1), st->little);
    if (args != NULL)
        out->owned = PyObject_Call(call, args, st->signed_kwargs);
    Py_XDECREF(args);
    Py_XDECREF(call);
    if (out->owned == NULL)
        return false;
    out->v.type = KV_TYPE_BIGINT;
    out->v.data = PyBytes_AsString(out->owned);
    out->v.len = (uint64_t)PyBytes_Size(out->owned);
    return true;
}

static bool from_int(struct core_state *st, PyObject *o, struct py_value *out) {
    int beyond = 0;
    long long n = PyLong_AsLongLongAndOverflow(o, &beyond);
    if (beyond)
        return big_int(st, o, out);
    out->v.type = KV_TYPE_INT;
    out->v.counter = (uint64_t)n;
    return true;
}

/* bytearray and memoryview: their bytes, joined if they lie apart. */
static bool from_buffer(PyObject *o, struct py_value *out) {
    out->v.type = KV_TYPE_BYTES;
    if (PyObject_GetBuffer(o, &out->buffer, PyBUF_SIMPLE) == 0) {
        out->buffered = true;
        out->v.data = out->buffer.buf;
        out->v.len = (uint64_t)out->buffer.len;
        return true;
    }
    if (!PyErr_ExceptionMatches(PyExc_BufferError))
        return false;
    PyErr_Clear();
    out->owned = PyObject_CallMethod(o, "tobytes", NULL);
    if (out->owned == NULL)
        return false;
    out->v.data = PyBytes_AsString(out->owned);
    out->v.len = (uint64_t)PyBytes_Size(out->owned);
    return out->v.data != NULL;
}

bool value_of(struct py_store *self, PyObject *o, struct py_value *out) {
    out->v = (struct kv_value){0};
    out->owned = NULL;
    out->buffered = false;
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyBytes_Type) {
        out->v.type = KV_TYPE_BYTES;
        out->v.data = PyBytes_AsString(o);
        out->v.len = (uint64_t)PyBytes_Size(o);
        return true;
    }
    if (type == &PyUnicode_Type) {
        Py_ssize_t n = 0;
        out->v.type = KV_TYPE_STR;
        out->v.data = PyUnicode_AsUTF8AndSize(o, &n);
        out->v.len = (uint64_t)n;
        return out->v.data != NULL;
    }
    if (type == &PyLong_Type)
        return from_int(self->state, o, out);
    if (type == &PyFloat_Type) {
        double d = PyFloat_AsDouble(o);
        out->v.type = KV_TYPE_FLOAT;
        memcpy(&out->v.counter, &d, sizeof d);
        return true;
    }
    if (type == &PyBool_Type) {
        out->byte = o == Py_True;
        out->v.type = KV_TYPE_BOOL;
        out->v.data = &out->byte;
        out->v.len = 1;
        return true;
    }
    if (o == Py_None) {
        out->v.type = KV_TYPE_NONE;
        return true;
    }
    if (type == &PyByteArray_Type || type == &PyMemoryView_Type)
        return from_buffer(o, out) || (value_free(out), false);
    return codec_encode(self, o, out);
}

void value_free(struct py_value *value) {
    if (value->buffered)
        PyBuffer_Release(&value->buffer);
    value->buffered = false;
    Py_CLEAR(value->owned);
}

/* ---- values out --------------------------------------------------------------------------- */

/* A bytes object or, for an array, a bytearray. */
static void *alloc_object(struct py_fetch *f, uint64_t len, bool array) {
    PyThreadState *thread = f->op->thread;
    if (thread != NULL)
        PyEval_RestoreThread(thread);
    Py_CLEAR(f->bytes);
    f->bytes = array ? PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)len)
                     : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
    void *data = f->bytes == NULL ? NULL
                 : array          ? PyByteArray_AsString(f->bytes)
                                  : PyBytes_AsString(f->bytes);
    if (thread != NULL)
        f->op->thread = PyEval_SaveThread();
    return data;
}

void *fetch_alloc(void *arg, const struct kv_meta *meta) {
    struct py_fetch *f = arg;
    if (meta->type == KV_TYPE_BYTES || meta->type >= KV_TYPE_LIST)
        return alloc_object(f, meta->value_len, meta->type == KV_TYPE_ARRAY);
    if (meta->value_len <= sizeof f->small) {
        f->data = f->small;
        return f->small;
    }
    unsigned char *p = realloc(f->raw, (size_t)meta->value_len);
    if (p != NULL)
        f->data = f->raw = p;
    return p;
}

static PyObject *to_big_int(struct core_state *st, const unsigned char *data, Py_ssize_t len) {
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)data, len);
    PyObject *call =
        bytes == NULL ? NULL : PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
    PyObject *args = call == NULL ? NULL : Py_BuildValue("(OO)", bytes, st->little);
    PyObject *result = args == NULL ? NULL : PyObject_Call(call, args, st->signed_kwargs);
    Py_XDECREF(args);
    Py_XDECREF(call);
    Py_XDECREF(bytes);
    return result;
}

static PyObject *to_str(struct py_store *self, const unsigned char *data, Py_ssize_t len) {
    PyObject *text = PyUnicode_DecodeUTF8((const char *)data, len, NULL);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return raise_status(self, KV_CORRUPT, NULL);
    }
    return text;
}

/* A code of a later version, or of none. */
static PyObject *to_unknown(struct py_store *self, uint8_t type) {
    return PyErr_Format(
        self->state->error[PY_CODEC],
        "store '%U' holds a value with type code %u, which this version cannot read: "
        "upgrade shmkv",
        self->name, (unsigned)type);
}

PyObject *fetch_take(struct py_fetch *f, const struct kv_meta *meta) {
    struct py_store *self = f->op->self;
    const unsigned char *data = meta->value_len == 0 ? (const unsigned char *)"" : f->data;
    Py_ssize_t len = (Py_ssize_t)meta->value_len;
    double d;
    PyObject *taken;
    switch (meta->type) {
    case KV_TYPE_BYTES:
        if (len == 0)
            return PyBytes_FromStringAndSize("", 0);
        taken = f->bytes;
        f->bytes = NULL;
        return taken;
    case KV_TYPE_STR:
        return to_str(self, data, len);
    case KV_TYPE_INT:
        return PyLong_FromLongLong((long long)meta->counter);
    case KV_TYPE_BIGINT:
        return to_big_int(self->state, data, len);
    case KV_TYPE_FLOAT:
        memcpy(&d, &meta->counter, sizeof d);
        return PyFloat_FromDouble(d);
    case KV_TYPE_BOOL:
        return PyBool_FromLong(len > 0 && data[0] != 0);
    case KV_TYPE_NONE:
        return Py_NewRef(Py_None);
    default:
        if (meta->type > KV_TYPE_CODEC)
            return to_unknown(self, meta->type);
        return len > 0 ? codec_decode(self, meta->type, f->bytes)
                       : raise_status(self, KV_CORRUPT, NULL);
    }
}

const char *type_name(uint8_t type) {
    static const char *const names[] = {
        "?",        "bytes", "str",       "int",     "int",  "float",     "bool",
        "NoneType", "list",  "dict",      "tuple",   "set",  "frozenset", "datetime",
        "date",     "time",  "timedelta", "Decimal", "UUID", "ndarray",   "encoded"};
    return type < sizeof names / sizeof names[0] ? names[type] : "?";
}

/* ---- time --------------------------------------------------------------------------------- */

static bool time_classes(struct core_state *st) {
    if (st->datetime != NULL)
        return true;
    PyObject *module = PyImport_ImportModule("datetime");
    if (module == NULL)
        return false;
    PyObject *delta = PyObject_GetAttrString(module, "timedelta");
    PyObject *moment = delta == NULL ? NULL : PyObject_GetAttrString(module, "datetime");
    Py_DECREF(module);
    if (moment == NULL || st->datetime != NULL) { /* another thread was faster */
        Py_XDECREF(delta);
        Py_XDECREF(moment);
        return st->datetime != NULL;
    }
    st->timedelta = delta;
    st->datetime = moment;
    return true;
}

static bool wrong_type(const char *what, const char *wanted, PyObject *o) {
    PyObject *name = PyType_GetName(Py_TYPE(o));
    if (name != NULL)
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %U", what, wanted, name);
    Py_XDECREF(name);
    return false;
}

/* The result of a method without arguments as a double. */
static bool call_double(PyObject *o, const char *method, double *out) {
    PyObject *x = PyObject_CallMethod(o, method, NULL);
    *out = x == NULL ? -1 : PyFloat_AsDouble(x);
    Py_XDECREF(x);
    return !PyErr_Occurred();
}

/* Seconds of a float or an int, infinite if it is too large for a double. 0: neither; -1: raised.
 */
static int plain_seconds(PyObject *o, double *out) {
    if (PyFloat_Check(o)) {
        *out = PyFloat_AsDouble(o);
        return 1;
    }
    if (!PyLong_Check(o) || PyBool_Check(o))
        return 0;
    *out = PyLong_AsDouble(o);
    if (!PyErr_Occurred())
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    PyErr_Clear();
    *out = INFINITY;
    return 1;
}

bool ttl_deadline(struct core_state *st, PyObject *ttl, uint64_t *deadline_ms) {
    *deadline_ms = 0;
    if (ttl == NULL || ttl == Py_None)
        return true;
    double seconds = 0;
    int plain = plain_seconds(ttl, &seconds);
    if (plain == 0) {
        if (!time_classes(st))
            return false;
        int is = PyObject_IsInstance(ttl, st->timedelta);
        if (is == 0)
            return wrong_type("ttl", "seconds (int or float), a timedelta or None", ttl);
        plain = is > 0 && call_double(ttl, "total_seconds", &seconds) ? 1 : -1;
    }
    if (plain < 0)
        return false;
    double ms = ceil(seconds * 1000);
    double now = (double)kv_clock_ms();
    if (!(seconds > 0) || !(now + ms < (double)KV_DEADLINE_MAX)) {
        PyErr_SetString(
            PyExc_ValueError,
            "ttl must be more than 0 seconds and end within 8,900 years; None means never");
        return false;
    }
    *deadline_ms = kv_clock_ms() + (ms < 1 ? 1 : (uint64_t)ms);
    return true;
}

/* Seconds since the epoch of an aware datetime. */
static bool from_datetime(PyObject *when, double *out) {
    PyObject *offset = PyObject_CallMethod(when, "utcoffset", NULL);
    if (offset == NULL)
        return false;
    bool naive = offset == Py_None;
    Py_DECREF(offset);
    if (!naive)
        return call_double(when, "timestamp", out);
    PyErr_SetString(PyExc_ValueError,
                    "when must be an aware datetime (with tzinfo): a naive one names no moment");
    return false;
}

bool when_deadline(struct core_state *st, PyObject *when, uint64_t *deadline_ms) {
    double seconds = 0;
    int plain = plain_seconds(when, &seconds);
    if (plain == 0) {
        if (!time_classes(st))
            return false;
        int is = PyObject_IsInstance(when, st->datetime);
        if (is == 0)
            return wrong_type("when", "unix time (int or float) or an aware datetime", when);
        plain = is > 0 && from_datetime(when, &seconds) ? 1 : -1;
    }
    if (plain < 0)
        return false;
    uint64_t now = kv_clock_ms();
    double left = ceil(seconds * 1000 - (double)kv_clock_wall_ms());
    if (!isfinite(seconds) || (double)now + left >= (double)KV_DEADLINE_MAX) {
        PyErr_SetString(PyExc_ValueError, "when must be a finite time before the year 10,000");
        return false;
    }
    *deadline_ms = left <= 0 ? 1 : now + (uint64_t)left;
    return true;
}
