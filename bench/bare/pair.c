/* pair.c: times one primitive between two processes, and nothing else.
 *
 *   program CLIENT_CPU SERVER_CPU WARMUP STAMPED PLAIN [MODE]        (CPU -1: not pinned)
 *
 * The client makes WARMUP calls, then STAMPED calls with a clock reading around each (for percentiles), then PLAIN
 * calls with one clock reading around them all (for the mean and the CPU time, free of the stamps). On stdout: one
 * line of JSON, then STAMPED native u64, the nanoseconds of each stamped call with nothing subtracted.
 *
 * Both processes die with whoever started them: PR_SET_PDEATHSIG on each, and the client stops on SIGCHLD, since
 * a client that spins would otherwise never learn that its server is gone.
 */
#define _GNU_SOURCE
#include "pair.h"

#include <errno.h>
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

#define WINDOW_LENGTH 65536u

struct plan {
    int client_cpu, server_cpu;
    uint64_t warmup, stamped, plain;
};

struct results { /* a page of its own, so that it shares no cache line with the window */
    uint64_t server_cpu_ns;
};

_Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "bench: %s: %s\n", what, strerror(error));
    exit(EXIT_FAILURE);
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0)
        fail("clock_gettime", errno);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t parse_count(const char *text)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text)
        fail(text, EINVAL);
    return value;
}

static void pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fail("sched_setaffinity", errno);
}

static void die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        fail("prctl", errno);
    if (getppid() != parent) /* it died before the request took effect */
        exit(EXIT_FAILURE);
}

static void on_child(int signal)
{
    (void)signal;
    static const char text[] = "bench: the server process ended early\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(EXIT_FAILURE);
}

static void serve(const struct primitive *p, const struct plan *plan, struct results *results)
{
    uint64_t unmeasured = plan->warmup + plan->stamped;
    uint64_t calls = unmeasured + plan->plain;
    uint64_t started = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    p->serve_first();
    for (uint64_t i = 1; i < calls; i++) {
        if (i == unmeasured)
            started = read_clock(CLOCK_PROCESS_CPUTIME_ID);
        p->serve_next();
    }
    results->server_cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - started;
    p->serve_last(); /* after the store above: the client reads it once this call is answered */
}

static void ask(const struct primitive *p, const struct plan *plan, const struct results *results)
{
    uint64_t *stamps = calloc(plan->stamped + 1, sizeof *stamps);
    if (stamps == NULL)
        fail("calloc", ENOMEM);
    for (uint64_t i = 0; i < plan->stamped; i++)
        stamps[i] = 1; /* touch the pages now, not between two stamps */
    for (uint64_t i = 0; i < plan->warmup; i++)
        p->ask();
    for (uint64_t i = 0; i < plan->stamped; i++) {
        uint64_t before = read_clock(CLOCK_MONOTONIC);
        p->ask();
        stamps[i] = read_clock(CLOCK_MONOTONIC) - before;
    }
    uint64_t cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t before = read_clock(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < plan->plain; i++)
        p->ask();
    uint64_t elapsed = read_clock(CLOCK_MONOTONIC) - before;
    cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    signal(SIGCHLD, SIG_DFL);
    printf("{\"calls\": %" PRIu64 ", \"elapsed_ns\": %" PRIu64 ", \"client_cpu_ns\": %" PRIu64
           ", \"server_cpu_ns\": %" PRIu64 "}\n",
           plan->plain, elapsed, cpu, results->server_cpu_ns);
    if (fwrite(stamps, sizeof *stamps, plan->stamped, stdout) != plan->stamped || fflush(stdout) != 0)
        fail("stdout", errno);
    free(stamps);
}

static void *map_shared(size_t length)
{
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED)
        fail("mmap", errno);
    return at;
}

int main(int argc, char **argv)
{
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: %s CLIENT_CPU SERVER_CPU WARMUP STAMPED PLAIN [MODE]\n", argv[0]);
        return 2;
    }
    struct plan plan = {atoi(argv[1]), atoi(argv[2]), parse_count(argv[3]), parse_count(argv[4]),
                        parse_count(argv[5])};
    const struct primitive *p = primitive_for(argc == 7 ? argv[6] : "");
    if (p == NULL || plan.plain == 0)
        fail("no such mode, or nothing to measure", EINVAL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        fail("prctl", errno);

    void *window = map_shared(WINDOW_LENGTH);
    struct results *results = map_shared(sizeof *results);
    if (signal(SIGCHLD, on_child) == SIG_ERR)
        fail("signal", errno);
    pid_t self = getpid();
    pid_t server = fork();
    if (server < 0)
        fail("fork", errno);
    if (server == 0) {
        signal(SIGCHLD, SIG_DFL);
        die_with(self);
        pin(plan.server_cpu);
        p->open_server(window, WINDOW_LENGTH);
        serve(p, &plan, results);
        pause(); /* until the client has its figures: an early exit would look like a failure */
        return 0;
    }
    pin(plan.client_cpu);
    p->open_client(window, WINDOW_LENGTH);
    ask(p, &plan, results);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return 0;
}
