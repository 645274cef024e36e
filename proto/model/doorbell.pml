/* doorbell.pml: sides that wait in an event loop and are rung, not woken (flipcall/core/doorbell.c).
 *
 * Such a side does not sleep in a call. It sets its bit, looks, and goes back to its loop (FC_ARMED), which sleeps until
 * the control socket is readable; it then reads everything that is there (E1) and only then looks again (R3). Its peer,
 * seeing the bit, writes to the socket. epoll_wait(2) does not look at conn_state: as with notify everything rests on
 * set-then-look, and on E1 coming before R3. The bit stays set until a look finds the turn: who is rung without need
 * goes back to its loop armed.
 *
 * -DLOOP_CLIENT=0, -DLOOP_SERVER=0: that side sleeps by futex.
 */
#define NEGOTIATED /* both sides have agreed on doorbells before the first call */
#ifndef LOOP_CLIENT
#define LOOP_CLIENT 1
#endif
#ifndef LOOP_SERVER
#define LOOP_SERVER 1
#endif
#define IN_LOOP(i) ((i) == CLIENT -> LOOP_CLIENT : LOOP_SERVER) /* ep->by_bell */
#define STAYS_ARMED(i) IN_LOOP(i)
#include "word.pml"

bool queued[2];         /* on the futex queue of conn_state */
bool waits[2];          /* back in its loop */
bool rung[2];           /* something lies in this side's end of the socket; a full one takes no more, and needs none */

#define ASLEEP(i) (queued[i] || waits[i] && !rung[i])
#define PENDING(i) false
#define CAN_EXPIRE(i) true
#define CAN_IDLE(i) true
#define CLOSE(me) skip

/* A signal, the loop's timer, or nothing at all ends the sleep. */
inline KICK(i) { queued[i] = false; waits[i] = false }
inline REAP(i) { queued[i] = false; waits[i] = false }

/* leave_it(), and what the loop does until it calls the verb again; or sleep_once() */
inline PARK(me) {
    if
    :: IN_LOOP(me) ->
#ifdef FAULT_BELL_LOOK_THEN_READ
        rung[me] = false;               /* E1 after R3: what has come between is taken for a ring without need */
#endif
        waits[me] = !expired[me];
        if
        :: waits[me] && rung[me] ->
            waits[me] = false;
#ifndef FAULT_BELL_LOOK_THEN_READ
            rung[me] = false            /* E1 */
#endif
        :: !waits[me]
        :: d_step { waits[me] && dead[PEER(me)] -> waits[me] = false } /* the socket has hung up: fc_hung_up */
        fi
    :: !IN_LOOP(me) ->
        d_step { SYSCALL(me); queued[me] = (conn == PEER(me) && !expired[me]) };
        if
        :: !queued[me]
        :: d_step { queued[me] && dead[PEER(me)] -> queued[me] = false } /* a slice */
        fi
    fi
}

/* fc_give: fc_ring(), or the futex */
inline WAKE(me) {
    d_step {
        SYSCALL(me);
#ifndef FAULT_BELL_NOT_RUNG
        rung[PEER(me)] = rung[PEER(me)] || IN_LOOP(PEER(me));
#endif
        queued[PEER(me)] = false;
        owes[me] = false
    }
}
inline SWAP(me) {
    WAKE(me);
    PARK(me)
}

/* wake_all(): the futex for both, fc_ring_always() for the peer. This side's own loop is told by who ends it, with a
 * callback that waits in it like a ring (asyncio). */
inline UNBLOCK(who, th) {
    d_step {
        queued[CLIENT] = false;
        queued[SERVER] = false;
        rung[who] = rung[who] || IN_LOOP(who);
#ifndef FAULT_BELL_SILENT_END
        rung[PEER(who)] = rung[PEER(who)] || IN_LOOP(PEER(who));
#endif
        owes[th] = false
    }
}

#include "flip.pml"
