/* py_watch.c: the daemon's eyes and the board it writes on: _sampling, _samples, _board_room,
 * _board_read, _board_write; and _noting, for the benchmark of what notes cost. */
#include "py_glue.h"
#include "store_watch.h"

PyObject *watch_sampling(struct py_store *self, PyObject *o) {
    struct py_op p;
    unsigned long long below = PyLong_AsUnsignedLongLong(o);
    if (below > UINT32_MAX) {
        if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_Format(PyExc_ValueError, "below=%R is not between 0 and 4294967295", o);
        return NULL;
    }
    if (!op_begin_write(&p, self))
        return NULL;
    store_sampling(p.op.h, (uint32_t)below);
    Py_RETURN_NONE;
}

PyObject *watch_samples(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    uint64_t lost;
    if (!op_begin_write(&p, self))
        return NULL;
    struct kv_handle *h = p.op.h;
    uint64_t *words = malloc((size_t)h->g.samples * sizeof *words);
    if (words == NULL)
        return PyErr_NoMemory();
    uint32_t n = store_samples(h, &h->sampled, words, h->g.samples, &lost);
    PyObject *made = Py_BuildValue("(y#K)", (const char *)words, (Py_ssize_t)(n * sizeof *words),
                                   (unsigned long long)lost);
    free(words);
    return made;
}

PyObject *watch_board_room(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    return op_begin(&p, self) ? PyLong_FromUnsignedLong(store_board_room(p.op.h)) : NULL;
}

PyObject *watch_board_read(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    if (!op_begin(&p, self))
        return NULL;
    char *to = malloc(store_board_room(p.op.h));
    if (to == NULL)
        return PyErr_NoMemory();
    uint32_t n = store_board_read(p.op.h, to);
    PyObject *made = n == 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(to, (Py_ssize_t)n);
    free(to);
    return made;
}

PyObject *watch_board_write(struct py_store *self, PyObject *args) {
    const char *data;
    Py_ssize_t len;
    struct py_op p;
    if (!PyArg_ParseTuple(args, "y#:_board_write", &data, &len) || !op_begin_write(&p, self))
        return NULL;
    uint32_t room = store_board_room(p.op.h);
    if (len < 1 || len > (Py_ssize_t)room)
        return PyErr_Format(PyExc_ValueError, "%zd bytes: the board has room for 1 to %u", len,
                            (unsigned)room);
    store_board_write(p.op.h, data, (uint32_t)len);
    Py_RETURN_NONE;
}

PyObject *watch_noting(struct py_store *self, PyObject *o) {
    struct py_op p;
    int on = PyObject_IsTrue(o);
    if (on < 0 || !op_begin_write(&p, self))
        return NULL;
    kv_status s = store_enter(&p.op); /* a row, if it has none yet */
    if (s != KV_OK)
        return op_fail(&p, s);
    store_leave(&p.op);
    struct kv_handle *h = p.op.h;
    h->own->notes = on ? (uint64_t)((unsigned char *)kv_row_own(h)->note - h->base) : 0;
    Py_RETURN_NONE;
}
