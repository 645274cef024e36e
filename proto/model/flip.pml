/* flip.pml: flipping control over one word, with shutdown, death, deadlines and spurious wakeups.
 *
 *     spin -a futex.pml && gcc -O1 -DSAFETY -o pan pan.c && ./pan -E
 *
 * ./check does that for every switch and every known fault; README.md says how to read it. Each transition names
 * the C it stands for (flipcall/core/: wait.c, endpoint.c, flip.c, futex.c). The words and the memory model are in
 * word.pml, the four functions of a switch in the file named by the switch, which includes this one at its end.
 */
#ifndef SPURIOUS
#define SPURIOUS 1 /* how many sleeps may end for no reason */
#endif
#ifndef EXPIRIES
#define EXPIRIES 1 /* how many deadlines may expire */
#endif


/* -DONLY_TWO: look for two active sides alone, not for what goes wrong before them. */
#ifdef ONLY_TWO
#define HONEST(what) skip
#else
#define HONEST(what) assert(what)
#endif

/* end_given: what conn_state becomes when side `who` ends the connection while its peer is active */
#ifdef FAULT_END_PLAIN
#define END_GIVEN(who) SHUT
#else
#define END_GIVEN(who) (trust[who] -> END(PEER(who)) : SHUT)
#endif

/* turned(): is it this side's turn? What was given before the end counts, too. */
#ifdef FAULT_END_IGNORED
#define TURN(me) (LOOK(me) == (me) && !stop[me])
#else
#define TURN(me) ((LOOK(me) == (me) || LOOK(me) == END(me) && trust[me]) && !stop[me])
#endif

/* end(): the loop of compare-and-swaps, of which the last one counts. It overwrites no end, and no change of turn. */
inline end_word(who) {
#ifdef FAULT_END_STORE
    if                                              /* the loop left out: a look, then a store */
    :: conn == PEER(who) -> conn = END_GIVEN(who)
    :: conn != PEER(who) -> conn = SHUT
    fi
#else
    d_step {
        if
        :: OVER(conn) -> skip
        :: conn == PEER(who) -> conn = END_GIVEN(who)
        :: conn == who -> conn = SHUT
        fi
    }
#endif
}

/* stop(), of fc_shutdown and fc_condemn, by thread t of side me: any thread at any moment */
inline shutdown(who, th) {
    shutting[who] = true;
    d_step { stop[who] = true; owes[th] = true };   /* atomic_compare_exchange_strong(&ep->stop, ...) */
#ifdef FAULT_WAKE_BEFORE_STORE
    UNBLOCK(who, th);
    end_word(who);
#else
    end_word(who);
    UNBLOCK(who, th);                               /* wake_all */
#endif
    shutting[who] = false
}

/* fc_retire: over, but only if the peer is active, and so has sent nothing that would be lost */
inline retire(who, th) {
    shutting[who] = true;
    if
    :: d_step { conn == PEER(who) -> conn = END_GIVEN(who); owes[th] = true };
        stop[who] = true;
        UNBLOCK(who, th)
    :: conn != PEER(who) -> skip
    fi;
    shutting[who] = false
}

/* Does the side's bit stay set when a sleep ends without the turn (doorbell.pml)? Then the turn clears it: fc_disarm. */
#ifdef STAYS_ARMED
#define DISARM(me) \
    if \
    :: STAYS_ARMED(me) -> sleepers = WITHOUT(MY_BIT(me)) \
    :: else -> skip \
    fi
#else
#define DISARM(me) skip
#endif

/* turned(): it is this side's turn. Property 2, and that data_len is the giver's, are asserted right here. */
inline take(me) {
    d_step {
        mine[me] = true;
        mail[me] = false;
        DISARM(me);
        assert(!mine[PEER(me)]);          /* never two active sides */
        HONEST(data_len == PEER(me));       /* received(): the length is the one that was sent */
#ifdef FAULT_TRUST_ANYONE
        trust[me] = true
#else
        trust[me] = EXT(me) && EXT(PEER(me)) /* connecting: known from the first datagram on */
#endif
    }
}

/* The thread inside a side's endpoint. `seen` is the local of that name in the C. */
proctype side(byte me) {
    byte seen;
    {
        if
        :: me == CLIENT -> mine[me] = true; goto Mine     /* fc_connect */
        :: me == SERVER -> goto Wait    /* fc_first */
        fi;

Mine:
        /* fc_give, of fc_connect, fc_send_recv, fc_send, fc_send_last, fc_call, fc_reply_request */
#ifdef FAULT_LEN_AFTER_GIVE
        cas_conn(me, seen);
        put_len(me);
#else
        if
        :: put_len(me)
        :: goto Idle                        /* the caller never calls again, the handler never returns */
        fi;
        cas_conn(me, seen);
#endif
        if
        :: OVER(seen) -> goto Over          /* FC_ERR_SHUTDOWN */
        :: else -> HONEST(seen == me); seen = 0 /* else FC_FAULT_STATE, which an honest peer never causes */
        fi;
        if
        :: atomic { trust[me] && !SLEEPS(me) -> owes[me] = false }  /* wakes_skipped */
        :: (!trust[me] || SLEEPS(me)) ->
            if
            :: true -> WAKE(me)
            :: true ->                      /* issue 3: no spinning, so wake the peer and park in one step */
                set_bit(me);
                if
                :: LOOK(me) == PEER(me) && !stop[me] ->
#ifdef FAULT_DROP_OWED
                    if                      /* the deadline is looked at first, and the wake is forgotten */
                    :: expired[me] -> owes[me] = false
                    :: else -> SWAP(me)
                    fi
#else
                    SWAP(me)
#endif
                :: LOOK(me) != PEER(me) || stop[me] ->
                    owes[me] = false        /* the word has moved on: the peer has run since, or stop() wakes it */
                fi;
                goto Woken
            fi
        fi;
        if
        :: goto Wait
        :: CAN_IDLE(me) -> goto Idle        /* fc_send_last; or fc_send, with no fc_resume to follow */
        fi;

Wait:   /* fc_wait: look, spin, yield, until the budget is over */
        if
        :: atomic { TURN(me) -> take(me); goto Mine }                       /* turned */
        :: (OVER(LOOK(me)) || stop[me]) && !TURN(me) -> goto Ended          /* turned */
        :: LOOK(me) == PEER(me) -> skip
        fi;

        /* park, sleep_once */
#ifdef FAULT_LOOK_THEN_SET
        if
        :: LOOK(me) == PEER(me) && !stop[me] -> set_bit(me); PARK(me)
        :: LOOK(me) != PEER(me) || stop[me] -> skip
        fi;
#else
        set_bit(me);
        if
        :: LOOK(me) == PEER(me) && !stop[me] -> PARK(me)
        :: LOOK(me) != PEER(me) || stop[me] -> skip
        fi;
#endif
Woken:
#ifdef STAYS_ARMED
        if
        :: !STAYS_ARMED(me) -> clear_bit(me)
        :: STAYS_ARMED(me)
        fi;
#else
        clear_bit(me);
#endif
#ifdef FAULT_NO_LOOP
        take(me); goto Mine;                /* woken, so it must be my turn */
#endif
        if                                  /* park: seen = look() */
        :: atomic { TURN(me) -> take(me); goto Mine }                       /* turned */
        :: (OVER(LOOK(me)) || stop[me]) && !TURN(me) -> goto Ended          /* turned */
        :: LOOK(me) == PEER(me) -> skip     /* spurious, a slice, the deadline */
        fi;
        if
        :: expired[me] -> goto Expired      /* FC_ERR_TIMEOUT */
        :: !expired[me] && dead[PEER(me)] ->                                /* fc_peer_gone: FC_ERR_DIED */
#ifndef FAULT_NO_LAST_LOOK
            if                              /* fc_died: the peer may have answered, then died */
            :: atomic { TURN(me) -> take(me); goto Mine }
            :: !TURN(me) -> skip
            fi;
#endif
            goto Ended
        :: !expired[me] && !dead[PEER(me)] -> goto Wait                     /* go round; or FC_TICK, fc_resume */
        fi;

Expired:
        expired[me] = false;
        if
#ifdef FAULT_TAKE_BACK
        :: d_step { conn = me; mine[me] = true }; goto Mine /* the caller helps itself */
#endif
        :: goto Wait    /* fc_resume, fc_call_resume, fc_reclaim: wait on, or find it is back */
        :: CAN_IDLE(me) -> goto Idle
        :: shutdown(me, me); goto Over      /* close() */
        fi;

Idle:   idle[me] = true;
        false;

Ended:  /* what the peer gave before it ended the connection, or died, is not thrown away */
        HONEST(!mail[me] || stop[me] || !trust[me] && OVER(conn));

Over:   CLOSE(me);                          /* FC_TURN_OVER */
        d_step { gone[me] = true; expired[me] = false; seen = 0 }
    } unless { dead[me] }
}

/* Another thread of a side calls fc_shutdown (-DRETIRE: fc_retire), once, at any moment; or never. */
proctype stopper(byte me) {
    {
        if
#ifdef RETIRE
        :: true -> retire(me, me + 2)
#else
        :: true -> shutdown(me, me + 2)
#endif
        :: true -> skip
        fi
    } unless { dead[me] }
}

inline kill(i) {
    FENCE(i);                               /* what it has stored is seen before its death is */
    dead[i] = true; gone[i] = true;
    mine[i] = false; mail[i] = false; shutting[i] = false; idle[i] = false; owes[i] = false; owes[i + 2] = false;
    stop[i] = false; trust[i] = false; expired[i] = false;  /* nobody reads these now: fewer states */
    REAP(i)
}

/* What happens for no reason of the program's own. It may stop at any point, so nothing may depend on it. */
active proctype world() {
    byte spurious = SPURIOUS, expiries = EXPIRIES;
    do
    :: d_step { spurious > 0 && ASLEEP(CLIENT) -> spurious--; KICK(CLIENT) }
    :: d_step { spurious > 0 && ASLEEP(SERVER) -> spurious--; KICK(SERVER) }
    :: d_step { expiries > 0 && !gone[CLIENT] && CAN_EXPIRE(CLIENT) -> expiries--; expired[CLIENT] = true; KICK(CLIENT) }
    :: d_step { expiries > 0 && !gone[SERVER] && CAN_EXPIRE(SERVER) -> expiries--; expired[SERVER] = true; KICK(SERVER) }
#ifndef NO_DEATH
    :: d_step { !dead[CLIENT] -> kill(CLIENT) }
    :: d_step { !dead[SERVER] -> kill(SERVER) }
#endif
    :: break
    od;
    spurious = 0; expiries = 0
}

init {
    atomic {
#ifdef NEGOTIATED
        trust[CLIENT] = true; trust[SERVER] = true; /* a switch that the handshake has agreed on */
#endif
        run side(CLIENT); run side(SERVER);
#ifdef BOTH_STOP
        run stopper(CLIENT); run stopper(SERVER)
#else
        if
        :: run stopper(CLIENT)
        :: run stopper(SERVER)
        fi
#endif
    }
}

/* ---- properties ------------------------------------------------------------------------------------------- */

/* 1. Asleep although it is its turn, or all is over, and nobody is still to wake it. Only the peer's death is an
 *    excuse: then the slice (or the kernel) ends the sleep, as property 3 shows. */
#define OWED(i) (owes[PEER(i)] || owes[2] || owes[3])
#define LOST(i) (ASLEEP(i) && conn != PEER(i) && !OWED(i) && !PENDING(i) && !dead[PEER(i)])

/* 3. When nothing can happen any more, everybody has come out, except a side whose user code never comes back,
 *    and whoever rightly waits for it. */
#define RIGHTLY(i) (ASLEEP(i) && conn == PEER(i) && idle[PEER(i)])
#define QUIET(i) ((gone[i] || idle[i] || RIGHTLY(i)) && !shutting[i])

#ifndef LIVE
active proctype monitor() {
end:
    do
    :: d_step { mine[CLIENT] && mine[SERVER] -> assert(!(mine[CLIENT] && mine[SERVER])) }
#ifndef ONLY_TWO
    :: d_step { LOST(CLIENT) || LOST(SERVER) -> assert(!LOST(CLIENT)); assert(!LOST(SERVER)) }
    :: timeout -> assert(QUIET(CLIENT)); assert(QUIET(SERVER)); break
#endif
    od
}
#else
#define OUT(i) (gone[i] || idle[i])
ltl unblocked { [] ((OVER(conn) || dead[CLIENT] || dead[SERVER]) -> <> (OUT(CLIENT) && OUT(SERVER))) }
ltl woken { [] ((ASLEEP(CLIENT) && conn == CLIENT || ASLEEP(SERVER) && conn == SERVER)
                -> <> !(ASLEEP(CLIENT) && conn == CLIENT || ASLEEP(SERVER) && conn == SERVER)) }
#endif
