/* py_args.c: keywords and wrong calls; see py_args.h. */
#include "py_args.h"

static bool wrong_count(const struct py_params *f, Py_ssize_t nargs) {
    const char *how = f->needed == f->by_place ? "exactly"
                      : nargs < f->needed      ? "at least"
                                               : "at most";
    unsigned n = nargs < f->needed ? f->needed : f->by_place;
    PyErr_Format(PyExc_TypeError, "%s() takes %s %u argument%s without a name (%zd given)",
                 f->method, how, n, n == 1 ? "" : "s", nargs);
    return false;
}

static int place_of(const struct core_state *st, const struct py_params *f, PyObject *name) {
    for (int i = 0; i < f->count; i++)
        if (f->word[i] != W_NONE && st->word[f->word[i]] == name)
            return i;
    for (int i = 0; i < f->count; i++) /* a name that was not interned */
        if (f->word[i] != W_NONE && PyUnicode_Compare(st->word[f->word[i]], name) == 0)
            return i;
    return -1;
}

bool args_slow(const struct core_state *st, const struct py_params *f, PyObject *const *args,
               Py_ssize_t nargs, PyObject *names, PyObject **out) {
    if (nargs > f->by_place)
        return wrong_count(f, nargs);
    for (Py_ssize_t i = 0; i < nargs; i++)
        out[i] = args[i];
    Py_ssize_t named = names == NULL ? 0 : PyTuple_Size(names);
    unsigned given = (1u << nargs) - 1;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GetItem(names, i);
        int at = place_of(st, f, name);
        if (at < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", f->method,
                         name);
            return false;
        }
        if (given & 1u << at) {
            PyErr_Format(PyExc_TypeError, "%s() got two values for '%U'", f->method, name);
            return false;
        }
        given |= 1u << at;
        out[at] = args[nargs + i];
    }
    for (int i = 0; i < f->needed; i++)
        if (!(given & 1u << i)) {
            if (f->word[i] == W_NONE)
                return wrong_count(f, nargs);
            PyErr_Format(PyExc_TypeError, "%s() needs the argument '%U'", f->method,
                         st->word[f->word[i]]);
            return false;
        }
    return true;
}
