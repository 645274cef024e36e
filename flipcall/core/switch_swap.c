/* switch_swap.c: FUTEX_SWAP on conn_state: wake the peer on this CPU and sleep, in one system call. Only kernels
 * that carry the patch of proto/kernel have it.
 *
 * futex(word, FUTEX_SWAP, theirs, timeout, word): the word to sleep on and the word to wake at are the same one.
 * What the operation promises (proto/kernel/README.md), and what is made of it here:
 *
 *   - It takes one waiter off the queue *before* it queues the caller, so it never wakes the caller itself.
 *   - That waiter is woken whatever becomes of the sleep: the word has changed (EAGAIN), the time has come
 *     (ETIMEDOUT), a signal (EINTR). So a wake that is owed is paid by any of these answers. Any other answer says
 *     that the kernel did not get that far; then this file pays by a plain wake.
 *   - Nobody waits: it sleeps all the same. A peer that has set its bit and is not in the kernel yet finds the word
 *     changed there, and needs no wake.
 *   - Its timeout is relative. It is computed anew from the absolute one at each call, so a deadline neither moves
 *     with a signal nor drifts; there always is one (wait.c sleeps in slices), hence a signal is always EINTR and
 *     never a restarted, second swap.
 *   - It does not loop and neither does this file: whoever sleeps looks at conn_state again (wait.c).
 *   - The CPU is a preference; a peer that may not run here runs elsewhere.
 *
 * The operation has no number of its own: 14 is what the patch of proto/kernel takes, and a kernel that has given 14
 * to something else would do that something. So there is no default here. Until fc_set_swap() has been told a number,
 * by somebody who probed it (flipcall/kernel.py), the operation "does not exist".
 *
 * Sleeping without a wake to pay, and waking without sleeping, are FUTEX_WAIT and FUTEX_WAKE: the two switches share
 * their queue, so a side that swaps understands one that does not. */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint32_t operation; /* 0: none is known */

/* The number of FUTEX_SWAP in this kernel, as probed; 0 for none. For the whole process, from any thread. The
 * operations that Linux has had from the beginning of time, and flags, are no swap: FC_ERR_SIZE. */
int fc_set_swap(uint32_t number)
{
    if (number != 0 && (number < FC_SWAP_MIN || number > FC_SWAP_MAX))
        return FC_ERR_SIZE;
    atomic_store_explicit(&operation, number, memory_order_relaxed);
    return FC_OK;
}

static int swap_park(struct fc_endpoint *ep, int64_t until)
{
    return fc_switch_futex.park(ep, until);
}

static int swap_wake(struct fc_endpoint *ep)
{
    return fc_switch_futex.wake(ep);
}

static void swap_close(struct fc_endpoint *ep)
{
    fc_switch_futex.close(ep);
}

static int swap_swap(struct fc_endpoint *ep, int64_t until)
{
    _Atomic uint32_t *word = fc_word(&ep->packet->conn_state);
    uint32_t op = atomic_load_explicit(&operation, memory_order_relaxed);
    int64_t left = until - fc_now();
    int err = ENOSYS;
    if (left <= 0) {
        int failed = fc_futex_wake(word, 1); /* no time to sleep, but the peer is owed its wake */
        return failed ? failed : -ETIMEDOUT;
    }
    if (op != 0) {
        struct timespec timeout = {.tv_sec = left / 1000000000ll, .tv_nsec = left % 1000000000ll};
        if (syscall(SYS_futex, word, op, ep->theirs, &timeout, word, 0) == 0)
            return 0;
        err = errno;
    }
    if (err != EAGAIN && err != ETIMEDOUT && err != EINTR)
        fc_futex_wake(word, 1);
    return -err;
}

const struct fc_switch fc_switch_swap = {
    .name = "swap", .park = swap_park, .wake = swap_wake, .swap = swap_swap, .close = swap_close,
    .items_by_futex = true,
};
