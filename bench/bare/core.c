/* core.c: flipcall's own C core on both sides, timed like the bare primitives beside it.
 *
 * Mode "spin" spins for as long as it takes; mode "futex" sleeps at once, with no yield in between, so that it
 * does what futex.c does and differs by the library's own work alone. */
#include "pair.h"

#include <stdio.h>
#include <string.h>

#include "endpoint.h"

#define FOREVER_NS 1000000000000ll

static struct fc_endpoint endpoint;
static struct fc_policy policy;

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

static void open_client(void *window, size_t length)
{
    open_side(window, length, FC_CLIENT_ACTIVE);
    settle(fc_connect(&endpoint, 0, FC_NO_DEADLINE));
}

static void open_server(void *window, size_t length)
{
    open_side(window, length, FC_SERVER_ACTIVE);
    settle(fc_first(&endpoint, FC_NO_DEADLINE));
}

static void flip(void) /* the server's first one answers open_client's */
{
    settle(fc_send_recv(&endpoint, 0, FC_NO_DEADLINE));
}

static void serve_last(void)
{
    settle(fc_send_last(&endpoint, 0));
}

const struct primitive *primitive_for(const char *mode)
{
    static const struct primitive core = {open_client, open_server, flip, flip, flip, serve_last};
    if (strcmp(mode, "spin") == 0)
        policy = (struct fc_policy){.spin_ns = FOREVER_NS};
    else if (strcmp(mode, "futex") != 0)
        return NULL;
    return &core;
}
