/* queue.pml: the kernel's futex queue of conn_state, and what the C does with it (flipcall/core/futex.c).
 * What the futex and swap switches share. */
bool queued[2]; /* this side's thread is on the queue: it sleeps until taken off */
bool taken[2];  /* taken off by a FUTEX_SWAP that has not yet woken it (swap.pml) */

#define ASLEEP(i) (queued[i] || taken[i])
#define PENDING(i) false            /* a wake that has left its waker is a wake that has happened */
#define SLICE(me) dead[PEER(me)]    /* ep->slice_ns, FC_SLICE_NS: lets go only if there is a death to notice */
#define CAN_EXPIRE(i) true
#define CAN_IDLE(i) true

#define CLOSE(me) skip
/* A signal, a deadline, or nothing at all ends the sleep. */
inline KICK(i) { queued[i] = false; taken[i] = false }
/* The kernel takes a dead thread off the queue; a thread killed inside FUTEX_SWAP still wakes the one it took. */
inline REAP(i) { queued[i] = false; taken[CLIENT] = false; taken[SERVER] = false }

/* futex_wait in the kernel: compare and queue are one step under the queue's lock. A deadline that has passed
 * already is ETIMEDOUT at once. */
inline enqueue(me) {
    if
#ifdef FAULT_NO_COMPARE
    :: !expired[me] -> queued[me] = true /* a sleep that does not look at the word */
#else
    :: conn == PEER(me) && !expired[me] -> queued[me] = true
#endif
    :: else -> skip /* EAGAIN, ETIMEDOUT */
    fi
}

/* sleep_once: fc_futex_wait(conn_state, theirs, until) */
inline PARK(me) {
    d_step { SYSCALL(me); enqueue(me) };
    blocked(me)
}

inline blocked(me) {
    if
    :: !ASLEEP(me)
#ifndef FAULT_NO_SLICE
    :: d_step { ASLEEP(me) && SLICE(me) -> KICK(me) }
#endif
    fi
}

/* fc_give: fc_futex_wake(conn_state, 1). The caller does not sleep, so the one waiter it can take is its peer. */
inline WAKE(me) {
    d_step { SYSCALL(me); queued[PEER(me)] = false; owes[me] = false }
}

/* stop(), called by thread t of side me: fc_futex_wake(conn_state, INT_MAX) */
inline UNBLOCK(who, th) {
#ifdef FAULT_SHUTDOWN_WAKES_ONE
    atomic {
        if
        :: queued[CLIENT] -> queued[CLIENT] = false
        :: queued[SERVER] -> queued[SERVER] = false
        :: !queued[CLIENT] && !queued[SERVER] -> skip
        fi;
        owes[th] = false
    }
#else
    d_step { queued[CLIENT] = false; queued[SERVER] = false; owes[th] = false }
#endif
}
