/* Executables with the arrays that they run on. */
#include "caller.h"

typedef struct Bound {
    PyObject_HEAD
    Caller *caller;
    call *call;
    PyObject *arrays; /* a tuple: inputs, then outputs */
    PyObject *out;
    atomic_bool busy;
} Bound;

PyTypeObject *ad_bound_type;

PyObject *ad_bound_new(Caller *caller, PyObject *arrays, PyObject *out) {
    Bound *bound = PyObject_GC_New(Bound, ad_bound_type);
    if (!bound) return NULL;
    Py_INCREF((PyObject *)caller);
    Py_INCREF(arrays);
    Py_INCREF(out);
    bound->caller = caller;
    bound->arrays = arrays;
    bound->out = out;
    atomic_init(&bound->busy, false);
    bound->call = ad_call_new(caller);
    PyObject *object = (PyObject *)bound;
    PyObject_GC_Track(object);
    if (!bound->call) Py_CLEAR(object);
    return object;
}

/* Arrays may have been given another shape or memory since they were bound. */
static bool place_bound(const Bound *self) {
    const Caller *caller = self->caller;
    void **places = self->call->inputs; /* the outputs' follow */
    for (int i = 0; i < caller->n_inputs + caller->n_outputs; i++) {
        PyObject *x = PyTuple_GetItem(self->arrays, i);
        PyArrayObject *array = (PyArrayObject *)x;
        bool writes = i >= caller->n_inputs || caller->specs[i].partner >= 0;
        if (!PyArray_CheckExact(x) || !ad_fits(array, &caller->specs[i]) || !ad_behaved(array)) return false;
        if (writes && !PyArray_ISWRITEABLE(array)) return false;
        places[i] = PyArray_DATA(array);
    }
    return true;
}

static PyObject *bound_call(Bound *self, PyObject *args, PyObject *kwargs) {
    if (PyTuple_Size(args) || (kwargs && PyDict_Size(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "a bound executable takes no arguments: write to the arrays it is bound to");
        return NULL;
    }
    if (atomic_exchange_explicit(&self->busy, true, memory_order_acquire)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a bound executable is being run already: its arrays are for one run at a time, so bind one "
                        "for each thread");
        return NULL;
    }
    PyObject *out = NULL;
    if (!place_bound(self))
        PyErr_SetString(PyExc_ValueError, "an array was given another shape, dtype or memory since it was bound");
    else if (ad_call_execute(self->caller, self->call) == 0)
        out = self->out;
    atomic_store_explicit(&self->busy, false, memory_order_release);
    Py_XINCREF(out);
    return out;
}

static PyObject *bound_out(Bound *self, void *closure) {
    (void)closure;
    Py_INCREF(self->out);
    return self->out;
}

static int bound_traverse(Bound *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT((PyObject *)self->caller);
    Py_VISIT(self->arrays);
    Py_VISIT(self->out);
    return 0;
}

static void bound_dealloc(Bound *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack((PyObject *)self);
    ad_call_free(self->call);
    Py_XDECREF((PyObject *)self->caller);
    Py_XDECREF(self->arrays);
    Py_XDECREF(self->out);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(bound_doc, "An executable with its arrays: called without arguments it runs on them and returns `out`.");

static PyGetSetDef bound_getset[] = {
    {"out", (getter)bound_out, NULL, "What a call returns: the arrays that results are written to.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_doc, (void *)bound_doc},
    {Py_tp_call, bound_call},
    {Py_tp_traverse, bound_traverse},
    {Py_tp_dealloc, bound_dealloc},
    {Py_tp_getset, bound_getset},
    {0, NULL},
};

PyType_Spec ad_bound_spec = {
    "autodiff._caller.Bound", sizeof(Bound), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, bound_slots,
};

