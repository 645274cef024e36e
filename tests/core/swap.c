/* swap.c: a wake that is put off is paid, on every way out of a wait; and the swap switch itself.
 *
 * The first half runs on every kernel, with a switch that only counts. The second half asks the kernel for swaps, and
 * only where that is known to be safe: FLIPCALL_TEST_SWITCH=swap (check.h), as `make test-swap` does in its guest. */
#include "check.h"

#include <errno.h>

static struct {
    uint32_t parks, wakes, swaps;
    int answer; /* what swap returns */
} counted;

static int count_park(struct fc_endpoint *ep, int64_t until)
{
    counted.parks++;
    return -ETIMEDOUT;
}

static int count_wake(struct fc_endpoint *ep)
{
    counted.wakes++;
    return 0;
}

static int count_swap(struct fc_endpoint *ep, int64_t until)
{
    counted.swaps++;
    return counted.answer;
}

static void count_close(struct fc_endpoint *ep)
{
}

static const struct fc_switch COUNTING = {"counting", count_park, count_wake, count_swap, count_close, true};

/* A connected pair whose client swaps by counting, and whose server is said to sleep. */
static void owing_pair(struct pair *p, struct fc_policy policy)
{
    pair_connected(p, policy);
    p->client.how = &COUNTING;
    p->client.slice_ns = MS;
    set_word(&p->server.packet->sleepers, FC_SLEEPS_SERVER);
    counted.parks = counted.wakes = counted.swaps = 0;
    counted.answer = -ETIMEDOUT;
}

static void check_paid(struct pair *p, uint32_t swaps, uint32_t wakes)
{
    CHECK_EQ(p->client.owed, 0);
    CHECK_EQ(counted.swaps, swaps);
    CHECK_EQ(counted.wakes, wakes);
    CHECK_EQ(p->client.stats.swaps, swaps);
    CHECK_EQ(p->client.stats.wakes, wakes);
}

/* A deadline that has passed before the first sleep: the swap is made all the same, and wakes. */
static void test_deadline_already_passed(void)
{
    const int64_t deadlines[] = {-1, 0, 1, fc_now()};
    for (int i = 0; i < 4; i++) {
        struct pair p;
        owing_pair(&p, FRUGAL);
        CHECK_EQ(fc_send_recv(&p.client, 0, deadlines[i]), FC_ERR_TIMEOUT);
        check_paid(&p, 1, 0);
        pair_close(&p);
    }
}

/* The same in a call whose timeout is nothing. */
static void test_call_without_time(void)
{
    struct pair p;
    owing_pair(&p, FRUGAL);
    CHECK_EQ(fc_call(&p.client, 0, "", 0), FC_ERR_TIMEOUT);
    check_paid(&p, 1, 0);
    pair_close(&p);
}

/* Stopped, with the state put back by a hostile peer: there is no sleep, hence no swap, but a wake. */
static void test_stopped_before_the_sleep(void)
{
    struct pair p;
    owing_pair(&p, FRUGAL);
    atomic_store(&p.client.stop, (uint32_t)-FC_ERR_SHUTDOWN);
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_ERR_SHUTDOWN);
    check_paid(&p, 0, 1);
    pair_close(&p);
}

/* Whatever the swap answers, it is not made twice: the next slice of the same wait parks. */
static void test_one_swap_for_one_wake(void)
{
    const int answers[] = {-ETIMEDOUT, -EINTR, 0, -EAGAIN};
    for (int i = 0; i < 4; i++) {
        struct pair p;
        owing_pair(&p, FRUGAL);
        counted.answer = answers[i];
        CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_TICK);
        check_paid(&p, 1, 0);
        CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), FC_TICK);
        check_paid(&p, 1, 0);
        CHECK(counted.parks >= 1);
        pair_close(&p);
    }
}

/* A swap that the kernel refuses breaks the connection, for both. */
static void test_refused_swap(void)
{
    struct pair p;
    owing_pair(&p, FRUGAL);
    counted.answer = -ENOSYS;
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_ERR_OS);
    CHECK_EQ(p.client.fault_value, ENOSYS);
    CHECK_EQ(p.client.turn, FC_TURN_OVER);
    CHECK_EQ(p.client.owed, 0);
    CHECK_EQ(word(&p.client.packet->conn_state), FC_SHUTDOWN_SERVER_TURN);
    pair_close(&p);
}

/* A wake is put off only by who sleeps next: not by who goes on without waiting, nor by who spins first. */
static void test_wake_at_once(void)
{
    struct pair p;
    owing_pair(&p, FRUGAL);
    CHECK_EQ(fc_send(&p.client, 0), FC_OK);
    check_paid(&p, 0, 1);
    pair_close(&p);
    owing_pair(&p, SPINNING);
    CHECK_EQ(fc_send_recv(&p.client, 0, fc_now() + MS), FC_ERR_TIMEOUT);
    check_paid(&p, 0, 1);
    pair_close(&p);
    owing_pair(&p, FRUGAL);
    set_word(&p.server.packet->sleepers, 0);
    CHECK_EQ(fc_send_recv(&p.client, 0, 0), FC_ERR_TIMEOUT);
    check_paid(&p, 0, 0);
    pair_close(&p);
}

/* A peer whose bit means nothing is always woken; yielding waits until it has been. */
static void test_untrusted_and_yielding(void)
{
    struct pair p;
    owing_pair(&p, YIELDING);
    p.client.trust_sleepers = 0;
    set_word(&p.server.packet->sleepers, 0);
    CHECK_EQ(fc_send_recv(&p.client, 0, 0), FC_ERR_TIMEOUT);
    check_paid(&p, 1, 0);
    pair_close(&p);
}

/* PARKING, waits that begin with a swap count towards the next probing spin, which is not put off for ever. */
static void test_parking_probes_between_swaps(void)
{
    struct pair p;
    owing_pair(&p, BALANCED);
    for (int i = 0; i < 100; i++) {
        p.client.adapt.answer_ns = 10 * BALANCED.spin_ns;
        p.client.turn = FC_TURN_MINE;
        set_word(&p.client.packet->conn_state, FC_CLIENT_ACTIVE);
        CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_TICK);
        CHECK_EQ(p.client.owed, 0);
    }
    CHECK_EQ(counted.swaps + counted.wakes, 100);
    CHECK_EQ(counted.wakes, 3); /* one wait in 32 */
    pair_close(&p);
}

#define RACES 20000

/* Answers at once, and says that it sleeps, always: its answer meets the client's swap at every instruction. */
static void *answer_at_once(void *argument)
{
    struct fc_endpoint *ep = argument;
    for (int i = 0; i < RACES; i++) {
        while (word(&ep->packet->conn_state) != FC_SERVER_ACTIVE)
            if (i % 16 == 0)
                sched_yield();
        set_word(&ep->packet->conn_state, FC_CLIENT_ACTIVE);
    }
    return NULL;
}

/* An answer that comes between giving and sleeping: the wake is paid all the same, once for each flip. */
static void test_answer_before_the_sleep(void)
{
    struct pair p;
    owing_pair(&p, FRUGAL);
    counted.answer = -EAGAIN;
    pthread_t server = start(answer_at_once, &p.server);
    for (int i = 0; i < RACES; i++) {
        int64_t n = fc_send_recv(&p.client, 0, FC_NO_DEADLINE);
        while (n == FC_TICK)
            n = fc_resume(&p.client, FC_NO_DEADLINE);
        CHECK_EQ(n, 0);
        CHECK_EQ(p.client.owed, 0);
    }
    finish(server);
    CHECK_EQ(counted.swaps + counted.wakes, RACES);
    printf("    %u paid by swap, %u by wake\n", counted.swaps, counted.wakes);
    pair_close(&p);
}

/* ---- the switch itself ---------------------------------------------------------------------------------- */

/* As after giving: the server, parked for an hour unless it is woken, is active; the client may sleep. */
static pthread_t given(struct pair *p)
{
    pair_connected(p, FRUGAL);
    p->server.slice_ns = 3600000 * MS;
    CHECK_EQ(fc_use_switch(&p->client, FC_SWITCH_SWAP), FC_OK);
    pthread_t server = start(wait_on, &p->server);
    until_parked(&p->server);
    set_word(&p->client.packet->conn_state, FC_SERVER_ACTIVE);
    return server;
}

/* No number, no operation: the kernel is not asked for one, and the peer wakes. */
static void test_no_number(void)
{
    struct pair p;
    pthread_t server = given(&p);
    CHECK_EQ(fc_set_swap(0), FC_OK);
    CHECK_EQ(fc_switch_swap.swap(&p.client, fc_now() + 1000 * MS), -ENOSYS);
    CHECK_EQ(finish(server), 0);
    CHECK_EQ(fc_set_swap(FC_SWAP_MIN - 1), FC_ERR_SIZE);
    CHECK_EQ(fc_set_swap(FC_SWAP_MAX + 1), FC_ERR_SIZE);
    pair_close(&p);
}

/* No time left: no sleep, and the peer wakes. */
static void test_no_time(void)
{
    struct pair p;
    pthread_t server = given(&p);
    CHECK_EQ(fc_switch_swap.swap(&p.client, fc_now()), -ETIMEDOUT);
    CHECK_EQ(finish(server), 0);
    pair_close(&p);
}

/* The word has moved on before the sleep: the peer wakes all the same. */
static void test_word_moved_on(void)
{
    struct pair p;
    pthread_t server = given(&p);
    uint32_t *state = &p.client.packet->conn_state;
    set_word(state, FC_SHUTDOWN);
    CHECK_EQ(fc_switch_swap.swap(&p.client, fc_now() + 1000 * MS), -EAGAIN);
    int64_t woken = finish(server);
    CHECK(woken == FC_ERR_SHUTDOWN || woken == FC_OK); /* OK: it was only about to sleep, and saw the word before it moved */
    pair_close(&p);
}

/* Nobody waits: it sleeps, until its time has come and not before; and never wakes itself. */
static void test_sleeps_till_its_time(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_use_switch(&p.client, FC_SWITCH_SWAP), FC_OK);
    p.client.trust_sleepers = 0;
    int64_t deadline = fc_now() + 60 * MS;
    CHECK_EQ(fc_send_recv(&p.client, 0, deadline), FC_TICK);
    CHECK_EQ(p.client.stats.swaps, 1);
    CHECK_EQ(fc_resume(&p.client, deadline), FC_ERR_TIMEOUT);
    CHECK(fc_now() >= deadline);
    pair_close(&p);
}

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    signals++;
}

static void *swap_once(void *argument)
{
    struct fc_endpoint *ep = argument;
    return (void *)(intptr_t)fc_send_recv(ep, 0, FC_NO_DEADLINE);
}

/* A signal, also one that restarts system calls, comes back as a tick; what was given stays given. */
static void test_signal(void)
{
    const int flags[] = {0, SA_RESTART};
    for (int i = 0; i < 2; i++) {
        struct pair p;
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags[i]};
        pair_connected(&p, FRUGAL);
        CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
        CHECK_EQ(fc_use_switch(&p.client, FC_SWITCH_SWAP), FC_OK);
        p.client.trust_sleepers = 0;
        p.client.slice_ns = 3600000 * MS;
        pthread_t client = start(swap_once, &p.client);
        until_parked(&p.client);
        for (sig_atomic_t before = signals; atomic_load(&p.client.busy);) { /* again, if it was not asleep yet */
            pthread_kill(client, SIGUSR1);
            while (signals == before)
                sched_yield();
            before = signals;
        }
        CHECK_EQ(finish(client), FC_TICK);
        CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 0);
        pair_close(&p);
    }
}

static void *scribble(void *argument)
{
    struct pair *p = argument;
    while (!atomic_load(&p->server.stop)) {
        set_word(&p->server.packet->conn_state, FC_CLIENT_ACTIVE);
        set_word(&p->server.packet->conn_state, FC_SERVER_ACTIVE);
        fc_futex_wake(fc_word(&p->server.packet->conn_state), 9);
    }
    return NULL;
}

/* A peer that writes and wakes without end makes flips end early, and none of them last beyond its deadline. */
static void test_hostile_peer(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_use_switch(&p.client, FC_SWITCH_SWAP), FC_OK);
    pthread_t peer = start(scribble, &p);
    for (int i = 0; i < 1000; i++) {
        int64_t deadline = fc_now() + 5 * MS, result;
        p.client.turn = FC_TURN_MINE;
        result = fc_send_recv(&p.client, 0, deadline);
        while (result == FC_TICK)
            result = fc_resume(&p.client, deadline);
        CHECK(result == 0 || result == FC_ERR_TIMEOUT || result == FC_ERR_PROTOCOL || result == FC_ERR_SHUTDOWN);
        CHECK_EQ(p.client.owed, 0);
    }
    atomic_store(&p.server.stop, 1);
    finish(peer);
    pair_close(&p);
}

int main(void)
{
    RUN(test_deadline_already_passed);
    RUN(test_call_without_time);
    RUN(test_stopped_before_the_sleep);
    RUN(test_one_swap_for_one_wake);
    RUN(test_refused_swap);
    RUN(test_wake_at_once);
    RUN(test_untrusted_and_yielding);
    RUN(test_parking_probes_between_swaps);
    RUN(test_answer_before_the_sleep);
    RUN(test_no_number);
    RUN(test_no_time);
    if (check_switch() != FC_SWITCH_SWAP) {
        printf("  skipped: what asks the kernel for a swap (make test-swap runs it where there is one)\n");
        return 0;
    }
    CHECK_EQ(fc_set_swap(check_swap_number()), FC_OK);
    RUN(test_word_moved_on);
    RUN(test_sleeps_till_its_time);
    RUN(test_signal);
    RUN(test_hostile_peer);
    return 0;
}
