/* fast.c: the hot path as builtins of CPython: flipcall._fast.
 *
 * A plain call, both sides being awake, never leaves C but for its handler:
 *
 *     client  stub(a, b) ─ encode ─ take a channel ─ GIVE … back ─ give the channel back ─ decode ─► result
 *     server  ┌► decode ─ handler(*args) ─ encode ─ GIVE … back ─┐
 *             └──────────────────────────────────────────────────┘ serve(request) ─► what is not plain
 *
 * In Python each of these steps costs its bytecodes, and each call of the core through cffi its argument tuple and its
 * result as an int: together more than the flip itself (docs/design.md). What is not plain (keywords, a pool that is
 * used up, errors, ticks, attachments) is left to Python, which is given what has come so far (stub.py, serving.py).
 *
 * The GIL (exchange). To let it go and take it again costs both sides some 50 ns of each turn, and a quick peer answers
 * within a microsecond. So the turn is given and looked for (FC_BURST looks, no system call) with the GIL held; only
 * then is it let go. It is let go before at each LET_GO-th turn, so that nobody starves where neither side runs
 * bytecode; for RESTS turns after a look in vain; and whenever the peer sleeps, so that giving is a system call.
 * While the peer works, this side frees what the turn is done with.
 *
 * It is no second core: cffi's module gives the addresses of the functions, so that there is one generation count, one
 * set of spinners. A channel is bound to one endpoint, and holds what keeps endpoint and window alive.
 *
 * Concurrency: as of the verbs. fc_enter refuses a second thread, with FC_ERR_BUSY as the result. A stub is for any. */
#define PY_SSIZE_T_CLEAN
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030a0000 /* METH_FASTCALL is in the stable ABI since 3.10 */
#endif
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct fc_endpoint;

/* Of the core's headers; a test holds them together. */
#define PLAIN_MAX 0xffffffffll /* a result up to here is the length of a body, code 0, and nothing else */
#define CODE_SHIFT 32          /* FC_FRAME_CODE_SHIFT */
#define TICK -1                /* FC_TICK */
#define TOO_BIG -8             /* FC_ERR_SIZE */
#define ASLEEP -13             /* FC_ASLEEP */

#define LET_GO 64 /* turns */
#define RESTS 16

typedef int64_t (*verb)(struct fc_endpoint *);
typedef int64_t (*sender)(struct fc_endpoint *, uint64_t what, const char *body, uint32_t body_len);

/* ---- a channel: one endpoint, and the verbs of its side ----------------------------------------------------- */

struct channel {
    struct fc_endpoint *ep;
    const char *body;    /* where a plain frame's body starts in the window */
    sender give;         /* fc_ask, fc_answer */
    verb glance, resume; /* fc_glance; fc_call_resume, fc_request */
    sender exchange;     /* fc_call, fc_reply_request: all three in one */
    int32_t turns;       /* this many more with the GIL held; not positive: that many, and one, without */
    PyObject *owners;
};

static void unbind(PyObject *capsule)
{
    struct channel *c = PyCapsule_GetPointer(capsule, NULL);
    Py_XDECREF(c->owners);
    free(c);
}

PyDoc_STRVAR(channel_doc, "channel(endpoint, body, verbs, owners) -> capsule; addresses, but for the last");

static PyObject *channel(PyObject *self, PyObject *args)
{
    unsigned long long ep, body, give, glance, resume, exchange;
    PyObject *owners;
    (void)self;
    if (!PyArg_ParseTuple(args, "KK(KKKK)O", &ep, &body, &give, &glance, &resume, &exchange, &owners))
        return NULL;
    struct channel *c = malloc(sizeof *c);
    if (!c)
        return PyErr_NoMemory();
    *c = (struct channel){.ep = (struct fc_endpoint *)(uintptr_t)ep, .body = (const char *)(uintptr_t)body,
                          .give = (sender)(uintptr_t)give, .glance = (verb)(uintptr_t)glance,
                          .resume = (verb)(uintptr_t)resume, .exchange = (sender)(uintptr_t)exchange, .turns = LET_GO};
    PyObject *capsule = PyCapsule_New(c, NULL, unbind);
    if (!capsule) {
        free(c);
        return NULL;
    }
    Py_INCREF(owners);
    c->owners = owners;
    return capsule;
}

static int bytes_of(PyObject *argument, char **body, Py_ssize_t *len)
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
static int64_t exchange(struct channel *c, uint64_t what, PyObject *bytes, PyObject **done, int n)
{
    char *body;
    Py_ssize_t len;
    if (bytes_of(bytes, &body, &len) < 0)
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

static PyObject *plain_body(const struct channel *c, int64_t result)
{
    return PyBytes_FromStringAndSize(c->body, (Py_ssize_t)(result & PLAIN_MAX)); /* a private copy */
}

/* What a call came to: of a plain reply its body, of all else the core's result. */
static PyObject *outcome(const struct channel *c, int64_t result)
{
    if (result >= 0 && result <= PLAIN_MAX)
        return plain_body(c, result);
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
    return outcome(c, exchange(c, what, args[1], NULL, 0));
}

/* ---- what the builtins have in common ----------------------------------------------------------------------- */

#define MOST 13

/* A builtin's self: the Python objects it needs, in the order of its enum. The collector sees them. */
struct needs {
    PyObject_HEAD
    uint64_t what;
    Py_ssize_t count;
    PyObject *of[MOST];
};

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
static PyType_Spec needs_spec = {"flipcall._fast.Needs", sizeof(struct needs), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, needs_slots};

/* The builtin `verb`, needing the items of the tuple `objects`. */
static PyObject *builtin(PyObject *module, PyMethodDef *verb, uint64_t what, Py_ssize_t count, PyObject *objects, int n)
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

static PyObject *call1(PyObject *function, PyObject *argument)
{
    return PyObject_CallFunctionObjArgs(function, argument, NULL);
}

/* The exception that is set, taken; as `except` binds it. */
static PyObject *caught(void)
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

/* ---- the client: a method's stub ---------------------------------------------------------------------------- */

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
    PyObject *given = call1(s->of[FREE_APPEND], taken);
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
    PyObject *result = call1(s->of[DECODE], reply);
    if (result)
        return result;
    PyObject *error = caught();
    result = call1(s->of[GARBLED], error);
    Py_DECREF(error);
    return result;
}

/* The channel of what was taken from the pool, which owns it. */
static struct channel *channel_of(struct needs *s, PyObject *taken)
{
    PyObject *verb = PyObject_GetAttr(taken, s->of[CALL]);
    struct channel *found = NULL;
    if (verb && PyCFunction_CheckExact(verb) && PyCFunction_GetFunction(verb) == (PyCFunction)(void (*)(void))call)
        found = PyCapsule_GetPointer(PyCFunction_GetSelf(verb), NULL);
    else if (verb)
        PyErr_SetString(PyExc_TypeError, "not a channel's call");
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
    PyObject *reply = c ? outcome(c, exchange(c, s->what, body, given, 1)) : NULL, *result = NULL;
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
    PyObject *body = given ? call1(s->of[ENCODE], given) : NULL, *taken = body ? take(s) : NULL, *result = NULL;
    if (taken)
        result = asked(s, taken, body, &given);
    else if (!PyErr_Occurred())
        result = call1(s->of[LATE], body);
    Py_XDECREF(taken);
    Py_XDECREF(body);
    Py_XDECREF(given);
    return result;
}

/* ---- the server: a channel's loop, as long as requests are plain -------------------------------------------- */

enum serve_needs {
    CHANNEL, /* its capsule */
    PLAIN,   /* list by method's number: (decode, handler), None where Python does it */
    ENCODED, /* result -> bytes */
    SERVE_NEEDS
};
enum why { UNDECODABLE, FAILED, LARGE };

/* What to tell in place of an answer; takes `value`, or the exception that is set. */
static PyObject *unanswered(enum why why, long number, PyObject *value)
{
    return Py_BuildValue("(ilN)", (int)why, number, value ? value : caught());
}

/* Answer one plain request by its `way`, and wait for the next: its result; or INT64_MIN, and `other` is what to tell. */
static int64_t answered(struct needs *s, struct channel *c, int64_t request, PyObject *way, PyObject **other)
{
    enum { ARGS, VALUE, OUT, TURN };
    PyObject *turn[TURN] = {NULL}, *body = plain_body(c, request);
    long number = (long)(request >> CODE_SHIFT);
    int64_t next = INT64_MIN;
    turn[ARGS] = body ? call1(PyTuple_GetItem(way, 0), body) : NULL;
    Py_XDECREF(body);
    if (turn[ARGS] && (turn[VALUE] = PyObject_Call(PyTuple_GetItem(way, 1), turn[ARGS], NULL)))
        turn[OUT] = call1(s->of[ENCODED], turn[VALUE]);
    if (turn[OUT])
        next = exchange(c, 0, turn[OUT], turn, TURN);
    if (next == TOO_BIG) {
        *other = unanswered(LARGE, number, turn[OUT]);
        turn[OUT] = NULL;
        next = INT64_MIN;
    } else if (next == INT64_MIN)
        *other = unanswered(turn[ARGS] ? FAILED : UNDECODABLE, number, NULL);
    for (int i = 0; i < TURN; i++)
        Py_XDECREF(turn[i]);
    return next;
}

PyDoc_STRVAR(serve_doc, "serve(request) -> result, once it is no plain request that was answered here; or, of one that was "
                        "not answered, (why, number, its exception or its result's bytes)");

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

/* ---- the module --------------------------------------------------------------------------------------------- */

static PyMethodDef verbs[] = {
    {"call", (PyCFunction)(void (*)(void))call, METH_FASTCALL, call_doc},
    {"stub", (PyCFunction)(void (*)(void))stub, METH_FASTCALL | METH_KEYWORDS, stub_doc},
    {"serve", serve, METH_O, serve_doc},
};

PyDoc_STRVAR(caller_doc, "caller(channel) -> call");

static PyObject *caller(PyObject *self, PyObject *capsule)
{
    (void)self;
    return PyCapsule_IsValid(capsule, NULL) ? PyCFunction_NewEx(&verbs[0], capsule, NULL)
                                            : PyErr_Format(PyExc_TypeError, "not a channel");
}

PyDoc_STRVAR(stub_of_doc, "stub(what, count, objects) -> stub of a method that has `count` arguments by position (-1: it may "
                          "not be called by position alone); objects: enum stub_needs");

static PyObject *stub_of(PyObject *self, PyObject *args)
{
    unsigned long long what;
    Py_ssize_t count;
    PyObject *objects;
    if (!PyArg_ParseTuple(args, "KnO!", &what, &count, &PyTuple_Type, &objects))
        return NULL;
    return builtin(self, &verbs[1], what, count, objects, STUB_NEEDS);
}

PyDoc_STRVAR(server_doc, "server(count, objects) -> serve, for `count` methods; objects: enum serve_needs");

static PyObject *server(PyObject *self, PyObject *args)
{
    Py_ssize_t count;
    PyObject *objects;
    if (!PyArg_ParseTuple(args, "nO!", &count, &PyTuple_Type, &objects))
        return NULL;
    return builtin(self, &verbs[2], 0, count, objects, SERVE_NEEDS);
}

static PyMethodDef functions[] = {
    {"channel", channel, METH_VARARGS, channel_doc},
    {"caller", caller, METH_O, caller_doc},
    {"stub", stub_of, METH_VARARGS, stub_of_doc},
    {"server", server, METH_VARARGS, server_doc},
    {0},
};

static int exec(PyObject *module)
{
    PyObject **type = PyModule_GetState(module);
    return (*type = PyType_FromSpec(&needs_spec)) ? 0 : -1;
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
