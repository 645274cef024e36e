/* doorbell.c: a side in an event loop is rung when there is something for it, and no ring is lost.
 *
 * The loop is poll(2) on the socket; it has no timeout, so a lost ring hangs the test. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#ifdef __SANITIZE_THREAD__
#define FLIPS 10000u
#else
#define FLIPS 50000u
#endif
#define WHAT(kind) ((uint64_t)(kind) << FC_WHAT_KIND_SHIFT)
#define OPEN (1ull | (uint64_t)FC_FLAG_STREAM << FC_WHAT_FLAGS_SHIFT | (uint64_t)FC_TIMEOUT_NONE << FC_CALL_TIMEOUT_SHIFT)

static struct pair p;
static int ends[2]; /* the client's, the server's */

static int end_of(const struct fc_endpoint *ep)
{
    return ends[ep->mine];
}

static void opened(struct fc_policy policy, bool client_by_bell, bool server_by_bell)
{
    pair_connected(&p, policy);
    CHECK_EQ(fc_use_switch(&p.client, FC_SWITCH_FUTEX), FC_OK); /* the only one with doorbells */
    CHECK_EQ(fc_use_switch(&p.server, FC_SWITCH_FUTEX), FC_OK);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK_EQ(fc_use_doorbell(&p.client, ends[0]), FC_OK);
    CHECK_EQ(fc_use_doorbell(&p.server, ends[1]), FC_OK);
    if (client_by_bell)
        CHECK_EQ(fc_wait_by_doorbell(&p.client), FC_OK);
    if (server_by_bell)
        CHECK_EQ(fc_wait_by_doorbell(&p.server), FC_OK);
    p.client.slice_ns = p.server.slice_ns = 3600000 * MS;
}

static void closed(void)
{
    close(ends[0]);
    close(ends[1]);
    pair_close(&p);
}

/* How many bytes of rings there are; they are read. */
static ssize_t heard(const struct fc_endpoint *ep)
{
    char bytes[4096];
    ssize_t n = recv(end_of(ep), bytes, sizeof bytes, MSG_DONTWAIT);
    CHECK(n >= 0 || errno == EAGAIN);
    for (ssize_t i = 0; i < n; i++)
        CHECK_EQ(bytes[i], 0);
    return n < 0 ? 0 : n;
}

/* What an event loop does with an armed endpoint. */
static void await_ring(const struct fc_endpoint *ep)
{
    struct pollfd one = {.fd = end_of(ep), .events = POLLIN};
    CHECK_EQ(poll(&one, 1, -1), 1);
    CHECK(heard(ep) >= (ssize_t)FC_RING_BYTES);
}

static int64_t settled(struct fc_endpoint *ep, int64_t result)
{
    while (result == FC_TICK || result == FC_ARMED) {
        if (result == FC_ARMED)
            await_ring(ep);
        result = fc_resume(ep, FC_NO_DEADLINE);
    }
    return result;
}

/* ---- random encounters ------------------------------------------------------------------------------------- */

struct player {
    struct fc_endpoint *ep;
    uint32_t flips;
    uint64_t seed;
};

static void pause_at_random(struct player *me)
{
    me->seed = me->seed * 6364136223846793005ull + 1442695040888963407ull;
    uint32_t r = (uint32_t)(me->seed >> 33);
    if (r % 16 == 0)
        sched_yield();
    for (uint32_t i = r % 1024; i; i--)
        __asm__ __volatile__("" ::: "memory");
}

/* What comes is what the other one sent, one after the other. */
static void *play(void *argument)
{
    struct player *me = argument;
    struct fc_endpoint *ep = me->ep;
    uint32_t *data = (uint32_t *)(ep->packet + 1);
    bool client = ep->mine == FC_CLIENT_ACTIVE;
    int64_t n = client ? 0 : settled(ep, fc_resume(ep, FC_NO_DEADLINE));
    for (uint32_t i = 0; i < me->flips; i++) {
        if (n < 0)
            return (void *)(intptr_t)n;
        if (i || !client)
            CHECK_EQ(data[0], client ? ~(i - 1) : i);
        data[0] = client ? i : ~i;
        pause_at_random(me);
        if (!client && i + 1 == me->flips)
            return (void *)(intptr_t)fc_send_last(ep, 4);
        n = settled(ep, fc_send_recv(ep, 4, FC_NO_DEADLINE));
    }
    return (void *)(intptr_t)(n < 0 ? n : 0);
}

static void test_no_ring_is_lost(void)
{
    const struct fc_policy policies[] = {FRUGAL, BALANCED, {2000, 0, 0}};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++)
        for (int who = 1; who < 4; who++) { /* client, server, both by bell */
            opened(policies[i], who & 1, who & 2);
            uint32_t flips = check_rounds(FLIPS);
            struct player client = {&p.client, flips, i + 7}, server = {&p.server, flips, i + 17};
            pthread_t one = start(play, &client), other = start(play, &server);
            CHECK_EQ(finish(one), 0);
            CHECK_EQ(finish(other), 0);
            CHECK_EQ(p.client.stats.rescues + p.server.stats.rescues, 0);
            closed();
        }
}

/* ---- one ring at a time ------------------------------------------------------------------------------------ */

/* Nobody is rung who does not wait, and one that does once. */
static void test_rings_only_the_waiting(void)
{
    opened(FRUGAL, true, true);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_ARMED);
    CHECK_EQ(fc_send(&p.client, 4), FC_OK);
    CHECK_EQ(heard(&p.server), FC_RING_BYTES);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 4);
    CHECK_EQ(fc_send(&p.server, 5), FC_OK); /* the client has not armed */
    CHECK_EQ(heard(&p.client), 0);
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), 5);
    CHECK_EQ(word(&p.client.packet->sleepers) & (FC_SLEEPS_CLIENT | FC_SLEEPS_SERVER), 0);
    closed();
}

/* A ring without need costs one look, and the next one still comes. */
static void test_a_ring_without_need(void)
{
    opened(FRUGAL, true, false);
    CHECK_EQ(fc_send_recv(&p.client, 4, FC_NO_DEADLINE), FC_ARMED);
    CHECK_EQ(send(ends[1], "12345678", 8, 0), 8);
    CHECK(recv(ends[0], (char[8]){0}, 8, 0) == 8);
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), FC_ARMED);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 4);
    CHECK_EQ(fc_send(&p.server, 5), FC_OK);
    CHECK_EQ(heard(&p.client), FC_RING_BYTES);
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), 5);
    closed();
}

/* A socket that is full of rings takes no more, and the giver neither waits nor fails. */
static void test_a_full_socket(void)
{
    opened(FRUGAL, true, false);
    CHECK_EQ(fc_send_recv(&p.client, 4, FC_NO_DEADLINE), FC_ARMED);
    while (send(ends[1], "12345678", 8, MSG_DONTWAIT) == 8)
        ;
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 4);
    CHECK_EQ(fc_send(&p.server, 5), FC_OK);
    CHECK(recv(ends[0], (char[8]){0}, 8, MSG_DONTWAIT) == 8); /* readable: the loop comes round */
    CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), 5);
    closed();
}

/* A peer that has closed its socket is not an error of the one who rings: it finds the end itself. */
static void test_nobody_hears(void)
{
    opened(FRUGAL, false, true);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_ARMED);
    close(ends[1]);
    CHECK_EQ(fc_send(&p.client, 4), FC_OK);
    ends[1] = dup(ends[0]);
    closed();
}

static void *wait_for_five(void *argument)
{
    return (void *)(intptr_t)settled(argument, fc_send_recv(argument, 4, FC_NO_DEADLINE));
}

/* A bell bit of a peer without a bell is not looked at: who sleeps by futex is woken so. */
static void test_a_bit_that_was_not_agreed_on(void)
{
    pair_connected(&p, FRUGAL);
    p.client.slice_ns = 3600000 * MS;
    CHECK_EQ(fc_wait_by_doorbell(&p.client), FC_ERR_TURN);
    pthread_t client = start(wait_for_five, &p.client);
    until_parked(&p.client);
    atomic_fetch_or(fc_word(&p.client.packet->sleepers), FC_BELL_CLIENT | FC_BELL_SERVER);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 4);
    CHECK_EQ(fc_send(&p.server, 5), FC_OK);
    CHECK_EQ(finish(client), 5);
    pair_close(&p);
}

/* Doorbells need the sleepers bits, a socket, and the futex. */
static void test_what_a_doorbell_needs(void)
{
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_use_doorbell(&p.client, -1), FC_ERR_TURN);
    p.client.trust_sleepers = 0;
    CHECK_EQ(fc_use_doorbell(&p.client, 0), FC_ERR_TURN);
    p.client.trust_sleepers = 1;
    CHECK_EQ(fc_use_doorbell(&p.client, 0), FC_OK);
    CHECK_EQ(fc_use_switch(&p.client, FC_SWITCH_SWAP), FC_OK);
    CHECK_EQ(fc_wait_by_doorbell(&p.client), FC_ERR_TURN);
    pair_close(&p);
}

/* ---- calls ------------------------------------------------------------------------------------------------- */

#define TIMEOUT(us) (1ull | (uint64_t)(us) << FC_CALL_TIMEOUT_SHIFT)

/* Ask, and have the server take the request. */
static void asked(uint64_t what)
{
    CHECK_EQ(fc_call(&p.client, what, "ab", 2), FC_ARMED);
    CHECK_EQ(fc_request(&p.server) & 0xffffffff, 2);
}

/* The server, which sleeps by futex, answers and does not wait for long. */
static void answered(uint64_t status, const char *body, uint32_t len)
{
    p.server.slice_ns = 1;
    CHECK_EQ(fc_reply_request(&p.server, (uint32_t)status, body, len), FC_TICK);
    p.server.slice_ns = 3600000 * MS;
}

/* Before the deadline FC_ARMED, after it FC_ERR_TIMEOUT, and the late answer rings. */
static void test_the_deadline(void)
{
    opened(FRUGAL, true, false);
    asked(TIMEOUT(20000));
    int64_t result, resumed = 0;
    while ((result = fc_call_resume(&p.client)) == FC_ARMED)
        resumed++;
    CHECK_EQ(result, FC_ERR_TIMEOUT);
    CHECK(resumed > 0);
    fc_cancel(&p.client);
    CHECK(fc_cancelled(&p.server));
    CHECK_EQ(fc_reclaim(&p.client), FC_TICK);
    answered(0, "late", 4);
    CHECK_EQ(heard(&p.client), FC_RING_BYTES);
    CHECK_EQ(fc_reclaim(&p.client), FC_OK);
    closed();
}

/* A call that is given up rings a server that is busy, not asleep. */
static void test_a_cancelled_call_rings_the_busy(void)
{
    opened(FRUGAL, true, true);
    CHECK_EQ(fc_call(&p.client, TIMEOUT(FC_TIMEOUT_NONE), "ab", 2), FC_ARMED);
    CHECK(fc_request(&p.server) >= 0);
    CHECK(!fc_cancelled(&p.server));
    fc_cancel(&p.client);
    CHECK_EQ(heard(&p.server), FC_RING_BYTES);
    CHECK(fc_cancelled(&p.server));
    closed();
}

/* So does the end of the connection, whoever waits. */
static void test_the_end_rings(void)
{
    opened(FRUGAL, true, true);
    CHECK_EQ(fc_call(&p.client, TIMEOUT(FC_TIMEOUT_NONE), "ab", 2), FC_ARMED);
    CHECK(fc_request(&p.server) >= 0);
    fc_shutdown(&p.client);
    CHECK_EQ(heard(&p.server), FC_RING_BYTES);
    CHECK_EQ(fc_reply_request(&p.server, 0, "ab", 2), FC_ERR_SHUTDOWN);
    closed();
    opened(FRUGAL, true, true);
    CHECK_EQ(fc_request(&p.server), FC_ARMED);
    CHECK(fc_retire(&p.server));
    CHECK_EQ(heard(&p.client), FC_RING_BYTES);
    CHECK_EQ(fc_request(&p.server), FC_ERR_SHUTDOWN);
    closed();
}

/* A hang-up ends the wait, but for an answer that was the peer's last word. */
static void test_the_hang_up(void)
{
    for (int answers = 0; answers < 2; answers++) {
        opened(FRUGAL, true, false);
        asked(TIMEOUT(FC_TIMEOUT_NONE));
        if (answers)
            answered(0, "xyz", 3);
        fc_hung_up(&p.client);
        CHECK_EQ(fc_call_resume(&p.client), answers ? 3 : FC_ERR_DIED);
        closed();
    }
    opened(FRUGAL, true, false);
    asked(TIMEOUT(FC_TIMEOUT_NONE));
    fc_hung_up(&p.client);
    CHECK_EQ(fc_reclaim(&p.client), FC_ERR_DIED);
    closed();
}

/* A brief wait leaves spinning out, once. */
static void test_a_brief_wait(void)
{
    for (uint32_t brief = 0; brief < 2; brief++) {
        opened(SPINNING, true, false);
        p.client.brief = brief;
        asked(TIMEOUT(FC_TIMEOUT_NONE));
        CHECK_EQ(p.client.stats.spins_lost, !brief);
        CHECK_EQ(p.client.brief, 0);
        closed();
    }
}

/* Published items ring who waits for them, until they are taken. */
static void test_items_ring(void)
{
    opened(FRUGAL, true, false);
    CHECK_EQ(fc_call(&p.client, OPEN, "x", 1), FC_TICK); /* fc_take waits */
    CHECK(fc_request(&p.server) >= 0);
    CHECK_EQ(fc_take(&p.client), FC_ARMED);
    CHECK_EQ(fc_publish(&p.server, "ab", 2), FC_PUBLISHED);
    CHECK_EQ(heard(&p.client), FC_RING_BYTES);
    CHECK(fc_take(&p.client) & FC_FRAME_EARLY);
    CHECK_EQ(fc_publish(&p.server, "c", 1), FC_PUBLISHED);
    CHECK_EQ(heard(&p.client), 0); /* it did not wait */
    CHECK(fc_take(&p.client) & FC_FRAME_EARLY);
    CHECK_EQ(fc_take(&p.client), FC_ARMED);
    answered(FC_FLAG_STREAM << FC_WHAT_FLAGS_SHIFT, "", 0);
    CHECK_EQ(heard(&p.client), FC_RING_BYTES);
    CHECK(!(fc_take(&p.client) & FC_FRAME_EARLY));
    closed();
}

int main(void)
{
    RUN(test_no_ring_is_lost);
    RUN(test_rings_only_the_waiting);
    RUN(test_a_ring_without_need);
    RUN(test_a_full_socket);
    RUN(test_nobody_hears);
    RUN(test_a_bit_that_was_not_agreed_on);
    RUN(test_what_a_doorbell_needs);
    RUN(test_the_deadline);
    RUN(test_a_cancelled_call_rings_the_busy);
    RUN(test_the_end_rings);
    RUN(test_the_hang_up);
    RUN(test_a_brief_wait);
    RUN(test_items_ring);
    return 0;
}
