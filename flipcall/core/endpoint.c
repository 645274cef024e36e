/* endpoint.c: an endpoint's beginning and end. */
#include "endpoint.h"

#include <sched.h>
#include <stdbool.h>
#include <string.h>

_Static_assert(sizeof(_Atomic uint32_t) == sizeof(uint32_t), "the window's words are plain u32 in memory");
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "atomics on shared memory must not take a lock");

#define FC_END_TRIES 1000 /* flips between two instructions of fc_shutdown; an honest peer does one or two */

/* Counts forks seen by this process: an endpoint of another generation was inherited and must not be used,
 * because parent and child would both believe that control is theirs. */
static _Atomic uint32_t generation;

void fc_forked(void)
{
    atomic_fetch_add(&generation, 1);
    fc_notify_forked();
    fc_no_spinners(); /* threads that were spinning are not in this process: they would be counted for ever */
    fc_unpin_forked();
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
    ep->my_end = side == FC_CLIENT_ACTIVE ? FC_SHUTDOWN_CLIENT_TURN : FC_SHUTDOWN_SERVER_TURN;
    ep->their_end = side == FC_CLIENT_ACTIVE ? FC_SHUTDOWN_SERVER_TURN : FC_SHUTDOWN_CLIENT_TURN;
    ep->generation = atomic_load(&generation);
    for (int i = 0; i < FC_LIFE_FDS; i++)
        ep->life_fd[i] = -1;
    ep->bell_fd = -1;
    ep->slice_ns = FC_SLICE_NS;
    ep->policy = policy;
    atomic_init(&ep->how, &fc_switch_futex);
    ep->deadline = FC_NO_DEADLINE;
    ep->timeout_us = FC_TIMEOUT_NONE;
    fc_adapt_init(ep);
    return FC_OK;
}

int fc_enter(struct fc_endpoint *ep)
{
    if (ep->generation != atomic_load_explicit(&generation, memory_order_relaxed))
        return FC_ERR_FORKED;
    if (atomic_exchange_explicit(&ep->busy, 1, memory_order_acquire)) {
        uint32_t why = atomic_load(&ep->stop); /* whoever closes stops it first: over is the truer word then */
        return why ? -(int)why : FC_ERR_BUSY;
    }
    return FC_OK;
}

void fc_leave(struct fc_endpoint *ep)
{
    atomic_store_explicit(&ep->busy, 0, memory_order_release);
}

/* Take the endpoint for good, before its memory goes: FC_OK, also when it has been taken so before (a close that a
 * signal interrupted goes on where it was); FC_ERR_BUSY while a thread is inside. */
int fc_seal(struct fc_endpoint *ep)
{
    if (atomic_load(&ep->sealed))
        return FC_OK;
    if (atomic_exchange_explicit(&ep->busy, 1, memory_order_acquire)) {
        if (ep->generation == atomic_load_explicit(&generation, memory_order_relaxed))
            return atomic_load(&ep->sealed) ? FC_OK : FC_ERR_BUSY;
        /* forked: the thread inside stayed in the parent */
    }
    atomic_store(&ep->sealed, 1);
    return FC_OK;
}

static bool inherited(const struct fc_endpoint *ep)
{
    return ep->generation != atomic_load_explicit(&generation, memory_order_relaxed);
}

/* What conn_state becomes when this side ends the connection while the peer is active. What was given to the peer
 * stays given: it may not have looked yet, and could not tell an answer followed by the end from the end. A state of
 * its own says so, because two words could be caught halfway; a peer without extensions does not know it. */
static uint32_t end_given(const struct fc_endpoint *ep)
{
    return __atomic_load_n(&ep->trust_sleepers, __ATOMIC_RELAXED) ? ep->their_end : FC_SHUTDOWN;
}

/* Wake both sides, with the switch that is in use now: see fc_use_switch. */
static void wake_all(struct fc_endpoint *ep)
{
    atomic_load(&ep->how)->close(ep);
    fc_ring_always(ep);
}

/* From whatever it is, control travelling meanwhile, to the end that says whose turn it was. A peer that never lets
 * the word rest, which no honest one can, is not waited for. */
static void end(struct fc_endpoint *ep)
{
    _Atomic uint32_t *state = fc_word(&ep->packet->conn_state);
    uint32_t seen = atomic_load(state);
    for (int tries = 0; !fc_is_over(seen); tries++)
        if (tries == FC_END_TRIES) {
            atomic_exchange(state, FC_SHUTDOWN);
            break;
        } else if (atomic_compare_exchange_strong(state, &seen, seen == ep->theirs ? end_given(ep) : FC_SHUTDOWN))
            break;
    wake_all(ep);
}

/* End every wait of this endpoint with `why`. conn_state is changed before the wake, so that a waiter between
 * its look at the word and its sleep finds the word changed (FUTEX_WAIT says EAGAIN): no wake is lost. A peer
 * that writes the old state back can lose it, and then gains one slice, not more: `stop` is looked at too. */
static void stop(struct fc_endpoint *ep, uint32_t why)
{
    uint32_t none = 0;
    if (inherited(ep))
        return; /* the parent's connection is not this child's to end */
    atomic_compare_exchange_strong(&ep->stop, &none, why);
    end(ep);
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

/* Has this side ended the connection? Any thread. */
int fc_ended(const struct fc_endpoint *ep)
{
    return atomic_load(&ep->stop) != 0;
}

/* Shut down, but only while the peer is active and no call is under way, that is, while it has sent nothing: it then
 * fails to give, and knows that its datagram was not delivered. Nonzero when the connection is over now.
 *
 * Within a call a server gives control away, too (streams, messages in parts). Were one to come, and go so far, between
 * the look for a call and the end, it would be cut off. So whoever retires says so first and then looks, and a call is
 * known before its thread looks whether somebody retires (fc_still_busy): one of the two sees the other. */
int fc_retire(struct fc_endpoint *ep)
{
    uint32_t seen = ep->theirs, none = 0;
    if (inherited(ep))
        return 0;
    atomic_fetch_add(&ep->retiring, 1);
    bool idle = __atomic_load_n(&ep->call, __ATOMIC_SEQ_CST) == FC_CALL_NONE;
    bool ended = idle && atomic_compare_exchange_strong(fc_word(&ep->packet->conn_state), &seen, end_given(ep));
    atomic_fetch_sub(&ep->retiring, 1);
    if (!ended)
        return idle && fc_is_over(seen);
    atomic_compare_exchange_strong(&ep->stop, &none, -FC_ERR_SHUTDOWN);
    wake_all(ep);
    return 1;
}

/* Server, within a call, before it gives control away: who took the channel for idle has looked at the word by now. */
void fc_still_busy(struct fc_endpoint *ep)
{
    if (ep->mine != FC_SERVER_ACTIVE)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    while (atomic_load(&ep->retiring))
        sched_yield();
}

/* Server: retire as soon as the call under way has been answered (call.c). From outside alone, a client that calls
 * without pause may be missed for ever: it is active for no more than a microsecond between two calls. */
void fc_drain(struct fc_endpoint *ep)
{
    atomic_store(&ep->draining, 1);
}

/* The connection cannot go on: remember why, and end it, so that the peer does not wait for an answer. `result`. */
int fc_break(struct fc_endpoint *ep, enum fc_result result, enum fc_fault what, int64_t value)
{
    ep->turn = FC_TURN_OVER;
    ep->fault = what;
    ep->fault_value = value;
    end(ep);
    return result;
}

/* Sleep and wake with switch `id` from now on. Precondition: nobody is inside, and the peer is asked for the same
 * in the same flip (endpoint.py, connect and accept). */
int fc_use_switch(struct fc_endpoint *ep, uint32_t id)
{
    static const struct fc_switch *const switches[] = {
        [FC_SWITCH_FUTEX] = &fc_switch_futex,
        [FC_SWITCH_SWAP] = &fc_switch_swap,
        [FC_SWITCH_NOTIFY] = &fc_switch_notify,
    };
    if (id >= sizeof switches / sizeof switches[0] || !switches[id] || (id == FC_SWITCH_NOTIFY && !ep->notify))
        return FC_ERR_TURN;
    atomic_store(&ep->how, switches[id]);
    /* A shutdown meanwhile may have woken by the old switch a peer that sleeps by the new one. Either it has read the
     * new one after it changed conn_state, or the change is seen here. */
    if (fc_is_over(atomic_load(fc_word(&ep->packet->conn_state))))
        wake_all(ep);
    return FC_OK;
}
