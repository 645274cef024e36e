/* notify_taker.c: the threads of the client's process that receive from its listener, for the watch, and to find out
 * how notifications are numbered; and that make good what this does to the server.
 *
 * RECV blocks when somebody else was quicker, so it is done by a second thread that may stay there, the taker: the
 * watch never receives. A taker that stays in RECV answers what it gets there later, which costs that thread one more
 * trap. But a server stays there just the same: woken by a notification, it finds that the taker was quicker, and
 * neither bell nor futex reaches it in RECV. It cannot be kept from that: it may be stopped between poll() and RECV,
 * and a deadline does not wait for it. So whoever has taken sends something else: the *poke*, a trap of a third thread,
 * of no channel, which any server answers at once.
 *
 *     taker: RECV, SEND ──► poker: TRAP ─ ─ ─ the server, in RECV or poll(): RECV, not mine, SEND ─ ─► poker: sleeps
 *                             │      └ ─ ─ ─ ─ the taker, if it takes that one, too: then TRAP again
 *                             └ nobody comes: it stays, and whoever comes to RECV next does not block
 *
 * One poke is enough: RECV never blocks while a notification lies there unreceived, and one thread of a server at a time
 * is in RECV. proto/model/notify.pml checks this, and finds the server asleep for good without it.
 *
 * Rejected: keeping each other away by bits in `sleepers` around poll() and RECV. It needs a time after which a side
 * that is stopped, or hostile, is not waited for, and after it the server can be stuck.
 */
#define _GNU_SOURCE
#include "notify.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define FC_CALIBRATIONS 20      /* attempts to see two traps numbered one after the other */

enum { TAKER_IDLE, TAKER_ASKED, TAKER_TAKES };
static _Atomic uint32_t taker;
static _Atomic uint32_t calibrating; /* 2 and 1 for the first and the second measurement, else 0 */
static _Atomic uint32_t measured;    /* the thread that calibrates is about to trap, or trapped */
static uint64_t first_ids[2];
static _Atomic uint32_t pokes;      /* asked for, counted */
static _Atomic uint64_t poke_trap;  /* number of the poke under way, + 1; 0 for none */

bool fc_taker_idle(void)
{
    return atomic_load(&taker) == TAKER_IDLE;
}

/* Until the calls that are measured are out: a process that is stopped (SIGSTOP, a debugger) begins its trapped call
 * anew, under another number, and nobody else would answer that. */
static void measure(uint32_t left)
{
    struct fc_note note;
    do
        if (fc_readable(fc_notify.listener, 1) && fc_notify_recv(fc_notify.listener, &note) == 0) {
            first_ids[2 - left] = note.id;
            atomic_store(&calibrating, left - 1);
            fc_notify_send(fc_notify.listener, note.id);
        }
    while (atomic_load(&measured));
}

/* Receive one, pokes not counted, and answer it. One that a signal has ended meanwhile (ENOENT) would have been received
 * in vain by the server, too; now that is left without. */
static void take(void)
{
    struct fc_note note;
    int error = 0;
    do {
        if (!fc_readable(fc_notify.listener, 0))
            return;
        error = fc_notify_recv(fc_notify.listener, &note);
        if (error == 0)
            fc_notify_send(fc_notify.listener, note.id);
        atomic_fetch_add(&pokes, 1);
        fc_futex_wake(&pokes, 1);
    } while (error == 0 && note.index == FC_NOTIFY_INDEX_NONE);
}

void *fc_taker(void *unused)
{
    (void)unused;
    for (;;) {
        while (atomic_load(&taker) != TAKER_ASKED)
            fc_futex_wait(&taker, TAKER_IDLE, FC_NO_DEADLINE);
        atomic_store(&taker, TAKER_TAKES);
        uint32_t left = atomic_load(&calibrating);
        if (left)
            measure(left);
        else
            take();
        atomic_store(&taker, TAKER_IDLE);
    }
    return NULL;
}

void fc_taker_ask(void)
{
    atomic_store(&taker, TAKER_ASKED);
    fc_futex_wake(&taker, 1);
}

/* ---- the poke ------------------------------------------------------------------------------------------------ */

void *fc_poker(void *unused)
{
    uint32_t asked, done = 0;
    (void)unused;
    for (;;) {
        while ((asked = atomic_load(&pokes)) == done)
            fc_futex_wait(&pokes, done, FC_NO_DEADLINE);
        done = asked;
        atomic_store(&poke_trap, atomic_fetch_add(&fc_notify.traps, 1) + 1);
        fc_notify_trap(FC_NOTIFY_INDEX_NONE);
        atomic_store(&poke_trap, 0);
    }
    return NULL;
}

uint64_t fc_poke_under_way(void)
{
    return atomic_load(&poke_trap);
}

/* In a forked child, which has neither thread. */
void fc_taker_forked(void)
{
    atomic_store(&taker, TAKER_IDLE);
    atomic_store(&pokes, 0);
    atomic_store(&poke_trap, 0);
}

/* ---- calibrating -------------------------------------------------------------------------------------------- */

/* Trap twice, before anybody else has the listener, and see how notifications are numbered. -EAGAIN: not one after the
 * other, as when the process was stopped meanwhile. */
static int calibrate(void)
{
    for (uint32_t left = 2; left > 0; left--) {
        while (atomic_load(&taker) != TAKER_IDLE)
            sched_yield(); /* it has answered, and is on its way back */
        atomic_store(&calibrating, left);
        atomic_store(&measured, 1);
        fc_taker_ask();
        int error = fc_notify_trap(FC_NOTIFY_INDEX_NONE);
        atomic_store(&measured, 0);
        if (error != 0 || atomic_load(&calibrating) == left)
            return -EPROTO; /* somebody else has answered */
    }
    if (first_ids[1] != first_ids[0] + 1)
        return -EAGAIN;
    fc_notify.base = first_ids[1] + 1;
    atomic_store(&fc_notify.traps, 0);
    return 0;
}

int fc_taker_calibrate(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* a call begun anew would look like a gap in the numbers */
    int error = -EAGAIN;
    for (int tries = 0; tries < FC_CALIBRATIONS && error == -EAGAIN; tries++)
        error = calibrate();
    if (error == -EAGAIN)
        error = -EPROTO;
    /* Out of its loop, before anybody uses the listener: it would receive the first trap of a channel, and the server
     * that this trap has woken would stay in RECV. */
    while (atomic_load(&taker) != TAKER_IDLE)
        sched_yield();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    atomic_store(&calibrating, 0);
    return error;
}
