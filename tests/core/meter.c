/* meter.c: what is counted of the calls of a channel, and when. */
#include "check.h"

#include <time.h>

/* Every time has its bucket, in order, and the last one takes the rest. */
static void test_buckets(void)
{
    uint32_t last = 0;
    CHECK_EQ(fc_meter_bucket(0), 0);
    CHECK_EQ(fc_meter_bucket(255), 0);
    CHECK_EQ(fc_meter_bucket(256), 1);
    for (uint64_t ns = 1; ns < UINT64_MAX / 9 * 8; ns += ns / 8 + 1) {
        uint32_t bucket = fc_meter_bucket(ns);
        CHECK(bucket >= last && bucket < FC_METER_BUCKETS);
        last = bucket;
    }
    CHECK_EQ(last, FC_METER_BUCKETS - 1);
    CHECK_EQ(fc_meter_bucket(UINT64_MAX), FC_METER_BUCKETS - 1);
}

/* Only methods that were called have a meter; a number beyond the table counts nowhere. */
static void test_methods(void)
{
    struct fc_meter *methods[3] = {0};
    fc_meter_add(methods, 3, 1, false, 10, 20, 1000);
    fc_meter_add(methods, 3, 1, true, 1, 2, -5);
    fc_meter_add(methods, 3, 3, false, 1, 1, 1);
    CHECK(!methods[0] && methods[1] && !methods[2]);
    CHECK_EQ(methods[1]->calls, 2);
    CHECK_EQ(methods[1]->errors, 1);
    CHECK_EQ(methods[1]->bytes_in, 11);
    CHECK_EQ(methods[1]->bytes_out, 22);
    CHECK_EQ(methods[1]->total_ns, 1000);
    CHECK_EQ(methods[1]->buckets[0], 1);
    CHECK_EQ(methods[1]->buckets[fc_meter_bucket(1000)], 1);
    fc_meter_free(methods, 3);
    CHECK(!methods[1]);
}

/* A call over a window is counted when it is answered, with the bytes of both datagrams. */
static void test_calls(void)
{
    static const char body[100];
    struct fc_meter *methods[2] = {0};
    struct pair p;
    pair_connected(&p, FRUGAL);
    p.server.metering.methods = methods;
    p.server.metering.count = 2;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(fc_call(&p.client, 1, body, 100), FC_ERR_TIMEOUT);
        CHECK(fc_request(&p.server) >= 0);
        CHECK_EQ(methods[1] ? methods[1]->calls : 0, i);
        struct timespec a_while = {.tv_nsec = 2 * MS};
        nanosleep(&a_while, NULL);
        int64_t slice = p.server.slice_ns;
        p.server.slice_ns = 1;
        CHECK_EQ(fc_reply_request(&p.server, i == 2 ? 13 : 0, body, 50), FC_TICK);
        p.server.slice_ns = slice;
        CHECK(fc_call_resume(&p.client) >= 0);
    }
    CHECK(!methods[0]);
    CHECK_EQ(methods[1]->calls, 3);
    CHECK_EQ(methods[1]->errors, 1);
    CHECK_EQ(methods[1]->bytes_in, 3 * (FC_FRAME_HEADER + 100));
    CHECK_EQ(methods[1]->bytes_out, 3 * (FC_FRAME_HEADER + 50));
    CHECK(methods[1]->total_ns >= 3 * 2 * (uint64_t)MS);
    fc_meter_free(methods, 2);
    pair_close(&p);
}

int main(void)
{
    RUN(test_buckets);
    RUN(test_methods);
    RUN(test_calls);
    return 0;
}
