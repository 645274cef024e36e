/* futex.c: the futex switch, futex(2). The word is in memory shared by two processes, so never PRIVATE. */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
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
