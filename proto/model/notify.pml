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
byte requests;          /* the kernel's count: one more with each trap, one less with each RECV, which blocks at 0. A trap
                         * that a signal ends leaves it: the next RECV finds nothing, and says ENOENT */
bool readable;          /* poll() has said POLLIN of the listener */
bool receiving;         /* the server in NOTIF_RECV, where only a notification reaches it */
bool poke;              /* the notification of the poker's call: queued */
bool poking;            /* a poke has been asked for (notify_taker.c) */
bool bell;              /* a byte lies in the server's end of the bell */
bool hung;              /* the bell has hung up: shutdown(2) by either side, or death */

#define ANY_INIT (note == INIT || poke)
#define IN_RECV (receiving && requests == 0)
#define ASLEEP(i) (queued[i] || (i) == CLIENT && trapped || (i) == SERVER && (polling || IN_RECV))
/* Not lost yet: the notification is there and the server on its way to it; or the watch ends the trap. In the C it does
 * so after a slice whatever the server does; here only where nobody else will, or every fault would heal. */
#ifdef FAULT_NOTIFY_NO_WATCH
#define WATCHED false
#else
#define WATCHED (trapped && (hung || expired[CLIENT] || idle[SERVER]))
#endif
#define PENDING(i) ((i) == CLIENT && ( \
    (note != NO_NOTE && !mine[SERVER] && !ASLEEP(SERVER) && !idle[SERVER] && !gone[SERVER]) || WATCHED) \
    || (i) == SERVER && IN_RECV && poking)
#define CAN_EXPIRE(i) true
#define CAN_IDLE(i) true

/* the kernel: a notification is queued, and whoever polls sees it; the thread that trapped goes on, and what was received
 * of it is void */
inline notified() { requests++; readable = readable || polling; polling = false }
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
        SYSCALL(CLIENT); note = INIT; trapped = true; notified()
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
    :: !(owed && ON_LISTENER) ->
#endif
#ifdef FAULT_NOTIFY_FORGETS
        owes[CLIENT] = false;
#else
        if
        :: owed && SLEEPS(CLIENT) -> wake_server(CLIENT)
        :: !owed || !SLEEPS(CLIENT) -> owes[CLIENT] = false
        fi;
#endif
        by_futex(CLIENT)
    :: owed && ON_LISTENER -> trap()
    fi
}

/* ---- the server ------------------------------------------------------------------------------------------- */

/* receive(): what it finds is the channel's, or the poke, answered at once; which of them was first is left open */
inline receive() {
    d_step { readable = false; receiving = !dead[CLIENT] }; /* RECV, too, ends with the last thread under the filter */
    if
    :: atomic { receiving && requests > 0 ->
            requests--;
            receiving = false;
            if
            :: note == INIT -> note = SENT; holding = true
            :: poke -> poke = false
            :: !ANY_INIT -> skip /* ENOENT */
            fi
        }
    :: !receiving -> skip       /* EINTR */
    fi
}

/* answer(): NOTIF_SEND of what it holds */
inline answer() {
    if
    :: holding && note == SENT -> untrap()
    :: else -> skip
    fi;
    holding = false
}

/* wake_client(): the two looks at the bits (fc_give's, and this one) are two steps */
inline wake_client() {
    if
    :: d_step { !HAS_HOW(CLIENT) -> answer(); queued[CLIENT] = false; owes[SERVER] = false }
    :: d_step { HAS_HOW(CLIENT) && holding && note == SENT -> SYSCALL(SERVER); answer(); owes[SERVER] = false }
    :: d_step { HAS_HOW(CLIENT) && !(holding && note == SENT) -> SYSCALL(SERVER); holding = false };
        do                      /* void, or nothing held: receive what is there, and answer that */
        :: ANY_INIT && !holding -> receive()
        :: d_step { !ANY_INIT || holding -> answer(); owes[SERVER] = false }; /* nothing: it is only about to trap */
            break
        od
    fi
}

/* on_listener(): poll, receive, drain, then look; to poll again without leaving is the loop of park() here */
inline on_listener() {
    d_step {
        SYSCALL(SERVER);
        polling = (!ANY_INIT && !bell && !hung && !expired[SERVER]);
        readable = ANY_INIT
    };
    !polling;
    if
    :: readable -> receive(); owes[CLIENT] = owes[CLIENT] && note != SENT   /* it comes to the look below */
    :: !readable -> skip
    fi;
    bell = false;       /* drain(), before the look at conn_state */
#ifndef FAULT_NOTIFY_NO_LATE_ANSWER
    if
    :: LOOK(SERVER) == CLIENT -> d_step { answer() }
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
        :: me == SERVER -> answer()
        :: else -> skip
        fi
    }
}

/* A signal, a deadline, or nothing at all ends the sleep; of a trap: its notification is void, whoever has it. */
inline KICK(i) {
    queued[i] = false;
    if
    :: (i) == CLIENT && trapped -> untrap()
    :: (i) == SERVER -> polling = false; receiving = false
    :: else -> skip
    fi
}

/* The bell hangs up with the process; and the notifications of dead threads are void. */
inline REAP(i) {
    queued[i] = false;
    hung = true;
    polling = false;
    receiving = false;
    if
    :: (i) == CLIENT -> untrap(); poke = false; poking = false
    :: else -> skip
    fi
}

#ifndef FAULT_NOTIFY_NO_WATCH
/* The watch, a thread of the client's process. It is what ends a trap at its deadline, too, which KICK does here. What
 * the server has received it answers; */
active proctype watch() {
end_watch:
    do
    :: d_step { WATCHED && note == SENT -> untrap() }
    od
}

/* what nobody has, the taker receives first, with the poke if that is there; where it finds nothing any more, since a signal
 * has ended the trap (ENOENT), it has used up what would have kept the server from waiting for it in RECV. So it pokes
 * in any case. FAULT_NOTIFY_TAKER_LEFT: it has been left at it by those who measured. -DTAKER_STAYS: it may look, find the
 * server quicker, and stay in RECV. */
#ifdef FAULT_NOTIFY_TAKER_LEFT
#define TAKES (note == INIT)
#else
#define TAKES (WATCHED && note == INIT)
#endif
inline take_note() {
    if
    :: ANY_INIT -> requests = requests - (note == INIT) - poke; poking = true
    :: !ANY_INIT -> requests--;
#ifndef FAULT_NOTIFY_EMPTY_HANDED
        poking = true
#endif
    fi;
    if
    :: note == INIT -> untrap()
    :: note != INIT -> skip
    fi;
    poke = false
}
active proctype taker() {
end_taker:
    do
#ifdef TAKER_STAYS
    :: TAKES ->
end_recv:
        atomic { requests > 0 && !dead[CLIENT] -> take_note() }
#else
    :: atomic { TAKES -> take_note() }
#endif
    od
}

#ifndef FAULT_NOTIFY_NO_POKE
active proctype poker() {
end_poker:
    do
    :: d_step { poking && !poke -> poking = false; poke = true; notified() }
    od
}
#endif
#endif

#include "flip.pml"
