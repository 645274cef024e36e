/* serve.c: the server: a channel's loop, as long as requests are plain. A result of bulk kind is an attachment, sent from
 * here if it is bytes. */
#include "hotpath.h"

#include <stdbool.h>

enum serve_needs {
    CHANNEL, /* its capsule */
    PLAIN,   /* list by method's number: dispatch.Way, None where Python does it */
    ENCODED, /* result -> bytes */
    SERVE_NEEDS
};
enum way { DECODE, HANDLER, BULK_RESULT };
enum why { UNDECODABLE, FAILED, LARGE, BULK };

/* What to tell in place of an answer; takes `value`, or the exception that is set. */
static PyObject *unanswered(enum why why, long number, PyObject *value)
{
    return Py_BuildValue("(ilN)", (int)why, number, value ? value : fc_hot_caught());
}

/* Answer with a result of bulk kind: the next request's result; TOO_BIG where Python does it, control being here. */
static int64_t attached(struct channel *c, PyObject *value)
{
    char *data;
    Py_ssize_t len;
    int64_t next;
    if (!PyBytes_CheckExact(value))
        return TOO_BIG;
    if (PyBytes_AsStringAndSize(value, &data, &len) < 0)
        return INT64_MIN;
    if (len > UINT32_MAX)
        return TOO_BIG;
    Py_BEGIN_ALLOW_THREADS
    next = c->attach(c->ep, 0, "", 0, data, (uint32_t)len);
    Py_END_ALLOW_THREADS
    return next;
}

/* Answer one plain request by its `way`, and wait for the next: its result; or INT64_MIN, and `other` is what to tell. */
static int64_t answered(struct needs *s, struct channel *c, int64_t request, PyObject *way, PyObject **other)
{
    enum { ARGS, VALUE, OUT, TURN };
    PyObject *turn[TURN] = {NULL}, *body = fc_hot_plain_body(c, request);
    long number = (long)(request >> CODE_SHIFT);
    int64_t next = INT64_MIN;
    bool bulk = PyTuple_GetItem(way, BULK_RESULT) == Py_True;
    turn[ARGS] = body ? fc_hot_call1(PyTuple_GetItem(way, DECODE), body) : NULL;
    Py_XDECREF(body);
    if (turn[ARGS] && (turn[VALUE] = PyObject_Call(PyTuple_GetItem(way, HANDLER), turn[ARGS], NULL))) {
        if (bulk)
            next = attached(c, turn[VALUE]);
        else if ((turn[OUT] = fc_hot_call1(s->of[ENCODED], turn[VALUE])))
            next = fc_hot_exchange(c, 0, turn[OUT], turn, TURN);
    }
    if (next == TOO_BIG) {
        PyObject **left = bulk ? &turn[VALUE] : &turn[OUT];
        *other = unanswered(bulk ? BULK : LARGE, number, *left);
        *left = NULL;
        next = INT64_MIN;
    } else if (next == INT64_MIN)
        *other = unanswered(turn[ARGS] ? FAILED : UNDECODABLE, number, NULL);
    for (int i = 0; i < TURN; i++)
        Py_XDECREF(turn[i]);
    return next;
}

PyDoc_STRVAR(serve_doc, "serve(request) -> result, once it is no plain request that was answered here; or, of one that was "
                        "not answered, (why, number, its exception, or its result or the bytes of that)");

static PyObject *serve(PyObject *self, PyObject *argument)
{
    struct needs *s = (struct needs *)self;
    struct channel *c = PyCapsule_GetPointer(s->of[CHANNEL], NULL);
    int64_t request = PyLong_AsLongLong(argument);
    if (request == -1 && PyErr_Occurred())
        return NULL;
    while (request >= 0 && request >> CODE_SHIFT < s->count) { /* with whatever else a frame has it is no method's number */
        PyObject *other = NULL, *way = PySequence_GetItem(s->of[PLAIN], (Py_ssize_t)(request >> CODE_SHIFT));
        if (!way)
            return NULL;
        bool plain = way != Py_None;
        if (plain)
            request = answered(s, c, request, way, &other);
        Py_DECREF(way);
        if (request == INT64_MIN)
            return other;
        if (!plain)
            break;
    }
    return PyLong_FromLongLong(request);
}

static PyMethodDef verb_serve = {"serve", serve, METH_O, serve_doc};

/* server(count, objects) -> serve, for `count` methods; objects: enum serve_needs */
PyObject *fc_hot_server(PyObject *self, PyObject *args)
{
    Py_ssize_t count;
    PyObject *objects;
    if (!PyArg_ParseTuple(args, "nO!", &count, &PyTuple_Type, &objects))
        return NULL;
    return fc_hot_builtin(self, &verb_serve, 0, count, objects, SERVE_NEEDS);
}
