/* word.pml: the packet window's words, and the accesses the C code makes to them.
 *
 * Every access is one macro, named after the C that makes it, so that a memory model is a substitution. Without
 * -DTSO memory is sequentially consistent, which is Promela's own. With -DTSO each side has a store buffer of one
 * entry: a store waits there, seen by its own side only, until drain() or the next store of that side pushes it
 * out; a seq_cst read-modify-write leaves nothing in the buffer, and a system call empties it. The faults
 * WEAK_GIVE and WEAK_PARK take the seq_cst away from the giver's or the waiter's pair of accesses.
 */

#define CLIENT 0 /* FC_CLIENT_ACTIVE, and the index of the client in every array */
#define SERVER 1 /* FC_SERVER_ACTIVE */
#define SHUT 2   /* FC_SHUTDOWN */
#define END(i) (3 + (i)) /* FC_SHUTDOWN_CLIENT_TURN, FC_SHUTDOWN_SERVER_TURN: over, and what side i was given is its */
#define OVER(state) ((state) >= SHUT) /* fc_is_over */

#define PEER(me) (1 - (me))

#ifdef FAULT_SHARED_FLAG
#define BIT(i) 1 /* one "somebody sleeps" flag for both sides */
#else
#define BIT(i) (1 + (i)) /* FC_SLEEPS_CLIENT, FC_SLEEPS_SERVER */
#endif
#ifndef HOW
#define HOW(i) 0         /* what a switch says of its sleep, beside the bit (notify.pml) */
#endif
#define MY_BIT(i) (BIT(i) | HOW(i)) /* ep->my_bit */
#define WITHOUT(bits) (sleepers & (15 - (bits)))

/* A side that is not ours (gVisor's) negotiates {}: it never writes its bit. -DEXT_CLIENT=0 or -DEXT_SERVER=0. */
#ifndef EXT_CLIENT
#define EXT_CLIENT 1
#endif
#ifndef EXT_SERVER
#define EXT_SERVER 1
#endif
#define EXT(i) ((i) == CLIENT -> EXT_CLIENT : EXT_SERVER)

/* ---- struct fc_packet ----------------------------------------------------------------------------------- */
byte conn = CLIENT;     /* conn_state */
bit data_len = SERVER;  /* who wrote it last: all that matters here is that the reader finds the giver's */
byte sleepers = 0;

/* ---- struct fc_endpoint --------------------------------------------------------------------------------- */
bool stop[2];           /* ep->stop: this side's shutdown() has been called */
bool trust[2];          /* ep->trust_sleepers */
bool expired[2];        /* the deadline of the wait under way has passed */

/* ---- ghosts: what the properties speak of, and no code reads ---------------------------------------------- */
bool mine[2];         /* this side believes that it is its turn (ep->turn == FC_TURN_MINE) */
bool owes[4];           /* has changed conn_state and not yet issued, or rightly skipped, the wake that goes with
                         * it; threads 0 and 1 are the sides' own, 2 and 3 are in shutdown() */
bool shutting[2];       /* a thread of this side is inside shutdown() */
bool mail[2];           /* what this side was given, and has not taken yet */
bool dead[2];           /* killed */
bool gone[2];           /* has left for good, with an error; the dead too */
bool idle[2];           /* its user code never comes back (a handler that hangs, SIGSTOP, fc_send_last) */

/* ---- the store buffers ------------------------------------------------------------------------------------ */
#ifdef TSO
mtype = { NONE, GIVE, SET, CLEAR, LEN };
mtype sb[2] = NONE;

inline flush(i) {
    if
    :: sb[i] == GIVE && conn == i -> conn = PEER(i); mail[PEER(i)] = true
    :: sb[i] == SET -> sleepers = sleepers | MY_BIT(i)
    :: sb[i] == CLEAR -> sleepers = WITHOUT(MY_BIT(i))
    :: sb[i] == LEN -> data_len = i
    :: else -> skip /* empty; or shutdown() has overwritten what this CAS wrote */
    fi;
    sb[i] = NONE
}
#define STORE(me, what) flush(me); sb[me] = what
#define LOOK(me) ((sb[me] == GIVE && conn == (me)) -> PEER(me) : conn)
#define FENCE(me) flush(me)

active proctype drain() {
end:
    do
    :: d_step { sb[CLIENT] != NONE -> flush(CLIENT) }
    :: d_step { sb[SERVER] != NONE -> flush(SERVER) }
    od
}
#else
#define STORE(me, what) STORE_##what(me)
#define STORE_GIVE(me) conn = PEER(me); mail[PEER(me)] = true
#define STORE_SET(me) sleepers = sleepers | MY_BIT(me)
#define STORE_CLEAR(me) sleepers = WITHOUT(MY_BIT(me))
#define STORE_LEN(me) data_len = me
#define LOOK(me) conn
#define FENCE(me) skip
#endif

#ifdef WEAK_GIVE
#define GIVE_FENCE(me) skip
#else
#define GIVE_FENCE(me) FENCE(me)
#endif
#ifdef WEAK_PARK
#define PARK_FENCE(me) skip
#else
#define PARK_FENCE(me) FENCE(me)
#endif
#define SYSCALL(me) FENCE(me) /* entering the kernel, which takes a lock before it looks at a futex word */

/* fc_give: atomic_store_explicit(data_len, len, memory_order_relaxed) */
inline put_len(me) { d_step { STORE(me, LEN) } }

/* fc_give: atomic_compare_exchange_strong(conn_state, &seen, theirs); `seen` is what it found */
inline cas_conn(me, seen) {
    d_step {
        seen = LOOK(me);
        if
#ifdef FAULT_STORE_GIVE
        :: true -> seen = me; conn = PEER(me); owes[me] = true; mail[PEER(me)] = true
#else
        :: seen == me -> STORE(me, GIVE); GIVE_FENCE(me); owes[me] = true
#endif
        :: else -> skip
        fi;
        mine[me] = false
    }
}

/* sleep_once: atomic_fetch_or(sleepers, my_bit). The C sets it whatever the peer negotiated, and must: a server
 * trusts the client's bit as soon as it has read the client's first datagram, which is before the client can. */
inline set_bit(me) {
    d_step {
        if
#ifdef FAULT_LATE_BITS
        :: EXT(me) && trust[me] -> STORE(me, SET); PARK_FENCE(me)
#else
        :: EXT(me) -> STORE(me, SET); PARK_FENCE(me)
#endif
        :: else -> skip
        fi
    }
}

/* sleep_once: atomic_fetch_and(sleepers, ~my_bit). Needs no order: a bit cleared late costs one wake. */
inline clear_bit(me) {
    atomic { /* not d_step, into which Promela does not jump */
        if
        :: EXT(me) -> STORE(me, CLEAR)
        :: else -> skip
        fi
    }
}

/* fc_give: atomic_load(sleepers) & their_bit */
#define SLEEPS(me) ((sleepers & BIT(PEER(me))) != 0)
