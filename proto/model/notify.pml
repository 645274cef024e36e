/* notify.pml: the notify switch, seccomp user notification with SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP; one channel.
 * listener.pml has several channels on one listener.
 *
 * The client's trapped system call is a *swap* and nothing else: made where a wake is owed to a server that says it is
 * on the listener, it wakes whoever polls there, and sleeps until the notification is answered. The server parks in
 * poll(listener, bell). All other sleeps are FUTEX_WAITs on conn_state, all other wakes a FUTEX_WAKE or the bell, and
 * each side's NOTIFY bit in `sleepers`, set with its SLEEPS bit and cleared before a FUTEX_WAIT, says which it is.
 *
 * Unlike FUTEX_WAIT neither the trap nor poll() looks at conn_state. So here everything rests on set-then-look, and one
 * race is left that no order can close: the client looks, the server gives control, sees the client's bits and finds no
 * notification to answer, the client traps. switch_notify.c lists what makes up for it; each is a fault below:
 *   - the server answers a notification that comes when it is not its turn, when it next parks;
 *   - where it never parks again, the watch of the client (notify_watch.c) ends the trap;
 *   - a trap that ends without the turn may have woken nobody: the client then rings.
 */
#define HOW(i) ((i) == CLIENT -> 4 : 8) /* FC_NOTIFY_CLIENT, FC_NOTIFY_SERVER */
#include "word.pml"
#define HAS_HOW(i) ((sleepers & HOW(i)) != 0)
#define ON_LISTENER ((sleepers & MY_BIT(SERVER)) == MY_BIT(SERVER))

#define NEGOTIATED /* the handshake chooses this switch, so both sides know each other before the first flip */

mtype = { NO_NOTE, INIT, SENT };
mtype note = NO_NOTE;   /* the notification of the client's call: queued, received by the server */
bool trapped;           /* asleep: the client in its trapped call, */
bool polling;           /* the server in poll(), */
bool queued[2];         /* either side on the futex queue of conn_state */
bool holding;           /* e->holding; its id is void when note is not SENT */
bool bell;              /* a byte lies in the server's end of the bell */
bool hung;              /* the bell has hung up: shutdown(2) by either side, or death */
bool waited;            /* e->waited */

#define ASLEEP(i) (queued[i] || (i) == CLIENT && trapped || (i) == SERVER && polling)
/* Not lost yet: the notification is there and the server on its way to it; or the watch ends the trap. In the C it does
 * so after a slice whatever the server does; here only where nobody else will, or every fault would heal. */
#ifdef FAULT_NOTIFY_NO_WATCH
#define WATCHED false
#else
#define WATCHED (trapped && (hung || expired[CLIENT] || idle[SERVER]))
#endif
#define PENDING(i) ((i) == CLIENT && ( \
    (note != NO_NOTE && !mine[SERVER] && !ASLEEP(SERVER) && !idle[SERVER] && !gone[SERVER]) || WATCHED))
#define CAN_EXPIRE(i) true
#define CAN_IDLE(i) true

/* the kernel: the thread that trapped goes on; what was received of it is void */
inline untrap() { note = NO_NOTE; trapped = false }
/* send() on the bell */
inline ring() { bell = true; polling = false }

/* by_futex: the NOTIFY bit goes first; FUTEX_WAIT compares. A deadline that has passed is ETIMEDOUT at once. */
inline by_futex(me) {
#ifndef FAULT_NOTIFY_BIT_KEPT
    d_step { SYSCALL(me); sleepers = WITHOUT(HOW(me)) };
#endif
    d_step { SYSCALL(me); queued[me] = (conn == PEER(me) && !expired[me]) };
    if
    :: !queued[me]
    :: d_step { queued[me] && dead[PEER(me)] -> queued[me] = false } /* a slice */
    fi
}

/* ---- the client ------------------------------------------------------------------------------------------- */

inline wake_server(th) {
    if
    :: atomic { HAS_HOW(SERVER) -> ring(); owes[th] = false }
    :: atomic { !HAS_HOW(SERVER) -> queued[SERVER] = false; owes[th] = false }
    fi
}

/* trap(): the call itself; then, where it has not brought the turn, a wake */
inline trap() {
    d_step { /* also when it is late: the watch goes on until the thread has left */
        SYSCALL(CLIENT); note = INIT; trapped = true; polling = false
    };
    !trapped;
#ifndef FAULT_NOTIFY_VOID
    if
    :: LOOK(CLIENT) == SERVER -> wake_server(CLIENT)
    :: LOOK(CLIENT) != SERVER -> skip
    fi;
#endif
    owes[CLIENT] = false
}

/* client_sleep(): `owed` says that the server sleeps and has not been woken yet. -DUNCOVERED: the filter may not reach
 * this thread. Bits are read once. */
inline client_sleep(owed) {
    if
#ifdef UNCOVERED
    :: true ->
#else
    :: atomic { !(ON_LISTENER && (owed || waited)) -> waited = ON_LISTENER };
#endif
#ifdef FAULT_NOTIFY_FORGETS
        owes[CLIENT] = false;
#else
        if
        :: owed && SLEEPS(CLIENT) -> wake_server(CLIENT)
        :: !owed || !SLEEPS(CLIENT) -> owes[CLIENT] = false
        fi;
#endif
        by_futex(CLIENT);
        waited = waited && expired[CLIENT]
    :: ON_LISTENER && (owed || waited) ->
        waited = false;
        trap()
    fi
}

/* ---- the server ------------------------------------------------------------------------------------------- */

/* wake_client(): the two looks at the bits (fc_give's, and this one) are two steps */
inline wake_client() {
    if
    :: d_step { !HAS_HOW(CLIENT) ->
            if
            :: holding && note == SENT -> untrap()
            :: else -> skip
            fi;
            holding = false;
            queued[CLIENT] = false;
            owes[SERVER] = false
        }
    :: HAS_HOW(CLIENT) ->
        d_step {        /* NOTIF_SEND of what it holds; void, or nothing held: receive what is there, and answer that */
            SYSCALL(SERVER);
            if
            :: note != NO_NOTE -> untrap()
            :: else -> skip /* the client is only about to trap */
            fi;
            holding = false;
            owes[SERVER] = false
        }
    fi
}

/* on_listener(): poll, receive, drain, then look; to poll again without leaving is the loop of park() here */
inline on_listener() {
    d_step { SYSCALL(SERVER); polling = (note != INIT && !bell && !hung && !expired[SERVER]) };
    !polling;
    d_step {            /* receive() */
        if
        :: note == INIT -> note = SENT; holding = true; owes[CLIENT] = false
        :: else -> skip
        fi
    };
    bell = false;       /* drain(), before the look at conn_state */
#ifndef FAULT_NOTIFY_NO_LATE_ANSWER
    if
    :: LOOK(SERVER) == CLIENT ->
        d_step {
            if
            :: holding && note == SENT -> untrap()
            :: else -> skip
            fi;
            holding = false
        }
    :: LOOK(SERVER) != CLIENT -> skip
    fi
#endif
}

/* ---- the switch ------------------------------------------------------------------------------------------- */

inline PARK(me) {
    if
    :: me == CLIENT -> client_sleep(false)
    :: me == SERVER -> on_listener()
    fi
}

inline WAKE(me) {
    if
    :: me == CLIENT -> wake_server(CLIENT)
    :: me == SERVER -> wake_client()
    fi
}

inline SWAP(me) {
    if
    :: me == CLIENT -> client_sleep(true)
    :: me == SERVER ->
        wake_client();
#ifdef FAULT_NOTIFY_BLIND_SWAP
        on_listener()
#else
        if
        :: LOOK(me) == CLIENT -> on_listener()
        :: LOOK(me) != CLIENT -> skip
        fi
#endif
    fi
}

/* notify_close(), of either side: shutdown(2) on the bell ends poll() and, through the watch, the trap */
inline UNBLOCK(who, th) {
#ifndef FAULT_NOTIFY_NO_HANG_UP
    d_step { hung = true; polling = false };
#endif
    d_step { queued[CLIENT] = false; queued[SERVER] = false; owes[th] = false }
}

/* fc_notify_leave(): the side's own thread leaves for good. */
inline CLOSE(me) {
    d_step {
        if
        :: me == SERVER && holding && note == SENT -> untrap()
        :: else -> skip
        fi
    }
}

/* A signal, a deadline, or nothing at all ends the sleep; of a trap: its notification is void, whoever has it. */
inline KICK(i) {
    queued[i] = false;
    if
    :: (i) == CLIENT && trapped -> untrap()
    :: (i) == SERVER -> polling = false
    :: else -> skip
    fi
}

/* The bell hangs up with the process; and the notifications of dead threads are void. */
inline REAP(i) {
    queued[i] = false;
    hung = true;
    polling = false;
    if
    :: (i) == CLIENT -> untrap()
    :: else -> skip
    fi
}

#ifndef FAULT_NOTIFY_NO_WATCH
/* The watch, a thread of the client's process. It is what ends a trap at its deadline, too, which KICK does here. */
active proctype watch() {
end_watch:
    do
    :: d_step { WATCHED -> untrap() }
    od
}
#endif

#include "flip.pml"
