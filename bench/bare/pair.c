/* pair.c: times one primitive between two processes, and nothing else.
 *
 *   program CLIENT_CPU SERVER_CPU DURATION_US MOST PAUSE_US NORMAL [MODE]        (CPU -1: not pinned)
 *
 * PAUSE_US 0, back-to-back: the client makes calls with a clock reading around each (for percentiles) for DURATION_US
 * and at most MOST of them, then as many with one clock reading around them all (for the mean and the CPU time, free
 * of the stamps). Otherwise MOST calls, each stamped and each after a pause of PAUSE_US: the pause is outside the
 * latency, inside the CPU time. NORMAL 1 gives up the real-time class or nice value the bench was started with.
 * On stdout: one line of JSON, then the nanoseconds of each stamped call, native u64, nothing subtracted.
 *
 * Both processes die with whoever started them: PR_SET_PDEATHSIG on each, and the client stops on SIGCHLD, since
 * a client that spins would otherwise never learn that its server is gone.
 */
#define _GNU_SOURCE
#include "pair.h"

#include "child.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define WINDOW_LENGTH 65536u
#define LEAST_CALLS 3u /* however long one takes */

struct plan {
    int client_cpu, server_cpu;
    uint64_t duration_ns, most, pause_ns;
    int normal;
};

enum { WARMING, MEASURED, DONE };

struct shared { /* a page of its own, so that it shares no cache line with the window */
    _Atomic int phase;       /* the client's, told to the server with its next request */
    uint64_t server_cpu_ns;  /* from the first request of MEASURED to that of DONE; there when DONE is answered */
};

struct figures {
    uint64_t stamped, calls, elapsed_ns, cpu_ns;
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

static void rest(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
        ;
}

static void on_child(int signal)
{
    (void)signal;
    static const char text[] = "bench: the server process ended early\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(EXIT_FAILURE);
}

static void serve(const struct primitive *p, struct shared *shared)
{
    uint64_t started = 0;
    int phase = WARMING;
    p->serve_first();
    while (phase != DONE) {
        int now = atomic_load(&shared->phase);
        if (now != phase) {
            uint64_t cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
            if (now == MEASURED)
                started = cpu;
            else
                shared->server_cpu_ns = cpu - started;
            phase = now;
        }
        if (phase != DONE)
            p->serve_next();
    }
    p->serve_last();
}

static uint64_t ask_stamped(const struct primitive *p)
{
    uint64_t before = read_clock(CLOCK_MONOTONIC);
    p->ask();
    return read_clock(CLOCK_MONOTONIC) - before;
}

static struct figures ask_paced(const struct primitive *p, const struct plan *plan, struct shared *shared, uint64_t *stamps)
{
    struct figures f = {.stamped = plan->most, .calls = plan->most};
    p->ask();
    for (uint64_t i = 0; i < plan->most / 10; i++) { /* new processes: half of the slow calls are among the first */
        rest(plan->pause_ns);
        p->ask();
    }
    atomic_store(&shared->phase, MEASURED);
    uint64_t cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t before = read_clock(CLOCK_MONOTONIC);
    for (uint64_t i = 0; i < plan->most; i++) {
        rest(plan->pause_ns);
        stamps[i] = ask_stamped(p);
    }
    f.elapsed_ns = read_clock(CLOCK_MONOTONIC) - before;
    f.cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    return f;
}

static struct figures ask_at_once(const struct primitive *p, const struct plan *plan, struct shared *shared, uint64_t *stamps)
{
    struct figures f = {0};
    uint64_t until = read_clock(CLOCK_MONOTONIC) + plan->duration_ns / 5;
    for (uint64_t i = 0; i < LEAST_CALLS || (i < plan->most && read_clock(CLOCK_MONOTONIC) < until); i++)
        p->ask();
    until = read_clock(CLOCK_MONOTONIC) + plan->duration_ns;
    while (f.stamped < LEAST_CALLS || (f.stamped < plan->most && read_clock(CLOCK_MONOTONIC) < until))
        stamps[f.stamped++] = ask_stamped(p);
    atomic_store(&shared->phase, MEASURED);
    uint64_t cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t before = read_clock(CLOCK_MONOTONIC);
    for (; f.calls < f.stamped; f.calls++)
        p->ask();
    f.elapsed_ns = read_clock(CLOCK_MONOTONIC) - before;
    f.cpu_ns = read_clock(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    return f;
}

static void ask(const struct primitive *p, const struct plan *plan, struct shared *shared)
{
    uint64_t room = plan->most > LEAST_CALLS ? plan->most : LEAST_CALLS;
    uint64_t *stamps = calloc(room, sizeof *stamps);
    if (stamps == NULL)
        fail("calloc", ENOMEM);
    memset(stamps, 1, room * sizeof *stamps); /* touch the pages now, not between two stamps */
    struct figures f = (plan->pause_ns > 0 ? ask_paced : ask_at_once)(p, plan, shared, stamps);
    atomic_store(&shared->phase, DONE);
    p->ask();
    signal(SIGCHLD, SIG_DFL);
    printf("{\"calls\": %" PRIu64 ", \"elapsed_ns\": %" PRIu64 ", \"client_cpu_ns\": %" PRIu64
           ", \"server_cpu_ns\": %" PRIu64 "}\n",
           f.calls, f.elapsed_ns, f.cpu_ns, shared->server_cpu_ns);
    if (fwrite(stamps, sizeof *stamps, f.stamped, stdout) != f.stamped || fflush(stdout) != 0)
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
    if (argc != 7 && argc != 8) {
        fprintf(stderr, "usage: %s CLIENT_CPU SERVER_CPU DURATION_US MOST PAUSE_US NORMAL [MODE]\n", argv[0]);
        return 2;
    }
    struct plan plan = {atoi(argv[1]), atoi(argv[2]), parse_count(argv[3]) * 1000u, parse_count(argv[4]),
                        parse_count(argv[5]) * 1000u, atoi(argv[6])};
    const struct primitive *p = primitive_for(argc == 8 ? argv[7] : "");
    if (p == NULL || plan.most == 0)
        fail("no such mode, or nothing to measure", EINVAL);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        fail("prctl", errno);
    if (plan.normal && be_normal() != 0)
        fail("giving up priority", errno);

    void *window = map_shared(WINDOW_LENGTH);
    struct shared *shared = map_shared(sizeof *shared);
    if (pair_prepare != NULL)
        pair_prepare();
    if (signal(SIGCHLD, on_child) == SIG_ERR)
        fail("signal", errno);
    pid_t self = getpid();
    pid_t server = fork();
    if (server < 0)
        fail("fork", errno);
    if (server == 0) {
        signal(SIGCHLD, SIG_DFL);
        if (die_with(self) != 0) /* it died before the request took effect */
            exit(EXIT_FAILURE);
        if (pin_to(plan.server_cpu) != 0)
            fail("sched_setaffinity", errno);
        p->open_server(window, WINDOW_LENGTH);
        serve(p, shared);
        pause(); /* until the client has its figures: an early exit would look like a failure */
        return 0;
    }
    if (pin_to(plan.client_cpu) != 0)
        fail("sched_setaffinity", errno);
    p->open_client(window, WINDOW_LENGTH);
    ask(p, &plan, shared);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    return 0;
}
