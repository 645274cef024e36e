/* items.c: what is published is taken once and in order, with and without a flip, and no item goes unnoticed. */
#include "check.h"

#define WHAT(kind) ((uint64_t)(kind) << FC_WHAT_KIND_SHIFT)
#define KIND(result) ((result) >> FC_FRAME_KIND_SHIFT)
#define OPEN (1ull | (uint64_t)FC_FLAG_STREAM << FC_WHAT_FLAGS_SHIFT)
#define SOON (1ull << FC_CALL_TIMEOUT_SHIFT)

static struct pair p;

static int64_t on(struct fc_endpoint *ep, int64_t result)
{
    while (result == FC_TICK)
        result = fc_call_resume(ep);
    return result;
}

static int64_t take(struct fc_endpoint *ep)
{
    int64_t result;
    do
        result = fc_take(ep);
    while (result == FC_TICK);
    return result;
}

/* The client has opened a stream, and the server has the request. */
static void opened(struct fc_policy policy)
{
    pair_connected(&p, policy);
    CHECK_EQ(fc_call(&p.client, OPEN | SOON, "x", 1), FC_TICK);
    p.client.deadline = FC_NO_DEADLINE;
    int64_t got = fc_request(&p.server);
    CHECK_EQ(got >> FC_FRAME_FLAGS_SHIFT & FC_FLAGS, FC_FLAG_STREAM);
    CHECK(p.server.deadline <= fc_now() + MS); /* the call's, for the server's waits within it */
    p.server.deadline = FC_NO_DEADLINE;
    CHECK_EQ(p.server.received.body_off, FC_STREAM_START);
    CHECK_EQ(*((char *)p.server.packet + FC_STREAM_START), 'x');
}

/* What has come in, as bytes behind the array's head; its length. */
static uint32_t came(struct fc_endpoint *ep, char *to)
{
    const struct fc_frame_in *r = &ep->received;
    if (!r->items_len)
        return 0;
    const unsigned char *head = (unsigned char *)ep->packet + r->items_off;
    CHECK_EQ(head[0], 0xdd);
    CHECK_EQ((uint32_t)head[1] << 24 | head[2] << 16 | head[3] << 8 | head[4], r->items_count);
    memcpy(to, head + 5, r->items_len - 5);
    return r->items_len - 5;
}

/* Items are there before any flip, and the rest comes with it; a frame's body lies behind them. */
static void test_early_and_with_the_flip(void)
{
    char got[WINDOW];
    opened(FRUGAL);
    CHECK_EQ(fc_publish(&p.server, "ab", 2), FC_PUBLISHED);
    CHECK_EQ(fc_publish(&p.server, "c", 1), FC_PUBLISHED);
    int64_t result = fc_take(&p.client);
    CHECK(result & FC_FRAME_EARLY);
    CHECK_EQ(p.client.received.items_count, 2);
    CHECK_EQ(came(&p.client, got), 3);
    CHECK(memcmp(got, "abc", 3) == 0);
    CHECK_EQ(fc_publish(&p.server, "def", 3), FC_PUBLISHED);
    p.server.slice_ns = 1;
    CHECK_EQ(fc_exchange(&p.server, WHAT(FC_ITEMS), "", 0), FC_TICK);
    result = fc_take(&p.client);
    CHECK(result & FC_FRAME_EARLY); /* taken before the turn is looked at */
    CHECK_EQ(came(&p.client, got), 3);
    result = fc_take(&p.client);
    CHECK(!(result & FC_FRAME_EARLY));
    CHECK_EQ(KIND(result), FC_ITEMS);
    CHECK_EQ(p.client.received.items_len, 0);
    CHECK_EQ(fc_hand(&p.client, WHAT(FC_MORE)), FC_OK);
    CHECK_EQ(KIND(fc_request(&p.server)), FC_MORE);
    CHECK_EQ(fc_publish_bulk(&p.server, "gh", 2), FC_PUBLISHED);
    CHECK_EQ(fc_reply_request(&p.server, 5, "body", 4), FC_TICK);
    result = take(&p.client);
    CHECK_EQ(came(&p.client, got), 7);
    CHECK(memcmp(got, "\xc6\0\0\0\2gh", 7) == 0);
    result = take(&p.client);
    CHECK_EQ(result, 4 | 5ll << FC_FRAME_CODE_SHIFT | (int64_t)FC_FLAG_STREAM << FC_FRAME_FLAGS_SHIFT);
    CHECK(memcmp((char *)p.client.packet + p.client.received.body_off, "body", 4) == 0);
    CHECK_EQ(p.client.call, FC_CALL_NONE);
    pair_close(&p);
}

/* A full window says so, an item that never fits says that, and nothing is lost over the flips. */
static void test_full(void)
{
    static char item[WINDOW], got[WINDOW];
    opened(FRUGAL);
    uint32_t room = WINDOW - FC_STREAM_START;
    CHECK_EQ(fc_publish(&p.server, item, room + 1), FC_ERR_SIZE);
    CHECK_EQ(fc_publish_bulk(&p.server, item, room - 4), FC_ERR_SIZE);
    CHECK_EQ(fc_publish(&p.server, item, 0), FC_ERR_TURN);
    CHECK_EQ(fc_publish(&p.server, item, room - 1), FC_PUBLISHED);
    CHECK_EQ(fc_publish(&p.server, item, 2), FC_FULL);
    CHECK_EQ(fc_publish(&p.server, item, 1), FC_PUBLISHED);
    CHECK_EQ(fc_publish(&p.server, item, 1), FC_FULL);
    p.server.slice_ns = 1;
    CHECK_EQ(fc_exchange(&p.server, WHAT(FC_ITEMS), "", 0), FC_TICK);
    CHECK(take(&p.client) & FC_FRAME_EARLY);
    CHECK_EQ(came(&p.client, got), room);
    CHECK_EQ(KIND(take(&p.client)), FC_ITEMS);
    CHECK_EQ(fc_publish(&p.client, "a", 1), FC_PUBLISHED); /* it is the client's turn: it may produce, too */
    CHECK_EQ(fc_hand(&p.client, WHAT(FC_MORE)), FC_OK);
    CHECK_EQ(KIND(fc_request(&p.server)), FC_MORE);
    CHECK_EQ(came(&p.server, got), 1);
    CHECK_EQ(fc_publish(&p.server, item, room), FC_PUBLISHED);
    pair_close(&p);
}

/* An item larger than the window goes in parts in the middle of a stream, and the count goes on. */
static void test_large_item(void)
{
    static char item[3 * WINDOW], into[3 * WINDOW];
    char got[WINDOW];
    opened(FRUGAL);
    memset(item, 7, sizeof item);
    p.server.slice_ns = p.client.slice_ns = 1;
    CHECK_EQ(fc_publish(&p.server, "a", 1), FC_PUBLISHED);
    CHECK_EQ(fc_items_split(&p.server, item, sizeof item), FC_ERR_TURN);
    CHECK_EQ(fc_exchange(&p.server, WHAT(FC_ITEMS), "", 0), FC_TICK);
    CHECK(take(&p.client) & FC_FRAME_EARLY);
    CHECK_EQ(KIND(take(&p.client)), FC_ITEMS);
    CHECK_EQ(fc_hand(&p.client, WHAT(FC_MORE)), FC_OK);
    CHECK_EQ(KIND(fc_request(&p.server)), FC_MORE);
    CHECK_EQ(fc_items_split(&p.server, item, sizeof item), FC_TICK);
    int64_t result = take(&p.client);
    CHECK_EQ(result >> FC_FRAME_FLAGS_SHIFT & FC_FLAGS, FC_FLAG_SPLIT);
    CHECK_EQ(KIND(result), FC_ITEMS);
    CHECK_EQ(p.client.received.whole_body, sizeof item);
    while ((result = fc_gather(&p.client, into, sizeof into, NULL, 0)) == FC_TICK)
        CHECK_EQ(fc_request(&p.server), FC_TICK);
    CHECK_EQ(result, FC_OK);
    CHECK(memcmp(item, into, sizeof item) == 0);
    CHECK_EQ(p.client.call, FC_CALL_STREAM);
    CHECK_EQ(fc_hand(&p.client, WHAT(FC_MORE)), FC_OK);
    CHECK_EQ(KIND(fc_request(&p.server)), FC_MORE);
    CHECK_EQ(fc_publish(&p.server, "b", 1), FC_PUBLISHED);
    CHECK(take(&p.client) & FC_FRAME_EARLY);
    CHECK_EQ(came(&p.client, got), 1);
    pair_close(&p);
}

/* Whoever waits can stop the producer, who learns it with the next item. */
static void test_stopped(void)
{
    opened(FRUGAL);
    CHECK_EQ(fc_publish(&p.server, "a", 1), FC_PUBLISHED);
    fc_cancel(&p.client);
    CHECK_EQ(fc_publish(&p.server, "b", 1), FC_STOPPED);
    CHECK_EQ(fc_reclaim(&p.client), FC_TICK);
    p.server.slice_ns = 1;
    CHECK_EQ(fc_exchange(&p.server, WHAT(FC_ITEMS), "", 0), FC_TICK);
    CHECK_EQ(fc_reclaim(&p.client), FC_TICK);
    CHECK_EQ(KIND(fc_request(&p.server)), FC_CANCEL);
    CHECK_EQ(fc_reply_request(&p.server, FC_STATUS_CANCELLED, "", 0), FC_TICK);
    CHECK_EQ(fc_reclaim(&p.client), FC_OK);
    pair_close(&p);
}

enum { MANY = 200000 };
static struct fc_policy pace;

static void *produce(void *argument)
{
    unsigned seed = 7;
    for (uint32_t i = 0; i < check_rounds(MANY);) {
        int result = fc_publish(&p.server, (char *)&i, sizeof i);
        CHECK(result == FC_PUBLISHED || result == FC_FULL);
        if (result == FC_FULL)
            CHECK_EQ(KIND(on(&p.server, fc_exchange(&p.server, WHAT(FC_ITEMS), "", 0))), FC_MORE);
        else
            i++;
        if (rand_r(&seed) % 64 == 0)
            for (int64_t until = fc_now() + rand_r(&seed) % 60000; fc_now() < until;)
                ;
    }
    CHECK_EQ(on(&p.server, fc_reply_request(&p.server, 0, "", 0)), FC_ERR_SHUTDOWN);
    return argument;
}

/* Both sides at once, sleeping and not: every item comes once, in order, and no wake is lost (50 ms slices would show). */
static void test_at_once(void)
{
    static char got[WINDOW];
    const struct fc_policy policies[] = {FRUGAL, BALANCED, YIELDING};
    for (size_t k = 0; k < sizeof policies / sizeof *policies; k++) {
        opened(pace = policies[k]);
        p.client.slice_ns = p.server.slice_ns = 3600ll * 1000 * MS; /* nothing but a wake helps */
        pthread_t producer = start(produce, NULL);
        uint32_t next = 0;
        int64_t result;
        do {
            result = take(&p.client);
            CHECK(result >= 0);
            uint32_t n = came(&p.client, got);
            for (uint32_t at = 0; at < n; at += 4, next++)
                CHECK(memcmp(got + at, &next, 4) == 0);
            if (KIND(result) == FC_ITEMS && !(result & FC_FRAME_EARLY))
                CHECK_EQ(fc_hand(&p.client, WHAT(FC_MORE)), FC_OK);
        } while (KIND(result) == FC_ITEMS);
        CHECK_EQ(next, check_rounds(MANY));
        fc_shutdown(&p.client);
        finish(producer);
        pair_close(&p);
    }
}

/* A producer that moves its word where it cannot be is found out. */
static void test_hostile_word(void)
{
    const uint64_t wrong[] = {1, 1ull << 32, 5 | 9ull << 32, (1ull << 32) | WINDOW, UINT64_MAX, (2ull << 32) | 0x80000000u};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        opened(FRUGAL);
        struct fc_stream *words = (struct fc_stream *)(p.server.packet + 2);
        atomic_store((_Atomic uint64_t *)&words->published[FC_SERVER_ACTIVE], wrong[i]);
        CHECK_EQ(fc_take(&p.client), FC_ERR_PROTOCOL);
        CHECK_EQ(p.client.fault, FC_FAULT_ITEMS);
        pair_close(&p);
    }
}

int main(void)
{
    RUN(test_early_and_with_the_flip);
    RUN(test_full);
    RUN(test_large_item);
    RUN(test_stopped);
    RUN(test_at_once);
    RUN(test_hostile_word);
    return 0;
}
