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
};
