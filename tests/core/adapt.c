/* adapt.c: the state machine of the adaptive policy, driven by scripted answers: no clock, no other thread. */
#include "check.h"

#define CONVERGED 100 /* calls, after a change of load */
#define QUICK 500     /* ns: within the burst */
#define WAKE_UP 25000 /* ns a sleep adds to the answer */

static const struct fc_policy ALWAYS = {50 * 1000, 0, 0}, SHARED = {50 * 1000, 1, 2}, ONE_CPU = {0, 0, 2};

/* One wait of the client whose peer takes `answer` ns, as fc_wait goes through it. Did it spin? */
static bool wait_for(struct fc_endpoint *ep, int64_t answer)
{
    if (answer <= QUICK && ep->burst) {
        ep->stats.spins_paid++;
        return true;
    }
    fc_place(ep);
    bool will = fc_will_spin(ep);
    int64_t budget = fc_spin_budget(ep, 0);
    CHECK_EQ(will, budget > 0);
    if (budget >= answer) {
        ep->stats.spins_paid++;
        fc_learn(ep, answer, true);
        return true;
    }
    if (budget > 0)
        fc_spin_lost(ep);
    fc_learn(ep, answer + WAKE_UP, false);
    return budget > 0;
}

/* Of `calls` waits, how many spun. */
static int spun(struct fc_endpoint *ep, int calls, int64_t answer)
{
    int n = 0;
    for (int i = 0; i < calls; i++)
        n += wait_for(ep, answer);
    return n;
}

/* The peer says that it runs where this side does, or elsewhere. */
static void put_peer(struct fc_endpoint *ep, bool together)
{
    uint32_t cpu = together ? ep->adapt.cpu : ep->adapt.cpu % FC_CPU_MAX + 1;
    uint32_t own = word(&ep->packet->sleepers) & ~(FC_CPU_FIELD << FC_CPU_SHIFT_SERVER);
    set_word(&ep->packet->sleepers, own | cpu << FC_CPU_SHIFT_SERVER);
}

/* So that sched_getcpu always says the same. */
static void stay(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    CHECK_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

/* From busy to slow and back, over and over, each within 100 calls, whatever went on before and however long. */
static void test_converges_both_ways(void)
{
    static const int64_t slow[] = {80000, 1000000, 1000000000};
    static const int before[] = {1, 10, 1000, 100000};
    struct pair p;
    pair_connected(&p, BALANCED);
    for (size_t s = 0; s < 3; s++)
        for (size_t quick = 0; quick <= 1; quick++)
            for (size_t n = 0; n < 4; n++) {
                int64_t answer = quick ? QUICK : 30000; /* within the burst, and within the budget */
                spun(&p.client, before[n], answer);
                spun(&p.client, CONVERGED, slow[s]);
                CHECK(spun(&p.client, 10 * FC_PROBE, slow[s]) <= 10); /* no more than the probes */
                spun(&p.client, before[n], slow[s]);
                spun(&p.client, CONVERGED, answer);
                CHECK_EQ(spun(&p.client, 1000, answer), 1000);
            }
    pair_close(&p);
}

/* While PARKING one wait in FC_PROBE spins; one that pays is believed at once. */
static void test_probes(void)
{
    struct pair p;
    pair_connected(&p, BALANCED);
    spun(&p.client, CONVERGED, 1000000);
    CHECK_EQ(spun(&p.client, 100 * FC_PROBE, 1000000), 100);
    while (!wait_for(&p.client, QUICK))
        ;
    CHECK_EQ(p.client.burst, FC_BURST);
    CHECK_EQ(spun(&p.client, 100, QUICK), 100);
    pair_close(&p);
}

/* A pause between two bursts of calls is one long answer: the next burst is spun for from its first call on. */
static void test_one_long_answer_changes_nothing(void)
{
    struct pair p;
    pair_connected(&p, BALANCED);
    for (int burst = 0; burst < 100; burst++) {
        CHECK_EQ(spun(&p.client, 10, 2000), 10);
        CHECK_EQ(wait_for(&p.client, 1000000000), true);
    }
    pair_close(&p);
}

/* Answers that mostly come just after the budget end the spinning, though their mean with the quick ones is short:
 * fewer than half of the spins pay. */
static void test_spins_that_do_not_pay(void)
{
    struct pair p;
    pair_connected(&p, BALANCED);
    p.client.policy.spin_ns = 200000; /* so that the wake-up keeps the mean below it */
    int n = 0;
    for (int i = 0; i < 1000; i++)
        n += wait_for(&p.client, i % 8 == 0 ? 3000 : 201000) && i >= CONVERGED;
    CHECK(n < 900 / 4);
    pair_close(&p);
}

/* An answer seen by a spin, but long after its budget: this side had lost its CPU. Such spins do not pay. */
static void test_losing_the_cpu_while_spinning(void)
{
    struct pair p;
    pair_connected(&p, BALANCED);
    for (int i = 0; i < 10; i++) {
        p.client.stats.spins_paid++;
        fc_learn(&p.client, 4000000, true);
    }
    CHECK_EQ(fc_will_spin(&p.client), false);
    CHECK_EQ(p.client.burst, 0);
    pair_close(&p);
}

/* Finding the answer there when the wait begins says nothing about the peer: it leaves the state as it was. */
static void test_answers_before_the_wait_teach_nothing(void)
{
    struct pair p;
    pair_connected(&p, BALANCED);
    spun(&p.client, CONVERGED, 1000000);
    int64_t mean = p.client.adapt.answer_ns;
    for (int i = 0; i < 1000; i++) {
        p.client.turn = p.server.turn = FC_TURN_THEIRS;
        set_word(&p.client.packet->conn_state, FC_CLIENT_ACTIVE);
        CHECK_EQ(fc_resume(&p.client, 0), 0);
    }
    CHECK_EQ(p.client.adapt.unspun < FC_PROBE, 1);
    fc_place(&p.client);
    CHECK_EQ(p.client.adapt.answer_ns, mean);
    pair_close(&p);
}

/* A policy that does not adapt spins for its budget however long the answers were. */
static void test_fixed_policy_always_spins(void)
{
    struct pair p;
    pair_connected(&p, ALWAYS);
    CHECK_EQ(spun(&p.client, 1000, 1000000), 1000);
    CHECK_EQ(fc_spin_budget(&p.client, 20000), 30000); /* what is left of it in a later slice */
    pair_close(&p);
}

/* No spin, no burst while the peer is on this CPU, under any policy; from the first call on after it has left. */
static void test_together(void)
{
    static const struct fc_policy *const policies[] = {&BALANCED, &ALWAYS};
    stay();
    for (size_t i = 0; i < 2; i++) {
        struct pair p;
        pair_connected(&p, *policies[i]);
        fc_place(&p.client);
        CHECK(p.client.adapt.cpu > 0);
        CHECK_EQ(word(&p.client.packet->sleepers) >> FC_CPU_SHIFT_CLIENT & FC_CPU_FIELD, p.client.adapt.cpu);
        CHECK_EQ(p.client.adapt.together, false); /* the peer has said nothing yet */
        for (int round = 0; round < 3; round++) {
            put_peer(&p.client, true);
            wait_for(&p.client, 6000);
            CHECK_EQ(p.client.burst, 0);
            CHECK_EQ(spun(&p.client, 10 * FC_PROBE, 6000), 0);
            put_peer(&p.client, false);
            CHECK_EQ(spun(&p.client, 100, 6000), 100);
        }
        pair_close(&p);
    }
}

/* The peer may write any CPU, and any bit, at any time: spin or not, nothing else comes of it. */
static void test_hostile_cpu_numbers(void)
{
    struct pair p;
    pair_connected(&p, SHARED);
    uint32_t x = 1;
    for (int i = 0; i < 100000; i++) {
        x = x * 1664525u + 1013904223u;
        set_word(&p.client.packet->sleepers, x);
        wait_for(&p.client, x % 100000);
        CHECK(p.client.adapt.cpu <= FC_CPU_MAX + 1);
        CHECK(p.client.burst == 0 || p.client.burst == FC_BURST);
    }
    set_word(&p.client.packet->sleepers, 0);
    spun(&p.client, CONVERGED, QUICK);
    CHECK_EQ(spun(&p.client, 100, QUICK), 100);
    pair_close(&p);
}

/* A peer without the extension, gVisor's, is told no CPU and believed none. */
static void test_without_the_extension(void)
{
    struct pair p;
    stay();
    pair_connected(&p, BALANCED);
    p.client.trust_sleepers = 0;
    set_word(&p.client.packet->sleepers, (uint32_t)(sched_getcpu() + 1) << FC_CPU_SHIFT_SERVER);
    uint32_t before = word(&p.client.packet->sleepers);
    CHECK_EQ(spun(&p.client, 100, 6000), 100);
    CHECK_EQ(word(&p.client.packet->sleepers), before);
    pair_close(&p);
}

/* Yields are for a peer on this CPU: known to be, or there is but one. */
static void test_yields_only_together(void)
{
    struct pair p;
    stay();
    pair_connected(&p, SHARED);
    fc_place(&p.client);
    CHECK_EQ(fc_yields(&p.client), 0);
    put_peer(&p.client, true);
    fc_place(&p.client);
    CHECK_EQ(fc_yields(&p.client), 2);
    put_peer(&p.client, false);
    fc_place(&p.client);
    CHECK_EQ(fc_yields(&p.client), 0);
    pair_close(&p);
    pair_connected(&p, ONE_CPU);
    fc_place(&p.client);
    CHECK_EQ(fc_yields(&p.client), 2);
    pair_close(&p);
}

/* A yield that gave the CPU to somebody else's slice is not repeated soon, and each time less soon. */
static void test_yields_rest_where_the_cpu_is_crowded(void)
{
    struct pair p;
    pair_connected(&p, ONE_CPU);
    fc_place(&p.client);
    int64_t waits = 1000000;
    int crowded = 0;
    for (int64_t i = 0; i < waits; i++)
        if (fc_yields(&p.client) > 0) {
            fc_yielded(&p.client, 4000000);
            crowded++;
        }
    CHECK(crowded >= 3 && crowded <= 20);
    while (fc_yields(&p.client) == 0)
        ;
    for (int i = 0; i < 1000; i++) { /* the other work has gone */
        fc_yielded(&p.client, 3000);
        CHECK_EQ(fc_yields(&p.client), 2);
    }
    fc_yielded(&p.client, 4000000);
    CHECK_EQ(p.client.adapt.rest, 1024); /* the shortest again */
    pair_close(&p);
}

int main(void)
{
    RUN(test_converges_both_ways);
    RUN(test_probes);
    RUN(test_one_long_answer_changes_nothing);
    RUN(test_spins_that_do_not_pay);
    RUN(test_losing_the_cpu_while_spinning);
    RUN(test_answers_before_the_wait_teach_nothing);
    RUN(test_fixed_policy_always_spins);
    RUN(test_together);
    RUN(test_hostile_cpu_numbers);
    RUN(test_without_the_extension);
    RUN(test_yields_only_together);
    RUN(test_yields_rest_where_the_cpu_is_crowded);
    return 0;
}
