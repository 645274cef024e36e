/* stub.c: the client: a method's stub. */
#include "hotpath.h"

enum stub_needs {
    FREE_POP,    /* the pool's channels that are free: take one */
    FREE_APPEND, /* give it back */
    WAITERS,     /* who waits for one */
    NOTIFY,
    ENCODE,
    DECODE,
    BIND,      /* (args, kwargs) -> arguments, where they are not all given, by position */
    LATE,      /* (body) -> result, where take() has none */
    FINISH,    /* (channel, what came, body) -> result, where that is no plain reply */
    GARBLED,   /* (exception), raises: what decoding a reply raised */
    WATCHED,   /* empty: a free channel may be taken at once */
    REFUSED,   /* else: () -> whether none may be taken */
    CALL,      /* "call": the attribute of what the pool holds that is a channel's call */
    STUB_NEEDS
};

/* A free channel; NULL without an exception where there is none, or none is to be taken. */
static PyObject *take(struct needs *s)
{
    Py_ssize_t refused = PyObject_Size(s->of[WATCHED]);
    if (refused > 0) {
        PyObject *other = PyObject_CallNoArgs(s->of[REFUSED]);
        refused = other ? PyObject_IsTrue(other) : -1;
        Py_XDECREF(other);
    }
    if (refused)
        return NULL;
    PyObject *taken = PyObject_CallNoArgs(s->of[FREE_POP]);
    if (!taken && PyErr_ExceptionMatches(PyExc_IndexError))
        PyErr_Clear();
    return taken;
}

/* As stub.py does after a call: to whoever waits for one. */
static int give_back(struct needs *s, PyObject *taken)
{
    PyObject *given = fc_hot_call1(s->of[FREE_APPEND], taken);
    if (!given)
        return -1;
    Py_DECREF(given);
    Py_ssize_t waiting = PyObject_Size(s->of[WAITERS]);
    if (waiting <= 0)
        return (int)waiting;
    PyObject *told = PyObject_CallNoArgs(s->of[NOTIFY]);
    Py_XDECREF(told);
    return told ? 0 : -1;
}

static PyObject *decoded(struct needs *s, PyObject *reply)
{
    PyObject *result = fc_hot_call1(s->of[DECODE], reply);
    if (result)
        return result;
    PyObject *error = fc_hot_caught();
    result = fc_hot_call1(s->of[GARBLED], error);
    Py_DECREF(error);
    return result;
}

/* The channel of what was taken from the pool, which owns it. */
static struct channel *channel_of(struct needs *s, PyObject *taken)
{
    PyObject *verb = PyObject_GetAttr(taken, s->of[CALL]);
    struct channel *found = verb ? fc_hot_called(verb) : NULL;
    Py_XDECREF(verb);
    return found;
}

/* The same, an exception being set, which stays. */
static PyObject *give_back_failed(struct needs *s, PyObject *taken)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (give_back(s, taken) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    return NULL;
}

/* Ask and get the answer over the channel `taken`, and give that back. `given` is freed while the server works. */
static PyObject *asked(struct needs *s, PyObject *taken, PyObject *body, PyObject **given)
{
    struct channel *c = channel_of(s, taken);
    PyObject *reply = c ? fc_hot_outcome(c, fc_hot_exchange(c, s->what, body, given, 1)) : NULL, *result = NULL;
    if (!reply)
        return give_back_failed(s, taken);
    if (!PyBytes_CheckExact(reply))
        result = PyObject_CallFunctionObjArgs(s->of[FINISH], taken, reply, body, NULL);
    else if (give_back(s, taken) == 0)
        result = decoded(s, reply);
    Py_DECREF(reply);
    return result;
}

static PyObject *bound(struct needs *s, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *given = PyTuple_New(n), *named = NULL, *all = NULL;
    if (!given)
        return NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(given, i, args[i]);
    }
    if (n == s->count && !names)
        return given;
    Py_ssize_t named_n = names ? PyTuple_Size(names) : 0;
    if ((named = PyDict_New())) {
        Py_ssize_t i = 0;
        while (i < named_n && PyDict_SetItem(named, PyTuple_GetItem(names, i), args[n + i]) == 0)
            i++;
        if (i == named_n)
            all = PyObject_CallFunctionObjArgs(s->of[BIND], given, named, NULL);
    }
    Py_DECREF(given);
    Py_XDECREF(named);
    return all;
}

/* With the signature that `inspect` reads: a wrapper of a client's methods may ask for it. */
PyDoc_STRVAR(stub_doc, "stub($self, /, *args, **kwargs)\n--\n\nA call of the server's method.");

static PyObject *stub(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    struct needs *s = (struct needs *)self;
    PyObject *given = bound(s, args, n, names);
    PyObject *body = given ? fc_hot_call1(s->of[ENCODE], given) : NULL, *taken = body ? take(s) : NULL, *result = NULL;
    if (taken)
        result = asked(s, taken, body, &given);
    else if (!PyErr_Occurred())
        result = fc_hot_call1(s->of[LATE], body);
    Py_XDECREF(taken);
    Py_XDECREF(body);
    Py_XDECREF(given);
    return result;
}

static PyMethodDef verb_stub = {"stub", (PyCFunction)(void (*)(void))stub, METH_FASTCALL | METH_KEYWORDS, stub_doc};

/* stub(what, count, objects) -> stub of a method that has `count` arguments by position (-1: it may not be called by
 * position alone); objects: enum stub_needs */
PyObject *fc_hot_stub(PyObject *self, PyObject *args)
{
    unsigned long long what;
    Py_ssize_t count;
    PyObject *objects;
    if (!PyArg_ParseTuple(args, "KnO!", &what, &count, &PyTuple_Type, &objects))
        return NULL;
    return fc_hot_builtin(self, &verb_stub, what, count, objects, STUB_NEEDS);
}
