/* py_errors.c: statuses become exceptions, with what happened, in which store, and what to do.
 *
 * The classes come from the table BY_STATUS of shmkv.errors, once per module. Nothing else turns a
 * status into an exception; segment.py words the refusals of an attach, from the same table. */
#include "py_glue.h"

#include <errno.h>
#include <string.h>

static const char *const status_names[PY_CONDITIONS] = {
    [KV_OK] = "ok",
    [KV_MISS] = "miss",
    [KV_EXISTS] = "exists",
    [KV_FULL] = "full",
    [KV_BUSY] = "busy",
    [KV_TOOLARGE] = "too large",
    [KV_TYPE] = "type",
    [KV_OVERFLOW] = "overflow",
    [KV_CORRUPT] = "corrupt",
    [KV_NOSPACE] = "no space",
    [KV_NOROWS] = "no rows",
    [KV_HALFMADE] = "half made",
    [KV_GONE] = "gone",
    [KV_VERSION] = "version",
    [KV_STRANGER] = "stranger",
    [KV_MISMATCH] = "mismatch",
    [KV_READONLY] = "read only",
    [KV_INVALID] = "invalid",
    [KV_PERSIST] = "persist",
    [KV_NOMEM] = "no memory",
    [KV_OS] = "system",
    [PY_CLOSED] = "closed",
    [PY_CODEC] = "codec",
};

const char *status_name(kv_status s) {
    const char *name = (unsigned)s < PY_CONDITIONS ? status_names[s] : NULL;
    return name == NULL ? "internal" : name;
}

int errors_load(struct core_state *st) {
    PyObject *module = PyImport_ImportModule("shmkv.errors");
    PyObject *table = module == NULL ? NULL : PyObject_GetAttrString(module, "BY_STATUS");
    Py_XDECREF(module);
    for (int i = 1; table != NULL && i < PY_CONDITIONS; i++) {
        if (status_names[i] == NULL)
            continue;
        st->error[i] = PyMapping_GetItemString(table, status_names[i]);
        if (st->error[i] == NULL)
            break;
    }
    Py_XDECREF(table);
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *raise_closed(struct py_store *self) {
    return PyErr_Format(self->state->error[PY_CLOSED], "store '%U' is closed: open it again",
                        self->name);
}

PyObject *raise_readonly(struct py_store *self) {
    return PyErr_Format(self->state->error[KV_READONLY],
                        "store '%U' was opened with readonly=True: open it without to change it",
                        self->name);
}

PyObject *raise_missing(PyObject *key) {
    PyErr_SetObject(PyExc_KeyError, key);
    return NULL;
}

static PyObject *raise_busy(struct py_store *self, const struct kv_op *op) {
    PyObject *busy = self->state->error[KV_BUSY];
    unsigned long long ms = self->h == NULL ? 0 : self->h->lock_timeout_ns / 1000000u;
    if (op == NULL || op->owner == 0 || self->h == NULL)
        return PyErr_Format(
            busy,
            "store '%U': what this operation needs stayed in use for %llu ms by living "
            "processes: try again, or raise lock_timeout",
            self->name, ms);
    const struct kv_row *row = kv_row_at(self->h, op->owner % self->h->g.rows);
    if (kv_load_rlx(&row->number) != op->owner)
        return PyErr_Format(
            busy,
            "store '%U': waited %llu ms for attachment number %u, which has left since: "
            "try again",
            self->name, ms, (unsigned)op->owner);
    return PyErr_Format(
        busy,
        "store '%U': waited %llu ms for process %u (attachment number %u), which is alive "
        "and holds what this operation needs: is it stopped? Continue or end it",
        self->name, ms, (unsigned)row->pid, (unsigned)op->owner);
}

static PyObject *raise_system(struct py_store *self, const struct kv_op *op) {
    int number = op == NULL ? 0 : op->err;
    PyObject *text =
        PyUnicode_FromFormat("store '%U': a system call failed: %s", self->name, strerror(number));
    PyObject *args = text == NULL ? NULL : Py_BuildValue("(iO)", number, text);
    if (args != NULL)
        PyErr_SetObject(self->state->error[KV_OS], args);
    Py_XDECREF(args);
    Py_XDECREF(text);
    return NULL;
}

static PyObject *raise_persist(struct py_store *self, const struct kv_op *op) {
    int number = op == NULL ? 0 : op->err;
    const char *what = number == ESTALE    ? "the store was removed, open it again"
                       : number == ENODATA ? "its file was cut, save the store"
                       : number != 0
                           ? strerror(number)
                           : "nobody who knows its directory leads, or who does is stopped: "
                             "open it with path=, or run `shmkv daemon` with --path";
    const char *so = op != NULL && op->wanted != 0 ? "The change is in memory, not on disk"
                                                   : "Nothing was changed";
    PyObject *text = PyUnicode_FromFormat("store '%U': its journal could not be written: %s. %s",
                                          self->name, what, so);
    PyObject *args = NULL;
    if (text != NULL)
        args = number != 0 ? Py_BuildValue("(iO)", number, text) : Py_BuildValue("(O)", text);
    if (args != NULL)
        PyErr_SetObject(self->state->error[KV_PERSIST], args);
    Py_XDECREF(args);
    Py_XDECREF(text);
    return NULL;
}

static const char *advice(kv_status s) {
    switch (s) {
    case KV_FULL:
        return "is full and may not evict: delete items, raise its size with resize(), or "
               "create it with evict=True";
    case KV_TOOLARGE:
        return "takes no item larger than an eighth of its memory: split the value or raise its "
               "size with resize()";
    case KV_CORRUPT:
        return "holds bytes that no correct writer stores: run check(), then recreate it "
               "(on_corrupt=\"recreate\" at open, or shmkv.unlink)";
    case KV_NOSPACE:
        return "cannot grow, /dev/shm is full: free or enlarge it (docker run --shm-size, "
               "Kubernetes "
               "emptyDir with medium: Memory)";
    case KV_NOROWS:
        return "has no attachment row left, all of them belong to living processes: close handles "
               "that "
               "are not needed";
    case KV_GONE:
        return "is gone: open it again";
    case KV_INVALID:
        return "was given an argument out of range";
    case KV_TYPE:
        return "holds a value of another type under this key";
    case KV_OVERFLOW:
        return "keeps counters of 64 bits: this one would leave them, it is unchanged";
    default:
        return "met a condition that should not leave the core: please report it";
    }
}

PyObject *raise_status(struct py_store *self, kv_status s, const struct kv_op *op) {
    if (s == KV_BUSY)
        return raise_busy(self, op);
    if (s == KV_OS)
        return raise_system(self, op);
    if (s == KV_PERSIST)
        return raise_persist(self, op);
    if (s == KV_NOMEM)
        return PyErr_NoMemory();
    if (s == KV_READONLY)
        return raise_readonly(self);
    if (s == KV_NOROWS && self->h != NULL)
        return PyErr_Format(
            self->state->error[s],
            "store '%U': all %u attachment rows belong to living processes: close handles "
            "that are not needed",
            self->name, (unsigned)self->h->g.rows);
    PyObject *class = (unsigned)s < PY_CONDITIONS ? self->state->error[s] : NULL;
    if (class == NULL)
        return PyErr_Format(PyExc_SystemError, "store '%U': status %d left the core", self->name,
                            (int)s);
    return PyErr_Format(class, "store '%U' %s", self->name, advice(s));
}
