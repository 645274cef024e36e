/* waits.c: how one wait policy does under one load, on flipcall's own C core, both sides under the same policy.
 *
 *   waits SPIN_NS ADAPTIVE YIELDS PAUSE_US SERVICE_NS SECONDS [FOLLOW]
 *   waits busy                                             (a busy loop, until the parent dies)
 *
 * The client calls for SECONDS, sleeping PAUSE_US between calls; the server works SERVICE_NS on each. On stdout one
 * line of JSON: calls, p50/p99/mean of a call in ns, CPU time per call of each side in ns, and what the waits did.
 * pair.c times primitives one by one; this one has the pauses, the work and the statistics a policy is judged by.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "endpoint.h"

#define WINDOW_LENGTH 65536u
#define STAMPS 2000000u
#define WARM_CALLS 100 /* what the policy may take to find out about the load */
#define STOP 1u        /* length of the last datagram */

struct shared {
    int64_t server_cpu_ns; /* when the last warm call was answered, and at the end */
    struct fc_stats server;
};

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int64_t settle(struct fc_endpoint *ep, int64_t result)
{
    while (result == FC_TICK)
        result = fc_resume(ep, FC_NO_DEADLINE);
    if (result < 0) {
        fprintf(stderr, "waits: result %lld, fault %u\n", (long long)result, ep->fault);
        exit(1);
    }
    return result;
}

static void work(int64_t ns)
{
    int64_t until = fc_now() + ns;
    while (ns > 0 && fc_now() < until)
        ;
}

static void serve(struct fc_endpoint *ep, struct shared *shared, int64_t service_ns)
{
    int64_t n = settle(ep, fc_first(ep, FC_NO_DEADLINE)), calls = 0, began = 0;
    while (n != STOP) {
        work(service_ns);
        if (++calls == WARM_CALLS)
            began = cpu_ns();
        n = settle(ep, fc_send_recv(ep, 0, FC_NO_DEADLINE));
    }
    shared->server_cpu_ns = cpu_ns() - began;
    shared->server = ep->stats;
    settle(ep, fc_send_last(ep, 0));
}

static void pause_us(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        nanosleep(&t, NULL);
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void report_side(const char *name, int64_t cpu, uint64_t calls, const struct fc_stats *s)
{
    printf(", \"%s\": {\"cpu_ns\": %" PRId64 ", \"paid\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"parks\": %" PRIu64
           ", \"skipped\": %" PRIu64 "}",
           name, cpu / (int64_t)calls, s->spins_paid, s->spins_lost, s->parks, s->wakes_skipped);
}

static void ask(struct fc_endpoint *ep, const struct shared *shared, long pause, double seconds)
{
    uint32_t *stamps = malloc(STAMPS * sizeof *stamps);
    uint64_t n = 0, sum = 0;
    memset(stamps, 1, STAMPS * sizeof *stamps);
    settle(ep, fc_connect(ep, 0, FC_NO_DEADLINE));
    for (int i = 1; i < WARM_CALLS; i++) {
        pause_us(pause);
        settle(ep, fc_send_recv(ep, 0, FC_NO_DEADLINE));
    }
    int64_t began = cpu_ns(), until = fc_now() + (int64_t)(seconds * 1e9), after;
    do {
        pause_us(pause);
        int64_t before = fc_now();
        settle(ep, fc_send_recv(ep, 0, FC_NO_DEADLINE));
        after = fc_now();
        if (n < STAMPS)
            stamps[n] = (uint32_t)(after - before);
        n++, sum += (uint64_t)(after - before);
    } while (after < until);
    int64_t cpu = cpu_ns() - began;
    struct fc_stats stats = ep->stats;
    settle(ep, fc_send_recv(ep, STOP, FC_NO_DEADLINE));
    uint64_t kept = n < STAMPS ? n : STAMPS;
    qsort(stamps, kept, sizeof *stamps, ascending);
    printf("{\"calls\": %" PRIu64 ", \"p50\": %u, \"p99\": %u, \"mean\": %" PRIu64, n, stamps[kept / 2],
           stamps[kept * 99 / 100], sum / n);
    report_side("client", cpu, n, &stats);
    report_side("server", shared->server_cpu_ns, n, &shared->server);
    printf("}\n");
    free(stamps);
}

int main(int argc, char **argv)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return 1;
    if (argc == 2 && strcmp(argv[1], "busy") == 0)
        for (volatile unsigned long n = 0;; n++)
            ;
    if (argc < 7) {
        fprintf(stderr, "usage: %s SPIN_NS ADAPTIVE YIELDS PAUSE_US SERVICE_NS SECONDS [FOLLOW]\n", argv[0]);
        return 2;
    }
    struct fc_policy policy = {.spin_ns = atoll(argv[1]), .adaptive = (uint32_t)atoi(argv[2]),
                               .yields = (uint32_t)atoi(argv[3])};
    int64_t service_ns = atoll(argv[5]);
    void *window = mmap(NULL, WINDOW_LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    struct shared *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (window == MAP_FAILED || shared == MAP_FAILED)
        return 1;
    pid_t self = getpid(), server = fork();
    if (server == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != self))
        return 1;
    static struct fc_endpoint ep;
    if (fc_init(&ep, window, WINDOW_LENGTH, server ? FC_CLIENT_ACTIVE : FC_SERVER_ACTIVE, policy) != FC_OK)
        return 1;
    ep.trust_sleepers = 1;
    if (argc > 7 && atoi(argv[7]))
        fc_use_same_cpu(&ep);
    if (server == 0) {
        serve(&ep, shared, service_ns);
        return 0;
    }
    ask(&ep, shared, atol(argv[4]), atof(argv[6]));
    waitpid(server, NULL, 0);
    return 0;
}
