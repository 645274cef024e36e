/* switch_futex.c: FUTEX_WAIT and FUTEX_WAKE on conn_state, futex(2). Works on every kernel.
 *
 * The word lies in memory shared by two processes, so never FUTEX_PRIVATE_FLAG. */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int64_t fc_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Sleep while *word == value, until CLOCK_MONOTONIC until_ns. FUTEX_WAIT_BITSET, because its timeout is
 * absolute: a wait begun again after a signal ends when the first one would have. Returns 0 or -errno. */
int fc_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t until_ns)
{
    struct timespec until = {.tv_sec = until_ns / 1000000000ll, .tv_nsec = until_ns % 1000000000ll};
    if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, &until, NULL, FUTEX_BITSET_MATCH_ANY) == 0)
        return 0;
    return -errno;
}

int fc_futex_wake(_Atomic uint32_t *word, int count)
{
    if (syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0) >= 0)
        return 0;
    return -errno;
}

#ifndef SYS_futex_waitv /* Linux 5.16; the headers may be older than the kernel */
#define SYS_futex_waitv 449
#endif
#define NAP_NS 1000000ll

struct waitv { /* struct futex_waitv, linux/futex.h */
    uint64_t value, word;
    uint32_t flags, reserved;
};

/* Sleep while neither of two words has changed, likewise. A kernel without futex_waitv(2) sleeps on the first alone,
 * and no longer than a millisecond at a time. */
int fc_futex_wait_two(_Atomic uint32_t *word, uint32_t value, _Atomic uint32_t *other, uint32_t other_value, int64_t until_ns)
{
    static _Atomic bool missing;
    struct waitv words[] = {{value, (uintptr_t)word, 2 /* FUTEX_32 */, 0}, {other_value, (uintptr_t)other, 2, 0}};
    struct timespec until = {.tv_sec = until_ns / 1000000000ll, .tv_nsec = until_ns % 1000000000ll};
    if (!atomic_load_explicit(&missing, memory_order_relaxed)) {
        if (syscall(SYS_futex_waitv, words, 2, 0, &until, CLOCK_MONOTONIC) >= 0)
            return 0;
        if (errno != ENOSYS && errno != EPERM)
            return -errno;
        atomic_store_explicit(&missing, true, memory_order_relaxed);
    }
    int64_t nap = fc_now() + NAP_NS;
    int err = fc_futex_wait(word, value, nap < until_ns ? nap : until_ns);
    return err == -ETIMEDOUT && nap < until_ns ? 0 : err;
}

static int futex_park(struct fc_endpoint *ep, int64_t until)
{
    return fc_futex_wait(fc_word(&ep->packet->conn_state), ep->theirs, until);
}

static int futex_wake(struct fc_endpoint *ep)
{
    return fc_futex_wake(fc_word(&ep->packet->conn_state), 1);
}

/* All waiters: a peer that waits from many threads must not swallow the wake of this side's own. */
static void futex_close(struct fc_endpoint *ep)
{
    fc_futex_wake(fc_word(&ep->packet->conn_state), INT_MAX);
}

const struct fc_switch fc_switch_futex = {
    .name = "futex", .park = futex_park, .wake = futex_wake, .swap = NULL, .close = futex_close,
    .items_by_futex = true,
};
