/* core.c: flipcall's own C core on both sides, timed like the bare primitives beside it.
 *
 * Mode "spin" spins for as long as it takes; every other one sleeps at once, with no yield in between, so that it
 * does what the bare primitive does and differs by the library's own work alone: "futex", "swap=NUMBER" (the futex
 * operation's, from flipcall.kernel), "notify", and "same-cpu=YIELDS", which yields first as that preset does. */
#define _GNU_SOURCE
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core_switch.h"

#define FOREVER_NS 1000000000000ll

static struct fc_endpoint endpoint;
static struct fc_policy policy;
static uint32_t chosen = FC_SWITCH_FUTEX;
#ifdef CORE_SAME_CPU
static int same_cpu;
#endif

/* The length, once control is back; waits on over the core's slices as the Python layer does. */
static void settle(int64_t result)
{
    while (result == FC_TICK)
        result = fc_resume(&endpoint, FC_NO_DEADLINE);
    if (result != 0) { /* every datagram here is empty */
        char what[80];
        snprintf(what, sizeof what, "core: result %lld, fault %u", (long long)result, endpoint.fault);
        fail(what, endpoint.fault == FC_FAULT_SYSCALL ? (int)endpoint.fault_value : 0);
    }
}

static void open_side(void *window, size_t length, uint32_t side)
{
    if (fc_init(&endpoint, window, (uint32_t)length, side, policy) != FC_OK)
        fail("fc_init", 0);
    endpoint.trust_sleepers = 1; /* what the JSON objects of connect() agree on between two of this library */
}

/* What connect() and accept() do once both sides have agreed. */
static void agree(uint32_t side)
{
#ifdef CORE_SAME_CPU
    if (same_cpu)
        fc_use_same_cpu(&endpoint);
#endif
    core_join(&endpoint, chosen, side == FC_CLIENT_ACTIVE);
    if (fc_use_switch(&endpoint, chosen) != FC_OK)
        fail("fc_use_switch", 0);
}

static void open_client(void *window, size_t length)
{
    core_open(chosen, 1);
    open_side(window, length, FC_CLIENT_ACTIVE);
    settle(fc_connect(&endpoint, 0, FC_NO_DEADLINE));
    agree(FC_CLIENT_ACTIVE);
}

static void open_server(void *window, size_t length)
{
    core_open(chosen, 0);
    open_side(window, length, FC_SERVER_ACTIVE);
    settle(fc_first(&endpoint, FC_NO_DEADLINE));
    settle(fc_send(&endpoint, 0));
    agree(FC_SERVER_ACTIVE);
}

static void serve_first(void)
{
    settle(fc_resume(&endpoint, FC_NO_DEADLINE));
}

static void flip(void)
{
    settle(fc_send_recv(&endpoint, 0, FC_NO_DEADLINE));
}

static void serve_last(void)
{
    settle(fc_send_last(&endpoint, 0));
}

void pair_prepare(void)
{
    core_prepare(chosen);
}

const struct primitive *primitive_for(const char *mode)
{
    static const struct primitive core = {open_client, open_server, flip, serve_first, flip, serve_last};
    if (strcmp(mode, "spin") == 0) {
        policy.spin_ns = FOREVER_NS;
        return &core;
    }
    if (strcmp(mode, "futex") == 0)
        return &core;
    if (strncmp(mode, "swap=", 5) == 0 && fc_set_swap((uint32_t)atoi(mode + 5)) == FC_OK) {
        chosen = FC_SWITCH_SWAP;
        return &core;
    }
#ifdef CORE_SAME_CPU
    if (strncmp(mode, "same-cpu=", 9) == 0) {
        policy.yields = (uint32_t)atoi(mode + 9);
        same_cpu = 1;
        return &core;
    }
#endif
#ifdef CORE_NOTIFY
    if (strcmp(mode, "notify") == 0) {
        chosen = FC_SWITCH_NOTIFY;
        return &core;
    }
#endif
    return NULL;
}
