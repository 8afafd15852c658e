/* autodiff._caller: what a call of a compiled function costs besides its plan.
 *
 * A `Caller` is a prepared plan as a function of arrays: it compares its arguments with what the plan was made for, finds
 * their memory, makes arrays for the results and runs the plan.  A `Bound` runs on the same arrays each time.  An `Entry`
 * is what users call: it leads to a caller.
 */
#ifndef AD_CALLER_H
#define AD_CALLER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL autodiff_numpy
#ifndef AD_IMPORTS_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "autodiff.h"

enum { MOST_IDLE = 8 /* calls that are kept */ };

/* What an input or output has to be. */
typedef struct spec {
    PyArray_Descr *dtype;
    npy_intp *shape;
    int rank;
    size_t bytes;
    bool is_float; /* of an input: a Python float */
    int partner;   /* of a donated input: its output; of that output: the input; else -1 */
} spec;

/* What one run needs of its own. */
typedef struct call {
    ad_run run;
    ad_error error;
    void **inputs, **outputs;
    char *scalars;     /* room for a number an input, then one an output */
    PyObject **copies; /* of inputs that are not contiguous and aligned; else NULL */
    int *order;        /* of the inputs by address in the last run with donated ones */
    bool has_copies;
    size_t size;
} call;

typedef struct Caller {
    PyObject_HEAD
    ad_status (*run)(const ad_prepared *, const ad_run *);
    const ad_prepared *prepared;
    PyObject *keep; /* what the pointers point to */
    PyObject *fail; /* raises, given what an ad_error says */
    ad_run pattern;
    bool releases; /* the interpreter's lock, while a plan runs */
    bool donates;
    int n_inputs, n_outputs;
    spec *specs; /* of inputs, then outputs */
    npy_intp *shapes;
    _Atomic(call *) idle[MOST_IDLE];
} Caller;

/* call.c: one run */
call *ad_call_new(const Caller *self);
void ad_call_free(call *call);
call *ad_call_take(Caller *self);
void ad_call_put(Caller *self, call *call);
/* Find the arguments' memory: 1 found, 0 an argument is not what the plan is for, -1 an exception is set. */
int ad_call_place_inputs(const Caller *self, call *call, PyObject *const *args);
/* Where results go: a tuple of their arrays, in which numbers are still missing. */
PyObject *ad_call_place_outputs(const Caller *self, call *call, PyObject *const *args);
/* Put the numbers there: 0, or -1 with an exception set. */
int ad_call_place_numbers(const Caller *self, const call *call, PyObject *results);
/* Run the plan: 0, or -1 with an exception set. */
int ad_call_execute(const Caller *self, const call *call);
void ad_call_drop_copies(const Caller *self, call *call);
bool ad_fits(PyArrayObject *array, const spec *spec);
bool ad_behaved(PyArrayObject *array); /* contiguous and aligned, as plans want it */
extern PyObject *ad_pages_handler; /* of large results' memory, as NumPy wants it */

/* caller.c: the results, a tuple; None if an input is not what the plan is for, or cannot be donated. */
PyObject *ad_caller_run(Caller *self, PyObject *const *args, Py_ssize_t n);
extern PyTypeObject *ad_caller_type;

/* entry.c */
extern PyType_Spec ad_entry_spec;

/* bound.c */
extern PyType_Spec ad_bound_spec;
extern PyTypeObject *ad_bound_type;
PyObject *ad_bound_new(Caller *caller, PyObject *arrays, PyObject *out);

#endif
