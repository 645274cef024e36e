/* pair.h: what a primitive supplies so that pair.c can time it between two processes.
 *
 * The shape is flipcall's own (send_recv / recv_first / send_recv / send_last), so that a bare primitive and the
 * library's C core do the same number of hand-overs and differ only in what one hand-over costs.
 */
#ifndef FLIPCALL_BENCH_PAIR_H
#define FLIPCALL_BENCH_PAIR_H

#include <stddef.h>

struct primitive {
    void (*open_client)(void *window, size_t length); /* after the fork, before the first ask */
    void (*open_server)(void *window, size_t length); /* after the fork, before serve_first */
    void (*ask)(void);                                /* client: one round trip with an empty message */
    void (*serve_first)(void);                        /* server: wait for the first request */
    void (*serve_next)(void);                         /* server: answer it, wait for the next one */
    void (*serve_last)(void);                         /* server: answer the last one */
};

/* Defined once by each primitive's file. The mode is the word given on the command line ("" if none); an unknown
 * one returns NULL. */
const struct primitive *primitive_for(const char *mode);

/* Before the fork, after primitive_for: for what both processes must inherit. Only where a primitive defines it. */
void pair_prepare(void) __attribute__((weak));

/* One line on stderr and exit status 1: nothing a benchmark can do is better than stopping. */
_Noreturn void fail(const char *what, int error);

#endif
