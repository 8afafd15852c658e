/* One run: its own memory, its arguments' places, its results. */
#include "caller.h"

#include <stdlib.h>
#include <string.h>

#include "pages.h"

enum { ALIGNMENT = 64, SCALAR = 8 /* bytes of the widest number */ };

PyObject *ad_pages_handler;

/* ---- calls ---- */

static size_t aligned(size_t size) { return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

void ad_call_free(call *call) {
    if (!call) return;
    if (call->size >= AD_PAGES_FROM)
        ad_pages_free(NULL, call, call->size);
    else
        free(call);
}

call *ad_call_new(const Caller *self) {
    size_t n = (size_t)self->n_inputs, m = (size_t)self->n_outputs;
    size_t head = aligned(sizeof(call) + (n + m) * (sizeof(void *) + SCALAR) + n * (sizeof(PyObject *) + sizeof(int)));
    size_t size = head + self->pattern.workspace_size;
    void *memory;
    if (size >= AD_PAGES_FROM)
        memory = ad_pages_malloc(NULL, size);
    else if (posix_memalign(&memory, ALIGNMENT, size))
        memory = NULL;
    if (!memory) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(memory, 0, head);
    call *made = memory;
    made->size = size;
    made->inputs = (void **)(made + 1);
    made->outputs = made->inputs + n;
    made->scalars = (char *)(made->outputs + m);
    made->copies = (PyObject **)(made->scalars + (n + m) * SCALAR);
    made->order = (int *)(made->copies + n);
    for (int i = 0; i < self->n_inputs; i++) made->order[i] = i;
    made->run = self->pattern;
    made->run.inputs = (const void *const *)made->inputs;
    made->run.outputs = made->outputs;
    made->run.workspace = (char *)memory + head;
    made->run.error = &made->error;
    return made;
}

call *ad_call_take(Caller *self) {
    for (int i = 0; i < MOST_IDLE; i++) {
        call *found = atomic_exchange_explicit(&self->idle[i], NULL, memory_order_acquire);
        if (found) return found;
    }
    return ad_call_new(self);
}

void ad_call_put(Caller *self, call *call) {
    for (int i = 0; i < MOST_IDLE; i++) {
        struct call *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&self->idle[i], &none, call, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    ad_call_free(call);
}

/* ---- arguments and results ---- */

bool ad_fits(PyArrayObject *array, const spec *spec) {
    if (PyArray_NDIM(array) != spec->rank) return false;
    if (PyArray_DESCR(array) != spec->dtype && !PyArray_EquivTypes(PyArray_DESCR(array), spec->dtype)) return false;
    const npy_intp *shape = PyArray_DIMS(array);
    for (int d = 0; d < spec->rank; d++)
        if (shape[d] != spec->shape[d]) return false;
    return true;
}

bool ad_behaved(PyArrayObject *array) { return PyArray_IS_C_CONTIGUOUS(array) && PyArray_ISALIGNED(array); }

/* As ad_call_place_inputs, for one. */
static int place_input(const Caller *self, call *call, int i, PyObject *x) {
    const spec *spec = &self->specs[i];
    char *scalar = call->scalars + i * SCALAR;
    if (spec->is_float) {
        if (!PyFloat_CheckExact(x)) return 0;
        double value = PyFloat_AsDouble(x);
        memcpy(scalar, &value, sizeof value);
        call->inputs[i] = scalar;
        return 1;
    }
    if (PyArray_CheckExact(x)) {
        PyArrayObject *array = (PyArrayObject *)x;
        if (!ad_fits(array, spec)) return 0;
        if (ad_behaved(array)) {
            call->inputs[i] = PyArray_DATA(array);
            return spec->partner < 0 || PyArray_ISWRITEABLE(array);
        }
        if (spec->partner >= 0) return 0;
        PyObject *copy = PyArray_NewCopy(array, NPY_CORDER);
        if (!copy) return -1;
        call->copies[i] = copy;
        call->has_copies = true;
        call->inputs[i] = PyArray_DATA((PyArrayObject *)copy);
        return 1;
    }
    if (spec->rank || spec->partner >= 0 || Py_TYPE(x) != spec->dtype->typeobj) return 0;
    PyArray_ScalarAsCtype(x, scalar);
    call->inputs[i] = scalar;
    return 1;
}

/* Whether a donated argument shares memory with another argument. */
static bool overlapping(const Caller *self, call *call) {
    int *order = call->order;
    for (int i = 1; i < self->n_inputs; i++) { /* mostly in order, since they mostly are the last call's arrays */
        int input = order[i], j = i;
        for (; j > 0 && (uintptr_t)call->inputs[order[j - 1]] > (uintptr_t)call->inputs[input]; j--)
            order[j] = order[j - 1];
        order[j] = input;
    }
    uintptr_t end = 0;
    bool donated = false; /* whether the argument that ends there is */
    for (int i = 0; i < self->n_inputs; i++) {
        const spec *spec = &self->specs[order[i]];
        uintptr_t begin = (uintptr_t)call->inputs[order[i]];
        if (!spec->bytes) continue;
        if (begin < end && (donated || spec->partner >= 0)) return true;
        if (begin + spec->bytes > end) {
            end = begin + spec->bytes;
            donated = spec->partner >= 0;
        }
    }
    return false;
}

int ad_call_place_inputs(const Caller *self, call *call, PyObject *const *args) {
    for (int i = 0; i < self->n_inputs; i++) {
        int placed = place_input(self, call, i, args[i]);
        if (placed != 1) return placed;
    }
    return !(self->donates && overlapping(self, call));
}

static PyObject *new_array(const spec *spec) {
    PyArray_Descr *dtype = spec->dtype;
    Py_INCREF((PyObject *)dtype);
    if (spec->bytes < AD_PAGES_FROM)
        return PyArray_NewFromDescr(&PyArray_Type, dtype, spec->rank, spec->shape, NULL, NULL, 0, NULL);
    PyObject *usual = PyDataMem_SetHandler(ad_pages_handler);
    if (!usual) {
        Py_DECREF((PyObject *)dtype);
        return NULL;
    }
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, dtype, spec->rank, spec->shape, NULL, NULL, 0, NULL);
    PyObject *ours = PyDataMem_SetHandler(usual);
    Py_DECREF(usual);
    Py_XDECREF(ours);
    if (!ours) Py_CLEAR(array);
    return array;
}

PyObject *ad_call_place_outputs(const Caller *self, call *call, PyObject *const *args) {
    PyObject *results = PyTuple_New(self->n_outputs);
    for (int i = 0; results && i < self->n_outputs; i++) {
        const spec *spec = &self->specs[self->n_inputs + i];
        PyObject *array;
        if (spec->partner >= 0) {
            array = args[spec->partner];
            Py_INCREF(array);
        } else if (!spec->rank) {
            call->outputs[i] = call->scalars + (self->n_inputs + i) * SCALAR;
            continue;
        } else {
            array = new_array(spec);
        }
        if (!array) {
            Py_CLEAR(results);
            break;
        }
        call->outputs[i] = PyArray_DATA((PyArrayObject *)array);
        PyTuple_SetItem(results, i, array);
    }
    return results;
}

int ad_call_place_numbers(const Caller *self, const call *call, PyObject *results) {
    for (int i = 0; i < self->n_outputs; i++) {
        const spec *spec = &self->specs[self->n_inputs + i];
        if (spec->rank || spec->partner >= 0) continue;
        PyObject *number = PyArray_Scalar(call->outputs[i], spec->dtype, NULL);
        if (!number) return -1;
        PyTuple_SetItem(results, i, number);
    }
    return 0;
}

int ad_call_execute(const Caller *self, const call *call) {
    ad_status status;
    if (self->releases) {
        PyThreadState *state = PyEval_SaveThread();
        status = self->run(self->prepared, &call->run);
        PyEval_RestoreThread(state);
    } else {
        status = self->run(self->prepared, &call->run);
    }
    if (status == AD_OK) return 0;
    const ad_error *error = &call->error;
    PyObject *nothing = PyObject_CallFunction(
        self->fail, "IILLz", (unsigned)status, (unsigned)error->line, (long long)error->detail[0],
        (long long)error->detail[1], error->message);
    Py_XDECREF(nothing);
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_SystemError, "a plan failed, and nothing was raised");
    return -1;
}

void ad_call_drop_copies(const Caller *self, call *call) {
    if (!call->has_copies) return;
    for (int i = 0; i < self->n_inputs; i++) Py_CLEAR(call->copies[i]);
    call->has_copies = false;
}

