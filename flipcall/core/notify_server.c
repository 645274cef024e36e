/* notify_server.c: the server's half of the notify switch: who waits on the listener, and what it does with what comes.
 *
 * Many channels. A client process has one listener, so all its channels at a server share it, and a trap wakes every
 * thread that polls it. Only one does, the leader; the others sleep by futex, and their clients know it from the bit.
 * Leading while idle, it gives way to a channel that has been busy without it for FC_PATIENCE parks. (The client's pool
 * uses the channel used last first, so one busy caller has one busy channel.) RECV blocks when another was quicker:
 * `receiving` lets one thread at a time do it, which looks with poll() first where there are others; and where the
 * client's own process was quicker, its poke ends the RECV (notify_taker.c).
 *
 *      park ── another leads, and has not been idle for long ──► asleep by futex ──► its turn
 *       │ nobody leads, the leader is away, or has been idle for long
 *       ▼
 *      LEADER: poll(listener, bell, baton) ── its own notification ──► its turn: away, until it parks again
 *       ▲  └── another channel's: answer at once ──┐
 *       └──────────────────────────────────────────┘
 *
 * proto/model/listener.pml checks this. It shows where only the client's watch ends a trap: one that comes after its
 * answer, just as the leader leaves or begins a long handler, and the others sleep by futex.
 *
 * Rejected:
 *   - ids handed from leader to other threads: a stray answer costs the one channel a futex wake, once a change of
 *     leader, and needs no shared slots, no store-then-look.
 *   - epoll: its wake-ups lose "on this CPU" on the way through.
 */
#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define FC_PATIENCE 8           /* parks without the lead before it is taken from an idle leader */
#define FC_SWEEP 64             /* notifications received at most in one wake */

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

/* Receive one: hold it if it is this channel's, answer it if not. Precondition: the listener was readable. */
static void receive(struct fc_notify_end *e)
{
    struct fc_listener *l = e->listener;
    struct fc_note note;
    if (atomic_exchange_explicit(&l->receiving, 1, memory_order_acquire)) {
        sched_yield();
        return;
    }
    int err = atomic_load(&l->members) > 1 && !fc_readable(l->fd, 0) ? -ENOENT : fc_notify_recv(l->fd, &note);
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

int fc_notify_wake_client(struct fc_endpoint *ep)
{
    struct fc_notify_end *e = ep->notify;
    if (!(atomic_load(fc_sleepers(ep)) & FC_NOTIFY_CLIENT)) {
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
    for (int i = 0; i < FC_SWEEP && !e->holding && fc_readable(e->listener->fd, 0); i++)
        receive(e);
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
        if (fc_state(ep) != ep->theirs)
            return 0;
        answer(e); /* it is not this side's turn: invariant 1 */
        if ((fds[0].revents & POLLHUP) || (fds[1].revents & (POLLHUP | POLLRDHUP | POLLERR)))
            return -EPIPE; /* a listener's POLLERR is a signal that came while the kernel waited for its lock */
        if (fds[2].revents) {
            eventfd_t ignored;
            eventfd_read(l->baton, &ignored);
        }
    } while (atomic_load(&l->leader) == e->place + 1);
    return 0;
}

int fc_notify_server_sleep(struct fc_endpoint *ep, int64_t until)
{
    struct fc_notify_end *e = ep->notify;
    if (!lead(e))
        return fc_notify_by_futex(ep, FC_NOTIFY_SERVER, until);
    int err = on_listener(ep, until);
    atomic_store_explicit(&e->listener->member[e->place].waiting, 0, memory_order_release);
    return err;
}

/* ---- joining and leaving ----------------------------------------------------------------------------------- */

/* Both descriptors stay the caller's, and must stay open until every channel has left. */
int fc_listener_init(struct fc_listener *listener, int fd, int baton)
{
    *listener = (struct fc_listener){.fd = fd, .baton = baton};
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
    fc_notify_join(ep, end, bell, index, FC_NOTIFY_SERVER);
    return FC_OK;
}

/* The endpoint of `e` is over, and nobody is inside or will be. */
void fc_listener_leave(struct fc_notify_end *e)
{
    uint32_t me = e->place + 1;
    answer(e);
    atomic_store(&e->listener->member[e->place].waiting, 0);
    atomic_compare_exchange_strong(&e->listener->leader, &me, 0);
    atomic_fetch_sub(&e->listener->members, 1);
    atomic_store(&e->listener->member[e->place].used, 0);
}
