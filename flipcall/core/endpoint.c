/* endpoint.c: an endpoint's beginning and end. */
#include "endpoint.h"

#include <string.h>

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "the window's words are plain u32 in memory");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "atomics on shared memory must not take a lock");

/* Counts forks seen by this process: an endpoint of another generation was inherited and must not be used,
 * because parent and child would both believe that control is theirs. */
static _Atomic uint32_t generation;

void fc_forked(void)
{
    atomic_fetch_add(&generation, 1);
}

int fc_init(struct fc_endpoint *ep, void *window, uint32_t length, uint32_t side, struct fc_policy policy)
{
    if (length < FC_WINDOW_MIN || length > FC_WINDOW_MAX || side > FC_SERVER_ACTIVE)
        return FC_ERR_SIZE;
    memset(ep, 0, sizeof *ep);
    ep->packet = window;
    ep->cap = length - FC_PACKET_HEADER;
    ep->mine = side;
    ep->theirs = side == FC_CLIENT_ACTIVE ? FC_SERVER_ACTIVE : FC_CLIENT_ACTIVE;
    ep->my_bit = side == FC_CLIENT_ACTIVE ? FC_SLEEPS_CLIENT : FC_SLEEPS_SERVER;
    ep->their_bit = side == FC_CLIENT_ACTIVE ? FC_SLEEPS_SERVER : FC_SLEEPS_CLIENT;
    ep->generation = atomic_load(&generation);
    for (int i = 0; i < FC_LIFE_FDS; i++)
        ep->life_fd[i] = -1;
    ep->slice_ns = FC_SLICE_NS;
    ep->policy = policy;
    ep->how = &fc_switch_futex;
    ep->deadline = FC_NO_DEADLINE;
    ep->timeout_us = FC_TIMEOUT_NONE;
    return FC_OK;
}

int fc_enter(struct fc_endpoint *ep)
{
    if (ep->generation != atomic_load_explicit(&generation, memory_order_relaxed))
        return FC_ERR_FORKED;
    if (atomic_exchange_explicit(&ep->busy, 1, memory_order_acquire))
        return FC_ERR_BUSY;
    return FC_OK;
}

void fc_leave(struct fc_endpoint *ep)
{
    atomic_store_explicit(&ep->busy, 0, memory_order_release);
}

/* End every wait of this endpoint with `why`. conn_state is changed before the wake, so that a waiter between
 * its look at the word and its sleep finds the word changed (FUTEX_WAIT says EAGAIN): no wake is lost. A peer
 * that writes the old state back can lose it, and then gains one slice, not more: `stop` is looked at too. */
static void stop(struct fc_endpoint *ep, uint32_t why)
{
    uint32_t none = 0;
    if (ep->generation != atomic_load_explicit(&generation, memory_order_relaxed))
        return; /* the parent's connection is not this child's to end */
    atomic_compare_exchange_strong(&ep->stop, &none, why);
    atomic_exchange(fc_word(&ep->packet->conn_state), FC_SHUTDOWN);
    ep->how->close(ep);
}

void fc_shutdown(struct fc_endpoint *ep)
{
    stop(ep, -FC_ERR_SHUTDOWN);
}

/* The caller knows, from a descriptor it watches, that the peer is gone. */
void fc_condemn(struct fc_endpoint *ep)
{
    stop(ep, -FC_ERR_DIED);
}

/* Shut down, but only while the peer is active, that is, while it has sent nothing: it then fails to give, and
 * knows that its datagram was not delivered. Nonzero when the connection is over now. */
int fc_retire(struct fc_endpoint *ep)
{
    uint32_t seen = ep->theirs, none = 0;
    if (ep->generation != atomic_load_explicit(&generation, memory_order_relaxed))
        return 0;
    if (!atomic_compare_exchange_strong(fc_word(&ep->packet->conn_state), &seen, FC_SHUTDOWN))
        return seen != ep->mine;
    atomic_compare_exchange_strong(&ep->stop, &none, -FC_ERR_SHUTDOWN);
    ep->how->close(ep);
    return 1;
}

/* Sleep and wake with switch `id` from now on. Precondition: nobody is inside, and the peer is asked for the same
 * in the same flip (endpoint.py, connect and accept). */
int fc_use_switch(struct fc_endpoint *ep, uint32_t id)
{
    static const struct fc_switch *const switches[] = {[FC_SWITCH_FUTEX] = &fc_switch_futex, [FC_SWITCH_SWAP] = &fc_switch_swap};
    if (id >= sizeof switches / sizeof switches[0])
        return FC_ERR_TURN;
    ep->how = switches[id];
    return FC_OK;
}
