/* switch_notify.c: seccomp user notification, the hand-over on one CPU that did reach mainline (Linux 6.6).
 *
 * Theory. The client installs a filter that hands one system call of its own, and no other, to a listener
 * (notify_filter.c), and gives the listener to the server. The client's park is that call: the kernel wakes whoever
 * polls the listener *on this CPU* (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) and puts the client to sleep. The server's park
 * is poll() on the listener, then NOTIF_RECV; its NOTIF_SEND wakes the client, on this CPU again. So the two take
 * turns on one CPU, as with FUTEX_SWAP, and a round trip needs no wake-up of an idle CPU. (Only in the fair scheduling
 * class: under SCHED_FIFO the kernel places the sleepers as ever.)
 *
 *          client                                       server
 *   gives conn_state ── is the server on            poll(listener, bell) ◄────────────────────────┐
 *          │            the listener?                    │ POLLIN                                 │
 *          ├─ yes ──► TRAP ─ ─ ─ ─ wakes ─ ─ ─ ─ ─ ─ ─ ─►│ NOTIF_RECV: id                         │
 *          │            ▲ answered: look at conn_state   ▼                                        │
 *          │            └ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ handler, gives conn_state, NOTIF_SEND(id) ────┘
 *          └─ no ───► FUTEX_WAIT  ◄─ ─ ─ ─ ─ ─ ─ ─ ─ FUTEX_WAKE, where FC_NOTIFY_CLIENT is clear
 *
 * A trap is only ever the *swap*: wake a server that sleeps on the listener, and sleep. Whatever is not that goes by
 * futex on conn_state, as in switch_futex.c: a client that has woken its server and then spun, a thread that the filter
 * does not cover, the rest of a wait that outlasts a slice, a server thread that another one keeps away from the listener. Each
 * side says in `sleepers` how it sleeps: its FC_NOTIFY bit is set together with its FC_SLEEPS bit, and cleared before
 * FUTEX_WAIT. A giver that saw the bit too early does no harm: FUTEX_WAIT itself looks at the word. To wake a server on
 * the listener without sleeping, the client rings: a byte on a socket pair, sent with MSG_DONTWAIT, which a hostile
 * server cannot make block (it could an eventfd, whose flags are shared). The same socket hangs up when either
 * process dies, and shutdown(2) on it ends the sleep of both sides.
 *
 * Invariants (proto/model/notify.pml breaks them one by one; of 2 and 3 either is enough, and is a fence for the other):
 *   1. A trap does not look at conn_state, so one can come after the answer it waits for. The server answers such a
 *      one when it next parks; where it never parks again, the client's watch ends the trap with its slice.
 *   2. A trap that ends without the turn (signal, deadline, a stray answer) may have woken nobody: then ring.
 *   3. After NOTIF_SEND the server looks at conn_state before it polls: what it has just answered may have been a new
 *      trap with a request behind it.
 *   4. Every notification received is answered once: its own channel's when control goes back, others at once.
 *   5. What the client's own process receives, at a deadline, may have woken a server that is on its way to RECV, which
 *      would stay there: the process pokes it (notify_taker.c).
 *
 * Deadlines and death. A trapped call has no timeout, and a server may never answer. The client process therefore
 * keeps the listener too, and a thread of its own ends calls that last beyond their slice (notify_watch.c); nothing
 * the server does can prevent that. Death of the server hangs up the bell, which that thread sees at once; death of the
 * client hangs up bell and listener in the server's poll().
 *
 * Many channels: notify_server.c.
 *
 * What remains. A hostile *client* can receive from the listener behind the server's back, so that the server's RECV
 * waits: that thread then waits for that client until it traps again or ends, like a thread whose client sends nothing,
 * but deaf to shutdown(). Other clients are not concerned. A hostile *server* can do more: who holds a listener may
 * replace descriptors of the process that is trapped (SECCOMP_IOCTL_NOTIF_ADDFD). A client that asks for this switch
 * trusts its server with its descriptor table; docs/trust.md says so.
 *
 * Rejected:
 *   - RECV as the server's park, with no poll(): has no timeout, and nothing but a notification ends it.
 *   - The server traps and the client polls, which would give the client deadlines for nothing: whoever holds the
 *     listener has power over the descriptors of whoever is trapped, and a server has many clients.
 *   - A trap flagged "just wake" instead of the bell: it sleeps until the server answers.
 *   - A timer signal to end the trap: needs a handler.
 *   - Trapping whenever the server is on the listener, also when it has been woken: its thread may be on its way out,
 *     the trap then comes after the answer, and under load that is a wait of many milliseconds.
 */
#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>

#define ON_LISTENER (FC_SLEEPS_SERVER | FC_NOTIFY_SERVER)

/* ---- the client ------------------------------------------------------------------------------------------- */

/* Wake a server on the listener and go on. A full socket has rung already; a broken one will be noticed. */
static void ring(struct fc_notify_end *e)
{
    ssize_t ignored = send(e->bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)ignored;
}

static int wake_server(struct fc_endpoint *ep)
{
    if (atomic_load(fc_sleepers(ep)) & FC_NOTIFY_SERVER)
        ring(ep->notify);
    else
        fc_futex_wake(fc_word(&ep->packet->conn_state), 1);
    return 0;
}

static int trap(struct fc_endpoint *ep, int64_t until)
{
    struct fc_notify_end *e = ep->notify;
    atomic_store_explicit(&e->ended, 0, memory_order_relaxed);
    atomic_store_explicit(&e->trap, atomic_fetch_add_explicit(&fc_notify.traps, 1, memory_order_relaxed),
                          memory_order_relaxed);
    fc_watch_until(e, until); /* stop() and the hang-up of the bell, too, are the watch's from here on */
    long result = fc_notify_trap(e->index);
    fc_watch_until(e, 0);
    uint32_t ended = atomic_load_explicit(&e->ended, memory_order_relaxed);
    if (fc_state(ep) == ep->theirs) {
        wake_server(ep);
        if (result < 0 && result != -EINTR)
            e->futex_only = 1; /* a later filter answers instead of the listener */
    }
    return result == -EINTR ? -EINTR : ended == FC_ENDED_TOO_LATE ? -ETIMEDOUT : 0;
}

/* A wake that is owed is paid by the trap. One that is not has been issued, so the server is on its way out of its
 * sleep, and a trap could come after its answer (invariant 1): by futex, then. */
static int client_sleep(struct fc_endpoint *ep, int64_t until, bool owed)
{
    struct fc_notify_end *e = ep->notify;
    uint32_t seen = atomic_load(fc_sleepers(ep));
    int err;
    if (owed && (seen & ON_LISTENER) == ON_LISTENER && !e->futex_only && fc_notify_covered())
        err = trap(ep, until);
    else {
        if (owed && (seen & FC_SLEEPS_SERVER))
            wake_server(ep);
        err = fc_notify_by_futex(ep, FC_NOTIFY_CLIENT, until);
    }
    return atomic_load(&e->gone) ? -EPIPE : err;
}

/* ---- the switch ------------------------------------------------------------------------------------------- */

static int notify_park(struct fc_endpoint *ep, int64_t until)
{
    return ep->mine == FC_CLIENT_ACTIVE ? client_sleep(ep, until, false) : fc_notify_server_sleep(ep, until);
}

static int notify_wake(struct fc_endpoint *ep)
{
    return ep->mine == FC_CLIENT_ACTIVE ? wake_server(ep) : fc_notify_wake_client(ep);
}

static int notify_swap(struct fc_endpoint *ep, int64_t until)
{
    if (ep->mine == FC_CLIENT_ACTIVE)
        return client_sleep(ep, until, true);
    int err = fc_notify_wake_client(ep);
    return err || fc_state(ep) != ep->theirs ? err : fc_notify_server_sleep(ep, until); /* invariant 3 */
}

/* Ends poll() here and, through the watch, the trap there; FUTEX_WAIT on either side. Sticky. */
static void notify_close(struct fc_endpoint *ep)
{
    shutdown(ep->notify->bell, SHUT_RDWR);
    fc_futex_wake(fc_word(&ep->packet->conn_state), INT_MAX);
}

const struct fc_switch fc_switch_notify = {
    .name = "notify", .park = notify_park, .wake = notify_wake, .swap = notify_swap, .close = notify_close,
};

/* ---- joining and leaving ----------------------------------------------------------------------------------- */

/* Have `ep` use the switch from now on, as its connection has just agreed. Precondition: nobody is inside. `end` is
 * zeroed and lives, like `bell`, until fc_notify_leave. */
int fc_notify_client(struct fc_endpoint *ep, struct fc_notify_end *end, int bell, uint32_t index)
{
    if (ep->mine != FC_CLIENT_ACTIVE || ep->notify || fc_notify.listener < 0)
        return FC_ERR_TURN;
    fc_notify_join(ep, end, bell, index, FC_NOTIFY_CLIENT);
    fc_watch_add(end);
    return FC_OK;
}

/* The endpoint is over, and nobody is inside or will be. */
void fc_notify_leave(struct fc_endpoint *ep)
{
    struct fc_notify_end *e = ep->notify;
    if (e && ep->mine == FC_CLIENT_ACTIVE)
        fc_watch_remove(e);
    else if (e)
        fc_listener_leave(e);
}
