/* py_store.c: the store object: attach, fork, the GIL, close; and the table of its methods.
 *
 * Owns the life of a handle in Python: who may still be using it, when it may be unmapped. close()
 * waits for operations that have left the GIL and for exported buffers, on a futex word of its own
 * that the last of them raises. A handle inherited by fork starts with neither; buffers that a
 * parent exported keep the mapping alive in the child after its close(). Does not own: names,
 * rights and sizes of segments (segment.py), what operations do (py_one.c ...). */
#include "py_glue.h"

#include <errno.h>
#include <unistd.h>

#include "clock.h"
#include "wait.h"

uint32_t *py_alive;
uint32_t py_life;

/* ---- fork --------------------------------------------------------------------------------- */

/* First use of a handle in a fork child: operations and waits of the parent's threads are not here.
 */
void store_forked(struct py_store *self) {
    self->inherited += self->views;
    self->views = 0;
    self->busy = 0;
    self->closing = 0;
    self->life = py_life;
}

/* ---- the GIL ------------------------------------------------------------------------------ */

void op_leave(struct kv_op *op) {
    struct py_op *p = op->arg;
    if (p->thread != NULL || p->self->closing != 0)
        return;
    p->self->busy++;
    p->thread = PyEval_SaveThread();
}

/* Tell close() that the last operation or buffer is gone. */
static void ring(struct py_store *self) {
    if (self->closing != 0 && (self->busy == 0 || self->views == 0)) {
        kv_store_rel(&self->bell, self->bell + 1); /* release: pairs with the look in close */
        kv_wake(&self->bell, INT32_MAX);
    }
}

void op_back(struct py_op *p) {
    PyEval_RestoreThread(p->thread);
    p->thread = NULL;
    p->self->busy--;
    ring(p->self);
}

bool op_interrupted(struct py_op *p) {
    if (PyErr_CheckSignals() < 0)
        return false;
    if (p->self->h != p->op.h) { /* a handler, or another thread meanwhile, closed it */
        (void)raise_closed(p->self);
        return false;
    }
    store_look(p->self);
    return true;
}

void op_settle(struct py_op *p, kv_status *s) {
    kv_status r = KV_OK;
    if (*s == KV_INTR || (p->lazy && p->op.marked))
        return;            /* the operation is called again; or many are settled at once */
    p->op.deadline_ns = 0; /* the time limit of an operation, once more */
    while ((r = journal_settle(&p->op)) == KV_INTR) { /* it is done: only the waiting goes on */
        if (p->thread != NULL)
            op_back(p);
        store_leave(&p->op); /* before the handlers: one may close the store */
        if (!op_interrupted(p)) {
            p->raised = true;
            break;
        }
        do
            r = store_enter(&p->op); /* ... or fork */
        while (r == KV_INTR && op_interrupted(p));
        p->raised = r == KV_INTR;
        if (r != KV_OK)
            break;
    }
    p->op.marked = p->op.overdue = false;
    if (r != KV_OK)
        *s = r;
}

uint32_t store_view_begin(struct py_store *self) {
    self->views++;
    return self->life;
}

void store_view_end(struct py_store *self, uint32_t life) {
    store_look(self);
    if (life != self->life) {
        self->inherited--;
        return;
    }
    self->views--;
    ring(self);
}

/* ---- attach ------------------------------------------------------------------------------- */

static PyObject *refusal(kv_status s, int number, const struct kv_found *found) {
    return Py_BuildValue("(si{s:I,s:I,s:K,s:K,s:K})", status_name(s), number, "layout_version",
                         (unsigned)found->layout_version, "fingerprint",
                         (unsigned)found->fingerprint, "size", (unsigned long long)found->size,
                         "max_size", (unsigned long long)found->max_size, "file_bytes",
                         (unsigned long long)found->file_bytes);
}

static bool config_parse(PyObject *o, struct kv_config *c) {
    unsigned long long size, max_size, seed;
    unsigned options;
    if (!PyArg_ParseTuple(o, "KKKI", &size, &max_size, &seed, &options))
        return false;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *c =
        (struct kv_config){.size = size,
                           .max_size = max_size,
                           .seed = seed,
                           .options = options,
                           .appenders = kv_geometry_appenders(size, cpus < 1 ? 1 : (uint32_t)cpus)};
    return true;
}

static struct py_store *store_new(struct core_state *st, PyTypeObject *type, PyObject *name) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct py_store *self = (struct py_store *)alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->state = st;
    self->name = Py_NewRef(name);
    self->codec = Py_NewRef(Py_None);
    self->life = py_life;
    return self;
}

/* attach(type, name, fd, object_name, config, readonly, lock_timeout, hold) -> store or refusal.
 * The descriptor belongs to the core from now on, whatever happens. */
PyObject *core_attach(PyObject *module, PyObject *args) {
    struct core_state *st = PyModule_GetState(module);
    PyObject *type, *name, *config;
    const char *object_name;
    int fd, readonly, hold;
    double timeout;
    struct kv_config c;
    if (!PyArg_ParseTuple(args, "OUisOpdp", &type, &name, &fd, &object_name, &config, &readonly,
                          &timeout, &hold))
        return NULL;
    if (!PyType_Check(type) || !PyType_IsSubtype((PyTypeObject *)type, st->store_type)) {
        (void)close(fd);
        return PyErr_Format(PyExc_TypeError, "attach() makes subtypes of Store only");
    }
    if (config != Py_None && !config_parse(config, &c)) {
        (void)close(fd);
        return NULL;
    }
    if (*py_alive == 0) { /* a fork child's first */
        *py_alive = 1;
        py_life++;
    }
    struct py_store *self = store_new(st, (PyTypeObject *)type, name);
    if (self == NULL) {
        (void)close(fd);
        return NULL;
    }
    struct kv_open how = {.fd = fd,
                          .name = object_name,
                          .config = config == Py_None ? NULL : &c,
                          .readonly = readonly != 0,
                          .hold = hold != 0,
                          .timeout_ns = (uint64_t)(timeout * 1e9)};
    struct kv_handle *h = NULL;
    struct kv_found found;
    bool created;
    PyThreadState *thread = PyEval_SaveThread();
    kv_status s = store_attach(&how, &h, &created, &found);
    int number = errno;
    PyEval_RestoreThread(thread);
    if (s != KV_OK) {
        Py_DECREF((PyObject *)self);
        return s == KV_NOMEM ? PyErr_NoMemory() : refusal(s, number, &found);
    }
    h->interruptible = true;
    self->readonly = readonly != 0;
    self->created = created;
    self->options = h->options;
    self->size = h->g.size;
    self->max_size = h->g.max_size;
    self->h = h;
    return (PyObject *)self;
}

static PyObject *store_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    (void)type, (void)args, (void)kwargs;
    PyErr_SetString(PyExc_TypeError,
                    "a Store is made by shmkv.open(name), not by calling the class");
    return NULL;
}

/* ---- close -------------------------------------------------------------------------------- */

/* No operation and no buffer of this process is left. */
static struct kv_handle *take_handle(struct py_store *self) {
    struct kv_handle *h = self->h;
    self->size = kv_load_rlx(&kv_header_of(h)->size);
    self->h = NULL;
    if (self->inherited != 0)
        h->borrowed = true;
    return h;
}

static PyObject *still_open(struct py_store *self) {
    return PyErr_Format(
        self->state->error[KV_BUSY],
        "store '%U' stays open: %u view%s and %u operation%s of this process did not end "
        "within %llu ms: end them, then close again",
        self->name, self->views, self->views == 1 ? "" : "s", self->busy,
        self->busy == 1 ? "" : "s", (unsigned long long)(self->h->lock_timeout_ns / 1000000u));
}

/* Wait until nobody uses the handle. false: raised. */
static bool wait_idle(struct py_store *self) {
    uint64_t end = kv_clock_ns() + self->h->lock_timeout_ns;
    bool ok = true;
    self->closing++;
    while (ok && self->h != NULL && (self->busy != 0 || self->views != 0)) {
        uint64_t now = kv_clock_ns();
        if (now >= end) {
            (void)still_open(self);
            ok = false;
            break;
        }
        uint32_t seen = self->bell; /* changes under the GIL only */
        PyThreadState *thread = PyEval_SaveThread();
        (void)kv_wait(&self->bell, seen, end - now);
        PyEval_RestoreThread(thread);
        ok = PyErr_CheckSignals() == 0;
        store_look(self); /* a handler may have forked */
    }
    if (self->closing != 0)
        self->closing--;
    return ok;
}

static PyObject *store_close(struct py_store *self, PyObject *unused) {
    (void)unused;
    if (self->h == NULL)
        Py_RETURN_NONE;
    store_look(self);
    if (!wait_idle(self))
        return NULL;
    if (self->h != NULL) {
        struct kv_handle *h = take_handle(self);
        PyThreadState *thread = PyEval_SaveThread();
        store_detach(h);
        PyEval_RestoreThread(thread);
    }
    Py_RETURN_NONE;
}

/* Let go as a death would; tests only. */
static PyObject *store_abandon(struct py_store *self, PyObject *unused) {
    (void)unused;
    if (self->h == NULL)
        return raise_closed(self);
    store_look(self);
    if (self->busy != 0 || self->views != 0)
        return still_open(self);
    segment_close(take_handle(self)) /* the descriptor goes, the row stays */;
    Py_RETURN_NONE;
}

static void store_dealloc(struct py_store *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->h != NULL) { /* views hold references: there are none */
        store_look(self);
        store_detach(take_handle(self));
    }
    Py_XDECREF(self->name);
    Py_XDECREF(self->codec);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* ---- attributes --------------------------------------------------------------------------- */

static PyObject *get_name(struct py_store *self, void *c) {
    (void)c;
    return Py_NewRef(self->name);
}
static PyObject *get_size(struct py_store *self, void *c) {
    (void)c;
    uint64_t size = self->h == NULL ? self->size : kv_load_rlx(&kv_header_of(self->h)->size);
    return PyLong_FromUnsignedLongLong(size);
}
static PyObject *get_max_size(struct py_store *self, void *c) {
    (void)c;
    return PyLong_FromUnsignedLongLong(self->max_size);
}
static PyObject *get_evict(struct py_store *self, void *c) {
    (void)c;
    return PyBool_FromLong((self->options & KV_OPT_EVICT) != 0);
}
static PyObject *get_readonly(struct py_store *self, void *c) {
    (void)c;
    return PyBool_FromLong(self->readonly);
}
static PyObject *get_closed(struct py_store *self, void *c) {
    (void)c;
    return PyBool_FromLong(self->h == NULL);
}

static PyObject *get_created(struct py_store *self, void *c) {
    (void)c;
    return PyBool_FromLong(self->created);
}

static PyObject *get_codec(struct py_store *self, void *c) {
    (void)c;
    return Py_NewRef(self->codec);
}
static int set_codec(struct py_store *self, PyObject *codec, void *c) {
    (void)c;
    PyObject *old = self->codec;
    self->codec = Py_NewRef(codec == NULL ? Py_None : codec);
    Py_DECREF(old);
    return 0;
}

static PyGetSetDef store_attributes[] = {
    {"name", (getter)get_name, NULL, "The store's name.", NULL},
    {"size", (getter)get_size, NULL, "Bytes of shared memory the store may use now.", NULL},
    {"max_size", (getter)get_max_size, NULL, "Bytes that `size` may be raised to.", NULL},
    {"evict", (getter)get_evict, NULL, "May items leave to make room?", NULL},
    {"readonly", (getter)get_readonly, NULL, "Was it opened with readonly=True?", NULL},
    {"closed", (getter)get_closed, NULL, "Has close() ended?", NULL},
    {"_created", (getter)get_created, NULL, "Did this handle create the store?", NULL},
    {"_codec", (getter)get_codec, (setter)set_codec,
     "What encodes values that are not plain; None: the safe codec.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static Py_ssize_t store_length(struct py_store *self) {
    struct py_op p;
    return op_begin(&p, self) ? (Py_ssize_t)store_len(p.op.h) : -1;
}

/* ---- the type ----------------------------------------------------------------------------- */

#define FAST METH_FASTCALL | METH_KEYWORDS

static PyMethodDef store_methods[] = {
    {"set", PY_METHOD(one_set), FAST,
     "set($self, key, value, /, *, ttl=None)\n--\n\n"
     "Store a value, replacing value and deadline of what is there. Atomic.\n\n"
     "ttl: seconds (int, float) or timedelta, more than 0; None: never expires.\n"
     "Raises TooLarge, Full (evict=False), CodecError, ReadOnly, Busy, NoSpace."},
    {"get", PY_METHOD(one_get), FAST,
     "get($self, key, /, default=None)\n--\n\n"
     "The value of a key, or `default`. Takes no lock; the result is the caller's own copy."},
    {"add", PY_METHOD(one_add), FAST,
     "add($self, key, value, /, *, ttl=None)\n--\n\n"
     "Store a value only if the key is missing. Atomic. True: stored. Raises as set()."},
    {"replace", PY_METHOD(one_replace), FAST,
     "replace($self, key, value, /, *, ttl=None)\n--\n\n"
     "Store a value only if the key is there. Atomic. True: stored. Raises as set()."},
    {"delete", PY_METHOD(one_delete), METH_O,
     "delete($self, key, /)\n--\n\nRemove a key. Atomic. True: it was there."},
    {"incr", PY_METHOD(time_incr), FAST,
     "incr($self, key, /, delta=1, *, default=0, ttl=None)\n--\n\n"
     "Add to an int and return the sum. Atomic; keeps the deadline.\n\n"
     "A missing key becomes default + delta, with ttl; default=None: KeyError.\n"
     "Raises OverflowError beyond 64 bits, TypeError if the value is no int; it is unchanged "
     "then."},
    {"decr", PY_METHOD(time_decr), FAST,
     "decr($self, key, /, delta=1, *, default=0, ttl=None)\n--\n\nincr() by -delta."},
    {"touch", PY_METHOD(time_touch), FAST,
     "touch($self, key, /, ttl)\n--\n\n"
     "Give a key a new deadline in `ttl` seconds (or timedelta); None: never. Atomic.\n"
     "True: the key was there."},
    {"ttl", PY_METHOD(time_ttl), METH_O,
     "ttl($self, key, /)\n--\n\n"
     "Seconds (float) until the key expires; None: never. Raises KeyError if it is missing."},
    {"expire_at", PY_METHOD(time_expire_at), FAST,
     "expire_at($self, key, /, when)\n--\n\n"
     "Give a key a deadline at a moment: unix time in seconds or an aware datetime. Atomic.\n"
     "A moment that has passed removes the key. True: the key was there."},
    {"gets", PY_METHOD(one_gets), METH_O,
     "gets($self, key, /)\n--\n\n"
     "(value, token) of a key, for cas(). Raises KeyError if it is missing."},
    {"cas", PY_METHOD(one_cas), FAST,
     "cas($self, key, value, /, token, *, ttl=None)\n--\n\n"
     "Store a value only if the key was not changed since gets() gave the token. Atomic.\n"
     "True: stored; False: changed or missing. Raises as set()."},
    {"pop", PY_METHOD(one_pop), FAST,
     "pop($self, key, /, default=<missing>)\n--\n\n"
     "Remove a key and return its value; `default`, or KeyError, if it is missing. Atomic."},
    {"append", PY_METHOD(time_append), FAST,
     "append($self, key, tail, /)\n--\n\n"
     "Append bytes to bytes or str to str; a missing key is created. Atomic; keeps the deadline.\n"
     "Returns the new length in bytes (of UTF-8 for str). Raises TypeError for other types."},
    {"rename", PY_METHOD(time_rename), FAST,
     "rename($self, old, new, /)\n--\n\n"
     "Move value and deadline to another key, replacing what is there.\n"
     "Not one moment: others may see both keys. Raises KeyError if `old` is missing."},
    {"get_many", PY_METHOD(many_get), METH_O,
     "get_many($self, keys, /)\n--\n\n"
     "A dict of the given keys that are there, to their values. Not one moment."},
    {"set_many", PY_METHOD(many_set), FAST,
     "set_many($self, mapping, /, *, ttl=None)\n--\n\n"
     "set() every pair of a mapping. Not one moment: an error leaves the pairs before it stored."},
    {"delete_many", PY_METHOD(many_delete), METH_O,
     "delete_many($self, keys, /)\n--\n\nRemove keys; how many were there. Not one moment."},
    {"clear", PY_METHOD(whole_clear), METH_NOARGS,
     "clear($self, /)\n--\n\nRemove what was there when it began; keys set meanwhile stay."},
    {"view", PY_METHOD(view_make), METH_O,
     "view($self, key, /)\n--\n\n"
     "A context manager that gives a read-only memoryview of a bytes value (of a str: its "
     "UTF-8),\n"
     "or a read-only numpy array.\n\n"
     "No copy is made of values of 4 KiB and more: the memory is pinned and its bytes do not "
     "change\n"
     "until the view, and everything taken from it, is released. Shorter values, and all values "
     "of\n"
     "a read-only store, are private copies. A view is not for fork children.\n"
     "Entering raises KeyError if the key is missing, TypeError for other types."},
    {"close", PY_METHOD(store_close), METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Detach. Waits up to lock_timeout for operations and views of this process, then raises Busy\n"
     "and the store stays open. Closing again does nothing."},
    {"_scan", PY_METHOD(scan_make), METH_O,
     "_scan($self, prefix, /)\n--\n\nKeys that begin with bytes."},
    {"_get_encoded", PY_METHOD(one_get_encoded), METH_O,
     "_get_encoded($self, key, /)\n--\n\n"
     "As store[key], but a value of another codec comes as Encoded, undecoded."},
    {"_info", PY_METHOD(time_info), METH_O,
     "_info($self, key, /)\n--\n\n(type, size, ttl, age) of an item."},
    {"_stats", PY_METHOD(whole_stats), METH_NOARGS, "_stats($self, /)\n--\n\nTotals as a dict."},
    {"_resize", PY_METHOD(whole_resize), METH_O,
     "_resize($self, size, /)\n--\n\nRaise the size; False: beyond max_size, or less than it has."},
    {"_check", PY_METHOD(whole_check), METH_NOARGS,
     "_check($self, /)\n--\n\n(counts, problems) of a check of every invariant."},
    {"_geometry", PY_METHOD(whole_geometry), METH_NOARGS,
     "_geometry($self, /)\n--\n\nOffsets and numbers of the layout as a dict."},
    {"_number", PY_METHOD(whole_number), METH_NOARGS,
     "_number($self, /)\n--\n\nThis attachment's number; 0 if read-only."},
    {"_work", PY_METHOD(whole_work), METH_O,
     "_work($self, budget_ms, /)\n--\n\nWork ahead: (dead attachments, pages freed, more to do)."},
    {"_daemon", PY_METHOD(whole_daemon), METH_O,
     "_daemon($self, become, /)\n--\n\nIs there a daemon? True: become it, if there is none."},
    {"_publish", PY_METHOD(disk_publish), METH_NOARGS,
     "_publish($self, /)\n--\n\nLet others attach to a store that was created with hold=True."},
    {"_dump", PY_METHOD(disk_dump), METH_NOARGS,
     "_dump($self, /)\n--\n\nWhat gives the store's records, block by block."},
    {"_load", PY_METHOD(disk_load), METH_O,
     "_load($self, payload, /)\n--\n\nStore the items of a block: (loaded, expired)."},
    {"_replay", PY_METHOD(disk_replay), METH_O,
     "_replay($self, payload, /)\n--\n\nDo what journal entries say: (loaded, expired)."},
    {"_journal_open", PY_METHOD(disk_open), METH_O,
     "_journal_open($self, dirfd, /)\n--\n\nThis handle may lead rounds, in that directory."},
    {"_journal_begin", PY_METHOD(disk_begin), METH_VARARGS,
     "_journal_begin($self, generation, previous, /)\n--\n\nThe first file of a new store."},
    {"_journal_next", PY_METHOD(disk_next), METH_NOARGS,
     "_journal_next($self, /)\n--\n\nBegin the next generation; its number."},
    {"_journal_round", PY_METHOD(disk_round), METH_NOARGS,
     "_journal_round($self, /)\n--\n\nLead a round: (entries, bytes)."},
    {"_journal_sync", PY_METHOD(disk_sync), METH_NOARGS,
     "_journal_sync($self, /)\n--\n\nWhat was committed before is on disk: (entries, bytes)."},
    {"_journal_listen", PY_METHOD(disk_listen), METH_O,
     "_journal_listen($self, ms, /)\n--\n\nSleep until somebody wants a round, at most so long."},
    {"_saved", PY_METHOD(disk_saved), METH_VARARGS,
     "_saved($self, ms, generation, /)\n--\n\nA snapshot is whole since then (wall clock)."},
    {"_journal_state", PY_METHOD(disk_state), METH_NOARGS,
     "_journal_state($self, /)\n--\n\nWhere the journal stands, as a dict; None without one."},
    {"_compact", PY_METHOD(whole_compact), METH_NOARGS,
     "_compact($self, /)\n--\n\nClean every page that holds garbage; how many became free."},
    {"_rows", PY_METHOD(look_rows), METH_NOARGS,
     "_rows($self, /)\n--\n\n(row, number, pid, start, namespace, wall ms, alive, counters)."},
    {"_memory", PY_METHOD(look_memory), METH_NOARGS,
     "_memory($self, /)\n--\n\n(queue, state, bytes, filled, garbage) of pages, summed."},
    {"_noting", PY_METHOD(watch_noting), METH_O,
     "_noting($self, on, /)\n--\n\nDoes this attachment note what it does? Benchmarks only."},
    {"_sampling", PY_METHOD(watch_sampling), METH_O,
     "_sampling($self, below, /)\n--\n\nSample keys whose hash has a low half below this."},
    {"_samples", PY_METHOD(watch_samples), METH_NOARGS,
     "_samples($self, /)\n--\n\nTake the samples out: (64-bit words, how many were lost)."},
    {"_board_room", PY_METHOD(watch_board_room), METH_NOARGS,
     "_board_room($self, /)\n--\n\nHow many bytes the daemon's board takes."},
    {"_board_read", PY_METHOD(watch_board_read), METH_NOARGS,
     "_board_read($self, /)\n--\n\nWhat the daemon wrote last; None: nothing."},
    {"_board_write", PY_METHOD(watch_board_write), METH_VARARGS,
     "_board_write($self, blob, /)\n--\n\nFor the daemon alone: what everybody may read."},
    {"_state", PY_METHOD(look_state), METH_O,
     "_state($self, key, /)\n--\n\n(version, counter, deadline_ms) of an item; None: none."},
    {"_heat", PY_METHOD(look_heat), METH_VARARGS,
     "_heat($self, prefix, most, /)\n--\n\n"
     "Items by access counter, and the first: (key, counter, age_ms, bytes)."},
    {"_count", PY_METHOD(look_count), METH_VARARGS,
     "_count($self, keys, looks, gap_ns, rest_ns, /)\n--\n\n"
     "Count reads of keys by their access counters: (ns, [(looks, idle, least_reads)])."},
    {"_raw", PY_METHOD(view_raw), METH_NOARGS,
     "_raw($self, /)\n--\n\nA read-only memoryview of the backed segment."},
    {"_abandon", PY_METHOD(store_abandon), METH_NOARGS,
     "_abandon($self, /)\n--\n\nLet go as a death would: the row stays for others to fold."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot store_slots[] = {
    {Py_tp_doc, "A handle of a store. Made by shmkv.open()."},
    {Py_tp_new, store_tp_new},
    {Py_tp_dealloc, store_dealloc},
    {Py_tp_methods, store_methods},
    {Py_tp_getset, store_attributes},
    {Py_tp_iter, scan_iter},
    {Py_mp_length, store_length},
    {Py_mp_subscript, one_subscript},
    {Py_mp_ass_subscript, one_assign},
    {Py_sq_contains, one_contains},
    {0, NULL},
};

PyType_Spec store_spec = {
    .name = "shmkv._core.Store",
    .basicsize = sizeof(struct py_store),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = store_slots,
};
