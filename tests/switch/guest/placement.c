/* placement.c: where the peer runs after a flip, and what a round trip takes, swap against wake+wait, in a guest whose
 * kernel has FUTEX_SWAP. Two processes flip empty-handed, never spinning: through the C core, and by the bare
 * operations on one word, which neither look whether the peer sleeps nor set a timeout. Each flip carries the CPU its
 * giver was on, so that the taker can tell whether it was woken on that CPU.
 *
 * Prints one JSON object shaped as python -m bench does (design, section 9). The figures are an emulator's: only
 * the placement is sure, and the ratios move with what else the host does. Exit status 1 when more than 1 % of the
 * flips by swap land on another CPU.
 *
 *     placement NUMBER [FLIPS]      FUTEX_SWAP's number, as probed; round trips a run */
#define _GNU_SOURCE
#include "endpoint.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNS 5
#define WINDOW 4096u
#define PLACES 3

enum way { FUTEX, SWAP, BARE_FUTEX, BARE_SWAP, WAYS };

static const char *const PLACE[PLACES] = {"free", "one-cpu", "two-cpus"};
static const char *const SWITCH[WAYS] = {"futex", "swap", "futex", "swap"};
static const char *const TRANSPORT[WAYS] = {"flipcall-c", "flipcall-c", "bare", "bare"};
static const enum fc_switch_id ID[2] = {FC_SWITCH_FUTEX, FC_SWITCH_SWAP};
static uint32_t swap_op;
static const struct fc_policy FRUGAL = {0, 0, 0};

/* What a process has counted of the flips that came to it, and the server's half shared with the client. */
struct count {
    _Atomic uint32_t same, all, swaps;
};

struct figures {
    double p50, p99, mean, same, swaps;
};

static void fail(const char *what, long long value)
{
    fprintf(stderr, "placement: %s: %lld\n", what, value);
    exit(1);
}

static void run_on(unsigned first, unsigned last)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    for (unsigned cpu = first; cpu <= last; cpu++)
        CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        fail("sched_setaffinity", errno);
}

/* Where each side may run: anywhere, both on CPU 0, or one on each. */
static void place(int placement, int side)
{
    if (placement == 0)
        run_on(0, 1);
    else
        run_on(placement == 1 ? 0 : side, placement == 1 ? 0 : side);
}

static uint32_t *cpu_of_giver(struct fc_endpoint *ep)
{
    return (uint32_t *)(ep->packet + 1);
}

static void taken(struct fc_endpoint *ep, struct count *count)
{
    atomic_fetch_add(&count->same, *cpu_of_giver(ep) == (uint32_t)sched_getcpu());
    atomic_fetch_add(&count->all, 1);
}

/* Sleep until it is this side's turn; swap: and wake the other with the same operation. */
static void bare_wait(struct fc_endpoint *ep, enum way way, bool gave)
{
    _Atomic uint32_t *word = fc_word(&ep->packet->conn_state);
    if (gave && way == BARE_FUTEX)
        syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
    if (gave && way == BARE_SWAP)
        syscall(SYS_futex, word, swap_op, ep->theirs, NULL, word, 0);
    while (atomic_load(word) == ep->theirs)
        syscall(SYS_futex, word, FUTEX_WAIT, ep->theirs, NULL, NULL, 0);
}

/* Give, and wait for the answer; negative when there is none. */
static int64_t flip(struct fc_endpoint *ep, enum way way)
{
    *cpu_of_giver(ep) = (uint32_t)sched_getcpu();
    if (way >= BARE_FUTEX) {
        uint32_t seen = ep->mine;
        if (!atomic_compare_exchange_strong(fc_word(&ep->packet->conn_state), &seen, ep->theirs))
            return FC_ERR_SHUTDOWN;
        bare_wait(ep, way, true);
        return atomic_load(fc_word(&ep->packet->conn_state)) == ep->mine ? 0 : FC_ERR_SHUTDOWN;
    }
    int64_t result = fc_send_recv(ep, sizeof(uint32_t), FC_NO_DEADLINE);
    while (result == FC_TICK)
        result = fc_resume(ep, FC_NO_DEADLINE);
    return result;
}

static void open_side(struct fc_endpoint *ep, void *window, uint32_t side, enum way way)
{
    if (fc_init(ep, window, WINDOW, side, FRUGAL) || fc_use_switch(ep, ID[way % 2]))
        fail("fc_init", side);
    ep->trust_sleepers = 1;
    ep->turn = side == FC_CLIENT_ACTIVE ? FC_TURN_MINE : FC_TURN_THEIRS;
}

static void serve(void *window, enum way way, int placement, struct count *count)
{
    struct fc_endpoint ep;
    place(placement, 1);
    open_side(&ep, window, FC_SERVER_ACTIVE, way);
    int64_t result = 0;
    if (way >= BARE_FUTEX)
        bare_wait(&ep, way, false);
    else
        do
            result = fc_resume(&ep, FC_NO_DEADLINE);
        while (result == FC_TICK);
    while (result >= 0) {
        taken(&ep, count);
        result = flip(&ep, way);
    }
    atomic_store(&count->swaps, (uint32_t)ep.stats.swaps);
    _exit(result == FC_ERR_SHUTDOWN ? 0 : 1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct figures run(enum way way, int placement, int flips)
{
    struct count mine = {0}, *theirs;
    struct fc_endpoint ep;
    double *took = calloc((size_t)flips, sizeof *took), sum = 0;
    char *window = mmap(NULL, 2 * WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (window == MAP_FAILED || !took)
        fail("mmap", errno);
    theirs = (struct count *)(window + WINDOW);
    pid_t server = fork();
    if (server == 0)
        serve(window, way, placement, theirs);
    place(placement, 0);
    open_side(&ep, window, FC_CLIENT_ACTIVE, way);
    for (int i = -100; i < flips; i++) { /* the first hundred warm up */
        int64_t start = fc_now(), result = flip(&ep, way);
        if (result < 0)
            fail("flip", result);
        if (i < 0)
            continue;
        took[i] = (double)(fc_now() - start) / 1000;
        sum += took[i];
        taken(&ep, &mine);
    }
    fc_shutdown(&ep);
    int status;
    if (waitpid(server, &status, 0) != server || status != 0)
        fail("server", status);
    qsort(took, (size_t)flips, sizeof *took, by_value);
    struct figures f = {took[flips / 2], took[flips * 99 / 100], sum / flips,
                        (double)(mine.same + theirs->same) / (double)(mine.all + theirs->all),
                        (double)(ep.stats.swaps + theirs->swaps) / (2.0 * (flips + 100))};
    munmap(window, 2 * WINDOW);
    free(took);
    return f;
}

/* The median over the runs of each figure by itself. */
static double median(const struct figures *runs, size_t offset)
{
    double values[RUNS];
    for (int i = 0; i < RUNS; i++)
        memcpy(&values[i], (const char *)&runs[i] + offset, sizeof values[i]);
    qsort(values, RUNS, sizeof *values, by_value);
    return values[RUNS / 2];
}

#define MEDIAN(runs, figure) median(runs, offsetof(struct figures, figure))

int main(int argc, char **argv)
{
    static struct figures runs[PLACES][WAYS][RUNS];
    int number = argc > 1 ? atoi(argv[1]) : 0, flips = argc > 2 ? atoi(argv[2]) : 1000;
    struct utsname kernel;
    if (number <= 13 || fc_set_swap((uint32_t)number) != FC_OK || flips < 1 || uname(&kernel))
        fail("usage: placement NUMBER [FLIPS]: not a number of FUTEX_SWAP", number);
    swap_op = (uint32_t)number;
    for (int r = 0; r < RUNS; r++) /* in alternation, so that a busy host hurts all */
        for (int p = 0; p < PLACES; p++)
            for (int w = 0; w < WAYS; w++)
                runs[p][w][r] = run(w, p, flips);
    printf("{\"machine\": {\"kernel\": \"%s\", \"architecture\": \"%s\", \"emulated\": true}, \"rows\": [",
           kernel.release, kernel.machine);
    for (int p = 0; p < PLACES; p++)
        for (int w = 0; w < WAYS; w++)
            printf("%s\n {\"case\": \"sendrecv\", \"transport\": \"%s\", \"switch\": \"%s\", \"placement\": \"%s\", "
                   "\"load\": \"back-to-back\", \"size\": 4, \"p50_us\": %.1f, \"p99_us\": %.1f, \"mean_us\": %.1f, "
                   "\"cpu_us_per_call\": null, \"calls_per_s\": %.0f, \"runs\": %d, \"policy\": \"frugal\", "
                   "\"note\": \"emulated\", \"same_cpu_share\": %.4f, \"swap_share\": %.4f}",
                   p + w ? "," : "", TRANSPORT[w], SWITCH[w], PLACE[p], MEDIAN(runs[p][w], p50),
                   MEDIAN(runs[p][w], p99), MEDIAN(runs[p][w], mean), 1e6 / MEDIAN(runs[p][w], mean), RUNS,
                   MEDIAN(runs[p][w], same), MEDIAN(runs[p][w], swaps));
    printf("\n], \"ratios\": {");
    for (int p = 0; p < PLACES; p++)
        for (int bare = 0; bare < 2; bare++)
            printf("\"emulated_%sswap_over_futex_%s\": %.3f, ", bare ? "bare_" : "", PLACE[p],
                   MEDIAN(runs[p][2 * bare + 1], p50) / MEDIAN(runs[p][2 * bare], p50));
    double share = 0;
    for (int r = 0; r < RUNS; r++)
        share += runs[0][SWAP][r].same / RUNS;
    printf("\"emulated_swap_same_cpu_share\": %.4f}}\n", share);
    if (share < 0.99)
        fail("swaps that landed on the giver's CPU, in 1/10000, below 9900", (long long)(share * 10000));
    return 0;
}
