/* futex.c: the bare cost of wake + wait. One shared word, FUTEX_WAKE then FUTEX_WAIT for each hand-over; no spinning,
 * no datagram. Both sides always wake: the peer of a back-to-back caller is asleep. */
#define _GNU_SOURCE
#include "pair.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic unsigned *word; /* 0: the client's turn, 1: the server's */

static void open_word(void *window, size_t length)
{
    (void)length;
    word = window;
}

static void wait_while(unsigned value)
{
    while (atomic_load_explicit(word, memory_order_acquire) == value)
        if (syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0) != 0 && errno != EAGAIN && errno != EINTR)
            fail("FUTEX_WAIT", errno);
}

static void give(unsigned value)
{
    atomic_store_explicit(word, value, memory_order_release);
    if (syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0)
        fail("FUTEX_WAKE", errno);
}

static void ask(void)
{
    give(1);
    wait_while(1);
}

static void serve_first(void)
{
    wait_while(0);
}

static void serve_next(void)
{
    give(0);
    wait_while(0);
}

static void serve_last(void)
{
    give(0);
}

const struct primitive *primitive_for(const char *mode)
{
    static const struct primitive futex = {open_word, open_word, ask, serve_first, serve_next, serve_last};
    return *mode == '\0' ? &futex : NULL;
}
