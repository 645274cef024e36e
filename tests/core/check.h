/* check.h: what the tests of the C core share: a checked claim, a window with both sides, somebody to wait for. */
#ifndef FLIPCALL_TESTS_CHECK_H
#define FLIPCALL_TESTS_CHECK_H

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "endpoint.h"

#define CHECK(claim)                                                                       \
    do {                                                                                   \
        if (!(claim)) {                                                                    \
            fprintf(stderr, "%s:%d: %s: not so: %s\n", __FILE__, __LINE__, __func__, #claim); \
            _exit(1);                                                                      \
        }                                                                                  \
    } while (0)

#define CHECK_EQ(got, want)                                                                            \
    do {                                                                                               \
        long long got_ = (long long)(got), want_ = (long long)(want);                                  \
        if (got_ != want_) {                                                                           \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %lld\n", __FILE__, __LINE__, __func__, #got, got_, want_); \
            _exit(1);                                                                                  \
        }                                                                                              \
    } while (0)

/* How many times slower than usual this machine is: FLIPCALL_TEST_SLOW, for emulators. */
static inline unsigned check_slow(void)
{
    const char *times = getenv("FLIPCALL_TEST_SLOW");
    return times && atoi(times) > 1 ? (unsigned)atoi(times) : 1;
}

/* As many of `rounds` random encounters as a slow machine has time for. */
static inline uint32_t check_rounds(uint32_t rounds)
{
    return rounds / check_slow();
}

/* Whether a forked child can start threads while its parent has some. Every kernel's can; the child of qemu-user (7.2)
 * aborts, its fork leaves the parent's processors in its tables. Asked only of what calls itself an emulator
 * (FLIPCALL_TEST_EMULATOR), so that no machine skips by mistake. */
static inline void *check_nothing(void *argument)
{
    return argument;
}

static inline bool check_child_threads(void)
{
    pthread_t thread;
    int status;
    if (!getenv("FLIPCALL_TEST_EMULATOR"))
        return true;
    pid_t child = fork();
    if (child == 0) {
        int quiet = open("/dev/null", O_WRONLY);
        dup2(quiet, STDERR_FILENO);
        dup2(quiet, STDOUT_FILENO);
        _exit(pthread_create(&thread, NULL, check_nothing, NULL) || pthread_join(thread, NULL));
    }
    CHECK(waitpid(child, &status, 0) == child);
    return status == 0;
}

/* Says that a part of a test is left out, and why. */
#define SKIPPED(why) printf("    skipped: %s\n", why)

/* Runs one test and says so; a test that hangs is ended by SIGALRM, its name being the last line printed. */
#define RUN(test)                  \
    do {                           \
        printf("  %s\n", #test);   \
        fflush(stdout);            \
        alarm(50 * check_slow());  \
        test();                    \
    } while (0)

#define WINDOW 8192u
#define MS 1000000ll

static const struct fc_policy FRUGAL = {0, 0, 0}, YIELDING = {0, 0, 3}, SPINNING = {200 * 1000, 0, 0},
                              BALANCED = {50 * 1000, 1, 0}, ENDLESS = {3600ll * 1000 * MS, 0, 0};

struct pair {
    struct fc_endpoint client, server;
    uint32_t length;
    int fd;
};

/* The switch to test with: FLIPCALL_TEST_SWITCH, or the futex. "swap" is for kernels that are known to have it, at
 * FLIPCALL_FUTEX_SWAP or at 14: nothing is probed here (flipcall/kernel.py is who does). */
static inline enum fc_switch_id check_switch(void)
{
    const char *name = getenv("FLIPCALL_TEST_SWITCH");
    CHECK(!name || !strcmp(name, "futex") || !strcmp(name, "swap"));
    return name && !strcmp(name, "swap") ? FC_SWITCH_SWAP : FC_SWITCH_FUTEX;
}

static inline uint32_t check_swap_number(void)
{
    const char *number = getenv("FLIPCALL_FUTEX_SWAP");
    return number && *number ? (uint32_t)atoi(number) : 14;
}

/* One memfd, mapped once for each side, as two processes would have it. */
static inline void pair_open(struct pair *p, struct fc_policy policy)
{
    p->length = WINDOW;
    p->fd = memfd_create("check", MFD_CLOEXEC);
    CHECK(p->fd >= 0 && ftruncate(p->fd, p->length) == 0);
    struct fc_endpoint *sides[2] = {&p->client, &p->server};
    for (uint32_t side = 0; side < 2; side++) {
        void *at = mmap(NULL, p->length, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
        CHECK(at != MAP_FAILED);
        CHECK_EQ(fc_init(sides[side], at, p->length, side, policy), FC_OK);
        if (check_switch() == FC_SWITCH_SWAP)
            CHECK_EQ(fc_set_swap(check_swap_number()), FC_OK);
        CHECK_EQ(fc_use_switch(sides[side], check_switch()), FC_OK);
    }
}

/* As after connect(): the client is active, both sides keep their sleepers bits. */
static inline void pair_connected(struct pair *p, struct fc_policy policy)
{
    pair_open(p, policy);
    p->client.turn = FC_TURN_MINE;
    p->server.turn = FC_TURN_THEIRS;
    p->client.trust_sleepers = p->server.trust_sleepers = 1;
}

static inline void pair_close(struct pair *p)
{
    munmap(p->client.packet, p->length);
    munmap(p->server.packet, p->length);
    close(p->fd);
}

static inline uint32_t word(uint32_t *at)
{
    return atomic_load(fc_word(at));
}

static inline void set_word(uint32_t *at, uint32_t value)
{
    atomic_store(fc_word(at), value);
}

/* Until this side has said that it sleeps; alarm() bounds it. */
static inline void until_parked(struct fc_endpoint *ep)
{
    while (!(word(&ep->packet->sleepers) & ep->my_bit))
        sched_yield();
}

/* Until this side is inside and waits for the peer. */
static inline void until_inside(struct fc_endpoint *ep)
{
    while (!atomic_load(&ep->busy))
        sched_yield();
}

static inline pthread_t start(void *(*run)(void *), void *argument)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, run, argument) == 0);
    return thread;
}

static inline int64_t finish(pthread_t thread)
{
    void *result;
    CHECK(pthread_join(thread, &result) == 0);
    return (int64_t)(intptr_t)result;
}

/* A thread that waits over all ticks; its result is the length or the error. */
static inline void *wait_on(void *argument)
{
    struct fc_endpoint *ep = argument;
    int64_t result;
    do
        result = fc_resume(ep, FC_NO_DEADLINE);
    while (result == FC_TICK);
    return (void *)(intptr_t)result;
}

static inline void reap(pid_t child)
{
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
