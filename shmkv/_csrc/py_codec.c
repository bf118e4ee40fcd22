/* py_codec.c: values that are neither bytes, text, numbers nor None: by way of shmkv/packed.py.
 *
 * Owns the two looks that keep a codec from running out of stack: at the objects before they are
 * encoded, at the bytes before they are decoded. What a value looks like is Python's affair; it is
 * imported when the first such value is met. */
#include "packed.h"
#include "py_glue.h"

/* ---- the Python side ---------------------------------------------------------------------- */

static bool codec_load(struct core_state *st) {
    if (st->packed != NULL)
        return true;
    PyObject *codec = PyImport_ImportModule("shmkv.packed");
    PyObject *unpackb = codec == NULL ? NULL : PyObject_GetAttrString(codec, "unpackb");
    if (unpackb != NULL && st->packed == NULL) {
        st->unpackb = unpackb;
        st->packed = codec;
        return true;
    }
    Py_XDECREF(unpackb); /* failed, or another thread was faster */
    Py_XDECREF(codec);
    return st->packed != NULL;
}

/* ---- in ----------------------------------------------------------------------------------- */

enum depth { DEPTH_OK, DEPTH_DEEP, DEPTH_RAISED };

static enum depth depth_of(PyObject *o, unsigned left, bool *plain);

static enum depth depth_dict(PyObject *o, unsigned left, bool *plain) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    enum depth found = DEPTH_OK;
    while (found == DEPTH_OK && PyDict_Next(o, &at, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        found = depth_of(key, left, plain);
        if (found == DEPTH_OK)
            found = depth_of(value, left, plain);
        Py_DECREF(value);
        Py_DECREF(key);
    }
    return found;
}

static enum depth depth_set(PyObject *o, unsigned left, bool *plain) {
    PyObject *it = PyObject_GetIter(o), *inner;
    enum depth found = it == NULL ? DEPTH_RAISED : DEPTH_OK;
    while (found == DEPTH_OK && (inner = PyIter_Next(it)) != NULL) {
        found = depth_of(inner, left, plain);
        Py_DECREF(inner);
    }
    Py_XDECREF(it);
    return PyErr_Occurred() ? DEPTH_RAISED : found;
}

static enum depth depth_sequence(PyObject *o, bool list, unsigned left, bool *plain) {
    enum depth found = DEPTH_OK;
    for (Py_ssize_t i = 0; found == DEPTH_OK && i < (list ? PyList_Size(o) : PyTuple_Size(o));
         i++) {
        PyObject *inner = Py_NewRef(list ? PyList_GetItem(o, i) : PyTuple_GetItem(o, i));
        found = depth_of(inner, left, plain);
        Py_DECREF(inner);
    }
    return found;
}

static bool scalar(PyObject *o) {
    PyTypeObject *type = Py_TYPE(o);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type ||
           type == &PyBool_Type || o == Py_None || type == &PyBytes_Type;
}

/* Containers within containers. What contains itself is too deep. *plain falls at what MessagePack
 * lacks, and at what its library would take without asking (its own Ext, Fragment). Runs no code of
 * the objects, but walking a set allocates, and a collection may run then and change anything:
 * references are held.
 */
static enum depth depth_of(PyObject *o, unsigned left, bool *plain) {
    PyTypeObject *type = Py_TYPE(o);
    bool list = type == &PyList_Type, tuple = type == &PyTuple_Type, dict = type == &PyDict_Type;
    if (!list && !dict && *plain)
        *plain = scalar(o);
    if (!list && !tuple && !dict && type != &PySet_Type && type != &PyFrozenSet_Type)
        return DEPTH_OK;
    if (left == 0)
        return DEPTH_DEEP;
    if (dict)
        return depth_dict(o, left - 1, plain);
    return list || tuple ? depth_sequence(o, list, left - 1, plain) : depth_set(o, left - 1, plain);
}

static bool deep(struct py_store *self) {
    PyErr_Format(self->state->error[PY_CODEC],
                 "store '%U': a value nested more than %u deep, or one that contains itself, is "
                 "not stored: flatten it",
                 self->name, KV_DEPTH_MAX);
    return false;
}

/* (type, head, data) of encode(): two buffers that make the value. */
static bool take_parts(PyObject *parts, struct py_value *out) {
    if (!PyTuple_Check(parts) || PyTuple_Size(parts) != 3)
        return PyErr_Format(PyExc_SystemError, "encode() must give (type, head, data)"), false;
    PyObject *head = PyTuple_GetItem(parts, 1), *data = PyTuple_GetItem(parts, 2);
    char *bytes;
    Py_ssize_t len;
    out->v.type = (uint8_t)PyLong_AsLong(PyTuple_GetItem(parts, 0));
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(head, &bytes, &len) < 0 ||
        PyObject_GetBuffer(data, &out->buffer, PyBUF_SIMPLE) < 0)
        return false;
    out->buffered = true;
    out->v.data = bytes;
    out->v.len = (uint64_t)len;
    out->v.more = out->buffer.buf;
    out->v.more_len = (uint64_t)out->buffer.len;
    return true;
}

bool codec_encode(struct py_store *self, PyObject *o, struct py_value *out) {
    struct core_state *st = self->state;
    if (!codec_load(st))
        return false;
    bool plain = true;
    enum depth depth = self->codec == Py_None ? depth_of(o, KV_DEPTH_MAX, &plain) : DEPTH_OK;
    if (depth != DEPTH_OK)
        return depth == DEPTH_DEEP ? deep(self) : false;
    PyObject *call = PyObject_GetAttrString(st->packed, "encode");
    if (call == NULL)
        return false;
    out->owned = PyObject_CallFunctionObjArgs(call, o, self->codec, self->name,
                                              plain ? Py_True : Py_False, NULL);
    Py_DECREF(call);
    if (out->owned != NULL && take_parts(out->owned, out))
        return true;
    value_free(out);
    return false;
}

/* ---- out ---------------------------------------------------------------------------------- */

/* Whatever a decoder raises over bytes of the store is damage, unless it says otherwise. */
static PyObject *judge(struct py_store *self, PyObject *value) {
    if (value != NULL || PyErr_ExceptionMatches(self->state->error[PY_CODEC]) ||
        PyErr_ExceptionMatches(PyExc_MemoryError) || PyErr_ExceptionMatches(PyExc_RecursionError) ||
        !PyErr_ExceptionMatches(PyExc_Exception))
        return value;
    PyErr_Clear();
    return raise_status(self, KV_CORRUPT, NULL);
}

static PyObject *call_codec(struct py_store *self, const char *name, PyObject *bytes,
                            PyObject *more) {
    PyObject *call = PyObject_GetAttrString(self->state->packed, name);
    if (call == NULL)
        return NULL;
    PyObject *value = PyObject_CallFunctionObjArgs(call, bytes, self->name, more, NULL);
    Py_DECREF(call);
    return judge(self, value);
}

PyObject *codec_decode(struct py_store *self, uint8_t type, PyObject *bytes) {
    struct core_state *st = self->state;
    if (!codec_load(st))
        return NULL;
    if (type == KV_TYPE_ARRAY)
        return call_codec(self, "array", bytes, NULL);
    if (type == KV_TYPE_CODEC)
        return call_codec(self, "decode", bytes, self->codec);
    switch (packed_scan(PyBytes_AsString(bytes), (uint64_t)PyBytes_Size(bytes))) {
    case KV_PACKED_PLAIN:
        return judge(self, PyObject_CallFunctionObjArgs(st->unpackb, bytes, NULL));
    case KV_PACKED_EXT:
        return call_codec(self, "unpack", bytes, NULL);
    default:
        return raise_status(self, KV_CORRUPT, NULL);
    }
}

PyObject *codec_encoded(struct py_store *self, PyObject *bytes) {
    return codec_load(self->state) ? call_codec(self, "encoded", bytes, NULL) : NULL;
}
