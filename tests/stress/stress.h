/* stress.h: what the parts of the stress program share: its arguments, the round under way, the sums. */
#ifndef FLIPCALL_STRESS_H
#define FLIPCALL_STRESS_H

#include <sys/types.h>

#include "player.h"

struct option_values {
    uint64_t seed;
    double seconds;
    int64_t patience_ns;
    int64_t round; /* the only one, or -1 */
    int threads, cpus, busy, verbose;
    const char *how; /* the switch */
    uint32_t swap;   /* FUTEX_SWAP's number */
};

struct totals {
    uint64_t rounds, flips, spins_paid, parks, swaps, rescues, timeouts, dropped, ended[ENDINGS];
};

extern struct option_values option;
extern struct totals total;
extern struct ledger *ledger;
extern void *windows[2]; /* of the client, of the server: two mappings of one file, but for the thread sanitizer */
extern pid_t sides[2];   /* 0 for one that has ended, and between threads */

/* run.c: play one round to its end */
void run_round(uint32_t round);
/* listener.c: what notify needs besides a window. Each is for that switch alone, and does nothing with another. */
int try_notify(void);               /* 0, or the errno of this kernel's refusal */
void prepare_listener(void);        /* before the sides start */
void share_listener(uint32_t side); /* in a side's process, before it plays */
void part(uint32_t side);           /* a side has played: its peer shall not wait in a trap */
void drop_listener(void);           /* both have, and their threads are gone */
/* judge.c: compare how the round under way has ended with how it should have; add it to the sums */
void judge(void);
/* stress.c: show the round as it stands, end every process, exit with 1 */
void fail(const char *what) __attribute__((noreturn));

#endif
