/* items.pml: items published within a turn (flipcall/core/items.c); a model by itself.
 *
 * The producer is active and stays so: it appends an item, moves its word, looks at the consumer's bit, wakes it. The
 * consumer takes what has been published, without having control; where there is nothing it sets its bit, looks at both
 * words, and sleeps on both (futex_waitv). Control changes sides when the window is full, and at the end. Which of the
 * two is the client does not matter; flips as such are flip.pml's.
 *
 *     spin -a items.pml && gcc -O1 -DSAFETY -o pan pan.c && ./pan -E
 *
 * -DBY_FLIP: a switch that does not sleep by futex: who sees the bit flips (FC_FLIP). -DIN_LOOP: the consumer waits in an
 * event loop, and is rung (doorbell.c). -DTSO: the producer's store of its word waits in a store buffer, and is seen
 * late unless it is seq_cst.
 */
#define PRODUCER 0
#define CONSUMER 1
#define SHUT 2
#define PEER(i) (1 - (i))
#ifndef N
#define N 5             /* items */
#endif
#ifndef CAP
#define CAP 2           /* items the window has room for */
#endif

byte conn = PRODUCER;   /* conn_state */
byte pub;               /* published[PRODUCER]: how many, in this call */
byte slot[CAP];         /* the window: which item lies there; the first is 1 */
byte taken;             /* flow.theirs: how many the consumer has taken */
bool last;              /* the frame that came with control is the end of the stream */
bool cancel;            /* the word: nobody wants any more */
bool more;              /* the frame from the consumer is MORE, else CANCEL */
bool sleeps[2];         /* the bits in `sleepers` */
bool buffered;          /* -DTSO: pub is stored, and not seen yet */

bool asleep[2];         /* on the futex queue of conn_state; the consumer's loop, for the word too */
bool two;               /* the consumer: on that of the word as well */
bool rung;              /* -DIN_LOOP: something lies in the consumer's end of the socket */
bool dead[2];
bool came_out[2];       /* ghost: this side is out */
bool idle[2];           /* its user code never comes back */
bool owes[4];           /* ghost: has changed a word, and is still to wake; 2 and 3 in shutdown() */
bool given_up;          /* ghost: the consumer has cancelled */

#define OVER (conn == SHUT)
#define FREE(i) (!asleep[i] || dead[PEER(i)]) /* a slice ends the sleep when there is a death to notice */
#ifdef IN_LOOP
#define ASLEEP(i) (asleep[i] && !((i) == CONSUMER && rung))
#else
#define ASLEEP(i) asleep[i]
#endif

/* ---- waking ------------------------------------------------------------------------------------------------- */

/* Control was given: fc_give's look at the bit, and the wake */
inline wake(who) {
    if
    :: atomic { !sleeps[PEER(who)] -> owes[who] = false }
    :: sleeps[PEER(who)] ->
        d_step {
#ifdef IN_LOOP
            rung = rung || who == PRODUCER;
            asleep[PRODUCER] = asleep[PRODUCER] && who == PRODUCER;
#else
            asleep[PEER(who)] = false;
#endif
            owes[who] = false
        }
    fi
}

inline cas_conn(who, won) {
    d_step {
        won = (conn == who);
        if
        :: conn == who -> conn = PEER(who); owes[who] = true
        :: else -> skip
        fi;
        buffered = buffered && who != PRODUCER  /* a read-modify-write empties the buffer */
    }
}
#ifdef TSO
#define SEEN (buffered -> pub - 1 : pub)        /* what the other CPU sees */
active proctype drain() {
end_drain:
    do
    :: buffered -> buffered = false
    od
}
#else
#define SEEN pub
#endif

/* ---- the producer --------------------------------------------------------------------------------------------- */

/* fc_wait, for MORE: an ordinary sleep on conn_state */
inline wait_control() {
    do
    :: conn == PRODUCER || OVER || dead[CONSUMER] -> break
    :: conn == CONSUMER && !dead[CONSUMER] ->
        sleeps[PRODUCER] = true;
        d_step { asleep[PRODUCER] = (conn == CONSUMER) };
        FREE(PRODUCER);
        asleep[PRODUCER] = false;
        sleeps[PRODUCER] = false
    od
}

/* fc_hand: ITEMS, and what comes back. `start`: flow.my_start */
inline hand_over() {
    cas_conn(PRODUCER, won);
    if
    :: !won -> goto Over
    :: won -> wake(PRODUCER)
    fi;
    won = false;
    wait_control();
    if
    :: conn == PRODUCER && more -> more = false; start = made   /* fc_flow_turn */
    :: conn == PRODUCER && !more -> goto Last                   /* CANCEL */
    :: conn != PRODUCER -> goto Over
    fi
}

/* rouse(): (b) */
inline rouse() {
    if
    :: atomic { !sleeps[CONSUMER] -> owes[PRODUCER] = false }
    :: sleeps[CONSUMER] ->
#ifdef IN_LOOP
        d_step { rung = true; owes[PRODUCER] = false }
#else
#ifdef BY_FLIP
#ifndef FAULT_ITEMS_NO_FLIP
        hand_over()
#else
        owes[PRODUCER] = false
#endif
#else
        d_step { asleep[CONSUMER] = asleep[CONSUMER] && !two; owes[PRODUCER] = false }  /* FUTEX_WAKE of the word */
#endif
#endif
    fi
}

/* publish(): (a) */
inline move_word() {
    d_step {
        made++;
        pub = made;
        owes[PRODUCER] = true;
#if defined(TSO) && defined(WEAK_PUBLISH)
        buffered = true
#endif
    }
}

proctype producer() {
    byte made, start;
    bool won;
    {
        do
        :: made < N && made - start < CAP ->    /* fc_publish */
#ifdef FAULT_ITEMS_WORD_FIRST
            move_word();
            slot[made - 1 - start] = made;
#else
            slot[made - start] = made + 1;
#ifdef FAULT_ITEMS_LOOK_FIRST
            won = sleeps[CONSUMER];
            move_word();
            if
            :: won -> won = false; rouse()
            :: !won -> owes[PRODUCER] = false
            fi;
            goto Looked;
#endif
            move_word();
#endif
            if
            :: OVER -> goto Over                /* fc_turned; whoever ends it wakes */
            :: !OVER -> skip
            fi;
            rouse();
Looked:     if
            :: cancel -> break                  /* FC_STOPPED */
            :: !cancel -> skip
            fi
        :: made < N && made - start == CAP ->   /* full() */
            if
            :: cancel -> break
            :: !cancel ->
#ifdef FAULT_ITEMS_START_ANEW
                start = made
#else
                hand_over()
#endif
            fi
        :: made == N -> break
        :: idle[PRODUCER] = true; false         /* the generator never comes back */
        od;
Last:   last = true;                            /* REPLY, or END */
        cas_conn(PRODUCER, won);
        if
        :: won -> wake(PRODUCER)
        :: !won -> skip
        fi;
        won = false;
Over:   atomic { came_out[PRODUCER] = true; owes[PRODUCER] = false; made = 0; start = 0 }
    } unless { dead[PRODUCER] }
}

/* ---- the consumer --------------------------------------------------------------------------------------------- */

/* fc_flow_account: what lies between what was taken and what is seen; each once, in order */
inline take_up_to(seen) {
    atomic {
        do
        :: taken < seen ->
            assert(slot[(taken - start) % CAP] == taken + 1);     /* item lost, or seen twice */
            taken++
        :: taken == seen -> break
        od
    }
}

/* Sleep on both words: sleep_once with fc_flow_park; or leave_it, and the loop */
inline wait_two() {
#ifdef FAULT_ITEMS_LOOK_THEN_SET
    if
    :: conn == PRODUCER && SEEN == taken ->
        sleeps[CONSUMER] = true;
#else
    sleeps[CONSUMER] = true;                            /* (c) */
    if
    :: conn == PRODUCER && SEEN == taken ->             /* (d) */
#endif
#ifdef IN_LOOP
        asleep[CONSUMER] = true;
        if
        :: rung -> asleep[CONSUMER] = false; rung = false       /* E1, before the next look */
        :: !asleep[CONSUMER]
        :: dead[PRODUCER] -> asleep[CONSUMER] = false
        fi
#else
        d_step {
#if defined(BY_FLIP) || defined(FAULT_ITEMS_ONE_WORD)
            asleep[CONSUMER] = (conn == PRODUCER);
#else
            two = true;
            asleep[CONSUMER] = (conn == PRODUCER && SEEN == taken)
#endif
        };
        FREE(CONSUMER);
        d_step { asleep[CONSUMER] = false; two = false }
#endif
    :: conn != PRODUCER || SEEN != taken -> skip
    fi;
    sleeps[CONSUMER] = false
}

proctype consumer() {
    byte start;
    bool won;
    {
        do
        :: atomic { SEEN != taken -> take_up_to(SEEN) }         /* fc_take: early */
        :: atomic { SEEN == taken && conn == PRODUCER && !dead[PRODUCER] -> skip };
            wait_two()
        :: !given_up && conn == PRODUCER -> cancel = true; given_up = true      /* fc_cancel; at a deadline, say */
        :: conn == CONSUMER ->                          /* get_stream */
#ifndef FAULT_ITEMS_REST_LEFT
            take_up_to(SEEN);
#endif
            if
            :: last -> assert(taken == N || given_up); break            /* item lost */
            :: !last ->
                start = taken;                          /* fc_flow_turn */
                if
                :: atomic { !given_up -> more = true }
                :: true -> given_up = true              /* give_up: CANCEL */
                fi;
                cas_conn(CONSUMER, won);
                if
                :: won -> wake(CONSUMER)
                :: !won -> break
                fi;
                won = false
            :: idle[CONSUMER] = true; false             /* its user code never asks for the next item */
            fi
        :: OVER -> break
        :: dead[PRODUCER] && conn == PRODUCER ->        /* fc_died: the last look */
#ifndef FAULT_ITEMS_NO_LAST_LOOK
            take_up_to(pub);
#endif
            assert(taken == pub);                       /* item lost */
            break
        od;
        atomic { came_out[CONSUMER] = true; owes[CONSUMER] = false; taken = 0; start = 0 }
    } unless { dead[CONSUMER] }
}

/* ---- what else may happen --------------------------------------------------------------------------------------- */

inline kill(i) {
    d_step {
        dead[i] = true; came_out[i] = true; asleep[i] = false; owes[i] = false; idle[i] = false;
        buffered = buffered && i != PRODUCER
    }
}

/* A deadline or a signal ends a sleep; another thread of a side shuts down, or a side is killed. Or none of it. */
active proctype world() {
    bool kicked;
    do
    :: d_step { !kicked && asleep[CONSUMER] -> asleep[CONSUMER] = false; kicked = true }
    :: d_step { !kicked && asleep[PRODUCER] -> asleep[PRODUCER] = false; kicked = true }
    :: d_step { conn = SHUT; owes[2] = true; buffered = false };        /* stop(): the word, then the wake */
#ifndef FAULT_ITEMS_SILENT_END
        d_step { asleep[PRODUCER] = false; asleep[CONSUMER] = false; rung = true };
#endif
        owes[2] = false;
        break
    :: kill(PRODUCER); break
    :: kill(CONSUMER); break
    :: break
    od;
    kicked = false
}

init { atomic { run producer(); run consumer() } }

/* Asleep although there is something for it, and nobody is still to wake it. Only the peer's death is an excuse. */
#define OWED(i) (owes[PEER(i)] || owes[2])
#define LOST_CONSUMER (ASLEEP(CONSUMER) && (conn != PRODUCER || SEEN != taken) && !OWED(CONSUMER) && !dead[PRODUCER])
#define LOST_PRODUCER (ASLEEP(PRODUCER) && conn != CONSUMER && !OWED(PRODUCER) && !dead[CONSUMER])
/* When nothing can happen any more both are out, but for one whose user code never comes back, and who waits for it. */
#define RIGHTLY(i) (ASLEEP(i) && idle[PEER(i)] && !dead[PEER(i)])
#define QUIET(i) (came_out[i] || idle[i] || RIGHTLY(i))

active proctype monitor() {
end_monitor:
    do
    :: d_step { LOST_CONSUMER || LOST_PRODUCER -> assert(!LOST_CONSUMER); assert(!LOST_PRODUCER) }
    :: timeout -> assert(QUIET(PRODUCER)); assert(QUIET(CONSUMER)); break
    od
}
