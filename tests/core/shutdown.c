/* shutdown.c: the end of a connection, by either side, at every moment, from another thread. */
#include "check.h"

static const struct fc_policy *const POLICIES[] = {&FRUGAL, &ENDLESS};

/* This side's own shutdown ends its wait, parked or spinning for an hour. */
static void test_shutdown_during_wait_local(void)
{
    for (int i = 0; i < 2; i++) {
        struct pair p;
        pair_connected(&p, *POLICIES[i]);
        p.server.slice_ns = 3600000 * MS;
        pthread_t server = start(wait_on, &p.server);
        if (i == 0)
            until_parked(&p.server);
        else
            until_inside(&p.server);
        fc_shutdown(&p.server);
        CHECK_EQ(finish(server), FC_ERR_SHUTDOWN);
        CHECK_EQ(p.server.turn, FC_TURN_OVER);
        CHECK_EQ(fc_send_recv(&p.client, 0, 0), FC_ERR_SHUTDOWN);
        pair_close(&p);
    }
}

/* The peer's shutdown does, too. */
static void test_shutdown_during_wait_remote(void)
{
    for (int i = 0; i < 2; i++) {
        struct pair p;
        pair_connected(&p, *POLICIES[i]);
        p.server.slice_ns = 3600000 * MS;
        pthread_t server = start(wait_on, &p.server);
        if (i == 0)
            until_parked(&p.server);
        else
            until_inside(&p.server);
        fc_shutdown(&p.client);
        CHECK_EQ(finish(server), FC_ERR_SHUTDOWN);
        pair_close(&p);
    }
}

/* An active side finds out when it gives control away: what it wrote was not delivered. */
static void test_shutdown_while_active(void)
{
    for (int remote = 0; remote < 2; remote++) {
        struct pair p;
        pair_connected(&p, FRUGAL);
        fc_shutdown(remote ? &p.server : &p.client);
        fc_shutdown(remote ? &p.server : &p.client); /* idempotent */
        CHECK_EQ(fc_send_recv(&p.client, 4, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
        CHECK_EQ(fc_send_recv(&p.client, 4, FC_NO_DEADLINE), FC_ERR_TURN);
        CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
        pair_close(&p);
    }
}

/* Before anything was sent. */
static void test_shutdown_before_connect(void)
{
    for (int remote = 0; remote < 2; remote++) {
        struct pair p;
        pair_open(&p, FRUGAL);
        fc_shutdown(remote ? &p.server : &p.client);
        CHECK_EQ(fc_connect(&p.client, 2, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
        CHECK_EQ(fc_first(&p.server, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
        pair_close(&p);
    }
}

/* A datagram that was given before the shutdown is received by a side that looks only afterwards; the end comes next. */
static void test_shutdown_does_not_take_back_what_was_given(void)
{
    for (int idempotent = 0; idempotent < 2; idempotent++) {
        struct pair p;
        pair_connected(&p, FRUGAL);
        CHECK_EQ(fc_send_last(&p.client, 9), FC_OK);
        fc_shutdown(&p.client);
        if (idempotent)
            fc_shutdown(&p.client);
        CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 9);
        CHECK_EQ(p.server.turn, FC_TURN_MINE);
        CHECK_EQ(fc_send_recv(&p.server, 0, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
        CHECK_EQ(p.server.turn, FC_TURN_OVER);
        pair_close(&p);
    }
}

/* But one's own words are never taken for an answer, however often the peer shuts down. */
static void test_shutdown_is_no_answer(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_send(&p.client, 9), FC_OK);
    fc_shutdown(&p.server);
    fc_shutdown(&p.server);
    CHECK_EQ(fc_retire(&p.server), 1);
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
    pair_close(&p);
}

/* Without the extension the word alone counts, as gVisor has it. */
static void test_shutdown_without_extensions(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.client.trust_sleepers = p.server.trust_sleepers = 0;
    CHECK_EQ(fc_send_last(&p.client, 9), FC_OK);
    fc_shutdown(&p.client);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
    pair_close(&p);
}

/* Retiring succeeds only while the peer is active, and then ends this side's wait. */
static void test_retire(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_retire(&p.client), 0); /* it is active itself */
    CHECK_EQ(fc_send(&p.client, 1), FC_OK);
    CHECK_EQ(fc_retire(&p.server), 0); /* a request is on its way */
    CHECK_EQ(fc_resume(&p.server, 0), 1);
    CHECK_EQ(fc_retire(&p.server), 0); /* it is being served */
    CHECK_EQ(word(&p.server.packet->sleepers), 0);
    CHECK_EQ(fc_send(&p.server, 2), FC_OK);
    CHECK_EQ(fc_retire(&p.server), 1);
    CHECK_EQ(fc_retire(&p.server), 1);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), 2); /* the answer, though the server has retired since */
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
    pair_close(&p);
}

/* However a server that retires and a client that waits for its answer meet: every answer given is received. */
static void test_retire_loses_no_answer(void)
{
    for (uint32_t round = 0; round < check_rounds(3000); round++) {
        struct pair p;
        pair_connected(&p, round % 2 ? FRUGAL : SPINNING);
        CHECK_EQ(fc_send(&p.client, 1), FC_OK);
        pthread_t client = start(wait_on, &p.client);
        if (round % 3 == 0)
            until_parked(&p.client);
        CHECK_EQ(fc_resume(&p.server, 0), 1);
        CHECK_EQ(fc_send(&p.server, 5), FC_OK);
        CHECK_EQ(fc_retire(&p.server), 1);
        CHECK_EQ(finish(client), 5);
        pair_close(&p);
    }
}

static struct pair flipping;
static uint64_t answers; /* received by the client */

static void *ask_for_ever(void *argument)
{
    uint32_t *data = (uint32_t *)(flipping.client.packet + 1);
    int64_t n = 1;
    (void)argument;
    for (answers = 0;; answers++) {
        data[0] = (uint32_t)answers;
        n = fc_send_recv(&flipping.client, 1, FC_NO_DEADLINE);
        if (n < 0)
            break;
        CHECK_EQ(n, 2);
        CHECK_EQ(data[0], ~(uint32_t)answers);
    }
    return (void *)(intptr_t)n;
}

static void *answer_for_ever(void *argument)
{
    uint32_t *data = (uint32_t *)(flipping.server.packet + 1);
    int64_t n = fc_resume(&flipping.server, FC_NO_DEADLINE);
    (void)argument;
    while (n >= 0) {
        CHECK_EQ(n, 1);
        data[0] = ~data[0];
        n = fc_send_recv(&flipping.server, 2, FC_NO_DEADLINE);
    }
    return (void *)(intptr_t)n;
}

static void *retire_server(void *argument)
{
    (void)argument;
    while (!fc_retire(&flipping.server))
        ;
    return NULL;
}

/* A connection that flips is ended at once, or by two threads, one of which waits for the end of a request. However
 * they meet: every answer given is received, and no client takes its own request for one. */
static void test_end_meets_flips(void)
{
    for (int round = 0; round < 200; round++) {
        pair_connected(&flipping, round % 2 ? FRUGAL : SPINNING);
        flipping.client.slice_ns = flipping.server.slice_ns = 3600000 * MS;
        pthread_t client = start(ask_for_ever, NULL), server = start(answer_for_ever, NULL);
        while (atomic_load(&flipping.server.busy) == 0 || __atomic_load_n(&flipping.server.stats.flips, __ATOMIC_RELAXED) < 20)
            sched_yield();
        bool both = round % 4 < 2;
        pthread_t retire = both ? start(retire_server, NULL) : 0;
        for (int i = round * 50; i; i--)
            __asm__ __volatile__("" ::: "memory");
        fc_shutdown(&flipping.server);
        if (both)
            finish(retire);
        CHECK_EQ(finish(client), FC_ERR_SHUTDOWN);
        CHECK_EQ(finish(server), FC_ERR_SHUTDOWN);
        CHECK_EQ(answers, flipping.server.stats.flips);
        pair_close(&flipping);
    }
}

/* Condemning ends a wait with DIED; the first reason given is the one that stays. */
static void test_condemn(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.server.slice_ns = 3600000 * MS;
    pthread_t server = start(wait_on, &p.server);
    until_parked(&p.server);
    fc_condemn(&p.server);
    fc_shutdown(&p.server);
    CHECK_EQ(finish(server), FC_ERR_DIED);
    pair_close(&p);
}

/* A peer that writes its state back over a shutdown delays it by a slice and no more. */
static void test_shutdown_over_a_peer_that_undoes_it(void)
{
    for (int i = 0; i < 2; i++) {
        struct pair p;
        pair_connected(&p, *POLICIES[i]);
        pthread_t server = start(wait_on, &p.server);
        until_inside(&p.server);
        atomic_store(&p.server.stop, -FC_ERR_SHUTDOWN); /* as if the word had been written back at once */
        CHECK_EQ(finish(server), FC_ERR_SHUTDOWN);
        pair_close(&p);
    }
}

/* A sealed endpoint lets nobody in, and a seal can be asked for again. */
static void test_seal(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_seal(&p.client), FC_OK);
    CHECK_EQ(fc_seal(&p.client), FC_OK);
    CHECK_EQ(fc_send_recv(&p.client, 0, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_seal(&p.client), FC_OK);
    pair_close(&p);
}

/* In a forked child nothing works, nothing waits, and the parent's connection is left alone. */
static void test_forked_child(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    pthread_t server = start(wait_on, &p.server);
    until_parked(&p.server);
    pid_t child = fork();
    if (child == 0) {
        fc_forked();
        CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_ERR_FORKED);
        CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_ERR_FORKED); /* though its thread was inside */
        fc_shutdown(&p.client);
        fc_condemn(&p.client);
        CHECK_EQ(fc_retire(&p.server), 0);
        CHECK_EQ(fc_seal(&p.server), FC_OK);
        _exit(0);
    }
    reap(child);
    CHECK_EQ(fc_send(&p.client, 6), FC_OK);
    CHECK_EQ(finish(server), 6);
    pair_close(&p);
}

int main(void)
{
    RUN(test_shutdown_during_wait_local);
    RUN(test_shutdown_during_wait_remote);
    RUN(test_shutdown_while_active);
    RUN(test_shutdown_before_connect);
    RUN(test_shutdown_does_not_take_back_what_was_given);
    RUN(test_shutdown_is_no_answer);
    RUN(test_shutdown_without_extensions);
    RUN(test_retire);
    RUN(test_retire_loses_no_answer);
    RUN(test_end_meets_flips);
    RUN(test_condemn);
    RUN(test_shutdown_over_a_peer_that_undoes_it);
    RUN(test_seal);
    RUN(test_forked_child);
    return 0;
}
