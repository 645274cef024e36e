/* frames.c: calls in one step, and every frame that is none. */
#include "check.h"

#define BODY(ep) ((char *)(ep)->packet + FC_PACKET_HEADER + FC_FRAME_HEADER)

static void fill(char *at, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        at[i] = (char)(i * 31 + seed);
}

static void same(const char *at, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        CHECK_EQ(at[i], (char)(i * 31 + seed));
}

/* The client's half of a call, without waiting: fc_call with a deadline that has passed. */
static void ask(struct pair *p, uint32_t method, const char *body, uint32_t n, const char *attach, uint32_t m)
{
    CHECK_EQ(fc_call_attached(&p->client, method, body, n, attach, m), FC_ERR_TIMEOUT);
}

/* The server's half: answer, and wait for the next request for as short as can be. */
static int answer(struct pair *p, uint32_t status, const char *body, uint32_t n, const char *attach, uint32_t m)
{
    int64_t slice = p->server.slice_ns;
    p->server.slice_ns = 1;
    int64_t result = fc_reply_request_attached(&p->server, status, body, n, attach, m);
    p->server.slice_ns = slice;
    return result == FC_TICK ? FC_OK : (int)result;
}

/* Bodies and attachments of every length round the alignment cross whole, both ways. */
static void test_body_and_attachment(void)
{
    static char body[WINDOW], attach[WINDOW];
    struct pair p;
    pair_connected(&p, FRUGAL);
    for (uint32_t n = 0; n < 70; n++)
        for (uint32_t m = 0; m < 70; m += m < 3 ? 1 : 11) {
            fill(body, n, 1);
            fill(attach, m, 2);
            ask(&p, 300 + n, body, n, attach, m);
            int64_t got = fc_request(&p.server);
            CHECK_EQ(got & 0xffffffff, n);
            CHECK_EQ(got >> FC_FRAME_CODE_SHIFT & 0xffff, 300 + n);
            CHECK_EQ(!!(got & FC_FRAME_ATTACHED), m != 0);
            CHECK_EQ(p.server.received.attach_len, m);
            CHECK_EQ(p.server.received.attach_off % FC_ATTACH_ALIGN, 0);
            CHECK(p.server.received.attach_off >= 32 + n);
            same(BODY(&p.server), n, 1);
            same((char *)p.server.packet + p.server.received.attach_off, m, 2);
            fill(body, m, 3);
            fill(attach, n, 4);
            CHECK_EQ(answer(&p, 0xffff, body, m, attach, n), FC_OK);
            got = fc_call_resume(&p.client);
            CHECK_EQ(got & 0xffffffff, m);
            CHECK_EQ(got >> FC_FRAME_CODE_SHIFT & 0xffff, 0xffff);
            CHECK_EQ(p.client.received.attach_len, n);
            same(BODY(&p.client), m, 3);
            same((char *)p.client.packet + p.client.received.attach_off, n, 4);
        }
    pair_close(&p);
}

/* A server that drains answers what it was asked, and no more: the next call is not given, and says so. One that was
 * given and not answered does not. */
static void test_draining(void)
{
    for (int answered = 0; answered < 2; answered++) {
        struct pair p;
        pair_connected(&p, FRUGAL);
        ask(&p, 1, NULL, 0, NULL, 0);
        CHECK_EQ(fc_request(&p.server) >= 0, 1);
        fc_drain(&p.server);
        CHECK_EQ(fc_retire(&p.server), 0);
        if (answered) {
            CHECK_EQ(fc_reply_request(&p.server, 7, NULL, 0), FC_ERR_SHUTDOWN);
            CHECK_EQ(fc_call_resume(&p.client) >> FC_FRAME_CODE_SHIFT & 0xffff, 7);
            CHECK_EQ(fc_call(&p.client, 1, NULL, 0), FC_ERR_SHUTDOWN);
            CHECK_EQ(p.client.fault, FC_FAULT_UNSENT);
        } else {
            fc_shutdown(&p.server);
            CHECK_EQ(fc_call_resume(&p.client), FC_ERR_SHUTDOWN);
            CHECK_EQ(p.client.fault, FC_FAULT_NONE);
        }
        CHECK_EQ(p.client.turn, FC_TURN_OVER);
        pair_close(&p);
    }
}

/* The largest of each fits, one byte more does not, and then nothing was sent and the window is as it was. */
static void test_the_largest(void)
{
    static char bytes[WINDOW + 64];
    struct pair p;
    pair_connected(&p, FRUGAL);
    uint32_t most = p.client.cap - FC_FRAME_HEADER;
    CHECK_EQ(fc_call(&p.client, 1, bytes, most + 1), FC_ERR_SIZE);
    CHECK_EQ(fc_call(&p.client, 1, bytes, UINT32_MAX), FC_ERR_SIZE);
    CHECK_EQ(fc_call_attached(&p.client, 1, NULL, 0, bytes, most + 1), FC_ERR_SIZE);
    CHECK_EQ(fc_call_attached(&p.client, 1, NULL, 0, bytes, UINT32_MAX), FC_ERR_SIZE);
    CHECK_EQ(fc_call_attached(&p.client, 1, bytes, most, bytes, UINT32_MAX), FC_ERR_SIZE);
    CHECK_EQ(fc_call_attached(&p.client, 1, bytes, most, bytes, 1), FC_ERR_SIZE);
    CHECK_EQ(p.client.turn, FC_TURN_MINE);
    CHECK_EQ(p.client.stats.flips, 0);
    static const char zero[WINDOW];
    CHECK(memcmp(p.client.packet, zero, WINDOW) == 0);
    ask(&p, 1, bytes, most, NULL, 0);
    CHECK_EQ(fc_request(&p.server) & 0xffffffff, most);
    CHECK_EQ(fc_reply_request(&p.server, 0, bytes, most + 1), FC_ERR_SIZE);
    CHECK_EQ(fc_reply_request_attached(&p.server, 0, NULL, 0, bytes, most + 1), FC_ERR_SIZE);
    CHECK_EQ(p.server.turn, FC_TURN_MINE);
    CHECK_EQ(answer(&p, 0, NULL, 0, bytes, most), FC_OK);
    CHECK_EQ(fc_call_resume(&p.client), FC_FRAME_ATTACHED);
    CHECK_EQ(p.client.received.attach_len, most);
    pair_close(&p);
}

/* An answer that lies in the window already, in place or as a view of the request, arrives whole. */
static void test_attachment_lies_in_the_window(void)
{
    static char body[WINDOW];
    for (uint32_t n = 0; n < 100; n += 9)
        for (uint32_t from = 32; from < 300; from += 37) {
            struct pair p;
            pair_connected(&p, FRUGAL);
            ask(&p, 1, NULL, 0, NULL, 0);
            CHECK_EQ(fc_request(&p.server) & 0xffffffff, 0);
            char *window = (char *)p.server.packet;
            fill(window + from, 1000, 5);
            fill(body, n, 6);
            CHECK_EQ(answer(&p, 0, body, n, window + from, 1000), FC_OK);
            CHECK_EQ(fc_call_resume(&p.client) & 0xffffffff, n);
            same(BODY(&p.client), n, 6);
            CHECK_EQ(p.client.received.attach_len, 1000);
            same((char *)p.client.packet + p.client.received.attach_off, 1000, 5);
            pair_close(&p);
        }
}

/* Call ids count up, skip 0, and the answer to another call is refused. */
static void test_call_ids(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.client.call_id = UINT32_MAX - 1;
    const uint32_t ids[] = {UINT32_MAX, 1, 2};
    for (size_t i = 0; i < 3; i++) {
        ask(&p, 1, NULL, 0, NULL, 0);
        CHECK_EQ(fc_request(&p.server), 1ll << FC_FRAME_CODE_SHIFT);
        CHECK_EQ(p.server.received.call_id, ids[i]);
        if (i == 2)
            p.server.call_id = 1;
        CHECK_EQ(answer(&p, 0, NULL, 0, NULL, 0), FC_OK);
        CHECK_EQ(fc_call_resume(&p.client), i < 2 ? 0 : FC_ERR_PROTOCOL);
    }
    CHECK_EQ(p.client.fault, FC_FAULT_CALL_ID);
    pair_close(&p);
}

/* The server sees a call cancelled, and the next one not. */
static void test_cancel(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    ask(&p, 1, NULL, 0, NULL, 0);
    CHECK_EQ(fc_request(&p.server), 1ll << FC_FRAME_CODE_SHIFT);
    CHECK_EQ(fc_cancelled(&p.server), 0);
    fc_cancel(&p.client);
    CHECK_EQ(fc_cancelled(&p.server), 1);
    CHECK_EQ(answer(&p, 0, NULL, 0, NULL, 0), FC_OK);
    CHECK_EQ(fc_reclaim(&p.client), FC_OK);
    fc_cancel(&p.client); /* nothing is under way: nothing happens */
    ask(&p, 1, NULL, 0, NULL, 0);
    CHECK_EQ(fc_request(&p.server), 1ll << FC_FRAME_CODE_SHIFT);
    CHECK_EQ(fc_cancelled(&p.server), 0);
    fc_shutdown(&p.client);
    CHECK_EQ(fc_cancelled(&p.server), 1);
    pair_close(&p);
}

/* A call's deadline counts from its beginning and is kept over its ticks. */
static void test_call_deadline(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.client.slice_ns = 2 * MS;
    int64_t begun = fc_now(), result = fc_call(&p.client, 1 | 15000ull << FC_CALL_TIMEOUT_SHIFT, NULL, 0);
    while (result == FC_TICK)
        result = fc_call_resume(&p.client);
    CHECK_EQ(result, FC_ERR_TIMEOUT);
    int64_t took = fc_now() - begun;
    CHECK(took >= 15 * MS && took < 1000 * MS);
    CHECK_EQ(fc_request(&p.server), 1ll << FC_FRAME_CODE_SHIFT);
    CHECK_EQ(p.server.received.timeout_us, 15000);
    CHECK(p.server.received.arrived_ns > begun);
    pair_close(&p);
}

/* Calls in the wrong state are refused. */
static void test_call_out_of_turn(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    CHECK_EQ(fc_reply_request(&p.server, 0, NULL, 0), FC_ERR_TURN);
    CHECK_EQ(fc_call_resume(&p.client), FC_ERR_TURN);
    ask(&p, 1, NULL, 0, NULL, 0);
    CHECK_EQ(fc_call(&p.client, 1, NULL, 0), FC_ERR_TURN);
    pair_close(&p);
}

/* ---- what a hostile peer can write ---------------------------------------------------------------------- */

struct bad {
    uint32_t len;
    struct fc_frame frame;
    uint32_t fault;
    int64_t value;
};

#define OK_REPLY .kind = FC_REPLY, .call_id = 1

static const struct bad BAD[] = {
    {UINT32_MAX, {OK_REPLY}, FC_FAULT_LENGTH, UINT32_MAX},
    {WINDOW - 15, {OK_REPLY}, FC_FAULT_LENGTH, WINDOW - 15},
    {0x80000000, {OK_REPLY}, FC_FAULT_LENGTH, 0x80000000},
    {0, {OK_REPLY}, FC_FAULT_SHORT, 0},
    {15, {OK_REPLY}, FC_FAULT_SHORT, 15},
    {16, {.kind = 0, .call_id = 1}, FC_FAULT_KIND, 0},
    {16, {.kind = FC_REQUEST, .call_id = 1}, FC_FAULT_KIND, 1},
    {16, {.kind = 255, .call_id = 1}, FC_FAULT_KIND, 255},
    {16, {OK_REPLY, .flags = FC_FLAG_SPLIT}, FC_FAULT_SHORT, 16},
    {16, {OK_REPLY, .flags = FC_FLAG_STREAM}, FC_FAULT_FLAGS, FC_FLAG_STREAM},
    {16, {OK_REPLY, .flags = FC_FLAG_META}, FC_FAULT_FLAGS, FC_FLAG_META},
    {16, {.kind = FC_MORE, .call_id = 1}, FC_FAULT_KIND, FC_MORE},
    {16, {.kind = FC_PART, .call_id = 1}, FC_FAULT_KIND, FC_PART},
    {16, {.kind = FC_ITEMS, .call_id = 1}, FC_FAULT_KIND, FC_ITEMS},
    {16, {.kind = FC_END, .call_id = 1}, FC_FAULT_KIND, FC_END},
    {16, {.kind = FC_CANCEL, .call_id = 1}, FC_FAULT_KIND, FC_CANCEL},
    {16, {OK_REPLY, .flags = 0x80}, FC_FAULT_FLAGS, 0x80},
    {16, {OK_REPLY, .body_len = 1}, FC_FAULT_BODY, 1},
    {100, {OK_REPLY, .body_len = 85}, FC_FAULT_BODY, 85},
    {100, {OK_REPLY, .body_len = UINT32_MAX}, FC_FAULT_BODY, UINT32_MAX},
    {WINDOW - 16, {OK_REPLY, .body_len = UINT32_MAX - 31}, FC_FAULT_BODY, UINT32_MAX - 31},
    {16 + 6, {OK_REPLY, .body_len = 5}, FC_FAULT_PADDING, 22},
    {16 + 32, {OK_REPLY, .body_len = 5}, FC_FAULT_PADDING, 48},
    {16, {.kind = FC_REPLY, .call_id = 0}, FC_FAULT_CALL_ID, 0},
    {16, {.kind = FC_REPLY, .call_id = 2}, FC_FAULT_CALL_ID, 2},
    {16, {OK_REPLY, .timeout_us = 1}, FC_FAULT_RESERVED, 1},
};

/* Each is a protocol error that says what it was; the connection is over for both sides. */
static void test_every_bad_reply(void)
{
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        struct pair p;
        pair_connected(&p, FRUGAL);
        ask(&p, 1, NULL, 0, NULL, 0);
        memcpy(p.client.packet + 1, &BAD[i].frame, sizeof BAD[i].frame);
        set_word(&p.client.packet->data_len, BAD[i].len);
        set_word(&p.client.packet->conn_state, FC_CLIENT_ACTIVE);
        CHECK_EQ(fc_call_resume(&p.client), FC_ERR_PROTOCOL);
        CHECK_EQ(p.client.fault, BAD[i].fault);
        CHECK_EQ(p.client.fault_value, BAD[i].value);
        CHECK_EQ(p.client.turn, FC_TURN_OVER);
        CHECK_EQ(fc_call(&p.client, 1, NULL, 0), FC_ERR_TURN);
        CHECK_EQ(fc_request(&p.server), FC_ERR_SHUTDOWN); /* an honest peer need not wait for its deadline */
        pair_close(&p);
    }
}

/* A request without an id cannot be answered. */
static void test_request_without_id(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    struct fc_frame frame = {.kind = FC_REQUEST};
    memcpy(p.client.packet + 1, &frame, sizeof frame);
    CHECK_EQ(fc_send(&p.client, 16), FC_OK);
    CHECK_EQ(fc_request(&p.server), FC_ERR_PROTOCOL);
    CHECK_EQ(p.server.fault, FC_FAULT_CALL_ID);
    pair_close(&p);
}

/* Random frames: what is accepted lies inside the datagram. */
static void test_random_frames(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    unsigned seed = 20200617;
    int accepted = 0;
    for (int i = 0; i < 300000; i++) {
        struct fc_frame frame = {.kind = (uint8_t)(rand_r(&seed) % 3 ? 1 : rand_r(&seed) % 9),
                                 .flags = (uint8_t)(rand_r(&seed) % 4 ? 0 : rand_r(&seed) % 32),
                                 .code = (uint16_t)rand_r(&seed), .call_id = (uint32_t)rand_r(&seed) % 3,
                                 .body_len = (uint32_t)rand_r(&seed) % (rand_r(&seed) % 2 ? 64 : 0xfffffff),
                                 .timeout_us = rand_r(&seed) % 2 ? 0 : (uint32_t)rand_r(&seed)};
        uint32_t len = (uint32_t)rand_r(&seed) % (rand_r(&seed) % 2 ? 128 : 2 * WINDOW);
        memcpy(p.server.packet + 1, &frame, sizeof frame);
        set_word(&p.server.packet->data_len, len);
        set_word(&p.server.packet->conn_state, FC_SERVER_ACTIVE);
        p.server.turn = FC_TURN_THEIRS;
        p.server.call = (uint32_t)rand_r(&seed) % 3;
        p.server.in.at = p.server.in.end = 0;
        int64_t got = fc_request(&p.server);
        if (got < 0) {
            CHECK_EQ(got, FC_ERR_PROTOCOL);
            continue;
        }
        accepted++;
        const struct fc_frame_in *f = &p.server.received;
        CHECK_EQ(got & 0xffffffff, f->body_len);
        CHECK(f->call_id != 0 && f->body_len + 16 <= len && len <= p.server.cap);
        if (f->flags & FC_FLAG_SPLIT) {
            CHECK(p.server.in.part_len && p.server.in.part_len + 48 == len);
            continue;
        }
        CHECK(!f->items_len || f->items_off + f->items_len <= f->body_off);
        if (f->attach_len)
            CHECK_EQ(f->attach_off + f->attach_len, len + 16);
        else
            CHECK_EQ(len + 16, f->body_off + f->body_len);
    }
    CHECK(accepted > 1000);
    pair_close(&p);
}

/* Every wrong state word, whether found by giving, waiting or reclaiming. */
static void test_wrong_states(void)
{
    const uint32_t wrong[] = {5, 6, 0x80000000, UINT32_MAX, UINT32_MAX - 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (int how = 0; how < 6; how++) {
            struct pair p;
            pair_connected(&p, how % 2 ? FRUGAL : SPINNING);
            struct fc_endpoint *ep = &p.client;
            if (how >= 2)
                CHECK_EQ(fc_send(ep, 0), FC_OK);
            set_word(&p.server.packet->conn_state, wrong[i]);
            int64_t got = how < 2   ? fc_send_recv(ep, 0, FC_NO_DEADLINE)
                          : how < 4 ? fc_resume(ep, FC_NO_DEADLINE)
                                    : fc_reclaim(ep);
            CHECK_EQ(got, FC_ERR_PROTOCOL);
            CHECK_EQ(ep->fault, FC_FAULT_STATE);
            CHECK_EQ(ep->fault_value, wrong[i]);
            CHECK_EQ(ep->turn, FC_TURN_OVER);
            CHECK_EQ(word(&p.server.packet->conn_state), FC_SHUTDOWN);
            pair_close(&p);
        }
}

/* Control taken back by force: giving it away fails, with the peer's fault named. */
static void test_peer_takes_control(void)
{
    struct pair p;
    pair_connected(&p, FRUGAL);
    set_word(&p.server.packet->conn_state, FC_SERVER_ACTIVE);
    CHECK_EQ(fc_send_recv(&p.client, 0, FC_NO_DEADLINE), FC_ERR_PROTOCOL);
    CHECK_EQ(p.client.fault_value, FC_SERVER_ACTIVE);
    pair_close(&p);
}

/* A length beyond the window, also from a plain datagram. */
static void test_wrong_lengths(void)
{
    const uint32_t wrong[] = {WINDOW - 15, WINDOW, FC_WINDOW_MAX, 0x80000000, UINT32_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct pair p;
        pair_connected(&p, FRUGAL);
        CHECK_EQ(fc_send(&p.client, 0), FC_OK);
        set_word(&p.server.packet->data_len, wrong[i]);
        CHECK_EQ(fc_resume(&p.server, FC_NO_DEADLINE), FC_ERR_PROTOCOL);
        CHECK_EQ(p.server.fault, FC_FAULT_LENGTH);
        CHECK_EQ(p.server.fault_value, wrong[i]);
        pair_close(&p);
    }
}

static struct pair prey;
static _Atomic int enough;

static void *scribble(void *argument)
{
    (void)argument;
    unsigned seed = 42;
    uint32_t *words = (uint32_t *)prey.client.packet;
    while (!atomic_load(&enough)) {
        uint32_t value = rand_r(&seed) % 4 ? (uint32_t)rand_r(&seed) % 4 : (uint32_t)rand_r(&seed) * 2u;
        set_word(&words[rand_r(&seed) % 8], value);
    }
    return NULL;
}

/* A peer that scribbles over header and frame all the time: any result, but each of them in bounds and in time. */
static void test_scribbling_peer(void)
{
    pair_connected(&prey, BALANCED);
    atomic_store(&enough, 0);
    pthread_t other = start(scribble, NULL);
    int64_t end = fc_now() + 300 * MS;
    for (uint32_t i = 0; fc_now() < end; i++) {
        prey.server.turn = FC_TURN_THEIRS;
        prey.server.call = i % 3;
        prey.server.in.at = prey.server.in.end = 0;
        int64_t got = i % 3 == FC_CALL_STREAM && i % 2 ? fc_take(&prey.server) : fc_request(&prey.server);
        if (got >= 0) {
            CHECK(prey.server.received.items_off + prey.server.received.items_len <= WINDOW);
            CHECK(prey.server.received.body_len <= prey.server.cap - 16);
            CHECK(prey.server.received.attach_off + prey.server.received.attach_len <= WINDOW ||
                  !prey.server.received.attach_len);
            got = fc_reply_request(&prey.server, 0, "", 0);
        }
        CHECK(got == FC_OK || got == FC_TICK || got == FC_ERR_PROTOCOL || got == FC_ERR_SHUTDOWN);
    }
    atomic_store(&enough, 1);
    finish(other);
    pair_close(&prey);
}

/* The verbs of a side that does not wait in them: given while the peer is awake, seen by a glance, each call counted. */
static void test_ask_glance_answer(void)
{
    struct fc_meter *methods[4] = {NULL};
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.server.metering.methods = methods;
    p.server.metering.count = 4;
    CHECK_EQ(fc_glance(&p.client), FC_ERR_TURN);
    CHECK_EQ(fc_ask(&p.client, 3, "four", 4), FC_TICK);
    CHECK_EQ(fc_glance(&p.client), FC_TICK);
    CHECK_EQ(fc_ask(&p.client, 3, "four", 4), FC_ERR_TURN);
    CHECK_EQ(fc_glance(&p.server), 4 | 3ll << FC_FRAME_CODE_SHIFT);
    CHECK_EQ(fc_answer(&p.server, 0, NULL, (uint32_t)WINDOW), FC_ERR_SIZE);
    CHECK(methods[3] == NULL);
    CHECK_EQ(fc_answer(&p.server, 0, "seven..", 7), FC_TICK);
    CHECK_EQ(methods[3]->calls, 1);
    CHECK_EQ(fc_glance(&p.client), 7);

    atomic_fetch_or(fc_word(&p.client.packet->sleepers), p.client.their_bit);
    CHECK_EQ(fc_ask(&p.client, 3, "four", 4), FC_ASLEEP);
    CHECK_EQ(p.client.turn, FC_TURN_MINE);
    CHECK_EQ(p.client.call, FC_CALL_NONE);
    atomic_fetch_and(fc_word(&p.client.packet->sleepers), ~p.client.their_bit);
    CHECK_EQ(fc_ask(&p.client, 3, "four", 4), FC_TICK);
    atomic_store(fc_word(&p.client.packet->conn_state), 77);
    CHECK_EQ(fc_glance(&p.client), FC_ERR_PROTOCOL);
    fc_meter_free(methods, 4);
    pair_close(&p);
}

int main(void)
{
    RUN(test_body_and_attachment);
    RUN(test_draining);
    RUN(test_the_largest);
    RUN(test_attachment_lies_in_the_window);
    RUN(test_call_ids);
    RUN(test_cancel);
    RUN(test_call_deadline);
    RUN(test_call_out_of_turn);
    RUN(test_ask_glance_answer);
    RUN(test_every_bad_reply);
    RUN(test_request_without_id);
    RUN(test_random_frames);
    RUN(test_wrong_states);
    RUN(test_peer_takes_control);
    RUN(test_wrong_lengths);
    RUN(test_scribbling_peer);
    return 0;
}
