/* module.c: flipcall._fast. */
#include "hotpath.h"

static PyMethodDef functions[] = {
    {"channel", fc_hot_channel, METH_VARARGS, "channel(endpoint, body, verbs, owners) -> capsule; addresses, but for the last"},
    {"caller", fc_hot_caller, METH_O, "caller(channel) -> call"},
    {"stub", fc_hot_stub, METH_VARARGS, "stub(what, count, objects) -> stub of a method"},
    {"server", fc_hot_server, METH_VARARGS, "server(count, objects) -> serve, for `count` methods"},
    {"stream", fc_hot_stream, METH_VARARGS, "stream(endpoint, window, verbs, received, early, encode, owners) -> give, take"},
    {0},
};

static int exec(PyObject *module)
{
    PyObject **type = PyModule_GetState(module);
    return (*type = PyType_FromSpec(&fc_hot_needs)) ? 0 : -1;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    Py_VISIT(*(PyObject **)PyModule_GetState(module));
    return 0;
}

static int module_clear(PyObject *module)
{
    PyObject **type = PyModule_GetState(module);
    Py_CLEAR(*type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_fast", .m_doc = "The hot path (flipcall/fast.py binds it).",
    .m_size = sizeof(PyObject *), .m_methods = functions, .m_slots = slots,
    .m_traverse = module_traverse, .m_clear = module_clear,
};

PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&module);
}
