/* py_glue.h: what the files that know Python share. The store object, one operation, the module's
 * state.
 *
 * The GIL is held on the hot path. The core asks to leave it (kv_op.leave) before it sleeps or
 * copies much; from then until op_again() the operation is counted in `busy`, so that close() can
 * wait for it. `busy`, `views`, `closing` and `h` change only under the GIL. Between looking at `h`
 * and leaving the GIL nothing may run Python code: arguments are parsed first, then op_begin().
 *
 * While close() waits, operations keep the GIL: none gets in flight any more, so the wait ends. */
#ifndef KV_PY_GLUE_H
#define KV_PY_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

#include "store.h"

#define KV_VIEW_BYTES 4096u /* shorter values are viewed as a private copy */

/* Conditions that only Python can be in; they follow the statuses of the core. */
enum py_condition { PY_CLOSED = KV_OS + 1, PY_CODEC, PY_CONDITIONS };

enum py_word { W_NONE, W_DEFAULT, W_TTL, W_DELTA, W_WHEN, W_TOKEN, W_WORDS };

struct core_state {
    PyTypeObject *store_type, *view_type, *pinned_type, *scan_type, *dump_type;
    PyObject *error[PY_CONDITIONS]; /* exception classes by status, from shmkv.errors */
    PyObject *word[W_WORDS];        /* interned keyword names */
    PyObject *signed_kwargs;        /* {"signed": True} */
    PyObject *little;               /* "little" */
    PyObject *timedelta, *datetime; /* classes; NULL until first used */
    PyObject *packed, *unpackb;     /* shmkv.packed; its library's decoder; NULL until first used */
};

struct py_store {
    PyObject_HEAD struct core_state *state; /* of the module, which the type keeps alive */
    struct kv_handle *h;                    /* NULL: closed */
    PyObject *name;
    PyObject *codec; /* what encodes the values that C does not; None: the safe codec */
    bool readonly;
    bool created; /* this handle initialised the segment */
    uint32_t options;
    uint64_t size, max_size; /* as last seen */
    uint32_t busy;           /* operations that have left the GIL */
    uint32_t views;          /* exported buffers of this process */
    uint32_t inherited;      /* exported buffers of a parent, still alive in this fork child */
    uint32_t closing;        /* calls of close() that wait */
    uint32_t bell;           /* futex word of close(): raised when busy or views reach 0 */
    uint32_t life;           /* py_life when busy and views began at 0 */
};

/* ---- fork --------------------------------------------------------------------------------- */

/* 1 in every process that has been seen, 0 in a new fork child: the page is wiped by the kernel. */
extern uint32_t *py_alive;
extern uint32_t py_life; /* rises once in each fork child */
void store_forked(struct py_store *self);
static inline void store_look(struct py_store *self) {
    if (__builtin_expect(*py_alive == 0, 0)) {
        *py_alive = 1;
        py_life++;
    }
    if (__builtin_expect(self->life != py_life, 0))
        store_forked(self);
}

/* ---- errors (py_errors.c) ----------------------------------------------------------------- */

/* All set an exception and return NULL. */
PyObject *raise_status(struct py_store *self, kv_status s, const struct kv_op *op);
PyObject *raise_closed(struct py_store *self);
PyObject *raise_readonly(struct py_store *self);
PyObject *raise_missing(PyObject *key);
const char *status_name(kv_status s);
int errors_load(struct core_state *st);

/* ---- one operation ------------------------------------------------------------------------ */

struct py_op {
    struct kv_op op;
    struct py_store *self;
    PyThreadState *thread; /* not NULL: the GIL is released */
    bool lazy;             /* somebody settles the journal later, for many operations */
    bool raised;           /* KV_INTR, and the exception is there */
};

void op_leave(struct kv_op *op); /* release the GIL, once */
void op_back(struct py_op *p);   /* have it again */
bool op_interrupted(struct py_op *p);
/* The journal: what was changed is on disk if it is to be. Changes the status if not. */
void op_settle(struct py_op *p, kv_status *s);

/* false: closed, raised. */
static inline bool op_begin(struct py_op *p, struct py_store *self) {
    if (__builtin_expect(self->h == NULL, 0)) {
        (void)raise_closed(self);
        return false;
    }
    store_look(self);
    kv_op_init(&p->op, self->h);
    p->op.leave = op_leave;
    p->op.arg = p;
    p->self = self;
    p->thread = NULL;
    p->lazy = false;
    p->raised = false;
    return true;
}
static inline bool op_begin_write(struct py_op *p, struct py_store *self) {
    if (!op_begin(p, self))
        return false;
    if (__builtin_expect(self->readonly, 0)) {
        (void)raise_readonly(self);
        return false;
    }
    return true;
}
/* End one attempt: the GIL is held again. true: a signal came, call the core again. If it is false
 * and the status is KV_INTR, an exception is set. */
#define op_again(p, s) op_ended((p), &(s))
static inline bool op_ended(struct py_op *p, kv_status *s) {
    if (__builtin_expect(p->op.marked | p->op.overdue, 0))
        op_settle(p, s);
    if (p->thread != NULL)
        op_back(p);
    if (__builtin_expect(!p->raised, 1)) /* else it has left, and the handle may be gone */
        store_leave(&p->op);             /* with the GIL: it counts */
    return __builtin_expect(*s == KV_INTR, 0) && !p->raised && op_interrupted(p);
}
/* NULL, with the exception that fits. */
static inline PyObject *op_fail(struct py_op *p, kv_status s) {
    return s == KV_INTR ? NULL : raise_status(p->self, s, &p->op);
}

/* ---- keys, values, time (py_value.c) ------------------------------------------------------ */

void key_fail(PyObject *o);
void key_length(Py_ssize_t len);
/* Borrowed bytes of a key, no Python code run; false: raised. */
static inline bool key_bytes(PyObject *o, const void **data, uint32_t *len, bool *is_str) {
    Py_ssize_t n = 0;
    if (Py_IS_TYPE(o, &PyBytes_Type) || PyBytes_Check(o)) {
        char *p = NULL;
        (void)PyBytes_AsStringAndSize(o, &p, &n);
        *data = p;
        *is_str = false;
    } else if (PyUnicode_Check(o)) {
        *data = PyUnicode_AsUTF8AndSize(o, &n);
        *is_str = true;
    } else {
        key_fail(o);
        return false;
    }
    if (*data == NULL)
        return false;
    *len = (uint32_t)n;
    if (__builtin_expect(n > 0 && n <= (Py_ssize_t)KV_KEY_MAX, 1))
        return true;
    key_length(n);
    return false;
}

struct py_key {
    const void *data;
    uint32_t len;
    bool is_str;
};
static inline bool key_of(PyObject *o, struct py_key *k) {
    return key_bytes(o, &k->data, &k->len, &k->is_str);
}
/* After op_begin(). */
static inline struct kv_key key_hashed(const struct py_op *p, const struct py_key *k) {
    return kv_key_make(p->op.h, k->data, k->len, k->is_str);
}

/* A value on its way in. Borrowed from the object, or held here until value_free(). */
struct py_value {
    struct kv_value v;
    PyObject *owned; /* made for this */
    bool buffered;   /* `buffer` is exported */
    unsigned char byte;
    Py_buffer buffer;
};
bool value_of(struct py_store *self, PyObject *o, struct py_value *out);
void value_free(struct py_value *value);

/* A value on its way out. */
struct py_fetch {
    struct py_op *op;
    PyObject *bytes; /* bytes or, for an array, a bytearray */
    unsigned char *raw;
    const unsigned char *data;
    unsigned char small[256];
};
static inline void fetch_init(struct py_fetch *f, struct py_op *p) {
    f->op = p;
    f->bytes = NULL;
    f->raw = NULL;
    f->data = NULL;
}
void *fetch_alloc(void *arg, const struct kv_meta *meta); /* a kv_alloc */
PyObject *fetch_take(struct py_fetch *f, const struct kv_meta *meta);
static inline void fetch_free(struct py_fetch *f) {
    Py_XDECREF(f->bytes);
    if (f->raw != NULL)
        free(f->raw);
}
/* The Python type that a memory code comes back as. */
const char *type_name(uint8_t type);

/* Values that C does not know (py_codec.c). `bytes`: the value in the store; of an array a buffer,
 * which the result refers to. */
bool codec_encode(struct py_store *self, PyObject *o, struct py_value *out);
PyObject *codec_decode(struct py_store *self, uint8_t type, PyObject *bytes);
/* A value of another codec as it is. */
PyObject *codec_encoded(struct py_store *self, PyObject *bytes);

/* ttl=: None or NULL is never (0). */
bool ttl_deadline(struct core_state *st, PyObject *ttl, uint64_t *deadline_ms);
/* expire_at: a deadline that has passed is 1. */
bool when_deadline(struct core_state *st, PyObject *when, uint64_t *deadline_ms);

/* ---- the types ---------------------------------------------------------------------------- */

extern PyType_Spec store_spec, view_spec, pinned_spec, scan_spec, dump_spec;
PyObject *core_attach(PyObject *module, PyObject *args);

#define PY_METHOD(f) ((PyCFunction)(void (*)(void))(f))
PyObject *one_set(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *one_get(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *one_add(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *one_replace(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *one_cas(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *one_pop(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *one_delete(struct py_store *, PyObject *);
/* As delete, with an operation of the caller's. KV_INTR: raised. */
kv_status one_drop(struct py_store *, struct py_op *, PyObject *key, bool lazy);
/* The value of a hashed key, or NULL: *missing says why not. After op_begin(). */
PyObject *one_fetch(struct py_op *, const struct kv_key *, struct kv_meta *, bool *missing);
PyObject *one_gets(struct py_store *, PyObject *);
PyObject *one_get_encoded(struct py_store *, PyObject *);
PyObject *one_subscript(struct py_store *, PyObject *);
int one_assign(struct py_store *, PyObject *, PyObject *);
int one_contains(struct py_store *, PyObject *);
kv_status one_put(struct py_op *, const struct py_key *, const struct py_value *,
                  uint64_t deadline_ms, enum kv_put, const struct kv_token *);

PyObject *time_incr(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *time_decr(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *time_touch(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *time_expire_at(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *time_ttl(struct py_store *, PyObject *);
PyObject *time_info(struct py_store *, PyObject *);
PyObject *time_append(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *time_rename(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);

PyObject *many_get(struct py_store *, PyObject *);
PyObject *many_set(struct py_store *, PyObject *const *, Py_ssize_t, PyObject *);
PyObject *many_delete(struct py_store *, PyObject *);

PyObject *whole_clear(struct py_store *, PyObject *);
PyObject *whole_resize(struct py_store *, PyObject *);
PyObject *whole_stats(struct py_store *, PyObject *);
PyObject *whole_check(struct py_store *, PyObject *);
PyObject *whole_geometry(struct py_store *, PyObject *);
PyObject *whole_number(struct py_store *, PyObject *);
PyObject *whole_compact(struct py_store *, PyObject *);
PyObject *whole_work(struct py_store *, PyObject *);
PyObject *whole_daemon(struct py_store *, PyObject *);

PyObject *disk_publish(struct py_store *, PyObject *);
PyObject *disk_dump(struct py_store *, PyObject *);
PyObject *disk_load(struct py_store *, PyObject *);
PyObject *disk_replay(struct py_store *, PyObject *);
PyObject *disk_open(struct py_store *, PyObject *);
PyObject *disk_begin(struct py_store *, PyObject *);
PyObject *disk_next(struct py_store *, PyObject *);
PyObject *disk_round(struct py_store *, PyObject *);
PyObject *disk_sync(struct py_store *, PyObject *);
PyObject *disk_listen(struct py_store *, PyObject *);
PyObject *disk_state(struct py_store *, PyObject *);
PyObject *disk_saved(struct py_store *, PyObject *);
PyObject *disk_write_out(PyObject *, PyObject *);
PyObject *look_rows(struct py_store *, PyObject *);
PyObject *look_memory(struct py_store *, PyObject *);
PyObject *watch_noting(struct py_store *, PyObject *);
PyObject *watch_sampling(struct py_store *, PyObject *);
PyObject *watch_samples(struct py_store *, PyObject *);
PyObject *watch_board_room(struct py_store *, PyObject *);
PyObject *watch_board_read(struct py_store *, PyObject *);
PyObject *watch_board_write(struct py_store *, PyObject *);
PyObject *look_state(struct py_store *, PyObject *);
PyObject *look_heat(struct py_store *, PyObject *);
PyObject *look_count(struct py_store *, PyObject *);

PyObject *view_make(struct py_store *, PyObject *key);
PyObject *view_raw(struct py_store *, PyObject *);
PyObject *scan_make(struct py_store *, PyObject *prefix);
PyObject *scan_iter(struct py_store *);

/* A buffer of this store begins or ends to be exported; `life` from begin. */
uint32_t store_view_begin(struct py_store *self);
void store_view_end(struct py_store *self, uint32_t life);

#endif
