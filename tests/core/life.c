/* life.c: the peer's death, told by a pidfd or a socket, at every step of the ladder. */
#include "check.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

static int pidfd(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    CHECK(fd >= 0);
    return fd;
}

static pid_t child_that_waits(void)
{
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    return child;
}

static void kill_and_reap(pid_t child)
{
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

/* Killed while this side is parked, yields first, or spins for an hour: DIED, and not before. */
static void test_death_during_wait(void)
{
    const struct fc_policy policies[] = {FRUGAL, YIELDING, ENDLESS};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        struct pair p;
        pair_connected(&p, policies[i]);
        pid_t child = child_that_waits();
        p.server.life_fd[0] = pidfd(child);
        p.server.slice_ns = 5 * MS;
        CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_TICK);
        pthread_t server = start(wait_on, &p.server);
        if (i < 2)
            until_parked(&p.server);
        kill_and_reap(child);
        CHECK_EQ(finish(server), FC_ERR_DIED);
        CHECK_EQ(p.server.turn, FC_TURN_OVER);
        close(p.server.life_fd[0]);
        pair_close(&p);
    }
}

/* Killed while this side is active: it gives in good faith, and learns it a slice later. */
static void test_death_while_active(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    pid_t child = child_that_waits();
    p.client.life_fd[0] = pidfd(child);
    kill_and_reap(child);
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_ERR_DIED);
    close(p.client.life_fd[0]);
    pair_close(&p);
}

/* A socket's hang-up tells it, too; data on the socket does not. */
static void test_hang_up(void)
{
    struct pair p;
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    pair_connected(&p, FRUGAL);
    p.client.life_fd[1] = ends[0];
    p.client.slice_ns = 5 * MS;
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_TICK);
    close(ends[1]);
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), FC_ERR_DIED);
    close(ends[0]);
    pair_close(&p);
}

/* Who answered and then died has answered. */
static void test_answer_before_death(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_send(&p.client, 1), FC_OK);
    pid_t child = fork();
    if (child == 0)
        _exit(fc_resume(&p.server, FC_NO_DEADLINE) == 1 && fc_send(&p.server, 8) == FC_OK ? 0 : 1);
    p.client.life_fd[0] = pidfd(child);
    reap(child);
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), 8);
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_ERR_DIED);
    close(p.client.life_fd[0]);
    pair_close(&p);
}

/* The same, when answer and end fall between the last look at the word and the question after the peer's life: the
 * slice is shorter than a child lives, so over the rounds the end comes at every point of it. */
static void test_answer_and_death_at_the_end_of_a_slice(void)
{
    for (int round = 0; round < 200; round++) {
        struct pair p;
        pair_connected(&p, FRUGAL);
        p.client.slice_ns = 1000;
        CHECK_EQ(fc_send(&p.client, 1), FC_OK);
        pid_t child = fork();
        if (child == 0)
            _exit(fc_resume(&p.server, FC_NO_DEADLINE) == 1 && fc_send(&p.server, 8) == FC_OK ? 0 : 1);
        p.client.life_fd[0] = pidfd(child);
        CHECK_EQ((intptr_t)wait_on(&p.client), 8);
        reap(child);
        close(p.client.life_fd[0]);
        pair_close(&p);
    }
}

/* fc_reclaim asks for the peer's life as well. */
static void test_reclaim_from_the_dead(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    pid_t child = child_that_waits();
    p.client.life_fd[0] = pidfd(child);
    CHECK_EQ(fc_send(&p.client, 0), FC_OK);
    CHECK_EQ(fc_reclaim(&p.client), FC_TICK);
    kill_and_reap(child);
    CHECK_EQ(fc_reclaim(&p.client), FC_ERR_DIED);
    close(p.client.life_fd[0]);
    pair_close(&p);
}

/* A stopped peer is not a dead one: ticks, until the deadline. */
static void test_stopped_is_not_dead(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    pid_t child = child_that_waits();
    p.client.life_fd[0] = pidfd(child);
    p.client.slice_ns = 5 * MS;
    CHECK(kill(child, SIGSTOP) == 0 && waitpid(child, NULL, WUNTRACED) == child);
    int64_t deadline = fc_now() + 30 * MS, result = fc_send_recv(&p.client, 0, deadline);
    int ticks = 0;
    for (; result == FC_TICK; ticks++)
        result = fc_resume(&p.client, deadline);
    CHECK_EQ(result, FC_ERR_TIMEOUT);
    CHECK(ticks >= 1 && ticks <= 6);
    kill_and_reap(child);
    close(p.client.life_fd[0]);
    pair_close(&p);
}

static void on_signal(int number)
{
    (void)number;
}

/* A signal ends the sleep with FC_TICK at once, so that Python can look after it. */
static void test_signal_ends_a_sleep(void)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigaction(SIGUSR1, &action, &before);
    struct pair p;
    pair_connected(&p, FRUGAL);
    pid_t child = fork();
    if (child == 0) {
        p.client.slice_ns = 3600000 * MS;
        int64_t result = fc_send_recv(&p.client, 0, FC_NO_DEADLINE);
        CHECK_EQ(result, FC_TICK);
        CHECK_EQ(p.client.turn, FC_TURN_THEIRS);
        _exit(0);
    }
    until_parked(&p.client); /* the word is shared; the endpoint is a copy with the same bit */
    int status;
    while (waitpid(child, &status, WNOHANG) == 0) { /* the bit is set just before the sleep */
        kill(child, SIGUSR1);
        sched_yield();
    }
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    sigaction(SIGUSR1, &before, NULL);
    pair_close(&p);
}

/* Signals that come more often than slices end do not hide a death, nor do deadlines shorter than a slice. */
static void test_death_between_signals_and_deadlines(void)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigaction(SIGALRM, &action, &before);
    for (int signals = 0; signals < 2; signals++) {
        struct pair p;
        pair_connected(&p, FRUGAL);
        pid_t child = child_that_waits();
        p.client.life_fd[0] = pidfd(child);
        kill_and_reap(child);
        p.client.slice_ns = 20 * MS;
        struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
        int64_t end = fc_now() + 10000 * MS;
        if (signals)
            setitimer(ITIMER_REAL, &often, NULL);
        int64_t result = fc_send_recv(&p.client, 0, signals ? FC_NO_DEADLINE : fc_now() + MS);
        while (fc_now() < end && (result == FC_TICK || result == FC_ERR_TIMEOUT))
            result = fc_resume(&p.client, signals ? FC_NO_DEADLINE : fc_now() + MS);
        setitimer(ITIMER_REAL, &never, NULL);
        CHECK_EQ(result, FC_ERR_DIED);
        close(p.client.life_fd[0]);
        pair_close(&p);
    }
    sigaction(SIGALRM, &before, NULL);
}

static struct pair woken;
static _Atomic int enough;

static void *wake_all_the_time(void *argument)
{
    (void)argument;
    while (!atomic_load(&enough))
        fc_futex_wake(fc_word(&woken.client.packet->conn_state), 1);
    return NULL;
}

/* A peer that wakes without end cannot keep a wait from its deadline, nor from its ticks. */
static void test_wakes_without_end(void)
{
    pair_connected(&woken, FRUGAL);
    atomic_store(&enough, 0);
    pthread_t other = start(wake_all_the_time, NULL);
    woken.client.slice_ns = 10 * MS;
    CHECK_EQ(fc_send_recv(&woken.client, 0, FC_NO_DEADLINE), FC_TICK);
    int64_t deadline = fc_now() + 5 * MS, result;
    while ((result = fc_resume(&woken.client, deadline)) == FC_TICK)
        ;
    CHECK_EQ(result, FC_ERR_TIMEOUT);
    atomic_store(&enough, 1);
    finish(other);
    pair_close(&woken);
}

int main(void)
{
    RUN(test_death_during_wait);
    RUN(test_death_while_active);
    RUN(test_hang_up);
    RUN(test_answer_before_death);
    RUN(test_answer_and_death_at_the_end_of_a_slice);
    RUN(test_reclaim_from_the_dead);
    RUN(test_stopped_is_not_dead);
    RUN(test_signal_ends_a_sleep);
    RUN(test_death_between_signals_and_deadlines);
    RUN(test_wakes_without_end);
    return 0;
}
