/* notify_taker.c: the thread of the client's process that receives from its listener, for the watch, and to find out
 * how notifications are numbered.
 *
 * RECV blocks when somebody else was quicker, so it is done by a second thread that may stay there: the
 * watch never receives. An honest server is not disturbed: the taker does not receive while a server thread says in
 * `sleepers` that it may (FC_NOTIFY_SERVER, FC_TAKES_SERVER), unless nothing has happened for FC_GRACE_NS (a stopped
 * or hostile server); and while the taker is at it, FC_TAKES_CLIENT keeps the server away. A taker that stays in RECV
 * answers what it gets there later, which costs that thread one more trap.
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

bool fc_taker_idle(void)
{
    return atomic_load(&taker) == TAKER_IDLE;
}

void *fc_taker(void *unused)
{
    (void)unused;
    for (;;) {
        while (atomic_load(&taker) != TAKER_ASKED)
            fc_futex_wait(&taker, TAKER_IDLE, FC_NO_DEADLINE);
        atomic_store(&taker, TAKER_TAKES);
        uint32_t left = atomic_load(&calibrating);
        struct fc_note note;
        /* A process that is stopped (SIGSTOP, a debugger) begins its trapped call anew, under another number, and
         * nobody else would answer that: while measuring, take until the thread is out. */
        do
            if (fc_readable(fc_notify.listener, left ? 1 : 0) && fc_notify_recv(fc_notify.listener, &note) == 0) {
                if (left) {
                    first_ids[2 - left] = note.id;
                    atomic_store(&calibrating, left - 1);
                }
                fc_notify_send(fc_notify.listener, note.id);
            }
        while (left && atomic_load(&measured));
        atomic_store(&taker, TAKER_IDLE);
    }
    return NULL;
}

void fc_taker_ask(void)
{
    atomic_store(&taker, TAKER_ASKED);
    fc_futex_wake(&taker, 1);
}

/* In a forked child, which has no taker. */
void fc_taker_forked(void)
{
    atomic_store(&taker, TAKER_IDLE);
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
        int error = fc_notify_trap(FC_NOTIFY_INDEX_TEST);
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
