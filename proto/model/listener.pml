/* listener.pml: several channels of one client process on its one listener (switch_notify.c, "Many channels").
 *
 * Each channel is a word with two honest sides that flip a few times; what a single channel may meet (shutdown, death,
 * deadlines, store buffers) is notify.pml's. Here it is about who polls: the *leader* does, the other server threads
 * sleep by futex; a trap wakes every thread that polls, the listener hands each notification to one of them, and that
 * may be the wrong one. New leaders come when the old one is away in its handler, leaves, or has been idle while
 * another was busy; at such a moment two threads may poll at once.
 *
 *     spin -a listener.pml && gcc -O1 -DSAFETY -o pan pan.c && ./pan -E
 */
#ifndef N
#define N 2             /* channels */
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 1     /* how often FC_PATIENCE may be over; a leader that is away is replaced without */
#endif
#ifndef FLIPS
#define FLIPS 2         /* calls each client makes */
#endif
#define CLIENT 0
#define SERVER 1
#define NOBODY N

mtype = { NO_NOTE, INIT, SENT };
byte conn[N];           /* conn_state of each channel; CLIENT at first */
bool notify_c[N], notify_s[N];  /* `sleepers` of each; SLEEPS is set whenever NOTIFY is, and fc_give's look at it is
                                 * notify.pml's */
mtype note[N] = NO_NOTE;/* the notification of each client's call */
byte holder[N];         /* who has received it: the server thread of that channel, while SENT */
bool trapped[N];
bool futex_c[N], futex_s[N];    /* on the futex queue of the channel's conn_state */
bool polling[N], receiving[N];  /* server threads in poll(); in a NOTIF_RECV that may block */
bool woken[N];          /* poll() has said POLLIN of the listener */
bool bell[N];
byte leader = NOBODY;   /* l->leader */
bool waiting[N];        /* l->member[].waiting */
bool baton;             /* the eventfd: leader, see who leads now */
bool left[N];           /* fc_notify_leave: this channel is over */
bool out[N];                    /* ghost: its server thread has returned */
bool owes_c[N], owes_s[N];      /* ghosts: has given, and not yet woken, or rightly not woken, the other side */
byte takeovers = TAKEOVERS;
byte calls_done;                /* clients that have all their answers, or whose channel is over */

#define ANY_INIT (note[0] == INIT || note[1] == INIT || (N > 2 && note[N - 1] == INIT))
#define ASLEEP_SERVER(c) (futex_s[c] || polling[c] || receiving[c])
#define asleep_client(c) (trapped[c] || futex_c[c])

inline untrap(c) { note[c] = NO_NOTE; trapped[c] = false }
inline wake_pollers(trap) {
    woken[0] = woken[0] || trap && polling[0]; polling[0] = false;
    woken[1] = woken[1] || trap && polling[1]; polling[1] = false;
#if N > 2
    woken[N - 1] = woken[N - 1] || trap && polling[N - 1]; polling[N - 1] = false
#endif
}

/* ---- the client's thread of channel c --------------------------------------------------------------------- */

/* wake_server(): NOTIFY set: the bell; clear: FUTEX_WAKE */
inline wake_server(c) {
    d_step {
        if
        :: notify_s[c] -> bell[c] = true; polling[c] = false
        :: else -> futex_s[c] = false
        fi;
        owes_c[c] = false
    }
}

proctype client(byte c) {
    byte flips;
    do
    :: atomic { flips == FLIPS && conn[c] == CLIENT -> calls_done++; break }
    :: flips < FLIPS && conn[c] == CLIENT ->
        flips++;
        d_step { conn[c] = SERVER; owes_c[c] = true };  /* fc_give; skipping the wake is notify.pml's */
        if
        :: true ->                                      /* fc_give, then it spins: a wake that is not a swap */
            wake_server(c);
            goto Sleep
        :: notify_c[c] = true;
            if
            :: conn[c] == CLIENT -> owes_c[c] = false
            :: conn[c] == SERVER && notify_s[c] ->
                d_step { note[c] = INIT; trapped[c] = true; wake_pollers(true) };   /* trap() */
                !trapped[c];
                if
                :: conn[c] == SERVER -> wake_server(c)
                :: conn[c] == CLIENT -> owes_c[c] = false
                fi
            :: conn[c] == SERVER && !notify_s[c] ->
                wake_server(c);
                notify_c[c] = false;                                    /* by_futex */
                d_step { futex_c[c] = (conn[c] == SERVER && !left[c]) };
                !futex_c[c]
            fi
        fi
    :: conn[c] == SERVER ->
Sleep:  notify_c[c] = true;
        if
        :: conn[c] == CLIENT -> skip
        :: conn[c] == SERVER ->
            notify_c[c] = false;                                        /* not owed: by_futex */
            d_step { futex_c[c] = (conn[c] == SERVER && !left[c]) };
            !futex_c[c]
        fi;
        notify_c[c] = false
    :: atomic { left[c] -> calls_done++; break }
    od
}

/* ---- the server's thread of channel c --------------------------------------------------------------------- */

#define HELD(c) (note[c] == SENT && holder[c] == c)

/* One NOTIF_RECV, of any channel's notification: another's is answered at once, and its client rings. */
inline take_one(c) {
    if
    :: note[0] == INIT -> got = 0
    :: note[1] == INIT -> got = 1
#if N > 2
    :: note[N - 1] == INIT -> got = N - 1
#endif
    fi;
    note[got] = SENT;
    holder[got] = c;
    if
    :: got == c -> owes_c[c] = false
#ifndef FAULT_FOREIGN_KEPT
    :: got != c -> untrap(got)
#else
    :: got != c -> skip
#endif
    fi;
    got = 0
}

/* receive(): one thread at a time (l->receiving), which looks first. Without: what woke it may be gone, and RECV blocks
 * until the next trap. */
inline receive(c) {
#ifndef FAULT_BLIND_RECV
    atomic {
        if
        :: ANY_INIT -> take_one(c)
        :: !ANY_INIT -> skip
        fi
    }
#else
    d_step { receiving[c] = !ANY_INIT };
    atomic { ANY_INIT -> receiving[c] = false; take_one(c) }
#endif
}

inline answer(c) {
    if
    :: HELD(c) -> untrap(c)
    :: !HELD(c) -> skip
    fi
}

/* wake_client(): by futex; or its own notification, received before or found now, others being answered by the way */
inline wake_client(c) {
    if
    :: atomic { !notify_c[c] -> answer(c); futex_c[c] = false; owes_s[c] = false }
    :: notify_c[c] ->
        atomic {
            do
            :: ANY_INIT && !HELD(c) -> take_one(c)
            :: !ANY_INIT || HELD(c) -> break
            od;
            answer(c);
            owes_s[c] = false
        }
    fi
}

/* lead(): `leads` says whether this thread goes to the listener */
inline lead(c) {
    waiting[c] = true;
    who = leader;
    if
    :: who == c -> leads = true
    :: who != c ->
        away = (who == NOBODY);
        if
        :: who != NOBODY -> away = !waiting[who]
        :: else -> skip
        fi;
        leads = false;
        atomic {
            if
            :: leader == who && away -> leader = c; leads = true
            :: leader == who && !away && takeovers > 0 ->   /* idle for FC_PATIENCE parks */
                leader = c; leads = true;
                takeovers--; baton = true; wake_pollers(false)  /* all who poll the eventfd */
            :: leader != who || !away -> skip               /* another was quicker; not patient enough yet */
            fi
        };
        if
        :: !leads -> waiting[c] = false
        :: leads -> skip
        fi
    fi;
    who = 0; away = false
}

inline server_sleep(c) {
    lead(c);
    if
    :: !leads ->                        /* by_futex */
#ifndef FAULT_BIT_KEPT
        notify_s[c] = false;
#endif
        d_step { futex_s[c] = (conn[c] == CLIENT && !left[c]) };
        !futex_s[c]
    :: leads ->                         /* on_listener */
        do
        :: d_step { polling[c] = (!ANY_INIT && !bell[c] && !baton && !left[c]); woken[c] = ANY_INIT };
            !polling[c];
            if
            :: woken[c] -> woken[c] = false; receive(c)
            :: !woken[c] -> skip
            fi;
            atomic {
                bell[c] = false;
                if
                :: conn[c] == SERVER || left[c] -> break
                :: conn[c] == CLIENT && !left[c] ->
#ifndef FAULT_NO_LATE_ANSWER
                    answer(c);
#endif
                    baton = false;
                    if
                    :: leader != c -> break
                    :: leader == c -> skip
                    fi
                fi
            }
        od;
        waiting[c] = false
    fi
}

proctype server(byte c) {
    byte got, who;
    bool leads, away;
    do
    :: left[c] ->                       /* fc_notify_leave */
        d_step {
            if
            :: HELD(c) -> untrap(c)
            :: else -> skip
            fi
        };
        waiting[c] = false;
        d_step {
            if
            :: leader == c -> leader = NOBODY
            :: else -> skip
            fi;
            out[c] = true
        };
        break
    :: conn[c] == SERVER && !left[c] -> /* the handler; then fc_give, and the wake */
        d_step { conn[c] = CLIENT; owes_s[c] = true };
        wake_client(c)
    :: conn[c] == CLIENT && !left[c] ->
        notify_s[c] = true;
        if
        :: conn[c] == CLIENT -> server_sleep(c)
        :: conn[c] == SERVER -> skip
        fi;
        notify_s[c] = false
    od
}

/* -DLEAVES: channel 0 ends, at any moment. What ends its sleeps is notify.pml's, so here they just end. */
#ifdef LEAVES
active proctype leaver() {
    d_step { left[0] = true; futex_c[0] = false; futex_s[0] = false; polling[0] = false; receiving[0] = false };
end_watch:
    do
    :: d_step { trapped[0] -> untrap(0) }
    od
}
#endif

init {
    byte i;
    atomic {
        do
        :: i < N -> run client(i); run server(i); i++
        :: i == N -> break
        od
    }
}

/* Asleep although it is its turn, and nobody is still to wake it. A trap whose notification is there is not lost while
 * a server thread that will look at the listener is on its way; nor where the watch will end it (notify_watch.c). */
#define COMING(s) (!ASLEEP_SERVER(s) && !out[s])
#define ANY_COMING (COMING(0) || COMING(1) || N > 2 && COMING(N - 1))
#ifdef NO_WATCH
#define WATCHED(c) false
#else
#define WATCHED(c) (trapped[c] && !ANY_COMING) /* here only where nobody else will; in the C, a slice later, always */
active proctype watch() {
end_watch:
    do
    :: d_step { WATCHED(0) -> untrap(0) }
    :: d_step { WATCHED(1) -> untrap(1) }
#if N > 2
    :: d_step { WATCHED(N - 1) -> untrap(N - 1) }
#endif
    od
}
#endif
#define LOST_CLIENT(c) (asleep_client(c) && conn[c] == CLIENT && !owes_s[c] && !left[c] && \
    !(trapped[c] && ANY_COMING) && !WATCHED(c))
#define LOST_SERVER(c) (ASLEEP_SERVER(c) && conn[c] == SERVER && !owes_c[c] && !left[c])

active proctype monitor() {
end:
    do
    :: d_step { LOST_CLIENT(0) || LOST_CLIENT(1) || LOST_SERVER(0) || LOST_SERVER(1) ->
            assert(!LOST_CLIENT(0)); assert(!LOST_CLIENT(1)); assert(!LOST_SERVER(0)); assert(!LOST_SERVER(1)) }
    :: timeout -> assert(calls_done == N); break
    od
}
