/* items.c: a stream's items over one endpoint: give one, take those that have come. What is out of the ordinary (a full
 * window, a consumer that stopped, ticks, control, errors) is left to Python (flow.py), as everywhere here.
 *
 * The GIL is held while an item is given: nothing of that waits (core/items.c). It is let go while some are waited for. */
#include "hotpath.h"

#include <stdlib.h>

typedef int (*publisher)(struct fc_endpoint *, const char *item, uint32_t len);

struct stream {
    struct fc_endpoint *ep;
    const char *window;
    publisher publish; /* fc_publish */
    verb take;         /* fc_take */
    const uint32_t *off, *len; /* where in the window the items lie that it took: of ep->received */
    int64_t early;             /* its result when it took items and nothing else */
    PyObject *owners;
};

static void unbind(PyObject *capsule)
{
    struct stream *s = PyCapsule_GetPointer(capsule, NULL);
    Py_XDECREF(s->owners);
    free(s);
}

PyDoc_STRVAR(take_doc, "take() -> items that have come, as one msgpack array, or the result of fc_take");

static PyObject *take(PyObject *self, PyObject *nothing)
{
    const struct stream *s = PyCapsule_GetPointer(self, NULL);
    int64_t result;
    (void)nothing;
    Py_BEGIN_ALLOW_THREADS
    result = s->take(s->ep);
    Py_END_ALLOW_THREADS
    if (result == s->early)
        return PyBytes_FromStringAndSize(s->window + *s->off, (Py_ssize_t)*s->len); /* a private copy */
    return PyLong_FromLongLong(result);
}

enum give_needs {
    STREAM, /* its capsule */
    ENCODE, /* item -> bytes */
    GIVE_NEEDS
};

PyDoc_STRVAR(give_doc, "give(item) -> True when the peer has it; else the result of fc_publish and the item's bytes");

static PyObject *give(PyObject *self, PyObject *item)
{
    struct needs *n = (struct needs *)self;
    const struct stream *s = PyCapsule_GetPointer(n->of[STREAM], NULL);
    PyObject *encoded = fc_hot_call1(n->of[ENCODE], item);
    char *bytes;
    Py_ssize_t len;
    if (!encoded || fc_hot_bytes(encoded, &bytes, &len) < 0) {
        Py_XDECREF(encoded);
        return NULL;
    }
    int result = s->publish(s->ep, bytes, (uint32_t)len);
    if (result)
        return Py_BuildValue("(iN)", result, encoded);
    Py_DECREF(encoded);
    Py_RETURN_TRUE;
}

static PyMethodDef verb_take = {"take", take, METH_NOARGS, take_doc};
static PyMethodDef verb_give = {"give", give, METH_O, give_doc};

/* stream(endpoint, window, (publish, take), (off, len), early, encode, owners) -> give, take; the first four are addresses */
PyObject *fc_hot_stream(PyObject *module, PyObject *args)
{
    unsigned long long ep, window, publish, taker, off, len;
    long long early;
    PyObject *encode, *owners;
    if (!PyArg_ParseTuple(args, "KK(KK)(KK)LOO", &ep, &window, &publish, &taker, &off, &len, &early, &encode, &owners))
        return NULL;
    struct stream *s = malloc(sizeof *s);
    if (!s)
        return PyErr_NoMemory();
    *s = (struct stream){.ep = (struct fc_endpoint *)(uintptr_t)ep, .window = (const char *)(uintptr_t)window,
                         .publish = (publisher)(uintptr_t)publish, .take = (verb)(uintptr_t)taker,
                         .off = (const uint32_t *)(uintptr_t)off, .len = (const uint32_t *)(uintptr_t)len, .early = early};
    PyObject *capsule = PyCapsule_New(s, NULL, unbind);
    if (!capsule) {
        free(s);
        return NULL;
    }
    Py_INCREF(owners);
    s->owners = owners;
    PyObject *objects = PyTuple_Pack(GIVE_NEEDS, capsule, encode);
    PyObject *gives = objects ? fc_hot_builtin(module, &verb_give, 0, 0, objects, GIVE_NEEDS) : NULL;
    PyObject *takes = PyCFunction_NewEx(&verb_take, capsule, NULL);
    Py_XDECREF(objects);
    Py_DECREF(capsule);
    if (gives && takes)
        return Py_BuildValue("(NN)", gives, takes);
    Py_XDECREF(gives);
    Py_XDECREF(takes);
    return NULL;
}
