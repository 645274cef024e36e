/* needs.c: what a builtin needs of Python, held where the collector sees it; and how Python is called. */
#include "hotpath.h"

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; i < MOST; i++)
        Py_VISIT(((struct needs *)self)->of[i]);
    return 0;
}

static int clear(PyObject *self)
{
    for (int i = 0; i < MOST; i++)
        Py_CLEAR(((struct needs *)self)->of[i]);
    return 0;
}

static void dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot needs_slots[] = {{Py_tp_traverse, traverse}, {Py_tp_clear, clear}, {Py_tp_dealloc, dealloc}, {0}};
PyType_Spec fc_hot_needs = {"flipcall._fast.Needs", sizeof(struct needs), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, needs_slots};

/* The builtin `verb`, needing the items of the tuple `objects`. */
PyObject *fc_hot_builtin(PyObject *module, PyMethodDef *verb, uint64_t what, Py_ssize_t count, PyObject *objects, int n)
{
    PyTypeObject **type = PyModule_GetState(module);
    if (PyTuple_Size(objects) != n)
        return PyErr_Format(PyExc_TypeError, "%s needs %d objects", verb->ml_name, n);
    struct needs *self = PyObject_GC_New(struct needs, *type);
    if (!self)
        return NULL;
    self->what = what;
    self->count = count;
    for (int i = 0; i < MOST; i++)
        Py_XINCREF(self->of[i] = i < n ? PyTuple_GetItem(objects, i) : NULL);
    PyObject_GC_Track((PyObject *)self);
    PyObject *made = PyCFunction_NewEx(verb, (PyObject *)self, NULL);
    Py_DECREF(self);
    return made;
}

PyObject *fc_hot_call1(PyObject *function, PyObject *argument)
{
    return PyObject_CallFunctionObjArgs(function, argument, NULL);
}

/* The exception that is set, taken; as `except` binds it. */
PyObject *fc_hot_caught(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}
