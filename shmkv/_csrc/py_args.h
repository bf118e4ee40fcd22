/* py_args.h: arguments of METH_FASTCALL | METH_KEYWORDS methods, parsed by hand.
 *
 * A tuple parser costs several times what a get costs. Parameters are few: their names are interned
 * in the module's state, so that a keyword is found by comparing pointers. The caller fills `out`
 * with NULL or defaults; what is put there is borrowed from the caller of the method. */
#ifndef KV_PY_ARGS_H
#define KV_PY_ARGS_H

#include "py_glue.h"

struct py_params {
    const char *method;
    uint8_t count;    /* parameters in all, at most 4 */
    uint8_t by_place; /* how many of them may be given without a name */
    uint8_t needed;   /* the first so many must be given */
    uint8_t word[4];  /* enum py_word; W_NONE: by place only */
};

#define PY_ARGS 4 /* places in `out`, whatever the method needs */

/* Everything but the plain case; in py_args.c. */
bool args_slow(const struct core_state *st, const struct py_params *f, PyObject *const *args,
               Py_ssize_t nargs, PyObject *names, PyObject **out);

static inline bool args_parse(const struct core_state *st, const struct py_params *f,
                              PyObject *const *args, Py_ssize_t nargs, PyObject *names,
                              PyObject *out[PY_ARGS]) {
    if (__builtin_expect(names == NULL && nargs >= f->needed && nargs <= f->by_place, 1)) {
        /* One to four: a loop would become a string copy, which takes longer to start. */
        out[0] = args[0];
        if (nargs > 1)
            out[1] = args[1];
        if (nargs > 2)
            out[2] = args[2];
        if (nargs > 3)
            out[3] = args[3];
        return true;
    }
    return args_slow(st, f, args, nargs, names, out);
}

#endif
