/* channel.c: one endpoint, bound with the verbs of its side; a turn over it. */
#include "hotpath.h"

#include <stdlib.h>

#define LET_GO 64 /* turns */
#define RESTS 16

static void unbind(PyObject *capsule)
{
    struct channel *c = PyCapsule_GetPointer(capsule, NULL);
    Py_XDECREF(c->owners);
    free(c);
}

/* channel(endpoint, body, verbs, owners) -> capsule; addresses, but for the last */
PyObject *fc_hot_channel(PyObject *self, PyObject *args)
{
    unsigned long long ep, body, give, glance, resume, exchange, attach;
    PyObject *owners;
    (void)self;
    if (!PyArg_ParseTuple(args, "KK(KKKKK)O", &ep, &body, &give, &glance, &resume, &exchange, &attach, &owners))
        return NULL;
    struct channel *c = malloc(sizeof *c);
    if (!c)
        return PyErr_NoMemory();
    *c = (struct channel){.ep = (struct fc_endpoint *)(uintptr_t)ep, .body = (const char *)(uintptr_t)body,
                          .give = (sender)(uintptr_t)give, .glance = (verb)(uintptr_t)glance,
                          .resume = (verb)(uintptr_t)resume, .exchange = (sender)(uintptr_t)exchange,
                          .attach = (attacher)(uintptr_t)attach, .turns = LET_GO};
    PyObject *capsule = PyCapsule_New(c, NULL, unbind);
    if (!capsule) {
        free(c);
        return NULL;
    }
    Py_INCREF(owners);
    c->owners = owners;
    return capsule;
}

int fc_hot_bytes(PyObject *argument, char **body, Py_ssize_t *len)
{
    if (PyBytes_AsStringAndSize(argument, body, len) < 0)
        return -1;
    if (*len <= UINT32_MAX)
        return 0;
    PyErr_SetString(PyExc_OverflowError, "a body of more than 4 GiB");
    return -1;
}

/* Give a turn and wait for the next: the core's result, or INT64_MIN and an exception. The `n` objects that the turn is
 * `done` with are freed meanwhile, `bytes` perhaps among them; while the GIL is not held they stay. */
int64_t fc_hot_exchange(struct channel *c, uint64_t what, PyObject *bytes, PyObject **done, int n)
{
    char *body;
    Py_ssize_t len;
    if (fc_hot_bytes(bytes, &body, &len) < 0)
        return INT64_MIN;
    int64_t result = ASLEEP;
    int32_t turns = __atomic_load_n(&c->turns, __ATOMIC_RELAXED); /* only the verb refuses a second thread */
    if (turns > 0 && (result = c->give(c->ep, what, body, (uint32_t)len)) == TICK) {
        turns--;
        for (int i = 0; i < n; i++)
            Py_CLEAR(done[i]);
        if ((result = c->glance(c->ep)) == TICK) {
            turns = -RESTS;
            Py_BEGIN_ALLOW_THREADS
            result = c->resume(c->ep);
            Py_END_ALLOW_THREADS
        }
    } else if (result == ASLEEP) {
        turns = turns < 0 ? turns + 1 : LET_GO;
        Py_BEGIN_ALLOW_THREADS
        result = c->exchange(c->ep, what, body, (uint32_t)len);
        Py_END_ALLOW_THREADS
    }
    __atomic_store_n(&c->turns, turns, __ATOMIC_RELAXED);
    return result;
}

PyObject *fc_hot_plain_body(const struct channel *c, int64_t result)
{
    return PyBytes_FromStringAndSize(c->body, (Py_ssize_t)(result & PLAIN_MAX)); /* a private copy */
}

/* What a call came to: of a plain reply its body, of all else the core's result. */
PyObject *fc_hot_outcome(const struct channel *c, int64_t result)
{
    if (result >= 0 && result <= PLAIN_MAX)
        return fc_hot_plain_body(c, result);
    return result == INT64_MIN ? NULL : PyLong_FromLongLong(result);
}

PyDoc_STRVAR(call_doc, "call(what, body) -> body of a plain reply, or the result of fc_call");

static PyObject *call(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    struct channel *c = PyCapsule_GetPointer(self, NULL);
    if (n != 2) {
        PyErr_SetString(PyExc_TypeError, "call() takes what and body");
        return NULL;
    }
    uint64_t what = PyLong_AsUnsignedLongLong(args[0]);
    if (what == UINT64_MAX && PyErr_Occurred())
        return NULL;
    return fc_hot_outcome(c, fc_hot_exchange(c, what, args[1], NULL, 0));
}

static PyMethodDef verb_call = {"call", (PyCFunction)(void (*)(void))call, METH_FASTCALL, call_doc};

/* caller(channel) -> call */
PyObject *fc_hot_caller(PyObject *self, PyObject *capsule)
{
    (void)self;
    return PyCapsule_IsValid(capsule, NULL) ? PyCFunction_NewEx(&verb_call, capsule, NULL)
                                            : PyErr_Format(PyExc_TypeError, "not a channel");
}

/* The channel of what caller() made; NULL and an exception for anything else. */
struct channel *fc_hot_called(PyObject *verb)
{
    if (PyCFunction_CheckExact(verb) && PyCFunction_GetFunction(verb) == (PyCFunction)(void (*)(void))call)
        return PyCapsule_GetPointer(PyCFunction_GetSelf(verb), NULL);
    PyErr_SetString(PyExc_TypeError, "not a channel's call");
    return NULL;
}
