/* swap.pml: the swap switch: FUTEX_SWAP(conn_state, theirs, timeout, conn_state), both words the same one.
 * Semantics as in futex_swap() of the kernel patch:
 *   1. take one waiter off the queue, if there is one; the caller is not on it yet, so never itself;
 *   2. compare the word and queue the caller, or find a reason not to (EAGAIN, a deadline that has passed);
 *   3. wake the waiter taken in 1, in either case: on this CPU right before sleeping, or as a plain wake.
 * Between 1 and 3 that waiter is on no queue and does not run: it is `taken`. 2 and 3 are one step here, because
 * nobody can tell a caller that is queued from one that is queued and asleep. */
#include "word.pml"
#include "queue.pml"

/* The swap of the switch interface (issue 3). After giving control, with the peer's bit seen (or not to be
 * trusted), my own bit set, and conn_state still theirs. */
inline SWAP(me) {
    d_step {
        SYSCALL(me);
        taken[PEER(me)] = taken[PEER(me)] || queued[PEER(me)];
        queued[PEER(me)] = false
    };
    d_step {
        enqueue(me);
        taken[PEER(me)] = false;
        owes[me] = false
    };
    blocked(me)
}

#include "flip.pml"
