/* swaptest.c: what FUTEX_SWAP promises, case by case, asked of the kernel itself. The operation's number is the
 * argument (14 without one). Exit status 0: all hold; 1: some do not; 77: this kernel has no such operation.
 *
 * Only for a kernel that is known to have FUTEX_SWAP at that number, or nothing: see proto/kernel/README.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

typedef _Atomic uint32_t word;

static int swap_op = 14;
static int failed, total;

#define CHECK(claim)                                                                   \
    do {                                                                               \
        int holds_ = (claim);                                                          \
        total++;                                                                       \
        failed += !holds_;                                                             \
        printf("%s %s: %s\n", holds_ ? "ok  " : "FAIL", __func__, #claim);             \
        fflush(stdout);                                                                \
    } while (0)

/* A page that parent and children share; words a cache line apart. */
static word *page;
#define A (&page[0])
#define B (&page[16])
#define WOKEN (&page[32])  /* waiters whose FUTEX_WAIT returned 0 */
#define READY (&page[48])  /* waiters that are about to wait */
#define CPU_SEEN (&page[64])

#define MS 1000000l

static long fx(word *at, int op, uint32_t value, const struct timespec *timeout, word *at2)
{
    long result = syscall(SYS_futex, at, op, value, timeout, at2, 0);
    return result < 0 ? -errno : result;
}

static long swap(word *at, uint32_t value, const struct timespec *timeout, word *at2)
{
    return fx(at, swap_op, value, timeout, at2);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void pause_ms(int n)
{
    struct timespec t = {n / 1000, n % 1000 * MS};
    while (nanosleep(&t, &t))
        ;
}

static const struct timespec T200MS = {0, 200 * MS}, T2S = {2, 0}, NONE = {0, 0}, IMPOSSIBLE = {0, 2000 * MS};

static void reset(void)
{
    memset((void *)page, 0, 4096);
}

/* Until `pid`, which has nothing else to sleep for, sleeps: 'S' in /proc. */
static void until_asleep(pid_t pid)
{
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (;;) {
        FILE *stat = fopen(path, "r");
        if (!stat || fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
            abort();
        fclose(stat);
        if (state == 'S')
            return;
        sched_yield();
    }
}

/* A child that waits at `at` while it is `value`, and counts itself in WOKEN. */
static pid_t waiter(word *at, int op, uint32_t value)
{
    uint32_t before = atomic_load(READY);
    pid_t child = fork();
    if (child == 0) {
        atomic_fetch_add(READY, 1);
        long result = fx(at, op, value, NULL, NULL);
        if (result == 0)
            atomic_fetch_add(WOKEN, 1);
        _exit(result != 0);
    }
    while (atomic_load(READY) == before)
        sched_yield();
    until_asleep(child);
    return child;
}

/* The child comes back by itself: it was woken. */
static int comes_back(pid_t child)
{
    for (int i = 0; i < 2000; i++) {
        int status;
        if (waitpid(child, &status, WNOHANG) == child)
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        pause_ms(1);
    }
    return 0;
}

static int ended(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void end(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void wake_is_done_whatever_becomes_of_the_wait(void)
{
    reset();
    CHECK(swap(A, 7, NULL, B) == -EAGAIN); /* the value differs, and there is nobody to wake */
    pid_t c = waiter(B, FUTEX_WAIT, 0);
    CHECK(swap(A, 7, NULL, B) == -EAGAIN && comes_back(c));
    c = waiter(B, FUTEX_WAIT, 0);
    CHECK(swap(A, 0, &T200MS, B) == -ETIMEDOUT && comes_back(c));
    c = waiter(B, FUTEX_WAIT, 0);
    CHECK(swap(A, 0, &NONE, B) == -ETIMEDOUT && comes_back(c));
    c = waiter(B, FUTEX_WAIT, 0);
    CHECK(swap((word *)8, 0, &T200MS, B) == -EFAULT && comes_back(c));
}

static void timeout_is_relative(void)
{
    reset();
    double start = now();
    CHECK(swap(A, 0, &T200MS, B) == -ETIMEDOUT); /* nobody waits at B: it waits all the same */
    CHECK(now() - start > .19);
    CHECK(swap(A, 0, &IMPOSSIBLE, B) == -EINVAL);
    CHECK(swap(A, 0, (struct timespec *)8, B) == -EFAULT);
    CHECK(fx(A, swap_op | FUTEX_CLOCK_REALTIME, 0, NULL, B) == -ENOSYS);
}

static void bad_second_word_neither_wakes_nor_waits(void)
{
    reset();
    CHECK(swap(A, 0, &T200MS, (word *)8) == -EFAULT);
    CHECK(swap(A, 0, &T200MS, (word *)((char *)B + 1)) == -EINVAL);
}

static void wakes_one_of_two(void)
{
    reset();
    pid_t c = waiter(B, FUTEX_WAIT, 0), d = waiter(B, FUTEX_WAIT, 0);
    CHECK(swap(A, 0, &T200MS, B) == -ETIMEDOUT);
    CHECK(atomic_load(WOKEN) == 1);
    end(c);
    end(d);
}

static void woken_by_the_one_it_woke(void)
{
    reset();
    pid_t c = fork();
    if (c == 0) {
        atomic_store(READY, 1);
        fx(B, FUTEX_WAIT, 0, NULL, NULL);
        atomic_store(A, 1);
        fx(A, FUTEX_WAKE, 1, NULL, NULL);
        _exit(0);
    }
    while (!atomic_load(READY))
        sched_yield();
    until_asleep(c);
    CHECK(swap(A, 0, NULL, B) == 0);
    CHECK(atomic_load(A) == 1 && ended(c) == 0);
}

static void one_word_for_both(void)
{
    reset();
    double start = now();
    CHECK(swap(A, 0, &T200MS, A) == -ETIMEDOUT); /* never wakes itself */
    CHECK(now() - start > .19);
    pid_t c = waiter(A, FUTEX_WAIT, 0);
    CHECK(swap(A, 0, &T200MS, A) == -ETIMEDOUT && comes_back(c));
    c = waiter(A, FUTEX_WAIT, 0);
    atomic_store(A, 1); /* control has been given: now the caller waits at another value */
    CHECK(swap(A, 1, &T200MS, A) == -ETIMEDOUT && comes_back(c));
}

static volatile sig_atomic_t hits;

static void handler(int signal)
{
    (void)signal;
    hits++;
}

static void handle(int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    hits = 0;
}

/* A child that sends SIGUSR1 once the caller sleeps. */
static pid_t alarm_when_asleep(void)
{
    pid_t me = getpid(), child = fork();
    if (child == 0) {
        pause_ms(100);
        until_asleep(me);
        kill(me, SIGUSR1);
        _exit(0);
    }
    return child;
}

static void signal_ends_it(void)
{
    const struct timespec *timeouts[] = {NULL, &T2S, &T2S};
    int flags[] = {0, 0, SA_RESTART};
    for (int i = 0; i < 3; i++) {
        reset();
        handle(flags[i]);
        pid_t c = waiter(B, FUTEX_WAIT, 0), a = alarm_when_asleep();
        CHECK(swap(A, 0, timeouts[i], B) == -EINTR);
        CHECK(hits == 1 && comes_back(c));
        ended(a);
    }
}

static void without_a_timeout_sa_restart_runs_it_again(void)
{
    reset();
    handle(SA_RESTART);
    pid_t c = fork();
    if (c == 0) {
        atomic_store(READY, 1);
        long result = swap(A, 0, NULL, B);
        _exit(!(result == 0 && hits == 1));
    }
    while (!atomic_load(READY))
        sched_yield();
    until_asleep(c);
    kill(c, SIGUSR1);
    pause_ms(100);
    CHECK(waitpid(c, NULL, WNOHANG) == 0);
    until_asleep(c);
    atomic_store(A, 1);
    CHECK(fx(A, FUTEX_WAKE, 9, NULL, NULL) == 1);
    CHECK(ended(c) == 0);
}

static void stopped_and_continued_with_a_timeout_does_not_wake_again(void)
{
    reset();
    pid_t c = fork();
    if (c == 0) {
        struct timespec second = {1, 0};
        atomic_store(READY, 1);
        _exit((int)-swap(A, 0, &second, B));
    }
    while (!atomic_load(READY))
        sched_yield();
    until_asleep(c);
    pid_t d = waiter(B, FUTEX_WAIT, 0);
    kill(c, SIGSTOP);
    pause_ms(50);
    kill(c, SIGCONT);
    CHECK(ended(c) == ETIMEDOUT && atomic_load(WOKEN) == 0);
    end(d);
}

static word private_a, private_b, private_woken, private_tid;

static void *private_waiter(void *unused)
{
    atomic_store(&private_tid, (uint32_t)gettid());
    if (fx(&private_b, FUTEX_WAIT_PRIVATE, 0, NULL, NULL) == 0)
        atomic_fetch_add(&private_woken, 1);
    return unused;
}

static void private_flag(void)
{
    pthread_t thread;
    reset();
    pthread_create(&thread, NULL, private_waiter, NULL);
    while (!atomic_load(&private_tid))
        sched_yield();
    until_asleep((pid_t)atomic_load(&private_tid));
    CHECK(fx(&private_a, swap_op | FUTEX_PRIVATE_FLAG, 0, &T200MS, &private_b) == -ETIMEDOUT);
    pthread_join(thread, NULL);
    CHECK(atomic_load(&private_woken) == 1);
    pid_t c = waiter(B, FUTEX_WAIT, 0);
    CHECK(fx(A, swap_op | FUTEX_PRIVATE_FLAG, 0, &T200MS, B) == -ETIMEDOUT); /* another queue: not woken */
    CHECK(atomic_load(WOKEN) == 0);
    end(c);
}

/* Both may run on both CPUs; the wakee slept on CPU 1, the waker is on CPU 0. */
static void wakee_runs_where_the_waker_was(void)
{
    enum { ROUNDS = 200 };
    int same = 0;
    cpu_set_t zero, one, both;
    CPU_ZERO(&zero);
    CPU_SET(0, &zero);
    CPU_ZERO(&one);
    CPU_SET(1, &one);
    CPU_OR(&both, &zero, &one);
    for (int i = 0; i < ROUNDS; i++) {
        reset();
        pid_t c = fork();
        if (c == 0) {
            sched_setaffinity(0, sizeof one, &one);
            sched_setaffinity(0, sizeof both, &both);
            atomic_store(READY, 1);
            while (!atomic_load(B))
                fx(B, FUTEX_WAIT, 0, NULL, NULL);
            atomic_store(CPU_SEEN, 1 + (uint32_t)sched_getcpu());
            atomic_store(A, 1);
            fx(A, FUTEX_WAKE, 1, NULL, NULL);
            _exit(0);
        }
        sched_setaffinity(0, sizeof zero, &zero);
        while (!atomic_load(READY))
            sched_yield();
        until_asleep(c);
        atomic_store(B, 1);
        while (!atomic_load(A))
            swap(A, 0, &T2S, B);
        same += atomic_load(CPU_SEEN) == 1;
        ended(c);
    }
    printf("     %d of %d\n", same, ROUNDS);
    /* The scheduler may move the wakee before it has looked where it is, the more so on a busy host: the share that
     * is asked of the switch, 99 % of many flips, is measured by tests/switch/guest/placement.c. */
    CHECK(same >= ROUNDS * 9 / 10);
    sched_setaffinity(0, sizeof both, &both);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        swap_op = atoi(argv[1]);
    if (swap_op < 14 || swap_op > 127) {
        fprintf(stderr, "swaptest: operation %d is not asked for: 13 may be FUTEX_LOCK_PI2\n", swap_op);
        return 2;
    }
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return 1;
    if (swap(A, 7, &IMPOSSIBLE, B) == -ENOSYS) {
        printf("no FUTEX_SWAP at %d here\n", swap_op);
        return 77;
    }
    wake_is_done_whatever_becomes_of_the_wait();
    timeout_is_relative();
    bad_second_word_neither_wakes_nor_waits();
    wakes_one_of_two();
    woken_by_the_one_it_woke();
    one_word_for_both();
    signal_ends_it();
    without_a_timeout_sa_restart_runs_it_again();
    stopped_and_continued_with_a_timeout_does_not_wake_again();
    private_flag();
    if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
        wakee_runs_where_the_waker_was();
    printf("%d of %d hold\n", total - failed, total);
    return failed != 0;
}
