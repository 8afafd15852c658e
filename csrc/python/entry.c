/* What users call: straight to a caller where arguments are arrays and nothing else, else to generated Python. */
#include "caller.h"

enum { MOST_DIRECT = 16 /* arguments */ };

typedef struct Entry {
    PyObject_HEAD
    PyObject *target; /* takes any arguments */
    Caller *direct;   /* is tried first on arguments by position; or NULL */
    bool single;      /* its only result is returned, not a tuple */
} Entry;

#ifndef Py_BEGIN_CRITICAL_SECTION /* the interpreter's lock does */
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* As the caller's run: None if it is not for these arguments. */
static PyObject *call_direct(Caller *direct, bool single, PyObject *args) {
    PyObject *items[MOST_DIRECT];
    for (int i = 0; i < direct->n_inputs; i++) items[i] = PyTuple_GetItem(args, i);
    PyObject *results = ad_caller_run(direct, items, direct->n_inputs);
    if (!single || !results || results == Py_None) return results;
    PyObject *result = PyTuple_GetItem(results, 0);
    Py_INCREF(result);
    Py_DECREF(results);
    return result;
}

static PyObject *entry_call(Entry *self, PyObject *args, PyObject *kwargs) {
    PyObject *target, *direct; /* held, since another thread may replace them meanwhile */
    bool single;
    Py_BEGIN_CRITICAL_SECTION((PyObject *)self);
    target = self->target;
    direct = (PyObject *)self->direct;
    single = self->single;
    Py_XINCREF(target);
    Py_XINCREF(direct);
    Py_END_CRITICAL_SECTION();
    PyObject *result = NULL;
    bool done = false;
    if (direct && !kwargs && PyTuple_Size(args) == ((Caller *)direct)->n_inputs) {
        result = call_direct((Caller *)direct, single, args);
        done = result != Py_None;
        if (!done) Py_DECREF(result);
    }
    if (!done && target) result = PyObject_Call(target, args, kwargs);
    if (!done && !target) result = PyErr_Format(PyExc_TypeError, "this object leads nowhere yet");
    Py_XDECREF(direct);
    Py_XDECREF(target);
    return result;
}

PyDoc_STRVAR(lead_doc,
             "_lead(target, direct, single)\n--\n\nLead calls to `target`; those by position to the Caller `direct` first, "
             "if it is not None, whose\nresults are a tuple or a `single` one.");

static PyObject *entry_lead(Entry *self, PyObject *args) {
    PyObject *target, *direct;
    int single;
    if (!PyArg_ParseTuple(args, "OOp", &target, &direct, &single)) return NULL;
    if (direct != Py_None && !PyObject_TypeCheck(direct, ad_caller_type))
        return PyErr_Format(PyExc_TypeError, "direct is a Caller or None");
    bool usable = direct != Py_None && ((Caller *)direct)->n_inputs <= MOST_DIRECT &&
                  (!single || ((Caller *)direct)->n_outputs == 1);
    PyObject *old_target, *old_direct;
    Py_INCREF(target);
    if (usable) Py_INCREF(direct);
    Py_BEGIN_CRITICAL_SECTION((PyObject *)self);
    old_target = self->target;
    old_direct = (PyObject *)self->direct;
    self->target = target;
    self->direct = usable ? (Caller *)direct : NULL;
    self->single = single;
    Py_END_CRITICAL_SECTION();
    Py_XDECREF(old_target);
    Py_XDECREF(old_direct);
    Py_RETURN_NONE;
}

static int entry_traverse(Entry *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE((PyObject *)self));
    Py_VISIT(self->target);
    Py_VISIT((PyObject *)self->direct);
    return 0;
}

static int entry_clear(Entry *self) {
    PyObject *direct = (PyObject *)self->direct;
    self->direct = NULL;
    Py_XDECREF(direct);
    Py_CLEAR(self->target);
    return 0;
}

static void entry_dealloc(Entry *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyObject_GC_UnTrack((PyObject *)self);
    entry_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF((PyObject *)type);
}

static PyMethodDef entry_methods[] = {
    {"_lead", (PyCFunction)(void (*)(void))entry_lead, METH_VARARGS, lead_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(entry_doc, "An object whose calls lead to a Caller or to a function.");

static PyType_Slot entry_slots[] = {
    {Py_tp_doc, (void *)entry_doc},
    {Py_tp_call, entry_call},
    {Py_tp_traverse, entry_traverse},
    {Py_tp_clear, entry_clear},
    {Py_tp_dealloc, entry_dealloc},
    {Py_tp_methods, entry_methods},
    {0, NULL},
};

PyType_Spec ad_entry_spec = {
    "autodiff._caller.Entry", sizeof(Entry), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, entry_slots,
};
