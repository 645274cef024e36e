/* notify.pml: the notify switch, seccomp user notification with SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP. One channel.
 *
 * The client parks in a trapped system call: it sleeps until the server answers the notification, until a signal,
 * or until the listener closes (ENOSYS). The trap wakes whoever waits on the listener, so it is the swap as well.
 * The server parks in poll(listener, bell): it sleeps until a notification is there, or the bell, an eventfd.
 *
 * Unlike FUTEX_WAIT neither sleep looks at conn_state. So here everything rests on set-then-look, and one race is
 * left that no order can close: the client looks, the server gives control, sees the client's bit and finds no
 * notification to answer, the client traps. README.md lists what follows for the C code of issue 3, which this
 * model stands for and which does not exist yet (names in brackets are proposals):
 *   - the server answers a notification that comes when it is not its turn, on every way through its park;
 *   - the server comes back to the listener whenever it has given control away, or closes it;
 *   - the client can end its own trap without its peer [fc_notify_abort]: for its deadline and its shutdown();
 *   - the server looks at conn_state between taking a notification and sleeping, in its swap too;
 *   - a swap that ends without an answer has woken nobody for sure: the client then rings;
 *   - a wake that is not a swap must not sleep: it rings the bell, it does not trap.
 */
#include "word.pml"

#define NEGOTIATED /* the handshake chooses this switch, so both sides know each other before the first flip */

mtype = { NO_NOTE, INIT, SENT };
mtype note = NO_NOTE;   /* the client's notification: queued, received by the server */
bool open = true;       /* somebody holds the listener */
bool bell;              /* the eventfd's count is not zero */
bool queued[2];         /* asleep: the client in its trap, the server in poll() */
bool voided;            /* the trap ended without an answer: EINTR, the client's own deadline or abort */

#define ASLEEP(i) queued[i]
/* The server is not active, so it is on its way to the listener (or closes it), and answers there. */
#define PENDING(i) \
    ((i) == CLIENT && note != NO_NOTE && !mine[SERVER] && !queued[SERVER] && !idle[SERVER] && !gone[SERVER])
#define CAN_EXPIRE(i) true
#ifdef FAULT_NOTIFY_SERVER_AWAY
#define CAN_IDLE(i) true
#else
#define CAN_IDLE(i) ((i) == CLIENT) /* the server comes back after a deadline, and after fc_send_last */
#endif

inline answer() {
    if
    :: note == INIT -> owes[CLIENT] = false /* RECV comes first */
    :: else -> skip
    fi;
    note = NO_NOTE;
    queued[CLIENT] = false
}
inline ring() { bell = true; queued[SERVER] = false }

/* seccomp: the trapped call. ENOSYS at once when nobody holds the listener. A deadline that has passed already
 * ends it at once too: whoever watches the deadline goes on until the thread has left. */
inline trap() {
    if
    :: open && !expired[CLIENT] -> note = INIT; queued[CLIENT] = true; queued[SERVER] = false
    :: open && expired[CLIENT] -> voided = true
    :: !open -> owes[CLIENT] = false
    fi
}

/* [fc_notify_park] */
inline PARK(me) {
    if
    :: me == CLIENT ->
        d_step { SYSCALL(me); trap() };
        d_step { !queued[CLIENT] -> voided = false }
    :: me == SERVER ->
        d_step {
            SYSCALL(me);
            queued[SERVER] = note != INIT && !bell && !expired[SERVER] && !dead[CLIENT]
        };
        !queued[SERVER];
        bell = false;           /* read(bell), before the look at conn_state */
        d_step {                /* SECCOMP_IOCTL_NOTIF_RECV; a swap's wake has arrived */
            if
            :: note == INIT -> note = SENT; owes[CLIENT] = false
            :: else -> skip
            fi
        };
#ifndef FAULT_NOTIFY_NO_LATE_ANSWER
        if                      /* not my turn: the client traps in vain, SECCOMP_IOCTL_NOTIF_SEND at once */
        :: LOOK(me) != SERVER -> d_step { if :: note == SENT -> answer() :: else -> skip fi }
        :: else -> skip         /* answered when control is given back */
        fi
#endif
    fi
}

/* [fc_notify_wake] The server answers the notification if it is there (RECV first if need be); if it is not, the
 * client is between its look and its trap, and the server meets the trap in its next park. */
inline WAKE(me) {
    d_step {
        SYSCALL(me);
        if
        :: me == CLIENT -> ring()
        :: me == SERVER && note != NO_NOTE -> answer()
        :: else -> skip
        fi;
        owes[me] = false
    }
}

/* [fc_notify_swap] The client's is the trap itself; the server's is NOTIF_SEND, then a look, then poll: the
 * notification it has answered may have been a new one, with a wake in it for this very park. A notification whose
 * thread has left is void, and a server that had not yet reached poll() never learns that there was one: so a
 * client whose trap ended without an answer still owes the wake, and rings. */
inline SWAP(me) {
    if
    :: me == CLIENT ->
        d_step { SYSCALL(me); trap() };
        d_step {
            !queued[CLIENT] ->
            if
#ifndef FAULT_NOTIFY_VOID
            :: voided -> ring()
#endif
            :: else -> skip
            fi;
            voided = false;
            owes[me] = false
        }
    :: me == SERVER ->
        WAKE(me);
#ifdef FAULT_NOTIFY_BLIND_SWAP
        PARK(me)
#else
        if
        :: LOOK(me) == CLIENT -> PARK(me)
        :: LOOK(me) != CLIENT -> skip
        fi
#endif
    fi
}

/* stop(), called by thread t of side me. The client ends its own trap, again until its thread has left the wait's
 * bit behind (it may be about to trap), then rings. The server closes the listener, which ends the trap, and
 * rings for its own thread. */
inline UNBLOCK(who, th) {
    if
    :: who == CLIENT ->
#ifndef FAULT_NOTIFY_NO_ABORT
        if
        :: th == CLIENT -> skip /* the client's own thread is here: it is not in a trap */
        :: th != CLIENT ->
            do
            :: atomic { queued[CLIENT] -> answer() }
            :: !queued[CLIENT] && !(sleepers & BIT(CLIENT)) -> break
            od
        fi;
#endif
        atomic { ring(); owes[th] = false }
    :: who == SERVER ->
#ifdef FAULT_NOTIFY_STOP_OPEN
        atomic { answer(); ring(); owes[th] = false }
#else
        atomic { open = false; answer(); ring(); owes[th] = false }
#endif
    fi
}

/* [fc_notify_close] The side's own thread leaves for good. */
inline CLOSE(me) {
#ifndef FAULT_NOTIFY_LEAVE_OPEN
    d_step {
        if
        :: me == SERVER -> open = false; answer()
        :: else -> skip
        fi
    }
#else
    skip
#endif
}

/* A signal, a deadline, or nothing at all ends the sleep; a notification whose thread has left is void: ENOENT. */
inline KICK(i) {
    queued[i] = false;
    if
    :: (i) == CLIENT && note != NO_NOTE -> note = NO_NOTE; voided = true
    :: else -> skip
    fi
}

/* Death is noticed by the kernel, with no slice: the listener closes with its last holder, and hangs up (POLLHUP)
 * when the last thread under the filter is gone. */
inline REAP(i) {
    answer();
    queued[SERVER] = false;
    voided = false;
    if
    :: (i) == SERVER -> open = false
    :: else -> skip
    fi
}

#include "flip.pml"
