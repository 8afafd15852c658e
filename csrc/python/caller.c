#define AD_IMPORTS_NUMPY
#include "caller.h"

#include <string.h>

#include "pages.h"

PyDoc_STRVAR(run_doc,
             "run(*inputs)\n--\n\nThe results, a tuple; None if an input is not of the shape and dtype that the plan is for, or\n"
             "cannot be donated.");

PyObject *ad_caller_run(Caller *self, PyObject *const *args, Py_ssize_t n) {
    if (n != self->n_inputs)
        return PyErr_Format(PyExc_ValueError, "an executable of %d arguments got %zd", self->n_inputs, n);
    call *call = ad_call_take(self);
    if (!call) return NULL;
    int placed = ad_call_place_inputs(self, call, args);
    PyObject *results = placed == 1 ? ad_call_place_outputs(self, call, args) : NULL;
    if (results && (ad_call_execute(self, call) < 0 || ad_call_place_numbers(self, call, results) < 0)) Py_CLEAR(results);
    ad_call_drop_copies(self, call);
    ad_call_put(self, call);
    if (!placed) Py_RETURN_NONE;
    return results;
}

PyDoc_STRVAR(bind_doc,
             "bind(inputs, outputs, out)\n--\n\nA function without arguments that runs on these arrays, two tuples, and "
             "returns `out`.");

static PyObject *caller_bind(Caller *self, PyObject *args) {
    PyObject *inputs, *outputs, *out;
    if (!PyArg_ParseTuple(args, "O!O!O", &PyTuple_Type, &inputs, &PyTuple_Type, &outputs, &out)) return NULL;
    if (PyTuple_Size(inputs) != self->n_inputs || PyTuple_Size(outputs) != self->n_outputs)
        return PyErr_Format(PyExc_ValueError, "an executable of %d arguments and %d results got %zd and %zd",
                            self->n_inputs, self->n_outputs, PyTuple_Size(inputs), PyTuple_Size(outputs));
    PyObject *arrays = PySequence_Concat(inputs, outputs);
    PyObject *bound = arrays ? ad_bound_new(self, arrays, out) : NULL;
    Py_XDECREF(arrays);
    return bound;
}

/* ---- making callers ---- */

static bool read_spec(spec *spec, npy_intp **shapes, PyObject *shape, PyObject *dtype) {
    if (!PyArray_DescrCheck(dtype) || !PyTuple_Check(shape)) {
        PyErr_SetString(PyExc_TypeError, "an input or output is a shape, a dtype and more");
        return false;
    }
    spec->dtype = PyArray_DescrFromType(((PyArray_Descr *)dtype)->type_num); /* the one that most arrays have */
    if (!spec->dtype) return false;
    spec->rank = (int)PyTuple_Size(shape);
    spec->shape = *shapes;
    spec->bytes = (size_t)PyDataType_ELSIZE(spec->dtype);
    for (int d = 0; d < spec->rank; d++) {
        npy_intp size = PyLong_AsSsize_t(PyTuple_GetItem(shape, d));
        if (size == -1 && PyErr_Occurred()) return false;
        *(*shapes)++ = size;
        spec->bytes *= (size_t)size;
    }
    return true;
}

/* Inputs and outputs are tuples of (shape, dtype, whether it is a Python float, partner). */
static bool read_specs(Caller *self, PyObject *avals) {
    Py_ssize_t n = PyTuple_Size(avals), dims = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *shape = PyTuple_GetItem(PyTuple_GetItem(avals, i), 0);
        Py_ssize_t rank = shape ? PyTuple_Size(shape) : -1;
        if (rank < 0) return false;
        dims += rank;
    }
    self->specs = PyMem_Calloc((size_t)n + 1, sizeof(spec));
    npy_intp *shapes = self->shapes = PyMem_Calloc((size_t)dims + 1, sizeof(npy_intp));
    if (!self->specs || !shapes) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        spec *spec = &self->specs[i];
        PyObject *shape, *dtype;
        int is_float;
        if (!PyArg_ParseTuple(PyTuple_GetItem(avals, i), "OOpi", &shape, &dtype, &is_float, &spec->partner)) return false;
        if (!read_spec(spec, &shapes, shape, dtype)) return false;
        spec->is_float = is_float;
        self->donates |= spec->partner >= 0;
    }
    return true;
}

PyDoc_STRVAR(caller_doc,
             "Caller(*, run, prepared, keep, fail, inputs, outputs, workspace, pool, host, poll, context, releases)\n--\n\n"
             "A prepared plan as a function of arrays; functions and what C owns are given as addresses.");

static PyObject *caller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"run",  "prepared", "keep", "fail",    "inputs",   "outputs", "workspace",
                            "pool", "host",     "poll", "context", "releases", NULL};
    unsigned long long run, prepared, workspace, pool, host, poll, context;
    PyObject *keep, *fail, *inputs, *outputs;
    int releases;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KKOOO!O!KKKKKp", names, &run, &prepared, &keep, &fail, &PyTuple_Type,
                                     &inputs, &PyTuple_Type, &outputs, &workspace, &pool, &host, &poll, &context,
                                     &releases))
        return NULL;
    PyObject *avals = PySequence_Concat(inputs, outputs);
    Caller *self = avals ? PyObject_GC_New(Caller, type) : NULL;
    if (!self) {
        Py_XDECREF(avals);
        return NULL;
    }
    memset((char *)self + sizeof(PyObject), 0, sizeof *self - sizeof(PyObject));
    self->run = (ad_status(*)(const ad_prepared *, const ad_run *))(uintptr_t)run;
    self->prepared = (const ad_prepared *)(uintptr_t)prepared;
    self->pattern = (ad_run){
        .size = sizeof(ad_run),
        .workspace_size = workspace,
        .pool = (ad_pool *)(uintptr_t)pool,
        .host = (int (*)(void *, uint32_t, const void *const *, void *const *))(uintptr_t)host,
        .poll = (int (*)(void *))(uintptr_t)poll,
        .context = (void *)(uintptr_t)context,
    };
    self->releases = releases;
    self->n_inputs = (int)PyTuple_Size(inputs);
    self->n_outputs = (int)PyTuple_Size(outputs);
    Py_INCREF(keep);
    Py_INCREF(fail);
    self->keep = keep;
    self->fail = fail;
    PyObject_GC_Track(self);
    PyObject *made = (PyObject *)self;
    if (!read_specs(self, avals)) Py_CLEAR(made);
    Py_DECREF(avals);
    return made;
}

static int caller_traverse(Caller *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->keep);
    Py_VISIT(self->fail);
    return 0;
}

static void caller_dealloc(Caller *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack((PyObject *)self);
    for (int i = 0; i < MOST_IDLE; i++) ad_call_free(self->idle[i]);
    for (int i = 0; self->specs && i < self->n_inputs + self->n_outputs; i++) Py_XDECREF((PyObject *)self->specs[i].dtype);
    PyMem_Free(self->specs);
    PyMem_Free(self->shapes);
    Py_XDECREF(self->keep);
    Py_XDECREF(self->fail);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* ---- the module ---- */

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef caller_methods[] = {
    {"run", FUNCTION(ad_caller_run), METH_FASTCALL, run_doc},
    {"bind", FUNCTION(caller_bind), METH_VARARGS, bind_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot caller_slots[] = {
    {Py_tp_doc, (void *)caller_doc},
    {Py_tp_new, caller_new},
    {Py_tp_traverse, caller_traverse},
    {Py_tp_dealloc, caller_dealloc},
    {Py_tp_methods, caller_methods},
    {0, NULL},
};

static PyType_Spec caller_spec = {
    "autodiff._caller.Caller", sizeof(Caller), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, caller_slots,
};

static PyObject *idle_bytes(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    return PyLong_FromSize_t(ad_pages_idle());
}

static PyObject *trim(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    ad_pages_trim();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"idle_bytes", idle_bytes, METH_NOARGS, "idle_bytes()\n--\n\nMemory that is kept for large results and in no one's use."},
    {"trim", trim, METH_NOARGS, "trim()\n--\n\nGive such memory back to the system."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject *ad_caller_type;

static PyDataMem_Handler handler = {
    "autodiff_pages", 1, {NULL, ad_pages_malloc, ad_pages_calloc, ad_pages_realloc, ad_pages_free},
};

static int execute_module(PyObject *module) {
    import_array1(-1);
    ad_pages_handler = PyCapsule_New(&handler, "mem_handler", NULL);
    ad_caller_type = (PyTypeObject *)PyType_FromSpec(&caller_spec);
    ad_bound_type = (PyTypeObject *)PyType_FromSpec(&ad_bound_spec);
    PyTypeObject *entry_type = (PyTypeObject *)PyType_FromSpec(&ad_entry_spec);
    if (!ad_pages_handler || !ad_caller_type || !ad_bound_type || !entry_type) return -1;
    bool failed = PyModule_AddType(module, ad_caller_type) || PyModule_AddType(module, ad_bound_type) ||
                  PyModule_AddType(module, entry_type);
    Py_DECREF((PyObject *)entry_type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute_module},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_caller", "Calls of prepared plans.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__caller(void) { return PyModuleDef_Init(&definition); }
