/* module.c: the module shmkv._core: its state, its types, its few functions.
 *
 * Multi-phase initialisation, Limited API of Python 3.11. What tests need (a clock that can be
 * moved, the hash, fault points in fault builds) stands here too. */
#include "py_glue.h"

#include <sys/mman.h>

#include "clock.h"
#include "packed.h"

/* ---- functions ---------------------------------------------------------------------------- */

static PyObject *set_clock_offset(PyObject *module, PyObject *o) {
    (void)module;
    long long ms = PyLong_AsLongLong(o);
    if (ms == -1 && PyErr_Occurred())
        return NULL;
    kv_store_rlx(&kv_clock_offset_ms, (int64_t)ms);
    Py_RETURN_NONE;
}

static PyObject *clock_ms(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromUnsignedLongLong(kv_clock_ms());
}

static PyObject *hash(PyObject *module, PyObject *args) {
    (void)module;
    Py_buffer data;
    unsigned long long seed;
    if (!PyArg_ParseTuple(args, "y*K", &data, &seed))
        return NULL;
    uint64_t h = kv_hash(data.buf, (size_t)data.len, seed);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLongLong(h);
}

#if KV_FAULT
static PyObject *fault_arm(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long n;
    int action;
    if (!PyArg_ParseTuple(args, "Ki", &n, &action))
        return NULL;
    kv_fault_arm(n, action);
    Py_RETURN_NONE;
}

static PyObject *fault_visits(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyLong_FromUnsignedLongLong(kv_fault_visits());
}

static PyObject *fault_share(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    if (kv_fault_share() != 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* Visits by name; a name may stand at several places. */
static PyObject *fault_sites(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    PyObject *dict = PyDict_New();
    for (uint32_t i = 0; dict != NULL && i < kv_fault_sites(); i++) {
        PyObject *name = PyUnicode_FromString(kv_fault_name(i));
        PyObject *had = name == NULL ? NULL : PyDict_GetItemWithError(dict, name); /* borrowed */
        uint64_t n = kv_fault_count(i) + (had == NULL ? 0 : PyLong_AsUnsignedLongLong(had));
        PyObject *sum = PyErr_Occurred() ? NULL : PyLong_FromUnsignedLongLong(n);
        if (sum == NULL || PyDict_SetItem(dict, name, sum) < 0)
            Py_CLEAR(dict);
        Py_XDECREF(sum);
        Py_XDECREF(name);
    }
    return dict;
}
#endif

static PyMethodDef functions[] = {
    {"attach", core_attach, METH_VARARGS,
     "attach($module, type, name, fd, object_name, config, readonly, lock_timeout, hold, /)\n--\n\n"
     "A store of this type on the segment behind a descriptor, which is taken over; or, refused,\n"
     "(status, errno, what was found). config: None or (size, max_size, seed, options)."},
    {"set_clock_offset", set_clock_offset, METH_O,
     "set_clock_offset($module, ms, /)\n--\n\nMove the deadline clock of this process; for tests."},
    {"clock_ms", clock_ms, METH_NOARGS, "clock_ms($module, /)\n--\n\nThe deadline clock."},
    {"hash", hash, METH_VARARGS, "hash($module, data, seed, /)\n--\n\nXXH64 of a buffer."},
    {"write_out", disk_write_out, METH_VARARGS,
     "write_out($module, fd, at, bytes, /)\n--\n\n"
     "The disk begins to write what stands there in a file; nobody waits for it."},
#if KV_FAULT
    {"fault_arm", fault_arm, METH_VARARGS,
     "fault_arm($module, n, action, /)\n--\n\nAct at the n-th visit from now: 1 kill, 2 stop; n = "
     "0: never."},
    {"fault_visits", fault_visits, METH_NOARGS,
     "fault_visits($module, /)\n--\n\nVisits of this thread since it was armed."},
    {"fault_share", fault_share, METH_NOARGS,
     "fault_share($module, /)\n--\n\nCount visits in memory that fork children share."},
    {"fault_sites", fault_sites, METH_NOARGS,
     "fault_sites($module, /)\n--\n\nVisits by name, of all processes."},
#endif
    {NULL, NULL, 0, NULL},
};

/* ---- state -------------------------------------------------------------------------------- */

/* The word that says "not a new fork child". One per process, for every module object. */
static int alive_page(void) {
    if (py_alive != NULL)
        return 0;
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || madvise(p, 4096, MADV_WIPEONFORK) != 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    py_alive = p;
    *py_alive = 1;
    return 0;
}

static PyTypeObject *type_make(PyObject *module, PyType_Spec *spec) {
    return (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
}

static int words_load(struct core_state *st) {
    static const char *const words[W_WORDS] = {[W_DEFAULT] = "default",
                                               [W_TTL] = "ttl",
                                               [W_DELTA] = "delta",
                                               [W_WHEN] = "when",
                                               [W_TOKEN] = "token"};
    for (int i = W_NONE + 1; i < W_WORDS; i++)
        if ((st->word[i] = PyUnicode_InternFromString(words[i])) == NULL)
            return -1;
    st->little = PyUnicode_InternFromString("little");
    st->signed_kwargs = Py_BuildValue("{s:O}", "signed", Py_True);
    return st->little == NULL || st->signed_kwargs == NULL ? -1 : 0;
}

/* What shmkv/packed.py and forms.py have to know. */
static int constants_add(PyObject *module) {
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"DEPTH_MAX", KV_DEPTH_MAX},
        {"EXT_TUPLE", KV_EXT_TUPLE},
        {"EXT_SET", KV_EXT_SET},
        {"EXT_FROZENSET", KV_EXT_FROZENSET},
        {"EXT_DICT", KV_EXT_DICT},
        {"EXT_INT", KV_EXT_INT},
        {"EXT_DATETIME", KV_EXT_DATETIME},
        {"EXT_DATE", KV_EXT_DATE},
        {"EXT_TIME", KV_EXT_TIME},
        {"EXT_TIMEDELTA", KV_EXT_TIMEDELTA},
        {"EXT_DECIMAL", KV_EXT_DECIMAL},
        {"EXT_UUID", KV_EXT_UUID},
        {"EXT_ARRAY", KV_EXT_ARRAY},
        {"TYPE_LIST", KV_TYPE_LIST},
        {"TYPE_DICT", KV_TYPE_DICT},
        {"TYPE_TUPLE", KV_TYPE_TUPLE},
        {"TYPE_SET", KV_TYPE_SET},
        {"TYPE_FROZENSET", KV_TYPE_FROZENSET},
        {"TYPE_DATETIME", KV_TYPE_DATETIME},
        {"TYPE_DATE", KV_TYPE_DATE},
        {"TYPE_TIME", KV_TYPE_TIME},
        {"TYPE_TIMEDELTA", KV_TYPE_TIMEDELTA},
        {"TYPE_DECIMAL", KV_TYPE_DECIMAL},
        {"TYPE_UUID", KV_TYPE_UUID},
        {"TYPE_ARRAY", KV_TYPE_ARRAY},
        {"TYPE_CODEC", KV_TYPE_CODEC},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

static int module_exec(PyObject *module) {
    struct core_state *st = PyModule_GetState(module);
    if (alive_page() < 0 || words_load(st) < 0 || errors_load(st) < 0)
        return -1;
    st->store_type = type_make(module, &store_spec);
    st->view_type = st->store_type == NULL ? NULL : type_make(module, &view_spec);
    st->pinned_type = st->view_type == NULL ? NULL : type_make(module, &pinned_spec);
    st->scan_type = st->pinned_type == NULL ? NULL : type_make(module, &scan_spec);
    st->dump_type = st->scan_type == NULL ? NULL : type_make(module, &dump_spec);
    if (st->dump_type == NULL)
        return -1;
    if (PyModule_AddObjectRef(module, "Store", (PyObject *)st->store_type) < 0 ||
        PyModule_AddObjectRef(module, "View", (PyObject *)st->view_type) < 0 ||
        PyModule_AddObjectRef(module, "Scan", (PyObject *)st->scan_type) < 0 ||
        PyModule_AddObjectRef(module, "Dump", (PyObject *)st->dump_type) < 0)
        return -1;
    if (constants_add(module) < 0)
        return -1;
    PyObject *fingerprint = PyLong_FromUnsignedLong(kv_fingerprint());
    int bad = fingerprint == NULL || PyModule_AddObjectRef(module, "FINGERPRINT", fingerprint) < 0;
    Py_XDECREF(fingerprint);
    return bad || PyModule_AddIntConstant(module, "OPT_EVICT", KV_OPT_EVICT) < 0 ||
                   PyModule_AddIntConstant(module, "OPT_JOURNAL", KV_OPT_JOURNAL) < 0 ||
                   PyModule_AddIntConstant(module, "OPT_ALWAYS", KV_OPT_ALWAYS) < 0 ||
                   PyModule_AddIntConstant(module, "LAYOUT_VERSION", KV_LAYOUT_VERSION) < 0
               ? -1
               : 0;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg) {
    struct core_state *st = PyModule_GetState(module);
    Py_VISIT(st->store_type);
    Py_VISIT(st->view_type);
    Py_VISIT(st->pinned_type);
    Py_VISIT(st->scan_type);
    Py_VISIT(st->dump_type);
    for (int i = 0; i < PY_CONDITIONS; i++)
        Py_VISIT(st->error[i]);
    Py_VISIT(st->signed_kwargs);
    Py_VISIT(st->timedelta);
    Py_VISIT(st->datetime);
    Py_VISIT(st->packed);
    Py_VISIT(st->unpackb);
    return 0;
}

static int module_clear(PyObject *module) {
    struct core_state *st = PyModule_GetState(module);
    Py_CLEAR(st->store_type);
    Py_CLEAR(st->view_type);
    Py_CLEAR(st->pinned_type);
    Py_CLEAR(st->scan_type);
    Py_CLEAR(st->dump_type);
    for (int i = 0; i < PY_CONDITIONS; i++)
        Py_CLEAR(st->error[i]);
    for (int i = 0; i < W_WORDS; i++)
        Py_CLEAR(st->word[i]);
    Py_CLEAR(st->little);
    Py_CLEAR(st->signed_kwargs);
    Py_CLEAR(st->timedelta);
    Py_CLEAR(st->datetime);
    Py_CLEAR(st->packed);
    Py_CLEAR(st->unpackb);
    return 0;
}

static void module_free(void *module) { (void)module_clear(module); }

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "shmkv._core",
    .m_doc = "The core of shmkv. Use the package, not this module.",
    .m_size = sizeof(struct core_state),
    .m_methods = functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&module_def); }
