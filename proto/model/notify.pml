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
 *   - the server stays at the listener, or closes it: it has no deadline of its own, and leaving closes it;
 *   - the client can end its own trap without its peer [fc_notify_abort]: for its deadline and its shutdown();
 *   - a wake that is not a swap must not sleep: it rings the bell, it does not trap.
 */
#include "word.pml"

#define NEGOTIATED /* the handshake chooses this switch, so both sides know each other before the first flip */

mtype = { NO_NOTE, INIT, SENT };
mtype note = NO_NOTE;   /* the client's notification: queued, received by the server */
bool open = true;       /* somebody holds the listener */
bool bell;              /* the eventfd's count is not zero */
bool queued[2];         /* asleep: the client in its trap, the server in poll() */

#define ASLEEP(i) queued[i]
/* The client sleeps and the server is on its way to the listener, where it will find the notification. */
#define PENDING(i) ((i) == CLIENT && note != NO_NOTE && waiting[SERVER] && !queued[SERVER])
#ifdef FAULT_NOTIFY_SERVER_DEADLINE
#define CAN_EXPIRE(i) true
#else
#define CAN_EXPIRE(i) ((i) == CLIENT)
#endif
#define CAN_IDLE(i) ((i) == CLIENT) /* an idle server that is not active would not be at the listener */

inline answer() { note = NO_NOTE; queued[CLIENT] = false }
inline ring() { bell = true; queued[SERVER] = false }

/* seccomp: the trapped call. ENOSYS at once when nobody holds the listener. A deadline that has passed already
 * ends it at once too: whoever watches the deadline goes on until the thread has left. */
inline trap() {
    if
    :: open && !expired[CLIENT] -> note = INIT; queued[CLIENT] = true; queued[SERVER] = false
    :: open && expired[CLIENT] -> ring()
    :: !open -> skip
    fi
}

/* [fc_notify_park] */
inline PARK(me) {
    if
    :: me == CLIENT ->
        d_step { SYSCALL(me); trap() };
        !queued[CLIENT]
    :: me == SERVER ->
        d_step {
            SYSCALL(me);
            queued[SERVER] = note != INIT && !bell && !expired[SERVER] && !dead[CLIENT]
        };
        !queued[SERVER];
        bell = false;           /* read(bell), before the look at conn_state */
        d_step { if :: note == INIT -> note = SENT :: else -> skip fi }; /* SECCOMP_IOCTL_NOTIF_RECV */
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

/* [fc_notify_swap] The client's is the trap itself; the server's is NOTIF_SEND, then poll. */
inline SWAP(me) {
    if
    :: me == CLIENT ->
        d_step { SYSCALL(me); trap(); owes[me] = false };
        !queued[CLIENT]
    :: me == SERVER ->
        WAKE(me);
        PARK(me)
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
        d_step { open = false; answer(); ring(); owes[th] = false }
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
    :: (i) == CLIENT -> note = NO_NOTE
    :: else -> skip
    fi
}

/* Death is noticed by the kernel, with no slice: the listener closes with its last holder, and hangs up (POLLHUP)
 * when the last thread under the filter is gone. */
inline REAP(i) {
    answer();
    queued[SERVER] = false;
    if
    :: (i) == SERVER -> open = false
    :: else -> skip
    fi
}

#include "flip.pml"
