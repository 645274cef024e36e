/* policy.c: how long a wait spins, and that spinning keeps no promise from being kept. What it learns: adapt.c. */
#include "check.h"

/* Without a spin budget no wait spins. */
static void test_frugal_never_spins(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.client.slice_ns = MS;
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_TICK);
    CHECK_EQ(p.client.stats.spins_lost, 0);
    CHECK_EQ(p.client.stats.spins_paid, 0);
    CHECK_EQ(p.client.stats.parks, 1);
    pair_close(&p);
}

/* The slices of one long wait are one wait: it spins once, and is learned as long, though its last slice was short. */
static void test_ticks_do_not_spin_anew(void)
{
    struct pair p;
    pair_connected(&p, BALANCED);
    p.client.slice_ns = MS;
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_TICK);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), FC_TICK);
    CHECK_EQ(p.client.stats.spins_lost, 1);
    CHECK_EQ(p.client.stats.parks, 11);
    CHECK_EQ(fc_resume(&p.server, 0), 0);
    CHECK_EQ(fc_send(&p.server, 0), FC_OK);
    p.client.adapt.answer_ns = 0;
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), 0);
    CHECK_EQ(p.client.adapt.answer_ns, 3 * BALANCED.spin_ns / 4); /* the most one answer counts for */
    pair_close(&p);
}

/* A spin longer than a slice comes up for air at each: ticks, but no sleep, until its budget is used up. */
static void test_long_spin_comes_back_at_every_slice(void)
{
    const struct fc_policy policy = {5 * MS, 0, 0};
    struct pair p;
    pair_connected(&p, policy);
    p.client.slice_ns = 2 * MS;
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_TICK);
    CHECK_EQ(p.client.stats.parks, 0);
    while (p.client.stats.parks == 0)
        CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), FC_TICK);
    CHECK_EQ(p.client.stats.spins_lost <= 1, 1);
    pair_close(&p);
}

static struct pair first;

/* Spinners beyond the limit sleep instead; a forked child does not count its parent's. */
static void test_spinner_limit(void)
{
    struct pair p;
    pair_connected(&first, ENDLESS);
    first.server.slice_ns = 20 * MS; /* it may come second, and sleep: then it spins in its next slice */
    pthread_t spinner = start(wait_on, &first.server);
    pair_connected(&p, SPINNING);
    p.client.policy.spin_ns = 3 * MS;
    p.client.slice_ns = 2 * MS; /* a spin would come back before it slept */
    do { /* until the other one spins; between two tries it has a millisecond in which to begin */
        usleep(1000);
        p.client.turn = FC_TURN_MINE;
        set_word(&p.client.packet->conn_state, FC_CLIENT_ACTIVE);
        CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_TICK);
    } while (p.client.stats.parks == 0);
    pid_t child = fork();
    if (child == 0) {
        struct pair own;
        fc_forked();
        pair_connected(&own, SPINNING);
        own.client.policy.spin_ns = 3 * MS;
        own.client.slice_ns = 2 * MS;
        CHECK_EQ(fc_send_recv(&own.client, 0, FC_NO_DEADLINE), FC_TICK);
        CHECK_EQ(own.client.stats.parks, 0);
        pair_close(&own);
        _exit(0);
    }
    reap(child);
    CHECK_EQ(fc_send(&first.client, 4), FC_OK);
    CHECK_EQ(finish(spinner), 4);
    pair_close(&first);
    pair_close(&p);
}

int main(void)
{
    RUN(test_frugal_never_spins);
    RUN(test_ticks_do_not_spin_anew);
    RUN(test_long_spin_comes_back_at_every_slice);
    RUN(test_spinner_limit);
    return 0;
}
