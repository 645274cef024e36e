/* run.c: one round: two sides, in processes or threads of their own; a third thread that ends them; a supervisor that
 * stops, signals and kills, and sees to it that nothing hangs. */
#define _GNU_SOURCE
#include "stress.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LATEST (50 * MS) /* of a round's life: then its end comes, however few the exchanges */

static void rest(int64_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* ---- the sides and the third thread --------------------------------------------------------------------------- */

static void *side_thread(void *argument)
{
    uint32_t side = (uint32_t)(uintptr_t)argument;
    play(ledger, side);
    part(side);
    return NULL;
}

/* Another thread of the actor's process: ends the round, at its moment. */
static void *end_thread(void *argument)
{
    struct fc_endpoint *ep = &ledger->ep[ledger->plan.actor];
    int64_t latest = fc_now() + LATEST;
    (void)argument;
    while (tally(&ledger->side[ledger->plan.actor].taken) < ledger->plan.after && fc_now() < latest)
        rest(10 * US);
    for (uint32_t i = ledger->plan.hesitate; i; i--)
        __asm__ __volatile__("" ::: "memory");
    if (ledger->plan.ending == SHUTDOWN)
        fc_shutdown(ep);
    else if (ledger->plan.ending == RETIRE)
        while (!fc_retire(ep))
            rest(US);
    else
        fc_condemn(ep);
    return NULL;
}

static bool has_end_thread(void)
{
    enum ending e = ledger->plan.ending;
    return e == SHUTDOWN || e == RETIRE || e == CONDEMN || (e == KILL && option.threads);
}

static void start_thread(pthread_t *thread, void *(*run)(void *), uint32_t argument)
{
    if (pthread_create(thread, NULL, run, (void *)(uintptr_t)argument))
        complain(ledger, "no thread could be started");
}

/* A side in a process of its own. It sees the peer's death by `life`, a socket whose other end only the peer has, and
 * by a pidfd if it was forked second. */
static void side_process(uint32_t side, int life, pid_t peer)
{
    pthread_t ender;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ledger->ep[side].life_fd[1] = life;
    share_listener(side);
    if (peer && ledger->plan.seed % 2)
        ledger->ep[side].life_fd[0] = (int)syscall(SYS_pidfd_open, peer, 0);
    bool ends = has_end_thread() && ledger->plan.actor == side;
    if (ends)
        start_thread(&ender, end_thread, 0);
    play(ledger, side);
    part(side);
    if (ends)
        pthread_join(ender, NULL);
    _exit(0);
}

/* ---- the supervisor ------------------------------------------------------------------------------------------- */

/* Which sides have ended: bits. Reaps; a side that ended without a result is a failure unless it was killed. */
static int who_ended(bool killed)
{
    int who = 0;
    for (int i = 0; i < 2; i++) {
        int status;
        bool by_us = killed && i == (int)ledger->plan.actor;
        if (sides[i] > 0) {
            if (waitpid(sides[i], &status, WNOHANG) != sides[i])
                continue;
            sides[i] = 0;
            if (!by_us && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
                fail("a side crashed");
        }
        if (by_us || atomic_load(&ledger->side[i].done))
            who |= 1 << i;
    }
    return who;
}

/* Stop a side for a moment, or send it a signal that does nothing. */
static void meddle(uint64_t *dice, pthread_t threads[2])
{
    uint32_t i = below(dice, 2), what = below(dice, 8);
    if (option.threads) {
        if (!atomic_load(&ledger->side[i].done))
            pthread_kill(threads[i], SIGUSR1);
    } else if (sides[i] > 0 && what == 0) {
        kill(sides[i], SIGSTOP);
        rest(below(dice, 3 * MS));
        kill(sides[i], SIGCONT);
    } else if (sides[i] > 0)
        kill(sides[i], SIGUSR1);
}

/* From "go" until both sides have ended. */
static void supervise(pthread_t threads[2])
{
    const struct plan *plan = &ledger->plan;
    uint64_t dice = plan->seed + 99, last = 0;
    int64_t start = fc_now(), moved = start;
    bool killed = false;
    while (who_ended(killed) != 3) {
        int64_t now = fc_now();
        uint64_t taken = tally(&ledger->side[0].taken) + tally(&ledger->side[1].taken);
        if (atomic_load(&ledger->wrong) == 2)
            fail(ledger->complaint);
        if (taken != last)
            moved = now, last = taken;
        else if (now - moved > option.patience_ns)
            fail("it hangs");
        if (now - start > LATEST)
            atomic_store_explicit(&ledger->enough, 1, memory_order_relaxed);
        if (plan->ending == KILL && !option.threads && !killed &&
            (tally(&ledger->side[plan->actor].taken) >= plan->after || now - start > LATEST)) {
            for (uint32_t i = plan->hesitate; i; i--)
                __asm__ __volatile__("" ::: "memory");
            killed = true;
            kill(sides[plan->actor], SIGKILL);
        } else if (plan->stops)
            meddle(&dice, threads);
        rest(10 * US + below(&dice, 200 * US));
    }
    if (atomic_load(&ledger->wrong))
        fail(ledger->complaint);
}

/* ---- rounds --------------------------------------------------------------------------------------------------- */

static void prepare(uint32_t round)
{
    uint32_t switch_id = ledger->switch_id, imitate = ledger->imitate;
    memset(ledger, 0, sizeof *ledger);
    memset(windows[0], 0, WINDOW);
    ledger->switch_id = switch_id;
    ledger->imitate = imitate;
    ledger->plan = draw_plan(option.seed, round, option.cpus == 1);
    if (switch_id == FC_SWITCH_NOTIFY)
        ledger->plan.sleepers = 1; /* it tells in that word how it sleeps */
    ledger->salt = mix(ledger->plan.seed, 1);
    atomic_store(&ledger->active, FC_CLIENT_ACTIVE + 1);
    for (uint32_t i = 0; i < 2; i++) {
        fc_init(&ledger->ep[i], windows[i], WINDOW, i, ledger->plan.policy[i]);
        ledger->ep[i].slice_ns = ledger->plan.slice_ns;
    }
    if (option.verbose)
        tell_plan(stdout, &ledger->plan), fflush(stdout);
}

static void run_threads(void)
{
    pthread_t threads[2], ender;
    bool ends = has_end_thread();
    for (uint32_t i = 0; i < 2; i++)
        start_thread(&threads[i], side_thread, i);
    if (ends)
        start_thread(&ender, end_thread, 0);
    atomic_store(&ledger->go, 1);
    supervise(threads);
    atomic_store(&ledger->over, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    if (ends)
        pthread_join(ender, NULL);
    drop_listener();
}

static void run_processes(void)
{
    int life[2];
    uint32_t first = ledger->plan.seed >> 32 & 1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, life))
        fail("socketpair");
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t i = k ? !first : first;
        sides[i] = fork();
        if (sides[i] < 0)
            fail("fork");
        if (sides[i] == 0) {
            close(life[!i]);
            side_process(i, life[i], k ? sides[first] : 0);
        }
    }
    close(life[0]);
    close(life[1]);
    drop_listener();
    for (int64_t late = fc_now() + option.patience_ns; !atomic_load(&ledger->ready); rest(10 * US))
        if (fc_now() > late || atomic_load(&ledger->wrong))
            fail(atomic_load(&ledger->wrong) ? ledger->complaint : "the sides do not get ready");
    atomic_store(&ledger->go, 1);
    supervise(NULL);
}

void run_round(uint32_t round)
{
    prepare(round);
    prepare_listener();
    if (option.threads)
        run_threads();
    else
        run_processes();
}
