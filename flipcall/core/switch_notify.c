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
 *
 * Deadlines and death. A trapped call has no timeout, and a server may never answer. The client process therefore
 * keeps the listener too, and a thread of its own ends calls that last beyond their slice (notify_watch.c); nothing
 * the server does can prevent that. Death of the server hangs up the bell, which that thread sees at once; death of the
 * client hangs up bell and listener in the server's poll().
 *
 * Many channels. A client process has one listener, so all its channels at a server share it, and a trap wakes every
 * thread that polls it. Only one does, the leader; the others sleep by futex, and their clients know it from the bit.
 * Leading while idle, it gives way to a channel that has been busy without it for FC_PATIENCE parks. (The client's pool
 * uses the channel used last first, so one busy caller has one busy channel.) RECV blocks when another was quicker:
 * `receiving` lets one thread at a time do it, which looks with poll() first where there are others.
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
 *   - ids handed from leader to other threads: a stray answer costs the one channel a futex wake, once a change of
 *     leader, and needs no shared slots, no store-then-look.
 *   - epoll for the server: its wake-ups lose "on this CPU" on the way through.
 */
#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define FC_PATIENCE 8           /* parks without the lead before it is taken from an idle leader */
#define FC_TAKEN_NS 2000000ll   /* how long the client's watch is believed to be receiving */
#define FC_SWEEP 64             /* notifications received at most in one wake */

#define ON_LISTENER (FC_SLEEPS_SERVER | FC_NOTIFY_SERVER)

static _Atomic uint32_t *sleepers(struct fc_endpoint *ep)
{
    return fc_word(&ep->packet->sleepers);
}

static uint32_t state(struct fc_endpoint *ep)
{
    return atomic_load(fc_word(&ep->packet->conn_state));
}

/* Sleep by futex; the peer's hang-up is told apart by `gone`, which the watch sets before it wakes. */
static int by_futex(struct fc_endpoint *ep, uint32_t bit, int64_t until)
{
    atomic_fetch_and(sleepers(ep), ~bit);
    return fc_futex_wait(fc_word(&ep->packet->conn_state), ep->theirs, until);
}

/* ---- the client ------------------------------------------------------------------------------------------- */

/* Wake a server on the listener and go on. A full socket has rung already; a broken one will be noticed. */
static void ring(struct fc_notify_end *e)
{
    ssize_t ignored = send(e->bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)ignored;
}

static int wake_server(struct fc_endpoint *ep)
{
    if (atomic_load(sleepers(ep)) & FC_NOTIFY_SERVER)
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
    if (state(ep) == ep->theirs) {
        wake_server(ep);
        if (result < 0 && result != -EINTR)
            e->futex_only = 1; /* a later filter answers instead of the listener */
    }
    return result == -EINTR ? -EINTR : ended == FC_ENDED_TOO_LATE ? -ETIMEDOUT : 0;
}

/* A wake that is owed is paid by the trap. One that is not has been issued, so the server is on its way out of its
 * sleep, and a trap could come after its answer (invariant 1): by futex, then. Still on the listener a slice later, it
 * may be waiting there in NOTIF_RECV for a notification that somebody else has received: a trap gets it out. */
static int client_sleep(struct fc_endpoint *ep, int64_t until, bool owed)
{
    struct fc_notify_end *e = ep->notify;
    uint32_t seen = atomic_load(sleepers(ep));
    bool there = (seen & ON_LISTENER) == ON_LISTENER;
    int err;
    if (there && (owed || e->waited) && !e->futex_only && fc_notify_covered())
        err = trap(ep, until);
    else {
        if (owed && (seen & FC_SLEEPS_SERVER))
            wake_server(ep);
        err = by_futex(ep, FC_NOTIFY_CLIENT, until);
    }
    e->waited = there && err == -ETIMEDOUT;
    return atomic_load(&e->gone) ? -EPIPE : err;
}

/* ---- the server ------------------------------------------------------------------------------------------- */

/* Take the lead, or be content with the futex. */
static bool lead(struct fc_notify_end *e)
{
    struct fc_listener *l = e->listener;
    uint32_t me = e->place + 1, who = atomic_load(&l->leader);
    atomic_store(&l->member[e->place].waiting, 1);
    if (who != me) {
        uint32_t parks = who ? atomic_load(&l->member[who - 1].parks) : 0;
        bool away = !who || !atomic_load(&l->member[who - 1].waiting);
        if (!away) { /* idle for how long? */
            e->patience = who == e->leader_was && parks == e->parks_was ? e->patience + 1 : 0;
            e->leader_was = who;
            e->parks_was = parks;
        }
        if ((!away && e->patience < FC_PATIENCE) || !atomic_compare_exchange_strong(&l->leader, &who, me)) {
            atomic_store(&l->member[e->place].waiting, 0);
            return false;
        }
        if (!away)
            eventfd_write(l->baton, 1);
        e->patience = 0;
    }
    atomic_fetch_add_explicit(&l->member[e->place].parks, 1, memory_order_relaxed);
    return true;
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

/* The client's watch says that it is receiving: a moment. It is not believed for ever. */
static void keep_away(struct fc_endpoint *ep)
{
    if (!(atomic_load(sleepers(ep)) & FC_TAKES_CLIENT))
        return;
    int64_t end = fc_now() + FC_TAKEN_NS;
    while ((atomic_load(sleepers(ep)) & FC_TAKES_CLIENT) && fc_now() < end)
        sched_yield();
}

/* Receive one: hold it if it is this channel's, answer it if not. Precondition: the listener was readable. */
static void receive(struct fc_notify_end *e)
{
    struct fc_listener *l = e->listener;
    struct fc_note note;
    if (atomic_exchange_explicit(&l->receiving, 1, memory_order_acquire)) {
        sched_yield();
        return;
    }
    int err = atomic_load(&l->members) > 1 && !readable(l->fd) ? -ENOENT : fc_notify_recv(l->fd, &note);
    atomic_store_explicit(&l->receiving, 0, memory_order_release);
    if (err)
        return; /* its thread has left, or another of ours was quicker */
    if (note.index != e->index) {
        fc_notify_send(l->fd, note.id);
        return;
    }
    if (e->holding)
        fc_notify_send(l->fd, e->id); /* its thread has left, or an index is used twice */
    e->holding = 1;
    e->id = note.id;
}

static void answer(struct fc_notify_end *e)
{
    if (e->holding)
        fc_notify_send(e->listener->fd, e->id);
    e->holding = 0;
}

static int wake_client(struct fc_endpoint *ep)
{
    struct fc_notify_end *e = ep->notify;
    if (!(atomic_load(sleepers(ep)) & FC_NOTIFY_CLIENT)) {
        answer(e);
        return fc_futex_wake(fc_word(&ep->packet->conn_state), 1);
    }
    if (e->holding) {
        e->holding = 0;
        if (fc_notify_send(e->listener->fd, e->id) == 0)
            return 0;
    }
    /* Not received yet (this side did not sleep when it came, or a signal made the client trap anew). Nothing there
     * means that it is only about to trap: see invariant 1. */
    atomic_fetch_or(sleepers(ep), FC_TAKES_SERVER);
    keep_away(ep);
    for (int i = 0; i < FC_SWEEP && !e->holding && readable(e->listener->fd); i++)
        receive(e);
    atomic_fetch_and(sleepers(ep), ~FC_TAKES_SERVER);
    answer(e);
    return 0;
}

static void drain(int bell)
{
    char byte;
    for (int i = 0; i < FC_SWEEP && recv(bell, &byte, 1, MSG_DONTWAIT) > 0; i++)
        ;
}

/* Wait for a notification of this channel, the bell, or the time. Precondition: this thread leads. */
static int on_listener(struct fc_endpoint *ep, int64_t until)
{
    struct fc_notify_end *e = ep->notify;
    struct fc_listener *l = e->listener;
    keep_away(ep);
    do {
        struct pollfd fds[] = {
            {.fd = l->fd, .events = POLLIN},
            {.fd = e->bell, .events = POLLIN | POLLRDHUP},
            {.fd = l->baton, .events = POLLIN},
        };
        int64_t left = until - fc_now();
        if (left <= 0)
            return -ETIMEDOUT;
        struct timespec t = {.tv_sec = left / 1000000000ll, .tv_nsec = left % 1000000000ll};
        int n = ppoll(fds, atomic_load_explicit(&l->members, memory_order_relaxed) > 1 ? 3 : 2, &t, NULL);
        if (n <= 0)
            return n < 0 ? -errno : -ETIMEDOUT;
        if (fds[0].revents & POLLIN)
            receive(e);
        if (fds[1].revents & POLLIN)
            drain(e->bell);
        if (state(ep) != ep->theirs)
            return 0;
        answer(e); /* it is not this side's turn: invariant 1 */
        if ((fds[0].revents | fds[1].revents) & (POLLHUP | POLLRDHUP | POLLERR))
            return -EPIPE;
        if (fds[2].revents) {
            eventfd_t ignored;
            eventfd_read(l->baton, &ignored);
        }
    } while (atomic_load(&l->leader) == e->place + 1);
    return 0;
}

static int server_sleep(struct fc_endpoint *ep, int64_t until)
{
    struct fc_notify_end *e = ep->notify;
    if (!lead(e))
        return by_futex(ep, FC_NOTIFY_SERVER, until);
    int err = on_listener(ep, until);
    atomic_store_explicit(&e->listener->member[e->place].waiting, 0, memory_order_release);
    return err;
}

/* ---- the switch ------------------------------------------------------------------------------------------- */

static int notify_park(struct fc_endpoint *ep, int64_t until)
{
    return ep->mine == FC_CLIENT_ACTIVE ? client_sleep(ep, until, false) : server_sleep(ep, until);
}

static int notify_wake(struct fc_endpoint *ep)
{
    return ep->mine == FC_CLIENT_ACTIVE ? wake_server(ep) : wake_client(ep);
}

static int notify_swap(struct fc_endpoint *ep, int64_t until)
{
    if (ep->mine == FC_CLIENT_ACTIVE)
        return client_sleep(ep, until, true);
    int err = wake_client(ep);
    return err || state(ep) != ep->theirs ? err : server_sleep(ep, until); /* invariant 3 */
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

/* Both descriptors stay the caller's, and must stay open until every channel has left. */
int fc_listener_init(struct fc_listener *listener, int fd, int baton)
{
    *listener = (struct fc_listener){.fd = fd, .baton = baton};
    return FC_OK;
}

static void join(struct fc_endpoint *ep, struct fc_notify_end *end, int bell, uint32_t index, uint32_t bit)
{
    end->ep = ep;
    end->bell = bell;
    end->index = index;
    ep->notify = end;
    ep->my_bit |= bit;
}

/* Have `ep` use the switch from now on, as its connection has just agreed. Precondition: nobody is inside. `end` is
 * zeroed and lives, like `bell`, until fc_notify_leave. */
int fc_notify_client(struct fc_endpoint *ep, struct fc_notify_end *end, int bell, uint32_t index)
{
    if (ep->mine != FC_CLIENT_ACTIVE || ep->notify || fc_notify.listener < 0)
        return FC_ERR_TURN;
    join(ep, end, bell, index, FC_NOTIFY_CLIENT);
    fc_watch_add(end);
    return FC_OK;
}

/* FC_ERR_SIZE: the client has too many channels already. */
int fc_notify_server(struct fc_endpoint *ep, struct fc_notify_end *end, struct fc_listener *listener, int bell,
                     uint32_t index)
{
    uint32_t place = 0, none = 0;
    if (ep->mine != FC_SERVER_ACTIVE || ep->notify)
        return FC_ERR_TURN;
    while (place < FC_LISTENER_MAX && !atomic_compare_exchange_strong(&listener->member[place].used, &none, 1)) {
        none = 0;
        place++;
    }
    if (place == FC_LISTENER_MAX)
        return FC_ERR_SIZE;
    end->listener = listener;
    end->place = place;
    atomic_fetch_add(&listener->members, 1);
    join(ep, end, bell, index, FC_NOTIFY_SERVER);
    return FC_OK;
}

/* The endpoint is over, and nobody is inside or will be. */
void fc_notify_leave(struct fc_endpoint *ep)
{
    struct fc_notify_end *e = ep->notify;
    if (!e)
        return;
    if (ep->mine == FC_CLIENT_ACTIVE) {
        fc_watch_remove(e);
        return;
    }
    uint32_t me = e->place + 1;
    answer(e);
    atomic_store(&e->listener->member[e->place].waiting, 0);
    atomic_compare_exchange_strong(&e->listener->leader, &me, 0);
    atomic_fetch_sub(&e->listener->members, 1);
    atomic_store(&e->listener->member[e->place].used, 0);
}
