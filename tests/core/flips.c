/* flips.c: no wake is lost, whatever mixture of spinning, yielding and parking meets. Built with the address and
 * undefined sanitizers by `make ctest`, and with the thread sanitizer by `make ctest-tsan`.
 *
 * The slice is set to an hour. So a lost wake is not rescued after 50 ms but hangs the test, and an answer cannot
 * fall on the end of a slice and be counted as a rescue that was none. */
#include "check.h"

#ifdef __SANITIZE_THREAD__
#define FLIPS 20000u
#else
#define FLIPS 100000u
#endif

struct player {
    struct fc_endpoint *ep;
    uint32_t flips;
    uint64_t seed;
    int pauses; /* let the other one go to sleep, at random */
};

static uint32_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*seed >> 33);
}

/* Spins for up to some microseconds, sometimes gives the CPU away, so that every point of the peer's ladder is met. */
static void pause_at_random(struct player *me)
{
    if (!me->pauses)
        return;
    uint32_t r = next(&me->seed);
    if (r % 16 == 0)
        sched_yield();
    for (uint32_t i = r % 1024; i; i--)
        __asm__ __volatile__("" ::: "memory");
}

/* Play: what is received must be what the other one sent, one after the other. */
static void *play(void *argument)
{
    struct player *me = argument;
    uint32_t *data = (uint32_t *)(me->ep->packet + 1), turn = me->ep->mine;
    int64_t n = turn == FC_CLIENT_ACTIVE ? 0 : fc_resume(me->ep, FC_NO_DEADLINE);
    for (uint32_t i = 0; i < me->flips; i++) {
        if (n < 0)
            return (void *)(intptr_t)n;
        if (i || turn == FC_SERVER_ACTIVE) {
            CHECK_EQ(n, 4 + i % 2);
            CHECK_EQ(data[0], turn == FC_CLIENT_ACTIVE ? ~(i - 1) : i);
        }
        data[0] = turn == FC_CLIENT_ACTIVE ? i : ~i;
        pause_at_random(me);
        if (turn == FC_SERVER_ACTIVE && i + 1 == me->flips)
            return (void *)(intptr_t)fc_send_last(me->ep, 4 + (i + 1) % 2);
        n = fc_send_recv(me->ep, 4 + (turn == FC_CLIENT_ACTIVE ? i % 2 : (i + 1) % 2), FC_NO_DEADLINE);
    }
    return (void *)(intptr_t)(n < 0 ? n : 0);
}

static void match(struct fc_policy a, struct fc_policy b, int pauses, int trust, uint32_t flips)
{
    struct pair p;
    pair_connected(&p, a);
    p.server.policy = b;
    p.client.trust_sleepers = p.server.trust_sleepers = (uint32_t)trust;
    p.client.slice_ns = p.server.slice_ns = 3600000 * MS;
    struct player client = {&p.client, flips, 1, pauses}, server = {&p.server, flips, 2, pauses};
    pthread_t other = start(play, &server);
    CHECK_EQ((intptr_t)play(&client), 0);
    CHECK_EQ(finish(other), 0);
    struct fc_endpoint *sides[2] = {&p.client, &p.server};
    for (int i = 0; i < 2; i++) {
        const struct fc_stats *s = &sides[i]->stats;
        CHECK_EQ(s->flips, flips);
        CHECK_EQ(s->wakes + s->swaps + s->wakes_skipped, s->flips);
        CHECK_EQ(s->rescues, 0);
        if (!trust)
            CHECK_EQ(s->wakes_skipped, 0);
    }
    CHECK_EQ(word(&p.client.packet->sleepers) & (FC_SLEEPS_CLIENT | FC_SLEEPS_SERVER), 0);
    pair_close(&p);
}

/* Both sides always sleep: each flip is a wake that must arrive. */
static void test_parking_meets_parking(void)
{
    match(FRUGAL, FRUGAL, 0, 1, check_rounds(FLIPS / 4));
    match(FRUGAL, FRUGAL, 1, 1, check_rounds(FLIPS / 4));
}

/* One CPU's policy: yield, then sleep. */
static void test_yielding_meets_parking(void)
{
    match(YIELDING, FRUGAL, 1, 1, check_rounds(FLIPS / 4));
    match(YIELDING, YIELDING, 1, 1, check_rounds(FLIPS / 4));
}

/* The giver looks at the bit while the waiter is anywhere between spinning and sleeping. */
static void test_spinning_meets_parking(void)
{
    const struct fc_policy brief = {2000, 0, 0};
    match(SPINNING, FRUGAL, 1, 1, check_rounds(FLIPS / 4));
    match(brief, FRUGAL, 1, 1, check_rounds(FLIPS / 4));
    match(brief, brief, 1, 1, check_rounds(FLIPS));
}

/* The default. */
static void test_adaptive_meets_adaptive(void)
{
    const struct fc_policy brief = {3000, 1, 0};
    match(BALANCED, BALANCED, 0, 1, check_rounds(FLIPS));
    match(brief, brief, 1, 1, check_rounds(FLIPS));
}

/* Without the extension every flip wakes. */
static void test_without_sleepers(void)
{
    match(SPINNING, SPINNING, 0, 0, check_rounds(FLIPS / 4));
    match(FRUGAL, FRUGAL, 0, 0, check_rounds(FLIPS / 8));
}

static struct pair ended;

static void *end_it(void *argument)
{
    for (uint32_t i = (uint32_t)(uintptr_t)argument; i; i--)
        __asm__ __volatile__("" ::: "memory");
    fc_shutdown(&ended.server);
    return NULL;
}

/* A shutdown from a third thread meets two sides that flip: both end, at whatever point it comes. */
static void test_shutdown_meets_flips(void)
{
    uint64_t seed = 7;
    for (int round = 0; round < 300; round++) {
        pair_connected(&ended, round % 2 ? BALANCED : FRUGAL);
        ended.client.slice_ns = ended.server.slice_ns = 3600000 * MS;
        struct player client = {&ended.client, UINT32_MAX, 1, 0}, server = {&ended.server, UINT32_MAX, 2, 0};
        pthread_t one = start(play, &client), two = start(play, &server);
        pthread_t three = start(end_it, (void *)(uintptr_t)(next(&seed) % 200000));
        CHECK_EQ(finish(one), FC_ERR_SHUTDOWN);
        CHECK_EQ(finish(two), FC_ERR_SHUTDOWN);
        finish(three);
        pair_close(&ended);
    }
}

int main(void)
{
    RUN(test_parking_meets_parking);
    RUN(test_yielding_meets_parking);
    RUN(test_spinning_meets_parking);
    RUN(test_adaptive_meets_adaptive);
    RUN(test_without_sleepers);
    RUN(test_shutdown_meets_flips);
    return 0;
}
