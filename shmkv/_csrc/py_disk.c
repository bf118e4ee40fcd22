/* py_disk.c: records out and in, and the journal's controls, for shmkv/persist.
 *
 * Blocks are made and read in Python (persist/format.py), a megabyte at a time; what is in them
 * passes here, without the GIL. */
#include <errno.h>
#include <fcntl.h>

#include "py_glue.h"

struct py_dump {
    PyObject_HEAD struct py_store *store;
    struct kv_dump dump;
    uint32_t life; /* of the process that began it: its pins are not a fork child's */
    bool running;
};

/* ---- out ---------------------------------------------------------------------------------- */

static void dump_end(struct py_dump *self) {
    if (self->store->h != NULL)
        store_dump_end(self->store->h, &self->dump);
    else
        free(self->dump.copy); /* close() has taken the pins along */
    self->dump = (struct kv_dump){.locks = self->dump.locks, .longest_ns = self->dump.longest_ns};
}

static PyObject *dump_close(struct py_dump *self, PyObject *unused) {
    (void)unused;
    if (self->running)
        return PyErr_Format(PyExc_ValueError, "this save is running in another thread");
    dump_end(self);
    self->dump.cursor.stripe = UINT32_MAX; /* at the end */
    Py_RETURN_NONE;
}

/* fill(buffer) -> (kind, used, count, last) */
static PyObject *dump_fill(struct py_dump *self, PyObject *arg) {
    struct py_op p;
    Py_buffer b;
    struct kv_dumped out;
    kv_status s;
    if (PyObject_GetBuffer(arg, &b, PyBUF_WRITABLE) < 0)
        return NULL;
    bool fits = (uint64_t)b.len >= KV_IMAGE_BLOCK + KV_IMAGE_LARGE;
    if (!fits || self->running)
        (void)PyErr_Format(PyExc_ValueError, fits ? "this save is running in another thread"
                                                  : "the buffer is shorter than 1.25 MiB");
    if (!fits || self->running || !op_begin(&p, self->store)) {
        PyBuffer_Release(&b);
        return NULL;
    }
    if (self->life != self->store->life) {
        PyBuffer_Release(&b);
        return PyErr_Format(PyExc_ValueError, "a save does not go on in a fork child: begin anew");
    }
    self->running = true;
    do {
        op_leave(&p.op);
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = store_dump(&p.op, &self->dump, b.buf, (uint64_t)b.len, &out);
    } while (op_again(&p, s));
    self->running = false;
    PyBuffer_Release(&b);
    if (s != KV_OK)
        return op_fail(&p, s);
    if (out.kind == 0)
        dump_end(self);
    if (out.kind == 0)
        self->dump.cursor.stripe = UINT32_MAX;
    bool last = out.kind == KV_BLOCK_PIECE && out.count == 1;
    return Py_BuildValue("(IKIN)", out.kind, (unsigned long long)out.used, out.count,
                         PyBool_FromLong(last));
}

static PyObject *dump_locks(struct py_dump *self, PyObject *unused) {
    (void)unused;
    return Py_BuildValue("(IK)", self->dump.locks, (unsigned long long)self->dump.longest_ns);
}

static void dump_dealloc(struct py_dump *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    dump_end(self);
    Py_DECREF((PyObject *)self->store);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef dump_methods[] = {
    {"fill", PY_METHOD(dump_fill), METH_O,
     "fill($self, buffer, /)\n--\n\n"
     "(kind, used, count, last): the next block's payload lies in buffer[:used]; kind 0: the end."},
    {"close", PY_METHOD(dump_close), METH_NOARGS, "close($self, /)\n--\n\nLet go."},
    {"locks", PY_METHOD(dump_locks), METH_NOARGS,
     "locks($self, /)\n--\n\n(times, ns): how often a stripe was locked, for how long at most."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot dump_slots[] = {
    {Py_tp_doc, "The records of a store, block by block."},
    {Py_tp_dealloc, dump_dealloc},
    {Py_tp_methods, dump_methods},
    {0, NULL},
};

PyType_Spec dump_spec = {
    .name = "shmkv._core.Dump",
    .basicsize = sizeof(struct py_dump),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = dump_slots,
};

PyObject *disk_dump(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    if (!op_begin(&p, self))
        return NULL;
    PyTypeObject *type = self->state->dump_type;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct py_dump *dump = (struct py_dump *)alloc(type, 0);
    if (dump != NULL) {
        dump->store = (struct py_store *)Py_NewRef((PyObject *)self);
        dump->life = self->life;
    }
    return (PyObject *)dump;
}

/* ---- in ----------------------------------------------------------------------------------- */

typedef kv_status loader(struct kv_op *, const unsigned char *, uint64_t, struct kv_loading *);

static PyObject *load(struct py_store *self, PyObject *payload, loader *from) {
    struct py_op p;
    Py_buffer b;
    struct kv_loading loading = {0};
    kv_status s;
    if (PyObject_GetBuffer(payload, &b, PyBUF_SIMPLE) < 0)
        return NULL;
    if (!op_begin_write(&p, self)) {
        PyBuffer_Release(&b);
        return NULL;
    }
    do {
        op_leave(&p.op);
        p.op.deadline_ns = 0; /* the time limit is of one item */
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = from(&p.op, b.buf, (uint64_t)b.len, &loading);
    } while (op_again(&p, s));
    PyBuffer_Release(&b);
    if (s == KV_INVALID)
        return PyErr_Format(PyExc_ValueError, "what stands at byte %llu is no record of an item",
                            (unsigned long long)loading.at);
    if (s != KV_OK)
        return op_fail(&p, s);
    return Py_BuildValue("(KK)", (unsigned long long)loading.loaded,
                         (unsigned long long)loading.expired);
}

PyObject *disk_load(struct py_store *self, PyObject *payload) {
    return load(self, payload, store_load);
}

PyObject *disk_replay(struct py_store *self, PyObject *payload) {
    return load(self, payload, store_replay);
}

/* A hint, whose refusal `fsync` would tell: the file's pages go to the disk while others are made.
 */
PyObject *disk_write_out(PyObject *module, PyObject *args) {
    int fd;
    long long at, bytes;
    (void)module;
    if (!PyArg_ParseTuple(args, "iLL", &fd, &at, &bytes))
        return NULL;
    Py_BEGIN_ALLOW_THREADS(void)
        sync_file_range(fd, (off64_t)at, (off64_t)bytes, SYNC_FILE_RANGE_WRITE);
    Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

/* Not an operation: what a creator has made becomes visible. */
PyObject *disk_publish(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    if (!op_begin(&p, self))
        return NULL;
    if (p.op.h->held)
        segment_publish(p.op.h);
    Py_RETURN_NONE;
}

/* ---- the journal -------------------------------------------------------------------------- */

static bool journal_begin_op(struct py_op *p, struct py_store *self) {
    if (!op_begin_write(p, self))
        return false;
    if (p->op.h->options & KV_OPT_JOURNAL)
        return true;
    (void)PyErr_Format(PyExc_ValueError, "store '%U' has no journal: it is chosen at creation",
                       self->name);
    return false;
}

PyObject *disk_open(struct py_store *self, PyObject *dirfd) {
    struct py_op p;
    int fd = (int)PyLong_AsLong(dirfd);
    if ((fd == -1 && PyErr_Occurred()) || !journal_begin_op(&p, self))
        return NULL;
    kv_status s = journal_open(p.op.h, fd);
    if (s == KV_EXISTS)
        return PyErr_Format(PyExc_ValueError, "store '%U' knows its directory already", self->name);
    if (s != KV_OK) {
        p.op.err = errno;
        return op_fail(&p, s == KV_OS ? KV_PERSIST : s);
    }
    Py_RETURN_NONE;
}

PyObject *disk_begin(struct py_store *self, PyObject *args) {
    struct py_op p;
    unsigned long long generation, previous;
    kv_status s;
    if (!PyArg_ParseTuple(args, "KK", &generation, &previous) || !journal_begin_op(&p, self))
        return NULL;
    op_leave(&p.op);
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = journal_begin(&p.op, generation, previous);
    } while (op_again(&p, s));
    if (s != KV_OK)
        return op_fail(&p, s);
    Py_RETURN_NONE;
}

PyObject *disk_next(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    uint64_t generation = 0;
    kv_status s;
    if (!journal_begin_op(&p, self))
        return NULL;
    op_leave(&p.op);
    do {
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = journal_next(&p.op, &generation);
    } while (op_again(&p, s));
    return s == KV_OK ? PyLong_FromUnsignedLongLong(generation) : op_fail(&p, s);
}

static PyObject *round_of(struct py_store *self, bool sync) {
    struct py_op p;
    struct kv_round round = {0};
    kv_status s;
    if (!journal_begin_op(&p, self))
        return NULL;
    do {
        op_leave(&p.op);
        s = store_enter(&p.op);
        if (s == KV_OK)
            s = journal_round(&p.op, sync, &round);
    } while (op_again(&p, s));
    if (s != KV_OK)
        return op_fail(&p, s);
    return Py_BuildValue("(IK)", round.entries, (unsigned long long)round.bytes);
}

PyObject *disk_round(struct py_store *self, PyObject *unused) {
    (void)unused;
    return round_of(self, false);
}

PyObject *disk_sync(struct py_store *self, PyObject *unused) {
    (void)unused;
    return round_of(self, true);
}

PyObject *disk_listen(struct py_store *self, PyObject *ms) {
    struct py_op p;
    unsigned long n = PyLong_AsUnsignedLong(ms);
    if ((n == (unsigned long)-1 && PyErr_Occurred()) || !journal_begin_op(&p, self))
        return NULL;
    kv_status s = journal_listen(&p.op, (uint64_t)n * 1000000);
    (void)op_again(&p, s); /* a signal ends the sleep: its handlers have run */
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

/* _saved(wall_ms, generation): a snapshot of the store is whole: everybody may know when. */
PyObject *disk_saved(struct py_store *self, PyObject *args) {
    struct py_op p;
    unsigned long long ms, generation;
    if (!PyArg_ParseTuple(args, "KK", &ms, &generation) || !op_begin_write(&p, self))
        return NULL;
    journal_saved(p.op.h, generation);
    kv_store_rlx(&kv_header_of(p.op.h)->journal.saved_ms, (uint64_t)ms);
    Py_RETURN_NONE;
}

PyObject *disk_state(struct py_store *self, PyObject *unused) {
    (void)unused;
    struct py_op p;
    struct kv_journal_state t;
    if (!op_begin(&p, self))
        return NULL;
    if (!(p.op.h->options & KV_OPT_JOURNAL))
        Py_RETURN_NONE;
    journal_state(p.op.h, &t);
    return Py_BuildValue(
        "{s:i,s:K,s:K,s:K,s:K,s:K,s:I,s:I,s:I,s:I}", "mode", (int)kv_journal_mode(p.op.h->options),
        "generation", (unsigned long long)t.generation, "bytes", (unsigned long long)t.bytes,
        "started", (unsigned long long)t.started, "done", (unsigned long long)t.done, "synced_ms",
        (unsigned long long)t.synced_ms, "broken", t.broken, "unsaved", t.unsaved, "dirty", t.marks,
        "words", t.words);
}
