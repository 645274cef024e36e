/* stress.c: random connections, one after the other, each driven to a random end; everything received is checked.
 *
 *   stress [--seconds N] [--seed S] [--round R] [--threads] [--cpus N] [--busy N] [--switch NAME] [--swap NUMBER]
 *          [--patience S] [--verbose]
 *
 * A round (plan.h) is two sides (player.h), each in a process of its own, or both threads of this one (--threads, for
 * the thread sanitizer, which does not see other processes). This file starts them, meddles, and judges:
 *   - every datagram came once, in order, whole; never were two sides active;
 *   - each side ended with the result that the round's end calls for; what a retired connection's client believes
 *     to have sent has been received;
 *   - no wake was lost: most rounds have slices of an hour, in which a lost wake is a hang;
 *   - nothing hung: without one exchange in --patience seconds (10) the round is shown as it stands, and fails;
 *   - no descriptor and no child is left.
 * Exit: 0, 1 with the seed and the round's plan, 2 for wrong arguments, 77 when the switch cannot work here. */
#define _GNU_SOURCE
#include "stress.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SKIP 77
#define BUSY_MAX 64

struct option_values option = {.seconds = 2, .patience_ns = 10000 * MS, .round = -1, .how = "futex"};
struct totals total;
struct ledger *ledger;
void *windows[2];
pid_t sides[2];
static pid_t busy[BUSY_MAX];

static void show(const char *what)
{
    fprintf(stderr, "\nstress: FAILED: %s\n  %s %s, --seed %" PRIu64 " ", what, option.how,
            option.threads ? "threads" : "processes", option.seed);
    tell_plan(stderr, &ledger->plan);
    const struct fc_packet *w = windows[0];
    fprintf(stderr, "  conn_state %u, data_len %u, sleepers %#x, cancel %u; active %u\n", w->conn_state, w->data_len,
            w->sleepers, w->cancel, atomic_load(&ledger->active));
    for (int i = 0; i < 2; i++) {
        const struct fc_endpoint *ep = &ledger->ep[i];
        const struct fc_stats *s = &ep->stats;
        fprintf(stderr,
                "  %s: %s, result %" PRId64 ", turn %u, taken %" PRIu64 ", owed %u, stop %u, flips %" PRIu64
                ", parks %" PRIu64 ", wakes %" PRIu64 ", skipped %" PRIu64 ", rescues %" PRIu64 "\n",
                name_of(ep), atomic_load(&ledger->side[i].done) ? "ended" : "playing", atomic_load(&ledger->side[i].result),
                ep->turn, tally(&ledger->side[i].taken), ep->owed, atomic_load(&ep->stop), s->flips, s->parks, s->wakes,
                s->wakes_skipped, s->rescues);
    }
}

static void end_processes(void)
{
    for (int i = 0; i < 2; i++)
        if (sides[i] > 0) {
            kill(sides[i], SIGKILL);
            waitpid(sides[i], NULL, 0);
        }
    for (int i = 0; i < option.busy; i++)
        if (busy[i] > 0) {
            kill(busy[i], SIGKILL);
            waitpid(busy[i], NULL, 0);
        }
}

void fail(const char *what)
{
    show(what);
    end_processes();
    _exit(1);
}

/* ---- arguments ------------------------------------------------------------------------------------------------ */

static void read_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"seconds", 1, 0, 't'}, {"seed", 1, 0, 's'}, {"round", 1, 0, 'r'},  {"threads", 0, 0, 'T'},
        {"cpus", 1, 0, 'c'},    {"busy", 1, 0, 'b'}, {"switch", 1, 0, 'w'}, {"swap", 1, 0, 'n'},
        {"patience", 1, 0, 'p'}, {"verbose", 0, 0, 'v'}, {0, 0, 0, 0},
    };
    option.seed = (uint64_t)fc_now();
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        switch (c) {
        case 't': option.seconds = atof(optarg); break;
        case 's': option.seed = strtoull(optarg, NULL, 0); break;
        case 'r': option.round = atoll(optarg); break;
        case 'T': option.threads = 1; break;
        case 'c': option.cpus = atoi(optarg); break;
        case 'b': option.busy = atoi(optarg); break;
        case 'w': option.how = optarg; break;
        case 'n': option.swap = (uint32_t)atoi(optarg); break;
        case 'p': option.patience_ns = (int64_t)(atof(optarg) * 1e9); break;
        case 'v': option.verbose = 1; break;
        default: exit(2);
        }
    if (optind != argc || option.busy < 0 || option.busy > BUSY_MAX || option.cpus < 0)
        exit(2);
}

/* Stay on the first option.cpus of the CPUs allowed; as many as there are, without --cpus or where there are fewer. */
static void choose_cpus(void)
{
    cpu_set_t allowed, chosen;
    int n = 0;
    CPU_ZERO(&chosen);
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE && (n < option.cpus || !option.cpus); cpu++)
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &chosen);
            n++;
        }
    sched_setaffinity(0, sizeof chosen, &chosen);
    option.cpus = n;
}

/* Other programs that want the CPUs, too. */
static void start_busy(void)
{
    for (int i = 0; i < option.busy; i++) {
        busy[i] = fork();
        if (busy[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                __asm__ __volatile__("" ::: "memory");
        }
    }
}

static void choose_switch(void)
{
    if (!strcmp(option.how, "futex"))
        ledger->switch_id = FC_SWITCH_FUTEX;
    else if (!strcmp(option.how, imitated_swap.name))
        ledger->imitate = 1;
#ifdef STRESS_SWAP /* the tree has core/switch_swap.c */
    else if (!strcmp(option.how, "swap") && option.swap && fc_set_swap(option.swap) == FC_OK)
        ledger->switch_id = FC_SWITCH_SWAP;
#endif
    else if (!strcmp(option.how, "notify")) {
        int error = try_notify();
        if (error) {
            printf("stress: skipped: switch notify: %s\n", strerror(error));
            exit(SKIP);
        }
        ledger->switch_id = FC_SWITCH_NOTIFY;
    } else {
        printf("stress: skipped: switch %s%s\n", option.how,
               strcmp(option.how, "swap") ? " is not one that this program can set up"
                                          : " needs FUTEX_SWAP's number in this kernel (--swap)");
        exit(SKIP);
    }
}

static void map_window(void)
{
    int fd = memfd_create("stress", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, WINDOW))
        abort();
    for (int i = 0; i < 2; i++)
        windows[i] = i && option.threads ? windows[0] : mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (windows[0] == MAP_FAILED || windows[1] == MAP_FAILED || ledger == MAP_FAILED)
        abort();
}

static int descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void nothing(int number)
{
    (void)number;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    choose_cpus();
    map_window();
    choose_switch();
    start_busy();
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = nothing}, NULL); /* no SA_RESTART: sleeps end with EINTR */
    fc_set_spinner_limit(option.threads ? 2 : 1);
    printf("stress: %s, %s, %d CPU%s, %d busy, --seed %" PRIu64 "\n", option.how,
           option.threads ? "threads" : "processes", option.cpus, option.cpus == 1 ? "" : "s", option.busy, option.seed);
    fflush(stdout);
    int before = descriptors();
    int64_t end = fc_now() + (int64_t)(option.seconds * 1e9);
    for (uint32_t round = option.round < 0 ? 0 : (uint32_t)option.round; fc_now() < end; round += option.round < 0) {
        run_round(round);
        judge();
    }
    end_processes();
    if (descriptors() != before || waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        fail("a descriptor or a child was left behind");
    printf("stress: ok: %" PRIu64 " rounds (", total.rounds);
    for (int i = 0; i < ENDINGS; i++)
        printf("%s%s %" PRIu64, i ? ", " : "", ENDING[i], total.ended[i]);
    printf("), %" PRIu64 " flips, %" PRIu64 " spins paid, %" PRIu64 " parks, %" PRIu64 " swaps, %" PRIu64 " deadlines, %" PRIu64
           " answers dropped, %" PRIu64 " slices ended by an answer\n",
           total.flips, total.spins_paid, total.parks, total.swaps, total.timeouts, total.dropped, total.rescues);
    return 0;
}
