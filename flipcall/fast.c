/* fast.c: the two verbs of the hot path as builtins of CPython: flipcall._fast.
 *
 * A typed call makes one call into the C core on each side. Through cffi each costs its argument tuple, the result as
 * an int, and a second call to copy the body into a bytes object; together more than the flip itself (docs/design.md).
 * Here the arguments are taken as they lie (METH_FASTCALL) and the body's bytes object is made at once, the same one
 * private copy. What is not plain comes back as the core's int, and takes the way through cffi as ever.
 *
 * It is no second core: cffi's module gives the addresses of the functions, so that there is one generation count, one
 * set of spinners. A builtin is bound to one endpoint, and holds what keeps endpoint and window alive.
 *
 * Concurrency: as of the verb. fc_enter refuses a second thread, with FC_ERR_BUSY as the result. */
#define PY_SSIZE_T_CLEAN
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030a0000 /* METH_FASTCALL is in the stable ABI since 3.10 */
#endif
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>

struct fc_endpoint;

#define PLAIN_MAX 0xffffffffll /* a result up to here is the length of a body, code 0, and nothing else */
#define CODE_SHIFT 32          /* FC_FRAME_CODE_SHIFT; a test holds the two together */

typedef int64_t (*call_verb)(struct fc_endpoint *, uint64_t what, const char *body, uint32_t body_len);
typedef int64_t (*reply_verb)(struct fc_endpoint *, uint32_t status, const char *body, uint32_t body_len);

/* One endpoint, and the verb on it. */
struct bound {
    struct fc_endpoint *ep;
    const char *body; /* where a plain frame's body starts in the window */
    union {
        call_verb call;
        reply_verb reply;
    } verb;
    PyObject *owners;
};

static void unbind(PyObject *capsule)
{
    struct bound *b = PyCapsule_GetPointer(capsule, NULL);
    Py_XDECREF(b->owners);
    free(b);
}

static int body_of(PyObject *argument, char **body, Py_ssize_t *len)
{
    if (PyBytes_AsStringAndSize(argument, body, len) < 0)
        return -1;
    if (*len <= UINT32_MAX)
        return 0;
    PyErr_SetString(PyExc_OverflowError, "a body of more than 4 GiB");
    return -1;
}

PyDoc_STRVAR(call_doc, "call(what, body) -> body of a plain reply, or the result of fc_call");

static PyObject *call(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct bound *b = PyCapsule_GetPointer(self, NULL);
    char *body;
    Py_ssize_t len;
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "call() takes what and body");
        return NULL;
    }
    uint64_t what = PyLong_AsUnsignedLongLong(args[0]);
    if ((what == UINT64_MAX && PyErr_Occurred()) || body_of(args[1], &body, &len) < 0)
        return NULL;
    int64_t result;
    Py_BEGIN_ALLOW_THREADS
    result = b->verb.call(b->ep, what, body, (uint32_t)len);
    Py_END_ALLOW_THREADS
    if (result >= 0 && result <= PLAIN_MAX)
        return PyBytes_FromStringAndSize(b->body, (Py_ssize_t)result);
    return PyLong_FromLongLong(result);
}

PyDoc_STRVAR(reply_doc, "reply(number, body) -> body of a plain request for method `number` (the one just answered: the "
                        "next is most often for it again), or the result of fc_reply_request");

static PyObject *reply(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct bound *b = PyCapsule_GetPointer(self, NULL);
    char *body;
    Py_ssize_t len;
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "reply() takes number and body");
        return NULL;
    }
    long number = PyLong_AsLong(args[0]);
    if ((number == -1 && PyErr_Occurred()) || body_of(args[1], &body, &len) < 0)
        return NULL;
    int64_t result;
    Py_BEGIN_ALLOW_THREADS
    result = b->verb.reply(b->ep, 0, body, (uint32_t)len);
    Py_END_ALLOW_THREADS
    if (result >= 0 && result >> CODE_SHIFT == number) /* with whatever else a frame has it is no method's number */
        return PyBytes_FromStringAndSize(b->body, (Py_ssize_t)(result & PLAIN_MAX));
    return PyLong_FromLongLong(result);
}

static PyMethodDef verbs[] = {
    {"call", (PyCFunction)(void (*)(void))call, METH_FASTCALL, call_doc},
    {"reply", (PyCFunction)(void (*)(void))reply, METH_FASTCALL, reply_doc},
    {0},
};

/* (verb's address, endpoint's, body's, what keeps them) */
static PyObject *bound(PyMethodDef *verb, PyObject *args)
{
    unsigned long long address, ep, body;
    PyObject *owners;
    if (!PyArg_ParseTuple(args, "KKKO", &address, &ep, &body, &owners))
        return NULL;
    struct bound *b = malloc(sizeof *b);
    if (!b)
        return PyErr_NoMemory();
    *b = (struct bound){.ep = (struct fc_endpoint *)(uintptr_t)ep, .body = (const char *)(uintptr_t)body};
    if (verb == &verbs[0])
        b->verb.call = (call_verb)(uintptr_t)address;
    else
        b->verb.reply = (reply_verb)(uintptr_t)address;
    PyObject *capsule = PyCapsule_New(b, NULL, unbind);
    if (!capsule) {
        free(b);
        return NULL;
    }
    Py_INCREF(owners);
    b->owners = owners;
    PyObject *made = PyCFunction_NewEx(verb, capsule, NULL);
    Py_DECREF(capsule);
    return made;
}

PyDoc_STRVAR(caller_doc, "caller(fc_call, endpoint, body, owners) -> call; addresses");

static PyObject *caller(PyObject *self, PyObject *args)
{
    (void)self;
    return bound(&verbs[0], args);
}

PyDoc_STRVAR(replier_doc, "replier(fc_reply_request, endpoint, body, owners) -> reply; addresses");

static PyObject *replier(PyObject *self, PyObject *args)
{
    (void)self;
    return bound(&verbs[1], args);
}

static PyMethodDef functions[] = {
    {"caller", caller, METH_VARARGS, caller_doc},
    {"replier", replier, METH_VARARGS, replier_doc},
    {0},
};

static PyModuleDef_Slot slots[] = {
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "_fast", .m_doc = "The hot path's verbs (flipcall/fast.py binds them).",
    .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&module);
}
