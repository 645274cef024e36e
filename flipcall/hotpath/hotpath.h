/* hotpath.h: the hot path as builtins of CPython: flipcall._fast.
 *
 * A plain call, both sides being awake, never leaves C but for its handler:
 *
 *     client  stub(a, b) ─ encode ─ take a channel ─ GIVE … back ─ give the channel back ─ decode ─► result
 *     server  ┌► decode ─ handler(*args) ─ encode ─ GIVE … back ─┐
 *             └──────────────────────────────────────────────────┘ serve(request) ─► what is not plain
 *
 * In Python each of these steps costs its bytecodes, and each call of the core through cffi its argument tuple and its
 * result as an int: together more than the flip itself (docs/design.md). What is not plain (keywords, a pool that is
 * used up, errors, ticks, attachments) is left to Python, which is given what has come so far (stub.py, serving.py). But
 * bytes that a handler returns as a bulk result go from here, where no request's view has to outlive them.
 *
 * The GIL (fc_hot_exchange). To let it go and take it again costs both sides some 50 ns of each turn, and a quick peer
 * answers within a microsecond. So the turn is given and looked for (FC_BURST looks, no system call) with the GIL held;
 * only then is it let go. It is let go before at each LET_GO-th turn, so that nobody starves where neither side runs
 * bytecode; for RESTS turns after a look in vain; and whenever the peer sleeps, so that giving is a system call.
 * While the peer works, this side frees what the turn is done with.
 *
 * It is no second core: cffi's module gives the addresses of the functions, so that there is one generation count, one
 * set of spinners. A channel is bound to one endpoint, and holds what keeps endpoint and window alive.
 *
 * channel.c: one endpoint, and a turn over it. needs.c: what a builtin needs of Python. stub.c, serve.c: the two sides.
 * items.c: of a stream. module.c: the module.
 *
 * Concurrency: as of the verbs. fc_enter refuses a second thread, with FC_ERR_BUSY as the result. A stub is for any. */
#ifndef FC_HOTPATH_H
#define FC_HOTPATH_H
#define PY_SSIZE_T_CLEAN
#ifndef Py_GIL_DISABLED
#define Py_LIMITED_API 0x030a0000 /* METH_FASTCALL is in the stable ABI since 3.10 */
#endif
#include <Python.h>
#include <stdint.h>

struct fc_endpoint;

/* Of the core's headers; a test holds them together. */
#define PLAIN_MAX 0xffffffffll /* a result up to here is the length of a body, code 0, and nothing else */
#define CODE_SHIFT 32          /* FC_FRAME_CODE_SHIFT */
#define TICK -1                /* FC_TICK */
#define TOO_BIG -8             /* FC_ERR_SIZE */
#define ASLEEP -13             /* FC_ASLEEP */

/* ---- channel.c ---------------------------------------------------------------------------------------------- */

typedef int64_t (*verb)(struct fc_endpoint *);
typedef int64_t (*sender)(struct fc_endpoint *, uint64_t what, const char *body, uint32_t body_len);

typedef int64_t (*attacher)(struct fc_endpoint *, uint64_t what, const char *body, uint32_t body_len, const char *attach,
                            uint32_t attach_len);

struct channel {
    struct fc_endpoint *ep;
    const char *body;    /* where a plain frame's body starts in the window */
    sender give;         /* fc_ask, fc_answer */
    verb glance, resume; /* fc_glance; fc_call_resume, fc_request */
    sender exchange;     /* fc_call, fc_reply_request: all three in one */
    attacher attach;     /* the same with an attachment */
    int32_t turns;       /* this many more with the GIL held; not positive: that many, and one, without */
    PyObject *owners;
};

PyObject *fc_hot_channel(PyObject *module, PyObject *args);
PyObject *fc_hot_caller(PyObject *module, PyObject *capsule);
struct channel *fc_hot_called(PyObject *verb);
PyObject *fc_hot_plain_body(const struct channel *c, int64_t result);
PyObject *fc_hot_outcome(const struct channel *c, int64_t result);
int fc_hot_bytes(PyObject *argument, char **body, Py_ssize_t *len);
int64_t fc_hot_exchange(struct channel *c, uint64_t what, PyObject *bytes, PyObject **done, int n);

/* ---- needs.c ------------------------------------------------------------------------------------------------ */

#define MOST 13

/* A builtin's self: the Python objects it needs, in the order of its enum. The collector sees them. */
struct needs {
    PyObject_HEAD
    uint64_t what;
    Py_ssize_t count;
    PyObject *of[MOST];
};

extern PyType_Spec fc_hot_needs;
PyObject *fc_hot_builtin(PyObject *module, PyMethodDef *verb, uint64_t what, Py_ssize_t count, PyObject *objects, int n);
PyObject *fc_hot_call1(PyObject *function, PyObject *argument);
PyObject *fc_hot_caught(void);

/* ---- stub.c, serve.c, items.c ------------------------------------------------------------------------------- */

PyObject *fc_hot_stub(PyObject *module, PyObject *args);
PyObject *fc_hot_server(PyObject *module, PyObject *args);
PyObject *fc_hot_stream(PyObject *module, PyObject *args);
#endif
