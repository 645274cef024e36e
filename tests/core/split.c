/* split.c: messages larger than the window, both ways, whole or given up in the middle. */
#include "check.h"

#define SIZE(parts) ((uint64_t)(parts) * (WINDOW - FC_STREAM_START))
#define WHAT(kind) ((uint64_t)(kind) << FC_WHAT_KIND_SHIFT)
#define EVER ((uint64_t)FC_TIMEOUT_NONE << FC_CALL_TIMEOUT_SHIFT)
#define KIND(result) ((result) >> FC_FRAME_KIND_SHIFT)

static char body[SIZE(8)], attach[SIZE(8)], into[2 * SIZE(8)];

static void fill(char *at, uint64_t n, uint32_t seed)
{
    for (uint64_t i = 0; i < n; i++)
        at[i] = (char)(i * 31 + (i >> 9) + seed);
}

static void same(const char *at, uint64_t n, uint32_t seed)
{
    for (uint64_t i = 0; i < n; i++)
        CHECK_EQ(at[i], (char)(i * 31 + (i >> 9) + seed));
}

struct lengths {
    uint64_t body, attach;
};

static int64_t on(struct fc_endpoint *ep, int64_t result)
{
    while (result == FC_TICK)
        result = fc_call_resume(ep);
    return result;
}

static int64_t gather(struct fc_endpoint *ep, uint64_t n, uint64_t m)
{
    int64_t result;
    do
        result = fc_gather(ep, into, n, into + n, m);
    while (result == FC_TICK);
    return result;
}

/* A server that takes one split request of these lengths, answers with them swapped, and takes a plain one. */
static struct pair p;

static void *echo(void *argument)
{
    const struct lengths *n = argument;
    static char back[2 * SIZE(8)];
    int64_t got = on(&p.server, fc_request(&p.server));
    CHECK_EQ(got >> FC_FRAME_FLAGS_SHIFT & FC_FLAGS, FC_FLAG_SPLIT);
    CHECK_EQ(p.server.received.whole_body, n->body);
    CHECK_EQ(p.server.received.whole_attach, n->attach);
    CHECK_EQ(fc_gather(&p.server, back, n->body, back + n->body, n->attach + 1), FC_ERR_SIZE);
    CHECK_EQ(fc_gather(&p.server, back, n->body + 1, back, n->attach - 1), FC_ERR_SIZE);
    do
        got = fc_gather(&p.server, back, n->body, back + n->body, n->attach);
    while (got == FC_TICK);
    CHECK_EQ(got, FC_OK);
    got = on(&p.server, fc_reply_split(&p.server, 0, back + n->body, n->attach, back, n->body));
    CHECK_EQ(got & 0xffffffff, 0);
    CHECK_EQ(p.server.received.kind, FC_REQUEST);
    CHECK_EQ(fc_gather(&p.server, back, n->body, back, n->attach), FC_ERR_TURN);
    got = on(&p.server, fc_reply_request(&p.server, 7, "", 0));
    CHECK_EQ(got, FC_ERR_SHUTDOWN);
    return NULL;
}

/* Every shape that does not fit comes whole, both ways, and the channel goes on. */
static void test_both_ways(void)
{
    const uint64_t one = SIZE(1);
    const struct lengths shapes[] = {{one, 1}, {1, one}, {one + 1, 0}, {0, one + 1}, {2 * one, 0}, {2 * one, one}, {7, 3 * one - 7},
                                     {one - 1, 2}, {3 * one + 5, 4 * one + 9}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct lengths n = shapes[i];
        pair_connected(&p, BALANCED);
        fill(body, n.body, 1);
        fill(attach, n.attach, 2);
        pthread_t server = start(echo, &n);
        int64_t got = on(&p.client, fc_call_split(&p.client, 9 | EVER, body, n.body, attach, n.attach));
        CHECK_EQ(got >> FC_FRAME_FLAGS_SHIFT & FC_FLAGS, FC_FLAG_SPLIT);
        CHECK_EQ(p.client.received.whole_body, n.attach);
        CHECK_EQ(gather(&p.client, n.attach, n.body), FC_OK);
        same(into, n.attach, 2);
        same(into + n.attach, n.body, 1);
        CHECK_EQ(on(&p.client, fc_call(&p.client, 9 | EVER, "", 0)), 7ll << FC_FRAME_CODE_SHIFT);
        fc_shutdown(&p.client);
        finish(server);
        pair_close(&p);
    }
}

/* A server that finds the request too large says so instead of MORE, and the client hears it. */
static void test_refused(void)
{
    pair_connected(&p, FRUGAL);
    fill(body, SIZE(3), 1);
    CHECK_EQ(fc_call_split(&p.client, 1 | 1ull << FC_CALL_TIMEOUT_SHIFT, body, SIZE(3), NULL, 0), FC_ERR_TIMEOUT);
    CHECK_EQ(fc_request(&p.server) >> FC_FRAME_FLAGS_SHIFT, FC_FLAG_SPLIT);
    p.server.slice_ns = 1;
    CHECK_EQ(fc_reply_request(&p.server, 8, "no", 2), FC_TICK);
    CHECK_EQ(fc_call_resume(&p.client), 2 | 8ll << FC_FRAME_CODE_SHIFT);
    CHECK_EQ(fc_call(&p.client, 1 | 1ull << FC_CALL_TIMEOUT_SHIFT, "", 0), FC_ERR_TIMEOUT);
    CHECK_EQ(fc_request(&p.server), 1ll << FC_FRAME_CODE_SHIFT);
    pair_close(&p);
}

/* A client that gives up while its request is on its way says CANCEL instead of PART, and has the channel back. */
static void test_client_gives_up_sending(void)
{
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_call_split(&p.client, 1 | 1ull << FC_CALL_TIMEOUT_SHIFT, body, SIZE(3), NULL, 0), FC_ERR_TIMEOUT);
    fc_cancel(&p.client);
    CHECK_EQ(fc_request(&p.server) >> FC_FRAME_FLAGS_SHIFT, FC_FLAG_SPLIT);
    p.server.slice_ns = 1;
    CHECK_EQ(fc_gather(&p.server, into, SIZE(3), NULL, 0), FC_TICK);
    CHECK_EQ(fc_reclaim(&p.client), FC_TICK);
    CHECK_EQ(fc_reclaim(&p.client), FC_TICK);
    CHECK_EQ(KIND(fc_gather(&p.server, into, SIZE(3), NULL, 0)), FC_CANCEL);
    CHECK_EQ(fc_reply_request(&p.server, FC_STATUS_CANCELLED, "", 0), FC_TICK);
    CHECK_EQ(fc_reclaim(&p.client), FC_OK);
    pair_close(&p);
}

/* A client that gives up while the answer is on its way says CANCEL instead of MORE; the core answers it. */
static void test_client_gives_up_receiving(void)
{
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_call(&p.client, 1 | 1ull << FC_CALL_TIMEOUT_SHIFT, "", 0), FC_ERR_TIMEOUT);
    CHECK_EQ(fc_request(&p.server), 1ll << FC_FRAME_CODE_SHIFT);
    p.server.slice_ns = 1;
    CHECK_EQ(fc_reply_split(&p.server, 0, NULL, 0, body, SIZE(3)), FC_TICK);
    CHECK_EQ(fc_call_resume(&p.client) >> FC_FRAME_FLAGS_SHIFT, FC_FLAG_SPLIT);
    CHECK(p.client.call != FC_CALL_NONE);
    fc_cancel(&p.client);
    CHECK_EQ(fc_request(&p.server), FC_TICK); /* it has answered the CANCEL and waits on */
    CHECK_EQ(fc_reclaim(&p.client), FC_OK);
    CHECK_EQ(fc_call(&p.client, 2 | 1ull << FC_CALL_TIMEOUT_SHIFT, "", 0), FC_ERR_TIMEOUT);
    CHECK_EQ(fc_request(&p.server), 2ll << FC_FRAME_CODE_SHIFT);
    pair_close(&p);
}

/* Parts that are none, too long, or of too much are the sender's fault. */
static void test_hostile_parts(void)
{
    for (int how = 0; how < 6; how++) {
        pair_connected(&p, FRUGAL);
        CHECK_EQ(fc_call_split(&p.client, 1 | 1ull << FC_CALL_TIMEOUT_SHIFT, body, SIZE(3), NULL, 0), FC_ERR_TIMEOUT);
        struct fc_stream *words = (struct fc_stream *)(p.client.packet + 2);
        uint32_t fault = FC_FAULT_PART;
        if (how == 0)
            set_word(&p.client.packet->data_len, FC_STREAM_START - FC_PACKET_HEADER);
        if (how == 1)
            words->split[0] = 1;
        if (how == 2)
            words->split[0] = UINT64_MAX, fault = FC_FAULT_BODY;
        if (how == 3)
            set_word(&p.client.packet->data_len, 20), fault = FC_FAULT_SHORT;
        if (how == 4)
            words->split[0] = 0, words->split[1] = UINT64_MAX, fault = FC_FAULT_BODY;
        if (how == 5)
            words->split[0] = words->split[1] = 0;
        CHECK_EQ(fc_request(&p.server), FC_ERR_PROTOCOL);
        CHECK_EQ(p.server.fault, fault);
        pair_close(&p);
    }
}

int main(void)
{
    RUN(test_both_ways);
    RUN(test_refused);
    RUN(test_client_gives_up_sending);
    RUN(test_client_gives_up_receiving);
    RUN(test_hostile_parts);
    return 0;
}
