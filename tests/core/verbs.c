/* verbs.c: gVisor's verbs on whole datagrams, between two threads and two processes. */
#include "check.h"

/* The layout gVisor's endpoints expect, byte by byte. */
static void test_layout_is_gvisors(void)
{
    struct pair p;
    pair_open(&p, FRUGAL);
    unsigned char *raw = (unsigned char *)p.client.packet;
    set_word(&p.client.packet->conn_state, 0x01020304);
    set_word(&p.client.packet->data_len, 0x11121314);
    uint32_t state, len;
    memcpy(&state, raw, 4);
    memcpy(&len, raw + 4, 4);
    CHECK_EQ(state, 0x01020304);
    CHECK_EQ(len, 0x11121314);
    CHECK_EQ(p.client.cap, WINDOW - 16);
    CHECK_EQ(sizeof(struct fc_packet), 16);
    CHECK_EQ(sizeof(struct fc_frame), 16);
    CHECK_EQ(FC_CLIENT_ACTIVE, 0);
    CHECK_EQ(FC_SERVER_ACTIVE, 1);
    CHECK_EQ(FC_SHUTDOWN, 2);
    pair_close(&p);
}

/* Lengths and sides that are not, are refused. */
static void test_init_refuses_what_is_no_window(void)
{
    static char window[FC_WINDOW_MIN];
    struct fc_endpoint ep;
    CHECK_EQ(fc_init(&ep, window, FC_WINDOW_MIN, 0, FRUGAL), FC_OK);
    CHECK_EQ(fc_init(&ep, window, FC_WINDOW_MIN - 1, 0, FRUGAL), FC_ERR_SIZE);
    CHECK_EQ(fc_init(&ep, window, FC_WINDOW_MAX + 1, 0, FRUGAL), FC_ERR_SIZE);
    CHECK_EQ(fc_init(&ep, window, UINT32_MAX, 0, FRUGAL), FC_ERR_SIZE);
    CHECK_EQ(fc_init(&ep, window, FC_WINDOW_MIN, 2, FRUGAL), FC_ERR_SIZE);
}

static void *echo(void *argument)
{
    struct fc_endpoint *ep = argument;
    int64_t n = fc_first(ep, FC_NO_DEADLINE);
    for (;;) {
        while (n == FC_TICK)
            n = fc_resume(ep, FC_NO_DEADLINE);
        if (n < 0)
            return (void *)(intptr_t)n;
        char *data = (char *)(ep->packet + 1);
        for (int64_t i = 0; i < n; i++)
            data[i] ^= 0x5a;
        n = fc_send_recv(ep, (uint32_t)n, FC_NO_DEADLINE);
    }
}

static int64_t ask(struct fc_endpoint *ep, int64_t (*verb)(struct fc_endpoint *, uint32_t, int64_t), uint32_t len)
{
    int64_t n = verb(ep, len, FC_NO_DEADLINE);
    while (n == FC_TICK)
        n = fc_resume(ep, FC_NO_DEADLINE);
    return n;
}

static void converse(struct fc_endpoint *ep)
{
    char *data = (char *)(ep->packet + 1);
    CHECK_EQ(ask(ep, fc_connect, 2), 2);
    for (uint32_t len = 0; len <= ep->cap; len = len * 3 + 1) {
        memset(data, (int)len, ep->cap);
        CHECK_EQ(ask(ep, fc_send_recv, len), len);
        for (uint32_t i = 0; i < ep->cap; i++)
            CHECK_EQ((unsigned char)data[i], (unsigned char)(i < len ? len ^ 0x5a : len));
    }
    CHECK_EQ(ask(ep, fc_send_recv, ep->cap), ep->cap);
}

/* Every length crosses whole, both ways, between two threads. */
static void test_send_recv_between_threads(void)
{
    const struct fc_policy policies[] = {FRUGAL, YIELDING, SPINNING, BALANCED};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        struct pair p;
        pair_open(&p, policies[i]);
        pthread_t server = start(echo, &p.server);
        converse(&p.client);
        fc_shutdown(&p.client);
        CHECK_EQ(finish(server), FC_ERR_SHUTDOWN);
        pair_close(&p);
    }
}

/* And between two processes, where the futex is found through two mappings of one file. */
static void test_send_recv_between_processes(void)
{
    struct pair p;
    pair_open(&p, BALANCED);
    pid_t child = fork();
    if (child == 0)
        _exit((intptr_t)echo(&p.server) == FC_ERR_SHUTDOWN ? 0 : 1);
    converse(&p.client);
    fc_shutdown(&p.client);
    reap(child);
    pair_close(&p);
}

/* Out of order, too large, on the wrong side: refused, and nothing has changed. */
static void test_misuse_changes_nothing(void)
{
    struct pair p;
    pair_open(&p, FRUGAL);
    CHECK_EQ(fc_send_recv(&p.client, 0, 0), FC_ERR_TURN);
    CHECK_EQ(fc_resume(&p.client, 0), FC_ERR_TURN);
    CHECK_EQ(fc_first(&p.client, 0), FC_ERR_TURN);
    CHECK_EQ(fc_connect(&p.server, 2, 0), FC_ERR_TURN);
    CHECK_EQ(fc_send(&p.server, 0), FC_ERR_TURN);
    CHECK_EQ(fc_send_last(&p.client, 0), FC_ERR_TURN);
    CHECK_EQ(fc_reclaim(&p.client), FC_ERR_TURN);
    CHECK_EQ(fc_connect(&p.client, p.client.cap + 1, 0), FC_ERR_SIZE);
    CHECK_EQ(fc_connect(&p.client, UINT32_MAX, 0), FC_ERR_SIZE);
    CHECK_EQ(word(&p.client.packet->conn_state), FC_CLIENT_ACTIVE);
    CHECK_EQ(p.client.turn, FC_TURN_NEW);
    CHECK_EQ(p.client.stats.flips, 0);
    pair_close(&p);
}

/* After send_last nothing can be sent or waited for, and the peer has control. */
static void test_send_last_is_the_last(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_send_last(&p.client, 3), FC_OK);
    CHECK_EQ(p.client.turn, FC_TURN_LAST);
    CHECK_EQ(fc_resume(&p.client, 0), FC_ERR_TURN);
    CHECK_EQ(fc_send_recv(&p.client, 0, 0), FC_ERR_TURN);
    CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 3);
    pair_close(&p);
}

/* A deadline that has passed, even a negative one, is a timeout, not a broken system call. */
static void test_deadline_in_the_past(void)
{
    const int64_t past[] = {0, -1, INT64_MIN, 1};
    for (size_t i = 0; i < sizeof past / sizeof *past; i++) {
        struct pair p;
        pair_connected(&p, i % 2 ? FRUGAL : BALANCED);
        CHECK_EQ(fc_send_recv(&p.client, 1, past[i]), FC_ERR_TIMEOUT);
        CHECK_EQ(p.client.turn, FC_TURN_THEIRS);
        CHECK_EQ(fc_resume(&p.client, past[i]), FC_ERR_TIMEOUT);
        pair_close(&p);
    }
}

/* A wait ends at its deadline, not before and not at the end of its slice. */
static void test_deadline_ends_a_wait(void)
{
    const struct fc_policy policies[] = {FRUGAL, SPINNING, ENDLESS};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        struct pair p;
        pair_connected(&p, policies[i]);
        p.client.slice_ns = 3600000 * MS;
        int64_t deadline = fc_now() + 20 * MS;
        CHECK_EQ(fc_send_recv(&p.client, 1, deadline), FC_ERR_TIMEOUT);
        int64_t late = fc_now() - deadline;
        CHECK(late >= 0 && late < 1000 * MS);
        CHECK_EQ(fc_send_recv(&p.client, 1, 0), FC_ERR_TURN);
        /* control comes back after all */
        CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), 1);
        CHECK_EQ(fc_send(&p.server, 7), FC_OK);
        CHECK_EQ(fc_resume(&p.client, FC_NO_DEADLINE), 7);
        pair_close(&p);
    }
}

/* The deadline of the wait before says nothing about the wait after fc_send. */
static void test_send_forgets_the_deadline(void)
{
    struct pair p;
    pair_open(&p, FRUGAL);
    set_word(&p.server.packet->conn_state, FC_SERVER_ACTIVE);
    set_word(&p.server.packet->data_len, 2);
    CHECK_EQ(fc_first(&p.server, fc_now() + MS), 2);
    CHECK_EQ(fc_send(&p.server, 2), FC_OK);
    p.server.slice_ns = 10 * MS;
    CHECK_EQ(fc_request(&p.server), FC_TICK);
    pair_close(&p);
}

/* A window that has had a client is not connected once more, and who uses it is not disturbed. */
static void test_connect_finds_the_window_used(void)
{
    struct pair p;
    struct fc_endpoint second;
    pair_open(&p, FRUGAL);
    CHECK_EQ(fc_connect(&p.client, 2, 0), FC_ERR_TIMEOUT);
    CHECK_EQ(fc_init(&second, p.client.packet, p.length, FC_CLIENT_ACTIVE, FRUGAL), FC_OK);
    CHECK_EQ(fc_connect(&second, 2, 0), FC_ERR_USED);
    CHECK_EQ(word(&p.client.packet->conn_state), FC_SERVER_ACTIVE);
    CHECK_EQ(fc_first(&p.server, 0), 2);
    CHECK_EQ(fc_send(&p.server, 2), FC_OK);
    CHECK_EQ(fc_connect(&second, 2, 0), FC_ERR_USED);
    CHECK_EQ(fc_resume(&p.client, 0), 2);
    fc_shutdown(&p.client);
    CHECK_EQ(fc_connect(&second, 2, 0), FC_ERR_SHUTDOWN);
    pair_close(&p);
}

/* A second thread gets BUSY from every entry, and the first one's wait goes on. */
static void test_second_thread_is_busy(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.server.slice_ns = 3600000 * MS;
    pthread_t server = start(wait_on, &p.server);
    until_parked(&p.server);
    CHECK_EQ(fc_resume(&p.server, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_send_recv(&p.server, 0, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_send(&p.server, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_send_last(&p.server, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_first(&p.server, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_connect(&p.server, 0, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_reclaim(&p.server), FC_ERR_BUSY);
    CHECK_EQ(fc_request(&p.server), FC_ERR_BUSY);
    CHECK_EQ(fc_reply_request(&p.server, 0, NULL, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_call(&p.server, 0, NULL, 0), FC_ERR_BUSY);
    CHECK_EQ(fc_seal(&p.server), FC_ERR_BUSY);
    CHECK_EQ(fc_send(&p.client, 5), FC_OK);
    CHECK_EQ(finish(server), 5);
    pair_close(&p);
}

/* fc_reclaim says whether control is back, drops the datagram, and never waits. */
static void test_reclaim(void)
{
    struct pair p;
    pair_connected(&p, ENDLESS);
    CHECK_EQ(fc_send(&p.client, 1), FC_OK);
    CHECK_EQ(fc_reclaim(&p.client), FC_TICK);
    CHECK_EQ(fc_resume(&p.server, 0), 1);
    CHECK_EQ(fc_send(&p.server, 1), FC_OK);
    CHECK_EQ(fc_reclaim(&p.client), FC_OK);
    CHECK_EQ(fc_reclaim(&p.client), FC_OK);
    CHECK_EQ(fc_send(&p.client, 1), FC_OK);
    CHECK_EQ(fc_resume(&p.server, 0), 1);
    fc_shutdown(&p.server);
    CHECK_EQ(fc_reclaim(&p.client), FC_ERR_SHUTDOWN);
    CHECK_EQ(p.client.turn, FC_TURN_OVER);
    pair_close(&p);
}

int main(void)
{
    RUN(test_layout_is_gvisors);
    RUN(test_init_refuses_what_is_no_window);
    RUN(test_send_recv_between_threads);
    RUN(test_send_recv_between_processes);
    RUN(test_misuse_changes_nothing);
    RUN(test_send_last_is_the_last);
    RUN(test_deadline_in_the_past);
    RUN(test_deadline_ends_a_wait);
    RUN(test_send_forgets_the_deadline);
    RUN(test_connect_finds_the_window_used);
    RUN(test_second_thread_is_busy);
    RUN(test_reclaim);
    return 0;
}
